/*
 * lcheck: many clients that check every byte they get, for the heavy end-to-end tests.
 *
 *	lcheck [options] ADDRESS...		ADDRESS: 127.0.0.1:PORT, [::1]:PORT or unix:PATH; loopback only
 *	-P PROTOCOL	redis | memcached (SET and GET of own keys), echo (lines "id seq payload"), ping (PING -> +PONG)
 *	-c N		clients (10)
 *	-r N		requests per connection, then close and connect anew; 0: one connection for ever (0)
 *	-n N		end after so many good replies in all; 0: no bound (0)
 *	-N N		each client ends after so many good replies; 0: no bound (0)
 *	-t SECONDS	end after so long at the latest (10; at most 600)
 *	-T MS		a reply that takes longer is an error: time-out (10000)
 *	-i MS		pause of a client between two requests (0)
 *	-d BYTES	longest value or payload (100; at most 1048576)
 *	-b MS		pause before connecting again after an error (10)
 *	-k HOW		how a connection is ended: fin | rst | half (shut down writing, wait for the end, close) (fin)
 *	-s N		silent clients besides: connect, send nothing, stay
 *	-z N		slow readers besides: ask for -Z BYTES (104857600) and never read
 *	-S SEED		of values, sizes and keys (the process id)
 *	-v		every 100 ms a line on stderr: "REQUESTS ERRORS CONNECTED"
 *	-x		errors make the exit code 1, too
 *
 * SIGTERM and SIGINT end the run early, with its report: one JSON object on stdout.
 *	{"requests", "seconds", "per_second",
 *	 "errors": {"refused","connect","eof","reset","timeout","reply"}, "errors_total",
 *	 "mismatches"	replies that are not the bytes this client must get, and bytes nobody asked for; must be 0
 *	 "stale"	own value, but older than the one acknowledged last: must be 0 with one server
 *	 "misses"	own key not there: the server was restarted, evicts, or there are several
 *	 "connects", "closed_idle" (ended by the server with no request open: no error),
 *	 "longest_gap_us" without any good reply, "longest_gap_at_us" its beginning since the start,
 *	 "latency_us": {"p50","p99","p999","max"}, "connect_us": the same,
 *	 "served" clients with a good reply, "min_requests" of the client that got fewest, "in_flight_max", "unfinished",
 *	 "silent": {"open","closed"}, "slow": {"open","closed"}, "first_mismatch", "first_error": text or null}
 * Exit code: 0, 1 a mismatch (or -x), 2 wrong use.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/addr.h"
#include "base/heap.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/rng.h"
#include "fake/hist.h"

#define SLOTS	       4   /* keys of a client */
#define HEAD_MAX       96  /* text around a value */
#define CONNECTING_MAX 256 /* at a time: a listener's queue is no test */
#define VALUE_MAX      (1 << 20)

enum kind { KIND_CHECK, KIND_SILENT, KIND_SLOW, KINDS };
enum state { ST_OFF, ST_QUEUED, ST_CONNECTING, ST_PAUSED, ST_ASKED, ST_ENDING, ST_PARKED, ST_DONE };
enum fault { F_REFUSED, F_CONNECT, F_EOF, F_RESET, F_TIMEOUT, F_REPLY, FAULTS };
enum answer { ANSWER_MORE, ANSWER_GOOD, ANSWER_MISS, ANSWER_STALE, ANSWER_ERROR, ANSWER_MISMATCH };

static const char *const fault_names[FAULTS] = {"refused", "connect", "eof", "reset", "timeout", "reply"};

struct client {
	unsigned id;
	enum kind kind;
	enum state state;
	int fd;
	struct heap_entry timer;
	struct node node; /* in `queue` */
	uint8_t *out, *in;
	size_t out_len, out_off, in_len;
	bool writable_wanted, broken; /* broken: a write failed, which uses the socket's error up */
	uint64_t requests, on_conn;
	bool is_set;
	unsigned slot;
	uint32_t sent[SLOTS], acked[SLOTS]; /* versions of the keys' values; 0: none */
	int64_t began_us;
};

struct proto {
	const char *name;
	void (*ask)(struct client *c);
	enum answer (*judge)(struct client *c);
	void (*ask_much)(struct client *c, size_t bytes);
};

