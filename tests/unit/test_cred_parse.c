/* Tests of cred/parse: the four forms, what each field may be, expiry, and that nothing of the content shows in an error. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cred/parse.h"
#include "proc_help.h"

#define NOW_US INT64_C(5000000)
#define WALL_S INT64_C(1700000000)
#define SECOND INT64_C(1000000)

static struct cred_fields got;
static const char *why;

static enum err parse_n(const char *text, size_t n)
{
	/* An exact copy, so that the sanitizers see what reads behind its end. */
	char *copy = malloc(n ? n : 1);
	enum err e;

	cred_fields_clear(&got);
	memcpy(copy, text, n);
	e = cred_parse(copy, n, NOW_US, WALL_S, &got, &why);
	free(copy);
	return e;
}

static enum err parse(const char *text)
{
	return parse_n(text, strlen(text));
}

static void check_login(const char *username, const char *password)
{
	if (username)
		ck_assert_str_eq(got.username, username);
	else
		ck_assert_ptr_null(got.username);
	ck_assert_ptr_nonnull(got.password);
	ck_assert(secret_equal_bytes(got.password, password, strlen(password)));
}

static const struct {
	const char *text, *username, *password;
} good[] = {
	{"{\"username\":\"app\",\"password\":\"s3cret\"}", "app", "s3cret"},
	{" \r\n{ \"password\" : \"s3cret\" }\r\n", NULL, "s3cret"},
	{"{\"token\":\"eyJhbGciOi\",\"username\":\"\"}\n", NULL, "eyJhbGciOi"},
	{"{\"password\":\"a\\\"b\\\\c\\u00e9\",\"username\":null,\"more\":[1,{\"password\":\"x\"}]}", NULL,
	 "a\"b\\c\xc3\xa9"},
	{"{\"lease_duration\":3600,\"data\":{\"username\":\"v-app-1\",\"password\":\"A1a-x\"}}", "v-app-1", "A1a-x"},
	{"{\"data\":{\"data\":{\"username\":\"u\",\"password\":\"kv2\"},\"metadata\":{}}}", "u", "kv2"},
	{"username=app\npassword=s3cret\n", "app", "s3cret"},
	{"# of today\r\n\r\npassword=a=b c:d \r\nother=1\r\nusername=app\r\n", "app", "a=b c:d "},
	{"token=t0ken", NULL, "t0ken"},
	{"app:s3cret", "app", "s3cret"},
	{"app:s3:cr et\r\n", "app", "s3:cr et"},
	{":s3cret\n", NULL, "s3cret"},
	{"s3cret", NULL, "s3cret"},
	{"s3cret\n", NULL, "s3cret"},
	{"\xef\xbb\xbfs3cret\r\n", NULL, "s3cret"},
	{" s3cret with spaces ", NULL, " s3cret with spaces "},
	{"c2VjcmV0==", NULL, "c2VjcmV0=="},
	{"p\xc3\xa4ssw\xf0\x9f\x94\x91rd", NULL, "p\xc3\xa4ssw\xf0\x9f\x94\x91rd"},
};

/* Proves: K5 */
START_TEST(forms)
{
	ck_assert_msg(parse(good[_i].text) == ERR_OK, "%s", why);
	check_login(good[_i].username, good[_i].password);
	ck_assert_int_eq(got.port, 0);
}
END_TEST

