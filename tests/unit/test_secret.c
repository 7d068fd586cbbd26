/* Tests of base/secret: the arena, comparing, wiping, and who can read it. */
#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/secret.h"

static struct secret *take(const char *text)
{
	char bytes[128];
	size_t n = strlen(text);

	memcpy(bytes, text, n);
	return secret_take(bytes, n);
}

/* A copy of the bytes, the way a login gets at them. */
static const uint8_t *bytes_of(const struct secret *s, struct buf *b, size_t *n)
{
	buf_init(b, secret_blocks());
	secret_append(s, b);
	return buf_peek(b, n);
}

static bool all_zero(const volatile uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i])
			return false;
	return true;
}

START_TEST(take_wipes_the_caller)
{
	char bytes[] = "marked-password-1";
	struct secret *s = secret_take(bytes, strlen(bytes));
	struct buf b;
	size_t n;
	const uint8_t *p = bytes_of(s, &b, &n);

	ck_assert_uint_eq(n, 17);
	ck_assert(memcmp(p, "marked-password-1", 17) == 0);
	ck_assert(all_zero((uint8_t *)bytes, sizeof(bytes)));
	buf_clear(&b);
	secret_drop(&s);
	ck_assert_ptr_null(s);
	secret_drop(&s);
}
END_TEST

START_TEST(too_long_is_refused_and_wiped)
{
	static char bytes[SECRET_MAX_BYTES + 1];
	struct secret *s;

	memset(bytes, 'x', sizeof(bytes));
	ck_assert_ptr_null(secret_take(bytes, sizeof(bytes)));
	ck_assert(all_zero((uint8_t *)bytes, sizeof(bytes)));
	memset(bytes, 'x', sizeof(bytes));
	s = secret_take(bytes, SECRET_MAX_BYTES);
	ck_assert_ptr_nonnull(s);
	secret_drop(&s);
	s = secret_take(bytes, 0);
	ck_assert_ptr_nonnull(s);
	ck_assert(secret_equal_bytes(s, "", 0));
	secret_drop(&s);
}
END_TEST

START_TEST(compares)
{
	struct secret *a = take("open sesame"), *b = take("open sesame"), *c = take("open sesamE"), *d = take("open");
	char text[] = "open sesame";

	ck_assert(secret_equal(a, b) && secret_equal(b, a) && secret_equal(a, a));
	ck_assert(!secret_equal(a, c) && !secret_equal(a, d) && !secret_equal(d, a));
	ck_assert(secret_equal_bytes(a, "open sesame", 11));
	ck_assert(!secret_equal_bytes(a, "open sesame", 10) && !secret_equal_bytes(a, "open sesame ", 12));
	ck_assert(!secret_equal_bytes(a, "", 0) && !secret_equal_bytes(a, "oooooooooooo", 12));
	for (size_t i = 0; i < 11; i++)
		for (int bit = 0; bit < 8; bit++) {
			text[i] = (char)(text[i] ^ (1 << bit));
			ck_assert(!secret_equal_bytes(a, text, 11));
			text[i] = (char)(text[i] ^ (1 << bit));
		}
	secret_drop(&a);
	secret_drop(&b);
	secret_drop(&c);
	secret_drop(&d);
}
END_TEST

/* Proves: CRED-14 */
START_TEST(last_drop_wipes)
{
	struct secret *s = take("marked-password-2"), *other = secret_ref(s);
	const volatile uint8_t *raw = (const volatile uint8_t *)s;

	secret_drop(&s);
	ck_assert(!all_zero(raw, 32));
	ck_assert(secret_equal_bytes(other, "marked-password-2", 17));
	secret_drop(&other);
	ck_assert(all_zero(raw, 64));
}
END_TEST

