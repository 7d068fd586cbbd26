/*
 * world: the virtual world every simulated thing lives in: one clock, one queue of events, one generator, one trace.
 *
 *	heap of events, ordered by (time, order of insertion) --> world_step() --> an actor, a packet, or a loop's turn
 *
 * One 64-bit seed fixes all of it: nothing here depends on the real time, on addresses of memory or on the machine. Every
 * thing that happens is a trace record; all records are hashed, the last ones are kept to be printed. A broken promise is
 * world_fail(), which prints the seed, how to replay it and the end of the trace.
 */
#ifndef LEASED_SIM_WORLD_H
#define LEASED_SIM_WORLD_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/addr.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/rng.h"
#include "io/loop.h"

#define MS     1000
#define SECOND 1000000

/* Something that will happen; embedded in its owner. */
struct event {
	struct heap_entry due;
	void (*fire)(struct event *e);
};

enum trace_kind {
#define TRACE(id, text) TR_##id,
#include "trace.def"
#undef TRACE
	TR_KINDS
};

/* How badly the back end itself behaves; parts of a thousand, 0 in a calm world. */
struct buggify {
	unsigned short_read, short_write, spurious, postpone, late_timer, emfile_dial, emfile_accept, lookup_slow;
};

struct world {
	uint64_t seed;
	const char *name; /* of the scenario that runs; NULL: a generated one */
	int64_t now_us;
	struct heap queue;
	struct rng rng;	  /* of faults, actors and latencies alike */
	uint64_t events;  /* carried out: packets, actors' moves, callbacks of loops */
	uint64_t hash;	  /* of all trace records */
	uint64_t next_id; /* of sockets */
	struct buggify bug;
	bool bugs_on;
	void (*after)(struct loop *l); /* called after every callback of a loop */
	void (*describe)(FILE *f);     /* prints the state of things when a run fails */
	struct stream *current;	       /* the stream whose callback runs */
	FILE *trace_file;
	bool verbose;
};

extern struct world world;

void world_begin(uint64_t seed, const char *name);
void world_end(void);		     /* asserts that nothing is left */
bool world_step(void);		     /* the next event; false: there is none */
void world_run_until(int64_t at_us); /* all events up to then; the clock ends there */

void event_init(struct event *e, void (*fire)(struct event *e));
void event_set(struct event *e, int64_t at_us);	   /* arms or moves; not before now */
void event_sooner(struct event *e, int64_t at_us); /* arms, or moves to an earlier time */
void event_stop(struct event *e);

static inline uint64_t world_below(uint64_t n)
{
	return rng_below(&world.rng, n);
}

/* lo .. hi */
static inline int64_t world_range(int64_t lo, int64_t hi)
{
	return hi <= lo ? lo : lo + (int64_t)rng_below(&world.rng, (uint64_t)(hi - lo) + 1);
}

/* True n times in a thousand. */
static inline bool world_chance(unsigned per_mille)
{
	return per_mille > 0 && rng_below(&world.rng, 1000) < per_mille;
}

/* A point where the back end may misbehave. */
static inline bool world_bug(unsigned per_mille)
{
	return world.bugs_on && world_chance(per_mille);
}

void trace(enum trace_kind k, uint64_t a, uint64_t b, uint64_t c);
void trace_dump(FILE *f);

/* A promise is broken: prints what, the seed, the replay line and the end of the trace; exits with 1. */
_Noreturn void world_fail(const char *invariant, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define PROMISE(ok, invariant, ...)                                                                                  \
	do {                                                                                                         \
		if (__builtin_expect(!(ok), 0))                                                                      \
			world_fail((invariant), __VA_ARGS__);                                                        \
	} while (0)
void world_catch_aborts(void); /* an assertion's abort prints the seed and the trace too */

/* 10.0.0.x:port, the way servers and listeners are named here. */
struct addr sim_addr(unsigned host, unsigned port);

/* What is left in a loop, for the leak check. */
struct loop_count {
	size_t streams, listeners, mailboxes, lookups, splices, timers, tasks, blocks;
};
void loop_count(const struct loop *l, struct loop_count *out);
uint64_t loop_id(const struct loop *l);
/* The whole thread stands still until then (SIGSTOP, a long turn); its packets wait. */
void loop_freeze(struct loop *l, int64_t until_us);
void loop_thaw(struct loop *l);
int64_t loop_late_us(const struct loop *l); /* how late its turns may have been */
struct loop *loop_new_seeded(uint64_t id);

#endif