static const struct {
	const char *text;
	size_t n; /* 0: up to the NUL */
	enum err err;
	const char *why; /* part of it */
} bad[] = {
	{"", 0, ERR_INVALID, "empty"},
	{"\n", 0, ERR_INVALID, "empty"},
	{"\r\n", 0, ERR_INVALID, "empty"},
	{"\xef\xbb\xbf\n", 0, ERR_INVALID, "empty"},
	{"app:", 0, ERR_INVALID, "password is empty"},
	{"app:\n", 0, ERR_INVALID, "password is empty"},
	{"MARK-1\n\n", 0, ERR_INVALID, "end of a line"},
	{"MARK-1\nMARK-2\n", 0, ERR_INVALID, "end of a line"},
	{"MARK-1\rMARK-2", 0, ERR_INVALID, "end of a line"},
	{"MARK-1\0MARK-2", 13, ERR_INVALID, "NUL"},
	{"MARK-1\n\0", 8, ERR_INVALID, "NUL"},
	{"MARK\xff", 0, ERR_INVALID, "UTF-8"},
	{"MARK\xc3", 0, ERR_INVALID, "UTF-8"},
	{"MARK\xc0\xaf", 0, ERR_INVALID, "UTF-8"},
	{"MARK\xed\xa0\x80", 0, ERR_INVALID, "UTF-8"},
	{"MARK\xf4\x90\x80\x80", 0, ERR_INVALID, "UTF-8"},
	{"\xff\xfeM\0A\0R\0K\0", 10, ERR_INVALID, "UTF-8"},
	{"{\"username\":\"app\",\"passw", 0, ERR_INVALID, "JSON"},
	{"{\"username\":\"app\",\"password\":\"MARK", 0, ERR_INVALID, "JSON"},
	{"{\"password\":\"MARK\"", 0, ERR_INVALID, "JSON"},
	{"{\"password\":\"MARK\"} MARK", 0, ERR_INVALID, "JSON"},
	{"{\"password\":\"MARK\",\"password\":\"MARK\"}", 0, ERR_INVALID, "JSON"},
	{"{\"password\":\"MARK\\u0000\"}", 0, ERR_INVALID, "JSON"},
	{"{\"password\":\"MARK\\r\"}", 0, ERR_INVALID, "end of a line"},
	{"{\"password\":\"MARK\\n\"}", 0, ERR_INVALID, "end of a line"},
	{"{\"password\":12345678}", 0, ERR_INVALID, "quotes"},
	{"{\"password\":{\"a\":\"MARK\"}}", 0, ERR_INVALID, "quotes"},
	{"{\"username\":\"MARK\"}", 0, ERR_INVALID, "no password"},
	{"{}", 0, ERR_INVALID, "no password"},
	{"{\"password\":\"\"}", 0, ERR_INVALID, "empty"},
	{"{\"password\":\"MARK\",\"token\":\"MARK\"}", 0, ERR_INVALID, "both"},
	{"{\"password\":\"MARK\",\"username\":\"a\\nb\"}", 0, ERR_INVALID, "username"},
	{"{\"password\":\"MARK\",\"host\":\"a\\tb\"}", 0, ERR_INVALID, "host"},
	{"{\"password\":\"MARK\",\"database\":\"\\u007f\"}", 0, ERR_INVALID, "database"},
	{"{\"password\":\"MARK\",\"port\":0}", 0, ERR_INVALID, "port"},
	{"{\"password\":\"MARK\",\"port\":65536}", 0, ERR_INVALID, "port"},
	{"{\"password\":\"MARK\",\"port\":\"six\"}", 0, ERR_INVALID, "port"},
	{"{\"password\":\"MARK\",\"port\":-1}", 0, ERR_INVALID, "quotes"},
	{"{\"password\":\"MARK\",\"expires_in\":\"soon\"}", 0, ERR_INVALID, "expires_in"},
	{"{\"password\":\"MARK\",\"expires_at\":\"tomorrow\"}", 0, ERR_INVALID, "expires_at"},
	{"username=app\npassword=MARK\nMARK-2\n", 0, ERR_INVALID, "not key=value"},
	{"password=MARK\npassword=MARK\n", 0, ERR_INVALID, "twice"},
	{"password=MARK\rusername=app\n", 0, ERR_INVALID, "CR"},
	{"username=MARK\n", 0, ERR_INVALID, "no password"},
	{"username=\npassword=\n", 0, ERR_INVALID, "empty"},
	{"{\"password\":\"MARK\",\"expires_at\":1700000000}", 0, ERR_EXPIRED, "expired"},
	{"{\"password\":\"MARK\",\"expires_at\":1600000000}", 0, ERR_EXPIRED, "expired"},
	{"{\"password\":\"MARK\",\"expires_at\":0}", 0, ERR_EXPIRED, "expired"},
	{"{\"password\":\"MARK\",\"expires_in\":0}", 0, ERR_EXPIRED, "expired"},
};

