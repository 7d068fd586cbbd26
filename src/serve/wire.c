/*
 * wire: an upstream connection in use by clients whose messages are known: what is to go out, and the replies owed, in order.
 *
 *	talk --request--> [run in the scratch | out] --> server --> from_server() --> oldest reply owed --> its asker
 *
 * Requests that lie side by side in the scratch go out in one write without being copied. A copy of each is kept until
 * its reply has begun, so that it can be asked again when the server says that it was not executed, or, where that
 * changes nothing, when the connection breaks. Replies that lie side by side and have one asker are delivered in one write.
 */
#include "base/log.h"
#include "serve/serve_private.h"

#define WIRE_IOV	16
#define WIRE_READ_BYTES 32768
#define WIRE_TRIES	3 /* how often in a row a request is asked again */

static const struct proto_talk *wire_talk(const struct conn *k)
{
	return k->svc->opts.proto->talk;
}

static struct owed *wire_at(const struct wire *w, size_t i)
{
	return &w->v[(w->first + i) & (w->cap - 1)];
}

void wire_init(struct conn *k)
{
	struct wire *w = k->wire;
	struct loop *l = k->svc->loop;

	*w = (struct wire){.conn = k};
	buf_init(&w->in, loop_blocks(l));
	buf_init(&w->out, loop_blocks(l));
	buf_init(&w->kept, loop_blocks(l));
	buf_init(&w->login, secret_blocks());
}

void wire_clear(struct conn *k)
{
	struct wire *w = k->wire;

	for (size_t i = 0; i < w->len; i++)
		BUG_ON(wire_at(w, i)->asker != NULL);
	if (list_is_on(&w->flush))
		list_remove(&w->flush);
	buf_clear(&w->in);
	buf_clear(&w->out);
	buf_clear(&w->login);
	buf_clear(&w->kept);
	mem_free(w->v);
	wire_init(k);
}

bool wire_is_idle(const struct wire *w)
{
	return w->len == 0 && !w->sending && !w->pushing;
}

bool wire_takes(const struct conn *k)
{
	const struct wire *w = k->wire;
	size_t most = k->svc->opts.high_water;

	return !w->not_run && buf_len(&w->out) < most && buf_len(&w->kept) < most && !w->stalled;
}

/* ---- the replies owed ---- */

static void wire_owe(struct wire *w, struct owed o)
{
	if (w->len == w->cap) {
		size_t cap = w->cap ? 2 * w->cap : 8;
		struct owed *v = mem_alloc(cap * sizeof(*v));

		for (size_t i = 0; i < w->len; i++)
			v[i] = *wire_at(w, i);
		mem_free(w->v);
		w->v = v;
		w->cap = cap;
		w->first = 0;
	}
	*wire_at(w, w->len++) = o;
}

static struct owed wire_pop(struct wire *w)
{
	struct owed o = *wire_at(w, 0);

	w->first = (w->first + 1) & (w->cap - 1);
	w->len--;
	w->begun = false;
	return o;
}

/* ---- out ---- */

static void wire_settle(struct wire *w)
{
	if (w->run)
		buf_append(&w->out, w->run, w->run_bytes);
	w->run = NULL;
}

static void wire_add(struct wire *w, const uint8_t *p, size_t n)
{
	if (w->run && w->run + w->run_bytes == p) {
		w->run_bytes += n;
		return;
	}
	wire_settle(w);
	w->run = p;
	w->run_bytes = n;
}

/* Moves all bytes of `from` to the end of `to`. */
static void wire_move(struct buf *to, struct buf *from)
{
	while (buf_len(from) > 0) {
		size_t n;
		const uint8_t *p = buf_peek(from, &n);

		buf_append(to, p, n);
		buf_consume(from, n);
	}
}

