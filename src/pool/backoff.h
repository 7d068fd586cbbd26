/* backoff: exponential growth with jitter (behaviours E7-E9). Pure; time and randomness are arguments. */
#ifndef LEASED_POOL_BACKOFF_H
#define LEASED_POOL_BACKOFF_H

#include <stdint.h>

#include "base/rng.h"

struct backoff_opts {
	int64_t initial_us, max_us;
	double multiplier; /* >= 1 */
	double jitter;	   /* 0 .. 1: the interval is drawn from [x(1-j), x(1+j)] */
};

struct backoff {
	int64_t next_us; /* before jitter; 0: at the start */
};

/* The interval to wait after one more failure. */
int64_t backoff_next(struct backoff *b, const struct backoff_opts *o, struct rng *r);
void backoff_reset(struct backoff *b);

#endif
