/*
 * probe: leased -T: resolves, connects to, logs in to and checks every server of the configuration, and says how it went.
 *
 * One line per address: `pool server address: ok (dial 0.3 ms, login 0.8 ms, ready check 0.2 ms)`, or what failed.
 * Credentials are loaded first, as the daemon would; one that fails has a line of its own. All servers at a time; a server's
 * addresses one after the other. A loop of its own, no pool, no listener.
 */
#ifndef LEASED_DAEMON_PROBE_H
#define LEASED_DAEMON_PROBE_H

#include <stdio.h>

#include "daemon/setup.h"

/* ERR_OK: all is well; ERR_ALL_DOWN: something isn't; ERR_OS: no descriptors. */
enum err probe_servers(const struct setup *s, FILE *out) MUST_CHECK;

#endif
