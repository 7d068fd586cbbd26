/* Tests of cred/credential: generations, the one refresh, its cooldown, and the times at which a command is asked. */
#include "cred_world.h"
#include "proc_help.h"

/* ---- static and env ---- */

static struct secret *secret_of(const char *text)
{
	char copy[64];
	size_t n = strlen(text);

	memcpy(copy, text, n);
	return secret_take(copy, n);
}

/* Proves: B15 A1 */
START_TEST(static_is_final)
{
	opts.source = CRED_STATIC;
	cred_fields_init(&opts.fixed);
	opts.fixed.username = mem_strdup("app");
	opts.fixed.password = secret_of("MARK-1");
	start();
	wait_generation(1);
	check_password("MARK-1");
	ck_assert_str_eq(credential_current(cred)->is.username, "app");
	credential_want_newer(cred, 1);
	ck_assert_int_eq(told.refreshed, 0);
	WAIT_FOR(told.refreshed);
	ck_assert(told.final);
	ck_assert_int_eq(told.why, ERR_UNCHANGED);
	ck_assert_uint_eq(told.than, 1);
	ck_assert_str_eq(view().source, "static");
	/* Asked for something newer than what it never had: there is something. */
	credential_want_newer(cred, 0);
	turn();
	ck_assert_int_eq(told.refreshed, 1);
}
END_TEST

/* Proves: CRED-13 */
START_TEST(environment_is_read_once_and_removed)
{
	char *place;

	opts.source = CRED_ENV;
	opts.env_username = "TEST_USER";
	opts.env_password = "TEST_PASSWORD";
	ck_assert_int_eq(setenv("TEST_USER", "app", 1) | setenv("TEST_PASSWORD", "MARK-env", 1), 0);
	place = getenv("TEST_PASSWORD");
	start();
	ck_assert_ptr_null(getenv("TEST_PASSWORD"));
	for (size_t i = 0; i < strlen("MARK-env"); i++)
		ck_assert_int_eq(((volatile char *)place)[i], 0);
	wait_generation(1);
	check_password("MARK-env");
	ck_assert_str_eq(credential_current(cred)->is.username, "app");
	/* A second one, as after a reload, finds it again. */
	credential_free(&cred);
	told.number = 0;
	start();
	WAIT_FOR(told.published == 2);
	check_password("MARK-env");
}
END_TEST

START_TEST(environment_that_is_not_there)
{
	const char *why = NULL;

	opts.source = CRED_ENV;
	opts.env_password = "TEST_NO_SUCH_VARIABLE";
	cred = credential_new(loop, &opts, &events, &told);
	ck_assert_int_eq(credential_start(cred, &why), ERR_CONFIG);
	ck_assert_ptr_nonnull(strstr(why, "variable"));
	ck_assert_ptr_null(credential_current(cred));
	credential_want_newer(cred, 0);
	credential_refresh(cred);
	turn();
}
END_TEST

/* ---- a command ---- */

static int lines_of(const char *name)
{
	char text[4096];
	int n = 0;

	read_file(name, text, sizeof(text));
	for (const char *p = text; (p = strchr(p, '\n')) != NULL; p++)
		n++;
	return n;
}

static void command(const char *text)
{
	opts.source = CRED_COMMAND;
	opts.argv = script(text);
}

/* Prints what the file `secret` has and notes each run in `runs`. */
#define TELLS "echo $LEASED_REASON >> runs; cat secret"

