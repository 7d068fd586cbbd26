#include "daemon/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

/* What every family is written from. */
struct metrics {
	FILE *f;
	const struct snap_process *process;
	struct snap *const *v;
	size_t n;
};

#define metrics_each_pool(m, p)                                                                                      \
	for (size_t i_##p = 0; i_##p < (m)->n; i_##p++)                                                              \
		for (const struct snap_pool *p = (m)->v[i_##p]->pools;                                               \
		     p < (m)->v[i_##p]->pools + (m)->v[i_##p]->n_pools; p++)

#define metrics_each_server(p, s)                                                                                    \
	for (const struct snap_server *s = (p)->servers; s < (p)->servers + (p)->n_servers; s++)

static void metrics_head(struct metrics *m, const char *name, const char *suffix, const char *type, const char *help)
{
	fprintf(m->f, "# HELP leased_%s%s %s\n# TYPE leased_%s%s %s\n", name, suffix, help, name, suffix, type);
}

/* One label of a sample, with the format's three escapes. */
static void metrics_label(struct metrics *m, const char *open, const char *key, const char *value)
{
	fprintf(m->f, "%s%s=\"", open, key);
	for (const char *c = value; *c; c++) {
		if (*c == '\n')
			fputs("\\n", m->f);
		else if (*c == '"' || *c == '\\')
			fprintf(m->f, "\\%c", *c);
		else
			fputc(*c, m->f);
	}
	fputc('"', m->f);
}

static void metrics_pool(struct metrics *m, const char *name, const char *suffix, const struct snap_pool *p)
{
	fprintf(m->f, "leased_%s%s", name, suffix);
	metrics_label(m, "{", "pool", p->name);
}

static void metrics_server(struct metrics *m, const char *name, const struct snap_pool *p,
			   const struct snap_server *s)
{
	metrics_pool(m, name, "", p);
	metrics_label(m, ",", "server", s->view.name);
}

static void metrics_u64(struct metrics *m, uint64_t v)
{
	fprintf(m->f, "} %" PRIu64 "\n", v);
}

static void metrics_seconds(struct metrics *m, int64_t us)
{
	fprintf(m->f, "} %" PRId64 ".%06" PRId64 "\n", us / 1000000, us % 1000000);
}

static void metrics_single(struct metrics *m, const char *name, int64_t v)
{
	fprintf(m->f, "leased_%s %" PRId64 "\n", name, v);
}

static void metrics_by_err(struct metrics *m, const char *name, const char *label, const struct snap_pool *p,
			   const uint64_t *v)
{
	for (int e = 0; e < ERR_COUNT; e++) {
		if (!v[e])
			continue;
		metrics_pool(m, name, "_total", p);
		metrics_label(m, ",", label, err_name((enum err)e));
		metrics_u64(m, v[e]);
	}
}

static void metrics_hist(struct metrics *m, const char *name, const struct snap_pool *p, const struct hist *h)
{
	uint64_t sum = 0;
	char le[32];

	for (int i = 0; i < HIST_BUCKETS; i++) {
		sum += h->bucket[i];
		if (i == HIST_BUCKETS - 1)
			snprintf(le, sizeof(le), "+Inf");
		else
			snprintf(le, sizeof(le), "%g", (double)hist_bound_us[i] / 1e6);
		metrics_pool(m, name, "_seconds_bucket", p);
		metrics_label(m, ",", "le", le);
		metrics_u64(m, sum);
	}
	metrics_pool(m, name, "_seconds_sum", p);
	metrics_seconds(m, (int64_t)h->sum_us);
	metrics_pool(m, name, "_seconds_count", p);
	metrics_u64(m, h->count);
}

/* One function per GAUGE row: metrics_gauge_<id>(). */

static void metrics_gauge_client_count(struct metrics *m, const char *name)
{
	metrics_each_pool(m, p) for (int i = 0; i < CLIENT_STATES; i++)
	{
		metrics_pool(m, name, "", p);
		metrics_label(m, ",", "state", client_state_name((enum client_state)i));
		metrics_u64(m, p->clients[i]);
	}
}

static void metrics_gauge_pinned_clients(struct metrics *m, const char *name)
{
	metrics_each_pool(m, p) for (int i = 0; i < ERR_COUNT; i++)
	{
		if (!p->pinned[i])
			continue;
		metrics_pool(m, name, "", p);
		metrics_label(m, ",", "reason", err_name((enum err)i));
		metrics_u64(m, p->pinned[i]);
	}
}

static void metrics_gauge_upstream_count(struct metrics *m, const char *name)
{
	metrics_each_pool(m, p) metrics_each_server(p, s) for (int i = 0; i < UP_STATES; i++)
	{
		metrics_server(m, name, p, s);
		metrics_label(m, ",", "state", up_state_name((enum up_state)i));
		metrics_u64(m, s->view.by_state[i]);
	}
}

static void metrics_gauge_upstream_max(struct metrics *m, const char *name)
{
	metrics_each_pool(m, p) metrics_each_server(p, s)
	{
		metrics_server(m, name, p, s);
		metrics_u64(m, (uint64_t)s->view.max_size);
	}
}

static void metrics_gauge_waiters(struct metrics *m, const char *name)
{
	metrics_each_pool(m, p)
	{
		metrics_pool(m, name, "", p);
		metrics_u64(m, p->waiters);
	}
}

static void metrics_gauge_oldest_wait(struct metrics *m, const char *name)
{
	metrics_each_pool(m, p)
	{
		metrics_pool(m, name, "", p);
		metrics_seconds(m, p->oldest_wait_us);
	}
}

static void metrics_gauge_server_up(struct metrics *m, const char *name)
{
	metrics_each_pool(m, p) metrics_each_server(p, s)
	{
		metrics_server(m, name, p, s);
		metrics_u64(m, s->view.up);
	}
}

static void metrics_gauge_server_backoff(struct metrics *m, const char *name)
{
	metrics_each_pool(m, p) metrics_each_server(p, s)
	{
		metrics_server(m, name, p, s);
		metrics_seconds(m, s->view.retry_in_us > 0 ? s->view.retry_in_us : 0);
	}
}

static void metrics_gauge_upstream_servers(struct metrics *m, const char *name)
{
	metrics_each_pool(m, p)
	{
		metrics_pool(m, name, "", p);
		metrics_u64(m, p->n_servers);
	}
}

static int64_t metrics_total(const struct metrics *m, enum up_state s)
{
	size_t n = 0;

	metrics_each_pool(m, p) n += snap_pool_upstreams(p, s);
	return (int64_t)n;
}

static void metrics_gauge_fd_budget(struct metrics *m, const char *name)
{
	metrics_single(m, name, m->process->fd_budget);
}

static void metrics_gauge_fd_in_use(struct metrics *m, const char *name)
{
	metrics_single(m, name, m->process->fd_in_use);
}

static void metrics_gauge_fd_unused(struct metrics *m, const char *name)
{
	metrics_single(m, name, metrics_total(m, UP_IDLE));
}

static void metrics_gauge_fd_releasing(struct metrics *m, const char *name)
{
	metrics_single(m, name, metrics_total(m, UP_CLOSING));
}

static void metrics_gauge_build_info(struct metrics *m, const char *name)
{
	fprintf(m->f, "leased_%s", name);
	metrics_label(m, "{", "version", LEASED_VERSION);
	metrics_u64(m, 1);
}

static void metrics_gauge_up(struct metrics *m, const char *name)
{
	metrics_single(m, name, 1);
}

static void metrics_gauge_start_time(struct metrics *m, const char *name)
{
	int64_t us = m->process->start_unix_us;

	fprintf(m->f, "leased_%s %" PRId64 ".%06" PRId64 "\n", name, us / 1000000, us % 1000000);
}

static void metrics_gauge_loop_lag_max(struct metrics *m, const char *name)
{
	char id[16];

	for (size_t i = 0; i < m->n; i++) {
		snprintf(id, sizeof(id), "%d", m->v[i]->worker);
		fprintf(m->f, "leased_%s", name);
		metrics_label(m, "{", "worker", id);
		metrics_seconds(m, m->v[i]->lag_us);
	}
}

static void metrics_gauge_log_dropped(struct metrics *m, const char *name)
{
	metrics_single(m, name, (int64_t)m->process->log_dropped);
}

static void metrics_gauge_dials_waiting_credential(struct metrics *m, const char *name)
{
	metrics_each_pool(m, p)
	{
		bool waits = p->why == ERR_NO_CREDENTIAL || p->why == ERR_DENIED;

		metrics_pool(m, name, "", p);
		metrics_u64(m, waits ? p->waiters : 0);
	}
}

#define metrics_each_credential(m, c)                                                                                \
	for (const struct credential_view *c = (m)->process->credentials;                                            \
	     c < (m)->process->credentials + (m)->process->n_credentials; c++)

static void metrics_credential(struct metrics *m, const char *name, const char *suffix,
			       const struct credential_view *c)
{
	fprintf(m->f, "leased_%s%s", name, suffix);
	metrics_label(m, "{", "credential", c->name);
}

/* A time of the loop as one of the calendar. */
static void metrics_timestamp(struct metrics *m, int64_t at_us)
{
	const struct snap_process *p = m->process;

	metrics_seconds(m, p->start_unix_us + p->uptime_us + (at_us - p->now_us));
}

static void metrics_gauge_credential_generation(struct metrics *m, const char *name)
{
	metrics_each_credential(m, c)
	{
		metrics_credential(m, name, "", c);
		metrics_u64(m, c->generation);
	}
}

static void metrics_gauge_credential_expiry(struct metrics *m, const char *name)
{
	metrics_each_credential(m, c) if (c->generation && c->expires_us != INT64_MAX)
	{
		metrics_credential(m, name, "", c);
		metrics_timestamp(m, c->expires_us);
	}
}

static void metrics_gauge_credential_refreshed(struct metrics *m, const char *name)
{
	metrics_each_credential(m, c) if (c->generation)
	{
		metrics_credential(m, name, "", c);
		metrics_timestamp(m, c->published_us);
	}
}

/* One function per TALLY row: metrics_tally_<id>(). */

static void metrics_tally_credential_refresh(struct metrics *m, const char *name)
{
	metrics_each_credential(m, c) for (int e = 0; e < ERR_COUNT; e++)
	{
		if (!c->refreshes[e])
			continue;
		metrics_credential(m, name, "_total", c);
		metrics_label(m, ",", "result", err_name((enum err)e));
		metrics_u64(m, c->refreshes[e]);
	}
}

static void metrics_tally_credential_asked(struct metrics *m, const char *name)
{
	metrics_each_credential(m, c) for (int r = 0; r <= CRED_MANUAL; r++)
	{
		metrics_credential(m, name, "_total", c);
		metrics_label(m, ",", "reason", cred_reason_name((enum cred_reason)r));
		metrics_u64(m, c->asked[r]);
	}
}

static void metrics_tally_credential_errors(struct metrics *m, const char *name)
{
	metrics_each_credential(m, c)
	{
		metrics_credential(m, name, "_total", c);
		metrics_u64(m, c->source_errors);
	}
}

/* One function per row, so that none of them is long. */
#define COUNTER(id, name, labels, help)                                                                              \
	static void metrics_write_##id(struct metrics *m)                                                            \
	{                                                                                                            \
		metrics_head(m, name, "_total", "counter", help);                                                    \
		metrics_each_pool(m, p)                                                                              \
		{                                                                                                    \
			metrics_pool(m, name, "_total", p);                                                          \
			metrics_u64(m, p->stat.id);                                                                  \
		}                                                                                                    \
	}
#define COUNTER_BY_ERR(id, name, label, help)                                                                        \
	static void metrics_write_##id(struct metrics *m)                                                            \
	{                                                                                                            \
		metrics_head(m, name, "_total", "counter", help);                                                    \
		metrics_each_pool(m, p) metrics_by_err(m, name, label, p, p->stat.id);                               \
	}
#define HISTOGRAM(id, name, help)                                                                                    \
	static void metrics_write_##id(struct metrics *m)                                                            \
	{                                                                                                            \
		metrics_head(m, name, "_seconds", "histogram", help);                                                \
		metrics_each_pool(m, p) metrics_hist(m, name, p, &p->stat.id);                                       \
	}
#define GAUGE(id, name, labels, help)                                                                                \
	static void metrics_write_##id(struct metrics *m)                                                            \
	{                                                                                                            \
		metrics_head(m, name, "", "gauge", help);                                                            \
		metrics_gauge_##id(m, name);                                                                         \
	}
#define TALLY(id, name, labels, help)                                                                                \
	static void metrics_write_##id(struct metrics *m)                                                            \
	{                                                                                                            \
		metrics_head(m, name, "_total", "counter", help);                                                    \
		metrics_tally_##id(m, name);                                                                         \
	}
#include "base/metrics.def"
#undef COUNTER
#undef COUNTER_BY_ERR
#undef HISTOGRAM
#undef GAUGE

static void (*const metrics_rows[])(struct metrics *) = {
#define COUNTER(id, name, labels, help)	      metrics_write_##id,
#define COUNTER_BY_ERR(id, name, label, help) metrics_write_##id,
#define HISTOGRAM(id, name, help)	      metrics_write_##id,
#define GAUGE(id, name, labels, help)	      metrics_write_##id,
#define TALLY(id, name, labels, help)	      metrics_write_##id,
#include "base/metrics.def"
#undef COUNTER
#undef COUNTER_BY_ERR
#undef HISTOGRAM
#undef GAUGE
};

char *metrics_text(const struct snap_process *process, struct snap *const *v, size_t n, size_t *len)
{
	struct metrics m = {.process = process, .v = v, .n = n};
	char *text = NULL, *out;

	*len = 0;
	m.f = open_memstream(&text, len);
	BUG_ON(!m.f);
	for (size_t i = 0; i < sizeof(metrics_rows) / sizeof(metrics_rows[0]); i++)
		metrics_rows[i](&m);
	BUG_ON(fclose(m.f) != 0);
	out = mem_strdup(text);
	free(text);
	return out;
}
