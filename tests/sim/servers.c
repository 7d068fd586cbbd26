/* servers: see actors.h. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actors.h"
#include "base/mem.h"
#include "resp_actors.h"
#include "vault.h"

#define LINE_MAX_BYTES 65536

struct server_session {
	struct node node;
	struct server_actor *actor;
	struct sock *sock;
	struct event work; /* the next request is answered, or the next byte sent */
	struct bytes in, out;
	size_t scanned; /* bytes of `in` known to hold no line end */
	enum fate fate;
	uint64_t fate_at, sent;
	int64_t answered_us; /* when the last byte of an answer to a client was sent */
	int64_t busy_us;     /* not before */
	unsigned password;   /* it logged in with; 0: none */
	bool logged_in, stalled, odd_sent, end_of_input;
	/* ISO-12 */
	uint64_t first_client, last_client;
	bool checked_since; /* a PING was answered after last_client's last request */
	uint64_t serial;
	struct resp_conn resp;
};

static void session_work(struct event *e);
static void session_changed(struct sock *s, void *arg);

static void session_free(struct server_session *s, bool reset)
{
	event_stop(&s->work);
	if (reset)
		sock_abort(&s->sock);
	else
		sock_close(&s->sock);
	list_remove(&s->node);
	bytes_free(&s->in);
	bytes_free(&s->out);
	mem_free(s);
}

static enum fate server_draw_fate(const struct server_actor *a)
{
	unsigned f;

	if (!world_chance(a->fate_chance) || a->fates == 0)
		return FATE_NONE;
	do
		f = (unsigned)world_below(FATES);
	while (!(a->fates >> f & 1));
	return (enum fate)f;
}

static void session_new(struct server_actor *a)
{
	struct server_session *s = NEW(struct server_session);

	s->actor = a;
	event_init(&s->work, session_work);
	s->fate = server_draw_fate(a);
	s->fate_at = world_below(3) == 0 ? 0 : world_below(200);
	s->logged_in = !a->wants_login;
	s->serial = ++a->accepted;
	resp_conn_init(&s->resp, a->wants_login);
	if (a->first_accept_us == 0)
		a->first_accept_us = world.now_us;
	list_push_back(&a->sessions, &s->node);
	s->sock = port_accept(a->port, session_changed, s);
	trace(TR_SERVER, a->port->id, 1, s->fate);
	if (a->greets) {
		char text[32];
		int n = snprintf(text, sizeof(text), "G%" PRIu64 "\n", s->serial);

		bytes_add(&s->out, text, (size_t)n);
		event_sooner(&s->work, world.now_us + 1);
	}
	if (s->fate == FATE_EXTRA || s->fate == FATE_CLOSE || s->fate == FATE_RESET)
		event_sooner(&s->work, world.now_us + world_range(100, 20 * MS));
}

static void server_accept(struct port *p, void *arg)
{
	struct server_actor *a = arg;

	while (!a->stopped && p->queue.len > 0)
		session_new(a);
}

/* ---- what a request means ---- */

/* Two clients on one connection: allowed only as the pool's reuse rule says. Proves: ISO-12 */
static void session_check_client(struct server_session *s, uint64_t id)
{
	const struct server_actor *a = s->actor;

	if (s->first_client == 0)
		s->first_client = id;
	if (id != s->last_client && s->last_client != 0) {
		PROMISE(a->reuse != REUSE_RULE_NEVER, "ISO-12",
			"client %" PRIu64 " after client %" PRIu64 " on one connection of a pool that never reuses",
			id, s->last_client);
		PROMISE(a->reuse != REUSE_RULE_SCRIPT || s->checked_since, "ISO-12",
			"client %" PRIu64 " after client %" PRIu64 " without a ready check between", id,
			s->last_client);
		PROMISE(a->reuse != REUSE_RULE_QUIET || s->odd_sent || world.now_us - s->answered_us >= a->quiet_us,
			"ISO-12", "client %" PRIu64 " after client %" PRIu64 " after only %" PRId64 " us of silence",
			id, s->last_client, world.now_us - s->answered_us);
	}
	s->last_client = id;
	s->checked_since = false;
}

