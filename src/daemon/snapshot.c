#include "daemon/snapshot.h"

#include <string.h>

#include "base/mem.h"

#define SNAP_ADDRS RESOLVE_MAX

struct snap *snap_new(int worker, size_t n_pools, bool full, int64_t now_us)
{
	struct snap *s = NEW(struct snap);

	s->worker = worker;
	s->now_us = now_us;
	s->full = full;
	s->n_pools = n_pools;
	s->pools = mem_alloc((n_pools + 1) * sizeof(*s->pools));
	return s;
}

static void snap_servers(struct snap_pool *out, struct service *s, int64_t now_us)
{
	struct pool *p = service_pool(s);
	struct addr addrs[SNAP_ADDRS];

	out->n_servers = pool_servers(p);
	out->servers = mem_alloc((out->n_servers + 1) * sizeof(*out->servers));
	for (size_t i = 0; i < out->n_servers; i++) {
		struct snap_server *v = &out->servers[i];
		size_t n = service_server_addrs(s, i, addrs, SNAP_ADDRS);

		pool_server_view(p, i, now_us, &v->view);
		v->n_addrs = n < SNAP_ADDRS ? n : SNAP_ADDRS;
		v->addrs = mem_alloc((v->n_addrs + 1) * sizeof(*v->addrs));
		for (size_t a = 0; a < v->n_addrs; a++)
			v->addrs[a] = addrs[a];
	}
}

static void snap_listeners(struct snap_pool *out, const struct service *s)
{
	struct addr a;

	out->n_listeners = service_listener_addr(s, SIZE_MAX, &a);
	out->listeners = mem_alloc((out->n_listeners + 1) * sizeof(*out->listeners));
	for (size_t i = 0; i < out->n_listeners; i++)
		service_listener_addr(s, i, &out->listeners[i]);
}

static void snap_lists(struct snap_pool *out, struct service *s)
{
	struct pool *p = service_pool(s);

	out->n_upstreams = pool_snapshot(p, NULL, 0);
	out->upstreams = mem_alloc((out->n_upstreams + 1) * sizeof(*out->upstreams));
	pool_snapshot(p, out->upstreams, out->n_upstreams);
	out->n_client_list = service_clients(s, NULL, 0);
	out->client_list = mem_alloc((out->n_client_list + 1) * sizeof(*out->client_list));
	service_clients(s, out->client_list, out->n_client_list);
}

void snap_take(struct snap_pool *out, struct service *s, bool full, int64_t now_us)
{
	struct pool *p = service_pool(s);

	out->name = pool_name(p);
	for (int i = 0; i < CLIENT_STATES; i++)
		out->clients[i] = service_count(s, (enum client_state)i);
	service_pins(s, out->pinned);
	out->waiters = pool_waiting(p);
	out->oldest_wait_us = pool_oldest_wait_us(p, now_us);
	out->why = pool_why(p, now_us);
	out->stat = *pool_stat(p);
	snap_servers(out, s, now_us);
	snap_listeners(out, s);
	if (full)
		snap_lists(out, s);
}

static void snap_pool_free(struct snap_pool *p)
{
	for (size_t i = 0; i < p->n_servers; i++)
		mem_free(p->servers[i].addrs);
	mem_free(p->servers);
	mem_free(p->listeners);
	mem_free(p->upstreams);
	mem_free(p->client_list);
}

void snap_free(struct snap **s)
{
	if (!*s)
		return;
	for (size_t i = 0; i < (*s)->n_pools; i++)
		snap_pool_free(&(*s)->pools[i]);
	mem_free((*s)->pools);
	mem_free(*s);
	*s = NULL;
}

size_t snap_pool_upstreams(const struct snap_pool *p, enum up_state s)
{
	size_t n = 0;

	for (size_t i = 0; i < p->n_servers; i++)
		n += p->servers[i].view.by_state[s];
	return n;
}

size_t snap_pool_clients(const struct snap_pool *p)
{
	size_t n = 0;

	for (int i = 0; i < CLIENT_STATES; i++)
		n += p->clients[i];
	return n;
}

size_t snap_subscribers(struct snap *const *v, size_t n, const char *credential)
{
	size_t total = 0;

	for (size_t i = 0; i < n; i++)
		for (const struct snap_pool *p = v[i]->pools; p < v[i]->pools + v[i]->n_pools; p++)
			for (int st = 0; p->credential && strcmp(p->credential, credential) == 0 && st < UP_CLOSING;
			     st++)
				total += snap_pool_upstreams(p, (enum up_state)st);
	return total;
}

void snap_process_free(struct snap_process *p)
{
	mem_free(p->credentials);
	p->credentials = NULL;
	p->n_credentials = 0;
}

int64_t snap_quantile_us(const struct hist *h, double q)
{
	double want = q * (double)h->count, seen = 0;

	for (int i = 0; i < HIST_BUCKETS && h->count > 0; i++) {
		double n = (double)h->bucket[i];
		int64_t low = i > 0 ? hist_bound_us[i - 1] : 0;

		if (h->bucket[i] == 0 || seen + n < want) {
			seen += n;
			continue;
		}
		if (i == HIST_BUCKETS - 1)
			return low;
		return low + (int64_t)((double)(hist_bound_us[i] - low) * (want - seen) / n);
	}
	return 0;
}
