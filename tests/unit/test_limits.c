/* How descriptors are shared out between clients, upstream connections and everything else. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/mem.h"
#include "daemon/limits.h"

static char *why;

/* A configuration with `listeners` listeners in one pool. */
static bool plan(struct limits *l, int64_t nofile, int64_t clients, bool given, int64_t upstream, size_t listeners)
{
	struct conf_pool pool = {.n_listen = listeners};
	struct conf c = {.pools = &pool, .n_pools = 1};

	c.limits.max_clients = clients;
	c.limits.max_clients_given = given;
	c.limits.max_upstream = upstream;
	*l = (struct limits){.nofile = nofile, .hard = nofile};
	mem_free(why);
	why = NULL;
	return limits_plan(l, &c, &why);
}

/* Proves: D3 D14 */
START_TEST(test_reserve)
{
	struct limits l;

	ck_assert(plan(&l, 65536, 1000, false, 0, 2));
	ck_assert_int_eq(l.reserved, 50 + 2 + 1000 + 16);
	ck_assert_int_eq(l.max_clients, 1000);
	ck_assert_int_eq(l.max_upstream, (65536 - 1068) / 100 * 100);
	ck_assert(!l.lowered);
}
END_TEST

/* Proves: D3 */
START_TEST(test_unknown_limit)
{
	struct limits l;

	ck_assert(plan(&l, -1, 1000, false, 0, 1));
	ck_assert_int_eq(l.max_upstream, 900);
	ck_assert_int_eq(l.max_clients, 1000);
}
END_TEST

START_TEST(test_default_clients_give_way)
{
	struct limits l;

	ck_assert(plan(&l, 1024, 1000, false, 0, 1));
	ck_assert(l.lowered);
	ck_assert_int_eq(l.max_clients, (1024 - 67) / 2);
	ck_assert_int_eq(l.max_upstream, 400);
	ck_assert(plan(&l, 1024, 1000, false, 900, 1));
	ck_assert_int_eq(l.max_clients, 1024 - 67 - 900);
	ck_assert_int_eq(l.max_upstream, 900);
}
END_TEST

/* Proves: D3 */
START_TEST(test_written_limits_fit_or_fail)
{
	struct limits l;

	/* The last that fits and one beyond. */
	ck_assert(plan(&l, 1000, 500, true, 433, 1));
	ck_assert_int_eq(l.max_upstream, 433);
	ck_assert(!plan(&l, 1000, 500, true, 434, 1));
	ck_assert_ptr_nonnull(strstr(why, "max_clients 500 and max_upstream 434 need 1001 descriptors"));
	ck_assert_ptr_nonnull(strstr(why, "the limit is 1000 (hard 1000)"));
	ck_assert(plan(&l, 1000, 932, true, 0, 1));
	ck_assert_int_eq(l.max_upstream, 1);
	ck_assert(!plan(&l, 1000, 933, true, 0, 1));
	ck_assert(!plan(&l, 1000, 1000, false, 2000, 1));
	ck_assert(!plan(&l, 60, 1000, false, 0, 1));
}
END_TEST

/* Proves: D14 */
START_TEST(test_workers_and_spares_are_reserved)
{
	struct conf_pool pools[32] = {{.n_listen = 0}};
	struct conf c = {.pools = pools, .n_pools = 32, .workers = 32};
	struct limits l = {.nofile = 65536, .hard = 65536};

	for (int i = 0; i < 32; i++)
		pools[i].n_listen = 3;
	c.limits.max_clients = 1000;
	ck_assert(limits_plan(&l, &c, &why));
	ck_assert_int_eq(l.reserved, 16 + 32 * 6 + 96 * 2 + 1000 + 16);
	c.dns.nameservers.n = 3;
	ck_assert(limits_plan(&l, &c, &why));
	ck_assert_int_eq(l.reserved, 16 + 32 * 8 + 96 * 2 + 1000 + 16);
}
END_TEST

START_TEST(test_upstream_unlimited)
{
	struct limits l;

	ck_assert(plan(&l, 1000, 500, true, -1, 1));
	ck_assert_int_eq(l.max_upstream, 433);
}
END_TEST

START_TEST(test_lowered_while_running)
{
	struct rlimit r;
	struct limits l;
	struct budget *b;

	ck_assert(getrlimit(RLIMIT_NOFILE, &r) == 0);
	ck_assert(plan(&l, 20000, 100, true, 0, 1));
	l.nofile = l.hard = 1; /* not what the kernel says */
	b = budget_new(l.max_upstream);
	r.rlim_cur = 300;
	ck_assert(setrlimit(RLIMIT_NOFILE, &r) == 0);
	limits_recheck(&l, b);
	ck_assert_int_eq(l.nofile, 300);
	ck_assert_int_eq(budget_max(b), 100);
	r.rlim_cur = 150;
	ck_assert(setrlimit(RLIMIT_NOFILE, &r) == 0);
	limits_recheck(&l, b);
	ck_assert_int_eq(budget_max(b), 1);
	budget_free(&b);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("limits");
	TCase *tc = tcase_create("limits");
	SRunner *r;
	int failed;

	tcase_add_test(tc, test_reserve);
	tcase_add_test(tc, test_unknown_limit);
	tcase_add_test(tc, test_default_clients_give_way);
	tcase_add_test(tc, test_written_limits_fit_or_fail);
	tcase_add_test(tc, test_workers_and_spares_are_reserved);
	tcase_add_test(tc, test_upstream_unlimited);
	tcase_add_test(tc, test_lowered_while_running);
	suite_add_tcase(s, tc);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	mem_free(why);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
