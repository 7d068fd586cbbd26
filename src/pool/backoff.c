#include "pool/backoff.h"

int64_t backoff_next(struct backoff *b, const struct backoff_opts *o, struct rng *r)
{
	int64_t base = b->next_us ? b->next_us : o->initial_us;
	double grown = (double)base * o->multiplier;

	if (base > o->max_us)
		base = o->max_us;
	b->next_us = grown > (double)o->max_us ? o->max_us : (int64_t)grown;
	if (o->jitter <= 0)
		return base;
	return (int64_t)((double)base * (1 - o->jitter + 2 * o->jitter * rng_unit(r)));
}

void backoff_reset(struct backoff *b)
{
	b->next_us = 0;
}
