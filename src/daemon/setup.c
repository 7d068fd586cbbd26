#include "daemon/setup.h"

#include "base/mem.h"
#include "proto/tcp.h"

/* How long a dial or a check counts as quick, so that a waiter may rely on it. */
#define SETUP_PATIENCE_US 25000

/* The rows of the choices of keys.def, in their order. */
static const enum lease_wait setup_lease_wait[] = {LEASE_BLOCK, LEASE_NONBLOCK};
static const enum lease_on setup_lease_on[] = {LEASE_ON_CONNECT, LEASE_ON_FIRST_BYTE};
static const enum reuse_order setup_reuse_order[] = {REUSE_LIFO, REUSE_FIFO, REUSE_OLDEST};
static const enum proto_return setup_reuse[] = {PROTO_RETURN_CLOSE, PROTO_RETURN_QUIET, PROTO_RETURN_CLEAN};

static struct script *setup_script(const struct conf_script *s)
{
	struct script_step *steps;
	struct script *out = NULL;
	const char *why;
	size_t bad;
	enum err e;

	if (s->n == 0)
		return NULL;
	steps = mem_alloc(s->n * sizeof(*steps));
	for (size_t i = 0; i < s->n; i++)
		steps[i] = (struct script_step){s->v[i].send, s->v[i].expect, s->v[i].expect_denied, s->v[i].end};
	e = script_compile(steps, s->n, &out, &bad, &why);
	mem_free(steps);
	BUG_ON(e != ERR_OK);
	return out;
}

static struct tcp_opts setup_tcp_opts(const struct conf_tcp *t)
{
	return (struct tcp_opts){
		.keepalive = t->keepalive,
		.keepalive_idle_s = (int)(t->keepalive_idle_us / 1000000),
		.keepalive_interval_s = (int)(t->keepalive_interval_us / 1000000),
		.keepalive_count = (int)t->keepalive_count,
		.user_timeout_ms = (int)(t->user_timeout_us / 1000),
	};
}

static struct service_server setup_server(const struct conf_server *s)
{
	return (struct service_server){
		.where = s->where,
		.opts =
			{
				.name = s->address,
				.max_size = (int)s->max_size,
				.unbounded = s->unbounded,
				.min_idle = (int)s->min_idle,
				.max_rps = (int)s->max_rps,
				.max_rps_burst = (int)s->max_rps_burst,
				.max_concurrent_dials = (int)s->max_concurrent_dials,
				.max_age_us = s->max_age_us,
				.max_idle_us = s->max_idle_us,
				.max_age_jitter = s->max_age_jitter,
				.connect_timeout_us = s->connect_timeout_us,
				.login_timeout_us = s->login_timeout_us,
				.backoff =
					{
						.initial_us = s->backoff_initial_us,
						.max_us = s->backoff_max_us,
						.multiplier = s->backoff_multiplier,
						.jitter = s->backoff_jitter,
					},
				.probe_interval_us = s->probe_interval_us,
				.evict_on_down = s->evict_on_down,
			},
	};
}

static struct service_listener setup_listener(const struct conf_listener *l, const struct conf_tcp *t)
{
	return (struct service_listener){
		.name = l->address,
		.addr = l->where.addr,
		.fd = -1,
		.opts =
			{
				.backlog = (int)t->backlog,
				.tcp = setup_tcp_opts(t),
				.mode = (unsigned)l->mode,
				.uid = l->uid,
				.gid = l->gid,
			},
		.allow_uid = l->allow_uid.v,
		.n_allow_uid = l->allow_uid.n,
	};
}

static struct pool_opts setup_pool_opts(const struct conf_pool *p, bool has_health_check)
{
	return (struct pool_opts){
		.name = p->name,
		.max_total = (int)p->max_total,
		.lease_wait = setup_lease_wait[p->lease_wait],
		.lease_timeout_us = p->lease_timeout_us,
		.reuse_order = setup_reuse_order[p->reuse_order],
		.health_check_after_us = p->health_check_after_us,
		.has_health_check = has_health_check,
		.health_check_timeout_us = p->health_check_timeout_us,
		.clean_timeout_us = p->ready_check_timeout_us,
		.patience_us = SETUP_PATIENCE_US,
	};
}

