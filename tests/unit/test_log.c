/* Tests of base/log: the three forms, escaping, the repeat limit, and targets that block or fail. */
#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

#define START_US INT64_C(1787479872123456) /* 2026-08-23T10:11:12.123456Z */
#define TIME	 "2026-08-23T10:11:12.123Z"

static char dir[32], path[64], text[1 << 18];
static int64_t now_us;

static int64_t test_clock(void)
{
	return now_us;
}

static void open_as(enum log_target target, enum log_format format, enum log_level level)
{
	struct log_opts o = {.target = target, .format = format, .level = level, .file = path};

	ck_assert_int_eq(log_open(&o), ERR_OK);
}

static void set_up(void)
{
	snprintf(dir, sizeof(dir), "/tmp/leased-log-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/log", dir);
	now_us = START_US;
	log_test_clock(test_clock);
}

static void tear_down(void)
{
	log_close();
	unlink(path);
	rmdir(dir);
}

/* What the file holds; it is emptied. */
static const char *lines(void)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	ssize_t n;

	ck_assert_int_ge(fd, 0);
	n = read(fd, text, sizeof(text) - 1);
	ck_assert_int_ge(n, 0);
	text[n] = '\0';
	ck_assert_int_eq(ftruncate(fd, 0), 0);
	close(fd);
	return text;
}

static int count(const char *s, const char *what)
{
	int n = 0;

	for (; (s = strstr(s, what)); s++)
		n++;
	return n;
}

START_TEST(text_form)
{
	open_as(LOG_TO_FILE, LOG_FMT_TEXT, LOG_LV_DEBUG);
	log_at(LOG_LV_INFO, "lease.wait", L_STR("pool", "db"), L_INT("client", 42), L_INT("waited_ms", -12));
	ck_assert_str_eq(lines(), TIME " info  lease.wait pool=db client=42 waited_ms=-12\n");
	log_at(LOG_LV_ERROR, "dial.fail", L_ERR(ERR_REFUSED), L_STR("none", NULL));
	ck_assert_str_eq(lines(), TIME " error dial.fail reason=connect_refused none=-\n");
	log_at(LOG_LV_DEBUG, "x", L_STR("ends", "a>"), L_STR("empty", ""), L_STR("sp", "a b"), L_STR("eq", "a=b"));
	ck_assert_str_eq(lines(), TIME " debug x ends=a> empty=\"\" sp=\"a b\" eq=\"a=b\"\n");
	log_text(LOG_LV_WARNING, "libevent", "%s %d\n", "bad \"fd\"", 7);
	ck_assert_str_eq(lines(), TIME " warning libevent msg=\"bad \\\"fd\\\" 7\\x0a\"\n");
}
END_TEST

START_TEST(logfmt_form)
{
	open_as(LOG_TO_FILE, LOG_FMT_LOGFMT, LOG_LV_INFO);
	log_at(LOG_LV_INFO, "lease.wait", L_STR("pool", "db"), L_STR("msg", "it's two"));
	ck_assert_str_eq(lines(), "ts=" TIME " level=info event=lease.wait pool=db msg=\"it's two\"\n");
}
END_TEST

/* Proves: M18 */
START_TEST(json_form)
{
	open_as(LOG_TO_FILE, LOG_FMT_JSON, LOG_LV_INFO);
	log_at(LOG_LV_NOTICE, "lease.wait", L_STR("pool", "d\"b\\\n{"), L_INT("n", INT64_MIN), L_ERR(ERR_AGE),
	       L_WIRE("user", "a\"\\\n\xff{", 6), L_INT("last", 1));
	ck_assert_str_eq(lines(), "{\"ts\":\"" TIME "\",\"level\":\"notice\",\"event\":\"lease.wait\","
				  "\"pool\":\"d\\\"b\\\\\\u000a{\",\"n\":-9223372036854775808,\"reason\":\"age\","
				  "\"user\":\"a\\\"\\\\\\\\\\\\x0a\\\\xff{\",\"last\":1}\n");
}
END_TEST

