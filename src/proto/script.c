/*
 * script: compiling and running the send/expect language.
 *
 * A pattern becomes a row of symbols (a byte, "any byte", "any run") and is matched by the greedy two-pointer walk that
 * remembers only the last run seen: no recursion, at most reply x pattern comparisons whatever the peer sends. The walk
 * keeps its place between calls, so what arrives in one piece or byte by byte gives the same verdict. The end of a
 * reply is looked for the same way, as the pattern "any run, then `end`".
 *
 * When a reply matches both patterns it is a denial: the stricter reading. A denial is final whatever follows it.
 * Bytes behind a reply belong to the next one, because how a peer cuts its bytes says nothing; behind the last reply
 * they are dirt.
 */
#include "proto/script.h"

#include <string.h>

#include "base/mem.h"

#define SYMBOL_ANY 256 /* ? */
#define SYMBOL_RUN 257 /* * */

/* The reply as it lies in its blocks, 4 KiB each. */
#define REPLY_IOV 16

struct pattern {
	uint16_t *symbols; /* bytes and SYMBOL_*; the last one is never a run */
	size_t n;
};

enum part_kind { PART_TEXT, PART_USERNAME, PART_PASSWORD };

struct part {
	enum part_kind kind;
	char *text; /* PART_TEXT */
	size_t n;
};

struct step {
	struct part *parts; /* what is sent */
	size_t n_parts;
	bool has_reply, has_denied;
	struct pattern expect, denied;
	struct pattern end; /* n 0: the reply ends where a pattern matches */
};

struct script {
	struct step *steps;
	size_t n;
	bool needs_credential;
};

/* Where an index into the reply is. */
struct text {
	struct iovec iov[REPLY_IOV];
	int n;
	int at;	     /* the piece looked at last */
	size_t base; /* index of its first byte */
};

/* ---- compiling ---- */

static void pattern_add(struct pattern *p, uint16_t symbol)
{
	if (symbol == SYMBOL_RUN && p->n && p->symbols[p->n - 1] == SYMBOL_RUN)
		return;
	p->symbols[p->n++] = symbol;
}

static bool pattern_compile(struct pattern *p, const char *text, const char **why)
{
	size_t n = strlen(text);

	if (n > SCRIPT_PATTERN_MAX) {
		*why = "a pattern is longer than 1024 bytes";
		return false;
	}
	p->symbols = mem_alloc((n + 1) * sizeof(*p->symbols));
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c == '*')
			pattern_add(p, SYMBOL_RUN);
		else if (c == '?')
			pattern_add(p, SYMBOL_ANY);
		else if (c == '\\' && (text[i + 1] == '*' || text[i + 1] == '?' || text[i + 1] == '\\'))
			pattern_add(p, (unsigned char)text[++i]);
		else
			pattern_add(p, c);
	}
	/* A prefix is enough, so a run at the end asks for nothing. */
	if (p->n && p->symbols[p->n - 1] == SYMBOL_RUN)
		p->n--;
	return true;
}

static bool end_compile(struct pattern *p, const char *text, const char **why)
{
	size_t n = strlen(text);

	if (n > SCRIPT_PATTERN_MAX) {
		*why = "end is longer than 1024 bytes";
		return false;
	}
	if (!n)
		return true;
	p->symbols = mem_alloc((n + 1) * sizeof(*p->symbols));
	pattern_add(p, SYMBOL_RUN);
	for (size_t i = 0; i < n; i++)
		pattern_add(p, (unsigned char)text[i]);
	return true;
}

static void part_add(struct step *s, enum part_kind kind, const char *text, size_t n)
{
	struct part *last = s->n_parts ? &s->parts[s->n_parts - 1] : NULL;

	if (kind == PART_TEXT && last && last->kind == PART_TEXT) {
		last->text = mem_realloc(last->text, last->n + n);
		memcpy(last->text + last->n, text, n);
		last->n += n;
		return;
	}
	s->parts = mem_realloc(s->parts, (s->n_parts + 1) * sizeof(*s->parts));
	last = &s->parts[s->n_parts++];
	*last = (struct part){.kind = kind};
	if (kind == PART_TEXT) {
		last->text = mem_alloc(n);
		memcpy(last->text, text, n);
		last->n = n;
	}
}

/* Compiles what follows a "$"; returns how many bytes it took, 0 for a mistake. */
static size_t send_compile_dollar(struct step *s, const char *p, const char **why)
{
	static const char username[] = "{username}", password[] = "{password}";

	if (*p == '$') {
		part_add(s, PART_TEXT, p, 1);
		return 1;
	}
	if (!strncmp(p, username, sizeof(username) - 1)) {
		part_add(s, PART_USERNAME, NULL, 0);
		return sizeof(username) - 1;
	}
	if (!strncmp(p, password, sizeof(password) - 1)) {
		part_add(s, PART_PASSWORD, NULL, 0);
		return sizeof(password) - 1;
	}
	if (*p != '{')
		*why = "a dollar sign in send is written \"$$\"";
	else if (!strchr(p, '}'))
		*why = "\"${\" in send is not closed by \"}\"";
	else
		*why = "send knows ${username} and ${password} only";
	return 0;
}

