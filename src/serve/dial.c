/*
 * dial: drives one upstream connection: connects (address by address), runs its dialogues, watches it while idle, closes
 * it. What it learns goes to the pool; what the pool decides comes as a call.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "serve/serve_private.h"

#define DIAL_NEXT_ADDRESS_US 250000 /* an address that has not answered by then lets the next one try */
#define DIAL_GREETING_MAX    16384

static void conn_attempt(struct conn *c);

void *conn_private(struct conn *c)
{
	return c + 1;
}

static struct endpoint *conn_endpoint(const struct conn *c)
{
	return server_user(c->up->server);
}

static const struct proto *conn_proto(const struct conn *c)
{
	return c->svc->opts.proto;
}

static void conn_failed(struct conn *c, enum err e)
{
	pool_failed(c->svc->pool, c->up, e, service_now(c->svc));
}

static void conn_ready(struct conn *c)
{
	pool_idle(c->svc->pool, c->up, service_now(c->svc));
	endpoint_note(conn_endpoint(c));
	conn_note_login(c, ERR_OK);
}

/* ---- credentials ---- */

void conn_take_cred(struct conn *c, uint64_t gen, struct script_cred *out)
{
	struct cred *g = service_cred(c->svc, gen);

	*out = (struct script_cred){0};
	conn_drop_cred(c);
	if (!g)
		return;
	c->cred = cred_ref(g);
	*out = (struct script_cred){g->is.username, g->is.password, g->is.database};
}

void conn_drop_cred(struct conn *c)
{
	cred_drop(&c->cred);
}

void conn_note_login(struct conn *c, enum err e)
{
	struct endpoint *p = conn_endpoint(c);
	const char *words = conn_proto(c)->error_text ? conn_proto(c)->error_text(conn_private(c)) : NULL;

	if (e == ERR_OK) {
		p->error[0] = 0;
		endpoint_proven(p, c->up->gen);
		return;
	}
	if (e == ERR_DENIED)
		snprintf(p->error, sizeof(p->error), "%s", words ? words : "");
	log_at(LOG_LV_WARNING, e == ERR_DENIED ? "login.denied" : "login.failed",
	       L_STR("pool", pool_name(c->svc->pool)), L_STR("server", server_name(c->up->server)),
	       L_INT("upstream", c->up->id), L_ERR(e), L_WIRE("says", words ? words : "", words ? strlen(words) : 0));
}

/* A login that succeeded although the server had something to say: that it wants no password, for one. */
static void conn_note_needless(struct conn *c)
{
	const char *words = conn_proto(c)->error_text ? conn_proto(c)->error_text(conn_private(c)) : NULL;

	if (words && *words)
		log_at(LOG_LV_WARNING, "login.needless", L_STR("pool", pool_name(c->svc->pool)),
		       L_STR("server", server_name(c->up->server)), L_INT("upstream", c->up->id),
		       L_WIRE("says", words, strlen(words)));
}

/* ---- connect ---- */

static void attempt_end(struct conn *c)
{
	if (!c->attempt)
		return;
	timer_stop(c->svc->loop, &c->attempt->patience);
	mem_free(c->attempt);
	c->attempt = NULL;
}

/* This address did not answer: the next one, or the end of the dial. */
static void attempt_over(struct conn *c, enum err e)
{
	c->error = e;
	endpoint_mark(conn_endpoint(c), &c->up->addr, true);
	stream_close(&c->stream);
	conn_attempt(c);
}

static void attempt_impatient(void *arg)
{
	struct attempt *a = arg;
	struct service *s = a->conn->svc;

	attempt_over(a->conn, ERR_CONNECT_TIMEOUT);
	service_run(s);
}

static void conn_attempt(struct conn *c)
{
	struct endpoint *e = conn_endpoint(c);
	struct attempt *a = c->attempt;
	size_t at;

	if (a->edition != e->edition) {
		a->edition = e->edition;
		a->tried = 0;
	}
	if (!endpoint_choose(e, c->up->try_gen, a->tried, &at, &c->up->addr)) {
		conn_failed(c, c->error == ERR_OK ? ERR_DNS : c->error);
		return;
	}
	a->at = at;
	a->tried |= at < 64 ? (uint64_t)1 << at : ~(uint64_t)0;
	c->stream = stream_dial(c->svc->loop, &c->up->addr, &c->svc->opts.tcp, conn_on_event, c);
	if (endpoint_has_more(e, c->up->try_gen, a->tried))
		timer_set(c->svc->loop, &a->patience, service_now(c->svc) + DIAL_NEXT_ADDRESS_US);
	else
		timer_stop(c->svc->loop, &a->patience);
}

