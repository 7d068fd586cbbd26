/* test_proto: the registry, opaque tcp's dialogues and the generations of a credential. */
#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cred/cred.h"
#include "proto/tcp.h"

static struct blocks blocks;

static struct script *compile(const char *send, const char *expect, const char *denied)
{
	struct script_step st = {.send = send, .expect = expect, .expect_denied = denied};
	struct script *s;
	size_t bad;
	const char *why;

	ck_assert_int_eq(script_compile(&st, 1, &s, &bad, &why), ERR_OK);
	return s;
}

START_TEST(registry)
{
	const char *const *names = proto_names();

	ck_assert_ptr_eq(proto_find("tcp"), &proto_tcp);
	ck_assert_ptr_null(proto_find("tcpx"));
	ck_assert_ptr_null(proto_find(""));
	for (; *names; names++)
		ck_assert_str_eq(proto_find(*names)->name, *names);
}
END_TEST

START_TEST(dialogues_are_the_scripts)
{
	struct script *s[3] = {compile("L\n", "l", "d"), compile("H\n", "h", "d"), compile("R\n", "r", "d")};
	struct tcp_conf tc = {s[0], s[1], s[2], PROTO_RETURN_CLEAN};
	struct proto_conf *c = tcp_conf_new(&tc);
	static const char *const sent[] = {"L\n", "H\n", "R\n"}, *const good[] = {"l\n", "h\n", "r\n"};
	static const enum proto_dialogue all[] = {PROTO_LOGIN, PROTO_PING, PROTO_CLEAN};
	void *up = mem_alloc(proto_tcp.up_bytes);

	ck_assert_int_eq(proto_tcp.on_return(c), PROTO_RETURN_CLEAN);
	ck_assert(proto_tcp.caps & PROTO_CAP_SERVER_FIRST);
	for (int i = 0; i < 3; i++) {
		const struct {
			const char *reply;
			enum proto_verdict want;
		} cases[] = {{good[i], PROTO_DONE}, {"d\n", PROTO_DENIED}, {"?\n", PROTO_FAILED}, {"d", PROTO_MORE}};

		ck_assert(proto_tcp.has(c, all[i]));
		for (int j = 0; j < 4; j++) {
			struct buf out;
			char got[8] = "";

			buf_init(&out, &blocks);
			ck_assert_int_eq(proto_tcp.begin(up, all[i], c, NULL, &blocks, &out), PROTO_MORE);
			buf_copy(&out, got, sizeof(got));
			ck_assert_str_eq(got, sent[i]);
			ck_assert_int_eq(proto_tcp.feed(up, (const uint8_t *)cases[j].reply, strlen(cases[j].reply),
							NULL, &out),
					 cases[j].want);
			buf_clear(&out);
			proto_tcp.end(up);
			proto_tcp.end(up);
			ck_assert_uint_eq(blocks.nused, 0);
		}
	}
	mem_free(up);
	tcp_conf_free(&c);
	ck_assert_ptr_null(c);
	for (int i = 0; i < 3; i++)
		script_free(&s[i]);
}
END_TEST

START_TEST(absent_dialogues_are_done)
{
	struct tcp_conf tc = {.on_return = PROTO_RETURN_QUIET};
	struct proto_conf *c = tcp_conf_new(&tc);
	void *up = mem_alloc(proto_tcp.up_bytes);
	struct buf out;

	buf_init(&out, &blocks);
	for (int d = PROTO_LOGIN; d <= PROTO_CLEAN; d++) {
		ck_assert(!proto_tcp.has(c, (enum proto_dialogue)d));
		ck_assert_int_eq(proto_tcp.begin(up, (enum proto_dialogue)d, c, NULL, &blocks, &out), PROTO_DONE);
		ck_assert_uint_eq(buf_len(&out), 0);
	}
	ck_assert_int_eq(proto_tcp.on_return(c), PROTO_RETURN_QUIET);
	proto_tcp.end(up);
	mem_free(up);
	tcp_conf_free(&c);
}
END_TEST

/* Returning "when the script succeeds" without a script would be a guess. */
START_TEST(clean_without_a_script_aborts)
{
	struct tcp_conf tc = {.on_return = PROTO_RETURN_CLEAN};

	tcp_conf_new(&tc);
}
END_TEST

