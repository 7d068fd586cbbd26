/* test_redis: what the redis module does with the commands of a client and the replies of a server. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "redis_world.h"

#define ARRAY(a) (sizeof(a) / sizeof((a)[0]))

static struct redis_world w;

static struct secret *secrets[8];
static size_t n_secrets;

static void setup(void)
{
	world_open(&w, NULL);
}

static void teardown(void)
{
	while (n_secrets)
		secret_drop(&secrets[--n_secrets]);
	world_close(&w);
}

/* Kept to the end of the test. */
static struct secret *secret_of(const char *text)
{
	char copy[64];
	size_t n = strlen(text);

	memcpy(copy, text, n);
	ck_assert_uint_lt(n_secrets, ARRAY(secrets));
	return secrets[n_secrets++] = secret_take(copy, n);
}

#define SELECT1 "*2\r\n$6\r\nSELECT\r\n$1\r\n1\r\n"
#define SELECT0 "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"
#define HELLO2	"*2\r\n$5\r\nHELLO\r\n$1\r\n2\r\n"
#define HELLO3	"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"

/* A client of a pool with settings of its own, in place of setup()'s. */
static void reopen(const struct redis_conf *conf)
{
	world_close(&w);
	world_open(&w, conf);
}

static void say_hello_3(void)
{
	ck_here(&w, "HELLO 3",
		"%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:7\r\n"
		"$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n");
}

#define IS_HELLO3 "%1\r\n$5\r\nproto\r\n:3\r\n"

START_TEST(a_plain_command_passes)
{
	ck_call(&w, "SET a b", "+OK\r\n");
	ck_assert_uint_eq(w.req.flags, 0);
	ck_call(&w, "gEt a", "$1\r\nb\r\n");
	ck_assert_uint_eq(w.req.flags, PROTO_REQUEST_AGAIN);
	ck_call(&w, "LRANGE l 0 -1", "*2\r\n$1\r\na\r\n:5\r\n");
	ck_held(&w, ERR_OK);
	ck_leave(&w, false, PROTO_LEAVE_CLEAN);
	ck_pass(&w, "SET a b", "");
	ck_leave(&w, true, PROTO_LEAVE_CLEAN);
}
END_TEST

/* Nobody asked for it. */
START_TEST(a_reply_too_many_breaks)
{
	ck_reply(&w, "+OK\r\n", PROTO_REPLY_BROKEN);
	ck_reply(&w, "-ERR x\r\n", PROTO_REPLY_BROKEN);
	ck_reply(&w, "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n", PROTO_REPLY_BROKEN);
}
END_TEST

START_TEST(a_large_reply_comes_in_parts)
{
	ck_pass(&w, "GET a", "");
	ck_reply(&w, "$10\r\nabc", PROTO_REPLY_PART);
	ck_reply(&w, "defghij", PROTO_REPLY_PART);
	ck_reply(&w, "\r", PROTO_REPLY_PART);
	ck_reply(&w, "\n", PROTO_REPLY_DONE);
	ck_pass(&w, "GET a", "");
	ck_reply(&w, "$", PROTO_REPLY_WAIT);
	ck_reply(&w, "$-1\r\n", PROTO_REPLY_DONE);
	ck_pass(&w, "GET a", "");
	ck_reply(&w, "-ERR ", PROTO_REPLY_WAIT);
	ck_reply(&w, "-ERR x\r\n", PROTO_REPLY_DONE);
	ck_held(&w, ERR_OK);
}
END_TEST

/* ---- SELECT ---- */

START_TEST(select_is_virtual)
{
	/* The first one asks the server whether there is such a database. */
	ck_pass(&w, "SELECT 1", "");
	ck_assert_uint_eq(w.req.flags, PROTO_REQUEST_ALONE);
	ck_reply(&w, "+OK\r\n", PROTO_REPLY_DONE);
	ck_call(&w, "GET a", "$-1\r\n");
	ck_here(&w, "SELECT 0", "+OK\r\n");
	ck_pass(&w, "GET a", SELECT0);
	ck_reply(&w, "+OK\r\n", PROTO_REPLY_DONE);
	ck_reply(&w, "$1\r\nb\r\n", PROTO_REPLY_DONE);
	ck_here(&w, "SELECT 1", "+OK\r\n");
	ck_here(&w, "SELECT 0", "+OK\r\n");
	ck_call(&w, "GET a", "$1\r\nb\r\n");
	ck_here(&w, "SELECT x", "-ERR value is not an integer or out of range\r\n");
	ck_here(&w, "SELECT 01", "-ERR value is not an integer or out of range\r\n");
	ck_here(&w, "SELECT -1", "-ERR DB index is out of range\r\n");
	ck_here(&w, "SELECT 99999999", "-ERR DB index is out of range\r\n");
	ck_here(&w, "SELECT", "-ERR wrong number of arguments for 'select' command\r\n");
	ck_held(&w, ERR_OK);
}
END_TEST

START_TEST(a_refused_select_changes_nothing)
{
	ck_pass(&w, "SELECT 99", "");
	ck_reply(&w, "-ERR DB index is out of range\r\n", PROTO_REPLY_DONE);
	ck_pass(&w, "GET a", SELECT0);
	ck_reply(&w, "+OK\r\n", PROTO_REPLY_DONE);
	ck_reply(&w, "$-1\r\n", PROTO_REPLY_DONE);
	ck_assert_int_eq(world_ask(&w, "SELECT 99"), PROTO_ASK_PASS);
}
END_TEST

START_TEST(a_database_belongs_to_its_client)
{
	void *first;

	ck_call(&w, "SELECT 1", "+OK\r\n");
	first = world_client(&w, NULL);
	ck_pass(&w, "GET a", SELECT0);
	ck_reply(&w, "+OK\r\n", PROTO_REPLY_DONE);
	ck_reply(&w, "$-1\r\n", PROTO_REPLY_DONE);
	/* The second one knows what the first one learned. */
	ck_here(&w, "SELECT 1", "+OK\r\n");
	ck_here(&w, "SELECT 0", "+OK\r\n");
	first = world_client(&w, first);
	ck_pass(&w, "GET a", SELECT1);
	proto_redis.talk->client_end(first);
	mem_free(first);
}
END_TEST

/* Where the database is not the client's, the request would run in another one. */
START_TEST(a_select_ahead_that_fails_breaks)
{
	ck_call(&w, "SELECT 1", "+OK\r\n");
	ck_here(&w, "SELECT 0", "+OK\r\n");
	ck_pass(&w, "GET a", SELECT0);
	ck_reply(&w, "-NOPERM x\r\n", PROTO_REPLY_BROKEN);
}
END_TEST

/* ---- HELLO ---- */

START_TEST(hello_switches_the_version)
{
	say_hello_3();
	ck_pass(&w, "GET a", HELLO3);
	ck_reply(&w, IS_HELLO3, PROTO_REPLY_DONE);
	ck_reply(&w, "_\r\n", PROTO_REPLY_DONE);
	ck_call(&w, "GET a", "_\r\n");
	ck_assert_int_eq(world_ask(&w, "HELLO 2"), PROTO_ASK_HERE);
	ck_assert_ptr_nonnull(strstr(w.said, "*14\r\n$6\r\nserver\r\n"));
	ck_pass(&w, "GET a", HELLO2);
	ck_reply(&w,
		 "*14\r\n"
		 "$1\r\na\r\n:1\r\n:2\r\n:3\r\n:4\r\n:5\r\n:6\r\n:7\r\n:8\r\n:9\r\n:10\r\n:11\r\n:12\r\n*0\r\n",
		 PROTO_REPLY_DONE);
	ck_reply(&w, "$-1\r\n", PROTO_REPLY_DONE);
	/* Without a number it only tells. */
	ck_assert_int_eq(world_ask(&w, "HELLO"), PROTO_ASK_HERE);
	ck_assert_ptr_nonnull(strstr(w.said, "$5\r\nproto\r\n:2\r\n"));
}
END_TEST

START_TEST(hello_says_what_is_wrong)
{
	ck_here(&w, "HELLO 4", "-NOPROTO unsupported protocol version\r\n");
	ck_here(&w, "HELLO 1", "-NOPROTO unsupported protocol version\r\n");
	ck_here(&w, "HELLO x", "-ERR Protocol version is not an integer or out of range\r\n");
	ck_here(&w, "HELLO 3 AUTH a", "-ERR Syntax error in HELLO option 'AUTH'\r\n");
	ck_here(&w, "HELLO 3 SETNAME", "-ERR Syntax error in HELLO option 'SETNAME'\r\n");
	ck_here(&w, "HELLO 3 FOO", "-ERR Syntax error in HELLO option 'FOO'\r\n");
	ck_here(&w, "HELLO 3 FOO 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17", "-ERR Syntax error in HELLO\r\n");
	ck_here(&w, "HELLO 3 SETNAME a\nb",
		"-ERR Client names cannot contain spaces, newlines or special characters.\r\n");
	ck_call(&w, "GET a", "$-1\r\n");
	ck_assert_int_eq(world_ask(&w, "HELLO 3 AUTH u p SETNAME me"), PROTO_ASK_HERE);
	ck_assert_ptr_nonnull(strstr(w.said, "%7\r\n"));
	ck_here(&w, "CLIENT GETNAME", "$2\r\nme\r\n");
}
END_TEST

