/*
 * heap: an intrusive binary min-heap of deadlines, ordered by time and, for equal times, by order of insertion.
 *
 * An entry is embedded in what it times. Used by the pool (all its deadlines) and by both loops (timers). The order is
 * total and deterministic, which the simulator's replay depends on. Not thread-safe.
 */
#ifndef LEASED_BASE_HEAP_H
#define LEASED_BASE_HEAP_H

#include <stddef.h>
#include <stdint.h>

struct heap_entry {
	int64_t at_us;
	uint64_t seq;
	size_t pos; /* index + 1; 0: not in a heap */
};

struct heap {
	struct heap_entry **v;
	size_t len, cap;
	uint64_t seq;
};

void heap_free(struct heap *h);					    /* frees the array, not the entries */
void heap_set(struct heap *h, struct heap_entry *e, int64_t at_us); /* inserts, or moves if already in */
void heap_remove(struct heap *h, struct heap_entry *e);		    /* no-op when not in */
struct heap_entry *heap_min(const struct heap *h);		    /* NULL: empty */
static inline int heap_has(const struct heap_entry *e)
{
	return e->pos != 0;
}

#endif
