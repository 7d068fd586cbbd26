/*
 * fuzz_redis_talk: two clients and one connection of the redis module under a core that is as simple as can be; the input chooses
 * what clients and server say, in words and in raw bytes, and when a client leaves or a login is renewed.
 *
 * Oracles, beside the sanitizers and the module's own assertions:
 *	- verdicts take at most what there is, and never nothing; a view of a head always tells;
 *	- no reply is taken that is not owed;
 *	- asking about a message that passes changes nothing: asked again, the answer is the same;
 *	- the counts of what is owed agree with what is owed; a cleaned connection is as good as new.
 *
 * The input is a row of operations, one byte each:
 *	00-7f  a client says a word of the table (client by bit 6)     80-bf  the server says one
 *	c0-cf  n+1 raw bytes of a client follow                        d0-df  ... of the server
 *	e0-e7  a client leaves and another one comes                   e8-ef  one says a SET longer than a head
 *	f0-ff  a login is renewed
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/redis/redis_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OWED_MAX  200
#define BYTES_MAX 40000
#define CLIENTS	  2

static const char *const client_says[64] = {
	"GET a",
	"SET a b",
	"MULTI",
	"EXEC",
	"DISCARD",
	"WATCH a",
	"UNWATCH",
	"SELECT 0",
	"SELECT 1",
	"SELECT 9",
	"SUBSCRIBE a b",
	"UNSUBSCRIBE",
	"UNSUBSCRIBE a",
	"PSUBSCRIBE a",
	"PUNSUBSCRIBE",
	"SSUBSCRIBE a",
	"SUNSUBSCRIBE",
	"BLPOP a 0",
	"XREAD BLOCK 0 STREAMS a $",
	"MONITOR",
	"PSYNC ? -1",
	"REPLCONF a b",
	"ASKING",
	"READONLY",
	"READWRITE",
	"CLIENT NO-EVICT ON",
	"CLIENT TRACKING ON",
	"CLIENT TRACKING OFF",
	"FOO bar",
	"HELLO 2",
	"HELLO 3",
	"AUTH x",
	"AUTH alice secret",
	"HELLO 3 AUTH alice secret SETNAME x",
	"RESET",
	"QUIT",
	"CLIENT ID",
	"CLIENT SETNAME x",
	"CLIENT SETNAME ",
	"CLIENT GETNAME",
	"CLIENT INFO",
	"CLIENT REPLY ON",
	"CLIENT REPLY OFF",
	"CLIENT REPLY SKIP",
	"ACL WHOAMI",
	"WAIT 0 0",
	"PING",
	"FLUSHALL",
	"COMMAND",
	"EVAL x 0",
	"CLIENT SETINFO LIB-NAME x",
	"CLIENT",
	"SCRIPT DEBUG YES",
	"EXEC x",
	"SELECT x",
	"CONFIG GET x",
	"JSON.GET a",
	"CLIENT UNBLOCK 1",
	"MULTI x",
	"WATCH",
	"SUBSCRIBE",
	"HELLO",
	"TIME",
	"SELECT",
};

static const char *const server_says[64] = {
	"+OK\r\n",
	"+QUEUED\r\n",
	"$-1\r\n",
	"_\r\n",
	"*-1\r\n",
	"*0\r\n",
	":1\r\n",
	"$3\r\nabc\r\n",
	"*2\r\n:1\r\n$1\r\na\r\n",
	"-ERR x\r\n",
	"-NOAUTH Authentication required.\r\n",
	"-READONLY You can't\r\n",
	"-EXECABORT x\r\n",
	"-WRONGPASS x\r\n",
	"-ERR unknown command 'x'\r\n",
	"-NOPERM x\r\n",
	"+PONG\r\n",
	"+RESET\r\n",
	"%1\r\n+a\r\n+b\r\n",
	"~1\r\n+a\r\n",
	"#t\r\n",
	"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
	"*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n",
	"*3\r\n$10\r\npsubscribe\r\n$1\r\na\r\n:3\r\n",
	"*3\r\n$10\r\nssubscribe\r\n$1\r\na\r\n:1\r\n",
	"*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:1\r\n",
	"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n",
	"*3\r\n$12\r\npunsubscribe\r\n$1\r\na\r\n:0\r\n",
	"*3\r\n$12\r\nsunsubscribe\r\n$1\r\na\r\n:0\r\n",
	"*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n",
	"*4\r\n$8\r\npmessage\r\n$1\r\na\r\n$1\r\na\r\n$1\r\nx\r\n",
	">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
	">3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n",
	">3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n",
	">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n",
	">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n",
	"|1\r\n+a\r\n:1\r\n",
	"+1700000000.1 [0 x] \"a\"\r\n",
	"*1\r\n",
	"*2\r\n",
	"$5\r\nab",
	"+",
	"$",
	"*3\r\n$7\r\nmess",
	"-ERR long",
	"*?\r\n",
	".\r\n",
	"$?\r\n",
	";1\r\na\r\n",
	";0\r\n",
	"%7\r\n",
	"*14\r\n",
	":5\r\n",
	",1.5\r\n",
	"(5\r\n",
	"=7\r\ntxt:abc\r\n",
	"!3\r\nERR\r\n",
	"-LOADING x\r\n",
	"-MOVED 1 x\r\n",
	"-ERR EXEC without MULTI\r\n",
	"-ERR DISCARD without MULTI\r\n",
	"*1\r\n*1\r\n*1\r\n",
	"+FULLRESYNC x 0\r\n",
	"\r\n",
};

struct bytes {
	uint8_t p[BYTES_MAX];
	size_t n;
};

struct client {
	void *cl;
	struct bytes in;
	bool waits;	/* for an ALONE to be answered */
	bool uploading; /* a request that is not whole */
	uint64_t born;
};

