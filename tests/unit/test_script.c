/* test_script: the send/expect language, as tables of vectors that are fed whole, byte by byte and cut at every place. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "proto/script.h"

#define STEPS(...)                                                                                                   \
	((const struct script_step[]){__VA_ARGS__}),                                                                 \
		sizeof((const struct script_step[]){__VA_ARGS__}) / sizeof(struct script_step)

static struct blocks blocks;
static struct script_cred cred;

static struct script *compile(const struct script_step *steps, size_t n)
{
	struct script *s;
	size_t bad;
	const char *why;

	ck_assert_msg(script_compile(steps, n, &s, &bad, &why) == ERR_OK, "step %zu: %s", bad, why);
	return s;
}

static const char *verdict_name(enum script_verdict v)
{
	static const char *const names[] = {"more", "done", "denied", "failed"};

	return names[v];
}

static void ck_out(const struct buf *out, const char *want)
{
	char got[65536];
	size_t n = buf_copy(out, got, sizeof(got) - 1);

	got[n] = '\0';
	ck_assert_str_eq(got, want);
}

/* Feeds `in` in pieces of `piece` bytes (0: whole) after a first piece of `first`; stops at the verdict. *used (out): the
 * bytes fed by then. */
static enum script_verdict play(const struct script *s, const char *in, size_t n, size_t first, size_t piece,
				struct buf *out, size_t *used)
{
	struct script_run r;
	enum script_verdict v = script_start(&r, s, &blocks, &cred, out);
	size_t at = 0;

	while (v == SCRIPT_MORE && at < n) {
		size_t k = at == 0 && first ? first : piece ? piece : n - at;

		if (k > n - at)
			k = n - at;
		v = script_feed(&r, (const uint8_t *)in + at, k, &cred, out);
		at += k;
	}
	*used = at;
	if (v == SCRIPT_MORE) {
		script_stop(&r);
		script_stop(&r);
	}
	ck_assert_uint_eq(blocks.nused, buf_len(out) ? 1 : 0);
	return v;
}

struct vector {
	const char *expect, *denied, *end, *reply;
	enum script_verdict want;
};

