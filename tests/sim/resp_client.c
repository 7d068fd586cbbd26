/* resp_client: a client that speaks RESP and knows every byte that may come; see resp_actors.h. */
#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "resp_actors.h"

static const char *const ask_names[ASKS] = {
	[ASK_READ] = "get",
	[ASK_WRITE] = "set",
	[ASK_SELECT] = "select",
	[ASK_MULTI] = "multi",
	[ASK_EXEC] = "exec",
	[ASK_DISCARD] = "discard",
	[ASK_WATCH] = "watch",
	[ASK_UNWATCH] = "unwatch",
	[ASK_BLPOP] = "blpop",
	[ASK_SUBSCRIBE] = "subscribe",
	[ASK_UNSUBSCRIBE] = "unsubscribe",
	[ASK_PING] = "ping",
	[ASK_SETNAME] = "setname",
	[ASK_GETNAME] = "getname",
	[ASK_HELLO] = "hello",
	[ASK_UNKNOWN] = "unknown",
	[ASK_RESET] = "reset",
	[ASK_SELECT_QUEUED] = "select(queued)",
};

void resp_client_begin(struct client_actor *c)
{
	struct resp_client *r = c->resp;
	struct resp_client was = *r;

	bytes_free(&r->in);
	*r = (struct resp_client){.script = was.script, .spice = was.spice, .sent_version = 2, .version = 2};
}

void resp_client_end(struct client_actor *c)
{
	if (c->resp)
		bytes_free(&c->resp->in);
}

/* ---- asking ---- */

static enum resp_ask_kind draw_in_multi(void)
{
	static const enum resp_ask_kind kinds[] = {ASK_READ, ASK_WRITE, ASK_WRITE,   ASK_EXEC,
						   ASK_EXEC, ASK_EXEC,	ASK_DISCARD, ASK_SELECT_QUEUED};

	return kinds[world_below(8)];
}

static enum resp_ask_kind draw_subscribed(void)
{
	static const enum resp_ask_kind kinds[] = {ASK_UNSUBSCRIBE, ASK_UNSUBSCRIBE, ASK_SUBSCRIBE, ASK_PING,
						   ASK_RESET};

	return kinds[world_below(5)];
}

static enum resp_ask_kind draw_kind(const struct client_actor *c)
{
	static const enum resp_ask_kind kinds[] = {
		ASK_SELECT,    ASK_SELECT, ASK_MULTI,	ASK_MULTI,   ASK_MULTI, ASK_WATCH,   ASK_BLPOP,	  ASK_BLPOP,
		ASK_SUBSCRIBE, ASK_PING,   ASK_SETNAME, ASK_GETNAME, ASK_HELLO, ASK_UNWATCH, ASK_UNKNOWN, ASK_RESET};
	const struct resp_client *r = c->resp;

	if (r->script)
		return r->script[c->sent];
	if (r->sent_multi)
		return draw_in_multi();
	if (r->sent_sub)
		return draw_subscribed();
	if (world_chance(r->spice))
		return kinds[world_below(16)];
	return world_below(2) ? ASK_READ : ASK_WRITE;
}

static void note_sent(struct resp_client *r, const struct resp_ask *a)
{
	if (a->kind == ASK_MULTI)
		r->sent_multi = true;
	if (a->kind == ASK_EXEC || a->kind == ASK_DISCARD || a->kind == ASK_RESET)
		r->sent_multi = false;
	if (a->kind == ASK_SUBSCRIBE)
		r->sent_sub = true;
	if (a->kind == ASK_UNSUBSCRIBE || a->kind == ASK_RESET)
		r->sent_sub = false;
}

static void ask_write_set(struct client_actor *c, const char *key)
{
	size_t fill = c->resp->script	     ? c->plan.payload_max
		      : world_below(12) == 0 ? world_below(c->plan.payload_max * 4 + 1)
					     : world_below(30);
	char head[128], letters[64];

	snprintf(head, sizeof(head), "*3\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n$%zu\r\n", strlen(key), key, fill);
	resp_add(&c->out, head);
	memset(letters, 'x', sizeof(letters));
	for (size_t n; fill > 0; fill -= n) {
		n = fill < sizeof(letters) ? fill : sizeof(letters);
		bytes_add(&c->out, letters, n);
	}
	resp_add(&c->out, "\r\n");
}

