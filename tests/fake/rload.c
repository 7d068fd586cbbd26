/*
 * rload: many Redis clients that check every byte they get, for tests of rotation and of shared connections.
 *
 *	rload [options] ADDRESS...		ADDRESS: 127.0.0.1:PORT, [::1]:PORT or unix:PATH; loopback only
 *	-c N		clients (10)
 *	-p N		requests of a batch, at most; each batch is that long or shorter, at random, and sent as one (1)
 *	-n N		end after so many good replies in all; 0: no bound (0)
 *	-t SECONDS	end after so long at the latest (10; at most 600)
 *	-T MS		a batch that takes longer is an error: time-out (10000)
 *	-i MS		pause of a client between two batches (0)
 *	-d BYTES	longest value (100; at most 65536)
 *	-m PERCENT	of the batches are units that hold a connection: WATCH MULTI ... EXEC, or RPUSH and BLPOP (0)
 *	-B N		client i works in database i modulo N, selected once for each connection (1: none is selected)
 *	-D N		one batch in N is cut off: sent whole or in part, then the client closes or resets, and connects anew (0: none)
 *	-b MS		pause before connecting again after an error (10)
 *	-S SEED		of keys, values and choices (the process id)
 *	-v		every 100 ms a line on stderr: "REPLIES ERRORS CONNECTED"
 *	-x		errors make the exit code 1, too
 *
 * Requests are SET, GET, INCR and ECHO, on keys of the client's own with values and numbers that nobody else has. So for each
 * the exact bytes of its reply are known beforehand: a reply of another client, of an earlier or later request, one that was
 * lost or one that was executed twice (INCR) differs.
 *
 * SIGUSR1 holds the clients back: no new batch is sent, and once all are answered a line "quiet" is said on stderr, so that a
 * server may be ill-treated while nobody waits for it. SIGUSR2 lets them go on, all at once.
 * SIGTERM and SIGINT end the run early, with its report: one JSON object on stdout.
 *	{"replies", "batches", "seconds", "per_second",
 *	 "errors": {"refused","connect","eof","reset","timeout","reply"}, "errors_total",
 *	 "mismatches"	replies that are not the bytes this client must get, and bytes nobody asked for; must be 0
 *	 "connects", "cuts" (-D), "reconnects" (connects that neither -D nor the beginning explains),
 *	 "longest_gap_us" without any good reply, "longest_gap_at_us" its beginning since the start,
 *	 "latency_us": {"p50","p99","p999","max"} from the sending of a batch to each reply, "connect_us": the same,
 *	 "served" clients with a good reply, "min_replies" of the client that got fewest, "first_mismatch", "first_error"}
 * Exit code: 0, 1 a mismatch (or -x), 2 wrong use.
 */
#include <ctype.h>
#include <errno.h>
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

#define SLOTS	       4 /* keys of a client for SET and GET */
#define BATCH_MAX      1024
#define UNIT_MAX       8   /* requests of a unit */
#define CONNECTING_MAX 256 /* at a time: a listener's queue is no test */
#define VALUE_MAX      65536
#define TEXT_MAX       96

enum state { ST_OFF, ST_QUEUED, ST_CONNECTING, ST_PAUSED, ST_HELD, ST_ASKED };
enum fault { F_REFUSED, F_CONNECT, F_EOF, F_RESET, F_TIMEOUT, F_REPLY, FAULTS };

static const char *const fault_names[FAULTS] = {"refused", "connect", "eof", "reset", "timeout", "reply"};

struct bytes {
	uint8_t *p;
	size_t len, cap, off; /* off: how much of it is done */
};

struct client {
	unsigned id;
	enum state state;
	int fd;
	struct heap_entry timer;
	struct node node; /* in `queue` or `held` */
	struct bytes out, want, complaint;
	size_t *ends; /* where in `want` the reply to each request of the batch ends */
	unsigned n_ops, done_ops;
	bool writable_wanted;
	bool selected; /* its database, on this connection */
	uint64_t replies, seq;
	uint32_t epoch;		  /* in its keys: what an earlier one left unanswered does not matter any more */
	uint32_t version[SLOTS];  /* of its values; 0: none yet */
	uint64_t counter, listed; /* what INCR answered last; how many elements were pushed */
	int64_t began_us;
};

