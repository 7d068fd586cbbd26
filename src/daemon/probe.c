#include "daemon/probe.h"

#include <stdlib.h>

#include "base/mem.h"
#include "daemon/worker.h"

/* A credential that is loaded for one look. */
struct probe_cred {
	struct probe_run *run;
	const char *name;
	struct credential *credential;
	bool answered;
	enum err e;
	const char *why; /* NULL: see e */
};

struct probe_run {
	struct loop *loop;
	struct probe_cred *creds;
	size_t n_creds, unanswered;
	struct resolver *resolver;
	struct probe *v;
	size_t n, left;
};

struct probe {
	struct probe_run *run;
	const struct setup_pool *pool;
	const struct service_server *server;
	struct addr_spec where; /* of the server, or of the credential */
	struct script_cred cred;
	struct lookup *lookup;
	struct addr addrs[RESOLVE_MAX];
	size_t n_addrs, at; /* the address being tried */
	struct stream *stream;
	void *state, *shared; /* the protocol's: of the connection, and of the pool */
	struct buf out;
	int step; /* index into probe_steps; -1: dialling */
	int64_t since_us;
	struct timer deadline;
	FILE *report;
	char *text;
	size_t text_len;
	bool failed;
};

/* The dialogues, in the order they are tried. */
static const struct probe_step {
	enum proto_dialogue dialogue;
	const char *name;
	enum err failed, late;
} probe_steps[] = {
	{PROTO_LOGIN, "login", ERR_LOGIN_FAILED, ERR_LOGIN_TIMEOUT},
	{PROTO_PING, "health check", ERR_HEALTH, ERR_CHECK_TIMEOUT},
	{PROTO_CLEAN, "ready check", ERR_NOT_READY, ERR_CHECK_TIMEOUT},
};

#define PROBE_STEPS ((int)(sizeof(probe_steps) / sizeof(probe_steps[0])))

static void probe_next_address(struct probe *p);
static void probe_begin(struct probe *p, int step);

static void probe_head(struct probe *p)
{
	char text[ADDR_TEXT_MAX] = "-";

	if (p->at < p->n_addrs)
		addr_format(&p->addrs[p->at], text, sizeof(text));
	fprintf(p->report, "%s %s %s: ", p->pool->conf->name, p->server->opts.name, text);
}

static void probe_took(struct probe *p, const char *open, const char *what)
{
	int64_t us = loop_now_us(p->run->loop) - p->since_us;

	fprintf(p->report, "%s%s %lld.%lld ms", open, what, (long long)(us / 1000), (long long)(us % 1000 / 100));
	p->since_us = loop_now_us(p->run->loop);
}

static void probe_hang_up(struct probe *p)
{
	timer_stop(p->run->loop, &p->deadline);
	stream_close(&p->stream);
	buf_clear(&p->out);
	p->pool->opts.proto->end(p->state);
}

static void probe_over(struct probe *p)
{
	if (--p->run->left == 0)
		loop_stop(p->run->loop);
}

static void probe_fail(struct probe *p, enum err e)
{
	if (p->step < 0)
		probe_head(p);
	else
		fprintf(p->report, ", ");
	fprintf(p->report, "%s: %s", p->step < 0 ? "dial" : probe_steps[p->step].name, err_text(e));
	fprintf(p->report, p->step < 0 ? "\n" : ")\n");
	p->failed = true;
	probe_hang_up(p);
	p->at++;
	probe_next_address(p);
}

static void probe_done(struct probe *p)
{
	fprintf(p->report, ")\n");
	probe_hang_up(p);
	p->at++;
	probe_next_address(p);
}

/* Writes what a dialogue has to say. */
static enum err probe_flush(struct probe *p)
{
	struct iovec iov[16];
	size_t n;

	while (buf_len(&p->out) > 0) {
		enum err e = stream_writev(p->stream, iov, buf_iov(&p->out, iov, 16), &n);

		if (e == ERR_AGAIN) {
			stream_want(p->stream, STREAM_WANT_READ | STREAM_WANT_WRITE);
			return ERR_OK;
		}
		if (e != ERR_OK)
			return e;
		buf_consume(&p->out, n);
	}
	stream_want(p->stream, STREAM_WANT_READ);
	return ERR_OK;
}

static void probe_verdict(struct probe *p, enum proto_verdict v)
{
	enum err e = probe_flush(p);

	if (v == PROTO_DENIED)
		e = ERR_DENIED;
	else if (v == PROTO_FAILED)
		e = probe_steps[p->step].failed;
	if (e != ERR_OK) {
		probe_fail(p, e);
	} else if (v == PROTO_DONE) {
		probe_took(p, ", ", probe_steps[p->step].name);
		p->pool->opts.proto->end(p->state);
		probe_begin(p, p->step + 1);
	}
}

