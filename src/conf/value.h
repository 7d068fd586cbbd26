/*
 * value: one written value, from the syntax to a typed, checked field and back to text.
 *
 *	libconfig's tree --(parse.c)--\
 *	"key=value" of the command line --> struct value --value_store()--> field of a conf struct --value_print()--> text
 *	default text of the table ----/
 *
 * All three sources end in value_store(), so a default can't mean something else than the same text in a file.
 */
#ifndef LEASED_CONF_VALUE_H
#define LEASED_CONF_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "conf/arena.h"
#include "conf/conf.h"
#include "conf/keys.h"

enum value_kind { VALUE_BOOL, VALUE_INT, VALUE_FLOAT, VALUE_STRING, VALUE_LIST, VALUE_GROUP };

struct value {
	enum value_kind kind;
	const char *name; /* NULL: an element of a list */
	struct conf_pos pos;
	union {
		bool b;
		struct {
			int64_t i;
			bool hex; /* written in hexadecimal */
		};
		double f;
		char *s; /* wiped after use when it is a secret */
		struct {
			struct value *items; /* of a list or a group */
			size_t n;
		};
	};
};

/* "an integer": what was written, for messages. */
const char *value_kind_text(const struct value *v);
/* The member of a group; NULL: none. */
const struct value *value_member(const struct value *group, const char *name);
/* Reads text that carries no type of its own as the type of the key; what it can't be stays a string. */
struct value value_from_text(const struct key *k, char *text);

#define WHY_MAX 512

/* Sets the field of k in the struct at base, or says in why what is wrong and leaves it. */
bool value_store(const struct key *k, void *base, const struct value *v, struct conf_arena *a, char why[WHY_MAX]);
/* Sets every key of the scope that isn't required to its default. */
void value_defaults(const struct scope *s, void *base, struct conf_arena *a);
/* Writes a field of k as it would be written in a file; a secret as an empty string. */
void value_print(const struct key *k, const void *field, FILE *f);
void value_print_string(const char *s, FILE *f); /* quoted */

/* The keys of a script's step, in the order of struct conf_step. */
#define VALUE_STEP_KEYS 4
extern const char *const value_step_keys[VALUE_STEP_KEYS];

/* User and group names or numbers to ids. */
bool value_user(const char *text, uint32_t *uid);
bool value_group(const char *text, uint32_t *gid);

#endif
