/*
 * talk: a client whose messages are known. It has a connection for itself (session->conn) for as long as the mode or
 * something it does asks for that, or its requests go through a channel, between those of others.
 *
 *	bytes --> from_client(): HERE: the answer, behind all replies owed (late)
 *	                         PASS: own connection or channel --> wire_send(); no connection yet: the bytes wait in up.pending
 *
 * What must be looked at again (a reply has come, a connection was lent, the socket takes bytes) is woken, and is looked at
 * before the callback ends; so nothing calls back from inside a call.
 */
#include <string.h>

#include "base/log.h"
#include "serve/serve_private.h"

#define TALK_OWED_MAX 1024 /* replies owed to one client; then its next request waits */
#define TALK_IOV      16

static const struct proto_talk *talk_proto(const struct session *c)
{
	return c->svc->opts.proto->talk;
}

void *talk_private(struct session *c)
{
	return c->talk + 1;
}

void talk_wake(struct session *c)
{
	if (c->client && !list_is_on(&c->talk->wake))
		list_push_back(&c->svc->awake, &c->talk->wake);
}

/* ---- to the client ---- */

static void talk_stalls(struct session *c)
{
	if (c->down.stalled_us == 0)
		c->down.stalled_us = service_now(c->svc);
	stream_want(c->client, stream_wants(c->client) | STREAM_WANT_WRITE);
	session_arm(c);
}

static void talk_count_out(struct session *c, size_t n)
{
	c->down.bytes += n;
	*c->down.total += n;
	c->down.last_us = service_now(c->svc);
}

void talk_deliver(struct session *c, const uint8_t *p, size_t n)
{
	size_t done = 0;
	enum err e = ERR_AGAIN;

	if (c->talk->failed != ERR_OK)
		return;
	talk_count_out(c, n);
	if (buf_len(&c->down.pending) == 0)
		e = stream_write(c->client, p, n, &done);
	if (e != ERR_OK && e != ERR_AGAIN) {
		c->talk->failed = ERR_CLIENT_GONE;
		talk_wake(c);
		return;
	}
	if (e == ERR_AGAIN)
		done = 0;
	if (done < n) {
		buf_append(&c->down.pending, p + done, n - done);
		talk_stalls(c);
	}
}

/* Sends what waits for the client. */
static void talk_flush(struct session *c)
{
	struct buf *b = &c->down.pending;
	enum err e = ERR_OK;

	while (buf_len(b) > 0 && e == ERR_OK) {
		struct iovec iov[TALK_IOV];
		size_t n;

		e = stream_writev(c->client, iov, buf_iov(b, iov, TALK_IOV), &n);
		if (e == ERR_OK) {
			buf_consume(b, n);
			c->down.stalled_us = 0;
			c->down.last_us = service_now(c->svc);
		}
	}
	if (e == ERR_AGAIN) {
		talk_stalls(c);
		return;
	}
	if (e != ERR_OK)
		c->talk->failed = ERR_CLIENT_GONE;
	c->down.stalled_us = 0;
	stream_want(c->client, stream_wants(c->client) & ~(unsigned)STREAM_WANT_WRITE);
	if (c->talk->stalls)
		wire_resume(c->talk->stalls);
	talk_wake(c);
}

static void talk_deliver_all(struct session *c, struct buf *b)
{
	while (buf_len(b) > 0) {
		size_t n;
		const uint8_t *p = buf_peek(b, &n);

		talk_deliver(c, p, n);
		buf_consume(b, n);
	}
}

/* Answers of ours go out when nothing that was asked before them is owed, or to be asked again. */
static void talk_answer(struct session *c)
{
	struct talk *t = c->talk;

	talk_deliver_all(c, &t->soon);
	if (t->redo == 0 && buf_len(&t->again) == 0)
		talk_deliver_all(c, &t->late);
}

/* ---- from the client ---- */

static bool talk_may_ask(const struct session *c)
{
	const struct talk *t = c->talk;

	/* One who has asked for another connection has to be without the old one first. */
	if (t->leave && c->conn)
		return false;
	return !t->alone && !t->last && t->failed == ERR_OK && t->owed < TALK_OWED_MAX &&
	       (buf_len(&t->late) == 0 || t->redo > 0) && buf_len(&t->soon) == 0 && buf_len(&t->again) == 0 &&
	       buf_len(&c->down.pending) < c->svc->opts.high_water;
}

static bool talk_needs_own(const struct session *c, const struct proto_request *req)
{
	return c->svc->opts.mode != SERVICE_REQUEST || req->flags & PROTO_REQUEST_OWN || c->talk->slow || c->conn;
}

