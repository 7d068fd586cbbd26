/* check: what no single key can know: combinations, references, addresses, names of the system; see build.h. */
#include <arpa/inet.h>
#include <string.h>

#include "conf/build.h"

#define NAME_MAX_BYTES	 63
#define MAX_SIZE_DEFAULT 10 /* what max_size = 0 means */

/* The choices of reuse, in the order of its row in keys.def. */
enum { REUSE_NEVER, REUSE_ON_IDLE, REUSE_SCRIPT };
/* Those of on_credential_change. */
enum { CHANGE_REAUTH, CHANGE_RECYCLE, CHANGE_KEEP };

void check_name(struct build *b, struct conf_pos pos, const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.");

	if (name[n] || n > NAME_MAX_BYTES)
		build_error(b, pos, "name: \"%.80s\" may hold letters, digits, '_', '-' and '.' only, %d at most",
			    name, NAME_MAX_BYTES);
}

static void check_user(struct build *b, struct conf_pos pos, const char *key, const char *user, int64_t *uid)
{
	uint32_t id;

	if (!*user)
		return;
	if (value_user(user, &id))
		*uid = id;
	else
		build_error(b, pos, "%s: no user \"%.60s\" on this system", key, user);
}

static void check_group(struct build *b, struct conf_pos pos, const char *key, const char *group, int64_t *gid)
{
	uint32_t id;

	if (!*group)
		return;
	if (value_group(group, &id))
		*gid = id;
	else
		build_error(b, pos, "%s: no group \"%.60s\" on this system", key, group);
}

void check_top(struct build *b, const struct seen *top)
{
	int64_t unused;

	check_user(b, top->at[K_TOP_user], "user", b->conf->user, &unused);
}

/* ---- addresses */

static bool check_is_loopback(const struct addr *a)
{
	if (a->u.sa.sa_family == AF_INET)
		return ntohl(a->u.in.sin_addr.s_addr) >> 24 == 127;
	return a->u.sa.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&a->u.in6.sin6_addr);
}

static bool check_is_any(const char *text, const struct addr *a)
{
	if (text[0] == '*')
		return true;
	if (a->u.sa.sa_family == AF_INET)
		return a->u.in.sin_addr.s_addr == htonl(INADDR_ANY);
	return a->u.sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&a->u.in6.sin6_addr);
}

static bool check_is_port(const char *text)
{
	size_t n = strspn(text, "0123456789");

	return n > 0 && n <= 5 && !text[n];
}

static bool check_address(struct build *b, struct conf_pos pos, const char *key, const char *text,
			  struct addr_spec *out)
{
	const char *why;

	if (addr_parse(text, out, &why) == ERR_OK)
		return true;
	if (text[0] == '/' || text[0] == '@')
		build_error(b, pos, "%s: \"%.120s\": %s (did you mean \"unix:%.100s\"?)", key, text, why, text);
	else if (check_is_port(text + (text[0] == ':')))
		build_error(b, pos, "%s: \"%s\": host is missing (did you mean \"127.0.0.1:%s\"?)", key, text,
			    text + (text[0] == ':'));
	else
		build_error(b, pos, "%s: \"%.120s\": %s", key, text, why);
	return false;
}

bool check_server_address(struct build *b, struct conf_pos pos, const char *text, struct addr_spec *out)
{
	if (!check_address(b, pos, "address", text, out))
		return false;
	if (out->kind == ADDR_SYSTEMD) {
		build_error(b, pos, "address: \"%.120s\": only a listener can be passed by systemd", text);
		return false;
	}
	if (out->kind == ADDR_NUMERIC && check_is_any(text, &out->addr)) {
		build_error(b, pos, "address: \"%.120s\": a server needs a host (did you mean \"127.0.0.1:%u\"?)",
			    text, out->port);
		return false;
	}
	if (out->kind != ADDR_UNIX && out->port == 0) {
		build_error(b, pos, "address: \"%.120s\": a server's port can't be 0", text);
		return false;
	}
	return true;
}

static bool check_same(const struct addr_spec *a, const struct addr_spec *b)
{
	if (a->kind != b->kind)
		return false;
	if (a->kind == ADDR_NUMERIC || a->kind == ADDR_UNIX)
		return addr_equal(&a->addr, &b->addr);
	return a->port == b->port && strcasecmp(a->host, b->host) == 0;
}

/* Port 0 is a new port each time. */
static bool check_same_listener(const struct conf_listener *a, const struct conf_listener *b)
{
	if (!*a->address || !*b->address || (a->where.kind == ADDR_NUMERIC && a->where.port == 0))
		return false;
	return check_same(&a->where, &b->where);
}

static void check_listener_again(struct build *b, const struct conf_pool *last, const struct conf_listener *l)
{
	for (const struct conf_pool *p = b->conf->pools; p <= last; p++) {
		for (size_t i = 0; i < p->n_listen && &p->listen[i] != l; i++) {
			if (!check_same_listener(l, &p->listen[i]))
				continue;
			build_error(b, l->pos, "listen: \"%.120s\" is already listened on by line %d", l->address,
				    p->listen[i].pos.line);
			return;
		}
	}
}

