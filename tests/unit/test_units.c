/* Tests of base/units: durations, sizes, edit distance. */
#include <check.h>
#include <string.h>

#include "base/rng.h"
#include "base/units.h"

#define US	     INT64_C(1)
#define MS	     (1000 * US)
#define SEC	     (1000 * MS)
#define MIN	     (60 * SEC)
#define HOUR	     (60 * MIN)
#define DAY	     (24 * HOUR)
#define MAX_DURATION (36525 * DAY)

static const struct {
	const char *text;
	int64_t us;
} good_durations[] = {
	{"0", 0},
	{"0s", 0},
	{"1us", 1},
	{"50ms", 50 * MS},
	{"5s", 5 * SEC},
	{"30m", 30 * MIN},
	{"1h", HOUR},
	{"1h30m", 90 * MIN},
	{"90s", 90 * SEC},
	{"1m30s", 90 * SEC},
	{"1.5s", 1500 * MS},
	{"1.500s", 1500 * MS},
	{"0.000001s", 1},
	{"0.001ms", 1},
	{"0.5d", 12 * HOUR},
	{"1.0us", 1},
	{"007s", 7 * SEC},
	{"1d2h3m4s5ms6us", DAY + 2 * HOUR + 3 * MIN + 4 * SEC + 5 * MS + 6},
	{"1h1.5s", HOUR + 1500 * MS},
	{"36525d", MAX_DURATION},
	{"36524d23h59m59s999ms999us", MAX_DURATION - 1},
	{"0.1000000000000000000000s", 100 * MS},
};

static const char *const bad_durations[] = {
	"",
	"5",
	"00",
	" 5s",
	"5s ",
	"5 s",
	"-5s",
	"+5s",
	"s",
	"5x",
	"5S",
	"5ss",
	"5mss",
	"5s5s",
	"5s1m",
	"1ms1s",
	"1.s",
	".5s",
	"1.5",
	"1.5s1ms",
	"1.5.5s",
	"0.5us",
	"0.0000001s",
	"1.0000001s",
	"36525d1us",
	"36526d",
	"9223372036854775807us",
	"9223372036854775808us",
	"99999999999999999999d",
	"0.00000000000000001d",
	"0.0000000000125d",
	"1e3s",
	"0x10s",
	"1,5s",
	"5s\n",
	"inf",
	"0.3333333333333333h",
	"1.d",
	"1h.5m",
};

START_TEST(durations_that_are_right)
{
	for (size_t i = 0; i < sizeof(good_durations) / sizeof(good_durations[0]); i++) {
		int64_t us = -1;

		ck_assert_msg(duration_parse(good_durations[i].text, &us) == ERR_OK, "%s", good_durations[i].text);
		ck_assert_msg(us == good_durations[i].us, "%s: %lld", good_durations[i].text, (long long)us);
	}
}
END_TEST

START_TEST(durations_that_are_wrong)
{
	for (size_t i = 0; i < sizeof(bad_durations) / sizeof(bad_durations[0]); i++) {
		int64_t us = -77;

		ck_assert_msg(duration_parse(bad_durations[i], &us) != ERR_OK, "\"%s\"", bad_durations[i]);
		ck_assert_msg(us == -77, "\"%s\" has changed the result", bad_durations[i]);
	}
}
END_TEST

START_TEST(durations_formatted)
{
	static const struct {
		int64_t us;
		const char *text;
	} rows[] = {
		{0, "0"},
		{1, "1us"},
		{999, "999us"},
		{MS, "1ms"},
		{1500, "1.5ms"},
		{1005, "1ms5us"},
		{SEC, "1s"},
		{1500 * MS, "1.5s"},
		{90 * SEC, "1m30s"},
		{HOUR, "1h"},
		{90 * MIN, "1h30m"},
		{DAY, "1d"},
		{DAY + 1, "1d1us"},
		{SEC + 1, "1s1us"},
		{SEC + 20 * MS, "1.02s"},
		{30 * MIN, "30m"},
		{MIN + 50 * MS, "1m50ms"},
		{MAX_DURATION, "36525d"},
		{-5 * SEC, "-5s"},
	};
	char text[64];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		duration_format(rows[i].us, text, sizeof(text));
		ck_assert_str_eq(text, rows[i].text);
	}
	duration_format(INT64_MAX, text, sizeof(text));
	ck_assert_str_eq(text, "106751991d4h54.775807s");
	duration_format(90 * SEC, text, 4);
	ck_assert_str_eq(text, "1m3");
}
END_TEST

