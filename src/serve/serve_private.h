/*
 * serve_private: the parts of one service and who holds whom. Nobody outside serve/ includes this.
 *
 *	service --owns--> endpoint (one per server: its addresses, now)
 *	        --owns--> session (one per client) <--bind/unbind--> conn (one per upstream)
 *	        --owns--> pool (the brain), which holds one struct upstream per conn
 *
 * service.c: accepts, carries out the brain's effects, stops. endpoint.c: names to addresses. dial.c: one upstream from
 * connect to idle, its checks, its end. session.c: one client's life. What a client's bytes are is one of two kinds:
 *	raw.c, relay.c		opaque: bytes from one side to the other
 *	talk.c, wire.c		messages: a wire is an upstream in use with the replies it owes, each with its asker
 *	channel.c		a wire that several clients share, or that nobody holds any more
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

/* Who asked for a lease: a session for itself, or a channel. */
struct holder {
	void (*granted)(struct holder *h, struct upstream *u);
	void (*refused)(struct holder *h, enum err why);
	struct lease lease;
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
	struct addr_spec where, home; /* now, and as configured */
	struct endpoint_addr *v;
	size_t n, next;	       /* next: round-robin */
	bool down;	       /* the log was told so */
	unsigned edition;      /* of v: a new answer of DNS is a new one */
	struct lookup *lookup; /* running */
	struct timer refresh;
	/* A credential may move the server: logins with an older one still go where it was, until the new one is proven. */
	struct endpoint_addr *old;
	size_t n_old;
	uint64_t moved_gen;  /* the first that goes to v; 0: never moved */
	struct cred *moving; /* waits for the lookup of its host; NULL: none */
	char error[128];     /* the server's own words for the last refused login */
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
	struct session *session; /* bound, or NULL */
	struct channel *channel; /* ... or this */
	struct wire *wire;	 /* NULL: opaque */
	struct attempt *attempt;
	struct cred *cred; /* of the login under way */
	struct buf out;	   /* of a dialogue; in the secret arena for a login */
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
	struct holder holder;
	struct node node; /* svc->sessions[state], or svc->dead_sessions */
	enum client_state state;
	enum err ended;	      /* who closed first: ERR_EOF the client, ERR_UPSTREAM_GONE the server */
	struct flow up, down; /* client to server, server to client */
	uint64_t heard;	      /* how much of `up` the server had been given when it last spoke */
	struct timer timer;
	int64_t connected_us, state_us;
	struct talk *talk; /* NULL: opaque */
};

/* ---- messages ---- */

enum owed_kind {
	OWED_REPLY, /* for its asker */
	OWED_MUTE,  /* for nobody, though asked for */
	OWED_AHEAD, /* to something said before a request, for nobody */
	OWED_LOGIN, /* to a login between two requests */
};

/* A reply that the server owes. */
struct owed {
	struct session *asker; /* NULL: it is gone, or nobody asked */
	uint32_t tag;	       /* the protocol's */
	uint32_t kept;	       /* bytes of the request in wire->kept */
	uint8_t kind;
	uint8_t flags; /* of the request */
	bool again;    /* may be asked again elsewhere, as long as no byte of the reply has come */
};

/* A connection in use by a protocol that knows its messages. */
struct wire {
	struct owed *v; /* a ring of cap (a power of two) entries */
	size_t first, len, cap;
	const uint8_t *run; /* bytes in the loop's scratch that are to go out, behind `out`; NULL: none */
	size_t run_bytes;
	struct buf in;		 /* of the server: the beginning of something */
	struct buf out;		 /* to the server */
	struct buf login;	 /* ... then this; in the secret arena */
	struct buf kept;	 /* requests whose replies are owed, as far as they may be asked again */
	struct session *sending; /* its message has gone out in part */
	struct session *stalled; /* does not take its reply, so nothing is read */
	struct conn *conn;
	struct node flush; /* on svc->to_flush */
	bool begun;	   /* a part of the oldest reply has come */
	bool pushing; /* a part of what nobody asked for has come: nothing may be said to its client before the rest */
	bool login_wanted; /* EFFECT_REAUTH, and the moment has not come yet */
	bool not_run;	   /* a request came back because the login was lost: no more requests, and it is closed */
};

