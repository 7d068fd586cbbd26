/* Tests of the sources that are more than a file or a command: directories, systemd's, streams, and files without inotify. */
#include <errno.h>
#include <sched.h>
#include <sys/inotify.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include "cred_world.h"
#include "proc_help.h"

static int deny; /* errno of every inotify_add_watch() */

/* In front of the C library's. */
int inotify_add_watch(int fd, const char *path, uint32_t mask)
{
	if (!deny)
		return (int)syscall(SYS_inotify_add_watch, fd, path, mask);
	errno = deny;
	return -1;
}

static void wait_errors(uint64_t n)
{
	while (view().source_errors < n)
		run_for(5 * MS);
}

static void source(enum cred_source what, const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s", what == CRED_SYSTEMD ? name : at(name));
	opts.source = what;
	opts.path = path;
}

/* ---- a directory ---- */

static void make_dir(const char *name)
{
	ck_assert_int_eq(mkdir(at(name), 0700), 0);
}

static void kubernetes(int version, const char *username, const char *password)
{
	char name[64], target[16];

	snprintf(target, sizeof(target), "..%d", version);
	snprintf(name, sizeof(name), "m/%s", target);
	make_dir(name);
	snprintf(name, sizeof(name), "m/%s/username", target);
	write_file(name, username);
	snprintf(name, sizeof(name), "m/%s/password", target);
	write_file(name, password);
	ck_assert_int_eq(symlink(target, at("m/..data_tmp")), 0);
	ck_assert_int_eq(rename(at("m/..data_tmp"), at("m/..data")), 0);
}

static void check_username(const char *text)
{
	ck_assert_str_eq(credential_current(cred)->is.username, text);
}

/* Proves: K2 */
START_TEST(directory_of_kubernetes)
{
	make_dir("m");
	kubernetes(1, "app-1", "MARK-1\n");
	ck_assert_int_eq(symlink("..data/username", at("m/username")), 0);
	ck_assert_int_eq(symlink("..data/password", at("m/password")), 0);
	source(CRED_DIRECTORY, "m");
	start();
	wait_generation(1);
	check_username("app-1");
	check_password("MARK-1");
	for (int i = 2; i < 6; i++) {
		char user[32], password[32];

		snprintf(user, sizeof(user), "app-%d", i);
		snprintf(password, sizeof(password), "MARK-%d\n", i);
		kubernetes(i, user, password);
		wait_generation((uint64_t)i);
		check_username(user);
		password[strlen(password) - 1] = '\0';
		check_password(password);
	}
	ck_assert_uint_eq(view().source_errors, 0);
}
END_TEST

/* Both files are written one after the other: never the new user with the old password. */
/* Proves: K2 K1 */
START_TEST(directory_of_plain_files)
{
	make_dir("m");
	write_file("m/username", "app-1");
	write_file("m/password", "MARK-1");
	write_file("m/port", "6380");
	source(CRED_DIRECTORY, "m");
	start();
	wait_generation(1);
	ck_assert_int_eq(credential_current(cred)->is.port, 6380);
	write_file("m/username", "app-2");
	run_for(opts.debounce_us / 4);
	write_file("m/password", "MARK-2");
	wait_generation(2);
	check_username("app-2");
	check_password("MARK-2");
}
END_TEST

/* Proves: K2 K3 */
START_TEST(directory_that_is_made_anew)
{
	opts.poll_us = 50 * MS;
	make_dir("m");
	kubernetes(1, "app-1", "MARK-1");
	source(CRED_DIRECTORY, "m");
	start();
	wait_generation(1);
	ck_assert_int_eq(rename(at("m"), at("old")), 0);
	wait_errors(1);
	ck_assert_int_eq(view().last_error, ERR_NOT_FOUND);
	check_password("MARK-1");
	make_dir("m");
	kubernetes(2, "app-2", "MARK-2");
	wait_generation(2);
	check_username("app-2");
	/* What is done behind the link is found by polling. */
	ck_assert_int_eq(unlink(at("m/..2/password")), 0);
	wait_errors(2);
	ck_assert_int_eq(view().last_error, ERR_INVALID);
	check_password("MARK-2");
}
END_TEST

/* ---- systemd ---- */

START_TEST(systemd_credential)
{
	make_dir("credentials");
	write_file("credentials/redis", "MARK-1\n");
	ck_assert_int_eq(chmod(at("credentials/redis"), 0400), 0);
	ck_assert_int_eq(setenv("CREDENTIALS_DIRECTORY", at("credentials"), 1), 0);
	source(CRED_SYSTEMD, "redis");
	start();
	wait_generation(1);
	check_password("MARK-1");
	ck_assert_str_eq(view().source, "systemd");
	replace_file("credentials/redis", "MARK-2");
	wait_generation(2);
}
END_TEST

