/*
 * proto: what differs between protocols, and nothing else. The core asks a struct proto, never which protocol it is.
 *
 * Protocol modules are sans-I/O: bytes in, bytes out, one verdict. They see no socket, clock, log or configuration.
 * They keep private state per upstream (up_bytes, zeroed) that the core allocates and never looks into.
 *
 * The dialogues with an upstream (login, ping before a lease, clean on return) share one form: begin() appends what to
 * send first, feed() takes what was received. A dialogue a protocol or its settings do not have is PROTO_DONE at begin.
 *
 * A protocol without `talk` is opaque: the core moves its bytes without looking ("raw"), a lease lasts as long as its
 * client, and whether a connection may be reused is its return policy.
 *
 * A protocol with `talk` knows where messages begin and end and what they do to the connection that carries them:
 *
 *	client bytes --from_client()--> PASS: to an upstream, one reply is owed      HERE: answered by us
 *	                     |
 *	                  pass(): what must be said first to make the connection this client's own (SELECT, ...)
 *	                     |
 *	server bytes --from_server()--> PART, DONE: of the oldest reply owed         PUSH: of no request
 *
 * Private state: `up` belongs to one upstream connection (what it is in: a transaction, subscriptions, its database), `cl`
 * to one client (what it believes to be in), `pool` to all connections of a pool (what was learned from its servers). The
 * core allocates all three zeroed and never looks inside. cl may be NULL where it says so: the client is gone.
 */
#ifndef LEASED_PROTO_PROTO_H
#define LEASED_PROTO_PROTO_H

#include "proto/script.h"

enum proto_verdict { PROTO_MORE, PROTO_DONE, PROTO_DENIED, PROTO_FAILED };
/* REAUTH: proves a newer credential on a connection that is logged in. CLEAN may log in anew. */
enum proto_dialogue { PROTO_LOGIN, PROTO_PING, PROTO_CLEAN, PROTO_REAUTH };

/* What happens to a connection whose client left without an error. */
enum proto_return {
	PROTO_RETURN_CLOSE, /* can't know that it is clean */
	PROTO_RETURN_QUIET, /* clean when it stays silent for quiet_time */
	PROTO_RETURN_CLEAN, /* clean when the PROTO_CLEAN dialogue succeeds */
};

enum proto_caps {
	PROTO_CAP_SERVER_FIRST = 1, /* bytes of a fresh upstream are its greeting: kept for the first client */
	PROTO_CAP_REAUTH = 2,	    /* has a PROTO_REAUTH dialogue, else a new credential means a new connection */
	PROTO_CAP_REAUTH_KEEPS = 4, /* a refused re-authentication leaves the connection with its old identity */
};

/* Settings of one pool for its protocol; immutable. Built by the protocol's own constructor (tcp.h). */
struct proto_conf;

/* What the next message of a client asks for. */
enum proto_ask {
	PROTO_ASK_MORE, /* can't be told before more bytes are there */
	PROTO_ASK_PASS, /* it goes to a server. Nothing was changed yet: the same message may be asked about again */
	PROTO_ASK_HERE, /* it was answered here; the answer (maybe empty) is in `out` */
	PROTO_ASK_LAST, /* it was answered here and the client is to be closed when it has the answer */
};

enum proto_request_flags {
	PROTO_REQUEST_OWN = 1,	 /* not on a connection that is shared with other clients, while held() says so */
	PROTO_REQUEST_ALONE = 2, /* the client's next message waits until this one is answered */
	PROTO_REQUEST_MUTE = 4,	 /* its reply is not for the client */
	PROTO_REQUEST_AGAIN =
		8, /* changes nothing: may be sent again when its connection broke before a byte of reply */
	PROTO_REQUEST_LEAVE =
		16, /* HERE only: once what is owed to it was answered, the client gives back the connection it
				  * holds, whatever held() says; leave() tells what becomes of it */
};

struct proto_request {
	size_t len; /* bytes of the view that belong to it. 0 with PASS: pass() says it all, and when the reply is there the
		     * same message is asked about again */
	bool whole; /* it ends there; else client_more() tells where */
	unsigned flags;
	uint32_t tag; /* the protocol's own; comes back with the reply */
};

/* What the server's bytes are. All but WAIT take `len` bytes. */
enum proto_reply {
	PROTO_REPLY_WAIT, /* can't be told before more bytes are there (a view of PROTO_HEAD_MAX bytes always tells) */
	PROTO_REPLY_PART, /* of the oldest reply owed, which goes on */
	PROTO_REPLY_DONE, /* of the oldest reply owed, which ends there */
	PROTO_REPLY_NOT_RUN, /* the oldest reply owed, whole: the server wants a login and has not executed the request */
	PROTO_REPLY_PUSH_PART, /* of a message that no request asked for, for the client that holds the connection */
	PROTO_REPLY_PUSH,      /* ... which ends there */
	PROTO_REPLY_BROKEN,    /* no such thing can come: the connection is of no use any more */
};

