/*
 * parse: the text of a credential, in one of four forms, into fields. Pure: no I/O, no clock but the one handed in.
 *
 *	{"username": "app", "password": "s3cret", "expires_in": 900}     JSON, also token, host, port, database, expires_at,
 *	                                                                 lease_duration; unknown members are ignored
 *	username=app                                                     key=value lines, the same keys
 *	password=s3cret
 *	app:s3cret                                                       user:password, one line
 *	s3cret                                                           a bare secret, one line
 *
 * One trailing newline (LF or CRLF) is dropped; NUL and CR elsewhere, invalid UTF-8 in names, an empty secret, and more than
 * CRED_TEXT_MAX bytes are errors. The text is wiped by whoever read it. Errors are words, never content.
 */
#ifndef LEASED_CRED_PARSE_H
#define LEASED_CRED_PARSE_H

#include "cred/cred.h"

#define CRED_TEXT_MAX 65536

/* now_us: loop time; wall_s: seconds since the epoch, now. `expires_at` (epoch seconds or RFC 3339) and `expires_in` become
 * loop time. On ERR_INVALID *why is a sentence fragment without content. */
enum err cred_parse(const char *text, size_t n, int64_t now_us, int64_t wall_s, struct cred_fields *out,
		    const char **why) MUST_CHECK;

#endif
