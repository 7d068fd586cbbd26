#include "unit/serve_world.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define GUARD_US (20 * SEC)
#define TICK_US	 200 /* how often a condition that no event announces is looked at */

struct serve_world sv;

struct lookup {
	resolve_fn *fn;
	void *arg;
};

static struct lookup lookup_running;

/* ---- the resolver: the test answers. Weak, so that a test of the real one links beside it. ---- */

__attribute__((weak)) struct lookup *resolver_lookup(struct resolver *r, const char *host, uint16_t port,
						     resolve_fn *fn, void *arg)
{
	(void)r;
	(void)host;
	(void)port;
	ck_assert_ptr_null(lookup_running.fn);
	lookup_running = (struct lookup){fn, arg};
	return &lookup_running;
}

__attribute__((weak)) void lookup_cancel(struct lookup **k)
{
	if (*k)
		lookup_running.fn = NULL;
	*k = NULL;
}

void sv_resolve(const struct addr *v, size_t n)
{
	struct lookup k = lookup_running;

	ck_assert_ptr_nonnull(k.fn);
	lookup_running.fn = NULL;
	k.fn(k.arg, n > 0 ? ERR_OK : ERR_DNS, v, n);
}

/* ---- peers ---- */

static uint8_t pattern_at(size_t i)
{
	return (uint8_t)(i * 31 + i / 251);
}

static void peer_write(struct peer *p)
{
	uint8_t bytes[16384];
	enum err e = ERR_OK;

	while (e == ERR_OK && p->sent < p->to_send) {
		size_t n = p->to_send - p->sent < sizeof(bytes) ? p->to_send - p->sent : sizeof(bytes);

		for (size_t i = 0; i < n; i++)
			bytes[i] = pattern_at(p->sent + i);
		e = stream_write(p->s, bytes, n, &n);
		p->sent += n;
	}
	if (e == ERR_AGAIN) {
		stream_want(p->s, stream_wants(p->s) | STREAM_WANT_WRITE);
		return;
	}
	stream_want(p->s, stream_wants(p->s) & ~(unsigned)STREAM_WANT_WRITE);
	if (e == ERR_OK && p->fin_when_out)
		stream_shutdown(p->s);
}

static void peer_take(struct peer *p, const uint8_t *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (p->got < p->verse) {
			if (v[i] != pattern_at(p->got)) /* an assertion for each byte would take its time */
				ck_abort_msg("byte %zu is not the one that was sent", p->got);
			p->got++;
			continue;
		}
		ck_assert_uint_lt(p->n_words, sizeof(p->words) - 1);
		p->words[p->n_words++] = (char)v[i];
		if (v[i] == '\n' && p->answer)
			sv_say(p, p->answer);
	}
}

static void peer_read(struct peer *p)
{
	uint8_t *v = loop_scratch(sv.loop);
	size_t n;
	enum err e = stream_read(p->s, v, LOOP_SCRATCH_BYTES, &n);

	if (e == ERR_AGAIN)
		return;
	if (e == ERR_OK) {
		peer_take(p, v, n);
		return;
	}
	p->end = e;
	stream_want(p->s, stream_wants(p->s) & ~(unsigned)STREAM_WANT_READ);
}

static void peer_on_event(void *arg, enum stream_event ev)
{
	struct peer *p = arg;

	ck_assert_ptr_nonnull(p->s);
	if (ev == STREAM_CONNECTED) {
		p->connected = true;
		peer_write(p);
	} else if (ev == STREAM_FAILED) {
		p->failed = true;
	} else if (ev == STREAM_READABLE) {
		peer_read(p);
	} else {
		peer_write(p);
	}
	loop_stop(sv.loop);
}

struct peer *sv_client_begun(void)
{
	struct peer *p = &sv.clients[sv.n_clients++];

	ck_assert_uint_le(sv.n_clients, SV_PEERS);
	*p = (struct peer){.verse = SIZE_MAX};
	p->s = stream_dial(sv.loop, &sv.addr, &sv.opts.tcp, peer_on_event, p);
	return p;
}

