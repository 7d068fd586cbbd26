#include "unit/pool_world.h"

#include <check.h>
#include <string.h>

static void w_poke(void *arg, enum budget_poke what)
{
	struct world *w = arg;

	ck_assert_uint_lt(w->n_poked, W_MAX);
	w->poked[w->n_poked++] = what;
}

struct pool_opts w_pool_opts(void)
{
	return (struct pool_opts){
		.name = "p",
		.lease_wait = LEASE_BLOCK,
		.lease_timeout_us = 10 * SEC,
		.health_check_after_us = 30 * SEC,
		.health_check_timeout_us = 5 * SEC,
		.clean_timeout_us = 5 * SEC,
		.reauth_timeout_us = 5 * SEC,
		.seed = 7,
	};
}

struct server_opts w_server_opts(const char *name)
{
	return (struct server_opts){
		.name = name,
		.max_rps_burst = 1,
		.max_concurrent_dials = 4,
		.max_age_us = 1800 * SEC,
		.max_idle_us = 300 * SEC,
		.connect_timeout_us = 5 * SEC,
		.login_timeout_us = 10 * SEC,
		.backoff = {.initial_us = 100 * MS, .max_us = 30 * SEC, .multiplier = 1.5, .jitter = 0},
	};
}

void w_init(struct world *w, const struct pool_opts *po, struct budget *budget)
{
	*w = (struct world){.now = 1000 * SEC, .auto_dial = true, .auto_check = true, .auto_reauth = true};
	w->budget = budget ? budget : budget_new(0);
	w->pool = pool_new(po, w->budget, w_poke, w);
}

struct server *w_server(struct world *w, const struct server_opts *so)
{
	return pool_add_server(w->pool, so, NULL);
}

struct server *w_server_accepting(struct world *w, const struct server_opts *so, uint64_t *accepts)
{
	return pool_add_server(w->pool, so, accepts);
}

static bool w_accepts(const struct upstream *u)
{
	const uint64_t *accepts = server_user(u->server);

	return !accepts || *accepts >> u->try_gen & 1;
}

static void w_dial(struct world *w, struct upstream *u)
{
	w->n_dialled++;
	if (w->auto_dial) {
		pool_connected(w->pool, u, w->now);
		if (w_accepts(u))
			pool_idle(w->pool, u, w->now);
		else
			pool_failed(w->pool, u, ERR_DENIED, w->now);
		return;
	}
	ck_assert_uint_lt(w->n_dials, W_MAX);
	w->dials[w->n_dials++] = u;
}

static void w_forget(struct upstream **v, size_t *n, const struct upstream *u)
{
	for (size_t i = 0; i < *n; i++)
		if (v[i] == u) {
			memmove(&v[i], &v[i + 1], (*n - i - 1) * sizeof(v[0]));
			(*n)--;
			return;
		}
}

static void w_reauth(struct world *w, struct upstream *u)
{
	w->n_reauthed++;
	if (w->auto_reauth) {
		pool_reauthed(w->pool, u, w_accepts(u) ? ERR_OK : ERR_DENIED, w->now);
		return;
	}
	ck_assert_uint_lt(w->n_reauths, W_MAX);
	w->reauths[w->n_reauths++] = u;
}

static void w_close(struct world *w, struct upstream *u)
{
	w_forget(w->dials, &w->n_dials, u);
	w_forget(w->reauths, &w->n_reauths, u);
	w_forget(w->probes, &w->n_probes, u);
	w->closed_why[w->n_closed++ % W_MAX] = u->reason;
	if (w->keep_closing)
		w->closing[w->n_closing++] = u;
	else
		pool_closed(w->pool, u, w->now);
}

