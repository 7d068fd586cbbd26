/*
 * setup: the configuration translated into what services are made of.
 *
 *	struct conf --setup_check()--> errors, or nothing
 *	struct conf --setup_new()----> struct setup: scripts compiled, users taken, one service_opts per pool
 *
 * The layers below the daemon don't know the configuration, and it doesn't know them: protocols, scripts and limits are
 * checked here, as the last part of conf_load(). A setup is immutable once made, is read by every worker, and outlives
 * all services. It keeps pointers into the configuration, which must outlive it.
 */
#ifndef LEASED_DAEMON_SETUP_H
#define LEASED_DAEMON_SETUP_H

#include "conf/conf.h"
#include "cred/credential.h"
#include "serve/service.h"

#define SETUP_NONE SIZE_MAX

struct setup_pool {
	const struct conf_pool *conf;
	size_t credential; /* index into the setup's credentials; SETUP_NONE */
	struct service_opts opts;
	struct script *login, *health_check, *ready_check; /* NULL: none */
	struct proto_conf *proto_conf;
	void *users; /* what proto_conf points to; NULL: none */
	struct service_server *servers;
	struct service_listener *listeners;
};

struct setup {
	const struct conf *conf;
	struct setup_pool *pools;
	size_t n_pools;
	const struct conf_credential **credentials; /* those that pools use */
	size_t n_credentials;
};

/* A conf_check_fn. */
bool setup_check(const struct conf *c, struct conf_messages *errors, struct conf_messages *warnings);

/* The configuration must have passed setup_check(). Listeners of kind ADDR_SYSTEMD get their fd later (activate.h). */
struct setup *setup_new(const struct conf *c);
void setup_free(struct setup **s);
/* False: the protocol does not know *bad, an entry of deny_commands. */
bool setup_commands_known(const struct conf_pool *p, const char **bad);
const char *setup_mode_name(const struct conf_pool *p);
size_t setup_listeners(const struct conf *c);
/* What the i-th credential is made of; `fixed` is the caller's. */
struct credential_opts setup_credential_opts(const struct setup *s, size_t i);

#endif
