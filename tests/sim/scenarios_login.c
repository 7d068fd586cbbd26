/* scenarios_login: credentials that change, expire and are refused. See scenarios.c. */
#include "scenarios.h"

/* A pool that logs in with what a source says; not started yet, without a server. */
static struct sim_pool *login_pool(enum cred_source source)
{
	struct sim_pool *p = plain_pool(1, 0);

	p->login = true;
	p->vault = vault_new(source);
	vault_start(p->vault);
	wait_ms(50);
	return p;
}

static struct sim_pool *login_start(enum cred_source source)
{
	struct sim_pool *p = login_pool(source);

	pool_server(p, 1, false);
	pool_start(p);
	return p;
}

static struct server_actor *host(const struct sim_pool *p)
{
	return p->servers[0].hosts[0];
}

static void rotate_now(struct sim_pool *p, bool kill)
{
	unsigned k = vault_make(p->vault);

	vault_accept(p->vault, k);
	vault_revoke(p->vault, k, kill);
	vault_say(p->vault, k, 0);
}

static void expect_served(uint64_t each)
{
	for (size_t i = 0; i < run.n_clients; i++)
		EXPECT(run.clients[i]->served == each && run.clients[i]->failed == 0);
}

/* The server is changed first, ends all sessions, and the file follows later: nobody notices more than a wait. Proves: U19 K12 */
static void server_first(void)
{
	struct sim_pool *p = login_start(CRED_FILE);
	unsigned k;

	for (int i = 0; i < 5; i++)
		go(p, &one_request);
	wait_ms(20);
	k = vault_make(p->vault);
	vault_accept(p->vault, k);
	vault_revoke(p->vault, k, true);
	wait_ms(5);
	for (int i = 0; i < 5; i++)
		go(p, &one_request);
	wait_ms(100);
	EXPECT(p->shadow.n_waiting == 5 && host(p)->denied > 0);
	vault_say(p->vault, k, 0);
	wait_ms(100);
	expect_served(1);
	EXPECT(p->shadow.gen == 2 && p->shadow.refused == 0);
	done();
}

/* The file is changed first, or wrong: what works goes on working, and the account sees few failures. Proves: CRED-8 K10 */
static void file_first(void)
{
	struct sim_pool *p = login_pool(CRED_FILE);
	unsigned k;

	server_options(pool_server(p, 1, false))->backoff = (struct backoff_opts){100 * MS, 400 * MS, 2, 0};
	pool_start(p);
	for (int i = 0; i < 3; i++)
		go(p, &one_request);
	wait_ms(20);
	k = vault_make(p->vault);
	vault_say(p->vault, k, 0);
	for (int i = 0; i < 20; i++) {
		go(p, &one_request);
		wait_ms(50);
	}
	expect_served(1);
	/* At once, then after 100, 200, 400 ms. */
	EXPECT(host(p)->denied >= 3 && host(p)->denied <= 5 && p->shadow.refused == 0);
	vault_accept(p->vault, k);
	wait_ms(500);
	EXPECT(shadow_is_rotated(NULL));
	done();
}

/* Many are refused at one instant: one question to the source, one login that proves its answer. Proves: CRED-4 U16 */
static void denied_together(void)
{
	struct sim_pool *p = login_pool(CRED_COMMAND);
	unsigned k;

	pool_server(p, 1, false);
	pool_start(p);
	go(p, &one_request);
	wait_ms(20);
	k = vault_make(p->vault);
	vault_accept(p->vault, k);
	vault_revoke(p->vault, k, true);
	vault_say(p->vault, k, 0);
	wait_ms(5);
	for (int i = 0; i < 40; i++)
		go(p, &one_request);
	wait_ms(200);
	expect_served(1);
	EXPECT(p->vault->asked_denied == 1 && p->vault->n_gens == 2);
	EXPECT(host(p)->denied <= 4); /* the dials that were under way together */
	done();
}

/* The source has nothing newer: its server's own refusal ends the wait, and it is asked no more often than it should be. Proves:
 * CRED-5 K14 */
static void nothing_newer(void)
{
	struct sim_pool *p = login_pool(CRED_COMMAND);

	p->opts.pool.lease_timeout_us = 5 * SECOND;
	server_options(pool_server(p, 1, false))->backoff = (struct backoff_opts){20 * MS, 40 * MS, 2, 0};
	pool_start(p);
	vault_revoke(p->vault, 0, true);
	for (int i = 0; i < 10; i++)
		go(p, &one_request);
	wait_ms(2000);
	EXPECT(p->shadow.refused == 10 && p->shadow.refused_by[ERR_DENIED] == 10);
	EXPECT(p->vault->asked_denied >= 3 && p->vault->asked_denied <= 6);
	done();
}