static bool send_compile(struct step *s, const char *text, const char **why)
{
	if (strlen(text) > SCRIPT_SEND_MAX) {
		*why = "send is longer than 16384 bytes";
		return false;
	}
	while (*text) {
		size_t n = strcspn(text, "$");

		if (n)
			part_add(s, PART_TEXT, text, n);
		text += n;
		if (!*text)
			break;
		n = send_compile_dollar(s, ++text, why);
		if (!n)
			return false;
		text += n;
	}
	return true;
}

static bool step_is_sound(const struct script_step *w, const char **why)
{
	bool sends = w->send && *w->send;

	if (!sends && !w->expect && !w->expect_denied)
		*why = "a step needs send or expect";
	else if (!w->expect && w->expect_denied)
		*why = "expect_denied without expect: no reply could be right";
	else if (!w->expect && w->end)
		*why = "end without expect";
	else
		return true;
	return false;
}

static bool step_compile(struct step *s, const struct script_step *w, const char **why)
{
	if (!step_is_sound(w, why) || !send_compile(s, w->send ? w->send : "", why))
		return false;
	if (!w->expect)
		return true;
	s->has_reply = true;
	s->has_denied = w->expect_denied != NULL;
	if (!pattern_compile(&s->expect, w->expect, why) ||
	    (s->has_denied && !pattern_compile(&s->denied, w->expect_denied, why)) ||
	    !end_compile(&s->end, w->end ? w->end : "\n", why))
		return false;
	if (!s->end.n && (!s->expect.n || (s->has_denied && !s->denied.n))) {
		*why = "with end = \"\" a pattern must need at least one byte";
		return false;
	}
	return true;
}

enum err script_compile(const struct script_step *steps, size_t n, struct script **out, size_t *bad_step,
			const char **why)
{
	struct script *s;

	*out = NULL;
	*bad_step = 0;
	if (n < 1) {
		*why = "a script needs at least one step";
		return ERR_CONFIG;
	}
	if (n > SCRIPT_STEPS_MAX) {
		*bad_step = SCRIPT_STEPS_MAX;
		*why = "a script has at most 32 steps";
		return ERR_CONFIG;
	}
	s = NEW(struct script);
	s->steps = mem_alloc(n * sizeof(*s->steps));
	for (s->n = 0; s->n < n; s->n++) {
		struct step *step = &s->steps[s->n];

		if (!step_compile(step, &steps[s->n], why)) {
			*bad_step = s->n++;
			script_free(&s);
			return ERR_CONFIG;
		}
		for (size_t i = 0; i < step->n_parts; i++)
			s->needs_credential |= step->parts[i].kind != PART_TEXT;
	}
	*out = s;
	return ERR_OK;
}

void script_free(struct script **s)
{
	if (!*s)
		return;
	for (size_t i = 0; i < (*s)->n; i++) {
		struct step *step = &(*s)->steps[i];

		for (size_t j = 0; j < step->n_parts; j++)
			mem_free(step->parts[j].text);
		mem_free(step->parts);
		mem_free(step->expect.symbols);
		mem_free(step->denied.symbols);
		mem_free(step->end.symbols);
	}
	mem_free((*s)->steps);
	mem_free(*s);
	*s = NULL;
}

bool script_needs_credential(const struct script *s)
{
	return s->needs_credential;
}

/* ---- matching ---- */

static void text_open(struct text *t, const struct buf *b)
{
	t->n = buf_iov(b, t->iov, REPLY_IOV);
	t->at = 0;
	t->base = 0;
}

static uint8_t text_at(struct text *t, size_t i)
{
	while (i < t->base)
		t->base -= t->iov[--t->at].iov_len;
	while (i - t->base >= t->iov[t->at].iov_len) {
		t->base += t->iov[t->at++].iov_len;
		BUG_ON(t->at >= t->n);
	}
	return ((const uint8_t *)t->iov[t->at].iov_base)[i - t->base];
}

/*
 * Walks on over the first `len` bytes of the text; true once the pattern matches a prefix, whose length is then m->text.
 * The leftmost place for each stretch between two runs is never wrong, so that prefix is the shortest.
 */
static bool match_walk(struct script_match *m, const struct pattern *p, struct text *t, size_t len)
{
	while (m->symbol < p->n && !m->dead) {
		uint16_t want = p->symbols[m->symbol];

		if (want == SYMBOL_RUN) {
			m->after_run = ++m->symbol;
			m->run_text = m->text;
			continue;
		}
		if (m->text >= len)
			return false;
		if (want == SYMBOL_ANY || want == text_at(t, m->text)) {
			m->symbol++;
			m->text++;
		} else if (m->after_run) {
			m->symbol = m->after_run;
			m->text = ++m->run_text;
		} else {
			m->dead = true;
		}
	}
	return !m->dead;
}

