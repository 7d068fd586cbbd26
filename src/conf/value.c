/* value: reading and storing, one function per type; see value.h. Printing is in print.c. */
#include "conf/value.h"

#include <errno.h>
#include <grp.h>
#include <math.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/units.h"

const char *const value_step_keys[VALUE_STEP_KEYS] = {"send", "expect", "expect_denied", "end"};

const char *value_kind_text(const struct value *v)
{
	static const char *const texts[] = {
		[VALUE_BOOL] = "a boolean",  [VALUE_INT] = "an integer", [VALUE_FLOAT] = "a fraction",
		[VALUE_STRING] = "a string", [VALUE_LIST] = "a list",	 [VALUE_GROUP] = "a group",
	};

	return texts[v->kind];
}

const struct value *value_member(const struct value *group, const char *name)
{
	for (size_t i = 0; i < group->n; i++)
		if (strcmp(group->items[i].name, name) == 0)
			return &group->items[i];
	return NULL;
}

static bool value_is_list_type(enum key_type t)
{
	return t == KEY_TYPE_SCRIPT || t == KEY_TYPE_STRINGS || t == KEY_TYPE_UIDS;
}

static bool value_text_number(const struct key *k, const char *text, struct value *v)
{
	const char *digits = text + (*text == '-' || *text == '+');
	bool hex = digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X');
	char *end;

	errno = 0;
	v->i = strtoll(text, &end, hex ? 16 : 10);
	v->hex = hex;
	v->kind = VALUE_INT;
	if (end != text && !*end && errno == 0)
		return true;
	if (k->type != KEY_TYPE_FLOAT || hex)
		return false;
	v->f = strtod(text, &end);
	v->kind = VALUE_FLOAT;
	return end != text && !*end && isfinite(v->f);
}

struct value value_from_text(const struct key *k, char *text)
{
	struct value v = {.kind = VALUE_STRING, .name = k->name};

	if (k->type == KEY_TYPE_BOOL && (strcmp(text, "true") == 0 || strcmp(text, "false") == 0)) {
		v.kind = VALUE_BOOL;
		v.b = text[0] == 't';
		return v;
	}
	if ((k->type == KEY_TYPE_INT || k->type == KEY_TYPE_FLOAT) && value_text_number(k, text, &v))
		return v;
	if (value_is_list_type(k->type) && !*text) {
		v.kind = VALUE_LIST;
		return v;
	}
	v.kind = VALUE_STRING;
	v.s = text;
	return v;
}

/* ---- storing */

struct store {
	const struct key *key;
	const struct value *value;
	struct conf_arena *arena;
	char *why;
};