/* Settings of the pool's protocol. The only place that tells one protocol's settings from another's. */
static struct proto_conf *setup_proto_conf(const struct setup_pool *p)
{
	struct tcp_conf tcp = {
		.login = p->login,
		.health_check = p->health_check,
		.ready_check = p->ready_check,
		.on_return = setup_reuse[p->conf->reuse],
	};

	BUG_ON(p->opts.proto != &proto_tcp);
	return tcp_conf_new(&tcp);
}

static void setup_cred(struct setup_pool *p)
{
	const struct conf_credential *c = p->conf->credential;
	struct cred_fields f;

	if (!c)
		return;
	cred_fields_init(&f);
	f.username = c->username ? mem_strdup(c->username) : NULL;
	f.password = c->password ? secret_ref(c->password) : NULL;
	p->cred = cred_new(1, &f);
	p->opts.cred = p->cred;
	p->opts.pool.has_credential = true;
}

static void setup_lists(struct setup_pool *p, const struct conf *c)
{
	const struct conf_pool *conf = p->conf;

	p->servers = mem_alloc((conf->n_servers + 1) * sizeof(*p->servers));
	for (size_t i = 0; i < conf->n_servers; i++)
		p->servers[i] = setup_server(&conf->servers[i]);
	p->listeners = mem_alloc((conf->n_listen + 1) * sizeof(*p->listeners));
	for (size_t i = 0; i < conf->n_listen; i++)
		p->listeners[i] = setup_listener(&conf->listen[i], &c->tcp);
	p->opts.servers = p->servers;
	p->opts.n_servers = conf->n_servers;
	p->opts.listeners = p->listeners;
	p->opts.n_listeners = conf->n_listen;
}

static void setup_pool(struct setup_pool *p, const struct conf_pool *conf, const struct conf *c)
{
	p->conf = conf;
	p->login = setup_script(&conf->login);
	p->health_check = setup_script(&conf->health_check);
	p->ready_check = setup_script(&conf->ready_check);
	p->opts = (struct service_opts){
		.pool = setup_pool_opts(conf, p->health_check != NULL),
		.proto = proto_find(conf->protocol),
		.tcp = setup_tcp_opts(&c->tcp),
		.max_clients = (int)conf->max_clients,
		.lease_on = setup_lease_on[conf->lease_on],
		.quiet_time_us = conf->quiet_time_us,
		.client_idle_timeout_us = conf->client_idle_timeout_us,
		.half_close_timeout_us = conf->half_close_timeout_us,
		.client_write_timeout_us = conf->client_write_timeout_us,
		.high_water = (size_t)conf->buffer_size_bytes,
		.dns_ttl_us = c->dns.ttl_us,
		.dns_negative_ttl_us = c->dns.negative_ttl_us,
		.log_connections = c->log.connections,
	};
	p->proto_conf = setup_proto_conf(p);
	p->opts.proto_conf = p->proto_conf;
	setup_cred(p);
	setup_lists(p, c);
}

struct setup *setup_new(const struct conf *c)
{
	struct setup *s = NEW(struct setup);

	s->conf = c;
	s->n_pools = c->n_pools;
	s->pools = mem_alloc((c->n_pools + 1) * sizeof(*s->pools));
	for (size_t i = 0; i < c->n_pools; i++)
		setup_pool(&s->pools[i], &c->pools[i], c);
	return s;
}

void setup_free(struct setup **s)
{
	if (!*s)
		return;
	for (size_t i = 0; i < (*s)->n_pools; i++) {
		struct setup_pool *p = &(*s)->pools[i];

		tcp_conf_free(&p->proto_conf);
		script_free(&p->login);
		script_free(&p->health_check);
		script_free(&p->ready_check);
		cred_drop(&p->cred);
		mem_free(p->servers);
		mem_free(p->listeners);
	}
	mem_free((*s)->pools);
	mem_free(*s);
	*s = NULL;
}

size_t setup_listeners(const struct conf *c)
{
	size_t n = 0;

	for (size_t i = 0; i < c->n_pools; i++)
		n += c->pools[i].n_listen;
	return n;
}
