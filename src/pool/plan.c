/*
 * plan: after anything has happened, who gets a connection and what has to be started.
 *
 * For the oldest waiter the servers are asked once each, beginning with the one whose turn it is: no rate token: passed
 * over; an idle connection: granted; else a dial (or the check of a connection idle for long) is started there if there
 * are more waiters than supply, and the rest of the servers are asked for an idle connection all the same. So load goes
 * round, and a server that does not answer costs nobody more than its patience, once. A waiter that has been round is
 * served by whatever becomes idle; that alone starts nothing.
 */
#include "pool/pool_private.h"

void plan_wake(struct pool *p, int64_t at_us)
{
	if (at_us < p->wake_us)
		p->wake_us = at_us;
}

/* Connections that will soon be idle without anybody doing more. Only what answers quickly counts: dials of a server that is
 * up, checks of connections that exist. */
static size_t plan_supply(const struct pool *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n_servers; i++) {
		n += p->servers[i]->quick_checks.len;
		if (p->servers[i]->state == SERVER_UP)
			n += p->servers[i]->quick_dials.len;
	}
	return n;
}

static bool plan_needs_check(const struct pool *p, const struct upstream *u, int64_t now_us)
{
	int64_t fresh = upstream_used_us(u);

	if (!p->opts.has_health_check)
		return false;
	if (u->checked_us > fresh)
		fresh = u->checked_us;
	return now_us - fresh > p->opts.health_check_after_us;
}

/* Of those that may be lent as they are, if there is one. */
static struct upstream *plan_oldest_of(const struct list *idle)
{
	struct upstream *best = NULL;

	list_each(idle, n) {
		struct upstream *u = upstream_of(n);

		if (!best || rotate_may_lend(u) > rotate_may_lend(best) ||
		    (rotate_may_lend(u) == rotate_may_lend(best) && u->created_us < best->created_us))
			best = u;
	}
	return best;
}

/* The next in the reuse order; NULL: none. */
static struct upstream *plan_next_idle(const struct pool *p, struct upstream *u)
{
	struct node *n = p->opts.reuse_order == REUSE_LIFO   ? list_next(&u->node)
			 : p->opts.reuse_order == REUSE_FIFO ? list_prev(&u->node)
							     : NULL;

	return n ? upstream_of(n) : NULL;
}

static struct upstream *plan_first_idle(const struct pool *p, const struct list *idle)
{
	if (p->opts.reuse_order == REUSE_LIFO)
		return upstream_of(list_front(idle));
	if (p->opts.reuse_order == REUSE_FIFO)
		return upstream_of(list_back(idle));
	return plan_oldest_of(idle);
}

static struct upstream *plan_last_idle(const struct pool *p, const struct list *idle)
{
	return upstream_of(p->opts.reuse_order == REUSE_LIFO ? list_back(idle) : list_front(idle));
}

#define PLAN_LOOK_FOR_FRESH 16 /* how many that must log in again are passed over for one that need not */

/* The idle connection the reuse order names; those that are to go are closed on the way. */
static struct upstream *plan_pick_idle(struct pool *p, struct server *s, int64_t now_us)
{
	struct list *idle = &s->by_state[UP_IDLE];
	enum err why;

	while (idle->len > 0) {
		struct upstream *first = plan_first_idle(p, idle), *u = first;

		for (int i = 0; u && !rotate_may_lend(u) && i < PLAN_LOOK_FOR_FRESH; i++)
			u = plan_next_idle(p, u);
		/* The last in the order has just been made, if any has: without a look at it one more would be made, and so on. */
		if (!u || !rotate_may_lend(u))
			u = plan_last_idle(p, idle);
		if (!rotate_may_lend(u))
			u = first;
		if (!upstream_expired(u, now_us, &why))
			return u;
		upstream_close(u, why, now_us);
	}
	return NULL;
}

