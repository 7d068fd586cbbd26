#include "pool/pool_private.h"

#include <string.h>

struct pool *pool_new(const struct pool_opts *o, struct budget *b, void (*poke)(void *arg, enum budget_poke),
		      void *arg)
{
	struct pool *p = NEW(struct pool);

	p->name = mem_strdup(o->name);
	p->opts = *o;
	p->opts.name = p->name;
	p->scope.max = o->max_total;
	p->budget = b;
	p->member.poke = poke;
	p->member.arg = arg;
	budget_join(b, &p->member);
	list_init(&p->waiters);
	p->wake_us = INT64_MAX;
	slab_init(&p->upstreams, sizeof(struct upstream), 256);
	rng_seed(&p->rng, o->seed);
	p->next_id = (uint64_t)o->number << 40;
	p->gen_expires_us = INT64_MAX;
	return p;
}

struct server *pool_add_server(struct pool *p, const struct server_opts *o, void *user)
{
	struct server *s = NEW(struct server);

	s->name = mem_strdup(o->name);
	s->opts = *o;
	s->opts.name = s->name;
	if (s->opts.max_size <= 0)
		s->opts.max_size = 10; /* never unlimited by accident (C1) */
	s->user = user;
	s->pool = p;
	s->dialable = true;
	s->scope.max = o->unbounded ? 0 : s->opts.max_size;
	for (int i = 0; i < UP_STATES; i++)
		list_init(&s->by_state[i]);
	list_init(&s->stale);
	list_init(&s->held);
	list_init(&s->fresh);
	list_init(&s->quick_dials);
	list_init(&s->quick_checks);
	rate_init(&s->rate, o->max_rps, o->max_rps_burst > 0 ? o->max_rps_burst : 1);
	p->servers = mem_realloc(p->servers, (p->n_servers + 1) * sizeof(*p->servers));
	p->servers[p->n_servers++] = s;
	return s;
}

void pool_free(struct pool **pp)
{
	struct pool *p = *pp;

	if (!p)
		return;
	BUG_ON(p->waiters.len != 0);
	for (size_t i = 0; i < p->n_servers; i++) {
		for (int k = 0; k < UP_STATES; k++)
			BUG_ON(p->servers[i]->by_state[k].len != 0);
		mem_free(p->servers[i]->name);
		mem_free(p->servers[i]);
	}
	budget_leave(p->budget, &p->member);
	mem_free(p->servers);
	heap_free(&p->deadlines);
	slab_done(&p->upstreams);
	mem_free(p->fx);
	mem_free(p->name);
	mem_free(p);
	*pp = NULL;
}

void pool_push_effect(struct pool *p, struct effect e)
{
	if (p->fx_len == p->fx_cap) {
		size_t cap = p->fx_cap ? 2 * p->fx_cap : 16;
		struct effect *v = mem_alloc(cap * sizeof(*v));

		for (size_t i = 0; i < p->fx_len; i++)
			v[i] = p->fx[(p->fx_first + i) % p->fx_cap];
		mem_free(p->fx);
		p->fx = v;
		p->fx_cap = cap;
		p->fx_first = 0;
	}
	p->fx[(p->fx_first + p->fx_len++) % p->fx_cap] = e;
}

bool pool_effect(struct pool *p, struct effect *e)
{
	if (p->fx_len == 0)
		return false;
	*e = p->fx[p->fx_first];
	p->fx_first = (p->fx_first + 1) % p->fx_cap;
	p->fx_len--;
	return true;
}

int64_t server_patience_us(const struct server *s)
{
	int64_t least = s->pool->opts.patience_us > 0 ? s->pool->opts.patience_us : PATIENCE_MIN_US;

	return 4 * s->dial_avg_us > least ? 4 * s->dial_avg_us : least;
}

/* ---- a lease ---- */

