/* loop: one libevent base, a heap of timers behind one timerfd, tasks and the dead; see loop.h for the laws. */
#include "io/loop.h"

#include <event2/event.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/log.h"
#include "base/secret.h"
#include "io/io_private.h"

#define STREAMS_KEPT 1024
#define BLOCKS_KEPT  64
#define FLUSH_ROUNDS 16
#define LIBEVENT_FDS 3 /* of one base: epoll and a pair for signals */

/* ---- libevent, once per process ---- */

static void libevent_log(int severity, const char *msg)
{
	static const enum log_level level[] = {
		[EVENT_LOG_DEBUG] = LOG_LV_DEBUG,
		[EVENT_LOG_MSG] = LOG_LV_INFO,
		[EVENT_LOG_WARN] = LOG_LV_WARNING,
		[EVENT_LOG_ERR] = LOG_LV_ERROR,
	};

	if (severity < EVENT_LOG_DEBUG || severity > EVENT_LOG_ERR)
		severity = EVENT_LOG_WARN;
	if (level[severity] <= log_level_now)
		log_text(level[severity], "libevent", "%s", msg);
}

/* Its reason has been logged. There is no way to go on, and nothing that a core dump would tell. */
static void libevent_fatal(int code)
{
	(void)code;
	_exit(EX_OSERR);
}

/* What libevent frees may have been an admin's request or answer: it is wiped. Its data path allocates nothing. */
static void libevent_free(void *p)
{
	if (p)
		secret_wipe(p, malloc_usable_size(p));
	free(p);
}

static void *libevent_realloc(void *p, size_t n)
{
	size_t had = p ? malloc_usable_size(p) : 0;
	void *q;

	if (n == 0) {
		libevent_free(p);
		return NULL;
	}
	q = malloc(n);
	if (!q)
		return NULL;
	if (p)
		memcpy(q, p, had < n ? had : n);
	libevent_free(p);
	return q;
}

static void libevent_init(void)
{
	event_set_mem_functions(malloc, libevent_realloc, libevent_free);
	event_set_log_callback(libevent_log);
	event_set_fatal_callback(libevent_fatal);
}

