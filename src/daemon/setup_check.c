#include <stdio.h>

#include "base/mem.h"
#include "base/units.h"
#include "conf/keys.h"
#include "daemon/limits.h"
#include "daemon/setup.h"

/* The last choice of `mode` in keys.def. */
#define SETUP_MODE_REQUEST 2

/* What the checks of one configuration share. */
struct setup_checker {
	const struct conf *conf;
	struct conf_messages *errors, *warnings;
	size_t found;
};

#define setup_error(k, pos, ...)                                                                                     \
	do {                                                                                                         \
		conf_messages_add((k)->errors, (pos), __VA_ARGS__);                                                  \
		(k)->found++;                                                                                        \
	} while (0)

/* Where a key is written or, without it, its pool. */
static struct conf_pos setup_pos(const struct conf_pool *p, int key)
{
	return p->at[key].file ? p->at[key] : p->pos;
}

static void setup_check_protocol(struct setup_checker *k, const struct conf_pool *p)
{
	const char *near = NULL;
	int best = 3;

	if (proto_find(p->protocol))
		return;
	for (const char *const *n = proto_names(); *n; n++) {
		int d = str_distance(p->protocol, *n, 2);

		if (d < best) {
			best = d;
			near = *n;
		}
	}
	if (near)
		setup_error(k, setup_pos(p, K_POOL_protocol),
			    "protocol: unknown protocol \"%s\" (did you mean \"%s\"?)", p->protocol, near);
	else
		setup_error(k, setup_pos(p, K_POOL_protocol), "protocol: unknown protocol \"%s\"", p->protocol);
}

/* Compiles a script to see whether it does. login: the one script that may use the credential. */
static void setup_check_script(struct setup_checker *k, const struct conf_pool *p, const struct conf_script *s,
			       const char *key, bool login)
{
	struct script_step *steps = mem_alloc((s->n + 1) * sizeof(*steps));
	struct script *script = NULL;
	const char *why = NULL;
	size_t bad = 0;

	for (size_t i = 0; i < s->n; i++)
		steps[i] = (struct script_step){s->v[i].send, s->v[i].expect, s->v[i].expect_denied, s->v[i].end};
	if (s->n > 0 && script_compile(steps, s->n, &script, &bad, &why) != ERR_OK) {
		setup_error(k, bad < s->n ? s->v[bad].pos : s->pos, "%s: step %zu: %s", key, bad + 1, why);
	} else if (script && script_needs_credential(script)) {
		if (!login)
			setup_error(k, s->pos, "%s: only login may use ${username} and ${password}", key);
		else if (!p->credential)
			setup_error(k, s->pos,
				    "%s: uses ${username} or ${password}, but the pool has no \"credentials\"", key);
	}
	script_free(&script);
	mem_free(steps);
}

/* The protocols that know requests; none: an empty text. */
static const char *setup_suggest_talk(char *out, size_t cap)
{
	size_t used = 0;

	out[0] = '\0';
	for (const char *const *n = proto_names(); *n && used < cap; n++)
		if (proto_find(*n)->talk)
			used += (size_t)snprintf(out + used, cap - used, "%s \"%s\"",
						 used ? " or" : " (did you mean protocol =", *n);
	if (used > 0 && used < cap)
		snprintf(out + used, cap - used, "?)");
	return out;
}

/* What only a protocol that knows requests can do. */
static void setup_check_opaque(struct setup_checker *k, const struct conf_pool *p)
{
	char suggestion[120];
	const struct {
		bool given;
		struct conf_pos pos;
		const char *key, *why;
	} keys[] = {
		{p->mode != 0, setup_pos(p, K_POOL_mode), "mode",
		 "a client keeps its connection until it leaves, mode = \"session\""},
		{p->n_users > 0, p->users_pos, "users", "clients can't log in; see allow_uid of a listener"},
		{p->deny_commands.n > 0, setup_pos(p, K_POOL_deny_commands), "deny_commands", "it knows no commands"},
		{p->safe_commands.n > 0, setup_pos(p, K_POOL_safe_commands), "safe_commands", "it knows no commands"},
	};

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (keys[i].given)
			setup_error(k, keys[i].pos, "%s: not with protocol \"%s\": %s%s", keys[i].key, p->protocol,
				    keys[i].why, setup_suggest_talk(suggestion, sizeof(suggestion)));
	if (p->credential && p->login.n == 0)
		conf_messages_add(k->warnings, p->pos,
				  "warning: credentials: not used, the pool has no login script");
}

