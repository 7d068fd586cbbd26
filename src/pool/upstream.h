/*
 * upstream: one connection to a server as the pool sees it: a state, its times, its permit. No socket here.
 *
 *	     permit                    connected          TLS up             logged in
 *	  ---taken---> [DIALING] -------------> [SECURING] -----> [LOGIN] ---------------> [IDLE] <--------------------+
 *	                                                          |    ^                   |  |  ^                     |
 *	                                                   denied |    | newer             |  |  | answered            | clean
 *	                                                          v    | generation        |  |  |                     |
 *	                                                        [DENIED]                   |  +->[PROBING | REAUTH]    |
 *	                                                                             lease |                           |
 *	                                                                                   +-> [LEASED] --> [CLEANING]-+
 *	     every state --- error, deadline, age, drain, eviction ---> [CLOSING] ---> closed, permit back, freed
 *
 * upstream_to() is the only writer of `state`. A state is also a list of its server, so a count is a length.
 * SECURING, DENIED and REAUTH have their row in the table and no way in yet (TLS and rotation bring it).
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
	UP_DENIED,
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
	enum err close_needed; /* ERR_OK, or why to close it when it is not in use */
	void *conn;	       /* the serve layer's half; the pool never looks */
};

const char *up_state_name(enum up_state s);
/* Whether the table allows the move; for the test that walks all pairs. */
bool up_state_may(enum up_state from, enum up_state to);

#endif