static bool plan_rate_ready(struct pool *p, struct server *s, int64_t now_us)
{
	int64_t at = rate_ready_us(&s->rate, now_us);

	if (at <= now_us)
		return true;
	p->stat.rate_limited++;
	plan_wake(p, at);
	return false;
}

static void plan_grant(struct pool *p, struct lease *l, struct upstream *u, int64_t now_us)
{
	list_remove(&l->node);
	l->state = LEASE_HELD;
	l->up = u;
	l->granted_us = now_us;
	u->lease = l;
	rate_spend(&u->server->rate, now_us);
	upstream_to(u, UP_LEASED, now_us);
	if (u->leases++ > 0)
		p->stat.leases_reused++;
	u->last_leased_us = now_us;
	p->stat.leases++;
	hist_add(&p->stat.lease_wait, now_us - l->asked_us);
	pool_push_effect(p, (struct effect){.kind = EFFECT_GRANT, .lease = l, .up = u});
}

/* No server answers quickly: the case in which a broken one may be tried before its backoff is over. */
static bool plan_nobody_up(const struct pool *p)
{
	for (size_t i = 0; i < p->n_servers; i++)
		if (p->servers[i]->state == SERVER_UP && p->servers[i]->dialable)
			return false;
	return true;
}

/* When a server may be dialled: its backoff, shortened while somebody waits in vain and it merely refuses connections. */
static int64_t plan_dial_at(const struct pool *p, const struct server *s)
{
	int64_t early = s->failed_us + s->opts.probe_interval_us;

	if (s->state != SERVER_DOWN)
		return INT64_MIN;
	if (p->waiters.len > 0 && s->opts.probe_interval_us > 0 && s->connect_failed && early < s->retry_us &&
	    plan_nobody_up(p))
		return early;
	return s->retry_us;
}

static void plan_new_upstream(struct pool *p, struct server *s, struct permit permit, uint64_t gen, int64_t now_us)
{
	struct upstream *u = slab_get(&p->upstreams);
	int64_t age = s->opts.max_age_us;

	u->id = ++p->next_id;
	u->server = s;
	u->permit = permit;
	u->created_us = now_us;
	u->expires_us = INT64_MAX;
	if (age > 0)
		u->expires_us = now_us + age - (int64_t)((double)age * s->opts.max_age_jitter * rng_unit(&p->rng)) +
				1;
	u->cred_expires_us = INT64_MAX;
	rotate_begin(u, gen);
	upstream_start(u, now_us);
	pool_push_effect(p, (struct effect){.kind = EFFECT_DIAL, .up = u});
}

/* Starts a dial if the server and the limits allow it. */
enum permit_result plan_dial(struct pool *p, struct server *s, int64_t now_us)
{
	struct permit permit = {0};
	uint64_t gen = 0;
	enum permit_result r;

	if (!rotate_dial_gen(p, s, now_us, &gen))
		return PERMIT_SERVER_FULL;
	r = permit_take(&permit, &s->scope, &p->scope, p->budget);
	if (r == PERMIT_OK)
		plan_new_upstream(p, s, permit, gen, now_us);
	return r;
}

bool plan_may_dial(struct pool *p, struct server *s, int64_t now_us)
{
	int64_t at = plan_dial_at(p, s);
	size_t max = s->state == SERVER_UP ? (size_t)s->opts.max_concurrent_dials : 1;

	if (!s->dialable || p->mode == POOL_SHUT || server_under_way(s) >= max)
		return false;
	if (at > now_us) {
		plan_wake(p, at);
		return false;
	}
	return true;
}

enum supply_result { SUPPLY_NONE, SUPPLY_STARTED, SUPPLY_NO_ROOM };

/* One more connection from this server: the check of one that was idle for long, else a dial. */
static enum supply_result plan_supply_from(struct pool *p, struct server *s, int64_t now_us)
{
	struct upstream *u = plan_pick_idle(p, s, now_us);
	enum permit_result r;

