/*
 * script: the send/expect language that lets an operator teach opaque tcp a login, a health check and a ready check.
 *
 *	login = ( { send = "AUTH ${username} ${password}\r\n"; expect = "+OK"; expect_denied = "-WRONGPASS*"; } );
 *
 * A step sends its text (may be absent), then waits for one reply (if expect or expect_denied is given).
 *	- `expect` and `expect_denied` are patterns, compared with the reply from its first byte: `*` stands for any run of
 *	  bytes (also none), `?` for one byte, `\*`, `\?` and `\\` for themselves; all else is literal.
 *	- A reply ends at `end` (default "\n"). A pattern that matches a prefix of the reply matches: "+PONG" accepts
 *	  "+PONG\r\n". With end = "" the reply ends where the pattern's shortest match ends.
 *	- In `send`, ${username} and ${password} are replaced by the credential, `$$` is a dollar sign.
 * A reply that matches both patterns is a denial. Bytes behind a reply are the beginning of the next one.
 * A reply longer than SCRIPT_REPLY_MAX, a reply that matches neither pattern, or bytes after the last reply fail it.
 * Sans-I/O: the same functions run in the daemon, in unit tests and in the fuzzer.
 */
#ifndef LEASED_PROTO_SCRIPT_H
#define LEASED_PROTO_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/secret.h"

#define SCRIPT_REPLY_MAX   16384
#define SCRIPT_STEPS_MAX   32
#define SCRIPT_PATTERN_MAX 1024 /* bytes of one expect, expect_denied or end */
#define SCRIPT_SEND_MAX	   16384

struct script; /* compiled, immutable */

/* A step as written; NULL: absent. Texts may hold NUL-free binary through the configuration's own escapes. */
struct script_step {
	const char *send, *expect, *expect_denied, *end;
};

/* why (out): a static sentence fragment; *bad_step the step's index. NULL script on error. Copies all texts. */
enum err script_compile(const struct script_step *steps, size_t n, struct script **out, size_t *bad_step,
			const char **why) MUST_CHECK;
void script_free(struct script **s);
bool script_needs_credential(const struct script *s); /* uses ${username} or ${password} */

/* What a login may use. Either may be NULL. */
struct script_cred {
	const char *username;
	const struct secret *password;
	const char *database; /* where a login goes, for protocols that have such a thing */
};

/* How far a pattern has been walked over the pending reply; private to script.c. */
struct script_match {
	uint16_t symbol;	 /* the next one to match */
	uint16_t after_run;	 /* the one behind the last `*`; 0: none seen */
	uint16_t text, run_text; /* next byte; first byte behind what the last `*` took */
	bool dead;		 /* can't match any more */
};

/* A run of a script on one connection. Small; the pending reply is in a buf, empty between replies. Zeroed: no run. */
struct script_run {
	const struct script *script; /* NULL: not running */
	size_t step;
	struct buf reply;
	struct script_match match[2]; /* the end, or with end = "" the two patterns */
};

enum script_verdict { SCRIPT_MORE, SCRIPT_DONE, SCRIPT_DENIED, SCRIPT_FAILED };

/* A script that needs a credential which `cred` lacks fails. One that sends the password needs an `out` of the secret
 * arena (secret_blocks()), and blocks of the arena too if the peer might echo it.
 * Starts: appends the first step's text to out. `blocks` is where replies are kept. DONE at once for a script that
 * expects nothing. */
enum script_verdict script_start(struct script_run *r, const struct script *s, struct blocks *blocks,
				 const struct script_cred *cred, struct buf *out);
/* Takes all n received bytes; appends what to send next. After a verdict other than MORE the run is over (and empty). */
enum script_verdict script_feed(struct script_run *r, const uint8_t *p, size_t n, const struct script_cred *cred,
				struct buf *out);
void script_stop(struct script_run *r); /* idempotent */

#endif
