/* shadow_login: what is checked of logins and of the credentials they use. See shadow.h. */
#include <inttypes.h>

#include "run.h"
#include "sim_stream.h"

static struct server_shadow *server_of(struct sim_pool *sp, const struct up_shadow *v)
{
	return &sp->servers[v->server].shadow;
}

static bool is_logging_in_again(const struct up_shadow *v)
{
	return v->reauth && v->try_gen != 0;
}

/* Proves: CRED-2 */
static void check_concurrency(const struct sim_pool *sp, const struct up_shadow *v)
{
	const struct server_opts *o = &sp->server_opts[v->server].opts;
	int max = sp->opts.pool.reauth_concurrency, n = 0;

	for (size_t i = 0; i < sp->shadow.n_ups; i++)
		n += sp->shadow.ups[i].server == v->server && is_logging_in_again(&sp->shadow.ups[i]);
	if (max == 0 && !o->unbounded)
		max = o->max_size;
	PROMISE(max == 0 || n <= max, "CRED-2", "%d connections of a server log in again at once, at most %d may", n,
		max);
}

/* A second login on a connection in use that took too long: the pool gives it up without a call. */
void shadow_notice_timeouts(struct sim_pool *sp)
{
	for (size_t i = 0; i < sp->shadow.n_ups; i++) {
		struct up_shadow *v = &sp->shadow.ups[i];

		if (v->state != UP_LEASED || v->try_gen == 0 || v->up->try_gen != 0)
			continue;
		PROMISE(world.now_us - v->begun_us >= sp->opts.pool.reauth_timeout_us, "CRED-7",
			"a second login is forgotten after %" PRId64 " us", world.now_us - v->begun_us);
		shadow_login_ended(sp, v, ERR_REAUTH_TIMEOUT);
	}
}

/*
 * With a credential that is not known to work there, one login at a time, and after a refusal one for each step of the
 * backoff.
 * Proves: CRED-6 CRED-8
 */
static void canary_begins(struct sim_pool *sp, struct up_shadow *v)
{
	const struct pool_shadow *s = &sp->shadow;
	struct server_shadow *server = server_of(sp, v);
	int64_t since = world.now_us - server->refused_us;

	PROMISE(v->try_gen == s->gen, "CRED-8",
		"a login with generation %" PRIu64 ", which is not known to work, and not %" PRIu64, v->try_gen,
		s->gen);
	for (size_t i = 0; i < s->n_ups; i++)
		PROMISE(&s->ups[i] == v || s->ups[i].server != v->server || !s->ups[i].canary, "CRED-8",
			"two logins try generation %" PRIu64 " at once", v->try_gen);
	v->canary = true;
	if (server->refused_us == 0)
		return;
	server->tries++;
	v->counted = true;
	PROMISE(server->tries <= shadow_backoff_steps(&sp->server_opts[v->server].opts.backoff, since), "CRED-6",
		"%u logins with generation %" PRIu64 " in the %" PRId64 " us after it was refused", server->tries,
		v->try_gen, since);
}

/* Proves: CRED-9 */
void shadow_login_begins(struct sim_pool *sp, struct up_shadow *v, uint64_t gen)
{
	const struct pool_shadow *s = &sp->shadow;

	if (!sp->vault)
		return;
	shadow_notice_timeouts(sp);
	v->try_gen = gen;
	v->begun_us = world.now_us;
	PROMISE(gen > 0 && gen <= s->gen, "CRED-8", "a login with generation %" PRIu64 " of %" PRIu64, gen, s->gen);
	PROMISE(vault_expires_us(sp->vault, gen) > world.now_us, "CRED-9",
		"a login with generation %" PRIu64 ", which has expired", gen);
	if (gen != server_of(sp, v)->proven)
		canary_begins(sp, v);
	if (v->reauth)
		check_concurrency(sp, v);
}

void shadow_login_ended(struct sim_pool *sp, struct up_shadow *v, enum err e)
{
	struct server_shadow *server = server_of(sp, v);
	uint64_t gen = v->try_gen;

	if (gen == 0)
		return;
	if (e == ERR_OK) {
		v->gen = gen;
		if (gen > server->proven)
			server->proven = gen;
		if (gen == sp->shadow.gen) {
			server->refused_us = 0;
			server->cooled = false;
		}
	} else if (e == ERR_DENIED) {
		if (gen == server->proven)
			server->proven = 0;
		if (gen == sp->shadow.gen && server->refused_us == 0) {
			server->refused_us = world.now_us;
			server->tries = 0;
		}
	} else if (v->counted && server->tries > 0) {
		server->tries--;
	}
	if (e != ERR_OK && gen == sp->shadow.gen)
		server->cooled = true;
	v->try_gen = 0;
	v->canary = v->counted = v->reauth = false;
}

/*
 * Nothing is lent that is logged in with an older credential than the newest that the server is known to accept, nor with
 * one that has expired; and what the pool believes of a login is what the server saw.
 * Proves: CRED-1 CRED-9
 */
void shadow_check_login(const struct sim_pool *sp, const struct up_shadow *v)
{
	const struct pool_shadow *s = &sp->shadow;

	if (!sp->vault)
		return;
	PROMISE(sp->cred_change == CRED_CHANGE_KEEP || sp->servers[v->server].shadow.proven != s->gen ||
			v->gen == s->gen,
		"CRED-1", "a connection of generation %" PRIu64 " is lent where %" PRIu64 " is known to work", v->gen,
		s->gen);
	PROMISE(vault_expires_us(sp->vault, v->gen) > world.now_us, "CRED-9",
		"a connection of generation %" PRIu64 " is lent, which has expired", v->gen);
	PROMISE(!sp->login || sock_peer_mark(v->stream->sock) == vault_password(sp->vault, v->gen), "CRED-1",
		"a connection of generation %" PRIu64 " is logged in with password %" PRIu64 " and not %u", v->gen,
		sock_peer_mark(v->stream->sock), vault_password(sp->vault, v->gen));
}

