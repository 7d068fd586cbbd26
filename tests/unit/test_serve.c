/* One service with real sockets: what passes from side to side, who gets a connection next, and how each end ends. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "unit/serve_world.h"

#define BULK  (1u << 20) /* most of it waits for a reader that is deaf */
#define FLOOD (8u << 20) /* more than the buffers of four sockets and a pipe hold */

static void reuse_on_idle(void)
{
	sv.tcp.on_return = PROTO_RETURN_QUIET;
}

static void reuse_script(void)
{
	sv.tcp.on_return = PROTO_RETURN_CLEAN;
	sv.check = sv_script("ready\n", "yes");
}

static const struct stat *stats(void)
{
	return pool_stat(service_pool(sv.svc));
}

/* A client with a connection of its own: bytes have gone both ways. */
static void meet(struct peer **c, struct peer **s, size_t i)
{
	*c = sv_client();
	sv_send(*c, 10);
	*s = sv_server(i);
	SV_UNTIL((*s)->got == 10);
	sv_send(*s, 20);
	SV_UNTIL((*c)->got == 20);
}

/* The same, and the client leaves in good order. */
static void one_visit(size_t server)
{
	struct peer *c, *s;

	if (server < sv.n_servers) /* patterns begin anew with each client */
		sv.servers[server].got = sv.servers[server].sent = sv.servers[server].to_send = 0;
	meet(&c, &s, server);
	sv_close(c);
}

/* ---- the matrix: who ends first, how, with how much under way, for each way to reuse ---- */

enum ending { CLIENT_FIN, CLIENT_RESET, SERVER_FIN, SERVER_RESET, ENDINGS };

struct cell {
	enum proto_return reuse;
	enum lease_on lease_on;
	enum ending ending;
	size_t up, down; /* bytes under way when the end comes */
};

static void cell_start(const struct cell *m)
{
	sv_set_up();
	if (m->ending == CLIENT_FIN || m->ending == SERVER_FIN) /* a Unix socket knows no reset */
		sv_over_unix();
	if (m->reuse == PROTO_RETURN_QUIET)
		reuse_on_idle();
	else if (m->reuse == PROTO_RETURN_CLEAN)
		reuse_script();
	sv.opts.lease_on = m->lease_on;
	sv.opts.half_close_timeout_us = 2 * SEC;
	sv_start();
}

static void cell_client_fin(const struct cell *m, struct peer *c, struct peer *s)
{
	bool passed_on = m->reuse == PROTO_RETURN_CLOSE;

	s->verse = 11 + m->up;
	s->answer = "yes\n";
	c->fin_when_out = true;
	sv_send(c, m->up + 1); /* a request without an answer */
	if (m->up > 0)
		sv_listen_to(s);
	SV_UNTIL(s->got == 11 + m->up && (!passed_on || s->end == ERR_EOF));
	s->fin_when_out = passed_on;
	sv_send(s, m->down + 1);
	sv_listen_to(c);
	SV_UNTIL(c->end != ERR_OK);
	ck_assert_int_eq(c->end, ERR_EOF);
	ck_assert_uint_eq(c->got, 20 + m->down + 1);
	SV_UNTIL(sv_in(UP_LEASED) + sv_in(UP_CLEANING) == 0);
	ck_assert_uint_eq(sv_in(UP_IDLE), passed_on ? 0 : 1);
	ck_assert_int_eq(s->end, passed_on ? ERR_EOF : ERR_OK);
	ck_assert_str_eq(s->words, m->reuse == PROTO_RETURN_CLEAN ? "ready\n" : "");
}

static void cell_server_fin(const struct cell *m, struct peer *c, struct peer *s)
{
	s->fin_when_out = true;
	sv_send(s, m->down);
	sv_listen_to(c);
	SV_UNTIL(c->end != ERR_OK);
	ck_assert_int_eq(c->end, ERR_EOF);
	ck_assert_uint_eq(c->got, 20 + m->down);
	if (m->reuse == PROTO_RETURN_CLOSE) { /* the other direction goes on */
		c->fin_when_out = true;
		sv_send(c, m->up);
		sv_listen_to(s);
		SV_UNTIL(s->end != ERR_OK);
		ck_assert_int_eq(s->end, ERR_EOF);
		ck_assert_uint_eq(s->got, 10 + m->up);
	}
	SV_UNTIL(sv_in(UP_LEASED) == 0);
	ck_assert_uint_eq(sv_in(UP_IDLE), 0);
}