	if (u && rotate_is_due(u) && rotate_start(u, now_us))
		return SUPPLY_STARTED;
	/* While a check of a suspect server is under way, a new connection tells more than the next check. */
	if (u && rotate_may_lend(u) && plan_needs_check(p, u, now_us) &&
	    (s->state == SERVER_UP || s->by_state[UP_PROBING].len == 0)) {
		upstream_to(u, UP_PROBING, now_us);
		pool_push_effect(p, (struct effect){.kind = EFFECT_PROBE, .up = u});
		return SUPPLY_STARTED;
	}
	if (!plan_may_dial(p, s, now_us))
		return SUPPLY_NONE;
	r = plan_dial(p, s, now_us);
	if (r == PERMIT_OK)
		return SUPPLY_STARTED;
	if (u && rotate_recycles(u) && s->by_state[UP_CLOSING].len == 0)
		upstream_close(u, ERR_RECYCLED, now_us);
	return r == PERMIT_SERVER_FULL ? SUPPLY_NONE : SUPPLY_NO_ROOM;
}

/* Serves the oldest waiter from idle connections; what else is needed is started on the way. */
static bool plan_serve_first(struct pool *p, int64_t now_us)
{
	struct lease *l = container_of(list_front(&p->waiters), struct lease, node);
	bool started = false;

	for (size_t i = 0; i < p->n_servers; i++) {
		size_t at = (p->turn + i) % p->n_servers;
		struct server *s = p->servers[at];
		struct upstream *u;

		if (!plan_rate_ready(p, s, now_us))
			continue;
		u = plan_pick_idle(p, s, now_us);
		if (u && rotate_may_lend(u) && !plan_needs_check(p, u, now_us)) {
			p->turn = (at + 1) % p->n_servers;
			plan_grant(p, l, u, now_us);
			return true;
		}
		if (!started && !l->asked_round && p->waiters.len > plan_supply(p))
			started = plan_supply_from(p, s, now_us) == SUPPLY_STARTED;
	}
	l->asked_round = true;
	if (started)
		p->turn = (p->turn + 1) % p->n_servers;
	return false;
}

/* Starts dials and checks until supply meets demand. Returns true when only a shared limit was in the way. */
static bool plan_start_supply(struct pool *p, int64_t now_us)
{
	bool no_room = false;

	for (size_t tried = 0; tried < p->n_servers && p->waiters.len > plan_supply(p);) {
		struct server *s = p->servers[p->turn];
		enum supply_result r = SUPPLY_NONE;

		p->turn = (p->turn + 1) % p->n_servers;
		if (rate_ready_us(&s->rate, now_us) <= now_us)
			r = plan_supply_from(p, s, now_us);
		no_room = no_room || r == SUPPLY_NO_ROOM;
		tried = r == SUPPLY_STARTED && s->state == SERVER_UP ? 0 : tried + 1;
	}
	return no_room && p->waiters.len > plan_supply(p);
}

/* Keeps min_idle connections ready beyond those that waiters will take. */
static bool plan_min_idle(struct pool *p, int64_t now_us)
{
	bool no_room = false;

	if (p->mode != POOL_RUN)
		return false;
	for (size_t i = 0; i < p->n_servers; i++) {
		struct server *s = p->servers[i];
		size_t want = (size_t)s->opts.min_idle;

		if (want > 0 && now_us < s->refill_us) {
			plan_wake(p, s->refill_us);
			continue;
		}
		while (s->by_state[UP_IDLE].len + s->by_state[UP_PROBING].len + s->by_state[UP_REAUTH].len +
				       server_under_way(s) <
			       want &&
		       plan_may_dial(p, s, now_us)) {
			enum permit_result r = plan_dial(p, s, now_us);

			if (r == PERMIT_OK)
				continue;
			no_room = no_room || r == PERMIT_BUDGET_SPENT;
			break;
		}
	}
	return no_room;
}

