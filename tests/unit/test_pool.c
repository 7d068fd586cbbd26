/* The brain on a clock that is a variable: leases, limits, ages, health, drain (groups C and D). */
#include <check.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "unit/pool_world.h"

static struct world w;
static struct pool_opts po;
static struct server_opts so;

static void setup(void)
{
	po = w_pool_opts();
	so = w_server_opts("a");
}

static void start(void)
{
	w_init(&w, &po, NULL);
	w_server(&w, &so);
}

static void finish(void)
{
	struct budget *b = w.budget;

	w_done(&w);
	budget_free(&b);
}

/* Proves: POOL-2 */
START_TEST(test_state_table)
{
	static const char *const legal[UP_STATES] = {
		[UP_DIALING] = "securing login closing",
		[UP_SECURING] = "login closing",
		[UP_LOGIN] = "idle closing",
		[UP_IDLE] = "probing reauth leased closing",
		[UP_PROBING] = "idle closing",
		[UP_REAUTH] = "idle closing",
		[UP_LEASED] = "idle cleaning closing",
		[UP_CLEANING] = "idle closing",
		[UP_CLOSING] = "",
	};

	for (int from = 0; from < UP_STATES; from++)
		for (int to = 0; to < UP_STATES; to++) {
			bool want = strstr(legal[from], up_state_name((enum up_state)to)) != NULL;

			ck_assert_msg(up_state_may((enum up_state)from, (enum up_state)to) == want, "%s -> %s",
				      up_state_name((enum up_state)from), up_state_name((enum up_state)to));
		}
}
END_TEST

/* Proves: C1 C6 E2 POOL-1 */
START_TEST(test_max_size_default_is_ten)
{
	struct lease l[12];

	so.max_size = 0;
	start();
	for (int i = 0; i < 12; i++)
		w_lease(&w, &l[i]);
	ck_assert_uint_eq(w.n_granted, 10);
	ck_assert_uint_eq(w_open(&w), 10);
	ck_assert_uint_eq(pool_waiting(w.pool), 2);
	for (int i = 0; i < 12; i++)
		w_release(&w, &l[i]);
	finish();
}
END_TEST

/* Proves: C2 */
START_TEST(test_unbounded_lifts_max_size)
{
	struct lease l[40];

	so.unbounded = true;
	start();
	for (int i = 0; i < 40; i++)
		w_lease(&w, &l[i]);
	ck_assert_uint_eq(w.n_granted, 40);
	for (int i = 0; i < 40; i++)
		w_release(&w, &l[i]);
	finish();
}
END_TEST

/* Proves: C4 C7 POOL-7 */
START_TEST(test_max_age_is_strict_and_spares_leased)
{
	struct lease l;

	so.max_age_us = 10 * SEC;
	so.max_idle_us = 0;
	start();
	w_lease(&w, &l);
	w_release(&w, &l);
	w_pass(&w, 10 * SEC);
	ck_assert_uint_eq(w_in(&w, UP_IDLE), 1); /* exactly max_age old: still good */
	w_lease(&w, &l);
	ck_assert_uint_eq(w.n_dialled, 1);
	w_pass(&w, 60 * SEC);
	ck_assert_int_eq(l.state, LEASE_HELD); /* in use: never closed by age */
	w_release(&w, &l);
	ck_assert_uint_eq(w.n_closed, 1);
	ck_assert_int_eq(w.closed_why[0], ERR_AGE);
	finish();
}
END_TEST

/* Proves: C4 */
START_TEST(test_max_age_jitter_spreads)
{
	struct lease l[10];
	int64_t first = INT64_MAX, last = 0;

	so.max_age_jitter = 0.1;
	so.max_age_us = 1000 * SEC;
	start();
	for (int i = 0; i < 10; i++) {
		int64_t age;

		w_lease(&w, &l[i]);
		age = l[i].up->expires_us - w.now;
		ck_assert_int_ge(age, 900 * SEC);
		ck_assert_int_le(age, 1000 * SEC + 1);
		first = age < first ? age : first;
		last = age > last ? age : last;
	}
	ck_assert_int_gt(last - first, 10 * SEC);
	for (int i = 0; i < 10; i++)
		w_release(&w, &l[i]);
	finish();
}
END_TEST

/* Proves: C5 C7 C25 */
START_TEST(test_max_idle_counts_from_return)
{
	struct lease l;

	so.max_idle_us = 5 * SEC;
	start();
	w_lease(&w, &l);
	w_pass(&w, 20 * SEC);
	w_release(&w, &l);
	w_pass(&w, 5 * SEC);
	ck_assert_uint_eq(w_in(&w, UP_IDLE), 1);
	w_pass(&w, 1);
	ck_assert_uint_eq(w_in(&w, UP_IDLE), 0);
	ck_assert_int_eq(w.closed_why[0], ERR_IDLE);
	finish();
}
END_TEST

