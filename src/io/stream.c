/*
 * stream: a socket and two libevent events; see stream.h.
 *
 *	DIALING --writable--> OPEN ---------------------+--> CLOSED --end of turn--> slab
 *	   |                                            |
 *	   +--refused--> FAILED ------------------------+
 *	OPEN --libevent can't watch it--> SICK ---------+
 *
 * An immediate result of connect() is made an active event, so it comes after the caller has returned. A closed stream
 * has no event any more, also none of those that the running turn has already collected, and its memory lives until the
 * turn ends: an event can meet neither a freed stream nor the next owner of its descriptor's number.
 */
#include "io/stream.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "io/io_private.h"

enum stream_state { STREAM_DIALING, STREAM_OPEN, STREAM_SICK, STREAM_IS_FAILED, STREAM_CLOSED };

struct stream {
	int fd; /* -1: no socket could be made */
	uint8_t state, want, family, err;
	struct loop *loop;
	stream_fn *fn;
	union {
		void *arg;
		struct stream *next_dead;
	};
	union { /* compact: half the memory of a struct addr, four times less than a Unix one */
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct addr *un; /* a dialled Unix socket's; NULL: an accepted one has no name */
	} peer;
	struct event er, *ew; /* ew: NULL while nobody has waited to write, which most clients never make necessary */
};

static void stream_on_read(evutil_socket_t fd, short what, void *arg)
{
	struct stream *s = arg;

	(void)fd;
	(void)what;
	loop_enter(s->loop);
	s->fn(s->arg, STREAM_READABLE);
}

static void stream_on_write(evutil_socket_t fd, short what, void *arg);

/* ---- life ---- */

void stream_slab_init(struct slab *s, size_t keep)
{
	slab_init(s, sizeof(struct stream), keep);
}

static struct event *stream_ew(struct stream *s)
{
	if (!s->ew) {
		s->ew = NEW(struct event);
		BUG_ON(event_assign(s->ew, s->loop->base, s->fd, EV_WRITE | EV_PERSIST, stream_on_write, s) < 0);
	}
	return s->ew;
}

static void stream_stop_writing(struct stream *s)
{
	if (s->ew)
		event_del(s->ew);
}

static struct stream *stream_new(struct loop *l, int fd, const struct addr *peer)
{
	struct stream *s = slab_get(&l->streams);

	s->fd = fd;
	s->loop = l;
	s->family = peer->len ? (uint8_t)peer->u.sa.sa_family : AF_UNSPEC;
	if (s->family == AF_INET)
		s->peer.in = peer->u.in;
	else if (s->family == AF_INET6)
		s->peer.in6 = peer->u.in6;
	BUG_ON(event_assign(&s->er, l->base, fd, EV_READ | EV_PERSIST, stream_on_read, s) < 0);
	return s;
}

struct stream *stream_accepted(struct loop *l, int fd, const struct addr *peer)
{
	struct stream *s = stream_new(l, fd, peer);

	s->state = STREAM_OPEN;
	return s;
}

void stream_close(struct stream **ps)
{
	struct stream *s = *ps;

	if (!s)
		return;
	*ps = NULL;
	BUG_ON(s->state == STREAM_CLOSED);
	event_del(&s->er);
	stream_stop_writing(s);
	if (s->ew)
		loop_free_later(s->loop, s->ew);
	s->ew = NULL;
	if (s->fd >= 0)
		close(s->fd);
	if (s->family == AF_UNIX)
		mem_free(s->peer.un);
	s->fd = -1;
	s->state = STREAM_CLOSED;
	s->next_dead = s->loop->dead_streams;
	s->loop->dead_streams = s;
}

void stream_abort(struct stream **ps)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};

	if (*ps && (*ps)->fd >= 0)
		setsockopt((*ps)->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	stream_close(ps);
}

void stream_free_dead(struct loop *l)
{
	struct stream *s;

	while ((s = l->dead_streams) != NULL) {
		l->dead_streams = s->next_dead;
		slab_put(&l->streams, s);
	}
}

int stream_fd(const struct stream *s)
{
	return s->fd;
}

/* ---- what it waits for ---- */

/*
 * libevent can't watch the socket (no kernel memory): both ways are shut, so that reading what is left ends in EOF and
 * writing fails, and the owner is called until it has closed.
 */
static void stream_on_sick(evutil_socket_t fd, short what, void *arg)
{
	struct stream *s = arg;

	(void)fd;
	(void)what;
	loop_enter(s->loop);
	s->fn(s->arg, s->want & STREAM_WANT_READ ? STREAM_READABLE : STREAM_WRITABLE);
	if (s->state == STREAM_SICK && s->want)
		event_active(&s->er, EV_READ, 0);
}