/* Proves: K5 K13 B11 CRED-12 */
START_TEST(errors_are_words_without_content)
{
	size_t n = bad[_i].n ? bad[_i].n : strlen(bad[_i].text);

	ck_assert_int_eq(parse_n(bad[_i].text, n), bad[_i].err);
	ck_assert_msg(strstr(why, bad[_i].why) != NULL, "%s", why);
	ck_assert(!strstr(why, "MARK"));
	ck_assert_ptr_null(got.password);
	ck_assert_ptr_null(got.username);
	ck_assert_ptr_null(got.host);
	ck_assert(got.expires_us == INT64_MAX);
}
END_TEST

/* Proves: B12 */
START_TEST(all_fields)
{
	static const char *const texts[] = {
		"{\"username\":\"u\",\"password\":\"p\",\"host\":\"db-2.internal\",\"port\":6380,\"database\":\"7\"}",
		"{\"username\":\"u\",\"password\":\"p\",\"host\":\"db-2.internal\",\"port\":\"6380\",\"database\":7}",
		"username=u\npassword=p\nhost=db-2.internal\nport=6380\ndatabase=7",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
		ck_assert_msg(parse(texts[i]) == ERR_OK, "%s", why);
		check_login("u", "p");
		ck_assert_str_eq(got.host, "db-2.internal");
		ck_assert_int_eq(got.port, 6380);
		ck_assert_str_eq(got.database, "7");
		ck_assert(got.expires_us == INT64_MAX);
	}
}
END_TEST

static const struct {
	const char *member;
	int64_t in_s; /* -1: never */
} ends[] = {
	{"\"expires_in\":900", 900},
	{"\"expires_in\":\"900\"", 900},
	{"\"lease_duration\":60", 60},
	{"\"lease_duration\":0", -1}, /* Vault: no lease */
	{"\"expires_in\":10,\"lease_duration\":60", 10},
	{"\"expires_at\":1700000060", 60},
	{"\"expires_at\":1700000060.9", 60},
	{"\"expires_at\":\"1700000060\"", 60},
	{"\"expires_at\":\"2023-11-14T22:14:20Z\"", 60},
	{"\"expires_at\":\"2023-11-14 22:14:20.123456z\"", 60},
	{"\"expires_at\":\"2023-11-15T00:14:20+02:00\"", 60},
	{"\"expires_at\":\"2023-11-14T17:44:20-04:30\"", 60},
	{"\"expires_at\":\"2024-02-29T00:00:00Z\"", 1709164800 - 1700000000},
	{"\"expires_at\":\"2100-03-01T00:00:00Z\"", INT64_C(4107542400) - 1700000000},
	{"\"expires_in\":900000000000000", -1},
	{"\"expires_at\":\"9999-12-31T23:59:59Z\"", INT64_C(253402300799) - 1700000000},
	{"\"other\":1", -1},
};

/* Proves: K13 B12 */
START_TEST(expiry)
{
	char text[200];

	snprintf(text, sizeof(text), "{\"password\":\"p\",%s}", ends[_i].member);
	ck_assert_msg(parse(text) == ERR_OK, "%s: %s", text, why);
	ck_assert_int_eq(got.expires_us, ends[_i].in_s < 0 ? INT64_MAX : NOW_US + ends[_i].in_s * SECOND);
}
END_TEST

/* Proves: K5 */
START_TEST(sixteen_kilobytes_and_the_limit)
{
	static char text[CRED_TEXT_MAX + 1];

	memset(text, 'x', sizeof(text));
	ck_assert_int_eq(parse_n(text, 16384), ERR_OK);
	ck_assert(secret_equal_bytes(got.password, text, 16384));
	/* The arena keeps a few bytes of its own with each secret. */
	ck_assert_int_eq(parse_n(text, 65000), ERR_OK);
	ck_assert_int_eq(parse_n(text, sizeof(text)), ERR_TOO_BIG);
	ck_assert_ptr_null(got.password);
}
END_TEST

/* Depth is bounded: as deep as a text can be is an error, not the end of the stack. */
START_TEST(deep_json)
{
	static char text[CRED_TEXT_MAX];
	int n = snprintf(text, sizeof(text), "{\"password\":\"p\",\"a\":");

	memset(text + n, '[', sizeof(text) - (size_t)n);
	ck_assert_int_eq(parse_n(text, sizeof(text)), ERR_INVALID);
}
END_TEST