void conn_dial(struct service *s, struct upstream *u)
{
	struct conn *c = slab_get(&s->conn_slab);

	c->svc = s;
	c->up = u;
	u->conn = c;
	buf_init(&c->out, loop_blocks(s->loop));
	buf_init(&c->greeting, loop_blocks(s->loop));
	if (s->opts.proto->talk) {
		c->wire = (void *)((char *)(c + 1) + service_up_bytes(s->opts.proto));
		wire_init(c);
	}
	if (s->opts.proto->attach)
		s->opts.proto->attach(conn_private(c), s->opts.proto_conf, s->proto_pool);
	c->attempt = NEW(struct attempt);
	c->attempt->conn = c;
	timer_init(&c->attempt->patience, attempt_impatient, c->attempt);
	conn_attempt(c);
}

/* ---- dialogues ---- */

/* What the dialogue may log in with; PING has no need to. */
static const struct script_cred *conn_cred(const struct conn *c, struct script_cred *out)
{
	if (!c->cred)
		return NULL;
	*out = (struct script_cred){c->cred->is.username, c->cred->is.password, c->cred->is.database};
	return out;
}

static void conn_reauthed(struct conn *c, enum err e)
{
	pool_reauthed(c->svc->pool, c->up, e, service_now(c->svc));
	if (e == ERR_OK)
		conn_note_login(c, e);
}

/* A dialogue ended: tells the pool, by which one it was. */
static void dialogue_over(struct conn *c, enum proto_verdict v)
{
	static const enum err failed[] = {[PROTO_LOGIN] = ERR_LOGIN_FAILED,
					  [PROTO_PING] = ERR_HEALTH,
					  [PROTO_CLEAN] = ERR_NOT_READY,
					  [PROTO_REAUTH] = ERR_REAUTH_FAILED};
	/* Bytes behind the last reply, read yet or not, fail it, and so do words that could not be sent. */
	bool done = v == PROTO_DONE && buf_len(&c->out) == 0 && stream_peek(c->stream) == ERR_AGAIN;
	enum err e = done ? ERR_OK : v == PROTO_DENIED ? ERR_DENIED : failed[c->dialogue];
	struct pool *p = c->svc->pool;
	int64_t now = service_now(c->svc);

	if (e != ERR_OK && (c->dialogue == PROTO_LOGIN || c->dialogue == PROTO_REAUTH))
		conn_note_login(c, e);
	else if (c->dialogue == PROTO_LOGIN)
		conn_note_needless(c);
	conn_proto(c)->end(conn_private(c));
	conn_drop_cred(c);
	buf_clear(&c->out);
	buf_init(&c->out, loop_blocks(c->svc->loop));
	stream_want(c->stream, STREAM_WANT_READ);
	if (c->dialogue == PROTO_LOGIN && e != ERR_OK)
		conn_failed(c, e);
	else if (c->dialogue == PROTO_LOGIN)
		conn_ready(c);
	else if (c->dialogue == PROTO_REAUTH)
		conn_reauthed(c, e);
	else if (c->dialogue == PROTO_PING)
		pool_checked(p, c->up, e, now);
	else
		pool_cleaned(p, c->up, e, now);
}

/* Sends what the dialogue has to say, as far as the socket takes it. */
static void dialogue_flush(struct conn *c)
{
	while (buf_len(&c->out) > 0) {
		size_t len, n;
		const uint8_t *p = buf_peek(&c->out, &len);
		enum err e = stream_write(c->stream, p, len, &n);

		if (e == ERR_AGAIN)
			break;
		if (e != ERR_OK) {
			conn_failed(c, e);
			return;
		}
		buf_consume(&c->out, n);
	}
	stream_want(c->stream, STREAM_WANT_READ | (buf_len(&c->out) > 0 ? STREAM_WANT_WRITE : 0));
}

static void dialogue_begin(struct conn *c, enum proto_dialogue d)
{
	struct blocks *blocks = d != PROTO_PING ? secret_blocks() : loop_blocks(c->svc->loop);
	struct script_cred cred;
	enum proto_verdict v;

	c->dialogue = d;
	/* What the server has said before it was asked is no answer. A login may begin with its words. */
	if (d != PROTO_LOGIN && stream_peek(c->stream) != ERR_AGAIN) {
		conn_failed(c, ERR_DIRTY);
		return;
	}
	/* A login as before, if there is one, would be with a credential that is gone. */
	if (d == PROTO_CLEAN && c->up->gen != 0 && service_cred(c->svc, c->up->gen)->number != c->up->gen) {
		pool_cleaned(c->svc->pool, c->up, ERR_RECYCLED, service_now(c->svc));
		return;
	}
	buf_init(&c->out, blocks);
	if (d != PROTO_PING)
		conn_take_cred(c, d == PROTO_CLEAN ? c->up->gen : c->up->try_gen, &cred);
	v = conn_proto(c)->begin(conn_private(c), d, c->svc->opts.proto_conf, conn_cred(c, &cred), blocks, &c->out);
	dialogue_flush(c);
	if (v != PROTO_MORE && c->up->state != UP_CLOSING)
		dialogue_over(c, v);
}

