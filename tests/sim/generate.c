/*
 * generate: draws a whole installation and its clients from the seed: options at and near their limits, names with several
 * addresses, every kind of client. What it draws must be able to serve everybody once it is left in peace (LIVE-6), so
 * time limits are some times what a healthy exchange takes, and min_idle leaves room for others in shared limits.
 */
#include <inttypes.h>

#include "files.h"
#include "run.h"

static struct {
	int64_t until_us; /* clients and faults act until then */
	int64_t pause_us; /* between a client's sessions */
	unsigned sessions_left;
} plot;

static bool one_in(uint64_t n)
{
	return world_below(n) == 0;
}

static void draw_server_options(struct server_opts *o, int min_idle_room)
{
	static const int sizes[] = {1, 1, 2, 3, 5, 10};

	o->max_size = sizes[world_below(6)];
	o->unbounded = one_in(12);
	o->max_concurrent_dials = one_in(3) ? 1 : (int)world_range(1, 6);
	if (min_idle_room > 0 && one_in(3))
		o->min_idle = (int)world_range(0, o->max_size < min_idle_room ? o->max_size : min_idle_room);
	if (one_in(5)) {
		o->max_rps = (int)world_range(40, 400);
		o->max_rps_burst = one_in(2) ? 1 : (int)world_range(1, 8);
	}
	if (one_in(3)) {
		o->max_age_us = world_range(30 * MS, 3 * SECOND);
		o->max_age_jitter = (double)world_below(10) / 10;
	}
	if (one_in(3))
		o->max_idle_us = world_range(10 * MS, 1 * SECOND);
	o->connect_timeout_us = world_range(30 * MS, 1 * SECOND);
	o->login_timeout_us = world_range(30 * MS, 1 * SECOND);
	o->backoff.initial_us = world_range(1 * MS, 200 * MS);
	o->backoff.max_us = o->backoff.initial_us + world_range(0, 500 * MS);
	o->backoff.multiplier = 1 + (double)world_below(20) / 10;
	o->backoff.jitter = (double)world_below(11) / 10;
	if (o->backoff.jitter > 0.9)
		o->backoff.jitter = 0.9;
	o->probe_interval_us = one_in(2) ? 0 : world_range(5 * MS, 200 * MS);
	o->evict_on_down = one_in(4);
}

static void draw_pool_options(struct sim_pool *p)
{
	struct service_opts *o = &p->opts;

	p->reuse = (enum reuse_rule)world_below(3);
	p->login = one_in(3);
	/* A reused connection greets nobody, and a ready check would trip over a greeting that nobody has read. */
	p->greets = p->reuse == REUSE_RULE_NEVER && one_in(4);
	o->lease_on = one_in(2) && !p->greets ? LEASE_ON_FIRST_BYTE : LEASE_ON_CONNECT;
	o->pool.lease_wait = one_in(5) ? LEASE_NONBLOCK : LEASE_BLOCK;
	o->pool.lease_timeout_us = one_in(8)   ? 0
				   : one_in(3) ? world_range(5 * MS, 100 * MS)
					       : world_range(100 * MS, 3 * SECOND);
	o->pool.reuse_order = (enum reuse_order)world_below(3);
	o->pool.has_health_check = one_in(3) && !p->greets;
	o->pool.health_check_after_us = one_in(2) ? world_range(0, 5 * MS) : world_range(5 * MS, 500 * MS);
	o->pool.health_check_timeout_us = world_range(20 * MS, 500 * MS);
	o->pool.clean_timeout_us = world_range(20 * MS, 500 * MS);
	o->pool.patience_us = one_in(2) ? 0 : world_range(1 * MS, 100 * MS);
	if (one_in(6))
		o->pool.max_total = (int)world_range(1, 6);
	o->quiet_time_us = world_range(1 * MS, 10 * MS);
	o->half_close_timeout_us = world_range(50 * MS, 1 * SECOND);
	if (!run.calm && one_in(4))
		o->client_idle_timeout_us = world_range(50 * MS, 1 * SECOND);
	o->client_write_timeout_us = one_in(6) ? 0 : world_range(200 * MS, 3 * SECOND);
	o->high_water = (size_t)world_range(64, 8192);
	o->dns_ttl_us = world_range(50 * MS, 500 * MS);
	o->dns_negative_ttl_us = world_range(20 * MS, 300 * MS);
	if (one_in(6))
		o->max_clients = (int)world_range(2, 20);
}

/* ---- credentials ---- */

