/*
 * secret: the arena and what lives in it; see secret.h.
 *
 * The arena is a few regions of granules, each with a map (kept outside) of which granules are taken. It grows by a
 * region when none has room, so that a storm of logins is bounded by SECRET_REGIONS, not by the first region.
 *
 *	region: | secret | block ........ | free .. | secret |
 *	map:      1 1 0    1 1 1 1 1 1 1    0 0 0     1
 */
#include "base/secret.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"

#define GRANULE_BYTES	 64
#define REGION_BYTES	 (256 * 1024)
#define REGION_MIN_BYTES (16 * 1024)
#define REGION_GRANULES	 (REGION_BYTES / GRANULE_BYTES)
#define SECRET_REGIONS	 256

struct secret {
	size_t len;
	unsigned int refs;
	uint8_t bytes[];
};

enum arena_kind { ARENA_MEMFD, ARENA_MLOCK, ARENA_PLAIN, ARENA_KINDS };

struct region {
	uint8_t *base;
	size_t granules, taken;
	uint8_t map[REGION_GRANULES]; /* 1: taken */
};

static const char *const arena_kind_names[ARENA_KINDS] = {"memfd_secret", "mlock", "plain"};

static struct {
	pthread_mutex_t lock;
	struct region *regions[SECRET_REGIONS];
	size_t nregions;
	enum arena_kind kind; /* the weakest of the regions */
} arena = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint8_t *arena_map_memfd(size_t n)
{
	void *p = MAP_FAILED;
#ifdef SYS_memfd_secret
	int fd = (int)syscall(SYS_memfd_secret, O_CLOEXEC);

	if (fd < 0)
		return NULL;
	if (ftruncate(fd, (off_t)n) == 0)
		p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
#else
	(void)n;
#endif
	if (p == MAP_FAILED)
		return NULL;
	/* It is shared memory, so it can't be wiped in a fork: the child doesn't get it at all. */
	madvise(p, n, MADV_DONTFORK);
	madvise(p, n, MADV_DONTDUMP);
	return p;
}

static uint8_t *arena_map_anonymous(size_t n, bool lock)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	if (lock && mlock(p, n) != 0) {
		munmap(p, n);
		return NULL;
	}
	madvise(p, n, MADV_DONTDUMP);
	madvise(p, n, MADV_WIPEONFORK);
	return p;
}

static uint8_t *arena_map(enum arena_kind kind, size_t n)
{
	if (kind == ARENA_MEMFD)
		return arena_map_memfd(n);
	return arena_map_anonymous(n, kind == ARENA_MLOCK);
}

/* Adds a region of the strongest kind that at least `least` bytes can be had of. */
static struct region *arena_grow(size_t least)
{
	if (arena.nregions == SECRET_REGIONS || least > REGION_BYTES)
		return NULL;
	for (int kind = 0; kind < ARENA_KINDS; kind++) {
		for (size_t n = REGION_BYTES; n >= REGION_MIN_BYTES && n >= least; n /= 2) {
			uint8_t *base = arena_map((enum arena_kind)kind, n);
			struct region *r;

			if (!base)
				continue;
			r = NEW(struct region);
			r->base = base;
			r->granules = n / GRANULE_BYTES;
			if ((enum arena_kind)kind > arena.kind)
				arena.kind = (enum arena_kind)kind;
			return arena.regions[arena.nregions++] = r;
		}
	}
	return NULL;
}

/* First fit; NULL when the region has no run of `want` free granules. */
static void *region_get(struct region *r, size_t want)
{
	size_t run = 0;

	if (r->granules - r->taken < want)
		return NULL;
	for (size_t i = 0; i < r->granules; i++) {
		run = r->map[i] ? 0 : run + 1;
		if (run == want) {
			memset(r->map + i + 1 - want, 1, want);
			r->taken += want;
			return r->base + (i + 1 - want) * GRANULE_BYTES;
		}
	}
	return NULL;
}

static size_t arena_granules(size_t n)
{
	return (n + GRANULE_BYTES - 1) / GRANULE_BYTES;
}

