/* Every row of metrics.def is exported with HELP and TYPE, with the figures of the snapshot. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "daemon/metrics.h"
#include "daemon/status.h"

static struct snap *sample(void)
{
	struct snap *s = snap_new(3, 1, true, 5000000);
	struct snap_pool *p = &s->pools[0];

	s->lag_us = 1500;
	p->name = "a\"b\\c\nd";
	p->protocol = "tcp";
	p->mode = "session";
	p->credential = "db";
	p->clients[CLIENT_WAITING] = 7;
	p->waiters = 7;
	p->pinned[ERR_PIN_WATCH] = 2;
	p->oldest_wait_us = 2500000;
	p->n_servers = 1;
	p->servers = mem_alloc(sizeof(*p->servers));
	p->servers[0].view = (struct server_view){.name = "s:1", .max_size = 9, .up = true, .retry_in_us = -5};
	p->servers[0].view.by_state[UP_IDLE] = 4;
	p->servers[0].view.by_state[UP_CLOSING] = 2;
	p->stat.leases = 42;
	p->stat.dials[ERR_REFUSED] = 3;
	hist_add(&p->stat.lease_wait, 50);
	hist_add(&p->stat.lease_wait, 300);
	hist_add(&p->stat.lease_wait, INT64_C(3600) * 1000000);
	return s;
}

/* One that has been refreshed, and one that has nothing yet. */
static struct credential_view views[] = {
	{.name = "db",
	 .source = "command",
	 .generation = 7,
	 .published_us = 8000000,
	 .expires_us = 30000000,
	 .asked_us = 9000000,
	 .cooldown_until_us = 10500000,
	 .last_error = ERR_UNCHANGED,
	 .refreshes = {[ERR_OK] = 7, [ERR_UNCHANGED] = 2},
	 .asked = {[CRED_DENIED] = 3},
	 .source_errors = 5},
	{.name = "late", .source = "file", .expires_us = INT64_MAX, .refreshing = true, .last_error = ERR_NOT_FOUND},
};

static struct snap_process process(void)
{
	return (struct snap_process){.fd_budget = 100,
				     .fd_in_use = 6,
				     .start_unix_us = 1500000,
				     .uptime_us = 10000000,
				     .log_dropped = 11,
				     .now_us = 10000000,
				     .credentials = views,
				     .n_credentials = 2};
}

static char *text_of(struct snap *s)
{
	struct snap_process p = process();
	size_t len;
	char *t = metrics_text(&p, &s, 1, &len);

	ck_assert_uint_eq(len, strlen(t));
	return t;
}

static void expect_line(const char *text, const char *line)
{
	char *with_end = mem_printf("%s\n", line), *at = strstr(text, with_end);

	ck_assert_msg(at && (at == text || at[-1] == '\n'), "no line: %s", line);
	mem_free(with_end);
}

static void expect_family(const char *text, const char *name, const char *suffix, const char *type, const char *help)
{
	char *line = mem_printf("# HELP leased_%s%s %s", name, suffix, help);

	expect_line(text, line);
	mem_free(line);
	line = mem_printf("# TYPE leased_%s%s %s", name, suffix, type);
	expect_line(text, line);
	mem_free(line);
}

/* Proves: D15 C26 */
START_TEST(test_every_row)
{
	struct snap *s = sample();
	char *t = text_of(s);

#define COUNTER(id, name, labels, help)	      expect_family(t, name, "_total", "counter", help);
#define COUNTER_BY_ERR(id, name, label, help) expect_family(t, name, "_total", "counter", help);
#define HISTOGRAM(id, name, help)	      expect_family(t, name, "_seconds", "histogram", help);
#define GAUGE(id, name, labels, help)	      expect_family(t, name, "", "gauge", help);
#define TALLY(id, name, labels, help)	      expect_family(t, name, "_total", "counter", help);
#include "base/metrics.def"
#undef COUNTER
#undef COUNTER_BY_ERR
#undef HISTOGRAM
#undef GAUGE
	mem_free(t);
	snap_free(&s);
}
END_TEST

