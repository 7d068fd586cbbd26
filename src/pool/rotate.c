/*
 * rotate: which credential each login uses, and when connections that are logged in do so again.
 *
 * A connection is stale when it is idle or leased and logged in with an older generation than the pool's newest, or
 * for longer than reauth_interval. Stale ones are on one list of their server and are worked off at a pace that spreads
 * them over reauth_spread, the idle ones in state REAUTH, the leased ones by their session, between two requests.
 *
 * Whatever ends a login that was not a success moves server->canary_us: nothing here tries again at once.
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

/* The idle ones first: whether there is one is seen at the front. */
static void rotate_stale(struct upstream *u)
{
	if (list_is_on(&u->auth))
		list_remove(&u->auth);
	if (u->state == UP_IDLE)
		list_push_front(&u->server->stale, &u->auth);
	else
		list_push_back(&u->server->stale, &u->auth);
}

void rotate_place(struct upstream *u)
{
	struct server *s = u->server;
	const struct pool_opts *o = &s->pool->opts;
	bool in = u->state == UP_IDLE || u->state == UP_LEASED;

	if (!o->has_credential)
		return;
	if (in && (upstream_is_old(u) || upstream_is_stale(u))) {
		rotate_stale(u);
		return;
	}
	if (in && list_is_on(&u->auth))
		return; /* between IDLE and LEASED nothing changes */
	if (list_is_on(&u->auth))
		list_remove(&u->auth);
	if (in && o->reauth_interval_us > 0 && o->cred_change != CRED_CHANGE_KEEP)
		list_push_back(&s->fresh, &u->auth);
}

/* At the end of the list it belongs on: after what may have changed that, and after its turn. */
static void rotate_replace(struct upstream *u)
{
	if (list_is_on(&u->auth))
		list_remove(&u->auth);
	rotate_place(u);
}

/* A login or re-authentication was no success: the next one may begin after a while. */
static void server_cools(struct server *s, int64_t now_us)
{
	s->canary_us = now_us + backoff_next(&s->cred_backoff, &s->opts.backoff, &s->pool->rng);
}

void rotate_forget(struct upstream *u, int64_t now_us)
{
	struct server *s = u->server;

	if (s->canary == u) {
		s->canary = NULL;
		/* The account may have seen it; but a newer one is not to wait for that. */
		if (u->state != UP_DIALING && u->try_gen == s->pool->gen)
			server_cools(s, now_us);
	}
	if (list_is_on(&u->auth))
		list_remove(&u->auth);
}

bool rotate_is_due(const struct upstream *u)
{
	return u->server->pool->opts.cred_change == CRED_CHANGE_REAUTH && upstream_is_stale(u) &&
	       server_is_proven(u->server);
}

bool rotate_recycles(const struct upstream *u)
{
	const struct server *s = u->server;

	return s->pool->opts.cred_change == CRED_CHANGE_RECYCLE && s->pool->opts.has_credential &&
	       server_is_proven(s) && (upstream_is_old(u) || upstream_is_stale(u));
}