/* An upstream does one dialogue at a time. */
START_TEST(two_dialogues_at_once_abort)
{
	struct script *s = compile("L\n", "l", NULL);
	struct tcp_conf tc = {.login = s};
	struct proto_conf *c = tcp_conf_new(&tc);
	void *up = mem_alloc(proto_tcp.up_bytes);
	struct buf out;

	buf_init(&out, &blocks);
	(void)proto_tcp.begin(up, PROTO_LOGIN, c, NULL, &blocks, &out);
	(void)proto_tcp.begin(up, PROTO_LOGIN, c, NULL, &blocks, &out);
}
END_TEST

static struct cred *cred_make(uint64_t number, const char *name, const char *password)
{
	struct cred_fields f;
	char pw[32];

	cred_fields_init(&f);
	f.username = name ? mem_strdup(name) : NULL;
	if (password)
		f.password = secret_take(strcpy(pw, password), strlen(password));
	return cred_new(number, &f);
}

START_TEST(a_generation_takes_over_its_fields)
{
	struct cred *c = cred_make(1, "bob", "pa55"), *again;

	ck_assert_uint_eq(c->number, 1);
	ck_assert_str_eq(c->is.username, "bob");
	ck_assert(secret_equal_bytes(c->is.password, "pa55", 4));
	ck_assert(c->is.expires_us == INT64_MAX);
	again = cred_ref(c);
	ck_assert_ptr_eq(again, c);
	cred_drop(&c);
	ck_assert_ptr_null(c);
	ck_assert_str_eq(again->is.username, "bob");
	cred_drop(&again);
	cred_drop(&again);
	c = cred_make(2, NULL, NULL);
	ck_assert_ptr_null(c->is.username);
	ck_assert_ptr_null(c->is.password);
	cred_drop(&c);
}
END_TEST

START_TEST(every_field_counts)
{
	struct cred *a = cred_make(1, "bob", "pa55"), *b = cred_make(2, "bob", "pa55");

	ck_assert(cred_fields_equal(&a->is, &b->is));
	b->is.port = 1;
	ck_assert(!cred_fields_equal(&a->is, &b->is));
	b->is.port = 0;
	b->is.expires_us = 5;
	ck_assert(!cred_fields_equal(&a->is, &b->is));
	b->is.expires_us = INT64_MAX;
	b->is.host = mem_strdup("h");
	ck_assert(!cred_fields_equal(&a->is, &b->is));
	cred_drop(&b);
	b = cred_make(2, "bob", "pa56");
	ck_assert(!cred_fields_equal(&a->is, &b->is));
	cred_drop(&b);
	b = cred_make(2, "bob", NULL);
	ck_assert(!cred_fields_equal(&a->is, &b->is));
	cred_drop(&b);
	b = cred_make(2, NULL, "pa55");
	ck_assert(!cred_fields_equal(&a->is, &b->is));
	cred_drop(&b);
	cred_drop(&a);
}
END_TEST

static void *ref_and_drop(void *arg)
{
	for (int i = 0; i < 20000; i++) {
		struct cred *c = cred_ref(arg);

		cred_drop(&c);
	}
	return NULL;
}

START_TEST(references_are_counted_across_threads)
{
	struct cred *c = cred_make(7, "x", NULL);
	pthread_t t[4];

	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, ref_and_drop, c), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	ck_assert_uint_eq(atomic_load(&c->refs), 1);
	cred_drop(&c);
}
END_TEST

static void setup(void)
{
	ck_assert_int_eq(secret_arena_init(NULL), ERR_OK);
	blocks_init(&blocks, 4);
}

static void teardown(void)
{
	blocks_done(&blocks);
}

int main(void)
{
	Suite *suite = suite_create("proto");
	TCase *tcp = tcase_create("tcp"), *cred = tcase_create("cred");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tcp, setup, teardown);
	tcase_add_test(tcp, registry);
	tcase_add_test(tcp, dialogues_are_the_scripts);
	tcase_add_test(tcp, absent_dialogues_are_done);
	tcase_add_test_raise_signal(tcp, clean_without_a_script_aborts, SIGABRT);
	tcase_add_test_raise_signal(tcp, two_dialogues_at_once_abort, SIGABRT);
	suite_add_tcase(suite, tcp);
	tcase_add_checked_fixture(cred, setup, teardown);
	tcase_add_test(cred, a_generation_takes_over_its_fields);
	tcase_add_test(cred, every_field_counts);
	tcase_add_test(cred, references_are_counted_across_threads);
	suite_add_tcase(suite, cred);
	sr = srunner_create(suite);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