static void cell_reset(const struct cell *m, struct peer *c, struct peer *s)
{
	struct peer *dead = m->ending == CLIENT_RESET ? c : s, *other = dead == c ? s : c;

	sv_send(c, m->up);
	sv_send(s, m->down);
	sv_pass(2 * MS);
	sv_abort(dead);
	sv_listen_to(other);
	SV_UNTIL(other->end != ERR_OK);
	SV_UNTIL(sv_in(UP_LEASED) + sv_in(UP_CLEANING) == 0);
	ck_assert_uint_eq(sv_in(UP_IDLE), 0);
	for (int i = 0; i < CLIENT_STATES; i++)
		ck_assert_uint_eq(service_count(sv.svc, (enum client_state)i), 0);
}

static void cell_run(const struct cell *m)
{
	struct peer *c, *s;

	cell_start(m);
	meet(&c, &s, 0);
	if (m->down > 0)
		sv_deafen(c);
	if (m->up > 0)
		sv_deafen(s);
	if (m->ending == CLIENT_FIN)
		cell_client_fin(m, c, s);
	else if (m->ending == SERVER_FIN)
		cell_server_fin(m, c, s);
	else
		cell_reset(m, c, s);
	sv_tear_down();
}

/* Proves: F:C4 F:C5 F:U4 F:U5 ISO-2 */
START_TEST(every_end_delivers_what_was_under_way)
{
	static const size_t sizes[] = {0, 3000, BULK};
	struct cell m = {.ending = (enum ending)(_i % ENDINGS), .reuse = (enum proto_return)(_i / ENDINGS)};

	bool reset = m.ending == CLIENT_RESET || m.ending == SERVER_RESET;
	size_t most = reset ? 2 : 3; /* TCP takes its time with a peer that was deaf */

	for (int first_byte = 0; first_byte < 2; first_byte++)
		for (size_t up = 0; up < most; up++)
			for (size_t down = 0; down < most; down++) {
				m.lease_on = first_byte ? LEASE_ON_FIRST_BYTE : LEASE_ON_CONNECT;
				m.up = sizes[up];
				m.down = sizes[down];
				cell_run(&m);
			}
}
END_TEST

/* The client has closed its sending direction and reads its answer slowly, with pauses longer than quiet_time.
 * Proves: F:C4 ISO-2 */
START_TEST(slow_reader_of_a_half_closed_session_gets_all)
{
	struct peer *c, *s;

	reuse_on_idle();
	sv_over_unix();
	sv_start();
	meet(&c, &s, 0);
	sv_deafen(c);
	c->fin_when_out = true;
	sv_send(c, 5);
	SV_UNTIL(s->got == 15);
	sv_send(s, FLOOD);
	sv_pass(5 * sv.opts.quiet_time_us);
	ck_assert_uint_lt(s->sent, s->to_send);
	sv_listen_to(c);
	SV_UNTIL(c->end != ERR_OK);
	ck_assert_int_eq(c->end, ERR_EOF);
	ck_assert_uint_eq(c->got, 20 + FLOOD);
}
END_TEST

/* Neither the greeting nor an older answer is the answer to what the server was told later.
 * Proves: F:C4 ISO-1 */
START_TEST(a_greeting_is_no_answer)
{
	struct peer *c, *s;

	sv.greeting = "hello\n";
	sv.server.opts.min_idle = 1;
	sv.opts.lease_on = LEASE_ON_FIRST_BYTE;
	reuse_on_idle();
	sv_start();
	s = sv_server(0);
	SV_UNTIL(sv_in(UP_IDLE) == 1);
	sv_pass(5 * MS);
	c = sv_client();
	c->verse = 0;
	c->fin_when_out = true;
	sv_send(c, 4);
	SV_UNTIL(s->got == 4 && c->n_words == 6);
	sv_pass(5 * sv.opts.quiet_time_us);
	ck_assert_int_eq(c->end, ERR_OK);
	sv_say(s, "answer\n");
	SV_UNTIL(c->end != ERR_OK);
	ck_assert_str_eq(c->words, "hello\nanswer\n");
	SV_UNTIL(stats()->leases_returned == 1);
	ck_assert_int_eq(s->end, ERR_OK);
}
END_TEST

/* The client left without its answer: the connection still owes it, and goes.
 * Proves: ISO-1 ISO-3 F:C3 */
