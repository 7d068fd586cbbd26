/*
 * child: posix_spawn(3), two pipes and a pidfd.
 *
 *	RUNNING --time, too much, end early--> ASKED (SIGTERM) --grace--> KILLED (SIGKILL)
 *	   |  \--standard output closed--> SILENT --grace--> ASKED ...       |
 *	   +----------------- pidfd readable: reaped ------------------------+--> ENDED --> ended()
 */
#include "io/child.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/secret.h"
#include "io/io_private.h"

#define DRAIN_READS  64	 /* after the end: more than a pipe holds */
#define REAP_WAIT_MS 100 /* a killed process that takes longer (a dead file server) stays a zombie until we end */

enum child_state { CHILD_RUNNING, CHILD_SILENT, CHILD_ASKED, CHILD_KILLED, CHILD_ENDED };

struct pipe_end {
	struct child *child;
	int fd;
	struct event er;
	void (*fn)(void *arg, const char *p, size_t n);
};

struct child {
	struct loop *loop;
	const struct child_events *ev;
	void *arg;
	enum child_state state;
	bool closed;
	pid_t pid; /* 0: could not be started, or reaped */
	int pidfd;
	struct event exits;
	struct pipe_end out, err;
	size_t n_out, out_max;
	struct timer deadline;
	struct task report;
	enum err why; /* it did not end by itself */
	struct child_end end;
};

/* ---- ending ---- */

static void pipe_close(struct pipe_end *p)
{
	if (p->fd < 0)
		return;
	event_del(&p->er);
	close(p->fd);
	p->fd = -1;
}

static void child_signal(struct child *c, int signo)
{
	/* Until it is reaped the group's number can't be anybody else's. */
	if (c->pid > 0)
		kill(-c->pid, signo);
}

static void child_deadline(void *arg)
{
	struct child *c = arg;

	if (c->state < CHILD_ASKED) {
		child_end_early(c, c->state == CHILD_SILENT ? ERR_SOURCE_FAILED : ERR_SOURCE_TIMEOUT);
		return;
	}
	c->state = CHILD_KILLED;
	child_signal(c, SIGKILL);
}

void child_end_early(struct child *c, enum err why)
{
	if (c->state >= CHILD_ASKED)
		return;
	c->why = why;
	c->state = CHILD_ASKED;
	child_signal(c, SIGTERM);
	timer_set(c->loop, &c->deadline, loop_now_us(c->loop) + CHILD_GRACE_US);
}

static void child_report(void *arg)
{
	struct child *c = arg;

	c->ev->ended(c->arg, &c->end);
}

static void child_reap(struct child *c)
{
	siginfo_t info = {.si_pid = 0};
	int got;

	child_signal(c, SIGKILL);
	do
		got = waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOHANG);
	while (got < 0 && errno == EINTR);
	c->pid = 0;
	if (got == 0 && info.si_pid && info.si_code == CLD_EXITED)
		c->end.status = info.si_status;
	else if (got == 0 && info.si_pid)
		c->end.signo = info.si_status;
	c->end.err = c->why != ERR_OK ? c->why : c->end.status == 0 ? ERR_OK : ERR_SOURCE_FAILED;
}

static void child_stop_watching(struct child *c)
{
	timer_stop(c->loop, &c->deadline);
	pipe_close(&c->out);
	pipe_close(&c->err);
	if (c->pidfd >= 0) {
		event_del(&c->exits);
		close(c->pidfd);
		c->pidfd = -1;
	}
}

/* ---- reading ---- */

static void child_fell_silent(struct child *c)
{
	int64_t at_us = loop_now_us(c->loop) + CHILD_GRACE_US;

	if (heap_has(&c->deadline.due) && c->deadline.due.at_us < at_us)
		return;
	c->state = CHILD_SILENT;
	timer_set(c->loop, &c->deadline, at_us);
}

/* False: nothing more for now, or ever. */
static bool pipe_read_once(struct pipe_end *p)
{
	struct child *c = p->child;
	char *room = loop_scratch(c->loop);
	ssize_t got;

	do
		got = read(p->fd, room, LOOP_SCRATCH_BYTES);
	while (got < 0 && errno == EINTR);
	if (got < 0 && errno == EAGAIN)
		return false;
	if (got <= 0) {
		pipe_close(p);
		if (p == &c->out && c->state == CHILD_RUNNING)
			child_fell_silent(c);
		return false;
	}
	if (p == &c->out)
		c->n_out += (size_t)got;
	if (p == &c->out && c->out_max && c->n_out > c->out_max) {
		child_end_early(c, ERR_TOO_BIG);
		if (c->why == ERR_OK)
			c->why = ERR_TOO_BIG;
		pipe_close(p);
	} else {
		p->fn(c->arg, room, (size_t)got);
	}
	secret_wipe(room, (size_t)got);
	return !c->closed && p->fd >= 0;
}

static void pipe_on_read(evutil_socket_t fd, short what, void *arg)
{
	struct pipe_end *p = arg;

	(void)fd;
	(void)what;
	loop_enter(p->child->loop);
	pipe_read_once(p);
}

/* Everybody who could write is dead, so this is soon empty. */
static void pipe_drain(struct pipe_end *p)
{
	for (int i = 0; i < DRAIN_READS && p->fd >= 0 && pipe_read_once(p); i++)
		;
}

