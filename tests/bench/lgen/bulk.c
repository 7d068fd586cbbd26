/* bulk: streams that download or upload a number of bytes each; the time is that of all of them together. */
#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "lgen.h"

static uint8_t buf[1 << 18];
static int running;

static void stream_end(struct conn *c, bool failed)
{
	n_errors += failed;
	running--;
	conn_close(c);
}

static void stream_send(struct conn *c)
{
	ssize_t r = send(c->fd, buf, c->need < sizeof(buf) ? c->need : sizeof(buf), MSG_NOSIGNAL);

	if (r < 0 && errno != EAGAIN) {
		stream_end(c, true);
		return;
	}
	if (r > 0) {
		c->need -= (uint64_t)r;
		n_done += (uint64_t)r;
	}
	if (c->need == 0) /* now the server's confirmation */
		loop_watch(EPOLL_CTL_MOD, c->fd, EPOLLIN, c);
}

static void stream_receive(struct conn *c)
{
	ssize_t r;

	if (opts.upload) {
		r = recv(c->fd, buf, 1, 0);
		stream_end(c, r != 1);
		return;
	}
	r = recv(c->fd, buf, sizeof(buf), MSG_TRUNC);
	if (r <= 0) {
		stream_end(c, true);
		return;
	}
	n_done += (uint64_t)r;
	c->need -= (uint64_t)r < c->need ? (uint64_t)r : c->need;
	if (c->need == 0)
		stream_end(c, false);
}

static void stream_open(struct conn *c)
{
	struct pollfd p;

	conn_dial(c);
	p = (struct pollfd){.fd = c->fd, .events = POLLOUT};
	if (poll(&p, 1, 2000) != 1)
		die("no connection");
}

/* Redis: a value of the size. Our server: 16 bytes, D or U, the size, a line feed. */
static void stream_start(struct conn *c)
{
	unsigned long long bytes = opts.bytes;
	char request[300];

	loop_watch(EPOLL_CTL_MOD, c->fd, opts.upload ? EPOLLIN | EPOLLOUT : EPOLLIN, c);
	if (opts.proto == PROTO_REDIS) {
		conn_write(c, request, proto_request((uint8_t *)request, sizeof(request)));
		c->need = bytes + (uint64_t)snprintf(request, sizeof(request), "$%llu\r\n\r\n", bytes);
		return;
	}
	snprintf(request, sizeof(request), "%c%014llu\n", opts.upload ? 'U' : 'D', bytes);
	conn_write(c, request, 16);
	c->need = bytes;
}

int bulk_run(void)
{
	struct conn *conns = calloc((size_t)opts.conns, sizeof(*conns));
	struct epoll_event ev[64];
	uint64_t end;

	if (!conns)
		die("out of memory");
	loop_new();
	running = opts.conns;
	opts.spread = false;
	for (int i = 0; i < opts.conns; i++)
		stream_open(&conns[i]);
	sample_start();
	end = sample_start_ns() + (uint64_t)(opts.secs * 1e9);
	for (int i = 0; i < opts.conns; i++)
		stream_start(&conns[i]);
	while (running > 0 && now_ns() < end) {
		int n = epoll_wait(loop_fd(), ev, 64, 100);

		for (int i = 0; i < n; i++) {
			struct conn *c = ev[i].data.ptr;

			if (c->fd >= 0 && ev[i].events & EPOLLOUT && c->need > 0)
				stream_send(c);
			else if (c->fd >= 0)
				stream_receive(c);
		}
	}
	n_errors += (uint64_t)running;
	sample_end();
	report("bulk", 1048576);
	free(conns);
	return 0;
}
