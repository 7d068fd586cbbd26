/*
 * server: one connection to a server in use: what is said ahead of a request, what the replies mean, what holds it.
 *
 * Two things are kept apart. What was *sent* decides what may be said next (a database is selected when the last one selected
 * is another; nothing is put into an open transaction). What was *answered* decides what the connection is in. Between the two the
 * connection counts as held.
 *
 *	server_pass()   ahead of it: HELLO, SELECT    then: note what was sent
 *	server_reply()  begin_*: what kind of message is it?    walk (resp.c)    settle: what its end changes
 */
#include <stdio.h>

#include "proto/redis/redis_private.h"

static const char noauth[] = "-NOAUTH Authentication required.";

void say_command(struct buf *out, const char *const *args, size_t n)
{
	char text[48];

	snprintf(text, sizeof(text), "*%zu\r\n", n);
	say(out, text);
	for (size_t i = 0; i < n; i++) {
		snprintf(text, sizeof(text), "$%zu\r\n", strlen(args[i]));
		say(out, text);
		say(out, args[i]);
		say(out, "\r\n");
	}
}

/* ---- what holds it ---- */

/* Why a connection is held while the reply to a request of this kind is owed. */
static enum err kind_holds(enum redis_kind k)
{
	switch (k) {
	case KIND_WATCH:
	case KIND_UNWATCH:
		return ERR_PIN_WATCH;
	case KIND_SUBSCRIBE:
	case KIND_PSUBSCRIBE:
	case KIND_SSUBSCRIBE:
	case KIND_UNSUBSCRIBE:
	case KIND_PUNSUBSCRIBE:
	case KIND_SUNSUBSCRIBE:
		return ERR_PIN_SUBSCRIBED;
	case KIND_MONITOR:
		return ERR_PIN_MONITOR;
	case KIND_SYNC:
	case KIND_REPLCONF:
		return ERR_PIN_REPLICATION;
	case KIND_ASKING:
	case KIND_READONLY:
	case KIND_READWRITE:
	case KIND_STATE:
		return ERR_PIN_STATE;
	case KIND_TRACKING_ON:
	case KIND_TRACKING_OFF:
		return ERR_PIN_TRACKING;
	case KIND_UNKNOWN:
		return ERR_PIN_UNKNOWN;
	default:
		return ERR_OK;
	}
}

enum err server_held(const void *up)
{
	const struct redis_up *u = up;

	if (u->multis)
		return ERR_PIN_TRANSACTION;
	if (u->watching)
		return ERR_PIN_WATCH;
	if (u->blocking)
		return ERR_PIN_BLOCKING;
	if (u->subs || u->shards)
		return ERR_PIN_SUBSCRIBED;
	if (u->monitor)
		return ERR_PIN_MONITOR;
	if (u->replconf || u->sync)
		return ERR_PIN_REPLICATION;
	if (u->tracking)
		return ERR_PIN_TRACKING;
	if (u->unknown)
		return ERR_PIN_UNKNOWN;
	if (u->state || u->readonly || u->asking || u->as_is)
		return ERR_PIN_STATE;
	return u->pending ? (enum err)u->pending_why : ERR_OK;
}

bool server_may_reauth(const void *up)
{
	const struct redis_up *u = up;

	if (u->multis || u->multi_open || u->doubt || u->pending || u->blocking || u->asking)
		return false;
	if (u->monitor || u->sync || u->replconf)
		return false;
	return !(u->subs || u->shards) || u->resp == 3;
}

bool server_needs_reset(const struct redis_up *u)
{
	return u->subs || u->shards || u->tracking || u->unknown || u->state || u->readonly || u->asking;
}

enum proto_leave server_leave(const void *up, bool owed)
{
	const struct redis_up *u = up;

	if (u->wrong_role)
		return PROTO_LEAVE_WRONG;
	if (u->sync || u->replconf || u->monitor)
		return PROTO_LEAVE_CLOSE;
	/* CLIENT NO-EVICT outlives RESET, at least in Redis 7.0. */
	if (u->state)
		return PROTO_LEAVE_CLOSE;
	/* What they answer may be an element that was popped for nobody, and may take for ever. */
	if (owed && u->blocking)
		return PROTO_LEAVE_CLOSE;
	if (owed && u->pending &&
	    (u->pending_why == ERR_PIN_MONITOR || u->pending_why == ERR_PIN_REPLICATION ||
	     u->pending_why == ERR_PIN_UNKNOWN))
		return PROTO_LEAVE_CLOSE;
	if (u->multis || u->multi || u->watching || u->pending || u->doubt || server_needs_reset(u))
		return PROTO_LEAVE_CHECK;
	return PROTO_LEAVE_CLEAN;
}

