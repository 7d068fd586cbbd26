/*
 * client: what the first message of a client is: passed, answered here, or refused.
 *
 * Asking changes nothing unless the message is answered here: what a passed request does to its client is noted by
 * server_pass(), when it is really sent.
 */
#include "proto/redis/redis_private.h"

/* One message under judgement. */
struct ask {
	struct answer a;
	const struct proto_conf *c;
	struct proto_request *req;
	enum command_class class;
	unsigned flags; /* enum command_flags */
};

/* ---- the ways it ends ---- */

static enum proto_ask ask_pass_arg(struct ask *k, enum redis_kind kind, uint32_t arg, unsigned flags)
{
	k->req->tag = tag_make(kind, arg) | (k->a.cl->resp == 3 ? TAG_RESP3 : 0);
	k->req->flags |= flags;
	if (k->a.cl->reply_mode != REPLY_ON)
		k->req->flags |= PROTO_REQUEST_MUTE;
	/* A slow upload must not block others. */
	if (!k->req->whole)
		k->req->flags |= PROTO_REQUEST_OWN;
	return PROTO_ASK_PASS;
}

/* Of the kinds without an argument. */
static enum proto_ask ask_pass(struct ask *k, enum redis_kind kind, unsigned flags)
{
	return ask_pass_arg(k, kind, tag_db_arg(k->a.cl->db), flags);
}

/* It was answered. Of one that is too long to be read to its end, the rest is not waited for. */
static enum proto_ask ask_here(struct ask *k)
{
	if (k->a.cl->reply_mode == REPLY_SKIP && k->class != CMD_CLIENT_REPLY)
		k->a.cl->reply_mode = REPLY_ON;
	if (k->req->whole)
		return PROTO_ASK_HERE;
	k->req->whole = true;
	return PROTO_ASK_LAST;
}

static enum proto_ask ask_say(struct ask *k, const char *text)
{
	answer_text(&k->a, text);
	return ask_here(k);
}

/* As the server does, what can't be queued spoils the transaction. */
static enum proto_ask ask_refuse(struct ask *k, const char *text)
{
	if (k->a.cl->multi)
		k->a.cl->spoiled = true;
	return ask_say(k, text);
}

static enum proto_ask ask_refuse_named(struct ask *k, const char *before, const char *after)
{
	const struct resp_request *r = k->a.r;
	char name[32];
	size_t n = 0;

	for (; r->kept && n < r->args[0].n && n < sizeof(name) - 1; n++) {
		uint8_t c = r->args[0].p[n];

		name[n] = (char)(c > ' ' && c < 127 && c != '\'' ? c : '?');
	}
	name[n] = '\0';
	if (k->a.cl->multi)
		k->a.cl->spoiled = true;
	answer_error(&k->a, "%s'%s'%s", before, name, after);
	return ask_here(k);
}

static enum proto_ask ask_last(struct ask *k, const char *text)
{
	answer_text(&k->a, text);
	return PROTO_ASK_LAST;
}

/* ---- commands whose arguments matter ---- */

/* Whether XREAD or XREADGROUP waits; when it can't be told, it does. */
static bool xread_blocks(const struct resp_request *r)
{
	for (uint32_t i = 1; i < r->kept;) {
		if (resp_is(r->args[i], "streams"))
			return false;
		if (resp_is(r->args[i], "count") || resp_is(r->args[i], "claim"))
			i += 2;
		else if (resp_is(r->args[i], "group"))
			i += 3;
		else if (resp_is(r->args[i], "noack"))
			i++;
		else
			return true;
	}
	return true;
}

static enum proto_ask ask_tracking(struct ask *k)
{
	const struct resp_request *r = k->a.r;

	if (r->kept < 3)
		return ask_pass(k, KIND_PLAIN, 0);
	for (uint32_t i = 3; i < r->kept; i++) {
		if (resp_is(r->args[i], "redirect"))
			return ask_refuse(
				k, "-ERR leased: CLIENT TRACKING REDIRECT names a connection that is not there "
				   "for you");
	}
	if (r->argc > r->kept)
		return ask_refuse(k, "-ERR leased: CLIENT TRACKING with too many options");
	return ask_pass(k, resp_is(r->args[2], "off") ? KIND_TRACKING_OFF : KIND_TRACKING_ON, PROTO_REQUEST_OWN);
}

/* The database a SELECT names, if it is one that can be. */
static bool select_db(const struct resp_request *r, int64_t *db)
{
	return r->argc == 2 && r->kept == 2 && resp_integer(r->args[1].p, r->args[1].n, db) && *db >= 0 &&
	       *db <= DB_MAX;
}

