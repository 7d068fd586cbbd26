/* resp_server: a model of one connection of a Redis server; see resp_actors.h. */
#include <inttypes.h>
#include <string.h>

#include "resp_actors.h"

static const char cant[] = "-ERR Can't execute this: only (P|S)SUBSCRIBE and so on\r\n";
static const char noauth[] = "-NOAUTH Authentication required.\r\n";

void resp_conn_init(struct resp_conn *c, bool wants_login)
{
	*c = (struct resp_conn){.version = 2, .authed = !wants_login};
}

static bool conn_has_state(const struct resp_conn *c)
{
	return c->multi || c->watching || c->subscribed || c->foreign;
}

/*
 * A client speaks on a connection that another has left in a state, or that is busy for another.
 * Proves: ISO-4 ISO-7
 */
static void conn_meets(struct resp_conn *c, uint64_t client)
{
	const char *what = c->multi	   ? "transaction"
			   : c->watching   ? "watch"
			   : c->subscribed ? "subscription"
					   : "state";

	PROMISE(c->behind == 0 || client == c->blocked_by, "ISO-7",
		"a request of C%" PRIu64 " is sent behind a command of C%" PRIu64 " that blocks", client,
		c->blocked_by);
	if (!conn_has_state(c)) {
		c->owner = 0;
		return;
	}
	PROMISE(c->owner == 0 || c->owner == client, "ISO-4", "C%" PRIu64 " meets the %s of C%" PRIu64, client, what,
		c->owner);
	c->owner = client;
}

/* Nothing but a login or what cleans comes without a client. Proves: CRED-7 */
static void conn_auth(struct resp_conn *c, const struct resp_world *w, const struct resp_arg *args, size_t argc,
		      struct bytes *out)
{
	char login[64];
	size_t n = 0;

	PROMISE(!c->multi && !(c->subscribed && c->version == 2), "CRED-7", "a login comes in the middle of a %s",
		c->multi ? "transaction" : "subscription");
	PROMISE(argc == 3 && args[1].n + args[2].n + 2 < sizeof(login), "CRED-10", "a login arrives damaged");
	memcpy(login, args[1].p, args[1].n);
	n = args[1].n;
	login[n++] = ' ';
	memcpy(login + n, args[2].p, args[2].n);
	n += args[2].n;
	login[n++] = '\n';
	if (w->login(w->arg, login, n) != RESP_LOGIN_OK) {
		resp_add(out, "-WRONGPASS invalid username-password pair or user is disabled.\r\n");
		return;
	}
	c->authed = true;
	resp_add(out, "+OK\r\n");
}

static void conn_hello(struct resp_conn *c, const struct resp_arg *args, size_t argc, struct bytes *out)
{
	PROMISE(argc == 2 && args[1].n == 1, "CRED-10", "a HELLO with more than a version arrives");
	c->version = args[1].p[0] - '0';
	resp_add(out, c->version == 3 ? "%2\r\n" : "*4\r\n");
	resp_add(out, "$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n");
}

static void conn_execute(const struct resp_conn *c, const struct resp_key *k, bool watching, struct bytes *out)
{
	unsigned times = ran_note(k->client, k->seq);

	PROMISE(times == 1, "ISO-11", "request %u of C%" PRIu64 " is executed %u times", k->seq, k->client, times);
	resp_answer(k, (struct resp_place){c->db, c->version, watching}, out);
}

static void conn_queue(struct resp_conn *c, const struct resp_key *k, bool select, struct bytes *out)
{
	PROMISE(c->n_queue < RESP_QUEUE_MAX, "ISO-4", "a transaction grows without end");
	c->queue_select[c->n_queue] = select;
	c->queue[c->n_queue++] = *k;
	resp_add(out, "+QUEUED\r\n");
}

static void conn_end_multi(struct resp_conn *c)
{
	c->multi = c->spoiled = c->watching = false;
	c->n_queue = 0;
}