/* One step each. */
static const struct vector vectors[] = {
	/* literals and prefixes */
	{"+PONG", NULL, NULL, "+PONG\r\n", SCRIPT_DONE},
	{"+PONG", NULL, NULL, "+PONG and more\n", SCRIPT_DONE},
	{"+PONG", NULL, NULL, "+PONG", SCRIPT_MORE},
	{"+PONG", NULL, NULL, "", SCRIPT_MORE},
	{"+PONG", NULL, NULL, "+PON\r\n", SCRIPT_FAILED},
	{"+PONG", NULL, NULL, " +PONG\r\n", SCRIPT_FAILED},
	{"+PONG\r\n", NULL, NULL, "+PONG\r\n", SCRIPT_DONE},
	{"+PONG\r\n", NULL, NULL, "+PONG\n", SCRIPT_FAILED},
	{"", NULL, NULL, "\n", SCRIPT_DONE},
	{"", NULL, NULL, "x", SCRIPT_MORE},
	{"+PONG", NULL, NULL, "+PONG\r\n+PONG\r\n", SCRIPT_FAILED},
	{"+PONG", NULL, NULL, "+PONG\n\n", SCRIPT_FAILED},
	/* wildcards */
	{"*", NULL, NULL, "anything\n", SCRIPT_DONE},
	{"*PONG", NULL, NULL, "PONG\n", SCRIPT_DONE},
	{"*PONG", NULL, NULL, "PPONPOPONG!\n", SCRIPT_DONE},
	{"*PONG", NULL, NULL, "PON\nG", SCRIPT_FAILED},
	{"a*b*c", NULL, NULL, "a..b..b.c\n", SCRIPT_DONE},
	{"a*b*c", NULL, NULL, "a..c..b\n", SCRIPT_FAILED},
	{"a**b", NULL, NULL, "ab\n", SCRIPT_DONE},
	{"a?c", NULL, NULL, "abc\n", SCRIPT_DONE},
	{"a?c", NULL, NULL, "ac\n", SCRIPT_FAILED},
	{"a?", NULL, NULL, "a\n", SCRIPT_DONE},
	{"???", NULL, NULL, "ab\n", SCRIPT_DONE},
	{"????", NULL, NULL, "ab\n", SCRIPT_FAILED},
	{"*a?c", NULL, NULL, "aabbabc\n", SCRIPT_DONE},
	{"*aab", NULL, NULL, "aaab\n", SCRIPT_DONE},
	{"a\\*b", NULL, NULL, "a*b\n", SCRIPT_DONE},
	{"a\\*b", NULL, NULL, "axb\n", SCRIPT_FAILED},
	{"a\\?b", NULL, NULL, "a?b\n", SCRIPT_DONE},
	{"a\\?b", NULL, NULL, "axb\n", SCRIPT_FAILED},
	{"a\\\\b", NULL, NULL, "a\\b\n", SCRIPT_DONE},
	{"a\\nb", NULL, NULL, "a\\nb\n", SCRIPT_DONE},
	{"a\\", NULL, NULL, "a\\\n", SCRIPT_DONE},
	{"a\xff?", NULL, NULL, "a\xff\xfe\n", SCRIPT_DONE},
	/* denials */
	{"+OK", "-WRONGPASS*", NULL, "+OK\r\n", SCRIPT_DONE},
	{"+OK", "-WRONGPASS*", NULL, "-WRONGPASS invalid\r\n", SCRIPT_DENIED},
	{"+OK", "-WRONGPASS*", NULL, "-ERR invalid\r\n", SCRIPT_FAILED},
	{"+OK", "-WRONGPASS", NULL, "-WRONGPASS", SCRIPT_MORE},
	{"+OK", "-WRONGPASS", NULL, "-WRONGPASS\r\nbye\r\n", SCRIPT_DENIED},
	{"*", "-*", NULL, "-both match\n", SCRIPT_DENIED},
	/* other ends */
	{"a", NULL, "\r\n.\r\n", "a\r\nb\r\n.\r\n", SCRIPT_DONE},
	{"a", NULL, "\r\n.\r\n", "a\r\n.\r\r\n.\r\n", SCRIPT_DONE},
	{"a", NULL, "\r\n.\r\n", "a\r\nb\r\n.\n", SCRIPT_MORE},
	{"a", NULL, "aab", "aaab", SCRIPT_DONE},
	{"a", NULL, "**", "a*b**", SCRIPT_DONE},
	{"a", NULL, "?", "ab?", SCRIPT_DONE},
	/* no end: as soon as a pattern matches */
	{"login:", NULL, "", "login:", SCRIPT_DONE},
	{"login:", NULL, "", "login: ", SCRIPT_FAILED},
	{"*login: ", NULL, "", "Debian\r\n\r\nlogin: ", SCRIPT_DONE},
	{"*login: ", NULL, "", "Debian\r\n\r\nlogin:", SCRIPT_MORE},
	{"login:", NULL, "", "lox", SCRIPT_FAILED},
	{"*$", "*denied", "", "acces denied", SCRIPT_DENIED},
	{"*$", "*denied", "", "host $", SCRIPT_DONE},
	{"ab", "a", "", "a", SCRIPT_DENIED},
	{"a", "ab", "", "a", SCRIPT_DONE},
	{"a?", "?b", "", "ab", SCRIPT_DENIED},
	{"ab", "xy", "", "xz", SCRIPT_FAILED},
	{"ab", "xy", "", "x", SCRIPT_MORE},
};

static const char *const big_pattern =
	"*aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab*aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac*d*e";

static struct script *vector_script(const struct vector *v)
{
	struct script_step st = {.send = "go", .expect = v->expect, .expect_denied = v->denied, .end = v->end};

	return compile(&st, 1);
}

/* Bytes behind the last reply are dirt only when they are seen together with it; cut off, the run was over before. */
static bool vector_ok(const struct vector *v, enum script_verdict got, size_t used)
{
	if (got == v->want)
		return true;
	return v->want == SCRIPT_FAILED && got == SCRIPT_DONE && used < strlen(v->reply);
}

