/*
 * session: one client, from accept to close.
 *
 *	          bytes, or connect     granted              one side ended
 *	[IDLE] ----------------> [WAITING] -----> [ACTIVE] ----------------> [CLOSING] ---> ended, freed by the loop
 *	   |                         |               |                          |
 *	   +--- client left, timeout, refused, stop -+--- error, timeout -------+
 *
 * CLOSING: the client (or the server) has closed its sending direction. The rest is delivered; then, where connections are
 * reused, the lease goes back once the server has been silent for quiet_time. A client that closed with its request
 * unanswered gets half_close_timeout for the answer.
 */
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "serve/serve_private.h"

static void session_on_event(void *arg, enum stream_event ev);
static void session_on_timer(void *arg);

static enum proto_return session_policy(const struct session *c)
{
	return c->svc->opts.proto->on_return(c->svc->opts.proto_conf);
}

static void session_to(struct session *c, enum client_state st)
{
	list_remove(&c->node);
	list_push_back(&c->svc->sessions[st], &c->node);
	c->state = st;
	c->state_us = service_now(c->svc);
}

/* ---- deadlines: one timer, set to the earliest of what applies and re-checked when it fires ---- */

static int64_t later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int64_t session_last_us(const struct session *c)
{
	return later(c->connected_us, later(c->up.last_us, c->down.last_us));
}

/* The server was told something and has said nothing since: the answer is outstanding as far as one can tell from
 * outside. */
static bool session_is_unanswered(const struct session *c)
{
	return flow_delivered(&c->up) > c->heard;
}

/* When a half-closed session is over, given that nothing more comes; INT64_MAX: that is not for us to say. */
static int64_t session_half_close_due(const struct session *c)
{
	const struct service_opts *o = &c->svc->opts;
	int64_t silent = later(c->state_us, session_last_us(c));

	if (c->state != CLIENT_CLOSING || !flow_is_empty(&c->up) || !flow_is_empty(&c->down))
		return INT64_MAX;
	if (c->down.state != FLOW_OPEN)
		return silent + o->half_close_timeout_us;
	if (session_policy(c) == PROTO_RETURN_CLOSE)
		return INT64_MAX;
	return silent + (session_is_unanswered(c) ? o->half_close_timeout_us : o->quiet_time_us);
}

static int64_t session_due(const struct session *c, enum err *why)
{
	const struct service_opts *o = &c->svc->opts;
	int64_t due = session_half_close_due(c);

	*why = ERR_OK;
	if (o->client_write_timeout_us > 0 && c->down.stalled_us > 0 &&
	    c->down.stalled_us + o->client_write_timeout_us < due) {
		due = c->down.stalled_us + o->client_write_timeout_us;
		*why = ERR_CLIENT_SLOW;
	}
	/* The time it spent waiting for its lease is not the client's. */
	if (o->client_idle_timeout_us > 0 && c->state != CLIENT_WAITING &&
	    later(session_last_us(c), c->state_us) + o->client_idle_timeout_us < due) {
		due = later(session_last_us(c), c->state_us) + o->client_idle_timeout_us;
		*why = ERR_CLIENT_IDLE;
	}
	return due;
}

/* Arms the timer if it is not armed for that time or an earlier one (it re-checks when it fires). */
static void session_arm(struct session *c)
{
	enum err why;
	int64_t due = session_due(c, &why);

	if (due == INT64_MAX)
		timer_stop(c->svc->loop, &c->timer);
	else if (!heap_has(&c->timer.due) || due < c->timer.due.at_us)
		timer_set(c->svc->loop, &c->timer, due);
}

/* ---- the end ---- */

static void session_log_end(const struct session *c, enum err why)
{
	char peer[ADDR_TEXT_MAX];
	struct addr addr;

	if (!c->svc->opts.log_connections || !log_wants(LOG_LV_INFO))
		return;
	stream_peer(c->client, &addr);
	addr_format(&addr, peer, sizeof(peer));
	log_at(LOG_LV_INFO, "client.closed", L_STR("pool", pool_name(c->svc->pool)), L_INT("client", c->id),
	       L_WIRE("peer", peer, strlen(peer)), L_ERR(why),
	       L_INT("age_ms", (service_now(c->svc) - c->connected_us) / 1000), L_INT("bytes_in", c->up.bytes),
	       L_INT("bytes_out", c->down.bytes));
}

