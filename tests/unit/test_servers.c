/* Servers as the brain sees them: round-robin, rate, backoff, broken ones (group E). */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "unit/pool_world.h"

static struct world w;
static struct pool_opts po;
static struct server_opts so;

static void setup(void)
{
	po = w_pool_opts();
	so = w_server_opts("a");
}

static void start_with(const char *const *names)
{
	w_init(&w, &po, NULL);
	for (; *names; names++) {
		struct server_opts one = so;

		one.name = *names;
		w_server(&w, &one);
	}
}

static void start(size_t n)
{
	static const char *const names[] = {"a", "b", "c", "d", NULL};

	start_with(&names[4 - n]);
}

static void finish(void)
{
	struct budget *b = w.budget;

	w_done(&w);
	budget_free(&b);
}

/* ---- backoff ---- */

/* Proves: E7 E8 E9 */
START_TEST(test_backoff_exact_sequence)
{
	static const int64_t want_s[] = {60, 90, 135, 202, 300, 300, 300};
	static const int64_t rest_us[] = {0, 0, 0, 500000, 0, 0, 0};
	struct backoff_opts o = {.initial_us = 60 * SEC, .max_us = 300 * SEC, .multiplier = 1.5, .jitter = 0};
	struct backoff b = {0};
	struct rng r;

	rng_seed(&r, 1);
	for (int i = 0; i < 7; i++)
		ck_assert_int_eq(backoff_next(&b, &o, &r), want_s[i] * SEC + rest_us[i]);
	backoff_reset(&b);
	ck_assert_int_eq(backoff_next(&b, &o, &r), 60 * SEC);
}
END_TEST

/* Proves: E9 POOL-8 */
START_TEST(test_backoff_jitter_stays_within_its_part)
{
	struct backoff_opts o = {.initial_us = 100 * MS, .max_us = 30 * SEC, .multiplier = 1.5, .jitter = 0.5};
	int64_t least = INT64_MAX, most = 0, other = 0;
	struct rng r, r2;

	rng_seed(&r, 3);
	rng_seed(&r2, 4);
	for (int i = 0; i < 10000; i++) {
		struct backoff b = {0}, b2 = {0};
		int64_t v = backoff_next(&b, &o, &r);

		other += v == backoff_next(&b2, &o, &r2);
		least = v < least ? v : least;
		most = v > most ? v : most;
	}
	ck_assert_int_ge(least, 50 * MS);
	ck_assert_int_le(most, 150 * MS);
	ck_assert_int_lt(least, 52 * MS);
	ck_assert_int_gt(most, 148 * MS);
	ck_assert_int_lt(other, 100); /* two pools are not in lock-step */
}
END_TEST

/* Proves: E9 */
START_TEST(test_backoff_never_gives_up_nor_overflows)
{
	struct backoff_opts o = {.initial_us = 1, .max_us = INT64_MAX / 4, .multiplier = 100, .jitter = 0.5};
	struct backoff b = {0};
	struct rng r;

	rng_seed(&r, 1);
	for (int i = 0; i < 10000; i++)
		ck_assert_int_ge(backoff_next(&b, &o, &r), 0);
}
END_TEST

/* ---- rate ---- */

/* Proves: E4 POOL-5 */
START_TEST(test_rate_spacing)
{
	struct rate r;

	rate_init(&r, 4, 1);
	ck_assert_int_le(rate_ready_us(&r, 0), 0); /* the first is always allowed */
	rate_spend(&r, 0);
	ck_assert_int_eq(rate_ready_us(&r, 0), 250 * MS);
	rate_spend(&r, 250 * MS);
	ck_assert_int_eq(rate_ready_us(&r, 250 * MS), 500 * MS);
	rate_spend(&r, 10 * SEC); /* a pause saves nothing with burst 1 */
	ck_assert_int_eq(rate_ready_us(&r, 10 * SEC), 10 * SEC + 250 * MS);
}
END_TEST

