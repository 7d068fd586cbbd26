/*
 * setup: the configuration translated into what services are made of.
 *
 *	struct conf --setup_check()--> errors, or nothing
 *	struct conf --setup_new()----> struct setup: scripts compiled, credentials taken, one service_opts per pool
 *
 * The layers below the daemon don't know the configuration, and it doesn't know them: protocols, scripts and limits are
 * checked here, as the last part of conf_load(). A setup is immutable once made, is read by every worker, and outlives
 * all services. It keeps pointers into the configuration, which must outlive it.
 */
#ifndef LEASED_DAEMON_SETUP_H
#define LEASED_DAEMON_SETUP_H

#include "conf/conf.h"
#include "cred/cred.h"
#include "serve/service.h"

struct setup_pool {
	const struct conf_pool *conf;
	struct service_opts opts;
	struct script *login, *health_check, *ready_check; /* NULL: none */
	struct proto_conf *proto_conf;
	struct cred *cred; /* NULL: none */
	struct service_server *servers;
	struct service_listener *listeners;
};

struct setup {
	const struct conf *conf;
	struct setup_pool *pools;
	size_t n_pools;
};

/* A conf_check_fn. */
bool setup_check(const struct conf *c, struct conf_messages *errors, struct conf_messages *warnings);

/* The configuration must have passed setup_check(). Listeners of kind ADDR_SYSTEMD get their fd later (activate.h). */
struct setup *setup_new(const struct conf *c);
void setup_free(struct setup **s);
size_t setup_listeners(const struct conf *c);

#endif
