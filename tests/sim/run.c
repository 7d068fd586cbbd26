/* run: see run.h. */
#include "run.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "base/secret.h"
#include "files.h"
#include "sim_stream.h"

#define SERVER_PORT  7000
#define LISTEN_PORT  6000
#define ROTATED_US   (3 * SECOND)
#define SERVE_ALL_US (5 * SECOND) /* LIVE-6 */

struct run run;

static void describe_pool(FILE *f, const struct sim_pool *p)
{
	const struct pool *b = service_pool(p->svc);

	fprintf(f, "sim: pool %u: %zu wait, %s, max_total %d, reuse %d, login %d, draining %d\n", p->index,
		pool_waiting(b), err_name(pool_why(b, world.now_us)), p->opts.pool.max_total, p->reuse, p->login,
		p->draining);
	for (size_t i = 0; i < pool_servers(b); i++) {
		struct server_view v;

		pool_server_view(b, i, world.now_us, &v);
		fprintf(f, "sim:   server %zu: max_size %d, %s, %s, retry in %" PRId64 " us, last error %s:", i,
			v.max_size, v.up ? "up" : "down", v.dialable ? "dialable" : "not dialable", v.retry_in_us,
			err_name(v.last_error));
		for (int k = 0; k < UP_STATES; k++)
			if (v.by_state[k] > 0)
				fprintf(f, " %s=%zu", up_state_name((enum up_state)k), v.by_state[k]);
		fputc('\n', f);
	}
}

static void run_describe(FILE *f)
{
	if (run.budget)
		fprintf(f, "sim: budget %d of %d\n", budget_used(run.budget), budget_max(run.budget));
	for (size_t i = 0; i < run.n_pools; i++)
		if (run.pools[i].svc)
			describe_pool(f, &run.pools[i]);
}

void run_begin(size_t n_loops, int budget_max, int max_clients)
{
	struct resolver_opts ro = {.timeout_us = 400 * MS};

	run = (struct run){.n_loops = n_loops};
	names_begin();
	files_begin();
	programs_begin();
	sim_streams_begin();
	for (size_t i = 0; i < n_loops; i++) {
		run.loops[i] = loop_new_seeded(i + 1);
		run.resolvers[i] = resolver_new(run.loops[i], &ro);
	}
	run.budget = budget_new(budget_max);
	run.limit = client_limit_new(max_clients);
	run.control = loop_new_seeded(RUN_LOOPS + 1);
	vaults_begin();
	ran_begin();
	vault_start(vault_new(CRED_STATIC));
	shadow_begin();
	world.describe = run_describe;
}

int64_t run_now(void)
{
	return world.now_us - SECOND;
}

void run_until(int64_t at_us)
{
	world_run_until(SECOND + at_us);
}

bool run_wait(bool (*done)(const void *arg), const void *arg, int64_t timeout_us)
{
	int64_t end = run_now() + timeout_us;

	while (!done(arg)) {
		if (run_now() >= end)
			return false;
		run_until(run_now() + 200);
	}
	return true;
}

/* ---- pools ---- */

static void on_message(void *arg, struct message *m)
{
	struct sim_pool *p = arg;
	struct poke *k = container_of(m, struct poke, message);

	if (vault_mail(p, m))
		return;
	k->out = false;
	if (p->svc)
		service_poked(p->svc, (enum budget_poke)m->kind);
}

/* From inside the budget: only sends. */
static void on_poke(void *arg, enum budget_poke what)
{
	struct sim_pool *p = arg;
	struct poke *k = &p->pokes[what];

	trace(TR_POKE, p->index, what, (uint64_t)budget_used(run.budget));
	if (k->out || !p->mailbox)
		return;
	k->out = true;
	k->message.kind = (int)what;
	mailbox_send(p->mailbox, &k->message);
}

struct sim_pool *run_add_pool(unsigned loop)
{
	struct sim_pool *p = &run.pools[run.n_pools];
	struct service_opts *o = &p->opts;

