/* io_help: what the tests of io share: one loop with a guard, streams that record what happens to them. */
#ifndef LEASED_TESTS_IO_HELP_H
#define LEASED_TESTS_IO_HELP_H

#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/io_private.h"
#include "io/listen.h"

#define GUARD_US INT64_C(10000000)
#define WAIT_FOR(cond)                                                                                               \
	do {                                                                                                         \
		while (!(cond))                                                                                      \
			loop_run(loop);                                                                              \
	} while (0)

static struct loop *loop;
static struct timer guard;

/* One end of a connection, and what came. Every event stops the loop, so that WAIT_FOR() can look. */
struct end {
	struct stream *s;
	int connected, failed, readable, writable;
	bool inside;	/* a call is running: no event may come */
	bool auto_read; /* read what comes */
	size_t got;
	enum err last; /* of the last read */
	char head[64];
};

static inline void guard_fire(void *arg)
{
	(void)arg;
	ck_abort_msg("nothing happened for too long");
}

static inline void io_set_up(void)
{
	signal(SIGPIPE, SIG_IGN);
	loop = loop_new();
	ck_assert_ptr_nonnull(loop);
	timer_init(&guard, guard_fire, NULL);
	timer_set(loop, &guard, loop_now_us(loop) + GUARD_US);
}

static inline void io_tear_down(void)
{
	timer_stop(loop, &guard);
	loop_free(&loop);
	ck_assert_ptr_null(loop);
}

static inline void stop_task(void *arg)
{
	(void)arg;
	loop_stop(loop);
}

/* One turn that doesn't wait. */
static inline void turn(void)
{
	struct task t;

	task_init(&t, stop_task, NULL);
	loop_post(loop, &t);
	loop_run(loop);
}

/* Runs the loop for a while: for tests that show that nothing happens. */
static inline void run_for(int64_t us)
{
	struct timer t;

	timer_init(&t, stop_task, NULL);
	timer_set(loop, &t, loop_now_us(loop) + us);
	while (heap_has(&t.due))
		loop_run(loop);
}

static inline void end_read(struct end *e)
{
	size_t n;

	e->last = stream_read(e->s, loop_scratch(loop), LOOP_SCRATCH_BYTES, &n);
	if (e->got < sizeof(e->head))
		memcpy(e->head + e->got, loop_scratch(loop),
		       n < sizeof(e->head) - e->got ? n : sizeof(e->head) - e->got);
	e->got += n;
	if (e->last != ERR_OK && e->last != ERR_AGAIN)
		stream_want(e->s, STREAM_WANT_NONE);
}

static inline void end_event(void *arg, enum stream_event ev)
{
	struct end *e = arg;

	ck_assert(!e->inside);
	ck_assert_ptr_nonnull(e->s);
	e->connected += ev == STREAM_CONNECTED;
	e->failed += ev == STREAM_FAILED;
	e->readable += ev == STREAM_READABLE;
	e->writable += ev == STREAM_WRITABLE;
	if (ev == STREAM_READABLE && e->auto_read)
		end_read(e);
	loop_stop(loop);
}

static inline void end_dial(struct end *e, const struct addr *to)
{
	static const struct tcp_opts o = {true, 11, 12, 3, 14000};

	*e = (struct end){.inside = true, .auto_read = true};
	e->s = stream_dial(loop, to, &o, end_event, e);
	e->inside = false;
	ck_assert_ptr_nonnull(e->s);
	ck_assert_int_eq(e->connected + e->failed, 0);
}

static inline void end_take(struct end *e, int fd)
{
	struct addr a = {.len = sizeof(a.u)};

	ck_assert_int_eq(getpeername(fd, &a.u.sa, &a.len), 0);
	*e = (struct end){.auto_read = true};
	e->s = stream_accepted(loop, fd, &a);
	stream_set_handler(e->s, end_event, e);
}

/* A listening socket on loopback with no listener behind it. */
static inline int raw_listen(struct addr *a, int family)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*a = (struct addr){.len = family == AF_INET ? sizeof(a->u.in) : sizeof(a->u.in6)};
	a->u.sa.sa_family = (sa_family_t)family;
	if (family == AF_INET)
		a->u.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		a->u.in6.sin6_addr = in6addr_loopback;
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(bind(fd, &a->u.sa, a->len), 0);
	ck_assert_int_eq(listen(fd, 16), 0);
	ck_assert_int_eq(getsockname(fd, &a->u.sa, &a->len), 0);
	return fd;
}

/* Both ends of a TCP connection as streams. */
static inline void tcp_pair(struct end *a, struct end *b)
{
	struct addr at;
	int l = raw_listen(&at, AF_INET), fd;

	end_dial(a, &at);
	WAIT_FOR(a->connected);
	fd = accept4(l, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	end_take(b, fd);
	close(l);
}

static inline void unix_pair(struct end *a, struct end *b)
{
	int fd[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
	end_take(a, fd[0]);
	end_take(b, fd[1]);
}

static inline size_t end_write(struct end *e, const char *text)
{
	size_t n;

	ck_assert_int_eq(stream_write(e->s, text, strlen(text), &n), ERR_OK);
	return n;
}

static inline int open_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* No descriptor beyond those that are open now plus `more`; returns the old limit. */
static inline rlim_t limit_fds(int more)
{
	struct rlimit rl;
	rlim_t was;
	int top = 0;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &rl), 0);
	was = rl.rlim_cur;
	for (int fd = 0; fd < 1024; fd++)
		if (fcntl(fd, F_GETFD) < 0 && more-- == 0) {
			top = fd;
			break;
		}
	rl.rlim_cur = (rlim_t)top;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &rl), 0);
	return was;
}

static inline void unlimit_fds(rlim_t was)
{
	struct rlimit rl;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &rl), 0);
	rl.rlim_cur = was;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &rl), 0);
}

#endif