static void session_add_odd(struct server_session *s)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "!%" PRIu64 "\n", s->serial);

	/* In RESP it would be taken for the answer to what may be on its way. */
	if (s->odd_sent || s->actor->resp)
		return;
	s->odd_sent = true;
	bytes_add(&s->out, text, (size_t)n);
	trace(TR_SERVER, s->actor->port->id, 2, s->serial);
}

/* Nothing is outstanding, and yet it speaks. */
static void session_speak_unasked(struct server_session *s)
{
	if (s->logged_in && bytes_len(&s->in) == 0 && bytes_len(&s->out) == 0)
		session_add_odd(s);
}

/* The answer to a dialogue of leased's own; a mad server may say more in the same breath. */
static void session_answer(struct server_session *s, const char *text)
{
	bytes_add(&s->out, text, strlen(text));
	if (s->fate == FATE_EXTRA && world_below(2))
		session_add_odd(s);
}

/* Proves: CRED-7 CRED-10 */
static void session_login(struct server_session *s, const char *login, size_t n)
{
	struct server_actor *a = s->actor;
	unsigned password = vault_password_of(a->vault, login, n);

	PROMISE(password > 0, "CRED-10", "a login arrives damaged, or with the credential of somebody else");
	PROMISE(!s->logged_in, "CRED-7", "a second login on a connection whose protocol has none");
	a->logins++;
	trace(TR_SERVER, a->port->id, 6, password);
	if (world_chance(a->deny_chance) || !(a->accepts >> password & 1)) {
		a->denied++;
		bytes_add(&s->out, "-DENIED\n", 8);
		return;
	}
	s->logged_in = true;
	s->password = password;
	sock_set_mark(s->sock, password);
	session_answer(s, "+OK\n");
}

static void session_line(struct server_session *s, const uint8_t *line, size_t n)
{
	struct server_actor *a = s->actor;
	uint64_t id;
	char *end;

	if (n > 5 && memcmp(line, "AUTH ", 5) == 0) {
		session_login(s, (const char *)line + 5, n - 5);
	} else if (n == 5 && memcmp(line, "PING\n", 5) == 0) {
		a->pings++;
		s->checked_since = s->logged_in;
		session_answer(s, a->sick ? "-SICK\n" : "+PONG\n");
	} else {
		PROMISE(s->logged_in, "CRED-10", "a client's bytes arrive before the login");
		/* A client that left in the middle of its id leaves a line that ends otherwise. */
		id = strtoull((const char *)line + 1, &end, 10);
		if (line[0] == 'C' && *end == ' ')
			session_check_client(s, id);
		a->requests++;
		bytes_add(&s->out, line, n);
	}
}

/* ---- RESP ---- */

static enum resp_login session_resp_login(void *arg, const char *login, size_t n)
{
	struct server_session *s = arg;
	struct server_actor *a = s->actor;
	unsigned password = vault_password_of(a->vault, login, n);

	PROMISE(password > 0, "CRED-10", "a login arrives damaged, or with the credential of somebody else");
	a->logins++;
	trace(TR_SERVER, a->port->id, 6, password);
	if (world_chance(a->deny_chance) || !(a->accepts >> password & 1)) {
		a->denied++;
		return RESP_LOGIN_DENIED;
	}
	s->logged_in = true;
	s->password = password;
	sock_set_mark(s->sock, password);
	return RESP_LOGIN_OK;
}

/* Subscribers hear of it, after what they are owed. */
static void session_published(void *arg)
{
	struct server_session *from = arg;

	list_each(&from->actor->sessions, n) {
		struct server_session *s = container_of(n, struct server_session, node);

		if (!s->resp.subscribed || s->resp.blocked_us != 0)
			continue;
		resp_conn_push(&s->resp, &s->out);
		event_sooner(&s->work, world.now_us + 1);
	}
}