/* Proves: C10 U10 */
START_TEST(vectors_cut_everywhere)
{
	const struct vector *v = &vectors[_i];
	struct script *s = vector_script(v);
	size_t n = strlen(v->reply), used;

	for (size_t first = 0; first <= n; first++) {
		for (size_t piece = 0; piece <= 3; piece++) {
			struct buf out;
			enum script_verdict got;

			buf_init(&out, &blocks);
			got = play(s, v->reply, n, first, piece, &out, &used);
			ck_assert_msg(vector_ok(v, got, used), "%s %s: '%s' cut at %zu, then by %zu: %s", v->expect,
				      v->denied ? v->denied : "", v->reply, first, piece, verdict_name(got));
			if (first == 0 && piece == 0)
				ck_assert_int_eq(got, v->want);
			ck_out(&out, "go");
			buf_clear(&out);
		}
	}
	script_free(&s);
}
END_TEST

/* The run is over exactly at the byte where the reply ends, never before. */
START_TEST(done_at_the_last_byte)
{
	struct script *s = compile(STEPS({.expect = "+OK", .expect_denied = "-NO"}));
	struct buf out;
	size_t used;

	buf_init(&out, &blocks);
	ck_assert_int_eq(play(s, "+OK 123\r\nnext", 13, 0, 1, &out, &used), SCRIPT_DONE);
	ck_assert_uint_eq(used, 9);
	ck_assert_int_eq(play(s, "-NO\nnext", 8, 0, 1, &out, &used), SCRIPT_DENIED);
	ck_assert_uint_eq(used, 4);
	script_free(&s);
}
END_TEST

START_TEST(several_steps)
{
	struct script *s = compile(STEPS({.expect = "220"}, {.send = "USER $$x\r\n", .expect = "331"},
					 {.send = "N\n"}, {.send = "PASS\n", .expect = "2", .expect_denied = "5"},
					 {.send = "SYNC\n"}));
	static const char in[] = "220 hi\r\n331 pass?\r\n200 ok\r\n";
	const size_t n = sizeof(in) - 1;
	struct buf out;
	size_t used;

	for (size_t first = 0; first <= n; first++) {
		for (size_t piece = 0; piece <= 2; piece++) {
			buf_init(&out, &blocks);
			ck_assert_int_eq(play(s, in, n, first, piece, &out, &used), SCRIPT_DONE);
			ck_assert_uint_eq(used, n);
			ck_out(&out, "USER $x\r\nN\nPASS\nSYNC\n");
			buf_clear(&out);
		}
	}
	buf_init(&out, &blocks);
	ck_assert_int_eq(play(s, "220\n331\n530 no\n", 15, 0, 0, &out, &used), SCRIPT_DENIED);
	ck_out(&out, "USER $x\r\nN\nPASS\n");
	buf_clear(&out);
	script_free(&s);
}
END_TEST

START_TEST(nothing_expected_is_done_at_once)
{
	struct script *s = compile(STEPS({.send = "HELLO\n"}, {.send = "again\n"}));
	struct script_run r;
	struct buf out;

	buf_init(&out, &blocks);
	ck_assert_int_eq(script_start(&r, s, &blocks, NULL, &out), SCRIPT_DONE);
	ck_out(&out, "HELLO\nagain\n");
	script_stop(&r);
	buf_clear(&out);
	ck_assert(!script_needs_credential(s));
	script_free(&s);
}
END_TEST

/* A zeroed run is no run: stopping it is fine. */
START_TEST(stop_without_start)
{
	struct script_run r = {0};

	script_stop(&r);
	script_stop(&r);
}
END_TEST

/* Feeds `n` bytes 'x' and then `tail`, in pieces. */
static enum script_verdict play_long(const struct script *s, size_t n, const char *tail, size_t piece)
{
	char *in = mem_alloc(n + strlen(tail) + 1);
	enum script_verdict v;
	struct buf out;
	size_t used;

	memset(in, 'x', n);
	memcpy(in + n, tail, strlen(tail) + 1);
	buf_init(&out, &blocks);
	v = play(s, in, n + strlen(tail), 0, piece, &out, &used);
	buf_clear(&out);
	mem_free(in);
	return v;
}

