/*
 * upstream: one connection to a server as the pool sees it: a state, its times, its permit. No socket here.
 *
 *	     permit                    connected          TLS up             logged in
 *	  ---taken---> [DIALING] -------------> [SECURING] -----> [LOGIN] ---------------> [IDLE] <--------------------+
 *	                                                                                   |  |  ^                     |
 *	                                                                                   |  |  | answered            | clean
 *	                                                                                   |  +->[PROBING | REAUTH]    |
 *	                                                                             lease |                           |
 *	                                                                                   +-> [LEASED] --> [CLEANING]-+
 *	     every state --- error, deadline, age, drain, eviction ---> [CLOSING] ---> closed, permit back, freed
 *
 * upstream_to() is the only writer of `state`. A state is also a list of its server, so a count is a length.
 * A refused login closes its connection: no dial is bound to a waiter, so what waits for a newer credential is the waiters.
 * SECURING has its row in the table and no way in yet (TLS brings it).
 */
#ifndef LEASED_POOL_UPSTREAM_H
#define LEASED_POOL_UPSTREAM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/err.h"
#include "base/heap.h"
#include "base/list.h"
#include "pool/permit.h"

enum up_state {
	UP_DIALING,
	UP_SECURING,
	UP_LOGIN,
	UP_IDLE,
	UP_PROBING,
	UP_REAUTH,
	UP_LEASED,
	UP_CLEANING,
	UP_CLOSING,
	UP_STATES
};

struct server;
struct lease;

struct upstream {
	uint64_t id; /* never reused */
	enum up_state state;
	enum err reason; /* why CLOSING */
	struct server *server;
	struct permit permit;
	struct node node;	    /* on server->by_state[state] */
	struct node quick;	    /* on server->quick_dials or quick_checks: it will soon be idle */
	struct heap_entry deadline; /* on pool->deadlines; which one depends on the state */
	struct lease *lease;	    /* LEASED only */
	struct addr addr;	    /* where it is (being) connected */
	int64_t created_us, state_us, connected_us;
	int64_t ready_us;			  /* logged in */
	int64_t last_leased_us, last_returned_us; /* 0: never */
	int64_t checked_us;			  /* last good health check; 0: never */
	int64_t expires_us;			  /* max_age with jitter; INT64_MAX: none */
	uint64_t leases;
	enum err close_needed;	 /* ERR_OK, or why to close it when it is not in use */
	struct node auth;	 /* on server->stale, held or fresh (rotate.c) */
	uint64_t gen;		 /* the credential it is logged in with; 0: none */
	uint64_t try_gen;	 /* ... that a login or re-authentication under way uses; 0: none is */
	int64_t try_expires_us;	 /* ... and when that ends */
	int64_t auth_us;	 /* when it was last logged in */
	int64_t reauth_us;	 /* when the re-authentication under way began */
	int64_t cred_expires_us; /* of gen; INT64_MAX: never */
	void *conn;		 /* the serve layer's half; the pool never looks */
};

const char *up_state_name(enum up_state s);
/* Whether the table allows the move; for the test that walks all pairs. */
bool up_state_may(enum up_state from, enum up_state to);

#endif