/* The reference's bound: an expired connection is gone at most min(max_idle, max_age)/2, clamped to 1..60 s, later. */
/* Proves: C8 */
START_TEST(test_cleanup_bound)
{
	static const int64_t v[][2] = {{2, 0},	     {0, 2}, {10, 4},  {300, 1800},
				       {7200, 1800}, {1, 1}, {3, 100}, {600, 0}};

	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		int64_t idle = v[i][0] * SEC, age = v[i][1] * SEC, least, bound;
		struct lease l;

		least = idle == 0 ? age : age == 0 ? idle : idle < age ? idle : age;
		bound = least / 2 < SEC ? SEC : least / 2 > 60 * SEC ? 60 * SEC : least / 2;
		setup();
		so.max_idle_us = idle;
		so.max_age_us = age;
		start();
		w_lease(&w, &l);
		w_release(&w, &l);
		w_pass(&w, least);
		ck_assert_uint_eq(w_in(&w, UP_IDLE), 1);
		w_pass(&w, bound);
		ck_assert_uint_eq(w_in(&w, UP_IDLE), 0);
		finish();
	}
}
END_TEST

/* Proves: C9 */
START_TEST(test_health_check_before_lease)
{
	struct lease l;

	po.has_health_check = true;
	start();
	w.auto_check = false;
	w_lease(&w, &l);
	w_release(&w, &l);
	w_pass(&w, 30 * SEC);
	w_lease(&w, &l);
	ck_assert_int_eq(l.state, LEASE_HELD); /* not idle for longer: no check */
	w_release(&w, &l);
	w_pass(&w, 30 * SEC + 1);
	w_lease(&w, &l);
	ck_assert_int_eq(l.state, LEASE_WAITING);
	ck_assert_uint_eq(w.n_probes, 1);
	pool_checked(w.pool, w.probes[0], ERR_OK, w.now);
	w_run(&w);
	ck_assert_int_eq(l.state, LEASE_HELD);
	ck_assert_uint_eq(w.n_dialled, 1);
	ck_assert_uint_eq(pool_stat(w.pool)->health_checks[ERR_OK], 1);
	w_release(&w, &l);
	finish();
}
END_TEST

/* Proves: C9 C10 C33 */
START_TEST(test_failed_health_check_tries_the_next)
{
	struct lease l[2];

	po.has_health_check = true;
	start();
	w.auto_check = false;
	w_lease(&w, &l[0]);
	w_lease(&w, &l[1]);
	w_release(&w, &l[0]);
	w_release(&w, &l[1]);
	w_pass(&w, 31 * SEC);
	w_lease(&w, &l[0]);
	pool_checked(w.pool, w.probes[0], ERR_HEALTH, w.now);
	w.n_probes = 0;
	w_run(&w);
	ck_assert_int_eq(w.closed_why[0], ERR_HEALTH);
	ck_assert_uint_eq(w_in(&w, UP_PROBING), 1); /* the second candidate */
	w_pass(&w, 6 * SEC);			    /* which never answers: told apart by its reason */
	ck_assert_int_eq(w.closed_why[1], ERR_CHECK_TIMEOUT);
	ck_assert_uint_eq(pool_stat(w.pool)->health_checks[ERR_CHECK_TIMEOUT], 1);
	ck_assert_int_eq(l[0].state, LEASE_HELD); /* a dial served it */
	w_release(&w, &l[0]);
	finish();
}
END_TEST

/* Proves: C11 */
START_TEST(test_client_leaves_during_health_check)
{
	struct lease l;

	po.has_health_check = true;
	start();
	w.auto_check = false;
	w_lease(&w, &l);
	w_release(&w, &l);
	w_pass(&w, 31 * SEC);
	w_lease(&w, &l);
	pool_cancel(w.pool, &l, ERR_CLIENT_GONE, w.now);
	w_run(&w);
	ck_assert_uint_eq(w_in(&w, UP_PROBING), 1);
	pool_checked(w.pool, w.probes[0], ERR_OK, w.now);
	w_run(&w);
	ck_assert_uint_eq(w_in(&w, UP_IDLE), 1);
	ck_assert_uint_eq(w.n_closed, 0);
	w_lease(&w, &l); /* freshly checked: lent at once */
	ck_assert_int_eq(l.state, LEASE_HELD);
	w_release(&w, &l);
	finish();
}
END_TEST

/* Proves: C13 */
START_TEST(test_ready_check_on_return)
{
	struct lease l, m;
	struct upstream *u;

	so.max_size = 1;
	start();
	w_lease(&w, &l);
	w_lease(&w, &m);
	u = l.up;
	ck_assert(pool_release(w.pool, &l, RELEASE_CHECK, ERR_OK, w.now));
	w_run(&w);
	ck_assert_int_eq(m.state, LEASE_WAITING); /* not lent before it is known to be clean */
	pool_cleaned(w.pool, u, ERR_OK, w.now);
	w_run(&w);
	ck_assert_ptr_eq(m.up, u);
	ck_assert(pool_release(w.pool, &m, RELEASE_CHECK, ERR_OK, w.now));
	pool_cleaned(w.pool, u, ERR_NOT_READY, w.now);
	w_run(&w);
	ck_assert_int_eq(w.closed_why[0], ERR_NOT_READY);
	ck_assert_uint_eq(pool_stat(w.pool)->resets[ERR_NOT_READY], 1);
	finish();
}
END_TEST