void pool_lease(struct pool *p, struct lease *l, void *owner, int64_t now_us)
{
	enum err no = p->mode == POOL_SHUT ? ERR_SHUTDOWN : p->mode == POOL_REFUSE ? ERR_DRAINING : ERR_OK;

	BUG_ON(l->state != LEASE_NONE);
	*l = (struct lease){.owner = owner, .asked_us = now_us, .refreshes_failed = p->refreshes_failed};
	if (p->n_servers == 0)
		no = ERR_NO_SERVERS;
	if (no != ERR_OK) {
		p->stat.lease_failures[no]++;
		pool_push_effect(p, (struct effect){.kind = EFFECT_REFUSE, .lease = l, .err = no});
		return;
	}
	l->state = LEASE_WAITING;
	list_push_back(&p->waiters, &l->node);
	pool_plan(p, now_us);
}

void pool_cancel(struct pool *p, struct lease *l, enum err why, int64_t now_us)
{
	BUG_ON(l->state == LEASE_HELD);
	if (l->state == LEASE_NONE)
		return;
	list_remove(&l->node);
	l->state = LEASE_NONE;
	p->stat.lease_failures[why]++;
	pool_plan(p, now_us);
}

void pool_move_lease(struct lease *from, struct lease *to, void *owner)
{
	BUG_ON(from->state != LEASE_HELD || to->state != LEASE_NONE);
	*to = *from;
	to->owner = owner;
	to->up->lease = to;
	from->state = LEASE_NONE;
	from->up = NULL;
}

/* A leased connection that must not become idle again, whatever its owner thinks of it. */
static enum err release_verdict(const struct pool *p, const struct upstream *u, int64_t now_us)
{
	enum err why;

	if (p->mode == POOL_SHUT)
		return ERR_SHUTDOWN;
	if (u->close_needed != ERR_OK)
		return u->close_needed;
	if (upstream_expired(u, now_us, &why))
		return why;
	if (rotate_recycles(u))
		return ERR_RECYCLED;
	if (budget_excess(p->budget) > 0)
		return ERR_EVICTED;
	return ERR_OK;
}

static void pool_check_drained(struct pool *p)
{
	if (!p->drain_wanted || pool_count(p, UP_LEASED) > 0)
		return;
	p->drain_wanted = false;
	pool_push_effect(p, (struct effect){.kind = EFFECT_DRAINED});
}

bool pool_release(struct pool *p, struct lease *l, enum release_how how, enum err why, int64_t now_us)
{
	struct upstream *u = l->up;
	enum err verdict;

	BUG_ON(l->state != LEASE_HELD || u->state != UP_LEASED || u->lease != l);
	verdict = u->try_gen != 0 ? ERR_DIRTY : release_verdict(p, u, now_us); /* its answer has yet to come */
	p->stat.leases_returned++;
	hist_add(&p->stat.lease_hold, now_us - l->granted_us);
	l->state = LEASE_NONE;
	l->up = NULL;
	u->lease = NULL;
	u->last_returned_us = now_us;
	if (how == RELEASE_CLOSE)
		upstream_close(u, why, now_us);
	else if (verdict != ERR_OK)
		upstream_close(u, verdict, now_us);
	else if (how == RELEASE_CHECK)
		upstream_to(u, UP_CLEANING, now_us);
	else
		upstream_to_idle(u, now_us);
	pool_check_drained(p);
	pool_plan(p, now_us);
	return u->state == UP_CLEANING;
}

/* ---- what happened to an upstream ---- */

void pool_connected(struct pool *p, struct upstream *u, int64_t now_us)
{
	p->stat.dials[ERR_OK]++;
	hist_add(&p->stat.dial_time, now_us - u->created_us);
	u->connected_us = now_us;
	upstream_to(u, UP_LOGIN, now_us);
}

/* Makes a connection that passed its dialogue idle, unless it is to go. */
static void upstream_settle(struct pool *p, struct upstream *u, int64_t now_us)
{
	enum err verdict = release_verdict(p, u, now_us);

	if (verdict != ERR_OK)
		upstream_close(u, verdict, now_us);
	else
		upstream_to_idle(u, now_us);
}

static void server_good(struct server *s)
{
	s->state = SERVER_UP;
	s->failures = 0;
	s->last_error = ERR_OK;
	backoff_reset(&s->backoff);
}