/* Proves: POOL-5 E4 */
START_TEST(test_rate_bound_in_any_window)
{
	struct rng rng;

	rng_seed(&rng, 9);
	for (int round = 0; round < 40; round++) {
		int rps = 1 + (int)rng_below(&rng, 50), burst = 1 + (int)rng_below(&rng, 10);
		int64_t now = 0, spent[200];
		struct rate r;
		size_t n = 0;

		rate_init(&r, rps, burst);
		while (n < 200) {
			now += (int64_t)rng_below(&rng, 100 * MS);
			while (n < 200 && rate_ready_us(&r, now) <= now) {
				rate_spend(&r, now);
				spent[n++] = now;
			}
		}
		for (size_t i = 0; i < n; i++)
			for (size_t k = i; k < n; k++)
				ck_assert_double_le((double)(k - i + 1),
						    rps * (double)(spent[k] - spent[i]) / 1e6 + burst + 1e-9);
	}
}
END_TEST

/* Proves: E3 E4 E20 POOL-5 */
START_TEST(test_max_rps_limits_leases_and_wakes_by_itself)
{
	struct lease l[5];
	int64_t t0;

	so.max_rps = 10;
	start(1);
	t0 = w.now;
	for (int i = 0; i < 5; i++)
		w_lease(&w, &l[i]);
	ck_assert_uint_eq(w.n_granted, 1);
	ck_assert_int_eq(pool_next_us(w.pool), t0 + 100 * MS);
	w_pass(&w, 399 * MS);
	ck_assert_uint_eq(w.n_granted, 4);
	w_pass(&w, MS);
	ck_assert_uint_eq(w.n_granted, 5);
	ck_assert_uint_ge(pool_stat(w.pool)->rate_limited, 1);
	for (int i = 0; i < 5; i++)
		w_release(&w, &l[i]);
	finish();
}
END_TEST

/* Proves: E5 */
START_TEST(test_a_token_is_spent_only_by_a_grant)
{
	struct lease a, b;

	so.max_rps = 1;
	start(1);
	w.auto_dial = false;
	w_lease(&w, &a);
	w_dial_fail(&w, 0, ERR_REFUSED); /* the attempt costs no token */
	w_pass(&w, 100 * MS);
	w_dial_ok(&w, 0);
	ck_assert_int_eq(a.state, LEASE_HELD);
	w_lease(&w, &b);
	ck_assert_int_eq(b.state, LEASE_WAITING);
	pool_cancel(w.pool, &b, ERR_CANCELLED, w.now);
	w_release(&w, &a);
	finish();
}
END_TEST

/* ---- round-robin ---- */

/* Proves: E13 E14 */
START_TEST(test_round_robin)
{
	struct lease l[9];

	start(3);
	for (int i = 0; i < 9; i++)
		w_lease(&w, &l[i]);
	for (int i = 0; i < 9; i++) {
		static const char *const want[] = {"b", "c", "d"};

		ck_assert_str_eq(w_server_of(&l[i]), want[i % 3]);
	}
	for (int i = 0; i < 9; i++)
		w_release(&w, &l[i]);
	for (int i = 0; i < 9; i++) { /* also over idle connections */
		w_lease(&w, &l[i]);
		if (i > 0)
			ck_assert_str_ne(w_server_of(&l[i]), w_server_of(&l[i - 1]));
	}
	for (int i = 0; i < 9; i++)
		w_release(&w, &l[i]);
	finish();
}
END_TEST

/* Proves: E13 */
START_TEST(test_each_server_is_asked_once)
{
	struct lease l[5];

	so.max_size = 1;
	start(4);
	for (int i = 0; i < 5; i++)
		w_lease(&w, &l[i]);
	ck_assert_uint_eq(w.n_granted, 4);
	ck_assert_uint_eq(w.n_dialled, 4);
	ck_assert_int_eq(pool_why(w.pool, w.now), ERR_LIMIT);
	pool_cancel(w.pool, &l[4], ERR_CANCELLED, w.now);
	for (int i = 0; i < 4; i++)
		w_release(&w, &l[i]);
	finish();
}
END_TEST

