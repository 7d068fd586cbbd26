/* print: a field as it would be written in a file, one function per type; see value.h. */
#include <stdlib.h>
#include <string.h>

#include "base/units.h"
#include "conf/value.h"

void value_print_string(const char *s, FILE *f)
{
	putc('"', f);
	for (; *s; s++) {
		unsigned char c = (unsigned char)*s;
		const char *letter = strchr("\nn\rr\tt\ff", c);

		if (c == '"' || c == '\\')
			fprintf(f, "\\%c", c);
		else if (letter && c < ' ')
			fprintf(f, "\\%c", letter[1]);
		else if (c < ' ' || c == 0x7f)
			fprintf(f, "\\x%02x", c);
		else
			putc(c, f);
	}
	putc('"', f);
}

static void print_bool(const struct key *k, const void *field, FILE *f)
{
	(void)k;
	fputs(*(const bool *)field ? "true" : "false", f);
}

static void print_int(const struct key *k, const void *field, FILE *f)
{
	(void)k;
	fprintf(f, "%lld", (long long)*(const int64_t *)field);
}

static void print_mode(const struct key *k, const void *field, FILE *f)
{
	(void)k;
	fprintf(f, "\"%04o\"", *(const unsigned int *)field);
}

/* The shortest digits that read back as the same number, in a form libconfig takes for a number. */
static void print_float(const struct key *k, const void *field, FILE *f)
{
	double d = *(const double *)field;
	char text[40];

	(void)k;
	for (int digits = 1; digits <= 17; digits++) {
		snprintf(text, sizeof(text), "%.*g", digits, d);
		if (strtod(text, NULL) <= d && strtod(text, NULL) >= d)
			break;
	}
	fprintf(f, "%s%s", text, strpbrk(text, ".e") ? "" : ".0");
}

static void print_duration(const struct key *k, const void *field, FILE *f)
{
	char text[64];

	(void)k;
	duration_format(*(const int64_t *)field, text, sizeof(text));
	fprintf(f, "\"%s\"", text);
}

static void print_size(const struct key *k, const void *field, FILE *f)
{
	char text[64];

	(void)k;
	size_format(*(const int64_t *)field, text, sizeof(text));
	fprintf(f, "\"%s\"", text);
}

static void print_string(const struct key *k, const void *field, FILE *f)
{
	const char *s = *(const char *const *)field;

	(void)k;
	value_print_string(s ? s : "", f);
}

static void print_choice(const struct key *k, const void *field, FILE *f)
{
	const char *p = k->choices;

	for (int i = *(const int *)field; i > 0; i--)
		p = strchr(p, '|') + 1;
	fprintf(f, "\"%.*s\"", (int)strcspn(p, "|"), p);
}

static void print_script(const struct key *k, const void *field, FILE *f)
{
	const struct conf_script *script = field;

	(void)k;
	fputs("(", f);
	for (size_t i = 0; i < script->n; i++) {
		const struct conf_step *st = &script->v[i];
		const char *texts[VALUE_STEP_KEYS] = {st->send, st->expect, st->expect_denied, st->end};

		fputs(i ? ", { " : " { ", f);
		for (size_t j = 0; j < VALUE_STEP_KEYS; j++) {
			if (!texts[j])
				continue;
			fprintf(f, "%s = ", value_step_keys[j]);
			value_print_string(texts[j], f);
			fputs("; ", f);
		}
		fputs("}", f);
	}
	fputs(script->n ? " )" : ")", f);
}

static void print_strings(const struct key *k, const void *field, FILE *f)
{
	const struct conf_strings *list = field;

	(void)k;
	fputs("(", f);
	for (size_t i = 0; i < list->n; i++) {
		fputs(i ? ", " : " ", f);
		value_print_string(list->v[i], f);
	}
	fputs(list->n ? " )" : ")", f);
}

static void print_uids(const struct key *k, const void *field, FILE *f)
{
	const struct conf_uids *list = field;

	(void)k;
	fputs("(", f);
	for (size_t i = 0; i < list->n; i++)
		fprintf(f, "%s%u", i ? ", " : " ", list->v[i]);
	fputs(list->n ? " )" : ")", f);
}

static void print_secret(const struct key *k, const void *field, FILE *f)
{
	(void)k;
	(void)field;
	fputs("\"\"", f);
}

static void (*const prints[KEY_TYPE_COUNT])(const struct key *k, const void *field, FILE *f) = {
	[KEY_TYPE_BOOL] = print_bool,	    [KEY_TYPE_INT] = print_int,		  [KEY_TYPE_MODE] = print_mode,
	[KEY_TYPE_FLOAT] = print_float,	    [KEY_TYPE_DURATION] = print_duration, [KEY_TYPE_SIZE] = print_size,
	[KEY_TYPE_STRING] = print_string,   [KEY_TYPE_CHOICE] = print_choice,	  [KEY_TYPE_SCRIPT] = print_script,
	[KEY_TYPE_STRINGS] = print_strings, [KEY_TYPE_UIDS] = print_uids,	  [KEY_TYPE_SECRET] = print_secret,
};

void value_print(const struct key *k, const void *field, FILE *f)
{
	prints[k->type](k, field, f);
}
