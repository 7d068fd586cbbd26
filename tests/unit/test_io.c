/* Tests of io: the loop's time, timers and tasks; streams on loopback; splice; signals. */
#include <errno.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/ioctl.h>

#include "io/signal.h"
#include "io_help.h"

#define MS INT64_C(1000)

/* ---- loop ---- */

static char order[64];

static void mark(void *arg)
{
	const char *letter = arg;
	size_t n = strlen(order);

	ck_assert_uint_lt(n, sizeof(order) - 1);
	order[n] = *letter;
	if (*letter == '!')
		loop_stop(loop);
}

static void *letter(const char *s)
{
	void *p;

	memcpy(&p, &s, sizeof(p));
	return p;
}

static void burn(int64_t us)
{
	int64_t end = clock_us() + us;

	while (clock_us() < end)
		;
}

static int64_t seen_us[2];

static void burn_and_look(void *arg)
{
	(void)arg;
	seen_us[0] = loop_now_us(loop);
	burn(6 * MS);
	seen_us[1] = loop_now_us(loop);
	loop_stop(loop);
}

START_TEST(time_stands_still_within_a_turn)
{
	struct task t;
	int64_t before = clock_us();

	task_init(&t, burn_and_look, NULL);
	loop_post(loop, &t);
	loop_run(loop);
	ck_assert_int_ge(seen_us[0], before);
	ck_assert_int_eq(seen_us[0], seen_us[1]);
	ck_assert_int_ge(loop_now_us(loop), seen_us[0] + 6 * MS);
	ck_assert_int_ge(loop_lag_take_us(loop), 6 * MS);
	turn();
	ck_assert_int_lt(loop_lag_take_us(loop), 6 * MS);
}
END_TEST

START_TEST(timers_fire_in_order_and_never_early)
{
	struct timer a, b, c, d, end;
	int64_t now = loop_now_us(loop);

	timer_init(&a, mark, letter("a"));
	timer_init(&b, mark, letter("b"));
	timer_init(&c, mark, letter("c"));
	timer_init(&d, mark, letter("d"));
	timer_init(&end, mark, letter("!"));
	timer_set(loop, &end, now + 9 * MS);
	timer_set(loop, &a, now + 3 * MS);
	timer_set(loop, &b, now + 2 * MS);
	timer_set(loop, &c, now + 2 * MS);
	timer_set(loop, &d, now + 1 * MS);
	timer_set(loop, &b, now + 4 * MS); /* moved later */
	timer_stop(loop, &d);
	timer_stop(loop, &d);
	loop_run(loop);
	ck_assert_str_eq(order, "cab!");
	ck_assert_int_ge(clock_us(), now + 9 * MS);
	ck_assert(!heap_has(&a.due));
}
END_TEST

START_TEST(timer_is_exact_to_well_under_a_millisecond)
{
	int64_t best = 1000 * MS;

	for (int i = 0; i < 20; i++) {
		int64_t at = loop_now_us(loop) + 1500;

		run_for(1500);
		ck_assert_int_ge(clock_us(), at);
		if (clock_us() - at < best)
			best = clock_us() - at;
	}
	ck_assert_int_lt(best, 900);
}
END_TEST

/* A timer that is moved to an earlier time doesn't wait for the later one. */
START_TEST(timer_can_be_moved_forward)
{
	struct timer t;
	int64_t now = loop_now_us(loop);

	timer_init(&t, mark, letter("!"));
	timer_set(loop, &t, now + 5000 * MS);
	run_for(2 * MS);
	timer_set(loop, &t, now + 4 * MS);
	loop_run(loop);
	ck_assert_int_lt(clock_us(), now + 2000 * MS);
}
END_TEST

static struct timer past;
static struct task after;

static void set_past(void *arg)
{
	(void)arg;
	timer_init(&past, mark, letter("!"));
	timer_set(loop, &past, 5);
	task_init(&after, mark, letter("t"));
	loop_post(loop, &after);
}