START_TEST(reply_limit)
{
	struct script *line = compile(STEPS({.expect = "x"})), *open = compile(STEPS({.expect = "*y", .end = ""}));
	static const size_t pieces[] = {0, 1, 7, 4096};

	for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
		size_t p = pieces[i];

		ck_assert_int_eq(play_long(line, SCRIPT_REPLY_MAX - 1, "\n", p), SCRIPT_DONE);
		ck_assert_int_eq(play_long(line, SCRIPT_REPLY_MAX, "\n", p), SCRIPT_FAILED);
		ck_assert_int_eq(play_long(line, SCRIPT_REPLY_MAX - 1, "", p), SCRIPT_MORE);
		ck_assert_int_eq(play_long(line, SCRIPT_REPLY_MAX, "", p), SCRIPT_FAILED);
		ck_assert_int_eq(play_long(line, 1000000, "\n", p), SCRIPT_FAILED);
		ck_assert_int_eq(play_long(open, SCRIPT_REPLY_MAX - 1, "y", p), SCRIPT_DONE);
		ck_assert_int_eq(play_long(open, SCRIPT_REPLY_MAX, "y", p), SCRIPT_FAILED);
	}
	script_free(&line);
	script_free(&open);
}
END_TEST

/* Each reply has the limit for itself. */
START_TEST(reply_limit_is_per_reply)
{
	struct script *s = compile(STEPS({.expect = "x"}, {.expect = "x"}));
	size_t n = SCRIPT_REPLY_MAX - 1, used;
	char *in = mem_alloc(2 * n + 2);
	struct buf out;

	memset(in, 'x', 2 * n + 2);
	in[n] = in[2 * n + 1] = '\n';
	buf_init(&out, &blocks);
	ck_assert_int_eq(play(s, in, 2 * n + 2, 0, 0, &out, &used), SCRIPT_DONE);
	ck_assert_int_eq(play(s, in, 2 * n + 2, 0, 1000, &out, &used), SCRIPT_DONE);
	mem_free(in);
	script_free(&s);
}
END_TEST

/* Patterns that make backtracking matchers explode: at most reply x pattern steps here. */
START_TEST(hostile_patterns_are_quick)
{
	char pattern[SCRIPT_PATTERN_MAX + 1];
	struct script_step st = {.expect = pattern, .end = ""};
	struct script *s;

	for (size_t i = 0; i < SCRIPT_PATTERN_MAX; i++)
		pattern[i] = i % 2 ? 'x' : '*';
	memcpy(pattern + SCRIPT_PATTERN_MAX - 2, "*y", 3);
	s = compile(&st, 1);
	ck_assert_int_eq(play_long(s, SCRIPT_REPLY_MAX - 2, "z", 1), SCRIPT_MORE);
	ck_assert_int_eq(play_long(s, SCRIPT_REPLY_MAX - 1, "y", 1), SCRIPT_DONE);
	script_free(&s);
	memset(pattern, 'x', SCRIPT_PATTERN_MAX);
	pattern[0] = '*';
	pattern[SCRIPT_PATTERN_MAX - 1] = 'y';
	s = compile(&st, 1);
	ck_assert_int_eq(play_long(s, SCRIPT_REPLY_MAX - 2, "z", 1), SCRIPT_MORE);
	ck_assert_int_eq(play_long(s, SCRIPT_REPLY_MAX - 1, "y", 0), SCRIPT_DONE);
	script_free(&s);
	st.expect = big_pattern;
	s = compile(&st, 1);
	ck_assert_int_eq(play_long(s, SCRIPT_REPLY_MAX - 2, "z", 1), SCRIPT_MORE);
	script_free(&s);
}
END_TEST

struct mistake {
	struct script_step steps[3];
	size_t n, bad;
	const char *why;
};

static const struct mistake mistakes[] = {
	{{{0}}, 0, 0, "at least one step"},
	{{{0}}, 1, 0, "needs send or expect"},
	{{{.send = "a"}, {.send = ""}}, 2, 1, "needs send or expect"},
	{{{.send = "a"}, {.send = "${user}"}}, 2, 1, "${username} and ${password} only"},
	{{{.send = "${USERNAME}"}}, 1, 0, "${username} and ${password} only"},
	{{{.send = "${}"}}, 1, 0, "${username} and ${password} only"},
	{{{.send = "a"}, {.send = "b"}, {.send = "AUTH ${password"}}, 3, 2, "not closed"},
	{{{.send = "${"}}, 1, 0, "not closed"},
	{{{.send = "a$"}}, 1, 0, "written \"$$\""},
	{{{.send = "$5"}}, 1, 0, "written \"$$\""},
	{{{.send = "a", .expect_denied = "-"}}, 1, 0, "expect_denied without expect"},
	{{{.send = "a", .end = "\n"}}, 1, 0, "end without expect"},
	{{{.send = "a", .expect = "", .end = ""}}, 1, 0, "at least one byte"},
	{{{.send = "a", .expect = "**", .end = ""}}, 1, 0, "at least one byte"},
	{{{.send = "a", .expect = "b", .expect_denied = "*", .end = ""}}, 1, 0, "at least one byte"},
};