START_TEST(a_connection_that_owes_an_answer_is_closed)
{
	struct peer *c, *s;

	sv.opts.half_close_timeout_us = 30 * MS;
	reuse_on_idle();
	sv_start();
	meet(&c, &s, 0);
	sv_send(c, 5);
	SV_UNTIL(s->got == 15);
	sv_close(c);
	SV_UNTIL(s->end != ERR_OK);
	ck_assert_uint_eq(stats()->upstream_closed[ERR_DIRTY], 1);
	ck_assert_uint_eq(sv_in(UP_IDLE), 0);
}
END_TEST

/* ---- who gets it next ---- */

/* Proves: ISO-12 */
START_TEST(reuse_never_gives_every_client_a_connection_of_its_own)
{
	sv.server.opts.max_size = 1;
	sv_start();
	for (size_t i = 0; i < 20; i++) {
		one_visit(i);
		ck_assert_uint_eq(sv_server(i)->got, 10);
		SV_UNTIL(sv.servers[i].end != ERR_OK);
		sv_close(&sv.servers[i]);
	}
	ck_assert_uint_eq(sv.n_servers, 20);
	ck_assert_uint_eq(stats()->leases_reused, 0);
}
END_TEST

/* Proves: ISO-12 C20 */
START_TEST(reuse_on_idle_lends_it_again)
{
	reuse_on_idle();
	sv_start();
	for (size_t i = 0; i < 20; i++) {
		one_visit(0);
		SV_UNTIL(sv_in(UP_IDLE) == 1);
	}
	ck_assert_uint_eq(sv.n_servers, 1);
	ck_assert_uint_eq(stats()->leases_reused, 19);
}
END_TEST

/* Proves: C13 ISO-12 F:U30 */
START_TEST(reuse_script_closes_what_does_not_answer_well)
{
	struct peer *c, *s;

	reuse_script();
	sv_start();
	meet(&c, &s, 0);
	s->verse = 10;
	s->answer = "no\n";
	sv_close(c);
	SV_UNTIL(s->end != ERR_OK);
	ck_assert_str_eq(s->words, "ready\n");
	ck_assert_uint_eq(stats()->upstream_closed[ERR_NOT_READY], 1);
	ck_assert_uint_eq(sv_in(UP_IDLE), 0);
}
END_TEST

/* Proves: ISO-3 F:U9 */
START_TEST(idle_connection_that_speaks_is_closed)
{
	struct peer *c, *s;

	reuse_on_idle();
	sv_start();
	meet(&c, &s, 0);
	sv_close(c);
	SV_UNTIL(sv_in(UP_IDLE) == 1);
	sv_say(s, "late");
	SV_UNTIL(s->end != ERR_OK);
	ck_assert_uint_eq(stats()->upstream_closed[ERR_DIRTY], 1);
	meet(&c, &s, 1); /* on another one, with nothing of the first */
}
END_TEST

/* The bytes and the next client come in the same turn, the client first. Proves: ISO-3 F:U9 */
START_TEST(unread_bytes_are_never_lent)
{
	struct peer *c, *s, *next;

	reuse_on_idle();
	sv_start();
	meet(&c, &s, 0);
	sv_close(c);
	SV_UNTIL(sv_in(UP_IDLE) == 1);
	next = sv_client_begun();
	sv_say(s, "late");
	SV_UNTIL(next->connected);
	sv_send(next, 10);
	s = sv_server(1);
	SV_UNTIL(s->got == 10);
	sv_send(s, 20);
	SV_UNTIL(next->got == 20);
	ck_assert_uint_eq(sv.servers[0].got, 10);
	ck_assert_uint_eq(stats()->upstream_closed[ERR_DIRTY], 1);
}
END_TEST

/* The same before a health check, whose answer those bytes are not. Proves: ISO-3 C9 F:U9 */
START_TEST(unread_bytes_are_no_answer_to_a_check)
{
	struct peer *c, *s, *next;

	reuse_on_idle();
	sv.ping = sv_script("ping\n", "pong");
	sv_start();
	meet(&c, &s, 0);
	sv_close(c);
	SV_UNTIL(sv_in(UP_IDLE) == 1);
	s->verse = 10;
	sv_pass(MS);
	next = sv_client_begun();
	sv_say(s, "pong\n");
	SV_UNTIL(next->connected);
	sv_send(next, 10);
	SV_UNTIL(s->end != ERR_OK || sv.servers[0].n_words > 5);
	ck_assert_int_ne(s->end, ERR_OK);
	s = sv_server(1);
	SV_UNTIL(s->got == 10);
}
END_TEST