static bool match_prefix(const struct pattern *p, struct text *t, size_t len)
{
	struct script_match m = {0};

	return match_walk(&m, p, t, len);
}

/* What the reply kept so far says; *len (out) is its length when that is DONE or DENIED. */
static enum script_verdict reply_judge(struct script_run *r, const struct step *s, size_t *len)
{
	struct script_match *a = &r->match[0], *b = &r->match[1];
	struct text t;
	bool ok, denied;

	text_open(&t, &r->reply);
	if (s->end.n) {
		if (!match_walk(a, &s->end, &t, buf_len(&r->reply)))
			return SCRIPT_MORE;
		*len = a->text;
		if (s->has_denied && match_prefix(&s->denied, &t, *len))
			return SCRIPT_DENIED;
		return match_prefix(&s->expect, &t, *len) ? SCRIPT_DONE : SCRIPT_FAILED;
	}
	ok = match_walk(a, &s->expect, &t, buf_len(&r->reply));
	denied = s->has_denied && match_walk(b, &s->denied, &t, buf_len(&r->reply));
	if (denied && (!ok || b->text <= a->text)) {
		*len = b->text;
		return SCRIPT_DENIED;
	}
	*len = a->text;
	if (ok)
		return SCRIPT_DONE;
	return a->dead && (!s->has_denied || b->dead) ? SCRIPT_FAILED : SCRIPT_MORE;
}

/* ---- running ---- */

static bool step_send(const struct step *s, const struct script_cred *cred, struct buf *out)
{
	for (size_t i = 0; i < s->n_parts; i++) {
		const struct part *p = &s->parts[i];

		switch (p->kind) {
		case PART_TEXT:
			buf_append(out, p->text, p->n);
			break;
		case PART_USERNAME:
			if (!cred || !cred->username)
				return false;
			buf_append(out, cred->username, strlen(cred->username));
			break;
		case PART_PASSWORD:
			if (!cred || !cred->password)
				return false;
			secret_append(cred->password, out);
			break;
		}
	}
	return true;
}

/* Sends from r->step on, up to and including the first step that waits for a reply. */
static enum script_verdict run_send(struct script_run *r, const struct script_cred *cred, struct buf *out)
{
	const struct script *s = r->script;

	for (; r->step < s->n; r->step++) {
		if (!step_send(&s->steps[r->step], cred, out))
			return SCRIPT_FAILED;
		if (s->steps[r->step].has_reply)
			return SCRIPT_MORE;
	}
	return SCRIPT_DONE;
}

static void run_drop_reply(struct script_run *r)
{
	buf_clear(&r->reply);
	memset(r->match, 0, sizeof(r->match));
}

/* Takes bytes until the reply waited for is complete; *n_used (out) of them belong to it. */
static enum script_verdict run_take(struct script_run *r, const uint8_t *p, size_t n, size_t *n_used)
{
	size_t had = buf_len(&r->reply), take = SCRIPT_REPLY_MAX - had, len = 0;
	enum script_verdict v;

	if (take > n)
		take = n;
	buf_append(&r->reply, p, take);
	v = reply_judge(r, &r->script->steps[r->step], &len);
	if (v == SCRIPT_MORE) {
		*n_used = take;
		return had + take == SCRIPT_REPLY_MAX ? SCRIPT_FAILED : SCRIPT_MORE;
	}
	*n_used = v == SCRIPT_FAILED ? take : len - had;
	run_drop_reply(r);
	return v;
}

enum script_verdict script_start(struct script_run *r, const struct script *s, struct blocks *blocks,
				 const struct script_cred *cred, struct buf *out)
{
	enum script_verdict v;

	memset(r, 0, sizeof(*r));
	r->script = s;
	buf_init(&r->reply, blocks);
	v = run_send(r, cred, out);
	if (v != SCRIPT_MORE)
		script_stop(r);
	return v;
}

enum script_verdict script_feed(struct script_run *r, const uint8_t *p, size_t n, const struct script_cred *cred,
				struct buf *out)
{
	enum script_verdict v = SCRIPT_MORE;

	BUG_ON(!r->script);
	while (n > 0 && v == SCRIPT_MORE) {
		size_t used;

		v = run_take(r, p, n, &used);
		p += used;
		n -= used;
		if (v != SCRIPT_DONE)
			continue;
		r->step++;
		v = run_send(r, cred, out);
		if (v == SCRIPT_DONE && n > 0)
			v = SCRIPT_FAILED;
	}
	if (v != SCRIPT_MORE)
		script_stop(r);
	return v;
}

void script_stop(struct script_run *r)
{
	if (!r->script)
		return;
	run_drop_reply(r);
	r->script = NULL;
}
