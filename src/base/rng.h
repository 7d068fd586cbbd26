/* rng: a small fast generator for jitter (xoshiro256**), seeded by the world. Never for secrets. One owner each. */
#ifndef LEASED_BASE_RNG_H
#define LEASED_BASE_RNG_H

#include <stdint.h>

struct rng {
	uint64_t s[4];
};

void rng_seed(struct rng *r, uint64_t seed);
uint64_t rng_next(struct rng *r);
uint64_t rng_below(struct rng *r, uint64_t n); /* 0 .. n-1; n > 0 */
double rng_unit(struct rng *r);		       /* 0 <= x < 1 */

#endif
