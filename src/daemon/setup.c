#include "daemon/setup.h"

#include "base/mem.h"
#include "proto/redis/redis.h"
#include "proto/tcp.h"

/* How long a dial or a check counts as quick, so that a waiter may rely on it. */
#define SETUP_PATIENCE_US 25000

/* The last choice of reauth_on_failure in keys.def. */
#define SETUP_FAILURE_KEEP 1

/* The rows of the choices of keys.def, in their order. */
static const enum lease_wait setup_lease_wait[] = {LEASE_BLOCK, LEASE_NONBLOCK};
static const enum lease_on setup_lease_on[] = {LEASE_ON_CONNECT, LEASE_ON_FIRST_BYTE};
static const enum reuse_order setup_reuse_order[] = {REUSE_LIFO, REUSE_FIFO, REUSE_OLDEST};
static const enum cred_change setup_cred_change[] = {CRED_CHANGE_REAUTH, CRED_CHANGE_RECYCLE, CRED_CHANGE_KEEP};
static const enum service_mode setup_mode[] = {SERVICE_SESSION, SERVICE_TRANSACTION, SERVICE_REQUEST};
static const enum cred_source setup_source[] = {CRED_STATIC,  CRED_ENV,	    CRED_FILE,	CRED_DIRECTORY,
						CRED_SYSTEMD, CRED_COMMAND, CRED_STREAM};
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

/* What a pool with a credential does about a new one. */
static void setup_rotation(struct pool_opts *o, const struct conf_pool *p)
{
	o->has_credential = true;
	o->cred_change = setup_cred_change[p->on_credential_change];
	o->reauth_spread_us = p->reauth_spread_us;
	o->reauth_concurrency = (int)p->reauth_concurrency;
	o->reauth_timeout_us = p->reauth_timeout_us;
	o->reauth_interval_us = p->reauth_interval_us;
	o->failed_keeps = p->reauth_on_failure == SETUP_FAILURE_KEEP;
	o->refresh_max_attempts = (int)p->refresh_max_attempts;
}

static struct pool_opts setup_pool_opts(const struct conf_pool *p)
{
	return (struct pool_opts){
		.name = p->name,
		.max_total = (int)p->max_total,
		.lease_wait = setup_lease_wait[p->lease_wait],
		.lease_timeout_us = p->lease_timeout_us,
		.reuse_order = setup_reuse_order[p->reuse_order],
		.health_check_after_us = p->health_check_after_us,
		.health_check_timeout_us = p->health_check_timeout_us,
		.clean_timeout_us = p->ready_check_timeout_us,
		.patience_us = SETUP_PATIENCE_US,
	};
}

/* ---- protocols. The only place that tells one protocol's settings from another's. */

static struct proto_conf *setup_tcp(const struct setup_pool *p)
{
	struct tcp_conf tcp = {
		.login = p->login,
		.health_check = p->health_check,
		.ready_check = p->ready_check,
		.on_return = setup_reuse[p->conf->reuse],
	};

	return tcp_conf_new(&tcp);
}

/* One for the password and one for each uid. */
static struct redis_user *setup_redis_users(const struct conf_pool *p, size_t *n)
{
	struct redis_user *out;

	*n = p->n_users;
	for (size_t i = 0; i < p->n_users; i++)
		*n += p->users[i].uid.n;
	out = mem_alloc((*n + 1) * sizeof(*out));
	*n = 0;
	for (size_t i = 0; i < p->n_users; i++) {
		const struct conf_user *u = &p->users[i];

		out[(*n)++] = (struct redis_user){.name = u->name, .password = u->password, .uid = -1};
		for (size_t k = 0; k < u->uid.n; k++)
			out[(*n)++] = (struct redis_user){.name = u->name, .uid = u->uid.v[k]};
	}
	return out;
}

static struct proto_conf *setup_redis(const struct conf_pool *p, struct redis_user **users, const char **bad)
{
	struct redis_conf c = {
		.deny = p->deny_commands.v,
		.n_deny = p->deny_commands.n,
		.plain = p->safe_commands.v,
		.n_plain = p->safe_commands.n,
		.dedicated = setup_mode[p->mode] == SERVICE_SESSION,
	};

	c.users = *users = setup_redis_users(p, &c.n_users);
	return redis_conf_new(&c, bad);
}

static void setup_proto_conf(struct setup_pool *p)
{
	struct redis_user *users = NULL;
	const char *bad;

	if (p->opts.proto == &proto_redis) {
		p->proto_conf = setup_redis(p->conf, &users, &bad);
		p->users = users;
	} else {
		BUG_ON(p->opts.proto != &proto_tcp);
		p->proto_conf = setup_tcp(p);
	}
	BUG_ON(!p->proto_conf);
}