START_TEST(durations_round_trip)
{
	struct rng r;
	char text[64];

	rng_seed(&r, 3);
	for (int i = 0; i < 200000; i++) {
		int64_t us = (int64_t)(rng_next(&r) >> (13 + rng_below(&r, 50))), back = -1;

		if (us > MAX_DURATION)
			continue;
		if (rng_below(&r, 2))
			us -= us % 1000000;
		duration_format(us, text, sizeof(text));
		ck_assert_msg(duration_parse(text, &back) == ERR_OK && back == us, "%lld: %s", (long long)us, text);
	}
}
END_TEST

START_TEST(sizes_that_are_right)
{
	static const struct {
		const char *text;
		int64_t bytes;
	} rows[] = {
		{"0", 0},
		{"1", 1},
		{"16", 16},
		{"16B", 16},
		{"16k", 16384},
		{"16K", 16384},
		{"16kB", 16384},
		{"16KB", 16384},
		{"64KiB", 65536},
		{"1M", 1 << 20},
		{"1MiB", 1 << 20},
		{"2G", INT64_C(2) << 30},
		{"9223372036854775807", INT64_MAX},
		{"8589934591G", INT64_C(8589934591) << 30},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int64_t bytes = -1;

		ck_assert_msg(size_parse(rows[i].text, &bytes) == ERR_OK, "%s", rows[i].text);
		ck_assert_msg(bytes == rows[i].bytes, "%s: %lld", rows[i].text, (long long)bytes);
	}
}
END_TEST

START_TEST(sizes_that_are_wrong)
{
	static const char *const rows[] = {
		"",
		"k",
		"-1",
		"+1",
		" 1",
		"1 ",
		"1 k",
		"1kk",
		"1ki",
		"1kib",
		"1iB",
		"1Bk",
		"1.5k",
		"1T",
		"0x10",
		"9223372036854775808",
		"8589934592G",
		"99999999999999999999999",
		"1k1",
		"1BB",
		"1kBB",
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int64_t bytes = -77;

		ck_assert_msg(size_parse(rows[i], &bytes) != ERR_OK, "\"%s\"", rows[i]);
		ck_assert_msg(bytes == -77, "\"%s\" has changed the result", rows[i]);
	}
}
END_TEST

START_TEST(sizes_formatted)
{
	char text[32];

	size_format(0, text, sizeof(text));
	ck_assert_str_eq(text, "0");
	size_format(1025, text, sizeof(text));
	ck_assert_str_eq(text, "1025");
	size_format(16384, text, sizeof(text));
	ck_assert_str_eq(text, "16k");
	size_format(INT64_C(3) << 20, text, sizeof(text));
	ck_assert_str_eq(text, "3M");
	size_format(INT64_C(1) << 30, text, sizeof(text));
	ck_assert_str_eq(text, "1G");
}
END_TEST

START_TEST(distances)
{
	static const struct {
		const char *a, *b;
		int max, want;
	} rows[] = {
		{"", "", 3, 0},
		{"abc", "abc", 3, 0},
		{"abc", "", 3, 3},
		{"", "ab", 3, 2},
		{"max_size", "max_sise", 3, 1},
		{"lsiten", "listen", 3, 1},
		{"pool", "pools", 3, 1},
		{"kitten", "sitting", 3, 3},
		{"ab", "ba", 3, 1},
		{"abcdef", "uvwxyz", 2, 3},
		{"ca", "abc", 9, 3},
	};
	char longer[200];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		ck_assert_int_eq(str_distance(rows[i].a, rows[i].b, rows[i].max), rows[i].want);
		ck_assert_int_eq(str_distance(rows[i].b, rows[i].a, rows[i].max), rows[i].want);
	}
	memset(longer, 'a', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	ck_assert_int_eq(str_distance(longer, "a", 3), 4);
	longer[63] = '\0';
	ck_assert_int_eq(str_distance(longer, longer, 3), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("units");
	TCase *t = tcase_create("units");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, durations_that_are_right);
	tcase_add_test(t, durations_that_are_wrong);
	tcase_add_test(t, durations_formatted);
	tcase_add_test(t, durations_round_trip);
	tcase_add_test(t, sizes_that_are_right);
	tcase_add_test(t, sizes_that_are_wrong);
	tcase_add_test(t, sizes_formatted);
	tcase_add_test(t, distances);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
