/*
 * redis: RESP2 and RESP3 as Redis 5 to 8 and Valkey speak it.
 *
 *	resp.c      where messages begin and end: incremental, without allocation
 *	command.c   the table of commands: what each does to the connection that carries it
 *	client.c    what a client's request is: answered here (answer.c) or passed
 *	server.c    what is said ahead of a request, what a reply does, what holds a connection
 *	login.c     the dialogues: login, ping, re-authentication, cleaning
 *
 * The client never meets the server's login: AUTH and HELLO end here. SELECT, CLIENT SETNAME and the RESP version are
 * kept for each client and applied to a connection when it is lent. Commands that change the connection in a way that can't
 * be carried over hold it, with a reason (PIN_ rows of errors.def). What would change what is held by a transaction (AUTH, HELLO,
 * SUBSCRIBE ... inside MULTI) is refused, and so is then the transaction.
 *
 * What a client says to be sent in a request that is refused here is never seen by a server. CLIENT REPLY is kept here: the server
 * answers everything. RESET gives the connection back. WAIT and replication need a connection of the client's own.
 *
 * Limits: a request has at most RESP_ARGS_MAX arguments of 512 MiB, an inline one 16 KiB; a string of a reply 1 GiB, an
 * aggregate 2^29 - 1 elements, 128 levels. Anything bigger, or malformed, ends the connection it came from.
 *
 * Facts: redis.io/docs/reference/protocol-spec, and the command table of Redis 7.
 */
#ifndef LEASED_PROTO_REDIS_REDIS_H
#define LEASED_PROTO_REDIS_REDIS_H

#include "proto/proto.h"

/* Somebody who may use the pool. */
struct redis_user {
	const char *name;	       /* "default" is the one of a one-argument AUTH */
	const struct secret *password; /* NULL: only by uid */
	int64_t uid;		       /* a Unix socket's peer that needs no password; -1: none */
};

/* Nothing is copied. */
struct redis_conf {
	const struct redis_user *users; /* n_users 0: everybody, with or without AUTH */
	size_t n_users;
	/* Commands clients may not use: names ("FLUSHALL", "CONFIG SET") or categories of the server's ACL ("@dangerous"). */
	const char *const *deny;
	size_t n_deny;
	/* Commands of modules that change nothing about the connection; "*" at the end stands for the rest of a name. All
	 * other unknown ones hold it until the client leaves. */
	const char *const *plain;
	size_t n_plain;
	/* A connection is its client's own for life (mode "session"): replication and WAIT make sense then. */
	bool dedicated;
};

extern const struct proto proto_redis;

/* *bad: the entry of deny that is neither a command nor a category, in which case NULL is returned. */
struct proto_conf *redis_conf_new(const struct redis_conf *c, const char **bad);
void redis_conf_free(struct proto_conf **c);

#endif