static enum proto_ask ask_select(struct ask *k)
{
	const struct resp_request *r = k->a.r;
	int64_t db;

	if (r->argc != 2)
		return ask_say(k, "-ERR wrong number of arguments for 'select' command");
	if (!select_db(r, &db)) {
		bool number = r->kept == 2 && resp_integer(r->args[1].p, r->args[1].n, &db);

		return ask_say(k, number ? "-ERR DB index is out of range"
					 : "-ERR value is not an integer or out of range");
	}
	if (db > k->a.pool->max_db)
		return ask_pass_arg(k, KIND_SELECT, (uint32_t)db, PROTO_REQUEST_ALONE);
	k->a.cl->db = (int32_t)db;
	return ask_say(k, "+OK");
}

static enum proto_ask ask_hello(struct ask *k)
{
	struct hello h;

	if (!answer_hello_check(&k->a, &h))
		return ask_here(k);
	if (!k->a.pool->known) {
		/* What it answers is learned at a login, so there has to be one first. */
		k->req->len = 0;
		k->req->tag = tag_make(KIND_FACTS, 0);
		k->req->flags = PROTO_REQUEST_ALONE | PROTO_REQUEST_MUTE;
		return PROTO_ASK_PASS;
	}
	answer_hello(&k->a, &h);
	return ask_here(k);
}

static enum proto_ask ask_reset(struct ask *k)
{
	if (k->a.r->argc != 1)
		return ask_say(k, "-ERR wrong number of arguments for 'reset' command");
	client_reset(k->a.cl, k->a.conf);
	k->req->flags |= PROTO_REQUEST_LEAVE;
	k->a.mute = false;
	return ask_say(k, "+RESET");
}

/* How many replies a subscription brings; 0: told by the first. */
static enum proto_ask ask_subscribe(struct ask *k)
{
	enum redis_kind kind = (enum redis_kind)(KIND_SUBSCRIBE + (k->class - CMD_SUBSCRIBE));

	if (k->class <= CMD_SSUBSCRIBE && k->a.r->argc < 2)
		return ask_pass(k, KIND_PLAIN, 0);
	/* What may follow the end of subscriptions is known when it has come. */
	return ask_pass_arg(k, kind, k->a.r->argc - 1,
			    k->class <= CMD_SSUBSCRIBE ? PROTO_REQUEST_OWN : PROTO_REQUEST_OWN | PROTO_REQUEST_ALONE);
}

/* ---- by the state the client is in ---- */

static enum proto_ask ask_in_multi(struct ask *k)
{
	struct redis_client *cl = k->a.cl;
	bool alone = k->a.r->argc == 1;
	uint32_t arg = 0;
	int64_t db;

	switch (k->class) {
	case CMD_EXEC:
		if (!alone)
			break;
		if (cl->queued_db != DB_BASE)
			arg = cl->queued_db <= k->a.pool->max_db ? (uint32_t)cl->queued_db + 1 : EXEC_DB_UNKNOWN;
		if (cl->spoiled)
			return ask_pass_arg(k, KIND_EXEC_SPOILED, 0, 0);
		return ask_pass_arg(k, KIND_EXEC, arg, arg ? PROTO_REQUEST_ALONE : 0);
	case CMD_DISCARD:
		return ask_pass(k, alone ? KIND_DISCARD : KIND_PLAIN, 0);
	case CMD_SELECT:
		if (select_db(k->a.r, &db))
			return ask_pass_arg(k, KIND_SELECT_QUEUED, (uint32_t)db, 0);
		break;
	case CMD_RESET:
		return ask_reset(k);
	case CMD_QUIT:
		return ask_last(k, "+OK");
	case CMD_UNKNOWN:
		return ask_pass(k, KIND_UNKNOWN, 0);
	/* The server says what it thinks of them, or queues them; nothing blocks in there. */
	case CMD_PLAIN:
	case CMD_CONTAINER:
	case CMD_BLOCKING:
	case CMD_XREAD:
	case CMD_WAIT:
	case CMD_MULTI:
	case CMD_WATCH:
	case CMD_UNWATCH:
		break;
	default:
		return ask_refuse_named(k, "ERR leased: ", " can't be queued in a transaction through a pool");
	}
	return ask_pass(k, KIND_PLAIN, 0);
}

