/*
 * ask: clients that ask and wait for the answer.
 *
 *	CONNECTING --> [TLS] --> [SHAKE --> [PREPARE]] --> READY --> BUSY --> answered
 *
 * ping: every client asks again at once (or, with a rate, when one is due: then times count from when it was due).
 * churn: every client connects, asks once, closes, connects again. idle: all connect, ask at most once, and stay.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lgen.h"

#define EVENTS	     256
#define DIAL_AHEAD   64 /* connections being set up at once, at most */
#define DIAL_BATCH   32
#define GRACE_SECS   30 /* for connecting and warming up */
#define ERRORS_MAX   1000
#define ERRORS_SHOWN 5

static struct {
	enum task task;
	struct conn *conns, *free_first, *free_last; /* free: waiting for a request to be due */
	uint8_t request[1 << 20], buf[65536];
	size_t request_bytes;
	int dialled, ready;
	bool started, over;
	uint64_t warm_until_ns, end_ns, sent;
} a;

static void free_push(struct conn *c)
{
	c->next = NULL;
	if (a.free_last)
		a.free_last->next = c;
	else
		a.free_first = c;
	a.free_last = c;
}

static struct conn *free_pop(void)
{
	struct conn *c = a.free_first;

	if (c && (a.free_first = c->next) == NULL)
		a.free_last = NULL;
	return c;
}

static void ask(struct conn *c, uint64_t since_ns)
{
	c->since_ns = since_ns;
	c->left = opts.depth;
	c->phase = CONN_BUSY;
	conn_write(c, a.request, a.request_bytes);
}

static void again(struct conn *c)
{
	c->since_ns = now_ns();
	conn_dial(c);
}

static void became_ready(struct conn *c)
{
	if (a.task == TASK_CHURN) {
		ask(c, c->since_ns);
		return;
	}
	if (a.task == TASK_IDLE && opts.one) {
		ask(c, now_ns());
		return;
	}
	a.ready++;
	c->phase = CONN_WAITING;
	if (a.task == TASK_PING && opts.rate <= 0)
		ask(c, now_ns());
	else
		free_push(c);
}

/* Every reply of the batch is in. */
static void answered(struct conn *c)
{
	uint64_t t = now_ns();

	n_done += (uint64_t)opts.depth;
	hist_add(t - c->since_ns);
	if (a.task == TASK_CHURN) {
		proto_quit(c);
		conn_close(c);
		again(c);
		return;
	}
	c->phase = CONN_WAITING;
	if (a.task == TASK_IDLE)
		a.ready++;
	else if (opts.rate > 0)
		free_push(c);
	else
		ask(c, t);
}

static void lost(struct conn *c, const char *why)
{
	if (n_errors++ < ERRORS_SHOWN)
		fprintf(stderr, "lgen: connection lost in phase %d: %s\n", (int)c->phase, why);
	if (n_errors > ERRORS_MAX)
		die("too many errors");
	if (a.task != TASK_CHURN && c->phase < CONN_READY)
		die("refused: %s", why);
	conn_close(c);
	if (a.task == TASK_CHURN)
		again(c);
}

/* What `n` bytes from the server mean. */
static void received(struct conn *c, size_t n)
{
	int d = proto_feed(c, a.buf, n);

	if (d == FEED_REFUSED)
		die("the server refused the login");
	if (c->phase == CONN_SHAKE && d != 0) {
		c->phase = CONN_READY;
		if (proto_prepare(c))
			c->phase = CONN_PREPARE;
		else
			became_ready(c);
	} else if (c->phase == CONN_PREPARE && d > 0) {
		became_ready(c);
	} else if (c->phase == CONN_BUSY && d > 0) {
		c->left -= d;
		if (c->left <= 0)
			answered(c);
	}
}

/* Edge-triggered, so that what is there is read to its end: TLS may hold more than the socket shows. */
static void readable(struct conn *c)
{
	int fd = c->fd;

	for (;;) {
		ssize_t r = conn_read(c, a.buf, sizeof(a.buf));

		if (r < 0 && errno == EAGAIN)
			return;
		if (r <= 0) {
			lost(c, r < 0 ? strerror(errno) : "end of file");
			return;
		}
		received(c, (size_t)r);
		if (c->fd != fd || c->phase == CONN_CONNECTING || (!c->ssl && (size_t)r < sizeof(a.buf)))
			return;
	}
}

