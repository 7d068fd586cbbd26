/*
 * call: a message that goes to a worker and comes back to the control thread as its own answer.
 *
 *	control --- call (kind, pool, ...) ---> worker
 *	control <-- the same call (err, snap) -- worker	   then answered(call), in the control thread
 *
 * The structure belongs to the receiver while it travels; who made it owns it again inside answered(). Calls to one
 * worker arrive in the order they were sent; answers come when they are ready.
 */
#ifndef LEASED_DAEMON_CALL_H
#define LEASED_DAEMON_CALL_H

#include "daemon/snapshot.h"
#include "io/mailbox.h"

enum msg {
#define MSG(id, handler, help) MSG_##id,
#include "daemon/messages.def"
#undef MSG
	MSG_COUNT
};

struct call {
	struct message m; /* m.kind is an enum msg */
	struct node node; /* on the control thread's list while under way */
	void (*answered)(struct call *c);
	void *arg;
	/* question */
	size_t pool;		/* DRAIN, RESUME: index into the worker's pools */
	bool refuse_new;	/* DRAIN */
	int64_t timeout_us;	/* DRAIN */
	enum snap_for snap_for; /* SNAPSHOT */
	bool full;		/* SNAPSHOT: with connections and clients */
	size_t credential;	/* CREDENTIAL, CREDENTIAL_FAILED: index into the setup's */
	struct cred *cred;	/* CREDENTIAL */
	uint64_t than;		/* CREDENTIAL_FAILED: nothing newer than that ... */
	enum err why;		/* ... because */
	bool final;		/* ... and there never will be */
	/* answer */
	enum err err;
	struct snap *snap; /* the caller frees it */
};

#endif
