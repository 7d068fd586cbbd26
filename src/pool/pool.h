/*
 * pool: the brain. It decides which upstream connection exists, who is lent which, who waits and why. It does nothing:
 * time is an argument, and what has to be done is returned as effects for the serve layer (or a test) to carry out.
 *
 *	serve --- pool_lease / pool_release / pool_connected / pool_failed / pool_tick ... ---> pool
 *	serve <-- pool_effect(): DIAL, PROBE, REAUTH, CLOSE, GRANT, REFUSE, DRAINED, WANT_NEWER -- pool
 *
 * A lease request (struct lease, embedded in its client's session) ends exactly once: granted, refused, or cancelled by
 * its owner. Waiters are FIFO per pool. Supply is not bound to a waiter: whichever connection becomes idle first serves the
 * oldest waiter. Dials and checks under way count as supply while they are quick (patience); a slow one stops counting
 * and never delays a lease that another server can serve.
 *
 * Rotation (rotate.c). A pool with a credential has its newest generation, and each server the newest one it has proven
 * to accept. With a generation that is unproven there, one login or re-authentication is made, the canary:
 *
 *	pool_credential(g) --> canary ---accepted---> proven: idle connections log in again, spread over reauth_spread,
 *	                        |  ^                         leased ones when they come back or between two requests
 *	                 denied |  | canary_us (backoff)
 *	                        v  |
 *	                 WANT_NEWER(g), once; the older proven generation goes on serving, if there is one; else waiters
 *	                 wait for pool_credential(), or for refresh_max_attempts of pool_no_newer()
 *
 * The caller drains effects after every call, until there are none; it must not call the pool from inside a GRANT or REFUSE
 * handler of the same drain in a way that frees the lease it is handling. All calls are made in the pool's thread.
 */
#ifndef LEASED_POOL_POOL_H
#define LEASED_POOL_POOL_H

#include "base/stat.h"
#include "pool/backoff.h"
#include "pool/rate.h"
#include "pool/upstream.h"

enum reuse_order { REUSE_LIFO, REUSE_FIFO, REUSE_OLDEST };
enum lease_wait { LEASE_BLOCK, LEASE_NONBLOCK };
/* What connections that are logged in do when the credential changes. */
enum cred_change {
	CRED_CHANGE_REAUTH,  /* log in again */
	CRED_CHANGE_RECYCLE, /* make room for new ones */
	CRED_CHANGE_KEEP,    /* go on until they end of themselves */
};

struct server_opts {
	const char *name; /* as configured: the key everywhere; copied */
	int max_size;	  /* 0 in a table means 10; unbounded lifts it */
	bool unbounded;
	int min_idle;
	int max_rps, max_rps_burst; /* max_rps 0: unlimited */
	int max_concurrent_dials;
	int64_t max_age_us, max_idle_us; /* 0: no limit */
	double max_age_jitter;
	int64_t connect_timeout_us, login_timeout_us;
	struct backoff_opts backoff;
	int64_t probe_interval_us; /* 0: off. While somebody waits and nobody else can serve, dial this often */
	bool evict_on_down;
};

struct pool_opts {
	const char *name; /* copied */
	int max_total;	  /* 0: none; all servers together */
	enum lease_wait lease_wait;
	int64_t lease_timeout_us; /* 0: for ever */
	enum reuse_order reuse_order;
	int64_t health_check_after_us; /* idle longer than this: check before a lease */
	bool has_health_check;
	int64_t health_check_timeout_us;
	int64_t clean_timeout_us; /* of the return check */
	int64_t patience_us;	  /* how long a dial or check counts as quick, at least; 0: 25 ms */
	bool has_credential;	  /* nothing is dialled before pool_credential() */
	enum cred_change cred_change;
	bool denied_keeps;	  /* a refused re-authentication leaves the connection as it was */
	bool failed_keeps;	  /* ... and so does one that failed otherwise but was answered */
	int64_t reauth_spread_us; /* over which connections log in again */
	int reauth_concurrency;	  /* of one server; 0: max_size */
	int64_t reauth_timeout_us;
	int64_t reauth_interval_us; /* log in again this long after the last time; 0: not */
	int refresh_max_attempts;   /* of one lease request: then it is refused with the server's own error; 0: 3 */
	uint64_t seed;		    /* of jitter */
	uint32_t number;	    /* of the pool in this process: upper bits of upstream ids */
};

