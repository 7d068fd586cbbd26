/* Rotation on a clock that is a variable: canaries, re-authentication, recycling, refusals, expiry (groups A and B). */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "unit/pool_world.h"
#include "unit/rotate_model.h"

static struct world w;
static struct pool_opts po;
static struct server_opts so;

static void setup(void)
{
	po = w_pool_opts();
	po.has_credential = true;
	po.denied_keeps = po.failed_keeps = true;
	po.reauth_concurrency = 0;
	so = w_server_opts("a");
}

static void start(uint64_t *accepts)
{
	w_init(&w, &po, NULL);
	w_server_accepting(&w, &so, accepts);
}

static void finish(void)
{
	struct budget *b = w.budget;

	w_done(&w);
	budget_free(&b);
}

/* n connections that are logged in with the newest generation and idle. */
static void fill(size_t n)
{
	struct lease *l = calloc(n, sizeof(*l));
	size_t before = w_open(&w);

	for (size_t i = 0; i < n; i++)
		pool_lease(w.pool, &l[i], &l[i], w.now);
	w_run(&w);
	ck_assert_uint_eq(w_in(&w, UP_LEASED), n);
	for (size_t i = 0; i < n; i++)
		pool_release(w.pool, &l[i], RELEASE_CLEAN, ERR_OK, w.now);
	w_run(&w);
	ck_assert_uint_ge(w_open(&w), before);
	free(l);
}

static uint64_t proven(size_t i)
{
	struct server_view v;

	pool_server_view(w.pool, i, w.now, &v);
	return v.proven_gen;
}

/* How many connections are logged in with that generation. */
static size_t with_gen(uint64_t gen)
{
	static struct upstream_view v[16384];
	size_t n = pool_snapshot(w.pool, v, 16384), found = 0;

	for (size_t i = 0; i < n; i++)
		found += v[i].gen == gen && v[i].state != UP_CLOSING;
	return found;
}

/* Proves: A14 A15 C32 */
START_TEST(test_nothing_is_dialled_before_the_first_generation)
{
	struct lease l;

	so.min_idle = 2;
	start(NULL);
	pool_tick(w.pool, w.now);
	w_run(&w);
	w_lease(&w, &l);
	w_pass(&w, 5 * SEC);
	ck_assert_uint_eq(w.n_dialled, 0);
	ck_assert_uint_eq(w.n_wants, 1);
	ck_assert_uint_eq(w.wanted, 0);
	ck_assert_int_eq(pool_why(w.pool, w.now), ERR_NO_CREDENTIAL);
	w_credential(&w, 1, INT64_MAX);
	ck_assert_int_eq(l.state, LEASE_HELD);
	ck_assert_uint_eq(l.up->gen, 1);
	ck_assert_uint_eq(proven(0), 1);
	w_release(&w, &l);
	finish();
}
END_TEST

/* Proves: B5 CRED-8 */
START_TEST(test_first_login_is_a_canary_and_others_wait_for_it)
{
	struct lease l[4];

	start(NULL);
	w.auto_dial = false;
	w_credential(&w, 1, INT64_MAX);
	for (int i = 0; i < 4; i++)
		w_lease(&w, &l[i]);
	ck_assert_uint_eq(w.n_dialled, 1);
	w_dial_ok(&w, 0);
	ck_assert_uint_eq(w.n_granted, 1);
	ck_assert_uint_eq(w.n_dialled, 4); /* proven: the others in parallel */
	while (w.n_dials > 0)
		w_dial_ok(&w, 0);
	ck_assert_uint_eq(w.n_granted, 4);
	for (int i = 0; i < 4; i++)
		w_release(&w, &l[i]);
	finish();
}
END_TEST

/* Proves: B5 B17 CRED-8 */
START_TEST(test_dials_use_the_older_proven_generation_when_the_canary_is_slow)
{
	struct lease l[3];

	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	w_lease(&w, &l[0]);
	w_release(&w, &l[0]);
	w.auto_reauth = false;
	w_credential(&w, 2, INT64_MAX);
	ck_assert_uint_eq(w.n_reauths, 1);
	w.auto_dial = false;
	w_lease(&w, &l[1]);
	w_lease(&w, &l[2]);
	ck_assert_uint_eq(w.n_dials, 0); /* it will soon be known */
	w_pass(&w, 30 * MS);
	ck_assert_uint_eq(w.n_dials, 1);
	ck_assert_uint_eq(w.dials[0]->try_gen, 1);
	pool_cancel(w.pool, &l[2], ERR_CLIENT_GONE, w.now);
	w_dial_ok(&w, 0);
	ck_assert_int_eq(l[1].state, LEASE_HELD);
	ck_assert_uint_eq(l[1].up->gen, 1);
	w_reauth_end(&w, 0, ERR_OK);
	w_release(&w, &l[1]);
	w_pass(&w, 10 * MS);
	ck_assert_uint_eq(w.n_reauths, 1); /* what came back is old */
	finish();
}
END_TEST

/* Proves: A20 CRED-6 CRED-8 B7 */
START_TEST(test_denied_canary_keeps_everything_and_is_retried_with_backoff)
{
	uint64_t accepts = 1 << 1;
	struct lease l;

	start(&accepts);
	w_credential(&w, 1, INT64_MAX);
	fill(5);
	w_credential(&w, 2, INT64_MAX);
	ck_assert_uint_eq(w.n_reauthed, 1);
	ck_assert_uint_eq(w.n_wants, 1);
	ck_assert_uint_eq(w.wanted, 2);
	w_pass(&w, 99 * MS);
	ck_assert_uint_eq(w.n_reauthed, 1);
	w_pass(&w, 1 * MS);
	ck_assert_uint_eq(w.n_reauthed, 2); /* 100 ms later, then 150 ms, ... */
	w_pass(&w, 149 * MS);
	ck_assert_uint_eq(w.n_reauthed, 2);
	w_pass(&w, 1 * MS);
	ck_assert_uint_eq(w.n_reauthed, 3);
	ck_assert_uint_eq(w.n_wants, 1); /* nothing has come yet, so nobody asks again */
	ck_assert_uint_eq(w.n_closed, 0);
	w_lease(&w, &l);
	ck_assert_int_eq(l.state, LEASE_HELD);
	ck_assert_uint_eq(l.up->gen, 1);
	w_release(&w, &l);
	accepts = 1 << 2;
	w_pass(&w, 1 * SEC);
	ck_assert_uint_eq(with_gen(2), 5);
	ck_assert_uint_eq(w.n_closed, 0);
	finish();
}
END_TEST