static void ask_write(struct client_actor *c, const struct resp_ask *a)
{
	static const char *const words[ASKS] = {
		[ASK_READ] = "GET",
		[ASK_SELECT] = "SELECT",
		[ASK_MULTI] = "MULTI",
		[ASK_EXEC] = "EXEC",
		[ASK_DISCARD] = "DISCARD",
		[ASK_WATCH] = "WATCH",
		[ASK_UNWATCH] = "UNWATCH",
		[ASK_BLPOP] = "BLPOP",
		[ASK_SUBSCRIBE] = "SUBSCRIBE",
		[ASK_UNSUBSCRIBE] = "UNSUBSCRIBE",
		[ASK_PING] = "PING",
		[ASK_HELLO] = "HELLO",
		[ASK_UNKNOWN] = "SIM.STATE",
		[ASK_RESET] = "RESET",
		[ASK_SELECT_QUEUED] = "SELECT",
	};
	char key[64], text[32];

	resp_key_text(&a->key, key);
	snprintf(text, sizeof(text), "%d", a->arg);
	switch (a->kind) {
	case ASK_WRITE:
		ask_write_set(c, key);
		break;
	case ASK_READ:
	case ASK_WATCH:
	case ASK_UNKNOWN:
		resp_add_command(&c->out, 2, (const char *const[]){words[a->kind], key});
		break;
	case ASK_BLPOP:
		resp_add_command(&c->out, 3, (const char *const[]){words[a->kind], key, "0"});
		break;
	case ASK_SELECT:
	case ASK_SELECT_QUEUED:
	case ASK_HELLO:
		resp_add_command(&c->out, 2, (const char *const[]){words[a->kind], text});
		break;
	case ASK_SUBSCRIBE:
	case ASK_UNSUBSCRIBE:
		snprintf(text, sizeof(text), "C%" PRIu64, c->conn_id);
		resp_add_command(&c->out, 2, (const char *const[]){words[a->kind], text});
		break;
	case ASK_SETNAME:
		resp_add_command(&c->out, 3, (const char *const[]){"CLIENT", "SETNAME", text});
		break;
	case ASK_GETNAME:
		resp_add_command(&c->out, 2, (const char *const[]){"CLIENT", "GETNAME"});
		break;
	case ASK_PING:
		if (world_below(2)) {
			resp_add(&c->out, "PING\r\n");
			break;
		}
		/* fall through */
	default:
		resp_add_command(&c->out, 1, (const char *const[]){words[a->kind]});
	}
}

void resp_client_compose(struct client_actor *c)
{
	struct resp_client *r = c->resp;
	struct resp_ask *a = &r->asks[c->sent];

	BUG_ON(c->sent >= RESP_ASKS_MAX);
	*a = (struct resp_ask){.kind = draw_kind(c)};
	/* The version of messages that come unasked changes with what is asked next. */
	if (a->kind == ASK_HELLO && !r->script && r->subscribed)
		a->kind = ASK_PING;
	/* Only where it will surely be queued: what two of them make of a refused transaction, nobody can foresee. */
	if (a->kind == ASK_SELECT_QUEUED && !r->script && (!r->multi || c->sent != c->answered))
		a->kind = ASK_READ;
	/* What it makes of replies that are still owed is not settled. */
	if (a->kind == ASK_RESET && !r->script && c->sent != c->answered)
		a->kind = ASK_PING;
	/* Of one who has closed its sending direction nobody knows whether it still waits. */
	if (a->kind == ASK_BLPOP && c->plan.habit == HABIT_HALF_CLOSE)
		a->kind = ASK_READ;
	a->key = (struct resp_key){.client = c->conn_id,
				   .seq = c->sent,
				   .form = (enum resp_form)world_below(FORMS),
				   .size = world_below(c->plan.payload_max + 1)};
	a->arg = a->kind == ASK_HELLO ? 2 + (int)world_below(2) : 1 + (int)world_below(4);
	note_sent(r, a);
	ask_write(c, a);
	c->sent++;
}

/* ---- judging ---- */

/* What it has asked, for whoever looks into a failure. */
void resp_client_describe(const struct client_actor *c, FILE *f)
{
	fprintf(f, "sim: client %u (C%" PRIu64 ") asked:", c->id, c->conn_id);
	for (unsigned i = 0; i < c->sent; i++)
		fprintf(f, "%s %s", i == c->answered ? " |" : "", ask_names[c->resp->asks[i].kind]);
	fprintf(f, "; db %d, RESP%d%s%s%s\n", c->resp->db, c->resp->version, c->resp->multi ? ", multi" : "",
		c->resp->spoiled ? ", spoiled" : "", c->resp->watching ? ", watching" : "");
}

static _Noreturn void judge_fail(const struct client_actor *c, const struct resp_ask *a, const uint8_t *p, size_t n,
				 const char *want)
{
	resp_client_describe(c, stderr);
	world_fail("ISO-6",
		   "request %u (kind %d) of client %u (C%" PRIu64 ") is answered with '%.*s' and not '%.60s'",
		   a->key.seq, (int)a->kind, c->id, c->conn_id, (int)(n < 60 ? n : 60), (const char *)p, want);
}

