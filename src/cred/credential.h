/*
 * credential: one configured credential: where it comes from, its current generation, and the one refresh that may be
 * under way. Lives on the control thread; pools hear of it through the two events.
 *
 *	                    content changed / expiring / interval / wanted
 *	source (file, command, ...) ---------------------------------> fields --equal?--> nothing new
 *	                                                                  |
 *	                                                                  +--differs--> generation n+1 --published()--> pools
 *	pool: login with generation g refused --credential_want_newer(g)-->
 *	         current > g:            published() has told it already; nothing to do
 *	         a refresh is running:   joins it
 *	         cooling down:           joins the one that starts when the cooldown is over
 *	         else:                   starts one; at its end published(), or refreshed() with why there is nothing newer
 *
 * Single-flight: one refresh at a time for all pools and threads. After a refresh that was wanted and brought nothing newer the
 * next wanted one waits for a cooldown (refresh_cooldown, doubling up to refresh_cooldown_max; a new generation resets it). A
 * source that can't be asked (static, env) answers at once, with *final. Empty, partial or invalid content, content that others
 * may read, and failing commands keep the last good generation and are logged and counted. No secret is ever logged.
 */
#ifndef LEASED_CRED_CREDENTIAL_H
#define LEASED_CRED_CREDENTIAL_H

#include <stdbool.h>
#include <stddef.h>

#include "cred/cred.h"
#include "io/loop.h"

enum cred_source {
	CRED_STATIC,	/* the fields below */
	CRED_ENV,	/* environment variables, read once and removed from the environment */
	CRED_FILE,	/* one file, watched */
	CRED_DIRECTORY, /* files username, password, ... behind a ..data symlink (Kubernetes), watched */
	CRED_SYSTEMD,	/* $CREDENTIALS_DIRECTORY/NAME, watched (immutable while the unit runs) */
	CRED_COMMAND,	/* a program that prints one document and exits */
	CRED_STREAM,	/* a program that goes on printing documents, one a line */
};

/* Why a source is asked: LEASED_REASON of its environment. */
enum cred_reason { CRED_STARTUP, CRED_CHANGED, CRED_EXPIRING, CRED_DENIED, CRED_INTERVAL, CRED_MANUAL };

/* Nothing is copied but `fixed`, which is taken over; all must outlive the credential. Times in microseconds. */
struct credential_opts {
	const char *name;
	enum cred_source source;
	struct cred_fields fixed;		 /* CRED_STATIC */
	const char *env_username, *env_password; /* CRED_ENV: names of variables; username may be NULL */
	const char *path;	     /* FILE: the file; DIRECTORY: the directory; SYSTEMD: name of the credential */
	const char *const *argv;     /* COMMAND, STREAM: NULL-terminated; argv[0] is an absolute path */
	const char *const *pass_env; /* names of variables the child inherits; NULL-terminated; else only PATH, LANG */
	bool strict_permissions;     /* refuse files that others may read or write */
	int64_t poll_us;	     /* files: looked at this often besides inotify; 0: never */
	int64_t debounce_us;	     /* files: silence after a change before it is read */
	int64_t interval_us;	     /* COMMAND: asked this often; 0: not */
	double refresh_ratio;	     /* COMMAND: asked when that part of the lifetime has passed */
	int64_t refresh_before_us;   /* ... or this long before the end, whichever is earlier; 0: not */
	int64_t timeout_us;	     /* COMMAND: for one run */
	int retries;		     /* COMMAND: runs of one refresh that may fail in a row */
	int64_t backoff_initial_us, backoff_max_us; /* COMMAND: between them; STREAM: between restarts */
	double backoff_multiplier;
	int64_t cooldown_us, cooldown_max_us;
};

struct credential;

/* Called as events, in the credential's thread. */
struct credential_events {
	/* A new generation; the callee takes references it wants to keep. */
	void (*published)(void *arg, struct credential *c, struct cred *g);
	/* A refresh that was wanted, or asked for by credential_refresh(), ended without anything newer than `than`. final: it
	 * never will have. */
	void (*refreshed)(void *arg, struct credential *c, uint64_t than, enum err why, bool final);
};

struct credential *credential_new(struct loop *l, const struct credential_opts *o, const struct credential_events *ev,
				  void *arg);
/* First load. Files, directories, env and static are read before it returns, commands and streams are started: published()
 * follows as an event in any case. ERR_OK even when there is nothing to be had yet (a file that does not exist, a command that
 * is running), except for what only the operator can mend: ERR_PERMISSION (strict_permissions), ERR_CONFIG (no such variable,
 * $CREDENTIALS_DIRECTORY not set); *why then says what. */
enum err credential_start(struct credential *c, const char **why) MUST_CHECK;
void credential_stop(struct credential *c);  /* kills children, removes watches */
void credential_free(struct credential **c); /* stops first */

struct cred *credential_current(const struct credential *c); /* borrowed; NULL: none yet */
/* See the drawing above. */
void credential_want_newer(struct credential *c, uint64_t than);
/* Asks the source again now, whatever the cooldown says (leasectl refresh, SIGHUP). */
void credential_refresh(struct credential *c);

struct credential_view {
	const char *name, *source;
	uint64_t generation;		  /* 0: none yet */
	int64_t published_us, expires_us; /* loop time; 0 / INT64_MAX: never */
	int64_t asked_us;		  /* last time the source was asked; 0: never */
	bool refreshing;
	int64_t cooldown_until_us; /* 0: not cooling down */
	enum err last_error;	   /* of the last try; ERR_OK */
	/* By result: ERR_OK is a new generation. By reason: enum cred_reason. */
	uint64_t refreshes[ERR_COUNT];
	uint64_t asked[CRED_MANUAL + 1];
	uint64_t source_errors;
};
void credential_view(const struct credential *c, struct credential_view *out);
const char *cred_reason_name(enum cred_reason r); /* startup, changed, expiring, denied, interval, manual */

#endif