static int64_t probe_timeout_us(const struct probe *p)
{
	if (p->step < 0)
		return p->server->opts.connect_timeout_us;
	switch (probe_steps[p->step].dialogue) {
	case PROTO_LOGIN:
		return p->server->opts.login_timeout_us;
	case PROTO_PING:
		return p->pool->opts.pool.health_check_timeout_us;
	default:
		return p->pool->opts.pool.clean_timeout_us;
	}
}

/* Starts the first dialogue from `step` on that this protocol has. */
static void probe_begin(struct probe *p, int step)
{
	const struct service_opts *o = &p->pool->opts;
	struct loop *l = p->run->loop;
	struct blocks *blocks;

	while (step < PROBE_STEPS && !o->proto->has(o->proto_conf, probe_steps[step].dialogue))
		step++;
	if (step == PROBE_STEPS) {
		probe_done(p);
		return;
	}
	p->step = step;
	blocks = probe_steps[step].dialogue == PROTO_LOGIN ? secret_blocks() : loop_blocks(l);
	buf_clear(&p->out);
	buf_init(&p->out, blocks);
	timer_set(l, &p->deadline, loop_now_us(l) + probe_timeout_us(p));
	probe_verdict(
		p, o->proto->begin(p->state, probe_steps[step].dialogue, o->proto_conf, &p->cred, blocks, &p->out));
}

static void probe_read(struct probe *p)
{
	void *scratch = loop_scratch(p->run->loop);
	size_t n = 0;
	enum err e = stream_read(p->stream, scratch, LOOP_SCRATCH_BYTES, &n);
	enum proto_verdict v;

	if (e == ERR_AGAIN)
		return;
	if (e != ERR_OK) {
		probe_fail(p, e);
		return;
	}
	v = p->pool->opts.proto->feed(p->state, scratch, n, &p->cred, &p->out);
	secret_wipe(scratch, n);
	probe_verdict(p, v);
}

static void probe_on_stream(void *arg, enum stream_event ev)
{
	struct probe *p = arg;
	enum err e;

	switch (ev) {
	case STREAM_CONNECTED:
		probe_head(p);
		probe_took(p, "ok (", "dial");
		probe_begin(p, 0);
		break;
	case STREAM_FAILED:
		probe_fail(p, stream_error(p->stream));
		break;
	case STREAM_READABLE:
		probe_read(p);
		break;
	case STREAM_WRITABLE:
		e = probe_flush(p);
		if (e != ERR_OK)
			probe_fail(p, e);
		break;
	}
}

static void probe_on_deadline(void *arg)
{
	struct probe *p = arg;

	probe_fail(p, p->step < 0 ? ERR_CONNECT_TIMEOUT : probe_steps[p->step].late);
}

static void probe_next_address(struct probe *p)
{
	struct loop *l = p->run->loop;

	if (p->at >= p->n_addrs) {
		probe_over(p);
		return;
	}
	p->step = -1;
	p->since_us = loop_now_us(l);
	p->stream = stream_dial(l, &p->addrs[p->at], &p->pool->opts.tcp, probe_on_stream, p);
	timer_set(l, &p->deadline, p->since_us + probe_timeout_us(p));
}

static void probe_on_resolved(void *arg, enum err e, const struct addr *v, size_t n)
{
	struct probe *p = arg;

	p->lookup = NULL;
	if (e != ERR_OK) {
		probe_head(p);
		fprintf(p->report, "%s\n", err_text(e));
		p->failed = true;
	}
	for (size_t i = 0; i < n && i < RESOLVE_MAX; i++)
		p->addrs[p->n_addrs++] = v[i];
	probe_next_address(p);
}

static void probe_state(struct probe *p, const struct proto *proto)
{
	p->state = mem_alloc(proto->up_bytes + 1);
	p->shared = proto->talk ? mem_alloc(proto->talk->pool_bytes + 1) : NULL;
	if (proto->attach)
		proto->attach(p->state, p->pool->opts.proto_conf, p->shared);
}

/* What the server is logged in to with; a credential may say where as well. False: there is none yet. */
static bool probe_has_cred(struct probe *p)
{
	const struct cred *c;

	if (p->pool->credential == SETUP_NONE)
		return true;
	c = credential_current(p->run->creds[p->pool->credential].credential);
	if (!c)
		return false;
	p->cred = (struct script_cred){
		.username = c->is.username, .password = c->is.password, .database = c->is.database};
	/* As the daemon, which moves no pool that knows more places than one, and none to where nothing can be. */
	if (p->pool->opts.n_servers == 1 && !service_target(&p->server->where, &c->is, &p->where))
		p->where = p->server->where;
	return true;
}