struct peer *sv_client(void)
{
	struct peer *p = sv_client_begun();

	SV_UNTIL(p->connected);
	return p;
}

static void server_on_accept(void *arg, struct stream *s)
{
	struct peer *p = &sv.servers[sv.n_servers++];

	ck_assert_uint_le(sv.n_servers, SV_PEERS);
	++*(size_t *)arg;
	*p = (struct peer){.s = s, .connected = true, .verse = SIZE_MAX};
	stream_set_handler(s, peer_on_event, p);
	stream_want(s, STREAM_WANT_READ);
	if (sv.greeting)
		sv_say(p, sv.greeting);
	loop_stop(sv.loop);
}

struct peer *sv_server(size_t i)
{
	SV_UNTIL(sv.n_servers > i);
	return &sv.servers[i];
}

void sv_send(struct peer *p, size_t n)
{
	p->to_send += n;
	if (p->connected)
		peer_write(p);
}

void sv_say(struct peer *p, const char *words)
{
	size_t n;

	ck_assert_int_eq(stream_write(p->s, words, strlen(words), &n), ERR_OK);
	ck_assert_uint_eq(n, strlen(words));
}

void sv_close(struct peer *p)
{
	stream_close(&p->s);
}

void sv_abort(struct peer *p)
{
	stream_abort(&p->s);
}

void sv_listen_to(struct peer *p)
{
	p->deaf = false;
	stream_want(p->s, stream_wants(p->s) | STREAM_WANT_READ);
}

/* What is sent to it has to wait elsewhere. */
void sv_deafen(struct peer *p)
{
	p->deaf = true;
	stream_want(p->s, stream_wants(p->s) & ~(unsigned)STREAM_WANT_READ);
}

/* ---- turns ---- */

static void on_tick(void *arg)
{
	(void)arg;
	loop_stop(sv.loop);
}

static void on_guard(void *arg)
{
	(void)arg;
	ck_abort_msg("nothing happened for too long");
}

void sv_turn(void)
{
	timer_set(sv.loop, &sv.tick, loop_now_us(sv.loop) + TICK_US);
	loop_run(sv.loop);
	if (sv.svc)
		service_audit(sv.svc);
}

void sv_pass(int64_t us)
{
	int64_t end = loop_now_us(sv.loop) + us;

	SV_UNTIL(loop_now_us(sv.loop) >= end);
}

/* ---- the service ---- */

struct script *sv_script(const char *send, const char *expect)
{
	struct script_step step = {.send = send, .expect = expect};
	struct script *s;
	size_t bad;
	const char *why;

	ck_assert_int_eq(script_compile(&step, 1, &s, &bad, &why), ERR_OK);
	return s;
}

static void listen_on(const char *text, size_t i)
{
	struct listen_opts o = {.backlog = 64, .uid = -1, .gid = -1};
	struct addr_spec spec;
	const char *why;

	ck_assert_int_eq(addr_parse(text, &spec, &why), ERR_OK);
	ck_assert_int_eq(listener_open(sv.loop, &spec.addr, &o, server_on_accept, &sv.n_at[i], &sv.listener[i], &why),
			 ERR_OK);
	listener_addr(sv.listener[i], &sv.server_addr[i]);
}

static void poke_nobody(void *arg, enum budget_poke what)
{
	(void)arg;
	(void)what;
}

