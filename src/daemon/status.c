#include "daemon/status.h"

#include <jansson.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"

static void status_int(json_t *o, const char *key, int64_t v)
{
	json_object_set_new(o, key, json_integer(v));
}

static void status_str(json_t *o, const char *key, const char *v)
{
	json_object_set_new(o, key, json_string(v));
}

static void status_bool(json_t *o, const char *key, bool v)
{
	json_object_set_new(o, key, json_boolean(v));
}

static json_t *status_addr(const struct addr *a)
{
	char text[ADDR_TEXT_MAX];
	json_t *s;

	addr_format(a, text, sizeof(text));
	s = json_string(text);
	return s ? s : json_string("?"); /* a Unix path need not be UTF-8 */
}

static json_t *status_addrs(const struct addr *v, size_t n)
{
	json_t *a = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(a, status_addr(&v[i]));
	return a;
}

static json_t *status_by_err(const uint64_t *v)
{
	json_t *o = json_object();

	for (int i = 0; i < ERR_COUNT; i++)
		if (v[i])
			status_int(o, err_name((enum err)i), (int64_t)v[i]);
	return o;
}

static json_t *status_hist(const struct hist *h)
{
	json_t *o = json_object();

	status_int(o, "count", (int64_t)h->count);
	status_int(o, "sum_us", (int64_t)h->sum_us);
	status_int(o, "p50_us", snap_quantile_us(h, 0.5));
	status_int(o, "p99_us", snap_quantile_us(h, 0.99));
	return o;
}

static json_t *status_stat(const struct stat *s)
{
	json_t *o = json_object();

#define COUNTER(id, name, labels, help)	      status_int(o, #id, (int64_t)s->id);
#define COUNTER_BY_ERR(id, name, label, help) json_object_set_new(o, #id, status_by_err(s->id));
#define HISTOGRAM(id, name, help)	      json_object_set_new(o, #id, status_hist(&s->id));
#define GAUGE(id, name, labels, help)
#include "base/metrics.def"
#undef COUNTER
#undef COUNTER_BY_ERR
#undef HISTOGRAM
#undef GAUGE
	return o;
}

static json_t *status_server(const struct snap_server *s)
{
	json_t *o = json_object(), *states = json_object();

	status_str(o, "name", s->view.name);
	json_object_set_new(o, "addresses", status_addrs(s->addrs, s->n_addrs));
	status_bool(o, "up", s->view.up);
	status_bool(o, "dialable", s->view.dialable);
	status_int(o, "retry_in_us", s->view.retry_in_us);
	status_int(o, "failures", s->view.failures);
	status_str(o, "last_error", err_name(s->view.last_error));
	status_int(o, "max_size", s->view.max_size);
	status_int(o, "cred_gen", (int64_t)s->view.proven_gen);
	status_int(o, "stale", (int64_t)s->view.stale);
	for (int i = 0; i < UP_STATES; i++)
		status_int(states, up_state_name((enum up_state)i), (int64_t)s->view.by_state[i]);
	json_object_set_new(o, "states", states);
	return o;
}

/* Times are given as how long ago, null for never. */
static void status_ago(json_t *o, const char *key, int64_t at_us, int64_t now_us)
{
	json_object_set_new(o, key, at_us ? json_integer(now_us - at_us) : json_null());
}

static json_t *status_connection(const struct upstream_view *u, int64_t now_us)
{
	json_t *o = json_object();

	status_int(o, "id", (int64_t)u->id);
	status_str(o, "server", u->server);
	json_object_set_new(o, "address", status_addr(&u->addr));
	status_str(o, "state", up_state_name(u->state));
	status_bool(o, "in_use", u->in_use);
	status_int(o, "age_us", now_us - u->created_us);
	status_int(o, "idle_us", u->in_use ? 0 : now_us - u->state_us);
	status_ago(o, "last_leased_us", u->last_leased_us, now_us);
	status_ago(o, "last_returned_us", u->last_returned_us, now_us);
	status_int(o, "leases", (int64_t)u->leases);
	status_bool(o, "close_needed", u->close_needed);
	status_int(o, "cred_gen", (int64_t)u->gen);
	return o;
}

