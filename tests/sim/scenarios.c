/*
 * scenarios: named runs, each the regression of one promise. They run on a calm world with fixed seeds (the checks of
 * shadow.c watch as always); what is particular to the promise is expected in words here.
 */
#include <string.h>

#include "scenarios.h"

const struct client_plan one_request = {.requests = 1, .pipeline = 1, .payload_max = 10};

struct pool *brain(const struct sim_pool *p)
{
	return service_pool(p->svc);
}

struct stat *stats(const struct sim_pool *p)
{
	return pool_stat(brain(p));
}

/* One pool with one server on one loop, connections reused after a ready check; not started yet. */
struct sim_pool *plain_pool(uint64_t seed, int budget)
{
	struct sim_pool *p;

	world_begin(seed, world.name);
	run_begin(1, budget, 0);
	p = run_add_pool(0);
	p->reuse = REUSE_RULE_SCRIPT;
	p->opts.pool.lease_timeout_us = 5 * SECOND;
	return p;
}

static struct sim_pool *plain_start(uint64_t seed)
{
	struct sim_pool *p = plain_pool(seed, 0);

	pool_server(p, 1, false);
	pool_start(p);
	return p;
}

struct client_actor *go(struct sim_pool *p, const struct client_plan *plan)
{
	struct client_actor *c = run_client(p, plan);

	client_actor_connect(c);
	return c;
}

void wait_ms(int64_t ms)
{
	run_until(run_now() + ms * MS);
}

void done(void)
{
	run_heal();
	run_serve_all();
	run_end();
}

static void set_latency(struct sim_server *s, int64_t us)
{
	for (size_t i = 0; i < s->n_hosts; i++)
		s->hosts[i]->port->link.lat_min_us = s->hosts[i]->port->link.lat_max_us = us;
}

/* ---- a client leaves while something is done for it ---- */

/* Proves: C16 */
static void cancel_during_dial(void)
{
	static const struct client_plan leaves = {.requests = 1, .habit = HABIT_RESET, .leave_us = 3 * MS};
	struct sim_pool *p = plain_start(1);

	set_latency(&p->servers[0], 5 * MS);
	go(p, &leaves);
	wait_ms(4);
	EXPECT(p->shadow.cancelled == 1 && pool_count(brain(p), UP_DIALING) == 1);
	wait_ms(20);
	EXPECT(pool_count(brain(p), UP_IDLE) == 1 && p->shadow.closed == 0);
	go(p, &one_request);
	wait_ms(50);
	EXPECT(run.clients[1]->served == 1 && p->shadow.dialled == 1);
	done();
}

/* Proves: C11 */
static void leave_during_health_check(void)
{
	static const struct client_plan leaves = {.requests = 1, .habit = HABIT_RESET, .leave_us = 3 * MS};
	struct sim_pool *p = plain_pool(1, 0);

	p->opts.pool.has_health_check = true;
	p->opts.pool.health_check_after_us = 1 * MS;
	pool_server(p, 1, false);
	pool_start(p);
	go(p, &one_request);
	wait_ms(20);
	EXPECT(run.clients[0]->served == 1 && pool_count(brain(p), UP_IDLE) == 1);
	set_latency(&p->servers[0], 5 * MS);
	go(p, &leaves);
	wait_ms(2);
	EXPECT(pool_count(brain(p), UP_PROBING) == 1);
	wait_ms(30);
	EXPECT(p->shadow.cancelled == 1 && stats(p)->health_checks[ERR_OK] == 1);
	EXPECT(pool_count(brain(p), UP_IDLE) == 1 && p->shadow.closed == 0 && p->shadow.dialled == 1);
	done();
}

