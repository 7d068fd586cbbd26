#include "unit/rotate_model.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "unit/pool_world.h"

#define M_SERVERS     3
#define M_CONNS	      64
#define M_LEASES      24
#define M_GENS	      4096
#define M_BACKOFF_MAX (2 * SEC)

/* What the server sees of one connection. */
struct m_conn {
	struct upstream *up; /* NULL: free */
	size_t server;
	uint64_t gen, trying;
	int64_t began_us;
	enum { M_NOTHING, M_CONNECTING, M_LOGIN, M_REAUTH, M_HELD, M_CLEANING, M_CLOSING } doing;
};

struct m_server {
	uint64_t accepts_from, accepts_to; /* generations */
	bool proven;			   /* it has accepted the newest, and not refused it since */
	int refusals;			   /* steps of the backoff for the newest one */
	int64_t refused_us;
};

static struct model {
	struct pool *pool;
	struct budget *budget;
	struct pool_opts po;
	struct server_opts so;
	struct rng rng;
	int64_t now;
	uint64_t gen, seed;
	int64_t expires[M_GENS];
	struct m_server servers[M_SERVERS];
	size_t n_servers;
	struct m_conn conns[M_CONNS];
	struct lease leases[M_LEASES];
	bool wanting;
	int64_t healed_us;	 /* INT64_MAX: not yet */
	size_t granted, refused; /* refused: of those asked for since */
	int step;
} m;

static size_t m_pick(size_t n)
{
	return (size_t)(rng_unit(&m.rng) * (double)n) % n;
}

static bool m_chance(double p)
{
	return rng_unit(&m.rng) < p;
}

#define RULE(name, cond) ck_assert_msg(cond, name ": seed %llu step %d: " #cond, (unsigned long long)m.seed, m.step)

static struct m_conn *m_conn_new(struct upstream *u)
{
	for (size_t i = 0; i < M_CONNS; i++)
		if (!m.conns[i].up) {
			m.conns[i] = (struct m_conn){.up = u, .server = (size_t)(server_name(u->server)[0] - 'a')};
			u->conn = &m.conns[i];
			return &m.conns[i];
		}
	ck_abort_msg("more connections than any limit allows");
	return NULL;
}

/* ---- the rules ---- */

/* Logins under way: again, or with a generation, begun since the last refusal. One that never was answered is over. */
static size_t m_logins(size_t server, bool again, uint64_t gen)
{
	int64_t since_us = m.servers[server].refused_us;
	size_t n = 0;

	for (size_t i = 0; i < M_CONNS; i++) {
		const struct m_conn *c = &m.conns[i];

		if (!c->up || c->server != server || c->trying == 0 ||
		    (c->doing == M_HELD && m.now - c->began_us >= m.po.reauth_timeout_us))
			continue;
		n += again ? c->doing == M_REAUTH || c->doing == M_HELD : c->trying == gen && c->began_us >= since_us;
	}
	return n;
}

static int64_t m_backoff(int refusals)
{
	int64_t us = 100 * MS;

	for (int i = 1; i < refusals && us < M_BACKOFF_MAX; i++)
		us = us * 3 / 2;
	return us < M_BACKOFF_MAX ? us : M_BACKOFF_MAX;
}

static void m_login_begins(struct m_conn *c)
{
	struct m_server *s = &m.servers[c->server];
	uint64_t gen = c->up->try_gen;
	bool again = c->doing == M_REAUTH || c->doing == M_HELD;

	RULE("CRED-9", gen != 0 && gen <= m.gen && m.expires[gen] > m.now);
	RULE("CRED-7", c->trying == 0);
	if (gen == m.gen && !s->proven) {
		RULE("CRED-8", m_logins(c->server, false, gen) == 0);
		RULE("CRED-6", s->refusals == 0 || m.now - s->refused_us >= m_backoff(s->refusals) - 1);
	}
	c->trying = gen;
	c->began_us = m.now;
	if (again && m.po.reauth_concurrency > 0)
		RULE("CRED-2", m_logins(c->server, true, 0) <= (size_t)m.po.reauth_concurrency);
	if (again) {
		RULE("CRED-1", gen == m.gen);
		RULE("policy", m.po.cred_change == CRED_CHANGE_REAUTH);
	}
}

