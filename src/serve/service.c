#include "serve/service.h"

#include <stdatomic.h>
#include <string.h>

#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "serve/serve_private.h"

struct client_limit {
	_Atomic int used;
	int max;
};

struct client_limit *client_limit_new(int max)
{
	struct client_limit *c = NEW(struct client_limit);

	c->max = max;
	return c;
}

void client_limit_free(struct client_limit **c)
{
	mem_free(*c);
	*c = NULL;
}

int client_limit_used(const struct client_limit *c)
{
	return atomic_load(&c->used);
}

static bool client_limit_take(struct client_limit *c)
{
	if (atomic_fetch_add(&c->used, 1) < c->max || c->max <= 0)
		return true;
	atomic_fetch_sub(&c->used, 1);
	return false;
}

/* ---- effects ---- */

static void service_drain_over(struct service *s, enum err e)
{
	s->drain_result = e;
	timer_stop(s->loop, &s->drain_timer);
	loop_post(s->loop, &s->drained);
}

/* ---- credentials ---- */

struct cred *service_cred(struct service *s, uint64_t gen)
{
	for (size_t i = 0; i < s->n_creds; i++)
		if (s->creds[i]->number == gen)
			return s->creds[i];
	return s->n_creds > 0 ? s->creds[0] : NULL;
}

/* Generations that nothing can log in with any more are let go, so that their secrets are wiped. */
static void service_drop_creds(struct service *s)
{
	size_t kept = 1;

	for (size_t i = 1; i < s->n_creds; i++)
		if (pool_needs_gen(s->pool, s->creds[i]->number))
			s->creds[kept++] = s->creds[i];
		else
			cred_drop(&s->creds[i]);
	if (s->n_creds > 0)
		s->n_creds = kept;
}

static void service_want(struct service *s, uint64_t than)
{
	if (s->opts.want_newer)
		s->opts.want_newer(s->opts.want_arg, than);
	else
		pool_no_newer(s->pool, than, true, service_now(s));
}

void service_credential_move(struct service *s, struct cred *c)
{
	s->creds = mem_realloc(s->creds, (s->n_creds + 1) * sizeof(*s->creds));
	memmove(s->creds + 1, s->creds, s->n_creds * sizeof(*s->creds));
	s->creds[0] = cred_ref(c);
	s->n_creds++;
	s->rotating_since_us = service_now(s);
	pool_credential(s->pool, c->number, c->is.expires_us, service_now(s));
	service_run(s);
}

void service_credential(struct service *s, struct cred *c)
{
	bool moves = c->is.host || c->is.port;

	if (s->n_creds > 0 && c->number <= s->creds[0]->number)
		return;
	if (moves && s->n_endpoints != 1)
		log_at(LOG_LV_WARNING, "cred.endpoint_ignored", L_STR("pool", pool_name(s->pool)),
		       L_INT("servers", s->n_endpoints));
	if (s->n_endpoints == 1 && !endpoint_move(s->endpoints[0], c))
		return;
	service_credential_move(s, c);
}

void service_credential_failed(struct service *s, uint64_t than, enum err why, bool final)
{
	log_at(LOG_LV_WARNING, "cred.not_newer", L_STR("pool", pool_name(s->pool)), L_INT("generation", than),
	       L_ERR(why));
	pool_no_newer(s->pool, than, final, service_now(s));
	service_run(s);
}

/* Says so when the newest generation is in use everywhere. */
static void service_check_rotated(struct service *s)
{
	if (s->rotating_since_us == 0 || !pool_is_rotated(s->pool))
		return;
	log_at(LOG_LV_NOTICE, "cred.rotated", L_STR("pool", pool_name(s->pool)),
	       L_INT("generation", s->creds[0]->number),
	       L_INT("took_ms", (service_now(s) - s->rotating_since_us) / 1000));
	s->rotating_since_us = 0;
}

/* ---- effects ---- */