/* ---- sending ---- */

static unsigned ahead_add(uint32_t *ahead, unsigned n, enum redis_kind k, uint32_t arg)
{
	BUG_ON(n >= PROTO_AHEAD_MAX);
	ahead[n] = tag_make(k, arg);
	return n + 1;
}

/* Makes the connection the client's own. */
static unsigned pass_apply(struct redis_up *u, uint8_t resp, int32_t db, struct buf *out, uint32_t *ahead)
{
	unsigned n = 0;

	if (u->resp != resp) {
		say(out, resp == 3 ? "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n" : "*2\r\n$5\r\nHELLO\r\n$1\r\n2\r\n");
		n = ahead_add(ahead, n, KIND_AHEAD_HELLO, resp);
		u->resp = resp;
	}
	if (u->db != db) {
		char number[16];
		const char *const args[] = {"SELECT", number};

		snprintf(number, sizeof(number), "%d", db);
		say_command(out, args, 2);
		n = ahead_add(ahead, n, KIND_AHEAD_SELECT, (uint32_t)db);
		u->db = db;
	}
	return n;
}

static void pass_note(struct redis_client *cl, struct redis_up *u, uint32_t tag)
{
	enum redis_kind k = tag_kind(tag);
	enum err why = kind_holds(k);

	if (why != ERR_OK) {
		u->pending++;
		u->pending_why = (uint16_t)why;
		u->busy = true;
	}
	switch (k) {
	case KIND_BLOCKING:
		u->blocking++;
		break;
	case KIND_MULTI:
		u->multis++;
		u->multi_open = true;
		cl->multi = true;
		cl->spoiled = false;
		cl->queued_db = DB_BASE;
		break;
	case KIND_EXEC:
	case KIND_EXEC_SPOILED:
	case KIND_DISCARD:
		u->multi_open = false;
		cl->multi = cl->watching = cl->spoiled = false;
		cl->queued_db = DB_BASE;
		break;
	case KIND_WATCH:
		cl->watching = true;
		break;
	case KIND_UNWATCH:
		cl->watching = false;
		break;
	case KIND_SUBSCRIBE:
	case KIND_PSUBSCRIBE:
	case KIND_SSUBSCRIBE:
		cl->subscribed = true;
		break;
	case KIND_SYNC:
		u->sync = true;
		cl->raw = true;
		break;
	case KIND_SELECT:
		/* It may be refused, when others who share the connection have asked after it. */
		u->selects++;
		u->db = DB_UNKNOWN;
		break;
	case KIND_SELECT_QUEUED:
		cl->queued_db = (int32_t)tag_arg(tag);
		break;
	default:
		break;
	}
}

/* In a transaction an answer would be one too many, and one who has subscribed with RESP2 may not say such things. */
static bool pass_may_apply(const struct redis_up *u, const struct redis_client *cl)
{
	return !u->multi_open && !((u->subs || u->shards || cl->subscribed) && u->resp == 2);
}

/* Whether it depends on the database. */
static bool tag_has_db(uint32_t tag)
{
	switch (tag_kind(tag)) {
	case KIND_EXEC:
	case KIND_EXEC_SPOILED:
	case KIND_SUBSCRIBE:
	case KIND_PSUBSCRIBE:
	case KIND_SSUBSCRIBE:
	case KIND_UNSUBSCRIBE:
	case KIND_PUNSUBSCRIBE:
	case KIND_SUNSUBSCRIBE:
	case KIND_SELECT:
	case KIND_SELECT_QUEUED:
		return false;
	default:
		return tag_kind(tag) < KIND_FACTS;
	}
}

/* ... and on one that only the connection which it was said on is in. */
static bool tag_is_as_is(uint32_t tag)
{
	return tag_has_db(tag) && tag_arg_db(tag_arg(tag)) == DB_AS_IS;
}

/* The database a request needs; the one that the connection is in, if that does not matter. */
static int32_t pass_db(const struct redis_up *u, uint32_t tag)
{
	int32_t db = tag_has_db(tag) ? tag_arg_db(tag_arg(tag)) : DB_AS_IS;

	return db == DB_BASE ? u->base_db : db == DB_AS_IS ? u->db : db;
}

