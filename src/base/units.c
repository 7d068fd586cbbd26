/* units: durations, sizes and edit distance; see units.h. */
#include "base/units.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define DURATION_MAX_US (INT64_C(36525) * 86400 * 1000000) /* 100 years */
#define FRACTION_DIGITS 15				   /* more can't be a whole number of us */
#define DISTANCE_CHARS	63

struct unit {
	const char *name;
	int64_t each;
};

/* Largest first; both parsing order and formatting rely on it. */
static const struct unit durations[] = {
	{"d", INT64_C(86400000000)}, {"h", INT64_C(3600000000)}, {"m", INT64_C(60000000)},
	{"s", INT64_C(1000000)},     {"ms", INT64_C(1000)},	 {"us", INT64_C(1)},
};
#define DURATIONS   ((int)(sizeof(durations) / sizeof(durations[0])))
#define UNIT_SECOND 3
#define UNIT_MILLI  4

static const struct unit sizes[] = {{"G", INT64_C(1) << 30}, {"M", INT64_C(1) << 20}, {"k", INT64_C(1) << 10}};
#define SIZES ((int)(sizeof(sizes) / sizeof(sizes[0])))

static bool units_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Reads digits; false when there are none or they overflow. */
static bool units_number(const char **p, int64_t *value)
{
	*value = 0;
	if (!units_digit(**p))
		return false;
	for (; units_digit(**p); ++*p)
		if (__builtin_mul_overflow(*value, 10, value) || __builtin_add_overflow(*value, **p - '0', value))
			return false;
	return true;
}

/* Reads the digits after a decimal point as numerator and power of ten, trailing zeros left out. */
static bool units_fraction(const char **p, int64_t *num, int64_t *den)
{
	const char *from = *p, *end;

	while (units_digit(**p))
		++*p;
	if (*p == from)
		return false;
	for (end = *p; end > from && end[-1] == '0'; end--)
		;
	if (end - from > FRACTION_DIGITS)
		return false;
	*num = 0;
	*den = 1;
	for (; from < end; from++) {
		*num = *num * 10 + (*from - '0');
		*den *= 10;
	}
	return true;
}

static int duration_unit(const char **p)
{
	for (int i = DURATIONS - 1; i >= 0; i--) {
		size_t n = strlen(durations[i].name);

		/* From the end, so that "ms" is tried before "m". */
		if (strncmp(*p, durations[i].name, n) == 0) {
			*p += n;
			return i;
		}
	}
	return -1;
}

/* Reads one "12m" or "1.5s"; *rank is the unit's index, *last whether nothing may follow. */
static bool duration_part(const char **p, int64_t *us, int *rank, bool *last)
{
	int64_t whole, num = 0, den = 1;
	__int128 part;

	if (!units_number(p, &whole))
		return false;
	*last = **p == '.';
	if (*last) {
		++*p;
		if (!units_fraction(p, &num, &den))
			return false;
	}
	*rank = duration_unit(p);
	if (*rank < 0)
		return false;
	part = (__int128)num * durations[*rank].each;
	if (part % den != 0)
		return false;
	part = part / den + (__int128)whole * durations[*rank].each;
	if (part > DURATION_MAX_US)
		return false;
	*us = (int64_t)part;
	return true;
}

enum err duration_parse(const char *text, int64_t *us)
{
	int64_t sum = 0, part;
	int rank, previous = -1;
	bool last = false;

	if (strcmp(text, "0") == 0) {
		*us = 0;
		return ERR_OK;
	}
	do {
		if (last || !duration_part(&text, &part, &rank, &last) || rank <= previous)
			return ERR_CONFIG;
		previous = rank;
		sum += part;
		if (sum > DURATION_MAX_US)
			return ERR_CONFIG;
	} while (*text);
	*us = sum;
	return ERR_OK;
}

enum err size_parse(const char *text, int64_t *bytes)
{
	int64_t value, each = 1;

