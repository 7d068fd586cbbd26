/* shadow: see shadow.h. */
#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "run.h"
#include "sim_stream.h"

#define SLACK_US (10 * MS)

static struct sim_pool *pool_of(const struct pool *p)
{
	for (size_t i = 0; i < run.n_pools; i++)
		if (run.pools[i].svc && service_pool(run.pools[i].svc) == p)
			return &run.pools[i];
	return NULL;
}

/* While service_new() runs, its service is not known yet: its pool is the one being started. */
struct sim_pool *shadow_of(const struct pool *p)
{
	struct sim_pool *sp = pool_of(p);

	return sp ? sp : run.starting;
}

struct up_shadow *shadow_up(struct sim_pool *sp, const struct upstream *u)
{
	struct pool_shadow *s = &sp->shadow;

	for (size_t i = 0; i < s->n_ups; i++)
		if (s->ups[i].up == u)
			return &s->ups[i];
	world_fail("POOL-2", "an upstream nobody knows");
}

static unsigned server_index(const struct pool *p, const struct upstream *u)
{
	for (size_t i = 0; i < pool_servers(p); i++)
		if (pool_server_at(p, i) == u->server)
			return (unsigned)i;
	world_fail("POOL-2", "an upstream of no server");
}

/* ---- POOL-1, from the outside: sockets that exist ---- */

/* Proves: POOL-1 C1 C3 D1 */
static void on_dialled(struct stream *st)
{
	struct sim_server *s = st->port ? server_of_port(st->port) : NULL;
	const struct server_opts *o;
	int total = 0;

	if (!s)
		return;
	o = server_options(s);
	s->shadow.sockets++;
	s->pool->shadow.sockets++;
	if (s->shadow.sockets > s->shadow.sockets_most)
		s->shadow.sockets_most = s->shadow.sockets;
	for (size_t i = 0; i < run.n_pools; i++)
		total += run.pools[i].shadow.sockets;
	PROMISE(o->unbounded || s->shadow.sockets <= o->max_size, "POOL-1", "%d sockets to a server of max_size %d",
		s->shadow.sockets, o->max_size);
	PROMISE(s->pool->opts.pool.max_total == 0 || s->pool->shadow.sockets <= s->pool->opts.pool.max_total,
		"POOL-1", "%d sockets of a pool of max_total %d", s->pool->shadow.sockets,
		s->pool->opts.pool.max_total);
	PROMISE(total <= budget_used(run.budget), "POOL-1", "%d sockets, %d permits", total, budget_used(run.budget));
}

static void on_closed(struct stream *st)
{
	struct sim_server *s = st->dialled && st->port ? server_of_port(st->port) : NULL;

	for (size_t i = 0; i < run.n_pools; i++)
		for (size_t k = 0; k < run.pools[i].shadow.n_ups; k++)
			if (run.pools[i].shadow.ups[k].stream == st)
				run.pools[i].shadow.ups[k].stream = NULL;
	if (!s)
		return;
	s->shadow.sockets--;
	s->pool->shadow.sockets--;
}

/* ISO-3: what had arrived before the lease is never the client's. Proves: ISO-3 */
static void on_moved(struct stream *st, bool in, size_t n)
{
	const struct up_shadow *u = NULL;

	if (!st->dialled) {
		struct sim_pool *sp = pool_of_listener(&st->local);

		*(in ? &sp->shadow.bytes_in : &sp->shadow.bytes_out) += n;
		return;
	}
	for (size_t i = 0; i < run.n_pools && !u; i++)
		for (size_t k = 0; k < run.pools[i].shadow.n_ups && !u; k++)
			if (run.pools[i].shadow.ups[k].stream == st)
				u = &run.pools[i].shadow.ups[k];
	if (!u || u->state != UP_LEASED)
		return;
	PROMISE(!in || st->stale != ERR_DIRTY, "ISO-3", "%zu bytes that had arrived before the lease are read in it",
		n);
	PROMISE(in || st->stale == ERR_OK, "ISO-3",
		"a client's bytes go to a connection that had ended before its lease");
}

/* ---- effects ---- */

