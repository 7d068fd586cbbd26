#include "ctl/show.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define SHOW_SUMMARY "/status.json"
#define SHOW_FULL    "/status.json?full=1"

static int64_t show_int(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static void show_set(json_t *o, const char *key, int64_t v)
{
	json_object_set_new(o, key, json_integer(v));
}

/* The sum of some states; names: a NULL-terminated list. */
static int64_t show_states(const json_t *server, const char *const *names)
{
	int64_t n = 0;

	for (; *names; names++)
		n += show_int(json_object_get(server, "states"), *names);
	return n;
}

/* The columns people know from other poolers, in words of upstream states. */
static const struct show_group {
	const char *key;
	const char *const states[5];
} show_groups[] = {
	{"sv_active", {"leased", NULL}},
	{"sv_idle", {"idle", NULL}},
	{"sv_tested", {"probing", "cleaning", NULL}},
	{"sv_reauth", {"reauth", NULL}},
	{"sv_login", {"dialing", "securing", "login", NULL}},
	{"sv_closing", {"closing", NULL}},
};

#define SHOW_GROUPS (sizeof(show_groups) / sizeof(show_groups[0]))

/* Clients that keep a connection although the pool's mode would let it go. */
static int64_t show_pinned(const json_t *pool)
{
	json_t *n;
	const char *reason;
	int64_t total = 0;

	json_object_foreach(json_object_get(pool, "pinned"), reason, n)
	{
		if (strcmp(reason, "session") != 0)
			total += json_integer_value(n);
	}
	return total;
}

static json_t *show_pool_row(const json_t *pool)
{
	const json_t *clients = json_object_get(pool, "clients"), *servers = json_object_get(pool, "servers"),
		     *server;
	int64_t wait = show_int(pool, "oldest_wait_us"), backoff = 0, gen = 0;
	json_t *row = json_object();
	size_t i;

	json_object_set(row, "pool", json_object_get(pool, "name"));
	show_set(row, "cl_active", show_int(clients, "active"));
	show_set(row, "cl_waiting", show_int(clients, "waiting"));
	show_set(row, "cl_idle", show_int(clients, "idle"));
	for (size_t g = 0; g < SHOW_GROUPS; g++) {
		int64_t n = 0;

		json_array_foreach(servers, i, server) n += show_states(server, show_groups[g].states);
		show_set(row, show_groups[g].key, n);
	}
	json_array_foreach(servers, i, server) backoff += !json_is_true(json_object_get(server, "up"));
	/* The newest that a server has accepted. */
	json_array_foreach(servers, i, server) gen = show_int(server, "cred_gen") > gen ? show_int(server, "cred_gen")
											: gen;
	show_set(row, "sv_backoff", backoff);
	show_set(row, "maxwait", wait / 1000000);
	show_set(row, "maxwait_us", wait % 1000000);
	json_object_set(row, "why", json_object_get(pool, "why"));
	json_object_set(row, "draining", json_object_get(pool, "draining"));
	show_set(row, "sv_pinned", show_pinned(pool));
	show_set(row, "cred_gen", gen);
	json_object_set(row, "mode", json_object_get(pool, "mode"));
	json_object_set(row, "credential", json_object_get(pool, "credential"));
	json_object_set(row, "protocol", json_object_get(pool, "protocol"));
	return row;
}

static json_t *show_pools(const json_t *status)
{
	json_t *rows = json_array();
	const json_t *pool;
	size_t i;

	json_array_foreach(json_object_get(status, "pools"), i, pool)
		json_array_append_new(rows, show_pool_row(pool));
	return rows;
}

/* One row per member of every pool's list `key`, with the pool's name added. */
static json_t *show_members(const json_t *status, const char *key)
{
	json_t *rows = json_array(), *row, *member;
	const json_t *pool;
	size_t i, k;

	json_array_foreach(json_object_get(status, "pools"), i, pool)
		json_array_foreach(json_object_get(pool, key), k, member)
	{
		row = json_object();
		json_object_set(row, "pool", json_object_get(pool, "name"));
		if (json_is_object(member))
			json_object_update(row, member);
		else
			json_object_set(row, "address", member);
		json_array_append_new(rows, row);
	}
	return rows;
}

static json_t *show_servers(const json_t *status)
{
	json_t *rows = show_members(status, "servers"), *row;
	size_t i;

	json_array_foreach(rows, i, row) for (size_t g = 0; g < SHOW_GROUPS; g++)
		show_set(row, show_groups[g].key, show_states(row, show_groups[g].states));
	return rows;
}

static json_t *show_clients(const json_t *status)
{
	return show_members(status, "client_list");
}

static json_t *show_snapshot(const json_t *status)
{
	return show_members(status, "connections");
}

static json_t *show_listeners(const json_t *status)
{
	return show_members(status, "listeners");
}

static json_t *show_credentials(const json_t *status)
{
	return json_deep_copy(json_object_get(status, "credentials"));
}

static json_t *show_limits(const json_t *status)
{
	json_t *rows = json_array(), *row;
	const json_t *v;
	const char *key;

	json_object_foreach(json_object_get(status, "limits"), key, v)
	{
		row = json_object();
		json_object_set_new(row, "limit", json_string(key));
		json_object_set_new(row, "value", json_deep_copy(v));
		json_array_append_new(rows, row);
	}
	return rows;
}

static void show_stat(json_t *rows, const json_t *pool, const char *stat, const char *of, const json_t *value)
{
	json_t *row = json_object();

	json_object_set(row, "pool", json_object_get(pool, "name"));
	json_object_set_new(row, "stat", json_string(stat));
	json_object_set_new(row, "of", json_string(of));
	json_object_set_new(row, "value", json_deep_copy(value));
	json_array_append_new(rows, row);
}

static json_t *show_stats(const json_t *status)
{
	json_t *rows = json_array(), *stat, *value;
	const json_t *pool;
	const char *key, *of;
	size_t i;

	json_array_foreach(json_object_get(status, "pools"), i, pool)
		json_object_foreach(json_object_get(pool, "stats"), key, stat)
	{
		if (!json_is_object(stat))
			show_stat(rows, pool, key, "-", stat);
		json_object_foreach(stat, of, value) show_stat(rows, pool, key, of, value);
	}
	return rows;
}

static json_t *show_one(const json_t *status, const char *key)
{
	json_t *rows = json_array(), *row = json_object();

	json_object_set(row, key, json_object_get(status, key));
	json_array_append_new(rows, row);
	return rows;
}

static json_t *show_version(const json_t *status)
{
	return show_one(status, "version");
}

static json_t *show_state(const json_t *status)
{
	json_t *rows = show_one(status, "state"), *row = json_array_get(rows, 0);

	json_object_set(row, "pid", json_object_get(status, "pid"));
	json_object_set(row, "uptime_us", json_object_get(status, "uptime_us"));
	return rows;
}

static json_t *show_workers(const json_t *status)
{
	return json_deep_copy(json_object_get(status, "workers"));
}

static const struct column show_pools_columns[] = {
	{"pool", "pool", COLUMN_PLAIN},
	{"cl_active", "cl_active", COLUMN_PLAIN},
	{"cl_waiting", "cl_waiting", COLUMN_PLAIN},
	{"cl_idle", "cl_idle", COLUMN_PLAIN},
	{"sv_active", "sv_active", COLUMN_PLAIN},
	{"sv_idle", "sv_idle", COLUMN_PLAIN},
	{"sv_tested", "sv_tested", COLUMN_PLAIN},
	{"sv_reauth", "sv_reauth", COLUMN_PLAIN},
	{"sv_login", "sv_login", COLUMN_PLAIN},
	{"sv_pinned", "sv_pinned", COLUMN_PLAIN},
	{"sv_backoff", "sv_backoff", COLUMN_PLAIN},
	{"maxwait", "maxwait", COLUMN_PLAIN},
	{"maxwait_us", "maxwait_us", COLUMN_PLAIN},
	{"why", "why", COLUMN_PLAIN},
	{"draining", "draining", COLUMN_PLAIN},
	{"mode", "mode", COLUMN_PLAIN},
	{"cred_gen", "cred_gen", COLUMN_PLAIN},
	{NULL, NULL, COLUMN_PLAIN},
};

static const struct column show_servers_columns[] = {
	{"pool", "pool", COLUMN_PLAIN},
	{"server", "name", COLUMN_PLAIN},
	{"up", "up", COLUMN_PLAIN},
	{"retry_in", "retry_in_us", COLUMN_DURATION},
	{"failures", "failures", COLUMN_PLAIN},
	{"last_error", "last_error", COLUMN_PLAIN},
	{"max_size", "max_size", COLUMN_PLAIN},
	{"cred_gen", "cred_gen", COLUMN_PLAIN},
	{"stale", "stale", COLUMN_PLAIN},
	{"sv_active", "sv_active", COLUMN_PLAIN},
	{"sv_idle", "sv_idle", COLUMN_PLAIN},
	{"sv_tested", "sv_tested", COLUMN_PLAIN},
	{"sv_reauth", "sv_reauth", COLUMN_PLAIN},
	{"sv_login", "sv_login", COLUMN_PLAIN},
	{"sv_closing", "sv_closing", COLUMN_PLAIN},
	{"addresses", "addresses", COLUMN_LIST},
	{NULL, NULL, COLUMN_PLAIN},
};

static const struct column show_clients_columns[] = {
	{"pool", "pool", COLUMN_PLAIN},
	{"id", "id", COLUMN_PLAIN},
	{"state", "state", COLUMN_PLAIN},
	{"peer", "peer", COLUMN_PLAIN},
	{"age", "age_us", COLUMN_DURATION},
	{"upstream", "upstream", COLUMN_PLAIN},
	{"pin", "pin", COLUMN_PLAIN},
	{"bytes_in", "bytes_in", COLUMN_PLAIN},
	{"bytes_out", "bytes_out", COLUMN_PLAIN},
	{NULL, NULL, COLUMN_PLAIN},
};

static const struct column show_snapshot_columns[] = {
	{"pool", "pool", COLUMN_PLAIN},		{"id", "id", COLUMN_PLAIN},
	{"server", "server", COLUMN_PLAIN},	{"address", "address", COLUMN_PLAIN},
	{"state", "state", COLUMN_PLAIN},	{"in_use", "in_use", COLUMN_PLAIN},
	{"age", "age_us", COLUMN_DURATION},	{"idle", "idle_us", COLUMN_DURATION},
	{"leases", "leases", COLUMN_PLAIN},	{"close_needed", "close_needed", COLUMN_PLAIN},
	{"cred_gen", "cred_gen", COLUMN_PLAIN}, {NULL, NULL, COLUMN_PLAIN},
};

static const struct column show_credentials_columns[] = {
	{"credential", "name", COLUMN_PLAIN},
	{"source", "source", COLUMN_PLAIN},
	{"generation", "generation", COLUMN_PLAIN},
	{"age", "age_us", COLUMN_DURATION},
	{"expires_in", "expires_in_us", COLUMN_DURATION},
	{"refreshing", "refreshing", COLUMN_PLAIN},
	{"cooldown", "cooldown_us", COLUMN_DURATION},
	{"subscribers", "subscribers", COLUMN_PLAIN},
	{"last_error", "last_error", COLUMN_PLAIN},
	{NULL, NULL, COLUMN_PLAIN},
};

static const struct column show_listeners_columns[] = {
	{"pool", "pool", COLUMN_PLAIN},
	{"address", "address", COLUMN_PLAIN},
	{NULL, NULL, COLUMN_PLAIN},
};

static const struct column show_limits_columns[] = {
	{"limit", "limit", COLUMN_PLAIN},
	{"value", "value", COLUMN_PLAIN},
	{NULL, NULL, COLUMN_PLAIN},
};

static const struct column show_stats_columns[] = {
	{"pool", "pool", COLUMN_PLAIN},	  {"stat", "stat", COLUMN_PLAIN}, {"of", "of", COLUMN_PLAIN},
	{"value", "value", COLUMN_PLAIN}, {NULL, NULL, COLUMN_PLAIN},
};

static const struct column show_version_columns[] = {
	{"version", "version", COLUMN_PLAIN},
	{NULL, NULL, COLUMN_PLAIN},
};

static const struct column show_state_columns[] = {
	{"state", "state", COLUMN_PLAIN},
	{"pid", "pid", COLUMN_PLAIN},
	{"uptime", "uptime_us", COLUMN_DURATION},
	{NULL, NULL, COLUMN_PLAIN},
};

static const struct column show_workers_columns[] = {
	{"worker", "id", COLUMN_PLAIN},
	{"loop_lag_max", "loop_lag_max_us", COLUMN_DURATION},
	{"pools", "pools", COLUMN_LIST},
	{NULL, NULL, COLUMN_PLAIN},
};

static const struct show show_table[] = {
	{"pools", SHOW_SUMMARY, show_pools_columns, show_pools, "clients and upstream connections of each pool"},
	{"servers", SHOW_SUMMARY, show_servers_columns, show_servers, "each pool's servers and their health"},
	{"clients", SHOW_FULL, show_clients_columns, show_clients, "every client"},
	{"snapshot", SHOW_FULL, show_snapshot_columns, show_snapshot, "every upstream connection"},
	{"listeners", SHOW_SUMMARY, show_listeners_columns, show_listeners, "the addresses listened on"},
	{"credentials", SHOW_SUMMARY, show_credentials_columns, show_credentials,
	 "what pools log in with, and how old it is"},
	{"limits", SHOW_SUMMARY, show_limits_columns, show_limits, "limits of the process and what is used of them"},
	{"stats", SHOW_SUMMARY, show_stats_columns, show_stats, "counters and times of each pool"},
	{"workers", SHOW_SUMMARY, show_workers_columns, show_workers, "threads and the pools they serve"},
	{"state", SHOW_SUMMARY, show_state_columns, show_state, "whether the daemon runs or drains"},
	{"version", SHOW_SUMMARY, show_version_columns, show_version, "the daemon's version"},
};

#define SHOW_COUNT (sizeof(show_table) / sizeof(show_table[0]))

const struct show *show_find(const char *name)
{
	for (size_t i = 0; i < SHOW_COUNT; i++)
		if (strcasecmp(show_table[i].name, name) == 0)
			return &show_table[i];
	return NULL;
}

void show_list(void)
{
	for (size_t i = 0; i < SHOW_COUNT; i++)
		printf("  show %-28s %s\n", show_table[i].name, show_table[i].help);
}
