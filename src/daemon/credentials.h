/*
 * credentials: the configured credentials that pools use, on the control thread's loop, and what is said about them
 * between threads.
 *
 *	source --> credential --published--> CREDENTIAL to each worker with a pool that uses it --> service_credential()
 *	               ^      --refreshed--> CREDENTIAL_FAILED ------------------------------> service_credential_failed()
 *	               +---- credential_want() <-- a mailbox of its own <-- credentials_want(), from the workers' threads
 *
 * However many pools of however many workers want something newer than a generation, their wishes meet in one credential,
 * which asks its source once. People wait for it as well (credentials_ask).
 */
#ifndef LEASED_DAEMON_CREDENTIALS_H
#define LEASED_DAEMON_CREDENTIALS_H

#include <stdatomic.h>

#include "cred/credential.h"
#include "daemon/call.h"
#include "daemon/setup.h"

struct control;
struct credentials;

/* A pool's wish on its way to the control thread: one per pool, so that it is never queued twice. */
struct credential_want {
	struct message m;
	size_t credential; /* index into the setup's */
	struct mailbox *to;
	atomic_bool in_flight;
	atomic_uint_fast64_t than;
};
void credential_want_init(struct credential_want *w, struct mailbox *to, size_t credential);
/* In the pool's thread. */
void credential_want(struct credential_want *w, uint64_t than);

/* NULL: no descriptors. */
struct credentials *credentials_new(struct control *c);
struct mailbox *credentials_box(struct credentials *k); /* where wishes go */
/* As the user the daemon runs as, before any worker's thread. On error *why tells which, and what is wrong. */
enum err credentials_start(struct credentials *k, const char **why) MUST_CHECK;
/* Ends children and watches, and answers whoever still waits. Generations that pools have stay theirs. */
void credentials_stop(struct credentials *k);
/* After the workers are gone. Nulls; NULL is fine. */
void credentials_free(struct credentials **k);

void credentials_refresh_all(struct credentials *k);

/* Somebody who waits for the end of a refresh. */
struct credentials_ask {
	struct node node;
	/* ERR_OK: generation is new. ERR_UNCHANGED: it is still the newest. ERR_SHUTDOWN: nobody knows. */
	void (*answered)(struct credentials_ask *a, enum err e, uint64_t generation);
};
/* False: no credential of that name. The answer comes as an event. */
bool credentials_refresh(struct credentials *k, const char *name, struct credentials_ask *a);

size_t credentials_count(const struct credentials *k);
void credentials_view(const struct credentials *k, size_t i, struct credential_view *out);

#endif