/* Proves: A20 */
START_TEST(test_denied_canary_costs_one_connection_where_a_refusal_ends_it)
{
	uint64_t accepts = 1 << 1;

	po.denied_keeps = false;
	start(&accepts);
	w_credential(&w, 1, INT64_MAX);
	fill(5);
	w_credential(&w, 2, INT64_MAX);
	ck_assert_uint_eq(w.n_closed, 1);
	ck_assert_int_eq(w.closed_why[0], ERR_DENIED);
	ck_assert_uint_eq(with_gen(1), 4);
	w_pass(&w, 99 * MS);
	ck_assert_uint_eq(w.n_closed, 1);
	finish();
}
END_TEST

/* A server that hangs up instead of refusing must not cost all connections at once. */
/* Proves: CRED-6 CRED-8 K10 */
START_TEST(test_canary_that_is_lost_is_retried_with_backoff)
{
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	fill(5);
	w.auto_reauth = false;
	w_credential(&w, 2, INT64_MAX);
	pool_failed(w.pool, w.reauths[0], ERR_UPSTREAM_GONE, w.now);
	w_run(&w);
	ck_assert_uint_eq(w.n_reauths, 0);
	ck_assert_uint_eq(with_gen(1), 4);
	w_pass(&w, 99 * MS);
	ck_assert_uint_eq(w.n_reauths, 0);
	w_pass(&w, 1 * MS);
	ck_assert_uint_eq(w.n_reauths, 1);
	finish();
}
END_TEST

/* Proves: B17 */
START_TEST(test_denied_old_generation_retries_with_the_current_one_at_once)
{
	struct lease l;

	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	w.auto_dial = false;
	w_lease(&w, &l);
	w_credential(&w, 2, INT64_MAX);
	ck_assert_uint_eq(w.dials[0]->try_gen, 1);
	pool_connected(w.pool, w.dials[0], w.now);
	w_dial_fail(&w, 0, ERR_DENIED);
	ck_assert_uint_eq(w.n_dials, 1);
	ck_assert_uint_eq(w.dials[0]->try_gen, 2);
	ck_assert_uint_eq(w.n_wants, 0);
	w_dial_ok(&w, 0);
	ck_assert_int_eq(l.state, LEASE_HELD);
	w_release(&w, &l);
	finish();
}
END_TEST

/* The old secret is revoked before the file changes, and nothing is idle any more. */
/* Proves: B1 B6 CRED-4 CRED-6 */
START_TEST(test_refused_logins_of_many_are_one_refresh)
{
	uint64_t accepts = 1 << 1;
	struct lease l[8];

	start(&accepts);
	w_credential(&w, 1, INT64_MAX);
	fill(1);
	server_close_needed(w.pool, pool_server_at(w.pool, 0), ERR_RESET, w.now);
	w_run(&w);
	accepts = 1 << 2;
	w.n_dialled = 0;
	for (int i = 0; i < 8; i++)
		w_lease(&w, &l[i]);
	ck_assert_uint_eq(w.n_wants, 1);
	ck_assert_uint_le(w.n_dialled, 4); /* those under way together */
	ck_assert_uint_eq(w.n_refused, 0);
	w_credential(&w, 2, INT64_MAX);
	ck_assert_uint_eq(w.n_granted - 1, 8);
	for (int i = 0; i < 8; i++)
		w_release(&w, &l[i]);
	finish();
}
END_TEST

/* Proves: A4 A21 */
START_TEST(test_idle_connections_log_in_again_at_once_spread)
{
	po.reauth_spread_us = 2 * SEC;
	so.max_size = 100;
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	fill(100);
	w_credential(&w, 2, INT64_MAX);
	ck_assert_uint_ge(with_gen(2), 1);
	ck_assert_uint_le(with_gen(2), 3);
	ck_assert(!pool_is_rotated(w.pool));
	w_pass(&w, 1 * SEC);
	ck_assert_uint_ge(with_gen(2), 30);
	ck_assert_uint_le(with_gen(2), 70);
	w_pass(&w, 2 * SEC);
	ck_assert_uint_eq(with_gen(2), 100);
	ck_assert(pool_is_rotated(w.pool));
	ck_assert_uint_eq(w.n_reauthed, 100);
	finish();
}
END_TEST

/* Proves: A10 CRED-2 */
START_TEST(test_reauth_concurrency_bounds_logins)
{
	size_t done = 0;

	po.reauth_concurrency = 2;
	so.max_size = 20;
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	fill(20);
	w.auto_reauth = false;
	w_credential(&w, 2, INT64_MAX);
	ck_assert_uint_eq(w.n_reauths, 1);
	while (w.n_reauths > 0) {
		ck_assert_uint_le(w.n_reauths, 2);
		ck_assert_uint_eq(w.n_reauths, done == 0 || done == 19 ? 1 : 2);
		w_reauth_end(&w, 0, ERR_OK);
		done++;
	}
	ck_assert_uint_eq(done, 20);
	finish();
}
END_TEST

/* Proves: A12 */
START_TEST(test_latest_generation_wins)
{
	struct lease l;

	start(NULL);
	w_credential(&w, 4, INT64_MAX);
	w_lease(&w, &l);
	w_credential(&w, 5, INT64_MAX);
	w_credential(&w, 6, INT64_MAX);
	w_credential(&w, 5, INT64_MAX); /* late news */
	w_release(&w, &l);
	ck_assert_uint_eq(w.n_reauthed, 1);
	ck_assert_uint_eq(with_gen(6), 1);
	finish();
}
END_TEST

/* Proves: A12 */
START_TEST(test_generation_that_comes_during_a_login_is_next)
{
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	fill(1);
	w.auto_reauth = false;
	w_credential(&w, 2, INT64_MAX);
	w_credential(&w, 3, INT64_MAX);
	ck_assert_uint_eq(w.n_reauths, 1); /* one at a time */
	ck_assert_uint_eq(w.reauths[0]->try_gen, 2);
	ck_assert(pool_needs_gen(w.pool, 2));
	w_reauth_end(&w, 0, ERR_OK);
	ck_assert_uint_eq(w.reauths[0]->try_gen, 3);
	w_reauth_end(&w, 0, ERR_OK);
	ck_assert_uint_eq(w.n_reauthed, 2);
	ck_assert_uint_eq(with_gen(3), 1);
	ck_assert(!pool_needs_gen(w.pool, 2));
	finish();
}
END_TEST