static void setup_proto_conf_free(struct setup_pool *p)
{
	if (p->opts.proto == &proto_redis)
		redis_conf_free(&p->proto_conf);
	else
		tcp_conf_free(&p->proto_conf);
	mem_free(p->users);
}

bool setup_commands_known(const struct conf_pool *p, const char **bad)
{
	struct redis_user *users = NULL;
	struct proto_conf *c;

	if (proto_find(p->protocol) != &proto_redis)
		return true;
	c = setup_redis(p, &users, bad);
	mem_free(users);
	if (!c)
		return false;
	redis_conf_free(&c);
	return true;
}

/* ---- credentials */

/* The index of the credential among those that are used. */
static size_t setup_credential(struct setup *s, const struct conf_credential *c)
{
	size_t i = 0;

	if (!c)
		return SETUP_NONE;
	while (i < s->n_credentials && s->credentials[i] != c)
		i++;
	if (i == s->n_credentials)
		s->credentials[s->n_credentials++] = c;
	return i;
}

static const char *setup_text(const char *text)
{
	return text && *text ? text : NULL;
}

struct credential_opts setup_credential_opts(const struct setup *s, size_t i)
{
	const struct conf_credential *c = s->credentials[i];
	struct credential_opts o = {
		.name = c->name,
		.source = setup_source[c->source],
		.env_username = setup_text(c->env_username),
		.env_password = setup_text(c->env_password),
		.path = setup_text(c->path),
		.argv = c->argv.v,
		.pass_env = c->pass_env.v,
		.strict_permissions = c->strict_permissions,
		.poll_us = c->poll_interval_us,
		.debounce_us = c->debounce_us,
		.interval_us = c->refresh_interval_us,
		.refresh_ratio = c->refresh_ratio,
		.refresh_before_us = c->refresh_before_us,
		.timeout_us = c->source_timeout_us,
		.retries = (int)c->source_retries,
		.backoff_initial_us = c->source_backoff_initial_us,
		.backoff_max_us = c->source_backoff_max_us,
		.backoff_multiplier = c->source_backoff_multiplier,
		.cooldown_us = c->refresh_cooldown_us,
		.cooldown_max_us = c->refresh_cooldown_max_us,
	};

	cred_fields_init(&o.fixed);
	o.fixed.username = setup_text(c->username) ? mem_strdup(c->username) : NULL;
	o.fixed.password = c->password ? secret_ref(c->password) : NULL;
	return o;
}

/* ---- pools */

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
		.pool = setup_pool_opts(conf),
		.proto = proto_find(conf->protocol),
		.tcp = setup_tcp_opts(&c->tcp),
		.mode = setup_mode[conf->mode],
		.multiplex = (int)conf->multiplex_connections,
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
	setup_proto_conf(p);
	p->opts.proto_conf = p->proto_conf;
	p->opts.pool.has_health_check = p->opts.proto->has(p->proto_conf, PROTO_PING);
	if (p->credential != SETUP_NONE)
		setup_rotation(&p->opts.pool, conf);
	setup_lists(p, c);
}

struct setup *setup_new(const struct conf *c)
{
	struct setup *s = NEW(struct setup);

	s->conf = c;
	s->n_pools = c->n_pools;
	s->pools = mem_alloc((c->n_pools + 1) * sizeof(*s->pools));
	s->credentials = mem_alloc((c->n_credentials + 1) * sizeof(struct conf_credential *));
	for (size_t i = 0; i < c->n_pools; i++) {
		s->pools[i].credential = setup_credential(s, c->pools[i].credential);
		setup_pool(&s->pools[i], &c->pools[i], c);
	}
	return s;
}

void setup_free(struct setup **s)
{
	if (!*s)
		return;
	for (size_t i = 0; i < (*s)->n_pools; i++) {
		struct setup_pool *p = &(*s)->pools[i];

		setup_proto_conf_free(p);
		script_free(&p->login);
		script_free(&p->health_check);
		script_free(&p->ready_check);
		mem_free(p->servers);
		mem_free(p->listeners);
	}
	mem_free((*s)->pools);
	mem_free((*s)->credentials);
	mem_free(*s);
	*s = NULL;
}

const char *setup_mode_name(const struct conf_pool *p)
{
	static const char *const names[] = {"session", "transaction", "request"};

	return names[p->mode];
}

size_t setup_listeners(const struct conf *c)
{
	size_t n = 0;

	for (size_t i = 0; i < c->n_pools; i++)
		n += c->pools[i].n_listen;
	return n;
}