static void draw_vault(void)
{
	static const enum cred_source sources[] = {CRED_FILE, CRED_FILE, CRED_COMMAND, CRED_COMMAND, CRED_STREAM};
	struct vault *v = vault_new(sources[world_below(5)]);
	struct credential_opts *o = &v->opts;

	o->debounce_us = world_range(0, 50 * MS);
	o->poll_us = world_range(50 * MS, 500 * MS);
	o->interval_us = one_in(2) ? 0 : world_range(100 * MS, 2 * SECOND);
	o->refresh_ratio = (double)world_range(50, 90) / 100;
	o->timeout_us = world_range(50 * MS, 400 * MS);
	o->retries = (int)world_range(1, 3);
	o->backoff_initial_us = world_range(1 * MS, 50 * MS);
	o->backoff_max_us = world_range(50 * MS, 300 * MS);
	o->cooldown_us = world_range(10 * MS, 200 * MS);
	o->cooldown_max_us = o->cooldown_us + world_range(0, 300 * MS);
	if (!run.calm && one_in(2))
		v->sick = (unsigned)world_below(600);
	vault_start(v);
}

static void draw_vaults(void)
{
	size_t n = (size_t)world_range(0, 2);

	files_blind(one_in(6));
	for (size_t i = 0; i < n; i++)
		draw_vault();
	/* Mostly they have answered when the first client comes. */
	if (!one_in(4))
		run_until(run_now() + 500 * MS);
}

static void vaults_unrest(int64_t until_us)
{
	for (size_t i = 0; i < run.n_vaults; i++)
		if (!one_in(5))
			vault_unrest(&run.vaults[i], until_us, run.calm);
}

static void draw_rotation(struct sim_pool *p)
{
	struct pool_opts *o = &p->opts.pool;

	p->vault = !p->login && one_in(3) ? NULL : &run.vaults[world_below(run.n_vaults)];
	o->cred_change = one_in(8) ? CRED_CHANGE_KEEP : one_in(4) ? CRED_CHANGE_RECYCLE : CRED_CHANGE_REAUTH;
	o->reauth_spread_us = one_in(2) ? 0 : world_range(0, 500 * MS);
	o->reauth_concurrency = (int)world_range(0, 3);
	o->reauth_timeout_us = world_range(30 * MS, 500 * MS);
	/* Well above the spread: those that come of age must not be more than can be worked off. */
	o->reauth_interval_us = one_in(4) ? world_range(1 * SECOND, 3 * SECOND) : 0;
	o->refresh_max_attempts = (int)world_range(0, 4);
}

/* ---- Redis ---- */

static void draw_redis(struct sim_pool *p)
{
	p->redis = true;
	p->greets = false;
	p->reuse = REUSE_RULE_SCRIPT;
	p->opts.lease_on = LEASE_ON_FIRST_BYTE;
	p->opts.mode = (enum service_mode)world_below(3);
	p->opts.multiplex = (int)world_range(0, 3);
	p->spice = one_in(3) ? 0 : (unsigned)world_range(50, 600);
	p->manners.block_max_us = world_range(1, 30 * MS);
	if (run.calm)
		return;
	if (one_in(3))
		p->manners.forgets = (unsigned)world_range(1, 60);
	if (one_in(4))
		p->manners.loading = (unsigned)world_range(1, 60);
	if (one_in(4))
		p->manners.readonly = (unsigned)world_range(1, 60);
}

static void draw_pool(unsigned loop, int min_idle_room)
{
	struct sim_pool *p = run_add_pool(loop);
	size_t n = (size_t)world_range(1, RUN_SERVERS);

	draw_pool_options(p);
	draw_rotation(p);
	if (one_in(2))
		draw_redis(p);
	if (p->opts.pool.max_total > 0 && min_idle_room >= p->opts.pool.max_total)
		min_idle_room = p->opts.pool.max_total - 1;
	for (size_t i = 0; i < n; i++) {
		bool by_name = one_in(3);
		struct sim_server *s = pool_server(p, by_name ? 1 + world_below(RUN_HOSTS) : 1, by_name);

		draw_server_options(server_options(s), min_idle_room / (int)n);
		if (p->redis) /* where every request is a lease, a rate is a limit of requests */
			server_options(s)->max_rps = 0;
		for (size_t h = 0; h < s->n_hosts; h++) {
			s->hosts[h]->port->cap_min = 256;
			s->hosts[h]->port->cap_max = one_in(2) ? 1024 : 16384;
		}
	}
	pool_start(p);
}

/* ---- clients ---- */

static struct client_plan draw_plan(const struct sim_pool *p)
{
	static const size_t sizes[] = {0, 20, 20, 200, 200, 3000};
	struct client_plan plan = {
		.requests = 1 + (unsigned)world_below(4), .pipeline = 1, .payload_max = sizes[world_below(6)]};

