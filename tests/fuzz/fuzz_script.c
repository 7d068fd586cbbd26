/*
 * fuzz_script: compiles a script taken from the input and runs it against a peer taken from the input.
 *
 * Oracles, beside the sanitizers:
 *	- a slow reference of the language, written from script.h alone (recursive matcher over a whole reply), agrees on
 *	  the verdict, on the byte at which it comes and on what is sent;
 *	- the verdict does not depend on how the peer's bytes are cut: whole, byte by byte, and cut as the input says;
 *	- a finished run holds no block.
 *
 * The input is text with 0x00 as separator, so that a corpus can be written by hand:
 *	FLAGS NUL { SEND NUL EXPECT NUL DENIED NUL END NUL } x steps, then the rest is what the peer says.
 *	FLAGS is a digit for the number of steps (0-7), then a letter: how the third run is cut. A text of a single 0x01 is
 *	absent. In what the peer says nothing is special.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "proto/script.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS_MAX 7
#define WORK_MAX  30000 /* steps of the reference before an input is given up as too slow */

struct input {
	char *text; /* the texts, NUL-terminated as they lie */
	struct script_step steps[STEPS_MAX];
	size_t n;
	unsigned cut;
	const uint8_t *says;
	size_t n_says;
};

struct outcome {
	enum script_verdict v;
	size_t used; /* bytes of the peer up to the verdict */
	uint8_t sent[1 << 16];
	size_t n_sent;
};

static struct blocks blocks;

/* ---- the reference ---- */

static long work;

/* Whether the pattern matches exactly p[0..n). */
static bool ref_match(const char *pat, const uint8_t *p, size_t n)
{
	if (--work < 0)
		return false;
	if (!*pat)
		return n == 0;
	if (*pat == '*')
		return ref_match(pat + 1, p, n) || (n > 0 && ref_match(pat, p + 1, n - 1));
	if (n == 0)
		return false;
	if (*pat == '?')
		return ref_match(pat + 1, p + 1, n - 1);
	if (*pat == '\\' && pat[1] && strchr("*?\\", pat[1]))
		pat++;
	return (uint8_t)*pat == *p && ref_match(pat + 1, p + 1, n - 1);
}

/* Length of the shortest prefix that matches; n + 1: none. */
static size_t ref_prefix(const char *pat, const uint8_t *p, size_t n)
{
	for (size_t k = 0; pat && k <= n; k++)
		if (ref_match(pat, p, k))
			return k;
	return n + 1;
}

static void ref_send(struct outcome *o, const char *text)
{
	while (text && *text) {
		static const char *const name[] = {"$$", "${username}"}, *const value[] = {"$", "us\xe9r"};
		int i = *text == '$' ? (text[1] == '$' ? 0 : 1) : -1;
		const char *put = i < 0 ? text : value[i];
		size_t n = i < 0 ? 1 : strlen(put);

		if (o->n_sent + n <= sizeof(o->sent))
			memcpy(o->sent + o->n_sent, put, n);
		o->n_sent += n;
		text += i < 0 ? 1 : strlen(name[i]);
	}
}

/* One reply at p; *len (out) is its length when the verdict is DONE or DENIED. */
static enum script_verdict ref_reply(const struct script_step *s, const uint8_t *p, size_t n, size_t *len)
{
	const char *end = s->end ? s->end : "\n";
	size_t n_end = strlen(end), cap = n < SCRIPT_REPLY_MAX ? n : SCRIPT_REPLY_MAX, ok, no;

	if (n_end) {
		for (*len = n_end; *len <= cap; ++*len)
			if (!memcmp(p + *len - n_end, end, n_end))
				break;
		if (*len > cap)
			return n >= SCRIPT_REPLY_MAX ? SCRIPT_FAILED : SCRIPT_MORE;
		if (ref_prefix(s->expect_denied, p, *len) <= *len)
			return SCRIPT_DENIED;
		return ref_prefix(s->expect, p, *len) <= *len ? SCRIPT_DONE : SCRIPT_FAILED;
	}
	ok = ref_prefix(s->expect, p, cap);
	no = ref_prefix(s->expect_denied, p, cap);
	*len = ok < no ? ok : no;
	if (*len <= cap)
		return ok < no ? SCRIPT_DONE : SCRIPT_DENIED;
	/* Waiting on is a matter of taste while nothing matches: see check_reference(). */
	return n >= SCRIPT_REPLY_MAX ? SCRIPT_FAILED : SCRIPT_MORE;
}

static void ref_run(const struct input *in, struct outcome *o)
{
	o->v = SCRIPT_DONE;
	o->used = 0;
	o->n_sent = 0;
	for (size_t i = 0; i < in->n; i++) {
		size_t len;

		ref_send(o, in->steps[i].send);
		if (!in->steps[i].expect)
			continue;
		o->v = ref_reply(&in->steps[i], in->says + o->used, in->n_says - o->used, &len);
		if (o->v == SCRIPT_MORE || o->v == SCRIPT_FAILED)
			return;
		o->used += len;
		if (o->v == SCRIPT_DENIED)
			return;
	}
}