START_TEST(past_timer_fires_next_turn)
{
	struct timer t;

	timer_init(&t, set_past, NULL);
	timer_set(loop, &t, loop_now_us(loop) + 100);
	loop_run(loop);
	ck_assert_str_eq(order, "t!");
}
END_TEST

static struct task chain[3];

static void post_chain(void *arg)
{
	(void)arg;
	mark(letter("p"));
	loop_post(loop, &chain[1]);
	loop_post(loop, &chain[1]);
	loop_post(loop, &chain[2]);
	loop_unpost(loop, &chain[2]);
	loop_stop(loop);
}

START_TEST(tasks_run_once_and_within_the_turn)
{
	task_init(&chain[0], post_chain, NULL);
	task_init(&chain[1], mark, letter("q"));
	task_init(&chain[2], mark, letter("r"));
	loop_post(loop, &chain[0]);
	loop_run(loop); /* doesn't wait, as there is work */
	ck_assert_str_eq(order, "pq");
	turn();
	ck_assert_str_eq(order, "pq");
}
END_TEST

static char *dying;

static void read_dying(void *arg)
{
	(void)arg;
	ck_assert_str_eq(dying, "still here");
	loop_stop(loop);
}

static void kill_it(void *arg)
{
	(void)arg;
	loop_free_later(loop, dying);
	task_init(&after, read_dying, NULL);
	loop_post(loop, &after);
}

START_TEST(memory_lives_until_the_turn_ends)
{
	struct task t;

	dying = mem_strdup("still here");
	task_init(&t, kill_it, NULL);
	loop_post(loop, &t);
	loop_run(loop);
}
END_TEST

START_TEST(loops_draw_different_numbers)
{
	struct loop *other = loop_new();

	ck_assert_uint_ne(loop_random(loop), loop_random(other));
	loop_free(&other);
}
END_TEST

/* Proves: R1 */
START_TEST(loop_without_descriptors_is_null)
{
	struct loop *other;

	for (int spare = 0; spare <= 4; spare++) {
		rlim_t was = limit_fds(spare);

		other = loop_new();
		unlimit_fds(was);
		ck_assert(!other == (spare < 4));
		loop_free(&other);
	}
}
END_TEST

/* ---- streams ---- */

static int sock_opt(const struct stream *s, int level, int name)
{
	int v = -1;
	socklen_t n = sizeof(v);

	ck_assert_int_eq(getsockopt(stream_fd(s), level, name, &v, &n), 0);
	return v;
}

static void check_dial(int family)
{
	struct end a;
	struct addr at, peer;
	int l = raw_listen(&at, family), fd;

	end_dial(&a, &at);
	WAIT_FOR(a.connected);
	ck_assert_int_eq(a.connected, 1);
	ck_assert_uint_eq(stream_wants(a.s), STREAM_WANT_READ);
	stream_peer(a.s, &peer);
	ck_assert(addr_equal(&peer, &at));
	ck_assert_int_eq(sock_opt(a.s, IPPROTO_TCP, TCP_NODELAY), 1);
	ck_assert_int_eq(sock_opt(a.s, SOL_SOCKET, SO_KEEPALIVE), 1);
	ck_assert_int_eq(sock_opt(a.s, IPPROTO_TCP, TCP_KEEPIDLE), 11);
	ck_assert_int_eq(sock_opt(a.s, IPPROTO_TCP, TCP_KEEPINTVL), 12);
	ck_assert_int_eq(sock_opt(a.s, IPPROTO_TCP, TCP_KEEPCNT), 3);
	ck_assert_int_eq(sock_opt(a.s, IPPROTO_TCP, TCP_USER_TIMEOUT), 14000);
	ck_assert_int_ne(fcntl(stream_fd(a.s), F_GETFD) & FD_CLOEXEC, 0);
	ck_assert_int_ne(fcntl(stream_fd(a.s), F_GETFL) & O_NONBLOCK, 0);
	fd = accept(l, NULL, NULL);
	ck_assert_int_eq(write(fd, "hi", 2), 2);
	WAIT_FOR(a.got == 2); /* reads without having asked for it */
	close(fd);
	close(l);
	stream_close(&a.s);
	ck_assert_ptr_null(a.s);
	stream_close(&a.s);
}