/* A request is refused for the credential's sake only when as many refreshes brought nothing as it may see. Proves: CRED-4 */
void shadow_check_denied(const struct sim_pool *sp, uint64_t seen)
{
	int max = sp->opts.pool.refresh_max_attempts;

	PROMISE(!run.calm, "CRED-8", "a request is refused where every credential of the source works");
	PROMISE(sp->shadow.final || seen >= (uint64_t)(max > 0 ? max : 3), "CRED-4",
		"a request is refused after %" PRIu64 " refreshes that brought nothing", seen);
}

/* Proves: CRED-4 */
void shadow_saw_want(struct sim_pool *sp, uint64_t gen)
{
	if (gen < sp->shadow.gen)
		return; /* overtaken by the answer */
	PROMISE(!sp->shadow.wanting && gen == sp->shadow.gen, "CRED-4",
		"asks for something newer than generation %" PRIu64 " of %" PRIu64 "%s", gen, sp->shadow.gen,
		sp->shadow.wanting ? ", again" : "");
	sp->shadow.wanting = true;
}

/* Every connection uses the newest generation, and the pools have heard of it. */
bool shadow_is_rotated(const void *arg)
{
	(void)arg;
	for (size_t i = 0; i < run.n_pools; i++) {
		const struct sim_pool *sp = &run.pools[i];

		if (!sp->vault)
			continue;
		if (sp->shadow.gen != sp->vault->n_gens)
			return false;
		for (size_t k = 0; k < sp->shadow.n_ups && sp->cred_change != CRED_CHANGE_KEEP; k++)
			if ((sp->shadow.ups[k].state == UP_IDLE || sp->shadow.ups[k].state == UP_LEASED) &&
			    sp->shadow.ups[k].gen != sp->shadow.gen)
				return false;
	}
	return true;
}

/* ---- calls ---- */

void __real_pool_credential(struct pool *p, uint64_t gen, int64_t expires_us, int64_t now_us);
void __wrap_pool_credential(struct pool *p, uint64_t gen, int64_t expires_us, int64_t now_us);
void __wrap_pool_credential(struct pool *p, uint64_t gen, int64_t expires_us, int64_t now_us)
{
	struct sim_pool *sp = shadow_of(p);

	trace(TR_GENERATION, sp->index, gen, 0);
	if (gen > sp->shadow.gen) {
		PROMISE(vault_expires_us(sp->vault, gen) == expires_us, "CRED-9",
			"the pool is told that generation %" PRIu64 " expires at %" PRId64, gen, expires_us);
		sp->shadow.gen = gen;
		sp->shadow.wanting = false;
		for (size_t i = 0; i < sp->n_servers; i++)
			sp->servers[i].shadow.refused_us = sp->servers[i].shadow.cooled = 0;
	}
	__real_pool_credential(p, gen, expires_us, now_us);
}

void __real_pool_no_newer(struct pool *p, uint64_t than, bool final, int64_t now_us);
void __wrap_pool_no_newer(struct pool *p, uint64_t than, bool final, int64_t now_us);
void __wrap_pool_no_newer(struct pool *p, uint64_t than, bool final, int64_t now_us)
{
	struct sim_pool *sp = shadow_of(p);

	trace(TR_NO_NEWER, sp->index, than, final);
	if (sp->shadow.wanting && than >= sp->shadow.gen) {
		sp->shadow.wanting = false;
		sp->shadow.no_newer++;
		sp->shadow.final = sp->shadow.final || final;
	}
	__real_pool_no_newer(p, than, final, now_us);
}

bool __real_pool_reauth_begin(struct pool *p, struct upstream *u, int64_t now_us);
bool __wrap_pool_reauth_begin(struct pool *p, struct upstream *u, int64_t now_us);
bool __wrap_pool_reauth_begin(struct pool *p, struct upstream *u, int64_t now_us)
{
	struct sim_pool *sp = shadow_of(p);
	bool begun = __real_pool_reauth_begin(p, u, now_us);

	if (begun)
		shadow_saw_reauth(sp, u);
	return begun;
}

void __real_pool_reauthed(struct pool *p, struct upstream *u, enum err e, int64_t now_us);
void __wrap_pool_reauthed(struct pool *p, struct upstream *u, enum err e, int64_t now_us);
void __wrap_pool_reauthed(struct pool *p, struct upstream *u, enum err e, int64_t now_us)
{
	struct sim_pool *sp = shadow_of(p);
	struct up_shadow *v = shadow_up(sp, u);

	trace(TR_REAUTHED, sp->index, u->id, e);
	shadow_notice_timeouts(sp);
	shadow_login_ended(sp, v, e);
	__real_pool_reauthed(p, u, e, now_us);
	if (v->state == UP_REAUTH)
		shadow_up_settled(v, u);
}

/* Only where the protocol can do it, and on a connection that nobody uses, or between two requests. Proves: CRED-7 */
void shadow_saw_reauth(struct sim_pool *sp, const struct upstream *u)
{
	struct up_shadow *v = shadow_up(sp, u);

	trace(TR_REAUTH, sp->index, u->id, u->try_gen);
	PROMISE(sp->opts.proto->caps & PROTO_CAP_REAUTH, "CRED-7", "a second login where the protocol has none");
	PROMISE(v->state == UP_IDLE || v->state == UP_REAUTH || v->state == UP_LEASED, "CRED-7",
		"a second login while %s", up_state_name(v->state));
	v->reauth = true;
	shadow_login_begins(sp, v, u->try_gen);
}