static void stream_sicken(struct stream *s)
{
	log_at(LOG_LV_ERROR, "stream.unwatchable", L_ERR(err_from_errno(errno)));
	event_del(&s->er);
	stream_stop_writing(s);
	shutdown(s->fd, SHUT_RDWR);
	s->state = STREAM_SICK;
	BUG_ON(event_assign(&s->er, s->loop->base, -1, 0, stream_on_sick, s) < 0);
}

/* Makes libevent watch what `want` says, coming from `had`. What is added goes first: one epoll_ctl fewer. */
static void stream_apply(struct stream *s, unsigned had)
{
	unsigned on = s->want & ~had, off = had & ~s->want;
	int bad = 0;

	if (s->state == STREAM_OPEN) {
		if (on & STREAM_WANT_READ)
			bad |= event_add(&s->er, NULL);
		if (on & STREAM_WANT_WRITE)
			bad |= event_add(stream_ew(s), NULL);
		if (off & STREAM_WANT_READ)
			bad |= event_del(&s->er);
		if (off & STREAM_WANT_WRITE)
			stream_stop_writing(s);
		if (bad)
			stream_sicken(s);
	}
	if (s->state == STREAM_SICK && s->want)
		event_active(&s->er, EV_READ, 0);
}

void stream_want(struct stream *s, unsigned want)
{
	unsigned had = s->want;

	if (want == had)
		return;
	s->want = (uint8_t)want;
	stream_apply(s, had);
}

unsigned stream_wants(const struct stream *s)
{
	return s->want;
}

void stream_set_handler(struct stream *s, stream_fn *fn, void *arg)
{
	s->fn = fn;
	s->arg = arg;
}

/* ---- dial ---- */

static void tcp_opt(int fd, int level, int name, int value)
{
	/* A socket without it still works: kernels and policies differ in what they allow. */
	if (value > 0)
		setsockopt(fd, level, name, &value, sizeof(value));
}

void tcp_opts_apply(int fd, const struct tcp_opts *o)
{
	tcp_opt(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (o->keepalive) {
		tcp_opt(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
		tcp_opt(fd, IPPROTO_TCP, TCP_KEEPIDLE, o->keepalive_idle_s);
		tcp_opt(fd, IPPROTO_TCP, TCP_KEEPINTVL, o->keepalive_interval_s);
		tcp_opt(fd, IPPROTO_TCP, TCP_KEEPCNT, o->keepalive_count);
	}
	tcp_opt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, o->user_timeout_ms);
}

/* The result is delivered as an event of its own, not from inside the caller's call. */
static void stream_post_result(struct stream *s, enum err e)
{
	s->err = (uint8_t)e;
	event_active(stream_ew(s), EV_WRITE, 0);
}

/* EAGAIN is a Unix socket's full backlog: like a host that doesn't answer, not like one that refuses. */
static enum err stream_dial_error(int sys_errno)
{
	if (sys_errno == ENOENT)
		return ERR_REFUSED; /* no such Unix socket: nobody listens */
	return sys_errno == EAGAIN ? ERR_UNREACHABLE : err_from_errno(sys_errno);
}

struct stream *stream_dial(struct loop *l, const struct addr *to, const struct tcp_opts *o, stream_fn *fn, void *arg)
{
	int family = to->u.sa.sa_family;
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int why = errno;
	struct stream *s = stream_new(l, fd, to);

	s->state = STREAM_DIALING;
	s->want = STREAM_WANT_READ;
	s->fn = fn;
	s->arg = arg;
	if (family == AF_UNIX) {
		s->peer.un = NEW(struct addr);
		*s->peer.un = *to;
	}
	if (fd < 0) {
		stream_post_result(s, err_from_errno(why));
		return s;
	}
	if (family != AF_UNIX)
		tcp_opts_apply(fd, o);
	if (connect(fd, &to->u.sa, to->len) == 0)
		stream_post_result(s, ERR_OK);
	else if (errno != EINPROGRESS && errno != EINTR)
		stream_post_result(s, stream_dial_error(errno));
	else if (event_add(stream_ew(s), NULL) < 0)
		stream_post_result(s, ERR_NO_MEMORY);
	return s;
}

/*
 * A dial to a free port of this machine may be given that very port as its own and so connect to itself (a simultaneous
 * open). It would hear its own words from a server that isn't there.
 */
static bool stream_is_loop_to_self(const struct stream *s)
{
	struct addr own = {.len = sizeof(own.u)}, peer;

	if (s->family == AF_UNIX || getsockname(s->fd, &own.u.sa, &own.len) < 0)
		return false;
	stream_peer(s, &peer);
	return addr_equal(&own, &peer);
}

static enum err stream_dial_result(const struct stream *s)
{
	int e = 0;
	socklen_t n = sizeof(e);

	if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &e, &n) < 0)
		e = errno;
	if (e)
		return stream_dial_error(e);
	return stream_is_loop_to_self(s) ? ERR_REFUSED : ERR_OK;
}

