/*
 * rotate: which credential each login uses, and when connections that are logged in do so again.
 *
 * A connection is stale when it is idle or leased and logged in with an older generation than the pool's newest, or
 * for longer than reauth_interval. Stale ones are on one list of their server and are worked off at a pace that spreads
 * them over reauth_spread, the idle ones in state REAUTH, the leased ones by their session, between two requests.
 */
#include "pool/pool_private.h"

static struct upstream *stale_of(struct node *n)
{
	return container_of(n, struct upstream, auth);
}

static bool server_is_proven(const struct server *s)
{
	return s->proven_gen == s->pool->gen;
}

static bool upstream_is_old(const struct upstream *u)
{
	return u->gen < u->server->pool->gen;
}

static bool upstream_is_stale(const struct upstream *u)
{
	return list_is_on(&u->auth) && u->auth.list == &u->server->stale;
}

void rotate_place(struct upstream *u)
{
	struct server *s = u->server;
	const struct pool_opts *o = &s->pool->opts;
	bool in = u->state == UP_IDLE || u->state == UP_LEASED;

	if (!o->has_credential || o->cred_change == CRED_CHANGE_KEEP)
		return;
	if (in && list_is_on(&u->auth))
		return; /* between IDLE and LEASED nothing changes */
	if (list_is_on(&u->auth))
		list_remove(&u->auth);
	if (in && upstream_is_old(u))
		list_push_back(&s->stale, &u->auth);
	else if (in && o->reauth_interval_us > 0)
		list_push_back(&s->fresh, &u->auth);
}

/* At the end of the list it belongs on: after what may have changed that, and after its turn. */
static void rotate_replace(struct upstream *u)
{
	if (list_is_on(&u->auth))
		list_remove(&u->auth);
	rotate_place(u);
}

void rotate_forget(struct upstream *u)
{
	if (u->server->canary == u)
		u->server->canary = NULL;
	if (list_is_on(&u->auth))
		list_remove(&u->auth);
}

bool rotate_is_due(const struct upstream *u)
{
	return upstream_is_stale(u) && server_is_proven(u->server);
}

bool rotate_recycles(const struct upstream *u)
{
	const struct server *s = u->server;

	return s->pool->opts.cred_change == CRED_CHANGE_RECYCLE && s->pool->opts.has_credential &&
	       server_is_proven(s) && upstream_is_old(u);
}

/* ---- which credential ---- */

/* The newest one may be tried: it is not known to work here, nobody is trying it, and the last refusal is long enough ago. */
static bool server_wants_canary(struct server *s, int64_t now_us)
{
	struct pool *p = s->pool;

	if (server_is_proven(s) || s->canary || p->gen_expires_us <= now_us)
		return false;
	if (s->canary_us <= now_us)
		return true;
	plan_wake(p, s->canary_us);
	return false;
}

bool rotate_dial_gen(struct pool *p, struct server *s, int64_t now_us, uint64_t *gen)
{
	*gen = 0;
	if (!p->opts.has_credential)
		return true;
	if (p->gen == 0)
		rotate_want(p);
	else if (server_wants_canary(s, now_us))
		*gen = p->gen;
	else if (s->canary && list_is_on(&s->canary->quick))
		return false; /* it will soon be known */
	else if (s->proven_gen != 0 && s->proven_expires_us > now_us)
		*gen = s->proven_gen;
	else if (p->gen_expires_us <= now_us)
		rotate_want(p);
	return *gen != 0;
}

void rotate_want(struct pool *p)
{
	if (p->wanting)
		return;
	p->wanting = true;
	p->wanted_gen = p->gen;
	pool_push_effect(p, (struct effect){.kind = EFFECT_WANT_NEWER, .gen = p->gen});
}

void rotate_begin(struct upstream *u, uint64_t gen)
{
	struct server *s = u->server;

	u->try_gen = gen;
	u->try_expires_us = gen == s->pool->gen ? s->pool->gen_expires_us : s->proven_expires_us;
	if (gen != 0 && gen == s->pool->gen && !server_is_proven(s) && !s->canary)
		s->canary = u;
}

/* The login or re-authentication is over. Returns the generation it was made with. */
static uint64_t rotate_end(struct upstream *u)
{
	uint64_t gen = u->try_gen;

	u->try_gen = 0;
	if (u->server->canary == u)
		u->server->canary = NULL;
	return gen;
}

static void server_proves(struct server *s, uint64_t gen, int64_t expires_us, int64_t now_us)
{
	struct pool *p = s->pool;

	if (gen <= s->proven_gen)
		return;
	s->proven_gen = gen;
	s->proven_expires_us = expires_us;
	backoff_reset(&s->cred_backoff);
	if (gen != p->gen)
		return;
	s->stale_pace_us = s->stale.len > 0 ? p->opts.reauth_spread_us / (int64_t)s->stale.len : 0;
	s->stale_next_us = now_us;
	if (p->opts.cred_change != CRED_CHANGE_RECYCLE)
		return;
	list_each(&s->by_state[UP_LEASED], n)
		if (upstream_is_old(upstream_of(n)))
			upstream_of(n)->close_needed = ERR_RECYCLED;
}