/* Proves: A19 */
START_TEST(a_server_without_hello_speaks_resp2)
{
	ck_dialogue(&w, PROTO_LOGIN, NULL, HELLO2 "*1\r\n$4\r\nPING\r\n",
		    "-ERR unknown command `HELLO`, with args beginning with: `2`, \r\n+PONG\r\n", PROTO_DONE);
	ck_here(&w, "HELLO 3", "-NOPROTO unsupported protocol version\r\n");
	ck_assert_int_eq(world_ask(&w, "HELLO 2"), PROTO_ASK_HERE);
	ck_assert_ptr_nonnull(strstr(w.said, "$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n5.0.0\r\n"));
}
END_TEST

/* What HELLO answers is learned at a login; a client that comes before any login waits for one. */
START_TEST(hello_before_any_login)
{
	void *known = w.pool;

	w.pool = mem_alloc(proto_redis.talk->pool_bytes);
	ck_assert_int_eq(world_ask(&w, "HELLO 3"), PROTO_ASK_PASS);
	ck_assert_uint_eq(w.req.len, 0);
	ck_assert(w.req.whole);
	ck_assert_uint_eq(w.req.flags, PROTO_REQUEST_ALONE | PROTO_REQUEST_MUTE);
	ck_pass(&w, "HELLO 3", "*1\r\n$4\r\nPING\r\n");
	ck_reply(&w, "+PONG\r\n", PROTO_REPLY_DONE);
	ck_here(&w, "HELLO 3", "-NOPROTO unsupported protocol version\r\n");
	mem_free(w.pool);
	w.pool = known;
	say_hello_3();
}
END_TEST

/* ---- transactions ---- */

START_TEST(multi_holds_until_exec)
{
	ck_pass(&w, "MULTI", "");
	ck_assert_uint_eq(w.req.flags, PROTO_REQUEST_OWN);
	ck_held(&w, ERR_PIN_TRANSACTION);
	ck_assert(!proto_redis.talk->may_reauth(w.up));
	ck_reply(&w, "+OK\r\n", PROTO_REPLY_DONE);
	ck_call(&w, "GET a", "+QUEUED\r\n");
	ck_assert_uint_eq(w.req.flags, 0);
	ck_held(&w, ERR_PIN_TRANSACTION);
	ck_leave(&w, false, PROTO_LEAVE_CHECK);
	ck_pass(&w, "EXEC", "");
	ck_held(&w, ERR_PIN_TRANSACTION);
	ck_assert(!proto_redis.talk->may_reauth(w.up));
	ck_reply(&w, "*1\r\n", PROTO_REPLY_PART);
	ck_held(&w, ERR_PIN_TRANSACTION);
	ck_reply(&w, "$-1\r\n", PROTO_REPLY_DONE);
	ck_held(&w, ERR_OK);
	ck_assert(proto_redis.talk->may_reauth(w.up));
	ck_leave(&w, false, PROTO_LEAVE_CLEAN);
}
END_TEST

static const struct {
	const char *end, *reply;
} multi_ends[] = {
	{"EXEC", "*0\r\n"},	{"EXEC", "*-1\r\n"},
	{"EXEC", "_\r\n"},	{"EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n"},
	{"DISCARD", "+OK\r\n"}, {"exec", "$-1\r\n"},
};

START_TEST(every_end_of_a_transaction)
{
	ck_call(&w, "WATCH k", "+OK\r\n");
	ck_call(&w, "MULTI", "+OK\r\n");
	ck_call(&w, multi_ends[_i].end, multi_ends[_i].reply);
	ck_held(&w, ERR_OK);
	ck_leave(&w, false, PROTO_LEAVE_CLEAN);
	ck_here(&w, "EXEC", "-ERR EXEC without MULTI\r\n");
	ck_here(&w, "DISCARD", "-ERR DISCARD without MULTI\r\n");
	ck_here(&w, "UNWATCH", "+OK\r\n");
}
END_TEST

START_TEST(pipelined_transactions)
{
	ck_pass(&w, "MULTI", "");
	ck_pass(&w, "GET a", "");
	ck_pass(&w, "EXEC", "");
	ck_pass(&w, "MULTI", "");
	ck_reply(&w, "+OK\r\n", PROTO_REPLY_DONE);
	ck_reply(&w, "+QUEUED\r\n", PROTO_REPLY_DONE);
	ck_reply(&w, "*1\r\n$-1\r\n", PROTO_REPLY_DONE);
	ck_held(&w, ERR_PIN_TRANSACTION);
	ck_reply(&w, "+OK\r\n", PROTO_REPLY_DONE);
	ck_held(&w, ERR_PIN_TRANSACTION);
	ck_call(&w, "DISCARD", "+OK\r\n");
	ck_held(&w, ERR_OK);
}
END_TEST

/* Between an EXEC that is not answered yet and what follows it, the database may change. */
START_TEST(select_behind_a_pipelined_exec)
{
	ck_call(&w, "SELECT 1", "+OK\r\n");
	ck_pass(&w, "MULTI", "");
	ck_pass(&w, "EXEC", "");
	ck_here(&w, "SELECT 0", "+OK\r\n");
	ck_pass(&w, "GET a", SELECT0);
}
END_TEST

START_TEST(multi_that_is_refused)
{
	ck_call(&w, "MULTI", "-NOPERM x\r\n");
	ck_held(&w, ERR_OK);
	ck_here(&w, "EXEC", "-ERR EXEC without MULTI\r\n");
	/* The same, pipelined: the server says it. */
	ck_pass(&w, "MULTI", "");
	ck_pass(&w, "EXEC", "");
	ck_reply(&w, "-NOPERM x\r\n", PROTO_REPLY_DONE);
	ck_reply(&w, "-ERR EXEC without MULTI\r\n", PROTO_REPLY_DONE);
	ck_held(&w, ERR_OK);
	ck_leave(&w, false, PROTO_LEAVE_CLEAN);
}
END_TEST

START_TEST(wrong_arity_does_not_end_a_transaction)
{
	ck_call(&w, "MULTI x", "-ERR wrong number of arguments for 'multi' command\r\n");
	ck_held(&w, ERR_OK);
	ck_call(&w, "MULTI", "+OK\r\n");
	ck_call(&w, "EXEC x", "-ERR wrong number of arguments for 'exec' command\r\n");
	ck_call(&w, "DISCARD x", "-ERR wrong number of arguments for 'discard' command\r\n");
	ck_held(&w, ERR_PIN_TRANSACTION);
	ck_call(&w, "MULTI", "-ERR MULTI calls can not be nested\r\n");
	ck_call(&w, "WATCH a", "-ERR WATCH inside MULTI is not allowed\r\n");
	ck_call(&w, "UNWATCH", "+QUEUED\r\n");
	ck_held(&w, ERR_PIN_TRANSACTION);
	ck_call(&w, "EXEC", "-EXECABORT x\r\n");
	ck_held(&w, ERR_OK);
}
END_TEST

/* Redis 5 answers LOADING and keeps the transaction. */
START_TEST(an_exec_in_doubt_is_cleaned)
{
	ck_call(&w, "MULTI", "+OK\r\n");
	ck_call(&w, "EXEC", "-LOADING x\r\n");
	ck_assert(!proto_redis.talk->may_reauth(w.up));
	ck_leave(&w, false, PROTO_LEAVE_CHECK);
	ck_dialogue(&w, PROTO_CLEAN, NULL, "*1\r\n$7\r\nDISCARD\r\n", "-ERR DISCARD without MULTI\r\n", PROTO_DONE);
	ck_leave(&w, false, PROTO_LEAVE_CLEAN);
}
END_TEST

START_TEST(select_in_a_transaction_applies_at_its_end)
{
	ck_call(&w, "SELECT 1", "+OK\r\n");
	ck_here(&w, "SELECT 0", "+OK\r\n");
	ck_pass(&w, "MULTI", SELECT0);
	ck_reply(&w, "+OK\r\n", PROTO_REPLY_DONE);
	ck_reply(&w, "+OK\r\n", PROTO_REPLY_DONE);
	ck_call(&w, "SELECT 1", "+QUEUED\r\n");
	ck_call(&w, "GET a", "+QUEUED\r\n");
	ck_call(&w, "SELECT x", "+QUEUED\r\n");
	ck_pass(&w, "EXEC", "");
	ck_assert_uint_eq(w.req.flags, PROTO_REQUEST_ALONE);
	ck_reply(&w, "*3\r\n+OK\r\n$-1\r\n-ERR x\r\n", PROTO_REPLY_DONE);
	ck_call(&w, "GET a", "$-1\r\n");
	ck_here(&w, "SELECT 0", "+OK\r\n");
	ck_pass(&w, "GET a", SELECT0);
}
END_TEST

START_TEST(select_in_a_discarded_transaction)
{
	ck_call(&w, "SELECT 1", "+OK\r\n");
	for (int i = 0; i < 3; i++) {
		static const char *const ends[] = {"DISCARD", "EXEC", "EXEC"}, *const replies[] = {
										       "+OK\r\n", "*-1\r\n",
										       "-EXECABORT x\r\n"};

		ck_call(&w, "MULTI", "+OK\r\n");
		ck_call(&w, "SELECT 0", "+QUEUED\r\n");
		ck_call(&w, ends[i], replies[i]);
		ck_call(&w, "GET a", "$-1\r\n");
	}
}
END_TEST

/* Whether it was selected is known to nobody but the one who reads the replies: it keeps the connection. */
START_TEST(select_of_an_unknown_database_in_a_transaction)
{
	ck_call(&w, "MULTI", "+OK\r\n");
	ck_call(&w, "SELECT 5", "+QUEUED\r\n");
	ck_call(&w, "EXEC", "*1\r\n+OK\r\n");
	ck_held(&w, ERR_PIN_STATE);
	ck_call(&w, "GET a", "$-1\r\n");
	ck_held(&w, ERR_PIN_STATE);
	ck_here(&w, "SELECT 0", "+OK\r\n");
	ck_pass(&w, "GET a", SELECT0);
	ck_held(&w, ERR_OK);
}
END_TEST