/* Proves: B3 B8 */
START_TEST(command_is_asked_with_what_it_needs)
{
	static const char *const pass[] = {"TEST_PASSED", "TEST_NOT_SET", NULL};
	char text[4096];

	ck_assert_int_eq(setenv("TEST_PASSED", "yes", 1) | setenv("TEST_KEPT", "no", 1), 0);
	opts.pass_env = pass;
	command("env | sort > env; ls /proc/$$/fd > fds; cat secret");
	write_file("secret", "{\"username\":\"app-1\",\"password\":\"MARK-1\"}");
	start();
	wait_generation(1);
	check_password("MARK-1");
	read_file("env", text, sizeof(text));
	ck_assert_ptr_nonnull(strstr(text, "LEASED_CREDENTIAL=app\n"));
	ck_assert_ptr_nonnull(strstr(text, "LEASED_GENERATION=0\n"));
	ck_assert_ptr_nonnull(strstr(text, "LEASED_REASON=startup\n"));
	ck_assert_ptr_nonnull(strstr(text, "LEASED_USERNAME=\n"));
	ck_assert_ptr_nonnull(strstr(text, "TEST_PASSED=yes\n"));
	ck_assert_ptr_null(strstr(text, "TEST_KEPT"));
	ck_assert_ptr_null(strstr(text, "TEST_NOT_SET"));
	replace_file("secret", "{\"username\":\"app-2\",\"password\":\"MARK-2\"}");
	credential_want_newer(cred, 1);
	wait_generation(2);
	check_password("MARK-2");
	read_file("env", text, sizeof(text));
	ck_assert_ptr_nonnull(strstr(text, "LEASED_GENERATION=1\n"));
	ck_assert_ptr_nonnull(strstr(text, "LEASED_REASON=denied\n"));
	ck_assert_ptr_nonnull(strstr(text, "LEASED_USERNAME=app-1\n"));
	ck_assert_ptr_null(strstr(text, "MARK"));
	ck_assert_int_eq(told.refreshed, 0);
	ck_assert_uint_eq(view().refreshes[ERR_OK], 2);
	ck_assert_uint_eq(view().asked[CRED_DENIED], 1);
}
END_TEST

/* Proves: B2 B3 B4 B17 CRED-3 CRED-4 */
START_TEST(five_hundred_refused_at_once_are_one_run)
{
	command(TELLS);
	write_file("secret", "app:MARK-1");
	start();
	wait_generation(1);
	replace_file("secret", "app:MARK-2");
	for (int i = 0; i < 500; i++)
		credential_want_newer(cred, 1);
	ck_assert(view().refreshing);
	wait_generation(2);
	ck_assert_int_eq(lines_of("runs"), 2);
	/* Refused with the old one after the swap: no refresh, there is something newer. */
	for (int i = 0; i < 500; i++)
		credential_want_newer(cred, 1);
	ck_assert(!view().refreshing);
	run_for(2 * opts.cooldown_us);
	ck_assert_int_eq(lines_of("runs"), 2);
	ck_assert_int_eq(told.refreshed, 0);
}
END_TEST

/* Proves: B7 B8 B14 K14 CRED-5 */
START_TEST(the_same_again_cools_down)
{
	int64_t last_us = 0, wait_us = 0;

	opts.cooldown_us = 20 * MS;
	opts.cooldown_max_us = 80 * MS;
	/* The lifetime counts anew each time: that makes it no newer. */
	command("echo run >> runs; echo '{\"password\":\"MARK-1\",\"expires_in\":'$(cat left)'}'");
	opts.refresh_ratio = 0;
	write_file("left", "1000");
	start();
	wait_generation(1);
	for (int i = 1; i <= 6; i++) {
		char left[16];

		snprintf(left, sizeof(left), "%d", 1000 + 100 * i);
		write_file("left", left);
		credential_want_newer(cred, 1);
		credential_want_newer(cred, 1);
		WAIT_FOR(told.refreshed == i);
		ck_assert_int_eq(told.why, ERR_UNCHANGED);
		ck_assert_uint_eq(told.than, 1);
		ck_assert(!told.final);
		ck_assert_int_eq(lines_of("runs"), 1 + i);
		ck_assert_msg(view().asked_us - last_us >= wait_us, "run %d after %d us", i,
			      (int)(view().asked_us - last_us));
		last_us = view().asked_us;
		wait_us = wait_us ? 2 * wait_us : opts.cooldown_us;
		if (wait_us > opts.cooldown_max_us)
			wait_us = opts.cooldown_max_us;
		ck_assert(view().cooldown_until_us >= last_us + wait_us);
	}
	ck_assert_uint_eq(view().refreshes[ERR_UNCHANGED], 6);
	ck_assert_int_eq(told.published, 1);
}
END_TEST

/* A server that refuses everything and a source that always has something new: once in cooldown_us all the same. */
/* Proves: CRED-5 B7 */
START_TEST(always_something_new_is_asked_no_more_often)
{
	int64_t begun_us;

	command("echo run >> runs; n=$(wc -l < runs); echo app:MARK-$n");
	start();
	wait_generation(1);
	begun_us = loop_now_us(loop);
	for (uint64_t g = 1; g <= 4; g++) {
		credential_want_newer(cred, g);
		wait_generation(g + 1);
	}
	ck_assert_int_ge(loop_now_us(loop) - begun_us, 3 * opts.cooldown_us);
	ck_assert_int_eq(lines_of("runs"), 5);
}
END_TEST

