/* Tests of io/watch and io/file: what happens on the way to a file is reported, and what may be read is read whole. */
#include <errno.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "io/file.h"
#include "io/watch.h"
#include "io_help.h"
#include "proc_help.h"

#define MS INT64_C(1000)

static char dir[64];
static struct watch *watch;
static int changed, writing;
static int deny; /* errno of every inotify_add_watch() */

/* In front of the C library's. */
int inotify_add_watch(int fd, const char *path, uint32_t mask)
{
	if (!deny)
		return (int)syscall(SYS_inotify_add_watch, fd, path, mask);
	errno = deny;
	return -1;
}

static const char *at(const char *name)
{
	static char room[4][256];
	static unsigned turn_of;
	char *p = room[turn_of++ % 4];

	snprintf(p, sizeof(room[0]), "%s/%s", dir, name);
	return p;
}

static void write_file(const char *name, const char *text)
{
	int fd = open(at(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq((int)write(fd, text, strlen(text)), (int)strlen(text));
	close(fd);
}

static void make_dir(const char *name)
{
	ck_assert_int_eq(mkdir(at(name), 0700), 0);
}

static void move(const char *from, const char *to)
{
	ck_assert_int_eq(rename(at(from), at(to)), 0);
}

static void link_to(const char *target, const char *name)
{
	ck_assert_int_eq(symlink(target, at(name)), 0);
}

static void on_change(void *arg, enum watch_event ev)
{
	ck_assert_ptr_eq(arg, &watch);
	changed += ev == WATCH_CHANGED;
	writing += ev == WATCH_WRITING;
	loop_stop(loop);
}

static void look_at(const char *name, bool contents)
{
	watch = watch_new(loop, at(name), contents, on_change, &watch);
	ck_assert_ptr_nonnull(watch);
	ck_assert(watch_works(watch));
}

/* Everything that has happened so far is taken; then the count is 0 again. */
static void expect_change(void)
{
	WAIT_FOR(changed);
	for (int i = 0; i < 4; i++)
		turn();
	changed = writing = 0;
}

static void expect_nothing(void)
{
	for (int i = 0; i < 4; i++)
		turn();
	ck_assert_int_eq(changed + writing, 0);
}

/* Proves: K1 */
START_TEST(a_file_in_a_directory)
{
	look_at("secret", false);
	expect_nothing();
	write_file("secret", "1");
	expect_change();
	write_file("secret", "2");
	expect_change();
	write_file("other", "3");
	expect_nothing();
	move("other", "secret");
	expect_change();
	ck_assert_int_eq(chmod(at("secret"), 0640), 0);
	expect_change();
	ck_assert_int_eq(unlink(at("secret")), 0);
	expect_change();
	write_file("secret", "4");
	expect_change();
	/* Reading is no change. */
	ck_assert_int_eq(close(open(at("secret"), O_RDONLY | O_CLOEXEC)), 0);
	expect_nothing();
}
END_TEST

/* Proves: K1 */
START_TEST(writing_is_told_from_written)
{
	int fd;

	write_file("secret", "1");
	look_at("secret", false);
	fd = open(at("secret"), O_WRONLY | O_TRUNC | O_CLOEXEC);
	ck_assert_int_eq((int)write(fd, "a", 1), 1);
	WAIT_FOR(writing);
	ck_assert_int_eq(changed, 0);
	close(fd);
	expect_change();
}
END_TEST

/* Proves: K2 */
START_TEST(directories_that_come_and_go)
{
	look_at("a/b/secret", false);
	make_dir("a");
	expect_change();
	make_dir("a/b");
	expect_change();
	write_file("a/b/secret", "1");
	expect_change();
	/* Another directory takes its place, the old one lives on elsewhere. */
	make_dir("new");
	write_file("new/secret", "2");
	expect_nothing();
	move("a/b", "old");
	move("new", "a/b");
	expect_change();
	write_file("old/secret", "3");
	expect_nothing();
	write_file("a/b/secret", "4");
	expect_change();
	ck_assert_int_eq(unlink(at("a/b/secret")) | rmdir(at("a/b")) | rmdir(at("a")), 0);
	expect_change();
	make_dir("a");
	expect_change();
	make_dir("a/b");
	write_file("a/b/secret", "5");
	expect_change();
	write_file("a/b/secret", "6");
	expect_change();
}
END_TEST

/* A secret as Kubernetes mounts it: secret -> ..data/secret, ..data -> a directory with the time of its making. */
static void kubernetes(const char *version)
{
	char name[64];

	snprintf(name, sizeof(name), "m/%s", version);
	make_dir(name);
	snprintf(name, sizeof(name), "m/%s/secret", version);
	write_file(name, version);
	link_to(version, "m/..data_tmp");
	move("m/..data_tmp", "m/..data");
}

/* Proves: K2 */
START_TEST(links_that_are_swapped)
{
	int watches;

	make_dir("m");
	kubernetes("..1");
	link_to("..data/secret", "m/secret");
	look_at("m/secret", false);
	expect_nothing();
	watches = inotify_watches();
	ck_assert_int_gt(watches, 0);
	for (int i = 2; i < 5; i++) {
		char name[16];

		snprintf(name, sizeof(name), "..%d", i);
		kubernetes(name);
		expect_change();
		/* What nothing leads to any more is not watched. */
		snprintf(name, sizeof(name), "m/..%d/secret", i - 1);
		write_file(name, "x");
		expect_nothing();
		/* What leads there now is. */
		write_file("m/secret", "y");
		expect_change();
		ck_assert_int_eq(inotify_watches(), watches);
	}
}
END_TEST

/* Proves: K2 */
START_TEST(all_of_a_directory)
{
	make_dir("m");
	look_at("m", true);
	expect_nothing();
	kubernetes("..1");
	expect_change();
	write_file("m/username", "1");
	expect_change();
	ck_assert_int_eq(unlink(at("m/username")), 0);
	expect_change();
	write_file("beside", "1");
	expect_nothing();
}
END_TEST

START_TEST(absolute_links_loops_and_dots)
{
	char target[128];

	make_dir("a");
	make_dir("b");
	write_file("b/secret", "1");
	snprintf(target, sizeof(target), "%s", at("b"));
	link_to(target, "a/there");
	look_at("a/./there/../b//there/../../b/secret", false);
	expect_nothing();
	watch_free(&watch);
	look_at("a/there/../b/secret", false);
	write_file("b/secret", "2");
	expect_change();
	watch_free(&watch);
	link_to("loop", "loop");
	look_at("loop", false);
	ck_assert_int_eq(unlink(at("loop")), 0);
	expect_change();
	write_file("loop", "1");
	expect_change();
}
END_TEST

START_TEST(relative_to_where_we_are)
{
	ck_assert_int_eq(chdir(dir), 0);
	watch = watch_new(loop, "secret", false, on_change, &watch);
	ck_assert(watch_works(watch));
	write_file("secret", "1");
	expect_change();
	ck_assert_int_eq(chdir("/"), 0);
	write_file("secret", "2");
	expect_change();
}
END_TEST

/* A container's file that is mounted by itself is written by another name. */
START_TEST(written_by_another_name)
{
	make_dir("a");
	make_dir("b");
	write_file("a/secret", "1");
	ck_assert_int_eq(link(at("a/secret"), at("b/secret")), 0);
	look_at("b/secret", false);
	expect_nothing();
	write_file("a/secret", "2");
	expect_change();
}
END_TEST

/* Proves: K7 */
START_TEST(queue_overflow)
{
	char text[32] = "";
	int fd = open("/proc/sys/fs/inotify/max_queued_events", O_RDONLY | O_CLOEXEC), most;

	ck_assert_int_gt((int)read(fd, text, sizeof(text) - 1), 0);
	close(fd);
	most = atoi(text);
	make_dir("a");
	write_file("a/secret", "1");
	look_at("a/secret", false);
	/* Names that don't matter fill the queue; what matters is then lost, and has to be found. */
	for (int i = 0; i <= most / 2; i++) {
		write_file("a/x", "");
		ck_assert_int_eq(unlink(at("a/x")), 0);
	}
	move("a", "old");
	make_dir("a");
	write_file("a/secret", "2");
	expect_change();
	write_file("a/secret", "3");
	expect_change();
}
END_TEST

/* Proves: K7 */
START_TEST(without_inotify)
{
	struct rlimit few, before;

	deny = ENOSPC;
	watch = watch_new(loop, at("secret"), false, on_change, &watch);
	ck_assert(!watch_works(watch));
	write_file("secret", "1");
	expect_nothing();
	deny = 0;
	watch_again(watch);
	ck_assert(watch_works(watch));
	write_file("secret", "2");
	expect_change();
	watch_free(&watch);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = (struct rlimit){.rlim_cur = 0, .rlim_max = before.rlim_max};
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	watch = watch_new(loop, at("secret"), false, on_change, &watch);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
	ck_assert(!watch_works(watch));
	watch_again(watch);
	ck_assert(watch_works(watch));
	write_file("secret", "3");
	expect_change();
}
END_TEST

/* The limit is reached on the way: the rest of it is watched again when there is room. */
/* Proves: K7 */
START_TEST(part_of_the_way_is_not_watched)
{
	make_dir("a");
	look_at("a/b/secret", false);
	deny = ENOSPC;
	make_dir("a/b");
	expect_change();
	ck_assert(!watch_works(watch));
	deny = 0;
	watch_again(watch);
	ck_assert(watch_works(watch));
	write_file("a/b/secret", "1");
	expect_change();
}
END_TEST

static void on_change_free(void *arg, enum watch_event ev)
{
	(void)ev;
	watch_free(arg);
	changed++;
	loop_stop(loop);
}

START_TEST(freed_when_it_tells)
{
	watch = watch_new(loop, at("secret"), false, on_change_free, &watch);
	write_file("secret", "1");
	move("secret", "other");
	WAIT_FOR(changed);
	turn();
	ck_assert_ptr_null(watch);
	ck_assert_int_eq(changed, 1);
	watch_free(&watch);
}
END_TEST

/* ---- reading ---- */

static struct file_set set;
static const char *why;
static const char *const names[] = {"username", "password", "host"};

static enum err read_dir(const char *name)
{
	struct file_opts o = {.path = at(name), .names = names, .n_names = 3, .strict = true};

	return file_read(&o, &set, &why);
}

static void check_text(size_t i, const char *text)
{
	if (!text) {
		ck_assert_ptr_null(set.text[i].bytes);
		return;
	}
	ck_assert_uint_eq(set.text[i].n, strlen(text));
	ck_assert(memcmp(set.text[i].bytes, text, set.text[i].n) == 0);
}

/* Proves: K2 */
START_TEST(both_files_of_one_target)
{
	struct file_stamp stamp;
	struct file_opts o = {.names = names, .n_names = 3};

	ck_assert_int_eq(read_dir("m"), ERR_NOT_FOUND);
	make_dir("m");
	ck_assert_int_eq(read_dir("m"), ERR_NOT_FOUND);
	make_dir("m/..1");
	write_file("m/..1/username", "u1");
	write_file("m/..1/password", "p1");
	make_dir("m/..2");
	write_file("m/..2/username", "u2");
	write_file("m/..2/password", "p2");
	/* Not what lies around beside the link. */
	write_file("m/host", "h");
	link_to("..1", "m/..data");
	ck_assert_int_eq(read_dir("m"), ERR_OK);
	check_text(0, "u1");
	check_text(1, "p1");
	check_text(2, NULL);
	file_set_wipe(&set);
	o.path = at("m");
	ck_assert_int_eq(file_look(&o, &stamp), ERR_OK);
	link_to("..2", "m/..new");
	move("m/..new", "m/..data");
	ck_assert_int_eq(read_dir("m"), ERR_OK);
	check_text(0, "u2");
	check_text(1, "p2");
	ck_assert(!file_stamp_equal(&stamp, &set.stamp));
	o.path = at("m");
	ck_assert_int_eq(file_look(&o, &stamp), ERR_OK);
	ck_assert(file_stamp_equal(&stamp, &set.stamp));
	file_set_wipe(&set);
	/* One that may not be read by all spoils all. */
	ck_assert_int_eq(chmod(at("m/..2/username"), 0604), 0);
	ck_assert_int_eq(read_dir("m"), ERR_PERMISSION);
	check_text(0, NULL);
	check_text(1, NULL);
}
END_TEST

START_TEST(stamps_change_with_the_content)
{
	char path[256];
	struct file_opts o = {.path = path, .strict = true};
	struct file_stamp first, second;

	snprintf(path, sizeof(path), "%s", at("secret"));
	write_file("secret", "1");
	ck_assert_int_eq(file_look(&o, &first), ERR_OK);
	ck_assert_int_eq(file_read(&o, &set, &why), ERR_OK);
	ck_assert(file_stamp_equal(&first, &set.stamp));
	ck_assert_int_lt(set.age_us, 5000 * MS);
	check_text(0, "1");
	file_set_wipe(&set);
	write_file("other", "1");
	move("other", "secret");
	ck_assert_int_eq(file_look(&o, &second), ERR_OK);
	ck_assert(!file_stamp_equal(&first, &second));
	write_file("secret", "22");
	ck_assert_int_eq(file_look(&o, &first), ERR_OK);
	ck_assert(!file_stamp_equal(&first, &second));
}
END_TEST

/* Proves: K4 */
START_TEST(the_longest_file)
{
	char path[256];
	struct file_opts o = {.path = path, .strict = true};

	snprintf(path, sizeof(path), "%s", at("secret"));
	write_file("secret", "");
	ck_assert_int_eq(truncate(at("secret"), FILE_SECRET_MAX), 0);
	ck_assert_int_eq(file_read(&o, &set, &why), ERR_OK);
	ck_assert_uint_eq(set.text[0].n, FILE_SECRET_MAX);
	file_set_wipe(&set);
	ck_assert_int_eq(truncate(at("secret"), FILE_SECRET_MAX + 1), 0);
	ck_assert_int_eq(file_read(&o, &set, &why), ERR_TOO_BIG);
}
END_TEST

static void set_up(void)
{
	snprintf(dir, sizeof(dir), "/tmp/leased-watch-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	io_set_up();
	deny = changed = writing = 0;
}

static void tear_down(void)
{
	char rm[128];

	watch_free(&watch);
	ck_assert_ptr_null(watch);
	io_tear_down();
	snprintf(rm, sizeof(rm), "rm -rf %s", dir);
	ck_assert_int_eq(system(rm), 0);
}

int main(void)
{
	Suite *s = suite_create("watch");
	TCase *t = tcase_create("all");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_add_test(t, a_file_in_a_directory);
	tcase_add_test(t, writing_is_told_from_written);
	tcase_add_test(t, directories_that_come_and_go);
	tcase_add_test(t, links_that_are_swapped);
	tcase_add_test(t, all_of_a_directory);
	tcase_add_test(t, absolute_links_loops_and_dots);
	tcase_add_test(t, relative_to_where_we_are);
	tcase_add_test(t, written_by_another_name);
	tcase_add_test(t, queue_overflow);
	tcase_add_test(t, without_inotify);
	tcase_add_test(t, part_of_the_way_is_not_watched);
	tcase_add_test(t, freed_when_it_tells);
	tcase_add_test(t, both_files_of_one_target);
	tcase_add_test(t, stamps_change_with_the_content);
	tcase_add_test(t, the_longest_file);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
