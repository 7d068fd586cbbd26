/* A pool of thousands of connections and a changed credential: what telling them costs, and how long they take. */
#include <check.h>
#include <stdlib.h>
#include <time.h>

#include "pool/pool.h"

#define SEC	  INT64_C(1000000)
#define IDLE	  1000
#define MANY	  10000
#define LATE_US	  5000 /* how late a busy worker ticks */
#define ROUNDS	  5
#define CPU_MAX_S 0.010 /* of one generation for MANY connections */

static struct {
	struct pool *pool;
	struct budget *budget;
	struct lease lease;
	int64_t now;
	uint64_t gen;
	size_t reauths;
	bool granted;
} w;

static void w_poke(void *arg, enum budget_poke what)
{
	(void)arg;
	(void)what;
}

/* Every dial and every login succeeds at once. */
static void w_run(void)
{
	struct effect e;

	while (pool_effect(w.pool, &e)) {
		if (e.kind == EFFECT_DIAL) {
			pool_connected(w.pool, e.up, w.now);
			pool_idle(w.pool, e.up, w.now);
		} else if (e.kind == EFFECT_REAUTH) {
			w.reauths++;
			pool_reauthed(w.pool, e.up, ERR_OK, w.now);
		} else if (e.kind == EFFECT_CLOSE) {
			pool_closed(w.pool, e.up, w.now);
		} else if (e.kind == EFFECT_GRANT) {
			w.granted = true;
		}
	}
}

static void w_tick(int64_t at)
{
	w.now = at > w.now ? at : w.now + 1;
	pool_tick(w.pool, w.now);
	w_run();
}

static void w_publish(void)
{
	pool_credential(w.pool, ++w.gen, INT64_MAX, w.now);
	w_run();
}

/* n idle connections, logged in with the first generation. */
static void w_warm(int n)
{
	struct pool_opts po = {.name = "p",
			       .has_credential = true,
			       .reauth_spread_us = 2 * SEC,
			       .reauth_timeout_us = 5 * SEC,
			       .lease_timeout_us = 10 * SEC,
			       .seed = 7};
	struct server_opts so = {.name = "s",
				 .max_size = n,
				 .min_idle = n,
				 .max_rps_burst = 1,
				 .max_concurrent_dials = 100,
				 .connect_timeout_us = 5 * SEC,
				 .login_timeout_us = 10 * SEC,
				 .backoff = {.initial_us = 100000, .max_us = 30 * SEC, .multiplier = 1.5}};

	w.now = 1000 * SEC;
	w.gen = 0;
	w.budget = budget_new(0);
	w.pool = pool_new(&po, w.budget, w_poke, NULL);
	(void)pool_add_server(w.pool, &so, NULL);
	w_publish();
	while (pool_count(w.pool, UP_IDLE) < (size_t)n)
		w_tick(w.now + 1000);
	ck_assert(pool_is_rotated(w.pool));
	w.reauths = 0;
}

static void w_done(void)
{
	pool_audit(w.pool, w.now);
	pool_shutdown(w.pool, w.now);
	w_run();
	pool_free(&w.pool);
	budget_free(&w.budget);
}

/* How long until all have logged in again, when every tick comes that late. */
static int64_t w_rotate(int64_t late_us)
{
	int64_t from = w.now;

	while (!pool_is_rotated(w.pool)) {
		ck_assert_int_lt(w.now, from + 60 * SEC);
		w_tick(pool_next_us(w.pool) + late_us);
	}
	return w.now - from;
}

static double cpu_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Proves: must-publish-10000 */
START_TEST(a_generation_reaches_ten_thousand_within_ten_milliseconds)
{
	double least = 1;

	w_warm(MANY);
	for (int i = 0; i < ROUNDS; i++) {
		double from = cpu_s(), took;

		w_publish();
		took = cpu_s() - from;
		least = took < least ? took : least;
		ck_assert(!pool_is_rotated(w.pool));
		(void)w_rotate(0);
	}
	ck_assert_double_lt(least, CPU_MAX_S);
	ck_assert_uint_eq(w.reauths, ROUNDS * MANY);
	w_done();
}
END_TEST

/* Proves: must-reauth-1000 */
START_TEST(a_thousand_log_in_again_within_five_seconds)
{
	int64_t took;

	w_warm(IDLE);
	w_publish();
	took = w_rotate(0);
	ck_assert_int_lt(took, 3 * SEC);
	ck_assert_int_gt(took, SEC); /* they are spread */
	ck_assert_uint_eq(w.reauths, IDLE);
	w_done();
}
END_TEST

START_TEST(a_busy_worker_does_not_fall_behind)
{
	w_warm(IDLE);
	w_publish();
	ck_assert_int_lt(w_rotate(LATE_US), 5 * SEC);
	w_done();
}
END_TEST

START_TEST(leases_cost_the_same_while_thousands_are_stale)
{
	double cost[2] = {1, 1};

	w_warm(MANY);
	for (int i = 0; i < 2 * ROUNDS; i++) {
		double from;

		if (i == ROUNDS)
			w_publish();
		from = cpu_s();
		for (int k = 0; k < 1000; k++) {
			w.granted = false;
			pool_lease(w.pool, &w.lease, NULL, w.now);
			w_run();
			ck_assert(w.granted);
			(void)pool_release(w.pool, &w.lease, RELEASE_CLEAN, ERR_OK, w.now);
			w_run();
		}
		if (cpu_s() - from < cost[i / ROUNDS])
			cost[i / ROUNDS] = cpu_s() - from;
	}
	ck_assert(!pool_is_rotated(w.pool));
	ck_assert_double_lt(cost[1], 10 * cost[0]); /* a walk over all of them would be hundreds of times */
	w_done();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("scale");
	TCase *t = tcase_create("scale");
	SRunner *r;
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, a_generation_reaches_ten_thousand_within_ten_milliseconds);
	tcase_add_test(t, a_thousand_log_in_again_within_five_seconds);
	tcase_add_test(t, a_busy_worker_does_not_fall_behind);
	tcase_add_test(t, leases_cost_the_same_while_thousands_are_stale);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
