/*
 * pool_private: what the files of pool/ share. pool.c: life cycle and events in; plan.c: who gets what, who is dialled;
 * upstream.c: states and their moves; view.c: looking in. Nobody outside pool/ includes this.
 */
#ifndef LEASED_POOL_PRIVATE_H
#define LEASED_POOL_PRIVATE_H

#include "base/heap.h"
#include "base/rng.h"
#include "pool/pool.h"

/*
 * How far a server is trusted to answer a dial or check quickly. Only a SERVER_UP one's dials count as supply and go out
 * max_concurrent_dials at a time; the others get one at a time.
 *
 *	UP --a dial or check outlasts patience--> SLOW --it succeeds--> UP
 *	UP, SLOW --a dial or login fails--> DOWN (backoff) --one succeeds--> UP
 */
enum server_state { SERVER_UP, SERVER_SLOW, SERVER_DOWN };

struct server {
	char *name;
	struct server_opts opts;
	void *user;
	struct pool *pool;
	enum server_state state;
	bool dialable; /* it has an address */
	struct permit_scope scope;
	struct list by_state[UP_STATES];
	struct list quick_dials, quick_checks; /* those that have not outlasted their patience */
	struct rate rate;
	struct backoff backoff;
	int64_t retry_us;    /* DOWN: when it may be dialled again */
	int64_t failed_us;   /* when the last failure was */
	int64_t refill_us;   /* min_idle: not before, as one that nobody had used was lost */
	int64_t dial_avg_us; /* smoothed time of good dials; 0: none yet */
	unsigned failures;   /* in a row */
	enum err last_error;
	bool connect_failed; /* the last failure was before the login: trying again costs the account nothing */
	/* rotate.c */
	uint64_t proven_gen; /* newest credential that this server has accepted; 0: none, or it was refused since */
	int64_t proven_expires_us; /* ... and when it ends */
	struct upstream *canary;   /* the one login or re-authentication with an unproven credential; NULL: none */
	int64_t canary_us; /* when the next one, or any re-authentication, may begin: the last was no success */
	struct backoff cred_backoff;
	struct list
		stale; /* IDLE, then LEASED ones that are to log in again (or, with CRED_CHANGE_KEEP, would have to) */
	struct list held;      /* LEASED ones whose session has begun to log in again */
	struct list fresh;     /* the other IDLE and LEASED ones, oldest login first; empty without reauth_interval */
	int64_t stale_pace_us; /* time between two of them */
	int64_t stale_next_us;
};

/* What the pool does with requests. */
enum pool_mode { POOL_RUN, POOL_REFUSE, POOL_SHUT };

struct pool {
	char *name;
	struct pool_opts opts;
	enum pool_mode mode;
	bool drain_wanted; /* EFFECT_DRAINED is owed */
	struct permit_scope scope;
	struct budget *budget;
	struct budget_member member;
	struct server **servers;
	size_t n_servers, turn; /* turn: whose turn it is (round-robin) */
	struct list waiters;
	struct heap deadlines; /* of upstreams */
	int64_t wake_us;       /* when to look at the servers again; INT64_MAX: no need */
	struct effect *fx;     /* a ring */
	size_t fx_first, fx_len, fx_cap;
	struct slab upstreams;
	struct rng rng;
	uint64_t next_id;
	/* rotate.c */
	uint64_t gen; /* newest credential; 0: none yet */
	int64_t gen_expires_us;
	bool wanting;		   /* WANT_NEWER was said, and nothing has come yet */
	bool never_newer;	   /* ... and nothing ever will */
	int64_t want_us;	   /* when it may be said again without a refusal */
	uint64_t refreshes_failed; /* how often nothing newer came */
	struct stat stat;
};

#define PATIENCE_MIN_US 25000

static inline struct upstream *upstream_of(struct node *n)
{
	return container_of(n, struct upstream, node);
}

/* When an idle connection was last of use: its place in the eviction order. */
static inline int64_t upstream_used_us(const struct upstream *u)
{
	return u->last_returned_us > u->ready_us ? u->last_returned_us : u->ready_us;
}

/* upstream.c */
void upstream_to(struct upstream *u, enum up_state to, int64_t now_us);
void upstream_start(struct upstream *u, int64_t now_us); /* a new one: DIALING */
void upstream_is_slow(struct upstream *u);
void upstream_close(struct upstream *u, enum err why, int64_t now_us);
void upstream_to_idle(struct upstream *u, int64_t now_us);
void upstream_set_deadline(struct upstream *u);
bool upstream_expired(const struct upstream *u, int64_t now_us, enum err *why);
bool up_state_is_dial(enum up_state s);
size_t server_under_way(const struct server *s); /* dials in any stage */

/* plan.c */
void pool_plan(struct pool *p, int64_t now_us);
bool pool_evict_one(struct pool *p, enum err why, int64_t now_us);
void pool_refuse_waiters(struct pool *p, enum err why);

/* rotate.c */
void rotate_place(struct upstream *u);			/* after a change of state: on stale, fresh or neither */
void rotate_forget(struct upstream *u, int64_t now_us); /* it closes */
/* Which credential a dial would use now; 0: none may be dialled (plan_wake() says when). Pools without one: always OK. */
bool rotate_dial_gen(struct pool *p, struct server *s, int64_t now_us, uint64_t *gen);
void rotate_begin(struct upstream *u, uint64_t gen);	/* a login or re-authentication with that credential begins */
void rotate_done(struct upstream *u, int64_t now_us);	/* ... and succeeded */
void rotate_failed(struct upstream *u, int64_t now_us); /* ... and failed for another reason, the connection stays */
/* ... and was refused. Returns false when the refusal leaves the server without any credential that is known to work. */
bool rotate_denied(struct upstream *u, int64_t now_us);
/* It has to log in again before it is lent. */
bool rotate_is_due(const struct upstream *u);
bool rotate_recycles(const struct upstream *u);	       /* it has to be replaced instead */
bool rotate_may_lend(const struct upstream *u);	       /* neither */
bool rotate_start(struct upstream *u, int64_t now_us); /* IDLE -> REAUTH */
/* Starts canaries. Before leases are granted: a pool that is always busy would never find the time. */
void rotate_prove(struct pool *p, int64_t now_us);
void rotate_plan(struct pool *p, int64_t now_us);   /* starts what else is due */
void rotate_refuse(struct pool *p, int64_t now_us); /* requests that wait for what will never come */

/* plan.c: what rotation needs of it */
void plan_wake(struct pool *p, int64_t at_us);
bool plan_may_dial(struct pool *p, struct server *s, int64_t now_us);
enum permit_result plan_dial(struct pool *p, struct server *s, int64_t now_us);

/* pool.c */
bool pool_can_serve(const struct pool *p, int64_t now_us);
void pool_push_effect(struct pool *p, struct effect e);
int64_t server_patience_us(const struct server *s);

#endif
