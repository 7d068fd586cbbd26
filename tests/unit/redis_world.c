/* redis_world: see redis_world.h. */
#include "redis_world.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

static const struct proto_talk *talk(void)
{
	return proto_redis.talk;
}

static void take_said(struct redis_world *w)
{
	size_t n = buf_copy(&w->out, w->said, sizeof(w->said) - 1);

	w->said[n] = '\0';
	buf_clear(&w->out);
}

static void *new_client(struct redis_world *w, uint64_t id)
{
	void *cl = mem_alloc(talk()->client_bytes);

	talk()->greet(cl, w->c, w->pool, id, -1, &w->out);
	ck_assert_uint_eq(buf_len(&w->out), 0);
	return cl;
}

void world_open(struct redis_world *w, const struct redis_conf *conf)
{
	static const struct redis_conf open_to_all;
	const char *bad;

	memset(w, 0, sizeof(*w));
	ck_assert_int_eq(secret_arena_init(NULL), ERR_OK);
	blocks_init(&w->blocks, 4);
	buf_init(&w->out, &w->blocks);
	w->c = redis_conf_new(conf ? conf : &open_to_all, &bad);
	ck_assert_ptr_nonnull(w->c);
	w->pool = mem_alloc(talk()->pool_bytes);
	w->up = mem_alloc(proto_redis.up_bytes);
	proto_redis.attach(w->up, w->c, w->pool);
	ck_dialogue(
		w, PROTO_LOGIN, NULL, "*2\r\n$5\r\nHELLO\r\n$1\r\n2\r\n*1\r\n$4\r\nPING\r\n",
		"*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:5\r\n"
		"$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n+PONG\r\n",
		PROTO_DONE);
	w->cl = new_client(w, 7);
}

void world_close(struct redis_world *w)
{
	talk()->client_end(w->cl);
	mem_free(w->cl);
	proto_redis.end(w->up);
	mem_free(w->up);
	mem_free(w->pool);
	redis_conf_free(&w->c);
	buf_clear(&w->out);
	blocks_done(&w->blocks);
}

void *world_client(struct redis_world *w, void *cl)
{
	void *old = w->cl;

	w->cl = cl ? cl : new_client(w, 8);
	return old;
}

size_t world_command(char *to, size_t cap, const char *words)
{
	char body[65536] = "";
	size_t n = 0, at = 0;

	for (const char *p = words;; p++) {
		size_t len = strcspn(p, " ");

		at += (size_t)snprintf(body + at, sizeof(body) - at, "$%zu\r\n%.*s\r\n", len, (int)len, p);
		ck_assert_uint_lt(at, sizeof(body));
		n++;
		p += len;
		if (!*p)
			break;
	}
	at = (size_t)snprintf(to, cap, "*%zu\r\n%s", n, body);
	ck_assert_uint_lt(at, cap);
	return at;
}

enum proto_ask world_ask_bytes(struct redis_world *w, const void *p, size_t n)
{
	/* Of its exact size, so that a sanitizer sees what is read behind it. */
	uint8_t *view = mem_alloc(n ? n : 1);
	enum proto_ask ask;

	memcpy(view, p, n);
	ask = talk()->from_client(w->cl, w->c, w->pool, view, n, &w->req, &w->out);
	mem_free(view);
	take_said(w);
	if (ask == PROTO_ASK_PASS || ask == PROTO_ASK_HERE)
		ck_assert_uint_le(w->req.len, n);
	return ask;
}

enum proto_ask world_ask(struct redis_world *w, const char *words)
{
	static char request[70000];
	size_t n = world_command(request, sizeof(request), words);
	enum proto_ask ask = world_ask_bytes(w, request, n);

	if (ask == PROTO_ASK_PASS && w->req.whole && w->req.len)
		ck_assert_uint_eq(w->req.len, n);
	return ask;
}

void ck_here(struct redis_world *w, const char *words, const char *answer)
{
	ck_assert_msg(world_ask(w, words) == PROTO_ASK_HERE, "%s is not answered here", words);
	ck_assert_msg(w->req.whole, "%s", words);
	ck_assert_str_eq(w->said, answer);
}

static void owe(struct redis_world *w, uint32_t tag, bool ahead)
{
	ck_assert_uint_lt(w->n_owed, WORLD_OWED_MAX);
	w->owed[w->n_owed].tag = tag;
	w->owed[w->n_owed++].ahead = ahead;
}

void ck_pass(struct redis_world *w, const char *words, const char *ahead)
{
	uint32_t tags[PROTO_AHEAD_MAX];
	unsigned n;

	ck_assert_msg(world_ask(w, words) == PROTO_ASK_PASS, "%s is not passed: %s", words, w->said);
	ck_assert_str_eq(w->said, "");
	n = talk()->pass(w->cl, w->up, &w->req, &w->out, tags);
	take_said(w);
	ck_assert_msg(!strcmp(w->said, ahead), "ahead of %s: %s, not %s", words, w->said, ahead);
	ck_assert_uint_le(n, PROTO_AHEAD_MAX);
	for (unsigned i = 0; i < n; i++)
		owe(w, tags[i], true);
	owe(w, w->req.tag, false);
}

void ck_reply(struct redis_world *w, const char *bytes, enum proto_reply want)
{
	size_t n = strlen(bytes), len = 0;
	uint8_t *view = mem_alloc(n);
	enum proto_reply r;

	memcpy(view, bytes, n);
	r = talk()->from_server(w->up, w->cl, w->pool, w->n_owed ? &w->owed[0].tag : NULL, view, n, &len);
	mem_free(view);
	ck_assert_msg(r == want, "%s: %d, not %d", bytes, r, want);
	if (r != PROTO_REPLY_WAIT && r != PROTO_REPLY_BROKEN)
		ck_assert_msg(len == n, "%s: %zu of %zu bytes", bytes, len, n);
	if (r == PROTO_REPLY_DONE || r == PROTO_REPLY_NOT_RUN) {
		ck_assert_uint_gt(w->n_owed, 0);
		memmove(w->owed, w->owed + 1, --w->n_owed * sizeof(w->owed[0]));
	}
}

void ck_call(struct redis_world *w, const char *words, const char *bytes)
{
	ck_pass(w, words, "");
	ck_reply(w, bytes, PROTO_REPLY_DONE);
}

void ck_held(struct redis_world *w, enum err want)
{
	ck_assert_str_eq(err_name(talk()->held(w->up)), err_name(want));
}

void ck_leave(struct redis_world *w, bool owed, enum proto_leave want)
{
	ck_assert_int_eq(talk()->leave(w->up, owed), want);
}

void ck_dialogue(struct redis_world *w, enum proto_dialogue d, const struct script_cred *cred, const char *sent,
		 const char *says, enum proto_verdict want)
{
	struct buf out;
	enum proto_verdict v;

	buf_init(&out, secret_blocks());
	v = proto_redis.begin(w->up, d, w->c, cred, secret_blocks(), &out);
	w->said[buf_copy(&out, w->said, sizeof(w->said) - 1)] = '\0';
	buf_clear(&out);
	ck_assert_str_eq(w->said, sent);
	/* Byte by byte: how it is cut says nothing. */
	for (size_t i = 0; v == PROTO_MORE && says[i]; i++)
		v = proto_redis.feed(w->up, (const uint8_t *)says + i, 1, cred, &out);
	ck_assert_int_eq(v, want);
	ck_assert_uint_eq(buf_len(&out), 0);
}