void pool_idle(struct pool *p, struct upstream *u, int64_t now_us)
{
	struct server *s = u->server;
	int64_t took = now_us - u->created_us;

	p->stat.logins[ERR_OK]++;
	hist_add(&p->stat.login_time, now_us - u->connected_us);
	u->ready_us = now_us;
	rotate_done(u, now_us);
	s->dial_avg_us = s->dial_avg_us ? (7 * s->dial_avg_us + took) / 8 : took;
	server_good(s);
	upstream_settle(p, u, now_us);
	pool_plan(p, now_us);
}

void pool_checked(struct pool *p, struct upstream *u, enum err e, int64_t now_us)
{
	if (u->state != UP_PROBING)
		return;
	p->stat.health_checks[e]++;
	if (e == ERR_OK) {
		u->checked_us = now_us;
		if (u->server->state == SERVER_SLOW)
			u->server->state = SERVER_UP;
		upstream_settle(p, u, now_us);
	} else {
		upstream_close(u, e, now_us);
	}
	pool_plan(p, now_us);
}

void pool_cleaned(struct pool *p, struct upstream *u, enum err e, int64_t now_us)
{
	if (u->state != UP_CLEANING)
		return;
	p->stat.resets[e]++;
	if (e == ERR_OK) {
		u->last_returned_us = now_us;
		upstream_settle(p, u, now_us);
	} else {
		upstream_close(u, e, now_us);
	}
	pool_plan(p, now_us);
}

/* One more failure of a server. Failures of dials that were under way together are one step of the backoff. */
static void server_bad(struct pool *p, const struct upstream *u, enum err e, int64_t now_us)
{
	struct server *s = u->server;
	bool refused = s->last_error == ERR_DENIED; /* which is a step of another backoff */

	s->failures++;
	s->last_error = e;
	s->connect_failed = u->state == UP_DIALING;
	s->failed_us = now_us;
	if (s->state != SERVER_DOWN || refused || now_us >= s->retry_us)
		s->retry_us = now_us + backoff_next(&s->backoff, &s->opts.backoff, &p->rng);
	s->state = SERVER_DOWN;
	if (!s->opts.evict_on_down)
		return;
	list_each(&s->by_state[UP_IDLE], n)
		upstream_close(upstream_of(n), ERR_SERVER_DOWN, now_us);
}

/* A refused login: not the server's fault. It counts as down only when no credential is known to work there. */
static void server_denied(struct upstream *u, int64_t now_us)
{
	struct server *s = u->server;

	if (rotate_denied(u, now_us))
		return;
	s->failures++;
	/* One that does not answer either is left alone for as long as that takes. */
	if (s->state == SERVER_DOWN && s->last_error != ERR_DENIED && now_us < s->retry_us)
		return;
	s->last_error = ERR_DENIED;
	s->connect_failed = false;
	s->failed_us = now_us;
	s->retry_us = s->canary_us;
	s->state = SERVER_DOWN;
}

void pool_failed(struct pool *p, struct upstream *u, enum err e, int64_t now_us)
{
	if (u->state == UP_CLOSING)
		return;
	BUG_ON(u->state == UP_LEASED);
	if (u->state == UP_IDLE && u->leases == 0)
		u->server->refill_us = now_us + u->server->opts.backoff.initial_us;
	if (u->state == UP_PROBING)
		p->stat.health_checks[e]++;
	else if (u->state == UP_CLEANING)
		p->stat.resets[e]++;
	else if (u->state == UP_DIALING)
		p->stat.dials[e]++;
	else if (u->state == UP_REAUTH)
		p->stat.reauth[e]++;
	else if (up_state_is_dial(u->state))
		p->stat.logins[e]++;
	if (e == ERR_DENIED && p->opts.has_credential)
		server_denied(u, now_us);
	else if (up_state_is_dial(u->state))
		server_bad(p, u, e, now_us);
	if (e == ERR_DENIED)
		p->stat.auth_denied++;
	upstream_close(u, e, now_us);
	pool_plan(p, now_us);
}