/* Proves: E18 */
START_TEST(test_no_servers_is_refused_at_once)
{
	struct lease l;

	w_init(&w, &po, NULL);
	w_lease(&w, &l);
	ck_assert_int_eq(w.refused_why[0], ERR_NO_SERVERS);
	ck_assert_str_eq(err_text(ERR_NO_SERVERS), "no registered servers found");
	finish();
}
END_TEST

/* ---- broken servers ---- */

/* Proves: E10 E16 POOL-8 */
START_TEST(test_a_failed_dial_puts_the_server_in_backoff)
{
	struct server_view v;
	struct lease l;

	start(1);
	w.auto_dial = false;
	w_lease(&w, &l);
	w_dial_fail(&w, 0, ERR_REFUSED);
	pool_server_view(w.pool, 0, w.now, &v);
	ck_assert(!v.up);
	ck_assert_int_eq(v.retry_in_us, 100 * MS);
	ck_assert_int_eq(v.last_error, ERR_REFUSED);
	w_pass(&w, 100 * MS - 1);
	ck_assert_uint_eq(w.n_dials, 0);
	w_pass(&w, 1);
	ck_assert_uint_eq(w.n_dials, 1); /* one probe */
	w_dial_fail(&w, 0, ERR_REFUSED);
	pool_server_view(w.pool, 0, w.now, &v);
	ck_assert_int_eq(v.retry_in_us, 150 * MS);
	ck_assert_uint_eq(v.failures, 2);
	w_pass(&w, 150 * MS);
	w_dial_ok(&w, 0);
	pool_server_view(w.pool, 0, w.now, &v);
	ck_assert(v.up);
	ck_assert_uint_eq(v.failures, 0);
	ck_assert_int_eq(l.state, LEASE_HELD);
	w_release_how(&w, &l, RELEASE_CLOSE);
	w_lease(&w, &l);
	w_dial_fail(&w, 0, ERR_REFUSED);
	pool_server_view(w.pool, 0, w.now, &v);
	ck_assert_int_eq(v.retry_in_us, 100 * MS); /* success has reset it */
	pool_cancel(w.pool, &l, ERR_CANCELLED, w.now);
	finish();
}
END_TEST

/* Proves: POOL-8 E10 */
START_TEST(test_one_probe_in_backoff_and_one_step_per_failure)
{
	struct server_view v;
	struct lease l[8];

	start(1);
	w.auto_dial = false;
	for (int i = 0; i < 8; i++)
		w_lease(&w, &l[i]);
	ck_assert_uint_eq(w.n_dials, 4); /* max_concurrent_dials */
	while (w.n_dials > 0)
		w_dial_fail(&w, 0, ERR_REFUSED);
	pool_server_view(w.pool, 0, w.now, &v);
	ck_assert_int_eq(v.retry_in_us, 100 * MS); /* four failures at once are one step */
	w_pass(&w, 100 * MS);
	ck_assert_uint_eq(w.n_dials, 1);
	w_dial_ok(&w, 0);
	ck_assert_uint_eq(w.n_dials, 4); /* trusted again */
	for (int i = 1; i < 8; i++)
		pool_cancel(w.pool, &l[i], ERR_CANCELLED, w.now);
	w_release(&w, &l[0]);
	finish();
}
END_TEST

