/*
 * stat: the counters and histograms a pool keeps, defined by metrics.def and nowhere else.
 *
 * One struct stat per pool, written only by the pool's worker, copied by value when a snapshot is asked for, so that
 * figures of one pool are consistent. Gauges are not kept: they are computed from lists when asked (design rule 5).
 * metrics.def rows also give the Prometheus name, help and labels; leased-metrics(7) is generated from them.
 */
#ifndef LEASED_BASE_STAT_H
#define LEASED_BASE_STAT_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define HIST_BUCKETS 18 /* upper bounds in hist_bound_us[], the last is +Inf */
extern const int64_t hist_bound_us[HIST_BUCKETS];

struct hist {
	uint64_t count, sum_us;
	uint64_t bucket[HIST_BUCKETS]; /* not cumulative */
};

void hist_add(struct hist *h, int64_t us);
void hist_merge(struct hist *into, const struct hist *h);

struct stat {
#define COUNTER(id, name, labels, help)	      uint64_t id;
#define COUNTER_BY_ERR(id, name, label, help) uint64_t id[ERR_COUNT];
#define HISTOGRAM(id, name, help)	      struct hist id;
#define GAUGE(id, name, labels, help)
#include "base/metrics.def"
#undef COUNTER
#undef COUNTER_BY_ERR
#undef HISTOGRAM
#undef GAUGE
};

#endif
