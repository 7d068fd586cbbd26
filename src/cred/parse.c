/*
 * parse: each form of text becomes one view a key, and the views become fields.
 *
 *	JSON ---jansson--+
 *	key=value -------+
 *	user:password ---+--> struct cred_value [CRED_KEYS] --values_take()--> struct cred_fields
 *	bare ------------+
 *	files -----------+
 *
 * The secret is copied once on its way, from the text (or jansson's copy of it) into the arena by way of a block that is wiped.
 */
#include "cred/parse.h"

#include <jansson.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define HOST_MAX     253
#define NAME_MAX_LEN 1024 /* of a user or database */
#define DATA_DEPTH   2	  /* Vault: data, or data.data */
#define US_PER_S     INT64_C(1000000)
#define DAY_S	     86400
#define NUMBER_MAX   1e15 /* of a number in JSON: exact in a double */

const char *const cred_key_names[CRED_KEYS] = {
	[CRED_KEY_USERNAME] = "username",
	[CRED_KEY_PASSWORD] = "password",
	[CRED_KEY_TOKEN] = "token",
	[CRED_KEY_HOST] = "host",
	[CRED_KEY_PORT] = "port",
	[CRED_KEY_DATABASE] = "database",
	[CRED_KEY_EXPIRES_AT] = "expires_at",
	[CRED_KEY_EXPIRES_IN] = "expires_in",
	[CRED_KEY_LEASE_DURATION] = "lease_duration",
};

/* ---- text ---- */

/* Well-formed UTF-8 by the table of RFC 3629; NUL is none. */
static bool text_is_utf8(const char *text, size_t n)
{
	const unsigned char *p = (const unsigned char *)text, *end = p + n;

	while (p < end) {
		unsigned char c = *p++, low = 0x80, high = 0xbf;
		int more = c < 0x80 ? 0 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;

		if (c == 0 || (c >= 0x80 && c < 0xc2) || c > 0xf4)
			return false;
		if (c == 0xe0)
			low = 0xa0;
		else if (c == 0xed)
			high = 0x9f;
		else if (c == 0xf0)
			low = 0x90;
		else if (c == 0xf4)
			high = 0x8f;
		for (; more > 0; more--, low = 0x80, high = 0xbf)
			if (p == end || *p < low || *p++ > high)
				return false;
	}
	return true;
}

static struct cred_value value_without_newline(struct cred_value v)
{
	if (v.n && v.p[v.n - 1] == '\n')
		v.n--;
	else
		return v;
	if (v.n && v.p[v.n - 1] == '\r')
		v.n--;
	return v;
}

/* A name: something that may be shown, in one piece. */
static bool value_is_name(struct cred_value v, size_t max)
{
	for (size_t i = 0; i < v.n; i++)
		if ((unsigned char)v.p[i] < 0x20 || v.p[i] == 0x7f)
			return false;
	return v.n <= max;
}

static bool value_has_line_end(struct cred_value v)
{
	return memchr(v.p, '\r', v.n) || memchr(v.p, '\n', v.n);
}

static char *value_dup(struct cred_value v)
{
	char *text;

	if (!v.p || v.n == 0)
		return NULL;
	text = mem_alloc(v.n + 1);
	memcpy(text, v.p, v.n);
	return text;
}

/* Decimal digits, the value at most max. */
static bool value_number(struct cred_value v, int64_t max, int64_t *out)
{
	int64_t x = 0;

	for (size_t i = 0; i < v.n; i++) {
		if (v.p[i] < '0' || v.p[i] > '9')
			return false;
		x = x * 10 + (v.p[i] - '0');
		if (x > max)
			return false;
	}
	*out = x;
	return v.n > 0;
}

/* ---- time ---- */

/* Days since 1970-01-01 of a date of the Gregorian calendar, counted from a March so that a leap day is the last of its year. */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
	int64_t y = month <= 2 ? year - 1 : year, m = (month + 9) % 12;

	return y * 365 + y / 4 - y / 100 + y / 400 + (m * 306 + 5) / 10 + day - 1 - 719468;
}

static bool time_digits(struct cred_value *v, size_t n, char then, int64_t max, int64_t *out)
{
	if (v->n < n || !value_number((struct cred_value){v->p, n}, max, out))
		return false;
	*v = (struct cred_value){v->p + n, v->n - n};
	if (!then)
		return true;
	if (v->n == 0 || (*v->p != then && !(then == 'T' && (*v->p == ' ' || *v->p == 't'))))
		return false;
	*v = (struct cred_value){v->p + 1, v->n - 1};
	return true;
}

