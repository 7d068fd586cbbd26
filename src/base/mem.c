/* mem: allocation, slabs and bug_at(); see mem.h. */
#include "base/mem.h"

#include <malloc.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/poison.h"

static void mem_say(const char *s)
{
	/* The process is about to abort: a failing write has no remedy. */
	ssize_t n = write(STDERR_FILENO, s, strlen(s));

	(void)n;
}

void bug_at(const char *cond, const char *file, int line)
{
	char digits[16], *p = digits + sizeof(digits);

	*--p = '\0';
	do {
		*--p = (char)('0' + line % 10);
		line /= 10;
	} while (line > 0 && p > digits);
	mem_say("leased: bug: ");
	mem_say(cond);
	mem_say(" at ");
	mem_say(file);
	mem_say(":");
	mem_say(p);
	mem_say("\n");
	abort();
}

/* ---- the spare ---- */

#define SPARE_PIECES	  16
#define SPARE_PIECE_BYTES 65536 /* small enough to come from the heap, where freed memory is */

struct spare {
	struct spare *next;
};

static _Atomic(struct spare *) mem_spare;
static atomic_bool mem_spent;

static void spare_free(struct spare *s)
{
	while (s) {
		struct spare *next = s->next;

		free(s);
		s = next;
	}
}

static struct spare *spare_new(void)
{
	struct spare *s = NULL;

	for (int i = 0; i < SPARE_PIECES; i++) {
		struct spare *piece = malloc(SPARE_PIECE_BYTES);

		if (!piece) {
			spare_free(s);
			return NULL;
		}
		piece->next = s;
		s = piece;
	}
	return s;
}

/* One heap for all threads, so that what one gives up another can have. The data path allocates next to nothing. */
void mem_keep_spare(void)
{
	mallopt(M_ARENA_MAX, 1);
	spare_free(atomic_exchange(&mem_spare, spare_new()));
}

bool mem_is_short(void)
{
	struct spare *s;

	if (!atomic_load_explicit(&mem_spent, memory_order_relaxed))
		return false;
	s = spare_new();
	if (!s)
		return true;
	spare_free(atomic_exchange(&mem_spare, s));
	atomic_store(&mem_spent, false);
	return false;
}

/* Whether it is worth to try again. */
static bool mem_give_up_spare(void)
{
	struct spare *s = atomic_exchange(&mem_spare, NULL);

	if (!s)
		return false;
	atomic_store(&mem_spent, true);
	spare_free(s);
	return true;
}

void *mem_alloc(size_t n)
{
	void *p = calloc(1, n ? n : 1);

	if (!p && mem_give_up_spare())
		p = calloc(1, n ? n : 1);
	if (!p)
		bug_at("out of memory", __FILE__, __LINE__);
	return p;
}

void *mem_realloc(void *p, size_t n)
{
	void *q = realloc(p, n ? n : 1);

	if (!q && mem_give_up_spare())
		q = realloc(p, n ? n : 1);
	if (!q)
		bug_at("out of memory", __FILE__, __LINE__);
	return q;
}

char *mem_strdup(const char *s)
{
	size_t n = strlen(s) + 1;

	return memcpy(mem_alloc(n), s, n);
}

char *mem_printf(const char *fmt, ...)
{
	va_list ap;
	char *s;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	if (n < 0)
		bug_at("out of memory", __FILE__, __LINE__);
	return s;
}

void mem_free(void *p)
{
	free(p);
}

void slab_init(struct slab *s, size_t size, size_t keep)
{
	*s = (struct slab){.size = size < sizeof(void *) ? sizeof(void *) : size, .keep = keep};
}

#ifdef HONEST_ALLOC

void *slab_get(struct slab *s)
{
	s->nused++;
	return mem_alloc(s->size);
}

void slab_put(struct slab *s, void *p)
{
	BUG_ON(s->nused == 0);
	s->nused--;
	mem_free(p);
}

void slab_done(struct slab *s)
{
	BUG_ON(s->nused != 0);
}

#else

/* A free object's first word links to the next free one. */
static void *slab_pop(struct slab *s)
{
	void *p = s->free;

	poison_clear(p, s->size);
	memcpy(&s->free, p, sizeof(s->free));
	s->nfree--;
	return p;
}

void *slab_get(struct slab *s)
{
	s->nused++;
	if (!s->free)
		return mem_alloc(s->size);
	return memset(slab_pop(s), 0, s->size);
}

void slab_put(struct slab *s, void *p)
{
	BUG_ON(s->nused == 0);
	s->nused--;
	if (s->nfree >= s->keep) {
		mem_free(p);
		return;
	}
	memcpy(p, &s->free, sizeof(s->free));
	s->free = p;
	s->nfree++;
	poison_set(p, s->size);
}

void slab_done(struct slab *s)
{
	BUG_ON(s->nused != 0);
	while (s->free)
		mem_free(slab_pop(s));
}

#endif
