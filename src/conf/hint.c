/*
 * hint: what may be behind a "syntax error"; see source_hint().
 *
 * Walks the tokens of the text up to the place and reports the first that can't follow the one before it. The text has
 * no comments that are not closed (source.c).
 */
#include <stdio.h>
#include <string.h>

#include "conf/source.h"

#define NEST_MAX 64

enum tok {
	TOK_START,
	TOK_OPEN,
	TOK_CLOSE,
	TOK_COMMA,
	TOK_SEMICOLON,
	TOK_ASSIGN,
	TOK_WORD,
	TOK_NUMBER,
	TOK_STRING,
	TOK_OTHER,
	TOK_END
};

struct hint {
	const char *p; /* text not read yet */
	int line;
	enum tok tok, prev; /* this one and the one before it */
	const char *text;   /* of tok */
	int len;
	int prev_line;
	const char *prev_text;
	int prev_len;
	struct {
		char c;
		int line;
	} nest[NEST_MAX];
	size_t depth;
	char *out;
	size_t cap;
};

static void hint_skip_blank(struct hint *h)
{
	for (;;) {
		if (h->p[0] == '/' && h->p[1] == '*') {
			for (h->p += 2; h->p[0] && !(h->p[0] == '*' && h->p[1] == '/'); h->p++)
				h->line += *h->p == '\n';
			h->p += *h->p ? 2 : 0;
		} else if (*h->p && strchr(" \t\r\f\n", *h->p)) {
			h->line += *h->p++ == '\n';
		} else {
			return;
		}
	}
}

static void hint_string(struct hint *h)
{
	for (h->p++; *h->p && *h->p != '"'; h->p++) {
		h->line += *h->p == '\n';
		if (*h->p == '\\' && h->p[1])
			h->p++;
	}
	h->p += *h->p == '"';
}

static enum tok hint_token(struct hint *h)
{
	char c = *h->p;

	if (c == '"') {
		hint_string(h);
		return TOK_STRING;
	}
	if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || strchr("*_", c)) {
		h->p += strcspn(h->p, " \t\r\f\n\"'=:;,{}()[]#");
		return TOK_WORD;
	}
	if (strchr("0123456789+-.", c)) {
		h->p += strspn(h->p, "+-.");
		h->p += strspn(h->p, "0123456789abcdefABCDEFxXL.");
		return TOK_NUMBER;
	}
	h->p++;
	return strchr("{([", c)	  ? TOK_OPEN
	       : strchr("})]", c) ? TOK_CLOSE
	       : c == ','	  ? TOK_COMMA
	       : c == ';'	  ? TOK_SEMICOLON
	       : strchr("=:", c)  ? TOK_ASSIGN
				  : TOK_OTHER;
}

static void hint_next(struct hint *h)
{
	h->prev = h->tok;
	h->prev_line = h->line;
	h->prev_text = h->text;
	h->prev_len = h->len;
	hint_skip_blank(h);
	h->text = h->p;
	h->tok = *h->p ? hint_token(h) : TOK_END;
	h->len = (int)(h->p - h->text);
	if (h->len > 40)
		h->len = 40;
}

static bool hint_say(struct hint *h, const char *before, const char *quoted, int len, const char *after)
{
	snprintf(h->out, h->cap, "%s%.*s%s", before, len, quoted, after);
	return true;
}

/* The bracket that a closing one belongs to. */
static char hint_partner(char c)
{
	return c == '}' ? '{' : c == ')' ? '(' : '[';
}

static bool hint_close(struct hint *h, int *at)
{
	char opened = h->depth ? h->nest[h->depth - 1].c : 0;

	if (!opened)
		return hint_say(h, "there is nothing for '", h->text, 1, "' to close");
	if (opened != hint_partner(*h->text)) {
		*at = h->nest[h->depth - 1].line;
		return hint_say(h, "the '", &h->nest[h->depth - 1].c, 1, "' that is opened here is not closed");
	}
	h->depth--;
	if (h->prev == TOK_COMMA && *h->text != '}')
		return hint_say(h, "no comma may stand before '", h->text, 1, "'");
	return false;
}

