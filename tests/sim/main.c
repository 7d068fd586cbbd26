/*
 * sim: the deterministic simulator. One seed is one run; see run.h and world.h.
 *
 *	sim [--seeds N] [--from S] [--seed S] [--twice] [--trace FILE] [--scenario NAME|all] [-v]
 *
 * With more than one seed the scenarios are run before, unless --generated is given.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/secret.h"
#include "run.h"

struct totals {
	uint64_t runs, events;
	int64_t virtual_us;
};

static double real_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Lines of the log cost nothing and must not depend on the real time. */
static int64_t virtual_wall_us(void)
{
	return world.now_us;
}

static void quiet_log(void)
{
	struct log_opts o = {.target = LOG_TO_FILE, .level = LOG_LV_ERROR, .file = "/dev/null"};

	if (log_open(&o) != ERR_OK)
		fprintf(stderr, "sim: cannot open /dev/null\n");
	log_test_clock(virtual_wall_us);
}

static void run_one(uint64_t seed, struct totals *t)
{
	generate_run(seed);
	t->runs++;
	t->events += world.events;
	t->virtual_us += world.now_us - SECOND;
}

static void run_seed(uint64_t seed, bool twice, struct totals *t)
{
	uint64_t hash, events;

	run_one(seed, t);
	if (!twice)
		return;
	hash = world.hash;
	events = world.events;
	run_one(seed, t);
	if (hash != world.hash || events != world.events)
		world_fail("replay",
			   "the second run is not the first: %" PRIu64 " events and %016" PRIx64 ", %" PRIu64
			   " and %016" PRIx64,
			   events, hash, world.events, world.hash);
}

static void usage(void)
{
	fprintf(stderr,
		"usage: sim [--seeds N] [--from S] [--seed S] [--twice] [--trace FILE] [--scenario NAME|all]\n"
		"           [--generated] [-v]\n");
	exit(2);
}

static int run_scenarios(const char *name)
{
	int n = scenarios_run(name);

	if (n == 0) {
		fprintf(stderr, "sim: no scenario \"%s\"\n", name);
		return 2;
	}
	printf("sim: %d scenario%s, 0 failures\n", n, n == 1 ? "" : "s");
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"generated", no_argument, NULL, 'g'},	    {"seeds", required_argument, NULL, 'n'},
		{"from", required_argument, NULL, 'f'},	    {"seed", required_argument, NULL, 's'},
		{"twice", no_argument, NULL, '2'},	    {"trace", required_argument, NULL, 't'},
		{"scenario", required_argument, NULL, 'c'}, {NULL, 0, NULL, 0},
	};
	uint64_t from = 1, n = 100;
	struct totals t = {0};
	const char *scenario = NULL;
	bool twice = false, generated = false;
	double start;
	int c;

	while ((c = getopt_long(argc, argv, "v", options, NULL)) != -1) {
		switch (c) {
		case 'n':
			n = strtoull(optarg, NULL, 10);
			break;
		case 's':
			n = 1;
			from = strtoull(optarg, NULL, 10);
			break;
		case 'f':
			from = strtoull(optarg, NULL, 10);
			break;
		case 'g':
			generated = true;
			break;
		case '2':
			twice = true;
			break;
		case 't':
			world.trace_file = fopen(optarg, "w");
			break;
		case 'c':
			scenario = optarg;
			break;
		case 'v':
			world.verbose = true;
			break;
		default:
			usage();
		}
	}
	world_catch_aborts();
	quiet_log();
	BUG_ON(secret_arena_init(NULL) != ERR_OK);
	if (scenario)
		return run_scenarios(scenario);
	if (n > 1 && !generated)
		run_scenarios("all");
	start = real_seconds();
	for (uint64_t seed = from; seed < from + n; seed++)
		run_seed(seed, twice, &t);
	printf("sim: %" PRIu64 " seeds, %" PRIu64 " runs, %" PRIu64 " events, %" PRId64
	       " virtual seconds, %.0f events/s, "
	       "0 failures\n",
	       n, t.runs, t.events, t.virtual_us / SECOND, (double)t.events / (real_seconds() - start));
	if (world.trace_file)
		fclose(world.trace_file);
	return 0;
}
