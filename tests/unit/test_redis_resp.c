/* test_redis_resp: framing of the Redis protocol, as vectors that are fed whole and cut at every place. */
#include <check.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "proto/redis/resp.h"

#define ARRAY(a) (sizeof(a) / sizeof((a)[0]))
#define VECTOR(s, v)                                                                                                 \
	{                                                                                                            \
		s, sizeof(s) - 1, v                                                                                  \
	}

/* ---- replies ---- */

static const struct {
	const char *bytes;
	size_t n;
	enum resp_verdict want; /* END: with the last byte, and not before */
} replies[] = {
	VECTOR("+OK\r\n", RESP_END),
	VECTOR("+\r\n", RESP_END),
	VECTOR("+a\rb\nc\r\n", RESP_END),
	VECTOR("-ERR x\r\n", RESP_END),
	VECTOR(":0\r\n", RESP_END),
	VECTOR(":-9223372036854775808\r\n", RESP_END),
	VECTOR(":+5\r\n", RESP_END),
	VECTOR(":\r\n", RESP_BAD),
	VECTOR(":1x\r\n", RESP_BAD),
	VECTOR(":123456789012345678901\r\n", RESP_BAD),
	VECTOR("$0\r\n\r\n", RESP_END),
	VECTOR("$-1\r\n", RESP_END),
	VECTOR("$-2\r\n", RESP_BAD),
	VECTOR("$5\r\nab\r\nc\r\n", RESP_END),
	VECTOR("$5\r\nabcdexx", RESP_BAD),
	VECTOR("$5\r\nabcde\rx", RESP_BAD),
	VECTOR("$05\r\nabcde\r\n", RESP_BAD),
	VECTOR("$+5\r\nabcde\r\n", RESP_BAD),
	VECTOR("$ 5\r\nabcde\r\n", RESP_BAD),
	VECTOR("$5\rabcde\r\n", RESP_BAD),
	VECTOR("$\r\n", RESP_BAD),
	VECTOR("$12345678901234567890123456789", RESP_BAD),
	VECTOR("*0\r\n", RESP_END),
	VECTOR("*-1\r\n", RESP_END),
	VECTOR("*-2\r\n", RESP_BAD),
	VECTOR("*2\r\n$1\r\na\r\n:1\r\n", RESP_END),
	VECTOR("*2\r\n*1\r\n*0\r\n*-1\r\n", RESP_END),
	VECTOR("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*2\r\n+a\r\n+b\r\n", RESP_END),
	VECTOR("*3\r\n$-1\r\n-ERR in the middle\r\n+x\r\n", RESP_END),
	VECTOR("_\r\n", RESP_END),
	VECTOR("_x\r\n", RESP_BAD),
	VECTOR("#t\r\n", RESP_END),
	VECTOR("#f\r\n", RESP_END),
	VECTOR("#x\r\n", RESP_BAD),
	VECTOR("#true\r\n", RESP_BAD),
	VECTOR(",1.5\r\n", RESP_END),
	VECTOR(",inf\r\n", RESP_END),
	VECTOR(",\r\n", RESP_BAD),
	VECTOR("(3492890328409238509324850943850943825024385\r\n", RESP_END),
	VECTOR("(-1\r\n", RESP_END),
	VECTOR("(1.5\r\n", RESP_BAD),
	VECTOR("!5\r\nERR x\r\n", RESP_END),
	VECTOR("=8\r\ntxt:abcd\r\n", RESP_END),
	VECTOR("=3\r\ntxt\r\n", RESP_BAD),
	VECTOR("%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n+c\r\n", RESP_END),
	VECTOR("%0\r\n", RESP_END),
	VECTOR("%-1\r\n", RESP_BAD),
	VECTOR("~2\r\n+a\r\n+b\r\n", RESP_END),
	VECTOR(">2\r\n+a\r\n+b\r\n", RESP_END),
	VECTOR("*1\r\n>1\r\n+a\r\n", RESP_BAD),
	VECTOR("|1\r\n+a\r\n+b\r\n", RESP_END), /* an attribute is told by itself */
	VECTOR("|0\r\n", RESP_END),
	VECTOR("*2\r\n|1\r\n+a\r\n+b\r\n+c\r\n+d\r\n", RESP_END),
	VECTOR("*1\r\n|0\r\n+c\r\n", RESP_END),
	VECTOR("*2\r\n|1\r\n+a\r\n*2\r\n|1\r\n+x\r\n+y\r\n+p\r\n+q\r\n:1\r\n:2\r\n", RESP_END),
	VECTOR("$?\r\n;4\r\nHell\r\n;5\r\no wor\r\n;0\r\n", RESP_END),
	VECTOR("$?\r\n;0\r\n", RESP_END),
	VECTOR("$?\r\n+x\r\n", RESP_BAD),
	VECTOR("$?\rx", RESP_BAD),
	VECTOR("*1\r\n$?\r\n;1\r\na\r\n;0\r\n", RESP_END),
	VECTOR("*?\r\n:1\r\n:2\r\n.\r\n", RESP_END),
	VECTOR("*?\r\n.\r\n", RESP_END),
	VECTOR("*?\r\n*?\r\n:1\r\n.\r\n*1\r\n:2\r\n.\r\n", RESP_END),
	VECTOR("%?\r\n+a\r\n:1\r\n.\r\n", RESP_END),
	VECTOR("%?\r\n+a\r\n.\r\n", RESP_BAD),
	VECTOR("~?\r\n+a\r\n.\r\n", RESP_END),
	VECTOR(".\r\n", RESP_BAD),
	VECTOR("*1\r\n.\r\n", RESP_BAD),
	VECTOR("*?\r\n.x\n", RESP_BAD),
	VECTOR("|?\r\n+a\r\n", RESP_BAD),
	VECTOR("x", RESP_BAD),
	VECTOR("\r\n", RESP_BAD),
	/* sizes nobody sends: closed at their first line. Proves: F:U12 */
	VECTOR("$1073741825\r\n", RESP_BAD),
	VECTOR("$2147483648\r\n", RESP_BAD),
	VECTOR("$9223372036854775807\r\n", RESP_BAD),
	VECTOR("$9223372036854775808\r\n", RESP_BAD),
	VECTOR("$18446744073709551617\r\n", RESP_BAD),
	VECTOR("$-9223372036854775808\r\n", RESP_BAD),
	VECTOR("*1000000000\r\n", RESP_BAD),
	VECTOR("*536870912\r\n", RESP_BAD),
	VECTOR("%268435456\r\n", RESP_BAD),
	VECTOR("%9223372036854775807\r\n", RESP_BAD),
	VECTOR("*4294967297\r\n", RESP_BAD),
	VECTOR("$?\r\n;1073741825\r\n", RESP_BAD),
	VECTOR("$5\r\nabc", RESP_MORE),
	VECTOR("$1073741824\r\n", RESP_MORE),
	VECTOR("*536870911\r\n+x\r\n", RESP_MORE),
};

