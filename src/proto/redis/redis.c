/* redis: the module's face; see redis.h. */
#include "proto/redis/redis_private.h"

/* What a connection that is not the client's own for life is worth after use is told by server_leave(). */
static enum proto_return redis_on_return(const struct proto_conf *c)
{
	(void)c;
	return PROTO_RETURN_CLEAN;
}

static bool redis_has(const struct proto_conf *c, enum proto_dialogue d)
{
	(void)c;
	(void)d;
	return true;
}

static void redis_attach(void *up, const struct proto_conf *c, void *pool)
{
	struct redis_up *u = up;

	(void)c;
	u->pool = pool;
}

static const struct proto_talk redis_talk = {
	.client_bytes = sizeof(struct redis_client),
	.pool_bytes = sizeof(struct redis_pool),
	.greet = client_greet,
	.client_end = client_end,
	.from_client = client_ask,
	.client_more = client_more,
	.pass = server_pass,
	.from_server = server_reply,
	.held = server_held,
	.may_reauth = server_may_reauth,
	.leave = server_leave,
	.fail = client_fail,
	.reauth = server_reauth,
	.reauth_verdict = server_reauth_verdict,
};

const struct proto proto_redis = {
	.name = "redis",
	.caps = PROTO_CAP_REAUTH | PROTO_CAP_REAUTH_KEEPS,
	.up_bytes = sizeof(struct redis_up),
	.talk = &redis_talk,
	.attach = redis_attach,
	.error_text = login_error_text,
	.begin = login_begin,
	.feed = login_feed,
	.end = login_end,
	.has = redis_has,
	.on_return = redis_on_return,
};

struct proto_conf *redis_conf_new(const struct redis_conf *c, const char **bad)
{
	struct proto_conf *p = NEW(struct proto_conf);

	*bad = NULL;
	p->is = *c;
	command_table_init(&p->commands, &p->is);
	for (size_t i = 0; i < c->n_deny; i++) {
		if (!command_deny(&p->commands, c->deny[i])) {
			*bad = c->deny[i];
			redis_conf_free(&p);
			return NULL;
		}
	}
	return p;
}

void redis_conf_free(struct proto_conf **c)
{
	if (!*c)
		return;
	command_table_done(&(*c)->commands);
	mem_free(*c);
	*c = NULL;
}