START_TEST(mistakes_name_their_step)
{
	const struct mistake *m = &mistakes[_i];
	struct script *s = (struct script *)(void *)&s;
	size_t bad = 99;
	const char *why = NULL;

	ck_assert_int_eq(script_compile(m->steps, m->n, &s, &bad, &why), ERR_CONFIG);
	ck_assert_ptr_null(s);
	ck_assert_uint_eq(bad, m->bad);
	ck_assert_msg(strstr(why, m->why) != NULL, "'%s' should say '%s'", why, m->why);
}
END_TEST

static void ck_too_long(struct script_step st, const char *want)
{
	struct script *s;
	size_t bad;
	const char *why;

	ck_assert_int_eq(script_compile(&st, 1, &s, &bad, &why), ERR_CONFIG);
	ck_assert_msg(strstr(why, want) != NULL, "'%s' should say '%s'", why, want);
}

START_TEST(limits_of_texts_and_steps)
{
	static char text[SCRIPT_SEND_MAX + 2];
	struct script_step many[SCRIPT_STEPS_MAX + 1];
	struct script *s;
	size_t bad;
	const char *why;

	memset(text, 'a', SCRIPT_SEND_MAX + 1);
	ck_too_long((struct script_step){.send = text}, "send is longer");
	ck_too_long((struct script_step){.expect = text}, "pattern is longer");
	ck_too_long((struct script_step){.expect = "a", .expect_denied = text}, "pattern is longer");
	ck_too_long((struct script_step){.expect = "a", .end = text}, "end is longer");
	text[SCRIPT_SEND_MAX] = '\0';
	s = compile(STEPS({.send = text}));
	script_free(&s);
	text[SCRIPT_PATTERN_MAX] = '\0';
	s = compile(STEPS({.expect = text, .expect_denied = text, .end = text}));
	script_free(&s);
	for (size_t i = 0; i <= SCRIPT_STEPS_MAX; i++)
		many[i] = (struct script_step){.send = "a"};
	s = compile(many, SCRIPT_STEPS_MAX);
	script_free(&s);
	script_free(&s);
	ck_assert_int_eq(script_compile(many, SCRIPT_STEPS_MAX + 1, &s, &bad, &why), ERR_CONFIG);
	ck_assert_uint_eq(bad, SCRIPT_STEPS_MAX);
	ck_assert_ptr_nonnull(strstr(why, "at most 32"));
}
END_TEST

#define MARK "s3cr3t-MARKED-pa55word"

/* True when the buffer holds the mark. */
static bool has_mark(const struct buf *b)
{
	static uint8_t all[65536];
	size_t n = buf_copy(b, all, sizeof(all));
	bool found = memmem(all, n, MARK, sizeof(MARK) - 1) != NULL;

	secret_wipe(all, n);
	return found;
}

START_TEST(credential_goes_to_the_arena_only)
{
	struct script *s =
		compile(STEPS({.send = "AUTH ${username} ${password}$$\r\n", .expect = "+OK", .expect_denied = "-"},
			      {.send = "${password}"}));
	char pw[] = MARK;
	struct secret *secret = secret_take(pw, sizeof(pw) - 1);
	struct script_cred c = {.username = "bob", .password = secret};
	struct script_run r;
	struct buf out;
	size_t others;

	ck_assert(script_needs_credential(s));
	ck_assert_ptr_null(memmem(pw, sizeof(pw), MARK, 6));
	others = blocks.nused;
	buf_init(&out, secret_blocks());
	ck_assert_int_eq(script_start(&r, s, &blocks, &c, &out), SCRIPT_MORE);
	ck_out(&out, "AUTH bob " MARK "$\r\n");
	ck_assert(has_mark(&out));
	/* no ordinary block was ever taken, and the run itself holds nothing */
	ck_assert_uint_eq(blocks.nused, others);
	ck_assert_ptr_null(memmem(&r, sizeof(r), MARK, 6));
	ck_assert_int_eq(script_feed(&r, (const uint8_t *)"+O", 2, &c, &out), SCRIPT_MORE);
	ck_assert(!has_mark(&r.reply));
	ck_assert_uint_eq(buf_len(&r.reply), 2);
	ck_assert_int_eq(script_feed(&r, (const uint8_t *)"K\n", 2, &c, &out), SCRIPT_DONE);
	ck_assert_uint_eq(blocks.nused, others);
	ck_out(&out, "AUTH bob " MARK "$\r\n" MARK);
	buf_clear(&out);
	secret_drop(&secret);
	script_free(&s);
}
END_TEST

