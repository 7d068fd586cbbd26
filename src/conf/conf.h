/*
 * conf: the configuration as an immutable tree of checked values with their defaults filled in.
 *
 * One table of keys (keys.def) gives the fields below, the checks of parse.c, the key section of leased.conf(5), the
 * sample and --dump-config. A tree is never changed after conf_load(); a reload makes a new one. Errors name file,
 * line and key and suggest the nearest known word.
 */
#ifndef LEASED_CONF_CONF_H
#define LEASED_CONF_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/addr.h"
#include "base/err.h"
#include "base/log.h"
#include "base/secret.h"

/* Where a value was written; file NULL: it is a default. */
struct conf_pos {
	const char *file;
	int line;
};

struct conf_step { /* of a script; NULL: absent */
	const char *send, *expect, *expect_denied, *end;
	struct conf_pos pos;
};
struct conf_script {
	struct conf_step *v;
	size_t n; /* 0: no script */
	struct conf_pos pos;
};
struct conf_strings {
	const char **v; /* v[n] is NULL */
	size_t n;
};
struct conf_uids {
	uint32_t *v;
	size_t n;
};

/* KEY(scope, field, TYPE, default text, min, max, choices, reload, help) rows of keys.def become these fields. */
#define CONF_FIELD_BOOL(f)     bool f;
#define CONF_FIELD_INT(f)      int64_t f;
#define CONF_FIELD_MODE(f)     unsigned int f; /* file mode */
#define CONF_FIELD_FLOAT(f)    double f;
#define CONF_FIELD_DURATION(f) int64_t f##_us;
#define CONF_FIELD_SIZE(f)     int64_t f##_bytes;
#define CONF_FIELD_STRING(f)   const char *f;
#define CONF_FIELD_CHOICE(f)   int f; /* index into the row's choices, in their order */
#define CONF_FIELD_SCRIPT(f)   struct conf_script f;
#define CONF_FIELD_STRINGS(f)  struct conf_strings f;
#define CONF_FIELD_UIDS(f)     struct conf_uids f;
#define CONF_FIELD_SECRET(f)   struct secret *f;

struct conf_admin {
#define KEY_ADMIN(field, type, ...) CONF_FIELD_##type(field)
#include "conf/keys.def"
	struct conf_pos pos;
};
struct conf_log {
#define KEY_LOG(field, type, ...) CONF_FIELD_##type(field)
#include "conf/keys.def"
};
struct conf_limits {
#define KEY_LIMITS(field, type, ...) CONF_FIELD_##type(field)
#include "conf/keys.def"
	bool max_clients_given; /* written by the operator, not the default */
};
struct conf_tcp {
#define KEY_TCP(field, type, ...) CONF_FIELD_##type(field)
#include "conf/keys.def"
};
struct conf_dns {
#define KEY_DNS(field, type, ...) CONF_FIELD_##type(field)
#include "conf/keys.def"
};
/* The choices of `source`, in the order of its row in keys.def. */
enum conf_source {
	CONF_SOURCE_STATIC,
	CONF_SOURCE_ENV,
	CONF_SOURCE_FILE,
	CONF_SOURCE_DIRECTORY,
	CONF_SOURCE_SYSTEMD,
	CONF_SOURCE_COMMAND,
	CONF_SOURCE_STREAM,
};
struct conf_credential {
#define KEY_CREDENTIAL(field, type, ...) CONF_FIELD_##type(field)
#include "conf/keys.def"
	struct conf_pos pos;
};
struct conf_listener {
#define KEY_LISTENER(field, type, ...) CONF_FIELD_##type(field)
#include "conf/keys.def"
	struct addr_spec where; /* of `address` */
	int64_t uid, gid;	/* of owner and group; -1: leave */
	struct conf_pos pos;
};
/* A client that has to show who it is. */
struct conf_user {
#define KEY_USER(field, type, ...) CONF_FIELD_##type(field)
#include "conf/keys.def"
	struct conf_pos pos;
};
struct conf_server {
#define KEY_SERVER(field, type, ...) CONF_FIELD_##type(field)
#include "conf/keys.def"
	const char *address;
	struct addr_spec where;
	struct conf_pos pos;
};
struct conf_pool {
#define KEY_POOL(field, type, ...) CONF_FIELD_##type(field)
#include "conf/keys.def"
	struct conf_server defaults; /* server keys written in the pool: each server starts from them */
	struct conf_listener *listen;
	size_t n_listen;
	struct conf_server *servers;
	size_t n_servers;
	struct conf_user *users;
	size_t n_users;
	const struct conf_credential *credential; /* NULL: none */
	struct conf_pos pos, users_pos;
	const struct conf_pos *at; /* of each key of the scope (K_POOL_...); file NULL: not written */
};

struct conf {
#define KEY_TOP(field, type, ...) CONF_FIELD_##type(field)
#include "conf/keys.def"
	struct conf_admin admin;
	struct conf_log log;
	struct conf_limits limits;
	struct conf_tcp tcp;
	struct conf_dns dns;
	struct conf_credential *credentials;
	size_t n_credentials;
	struct conf_pool *pools;
	size_t n_pools;
	const char *file; /* main file as given */
	void *arena;	  /* owns all of the above */
};

/* A list of messages, each "FILE:LINE: key: what is wrong (did you mean ...?)"; those that are only a warning say
 * "FILE:LINE: warning: key: ...". */
#define CONF_MESSAGES_MAX 50
struct conf_messages {
	char **v;
	size_t n;
};
/* Adds one, with control characters replaced. A text that is already there, or one beyond the limit, is left out. */
void conf_messages_add(struct conf_messages *m, struct conf_pos pos, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void conf_messages_free(struct conf_messages *m);

/*
 * Reads and checks a file (libconfig syntax, @include relative to the file). `sets` are "key=value" overrides of the
 * command line ("log.level=debug", "pools.cache.max_size=20"). `check` may add errors that need upper layers' knowledge
 * (compiling scripts, known protocols) and returns false when it did. On error *out is NULL and at least one message is
 * in `errors`; all independent mistakes are reported, not only the first. `warnings` may be filled in any case. The result
 * is ERR_PERMISSION when a file could not be read or is open to too many people and nothing else is wrong, else ERR_CONFIG.
 *
 * A credential's or user's password is filled in from `password` or `password_file`; secret_arena_init() comes first.
 */
typedef bool conf_check_fn(const struct conf *c, struct conf_messages *errors, struct conf_messages *warnings);
enum err conf_load(const char *file, const char *const *sets, size_t n_sets, conf_check_fn *check, struct conf **out,
		   struct conf_messages *errors, struct conf_messages *warnings) MUST_CHECK;
/* The same for a text without includes and overrides; for tests. */
enum err conf_load_text(const char *text, size_t n, struct conf **out, struct conf_messages *errors,
			struct conf_messages *warnings) MUST_CHECK;
const char *conf_library_version(void); /* libconfig's */
void conf_free(struct conf **c);	/* nulls *c; NULL is fine; wipes the secrets nobody else holds */

/* What comes from the table (emit.c). */
void conf_emit_dump(const struct conf *c,
		    FILE *f);	/* effective values, as a file that parses back to the same tree */
void conf_emit_sample(FILE *f); /* conf/leased.conf */
void conf_emit_man(FILE *f);	/* mdoc(7) key section of leased.conf(5) */
void conf_emit_limits(FILE *f); /* every key with its finite default, minimum and maximum */

#endif
