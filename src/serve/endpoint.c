/* endpoint: the addresses a server's name stands for, now. The last good answer stays in use until a better one comes. */
#include <string.h>

#include "base/log.h"
#include "serve/serve_private.h"

#define ENDPOINT_SUSPECT_US 30000000 /* how long an address that failed is only tried after the others */

static void endpoint_lookup(void *arg);

void endpoint_free(struct endpoint **pe)
{
	struct endpoint *e = *pe;

	if (!e)
		return;
	lookup_cancel(&e->lookup);
	timer_stop(e->svc->loop, &e->refresh);
	mem_free(e->v);
	mem_free(e);
	*pe = NULL;
}

static int64_t endpoint_failed_us(const struct endpoint *e, const struct addr *a)
{
	for (size_t i = 0; i < e->n; i++)
		if (addr_equal(&e->v[i].addr, a))
			return e->v[i].failed_us;
	return 0;
}

/* Takes a new set of addresses; what is known of those that stay is kept. */
static void endpoint_set(struct endpoint *e, const struct addr *v, size_t n)
{
	struct endpoint_addr *nv = mem_alloc(n * sizeof(*nv));

	for (size_t i = 0; i < n; i++)
		nv[i] = (struct endpoint_addr){.addr = v[i], .failed_us = endpoint_failed_us(e, &v[i])};
	mem_free(e->v);
	e->v = nv;
	e->n = n;
	e->next %= n;
	e->edition++;
}

/* A name cannot be dialled before it is resolved; the pool must know that from the first plan on. */
struct endpoint *endpoint_new(struct service *s, const struct service_server *o)
{
	struct endpoint *e = NEW(struct endpoint);

	e->svc = s;
	e->where = o->where;
	timer_init(&e->refresh, endpoint_lookup, e);
	e->server = pool_add_server(s->pool, &o->opts, e);
	if (e->where.kind == ADDR_NAME)
		server_set_dialable(s->pool, e->server, false, service_now(s));
	else
		endpoint_set(e, &e->where.addr, 1);
	return e;
}

static void endpoint_answered(void *arg, enum err err, const struct addr *v, size_t n)
{
	struct endpoint *e = arg;
	struct service *s = e->svc;
	int64_t now = service_now(s);

	e->lookup = NULL;
	pool_stat(s->pool)->dns_lookups[err]++;
	timer_set(s->loop, &e->refresh, now + (err == ERR_OK ? s->opts.dns_ttl_us : s->opts.dns_negative_ttl_us));
	if (err != ERR_OK) {
		log_at(LOG_LV_WARNING, "dns.failed", L_STR("pool", pool_name(s->pool)), L_STR("host", e->where.host),
		       L_INT("kept", e->n));
		return;
	}
	endpoint_set(e, v, n);
	server_keep_addrs(s->pool, e->server, v, n, now);
	server_set_dialable(s->pool, e->server, true, now);
	service_run(s);
}

static void endpoint_lookup(void *arg)
{
	struct endpoint *e = arg;

	if (!e->lookup)
		e->lookup = resolver_lookup(e->svc->resolver, e->where.host, e->where.port, endpoint_answered, e);
}

void endpoint_start(struct endpoint *e)
{
	if (e->where.kind == ADDR_NAME)
		endpoint_lookup(e);
}

static bool endpoint_is_suspect(const struct endpoint *e, size_t at)
{
	int64_t failed = e->v[at].failed_us;

	return failed != 0 && service_now(e->svc) - failed < ENDPOINT_SUSPECT_US;
}

static bool endpoint_was_tried(size_t at, uint64_t tried)
{
	return at < 64 && tried >> at & 1;
}

size_t endpoint_choose(struct endpoint *e, uint64_t tried)
{
	size_t second = e->n;

	for (size_t i = 0; i < e->n; i++) {
		size_t at = (e->next + i) % e->n;

		if (endpoint_was_tried(at, tried))
			continue;
		if (!endpoint_is_suspect(e, at)) {
			e->next = (at + 1) % e->n;
			return at;
		}
		if (second == e->n)
			second = at;
	}
	return second;
}

bool endpoint_has_more(const struct endpoint *e, uint64_t tried)
{
	for (size_t i = 0; i < e->n; i++)
		if (!endpoint_was_tried(i, tried))
			return true;
	return false;
}

void endpoint_mark(struct endpoint *e, const struct addr *a, bool failed)
{
	for (size_t i = 0; i < e->n; i++)
		if (addr_equal(&e->v[i].addr, a))
			e->v[i].failed_us = failed ? service_now(e->svc) : 0;
}

void endpoint_note(struct endpoint *e)
{
	enum err why = server_down(e->server);
	const char *pool = pool_name(e->svc->pool);

	if (e->down == (why != ERR_OK))
		return;
	e->down = why != ERR_OK;
	if (e->down)
		log_at(LOG_LV_WARNING, "server.down", L_STR("pool", pool), L_STR("server", server_name(e->server)),
		       L_ERR(why));
	else
		log_at(LOG_LV_NOTICE, "server.up", L_STR("pool", pool), L_STR("server", server_name(e->server)));
}
