/*
 * keys: the table of configuration keys as data, made from keys.def.
 *
 *	keys.def --+--> struct fields (conf.h)
 *	           +--> struct key rows, one array per scope --> parse, check, dump, sample, manual
 *	           +--> K_<SCOPE>_<field>, a row's index in its scope
 *
 * Immutable. A row knows where in its scope's struct the value lies (offset), so one function per type stores, checks
 * and prints every key of that type.
 */
#ifndef LEASED_CONF_KEYS_H
#define LEASED_CONF_KEYS_H

#include <stdbool.h>
#include <stddef.h>

#include "conf/conf.h"

enum key_type {
	KEY_TYPE_BOOL,
	KEY_TYPE_INT,
	KEY_TYPE_MODE,
	KEY_TYPE_FLOAT,
	KEY_TYPE_DURATION,
	KEY_TYPE_SIZE,
	KEY_TYPE_STRING,
	KEY_TYPE_CHOICE,
	KEY_TYPE_SCRIPT,
	KEY_TYPE_STRINGS,
	KEY_TYPE_UIDS,
	KEY_TYPE_SECRET,
	KEY_TYPE_COUNT
};

enum scope_id {
	SCOPE_TOP,
	SCOPE_ADMIN,
	SCOPE_LOG,
	SCOPE_LIMITS,
	SCOPE_TCP,
	SCOPE_DNS,
	SCOPE_CREDENTIAL,
	SCOPE_LISTENER,
	SCOPE_USER,
	SCOPE_SERVER,
	SCOPE_POOL,
	SCOPE_COUNT
};

struct key {
	enum scope_id scope;
	const char *name;
	enum key_type type;
	const char *def, *min, *max, *choices; /* texts; "": none */
	bool reload;			       /* a running daemon takes a new value over */
	const char *help;
	size_t offset; /* of the field in the scope's struct */
};

struct scope {
	enum scope_id id;
	const char *name; /* as written in the file: "log", "pools"; "" for the top level */
	bool list;	  /* a list of groups, each of which holds the keys */
	const struct key *keys;
	size_t n, size; /* keys; bytes of the struct */
};

#define KEY_TOP(f, ...) K_TOP_##f,
enum {
#include "conf/keys.def"
	K_TOP_COUNT
};
#define KEY_ADMIN(f, ...) K_ADMIN_##f,
enum {
#include "conf/keys.def"
	K_ADMIN_COUNT
};
#define KEY_LOG(f, ...) K_LOG_##f,
enum {
#include "conf/keys.def"
	K_LOG_COUNT
};
#define KEY_LIMITS(f, ...) K_LIMITS_##f,
enum {
#include "conf/keys.def"
	K_LIMITS_COUNT
};
#define KEY_TCP(f, ...) K_TCP_##f,
enum {
#include "conf/keys.def"
	K_TCP_COUNT
};
#define KEY_DNS(f, ...) K_DNS_##f,
enum {
#include "conf/keys.def"
	K_DNS_COUNT
};
#define KEY_CREDENTIAL(f, ...) K_CREDENTIAL_##f,
enum {
#include "conf/keys.def"
	K_CREDENTIAL_COUNT
};
#define KEY_LISTENER(f, ...) K_LISTENER_##f,
enum {
#include "conf/keys.def"
	K_LISTENER_COUNT
};
#define KEY_USER(f, ...) K_USER_##f,
enum {
#include "conf/keys.def"
	K_USER_COUNT
};
#define KEY_SERVER(f, ...) K_SERVER_##f,
enum {
#include "conf/keys.def"
	K_SERVER_COUNT
};
#define KEY_POOL(f, ...) K_POOL_##f,
enum {
#include "conf/keys.def"
	K_POOL_COUNT
};

#define KEYS_MAX 64 /* of one scope */

const struct scope *scope_get(enum scope_id id);
const struct key *scope_find(const struct scope *s, const char *name); /* NULL: unknown */
bool key_required(const struct key *k);
/* Whether a key of SCOPE_CREDENTIAL means anything to the source (an index into the row's choices). */
bool key_of_source(int key, int source);
/* What a value of the type is called: "a duration such as \"30s\"". */
const char *key_type_text(enum key_type t);
/* The same in one word, for tables. */
const char *key_type_word(enum key_type t);

/* The nearest known word so far; best is NULL when none is near. */
struct nearest {
	const char *word, *best;
	int distance;
};
void nearest_init(struct nearest *n, const char *word);
void nearest_try(struct nearest *n, const char *known);

#endif