/* Proves: ISO-2 */
START_TEST(greeting_is_the_first_clients)
{
	struct peer *c, *s;

	sv.greeting = "hello\n";
	sv.server.opts.min_idle = 1;
	reuse_on_idle();
	sv_start();
	s = sv_server(0);
	SV_UNTIL(sv_in(UP_IDLE) == 1);
	sv_pass(5 * MS);
	c = sv_client();
	c->verse = 0;
	SV_UNTIL(c->n_words == 6);
	ck_assert_str_eq(c->words, "hello\n");
	sv_send(c, 10);
	SV_UNTIL(s->got == 10);
	sv_say(s, "bye\n");
	SV_UNTIL(c->n_words == 10);
	sv_close(c);
	SV_UNTIL(sv_in(UP_LEASED) == 0 && sv_in(UP_IDLE) > 0);
	c = sv_client();
	c->verse = 0;
	SV_UNTIL(sv_in(UP_LEASED) == 1);
	sv_say(s, "next\n");
	SV_UNTIL(c->n_words > 0);
	ck_assert_str_eq(c->words, "next\n");
}
END_TEST

/* ---- who may come in ---- */

static void expect_refused(enum err why, uint64_t times)
{
	struct peer *c = sv_client();

	SV_UNTIL(c->end != ERR_OK);
	ck_assert_uint_eq(stats()->client_rejections[why], times);
	sv_close(c);
}

/* Proves: RES-4 */
START_TEST(max_clients_of_the_pool)
{
	struct peer *c, *s;

	sv.opts.max_clients = 2;
	sv_start();
	meet(&c, &s, 0);
	meet(&c, &s, 1);
	expect_refused(ERR_MAX_CLIENTS, 1);
	ck_assert_int_eq(client_limit_used(sv.limit), 2);
	sv_abort(c);
	SV_UNTIL(client_limit_used(sv.limit) == 1);
	meet(&c, &s, 2);
}
END_TEST

/* Proves: RES-4 */
START_TEST(max_clients_of_the_process)
{
	struct peer *c, *s;

	sv.limit = client_limit_new(1);
	sv_start();
	meet(&c, &s, 0);
	expect_refused(ERR_MAX_CLIENTS, 1);
	ck_assert_int_eq(client_limit_used(sv.limit), 1);
	sv_abort(c);
	SV_UNTIL(client_limit_used(sv.limit) == 0);
	meet(&c, &s, 1);
}
END_TEST

static void listen_on_unix(const uint32_t *uid)
{
	struct addr_spec spec;
	char text[64];

	snprintf(text, sizeof(text), "unix:@leased-test-serve-%d", (int)getpid());
	ck_assert_int_eq(addr_parse(text, &spec, NULL), ERR_OK);
	sv.listen.addr = spec.addr;
	sv.listen.opts.mode = 0600;
	sv.listen.allow_uid = uid;
	sv.listen.n_allow_uid = 2;
}

/* Proves: SEC-1 */
START_TEST(allow_uid_lets_its_users_in)
{
	uint32_t uid[2] = {(uint32_t)getuid() + 1, (uint32_t)getuid()};
	struct peer *c, *s;

	listen_on_unix(uid);
	sv_start();
	meet(&c, &s, 0);
}
END_TEST

/* Proves: SEC-1 */
START_TEST(allow_uid_keeps_others_out)
{
	uint32_t uid[2] = {(uint32_t)getuid() + 1, (uint32_t)getuid() + 2};

	listen_on_unix(uid);
	sv_start();
	expect_refused(ERR_NOT_ALLOWED, 1);
	ck_assert_uint_eq(sv.n_servers, 0);
	ck_assert_int_eq(client_limit_used(sv.limit), 0);
}
END_TEST

/* ---- addresses ---- */

static void visit_and_leave(void)
{
	struct peer *c, *s;

	meet(&c, &s, sv.n_servers);
	sv_abort(c);
	SV_UNTIL(s->end != ERR_OK);
	sv_close(s);
}

static void name_the_server(void)
{
	sv.server.where = (struct addr_spec){.kind = ADDR_NAME, .host = "db", .port = 1};
}

/* Proves: E13 */
START_TEST(addresses_take_turns)
{
	name_the_server();
	sv_start();
	sv_resolve(sv.server_addr, 2);
	for (int i = 0; i < 8; i++)
		visit_and_leave();
	ck_assert_uint_eq(sv.n_at[0], 4);
	ck_assert_uint_eq(sv.n_at[1], 4);
}
END_TEST