static void probe_start(struct probe_run *run, struct probe *p, const struct setup_pool *pool,
			const struct service_server *server)
{
	p->run = run;
	p->pool = pool;
	p->server = server;
	p->where = server->where;
	probe_state(p, pool->opts.proto);
	p->report = open_memstream(&p->text, &p->text_len);
	BUG_ON(!p->report);
	buf_init(&p->out, loop_blocks(run->loop));
	timer_init(&p->deadline, probe_on_deadline, p);
	if (!probe_has_cred(p)) {
		probe_head(p);
		fprintf(p->report, "%s\n", err_text(ERR_NO_CREDENTIAL));
		p->failed = true;
		p->run->left--;
	} else if (p->where.kind == ADDR_NAME) {
		p->lookup = resolver_lookup(run->resolver, p->where.host, p->where.port, probe_on_resolved, p);
	} else {
		p->addrs[p->n_addrs++] = p->where.addr;
		probe_next_address(p);
	}
}

static bool probe_report(struct probe *p, FILE *out)
{
	fclose(p->report);
	fputs(p->text, out);
	free(p->text);
	mem_free(p->state);
	mem_free(p->shared);
	return !p->failed;
}

static enum err probe_run_all(struct probe_run *run, const struct setup *s, FILE *out)
{
	bool ok = true;
	size_t k = 0;

	for (size_t i = 0; i < s->n_pools; i++)
		run->left += s->pools[i].opts.n_servers;
	run->n = run->left;
	run->v = mem_alloc((run->n + 1) * sizeof(*run->v));
	for (size_t i = 0; i < s->n_pools; i++)
		for (size_t j = 0; j < s->pools[i].opts.n_servers; j++)
			probe_start(run, &run->v[k++], &s->pools[i], &s->pools[i].servers[j]);
	if (run->left > 0)
		loop_run(run->loop);
	for (size_t i = 0; i < run->n; i++)
		ok &= probe_report(&run->v[i], out);
	mem_free(run->v);
	return ok ? ERR_OK : ERR_ALL_DOWN;
}

/* ---- credentials */

static void probe_cred_over(struct probe_cred *c, enum err e)
{
	if (c->answered)
		return;
	c->answered = true;
	c->e = e;
	if (--c->run->unanswered == 0)
		loop_stop(c->run->loop);
}

static void probe_cred_published(void *arg, struct credential *c, struct cred *g)
{
	(void)c;
	(void)g;
	probe_cred_over(arg, ERR_OK);
}

static void probe_cred_refreshed(void *arg, struct credential *c, uint64_t than, enum err why, bool final)
{
	(void)c;
	(void)than;
	(void) final;
	probe_cred_over(arg, why);
}

static void probe_cred_start(struct probe_cred *c, const struct setup *s, size_t i)
{
	static const struct credential_events events = {probe_cred_published, probe_cred_refreshed};
	struct credential_opts o = setup_credential_opts(s, i);
	enum err e;

	c->name = s->credentials[i]->name;
	c->credential = credential_new(c->run->loop, &o, &events, c);
	e = credential_start(c->credential, &c->why);
	if (e == ERR_OK) {
		c->why = NULL;
		/* Nothing may be published by itself when there is nothing; the end of a refresh is told in any case. */
		credential_want_newer(c->credential, 0);
	} else {
		probe_cred_over(c, e);
	}
}

/* Loads every credential, as the daemon does at its start. Says why servers will have none. */
static void probe_creds(struct probe_run *run, const struct setup *s, FILE *out)
{
	run->n_creds = run->unanswered = s->n_credentials;
	run->creds = mem_alloc((run->n_creds + 1) * sizeof(*run->creds));
	for (size_t i = 0; i < run->n_creds; i++)
		run->creds[i].run = run;
	for (size_t i = 0; i < run->n_creds; i++)
		probe_cred_start(&run->creds[i], s, i);
	if (run->unanswered > 0)
		loop_run(run->loop);
	for (size_t i = 0; i < run->n_creds; i++) {
		struct probe_cred *c = &run->creds[i];

		if (c->e != ERR_OK)
			fprintf(out, "credential %s: %s\n", c->name, c->why ? c->why : err_text(c->e));
	}
}

static void probe_creds_free(struct probe_run *run)
{
	for (size_t i = 0; i < run->n_creds; i++)
		credential_free(&run->creds[i].credential);
	mem_free(run->creds);
}

enum err probe_servers(const struct setup *s, FILE *out)
{
	struct probe_run run = {.loop = loop_new()};
	enum err e = ERR_OS;

	if (!run.loop)
		return ERR_OS;
	run.resolver = worker_resolver(run.loop, &s->conf->dns);
	if (run.resolver) {
		probe_creds(&run, s, out);
		e = probe_run_all(&run, s, out);
		probe_creds_free(&run);
	}
	resolver_free(&run.resolver);
	loop_free(&run.loop);
	return e;
}