static void conn_exec(struct resp_conn *c, struct bytes *out)
{
	char head[32];

	if (!c->multi) {
		resp_add(out, "-ERR EXEC without MULTI\r\n");
		return;
	}
	if (c->spoiled) {
		resp_add(out, "-EXECABORT Transaction discarded because of previous errors.\r\n");
	} else if (c->watching && world_below(3) == 0) {
		resp_add(out, c->version == 3 ? "_\r\n" : "*-1\r\n");
	} else {
		snprintf(head, sizeof(head), "*%zu\r\n", c->n_queue);
		resp_add(out, head);
		for (size_t i = 0; i < c->n_queue; i++) {
			if (c->queue_select[i]) {
				c->db = (int)c->queue[i].size;
				resp_add(out, "+OK\r\n");
			} else {
				conn_execute(c, &c->queue[i], c->watching, out);
			}
		}
	}
	conn_end_multi(c);
}

static void conn_subscribe(struct resp_conn *c, const struct resp_key *k, struct resp_arg channel, bool on,
			   struct bytes *out)
{
	char line[64];

	c->subscribed = on;
	c->channel = on ? k->client : 0;
	snprintf(line, sizeof(line), "%c3\r\n$%d\r\n%s\r\n$%zu\r\n", c->version == 3 ? '>' : '*', on ? 9 : 11,
		 on ? "subscribe" : "unsubscribe", channel.n);
	resp_add(out, line);
	bytes_add(out, channel.p, channel.n);
	snprintf(line, sizeof(line), "\r\n:%d\r\n", on);
	resp_add(out, line);
}

void resp_conn_push(struct resp_conn *c, struct bytes *out)
{
	char line[160], channel[32];
	int n;

	if (!c->subscribed)
		return;
	n = snprintf(channel, sizeof(channel), "C%" PRIu64, c->channel);
	snprintf(line, sizeof(line), "%c3\r\n$7\r\nmessage\r\n$%d\r\n%s\r\n" RESP_NEWS, c->version == 3 ? '>' : '*',
		 n, channel);
	resp_add(out, line);
}

/* Commands that name no client. */
static bool conn_do_unnamed(struct resp_conn *c, const struct resp_arg *args, size_t argc, struct bytes *out)
{
	if (c->subscribed && c->version == 2 && argc <= 2 &&
	    (resp_arg_is(args[0], "MULTI") || resp_arg_is(args[0], "EXEC") || resp_arg_is(args[0], "DISCARD") ||
	     resp_arg_is(args[0], "UNWATCH") || resp_arg_is(args[0], "SELECT"))) {
		resp_add(out, cant);
	} else if (resp_arg_is(args[0], "PING")) {
		resp_add(out, c->subscribed && c->version == 2 ? "*2\r\n$4\r\npong\r\n$0\r\n\r\n" : "+PONG\r\n");
	} else if (resp_arg_is(args[0], "SELECT") && argc == 2 && !c->multi) {
		c->db = args[1].p[0] - '0';
		resp_add(out, "+OK\r\n");
	} else if (resp_arg_is(args[0], "SELECT") && argc == 2) {
		conn_queue(c, &(struct resp_key){.size = (size_t)(args[1].p[0] - '0')}, true, out);
	} else if (resp_arg_is(args[0], "MULTI")) {
		/* Whose it is, is seen from what comes in it. */
		if (!conn_has_state(c))
			c->owner = 0;
		resp_add(out, c->multi ? "-ERR MULTI calls can not be nested\r\n" : "+OK\r\n");
		c->multi = true;
	} else if (resp_arg_is(args[0], "EXEC")) {
		conn_exec(c, out);
	} else if (resp_arg_is(args[0], "DISCARD")) {
		resp_add(out, c->multi ? "+OK\r\n" : "-ERR DISCARD without MULTI\r\n");
		if (c->multi)
			conn_end_multi(c);
	} else if (resp_arg_is(args[0], "UNWATCH")) {
		c->watching = false;
		resp_add(out, "+OK\r\n");
	} else if (resp_arg_is(args[0], "HELLO")) {
		conn_hello(c, args, argc, out);
	} else {
		return false;
	}
	return true;
}

static void conn_block(struct resp_conn *c, const struct resp_world *w, const struct resp_key *k)
{
	c->blocked_us = world.now_us + world_range(1, w->manners->block_max_us);
	c->blocked_by = k->client;
	c->blocked_key = *k;
}

void resp_conn_unblock(struct resp_conn *c, size_t behind, struct bytes *out)
{
	c->blocked_us = 0;
	c->behind = behind;
	conn_execute(c, &c->blocked_key, false, out);
}