/* Proves: A13 A14 CRED-7 */
START_TEST(test_connection_in_reauth_is_not_lent_and_another_is)
{
	struct lease l[2];

	po.reauth_spread_us = 100 * SEC;
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	fill(3);
	w.auto_reauth = false;
	w_credential(&w, 2, INT64_MAX);
	w_reauth_end(&w, 0, ERR_OK); /* one is proven, one more is on its way, one has yet to begin */
	ck_assert_uint_eq(w.n_reauths, 1);
	w_lease(&w, &l[0]);
	ck_assert_int_eq(l[0].state, LEASE_HELD);
	ck_assert_uint_eq(l[0].up->gen, 2);
	w_lease(&w, &l[1]); /* waits for the one under way */
	ck_assert_int_eq(l[1].state, LEASE_WAITING);
	ck_assert_uint_eq(w.n_dialled, 3);
	w_reauth_end(&w, 0, ERR_OK);
	ck_assert_int_eq(l[1].state, LEASE_HELD);
	ck_assert_uint_eq(l[1].up->gen, 2);
	w_release(&w, &l[0]);
	w_release(&w, &l[1]);
	finish();
}
END_TEST

/* Proves: A14 */
START_TEST(test_fresh_connection_is_taken_before_a_stale_one)
{
	struct lease a, b;

	po.reauth_spread_us = 100 * SEC;
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	fill(2);
	w_lease(&w, &a);
	w_credential(&w, 2, INT64_MAX);
	w.auto_reauth = false;
	w_release(&w, &a); /* used last, so first in the order of reuse */
	w_lease(&w, &b);
	ck_assert_int_eq(b.state, LEASE_HELD);
	ck_assert_uint_eq(b.up->gen, 2);
	ck_assert_uint_eq(w.n_reauths, 0);
	w_release(&w, &b);
	finish();
}
END_TEST

/* Proves: A14 */
START_TEST(test_waiter_makes_a_stale_connection_take_its_turn_early)
{
	struct lease l[2];

	po.reauth_spread_us = 100 * SEC;
	so.max_size = 2;
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	w_lease(&w, &l[0]);
	w_lease(&w, &l[1]);
	w_release(&w, &l[0]);
	w_credential(&w, 2, INT64_MAX);
	w_release(&w, &l[1]);
	ck_assert_uint_eq(with_gen(2), 1);
	w_lease(&w, &l[0]);
	w_lease(&w, &l[1]); /* spread or not */
	ck_assert_int_eq(l[1].state, LEASE_HELD);
	ck_assert_uint_eq(l[1].up->gen, 2);
	w_release(&w, &l[0]);
	w_release(&w, &l[1]);
	finish();
}
END_TEST

/* Proves: A15 A16 CRED-1 CRED-7 */
START_TEST(test_returned_connection_logs_in_before_it_is_lent_again)
{
	struct lease a, b;

	so.max_size = 1;
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	w_lease(&w, &a);
	w_credential(&w, 2, INT64_MAX);
	ck_assert_uint_eq(w.n_reauthed, 0);
	w.auto_reauth = false;
	w_lease(&w, &b);
	w_release(&w, &a);
	ck_assert_int_eq(b.state, LEASE_WAITING);
	ck_assert_uint_eq(w.n_reauths, 1);
	w_reauth_end(&w, 0, ERR_OK);
	ck_assert_int_eq(b.state, LEASE_HELD);
	ck_assert_uint_eq(b.up->gen, 2);
	ck_assert_uint_eq(w.n_closed, 0);
	w_release(&w, &b);
	finish();
}
END_TEST

/* A pool whose connections are never idle while somebody waits. */
/* Proves: A6 CRED-1 */
START_TEST(test_busy_pool_rotates_all_the_same)
{
	struct lease l[3];

	so.max_size = 1;
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	for (int i = 0; i < 3; i++)
		w_lease(&w, &l[i]);
	w_credential(&w, 2, INT64_MAX);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(l[i].state, LEASE_HELD);
		ck_assert_uint_eq(l[i].up->gen, i == 0 ? 1 : 2);
		w_release(&w, &l[i]);
	}
	ck_assert_uint_eq(w.n_dialled, 1);
	finish();
}
END_TEST

/* go-redis#4027: the worker waited for a connection to become idle that already was, until the time-out closed it. */
/* Proves: A22 A17 */
START_TEST(test_go_redis_4027_an_idle_connection_does_not_miss_its_wake_up)
{
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	fill(1);
	w_pass(&w, 10 * SEC);
	w_credential(&w, 2, INT64_MAX);
	ck_assert_uint_eq(with_gen(2), 1); /* without a tick and without a lease */
	ck_assert_int_gt(pool_next_us(w.pool), w.now);
	w_pass(&w, 60 * SEC);
	ck_assert_uint_eq(w.n_closed, 0);
	finish();
}
END_TEST

/* go-redis#3772: closed connections left their listeners behind. */
/* Proves: A2 A3 A5 A9 A18 */
START_TEST(test_go_redis_3772_a_million_connections_leave_no_entry)
{
	struct server_view v;
	uint64_t gen = 1;
	struct lease l;

	po.reauth_interval_us = 100 * SEC;
	start(NULL);
	w_credential(&w, gen, INT64_MAX);
	w_lease(&w, &l);
	w_release(&w, &l);
	for (int i = 0; i < 1000000; i++) {
		pool_lease(w.pool, &l, &l, w.now);
		if (i % 16 == 0)
			pool_credential(w.pool, ++gen, INT64_MAX, w.now);
		w_run(&w);
		pool_release(w.pool, &l, i % 4 == 3 ? RELEASE_CLEAN : RELEASE_CLOSE, ERR_RESET, w.now);
		w_run(&w);
	}
	ck_assert_uint_ge(w.n_dialled, 700000);
	server_close_needed(w.pool, pool_server_at(w.pool, 0), ERR_RESET, w.now);
	w_run(&w);
	pool_server_view(w.pool, 0, w.now, &v);
	ck_assert_uint_eq(v.stale, 0);
	ck_assert_uint_eq(w_open(&w), 0);
	ck_assert_int_eq(pool_next_us(w.pool), INT64_MAX);
	ck_assert(pool_is_rotated(w.pool));
	finish();
}
END_TEST

/* Proves: A17 */
START_TEST(test_reauth_times_out)
{
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	fill(2);
	w.auto_reauth = false;
	w_credential(&w, 2, INT64_MAX);
	w_pass(&w, 5 * SEC - 1);
	ck_assert_uint_eq(w.n_closed, 0);
	w_pass(&w, 1);
	ck_assert_uint_eq(w.n_closed, 1);
	ck_assert_int_eq(w.closed_why[0], ERR_REAUTH_TIMEOUT);
	ck_assert_uint_eq(w.n_reauths, 0);
	w_pass(&w, 100 * MS);
	ck_assert_uint_eq(w.n_reauths, 1); /* the other one's turn */
	finish();
}
END_TEST