void rotate_done(struct upstream *u, int64_t now_us)
{
	struct server *s = u->server;
	uint64_t gen = rotate_end(u);

	if (gen == 0)
		return;
	u->gen = gen;
	u->auth_us = now_us;
	u->cred_expires_us = u->try_expires_us;
	server_proves(s, gen, u->try_expires_us, now_us);
	rotate_replace(u);
}

void rotate_failed(struct upstream *u, int64_t now_us)
{
	struct server *s = u->server;
	bool canary = s->canary == u;

	(void)rotate_end(u);
	if (canary)
		s->canary_us = now_us + backoff_next(&s->cred_backoff, &s->opts.backoff, &s->pool->rng);
	rotate_replace(u);
}

bool rotate_denied(struct upstream *u, int64_t now_us)
{
	struct server *s = u->server;
	struct pool *p = s->pool;
	uint64_t gen = u->try_gen;

	/* Logins that were under way together are one refusal. */
	if (gen == p->gen && (s->canary_us <= now_us || s->proven_gen == gen))
		s->canary_us = now_us + backoff_next(&s->cred_backoff, &s->opts.backoff, &p->rng);
	if (gen == p->gen)
		rotate_want(p);
	if (s->proven_gen == gen)
		s->proven_gen = 0;
	(void)rotate_end(u);
	rotate_replace(u);
	return s->proven_gen != 0;
}

/* ---- when ---- */

bool rotate_may_begin(const struct server *s)
{
	int max = s->pool->opts.reauth_concurrency;

	if (max <= 0)
		max = s->scope.max > 0 ? s->scope.max : INT32_MAX;
	return s->by_state[UP_REAUTH].len + s->held.len < (size_t)max;
}

bool rotate_start(struct upstream *u, int64_t now_us)
{
	struct pool *p = u->server->pool;

	if (!rotate_may_begin(u->server))
		return false;
	rotate_begin(u, p->gen);
	u->reauth_us = now_us;
	upstream_to(u, UP_REAUTH, now_us);
	pool_push_effect(p, (struct effect){.kind = EFFECT_REAUTH, .up = u});
	return true;
}

/* One stale connection takes its turn. A leased one does it when its session can, and goes to the end of the list. */
static void rotate_turn(struct server *s, struct upstream *u, int64_t now_us)
{
	if (u->state == UP_IDLE) {
		rotate_start(u, now_us);
		return;
	}
	list_remove(&u->auth);
	list_push_back(&s->stale, &u->auth);
	if (u->try_gen == 0)
		pool_push_effect(s->pool, (struct effect){.kind = EFFECT_REAUTH, .up = u});
}

#define STALE_PACE_HELD_US 10000 /* at least between two reminders of one leased connection */

/* Works the stale ones off. */
static void rotate_pace(struct pool *p, struct server *s, int64_t now_us)
{
	size_t turns = s->stale.len;

	while (turns-- > 0 && s->stale.len > 0 && rotate_may_begin(s)) {
		if (now_us < s->stale_next_us) {
			plan_wake(p, s->stale_next_us);
			return;
		}
		rotate_turn(s, stale_of(list_front(&s->stale)), now_us);
		/* Around the pace, so that pools don't go in step. */
		s->stale_next_us += (int64_t)((double)s->stale_pace_us * (0.5 + rng_unit(&p->rng)));
		if (s->stale_next_us < now_us)
			s->stale_next_us = now_us;
	}
	if (s->stale.len > 0 && rotate_may_begin(s)) { /* all that are left are leased and have been told */
		if (s->stale_next_us < now_us + STALE_PACE_HELD_US)
			s->stale_next_us = now_us + STALE_PACE_HELD_US;
		plan_wake(p, s->stale_next_us);
	}
}

/* Replaces the idle ones: a new connection first, if there is room for one. */
static void rotate_recycle(struct pool *p, struct server *s, int64_t now_us)
{
	list_each(&s->stale, n) {
		struct upstream *u = stale_of(n);

		if (u->state != UP_IDLE)
			continue;
		if (now_us < s->stale_next_us) {
			plan_wake(p, s->stale_next_us);
			return;
		}
		if (s->by_state[UP_IDLE].len <= (size_t)s->opts.min_idle && plan_may_dial(p, s, now_us))
			(void)plan_dial(p, s, now_us);
		upstream_close(u, ERR_RECYCLED, now_us);
		s->stale_next_us = now_us + s->stale_pace_us;
	}
}

/* An unproven generation is tried on a connection that exists, or, where that can't be done, by a new one. */
static void rotate_canary(struct pool *p, struct server *s, int64_t now_us)
{
	struct upstream *u;

	if (s->stale.len == 0 || !server_wants_canary(s, now_us))
		return;
	u = stale_of(list_front(&s->stale));
	if (p->opts.cred_change == CRED_CHANGE_REAUTH) {
		if (now_us < s->stale_next_us && u->state == UP_LEASED) {
			plan_wake(p, s->stale_next_us);
			return;
		}
		s->stale_next_us = now_us + STALE_PACE_HELD_US;
		rotate_turn(s, u, now_us);
		if (!s->canary)
			plan_wake(p, s->stale_next_us);
		return;
	}
	if (!plan_may_dial(p, s, now_us) || plan_dial(p, s, now_us) == PERMIT_OK)
		return;
	if (u->state == UP_IDLE && s->by_state[UP_CLOSING].len == 0)
		upstream_close(u, ERR_RECYCLED, now_us);
}