static void dialogue_read(struct conn *c)
{
	struct loop *l = c->svc->loop;
	uint8_t *p = loop_scratch(l);
	struct script_cred cred;
	enum proto_verdict v;
	size_t n;
	enum err e = stream_read(c->stream, p, LOOP_SCRATCH_BYTES, &n);

	if (e == ERR_AGAIN)
		return;
	if (e != ERR_OK) {
		conn_failed(c, e);
		return;
	}
	v = conn_proto(c)->feed(conn_private(c), p, n, conn_cred(c, &cred), &c->out);
	dialogue_flush(c);
	if (v != PROTO_MORE && c->up->state != UP_CLOSING)
		dialogue_over(c, v);
}

void conn_probe(struct conn *c)
{
	dialogue_begin(c, PROTO_PING);
}

void conn_clean(struct conn *c)
{
	dialogue_begin(c, PROTO_CLEAN);
}

void conn_reauth(struct conn *c)
{
	if (c->up->state == UP_REAUTH)
		dialogue_begin(c, PROTO_REAUTH);
	else if (c->up->state == UP_LEASED && c->wire && (c->session || c->channel))
		wire_reauth(c);
}

static void conn_connected(struct conn *c)
{
	struct service *s = c->svc;

	attempt_end(c);
	endpoint_mark(conn_endpoint(c), &c->up->addr, false);
	pool_connected(s->pool, c->up, service_now(s));
	if (conn_proto(c)->has(s->opts.proto_conf, PROTO_LOGIN))
		dialogue_begin(c, PROTO_LOGIN);
	else
		conn_ready(c);
}

/* ---- idle ---- */

/* Bytes of a connection that nobody has used yet are its greeting; all others make it unusable. */
static void conn_idle_read(struct conn *c)
{
	const struct proto *proto = conn_proto(c);
	bool fresh = c->up->leases == 0 && proto->caps & PROTO_CAP_SERVER_FIRST &&
		     !proto->has(c->svc->opts.proto_conf, PROTO_LOGIN);
	size_t room = DIAL_GREETING_MAX - buf_len(&c->greeting), n = 0;
	uint8_t *p = loop_scratch(c->svc->loop);
	enum err e = stream_read(c->stream, p, LOOP_SCRATCH_BYTES, &n);

	if (e == ERR_AGAIN)
		return;
	if (e == ERR_OK && fresh && n <= room)
		buf_append(&c->greeting, p, n);
	else
		conn_failed(c, e != ERR_OK ? e : fresh ? ERR_TOO_BIG : ERR_DIRTY);
}

static void conn_dispatch(struct conn *c, enum stream_event ev)
{
	switch (c->up->state) {
	case UP_DIALING:
		if (ev == STREAM_CONNECTED)
			conn_connected(c);
		else if (ev == STREAM_FAILED)
			attempt_over(c, stream_error(c->stream));
		break;
	case UP_LOGIN:
	case UP_PROBING:
	case UP_REAUTH:
	case UP_CLEANING:
		if (ev == STREAM_WRITABLE)
			dialogue_flush(c);
		else
			dialogue_read(c);
		break;
	case UP_IDLE:
		conn_idle_read(c);
		break;
	case UP_LEASED:
		if (c->session)
			c->svc->kind->on_server(c->session, ev);
		else if (c->channel)
			wire_on_event(c, ev);
		break;
	default:
		break;
	}
}

void conn_on_event(void *arg, enum stream_event ev)
{
	struct conn *c = arg;
	struct service *s = c->svc;

	conn_dispatch(c, ev);
	service_run(s);
}

void conn_close(struct conn *c)
{
	struct service *s = c->svc;
	struct upstream *u = c->up;

	BUG_ON(c->session != NULL || c->channel != NULL);
	if (s->opts.log_connections || u->reason == ERR_DENIED)
		log_at(LOG_LV_INFO, "upstream.closed", L_STR("pool", pool_name(s->pool)), L_INT("upstream", u->id),
		       L_STR("server", server_name(u->server)), L_ERR(u->reason), L_INT("leases", u->leases),
		       L_INT("age_ms", (service_now(s) - u->created_us) / 1000));
	endpoint_note(conn_endpoint(c));
	attempt_end(c);
	conn_proto(c)->end(conn_private(c));
	conn_drop_cred(c);
	if (c->wire)
		wire_clear(c);
	buf_clear(&c->out);
	buf_clear(&c->greeting);
	stream_close(&c->stream);
	c->up = NULL;
	service_bury_conn(s, c);
	pool_closed(s->pool, u, service_now(s));
}