static void conn_do_named(struct resp_conn *c, const struct resp_world *w, const struct resp_arg *args,
			  const struct resp_key *k, struct bytes *out)
{
	bool write = resp_arg_is(args[0], "SET");

	if (c->subscribed && c->version == 2 && !resp_arg_is(args[0], "SUBSCRIBE") &&
	    !resp_arg_is(args[0], "UNSUBSCRIBE"))
		resp_add(out, cant);
	else if (resp_arg_is(args[0], "SUBSCRIBE"))
		conn_subscribe(c, k, args[1], true, out);
	else if (resp_arg_is(args[0], "UNSUBSCRIBE"))
		conn_subscribe(c, k, args[1], false, out);
	else if (resp_arg_is(args[0], "WATCH")) {
		c->watching = true;
		resp_add(out, "+OK\r\n");
	} else if (c->multi) {
		conn_queue(c, k, false, out);
	} else if (resp_arg_is(args[0], "GET")) {
		resp_answer(k, (struct resp_place){c->db, c->version, false}, out);
	} else if (resp_arg_is(args[0], "BLPOP")) {
		conn_block(c, w, k);
	} else {
		PROMISE(write || resp_arg_is(args[0], "SIM.STATE"), "ISO-2", "an unknown command arrives: %.*s",
			(int)args[0].n, (const char *)args[0].p);
		c->foreign = c->foreign || !write;
		conn_execute(c, k, false, out);
		if (write && world_below(4) == 0)
			w->published(w->arg);
	}
}

static void conn_key(const struct resp_arg *args, size_t argc, struct resp_key *k)
{
	struct resp_arg a = args[1];

	/* Channels are named after their client alone. */
	if (argc > 1 && (resp_arg_is(args[0], "SUBSCRIBE") || resp_arg_is(args[0], "UNSUBSCRIBE"))) {
		char text[64];
		int n = snprintf(text, sizeof(text), "%.*s.0/0/0", (int)a.n, (const char *)a.p);

		a = (struct resp_arg){(const uint8_t *)text, (size_t)n};
		PROMISE(resp_key_parse(a, k), "ISO-2", "a damaged channel arrives");
		return;
	}
	PROMISE(argc > 1 && resp_key_parse(a, k), "ISO-2", "a damaged request arrives: %.*s", (int)args[0].n,
		(const char *)args[0].p);
}

/* The server refuses; in a transaction, that spoils it. */
static bool conn_refuses(struct resp_conn *c, const struct resp_world *w, const struct resp_arg *args,
			 struct bytes *out)
{
	const char *why = NULL;

	if (w->wants_login && world_chance(w->manners->forgets))
		c->authed = false;
	if (!c->authed)
		why = noauth;
	else if (world_chance(w->manners->loading))
		why = "-LOADING Redis is loading the dataset in memory\r\n";
	else if (resp_arg_is(args[0], "SET") && world_chance(w->manners->readonly))
		why = "-READONLY You can't write against a read only replica.\r\n";
	if (!why)
		return false;
	c->spoiled = c->multi;
	resp_add(out, why);
	return true;
}

void resp_conn_do(struct resp_conn *c, const struct resp_world *w, const struct resp_arg *args, size_t argc,
		  struct bytes *out)
{
	struct resp_key k = {0};

	if (resp_arg_is(args[0], "AUTH")) {
		conn_auth(c, w, args, argc, out);
		return;
	}
	if (resp_arg_is(args[0], "RESET")) {
		resp_conn_init(c, w->wants_login);
		resp_add(out, "+RESET\r\n");
		return;
	}
	/* "GET" alone is how a transaction is given up. */
	if (argc == 1 && resp_arg_is(args[0], "GET")) {
		c->spoiled = c->multi;
		resp_add(out, "-ERR wrong number of arguments for 'get' command\r\n");
		return;
	}
	if (resp_arg_is(args[0], "EXEC") || resp_arg_is(args[0], "DISCARD")) {
		if (c->authed) {
			conn_do_unnamed(c, args, argc, out);
			return;
		}
	}
	if (conn_refuses(c, w, args, out))
		return;
	if (conn_do_unnamed(c, args, argc, out))
		return;
	conn_key(args, argc, &k);
	conn_meets(c, k.client);
	conn_do_named(c, w, args, &k, out);
	if (conn_has_state(c))
		c->owner = k.client;
}
