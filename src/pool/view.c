#include "pool/pool_private.h"

static bool server_has_room(const struct pool *p, const struct server *s)
{
	const struct permit_scope *a = &s->scope, *b = &p->scope;
	int max = budget_max(p->budget);

	return (a->max == 0 || a->used < a->max) && (b->max == 0 || b->used < b->max) &&
	       (max == 0 || budget_used(p->budget) < max);
}

/* All that is wrong is the credential, at least somewhere. */
static bool pool_is_denied(const struct pool *p)
{
	for (size_t i = 0; i < p->n_servers; i++)
		if (p->servers[i]->state == SERVER_DOWN && p->servers[i]->last_error == ERR_DENIED)
			return true;
	return false;
}

static bool server_can_log_in(const struct server *s, int64_t now_us)
{
	const struct pool *p = s->pool;

	return (p->gen != 0 && p->gen_expires_us > now_us) || (s->proven_gen != 0 && s->proven_expires_us > now_us);
}

/* Somebody may be served without a newer credential. */
bool pool_can_serve(const struct pool *p, int64_t now_us)
{
	for (size_t i = 0; i < p->n_servers; i++) {
		const struct server *s = p->servers[i];

		for (int st = UP_IDLE; st < UP_CLOSING; st++)
			if (s->by_state[st].len > 0)
				return true;
		if (s->state != SERVER_DOWN && server_can_log_in(s, now_us))
			return true;
	}
	return false;
}

enum err pool_why(const struct pool *p, int64_t now_us)
{
	size_t down = 0, limited = 0;

	if (p->mode != POOL_RUN)
		return p->mode == POOL_SHUT ? ERR_SHUTDOWN : ERR_DRAINING;
	if (p->opts.has_credential && p->gen == 0)
		return ERR_NO_CREDENTIAL;
	if (p->gen_expires_us <= now_us && !pool_can_serve(p, now_us))
		return ERR_EXPIRED;
	for (size_t i = 0; i < p->n_servers; i++) {
		const struct server *s = p->servers[i];

		if (rate_ready_us(&s->rate, now_us) > now_us)
			limited++;
		else if ((s->state != SERVER_UP || !s->dialable) && s->by_state[UP_LEASED].len == 0)
			down++;
		else if (s->state == SERVER_UP && (s->by_state[UP_IDLE].len > 0 || server_has_room(p, s)))
			return ERR_OK;
	}
	if (down == p->n_servers)
		return pool_is_denied(p) ? ERR_DENIED : ERR_ALL_DOWN;
	if (limited == p->n_servers)
		return ERR_ALL_RATE_LIMITED;
	if (down + limited == p->n_servers)
		return ERR_SOME_DOWN;
	return ERR_LIMIT;
}

size_t pool_servers(const struct pool *p)
{
	return p->n_servers;
}

struct server *pool_server_at(const struct pool *p, size_t i)
{
	return p->servers[i];
}

void *server_user(const struct server *s)
{
	return s->user;
}

enum err server_down(const struct server *s)
{
	return s->state == SERVER_DOWN ? s->last_error : ERR_OK;
}

const char *server_name(const struct server *s)
{
	return s->name;
}

void pool_server_view(const struct pool *p, size_t i, int64_t now_us, struct server_view *out)
{
	const struct server *s = p->servers[i];
	bool waits = s->state == SERVER_DOWN && s->retry_us > now_us;

	*out = (struct server_view){
		.name = s->name,
		.max_size = s->scope.max,
		.up = s->state == SERVER_UP,
		.dialable = s->dialable,
		.retry_in_us = waits ? s->retry_us - now_us : 0,
		.failures = s->failures,
		.proven_gen = s->proven_gen,
		.stale = s->stale.len,
		.last_error = s->last_error,
		.user = s->user,
	};
	for (int k = 0; k < UP_STATES; k++)
		out->by_state[k] = s->by_state[k].len;
}

static void upstream_view_of(const struct upstream *u, struct upstream_view *out)
{
	*out = (struct upstream_view){
		.id = u->id,
		.server = u->server->name,
		.addr = u->addr,
		.state = u->state,
		.created_us = u->created_us,
		.state_us = u->state_us,
		.last_leased_us = u->last_leased_us,
		.last_returned_us = u->last_returned_us,
		.leases = u->leases,
		.in_use = u->state == UP_LEASED,
		.close_needed = u->close_needed != ERR_OK,
		.gen = u->gen,
	};
}