START_TEST(dial_tcp4)
{
	check_dial(AF_INET);
}
END_TEST

START_TEST(dial_tcp6)
{
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};

	if (fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
		check_dial(AF_INET6);
	close(fd);
}
END_TEST

static void check_failure(const struct addr *to, enum err e)
{
	struct end a;
	struct addr peer;

	end_dial(&a, to);
	WAIT_FOR(a.failed);
	ck_assert_int_eq(a.connected, 0);
	ck_assert_int_eq(stream_error(a.s), e);
	stream_peer(a.s, &peer);
	ck_assert(addr_equal(&peer, to));
	turn();
	ck_assert_int_eq(a.failed, 1);
	stream_close(&a.s);
}

START_TEST(dial_refused)
{
	struct addr at;

	close(raw_listen(&at, AF_INET));
	check_failure(&at, ERR_REFUSED);
}
END_TEST

/* Proves: R1 */
START_TEST(dial_without_descriptors)
{
	struct addr at;
	int l = raw_listen(&at, AF_INET);
	rlim_t was = limit_fds(0);

	check_failure(&at, ERR_NO_FDS);
	unlimit_fds(was);
	close(l);
}
END_TEST

static void unix_addr(struct addr *a, const char *name)
{
	struct addr_spec spec;
	char text[96];

	snprintf(text, sizeof(text), "unix:@leased-test-%d-%s", (int)getpid(), name);
	ck_assert_int_eq(addr_parse(text, &spec, NULL), ERR_OK);
	*a = spec.addr;
}

START_TEST(dial_unix)
{
	struct end a;
	struct addr at;
	uint32_t uid, pid;
	int l = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	unix_addr(&at, "dial");
	check_failure(&at, ERR_REFUSED);
	ck_assert_int_eq(bind(l, &at.u.sa, at.len), 0);
	ck_assert_int_eq(listen(l, 0), 0);
	end_dial(&a, &at); /* connects at once, yet the event comes later */
	WAIT_FOR(a.connected);
	ck_assert_int_eq(stream_peer_uid(a.s, &uid, &pid), ERR_OK);
	ck_assert_uint_eq(uid, getuid());
	ck_assert_uint_eq(pid, (uint32_t)getpid());
	check_failure(&at, ERR_UNREACHABLE); /* the backlog is full */
	stream_close(&a.s);
	close(l);
}
END_TEST

START_TEST(dial_can_be_closed_before_its_event)
{
	struct end a, b;
	struct addr at;
	int l = raw_listen(&at, AF_INET);

	end_dial(&a, &at);
	stream_close(&a.s);
	close(l);
	unix_addr(&at, "nobody");
	end_dial(&b, &at);
	stream_close(&b.s);
	turn();
	turn();
}
END_TEST

/* In a network of its own where the only local port is the one that is dialled. Needs root. */
START_TEST(dial_does_not_meet_itself)
{
	struct ifreq up = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	struct addr at = {.len = sizeof(at.u.in)};
	int fd, range;

	if (unshare(CLONE_NEWNET) < 0)
		return;
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	ck_assert_int_eq(ioctl(fd, SIOCSIFFLAGS, &up), 0);
	close(fd);
	range = open("/proc/sys/net/ipv4/ip_local_port_range", O_WRONLY);
	if (range < 0)
		return;
	ck_assert_int_eq(write(range, "40000 40000", 11), 11);
	close(range);
	at.u.in.sin_family = AF_INET;
	at.u.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	at.u.in.sin_port = htons(40000);
	check_failure(&at, ERR_REFUSED);
}
END_TEST