/* Such a protocol logs in, checks and cleans connections itself. */
static void setup_check_talks(struct setup_checker *k, const struct conf_pool *p)
{
	const struct {
		bool given;
		int key;
		const char *name, *why;
	} keys[] = {
		{p->login.n > 0, K_POOL_login, "login", "logs in by itself, with \"credentials\""},
		{p->health_check.n > 0, K_POOL_health_check, "health_check", "checks connections by itself"},
		{p->ready_check.n > 0, K_POOL_ready_check, "ready_check", "checks connections by itself"},
		{p->reuse != 0, K_POOL_reuse, "reuse", "knows when a connection can be lent again"},
	};
	const char *bad = "";

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (keys[i].given)
			setup_error(k, p->at[keys[i].key], "%s: for protocol \"tcp\" only; %s %s (remove the key)",
				    keys[i].name, p->protocol, keys[i].why);
	if (!setup_commands_known(p, &bad))
		setup_error(k, p->at[K_POOL_deny_commands],
			    "deny_commands: \"%.60s\" is neither a command nor a category", bad);
	if (p->multiplex_connections > 1 && p->mode != SETUP_MODE_REQUEST)
		conf_messages_add(k->warnings, p->at[K_POOL_multiplex_connections],
				  "warning: multiplex_connections: has no effect without mode = \"request\"");
}

static void setup_check_pool(struct setup_checker *k, const struct conf_pool *p)
{
	const struct proto *proto = proto_find(p->protocol);

	setup_check_protocol(k, p);
	if (proto && proto->talk)
		setup_check_talks(k, p);
	else if (proto)
		setup_check_opaque(k, p);
	setup_check_script(k, p, &p->login, "login", true);
	setup_check_script(k, p, &p->health_check, "health_check", false);
	setup_check_script(k, p, &p->ready_check, "ready_check", false);
}

/* Connections kept ready are not evicted for another pool's sake: together they must leave it something. */
static void setup_check_min_idle(struct setup_checker *k, const struct limits *l, struct conf_pos pos)
{
	const struct conf *c = k->conf;
	int64_t idle = 0;

	for (size_t i = 0; i < c->n_pools; i++)
		for (size_t n = 0; n < c->pools[i].n_servers; n++)
			idle += c->pools[i].servers[n].min_idle;
	if (c->n_pools > 1 && idle >= l->max_upstream)
		conf_messages_add(k->warnings, pos,
				  "warning: min_idle: the %lld connections kept ready in all leave nothing of the %d "
				  "upstream connections the process may have",
				  (long long)idle, l->max_upstream);
}

static void setup_check_top(struct setup_checker *k)
{
	const struct conf *c = k->conf;
	struct conf_pos file = {.file = c->file, .line = 0};
	struct limits l = {0};
	char *why = NULL;

	limits_raise(&l);
	if (!limits_plan(&l, c, &why))
		setup_error(k, file, "limits: %s", why);
	else
		setup_check_min_idle(k, &l, file);
	mem_free(why);
}

bool setup_check(const struct conf *c, struct conf_messages *errors, struct conf_messages *warnings)
{
	struct setup_checker k = {.conf = c, .errors = errors, .warnings = warnings};

	setup_check_top(&k);
	for (size_t i = 0; i < c->n_pools; i++)
		setup_check_pool(&k, &c->pools[i]);
	return k.found == 0;
}
