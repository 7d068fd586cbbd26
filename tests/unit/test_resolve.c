/* Tests of io/resolve against a scripted name server: a thread on loopback that answers by the name it is asked. */
#include <ctype.h>
#include <pthread.h>

#include "io/resolve.h"
#include "io_help.h"

#define TYPE_A	  1
#define TYPE_AAAA 28

struct answer {
	int calls;
	bool inside;
	enum err err;
	size_t n;
	struct addr v[RESOLVE_MAX];
};

static struct {
	int fd;
	pthread_t thread;
	struct addr at;
	int asked;
} server;

static struct resolver *res;

/* ---- the name server ---- */

struct packet {
	uint8_t b[4096];
	size_t n;
};

static void put16(struct packet *p, unsigned v)
{
	p->b[p->n++] = (uint8_t)(v >> 8);
	p->b[p->n++] = (uint8_t)v;
}

/* A record whose name is the question's; address `last` of 192.0.2.0/24 or 2001:db8::/64. */
static void put_address(struct packet *p, unsigned type, unsigned last, unsigned ttl)
{
	static const uint8_t v4[] = {192, 0, 2}, v6[] = {0x20, 0x01, 0x0d, 0xb8};
	size_t len = type == TYPE_A ? 4 : 16;

	put16(p, 0xc00c);
	put16(p, type);
	put16(p, 1);
	put16(p, 0);
	put16(p, ttl);
	put16(p, (unsigned)len);
	memset(p->b + p->n, 0, len);
	memcpy(p->b + p->n, type == TYPE_A ? v4 : v6, type == TYPE_A ? sizeof(v4) : sizeof(v6));
	p->n += len;
	p->b[p->n - 1] = (uint8_t)last;
}

static bool is_name(const char *asked, const char *name)
{
	return strcmp(asked, name) == 0;
}

/* How many addresses a name has. */
static unsigned addresses_of(const char *name, unsigned type)
{
	if (is_name(name, "both.test") || is_name(name, "ttl0.test"))
		return type == TYPE_A ? 2 : 1;
	if (is_name(name, "many.test"))
		return type == TYPE_A ? 30 : 17;
	if (is_name(name, "toomany.test"))
		return type == TYPE_A ? 60 : 45;
	if (is_name(name, "same.test"))
		return type == TYPE_A ? 5 : 0;
	if (is_name(name, "onlyv4.test") || is_name(name, "halfsilent.test"))
		return type == TYPE_A;
	return 0;
}

/* The name and type of a question; the end of it. 0: not to be understood. */
static size_t parse_question(const struct packet *q, char *name, unsigned *type)
{
	size_t i = 12, n = 0;

	while (i < q->n && q->b[i]) {
		for (size_t len = q->b[i++]; len > 0 && i < q->n && n < 200; len--)
			name[n++] = (char)tolower(q->b[i++]);
		name[n++] = '.';
	}
	if (n == 0 || i + 5 > q->n)
		return 0;
	name[n - 1] = '\0';
	*type = q->b[i + 2];
	return i + 5;
}

/* false: silence. */
static bool make_reply(struct packet *q)
{
	char name[256];
	unsigned type, n, rcode = 0;
	size_t end = parse_question(q, name, &type);

	if (!end || is_name(name, "silent.test") || (is_name(name, "halfsilent.test") && type == TYPE_AAAA))
		return false;
	if (is_name(name, "nx.test"))
		rcode = 3;
	if (is_name(name, "servfail.test"))
		rcode = 2;
	n = addresses_of(name, type);
	q->n = 2;
	put16(q, 0x8180 | rcode);
	put16(q, 1);
	put16(q, n);
	put16(q, 0);
	put16(q, 0);
	q->n = end;
	for (unsigned i = 0; i < n; i++)
		put_address(q, type, is_name(name, "same.test") ? 9 : i + 1, is_name(name, "ttl0.test") ? 0 : 60);
	if (is_name(name, "garbage.test")) {
		q->b[7] = 200; /* answers that are not there */
		memset(q->b + end, 0xff, 7);
		q->n = end + 7;
	}
	return true;
}

static void *serve(void *arg)
{
	(void)arg;
	for (;;) {
		struct addr from = {.len = sizeof(from.u)};
		struct packet q;
		ssize_t n = recvfrom(server.fd, q.b, 512, 0, &from.u.sa, &from.len);

		if (n <= 1)
			return NULL;
		q.n = (size_t)n;
		__atomic_add_fetch(&server.asked, 1, __ATOMIC_SEQ_CST);
		if (make_reply(&q))
			sendto(server.fd, q.b, q.n, 0, &from.u.sa, from.len);
	}
}