START_TEST(eof_reset_and_abort)
{
	struct end a, b;
	uint32_t uid, pid;
	char byte;
	size_t n;

	tcp_pair(&a, &b);
	stream_want(b.s, STREAM_WANT_READ);
	ck_assert_int_eq(stream_peer_uid(a.s, &uid, &pid), ERR_NOT_FOUND);
	ck_assert_int_eq(stream_read(a.s, &byte, 1, &n), ERR_AGAIN);
	end_write(&a, "bye");
	stream_close(&a.s);
	WAIT_FOR(b.last == ERR_EOF);
	ck_assert_uint_eq(b.got, 3);
	stream_close(&b.s);

	tcp_pair(&a, &b);
	stream_want(b.s, STREAM_WANT_READ);
	stream_abort(&a.s);
	WAIT_FOR(b.readable);
	ck_assert_int_eq(b.last, ERR_RESET);
	ck_assert_int_eq(stream_error(b.s), ERR_RESET);
	ck_assert_int_eq(stream_write(b.s, "x", 1, &n), ERR_RESET);
	ck_assert_uint_eq(n, 0);
	stream_close(&b.s);
}
END_TEST

START_TEST(half_close)
{
	struct end a, b;

	tcp_pair(&a, &b);
	stream_want(b.s, STREAM_WANT_READ);
	end_write(&a, "question");
	stream_shutdown(a.s);
	WAIT_FOR(b.last == ERR_EOF);
	ck_assert_mem_eq(b.head, "question", 8);
	end_write(&b, "answer");
	stream_close(&b.s);
	WAIT_FOR(a.last == ERR_EOF);
	ck_assert_mem_eq(a.head, "answer", 6);
	stream_close(&a.s);
}
END_TEST

START_TEST(peek_consumes_nothing)
{
	struct end a, b;

	tcp_pair(&a, &b);
	a.auto_read = false;
	ck_assert_int_eq(stream_peek(a.s), ERR_AGAIN);
	end_write(&b, "x");
	WAIT_FOR(a.readable);
	ck_assert_int_eq(stream_peek(a.s), ERR_OK);
	ck_assert_int_eq(stream_peek(a.s), ERR_OK);
	end_read(&a);
	ck_assert_uint_eq(a.got, 1);
	stream_close(&b.s);
	a.readable = 0;
	WAIT_FOR(a.readable);
	ck_assert_int_eq(stream_peek(a.s), ERR_EOF);
	stream_close(&a.s);
}
END_TEST

START_TEST(readiness_is_level_triggered_and_as_wanted)
{
	struct end a, b;
	int seen;

	unix_pair(&a, &b);
	a.auto_read = false;
	end_write(&b, "xyz");
	turn();
	turn();
	ck_assert_int_eq(a.readable, 0); /* nothing was asked for */
	stream_want(a.s, STREAM_WANT_READ);
	WAIT_FOR(a.readable == 3);
	stream_want(a.s, STREAM_WANT_NONE);
	turn();
	turn();
	ck_assert_int_eq(a.readable, 3);
	stream_want(a.s, STREAM_WANT_READ | STREAM_WANT_WRITE);
	ck_assert_uint_eq(stream_wants(a.s), STREAM_WANT_READ | STREAM_WANT_WRITE);
	WAIT_FOR(a.readable >= 4 && a.writable >= 1);
	stream_want(a.s, STREAM_WANT_WRITE);
	seen = a.readable;
	turn();
	turn();
	ck_assert_int_eq(a.readable, seen);
	ck_assert_int_ge(a.writable, 2);
	stream_close(&a.s);
	stream_close(&b.s);
}
END_TEST

START_TEST(write_until_refused_then_writable)
{
	static char block[65536];
	struct iovec iov[2] = {{block, sizeof(block)}, {block, sizeof(block)}};
	struct end a, b;
	size_t n, sent = 0;
	enum err e;

	tcp_pair(&a, &b);
	while ((e = stream_writev(a.s, iov, 2, &n)) == ERR_OK) {
		ck_assert_uint_gt(n, 0);
		sent += n;
	}
	ck_assert_int_eq(e, ERR_AGAIN);
	ck_assert_uint_eq(n, 0);
	ck_assert_int_eq(stream_write(a.s, block, 1, &n), ERR_AGAIN);
	stream_want(a.s, STREAM_WANT_WRITE);
	turn();
	turn();
	ck_assert_int_eq(a.writable, 0);
	stream_want(b.s, STREAM_WANT_READ);
	WAIT_FOR(a.writable > 0);
	stream_want(a.s, STREAM_WANT_NONE);
	WAIT_FOR(b.got == sent);
	stream_close(&a.s);
	stream_close(&b.s);
}
END_TEST

