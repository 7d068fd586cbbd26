/* Tests of io/child: what it is given, what is read of it, and that it and all it started is gone in the end. */
#include <errno.h>
#include <sys/wait.h>

#include "io/child.h"
#include "io_help.h"

#define MS     INT64_C(1000)
#define SECOND INT64_C(1000000)

static struct child *child;
static struct child_opts opts;
static struct child_end end;
static int ended;
static char out[1 << 20], err[4096];
static size_t n_out, n_err;
static int64_t ended_us;

static void on_out(void *arg, const char *p, size_t n)
{
	ck_assert_ptr_eq(arg, &child);
	ck_assert_ptr_nonnull(child);
	ck_assert(!ended);
	ck_assert_uint_le(n_out + n, sizeof(out));
	memcpy(out + n_out, p, n);
	n_out += n;
	loop_stop(loop);
}

static void on_err(void *arg, const char *p, size_t n)
{
	ck_assert_ptr_eq(arg, &child);
	ck_assert(!ended);
	ck_assert_uint_le(n_err + n, sizeof(err));
	memcpy(err + n_err, p, n);
	n_err += n;
}

static void on_ended(void *arg, const struct child_end *e)
{
	ck_assert_ptr_eq(arg, &child);
	ended++;
	end = *e;
	ended_us = loop_now_us(loop);
	loop_stop(loop);
}

static const struct child_events events = {on_out, on_err, on_ended};
static const char *const no_env[] = {NULL};

static void run(const char *text)
{
	static const char *argv[] = {"/bin/sh", "-c", NULL, NULL};

	argv[2] = text;
	opts.argv = argv;
	opts.envp = opts.envp ? opts.envp : no_env;
	child = child_start(loop, &opts, &events, &child);
	ck_assert_ptr_nonnull(child);
	ck_assert_int_eq(ended, 0);
}

static void wait_end(enum err e)
{
	WAIT_FOR(ended);
	ck_assert_msg(end.err == e, "%s, status %d, signal %d", err_name(end.err), end.status, end.signo);
}

/* Nobody is left to be waited for. */
static void check_no_zombie(void)
{
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	ck_assert_int_eq(errno, ECHILD);
}

START_TEST(prints_and_exits)
{
	run("echo out; echo err >&2");
	wait_end(ERR_OK);
	ck_assert_int_eq(end.status, 0);
	ck_assert_int_eq(end.signo, 0);
	ck_assert_uint_eq(n_out, 4);
	ck_assert(memcmp(out, "out\n", 4) == 0);
	ck_assert_uint_eq(n_err, 4);
	check_no_zombie();
}
END_TEST

/* What has been read lies nowhere in our buffers. */
START_TEST(what_was_read_is_wiped)
{
	const char *room = loop_scratch(loop);

	run("printf marked-password");
	wait_end(ERR_OK);
	ck_assert_uint_eq(n_out, 15);
	for (size_t i = 0; i < n_out; i++)
		ck_assert_int_eq(room[i], 0);
}
END_TEST

/* Proves: K8 CRED-13 */
START_TEST(exactly_this_environment_and_nothing_open)
{
	static const char *const env[] = {"A=1", "B=two words", NULL};
	int leak = open("/dev/null", O_RDONLY), high = fcntl(leak, F_DUPFD, 200);

	sigset_t block;

	sigemptyset(&block);
	sigaddset(&block, SIGTERM);
	ck_assert_int_eq(sigprocmask(SIG_BLOCK, &block, NULL), 0);
	signal(SIGHUP, SIG_IGN);
	ck_assert_int_eq(setenv("TEST_SECRET", "marked-password", 1), 0);
	opts.envp = env;
	opts.argv = (const char *const[]){"/bin/cat", "/proc/self/environ", NULL};
	child = child_start(loop, &opts, &events, &child);
	wait_end(ERR_OK);
	ck_assert_uint_eq(n_out, 16);
	ck_assert(memcmp(out, "A=1\0B=two words", 16) == 0);
	child_close(&child);
	ended = 0;
	n_out = 0;
	run("cd /proc/self/fd; echo *; read x || echo eof; exec grep -E 'Sig(Blk|Ign)' /proc/self/status");
	wait_end(ERR_OK);
	out[n_out] = '\0';
	/* 3 is the shell's own look into the directory. */
	ck_assert_msg(strncmp(out, "0 1 2\neof\n", 10) == 0 || strncmp(out, "0 1 2 3\neof\n", 12) == 0, "%s", out);
	ck_assert_ptr_nonnull(strstr(out, "SigBlk:\t0000000000000000\nSigIgn:"));
	/* But for two that are the C library's own, and which it does not touch. */
	ck_assert_msg((strtoull(strstr(out, "SigIgn:") + 7, NULL, 16) & 0x7fffffff) == 0, "%s", out);
	close(leak);
	close(high);
}
END_TEST