static struct cred_value value(const char *text)
{
	return (struct cred_value){text, strlen(text)};
}

/* Proves: K5 K2 */
START_TEST(values_of_files)
{
	struct cred_value v[CRED_KEYS] = {{0}};

	v[CRED_KEY_USERNAME] = value("app\n");
	v[CRED_KEY_PASSWORD] = value("a:b=c\r\n");
	v[CRED_KEY_PORT] = value("6379\n");
	v[CRED_KEY_EXPIRES_IN] = value("60\n");
	ck_assert_msg(cred_parse_values(v, NOW_US, WALL_S, &got, &why) == ERR_OK, "%s", why);
	check_login("app", "a:b=c");
	ck_assert_int_eq(got.port, 6379);
	ck_assert_int_eq(got.expires_us, NOW_US + 60 * SECOND);
	cred_fields_clear(&got);
	v[CRED_KEY_USERNAME] = (struct cred_value){"a\0b", 3};
	ck_assert_int_eq(cred_parse_values(v, NOW_US, WALL_S, &got, &why), ERR_INVALID);
	v[CRED_KEY_USERNAME] = value("app");
	v[CRED_KEY_PASSWORD] = value("\n");
	ck_assert_int_eq(cred_parse_values(v, NOW_US, WALL_S, &got, &why), ERR_INVALID);
	v[CRED_KEY_PASSWORD] = (struct cred_value){NULL, 0};
	ck_assert_int_eq(cred_parse_values(v, NOW_US, WALL_S, &got, &why), ERR_INVALID);
}
END_TEST

/* Proves: CRED-12 K1 */
START_TEST(no_part_of_a_document_is_one)
{
	static const char text[] = "{\"username\":\"app\",\"password\":\"s3cret\",\"host\":\"h\",\"port\":1,"
				   "\"expires_in\":900,\"data\":{\"password\":\"other\"}}";

	for (size_t n = 0; n < sizeof(text) - 1; n++)
		ck_assert_int_eq(parse_n(text, n), ERR_INVALID);
	ck_assert_int_eq(parse(text), ERR_OK);
}
END_TEST

/* So long a secret that what jansson gives back is used for nothing else at once. */
/* Proves: CRED-14 */
START_TEST(no_copy_is_left_behind)
{
	static const char *const around[][2] = {
		{"{\"password\":\"", "\"}"},
		{"{\"password\":\"", ""},
		{"password=", "\n"},
		{"app:", ""},
		{"", "\n\n"},
	};
	size_t cap = 40000, n;
	char *text = malloc(cap);
	const char *kind;

	if (sanitized)
		return;
	ck_assert_int_eq(secret_arena_init(&kind), ERR_OK);
	n = (size_t)snprintf(text, cap, "%s%s%s%030000d%s", around[_i][0], "of-the-mark-", "that-is-parsed", 0,
			     around[_i][1]);
	(void)!cred_parse(text, n, NOW_US, WALL_S, &got, &why);
	secret_wipe(text, cap);
	ck_assert_int_le(mappings_with("of-the-mark-", "that-is-parsed"),
			 got.password && strcmp(kind, "memfd_secret") != 0 ? 1 : 0);
	free(text);
}
END_TEST

static void set_up(void)
{
	ck_assert_int_eq(secret_arena_init(NULL), ERR_OK);
	cred_fields_init(&got);
}

static void tear_down(void)
{
	cred_fields_clear(&got);
}

int main(void)
{
	Suite *s = suite_create("cred_parse");
	TCase *t = tcase_create("parse");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_loop_test(t, forms, 0, (int)(sizeof(good) / sizeof(*good)));
	tcase_add_loop_test(t, errors_are_words_without_content, 0, (int)(sizeof(bad) / sizeof(*bad)));
	tcase_add_test(t, all_fields);
	tcase_add_loop_test(t, expiry, 0, (int)(sizeof(ends) / sizeof(*ends)));
	tcase_add_test(t, sixteen_kilobytes_and_the_limit);
	tcase_add_test(t, deep_json);
	tcase_add_test(t, values_of_files);
	tcase_add_test(t, no_part_of_a_document_is_one);
	tcase_add_loop_test(t, no_copy_is_left_behind, 0, 5);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
