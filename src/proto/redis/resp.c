/*
 * resp: framing; see resp.h.
 *
 * A level of a reply is one word: how many elements are still to come, with a mark in its two highest bits.
 *
 *	00  an aggregate          01  an attribute: does not count as an element of the level around it
 *	10  a streamed aggregate (its end is a "." line); the lowest bit tells whether a key of a map waits for its value
 */
#include "proto/redis/resp.h"

#include <string.h>

#include "base/mem.h"

#define LEVEL_ATTRIBUTE (1u << 30)
#define LEVEL_STREAM	(1u << 31)
#define LEVEL_MAP	2u /* of a streamed one */
#define LEVEL_COUNT	(LEVEL_ATTRIBUTE - 1)

/* The longest line that states a number: a type, a sign, 19 digits, CR, LF. */
#define NUMBER_LINE_MAX 23

/* Where a reply was left: at the head of its next element unless said otherwise. */
enum frame_at {
	FRAME_HEAD,
	FRAME_STRING, /* in a string's bytes */
	FRAME_CHUNK,  /* in a chunk's bytes */
	FRAME_CHUNKS, /* before the next chunk of a streamed string */
	FRAME_LINE,   /* in a line longer than a head */
};

enum body_at { BODY_TYPE, BODY_LENGTH, BODY_LF, BODY_BYTES };

/* ---- small things ---- */

size_t resp_line(const uint8_t *p, size_t n)
{
	size_t i = 0;

	while (i + 1 < n) {
		const uint8_t *cr = memchr(p + i, '\r', n - i - 1);

		if (!cr)
			return n;
		i = (size_t)(cr - p);
		if (p[i + 1] == '\n')
			return i;
		i++;
	}
	return n;
}

bool resp_integer(const uint8_t *p, size_t n, int64_t *value)
{
	bool negative = n && *p == '-';
	uint64_t v = 0;

	if (negative) {
		p++;
		n--;
	}
	if (n == 0 || n > 19 || (*p == '0' && (n > 1 || negative)))
		return false;
	for (; n > 0; p++, n--) {
		if (*p < '0' || *p > '9')
			return false;
		v = v * 10 + (uint64_t)(*p - '0');
	}
	if (v > (uint64_t)INT64_MAX + negative)
		return false;
	*value = negative ? (int64_t)(0 - v) : (int64_t)v;
	return true;
}

bool resp_is(struct resp_text t, const char *word)
{
	size_t i = 0;

	for (; i < t.n && word[i]; i++) {
		uint8_t c = t.p[i];

		if ((c >= 'A' && c <= 'Z' ? c + 32 : c) != (uint8_t)word[i])
			return false;
	}
	return i == t.n && !word[i];
}

/* The number in the line at p, whose type is skipped; END, MORE or BAD. *len: of the line. */
static inline enum resp_verdict number_line(const uint8_t *p, size_t n, int64_t *value, size_t *len)
{
	size_t end;

	/* one digit, which is most of them */
	if (n >= 4 && p[2] == '\r' && p[3] == '\n' && p[1] >= '0' && p[1] <= '9') {
		*value = p[1] - '0';
		*len = 4;
		return RESP_END;
	}
	if (n > NUMBER_LINE_MAX)
		n = NUMBER_LINE_MAX;
	end = resp_line(p, n);
	if (end == n)
		return n == NUMBER_LINE_MAX ? RESP_BAD : RESP_MORE;
	if (!resp_integer(p + 1, end - 1, value))
		return RESP_BAD;
	*len = end + 2;
	return RESP_END;
}

enum resp_verdict resp_bulk(const uint8_t *p, size_t n, size_t max, struct resp_text *text, size_t *len)
{
	enum resp_verdict v;
	int64_t size;
	size_t head;

	if (n == 0)
		return RESP_MORE;
	if (*p != '$')
		return RESP_BAD;
	v = number_line(p, n, &size, &head);
	if (v != RESP_END)
		return v;
	if (size < 0 || (uint64_t)size > max)
		return RESP_BAD;
	if (n - head < (size_t)size + 2)
		return RESP_MORE;
	*text = (struct resp_text){p + head, (size_t)size};
	*len = head + (size_t)size + 2;
	return RESP_END;
}

/* ---- inline requests ---- */