static void check_server_again(struct build *b, const struct conf_pool *p, const struct conf_server *s)
{
	for (const struct conf_server *o = p->servers; o < s; o++) {
		if (!*o->address || !check_same(&o->where, &s->where))
			continue;
		build_error(b, s->pos, "servers: \"%.120s\" is already on line %d", s->address, o->pos.line);
		return;
	}
}

static void check_server_loop(struct build *b, const struct conf_pool *p, const struct conf_server *s)
{
	for (size_t i = 0; i < p->n_listen; i++)
		if (*p->listen[i].address && check_same(&s->where, &p->listen[i].where))
			build_error(b, s->pos, "servers: \"%.120s\" is the pool's own listener", s->address);
}

static void check_admin_address(struct build *b, const struct conf_listener *l)
{
	struct addr_spec where;

	if (*b->conf->admin.listen && addr_parse(b->conf->admin.listen, &where, NULL) == ERR_OK && *l->address &&
	    (where.kind == ADDR_UNIX || where.port != 0) && check_same(&where, &l->where))
		build_error(b, l->pos, "listen: \"%.120s\" is the admin interface's address", l->address);
}

void check_addresses(struct build *b)
{
	for (size_t n = 0; n < b->conf->n_pools; n++) {
		const struct conf_pool *p = &b->conf->pools[n];

		for (size_t i = 0; i < p->n_listen; i++) {
			check_listener_again(b, p, &p->listen[i]);
			check_admin_address(b, &p->listen[i]);
		}
		for (size_t i = 0; i < p->n_servers; i++) {
			if (!*p->servers[i].address)
				continue;
			check_server_again(b, p, &p->servers[i]);
			check_server_loop(b, p, &p->servers[i]);
		}
	}
}

/* ---- fixed groups */

/* A key that only a Unix socket has. */
static void check_unix_only(struct build *b, const struct seen *s, int key, const char *name, const char *address)
{
	if (seen_given(s, key))
		build_error(b, s->at[key], "%s: only for a Unix socket, and \"%.120s\" is none", name, address);
}

void check_admin(struct build *b, const struct seen *s)
{
	const char *listen = b->conf->admin.listen;
	struct conf_pos pos = s->at[K_ADMIN_listen];
	struct addr_spec where;
	int64_t unused;

	check_group(b, s->at[K_ADMIN_group], "admin.group", b->conf->admin.group, &unused);
	if (!*listen || !check_address(b, pos, "admin.listen", listen, &where) || where.kind == ADDR_UNIX)
		return;
	if (where.kind != ADDR_NUMERIC || !check_is_loopback(&where.addr)) {
		build_error(b, pos, "admin.listen: \"%.120s\" must be \"unix:PATH\" or a loopback address%s", listen,
			    where.kind == ADDR_NUMERIC || where.kind == ADDR_NAME ? " (did you mean 127.0.0.1?)"
										  : "");
		return;
	}
	check_unix_only(b, s, K_ADMIN_mode, "admin.mode", listen);
	check_unix_only(b, s, K_ADMIN_group, "admin.group", listen);
}

void check_log(struct build *b, const struct seen *s, struct conf_pos pos)
{
	const struct conf_log *log = &b->conf->log;

	if (seen_bad(s, K_LOG_target) || seen_bad(s, K_LOG_file))
		return;
	if (log->target == LOG_TO_FILE && !*log->file)
		build_error(b, seen_given(s, K_LOG_target) ? s->at[K_LOG_target] : pos,
			    "log.file: missing; target = \"file\" needs it");
	else if (log->target != LOG_TO_FILE && *log->file)
		build_error(b, s->at[K_LOG_file], "log.file: has no effect without target = \"file\"");
}

/* "ip" or "ip:port" */
static bool check_nameserver(const char *text)
{
	struct in6_addr in6;
	struct in_addr in;
	struct addr_spec where;

	if (inet_pton(AF_INET, text, &in) == 1 || inet_pton(AF_INET6, text, &in6) == 1)
		return true;
	return text[0] != '*' && addr_parse(text, &where, NULL) == ERR_OK && where.kind == ADDR_NUMERIC &&
	       where.port != 0;
}

void check_dns(struct build *b, const struct seen *s)
{
	const struct conf_strings *list = &b->conf->dns.nameservers;

	for (size_t i = 0; i < list->n; i++)
		if (!check_nameserver(list->v[i]))
			build_error(b, s->at[K_DNS_nameservers],
				    "dns.nameservers: \"%.80s\" is not a numeric address such as \"10.0.0.53\"",
				    list->v[i]);
}

/* ---- pools */