unsigned server_pass(void *cl, void *up, const struct proto_request *req, struct buf *out,
		     uint32_t ahead[PROTO_AHEAD_MAX])
{
	struct redis_client *client = cl;
	struct redis_up *u = up;
	enum redis_kind k = tag_kind(req->tag);
	uint8_t resp = req->tag & TAG_RESP3 ? 3 : 2;
	unsigned n = 0;
	int32_t db;

	if (k == KIND_FACTS) {
		say(out, "*1\r\n$4\r\nPING\r\n");
		return 0;
	}
	if (client->db != DB_AS_IS) /* whose choice that was has made another, or is gone */
		u->as_is = false;
	db = pass_db(u, req->tag);
	if ((u->resp != resp || u->db != db) && pass_may_apply(u, client))
		n = pass_apply(u, resp, db, out, ahead);
	if (k == KIND_EXEC_SPOILED) {
		/* A command with too few arguments: the server gives the transaction up as well. */
		say(out, "*1\r\n$3\r\nGET\r\n");
		n = ahead_add(ahead, n, KIND_AHEAD_SPOIL, 0);
	}
	u->asking = k == KIND_ASKING;
	if (k != KIND_PLAIN)
		pass_note(client, u, req->tag);
	if (client->reply_mode == REPLY_SKIP)
		client->reply_mode = REPLY_ON;
	return n;
}

uint32_t server_reauth(void *up, const struct script_cred *cred, struct buf *out)
{
	struct redis_up *u = up;

	u->reauth = PROTO_MORE;
	login_database(cred, &u->base_db);
	/* Nothing to prove: any answer will do. */
	if (!login_auth(cred, out))
		say(out, "*1\r\n$4\r\nPING\r\n");
	return tag_make(KIND_REAUTH, 0);
}

enum proto_verdict server_reauth_verdict(const void *up)
{
	const struct redis_up *u = up;

	return (enum proto_verdict)u->reauth;
}

/* ---- what a reply's end changes ---- */

static void count_down(uint32_t *count)
{
	BUG_ON(*count == 0);
	--*count;
}

static void settle_multi(struct redis_up *u, struct redis_client *cl, enum server_outcome o)
{
	if (o == OUT_OK || o == OUT_NULL) {
		u->multi = true;
		return;
	}
	count_down(&u->multis);
	u->multi_open = false;
	/* One that was not run will be asked about again. */
	if (cl && !u->multis)
		cl->multi = false;
}

static void settle_multi_end(struct redis_up *u, struct redis_client *cl, uint32_t tag, enum server_outcome o)
{
	uint32_t arg = tag_kind(tag) == KIND_EXEC ? tag_arg(tag) : 0;

	if (!u->multi) {
		/* MULTI itself was refused: what is watched still is. */
		if (cl)
			cl->watching |= u->watching;
		return;
	}
	count_down(&u->multis);
	u->multi = false;
	u->watching = false;
	/* Old servers keep the transaction when they are too busy for its end. */
	if (o == OUT_ERROR)
		u->doubt = true;
	if (!arg || o != OUT_OK)
		return;
	/* Of one that is not known to exist, only its client can find out whether it was selected. */
	u->db = arg == EXEC_DB_UNKNOWN ? DB_AS_IS : (int32_t)arg - 1;
	u->as_is = arg == EXEC_DB_UNKNOWN;
	if (cl)
		cl->db = u->db;
}

static void settle_select(struct redis_up *u, struct redis_client *cl, struct redis_pool *pool, int32_t db,
			  enum server_outcome o)
{
	if (o != OUT_OK) {
		if (u->as_is && u->db == DB_UNKNOWN) /* where it was, its client can go on */
			u->db = DB_AS_IS;
		return;
	}
	u->as_is = false;
	if (cl)
		cl->db = db;
	if (db > pool->max_db)
		pool->max_db = db;
}

/* Kinds that hold the connection as long as they are owed, and what they leave behind. */
static void settle_pin(struct redis_up *u, enum redis_kind k, enum server_outcome o)
{
	bool ok = o == OUT_OK || o == OUT_NULL;

	count_down(&u->pending);
	if (k == KIND_UNKNOWN)
		u->unknown |= ok || o == OUT_ERROR || o == OUT_EXECABORT;
	if (!ok)
		return;
	switch (k) {
	case KIND_WATCH:
		u->watching = true;
		break;
	case KIND_UNWATCH:
		u->watching = false;
		break;
	case KIND_MONITOR:
		u->monitor = true;
		break;
	case KIND_REPLCONF:
		u->replconf = true;
		break;
	case KIND_READONLY:
		u->readonly = true;
		break;
	case KIND_READWRITE:
		u->readonly = false;
		break;
	case KIND_STATE:
		u->state = true;
		break;
	case KIND_TRACKING_ON:
		u->tracking = true;
		break;
	case KIND_TRACKING_OFF:
		u->tracking = false;
		break;
	default:
		break;
	}
}