static int hex(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 32;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_blank(uint8_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* What ends a word; not all that is skipped before one does. */
static bool ends_word(uint8_t c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/* The character behind a backslash in double quotes; *i is on it, and left on its last byte. */
static uint8_t escaped(const uint8_t *p, size_t n, size_t *i)
{
	uint8_t c = p[*i];

	if (c == 'x' && *i + 2 < n && hex(p[*i + 1]) >= 0 && hex(p[*i + 2]) >= 0) {
		*i += 2;
		return (uint8_t)(hex(p[*i - 1]) * 16 + hex(p[*i]));
	}
	switch (c) {
	case 'n':
		return '\n';
	case 'r':
		return '\r';
	case 't':
		return '\t';
	case 'b':
		return '\b';
	case 'a':
		return '\a';
	default:
		return c;
	}
}

/* One word of the line from p[*i] on, unquoted to `to`; false: its quotes are wrong. As sdssplitargs() does. */
static bool inline_word(const uint8_t *p, size_t n, size_t *at, uint8_t *to, size_t *to_len)
{
	uint8_t quote = 0;
	size_t i = *at, o = 0;

	for (; i < n && (quote || !ends_word(p[i])); i++) {
		uint8_t c = p[i];

		if (quote && c == quote) {
			if (i + 1 < n && !is_blank(p[i + 1]))
				return false;
			quote = 0;
			i++;
			break;
		}
		if (!quote && (c == '"' || c == '\''))
			quote = c;
		else if (quote == '"' && c == '\\' && i + 1 < n) {
			i++;
			to[o++] = escaped(p, n, &i);
		} else if (quote == '\'' && c == '\\' && i + 1 < n && p[i + 1] == '\'')
			to[o++] = p[++i];
		else
			to[o++] = c;
	}
	*at = i;
	*to_len = o;
	return !quote;
}

static enum resp_verdict request_inline(struct resp_request *r, const uint8_t *p, size_t n, uint8_t *scratch)
{
	size_t head = n < RESP_HEAD_MAX ? n : RESP_HEAD_MAX, i = 0, end;
	const uint8_t *lf = memchr(p, '\n', head);

	r->is_inline = true;
	/* The server looks for the end of the line with strchr(). */
	if (memchr(p, '\0', lf ? (size_t)(lf - p) : head)) {
		r->why = "NUL in an inline request";
		return RESP_BAD;
	}
	if (!lf) {
		r->why = "too big inline request";
		return n < RESP_HEAD_MAX ? RESP_MORE : RESP_BAD;
	}
	end = (size_t)(lf - p);
	r->len = end + 1;
	if (end && p[end - 1] == '\r')
		end--;
	for (;;) {
		struct resp_text word = {scratch, 0};

		while (i < end && is_blank(p[i]))
			i++;
		if (i == end)
			return RESP_END;
		if (!inline_word(p, end, &i, scratch, &word.n)) {
			r->why = "unbalanced quotes in request";
			return RESP_BAD;
		}
		scratch += word.n;
		if (r->kept < RESP_ARGS_KEPT)
			r->args[r->kept++] = word;
		r->argc++;
	}
}

/* ---- requests ---- */

static enum resp_verdict request_bad(struct resp_request *r, const char *why)
{
	r->why = why;
	return RESP_BAD;
}

/* The rest of it does not fit into a head: from byte i on it is followed without looking at it. */
static enum resp_verdict request_long(struct resp_request *r, const uint8_t *p, size_t n, size_t i,
				      uint32_t args_left, struct resp_body *body)
{
	enum resp_verdict v;
	size_t len;

	*body = (struct resp_body){.args_left = args_left};
	v = resp_body(body, p + i, n - i, &len);
	if (v == RESP_BAD)
		return request_bad(r, "invalid bulk length");
	r->len = i + len;
	return v;
}

enum resp_verdict resp_request(struct resp_request *r, const uint8_t *p, size_t n, bool known, uint8_t *scratch,
			       struct resp_body *body)
{
	int64_t value, most = known ? RESP_ARG_BYTES_MAX : RESP_UNAUTH_ARG_BYTES_MAX;
	enum resp_verdict v;
	size_t i, head;

	r->len = 0;
	r->argc = r->kept = 0;
	r->why = NULL;
	r->is_inline = false;
	if (n == 0)
		return RESP_MORE;
	if (*p != '*')
		return request_inline(r, p, n, scratch);
	v = number_line(p, n, &value, &i);
	if (v == RESP_MORE)
		return v;
	if (v == RESP_BAD || value > RESP_ARGS_MAX)
		return request_bad(r, "invalid multibulk length");
	if (value <= 0) {
		r->len = i;
		return RESP_END;
	}
	if (!known && value > RESP_UNAUTH_ARGS_MAX)
		return request_bad(r, "unauthenticated multibulk length");
	r->argc = (uint32_t)value;
	for (uint32_t k = 0; k < r->argc; k++) {
		if (i == n)
			v = RESP_MORE;
		else if (p[i] != '$')
			return request_bad(r, "expected '$'");
		else
			v = number_line(p + i, n - i, &value, &head);
		if (v == RESP_BAD || (v == RESP_END && (value < 0 || value > RESP_ARG_BYTES_MAX)))
			return request_bad(r, "invalid bulk length");
		if (v == RESP_END && value > most)
			return request_bad(r, "unauthenticated bulk length");
		if (v == RESP_MORE || n - i - head < (size_t)value + 2)
			return n < RESP_HEAD_MAX ? RESP_MORE : request_long(r, p, n, i, r->argc - k, body);
		if (p[i + head + (size_t)value] != '\r' || p[i + head + (size_t)value + 1] != '\n')
			return request_bad(r, "expected CR LF behind a bulk");
		if (r->kept < RESP_ARGS_KEPT)
			r->args[r->kept++] = (struct resp_text){p + i + head, (size_t)value};
		i += head + (size_t)value + 2;
	}
	r->len = i;
	return RESP_END;
}

/* One byte of the line that states a length; false: it can't stand there. */
static bool body_head(struct resp_body *b, uint8_t c)
{
	switch (b->at) {
	case BODY_TYPE:
		b->at = BODY_LENGTH;
		b->left = 0;
		b->digits = 0;
		return c == '$';
	case BODY_LENGTH:
		if (c == '\r') {
			b->at = BODY_LF;
			return b->digits > 0;
		}
		if (c < '0' || c > '9' || (b->digits && !b->left))
			return false;
		b->digits = 1;
		b->left = b->left * 10 + (uint64_t)(c - '0');
		return b->left <= RESP_ARG_BYTES_MAX;
	default:
		b->at = BODY_BYTES;
		b->left += 2;
		return c == '\n';
	}
}

enum resp_verdict resp_body(struct resp_body *b, const uint8_t *p, size_t n, size_t *len)
{
	size_t i = 0;

	while (i < n) {
		size_t part;

		if (b->at != BODY_BYTES) {
			if (!body_head(b, p[i++]))
				return RESP_BAD;
			continue;
		}
		part = b->left > 2 ? (size_t)b->left - 2 : 0;
		if (part > n - i)
			part = n - i;
		b->left -= part;
		i += part;
		if (i == n)
			break;
		if (p[i++] != (b->left == 2 ? '\r' : '\n'))
			return RESP_BAD;
		if (--b->left)
			continue;
		b->at = BODY_TYPE;
		if (--b->args_left == 0) {
			*len = i;
			return RESP_END;
		}
	}
	*len = n;
	return RESP_PART;
}

/* ---- replies ---- */

static inline uint32_t *frame_level(struct resp_frame *f, unsigned depth)
{
	return depth <= RESP_DEPTH_INLINE ? &f->level[depth - 1] : &f->deep[depth - 1 - RESP_DEPTH_INLINE];
}

static bool frame_push(struct resp_frame *f, uint32_t level)
{
	if (f->depth == RESP_DEPTH_MAX)
		return false;
	if (f->depth == RESP_DEPTH_INLINE && !f->deep)
		f->deep = mem_alloc((RESP_DEPTH_MAX - RESP_DEPTH_INLINE) * sizeof(*f->deep));
	f->depth++;
	*frame_level(f, f->depth) = level;
	return true;
}

static void frame_drop_deep(struct resp_frame *f)
{
	mem_free(f->deep);
	f->deep = NULL;
}

void resp_frame_drop(struct resp_frame *f)
{
	frame_drop_deep(f);
	*f = (struct resp_frame){0};
}

/* An element is complete, and with it maybe those around it; true: so is the reply. */
static inline bool frame_element(struct resp_frame *f)
{
	while (f->depth) {
		uint32_t *l = frame_level(f, f->depth), was;

		if (*l & LEVEL_STREAM) {
			if (*l & LEVEL_MAP)
				*l ^= 1;
			return false;
		}
		was = (*l)--;
		if ((was & LEVEL_COUNT) > 1)
			return false;
		f->depth--;
		if ((was & LEVEL_ATTRIBUTE) && f->depth)
			return false;
	}
	return true;
}

/* A string's or chunk's bytes, as far as they are there. False: not what the server announced. */
static bool frame_bytes(struct resp_frame *f, const uint8_t *p, size_t n, size_t *i)
{
	size_t part = f->left > 2 ? (size_t)f->left - 2 : 0;

	if (part > n - *i)
		part = n - *i;
	f->left -= part;
	*i += part;
	while (*i < n && f->left) {
		if (p[*i] != (f->left == 2 ? '\r' : '\n'))
			return false;
		f->left--;
		(*i)++;
	}
	return true;
}

/* The end of a line that is longer than a head, which may be cut between its CR and LF. */
static bool frame_line(const uint8_t *p, size_t n, size_t *i)
{
	size_t end = resp_line(p + *i, n - *i);

	if (end < n - *i) {
		*i += end + 2;
		return true;
	}
	*i = n - (n > *i && p[n - 1] == '\r');
	return false;
}

static bool line_is_number(const uint8_t *p, size_t n)
{
	if (n && (*p == '-' || *p == '+')) {
		p++;
		n--;
	}
	if (n == 0)
		return false;
	for (; n > 0; p++, n--) {
		if (*p < '0' || *p > '9')
			return false;
	}
	return true;
}

/* Lines that hold a value. */
static enum resp_verdict head_line(struct resp_frame *f, const uint8_t *p, size_t n, size_t *len)
{
	size_t end = resp_line(p, n);

	if (end == n) {
		if (n < RESP_HEAD_MAX)
			return RESP_MORE;
		if (*p != '+' && *p != '-' && *p != '(')
			return RESP_BAD;
		f->at = FRAME_LINE;
		*len = n - (p[n - 1] == '\r');
		return RESP_PART;
	}
	*len = end + 2;
	switch (*p) {
	case ':':
		if (f->depth <= 1 && resp_integer(p + 1, end - 1, &f->integer))
			return RESP_END;
		return end <= 21 && line_is_number(p + 1, end - 1) ? RESP_END : RESP_BAD;
	case '(':
		return line_is_number(p + 1, end - 1) ? RESP_END : RESP_BAD;
	case '#':
		return end == 2 && (p[1] == 't' || p[1] == 'f') ? RESP_END : RESP_BAD;
	case '_':
		return end == 1 ? RESP_END : RESP_BAD;
	case ',':
		return end > 1 && end <= 128 ? RESP_END : RESP_BAD;
	default:
		return RESP_END;
	}
}

/* "$", "=" and "!": a number of bytes. */
static enum resp_verdict head_string(struct resp_frame *f, const uint8_t *p, size_t n, size_t *len)
{
	enum resp_verdict v;
	int64_t value;

	if (*p == '$' && n >= 2 && p[1] == '?') {
		if (n < 4)
			return (n == 3 && p[2] != '\r') ? RESP_BAD : RESP_MORE;
		f->at = FRAME_CHUNKS;
		*len = 4;
		return p[2] == '\r' && p[3] == '\n' ? RESP_PART : RESP_BAD;
	}
	v = number_line(p, n, &value, len);
	if (v != RESP_END)
		return v;
	if (value == -1 && *p == '$')
		return RESP_END;
	/* A verbatim string begins with its format and a colon. */
	if (value < (*p == '=' ? 4 : 0) || value > RESP_BULK_BYTES_MAX)
		return RESP_BAD;
	f->left = (uint64_t)value + 2;
	f->at = FRAME_STRING;
	return RESP_PART;
}

/* Aggregates: a number of elements, twice that of a map. */
static enum resp_verdict head_aggregate(struct resp_frame *f, const uint8_t *p, size_t n, size_t *len)
{
	bool pairs = *p == '%' || *p == '|';
	enum resp_verdict v;
	int64_t value;

	/* Nothing but a whole message may be a push. */
	if (*p == '>' && f->depth)
		return RESP_BAD;
	if (n >= 2 && p[1] == '?' && *p != '|' && *p != '>') {
		if (n < 4)
			return (n == 3 && p[2] != '\r') ? RESP_BAD : RESP_MORE;
		*len = 4;
		if (p[2] != '\r' || p[3] != '\n' || !frame_push(f, LEVEL_STREAM | (pairs ? LEVEL_MAP : 0)))
			return RESP_BAD;
		return RESP_PART;
	}
	v = number_line(p, n, &value, len);
	if (v != RESP_END)
		return v;
	if (value == -1 && *p == '*')
		return RESP_END;
	if (value < 0 || value > (pairs ? RESP_ELEMENTS_MAX / 2 : RESP_ELEMENTS_MAX))
		return RESP_BAD;
	/* An empty attribute is no element either. */
	if (value == 0)
		return *p == '|' && f->depth ? RESP_PART : RESP_END;
	if (!frame_push(f, (uint32_t)(pairs ? value * 2 : value) | (*p == '|' ? LEVEL_ATTRIBUTE : 0)))
		return RESP_BAD;
	return RESP_PART;
}

/* The end of a streamed aggregate. */
static enum resp_verdict head_end(struct resp_frame *f, const uint8_t *p, size_t n, size_t *len)
{
	uint32_t level = f->depth ? *frame_level(f, f->depth) : 0;

	if (!(level & LEVEL_STREAM) || (level & 1) || (n >= 2 && p[1] != '\r') || (n >= 3 && p[2] != '\n'))
		return RESP_BAD;
	if (n < 3)
		return RESP_MORE;
	f->depth--;
	*len = 3;
	return RESP_END;
}

/* A chunk of a streamed string; one of no bytes is its end. */
static enum resp_verdict head_chunk(struct resp_frame *f, const uint8_t *p, size_t n, size_t *len)
{
	enum resp_verdict v;
	int64_t value;

	if (*p != ';')
		return RESP_BAD;
	v = number_line(p, n, &value, len);
	if (v != RESP_END)
		return v;
	if (value < 0 || value > RESP_BULK_BYTES_MAX)
		return RESP_BAD;
	if (value == 0) {
		f->at = FRAME_HEAD;
		return RESP_END;
	}
	f->left = (uint64_t)value + 2;
	f->at = FRAME_CHUNK;
	return RESP_PART;
}

/* The head of the next element. END: the element is complete. */
static inline enum resp_verdict frame_head(struct resp_frame *f, const uint8_t *p, size_t n, size_t *len)
{
	switch (*p) {
	case '$':
	case '=':
	case '!':
		return head_string(f, p, n, len);
	case '+':
	case '-':
	case ':':
	case '_':
	case '#':
	case ',':
	case '(':
		return head_line(f, p, n, len);
	case '*':
	case '%':
	case '~':
	case '>':
	case '|':
		return head_aggregate(f, p, n, len);
	case '.':
		return head_end(f, p, n, len);
	default:
		return RESP_BAD;
	}
}

/* One step of the walk. END: an element is complete. MORE: the bytes there are do not suffice for a step. */
static inline enum resp_verdict frame_step(struct resp_frame *f, const uint8_t *p, size_t n, size_t *i)
{
	enum resp_verdict v;
	size_t len;

	switch (f->at) {
	case FRAME_STRING:
	case FRAME_CHUNK:
		if (!frame_bytes(f, p, n, i))
			return RESP_BAD;
		if (f->left)
			return RESP_MORE;
		f->at = f->at == FRAME_CHUNK ? FRAME_CHUNKS : FRAME_HEAD;
		return f->at == FRAME_HEAD ? RESP_END : RESP_PART;
	case FRAME_LINE:
		if (!frame_line(p, n, i))
			return RESP_MORE;
		f->at = FRAME_HEAD;
		return RESP_END;
	}
	if (*i == n)
		return RESP_MORE;
	v = f->at == FRAME_CHUNKS ? head_chunk(f, p + *i, n - *i, &len) : frame_head(f, p + *i, n - *i, &len);
	if (v == RESP_PART || v == RESP_END)
		*i += len;
	return v;
}

enum resp_verdict resp_reply(struct resp_frame *f, const uint8_t *p, size_t n, size_t *len)
{
	size_t i = 0;

	for (;;) {
		enum resp_verdict v = frame_step(f, p, n, &i);

		if (v == RESP_END && !frame_element(f))
			continue;
		if (v == RESP_PART)
			continue;
		*len = i;
		if (v == RESP_MORE)
			return i ? RESP_PART : RESP_MORE;
		if (f->deep)
			frame_drop_deep(f);
		if (v == RESP_BAD) {
			*len = 0;
			resp_frame_drop(f);
		}
		return v;
	}
}
