/* scenarios_resp: Redis, where clients and servers do what is rare. See scenarios.c. */
#include "scenarios.h"

/* Outlives the client. */
#define SCRIPT(...)                                                                                                  \
	({                                                                                                           \
		static const enum resp_ask_kind script_[] = {__VA_ARGS__, ASKS};                                     \
		script_;                                                                                             \
	})

static struct sim_pool *redis_pool(uint64_t seed, enum service_mode mode)
{
	struct sim_pool *p = plain_pool(seed, 0);

	p->redis = true;
	p->opts.lease_on = LEASE_ON_FIRST_BYTE;
	p->opts.mode = mode;
	p->manners.block_max_us = 5 * MS;
	return p;
}

static struct sim_pool *redis_start(uint64_t seed, enum service_mode mode)
{
	struct sim_pool *p = redis_pool(seed, mode);

	pool_server(p, 1, false);
	pool_start(p);
	return p;
}

static struct server_actor *host(const struct sim_pool *p)
{
	return p->servers[0].hosts[0];
}

/* Says exactly this, `pipeline` at a time. */
static struct client_actor *says(struct sim_pool *p, const enum resp_ask_kind *script, unsigned pipeline,
				 size_t payload)
{
	struct client_plan plan = {.pipeline = pipeline, .payload_max = payload};
	struct client_actor *c;

	while (script[plan.requests] != ASKS)
		plan.requests++;
	c = run_client(p, &plan);
	c->resp->script = script;
	client_actor_connect(c);
	return c;
}

static uint64_t served(void)
{
	uint64_t n = 0;

	for (size_t i = 0; i < run.n_clients; i++)
		n += run.clients[i]->served;
	return n;
}

/* An answer of ours never comes in the middle of a message to a subscriber. Proves: ISO-1 */
static void reset_amid_messages(void)
{
	struct sim_pool *p = redis_start(1, SERVICE_TRANSACTION);

	/* Messages come in parts. */
	world.bugs_on = true;
	world.bug.short_read = 700;
	for (int i = 0; i < 30; i++) {
		says(p,
		     SCRIPT(ASK_WRITE, ASK_WRITE, ASK_WRITE, ASK_WRITE, ASK_WRITE, ASK_WRITE, ASK_WRITE, ASK_WRITE),
		     8, 0);
		says(p, SCRIPT(ASK_SUBSCRIBE, ASK_RESET, ASK_SUBSCRIBE, ASK_RESET, ASK_SUBSCRIBE, ASK_RESET), 1, 0);
		wait_ms(2);
	}
	wait_ms(200);
	EXPECT(served() == run.n_clients);
	done();
}

/* The server forgets logins in the middle of pipelines: what was not run is asked again, in order, as what it was. Proves: ISO-6
 * ISO-4 */
static void logins_are_forgotten(void)
{
	struct sim_pool *p = redis_start(1, SERVICE_TRANSACTION);

	p->manners.forgets = 40;
	for (int i = 0; i < 50; i++) {
		says(p,
		     SCRIPT(ASK_READ, ASK_SELECT, ASK_READ, ASK_MULTI, ASK_WRITE, ASK_EXEC, ASK_SETNAME, ASK_READ,
			    ASK_RESET, ASK_WRITE, ASK_GETNAME),
		     6, 100);
		wait_ms(5);
	}
	wait_ms(500);
	EXPECT(served() > 25);
	done();
}

/* ... and in the middle of an upload, which can't be said again: its client is closed, not kept waiting. Proves: LIVE-6 */
static void login_lost_amid_upload(void)
{
	struct sim_pool *p = redis_start(1, SERVICE_TRANSACTION);

	host(p)->port->cap_max = 2048;
	host(p)->reply_min_us = host(p)->reply_max_us = 300;
	p->manners.forgets = 300;
	for (int i = 0; i < 40; i++) {
		says(p, SCRIPT(ASK_READ, ASK_READ, ASK_WRITE, ASK_WRITE), 4, 30000);
		wait_ms(10);
	}
	wait_ms(200);
	for (size_t i = 0; i < run.n_clients; i++)
		EXPECT(run.clients[i]->phase == CLIENT_OUT);
	done();
}

/* A transaction is refused, and what was meant for it is executed at once, SELECT too. Proves: ISO-4 */
static void refused_transaction(void)
{
	struct sim_pool *p = redis_start(1, SERVICE_TRANSACTION);

	p->manners.loading = 100;
	for (int i = 0; i < 25; i++) {
		says(p, SCRIPT(ASK_MULTI, ASK_SELECT_QUEUED, ASK_WRITE, ASK_EXEC, ASK_READ), 4, 20);
		says(p, SCRIPT(ASK_READ, ASK_READ), 1, 20);
		wait_ms(3);
	}
	wait_ms(100);
	EXPECT(served() > 5);
	done();
}

/* HELLO answers what the server is, so there has to be one: else it fails, once. Proves: LIVE-6 */
static void hello_without_a_server(void)
{
	struct sim_pool *p = redis_pool(1, SERVICE_REQUEST);

	p->opts.pool.lease_timeout_us = 50 * MS;
	pool_server(p, 1, false);
	pool_start(p);
	server_actor_kill(host(p));
	says(p, SCRIPT(ASK_HELLO, ASK_READ), 2, 0);
	wait_ms(200);
	EXPECT(run.clients[0]->phase == CLIENT_OUT && run.clients[0]->resp->errors == 1);
	done();
}