/* Proves: K14 */
START_TEST(by_hand_it_is_asked_whatever_the_cooldown_says)
{
	opts.cooldown_us = opts.cooldown_max_us = 1000 * SECOND;
	command(TELLS);
	write_file("secret", "app:MARK-1");
	start();
	wait_generation(1);
	credential_want_newer(cred, 1);
	WAIT_FOR(told.refreshed == 1);
	ck_assert(view().cooldown_until_us > loop_now_us(loop));
	/* Another one wants something newer and would wait for the cooldown; it profits. */
	credential_want_newer(cred, 1);
	replace_file("secret", "app:MARK-2");
	credential_refresh(cred);
	credential_refresh(cred);
	wait_generation(2);
	check_password("MARK-2");
	ck_assert_int_eq(lines_of("runs"), 3);
	ck_assert_uint_eq(view().asked[CRED_MANUAL], 1);
	ck_assert_int_eq(told.refreshed, 1);
}
END_TEST

/* Whoever asked by hand hears what came of it, and no cooldown follows from that. */
START_TEST(by_hand_the_end_is_told)
{
	command(TELLS);
	write_file("secret", "app:MARK-1");
	start();
	wait_generation(1);
	credential_refresh(cred);
	WAIT_FOR(told.refreshed == 1);
	ck_assert_int_eq(told.why, ERR_UNCHANGED);
	ck_assert_uint_eq(told.than, 1);
	ck_assert(!told.final);
	ck_assert_int_eq(view().cooldown_until_us, 0);
	write_file("secret", "");
	credential_refresh(cred);
	WAIT_FOR(told.refreshed == 2);
	ck_assert_int_eq(told.why, ERR_INVALID);
	replace_file("secret", "app:MARK-2");
	credential_refresh(cred);
	wait_generation(2);
	turn();
	ck_assert_int_eq(told.refreshed, 2);
}
END_TEST

START_TEST(by_hand_a_static_one_tells_as_well)
{
	opts.source = CRED_STATIC;
	cred_fields_init(&opts.fixed);
	opts.fixed.password = secret_of("MARK-1");
	start();
	wait_generation(1);
	credential_refresh(cred);
	WAIT_FOR(told.refreshed == 1);
	ck_assert(told.final);
	ck_assert_uint_eq(told.than, 1);
}
END_TEST

static const struct {
	const char *program;
	enum err err;
} failing[] = {
	{"exit 1", ERR_SOURCE_FAILED},
	{"kill -SEGV $$", ERR_SOURCE_FAILED},
	{"echo MARK-err >&2; exit 3", ERR_SOURCE_FAILED},
	{"exit 0", ERR_INVALID},
	{"echo", ERR_INVALID},
	{"echo '{\"password\":\"MARK'", ERR_INVALID},
	{"echo MARK; echo MARK", ERR_INVALID},
	{"echo '{\"password\":\"MARK\",\"expires_at\":1000000000}'", ERR_EXPIRED},
	{"head -c 10000000 /dev/zero", ERR_TOO_BIG},
	{"exec sleep 1000", ERR_SOURCE_TIMEOUT},
	{"sleep 1000 & wait", ERR_SOURCE_TIMEOUT},
};

/* Proves: K8 B8 B10 B11 A7 CRED-13 */
START_TEST(failures_keep_the_last_good_one)
{
	char text[4096];

	opts.timeout_us = 300 * MS;
	command("echo run >> runs; cat secret");
	write_file("secret", "app:MARK-1");
	start();
	wait_generation(1);
	opts.argv = script(failing[_i].program);
	credential_want_newer(cred, 1);
	WAIT_FOR(told.refreshed == 1);
	ck_assert_msg(told.why == failing[_i].err, "%s", err_name(told.why));
	check_password("MARK-1");
	ck_assert_int_eq(view().last_error, failing[_i].err);
	ck_assert_uint_eq(view().source_errors, 1);
	read_file("log", text, sizeof(text));
	ck_assert_ptr_nonnull(strstr(text, "cred.child"));
	ck_assert_ptr_nonnull(strstr(text, "generation=1"));
	/* And it is asked again afterwards. */
	script("cat secret");
	write_file("secret", "app:MARK-2");
	credential_want_newer(cred, 1);
	wait_generation(2);
	ck_assert_int_eq(view().last_error, ERR_OK);
}
END_TEST

