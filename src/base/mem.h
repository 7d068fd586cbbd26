/*
 * mem: allocation that aborts when even the spare is used up, for small things of our own, free lists of equal objects, and assertions
 * that stay on in release builds.
 *
 * Memory whose size a peer decides is never taken here without a cap checked before. With --enable-honest-alloc a slab
 * is plain calloc/free, so that the sanitizers see every object; otherwise freed objects are poisoned for ASan.
 */
#ifndef LEASED_BASE_MEM_H
#define LEASED_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>

/* Prints the condition and place with write(2), then abort(). Stays on in release builds. */
_Noreturn void bug_at(const char *cond, const char *file, int line);
#define BUG_ON(cond)                                                                                                 \
	do {                                                                                                         \
		if (__builtin_expect(!!(cond), 0))                                                                   \
			bug_at(#cond, __FILE__, __LINE__);                                                           \
	} while (0)

void *mem_alloc(size_t n);	      /* zeroed; aborts when out of memory */
void *mem_realloc(void *p, size_t n); /* aborts when out of memory */
char *mem_strdup(const char *s);
char *mem_printf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void mem_free(void *p);

/*
 * A spare that is given up when an allocation fails, so that what is under way can go on while new work is refused: whoever
 * lets in clients or keeps bytes for them asks mem_is_short() first. Without mem_keep_spare() there is none. Thread-safe.
 */
void mem_keep_spare(void);
bool mem_is_short(void); /* the spare is gone and can't be had back yet; one load when it is not */

#define NEW(type) ((type *)mem_alloc(sizeof(type)))

/* A free list of equal objects; owned by one thread. */
struct slab {
	size_t size; /* bytes of one object */
	void *free;
	size_t nfree, nused, keep; /* keep: how many free ones are kept (rest goes back to malloc) */
};

void slab_init(struct slab *s, size_t size, size_t keep);
void *slab_get(struct slab *s); /* zeroed */
void slab_put(struct slab *s, void *p);
void slab_done(struct slab *s); /* frees the free ones; asserts that none is in use */

#endif
