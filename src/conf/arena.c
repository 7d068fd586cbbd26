/* arena: a list of chunks that are freed together; see arena.h. */
#include "conf/arena.h"

#include <stdint.h>
#include <string.h>

#include "base/mem.h"

#define CHUNK_BYTES 8192
#define ALIGN_BYTES _Alignof(max_align_t)

struct chunk {
	struct chunk *next;
	size_t size, used;
	_Alignas(ALIGN_BYTES) unsigned char bytes[];
};

struct owned {
	struct owned *next;
	struct secret *secret;
};

struct conf_arena {
	struct chunk *chunks;
	struct owned *secrets; /* nodes lie in the chunks */
};

struct conf_arena *conf_arena_new(void)
{
	return NEW(struct conf_arena);
}

void *conf_arena_alloc(struct conf_arena *a, size_t n)
{
	struct chunk *c = a->chunks;
	void *p;

	BUG_ON(n > SIZE_MAX / 2);
	n = (n + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
	if (!c || c->size - c->used < n) {
		size_t size = n > CHUNK_BYTES ? n : CHUNK_BYTES;

		c = mem_alloc(sizeof(*c) + size);
		c->size = size;
		c->next = a->chunks;
		a->chunks = c;
	}
	p = c->bytes + c->used;
	c->used += n;
	return p;
}

void *conf_arena_array(struct conf_arena *a, size_t n, size_t size)
{
	BUG_ON(n > SIZE_MAX / 4 / size);
	return n ? conf_arena_alloc(a, n * size) : NULL;
}

char *conf_arena_strdup(struct conf_arena *a, const char *s)
{
	size_t n = strlen(s) + 1;

	return memcpy(conf_arena_alloc(a, n), s, n);
}

void conf_arena_own(struct conf_arena *a, struct secret *s)
{
	struct owned *o = conf_arena_alloc(a, sizeof(*o));

	o->secret = s;
	o->next = a->secrets;
	a->secrets = o;
}

void conf_arena_free(struct conf_arena **a)
{
	struct chunk *next;

	if (!*a)
		return;
	for (struct owned *o = (*a)->secrets; o; o = o->next)
		secret_drop(&o->secret);
	for (struct chunk *c = (*a)->chunks; c; c = next) {
		next = c->next;
		secret_wipe(c->bytes, c->used);
		mem_free(c);
	}
	mem_free(*a);
	*a = NULL;
}