/* Proves: CRED-14 M31 */
START_TEST(login_blocks_are_wiped)
{
	struct secret *s = take("marked-password-3");
	const volatile uint8_t *raw;
	struct buf b;
	size_t n;

	raw = bytes_of(s, &b, &n);
	ck_assert_uint_eq(secret_blocks()->nused, 1);
	buf_consume(&b, n);
	ck_assert_uint_eq(secret_blocks()->nused, 0);
	ck_assert(all_zero(raw, n));
	raw = bytes_of(s, &b, &n);
	buf_clear(&b);
	ck_assert(all_zero(raw, n));
	secret_drop(&s);
}
END_TEST

START_TEST(general_buffers_are_refused)
{
	struct secret *s = take("marked-password-4");
	struct blocks plain;
	struct buf b;

	blocks_init(&plain, 1);
	buf_init(&b, &plain);
	secret_append(s, &b);
}
END_TEST

START_TEST(use_after_last_drop_aborts)
{
	struct secret *s = take("marked-password-5"), *stale = s;

	secret_drop(&s);
	s = secret_ref(stale);
}
END_TEST

/* Whether the process' memory at p can be read through /proc/self/mem. */
static bool readable_from_outside(const void *p, size_t n)
{
	int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	char copy[64];
	ssize_t got;

	ck_assert_int_ge(fd, 0);
	got = pread(fd, copy, n, (off_t)(uintptr_t)p);
	close(fd);
	return got == (ssize_t)n && memcmp(copy, p, n) == 0;
}

/* Proves: CRED-14 */
START_TEST(hidden_from_proc_mem)
{
	int fd = (int)syscall(SYS_memfd_secret, 0);
	static char plain[] = "in plain memory";
	struct secret *s = take("marked-password-6");
	const char *kind;
	struct buf b;
	size_t n;
	const uint8_t *p = bytes_of(s, &b, &n);

	ck_assert_int_eq(secret_arena_init(&kind), ERR_OK);
	ck_assert_str_eq(kind, fd >= 0 ? "memfd_secret" : "mlock");
	close(fd);
	ck_assert(readable_from_outside(plain, sizeof(plain)));
	ck_assert_msg(readable_from_outside(p, n) != (strcmp(kind, "memfd_secret") == 0), "kind %s", kind);
	buf_clear(&b);
	secret_drop(&s);
}
END_TEST