/* Z or +hh:mm, as seconds east. */
static bool time_zone(struct cred_value v, int64_t *east_s)
{
	int64_t h, m;
	char sign = v.n ? *v.p : '\0';

	*east_s = 0;
	if (v.n == 1 && (sign == 'Z' || sign == 'z'))
		return true;
	if (sign != '+' && sign != '-')
		return false;
	v = (struct cred_value){v.p + 1, v.n - 1};
	if (!time_digits(&v, 2, ':', 23, &h) || !time_digits(&v, 2, '\0', 59, &m) || v.n)
		return false;
	*east_s = (h * 60 + m) * 60 * (sign == '-' ? -1 : 1);
	return true;
}

/* RFC 3339, section 5.6; a fraction is dropped. */
static bool time_parse(struct cred_value v, int64_t *epoch_s)
{
	int64_t year, month, day, h, m, s, east_s;

	if (!time_digits(&v, 4, '-', 9999, &year) || !time_digits(&v, 2, '-', 12, &month) ||
	    !time_digits(&v, 2, 'T', 31, &day) || !time_digits(&v, 2, ':', 23, &h) ||
	    !time_digits(&v, 2, ':', 59, &m) || !time_digits(&v, 2, '\0', 60, &s) || month == 0 || day == 0)
		return false;
	if (v.n && *v.p == '.') {
		do
			v = (struct cred_value){v.p + 1, v.n - 1};
		while (v.n && *v.p >= '0' && *v.p <= '9');
	}
	if (!time_zone(v, &east_s))
		return false;
	*epoch_s = days_of(year, month, day) * DAY_S + (h * 60 + m) * 60 + s - east_s;
	return true;
}

/* Seconds from now on, as loop time; what lies beyond the end of time is never. */
static int64_t time_after(int64_t now_us, int64_t s)
{
	int64_t us;

	if (__builtin_mul_overflow(s, US_PER_S, &us) || __builtin_add_overflow(us, now_us, &us))
		return s < 0 ? INT64_MIN : INT64_MAX;
	return us;
}

static enum err values_take_expiry(const struct cred_value *v, int64_t now_us, int64_t wall_s,
				   struct cred_fields *out, const char **why)
{
	struct cred_value in = v[CRED_KEY_EXPIRES_IN].p ? v[CRED_KEY_EXPIRES_IN] : v[CRED_KEY_LEASE_DURATION];
	struct cred_value at = v[CRED_KEY_EXPIRES_AT];
	int64_t s;

	if (at.p) {
		if (!value_number(at, INT64_MAX / 100, &s) && !time_parse(at, &s)) {
			*why = "expires_at is neither seconds since 1970 nor a time of RFC 3339";
			return ERR_INVALID;
		}
		out->expires_us = time_after(now_us, s - wall_s);
	} else if (in.p) {
		if (!value_number(in, INT64_MAX / 100, &s)) {
			*why = "expires_in is no number of seconds";
			return ERR_INVALID;
		}
		/* Vault's 0: no lease. */
		if (s > 0 || v[CRED_KEY_EXPIRES_IN].p)
			out->expires_us = time_after(now_us, s);
	}
	return ERR_OK;
}

/* ---- values to fields ---- */

static bool values_take_secret(const struct cred_value *v, struct cred_fields *out, const char **why)
{
	struct cred_value s = v[CRED_KEY_PASSWORD].p ? v[CRED_KEY_PASSWORD] : v[CRED_KEY_TOKEN];
	char *copy;

	*why = !s.p					       ? "there is no password"
	       : s.n == 0				       ? "the password is empty"
	       : value_has_line_end(s)			       ? "the password contains the end of a line"
	       : memchr(s.p, '\0', s.n)			       ? "the password contains NUL"
	       : v[CRED_KEY_PASSWORD].p && v[CRED_KEY_TOKEN].p ? "there are both a password and a token"
							       : NULL;
	if (*why)
		return false;
	copy = mem_alloc(s.n);
	memcpy(copy, s.p, s.n);
	out->password = secret_take(copy, s.n);
	mem_free(copy);
	if (!out->password)
		*why = "there is no room for another secret";
	return out->password != NULL;
}