/* The connection that a request goes to now; NULL: it has to wait, and it has been seen to that it will be woken. */
static struct conn *talk_conn(struct session *c, const struct proto_request *req)
{
	struct talk *t = c->talk;
	struct conn *k = c->conn;

	if (talk_needs_own(c, req)) {
		if (!k && t->owed == 0 && c->holder.lease.state == LEASE_NONE)
			session_ask(c);
		return k && wire_takes(k) ? k : NULL;
	}
	if (!t->channel)
		t->channel = channel_pick(c->svc);
	k = t->channel->conn;
	if (t->owed > 0 && t->on != k)
		return NULL; /* replies from two connections could overtake each other */
	if (k && wire_takes(k))
		return k;
	channel_wait(t->channel, c);
	return NULL;
}

/* Sends one request. False: it has to wait. */
static bool talk_pass(struct session *c, const struct proto_request *req, const uint8_t *p)
{
	struct talk *t = c->talk;
	struct conn *k = talk_conn(c, req);

	if (!k)
		return false;
	wire_send(k, c, req, p);
	t->part = !req->whole;
	t->alone = req->flags & PROTO_REQUEST_ALONE;
	if (c->state != CLIENT_ACTIVE)
		session_to(c, CLIENT_ACTIVE);
	return true;
}

/* The rest of a message whose beginning has been sent. 0: it has to wait. */
static size_t talk_go_on(struct session *c, const uint8_t *p, size_t n)
{
	struct talk *t = c->talk;
	struct conn *k = c->conn ? c->conn : t->on; /* the answer may have come before the end of the request */
	bool whole = false;
	size_t used;

	if (!k || !wire_takes(k))
		return 0;
	used = talk_proto(c)->client_more(talk_private(c), p, n, &whole);
	BUG_ON(used > n);
	if (used == 0) {
		t->failed = ERR_PROTOCOL;
		talk_wake(c);
		return 0;
	}
	wire_send_more(k, p, used, whole);
	t->part = !whole;
	return used;
}

/* A request that is asked again, as what it was the first time. */
static size_t talk_redo(struct session *c, const uint8_t *p, size_t n)
{
	struct talk *t = c->talk;
	struct proto_request req;

	BUG_ON(buf_copy(&t->redo_as, &req, sizeof(req)) != sizeof(req));
	if (n < req.len || !talk_pass(c, &req, p))
		return 0;
	buf_consume(&t->redo_as, sizeof(req));
	return req.len;
}

/* One message. Returns how many bytes were used; 0: no more can be done now. */
static size_t talk_step(struct session *c, const uint8_t *p, size_t n)
{
	struct talk *t = c->talk;
	struct proto_request req = {0};
	enum proto_ask ask;

	if (t->part)
		return talk_go_on(c, p, n);
	if (!talk_may_ask(c))
		return 0;
	if (t->redo > 0)
		return talk_redo(c, p, n);
	ask = talk_proto(c)->from_client(talk_private(c), c->svc->opts.proto_conf, c->svc->proto_pool, p, n, &req,
					 &t->late);
	BUG_ON(req.len > n || (req.len == 0 && (ask == PROTO_ASK_HERE || ask == PROTO_ASK_LAST)));
	switch (ask) {
	case PROTO_ASK_MORE:
		if (n >= PROTO_HEAD_MAX)
			t->failed = ERR_TOO_BIG;
		t->more = true;
		return 0;
	case PROTO_ASK_PASS:
		return talk_pass(c, &req, p) ? req.len : 0;
	case PROTO_ASK_LAST:
		t->last = true;
		break;
	case PROTO_ASK_HERE:
		break;
	}
	if (req.flags & PROTO_REQUEST_LEAVE && c->conn) {
		t->leave = true;
		talk_wake(c);
	}
	if (t->owed == 0)
		talk_answer(c);
	return req.len;
}

/* As long as little waits, more is read. */
static void talk_want_more(struct session *c)
{
	if (buf_len(&c->up.pending) >= PROTO_HEAD_MAX)
		stream_want(c->client, stream_wants(c->client) & ~(unsigned)STREAM_WANT_READ);
	else if (c->up.state == FLOW_OPEN)
		stream_want(c->client, stream_wants(c->client) | STREAM_WANT_READ);
}

/* All that can be done with the view; the rest is kept. */
static void talk_process(struct session *c, const uint8_t *p, size_t n)
{
	struct talk *t = c->talk;

	t->more = false;
	while (n > 0) {
		size_t used = talk_step(c, p, n);

		if (used == 0)
			break;
		p += used;
		n -= used;
		t->redo -= used < t->redo ? used : t->redo;
	}
	if (c->conn)
		wire_flush(c->conn);
	else if (t->on)
		wire_flush_later(t->on);
	if (t->last)
		n = 0;
	if (n > 0)
		buf_append(&c->up.pending, p, n);
	talk_want_more(c);
	if (t->last || t->failed != ERR_OK)
		talk_wake(c);
}