/* A request that fills the buffer is refused: the next one is read all the same. Proves: LIVE-6 */
static void large_request_is_refused(void)
{
	struct sim_pool *p = redis_pool(3, SERVICE_TRANSACTION);

	p->opts.pool.lease_timeout_us = 30 * MS;
	p->opts.high_water = 512;
	pool_server(p, 1, false);
	pool_start(p);
	server_actor_kill(host(p));
	for (int i = 0; i < 30; i++)
		says(p, SCRIPT(ASK_WRITE, ASK_WRITE, ASK_WRITE, ASK_READ), 1, 16000);
	wait_ms(400);
	for (size_t i = 0; i < run.n_clients; i++)
		EXPECT(run.clients[i]->phase == CLIENT_OUT);
	done();
}

/* An upload that had to wait goes on as soon as what was before it is out. Proves: LIVE-6 */
static void upload_goes_on(void)
{
	struct sim_pool *p = redis_pool(1, SERVICE_TRANSACTION);

	p->opts.high_water = 4096;
	pool_server(p, 1, false);
	host(p)->port->cap_min = 256;
	host(p)->port->cap_max = 12000;
	pool_start(p);
	for (int i = 0; i < 40; i++) {
		says(p, SCRIPT(ASK_WRITE, ASK_WRITE, ASK_WRITE, ASK_WRITE), 2, 30000);
		wait_ms(10);
	}
	wait_ms(300);
	EXPECT(served() == run.n_clients);
	done();
}

/* A client that reads slowly gives its connection back, and no mark of it is left there. Proves: LIVE-6 F:C6 */
static void slow_reader_gives_back(void)
{
	struct sim_pool *p = redis_pool(1, SERVICE_TRANSACTION);

	p->opts.high_water = 512;
	server_options(pool_server(p, 1, false))->max_size = 1;
	pool_start(p);
	for (int i = 0; i < 10; i++) {
		struct client_actor *c = says(p, SCRIPT(ASK_READ, ASK_READ), 1, 2000);

		c->plan.habit = HABIT_SLOW;
		says(p, SCRIPT(ASK_READ, ASK_WRITE), 1, 10);
		wait_ms(30);
	}
	wait_ms(2000);
	EXPECT(served() == run.n_clients);
	done();
}

/* RESET when nothing is held leaves nothing; RESET when something is, before anything else. Proves: ISO-4 */
static void reset_and_hold(void)
{
	struct sim_pool *p = redis_start(1, SERVICE_TRANSACTION);

	for (int i = 0; i < 25; i++) {
		says(p, SCRIPT(ASK_RESET, ASK_MULTI, ASK_WRITE, ASK_EXEC), 1 + (unsigned)i % 4, 10);
		says(p, SCRIPT(ASK_WATCH, ASK_RESET, ASK_MULTI, ASK_WRITE, ASK_EXEC, ASK_READ), 1 + (unsigned)i % 4,
		     10);
		wait_ms(2);
	}
	wait_ms(100);
	EXPECT(served() == run.n_clients);
	done();
}

/* Rotations with all sessions killed, under pipelines in each mode: what may be said again is, and nobody is refused. Proves: K12
 * CRED-4 */
static void rotations_by_mode(void)
{
	for (int mode = SERVICE_SESSION; mode <= SERVICE_REQUEST; mode++) {
		struct sim_pool *p = redis_pool((uint64_t)mode + 1, (enum service_mode)mode);

		p->vault = vault_new(CRED_FILE);
		vault_start(p->vault);
		wait_ms(50);
		pool_server(p, 1, false);
		pool_start(p);
		for (int i = 0; i < 25; i++) {
			unsigned k = vault_make(p->vault);

			says(p, SCRIPT(ASK_READ, ASK_READ, ASK_SELECT, ASK_READ, ASK_READ), 1, 10);
			vault_accept(p->vault, k);
			vault_say(p->vault, k, 0);
			wait_ms(20);
			vault_revoke(p->vault, k, true);
			wait_ms(20);
		}
		wait_ms(200);
		EXPECT(served() == run.n_clients && p->shadow.refused == 0 && shadow_is_rotated(NULL));
		done();
	}
}

/* Clients that close in the middle of an upload hold nothing afterwards. Proves: LIVE-6 F:C3 */
static void leaves_amid_upload(void)
{
	struct sim_pool *p = redis_start(1, SERVICE_TRANSACTION);

	host(p)->port->cap_max = 4096;
	for (int i = 0; i < 20; i++) {
		struct client_actor *c = says(p, SCRIPT(ASK_READ, ASK_WRITE, ASK_WRITE, ASK_WRITE, ASK_WRITE), 3,
					      30000);

		client_actor_leave_at(c, world.now_us + world_range(1 * MS, 4 * MS));
		wait_ms(10);
	}
	wait_ms(100);
	EXPECT(shadow_count(&p->shadow, UP_LEASED) == 0);
	done();
}

const struct scenario scenarios_resp[] = {
	{"reset-amid-messages", reset_amid_messages},
	{"logins-are-forgotten", logins_are_forgotten},
	{"login-lost-amid-upload", login_lost_amid_upload},
	{"refused-transaction", refused_transaction},
	{"hello-without-a-server", hello_without_a_server},
	{"large-request-is-refused", large_request_is_refused},
	{"upload-goes-on", upload_goes_on},
	{"slow-reader-gives-back", slow_reader_gives_back},
	{"leaves-amid-upload", leaves_amid_upload},
	{"reset-and-hold", reset_and_hold},
	{"rotations-by-mode", rotations_by_mode},
	{0},
};