static bool is_text(const uint8_t *p, size_t n, const char *want)
{
	return n == strlen(want) && memcmp(p, want, n) == 0;
}

static void judge_text(const struct client_actor *c, const struct resp_ask *a, const uint8_t *p, size_t n,
		       const char *want)
{
	if (!is_text(p, n, want))
		judge_fail(c, a, p, n, want);
}

/* Proves: ISO-1 ISO-2 ISO-6 ISO-11 */
static void judge_answer(const struct client_actor *c, const struct resp_ask *a, bool watching, const uint8_t *p,
			 size_t n)
{
	struct bytes want = {0};

	resp_answer(&a->key, (struct resp_place){c->resp->db, c->resp->version, watching}, &want);
	bytes_add(&want, "", 1);
	if (n != bytes_len(&want) - 1 || memcmp(p, bytes_at(&want), n) != 0)
		judge_fail(c, a, p, n, (const char *)bytes_at(&want));
	bytes_free(&want);
	if (a->kind != ASK_READ)
		PROMISE(ran_count(c->conn_id, a->key.seq) == 1, "ISO-11",
			"request %u of C%" PRIu64 " is answered and was executed %u times", a->key.seq, c->conn_id,
			ran_count(c->conn_id, a->key.seq));
}

static bool is_own_error(const struct resp_ask *a, const uint8_t *p, size_t n)
{
	return a->key.form == FORM_ERROR && n > 6 && memcmp(p, "-ERR C", 6) == 0 && p[6] >= '0' && p[6] <= '9';
}

static void multi_over(struct resp_client *r)
{
	r->multi = r->spoiled = r->watching = false;
	r->n_queued = 0;
}

/* An error of the server's or the pool's, in the place of the answer. */
static void judge_error(struct client_actor *c, const struct resp_ask *a, const uint8_t *p, size_t n)
{
	struct resp_client *r = c->resp;

	PROMISE(!memmem(p, n, "v0-p", 4) && !memmem(p, n, "v1-p", 4) && !memmem(p, n, "v2-p", 4), "CRED-10",
		"a client gets a password");
	trace(TR_ERROR, c->id, a->key.seq, (uint64_t)a->kind);
	r->errors++;
	if (r->multi)
		r->spoiled = true;
	if (r->multi && (a->kind == ASK_EXEC || a->kind == ASK_DISCARD))
		multi_over(r);
}

static void judge_exec(struct client_actor *c, const struct resp_ask *a, const uint8_t *p, size_t n)
{
	struct resp_client *r = c->resp;
	size_t at;
	char head[32];

	if (r->multi && r->watching && !r->spoiled && (is_text(p, n, "*-1\r\n") || is_text(p, n, "_\r\n"))) {
		multi_over(r);
		return;
	}
	snprintf(head, sizeof(head), "*%zu\r\n", r->n_queued);
	at = strlen(head);
	if (!r->multi || r->spoiled || n < at || memcmp(p, head, at) != 0)
		judge_fail(c, a, p, n, r->multi ? head : "an error");
	for (size_t i = 0; i < r->n_queued; i++) {
		const struct resp_ask *q = &r->asks[r->queued[i]];
		size_t len = resp_reply_len(p + at, n - at);

		if (q->kind == ASK_SELECT_QUEUED) {
			judge_text(c, q, p + at, len, "+OK\r\n");
			r->db = q->arg;
		} else {
			/* In a transaction reads count as well. */
			judge_answer(c, q, r->watching, p + at, len);
		}
		at += len;
	}
	multi_over(r);
}

static void judge_subscription(struct client_actor *c, const struct resp_ask *a, const uint8_t *p, size_t n)
{
	bool on = a->kind == ASK_SUBSCRIBE;
	char want[96], channel[32];
	int len = snprintf(channel, sizeof(channel), "C%" PRIu64, c->conn_id);

	snprintf(want, sizeof(want), "%c3\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n:%d\r\n", c->resp->version == 3 ? '>' : '*',
		 on ? 9 : 11, on ? "subscribe" : "unsubscribe", len, channel, on);
	judge_text(c, a, p, n, want);
	c->resp->subscribed = on;
}

static void judge_name(struct client_actor *c, const struct resp_ask *a, const uint8_t *p, size_t n)
{
	char want[32];

	if (c->resp->name == 0)
		snprintf(want, sizeof(want), "%s", c->resp->version == 3 ? "_\r\n" : "$-1\r\n");
	else
		snprintf(want, sizeof(want), "$1\r\n%d\r\n", c->resp->name);
	judge_text(c, a, p, n, want);
}