static bool session_resp_one(struct server_session *s)
{
	const struct resp_world w = {.manners = s->actor->resp,
				     .wants_login = s->actor->wants_login,
				     .login = session_resp_login,
				     .published = session_published,
				     .arg = s};
	struct resp_arg args[RESP_ARGS_MAX];
	size_t have = bytes_len(&s->in), argc = 0, len = 0;

	if (s->resp.blocked_us > world.now_us)
		return false;
	if (s->resp.blocked_us != 0)
		resp_conn_unblock(&s->resp, have, &s->out);
	if (have > s->scanned)
		len = resp_parse(bytes_at(&s->in), have, args, &argc);
	if (len == 0) {
		s->scanned = have;
		return false;
	}
	s->actor->requests++;
	resp_conn_do(&s->resp, &w, args, argc, &s->out);
	bytes_take(&s->in, len);
	s->resp.behind -= s->resp.behind < len ? s->resp.behind : len;
	s->scanned = 0;
	return true;
}

/* Answers the first whole line, if there is one. */
static bool session_answer_one(struct server_session *s)
{
	const uint8_t *p = bytes_at(&s->in), *nl;
	size_t have = bytes_len(&s->in);

	if (s->actor->resp)
		return session_resp_one(s);
	nl = have > s->scanned ? memchr(p + s->scanned, '\n', have - s->scanned) : NULL;
	if (!nl) {
		s->scanned = have;
		PROMISE(have < LINE_MAX_BYTES, "ISO-2", "a line never ends");
		return false;
	}
	session_line(s, p, (size_t)(nl - p) + 1);
	bytes_take(&s->in, (size_t)(nl - p) + 1);
	s->scanned = 0;
	return true;
}

/* ---- output ---- */

/* How many bytes may be sent before the session's fate is due. */
static size_t session_until_fate(const struct server_session *s, size_t n)
{
	uint64_t left = s->fate_at > s->sent ? s->fate_at - s->sent : 0;

	if (s->fate != FATE_CLOSE && s->fate != FATE_RESET && s->fate != FATE_STALL)
		return n;
	return left < n ? left : n;
}

static void session_flush(struct server_session *s)
{
	while (bytes_len(&s->out) > 0) {
		size_t want = session_until_fate(s, bytes_len(&s->out)), n;

		if (s->fate == FATE_SLICED && want > 1)
			want = 1;
		if (want == 0 || sock_write(s->sock, bytes_at(&s->out), want, &n) != ERR_OK)
			break;
		bytes_take(&s->out, n);
		s->sent += n;
		if (!s->checked_since)
			s->answered_us = world.now_us;
		if (s->fate == FATE_SLICED && s->sent < 300) {
			if (bytes_len(&s->out) > 0)
				event_sooner(&s->work, world.now_us + world_range(1, 60));
			return;
		}
	}
}

static void session_work(struct event *e)
{
	struct server_session *s = container_of(e, struct server_session, work);
	struct server_actor *a = s->actor;
	bool merge = world_below(3) == 0;

	world.events++;
	if (a->stopped || s->stalled || s->fate == FATE_SILENT)
		return;
	if (s->fate == FATE_EXTRA)
		session_speak_unasked(s);
	if (world.now_us >= s->busy_us)
		while (session_answer_one(s) && merge)
			;
	session_flush(s);
	if (s->sent >= s->fate_at && (s->fate == FATE_CLOSE || s->fate == FATE_RESET)) {
		trace(TR_SERVER, a->port->id, 3, s->fate);
		session_free(s, s->fate == FATE_RESET);
		return;
	}
	if (s->fate == FATE_STALL && s->sent >= s->fate_at)
		s->stalled = true;
	if (s->resp.blocked_us > world.now_us)
		event_sooner(&s->work, s->resp.blocked_us);
	else if (bytes_len(&s->in) > s->scanned || s->resp.blocked_us != 0)
		event_sooner(&s->work, world.now_us + world_range(a->reply_min_us, a->reply_max_us));
	else if (s->end_of_input && bytes_len(&s->out) == 0)
		session_free(s, false);
}

