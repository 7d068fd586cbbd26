#include "daemon/statsline.h"

#include "base/log.h"
#include "daemon/gather.h"

struct statsline {
	size_t waiting, idle, leased;
	struct stat total;
};

static uint64_t statsline_sum(const uint64_t *v)
{
	uint64_t n = 0;

	for (int i = 0; i < ERR_COUNT; i++)
		n += v[i];
	return n;
}

static void statsline_add(struct statsline *s, const struct snap_pool *p)
{
	s->waiting += p->waiters;
	s->idle += snap_pool_upstreams(p, UP_IDLE);
	s->leased += snap_pool_upstreams(p, UP_LEASED);
#define COUNTER(id, name, labels, help) s->total.id += p->stat.id;
#define COUNTER_BY_ERR(id, name, label, help)                                                                        \
	for (int i = 0; i < ERR_COUNT; i++)                                                                          \
		s->total.id[i] += p->stat.id[i];
#define HISTOGRAM(id, name, help) hist_merge(&s->total.id, &p->stat.id);
#define GAUGE(id, name, labels, help)
#include "base/metrics.def"
#undef COUNTER
#undef COUNTER_BY_ERR
#undef HISTOGRAM
#undef GAUGE
}

/* Counts are those since the last line, figures of connections are those of now. */
static void statsline_log(struct control *c, const struct statsline *s)
{
	const struct stat *now = &s->total, *was = &c->last_stats;

	log_at(LOG_LV_INFO, "stats", L_INT("clients", client_limit_used(c->clients)), L_INT("waiting", s->waiting),
	       L_INT("upstream", budget_used(c->budget)), L_INT("leased", s->leased), L_INT("idle", s->idle),
	       L_INT("leases", now->leases - was->leases),
	       L_INT("lease_failures", statsline_sum(now->lease_failures) - statsline_sum(was->lease_failures)),
	       L_INT("dials", statsline_sum(now->dials) - statsline_sum(was->dials)),
	       L_INT("evictions", now->evictions - was->evictions),
	       L_INT("bytes_from_clients", now->bytes_from_clients - was->bytes_from_clients),
	       L_INT("bytes_to_clients", now->bytes_to_clients - was->bytes_to_clients));
	c->last_stats = *now;
}

static void statsline_gathered(void *arg, struct snap *const *v, size_t n)
{
	struct control *c = arg;
	struct statsline s = {0};
	int64_t now = loop_now_us(c->loop), every = c->conf->log.stats_interval_us;

	c->line_asked = false;
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < v[i]->n_pools; k++)
			statsline_add(&s, &v[i]->pools[k]);
	notify_status(&c->notify, "%s: %d/%d upstream connections, %d clients, %zu waiting",
		      c->state == CONTROL_RUNNING ? "ready" : "draining", budget_used(c->budget),
		      budget_max(c->budget), client_limit_used(c->clients), s.waiting);
	if (every == 0 || now < c->stats_due_us)
		return;
	c->stats_due_us = now + every;
	statsline_log(c, &s);
}

void statsline_tick(struct control *c)
{
	int64_t every = c->conf->log.stats_interval_us;
	bool due = every > 0 && loop_now_us(c->loop) >= c->stats_due_us;

	if (c->line_asked || (!due && c->notify.fd < 0))
		return;
	c->line_asked = true;
	gather_start(c, SNAP_LINE, false, statsline_gathered, c);
}
