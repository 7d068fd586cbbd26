/*
 * run: one whole simulated installation: loops, services with the real code, servers, clients, and its life from the first
 * event to the proof that nothing is left. Generated runs (generate.c), named ones (scenarios.c) and faults (nemesis.c) are
 * built from these calls.
 *
 *	run_begin --> run_add_pool, pool_server, pool_start --> clients --> run_until / faults --> run_heal, run_serve_all
 *	    --> run_end: stop, kill, free; leaks are failures
 */
#ifndef LEASED_SIM_RUN_H
#define LEASED_SIM_RUN_H

#include "actors.h"
#include "io/mailbox.h"
#include "io/resolve.h"
#include "names.h"
#include "proto/redis/redis.h"
#include "proto/tcp.h"
#include "resp_actors.h"
#include "serve/service.h"
#include "shadow.h"
#include "vault.h"

#define RUN_LOOPS   2
#define RUN_POOLS   3
#define RUN_SERVERS 4 /* of a pool */
#define RUN_HOSTS   3 /* of a server */
#define RUN_CLIENTS 64

struct sim_server {
	struct sim_pool *pool;
	unsigned index;
	struct name *name; /* NULL: by number */
	struct server_actor *hosts[RUN_HOSTS];
	size_t n_hosts;
	struct server_shadow shadow;
};

struct poke {
	struct message message;
	struct sim_pool *pool;
	bool out;
};

struct sim_pool {
	unsigned index;
	unsigned loop;
	struct service *svc;
	struct service_opts opts;
	struct service_server server_opts[RUN_SERVERS];
	struct service_listener listener;
	struct sim_server servers[RUN_SERVERS];
	size_t n_servers;
	bool redis; /* speaks RESP; else in lines */
	struct resp_manners manners;
	unsigned spice; /* of its clients */
	bool login, greets;
	struct vault *vault;	      /* NULL: no credential */
	enum cred_change cred_change; /* what it comes to with this protocol */
	enum reuse_rule reuse;
	struct script *scripts[3];
	struct proto_conf *conf;
	struct mailbox *mailbox;
	struct poke pokes[2];
	bool stopped;	/* service_stop() is done */
	bool draining;	/* refuses new leases */
	bool drain_out; /* a drain waits for its answer */
	int drains_done;
	enum err drain_result;
	int64_t drained_us;
	struct pool_shadow shadow;
};

struct run {
	struct loop *loops[RUN_LOOPS];
	struct resolver *resolvers[RUN_LOOPS];
	size_t n_loops;
	struct budget *budget;
	struct client_limit *limit;
	struct loop *control;		    /* of the credentials */
	struct vault vaults[RUN_POOLS + 1]; /* the first is static */
	size_t n_vaults;
	struct sim_pool pools[RUN_POOLS];
	size_t n_pools;
	struct sim_pool *starting; /* its service_new() runs */
	struct client_actor *clients[RUN_CLIENTS];
	struct sim_pool *client_pool[RUN_CLIENTS];
	size_t n_clients;
	unsigned next_host;
	bool healed; /* no fault from now on */
	int64_t healed_us;
	bool calm; /* there never was a fault */
};

extern struct run run;

void run_begin(size_t n_loops, int budget_max, int max_clients);
/* With plain options, to be changed before pool_start(). */
struct sim_pool *run_add_pool(unsigned loop);
/* n_hosts > 1 or by_name: under a name. */
struct sim_server *pool_server(struct sim_pool *p, size_t n_hosts, bool by_name);
struct server_opts *server_options(struct sim_server *s);
void pool_start(struct sim_pool *p);
struct client_actor *run_client(struct sim_pool *p, const struct client_plan *plan);
void run_until(int64_t at_us); /* in virtual time since the start */
int64_t run_now(void);
bool run_wait(bool (*done)(const void *arg), const void *arg, int64_t timeout_us);
void pool_drain_start(struct sim_pool *p, bool refuse_new, int64_t timeout_us);
void pool_drain_over(struct sim_pool *p);
struct sim_server *server_of_port(const struct port *p);
struct sim_pool *pool_of_listener(const struct addr *a);

/* All faults end; every client must then be served in full within 5 s (LIVE-6). */
void run_heal(void);
void run_serve_all(void);
/* Stops everything, in a way the seed chooses; nothing may be left. */
void run_end(void);

/* generate.c, nemesis.c, scenarios.c */
void generate_run(uint64_t seed);
void nemesis_begin(int64_t until_us);
void nemesis_end(void);
int scenarios_run(const char *name); /* "all", or one; how many ran; 0: no such */
void selftest_run(void);
void credtest_run_all(void);

#endif