static void talk_read(struct session *c)
{
	size_t have = buf_len(&c->up.pending), n;
	uint8_t *p = loop_scratch(c->svc->loop);
	enum err e;

	if (have >= PROTO_HEAD_MAX || c->up.state != FLOW_OPEN) {
		stream_want(c->client, stream_wants(c->client) & ~(unsigned)STREAM_WANT_READ);
		return;
	}
	e = stream_read(c->client, p + have, LOOP_SCRATCH_BYTES - have, &n);
	if (e == ERR_AGAIN)
		return;
	if (e == ERR_EOF) {
		c->up.state = FLOW_ENDING;
		stream_want(c->client, stream_wants(c->client) & ~(unsigned)STREAM_WANT_READ);
		talk_wake(c);
		return;
	}
	if (e != ERR_OK) {
		c->talk->failed = ERR_CLIENT_GONE;
		talk_wake(c);
		return;
	}
	c->up.bytes += n;
	*c->up.total += n;
	c->up.last_us = service_now(c->svc);
	buf_copy(&c->up.pending, p, have);
	buf_clear(&c->up.pending);
	talk_process(c, p, have + n);
	if (buf_len(&c->up.pending) > 0 && mem_is_short()) {
		c->talk->failed = ERR_NO_MEMORY;
		talk_wake(c);
	}
}

static void talk_on_client(struct session *c, enum stream_event ev)
{
	struct service *s = c->svc;

	if (ev == STREAM_WRITABLE)
		talk_flush(c);
	else
		talk_read(c);
	talk_run(s);
}

/* ---- after something has happened ---- */

/* Puts all of `front` before what is in b. */
static void talk_put_first(struct session *c, struct buf *front, struct buf *b)
{
	while (buf_len(b) > 0) {
		size_t n;
		const uint8_t *p = buf_peek(b, &n);

		buf_append(front, p, n);
		buf_consume(b, n);
	}
	*b = *front;
	buf_init(front, loop_blocks(c->svc->loop));
}

/* Requests that have to be asked again go before what has not been asked yet. */
static void talk_join(struct session *c)
{
	struct buf *again = &c->talk->again;

	if (buf_len(again) == 0 || c->talk->owed > 0)
		return;
	c->talk->redo += buf_len(again);
	talk_put_first(c, again, &c->up.pending);
	talk_put_first(c, &c->talk->again_as, &c->talk->redo_as);
}

/* What waits is looked at once more. */
static void talk_go(struct session *c)
{
	uint8_t *p = loop_scratch(c->svc->loop);
	size_t n;

	talk_join(c);
	n = buf_copy(&c->up.pending, p, LOOP_SCRATCH_BYTES);
	if (n == 0)
		return;
	if (!c->talk->part && !talk_may_ask(c))
		return;
	buf_consume(&c->up.pending, n);
	if (buf_len(&c->up.pending) > 0) { /* more than the scratch holds: only what was asked again can do that */
		struct buf rest = c->up.pending;

		buf_init(&c->up.pending, loop_blocks(c->svc->loop));
		talk_process(c, p, n);
		if (buf_len(&c->up.pending) < n)
			talk_wake(c);
		while (buf_len(&rest) > 0) {
			size_t len;
			const uint8_t *q = buf_peek(&rest, &len);

			buf_append(&c->up.pending, q, len);
			buf_consume(&rest, len);
		}
		return;
	}
	talk_process(c, p, n);
}

static enum release_how talk_leave(struct session *c, bool owed, enum err *why)
{
	struct conn *k = c->conn;

	switch (talk_proto(c)->leave(conn_private(k), owed)) {
	case PROTO_LEAVE_CLEAN:
		return RELEASE_CLEAN;
	case PROTO_LEAVE_CHECK:
		return RELEASE_CHECK;
	case PROTO_LEAVE_WRONG:
		endpoint_look_up(server_user(k->up->server));
		*why = ERR_WRONG_ROLE;
		return RELEASE_CLOSE;
	case PROTO_LEAVE_CLOSE:
		break;
	}
	if (*why == ERR_OK || *why == ERR_EOF)
		*why = ERR_NO_REUSE;
	return RELEASE_CLOSE;
}

