/*
 * tcp: the opaque protocol. Its dialogues are the operator's scripts; its bytes are nobody's business.
 */
#ifndef LEASED_PROTO_TCP_H
#define LEASED_PROTO_TCP_H

#include "proto/proto.h"

struct tcp_conf {
	const struct script *login, *health_check, *ready_check; /* NULL: none; not owned */
	enum proto_return on_return;				 /* "never" | "on_idle" | "script" */
};

extern const struct proto proto_tcp;

struct proto_conf *tcp_conf_new(const struct tcp_conf *c);
void tcp_conf_free(struct proto_conf **c);

#endif