/* false: the connection failed, or is not ready for more yet. */
static bool connected(struct conn *c, uint32_t events)
{
	int e = 0;
	socklen_t n = sizeof(e);

	if (c->phase == CONN_CONNECTING && events & (EPOLLOUT | EPOLLERR)) {
		if (events & EPOLLERR)
			getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &e, &n);
		if (e) {
			lost(c, strerror(e));
			return false;
		}
		if (opts.tls)
			conn_start_tls(c);
		else
			proto_start(c);
	}
	if (c->phase == CONN_TLS) {
		if (!conn_shake_tls(c))
			return false;
		proto_start(c);
	}
	if (c->phase == CONN_READY)
		became_ready(c);
	return c->phase != CONN_CONNECTING;
}

static void on_event(struct conn *c, uint32_t events)
{
	if (c->fd < 0)
		return;
	if (c->phase <= CONN_TLS && !connected(c, events))
		return;
	if (events & (EPOLLIN | EPOLLHUP | EPOLLRDHUP | EPOLLERR))
		readable(c);
}

static void dial_some(void)
{
	for (int i = 0; i < DIAL_BATCH && a.dialled < opts.conns; i++)
		again(&a.conns[a.dialled++]);
}

/* Requests that are due by now, each counted from its own time. */
static void ask_due(void)
{
	uint64_t from = sample_start_ns(), due = (uint64_t)((double)(now_ns() - from) / 1e9 * opts.rate);
	struct conn *c;

	while (a.sent < due && (c = free_pop()) != NULL) {
		ask(c, from + (uint64_t)((double)a.sent / opts.rate * 1e9));
		a.sent++;
	}
}

static void wait_and_handle(void)
{
	struct epoll_event ev[EVENTS];
	struct timespec ts = {.tv_nsec = 100000000};
	int n;

	if (a.task != TASK_CHURN && a.dialled < opts.conns && a.dialled - a.ready < DIAL_AHEAD) {
		dial_some();
		ts.tv_nsec = 0;
	}
	if (opts.rate > 0 && a.started && a.free_first) {
		double next = (double)a.sent / opts.rate * 1e9 + (double)sample_start_ns() - (double)now_ns();

		ts.tv_nsec = next < 0 ? 0 : next > 1e8 ? 100000000 : (long)next;
	}
	n = epoll_pwait2(loop_fd(), ev, EVENTS, &ts, NULL);
	if (n < 0 && errno != EINTR)
		die("epoll_pwait2: %m");
	for (int i = 0; i < n; i++)
		on_event(ev[i].data.ptr, ev[i].events);
}

/* Starts the measured part, and ends it. */
static void keep_time(void)
{
	uint64_t t = now_ns();

	if (a.task == TASK_PING && !a.started && a.ready == opts.conns && a.warm_until_ns == UINT64_MAX)
		a.warm_until_ns = t + (uint64_t)(opts.warm_secs * 1e9);
	if (!a.started && t >= a.warm_until_ns) {
		a.started = true;
		sample_start();
		a.end_ns = sample_start_ns() + (uint64_t)(opts.secs * 1e9);
	}
	if (t > a.end_ns || (opts.count && a.started && n_done - sample_start_done() >= opts.count))
		a.over = true;
}

/* Until standard input ends. */
static int stay(void)
{
	uint64_t end = now_ns() + (uint64_t)(opts.secs * 1e9);
	struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
	char x[16];

	printf("ready conns=%d err=%llu perr=%llu\n", a.ready, (unsigned long long)n_errors,
	       (unsigned long long)n_proto_errors);
	fflush(stdout);
	while (now_ns() < end)
		if (poll(&in, 1, 200) > 0 && read(STDIN_FILENO, x, sizeof(x)) <= 0)
			break;
	return 0;
}

int ask_run(enum task task)
{
	a.task = task;
	a.conns = calloc((size_t)opts.conns, sizeof(*a.conns));
	if (!a.conns)
		die("out of memory");
	loop_new();
	for (int i = 0; i < opts.depth; i++)
		a.request_bytes += proto_request(a.request + a.request_bytes, sizeof(a.request) - a.request_bytes);
	a.end_ns = now_ns() + (uint64_t)((opts.secs + opts.warm_secs + GRACE_SECS) * 1e9);
	a.warm_until_ns = UINT64_MAX;
	if (task == TASK_CHURN) {
		a.warm_until_ns = now_ns() + (uint64_t)(opts.warm_secs * 1e9);
		while (a.dialled < opts.conns)
			dial_some();
	}
	while (!a.over) {
		wait_and_handle();
		if (task == TASK_IDLE && a.ready == opts.conns)
			return stay();
		keep_time();
		if (opts.rate > 0 && a.started)
			ask_due();
	}
	if (!a.started)
		die("not ready in time: %d of %d", a.ready, opts.conns);
	sample_end();
	report(task == TASK_PING ? "ping" : "churn", 1);
	return 0;
}