	if (!units_number(&text, &value))
		return ERR_CONFIG;
	for (int i = 0; i < SIZES; i++)
		if (*text && (*text | 0x20) == (sizes[i].name[0] | 0x20))
			each = sizes[i].each;
	if (each > 1)
		text++;
	if (each > 1 && text[0] == 'i' && text[1] == 'B')
		text += 2;
	else if (*text == 'B')
		text++;
	if (*text || __builtin_mul_overflow(value, each, &value))
		return ERR_CONFIG;
	*bytes = value;
	return ERR_OK;
}

/* "1.5s": us as a decimal fraction of unit. */
static size_t duration_decimal(int64_t us, const struct unit *unit, char *out, size_t cap)
{
	int digits = unit->each == 1000 ? 3 : 6;
	int n = snprintf(out, cap, "%lld.%0*lld", (long long)(us / unit->each), digits, (long long)(us % unit->each));

	while (out[n - 1] == '0')
		n--;
	if (out[n - 1] == '.')
		n--;
	n += snprintf(out + n, cap - (size_t)n, "%s", unit->name);
	return (size_t)n;
}

/* "1s500ms": us as a sum of the units from `first` on. */
static size_t duration_sum(int64_t us, int first, int end, char *out, size_t cap)
{
	size_t n = 0;

	for (int i = first; i < end; i++) {
		int64_t count = us / durations[i].each;

		us %= durations[i].each;
		if (count)
			n += (size_t)snprintf(out + n, cap - n, "%lld%s", (long long)count, durations[i].name);
	}
	return n;
}

/* What is left below a minute, whichever way of writing it is shorter. */
static void duration_rest(int64_t us, char *out, size_t cap)
{
	const struct unit *unit = &durations[us >= durations[UNIT_SECOND].each ? UNIT_SECOND : UNIT_MILLI];
	char sum[32];
	size_t n = duration_sum(us, UNIT_SECOND, DURATIONS, sum, sizeof(sum));

	if (us < unit->each || duration_decimal(us, unit, out, cap) > n)
		memcpy(out, sum, n + 1);
}

void duration_format(int64_t us, char *out, size_t cap)
{
	char text[96], *p = text;
	int64_t minute = durations[UNIT_SECOND - 1].each;

	if (us < 0) {
		*p++ = '-';
		us = us == INT64_MIN ? INT64_MAX : -us;
	}
	p[0] = us ? '\0' : '0';
	p[1] = '\0';
	if (us) {
		p += duration_sum(us - us % minute, 0, UNIT_SECOND, p, 48);
		if (us % minute)
			duration_rest(us % minute, p, 32);
	}
	snprintf(out, cap, "%s", text);
}

void size_format(int64_t bytes, char *out, size_t cap)
{
	for (int i = 0; i < SIZES; i++) {
		if (bytes != 0 && bytes % sizes[i].each == 0) {
			snprintf(out, cap, "%lld%s", (long long)(bytes / sizes[i].each), sizes[i].name);
			return;
		}
	}
	snprintf(out, cap, "%lld", (long long)bytes);
}

static int str_least(int a, int b)
{
	return a < b ? a : b;
}

int str_distance(const char *a, const char *b, int max)
{
	int row[3][DISTANCE_CHARS + 1];
	size_t na = strlen(a), nb = strlen(b);

	if (na > DISTANCE_CHARS || nb > DISTANCE_CHARS)
		return max + 1;
	for (size_t j = 0; j <= nb; j++)
		row[0][j] = (int)j;
	for (size_t i = 1; i <= na; i++) {
		int *now = row[i % 3], *above = row[(i + 2) % 3], *before = row[(i + 1) % 3];

		now[0] = (int)i;
		for (size_t j = 1; j <= nb; j++) {
			now[j] = str_least(str_least(above[j], now[j - 1]) + 1,
					   above[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				now[j] = str_least(now[j], before[j - 2] + 1);
		}
	}
	return str_least(row[na % 3][nb], max + 1);
}