/* How many intervals fit into a time at most. */
int64_t shadow_backoff_steps(const struct backoff_opts *o, int64_t since_us)
{
	double step = (double)o->initial_us, sum = 0, top = (double)o->max_us;
	int64_t steps = 0;

	while (steps < 1000000) {
		/* A microsecond less: intervals are whole ones. */
		sum += (step < top ? step : top) * (1 - o->jitter) - 1;
		if (sum > (double)since_us)
			break;
		step = step * o->multiplier - 1;
		steps++;
	}
	return steps;
}

/*
 * After a failure the dials come one at a time, a growing backoff interval apart; beside them only probes do.
 * Proves: POOL-8 E9
 */
static void check_backoff(struct sim_server *server)
{
	const struct server_opts *o = server_options(server);
	struct server_shadow *s = &server->shadow;
	int64_t since = world.now_us - s->failed_us, allowed;

	if (s->failed_us == 0)
		return;
	s->dials++;
	allowed = shadow_backoff_steps(&o->backoff, since);
	if (o->probe_interval_us > 0)
		allowed += since / o->probe_interval_us;
	PROMISE(s->dials <= allowed, "POOL-8",
		"%u dials in the %" PRId64 " us after a failure, at most %" PRId64 " may be (from %" PRId64
		" us to %" PRId64 " us, x%.2f, jitter %.2f, probe %" PRId64 " us)",
		s->dials, since, allowed, o->backoff.initial_us, o->backoff.max_us, o->backoff.multiplier,
		o->backoff.jitter, o->probe_interval_us);
}

static void saw_dial(struct sim_pool *sp, const struct pool *p, struct upstream *u)
{
	struct pool_shadow *s = &sp->shadow;
	unsigned server = server_index(p, u);
	int max = budget_max(run.budget);

	trace(TR_EFFECT_DIAL, sp->index, u->id, server);
	BUG_ON(s->n_ups == SHADOW_UPS);
	s->ups[s->n_ups++] =
		(struct up_shadow){.up = u, .state = UP_DIALING, .server = server, .created_us = world.now_us};
	s->dialled++;
	PROMISE(max == 0 || budget_used(run.budget) <= max, "POOL-1", "%d permits of a budget of %d",
		budget_used(run.budget), max);
	PROMISE(!sp->stopped, "POOL-9", "a dial after the service has stopped");
	check_backoff(&sp->servers[server]);
	shadow_login_begins(sp, &s->ups[s->n_ups - 1], u->try_gen);
}

static void dial_ended(struct sim_pool *sp, const struct up_shadow *v, bool failed)
{
	struct server_shadow *s = &sp->servers[v->server].shadow;

	if (!failed && s->dials > 0) {
		s->dials--;
	} else if (failed && s->failed_us == 0) {
		s->failed_us = world.now_us;
		s->dials = 0;
	}
}

/* Proves: POOL-6 POOL-2 */
static void saw_close(struct sim_pool *sp, struct upstream *u, enum err why)
{
	struct pool_shadow *s = &sp->shadow;
	struct up_shadow *v = shadow_up(sp, u);

	trace(TR_EFFECT_CLOSE, sp->index, u->id, why);
	PROMISE(v->state != UP_CLOSING, "POOL-2", "closed twice");
	PROMISE(v->state != UP_LEASED, "POOL-6", "a leased connection is closed over its client's head");
	/* POOL-6: who is evicted from the idle ones is the least recently used of those that may go. One that came back in this
	 * very callback may have done so after the choice: it keeps no other from being one too many for min_idle. */
	for (size_t i = 0; why == ERR_EVICTED && v->state == UP_IDLE && i < s->n_ups; i++) {
		const struct up_shadow *w = &s->ups[i];
		size_t idle = 0;

		for (size_t k = 0; k < s->n_ups; k++)
			idle += s->ups[k].server == w->server && s->ups[k].state == UP_IDLE &&
				s->ups[k].used_us < u->state_us;
		if (w->state != UP_IDLE || idle <= (size_t)server_options(&sp->servers[w->server])->min_idle)
			continue;
		PROMISE(w->used_us >= v->used_us, "POOL-6",
			"evicts one used at %" PRId64 ", not the one used at %" PRId64, v->used_us, w->used_us);
	}
	/* The reasons before ERR_AGE are failures, the others decisions. A refused credential has a backoff of its own. */
	if (v->state == UP_DIALING || v->state == UP_LOGIN)
		dial_ended(sp, v, why < ERR_AGE && (why != ERR_DENIED || !sp->vault));
	shadow_login_ended(sp, v, why);
	v->state = UP_CLOSING;
	s->closed++;
}

