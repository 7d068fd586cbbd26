/*
 * credential_private: what credential.c and the sources know of each other.
 *
 *	credential --start, ask(reason), stop--> source
 *	           <--source_has(), source_failed()--  in answer to ask(), or any time by itself
 *
 * A source may answer from inside ask() and start(): what the outside hears of it is posted. Every ask() is answered once, however
 * long it takes, unless stop() comes first; what else a source says meanwhile is taken as that answer if it is a credential.
 */
#ifndef LEASED_CRED_CREDENTIAL_PRIVATE_H
#define LEASED_CRED_CREDENTIAL_PRIVATE_H

#include "cred/credential.h"
#include "cred/parse.h"

struct source;

struct source_ops {
	const char *name;
	bool asks;	/* it may have something newer when asked; else what it said first is all */
	bool refreshes; /* it is asked by time (interval, expiry) and again after failures */
	/* Allocates *out; is the first ask() as well. Only what the operator has to mend is an error: nothing is allocated then. */
	enum err (*start)(struct source **out, struct credential *c, const char **why);
	void (*ask)(struct source *s, enum cred_reason why);
	void (*stop)(struct source **s);
};

extern const struct source_ops source_static, source_env, source_file, source_directory, source_systemd,
	source_command, source_stream;

/* ---- for sources ---- */

struct loop *credential_loop(const struct credential *c);
const struct credential_opts *credential_options(const struct credential *c);
/* Takes the fields over. */
void source_has(struct credential *c, struct cred_fields *f);
/* In answer to ask() only: nothing newer came. */
void source_same(struct credential *c);
/* The last good generation stays; what: a sentence fragment without content. */
void source_failed(struct credential *c, enum err why, const char *what);
/* The text of a whole credential, written age_us ago: source_has() (true) or source_failed(). The caller wipes it. */
bool source_says(struct credential *c, const char *text, size_t n, int64_t age_us);
bool source_says_values(struct credential *c, const struct cred_value v[CRED_KEYS], int64_t age_us);
/* What follows an interval of us. */
int64_t backoff_grow(int64_t us, const struct credential_opts *o);

#endif