void wire_send(struct conn *k, struct session *c, const struct proto_request *req, const uint8_t *p)
{
	struct wire *w = k->wire;
	uint32_t tags[PROTO_AHEAD_MAX];
	bool keep = req->whole && req->len <= PROTO_HEAD_MAX;
	struct buf ahead;
	unsigned n;

	buf_init(&ahead, loop_blocks(k->svc->loop));
	n = wire_talk(k)->pass(talk_private(c), conn_private(k), req, &ahead, tags);
	for (unsigned i = 0; i < n; i++)
		wire_owe(w, (struct owed){.tag = tags[i], .kind = OWED_AHEAD});
	if (buf_len(&ahead) > 0) {
		wire_settle(w);
		wire_move(&w->out, &ahead);
	}
	wire_owe(w, (struct owed){.asker = c,
				  .tag = req->tag,
				  .kept = keep ? (uint32_t)req->len : 0,
				  .kind = req->flags & PROTO_REQUEST_MUTE ? OWED_MUTE : OWED_REPLY,
				  .flags = (uint8_t)req->flags,
				  .again = keep && req->flags & PROTO_REQUEST_AGAIN});
	if (keep)
		buf_append(&w->kept, p, req->len);
	if (req->len > 0)
		wire_add(w, p, req->len);
	w->sending = req->whole ? NULL : c;
	c->talk->owed++;
	c->talk->on = k;
	pool_stat(k->svc->pool)->requests++;
}

void wire_send_more(struct conn *k, const uint8_t *p, size_t n, bool last)
{
	wire_add(k->wire, p, n);
	if (last)
		k->wire->sending = NULL;
}

/* A login between two requests, if one is wanted and this is the moment. Nothing that was asked before it is still here, so
 * what is asked after it goes out after it. */
static void wire_log_in(struct conn *k)
{
	struct wire *w = k->wire;
	struct script_cred cred;
	struct pool *p = k->svc->pool;

	if (!w->login_wanted || w->run || buf_len(&w->out) > 0 || buf_len(&w->login) > 0 || w->sending ||
	    !wire_talk(k)->may_reauth(conn_private(k)))
		return;
	w->login_wanted = false;
	if (!pool_reauth_begin(p, k->up, service_now(k->svc)))
		return;
	conn_take_cred(k, k->up->try_gen, &cred);
	wire_owe(w,
		 (struct owed){.tag = wire_talk(k)->reauth(conn_private(k), &cred, &w->login), .kind = OWED_LOGIN});
}

static enum err wire_write_buf(struct conn *k, struct buf *b)
{
	while (buf_len(b) > 0) {
		struct iovec iov[WIRE_IOV];
		size_t n;
		enum err e = stream_writev(k->stream, iov, buf_iov(b, iov, WIRE_IOV), &n);

		if (e != ERR_OK)
			return e;
		buf_consume(b, n);
	}
	return ERR_OK;
}

static enum err wire_write(struct conn *k)
{
	struct wire *w = k->wire;
	enum err e = wire_write_buf(k, &w->login);
	size_t n = 0;

	if (e == ERR_OK && w->run && buf_len(&w->out) == 0) {
		e = stream_write(k->stream, w->run, w->run_bytes, &n);
		if (e == ERR_OK && n == w->run_bytes) {
			w->run = NULL;
			return ERR_OK;
		}
		if (e == ERR_OK) {
			w->run += n;
			w->run_bytes -= n;
		}
	}
	wire_settle(w);
	return e == ERR_OK ? wire_write_buf(k, &w->out) : e;
}

/* There is room again: whoever had to wait for it may go on. */
static void wire_has_room(struct conn *k)
{
	if (k->session)
		talk_wake(k->session);
	else if (k->channel)
		channel_wake(k->channel);
}

void wire_flush(struct conn *k)
{
	struct wire *w = k->wire;
	bool full = buf_len(&w->out) >= k->svc->opts.high_water;
	enum err e = wire_write(k);

	if (e != ERR_OK && e != ERR_AGAIN) {
		/* The peer is gone: reading will tell, after what it has still said. */
		buf_clear(&w->out);
		buf_clear(&w->login);
	}
	if (w->login_wanted)
		wire_log_in(k);
	if (buf_len(&w->login) > 0 && e == ERR_OK)
		e = wire_write_buf(k, &w->login);
	if (e == ERR_AGAIN)
		stream_want(k->stream, stream_wants(k->stream) | STREAM_WANT_WRITE);
	else
		stream_want(k->stream, stream_wants(k->stream) & ~(unsigned)STREAM_WANT_WRITE);
	if (full && buf_len(&w->out) < k->svc->opts.high_water)
		wire_has_room(k);
}

