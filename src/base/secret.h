/*
 * secret: passwords and tokens. They live in an arena of their own and have no print path.
 *
 * The arena is memfd_secret(2) memory (unreadable through /proc/PID/mem even for root), else anonymous memory that is
 * mlock()ed, MADV_DONTDUMP and MADV_WIPEONFORK. There is no function that returns a printable form or a hash.
 * What may be done with a secret: make, compare (constant time), hand its bytes to a protocol's output that itself lies in
 * the arena, and wipe. Its length is for framing it there and for nothing else. Thread-safe (one mutex; never on the data path).
 */
#ifndef LEASED_BASE_SECRET_H
#define LEASED_BASE_SECRET_H

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

#define SECRET_MAX_BYTES 65536

struct secret;

/* Sets the arena up; kind (out, may be NULL) becomes "memfd_secret", "mlock" or "plain". Call before
 * threads; a second call only tells the kind. */
enum err secret_arena_init(const char **kind) MUST_CHECK;
/* Copies n <= SECRET_MAX_BYTES bytes in and wipes the caller's copy. NULL when too long or the arena is full. */
struct secret *secret_take(void *bytes, size_t n);
struct secret *secret_ref(struct secret *s);
void secret_drop(struct secret **s);					 /* the last drop wipes */
int secret_equal(const struct secret *a, const struct secret *b);	 /* constant time */
int secret_equal_bytes(const struct secret *a, const void *p, size_t n); /* constant time */
/* Appends the bytes to a buf that must have been made with secret_blocks(); aborts otherwise. */
void secret_append(const struct secret *s, struct buf *out);
size_t secret_len(const struct secret *s); /* for protocols that say it ahead of the bytes; never for people */
/* The blocks cache of the arena, for login dialogues. */
struct blocks *secret_blocks(void);
/* Overwrites memory in a way the compiler can't remove. */
void secret_wipe(void *p, size_t n);

#endif