static void session_changed(struct sock *sock, void *arg)
{
	struct server_session *s = arg;
	const struct server_actor *a = s->actor;
	uint8_t chunk[8192];
	size_t n, cap = s->fate == FATE_SLOW ? 1 + world_below(64) : sizeof(chunk);
	enum err e;

	if (a->stopped)
		return;
	while ((e = sock_read(sock, chunk, cap, &n)) == ERR_OK) {
		bytes_add(&s->in, chunk, n);
		if (s->fate == FATE_SLOW)
			break;
	}
	if (e == ERR_EOF) {
		s->end_of_input = true;
	} else if (e != ERR_AGAIN && e != ERR_OK) {
		session_free(s, false);
		return;
	}
	if (!heap_has(&s->work.due))
		s->busy_us = world.now_us + world_range(a->reply_min_us, a->reply_max_us);
	event_sooner(&s->work, s->busy_us);
}

/* ---- control ---- */

static void server_flap(struct event *e)
{
	struct server_actor *a = container_of(e, struct server_actor, flap);

	world.events++;
	if (a->flap_us == 0)
		return;
	if (a->port->refuse)
		server_actor_start(a);
	else
		server_actor_kill(a);
	event_set(&a->flap, world.now_us + world_range(a->flap_us / 4, a->flap_us));
}

struct server_actor *server_actor_new(unsigned host, unsigned port)
{
	struct server_actor *a = NEW(struct server_actor);
	struct addr at = sim_addr(host, port);

	a->host = host;
	a->reply_min_us = 10;
	a->reply_max_us = 100;
	list_init(&a->sessions);
	event_init(&a->flap, server_flap);
	a->port = port_open(&at, server_accept, a);
	return a;
}

static void server_reset_all(struct server_actor *a)
{
	while (a->sessions.len > 0)
		session_free(container_of(list_front(&a->sessions), struct server_session, node), true);
}

void server_actor_free(struct server_actor **pa)
{
	struct server_actor *a = *pa;

	*pa = NULL;
	if (!a)
		return;
	server_reset_all(a);
	event_stop(&a->flap);
	port_close(&a->port);
	mem_free(a);
}

void server_actor_kill(struct server_actor *a)
{
	trace(TR_SERVER, a->port->id, 4, 0);
	a->port->refuse = true;
	server_reset_all(a);
	while (a->port->queue.len > 0) {
		struct sock *s = port_accept(a->port, NULL, NULL);

		sock_abort(&s);
	}
}

void server_actor_start(struct server_actor *a)
{
	trace(TR_SERVER, a->port->id, 5, 0);
	a->port->refuse = false;
}

void server_actor_stop(struct server_actor *a, bool stopped)
{
	a->stopped = stopped;
	if (stopped)
		return;
	server_accept(a->port, a);
	list_each(&a->sessions, n) {
		struct server_session *s = container_of(n, struct server_session, node);

		event_sooner(&s->work, world.now_us + 1);
		session_changed(s->sock, s);
	}
}

void server_actor_heal(struct server_actor *a)
{
	a->fate_chance = a->deny_chance = 0;
	a->sick = false;
	a->flap_us = 0;
	a->port->deaf = a->port->refuse = a->port->link.hole = false;
	a->reply_min_us = 10;
	a->reply_max_us = 100;
	a->port->link.lat_min_us = 20;
	a->port->link.lat_max_us = 200;
	if (a->stopped)
		server_actor_stop(a, false);
	list_each(&a->sessions, n) {
		struct server_session *s = container_of(n, struct server_session, node);

		if (s->fate != FATE_NONE)
			session_free(s, true);
	}
}

void server_actor_accept(struct server_actor *a, unsigned password, bool kill)
{
	(void)kill;
	trace(TR_SERVER, a->port->id, 7, password);
	a->accepts |= (uint64_t)1 << password;
}

void server_actor_revoke(struct server_actor *a, unsigned but, bool kill)
{
	trace(TR_SERVER, a->port->id, 8, but);
	/* Gently: those that come after it stay. */
	a->accepts &= a->vault->gentle ? ~(uint64_t)0 << but : (uint64_t)1 << but;
	list_each(&a->sessions, n) {
		struct server_session *s = container_of(n, struct server_session, node);

		if (kill && s->password != but && s->password != 0)
			session_free(s, true);
	}
}

void server_actor_reset_first(struct server_actor *a)
{
	session_free(container_of(list_front(&a->sessions), struct server_session, node), true);
}

size_t server_actor_sessions(const struct server_actor *a)
{
	return a->sessions.len;
}