/* False: the connection is not what it should be. */
static bool settle_ahead(struct redis_up *u, enum redis_kind k, enum server_outcome o)
{
	if (o == OUT_OK || k == KIND_AHEAD_SPOIL)
		return true;
	/* Nothing of it was done, and neither is what follows. */
	if (o != OUT_NOT_RUN)
		return false;
	if (k == KIND_AHEAD_HELLO)
		u->resp = 0;
	else
		u->db = DB_UNKNOWN;
	return true;
}

static bool settle(struct redis_up *u, struct redis_client *cl, struct redis_pool *pool, uint32_t tag)
{
	enum server_outcome o = (enum server_outcome)u->outcome;
	enum redis_kind k = tag_kind(tag);

	switch (k) {
	case KIND_PLAIN:
		return true;
	case KIND_SELECT_QUEUED:
		/* The transaction that it should have been queued in was refused. */
		if (!u->multi && o == OUT_OK) {
			u->db = (int32_t)tag_arg(tag);
			settle_select(u, cl, pool, u->db, o);
		}
		return true;
	case KIND_REAUTH:
		/* An answer that is neither OK nor an error. */
		if (u->reauth == PROTO_MORE)
			u->reauth = PROTO_FAILED;
		return true;
	case KIND_BLOCKING:
		count_down(&u->blocking);
		return true;
	case KIND_MULTI:
		settle_multi(u, cl, o);
		return true;
	case KIND_EXEC:
	case KIND_EXEC_SPOILED:
	case KIND_DISCARD:
		settle_multi_end(u, cl, tag, o);
		return true;
	case KIND_SELECT:
		count_down(&u->selects);
		if (o == OUT_OK && !u->selects && u->db == DB_UNKNOWN)
			u->db = (int32_t)tag_arg(tag);
		settle_select(u, cl, pool, (int32_t)tag_arg(tag), o);
		return true;
	case KIND_FACTS:
		if (!pool->known)
			login_facts_default(pool);
		return true;
	case KIND_AHEAD_SELECT:
	case KIND_AHEAD_HELLO:
	case KIND_AHEAD_SPOIL:
		return settle_ahead(u, k, o);
	default:
		settle_pin(u, k, o);
		if (cl && k == KIND_UNWATCH) /* it may have been refused */
			cl->watching |= u->watching;
		if (cl && !u->subs && !u->shards && !u->pending)
			cl->subscribed = false;
		return true;
	}
}

/* ---- what kind of message it is ---- */

static bool kind_is_subscription(enum redis_kind k)
{
	return k >= KIND_SUBSCRIBE && k <= KIND_SUNSUBSCRIBE;
}

/* As answered: its client knows of it. */
static bool is_in_state(const struct redis_up *u)
{
	return u->watching || u->subs || u->shards || u->tracking || u->unknown || u->state || u->readonly ||
	       u->as_is;
}

/* What an error says, by its whole line (or as much of it as fits into a head). */
static enum server_outcome begin_error(struct redis_up *u, uint32_t tag, const uint8_t *p, size_t n)
{
	enum redis_kind k = tag_kind(tag);

	if (begins(p, n, "-READONLY "))
		u->wrong_role = true;
	if (k == KIND_REAUTH) {
		u->reauth = (uint8_t)login_auth_verdict(p, n);
		return OUT_ERROR;
	}
	if (begins(p, n, "-EXECABORT"))
		return OUT_EXECABORT;
	if (k == KIND_AHEAD_HELLO || k == KIND_AHEAD_SELECT)
		return begins(p, n, "-NOAUTH") ? OUT_NOT_RUN : OUT_ERROR;
	/* In a transaction the server has given up what was queued, and nothing of it can be said again. Nor can what depends on a
	 * state that no other connection is in. */
	if (!u->multi && !is_in_state(u) && !tag_is_as_is(tag) && k != KIND_AHEAD_SPOIL && k != KIND_FACTS &&
	    n == sizeof(noauth) - 1 && begins(p, n, noauth))
		return OUT_NOT_RUN;
	if (k == KIND_UNKNOWN && (begins(p, n, "-ERR unknown ") || begins(p, n, "-ERR Unknown ")))
		return OUT_ERROR_UNKNOWN;
	return OUT_ERROR;
}