enum lease_state { LEASE_NONE, LEASE_WAITING, LEASE_HELD };

struct lease {
	enum lease_state state;
	struct node node;    /* on pool->waiters while WAITING; all wait equally long, so FIFO is deadline order */
	struct upstream *up; /* HELD only */
	int64_t asked_us, granted_us;
	bool asked_round;	   /* each server has been asked for it once */
	uint64_t refreshes_failed; /* the pool's, when it was asked */
	void *owner;		   /* the session */
};

enum effect_kind {
	EFFECT_DIAL,  /* up: choose an address, connect, log in; then pool_connected + pool_idle, or pool_failed */
	EFFECT_PROBE, /* up: run the health check; then pool_checked */
	EFFECT_REAUTH, /* up: log in again with up->try_gen; then pool_reauthed(). With lease: see pool_reauth_begin() */
	EFFECT_WANT_NEWER, /* gen: that credential was refused; then pool_credential() or pool_no_newer() */
	EFFECT_CLOSE,	   /* up: close it, then pool_closed; up->reason says why */
	EFFECT_GRANT,	   /* lease, up */
	EFFECT_REFUSE,	   /* lease, err; the lease is over */
	EFFECT_DRAINED,	   /* the last lease of a draining pool came back */
};

struct effect {
	enum effect_kind kind;
	enum err err;
	struct upstream *up;
	struct lease *lease;
	uint64_t gen;
};

struct pool;

struct pool *pool_new(const struct pool_opts *o, struct budget *b, void (*poke)(void *arg, enum budget_poke),
		      void *arg);
/* Servers are registered before the first lease. NULL is never returned. user: the serve layer's half. */
struct server *pool_add_server(struct pool *p, const struct server_opts *o, void *user);
void pool_free(struct pool **p); /* every upstream must be closed, no lease may wait */

/* The next thing to do; false when there is nothing. */
bool pool_effect(struct pool *p, struct effect *e);
/* When pool_tick() must be called at the latest; INT64_MAX: never. */
int64_t pool_next_us(const struct pool *p);
void pool_tick(struct pool *p, int64_t now_us);

/* Asks for a connection. The answer is an effect. The lease must be LEASE_NONE. */
void pool_lease(struct pool *p, struct lease *l, void *owner, int64_t now_us);
/* The owner no longer wants it: O(1). WAITING: forgotten. HELD is a bug: release instead. */
void pool_cancel(struct pool *p, struct lease *l, enum err why, int64_t now_us);

/* A HELD lease goes on in other hands: *to takes its place, *from is LEASE_NONE. */
void pool_move_lease(struct lease *from, struct lease *to, void *owner);

enum release_how { RELEASE_CLEAN, RELEASE_CHECK, RELEASE_CLOSE };
/* Ends a HELD lease. CLEAN: idle at once. CHECK: goes to CLEANING, the caller runs the check and calls pool_cleaned().
 * CLOSE: closes it with `why`. Returns true when CHECK is really wanted (else an EFFECT_CLOSE was made instead,
 * because the connection is expired, scheduled to close or over its limit). */
bool pool_release(struct pool *p, struct lease *l, enum release_how how, enum err why, int64_t now_us);

/* What became of an effect, or what happened by itself. */
void pool_connected(struct pool *p, struct upstream *u, int64_t now_us); /* DIALING -> LOGIN */
void pool_idle(struct pool *p, struct upstream *u, int64_t now_us);	 /* LOGIN -> IDLE: ready to be leased */
void pool_checked(struct pool *p, struct upstream *u, enum err e, int64_t now_us); /* PROBING -> IDLE or CLOSING */
void pool_cleaned(struct pool *p, struct upstream *u, enum err e, int64_t now_us); /* CLEANING -> IDLE or CLOSING */
/* REAUTH -> IDLE or CLOSING; LEASED stays what it is. ERR_DENIED: refused; ERR_REAUTH_FAILED: answered with something else. */
void pool_reauthed(struct pool *p, struct upstream *u, enum err e, int64_t now_us);
/* Between two requests of a LEASED connection that EFFECT_REAUTH named (with its lease at that time): whether it may log in
 * again now, and with which generation (u->try_gen). False: no need any more, or not now; the effect comes again. Without
 * an answer for reauth_timeout it counts as failed, and the connection closes when it is given back. */
