#include <string.h>

#include "actors.h"
#include "base/mem.h"

void bytes_add(struct bytes *b, const void *p, size_t n)
{
	if (b->off > 0 && b->off == b->len)
		b->off = b->len = 0;
	if (b->off > 0 && b->len + n > b->cap) {
		memmove(b->p, b->p + b->off, b->len - b->off);
		b->len -= b->off;
		b->off = 0;
	}
	if (b->len + n > b->cap) {
		b->cap = 2 * (b->len + n) + 64;
		b->p = mem_realloc(b->p, b->cap);
	}
	memcpy(b->p + b->len, p, n);
	b->len += n;
}

void bytes_take(struct bytes *b, size_t n)
{
	BUG_ON(n > b->len - b->off);
	b->off += n;
}

void bytes_free(struct bytes *b)
{
	mem_free(b->p);
	*b = (struct bytes){0};
}