/* Logins that are older than reauth_interval. */
static void rotate_age(struct pool *p, struct server *s, int64_t now_us)
{
	while (s->fresh.len > 0) {
		struct upstream *u = stale_of(list_front(&s->fresh));
		int64_t at = u->auth_us + p->opts.reauth_interval_us;

		if (at > now_us) {
			plan_wake(p, at);
			return;
		}
		list_remove(&u->auth);
		list_push_back(&s->stale, &u->auth);
	}
}

void rotate_plan(struct pool *p, int64_t now_us)
{
	if (!p->opts.has_credential || p->gen == 0 || p->mode == POOL_SHUT)
		return;
	for (size_t i = 0; i < p->n_servers; i++) {
		struct server *s = p->servers[i];

		rotate_age(p, s, now_us);
		if (!server_is_proven(s))
			rotate_canary(p, s, now_us);
		else if (p->opts.cred_change == CRED_CHANGE_RECYCLE)
			rotate_recycle(p, s, now_us);
		else
			rotate_pace(p, s, now_us);
	}
}

bool pool_reauth_begin(struct pool *p, struct upstream *u, int64_t now_us)
{
	struct server *s = u->server;

	if (u->state != UP_LEASED || !upstream_is_stale(u) || u->try_gen != 0 || !rotate_may_begin(s))
		return false;
	if (!server_is_proven(s) && s->canary)
		return false;
	rotate_begin(u, p->gen);
	u->reauth_us = now_us;
	list_remove(&u->auth);
	list_push_back(&s->held, &u->auth);
	return true;
}

/* ---- news of the credential ---- */

static void server_hears(struct server *s, int64_t now_us)
{
	s->canary_us = now_us;
	backoff_reset(&s->cred_backoff);
	if (s->state == SERVER_DOWN && s->last_error == ERR_DENIED)
		s->retry_us = now_us;
	for (int st = 0; st < UP_CLOSING; st++)
		list_each(&s->by_state[st], n) {
			struct upstream *u = upstream_of(n);

			if (u->try_gen == 0)
				rotate_replace(u);
		}
}

void pool_credential(struct pool *p, uint64_t gen, int64_t expires_us, int64_t now_us)
{
	BUG_ON(!p->opts.has_credential);
	if (gen <= p->gen)
		return;
	p->gen = gen;
	p->gen_expires_us = expires_us;
	p->wanting = false;
	for (size_t i = 0; i < p->n_servers; i++)
		server_hears(p->servers[i], now_us);
	pool_plan(p, now_us);
}

/* Requests that have seen enough refreshes fail, unless somebody serves them all the same. */
static void pool_refuse_denied(struct pool *p)
{
	uint64_t max = p->opts.refresh_max_attempts > 0 ? (uint64_t)p->opts.refresh_max_attempts : 3;

	while (p->waiters.len > 0 && !pool_can_serve(p)) {
		struct lease *l = container_of(list_front(&p->waiters), struct lease, node);
		enum err why = p->gen == 0 ? ERR_NO_CREDENTIAL : ERR_DENIED;

		if (p->refreshes_failed - l->refreshes_failed < max)
			return;
		list_remove(&l->node);
		l->state = LEASE_NONE;
		p->stat.lease_failures[why]++;
		pool_push_effect(p, (struct effect){.kind = EFFECT_REFUSE, .lease = l, .err = why});
	}
}

#define REFRESHES_FINAL (1 << 20) /* more than any refresh_max_attempts */

void pool_no_newer(struct pool *p, uint64_t than, bool final, int64_t now_us)
{
	if (!p->wanting || than < p->gen)
		return;
	p->wanting = false;
	p->refreshes_failed += final ? REFRESHES_FINAL : 1;
	pool_refuse_denied(p);
	pool_plan(p, now_us);
}

/* ---- looking in ---- */

static bool dials_use(const struct list *l, uint64_t gen)
{
	list_each(l, n) {
		if (upstream_of(n)->try_gen == gen)
			return true;
	}
	return false;
}

bool pool_needs_gen(const struct pool *p, uint64_t gen)
{
	if (gen == p->gen)
		return true;
	for (size_t i = 0; i < p->n_servers; i++) {
		const struct server *s = p->servers[i];

		if (s->proven_gen == gen || dials_use(&s->by_state[UP_DIALING], gen) ||
		    dials_use(&s->by_state[UP_LOGIN], gen))
			return true;
	}
	return false;
}

bool pool_is_rotated(const struct pool *p)
{
	for (size_t i = 0; i < p->n_servers; i++)
		if (p->servers[i]->stale.len > 0 || !server_is_proven(p->servers[i]))
			return false;
	return true;
}