void check_listener(struct build *b, struct conf_listener *l, const struct seen *s)
{
	struct conf_pos pos = s->at[K_LISTENER_address];

	check_user(b, s->at[K_LISTENER_owner], "owner", l->owner, &l->uid);
	check_group(b, s->at[K_LISTENER_group], "group", l->group, &l->gid);
	if (!*l->address)
		return;
	if (!check_address(b, pos, "address", l->address, &l->where)) {
		l->address = "";
		return;
	}
	if (l->where.kind == ADDR_NAME) {
		build_error(b, pos, "address: \"%.120s\": a listener needs a numeric host or \"*\"%s", l->address,
			    strcasecmp(l->where.host, "localhost") == 0 ? " (did you mean 127.0.0.1?)" : "");
		l->address = "";
		return;
	}
	if (l->where.kind == ADDR_UNIX)
		return;
	check_unix_only(b, s, K_LISTENER_mode, "mode", l->address);
	check_unix_only(b, s, K_LISTENER_owner, "owner", l->address);
	check_unix_only(b, s, K_LISTENER_group, "group", l->address);
	if (l->where.kind != ADDR_SYSTEMD)
		check_unix_only(b, s, K_LISTENER_allow_uid, "allow_uid", l->address);
}

/* Where a server's key was written: in the server, else in its pool. NULL: it is a default or wrong. */
static const struct conf_pos *check_server_pos(const struct seen *own, const struct seen *pool, int key)
{
	if (seen_bad(own, key) || (!seen_given(own, key) && seen_bad(pool, key)))
		return NULL;
	return seen_given(own, key) ? &own->at[key] : &pool->at[key];
}

/* The later of two keys that don't fit is the one to complain at; what the pool says is complained at once. */
static bool check_pair(const struct seen *own, const struct seen *pool, int a, int c, struct conf_pos *pos)
{
	const struct conf_pos *pa = check_server_pos(own, pool, a), *pc = check_server_pos(own, pool, c);

	if (!pa || !pc)
		return false;
	if (seen_given(own, a) || (pa->file && !seen_given(own, c)))
		*pos = *pa;
	else
		*pos = *pc;
	return true;
}

void check_server(struct build *b, const struct conf_server *v, const struct seen *own, const struct seen *pool)
{
	int64_t max = v->max_size ? v->max_size : MAX_SIZE_DEFAULT;
	struct conf_pos pos;

	if (!v->unbounded && v->min_idle > max && check_pair(own, pool, K_SERVER_min_idle, K_SERVER_max_size, &pos))
		build_error(b, pos, "min_idle: %lld is more than max_size = %lld", (long long)v->min_idle,
			    (long long)max);
	if (v->backoff_initial_us > v->backoff_max_us &&
	    check_pair(own, pool, K_SERVER_backoff_initial, K_SERVER_backoff_max, &pos))
		build_error(b, pos, "backoff_initial: is longer than backoff_max");
	if (seen_given(own, K_SERVER_unbounded) && v->unbounded)
		build_warning(
			b, own->at[K_SERVER_unbounded],
			"unbounded: nothing but the limit of the whole process bounds this server's connections");
}

static void check_pool_total(struct build *b, const struct conf_pool *p, const struct seen *own)
{
	int64_t idle = 0;

	for (size_t i = 0; i < p->n_servers; i++)
		idle += p->servers[i].min_idle;
	if (p->max_total && idle > p->max_total && !seen_bad(own, K_POOL_max_total))
		build_error(b, own->at[K_POOL_max_total],
			    "max_total: %lld is less than the min_idle of all servers together, %lld",
			    (long long)p->max_total, (long long)idle);
}

void check_pool(struct build *b, const struct conf_pool *p, const struct seen *own, const struct seen *defaults)
{
	if (!seen_bad(own, K_POOL_name))
		check_name(b, own->at[K_POOL_name], p->name);
	if (p->reuse == REUSE_SCRIPT && p->ready_check.n == 0 && !seen_bad(own, K_POOL_ready_check))
		build_error(b, own->at[K_POOL_reuse], "reuse: \"script\" needs a ready_check");
	if (p->reuse != REUSE_SCRIPT && p->ready_check.n > 0 && !seen_bad(own, K_POOL_reuse))
		build_warning(b, own->at[K_POOL_ready_check],
			      "ready_check: run only by leased -T; leases need reuse = \"script\" for it");
	check_pool_total(b, p, own);
	if (seen_given(defaults, K_SERVER_unbounded) && p->defaults.unbounded)
		build_warning(
			b, defaults->at[K_SERVER_unbounded],
			"unbounded: nothing but the limit of the whole process bounds the servers' connections");
	if (p->reauth_interval_us > 0 && p->on_credential_change == CHANGE_KEEP)
		build_error(b, own->at[K_POOL_reauth_interval],
			    "reauth_interval: on_credential_change = \"keep\" means that nothing logs in anew");
	if (p->max_clients > b->conf->limits.max_clients)
		build_warning(b, own->at[K_POOL_max_clients],
			      "max_clients: limits.max_clients = %lld is reached first",
			      (long long)b->conf->limits.max_clients);
}
