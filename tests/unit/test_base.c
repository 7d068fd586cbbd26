/* Tests of base: errors, list, heap, memory, random numbers, histograms. */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/stat.h"

START_TEST(err_rows_are_complete_and_unique)
{
	for (int i = 0; i < ERR_COUNT; i++) {
		const char *name = err_name((enum err)i);

		ck_assert_uint_gt(strlen(name), 0);
		ck_assert_uint_gt(strlen(err_text((enum err)i)), 0);
		ck_assert_uint_eq(strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_"), strlen(name));
		for (int j = 0; j < i; j++)
			ck_assert_str_ne(name, err_name((enum err)j));
	}
	ck_assert_int_eq(ERR_OK, 0);
	ck_assert_str_eq(err_name(ERR_REFUSED), "connect_refused");
	ck_assert_str_eq(err_name(ERR_COUNT), "unknown");
	ck_assert_str_eq(err_text((enum err) - 1), "unknown error");
}
END_TEST

START_TEST(err_from_errno_maps)
{
	static const struct {
		int sys;
		enum err want;
	} rows[] = {
		{0, ERR_OK},
		{ECONNREFUSED, ERR_REFUSED},
		{ECONNRESET, ERR_RESET},
		{EPIPE, ERR_RESET},
		{ECONNABORTED, ERR_RESET},
		{EHOSTUNREACH, ERR_UNREACHABLE},
		{ENETUNREACH, ERR_UNREACHABLE},
		{ENETDOWN, ERR_UNREACHABLE},
		{EACCES, ERR_PERMISSION},
		{EPERM, ERR_PERMISSION},
		{ETIMEDOUT, ERR_CONNECT_TIMEOUT},
		{EMFILE, ERR_NO_FDS},
		{ENFILE, ERR_NO_FDS},
		{ENOMEM, ERR_NO_MEMORY},
		{ENOBUFS, ERR_NO_MEMORY},
		{EADDRNOTAVAIL, ERR_NO_PORTS},
		{EADDRINUSE, ERR_CANT_CREATE},
		{EAGAIN, ERR_AGAIN},
		{EINTR, ERR_AGAIN},
		{ENOENT, ERR_NOT_FOUND},
		{EMSGSIZE, ERR_TOO_BIG},
		{EIO, ERR_IO},
		{EBADF, ERR_IO},
		{99999, ERR_IO},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		ck_assert_msg(err_from_errno(rows[i].sys) == rows[i].want, "errno %d", rows[i].sys);
}
END_TEST

struct item {
	int id;
	struct node node;
};

START_TEST(list_keeps_order_and_length)
{
	struct item items[5];
	struct list a, b;
	int sum = 0;

	memset(items, 0, sizeof(items));
	list_init(&a);
	list_init(&b);
	ck_assert_ptr_null(list_first(&a));
	ck_assert_ptr_null(list_last(&a));
	for (int i = 0; i < 5; i++) {
		items[i].id = i;
		ck_assert(!list_is_on(&items[i].node));
		list_push_back(&a, &items[i].node);
	}
	list_remove(&items[2].node);
	list_push_front(&b, &items[2].node);
	ck_assert_uint_eq(a.len, 4);
	ck_assert_uint_eq(b.len, 1);
	ck_assert_ptr_eq(list_next(&items[1].node), &items[3].node);
	ck_assert_ptr_eq(list_prev(&items[3].node), &items[1].node);
	ck_assert_ptr_null(list_prev(&items[0].node));
	ck_assert_ptr_null(list_next(&items[4].node));
	list_each(&a, n) {
		sum = sum * 10 + container_of(n, struct item, node)->id;
		list_remove(n);
	}
	ck_assert_int_eq(sum, 134);
	ck_assert_uint_eq(a.len, 0);
	ck_assert_ptr_eq(list_first(&b), list_last(&b));
}
END_TEST

START_TEST(list_remove_twice_aborts)
{
	struct node n = {.list = NULL};

	list_remove(&n);
}
END_TEST

START_TEST(list_push_twice_aborts)
{
	struct node n = {.list = NULL};
	struct list a, b;

	list_init(&a);
	list_init(&b);
	list_push_back(&a, &n);
	list_push_back(&b, &n);
}
END_TEST

#define ENTRIES 300

static struct heap_entry *least(struct heap_entry *e)
{
	struct heap_entry *best = NULL;

	for (int i = 0; i < ENTRIES; i++)
		if (heap_has(&e[i]) &&
		    (!best || e[i].at_us < best->at_us || (e[i].at_us == best->at_us && e[i].seq < best->seq)))
			best = &e[i];
	return best;
}

/* Random inserts, moves and removes; after each the minimum is what a search over all entries finds. */
START_TEST(heap_agrees_with_a_search)
{
	static struct heap_entry e[ENTRIES];
	struct heap h = {.v = NULL};
	struct heap_entry *min;
	struct rng r;
	size_t in = 0;

	rng_seed(&r, 7);
	memset(e, 0, sizeof(e));
	for (int turn = 0; turn < 20000; turn++) {
		struct heap_entry *one = &e[rng_below(&r, ENTRIES)];

		if (rng_below(&r, 3) == 0) {
			in -= (size_t)heap_has(one);
			heap_remove(&h, one);
			ck_assert(!heap_has(one));
		} else {
			in += !heap_has(one);
			heap_set(&h, one, (int64_t)rng_below(&r, 50) - 10);
		}
		ck_assert_uint_eq(h.len, in);
		ck_assert_ptr_eq(heap_min(&h), least(e));
	}
	while ((min = heap_min(&h))) {
		ck_assert_ptr_eq(min, least(e));
		heap_remove(&h, min);
	}
	heap_remove(&h, &e[0]);
	heap_free(&h);
	ck_assert_uint_eq(h.len, 0);
}
END_TEST

START_TEST(heap_ties_go_by_order_of_setting)
{
	struct heap_entry a = {.pos = 0}, b = {.pos = 0}, c = {.pos = 0};
	struct heap h = {.v = NULL};

	heap_set(&h, &a, 5);
	heap_set(&h, &b, 5);
	heap_set(&h, &c, 5);
	ck_assert_ptr_eq(heap_min(&h), &a);
	heap_set(&h, &a, 5);
	ck_assert_ptr_eq(heap_min(&h), &b);
	heap_remove(&h, &b);
	ck_assert_ptr_eq(heap_min(&h), &c);
	heap_free(&h);
}
END_TEST

START_TEST(slab_zeroes_and_limits)
{
	void *p[20];
	struct slab s;

	slab_init(&s, 3, 4);
	ck_assert_uint_ge(s.size, sizeof(void *));
	slab_init(&s, 100, 4);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 20; i++) {
			const unsigned char *bytes = p[i] = slab_get(&s);

			for (int j = 0; j < 100; j++)
				ck_assert_uint_eq(bytes[j], 0);
			memset(p[i], 0xa5, 100);
		}
		ck_assert_uint_eq(s.nused, 20);
		for (int i = 0; i < 20; i++)
			slab_put(&s, p[i]);
		ck_assert_uint_eq(s.nused, 0);
		ck_assert_uint_le(s.nfree, 4);
	}
	slab_done(&s);
	ck_assert_uint_eq(s.nfree, 0);
}
END_TEST

