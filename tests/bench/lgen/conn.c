/* conn: one client socket, plain or TLS, and the epoll all of them share. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lgen.h"

#define SPREAD_BASE 0x7f000101u /* 127.0.1.1: client ports are spread over this many addresses from here on */
#define SPREAD_OVER 64u

static int epoll_fd;
static SSL_CTX *tls_ctx;

void loop_new(void)
{
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		die("epoll_create1: %m");
}

int loop_fd(void)
{
	return epoll_fd;
}

void loop_watch(int op, int fd, uint32_t events, void *arg)
{
	struct epoll_event ev = {.events = events, .data.ptr = arg};

	if (epoll_ctl(epoll_fd, op, fd, &ev) < 0)
		die("epoll_ctl: %m");
}

void conn_use_tls(void)
{
	tls_ctx = SSL_CTX_new(TLS_client_method());
	if (!tls_ctx)
		die("no TLS");
	SSL_CTX_set_verify(tls_ctx, SSL_VERIFY_NONE, NULL);
}

static void conn_bind(int fd)
{
	static unsigned turn;
	struct sockaddr_in sin = {.sin_family = AF_INET};
	int on = 1;

	setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
	sin.sin_addr.s_addr = htonl(SPREAD_BASE + turn++ % SPREAD_OVER);
	if (bind(fd, (struct sockaddr *)&sin, sizeof(sin)) < 0)
		die("bind: %m");
}

void conn_dial(struct conn *c)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons((uint16_t)opts.port)};
	int on = 1;

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		die("socket: %m");
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (inet_pton(AF_INET, opts.addr, &sin.sin_addr) != 1)
		die("bad address %s", opts.addr);
	if (opts.spread)
		conn_bind(c->fd);
	c->phase = CONN_CONNECTING;
	c->state = c->sub = c->n_head = 0;
	c->need = 0;
	if (connect(c->fd, (struct sockaddr *)&sin, sizeof(sin)) < 0 && errno != EINPROGRESS)
		die("connect: %m");
	loop_watch(EPOLL_CTL_ADD, c->fd, EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP, c);
}

void conn_start_tls(struct conn *c)
{
	c->ssl = SSL_new(tls_ctx);
	if (!c->ssl)
		die("no TLS");
	SSL_set_fd(c->ssl, c->fd);
	SSL_set_connect_state(c->ssl);
	c->phase = CONN_TLS;
}

int conn_shake_tls(struct conn *c)
{
	int r = SSL_do_handshake(c->ssl), why;

	if (r == 1)
		return 1;
	why = SSL_get_error(c->ssl, r);
	if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
		die("TLS handshake failed");
	return 0;
}

void conn_close(struct conn *c)
{
	if (c->ssl) {
		SSL_shutdown(c->ssl);
		SSL_free(c->ssl);
		c->ssl = NULL;
	}
	close(c->fd);
	c->fd = -1;
}

ssize_t conn_read(struct conn *c, void *buf, size_t n)
{
	int r, why;

	if (!c->ssl)
		return recv(c->fd, buf, n, 0);
	r = SSL_read(c->ssl, buf, (int)n);
	if (r > 0)
		return r;
	why = SSL_get_error(c->ssl, r);
	errno = why == SSL_ERROR_WANT_READ ? EAGAIN : EPROTO;
	return why == SSL_ERROR_ZERO_RETURN ? 0 : -1;
}

/* Requests are small and one at a time: that one is not taken whole is an error. */
void conn_write(struct conn *c, const void *buf, size_t n)
{
	ssize_t r = c->ssl ? SSL_write(c->ssl, buf, (int)n) : send(c->fd, buf, n, MSG_NOSIGNAL);

	if (r != (ssize_t)n)
		n_errors++;
}