/* Proves: C14 C32 */
START_TEST(test_one_dial_at_a_time_when_asked)
{
	struct lease l[5];

	so.max_concurrent_dials = 1;
	start();
	w.auto_dial = false;
	for (int i = 0; i < 5; i++)
		w_lease(&w, &l[i]);
	ck_assert_uint_eq(w_open(&w), 1);
	w_dial_ok(&w, 0);
	ck_assert_int_eq(l[0].state, LEASE_HELD);
	ck_assert_uint_eq(w_open(&w), 2);
	w_release(&w, &l[0]); /* a returned one serves the next before its dial is done */
	ck_assert_int_eq(l[1].state, LEASE_HELD);
	for (int i = 2; i < 5; i++)
		pool_cancel(w.pool, &l[i], ERR_CANCELLED, w.now);
	w_release(&w, &l[1]);
	finish();
}
END_TEST

/* Proves: C15 */
START_TEST(test_waiter_is_served_by_whichever_comes_first)
{
	struct lease held, l;

	start();
	w_lease(&w, &held);
	w.auto_dial = false;
	w_lease(&w, &l);
	ck_assert_uint_eq(w.n_dials, 1);
	w_release(&w, &held);
	ck_assert_int_eq(l.state, LEASE_HELD);
	w_dial_ok(&w, 0);
	ck_assert_uint_eq(w_in(&w, UP_IDLE), 1);
	w_release(&w, &l);
	finish();
}
END_TEST

/* Proves: C16 E6 */
START_TEST(test_dial_of_a_client_that_left_is_banked)
{
	struct lease l;

	start();
	w.auto_dial = false;
	w_lease(&w, &l);
	pool_cancel(w.pool, &l, ERR_CLIENT_GONE, w.now);
	ck_assert_uint_eq(pool_stat(w.pool)->lease_failures[ERR_CLIENT_GONE], 1);
	w_pass(&w, 2 * SEC);
	w_dial_ok(&w, 0);
	ck_assert_uint_eq(w_in(&w, UP_IDLE), 1);
	finish();
}
END_TEST

/* Proves: C17 C22 C30 */
START_TEST(test_shutdown_is_idempotent_and_closes_what_returns)
{
	struct lease a, b, c;

	so.max_size = 2;
	start();
	w_lease(&w, &a);
	w_lease(&w, &b);
	w_release(&w, &b);
	w_lease(&w, &b);
	w_lease(&w, &c);
	w_release(&w, &b);
	ck_assert_int_eq(c.state, LEASE_HELD);
	w_release(&w, &c);
	pool_shutdown(w.pool, w.now);
	pool_shutdown(w.pool, w.now);
	w_run(&w);
	ck_assert_int_eq(a.state, LEASE_HELD);
	ck_assert_uint_eq(w_open(&w), 1);
	w_lease(&w, &b);
	ck_assert_int_eq(w.refused_why[w.n_refused - 1], ERR_SHUTDOWN);
	w_release(&w, &a);
	ck_assert_uint_eq(w_open(&w), 0);
	ck_assert_int_eq(pool_next_us(w.pool), INT64_MAX); /* no timer is left */
	finish();
}
END_TEST

static struct lease twice;

/* Proves: C19 C20 D10 E21 D6 */
START_TEST(test_double_release_aborts)
{
	start();
	w_lease(&w, &twice);
	w_release(&w, &twice);
	w_release(&w, &twice);
}
END_TEST

/* Proves: C19 C20 E21 */
START_TEST(test_cancel_after_end_is_a_no_op)
{
	struct lease l;

	start();
	w_lease(&w, &l);
	w_release(&w, &l);
	pool_cancel(w.pool, &l, ERR_CANCELLED, w.now);
	pool_cancel(w.pool, &l, ERR_CANCELLED, w.now);
	ck_assert_uint_eq(pool_stat(w.pool)->lease_failures[ERR_CANCELLED], 0);
	ck_assert_uint_eq(pool_stat(w.pool)->leases, pool_stat(w.pool)->leases_returned);
	finish();
}
END_TEST

/* Proves: C21 D11 */
START_TEST(test_discard_frees_the_slot)
{
	struct lease a, b;

	so.max_size = 1;
	start();
	w_lease(&w, &a);
	w_lease(&w, &b);
	w_release_how(&w, &a, RELEASE_CLOSE);
	ck_assert_int_eq(w.closed_why[0], ERR_RESET);
	ck_assert_int_eq(b.state, LEASE_HELD);
	ck_assert_uint_eq(w.n_dialled, 2);
	w_release(&w, &b);
	finish();
}
END_TEST

