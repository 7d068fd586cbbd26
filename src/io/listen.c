/*
 * listen: bind, accept, and what to do when descriptors run out; see listen.h.
 *
 *	OPEN --EMFILE: one client shed through the spare--> WAITING --LISTEN_RETRY_US--> OPEN
 *	OPEN --EMFILE, but some got in since the last time--> WAITING --LISTEN_RETRY_SOON_US--> OPEN
 *
 * While it waits, or is paused, libevent doesn't watch the socket: clients stay in the backlog and cost nothing.
 */
#include "io/listen.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "io/io_private.h"

#define LISTEN_BACKLOG	    4096
#define LISTEN_LOG_EVERY_US 1000000

struct listener {
	struct loop *loop;
	listen_fn *fn;
	void *arg;
	int fd;
	int spare; /* given up for a moment to accept and close a client when there are no others */
	bool paused, waiting, closed;
	bool accepted; /* somebody, since the last wait */
	struct event er;
	struct timer retry;
	int64_t next_log_us;
	uint64_t shed; /* clients, since the last line */
	struct addr addr;
	dev_t dev; /* of the socket file it made */
	ino_t ino;
	bool made;
};

static _Thread_local char listen_why[256];

static enum err listen_fail(const char **why, enum err e, const char *what)
{
	if (why) {
		snprintf(listen_why, sizeof(listen_why), "%s", what);
		*why = listen_why;
	}
	return e;
}

static enum err listen_fail_errno(const char **why, const char *what)
{
	enum err e = err_from_errno(errno);

	if (why) {
		snprintf(listen_why, sizeof(listen_why), "%s: %s", what, strerrordesc_np(errno));
		*why = listen_why;
	}
	return e == ERR_OK || e == ERR_AGAIN ? ERR_OS : e;
}

/* ---- accepting ---- */

static void listener_complain(struct listener *s, int sys_errno)
{
	int64_t now_us = loop_now_us(s->loop);
	char text[ADDR_TEXT_MAX];

	if (now_us < s->next_log_us)
		return;
	s->next_log_us = now_us + LISTEN_LOG_EVERY_US;
	addr_format(&s->addr, text, sizeof(text));
	log_at(LOG_LV_WARNING, "listen.accept", L_STR("listener", text), L_ERR(err_from_errno(sys_errno)),
	       L_INT("errno", sys_errno), L_INT("shed", s->shed));
	s->shed = 0;
}

static void listener_wait(struct listener *s)
{
	s->waiting = true;
	timer_set(s->loop, &s->retry, loop_now_us(s->loop) + (s->accepted ? LISTEN_RETRY_SOON_US : LISTEN_RETRY_US));
	s->accepted = false;
}

static void listener_watch(struct listener *s)
{
	if (s->closed)
		return;
	if (s->paused || s->waiting) {
		event_del(&s->er);
	} else if (event_add(&s->er, NULL) < 0) {
		listener_complain(s, errno);
		listener_wait(s);
	}
}

static void listener_spare(struct listener *s)
{
	if (s->spare < 0)
		s->spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* The client sees its connection closed at once instead of silence. */
static void listener_shed(struct listener *s)
{
	int fd;

	if (s->spare < 0)
		return;
	close(s->spare);
	s->spare = -1;
	fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0) {
		s->shed++;
		close(fd);
	}
	listener_spare(s);
}

/* Descriptors that come and go let a queue of clients in piece by piece: as long as some get in, it is soon tried again. */
static void listener_back_off(struct listener *s, int sys_errno)
{
	if (!s->accepted && (sys_errno == EMFILE || sys_errno == ENFILE))
		listener_shed(s);
	listener_complain(s, sys_errno);
	listener_wait(s);
	listener_watch(s);
}

/* One client's own bad luck: it, or the network, or a firewall gave it up before we came. The next one may be fine. */
static bool listen_is_passing(int sys_errno)
{
	switch (sys_errno) {
	case EINTR:
	case ECONNABORTED:
	case EPROTO:
	case EPERM:
	case ENETDOWN:
	case ENOPROTOOPT:
	case EHOSTDOWN:
	case ENONET:
	case EHOSTUNREACH:
	case EOPNOTSUPP:
	case ENETUNREACH:
		return true;
	default:
		return false;
	}
}

static void listener_accept(struct listener *s)
{
	for (int i = 0; i < LISTEN_BATCH && !s->closed && !s->paused; i++) {
		struct addr peer = {.len = sizeof(peer.u)};
		int fd = accept4(s->fd, &peer.u.sa, &peer.len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			s->accepted = true;
			s->fn(s->arg, stream_accepted(s->loop, fd, &peer));
		} else if (errno == EAGAIN) {
			return;
		} else if (!listen_is_passing(errno)) {
			listener_back_off(s, errno);
			return;
		}
	}
}