size_t pool_snapshot(const struct pool *p, struct upstream_view *out, size_t cap)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n_servers; i++)
		for (int k = 0; k < UP_STATES; k++)
			list_each(&p->servers[i]->by_state[k], node) {
				if (n < cap)
					upstream_view_of(upstream_of(node), &out[n]);
				n++;
			}
	return n;
}

size_t pool_count(const struct pool *p, enum up_state s)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n_servers; i++)
		n += p->servers[i]->by_state[s].len;
	return n;
}

size_t pool_waiting(const struct pool *p)
{
	return p->waiters.len;
}

int64_t pool_oldest_wait_us(const struct pool *p, int64_t now_us)
{
	if (p->waiters.len == 0)
		return 0;
	return now_us - container_of(list_front(&p->waiters), struct lease, node)->asked_us;
}

const char *pool_name(const struct pool *p)
{
	return p->name;
}

struct stat *pool_stat(struct pool *p)
{
	return &p->stat;
}

/* CRED-7, and a connection is on one list of rotate.c at most, the right one. */
static void audit_auth(const struct server *s, const struct upstream *u, enum up_state st)
{
	const struct pool *p = s->pool;
	bool in = st == UP_IDLE || st == UP_LEASED;

	BUG_ON(list_is_on(&u->auth) && (!in || !p->opts.has_credential));
	BUG_ON(u->auth.list == &s->held && (st != UP_LEASED || u->try_gen == 0));
	BUG_ON(in && p->opts.has_credential && u->gen < p->gen && !list_is_on(&u->auth));
	BUG_ON(st == UP_LEASED && (u->try_gen != 0) != (u->auth.list == &s->held));
	BUG_ON(u->gen > p->gen || u->try_gen > p->gen);
	BUG_ON(st == UP_IDLE && u->try_gen != 0);
	BUG_ON(s->canary == u && (u->try_gen == 0 || st == UP_CLOSING));
}

static void audit_upstream(const struct server *s, const struct upstream *u, enum up_state st)
{
	bool timed = st == UP_LEASED
			     ? u->try_gen != 0
			     : st != UP_CLOSING && !(st == UP_IDLE && s->opts.max_age_us <= 0 &&
						     s->opts.max_idle_us <= 0 && u->cred_expires_us == INT64_MAX);

	BUG_ON(u->server != s || u->state != st);
	BUG_ON((st == UP_LEASED) != (u->lease != NULL));
	BUG_ON(u->lease && (u->lease->up != u || u->lease->state != LEASE_HELD));
	BUG_ON(timed != heap_has(&u->deadline));
	BUG_ON(list_is_on(&u->quick) && st != UP_PROBING && st != UP_REAUTH && !up_state_is_dial(st));
	audit_auth(s, u, st);
	BUG_ON(u->permit.server != &s->scope || u->permit.pool != &s->pool->scope || !u->permit.budget);
}

void pool_audit(const struct pool *p, int64_t now_us)
{
	size_t all = 0, waiting = 0;

	for (size_t i = 0; i < p->n_servers; i++) {
		const struct server *s = p->servers[i];
		size_t here = 0;

		for (int k = 0; k < UP_STATES; k++) {
			list_each(&s->by_state[k], n)
				audit_upstream(s, upstream_of(n), (enum up_state)k);
			here += s->by_state[k].len;
		}
		BUG_ON(here != (size_t)s->scope.used);
		BUG_ON(s->scope.max > 0 && s->scope.used > s->scope.max);
		BUG_ON(s->state == SERVER_DOWN && s->failures == 0);
		BUG_ON(s->proven_gen > p->gen);
		BUG_ON(p->opts.has_credential && p->opts.reauth_concurrency > 0 &&
		       s->by_state[UP_REAUTH].len + s->held.len > (size_t)p->opts.reauth_concurrency);
		all += here;
	}
	BUG_ON(all != (size_t)p->scope.used);
	BUG_ON(p->scope.max > 0 && p->scope.used > p->scope.max);
	BUG_ON(p->scope.used > budget_used(p->budget));
	list_each(&p->waiters, n) {
		const struct lease *l = container_of(n, struct lease, node);

		BUG_ON(l->state != LEASE_WAITING || l->up != NULL || l->asked_us > now_us);
		waiting++;
	}
	BUG_ON(waiting != p->waiters.len);
	BUG_ON(p->mode != POOL_RUN && waiting > 0);
}