/* As the core does it: what is not taken is looked at again with more behind it. cut: bytes that come first; then all. */
static enum resp_verdict walk(const char *bytes, size_t n, size_t cut, size_t step, size_t *taken)
{
	struct resp_frame f = {0};
	size_t from = 0, there = cut;
	enum resp_verdict v;

	for (;;) {
		size_t len = 0;
		uint8_t *view = mem_alloc(there - from + 1);

		/* of its exact size, for the sanitizers */
		memcpy(view, bytes + from, there - from);
		view = mem_realloc(view, there - from ? there - from : 1);
		v = resp_reply(&f, view, there - from, &len);
		mem_free(view);
		ck_assert_uint_le(len, there - from);
		ck_assert_int_eq(v == RESP_PART, v == RESP_PART && len > 0);
		from += len;
		*taken = from;
		if (v == RESP_END || v == RESP_BAD) {
			ck_assert(resp_frame_is_idle(&f));
			ck_assert_ptr_null(f.deep);
			return v;
		}
		if (there == n) {
			resp_frame_drop(&f);
			return RESP_MORE;
		}
		there = there + step < n ? there + step : n;
	}
}

START_TEST(replies_cut_everywhere)
{
	const char *bytes = replies[_i].bytes;
	size_t n = replies[_i].n, taken;

	for (size_t cut = 0; cut <= n; cut++) {
		ck_assert_msg(walk(bytes, n, cut, n, &taken) == replies[_i].want, "%s cut at %zu", bytes, cut);
		if (replies[_i].want == RESP_END)
			ck_assert_uint_eq(taken, n);
	}
	ck_assert_int_eq(walk(bytes, n, 0, 1, &taken), replies[_i].want);
	/* Less than all of it is never the end. */
	for (size_t less = 0; replies[_i].want == RESP_END && less < n; less++)
		ck_assert_int_eq(walk(bytes, less, less, 1, &taken), RESP_MORE);
}
END_TEST

