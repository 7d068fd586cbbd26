/* hist: times of a load by their size: 32 steps for each power of two, so a figure is right within 3%. */
#ifndef TESTS_FAKE_HIST_H
#define TESTS_FAKE_HIST_H

#include <stdint.h>
#include <stdio.h>

struct hist {
	uint64_t count[64 * 59], n; /* [power of two][the six bits from the highest on] */
	int64_t max;
};

static inline void hist_count(struct hist *h, int64_t us)
{
	uint64_t v = us > 0 ? (uint64_t)us : 0;
	unsigned shift = v < 64 ? 0 : 58 - (unsigned)__builtin_clzll(v);

	h->count[shift * 64 + (v >> shift)]++;
	h->n++;
	if (us > h->max)
		h->max = us;
}

static inline int64_t hist_at(const struct hist *h, double part)
{
	uint64_t want = (uint64_t)(part * (double)h->n), seen = 0;

	for (unsigned i = 0; i < sizeof(h->count) / sizeof(h->count[0]); i++) {
		seen += h->count[i];
		if (seen > want) {
			int64_t v = (int64_t)((uint64_t)(i % 64) << (i / 64));

			return v < h->max ? v : h->max;
		}
	}
	return h->max;
}

/* As a member of a JSON object. */
static inline void hist_report(const char *name, const struct hist *h)
{
	printf(", \"%s\": {\"p50\": %lld, \"p99\": %lld, \"p999\": %lld, \"max\": %lld}", name,
	       (long long)hist_at(h, 0.5), (long long)hist_at(h, 0.99), (long long)hist_at(h, 0.999),
	       (long long)h->max);
}

#endif
