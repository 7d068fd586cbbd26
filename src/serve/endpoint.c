/* endpoint: the addresses a server's name stands for, now. The last good answer stays in use until a better one comes. */
#include <string.h>

#include "base/log.h"
#include "serve/serve_private.h"

#define ENDPOINT_SUSPECT_US 30000000 /* how long an address that failed is only tried after the others */

static void endpoint_lookup(void *arg);

static int endpoint_port(const struct addr_spec *s)
{
	if (s->kind == ADDR_NAME)
		return s->port;
	return s->addr.u.sa.sa_family == AF_INET6 ? ntohs(s->addr.u.in6.sin6_port) : ntohs(s->addr.u.in.sin_port);
}

void endpoint_free(struct endpoint **pe)
{
	struct endpoint *e = *pe;

	if (!e)
		return;
	lookup_cancel(&e->lookup);
	timer_stop(e->svc->loop, &e->refresh);
	cred_drop(&e->moving);
	mem_free(e->old);
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
	e->where = e->home = o->where;
	timer_init(&e->refresh, endpoint_lookup, e);
	e->server = pool_add_server(s->pool, &o->opts, e);
	if (e->where.kind == ADDR_NAME)
		server_set_dialable(s->pool, e->server, false, service_now(s));
	else
		endpoint_set(e, &e->where.addr, 1);
	return e;
}

/* ---- a credential that moves the server ---- */

static void endpoint_leave_old(struct endpoint *e)
{
	mem_free(e->old);
	e->old = NULL;
	e->n_old = 0;
}

/* From generation gen on logins go to v; until it is proven there, those with an older one go where they went. */
static void endpoint_go(struct endpoint *e, uint64_t gen, const struct addr *v, size_t n)
{
	if (!e->old && e->n > 0) {
		e->old = mem_alloc(e->n * sizeof(*e->old));
		memcpy(e->old, e->v, e->n * sizeof(*e->old));
		e->n_old = e->n;
	}
	e->moved_gen = gen;
	endpoint_set(e, v, n);
	server_set_dialable(e->svc->pool, e->server, true, service_now(e->svc));
}

static void endpoint_arrive(struct endpoint *e, const struct addr *v, size_t n)
{
	struct cred *c = e->moving;

	e->moving = NULL;
	endpoint_go(e, c->number, v, n);
	service_credential_move(e->svc, c);
	cred_drop(&c);
}

bool service_target(const struct addr_spec *home, const struct cred_fields *f, struct addr_spec *out)
{
	const char *why;
	char *text;
	bool ok;

	*out = *home;
	if (!f->host) {
		if (f->port == 0)
			return true;
		if (home->kind == ADDR_NUMERIC)
			addr_set_port(&out->addr, (uint16_t)f->port);
		out->port = (uint16_t)f->port;
		return home->kind != ADDR_UNIX;
	}
	if (strncmp(f->host, "unix:", 5) == 0)
		text = mem_strdup(f->host);
	else
		text = mem_printf(strchr(f->host, ':') && f->host[0] != '[' ? "[%s]:%d" : "%s:%d", f->host,
				  f->port ? f->port : endpoint_port(home));
	ok = addr_parse(text, out, &why) == ERR_OK && out->kind != ADDR_SYSTEMD;
	mem_free(text);
	return ok;
}

static bool spec_equal(const struct addr_spec *a, const struct addr_spec *b)
{
	if (a->kind != b->kind)
		return false;
	if (a->kind == ADDR_NAME)
		return strcmp(a->host, b->host) == 0 && a->port == b->port;
	return addr_equal(&a->addr, &b->addr);
}

bool endpoint_move(struct endpoint *e, struct cred *c)
{
	struct addr_spec to;

	cred_drop(&e->moving); /* one that was on its way has been overtaken */
	if (!service_target(&e->home, &c->is, &to)) {
		log_at(LOG_LV_ERROR, "cred.endpoint_invalid", L_STR("pool", pool_name(e->svc->pool)),
		       L_STR("server", server_name(e->server)));
		return true;
	}
	if (spec_equal(&to, &e->where))
		return true;
	log_at(LOG_LV_NOTICE, "cred.endpoint", L_STR("pool", pool_name(e->svc->pool)),
	       L_STR("server", server_name(e->server)),
	       L_WIRE("host", c->is.host ? c->is.host : "", c->is.host ? strlen(c->is.host) : 0));
	e->where = to;
	lookup_cancel(&e->lookup);
	timer_stop(e->svc->loop, &e->refresh);
	if (to.kind != ADDR_NAME) {
		endpoint_go(e, c->number, &to.addr, 1);
		return true;
	}
	e->moving = cred_ref(c);
	endpoint_look_up(e);
	return false;
}

void endpoint_proven(struct endpoint *e, uint64_t gen)
{
	struct addr v[RESOLVE_MAX];
	size_t n = e->n < RESOLVE_MAX ? e->n : RESOLVE_MAX;

	if (!e->old || gen < e->moved_gen)
		return;
	endpoint_leave_old(e);
	for (size_t i = 0; i < n; i++)
		v[i] = e->v[i].addr;
	server_keep_addrs(e->svc->pool, e->server, v, n, service_now(e->svc));
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
	if (e->moving) {
		endpoint_arrive(e, v, n);
		return;
	}
	endpoint_set(e, v, n);
	if (!e->old)
		server_keep_addrs(s->pool, e->server, v, n, now);
	server_set_dialable(s->pool, e->server, true, now);
	service_run(s);
}

void endpoint_look_up(struct endpoint *e)
{
	if (e->where.kind == ADDR_NAME)
		endpoint_lookup(e);
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

static bool endpoint_is_suspect(const struct endpoint *e, const struct endpoint_addr *a)
{
	return a->failed_us != 0 && service_now(e->svc) - a->failed_us < ENDPOINT_SUSPECT_US;
}

/* The addresses for logins with that generation. */
static struct endpoint_addr *endpoint_for(const struct endpoint *e, uint64_t gen, size_t *n)
{
	bool old = e->old && gen < e->moved_gen;

	*n = old ? e->n_old : e->n;
	return old ? e->old : e->v;
}

static bool endpoint_was_tried(size_t at, uint64_t tried)
{
	return at < 64 && tried >> at & 1;
}

bool endpoint_choose(struct endpoint *e, uint64_t gen, uint64_t tried, size_t *at, struct addr *out)
{
	size_t n;
	struct endpoint_addr *v = endpoint_for(e, gen, &n);
	bool found = false;

	for (size_t i = 0; i < n; i++) {
		size_t k = (e->next + i) % n;

		if (endpoint_was_tried(k, tried) || (found && endpoint_is_suspect(e, &v[k])))
			continue;
		*at = k;
		found = true;
		if (!endpoint_is_suspect(e, &v[k])) {
			e->next = (k + 1) % n;
			break;
		}
	}
	if (found)
		*out = v[*at].addr;
	return found;
}

bool endpoint_has_more(const struct endpoint *e, uint64_t gen, uint64_t tried)
{
	size_t n;

	(void)endpoint_for(e, gen, &n);
	for (size_t i = 0; i < n; i++)
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
