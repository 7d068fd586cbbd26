/*
 * raw: a client of an opaque protocol. Its lease lasts as long as it; its bytes are relayed and not looked at.
 *
 * CLOSING: the client (or the server) has closed its sending direction. The rest is delivered; then, where connections are
 * reused, the lease goes back once the server has been silent for quiet_time. A client that closed with its request
 * unanswered gets half_close_timeout for the answer.
 */
#include "base/mem.h"
#include "serve/serve_private.h"

/* The server was told something and has said nothing since: the answer is outstanding as far as one can tell from
 * outside. */
static bool raw_is_unanswered(const struct session *c)
{
	return flow_delivered(&c->up) > c->heard;
}

int64_t raw_due(const struct session *c)
{
	const struct service_opts *o = &c->svc->opts;
	int64_t silent = session_last_us(c) > c->state_us ? session_last_us(c) : c->state_us;

	if (c->state != CLIENT_CLOSING || !flow_is_empty(&c->up) || !flow_is_empty(&c->down))
		return INT64_MAX;
	if (c->down.state != FLOW_OPEN)
		return silent + o->half_close_timeout_us;
	if (session_policy(c) == PROTO_RETURN_CLOSE)
		return INT64_MAX;
	return silent + (raw_is_unanswered(c) ? o->half_close_timeout_us : o->quiet_time_us);
}

/* Both sides are quiet and the client is gone: the connection goes back, as far as the protocol lets us know it. Bytes that
 * arrived unseen are met by its idle read event, or by the look before its next lease. */
static void raw_return(struct session *c)
{
	enum proto_return policy = session_policy(c);

	if (c->down.state != FLOW_OPEN || policy == PROTO_RETURN_CLOSE)
		session_finish(c, RELEASE_CLOSE, c->ended);
	else if (policy == PROTO_RETURN_CLEAN)
		session_finish(c, RELEASE_CHECK, ERR_EOF);
	else if (raw_is_unanswered(c))
		session_finish(c, RELEASE_CLOSE, ERR_DIRTY);
	else
		session_finish(c, RELEASE_CLEAN, ERR_EOF);
}

/* After anything that may have completed a half-closed session. */
static void raw_settle(struct session *c)
{
	if (!c->client || c->state != CLIENT_CLOSING)
		return;
	if (c->up.state == FLOW_ENDING && flow_is_empty(&c->up)) {
		c->up.state = FLOW_ENDED;
		if (session_policy(c) == PROTO_RETURN_CLOSE)
			stream_shutdown(c->conn->stream);
	}
	if (c->down.state == FLOW_ENDING && flow_is_empty(&c->down)) {
		c->down.state = FLOW_ENDED;
		stream_shutdown(c->client);
	}
	if (c->down.state == FLOW_ENDED && (c->up.state == FLOW_ENDED || session_policy(c) != PROTO_RETURN_CLOSE))
		session_end(c, c->ended);
	else if (raw_due(c) <= service_now(c->svc))
		raw_return(c);
	else
		session_arm(c);
}

/* ---- bytes ---- */

static void raw_half_closed(struct session *c, struct flow *f, struct stream *from)
{
	f->state = FLOW_ENDING;
	if (c->ended == ERR_OK)
		c->ended = f == &c->up ? ERR_EOF : ERR_UPSTREAM_GONE;
	stream_want(from, stream_wants(from) & ~(unsigned)STREAM_WANT_READ);
	if (c->state == CLIENT_ACTIVE)
		session_to(c, CLIENT_CLOSING);
	raw_settle(c);
}

/* What a step of the relay means for the session. `f` flows from `from`. */
static void raw_relayed(struct session *c, struct flow *f, struct stream *from, enum relay_result r)
{
	bool up = f == &c->up;

	if (r == RELAY_EOF)
		raw_half_closed(c, f, from);
	else if (r == RELAY_SOURCE_FAILED)
		session_end(c, up ? ERR_CLIENT_GONE : ERR_UPSTREAM_GONE);
	else if (r == RELAY_SINK_FAILED)
		session_end(c, up ? ERR_UPSTREAM_GONE : ERR_CLIENT_GONE);
	else if (buf_len(&f->pending) > 0 && mem_is_short())
		session_end(c, ERR_NO_MEMORY);
	else if (c->state == CLIENT_CLOSING)
		raw_settle(c);
	else if (f->stalled_us)
		session_arm(c);
}

