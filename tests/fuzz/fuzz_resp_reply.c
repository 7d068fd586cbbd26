/*
 * fuzz_resp_reply: a server's bytes through the walk over replies.
 *
 * Oracles, beside the sanitizers:
 *	- however the bytes are cut, the same replies end at the same places;
 *	- a slow reference, recursive and written from the protocol's description alone, ends each of them there too;
 *	- hiredis, for what it knows (RESP2, a few levels deep), makes one reply of exactly these bytes, and none of one byte less;
 *	- what is not taken is never more than a head, and nothing is taken without progress.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "proto/redis/resp.h"

#if __has_include(<hiredis/read.h>)
#include <hiredis/hiredis.h>
#define HAVE_HIREDIS 1
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ENDS_MAX 64

struct ends {
	size_t at[ENDS_MAX];
	size_t n;
	enum resp_verdict last; /* MORE or BAD */
};

/* ---- the walk ---- */

/* Chunks of `step` bytes; 0: as the seed says. */
static void walk(const uint8_t *p, size_t n, size_t step, unsigned seed, struct ends *e)
{
	struct resp_frame f = {0};
	size_t from = 0, there = 0;

	e->n = 0;
	for (;;) {
		size_t len = 0;
		enum resp_verdict v = resp_reply(&f, p + from, there - from, &len);

		BUG_ON(len > there - from);
		BUG_ON((v == RESP_PART || v == RESP_END) && len == 0);
		BUG_ON((v == RESP_MORE || v == RESP_BAD) && len != 0);
		BUG_ON(v == RESP_MORE && there - from >= RESP_HEAD_MAX);
		from += len;
		if (v == RESP_END) {
			BUG_ON(!resp_frame_is_idle(&f) || f.deep);
			e->at[e->n++] = from;
			if (e->n == ENDS_MAX) {
				e->last = RESP_MORE;
				return;
			}
			continue;
		}
		if (v == RESP_BAD || (there == n && v == RESP_MORE)) {
			e->last = v;
			resp_frame_drop(&f);
			return;
		}
		if (v == RESP_PART)
			continue;
		seed = seed * 1103515245u + 12345u;
		there += step ? step : 1 + (seed >> 16) % 7;
		if (there > n)
			there = n;
	}
}

/* ---- the reference ---- */

/* The line's number; *line: its length with CR LF, 0 when it is not whole, -1 when it is wrong. */
static long ref_number(const uint8_t *p, size_t n, long *line)
{
	long value = 0, sign = 1;
	size_t i = 1;

	*line = 0;
	if (i < n && p[i] == '-') {
		sign = -1;
		i++;
	}
	for (size_t first = i; i < n; i++) {
		if (i > first && sign < 0 && value == 0) {
			*line = -1;
			return 0;
		}
		if (p[i] == '\r' && i > first) {
			if (i + 1 == n)
				return 0;
			*line = p[i + 1] == '\n' ? (long)i + 2 : -1;
			return sign * value;
		}
		if (p[i] < '0' || p[i] > '9' || (i > first && value == 0) || value > 1L << 40) {
			*line = -1;
			return 0;
		}
		value = value * 10 + (p[i] - '0');
	}
	return 0;
}

static long ref_reply(const uint8_t *p, size_t n, int depth);

/* Elements until `count` are there, or (count < 0) until the end mark. */
static long ref_elements(const uint8_t *p, size_t n, long count, bool pairs, int depth)
{
	size_t i = 0;

	for (long k = 0; count < 0 || k < count;) {
		long len;

		if (count < 0 && i < n && p[i] == '.') {
			if (n - i >= 3)
				return p[i + 1] == '\r' && p[i + 2] == '\n' && !(pairs && k % 2) ? (long)i + 3 : -1;
			return 0;
		}
		len = i < n ? ref_reply(p + i, n - i, depth) : 0;
		if (len <= 0)
			return len;
		k += p[i] != '|';
		i += (size_t)len;
	}
	return (long)i;
}

static long ref_string(const uint8_t *p, size_t n)
{
	long line, size = ref_number(p, n, &line);

	if (line <= 0)
		return line;
	if (size == -1 && *p == '$')
		return line;
	if (size < (*p == '=' ? 4 : 0) || size > RESP_BULK_BYTES_MAX)
		return -1;
	if ((long)n < line + size + 2)
		return 0;
	return memcmp(p + line + size, "\r\n", 2) ? -1 : line + size + 2;
}

static long ref_chunks(const uint8_t *p, size_t n)
{
	size_t i = 4;

	for (;;) {
		long line, size;

		if (i >= n)
			return 0;
		size = ref_number(p + i, n - i, &line);
		if (p[i] != ';' || line < 0)
			return -1;
		if (line == 0)
			return 0;
		i += (size_t)line;
		if (size == 0)
			return (long)i;
		if (size < 0 || size > RESP_BULK_BYTES_MAX)
			return -1;
		if (n < i + (size_t)size + 2)
			return 0;
		if (memcmp(p + i + size, "\r\n", 2))
			return -1;
		i += (size_t)size + 2;
	}
}