struct owed {
	uint32_t tag;
	int client; /* -1: nobody's */
	uint64_t born;
	bool alone;
};

static struct proto_conf *conf;
static struct secret *secrets[2];
static struct script_cred cred;
static struct blocks blocks;

static struct {
	void *pool, *up;
	struct client clients[CLIENTS];
	struct owed owed[OWED_MAX];
	size_t n_owed;
	struct bytes in; /* of the server */
	int holder;	 /* -1: shared */
	bool cleaning;
	uint64_t id;
	struct buf out;
} w;

static const struct proto_talk *talk(void)
{
	return proto_redis.talk;
}

/* ---- the world ---- */

static void setup(void)
{
	static char alice[] = "secret", own[] = "hunter2";
	static const char *const deny[] = {"FLUSHALL"}, *const plain[] = {"JSON.*"};
	static struct redis_user users[2];
	static struct redis_conf c;
	const char *bad;

	BUG_ON(secret_arena_init(NULL) != ERR_OK);
	blocks_init(&blocks, 4);
	secrets[0] = secret_take(alice, 6);
	secrets[1] = secret_take(own, 7);
	users[0] = (struct redis_user){"alice", secrets[0], -1};
	users[1] = (struct redis_user){"bob", NULL, 5};
	c = (struct redis_conf){users, 2, deny, 1, plain, 1, true};
	conf = redis_conf_new(&c, &bad);
	BUG_ON(!conf);
	cred = (struct script_cred){.username = "app", .password = secrets[1]};
}

static struct redis_up *up(void)
{
	return w.up;
}

static void drop_out(void)
{
	buf_clear(&w.out);
}

static void up_open(void)
{
	static const char says[] =
		"+OK\r\n*4\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$1\r\n7\r\n+PONG\r\n";
	struct buf out;

	w.up = mem_alloc(proto_redis.up_bytes);
	proto_redis.attach(w.up, conf, w.pool);
	buf_init(&out, secret_blocks());
	BUG_ON(proto_redis.begin(w.up, PROTO_LOGIN, conf, &cred, secret_blocks(), &out) != PROTO_MORE);
	buf_clear(&out);
	BUG_ON(proto_redis.feed(w.up, (const uint8_t *)says, sizeof(says) - 1, &cred, &out) != PROTO_DONE);
	w.n_owed = w.in.n = 0;
	w.holder = -1;
	w.cleaning = false;
}

static void client_open(int i)
{
	struct client *c = &w.clients[i];

	c->cl = mem_alloc(talk()->client_bytes);
	c->in.n = 0;
	c->waits = c->uploading = false;
	c->born = ++w.id;
	talk()->greet(c->cl, conf, w.pool, w.id, i ? 5 : -1, &w.out);
}

static void client_close(int i)
{
	talk()->client_end(w.clients[i].cl);
	mem_free(w.clients[i].cl);
}