/* Proves: C23 POOL-9 */
START_TEST(test_drain_answers_at_the_last_release)
{
	struct lease a, b, c;

	start();
	w_lease(&w, &a);
	w_lease(&w, &b);
	pool_drain(w.pool, false, w.now);
	w_run(&w);
	w_lease(&w, &c); /* a plain drain does not stop new leases */
	ck_assert_int_eq(c.state, LEASE_HELD);
	w_release(&w, &a);
	w_release(&w, &b);
	ck_assert_uint_eq(w.n_drained, 0);
	w_release(&w, &c);
	ck_assert_uint_eq(w.n_drained, 1); /* at once, without a tick */
	w_release_how(&w, (w_lease(&w, &a), &a), RELEASE_CLEAN);
	ck_assert_uint_eq(w.n_drained, 1);
	pool_drain(w.pool, true, w.now);
	w_run(&w);
	ck_assert_uint_eq(w.n_drained, 2); /* nothing was leased */
	w_lease(&w, &b);
	ck_assert_int_eq(w.refused_why[0], ERR_DRAINING);
	pool_resume(w.pool, w.now);
	w_lease(&w, &b);
	ck_assert_int_eq(b.state, LEASE_HELD);
	w_release(&w, &b);
	finish();
}
END_TEST

/* Proves: C24 C25 C26 C18 */
START_TEST(test_snapshot_is_a_copy)
{
	struct upstream_view v[4];
	struct server_view sv;
	struct lease a, b;
	int64_t t0;

	start();
	t0 = w.now;
	w_lease(&w, &a);
	w_lease(&w, &b);
	w_pass(&w, 3 * SEC);
	w_release(&w, &b);
	ck_assert_uint_eq(pool_snapshot(w.pool, v, 4), 2);
	w_release(&w, &a);
	for (int i = 0; i < 2; i++) {
		ck_assert_str_eq(v[i].server, "a");
		ck_assert_int_eq(v[i].created_us, t0);
		ck_assert_int_eq(v[i].last_leased_us, t0);
		ck_assert_int_eq(v[i].last_returned_us, v[i].in_use ? 0 : t0 + 3 * SEC);
	}
	ck_assert_int_ne(v[0].in_use, v[1].in_use); /* unchanged by the second release */
	pool_server_view(w.pool, 0, w.now, &sv);
	ck_assert_uint_eq(sv.by_state[UP_IDLE], 2);
	ck_assert_uint_eq(sv.by_state[UP_LEASED], 0);
	ck_assert_str_eq(sv.name, "a");
	finish();
}
END_TEST

/* Returns which of three idle connections (made and returned in the order 1 2 3 / 2 1 3) is lent. */
static uint64_t reused(enum reuse_order order)
{
	struct lease l[3], x;
	uint64_t base, id;

	setup();
	po.reuse_order = order;
	start();
	for (int i = 0; i < 3; i++) {
		w_lease(&w, &l[i]);
		w_pass(&w, SEC);
	}
	base = l[0].up->id;
	w_release(&w, &l[1]);
	w_pass(&w, SEC);
	w_release(&w, &l[0]);
	w_pass(&w, SEC);
	w_release(&w, &l[2]);
	w_lease(&w, &x);
	id = x.up->id - base;
	w_release(&w, &x);
	finish();
	return id;
}

/* Proves: C27 E12 */
START_TEST(test_reuse_order)
{
	ck_assert_uint_eq(reused(REUSE_LIFO), 2);
	ck_assert_uint_eq(reused(REUSE_FIFO), 1);
	ck_assert_uint_eq(reused(REUSE_OLDEST), 0);
}
END_TEST

/* Proves: C32 POOL-1 */
START_TEST(test_size_one_never_has_two_sockets)
{
	struct lease a, b;

	so.max_size = 1;
	so.max_concurrent_dials = 1;
	start();
	w_lease(&w, &a);
	w_lease(&w, &b);
	w.keep_closing = true;
	w_release_how(&w, &a, RELEASE_CLOSE);
	ck_assert_uint_eq(w_open(&w), 1); /* closing: no second dial yet */
	ck_assert_uint_eq(w.n_dialled, 1);
	w_close_all(&w);
	ck_assert_uint_eq(w.n_dialled, 2);
	ck_assert_int_eq(b.state, LEASE_HELD);
	w.keep_closing = false;
	w_release(&w, &b);
	finish();
}
END_TEST

/* Proves: D4 E16 E17 POOL-11 */
START_TEST(test_lease_timeout_ends_the_wait)
{
	struct lease a, b, c;
	int64_t t0;

	so.max_size = 1;
	po.lease_timeout_us = 2 * SEC;
	start();
	w_lease(&w, &a);
	t0 = w.now;
	w_lease(&w, &b);
	w_pass(&w, SEC);
	w_lease(&w, &c);
	w_pass(&w, SEC - 1);
	ck_assert_uint_eq(w.n_refused, 0);
	ck_assert_int_eq(pool_oldest_wait_us(w.pool, w.now), w.now - t0);
	w_pass(&w, 1);
	ck_assert_uint_eq(w.n_refused, 1);
	ck_assert_ptr_eq(w.refused[0], &b);
	ck_assert_int_eq(w.refused_why[0], ERR_LEASE_TIMEOUT);
	w_release(&w, &a);
	ck_assert_int_eq(c.state, LEASE_HELD);
	w_release(&w, &c);
	finish();
}
END_TEST

