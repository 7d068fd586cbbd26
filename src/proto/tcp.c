/* tcp: the operator's scripts as dialogues; nothing else to know. */
#include "proto/tcp.h"

#include "base/mem.h"

struct proto_conf {
	struct tcp_conf tcp;
};

/* Private state of one upstream. */
struct tcp_up {
	struct script_run run;
};

static const struct script *tcp_script(const struct proto_conf *c, enum proto_dialogue d)
{
	switch (d) {
	case PROTO_LOGIN:
		return c->tcp.login;
	case PROTO_PING:
		return c->tcp.health_check;
	case PROTO_CLEAN:
		return c->tcp.ready_check;
	case PROTO_REAUTH:
		break;
	}
	return NULL;
}

static enum proto_verdict tcp_verdict(enum script_verdict v)
{
	switch (v) {
	case SCRIPT_MORE:
		return PROTO_MORE;
	case SCRIPT_DONE:
		return PROTO_DONE;
	case SCRIPT_DENIED:
		return PROTO_DENIED;
	case SCRIPT_FAILED:
		break;
	}
	return PROTO_FAILED;
}

static enum proto_verdict tcp_begin(void *up, enum proto_dialogue d, const struct proto_conf *c,
				    const struct script_cred *cred, struct blocks *blocks, struct buf *out)
{
	const struct script *s = tcp_script(c, d);
	struct tcp_up *u = up;

	BUG_ON(u->run.script);
	if (!s)
		return PROTO_DONE;
	return tcp_verdict(script_start(&u->run, s, blocks, cred, out));
}

static enum proto_verdict tcp_feed(void *up, const uint8_t *p, size_t n, const struct script_cred *cred,
				   struct buf *out)
{
	struct tcp_up *u = up;

	return tcp_verdict(script_feed(&u->run, p, n, cred, out));
}

static void tcp_end(void *up)
{
	struct tcp_up *u = up;

	script_stop(&u->run);
}

static bool tcp_has(const struct proto_conf *c, enum proto_dialogue d)
{
	return tcp_script(c, d) != NULL;
}

static enum proto_return tcp_on_return(const struct proto_conf *c)
{
	return c->tcp.on_return;
}

const struct proto proto_tcp = {
	.name = "tcp",
	.caps = PROTO_CAP_SERVER_FIRST,
	.up_bytes = sizeof(struct tcp_up),
	.begin = tcp_begin,
	.feed = tcp_feed,
	.end = tcp_end,
	.has = tcp_has,
	.on_return = tcp_on_return,
};

struct proto_conf *tcp_conf_new(const struct tcp_conf *c)
{
	struct proto_conf *p = NEW(struct proto_conf);

	/* A clean connection without a way to find out would be a guess. */
	BUG_ON(c->on_return == PROTO_RETURN_CLEAN && !c->ready_check);
	p->tcp = *c;
	return p;
}

void tcp_conf_free(struct proto_conf **c)
{
	mem_free(*c);
	*c = NULL;
}
