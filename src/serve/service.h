/*
 * service: one pool at work in one loop: its listeners, client sessions, upstream connections and the brain between them.
 *
 *	 client --accept--> listener --> session --asks--> pool --grants--> lease --binds--> conn --> server
 *	                                    |                                 |
 *	                                    +------- relay: moves bytes ------+
 *
 * A service lives on one worker for life and shares nothing with another one but the budget. It runs unchanged in the
 * daemon and in the simulator: all it knows of the world is io/.
 */
#ifndef LEASED_SERVE_SERVICE_H
#define LEASED_SERVE_SERVICE_H

#include "cred/cred.h"
#include "io/listen.h"
#include "io/loop.h"
#include "io/resolve.h"
#include "pool/pool.h"
#include "proto/proto.h"

/* For how long a client has its connection for itself. */
enum service_mode {
	SERVICE_SESSION,     /* until it leaves */
	SERVICE_TRANSACTION, /* until nothing is owed and nothing holds it */
	SERVICE_REQUEST, /* not at all: requests of many clients share connections, except while something holds one */
};

enum lease_on { LEASE_ON_CONNECT, LEASE_ON_FIRST_BYTE };

struct service_server {
	struct server_opts opts;
	struct addr_spec where; /* ADDR_NUMERIC, ADDR_NAME or ADDR_UNIX */
};

struct service;

struct service_listener {
	const char *name; /* for logs */
	struct addr addr; /* fd < 0 */
	int fd;		  /* >= 0: adopted */
	struct listen_opts opts;
	const uint32_t *allow_uid; /* Unix sockets; n 0: everybody */
	size_t n_allow_uid;
	struct service *owner; /* set by service_new() */
};

/* Everything is copied or (proto_conf, scripts, credential) must outlive the service. */
struct service_opts {
	struct pool_opts pool;
	const struct proto *proto;
	const struct proto_conf *proto_conf;
	struct cred *cred; /* the first generation, if there is one already; NULL: none (yet) */
	/* A login with generation `than` was refused. Ends with service_credential() or service_credential_failed(). */
	void (*want_newer)(void *arg, uint64_t than);
	void *want_arg;
	enum service_mode mode; /* of protocols that know their messages */
	int multiplex;		/* SERVICE_REQUEST: shared connections; 0: 1 */
	const struct service_server *servers;
	size_t n_servers;
	const struct service_listener *listeners;
	size_t n_listeners;
	struct tcp_opts tcp;
	int max_clients; /* of this pool; 0: none */
	enum lease_on lease_on;
	int64_t quiet_time_us;		 /* silence of the server before a connection is returned */
	int64_t half_close_timeout_us;	 /* silence after one side has closed its sending direction */
	int64_t client_idle_timeout_us;	 /* 0: none */
	int64_t client_write_timeout_us; /* a peer that takes nothing for this long is closed; 0: none */
	size_t high_water;		 /* bytes kept for a slow reader, each way */
	int64_t dns_ttl_us, dns_negative_ttl_us;
	bool log_connections;
};

/* Shared by all services of the process; atomic, exact. */
struct client_limit;
struct client_limit *client_limit_new(int max); /* 0: none */
void client_limit_free(struct client_limit **c);
int client_limit_used(const struct client_limit *c);

/* poke: see permit.h; must arrange that service_poked() is called in the service's thread. */
struct service *service_new(struct loop *l, struct resolver *r, const struct service_opts *o, struct budget *b,
			    struct client_limit *c, void (*poke)(void *arg, enum budget_poke what), void *arg);
/* Opens the listeners. On error *why tells what is wrong with which one. */
enum err service_listen(struct service *s, const char **why) MUST_CHECK;
/* A newer generation of the pool's credential; the service takes a reference of its own. */
void service_credential(struct service *s, struct cred *c);
/* There is nothing newer than `than` (see want_newer). final: there never will be. */
void service_credential_failed(struct service *s, uint64_t than, enum err why, bool final);
void service_poked(struct service *s, enum budget_poke what);
/* Stops accepting. Clients that hold or wait for a lease go on; those that do neither (lease_on first_byte, idle) are
 * closed. When the last one is gone, done(arg) is called as an event. */
void service_stop(struct service *s, void (*done)(void *arg), void *arg);
/* Ends every client and upstream now. After that service_free() is legal once done() of service_stop() has come. */
void service_kill(struct service *s);
void service_free(struct service **s);

/* DRAIN of the admin interface: done(arg, ERR_OK) as an event when nothing is leased any more, or ERR_LEASE_TIMEOUT, or
 * ERR_CANCELLED at service_resume().
 * One drain at a time (ERR_AGAIN). With refuse_new, new leases wait for service_resume() no longer but are refused. */
enum err service_drain(struct service *s, bool refuse_new, int64_t timeout_us, void (*done)(void *arg, enum err e),
		       void *arg) MUST_CHECK;
void service_resume(struct service *s);

struct pool *service_pool(struct service *s);

enum client_state { CLIENT_IDLE, CLIENT_WAITING, CLIENT_ACTIVE, CLIENT_CLOSING, CLIENT_STATES };
struct client_view {
	uint64_t id;
	enum client_state state;
	struct addr peer;
	int64_t connected_us, state_us;
	uint64_t upstream_id; /* 0: none */
	enum err pin;	      /* why it keeps that between two requests (a PIN_ row), or ERR_OK */
	uint64_t bytes_in, bytes_out;
};
const char *client_state_name(enum client_state s);
size_t service_count(const struct service *s, enum client_state st);
size_t service_clients(const struct service *s, struct client_view *out, size_t cap); /* returns how many there are */
/* Adds up why clients keep their connections between two requests. O(clients). */
void service_pins(const struct service *s, size_t by_reason[ERR_COUNT]);
/* Bound listener addresses, for tests and `show listeners`. */
size_t service_listener_addr(const struct service *s, size_t i, struct addr *out); /* returns how many there are */
/* The addresses a server's name stands for now. */
size_t service_server_addrs(const struct service *s, size_t server, struct addr *out, size_t cap);
/* Where a credential puts a server that is configured as `home`. False: nowhere that makes sense. */
bool service_target(const struct addr_spec *home, const struct cred_fields *f, struct addr_spec *out);
/* Aborts on a broken invariant of the service or its pool. O(n). */
void service_audit(struct service *s);

#endif
