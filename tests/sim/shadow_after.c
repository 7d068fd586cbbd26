/* shadow_after: what is checked after every callback of a loop, and at the end. See shadow.h. */
#include <inttypes.h>

#include "run.h"
#include "sim_stream.h"

#define SLACK_US (10 * MS)

/* How much later than due something may be: turns are late when the loop stands still. */
int64_t shadow_late_us(const struct sim_pool *sp)
{
	return SLACK_US + loop_late_us(run.loops[sp->loop]);
}

size_t shadow_count(const struct pool_shadow *s, enum up_state st)
{
	size_t n = 0;

	for (size_t i = 0; i < s->n_ups; i++)
		n += s->ups[i].state == st;
	return n;
}

/* Proves: POOL-2 POOL-12 */
static void check_counts(const struct sim_pool *sp, struct pool *p)
{
	const struct pool_shadow *s = &sp->shadow;
	const struct stat *st = pool_stat(p);
	size_t leased = shadow_count(s, UP_LEASED), idle = shadow_count(s, UP_IDLE);

	PROMISE(leased == pool_count(p, UP_LEASED) && idle == pool_count(p, UP_IDLE), "POOL-2",
		"%zu leased and %zu idle, the pool says %zu and %zu", leased, idle, pool_count(p, UP_LEASED),
		pool_count(p, UP_IDLE));
	PROMISE(s->n_waiting == pool_waiting(p), "POOL-12", "%zu wait, the pool says %zu", s->n_waiting,
		pool_waiting(p));
	PROMISE(s->granted == st->leases && s->released == st->leases_returned && s->granted == s->released + leased,
		"POOL-12",
		"%" PRIu64 " grants, %" PRIu64 " returns, %zu active; counted are %" PRIu64 " and %" PRIu64,
		s->granted, s->released, leased, st->leases, st->leases_returned);
}

/* What had ended or spoken before it was lent is taken back at once. Proves: ISO-3 */
static void check_not_stale(struct sim_pool *sp)
{
	for (size_t i = 0; sp->shadow.stale && i < sp->shadow.n_ups; i++) {
		const struct up_shadow *v = &sp->shadow.ups[i];

		PROMISE(v->state != UP_LEASED || !v->stream || v->stream->stale == ERR_OK, "ISO-3",
			"a connection that had %s before its lease stays lent",
			v->stream->stale == ERR_EOF ? "ended" : "spoken");
	}
	sp->shadow.stale = false;
}

/* Idle or leased ones that have to log in again first, or to be replaced. */
static size_t count_stale(const struct sim_pool *sp, struct pool *p)
{
	size_t n = 0;

	for (size_t i = 0; i < sp->n_servers; i++) {
		struct server_view v;

		pool_server_view(p, i, world.now_us, &v);
		n += v.stale;
	}
	return n;
}

/* Nobody waits beside a connection that could be had: a lost wake-up would show here. */
static void check_no_waste(const struct sim_pool *sp, struct pool *p)
{
	if (pool_waiting(p) == 0 || pool_count(p, UP_IDLE) == 0 || sp->opts.pool.has_health_check)
		return;
	if (pool_count(p, UP_IDLE) <= count_stale(sp, p))
		return;
	for (size_t i = 0; i < sp->n_servers; i++)
		if (sp->server_opts[i].opts.max_rps > 0)
			return;
	world_fail("LIVE-6", "%zu wait beside %zu idle connections", pool_waiting(p), pool_count(p, UP_IDLE));
}

/* A server is not down, and there is a credential to log in with. */
static bool login_possible(const struct sim_pool *sp, size_t i, const struct server_view *v)
{
	const struct server_shadow *s = &sp->servers[i].shadow;

	if (!sp->vault)
		return v->up;
	if (!v->up && v->last_error != ERR_DENIED)
		return false;
	if (s->proven != 0 && vault_expires_us(sp->vault, s->proven) > world.now_us)
		return v->up;
	for (size_t k = 0; k < sp->shadow.n_ups; k++)
		if (sp->shadow.ups[k].server == i && sp->shadow.ups[k].canary)
			return false;
	return s->refused_us == 0 && !s->cooled && vault_expires_us(sp->vault, sp->shadow.gen) > world.now_us;
}