/* Gives the connection back when neither the mode nor what was done on it holds it. */
static void talk_let_go(struct session *c)
{
	struct conn *k = c->conn;
	enum err pin = talk_proto(c)->held(conn_private(k)), why = ERR_OK;

	if (pin == ERR_OK && c->svc->opts.mode == SERVICE_SESSION)
		pin = ERR_PIN_SESSION;
	if (c->talk->leave || k->wire->not_run || (k->up->close_needed != ERR_OK && pin == ERR_PIN_SESSION))
		pin = ERR_OK;
	if (pin != c->talk->pin && pin != ERR_OK)
		pool_stat(c->svc->pool)->pins[pin]++;
	c->talk->pin = pin;
	if (pin != ERR_OK || !wire_is_idle(k->wire))
		return;
	c->talk->leave = false;
	if (buf_len(&k->wire->in) > 0) { /* the beginning of something that nobody asked for */
		session_unbind(c, RELEASE_CLOSE, ERR_DIRTY);
		return;
	}
	session_unbind(c, talk_leave(c, false, &why), why);
}

static bool talk_is_idle(const struct session *c)
{
	return c->talk->owed == 0 && !c->conn && c->holder.lease.state == LEASE_NONE && !list_is_on(&c->talk->wait) &&
	       buf_len(&c->talk->again) == 0;
}

/* The client has closed its sending direction: over when it has all its answers. A blocking command would wait for ever. */
static bool talk_is_over(const struct session *c)
{
	const struct talk *t = c->talk;

	if (buf_len(&c->down.pending) > 0 || buf_len(&t->soon) > 0 || buf_len(&t->late) > 0)
		return false;
	if (t->last)
		return t->owed == 0;
	if (c->up.state == FLOW_OPEN)
		return false;
	/* The rest of its last message will never come, and neither will the reply to that. */
	if (t->part && t->owed <= 1 && buf_len(&c->up.pending) == 0)
		return true;
	if (c->conn && talk_proto(c)->held(conn_private(c->conn)) == ERR_PIN_BLOCKING)
		return true;
	return t->owed == 0 && buf_len(&t->again) == 0 && (buf_len(&c->up.pending) == 0 || t->more);
}

static void talk_settle(struct session *c)
{
	struct talk *t = c->talk;

	if (t->owed == 0) {
		t->alone = false;
		talk_answer(c);
		if (c->conn && t->failed == ERR_OK && !t->part)
			talk_let_go(c);
	}
	if (t->failed == ERR_OK && !t->last)
		talk_go(c);
	if (t->failed != ERR_OK)
		session_end(c, t->failed);
	else if (talk_is_over(c))
		session_end(c, ERR_EOF);
	else if (c->state != CLIENT_IDLE && talk_is_idle(c))
		session_to(c, CLIENT_IDLE);
	if (c->client && c->state == CLIENT_IDLE && c->svc->phase != SERVICE_RUNNING &&
	    buf_len(&c->down.pending) == 0)
		session_end(c, ERR_SHUTDOWN);
}

void talk_run(struct service *s)
{
	while (s->awake.len > 0) {
		struct node *n = list_front(&s->awake);
		struct session *c = container_of(n, struct talk, wake)->session;

		list_remove(n);
		if (c->client)
			talk_settle(c);
	}
}

/* ---- connections come and go ---- */

static void talk_granted(struct session *c, struct conn *k)
{
	session_to(c, CLIENT_ACTIVE);
	stream_want(k->stream, STREAM_WANT_READ);
	talk_go(c);
	talk_wake(c);
	talk_run(c->svc);
}

/* The server's own words for why nobody can log in. */
static const char *talk_words(const struct service *s, enum err why)
{
	for (size_t i = 0; why == ERR_DENIED && i < s->n_endpoints; i++)
		if (s->endpoints[i]->error[0])
			return s->endpoints[i]->error;
	return NULL;
}

static void talk_fail(struct session *c, enum err why, struct buf *out)
{
	talk_proto(c)->fail(talk_private(c), why, talk_words(c->svc, why), out);
}

/* Those that were to be asked again, which come before answers that are there already. Returns how many bytes. */
static size_t talk_refuse_redo(struct session *c, uint8_t **p, size_t n, enum err why)
{
	struct talk *t = c->talk;
	struct proto_request req;
	size_t used = 0;

	while (t->redo > 0 && buf_copy(&t->redo_as, &req, sizeof(req)) == sizeof(req) && req.len <= n - used) {
		if (!(req.flags & PROTO_REQUEST_MUTE))
			talk_fail(c, why, &t->soon);
		buf_consume(&t->redo_as, sizeof(req));
		t->redo -= req.len;
		used += req.len;
	}
	*p += used;
	return used;
}

