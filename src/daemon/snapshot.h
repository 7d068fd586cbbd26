/*
 * snapshot: value copies of what a worker's pools look like at one moment, made in the worker's thread, read in the
 * control thread. The figures of one pool are from one instant and therefore add up; those of two pools may not be.
 *
 * Names in the views point into the pools' own immutable options, which outlive every snapshot.
 */
#ifndef LEASED_DAEMON_SNAPSHOT_H
#define LEASED_DAEMON_SNAPSHOT_H

#include "cred/credential.h"
#include "serve/service.h"

/* Who asks: each asker has its own "longest turn since I last asked". */
enum snap_for { SNAP_STATUS, SNAP_METRICS, SNAP_LINE, SNAP_FORS };

struct snap_server {
	struct server_view view;
	struct addr *addrs;
	size_t n_addrs;
};

struct snap_pool {
	const char *name, *protocol;
	const char *mode, *credential; /* credential NULL: none */
	size_t clients[CLIENT_STATES];
	size_t pinned[ERR_COUNT]; /* clients, by why they keep their connections */
	size_t waiters;
	int64_t oldest_wait_us;
	enum err why;
	bool draining;
	struct stat stat;
	struct snap_server *servers;
	size_t n_servers;
	struct addr *listeners;
	size_t n_listeners;
	struct upstream_view *upstreams; /* only in a full snapshot */
	size_t n_upstreams;
	struct client_view *client_list; /* only in a full snapshot */
	size_t n_client_list;
};

struct snap {
	int worker;
	int64_t now_us, lag_us;
	struct snap_pool *pools;
	size_t n_pools;
	bool full;
};

/* What belongs to the process rather than to a pool. */
struct snap_process {
	bool draining;
	int64_t uptime_us, start_unix_us;
	int max_clients, clients;
	int fd_budget, fd_in_use;
	int64_t nofile, reserved;
	uint64_t log_dropped;
	int64_t now_us; /* of the credentials' times */
	struct credential_view *credentials;
	size_t n_credentials;
};
void snap_process_free(struct snap_process *p);

struct snap *snap_new(int worker, size_t n_pools, bool full, int64_t now_us);
/* In the service's thread. */
void snap_take(struct snap_pool *out, struct service *s, bool full, int64_t now_us);
void snap_free(struct snap **s);

size_t snap_pool_upstreams(const struct snap_pool *p, enum up_state s); /* of all its servers */
size_t snap_pool_clients(const struct snap_pool *p);
/* Upstream connections of the pools that use the credential, but for those being closed. */
size_t snap_subscribers(struct snap *const *v, size_t n, const char *credential);
/* Upper estimate of the q-quantile (0 < q < 1), interpolated within its bucket; 0 when nothing was counted. */
int64_t snap_quantile_us(const struct hist *h, double q);

#endif