/* Demand that nobody is about to meet. lease_wait = nonblock: those requests end now. */
static void plan_refuse_nonblocking(struct pool *p, int64_t now_us)
{
	while (p->waiters.len > plan_supply(p)) {
		struct lease *l = container_of(list_back(&p->waiters), struct lease, node);
		enum err why = pool_why(p, now_us);

		list_remove(&l->node);
		l->state = LEASE_NONE;
		p->stat.lease_failures[why == ERR_OK ? ERR_LIMIT : why]++;
		pool_push_effect(
			p,
			(struct effect){.kind = EFFECT_REFUSE, .lease = l, .err = why == ERR_OK ? ERR_LIMIT : why});
	}
}

void pool_refuse_waiters(struct pool *p, enum err why)
{
	while (p->waiters.len > 0) {
		struct lease *l = container_of(list_front(&p->waiters), struct lease, node);

		list_remove(&l->node);
		l->state = LEASE_NONE;
		p->stat.lease_failures[why]++;
		pool_push_effect(p, (struct effect){.kind = EFFECT_REFUSE, .lease = l, .err = why});
	}
}

/* The least recently used idle connection that may go. Servers at their min_idle keep theirs, unless the process has more
 * connections than it may (its limit was lowered). */
static struct upstream *plan_lru(const struct pool *p)
{
	bool excess = budget_excess(p->budget) > 0;
	struct upstream *lru = NULL;

	for (size_t i = 0; i < p->n_servers; i++) {
		const struct list *idle = &p->servers[i]->by_state[UP_IDLE];
		struct upstream *u;

		if (idle->len <= (excess ? 0 : (size_t)p->servers[i]->opts.min_idle))
			continue;
		u = upstream_of(list_back(idle));
		if (!lru || upstream_used_us(u) < upstream_used_us(lru))
			lru = u;
	}
	return lru;
}

bool pool_evict_one(struct pool *p, enum err why, int64_t now_us)
{
	struct upstream *u = plan_lru(p);

	if (!u)
		return false;
	upstream_close(u, why, now_us);
	p->stat.evictions++;
	return true;
}

/* A shared limit stands between a waiter and a dial: make room in the pool's own, or ask for room in the process'. */
static void plan_make_room(struct pool *p, bool no_room, int64_t now_us)
{
	if (!no_room) {
		if (list_is_on(&p->member.hungry))
			budget_unwant(p->budget, &p->member);
		return;
	}
	if (p->scope.max > 0 && p->scope.used >= p->scope.max) {
		if (pool_count(p, UP_CLOSING) == 0)
			pool_evict_one(p, ERR_EVICTED, now_us);
	} else if (!list_is_on(&p->member.hungry)) {
		budget_want(p->budget, &p->member);
	}
}

void pool_plan(struct pool *p, int64_t now_us)
{
	const struct upstream *lru;
	bool no_room = false;

	p->wake_us = INT64_MAX;
	rotate_prove(p, now_us);
	while (p->waiters.len > 0 && plan_serve_first(p, now_us))
		;
	if (p->waiters.len > 0)
		no_room = plan_start_supply(p, now_us);
	if (p->waiters.len > 0 && p->opts.lease_wait == LEASE_NONBLOCK)
		plan_refuse_nonblocking(p, now_us);
	/* A request that could not wait leaves the wish behind, for the next one. */
	no_room = no_room && (p->waiters.len > 0 || p->opts.lease_wait == LEASE_NONBLOCK);
	no_room = plan_min_idle(p, now_us) || no_room;
	rotate_plan(p, now_us);
	rotate_refuse(p, now_us);
	lru = plan_lru(p);
	atomic_store_explicit(&p->member.oldest_idle_us, lru ? upstream_used_us(lru) : INT64_MAX,
			      memory_order_relaxed);
	plan_make_room(p, no_room, now_us);
	/* Somebody else hungers for a descriptor and this pool has one to spare. */
	if (lru && budget_starved(p->budget) && pool_count(p, UP_CLOSING) == 0)
		pool_evict_one(p, ERR_EVICTED, now_us);
}
