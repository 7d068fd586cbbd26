/* buf: byte queue of blocks; see buf.h. */
#include "base/buf.h"

#include <string.h>

#include "base/mem.h"
#include "base/poison.h"

struct block {
	struct block *next;
	uint32_t begin, end; /* the bytes in use: data[begin..end) */
	uint8_t data[];
};

#define BLOCK_ROOM (BUF_BLOCK_BYTES - sizeof(struct block))

/* A free block's first word links to the next free one. */
static void *blocks_pop(struct blocks *b)
{
	void *p = b->free;

	poison_clear(p, BUF_BLOCK_BYTES);
	memcpy(&b->free, p, sizeof(b->free));
	b->nfree--;
	return p;
}

static void *blocks_get(struct blocks *b)
{
	b->nused++;
	return b->free ? blocks_pop(b) : mem_realloc(NULL, BUF_BLOCK_BYTES);
}

static void blocks_put(struct blocks *b, void *p)
{
	BUG_ON(b->nused == 0);
	b->nused--;
	if (b->nfree >= b->keep) {
		mem_free(p);
		return;
	}
	memcpy(p, &b->free, sizeof(b->free));
	b->free = p;
	b->nfree++;
	poison_set(p, BUF_BLOCK_BYTES);
}

void blocks_init(struct blocks *b, size_t keep)
{
#ifdef HONEST_ALLOC
	keep = 0;
#endif
	*b = (struct blocks){.get = blocks_get, .put = blocks_put, .keep = keep};
}

void blocks_done(struct blocks *b)
{
	BUG_ON(b->nused != 0);
	while (b->free)
		mem_free(blocks_pop(b));
}

void buf_init(struct buf *b, struct blocks *from)
{
	*b = (struct buf){.from = from};
}

static void buf_drop_first(struct buf *b)
{
	struct block *k = b->first;

	b->first = k->next;
	if (!b->first)
		b->last = NULL;
	b->from->put(b->from, k);
}

void buf_clear(struct buf *b)
{
	while (b->first)
		buf_drop_first(b);
	b->len = 0;
}

static struct block *buf_add_block(struct buf *b)
{
	struct block *k = b->from->get(b->from);

	k->next = NULL;
	k->begin = k->end = 0;
	if (b->last)
		b->last->next = k;
	else
		b->first = k;
	b->last = k;
	return k;
}

void buf_append(struct buf *b, const void *p, size_t n)
{
	const uint8_t *from = p;

	while (n > 0) {
		struct block *k = b->last;
		size_t part;

		if (!k || k->end == BLOCK_ROOM)
			k = buf_add_block(b);
		part = BLOCK_ROOM - k->end;
		if (part > n)
			part = n;
		memcpy(k->data + k->end, from, part);
		k->end += (uint32_t)part;
		from += part;
		n -= part;
		b->len += part;
	}
}

const uint8_t *buf_peek(const struct buf *b, size_t *n)
{
	if (!b->first) {
		*n = 0;
		return NULL;
	}
	*n = b->first->end - b->first->begin;
	return b->first->data + b->first->begin;
}

int buf_iov(const struct buf *b, struct iovec *iov, int max)
{
	int n = 0;

	for (struct block *k = b->first; k && n < max; k = k->next)
		iov[n++] = (struct iovec){.iov_base = k->data + k->begin, .iov_len = k->end - k->begin};
	return n;
}

size_t buf_copy(const struct buf *b, void *dst, size_t n)
{
	uint8_t *to = dst;
	size_t done = 0;

	for (const struct block *k = b->first; k && done < n; k = k->next) {
		size_t part = k->end - k->begin;

		if (part > n - done)
			part = n - done;
		memcpy(to + done, k->data + k->begin, part);
		done += part;
	}
	return done;
}

void buf_consume(struct buf *b, size_t n)
{
	BUG_ON(n > b->len);
	b->len -= n;
	while (n > 0) {
		struct block *k = b->first;
		size_t part = k->end - k->begin;

		if (part > n)
			part = n;
		k->begin += (uint32_t)part;
		n -= part;
		if (k->begin == k->end)
			buf_drop_first(b);
	}
}