START_TEST(systemd_without_credentials)
{
	static const char *const names[] = {"a/b", ".hidden", "", "redis"};
	const char *why = NULL;

	if (_i < 3)
		ck_assert_int_eq(setenv("CREDENTIALS_DIRECTORY", dir, 1), 0);
	else
		ck_assert_int_eq(unsetenv("CREDENTIALS_DIRECTORY"), 0);
	source(CRED_SYSTEMD, names[_i]);
	cred = credential_new(loop, &opts, &events, &told);
	ck_assert_int_eq(credential_start(cred, &why), ERR_CONFIG);
	ck_assert_ptr_nonnull(why);
}
END_TEST

/* ---- without inotify ---- */

/* Proves: K7 */
START_TEST(polling_finds_it)
{
	deny = ENOSPC;
	opts.poll_us = 30 * MS;
	source(CRED_FILE, "secret");
	write_file("secret", "MARK-1");
	start();
	wait_generation(1);
	replace_file("secret", "MARK-2");
	wait_generation(2);
	check_password("MARK-2");
	ck_assert_int_eq(unlink(at("secret")), 0);
	wait_errors(1);
	/* Said once. */
	run_for(5 * opts.poll_us);
	ck_assert_uint_eq(view().source_errors, 1);
	write_file("secret", "MARK-3");
	wait_generation(3);
	/* When there is room again, it is watched. */
	ck_assert_int_eq(inotify_watches(), 0);
	deny = 0;
	while (inotify_watches() == 0)
		run_for(5 * MS);
	ck_assert_uint_eq(told.number, 3);
	write_file("secret", "MARK-4");
	wait_generation(4);
}
END_TEST

/* A mount over the way is an event to nobody. */
/* Proves: K2 K7 */
START_TEST(a_mount_that_is_swapped)
{
	if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		return;
	opts.poll_us = 30 * MS;
	make_dir("m");
	make_dir("other");
	write_file("m/secret", "MARK-1");
	write_file("other/secret", "MARK-2");
	source(CRED_FILE, "m/secret");
	start();
	wait_generation(1);
	if (mount(at("other"), at("m"), NULL, MS_BIND, NULL) != 0)
		return;
	wait_generation(2);
	check_password("MARK-2");
	ck_assert_int_eq(umount2(at("m"), MNT_DETACH), 0);
	wait_generation(3);
	check_password("MARK-1");
}
END_TEST

/* ---- a stream ---- */

static int lines_of(const char *name)
{
	char text[4096];
	int n = 0;

	read_file(name, text, sizeof(text));
	for (const char *p = text; (p = strchr(p, '\n')) != NULL; p++)
		n++;
	return n;
}

static void stream(const char *text)
{
	opts.source = CRED_STREAM;
	opts.argv = script(text);
}

static int feed = -1;

/* A program that passes on what the test writes. */
static void stream_fed(void)
{
	stream("echo $LEASED_REASON $LEASED_GENERATION >> runs; exec cat fifo");
	ck_assert_int_eq(mkfifo(at("fifo"), 0600), 0);
	start();
	feed = open(at("fifo"), O_WRONLY | O_CLOEXEC);
	ck_assert_int_ge(feed, 0);
}

static void say(const char *text)
{
	ck_assert_int_eq((int)write(feed, text, strlen(text)), (int)strlen(text));
}

/* Proves: A1 K9 */
START_TEST(stream_of_lines)
{
	stream_fed();
	say("{\"username\":\"app\",\"password\":\"MARK-1\"}\n");
	wait_generation(1);
	check_password("MARK-1");
	/* Half a line is none; several at once are taken in order. */
	say("{\"username\":\"app\",\"pass");
	run_for(20 * MS);
	ck_assert_int_eq(told.published, 1);
	say("word\":\"MARK-2\"}\r\n\n");
	wait_generation(2);
	check_password("MARK-2");
	say("{\"password\":\"MARK-3\"}\n{\"password\":\"MARK-3\"}\n{\"password\":\"MARK-4\"}\n{\"pass");
	WAIT_FOR(told.number == 4);
	check_password("MARK-4");
	ck_assert_uint_eq(view().source_errors, 0);
	/* The other half goes down with the program. */
	close(feed);
	wait_errors(1);
	ck_assert_int_eq(view().last_error, ERR_SOURCE_FAILED);
	check_password("MARK-4");
}
END_TEST

