/*
 * control: the main thread: signals, the admin interface, the service manager, limits, and the end of it all.
 *
 *	RUNNING ---TERM, INT, shutdown---> DRAINING ---shutdown_timeout, second signal, QUIT---> KILLING
 *	                                      |                                                     |
 *	                                      +-------- every worker has answered STOP -------------+
 *	                                                             v
 *	                                                           DONE: last answers leave, then the loop ends
 *
 * Workers are reached by calls only (call.h). The admin interface answers until DONE.
 */
#ifndef LEASED_DAEMON_CONTROL_H
#define LEASED_DAEMON_CONTROL_H

#include "daemon/http.h"
#include "daemon/limits.h"
#include "daemon/notify.h"
#include "daemon/worker.h"
#include "io/signal.h"

enum control_state { CONTROL_RUNNING, CONTROL_DRAINING, CONTROL_KILLING, CONTROL_DONE };

/* A worker as the control thread keeps it: with the calls that must not fail for want of memory. */
struct control_worker {
	struct worker *worker;
	struct call ping, stop, kill;
	bool stopped;
};

struct admin;
struct credentials;

struct control {
	enum control_state state;
	const struct conf *conf;
	struct setup *setup;
	struct limits limits;
	struct budget *budget;
	struct client_limit *clients;
	struct loop *loop;
	struct mailbox *box;
	struct signals *signals;
	struct admin *admin;
	struct credentials *credentials;
	struct control_worker *workers;
	size_t n_workers;
	struct list calls; /* under way */
	struct notify notify;
	struct timer tick, watchdog, deadline, linger;
	int64_t started_us, start_unix_us, stats_due_us, linger_until_us;
	struct stat last_stats; /* totals at the last stats line */
	bool line_asked;
};

/* Loop, signals, budget, mailboxes and credentials that are not started; the workers come after. ERR_OS: no
 * descriptors. */
enum err control_open(struct control *c, const struct conf *conf, struct setup *setup,
		      const struct limits *l) MUST_CHECK;
/* Everything runs: until the end. */
void control_run(struct control *c);
/* Joins and frees the workers and all else; fine at any stage after control_open(). */
void control_close(struct control *c);

void control_call(struct control *c, struct control_worker *w, struct call *call);
/* Ends the process: at once, or after the leases are over. A second request makes haste. */
void control_shutdown(struct control *c, bool now);
/* *out is to be snap_process_free()d. */
void control_process_view(const struct control *c, struct snap_process *out);

#endif