START_TEST(test_figures)
{
	struct snap *s = sample();
	char *t = text_of(s);

	expect_line(t, "leased_leases_total{pool=\"a\\\"b\\\\c\\nd\"} 42");
	expect_line(t, "leased_dials_total{pool=\"a\\\"b\\\\c\\nd\",result=\"connect_refused\"} 3");
	expect_line(t, "leased_clients{pool=\"a\\\"b\\\\c\\nd\",state=\"waiting\"} 7");
	expect_line(t, "leased_upstream_connections{pool=\"a\\\"b\\\\c\\nd\",server=\"s:1\",state=\"idle\"} 4");
	expect_line(t, "leased_lease_oldest_wait_seconds{pool=\"a\\\"b\\\\c\\nd\"} 2.500000");
	expect_line(t, "leased_server_backoff_seconds{pool=\"a\\\"b\\\\c\\nd\",server=\"s:1\"} 0.000000");
	expect_line(t, "leased_pinned_clients{pool=\"a\\\"b\\\\c\\nd\",reason=\"watch\"} 2");
	expect_line(t, "leased_fd_budget 100");
	expect_line(t, "leased_fd_in_use 6");
	expect_line(t, "leased_fd_unused 4");
	expect_line(t, "leased_fd_releasing 2");
	expect_line(t, "leased_start_time_seconds 1.500000");
	expect_line(t, "leased_loop_lag_max_seconds{worker=\"3\"} 0.001500");
	expect_line(t, "leased_log_lines_dropped 11");
	mem_free(t);
	snap_free(&s);
}
END_TEST

/* Proves: A1 */
START_TEST(test_credentials)
{
	struct snap *s = sample();
	char *t = text_of(s);

	expect_line(t, "leased_credential_generation{credential=\"db\"} 7");
	expect_line(t, "leased_credential_generation{credential=\"late\"} 0");
	expect_line(t, "leased_credential_expiry_timestamp_seconds{credential=\"db\"} 31.500000");
	expect_line(t, "leased_credential_last_refresh_timestamp_seconds{credential=\"db\"} 9.500000");
	expect_line(t, "leased_credential_refresh_total{credential=\"db\",result=\"ok\"} 7");
	expect_line(t, "leased_credential_refresh_total{credential=\"db\",result=\"unchanged\"} 2");
	expect_line(t, "leased_credential_asked_total{credential=\"db\",reason=\"denied\"} 3");
	expect_line(t, "leased_credential_asked_total{credential=\"db\",reason=\"manual\"} 0");
	expect_line(t, "leased_credential_source_errors_total{credential=\"db\"} 5");
	ck_assert_ptr_null(strstr(t, "expiry_timestamp_seconds{credential=\"late\"}"));
	ck_assert_ptr_null(strstr(t, "refresh_timestamp_seconds{credential=\"late\"}"));
	mem_free(t);
	snap_free(&s);
}
END_TEST

START_TEST(test_status_of_credentials)
{
	struct snap *s = sample();
	struct snap_process p = process();
	char *t = status_json(&p, &s, 1, false);

	ck_assert_ptr_nonnull(strstr(
		t, "{\"name\":\"db\",\"source\":\"command\",\"generation\":7,\"age_us\":2000000,"
		   "\"expires_in_us\":20000000,\"asked_us\":1000000,\"refreshing\":false,\"cooldown_us\":500000,"
		   "\"subscribers\":4,\"last_error\":\"unchanged\",\"refreshes\":{\"ok\":7,\"unchanged\":2}"));
	ck_assert_ptr_nonnull(strstr(t,
				     "{\"name\":\"late\",\"source\":\"file\",\"generation\":0,\"age_us\":null,"
				     "\"expires_in_us\":null,\"asked_us\":null,\"refreshing\":true,\"cooldown_us\":0,"
				     "\"subscribers\":0,\"last_error\":\"not_found\""));
	ck_assert_ptr_nonnull(strstr(t, "\"mode\":\"session\",\"credential\":\"db\""));
	mem_free(t);
	snap_free(&s);
}
END_TEST