	if (one_in(3))
		plan.pipeline = 1 + (unsigned)world_below(4);
	if (p->redis)
		plan.requests = 1 + (unsigned)world_below(one_in(3) ? 30 : 8);
	if (p->redis && one_in(3))
		plan.pipeline = 1 + (unsigned)world_below(12);
	if (one_in(60))
		plan.payload_max = 30000;
	if (one_in(4))
		plan.think_us = world_range(0, 20 * MS);
	if (one_in(2))
		return plan;
	plan.habit = (enum client_habit)world_below(HABITS);
	/* Who leaves an answer behind does so with a reset, where only silence says that a connection is clean. */
	if (!p->redis && p->reuse == REUSE_RULE_QUIET &&
	    (plan.habit == HABIT_LEAVE || plan.habit == HABIT_HALF_CLOSE))
		plan.habit = HABIT_RESET;
	if (plan.habit == HABIT_LEAVE || plan.habit == HABIT_RESET)
		plan.leave_us = one_in(2) ? world_range(1, 2 * MS) : world_range(1, 100 * MS);
	if (plan.habit == HABIT_DEAF || plan.habit == HABIT_SILENT)
		plan.leave_us = world_range(1 * MS, 500 * MS);
	if (plan.habit == HABIT_SLOW || plan.habit == HABIT_TRICKLE)
		plan.payload_max = plan.payload_max < 60 ? plan.payload_max : 60;
	return plan;
}

static void client_again(struct client_actor *c, bool served)
{
	int64_t at = run_now() + (one_in(4) ? world_range(0, 2 * MS) : world_range(0, plot.pause_us));

	(void)served;
	if (plot.sessions_left == 0 || at >= plot.until_us)
		return;
	plot.sessions_left--;
	c->plan = draw_plan(run.client_pool[c->id - 1]);
	client_actor_connect_at(c, at + SECOND);
}

static void draw_clients(void)
{
	size_t n = one_in(4) ? (size_t)world_range(20, 60) : (size_t)world_range(5, 20);

	plot.sessions_left = (unsigned)world_range(10, 150);
	for (size_t i = 0; i < n; i++) {
		struct sim_pool *p = &run.pools[world_below(run.n_pools)];
		struct client_plan plan = draw_plan(p);
		struct client_actor *c = run_client(p, &plan);

		c->ended = client_again;
		client_actor_connect_at(c, world.now_us + world_range(0, one_in(3) ? 1 * MS : plot.until_us / 2));
	}
	plot.pause_us = plot.until_us * (int64_t)n / (plot.sessions_left + 1) / 2 + 1;
}

static void draw_bugs(void)
{
	struct buggify *b = &world.bug;

	if (run.calm)
		return;
	world.bugs_on = !one_in(3);
	*b = (struct buggify){.short_read = (unsigned)world_below(150),
			      .short_write = (unsigned)world_below(150),
			      .spurious = (unsigned)world_below(30),
			      .postpone = (unsigned)world_below(60),
			      .late_timer = (unsigned)world_below(200),
			      .lookup_slow = (unsigned)world_below(100)};
	if (one_in(3))
		b->emfile_dial = (unsigned)world_below(200);
	if (one_in(3))
		b->emfile_accept = (unsigned)world_below(200);
}

/* Where nothing goes wrong, nobody fails but for a limit of the pool's own. One refusal may be for many that share a connection. */
static void check_calm(void)
{
	for (size_t i = 0; i < run.n_pools; i++) {
		const struct sim_pool *p = &run.pools[i];
		uint64_t failed = 0, refused;

		refused = p->shadow.refused + pool_stat(service_pool(p->svc))->client_rejections[ERR_MAX_CLIENTS];
		for (size_t k = 0; k < run.n_clients; k++)
			if (run.client_pool[k] == p)
				failed += run.clients[k]->failed;
		PROMISE(failed <= refused || (p->redis && refused > 0), "calm",
			"%" PRIu64 " sessions of pool %u fail where nothing is wrong and %" PRIu64 " were refused",
			failed, p->index, refused);
	}
}

void generate_run(uint64_t seed)
{
	size_t n_loops, n_pools;
	int budget, room;

	world_begin(seed, NULL);
	n_loops = (size_t)world_range(1, RUN_LOOPS);
	n_pools = (size_t)world_range(1, RUN_POOLS);
	budget = one_in(2) ? 0 : (int)world_range((int)n_pools, 14);
	room = budget == 0 ? 6 : (budget - (int)n_pools) / (int)n_pools;
	run_begin(n_loops, budget, one_in(5) ? (int)world_range(4, 40) : 0);
	run.calm = one_in(8);
	trace(TR_BEGIN, seed, n_pools, 0);
	plot.until_us = one_in(8) ? world_range(5 * SECOND, 30 * SECOND) : world_range(1 * SECOND, 5 * SECOND);
	draw_bugs();
	draw_vaults();
	for (size_t i = 0; i < n_pools; i++)
		draw_pool((unsigned)world_below(n_loops), room);
	draw_clients();
	vaults_unrest(plot.until_us);
	if (!run.calm)
		nemesis_begin(plot.until_us);
	run_until(plot.until_us);
	if (run.calm)
		check_calm();
	plot.sessions_left = 0;
	run_heal();
	run_serve_all();
	run_end();
}
