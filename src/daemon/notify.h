/*
 * notify: what we tell the service manager (sd_notify's protocol: one datagram to $NOTIFY_SOCKET).
 *
 * Sent without ever blocking: a manager that doesn't read loses lines. READY=1 alone is kept and sent again by
 * notify_retry() until it went through. Without $NOTIFY_SOCKET everything here does nothing. Control thread only.
 */
#ifndef LEASED_DAEMON_NOTIFY_H
#define LEASED_DAEMON_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"

struct notify {
	int fd; /* -1: nobody to tell */
	struct addr to;
	int64_t watchdog_us; /* 0: no watchdog wanted */
	bool ready_pending;
};

void notify_open(struct notify *n);
void notify_close(struct notify *n);
void notify_ready(struct notify *n);
void notify_retry(struct notify *n);
void notify_reloading(struct notify *n); /* notify_ready() ends it */
void notify_stopping(struct notify *n);
void notify_watchdog(struct notify *n);
void notify_status(struct notify *n, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