void sv_set_up(void)
{
	char text[64];

	memset(&sv, 0, sizeof(sv));
	lookup_running.fn = NULL;
	sv.loop = loop_new();
	ck_assert_ptr_nonnull(sv.loop);
	timer_init(&sv.guard, on_guard, NULL);
	timer_init(&sv.tick, on_tick, NULL);
	timer_set(sv.loop, &sv.guard, loop_now_us(sv.loop) + GUARD_US);
	listen_on("127.0.0.1:0", 0);
	listen_on("127.0.0.2:0", 1);
	snprintf(text, sizeof(text), "unix:@leased-serve-server-%d", (int)getpid());
	listen_on(text, 2);
	sv.server = (struct service_server){
		.opts = {.name = "s",
			 .max_size = 8,
			 .max_concurrent_dials = 4,
			 .connect_timeout_us = 2 * SEC,
			 .login_timeout_us = 2 * SEC,
			 .backoff = {.initial_us = 20 * MS, .max_us = SEC, .multiplier = 1.5}},
		.where = {.kind = ADDR_NUMERIC, .addr = sv.server_addr[0]},
	};
	sv.listen = (struct service_listener){.name = "l", .fd = -1, .opts = {.backlog = 64, .uid = -1, .gid = -1}};
	sv.opts = (struct service_opts){
		.pool = {.name = "p",
			 .lease_timeout_us = 5 * SEC,
			 .health_check_timeout_us = SEC,
			 .clean_timeout_us = SEC,
			 .patience_us = 500 * MS},
		.proto = &proto_tcp,
		.quiet_time_us = 10 * MS,
		.half_close_timeout_us = 5 * SEC,
		.high_water = 65536,
		.dns_ttl_us = 3600 * SEC,
		.dns_negative_ttl_us = 3600 * SEC,
	};
}

void sv_over_unix(void)
{
	struct addr_spec spec;
	char text[64];

	snprintf(text, sizeof(text), "unix:@leased-serve-%d", (int)getpid());
	ck_assert_int_eq(addr_parse(text, &spec, NULL), ERR_OK);
	sv.listen.addr = spec.addr;
	sv.server.where = (struct addr_spec){.kind = ADDR_UNIX, .addr = sv.server_addr[2]};
}

void sv_start(void)
{
	struct addr_spec spec;
	const char *why;

	if (sv.listen.addr.len == 0) {
		ck_assert_int_eq(addr_parse("127.0.0.1:0", &spec, &why), ERR_OK);
		sv.listen.addr = spec.addr;
	}
	sv.tcp.ready_check = sv.check;
	sv.tcp.health_check = sv.ping;
	sv.tcp.login = sv.login;
	sv.opts.pool.has_health_check = sv.ping != NULL;
	sv.conf = tcp_conf_new(&sv.tcp);
	sv.opts.proto_conf = sv.conf;
	sv.opts.servers = &sv.server;
	sv.opts.n_servers = 1;
	sv.opts.listeners = &sv.listen;
	sv.opts.n_listeners = 1;
	sv.budget = budget_new(0);
	if (!sv.limit)
		sv.limit = client_limit_new(0);
	sv.svc = service_new(sv.loop, NULL, &sv.opts, sv.budget, sv.limit, poke_nobody, NULL);
	ck_assert_int_eq(service_listen(sv.svc, &why), ERR_OK);
	service_listener_addr(sv.svc, 0, &sv.addr);
}

static void on_stopped(void *arg)
{
	(void)arg;
	sv.stopped = true;
	loop_stop(sv.loop);
}

void sv_tear_down(void)
{
	for (size_t i = 0; i < SV_PEERS; i++) {
		stream_close(&sv.clients[i].s);
		stream_close(&sv.servers[i].s);
	}
	service_stop(sv.svc, on_stopped, NULL);
	service_kill(sv.svc);
	SV_UNTIL(sv.stopped);
	ck_assert_int_eq(client_limit_used(sv.limit), 0);
	ck_assert_int_eq(budget_used(sv.budget), 0);
	service_free(&sv.svc);
	for (size_t i = 0; i < 3; i++)
		listener_close(&sv.listener[i]);
	timer_stop(sv.loop, &sv.guard);
	timer_stop(sv.loop, &sv.tick);
	loop_free(&sv.loop);
	budget_free(&sv.budget);
	client_limit_free(&sv.limit);
	tcp_conf_free(&sv.conf);
	script_free(&sv.check);
	script_free(&sv.ping);
	script_free(&sv.login);
}

size_t sv_in(enum up_state s)
{
	return pool_count(service_pool(sv.svc), s);
}