/* A broken connection: its clients would be told; here they are new ones. */
static void up_reopen(void)
{
	proto_redis.end(w.up);
	mem_free(w.up);
	for (int i = 0; i < CLIENTS; i++) {
		client_close(i);
		client_open(i);
	}
	up_open();
}

/* ---- what must hold ---- */

static void check_counts(void)
{
	uint32_t pending = 0, blocking = 0;

	for (size_t i = 0; i < w.n_owed; i++) {
		enum redis_kind k = tag_kind(w.owed[i].tag);

		blocking += k == KIND_BLOCKING;
		pending += (k >= KIND_WATCH && k <= KIND_UNKNOWN);
	}
	BUG_ON(pending != up()->pending);
	BUG_ON(blocking != up()->blocking);
	if (!w.n_owed && !w.cleaning)
		BUG_ON(up()->multis != up()->multi);
	if (pending || blocking)
		BUG_ON(talk()->held(w.up) == ERR_OK);
	if (!w.n_owed && up()->mid == MID_NONE && talk()->held(w.up) == ERR_OK && !up()->doubt && !up()->wrong_role)
		BUG_ON(talk()->leave(w.up, false) != PROTO_LEAVE_CLEAN);
}

/* Nobody holds it any more. */
static void release(void)
{
	struct buf out;
	enum proto_verdict v;

	w.holder = -1;
	switch (talk()->leave(w.up, w.n_owed > 0)) {
	case PROTO_LEAVE_CLEAN:
		return;
	case PROTO_LEAVE_CHECK:
		break;
	default:
		up_reopen();
		return;
	}
	/* What is owed would be waited for; a new one does here. */
	if (w.n_owed || up()->mid) {
		up_reopen();
		return;
	}
	buf_init(&out, secret_blocks());
	v = proto_redis.begin(w.up, PROTO_CLEAN, conf, &cred, secret_blocks(), &out);
	BUG_ON(buf_len(&out) == 0 && v != PROTO_DONE);
	buf_clear(&out);
	w.cleaning = v == PROTO_MORE;
}

/* ---- the core ---- */

static void bytes_drop(struct bytes *b, size_t n)
{
	memmove(b->p, b->p + n, b->n - n);
	b->n -= n;
}

static enum proto_ask ask(struct client *c, struct proto_request *req)
{
	/* of its exact size, for the sanitizers */
	uint8_t *view = mem_alloc(c->in.n);
	struct redis_client before;
	struct proto_request again;
	enum proto_ask a;

	memcpy(view, c->in.p, c->in.n);
	memcpy(&before, c->cl, sizeof(before));
	a = talk()->from_client(c->cl, conf, w.pool, view, c->in.n, req, &w.out);
	if (a == PROTO_ASK_PASS) {
		struct redis_client *after = c->cl;

		BUG_ON(buf_len(&w.out) != 0);
		before.body = after->body;
		BUG_ON(memcmp(&before, after, sizeof(before)) != 0);
		BUG_ON(talk()->from_client(c->cl, conf, w.pool, view, c->in.n, &again, &w.out) != a);
		BUG_ON(again.len != req->len || again.tag != req->tag || again.flags != req->flags ||
		       again.whole != req->whole);
	}
	BUG_ON(a != PROTO_ASK_MORE && req->len > c->in.n);
	BUG_ON(a == PROTO_ASK_MORE && c->in.n >= PROTO_HEAD_MAX);
	mem_free(view);
	return a;
}

static void owe(uint32_t tag, int client, bool alone)
{
	w.owed[w.n_owed++] = (struct owed){tag, client, client < 0 ? 0 : w.clients[client].born, alone};
}

/* False: it has to wait. */
static bool pass(int i, const struct proto_request *req)
{
	struct client *c = &w.clients[i];
	uint32_t ahead[PROTO_AHEAD_MAX];
	unsigned n;

	if (w.cleaning || w.n_owed + PROTO_AHEAD_MAX + 1 > OWED_MAX)
		return false;
	if (w.holder >= 0 && w.holder != i)
		return false;
	/* A connection of its own: here, this one when nobody else waits on it. */
	if ((req->flags & PROTO_REQUEST_OWN) && w.holder < 0) {
		for (size_t k = 0; k < w.n_owed; k++) {
			if (w.owed[k].client != i)
				return false;
		}
		w.holder = i;
	}
	n = talk()->pass(c->cl, w.up, req, &w.out, ahead);
	BUG_ON(n > PROTO_AHEAD_MAX || (req->len == 0 && buf_len(&w.out) == 0));
	drop_out();
	for (unsigned k = 0; k < n; k++)
		owe(ahead[k], -1, false);
	owe(req->tag, i, req->flags & PROTO_REQUEST_ALONE);
	c->waits = req->flags & PROTO_REQUEST_ALONE;
	c->uploading = !req->whole;
	return true;
}