static const struct {
	const char *text;
	int status, signo;
} failing[] = {
	{"exit 1", 1, 0}, {"exit 255", 255, 0}, {"kill -KILL $$", -1, SIGKILL}, {"kill -TERM $$", -1, SIGTERM}};

/* Proves: K8 */
START_TEST(failures)
{
	run(failing[_i].text);
	wait_end(ERR_SOURCE_FAILED);
	ck_assert_int_eq(end.status, failing[_i].status);
	ck_assert_int_eq(end.signo, failing[_i].signo);
	check_no_zombie();
}
END_TEST

/* Proves: K8 */
START_TEST(what_cannot_be_started)
{
	static const char *missing[] = {"/no/such/program", NULL}, *denied[] = {"/etc/passwd", NULL};
	struct rlimit before, few;

	opts.envp = no_env;
	opts.argv = missing;
	child = child_start(loop, &opts, &events, &child);
	ck_assert_int_eq(ended, 0);
	wait_end(ERR_NOT_FOUND);
	child_close(&child);
	ended = 0;
	opts.argv = denied;
	child = child_start(loop, &opts, &events, &child);
	wait_end(ERR_PERMISSION);
	child_close(&child);
	ended = 0;
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
	/* So many that it fails at each of its descriptors once. */
	for (rlim_t n = 0; n < 24; n++) {
		few = (struct rlimit){.rlim_cur = n, .rlim_max = before.rlim_max};
		ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
		run("exit 0");
		ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
		WAIT_FOR(ended);
		ck_assert_msg(end.err == ERR_OK || end.err == ERR_NO_FDS, "%s", err_name(end.err));
		child_close(&child);
		ended = 0;
		check_no_zombie();
	}
	child = child_start(loop, &opts, &events, &child);
	child_close(&child);
	turn();
	ck_assert_int_eq(ended, 0);
}
END_TEST

/* Proves: B10 K8 */
START_TEST(time_is_up)
{
	int64_t begun_us = loop_now_us(loop);

	opts.timeout_us = 100 * MS;
	run("trap 'echo asked; exit 0' TERM; echo ready; sleep 1000 & wait");
	wait_end(ERR_SOURCE_TIMEOUT);
	ck_assert_int_ge(ended_us - begun_us, 100 * MS);
	ck_assert_int_lt(ended_us - begun_us, CHILD_GRACE_US);
	out[n_out] = '\0';
	ck_assert_str_eq(out, "ready\nasked\n");
}
END_TEST

/* Proves: B10 K8 */
START_TEST(deaf_to_being_asked)
{
	int64_t begun_us = loop_now_us(loop);

	opts.timeout_us = 100 * MS;
	run("trap '' TERM; while :; do read x; sleep 1000; done");
	wait_end(ERR_SOURCE_TIMEOUT);
	ck_assert_int_ge(ended_us - begun_us, 100 * MS + CHILD_GRACE_US);
	ck_assert_int_eq(end.signo, SIGKILL);
	check_no_zombie();
}
END_TEST

static pid_t first_number(void)
{
	char text[32] = "";

	while (!memchr(out, '\n', n_out))
		loop_run(loop);
	memcpy(text, out, n_out < 31 ? n_out : 31);
	return (pid_t)atoi(text);
}

static void wait_group_gone(pid_t group)
{
	/* Whoever inherits orphans reaps them in its own time. */
	while (kill(-group, 0) == 0)
		run_for(1 * MS);
	ck_assert_int_eq(errno, ESRCH);
}

/* Proves: K8 */
START_TEST(what_it_started_ends_with_it)
{
	pid_t group;

	run("echo $$; (trap '' TERM; sleep 1000; echo late) & exit 0");
	group = first_number();
	wait_end(ERR_OK);
	wait_group_gone(group);
	ck_assert(!memmem(out, n_out, "late", 4));
}
END_TEST