/* Proves: POOL-5 E4 */
static void check_rate(struct sim_pool *sp, unsigned server)
{
	struct server_shadow *s = &sp->servers[server].shadow;
	const struct server_opts *o = server_options(&sp->servers[server]);
	uint64_t n = ++s->n_grants, back = n < SHADOW_GRANTS ? n : SHADOW_GRANTS;
	int burst = o->max_rps_burst > 0 ? o->max_rps_burst : 1;

	s->grants_us[n % SHADOW_GRANTS] = world.now_us;
	if (o->max_rps == 0)
		return;
	for (uint64_t k = 1; k < back; k++) {
		int64_t window = world.now_us - s->grants_us[(n - k) % SHADOW_GRANTS];
		int64_t count = (int64_t)k + 1;

		PROMISE((count - burst) * SECOND <= window * o->max_rps + o->max_rps, "POOL-5",
			"%" PRId64 " leases in %" PRId64 " us with max_rps %d and a burst of %d", count, window,
			o->max_rps, burst);
	}
}

/* Proves: POOL-4 */
static void check_fifo(struct sim_pool *sp, const struct lease *l)
{
	struct pool_shadow *s = &sp->shadow;

	for (size_t i = 0; i < s->n_waiting; i++) {
		if (s->waiting[i].lease == l) {
			int64_t waited = world.now_us - s->waiting[i].asked_us;

			if (waited > s->worst_wait_us)
				s->worst_wait_us = waited;
			memmove(&s->waiting[i], &s->waiting[i + 1], (--s->n_waiting - i) * sizeof(s->waiting[0]));
			return;
		}
		PROMISE(s->waiting[i].lease->state != LEASE_WAITING, "POOL-4",
			"a lease asked for at %" PRId64 " is passed over by a later one",
			s->waiting[i].asked_us - SECOND);
	}
	world_fail("POOL-4", "a lease is granted that nobody waits for");
}

/* Proves: POOL-7 C4 C5 */
static void check_fresh(struct sim_pool *sp, const struct up_shadow *v)
{
	const struct server_opts *o = server_options(&sp->servers[v->server]);

	PROMISE(o->max_age_us == 0 || world.now_us - v->created_us <= o->max_age_us, "POOL-7",
		"lends a connection %" PRId64 " us old, max_age is %" PRId64, world.now_us - v->created_us,
		o->max_age_us);
	PROMISE(o->max_idle_us == 0 || world.now_us - v->used_us <= o->max_idle_us, "POOL-7",
		"lends a connection idle for %" PRId64 " us, max_idle is %" PRId64, world.now_us - v->used_us,
		o->max_idle_us);
}