/* Proves: A23 K8 B9 */
START_TEST(retries_with_backoff)
{
	opts.retries = 3;
	command("echo $LEASED_REASON >> runs; [ $(wc -l < runs) -ge 3 ] && cat secret");
	write_file("secret", "app:MARK-1");
	start();
	/* Nobody has to wait for it: it is the daemon's. */
	wait_generation(1);
	ck_assert_int_eq(lines_of("runs"), 3);
	ck_assert_uint_eq(view().source_errors, 2);
	ck_assert_uint_eq(view().asked[CRED_STARTUP], 1);
	ck_assert_uint_eq(view().refreshes[ERR_OK], 1);
	/* All fail: one result, after three runs. */
	script("echo run >> runs; exit 1");
	credential_want_newer(cred, 1);
	WAIT_FOR(told.refreshed == 1);
	ck_assert_int_eq(told.why, ERR_SOURCE_FAILED);
	ck_assert_int_eq(lines_of("runs"), 6);
	ck_assert_uint_eq(view().refreshes[ERR_SOURCE_FAILED], 1);
}
END_TEST

START_TEST(what_fails_at_the_start_is_tried_on)
{
	command("echo $LEASED_REASON >> runs; [ -e secret ] && cat secret");
	start();
	while (lines_of("runs") < 3)
		run_for(5 * MS);
	ck_assert_ptr_null(credential_current(cred));
	replace_file("secret", "app:MARK-1");
	wait_generation(1);
}
END_TEST

/* Proves: A23 */
START_TEST(asked_when_part_of_the_lifetime_has_passed)
{
	char text[256];
	int64_t first_us;

	opts.refresh_ratio = 0.3;
	command("echo $LEASED_REASON >> runs; echo '{\"password\":\"MARK-'$(wc -l < runs)'\",\"expires_in\":1}'");
	start();
	wait_generation(1);
	first_us = view().published_us;
	ck_assert_int_eq(view().expires_us - first_us, SECOND);
	wait_generation(2);
	ck_assert_int_ge(view().published_us - first_us, 300 * MS);
	ck_assert_int_lt(view().published_us - first_us, 900 * MS);
	read_file("runs", text, sizeof(text));
	ck_assert_str_eq(text, "startup\nexpiring\n");
	ck_assert_uint_eq(view().asked[CRED_EXPIRING], 1);
}
END_TEST

/* Proves: A23 */
START_TEST(asked_some_time_before_the_end)
{
	int64_t first_us;

	opts.refresh_ratio = 1;
	opts.refresh_before_us = 700 * MS;
	command("echo run >> runs; echo '{\"password\":\"MARK-'$(wc -l < runs)'\",\"expires_in\":1}'");
	start();
	wait_generation(1);
	first_us = view().published_us;
	wait_generation(2);
	ck_assert_int_ge(view().published_us - first_us, 300 * MS);
	ck_assert_int_lt(view().published_us - first_us, 900 * MS);
}
END_TEST

/* What lives too shortly, or is the same every time, does not make it run without a pause. */
START_TEST(expiry_does_not_storm)
{
	opts.backoff_initial_us = 50 * MS;
	opts.backoff_max_us = 100 * MS;
	if (_i)
		opts.refresh_before_us = 3600 * SECOND;
	else
		opts.refresh_ratio = 0.001;
	command("echo run >> runs; echo '{\"password\":\"MARK-1\",\"expires_in\":1}'");
	start();
	wait_generation(1);
	run_for(400 * MS);
	ck_assert_int_le(lines_of("runs"), 9);
	while (lines_of("runs") < 3) /* the guard of the test ends this, if it does not */
		run_for(50 * MS);
}
END_TEST