/* What follows a reply is not of it. */
START_TEST(replies_end_where_they_end)
{
	char two[512];
	size_t n = replies[_i].n, taken;

	if (replies[_i].want != RESP_END)
		return;
	memcpy(two, replies[_i].bytes, n);
	memcpy(two + n, "$1\r\nx\r\n", 7);
	ck_assert_int_eq(walk(two, n + 7, n + 7, 1, &taken), RESP_END);
	ck_assert_uint_eq(taken, n);
}
END_TEST

/* Proves: F:U12 */
START_TEST(depth_has_its_limit)
{
	struct resp_frame f = {0};
	size_t len;

	for (int i = 0; i < RESP_DEPTH_MAX; i++)
		ck_assert_int_eq(resp_reply(&f, (const uint8_t *)"*2\r\n", 4, &len), RESP_PART);
	ck_assert_int_eq(resp_reply(&f, (const uint8_t *)"+x\r\n", 4, &len), RESP_PART);
	ck_assert_int_eq(resp_reply(&f, (const uint8_t *)"*2\r\n", 4, &len), RESP_BAD);
	for (int i = 0; i < RESP_DEPTH_MAX; i++)
		ck_assert_int_eq(resp_reply(&f, (const uint8_t *)"*1\r\n", 4, &len), RESP_PART);
	ck_assert_int_eq(resp_reply(&f, (const uint8_t *)"+x\r\n", 4, &len), RESP_END);
	ck_assert_ptr_null(f.deep);
}
END_TEST

/* Sizes cost nothing: the frame knows counts only. Proves: F:U12, F:C2 */
START_TEST(sizes_cost_no_memory)
{
	static uint8_t zeros[1 << 20];
	struct resp_frame f = {0};
	size_t before = mallinfo2().uordblks, len, left = 1 << 30;

	ck_assert_int_eq(resp_reply(&f, (const uint8_t *)"*536870911\r\n$1073741824\r\n", 25, &len), RESP_PART);
	ck_assert_uint_eq(len, 25);
	while (left) {
		size_t part = left < sizeof(zeros) ? left : sizeof(zeros);

		ck_assert_int_eq(resp_reply(&f, zeros, part, &len), RESP_PART);
		ck_assert_uint_eq(len, part);
		left -= part;
	}
	ck_assert_int_eq(resp_reply(&f, (const uint8_t *)"\r\n:1\r\n", 6, &len), RESP_PART);
	ck_assert_uint_eq(len, 6);
	ck_assert_uint_le(mallinfo2().uordblks, before + 1024);
	resp_frame_drop(&f);
}
END_TEST