static json_t *status_client(const struct client_view *c, int64_t now_us)
{
	json_t *o = json_object();

	status_int(o, "id", (int64_t)c->id);
	status_str(o, "state", client_state_name(c->state));
	json_object_set_new(o, "peer", status_addr(&c->peer));
	status_int(o, "age_us", now_us - c->connected_us);
	status_int(o, "upstream", (int64_t)c->upstream_id);
	json_object_set_new(o, "pin", c->pin == ERR_OK ? json_null() : json_string(err_name(c->pin)));
	status_int(o, "bytes_in", (int64_t)c->bytes_in);
	status_int(o, "bytes_out", (int64_t)c->bytes_out);
	return o;
}

static void status_lists(json_t *o, const struct snap_pool *p, int64_t now_us)
{
	json_t *connections = json_array(), *clients = json_array();

	for (size_t i = 0; i < p->n_upstreams; i++)
		json_array_append_new(connections, status_connection(&p->upstreams[i], now_us));
	for (size_t i = 0; i < p->n_client_list; i++)
		json_array_append_new(clients, status_client(&p->client_list[i], now_us));
	json_object_set_new(o, "connections", connections);
	json_object_set_new(o, "client_list", clients);
}

static json_t *status_pinned(const struct snap_pool *p)
{
	json_t *o = json_object();

	for (int i = 0; i < ERR_COUNT; i++)
		if (p->pinned[i])
			status_int(o, err_name((enum err)i), (int64_t)p->pinned[i]);
	return o;
}

static json_t *status_pool(const struct snap_pool *p, bool full, int64_t now_us)
{
	json_t *o = json_object(), *clients = json_object(), *servers = json_array();

	status_str(o, "name", p->name);
	status_str(o, "protocol", p->protocol);
	status_str(o, "mode", p->mode);
	json_object_set_new(o, "credential", p->credential ? json_string(p->credential) : json_null());
	for (int i = 0; i < CLIENT_STATES; i++)
		status_int(clients, client_state_name((enum client_state)i), (int64_t)p->clients[i]);
	json_object_set_new(o, "clients", clients);
	json_object_set_new(o, "pinned", status_pinned(p));
	status_int(o, "waiters", (int64_t)p->waiters);
	status_int(o, "oldest_wait_us", p->oldest_wait_us);
	status_str(o, "why", err_name(p->why));
	status_bool(o, "draining", p->draining);
	json_object_set_new(o, "listeners", status_addrs(p->listeners, p->n_listeners));
	json_object_set_new(o, "stats", status_stat(&p->stat));
	for (size_t i = 0; i < p->n_servers; i++)
		json_array_append_new(servers, status_server(&p->servers[i]));
	json_object_set_new(o, "servers", servers);
	if (full)
		status_lists(o, p, now_us);
	return o;
}

static size_t status_total(struct snap *const *v, size_t n, enum up_state s)
{
	size_t total = 0;

	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < v[i]->n_pools; k++)
			total += snap_pool_upstreams(&v[i]->pools[k], s);
	return total;
}

static json_t *status_asked(const struct credential_view *c)
{
	json_t *o = json_object();

	for (int r = 0; r <= CRED_MANUAL; r++)
		status_int(o, cred_reason_name((enum cred_reason)r), (int64_t)c->asked[r]);
	return o;
}

