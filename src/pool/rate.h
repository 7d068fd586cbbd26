/* rate: GCRA spacing with burst (behaviours E4): at most rps * W + burst in any window W. Pure; monotonic time given. */
#ifndef LEASED_POOL_RATE_H
#define LEASED_POOL_RATE_H

#include <stdbool.h>
#include <stdint.h>

struct rate {
	int64_t interval_us;  /* 0: unlimited */
	int64_t tolerance_us; /* (burst - 1) * interval */
	int64_t tat_us;	      /* theoretical arrival time of the next one */
};

void rate_init(struct rate *r, int rps, int burst); /* rps 0: unlimited */
/* When the next one is allowed: <= now means now. */
int64_t rate_ready_us(const struct rate *r, int64_t now_us);
void rate_spend(struct rate *r, int64_t now_us); /* only when ready */

#endif