static bool store_fail(const struct store *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool store_fail(const struct store *s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(s->why, WHY_MAX, fmt, ap);
	va_end(ap);
	return false;
}

static bool store_wrong_type(const struct store *s)
{
	return store_fail(s, "expected %s, got %s", key_type_text(s->key->type), value_kind_text(s->value));
}

/* What the value would be if it were not written as a string, for a suggestion. */
static bool store_was_quoted(const struct store *s)
{
	struct value bare;

	if (s->value->kind != VALUE_STRING)
		return store_wrong_type(s);
	bare = value_from_text(s->key, s->value->s);
	if (bare.kind == VALUE_STRING)
		return store_wrong_type(s);
	return store_fail(s, "expected %s, got a string (did you mean %s without the quotes?)",
			  key_type_text(s->key->type), s->value->s);
}

static bool store_bool(const struct store *s, void *field)
{
	if (s->value->kind != VALUE_BOOL)
		return store_was_quoted(s);
	*(bool *)field = s->value->b;
	return true;
}

static bool store_int(const struct store *s, void *field)
{
	if (s->value->kind != VALUE_INT)
		return store_was_quoted(s);
	*(int64_t *)field = s->value->i;
	return true;
}

/* The digits of an integer that libconfig read as decimal are octal ones: mode = 0660 means what it means to chmod. */
static bool store_mode(const struct store *s, void *field)
{
	const struct value *v = s->value;
	char digits[24];
	const char *text = digits;

	if (v->kind == VALUE_STRING)
		text = v->s;
	else if (v->kind == VALUE_INT && !v->hex)
		snprintf(digits, sizeof(digits), "%lld", (long long)v->i);
	else
		return store_wrong_type(s);
	if (!*text || strspn(text, "01234567") != strlen(text))
		return store_fail(s, "expected %s, got \"%.40s\"", key_type_text(s->key->type), text);
	if (strlen(text) > 9)
		text = "777777777";
	*(unsigned int *)field = (unsigned int)strtoul(text, NULL, 8);
	return true;
}

static bool store_float(const struct store *s, void *field)
{
	if (s->value->kind == VALUE_FLOAT)
		*(double *)field = s->value->f;
	else if (s->value->kind == VALUE_INT)
		*(double *)field = (double)s->value->i;
	else
		return store_was_quoted(s);
	return true;
}

static bool store_duration(const struct store *s, void *field)
{
	const struct value *v = s->value;
	char *end;

	if (v->kind == VALUE_INT && v->i == 0) {
		*(int64_t *)field = 0;
		return true;
	}
	if (v->kind == VALUE_INT && v->i > 0)
		return store_fail(s, "expected %s, got an integer (did you mean \"%llds\"?)",
				  key_type_text(s->key->type), (long long)v->i);
	if (v->kind != VALUE_STRING)
		return store_wrong_type(s);
	if (duration_parse(v->s, field) == ERR_OK)
		return true;
	strtoul(v->s, &end, 10);
	if (end != v->s && !*end && strlen(v->s) < 20 && v->s[0] >= '0' && v->s[0] <= '9')
		return store_fail(s, "\"%s\" has no unit (did you mean \"%ss\"?)", v->s, v->s);
	return store_fail(s, "\"%.60s\" is not a duration; units are us, ms, s, m, h and d", v->s);
}

static bool store_size(const struct store *s, void *field)
{
	const struct value *v = s->value;

	if (v->kind == VALUE_INT) {
		*(int64_t *)field = v->i;
		return true;
	}
	if (v->kind != VALUE_STRING)
		return store_wrong_type(s);
	if (size_parse(v->s, field) == ERR_OK)
		return true;
	return store_fail(s, "\"%.60s\" is not a size; write bytes or k, M, G", v->s);
}

static bool store_string(const struct store *s, void *field)
{
	if (s->value->kind != VALUE_STRING)
		return store_wrong_type(s);
	if (!*s->value->s && key_required(s->key))
		return store_fail(s, "must not be empty");
	*(const char **)field = conf_arena_strdup(s->arena, s->value->s);
	return true;
}

/* The choices as "a", "b" or "c"; tells nearest of each. Returns the index of the word, -1 when it is none of them. */
static int store_choice_find(const char *choices, const char *word, char *list, size_t cap, struct nearest *near,
			     char names[][24])
{
	int found = -1, i = 0;

	list[0] = '\0';
	for (const char *p = choices; *p; i++) {
		size_t n = strcspn(p, "|"), used = strlen(list);

		snprintf(names[i], 24, "%.*s", (int)n, p);
		nearest_try(near, names[i]);
		if (strcmp(names[i], word) == 0)
			found = i;
		p += n + (p[n] == '|');
		snprintf(list + used, cap - used, "%s\"%.23s\"", i == 0 ? "" : *p ? ", " : " or ", names[i]);
	}
	return found;
}

static bool store_choice(const struct store *s, void *field)
{
	char list[512], names[16][24];
	struct nearest near;
	int i;

	if (s->value->kind != VALUE_STRING)
		return store_wrong_type(s);
	nearest_init(&near, s->value->s);
	i = store_choice_find(s->key->choices, s->value->s, list, sizeof(list), &near, names);
	if (i >= 0) {
		*(int *)field = i;
		return true;
	}
	if (near.best)
		return store_fail(s, "expected %s, got \"%.60s\" (did you mean \"%s\"?)", list, s->value->s,
				  near.best);
	return store_fail(s, "expected %s, got \"%.60s\"", list, s->value->s);
}

static bool store_step_key(const struct store *s, const struct value *v, struct conf_step *step)
{
	const char **fields[VALUE_STEP_KEYS] = {&step->send, &step->expect, &step->expect_denied, &step->end};
	struct nearest near;

	nearest_init(&near, v->name);
	for (size_t i = 0; i < VALUE_STEP_KEYS; i++) {
		nearest_try(&near, value_step_keys[i]);
		if (strcmp(v->name, value_step_keys[i]) != 0)
			continue;
		if (v->kind != VALUE_STRING)
			return store_fail(s, "%s: expected a string, got %s", v->name, value_kind_text(v));
		*fields[i] = conf_arena_strdup(s->arena, v->s);
		return true;
	}
	if (near.best)
		return store_fail(s, "unknown key \"%.60s\" in a step (did you mean \"%s\"?)", v->name, near.best);
	return store_fail(s, "unknown key \"%.60s\" in a step; it has send, expect, expect_denied and end", v->name);
}

static bool store_step(const struct store *s, const struct value *v, size_t i, struct conf_step *step)
{
	if (v->kind != VALUE_GROUP)
		return store_fail(
			s,
			"step %zu: expected a group such as { send = \"PING\\r\\n\"; expect = \"+PONG\"; }, got %s",
			i + 1, value_kind_text(v));
	step->pos = v->pos;
	for (size_t j = 0; j < v->n; j++)
		if (!store_step_key(s, &v->items[j], step))
			return false;
	if (!step->send && !step->expect && !step->expect_denied)
		return store_fail(s, "step %zu has neither send nor expect", i + 1);
	if (step->end && !step->expect && !step->expect_denied)
		return store_fail(s, "step %zu has an end but expects nothing", i + 1);
	return true;
}

static bool store_script(const struct store *s, void *field)
{
	const struct value *v = s->value;
	struct conf_script script = {.n = v->kind == VALUE_LIST ? v->n : 0, .pos = v->pos};

	if (v->kind != VALUE_LIST)
		return store_wrong_type(s);
	script.v = conf_arena_array(s->arena, v->n, sizeof(*script.v));
	for (size_t i = 0; i < v->n; i++)
		if (!store_step(s, &v->items[i], i, &script.v[i]))
			return false;
	*(struct conf_script *)field = script;
	return true;
}

/* A single element stands for a list of one. */
static const struct value *store_elements(const struct store *s, size_t *n)
{
	*n = s->value->kind == VALUE_LIST ? s->value->n : 1;
	return s->value->kind == VALUE_LIST ? s->value->items : s->value;
}

static bool store_strings(const struct store *s, void *field)
{
	struct conf_strings out;
	const struct value *v = store_elements(s, &out.n);

	out.v = conf_arena_array(s->arena, out.n + 1, sizeof(*out.v));
	for (size_t i = 0; i < out.n; i++) {
		if (v[i].kind != VALUE_STRING)
			return store_fail(s, "expected %s, got %s", key_type_text(s->key->type),
					  value_kind_text(&v[i]));
		out.v[i] = conf_arena_strdup(s->arena, v[i].s);
	}
	*(struct conf_strings *)field = out;
	return true;
}

static bool value_id(const char *text, uint32_t *id)
{
	unsigned long long n;
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	n = strtoull(text, &end, 10);
	*id = (uint32_t)n;
	return !*end && errno == 0 && n < UINT32_MAX; /* the last one means "leave" to chown */
}

bool value_user(const char *text, uint32_t *uid)
{
	const struct passwd *pw = *text ? getpwnam(text) : NULL;

	if (pw)
		*uid = pw->pw_uid;
	return pw || value_id(text, uid);
}

bool value_group(const char *text, uint32_t *gid)
{
	const struct group *gr = *text ? getgrnam(text) : NULL;

	if (gr)
		*gid = gr->gr_gid;
	return gr || value_id(text, gid);
}

static bool store_uids(const struct store *s, void *field)
{
	struct conf_uids out;
	const struct value *v = store_elements(s, &out.n);

	out.v = conf_arena_array(s->arena, out.n, sizeof(*out.v));
	for (size_t i = 0; i < out.n; i++) {
		if (v[i].kind == VALUE_INT) {
			if (v[i].i < 0 || v[i].i >= UINT32_MAX)
				return store_fail(s, "%lld is not a user number", (long long)v[i].i);
			out.v[i] = (uint32_t)v[i].i;
		} else if (v[i].kind != VALUE_STRING) {
			return store_fail(s, "expected %s, got %s", key_type_text(s->key->type),
					  value_kind_text(&v[i]));
		} else if (!value_user(v[i].s, &out.v[i])) {
			return store_fail(s, "no user \"%.60s\" on this system", v[i].s);
		}
	}
	*(struct conf_uids *)field = out;
	return true;
}

static bool store_secret(const struct store *s, void *field)
{
	struct secret **secret = field;

	if (s->value->kind != VALUE_STRING)
		return store_wrong_type(s);
	if (!*s->value->s) {
		*secret = NULL;
		return true;
	}
	*secret = secret_take(s->value->s, strlen(s->value->s));
	if (!*secret)
		return store_fail(s, "longer than %d bytes", SECRET_MAX_BYTES);
	conf_arena_own(s->arena, *secret);
	return true;
}

/* ---- by type */

static bool (*const stores[KEY_TYPE_COUNT])(const struct store *s, void *field) = {
	[KEY_TYPE_BOOL] = store_bool,	    [KEY_TYPE_INT] = store_int,		  [KEY_TYPE_MODE] = store_mode,
	[KEY_TYPE_FLOAT] = store_float,	    [KEY_TYPE_DURATION] = store_duration, [KEY_TYPE_SIZE] = store_size,
	[KEY_TYPE_STRING] = store_string,   [KEY_TYPE_CHOICE] = store_choice,	  [KEY_TYPE_SCRIPT] = store_script,
	[KEY_TYPE_STRINGS] = store_strings, [KEY_TYPE_UIDS] = store_uids,	  [KEY_TYPE_SECRET] = store_secret,
};

/* Room for a field of any type that has bounds. */
union bounded {
	int64_t i;
	double f;
	unsigned int mode;
};

/* -1, 0 or 1: how the field compares with the bound's text. */
static int value_compare(const struct key *k, const void *field, const char *bound)
{
	char text[32], why[WHY_MAX];
	union bounded b;
	struct value v;

	snprintf(text, sizeof(text), "%s", bound);
	v = value_from_text(k, text);
	BUG_ON(!stores[k->type](&(struct store){.key = k, .value = &v, .why = why}, &b));
	switch (k->type) {
	case KEY_TYPE_INT:
	case KEY_TYPE_DURATION:
	case KEY_TYPE_SIZE:
		return (*(const int64_t *)field > b.i) - (*(const int64_t *)field < b.i);
	case KEY_TYPE_MODE:
		return (*(const unsigned int *)field > b.mode) - (*(const unsigned int *)field < b.mode);
	case KEY_TYPE_FLOAT:
		return (*(const double *)field > b.f) - (*(const double *)field < b.f);
	default:
		BUG_ON("a type without order has a bound");
		return 0;
	}
}

/* Bounds are texts; the value is printed the way it would be written. */
static bool value_in_range(const struct key *k, const void *field, char why[WHY_MAX])
{
	char got[64] = "";
	FILE *f;

	if ((!*k->min || value_compare(k, field, k->min) >= 0) && (!*k->max || value_compare(k, field, k->max) <= 0))
		return true;
	f = fmemopen(got, sizeof(got), "w");
	BUG_ON(!f);
	value_print(k, field, f);
	fclose(f);
	snprintf(why, WHY_MAX, "must be between %s and %s, got %s", k->min, k->max, got);
	return false;
}

bool value_store(const struct key *k, void *base, const struct value *v, struct conf_arena *a, char why[WHY_MAX])
{
	void *field = (char *)base + k->offset;
	union bounded checked = {0};

	if (!*k->min && !*k->max)
		return stores[k->type](&(struct store){.key = k, .value = v, .arena = a, .why = why}, field);
	if (!stores[k->type](&(struct store){.key = k, .value = v, .arena = a, .why = why}, &checked) ||
	    !value_in_range(k, &checked, why))
		return false;
	if (k->type == KEY_TYPE_FLOAT)
		memcpy(field, &checked.f, sizeof(checked.f));
	else if (k->type == KEY_TYPE_MODE)
		memcpy(field, &checked.mode, sizeof(checked.mode));
	else
		memcpy(field, &checked.i, sizeof(checked.i));
	return true;
}

void value_defaults(const struct scope *s, void *base, struct conf_arena *a)
{
	char why[WHY_MAX];

	for (size_t i = 0; i < s->n; i++) {
		struct value v;

		if (key_required(&s->keys[i]))
			continue;
		v = value_from_text(&s->keys[i], conf_arena_strdup(a, s->keys[i].def));
		BUG_ON(!value_store(&s->keys[i], base, &v, a, why));
	}
}
