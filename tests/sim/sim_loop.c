/* sim_loop: io/loop.h in virtual time. A turn is one event of the world; several loops share the one clock. */
#include "sim_loop.h"

#include <string.h>

#include "base/mem.h"

#define TURN_GAP_US  3 /* how long a turn takes at least */
#define EPOCH_S	     1700000000
#define TURN_WAIT_US 20 /* and how long an event waits for it at most, in a calm world */

static void loop_turn(struct event *e);

struct loop *loop_new_seeded(uint64_t id)
{
	struct loop *l = NEW(struct loop);

	l->id = id;
	l->now_us = world.now_us;
	event_init(&l->wake, loop_turn);
	list_init(&l->ready);
	list_init(&l->batch);
	list_init(&l->tasks);
	list_init(&l->splices);
	rng_seed(&l->rng, world.seed * 31 + id);
	blocks_init(&l->blocks, 64);
	l->scratch = mem_alloc(LOOP_SCRATCH_BYTES);
	return l;
}

struct loop *loop_new(void)
{
	return loop_new_seeded(99);
}

void loop_free(struct loop **pl)
{
	struct loop *l = *pl;

	if (!l)
		return;
	BUG_ON(l->n_streams || l->n_listeners || l->n_mailboxes || l->n_lookups || l->splices.len || l->n_borrowed);
	BUG_ON(l->n_watches || l->n_children);
	for (size_t i = 0; i < l->n_dead; i++)
		mem_free(l->dead[i]);
	mem_free(l->dead);
	event_stop(&l->wake);
	heap_free(&l->timers);
	blocks_done(&l->blocks);
	mem_free(l->scratch);
	mem_free(l);
	*pl = NULL;
}

void loop_run(struct loop *l)
{
	l->stopped = false;
	while (!l->stopped && world_step())
		;
}

void loop_stop(struct loop *l)
{
	l->stopped = true;
}

int64_t loop_now_us(struct loop *l)
{
	return l->in_turn ? l->now_us : world.now_us;
}

int64_t loop_wall_s(struct loop *l)
{
	return EPOCH_S + loop_now_us(l) / SECOND;
}

uint64_t loop_random(struct loop *l)
{
	return rng_next(&l->rng);
}

int64_t loop_lag_take_us(struct loop *l)
{
	int64_t late = l->late_us;

	l->late_us = 0;
	return late;
}

int64_t loop_late_us(const struct loop *l)
{
	return l->worst_late_us;
}

uint64_t loop_id(const struct loop *l)
{
	return l->id;
}

/* ---- waking ---- */

static void loop_wake_at(struct loop *l, int64_t at_us)
{
	event_sooner(&l->wake, at_us < l->frozen_us ? l->frozen_us : at_us);
}

/* Timers may be late but never early. */
static void loop_wake_for_timers(struct loop *l)
{
	const struct heap_entry *e = heap_min(&l->timers);
	int64_t late = world_bug(world.bug.late_timer) ? world_range(0, 5 * MS) : 0;

	if (e)
		loop_wake_at(l, e->at_us + late);
}

void loop_make_ready(struct loop *l, struct ready *r)
{
	if (list_is_on(&r->node))
		return;
	list_push_back(&l->ready, &r->node);
	loop_wake_at(l, world.now_us + TURN_GAP_US + (int64_t)world_below(TURN_WAIT_US));
}

void loop_freeze(struct loop *l, int64_t until_us)
{
	if (until_us <= l->frozen_us)
		return;
	trace(TR_FREEZE, l->id, (uint64_t)(until_us - world.now_us), 0);
	if (l->frozen_us <= world.now_us)
		l->frozen_from_us = world.now_us;
	l->frozen_us = until_us;
	if (until_us - l->frozen_from_us > l->worst_late_us)
		l->worst_late_us = until_us - l->frozen_from_us;
	if (heap_has(&l->wake.due) && l->wake.due.at_us < until_us)
		event_set(&l->wake, until_us);
}

void loop_thaw(struct loop *l)
{
	l->frozen_us = world.now_us;
	loop_wake_at(l, world.now_us + TURN_GAP_US);
}

/* ---- a turn ---- */

void loop_called(struct loop *l)
{
	world.events++;
	world.current = NULL;
	if (world.after)
		world.after(l);
}