/* The server answers at once, neither yes nor no: the pool must not ask as fast as that. */
/* Proves: A17 A20 CRED-6 */
START_TEST(test_failed_reauth_is_not_repeated_at_once)
{
	struct lease l[2];

	so.max_size = 2;
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	fill(2);
	w.auto_reauth = false;
	w_credential(&w, 2, INT64_MAX);
	w_reauth_end(&w, 0, ERR_OK);
	w_reauth_end(&w, 0, ERR_REAUTH_FAILED);
	ck_assert_uint_eq(w.n_reauths, 0);
	w_lease(&w, &l[0]);
	w_lease(&w, &l[1]);
	ck_assert_int_eq(l[1].state, LEASE_WAITING); /* CRED-1: not on the old one */
	ck_assert_uint_eq(w.n_reauths, 0);
	w_pass(&w, 100 * MS);
	ck_assert_uint_eq(w.n_reauths, 1);
	w_reauth_end(&w, 0, ERR_OK);
	ck_assert_int_eq(l[1].state, LEASE_HELD);
	w_release(&w, &l[0]);
	w_release(&w, &l[1]);
	ck_assert_uint_eq(w.n_closed, 0);
	finish();
}
END_TEST

/* Proves: A20 */
START_TEST(test_failed_reauth_closes_where_it_does_not_keep)
{
	po.failed_keeps = false;
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	fill(1);
	w.auto_reauth = false;
	w_credential(&w, 2, INT64_MAX);
	w_reauth_end(&w, 0, ERR_REAUTH_FAILED);
	ck_assert_uint_eq(w.n_closed, 1);
	ck_assert_int_eq(w.closed_why[0], ERR_REAUTH_FAILED);
	finish();
}
END_TEST

/* ---- leased ones ---- */

/* Proves: A16 CRED-2 */
START_TEST(test_held_leases_log_in_between_requests_and_are_reminded)
{
	struct lease l[3];
	size_t told;

	po.reauth_concurrency = 1;
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	for (int i = 0; i < 3; i++)
		w_lease(&w, &l[i]);
	ck_assert(!pool_reauth_begin(w.pool, l[0].up, w.now)); /* not due */
	w_credential(&w, 2, INT64_MAX);
	ck_assert_uint_eq(w.n_told, 1);
	w_pass(&w, 10 * MS);
	ck_assert_uint_eq(w.n_told, 2); /* nobody has begun: the next one is asked */
	ck_assert(pool_reauth_begin(w.pool, l[1].up, w.now));
	ck_assert_uint_eq(l[1].up->try_gen, 2);
	ck_assert(!pool_reauth_begin(w.pool, l[1].up, w.now)); /* once is enough */
	ck_assert(!pool_reauth_begin(w.pool, l[0].up, w.now)); /* the canary is out */
	pool_reauthed(w.pool, l[1].up, ERR_OK, w.now);
	w_run(&w);
	ck_assert_uint_eq(l[1].up->gen, 2);
	ck_assert_uint_eq(proven(0), 2);
	ck_assert(pool_reauth_begin(w.pool, l[0].up, w.now));
	ck_assert(!pool_reauth_begin(w.pool, l[2].up, w.now)); /* one at a time */
	pool_reauthed(w.pool, l[0].up, ERR_OK, w.now);
	told = w.n_told;
	w_run(&w);
	w_pass(&w, 50 * MS);
	ck_assert_uint_ge(w.n_told, told + 4);
	ck_assert_ptr_eq(w.told[(w.n_told - 1) % W_MAX], l[2].up);
	w_release(&w, &l[2]);
	w_pass(&w, 10 * MS);
	ck_assert_uint_eq(with_gen(2), 3);
	told = w.n_told;
	w_pass(&w, 50 * MS);
	ck_assert_uint_eq(w.n_told, told);
	w_release(&w, &l[0]);
	w_release(&w, &l[1]);
	finish();
}
END_TEST

/* Proves: CRED-6 CRED-8 */
START_TEST(test_held_lease_does_not_try_what_was_just_refused)
{
	uint64_t accepts = 1 << 1;
	struct lease l[2];

	start(&accepts);
	w_credential(&w, 1, INT64_MAX);
	w_lease(&w, &l[0]);
	w_lease(&w, &l[1]);
	w_release(&w, &l[1]);
	w_credential(&w, 2, INT64_MAX); /* the idle one is the canary, and is refused */
	ck_assert_uint_eq(w.n_reauthed, 1);
	ck_assert(!pool_reauth_begin(w.pool, l[0].up, w.now));
	w.auto_reauth = false;
	w_pass(&w, 100 * MS);
	ck_assert_uint_eq(w.n_reauths, 1);
	w_reauth_end(&w, 0, ERR_DENIED);
	ck_assert(!pool_reauth_begin(w.pool, l[0].up, w.now));
	ck_assert_int_eq(l[0].up->close_needed, ERR_OK);
	w_release(&w, &l[0]);
	finish();
}
END_TEST

/* Proves: A16 CRED-8 */
START_TEST(test_refused_held_lease_goes_on)
{
	struct lease l;

	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	w_lease(&w, &l);
	w_credential(&w, 2, INT64_MAX);
	ck_assert(pool_reauth_begin(w.pool, l.up, w.now));
	pool_reauthed(w.pool, l.up, ERR_DENIED, w.now);
	w_run(&w);
	ck_assert_uint_eq(w.n_wants, 1);
	ck_assert_int_eq(l.up->close_needed, ERR_OK);
	ck_assert(!pool_reauth_begin(w.pool, l.up, w.now));
	w_pass(&w, 100 * MS);
	ck_assert(pool_reauth_begin(w.pool, l.up, w.now));
	pool_reauthed(w.pool, l.up, ERR_UPSTREAM_GONE, w.now);
	w_run(&w);
	ck_assert_int_eq(l.up->close_needed, ERR_UPSTREAM_GONE);
	w_release(&w, &l);
	ck_assert_uint_eq(w_open(&w), 0);
	finish();
}
END_TEST

/* A server that never answers a held lease's login must not stop the rotation of all others. */
/* Proves: A17 CRED-2 */
START_TEST(test_held_login_that_hangs_counts_as_failed)
{
	struct lease l;
	uint64_t answered;

	po.reauth_concurrency = 1;
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	fill(2);
	w_lease(&w, &l);
	w.auto_reauth = false;
	w_credential(&w, 2, INT64_MAX);
	w_reauth_end(&w, 0, ERR_OK);
	ck_assert(pool_reauth_begin(w.pool, l.up, w.now));
	w_credential(&w, 3, INT64_MAX);
	w_pass(&w, 5 * SEC - 1);
	ck_assert_uint_eq(w.n_reauths, 0);
	w_pass(&w, 1);
	ck_assert_uint_eq(w.n_reauths, 1);
	ck_assert_int_eq(l.up->close_needed, ERR_REAUTH_TIMEOUT);
	answered = pool_stat(w.pool)->reauth[ERR_OK];
	pool_reauthed(w.pool, l.up, ERR_OK, w.now); /* too late: nobody waits for it */
	w_run(&w);
	ck_assert_uint_eq(pool_stat(w.pool)->reauth[ERR_OK], answered);
	ck_assert_uint_eq(l.up->gen, 1);
	w_release(&w, &l);
	ck_assert_uint_eq(w.n_closed, 1);
	finish();
}
END_TEST