/* A command that is queued when a transaction is open. */
static bool judge_queued(struct client_actor *c, const struct resp_ask *a, const uint8_t *p, size_t n)
{
	struct resp_client *r = c->resp;

	if (!r->multi || a->kind == ASK_EXEC || a->kind == ASK_DISCARD || a->kind == ASK_RESET)
		return false;
	judge_text(c, a, p, n, "+QUEUED\r\n");
	r->queued[r->n_queued++] = a->key.seq;
	return true;
}

static void judge_reset(struct client_actor *c)
{
	struct resp_client *r = c->resp;

	multi_over(r);
	r->db = r->name = 0;
	r->version = 2;
	r->subscribed = false;
}

static void judge(struct client_actor *c, const struct resp_ask *a, const uint8_t *p, size_t n)
{
	struct resp_client *r = c->resp;

	if (p[0] == '-' && !is_own_error(a, p, n)) {
		judge_error(c, a, p, n);
		return;
	}
	if (judge_queued(c, a, p, n))
		return;
	switch (a->kind) {
	case ASK_READ:
	case ASK_WRITE:
	case ASK_BLPOP:
	case ASK_UNKNOWN:
		judge_answer(c, a, false, p, n);
		break;
	case ASK_SELECT:
	case ASK_SELECT_QUEUED:
		judge_text(c, a, p, n, "+OK\r\n");
		r->db = a->arg;
		break;
	case ASK_MULTI:
		judge_text(c, a, p, n, "+OK\r\n");
		r->multi = true;
		r->spoiled = false;
		r->n_queued = 0;
		break;
	case ASK_EXEC:
		judge_exec(c, a, p, n);
		break;
	case ASK_DISCARD:
		judge_text(c, a, p, n, r->multi ? "+OK\r\n" : "an error");
		multi_over(r);
		break;
	case ASK_WATCH:
		judge_text(c, a, p, n, "+OK\r\n");
		r->watching = true;
		break;
	case ASK_UNWATCH:
		judge_text(c, a, p, n, "+OK\r\n");
		r->watching = false;
		break;
	case ASK_SUBSCRIBE:
	case ASK_UNSUBSCRIBE:
		judge_subscription(c, a, p, n);
		break;
	case ASK_PING:
		judge_text(c, a, p, n,
			   r->subscribed && r->version == 2 ? "*2\r\n$4\r\npong\r\n$0\r\n\r\n" : "+PONG\r\n");
		break;
	case ASK_SETNAME:
		judge_text(c, a, p, n, "+OK\r\n");
		r->name = a->arg;
		break;
	case ASK_GETNAME:
		judge_name(c, a, p, n);
		break;
	case ASK_HELLO:
		if (p[0] != (a->arg == 3 ? '%' : '*'))
			judge_fail(c, a, p, n, "facts");
		r->version = a->arg;
		break;
	case ASK_RESET:
		judge_text(c, a, p, n, "+RESET\r\n");
		judge_reset(c);
		break;
	case ASKS:
		break;
	}
}

/* A message to its own channel, which nobody asked for. */
static bool take_push(const struct client_actor *c, const uint8_t *p, size_t n)
{
	static const char head[] = "3\r\n$7\r\nmessage\r\n";
	char want[160], channel[32];
	int len;

	if (n < sizeof(head) || memcmp(p + 1, head, sizeof(head) - 1) != 0 || (p[0] != '*' && p[0] != '>'))
		return false;
	len = snprintf(channel, sizeof(channel), "C%" PRIu64, c->conn_id);
	len = snprintf(want, sizeof(want), "%c%s$%d\r\n%s\r\n" RESP_NEWS, c->resp->version == 3 ? '>' : '*', head,
		       len, channel);
	PROMISE(c->resp->subscribed && (size_t)len == n && memcmp(p, want, n) == 0, "ISO-1",
		"client %u (C%" PRIu64 ") gets a message that is not its own: %.*s", c->id, c->conn_id, (int)n,
		(const char *)p);
	return true;
}

void resp_client_take(struct client_actor *c, const uint8_t *p, size_t n)
{
	struct resp_client *r = c->resp;
	size_t len;

	bytes_add(&r->in, p, n);
	while ((len = resp_reply_len(bytes_at(&r->in), bytes_len(&r->in))) > 0) {
		const uint8_t *reply = bytes_at(&r->in);

		if (!take_push(c, reply, len)) {
			PROMISE(c->answered < c->sent, "ISO-1",
				"client %u (C%" PRIu64 ") gets '%.*s' without having asked", c->id, c->conn_id,
				(int)(len < 60 ? len : 60), (const char *)reply);
			judge(c, &r->asks[c->answered], reply, len);
			c->answered++;
			if (c->first_reply_us == 0)
				c->first_reply_us = world.now_us;
			trace(TR_CLIENT, c->id, 1, c->answered);
		}
		bytes_take(&r->in, len);
	}
}