static void listener_on_client(evutil_socket_t fd, short what, void *arg)
{
	struct listener *s = arg;

	(void)fd;
	(void)what;
	loop_enter(s->loop);
	listener_accept(s);
}

static void listener_on_retry(void *arg)
{
	struct listener *s = arg;

	s->waiting = false;
	listener_spare(s);
	listener_watch(s);
	listener_accept(s);
}

void listener_pause(struct listener *s, bool paused)
{
	if (s->paused == paused)
		return;
	s->paused = paused;
	listener_watch(s);
}

/* ---- life ---- */

void listener_addr(const struct listener *s, struct addr *out)
{
	*out = s->addr;
}

static void listener_unlink(struct listener *s)
{
	struct stat st;

	if (s->made && lstat(s->addr.u.un.sun_path, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino)
		unlink(s->addr.u.un.sun_path);
}

void listener_close(struct listener **ps)
{
	struct listener *s = *ps;

	if (!s)
		return;
	*ps = NULL;
	BUG_ON(s->closed);
	s->closed = true;
	if (event_initialized(&s->er)) /* not yet when it could not be published */
		event_del(&s->er);
	timer_stop(s->loop, &s->retry);
	listener_unlink(s);
	close(s->fd);
	if (s->spare >= 0)
		close(s->spare);
	loop_free_later(s->loop, s);
}

static struct listener *listener_new(struct loop *l, int fd, listen_fn *fn, void *arg)
{
	struct listener *s = NEW(struct listener);

	*s = (struct listener){.loop = l, .fn = fn, .arg = arg, .fd = fd, .spare = -1};
	s->addr.len = sizeof(s->addr.u);
	if (getsockname(fd, &s->addr.u.sa, &s->addr.len) < 0)
		s->addr.len = 0;
	timer_init(&s->retry, listener_on_retry, s);
	listener_spare(s);
	return s;
}

/* Starts to watch; gives the descriptor and the listener up when that fails. */
static enum err listener_start(struct listener *s, struct listener **out, const char **why)
{
	if (s->spare >= 0 &&
	    event_assign(&s->er, s->loop->base, s->fd, EV_READ | EV_PERSIST, listener_on_client, s) == 0 &&
	    event_add(&s->er, NULL) == 0) {
		*out = s;
		return ERR_OK;
	}
	listener_close(&s);
	return listen_fail(why, ERR_NO_FDS, "cannot be watched: out of file descriptors");
}

/* ---- sockets ---- */

static bool listen_is_any6(const struct addr *a)
{
	return a->u.sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&a->u.in6.sin6_addr);
}

/* "All addresses" means the v4 ones where the system has no v6. */
static int listen_socket(struct addr *a)
{
	int type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
	int fd = socket(a->u.sa.sa_family, type, 0);

	if (fd < 0 && errno == EAFNOSUPPORT && listen_is_any6(a)) {
		in_port_t port = a->u.in6.sin6_port;

		*a = (struct addr){.len = sizeof(a->u.in)};
		a->u.in.sin_family = AF_INET;
		a->u.in.sin_port = port;
		fd = socket(AF_INET, type, 0);
	}
	return fd;
}

/* Linux hands these down to accepted sockets: one call here instead of five for each client. */
static void listen_tcp_options(int fd, const struct addr *a, const struct listen_opts *o)
{
	int on = 1, off = 0;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (listen_is_any6(a))
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	tcp_opts_apply(fd, &o->tcp);
}

static int listen_backlog(const struct listen_opts *o)
{
	return o->backlog > 0 ? o->backlog : LISTEN_BACKLOG;
}

static enum err listen_bind_tcp(int fd, const struct addr *a, const struct listen_opts *o, const char **why)
{
	listen_tcp_options(fd, a, o);
	if (bind(fd, &a->u.sa, a->len) < 0)
		return listen_fail_errno(why, "bind");
	if (listen(fd, listen_backlog(o)) < 0)
		return listen_fail_errno(why, "listen");
	return ERR_OK;
}

/* ---- Unix sockets ---- */

