/*
 * build: from the tree of values to the configuration: every known key into its field, every unknown one into a message.
 *
 *	values --build.c: keys, groups, lists--> struct conf --check.c: what no single key can know--> done
 *
 * A key that is wrong keeps its default and is marked bad, so that one mistake is reported once and the rest still gets
 * checked.
 */
#ifndef LEASED_CONF_BUILD_H
#define LEASED_CONF_BUILD_H

#include <stdint.h>

#include "conf/value.h"

#define CONF_POOLS_MAX	     1000
#define CONF_LISTENERS_MAX   1000 /* of one pool */
#define CONF_SERVERS_MAX     1000 /* of one pool */
#define CONF_CREDENTIALS_MAX 1000
#define CONF_USERS_MAX	     1000 /* of one pool */

struct build {
	struct conf *conf;
	struct conf_arena *arena;
	struct conf_messages *errors, *warnings;
	const char *dir; /* relative names are relative to it */
	size_t denied;	 /* errors that are about permissions */
};

/* Which keys of a scope were written, and where. */
struct seen {
	struct conf_pos at[KEYS_MAX]; /* file NULL: not written */
	uint64_t bad;		      /* written, but wrong */
};

static inline bool seen_given(const struct seen *s, int key)
{
	return s->at[key].file != NULL;
}

static inline bool seen_bad(const struct seen *s, int key)
{
	return s->bad >> key & 1;
}

/* A group's keys go to one struct or, in a pool, to two (its own and its servers' defaults). */
struct target {
	const struct scope *scope;
	void *base;
	struct seen *seen;
};

void build_error(struct build *b, struct conf_pos pos, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void build_warning(struct build *b, struct conf_pos pos, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void build_conf(struct build *b, const struct value *root);

/* build_keys.c: stores the keys of a group; members named in parts (NULL-terminated) are left to the caller. */
void build_keys(struct build *b, const struct value *group, const struct target *targets, size_t n,
		const char *const *parts);

/* check.c; credentials and users: check_credential.c */
void check_top(struct build *b, const struct seen *top);
void check_admin(struct build *b, const struct seen *s);
void check_log(struct build *b, const struct seen *s, struct conf_pos pos);
void check_dns(struct build *b, const struct seen *s);
void check_credential(struct build *b, struct conf_credential *c, const struct seen *s);
void check_pool_user(struct build *b, struct conf_user *u, const struct seen *s);
void check_listener(struct build *b, struct conf_listener *l, const struct seen *s);
void check_server(struct build *b, const struct conf_server *v, const struct seen *own, const struct seen *pool);
void check_pool(struct build *b, const struct conf_pool *p, const struct seen *own, const struct seen *defaults);
void check_addresses(struct build *b);
/* A name for logs, labels and paths. */
void check_name(struct build *b, struct conf_pos pos, const char *name);
bool check_server_address(struct build *b, struct conf_pos pos, const char *text, struct addr_spec *out);

/* password.c: reads the file into *out. False: why says what is wrong; *denied: it is about permissions. */
bool password_read(const char *path, struct conf_arena *a, struct secret **out, bool *denied, char why[WHY_MAX]);
/* Only whether it could be read. strict: and is closed to others, and to its group for writing. */
bool password_may_read(const char *path, bool strict, bool *denied, char why[WHY_MAX]);

#endif
