/* poison: marks free memory as not to be touched when AddressSanitizer is there to notice; nothing otherwise. */
#ifndef LEASED_BASE_POISON_H
#define LEASED_BASE_POISON_H

#include <stddef.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POISON_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) && !defined(POISON_ASAN)
#define POISON_ASAN 1
#endif

#ifdef POISON_ASAN
#include <sanitizer/asan_interface.h>
#endif

static inline void poison_set(const void *p, size_t n)
{
#ifdef POISON_ASAN
	ASAN_POISON_MEMORY_REGION(p, n);
#else
	(void)p;
	(void)n;
#endif
}

static inline void poison_clear(const void *p, size_t n)
{
#ifdef POISON_ASAN
	ASAN_UNPOISON_MEMORY_REGION(p, n);
#else
	(void)p;
	(void)n;
#endif
}

#endif