static struct {
	unsigned clients, batch, units_percent, databases, cut_one_in;
	uint64_t total, seed;
	int64_t end_us, timeout_us, pause_us, retry_us;
	size_t value_max;
	bool verbose, strict;
	struct addr to[32];
	unsigned n_to;
} opt = {.clients = 10,
	 .batch = 1,
	 .databases = 1,
	 .end_us = 10000000,
	 .timeout_us = 10000000,
	 .retry_us = 10000,
	 .value_max = 100};

static struct {
	struct client *all;
	unsigned connecting, connected, asked;
	struct list queue; /* waiting for their turn to connect */
	struct list held;  /* while `hold` */
	bool quiet;	   /* said so */
	struct heap timers;
	struct rng rng;
	int epoll;
	int64_t start_us, last_good_us, gap_us, gap_at_us;
	uint64_t replies, batches, faults[FAULTS], mismatches, connects, cuts;
	struct hist latency, connect;
	char *first_mismatch, *first_error;
	struct heap_entry progress;
} run;

static volatile sig_atomic_t stopped, hold;

static void usage(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
static void client_connect(struct client *c);
static void client_ask(struct client *c);

static void usage(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("rload: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputs("; see the top of rload.c for the options\n", stderr);
	va_end(ap);
	exit(2);
}

static int64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* ---- bytes ---- */

static uint8_t *bytes_room(struct bytes *b, size_t n)
{
	if (b->len + n > b->cap) {
		b->cap = (b->len + n) * 2;
		b->p = mem_realloc(b->p, b->cap);
	}
	return b->p + b->len;
}

static void bytes_put(struct bytes *b, const void *p, size_t n)
{
	memcpy(bytes_room(b, n), p, n);
	b->len += n;
}

static void bytes_print(struct bytes *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void bytes_print(struct bytes *b, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf((char *)bytes_room(b, 2 * TEXT_MAX), 2 * TEXT_MAX, fmt, ap);
	va_end(ap);
	BUG_ON(n < 0 || n >= 2 * TEXT_MAX);
	b->len += (size_t)n;
}

static void bytes_bulk(struct bytes *b, const void *p, size_t n)
{
	bytes_print(b, "$%zu\r\n", n);
	bytes_put(b, p, n);
	bytes_print(b, "\r\n");
}

static void bytes_clear(struct bytes *b)
{
	b->len = b->off = 0;
}

/* What was got, and what should have been, of the first time. */
static void note(char **once, const struct client *c, const char *what, const uint8_t *got, size_t n)
{
	const struct {
		const uint8_t *p;
		size_t n;
	} side[2] = {{got, n}, {c->want.p + c->want.off, c->want.len - c->want.off}};
	char text[2][256] = {"", ""};

	if (*once)
		return;
	for (int s = 0; s < 2; s++) {
		size_t k = 0;

		for (size_t i = 0; i < side[s].n && i < 60; i++) {
			bool plain = isprint(side[s].p[i]) && side[s].p[i] != '"' && side[s].p[i] != '\\';

			k += (size_t)snprintf(text[s] + k, sizeof(text[s]) - k, plain ? "%c" : "<%02x>",
					      side[s].p[i]);
		}
	}
	*once = mem_printf("client %u: %s: %s instead of %s", c->id, what, text[0], text[1]);
}

/* ---- requests, each with its reply ---- */

static void op_end(struct client *c)
{
	c->ends[c->n_ops++] = c->want.len;
}

static void op_key(const struct client *c, const char *what, unsigned n, char out[TEXT_MAX])
{
	snprintf(out, TEXT_MAX, "rl%llu.%u.%u.%s%u", (unsigned long long)opt.seed, c->id, c->epoch, what, n);
}

/* The value of a key in that version: begins with whose it is, and goes on with bytes of that seed. */
static size_t op_value(const struct client *c, unsigned slot, uint8_t out[VALUE_MAX + TEXT_MAX])
{
	struct rng r;
	size_t n = (size_t)snprintf((char *)out, TEXT_MAX, "c%u.%u.%u.%u.", c->id, c->epoch, slot, c->version[slot]),
	       len;

	rng_seed(&r, opt.seed ^ ((uint64_t)c->id << 40) ^ ((uint64_t)c->epoch << 24) ^ ((uint64_t)slot << 20) ^
			     c->version[slot]);
	len = 1 + rng_below(&r, opt.value_max);
	for (; n < len; n++)
		out[n] = (uint8_t)(rng_next(&r) >> 33);
	return n;
}

/* The reply is what `reply` becomes once the transaction runs, or at once when it is NULL. */
static void op_set(struct client *c, unsigned slot, struct bytes *reply)
{
	static uint8_t value[VALUE_MAX + TEXT_MAX];
	char key[TEXT_MAX];
	size_t n;

	op_key(c, "v", slot, key);
	c->version[slot]++;
	n = op_value(c, slot, value);
	bytes_print(&c->out, "*5\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n", strlen(key), key);
	bytes_bulk(&c->out, value, n);
	bytes_print(&c->out, "$2\r\nEX\r\n$3\r\n600\r\n");
	bytes_print(reply ? reply : &c->want, "+OK\r\n");
}

static void op_get(struct client *c, unsigned slot, struct bytes *reply)
{
	static uint8_t value[VALUE_MAX + TEXT_MAX];
	char key[TEXT_MAX];

	op_key(c, "v", slot, key);
	bytes_print(&c->out, "*2\r\n$3\r\nGET\r\n$%zu\r\n%s\r\n", strlen(key), key);
	if (!reply)
		reply = &c->want;
	if (c->version[slot])
		bytes_bulk(reply, value, op_value(c, slot, value));
	else
		bytes_print(reply, "$-1\r\n");
}

static void op_incr(struct client *c, struct bytes *reply)
{
	char key[TEXT_MAX];

	op_key(c, "n", 0, key);
	bytes_print(&c->out, "*2\r\n$4\r\nINCR\r\n$%zu\r\n%s\r\n", strlen(key), key);
	bytes_print(reply ? reply : &c->want, ":%llu\r\n", (unsigned long long)++c->counter);
}

static void op_echo(struct client *c)
{
	char text[TEXT_MAX];
	int n = snprintf(text, sizeof(text), "e%u.%llu", c->id, (unsigned long long)++c->seq);

	bytes_print(&c->out, "*2\r\n$4\r\nECHO\r\n");
	bytes_bulk(&c->out, text, (size_t)n);
	bytes_bulk(&c->want, text, (size_t)n);
}

static void op_any(struct client *c)
{
	unsigned slot = (unsigned)rng_below(&run.rng, SLOTS);

	switch (rng_below(&run.rng, 4)) {
	case 0:
		op_set(c, slot, NULL);
		break;
	case 1:
		op_get(c, slot, NULL);
		break;
	case 2:
		op_incr(c, NULL);
		break;
	default:
		op_echo(c);
	}
	op_end(c);
}

static void op_plain(struct client *c, const char *word, const char *want)
{
	bytes_print(&c->out, "*1\r\n$%zu\r\n%s\r\n", strlen(word), word);
	bytes_print(&c->want, "%s\r\n", want);
	op_end(c);
}

static void op_queued(struct client *c)
{
	bytes_print(&c->want, "+QUEUED\r\n");
	op_end(c);
}

static void unit_transaction(struct client *c)
{
	static struct bytes reply;
	char key[TEXT_MAX];

	bytes_clear(&reply);
	bytes_print(&reply, "*3\r\n");
	op_key(c, "v", 0, key);
	bytes_print(&c->out, "*2\r\n$5\r\nWATCH\r\n$%zu\r\n%s\r\n", strlen(key), key);
	bytes_print(&c->want, "+OK\r\n");
	op_end(c);
	op_plain(c, "MULTI", "+OK");
	op_set(c, 0, &reply);
	op_queued(c);
	op_incr(c, &reply);
	op_queued(c);
	op_get(c, 0, &reply);
	op_queued(c);
	bytes_print(&c->out, "*1\r\n$4\r\nEXEC\r\n");
	bytes_put(&c->want, reply.p, reply.len);
	op_end(c);
}

static void unit_list(struct client *c)
{
	char key[TEXT_MAX], element[TEXT_MAX];
	int n = snprintf(element, sizeof(element), "l%u.%llu", c->id, (unsigned long long)++c->listed);

	op_key(c, "l", 0, key);
	bytes_print(&c->out, "*3\r\n$5\r\nRPUSH\r\n$%zu\r\n%s\r\n$%d\r\n%s\r\n", strlen(key), key, n, element);
	bytes_print(&c->want, ":1\r\n");
	op_end(c);
	bytes_print(&c->out, "*3\r\n$5\r\nBLPOP\r\n$%zu\r\n%s\r\n$1\r\n5\r\n", strlen(key), key);
	bytes_print(&c->want, "*2\r\n$%zu\r\n%s\r\n$%d\r\n%s\r\n", strlen(key), key, n, element);
	op_end(c);
}

static void batch_make(struct client *c)
{
	bytes_clear(&c->out);
	bytes_clear(&c->want);
	bytes_clear(&c->complaint);
	c->n_ops = c->done_ops = 0;
	if (opt.databases > 1 && !c->selected) {
		unsigned db = c->id % opt.databases;

		bytes_print(&c->out, "*2\r\n$6\r\nSELECT\r\n$%d\r\n%u\r\n", db < 10 ? 1 : 2, db);
		bytes_print(&c->want, "+OK\r\n");
		op_end(c);
		c->selected = true;
	}
	if (rng_below(&run.rng, 100) < opt.units_percent) {
		if (rng_below(&run.rng, 2))
			unit_transaction(c);
		else
			unit_list(c);
		return;
	}
	for (uint64_t n = 1 + rng_below(&run.rng, opt.batch); n > 0; n--)
		op_any(c);
}

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

/* Everything of the connection is over; the client is ST_OFF. What it left unanswered may still happen to its keys. */
static void client_off(struct client *c, bool hard)
{
	struct linger linger = {.l_onoff = 1};

	if (c->state == ST_CONNECTING)
		run.connecting--;
	else if (c->fd >= 0)
		run.connected--;
	if (c->state == ST_ASKED)
		run.asked--;
	if (c->state == ST_HELD)
		list_remove(&c->node);
	if (c->fd >= 0) {
		if (hard)
			setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
		close(c->fd);
	}
	c->fd = -1;
	c->state = ST_OFF;
	c->writable_wanted = c->selected = false;
	c->epoch++;
	c->counter = c->listed = 0;
	memset(c->version, 0, sizeof(c->version));
	heap_remove(&run.timers, &c->timer);
}

static void client_fail(struct client *c, enum fault f)
{
	run.faults[f]++;
	note(&run.first_error, c, fault_names[f], c->complaint.p, c->complaint.len);
	client_off(c, false);
	client_timer(c, opt.retry_us);
}

static void client_mismatch(struct client *c, const char *what, const uint8_t *p, size_t n)
{
	run.mismatches++;
	note(&run.first_mismatch, c, what, p, n);
	client_off(c, false);
	client_timer(c, opt.retry_us);
}

static void client_lost(struct client *c, int err)
{
	if (c->state == ST_CONNECTING)
		client_fail(c, err == ECONNREFUSED ? F_REFUSED : F_CONNECT);
	else
		client_fail(c, err == ECONNRESET || err == EPIPE ? F_RESET : F_EOF);
}

static void client_write(struct client *c)
{
	bool full;

	while (c->out.off < c->out.len) {
		ssize_t n = send(c->fd, c->out.p + c->out.off, c->out.len - c->out.off, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			client_lost(c, errno);
			return;
		}
		c->out.off += (size_t)n;
	}
	full = c->out.off < c->out.len;
	if (full != c->writable_wanted) {
		c->writable_wanted = full;
		client_watch(c, full ? EPOLLIN | EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD);
	}
}

/* Sends what is to be cut off, and goes. */
static void client_cut(struct client *c)
{
	size_t n = rng_below(&run.rng, 2) ? c->out.len : 1 + rng_below(&run.rng, c->out.len);

	/* Whether it gets out does not matter. */
	send(c->fd, c->out.p, n, MSG_NOSIGNAL);
	run.cuts++;
	client_off(c, rng_below(&run.rng, 2));
	client_connect(c);
}

static void client_ask(struct client *c)
{
	if (hold) {
		c->state = ST_HELD;
		list_push_back(&run.held, &c->node);
		return;
	}
	batch_make(c);
	if (opt.cut_one_in && rng_below(&run.rng, opt.cut_one_in) == 0) {
		client_cut(c);
		return;
	}
	c->state = ST_ASKED;
	run.asked++;
	c->began_us = now_us();
	client_timer(c, opt.timeout_us);
	client_write(c);
}

static void client_connected(struct client *c)
{
	run.connecting--;
	run.connected++;
	run.connects++;
	hist_count(&run.connect, now_us() - c->began_us);
	heap_remove(&run.timers, &c->timer);
	c->state = ST_PAUSED;
	client_watch(c, EPOLLIN, EPOLL_CTL_MOD);
	client_ask(c);
}

static void client_dial(struct client *c)
{
	const struct addr *to = &opt.to[c->id % opt.n_to];
	int on = 1;

	bytes_clear(&c->want);
	bytes_clear(&c->complaint);
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
	client_watch(c, EPOLLOUT, EPOLL_CTL_ADD);
	client_timer(c, opt.timeout_us);
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

/* ---- replies ---- */

static void op_good(struct client *c, int64_t now)
{
	c->done_ops++;
	c->replies++;
	run.replies++;
	hist_count(&run.latency, now - c->began_us);
	if (run.last_good_us && now - run.last_good_us > run.gap_us) {
		run.gap_us = now - run.last_good_us;
		run.gap_at_us = run.last_good_us - run.start_us;
	}
	run.last_good_us = now;
}

static void batch_done(struct client *c)
{
	run.batches++;
	run.asked--;
	c->state = ST_PAUSED;
	heap_remove(&run.timers, &c->timer);
	if (opt.pause_us)
		client_timer(c, opt.pause_us);
	else
		client_ask(c);
}

/* A reply that says an error instead. It is kept up to the end of its line, and that is the end of the connection. */
static void reply_complains(struct client *c, const uint8_t *p, size_t n)
{
	bytes_put(&c->complaint, p, n < TEXT_MAX ? n : TEXT_MAX);
	if (memchr(p, '\n', n) || c->complaint.len > 4 * TEXT_MAX)
		client_fail(c, F_REPLY);
}

static bool reply_begins(const struct client *c)
{
	return c->want.off == (c->done_ops ? c->ends[c->done_ops - 1] : 0);
}

/* Takes bytes that came; false: the client is not as it was any more. */
static bool reply_take(struct client *c, const uint8_t *p, size_t n)
{
	size_t left = c->want.len - c->want.off;
	int64_t now;

	if (c->complaint.len || (left && reply_begins(c) && p[0] == '-' && c->want.p[c->want.off] != '-')) {
		reply_complains(c, p, n);
		return false;
	}
	/* Up to the end of one reply: what follows may be an error. */
	left = c->ends[c->done_ops] - c->want.off;
	if (n > left)
		n = left;
	if (memcmp(c->want.p + c->want.off, p, n) != 0) {
		client_mismatch(c, "not the bytes that belong to it", p, n);
		return false;
	}
	now = now_us();
	c->want.off += n;
	if (c->want.off == c->ends[c->done_ops])
		op_good(c, now);
	return true;
}

static void client_read(struct client *c)
{
	static uint8_t in[1 << 16];
	ssize_t n = recv(c->fd, in, sizeof(in), 0);
	size_t off = 0;

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		client_lost(c, n < 0 ? errno : 0);
		return;
	}
	while (off < (size_t)n) {
		size_t was = c->want.off;

		if (c->state != ST_ASKED || c->done_ops == c->n_ops) {
			client_mismatch(c, "bytes nobody asked for", in + off, (size_t)n - off);
			return;
		}
		if (!reply_take(c, in + off, (size_t)n - off))
			return;
		off += c->want.off - was;
	}
	if (c->done_ops == c->n_ops)
		batch_done(c);
}

static void client_event(struct client *c, uint32_t ev)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (c->fd < 0)
		return;
	if (c->state == ST_CONNECTING) {
		getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len);
		if (err)
			client_lost(c, err);
		else
			client_connected(c);
		return;
	}
	if (ev & EPOLLOUT)
		client_write(c);
	if (c->fd >= 0 && ev & (EPOLLIN | EPOLLHUP | EPOLLERR))
		client_read(c);
}

static void client_timed(struct client *c)
{
	if (c->state == ST_OFF)
		client_connect(c);
	else if (c->state == ST_PAUSED)
		client_ask(c);
	else
		client_fail(c, c->state == ST_CONNECTING ? F_CONNECT : F_TIMEOUT);
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
	fprintf(stderr, "%llu %llu %u\n", (unsigned long long)run.replies,
		(unsigned long long)(faults_total() + run.mismatches), run.connected);
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

/* Says that nobody waits for an answer; lets the held ones go on. */
static void hold_check(void)
{
	struct node *n;

	if (hold && !run.quiet && !run.asked && !run.connecting && !run.queue.len) {
		fputs("quiet\n", stderr);
		run.quiet = true;
	}
	if (hold)
		return;
	run.quiet = false;
	while ((n = list_first(&run.held))) {
		list_remove(n);
		client_ask(container_of(n, struct client, node));
	}
}

static bool run_over(int64_t now)
{
	return stopped || now >= run.start_us + opt.end_us || (opt.total && run.replies >= opt.total);
}

static int wait_ms(int64_t now)
{
	struct heap_entry *e = heap_min(&run.timers);
	int64_t left = run.start_us + opt.end_us - now;

	if (e && e->at_us - now < left)
		left = e->at_us - now;
	/* At most 50 ms, so that a timer set in between is not missed by much. */
	return left <= 0 ? 0 : left > 50000 ? 50 : (int)((left + 999) / 1000);
}

static void run_all(void)
{
	struct epoll_event ev[512];
	int64_t now = run.start_us = now_us();

	if (opt.verbose)
		progress();
	for (unsigned i = 0; i < opt.clients; i++)
		client_connect(&run.all[i]);
	while (!run_over(now)) {
		int n;

		clients_dial();
		n = epoll_wait(run.epoll, ev, 512, wait_ms(now));
		for (int i = 0; i < n; i++)
			client_event(ev[i].data.ptr, ev[i].events);
		now = now_us();
		timers_run(now);
		hold_check();
	}
	if (!(opt.total && run.replies >= opt.total) && run.last_good_us && now - run.last_good_us > run.gap_us) {
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
	uint64_t least = UINT64_MAX, explained = opt.clients + run.cuts;
	unsigned served = 0;

	for (unsigned i = 0; i < opt.clients; i++) {
		served += run.all[i].replies > 0;
		least = run.all[i].replies < least ? run.all[i].replies : least;
	}
	printf("{\"replies\": %llu, \"batches\": %llu, \"seconds\": %.3f, \"per_second\": %.0f, \"errors\": {",
	       (unsigned long long)run.replies, (unsigned long long)run.batches, seconds,
	       (double)run.replies / seconds);
	for (int i = 0; i < FAULTS; i++)
		printf("%s\"%s\": %llu", i ? ", " : "", fault_names[i], (unsigned long long)run.faults[i]);
	printf("}, \"errors_total\": %llu, \"mismatches\": %llu, \"connects\": %llu, \"cuts\": %llu, \"reconnects\": %llu",
	       (unsigned long long)faults_total(), (unsigned long long)run.mismatches,
	       (unsigned long long)run.connects, (unsigned long long)run.cuts,
	       (unsigned long long)(run.connects > explained ? run.connects - explained : 0));
	printf(", \"longest_gap_us\": %lld, \"longest_gap_at_us\": %lld", (long long)run.gap_us,
	       (long long)run.gap_at_us);
	hist_report("latency_us", &run.latency);
	hist_report("connect_us", &run.connect);
	printf(", \"served\": %u, \"min_replies\": %llu", served, (unsigned long long)(opt.clients ? least : 0));
	report_text("first_mismatch", run.first_mismatch);
	report_text("first_error", run.first_error);
	puts("}");
}

/* ---- options ---- */

static uint64_t number(const char *text, uint64_t min, uint64_t max)
{
	char *end;
	unsigned long long n = strtoull(text, &end, 10);

	if (!isdigit((unsigned char)*text) || *end || n < min || n > max)
		usage("\"%s\" is not a number from %llu to %llu", text, (unsigned long long)min,
		      (unsigned long long)max);
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

static void option(int o)
{
	switch (o) {
	case 'c':
		opt.clients = (unsigned)number(optarg, 1, 19000);
		break;
	case 'p':
		opt.batch = (unsigned)number(optarg, 1, BATCH_MAX - UNIT_MAX);
		break;
	case 'n':
		opt.total = number(optarg, 0, UINT32_MAX);
		break;
	case 't':
		opt.end_us = (int64_t)number(optarg, 1, 600) * 1000000;
		break;
	case 'T':
		opt.timeout_us = (int64_t)number(optarg, 1, 600000) * 1000;
		break;
	case 'i':
		opt.pause_us = (int64_t)number(optarg, 0, 600000) * 1000;
		break;
	case 'd':
		opt.value_max = number(optarg, 1, VALUE_MAX);
		break;
	case 'm':
		opt.units_percent = (unsigned)number(optarg, 0, 100);
		break;
	case 'B':
		opt.databases = (unsigned)number(optarg, 1, 16);
		break;
	case 'D':
		opt.cut_one_in = (unsigned)number(optarg, 0, UINT32_MAX);
		break;
	case 'b':
		opt.retry_us = (int64_t)number(optarg, 0, 600000) * 1000;
		break;
	case 'S':
		opt.seed = number(optarg, 0, UINT32_MAX);
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
	while ((o = getopt(argc, argv, "c:p:n:t:T:i:d:m:B:D:b:S:vx")) != -1)
		option(o);
	for (; optind < argc; optind++)
		option_address(argv[optind]);
	if (!opt.n_to)
		usage("an address is missing");
}

static void on_signal(int sig)
{
	if (sig == SIGUSR1 || sig == SIGUSR2)
		hold = sig == SIGUSR1;
	else
		stopped = 1;
}

static void clients_make(void)
{
	list_init(&run.queue);
	list_init(&run.held);
	rng_seed(&run.rng, opt.seed);
	run.all = mem_alloc(opt.clients * sizeof(*run.all));
	for (unsigned i = 0; i < opt.clients; i++) {
		run.all[i].id = i;
		run.all[i].fd = -1;
		run.all[i].ends = mem_alloc((opt.batch + UNIT_MAX) * sizeof(*run.all[i].ends));
	}
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_handler = on_signal};
	struct rlimit lim;

	options(argc, argv);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGUSR2, &sa, NULL);
	if (getrlimit(RLIMIT_NOFILE, &lim) == 0) {
		lim.rlim_cur = lim.rlim_max;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
	run.epoll = epoll_create1(EPOLL_CLOEXEC);
	BUG_ON(run.epoll < 0);
	clients_make();
	run_all();
	report();
	return run.mismatches || (opt.strict && faults_total()) ? 1 : 0;
}