static void service_do(struct service *s, const struct effect *e)
{
	struct holder *holder;

	switch (e->kind) {
	case EFFECT_DIAL:
		conn_dial(s, e->up);
		break;
	case EFFECT_PROBE:
		if (e->up->state == UP_PROBING)
			conn_probe(e->up->conn);
		break;
	case EFFECT_REAUTH:
		/* A reminder to a lease that has ended since is none to its connection. */
		if ((e->lease != NULL) == (e->up->state == UP_LEASED))
			conn_reauth(e->up->conn);
		break;
	case EFFECT_WANT_NEWER:
		service_want(s, e->gen);
		break;
	case EFFECT_CLOSE:
		conn_close(e->up->conn);
		break;
	case EFFECT_GRANT:
		holder = e->lease->owner;
		holder->granted(holder, e->up);
		break;
	case EFFECT_REFUSE:
		holder = e->lease->owner;
		holder->refused(holder, e->err);
		break;
	case EFFECT_DRAINED:
		if (s->drain_done)
			service_drain_over(s, ERR_OK);
		break;
	}
}

static void service_check_stopped(struct service *s);

void service_run(struct service *s)
{
	struct effect e;
	int64_t at;

	if (s->running_effects)
		return;
	s->running_effects = true;
	while (pool_effect(s->pool, &e))
		service_do(s, &e);
	s->running_effects = false;
	if (s->n_creds > 1)
		service_drop_creds(s);
	if (s->rotating_since_us != 0)
		service_check_rotated(s);
	at = pool_next_us(s->pool);
	if (at != s->pool_timer_us) {
		s->pool_timer_us = at;
		if (at == INT64_MAX)
			timer_stop(s->loop, &s->pool_timer);
		else
			timer_set(s->loop, &s->pool_timer, at);
	}
	if (s->phase == SERVICE_STOPPING)
		service_check_stopped(s);
}

static void service_on_pool_timer(void *arg)
{
	struct service *s = arg;

	s->pool_timer_us = INT64_MAX;
	pool_tick(s->pool, service_now(s));
	service_run(s);
}

void service_poked(struct service *s, enum budget_poke what)
{
	pool_poked(s->pool, what, service_now(s));
	service_run(s);
}

/* ---- clients ---- */

static size_t service_all_clients(const struct service *s)
{
	size_t n = 0;

	for (int i = 0; i < CLIENT_STATES; i++)
		n += s->sessions[i].len;
	return n;
}

static bool uid_is_allowed(const struct service_listener *o, const struct stream *c)
{
	uint32_t uid, pid;

	if (o->n_allow_uid == 0)
		return true;
	if (stream_peer_uid(c, &uid, &pid) != ERR_OK)
		return false;
	for (size_t i = 0; i < o->n_allow_uid; i++)
		if (o->allow_uid[i] == uid)
			return true;
	return false;
}

static void service_reject(struct service *s, struct stream *c, enum err why)
{
	char peer[ADDR_TEXT_MAX];
	struct addr addr;

	pool_stat(s->pool)->client_rejections[why]++;
	stream_peer(c, &addr);
	addr_format(&addr, peer, sizeof(peer));
	log_at(LOG_LV_WARNING, "client.rejected", L_STR("pool", pool_name(s->pool)),
	       L_WIRE("peer", peer, strlen(peer)), L_ERR(why));
	stream_close(&c);
}

static void service_on_accept(void *arg, struct stream *c)
{
	struct service_listener *o = arg;
	struct service *s = o->owner;

	if (!uid_is_allowed(o, c)) {
		service_reject(s, c, ERR_NOT_ALLOWED);
	} else if (mem_is_short()) {
		service_reject(s, c, ERR_NO_MEMORY);
	} else if (s->opts.max_clients > 0 && service_all_clients(s) >= (size_t)s->opts.max_clients) {
		service_reject(s, c, ERR_MAX_CLIENTS);
	} else if (!client_limit_take(s->limit)) {
		service_reject(s, c, ERR_MAX_CLIENTS);
	} else {
		pool_stat(s->pool)->clients++;
		session_new(s, c);
		service_run(s);
	}
}

/* ---- the dead, freed at the end of the turn ---- */

