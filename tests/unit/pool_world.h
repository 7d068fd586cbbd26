/*
 * pool_world: drives the brain in unit tests: a clock that is a variable, effects carried out at once or kept for the
 * test to decide. No sockets, no loop, no waiting.
 */
#ifndef LEASED_TESTS_POOL_WORLD_H
#define LEASED_TESTS_POOL_WORLD_H

#include "pool/pool.h"

#define W_MAX 256

struct world {
	struct pool *pool;
	struct budget *budget;
	int64_t now;
	bool auto_dial;	   /* dials succeed at once */
	bool auto_check;   /* health checks succeed at once */
	bool auto_reauth;  /* re-authentications of idle connections are answered at once */
	bool keep_closing; /* closes stay under way until w_close_all() */
	struct upstream *dials[W_MAX], *probes[W_MAX], *closing[W_MAX], *reauths[W_MAX];
	size_t n_dials, n_probes, n_closing, n_reauths;
	struct upstream *told[W_MAX]; /* EFFECT_REAUTH of leased ones, a ring */
	size_t n_told, n_reauthed, n_wants;
	uint64_t wanted; /* than the last EFFECT_WANT_NEWER names */
	struct lease *granted[W_MAX], *refused[W_MAX];
	enum err refused_why[W_MAX], closed_why[W_MAX];
	size_t n_granted, n_refused, n_closed, n_drained, n_dialled;
	enum budget_poke poked[W_MAX];
	size_t n_poked;
};

#define MS  1000
#define SEC 1000000ll

struct pool_opts w_pool_opts(void);
struct server_opts w_server_opts(const char *name);
/* budget: NULL makes one without a limit. */
void w_init(struct world *w, const struct pool_opts *po, struct budget *budget);
struct server *w_server(struct world *w, const struct server_opts *so);
/* One that accepts generation g when bit g of *accepts is set, in logins that are answered automatically. */
struct server *w_server_accepting(struct world *w, const struct server_opts *so, uint64_t *accepts);
void w_done(struct world *w);  /* closes everything; asserts that nothing is left */
void w_run(struct world *w);   /* carries out effects */
void w_pokes(struct world *w); /* delivers budget pokes, then effects, until quiet */
/* Moves time to now + us, stopping at every deadline of the pool on the way. */
void w_pass(struct world *w, int64_t us);
void w_lease(struct world *w, struct lease *l);
void w_release(struct world *w, struct lease *l); /* clean */
void w_release_how(struct world *w, struct lease *l, enum release_how how);
void w_dial_ok(struct world *w, size_t i); /* i: index in dials; removes it */
void w_dial_fail(struct world *w, size_t i, enum err e);
void w_close_all(struct world *w); /* finishes closes that were kept */
void w_credential(struct world *w, uint64_t gen, int64_t expires_us);
void w_no_newer(struct world *w, bool final);
void w_reauth_end(struct world *w, size_t i, enum err e); /* i: index in reauths; removes it */
size_t w_in(const struct world *w, enum up_state s);
size_t w_open(const struct world *w); /* all that hold a permit */
const char *w_server_of(const struct lease *l);

#endif