static bool values_take_names(const struct cred_value *v, struct cred_fields *out, const char **why)
{
	int64_t port = 0;

	*why = !value_is_name(v[CRED_KEY_USERNAME], NAME_MAX_LEN)
		       ? "the username contains control characters or is too long"
	       : !value_is_name(v[CRED_KEY_DATABASE], NAME_MAX_LEN)
		       ? "the database contains control characters or is too long"
	       : !value_is_name(v[CRED_KEY_HOST], HOST_MAX) ? "the host contains control characters or is too long"
	       : v[CRED_KEY_PORT].p && (!value_number(v[CRED_KEY_PORT], 65535, &port) || port == 0)
		       ? "the port is no number from 1 to 65535"
		       : NULL;
	if (*why)
		return false;
	out->username = value_dup(v[CRED_KEY_USERNAME]);
	out->host = value_dup(v[CRED_KEY_HOST]);
	out->database = value_dup(v[CRED_KEY_DATABASE]);
	out->port = (int)port;
	return true;
}

static enum err values_take(const struct cred_value *v, int64_t now_us, int64_t wall_s, struct cred_fields *out,
			    const char **why)
{
	enum err e = ERR_INVALID;

	if (values_take_names(v, out, why) && values_take_secret(v, out, why))
		e = values_take_expiry(v, now_us, wall_s, out, why);
	if (e == ERR_OK && out->expires_us <= now_us) {
		*why = "it has expired";
		e = ERR_EXPIRED;
	}
	if (e != ERR_OK)
		cred_fields_clear(out);
	return e;
}

/* ---- JSON ---- */

static void json_wiping_free(void *p)
{
	if (p)
		secret_wipe(p, malloc_usable_size(p));
	free(p);
}

static void json_wipes(void)
{
	json_set_alloc_funcs(malloc, json_wiping_free);
}

/* Text, or for all but secrets a number, as text in `room`: a secret written as a number may have lost its zeros already. */
static bool json_value(const json_t *j, enum cred_key k, char *room, size_t cap, struct cred_value *out)
{
	if (json_is_string(j))
		*out = (struct cred_value){json_string_value(j), json_string_length(j)};
	else if (json_is_null(j))
		*out = (struct cred_value){NULL, 0};
	else if (k != CRED_KEY_PASSWORD && k != CRED_KEY_TOKEN && json_is_number(j) && json_number_value(j) >= 0 &&
		 json_number_value(j) < NUMBER_MAX)
		*out = (struct cred_value){room,
					   (size_t)snprintf(room, cap, "%lld", (long long)json_number_value(j))};
	else
		return false;
	return true;
}

static enum err json_take(const json_t *top, int64_t now_us, int64_t wall_s, struct cred_fields *out,
			  const char **why)
{
	struct cred_value v[CRED_KEYS] = {{NULL, 0}};
	char room[CRED_KEYS][24];
	int depth = 0;

	for (const json_t *o = top; json_is_object(o) && depth <= DATA_DEPTH;
	     o = json_object_get(o, "data"), depth++) {
		for (int k = 0; k < CRED_KEYS; k++) {
			const json_t *j = json_object_get(o, cred_key_names[k]);

			if (j && !v[k].p && !json_value(j, (enum cred_key)k, room[k], sizeof(room[k]), &v[k])) {
				*why = "a value is not a text in quotes";
				return ERR_INVALID;
			}
		}
	}
	return values_take(v, now_us, wall_s, out, why);
}

static enum err json_parse(struct cred_value t, int64_t now_us, int64_t wall_s, struct cred_fields *out,
			   const char **why)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	json_error_t err;
	json_t *top;
	enum err e = ERR_INVALID;

	pthread_once(&once, json_wipes);
	/* The depth is bounded by jansson (2048), NUL in a text is an error to it. */
	top = json_loadb(t.p, t.n, JSON_REJECT_DUPLICATES, &err);
	/* It quotes the text. */
	secret_wipe(&err, sizeof(err));
	*why = "it is not valid JSON";
	if (top)
		e = json_take(top, now_us, wall_s, out, why);
	json_decref(top);
	return e;
}

/* ---- lines ---- */

/* The first line of *t, which moves on behind it. */
static struct cred_value line_take(struct cred_value *t)
{
	const char *lf = t->n ? memchr(t->p, '\n', t->n) : NULL;
	size_t n = lf ? (size_t)(lf - t->p) + 1 : t->n;
	struct cred_value line = {t->p, n};

