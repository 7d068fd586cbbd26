/*
 * arena: memory that is given back all at once: a configuration tree, or what reading one needs for a moment.
 *
 * Everything is zeroed when handed out and wiped when freed, because a text may hold a password. Not thread-safe; the
 * contents may be read by any thread.
 */
#ifndef LEASED_CONF_ARENA_H
#define LEASED_CONF_ARENA_H

#include <stddef.h>

#include "base/secret.h"

struct conf_arena;

struct conf_arena *conf_arena_new(void);
void *conf_arena_alloc(struct conf_arena *a, size_t n);
void *conf_arena_array(struct conf_arena *a, size_t n, size_t size); /* NULL for n = 0 */
char *conf_arena_strdup(struct conf_arena *a, const char *s);
void conf_arena_own(struct conf_arena *a, struct secret *s); /* dropped with the arena */
void conf_arena_free(struct conf_arena **a);		     /* nulls *a; NULL is fine */

#endif