	BUG_ON(run.n_pools == RUN_POOLS || loop >= run.n_loops);
	*p = (struct sim_pool){.index = (unsigned)run.n_pools++, .loop = loop, .vault = &run.vaults[0]};
	o->pool = (struct pool_opts){.name = "sim",
				     .lease_timeout_us = 10 * SECOND,
				     .reauth_timeout_us = 1 * SECOND,
				     .health_check_after_us = 30 * SECOND,
				     .health_check_timeout_us = 5 * SECOND,
				     .clean_timeout_us = 5 * SECOND,
				     .seed = world.seed + p->index,
				     .number = p->index + 1};
	o->proto = &proto_tcp;
	o->lease_on = LEASE_ON_CONNECT;
	o->quiet_time_us = 5 * MS;
	o->half_close_timeout_us = 2 * SECOND;
	o->client_write_timeout_us = 5 * SECOND;
	o->high_water = 4096;
	o->dns_ttl_us = 200 * MS;
	o->dns_negative_ttl_us = 100 * MS;
	return p;
}

struct server_opts *server_options(struct sim_server *s)
{
	return &s->pool->server_opts[s->index].opts;
}

struct sim_server *pool_server(struct sim_pool *p, size_t n_hosts, bool by_name)
{
	struct sim_server *s = &p->servers[p->n_servers];
	struct service_server *o = &p->server_opts[p->n_servers];

	BUG_ON(p->n_servers == RUN_SERVERS || n_hosts > RUN_HOSTS);
	*s = (struct sim_server){.pool = p, .index = (unsigned)p->n_servers++};
	o->opts = (struct server_opts){.name = "server",
				       .max_size = 10,
				       .max_concurrent_dials = 4,
				       .max_age_us = 1800 * (int64_t)SECOND,
				       .max_age_jitter = 0.1,
				       .max_idle_us = 300 * (int64_t)SECOND,
				       .connect_timeout_us = 5 * SECOND,
				       .login_timeout_us = 5 * SECOND,
				       .probe_interval_us = 100 * MS,
				       .backoff = {100 * MS, 1 * SECOND, 1.5, 0.5}};
	for (size_t i = 0; i < n_hosts; i++) {
		s->hosts[i] = server_actor_new(++run.next_host, SERVER_PORT);
		s->hosts[i]->port->owner = s;
	}
	s->n_hosts = n_hosts;
	if (n_hosts == 1 && !by_name) {
		o->where.kind = ADDR_NUMERIC;
		o->where.addr = s->hosts[0]->port->addr;
		return s;
	}
	s->name = name_new();
	for (size_t i = 0; i < n_hosts; i++)
		s->name->host[s->name->n++] = s->hosts[i]->host;
	o->where.kind = ADDR_NAME;
	memcpy(o->where.host, s->name->text, sizeof(s->name->text));
	o->where.port = SERVER_PORT;
	return s;
}

struct sim_server *server_of_port(const struct port *p)
{
	return p->owner;
}

struct sim_pool *pool_of_listener(const struct addr *a)
{
	return &run.pools[ntohs(a->u.in.sin_port) - LISTEN_PORT];
}

static const struct script *pool_script(struct sim_pool *p, int which, const struct script_step *steps, size_t n)
{
	const char *why;
	size_t bad;

	BUG_ON(script_compile(steps, n, &p->scripts[which], &bad, &why) != ERR_OK);
	return p->scripts[which];
}

static void on_want(void *arg, uint64_t than)
{
	struct sim_pool *p = arg;

	vault_want(p->vault, p, than);
}

static void pool_make_credential(struct sim_pool *p)
{
	struct pool_opts *o = &p->opts.pool;

	p->cred_change = o->cred_change;
	if (!(p->opts.proto->caps & PROTO_CAP_REAUTH) && o->cred_change == CRED_CHANGE_REAUTH)
		p->cred_change = CRED_CHANGE_RECYCLE;
	if (!p->vault)
		return;
	p->opts.cred = vault_current(p->vault);
	p->opts.want_newer = on_want;
	p->opts.want_arg = p;
	o->has_credential = true;
}

static void pool_make_redis_conf(struct sim_pool *p)
{
	const struct redis_conf c = {.dedicated = p->opts.mode == SERVICE_SESSION};
	const char *bad;

	p->login = p->vault != NULL;
	p->opts.proto = &proto_redis;
	p->conf = redis_conf_new(&c, &bad);
	p->opts.proto_conf = p->conf;
	p->opts.pool.has_health_check = true;
	pool_make_credential(p);
}

