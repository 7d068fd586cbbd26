/* signal: see signal.h. */
#include "io/signal.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "io/io_private.h"

struct signals {
	struct loop *loop;
	signals_fn *fn;
	void *arg;
	int fd;
	bool closed;
	struct event er;
};

static void signals_on_read(evutil_socket_t fd, short what, void *arg)
{
	struct signals *s = arg;
	struct signalfd_siginfo info;

	(void)what;
	loop_enter(s->loop);
	while (!s->closed && read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		s->fn(s->arg, (int)info.ssi_signo);
}

struct signals *signals_open(struct loop *l, const int *signos, size_t n, signals_fn *fn, void *arg)
{
	struct signals *s;
	sigset_t set;
	int fd;

	sigemptyset(&set);
	for (size_t i = 0; i < n; i++)
		sigaddset(&set, signos[i]);
	fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (fd < 0)
		return NULL;
	s = NEW(struct signals);
	*s = (struct signals){.loop = l, .fn = fn, .arg = arg, .fd = fd};
	if (event_assign(&s->er, l->base, fd, EV_READ | EV_PERSIST, signals_on_read, s) < 0 ||
	    event_add(&s->er, NULL) < 0) {
		close(fd);
		mem_free(s);
		return NULL;
	}
	BUG_ON(pthread_sigmask(SIG_BLOCK, &set, NULL) != 0);
	return s;
}

void signals_close(struct signals **ps)
{
	struct signals *s = *ps;

	if (!s)
		return;
	*ps = NULL;
	event_del(&s->er);
	close(s->fd);
	s->closed = true;
	loop_free_later(s->loop, s);
}