/* Gives the lease back. `how` other than CLOSE only when both directions are empty. */
static void session_unbind(struct session *c, enum release_how how, enum err why)
{
	struct service *s = c->svc;
	struct conn *u = c->conn;

	c->conn = NULL;
	u->session = NULL;
	if (how != RELEASE_CLOSE)
		stream_want(u->stream, STREAM_WANT_READ);
	if (how == RELEASE_CLOSE && why == ERR_EOF) /* its client left in good order */
		why = ERR_NO_REUSE;
	if (pool_release(s->pool, &c->lease, how, why, service_now(s)))
		conn_clean(u);
}

static void session_finish(struct session *c, enum release_how how, enum err why)
{
	struct service *s = c->svc;

	if (!c->client)
		return;
	session_log_end(c, why);
	pool_stat(s->pool)->client_closed[why]++;
	timer_stop(s->loop, &c->timer);
	flow_clear(&c->up, s->loop);
	flow_clear(&c->down, s->loop);
	stream_close(&c->client);
	if (c->conn)
		session_unbind(c, how, why);
	else if (c->lease.state == LEASE_HELD) /* granted, not yet told */
		pool_release(s->pool, &c->lease, RELEASE_CLEAN, why, service_now(s));
	else
		pool_cancel(s->pool, &c->lease, why, service_now(s));
	service_session_ended(s, c);
}

void session_end(struct session *c, enum err why)
{
	session_finish(c, RELEASE_CLOSE, why);
}

/* Both sides are quiet and the client is gone: the connection goes back, as far as the protocol lets us know it. Bytes that
 * arrived unseen are met by its idle read event, or by the look before its next lease. */
static void session_return(struct session *c)
{
	enum proto_return policy = session_policy(c);

	if (c->down.state != FLOW_OPEN || policy == PROTO_RETURN_CLOSE)
		session_finish(c, RELEASE_CLOSE, c->ended);
	else if (policy == PROTO_RETURN_CLEAN)
		session_finish(c, RELEASE_CHECK, ERR_EOF);
	else if (session_is_unanswered(c))
		session_finish(c, RELEASE_CLOSE, ERR_DIRTY);
	else
		session_finish(c, RELEASE_CLEAN, ERR_EOF);
}

/* After anything that may have completed a half-closed session. */
static void session_settle(struct session *c)
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
	else if (session_half_close_due(c) <= service_now(c->svc))
		session_return(c);
	else
		session_arm(c);
}

static void session_on_timer(void *arg)
{
	struct session *c = arg;
	struct service *s = c->svc;
	enum err why;
	int64_t due = session_due(c, &why);

	if (due > service_now(s))
		session_arm(c);
	else if (why != ERR_OK)
		session_end(c, why);
	else
		session_return(c);
	service_run(s);
}

/* ---- bytes ---- */

static void session_half_closed(struct session *c, struct flow *f, struct stream *from)
{
	f->state = FLOW_ENDING;
	if (c->ended == ERR_OK)
		c->ended = f == &c->up ? ERR_EOF : ERR_UPSTREAM_GONE;
	stream_want(from, stream_wants(from) & ~(unsigned)STREAM_WANT_READ);
	if (c->state == CLIENT_ACTIVE)
		session_to(c, CLIENT_CLOSING);
	session_settle(c);
}

/* What a step of the relay means for the session. `f` flows from `from`. */
static void session_relayed(struct session *c, struct flow *f, struct stream *from, enum relay_result r)
{
	bool up = f == &c->up;

	if (r == RELAY_EOF)
		session_half_closed(c, f, from);
	else if (r == RELAY_SOURCE_FAILED)
		session_end(c, up ? ERR_CLIENT_GONE : ERR_UPSTREAM_GONE);
	else if (r == RELAY_SINK_FAILED)
		session_end(c, up ? ERR_UPSTREAM_GONE : ERR_CLIENT_GONE);
	else if (buf_len(&f->pending) > 0 && mem_is_short())
		session_end(c, ERR_NO_MEMORY);
	else if (c->state == CLIENT_CLOSING)
		session_settle(c);
	else if (f->stalled_us)
		session_arm(c);
}

static void session_ask(struct session *c)
{
	session_to(c, CLIENT_WAITING);
	pool_lease(c->svc->pool, &c->lease, c, service_now(c->svc));
}

/* Bytes of a client that holds no lease: kept; the first ones ask for it. */
static void session_collect(struct session *c)
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