/* Proves: C16 E6 */
static void late_dial_is_banked(void)
{
	struct sim_pool *p = plain_pool(1, 0);

	p->opts.pool.lease_timeout_us = 20 * MS;
	pool_server(p, 1, false);
	pool_start(p);
	set_latency(&p->servers[0], 25 * MS);
	go(p, &one_request);
	wait_ms(30);
	EXPECT(run.clients[0]->failed == 1 && p->shadow.refused == 1);
	wait_ms(40);
	EXPECT(pool_count(brain(p), UP_IDLE) == 1);
	set_latency(&p->servers[0], 100);
	p->shadow.worst_wait_us = 0;
	go(p, &one_request);
	wait_ms(30);
	EXPECT(run.clients[1]->served == 1 && p->shadow.worst_wait_us == 0 && p->shadow.dialled == 1);
	done();
}

/* ---- limits ---- */

/* Proves: C14 C32 A6 */
static void never_two_of_one(void)
{
	static const struct client_plan plan = {.requests = 3, .pipeline = 1, .payload_max = 10, .think_us = 2 * MS};
	struct sim_pool *p = plain_pool(1, 0);
	struct server_opts *o = server_options(pool_server(p, 1, false));

	o->max_size = 1;
	o->max_concurrent_dials = 1;
	o->max_age_us = 20 * MS;
	pool_start(p);
	for (int i = 0; i < 30; i++) {
		go(p, &plan);
		wait_ms(2);
	}
	wait_ms(500);
	for (size_t i = 0; i < run.n_clients; i++)
		EXPECT(run.clients[i]->served == 1);
	EXPECT(p->shadow.dialled > 3 && p->servers[0].shadow.sockets_most == 1);
	done();
}

/* Proves: D9 D8 */
static void failing_dials_give_back(void)
{
	struct sim_pool *p = plain_pool(1, 1);
	struct server_opts *o = server_options(pool_server(p, 1, false));

	o->max_size = 1;
	o->backoff = (struct backoff_opts){1 * MS, 5 * MS, 1.5, 0.5};
	p->opts.pool.lease_timeout_us = 100 * MS;
	pool_start(p);
	server_actor_kill(p->servers[0].hosts[0]);
	for (int i = 0; i < 40; i++)
		go(p, &one_request);
	wait_ms(200);
	EXPECT(p->shadow.refused == 40 && p->shadow.refused_by[ERR_ALL_DOWN] == 40 && p->shadow.dialled > 10);
	server_actor_start(p->servers[0].hosts[0]);
	wait_ms(50);
	EXPECT(budget_used(run.budget) == 0);
	go(p, &one_request);
	wait_ms(20);
	EXPECT(run.clients[40]->served == 1);
	done();
}

static void two_pools(int budget, struct sim_pool **a, struct sim_pool **b, enum lease_wait wait)
{
	*a = plain_pool(1, budget);
	pool_server(*a, 1, false);
	(*a)->opts.pool.lease_wait = wait;
	pool_start(*a);
	*b = run_add_pool(0);
	(*b)->reuse = REUSE_RULE_SCRIPT;
	(*b)->opts.pool.lease_wait = wait;
	pool_server(*b, 1, false);
	pool_start(*b);
}

/* Proves: D1 D7 D8 D14 */
static void two_pools_one_budget(void)
{
	struct sim_pool *a, *b;

	two_pools(2, &a, &b, LEASE_BLOCK);
	for (int i = 0; i < 20; i++) {
		go(i % 2 ? a : b, &one_request);
		go(i % 2 ? a : b, &one_request);
		wait_ms(10);
	}
	for (size_t i = 0; i < run.n_clients; i++)
		EXPECT(run.clients[i]->served == 1);
	EXPECT(stats(a)->evictions > 5 && stats(b)->evictions > 5);
	done();
}

/* A pool that does not wait still makes the other let go. Proves: D7 */
static void nonblock_pool_gets_its_share(void)
{
	struct sim_pool *a, *b;

	two_pools(1, &a, &b, LEASE_NONBLOCK);
	go(a, &one_request);
	wait_ms(20);
	EXPECT(run.clients[0]->served == 1 && pool_count(brain(a), UP_IDLE) == 1);
	go(b, &one_request);
	wait_ms(20);
	EXPECT(run.clients[1]->failed == 1 && pool_count(brain(a), UP_IDLE) == 0);
	go(b, &one_request);
	wait_ms(20);
	EXPECT(run.clients[2]->served == 1);
	done();
}