/* A child must not find the bytes where the parent has them: wiped, or the page is not there (SIGSEGV). */
START_TEST(forks_do_not_inherit)
{
	struct secret *s = take("marked-password-7");
	const char *kind;
	int status;
	pid_t pid;

	ck_assert_int_eq(secret_arena_init(&kind), ERR_OK);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		signal(SIGSEGV, SIG_DFL);
		_exit(all_zero((const volatile uint8_t *)s, 32) ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg((WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV) ||
			      (WIFEXITED(status) && WEXITSTATUS(status) == 0),
		      "kind %s status %d", kind, status);
	secret_drop(&s);
}
END_TEST

/* More blocks than one region has: the arena grows, and every block is a place of its own. */
START_TEST(grows_for_a_storm_of_logins)
{
	enum { STORM = 300 };
	static struct buf bufs[STORM];
	char text[32];

	for (int i = 0; i < STORM; i++) {
		buf_init(&bufs[i], secret_blocks());
		buf_append(&bufs[i], text, (size_t)snprintf(text, sizeof(text), "login %d", i));
	}
	for (int i = 0; i < STORM; i++) {
		size_t n, len = (size_t)snprintf(text, sizeof(text), "login %d", i);
		const uint8_t *p = buf_peek(&bufs[i], &n);

		ck_assert(n == len && memcmp(p, text, n) == 0);
		buf_clear(&bufs[i]);
	}
	ck_assert_uint_eq(secret_blocks()->nused, 0);
}
END_TEST

/* Twice as much as the arena may grow to comes and goes; none overlaps another and space given back is used again. */
START_TEST(space_is_used_again)
{
	struct secret *s[40] = {NULL};
	static char bytes[40][5000];
	size_t taken[40] = {0};

	for (int turn = 0; turn < 60000; turn++) {
		int i = (turn * 7) % 40;
		size_t n = (size_t)(turn * 131) % sizeof(bytes[0]);

		secret_drop(&s[i]);
		memset(bytes[i], 'a' + i, n);
		s[i] = secret_take(bytes[i], n);
		taken[i] = n;
		ck_assert_msg(s[i] != NULL, "turn %d", turn);
	}
	for (int i = 0; i < 40; i++) {
		memset(bytes[i], 'a' + i, sizeof(bytes[0]));
		ck_assert_msg(secret_equal_bytes(s[i], bytes[i], taken[i]), "secret %d", i);
		secret_drop(&s[i]);
	}
}
END_TEST

/* The kinds below memfd_secret, by taking away what the one above needs. */
START_TEST(without_locked_memory_it_is_plain)
{
	static char page[4096] __attribute__((aligned(4096)));
	struct rlimit none = {0, 0};
	const char *kind;
	struct secret *s;

	ck_assert_int_eq(setrlimit(RLIMIT_MEMLOCK, &none), 0);
	if (geteuid() == 0)
		ck_assert_int_eq(setresuid(65534, 65534, 65534), 0);
	ck_assert_int_eq(secret_arena_init(&kind), ERR_OK);
	/* The sanitizers' mlock() only pretends, and so never fails. */
	ck_assert_str_eq(kind, mlock(page, sizeof(page)) == 0 ? "mlock" : "plain");
	s = take("marked-password-8");
	ck_assert(secret_equal_bytes(s, "marked-password-8", 17));
	secret_drop(&s);
}
END_TEST

START_TEST(small_lock_limit_gives_a_small_region)
{
	struct rlimit some = {65536, 65536};
	const char *kind;

	ck_assert_int_eq(setrlimit(RLIMIT_MEMLOCK, &some), 0);
	if (geteuid() == 0)
		ck_assert_int_eq(setresuid(65534, 65534, 65534), 0);
	ck_assert_int_eq(secret_arena_init(&kind), ERR_OK);
	ck_assert_str_ne(kind, "plain");
}
END_TEST

static void *churn(void *shared)
{
	struct secret *all = shared;

	for (int i = 0; i < 5000; i++) {
		struct secret *mine = take("of one thread"), *more = secret_ref(all);

		ck_assert(secret_equal_bytes(more, "of all threads", 14));
		ck_assert(secret_equal_bytes(mine, "of one thread", 13));
		secret_drop(&mine);
		secret_drop(&more);
	}
	return NULL;
}

START_TEST(threads)
{
	struct secret *all = take("of all threads");
	pthread_t id[4];

	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&id[i], NULL, churn, all), 0);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_join(id[i], NULL), 0);
	secret_drop(&all);
}
END_TEST

static void init_arena(void)
{
	ck_assert_int_eq(secret_arena_init(NULL), ERR_OK);
}

int main(void)
{
	Suite *s = suite_create("secret");
	TCase *t = tcase_create("arena"), *fresh = tcase_create("kinds");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	suite_add_tcase(s, fresh);
	tcase_set_timeout(t, 30);
	tcase_add_checked_fixture(t, init_arena, NULL);
	tcase_add_test(t, take_wipes_the_caller);
	tcase_add_test(t, too_long_is_refused_and_wiped);
	tcase_add_test(t, compares);
	tcase_add_test(t, last_drop_wipes);
	tcase_add_test(t, login_blocks_are_wiped);
	tcase_add_test_raise_signal(t, general_buffers_are_refused, SIGABRT);
	tcase_add_test_raise_signal(t, use_after_last_drop_aborts, SIGABRT);
	tcase_add_test(t, hidden_from_proc_mem);
	tcase_add_test(t, forks_do_not_inherit);
	tcase_add_test(t, grows_for_a_storm_of_logins);
	tcase_add_test(t, space_is_used_again);
	tcase_add_test(t, threads);
	tcase_add_test(fresh, without_locked_memory_it_is_plain);
	tcase_add_test(fresh, small_lock_limit_gives_a_small_region);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