static void m_check_grant(const struct m_conn *c)
{
	RULE("CRED-7", c->trying == 0 && c->doing == M_NOTHING);
	RULE("CRED-9", m.expires[c->gen] > m.now);
	if (m.po.cred_change != CRED_CHANGE_KEEP)
		RULE("CRED-1", !m.servers[c->server].proven || c->gen == m.gen);
}

/* The server answers a login. */
static enum err m_answer(struct m_conn *c)
{
	struct m_server *s = &m.servers[c->server];
	uint64_t gen = c->trying;

	c->trying = 0;
	if (gen >= s->accepts_from && gen <= s->accepts_to) {
		c->gen = gen;
		if (gen == m.gen) {
			s->proven = true;
			s->refusals = 0;
		}
		return ERR_OK;
	}
	if (gen == m.gen) {
		if (s->refusals == 0 || c->began_us >= s->refused_us) {
			s->refusals++;
			s->refused_us = m.now;
		}
		s->proven = false;
	}
	return ERR_DENIED;
}

/* ---- effects ---- */

static void m_effect(const struct effect *e)
{
	struct m_conn *c = e->up ? e->up->conn : NULL;

	switch (e->kind) {
	case EFFECT_DIAL:
		c = m_conn_new(e->up);
		c->doing = M_CONNECTING;
		m_login_begins(c);
		break;
	case EFFECT_REAUTH:
		if (e->lease) {
			RULE("reminder", e->up->state == UP_LEASED);
			break;
		}
		RULE("CRED-7", c->doing == M_NOTHING && e->up->lease == NULL);
		c->doing = M_REAUTH;
		m_login_begins(c);
		break;
	case EFFECT_CLOSE:
		c->doing = M_CLOSING;
		c->trying = 0;
		break;
	case EFFECT_GRANT:
		m.granted++;
		m_check_grant(c);
		break;
	case EFFECT_REFUSE:
		m.refused += e->lease->asked_us >= m.healed_us;
		break;
	case EFFECT_WANT_NEWER:
		RULE("one WANT_NEWER", !m.wanting && e->gen == m.gen);
		m.wanting = true;
		break;
	case EFFECT_PROBE:
	case EFFECT_DRAINED:
		break;
	}
}

static void m_effects(void)
{
	struct effect e;

	while (pool_effect(m.pool, &e))
		m_effect(&e);
	pool_audit(m.pool, m.now);
}

/* Time may have come for something; but it must not come again and again at the same instant. */
static void m_settle(void)
{
	int turns = 0;

	m_effects();
	while (pool_next_us(m.pool) <= m.now) {
		RULE("no wake in the past", turns++ < 4);
		pool_tick(m.pool, m.now);
		m_effects();
	}
}

/* ---- events ---- */

static void m_publish(int64_t lives_us)
{
	m.gen++;
	ck_assert_uint_lt(m.gen, M_GENS);
	m.expires[m.gen] = lives_us > 0 ? m.now + lives_us : INT64_MAX;
	m.wanting = false;
	for (size_t i = 0; i < m.n_servers; i++) {
		m.servers[i].proven = false;
		m.servers[i].refusals = 0;
	}
	pool_credential(m.pool, m.gen, m.expires[m.gen], m.now);
}

static void m_server_changes(void)
{
	struct m_server *s = &m.servers[m_pick(m.n_servers)];

	if (m_chance(0.6))
		s->accepts_to = m.gen + m_pick(2);
	if (m_chance(0.4))
		s->accepts_from = m.gen > 1 ? m.gen - m_pick(2) : m.gen;
}

static void m_advance_dial(struct m_conn *c, bool good)
{
	static const enum err errors[] = {ERR_LOGIN_FAILED, ERR_UPSTREAM_GONE};
	enum err e;

	if (c->doing == M_CONNECTING) {
		if (!good && m_chance(0.1)) {
			pool_failed(m.pool, c->up, ERR_RESET, m.now);
			return;
		}
		pool_connected(m.pool, c->up, m.now);
		c->doing = M_LOGIN;
		return;
	}
	if (!good && m_chance(0.1)) {
		pool_failed(m.pool, c->up, errors[m_pick(2)], m.now);
		return;
	}
	e = m_answer(c);
	c->doing = M_NOTHING;
	if (e == ERR_OK)
		pool_idle(m.pool, c->up, m.now);
	else
		pool_failed(m.pool, c->up, e, m.now);
}