static void service_bury(void *arg)
{
	struct service *s = arg;

	list_each(&s->dead_sessions, n) {
		list_remove(n);
		slab_put(&s->session_slab, container_of(n, struct session, node));
	}
	list_each(&s->dead_conns, n) {
		list_remove(n);
		slab_put(&s->conn_slab, container_of(n, struct conn, dead));
	}
}

void service_session_ended(struct service *s, struct session *c)
{
	atomic_fetch_sub(&s->limit->used, 1);
	list_remove(&c->node);
	list_push_back(&s->dead_sessions, &c->node);
	loop_post(s->loop, &s->bury);
}

void service_bury_conn(struct service *s, struct conn *c)
{
	list_push_back(&s->dead_conns, &c->dead);
	loop_post(s->loop, &s->bury);
}

/* ---- life ---- */

static void service_on_stopped(void *arg)
{
	struct service *s = arg;

	if (s->stop_done)
		s->stop_done(s->stop_arg);
}

static void service_on_drained(void *arg)
{
	struct service *s = arg;
	void (*done)(void *, enum err) = s->drain_done;

	s->drain_done = NULL;
	if (done)
		done(s->drain_arg, s->drain_result);
}

static void service_on_drain_timeout(void *arg)
{
	service_drain_over(arg, ERR_LEASE_TIMEOUT);
}

/* What the pool has to know of its protocol. */
static struct pool *service_pool_new(const struct service_opts *o, struct budget *b,
				     void (*poke)(void *arg, enum budget_poke what), void *arg)
{
	struct pool_opts po = o->pool;

	po.has_health_check = o->proto->has(o->proto_conf, PROTO_PING);
	if (!(o->proto->caps & PROTO_CAP_REAUTH) && po.cred_change == CRED_CHANGE_REAUTH)
		po.cred_change = CRED_CHANGE_RECYCLE;
	po.denied_keeps = o->proto->caps & PROTO_CAP_REAUTH_KEEPS;
	return pool_new(&po, b, poke, arg);
}

/* At the end of the turn: what was asked in it goes out in one write for each connection. */
static void service_flush(void *arg)
{
	struct service *s = arg;

	while (s->to_flush.len > 0) {
		struct wire *w = container_of(list_front(&s->to_flush), struct wire, flush);

		list_remove(&w->flush);
		wire_flush(w->conn);
		talk_run(s);
	}
	service_run(s);
}

static void service_make_channels(struct service *s)
{
	s->n_channels = s->opts.multiplex > 0 ? (size_t)s->opts.multiplex : 1;
	s->channels = mem_alloc(s->n_channels * sizeof(struct channel *));
	for (size_t i = 0; i < s->n_channels; i++)
		s->channels[i] = channel_new(s);
}

struct service *service_new(struct loop *l, struct resolver *r, const struct service_opts *o, struct budget *b,
			    struct client_limit *c, void (*poke)(void *arg, enum budget_poke what), void *arg)
{
	struct service *s = NEW(struct service);
	const struct proto_talk *talk = o->proto->talk;

	s->loop = l;
	s->resolver = r;
	s->opts = *o;
	s->limit = c;
	s->pool = service_pool_new(o, b, poke, arg);
	s->pool_timer_us = INT64_MAX;
	for (int i = 0; i < CLIENT_STATES; i++)
		list_init(&s->sessions[i]);
	list_init(&s->dead_sessions);
	list_init(&s->dead_conns);
	list_init(&s->orphans);
	list_init(&s->to_flush);
	list_init(&s->awake);
	s->kind = talk ? &session_talk : &session_raw;
	slab_init(&s->session_slab, sizeof(struct session) + (talk ? sizeof(struct talk) + talk->client_bytes : 0),
		  1024);
	slab_init(&s->conn_slab, sizeof(struct conn) + service_up_bytes(o->proto) + (talk ? sizeof(struct wire) : 0),
		  1024);
	task_init(&s->flush, service_flush, s);
	if (talk && talk->pool_bytes > 0)
		s->proto_pool = mem_alloc(talk->pool_bytes);
	if (talk && o->mode == SERVICE_REQUEST)
		service_make_channels(s);
	timer_init(&s->pool_timer, service_on_pool_timer, s);
	timer_init(&s->drain_timer, service_on_drain_timeout, s);
	task_init(&s->bury, service_bury, s);
	task_init(&s->stopped, service_on_stopped, s);
	task_init(&s->drained, service_on_drained, s);
	s->endpoints = mem_alloc((o->n_servers + 1) * sizeof(struct endpoint *));
	for (size_t i = 0; i < o->n_servers; i++)
		s->endpoints[s->n_endpoints++] = endpoint_new(s, &o->servers[i]);
	for (size_t i = 0; i < s->n_endpoints; i++)
		endpoint_start(s->endpoints[i]);
	s->listener_opts = mem_alloc((o->n_listeners + 1) * sizeof(*s->listener_opts));
	for (size_t i = 0; i < o->n_listeners; i++) {
		s->listener_opts[i] = o->listeners[i];
		s->listener_opts[i].owner = s;
	}
	s->listeners = mem_alloc((o->n_listeners + 1) * sizeof(struct listener *));
	if (o->cred)
		service_credential(s, o->cred);
	/* min_idle is met from the start */
	pool_tick(s->pool, service_now(s));
	service_run(s);
	return s;
}

