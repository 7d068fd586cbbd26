/*
 * shadow: the checks' own account of what the brain does, kept from the calls and effects that pass between serve/ and
 * pool/ (the linker's --wrap shows them) and from the sockets that really exist. After every callback it is compared with
 * what the pool says of itself. Nothing here is taken from the pool's own bookkeeping.
 */
#ifndef LEASED_SIM_SHADOW_H
#define LEASED_SIM_SHADOW_H

#include <stddef.h>
#include <stdint.h>

#include "pool/pool.h"

#define SHADOW_UPS    512
#define SHADOW_LEASES 128
#define SHADOW_GRANTS 128

struct up_shadow {
	const struct upstream *up;
	enum up_state state;
	unsigned server;
	int64_t created_us, used_us;
	uint64_t leases;
	bool checked;
	int64_t begun_us;	      /* the login under way */
	uint64_t gen, try_gen;	      /* logged in with; login under way with; 0: none */
	bool reauth, canary, counted; /* ... which is a second one; the one with an unproven credential */
	struct stream *stream;
};

struct lease_shadow {
	const struct lease *lease;
	int64_t asked_us;
	uint64_t no_newer; /* the pool's, then */
};

struct server_shadow {
	int64_t grants_us[SHADOW_GRANTS]; /* a ring of the last ones */
	uint64_t n_grants;
	/* of the current row of failures */
	int64_t failed_us; /* the first; 0: none since the last success */
	unsigned dials;	   /* begun since then */
	/* credentials */
	uint64_t proven;    /* the newest generation that is known to work; 0: none is */
	int64_t refused_us; /* since when the pool's newest is known not to; 0: it is not */
	bool cooled;	    /* a login with it was no success, for whatever reason */
	unsigned tries;	    /* logins with it since then */
	int sockets;	    /* that exist now */
	int sockets_most;
};

struct pool_shadow {
	struct up_shadow ups[SHADOW_UPS];
	size_t n_ups;
	struct lease_shadow waiting[SHADOW_LEASES]; /* in order of asking */
	size_t n_waiting;
	const struct lease *untold[SHADOW_LEASES]; /* granted and returned before the effect came */
	size_t n_untold;
	uint64_t asked, granted, refused, cancelled, released, closed, dialled;
	uint64_t refused_by[ERR_COUNT];
	uint64_t accepted, bytes_in, bytes_out;
	bool stale;	   /* a connection that had ended or spoken was lent in this callback */
	uint64_t gen;	   /* the newest it was told of */
	bool wanting;	   /* ... and it has asked for a newer one */
	uint64_t no_newer; /* how often there was none */
	bool final;	   /* ... nor ever will be */
	int sockets;
	int64_t worst_wait_us; /* of granted leases */
	int64_t drained_us;    /* when the last EFFECT_DRAINED was seen */
	int64_t last_release_us;
	int64_t stuck_us;	      /* since when somebody waits though a dial is possible */
	int64_t undrained_us;	      /* since when nothing is leased and a drain waits */
	int64_t due_us, due_since_us; /* the pool's next deadline after the last callback, and since when */
};

struct loop;
struct sim_pool;

struct sim_pool *shadow_of(const struct pool *p);
struct up_shadow *shadow_up(struct sim_pool *sp, const struct upstream *u);
void shadow_up_settled(struct up_shadow *v, const struct upstream *u);
int64_t shadow_backoff_steps(const struct backoff_opts *o, int64_t since_us);

/* shadow_login.c */
void shadow_login_begins(struct sim_pool *sp, struct up_shadow *v, uint64_t gen);
void shadow_notice_timeouts(struct sim_pool *sp);
void shadow_login_ended(struct sim_pool *sp, struct up_shadow *v, enum err e);
void shadow_check_login(const struct sim_pool *sp, const struct up_shadow *v); /* it is lent */
void shadow_check_denied(const struct sim_pool *sp, uint64_t seen);
void shadow_saw_want(struct sim_pool *sp, uint64_t gen);
void shadow_saw_reauth(struct sim_pool *sp, const struct upstream *u);
bool shadow_is_rotated(const void *arg);

void shadow_begin(void);	   /* installs the checks in the back end */
void shadow_end(void);		   /* the counters against the log, pools empty */
void shadow_after(struct loop *l); /* the checks after every callback */
size_t shadow_count(const struct pool_shadow *s, enum up_state st);
/* How much later than due something may be: turns are late when the loop stands still. */
int64_t shadow_late_us(const struct sim_pool *sp);

#endif