/* Proves: CRED-7 */
START_TEST(test_lease_given_back_in_the_middle_of_a_login_closes)
{
	struct lease l;

	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	w_lease(&w, &l);
	w_credential(&w, 2, INT64_MAX);
	ck_assert(pool_reauth_begin(w.pool, l.up, w.now));
	w_release(&w, &l);
	ck_assert_int_eq(w.closed_why[0], ERR_DIRTY);
	w_lease(&w, &l); /* the next canary is for later: the account may have seen a refusal */
	ck_assert_int_eq(l.state, LEASE_HELD);
	ck_assert_uint_eq(l.up->gen, 1);
	w_pass(&w, 100 * MS);
	ck_assert(pool_reauth_begin(w.pool, l.up, w.now));
	w_release(&w, &l);
	finish();
}
END_TEST

/* ---- recycle and keep ---- */

/* Proves: B13 CRED-1 */
START_TEST(test_recycle_replaces_one_by_one)
{
	po.cred_change = CRED_CHANGE_RECYCLE;
	po.reauth_spread_us = 1 * SEC;
	so.max_size = 20;
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	fill(10);
	w_credential(&w, 2, INT64_MAX);
	ck_assert_uint_eq(with_gen(2), 2); /* the canary, and the first replacement */
	ck_assert_uint_eq(with_gen(1), 9);
	w_pass(&w, 2 * SEC);
	ck_assert_uint_eq(with_gen(1), 0);
	ck_assert_uint_eq(with_gen(2), 11);
	ck_assert_uint_eq(w.n_reauthed, 0);
	ck_assert(pool_is_rotated(w.pool));
	finish();
}
END_TEST

/* Proves: CRED-1 */
START_TEST(test_recycle_is_no_reason_to_close_all_at_a_lease)
{
	struct lease l;

	po.cred_change = CRED_CHANGE_RECYCLE;
	po.reauth_spread_us = 1000 * SEC;
	so.max_size = 20;
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	fill(10);
	w_credential(&w, 2, INT64_MAX);
	w_lease(&w, &l);
	ck_assert_uint_eq(l.up->gen, 2);
	ck_assert_uint_ge(with_gen(1), 8);
	w_release(&w, &l);
	finish();
}
END_TEST

/* Proves: CRED-1 */
START_TEST(test_recycle_makes_room_for_one_that_waits)
{
	struct lease l[3];

	po.cred_change = CRED_CHANGE_RECYCLE;
	po.reauth_spread_us = 1000 * SEC;
	so.max_size = 4;
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	fill(4);
	w_credential(&w, 2, INT64_MAX);
	ck_assert_uint_eq(with_gen(1), 2); /* one for the canary, one in its turn */
	for (int i = 0; i < 3; i++) {
		w_lease(&w, &l[i]);
		ck_assert_int_eq(l[i].state, LEASE_HELD);
		ck_assert_uint_eq(l[i].up->gen, 2);
	}
	ck_assert_uint_eq(with_gen(1), 1);
	for (int i = 0; i < 3; i++)
		w_release(&w, &l[i]);
	finish();
}
END_TEST

/* Proves: CRED-1 */
START_TEST(test_recycle_spares_nothing_that_was_in_passing)
{
	struct lease l[3];
	struct upstream *checked[2];

	po.cred_change = CRED_CHANGE_RECYCLE;
	po.reauth_spread_us = 1000 * SEC;
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	for (int i = 0; i < 3; i++)
		w_lease(&w, &l[i]);
	for (int i = 0; i < 2; i++) {
		checked[i] = l[i].up;
		w_release_how(&w, &l[i], RELEASE_CHECK);
	}
	w_credential(&w, 2, INT64_MAX);
	ck_assert_uint_eq(proven(0), 2);
	for (int i = 0; i < 2; i++) {
		pool_cleaned(w.pool, checked[i], ERR_OK, w.now);
		w_run(&w);
	}
	ck_assert_uint_eq(with_gen(1), 1); /* at once, not in their turn */
	w_release(&w, &l[2]);
	ck_assert_uint_eq(with_gen(1), 0);
	finish();
}
END_TEST

/* Proves: C32 CRED-1 */
START_TEST(test_recycle_of_size_one)
{
	struct lease l[2];

	po.cred_change = CRED_CHANGE_RECYCLE;
	so.max_size = 1;
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	w_lease(&w, &l[0]);
	w_lease(&w, &l[1]);
	w_credential(&w, 2, INT64_MAX);
	ck_assert_uint_eq(with_gen(1), 1); /* in use */
	w.keep_closing = true;
	w_release(&w, &l[0]);
	ck_assert_uint_eq(w_open(&w), 1);
	w_close_all(&w);
	ck_assert_int_eq(l[1].state, LEASE_HELD); /* though it was busy all the time */
	ck_assert_uint_eq(l[1].up->gen, 2);
	w_release(&w, &l[1]);
	finish();
}
END_TEST

/* Proves: C32 CRED-8 */
START_TEST(test_recycle_of_size_one_goes_back_when_refused)
{
	uint64_t accepts = 1 << 1;
	struct lease l;

	po.cred_change = CRED_CHANGE_RECYCLE;
	so.max_size = 1;
	start(&accepts);
	w_credential(&w, 1, INT64_MAX);
	fill(1);
	w_credential(&w, 2, INT64_MAX);
	w_lease(&w, &l);
	ck_assert_int_eq(l.state, LEASE_HELD);
	ck_assert_uint_eq(l.up->gen, 1);
	ck_assert_uint_eq(w.n_dialled, 3);
	w_release(&w, &l);
	finish();
}
END_TEST

/* One that came back before the proof is not forgotten behind one that is still in use. */
/* Proves: CRED-1 */
START_TEST(test_recycle_finds_the_idle_among_the_leased)
{
	struct lease l[2];

	po.cred_change = CRED_CHANGE_RECYCLE;
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	w_lease(&w, &l[0]);
	w_lease(&w, &l[1]);
	w.auto_dial = false;
	w_credential(&w, 2, INT64_MAX);
	ck_assert_uint_eq(w.n_dials, 1);
	w_release(&w, &l[1]);
	w_dial_ok(&w, 0);
	ck_assert_uint_eq(with_gen(1), 1);
	ck_assert_uint_eq(w_in(&w, UP_LEASED), 1);
	w_release(&w, &l[0]);
	ck_assert_uint_eq(with_gen(1), 0);
	finish();
}
END_TEST