static void set_up(void)
{
	io_set_up();
	server.fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	server.at.len = sizeof(server.at.u.in);
	server.at.u.in.sin_family = AF_INET;
	server.at.u.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ck_assert_int_eq(bind(server.fd, &server.at.u.sa, server.at.len), 0);
	ck_assert_int_eq(getsockname(server.fd, &server.at.u.sa, &server.at.len), 0);
	ck_assert_int_eq(pthread_create(&server.thread, NULL, serve, NULL), 0);
}

static void tear_down(void)
{
	resolver_free(&res);
	ck_assert_ptr_null(res);
	ck_assert_int_eq(sendto(server.fd, "q", 1, 0, &server.at.u.sa, server.at.len), 1);
	ck_assert_int_eq(pthread_join(server.thread, NULL), 0);
	close(server.fd);
	io_tear_down();
}

static void use_server(int64_t timeout_us)
{
	char text[ADDR_TEXT_MAX];
	const char *names[] = {text};
	struct resolver_opts o = {.nameservers = names, .n_nameservers = 1, .timeout_us = timeout_us};

	addr_format(&server.at, text, sizeof(text));
	res = resolver_new(loop, &o);
	ck_assert_ptr_nonnull(res);
}

/* ---- asking ---- */

static void on_answer(void *arg, enum err err, const struct addr *v, size_t n)
{
	struct answer *a = arg;

	ck_assert(!a->inside);
	ck_assert_uint_le(n, RESOLVE_MAX);
	ck_assert_int_eq(err == ERR_OK, n > 0);
	a->calls++;
	a->err = err;
	a->n = n;
	if (n > 0)
		memcpy(a->v, v, n * sizeof(*v));
	loop_stop(loop);
}

static struct lookup *start(struct answer *a, const char *name)
{
	struct lookup *k;

	*a = (struct answer){.inside = true};
	k = resolver_lookup(res, name, 4711, on_answer, a);
	ck_assert_ptr_nonnull(k);
	a->inside = false;
	return k;
}

static void ask(struct answer *a, const char *name)
{
	start(a, name);
	WAIT_FOR(a->calls);
	turn();
	ck_assert_int_eq(a->calls, 1);
}

static size_t count_family(const struct answer *a, int family)
{
	size_t n = 0;

	for (size_t i = 0; i < a->n; i++) {
		n += a->v[i].u.sa.sa_family == family;
		for (size_t j = 0; j < i; j++)
			ck_assert(!addr_equal(&a->v[i], &a->v[j]));
	}
	return n;
}

static bool has(const struct answer *a, const char *text)
{
	struct addr_spec s;

	ck_assert_int_eq(addr_parse(text, &s, NULL), ERR_OK);
	for (size_t i = 0; i < a->n; i++)
		if (addr_equal(&a->v[i], &s.addr))
			return true;
	return false;
}

/* Proves: N6 */
START_TEST(both_families)
{
	static const char *const names[] = {"both.test", "ttl0.test", "BOTH.test", "both.test."};
	struct answer a;

	use_server(2000000);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		ask(&a, names[i]);
		ck_assert_int_eq(a.err, ERR_OK);
		ck_assert_uint_eq(a.n, 3);
		ck_assert(has(&a, "192.0.2.1:4711"));
		ck_assert(has(&a, "192.0.2.2:4711"));
		ck_assert(has(&a, "[2001:db8::1]:4711"));
	}
}
END_TEST

START_TEST(one_family_is_enough)
{
	struct answer a;

	use_server(2000000);
	ask(&a, "onlyv4.test");
	ck_assert_int_eq(a.err, ERR_OK);
	ck_assert_uint_eq(a.n, 1);
	/* The other question is never answered: the first answer is used before the time is up. */
	ask(&a, "halfsilent.test");
	ck_assert_int_eq(a.err, ERR_OK);
	ck_assert_uint_eq(a.n, 1);
	ck_assert(has(&a, "192.0.2.1:4711"));
}
END_TEST

/* Proves: N6 */
START_TEST(failures)
{
	static const char *const names[] = {
		"nx.test", "servfail.test", "garbage.test", "empty.test", "silent.test", "", "..", "a..b", "-"};
	struct answer a;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		int64_t began = clock_us();

		use_server(400000);
		ask(&a, names[i]);
		ck_assert_msg(a.err == ERR_DNS, "%s: %s", names[i], err_name(a.err));
		ck_assert_int_lt(clock_us() - began, 900000);
		resolver_free(&res);
		turn();
	}
}
END_TEST

