/* test_redis_login: the dialogues with a redis server, as tables of what it answers. */
#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "redis_world.h"

#define ARRAY(a) (sizeof(a) / sizeof((a)[0]))

#define AUTH1	"*2\r\n$4\r\nAUTH\r\n$7\r\nhunter2\r\n"
#define AUTH2	"*3\r\n$4\r\nAUTH\r\n$3\r\napp\r\n$7\r\nhunter2\r\n"
#define HELLO2	"*2\r\n$5\r\nHELLO\r\n$1\r\n2\r\n"
#define PING	"*1\r\n$4\r\nPING\r\n"
#define SELECT3 "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n"
#define FACTS	"*4\r\n$6\r\nserver\r\n$6\r\nvalkey\r\n$7\r\nversion\r\n$5\r\n8.1.0\r\n"

static struct redis_world w;
static struct secret *password;

static void setup(void)
{
	char text[] = "hunter2";

	world_open(&w, NULL);
	password = secret_take(text, 7);
}

static void teardown(void)
{
	secret_drop(&password);
	world_close(&w);
}

static struct script_cred app(void)
{
	return (struct script_cred){.username = "app", .password = password};
}

static void ck_text(const char *want)
{
	const char *text = proto_redis.error_text(w.up);

	ck_assert_str_eq(text ? text : "", want);
}

/* Proves: A19 */
START_TEST(what_a_login_says)
{
	static const struct {
		const char *username, *database;
		bool secret;
		const char *sent;
	} forms[] = {
		{"app", NULL, true, AUTH2 HELLO2 PING}, {"", NULL, true, AUTH1 HELLO2 PING},
		{NULL, NULL, true, AUTH1 HELLO2 PING},	{"default", NULL, true, AUTH1 HELLO2 PING},
		{NULL, NULL, false, HELLO2 PING},	{"app", "3", true, AUTH2 HELLO2 SELECT3 PING},
		{"app", "", true, AUTH2 HELLO2 PING},	{"app", "0", true, AUTH2 HELLO2 PING},
	};

	for (size_t i = 0; i < ARRAY(forms); i++) {
		struct script_cred cred = {.username = forms[i].username,
					   .password = forms[i].secret ? password : NULL,
					   .database = forms[i].database};

		ck_dialogue(&w, PROTO_LOGIN, &cred, forms[i].sent, "", PROTO_MORE);
		proto_redis.end(w.up);
	}
	ck_dialogue(&w, PROTO_LOGIN, NULL, HELLO2 PING, "", PROTO_MORE);
	proto_redis.end(w.up);
	proto_redis.end(w.up);
}
END_TEST