/* Proves: K9 CRED-12 B11 */
START_TEST(stream_of_nonsense)
{
	stream_fed();
	say("{\"password\":\"MARK-1\"}\n");
	wait_generation(1);
	say("could not reach the vault: MARK-2\n");
	wait_errors(1);
	say("{\"password\":\"MARK-2\"\n");
	wait_errors(2);
	say("{\"password\":\"MARK-2\",\"expires_at\":1000}\n");
	wait_errors(3);
	ck_assert_int_eq(view().last_error, ERR_EXPIRED);
	check_password("MARK-1");
	say("{\"password\":\"MARK-3\"}\n");
	wait_generation(2);
	close(feed);
}
END_TEST

/* Proves: K9 K8 */
START_TEST(stream_with_too_long_a_line)
{
	stream("echo run >> runs; echo '{\"password\":\"MARK-'$(wc -l < runs)'\"}'; exec head -c 1000000 /dev/zero");
	start();
	wait_generation(1);
	wait_errors(1);
	ck_assert_int_eq(view().last_error, ERR_TOO_BIG);
	/* Started again. */
	wait_generation(2);
}
END_TEST

/* Proves: K9 A23 */
START_TEST(stream_that_ends_is_started_again)
{
	int64_t begun_us = loop_now_us(loop);

	opts.backoff_initial_us = 20 * MS;
	opts.backoff_max_us = 80 * MS;
	/* Says nothing of use: 20, 40, 80, 80 between the starts. */
	stream("echo $LEASED_REASON >> runs; exit 1");
	start();
	while (lines_of("runs") < 5)
		run_for(5 * MS);
	ck_assert_int_ge(loop_now_us(loop) - begun_us, 220 * MS);
	ck_assert_uint_ge(view().source_errors, 4);
	ck_assert_int_eq(told.refreshed, 0);
	/* With a credential each time, the pause is short again; the same one is no generation. */
	script("echo run >> again; echo '{\"password\":\"MARK-1\"}'");
	wait_generation(1);
	begun_us = loop_now_us(loop);
	while (lines_of("again") < 4)
		run_for(5 * MS);
	ck_assert_int_eq(told.published, 1);
	ck_assert_uint_eq(told.number, 1);
}
END_TEST

/* Proves: B4 B15 K9 */
START_TEST(stream_that_is_wanted_something_newer_of)
{
	opts.timeout_us = 300 * MS;
	stream_fed();
	say("{\"password\":\"MARK-1\"}\n");
	wait_generation(1);
	credential_want_newer(cred, 1);
	credential_want_newer(cred, 1);
	ck_assert(view().refreshing);
	WAIT_FOR(told.refreshed == 1);
	ck_assert_int_eq(told.why, ERR_UNCHANGED);
	ck_assert(!told.final);
	run_for(2 * opts.cooldown_us);
	credential_want_newer(cred, 1);
	say("{\"password\":\"MARK-2\"}\n");
	wait_generation(2);
	ck_assert_int_eq(told.refreshed, 1);
	close(feed);
}
END_TEST

START_TEST(stream_refreshed_by_hand_is_started_anew)
{
	char text[256];

	stream("echo $LEASED_REASON $LEASED_GENERATION >> runs; echo '{\"password\":\"MARK-'$(wc -l < runs)'\"}'; exec sleep 1000");
	start();
	wait_generation(1);
	credential_refresh(cred);
	wait_generation(2);
	check_password("MARK-2");
	read_file("runs", text, sizeof(text));
	ck_assert_str_eq(text, "startup 0\nmanual 1\n");
	ck_assert_uint_eq(view().source_errors, 0);
}
END_TEST

static void set_up(void)
{
	cred_set_up();
	deny = 0;
}

int main(void)
{
	Suite *s = suite_create("cred_sources");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, set_up, cred_tear_down);
	tcase_add_test(t, directory_of_kubernetes);
	tcase_add_test(t, directory_of_plain_files);
	tcase_add_test(t, directory_that_is_made_anew);
	tcase_add_test(t, systemd_credential);
	tcase_add_loop_test(t, systemd_without_credentials, 0, 4);
	tcase_add_test(t, polling_finds_it);
	tcase_add_test(t, a_mount_that_is_swapped);
	tcase_add_test(t, stream_of_lines);
	tcase_add_test(t, stream_of_nonsense);
	tcase_add_test(t, stream_with_too_long_a_line);
	tcase_add_test(t, stream_that_ends_is_started_again);
	tcase_add_test(t, stream_that_is_wanted_something_newer_of);
	tcase_add_test(t, stream_refreshed_by_hand_is_started_anew);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