START_TEST(asked_every_interval)
{
	char text[256];

	opts.interval_us = 30 * MS;
	command(TELLS);
	write_file("secret", "app:MARK-1");
	start();
	wait_generation(1);
	while (lines_of("runs") < 3)
		run_for(5 * MS);
	ck_assert_int_eq(told.published, 1);
	ck_assert_uint_ge(view().refreshes[ERR_UNCHANGED], 1);
	replace_file("secret", "app:MARK-2");
	wait_generation(2);
	read_file("runs", text, sizeof(text));
	ck_assert_int_eq(strncmp(text, "startup\ninterval\ninterval\n", 26), 0);
}
END_TEST

/* The same login with a longer life is news to those that have no quarrel with it. */
START_TEST(a_longer_life_is_a_generation)
{
	opts.refresh_ratio = 0;
	command("echo '{\"password\":\"MARK-1\",\"expires_in\":'$(cat left)'}'");
	write_file("left", "1000");
	start();
	wait_generation(1);
	replace_file("left", "1001");
	credential_refresh(cred);
	while (view().refreshing)
		run_for(5 * MS);
	ck_assert_uint_eq(view().refreshes[ERR_UNCHANGED], 1);
	replace_file("left", "2000");
	credential_refresh(cred);
	wait_generation(2);
	ck_assert_int_gt(view().expires_us, loop_now_us(loop) + 1990 * SECOND);
}
END_TEST

/* Proves: B10 */
START_TEST(stopped_while_it_runs)
{
	char text[32];

	command("echo $$ > pid; sleep 1000 & wait");
	start();
	while (lines_of("pid") < 1)
		run_for(5 * MS);
	credential_free(&cred);
	read_file("pid", text, sizeof(text));
	/* It is no zombie, and what it has started goes with it. */
	ck_assert_int_eq(kill(atoi(text), 0), -1);
	while (kill(-atoi(text), 0) == 0)
		run_for(5 * MS);
	ck_assert_int_eq(told.published + told.refreshed, 0);
}
END_TEST

/* Whoever is told may end it. */
static void on_published_free(void *arg, struct credential *c, struct cred *g)
{
	(void)c;
	told.number = g->number;
	credential_free(arg);
	loop_stop(loop);
}

START_TEST(freed_when_it_tells)
{
	static const struct credential_events ends = {on_published_free, on_refreshed};
	const char *why;

	opts.source = CRED_STATIC;
	cred_fields_init(&opts.fixed);
	opts.fixed.password = secret_of("MARK-1");
	cred = credential_new(loop, &opts, &ends, &cred);
	ck_assert_int_eq(credential_start(cred, &why), ERR_OK);
	credential_want_newer(cred, 1);
	WAIT_FOR(told.number == 1);
	turn();
	ck_assert_ptr_null(cred);
	ck_assert_int_eq(told.refreshed, 0);
}
END_TEST

/* ---- files ---- */

static void file(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s", at(name));
	opts.source = CRED_FILE;
	opts.path = path;
}

/* Proves: A1 K1 */
START_TEST(file_is_followed)
{
	int64_t begun_us;

	file("secret");
	write_file("secret", "{\"username\":\"app\",\"password\":\"MARK-1\"}");
	start();
	wait_generation(1);
	check_password("MARK-1");
	begun_us = loop_now_us(loop);
	replace_file("secret", "{\"username\":\"app\",\"password\":\"MARK-2\"}");
	wait_generation(2);
	check_password("MARK-2");
	ck_assert_int_lt(loop_now_us(loop) - begun_us, 1 * SECOND);
	write_file("secret", "{\"username\":\"app\",\"password\":\"MARK-3\"}");
	wait_generation(3);
	check_password("MARK-3");
	ck_assert_uint_eq(view().asked[CRED_CHANGED], 2);
	ck_assert_uint_eq(view().source_errors, 0);
}
END_TEST

static void wait_errors(uint64_t n)
{
	while (view().source_errors < n)
		run_for(5 * MS);
}

/* Proves: K1 CRED-12 B11 */
START_TEST(two_halves_are_no_credential)
{
	static const char text[] = "{\"username\":\"app\",\"password\":\"MARK-2\",\"port\":12}";

	file("secret");
	write_file("secret", "{\"username\":\"app\",\"password\":\"MARK-1\"}");
	start();
	wait_generation(1);
	write_n("secret", text, 25, O_TRUNC);
	wait_errors(1);
	ck_assert_int_eq(view().last_error, ERR_INVALID);
	check_password("MARK-1");
	write_n("secret", text + 25, sizeof(text) - 1 - 25, O_APPEND);
	wait_generation(2);
	check_password("MARK-2");
	ck_assert_int_eq(view().last_error, ERR_OK);
}
END_TEST