/* Proves: LIVE-2 */
START_TEST(test_probe_interval_shortens_backoff_while_somebody_waits)
{
	struct lease l;
	int probes = 0;

	so.probe_interval_us = 100 * MS;
	so.backoff.initial_us = 10 * SEC;
	po.lease_timeout_us = 0;
	start(1);
	w.auto_dial = false;
	w_lease(&w, &l);
	w_dial_fail(&w, 0, ERR_REFUSED);
	for (int i = 0; i < 20; i++) {
		w_pass(&w, 100 * MS);
		probes += (int)w.n_dials;
		if (w.n_dials)
			w_dial_fail(&w, 0, ERR_REFUSED);
	}
	ck_assert_int_eq(probes, 20);
	w_pass(&w, 100 * MS);
	pool_connected(w.pool, w.dials[0], w.now);
	w_dial_fail(&w, 0, ERR_RESET); /* a login that fails, however, is never repeated early */
	w_pass(&w, 5 * SEC);
	ck_assert_uint_eq(w.n_dials, 0);
	pool_cancel(w.pool, &l, ERR_CANCELLED, w.now);
	finish();
}
END_TEST

/* Proves: E11 */
START_TEST(test_a_down_server_still_lends_its_idle_ones)
{
	struct lease a, b;

	start(1);
	w_lease(&w, &a);
	w.auto_dial = false;
	w_lease(&w, &b);
	w_release(&w, &a);
	ck_assert_int_eq(b.state, LEASE_HELD);
	w_dial_fail(&w, 0, ERR_REFUSED);
	w_release(&w, &b);
	w_lease(&w, &a);
	ck_assert_int_eq(a.state, LEASE_HELD);
	w_release(&w, &a);
	finish();
}
END_TEST

/* Proves: E11 */
START_TEST(test_evict_on_down)
{
	struct lease a, b;

	so.evict_on_down = true;
	start(1);
	w_lease(&w, &a);
	w.auto_dial = false;
	w_lease(&w, &b);
	w_release(&w, &a);
	w_release(&w, &b);
	ck_assert_uint_eq(w_in(&w, UP_IDLE), 1);
	w_dial_fail(&w, 0, ERR_REFUSED);
	ck_assert_uint_eq(w_open(&w), 0);
	ck_assert_int_eq(w.closed_why[0], ERR_SERVER_DOWN);
	finish();
}
END_TEST

/* Proves: E26 F:U2 */
START_TEST(test_a_black_hole_delays_nobody)
{
	struct lease l[30];

	start(3);
	w_lease(&w, &l[0]);
	w_lease(&w, &l[1]);
	w_lease(&w, &l[2]); /* every server has been good once */
	for (int i = 0; i < 3; i++)
		w_release_how(&w, &l[i], RELEASE_CLOSE);
	w.auto_dial = false; /* from here on server c never answers a dial */
	for (int i = 0; i < 30; i++) {
		int64_t asked = w.now;

		w_lease(&w, &l[i]);
		for (size_t k = 0; k < w.n_dials;)
			if (strcmp(server_name(w.dials[k]->server), "c") != 0)
				w_dial_ok(&w, k);
			else
				k++;
		while (l[i].state == LEASE_WAITING && w.now < asked + SEC) {
			w_pass(&w, MS);
			for (size_t k = 0; k < w.n_dials;)
				if (strcmp(server_name(w.dials[k]->server), "c") != 0)
					w_dial_ok(&w, k);
				else
					k++;
		}
		ck_assert_int_eq(l[i].state, LEASE_HELD);
		ck_assert_str_ne(w_server_of(&l[i]), "c");
		/* the first one meets the hole and gives it its patience; after that nobody does */
		ck_assert_int_le(w.now - asked, i < 3 ? 30 * MS : 0);
		if (i % 3 == 2)
			for (int k = i - 2; k <= i; k++)
				w_release(&w, &l[k]);
		w_pass(&w, 20 * MS);
	}
	ck_assert_uint_eq(w.n_dials, 1); /* and it holds one dial, not more */
	finish();
}
END_TEST

