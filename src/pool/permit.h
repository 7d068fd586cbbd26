/*
 * permit: the right to own one upstream connection, taken from server, pool and process together or not at all.
 *
 * Taken once before connect(), given back once after close(). This file is the only place where such a count is kept
 * by hand. Server and pool scopes belong to one thread; the process-wide budget is atomic, exact and shared.
 *
 * When the budget is spent, budget_want() registers a pool as hungry and asks the member whose oldest idle connection is
 * oldest to evict it (BUDGET_EVICT); whoever gives a permit back pokes the hungriest one (BUDGET_RETRY). A poke may come
 * from any thread and only sends a message.
 */
#ifndef LEASED_POOL_PERMIT_H
#define LEASED_POOL_PERMIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

struct permit_scope {
	int max; /* 0: none */
	int used;
};

enum budget_poke { BUDGET_EVICT, BUDGET_RETRY };

struct budget;

struct budget_member {
	struct node node; /* all members */
	struct node hungry;
	_Atomic int64_t oldest_idle_us; /* INT64_MAX: nothing to evict */
	void (*poke)(void *arg,
		     enum budget_poke what); /* called with the budget's lock held: send a message, no more */
	void *arg;
};

struct budget *budget_new(int max); /* max <= 0: no limit */
void budget_free(struct budget **b);
void budget_join(struct budget *b, struct budget_member *m);
void budget_leave(struct budget *b, struct budget_member *m);
int budget_max(const struct budget *b);
int budget_used(const struct budget *b);
void budget_set_max(struct budget *b, int max); /* lower than used: evictions follow */
/* Somebody waits for the budget; returns at once. */
void budget_want(struct budget *b, struct budget_member *m);
void budget_unwant(struct budget *b, struct budget_member *m);
/* Whether somebody waits for a permit and none is left. Lock-free. */
bool budget_starved(const struct budget *b);
/* Whether somebody's idle connection has to go: starved, or more permits out than there may be. Lock-free. */
bool budget_needs_eviction(const struct budget *b);
/* Asks the member whose oldest idle connection is oldest to evict it, if that is needed. */
void budget_evict(struct budget *b);
/* How many permits above max are out (after budget_set_max): each member evicts until this is 0. */
int budget_excess(const struct budget *b);

struct permit {
	struct permit_scope *server, *pool;
	struct budget *budget; /* NULL: not held */
};

enum permit_result { PERMIT_OK, PERMIT_SERVER_FULL, PERMIT_POOL_FULL, PERMIT_BUDGET_SPENT };
enum permit_result permit_take(struct permit *p, struct permit_scope *server, struct permit_scope *pool,
			       struct budget *b);
void permit_give(struct permit *p);

/* The automatic budget (behaviours D3): descriptors left of `nofile` after `reserve`, rounded down to hundreds, at least
 * 1; 900 when nofile is not known (<= 0). Without reserve it is the reference's floor((nofile - 50) / 100) * 100. */
int budget_auto(int64_t nofile, int64_t reserve);

#endif