static struct end victim[2], newborn;
static int victim_events;

/* Closes the other stream, whose event the turn has collected already, and gives its number to a new one. */
static void kill_other(void *arg, enum stream_event ev)
{
	struct end *other = &victim[arg == &victim[0]];
	int number = stream_fd(other->s), fd[2];

	(void)ev;
	victim_events++;
	stream_close(&other->s);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd), 0);
	ck_assert_int_eq(fd[0], number);
	end_take(&newborn, fd[0]);
	stream_want(newborn.s, STREAM_WANT_READ);
	newborn.auto_read = false;
	stream_want(((struct end *)arg)->s, STREAM_WANT_NONE);
	close(dup2(fd[1], 900));
	dup2(fd[1], 901);
	close(fd[1]);
	loop_stop(loop);
}

/* Proves: R8 R10 */
START_TEST(no_event_for_the_closed_nor_for_the_next_owner_of_its_number)
{
	struct end far[2];

	for (int i = 0; i < 2; i++) {
		unix_pair(&victim[i], &far[i]);
		stream_set_handler(victim[i].s, kill_other, &victim[i]);
		stream_want(victim[i].s, STREAM_WANT_READ);
		end_write(&far[i], "x");
	}
	loop_run(loop);
	turn();
	turn();
	ck_assert_int_eq(victim_events, 1);
	ck_assert_int_eq(newborn.readable, 0);
	for (int i = 0; i < 2; i++) {
		stream_close(&victim[i].s);
		stream_close(&far[i].s);
	}
	stream_close(&newborn.s);
	close(901);
}
END_TEST

/* What epoll refuses to watch (a file, here) must end the connection, not leave it deaf. Proves: R3 */
START_TEST(unwatchable_stream_fails_instead_of_hanging)
{
	char path[] = "/tmp/leased-io-XXXXXX";
	struct addr nobody = {.len = 0};
	struct end a = {.auto_read = true};
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	unlink(path);
	a.s = stream_accepted(loop, fd, &nobody);
	stream_set_handler(a.s, end_event, &a);
	a.inside = true;
	stream_want(a.s, STREAM_WANT_READ);
	a.inside = false;
	WAIT_FOR(a.readable);
	ck_assert_int_eq(a.last, ERR_IO);
	stream_close(&a.s);
	turn();
}
END_TEST

/* Proves: RES-1 */
START_TEST(a_stream_is_small)
{
	ck_assert_uint_le(loop->streams.size, 336);
}
END_TEST

/* ---- splice ---- */

START_TEST(splice_moves_everything)
{
	static char block[65536];
	struct end a, b, c, d;
	struct splice *p = splice_borrow(loop);
	size_t n, sent = 0, moved = 0, total = 8 << 20;
	enum err e;

	ck_assert_ptr_nonnull(p);
	tcp_pair(&a, &b);
	tcp_pair(&c, &d);
	stream_want(d.s, STREAM_WANT_READ);
	ck_assert_int_eq(splice_in(p, b.s, 1 << 20, &n), ERR_AGAIN);
	ck_assert_int_eq(splice_out(p, c.s, &n), ERR_AGAIN);
	while (moved < total) {
		while (sent < total && stream_write(a.s, block, sizeof(block), &n) == ERR_OK)
			sent += n;
		e = splice_in(p, b.s, 1 << 20, &n);
		ck_assert(e == ERR_OK || e == ERR_AGAIN || (e == ERR_EOF && sent >= total));
		ck_assert(e == ERR_OK || n == 0);
		e = splice_out(p, c.s, &n);
		ck_assert(e == ERR_OK || e == ERR_AGAIN);
		moved += n;
		turn();
		if (sent >= total) {
			total = sent;
			stream_shutdown(a.s);
		}
	}
	WAIT_FOR(d.got == total);
	ck_assert_uint_eq(splice_held(p), 0);
	ck_assert_int_eq(splice_in(p, b.s, 1 << 20, &n), ERR_EOF);
	stream_abort(&d.s);
	ck_assert_int_eq(stream_write(b.s, "x", 1, &n), ERR_OK);
	splice_return(loop, &p);
	ck_assert_ptr_null(p);
	stream_close(&a.s);
	stream_close(&b.s);
	stream_close(&c.s);
}
END_TEST