static void saw_grant(struct sim_pool *sp, struct upstream *u, struct lease *l)
{
	struct pool_shadow *s = &sp->shadow;
	struct up_shadow *v = shadow_up(sp, u);
	struct stream *st = v->stream;
	bool greeting;

	trace(TR_EFFECT_GRANT, sp->index, u->id, s->granted);
	for (size_t i = 0; i < s->n_untold; i++) {
		if (s->untold[i] == l) {
			s->untold[i] = s->untold[--s->n_untold];
			return;
		}
	}
	PROMISE(v->state == UP_IDLE, "POOL-2", "lends a connection that is %s", up_state_name(v->state));
	PROMISE(st && st->phase == STREAM_OPEN, "POOL-2", "lends a connection without a socket");
	PROMISE(!sp->draining, "POOL-9", "a lease is granted after a drain that refuses them");
	check_fifo(sp, l);
	check_fresh(sp, v);
	check_rate(sp, v->server);
	shadow_check_login(sp, v);
	v->state = UP_LEASED;
	v->leases++;
	s->granted++;
	/* What a new connection says unasked is its greeting, and its first client's; so is its end, if it comes at once. */
	greeting = v->leases == 1 && !sp->login && !sp->redis && !v->checked;
	if (sock_unread(st->sock) > 0)
		st->stale = greeting ? ERR_OK : ERR_DIRTY;
	else if (sock_peek(st->sock) != ERR_AGAIN)
		/* One that was read in this very turn is not looked at again: it might as well end a moment later. */
		st->stale = (greeting || (sp->redis && v->leases > 1)) && v->used_us == world.now_us ? ERR_OK
												     : ERR_EOF;
	else
		st->stale = ERR_OK;
	s->stale = s->stale || st->stale != ERR_OK;
}

/* A refusal or a cancellation: the lease waits no longer. */
static struct lease_shadow lease_forget(struct pool_shadow *s, const struct lease *l)
{
	for (size_t i = 0; i < s->n_waiting; i++)
		if (s->waiting[i].lease == l) {
			struct lease_shadow asked = s->waiting[i];

			memmove(&s->waiting[i], &s->waiting[i + 1], (--s->n_waiting - i) * sizeof(s->waiting[0]));
			return asked;
		}
	return (struct lease_shadow){.asked_us = -1};
}

/* Proves: POOL-11 E17 */
static void saw_refuse(struct sim_pool *sp, const struct lease *l, enum err why)
{
	struct pool_shadow *s = &sp->shadow;
	struct lease_shadow was = lease_forget(s, l);
	int64_t waited = world.now_us - was.asked_us, t = sp->opts.pool.lease_timeout_us;
	int64_t more = t / 100 > SLACK_US ? t / 100 : SLACK_US;

	trace(TR_EFFECT_REFUSE, sp->index, s->refused, why);
	PROMISE(was.asked_us >= 0, "POOL-12", "a lease is refused that nobody asked for");
	s->refused++;
	s->refused_by[why]++;
	if (t > 0)
		PROMISE(waited <= t + more + shadow_late_us(sp), "POOL-11",
			"a lease with a timeout of %" PRId64 " us is refused after %" PRId64, t, waited);
	if (waited < t && (why == ERR_DENIED || why == ERR_NO_CREDENTIAL || why == ERR_EXPIRED) &&
	    sp->opts.pool.lease_wait == LEASE_BLOCK)
		shadow_check_denied(sp, s->no_newer - was.no_newer);
	else if (sp->opts.pool.lease_wait == LEASE_BLOCK && t > 0 && why != ERR_DRAINING && why != ERR_SHUTDOWN)
		PROMISE(waited >= t, "POOL-11", "a lease with a timeout of %" PRId64 " us is refused after %" PRId64,
			t, waited);
}

bool __real_pool_effect(struct pool *p, struct effect *e);
bool __wrap_pool_effect(struct pool *p, struct effect *e);
bool __wrap_pool_effect(struct pool *p, struct effect *e)
{
	struct sim_pool *sp = shadow_of(p);

	if (!__real_pool_effect(p, e))
		return false;
	switch (e->kind) {
	case EFFECT_DIAL:
		saw_dial(sp, p, e->up);
		break;
	case EFFECT_PROBE:
		trace(TR_EFFECT_PROBE, sp->index, e->up->id, 0);
		shadow_up(sp, e->up)->state = UP_PROBING;
		break;
	case EFFECT_REAUTH:
		if (e->up->state == UP_REAUTH) {
			shadow_saw_reauth(sp, e->up);
			shadow_up(sp, e->up)->state = UP_REAUTH;
		}
		break;
	case EFFECT_WANT_NEWER:
		shadow_saw_want(sp, e->gen);
		break;
	case EFFECT_CLOSE:
		saw_close(sp, e->up, e->err);
		break;
	case EFFECT_GRANT:
		saw_grant(sp, e->up, e->lease);
		break;
	case EFFECT_REFUSE:
		saw_refuse(sp, e->lease, e->err);
		break;
	case EFFECT_DRAINED:
		trace(TR_EFFECT_DRAINED, sp->index, 0, 0);
		sp->shadow.drained_us = world.now_us;
		break;
	}
	return true;
}

