/*
 * server: fix answers every req_bytes with resp_bytes; bulk obeys 16-byte requests (see bulk.c): sends that many bytes, or
 * swallows them and then sends one.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lgen.h"

#define EVENTS	     256
#define ACCEPT_BATCH 16
#define BULK_REQUEST 16

struct peer {
	int fd;
	uint64_t in, out, sink;
	int n_head;
	char head[BULK_REQUEST + 1];
};

static uint8_t in_buf[1 << 18], out_buf[1 << 18];

static int server_listen(void)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opts.port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (inet_pton(AF_INET, opts.addr, &sin.sin_addr) != 1)
		die("bad address %s", opts.addr);
	if (bind(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0 || listen(fd, 4096) < 0)
		die("bind: %m");
	return fd;
}

static void server_accept(int listener)
{
	int on = 1;

	for (int i = 0; i < ACCEPT_BATCH; i++) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct peer *p;

		if (fd < 0)
			return;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		p = calloc(1, sizeof(*p));
		if (!p)
			die("out of memory");
		p->fd = fd;
		loop_watch(EPOLL_CTL_ADD, fd, EPOLLIN, p);
	}
}

static void peer_close(struct peer *p)
{
	close(p->fd);
	free(p);
}

/* The rest of a download. true: that was all there was to do. */
static bool peer_send(struct peer *p)
{
	ssize_t r = send(p->fd, out_buf, p->out < sizeof(out_buf) ? p->out : sizeof(out_buf), MSG_NOSIGNAL);

	if (r > 0)
		p->out -= (uint64_t)r;
	if (p->out == 0)
		loop_watch(EPOLL_CTL_MOD, p->fd, EPOLLIN, p);
	return r >= 0 || errno == EAGAIN;
}

static void bulk_request(struct peer *p, size_t n)
{
	memcpy(p->head + p->n_head, in_buf, n);
	p->n_head += (int)n;
	if (p->n_head < BULK_REQUEST)
		return;
	p->n_head = 0;
	if (p->head[0] == 'U') {
		p->sink = strtoull(p->head + 1, NULL, 10);
		return;
	}
	p->out = strtoull(p->head + 1, NULL, 10);
	loop_watch(EPOLL_CTL_MOD, p->fd, EPOLLIN | EPOLLOUT, p);
}

static void bulk_received(struct peer *p, size_t n)
{
	if (p->sink == 0) {
		bulk_request(p, n);
		return;
	}
	p->sink -= n < p->sink ? n : p->sink;
	if (p->sink == 0)
		send(p->fd, "K", 1, MSG_NOSIGNAL);
}

static void fix_received(struct peer *p, size_t n)
{
	uint64_t k;
	size_t len;

	p->in += n;
	k = p->in / (uint64_t)opts.req_bytes;
	p->in -= k * (uint64_t)opts.req_bytes;
	len = (size_t)k * (size_t)opts.resp_bytes;
	if (len > sizeof(out_buf) || (k > 0 && send(p->fd, out_buf, len, MSG_NOSIGNAL) != (ssize_t)len))
		peer_close(p);
}

static void peer_event(struct peer *p, uint32_t events, bool bulk)
{
	size_t cap = bulk && p->sink == 0 ? (size_t)(BULK_REQUEST - p->n_head) : sizeof(in_buf);
	ssize_t r;

	if (events & EPOLLOUT && p->out > 0 && peer_send(p))
		return;
	r = recv(p->fd, in_buf, cap, p->sink ? MSG_TRUNC : 0);
	if (r < 0 && errno == EAGAIN)
		return;
	if (r <= 0)
		peer_close(p);
	else if (bulk)
		bulk_received(p, (size_t)r);
	else
		fix_received(p, (size_t)r);
}

int server_run(void)
{
	struct epoll_event ev[EVENTS];
	bool bulk = strcmp(opts.mode, "bulk") == 0;
	int listener = server_listen();

	memset(out_buf, 'r', sizeof(out_buf));
	loop_new();
	loop_watch(EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
	for (;;) {
		int n = epoll_wait(loop_fd(), ev, EVENTS, -1);

		for (int i = 0; i < n; i++) {
			if (ev[i].data.ptr)
				peer_event(ev[i].data.ptr, ev[i].events, bulk);
			else
				server_accept(listener);
		}
	}
}