void wire_flush_later(struct conn *k)
{
	wire_settle(k->wire);
	if (list_is_on(&k->wire->flush))
		return;
	list_push_back(&k->svc->to_flush, &k->wire->flush);
	loop_post(k->svc->loop, &k->svc->flush);
}

void wire_reauth(struct conn *k)
{
	k->wire->login_wanted = true;
	if (buf_len(&k->wire->out) > 0 || k->wire->run)
		return;
	wire_flush(k);
	talk_run(k->svc);
}

/* ---- in ---- */

/* Bytes on their way to one asker. */
struct delivery {
	struct session *to;
	const uint8_t *p;
	size_t n;
};

/* Nothing more is read for c, so that little has to be kept. A client may stall one wire, and be the one who stalls it, as it is
 * owed replies by one only. */
static void wire_stall(struct conn *k, struct session *c)
{
	if (k->wire->stalled == c)
		return;
	if (c->talk->stalls)
		wire_resume(c->talk->stalls);
	if (k->wire->stalled)
		k->wire->stalled->talk->stalls = NULL;
	k->wire->stalled = c;
	c->talk->stalls = k;
}

static void wire_hand_over(struct conn *k, struct delivery *d)
{
	struct session *c = d->to;

	d->to = NULL;
	if (!c)
		return;
	talk_deliver(c, d->p, d->n);
	/* One that has all its replies may take its time. */
	if (buf_len(&c->down.pending) >= k->svc->opts.high_water / 2 && (c->talk->on == k || k->session == c))
		wire_stall(k, c);
}

static void wire_deliver(struct conn *k, struct delivery *d, struct session *to, const uint8_t *p, size_t n)
{
	if (d->to == to && d->p + d->n == p) {
		d->n += n;
		return;
	}
	wire_hand_over(k, d);
	*d = (struct delivery){to, p, n};
}

/* The login between two requests was answered. */
static void wire_logged_in(struct conn *k)
{
	static const enum err by_verdict[] = {[PROTO_MORE] = ERR_REAUTH_FAILED,
					      [PROTO_DONE] = ERR_OK,
					      [PROTO_DENIED] = ERR_DENIED,
					      [PROTO_FAILED] = ERR_REAUTH_FAILED};
	enum proto_verdict v = wire_talk(k)->reauth_verdict(conn_private(k));

	conn_drop_cred(k);
	pool_reauthed(k->svc->pool, k->up, by_verdict[v], service_now(k->svc));
	conn_note_login(k, by_verdict[v]);
}

/* One reply less that its asker waits for. */
static void wire_answered(struct conn *k, struct session *c)
{
	struct talk *t = c->talk;

	if (--t->owed == 0) {
		t->on = NULL;
		if (k->wire->stalled == c && k->session != c)
			k->wire->stalled = NULL;
	}
	/* A client that shares its connection and has nothing waiting needs no look. */
	if (c->conn || c->up.state != FLOW_OPEN || buf_len(&c->up.pending) > 0 || t->owed == 0)
		talk_wake(c);
}

static void wire_done(struct conn *k)
{
	struct owed o = wire_pop(k->wire);
	struct session *c = o.asker;

	buf_consume(&k->wire->kept, o.kept);
	if (o.kind == OWED_LOGIN)
		wire_logged_in(k);
	if (!c) {
		if (k->session && wire_is_idle(k->wire)) /* it may have waited for that to give the connection back */
			talk_wake(k->session);
		return;
	}
	c->talk->tries = 0;
	/* What was asked before it has to be asked again: the order is lost. */
	if (buf_len(&c->talk->again) > 0)
		c->talk->failed = ERR_PROTOCOL;
	wire_answered(k, c);
}

