/*
 * channel: a connection that is not one client's.
 *
 *	svc->channels[i]   request mode: requests of all its clients go through, in the order they come. It holds a connection only
 *	                   while replies are owed, so that age, checks and rotation find it like any other.
 *	     | a client does not take its reply: the others get a new channel
 *	     v
 *	svc->orphans       no new requests; goes when nothing is owed any more. So does the connection of a client that left
 *	                   before its replies came: they are read and thrown away.
 */
#include "base/log.h"
#include "serve/serve_private.h"

#define CHANNEL_PATIENCE_US 50000 /* how long one client may hold up the replies of others */

static struct channel *channel_of(struct holder *h)
{
	return container_of(h, struct channel, holder);
}

static bool channel_is_orphan(const struct channel *h)
{
	return list_is_on(&h->node);
}

static void channel_free(struct channel *h)
{
	timer_stop(h->svc->loop, &h->patience);
	if (list_is_on(&h->node))
		list_remove(&h->node);
	loop_free_later(h->svc->loop, h);
}

void channel_wake(struct channel *h)
{
	while (h->waiting.len > 0) {
		struct node *n = list_front(&h->waiting);

		list_remove(n);
		talk_wake(container_of(n, struct talk, wait)->session);
	}
}

static void channel_ask(struct channel *h)
{
	if (!h->conn && h->holder.lease.state == LEASE_NONE)
		pool_lease(h->svc->pool, &h->holder.lease, &h->holder, service_now(h->svc));
}

static void channel_release(struct channel *h, enum release_how how, enum err why)
{
	struct conn *k = h->conn;
	struct service *s = h->svc;

	h->conn = NULL;
	k->channel = NULL;
	how = wire_give_back(k, how);
	timer_stop(s->loop, &h->patience);
	if (how != RELEASE_CLOSE)
		stream_want(k->stream, STREAM_WANT_READ);
	if (pool_release(s->pool, &h->holder.lease, how, why, service_now(s)))
		conn_clean(k);
	if (channel_is_orphan(h))
		channel_free(h);
	else if (h->waiting.len > 0)
		channel_ask(h);
}

static void channel_granted(struct holder *holder, struct upstream *u)
{
	struct channel *h = channel_of(holder);
	struct conn *k = u->conn;

	if (holder->lease.up != u)
		return; /* given back before it was told */
	h->conn = k;
	k->channel = h;
	if (conn_is_stale(k)) {
		channel_release(h, RELEASE_CLOSE, ERR_DIRTY);
		channel_ask(h);
		return;
	}
	stream_want(k->stream, STREAM_WANT_READ);
	channel_wake(h);
	talk_run(h->svc);
	if (h->conn == k && wire_is_idle(k->wire))
		channel_idle(h);
}

static void channel_refused(struct holder *holder, enum err why)
{
	struct channel *h = channel_of(holder);

	log_at(LOG_LV_INFO, "lease.refused", L_STR("pool", pool_name(h->svc->pool)), L_INT("clients", h->waiting.len),
	       L_ERR(why));
	/* Who asks again meanwhile is not meant. */
	for (size_t left = h->waiting.len; left > 0 && h->waiting.len > 0; left--) {
		struct node *n = list_front(&h->waiting);

		list_remove(n);
		talk_refused(container_of(n, struct talk, wait)->session, why);
	}
}

/* An orphan took too long: its client's replies don't come, or one client does not take its own while others wait. */
static void channel_impatient(void *arg)
{
	struct channel *h = arg;
	struct service *s = h->svc;
	struct conn *k = h->conn;
	struct session *slow = k->wire->stalled;

	if (!slow && !wire_owes_others(k->wire, NULL))
		wire_broken(k, ERR_CHECK_TIMEOUT);
	else if (slow && wire_owes_others(k->wire, slow))
		session_end(slow, ERR_CLIENT_SLOW);
	talk_run(s);
	service_run(s);
}

struct channel *channel_new(struct service *s)
{
	struct channel *h = NEW(struct channel);

	h->svc = s;
	h->holder.granted = channel_granted;
	h->holder.refused = channel_refused;
	list_init(&h->waiting);
	timer_init(&h->patience, channel_impatient, h);
	return h;
}