/* Proves: D4 E15 POOL-11 */
START_TEST(test_nonblock_answers_at_once)
{
	struct lease a, b;

	so.max_size = 1;
	po.lease_wait = LEASE_NONBLOCK;
	start();
	w_lease(&w, &a);
	ck_assert_int_eq(a.state, LEASE_HELD);
	w_lease(&w, &b);
	ck_assert_uint_eq(w.n_refused, 1);
	ck_assert_int_eq(w.refused_why[0], ERR_LIMIT);
	w_release(&w, &a);
	w_lease(&w, &b);
	ck_assert_int_eq(b.state, LEASE_HELD);
	w_release(&w, &b);
	finish();
}
END_TEST

/* Proves: D5 E6 */
START_TEST(test_connect_timeout_counts_only_the_dial)
{
	struct lease a, b;

	so.max_size = 1;
	so.connect_timeout_us = SEC;
	start();
	w_lease(&w, &a);
	w.auto_dial = false;
	w_lease(&w, &b);
	w_pass(&w, 3 * SEC); /* waits for a slot: no dial, no time-out */
	ck_assert_uint_eq(w.n_closed, 0);
	w_release_how(&w, &a, RELEASE_CLOSE);
	ck_assert_uint_eq(w.n_dials, 1);
	w_pass(&w, SEC - 1);
	ck_assert_uint_eq(w.n_closed, 1);
	w_pass(&w, 1);
	ck_assert_uint_eq(w.n_closed, 2);
	ck_assert_int_eq(w.closed_why[1], ERR_CONNECT_TIMEOUT);
	pool_cancel(w.pool, &b, ERR_CANCELLED, w.now);
	finish();
}
END_TEST

/* Proves: D9 POOL-1 */
START_TEST(test_failed_dials_leak_no_slot)
{
	struct lease l;

	so.max_size = 1;
	so.backoff.max_us = 100 * MS;
	po.lease_timeout_us = 0;
	start();
	w.auto_dial = false;
	w_lease(&w, &l);
	for (int i = 0; i < 1000; i++) {
		while (w.n_dials == 0)
			w_pass(&w, 10 * MS);
		w_dial_fail(&w, 0, i % 2 ? ERR_REFUSED : ERR_DENIED);
		ck_assert_uint_eq(w_open(&w), 0);
		ck_assert_int_eq(budget_used(w.budget), 0);
	}
	w_pass(&w, SEC);
	w_dial_ok(&w, 0);
	ck_assert_int_eq(l.state, LEASE_HELD);
	w_release(&w, &l);
	finish();
}
END_TEST

/* Proves: D12 */
START_TEST(test_schedule_close)
{
	struct lease a;
	struct server *s;

	w_init(&w, &po, NULL);
	s = w_server(&w, &so);
	w_lease(&w, &a);
	w_release(&w, &a);
	server_close_needed(w.pool, s, ERR_CLOSE_NEEDED, w.now);
	w_run(&w);
	ck_assert_uint_eq(w_open(&w), 0); /* idle: now */
	w_lease(&w, &a);
	server_close_needed(w.pool, s, ERR_CLOSE_NEEDED, w.now);
	w_run(&w);
	ck_assert_uint_eq(w_open(&w), 1); /* leased: when it comes back */
	w_release(&w, &a);
	ck_assert_uint_eq(w_open(&w), 0);
	ck_assert_int_eq(w.closed_why[1], ERR_CLOSE_NEEDED);
	finish();
}
END_TEST

/* Proves: D2 */
START_TEST(test_nothing_is_dialled_before_it_is_wanted)
{
	start();
	pool_tick(w.pool, w.now);
	w_run(&w);
	ck_assert_uint_eq(w_open(&w), 0);
	finish();
}
END_TEST

START_TEST(test_min_idle_is_kept_ready)
{
	struct lease a, b;

	so.min_idle = 2;
	so.max_size = 3;
	start();
	pool_tick(w.pool, w.now);
	w_run(&w);
	ck_assert_uint_eq(w_in(&w, UP_IDLE), 2);
	w_lease(&w, &a);
	ck_assert_uint_eq(w_in(&w, UP_IDLE), 2); /* refilled */
	w_lease(&w, &b);
	ck_assert_uint_eq(w_open(&w), 3); /* but not beyond max_size */
	w_release(&w, &a);
	w_release(&w, &b);
	finish();
}
END_TEST

/* Proves: D1 C3 */
START_TEST(test_budget_bounds_all_pools)
{
	struct budget *b = budget_new(3);
	struct world w2;
	struct lease l[3], m[3];

	w_init(&w, &po, b);
	w_server(&w, &so);
	w_init(&w2, &po, b);
	w_server(&w2, &so);
	for (int i = 0; i < 3; i++) {
		w_lease(&w, &l[i]);
		w_lease(&w2, &m[i]);
	}
	ck_assert_uint_eq(w_open(&w) + w_open(&w2), 3);
	ck_assert_int_eq(budget_used(b), 3);
	for (int round = 0; round < 4; round++)
		for (int i = 0; i < 3; i++) {
			if (l[i].state == LEASE_HELD)
				w_release(&w, &l[i]);
			if (m[i].state == LEASE_HELD)
				w_release(&w2, &m[i]);
			w_pokes(&w);
			w_pokes(&w2);
			w_pokes(&w);
			ck_assert_int_le(budget_used(b), 3);
		}
	ck_assert_uint_eq(w.n_granted, 3); /* everybody was served in the end */
	ck_assert_uint_eq(w2.n_granted, 3);
	ck_assert_uint_eq(pool_waiting(w.pool) + pool_waiting(w2.pool), 0);
	w_done(&w);
	w_done(&w2);
	budget_free(&b);
}
END_TEST