/* Proves: M18 */
START_TEST(wire_bytes_are_escaped_and_cut)
{
	char all[256], longer[200];

	open_as(LOG_TO_FILE, LOG_FMT_TEXT, LOG_LV_INFO);
	log_at(LOG_LV_INFO, "x", L_WIRE("v", "plain", 5), L_WIRE("w", "", 0), L_WIRE("q", "a b", 3),
	       L_WIRE("null", NULL, 0));
	ck_assert_str_eq(lines(), TIME " info  x v=plain w=\"\" q=\"a b\" null=-\n");
	log_at(LOG_LV_INFO, "x", L_WIRE("v", "a\r\n\0\x1b[31m\x7f\xc3\xa9\\\"", 14));
	ck_assert_str_eq(lines(), TIME " info  x v=\"a\\x0d\\x0a\\x00\\x1b[31m\\x7f\\xc3\\xa9\\\\\\\"\"\n");
	memset(longer, 'y', sizeof(longer));
	log_at(LOG_LV_INFO, "x", L_WIRE("v", longer, 64));
	ck_assert_uint_eq(strlen(lines()), strlen(TIME " info  x v=\n") + 64);
	log_at(LOG_LV_INFO, "x", L_WIRE("v", longer, 65));
	ck_assert_uint_eq(strlen(lines()), strlen(TIME " info  x v=...\n") + 64);
	for (int i = 0; i < 256; i++)
		all[i] = (char)i;
	for (int i = 0; i < 256; i += 32) {
		now_us += 2000000;
		log_at(LOG_LV_INFO, "x", L_WIRE("v", all + i, 32));
		lines();
		ck_assert_int_eq(count(text, "\n"), 1);
		for (const char *p = text; *p != '\n'; p++)
			ck_assert(*p >= ' ' && *p <= '~');
	}
}
END_TEST

START_TEST(a_line_has_a_limit)
{
	static char big[8192];

	memset(big, 'z', sizeof(big) - 1);
	open_as(LOG_TO_FILE, LOG_FMT_JSON, LOG_LV_INFO);
	log_at(LOG_LV_INFO, "x", L_STR("big", big), L_INT("after", 1));
	ck_assert_str_eq(lines(), "{\"ts\":\"" TIME "\",\"level\":\"info\",\"event\":\"x\",\"after\":1}\n");
	big[3000] = '\0';
	log_at(LOG_LV_INFO, "x", L_STR("a", big), L_STR("b", big), L_INT("after", 1));
	lines();
	ck_assert_uint_le(strlen(text), 4096);
	ck_assert(count(text, "zzz\",\"after\":1}\n") == 1 && count(text, "\"b\"") == 0);
}
END_TEST

START_TEST(levels)
{
	open_as(LOG_TO_FILE, LOG_FMT_TEXT, LOG_LV_WARNING);
	log_at(LOG_LV_NOTICE, "no", L_INT("n", 1));
	log_text(LOG_LV_INFO, "no", "%d", 1);
	log_event(LOG_LV_DEBUG, "no", &(const struct log_field){.kind = LOG_F_END});
	log_at(LOG_LV_WARNING, "yes", L_INT("n", 1));
	log_at(LOG_LV_ERROR, "yes", L_INT("n", 2));
	lines();
	ck_assert(count(text, "yes") == 2 && count(text, "no") == 0);
}
END_TEST

/* Proves: E24 RES-7 */
START_TEST(repeats_are_counted)
{
	open_as(LOG_TO_FILE, LOG_FMT_TEXT, LOG_LV_INFO);
	for (int i = 0; i < 1000; i++) {
		log_at(LOG_LV_INFO, "client.new", L_INT("client", i), L_STR("pool", "a"));
		if (i < 12)
			log_at(LOG_LV_INFO, "client.new", L_INT("client", i), L_STR("pool", "b"));
		if (i < 3)
			log_at(LOG_LV_NOTICE, "client.new", L_INT("client", i), L_STR("pool", "a"));
		now_us += 500;
	}
	lines();
	ck_assert_int_eq(count(text, "pool=a"), 10 + 3);
	ck_assert_int_eq(count(text, "pool=b"), 10);
	ck_assert_int_eq(count(text, "suppressed"), 0);
	log_flush();
	ck_assert_str_eq(lines(), "");
	now_us = START_US + 1000000;
	log_at(LOG_LV_INFO, "other", L_INT("n", 1));
	lines();
	ck_assert_int_eq(count(text, "info  client.new pool=a suppressed=990\n"), 1);
	ck_assert_int_eq(count(text, "info  client.new pool=b suppressed=2\n"), 1);
	ck_assert_int_eq(count(text, "\n"), 3);
	log_at(LOG_LV_INFO, "client.new", L_INT("client", 1), L_STR("pool", "a"));
	ck_assert_int_eq(count(lines(), "client=1"), 1);
}
END_TEST