START_TEST(slab_done_with_one_in_use_aborts)
{
	struct slab s;

	slab_init(&s, 32, 4);
	free(slab_get(&s));
	slab_done(&s);
}
END_TEST

START_TEST(mem_helpers)
{
	char *s = mem_printf("%s-%d", "abc", 42), *t = mem_strdup(s);
	const unsigned char *z = mem_alloc(64);

	ck_assert_str_eq(t, "abc-42");
	ck_assert_ptr_ne(s, t);
	for (int i = 0; i < 64; i++)
		ck_assert_uint_eq(z[i], 0);
	s = mem_realloc(s, 4096);
	ck_assert_str_eq(s, "abc-42");
	mem_free(s);
	mem_free(t);
	mem_free((void *)(uintptr_t)z);
}
END_TEST

/* The sanitizers ask for their options here: malloc is to fail like the real one. */
const char *__asan_default_options(void);
const char *__tsan_default_options(void);

const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

const char *__tsan_default_options(void)
{
	return "allocator_may_return_null=1";
}

START_TEST(mem_alloc_without_memory_aborts)
{
	mem_free(mem_alloc(SIZE_MAX / 2));
}
END_TEST

START_TEST(bug_on_says_where)
{
	char text[256] = "";
	int fds[2], status = 0;
	ssize_t n;
	pid_t pid;

	ck_assert_int_eq(pipe(fds), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		dup2(fds[1], STDERR_FILENO);
		BUG_ON(fds[0] != -42);
		_exit(0);
	}
	close(fds[1]);
	for (size_t len = 0; (n = read(fds[0], text + len, sizeof(text) - 1 - len)) > 0; len += (size_t)n)
		;
	close(fds[0]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	ck_assert_msg(strstr(text, "leased: bug: fds[0] != -42 at ") && strstr(text, "test_base.c:"), "%s", text);
}
END_TEST

START_TEST(rng_is_repeatable_and_in_range)
{
	unsigned int seen[10] = {0};
	struct rng a, b, c;
	double sum = 0;

	rng_seed(&a, 1);
	rng_seed(&b, 1);
	rng_seed(&c, 2);
	ck_assert_uint_eq(rng_next(&a), rng_next(&b));
	ck_assert_uint_ne(rng_next(&a), rng_next(&c));
	for (int i = 0; i < 100000; i++) {
		double unit = rng_unit(&a);

		ck_assert(unit >= 0 && unit < 1);
		sum += unit;
		seen[rng_below(&a, 10)]++;
		ck_assert_uint_eq(rng_below(&a, 1), 0);
	}
	ck_assert(sum > 49000 && sum < 51000);
	for (int i = 0; i < 10; i++)
		ck_assert(seen[i] > 9500 && seen[i] < 10500);
}
END_TEST

/* The first numbers of a seed are part of every recorded seed of the simulator: they must never change. */
START_TEST(rng_stream_is_fixed)
{
	struct rng r = {.s = {1, 2, 3, 4}};

	ck_assert_uint_eq(rng_next(&r), 11520u);
	ck_assert_uint_eq(rng_next(&r), 0u);
	ck_assert_uint_eq(rng_next(&r), 1509978240u);
	ck_assert_uint_eq(rng_next(&r), 1215971899390074240u);
}
END_TEST

START_TEST(hist_buckets)
{
	struct hist h = {.count = 0}, sum = {.count = 0};

	for (int i = 1; i < HIST_BUCKETS; i++)
		ck_assert_int_gt(hist_bound_us[i], hist_bound_us[i - 1]);
	ck_assert_int_eq(hist_bound_us[0], 100);
	ck_assert_int_eq(hist_bound_us[HIST_BUCKETS - 2], 60000000);
	hist_add(&h, -5);
	hist_add(&h, 100);
	hist_add(&h, 101);
	hist_add(&h, 60000000);
	hist_add(&h, 60000001);
	ck_assert_uint_eq(h.bucket[0], 2);
	ck_assert_uint_eq(h.bucket[1], 1);
	ck_assert_uint_eq(h.bucket[HIST_BUCKETS - 2], 1);
	ck_assert_uint_eq(h.bucket[HIST_BUCKETS - 1], 1);
	ck_assert_uint_eq(h.count, 5);
	ck_assert_uint_eq(h.sum_us, 100 + 101 + 60000000 + 60000001u);
	hist_merge(&sum, &h);
	hist_merge(&sum, &h);
	ck_assert_uint_eq(sum.count, 10);
	ck_assert_uint_eq(sum.bucket[0], 4);
	ck_assert_uint_eq(sum.sum_us, 2 * h.sum_us);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("base");
	TCase *t = tcase_create("base");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, err_rows_are_complete_and_unique);
	tcase_add_test(t, err_from_errno_maps);
	tcase_add_test(t, list_keeps_order_and_length);
	tcase_add_test_raise_signal(t, list_remove_twice_aborts, SIGABRT);
	tcase_add_test_raise_signal(t, list_push_twice_aborts, SIGABRT);
	tcase_add_test(t, heap_agrees_with_a_search);
	tcase_add_test(t, heap_ties_go_by_order_of_setting);
	tcase_add_test(t, slab_zeroes_and_limits);
	tcase_add_test_raise_signal(t, slab_done_with_one_in_use_aborts, SIGABRT);
	tcase_add_test(t, mem_helpers);
	tcase_add_test_raise_signal(t, mem_alloc_without_memory_aborts, SIGABRT);
	tcase_add_test(t, bug_on_says_where);
	tcase_add_test(t, rng_is_repeatable_and_in_range);
	tcase_add_test(t, rng_stream_is_fixed);
	tcase_add_test(t, hist_buckets);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