/* Half of a bare secret looks like a secret; but while the writer has the file open it is left alone. */
/* Proves: K1 CRED-12 */
START_TEST(half_a_bare_secret_waits_for_its_writer)
{
	int fd;

	file("secret");
	write_file("secret", "MARK-1");
	start();
	wait_generation(1);
	fd = open(at("secret"), O_WRONLY | O_TRUNC | O_CLOEXEC);
	ck_assert_int_eq((int)write(fd, "MARK-", 5), 5);
	run_for(10 * opts.debounce_us);
	ck_assert_int_eq((int)write(fd, "2\n", 2), 2);
	run_for(2 * opts.debounce_us);
	ck_assert_int_eq(told.published, 1);
	close(fd);
	wait_generation(2);
	check_password("MARK-2");
}
END_TEST

/* Proves: K3 CRED-12 A7 */
START_TEST(gone_or_empty_keeps_the_last)
{
	file("secret");
	write_file("secret", "MARK-1");
	start();
	wait_generation(1);
	write_file("secret", "");
	wait_errors(1);
	ck_assert_int_eq(view().last_error, ERR_INVALID);
	ck_assert_int_eq(unlink(at("secret")), 0);
	wait_errors(2);
	ck_assert_int_eq(view().last_error, ERR_NOT_FOUND);
	check_password("MARK-1");
	credential_want_newer(cred, 1);
	WAIT_FOR(told.refreshed == 1);
	ck_assert_int_eq(told.why, ERR_NOT_FOUND);
	write_file("secret", "MARK-2");
	wait_generation(2);
}
END_TEST

/* Proves: K3 */
START_TEST(not_there_at_the_start)
{
	file("later/on/secret");
	start();
	ck_assert_ptr_null(credential_current(cred));
	ck_assert_int_eq(view().last_error, ERR_NOT_FOUND);
	ck_assert_int_eq(mkdir(at("later"), 0700) | mkdir(at("later/on"), 0700), 0);
	write_file("later/on/secret", "MARK-1");
	wait_generation(1);
}
END_TEST

/* Proves: B8 B17 K14 */
START_TEST(a_file_is_looked_at_when_wanted)
{
	file("secret");
	write_file("secret", "MARK-1");
	start();
	wait_generation(1);
	credential_want_newer(cred, 1);
	WAIT_FOR(told.refreshed == 1);
	ck_assert_int_eq(told.why, ERR_UNCHANGED);
	ck_assert(!told.final);
	/* It changes while the cooldown lasts: that is told at once, and whoever waits is served by it. */
	credential_want_newer(cred, 1);
	replace_file("secret", "MARK-2");
	wait_generation(2);
	ck_assert_int_eq(told.refreshed, 1);
	ck_assert(!view().refreshing);
}
END_TEST

static const struct {
	mode_t mode;
	bool strict, good;
} modes[] = {
	{0600, true, true},  {0400, true, true},  {0640, true, true},  {0440, true, true},  {0644, true, false},
	{0660, true, false}, {0604, true, false}, {0602, true, false}, {0644, false, true}, {0666, false, true},
};

/* Proves: K4 SEC-2 CRED-12 */
START_TEST(permissions)
{
	const char *why = NULL;

	file("secret");
	opts.strict_permissions = modes[_i].strict;
	write_file("secret", "MARK-1");
	ck_assert_int_eq(chmod(at("secret"), modes[_i].mode), 0);
	if (modes[_i].good) {
		start();
		wait_generation(1);
		return;
	}
	cred = credential_new(loop, &opts, &events, &told);
	ck_assert_int_eq(credential_start(cred, &why), ERR_PERMISSION);
	ck_assert_ptr_nonnull(why);
	ck_assert_int_eq(view().last_error, ERR_PERMISSION);
}
END_TEST

