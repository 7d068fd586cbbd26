/* status: /status.json, the snapshot of pools, servers, connections, waiters and limits as JSON. Control thread. */
#ifndef LEASED_DAEMON_STATUS_H
#define LEASED_DAEMON_STATUS_H

#include "daemon/snapshot.h"

/* The text is mem_free()d by the caller. full: with "connections" and "client_list", if the snapshots have them. */
char *status_json(const struct snap_process *p, struct snap *const *v, size_t n, bool full);
/* {"error": text} or {"result": text}. */
char *status_error(const char *text);
char *status_result(const char *text);
const char *status_library_version(void);

#endif