void w_run(struct world *w)
{
	struct effect e;

	while (pool_effect(w->pool, &e)) {
		if (e.kind == EFFECT_DIAL)
			w_dial(w, e.up);
		else if (e.kind == EFFECT_CLOSE)
			w_close(w, e.up);
		else if (e.kind == EFFECT_PROBE && w->auto_check)
			pool_checked(w->pool, e.up, ERR_OK, w->now);
		else if (e.kind == EFFECT_PROBE)
			w->probes[w->n_probes++] = e.up;
		else if (e.kind == EFFECT_REAUTH && e.lease)
			w->told[w->n_told++ % W_MAX] = e.up;
		else if (e.kind == EFFECT_REAUTH)
			w_reauth(w, e.up);
		else if (e.kind == EFFECT_WANT_NEWER) {
			w->n_wants++;
			w->wanted = e.gen;
		} else if (e.kind == EFFECT_GRANT)
			w->granted[w->n_granted++ % W_MAX] = e.lease;
		else if (e.kind == EFFECT_DRAINED)
			w->n_drained++;
		else if (e.kind == EFFECT_REFUSE) {
			w->refused_why[w->n_refused % W_MAX] = e.err;
			w->refused[w->n_refused++ % W_MAX] = e.lease;
		}
	}
	pool_audit(w->pool, w->now);
}

void w_pokes(struct world *w)
{
	while (w->n_poked > 0) {
		enum budget_poke what = w->poked[0];

		memmove(&w->poked[0], &w->poked[1], --w->n_poked * sizeof(w->poked[0]));
		pool_poked(w->pool, what, w->now);
		w_run(w);
	}
}

void w_pass(struct world *w, int64_t us)
{
	int64_t end = w->now + us;

	for (int64_t at; (at = pool_next_us(w->pool)) <= end;) {
		w->now = at > w->now ? at : w->now;
		pool_tick(w->pool, w->now);
		w_run(w);
	}
	w->now = end;
}

void w_lease(struct world *w, struct lease *l)
{
	*l = (struct lease){0};
	pool_lease(w->pool, l, l, w->now);
	w_run(w);
}

void w_release_how(struct world *w, struct lease *l, enum release_how how)
{
	pool_release(w->pool, l, how, ERR_RESET, w->now);
	w_run(w);
}

void w_release(struct world *w, struct lease *l)
{
	w_release_how(w, l, RELEASE_CLEAN);
}

void w_dial_ok(struct world *w, size_t i)
{
	struct upstream *u = w->dials[i];

	ck_assert_uint_lt(i, w->n_dials);
	w_forget(w->dials, &w->n_dials, u);
	pool_connected(w->pool, u, w->now);
	pool_idle(w->pool, u, w->now);
	w_run(w);
}

void w_dial_fail(struct world *w, size_t i, enum err e)
{
	ck_assert_uint_lt(i, w->n_dials);
	pool_failed(w->pool, w->dials[i], e, w->now);
	w_run(w);
}

void w_close_all(struct world *w)
{
	while (w->n_closing > 0)
		pool_closed(w->pool, w->closing[--w->n_closing], w->now);
	w_run(w);
}

void w_credential(struct world *w, uint64_t gen, int64_t expires_us)
{
	pool_credential(w->pool, gen, expires_us, w->now);
	w_run(w);
}

void w_no_newer(struct world *w, bool final)
{
	pool_no_newer(w->pool, w->wanted, final, w->now);
	w_run(w);
}

void w_reauth_end(struct world *w, size_t i, enum err e)
{
	struct upstream *u = w->reauths[i];

	ck_assert_uint_lt(i, w->n_reauths);
	w_forget(w->reauths, &w->n_reauths, u);
	pool_reauthed(w->pool, u, e, w->now);
	w_run(w);
}

size_t w_in(const struct world *w, enum up_state s)
{
	return pool_count(w->pool, s);
}

size_t w_open(const struct world *w)
{
	size_t n = 0;

	for (int s = 0; s < UP_STATES; s++)
		n += pool_count(w->pool, (enum up_state)s);
	return n;
}

const char *w_server_of(const struct lease *l)
{
	return l->state == LEASE_HELD ? server_name(l->up->server) : "";
}

void w_done(struct world *w)
{
	w->keep_closing = false;
	pool_shutdown(w->pool, w->now);
	w_run(w);
	w_close_all(w);
	ck_assert_uint_eq(w_open(w), 0);
	pool_free(&w->pool);
}
