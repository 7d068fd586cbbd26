/*
 * cred: what a pool logs in with upstream: a user name and a password, as an immutable, numbered generation.
 *
 *	source_static ---+
 *	(file, ...)   ---+--> generation 1, 2, 3, ... --ref--> pools, logins under way
 *
 * A generation never changes; a change of the credential is a new generation with a higher number. So "has anyone asked
 * for something newer than g?" is one comparison, and whoever holds a reference may use it on any thread without a
 * lock. The last drop wipes the password. Each source is a file of its own, source_*.c, and one line below.
 */
#ifndef LEASED_CRED_CRED_H
#define LEASED_CRED_CRED_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/secret.h"

struct cred {
	uint64_t number;	 /* 1 is the first; 0 is never used */
	char *username;		 /* NULL: none */
	struct secret *password; /* NULL: none */
	atomic_uint refs;	 /* private to cred.c */
};

/* Copies the name; takes over the caller's reference of the password. Either may be NULL. One reference. */
struct cred *cred_new(uint64_t number, const char *username, struct secret *password);
struct cred *cred_ref(struct cred *c);
void cred_drop(struct cred **c); /* nulls *c; NULL is fine */

/* Sources. */
/* Written in the configuration: generation 1, for ever. As cred_new(). */
struct cred *source_static(const char *username, struct secret *password);

#endif
