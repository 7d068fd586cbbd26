/*
 * slow: clients that ask for many values at once and read little of the answers, until standard input ends. They say
 * "ready" when the first bytes came. For every whole value read they ask for one more.
 */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lgen.h"

#define READ_BYTES    4096 /* each so often */
#define PAUSE_MS      20
#define WINDOW_BYTES  4096
#define DIAL_WAIT_MS  2000
#define FIRST_WAIT_MS 5000

static uint8_t request[4096];
static size_t request_bytes;

static void slow_await(struct conn *c, short events, int ms)
{
	struct pollfd p = {.fd = c->fd, .events = events};

	if (poll(&p, 1, ms) != 1)
		die("no connection");
}

static void slow_start(struct conn *c)
{
	int window_bytes = WINDOW_BYTES;

	conn_dial(c);
	setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &window_bytes, sizeof(window_bytes));
	slow_await(c, POLLOUT, DIAL_WAIT_MS);
	for (int i = 0; i < opts.depth; i++)
		conn_write(c, request, request_bytes);
	slow_await(c, POLLIN, FIRST_WAIT_MS);
}

static void slow_read(struct conn *c)
{
	uint8_t buf[READ_BYTES];
	ssize_t r = conn_read(c, buf, sizeof(buf));

	if (r == 0 || (r < 0 && errno != EAGAIN))
		die("slow: connection lost");
	if (r < 0)
		return;
	for (int answers = proto_feed(c, buf, (size_t)r); answers > 0; answers--)
		conn_write(c, request, request_bytes);
}

int slow_run(void)
{
	struct conn *conns = calloc((size_t)opts.conns, sizeof(*conns));
	struct pollfd in = {.fd = 0, .events = POLLIN};
	uint64_t end = now_ns() + (uint64_t)(opts.secs * 1e9);
	char x[16];

	if (!conns)
		die("out of memory");
	loop_new();
	request_bytes = proto_request(request, sizeof(request));
	for (int i = 0; i < opts.conns; i++)
		slow_start(&conns[i]);
	printf("ready conns=%d err=%llu\n", opts.conns, (unsigned long long)n_errors);
	fflush(stdout);
	while (now_ns() < end) {
		if (poll(&in, 1, PAUSE_MS) > 0 && read(in.fd, x, sizeof(x)) <= 0)
			break;
		for (int i = 0; i < opts.conns; i++)
			slow_read(&conns[i]);
	}
	free(conns);
	return 0;
}