static void stream_dialled(struct stream *s)
{
	enum err e = s->err;

	if (e == ERR_OK)
		e = stream_dial_result(s);
	if (e != ERR_OK) {
		stream_stop_writing(s);
		s->err = (uint8_t)e;
		s->state = STREAM_IS_FAILED;
		s->fn(s->arg, STREAM_FAILED);
		return;
	}
	s->state = STREAM_OPEN;
	stream_apply(s, STREAM_WANT_NONE);
	if (!(s->want & STREAM_WANT_WRITE))
		stream_stop_writing(s);
	s->fn(s->arg, STREAM_CONNECTED);
}

static void stream_on_write(evutil_socket_t fd, short what, void *arg)
{
	struct stream *s = arg;

	(void)fd;
	(void)what;
	loop_enter(s->loop);
	if (s->state == STREAM_DIALING)
		stream_dialled(s);
	else
		s->fn(s->arg, STREAM_WRITABLE);
}

/* ---- bytes ---- */

enum err stream_error(const struct stream *s)
{
	return s->err;
}

void stream_fail(struct stream *s, int sys_errno)
{
	s->err = (uint8_t)err_from_errno(sys_errno);
}

/* Turns what a system call has said into a result. Calls with nothing to do would look like EOF: a bug of the caller. */
static enum err stream_no_bytes(struct stream *s, ssize_t r, size_t asked)
{
	BUG_ON(asked == 0 || s->fd < 0);
	if (r == 0)
		return ERR_EOF;
	if (errno == EAGAIN)
		return ERR_AGAIN;
	stream_fail(s, errno);
	return s->err;
}

enum err stream_read(struct stream *s, void *p, size_t cap, size_t *n)
{
	ssize_t r;

	do
		r = recv(s->fd, p, cap, 0);
	while (r < 0 && errno == EINTR);
	*n = r > 0 ? (size_t)r : 0;
	return r > 0 ? ERR_OK : stream_no_bytes(s, r, cap);
}

enum err stream_write(struct stream *s, const void *p, size_t len, size_t *n)
{
	ssize_t r;

	do
		r = send(s->fd, p, len, MSG_NOSIGNAL);
	while (r < 0 && errno == EINTR);
	*n = r > 0 ? (size_t)r : 0;
	return r > 0 ? ERR_OK : stream_no_bytes(s, r, len);
}

enum err stream_writev(struct stream *s, const struct iovec *iov, int cnt, size_t *n)
{
	struct msghdr m = {.msg_iovlen = (size_t)cnt};
	ssize_t r;

	/* sendmsg() only reads what it is given. */
	memcpy(&m.msg_iov, &iov, sizeof(iov));
	do
		r = sendmsg(s->fd, &m, MSG_NOSIGNAL);
	while (r < 0 && errno == EINTR);
	*n = r > 0 ? (size_t)r : 0;
	return r > 0 ? ERR_OK : stream_no_bytes(s, r, (size_t)cnt);
}

enum err stream_peek(struct stream *s)
{
	char byte;
	ssize_t r;

	do
		r = recv(s->fd, &byte, 1, MSG_PEEK);
	while (r < 0 && errno == EINTR);
	return r > 0 ? ERR_OK : stream_no_bytes(s, r, 1);
}

void stream_shutdown(struct stream *s)
{
	/* It fails only when the peer has gone already, which the next read tells. */
	if (s->state == STREAM_OPEN)
		shutdown(s->fd, SHUT_WR);
}

/* ---- peer ---- */

void stream_peer(const struct stream *s, struct addr *out)
{
	*out = (struct addr){.len = 0};
	if (s->family == AF_INET) {
		out->u.in = s->peer.in;
		out->len = sizeof(out->u.in);
	} else if (s->family == AF_INET6) {
		out->u.in6 = s->peer.in6;
		out->len = sizeof(out->u.in6);
	} else if (s->family == AF_UNIX) {
		out->u.sa.sa_family = AF_UNIX;
		out->len = sizeof(out->u.sa.sa_family);
		if (s->peer.un)
			*out = *s->peer.un;
	}
}

enum err stream_peer_uid(const struct stream *s, uint32_t *uid, uint32_t *pid)
{
	struct ucred c;
	socklen_t n = sizeof(c);

	if (s->family != AF_UNIX)
		return ERR_NOT_FOUND;
	if (getsockopt(s->fd, SOL_SOCKET, SO_PEERCRED, &c, &n) < 0)
		return err_from_errno(errno);
	*uid = c.uid;
	*pid = (uint32_t)c.pid;
	return ERR_OK;
}