/* What can't be queued is refused here, and with it the transaction, as by the server. */
static const char *const not_queued[] = {
	"AUTH x",
	"HELLO 3",
	"SUBSCRIBE a",
	"PSUBSCRIBE a",
	"SSUBSCRIBE a",
	"UNSUBSCRIBE",
	"MONITOR",
	"SYNC",
	"PSYNC ? -1",
	"REPLCONF a b",
	"ASKING",
	"READONLY",
	"CLIENT REPLY OFF",
	"CLIENT SETNAME a",
	"CLIENT ID",
	"ACL WHOAMI",
	"CLIENT NO-EVICT ON",
	"CLIENT TRACKING ON",
	"CLIENT UNBLOCK 5",
	"SCRIPT DEBUG YES",
};

START_TEST(what_can_not_be_queued_spoils_the_transaction)
{
	ck_call(&w, "MULTI", "+OK\r\n");
	ck_assert_int_eq(world_ask(&w, not_queued[_i]), PROTO_ASK_HERE);
	ck_assert_msg(!strncmp(w.said, "-ERR leased: ", 13), "%s", w.said);
	ck_pass(&w, "EXEC", "*1\r\n$3\r\nGET\r\n");
	ck_assert_uint_eq(w.n_owed, 2);
	ck_reply(&w, "-ERR wrong number of arguments for 'get' command\r\n", PROTO_REPLY_DONE);
	ck_reply(&w, "-EXECABORT x\r\n", PROTO_REPLY_DONE);
	ck_held(&w, ERR_OK);
	/* The next one is none the worse for it. */
	ck_call(&w, "MULTI", "+OK\r\n");
	ck_call(&w, "EXEC", "*0\r\n");
}
END_TEST

START_TEST(an_abandoned_transaction_is_discarded)
{
	ck_call(&w, "WATCH k", "+OK\r\n");
	ck_call(&w, "MULTI", "+OK\r\n");
	ck_leave(&w, false, PROTO_LEAVE_CHECK);
	ck_dialogue(&w, PROTO_CLEAN, NULL, "*1\r\n$7\r\nDISCARD\r\n*1\r\n$7\r\nUNWATCH\r\n", "+OK\r\n+OK\r\n",
		    PROTO_DONE);
	ck_held(&w, ERR_OK);
	ck_leave(&w, false, PROTO_LEAVE_CLEAN);
}
END_TEST

/* ---- WATCH ---- */

START_TEST(watch_holds_until_it_ends)
{
	ck_pass(&w, "WATCH a b", "");
	ck_assert_uint_eq(w.req.flags, PROTO_REQUEST_OWN);
	ck_held(&w, ERR_PIN_WATCH);
	ck_reply(&w, "+OK\r\n", PROTO_REPLY_DONE);
	ck_call(&w, "GET a", "$-1\r\n");
	ck_held(&w, ERR_PIN_WATCH);
	ck_leave(&w, false, PROTO_LEAVE_CHECK);
	ck_pass(&w, "UNWATCH", "");
	ck_held(&w, ERR_PIN_WATCH);
	ck_reply(&w, "+OK\r\n", PROTO_REPLY_DONE);
	ck_held(&w, ERR_OK);
	ck_leave(&w, false, PROTO_LEAVE_CLEAN);
	/* Envoy: without WATCH it is for nobody else to hear. */
	ck_here(&w, "UNWATCH", "+OK\r\n");
	ck_call(&w, "WATCH", "-ERR wrong number of arguments for 'watch' command\r\n");
	ck_held(&w, ERR_OK);
}
END_TEST

START_TEST(a_watch_behind_a_pipelined_exec_counts)
{
	ck_pass(&w, "WATCH a", "");
	ck_pass(&w, "MULTI", "");
	ck_pass(&w, "EXEC", "");
	ck_pass(&w, "WATCH b", "");
	ck_reply(&w, "+OK\r\n", PROTO_REPLY_DONE);
	ck_reply(&w, "+OK\r\n", PROTO_REPLY_DONE);
	ck_reply(&w, "*0\r\n", PROTO_REPLY_DONE);
	ck_held(&w, ERR_PIN_WATCH);
	ck_reply(&w, "+OK\r\n", PROTO_REPLY_DONE);
	ck_held(&w, ERR_PIN_WATCH);
	ck_call(&w, "UNWATCH", "+OK\r\n");
	ck_held(&w, ERR_OK);
}
END_TEST

/* ---- blocking ---- */

static const char *const blocking[] = {
	"BLPOP a 0",
	"BRPOP a 0",
	"BLMOVE a b LEFT LEFT 0",
	"BLMPOP 0 1 a LEFT",
	"BRPOPLPUSH a b 0",
	"BZPOPMIN a 0",
	"BZPOPMAX a 0",
	"BZMPOP 0 1 a MIN",
	"XREAD BLOCK 0 STREAMS a $",
	"xread count 5 block 0 streams a $",
	"XREADGROUP GROUP g c BLOCK 0 STREAMS a >",
	"XREADGROUP GROUP g c COUNT 1 NOACK BLOCK 0 STREAMS a >",
	"XREAD FUTURE STREAMS a $",
};

START_TEST(blocking_commands_are_alone_on_a_connection)
{
	ck_pass(&w, blocking[_i], "");
	ck_assert_uint_eq(w.req.flags, PROTO_REQUEST_OWN);
	ck_held(&w, ERR_PIN_BLOCKING);
	ck_assert(!proto_redis.talk->may_reauth(w.up));
	/* Its client is gone: what it pops must not be lost. */
	ck_leave(&w, true, PROTO_LEAVE_CLOSE);
	ck_reply(&w, "*-1\r\n", PROTO_REPLY_DONE);
	ck_held(&w, ERR_OK);
	ck_leave(&w, false, PROTO_LEAVE_CLEAN);
	/* They don't block in a transaction. */
	ck_call(&w, "MULTI", "+OK\r\n");
	ck_call(&w, blocking[_i], "+QUEUED\r\n");
	ck_assert_uint_eq(w.req.flags, 0);
	ck_call(&w, "EXEC", "*1\r\n*-1\r\n");
	ck_held(&w, ERR_OK);
}
END_TEST

static const char *const not_blocking[] = {
	"XREAD STREAMS block 0",
	"XREAD COUNT 5 STREAMS a $",
	"XREADGROUP GROUP block block STREAMS a >",
	"XREADGROUP GROUP g c NOACK STREAMS a >",
	"LPOP a",
	"ZPOPMIN a",
	"LMPOP 1 a LEFT",
};

START_TEST(what_only_looks_blocking)
{
	ck_pass(&w, not_blocking[_i], "");
	ck_assert_uint_eq(w.req.flags & PROTO_REQUEST_OWN, 0);
	ck_held(&w, ERR_OK);
}
END_TEST

START_TEST(wait_needs_a_connection_of_its_own)
{
	static const struct redis_conf dedicated = {.dedicated = true};

	ck_here(&w, "WAIT 1 0", "-ERR leased: 'WAIT' needs a connection of your own (mode session)\r\n");
	ck_here(&w, "WAITAOF 0 1 0", "-ERR leased: 'WAITAOF' needs a connection of your own (mode session)\r\n");
	ck_call(&w, "MULTI", "+OK\r\n");
	ck_call(&w, "WAIT 1 0", "+QUEUED\r\n");
	reopen(&dedicated);
	ck_pass(&w, "WAIT 1 0", "");
	ck_held(&w, ERR_PIN_BLOCKING);
	ck_leave(&w, true, PROTO_LEAVE_CLOSE);
	ck_reply(&w, ":1\r\n", PROTO_REPLY_DONE);
	ck_held(&w, ERR_OK);
}
END_TEST

/* ---- pub/sub ---- */

#define CONFIRM(type, kind, channel, count) type "3\r\n$" kind "\r\n$1\r\n" channel "\r\n:" count "\r\n"
#define SUB(channel, count)		    CONFIRM("*", "9\r\nsubscribe", channel, count)
#define PSUB(channel, count)		    CONFIRM("*", "10\r\npsubscribe", channel, count)
#define UNSUB(channel, count)		    CONFIRM("*", "11\r\nunsubscribe", channel, count)
#define PUNSUB(channel, count)		    CONFIRM("*", "12\r\npunsubscribe", channel, count)

START_TEST(subscriptions_with_resp2)
{
	ck_pass(&w, "SUBSCRIBE a b", "");
	ck_assert_uint_eq(w.req.flags, PROTO_REQUEST_OWN);
	ck_held(&w, ERR_PIN_SUBSCRIBED);
	ck_reply(&w, SUB("a", "1"), PROTO_REPLY_PART);
	/* published before the second one is confirmed */
	ck_reply(&w, "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhello\r\n", PROTO_REPLY_PUSH);
	ck_reply(&w, SUB("b", "2"), PROTO_REPLY_DONE);
	ck_held(&w, ERR_PIN_SUBSCRIBED);
	ck_assert(!proto_redis.talk->may_reauth(w.up));
	ck_reply(&w, "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhe", PROTO_REPLY_PUSH_PART);
	ck_reply(&w, "llo\r\n", PROTO_REPLY_PUSH);
	ck_pass(&w, "PING", "");
	ck_reply(&w, "*3\r\n$7\r\nmes", PROTO_REPLY_WAIT);
	ck_reply(&w, "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nhello\r\n", PROTO_REPLY_PUSH);
	ck_reply(&w, "*2\r\n$4\r\npong\r\n$0\r\n\r\n", PROTO_REPLY_DONE);
	ck_call(&w, "PSUBSCRIBE c", PSUB("c", "3"));
	ck_reply(&w, "*4\r\n$8\r\npmessage\r\n$1\r\nc\r\n$1\r\nc\r\n$5\r\nhello\r\n", PROTO_REPLY_PUSH);
	/* one of two, which are told apart from patterns */
	ck_pass(&w, "UNSUBSCRIBE", "");
	ck_reply(&w, UNSUB("b", "2"), PROTO_REPLY_PART);
	ck_reply(&w, UNSUB("a", "1"), PROTO_REPLY_DONE);
	ck_held(&w, ERR_PIN_SUBSCRIBED);
	ck_leave(&w, false, PROTO_LEAVE_CHECK);
	ck_call(&w, "PUNSUBSCRIBE c", PUNSUB("c", "0"));
	ck_held(&w, ERR_OK);
	ck_leave(&w, false, PROTO_LEAVE_CLEAN);
	ck_assert(proto_redis.talk->may_reauth(w.up));
	ck_call(&w, "GET a", "$-1\r\n");
}
END_TEST