/* libevent ends the process when a descriptor it needs for a base can't be had, so that is found out before. */
static bool libevent_has_descriptors(void)
{
	int fd[LIBEVENT_FDS], n = 0;
	bool enough;

	while (n < LIBEVENT_FDS && (fd[n] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
		n++;
	enough = n == LIBEVENT_FDS;
	while (n > 0)
		close(fd[--n]);
	return enough;
}

/* NOLOCK: one thread. NO_CACHE_TIME: our timers aren't libevent's, so it need not read the clock each turn. */
static struct event_base *loop_base_new(void)
{
	struct event_config *cfg = libevent_has_descriptors() ? event_config_new() : NULL;
	struct event_base *base = NULL;

	if (!cfg)
		return NULL;
	if (event_config_set_flag(cfg, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_IGNORE_ENV |
					       EVENT_BASE_FLAG_NO_CACHE_TIME) == 0 &&
	    event_config_require_features(cfg, EV_FEATURE_ET | EV_FEATURE_O1) == 0)
		base = event_base_new_with_config(cfg);
	event_config_free(cfg);
	return base;
}

/* ---- life ---- */

static void loop_on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct loop *l = arg;

	(void)fd;
	(void)what;
	loop_enter(l);
	l->armed_us = 0; /* the turn runs what is due */
}

static bool loop_open(struct loop *l)
{
	uint64_t seed;

	if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
		return false;
	rng_seed(&l->rng, seed);
	l->base = loop_base_new();
	if (!l->base)
		return false;
	l->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (l->timer_fd < 0)
		return false;
	/* Edge-triggered: each expiry is one event and nobody has to read the descriptor. */
	l->timer_event = event_new(l->base, l->timer_fd, EV_READ | EV_PERSIST | EV_ET, loop_on_timer, l);
	return l->timer_event && event_add(l->timer_event, NULL) == 0;
}

static void loop_destroy(struct loop *l)
{
	if (l->timer_event)
		event_free(l->timer_event);
	if (l->timer_fd >= 0)
		close(l->timer_fd);
	if (l->base)
		event_base_free(l->base);
	heap_free(&l->timers);
	mem_free(l->dead);
	mem_free(l->scratch);
	mem_free(l);
}

struct loop *loop_new(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct loop *l = NEW(struct loop);

	pthread_once(&once, libevent_init);
	l->timer_fd = -1;
	list_init(&l->tasks);
	stream_slab_init(&l->streams, STREAMS_KEPT);
	if (!loop_open(l)) {
		loop_destroy(l);
		return NULL;
	}
	blocks_init(&l->blocks, BLOCKS_KEPT);
	l->scratch = mem_alloc(LOOP_SCRATCH_BYTES);
	return l;
}

static void loop_free_dead(struct loop *l)
{
	if (l->dead_streams)
		stream_free_dead(l);
	while (l->n_dead > 0)
		mem_free(l->dead[--l->n_dead]);
}

void loop_free(struct loop **pl)
{
	struct loop *l = *pl;

	if (!l)
		return;
	*pl = NULL;
	BUG_ON(l->running);
	/* What libevent has put off until its next turn (the end of a resolver's questions) happens now. */
	for (int i = 0; i < FLUSH_ROUNDS; i++)
		event_base_loop(l->base, EVLOOP_NONBLOCK | EVLOOP_ONCE);
	loop_free_dead(l);
	splice_free_idle(l);
	BUG_ON(l->n_borrowed != 0);
	slab_done(&l->streams);
	blocks_done(&l->blocks);
	loop_destroy(l);
}

struct event_base *loop_event_base(struct loop *l)
{
	return l->base;
}

/* ---- the turn ---- */

/* The timerfd is only ever set to an earlier time: one that was moved away fires in vain, once. */
static void loop_arm(struct loop *l)
{
	const struct heap_entry *e = heap_min(&l->timers);
	struct itimerspec at = {.it_value = {.tv_nsec = 1}};

	if (!e || (l->armed_us != 0 && l->armed_us <= e->at_us))
		return;
	l->armed_us = e->at_us > 0 ? e->at_us : 1;
	at.it_value.tv_sec = l->armed_us / 1000000;
	at.it_value.tv_nsec = l->armed_us % 1000000 * 1000;
	BUG_ON(timerfd_settime(l->timer_fd, TFD_TIMER_ABSTIME, &at, NULL) < 0);
}

/* A timer set meanwhile is later than this turn, see timer_set(), so this ends. */
static void loop_run_timers(struct loop *l)
{
	struct heap_entry *e = heap_min(&l->timers);

	if (!e)
		return;
	loop_enter(l);
	while (e && e->at_us <= l->now_us) {
		struct timer *t = container_of(e, struct timer, due);

		heap_remove(&l->timers, e);
		t->fire(t->arg);
		e = heap_min(&l->timers);
	}
}

static void loop_run_tasks(struct loop *l)
{
	struct node *n;

	while ((n = list_first(&l->tasks)) != NULL) {
		struct task *t = container_of(n, struct task, node);

		list_remove(n);
		loop_enter(l);
		t->run(t->arg);
	}
}

static void loop_turn(struct loop *l)
{
	int flags = EVLOOP_ONCE | EVLOOP_NO_EXIT_ON_EMPTY;

	loop_arm(l);
	if (list_first(&l->tasks))
		flags |= EVLOOP_NONBLOCK;
	l->now_us = 0;
	BUG_ON(event_base_loop(l->base, flags) < 0);
	loop_run_timers(l);
	loop_run_tasks(l);
	loop_free_dead(l);
	if (l->now_us != 0) {
		int64_t took_us = clock_us() - l->now_us;

		if (took_us > l->lag_us)
			l->lag_us = took_us;
	}
}

void loop_run(struct loop *l)
{
	BUG_ON(l->running);
	l->running = true;
	while (!l->stopping)
		loop_turn(l);
	l->stopping = false;
	l->running = false;
}

void loop_stop(struct loop *l)
{
	l->stopping = true;
}

/* ---- time and chance ---- */

int64_t loop_now_us(struct loop *l)
{
	if (!l->running)
		return clock_us();
	loop_enter(l);
	return l->now_us;
}

int64_t loop_wall_s(struct loop *l)
{
	(void)l;
	return (int64_t)time(NULL);
}

uint64_t loop_random(struct loop *l)
{
	return rng_next(&l->rng);
}

int64_t loop_lag_take_us(struct loop *l)
{
	int64_t lag_us = l->lag_us;

	l->lag_us = 0;
	return lag_us;
}

/* ---- timers, tasks, memory ---- */

void timer_init(struct timer *t, void (*fire)(void *arg), void *arg)
{
	*t = (struct timer){.fire = fire, .arg = arg};
}

void timer_set(struct loop *l, struct timer *t, int64_t at_us)
{
	int64_t now_us = loop_now_us(l);

	/* A past time fires in the next turn, not in this one. */
	heap_set(&l->timers, &t->due, at_us > now_us ? at_us : now_us + 1);
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
	if (!list_is_on(&t->node))
		list_push_back(&l->tasks, &t->node);
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
		l->cap_dead = l->cap_dead ? l->cap_dead * 2 : 64;
		l->dead = mem_realloc(l->dead, l->cap_dead * sizeof(*l->dead));
	}
	l->dead[l->n_dead++] = p;
}

void *loop_scratch(struct loop *l)
{
	return l->scratch;
}

struct blocks *loop_blocks(struct loop *l)
{
	return &l->blocks;
}