/* Proves: B10 */
START_TEST(closed_while_it_runs)
{
	pid_t group;

	run("trap '' TERM; echo $$; sleep 1000 & wait");
	group = first_number();
	child_close(&child);
	ck_assert_ptr_null(child);
	check_no_zombie();
	wait_group_gone(group);
	ck_assert_int_eq(ended, 0);
	child_close(&child);
}
END_TEST

/* Proves: K8 */
START_TEST(prints_too_much)
{
	opts.out_max = 65536;
	run("exec head -c 10000000 /dev/zero");
	wait_end(ERR_TOO_BIG);
	ck_assert_uint_le(n_out, opts.out_max);
}
END_TEST

START_TEST(prints_just_enough)
{
	opts.out_max = 65536;
	run("exec head -c 65536 /dev/zero");
	wait_end(ERR_OK);
	ck_assert_uint_eq(n_out, 65536);
}
END_TEST

/* The last words are more than one read takes, and come together with the end. */
START_TEST(the_end_comes_after_the_last_word)
{
	for (int i = 0; i < 20; i++) {
		n_out = 0;
		ended = 0;
		run("exec head -c 300000 /dev/zero");
		wait_end(ERR_OK);
		ck_assert_uint_eq(n_out, 300000);
		child_close(&child);
	}
}
END_TEST

/* Proves: K9 */
START_TEST(closes_its_output_and_stays)
{
	int64_t begun_us = loop_now_us(loop);

	run("exec >&-; exec sleep 1000");
	wait_end(ERR_SOURCE_FAILED);
	ck_assert_int_ge(ended_us - begun_us, CHILD_GRACE_US);
	ck_assert_int_eq(end.signo, SIGTERM);
}
END_TEST

START_TEST(asked_to_end_early)
{
	run("echo ready; exec sleep 1000");
	WAIT_FOR(n_out);
	child_end_early(child, ERR_INVALID);
	child_end_early(child, ERR_TOO_BIG);
	wait_end(ERR_INVALID);
}
END_TEST

static void on_out_close(void *arg, const char *p, size_t n)
{
	(void)p;
	(void)arg;
	n_out += n;
	child_close(&child);
	loop_stop(loop);
}

static void on_ended_close(void *arg, const struct child_end *e)
{
	(void)e;
	(void)arg;
	ended++;
	child_close(&child);
	loop_stop(loop);
}

START_TEST(closed_when_it_tells)
{
	static const struct child_events first = {on_out_close, on_err, on_ended},
					 last = {on_out, on_err, on_ended_close};

	opts.envp = no_env;
	opts.argv = (const char *const[]){"/bin/sh", "-c", "echo a; echo b; exec sleep 1000", NULL};
	child = child_start(loop, &opts, &first, &child);
	WAIT_FOR(!child);
	turn();
	ck_assert_int_eq(ended, 0);
	child = child_start(loop, &opts, &last, &child);
	child_end_early(child, ERR_INVALID);
	WAIT_FOR(!child);
	ck_assert_int_eq(ended, 1);
	check_no_zombie();
}
END_TEST

static void set_up(void)
{
	io_set_up();
	opts = (struct child_opts){0};
	ended = 0;
	n_out = n_err = 0;
}

static void tear_down(void)
{
	child_close(&child);
	io_tear_down();
}

int main(void)
{
	Suite *s = suite_create("child");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, prints_and_exits);
	tcase_add_test(t, what_was_read_is_wiped);
	tcase_add_test(t, exactly_this_environment_and_nothing_open);
	tcase_add_loop_test(t, failures, 0, (int)(sizeof(failing) / sizeof(*failing)));
	tcase_add_test(t, what_cannot_be_started);
	tcase_add_test(t, time_is_up);
	tcase_add_test(t, deaf_to_being_asked);
	tcase_add_test(t, what_it_started_ends_with_it);
	tcase_add_test(t, closed_while_it_runs);
	tcase_add_test(t, prints_too_much);
	tcase_add_test(t, prints_just_enough);
	tcase_add_test(t, the_end_comes_after_the_last_word);
	tcase_add_test(t, closes_its_output_and_stays);
	tcase_add_test(t, asked_to_end_early);
	tcase_add_test(t, closed_when_it_tells);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