/*
 * Where pub/sub may come: the word an aggregate begins with, as the kind that it confirms, or KIND_PLAIN; *push: it is a message.
 * MORE: it can't be told yet.
 */
static enum resp_verdict begin_word(const uint8_t *p, size_t n, enum redis_kind *confirms, bool *push)
{
	static const char *const confirmed[] = {"subscribe",   "psubscribe",   "ssubscribe",
						"unsubscribe", "punsubscribe", "sunsubscribe"};
	struct resp_text word;
	enum resp_verdict v;
	size_t len;

	*confirms = KIND_PLAIN;
	*push = false;
	if (n < 4)
		return RESP_MORE;
	/* Three elements, or four of "pmessage". */
	if ((p[1] != '3' && p[1] != '4') || p[2] != '\r' || p[3] != '\n')
		return RESP_END;
	v = resp_bulk(p + 4, n - 4, 16, &word, &len);
	if (v != RESP_END)
		return v == RESP_MORE ? RESP_MORE : RESP_END;
	for (unsigned i = 0; p[1] == '3' && i < sizeof(confirmed) / sizeof(confirmed[0]); i++) {
		if (resp_is(word, confirmed[i]))
			*confirms = (enum redis_kind)(KIND_SUBSCRIBE + i);
	}
	*push = resp_is(word, "message") || resp_is(word, "pmessage") || resp_is(word, "smessage");
	return RESP_END;
}

static bool begin_aggregate(struct redis_up *u, const uint32_t *tag, const uint8_t *p, size_t n)
{
	enum redis_kind confirms;
	bool push;

	if (begin_word(p, n, &confirms, &push) == RESP_MORE)
		return false;
	u->confirm = (uint8_t)confirms;
	if (confirms != KIND_PLAIN && tag && tag_kind(*tag) == confirms)
		u->mid = MID_CONFIRM;
	/* A server that gives a slot away ends its subscriptions unasked. */
	else if (*p == '>' || push || (confirms == KIND_SUNSUBSCRIBE && u->shards))
		u->mid = MID_PUSH;
	else
		u->mid = MID_REPLY;
	return true;
}

/* Sets what the message at p is; false: more bytes are needed. */
static bool begin(struct redis_up *u, const uint32_t *tag, const uint8_t *p, size_t n)
{
	enum redis_kind k = tag ? tag_kind(*tag) : KIND_PLAIN;
	size_t end;

	u->outcome = OUT_OK;
	u->mid = MID_REPLY;
	switch (*p) {
	case '|':
		u->mid = MID_ATTRIBUTE;
		return true;
	case '-':
		end = resp_line(p, n);
		if (end == n && n < RESP_HEAD_MAX)
			return false;
		u->outcome = (uint8_t)begin_error(u, tag ? *tag : tag_make(KIND_PLAIN, 0), p, end);
		return true;
	case '+':
		if (n < 2)
			return false;
		if (u->monitor && p[1] >= '0' && p[1] <= '9')
			u->mid = MID_PUSH;
		u->reauth = k == KIND_REAUTH ? PROTO_DONE : u->reauth;
		return true;
	case '_':
		u->outcome = OUT_NULL;
		return true;
	case '>':
		return begin_aggregate(u, tag, p, n);
	case '*':
		if (n < 2)
			return false;
		u->outcome = p[1] == '-' ? OUT_NULL : OUT_OK;
		if (u->subs || u->shards || kind_is_subscription(k))
			return begin_aggregate(u, tag, p, n);
		return true;
	case '$':
		if (n < 2)
			return false;
		u->outcome = p[1] == '-' ? OUT_NULL : OUT_OK;
		return true;
	default:
		return true;
	}
}

/* ---- its end ---- */

static void count_to(uint32_t *count, uint32_t total, uint32_t was)
{
	if (total > was)
		++*count;
	else if (total < was && *count)
		--*count;
}

/* A subscription was confirmed, or ended unasked. Returns how many of its kind there were before. */
static uint32_t end_count(struct redis_up *u)
{
	uint32_t total = u->frame.integer > 0 && u->frame.integer <= UINT32_MAX ? (uint32_t)u->frame.integer : 0;
	uint32_t before;

	switch (u->confirm) {
	case KIND_SSUBSCRIBE:
	case KIND_SUNSUBSCRIBE:
		before = u->shards;
		u->shards = total;
		return before;
	case KIND_PSUBSCRIBE:
	case KIND_PUNSUBSCRIBE:
		before = u->patterns;
		count_to(&u->patterns, total, u->subs);
		break;
	default:
		before = u->channels;
		count_to(&u->channels, total, u->subs);
	}
	u->subs = total;
	return before;
}