/* Proves: B1, A19 */
static const struct {
	const char *says;
	enum proto_verdict want;
	const char *text;
} logins[] = {
	{"+OK\r\n" FACTS "+PONG\r\n", PROTO_DONE, ""},
	{"+OK\r\n%0\r\n+PONG\r\n", PROTO_DONE, ""},
	{"+OK\r\n-ERR unknown command `HELLO`, with args beginning with: `2`, \r\n+PONG\r\n", PROTO_DONE, ""},
	{"+OK\r\n" FACTS "-NOPERM no permissions to run the 'ping' command\r\n", PROTO_DONE, ""},
	{"-WRONGPASS invalid username-password pair or user is disabled.\r\n", PROTO_DENIED,
	 "WRONGPASS invalid username-password pair or user is disabled."},
	{"-ERR invalid password\r\n", PROTO_DENIED, "ERR invalid password"},
	{"-ERR invalid username-password pair\r\n", PROTO_DENIED, "ERR invalid username-password pair"},
	{"-NOAUTH Authentication required.\r\n", PROTO_DENIED, "NOAUTH Authentication required."},
	{"+OK\r\n-NOAUTH x\r\n-NOAUTH y\r\n", PROTO_DENIED, "NOAUTH y"},
	/* The password is for nothing: said, and no obstacle. */
	{"-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is "
	 "correct?\r\n" FACTS "+PONG\r\n",
	 PROTO_DONE,
	 "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is "
	 "correct?"},
	{"-ERR Client sent AUTH, but no password is set\r\n" FACTS "+PONG\r\n", PROTO_DONE,
	 "ERR Client sent AUTH, but no password is set"},
	{"-ERR wrong number of arguments for 'auth' command\r\n", PROTO_FAILED,
	 "ERR wrong number of arguments for 'auth' command"},
	{"-ERR max number of clients reached\r\n", PROTO_FAILED, "ERR max number of clients reached"},
	{"-DENIED Redis is running in protected mode\r\n", PROTO_FAILED, "DENIED Redis is running in protected mode"},
	{"+OK\r\n" FACTS "-LOADING Redis is loading the dataset in memory\r\n", PROTO_FAILED,
	 "LOADING Redis is loading the dataset in memory"},
	{"+OK\r\n" FACTS "-MASTERDOWN x\r\n", PROTO_FAILED, "MASTERDOWN x"},
	{"+OK\r\n" FACTS "+PONX\r\n", PROTO_FAILED, "+PONX"},
	{"+OK\r\n" FACTS "+PONG\r\n", PROTO_DONE, ""},
	{":5\r\n", PROTO_FAILED, ":5"},
	{"HTTP/1.1 400\r\n", PROTO_FAILED, "not a reply of the Redis protocol"},
	/* Neither may get into a log. */
	{"-ERR unknown command `AUTH`, with args beginning with: `app`, `xx`, \r\n", PROTO_FAILED,
	 "ERR unknown command `AUTH`"},
	{"-ERR what is hunter2?\r\n", PROTO_FAILED, "(an error that repeats the password)"},
	{"-ERR a\x1b[31m\xff\r\n", PROTO_FAILED, "ERR a?[31m?"},
	{"+OK\r\n", PROTO_MORE, ""},
};

START_TEST(what_a_login_hears)
{
	struct script_cred cred = app();

	ck_dialogue(&w, PROTO_LOGIN, &cred, AUTH2 HELLO2 PING, logins[_i].says, logins[_i].want);
	ck_text(logins[_i].text);
}
END_TEST

START_TEST(a_database_that_can_not_be_had)
{
	struct script_cred cred = app();

	cred.database = "3";
	ck_dialogue(&w, PROTO_LOGIN, &cred, AUTH2 HELLO2 SELECT3 PING,
		    "+OK\r\n" FACTS "-ERR DB index is out of range\r\n", PROTO_FAILED);
	ck_text("ERR DB index is out of range");
	cred.database = "three";
	ck_dialogue(&w, PROTO_LOGIN, &cred, "", "", PROTO_FAILED);
	ck_text("the credential's database is not a number");
}
END_TEST

/* Who selects nothing is in the database of the login. */
START_TEST(the_database_of_the_login_is_the_clients)
{
	struct script_cred cred = app();

	cred.database = "3";
	ck_dialogue(&w, PROTO_LOGIN, &cred, AUTH2 HELLO2 SELECT3 PING, "+OK\r\n" FACTS "+OK\r\n+PONG\r\n",
		    PROTO_DONE);
	ck_call(&w, "GET a", "$-1\r\n");
	ck_here(&w, "SELECT 0", "+OK\r\n");
	ck_pass(&w, "GET a", "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n");
	ck_reply(&w, "+OK\r\n", PROTO_REPLY_DONE);
	ck_reply(&w, "$-1\r\n", PROTO_REPLY_DONE);
	ck_here(&w, "RESET", "+RESET\r\n");
	ck_pass(&w, "GET a", SELECT3);
}
END_TEST