static bool ref_is_integer(const uint8_t *p, size_t n)
{
	size_t i = n && (*p == '-' || *p == '+');

	for (size_t first = i; i < n; i++) {
		if (p[i] < '0' || p[i] > '9')
			return false;
		if (i - first > (1 << 20))
			return false;
	}
	return n > 0 && p[n - 1] >= '0' && p[n - 1] <= '9';
}

static long ref_line(const uint8_t *p, size_t n)
{
	for (size_t i = 1; i + 1 < n; i++) {
		size_t len = i - 1;
		bool fine = true;

		if (p[i] != '\r' || p[i + 1] != '\n')
			continue;
		if (*p == ':')
			fine = ref_is_integer(p + 1, len) && len <= 20;
		else if (*p == '(')
			fine = ref_is_integer(p + 1, len);
		else if (*p == '#')
			fine = len == 1 && (p[1] == 't' || p[1] == 'f');
		else if (*p == '_')
			fine = len == 0;
		else if (*p == ',')
			fine = len >= 1 && len <= 127;
		return fine ? (long)i + 2 : -1;
	}
	return 0;
}

/* Length of the reply at p; 0: not whole, -1: wrong. */
static long ref_reply(const uint8_t *p, size_t n, int depth)
{
	bool pairs = *p == '%' || *p == '|', streams = n >= 4 && !memcmp(p + 1, "?\r\n", 3);
	long line, count, len;

	if (strchr("+-:_#,(", *p) && *p)
		return ref_line(p, n);
	if (*p == '$' && streams)
		return ref_chunks(p, n);
	if (*p == '$' || *p == '=' || *p == '!')
		return ref_string(p, n);
	if (!*p || !strchr("*%~>|", *p) || (*p == '>' && depth))
		return -1;
	if (streams && *p != '>' && *p != '|') {
		if (depth == RESP_DEPTH_MAX)
			return -1;
		len = ref_elements(p + 4, n - 4, -1, pairs, depth + 1);
		return len <= 0 ? len : len + 4;
	}
	count = ref_number(p, n, &line);
	if (line <= 0)
		return line;
	if (count == -1 && *p == '*')
		return line;
	if (count < 0 || count * (pairs ? 2 : 1) > RESP_ELEMENTS_MAX)
		return -1;
	if (count && depth == RESP_DEPTH_MAX)
		return -1;
	len = count ? ref_elements(p + line, n - (size_t)line, count * (pairs ? 2 : 1), pairs, depth + 1) : 0;
	return len < 0 || (count && !len) ? len : line + len;
}

static void compare_reference(const uint8_t *p, size_t n, const struct ends *e)
{
	size_t from = 0;

	for (size_t i = 0; i < e->n; i++) {
		BUG_ON(ref_reply(p + from, n - from, 0) != (long)(e->at[i] - from));
		from = e->at[i];
	}
	if (e->n < ENDS_MAX && from < n)
		BUG_ON(ref_reply(p + from, n - from, 0) > 0);
}

/* ---- hiredis ---- */

#ifdef HAVE_HIREDIS
/* What hiredis 0.14 understands. */
static bool is_resp2(const uint8_t *p, size_t n)
{
	int depth = 0;

	for (size_t i = 0; i < n;) {
		size_t line = resp_line(p + i, n - i);
		int64_t value = 0;

		if (p[i] == ':' && !resp_integer(p + i + 1, line - 1, &value))
			return false;
		if (!strchr("+-:$*", p[i]) ||
		    (p[i] != '+' && p[i] != '-' && p[i] != ':' && !resp_integer(p + i + 1, line - 1, &value)))
			return false;
		depth += p[i] == '*' && value > 0;
		i += line + 2;
		if (p[i - line - 2] == '$' && value >= 0)
			i += (size_t)value + 2;
	}
	return depth < 7;
}

static bool hiredis_reads(const uint8_t *p, size_t n)
{
	redisReader *r = redisReaderCreate();
	void *reply = NULL;
	bool whole;

	redisReaderFeed(r, (const char *)p, n);
	whole = redisReaderGetReply(r, &reply) == REDIS_OK && reply && r->pos == r->len;
	if (reply)
		freeReplyObject(reply);
	redisReaderFree(r);
	return whole;
}

static void compare_hiredis(const uint8_t *p, const struct ends *e)
{
	size_t from = 0;

	for (size_t i = 0; i < e->n && i < 8; i++) {
		size_t len = e->at[i] - from;

		if (len < 65536 && is_resp2(p + from, len)) {
			BUG_ON(!hiredis_reads(p + from, len));
			BUG_ON(hiredis_reads(p + from, len - 1));
		}
		from = e->at[i];
	}
}
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ends whole, cut;

	walk(data, size, size ? size : 1, 0, &whole);
	for (int i = 0; i < 2; i++) {
		walk(data, size, i, size ? data[size - 1] : 0u, &cut);
		BUG_ON(cut.n != whole.n || cut.last != whole.last);
		BUG_ON(memcmp(cut.at, whole.at, whole.n * sizeof(whole.at[0])) != 0);
	}
	compare_reference(data, size, &whole);
#ifdef HAVE_HIREDIS
	compare_hiredis(data, &whole);
#endif
	return 0;
}