/* ---- calls ---- */

/* What a call made of a connection that might have become idle. It may be on its way elsewhere again by now: an effect
 * will say so. */
void shadow_up_settled(struct up_shadow *v, const struct upstream *u)
{
	if (u->state == UP_IDLE || u->state == UP_LEASED || u->state == UP_PROBING || u->state == UP_REAUTH)
		v->state = UP_IDLE;
}

void __real_pool_lease(struct pool *p, struct lease *l, void *owner, int64_t now_us);
void __wrap_pool_lease(struct pool *p, struct lease *l, void *owner, int64_t now_us);
void __wrap_pool_lease(struct pool *p, struct lease *l, void *owner, int64_t now_us)
{
	struct sim_pool *sp = shadow_of(p);
	struct pool_shadow *s = &sp->shadow;

	BUG_ON(s->n_waiting == SHADOW_LEASES);
	s->waiting[s->n_waiting++] = (struct lease_shadow){.lease = l, .asked_us = now_us, .no_newer = s->no_newer};
	trace(TR_ASK, sp->index, s->asked++, s->n_waiting);
	__real_pool_lease(p, l, owner, now_us);
}

void __real_pool_cancel(struct pool *p, struct lease *l, enum err why, int64_t now_us);
void __wrap_pool_cancel(struct pool *p, struct lease *l, enum err why, int64_t now_us);
void __wrap_pool_cancel(struct pool *p, struct lease *l, enum err why, int64_t now_us)
{
	struct sim_pool *sp = shadow_of(p);

	if (l->state == LEASE_WAITING) {
		trace(TR_CANCEL, sp->index, sp->shadow.cancelled++, why);
		PROMISE(lease_forget(&sp->shadow, l).asked_us >= 0, "POOL-12",
			"a lease is cancelled that nobody asked for");
	}
	__real_pool_cancel(p, l, why, now_us);
}

/* Its client left between the decision and the effect that says so: allowed, as the connection was not touched. */
static void release_untold(struct pool_shadow *s, struct up_shadow *v, const struct lease *l, enum release_how how)
{
	PROMISE(v->state == UP_IDLE && how == RELEASE_CLEAN && s->n_untold < SHADOW_LEASES, "POOL-12",
		"a connection is returned that was not lent");
	PROMISE(lease_forget(s, l).asked_us >= 0, "POOL-12", "a lease is returned that nobody asked for");
	s->untold[s->n_untold++] = l;
	s->granted++;
	v->leases++;
}

bool __real_pool_release(struct pool *p, struct lease *l, enum release_how how, enum err why, int64_t now_us);
bool __wrap_pool_release(struct pool *p, struct lease *l, enum release_how how, enum err why, int64_t now_us);
bool __wrap_pool_release(struct pool *p, struct lease *l, enum release_how how, enum err why, int64_t now_us)
{
	struct sim_pool *sp = shadow_of(p);
	struct up_shadow *v = shadow_up(sp, l->up);
	bool check;

	trace(TR_RELEASE, sp->index, l->up->id, how);
	if (v->state != UP_LEASED)
		release_untold(&sp->shadow, v, l, how);
	sp->shadow.released++;
	sp->shadow.last_release_us = world.now_us;
	v->used_us = world.now_us;
	v->state = UP_CLEANING;
	check = __real_pool_release(p, l, how, why, now_us);
	shadow_up_settled(v, v->up);
	return check;
}