START_TEST(facts_go_to_the_clients)
{
	ck_dialogue(&w, PROTO_LOGIN, NULL, HELLO2 PING,
		    "*6\r\n$6\r\nserver\r\n$6\r\nvalkey\r\n$7\r\nversion\r\n$30\r\n012345678901234567890123456789\r\n"
		    "$7\r\nmodules\r\n*1\r\n*4\r\n$4\r\nname\r\n$1\r\nx\r\n$3\r\nver\r\n:1\r\n+PONG\r\n",
		    PROTO_DONE);
	ck_assert_int_eq(world_ask(&w, "HELLO"), PROTO_ASK_HERE);
	ck_assert_ptr_nonnull(strstr(w.said, "$6\r\nvalkey\r\n$7\r\nversion\r\n$23\r\n01234567890123456789012\r\n"));
	/* One that is refused tells nothing. */
	ck_dialogue(&w, PROTO_LOGIN, NULL, HELLO2 PING, "-NOAUTH x\r\n-NOAUTH x\r\n", PROTO_DENIED);
	ck_assert_int_eq(world_ask(&w, "HELLO 3"), PROTO_ASK_HERE);
	ck_assert_ptr_nonnull(strstr(w.said, "$6\r\nvalkey\r\n"));
}
END_TEST

static const struct {
	const char *says;
	enum proto_verdict want;
} pings[] = {
	{"+PONG\r\n", PROTO_DONE},	  {"-NOPERM x\r\n", PROTO_DONE}, {"-NOAUTH x\r\n", PROTO_DENIED},
	{"-LOADING x\r\n", PROTO_FAILED}, {"+OK\r\n", PROTO_FAILED},	 {"$4\r\nPONG\r\n", PROTO_FAILED},
	{"PONG\r\n", PROTO_FAILED},	  {"+PON", PROTO_MORE},		 {">1\r\n+x\r\n+PONG\r\n", PROTO_DONE},
};

START_TEST(what_a_ping_hears)
{
	ck_dialogue(&w, PROTO_PING, NULL, PING, pings[_i].says, pings[_i].want);
}
END_TEST

/* Proves: A20 */
START_TEST(reauthentication_of_an_idle_connection)
{
	struct script_cred cred = app();

	ck_dialogue(&w, PROTO_REAUTH, &cred, AUTH2, "+OK\r\n", PROTO_DONE);
	ck_dialogue(&w, PROTO_REAUTH, &cred, AUTH2, "-WRONGPASS x\r\n", PROTO_DENIED);
	ck_text("WRONGPASS x");
	/* It goes on as who it was. */
	ck_assert(proto_redis.caps & PROTO_CAP_REAUTH && proto_redis.caps & PROTO_CAP_REAUTH_KEEPS);
	ck_call(&w, "GET a", "$-1\r\n");
	ck_dialogue(&w, PROTO_REAUTH, &cred, AUTH2, "-LOADING x\r\n", PROTO_FAILED);
	ck_dialogue(&w, PROTO_REAUTH, NULL, "", "", PROTO_DONE);
}
END_TEST

static const struct {
	const char *says;
	enum proto_verdict want;
} reauths[] = {
	{"+OK\r\n", PROTO_DONE},
	{"-WRONGPASS x\r\n", PROTO_DENIED},
	{"-ERR Client sent AUTH, but no password is set\r\n", PROTO_DONE},
	{"-LOADING x\r\n", PROTO_FAILED},
	{":1\r\n", PROTO_FAILED},
	{"*0\r\n", PROTO_FAILED},
	{"$-1\r\n", PROTO_FAILED},
};

/* Between two requests, with replies owed before and behind it. */
START_TEST(reauthentication_in_use)
{
	struct script_cred cred = app();
	struct buf out;
	uint32_t tag;

	ck_pass(&w, "GET a", "");
	ck_assert(proto_redis.talk->may_reauth(w.up));
	buf_init(&out, secret_blocks());
	tag = proto_redis.talk->reauth(w.up, &cred, &out);
	w.said[buf_copy(&out, w.said, sizeof(w.said) - 1)] = '\0';
	buf_clear(&out);
	ck_assert_str_eq(w.said, AUTH2);
	ck_assert_int_eq(proto_redis.talk->reauth_verdict(w.up), PROTO_MORE);
	w.owed[w.n_owed++].tag = tag;
	ck_pass(&w, "GET a", "");
	ck_reply(&w, "$-1\r\n", PROTO_REPLY_DONE);
	ck_assert_int_eq(proto_redis.talk->reauth_verdict(w.up), PROTO_MORE);
	ck_reply(&w, reauths[_i].says, PROTO_REPLY_DONE);
	ck_assert_int_eq(proto_redis.talk->reauth_verdict(w.up), reauths[_i].want);
	ck_reply(&w, "$-1\r\n", PROTO_REPLY_DONE);
	ck_held(&w, ERR_OK);
}
END_TEST