/* Proves: F:R2 */
static void budget_is_lowered(void)
{
	static const struct client_plan holds = {.requests = 2, .pipeline = 1, .think_us = 20 * MS};
	struct sim_pool *p = plain_pool(1, 6);

	pool_server(p, 1, false);
	pool_start(p);
	for (int i = 0; i < 6; i++)
		go(p, &holds);
	wait_ms(100);
	EXPECT(pool_count(brain(p), UP_IDLE) == 6);
	budget_set_max(run.budget, 2);
	wait_ms(5);
	EXPECT(budget_used(run.budget) == 2 && p->shadow.closed == 4);
	budget_set_max(run.budget, 6);
	done();
}

/* Proves: E4 E5 */
static void rate_is_kept(void)
{
	struct sim_pool *p = plain_pool(1, 0);
	struct server_opts *o = server_options(pool_server(p, 1, false));

	o->max_rps = 100;
	pool_start(p);
	for (int i = 0; i < 30; i++)
		go(p, &one_request);
	wait_ms(295);
	EXPECT(p->shadow.granted >= 28 && p->shadow.granted <= 30);
	done();
}

/* ---- servers that fail ---- */

/* Proves: E26 C15 F:U2 */
static void black_hole_among_three(void)
{
	struct sim_pool *p = plain_pool(1, 0);

	p->reuse = REUSE_RULE_NEVER;
	for (int i = 0; i < 3; i++)
		pool_server(p, 1, false);
	pool_start(p);
	for (int i = 0; i < 10; i++) {
		go(p, &one_request);
		wait_ms(5);
	}
	p->servers[1].hosts[0]->port->deaf = true;
	go(p, &one_request);
	go(p, &one_request);
	go(p, &one_request);
	wait_ms(100);
	EXPECT(p->shadow.worst_wait_us <= 26 * MS);
	p->shadow.worst_wait_us = 0;
	for (int i = 0; i < 40; i++) {
		go(p, &one_request);
		wait_ms(5);
	}
	for (size_t i = 0; i < run.n_clients; i++)
		EXPECT(run.clients[i]->served == 1);
	EXPECT(p->shadow.worst_wait_us < 1 * MS);
	done();
}

/* Proves: LIVE-2 F:U1 F:U6 */
static void only_server_comes_back(void)
{
	struct sim_pool *p = plain_start(1);

	server_actor_kill(p->servers[0].hosts[0]);
	for (int i = 0; i < 20; i++)
		go(p, &one_request);
	wait_ms(2000);
	EXPECT(pool_waiting(brain(p)) == 20);
	server_actor_start(p->servers[0].hosts[0]);
	wait_ms(200);
	for (size_t i = 0; i < run.n_clients; i++)
		EXPECT(run.clients[i]->served == 1);
	done();
}

/* Proves: C13 ISO-3 F:U9 */
static void unasked_words(void)
{
	struct sim_pool *p = plain_start(1);
	struct server_actor *a = p->servers[0].hosts[0];

	a->fate_chance = 1000;
	a->fates = 1u << FATE_EXTRA;
	for (int i = 0; i < 20; i++) {
		go(p, &one_request);
		wait_ms(30);
	}
	EXPECT(stats(p)->upstream_closed[ERR_DIRTY] + stats(p)->upstream_closed[ERR_NOT_READY] > 3);
	done();
}

