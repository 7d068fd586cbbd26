/*
 * metrics: /metrics in Prometheus' text format 0.0.4, one family per row of base/metrics.def: HELP, TYPE, samples.
 *
 * Counters and histograms come from each pool's struct stat; gauges are computed here from the snapshots' lists. Labels
 * come only from the configuration and from our own tables, never from a client. Control thread.
 */
#ifndef LEASED_DAEMON_METRICS_H
#define LEASED_DAEMON_METRICS_H

#include "daemon/snapshot.h"

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* The text is mem_free()d by the caller; *len is its length. */
char *metrics_text(const struct snap_process *p, struct snap *const *v, size_t n, size_t *len);

#endif
