/* heap: binary min-heap over an array of pointers to entries; see heap.h for the order. */
#include "base/heap.h"

#include "base/mem.h"

#define HEAP_FIRST_CAP 16

static int heap_before(const struct heap_entry *a, const struct heap_entry *b)
{
	if (a->at_us != b->at_us)
		return a->at_us < b->at_us;
	return a->seq < b->seq;
}

static void heap_place(struct heap *h, size_t i, struct heap_entry *e)
{
	h->v[i] = e;
	e->pos = i + 1;
}

static void heap_up(struct heap *h, size_t i)
{
	struct heap_entry *e = h->v[i];

	while (i > 0) {
		size_t parent = (i - 1) / 2;

		if (!heap_before(e, h->v[parent]))
			break;
		heap_place(h, i, h->v[parent]);
		i = parent;
	}
	heap_place(h, i, e);
}

static void heap_down(struct heap *h, size_t i)
{
	struct heap_entry *e = h->v[i];

	for (;;) {
		size_t child = 2 * i + 1;

		if (child >= h->len)
			break;
		if (child + 1 < h->len && heap_before(h->v[child + 1], h->v[child]))
			child++;
		if (!heap_before(h->v[child], e))
			break;
		heap_place(h, i, h->v[child]);
		i = child;
	}
	heap_place(h, i, e);
}

void heap_free(struct heap *h)
{
	mem_free(h->v);
	*h = (struct heap){.v = NULL};
}

void heap_set(struct heap *h, struct heap_entry *e, int64_t at_us)
{
	size_t i;

	e->at_us = at_us;
	e->seq = h->seq++;
	if (e->pos) {
		BUG_ON(e->pos > h->len || h->v[e->pos - 1] != e);
		i = e->pos - 1;
	} else {
		if (h->len == h->cap) {
			h->cap = h->cap ? h->cap * 2 : HEAP_FIRST_CAP;
			h->v = mem_realloc(h->v, h->cap * sizeof(struct heap_entry *));
		}
		i = h->len++;
		heap_place(h, i, e);
	}
	heap_up(h, i);
	heap_down(h, e->pos - 1);
}

void heap_remove(struct heap *h, struct heap_entry *e)
{
	struct heap_entry *last;
	size_t i;

	if (!e->pos)
		return;
	i = e->pos - 1;
	BUG_ON(i >= h->len || h->v[i] != e);
	e->pos = 0;
	last = h->v[--h->len];
	if (last == e)
		return;
	heap_place(h, i, last);
	heap_up(h, i);
	heap_down(h, last->pos - 1);
}

struct heap_entry *heap_min(const struct heap *h)
{
	return h->len ? h->v[0] : NULL;
}