bool rotate_may_lend(const struct upstream *u)
{
	return !rotate_is_due(u) && !rotate_recycles(u);
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

static void rotate_want(struct pool *p)
{
	if (p->wanting || p->never_newer)
		return;
	p->wanting = true;
	pool_push_effect(p, (struct effect){.kind = EFFECT_WANT_NEWER, .gen = p->gen});
}

/* Without a refusal in between, which has a backoff of its own: not as fast as "no" can be said. */
static void rotate_want_again(struct pool *p, int64_t now_us)
{
	if (now_us >= p->want_us)
		rotate_want(p);
	else if (!p->never_newer)
		plan_wake(p, p->want_us);
}

bool rotate_dial_gen(struct pool *p, struct server *s, int64_t now_us, uint64_t *gen)
{
	*gen = 0;
	if (!p->opts.has_credential)
		return true;
	if (p->gen == 0)
		rotate_want_again(p, now_us);
	else if (server_wants_canary(s, now_us))
		*gen = p->gen;
	else if (s->canary && list_is_on(&s->canary->quick))
		return false; /* it will soon be known */
	else if (s->proven_gen != 0 && s->proven_expires_us > now_us)
		*gen = s->proven_gen;
	else if (p->gen_expires_us <= now_us)
		rotate_want_again(p, now_us);
	return *gen != 0;
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
	if (gen != p->gen)
		return;
	backoff_reset(&s->cred_backoff);
	s->canary_us = now_us;
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
	if (u->try_gen == u->server->pool->gen)
		server_cools(u->server, now_us);
	(void)rotate_end(u);
	rotate_replace(u);
}

bool rotate_denied(struct upstream *u, int64_t now_us)
{
	struct server *s = u->server;
	struct pool *p = s->pool;
	uint64_t gen = u->try_gen;

	/* Logins that were under way together are one refusal. */
	if (gen == p->gen && (s->canary_us <= now_us || s->proven_gen == gen))
		server_cools(s, now_us);
	if (gen == p->gen)
		rotate_want(p);
	if (s->proven_gen == gen)
		s->proven_gen = 0;
	(void)rotate_end(u);
	rotate_replace(u);
	return s->proven_gen != 0;
}

/* ---- when ---- */

/* Within reauth_concurrency, with a credential that is still good, and the last failure is long enough ago. */
static bool rotate_may_begin(struct server *s, int64_t now_us)
{
	struct pool *p = s->pool;
	int max = p->opts.reauth_concurrency;

	if (max <= 0)
		max = s->scope.max > 0 ? s->scope.max : INT32_MAX;
	if (s->by_state[UP_REAUTH].len + s->held.len >= (size_t)max || p->gen_expires_us <= now_us)
		return false;
	if (s->canary_us <= now_us)
		return true;
	plan_wake(p, s->canary_us);
	return false;
}

bool rotate_start(struct upstream *u, int64_t now_us)
{
	struct pool *p = u->server->pool;

	if (!rotate_may_begin(u->server, now_us))
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
	rotate_stale(u);
	if (u->close_needed == ERR_OK)
		pool_push_effect(s->pool, (struct effect){.kind = EFFECT_REAUTH, .up = u, .lease = u->lease});
}

#define STALE_PACE_HELD_US 10000 /* at least between two reminders of one leased connection */

/* Works the stale ones off. */
static void rotate_pace(struct pool *p, struct server *s, int64_t now_us)
{
	size_t turns = s->stale.len;

	while (turns-- > 0 && s->stale.len > 0 && rotate_may_begin(s, now_us)) {
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
	if (s->stale.len > 0 && rotate_may_begin(s, now_us)) { /* all that are left are leased and have been told */
		if (s->stale_next_us < now_us + STALE_PACE_HELD_US)
			s->stale_next_us = now_us + STALE_PACE_HELD_US;
		plan_wake(p, s->stale_next_us);
	}
}

/* Replaces the idle ones, which are not lent any more: a new connection first, if there is room for one. */
static void rotate_recycle(struct pool *p, struct server *s, int64_t now_us)
{
	while (s->stale.len > 0 && stale_of(list_front(&s->stale))->state == UP_IDLE) {
		if (now_us < s->stale_next_us) {
			plan_wake(p, s->stale_next_us);
			return;
		}
		if (plan_may_dial(p, s, now_us))
			(void)plan_dial(p, s, now_us);
		else if (server_under_way(s) > 0)
			return; /* after the dials that are under way */
		upstream_close(stale_of(list_front(&s->stale)), ERR_RECYCLED, now_us);
		s->stale_next_us = now_us + s->stale_pace_us;
	}
}

/* Which of the stale ones tries an unproven generation: the idle one that was used last, so one that surely lives. */
static struct upstream *rotate_first(const struct server *s)
{
	const struct list *idle = &s->by_state[UP_IDLE];

	if (idle->len > 0 && upstream_is_stale(upstream_of(list_front(idle))))
		return upstream_of(list_front(idle));
	return stale_of(list_front(&s->stale));
}

/* The canary is a connection that exists. */
static void rotate_canary_reauth(struct pool *p, struct server *s, struct upstream *u, int64_t now_us)
{
	if (u->state == UP_LEASED && now_us < s->stale_next_us) {
		plan_wake(p, s->stale_next_us);
		return;
	}
	rotate_turn(s, u, now_us);
	if (u->state != UP_LEASED)
		return; /* it is the canary, or waits for others to end */
	s->stale_next_us = now_us + STALE_PACE_HELD_US;
	plan_wake(p, s->stale_next_us);
}

/* The canary is a new connection, if need be in the place of an idle one. */
static void rotate_canary_dial(struct pool *p, struct server *s, struct upstream *u, int64_t now_us)
{
	if (!plan_may_dial(p, s, now_us) || plan_dial(p, s, now_us) == PERMIT_OK)
		return;
	if (u->state != UP_IDLE || s->by_state[UP_CLOSING].len > 0)
		return;
	if (now_us < s->stale_next_us) {
		plan_wake(p, s->stale_next_us);
		return;
	}
	upstream_close(u, ERR_RECYCLED, now_us);
	s->stale_next_us = now_us + STALE_PACE_HELD_US; /* somebody else may take its place */
}

/* An unproven generation is tried on a connection that exists, or, where that can't be done, by a new one. */
static void rotate_canary(struct pool *p, struct server *s, int64_t now_us)
{
	if (s->stale.len == 0 || !server_wants_canary(s, now_us))
		return;
	if (p->opts.cred_change == CRED_CHANGE_REAUTH)
		rotate_canary_reauth(p, s, rotate_first(s), now_us);
	else
		rotate_canary_dial(p, s, rotate_first(s), now_us);
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
		rotate_stale(u);
	}
}

static bool rotate_is_off(const struct pool *p)
{
	return !p->opts.has_credential || p->opts.cred_change == CRED_CHANGE_KEEP || p->gen == 0 ||
	       p->mode == POOL_SHUT;
}

void rotate_prove(struct pool *p, int64_t now_us)
{
	if (rotate_is_off(p))
		return;
	for (size_t i = 0; i < p->n_servers; i++) {
		rotate_age(p, p->servers[i], now_us);
		rotate_canary(p, p->servers[i], now_us);
	}
}

void rotate_plan(struct pool *p, int64_t now_us)
{
	if (rotate_is_off(p))
		return;
	for (size_t i = 0; i < p->n_servers; i++) {
		struct server *s = p->servers[i];

		if (!server_is_proven(s))
			continue;
		if (p->opts.cred_change == CRED_CHANGE_RECYCLE)
			rotate_recycle(p, s, now_us);
		else
			rotate_pace(p, s, now_us);
	}
}

bool pool_reauth_begin(struct pool *p, struct upstream *u, int64_t now_us)
{
	struct server *s = u->server;

	if (u->state != UP_LEASED || !upstream_is_stale(u) || p->opts.cred_change != CRED_CHANGE_REAUTH ||
	    u->close_needed != ERR_OK || !rotate_may_begin(s, now_us))
		return false;
	if (!server_is_proven(s) && s->canary)
		return false;
	rotate_begin(u, p->gen);
	u->reauth_us = now_us;
	list_remove(&u->auth);
	list_push_back(&s->held, &u->auth);
	upstream_set_deadline(u);
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
	p->wanting = p->never_newer = false;
	p->want_us = now_us;
	for (size_t i = 0; i < p->n_servers; i++)
		server_hears(p->servers[i], now_us);
	pool_plan(p, now_us);
}

/* Requests that have seen enough refreshes fail, unless somebody serves them all the same. */
static void pool_refuse_denied(struct pool *p, int64_t now_us)
{
	uint64_t max = p->opts.refresh_max_attempts > 0 ? (uint64_t)p->opts.refresh_max_attempts : 3;

	while (p->waiters.len > 0 && !pool_can_serve(p, now_us)) {
		struct lease *l = container_of(list_front(&p->waiters), struct lease, node);
		enum err why = p->gen == 0		     ? ERR_NO_CREDENTIAL
			       : p->gen_expires_us <= now_us ? ERR_EXPIRED
							     : ERR_DENIED;

		if (!p->never_newer && p->refreshes_failed - l->refreshes_failed < max)
			return;
		list_remove(&l->node);
		l->state = LEASE_NONE;
		p->stat.lease_failures[why]++;
		pool_push_effect(p, (struct effect){.kind = EFFECT_REFUSE, .lease = l, .err = why});
	}
}

/* Where nothing newer will ever come, a request waits for a login that is under way, but not for the next one. */
void rotate_refuse(struct pool *p, int64_t now_us)
{
	if (!p->never_newer)
		return;
	for (size_t i = 0; i < p->n_servers; i++)
		if (server_under_way(p->servers[i]) > 0)
			return;
	pool_refuse_denied(p, now_us);
}

#define WANT_AGAIN_US 1000000 /* after a refresh that brought nothing, unless a login is refused */

void pool_no_newer(struct pool *p, uint64_t than, bool final, int64_t now_us)
{
	if (!p->wanting || than < p->gen)
		return;
	p->wanting = false;
	p->never_newer = final;
	p->want_us = now_us + WANT_AGAIN_US;
	p->refreshes_failed++;
	pool_refuse_denied(p, now_us);
	pool_plan(p, now_us);
}

/* ---- looking in ---- */

static const enum up_state passing[] = {UP_DIALING, UP_SECURING, UP_LOGIN, UP_PROBING, UP_REAUTH, UP_CLEANING};

/* A login with it is under way. */
static bool server_tries(const struct server *s, uint64_t gen)
{
	for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++)
		list_each(&s->by_state[passing[i]], n) {
			if (upstream_of(n)->try_gen == gen)
				return true;
		}
	list_each(&s->held, n) {
		if (stale_of(n)->try_gen == gen)
			return true;
	}
	return false;
}

/* Something there is logged in, or about to be, with another than the newest. Walks only what is not at rest. */
static bool server_has_older(const struct server *s)
{
	uint64_t gen = s->pool->gen;

	if (s->stale.len > 0 || s->held.len > 0)
		return true;
	for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++)
		list_each(&s->by_state[passing[i]], n) {
			const struct upstream *u = upstream_of(n);

			if ((u->gen != 0 && u->gen < gen) || (u->try_gen != 0 && u->try_gen < gen))
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

		if (s->proven_gen == gen || server_tries(s, gen))
			return true;
	}
	return false;
}

bool pool_is_rotated(const struct pool *p)
{
	for (size_t i = 0; i < p->n_servers; i++)
		if (server_has_older(p->servers[i]) || (p->servers[i]->dialable && !server_is_proven(p->servers[i])))
			return false;
	return true;
}