START_TEST(test_histogram_is_cumulative)
{
	struct snap *s = sample();
	char *t = text_of(s);

	expect_line(t, "leased_lease_wait_seconds_bucket{pool=\"a\\\"b\\\\c\\nd\",le=\"0.0001\"} 1");
	expect_line(t, "leased_lease_wait_seconds_bucket{pool=\"a\\\"b\\\\c\\nd\",le=\"0.0005\"} 2");
	expect_line(t, "leased_lease_wait_seconds_bucket{pool=\"a\\\"b\\\\c\\nd\",le=\"60\"} 2");
	expect_line(t, "leased_lease_wait_seconds_bucket{pool=\"a\\\"b\\\\c\\nd\",le=\"+Inf\"} 3");
	expect_line(t, "leased_lease_wait_seconds_sum{pool=\"a\\\"b\\\\c\\nd\"} 3600.000350");
	expect_line(t, "leased_lease_wait_seconds_count{pool=\"a\\\"b\\\\c\\nd\"} 3");
	mem_free(t);
	snap_free(&s);
}
END_TEST

START_TEST(test_quantiles)
{
	struct hist h = {0};

	ck_assert_int_eq(snap_quantile_us(&h, 0.5), 0);
	for (int i = 0; i < 100; i++)
		hist_add(&h, 50);
	ck_assert_int_eq(snap_quantile_us(&h, 0.5), 50);
	for (int i = 0; i < 100; i++)
		hist_add(&h, 3000);
	ck_assert_int_eq(snap_quantile_us(&h, 0.99), 2500 + 2500 * 98 / 100);
	for (int i = 0; i < 1000; i++)
		hist_add(&h, INT64_C(3600) * 1000000);
	ck_assert_int_eq(snap_quantile_us(&h, 0.99), 60 * INT64_C(1000000));
}
END_TEST

/* Proves: C24 */
START_TEST(test_status_names_every_stat)
{
	struct snap *s = sample();
	struct snap_process p = {.fd_budget = 100};
	char *t;

	s->pools[0].upstreams = mem_alloc(sizeof(*s->pools[0].upstreams));
	s->pools[0].upstreams[0] = (struct upstream_view){
		.id = 8,
		.server = "s:1",
		.state = UP_LEASED,
		.in_use = true,
		.created_us = 1000000,
		.last_leased_us = 4000000,
	};
	s->pools[0].n_upstreams = 1;
	t = status_json(&p, &s, 1, true);
#define COUNTER(id, name, labels, help)	      ck_assert_msg(strstr(t, "\"" #id "\":") != NULL, #id);
#define COUNTER_BY_ERR(id, name, label, help) ck_assert_msg(strstr(t, "\"" #id "\":{") != NULL, #id);
#define HISTOGRAM(id, name, help)	      ck_assert_msg(strstr(t, "\"" #id "\":{\"count\":") != NULL, #id);
#define GAUGE(id, name, labels, help)
#include "base/metrics.def"
#undef COUNTER
#undef COUNTER_BY_ERR
#undef HISTOGRAM
#undef GAUGE
	ck_assert_ptr_nonnull(strstr(t, "\"id\":8,\"server\":\"s:1\""));
	ck_assert_ptr_nonnull(strstr(t, "\"in_use\":true,\"age_us\":4000000,\"idle_us\":0,\"last_leased_us\":1000000,"
					"\"last_returned_us\":null"));
	mem_free(t);
	t = status_json(&p, &s, 1, false);
	ck_assert_ptr_null(strstr(t, "\"connections\""));
	mem_free(t);
	snap_free(&s);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("metrics");
	TCase *tc = tcase_create("metrics");
	SRunner *r;
	int failed;

	tcase_add_test(tc, test_every_row);
	tcase_add_test(tc, test_figures);
	tcase_add_test(tc, test_histogram_is_cumulative);
	tcase_add_test(tc, test_credentials);
	tcase_add_test(tc, test_status_of_credentials);
	tcase_add_test(tc, test_quantiles);
	tcase_add_test(tc, test_status_names_every_stat);
	suite_add_tcase(s, tc);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
