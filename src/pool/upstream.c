#include "pool/pool_private.h"

#define MAY(s) (1u << UP_##s)

/* The table of states: which moves are legal. Every state but LEASED and CLOSING has a deadline (upstream_deadline), and
 * so has a LEASED one that logs in again. */
static const struct {
	const char *name;
	unsigned may;
} up_states[UP_STATES] = {
	[UP_DIALING] = {"dialing", MAY(SECURING) | MAY(LOGIN) | MAY(CLOSING)},
	[UP_SECURING] = {"securing", MAY(LOGIN) | MAY(CLOSING)},
	[UP_LOGIN] = {"login", MAY(IDLE) | MAY(CLOSING)},
	[UP_IDLE] = {"idle", MAY(PROBING) | MAY(REAUTH) | MAY(LEASED) | MAY(CLOSING)},
	[UP_PROBING] = {"probing", MAY(IDLE) | MAY(CLOSING)},
	[UP_REAUTH] = {"reauth", MAY(IDLE) | MAY(CLOSING)},
	[UP_LEASED] = {"leased", MAY(IDLE) | MAY(CLEANING) | MAY(CLOSING)},
	[UP_CLEANING] = {"cleaning", MAY(IDLE) | MAY(CLOSING)},
	[UP_CLOSING] = {"closing", 0},
};

const char *up_state_name(enum up_state s)
{
	return up_states[s].name;
}

bool up_state_may(enum up_state from, enum up_state to)
{
	return up_states[from].may >> to & 1;
}

bool up_state_is_dial(enum up_state s)
{
	return s == UP_DIALING || s == UP_SECURING || s == UP_LOGIN;
}

size_t server_under_way(const struct server *s)
{
	return s->by_state[UP_DIALING].len + s->by_state[UP_SECURING].len + s->by_state[UP_LOGIN].len;
}

static int64_t time_min(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* The state's one deadline; INT64_MAX: none. A dial or check first outlasts patience, then its time limit. */
static int64_t upstream_deadline(const struct upstream *u)
{
	const struct server *s = u->server;
	const struct pool *p = s->pool;
	int64_t patience = !list_is_on(&u->quick) ? INT64_MAX : u->state_us + server_patience_us(s);

	switch (u->state) {
	case UP_DIALING:
		return time_min(patience, u->state_us + s->opts.connect_timeout_us);
	case UP_SECURING:
	case UP_LOGIN:
		return time_min(patience, u->connected_us + s->opts.login_timeout_us);
	case UP_IDLE:
		return time_min(time_min(u->expires_us, u->cred_expires_us),
				s->opts.max_idle_us > 0 ? upstream_used_us(u) + s->opts.max_idle_us + 1 : INT64_MAX);
	case UP_REAUTH:
		return time_min(patience, u->state_us + p->opts.reauth_timeout_us);
	case UP_PROBING:
		return time_min(patience, u->state_us + p->opts.health_check_timeout_us);
	case UP_CLEANING:
		return u->state_us + p->opts.clean_timeout_us;
	case UP_LEASED:
		return u->try_gen != 0 ? u->reauth_us + p->opts.reauth_timeout_us : INT64_MAX;
	case UP_CLOSING:
	case UP_STATES:
		break;
	}
	return INT64_MAX;
}

void upstream_set_deadline(struct upstream *u)
{
	int64_t at = upstream_deadline(u);

	if (at == INT64_MAX)
		heap_remove(&u->server->pool->deadlines, &u->deadline);
	else
		heap_set(&u->server->pool->deadlines, &u->deadline, at);
}

/* A check begins quick; a dial begins quick and stays what it is through its stages. */
static void upstream_judge(struct upstream *u, enum up_state from)
{
	struct server *s = u->server;
	bool checks = u->state == UP_PROBING || u->state == UP_REAUTH;

	if (checks || (u->state == UP_DIALING && from == UP_DIALING))
		list_push_back(checks ? &s->quick_checks : &s->quick_dials, &u->quick);
	else if (!up_state_is_dial(u->state) && list_is_on(&u->quick))
		list_remove(&u->quick);
}

void upstream_is_slow(struct upstream *u)
{
	if (list_is_on(&u->quick))
		list_remove(&u->quick);
	upstream_set_deadline(u);
}

static void upstream_enter(struct upstream *u, enum up_state to, int64_t now_us)
{
	enum up_state from = u->state;

	list_push_front(&u->server->by_state[to], &u->node);
	u->state = to;
	u->state_us = now_us;
	upstream_judge(u, from);
	rotate_place(u);
	upstream_set_deadline(u);
}

void upstream_start(struct upstream *u, int64_t now_us)
{
	upstream_enter(u, UP_DIALING, now_us);
}

void upstream_to(struct upstream *u, enum up_state to, int64_t now_us)
{
	BUG_ON(!up_state_may(u->state, to));
	list_remove(&u->node);
	upstream_enter(u, to, now_us);
}

void upstream_close(struct upstream *u, enum err why, int64_t now_us)
{
	struct pool *p = u->server->pool;

	if (u->state == UP_CLOSING)
		return;
	BUG_ON(u->lease != NULL);
	u->reason = why;
	rotate_forget(u, now_us);
	upstream_to(u, UP_CLOSING, now_us);
	p->stat.upstream_closed[why]++;
	pool_push_effect(p, (struct effect){.kind = EFFECT_CLOSE, .up = u, .err = why});
}

/* Idle connections are kept in order of last use, the most recent first; a checked one goes back to its place. */
void upstream_to_idle(struct upstream *u, int64_t now_us)
{
	struct list *l = &u->server->by_state[UP_IDLE];
	struct node *after;

	upstream_to(u, UP_IDLE, now_us);
	after = list_next(&u->node);
	if (!after || upstream_used_us(upstream_of(after)) <= upstream_used_us(u))
		return;
	while (list_next(after) && upstream_used_us(upstream_of(list_next(after))) > upstream_used_us(u))
		after = list_next(after);
	list_remove(&u->node);
	list_insert_(l, &u->node, after);
}

/* Strictly older than its limits (behaviours C7). */
bool upstream_expired(const struct upstream *u, int64_t now_us, enum err *why)
{
	int64_t max_idle = u->server->opts.max_idle_us;

	if (now_us >= u->expires_us) {
		*why = ERR_AGE;
		return true;
	}
	if (now_us >= u->cred_expires_us) {
		*why = ERR_EXPIRED;
		return true;
	}
	if (u->state == UP_IDLE && max_idle > 0 && now_us - upstream_used_us(u) > max_idle) {
		*why = ERR_IDLE;
		return true;
	}
	return false;
}
