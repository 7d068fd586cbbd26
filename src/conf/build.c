/* build: groups and lists of the configuration; see build.h. */
#include "conf/build.h"

#include <stdarg.h>
#include <string.h>

static void build_say(struct conf_messages *m, struct conf_pos pos, const char *kind, const char *fmt, va_list ap)
	__attribute__((format(printf, 4, 0)));
static void build_say(struct conf_messages *m, struct conf_pos pos, const char *kind, const char *fmt, va_list ap)
{
	char text[1024];

	vsnprintf(text, sizeof(text), fmt, ap);
	conf_messages_add(m, pos, "%s%s", kind, text);
}

void build_error(struct build *b, struct conf_pos pos, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	build_say(b->errors, pos, "", fmt, ap);
	va_end(ap);
}

void build_warning(struct build *b, struct conf_pos pos, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	build_say(b->warnings, pos, "warning: ", fmt, ap);
	va_end(ap);
}

/* ---- shapes */

static const struct value *build_group_member(struct build *b, const struct value *root, const char *name)
{
	const struct value *v = value_member(root, name);

	if (v && v->kind != VALUE_GROUP) {
		build_error(b, v->pos, "%s: expected a group { ... }, got %s", name, value_kind_text(v));
		return NULL;
	}
	return v;
}

/* The elements of a list; a value that is no list stands for a list of one when `one` allows it. */
static const struct value *build_elements(struct build *b, const struct value *group, const char *name, bool one,
					  size_t max, size_t *n)
{
	const struct value *v = value_member(group, name);

	*n = 0;
	if (!v)
		return NULL;
	if (v->kind != VALUE_LIST && !(one && (v->kind == VALUE_STRING || v->kind == VALUE_GROUP))) {
		build_error(b, v->pos, "%s: expected a list ( ... ), got %s", name, value_kind_text(v));
		return NULL;
	}
	*n = v->kind == VALUE_LIST ? v->n : 1;
	if (*n > max) {
		build_error(b, v->pos, "%s: has %zu elements; there may be %zu", name, *n, max);
		*n = max;
	}
	return v->kind == VALUE_LIST ? v->items : v;
}

/* Where a member is written or, without one, its group. */
static struct conf_pos build_pos(const struct value *group, const char *name)
{
	const struct value *v = value_member(group, name);

	return v ? v->pos : group->pos;
}

/* ---- fixed groups */

static void build_fixed(struct build *b, const struct value *root, enum scope_id id, void *base, struct seen *seen,
			struct conf_pos *pos)
{
	static const char *const no_parts[] = {NULL};
	const struct scope *s = scope_get(id);
	const struct value *v = build_group_member(b, root, s->name);

	value_defaults(s, base, b->arena);
	*pos = v ? v->pos : (struct conf_pos){NULL, 0};
	if (v)
		build_keys(b, v, &(struct target){s, base, seen}, 1, no_parts);
}

static void build_fixed_groups(struct build *b, const struct value *root)
{
	struct seen admin = {0}, log = {0}, limits = {0}, tcp = {0}, dns = {0};
	struct conf_pos pos;

	build_fixed(b, root, SCOPE_ADMIN, &b->conf->admin, &admin, &b->conf->admin.pos);
	check_admin(b, &admin);
	build_fixed(b, root, SCOPE_LOG, &b->conf->log, &log, &pos);
	check_log(b, &log, pos);
	build_fixed(b, root, SCOPE_LIMITS, &b->conf->limits, &limits, &pos);
	b->conf->limits.max_clients_given = seen_given(&limits, K_LIMITS_max_clients);
	build_fixed(b, root, SCOPE_TCP, &b->conf->tcp, &tcp, &pos);
	build_fixed(b, root, SCOPE_DNS, &b->conf->dns, &dns, &pos);
	check_dns(b, &dns);
}

/* ---- credentials */

static void build_credential(struct build *b, const struct value *v, struct conf_credential *c)
{
	static const char *const no_parts[] = {NULL};
	const struct scope *s = scope_get(SCOPE_CREDENTIAL);
	struct seen seen = {0};

	c->pos = v->pos;
	value_defaults(s, c, b->arena);
	if (v->kind != VALUE_GROUP) {
		c->name = "";
		build_error(b, v->pos, "credentials: expected a group { name = ...; }, got %s", value_kind_text(v));
		return;
	}
	build_keys(b, v, &(struct target){s, c, &seen}, 1, no_parts);
	check_credential(b, c, &seen);
	for (const struct conf_credential *o = b->conf->credentials; o < c; o++)
		if (*c->name && strcmp(o->name, c->name) == 0)
			build_error(b, c->pos, "name: the credential \"%s\" is already on line %d", c->name,
				    o->pos.line);
}