void pool_reauthed(struct pool *p, struct upstream *u, enum err e, int64_t now_us)
{
	bool keeps = e == ERR_DENIED ? p->opts.denied_keeps : p->opts.failed_keeps && e == ERR_REAUTH_FAILED;

	if (u->state != UP_REAUTH && (u->state != UP_LEASED || u->try_gen == 0))
		return;
	if (u->state == UP_REAUTH && e != ERR_OK && !keeps) {
		pool_failed(p, u, e, now_us);
		return;
	}
	p->stat.reauth[e]++;
	hist_add(&p->stat.reauth_time, now_us - u->reauth_us);
	if (e == ERR_OK) {
		rotate_done(u, now_us);
		if (u->server->state == SERVER_SLOW)
			u->server->state = SERVER_UP;
	} else if (e == ERR_DENIED) {
		p->stat.auth_denied++;
		server_denied(u, now_us);
	} else {
		rotate_failed(u, now_us);
	}
	if (u->state == UP_REAUTH)
		upstream_settle(p, u, now_us);
	else
		upstream_set_deadline(u); /* none any more */
	if (u->state == UP_LEASED && e != ERR_OK && !keeps)
		u->close_needed = e;
	pool_plan(p, now_us);
}

void pool_closed(struct pool *p, struct upstream *u, int64_t now_us)
{
	BUG_ON(u->state != UP_CLOSING);
	list_remove(&u->node);
	heap_remove(&p->deadlines, &u->deadline);
	permit_give(&u->permit);
	slab_put(&p->upstreams, u);
	pool_plan(p, now_us);
}

/* ---- time ---- */

int64_t pool_next_us(const struct pool *p)
{
	int64_t at = p->wake_us;
	const struct heap_entry *e = heap_min(&p->deadlines);

	if (e && e->at_us < at)
		at = e->at_us;
	if (p->waiters.len > 0 && p->opts.lease_timeout_us > 0) {
		const struct lease *l = container_of(list_front(&p->waiters), struct lease, node);

		if (l->asked_us + p->opts.lease_timeout_us < at)
			at = l->asked_us + p->opts.lease_timeout_us;
	}
	return at;
}

static void pool_expire_waiters(struct pool *p, int64_t now_us)
{
	while (p->waiters.len > 0 && p->opts.lease_timeout_us > 0) {
		struct lease *l = container_of(list_front(&p->waiters), struct lease, node);
		enum err why;

		if (now_us < l->asked_us + p->opts.lease_timeout_us)
			return;
		why = pool_why(p, now_us);
		if (why == ERR_OK || why == ERR_LIMIT)
			why = ERR_LEASE_TIMEOUT;
		list_remove(&l->node);
		l->state = LEASE_NONE;
		p->stat.lease_failures[why]++;
		pool_push_effect(p, (struct effect){.kind = EFFECT_REFUSE, .lease = l, .err = why});
	}
}

/* A dial or check outlasted patience or its limit. */
static void upstream_late(struct pool *p, struct upstream *u, int64_t now_us)
{
	const struct server_opts *o = &u->server->opts;
	bool dial = up_state_is_dial(u->state);
	int64_t limit = u->state == UP_DIALING	? u->state_us + o->connect_timeout_us
			: dial			? u->connected_us + o->login_timeout_us
			: u->state == UP_REAUTH ? u->state_us + p->opts.reauth_timeout_us
						: u->state_us + p->opts.health_check_timeout_us;

	if (now_us < limit) {
		if (u->server->state == SERVER_UP)
			u->server->state = SERVER_SLOW;
		upstream_is_slow(u);
		return;
	}
	pool_failed(p, u,
		    u->state == UP_REAUTH    ? ERR_REAUTH_TIMEOUT
		    : !dial		     ? ERR_CHECK_TIMEOUT
		    : u->state == UP_DIALING ? ERR_CONNECT_TIMEOUT
					     : ERR_LOGIN_TIMEOUT,
		    now_us);
}

