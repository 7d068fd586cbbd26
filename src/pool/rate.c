#include "pool/rate.h"

#include "base/mem.h"

void rate_init(struct rate *r, int rps, int burst)
{
	*r = (struct rate){0};
	if (rps <= 0)
		return;
	r->interval_us = (1000000 + rps - 1) / rps; /* rounded up: never more than rps */
	r->tolerance_us = (int64_t)(burst - 1) * r->interval_us;
	r->tat_us = INT64_MIN / 2;
}

int64_t rate_ready_us(const struct rate *r, int64_t now_us)
{
	return r->interval_us == 0 ? now_us : r->tat_us - r->tolerance_us;
}

void rate_spend(struct rate *r, int64_t now_us)
{
	if (r->interval_us == 0)
		return;
	BUG_ON(rate_ready_us(r, now_us) > now_us);
	r->tat_us = (r->tat_us > now_us ? r->tat_us : now_us) + r->interval_us;
}