/* Proves: E19 */
START_TEST(test_why_names_the_three_causes)
{
	struct lease l, m;

	so.max_rps = 1;
	start(2);
	w.auto_dial = false;
	w_lease(&w, &l);
	w_lease(&w, &m);
	w_dial_fail(&w, 0, ERR_REFUSED);
	w_dial_fail(&w, 0, ERR_REFUSED);
	ck_assert_int_eq(pool_why(w.pool, w.now), ERR_ALL_DOWN);
	ck_assert_str_eq(err_text(ERR_ALL_DOWN), "all servers are down");
	w_pass(&w, 100 * MS);
	w_dial_ok(&w, 0);
	ck_assert_int_eq(l.state, LEASE_HELD);
	ck_assert_int_eq(pool_why(w.pool, w.now), ERR_SOME_DOWN);
	ck_assert_str_eq(err_text(ERR_SOME_DOWN), "some servers are down, others rate limited");
	w_dial_ok(&w, 0);
	ck_assert_int_eq(m.state, LEASE_HELD);
	ck_assert_int_eq(pool_why(w.pool, w.now), ERR_ALL_RATE_LIMITED);
	ck_assert_str_eq(err_text(ERR_ALL_RATE_LIMITED), "all servers are rate limited");
	w_release(&w, &l);
	w_release(&w, &m);
	finish();
}
END_TEST

/* Proves: E19 E15 */
START_TEST(test_refusals_carry_the_cause)
{
	struct lease l;

	po.lease_timeout_us = SEC;
	start(1);
	w.auto_dial = false;
	w_lease(&w, &l);
	w_dial_fail(&w, 0, ERR_REFUSED);
	for (int i = 0; i < 20 && w.n_refused == 0; i++) {
		w_pass(&w, 100 * MS);
		if (w.n_dials)
			w_dial_fail(&w, 0, ERR_REFUSED);
	}
	ck_assert_int_eq(w.refused_why[0], ERR_ALL_DOWN);
	ck_assert_uint_eq(pool_stat(w.pool)->lease_failures[ERR_ALL_DOWN], 1);
	finish();
}
END_TEST

/* Found by the simulator: the check of an idle connection is supply even where dials are refused. */
/* Proves: E11 C9 POOL-11 */
START_TEST(test_nonblock_waits_for_the_check_of_a_down_server)
{
	struct lease a, b;

	po.lease_wait = LEASE_NONBLOCK;
	po.has_health_check = true;
	po.health_check_after_us = 0;
	start(1);
	w.auto_check = false;
	w_lease(&w, &a);
	w.auto_dial = false;
	w_lease(&w, &b);
	w_dial_fail(&w, 0, ERR_REFUSED);
	w_release(&w, &a);
	w_pass(&w, MS);
	w_lease(&w, &b);
	ck_assert_uint_eq(w.n_probes, 1);
	ck_assert_int_eq(b.state, LEASE_WAITING);
	pool_checked(w.pool, w.probes[0], ERR_OK, w.now);
	w_run(&w);
	ck_assert_int_eq(b.state, LEASE_HELD);
	w_release(&w, &b);
	finish();
}
END_TEST

START_TEST(test_a_server_without_address_is_passed_over)
{
	struct server *b;
	struct lease l;

	w_init(&w, &po, NULL);
	w_server(&w, &so);
	so.name = "b";
	b = w_server(&w, &so);
	server_set_dialable(w.pool, b, false, w.now);
	for (int i = 0; i < 4; i++) {
		w_lease(&w, &l);
		ck_assert_str_eq(w_server_of(&l), "a");
		w_release_how(&w, &l, RELEASE_CLOSE);
	}
	server_set_dialable(w.pool, b, true, w.now);
	for (int i = 0; i < 3 && strcmp(w_server_of(&l), "b") != 0; i++) {
		if (l.state == LEASE_HELD)
			w_release(&w, &l);
		w_lease(&w, &l);
	}
	ck_assert_str_eq(w_server_of(&l), "b");
	w_release(&w, &l);
	finish();
}
END_TEST

