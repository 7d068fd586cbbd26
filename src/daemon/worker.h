/*
 * worker: a thread with a loop, a resolver, a mailbox and a few whole pools, which live on it until the end.
 *
 *	control thread                                worker thread
 *	  worker_new, worker_listen
 *	  worker_start ----------------------------->  loop_run
 *	  worker_call ------ mailbox (messages.def) -> handlers ---> services
 *	  answered()  <----- control's mailbox ------- answers
 *	  worker_join  ---- QUIT ------------------->  returns
 *	  worker_close (all workers), worker_free
 *
 * Between worker_start() and worker_join() only worker_call() may be used. Everything else in here happens before the
 * thread exists or after it has ended, so it needs no lock. Worker threads block all signals they could handle.
 */
#ifndef LEASED_DAEMON_WORKER_H
#define LEASED_DAEMON_WORKER_H

#include "daemon/call.h"
#include "daemon/setup.h"

struct worker;

struct worker_opts {
	int id, n_workers; /* takes every n-th pool of the setup, from `id` on */
	const struct setup *setup;
	struct budget *budget;
	struct client_limit *clients;
	struct mailbox *answers; /* the control thread's */
	struct mailbox *wishes;	 /* of pools for newer credentials; the control thread's */
};

/* A resolver as the configuration wants it; NULL: the system refuses. */
struct resolver *worker_resolver(struct loop *l, const struct conf_dns *d);
/* How many workers a configuration gets. */
int worker_count(const struct conf *c);

struct worker *worker_new(const struct worker_opts *o); /* NULL: no descriptors */
/* *why (out): which listener, and what is wrong; valid until worker_free(). */
enum err worker_listen(struct worker *w, const char **why) MUST_CHECK;
enum err worker_start(struct worker *w) MUST_CHECK;
void worker_call(struct worker *w, struct call *c);
/* After the answer of STOP. A worker that was never started is fine. */
void worker_join(struct worker *w);
/* Ends the services of a worker whose thread has ended or never was. All workers are closed before the first is freed,
 * because closing one may poke the others. */
void worker_close(struct worker *w);
void worker_free(struct worker **w);

int worker_id(const struct worker *w);
size_t worker_pools(const struct worker *w);
const char *worker_pool_name(const struct worker *w, size_t pool);

#endif
