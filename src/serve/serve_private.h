/*
 * serve_private: the parts of one service and who holds whom. Nobody outside serve/ includes this.
 *
 *	service --owns--> endpoint (one per server: its addresses, now)
 *	        --owns--> session (one per client) <--bind/unbind--> conn (one per upstream)
 *	        --owns--> pool (the brain), which holds one struct upstream per conn
 *
 * service.c: accepts, carries out the brain's effects, stops. endpoint.c: names to addresses. dial.c: one upstream from
 * connect to idle, its checks, its end. session.c: one client. relay.c: bytes from one side to the other.
 * Objects that end are taken out of everything at once and freed by service_bury() at the end of the loop's turn.
 */
#ifndef LEASED_SERVE_PRIVATE_H
#define LEASED_SERVE_PRIVATE_H

#include "serve/service.h"

struct session;
struct conn;

/* One direction of a session. Bytes the destination refused wait in `pending` or in `pipe`, never in both. */
enum flow_state {
	FLOW_OPEN,
	FLOW_ENDING, /* the source has ended; what waits is still delivered */
	FLOW_ENDED,  /* ... and the destination was told */
};

struct flow {
	struct buf pending;
	struct splice *pipe;	/* in bulk, while it holds bytes */
	uint64_t bytes, *total; /* of this session, and the pool's counter */
	int64_t stalled_us;	/* since when the destination takes nothing; 0: it does */
	int64_t last_us;	/* when a byte last came from the source or was taken by the destination */
	enum flow_state state;
	unsigned bulk; /* see flow_judge() */
};

enum relay_result { RELAY_OK, RELAY_EOF, RELAY_SOURCE_FAILED, RELAY_SINK_FAILED };

/* The server's addresses. */
struct endpoint_addr {
	struct addr addr;
	int64_t failed_us; /* when the last attempt failed there: others are tried first for a while; 0: it did not */
};

struct endpoint {
	struct service *svc;
	struct server *server;
	struct addr_spec where;
	struct endpoint_addr *v;
	size_t n, next;	       /* next: round-robin */
	bool down;	       /* the log was told so */
	unsigned edition;      /* of v: a new answer of DNS is a new one */
	struct lookup *lookup; /* running */
	struct timer refresh;
};

/* Several addresses: which were tried, and the current attempt's share of the time. Only while DIALING. */
struct attempt {
	struct timer patience;
	struct conn *conn;
	uint64_t tried;	  /* bit per index of the endpoint's addresses */
	unsigned edition; /* ... which these indexes are of */
	size_t at;
};

struct conn {
	struct service *svc;
	struct upstream *up;
	struct stream *stream;
	struct session *session; /* bound */
	struct attempt *attempt;
	struct buf out; /* of a dialogue; in the secret arena for a login */
	struct buf greeting;
	struct node dead;
	enum proto_dialogue dialogue; /* which one runs in LOGIN, PROBING, CLEANING */
	enum err error;		      /* of the last failed attempt */
				      /* the protocol's private bytes follow */
};

struct session {
	struct service *svc;
	uint64_t id;
	struct stream *client; /* NULL once ended */
	struct conn *conn;     /* bound */
	struct lease lease;
	struct node node; /* svc->sessions[state], or svc->dead_sessions */
	enum client_state state;
	enum err ended;	      /* who closed first: ERR_EOF the client, ERR_UPSTREAM_GONE the server */
	struct flow up, down; /* client to server, server to client */
	uint64_t heard;	      /* how much of `up` the server had been given when it last spoke */
	struct timer timer;
	int64_t connected_us, state_us;
};

struct service {
	struct loop *loop;
	struct resolver *resolver;
	struct service_opts opts;
	struct service_listener *listener_opts;
	struct listener **listeners;
	size_t n_listeners;
	struct pool *pool;
	struct endpoint **endpoints;
	size_t n_endpoints;
	struct client_limit *limit;
	struct list sessions[CLIENT_STATES];
	struct list dead_sessions, dead_conns;
	struct slab session_slab, conn_slab;
	struct timer pool_timer;
	struct task bury;
	struct task stopped; /* delivers stop_done */
	struct task drained; /* delivers drain_done */
	struct timer drain_timer;
	void (*stop_done)(void *arg);
	void *stop_arg;
	void (*drain_done)(void *arg, enum err e);
	void *drain_arg;
	enum err drain_result;
	uint64_t next_client;
	int64_t pool_timer_us; /* what pool_timer is set to; INT64_MAX: not armed */
	enum { SERVICE_RUNNING, SERVICE_STOPPING, SERVICE_STOPPED } phase;
	bool running_effects;
};

/* service.c */
void service_run(struct service *s); /* carries out effects until there are none */
void service_session_ended(struct service *s, struct session *c);
void service_bury_conn(struct service *s, struct conn *c);
static inline int64_t service_now(struct service *s)
{
	return loop_now_us(s->loop);
}

/* endpoint.c */
struct endpoint *endpoint_new(struct service *s, const struct service_server *o);
void endpoint_free(struct endpoint **e);
void endpoint_start(struct endpoint *e);
/* The best address not in `tried`, as an index; e->n: none left. */
size_t endpoint_choose(struct endpoint *e, uint64_t tried);
bool endpoint_has_more(const struct endpoint *e, uint64_t tried);
void endpoint_mark(struct endpoint *e, const struct addr *a, bool failed);
/* A dial or login of the server has ended: tells the log when that took it down or brought it up. */
void endpoint_note(struct endpoint *e);

/* dial.c */
void conn_dial(struct service *s, struct upstream *u);
void conn_probe(struct conn *c);
void conn_clean(struct conn *c);
void conn_close(struct conn *c); /* after EFFECT_CLOSE: closes the socket and tells the pool */
void conn_on_event(void *arg, enum stream_event ev);

/* session.c */
void session_new(struct service *s, struct stream *client);
void session_granted(struct session *c, struct upstream *u);
void session_refused(struct session *c, enum err why);
void session_on_server(struct session *c, enum stream_event ev);
void session_end(struct session *c, enum err why);
void session_stop_if_idle(struct session *c);

/* relay.c */
void flow_init(struct flow *f, struct blocks *from, uint64_t *total);
void flow_clear(struct flow *f, struct loop *l);
bool flow_is_empty(const struct flow *f);
uint64_t flow_delivered(const struct flow *f); /* bytes the destination has taken */
/* The source is readable: moves bytes on. `to` NULL: they are kept, up to high_water. */
enum relay_result relay_in(struct flow *f, struct stream *from, struct stream *to, size_t high_water, struct loop *l);
/* The destination may take bytes again. `from` NULL: it has ended. */
enum relay_result relay_out(struct flow *f, struct stream *from, struct stream *to, struct loop *l);

#endif