/* Takes the request's bytes back from what was kept. */
static void wire_take_back(struct wire *w, struct owed *o)
{
	struct proto_request as = {.len = o->kept, .whole = true, .flags = o->flags, .tag = o->tag};
	struct talk *t = o->asker->talk;
	uint8_t part[512];

	/* What changes a state can't be said after what was answered here with that state in mind. */
	if (o->flags & PROTO_REQUEST_OWN && buf_len(&t->late) > 0)
		t->failed = ERR_UPSTREAM_GONE;
	buf_append(&t->again_as, &as, sizeof(as));
	for (size_t left = o->kept, n; left > 0; left -= n) {
		n = buf_copy(&w->kept, part, left < sizeof(part) ? left : sizeof(part));
		buf_append(&t->again, part, n);
		buf_consume(&w->kept, n);
	}
}

/* The server has lost the login and did not execute the request. True: it will be asked again. */
static bool wire_not_run(struct conn *k)
{
	struct wire *w = k->wire;
	struct owed *o = wire_at(w, 0);
	struct session *c = o->asker;
	bool fresh = k->up->leases <= 1; /* older ones may all have been forgotten by the server together */

	w->not_run = true;
	/* What has gone out in part can't be asked again, so neither can what was before it: in order. */
	if (w->sending) {
		w->sending->talk->failed = ERR_UPSTREAM_GONE;
		talk_wake(w->sending);
	}
	if (!c || o->kept == 0 || o->kind == OWED_AHEAD || o->kind == OWED_LOGIN ||
	    (fresh && c->talk->tries >= WIRE_TRIES))
		return false;
	if (fresh && buf_len(&c->talk->again) == 0)
		c->talk->tries++;
	wire_take_back(w, o);
	(void)wire_pop(w);
	wire_answered(k, c);
	return true;
}

/* One step of parsing. Returns how many bytes were used; 0: no more can be done. */
static size_t wire_step(struct conn *k, struct delivery *d, const uint8_t *p, size_t n, enum err *broken)
{
	struct wire *w = k->wire;
	struct owed *o = w->len > 0 ? wire_at(w, 0) : NULL;
	struct session *asker = o ? o->asker : k->session;
	size_t len = 0;
	enum proto_reply r = wire_talk(k)->from_server(conn_private(k), asker ? talk_private(asker) : NULL,
						       k->svc->proto_pool, o ? &o->tag : NULL, p, n, &len);

	BUG_ON(len > n);
	if (r == PROTO_REPLY_NOT_RUN && !wire_not_run(k))
		r = PROTO_REPLY_DONE;
	switch (r) {
	case PROTO_REPLY_WAIT:
		*broken = n >= PROTO_HEAD_MAX ? ERR_TOO_BIG : ERR_OK;
		return 0;
	case PROTO_REPLY_PART:
	case PROTO_REPLY_DONE:
		BUG_ON(!o);
		if (asker && o->kind == OWED_REPLY)
			wire_deliver(k, d, asker, p, len);
		w->begun = true;
		if (r == PROTO_REPLY_DONE)
			wire_done(k);
		return len;
	case PROTO_REPLY_NOT_RUN:
		return len;
	case PROTO_REPLY_PUSH_PART:
	case PROTO_REPLY_PUSH:
		w->pushing = r == PROTO_REPLY_PUSH_PART;
		if (!k->session)
			return len;
		wire_deliver(k, d, k->session, p, len);
		if (!w->pushing && buf_len(&k->session->talk->late) > 0)
			talk_wake(k->session);
		return len;
	case PROTO_REPLY_BROKEN:
		break;
	}
	*broken = ERR_PROTOCOL;
	return 0;
}

static void wire_parse(struct conn *k, const uint8_t *p, size_t n)
{
	struct wire *w = k->wire;
	struct delivery d = {0};
	enum err broken = ERR_OK;

	while (n > 0) {
		size_t used = wire_step(k, &d, p, n, &broken);

		if (used == 0)
			break;
		p += used;
		n -= used;
	}
	wire_hand_over(k, &d);
	if (broken != ERR_OK) {
		wire_broken(k, broken);
		return;
	}
	if (n > 0)
		buf_append(&w->in, p, n);
	if (w->stalled) {
		stream_want(k->stream, stream_wants(k->stream) & ~(unsigned)STREAM_WANT_READ);
		if (k->channel)
			channel_detach(k);
	}
	if (w->login_wanted)
		wire_flush(k);
}

