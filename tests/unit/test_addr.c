/* Tests of base/addr. */
#include <arpa/inet.h>
#include <check.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/addr.h"

#define LABEL63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HOST253 LABEL63 "." LABEL63 "." LABEL63 ".aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define PATH107 "/" LABEL63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

START_TEST(numeric)
{
	static const char *const rows[] = {
		"127.0.0.1:80",
		"0.0.0.0:0",
		"255.255.255.255:65535",
		"[::1]:80",
		"[::]:1",
		"[2001:db8::1]:6379",
		"[::ffff:127.0.0.1]:80",
		"unix:/run/x.sock",
		"unix:@abstract",
		"unix:" PATH107,
		"unix:/a b",
	};
	char text[ADDR_TEXT_MAX];
	struct addr_spec spec;
	const char *why = "?";

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		ck_assert_msg(addr_parse(rows[i], &spec, &why) == ERR_OK, "%s: %s", rows[i], why);
		ck_assert_ptr_null(why);
		ck_assert(spec.kind == (strncmp(rows[i], "unix:", 5) == 0 ? ADDR_UNIX : ADDR_NUMERIC));
		addr_format(&spec.addr, text, sizeof(text));
		ck_assert_str_eq(text, rows[i]);
		ck_assert_str_eq(spec.host, "");
	}
	ck_assert_int_eq(addr_parse("10.0.0.2:6379", &spec, NULL), ERR_OK);
	ck_assert_uint_eq(spec.port, 6379);
	ck_assert_uint_eq(spec.addr.len, sizeof(struct sockaddr_in));
	ck_assert_uint_eq(ntohs(spec.addr.u.in.sin_port), 6379);
	ck_assert_uint_eq(ntohl(spec.addr.u.in.sin_addr.s_addr), 0x0a000002);
}
END_TEST

START_TEST(star_is_any_of_both_families)
{
	struct addr_spec spec;

	ck_assert_int_eq(addr_parse("*:80", &spec, NULL), ERR_OK);
	ck_assert_int_eq(spec.kind, ADDR_NUMERIC);
	ck_assert_int_eq(spec.addr.u.sa.sa_family, AF_INET6);
	ck_assert(IN6_IS_ADDR_UNSPECIFIED(&spec.addr.u.in6.sin6_addr));
	ck_assert_uint_eq(spec.port, 80);
}
END_TEST

START_TEST(names)
{
	static const char *const rows[] = {
		"localhost:80",	  "db-1.example.org:5432", "db_1:1",	"a:1",
		"example.org.:1", "1.2.3.4.example:1",	   "3com.x1:1", HOST253 ":1",
	};
	struct addr_spec spec;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *why = "?";

		ck_assert_msg(addr_parse(rows[i], &spec, &why) == ERR_OK, "%s: %s", rows[i], why);
		ck_assert_int_eq(spec.kind, ADDR_NAME);
		ck_assert_uint_eq(strlen(spec.host), (size_t)(strchr(rows[i], ':') - rows[i]));
		ck_assert(strncmp(spec.host, rows[i], strlen(spec.host)) == 0);
		ck_assert_uint_gt(spec.port, 0);
	}
	ck_assert_int_eq(addr_parse("systemd:leased-cache", &spec, NULL), ERR_OK);
	ck_assert_int_eq(spec.kind, ADDR_SYSTEMD);
	ck_assert_str_eq(spec.host, "leased-cache");
}
END_TEST

START_TEST(wrong)
{
	static const struct {
		const char *text, *why;
	} rows[] = {
		{"", "address is empty"},
		{"localhost", "port is missing"},
		{"127.0.0.1", "port is missing"},
		{"127.0.0.1:", "port is missing"},
		{":80", "host is missing"},
		{"a:65536", "port must be 0 to 65535"},
		{"a:-1", "port must be 0 to 65535"},
		{"a:8o", "port must be 0 to 65535"},
		{"a: 80", "port must be 0 to 65535"},
		{"a:99999999999999999999", "port must be 0 to 65535"},
		{"::1:80", "an IPv6 address needs [ and ]"},
		{"[::1]", "port is missing"},
		{"[::1", "] is missing"},
		{"[::1]80", "] must be followed by :port"},
		{"[::1]:", "port is missing"},
		{"[]:80", "not an IPv6 address"},
		{"[::1%1]:80", "not an IPv6 address"},
		{"[127.0.0.1]:80", "not an IPv6 address"},
		{"[" LABEL63 "]:80", "not an IPv6 address"},
		{"256.1.1.1:80", "not an IPv4 address"},
		{"1.2.3:80", "not an IPv4 address"},
		{"1:80", "not an IPv4 address"},
		{"1.2.3.4.:80", "not an IPv4 address"},
		{"a..b:80", "host name has a bad label"},
		{".a:80", "host name has a bad label"},
		{".:80", "host name has a bad label"},
		{"-a:80", "host name has a bad label"},
		{"a-:80", "host name has a bad label"},
		{"a-.b:80", "host name has a bad label"},
		{"a b:80", "host name has a character that is not allowed"},
		{"a/b:80", "host name has a character that is not allowed"},
		{"**:80", "host name has a character that is not allowed"},
		{"\xc3\xa9:80", "host name has a character that is not allowed"},
		{LABEL63 "a:80", "host name has a label longer than 63 bytes"},
		{HOST253 "a:80", "host name is longer than 253 bytes"},
		{HOST253 "aaaaaaaa:80", "host name is longer than 253 bytes"},
		{"unix:", "socket path must begin with / or @"},
		{"unix:x", "socket path must begin with / or @"},
		{"unix:/", "socket path is missing"},
		{"unix:@", "socket path is missing"},
		{"unix:" PATH107 "a", "socket path is longer than 107 bytes"},
		{"systemd:", "socket name is missing"},
		{"systemd:a b", "socket name has a character that is not allowed"},
		{"systemd:a:b", "socket name has a character that is not allowed"},
	};
	struct addr_spec spec;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const char *why = NULL;

		ck_assert_msg(addr_parse(rows[i].text, &spec, &why) == ERR_CONFIG, "\"%s\"", rows[i].text);
		ck_assert_msg(why && strcmp(why, rows[i].why) == 0, "\"%s\": %s", rows[i].text, why);
	}
}
END_TEST