/* Proves: D7 D8 POOL-6 */
START_TEST(test_eviction_is_lru_over_all_pools_and_waits_for_the_close)
{
	struct budget *b = budget_new(2);
	struct world w2;
	struct lease l[2], m;
	uint64_t first;

	w_init(&w, &po, b);
	w_server(&w, &so);
	w_init(&w2, &po, b);
	w_server(&w2, &so);
	w2.now = w.now;
	w_lease(&w, &l[0]);
	w_lease(&w, &l[1]);
	first = l[0].up->id;
	w_release(&w, &l[0]);
	w_pass(&w, SEC);
	w_release(&w, &l[1]);
	w.keep_closing = true;
	w_lease(&w2, &m);
	w_pokes(&w);
	ck_assert_uint_eq(w.n_closing, 1);
	ck_assert_uint_eq(w.closing[0]->id, first); /* the one idle for longest */
	ck_assert_int_eq(w.closing[0]->reason, ERR_EVICTED);
	w_pokes(&w2);
	ck_assert_int_eq(m.state, LEASE_WAITING); /* a closing socket still counts */
	ck_assert_uint_eq(w2.n_dialled, 0);
	w_close_all(&w);
	w_pokes(&w2);
	ck_assert_int_eq(m.state, LEASE_HELD);
	ck_assert_uint_eq(pool_stat(w.pool)->evictions, 1);
	w_release(&w2, &m);
	w_done(&w);
	w_done(&w2);
	budget_free(&b);
}
END_TEST

/* Proves: D7 LIVE-2 */
START_TEST(test_an_eviction_that_comes_too_late_is_passed_on)
{
	struct budget *b = budget_new(2);
	struct world w2, w3;
	struct lease l, m, x;

	w_init(&w, &po, b);
	w_server(&w, &so);
	w_init(&w2, &po, b);
	w_server(&w2, &so);
	w_init(&w3, &po, b);
	w_server(&w3, &so);
	w_lease(&w, &l);
	w_release(&w, &l);
	w2.now = w.now + SEC;
	w_lease(&w2, &m);
	w_release(&w2, &m);
	w_lease(&w3, &x); /* asks w, whose idle connection is older */
	ck_assert_uint_eq(w.n_poked, 1);
	ck_assert_uint_eq(w2.n_poked, 0);
	pool_lease(w.pool, (l = (struct lease){0}, &l), &l, w.now); /* which it has just lent */
	w_pokes(&w);
	w_run(&w);
	w_pokes(&w2);
	w_pokes(&w3);
	ck_assert_int_eq(x.state, LEASE_HELD);
	w_release(&w3, &x);
	w_release(&w, &l);
	w_done(&w);
	w_done(&w2);
	w_done(&w3);
	budget_free(&b);
}
END_TEST

/* Proves: D7 */
START_TEST(test_min_idle_is_not_evicted)
{
	struct budget *b = budget_new(1);
	struct world w2;
	struct lease m;

	so.min_idle = 1;
	w_init(&w, &po, b);
	w_server(&w, &so);
	pool_tick(w.pool, w.now);
	w_run(&w);
	so.min_idle = 0;
	w_init(&w2, &po, b);
	w_server(&w2, &so);
	w_lease(&w2, &m);
	w_pokes(&w);
	w_pokes(&w2);
	ck_assert_int_eq(m.state, LEASE_WAITING);
	ck_assert_uint_eq(w_in(&w, UP_IDLE), 1);
	pool_cancel(w2.pool, &m, ERR_CANCELLED, w2.now);
	w_run(&w2);
	w_done(&w2);
	w_done(&w);
	budget_free(&b);
}
END_TEST

/* Two pools that wait for the same descriptor must not poke each other for ever. */
/* Proves: D7 LIVE-3 */
START_TEST(test_hungry_pools_do_not_spin)
{
	struct budget *b = budget_new(1);
	struct world w2;
	struct lease held, l, m;
	size_t pokes = 0;

	w_init(&w, &po, b);
	w_server(&w, &so);
	w_init(&w2, &po, b);
	w_server(&w2, &so);
	w_lease(&w, &held);
	w_lease(&w, &l);
	w_lease(&w2, &m);
	pool_poked(w.pool, BUDGET_RETRY, w.now);
	w_run(&w);
	for (int i = 0; i < 50; i++) {
		pokes += w.n_poked + w2.n_poked;
		w_pokes(&w);
		w_pokes(&w2);
	}
	ck_assert_uint_le(pokes, 4);
	w_release(&w, &held);
	ck_assert_int_eq(l.state, LEASE_HELD);
	w_release(&w, &l);
	w_pokes(&w);
	w_pokes(&w2);
	ck_assert_int_eq(m.state, LEASE_HELD);
	w_release(&w2, &m);
	w_done(&w);
	w_done(&w2);
	budget_free(&b);
}
END_TEST