/* Proves: K4 SEC-2 */
START_TEST(permissions_that_get_lost_and_come_back)
{
	file("secret");
	write_file("secret", "MARK-1");
	start();
	wait_generation(1);
	write_file("open", "MARK-2");
	ck_assert_int_eq(chmod(at("open"), 0644), 0);
	ck_assert_int_eq(rename(at("open"), at("secret")), 0);
	wait_errors(1);
	ck_assert_int_eq(view().last_error, ERR_PERMISSION);
	check_password("MARK-1");
	ck_assert_int_eq(chmod(at("secret"), 0600), 0);
	wait_generation(2);
	check_password("MARK-2");
}
END_TEST

/* Proves: K4 SEC-2 */
START_TEST(somebody_elses_file)
{
	const char *why = NULL;

	if (geteuid() != 0)
		return;
	file("secret");
	write_file("secret", "MARK-1");
	ck_assert_int_eq(chown(at("secret"), 65534, 0), 0);
	cred = credential_new(loop, &opts, &events, &told);
	ck_assert_int_eq(credential_start(cred, &why), ERR_PERMISSION);
	ck_assert_ptr_nonnull(strstr(why, "somebody else"));
}
END_TEST

/* Proves: K4 CRED-12 */
START_TEST(no_regular_files)
{
	char big[70000];

	memset(big, 'x', sizeof(big));
	file("secret");
	ck_assert_int_eq(mkfifo(at("secret"), 0600), 0);
	start();
	ck_assert_int_eq(view().last_error, ERR_INVALID);
	ck_assert_int_eq(unlink(at("secret")) | mkdir(at("secret"), 0700), 0);
	wait_errors(2);
	ck_assert_int_eq(view().last_error, ERR_INVALID);
	ck_assert_int_eq(rmdir(at("secret")) | symlink("/dev/zero", at("secret")), 0);
	wait_errors(3);
	ck_assert_int_eq(view().last_error, ERR_INVALID);
	ck_assert_int_eq(unlink(at("secret")), 0);
	write_n("big", big, sizeof(big), 0);
	ck_assert_int_eq(rename(at("big"), at("secret")), 0);
	while (view().last_error != ERR_TOO_BIG)
		run_for(5 * MS);
	/* A gigabyte that takes no room on the disk is not read either. */
	ck_assert_int_eq(truncate(at("secret"), 1 << 30), 0);
	ck_assert_ptr_null(credential_current(cred));
	write_file("good", "MARK-1");
	ck_assert_int_eq(rename(at("good"), at("secret")), 0);
	wait_generation(1);
}
END_TEST

/* Proves: K6 */
START_TEST(a_thousand_rotations)
{
	char text[64];
	int i = 0;

	opts.debounce_us = 1 * MS;
	file("secret");
	write_file("secret", "MARK-0");
	start();
	wait_generation(1);
	for (i = 1; i <= 1000; i++) {
		snprintf(text, sizeof(text), "MARK-%d", i);
		replace_file("secret", text);
		if (i % 10 == 0)
			turn();
	}
	while (!secret_equal_bytes(credential_current(cred)->is.password, "MARK-1000", 9))
		loop_run(loop);
	ck_assert_int_le(told.published, 1001);
	/* There and back. */
	i = told.published;
	replace_file("secret", "MARK-a");
	WAIT_FOR(told.published == i + 1);
	replace_file("secret", "MARK-1000");
	WAIT_FOR(told.published == i + 2);
	check_password("MARK-1000");
}
END_TEST

/* Proves: K13 */
START_TEST(a_lifetime_counts_from_when_it_was_written)
{
	struct timespec old[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = time(NULL) - 600}};

	file("secret");
	write_file("secret", "{\"password\":\"MARK-1\",\"expires_in\":900}");
	ck_assert_int_eq(utimensat(AT_FDCWD, at("secret"), old, 0), 0);
	start();
	wait_generation(1);
	ck_assert_int_le(view().expires_us, loop_now_us(loop) + 301 * SECOND);
	ck_assert_int_ge(view().expires_us, loop_now_us(loop) + 290 * SECOND);
	write_file("old", "{\"password\":\"MARK-2\",\"expires_in\":500}");
	ck_assert_int_eq(utimensat(AT_FDCWD, at("old"), old, 0), 0);
	ck_assert_int_eq(rename(at("old"), at("secret")), 0);
	wait_errors(1);
	ck_assert_int_eq(view().last_error, ERR_EXPIRED);
	check_password("MARK-1");
}
END_TEST

/* ---- where the secret is ---- */