static void session_on_event(void *arg, enum stream_event ev)
{
	struct session *c = arg;
	struct service *s = c->svc;
	struct stream *server = c->conn ? c->conn->stream : NULL;

	if (ev == STREAM_WRITABLE && server)
		session_relayed(c, &c->down, server, relay_out(&c->down, server, c->client, s->loop));
	else if (server)
		session_relayed(c, &c->up, c->client,
				relay_in(&c->up, c->client, server, s->opts.high_water, s->loop));
	else
		session_collect(c);
	service_run(s);
}

void session_on_server(struct session *c, enum stream_event ev)
{
	struct service *s = c->svc;
	struct stream *server = c->conn->stream;
	uint64_t before = c->down.bytes;
	enum relay_result r;

	if (ev == STREAM_WRITABLE) {
		session_relayed(c, &c->up, c->client, relay_out(&c->up, c->client, server, s->loop));
		return;
	}
	r = relay_in(&c->down, server, c->client, s->opts.high_water, s->loop);
	if (c->down.bytes > before)
		c->heard = flow_delivered(&c->up);
	session_relayed(c, &c->down, server, r);
}

/* ---- lease ---- */

/* What a new connection has already said is its first client's. */
static void session_take_greeting(struct session *c, struct conn *u)
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

/*
 * A connection that has something to say, or has ended, is not lent (ISO-3): what waits there is not for this client. But
 * what a new connection says unasked is its greeting; and one that was closed as soon as it was made is the client's to
 * see, as asking for another would only go round.
 */
static bool session_is_stale(const struct session *c, const struct conn *k)
{
	const struct service_opts *o = &c->svc->opts;
	bool fresh = k->up->leases == 1 && k->up->checked_us == 0 && !o->proto->has(o->proto_conf, PROTO_LOGIN);
	enum err e = stream_peek(k->stream);

	if (e == ERR_AGAIN)
		return false;
	return !fresh || (e != ERR_OK && k->up->ready_us < service_now(c->svc));
}

void session_granted(struct session *c, struct upstream *u)
{
	struct service *s = c->svc;
	struct conn *k = u->conn;

	if (!c->client || c->lease.up != u)
		return;
	c->conn = k;
	k->session = c;
	if (session_is_stale(c, k)) {
		session_unbind(c, RELEASE_CLOSE, ERR_DIRTY);
		session_ask(c);
		return;
	}
	session_take_greeting(c, k);
	session_to(c, CLIENT_ACTIVE);
	stream_want(k->stream, STREAM_WANT_READ);
	if (c->up.state == FLOW_OPEN)
		stream_want(c->client, STREAM_WANT_READ);
	else
		session_to(c, CLIENT_CLOSING);
	if (buf_len(&c->up.pending) > 0)
		session_relayed(c, &c->up, c->client, relay_out(&c->up, c->client, k->stream, s->loop));
	if (c->client && buf_len(&c->down.pending) > 0)
		session_relayed(c, &c->down, k->stream, relay_out(&c->down, k->stream, c->client, s->loop));
	if (c->client && s->opts.client_idle_timeout_us > 0)
		session_arm(c);
}

void session_refused(struct session *c, enum err why)
{
	if (!c->client)
		return;
	log_at(LOG_LV_INFO, "lease.refused", L_STR("pool", pool_name(c->svc->pool)), L_INT("client", c->id),
	       L_ERR(why));
	session_end(c, why);
}

void session_new(struct service *s, struct stream *client)
{
	struct session *c = slab_get(&s->session_slab);

	c->svc = s;
	c->id = ++s->next_client;
	c->client = client;
	c->connected_us = c->state_us = service_now(s);
	flow_init(&c->up, loop_blocks(s->loop), &pool_stat(s->pool)->bytes_from_clients);
	flow_init(&c->down, loop_blocks(s->loop), &pool_stat(s->pool)->bytes_to_clients);
	timer_init(&c->timer, session_on_timer, c);
	list_push_back(&s->sessions[CLIENT_IDLE], &c->node);
	stream_set_handler(client, session_on_event, c);
	stream_want(client, STREAM_WANT_READ);
	if (s->opts.lease_on == LEASE_ON_CONNECT)
		session_ask(c);
	session_arm(c);
}

void session_stop_if_idle(struct session *c)
{
	if (c->state == CLIENT_IDLE)
		session_end(c, ERR_SHUTDOWN);
}