	*t = (struct cred_value){t->p + n, t->n - n};
	return value_without_newline(line);
}

static bool line_is_blank(struct cred_value line)
{
	return line.n == 0 || *line.p == '#';
}

/* The key a line begins with, and the value behind its =. */
static enum cred_key line_key(struct cred_value line, struct cred_value *value)
{
	for (int k = 0; k < CRED_KEYS; k++) {
		size_t n = strlen(cred_key_names[k]);

		if (line.n > n && line.p[n] == '=' && memcmp(line.p, cred_key_names[k], n) == 0) {
			*value = (struct cred_value){line.p + n + 1, line.n - n - 1};
			return (enum cred_key)k;
		}
	}
	return CRED_KEYS;
}

static bool text_is_pairs(struct cred_value t)
{
	struct cred_value line = {NULL, 0}, value;

	while (t.n && line_is_blank(line))
		line = line_take(&t);
	return line_key(line, &value) != CRED_KEYS;
}

static bool pairs_parse(struct cred_value t, struct cred_value *v, const char **why)
{
	while (t.n) {
		struct cred_value line = line_take(&t), value = {NULL, 0};
		enum cred_key k = line_key(line, &value);

		if (k != CRED_KEYS && v[k].p)
			*why = "a key is there twice";
		else if (k != CRED_KEYS && value_has_line_end(value))
			*why = "a value contains CR";
		else if (k == CRED_KEYS && !line_is_blank(line) && !memchr(line.p, '=', line.n))
			*why = "a line is not key=value";
		else if (k != CRED_KEYS)
			v[k] = value;
		if (*why)
			return false;
	}
	return true;
}

static void line_parse(struct cred_value t, struct cred_value *v)
{
	const char *colon = t.n ? memchr(t.p, ':', t.n) : NULL;

	if (colon) {
		v[CRED_KEY_USERNAME] = (struct cred_value){t.p, (size_t)(colon - t.p)};
		t = (struct cred_value){colon + 1, t.n - (size_t)(colon - t.p) - 1};
	}
	v[CRED_KEY_PASSWORD] = t;
}

/* ---- all of it ---- */

static bool text_begins_json(struct cred_value t)
{
	size_t i = 0;

	while (i < t.n && (t.p[i] == ' ' || t.p[i] == '\t' || t.p[i] == '\n' || t.p[i] == '\r'))
		i++;
	return i < t.n && t.p[i] == '{';
}

enum err cred_parse(const char *text, size_t n, int64_t now_us, int64_t wall_s, struct cred_fields *out,
		    const char **why)
{
	struct cred_value t = {text, n}, v[CRED_KEYS] = {{NULL, 0}};

	cred_fields_init(out);
	*why = NULL;
	if (n > CRED_TEXT_MAX) {
		*why = "it is longer than 64 KiB";
		return ERR_TOO_BIG;
	}
	if (!text_is_utf8(text, n)) {
		*why = "it contains NUL or is not UTF-8";
		return ERR_INVALID;
	}
	if (n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		t = (struct cred_value){text + 3, n - 3};
	if (text_begins_json(t))
		return json_parse(t, now_us, wall_s, out, why);
	t = value_without_newline(t);
	if (t.n == 0) {
		*why = "it is empty";
		return ERR_INVALID;
	}
	if (!text_is_pairs(t))
		line_parse(t, v);
	else if (!pairs_parse(t, v, why))
		return ERR_INVALID;
	return values_take(v, now_us, wall_s, out, why);
}

enum err cred_parse_values(const struct cred_value v[CRED_KEYS], int64_t now_us, int64_t wall_s,
			   struct cred_fields *out, const char **why)
{
	struct cred_value bare[CRED_KEYS] = {{NULL, 0}};

	cred_fields_init(out);
	*why = NULL;
	for (int k = 0; k < CRED_KEYS; k++) {
		if (!v[k].p)
			continue;
		if (v[k].n > CRED_TEXT_MAX) {
			*why = "a file is longer than 64 KiB";
			return ERR_TOO_BIG;
		}
		if (!text_is_utf8(v[k].p, v[k].n)) {
			*why = "a file contains NUL or is not UTF-8";
			return ERR_INVALID;
		}
		bare[k] = value_without_newline(v[k]);
	}
	return values_take(bare, now_us, wall_s, out, why);
}