/* Proves: CRED-1 */
START_TEST(test_recycle_closes_leased_ones_on_return)
{
	struct lease l[2];

	po.cred_change = CRED_CHANGE_RECYCLE;
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	w_lease(&w, &l[0]);
	w_lease(&w, &l[1]);
	w_credential(&w, 2, INT64_MAX);
	ck_assert_uint_eq(proven(0), 2);
	ck_assert_int_eq(l[0].up->close_needed, ERR_RECYCLED);
	w_release(&w, &l[0]);
	ck_assert(!pool_is_rotated(w.pool));
	w_release(&w, &l[1]);
	ck_assert_uint_eq(with_gen(1), 0);
	ck_assert(pool_is_rotated(w.pool));
	finish();
}
END_TEST

/* Proves: B13 */
START_TEST(test_keep_goes_on_with_old_connections)
{
	struct lease l[3];

	po.cred_change = CRED_CHANGE_KEEP;
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	fill(2);
	w_credential(&w, 2, INT64_MAX);
	ck_assert_uint_eq(w.n_dialled, 2);
	for (int i = 0; i < 3; i++)
		w_lease(&w, &l[i]);
	ck_assert_uint_eq(l[0].up->gen, 1);
	ck_assert_uint_eq(l[1].up->gen, 1);
	ck_assert_uint_eq(l[2].up->gen, 2);
	ck_assert(!pool_is_rotated(w.pool)); /* some use the older one */
	ck_assert(!pool_reauth_begin(w.pool, l[0].up, w.now));
	for (int i = 0; i < 3; i++)
		w_release(&w, &l[i]);
	ck_assert_uint_eq(w.n_closed + w.n_reauthed, 0);
	w_pass(&w, 301 * SEC);
	ck_assert(pool_is_rotated(w.pool));
	finish();
}
END_TEST

/* ---- time ---- */

/* Proves: CRED-9 */
START_TEST(test_expired_generation_is_not_used)
{
	struct lease l[3];

	so.max_idle_us = so.max_age_us = 0;
	start(NULL);
	w_credential(&w, 1, w.now + 10 * SEC);
	w_lease(&w, &l[0]);
	w_lease(&w, &l[1]);
	w_release(&w, &l[1]);
	w_pass(&w, 10 * SEC - 1);
	ck_assert_uint_eq(w_in(&w, UP_IDLE), 1);
	w_pass(&w, 1);
	ck_assert_uint_eq(w_in(&w, UP_IDLE), 0);
	ck_assert_int_eq(w.closed_why[0], ERR_EXPIRED);
	w_lease(&w, &l[1]);
	ck_assert_int_eq(l[1].state, LEASE_WAITING);
	ck_assert_uint_eq(w.n_dialled, 2);
	ck_assert_uint_eq(w.n_wants, 1);
	w_release(&w, &l[0]);
	ck_assert_int_eq(pool_why(w.pool, w.now), ERR_EXPIRED);
	ck_assert_int_eq(w.closed_why[1], ERR_EXPIRED);
	ck_assert_uint_eq(w_open(&w), 0);
	w_credential(&w, 2, INT64_MAX);
	ck_assert_int_eq(l[1].state, LEASE_HELD);
	w_release(&w, &l[1]);
	finish();
}
END_TEST

/* Proves: CRED-9 */
START_TEST(test_nothing_logs_in_again_with_an_expired_generation)
{
	struct lease l;

	po.reauth_spread_us = 100 * SEC;
	so.max_idle_us = so.max_age_us = 0;
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	fill(3);
	w_credential(&w, 2, w.now + 1 * SEC);
	w_lease(&w, &l);
	w_pass(&w, 1 * SEC);
	w.n_reauthed = 0;
	w_pass(&w, 200 * SEC);
	ck_assert_uint_eq(w.n_reauthed, 0);
	ck_assert(!pool_reauth_begin(w.pool, l.up, w.now));
	w_release(&w, &l);
	finish();
}
END_TEST

/* A source that says at once that it has nothing newer must not be asked as fast as it answers. */
/* Proves: CRED-5 CRED-9 */
START_TEST(test_want_and_no_do_not_chase_each_other)
{
	so.min_idle = 2;
	start(NULL);
	pool_tick(w.pool, w.now);
	w_run(&w);
	for (int i = 0; i < 100; i++) {
		w_no_newer(&w, false);
		w_pass(&w, 9 * MS);
	}
	ck_assert_uint_eq(w.n_wants, 1);
	w_pass(&w, 1 * SEC);
	ck_assert_uint_eq(w.n_wants, 2);
	w_credential(&w, 1, w.now + 1 * SEC);
	w_pass(&w, 2 * SEC);
	ck_assert_uint_eq(w.n_wants, 3); /* expired */
	w_no_newer(&w, true);
	w_pass(&w, 600 * SEC);
	pool_tick(w.pool, w.now);
	w_run(&w);
	ck_assert_uint_eq(w.n_wants, 3);
	finish();
}
END_TEST

/* Proves: A23 */
START_TEST(test_reauth_interval)
{
	struct lease l;

	po.reauth_interval_us = 60 * SEC;
	so.max_idle_us = so.max_age_us = 0;
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	fill(3);
	w_lease(&w, &l);
	w_pass(&w, 60 * SEC - 1);
	ck_assert_uint_eq(w.n_reauthed + w.n_told, 0);
	w_pass(&w, 1);
	ck_assert_uint_eq(w.n_reauthed, 2);
	ck_assert_uint_eq(w.n_told, 1);
	ck_assert(pool_reauth_begin(w.pool, l.up, w.now));
	pool_reauthed(w.pool, l.up, ERR_OK, w.now);
	w_run(&w);
	w_pass(&w, 59 * SEC);
	ck_assert_uint_eq(w.n_reauthed, 2);
	w_pass(&w, 1 * SEC);
	ck_assert_uint_eq(w.n_reauthed, 4);
	w_release(&w, &l); /* its own turn: it had been told again */
	w_pass(&w, 10 * MS);
	ck_assert_uint_eq(w.n_reauthed, 5);
	ck_assert_uint_eq(w.n_closed, 0);
	finish();
}
END_TEST

