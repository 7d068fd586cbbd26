/*
 * cred: what a pool logs in with upstream, as an immutable, numbered generation.
 *
 *	source_static ---+
 *	(file, ...)   ---+--> generation 1, 2, 3, ... --ref--> pools, logins under way
 *
 * A generation never changes; a change of the credential is a new generation with a higher number. So "has anyone asked
 * for something newer than g?" is one comparison, and whoever holds a reference may use it on any thread without a
 * lock. The last drop wipes the password.
 */
#ifndef LEASED_CRED_CRED_H
#define LEASED_CRED_CRED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/secret.h"

/* What a source says. Texts are owned; NULL: absent. */
struct cred_fields {
	char *username;
	struct secret *password; /* or token */
	char *host;		 /* moves the pool's server there */
	int port;		 /* 0: as configured */
	char *database;
	int64_t expires_us; /* in the loop's time (monotonic); INT64_MAX: never */
};

struct cred {
	uint64_t number; /* 1 is the first; 0 is never used */
	struct cred_fields is;
	atomic_uint refs; /* private to cred.c */
};

void cred_fields_init(struct cred_fields *f);
void cred_fields_clear(struct cred_fields *f);
/* Constant time for the secret. Expiry counts. */
bool cred_fields_equal(const struct cred_fields *a, const struct cred_fields *b);
/* The same without the expiry. */
bool cred_fields_same_login(const struct cred_fields *a, const struct cred_fields *b);

/* Takes over the fields (and leaves *f empty). One reference. */
struct cred *cred_new(uint64_t number, struct cred_fields *f);
struct cred *cred_ref(struct cred *c);
void cred_drop(struct cred **c); /* nulls *c; NULL is fine */

#endif