void __real_pool_connected(struct pool *p, struct upstream *u, int64_t now_us);
void __wrap_pool_connected(struct pool *p, struct upstream *u, int64_t now_us);
void __wrap_pool_connected(struct pool *p, struct upstream *u, int64_t now_us)
{
	struct sim_pool *sp = shadow_of(p);
	struct up_shadow *v = shadow_up(sp, u);

	trace(TR_CONNECTED, sp->index, u->id,
	      world.current && world.current->sock ? sock_id(world.current->sock) : 0);
	PROMISE(v->state == UP_DIALING, "POOL-2", "connected while %s", up_state_name(v->state));
	PROMISE(world.current && world.current->dialled, "POOL-2", "connected, but by what?");
	v->state = UP_LOGIN;
	v->stream = world.current;
	__real_pool_connected(p, u, now_us);
}

void __real_pool_idle(struct pool *p, struct upstream *u, int64_t now_us);
void __wrap_pool_idle(struct pool *p, struct upstream *u, int64_t now_us);
void __wrap_pool_idle(struct pool *p, struct upstream *u, int64_t now_us)
{
	struct sim_pool *sp = shadow_of(p);
	struct up_shadow *v = shadow_up(sp, u);

	trace(TR_IDLE, sp->index, u->id, 0);
	PROMISE(v->state == UP_LOGIN, "POOL-2", "ready while %s", up_state_name(v->state));
	sp->servers[v->server].shadow.failed_us = 0;
	v->used_us = now_us;
	shadow_login_ended(sp, v, ERR_OK);
	__real_pool_idle(p, u, now_us);
	shadow_up_settled(v, u);
}

void __real_pool_checked(struct pool *p, struct upstream *u, enum err e, int64_t now_us);
void __wrap_pool_checked(struct pool *p, struct upstream *u, enum err e, int64_t now_us);
void __wrap_pool_checked(struct pool *p, struct upstream *u, enum err e, int64_t now_us)
{
	struct sim_pool *sp = shadow_of(p);
	struct up_shadow *v = shadow_up(sp, u);

	trace(TR_CHECKED, sp->index, u->id, e);
	v->checked = true;
	__real_pool_checked(p, u, e, now_us);
	shadow_up_settled(v, u);
}

void __real_pool_cleaned(struct pool *p, struct upstream *u, enum err e, int64_t now_us);
void __wrap_pool_cleaned(struct pool *p, struct upstream *u, enum err e, int64_t now_us);
void __wrap_pool_cleaned(struct pool *p, struct upstream *u, enum err e, int64_t now_us)
{
	struct sim_pool *sp = shadow_of(p);
	struct up_shadow *v = shadow_up(sp, u);

	trace(TR_CLEANED, sp->index, u->id, e);
	if (u->state == UP_CLEANING && e == ERR_OK)
		v->used_us = now_us;
	__real_pool_cleaned(p, u, e, now_us);
	shadow_up_settled(v, u);
}

void __real_pool_failed(struct pool *p, struct upstream *u, enum err e, int64_t now_us);
void __wrap_pool_failed(struct pool *p, struct upstream *u, enum err e, int64_t now_us);
void __wrap_pool_failed(struct pool *p, struct upstream *u, enum err e, int64_t now_us)
{
	struct sim_pool *sp = shadow_of(p);

	trace(TR_FAILED, sp->index, u->id, e);
	shadow_login_ended(sp, shadow_up(sp, u), e);
	__real_pool_failed(p, u, e, now_us);
}

void __real_pool_closed(struct pool *p, struct upstream *u, int64_t now_us);
void __wrap_pool_closed(struct pool *p, struct upstream *u, int64_t now_us);
void __wrap_pool_closed(struct pool *p, struct upstream *u, int64_t now_us)
{
	struct sim_pool *sp = shadow_of(p);
	struct pool_shadow *s = &sp->shadow;
	struct up_shadow *v = shadow_up(sp, u);

	trace(TR_CLOSED, sp->index, u->id, 0);
	PROMISE(v->state == UP_CLOSING, "POOL-2", "gone while %s", up_state_name(v->state));
	PROMISE(v->stream == NULL, "POOL-1", "the permit goes back before the socket is closed");
	*v = s->ups[--s->n_ups];
	__real_pool_closed(p, u, now_us);
}

void shadow_begin(void)
{
	world.after = shadow_after;
	sim_watch = (struct stream_watch){.dialled = on_dialled, .closed = on_closed, .moved = on_moved};
}