START_TEST(repeats_are_reported_without_another_event)
{
	open_as(LOG_TO_FILE, LOG_FMT_JSON, LOG_LV_INFO);
	for (int i = 0; i < 15; i++)
		log_text(LOG_LV_WARNING, "libevent", "the same");
	ck_assert_int_eq(count(lines(), "\n"), 10);
	now_us += 1000000;
	log_flush();
	ck_assert_int_eq(count(lines(), "\"event\":\"libevent\",\"suppressed\":5}\n"), 1);
	log_flush();
	ck_assert_str_eq(lines(), "");
	for (int i = 0; i < 15; i++)
		log_text(LOG_LV_WARNING, "libevent", "the same");
	log_close();
	ck_assert_int_eq(count(lines(), "\"suppressed\":5}\n"), 1);
}
END_TEST

START_TEST(many_events_lose_no_count)
{
	char event[32];
	int sum = 0;

	open_as(LOG_TO_FILE, LOG_FMT_TEXT, LOG_LV_INFO);
	for (int i = 0; i < 200; i++) {
		snprintf(event, sizeof(event), "event.%d", i);
		for (int j = 0; j < 13; j++)
			log_at(LOG_LV_INFO, event, L_INT("n", j));
	}
	now_us -= 5000000; /* the clock is set back: the second is over */
	log_flush();
	lines();
	for (const char *p = text; (p = strstr(p, "suppressed=")); p++)
		sum += (int)strtol(p + strlen("suppressed="), NULL, 10);
	ck_assert_int_eq(sum, 600);
	ck_assert_int_eq(count(text, " n="), 2000);
}
END_TEST

/* Replaces stderr. */
static void stderr_to(int fd)
{
	fflush(stderr);
	ck_assert_int_ge(dup2(fd, STDERR_FILENO), 0);
}

/* Proves: F:R6 */
START_TEST(a_full_pipe_does_not_block)
{
	char byte[4096];
	uint64_t before = log_dropped();
	int fds[2];

	memset(byte, '.', sizeof(byte));
	ck_assert_int_eq(pipe(fds), 0);
	stderr_to(fds[1]);
	fcntl(fds[1], F_SETFL, O_NONBLOCK);
	while (write(fds[1], byte, sizeof(byte)) > 0)
		;
	fcntl(fds[1], F_SETFL, 0); /* so that a write would wait for ever */
	open_as(LOG_TO_STDERR, LOG_FMT_TEXT, LOG_LV_INFO);
	log_at(LOG_LV_INFO, "x", L_INT("n", 1));
	log_at(LOG_LV_INFO, "x", L_INT("n", 2));
	ck_assert_uint_eq(log_dropped(), before + 2);
	ck_assert_int_eq(read(fds[0], byte, sizeof(byte)), sizeof(byte));
	log_at(LOG_LV_INFO, "x", L_INT("n", 3));
	ck_assert_uint_eq(log_dropped(), before + 2);
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	for (ssize_t n; (n = read(fds[0], text, sizeof(text) - 1)) > 0; text[n] = '\0')
		;
	ck_assert(count(text, " x n=3\n") == 1 && count(text, " x n=") == 1);
}
END_TEST

/* Proves: F:R6 */
START_TEST(a_full_socket_does_not_block)
{
	uint64_t before = log_dropped();
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	stderr_to(fds[1]);
	open_as(LOG_TO_STDERR, LOG_FMT_TEXT, LOG_LV_INFO);
	for (int i = 0; i < 1000000 && log_dropped() == before; i++) {
		now_us += 1000000;
		log_at(LOG_LV_INFO, "x", L_INT("n", i));
	}
	ck_assert_uint_eq(log_dropped(), before + 1);
}
END_TEST

/* Proves: F:R5 F:R6 */
START_TEST(a_target_that_fails_is_counted)
{
	uint64_t before = log_dropped();
	int fds[2], full = open("/dev/full", O_WRONLY | O_CLOEXEC);

	ck_assert_int_ge(full, 0);
	stderr_to(full);
	open_as(LOG_TO_STDERR, LOG_FMT_TEXT, LOG_LV_INFO);
	log_at(LOG_LV_INFO, "x", L_INT("n", 1));
	ck_assert_uint_eq(log_dropped(), before + 1);
	ck_assert_int_eq(pipe(fds), 0);
	stderr_to(fds[1]);
	close(fds[1]);
	close(fds[0]); /* SIGPIPE has its default action here */
	log_at(LOG_LV_INFO, "x", L_INT("n", 2));
	ck_assert_uint_eq(log_dropped(), before + 2);
	close(STDERR_FILENO);
	log_at(LOG_LV_INFO, "x", L_INT("n", 3));
	ck_assert_uint_eq(log_dropped(), before + 3);
}
END_TEST