/* Proves: A23 */
START_TEST(test_reauth_interval_recycles_what_cannot_log_in_again)
{
	struct lease l, other, next;

	so.max_size = 2;

	po.cred_change = CRED_CHANGE_RECYCLE;
	po.reauth_interval_us = 60 * SEC;
	so.max_idle_us = so.max_age_us = 0;
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	fill(2);
	w_lease(&w, &l);
	w_pass(&w, 60 * SEC);
	ck_assert_uint_eq(w.n_closed, 1);
	ck_assert_uint_eq(w.n_dialled, 2); /* there was no room for another */
	w_lease(&w, &other);
	w_lease(&w, &next);
	w_release(&w, &l); /* too old for the one that waits */
	ck_assert_int_eq(next.state, LEASE_HELD);
	ck_assert_uint_eq(w.n_dialled, 4);
	ck_assert_uint_eq(w.n_reauthed + w.n_told, 0);
	ck_assert_uint_eq(w.n_closed, 2);
	ck_assert_int_eq(w.closed_why[0], ERR_RECYCLED);
	ck_assert_int_eq(w.closed_why[1], ERR_RECYCLED);
	w_release(&w, &other);
	w_release(&w, &next);
	finish();
}
END_TEST

/* Connections that log in again are still there. */
/* Proves: A21 C6 */
START_TEST(test_rotation_dials_nothing_for_min_idle)
{
	so.min_idle = 4;
	so.max_size = 20;
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	ck_assert_uint_eq(w_in(&w, UP_IDLE), 4);
	w.auto_reauth = false;
	w_credential(&w, 2, INT64_MAX);
	while (w.n_reauths > 0)
		w_reauth_end(&w, 0, ERR_OK);
	ck_assert_uint_eq(w.n_reauthed, 4);
	ck_assert_uint_eq(w.n_dialled, 4);
	finish();
}
END_TEST

/* ---- refusal ---- */

/* Proves: B7 B8 K11 */
START_TEST(test_lease_sees_a_few_refreshes_then_the_servers_error)
{
	uint64_t accepts = 0;
	struct server_view v;
	struct lease l;

	po.refresh_max_attempts = 2;
	start(&accepts);
	w_credential(&w, 1, INT64_MAX);
	w_lease(&w, &l);
	pool_server_view(w.pool, 0, w.now, &v);
	ck_assert_int_eq(v.last_error, ERR_DENIED);
	ck_assert_int_eq(v.retry_in_us, 100 * MS);
	ck_assert_uint_eq(w.n_wants, 1);
	w_no_newer(&w, false);
	ck_assert_int_eq(l.state, LEASE_WAITING);
	w_pass(&w, 100 * MS); /* the next try, refused again */
	ck_assert_uint_eq(w.n_wants, 2);
	w_no_newer(&w, false);
	ck_assert_uint_eq(w.n_refused, 1);
	ck_assert_int_eq(w.refused_why[0], ERR_DENIED);
	ck_assert_uint_eq(w.n_dialled, 2);
	finish();
}
END_TEST

/* Proves: B8 K11 */
START_TEST(test_final_refusal_ends_the_wait_at_once)
{
	uint64_t accepts = 0;
	struct lease l;

	start(&accepts);
	w_credential(&w, 1, INT64_MAX);
	w_lease(&w, &l);
	w_no_newer(&w, true);
	ck_assert_uint_eq(w.n_refused, 1);
	ck_assert_int_eq(w.refused_why[0], ERR_DENIED);
	w_lease(&w, &l); /* the account is not asked again so soon */
	ck_assert_uint_eq(w.n_refused, 2);
	ck_assert_uint_eq(w.n_dialled, 1);
	w_pass(&w, 100 * MS);
	accepts = 1 << 1; /* the server has changed its mind */
	w_lease(&w, &l);
	ck_assert_int_eq(l.state, LEASE_HELD);
	ck_assert_uint_eq(w.n_wants, 1);
	w_release(&w, &l);
	finish();
}
END_TEST

/* Proves: B8 */
START_TEST(test_without_any_credential_the_wait_ends_too)
{
	struct lease l;

	po.refresh_max_attempts = 1;
	start(NULL);
	w_lease(&w, &l);
	w_no_newer(&w, false);
	ck_assert_int_eq(w.refused_why[0], ERR_NO_CREDENTIAL);
	w_lease(&w, &l);
	ck_assert_int_eq(l.state, LEASE_WAITING);
	w_pass(&w, 1 * SEC);
	w_no_newer(&w, true);
	ck_assert_uint_eq(w.n_refused, 2);
	w_lease(&w, &l);
	ck_assert_uint_eq(w.n_refused, 3);
	finish();
}
END_TEST

/* Proves: B13 CRED-8 */
START_TEST(test_waiters_of_a_living_older_connection_are_not_refused)
{
	uint64_t accepts = 1 << 1;
	struct lease a, b;

	so.max_size = 1;
	start(&accepts);
	w_credential(&w, 1, INT64_MAX);
	w_lease(&w, &a);
	accepts = 0;
	w_lease(&w, &b);
	w_credential(&w, 2, INT64_MAX);
	w_pass(&w, 1 * SEC);
	ck_assert(pool_reauth_begin(w.pool, a.up, w.now));
	pool_reauthed(w.pool, a.up, ERR_DENIED, w.now);
	w_run(&w);
	w_no_newer(&w, true);
	ck_assert_uint_eq(w.n_refused, 0);
	w_release(&w, &a);
	ck_assert_int_eq(b.state, LEASE_HELD);
	ck_assert_uint_eq(b.up->gen, 1);
	w_release(&w, &b);
	finish();
}
END_TEST

/* Proves: CRED-8 */
START_TEST(test_servers_differ)
{
	uint64_t a = 6, b = 2; /* b has not heard of generation 2 yet */
	struct lease l[4];

	so.max_size = 2;
	start(&a);
	so.name = "b";
	w_server_accepting(&w, &so, &b);
	w_credential(&w, 1, INT64_MAX);
	fill(4);
	w_credential(&w, 2, INT64_MAX);
	ck_assert_uint_eq(proven(0), 2);
	ck_assert_uint_eq(proven(1), 1);
	ck_assert(!pool_is_rotated(w.pool));
	for (int i = 0; i < 4; i++) {
		w_lease(&w, &l[i]);
		ck_assert_uint_eq(l[i].up->gen, *w_server_of(&l[i]) == 'a' ? 2 : 1);
	}
	ck_assert_uint_eq(with_gen(1), 2);
	ck_assert(pool_needs_gen(w.pool, 1));
	for (int i = 0; i < 4; i++)
		w_release(&w, &l[i]);
	b = 4;
	w_pass(&w, 5 * SEC);
	ck_assert_uint_eq(with_gen(2), 4);
	ck_assert(pool_is_rotated(w.pool));
	ck_assert(!pool_needs_gen(w.pool, 1));
	finish();
}
END_TEST