/* Whether a dial could be started now and none is under way: nothing is in the way of whoever waits. */
static bool could_dial(const struct sim_pool *sp, const struct pool *p)
{
	const struct pool_shadow *s = &sp->shadow;
	int max = budget_max(run.budget), total = sp->opts.pool.max_total;
	size_t leased = shadow_count(s, UP_LEASED);

	if (pool_waiting(p) == 0 || leased != s->n_ups || (max > 0 && budget_used(run.budget) >= max) ||
	    (total > 0 && s->n_ups >= (size_t)total))
		return false;
	for (size_t i = 0; i < sp->n_servers; i++) {
		const struct server_opts *o = &sp->server_opts[i].opts;
		struct server_view v;

		pool_server_view(p, i, world.now_us, &v);
		if (login_possible(sp, i, &v) && v.dialable && o->max_rps == 0 &&
		    sp->servers[i].shadow.failed_us == 0 &&
		    (o->unbounded || v.by_state[UP_LEASED] < (size_t)o->max_size))
			return true;
	}
	return false;
}

/* Nobody waits for long where a dial is possible: a poke that got lost would show here. Proves: LIVE-6 D7 */
static void check_not_stuck(struct sim_pool *sp, const struct pool *p)
{
	int64_t late = 0;

	/* The budget asks the hungriest pool first, and its loop may be the one that stands still. */
	for (size_t i = 0; i < run.n_pools; i++)
		if (shadow_late_us(&run.pools[i]) > late)
			late = shadow_late_us(&run.pools[i]);
	if (!could_dial(sp, p))
		sp->shadow.stuck_us = 0;
	else if (sp->shadow.stuck_us == 0)
		sp->shadow.stuck_us = world.now_us;
	else
		PROMISE(world.now_us - sp->shadow.stuck_us <= late, "LIVE-6",
			"%zu wait for %" PRId64 " us where a dial is possible", pool_waiting(p),
			world.now_us - sp->shadow.stuck_us);
}

/* A drain is answered soon after nothing is leased any more, whoever asked. Proves: C23 */
static void check_drain(struct sim_pool *sp, const struct pool *p)
{
	if (!sp->drain_out || pool_count(p, UP_LEASED) > 0)
		sp->shadow.undrained_us = 0;
	else if (sp->shadow.undrained_us == 0)
		sp->shadow.undrained_us = world.now_us;
	else
		PROMISE(world.now_us - sp->shadow.undrained_us <= 50 * MS + shadow_late_us(sp), "C23",
			"nothing is leased for %" PRId64 " us, and the drain is not answered",
			world.now_us - sp->shadow.undrained_us);
}

/* What a loop keeps for others is bounded by its sessions and connections, whatever they do. Proves: RES-1 */
static void check_blocks(const struct loop *l)
{
	struct loop_count n;
	size_t may = 0;

	loop_count(l, &n);
	for (size_t i = 0; i < run.n_pools; i++) {
		const struct sim_pool *sp = &run.pools[i];
		size_t clients = 0, each = 2 * (sp->opts.high_water / 4000 + 2);

		if (!sp->svc || run.loops[sp->loop] != l)
			continue;
		for (int st = 0; st < CLIENT_STATES; st++)
			clients += service_count(sp->svc, (enum client_state)st);
		/* a greeting for a client; a reply and an output for a connection */
		may += clients * (each + 5) + sp->shadow.n_ups * 12;
	}
	PROMISE(n.blocks <= may, "RES-1", "%zu blocks are in use, %zu may be", n.blocks, may);
}

/* How long a dial or check may be taken for quick: four times the usual at most (the pool's patience). */
static int64_t longest_patience_us(const struct sim_pool *sp)
{
	int64_t longest = sp->opts.pool.has_health_check ? sp->opts.pool.health_check_timeout_us : 0;

	for (size_t i = 0; i < sp->n_servers; i++) {
		const struct server_opts *o = &sp->server_opts[i].opts;

		if (o->connect_timeout_us + o->login_timeout_us > longest)
			longest = o->connect_timeout_us + o->login_timeout_us;
	}
	return 4 * longest;
}