static void build_credentials(struct build *b, const struct value *root)
{
	size_t n;
	const struct value *v = build_elements(b, root, "credentials", false, CONF_CREDENTIALS_MAX, &n);

	b->conf->credentials = conf_arena_array(b->arena, n, sizeof(*b->conf->credentials));
	b->conf->n_credentials = n;
	for (size_t i = 0; i < n; i++)
		build_credential(b, &v[i], &b->conf->credentials[i]);
}

static void build_credential_of(struct build *b, struct conf_pool *p, const struct seen *seen)
{
	struct nearest near;

	if (!*p->credentials)
		return;
	nearest_init(&near, p->credentials);
	for (size_t i = 0; i < b->conf->n_credentials; i++) {
		nearest_try(&near, b->conf->credentials[i].name);
		if (strcmp(b->conf->credentials[i].name, p->credentials) == 0)
			p->credential = &b->conf->credentials[i];
	}
	if (!p->credential && near.best && *near.best)
		build_error(b, seen->at[K_POOL_credentials],
			    "credentials: no credential \"%.60s\" (did you mean \"%s\"?)", p->credentials, near.best);
	else if (!p->credential)
		build_error(b, seen->at[K_POOL_credentials], "credentials: no credential \"%.60s\"", p->credentials);
}

/* ---- pools */

static void build_listener(struct build *b, const struct value *v, struct conf_listener *l)
{
	static const char *const no_parts[] = {NULL};
	const struct scope *s = scope_get(SCOPE_LISTENER);
	struct seen seen = {0};
	struct value address, group = *v;

	l->pos = v->pos;
	l->uid = l->gid = -1;
	value_defaults(s, l, b->arena);
	if (v->kind == VALUE_STRING) {
		/* "ADDRESS" is short for { address = "ADDRESS"; } */
		address = *v;
		address.name = "address";
		group.kind = VALUE_GROUP;
		group.items = &address;
		group.n = 1;
	} else if (v->kind != VALUE_GROUP) {
		l->address = "";
		build_error(b, v->pos, "listen: expected an address or a group { address = ...; }, got %s",
			    value_kind_text(v));
		return;
	}
	build_keys(b, &group, &(struct target){s, l, &seen}, 1, no_parts);
	check_listener(b, l, &seen);
}

static void build_listeners(struct build *b, const struct value *group, struct conf_pool *p)
{
	size_t n, errors = b->errors->n;
	const struct value *v = build_elements(b, group, "listen", true, CONF_LISTENERS_MAX, &n);

	if (n == 0 && b->errors->n == errors)
		build_error(b, build_pos(group, "listen"), "listen: missing; a pool needs an address to listen on");
	p->listen = conf_arena_array(b->arena, n, sizeof(*p->listen));
	p->n_listen = n;
	for (size_t i = 0; i < n; i++)
		build_listener(b, &v[i], &p->listen[i]);
}

static void build_server_address(struct build *b, const struct value *v, struct conf_server *s)
{
	if (v->kind != VALUE_STRING) {
		build_error(b, v->pos, "address: expected a string, got %s", value_kind_text(v));
		return;
	}
	s->address = conf_arena_strdup(b->arena, v->s);
	if (!check_server_address(b, v->pos, s->address, &s->where))
		s->address = "";
}

static void build_server(struct build *b, const struct value *v, struct conf_server *s, const struct seen *pool)
{
	static const char *const parts[] = {"address", NULL};
	struct seen seen = {0};
	const struct value *address;

	s->pos = v->pos;
	s->address = "";
	if (v->kind == VALUE_STRING) {
		build_server_address(b, v, s);
	} else if (v->kind == VALUE_GROUP) {
		build_keys(b, v, &(struct target){scope_get(SCOPE_SERVER), s, &seen}, 1, parts);
		address = value_member(v, "address");
		if (address)
			build_server_address(b, address, s);
		else
			build_error(b, v->pos, "address: missing");
	} else {
		build_error(b, v->pos, "servers: expected an address or a group { address = ...; }, got %s",
			    value_kind_text(v));
	}
	check_server(b, s, &seen, pool);
}