/* Writes the secret without ever having it in our memory in one piece. */
static void write_halves(const char *name, const char *form, const char *first, const char *second, const char *end)
{
	write_n(".new", form, strlen(form), O_TRUNC);
	write_n(".new", first, strlen(first), O_APPEND);
	write_n(".new", second, strlen(second), O_APPEND);
	write_n(".new", end, strlen(end), O_APPEND);
	ck_assert_int_eq(rename(at(".new"), at(name)), 0);
}

/* Proves: CRED-14 */
START_TEST(no_copy_of_the_secret_is_left)
{
	const char *kind;

	if (sanitized)
		return;
	ck_assert_int_eq(secret_arena_init(&kind), ERR_OK);
	if (_i)
		file("secret");
	else
		command("cat secret");
	write_halves("secret", "{\"username\":\"app\",\"password\":\"", "of-the-mark-", "that-is-live", "\"}");
	start();
	wait_generation(1);
	turn();
	ck_assert_int_le(mappings_with("of-the-mark-", "that-is-live"), strcmp(kind, "memfd_secret") == 0 ? 0 : 1);
	write_halves("secret", "", "of-the-mark-", "that-is-next", "\n");
	credential_refresh(cred);
	wait_generation(2);
	turn();
	ck_assert_int_le(mappings_with("of-the-mark-", "that-is-next"), strcmp(kind, "memfd_secret") == 0 ? 0 : 1);
	ck_assert_int_eq(mappings_with("of-the-mark-", "that-is-live"), 0);
}
END_TEST

/* The search finds what is there. */
START_TEST(the_search_for_copies_works)
{
	char *copy = mem_printf("%s-%s", "of-the-mark", "that-is-seen");

	if (!sanitized)
		ck_assert_int_ge(mappings_with("of-the-mark-", "that-is-seen"), 1);
	mem_free(copy);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("credential");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, cred_set_up, cred_tear_down);
	tcase_add_test(t, static_is_final);
	tcase_add_test(t, by_hand_the_end_is_told);
	tcase_add_test(t, by_hand_a_static_one_tells_as_well);
	tcase_add_test(t, environment_is_read_once_and_removed);
	tcase_add_test(t, environment_that_is_not_there);
	tcase_add_test(t, command_is_asked_with_what_it_needs);
	tcase_add_test(t, five_hundred_refused_at_once_are_one_run);
	tcase_add_test(t, the_same_again_cools_down);
	tcase_add_test(t, always_something_new_is_asked_no_more_often);
	tcase_add_test(t, by_hand_it_is_asked_whatever_the_cooldown_says);
	tcase_add_loop_test(t, failures_keep_the_last_good_one, 0, (int)(sizeof(failing) / sizeof(*failing)));
	tcase_add_test(t, retries_with_backoff);
	tcase_add_test(t, what_fails_at_the_start_is_tried_on);
	tcase_add_test(t, asked_when_part_of_the_lifetime_has_passed);
	tcase_add_test(t, asked_some_time_before_the_end);
	tcase_add_loop_test(t, expiry_does_not_storm, 0, 2);
	tcase_add_test(t, asked_every_interval);
	tcase_add_test(t, a_longer_life_is_a_generation);
	tcase_add_test(t, stopped_while_it_runs);
	tcase_add_test(t, freed_when_it_tells);
	tcase_add_test(t, file_is_followed);
	tcase_add_test(t, two_halves_are_no_credential);
	tcase_add_test(t, half_a_bare_secret_waits_for_its_writer);
	tcase_add_test(t, gone_or_empty_keeps_the_last);
	tcase_add_test(t, not_there_at_the_start);
	tcase_add_test(t, a_file_is_looked_at_when_wanted);
	tcase_add_loop_test(t, permissions, 0, (int)(sizeof(modes) / sizeof(*modes)));
	tcase_add_test(t, permissions_that_get_lost_and_come_back);
	tcase_add_test(t, somebody_elses_file);
	tcase_add_test(t, no_regular_files);
	tcase_add_test(t, a_thousand_rotations);
	tcase_add_test(t, a_lifetime_counts_from_when_it_was_written);
	tcase_add_loop_test(t, no_copy_of_the_secret_is_left, 0, 2);
	tcase_add_test(t, the_search_for_copies_works);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