/* What to do with a connection that nobody needs any more. */
enum proto_leave {
	PROTO_LEAVE_CLEAN, /* as good as new: what differs is re-applied by pass() */
	PROTO_LEAVE_CHECK, /* after the PROTO_CLEAN dialogue */
	PROTO_LEAVE_CLOSE, /* in a state that can't be undone */
	PROTO_LEAVE_WRONG, /* close it, and look the server's name up again: it is not in the role it should be */
};

#define PROTO_HEAD_MAX	16384 /* a view of that many bytes is always enough for a verdict */
#define PROTO_AHEAD_MAX 4     /* tags that pass() may fill */

struct proto_talk {
	size_t client_bytes, pool_bytes;
	/* A client was accepted; uid < 0: not known. Greets it, if the protocol lets the server speak first. */
	void (*greet)(void *cl, const struct proto_conf *c, void *pool, uint64_t id, int64_t uid, struct buf *out);
	void (*client_end)(void *cl); /* the client is gone: drops what cl owns; NULL: owns nothing */
	/* Looks at the first message of the view p. */
	enum proto_ask (*from_client)(void *cl, const struct proto_conf *c, void *pool, const uint8_t *p, size_t n,
				      struct proto_request *req, struct buf *out);
	/* The rest of a message that was not whole: how many of the n > 0 bytes belong to it; *whole: it ends there. 0: it is
	 * broken, and so are the client and the connection that had the beginning. Only PASS has messages that are not whole.
	 */
	size_t (*client_more)(void *cl, const uint8_t *p, size_t n, bool *whole);
	/* The request goes out on `up` now. Appends what must be said before it and fills in the tags of the replies that
	 * this will bring (the core keeps them from the client); returns how many. */
	unsigned (*pass)(void *cl, void *up, const struct proto_request *req, struct buf *out,
			 uint32_t ahead[PROTO_AHEAD_MAX]);
	/* Looks at the first bytes of the view p. tag: of the oldest reply owed, may be changed; NULL: none is owed. cl: who
	 * asked (who holds the connection, if none is owed), or NULL. */
	enum proto_reply (*from_server)(void *up, void *cl, void *pool, uint32_t *tag, const uint8_t *p, size_t n,
					size_t *len);
	/* Why the connection can't be given back or shared although nothing is owed (a PIN_ row), or ERR_OK. */
	enum err (*held)(const void *up);
	/* Whether a login may be sent between two requests now, with replies owed or not. */
	bool (*may_reauth)(const void *up);
	/* Nobody needs the connection any more. owed: replies are still to come and will be thrown away before CLEAN. */
	enum proto_leave (*leave)(const void *up, bool owed);
	/* Appends one reply that says the error. text: the server's own words for it, or NULL. */
	void (*fail)(const void *cl, enum err why, const char *text, struct buf *out);
	/* Appends the login that proves `cred` on a connection in use; its reply comes under the returned tag and
	 * from_server() reports it as DONE with reauth_verdict() telling how it went. `out` is in the secret arena. */
	uint32_t (*reauth)(void *up, const struct script_cred *cred, struct buf *out);
	enum proto_verdict (*reauth_verdict)(const void *up);
};

struct proto {
	const char *name;
	unsigned caps;
	size_t up_bytes;
	const struct proto_talk *talk; /* NULL: opaque */
	/* Called when the pool's shared state (talk->pool_bytes) exists, before begin(); NULL: not needed. */
	void (*attach)(void *up, const struct proto_conf *c, void *pool);
	/* The server's own words for the failure of the last dialogue, or its remark on one that succeeded, cleaned of control
	 * bytes; NULL or empty: none. Gone with end(). */
	const char *(*error_text)(const void *up);
	/* `out` is in the secret arena, and so are `blocks`, for all but PROTO_PING: what may hold a login. */
	enum proto_verdict (*begin)(void *up, enum proto_dialogue d, const struct proto_conf *c,
				    const struct script_cred *cred, struct blocks *blocks, struct buf *out);
	enum proto_verdict (*feed)(void *up, const uint8_t *p, size_t n, const struct script_cred *cred,
				   struct buf *out);
	void (*end)(void *up); /* drops the private state's buffers; idempotent */
	/* Whether the dialogue has anything to say: lets the core skip states. */
	bool (*has)(const struct proto_conf *c, enum proto_dialogue d);
	enum proto_return (*on_return)(const struct proto_conf *c);
};

/* The registry: one line per protocol in proto.c. NULL: no such protocol. */
const struct proto *proto_find(const char *name);
/* Names for error messages and the manual, NULL-terminated. */
const char *const *proto_names(void);

#endif