static void m_advance_reauth(struct m_conn *c, bool good)
{
	enum err e;

	if (!good && m_chance(0.1)) {
		c->trying = 0;
		e = m_chance(0.5) ? ERR_REAUTH_FAILED : ERR_UPSTREAM_GONE;
		if (c->doing == M_REAUTH && e == ERR_UPSTREAM_GONE) {
			pool_failed(m.pool, c->up, e, m.now);
			return;
		}
	} else {
		e = m_answer(c);
	}
	c->doing = M_NOTHING;
	pool_reauthed(m.pool, c->up, e, m.now);
}

/* What is under way on one connection goes on. */
static void m_advance(struct m_conn *c, bool good)
{
	struct upstream *u = c->up;

	switch (c->doing) {
	case M_CONNECTING:
	case M_LOGIN:
		m_advance_dial(c, good);
		break;
	case M_REAUTH:
		m_advance_reauth(c, good);
		break;
	case M_HELD:
		if (u->try_gen != 0) { /* else the pool has given it up */
			m_advance_reauth(c, good);
			break;
		}
		c->trying = 0;
		c->doing = M_NOTHING;
		pool_reauthed(m.pool, u, ERR_OK, m.now);
		break;
	case M_CLEANING:
		c->doing = M_NOTHING;
		pool_cleaned(m.pool, u, good || m_chance(0.8) ? ERR_OK : ERR_NOT_READY, m.now);
		break;
	case M_CLOSING:
		*c = (struct m_conn){0};
		pool_closed(m.pool, u, m.now);
		break;
	case M_NOTHING:
		if (!good && u->state == UP_IDLE && m_chance(0.05))
			pool_failed(m.pool, u, ERR_UPSTREAM_GONE, m.now);
		else if (u->state == UP_LEASED && pool_reauth_begin(m.pool, u, m.now)) {
			c->doing = M_HELD;
			m_login_begins(c);
		}
		break;
	}
}

static void m_release(struct lease *l, bool good)
{
	struct m_conn *c = l->up->conn;
	enum release_how how = good		? RELEASE_CLEAN
			       : m_chance(0.1)	? RELEASE_CLOSE
			       : m_chance(0.25) ? RELEASE_CHECK
						: RELEASE_CLEAN;

	c->doing = M_NOTHING; /* a login under way ends with its connection */
	c->trying = 0;
	if (pool_release(m.pool, l, how, ERR_RESET, m.now))
		c->doing = M_CLEANING;
}

static void m_lease_acts(struct lease *l, bool good)
{
	if (l->state == LEASE_HELD)
		m_release(l, good);
	else if (l->state == LEASE_WAITING && !good && m_chance(0.1))
		pool_cancel(m.pool, l, ERR_CLIENT_GONE, m.now);
	else if (l->state == LEASE_NONE && !good)
		pool_lease(m.pool, l, l, m.now);
}

static void m_time_passes(void)
{
	static const int64_t most[] = {1, 100, 10 * MS, 100 * MS, 3 * SEC};
	int64_t to = m.now + 1 + (int64_t)(rng_unit(&m.rng) * (double)most[m_pick(5)]);
	int64_t next = pool_next_us(m.pool);

	m.now = next > m.now && next < to ? next : to;
	pool_tick(m.pool, m.now);
}

static struct m_conn *m_any_conn(void)
{
	size_t at = m_pick(M_CONNS);

	for (size_t i = 0; i < M_CONNS; i++)
		if (m.conns[(at + i) % M_CONNS].up)
			return &m.conns[(at + i) % M_CONNS];
	return NULL;
}

static void m_step(void)
{
	struct m_conn *c = m_any_conn();
	double what = rng_unit(&m.rng);

	if (what < 0.45 && c)
		m_advance(c, false);
	else if (what < 0.75)
		m_lease_acts(&m.leases[m_pick(M_LEASES)], false);
	else if (what < 0.96)
		m_time_passes();
	else if (what < 0.975)
		m_server_changes();
	else if (what < 0.985)
		m_publish(m_chance(0.3) ? (int64_t)m_pick(20 * SEC) + 1 : 0);
	else if (m.wanting) {
		m.wanting = false;
		pool_no_newer(m.pool, m.gen, m_chance(0.1), m.now);
	}
	m_settle();
}