static void pool_make_conf(struct sim_pool *p)
{
	static const struct script_step ping = {.send = "PING\n", .expect = "+PONG"};
	static const struct script_step auth = {
		.send = "AUTH ${username} ${password}\n", .expect = "+OK", .expect_denied = "-DENIED"};
	static const struct script_step greeted[] = {
		{.expect = "G*"},
		{.send = "AUTH ${username} ${password}\n", .expect = "+OK", .expect_denied = "-DENIED"}};
	static const enum proto_return returns[] = {
		[REUSE_RULE_NEVER] = PROTO_RETURN_CLOSE,
		[REUSE_RULE_QUIET] = PROTO_RETURN_QUIET,
		[REUSE_RULE_SCRIPT] = PROTO_RETURN_CLEAN,
	};
	struct tcp_conf c = {.on_return = returns[p->reuse]};

	if (p->login && p->greets)
		c.login = pool_script(p, 0, greeted, 2);
	else if (p->login)
		c.login = pool_script(p, 0, &auth, 1);
	if (p->opts.pool.has_health_check)
		c.health_check = pool_script(p, 1, &ping, 1);
	if (p->reuse == REUSE_RULE_SCRIPT)
		c.ready_check = pool_script(p, 2, &ping, 1);
	p->conf = tcp_conf_new(&c);
	p->opts.proto_conf = p->conf;
	pool_make_credential(p);
}

void pool_start(struct sim_pool *p)
{
	struct loop *l = run.loops[p->loop];
	const char *why = NULL;

	if (p->redis)
		pool_make_redis_conf(p);
	else
		pool_make_conf(p);
	for (size_t i = 0; i < p->n_servers; i++) {
		for (size_t k = 0; k < p->servers[i].n_hosts; k++) {
			struct server_actor *a = p->servers[i].hosts[k];

			a->resp = p->redis ? &p->manners : NULL;
			a->greets = p->greets;
			a->wants_login = p->login;
			a->vault = p->vault;
			a->accepts = p->vault ? p->vault->good : 0;
			a->reuse = p->reuse;
			a->quiet_us = p->opts.quiet_time_us;
		}
	}
	p->opts.servers = p->server_opts;
	p->opts.n_servers = p->n_servers;
	p->listener = (struct service_listener){.name = "sim",
						.addr = sim_addr(50, LISTEN_PORT + p->index),
						.fd = -1,
						.opts = {.backlog = 64, .uid = -1, .gid = -1}};
	p->opts.listeners = &p->listener;
	p->opts.n_listeners = 1;
	p->mailbox = mailbox_new(l, on_message, p);
	run.starting = p;
	p->svc = service_new(l, run.resolvers[p->loop], &p->opts, run.budget, run.limit, on_poke, p);
	run.starting = NULL;
	if (service_listen(p->svc, &why) != ERR_OK)
		world_fail("start", "cannot listen: %s", why);
}

/* ---- drain ---- */

static void on_drained(void *arg, enum err e)
{
	struct sim_pool *p = arg;
	int64_t last = p->shadow.last_release_us > p->shadow.drained_us ? p->shadow.last_release_us
									: p->shadow.drained_us;
	int64_t since = world.now_us - last;

	PROMISE(p->drain_out, "C23", "a drain is answered twice");
	p->drain_out = false;
	p->drains_done++;
	p->drain_result = e;
	p->drained_us = world.now_us;
	if (e != ERR_OK)
		return;
	/* With refuse_new nothing is leased now, and the answer comes right after the last release (C23, POOL-9). */
	if (p->draining)
		PROMISE(pool_count(service_pool(p->svc), UP_LEASED) == 0, "POOL-9", "drained with %zu leases",
			pool_count(service_pool(p->svc), UP_LEASED));
	PROMISE(since <= 50 * MS + loop_late_us(run.loops[p->loop]), "C23",
		"the drain is answered %" PRId64 " us after the last release", since);
}

void pool_drain_start(struct sim_pool *p, bool refuse_new, int64_t timeout_us)
{
	enum err e = p->svc ? service_drain(p->svc, refuse_new, timeout_us, on_drained, p) : ERR_AGAIN;

	PROMISE(!p->svc || (e == ERR_OK) != p->drain_out, "C23", "a drain gets %s", err_name(e));
	if (e != ERR_OK)
		return;
	p->drain_out = true;
	p->draining = p->draining || refuse_new;
}

void pool_drain_over(struct sim_pool *p)
{
	if (!p->svc)
		return;
	p->draining = false;
	service_resume(p->svc);
}

/* ---- clients ---- */

struct client_actor *run_client(struct sim_pool *p, const struct client_plan *plan)
{
	struct client_actor *c;

