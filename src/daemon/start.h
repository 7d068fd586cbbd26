/*
 * start: from a command line to a running daemon, and back to nothing.
 *
 *	daemonize, harden, secret arena -> configuration -> log, limits -> pid file, workers, listeners, admin
 *	-> drop to user -> threads -> ready -> control_run() -> everything closed and freed
 *
 * Secrets come after the forks (locked memory is not inherited), listeners before the user is dropped, threads after it.
 */
#ifndef LEASED_DAEMON_START_H
#define LEASED_DAEMON_START_H

#include "conf/conf.h"
#include "daemon/options.h"

/*
 * Prepares the process for secrets and loads the configuration, with messages on stderr. Returns an exit code; 0: *out
 * is the configuration. Warnings go to stderr too, or to *warnings if that is not NULL (free them). The options' overrides,
 * which may hold a password, are wiped and gone afterwards.
 */
int start_load(struct options *o, struct conf **out, struct conf_messages *warnings);

/* Runs the daemon; returns its exit code. */
int start_run(struct options *o);

#endif