/* Proves: N6 */
START_TEST(many_addresses)
{
	struct answer a;

	use_server(2000000);
	ask(&a, "many.test");
	ck_assert_uint_eq(a.n, 47);
	ck_assert_uint_eq(count_family(&a, AF_INET), 30);
	ck_assert_uint_eq(count_family(&a, AF_INET6), 17);
	ask(&a, "toomany.test");
	ck_assert_uint_gt(a.n, 32);
	ck_assert_uint_eq(count_family(&a, AF_INET) + count_family(&a, AF_INET6), a.n);
	ask(&a, "same.test");
	ck_assert_uint_eq(a.n, 1);
}
END_TEST

START_TEST(answers_without_a_server_come_as_events_too)
{
	struct answer a;
	int asked = server.asked;

	use_server(2000000);
	ask(&a, "127.0.0.9");
	ck_assert_uint_eq(a.n, 1);
	ck_assert(has(&a, "127.0.0.9:4711"));
	ask(&a, "::1");
	ck_assert_uint_eq(a.n, 1);
	ck_assert(has(&a, "[::1]:4711"));
	ask(&a, "localhost");
	ck_assert_int_eq(a.err, ERR_OK);
	ck_assert(has(&a, "127.0.0.1:4711"));
	ck_assert_int_eq(__atomic_load_n(&server.asked, __ATOMIC_SEQ_CST), asked);
}
END_TEST

START_TEST(the_systems_own_files)
{
	struct resolver_opts o = {.timeout_us = 300000};
	struct answer a;

	res = resolver_new(loop, &o);
	ck_assert_ptr_nonnull(res);
	ask(&a, "localhost");
	ck_assert_int_eq(a.err, ERR_OK);
	ck_assert(has(&a, "127.0.0.1:4711") || has(&a, "[::1]:4711"));
}
END_TEST

START_TEST(cancel_at_every_moment)
{
	struct answer a[4];
	struct lookup *k[4];

	use_server(300000);
	k[0] = start(&a[0], "both.test");
	lookup_cancel(&k[0]);
	ck_assert_ptr_null(k[0]);
	lookup_cancel(&k[0]);
	k[1] = start(&a[1], "127.0.0.1"); /* answered, not delivered */
	lookup_cancel(&k[1]);
	k[2] = start(&a[2], "silent.test");
	turn();
	lookup_cancel(&k[2]);
	ask(&a[3], "both.test");
	run_for(500000); /* what evdns has to say about the cancelled ones */
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(a[i].calls, 0);
	start(&a[0], "silent.test");
	start(&a[1], "127.0.0.1");
	start(&a[2], "both.test");
}
END_TEST

/* A server that was dead is asked again when it is back. Proves: N6 */
START_TEST(server_comes_back)
{
	struct answer a;

	use_server(300000);
	for (int i = 0; i < 4; i++) {
		ask(&a, "silent.test");
		ck_assert_int_eq(a.err, ERR_DNS);
	}
	ask(&a, "both.test");
	ck_assert_int_eq(a.err, ERR_OK);
}
END_TEST

static int in_turn_calls;

static void free_resolver(void *arg, enum err err, const struct addr *v, size_t n)
{
	(void)arg;
	(void)err;
	(void)v;
	(void)n;
	in_turn_calls++;
	resolver_free(&res);
	loop_stop(loop);
}

START_TEST(freed_from_inside_a_callback)
{
	struct answer a;

	use_server(1000000);
	start(&a, "silent.test");
	resolver_lookup(res, "both.test", 1, free_resolver, NULL);
	resolver_lookup(res, "both.test", 1, free_resolver, NULL);
	WAIT_FOR(in_turn_calls == 1);
	turn();
	turn();
	ck_assert_int_eq(in_turn_calls, 1);
	ck_assert_int_eq(a.calls, 0);
}
END_TEST

START_TEST(bad_name_server)
{
	const char *names[] = {"not an address"};
	struct resolver_opts o = {.nameservers = names, .n_nameservers = 1, .timeout_us = 100000};

	ck_assert_ptr_null(resolver_new(loop, &o));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("resolve");
	TCase *t = tcase_create("resolve");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_set_timeout(t, 30);
	tcase_add_test(t, both_families);
	tcase_add_test(t, one_family_is_enough);
	tcase_add_test(t, failures);
	tcase_add_test(t, many_addresses);
	tcase_add_test(t, answers_without_a_server_come_as_events_too);
	tcase_add_test(t, the_systems_own_files);
	tcase_add_test(t, cancel_at_every_moment);
	tcase_add_test(t, server_comes_back);
	tcase_add_test(t, freed_from_inside_a_callback);
	tcase_add_test(t, bad_name_server);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