enum err service_listen(struct service *s, const char **why)
{
	while (s->n_listeners < s->opts.n_listeners) {
		struct service_listener *o = &s->listener_opts[s->n_listeners];
		struct listener **out = &s->listeners[s->n_listeners];
		enum err e = o->fd >= 0 ? listener_adopt(s->loop, o->fd, &o->opts, service_on_accept, o, out, why)
					: listener_open(s->loop, &o->addr, &o->opts, service_on_accept, o, out, why);

		if (e != ERR_OK)
			return e;
		s->n_listeners++;
	}
	return ERR_OK;
}

static void service_close_listeners(struct service *s)
{
	while (s->n_listeners > 0)
		listener_close(&s->listeners[--s->n_listeners]);
}

static void service_check_stopped(struct service *s)
{
	if (service_all_clients(s) > 0)
		return;
	s->phase = SERVICE_STOPPED;
	channel_give_up(s);
	pool_shutdown(s->pool, service_now(s));
	service_run(s);
	loop_post(s->loop, &s->stopped);
}

void service_stop(struct service *s, void (*done)(void *arg), void *arg)
{
	BUG_ON(s->phase != SERVICE_RUNNING);
	s->phase = SERVICE_STOPPING;
	s->stop_done = done;
	s->stop_arg = arg;
	service_close_listeners(s);
	list_each(&s->sessions[CLIENT_IDLE], n)
		session_stop_if_idle(container_of(n, struct session, node));
	service_run(s);
}

void service_kill(struct service *s)
{
	service_close_listeners(s);
	for (int i = 0; i < CLIENT_STATES; i++)
		list_each(&s->sessions[i], n)
			session_end(container_of(n, struct session, node), ERR_SHUTDOWN);
	channel_give_up(s);
	pool_shutdown(s->pool, service_now(s));
	service_run(s);
}

void service_free(struct service **ps)
{
	struct service *s = *ps;

	if (!s)
		return;
	service_close_listeners(s);
	BUG_ON(service_all_clients(s) > 0);
	service_run(s);
	service_bury(s);
	loop_unpost(s->loop, &s->bury);
	loop_unpost(s->loop, &s->flush);
	channels_free(s);
	while (s->n_creds > 0)
		cred_drop(&s->creds[--s->n_creds]);
	mem_free(s->creds);
	mem_free(s->proto_pool);
	loop_unpost(s->loop, &s->stopped);
	loop_unpost(s->loop, &s->drained);
	timer_stop(s->loop, &s->pool_timer);
	timer_stop(s->loop, &s->drain_timer);
	for (size_t i = 0; i < s->n_endpoints; i++)
		endpoint_free(&s->endpoints[i]);
	pool_free(&s->pool);
	slab_done(&s->session_slab);
	slab_done(&s->conn_slab);
	mem_free(s->endpoints);
	mem_free(s->listener_opts);
	mem_free(s->listeners);
	mem_free(s);
	*ps = NULL;
}

