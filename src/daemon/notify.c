#include "daemon/notify.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

/* A watchdog that asks for more than this is answered this often. */
#define NOTIFY_WATCHDOG_MIN_US 30000

static bool notify_send(struct notify *n, const char *text)
{
	size_t len = strlen(text);

	if (n->fd < 0)
		return true;
	return sendto(n->fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL, &n->to.u.sa, n->to.len) == (ssize_t)len;
}

static int64_t notify_watchdog_us(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	int64_t us = usec ? strtoll(usec, NULL, 10) : 0;

	if (us <= 0 || (pid && strtol(pid, NULL, 10) != getpid()))
		return 0;
	return us < NOTIFY_WATCHDOG_MIN_US ? NOTIFY_WATCHDOG_MIN_US : us;
}

void notify_open(struct notify *n)
{
	const char *path = getenv("NOTIFY_SOCKET");
	size_t len = path ? strlen(path) : 0;

	*n = (struct notify){.fd = -1};
	if (len < 2 || (path[0] != '/' && path[0] != '@'))
		return;
	if (len >= sizeof(n->to.u.un.sun_path)) {
		log_text(LOG_LV_WARNING, "notify.open", "NOTIFY_SOCKET is too long");
		return;
	}
	n->to.u.un.sun_family = AF_UNIX;
	memcpy(n->to.u.un.sun_path, path, len);
	if (path[0] == '@')
		n->to.u.un.sun_path[0] = '\0';
	n->to.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	n->watchdog_us = notify_watchdog_us();
}

void notify_close(struct notify *n)
{
	if (n->fd >= 0)
		close(n->fd);
	n->fd = -1;
}

void notify_ready(struct notify *n)
{
	n->ready_pending = !notify_send(n, "READY=1");
}

void notify_retry(struct notify *n)
{
	if (n->ready_pending)
		notify_ready(n);
}

void notify_reloading(struct notify *n)
{
	struct timespec ts;
	char text[64];

	clock_gettime(CLOCK_MONOTONIC, &ts);
	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRId64,
		 ts.tv_sec * INT64_C(1000000) + ts.tv_nsec / 1000);
	if (!notify_send(n, text))
		log_text(LOG_LV_DEBUG, "notify.lost", "the service manager does not read");
}

void notify_stopping(struct notify *n)
{
	n->ready_pending = false;
	if (!notify_send(n, "STOPPING=1"))
		log_text(LOG_LV_DEBUG, "notify.lost", "the service manager does not read");
}

void notify_watchdog(struct notify *n)
{
	if (!notify_send(n, "WATCHDOG=1"))
		log_text(LOG_LV_DEBUG, "notify.lost", "the service manager does not read");
}

void notify_status(struct notify *n, const char *fmt, ...)
{
	char text[256] = "STATUS=";
	va_list ap;

	if (n->fd < 0)
		return;
	va_start(ap, fmt);
	vsnprintf(text + 7, sizeof(text) - 7, fmt, ap);
	va_end(ap);
	if (!notify_send(n, text))
		log_text(LOG_LV_DEBUG, "notify.lost", "the service manager does not read");
}
