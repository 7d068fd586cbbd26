/*
 * buf: a byte queue made of fixed blocks; append at the end, consume at the front.
 *
 * An empty buf owns no block, so an idle connection costs no buffer. Blocks come from a blocks cache shared by all bufs
 * of one thread (struct blocks). A buf never grows by itself: callers check buf_len() against their water mark before
 * they append. A buf bound to a secret blocks cache (secret_blocks(), secret.h) keeps its bytes in the secret arena and
 * wipes each block when it is given back.
 *
 *	| consumed | bytes ...| -> | bytes | -> | bytes ..| room |
 */
#ifndef LEASED_BASE_BUF_H
#define LEASED_BASE_BUF_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define BUF_BLOCK_BYTES 4096 /* with the block's header */

struct block;

/* Where blocks come from. `get` returns BUF_BLOCK_BYTES bytes (aborts if it can't), `put` takes them back. */
struct blocks {
	void *(*get)(struct blocks *);
	void (*put)(struct blocks *, void *);
	void *free;
	size_t nfree, nused, keep;
};

struct buf {
	struct blocks *from;
	struct block *first, *last;
	size_t len;
};

void blocks_init(struct blocks *b, size_t keep); /* plain memory */
void blocks_done(struct blocks *b);		 /* asserts nused == 0 */

void buf_init(struct buf *b, struct blocks *from);
void buf_clear(struct buf *b); /* drops all bytes, gives all blocks back */
static inline size_t buf_len(const struct buf *b)
{
	return b->len;
}
void buf_append(struct buf *b, const void *p, size_t n);
/* The first contiguous run of bytes; *n is 0 when empty. */
const uint8_t *buf_peek(const struct buf *b, size_t *n);
/* Fills iov with up to max runs from the front; returns how many. */
int buf_iov(const struct buf *b, struct iovec *iov, int max);
/* Copies up to n bytes from the front without consuming; returns how many. */
size_t buf_copy(const struct buf *b, void *dst, size_t n);
void buf_consume(struct buf *b, size_t n); /* n <= buf_len() */

#endif