/* An ordinary buffer for a password is our own mistake: it aborts. */
START_TEST(password_into_an_ordinary_buffer_aborts)
{
	struct script *s = compile(STEPS({.send = "${password}"}));
	char pw[] = MARK;
	struct script_cred c = {.username = "bob", .password = secret_take(pw, sizeof(pw) - 1)};
	struct script_run r;
	struct buf out;

	buf_init(&out, &blocks);
	script_start(&r, s, &blocks, &c, &out);
}
END_TEST

START_TEST(missing_credential_fails)
{
	struct script *user = compile(STEPS({.send = "a"}, {.send = "${username}", .expect = "x"}));
	struct script *password = compile(STEPS({.send = "${password}"}));
	struct script_cred nobody = {0};
	struct script_run r;
	struct buf out;

	ck_assert(script_needs_credential(user) && script_needs_credential(password));
	buf_init(&out, &blocks);
	ck_assert_int_eq(script_start(&r, user, &blocks, &nobody, &out), SCRIPT_FAILED);
	ck_assert_int_eq(script_start(&r, user, &blocks, NULL, &out), SCRIPT_FAILED);
	ck_assert_int_eq(script_start(&r, password, &blocks, &nobody, &out), SCRIPT_FAILED);
	buf_clear(&out);
	script_free(&user);
	script_free(&password);
}
END_TEST

/* The texts belong to the script: the caller may reuse theirs. */
START_TEST(texts_are_copied)
{
	char send[] = "PING\n", expect[] = "+PONG", denied[] = "-", end[] = "\n";
	struct script_step st = {send, expect, denied, end};
	struct script *s = compile(&st, 1);
	struct buf out;
	size_t used;

	memset(send, 'z', 5);
	memset(expect, 'z', 5);
	denied[0] = end[0] = 'z';
	buf_init(&out, &blocks);
	ck_assert_int_eq(play(s, "+PONG\n", 6, 0, 0, &out, &used), SCRIPT_DONE);
	ck_out(&out, "PING\n");
	buf_clear(&out);
	script_free(&s);
}
END_TEST

static void setup(void)
{
	ck_assert_int_eq(secret_arena_init(NULL), ERR_OK);
	blocks_init(&blocks, 4);
}

static void teardown(void)
{
	blocks_done(&blocks);
}

int main(void)
{
	Suite *suite = suite_create("script");
	TCase *run = tcase_create("run"), *comp = tcase_create("compile"), *sec = tcase_create("credential");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(run, setup, teardown);
	tcase_add_loop_test(run, vectors_cut_everywhere, 0, sizeof(vectors) / sizeof(vectors[0]));
	tcase_add_test(run, done_at_the_last_byte);
	tcase_add_test(run, several_steps);
	tcase_add_test(run, nothing_expected_is_done_at_once);
	tcase_add_test(run, stop_without_start);
	tcase_add_test(run, reply_limit);
	tcase_add_test(run, reply_limit_is_per_reply);
	tcase_add_test(run, hostile_patterns_are_quick);
	tcase_add_test(run, texts_are_copied);
	tcase_set_timeout(run, 30);
	suite_add_tcase(suite, run);

	tcase_add_loop_test(comp, mistakes_name_their_step, 0, sizeof(mistakes) / sizeof(mistakes[0]));
	tcase_add_test(comp, limits_of_texts_and_steps);
	suite_add_tcase(suite, comp);

	tcase_add_checked_fixture(sec, setup, teardown);
	tcase_add_test(sec, credential_goes_to_the_arena_only);
	tcase_add_test_raise_signal(sec, password_into_an_ordinary_buffer_aborts, SIGABRT);
	tcase_add_test(sec, missing_credential_fails);
	suite_add_tcase(suite, sec);

	sr = srunner_create(suite);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