static enum proto_reply end_confirm(struct redis_up *u, struct redis_client *cl, struct redis_pool *pool,
				    uint32_t *tag)
{
	uint32_t before = end_count(u), left = tag_arg(*tag);

	/* An unsubscription from everything is answered once for each, and once when there is nothing. */
	if (!left)
		left = before ? before : 1;
	if (left > TAG_ARG_MAX)
		return PROTO_REPLY_BROKEN;
	*tag = tag_with(*tag, left - 1);
	if (left > 1)
		return PROTO_REPLY_PART;
	settle(u, cl, pool, *tag);
	return PROTO_REPLY_DONE;
}

/* Whether replies can be taken for what they look like. */
static bool is_busy(const struct redis_up *u)
{
	return u->mid || u->pending || u->subs || u->shards || u->monitor || u->sync;
}

static enum proto_reply end_message(struct redis_up *u, struct redis_client *cl, struct redis_pool *pool,
				    uint32_t *tag)
{
	enum server_mid mid = (enum server_mid)u->mid;
	enum proto_reply r = PROTO_REPLY_DONE;

	u->mid = MID_NONE;
	switch (mid) {
	case MID_ATTRIBUTE:
		return tag ? PROTO_REPLY_PART : PROTO_REPLY_PUSH_PART;
	case MID_PUSH:
		if (u->confirm)
			end_count(u);
		return PROTO_REPLY_PUSH;
	case MID_CONFIRM:
		r = end_confirm(u, cl, pool, tag);
		break;
	default:
		if (!settle(u, cl, pool, *tag))
			return PROTO_REPLY_BROKEN;
		if (u->outcome == OUT_NOT_RUN && tag_kind(*tag) < KIND_AHEAD_SELECT)
			r = PROTO_REPLY_NOT_RUN;
	}
	u->busy = is_busy(u);
	return r;
}

/* ---- messages ---- */

static enum proto_reply reply_any(struct redis_up *u, struct redis_client *cl, struct redis_pool *pool, uint32_t *tag,
				  const uint8_t *p, size_t n, size_t *len)
{
	bool fresh = u->mid == MID_NONE;
	enum resp_verdict v;

	if (tag && tag_kind(*tag) == KIND_SYNC) {
		*len = n;
		return PROTO_REPLY_PART;
	}
	if (fresh) {
		u->confirm = 0;
		if (!begin(u, tag, p, n)) {
			u->mid = MID_NONE;
			return PROTO_REPLY_WAIT;
		}
		if (u->mid == MID_REPLY && !tag) {
			u->mid = MID_NONE;
			return PROTO_REPLY_BROKEN;
		}
		u->busy = true;
	}
	v = resp_reply(&u->frame, p, n, len);
	switch (v) {
	case RESP_END:
		return end_message(u, cl, pool, tag);
	case RESP_PART:
		return u->mid == MID_PUSH || !tag ? PROTO_REPLY_PUSH_PART : PROTO_REPLY_PART;
	case RESP_MORE:
		if (fresh)
			u->mid = MID_NONE;
		return PROTO_REPLY_WAIT;
	default:
		return PROTO_REPLY_BROKEN;
	}
}

enum proto_reply server_reply(void *up, void *cl, void *pool, uint32_t *tag, const uint8_t *p, size_t n, size_t *len)
{
	struct redis_up *u = up;
	enum resp_verdict v;

	if (n == 0)
		return PROTO_REPLY_WAIT;
	/* Nearly all: a reply that changes nothing, whatever it says. */
	if (!u->busy && tag && tag_kind(*tag) == KIND_PLAIN && *p != '-' && *p != '>' && *p != '|') {
		v = resp_reply(&u->frame, p, n, len);
		if (v == RESP_END)
			return PROTO_REPLY_DONE;
		if (v == RESP_MORE)
			return PROTO_REPLY_WAIT;
		if (v == RESP_BAD)
			return PROTO_REPLY_BROKEN;
		u->mid = MID_REPLY;
		u->outcome = OUT_OK;
		u->busy = true;
		return PROTO_REPLY_PART;
	}
	return reply_any(u, cl, pool, tag, p, n, len);
}