/* Commands that are answered here, and yet not to a client that has subscribed with RESP2. */
static bool ask_is_out_of_place(const struct ask *k)
{
	switch (k->class) {
	case CMD_SELECT:
	case CMD_AUTH:
	case CMD_HELLO:
	case CMD_UNWATCH:
	case CMD_EXEC:
	case CMD_DISCARD:
	case CMD_CLIENT_ID:
	case CMD_CLIENT_GETNAME:
	case CMD_CLIENT_SETNAME:
	case CMD_CLIENT_SETINFO:
	case CMD_CLIENT_INFO:
	case CMD_CLIENT_REPLY:
	case CMD_WHOAMI:
		return k->a.cl->subscribed && k->a.cl->resp == 2;
	default:
		return false;
	}
}

static enum proto_ask ask_alone(struct ask *k)
{
	struct redis_client *cl = k->a.cl;
	const struct resp_request *r = k->a.r;
	bool alone = r->argc == 1;

	switch (k->class) {
	case CMD_PLAIN:
	case CMD_CONTAINER:
		break;
	case CMD_XREAD:
		if (!xread_blocks(r))
			break;
		return ask_pass(k, KIND_BLOCKING, PROTO_REQUEST_OWN);
	case CMD_BLOCKING:
		return ask_pass(k, KIND_BLOCKING, PROTO_REQUEST_OWN);
	case CMD_WAIT:
		if (k->a.conf->dedicated)
			return ask_pass(k, KIND_BLOCKING, PROTO_REQUEST_OWN);
		return ask_refuse_named(k, "ERR leased: ", " needs a connection of your own (mode session)");
	case CMD_MULTI:
		return ask_pass(k, alone ? KIND_MULTI : KIND_PLAIN, alone ? PROTO_REQUEST_OWN : 0);
	case CMD_EXEC:
		if (!alone)
			break;
		return ask_say(k, "-ERR EXEC without MULTI");
	case CMD_DISCARD:
		if (!alone)
			break;
		return ask_say(k, "-ERR DISCARD without MULTI");
	case CMD_WATCH:
		return ask_pass(k, alone ? KIND_PLAIN : KIND_WATCH, alone ? 0 : PROTO_REQUEST_OWN);
	case CMD_UNWATCH:
		if (!alone)
			break;
		if (!cl->watching)
			return ask_say(k, "+OK");
		return ask_pass(k, KIND_UNWATCH, PROTO_REQUEST_OWN | PROTO_REQUEST_ALONE);
	case CMD_SUBSCRIBE:
	case CMD_PSUBSCRIBE:
	case CMD_SSUBSCRIBE:
	case CMD_UNSUBSCRIBE:
	case CMD_PUNSUBSCRIBE:
	case CMD_SUNSUBSCRIBE:
		return ask_subscribe(k);
	case CMD_MONITOR:
		return ask_pass(k, KIND_MONITOR, PROTO_REQUEST_OWN);
	case CMD_SYNC:
	case CMD_REPLCONF:
		if (!k->a.conf->dedicated)
			return ask_refuse_named(k, "ERR leased: ", " needs a connection of your own (mode session)");
		return ask_pass(k, k->class == CMD_SYNC ? KIND_SYNC : KIND_REPLCONF, PROTO_REQUEST_OWN);
	case CMD_ASKING:
		return ask_pass(k, KIND_ASKING, PROTO_REQUEST_OWN);
	case CMD_READONLY:
		return ask_pass(k, KIND_READONLY, PROTO_REQUEST_OWN);
	case CMD_READWRITE:
		return ask_pass(k, KIND_READWRITE, PROTO_REQUEST_OWN);
	case CMD_STATE:
		return ask_pass(k, KIND_STATE, PROTO_REQUEST_OWN);
	case CMD_TRACKING:
		return ask_tracking(k);
	case CMD_SELECT:
		return ask_select(k);
	case CMD_AUTH:
		answer_auth(&k->a);
		return ask_here(k);
	case CMD_HELLO:
		return ask_hello(k);
	case CMD_RESET:
		return ask_reset(k);
	case CMD_QUIT:
		return ask_last(k, "+OK");
	case CMD_CLIENT_ID:
	case CMD_CLIENT_GETNAME:
	case CMD_CLIENT_SETNAME:
	case CMD_CLIENT_SETINFO:
	case CMD_CLIENT_INFO:
	case CMD_CLIENT_REPLY:
		answer_client(&k->a, k->class);
		return ask_here(k);
	case CMD_WHOAMI:
		answer_whoami(&k->a);
		return ask_here(k);
	case CMD_REFUSED:
		return ask_refuse_named(k, "ERR leased: this form of ", " can't be used through a pool");
	case CMD_HTTP:
		k->a.mute = false;
		return ask_last(k, "-ERR leased: this is Redis, not HTTP");
	case CMD_UNKNOWN:
		return ask_pass(k, KIND_UNKNOWN, PROTO_REQUEST_OWN);
	}
	return ask_pass(k, KIND_PLAIN, 0);
}