static bool hint_is_bool(const struct hint *h)
{
	return (h->len == 4 && strncasecmp(h->text, "true", 4) == 0) ||
	       (h->len == 5 && strncasecmp(h->text, "false", 5) == 0);
}

static bool hint_after_assign(struct hint *h)
{
	if (h->tok == TOK_WORD && !hint_is_bool(h))
		return hint_say(h, "text needs quotes: \"", h->text, h->len, "\"");
	if (h->tok == TOK_OPEN || h->tok == TOK_NUMBER || h->tok == TOK_STRING || h->tok == TOK_WORD)
		return false;
	return hint_say(h, "the value is missing after '", h->prev_text, h->prev_len, "'");
}

/* Inside ( ) or [ ]. */
static bool hint_in_list(struct hint *h, int *at)
{
	bool value = h->prev == TOK_CLOSE || h->prev == TOK_NUMBER || h->prev == TOK_STRING || h->prev == TOK_WORD;

	if (h->tok == TOK_ASSIGN)
		return hint_say(h, "keys belong inside { } here", "", 0, "");
	if (h->tok == TOK_SEMICOLON)
		return hint_say(h, "elements of a list are separated by ',' not ';'", "", 0, "");
	if (value && (h->tok == TOK_OPEN || h->tok == TOK_NUMBER || h->tok == TOK_STRING)) {
		*at = h->prev_line;
		return hint_say(h, "a ',' is missing after this element", "", 0, "");
	}
	return false;
}

/* A number that goes on as a word is a duration or an address without its quotes. */
static bool hint_glued(struct hint *h)
{
	int len = (int)strcspn(h->prev_text, " \t\r\f\n;,{}()[]\"");

	if (h->prev != TOK_NUMBER || h->prev_text + h->prev_len != h->text ||
	    (h->tok != TOK_WORD && h->tok != TOK_ASSIGN))
		return false;
	return hint_say(h, "text needs quotes: \"", h->prev_text, len > 40 ? 40 : len, "\"");
}

static bool hint_in_group(struct hint *h)
{
	if (h->prev == TOK_WORD && h->tok != TOK_ASSIGN && !(h->tok == TOK_SEMICOLON || h->tok == TOK_COMMA) &&
	    h->tok != TOK_WORD && h->tok != TOK_CLOSE && h->tok != TOK_END)
		return hint_say(h, "'=' is missing after \"", h->prev_text, h->prev_len, "\"");
	return false;
}

static bool hint_check(struct hint *h, int *at)
{
	bool list = h->depth && h->nest[h->depth - 1].c != '{';

	if (hint_glued(h))
		return true;
	if (h->prev == TOK_ASSIGN) {
		if (hint_after_assign(h))
			return true;
	} else if (list ? hint_in_list(h, at) : hint_in_group(h)) {
		return true;
	}
	if (h->tok == TOK_CLOSE)
		return hint_close(h, at);
	if (h->tok == TOK_OPEN && h->depth < NEST_MAX) {
		h->nest[h->depth].c = *h->text;
		h->nest[h->depth++].line = h->line;
	}
	return false;
}

bool source_hint(const char *text, int line, int *at, char *out, size_t cap)
{
	struct hint h = {.p = text, .line = 1, .text = text, .out = out, .cap = cap};

	do {
		hint_next(&h);
		*at = h.line;
		if (h.depth == NEST_MAX)
			return false;
		/* libconfig reads one token ahead, so the culprit is on its line or before. */
		if (h.line > line && h.tok != TOK_END)
			return false;
		if (h.tok == TOK_END && h.depth) {
			*at = h.nest[h.depth - 1].line;
			return hint_say(&h, "the '", &h.nest[h.depth - 1].c, 1,
					"' that is opened here is not closed");
		}
		if (hint_check(&h, at))
			return true;
	} while (h.tok != TOK_END);
	return false;
}