enum err service_drain(struct service *s, bool refuse_new, int64_t timeout_us, void (*done)(void *arg, enum err e),
		       void *arg)
{
	if (s->drain_done)
		return ERR_AGAIN;
	s->drain_done = done;
	s->drain_arg = arg;
	if (timeout_us > 0)
		timer_set(s->loop, &s->drain_timer, service_now(s) + timeout_us);
	pool_drain(s->pool, refuse_new, service_now(s));
	service_run(s);
	return ERR_OK;
}

void service_resume(struct service *s)
{
	pool_resume(s->pool, service_now(s));
	if (s->drain_done)
		service_drain_over(s, ERR_CANCELLED);
	service_run(s);
}

/* ---- looking in ---- */

struct pool *service_pool(struct service *s)
{
	return s->pool;
}

const char *client_state_name(enum client_state s)
{
	static const char *const names[CLIENT_STATES] = {"idle", "waiting", "active", "closing"};

	return names[s];
}

size_t service_count(const struct service *s, enum client_state st)
{
	return s->sessions[st].len;
}

static enum err service_pin(const struct session *c)
{
	return c->talk && c->conn ? c->talk->pin : ERR_OK;
}

void service_pins(const struct service *s, size_t by_reason[ERR_COUNT])
{
	list_each(&s->sessions[CLIENT_ACTIVE], node) {
		enum err pin = service_pin(container_of(node, struct session, node));

		if (pin != ERR_OK)
			by_reason[pin]++;
	}
}

static void service_client_view(const struct session *c, struct client_view *out)
{
	*out = (struct client_view){
		.id = c->id,
		.state = c->state,
		.connected_us = c->connected_us,
		.state_us = c->state_us,
		.upstream_id = c->conn ? c->conn->up->id : 0,
		.pin = service_pin(c),
		.bytes_in = c->up.bytes,
		.bytes_out = c->down.bytes,
	};
	stream_peer(c->client, &out->peer);
}

size_t service_clients(const struct service *s, struct client_view *out, size_t cap)
{
	size_t n = 0;

	for (int i = 0; i < CLIENT_STATES; i++)
		list_each(&s->sessions[i], node) {
			if (n < cap)
				service_client_view(container_of(node, struct session, node), &out[n]);
			n++;
		}
	return n;
}

size_t service_listener_addr(const struct service *s, size_t i, struct addr *out)
{
	if (i < s->n_listeners)
		listener_addr(s->listeners[i], out);
	return s->n_listeners;
}

size_t service_server_addrs(const struct service *s, size_t server, struct addr *out, size_t cap)
{
	const struct endpoint *e = s->endpoints[server];

	for (size_t i = 0; i < e->n && i < cap; i++)
		out[i] = e->v[i].addr;
	return e->n;
}

static void audit_session(const struct session *c, enum client_state st)
{
	const struct lease *l = &c->holder.lease;

	BUG_ON(!c->client || c->state != st);
	BUG_ON(!c->talk && (c->conn != NULL) != (st == CLIENT_ACTIVE || st == CLIENT_CLOSING));
	BUG_ON(c->conn && (c->conn->session != c || l->state != LEASE_HELD || c->conn->up != l->up));
	BUG_ON(!c->talk && st == CLIENT_WAITING && l->state != LEASE_WAITING);
	BUG_ON(st == CLIENT_IDLE && l->state != LEASE_NONE);
	BUG_ON(c->talk && c->talk->owed > 0 && !c->talk->on);
	BUG_ON(c->talk && st == CLIENT_IDLE && (c->talk->owed > 0 || c->conn));
	BUG_ON(c->up.pipe && buf_len(&c->up.pending) > 0 && splice_held(c->up.pipe) > 0);
	BUG_ON(c->down.pipe && buf_len(&c->down.pending) > 0 && splice_held(c->down.pipe) > 0);
}

void service_audit(struct service *s)
{
	pool_audit(s->pool, service_now(s));
	for (int i = 0; i < CLIENT_STATES; i++)
		list_each(&s->sessions[i], n)
			audit_session(container_of(n, struct session, node), (enum client_state)i);
}