/* Proves: F:R2 D8 */
START_TEST(test_lowered_budget_evicts_and_never_reuses_the_excess)
{
	struct budget *b = budget_new(4);
	struct lease l[4];

	w_init(&w, &po, b);
	w_server(&w, &so);
	for (int i = 0; i < 4; i++)
		w_lease(&w, &l[i]);
	w_release(&w, &l[3]);
	budget_set_max(b, 2);
	w_pokes(&w);
	ck_assert_int_eq(budget_used(b), 3); /* the idle one went */
	w_release(&w, &l[2]);
	w_pokes(&w);
	ck_assert_int_eq(budget_used(b), 2); /* the leased one when it came back */
	w_release(&w, &l[1]);
	w_release(&w, &l[0]);
	ck_assert_uint_eq(w_in(&w, UP_IDLE), 2);
	w_done(&w);
	budget_free(&b);
}
END_TEST

/* Proves: F:R2 */
START_TEST(test_lowered_budget_evicts_even_min_idle)
{
	struct budget *b = budget_new(4);

	so.min_idle = 4;
	w_init(&w, &po, b);
	w_server(&w, &so);
	pool_tick(w.pool, w.now);
	w_run(&w);
	ck_assert_uint_eq(w_in(&w, UP_IDLE), 4);
	ck_assert_int_eq(pool_why(w.pool, w.now), ERR_OK);
	budget_set_max(b, 1);
	w_pokes(&w);
	ck_assert_int_eq(budget_used(b), 1);
	w_pass(&w, SEC);
	ck_assert_int_eq(budget_used(b), 1);
	w_done(&w);
	budget_free(&b);
}
END_TEST

/* Proves: D3 */
START_TEST(test_budget_formula)
{
	static const struct {
		int64_t nofile;
		int limit;
	} v[] = {{1024, 900}, {1050, 1000}, {1049, 900}, {150, 100},   {149, 1},       {50, 1},
		 {10, 1},     {0, 900},	    {-1, 900},	 {4096, 4000}, {65536, 65400}, {20000, 19900}};

	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++)
		ck_assert_int_eq(budget_auto(v[i].nofile, 50), v[i].limit);
	ck_assert_int_eq(budget_auto(20000, 50 + 1000 + 4), 18900);
}
END_TEST

/* Proves: D15 */
START_TEST(test_budget_figures)
{
	struct budget *b = budget_new(5);
	struct lease l[3];

	w_init(&w, &po, b);
	w_server(&w, &so);
	for (int i = 0; i < 3; i++)
		w_lease(&w, &l[i]);
	w_release(&w, &l[0]);
	w.keep_closing = true;
	w_release_how(&w, &l[1], RELEASE_CLOSE);
	ck_assert_int_eq(budget_max(b), 5);
	ck_assert_int_eq(budget_used(b), 3);
	ck_assert_uint_eq(w_in(&w, UP_IDLE), 1);    /* unused */
	ck_assert_uint_eq(w_in(&w, UP_CLOSING), 1); /* releasing */
	w_close_all(&w);
	w_release(&w, &l[2]);
	w_done(&w);
	budget_free(&b);
}
END_TEST

/* Proves: POOL-4 */
START_TEST(test_waiters_are_first_come_first_served)
{
	struct lease a, l[50];

	so.max_size = 1;
	start();
	w_lease(&w, &a);
	for (int i = 0; i < 50; i++)
		w_lease(&w, &l[i]);
	for (int i = 10; i < 20; i++)
		pool_cancel(w.pool, &l[i], ERR_CLIENT_GONE, w.now);
	w_release(&w, &a);
	for (int i = 0; i < 50; i++) {
		if (i >= 10 && i < 20)
			continue;
		ck_assert_int_eq(l[i].state, LEASE_HELD);
		w_release(&w, &l[i]);
	}
	finish();
}
END_TEST

START_TEST(test_max_total_evicts_within_the_pool)
{
	struct server_opts sb = w_server_opts("b");
	struct lease a, b;

	po.max_total = 1;
	so.max_rps = 1;
	start();
	w_server(&w, &sb);
	w_lease(&w, &a);
	ck_assert_str_eq(w_server_of(&a), "a");
	w_release(&w, &a);
	w_lease(&w, &b); /* a is idle but has no token: it makes room for b */
	w_pass(&w, 1);
	ck_assert_str_eq(w_server_of(&b), "b");
	ck_assert_int_eq(w.closed_why[0], ERR_EVICTED);
	w_release(&w, &b);
	finish();
}
END_TEST

/* Proves: C12 */
START_TEST(test_without_a_timeout_the_wait_has_no_end)
{
	struct lease a, b;

	so.max_size = 1;
	po.lease_timeout_us = 0;
	start();
	w_lease(&w, &a);
	w_lease(&w, &b);
	w_pass(&w, 365 * 86400 * SEC);
	ck_assert_int_eq(b.state, LEASE_WAITING);
	w_release_how(&w, &a, RELEASE_CLOSE);
	ck_assert_int_eq(b.state, LEASE_HELD);
	w_release(&w, &b);
	finish();
}
END_TEST

