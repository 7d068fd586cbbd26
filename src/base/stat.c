/* stat: histograms; see stat.h. */
#include "base/stat.h"

#define MS  INT64_C(1000)
#define SEC INT64_C(1000000)

const int64_t hist_bound_us[HIST_BUCKETS] = {
	100,	  500,	    1 * MS,  5 * MS / 2,  5 * MS,  10 * MS,  25 * MS,  50 * MS,	 100 * MS,
	250 * MS, 500 * MS, 1 * SEC, 5 * SEC / 2, 5 * SEC, 10 * SEC, 30 * SEC, 60 * SEC, INT64_MAX,
};

void hist_add(struct hist *h, int64_t us)
{
	int i = 0;

	if (us < 0)
		us = 0;
	while (us > hist_bound_us[i])
		i++;
	h->bucket[i]++;
	h->count++;
	h->sum_us += (uint64_t)us;
}

void hist_merge(struct hist *into, const struct hist *h)
{
	for (int i = 0; i < HIST_BUCKETS; i++)
		into->bucket[i] += h->bucket[i];
	into->count += h->count;
	into->sum_us += h->sum_us;
}
