/* clients: see actors.h. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "actors.h"
#include "base/mem.h"
#include "resp_actors.h"

static void client_changed(struct sock *s, void *arg);
static void client_timer(struct event *e);
static void client_leave(struct event *e);

struct client_actor *client_actor_new(unsigned id, const struct addr *to)
{
	struct client_actor *c = NEW(struct client_actor);

	c->id = id;
	c->to = *to;
	c->from = sim_addr(100 + id, 1);
	event_init(&c->timer, client_timer);
	event_init(&c->leave, client_leave);
	return c;
}

static void client_drop(struct client_actor *c, bool reset)
{
	event_stop(&c->timer);
	event_stop(&c->leave);
	if (reset)
		sock_abort(&c->sock);
	else
		sock_close(&c->sock);
	bytes_free(&c->out);
	bytes_free(&c->expect);
}

void client_actor_free(struct client_actor **pc)
{
	struct client_actor *c = *pc;

	*pc = NULL;
	if (!c)
		return;
	client_drop(c, false);
	resp_client_end(c);
	mem_free(c->resp);
	mem_free(c);
}

/* The connection is over. Served: every request was answered in full. */
static void client_over(struct client_actor *c, bool reset)
{
	bool served = c->sent == c->plan.requests && c->answered == c->sent && c->phase == CLIENT_IN &&
		      !(c->resp && c->resp->errors > 0);

	trace(TR_CLIENT, c->id, served ? 2 : 3, c->answered);
	if (served) {
		c->served++;
		c->served_us = world.now_us;
		c->opened_last_us = c->opened_us;
		if (c->first_reply_us - c->opened_us > c->worst_us)
			c->worst_us = c->first_reply_us - c->opened_us;
	} else if (c->plan.habit != HABIT_LEAVE && c->plan.habit != HABIT_RESET && c->plan.habit != HABIT_DEAF &&
		   c->plan.habit != HABIT_SILENT) {
		c->failed++;
		trace(TR_CLIENT, c->id, 4, c->answered);
	}
	client_drop(c, reset);
	c->phase = CLIENT_OUT;
	if (c->ended)
		c->ended(c, served);
}

void client_actor_quit(struct client_actor *c, bool reset)
{
	client_drop(c, reset);
	c->phase = CLIENT_GONE;
}

/* ---- requests ---- */

static void client_compose(struct client_actor *c)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	size_t payload = c->plan.payload_max > 0 ? world_below(c->plan.payload_max + 1) : 0;
	uint8_t fill[256];
	char head[64];
	int n = snprintf(head, sizeof(head), "C%" PRIu64 " %u ", c->conn_id, c->sent);

	for (size_t i = 0; i < sizeof(fill); i++)
		fill[i] = (uint8_t)letters[(c->conn_id * 7 + c->sent * 13 + i) % (sizeof(letters) - 1)];
	bytes_add(&c->out, head, (size_t)n);
	bytes_add(&c->expect, head, (size_t)n);
	while (payload > 0) {
		size_t k = payload < sizeof(fill) ? payload : sizeof(fill);

		bytes_add(&c->out, fill, k);
		bytes_add(&c->expect, fill, k);
		payload -= k;
	}
	bytes_add(&c->out, "\n", 1);
	bytes_add(&c->expect, "\n", 1);
	c->sent++;
}

static void client_flush(struct client_actor *c)
{
	while (bytes_len(&c->out) > 0) {
		size_t n, want = c->plan.habit == HABIT_TRICKLE && c->sent < 3 ? 1 : bytes_len(&c->out);

		if (sock_write(c->sock, bytes_at(&c->out), want, &n) != ERR_OK)
			return;
		bytes_take(&c->out, n);
		if (c->plan.habit == HABIT_TRICKLE && c->sent < 3 && bytes_len(&c->out) > 0) {
			event_sooner(&c->timer, world.now_us + world_range(1, 50));
			return;
		}
	}
	if (c->plan.habit == HABIT_HALF_CLOSE && c->sent == c->plan.requests && !c->shut) {
		c->shut = true;
		sock_shutdown(c->sock);
	}
}

static void client_send(struct client_actor *c)
{
	if (!sock_connected(c->sock) || c->shut || c->plan.habit == HABIT_SILENT)
		return;
	while (c->sent < c->plan.requests && c->sent - c->answered < c->plan.pipeline)
		if (c->resp)
			resp_client_compose(c);
		else
			client_compose(c);
	client_flush(c);
}

/* ---- replies ---- */

/* A line the client did not ask for: the greeting of a new connection, or a word of a server gone mad. */
static size_t client_skip_odd(struct client_actor *c, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		bool first = c->odd == 0;

		if (first)
			c->odd = (char)p[0];
		if (first && c->odd == 'G')
			PROMISE(c->greeted_server && !c->seen_greeting && c->answered == 0, "ISO-1",
				"client %u is greeted in the middle of its session", c->id);
		PROMISE(first || p[i] == '\n' || (p[i] >= '0' && p[i] <= '9'), "ISO-2", "a damaged %s",
			c->odd == 'G' ? "greeting" : "word");
		if (p[i] != '\n')
			continue;
		c->seen_greeting = c->seen_greeting || c->odd == 'G';
		c->odd = 0;
		return i + 1;
	}
	return n;
}