START_TEST(cleaning_fails_where_the_server_does_not_know_how)
{
	ck_call(&w, "CLIENT NO-EVICT ON", "+OK\r\n");
	ck_dialogue(&w, PROTO_CLEAN, NULL, "*1\r\n$5\r\nRESET\r\n" PING, "-ERR unknown command `RESET`\r\n",
		    PROTO_FAILED);
	ck_text("ERR unknown command `RESET`");
}
END_TEST

START_TEST(cleaning_of_what_is_clean)
{
	ck_dialogue(&w, PROTO_CLEAN, NULL, "", "", PROTO_DONE);
}
END_TEST

/* Proves: F:U12 */
START_TEST(a_login_hears_so_much_and_no_more)
{
	static char big[20000];
	struct buf out;
	enum proto_verdict v;
	size_t i;

	buf_init(&out, secret_blocks());
	ck_assert_int_eq(proto_redis.begin(w.up, PROTO_PING, w.c, NULL, secret_blocks(), &out), PROTO_MORE);
	buf_clear(&out);
	memset(big, 'x', sizeof(big));
	big[0] = '+';
	for (i = 0, v = PROTO_MORE; v == PROTO_MORE; i += 100)
		v = proto_redis.feed(w.up, (const uint8_t *)big + i, 100, NULL, &out);
	ck_assert_int_eq(v, PROTO_FAILED);
	ck_assert_uint_le(i, PROTO_HEAD_MAX + 100);
	ck_text("a reply of more than 16 KiB");
}
END_TEST

START_TEST(more_than_was_asked_for_is_dirt)
{
	struct buf out;

	buf_init(&out, secret_blocks());
	ck_assert_int_eq(proto_redis.begin(w.up, PROTO_PING, w.c, NULL, secret_blocks(), &out), PROTO_MORE);
	buf_clear(&out);
	ck_assert_int_eq(proto_redis.feed(w.up, (const uint8_t *)"+PONG\r\n+", 8, NULL, &out), PROTO_FAILED);
}
END_TEST

/* A login's bytes may not get into an ordinary buffer. */
START_TEST(a_password_into_an_ordinary_buffer_aborts)
{
	struct script_cred cred = app();
	struct buf out;

	buf_init(&out, &w.blocks);
	(void)proto_redis.begin(w.up, PROTO_LOGIN, w.c, &cred, secret_blocks(), &out);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("redis_login");
	TCase *t = tcase_create("login");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, what_a_login_says);
	tcase_add_loop_test(t, what_a_login_hears, 0, ARRAY(logins));
	tcase_add_test(t, a_database_that_can_not_be_had);
	tcase_add_test(t, the_database_of_the_login_is_the_clients);
	tcase_add_test(t, facts_go_to_the_clients);
	tcase_add_loop_test(t, what_a_ping_hears, 0, ARRAY(pings));
	tcase_add_test(t, reauthentication_of_an_idle_connection);
	tcase_add_loop_test(t, reauthentication_in_use, 0, ARRAY(reauths));
	tcase_add_test(t, cleaning_fails_where_the_server_does_not_know_how);
	tcase_add_test(t, cleaning_of_what_is_clean);
	tcase_add_test(t, a_login_hears_so_much_and_no_more);
	tcase_add_test(t, more_than_was_asked_for_is_dirt);
	tcase_add_test_raise_signal(t, a_password_into_an_ordinary_buffer_aborts, SIGABRT);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
