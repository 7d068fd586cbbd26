/*
 * fuzz_resp_request: a client's bytes through the framing of requests.
 *
 * Oracles, beside the sanitizers:
 *	- a request ends at its last byte and not before: every prefix of it asks for more;
 *	- written anew from its arguments it is the same bytes, and followed by resp_body() it ends at the same place;
 *	- hiredis makes an array of the same strings of it, and sdssplitargs(), which is the server's own code, the same words of an
 *	  inline one.
 * The first byte of the input says whether the client is logged in.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "proto/redis/resp.h"

#if __has_include(<hiredis/hiredis.h>)
#include <hiredis/hiredis.h>
#include <hiredis/sds.h>
#define HAVE_HIREDIS 1
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t scratch[RESP_HEAD_MAX];

static void check_text(const struct resp_text *t, const uint8_t *p, size_t n)
{
	bool here = t->p >= p && t->p + t->n <= p + n,
	     there = t->p >= scratch && t->p + t->n <= scratch + sizeof(scratch);

	BUG_ON(!here && !there);
}

/* The same request, canonically; only of those whose arguments were all kept. */
static void check_encoding(const struct resp_request *r, const uint8_t *p)
{
	char line[32];
	size_t at = 0;

	if (r->is_inline || r->argc == 0 || r->argc != r->kept)
		return;
	at = (size_t)snprintf(line, sizeof(line), "*%u\r\n", r->argc);
	BUG_ON(memcmp(p, line, at) != 0);
	for (uint32_t i = 0; i < r->argc; i++) {
		size_t n = (size_t)snprintf(line, sizeof(line), "$%zu\r\n", r->args[i].n);

		BUG_ON(memcmp(p + at, line, n) != 0);
		at += n;
		BUG_ON(p + at != r->args[i].p);
		at += r->args[i].n;
		BUG_ON(memcmp(p + at, "\r\n", 2) != 0);
		at += 2;
	}
	BUG_ON(at != r->len);
}

/* Followed without looking at it, from behind its first line, in pieces. */
static void check_body(const struct resp_request *r, const uint8_t *p, size_t n)
{
	size_t at = resp_line(p, n) + 2, len;

	if (r->is_inline || r->argc == 0)
		return;
	for (size_t step = 1; step < 4; step += 2) {
		struct resp_body b = {.args_left = r->argc};
		enum resp_verdict v = RESP_PART;
		size_t i = at;

		while (v == RESP_PART) {
			size_t part = n - i < step ? n - i : step;

			BUG_ON(part == 0);
			v = resp_body(&b, p + i, part, &len);
			BUG_ON(v == RESP_BAD || v == RESP_MORE || len > part);
			i += len;
		}
		BUG_ON(i != r->len);
	}
}

#ifdef HAVE_HIREDIS
static void check_array(const struct resp_request *r, const uint8_t *p)
{
	redisReader *reader = redisReaderCreate();
	void *reply = NULL;
	redisReply *a;

	redisReaderFeed(reader, (const char *)p, r->len);
	BUG_ON(redisReaderGetReply(reader, &reply) != REDIS_OK || !reply || reader->pos != reader->len);
	a = reply;
	BUG_ON(a->type != REDIS_REPLY_ARRAY || a->elements != r->argc);
	for (uint32_t i = 0; i < r->kept; i++) {
		BUG_ON(a->element[i]->type != REDIS_REPLY_STRING || (size_t)a->element[i]->len != r->args[i].n);
		BUG_ON(memcmp(a->element[i]->str, r->args[i].p, r->args[i].n) != 0);
	}
	freeReplyObject(reply);
	redisReaderFree(reader);
}

/* NULL words: wrong quotes. */
static void check_words(const struct resp_request *r, const uint8_t *p, size_t n, bool wrong)
{
	const uint8_t *lf = memchr(p, '\n', n);
	size_t len = lf ? (size_t)(lf - p) : n;
	char *line;
	int argc;
	sds *words;

	if (!lf || memchr(p, 0, len))
		return;
	len -= len && p[len - 1] == '\r';
	line = mem_alloc(len + 1);
	memcpy(line, p, len);
	words = sdssplitargs(line, &argc);
	BUG_ON(wrong != !words);
	if (words) {
		BUG_ON((uint32_t)argc != r->argc);
		for (uint32_t i = 0; i < r->kept; i++)
			BUG_ON(sdslen(words[i]) != r->args[i].n || memcmp(words[i], r->args[i].p, r->args[i].n));
		sdsfreesplitres(words, argc);
	}
	mem_free(line);
}
#endif

static void check_whole(const struct resp_request *r, const uint8_t *p, size_t n)
{
	BUG_ON(r->len == 0 || r->len > n || r->kept > r->argc || r->kept > RESP_ARGS_KEPT);
	for (uint32_t i = 0; i < r->kept; i++)
		check_text(&r->args[i], p, r->len);
	check_encoding(r, p);
	check_body(r, p, n);
#ifdef HAVE_HIREDIS
	if (r->is_inline)
		check_words(r, p, n, false);
	else if (r->argc)
		check_array(r, p);
#endif
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool known = size && data[0] & 1;
	struct resp_request r;
	struct resp_body body;
	enum resp_verdict v;
	size_t prefixes;

	if (size < 2)
		return 0;
	data++;
	size--;
	for (int i = 0; i < 16 && size; i++) {
		v = resp_request(&r, data, size, known, scratch, &body);
		BUG_ON(v == RESP_MORE && size >= RESP_HEAD_MAX);
		BUG_ON(v == RESP_PART && (size < RESP_HEAD_MAX || r.len != size));
		BUG_ON(v == RESP_BAD && !r.why);
#ifdef HAVE_HIREDIS
		if (v == RESP_BAD && r.is_inline && size < RESP_HEAD_MAX)
			check_words(&r, data, size, true);
#endif
		if (v == RESP_END)
			check_whole(&r, data, size);
		prefixes = v == RESP_END ? r.len : size;
		/* all of the short ones, a few of the others, and the last one */
		for (size_t n = 0; n < prefixes; n += n < 48 || n + 2 > prefixes ? 1 : 1 + (prefixes - n - 1) / 4) {
			struct resp_request less;
			enum resp_verdict w = resp_request(&less, data, n, known, scratch, &body);

			BUG_ON(w == RESP_END || (w == RESP_PART && n < RESP_HEAD_MAX) ||
			       (v != RESP_BAD && w == RESP_BAD));
		}
		if (v != RESP_END)
			break;
		data += r.len;
		size -= r.len;
	}
	return 0;
}