/* Compares with what must come, byte by byte. Proves: ISO-1 ISO-2 */
static size_t client_match(struct client_actor *c, const uint8_t *p, size_t n)
{
	const uint8_t *want = bytes_at(&c->expect), *nl;
	size_t have = bytes_len(&c->expect), k;

	PROMISE(have > 0, "ISO-1", "client %u (C%" PRIu64 ") gets '%.*s' without having asked", c->id, c->conn_id,
		(int)(n < 60 ? n : 60), (const char *)p);
	k = n < have ? n : have;
	nl = memchr(want, '\n', k);
	if (nl)
		k = (size_t)(nl - want) + 1;
	PROMISE(memcmp(p, want, k) == 0, "ISO-1", "client %u (C%" PRIu64 ") gets '%.*s' and not '%.*s'", c->id,
		c->conn_id, (int)(k < 60 ? k : 60), (const char *)p, (int)(k < 60 ? k : 60), (const char *)want);
	bytes_take(&c->expect, k);
	if (c->first_reply_us == 0)
		c->first_reply_us = world.now_us;
	if (nl) {
		c->answered++;
		trace(TR_CLIENT, c->id, 1, c->answered);
	}
	return k;
}

static void client_take(struct client_actor *c, const uint8_t *p, size_t n)
{
	if (c->resp) {
		resp_client_take(c, p, n);
		return;
	}
	while (n > 0) {
		size_t k;

		if (c->odd || (c->at_line_start && (p[0] == '!' || p[0] == 'G')))
			k = client_skip_odd(c, p, n);
		else
			k = client_match(c, p, n);
		c->at_line_start = p[k - 1] == '\n';
		p += k;
		n -= k;
	}
}

static bool client_all_answered(const struct client_actor *c)
{
	return c->sent == c->plan.requests && c->answered == c->sent && bytes_len(&c->out) == 0;
}

/* After bytes: what a client of this habit does next. */
static void client_next(struct client_actor *c)
{
	enum client_habit h = c->plan.habit;

	if (client_all_answered(c)) {
		PROMISE(!c->greets_always || c->seen_greeting, "ISO-2", "client %u was not greeted", c->id);
		if (h != HABIT_HALF_CLOSE && h != HABIT_SILENT)
			client_over(c, false);
		return;
	}
	if (c->sent - c->answered < c->plan.pipeline && c->sent < c->plan.requests) {
		if (c->plan.think_us > 0)
			event_sooner(&c->timer, world.now_us + world_range(0, c->plan.think_us));
		else
			client_send(c);
	}
}

static void client_read(struct client_actor *c)
{
	uint8_t chunk[8192];
	size_t n, cap = c->plan.habit == HABIT_SLOW ? 1 : sizeof(chunk);
	uint64_t conn = c->conn_id;
	enum err e = ERR_OK;

	while (c->conn_id == conn && c->sock && (e = sock_read(c->sock, chunk, cap, &n)) == ERR_OK) {
		client_take(c, chunk, n);
		client_next(c);
		if (c->plan.habit == HABIT_SLOW) {
			if (c->sock)
				event_sooner(&c->timer, world.now_us + world_range(1, 100));
			return;
		}
	}
	if (c->conn_id != conn || !c->sock || e == ERR_AGAIN)
		return;
	client_over(c, false);
}

static void client_changed(struct sock *s, void *arg)
{
	struct client_actor *c = arg;

	if (sock_error(s) != ERR_OK && !sock_connected(s)) {
		c->refused++;
		client_over(c, false);
		return;
	}
	if (!sock_connected(s))
		return;
	if (c->sent == 0)
		client_send(c);
	else if (c->plan.habit != HABIT_TRICKLE)
		client_flush(c);
	if (c->plan.habit != HABIT_DEAF && c->plan.habit != HABIT_SLOW)
		client_read(c);
	else if (c->plan.habit == HABIT_SLOW)
		event_sooner(&c->timer, world.now_us + world_range(1, 100));
}

/* ---- time ---- */

static void client_timer(struct event *e)
{
	struct client_actor *c = container_of(e, struct client_actor, timer);

	world.events++;
	if (!c->sock) {
		client_actor_connect(c);
		return;
	}
	if (bytes_len(&c->out) > 0)
		client_flush(c);
	else
		client_send(c);
	if (c->sock && sock_connected(c->sock) && c->plan.habit == HABIT_SLOW)
		client_read(c);
}

static void client_leave(struct event *e)
{
	struct client_actor *c = container_of(e, struct client_actor, leave);

	world.events++;
	client_over(c, c->plan.habit == HABIT_RESET || c->plan.habit == HABIT_DEAF);
}

void client_actor_connect(struct client_actor *c)
{
	bytes_free(&c->out);
	bytes_free(&c->expect);
	c->conn_id = c->id * 100000 + ++c->sessions;
	c->sent = c->answered = 0;
	c->shut = c->seen_greeting = false;
	c->odd = 0;
	c->at_line_start = true;
	c->opened_us = world.now_us;
	c->first_reply_us = 0;
	c->phase = CLIENT_IN;
	if (c->resp)
		resp_client_begin(c);
	trace(TR_CLIENT, c->id, 0, c->plan.habit);
	c->sock = sock_connect(&c->to, &c->from, client_changed, c);
	if (c->plan.leave_us > 0)
		event_set(&c->leave, world.now_us + c->plan.leave_us);
}

void client_actor_leave_at(struct client_actor *c, int64_t at_us)
{
	c->plan.habit = HABIT_LEAVE;
	event_set(&c->leave, at_us);
}

void client_actor_connect_at(struct client_actor *c, int64_t at_us)
{
	event_set(&c->timer, at_us);
}