/* A full pipe and an empty socket both say "nothing now"; what is held comes out unharmed. */
START_TEST(splice_full_pipe)
{
	struct end a, b, c, d;
	struct splice *p = splice_borrow(loop);
	size_t n, in = 0;
	enum err e;

	tcp_pair(&a, &b);
	tcp_pair(&c, &d);
	/* Single bytes take a page each: full long before its bytes are. */
	for (int i = 0; i < 100000; i++) {
		end_write(&a, "x");
		while ((e = splice_in(p, b.s, 1, &n)) == ERR_OK)
			in += n;
		ck_assert_int_eq(e, ERR_AGAIN);
		if (splice_held(p) < (size_t)i)
			break;
	}
	ck_assert_uint_eq(splice_held(p), in);
	ck_assert_int_eq(stream_peek(b.s), ERR_OK); /* the byte that had no room */
	stream_want(d.s, STREAM_WANT_READ);
	while (splice_held(p) > 0) {
		e = splice_out(p, c.s, &n);
		ck_assert(e == ERR_OK || e == ERR_AGAIN);
		turn();
	}
	WAIT_FOR(d.got == in);
	ck_assert_int_eq(splice_in(p, b.s, 100, &n), ERR_OK);
	stream_abort(&d.s);
	run_for(1000);
	ck_assert_int_eq(splice_out(p, c.s, &n), ERR_RESET);
	ck_assert_int_eq(stream_error(c.s), ERR_RESET);
	splice_return(loop, &p);
	stream_close(&a.s);
	stream_close(&b.s);
	stream_close(&c.s);
}
END_TEST

/* Proves: R1 */
START_TEST(splice_pipes_are_kept_within_bounds)
{
	struct splice *p[SPLICE_MAX + 1];
	int before = open_fds(), n = 0;
	rlim_t was, most = limit_fds(0);

	unlimit_fds(64 * 10); /* the share of pipes in so many descriptors is 10 */
	for (int i = 0; i < 10; i++)
		ck_assert_ptr_nonnull(p[i] = splice_borrow(loop));
	ck_assert_ptr_null(splice_borrow(loop));
	for (int i = 0; i < 10; i++)
		splice_return(loop, &p[i]);
	ck_assert_int_eq(open_fds(), before + 20);
	unlimit_fds(most);
	while (n < SPLICE_MAX && (p[n] = splice_borrow(loop)) != NULL)
		n++;
	ck_assert_int_eq(open_fds(), before + 2 * n);
	if (n == SPLICE_MAX) /* else the system's limit on pipe memory came first */
		ck_assert_ptr_null(splice_borrow(loop));
	for (int i = 0; i < n; i++)
		splice_return(loop, &p[i]);
	ck_assert_int_eq(open_fds(), before + 2 * (n < SPLICE_KEEP ? n : SPLICE_KEEP));
	was = limit_fds(0);
	for (int i = 0; i < SPLICE_KEEP; i++)
		p[i] = splice_borrow(loop);
	ck_assert_ptr_null(splice_borrow(loop));
	unlimit_fds(was);
	for (int i = 0; i < SPLICE_KEEP; i++)
		splice_return(loop, &p[i]);
}
END_TEST