struct channel *channel_pick(struct service *s)
{
	struct channel *least = s->channels[0];

	for (size_t i = 1; i < s->n_channels; i++)
		if (s->channels[i]->users < least->users)
			least = s->channels[i];
	least->users++;
	return least;
}

void channel_wait(struct channel *h, struct session *c)
{
	if (!list_is_on(&c->talk->wait))
		list_push_back(&h->waiting, &c->talk->wait);
	if (c->state == CLIENT_IDLE)
		session_to(c, CLIENT_WAITING);
	channel_ask(h);
}

void channel_stop_wait(struct session *c)
{
	if (list_is_on(&c->talk->wait))
		list_remove(&c->talk->wait);
}

void channel_idle(struct channel *h)
{
	struct conn *k = h->conn;
	enum err why = ERR_NO_REUSE;
	enum release_how how = RELEASE_CLOSE;

	switch (h->svc->opts.proto->talk->leave(conn_private(k), false)) {
	case PROTO_LEAVE_CLEAN:
		how = RELEASE_CLEAN;
		break;
	case PROTO_LEAVE_CHECK:
		how = RELEASE_CHECK;
		break;
	case PROTO_LEAVE_WRONG:
		endpoint_look_up(server_user(k->up->server));
		why = ERR_WRONG_ROLE;
		break;
	case PROTO_LEAVE_CLOSE:
		break;
	}
	if (buf_len(&k->wire->in) > 0) {
		how = RELEASE_CLOSE;
		why = ERR_DIRTY;
	}
	channel_release(h, how, why);
}

void channel_lost(struct channel *h, enum err why)
{
	channel_release(h, RELEASE_CLOSE, why);
}

void channel_adopt(struct session *c)
{
	struct service *s = c->svc;
	struct channel *h = channel_new(s);
	struct conn *k = c->conn;

	list_push_back(&s->orphans, &h->node);
	pool_move_lease(&c->holder.lease, &h->holder.lease, &h->holder);
	h->conn = k;
	c->conn = NULL;
	k->session = NULL;
	k->channel = h;
	timer_set(s->loop, &h->patience, service_now(s) + s->opts.half_close_timeout_us);
}

/* The clients of a channel that was given up are spread over the others as they come. */
void channel_detach(struct conn *k)
{
	struct channel *h = k->channel, *next;
	struct service *s = h->svc;

	k->wire->stalled->talk->slow = true;
	if (channel_is_orphan(h)) {
		if (!heap_has(&h->patience.due))
			timer_set(s->loop, &h->patience, service_now(s) + CHANNEL_PATIENCE_US);
		return;
	}
	next = channel_new(s);
	for (size_t i = 0; i < s->n_channels; i++)
		if (s->channels[i] == h)
			s->channels[i] = next;
	for (int st = 0; st < CLIENT_STATES; st++)
		list_each(&s->sessions[st], n) {
			struct talk *t = container_of(n, struct session, node)->talk;

			if (t->channel == h) {
				t->channel = next;
				next->users++;
			}
		}
	list_push_back(&s->orphans, &h->node);
	channel_wake(h);
	timer_set(s->loop, &h->patience, service_now(s) + CHANNEL_PATIENCE_US);
}

static void channel_drop(struct channel *h)
{
	if (h->conn)
		wire_broken(h->conn, ERR_SHUTDOWN);
	else if (h->holder.lease.state == LEASE_HELD) /* granted, not yet told */
		pool_release(h->svc->pool, &h->holder.lease, RELEASE_CLEAN, ERR_SHUTDOWN, service_now(h->svc));
	else
		pool_cancel(h->svc->pool, &h->holder.lease, ERR_SHUTDOWN, service_now(h->svc));
}

void channel_give_up(struct service *s)
{
	while (s->orphans.len > 0)
		channel_drop(container_of(list_front(&s->orphans), struct channel, node));
	for (size_t i = 0; i < s->n_channels; i++)
		channel_drop(s->channels[i]);
}

void channels_free(struct service *s)
{
	for (size_t i = 0; i < s->n_channels; i++)
		mem_free(s->channels[i]);
	mem_free(s->channels);
	s->n_channels = 0;
}