/* A lease of the same password is prolonged, but only after it had run out and somebody had asked. Proves: CRED-9 */
static void prolonged_too_late(void)
{
	struct sim_pool *p = login_pool(CRED_FILE);

	pool_server(p, 1, false);
	vault_say(p->vault, 1, world.now_us + 2 * SECOND);
	wait_ms(100);
	pool_start(p);
	go(p, &one_request);
	wait_ms(20);
	expect_served(1);
	wait_ms(2000);
	EXPECT(p->shadow.n_ups == 0);
	go(p, &one_request);
	wait_ms(200);
	EXPECT(p->shadow.n_waiting == 1);
	vault_say(p->vault, 1, 0);
	wait_ms(600);
	expect_served(1);
	EXPECT(p->vault->n_gens == 3);
	done();
}

/* Where there is no second login, reauth_interval makes room for a new connection. Proves: CRED-7 */
static void old_logins_are_replaced(void)
{
	struct sim_pool *p = login_pool(CRED_FILE);

	p->opts.pool.reauth_interval_us = 300 * MS;
	p->opts.pool.reauth_spread_us = 400 * MS;
	server_options(pool_server(p, 1, false))->min_idle = 2;
	pool_start(p);
	wait_ms(50);
	EXPECT(p->shadow.n_ups == 2 && p->shadow.closed == 0);
	rotate_now(p, false);
	wait_ms(20);
	for (int i = 0; i < 6; i++)
		go(p, &one_request);
	for (int i = 0; i < 40; i++) {
		wait_ms(25);
		go(p, &one_request);
	}
	wait_ms(20);
	expect_served(1);
	EXPECT(p->shadow.closed >= 6 && stats(p)->upstream_closed[ERR_RECYCLED] == p->shadow.closed);
	done();
}

/* A refusal by a server that fails for another reason too does not bring its next dial forward. Proves: POOL-8 */
static void refused_while_failing(void)
{
	struct sim_pool *p = login_pool(CRED_FILE);
	uint64_t dialled;

	p->reuse = REUSE_RULE_NEVER;
	server_options(pool_server(p, 1, false))->backoff = (struct backoff_opts){100 * MS, 100 * MS, 1, 0};
	server_options(&p->servers[0])->probe_interval_us = 0;
	pool_start(p);
	go(p, &one_request);
	wait_ms(20);
	vault_say(p->vault, vault_make(p->vault), 0);
	wait_ms(50);
	/* The new password is refused; two logins with the old one take longer than until its next turn. */
	go(p, &one_request);
	wait_ms(5);
	EXPECT(host(p)->denied == 1 && run.clients[1]->served == 1);
	host(p)->reply_min_us = host(p)->reply_max_us = 150 * MS;
	go(p, &one_request);
	go(p, &one_request);
	wait_ms(10);
	EXPECT(shadow_count(&p->shadow, UP_LOGIN) == 2);
	vault_revoke(p->vault, 0, false);
	wait_ms(130);
	server_actor_reset_first(host(p));
	dialled = p->shadow.dialled;
	wait_ms(50);
	EXPECT(host(p)->denied >= 2 && p->shadow.dialled == dialled);
	done();
}

/* Rotations one after the other, with every session killed, under load. */
static void many_rotations(void)
{
	static const struct client_plan busy = {.requests = 3, .pipeline = 1, .payload_max = 10};
	struct sim_pool *p = login_start(CRED_STREAM);

	for (int i = 0; i < 30; i++) {
		go(p, &busy);
		wait_ms(10);
		EXPECT(run.clients[i]->served == 1);
		rotate_now(p, true);
		wait_ms(20);
	}
	EXPECT(p->vault->n_gens == 31 && shadow_is_rotated(NULL));
	done();
}

/* Behind many connections that are to be replaced there is a new one: it is found, and no other made for each request. Proves: C14
 */
static void new_one_behind_many_old(void)
{
	struct sim_pool *p = login_pool(CRED_FILE);
	uint64_t dialled;

	p->opts.pool.reuse_order = REUSE_FIFO;
	p->opts.pool.reauth_spread_us = 60 * SECOND;
	server_options(pool_server(p, 1, false))->min_idle = 40;
	server_options(&p->servers[0])->max_size = 100;
	pool_start(p);
	wait_ms(100);
	EXPECT(p->shadow.n_ups == 40);
	rotate_now(p, false);
	wait_ms(50);
	dialled = p->shadow.dialled;
	for (int i = 0; i < 30; i++) {
		go(p, &one_request);
		wait_ms(10);
	}
	expect_served(1);
	EXPECT(p->shadow.dialled <= dialled + 1);
	run_end();
}

const struct scenario scenarios_login[] = {
	{"server-first", server_first},
	{"file-first", file_first},
	{"denied-together", denied_together},
	{"nothing-newer", nothing_newer},
	{"prolonged-too-late", prolonged_too_late},
	{"old-logins-are-replaced", old_logins_are_replaced},
	{"refused-while-failing", refused_while_failing},
	{"new-one-behind-many-old", new_one_behind_many_old},
	{"many-rotations", many_rotations},
	{0},
};