	BUG_ON(run.n_clients == RUN_CLIENTS);
	c = client_actor_new((unsigned)run.n_clients + 1, &p->listener.addr);
	c->plan = *plan;
	c->greeted_server = p->greets && !p->login;
	if (p->redis) {
		c->resp = NEW(struct resp_client);
		c->resp->spice = p->spice;
	}
	c->greets_always = c->greeted_server && p->reuse == REUSE_RULE_NEVER;
	run.client_pool[run.n_clients] = p;
	run.clients[run.n_clients++] = c;
	return c;
}

/* ---- LIVE-6 ---- */

static void client_try_again(struct client_actor *c, bool served)
{
	(void)served;
	if (c->served_us > 0 && c->opened_last_us >= run.healed_us)
		return;
	client_actor_connect_at(c, world.now_us + world_range(1 * MS, 40 * MS));
}

static bool all_are_served(const void *arg)
{
	(void)arg;
	for (size_t i = 0; i < run.n_clients; i++)
		if (run.clients[i]->phase != CLIENT_GONE && run.clients[i]->opened_last_us < run.healed_us)
			return false;
	return true;
}

void run_heal(void)
{
	nemesis_end();
	world.bugs_on = false;
	run.healed = true;
	run.healed_us = world.now_us;
	trace(TR_PHASE, 2, 0, 0);
	for (size_t i = 0; i < run.n_pools; i++) {
		struct sim_pool *p = &run.pools[i];

		for (size_t k = 0; k < p->n_servers; k++) {
			struct sim_server *s = &p->servers[k];

			for (size_t h = 0; h < s->n_hosts; h++)
				server_actor_heal(s->hosts[h]);
			if (!s->name)
				continue;
			s->name->mute = false;
			s->name->delay_us = 300;
			s->name->n = 0;
			for (size_t h = 0; h < s->n_hosts; h++)
				s->name->host[s->name->n++] = s->hosts[h]->host;
		}
		p->manners = (struct resp_manners){.block_max_us = 10 * MS};
		pool_drain_over(p);
	}
	for (size_t i = 0; i < run.n_vaults; i++)
		vault_heal(&run.vaults[i]);
}

static bool all_are_answered(const void *arg)
{
	(void)arg;
	for (size_t i = 0; i < run.n_clients; i++)
		if (run.clients[i]->resp && run.clients[i]->phase == CLIENT_IN)
			return false;
	return true;
}

/* What was asked before all faults ended is answered, or its client is closed: nobody is forgotten. */
static void run_answer_all(void)
{
	for (size_t i = 0; i < run.n_clients; i++)
		if (run.clients[i]->phase == CLIENT_OUT)
			event_stop(&run.clients[i]->timer);
	if (run_wait(all_are_answered, NULL, SERVE_ALL_US))
		return;
	for (size_t i = 0; i < run.n_clients; i++)
		if (run.clients[i]->resp && run.clients[i]->phase == CLIENT_IN)
			resp_client_describe(run.clients[i], stderr),
				world_fail("LIVE-6",
					   "client %u (C%" PRIu64
					   ") of pool %u is neither answered nor closed, %u of %u",
					   run.clients[i]->id, run.clients[i]->conn_id, run.client_pool[i]->index,
					   run.clients[i]->answered, run.clients[i]->sent);
}

static bool nothing_is_leased(const void *arg)
{
	(void)arg;
	for (size_t i = 0; i < run.n_pools; i++)
		if (shadow_count(&run.pools[i].shadow, UP_LEASED) > 0)
			return false;
	return true;
}

/* Proves: CRED-1 */
static void check_rotated(void)
{
	if (!run_wait(nothing_is_leased, NULL, ROTATED_US))
		world_fail("LIVE-6", "a connection stays leased when all clients are gone");
	PROMISE(run_wait(shadow_is_rotated, NULL, ROTATED_US), "CRED-1",
		"connections that are logged in with an older credential are left long after it has changed");
}

/*
 * Every client that is still there makes one whole session; those that were in the middle of one leave first.
 * Proves: LIVE-6
 */