static bool has_owed(int i)
{
	for (size_t k = 0; k < w.n_owed; k++) {
		if (w.owed[k].client == i)
			return true;
	}
	return false;
}

/* True: there may be more to do. */
static bool client_step(int i)
{
	struct client *c = &w.clients[i];
	struct proto_request req;
	bool whole;
	size_t n;

	if (!c->in.n || c->waits)
		return false;
	if (c->uploading) {
		n = talk()->client_more(c->cl, c->in.p, c->in.n, &whole);
		BUG_ON(n > c->in.n || (n == 0 && whole) || (!whole && n && n != c->in.n));
		if (n == 0) {
			up_reopen();
			return false;
		}
		c->uploading = !whole;
		bytes_drop(&c->in, n);
		return true;
	}
	switch (ask(c, &req)) {
	case PROTO_ASK_MORE:
		return false;
	case PROTO_ASK_PASS:
		if (!pass(i, &req))
			return false;
		bytes_drop(&c->in, req.len);
		return true;
	case PROTO_ASK_HERE:
		BUG_ON(req.len == 0 || !req.whole);
		drop_out();
		bytes_drop(&c->in, req.len);
		if ((req.flags & PROTO_REQUEST_LEAVE) && w.holder == i) {
			if (has_owed(i))
				up_reopen();
			else
				release();
		}
		return true;
	case PROTO_ASK_LAST:
		drop_out();
		if (w.holder == i)
			release();
		client_close(i);
		client_open(i);
		return false;
	}
	return false;
}

static struct client *client_of(const struct owed *o)
{
	if (o->client < 0 || w.clients[o->client].born != o->born)
		return NULL;
	return &w.clients[o->client];
}

static void reply_end(enum proto_reply r)
{
	struct client *c = client_of(&w.owed[0]);

	BUG_ON(w.n_owed == 0);
	if (c && w.owed[0].alone)
		c->waits = false;
	if (tag_kind(w.owed[0].tag) == KIND_REAUTH)
		BUG_ON(talk()->reauth_verdict(w.up) == PROTO_MORE);
	memmove(w.owed, w.owed + 1, --w.n_owed * sizeof(w.owed[0]));
	/* It would be logged in anew and said again. */
	if (r == PROTO_REPLY_NOT_RUN)
		up_reopen();
}

static bool server_clean(void)
{
	struct buf out;
	enum proto_verdict v;

	buf_init(&out, secret_blocks());
	v = proto_redis.feed(w.up, w.in.p, w.in.n, &cred, &out);
	w.in.n = 0;
	if (v == PROTO_MORE)
		return false;
	w.cleaning = false;
	if (v != PROTO_DONE) {
		up_reopen();
		return false;
	}
	BUG_ON(talk()->held(w.up) != ERR_OK || talk()->leave(w.up, false) != PROTO_LEAVE_CLEAN);
	BUG_ON(!talk()->may_reauth(w.up));
	return true;
}

static bool server_step(void)
{
	struct owed *o = w.n_owed ? &w.owed[0] : NULL;
	struct client *c = o ? client_of(o) : w.holder >= 0 ? &w.clients[w.holder] : NULL;
	enum proto_reply r;
	uint8_t *view;
	size_t len = 0;

	if (!w.in.n)
		return false;
	if (w.cleaning)
		return server_clean();
	view = mem_alloc(w.in.n);
	memcpy(view, w.in.p, w.in.n);
	r = talk()->from_server(w.up, c ? c->cl : NULL, w.pool, o ? &o->tag : NULL, view, w.in.n, &len);
	mem_free(view);
	if (r == PROTO_REPLY_WAIT) {
		BUG_ON(w.in.n >= PROTO_HEAD_MAX);
		return false;
	}
	if (r == PROTO_REPLY_BROKEN) {
		up_reopen();
		return false;
	}
	BUG_ON(len == 0 || len > w.in.n);
	BUG_ON(!o && r != PROTO_REPLY_PUSH && r != PROTO_REPLY_PUSH_PART);
	bytes_drop(&w.in, len);
	if (r == PROTO_REPLY_DONE || r == PROTO_REPLY_NOT_RUN)
		reply_end(r);
	if (!w.n_owed && w.holder >= 0 && !w.clients[w.holder].uploading && talk()->held(w.up) == ERR_OK &&
	    up()->mid == MID_NONE)
		release();
	return true;
}