static void build_servers(struct build *b, const struct value *group, struct conf_pool *p,
			  const struct seen *defaults)
{
	size_t n, errors = b->errors->n;
	const struct value *v = build_elements(b, group, "servers", true, CONF_SERVERS_MAX, &n);

	if (n == 0 && b->errors->n == errors)
		build_error(b, build_pos(group, "servers"),
			    "servers: no registered servers found; a pool needs one at least");
	p->servers = conf_arena_array(b->arena, n, sizeof(*p->servers));
	p->n_servers = n;
	for (size_t i = 0; i < n; i++) {
		p->servers[i] = p->defaults;
		build_server(b, &v[i], &p->servers[i], defaults);
	}
}

static void build_user(struct build *b, const struct value *v, struct conf_pool *p, struct conf_user *u)
{
	static const char *const no_parts[] = {NULL};
	const struct scope *s = scope_get(SCOPE_USER);
	struct seen seen = {0};

	u->pos = v->pos;
	value_defaults(s, u, b->arena);
	if (v->kind != VALUE_GROUP) {
		u->name = "";
		build_error(b, v->pos, "users: expected a group { name = ...; }, got %s", value_kind_text(v));
		return;
	}
	build_keys(b, v, &(struct target){s, u, &seen}, 1, no_parts);
	check_pool_user(b, u, &seen);
	for (const struct conf_user *o = p->users; o < u; o++)
		if (*u->name && strcmp(o->name, u->name) == 0)
			build_error(b, u->pos, "name: the user \"%.60s\" is already on line %d", u->name,
				    o->pos.line);
}

static void build_users(struct build *b, const struct value *group, struct conf_pool *p)
{
	size_t n;
	const struct value *v = build_elements(b, group, "users", true, CONF_USERS_MAX, &n);

	p->users = conf_arena_array(b->arena, n, sizeof(*p->users));
	p->n_users = n;
	p->users_pos = build_pos(group, "users");
	for (size_t i = 0; i < n; i++)
		build_user(b, &v[i], p, &p->users[i]);
}

/* Whoever knows the protocol complains about keys that don't fit it, and wants to say where. */
static const struct conf_pos *build_places(struct build *b, const struct seen *s)
{
	struct conf_pos *at = conf_arena_array(b->arena, K_POOL_COUNT, sizeof(*at));

	memcpy(at, s->at, K_POOL_COUNT * sizeof(*at));
	return at;
}

static void build_pool(struct build *b, const struct value *v, struct conf_pool *p)
{
	static const char *const parts[] = {"listen", "servers", "users", NULL};
	const struct scope *pool = scope_get(SCOPE_POOL), *server = scope_get(SCOPE_SERVER);
	struct seen own = {0}, defaults = {0};

	p->pos = v->pos;
	value_defaults(pool, p, b->arena);
	value_defaults(server, &p->defaults, b->arena);
	if (v->kind != VALUE_GROUP) {
		p->name = "";
		build_error(b, v->pos, "pools: expected a group { name = ...; }, got %s", value_kind_text(v));
		return;
	}
	build_keys(b, v, (const struct target[]){{pool, p, &own}, {server, &p->defaults, &defaults}}, 2, parts);
	build_listeners(b, v, p);
	build_servers(b, v, p, &defaults);
	build_credential_of(b, p, &own);
	build_users(b, v, p);
	p->at = build_places(b, &own);
	check_pool(b, p, &own, &defaults);
	for (const struct conf_pool *o = b->conf->pools; o < p; o++)
		if (*p->name && strcmp(o->name, p->name) == 0)
			build_error(b, p->pos, "name: the pool \"%s\" is already on line %d", p->name, o->pos.line);
}

static void build_pools(struct build *b, const struct value *root)
{
	size_t n, errors = b->errors->n;
	const struct value *v = build_elements(b, root, "pools", false, CONF_POOLS_MAX, &n);

	if (n == 0 && b->errors->n == errors)
		build_error(b, (struct conf_pos){b->conf->file, 0},
			    "pools: missing; there must be one pool at least");
	b->conf->pools = conf_arena_array(b->arena, n, sizeof(*b->conf->pools));
	b->conf->n_pools = n;
	for (size_t i = 0; i < n; i++)
		build_pool(b, &v[i], &b->conf->pools[i]);
}

void build_conf(struct build *b, const struct value *root)
{
	static const char *const parts[] = {"admin", "log", "limits", "tcp", "dns", "credentials", "pools", NULL};
	const struct scope *top = scope_get(SCOPE_TOP);
	struct seen seen = {0};

	value_defaults(top, b->conf, b->arena);
	build_keys(b, root, &(struct target){top, b->conf, &seen}, 1, parts);
	check_top(b, &seen);
	build_fixed_groups(b, root);
	build_credentials(b, root);
	build_pools(b, root);
	check_addresses(b);
}