START_TEST(lines_longer_than_a_head)
{
	static char line[3 * RESP_HEAD_MAX];
	size_t taken;

	memset(line, 'x', sizeof(line));
	line[sizeof(line) - 2] = '\r';
	line[sizeof(line) - 1] = '\n';
	for (const char *type = "+-"; *type; type++) {
		line[0] = *type;
		for (size_t cut = RESP_HEAD_MAX - 1; cut <= sizeof(line); cut += cut == sizeof(line) - 2 ? 1 : 4095) {
			ck_assert_int_eq(walk(line, sizeof(line), cut, 1000, &taken), RESP_END);
			ck_assert_uint_eq(taken, sizeof(line));
		}
	}
	line[0] = ',';
	ck_assert_int_eq(walk(line, sizeof(line), RESP_HEAD_MAX, 1000, &taken), RESP_BAD);
}
END_TEST

/* ---- requests ---- */

static const struct {
	const char *bytes;
	size_t n;
	enum resp_verdict want;
	uint32_t argc;
	const char *args[4];
} requests[] = {
	{"*1\r\n$4\r\nPING\r\n", 14, RESP_END, 1, {"PING"}},
	{"*2\r\n$0\r\n\r\n$2\r\n\r\n\r\n", 18, RESP_END, 2, {"", "\r\n"}},
	{"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n", 27, RESP_END, 3, {"SET", "a", "b"}},
	{"*0\r\n", 4, RESP_END, 0, {0}},
	{"*-5\r\n", 5, RESP_END, 0, {0}},
	{"*1\r\n", 4, RESP_MORE, 0, {0}},
	{"*01\r\n", 5, RESP_BAD, 0, {0}},
	{"*1\n$1\r\na\r\n", 10, RESP_BAD, 0, {0}},
	{"*1\r\n$\r\n", 7, RESP_BAD, 0, {0}},
	{"*1\r\n$1\r\nab\r\n", 12, RESP_BAD, 0, {0}},
	{"*1\r\n:1\r\n", 8, RESP_BAD, 0, {0}},
	{"*12345678901234567890123", 24, RESP_BAD, 0, {0}},
	{"PING\n", 5, RESP_END, 1, {"PING"}},
	{" PING  a\t'b c'\r\n", 16, RESP_END, 3, {"PING", "a", "b c"}},
	{"a \"x\\n\\t\\r\\a\\b\\\\\\\"\\x4a\\x4\" ''\r\n", 31, RESP_END, 3, {"a", "x\n\t\r\a\b\\\"Jx4", ""}},
	{"a'b'\r\n", 6, RESP_END, 1, {"ab"}},
	{"a\"b\"c\r\n", 7, RESP_BAD, 0, {0}},
	{"'a\\'b\\n'\r\n", 10, RESP_END, 1, {"a'b\\n"}},
	{"a \v\f b\vc\r\n", 10, RESP_END, 2, {"a", "b\vc"}},
	{"'a\r\n", 4, RESP_BAD, 0, {0}},
	{"\"a\\\r\n", 5, RESP_BAD, 0, {0}},
	{"\r\n", 2, RESP_END, 0, {0}},
	{"\n", 1, RESP_END, 0, {0}},
	{"  \r\n", 4, RESP_END, 0, {0}},
	{"a\r\r\n", 4, RESP_END, 1, {"a"}},
	{"PING", 4, RESP_MORE, 0, {0}},
};

static enum resp_verdict ask(struct resp_request *r, const char *bytes, size_t n, uint8_t *scratch)
{
	struct resp_body body;
	uint8_t *view = mem_alloc(n ? n : 1);
	static uint8_t kept[64];
	enum resp_verdict v;

	memcpy(view, bytes, n);
	v = resp_request(r, view, n, true, scratch, &body);
	/* what points into the view must outlive it here */
	ck_assert_uint_le(n, sizeof(kept));
	memcpy(kept, view, n);
	for (uint32_t i = 0; v == RESP_END && !r->is_inline && i < r->kept; i++)
		r->args[i].p = kept + (r->args[i].p - view);
	mem_free(view);
	return v;
}