/* A pipe that comes back with bytes inside must not hand them to its next borrower. Proves: POOL-7 */
START_TEST(splice_never_leaks_bytes_of_another)
{
	struct end a, b;
	struct splice *p = splice_borrow(loop);
	size_t n;

	tcp_pair(&a, &b);
	end_write(&a, "secret");
	ck_assert_int_eq(splice_in(p, b.s, 4, &n), ERR_OK);
	ck_assert_uint_eq(n, 4);
	ck_assert_uint_eq(splice_held(p), 4);
	ck_assert_int_eq(splice_in(p, b.s, 100, &n), ERR_OK);
	ck_assert_uint_eq(n, 2);
	splice_return(loop, &p);
	p = splice_borrow(loop);
	ck_assert_uint_eq(splice_held(p), 0);
	end_write(&a, "other");
	ck_assert_int_eq(splice_in(p, b.s, 100, &n), ERR_OK);
	ck_assert_int_eq(splice_out(p, b.s, &n), ERR_OK);
	WAIT_FOR(a.got > 0);
	ck_assert_uint_eq(a.got, 5);
	ck_assert_mem_eq(a.head, "other", 5);
	splice_return(loop, &p);
	stream_close(&a.s);
	stream_close(&b.s);
}
END_TEST

/* ---- signals ---- */

static int signals_seen[2];
static struct signals *signals;

static void on_signal(void *arg, int signo)
{
	(void)arg;
	signals_seen[signo == SIGTERM]++;
	if (signo == SIGTERM)
		signals_close(&signals);
	loop_stop(loop);
}

START_TEST(signals_are_events)
{
	static const int which[] = {SIGHUP, SIGTERM};

	signals = signals_open(loop, which, 2, on_signal, NULL);
	ck_assert_ptr_nonnull(signals);
	raise(SIGHUP);
	ck_assert_int_eq(signals_seen[0], 0);
	WAIT_FOR(signals_seen[0] == 1);
	raise(SIGTERM);
	WAIT_FOR(signals_seen[1] == 1);
	ck_assert_ptr_null(signals);
	raise(SIGTERM);
	turn();
	ck_assert_int_eq(signals_seen[1], 1);
}
END_TEST

static void add_loop_tests(TCase *t)
{
	tcase_add_test(t, time_stands_still_within_a_turn);
	tcase_add_test(t, timers_fire_in_order_and_never_early);
	tcase_add_test(t, timer_is_exact_to_well_under_a_millisecond);
	tcase_add_test(t, timer_can_be_moved_forward);
	tcase_add_test(t, past_timer_fires_next_turn);
	tcase_add_test(t, tasks_run_once_and_within_the_turn);
	tcase_add_test(t, memory_lives_until_the_turn_ends);
	tcase_add_test(t, loops_draw_different_numbers);
	tcase_add_test(t, loop_without_descriptors_is_null);
	tcase_add_test(t, signals_are_events);
}

static void add_stream_tests(TCase *t)
{
	tcase_add_test(t, dial_tcp4);
	tcase_add_test(t, dial_tcp6);
	tcase_add_test(t, dial_refused);
	tcase_add_test(t, dial_without_descriptors);
	tcase_add_test(t, dial_unix);
	tcase_add_test(t, dial_can_be_closed_before_its_event);
	tcase_add_test(t, dial_does_not_meet_itself);
	tcase_add_test(t, eof_reset_and_abort);
	tcase_add_test(t, half_close);
	tcase_add_test(t, peek_consumes_nothing);
	tcase_add_test(t, readiness_is_level_triggered_and_as_wanted);
	tcase_add_test(t, write_until_refused_then_writable);
	tcase_add_test(t, no_event_for_the_closed_nor_for_the_next_owner_of_its_number);
	tcase_add_test(t, unwatchable_stream_fails_instead_of_hanging);
	tcase_add_test(t, a_stream_is_small);
	tcase_add_test(t, splice_moves_everything);
	tcase_add_test(t, splice_full_pipe);
	tcase_add_test(t, splice_pipes_are_kept_within_bounds);
	tcase_add_test(t, splice_never_leaks_bytes_of_another);
}

int main(void)
{
	Suite *s = suite_create("io");
	TCase *t = tcase_create("io");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, io_set_up, io_tear_down);
	tcase_set_timeout(t, 30);
	add_loop_tests(t);
	add_stream_tests(t);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