static void loop_run_ready(struct loop *l)
{
	while (list_first(&l->ready)) {
		struct node *n = list_first(&l->ready);

		/* The kernel promises no order. */
		list_remove(n);
		if (world_below(4) == 0)
			list_push_front(&l->batch, n);
		else
			list_push_back(&l->batch, n);
	}
	while (list_first(&l->batch)) {
		struct ready *r = container_of(list_first(&l->batch), struct ready, node);

		list_remove(&r->node);
		if (world_bug(world.bug.postpone))
			list_push_back(&l->ready, &r->node);
		else
			r->run(r);
	}
}

static void loop_run_timers(struct loop *l)
{
	struct heap_entry *h;

	while ((h = heap_min(&l->timers)) != NULL && h->at_us <= l->now_us) {
		struct timer *t = container_of(h, struct timer, due);

		heap_remove(&l->timers, h);
		trace(TR_TIMER, l->id, (uint64_t)(l->now_us - h->at_us), 0);
		t->fire(t->arg);
		loop_called(l);
	}
}

static void loop_run_tasks(struct loop *l)
{
	while (list_first(&l->tasks)) {
		struct task *t = container_of(list_first(&l->tasks), struct task, node);

		list_remove(&t->node);
		trace(TR_TASK, l->id, 0, 0);
		t->run(t->arg);
		loop_called(l);
	}
}

static void loop_turn(struct event *e)
{
	struct loop *l = container_of(e, struct loop, wake);
	bool timers_first = world_below(4) == 0;

	l->in_turn = true;
	l->now_us = world.now_us;
	if (timers_first)
		loop_run_timers(l);
	loop_run_ready(l);
	if (!timers_first)
		loop_run_timers(l);
	loop_run_tasks(l);
	for (size_t i = 0; i < l->n_dead; i++)
		mem_free(l->dead[i]);
	l->n_dead = 0;
	l->in_turn = false;
	if (list_first(&l->ready))
		loop_wake_at(l, world.now_us + TURN_GAP_US + (int64_t)world_below(TURN_WAIT_US));
	loop_wake_for_timers(l);
}

/* ---- timers, tasks, memory ---- */

void timer_init(struct timer *t, void (*fire)(void *arg), void *arg)
{
	*t = (struct timer){.fire = fire, .arg = arg};
}

void timer_set(struct loop *l, struct timer *t, int64_t at_us)
{
	/* A past time fires in the next turn, not in this one. */
	if (at_us <= loop_now_us(l))
		at_us = loop_now_us(l) + 1;
	heap_set(&l->timers, &t->due, at_us);
	if (!l->in_turn)
		loop_wake_for_timers(l);
}

void timer_stop(struct loop *l, struct timer *t)
{
	heap_remove(&l->timers, &t->due);
}

void task_init(struct task *t, void (*run)(void *arg), void *arg)
{
	*t = (struct task){.run = run, .arg = arg};
}

void loop_post(struct loop *l, struct task *t)
{
	if (list_is_on(&t->node))
		return;
	list_push_back(&l->tasks, &t->node);
	if (!l->in_turn)
		loop_wake_at(l, world.now_us + TURN_GAP_US);
}

void loop_unpost(struct loop *l, struct task *t)
{
	(void)l;
	if (list_is_on(&t->node))
		list_remove(&t->node);
}

void loop_free_later(struct loop *l, void *p)
{
	if (l->n_dead == l->cap_dead) {
		l->cap_dead = l->cap_dead ? 2 * l->cap_dead : 32;
		l->dead = mem_realloc(l->dead, l->cap_dead * sizeof(*l->dead));
	}
	l->dead[l->n_dead++] = p;
	if (!l->in_turn)
		loop_wake_at(l, world.now_us + TURN_GAP_US);
}

void *loop_scratch(struct loop *l)
{
	return l->scratch;
}

struct blocks *loop_blocks(struct loop *l)
{
	return &l->blocks;
}

void loop_count(const struct loop *l, struct loop_count *out)
{
	*out = (struct loop_count){.streams = l->n_streams,
				   .listeners = l->n_listeners,
				   .mailboxes = l->n_mailboxes,
				   .lookups = l->n_lookups,
				   .splices = l->n_borrowed,
				   .timers = l->timers.len,
				   .tasks = l->tasks.len,
				   .blocks = l->blocks.nused};
}