/* ---- the thing itself ---- */

/* Cuts: 0 whole, 1 byte by byte, else pieces of changing size. */
static void real_run(const struct script *s, const struct input *in, unsigned cut, struct outcome *o)
{
	struct script_cred cred = {.username = "us\xe9r"};
	struct script_run r;
	struct buf out;
	unsigned x = cut;

	buf_init(&out, &blocks);
	o->used = 0;
	o->v = script_start(&r, s, &blocks, &cred, &out);
	while (o->v == SCRIPT_MORE && o->used < in->n_says) {
		size_t n = in->n_says - o->used, k = cut == 0	? n
						     : cut == 1 ? 1
								: 1 + (x = x * 1103515245u + 12345u) % (cut * 3);

		if (k > n)
			k = n;
		o->v = script_feed(&r, in->says + o->used, k, &cred, &out);
		o->used += k;
	}
	if (o->v == SCRIPT_MORE)
		script_stop(&r);
	script_stop(&r);
	o->n_sent = buf_len(&out);
	buf_copy(&out, o->sent, sizeof(o->sent));
	buf_clear(&out);
	BUG_ON(blocks.nused != 0);
}

static void same_sent(const struct outcome *a, const struct outcome *b)
{
	BUG_ON(a->n_sent != b->n_sent);
	BUG_ON(a->n_sent <= sizeof(a->sent) && memcmp(a->sent, b->sent, a->n_sent) != 0);
}

/* Fed byte by byte the verdict comes exactly where the reference says. */
static void check_reference(const struct input *in, const struct outcome *ref, const struct outcome *one)
{
	bool open = false;

	if (work < 0)
		return;
	for (size_t i = 0; i < in->n; i++)
		open |= in->steps[i].end && !*in->steps[i].end;
	/* Without an end, a reply that can't match any more fails early; the reference waits for its limit. */
	if (open && ref->v == SCRIPT_MORE && one->v == SCRIPT_FAILED)
		return;
	BUG_ON(ref->v != one->v);
	if (ref->v == SCRIPT_DONE || ref->v == SCRIPT_DENIED)
		BUG_ON(ref->used != one->used);
	same_sent(ref, one);
}

/* Bytes behind the last reply fail a run that sees them together with it, and only that. */
static void check_cut(const struct outcome *one, const struct outcome *other)
{
	if (one->v == SCRIPT_DONE && other->used > one->used)
		BUG_ON(other->v != SCRIPT_FAILED);
	else
		BUG_ON(other->v != one->v);
	BUG_ON(other->used < one->used);
	same_sent(one, other);
}

/* ---- input ---- */

static const char *input_text(char **p, size_t *left)
{
	char *t = *p;
	size_t n = strnlen(t, *left);

	*p += n < *left ? n + 1 : n;
	*left -= n < *left ? n + 1 : n;
	return t[0] == 1 && t[1] == '\0' ? NULL : t;
}

static bool input_parse(struct input *in, const uint8_t *data, size_t size)
{
	char *p;
	size_t left = size;

	if (size < 3)
		return false;
	in->text = p = malloc(size + 1);
	memcpy(p, data, size);
	p[size] = '\0';
	in->n = (unsigned)(p[0] - '0') & STEPS_MAX;
	in->cut = 2 + ((unsigned char)p[1] & 63);
	p += 2;
	left -= 2;
	input_text(&p, &left);
	for (size_t i = 0; i < in->n; i++) {
		struct script_step *s = &in->steps[i];

		s->send = input_text(&p, &left);
		s->expect = input_text(&p, &left);
		s->expect_denied = input_text(&p, &left);
		s->end = input_text(&p, &left);
	}
	in->says = (const uint8_t *)p;
	in->n_says = left;
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct outcome ref, one, other;
	struct input in = {0};
	struct script *s;
	size_t bad = 99;
	const char *why = NULL;

	if (!blocks.get)
		blocks_init(&blocks, 0);
	if (!input_parse(&in, data, size))
		return 0;
	if (script_compile(in.steps, in.n, &s, &bad, &why) != ERR_OK) {
		BUG_ON(s || !why || bad > in.n);
	} else {
		bool secret = false;

		for (size_t i = 0; i < in.n; i++)
			secret |= in.steps[i].send && strstr(in.steps[i].send, "{password}") != NULL;
		/* A password needs the arena and its blocks: the unit tests' matter. */
		if (!secret) {
			work = WORK_MAX;
			ref_run(&in, &ref);
			real_run(s, &in, 1, &one);
			check_reference(&in, &ref, &one);
			real_run(s, &in, 0, &other);
			check_cut(&one, &other);
			real_run(s, &in, in.cut, &other);
			check_cut(&one, &other);
		}
		script_free(&s);
	}
	free(in.text);
	return 0;
}