static void *arena_get(size_t n)
{
	struct region *r;
	void *p;

	for (size_t i = 0; i < arena.nregions; i++) {
		p = region_get(arena.regions[i], arena_granules(n));
		if (p)
			return p;
	}
	r = arena_grow(n);
	return r ? region_get(r, arena_granules(n)) : NULL;
}

/* Wipes n bytes got by arena_get(n) and gives them back. */
static void arena_put(void *p, size_t n)
{
	for (size_t i = 0; i < arena.nregions; i++) {
		struct region *r = arena.regions[i];
		size_t off = (size_t)((uintptr_t)p - (uintptr_t)r->base), first = off / GRANULE_BYTES;

		if ((uintptr_t)p < (uintptr_t)r->base || first >= r->granules)
			continue;
		BUG_ON(off % GRANULE_BYTES != 0 || !r->map[first]);
		secret_wipe(p, n);
		memset(r->map + first, 0, arena_granules(n));
		r->taken -= arena_granules(n);
		return;
	}
	bug_at("not memory of the secret arena", __FILE__, __LINE__);
}

enum err secret_arena_init(const char **kind)
{
	enum err e = ERR_OK;

	pthread_mutex_lock(&arena.lock);
	if (arena.nregions == 0 && !arena_grow(REGION_MIN_BYTES))
		e = ERR_NO_MEMORY;
	if (kind)
		*kind = arena_kind_names[arena.kind];
	pthread_mutex_unlock(&arena.lock);
	return e;
}

struct secret *secret_take(void *bytes, size_t n)
{
	struct secret *s = NULL;

	if (n <= SECRET_MAX_BYTES) {
		pthread_mutex_lock(&arena.lock);
		s = arena_get(sizeof(*s) + n);
		pthread_mutex_unlock(&arena.lock);
	}
	if (s) {
		s->len = n;
		s->refs = 1;
		if (n)
			memcpy(s->bytes, bytes, n);
	}
	if (n)
		secret_wipe(bytes, n);
	return s;
}

struct secret *secret_ref(struct secret *s)
{
	pthread_mutex_lock(&arena.lock);
	BUG_ON(s->refs == 0);
	s->refs++;
	pthread_mutex_unlock(&arena.lock);
	return s;
}

void secret_drop(struct secret **s)
{
	struct secret *old = *s;

	*s = NULL;
	if (!old)
		return;
	pthread_mutex_lock(&arena.lock);
	BUG_ON(old->refs == 0);
	if (--old->refs == 0)
		arena_put(old, sizeof(*old) + old->len);
	pthread_mutex_unlock(&arena.lock);
}

int secret_equal_bytes(const struct secret *a, const void *p, size_t n)
{
	const volatile uint8_t *x = a->bytes, *y = p;
	size_t diff = a->len ^ n;

	/* As many turns as the caller's own text has bytes, wherever the first difference is. */
	for (size_t i = 0; i < n; i++)
		diff |= (size_t)(x[i < a->len ? i : 0] ^ y[i]);
	return diff == 0;
}

int secret_equal(const struct secret *a, const struct secret *b)
{
	return secret_equal_bytes(a, b->bytes, b->len);
}

void secret_append(const struct secret *s, struct buf *out)
{
	BUG_ON(out->from != secret_blocks());
	buf_append(out, s->bytes, s->len);
}

size_t secret_len(const struct secret *s)
{
	return s->len;
}

static void *secret_block_get(struct blocks *b)
{
	void *p;

	pthread_mutex_lock(&arena.lock);
	p = arena_get(BUF_BLOCK_BYTES);
	b->nused++;
	pthread_mutex_unlock(&arena.lock);
	BUG_ON(!p);
	return p;
}

static void secret_block_put(struct blocks *b, void *p)
{
	pthread_mutex_lock(&arena.lock);
	BUG_ON(b->nused == 0);
	arena_put(p, BUF_BLOCK_BYTES);
	b->nused--;
	pthread_mutex_unlock(&arena.lock);
}

struct blocks *secret_blocks(void)
{
	static struct blocks blocks = {.get = secret_block_get, .put = secret_block_put};

	return &blocks;
}

void secret_wipe(void *p, size_t n)
{
	explicit_bzero(p, n);
}