/* ---- the message ---- */

/* What anybody may say. */
static bool ask_is_open(enum command_class class)
{
	return class == CMD_AUTH || class == CMD_HELLO || class == CMD_RESET || class == CMD_QUIT ||
	       class == CMD_HTTP;
}

static enum proto_ask ask_judge(struct ask *k)
{
	struct redis_client *cl = k->a.cl;

	if (!cl->known && !ask_is_open(k->class))
		return ask_say(k, "-NOAUTH Authentication required.");
	if ((k->flags & COMMAND_DENIED) && !ask_is_open(k->class))
		return ask_refuse_named(k, "NOPERM this user has no permissions to run the ", " command");
	/* What is answered here is read to its end; see ask_here(). */
	if (!k->req->whole && ask_is_open(k->class))
		return ask_say(k, "-ERR leased: too long");
	if (cl->multi)
		return ask_in_multi(k);
	if (ask_is_out_of_place(k))
		return ask_refuse_named(
			k, "ERR Can't execute ",
			": only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in "
			"this context");
	return ask_alone(k);
}

static enum proto_ask ask_message(struct redis_client *cl, const struct proto_conf *c, void *pool, const uint8_t *p,
				  size_t n, struct proto_request *req, struct buf *out, uint8_t *scratch)
{
	struct resp_request r;
	enum resp_verdict v = resp_request(&r, p, n, cl->known, scratch, &cl->body);
	struct command_found found;
	struct ask k;

	if (v == RESP_MORE)
		return PROTO_ASK_MORE;
	*req = (struct proto_request){.len = r.len, .whole = v == RESP_END};
	k = (struct ask){
		.a = {cl, &c->is, pool, &r, out, cl->reply_mode != REPLY_ON},
		.c = c,
		.req = req,
	};
	if (v == RESP_BAD) {
		req->len = n;
		req->whole = true;
		k.a.mute = false;
		answer_error(&k.a, "ERR Protocol error: %s", r.why);
		return PROTO_ASK_LAST;
	}
	if (r.argc == 0)
		return PROTO_ASK_HERE;
	if (!r.kept)
		return ask_say(&k, "-ERR unknown command");
	found = command_find(&c->commands, r.args, r.kept);
	k.class = found.class;
	k.flags = found.flags;
	if (k.class == CMD_PLAIN && cl->known && !(k.flags & COMMAND_DENIED))
		return ask_pass(&k, KIND_PLAIN,
				(k.flags & COMMAND_AGAIN) && !cl->multi && cl->db != DB_AS_IS ? PROTO_REQUEST_AGAIN
											      : 0);
	return ask_judge(&k);
}

static __attribute__((noinline)) enum proto_ask ask_inline(struct redis_client *cl, const struct proto_conf *c,
							   void *pool, const uint8_t *p, size_t n,
							   struct proto_request *req, struct buf *out)
{
	uint8_t scratch[RESP_HEAD_MAX];

	return ask_message(cl, c, pool, p, n, req, out, scratch);
}

enum proto_ask client_ask(void *client, const struct proto_conf *c, void *pool, const uint8_t *p, size_t n,
			  struct proto_request *req, struct buf *out)
{
	struct redis_client *cl = client;

	if (n == 0)
		return PROTO_ASK_MORE;
	if (cl->raw) {
		*req = (struct proto_request){.len = n, .flags = PROTO_REQUEST_OWN};
		return PROTO_ASK_PASS;
	}
	if (*p != '*')
		return ask_inline(cl, c, pool, p, n, req, out);
	return ask_message(cl, c, pool, p, n, req, out, NULL);
}

size_t client_more(void *client, const uint8_t *p, size_t n, bool *whole)
{
	struct redis_client *cl = client;
	enum resp_verdict v;
	size_t len;

	*whole = false;
	if (cl->raw)
		return n;
	v = resp_body(&cl->body, p, n, &len);
	if (v == RESP_BAD)
		return 0;
	*whole = v == RESP_END;
	return len;
}