static void settle_all(void)
{
	bool more = true;

	while (more) {
		more = server_step();
		check_counts();
		for (int i = 0; i < CLIENTS; i++)
			more |= client_step(i);
		check_counts();
	}
}

static void leaves(int i)
{
	bool uploads = w.clients[i].uploading;

	client_close(i);
	client_open(i);
	if (uploads)
		up_reopen();
	else if (w.holder == i)
		release();
}

static void renew(void)
{
	struct buf out;

	if (w.cleaning || w.n_owed == OWED_MAX || !talk()->may_reauth(w.up))
		return;
	for (int i = 0; i < CLIENTS; i++) {
		if (w.clients[i].uploading)
			return;
	}
	buf_init(&out, secret_blocks());
	owe(talk()->reauth(w.up, &cred, &out), -1, false);
	BUG_ON(buf_len(&out) == 0 || talk()->reauth_verdict(w.up) != PROTO_MORE);
	buf_clear(&out);
}

static void bytes_add(struct bytes *b, const void *p, size_t n)
{
	if (n > BYTES_MAX - b->n)
		return;
	memcpy(b->p + b->n, p, n);
	b->n += n;
}

static void client_word(struct client *c, const char *words)
{
	char text[64];
	size_t n = 1;

	for (const char *p = words; *p; p++)
		n += *p == ' ';
	bytes_add(&c->in, text, (size_t)snprintf(text, sizeof(text), "*%zu\r\n", n));
	for (;; words++) {
		n = strcspn(words, " ");
		bytes_add(&c->in, text, (size_t)snprintf(text, sizeof(text), "$%zu\r\n%.*s\r\n", n, (int)n, words));
		words += n;
		if (!*words)
			return;
	}
}

static void client_long(struct client *c)
{
	static const char head[] = "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$17000\r\n";
	static uint8_t body[17002];

	if (BYTES_MAX - c->in.n < sizeof(head) + sizeof(body))
		return;
	memcpy(body + 17000, "\r\n", 2);
	bytes_add(&c->in, head, sizeof(head) - 1);
	/* Most of it now; the core looks at it before the rest is there. */
	bytes_add(&c->in, body, 16500);
	settle_all();
	bytes_add(&c->in, body + 16500, sizeof(body) - 16500);
}

/* Returns how many bytes of the input it took. */
static size_t operation(const uint8_t *p, size_t n)
{
	size_t raw = (size_t)(*p & 15) + 1;

	if (*p < 0x80) {
		client_word(&w.clients[*p >> 6], client_says[*p & 63]);
	} else if (*p < 0xc0) {
		bytes_add(&w.in, server_says[*p & 63], strlen(server_says[*p & 63]));
	} else if (*p < 0xe0) {
		raw = raw > n - 1 ? n - 1 : raw;
		bytes_add(*p < 0xd0 ? &w.clients[*p & 1].in : &w.in, p + 1, raw);
		return 1 + raw;
	} else if (*p < 0xe8) {
		leaves(*p & 1);
	} else if (*p < 0xf0) {
		client_long(&w.clients[*p & 1]);
	} else {
		renew();
	}
	return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!conf)
		setup();
	w.id = 0;
	buf_init(&w.out, &blocks);
	w.pool = mem_alloc(talk()->pool_bytes);
	up_open();
	for (int i = 0; i < CLIENTS; i++)
		client_open(i);
	for (size_t i = 0; i < size;) {
		i += operation(data + i, size - i);
		settle_all();
	}
	for (int i = 0; i < CLIENTS; i++)
		client_close(i);
	proto_redis.end(w.up);
	mem_free(w.up);
	mem_free(w.pool);
	BUG_ON(blocks.nused != 0 || secret_blocks()->nused != 0);
	return 0;
}