static struct {
	const struct proto *proto;
	unsigned clients, silent, slow;
	uint64_t per_conn, total, per_client, seed;
	int64_t end_us, timeout_us, pause_us, retry_us;
	size_t value_max, slow_bytes;
	char end_how; /* f, r, h */
	bool verbose, strict;
	struct addr to[16];
	unsigned n_to;
} opt = {.clients = 10,
	 .end_us = 10000000,
	 .timeout_us = 10000000,
	 .retry_us = 10000,
	 .value_max = 100,
	 .slow_bytes = 100 << 20,
	 .end_how = 'f'};

static struct {
	struct client *all;
	unsigned n_all, connecting, connected, in_flight, in_flight_max, done;
	struct list queue; /* waiting for their turn to connect */
	struct heap timers;
	int epoll;
	int64_t start_us, last_good_us, gap_us, gap_at_us;
	uint64_t requests, faults[FAULTS], mismatches, stale, misses, connects, closed_idle, gone[KINDS];
	struct hist latency, connect;
	char *first_mismatch, *first_error;
	struct heap_entry progress;
} run;

static volatile sig_atomic_t stopped;

static void usage(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
static void client_connect(struct client *c);
static void client_next(struct client *c);

static void usage(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("lcheck: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputs("; see the top of lcheck.c for the options\n", stderr);
	va_end(ap);
	exit(2);
}

static int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* ---- what went wrong first ---- */

static void note(char **once, const struct client *c, const char *what, const uint8_t *p, size_t n)
{
	char text[256];
	size_t k = 0;

	if (*once)
		return;
	for (size_t i = 0; i < n && i < 60; i++) {
		bool plain = isprint(p[i]) && p[i] != '"' && p[i] != '\\';

		k += (size_t)snprintf(text + k, sizeof(text) - k, plain ? "%c" : "<%02x>", p[i]);
	}
	text[k] = '\0';
	*once = mem_printf("client %u: %s: %s", c->id, what, text);
}

/* ---- values: told apart by client, key and version, the rest is a stream of bytes of that seed ---- */

static size_t value_make(uint8_t *out, unsigned id, unsigned slot, uint32_t version, bool text)
{
	struct rng r;
	size_t n = (size_t)snprintf((char *)out, HEAD_MAX, "c%u.%u.%u.", id, slot, version), len;

	rng_seed(&r, opt.seed ^ ((uint64_t)id << 40) ^ ((uint64_t)slot << 36) ^ version);
	len = 1 + rng_below(&r, opt.value_max);
	for (; n < len; n++) {
		uint8_t b = (uint8_t)(rng_next(&r) >> 33);

		out[n] = text ? (uint8_t)('a' + b % 26) : b;
	}
	return n;
}

/* What a GET brought: it must be a value of this client and key, of a version not older than the acknowledged one. */
static enum answer value_judge(const struct client *c, const uint8_t *p, size_t n)
{
	static uint8_t want[VALUE_MAX + HEAD_MAX];
	char head[HEAD_MAX];
	unsigned id, slot, version;
	size_t k = n < sizeof(head) - 1 ? n : sizeof(head) - 1;

	memcpy(head, p, k);
	head[k] = '\0';
	if (sscanf(head, "c%u.%u.%u.", &id, &slot, &version) != 3 || id != c->id || slot != c->slot ||
	    version > c->sent[slot] || value_make(want, id, slot, version, false) != n || memcmp(want, p, n) != 0)
		return ANSWER_MISMATCH;
	return version < c->acked[slot] ? ANSWER_STALE : ANSWER_GOOD;
}

static void client_choose(struct client *c)
{
	c->slot = (unsigned)(c->requests / 2) % SLOTS;
	c->is_set = c->requests % 2 == 0 || c->sent[c->slot] == 0;
}

static void client_put(struct client *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void client_put(struct client *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	c->out_len += (size_t)vsnprintf((char *)c->out + c->out_len, HEAD_MAX, fmt, ap);
	va_end(ap);
}

static bool starts_with(const struct client *c, const char *text)
{
	return c->in_len >= strlen(text) && !memcmp(c->in, text, strlen(text));
}

/* Length of the first line with its "\n"; 0: not there yet. */
static size_t line_len(const struct client *c)
{
	const uint8_t *nl = memchr(c->in, '\n', c->in_len);

	return nl ? (size_t)(nl - c->in) + 1 : 0;
}

/* A reply that must be exactly this line. */
static enum answer judge_line(const struct client *c, const char *want, const char *error)
{
	size_t n = line_len(c);

	if (!n)
		return c->in_len > HEAD_MAX ? ANSWER_MISMATCH : ANSWER_MORE;
	if (n == strlen(want) && n == c->in_len && starts_with(c, want))
		return ANSWER_GOOD;
	return starts_with(c, error) ? ANSWER_ERROR : ANSWER_MISMATCH;
}

/* A value of `len` bytes behind a head line, followed by `tail` and nothing else. */
static enum answer judge_value(const struct client *c, size_t head, size_t len, const char *tail)
{
	size_t n = head + len + strlen(tail);

	if (len > VALUE_MAX + HEAD_MAX)
		return ANSWER_MISMATCH;
	if (c->in_len < n)
		return ANSWER_MORE;
	if (c->in_len > n || memcmp(c->in + head + len, tail, strlen(tail)) != 0)
		return ANSWER_MISMATCH;
	return value_judge(c, c->in + head, len);
}

/* ---- protocols ---- */

static void redis_ask(struct client *c)
{
	static uint8_t value[VALUE_MAX + HEAD_MAX];
	char key[HEAD_MAX];
	int n;

	client_choose(c);
	n = snprintf(key, sizeof(key), "lc%llu.%u.%u", (unsigned long long)opt.seed, c->id, c->slot);
	if (!c->is_set) {
		client_put(c, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", n, key);
		return;
	}
	size_t len = value_make(value, c->id, c->slot, ++c->sent[c->slot], false);

	client_put(c, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%zu\r\n", n, key, len);
	memcpy(c->out + c->out_len, value, len);
	c->out_len += len;
	client_put(c, "\r\n");
}

static enum answer redis_judge(struct client *c)
{
	size_t head = line_len(c);

	if (c->is_set)
		return judge_line(c, "+OK\r\n", "-");
	if (!head || starts_with(c, "-") || starts_with(c, "$-1")) {
		enum answer a = judge_line(c, "$-1\r\n", "-");

		return a == ANSWER_GOOD ? ANSWER_MISS : a;
	}
	if (!starts_with(c, "$"))
		return ANSWER_MISMATCH;
	return judge_value(c, head, strtoul((const char *)c->in + 1, NULL, 10), "\r\n");
}

static void redis_ask_much(struct client *c, size_t bytes)
{
	client_put(c, "SETRANGE lc.much %zu x\r\nGET lc.much\r\n", bytes - 1);
}

static void memcached_ask(struct client *c)
{
	static uint8_t value[VALUE_MAX + HEAD_MAX];

	client_choose(c);
	if (!c->is_set) {
		client_put(c, "get lc%llu.%u.%u\r\n", (unsigned long long)opt.seed, c->id, c->slot);
		return;
	}
	size_t len = value_make(value, c->id, c->slot, ++c->sent[c->slot], false);

	client_put(c, "set lc%llu.%u.%u 0 0 %zu\r\n", (unsigned long long)opt.seed, c->id, c->slot, len);
	memcpy(c->out + c->out_len, value, len);
	c->out_len += len;
	client_put(c, "\r\n");
}

static enum answer memcached_judge(struct client *c)
{
	static const char *const errors[] = {"SERVER_ERROR", "ERROR", "CLIENT_ERROR"};
	size_t head = line_len(c), len;
	char key[64], want[64];

	for (int i = 0; i < 3; i++) {
		if (starts_with(c, errors[i]))
			return head ? ANSWER_ERROR : ANSWER_MORE;
	}
	if (c->is_set)
		return judge_line(c, "STORED\r\n", "SERVER_ERROR");
	if (!head || starts_with(c, "END")) {
		enum answer a = judge_line(c, "END\r\n", "SERVER_ERROR");

		return a == ANSWER_GOOD ? ANSWER_MISS : a;
	}
	snprintf(want, sizeof(want), "lc%llu.%u.%u", (unsigned long long)opt.seed, c->id, c->slot);
	if (sscanf((const char *)c->in, "VALUE %63s 0 %zu\r\n", key, &len) != 2 || strcmp(key, want) != 0)
		return ANSWER_MISMATCH;
	return judge_value(c, head, len, "\r\nEND\r\n");
}

static void memcached_ask_much(struct client *c, size_t bytes)
{
	size_t len = 1000000, gets = (bytes + len - 1) / len;

	client_put(c, "set lc.much 0 0 %zu\r\n", len);
	c->out = mem_realloc(c->out, c->out_len + len + 2 + gets * 13 + HEAD_MAX);
	memset(c->out + c->out_len, 'x', len);
	c->out_len += len;
	client_put(c, "\r\n");
	for (size_t i = 0; i < gets; i++)
		client_put(c, "get lc.much\r\n");
}

static void echo_ask(struct client *c)
{
	client_put(c, "%u %llu ", c->id, (unsigned long long)c->requests);
	c->out_len += value_make(c->out + c->out_len, c->id, 0, (uint32_t)c->requests, true);
	c->out[c->out_len++] = '\n';
}

static enum answer echo_judge(struct client *c)
{
	size_t n = c->in_len < c->out_len ? c->in_len : c->out_len;

	if (memcmp(c->in, c->out, n) != 0 || c->in_len > c->out_len)
		return ANSWER_MISMATCH;
	return c->in_len == c->out_len ? ANSWER_GOOD : ANSWER_MORE;
}

static void echo_ask_much(struct client *c, size_t bytes)
{
	client_put(c, "BYTES %zu\n", bytes);
}

static void ping_ask(struct client *c)
{
	client_put(c, "PING\r\n");
}

static enum answer ping_judge(struct client *c)
{
	return judge_line(c, "+PONG\r\n", "-");
}

static const struct proto protos[] = {
	{"redis", redis_ask, redis_judge, redis_ask_much},
	{"memcached", memcached_ask, memcached_judge, memcached_ask_much},
	{"echo", echo_ask, echo_judge, echo_ask_much},
	{"ping", ping_ask, ping_judge, echo_ask_much},
};

/* ---- a client's life ---- */

static void client_watch(struct client *c, uint32_t events, int op)
{
	struct epoll_event ev = {.events = events, .data.ptr = c};

	BUG_ON(epoll_ctl(run.epoll, op, c->fd, &ev) != 0);
}

static void client_timer(struct client *c, int64_t in_us)
{
	heap_set(&run.timers, &c->timer, now_us() + in_us);
}

/* Everything of the connection is over; the client is ST_OFF. */
static void client_off(struct client *c)
{
	struct linger hard = {.l_onoff = 1};

	if (c->state == ST_CONNECTING)
		run.connecting--;
	else if (c->fd >= 0)
		run.connected--;
	if (c->state == ST_ASKED)
		run.in_flight--;
	if (c->fd >= 0) {
		if (opt.end_how == 'r')
			setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
		close(c->fd);
	}
	c->fd = -1;
	c->state = ST_OFF;
	c->in_len = c->out_len = c->out_off = 0;
	c->writable_wanted = c->broken = false;
	c->on_conn = 0;
	heap_remove(&run.timers, &c->timer);
}

static void client_fail(struct client *c, enum fault f)
{
	if (c->kind == KIND_CHECK) {
		run.faults[f]++;
		note(&run.first_error, c, fault_names[f], c->in, c->in_len);
	} else if (c->state == ST_PARKED) {
		run.gone[c->kind]++;
		client_off(c);
		c->state = ST_DONE;
		return;
	}
	client_off(c);
	client_timer(c, opt.retry_us);
}

static void client_mismatch(struct client *c, const char *what)
{
	run.mismatches++;
	note(&run.first_mismatch, c, what, c->in, c->in_len);
	client_off(c);
	client_timer(c, opt.retry_us);
}

static void client_lost(struct client *c, int sys_errno)
{
	if (c->state == ST_CONNECTING)
		client_fail(c, sys_errno == ECONNREFUSED ? F_REFUSED : sys_errno == ECONNRESET ? F_RESET : F_CONNECT);
	else if (c->state == ST_ENDING) {
		client_off(c);
		client_next(c);
	} else if (c->state == ST_PAUSED) {
		run.closed_idle++;
		client_off(c);
		client_next(c);
	} else {
		client_fail(c, sys_errno || c->broken ? F_RESET : F_EOF);
	}
}

static void client_write(struct client *c)
{
	bool left;

	while (c->out_off < c->out_len) {
		ssize_t n = send(c->fd, c->out + c->out_off, c->out_len - c->out_off, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			/* What the other side said before it closed is read first. */
			c->out_off = c->out_len;
			c->broken = true;
			break;
		}
		c->out_off += (size_t)n;
	}
	left = c->out_off < c->out_len;
	if (left != c->writable_wanted) {
		uint32_t in = c->kind == KIND_CHECK ? EPOLLIN : EPOLLRDHUP;

		c->writable_wanted = left;
		client_watch(c, in | (left ? EPOLLOUT : 0), EPOLL_CTL_MOD);
	}
}

static bool client_may_ask(const struct client *c)
{
	if (opt.per_client && c->requests >= opt.per_client)
		return false;
	return !opt.total || run.requests + run.in_flight < opt.total;
}

static void client_ask(struct client *c)
{
	c->out_len = c->out_off = c->in_len = 0;
	opt.proto->ask(c);
	c->state = ST_ASKED;
	c->began_us = now_us();
	run.in_flight++;
	if (run.in_flight > run.in_flight_max)
		run.in_flight_max = run.in_flight;
	heap_set(&run.timers, &c->timer, c->began_us + opt.timeout_us);
	client_write(c);
}

/* Ends a connection whose work is done; what comes next is decided once it is over. */
static void client_end(struct client *c)
{
	if (opt.end_how == 'h') {
		c->state = ST_ENDING;
		shutdown(c->fd, SHUT_WR);
		client_timer(c, opt.timeout_us);
		return;
	}
	client_off(c);
	client_next(c);
}

/* The next deed of a client that is connected and owes nothing, or is not connected at all. */
static void client_next(struct client *c)
{
	if (!client_may_ask(c)) {
		if (c->fd >= 0 && c->state != ST_ENDING) {
			client_end(c);
			return;
		}
		c->state = ST_DONE;
		run.done++;
		return;
	}
	if (c->fd < 0)
		client_connect(c);
	else if (opt.per_conn && c->on_conn >= opt.per_conn)
		client_end(c);
	else
		client_ask(c);
}

static void client_connected(struct client *c)
{
	int64_t now = now_us();

	run.connecting--;
	run.connected++;
	run.connects++;
	hist_count(&run.connect, now - c->began_us);
	heap_remove(&run.timers, &c->timer);
	c->state = ST_PAUSED;
	client_watch(c, c->kind == KIND_CHECK ? EPOLLIN : EPOLLRDHUP, EPOLL_CTL_MOD);
	if (c->kind == KIND_CHECK) {
		client_next(c);
		return;
	}
	c->state = ST_PARKED;
	if (c->kind == KIND_SLOW) {
		opt.proto->ask_much(c, opt.slow_bytes);
		client_write(c);
	}
}

static void client_dial(struct client *c)
{
	const struct addr *to = &opt.to[c->id % opt.n_to];
	int on = 1, small = 8192;

	c->fd = socket(to->u.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	c->began_us = now_us();
	c->state = ST_CONNECTING;
	run.connecting++;
	if (c->fd < 0) {
		client_fail(c, F_CONNECT);
		return;
	}
	if (to->u.sa.sa_family != AF_UNIX)
		setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (c->kind == KIND_SLOW)
		setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	client_watch(c, EPOLLOUT, EPOLL_CTL_ADD);
	heap_set(&run.timers, &c->timer, c->began_us + opt.timeout_us);
	if (connect(c->fd, &to->u.sa, to->len) == 0)
		client_connected(c);
	else if (errno != EINPROGRESS)
		client_lost(c, errno);
}

static void client_connect(struct client *c)
{
	c->state = ST_QUEUED;
	list_push_back(&run.queue, &c->node);
}

static void clients_dial(void)
{
	struct node *n;

	while (run.connecting < CONNECTING_MAX && (n = list_first(&run.queue))) {
		list_remove(n);
		client_dial(container_of(n, struct client, node));
	}
}

static void client_good(struct client *c, enum answer a)
{
	int64_t now = now_us();

	run.in_flight--;
	run.requests++;
	if (a == ANSWER_MISS)
		run.misses++;
	else if (a == ANSWER_STALE)
		run.stale++;
	else if (c->is_set)
		c->acked[c->slot] = c->sent[c->slot];
	hist_count(&run.latency, now - c->began_us);
	if (run.last_good_us && now - run.last_good_us > run.gap_us) {
		run.gap_us = now - run.last_good_us;
		run.gap_at_us = run.last_good_us - run.start_us;
	}
	run.last_good_us = now;
	c->requests++;
	c->on_conn++;
	c->state = ST_PAUSED;
	heap_remove(&run.timers, &c->timer);
	if (opt.pause_us)
		client_timer(c, opt.pause_us);
	else
		client_next(c);
}

static void client_read(struct client *c)
{
	size_t cap = opt.value_max + 2 * HEAD_MAX;
	ssize_t n = recv(c->fd, c->in + c->in_len, cap - c->in_len, 0);
	enum answer a;

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		client_lost(c, n < 0 ? errno : 0);
		return;
	}
	c->in_len += (size_t)n;
	c->in[c->in_len] = '\0';
	if (c->state != ST_ASKED) {
		client_mismatch(c, "bytes nobody asked for");
		return;
	}
	a = opt.proto->judge(c);
	if (a == ANSWER_MORE && c->in_len == cap)
		a = ANSWER_MISMATCH;
	if (a == ANSWER_MISMATCH)
		client_mismatch(c, "not the bytes that belong to it");
	else if (a == ANSWER_ERROR)
		client_fail(c, F_REPLY);
	else if (a != ANSWER_MORE)
		client_good(c, a);
}

static void client_event(struct client *c, uint32_t ev)
{
	if (c->fd < 0)
		return;
	if (c->state == ST_CONNECTING) {
		int err = 0;
		socklen_t len = sizeof(err);

		getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len);
		if (err)
			client_lost(c, err);
		else
			client_connected(c);
		return;
	}
	if (ev & EPOLLOUT)
		client_write(c);
	if (c->kind == KIND_CHECK && ev & (EPOLLIN | EPOLLHUP | EPOLLERR))
		client_read(c);
	else if (ev & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		client_lost(c, 0);
}

static void client_timed(struct client *c)
{
	switch (c->state) {
	case ST_OFF:
		if (c->kind == KIND_CHECK)
			client_next(c);
		else
			client_connect(c);
		break;
	case ST_PAUSED:
		client_next(c);
		break;
	default:
		client_fail(c, c->state == ST_CONNECTING ? F_CONNECT : F_TIMEOUT);
	}
}

/* ---- the run ---- */

static uint64_t faults_total(void)
{
	uint64_t n = 0;

	for (int i = 0; i < FAULTS; i++)
		n += run.faults[i];
	return n;
}

static void progress(void)
{
	fprintf(stderr, "%llu %llu %u\n", (unsigned long long)run.requests, (unsigned long long)faults_total(),
		run.connected);
	heap_set(&run.timers, &run.progress, now_us() + 100000);
}

static void timers_run(int64_t now)
{
	struct heap_entry *e;

	while ((e = heap_min(&run.timers)) && e->at_us <= now) {
		heap_remove(&run.timers, e);
		if (e == &run.progress)
			progress();
		else
			client_timed(container_of(e, struct client, timer));
	}
}

static bool run_over(int64_t now)
{
	if (stopped || now >= run.start_us + opt.end_us)
		return true;
	return (opt.total && run.requests >= opt.total) || (opt.clients && run.done >= opt.clients);
}

static void run_all(void)
{
	struct epoll_event ev[512];
	int64_t now = run.start_us = now_us();

	if (opt.verbose)
		progress();
	for (unsigned i = 0; i < run.n_all; i++)
		client_connect(&run.all[i]);
	while (!run_over(now)) {
		struct heap_entry *e = heap_min(&run.timers);
		int64_t until = run.start_us + opt.end_us;
		int n;

		clients_dial();
		if (e && e->at_us < until)
			until = e->at_us;
		/* At most 50 ms, so that a timer set in between is not missed by much. */
		n = epoll_wait(run.epoll, ev, 512,
			       until <= now	     ? 0
			       : until - now > 50000 ? 50
						     : (int)((until - now + 999) / 1000));
		for (int i = 0; i < n; i++)
			client_event(ev[i].data.ptr, ev[i].events);
		now = now_us();
		timers_run(now);
	}
	if (!(opt.total && run.requests >= opt.total) && !(opt.clients && run.done >= opt.clients) &&
	    run.last_good_us && now - run.last_good_us > run.gap_us) {
		run.gap_us = now - run.last_good_us;
		run.gap_at_us = run.last_good_us - run.start_us;
	}
}

static void report_text(const char *name, const char *text)
{
	printf(text ? ", \"%s\": \"%s\"" : ", \"%s\": null", name, text);
}

static void report(void)
{
	double seconds = (double)(now_us() - run.start_us) / 1e6;
	uint64_t least = UINT64_MAX;
	unsigned served = 0, parked[KINDS] = {0};

	for (unsigned i = 0; i < run.n_all; i++) {
		const struct client *c = &run.all[i];

		parked[c->kind] += c->state == ST_PARKED;
		if (c->kind != KIND_CHECK)
			continue;
		served += c->requests > 0;
		least = c->requests < least ? c->requests : least;
	}
	printf("{\"requests\": %llu, \"seconds\": %.3f, \"per_second\": %.0f, \"errors\": {",
	       (unsigned long long)run.requests, seconds, (double)run.requests / seconds);
	for (int i = 0; i < FAULTS; i++)
		printf("%s\"%s\": %llu", i ? ", " : "", fault_names[i], (unsigned long long)run.faults[i]);
	printf("}, \"errors_total\": %llu, \"mismatches\": %llu, \"stale\": %llu, \"misses\": %llu, \"connects\": %llu, "
	       "\"closed_idle\": %llu, \"longest_gap_us\": %lld, \"longest_gap_at_us\": %lld",
	       (unsigned long long)faults_total(), (unsigned long long)run.mismatches, (unsigned long long)run.stale,
	       (unsigned long long)run.misses, (unsigned long long)run.connects, (unsigned long long)run.closed_idle,
	       (long long)run.gap_us, (long long)run.gap_at_us);
	hist_report("latency_us", &run.latency);
	hist_report("connect_us", &run.connect);
	printf(", \"served\": %u, \"min_requests\": %llu, \"in_flight_max\": %u, \"unfinished\": %u", served,
	       (unsigned long long)(opt.clients ? least : 0), run.in_flight_max, run.in_flight);
	printf(", \"silent\": {\"open\": %u, \"closed\": %llu}, \"slow\": {\"open\": %u, \"closed\": %llu}",
	       parked[KIND_SILENT], (unsigned long long)run.gone[KIND_SILENT], parked[KIND_SLOW],
	       (unsigned long long)run.gone[KIND_SLOW]);
	report_text("first_mismatch", run.first_mismatch);
	report_text("first_error", run.first_error);
	puts("}");
}

/* ---- options ---- */

static uint64_t number(const char *text, uint64_t max)
{
	char *end;
	unsigned long long n = strtoull(text, &end, 10);

	if (!isdigit((unsigned char)*text) || *end || n > max)
		usage("\"%s\" is not a number up to %llu", text, (unsigned long long)max);
	return n;
}

static void option_address(const char *text)
{
	struct addr_spec spec;
	const char *why = "not a numeric address";
	const struct addr *a = &spec.addr;

	if (addr_parse(text, &spec, &why) != ERR_OK || (spec.kind != ADDR_NUMERIC && spec.kind != ADDR_UNIX))
		usage("%s: %s", text, why);
	if (!(a->u.sa.sa_family == AF_UNIX ||
	      (a->u.sa.sa_family == AF_INET && ntohl(a->u.in.sin_addr.s_addr) >> 24 == 127) ||
	      (a->u.sa.sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&a->u.in6.sin6_addr))))
		usage("%s is not of the loopback network", text);
	if (opt.n_to == sizeof(opt.to) / sizeof(opt.to[0]))
		usage("too many addresses");
	opt.to[opt.n_to++] = *a;
}

static void option_proto(const char *name)
{
	for (unsigned i = 0; i < sizeof(protos) / sizeof(protos[0]); i++) {
		if (!strcmp(name, protos[i].name))
			opt.proto = &protos[i];
	}
	if (!opt.proto)
		usage("no such protocol: %s", name);
}

static void option(int o)
{
	switch (o) {
	case 'P':
		option_proto(optarg);
		break;
	case 'c':
		opt.clients = (unsigned)number(optarg, 19000);
		break;
	case 's':
		opt.silent = (unsigned)number(optarg, 19000);
		break;
	case 'z':
		opt.slow = (unsigned)number(optarg, 1000);
		break;
	case 'r':
		opt.per_conn = number(optarg, UINT32_MAX);
		break;
	case 'n':
		opt.total = number(optarg, UINT32_MAX);
		break;
	case 'N':
		opt.per_client = number(optarg, UINT32_MAX);
		break;
	case 't':
		opt.end_us = (int64_t)number(optarg, 600) * 1000000;
		break;
	case 'T':
		opt.timeout_us = (int64_t)number(optarg, 600000) * 1000;
		break;
	case 'i':
		opt.pause_us = (int64_t)number(optarg, 600000) * 1000;
		break;
	case 'b':
		opt.retry_us = (int64_t)number(optarg, 600000) * 1000;
		break;
	case 'd':
		opt.value_max = number(optarg, VALUE_MAX);
		break;
	case 'Z':
		opt.slow_bytes = number(optarg, 512 << 20);
		break;
	case 'S':
		opt.seed = number(optarg, UINT32_MAX);
		break;
	case 'k':
		opt.end_how = optarg[0];
		break;
	case 'v':
		opt.verbose = true;
		break;
	case 'x':
		opt.strict = true;
		break;
	default:
		usage("unknown option");
	}
}

static void options(int argc, char **argv)
{
	int o;

	opt.seed = (uint64_t)getpid();
	opt.proto = NULL;
	while ((o = getopt(argc, argv, "P:c:s:z:r:n:N:t:T:i:b:d:Z:S:k:vx")) != -1)
		option(o);
	for (; optind < argc; optind++)
		option_address(argv[optind]);
	if (!opt.proto)
		usage("-P is missing");
	if (!opt.n_to)
		usage("an address is missing");
	if (opt.value_max < 1 || opt.slow_bytes < 1 || !strchr("frh", opt.end_how) || !opt.end_how)
		usage("-d, -Z or -k is out of range");
}

static void on_signal(int sig)
{
	(void)sig;
	stopped = 1;
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_handler = on_signal};
	struct rlimit lim;

	options(argc, argv);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	if (getrlimit(RLIMIT_NOFILE, &lim) == 0) {
		lim.rlim_cur = lim.rlim_max;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
	run.epoll = epoll_create1(EPOLL_CLOEXEC);
	BUG_ON(run.epoll < 0);
	list_init(&run.queue);
	run.n_all = opt.silent + opt.slow + opt.clients;
	run.all = mem_alloc((run.n_all + 1) * sizeof(*run.all));
	for (unsigned i = 0; i < run.n_all; i++) {
		struct client *c = &run.all[i];

		c->id = i;
		c->fd = -1;
		c->kind = i < opt.silent ? KIND_SILENT : i < opt.silent + opt.slow ? KIND_SLOW : KIND_CHECK;
		c->out = mem_alloc(c->kind == KIND_CHECK ? opt.value_max + 3 * HEAD_MAX : HEAD_MAX * 2);
		c->in = mem_alloc(c->kind == KIND_CHECK ? opt.value_max + 2 * HEAD_MAX + 1 : 1);
	}
	run_all();
	report();
	return run.mismatches || (opt.strict && faults_total()) ? 1 : 0;
}
