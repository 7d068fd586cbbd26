/*
 * sim_loop: the inside of a simulated loop, for the other files of the back end (streams, listeners, mailboxes, lookups).
 *
 * What has something to report puts its `struct ready` on the loop's list, which asks for a turn; in the turn run() is
 * called once and may put itself on the list again (that is level-triggering). Closing takes it off.
 */
#ifndef LEASED_SIM_LOOP_H
#define LEASED_SIM_LOOP_H

#include "world.h"

struct ready {
	struct node node;
	void (*run)(struct ready *r);
};

struct loop {
	uint64_t id;
	struct event wake; /* the next turn */
	int64_t now_us, frozen_us, frozen_from_us, late_us, worst_late_us;
	struct list ready, batch, tasks;
	struct heap timers;
	struct rng rng;
	struct blocks blocks;
	void *scratch;
	void **dead;
	size_t n_dead, cap_dead;
	size_t n_streams, n_listeners, n_mailboxes, n_lookups, n_borrowed, n_watches, n_children;
	struct list splices; /* free ones */
	bool in_turn, stopped;
};

void loop_make_ready(struct loop *l, struct ready *r);
/* A callback has returned: counts it and lets the checks look. */
void loop_called(struct loop *l);

#endif