START_TEST(equal_and_port)
{
	static const char *const rows[] = {
		"127.0.0.1:80", "127.0.0.2:80", "127.0.0.1:81", "[::1]:80", "[::2]:80",
		"[::1]:81",	"unix:/a",	"unix:/b",	"unix:@a",  "unix:/ab",
	};
	struct addr none = {.len = 0};
	struct addr_spec a, b;
	char text[ADDR_TEXT_MAX];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		ck_assert_int_eq(addr_parse(rows[i], &a, NULL), ERR_OK);
		ck_assert(!addr_equal(&a.addr, &none));
		for (size_t j = 0; j < sizeof(rows) / sizeof(rows[0]); j++) {
			ck_assert_int_eq(addr_parse(rows[j], &b, NULL), ERR_OK);
			ck_assert_int_eq(addr_equal(&a.addr, &b.addr), i == j);
		}
	}
	ck_assert(addr_equal(&none, &none));
	ck_assert_int_eq(addr_parse("[::1]:80", &a, NULL), ERR_OK);
	addr_set_port(&a.addr, 443);
	addr_format(&a.addr, text, sizeof(text));
	ck_assert_str_eq(text, "[::1]:443");
	ck_assert_int_eq(addr_parse("1.2.3.4:80", &a, NULL), ERR_OK);
	addr_set_port(&a.addr, 443);
	addr_format(&a.addr, text, sizeof(text));
	ck_assert_str_eq(text, "1.2.3.4:443");
	addr_format(&none, text, sizeof(text));
	ck_assert_str_eq(text, "unknown");
}
END_TEST

/* What the kernel says of a socket, not only what we have written. */
START_TEST(of_the_kernel)
{
	char text[ADDR_TEXT_MAX], want[ADDR_TEXT_MAX];
	struct addr a = {.len = sizeof(a.u)};
	struct addr_spec spec;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(getsockname(fd, &a.u.sa, &a.len), 0);
	addr_format(&a, text, sizeof(text));
	ck_assert_str_eq(text, "unix:");
	snprintf(want, sizeof(want), "unix:@leased-test-%d", (int)getpid());
	ck_assert_int_eq(addr_parse(want, &spec, NULL), ERR_OK);
	ck_assert_int_eq(bind(fd, &spec.addr.u.sa, spec.addr.len), 0);
	a.len = sizeof(a.u);
	ck_assert_int_eq(getsockname(fd, &a.u.sa, &a.len), 0);
	addr_format(&a, text, sizeof(text));
	ck_assert_str_eq(text, want);
	ck_assert(addr_equal(&a, &spec.addr));
	close(fd);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_eq(addr_parse("127.0.0.1:0", &spec, NULL), ERR_OK);
	ck_assert_int_eq(bind(fd, &spec.addr.u.sa, spec.addr.len), 0);
	a.len = sizeof(a.u);
	ck_assert_int_eq(getsockname(fd, &a.u.sa, &a.len), 0);
	addr_set_port(&a, 0);
	ck_assert(addr_equal(&a, &spec.addr));
	close(fd);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("addr");
	TCase *t = tcase_create("addr");
	SRunner *r = srunner_create(s);
	int failed;

	suite_add_tcase(s, t);
	tcase_add_test(t, numeric);
	tcase_add_test(t, star_is_any_of_both_families);
	tcase_add_test(t, names);
	tcase_add_test(t, wrong);
	tcase_add_test(t, equal_and_port);
	tcase_add_test(t, of_the_kernel);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
