/*
 * proto: what differs between protocols, and nothing else. The core asks a struct proto, never which protocol it is.
 *
 * Protocol modules are sans-I/O: bytes in, bytes out, one verdict. They see no socket, clock, log or configuration.
 * They keep private state per upstream (up_bytes, zeroed) that the core allocates and never looks into.
 *
 * The dialogues with an upstream (login, ping before a lease, clean on return) share one form: begin() appends what to
 * send first, feed() takes what was received. A dialogue a protocol or its settings do not have is PROTO_DONE at begin.
 *
 * A protocol without from_client/from_server is opaque: the core moves its bytes without looking ("raw"), a lease lasts
 * as long as its client, and whether a connection may be reused is its return policy.
 */
#ifndef LEASED_PROTO_PROTO_H
#define LEASED_PROTO_PROTO_H

#include "proto/script.h"

enum proto_verdict { PROTO_MORE, PROTO_DONE, PROTO_DENIED, PROTO_FAILED };
enum proto_dialogue { PROTO_LOGIN, PROTO_PING, PROTO_CLEAN };

/* What happens to a connection whose client left without an error. */
enum proto_return {
	PROTO_RETURN_CLOSE, /* can't know that it is clean */
	PROTO_RETURN_QUIET, /* clean when it stays silent for quiet_time */
	PROTO_RETURN_CLEAN, /* clean when the PROTO_CLEAN dialogue succeeds */
};

enum proto_caps {
	PROTO_CAP_SERVER_FIRST = 1, /* bytes of a fresh upstream are its greeting: kept for the first client */
};

/* Settings of one pool for its protocol; immutable. Built by the protocol's own constructor (tcp.h). */
struct proto_conf;

struct proto {
	const char *name;
	unsigned caps;
	size_t up_bytes;
	/* secret_out may be in the secret arena: PROTO_LOGIN always is. */
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
