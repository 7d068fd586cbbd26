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

static void setup(void)
{
	world_open(&w, NULL);
}

static void teardown(void)
{
	world_close(&w);
}

#define SELECT1 "*2\r\n$6\r\nSELECT\r\n$1\r\n1\r\n"
#define SELECT0 "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"
#define HELLO2	"*2\r\n$5\r\nHELLO\r\n$1\r\n2\r\n"
#define HELLO3	"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n"

START_TEST(a_plain_command_passes)
{
	ck_call(&w, "SET a b", "+OK\r\n");
	ck_call(&w, "GET a", "$1\r\nb\r\n");
	ck_held(&w, ERR_OK);
	ck_leave(&w, false, PROTO_LEAVE_CLEAN);
}
END_TEST

START_TEST(select_is_virtual)
{
	/* The first one asks the server whether there is such a database. */
	ck_pass(&w, "SELECT 1", "");
	ck_assert(w.req.flags & PROTO_REQUEST_ALONE);
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
	ck_here(&w, "SELECT -1", "-ERR DB index is out of range\r\n");
	ck_here(&w, "SELECT 99999999", "-ERR DB index is out of range\r\n");
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
	tcase_add_test(t, select_is_virtual);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