/* No connection is to be had: every request that waits gets that for an answer. */
void talk_refused(struct session *c, enum err why)
{
	struct talk *t = c->talk;
	uint8_t *p = loop_scratch(c->svc->loop);
	size_t n;

	talk_join(c);
	/* Of what was asked before it some is still owed, and its error must not overtake that. */
	if (t->redo > 0 && t->owed > 0)
		t->failed = why;
	n = buf_copy(&c->up.pending, p, LOOP_SCRATCH_BYTES);
	buf_consume(&c->up.pending, n);
	n -= talk_refuse_redo(c, &p, n, why);
	while (n > 0 && !t->last) {
		struct proto_request req = {0};
		enum proto_ask ask = talk_proto(c)->from_client(talk_private(c), c->svc->opts.proto_conf,
								c->svc->proto_pool, p, n, &req, &t->late);

		if (ask == PROTO_ASK_MORE)
			break;
		/* Without a byte it was the protocol's own, for a message that can't be answered now. */
		if (ask == PROTO_ASK_PASS && (req.len == 0 || !(req.flags & PROTO_REQUEST_MUTE)))
			talk_fail(c, why, &t->late);
		if (ask == PROTO_ASK_LAST || !(ask == PROTO_ASK_HERE || req.whole) || req.len == 0)
			t->last = true;
		p += req.len;
		n -= req.len;
	}
	if (n > 0 && !t->last)
		buf_append(&c->up.pending, p, n);
	talk_want_more(c);
	talk_wake(c);
	talk_run(c->svc);
}

void talk_lost(struct session *c, bool answer, enum err why)
{
	struct talk *t = c->talk;

	if (--t->owed == 0)
		t->on = NULL;
	if (t->spoiled && answer && buf_len(&t->again) == 0)
		talk_fail(c, why, &t->soon);
	else if (t->spoiled && buf_len(&t->again) > 0)
		t->failed = ERR_UPSTREAM_GONE; /* what came before it was to be asked again */
	if (t->part)
		t->last = true;
	if (t->owed == 0) {
		if (!t->spoiled)
			t->tries++;
		t->spoiled = false;
	}
	talk_wake(c);
}

/* ---- life ---- */

static void talk_begin(struct session *c)
{
	struct talk *t = (struct talk *)(c + 1);
	uint32_t uid, pid;
	int64_t who = -1;

	c->talk = t;
	t->session = c;
	buf_init(&t->soon, loop_blocks(c->svc->loop));
	buf_init(&t->late, loop_blocks(c->svc->loop));
	buf_init(&t->again, loop_blocks(c->svc->loop));
	buf_init(&t->redo_as, loop_blocks(c->svc->loop));
	buf_init(&t->again_as, loop_blocks(c->svc->loop));
	if (stream_peer_uid(c->client, &uid, &pid) == ERR_OK)
		who = uid;
	talk_proto(c)->greet(talk_private(c), c->svc->opts.proto_conf, c->svc->proto_pool, c->id, who, &t->late);
	if (buf_len(&t->late) > 0)
		talk_wake(c);
}

/* What becomes of the connection of a client that leaves. */
static enum release_how talk_end(struct session *c, enum release_how how, enum err *why)
{
	struct talk *t = c->talk;
	struct conn *k = c->conn;

	(void)how;
	channel_stop_wait(c);
	if (t->channel)
		t->channel->users--;
	how = RELEASE_CLOSE;
	if (k && !t->part && k->wire->len == 0) {
		how = talk_leave(c, false, why);
	} else if (k && !t->part) {
		enum err no = *why;

		if (talk_leave(c, true, &no) != RELEASE_CLOSE)
			channel_adopt(c);
	}
	if (t->on)
		wire_forget(t->on, c);
	if (t->stalls)
		wire_resume(t->stalls);
	if (list_is_on(&t->wake))
		list_remove(&t->wake);
	if (talk_proto(c)->client_end)
		talk_proto(c)->client_end(talk_private(c));
	buf_clear(&t->soon);
	buf_clear(&t->late);
	buf_clear(&t->again);
	buf_clear(&t->redo_as);
	buf_clear(&t->again_as);
	return how;
}

static void talk_on_server(struct session *c, enum stream_event ev)
{
	wire_on_event(c->conn, ev);
}

static void talk_timed_out(struct session *c)
{
	session_end(c, ERR_CLIENT_IDLE);
}

const struct session_kind session_talk = {
	.begin = talk_begin,
	.on_client = talk_on_client,
	.on_server = talk_on_server,
	.granted = talk_granted,
	.refused = talk_refused,
	.timed_out = talk_timed_out,
	.end = talk_end,
};
