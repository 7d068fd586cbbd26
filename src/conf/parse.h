/*
 * parse: the syntax of a configuration. libconfig reads the text; what comes out is a tree of struct value with positions,
 * into which the overrides of the command line are put (sets.c).
 */
#ifndef LEASED_CONF_PARSE_H
#define LEASED_CONF_PARSE_H

#include <stdbool.h>

#include "conf/source.h"
#include "conf/value.h"

#define PARSE_DEPTH_MAX 16

struct parsed; /* holds the strings of the values */

/* NULL: messages were added. Each group has room for `spare` more members. Values live in the arena until parse_free(). */
struct parsed *parse_source(const struct source *s, struct conf_arena *arena, size_t spare);
struct value *parse_root(struct parsed *p);
void parse_free(struct parsed **p); /* wipes every string first */

/* Puts "key=value" in, as if the key had been written in a file "-o". False: a message was added. */
bool parse_set(struct value *root, const char *set, size_t spare, struct conf_arena *arena,
	       struct conf_messages *errors);

#endif
