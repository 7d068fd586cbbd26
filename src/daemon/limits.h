/*
 * limits: how the process's descriptors are shared out between clients, upstream connections and everything else.
 *
 *	|<----------------------------- RLIMIT_NOFILE, soft raised to hard ------------------------------>|
 *	|  ours   | listeners | max_clients | 16 admin |             upstream budget              | left  |
 *	|<--------------- reserved ------------------->|
 *
 * Ours are LIMITS_OURS, or what the process, its workers and the spares of its listeners need if that is more.
 *
 * The default of max_clients gives way when descriptors are few; what an operator has written either fits or is an error
 * that names the figures. The limit may be lowered while we run (prlimit): limits_recheck() then lowers the budget, and
 * idle connections are evicted. Control thread only.
 */
#ifndef LEASED_DAEMON_LIMITS_H
#define LEASED_DAEMON_LIMITS_H

#include "conf/conf.h"
#include "pool/permit.h"

#define LIMITS_OURS    50 /* files, loops, name servers, pipes */
#define LIMITS_PROCESS 16 /* of these: streams, files, the control thread */
#define LIMITS_WORKER  5  /* a worker's loop and mailbox; its name servers come on top */
#define LIMITS_ADMIN   16 /* admin connections */

struct limits {
	int64_t nofile, hard; /* -1: not known */
	int64_t reserved;     /* ours + listeners + max_clients + LIMITS_ADMIN */
	int max_clients;
	int max_upstream;
	int64_t asked_upstream; /* limits.max_upstream as configured */
	bool lowered;		/* max_clients is less than its default */
};

/* Raises the soft limit to the hard one, then reads both. */
void limits_raise(struct limits *l);
/*
 * Shares out l->nofile. Returns false when what is written can't fit; *why then is a text for people (mem_free() it).
 */
bool limits_plan(struct limits *l, const struct conf *c, char **why);
/* Reads the limit again and adjusts the budget if it changed. */
void limits_recheck(struct limits *l, struct budget *b);
void limits_log(const struct limits *l);

#endif