static void wire_read(struct conn *k)
{
	struct wire *w = k->wire;
	uint8_t *p = loop_scratch(k->svc->loop);
	size_t have = buf_len(&w->in), n;
	enum err e = stream_read(k->stream, p + have, WIRE_READ_BYTES, &n);

	if (e == ERR_AGAIN)
		return;
	if (e != ERR_OK) {
		wire_broken(k, ERR_UPSTREAM_GONE);
		return;
	}
	buf_copy(&w->in, p, have);
	buf_clear(&w->in);
	wire_parse(k, p, have + n);
}

void wire_on_event(struct conn *k, enum stream_event ev)
{
	struct service *s = k->svc;

	if (ev == STREAM_READABLE)
		wire_read(k);
	else
		wire_flush(k);
	if (ev == STREAM_WRITABLE && k->session)
		talk_wake(k->session);
	else if (k->channel && k->channel->waiting.len > 0 && wire_takes(k))
		channel_wake(k->channel);
	talk_run(s);
	if (k->channel && k->channel->conn == k && wire_is_idle(k->wire))
		channel_idle(k->channel);
}

enum release_how wire_give_back(struct conn *k, enum release_how how)
{
	struct wire *w = k->wire;
	bool lost = w->not_run || buf_len(&w->in) > 0;

	wire_resume(k);
	w->not_run = w->login_wanted = w->pushing = false;
	return lost && how == RELEASE_CLEAN ? RELEASE_CLOSE : how;
}

void wire_resume(struct conn *k)
{
	if (!k->wire->stalled)
		return;
	k->wire->stalled->talk->stalls = NULL;
	k->wire->stalled = NULL;
	stream_want(k->stream, stream_wants(k->stream) | STREAM_WANT_READ);
	if (k->session)
		talk_wake(k->session);
}

/* ---- the end ---- */

bool wire_owes_others(const struct wire *w, const struct session *c)
{
	for (size_t i = 0; i < w->len; i++)
		if (wire_at(w, i)->asker && wire_at(w, i)->asker != c)
			return true;
	return false;
}

void wire_forget(struct conn *k, const struct session *c)
{
	struct wire *w = k->wire;

	for (size_t i = 0; i < w->len; i++)
		if (wire_at(w, i)->asker == c)
			wire_at(w, i)->asker = NULL;
	if (w->sending == c)
		w->sending = NULL;
}

/* Whether nothing of all that is owed to an asker was of consequence: talk->failed marks those for whom it was. */
static void wire_judge(struct conn *k)
{
	struct wire *w = k->wire;
	bool held = wire_talk(k)->held(conn_private(k)) != ERR_OK;

	for (size_t i = 0; i < w->len; i++) {
		const struct owed *o = wire_at(w, i);
		bool again = o->again && !(i == 0 && w->begun) && !held;

		if (o->asker && (!again || o->asker->talk->tries >= WIRE_TRIES))
			o->asker->talk->spoiled = true;
	}
	if (held && k->session)
		k->session->talk->spoiled = true;
}

void wire_broken(struct conn *k, enum err why)
{
	struct wire *w = k->wire;
	struct session *begun = w->len > 0 && w->begun ? wire_at(w, 0)->asker : NULL;
	struct session *sending = w->sending, *own = k->session;
	bool held = wire_talk(k)->held(conn_private(k)) != ERR_OK;

	wire_judge(k);
	w->sending = NULL;
	while (w->len > 0) {
		struct owed o = *wire_at(w, 0);

		if (o.asker && !o.asker->talk->spoiled)
			wire_take_back(w, &o);
		else
			buf_consume(&w->kept, o.kept);
		(void)wire_pop(w);
		if (o.asker)
			talk_lost(o.asker, o.kind == OWED_REPLY, why);
	}
	if (begun)
		begun->talk->failed = ERR_UPSTREAM_GONE;
	if (sending)
		sending->talk->last = true;
	if (own) {
		if (held)
			own->talk->last = true;
		session_unbind(own, RELEASE_CLOSE, why);
		talk_wake(own);
	} else if (k->channel) {
		channel_lost(k->channel, why);
	}
}