/* What a server has seen leaves nothing behind: its entry is all it costs, and goes with the pool. */
/* Proves: C28 */
START_TEST(test_memory_of_a_server_is_bounded)
{
	struct mallinfo2 before, after;
	struct lease l;

	so.backoff.max_us = so.backoff.initial_us;
	start();
	for (int i = 0; i < 20000; i++) {
		if (i == 1000)
			before = mallinfo2();
		w.auto_dial = i % 3 != 0;
		w_lease(&w, &l);
		if (w.n_dials > 0) {
			w_dial_fail(&w, 0, ERR_REFUSED);
			pool_cancel(w.pool, &l, ERR_CANCELLED, w.now);
			w_pass(&w, SEC);
		} else {
			w_release_how(&w, &l, i % 2 ? RELEASE_CLEAN : RELEASE_CLOSE);
		}
	}
	after = mallinfo2();
	ck_assert_uint_le(after.uordblks, before.uordblks + 4096);
	finish();
}
END_TEST

/* Clock, dialer and whoever asks are doubles here: a month of renewals takes no real time and touches no socket. */
/* Proves: C29 E23 */
START_TEST(test_the_brain_runs_on_doubles)
{
	struct timespec t0, t1;
	struct lease l;

	so.min_idle = 1;
	so.max_age_us = 600 * SEC;
	so.max_idle_us = 0;
	start();
	clock_gettime(CLOCK_MONOTONIC, &t0);
	pool_tick(w.pool, w.now);
	w_run(&w);
	w_pass(&w, 30 * 86400 * SEC);
	clock_gettime(CLOCK_MONOTONIC, &t1);
	ck_assert_uint_ge(w.n_dialled, 30 * 86400 / 600 - 1);
	ck_assert_uint_le(w.n_dialled, 30 * 86400 / 600 + 1);
	ck_assert_int_lt(t1.tv_sec - t0.tv_sec, 10);
	w_lease(&w, &l);
	ck_assert_int_eq(l.state, LEASE_HELD);
	w_release(&w, &l);
	finish();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool");
	TCase *t = tcase_create("brain");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, test_state_table);
	tcase_add_test(t, test_max_size_default_is_ten);
	tcase_add_test(t, test_unbounded_lifts_max_size);
	tcase_add_test(t, test_max_age_is_strict_and_spares_leased);
	tcase_add_test(t, test_max_age_jitter_spreads);
	tcase_add_test(t, test_max_idle_counts_from_return);
	tcase_add_test(t, test_cleanup_bound);
	tcase_add_test(t, test_health_check_before_lease);
	tcase_add_test(t, test_failed_health_check_tries_the_next);
	tcase_add_test(t, test_client_leaves_during_health_check);
	tcase_add_test(t, test_ready_check_on_return);
	tcase_add_test(t, test_one_dial_at_a_time_when_asked);
	tcase_add_test(t, test_waiter_is_served_by_whichever_comes_first);
	tcase_add_test(t, test_dial_of_a_client_that_left_is_banked);
	tcase_add_test(t, test_shutdown_is_idempotent_and_closes_what_returns);
	tcase_add_test_raise_signal(t, test_double_release_aborts, 6);
	tcase_add_test(t, test_cancel_after_end_is_a_no_op);
	tcase_add_test(t, test_discard_frees_the_slot);
	tcase_add_test(t, test_drain_answers_at_the_last_release);
	tcase_add_test(t, test_snapshot_is_a_copy);
	tcase_add_test(t, test_reuse_order);
	tcase_add_test(t, test_size_one_never_has_two_sockets);
	tcase_add_test(t, test_lease_timeout_ends_the_wait);
	tcase_add_test(t, test_nonblock_answers_at_once);
	tcase_add_test(t, test_connect_timeout_counts_only_the_dial);
	tcase_add_test(t, test_failed_dials_leak_no_slot);
	tcase_add_test(t, test_schedule_close);
	tcase_add_test(t, test_nothing_is_dialled_before_it_is_wanted);
	tcase_add_test(t, test_min_idle_is_kept_ready);
	tcase_add_test(t, test_budget_bounds_all_pools);
	tcase_add_test(t, test_eviction_is_lru_over_all_pools_and_waits_for_the_close);
	tcase_add_test(t, test_an_eviction_that_comes_too_late_is_passed_on);
	tcase_add_test(t, test_min_idle_is_not_evicted);
	tcase_add_test(t, test_hungry_pools_do_not_spin);
	tcase_add_test(t, test_lowered_budget_evicts_and_never_reuses_the_excess);
	tcase_add_test(t, test_lowered_budget_evicts_even_min_idle);
	tcase_add_test(t, test_budget_formula);
	tcase_add_test(t, test_budget_figures);
	tcase_add_test(t, test_waiters_are_first_come_first_served);
	tcase_add_test(t, test_max_total_evicts_within_the_pool);
	tcase_add_test(t, test_without_a_timeout_the_wait_has_no_end);
	tcase_add_test(t, test_memory_of_a_server_is_bounded);
	tcase_add_test(t, test_the_brain_runs_on_doubles);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