/* A file is in the way. Nobody behind it: it is removed. ERR_OK: bind again. */
static enum err listen_clear_stale(const struct addr *a, const char **why)
{
	const char *path = a->u.un.sun_path;
	struct stat st;
	int fd, e;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? ERR_OK : listen_fail_errno(why, "stat");
	if (!S_ISSOCK(st.st_mode))
		return listen_fail(why, ERR_CANT_CREATE, "a file that is no socket is in the way");
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return listen_fail_errno(why, "socket");
	e = connect(fd, &a->u.sa, a->len) == 0 ? 0 : errno;
	close(fd);
	if (e != ECONNREFUSED && e != ENOENT)
		return listen_fail(why, ERR_CANT_CREATE, "another process listens on it");
	if (e == ECONNREFUSED && unlink(path) < 0)
		return listen_fail_errno(why, "unlink");
	return ERR_OK;
}

/*
 * The file's mode is the socket's mode less the umask, so nobody else can open it before the mode, the owner and the
 * group that are asked for are set; and nobody can connect before listen(). This has the effect of umask(0177) without
 * touching what other threads create meanwhile.
 */
static enum err listen_bind_unix(int fd, const struct addr *a, const char **why)
{
	const char *path = a->u.un.sun_path;
	enum err e;

	if (fchmod(fd, 0600) < 0)
		return listen_fail_errno(why, "fchmod");
	if (bind(fd, &a->u.sa, a->len) < 0) {
		if (errno != EADDRINUSE || path[0] == '\0')
			return listen_fail_errno(why, "bind");
		e = listen_clear_stale(a, why);
		if (e != ERR_OK)
			return e;
		if (bind(fd, &a->u.sa, a->len) < 0)
			return listen_fail_errno(why, "bind");
	}
	return ERR_OK;
}

static enum err listen_publish_unix(struct listener *s, const struct listen_opts *o, const char **why)
{
	const char *path = s->addr.u.un.sun_path;
	struct stat st;

	if (path[0] != '\0') {
		if (lstat(path, &st) < 0)
			return listen_fail_errno(why, "stat");
		s->dev = st.st_dev;
		s->ino = st.st_ino;
		s->made = true;
		if ((o->uid >= 0 || o->gid >= 0) && lchown(path, (uid_t)o->uid, (gid_t)o->gid) < 0)
			return listen_fail_errno(why, "chown");
		if (o->mode != 0 && chmod(path, o->mode) < 0)
			return listen_fail_errno(why, "chmod");
	}
	if (listen(s->fd, listen_backlog(o)) < 0)
		return listen_fail_errno(why, "listen");
	return ERR_OK;
}

/* ---- opening ---- */

enum err listener_open(struct loop *l, const struct addr *a, const struct listen_opts *o, listen_fn *fn, void *arg,
		       struct listener **out, const char **why)
{
	struct addr where = *a;
	int fd = listen_socket(&where);
	bool is_unix = where.u.sa.sa_family == AF_UNIX;
	struct listener *s;
	enum err e;

	*out = NULL;
	if (fd < 0)
		return listen_fail_errno(why, "socket");
	e = is_unix ? listen_bind_unix(fd, &where, why) : listen_bind_tcp(fd, &where, o, why);
	if (e != ERR_OK) {
		close(fd);
		return e;
	}
	s = listener_new(l, fd, fn, arg);
	if (is_unix) {
		s->addr = where;
		e = listen_publish_unix(s, o, why);
		if (e != ERR_OK) {
			listener_close(&s);
			return e;
		}
	}
	return listener_start(s, out, why);
}

static int listen_option(int fd, int name)
{
	int v = -1;
	socklen_t n = sizeof(v);

	return getsockopt(fd, SOL_SOCKET, name, &v, &n) < 0 ? -1 : v;
}

enum err listener_adopt(struct loop *l, int fd, const struct listen_opts *o, listen_fn *fn, void *arg,
			struct listener **out, const char **why)
{
	int domain = listen_option(fd, SO_DOMAIN), flags;

	*out = NULL;
	if (domain < 0)
		return listen_fail(why, ERR_CONFIG, "the descriptor passed in is not a socket");
	if (listen_option(fd, SO_TYPE) != SOCK_STREAM)
		return listen_fail(why, ERR_CONFIG, "the socket passed in is not a stream socket");
	if (listen_option(fd, SO_ACCEPTCONN) != 1)
		return listen_fail(why, ERR_CONFIG, "the socket passed in does not listen");
	if (domain != AF_INET && domain != AF_INET6 && domain != AF_UNIX)
		return listen_fail(why, ERR_CONFIG, "the socket passed in is neither IPv4, IPv6 nor Unix");
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return listen_fail_errno(why, "fcntl");
	if (domain != AF_UNIX)
		tcp_opts_apply(fd, &o->tcp);
	return listener_start(listener_new(l, fd, fn, arg), out, why);
}