/* Bytes of a client that holds no lease: kept; the first ones ask for it. */
static void raw_collect(struct session *c)
{
	enum relay_result r = relay_in(&c->up, c->client, NULL, c->svc->opts.high_water, c->svc->loop);

	if (r == RELAY_SOURCE_FAILED || (r == RELAY_EOF && buf_len(&c->up.pending) == 0)) {
		session_end(c, ERR_CLIENT_GONE);
		return;
	}
	if (buf_len(&c->up.pending) > 0 && mem_is_short()) {
		session_end(c, ERR_NO_MEMORY);
		return;
	}
	if (r == RELAY_EOF) {
		c->up.state = FLOW_ENDING;
		c->ended = ERR_EOF;
		stream_want(c->client, STREAM_WANT_NONE);
	}
	if (c->state == CLIENT_IDLE && buf_len(&c->up.pending) > 0)
		session_ask(c);
}

static void raw_on_client(struct session *c, enum stream_event ev)
{
	struct service *s = c->svc;
	struct stream *server = c->conn ? c->conn->stream : NULL;

	if (ev == STREAM_WRITABLE && server)
		raw_relayed(c, &c->down, server, relay_out(&c->down, server, c->client, s->loop));
	else if (server)
		raw_relayed(c, &c->up, c->client, relay_in(&c->up, c->client, server, s->opts.high_water, s->loop));
	else
		raw_collect(c);
}

static void raw_on_server(struct session *c, enum stream_event ev)
{
	struct service *s = c->svc;
	struct stream *server = c->conn->stream;
	uint64_t before = c->down.bytes;
	enum relay_result r;

	if (ev == STREAM_WRITABLE) {
		raw_relayed(c, &c->up, c->client, relay_out(&c->up, c->client, server, s->loop));
		return;
	}
	r = relay_in(&c->down, server, c->client, s->opts.high_water, s->loop);
	if (c->down.bytes > before)
		c->heard = flow_delivered(&c->up);
	raw_relayed(c, &c->down, server, r);
}

/* ---- lease ---- */

/* What a new connection has already said is its first client's. */
static void raw_take_greeting(struct session *c, struct conn *u)
{
	while (buf_len(&u->greeting) > 0) {
		size_t n;
		const uint8_t *p = buf_peek(&u->greeting, &n);

		buf_append(&c->down.pending, p, n);
		c->down.bytes += n;
		*c->down.total += n;
		c->down.last_us = service_now(c->svc);
		buf_consume(&u->greeting, n);
	}
}

static void raw_granted(struct session *c, struct conn *k)
{
	struct service *s = c->svc;

	raw_take_greeting(c, k);
	session_to(c, CLIENT_ACTIVE);
	stream_want(k->stream, STREAM_WANT_READ);
	if (c->up.state == FLOW_OPEN)
		stream_want(c->client, STREAM_WANT_READ);
	else
		session_to(c, CLIENT_CLOSING);
	if (buf_len(&c->up.pending) > 0)
		raw_relayed(c, &c->up, c->client, relay_out(&c->up, c->client, k->stream, s->loop));
	if (c->client && buf_len(&c->down.pending) > 0)
		raw_relayed(c, &c->down, k->stream, relay_out(&c->down, k->stream, c->client, s->loop));
	if (c->client && s->opts.client_idle_timeout_us > 0)
		session_arm(c);
}

static void raw_begin(struct session *c)
{
	if (c->svc->opts.lease_on == LEASE_ON_CONNECT)
		session_ask(c);
}

static enum release_how raw_end(struct session *c, enum release_how how, enum err *why)
{
	(void)c;
	(void)why;
	return how;
}

const struct session_kind session_raw = {
	.begin = raw_begin,
	.on_client = raw_on_client,
	.on_server = raw_on_server,
	.granted = raw_granted,
	.refused = session_end,
	.timed_out = raw_return,
	.end = raw_end,
};