/* What a client of such a protocol has beyond a session; the protocol's private bytes follow. */
struct talk {
	struct session *session;
	struct channel *channel; /* its share of the pool's connections; NULL: none yet */
	struct conn *on;	 /* where the replies are owed; NULL: none are */
	unsigned owed;
	struct conn *stalls; /* its wire is stalled by this client; NULL: none is */
	unsigned tries;	     /* requests in a row that were asked again */
	struct buf soon;     /* errors in the place of replies that were owed; before all else */
	struct buf late;     /* answers of ours, behind the replies owed */
	size_t redo; /* bytes at the front of up.pending that are asked again: their replies come before `late` */
	struct buf
		redo_as; /* as what: a struct proto_request each, since what the client is in has changed meanwhile */
	struct buf again_as; /* the same for `again` */
	struct buf again;    /* requests that are to be asked again, before what is in up.pending */
	struct node wake;    /* on svc->awake */
	struct node wait;    /* on channel->waiting */
	enum err failed;     /* it is to be closed, for this reason */
	enum err pin;	     /* why it kept its connection the last time */
	bool more;	     /* what is in up.pending is the beginning of a message */
	bool spoiled;	     /* of what was owed on a broken connection something can't be asked again */
	bool part;	     /* of its message the first part has been sent */
	bool leave;	     /* gives its connection back, whatever holds it */
	bool alone;	     /* nothing more until all is answered */
	bool last;	     /* to be closed when it has its answer */
	bool slow;	     /* has stalled a shared connection once */
};

/* A connection that several clients share, or one whose client has left before its replies came. */
struct channel {
	struct holder holder;
	struct service *svc;
	struct conn *conn;   /* NULL: not lent */
	struct list waiting; /* clients whose next message waits for the connection */
	struct node node;    /* on svc->orphans; not on it: it is one of svc->channels */
	struct timer patience;
	size_t users; /* clients that were given it */
};

/* What differs between clients of opaque protocols and of those that know their messages. */
struct session_kind {
	void (*begin)(struct session *c);
	void (*on_client)(struct session *c, enum stream_event ev);
	void (*on_server)(struct session *c, enum stream_event ev);
	void (*granted)(struct session *c, struct conn *k);
	void (*refused)(struct session *c, enum err why);
	void (*timed_out)(struct session *c); /* nothing more comes: end it in good order */
	/* Drops what it owns beyond the session. Decides what becomes of the connection, given what the caller proposes. */
	enum release_how (*end)(struct session *c, enum release_how how, enum err *why);
};
extern const struct session_kind session_raw, session_talk;

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
	const struct session_kind *kind;
	void *proto_pool;    /* what the protocol has learned of the servers */
	struct cred **creds; /* generations in use, the newest first */
	size_t n_creds;
	int64_t rotating_since_us; /* 0: the newest is in use everywhere */
	struct channel **channels; /* request mode */
	size_t n_channels;
	struct list orphans;
	struct list to_flush; /* wires with something to send at the end of the turn */
	struct list awake;    /* talks to look at */
	struct task flush;
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
struct cred *service_cred(struct service *s, uint64_t gen); /* borrowed; the newest if that one is gone; NULL: none */
void service_credential_move(struct service *s, struct cred *c); /* endpoint.c: its host is resolved */
void service_run(struct service *s);				 /* carries out effects until there are none */
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
/* The best address for a login with generation gen that is not in `tried`: its index there. False: none left. */
bool endpoint_choose(struct endpoint *e, uint64_t gen, uint64_t tried, size_t *at, struct addr *out);
bool endpoint_has_more(const struct endpoint *e, uint64_t gen, uint64_t tried);
void endpoint_look_up(struct endpoint *e); /* now, whatever the age of the last answer */
/* The credential names another host. Returns true when it is known; else service_credential_move() follows. */
bool endpoint_move(struct endpoint *e, struct cred *c);
void endpoint_proven(struct endpoint *e, uint64_t gen); /* a login with it has succeeded */
void endpoint_mark(struct endpoint *e, const struct addr *a, bool failed);
/* A dial or login of the server has ended: tells the log when that took it down or brought it up. */
void endpoint_note(struct endpoint *e);