/* Proves: LIVE-4 */
static void check_pool(struct sim_pool *sp)
{
	struct pool *p = service_pool(sp->svc);
	int64_t due = pool_next_us(p);

	service_audit(sp->svc);
	shadow_notice_timeouts(sp);
	check_counts(sp, p);
	check_not_stale(sp);
	check_no_waste(sp, p);
	check_not_stuck(sp, p);
	check_drain(sp, p);
	/* One that was past when it was set is met in the next turn. */
	if (due != sp->shadow.due_us)
		sp->shadow.due_since_us = world.now_us;
	sp->shadow.due_us = due;
	if (due < sp->shadow.due_since_us)
		due = sp->shadow.due_since_us;
	PROMISE(due >= world.now_us - shadow_late_us(sp), "LIVE-4", "a deadline was missed by %" PRId64 " us",
		world.now_us - due);
	if (sp->shadow.n_waiting > 0 && sp->opts.pool.lease_wait == LEASE_NONBLOCK)
		PROMISE(world.now_us - sp->shadow.waiting[0].asked_us <= longest_patience_us(sp) + shadow_late_us(sp),
			"POOL-11", "a lease that is not to wait waits for %" PRId64 " us",
			world.now_us - sp->shadow.waiting[0].asked_us);
	if (sp->shadow.n_waiting > 0 && sp->opts.pool.lease_timeout_us > 0)
		PROMISE(world.now_us - sp->shadow.waiting[0].asked_us <=
				sp->opts.pool.lease_timeout_us + sp->opts.pool.lease_timeout_us / 100 +
					shadow_late_us(sp),
			"POOL-11", "a lease waits for %" PRId64 " us", world.now_us - sp->shadow.waiting[0].asked_us);
}

void shadow_after(struct loop *l)
{
	int permits = 0;

	check_blocks(l);
	if (l == run.control)
		vaults_check();
	for (size_t i = 0; i < run.n_pools; i++) {
		struct sim_pool *sp = &run.pools[i];

		permits += (int)sp->shadow.n_ups;
		if (sp->svc && run.loops[sp->loop] == l)
			check_pool(sp);
	}
	PROMISE(permits == budget_used(run.budget), "POOL-1", "%d permits are out for %d connections",
		budget_used(run.budget), permits);
}

/* D8, D9, POOL-12: everything that was taken is back, and the counters tell what happened. Proves: POOL-12 D9 */
static void check_totals(const struct sim_pool *sp)
{
	const struct pool_shadow *s = &sp->shadow;
	const struct stat *st = pool_stat(service_pool(sp->svc));
	uint64_t failures = 0, closed = 0, clients = 0;

	for (int i = 0; i < ERR_COUNT; i++) {
		failures += st->lease_failures[i];
		closed += st->upstream_closed[i];
		clients += st->client_closed[i];
	}
	PROMISE(failures == s->refused + s->cancelled && s->asked == s->granted + s->refused + s->cancelled,
		"POOL-12",
		"%" PRIu64 " asked, %" PRIu64 " granted, %" PRIu64 " refused, %" PRIu64 " cancelled, %" PRIu64
		" counted",
		s->asked, s->granted, s->refused, s->cancelled, failures);
	PROMISE(closed == s->closed && s->closed == s->dialled, "POOL-12",
		"%" PRIu64 " dialled, %" PRIu64 " closed, %" PRIu64 " counted", s->dialled, s->closed, closed);
	PROMISE(clients == st->clients, "POOL-12", "%" PRIu64 " clients came, %" PRIu64 " left", st->clients,
		clients);
	/* What was read for a client that left before it could be written is counted too. */
	PROMISE(st->bytes_from_clients == s->bytes_in && st->bytes_to_clients >= s->bytes_out, "POOL-12",
		"bytes in and out: %" PRIu64 " %" PRIu64 ", counted %" PRIu64 " %" PRIu64, s->bytes_in, s->bytes_out,
		st->bytes_from_clients, st->bytes_to_clients);
}

void shadow_end(void)
{
	for (size_t i = 0; i < run.n_pools; i++) {
		PROMISE(run.pools[i].shadow.n_ups == 0, "leak", "%zu connections are left",
			run.pools[i].shadow.n_ups);
		PROMISE(run.pools[i].shadow.sockets == 0, "leak", "%d sockets are left", run.pools[i].shadow.sockets);
		check_totals(&run.pools[i]);
	}
	PROMISE(budget_used(run.budget) == 0, "D9", "%d permits are left", budget_used(run.budget));
}
