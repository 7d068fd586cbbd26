/*
 * loop: one thread's world: time, timers, deferred work. Implemented by io/loop.c (libevent) and tests/sim (virtual time).
 *
 * A turn: wait for events, run their callbacks, run what was posted, free what died. Two laws hold for all of io/:
 *	1. Nothing is freed inside a callback: close functions mark, and the memory goes at the end of the turn.
 *	2. Nothing calls back from inside a call: the result of an immediate failure is delivered as a later event.
 * All objects of a loop belong to its thread. Only mailbox_send() may be called from another one.
 */
#ifndef LEASED_IO_LOOP_H
#define LEASED_IO_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/heap.h"
#include "base/list.h"

struct loop;

/* NULL when the system refuses (no descriptors). */
struct loop *loop_new(void);
void loop_free(struct loop **l); /* all streams, listeners, mailboxes must be closed before */
void loop_run(struct loop *l);	 /* until loop_stop() */
void loop_stop(struct loop *l);	 /* after the current turn */

/* Monotonic time of the current turn, in microseconds; constant within a turn. */
int64_t loop_now_us(struct loop *l);
/* Seconds since the epoch, now: only for what the world says in such terms (expires_at). It may jump. */
int64_t loop_wall_s(struct loop *l);
uint64_t loop_random(struct loop *l);
/* Longest turn since the last call (which resets it): how long an event may have waited. */
int64_t loop_lag_take_us(struct loop *l);

/* A one-shot timer, embedded in its owner. */
struct timer {
	struct heap_entry due;
	void (*fire)(void *arg);
	void *arg;
};
void timer_init(struct timer *t, void (*fire)(void *arg), void *arg);
void timer_set(struct loop *l, struct timer *t, int64_t at_us); /* arms or moves; a past time fires next turn */
void timer_stop(struct loop *l, struct timer *t);		/* no-op when not armed */

/* Work to do at the end of this turn, after all callbacks; embedded. Posting twice before it ran is a no-op. */
struct task {
	struct node node;
	void (*run)(void *arg);
	void *arg;
};
void task_init(struct task *t, void (*run)(void *arg), void *arg);
void loop_post(struct loop *l, struct task *t);
void loop_unpost(struct loop *l, struct task *t);
/* Frees p with mem_free() after the last posted task of this turn. */
void loop_free_later(struct loop *l, void *p);

/* The thread's scratch for reads (LOOP_SCRATCH_BYTES): valid until the callback returns; one user at a time. */
#define LOOP_SCRATCH_BYTES 65536
void *loop_scratch(struct loop *l);
/* Blocks for output that a socket refused. */
struct blocks *loop_blocks(struct loop *l);

#endif
