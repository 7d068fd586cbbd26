#include "pool/pool_private.h"

static bool server_has_room(const struct pool *p, const struct server *s)
{
	const struct permit_scope *a = &s->scope, *b = &p->scope;
	int max = budget_max(p->budget);

	return (a->max == 0 || a->used < a->max) && (b->max == 0 || b->used < b->max) &&
	       (max == 0 || budget_used(p->budget) < max);
}

enum err pool_why(const struct pool *p, int64_t now_us)
{
	size_t down = 0, limited = 0;

	if (p->mode != POOL_RUN)
		return p->mode == POOL_SHUT ? ERR_SHUTDOWN : ERR_DRAINING;
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
		return ERR_ALL_DOWN;
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

static void audit_upstream(const struct server *s, const struct upstream *u, enum up_state st)
{
	bool timed = st != UP_LEASED && st != UP_CLOSING &&
		     !(st == UP_IDLE && s->opts.max_age_us <= 0 && s->opts.max_idle_us <= 0);

	BUG_ON(u->server != s || u->state != st);
	BUG_ON((st == UP_LEASED) != (u->lease != NULL));
	BUG_ON(u->lease && (u->lease->up != u || u->lease->state != LEASE_HELD));
	BUG_ON(timed != heap_has(&u->deadline));
	BUG_ON(list_is_on(&u->quick) && st != UP_PROBING && !up_state_is_dial(st));
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