static json_t *status_credential(const struct credential_view *c, size_t subscribers, int64_t now_us)
{
	json_t *o = json_object();

	status_str(o, "name", c->name);
	status_str(o, "source", c->source);
	status_int(o, "generation", (int64_t)c->generation);
	status_ago(o, "age_us", c->published_us, now_us);
	json_object_set_new(o, "expires_in_us",
			    c->expires_us == INT64_MAX ? json_null() : json_integer(c->expires_us - now_us));
	status_ago(o, "asked_us", c->asked_us, now_us);
	status_bool(o, "refreshing", c->refreshing);
	status_int(o, "cooldown_us", c->cooldown_until_us > now_us ? c->cooldown_until_us - now_us : 0);
	status_int(o, "subscribers", (int64_t)subscribers);
	status_str(o, "last_error", err_name(c->last_error));
	json_object_set_new(o, "refreshes", status_by_err(c->refreshes));
	json_object_set_new(o, "asked", status_asked(c));
	status_int(o, "source_errors", (int64_t)c->source_errors);
	return o;
}

static json_t *status_credentials(const struct snap_process *p, struct snap *const *v, size_t n)
{
	json_t *a = json_array();

	for (size_t i = 0; i < p->n_credentials; i++) {
		const struct credential_view *c = &p->credentials[i];

		json_array_append_new(a, status_credential(c, snap_subscribers(v, n, c->name), p->now_us));
	}
	return a;
}

static json_t *status_limits(const struct snap_process *p, struct snap *const *v, size_t n)
{
	json_t *o = json_object();

	status_int(o, "max_clients", p->max_clients);
	status_int(o, "clients", p->clients);
	status_int(o, "fd_budget", p->fd_budget);
	status_int(o, "fd_in_use", p->fd_in_use);
	status_int(o, "fd_unused", (int64_t)status_total(v, n, UP_IDLE));
	status_int(o, "fd_releasing", (int64_t)status_total(v, n, UP_CLOSING));
	status_int(o, "nofile", p->nofile);
	status_int(o, "reserved", p->reserved);
	return o;
}

static json_t *status_worker(const struct snap *s)
{
	json_t *o = json_object(), *pools = json_array();

	status_int(o, "id", s->worker);
	status_int(o, "loop_lag_max_us", s->lag_us);
	for (size_t i = 0; i < s->n_pools; i++)
		json_array_append_new(pools, json_string(s->pools[i].name));
	json_object_set_new(o, "pools", pools);
	return o;
}

/* Takes the object over; returns its text as memory of ours. */
static char *status_text(json_t *o)
{
	char *text = json_dumps(o, JSON_COMPACT | JSON_PRESERVE_ORDER), *out;

	BUG_ON(!text);
	json_decref(o);
	out = mem_printf("%s\n", text);
	free(text);
	return out;
}

char *status_json(const struct snap_process *p, struct snap *const *v, size_t n, bool full)
{
	json_t *o = json_object(), *workers = json_array(), *pools = json_array();

	status_str(o, "version", LEASED_VERSION);
	status_int(o, "pid", getpid());
	status_int(o, "uptime_us", p->uptime_us);
	status_str(o, "state", p->draining ? "draining" : "running");
	json_object_set_new(o, "limits", status_limits(p, v, n));
	for (size_t i = 0; i < n; i++)
		json_array_append_new(workers, status_worker(v[i]));
	/* Pools were dealt to the workers in turn: this is the order of the configuration. */
	for (size_t k = 0; n > 0 && k < v[0]->n_pools; k++)
		for (size_t i = 0; i < n && k < v[i]->n_pools; i++)
			json_array_append_new(pools, status_pool(&v[i]->pools[k], full && v[i]->full, v[i]->now_us));
	json_object_set_new(o, "workers", workers);
	json_object_set_new(o, "pools", pools);
	json_object_set_new(o, "credentials", status_credentials(p, v, n));
	return status_text(o);
}

static char *status_pair(const char *key, const char *text)
{
	json_t *o = json_object(), *s = json_string(text);

	json_object_set_new(o, key, s ? s : json_string("?"));
	return status_text(o);
}

char *status_error(const char *text)
{
	return status_pair("error", text);
}

char *status_result(const char *text)
{
	return status_pair("result", text);
}

const char *status_library_version(void)
{
	return jansson_version_str();
}