/* Proves: F:U16 CRED-6 */
static void denied_logins_back_off(void)
{
	struct sim_pool *p = plain_pool(1, 0);

	p->login = true;
	p->vault = vault_new(CRED_COMMAND);
	vault_start(p->vault);
	wait_ms(50);
	p->opts.pool.refresh_max_attempts = 1000;
	p->opts.pool.lease_timeout_us = 500 * MS;
	server_options(pool_server(p, 1, false))->backoff = (struct backoff_opts){50 * MS, 200 * MS, 2, 0};
	pool_start(p);
	p->servers[0].hosts[0]->deny_chance = 1000;
	for (int i = 0; i < 10; i++)
		go(p, &one_request);
	wait_ms(600);
	EXPECT(p->shadow.refused == 10 && stats(p)->auth_denied > 1 && stats(p)->auth_denied < 10);
	p->servers[0].hosts[0]->deny_chance = 0;
	go(p, &one_request);
	wait_ms(300);
	EXPECT(run.clients[10]->served == 1);
	done();
}

/* Proves: F:N6 */
static void name_stops_resolving(void)
{
	struct sim_pool *p = plain_pool(1, 0);

	p->reuse = REUSE_RULE_NEVER;
	pool_server(p, 2, true);
	pool_start(p);
	go(p, &one_request);
	wait_ms(10);
	p->servers[0].name->n = 0;
	wait_ms(1000);
	p->servers[0].name->mute = true;
	wait_ms(1000);
	EXPECT(stats(p)->dns_lookups[ERR_DNS] > 2);
	go(p, &one_request);
	wait_ms(10);
	EXPECT(run.clients[1]->served == 1);
	done();
}

/* Proves: D12 C18 */
static void address_is_retired(void)
{
	static const struct client_plan holds = {.requests = 3, .pipeline = 1, .think_us = 600 * MS};
	struct sim_pool *p = plain_pool(1, 0);
	struct sim_server *s = pool_server(p, 2, true);

	s->name->n = 1;
	pool_start(p);
	wait_ms(5);
	go(p, &holds);
	go(p, &one_request);
	wait_ms(20);
	EXPECT(pool_count(brain(p), UP_LEASED) == 1 && pool_count(brain(p), UP_IDLE) == 1);
	EXPECT(s->hosts[0]->accepted == 2 && s->hosts[1]->accepted == 0);
	s->name->host[0] = s->hosts[1]->host;
	wait_ms(250);
	EXPECT(pool_count(brain(p), UP_LEASED) == 1 && pool_count(brain(p), UP_IDLE) == 0);
	EXPECT(stats(p)->upstream_closed[ERR_ADDRESS_GONE] == 1);
	wait_ms(2000);
	EXPECT(run.clients[0]->served == 1 && stats(p)->upstream_closed[ERR_ADDRESS_GONE] == 2);
	go(p, &one_request);
	wait_ms(20);
	EXPECT(s->hosts[1]->accepted == 1 && run.clients[2]->served == 1);
	done();
}

/* Proves: D12 */
static void scheduled_close(void)
{
	static const struct client_plan holds = {.requests = 3, .pipeline = 1, .think_us = 200 * MS};
	struct sim_pool *p = plain_start(1);

	go(p, &holds);
	go(p, &one_request);
	wait_ms(15);
	EXPECT(pool_count(brain(p), UP_LEASED) == 1 && pool_count(brain(p), UP_IDLE) == 1);
	server_close_needed(brain(p), pool_server_at(brain(p), 0), ERR_CLOSE_NEEDED, world.now_us);
	service_resume(p->svc);
	EXPECT(pool_count(brain(p), UP_LEASED) == 1 && pool_count(brain(p), UP_IDLE) == 0);
	wait_ms(500);
	EXPECT(run.clients[0]->served == 1 && stats(p)->upstream_closed[ERR_CLOSE_NEEDED] == 2);
	EXPECT(p->shadow.n_ups == 0);
	done();
}

/* ---- drain, stop ---- */