bool pool_reauth_begin(struct pool *p, struct upstream *u, int64_t now_us);
/* The connection is of no use any more, in any state but LEASED (release it) and CLOSING: a dial that failed, an idle
 * one that spoke or closed. A failed dial counts against its server. */
void pool_failed(struct pool *p, struct upstream *u, enum err e, int64_t now_us);
void pool_closed(struct pool *p, struct upstream *u, int64_t now_us); /* after close(2); frees u */

/* A newer generation of the credential; expires_us INT64_MAX: never. O(connections), without I/O. */
void pool_credential(struct pool *p, uint64_t gen, int64_t expires_us, int64_t now_us);
/* The refresh that EFFECT_WANT_NEWER asked for ended without anything newer. final: nothing ever will be, it is not asked
 * for again, and requests that no login under way can serve are refused at once. */
void pool_no_newer(struct pool *p, uint64_t than, bool final, int64_t now_us);
/* Whether something may still log in with that generation. */
bool pool_needs_gen(const struct pool *p, uint64_t gen);
/* Every server with a dialable address accepted the newest generation, and no connection uses an older one. */
bool pool_is_rotated(const struct pool *p);

/* Control. All return at once. */
void pool_poked(struct pool *p, enum budget_poke what, int64_t now_us);
void pool_drain(struct pool *p, bool refuse_new, int64_t now_us); /* EFFECT_DRAINED when nothing is leased */
void pool_resume(struct pool *p, int64_t now_us);
/* Closes idle ones, refuses waiters and new leases with ERR_SHUTDOWN; leased ones close when they come back. */
void pool_shutdown(struct pool *p, int64_t now_us);
/* Schedule-close: now if not in use, else when returned (behaviours D12). */
void pool_close_needed(struct pool *p, struct upstream *u, enum err why, int64_t now_us);
void server_close_needed(struct pool *p, struct server *s, enum err why, int64_t now_us);
/* The server's name now stands for these addresses: connections to others are scheduled to close. */
void server_keep_addrs(struct pool *p, struct server *s, const struct addr *v, size_t n, int64_t now_us);
/* A server without any address (DNS) can't be dialled. `any` false: as in backoff until told otherwise. */
void server_set_dialable(struct pool *p, struct server *s, bool any, int64_t now_us);

/* Why the oldest request waits, or would: ALL_DOWN, ALL_RATE_LIMITED, SOME_DOWN, LIMIT, LEASE_TIMEOUT, OK. */
enum err pool_why(const struct pool *p, int64_t now_us);

/* Looking in. */
/* ERR_OK, or why the server is in backoff. */
enum err server_down(const struct server *s);
struct server_view {
	const char *name;
	size_t by_state[UP_STATES];
	int max_size; /* 0: unbounded */
	bool up, dialable;
	int64_t retry_in_us;
	unsigned failures;
	enum err last_error;
	uint64_t proven_gen;
	size_t stale; /* connections that have yet to log in again */
	void *user;
};
struct upstream_view { /* behaviours C24, C25 */
	uint64_t id;
	const char *server;
	struct addr addr;
	enum up_state state;
	int64_t created_us, state_us, last_leased_us, last_returned_us;
	uint64_t leases;
	bool in_use, close_needed;
	uint64_t gen;
};
size_t pool_servers(const struct pool *p);
void pool_server_view(const struct pool *p, size_t i, int64_t now_us, struct server_view *out);
/* Fills up to cap views; returns how many there are in all. */
size_t pool_snapshot(const struct pool *p, struct upstream_view *out, size_t cap);
size_t pool_count(const struct pool *p, enum up_state s);
size_t pool_waiting(const struct pool *p);
int64_t pool_oldest_wait_us(const struct pool *p, int64_t now_us);
const char *pool_name(const struct pool *p);
struct stat *pool_stat(struct pool *p);
struct server *pool_server_at(const struct pool *p, size_t i);
void *server_user(const struct server *s);
const char *server_name(const struct server *s);

/* Walks everything and aborts on a broken invariant (POOL-1, POOL-2, a state without its deadline). O(n). */
void pool_audit(const struct pool *p, int64_t now_us);

#endif
