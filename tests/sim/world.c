#include "world.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

#define TRACE_KEEP  256 /* a power of two */
#define TRACE_SHOWN 40

struct record {
	int64_t at_us;
	uint64_t kind, a, b, c;
};

struct world world;
static struct record ring[TRACE_KEEP];
static uint64_t recorded;

void world_begin(uint64_t seed, const char *name)
{
	struct world w = {.seed = seed, .name = name, .now_us = SECOND, .hash = seed ^ 0x9e3779b97f4a7c15u};

	w.verbose = world.verbose;
	w.trace_file = world.trace_file;
	world = w;
	rng_seed(&world.rng, seed);
	recorded = 0;
}

void world_end(void)
{
	PROMISE(world.queue.len == 0, "leak", "%zu events are left in the world", world.queue.len);
	heap_free(&world.queue);
}

/* ---- events ---- */

void event_init(struct event *e, void (*fire)(struct event *e))
{
	*e = (struct event){.fire = fire};
}

void event_set(struct event *e, int64_t at_us)
{
	heap_set(&world.queue, &e->due, at_us < world.now_us ? world.now_us : at_us);
}

void event_sooner(struct event *e, int64_t at_us)
{
	if (!heap_has(&e->due) || at_us < e->due.at_us)
		event_set(e, at_us);
}

void event_stop(struct event *e)
{
	heap_remove(&world.queue, &e->due);
}

bool world_step(void)
{
	struct heap_entry *h = heap_min(&world.queue);
	struct event *e;

	if (!h)
		return false;
	e = container_of(h, struct event, due);
	world.now_us = h->at_us;
	heap_remove(&world.queue, h);
	e->fire(e);
	return true;
}

void world_run_until(int64_t at_us)
{
	const struct heap_entry *h;

	while ((h = heap_min(&world.queue)) != NULL && h->at_us <= at_us)
		world_step();
	world.now_us = at_us;
}

/* ---- trace ---- */

static void record_print(FILE *f, const struct record *r)
{
	fprintf(f, "%9" PRId64 " us  ", r->at_us - SECOND);
	switch ((enum trace_kind)r->kind) {
#define TRACE(id, text)                                                                                              \
	case TR_##id:                                                                                                \
		fprintf(f, text "\n", r->a, r->b, r->c);                                                             \
		break;
#include "trace.def"
#undef TRACE
	case TR_KINDS:
		break;
	}
}

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0xff51afd7ed558ccdu;
	return h ^ h >> 32;
}

void trace(enum trace_kind k, uint64_t a, uint64_t b, uint64_t c)
{
	struct record *r = &ring[recorded++ & (TRACE_KEEP - 1)];

	*r = (struct record){.at_us = world.now_us, .kind = k, .a = a, .b = b, .c = c};
	world.hash = mix(mix(mix(mix(mix(world.hash, (uint64_t)r->at_us), k), a), b), c);
	if (world.trace_file)
		record_print(world.trace_file, r);
	if (world.verbose)
		record_print(stdout, r);
}

void trace_dump(FILE *f)
{
	uint64_t n = recorded < TRACE_SHOWN ? recorded : TRACE_SHOWN;

	for (uint64_t i = recorded - n; i < recorded; i++)
		record_print(f, &ring[i & (TRACE_KEEP - 1)]);
}

/* ---- the end of a bad run ---- */

static void print_replay(FILE *f)
{
	if (world.name)
		fprintf(f, "sim: replay with: build/tests/sim --scenario %s -v\n", world.name);
	else
		fprintf(f, "sim: replay with: build/tests/sim --seed %" PRIu64 " -v\n", world.seed);
}

void world_fail(const char *invariant, const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fprintf(stderr, "sim: the last moves before the failure:\n");
	trace_dump(stderr);
	if (world.describe)
		world.describe(stderr);
	fprintf(stderr, "sim: seed %" PRIu64 "%s%s breaks %s at %" PRId64 " us: ", world.seed,
		world.name ? " scenario " : "", world.name ? world.name : "", invariant, world.now_us - SECOND);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	print_replay(stderr);
	fflush(NULL);
	_exit(1);
}

/* The process is about to die of an assertion; its text is already written. The trace is plain data, so it is printed. */
static void on_abort(int sig)
{
	static const char text[] = "sim: an assertion failed, or a bad access:\n";

	signal(sig, SIG_DFL);
	(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
	trace_dump(stderr);
	fprintf(stderr, "sim: seed %" PRIu64 "%s%s aborts at %" PRId64 " us\n", world.seed,
		world.name ? " scenario " : "", world.name ? world.name : "", world.now_us - SECOND);
	print_replay(stderr);
	fflush(NULL);
	_exit(1);
}

void world_catch_aborts(void)
{
	signal(SIGABRT, on_abort);
	signal(SIGSEGV, on_abort);
}

struct addr sim_addr(unsigned host, unsigned port)
{
	struct addr a;

	memset(&a, 0, sizeof(a));
	a.len = sizeof(a.u.in);
	a.u.in.sin_family = AF_INET;
	a.u.in.sin_addr.s_addr = htonl(0x0a000000u + host);
	a.u.in.sin_port = htons((uint16_t)port);
	return a;
}