/* Proves: C23 POOL-9 */
static void drain_answers_at_the_last_release(void)
{
	static const struct client_plan holds = {.requests = 3, .pipeline = 1, .think_us = 30 * MS};
	struct sim_pool *p = plain_start(1);

	go(p, &holds);
	go(p, &holds);
	wait_ms(5);
	pool_drain_start(p, true, 0);
	go(p, &one_request);
	wait_ms(5);
	EXPECT(run.clients[2]->failed == 1 && p->shadow.refused_by[ERR_DRAINING] == 1 && p->drains_done == 0);
	wait_ms(200);
	EXPECT(run.clients[0]->served == 1 && run.clients[1]->served == 1);
	EXPECT(p->drains_done == 1 && p->drain_result == ERR_OK);
	EXPECT(p->drained_us - p->shadow.last_release_us <= 1 * MS);
	done();
}

/* Proves: C23 */
static void drain_times_out(void)
{
	static const struct client_plan holds = {.requests = 1, .habit = HABIT_SILENT, .leave_us = 300 * MS};
	struct sim_pool *p = plain_start(1);
	int64_t asked;

	go(p, &holds);
	wait_ms(5);
	asked = world.now_us;
	pool_drain_start(p, false, 50 * MS);
	wait_ms(100);
	EXPECT(p->drains_done == 1 && p->drain_result == ERR_LEASE_TIMEOUT);
	EXPECT(p->drained_us >= asked + 50 * MS && p->drained_us < asked + 60 * MS);
	wait_ms(300);
	done();
}

/* Proves: C23 */
static void resume_answers_the_drain(void)
{
	static const struct client_plan holds = {.requests = 1, .habit = HABIT_SILENT, .leave_us = 300 * MS};
	struct sim_pool *p = plain_start(1);

	go(p, &holds);
	wait_ms(5);
	pool_drain_start(p, true, 0);
	wait_ms(20);
	pool_drain_over(p);
	wait_ms(5);
	EXPECT(p->drains_done == 1 && p->drain_result == ERR_CANCELLED);
	go(p, &one_request);
	wait_ms(20);
	EXPECT(run.clients[1]->served == 1);
	pool_drain_start(p, false, 0);
	wait_ms(500);
	EXPECT(p->drains_done == 2 && p->drain_result == ERR_OK);
	done();
}

/* ---- time, and events that cross ---- */

/* Proves: F:G6 POOL-7 C5 */
static void loop_stands_still(void)
{
	struct sim_pool *p = plain_pool(1, 0);
	struct server_opts *o = server_options(pool_server(p, 1, false));
	uint64_t events;

	o->max_idle_us = 5 * SECOND;
	pool_start(p);
	for (int i = 0; i < 10; i++)
		go(p, &one_request);
	wait_ms(50);
	EXPECT(pool_count(brain(p), UP_IDLE) == 10);
	loop_freeze(run.loops[0], world.now_us + 30 * SECOND);
	wait_ms(29990);
	for (int i = 0; i < 10; i++)
		go(p, &one_request);
	events = world.events;
	wait_ms(100);
	for (size_t i = 0; i < run.n_clients; i++)
		EXPECT(run.clients[i]->served == 1);
	EXPECT(stats(p)->upstream_closed[ERR_IDLE] == 10 && world.events - events < 1000);
	done();
}

/* The server closes idle connections while the loop is busy: their ends, new clients and new sockets come in one turn. */
static void crossing_run(uint64_t seed)
{
	struct sim_pool *p = plain_start(seed);
	struct server_actor *a = p->servers[0].hosts[0];

	for (int i = 0; i < 8; i++)
		go(p, &one_request);
	wait_ms(50);
	loop_freeze(run.loops[0], world.now_us + 10 * MS);
	wait_ms(1);
	server_actor_kill(a);
	server_actor_start(a);
	for (int i = 0; i < 8; i++)
		go(p, &one_request);
	wait_ms(100);
	for (size_t i = 0; i < run.n_clients; i++)
		EXPECT(run.clients[i]->served == 1);
	done();
}

/* Proves: F:R8 F:R10 F:U4 ISO-3 */
static void events_cross(void)
{
	for (uint64_t seed = 1; seed <= 50; seed++)
		crossing_run(seed);
}

/* ---- clients ---- */