void run_serve_all(void)
{
	run_answer_all();
	for (size_t i = 0; i < run.n_clients; i++) {
		struct client_actor *c = run.clients[i];
		struct client_plan plan = {
			.requests = 1 + (unsigned)world_below(2), .pipeline = 1, .payload_max = 20};

		if (c->phase == CLIENT_GONE)
			continue;
		client_actor_quit(c, true);
		c->plan = plan;
		if (c->resp) {
			c->resp->spice = 0;
			c->resp->script = NULL;
		}
		c->phase = CLIENT_OUT;
		c->ended = client_try_again;
		client_actor_connect_at(c, world.now_us + world_range(1, 20 * MS));
	}
	if (run_wait(all_are_served, NULL, SERVE_ALL_US)) {
		check_rotated();
		return;
	}
	for (size_t i = 0; i < run.n_clients; i++)
		if (run.clients[i]->phase != CLIENT_GONE && run.clients[i]->opened_last_us < run.healed_us)
			world_fail(
				"LIVE-6",
				"client %u of pool %u is not served within 5 s of the end of all faults; it tried %" PRIu64
				" times in all",
				run.clients[i]->id, run.client_pool[i]->index, run.clients[i]->sessions);
}

/* ---- the end ---- */

static void on_stopped(void *arg)
{
	struct sim_pool *p = arg;

	PROMISE(!p->stopped, "stop", "done twice");
	p->stopped = true;
}

static bool all_are_stopped(const void *arg)
{
	(void)arg;
	for (size_t i = 0; i < run.n_pools; i++)
		if (!run.pools[i].stopped)
			return false;
	return true;
}

/* Some clients are left connected, so that there is something to stop. */
static void run_stop_services(void)
{
	bool gently = world_below(2);

	for (size_t i = 0; i < run.n_clients; i++) {
		struct client_actor *c = run.clients[i];
		struct client_plan plan = {.requests = 2, .pipeline = 1, .payload_max = 100, .think_us = 50 * MS};

		c->ended = NULL;
		if (c->phase == CLIENT_GONE || i % 3 != 0)
			continue;
		if (!gently)
			plan.habit = HABIT_SILENT;
		client_actor_quit(c, true);
		c->plan = plan;
		client_actor_connect(c);
	}
	run_until(run_now() + world_range(0, 3 * MS));
	for (size_t i = 0; i < run.n_pools; i++)
		service_stop(run.pools[i].svc, on_stopped, &run.pools[i]);
	if (gently)
		run_wait(all_are_stopped, NULL, 2 * SECOND);
	for (size_t i = 0; i < run.n_pools; i++)
		if (!run.pools[i].stopped)
			service_kill(run.pools[i].svc);
	PROMISE(run_wait(all_are_stopped, NULL, 1 * SECOND), "stop", "service_kill() does not end the service");
}

static void check_nothing_left(const struct loop *l)
{
	struct loop_count n;

	loop_count(l, &n);
	PROMISE(n.streams == 0 && n.listeners == 0 && n.mailboxes == 0 && n.lookups == 0 && n.splices == 0 &&
			n.timers == 0 && n.tasks == 0 && n.blocks == 0,
		"leak",
		"streams %zu, listeners %zu, mailboxes %zu, lookups %zu, splices %zu, timers %zu, tasks %zu, blocks %zu",
		n.streams, n.listeners, n.mailboxes, n.lookups, n.splices, n.timers, n.tasks, n.blocks);
}

static void pool_free_all(struct sim_pool *p)
{
	service_free(&p->svc);
	mailbox_free(&p->mailbox);
	if (p->redis)
		redis_conf_free(&p->conf);
	else
		tcp_conf_free(&p->conf);
	for (int i = 0; i < 3; i++)
		script_free(&p->scripts[i]);
}

void run_end(void)
{
	trace(TR_PHASE, 3, 0, 0);
	run_stop_services();
	shadow_end();
	vaults_end();
	for (size_t i = 0; i < run.n_pools; i++)
		pool_free_all(&run.pools[i]);
	run_until(run_now() + 1 * MS);
	for (size_t i = 0; i < run.n_loops; i++) {
		resolver_free(&run.resolvers[i]);
		check_nothing_left(run.loops[i]);
	}
	check_nothing_left(run.control);
	vaults_free();
	ran_end();
	budget_free(&run.budget);
	client_limit_free(&run.limit);
	for (size_t i = 0; i < run.n_clients; i++)
		client_actor_free(&run.clients[i]);
	for (size_t i = 0; i < run.n_pools; i++)
		for (size_t k = 0; k < run.pools[i].n_servers; k++)
			for (size_t h = 0; h < run.pools[i].servers[k].n_hosts; h++)
				server_actor_free(&run.pools[i].servers[k].hosts[h]);
	for (size_t i = 0; i < run.n_loops; i++)
		loop_free(&run.loops[i]);
	loop_free(&run.control);
	net_end();
	world_end();
}