/* Proves: CRED-1 */
START_TEST(test_rotated_means_everywhere)
{
	struct server *b;

	start(NULL);
	so.name = "b";
	b = w_server(&w, &so);
	w_credential(&w, 1, INT64_MAX);
	ck_assert(!pool_is_rotated(w.pool));
	server_set_dialable(w.pool, b, false, w.now);
	fill(2);
	ck_assert(pool_is_rotated(w.pool)); /* a server without an address has nothing to accept */
	w.auto_reauth = false;
	w_credential(&w, 2, INT64_MAX);
	ck_assert_uint_eq(w.n_reauths, 1);
	ck_assert(!pool_is_rotated(w.pool));
	w_reauth_end(&w, 0, ERR_OK);
	ck_assert_uint_eq(w.n_reauths, 1); /* proven, and none waits for its turn; but one is on its way */
	ck_assert(!pool_is_rotated(w.pool));
	w_reauth_end(&w, 0, ERR_OK);
	ck_assert(pool_is_rotated(w.pool));
	finish();
}
END_TEST

/* Proves: A4 */
START_TEST(test_publishing_to_ten_thousand_connections_is_quick)
{
	struct timespec t0, t1;
	int64_t worst = 0;

	po.reauth_spread_us = 2 * SEC;
	so.unbounded = true;
	start(NULL);
	w_credential(&w, 1, INT64_MAX);
	fill(10000);
	for (uint64_t gen = 2; gen < 7; gen++) {
		int64_t took;

		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t0);
		pool_credential(w.pool, gen, INT64_MAX, w.now);
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t1);
		took = (t1.tv_sec - t0.tv_sec) * SEC + (t1.tv_nsec - t0.tv_nsec) / 1000;
		worst = took > worst ? took : worst;
		ck_assert(!pool_is_rotated(w.pool));
		w_run(&w);
	}
	if (getenv("ROTATE_FIGURES"))
		printf("publish to 10000 connections: %lld us\n", (long long)worst);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	ck_assert_int_lt(worst, 10 * MS);
#endif
	finish();
}
END_TEST

/* Proves: CRED-1 CRED-2 CRED-6 CRED-7 CRED-8 CRED-9 K12 */
START_TEST(test_random_walk_against_a_model)
{
	const char *steps = getenv("ROTATE_STEPS"), *first = getenv("ROTATE_SEED");

	model_run((uint64_t)_i + (first ? strtoull(first, NULL, 10) : 1), steps ? atoi(steps) : 2000);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("rotate");
	TCase *t = tcase_create("rotation");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, test_nothing_is_dialled_before_the_first_generation);
	tcase_add_test(t, test_first_login_is_a_canary_and_others_wait_for_it);
	tcase_add_test(t, test_dials_use_the_older_proven_generation_when_the_canary_is_slow);
	tcase_add_test(t, test_denied_canary_keeps_everything_and_is_retried_with_backoff);
	tcase_add_test(t, test_denied_canary_costs_one_connection_where_a_refusal_ends_it);
	tcase_add_test(t, test_canary_that_is_lost_is_retried_with_backoff);
	tcase_add_test(t, test_denied_old_generation_retries_with_the_current_one_at_once);
	tcase_add_test(t, test_refused_logins_of_many_are_one_refresh);
	tcase_add_test(t, test_idle_connections_log_in_again_at_once_spread);
	tcase_add_test(t, test_reauth_concurrency_bounds_logins);
	tcase_add_test(t, test_latest_generation_wins);
	tcase_add_test(t, test_generation_that_comes_during_a_login_is_next);
	tcase_add_test(t, test_connection_in_reauth_is_not_lent_and_another_is);
	tcase_add_test(t, test_fresh_connection_is_taken_before_a_stale_one);
	tcase_add_test(t, test_waiter_makes_a_stale_connection_take_its_turn_early);
	tcase_add_test(t, test_returned_connection_logs_in_before_it_is_lent_again);
	tcase_add_test(t, test_busy_pool_rotates_all_the_same);
	tcase_add_test(t, test_go_redis_4027_an_idle_connection_does_not_miss_its_wake_up);
	tcase_add_test(t, test_go_redis_3772_a_million_connections_leave_no_entry);
	tcase_add_test(t, test_reauth_times_out);
	tcase_add_test(t, test_failed_reauth_is_not_repeated_at_once);
	tcase_add_test(t, test_failed_reauth_closes_where_it_does_not_keep);
	tcase_add_test(t, test_held_leases_log_in_between_requests_and_are_reminded);
	tcase_add_test(t, test_held_lease_does_not_try_what_was_just_refused);
	tcase_add_test(t, test_refused_held_lease_goes_on);
	tcase_add_test(t, test_held_login_that_hangs_counts_as_failed);
	tcase_add_test(t, test_lease_given_back_in_the_middle_of_a_login_closes);
	tcase_add_test(t, test_recycle_replaces_one_by_one);
	tcase_add_test(t, test_recycle_is_no_reason_to_close_all_at_a_lease);
	tcase_add_test(t, test_recycle_makes_room_for_one_that_waits);
	tcase_add_test(t, test_recycle_spares_nothing_that_was_in_passing);
	tcase_add_test(t, test_recycle_of_size_one);
	tcase_add_test(t, test_recycle_of_size_one_goes_back_when_refused);
	tcase_add_test(t, test_recycle_finds_the_idle_among_the_leased);
	tcase_add_test(t, test_recycle_closes_leased_ones_on_return);
	tcase_add_test(t, test_keep_goes_on_with_old_connections);
	tcase_add_test(t, test_expired_generation_is_not_used);
	tcase_add_test(t, test_nothing_logs_in_again_with_an_expired_generation);
	tcase_add_test(t, test_want_and_no_do_not_chase_each_other);
	tcase_add_test(t, test_reauth_interval);
	tcase_add_test(t, test_reauth_interval_recycles_what_cannot_log_in_again);
	tcase_add_test(t, test_rotation_dials_nothing_for_min_idle);
	tcase_add_test(t, test_lease_sees_a_few_refreshes_then_the_servers_error);
	tcase_add_test(t, test_final_refusal_ends_the_wait_at_once);
	tcase_add_test(t, test_without_any_credential_the_wait_ends_too);
	tcase_add_test(t, test_waiters_of_a_living_older_connection_are_not_refused);
	tcase_add_test(t, test_servers_differ);
	tcase_add_test(t, test_rotated_means_everywhere);
	tcase_add_test(t, test_publishing_to_ten_thousand_connections_is_quick);
	tcase_add_loop_test(t, test_random_walk_against_a_model, 0, 100);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}