/* Proves: F:C4 */
static void half_close(void)
{
	static const struct client_plan plan = {
		.requests = 2, .pipeline = 2, .payload_max = 2000, .habit = HABIT_HALF_CLOSE};
	enum reuse_rule rules[] = {REUSE_RULE_NEVER, REUSE_RULE_SCRIPT};

	for (size_t r = 0; r < 2; r++) {
		struct sim_pool *p = plain_pool(1 + r, 0);

		p->reuse = rules[r];
		p->opts.half_close_timeout_us = 200 * MS;
		pool_server(p, 1, false);
		pool_start(p);
		for (int i = 0; i < 10; i++)
			go(p, &plan);
		wait_ms(1000);
		for (size_t i = 0; i < run.n_clients; i++)
			EXPECT(run.clients[i]->served == 1);
		done();
	}
}

/* Proves: F:C6 RES-1 */
static void deaf_client(void)
{
	static const struct client_plan plan = {.requests = 40,
						.pipeline = 40,
						.payload_max = 30000,
						.habit = HABIT_DEAF,
						.leave_us = 10 * (int64_t)SECOND};
	struct sim_pool *p = plain_pool(1, 0);
	struct loop_count n;
	size_t most = 0;

	p->opts.client_write_timeout_us = 300 * MS;
	p->opts.high_water = 4096;
	pool_server(p, 1, false);
	pool_start(p);
	go(p, &plan);
	for (int i = 0; i < 600; i++) {
		wait_ms(1);
		loop_count(run.loops[0], &n);
		most = n.blocks > most ? n.blocks : most;
	}
	EXPECT(most > 0 && most <= 6);
	EXPECT(stats(p)->client_closed[ERR_CLIENT_SLOW] == 1 && pool_count(brain(p), UP_LEASED) == 0);
	done();
}

/* Proves: F:C1 RES-1 */
static void waiting_client_is_bounded(void)
{
	static const struct client_plan plan = {.requests = 20, .pipeline = 20, .payload_max = 30000};
	struct sim_pool *p = plain_pool(1, 0);
	struct loop_count n;

	p->opts.high_water = 8192;
	pool_server(p, 1, false);
	pool_start(p);
	p->servers[0].hosts[0]->port->deaf = true;
	go(p, &plan);
	wait_ms(500);
	loop_count(run.loops[0], &n);
	EXPECT(pool_waiting(brain(p)) == 1 && n.blocks > 0 && n.blocks <= 3);
	p->servers[0].hosts[0]->port->deaf = false;
	wait_ms(4000);
	EXPECT(run.clients[0]->served == 1);
	done();
}

/* Proves: F:U5 E1 */
static void server_ends_first(void)
{
	static const struct client_plan plan = {.requests = 3, .pipeline = 1, .payload_max = 10, .think_us = 5 * MS};
	struct sim_pool *p = plain_pool(1, 0);
	struct server_actor *a;

	p->reuse = REUSE_RULE_NEVER;
	pool_server(p, 1, false);
	pool_start(p);
	a = p->servers[0].hosts[0];
	a->fate_chance = 1000;
	a->fates = 1u << FATE_CLOSE;
	for (int i = 0; i < 20; i++)
		go(p, &plan);
	wait_ms(100);
	for (size_t i = 0; i < run.n_clients; i++)
		EXPECT(run.clients[i]->served + run.clients[i]->failed == 1);
	EXPECT(p->shadow.granted == 20 && pool_count(brain(p), UP_LEASED) == 0);
	done();
}

/* Proves: E1 C1 */
static void greeting_for_the_first(void)
{
	struct sim_pool *p = plain_pool(1, 0);
	struct server_opts *o = server_options(pool_server(p, 1, false));

	p->reuse = REUSE_RULE_NEVER;
	p->greets = true;
	o->min_idle = 3;
	pool_start(p);
	wait_ms(50);
	EXPECT(pool_count(brain(p), UP_IDLE) == 3 && p->shadow.dialled == 3);
	for (int i = 0; i < 10; i++)
		go(p, &one_request);
	wait_ms(50);
	for (size_t i = 0; i < run.n_clients; i++)
		EXPECT(run.clients[i]->served == 1 && run.clients[i]->seen_greeting);
	EXPECT(pool_count(brain(p), UP_IDLE) == 3);
	done();
}