/* ---- a walk ---- */

static void m_configure(void)
{
	static const int sizes[] = {1, 2, 5, 20};
	static const enum cred_change policies[] = {CRED_CHANGE_REAUTH, CRED_CHANGE_REAUTH, CRED_CHANGE_RECYCLE,
						    CRED_CHANGE_KEEP};

	m.po = w_pool_opts();
	m.po.has_credential = true;
	m.po.cred_change = policies[m_pick(4)];
	m.po.denied_keeps = m_chance(0.5);
	m.po.failed_keeps = m_chance(0.5);
	m.po.reauth_concurrency = (int)m_pick(3);
	m.po.reauth_spread_us = m_chance(0.5) ? 2 * SEC : 0;
	m.po.reauth_interval_us = m_chance(0.3) ? 5 * SEC : 0;
	m.po.lease_timeout_us = m_chance(0.5) ? 10 * SEC : 0;
	m.po.max_total = m_chance(0.2) ? 4 : 0;
	m.po.seed = m.seed;
	m.so = w_server_opts("a");
	m.so.max_size = sizes[m_pick(4)];
	m.so.min_idle = m_chance(0.3) ? 1 : 0;
	m.so.backoff.max_us = M_BACKOFF_MAX;
	m.n_servers = 1 + m_pick(M_SERVERS);
}

static void m_begin(uint64_t seed)
{
	static const char *const names[] = {"a", "b", "c"};

	memset(&m, 0, sizeof(m));
	m.seed = seed;
	m.now = 1000 * SEC;
	m.healed_us = INT64_MAX;
	rng_seed(&m.rng, seed);
	m_configure();
	m.budget = budget_new(0);
	m.pool = pool_new(&m.po, m.budget, NULL, NULL);
	for (size_t i = 0; i < m.n_servers; i++) {
		m.so.name = names[i];
		pool_add_server(m.pool, &m.so, NULL);
		m.servers[i].accepts_from = 1;
		m.servers[i].accepts_to = 1;
	}
}

/* One thing on every connection and lease. */
static void m_go_on(void)
{
	for (size_t i = 0; i < M_CONNS; i++)
		if (m.conns[i].up) {
			m_advance(&m.conns[i], true);
			m_settle();
		}
	for (size_t i = 0; i < M_LEASES; i++) {
		m_lease_acts(&m.leases[i], true);
		m_settle();
	}
}

/* Everything is well again. */
static void m_heal(void)
{
	int64_t end;

	m_publish(0);
	for (size_t i = 0; i < m.n_servers; i++)
		m.servers[i].accepts_from = m.servers[i].accepts_to = m.gen;
	m_settle();
	m.healed_us = m.now;
	for (size_t i = 0; i < M_LEASES; i++)
		if (m.leases[i].state == LEASE_NONE)
			pool_lease(m.pool, &m.leases[i], &m.leases[i], m.now);
	m_settle();
	end = m.now + 2 * M_BACKOFF_MAX;
	while (m.now < end) {
		m_go_on();
		m.now += 1 * MS;
		pool_tick(m.pool, m.now);
		m_settle();
	}
	RULE("everybody is served", pool_waiting(m.pool) == 0 && m.refused == 0);
	if (m.po.cred_change == CRED_CHANGE_KEEP)
		return;
	/* A server that nobody asked for anything may have accepted nothing; what is there is new. */
	for (size_t i = 0; i < M_CONNS; i++)
		RULE("CRED-1", !m.conns[i].up || m.conns[i].doing != M_NOTHING || m.conns[i].gen == m.gen);
}

static void m_end(void)
{
	pool_shutdown(m.pool, m.now);
	m_effects();
	for (int i = 0; i < 4; i++)
		m_go_on();
	for (size_t i = 0; i < M_CONNS; i++)
		ck_assert_ptr_null(m.conns[i].up);
	pool_free(&m.pool);
	budget_free(&m.budget);
}

void model_run(uint64_t seed, int steps)
{
	m_begin(seed);
	for (m.step = 0; m.step < steps; m.step++)
		m_step();
	m_heal();
	RULE("something was lent", m.granted > 0);
	m_end();
}
