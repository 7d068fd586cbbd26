/*
 * parse: the text of a credential, in one of four forms, into fields. Pure: no I/O, no clock but the one handed in.
 *
 *	{"username": "app", "password": "s3cret", "expires_in": 900}     JSON, also token, host, port, database, expires_at,
 *	                                                                 lease_duration; unknown members are ignored, members of
 *	                                                                 "data" objects count (Vault's answers)
 *	username=app                                                     key=value lines, the same keys; # starts a comment
 *	password=s3cret
 *	app:s3cret                                                       user:password, one line
 *	s3cret                                                           a bare secret, one line
 *
 * A text that begins with { is JSON; one whose first line begins with one of the keys and = is key=value; of the others a
 * line with a colon is user:password (the first colon counts). So a secret that looks like one of these needs JSON.
 *
 * A byte order mark in front and one trailing newline (LF or CRLF) are dropped, an LF or CRLF ends a key=value line. NUL,
 * invalid UTF-8, CR or LF in a value, an empty secret, a credential that has expired, and more than CRED_TEXT_MAX bytes are
 * errors. The text is wiped by whoever read it; what jansson makes of it is wiped here. Errors are words, never content.
 */
#ifndef LEASED_CRED_PARSE_H
#define LEASED_CRED_PARSE_H

#include "cred/cred.h"

#define CRED_TEXT_MAX 65536

enum cred_key {
	CRED_KEY_USERNAME,
	CRED_KEY_PASSWORD,
	CRED_KEY_TOKEN, /* another word for password */
	CRED_KEY_HOST,
	CRED_KEY_PORT,
	CRED_KEY_DATABASE,
	CRED_KEY_EXPIRES_AT,
	CRED_KEY_EXPIRES_IN,
	CRED_KEY_LEASE_DURATION, /* another word for expires_in */
	CRED_KEYS
};
extern const char *const cred_key_names[CRED_KEYS];

/* Part of somebody else's text; p NULL: absent. */
struct cred_value {
	const char *p;
	size_t n;
};

/* now_us: loop time; wall_s: seconds since the epoch, both of the moment that expires_in counts from. `expires_at` (epoch
 * seconds or RFC 3339) and `expires_in` become loop time. On ERR_INVALID, ERR_EXPIRED and ERR_TOO_BIG *why is a sentence
 * fragment without content, and *out is empty. */
enum err cred_parse(const char *text, size_t n, int64_t now_us, int64_t wall_s, struct cred_fields *out,
		    const char **why) MUST_CHECK;
/* The same from values that come one by one (the files of a directory), each with its trailing newline. */
enum err cred_parse_values(const struct cred_value v[CRED_KEYS], int64_t now_us, int64_t wall_s,
			   struct cred_fields *out, const char **why) MUST_CHECK;

#endif