START_TEST(subscriptions_with_resp3)
{
	say_hello_3();
	ck_pass(&w, "SUBSCRIBE a b", HELLO3);
	ck_reply(&w, IS_HELLO3, PROTO_REPLY_DONE);
	ck_reply(&w, CONFIRM(">", "9\r\nsubscribe", "a", "1"), PROTO_REPLY_PART);
	ck_reply(&w, ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n", PROTO_REPLY_PUSH);
	ck_reply(&w, CONFIRM(">", "9\r\nsubscribe", "b", "2"), PROTO_REPLY_DONE);
	/* everything may be said, a login too */
	ck_assert(proto_redis.talk->may_reauth(w.up));
	ck_pass(&w, "LRANGE a 0 -1", "");
	ck_reply(&w, ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n", PROTO_REPLY_PUSH);
	ck_reply(&w, "*1\r\n$7\r\nmessage\r\n", PROTO_REPLY_DONE);
	ck_pass(&w, "UNSUBSCRIBE a b", "");
	ck_reply(&w, CONFIRM(">", "11\r\nunsubscribe", "a", "1"), PROTO_REPLY_PART);
	ck_reply(&w, CONFIRM(">", "11\r\nunsubscribe", "b", "0"), PROTO_REPLY_DONE);
	ck_held(&w, ERR_OK);
	/* of nothing */
	ck_call(&w, "UNSUBSCRIBE", ">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n");
	ck_held(&w, ERR_OK);
}
END_TEST

START_TEST(shard_subscriptions)
{
	ck_call(&w, "SSUBSCRIBE a", CONFIRM("*", "10\r\nssubscribe", "a", "1"));
	ck_held(&w, ERR_PIN_SUBSCRIBED);
	ck_reply(&w, "*3\r\n$8\r\nsmessage\r\n$1\r\na\r\n$1\r\nx\r\n", PROTO_REPLY_PUSH);
	/* The server gives the slot away. */
	ck_reply(&w, CONFIRM("*", "12\r\nsunsubscribe", "a", "0"), PROTO_REPLY_PUSH);
	ck_held(&w, ERR_OK);
	ck_call(&w, "SSUBSCRIBE a", CONFIRM("*", "10\r\nssubscribe", "a", "1"));
	ck_call(&w, "SUNSUBSCRIBE a", CONFIRM("*", "12\r\nsunsubscribe", "a", "0"));
	ck_held(&w, ERR_OK);
}
END_TEST

START_TEST(a_refused_subscription)
{
	ck_pass(&w, "SUBSCRIBE a b c", "");
	ck_reply(&w, "-NOPERM x\r\n", PROTO_REPLY_DONE);
	ck_held(&w, ERR_OK);
	ck_call(&w, "SUBSCRIBE", "-ERR wrong number of arguments for 'subscribe' command\r\n");
	ck_held(&w, ERR_OK);
	ck_here(&w, "CLIENT ID", ":7\r\n");
}
END_TEST

/* With RESP2 a subscriber may say but little; what is answered here keeps to it. */
START_TEST(a_subscriber_may_say_little)
{
	ck_call(&w, "SUBSCRIBE a", SUB("a", "1"));
	ck_here(&w, "SELECT 0",
		"-ERR Can't execute 'SELECT': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in "
		"this context\r\n");
	ck_assert_int_eq(world_ask(&w, "HELLO 3"), PROTO_ASK_HERE);
	ck_assert_int_eq(w.said[0], '-');
	ck_call(&w, "GET a", "-ERR Can't execute 'get'\r\n");
	ck_call(&w, "UNSUBSCRIBE", UNSUB("a", "0"));
	ck_here(&w, "SELECT 0", "+OK\r\n");
}
END_TEST

START_TEST(a_subscriber_that_left_is_reset)
{
	ck_call(&w, "SUBSCRIBE a", SUB("a", "1"));
	ck_dialogue(&w, PROTO_CLEAN, NULL, "*1\r\n$5\r\nRESET\r\n*1\r\n$4\r\nPING\r\n",
		    "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n+RESET\r\n+PONG\r\n", PROTO_DONE);
	ck_held(&w, ERR_OK);
	ck_leave(&w, false, PROTO_LEAVE_CLEAN);
}
END_TEST

/* ---- other states ---- */

START_TEST(monitor_pins)
{
	ck_pass(&w, "MONITOR", "");
	ck_assert_uint_eq(w.req.flags, PROTO_REQUEST_OWN);
	ck_held(&w, ERR_PIN_MONITOR);
	ck_leave(&w, true, PROTO_LEAVE_CLOSE);
	ck_reply(&w, "+OK\r\n", PROTO_REPLY_DONE);
	ck_reply(&w, "+1700000000.123456 [0 127.0.0.1:5] \"get\" \"a\"\r\n", PROTO_REPLY_PUSH);
	ck_pass(&w, "PING", "");
	ck_reply(&w, "+1700000000.123456 [0 127.0.0.1:5] \"ping\"\r\n", PROTO_REPLY_PUSH);
	ck_reply(&w, "+PONG\r\n", PROTO_REPLY_DONE);
	ck_held(&w, ERR_PIN_MONITOR);
	ck_leave(&w, false, PROTO_LEAVE_CLOSE);
	ck_assert(!proto_redis.talk->may_reauth(w.up));
}
END_TEST

START_TEST(replication_needs_a_connection_of_its_own)
{
	static const struct redis_conf dedicated = {.dedicated = true};
	bool whole;

	ck_here(&w, "SYNC", "-ERR leased: 'SYNC' needs a connection of your own (mode session)\r\n");
	ck_here(&w, "PSYNC ? -1", "-ERR leased: 'PSYNC' needs a connection of your own (mode session)\r\n");
	ck_here(&w, "REPLCONF capa eof", "-ERR leased: 'REPLCONF' needs a connection of your own (mode session)\r\n");
	reopen(&dedicated);
	ck_call(&w, "REPLCONF capa eof", "+OK\r\n");
	ck_held(&w, ERR_PIN_REPLICATION);
	ck_leave(&w, false, PROTO_LEAVE_CLOSE);
	ck_pass(&w, "PSYNC ? -1", "");
	ck_held(&w, ERR_PIN_REPLICATION);
	ck_reply(&w, "+FULLRESYNC x 0\r\n$5\r\nabcdeset", PROTO_REPLY_PART);
	ck_reply(&w, "anything", PROTO_REPLY_PART);
	/* From here on nothing the client says is answered. */
	ck_assert_int_eq(world_ask(&w, "REPLCONF ACK 0"), PROTO_ASK_PASS);
	ck_assert(!w.req.whole);
	ck_assert_uint_eq(proto_redis.talk->client_more(w.cl, (const uint8_t *)"xyz", 3, &whole), 3);
	ck_assert(!whole);
	ck_leave(&w, true, PROTO_LEAVE_CLOSE);
}
END_TEST

START_TEST(client_tracking_pins)
{
	ck_pass(&w, "CLIENT TRACKING ON", "");
	ck_assert_uint_eq(w.req.flags, PROTO_REQUEST_OWN);
	ck_held(&w, ERR_PIN_TRACKING);
	ck_reply(&w, "-ERR Client tracking can be enabled only with RESP3\r\n", PROTO_REPLY_DONE);
	ck_held(&w, ERR_OK);
	ck_assert_int_eq(world_ask(&w, "CLIENT TRACKING ON BCAST REDIRECT 5"), PROTO_ASK_HERE);
	ck_assert_int_eq(
		world_ask(
			&w,
			"CLIENT TRACKING ON BCAST PREFIX 1 PREFIX 2 PREFIX 3 PREFIX 4 PREFIX 5 PREFIX 6 REDIRECT 5"),
		PROTO_ASK_HERE);
	say_hello_3();
	ck_pass(&w, "CLIENT TRACKING ON BCAST", HELLO3);
	ck_reply(&w, IS_HELLO3, PROTO_REPLY_DONE);
	ck_reply(&w, "+OK\r\n", PROTO_REPLY_DONE);
	ck_held(&w, ERR_PIN_TRACKING);
	ck_reply(&w, ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n", PROTO_REPLY_PUSH);
	ck_call(&w, "CLIENT CACHING YES", "-ERR x\r\n");
	ck_call(&w, "CLIENT TRACKINGINFO", "%0\r\n");
	ck_assert(proto_redis.talk->may_reauth(w.up));
	ck_leave(&w, false, PROTO_LEAVE_CHECK);
	ck_call(&w, "CLIENT TRACKING OFF", "+OK\r\n");
	ck_held(&w, ERR_OK);
	ck_call(&w, "CLIENT TRACKING", "-ERR x\r\n");
	ck_held(&w, ERR_OK);
}
END_TEST

START_TEST(state_that_only_a_reset_undoes)
{
	struct script_cred cred = {.username = "app", .password = secret_of("hunter2")};

	ck_pass(&w, "READONLY", "");
	ck_assert_uint_eq(w.req.flags, PROTO_REQUEST_OWN);
	ck_held(&w, ERR_PIN_STATE);
	ck_reply(&w, "-ERR x\r\n", PROTO_REPLY_DONE);
	ck_held(&w, ERR_OK);
	ck_call(&w, "READONLY", "+OK\r\n");
	ck_held(&w, ERR_PIN_STATE);
	ck_leave(&w, false, PROTO_LEAVE_CHECK);
	/* RESET logs out. */
	ck_dialogue(&w, PROTO_CLEAN, &cred,
		    "*1\r\n$5\r\nRESET\r\n*3\r\n$4\r\nAUTH\r\n$3\r\napp\r\n$7\r\nhunter2\r\n*1\r\n$4\r\nPING\r\n",
		    "+RESET\r\n+OK\r\n+PONG\r\n", PROTO_DONE);
	ck_leave(&w, false, PROTO_LEAVE_CLEAN);
}
END_TEST

static const char *const lasting[] = {"CLIENT NO-EVICT ON", "CLIENT NO-TOUCH ON"};

/* Redis 7.0 keeps it over RESET. */
START_TEST(state_that_nothing_undoes)
{
	ck_pass(&w, lasting[_i], "");
	ck_assert_uint_eq(w.req.flags, PROTO_REQUEST_OWN);
	ck_reply(&w, "-ERR x\r\n", PROTO_REPLY_DONE);
	ck_held(&w, ERR_OK);
	ck_leave(&w, false, PROTO_LEAVE_CLEAN);
	ck_call(&w, lasting[_i], "+OK\r\n");
	ck_held(&w, ERR_PIN_STATE);
	ck_leave(&w, false, PROTO_LEAVE_CLOSE);
}
END_TEST

START_TEST(readwrite_ends_readonly)
{
	ck_call(&w, "READONLY", "+OK\r\n");
	ck_held(&w, ERR_PIN_STATE);
	ck_call(&w, "READWRITE", "+OK\r\n");
	ck_held(&w, ERR_OK);
}
END_TEST

START_TEST(asking_holds_for_one_more)
{
	ck_call(&w, "ASKING", "+OK\r\n");
	ck_assert_uint_eq(w.req.flags, PROTO_REQUEST_OWN);
	ck_held(&w, ERR_PIN_STATE);
	ck_assert(!proto_redis.talk->may_reauth(w.up));
	ck_pass(&w, "GET a", "");
	ck_held(&w, ERR_OK);
	ck_reply(&w, "$-1\r\n", PROTO_REPLY_DONE);
	ck_leave(&w, false, PROTO_LEAVE_CLEAN);
	ck_call(&w, "ASKING", "+OK\r\n");
	ck_leave(&w, false, PROTO_LEAVE_CHECK);
}
END_TEST

/* Proves: ISO-7 */
START_TEST(unknown_commands_hold)
{
	static const char *const plain[] = {"JSON.*", "ft.search"};
	struct redis_conf c = {.plain = plain, .n_plain = ARRAY(plain)};

	ck_pass(&w, "FT.SEARCH a", "");
	ck_assert_uint_eq(w.req.flags, PROTO_REQUEST_OWN);
	ck_held(&w, ERR_PIN_UNKNOWN);
	ck_leave(&w, true, PROTO_LEAVE_CLOSE);
	ck_reply(&w, "*0\r\n", PROTO_REPLY_DONE);
	ck_held(&w, ERR_PIN_UNKNOWN);
	ck_leave(&w, false, PROTO_LEAVE_CHECK);
	reopen(&c);
	ck_call(&w, "FT.SEARCH a", "*0\r\n");
	ck_call(&w, "json.get a", "$-1\r\n");
	ck_held(&w, ERR_OK);
	/* A typing mistake is known to the server to be none of its own. */
	ck_call(&w, "GTE a", "-ERR unknown command 'GTE', with args beginning with: 'a' \r\n");
	ck_held(&w, ERR_OK);
	ck_call(&w, "CLIENT FOO", "-ERR unknown subcommand 'FOO'. Try CLIENT HELP.\r\n");
	ck_held(&w, ERR_OK);
	ck_call(&w, "FT.SEARCHX a", "-ERR wrong\r\n");
	ck_held(&w, ERR_PIN_UNKNOWN);
}
END_TEST

static const char *const refused[] = {"CLIENT UNBLOCK 5", "SCRIPT DEBUG YES", "CLIENT CAPA redirect",
				      "CLIENT IMPORT-SOURCE ON"};

START_TEST(what_makes_no_sense_through_a_pool)
{
	ck_assert_int_eq(world_ask(&w, refused[_i]), PROTO_ASK_HERE);
	ck_assert_ptr_nonnull(strstr(w.said, "can't be used through a pool\r\n"));
}
END_TEST

/* State of the server, not of the connection: it is for its ACL, or for deny, to say who may. */
static const char *const passed[] = {
	"CLIENT LIST",
	"CLIENT KILL ID 5",
	"CLIENT PAUSE 100",
	"CLIENT UNPAUSE",
	"SCRIPT LOAD x",
	"EVALSHA x 0",
	"EVAL x 0",
	"FUNCTION LOAD x",
	"SCAN 0",
	"INFO",
	"DBSIZE",
	"CONFIG GET *",
	"COMMAND",
	"COMMAND DOCS",
	"CLUSTER SLOTS",
	"PUBSUB CHANNELS",
	"PUBLISH a b",
	"SPUBLISH a b",
	"ACL LIST",
	"DEBUG OBJECT a",
	"SHUTDOWN",
	"CLIENT GETREDIR",
	"CLIENT HELP",
	"CLIENT",
	"PING",
	"ECHO a",
	"TIME",
	"FAILOVER",
};

START_TEST(what_passes_as_it_is)
{
	ck_pass(&w, passed[_i], "");
	ck_assert_uint_eq(w.req.flags & ~(unsigned)PROTO_REQUEST_AGAIN, 0);
	ck_reply(&w, "-MOVED 5 127.0.0.1:1\r\n", PROTO_REPLY_DONE);
	ck_held(&w, ERR_OK);
	ck_leave(&w, false, PROTO_LEAVE_CLEAN);
}
END_TEST

/* ---- CLIENT ---- */

START_TEST(a_client_has_its_own_name)
{
	void *first;

	ck_here(&w, "CLIENT GETNAME", "$-1\r\n");
	ck_here(&w, "CLIENT SETNAME me", "+OK\r\n");
	ck_here(&w, "CLIENT GETNAME", "$2\r\nme\r\n");
	ck_here(&w, "CLIENT SETNAME a\nb",
		"-ERR Client names cannot contain spaces, newlines or special characters.\r\n");
	ck_here(&w, "CLIENT SETINFO LIB-NAME lib", "+OK\r\n");
	ck_here(&w, "CLIENT SETINFO lib-ver 1.0", "+OK\r\n");
	ck_here(&w, "CLIENT SETINFO foo 1", "-ERR Unrecognized option 'foo'\r\n");
	ck_here(&w, "CLIENT SETINFO LIB-NAME a\tb",
		"-ERR lib-name cannot contain spaces, newlines or special characters.\r\n");
	ck_here(&w, "CLIENT ID", ":7\r\n");
	ck_here(&w, "CLIENT INFO",
		"$72\r\nid=7 name=me db=0 multi=-1 resp=2 lib-name=lib lib-ver=1.0 user=default\n\r\n");
	ck_here(&w, "ACL WHOAMI", "$7\r\ndefault\r\n");
	ck_here(&w, "CLIENT ID x", "-ERR wrong number of arguments for 'client|id' command\r\n");
	ck_here(&w, "CLIENT SETNAME", "-ERR wrong number of arguments for 'client|setname' command\r\n");
	first = world_client(&w, NULL);
	ck_here(&w, "CLIENT GETNAME", "$-1\r\n");
	ck_here(&w, "CLIENT ID", ":8\r\n");
	first = world_client(&w, first);
	proto_redis.talk->client_end(first);
	mem_free(first);
	ck_here(&w, "CLIENT SETNAME ", "+OK\r\n");
	say_hello_3();
	ck_here(&w, "CLIENT GETNAME", "_\r\n");
	ck_here(&w, "CLIENT INFO",
		"=74\r\ntxt:id=7 name= db=0 multi=-1 resp=3 lib-name=lib lib-ver=1.0 user=default\n\r\n");
}
END_TEST

START_TEST(a_name_has_its_limit)
{
	char words[300] = "CLIENT SETNAME ";

	memset(words + 15, 'x', 256);
	ck_here(&w, words, "+OK\r\n");
	words[15 + 256] = 'x';
	ck_here(&w, words, "-ERR leased: a name has at most 256 bytes\r\n");
}
END_TEST

START_TEST(client_reply_is_kept_here)
{
	ck_here(&w, "CLIENT REPLY ON", "+OK\r\n");
	ck_here(&w, "CLIENT REPLY SKIP", "");
	ck_pass(&w, "SET a b", "");
	ck_assert_uint_eq(w.req.flags, PROTO_REQUEST_MUTE);
	ck_pass(&w, "SET a b", "");
	ck_assert_uint_eq(w.req.flags, 0);
	ck_here(&w, "CLIENT REPLY SKIP", "");
	ck_here(&w, "CLIENT ID", "");
	ck_here(&w, "CLIENT ID", ":7\r\n");
	ck_here(&w, "CLIENT REPLY OFF", "");
	ck_here(&w, "CLIENT ID", "");
	ck_here(&w, "CLIENT REPLY SKIP", "");
	ck_here(&w, "SELECT 0", "");
	for (int i = 0; i < 2; i++) {
		ck_pass(&w, "SET a b", "");
		ck_assert_uint_eq(w.req.flags, PROTO_REQUEST_MUTE);
	}
	ck_here(&w, "CLIENT REPLY ON", "+OK\r\n");
	ck_here(&w, "CLIENT REPLY FOO", "-ERR syntax error\r\n");
	ck_pass(&w, "SET a b", "");
	ck_assert_uint_eq(w.req.flags, 0);
}
END_TEST

/* Asking twice about a message that is passed is asking once. */
START_TEST(a_passed_message_changes_nothing_yet)
{
	ck_here(&w, "CLIENT REPLY SKIP", "");
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(world_ask(&w, "MULTI"), PROTO_ASK_PASS);
		ck_assert_uint_eq(w.req.flags, PROTO_REQUEST_MUTE | PROTO_REQUEST_OWN);
	}
	ck_here(&w, "EXEC", "");
}
END_TEST

/* ---- RESET, QUIT ---- */

START_TEST(reset_gives_the_connection_back)
{
	ck_call(&w, "SELECT 1", "+OK\r\n");
	say_hello_3();
	ck_here(&w, "CLIENT SETNAME me", "+OK\r\n");
	ck_here(&w, "CLIENT REPLY OFF", "");
	ck_pass(&w, "MULTI", HELLO3);
	ck_reply(&w, IS_HELLO3, PROTO_REPLY_DONE);
	ck_reply(&w, "+OK\r\n", PROTO_REPLY_DONE);
	ck_here(&w, "RESET", "+RESET\r\n");
	ck_assert_uint_eq(w.req.flags, PROTO_REQUEST_LEAVE);
	ck_leave(&w, false, PROTO_LEAVE_CHECK);
	ck_dialogue(&w, PROTO_CLEAN, NULL, "*1\r\n$7\r\nDISCARD\r\n", "+OK\r\n", PROTO_DONE);
	ck_here(&w, "CLIENT GETNAME", "$-1\r\n");
	ck_here(&w, "EXEC", "-ERR EXEC without MULTI\r\n");
	ck_pass(&w, "GET a", HELLO2 SELECT0);
	ck_here(&w, "RESET x", "-ERR wrong number of arguments for 'reset' command\r\n");
}
END_TEST

START_TEST(quit_never_reaches_a_server)
{
	ck_assert_int_eq(world_ask(&w, "QUIT"), PROTO_ASK_LAST);
	ck_assert_str_eq(w.said, "+OK\r\n");
	ck_call(&w, "MULTI", "+OK\r\n");
	ck_assert_int_eq(world_ask(&w, "quit now"), PROTO_ASK_LAST);
}
END_TEST

/* ---- who may ---- */

START_TEST(nobody_has_to_log_in)
{
	ck_here(&w, "AUTH x", "+OK\r\n");
	ck_here(&w, "AUTH u x", "+OK\r\n");
	ck_here(&w, "AUTH", "-ERR wrong number of arguments for 'auth' command\r\n");
	ck_here(&w, "AUTH a b c", "-ERR syntax error\r\n");
}
END_TEST

/* Every pair of a name and a password: who is let in as whom. Proves: M12 */
START_TEST(users_log_in_here)
{
	struct redis_user users[] = {{"default", secret_of("d"), -1},
				     {"alice", secret_of("secret"), -1},
				     {"bob", NULL, 5},
				     {"alice", secret_of("older"), -1}};
	struct redis_conf c = {.users = users, .n_users = ARRAY(users)};
	static const struct {
		const char *words, *who;
	} tries[] = {
		{"AUTH d", "default"},
		{"AUTH default d", "default"},
		{"AUTH alice secret", "alice"},
		{"AUTH alice older", "alice"},
		{"AUTH alice d", NULL},
		{"AUTH default secret", NULL},
		{"AUTH secret", NULL},
		{"AUTH bob d", NULL},
		{"AUTH bob ", NULL},
		{"AUTH carol d", NULL},
		{"AUTH alice secre", NULL},
		{"AUTH alice secrets", NULL},
		{"AUTH ALICE secret", NULL},
		{"AUTH ", NULL},
		{"AUTH alic secret", NULL},
		{"HELLO 2 AUTH alice secret", "alice"},
		{"HELLO 3 AUTH alice d", NULL},
	};

	reopen(&c);
	ck_here(&w, "GET a", "-NOAUTH Authentication required.\r\n");
	ck_here(&w, "FOO", "-NOAUTH Authentication required.\r\n");
	ck_here(&w, "MULTI", "-NOAUTH Authentication required.\r\n");
	ck_assert_int_eq(world_ask(&w, "HELLO 3"), PROTO_ASK_HERE);
	ck_assert_msg(!strncmp(w.said, "-NOAUTH HELLO must be called", 28), "%s", w.said);
	for (size_t i = 0; i < ARRAY(tries); i++) {
		char who[64];

		ck_here(&w, "RESET", "+RESET\r\n");
		ck_assert_int_eq(world_ask(&w, tries[i].words), PROTO_ASK_HERE);
		if (!tries[i].who) {
			ck_assert_str_eq(w.said,
					 "-WRONGPASS invalid username-password pair or user is disabled.\r\n");
			ck_here(&w, "GET a", "-NOAUTH Authentication required.\r\n");
			continue;
		}
		ck_assert_int_ne(w.said[0], '-');
		snprintf(who, sizeof(who), "$%zu\r\n%s\r\n", strlen(tries[i].who), tries[i].who);
		ck_here(&w, "ACL WHOAMI", who);
		/* A wrong try afterwards takes nothing away. */
		ck_here(&w, "AUTH wrong", "-WRONGPASS invalid username-password pair or user is disabled.\r\n");
		ck_here(&w, "ACL WHOAMI", who);
	}
	ck_here(&w, "RESET", "+RESET\r\n");
	ck_assert_int_eq(world_ask(&w, "QUIT"), PROTO_ASK_LAST);
}
END_TEST

START_TEST(a_peer_is_known_by_its_uid)
{
	struct redis_user users[] = {{"alice", secret_of("secret"), 5}, {"bob", NULL, 6}};
	struct redis_conf c = {.users = users, .n_users = ARRAY(users)};
	static const struct {
		int64_t uid;
		const char *who;
	} peers[] = {{5, "$5\r\nalice\r\n"},
		     {6, "$3\r\nbob\r\n"},
		     {7, "-NOAUTH Authentication required.\r\n"},
		     {-1, "-NOAUTH Authentication required.\r\n"},
		     {0, "-NOAUTH Authentication required.\r\n"}};

	reopen(&c);
	for (size_t i = 0; i < ARRAY(peers); i++) {
		proto_redis.talk->greet(w.cl, w.c, w.pool, 7, peers[i].uid, &w.out);
		ck_here(&w, "ACL WHOAMI", peers[i].who);
		ck_here(&w, "RESET", "+RESET\r\n");
		ck_here(&w, "ACL WHOAMI", peers[i].who);
	}
}
END_TEST

/* Proves: M15 */
START_TEST(strangers_are_kept_short)
{
	struct redis_user users[] = {{"alice", secret_of("secret"), -1}};
	struct redis_conf c = {.users = users, .n_users = ARRAY(users)};
	static const struct {
		const char *request;
		enum proto_ask ask;
		const char *answer;
	} tries[] = {
		{"*11\r\n", PROTO_ASK_LAST, "-ERR Protocol error: unauthenticated multibulk length\r\n"},
		{"*10\r\n", PROTO_ASK_MORE, ""},
		{"*2\r\n$4\r\nAUTH\r\n$16385\r\n", PROTO_ASK_LAST,
		 "-ERR Protocol error: unauthenticated bulk length\r\n"},
		{"*2\r\n$4\r\nAUTH\r\n$16384\r\n", PROTO_ASK_MORE, ""},
		{"*1\r\n$1000000000\r\n", PROTO_ASK_LAST, "-ERR Protocol error: invalid bulk length\r\n"},
	};

	reopen(&c);
	for (size_t i = 0; i < ARRAY(tries); i++) {
		ck_assert_int_eq(world_ask_bytes(&w, tries[i].request, strlen(tries[i].request)), tries[i].ask);
		ck_assert_str_eq(w.said, tries[i].answer);
	}
}
END_TEST

START_TEST(deny_by_name_and_category)
{
	static const char *const deny[] = {"FLUSHALL", "config SET", "@dangerous", "SCRIPT", "@connection"};
	struct redis_conf c = {.deny = deny, .n_deny = ARRAY(deny)};
	static const struct {
		const char *words;
		bool denied;
	} tries[] = {
		{"flushall", true}, {"FLUSHDB", true},	   {"CONFIG SET a b", true}, {"CONFIG GET a", true},
		{"KEYS *", true},   {"SCRIPT LOAD", true}, {"SCRIPT FOO", true},     {"SCRIPT", true},
		{"INFO", true},	    {"GET a", false},	   {"CLIENT ID", true},	     {"SELECT 0", true},
		{"PING", true},	    {"DEL a", false},	   {"CLIENT FOO", false},
	};

	reopen(&c);
	for (size_t i = 0; i < ARRAY(tries); i++) {
		enum proto_ask ask = world_ask(&w, tries[i].words);

		ck_assert_msg((ask == PROTO_ASK_HERE) == tries[i].denied, "%s", tries[i].words);
		if (tries[i].denied)
			ck_assert_msg(!strncmp(w.said, "-NOPERM this user has no permissions to run the '", 49), "%s",
				      w.said);
	}
	/* Who may use the pool has to be able to say who he is. */
	ck_here(&w, "AUTH x", "+OK\r\n");
	ck_here(&w, "RESET", "+RESET\r\n");
	ck_call(&w, "MULTI", "+OK\r\n");
	ck_assert_int_eq(world_ask(&w, "FLUSHALL"), PROTO_ASK_HERE);
	ck_pass(&w, "EXEC", "*1\r\n$3\r\nGET\r\n");
}
END_TEST

START_TEST(deny_names_must_exist)
{
	static const char *const wrong[] = {"FLUSHAL", "@danger", "CONFIG FOO", "", "@", "CONFIG "};

	for (size_t i = 0; i < ARRAY(wrong); i++) {
		const char *const deny[] = {"GET", wrong[i]};
		struct redis_conf c = {.deny = deny, .n_deny = 2};
		const char *bad;

		ck_assert_ptr_null(redis_conf_new(&c, &bad));
		ck_assert_ptr_eq(bad, wrong[i]);
	}
}
END_TEST

/* ---- bytes of clients ---- */

static const struct {
	const char *request;
	enum proto_ask ask;
	const char *answer;
} oddities[] = {
	{"\r\n", PROTO_ASK_HERE, ""},
	{"*0\r\n", PROTO_ASK_HERE, ""},
	{"*-1\r\n", PROTO_ASK_HERE, ""},
	{"PING\r\n", PROTO_ASK_PASS, ""},
	{"ping \"a b\"\n", PROTO_ASK_PASS, ""},
	{"CLIENT SETNAME 'it\\'s'\r\n", PROTO_ASK_HERE, "+OK\r\n"},
	{"CLIENT  \t SETNAME \"\\x41\\x62\"\r\n", PROTO_ASK_HERE, "+OK\r\n"},
	{"PING \"a", PROTO_ASK_MORE, ""},
	{"PING \"a\r\n", PROTO_ASK_LAST, "-ERR Protocol error: unbalanced quotes in request\r\n"},
	{"PING \"a\"b\r\n", PROTO_ASK_LAST, "-ERR Protocol error: unbalanced quotes in request\r\n"},
	{"POST / HTTP/1.1\r\n", PROTO_ASK_LAST, "-ERR leased: this is Redis, not HTTP\r\n"},
	{"Host: localhost\r\n", PROTO_ASK_LAST, "-ERR leased: this is Redis, not HTTP\r\n"},
	{"*1\r\nPING\r\n", PROTO_ASK_LAST, "-ERR Protocol error: expected '$'\r\n"},
	{"*1\r\n$4\r\nPINGxx", PROTO_ASK_LAST, "-ERR Protocol error: expected CR LF behind a bulk\r\n"},
	{"*x\r\n", PROTO_ASK_LAST, "-ERR Protocol error: invalid multibulk length\r\n"},
	{"*1048577\r\n", PROTO_ASK_LAST, "-ERR Protocol error: invalid multibulk length\r\n"},
	{"*1\r\n$-1\r\n", PROTO_ASK_LAST, "-ERR Protocol error: invalid bulk length\r\n"},
	{"*1\r\n$536870913\r\n", PROTO_ASK_LAST, "-ERR Protocol error: invalid bulk length\r\n"},
	{"*1\r\n$01\r\n", PROTO_ASK_LAST, "-ERR Protocol error: invalid bulk length\r\n"},
};

START_TEST(odd_requests)
{
	ck_assert_int_eq(world_ask_bytes(&w, oddities[_i].request, strlen(oddities[_i].request)), oddities[_i].ask);
	ck_assert_str_eq(w.said, oddities[_i].answer);
	if (oddities[_i].ask != PROTO_ASK_MORE)
		ck_assert_uint_eq(w.req.len, strlen(oddities[_i].request));
}
END_TEST

/* The server's strchr() would not see the end of such a line, and take the next request for the rest of it. */
START_TEST(nul_in_an_inline_request)
{
	ck_assert_int_eq(world_ask_bytes(&w, "PING\0\r\n", 7), PROTO_ASK_LAST);
	ck_assert_int_eq(world_ask_bytes(&w, "PI\0", 3), PROTO_ASK_LAST);
}
END_TEST

/* A request of n bytes, the last argument of which fills it up. */
static size_t big_request(uint8_t *to, size_t n, const char *head)
{
	size_t len = strlen(head), digits;
	char number[32];

	for (digits = 1;; digits++) {
		size_t body = n - len - digits - 5;

		if ((size_t)snprintf(number, sizeof(number), "%zu", body) == digits) {
			snprintf((char *)to, n, "%s$%s\r\n", head, number);
			memset(to + len + digits + 3, 'x', body);
			to[n - 2] = '\r';
			to[n - 1] = '\n';
			return n;
		}
	}
}

START_TEST(a_request_longer_than_a_head)
{
	static uint8_t request[40000];
	size_t n = big_request(request, sizeof(request), "*3\r\n$3\r\nSET\r\n$1\r\na\r\n");
	bool whole;

	ck_assert_int_eq(world_ask_bytes(&w, request, PROTO_HEAD_MAX - 1), PROTO_ASK_MORE);
	ck_assert_int_eq(world_ask_bytes(&w, request, n), PROTO_ASK_PASS);
	ck_assert(w.req.whole);
	ck_assert_uint_eq(w.req.len, n);
	for (size_t cut = PROTO_HEAD_MAX; cut < n; cut += 7777) {
		ck_assert_int_eq(world_ask_bytes(&w, request, cut), PROTO_ASK_PASS);
		ck_assert(!w.req.whole);
		ck_assert_uint_eq(w.req.len, cut);
		ck_assert_uint_eq(w.req.flags, PROTO_REQUEST_OWN);
		for (size_t i = cut; i < n; i++) {
			ck_assert_uint_eq(proto_redis.talk->client_more(w.cl, request + i, 1, &whole), 1);
			ck_assert_int_eq(whole, i + 1 == n);
		}
	}
	/* the next one begins where this one ends */
	ck_assert_int_eq(world_ask_bytes(&w, request, PROTO_HEAD_MAX), PROTO_ASK_PASS);
	ck_assert_uint_eq(proto_redis.talk->client_more(w.cl, request + PROTO_HEAD_MAX, n - PROTO_HEAD_MAX, &whole),
			  n - PROTO_HEAD_MAX);
	ck_assert(whole);
	/* its end is not what was announced */
	request[n - 1] = 'x';
	ck_assert_int_eq(world_ask_bytes(&w, request, PROTO_HEAD_MAX), PROTO_ASK_PASS);
	ck_assert_uint_eq(proto_redis.talk->client_more(w.cl, request + PROTO_HEAD_MAX, n - PROTO_HEAD_MAX, &whole),
			  0);
}
END_TEST

static const struct {
	const char *head;
	enum proto_ask ask;
	unsigned flags;
} long_requests[] = {
	{"*3\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n", PROTO_ASK_PASS, PROTO_REQUEST_OWN},
	{"*2\r\n$5\r\nWATCH\r\n", PROTO_ASK_PASS, PROTO_REQUEST_OWN},
	{"*2\r\n$5\r\nXREAD\r\n", PROTO_ASK_PASS, PROTO_REQUEST_OWN},
	{"*2\r\n$6\r\nCONFIG\r\n", PROTO_ASK_PASS, PROTO_REQUEST_OWN},
	{"*2\r\n$4\r\nAUTH\r\n", PROTO_ASK_LAST, 0},
	{"*2\r\n$5\r\nHELLO\r\n", PROTO_ASK_LAST, 0},
	{"*2\r\n$6\r\nSELECT\r\n", PROTO_ASK_LAST, 0},
	{"*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n", PROTO_ASK_LAST, 0},
	{"*4\r\n$6\r\nCLIENT\r\n$8\r\nTRACKING\r\n$2\r\nON\r\n", PROTO_ASK_LAST, 0},
	{"*1\r\n", PROTO_ASK_LAST, 0},
	{"FOO ", PROTO_ASK_LAST, 0},
};

START_TEST(long_requests_that_matter)
{
	static uint8_t request[20000];

	big_request(request, sizeof(request), long_requests[_i].head);
	if (long_requests[_i].head[0] != '*')
		memset(request + 4, 'x', sizeof(request) - 4);
	ck_assert_int_eq(world_ask_bytes(&w, request, PROTO_HEAD_MAX), long_requests[_i].ask);
	if (long_requests[_i].ask == PROTO_ASK_PASS)
		ck_assert_uint_eq(w.req.flags, long_requests[_i].flags);
	else
		ck_assert_int_eq(w.said[0], '-');
}
END_TEST

/* ---- errors of servers ---- */

#define NOAUTH "-NOAUTH Authentication required.\r\n"

/* Proves: ISO-11 */
START_TEST(a_request_that_was_not_run_is_said_again)
{
	static const char *const requests[] = {"GET a",	      "MULTI", "BLPOP a 0", "WATCH a",
					       "SUBSCRIBE a", "FOO",   "ASKING",    "EVAL x 0"};

	for (size_t i = 0; i < ARRAY(requests); i++) {
		ck_pass(&w, requests[i], "");
		ck_reply(&w, NOAUTH, PROTO_REPLY_NOT_RUN);
		ck_held(&w, i == 6 ? ERR_PIN_STATE : ERR_OK);
		ck_pass(&w, "GET a", "");
		ck_reply(&w, "$-1\r\n", PROTO_REPLY_DONE);
		ck_here(&w, "RESET", "+RESET\r\n");
	}
	/* What only begins like it may come from a script that has run. */
	ck_call(&w, "GET a", "-NOAUTH Authentication required by my script\r\n");
}
END_TEST

START_TEST(what_is_said_again_is_said_as_it_was_meant)
{
	struct proto_request get, multi;
	uint32_t ahead[PROTO_AHEAD_MAX];

	ck_call(&w, "SELECT 1", "+OK\r\n");
	ck_pass(&w, "GET a", "");
	get = w.req;
	ck_here(&w, "SELECT 0", "+OK\r\n");
	ck_pass(&w, "MULTI", SELECT0);
	multi = w.req;
	ck_pass(&w, "EXEC", "");
	ck_reply(&w, NOAUTH, PROTO_REPLY_NOT_RUN);
	ck_reply(&w, NOAUTH, PROTO_REPLY_DONE); /* of the SELECT ahead */
	ck_reply(&w, NOAUTH, PROTO_REPLY_NOT_RUN);
	ck_reply(&w, NOAUTH, PROTO_REPLY_NOT_RUN);
	ck_held(&w, ERR_OK);
	ck_assert_uint_eq(proto_redis.talk->pass(w.cl, w.up, &get, &w.out, ahead), 1);
	ck_assert_uint_eq(proto_redis.talk->pass(w.cl, w.up, &multi, &w.out, ahead), 1);
	w.said[buf_copy(&w.out, w.said, sizeof(w.said) - 1)] = '\0';
	buf_clear(&w.out);
	ck_assert_str_eq(w.said, SELECT1 SELECT0);
	ck_held(&w, ERR_PIN_TRANSACTION);
}
END_TEST

/* There the server has given up what was queued. */
START_TEST(noauth_in_a_transaction_is_for_the_client)
{
	ck_call(&w, "MULTI", "+OK\r\n");
	ck_call(&w, "GET a", NOAUTH);
	ck_call(&w, "EXEC", "-EXECABORT x\r\n");
	ck_held(&w, ERR_OK);
}
END_TEST

START_TEST(readonly_means_the_wrong_server)
{
	ck_call(&w, "SET a b", "-LOADING x\r\n");
	ck_call(&w, "SET a b", "-MASTERDOWN x\r\n");
	ck_leave(&w, false, PROTO_LEAVE_CLEAN);
	ck_call(&w, "SET a b", "-READONLY You can't write against a read only replica.\r\n");
	ck_held(&w, ERR_OK);
	ck_leave(&w, false, PROTO_LEAVE_WRONG);
}
END_TEST

START_TEST(failures_in_the_words_of_the_protocol)
{
	static const struct {
		enum err why;
		const char *text, *want;
	} cases[] = {
		{ERR_ALL_DOWN, NULL, "-ERR leased: all servers are down\r\n"},
		{ERR_LEASE_TIMEOUT, "", "-ERR leased: timed out waiting for a connection\r\n"},
		{ERR_DENIED, "WRONGPASS invalid\r\nx", "-WRONGPASS invalid??x\r\n"},
		{ERR_LOGIN_FAILED, "something", "-ERR leased: something\r\n"},
	};

	for (size_t i = 0; i < ARRAY(cases); i++) {
		(proto_redis.talk->fail)(w.cl, cases[i].why, cases[i].text, &w.out);
		w.said[buf_copy(&w.out, w.said, sizeof(w.said) - 1)] = '\0';
		buf_clear(&w.out);
		ck_assert_str_eq(w.said, cases[i].want);
	}
}
END_TEST

/* ---- what an attribute and a push do ---- */

START_TEST(attributes_belong_to_what_follows)
{
	ck_pass(&w, "GET a", "");
	ck_reply(&w, "|1\r\n+ttl\r\n:5\r\n", PROTO_REPLY_PART);
	ck_reply(&w, "$1\r\na\r\n", PROTO_REPLY_DONE);
	ck_pass(&w, "GET a", "");
	ck_reply(&w, "|1\r\n+ttl\r\n", PROTO_REPLY_PART);
	ck_reply(&w, ":5\r\n", PROTO_REPLY_PART);
	ck_reply(&w, "-ERR x\r\n", PROTO_REPLY_DONE);
}
END_TEST

START_TEST(a_client_that_is_gone)
{
	void *cl = w.cl;

	ck_pass(&w, "MULTI", "");
	ck_pass(&w, "EXEC", "");
	ck_pass(&w, "SUBSCRIBE a", "");
	w.cl = NULL;
	ck_reply(&w, "-NOPERM x\r\n", PROTO_REPLY_DONE);
	ck_reply(&w, "-ERR x\r\n", PROTO_REPLY_DONE);
	ck_reply(&w, SUB("a", "1"), PROTO_REPLY_DONE);
	ck_reply(&w, "*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n", PROTO_REPLY_PUSH);
	w.cl = cl;
	ck_leave(&w, false, PROTO_LEAVE_CHECK);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("redis");
	TCase *t = tcase_create("talk");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_plain_command_passes);
	tcase_add_test(t, a_reply_too_many_breaks);
	tcase_add_test(t, a_large_reply_comes_in_parts);
	tcase_add_test(t, select_is_virtual);
	tcase_add_test(t, a_refused_select_changes_nothing);
	tcase_add_test(t, a_database_belongs_to_its_client);
	tcase_add_test(t, a_select_ahead_that_fails_breaks);
	tcase_add_test(t, hello_switches_the_version);
	tcase_add_test(t, hello_says_what_is_wrong);
	tcase_add_test(t, a_server_without_hello_speaks_resp2);
	tcase_add_test(t, hello_before_any_login);
	tcase_add_test(t, multi_holds_until_exec);
	tcase_add_loop_test(t, every_end_of_a_transaction, 0, ARRAY(multi_ends));
	tcase_add_test(t, pipelined_transactions);
	tcase_add_test(t, select_behind_a_pipelined_exec);
	tcase_add_test(t, multi_that_is_refused);
	tcase_add_test(t, wrong_arity_does_not_end_a_transaction);
	tcase_add_test(t, an_exec_in_doubt_is_cleaned);
	tcase_add_test(t, select_in_a_transaction_applies_at_its_end);
	tcase_add_test(t, select_in_a_discarded_transaction);
	tcase_add_test(t, select_of_an_unknown_database_in_a_transaction);
	tcase_add_loop_test(t, what_can_not_be_queued_spoils_the_transaction, 0, ARRAY(not_queued));
	tcase_add_test(t, an_abandoned_transaction_is_discarded);
	tcase_add_test(t, watch_holds_until_it_ends);
	tcase_add_test(t, a_watch_behind_a_pipelined_exec_counts);
	tcase_add_loop_test(t, blocking_commands_are_alone_on_a_connection, 0, ARRAY(blocking));
	tcase_add_loop_test(t, what_only_looks_blocking, 0, ARRAY(not_blocking));
	tcase_add_test(t, wait_needs_a_connection_of_its_own);
	tcase_add_test(t, subscriptions_with_resp2);
	tcase_add_test(t, subscriptions_with_resp3);
	tcase_add_test(t, shard_subscriptions);
	tcase_add_test(t, a_refused_subscription);
	tcase_add_test(t, a_subscriber_may_say_little);
	tcase_add_test(t, a_subscriber_that_left_is_reset);
	tcase_add_test(t, monitor_pins);
	tcase_add_test(t, replication_needs_a_connection_of_its_own);
	tcase_add_test(t, client_tracking_pins);
	tcase_add_test(t, state_that_only_a_reset_undoes);
	tcase_add_loop_test(t, state_that_nothing_undoes, 0, ARRAY(lasting));
	tcase_add_test(t, readwrite_ends_readonly);
	tcase_add_test(t, asking_holds_for_one_more);
	tcase_add_test(t, unknown_commands_hold);
	tcase_add_loop_test(t, what_makes_no_sense_through_a_pool, 0, ARRAY(refused));
	tcase_add_loop_test(t, what_passes_as_it_is, 0, ARRAY(passed));
	tcase_add_test(t, a_client_has_its_own_name);
	tcase_add_test(t, a_name_has_its_limit);
	tcase_add_test(t, client_reply_is_kept_here);
	tcase_add_test(t, a_passed_message_changes_nothing_yet);
	tcase_add_test(t, reset_gives_the_connection_back);
	tcase_add_test(t, quit_never_reaches_a_server);
	tcase_add_test(t, nobody_has_to_log_in);
	tcase_add_test(t, users_log_in_here);
	tcase_add_test(t, a_peer_is_known_by_its_uid);
	tcase_add_test(t, strangers_are_kept_short);
	tcase_add_test(t, deny_by_name_and_category);
	tcase_add_test(t, deny_names_must_exist);
	tcase_add_loop_test(t, odd_requests, 0, ARRAY(oddities));
	tcase_add_test(t, nul_in_an_inline_request);
	tcase_add_test(t, a_request_longer_than_a_head);
	tcase_add_loop_test(t, long_requests_that_matter, 0, ARRAY(long_requests));
	tcase_add_test(t, a_request_that_was_not_run_is_said_again);
	tcase_add_test(t, what_is_said_again_is_said_as_it_was_meant);
	tcase_add_test(t, noauth_in_a_transaction_is_for_the_client);
	tcase_add_test(t, readonly_means_the_wrong_server);
	tcase_add_test(t, failures_in_the_words_of_the_protocol);
	tcase_add_test(t, attributes_belong_to_what_follows);
	tcase_add_test(t, a_client_that_is_gone);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