START_TEST(requests_cut_everywhere)
{
	static uint8_t scratch[RESP_HEAD_MAX];
	struct resp_request r;
	char two[64];
	size_t n = requests[_i].n;

	ck_assert_int_eq(ask(&r, requests[_i].bytes, n, scratch), requests[_i].want);
	if (requests[_i].want != RESP_END)
		return;
	for (size_t cut = 0; cut < n; cut++)
		ck_assert_int_eq(ask(&r, requests[_i].bytes, cut, scratch), RESP_MORE);
	memcpy(two, requests[_i].bytes, n);
	memcpy(two + n, "\0*?", 3);
	ck_assert_int_eq(ask(&r, two, n + 3, scratch), RESP_END);
	ck_assert_uint_eq(r.len, n);
	ck_assert_uint_eq(r.argc, requests[_i].argc);
	for (uint32_t i = 0; i < r.argc && requests[_i].args[i]; i++) {
		ck_assert_uint_eq(r.args[i].n, strlen(requests[_i].args[i]));
		ck_assert_int_eq(memcmp(r.args[i].p, requests[_i].args[i], r.args[i].n), 0);
	}
}
END_TEST

/* Proves: F:C2 */
START_TEST(endless_requests_end)
{
	static uint8_t big[RESP_HEAD_MAX + 1], scratch[RESP_HEAD_MAX];
	struct resp_request r;
	struct resp_body body;

	memset(big, 'x', sizeof(big));
	ck_assert_int_eq(resp_request(&r, big, RESP_HEAD_MAX - 1, true, scratch, &body), RESP_MORE);
	ck_assert_int_eq(resp_request(&r, big, RESP_HEAD_MAX, true, scratch, &body), RESP_BAD);
	ck_assert_str_eq(r.why, "too big inline request");
	big[RESP_HEAD_MAX] = '\n';
	ck_assert_int_eq(resp_request(&r, big, sizeof(big), true, scratch, &body), RESP_BAD);
	big[0] = '\0';
	ck_assert_int_eq(resp_request(&r, big, 1, true, scratch, &body), RESP_BAD);
}
END_TEST

START_TEST(numbers_as_redis_reads_them)
{
	static const struct {
		const char *text;
		bool is;
		int64_t value;
	} cases[] = {
		{"0", true, 0},
		{"-1", true, -1},
		{"9223372036854775807", true, INT64_MAX},
		{"-9223372036854775808", true, INT64_MIN},
		{"9223372036854775808", false, 0},
		{"-9223372036854775809", false, 0},
		{"", false, 0},
		{"-", false, 0},
		{"-0", false, 0},
		{"01", false, 0},
		{"+1", false, 0},
		{" 1", false, 0},
		{"1 ", false, 0},
		{"1a", false, 0},
		{"99999999999999999999", false, 0},
	};
	int64_t v;

	for (size_t i = 0; i < ARRAY(cases); i++) {
		bool is = resp_integer((const uint8_t *)cases[i].text, strlen(cases[i].text), &v);

		ck_assert_msg(is == cases[i].is, "%s", cases[i].text);
		if (is)
			ck_assert_int_eq(v, cases[i].value);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("redis_resp");
	TCase *t = tcase_create("framing");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(t, replies_cut_everywhere, 0, ARRAY(replies));
	tcase_add_loop_test(t, replies_end_where_they_end, 0, ARRAY(replies));
	tcase_add_test(t, depth_has_its_limit);
	tcase_add_test(t, sizes_cost_no_memory);
	tcase_add_test(t, lines_longer_than_a_head);
	tcase_add_loop_test(t, requests_cut_everywhere, 0, ARRAY(requests));
	tcase_add_test(t, endless_requests_end);
	tcase_add_test(t, numbers_as_redis_reads_them);
	tcase_set_timeout(t, 30);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