START_TEST(journald_prefix)
{
	char stream[64];
	struct stat st;
	ssize_t n;
	int fds[2];

	ck_assert_int_eq(pipe(fds), 0);
	stderr_to(fds[1]);
	ck_assert_int_eq(fstat(fds[1], &st), 0);
	snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	open_as(LOG_TO_STDERR, LOG_FMT_TEXT, LOG_LV_INFO);
	log_at(LOG_LV_WARNING, "x", L_INT("n", 1));
	open_as(LOG_TO_STDERR, LOG_FMT_LOGFMT, LOG_LV_INFO);
	log_at(LOG_LV_ERROR, "x", L_INT("n", 2));
	snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
		 (unsigned long long)st.st_ino + 1);
	setenv("JOURNAL_STREAM", stream, 1);
	open_as(LOG_TO_STDERR, LOG_FMT_TEXT, LOG_LV_INFO);
	log_at(LOG_LV_INFO, "x", L_INT("n", 3));
	n = read(fds[0], text, sizeof(text) - 1);
	ck_assert_int_gt(n, 0);
	text[n] = '\0';
	ck_assert_str_eq(text, "<4>warning x n=1\n<3>level=error event=x n=2\n" TIME " info  x n=3\n");
}
END_TEST

START_TEST(a_file_is_reopened)
{
	char moved[80];

	snprintf(moved, sizeof(moved), "%s.1", path);
	open_as(LOG_TO_FILE, LOG_FMT_TEXT, LOG_LV_INFO);
	ck_assert_int_eq(rename(path, moved), 0);
	log_at(LOG_LV_INFO, "x", L_INT("n", 1));
	log_reopen();
	log_at(LOG_LV_INFO, "x", L_INT("n", 2));
	ck_assert_str_eq(lines(), TIME " info  x n=2\n");
	ck_assert_int_eq(rename(moved, path), 0);
	ck_assert_str_eq(lines(), TIME " info  x n=1\n");
}
END_TEST

/* Proves: F:R5 */
START_TEST(a_reopen_that_fails_keeps_the_old_file)
{
	char moved[80];

	snprintf(moved, sizeof(moved), "%s.1", path);
	open_as(LOG_TO_FILE, LOG_FMT_TEXT, LOG_LV_INFO);
	ck_assert_int_eq(rename(path, moved), 0);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	log_reopen();
	log_at(LOG_LV_INFO, "x", L_INT("n", 1));
	ck_assert_int_eq(rmdir(path), 0);
	ck_assert_int_eq(rename(moved, path), 0);
	ck_assert_str_eq(lines(), TIME " info  x n=1\n");
}
END_TEST

START_TEST(a_file_that_cannot_be_opened)
{
	struct log_opts o = {.target = LOG_TO_FILE, .file = "/nonexistent/log"};

	ck_assert_int_eq(log_open(&o), ERR_CANT_CREATE);
}
END_TEST

static void *shout(void *arg)
{
	for (int i = 0; i < 500; i++)
		log_at(LOG_LV_INFO, "thread", L_STR("pool", (const char *)arg), L_INT("n", i));
	return NULL;
}

START_TEST(threads_do_not_mix_lines)
{
	static char names[4][2] = {"a", "b", "c", "d"};
	pthread_t id[4];

	open_as(LOG_TO_FILE, LOG_FMT_TEXT, LOG_LV_INFO);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&id[i], NULL, shout, names[i]), 0);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_join(id[i], NULL), 0);
	log_close();
	lines();
	ck_assert_int_eq(count(text, "\n"), 44);
	ck_assert_int_eq(count(text, TIME " info  thread pool="), 44);
	ck_assert_int_eq(count(text, "suppressed=490\n"), 4);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("log");
	TCase *t = tcase_create("log");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, text_form);
	tcase_add_test(t, logfmt_form);
	tcase_add_test(t, json_form);
	tcase_add_test(t, wire_bytes_are_escaped_and_cut);
	tcase_add_test(t, a_line_has_a_limit);
	tcase_add_test(t, levels);
	tcase_add_test(t, repeats_are_counted);
	tcase_add_test(t, repeats_are_reported_without_another_event);
	tcase_add_test(t, many_events_lose_no_count);
	tcase_add_test(t, a_full_pipe_does_not_block);
	tcase_add_test(t, a_full_socket_does_not_block);
	tcase_add_test(t, a_target_that_fails_is_counted);
	tcase_add_test(t, journald_prefix);
	tcase_add_test(t, a_file_is_reopened);
	tcase_add_test(t, a_reopen_that_fails_keeps_the_old_file);
	tcase_add_test(t, a_file_that_cannot_be_opened);
	tcase_add_test(t, threads_do_not_mix_lines);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
