/*
 * session: one client, from accept to close.
 *
 *	          bytes, or connect     granted              one side ended
 *	[IDLE] ----------------> [WAITING] -----> [ACTIVE] ----------------> [CLOSING] ---> ended, freed by the loop
 *	   | ^                       |             |  |                          |
 *	   | +------ messages: lease given back ---+  |                          |
 *	   +--- client left, timeout, refused, stop --+---- error, timeout ------+
 */
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "serve/serve_private.h"

static void session_on_timer(void *arg);

enum proto_return session_policy(const struct session *c)
{
	return c->svc->opts.proto->on_return(c->svc->opts.proto_conf);
}

void session_to(struct session *c, enum client_state st)
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

int64_t session_last_us(const struct session *c)
{
	return later(c->connected_us, later(c->up.last_us, c->down.last_us));
}

static int64_t session_due(const struct session *c, enum err *why)
{
	const struct service_opts *o = &c->svc->opts;
	int64_t due = c->talk ? INT64_MAX : raw_due(c);

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
void session_arm(struct session *c)
{
	enum err why;
	int64_t due = session_due(c, &why);

	if (due == INT64_MAX)
		timer_stop(c->svc->loop, &c->timer);
	else if (!heap_has(&c->timer.due) || due < c->timer.due.at_us)
		timer_set(c->svc->loop, &c->timer, due);
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
		s->kind->timed_out(c);
	service_run(s);
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

void session_unbind(struct session *c, enum release_how how, enum err why)
{
	struct service *s = c->svc;
	struct conn *u = c->conn;

	c->conn = NULL;
	u->session = NULL;
	if (u->wire)
		how = wire_give_back(u, how);
	if (how == RELEASE_CLOSE && why == ERR_OK)
		why = ERR_DIRTY;
	if (how != RELEASE_CLOSE)
		stream_want(u->stream, STREAM_WANT_READ);
	if (how == RELEASE_CLOSE && why == ERR_EOF) /* its client left in good order */
		why = ERR_NO_REUSE;
	if (pool_release(s->pool, &c->holder.lease, how, why, service_now(s)))
		conn_clean(u);
}

void session_finish(struct session *c, enum release_how how, enum err why)
{
	struct service *s = c->svc;
	enum err release_why = why;

	if (!c->client)
		return;
	session_log_end(c, why);
	pool_stat(s->pool)->client_closed[why]++;
	timer_stop(s->loop, &c->timer);
	how = s->kind->end(c, how, &release_why);
	flow_clear(&c->up, s->loop);
	flow_clear(&c->down, s->loop);
	stream_close(&c->client);
	if (c->conn)
		session_unbind(c, how, release_why);
	else if (c->holder.lease.state == LEASE_HELD) /* granted, not yet told */
		pool_release(s->pool, &c->holder.lease, RELEASE_CLEAN, why, service_now(s));
	else
		pool_cancel(s->pool, &c->holder.lease, why, service_now(s));
	service_session_ended(s, c);
}

void session_end(struct session *c, enum err why)
{
	session_finish(c, RELEASE_CLOSE, why);
}

/* ---- lease ---- */

void session_ask(struct session *c)
{
	session_to(c, CLIENT_WAITING);
	pool_lease(c->svc->pool, &c->holder.lease, &c->holder, service_now(c->svc));
}

/*
 * A connection that has something to say, or has ended, is not lent (ISO-3): what waits there is not for this client. But
 * what a new connection says unasked is its greeting; and one that was closed as soon as it was made is the client's to
 * see, as asking for another would only go round.
 */
bool conn_is_stale(const struct conn *k)
{
	const struct service_opts *o = &k->svc->opts;
	bool fresh = k->up->leases == 1 && k->up->checked_us == 0 && !o->proto->has(o->proto_conf, PROTO_LOGIN);
	enum err e;

	if (k->wire && k->up->last_returned_us == service_now(k->svc))
		return false; /* it was read to its end in this very turn */
	e = stream_peek(k->stream);
	if (e == ERR_AGAIN)
		return false;
	return !fresh || (e != ERR_OK && k->up->ready_us < service_now(k->svc));
}

static void session_granted(struct holder *h, struct upstream *u)
{
	struct session *c = container_of(h, struct session, holder);
	struct conn *k = u->conn;

	if (!c->client || h->lease.up != u)
		return;
	c->conn = k;
	k->session = c;
	if (conn_is_stale(k)) {
		session_unbind(c, RELEASE_CLOSE, ERR_DIRTY);
		session_ask(c);
		return;
	}
	c->svc->kind->granted(c, k);
}

static void session_refused(struct holder *h, enum err why)
{
	struct session *c = container_of(h, struct session, holder);

	if (!c->client)
		return;
	log_at(LOG_LV_INFO, "lease.refused", L_STR("pool", pool_name(c->svc->pool)), L_INT("client", c->id),
	       L_ERR(why));
	c->svc->kind->refused(c, why);
}

/* ---- the beginning ---- */

static void session_on_event(void *arg, enum stream_event ev)
{
	struct session *c = arg;
	struct service *s = c->svc;

	s->kind->on_client(c, ev);
	service_run(s);
}

void session_new(struct service *s, struct stream *client)
{
	struct session *c = slab_get(&s->session_slab);

	c->svc = s;
	c->id = ++s->next_client;
	c->client = client;
	c->holder.granted = session_granted;
	c->holder.refused = session_refused;
	c->connected_us = c->state_us = service_now(s);
	flow_init(&c->up, loop_blocks(s->loop), &pool_stat(s->pool)->bytes_from_clients);
	flow_init(&c->down, loop_blocks(s->loop), &pool_stat(s->pool)->bytes_to_clients);
	timer_init(&c->timer, session_on_timer, c);
	list_push_back(&s->sessions[CLIENT_IDLE], &c->node);
	stream_set_handler(client, session_on_event, c);
	stream_want(client, STREAM_WANT_READ);
	session_arm(c);
	s->kind->begin(c);
	if (c->talk)
		talk_run(s);
}

void session_stop_if_idle(struct session *c)
{
	if (c->state == CLIENT_IDLE)
		session_end(c, ERR_SHUTDOWN);
}