START_TEST(test_retired_addresses_drain)
{
	struct addr_spec one, two;
	struct server *s;
	struct lease a, b;

	ck_assert_int_eq(addr_parse("127.0.0.1:1", &one, NULL), ERR_OK);
	ck_assert_int_eq(addr_parse("127.0.0.1:2", &two, NULL), ERR_OK);
	w_init(&w, &po, NULL);
	s = w_server(&w, &so);
	w_lease(&w, &a);
	w_lease(&w, &b);
	a.up->addr = one.addr;
	b.up->addr = one.addr;
	w_release(&w, &b);
	server_keep_addrs(w.pool, s, &two.addr, 1, w.now);
	w_run(&w);
	ck_assert_uint_eq(w.n_closed, 1);
	ck_assert_int_eq(w.closed_why[0], ERR_ADDRESS_GONE);
	w_release(&w, &a);
	ck_assert_uint_eq(w.n_closed, 2);
	finish();
}
END_TEST

/* All idle connections are half-open and the server is well: a check that hangs does not keep a new one from being made.
 * Proves: C15 LIVE-5 F:U8 */
START_TEST(test_a_hanging_check_does_not_forbid_a_dial)
{
	struct lease a, b;

	po.has_health_check = true;
	po.health_check_after_us = 0;
	start(1);
	w_lease(&w, &a);
	w_lease(&w, &b);
	w_release(&w, &a);
	w_release(&w, &b);
	w_pass(&w, SEC);
	w.auto_check = false;
	w_lease(&w, &a);
	ck_assert_uint_eq(w.n_probes, 1);
	w_pass(&w, 100 * MS);
	ck_assert_int_eq(a.state, LEASE_HELD);
	ck_assert_uint_eq(w.n_dialled, 3);
	w_release(&w, &a);
	finish();
}
END_TEST

/* Proves: LIVE-3 */
START_TEST(test_min_idle_pauses_when_the_server_hangs_up)
{
	so.min_idle = 1;
	w_init(&w, &po, NULL);
	w_server(&w, &so);
	w.auto_dial = false;
	pool_tick(w.pool, w.now);
	w_run(&w);
	for (int i = 0; i < 3; i++) {
		struct upstream *u;

		ck_assert_uint_eq(w.n_dials, 1);
		u = w.dials[0];
		w_dial_ok(&w, 0);
		pool_failed(w.pool, u, ERR_EOF, w.now);
		w_run(&w);
		w_pass(&w, 99 * MS);
		ck_assert_uint_eq(w.n_dials, 0);
		w_pass(&w, 2 * MS);
	}
	finish();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("servers");
	TCase *t = tcase_create("servers");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, test_a_hanging_check_does_not_forbid_a_dial);
	tcase_add_test(t, test_min_idle_pauses_when_the_server_hangs_up);
	tcase_add_test(t, test_backoff_exact_sequence);
	tcase_add_test(t, test_backoff_jitter_stays_within_its_part);
	tcase_add_test(t, test_backoff_never_gives_up_nor_overflows);
	tcase_add_test(t, test_rate_spacing);
	tcase_add_test(t, test_rate_bound_in_any_window);
	tcase_add_test(t, test_max_rps_limits_leases_and_wakes_by_itself);
	tcase_add_test(t, test_a_token_is_spent_only_by_a_grant);
	tcase_add_test(t, test_round_robin);
	tcase_add_test(t, test_each_server_is_asked_once);
	tcase_add_test(t, test_no_servers_is_refused_at_once);
	tcase_add_test(t, test_a_failed_dial_puts_the_server_in_backoff);
	tcase_add_test(t, test_one_probe_in_backoff_and_one_step_per_failure);
	tcase_add_test(t, test_probe_interval_shortens_backoff_while_somebody_waits);
	tcase_add_test(t, test_a_down_server_still_lends_its_idle_ones);
	tcase_add_test(t, test_evict_on_down);
	tcase_add_test(t, test_a_black_hole_delays_nobody);
	tcase_add_test(t, test_why_names_the_three_causes);
	tcase_add_test(t, test_refusals_carry_the_cause);
	tcase_add_test(t, test_nonblock_waits_for_the_check_of_a_down_server);
	tcase_add_test(t, test_a_server_without_address_is_passed_over);
	tcase_add_test(t, test_retired_addresses_drain);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