static void child_on_exit(evutil_socket_t fd, short what, void *arg)
{
	struct child *c = arg;

	(void)fd;
	(void)what;
	loop_enter(c->loop);
	/* First of all, so that nobody of its group goes on writing. */
	child_reap(c);
	c->state = CHILD_ENDED;
	pipe_drain(&c->out);
	if (!c->closed)
		pipe_drain(&c->err);
	if (c->closed)
		return;
	if (c->why != ERR_OK)
		c->end.err = c->why;
	child_stop_watching(c);
	c->ev->ended(c->arg, &c->end);
}

/* ---- starting ---- */

static bool pipe_open(struct pipe_end *p, int *child_side)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC) < 0)
		return false;
	p->fd = fd[0];
	*child_side = fd[1];
	return event_assign(&p->er, p->child->loop->base, fd[0], EV_READ | EV_PERSIST, pipe_on_read, p) == 0 &&
	       fcntl(fd[0], F_SETFL, O_NONBLOCK) == 0;
}

/* The daemon blocks and ignores signals; the child starts with none blocked and all as they are by default. */
static int child_attributes(posix_spawnattr_t *a)
{
	sigset_t none, all;

	sigemptyset(&none);
	sigfillset(&all);
	return posix_spawnattr_setpgroup(a, 0) || posix_spawnattr_setsigmask(a, &none) ||
	       posix_spawnattr_setsigdefault(a, &all) ||
	       posix_spawnattr_setflags(a, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

static int child_spawn(struct child *c, const struct child_opts *o, int out, int err)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	int bad;

	if (posix_spawn_file_actions_init(&files) != 0)
		return ENOMEM;
	if (posix_spawnattr_init(&attr) != 0) {
		posix_spawn_file_actions_destroy(&files);
		return ENOMEM;
	}
	bad = child_attributes(&attr) || posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0) ||
	      posix_spawn_file_actions_adddup2(&files, out, 1) || posix_spawn_file_actions_adddup2(&files, err, 2) ||
	      posix_spawn_file_actions_addclosefrom_np(&files, 3);
	/* exec() takes them as they are; its type is older than const. */
	bad = bad ? ENOMEM
		  : posix_spawn(&c->pid, o->argv[0], &files, &attr, (char *const *)(uintptr_t)o->argv,
				(char *const *)(uintptr_t)o->envp);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return bad;
}

static int child_watch(struct child *c)
{
	c->pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
	if (c->pidfd < 0)
		return errno;
	if (event_assign(&c->exits, c->loop->base, c->pidfd, EV_READ, child_on_exit, c) < 0 ||
	    event_add(&c->exits, NULL) < 0 || event_add(&c->out.er, NULL) < 0 || event_add(&c->err.er, NULL) < 0)
		return ENOMEM;
	return 0;
}

static int child_open(struct child *c, const struct child_opts *o)
{
	int out = -1, err = -1, bad = 0;

	if (!pipe_open(&c->out, &out) || !pipe_open(&c->err, &err))
		bad = errno ? errno : ENOMEM;
	if (!bad)
		bad = child_spawn(c, o, out, err);
	if (bad)
		c->pid = 0;
	if (out >= 0)
		close(out);
	if (err >= 0)
		close(err);
	return bad ? bad : child_watch(c);
}

/* Kills what was started and waits for it, but not for ever. */
static void child_end_now(struct child *c)
{
	struct pollfd p = {.fd = c->pidfd, .events = POLLIN};

	if (c->pid <= 0)
		return;
	child_signal(c, SIGKILL);
	if (c->pidfd >= 0)
		poll(&p, 1, REAP_WAIT_MS);
	child_reap(c);
}

static enum err child_errno(int sys_errno)
{
	enum err e = err_from_errno(sys_errno);

	if (sys_errno == ENOENT || sys_errno == ENOTDIR)
		return ERR_NOT_FOUND;
	return e == ERR_PERMISSION || e == ERR_NO_FDS || e == ERR_NO_MEMORY ? e : ERR_OS;
}

struct child *child_start(struct loop *l, const struct child_opts *o, const struct child_events *ev, void *arg)
{
	struct child *c = NEW(struct child);
	int bad;

	*c = (struct child){.loop = l, .ev = ev, .arg = arg, .pidfd = -1, .out_max = o->out_max};
	c->out = (struct pipe_end){.child = c, .fd = -1, .fn = ev->out};
	c->err = (struct pipe_end){.child = c, .fd = -1, .fn = ev->err};
	c->end = (struct child_end){.status = -1};
	timer_init(&c->deadline, child_deadline, c);
	task_init(&c->report, child_report, c);
	errno = 0;
	bad = child_open(c, o);
	if (bad) {
		child_end_now(c);
		child_stop_watching(c);
		c->state = CHILD_ENDED;
		c->end = (struct child_end){.err = child_errno(bad), .status = -1};
		loop_post(l, &c->report);
	} else if (o->timeout_us > 0) {
		timer_set(l, &c->deadline, loop_now_us(l) + o->timeout_us);
	}
	return c;
}

void child_close(struct child **pc)
{
	struct child *c = *pc;

	if (!c)
		return;
	*pc = NULL;
	child_end_now(c);
	child_stop_watching(c);
	loop_unpost(c->loop, &c->report);
	c->closed = true;
	loop_free_later(c->loop, c);
}
