/*
 * io_private: what the files of the libevent back end know of each other. Included by src/io/ and its tests only.
 *
 *	epoll --> libevent --> stream | listener | mailbox | ... callback --> loop_enter() --> the owner's handler
 */
#ifndef LEASED_IO_IO_PRIVATE_H
#define LEASED_IO_IO_PRIVATE_H

#include <time.h>

#include "base/addr.h"
#include "base/mem.h"
#include "base/rng.h"
#include "io/event.h"
#include "io/loop.h"
#include "io/stream.h"

#define SPLICE_KEEP 16 /* idle pipes a loop keeps */
#define SPLICE_MAX  64 /* pipes of a loop that may be borrowed at once */

struct event;

struct loop {
	struct event_base *base;
	int64_t now_us; /* of this turn; 0: not read yet */
	int64_t lag_us;
	bool running, stopping;

	struct heap timers;
	struct event *timer_event; /* on a timerfd: exact to the microsecond and no work for turns without timers */
	int timer_fd;
	int64_t armed_us; /* what the timerfd is set to; 0: not armed */

	struct list tasks;
	void **dead; /* loop_free_later() */
	size_t n_dead, cap_dead;
	struct slab streams;
	struct stream *dead_streams;
	struct splice *pipes; /* idle and empty */
	unsigned n_pipes, n_borrowed;

	struct blocks blocks;
	struct rng rng;
	void *scratch;
};

static inline int64_t clock_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000000) + ts.tv_nsec / 1000;
}

/* Every callback of ours calls this first: the turn's time, and the start of what its lag is measured from. */
static inline void loop_enter(struct loop *l)
{
	if (l->now_us == 0)
		l->now_us = clock_us();
}

/* stream.c: the free list of streams. */
void stream_slab_init(struct slab *s, size_t keep);
/* stream.c: takes an accepted socket over, which is non-blocking already. */
struct stream *stream_accepted(struct loop *l, int fd, const struct addr *peer);
/* stream.c: puts streams closed in this turn back to their slab. */
void stream_free_dead(struct loop *l);
int stream_fd(const struct stream *s);
void stream_fail(struct stream *s, int sys_errno);
/* stream.c: socket options of a TCP socket, or of a listener that hands them down to what it accepts. */
void tcp_opts_apply(int fd, const struct tcp_opts *o);

/* splice.c: closes the idle pipes. */
void splice_free_idle(struct loop *l);

#endif