/* ---- descriptors ---- */

/* Proves: RES-4 F:R1 */
static void no_descriptors_to_accept(void)
{
	struct sim_pool *p = plain_start(1);
	uint64_t events;

	world.bugs_on = true;
	world.bug.emfile_accept = 1000;
	for (int i = 0; i < 40; i++)
		go(p, &one_request);
	events = world.events;
	wait_ms(500);
	EXPECT(world.events - events < 500 && p->shadow.granted == 0);
	world.bug.emfile_accept = 0;
	wait_ms(100);
	for (size_t i = 0; i < run.n_clients; i++)
		EXPECT(run.clients[i]->served + run.clients[i]->failed == 1);
	EXPECT(p->shadow.granted >= 25);
	done();
}

/* Proves: RES-4 F:R1 D9 */
static void no_descriptors_to_dial(void)
{
	struct sim_pool *p = plain_start(1);

	world.bugs_on = true;
	world.bug.emfile_dial = 1000;
	for (int i = 0; i < 20; i++)
		go(p, &one_request);
	wait_ms(1000);
	EXPECT(p->shadow.granted == 0 && stats(p)->dials[ERR_NO_FDS] > 2 && stats(p)->dials[ERR_NO_FDS] < 100);
	world.bug.emfile_dial = 0;
	wait_ms(1600);
	for (size_t i = 0; i < run.n_clients; i++)
		EXPECT(run.clients[i]->served == 1);
	done();
}

static const struct scenario scenarios_core[] = {
	{"selftest", selftest_run},
	{"credentials", credtest_run_all},
	{"cancel-during-dial", cancel_during_dial},
	{"leave-during-health-check", leave_during_health_check},
	{"late-dial-is-banked", late_dial_is_banked},
	{"never-two-of-one", never_two_of_one},
	{"failing-dials-give-back", failing_dials_give_back},
	{"two-pools-one-budget", two_pools_one_budget},
	{"nonblock-pool-gets-its-share", nonblock_pool_gets_its_share},
	{"budget-is-lowered", budget_is_lowered},
	{"rate-is-kept", rate_is_kept},
	{"black-hole-among-three", black_hole_among_three},
	{"only-server-comes-back", only_server_comes_back},
	{"unasked-words", unasked_words},
	{"denied-logins-back-off", denied_logins_back_off},
	{"name-stops-resolving", name_stops_resolving},
	{"address-is-retired", address_is_retired},
	{"scheduled-close", scheduled_close},
	{"drain-answers-at-the-last-release", drain_answers_at_the_last_release},
	{"drain-times-out", drain_times_out},
	{"resume-answers-the-drain", resume_answers_the_drain},
	{"loop-stands-still", loop_stands_still},
	{"events-cross", events_cross},
	{"half-close", half_close},
	{"deaf-client", deaf_client},
	{"waiting-client-is-bounded", waiting_client_is_bounded},
	{"server-ends-first", server_ends_first},
	{"greeting-for-the-first", greeting_for_the_first},
	{"no-descriptors-to-accept", no_descriptors_to_accept},
	{"no-descriptors-to-dial", no_descriptors_to_dial},
	{0},
};

static int scenarios_run_of(const struct scenario *v, const char *name)
{
	int n = 0;

	for (; v->name; v++) {
		if (strcmp(name, "all") != 0 && strcmp(name, v->name) != 0)
			continue;
		world.name = v->name;
		v->run();
		n++;
	}
	return n;
}

int scenarios_run(const char *name)
{
	return scenarios_run_of(scenarios_core, name) + scenarios_run_of(scenarios_login, name) +
	       scenarios_run_of(scenarios_resp, name);
}