/* An address that is gone, and its successor in the same place, while it is being dialled. Proves: F:N6 */
START_TEST(answer_of_dns_while_dialling)
{
	struct addr nobody[2] = {sv.server_addr[0], sv.server_addr[0]};
	struct peer *c;

	name_the_server();
	sv_start();
	for (uint8_t i = 0; i < 2; i++)
		nobody[i].u.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 10 + i);
	sv_resolve(nobody, 2);
	c = sv_client();
	SV_UNTIL(sv_in(UP_DIALING) == 1);
	endpoint_start(sv.svc->endpoints[0]);
	sv_resolve(&sv.server_addr[0], 1);
	sv_send(c, 10);
	SV_UNTIL(sv.n_servers == 1);
	ck_assert_uint_eq(stats()->dials[ERR_REFUSED], 0);
}
END_TEST

/* ---- drain ---- */

static int drain_answers;
static enum err drain_answer;

static void on_drained(void *arg, enum err e)
{
	(void)arg;
	drain_answers++;
	drain_answer = e;
}

/* Proves: C23 */
START_TEST(resume_ends_a_drain_that_waits)
{
	struct peer *c, *s;

	drain_answers = 0;
	sv_start();
	meet(&c, &s, 0);
	ck_assert_int_eq(service_drain(sv.svc, true, 0, on_drained, NULL), ERR_OK);
	ck_assert_int_eq(service_drain(sv.svc, true, 0, on_drained, NULL), ERR_AGAIN);
	service_resume(sv.svc);
	SV_UNTIL(drain_answers == 1);
	ck_assert_int_eq(drain_answer, ERR_CANCELLED);
	ck_assert_int_eq(service_drain(sv.svc, false, 0, on_drained, NULL), ERR_OK);
	sv_close(c);
	SV_UNTIL(s->end != ERR_OK);
	sv_close(s);
	SV_UNTIL(drain_answers == 2);
	ck_assert_int_eq(drain_answer, ERR_OK);
}
END_TEST

/* A server that takes connections and closes them at once is dialled for min_idle, but not without pause.
 * Proves: LIVE-3 */
START_TEST(min_idle_does_not_spin)
{
	sv.server.opts.min_idle = 1;
	sv_start();
	for (size_t i = 0; i < 6; i++) {
		int64_t before = loop_now_us(sv.loop);

		sv_close(sv_server(i));
		SV_UNTIL(sv.n_servers > i + 1);
		ck_assert_int_ge(loop_now_us(sv.loop) - before, 15 * MS);
	}
}
END_TEST

static TCase *fixed(const char *name)
{
	TCase *t = tcase_create(name);

	tcase_add_checked_fixture(t, sv_set_up, sv_tear_down);
	tcase_set_timeout(t, 60);
	return t;
}

static TCase *ends(void)
{
	TCase *t = fixed("ends");

	tcase_add_test(t, slow_reader_of_a_half_closed_session_gets_all);
	tcase_add_test(t, a_greeting_is_no_answer);
	tcase_add_test(t, a_connection_that_owes_an_answer_is_closed);
	tcase_add_test(t, resume_ends_a_drain_that_waits);
	return t;
}

static TCase *reuse(void)
{
	TCase *t = fixed("reuse");

	tcase_add_test(t, reuse_never_gives_every_client_a_connection_of_its_own);
	tcase_add_test(t, reuse_on_idle_lends_it_again);
	tcase_add_test(t, reuse_script_closes_what_does_not_answer_well);
	tcase_add_test(t, idle_connection_that_speaks_is_closed);
	tcase_add_test(t, unread_bytes_are_never_lent);
	tcase_add_test(t, unread_bytes_are_no_answer_to_a_check);
	tcase_add_test(t, greeting_is_the_first_clients);
	return t;
}

static TCase *doors(void)
{
	TCase *t = fixed("doors");

	tcase_add_test(t, max_clients_of_the_pool);
	tcase_add_test(t, max_clients_of_the_process);
	tcase_add_test(t, allow_uid_lets_its_users_in);
	tcase_add_test(t, allow_uid_keeps_others_out);
	tcase_add_test(t, addresses_take_turns);
	tcase_add_test(t, answer_of_dns_while_dialling);
	tcase_add_test(t, min_idle_does_not_spin);
	return t;
}

int main(void)
{
	Suite *s = suite_create("serve");
	TCase *matrix = tcase_create("matrix");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_set_timeout(matrix, 120);
	tcase_add_loop_test(matrix, every_end_delivers_what_was_under_way, 0, ENDINGS * 3);
	suite_add_tcase(s, matrix);
	suite_add_tcase(s, ends());
	suite_add_tcase(s, reuse());
	suite_add_tcase(s, doors());
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