/* Bytes of the protocol's private part of a conn, with what keeps the wire behind it aligned. */
static inline size_t service_up_bytes(const struct proto *p)
{
	return (p->up_bytes + 15) & ~(size_t)15;
}

/* dial.c */
void conn_dial(struct service *s, struct upstream *u);
void conn_probe(struct conn *c);
void conn_clean(struct conn *c);
void conn_reauth(struct conn *c);
void conn_take_cred(struct conn *c, uint64_t gen, struct script_cred *out); /* until conn_drop_cred() */
void conn_drop_cred(struct conn *c);
void conn_note_login(struct conn *c, enum err e); /* a login or re-authentication has ended */
void *conn_private(struct conn *c);
void conn_close(struct conn *c); /* after EFFECT_CLOSE: closes the socket and tells the pool */
void conn_on_event(void *arg, enum stream_event ev);

/* session.c */
void session_new(struct service *s, struct stream *client);
void session_end(struct session *c, enum err why);
void session_stop_if_idle(struct session *c);
void session_to(struct session *c, enum client_state st);
void session_ask(struct session *c);
void session_arm(struct session *c);
int64_t session_last_us(const struct session *c); /* when a byte last moved */
enum proto_return session_policy(const struct session *c);
/* Ends it. `how` other than CLOSE only when both directions are empty. */
void session_finish(struct session *c, enum release_how how, enum err why);
/* Gives the lease back. */
void session_unbind(struct session *c, enum release_how how, enum err why);
/* Something waits on the connection that is not for its next user (ISO-3). */
bool conn_is_stale(const struct conn *k);

/* raw.c */
int64_t raw_due(
	const struct session *c); /* when a half-closed session is over; INT64_MAX: that is not for us to say */

/* talk.c */
void talk_deliver(struct session *c, const uint8_t *p, size_t n);
void talk_wake(struct session *c); /* look at it before the callback ends */
void talk_run(struct service *s);  /* looks at all that are awake */
void talk_refused(struct session *c, enum err why);
/* The connection of one reply owed is gone. answer: it was for the client. What can be asked again is in talk->again. */
void talk_lost(struct session *c, bool answer, enum err why);
void *talk_private(struct session *c);

/* wire.c */
void wire_init(struct conn *k);
void wire_clear(struct conn *k);
bool wire_is_idle(const struct wire *w);
bool wire_takes(const struct conn *k); /* another request */
void wire_send(struct conn *k, struct session *c, const struct proto_request *req, const uint8_t *p);
void wire_send_more(struct conn *k, const uint8_t *p, size_t n, bool last);
void wire_flush(struct conn *k);       /* now: the scratch is about to be used for something else */
void wire_flush_later(struct conn *k); /* at the end of the turn */
void wire_on_event(struct conn *k, enum stream_event ev);
void wire_forget(struct conn *k, const struct session *c); /* it is gone: its replies are for nobody */
void wire_broken(struct conn *k, enum err why);		   /* tells all askers, gives the connection up */
void wire_reauth(struct conn *k);			   /* EFFECT_REAUTH of a leased one */
void wire_resume(struct conn *k); /* whoever stalled it takes bytes again, or is not owed any */
/* It goes back to the pool. CLEAN becomes CLOSE where the login was lost or the beginning of something has come unasked. */
enum release_how wire_give_back(struct conn *k, enum release_how how);
bool wire_owes_others(const struct wire *w, const struct session *c);

/* channel.c */
struct channel *channel_new(struct service *s);
struct channel *channel_pick(struct service *s);	 /* for a new client: the one with the fewest */
void channel_wake(struct channel *h);			 /* all that wait for it */
void channel_wait(struct channel *h, struct session *c); /* its next message waits for the connection */
void channel_idle(struct channel *h);			 /* no reply is owed any more: gives the connection back */
void channel_lost(struct channel *h, enum err why);	 /* ... it is of no use any more */
void channel_give_up(struct service *s);		 /* all of them, at the end */
void channels_free(struct service *s);
/* Takes a connection over from a client that leaves. */
void channel_adopt(struct session *c);
/* A client does not take its reply: the others get another connection. */
void channel_detach(struct conn *k);
void channel_stop_wait(struct session *c);

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