static void upstream_due(struct pool *p, struct upstream *u, int64_t now_us)
{
	enum err why;

	switch (u->state) {
	case UP_IDLE:
		BUG_ON(!upstream_expired(u, now_us, &why));
		upstream_close(u, why, now_us);
		break;
	case UP_CLEANING:
		pool_failed(p, u, ERR_CHECK_TIMEOUT, now_us);
		break;
	case UP_LEASED:
		pool_reauthed(p, u, ERR_REAUTH_TIMEOUT, now_us);
		break;
	default:
		upstream_late(p, u, now_us);
		break;
	}
}

void pool_tick(struct pool *p, int64_t now_us)
{
	struct heap_entry *e;

	pool_expire_waiters(p, now_us);
	while ((e = heap_min(&p->deadlines)) != NULL && e->at_us <= now_us)
		upstream_due(p, container_of(e, struct upstream, deadline), now_us);
	pool_plan(p, now_us);
}

/* ---- control ---- */

void pool_poked(struct pool *p, enum budget_poke what, int64_t now_us)
{
	/* The need may have passed while the poke travelled; or what was to go is in use by now: then another pool is asked. */
	bool evict = what == BUDGET_EVICT && budget_needs_eviction(p->budget);
	bool nothing = evict && !pool_evict_one(p, ERR_EVICTED, now_us);

	if (what == BUDGET_RETRY && list_is_on(&p->member.hungry))
		budget_unwant(p->budget, &p->member);
	pool_plan(p, now_us);
	if (nothing)
		budget_evict(p->budget);
}

void pool_drain(struct pool *p, bool refuse_new, int64_t now_us)
{
	p->drain_wanted = true;
	if (refuse_new && p->mode == POOL_RUN) {
		p->mode = POOL_REFUSE;
		pool_refuse_waiters(p, ERR_DRAINING);
	}
	pool_check_drained(p);
	pool_plan(p, now_us);
}

void pool_resume(struct pool *p, int64_t now_us)
{
	p->drain_wanted = false;
	if (p->mode == POOL_REFUSE)
		p->mode = POOL_RUN;
	pool_plan(p, now_us);
}

/* Without a plan: callers walk lists that a plan would change. */
static void upstream_retire(struct upstream *u, enum err why, int64_t now_us)
{
	if (u->state == UP_LEASED)
		u->close_needed = why;
	else
		upstream_close(u, why, now_us);
}

static void server_retire(struct server *s, enum err why, int64_t now_us)
{
	for (int st = 0; st < UP_CLOSING; st++)
		list_each(&s->by_state[st], n)
			upstream_retire(upstream_of(n), why, now_us);
}

void pool_close_needed(struct pool *p, struct upstream *u, enum err why, int64_t now_us)
{
	upstream_retire(u, why, now_us);
	pool_plan(p, now_us);
}

void server_close_needed(struct pool *p, struct server *s, enum err why, int64_t now_us)
{
	server_retire(s, why, now_us);
	pool_plan(p, now_us);
}

static bool addr_is_among(const struct addr *a, const struct addr *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (addr_equal(a, &v[i]))
			return true;
	return false;
}

void server_keep_addrs(struct pool *p, struct server *s, const struct addr *v, size_t n, int64_t now_us)
{
	for (int st = UP_LOGIN; st < UP_CLOSING; st++)
		list_each(&s->by_state[st], node)
			if (!addr_is_among(&upstream_of(node)->addr, v, n))
				upstream_retire(upstream_of(node), ERR_ADDRESS_GONE, now_us);
	pool_plan(p, now_us);
}

void pool_shutdown(struct pool *p, int64_t now_us)
{
	p->mode = POOL_SHUT;
	pool_refuse_waiters(p, ERR_SHUTDOWN);
	for (size_t i = 0; i < p->n_servers; i++)
		server_retire(p->servers[i], ERR_SHUTDOWN, now_us);
	pool_check_drained(p);
	pool_plan(p, now_us);
}

void server_set_dialable(struct pool *p, struct server *s, bool any, int64_t now_us)
{
	if (s->dialable == any)
		return;
	s->dialable = any;
	pool_plan(p, now_us);
}
