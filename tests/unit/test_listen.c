/* Tests of io/listen: TCP and Unix listeners on loopback, adopted ones, and descriptors running out. */
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <time.h>

#include "base/log.h"
#include "io_help.h"

#define MAX_ENDS 400

static struct listener *lis;
static struct end ends[MAX_ENDS];
static int n_ends;
static bool close_in_callback;
static char dir[40], path[64];
static const char *why;
static struct listen_opts opts = {.backlog = 128, .tcp = {true, 21, 22, 4, 23000}, .uid = -1, .gid = -1};

static void on_client(void *arg, struct stream *s)
{
	struct end *e = &ends[n_ends++];

	ck_assert_ptr_eq(arg, ends);
	ck_assert_uint_eq(stream_wants(s), STREAM_WANT_NONE);
	*e = (struct end){.s = s, .auto_read = true};
	stream_set_handler(s, end_event, e);
	if (close_in_callback)
		listener_close(&lis);
	loop_stop(loop);
}

static void set_up(void)
{
	io_set_up();
	snprintf(dir, sizeof(dir), "/tmp/leased-listen-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
}

static void tear_down(void)
{
	for (int i = 0; i < n_ends; i++)
		stream_close(&ends[i].s);
	listener_close(&lis);
	unlink(path);
	rmdir(dir);
	io_tear_down();
}

static void open_at(const char *text)
{
	struct addr_spec spec;

	ck_assert_int_eq(addr_parse(text, &spec, NULL), ERR_OK);
	why = NULL;
	ck_assert_int_eq(listener_open(loop, &spec.addr, &opts, on_client, ends, &lis, &why), ERR_OK);
}

static enum err try_at(const char *text)
{
	struct addr_spec spec;
	struct listener *l;
	enum err e;

	ck_assert_int_eq(addr_parse(text, &spec, NULL), ERR_OK);
	why = NULL;
	e = listener_open(loop, &spec.addr, &opts, on_client, ends, &l, &why);
	ck_assert_int_ne(e, ERR_OK);
	ck_assert_ptr_null(l);
	ck_assert_ptr_nonnull(why);
	return e;
}

/* A plain client socket, connected. */
static int client(const struct addr *a)
{
	int fd = socket(a->u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(connect(fd, &a->u.sa, a->len), 0);
	return fd;
}

static int opt_of(const struct stream *s, int level, int name)
{
	int v = -1;
	socklen_t n = sizeof(v);

	ck_assert_int_eq(getsockopt(stream_fd(s), level, name, &v, &n), 0);
	return v;
}

START_TEST(accepted_sockets_have_every_option)
{
	struct addr at, peer, own = {.len = sizeof(own.u)};
	struct stream *s;
	int fd;

	open_at("127.0.0.1:0");
	listener_addr(lis, &at);
	ck_assert_int_ne(at.u.in.sin_port, 0);
	fd = client(&at);
	WAIT_FOR(n_ends == 1);
	s = ends[0].s;
	ck_assert_int_eq(getsockname(fd, &own.u.sa, &own.len), 0);
	stream_peer(s, &peer);
	ck_assert(addr_equal(&peer, &own));
	ck_assert_int_eq(opt_of(s, IPPROTO_TCP, TCP_NODELAY), 1);
	ck_assert_int_eq(opt_of(s, SOL_SOCKET, SO_KEEPALIVE), 1);
	ck_assert_int_eq(opt_of(s, IPPROTO_TCP, TCP_KEEPIDLE), 21);
	ck_assert_int_eq(opt_of(s, IPPROTO_TCP, TCP_KEEPINTVL), 22);
	ck_assert_int_eq(opt_of(s, IPPROTO_TCP, TCP_KEEPCNT), 4);
	ck_assert_int_eq(opt_of(s, IPPROTO_TCP, TCP_USER_TIMEOUT), 23000);
	ck_assert_int_ne(fcntl(stream_fd(s), F_GETFD) & FD_CLOEXEC, 0);
	ck_assert_int_ne(fcntl(stream_fd(s), F_GETFL) & O_NONBLOCK, 0);
	ck_assert_int_eq(write(fd, "hi", 2), 2);
	turn();
	ck_assert_int_eq(ends[0].readable, 0);
	stream_want(s, STREAM_WANT_READ);
	WAIT_FOR(ends[0].got == 2);
	close(fd);
}
END_TEST

START_TEST(star_serves_both_families)
{
	struct addr at, v4 = {.len = sizeof(v4.u.in)};
	int fd[2] = {-1, -1};

	open_at("*:0");
	listener_addr(lis, &at);
	v4.u.in.sin_family = AF_INET;
	v4.u.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	v4.u.in.sin_port = at.u.in6.sin6_port;
	fd[0] = client(&v4);
	WAIT_FOR(n_ends == 1);
	if (at.u.sa.sa_family == AF_INET6) {
		at.u.in6.sin6_addr = in6addr_loopback;
		fd[1] = client(&at);
		WAIT_FOR(n_ends == 2);
	}
	close(fd[0]);
	close(fd[1]);
}
END_TEST

START_TEST(pause_leaves_clients_in_the_backlog)
{
	struct addr at;
	int fd[2];

	open_at("127.0.0.1:0");
	listener_addr(lis, &at);
	listener_pause(lis, true);
	listener_pause(lis, true);
	fd[0] = client(&at);
	fd[1] = client(&at);
	turn();
	turn();
	ck_assert_int_eq(n_ends, 0);
	listener_pause(lis, false);
	WAIT_FOR(n_ends == 2);
	close(fd[0]);
	close(fd[1]);
}
END_TEST

START_TEST(a_turn_accepts_one_batch)
{
	struct addr at;
	int fd[LISTEN_BATCH + 10];

	open_at("127.0.0.1:0");
	listener_addr(lis, &at);
	for (int i = 0; i < LISTEN_BATCH + 10; i++)
		fd[i] = client(&at);
	loop_run(loop);
	ck_assert_int_eq(n_ends, LISTEN_BATCH);
	loop_run(loop);
	ck_assert_int_eq(n_ends, LISTEN_BATCH + 10);
	for (int i = 0; i < LISTEN_BATCH + 10; i++)
		close(fd[i]);
}
END_TEST

START_TEST(closed_by_its_own_callback)
{
	struct addr at;
	int fd[2];

	open_at("127.0.0.1:0");
	listener_addr(lis, &at);
	close_in_callback = true;
	fd[0] = client(&at);
	fd[1] = client(&at);
	loop_run(loop);
	turn();
	ck_assert_int_eq(n_ends, 1);
	ck_assert_ptr_null(lis);
	close(fd[0]);
	close(fd[1]);
}
END_TEST

/* Proves: G8 */
START_TEST(port_in_use)
{
	struct addr at;
	char text[ADDR_TEXT_MAX];

	open_at("127.0.0.1:0");
	listener_addr(lis, &at);
	addr_format(&at, text, sizeof(text));
	ck_assert_int_eq(try_at(text), ERR_CANT_CREATE);
	ck_assert_ptr_nonnull(strstr(why, "bind: Address already in use"));
}
END_TEST

/* ---- Unix sockets ---- */

static const char *unix_text(void)
{
	static char text[80];

	snprintf(text, sizeof(text), "unix:%s", path);
	return text;
}

static unsigned mode_of(const char *file)
{
	struct stat st;

	ck_assert_int_eq(lstat(file, &st), 0);
	return st.st_mode & 07777;
}

START_TEST(unix_mode_owner_and_peer)
{
	struct stat st;
	struct addr at;
	uint32_t uid, pid;
	int fd;

	umask(0);
	opts.mode = 0;
	open_at(unix_text());
	ck_assert_uint_eq(mode_of(path), 0600); /* what it is until the mode is set */
	listener_close(&lis);
	turn();
	ck_assert_int_lt(lstat(path, &st), 0);
	umask(0777);
	opts.mode = 0661;
	if (getuid() == 0) {
		opts.uid = 12345;
		opts.gid = 54321;
	}
	open_at(unix_text());
	ck_assert_uint_eq(mode_of(path), 0661);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_uid, getuid() == 0 ? 12345 : getuid());
	ck_assert_uint_eq(st.st_gid, getuid() == 0 ? 54321 : getgid());
	listener_addr(lis, &at);
	fd = client(&at);
	WAIT_FOR(n_ends == 1);
	ck_assert_int_eq(stream_peer_uid(ends[0].s, &uid, &pid), ERR_OK);
	ck_assert_uint_eq(uid, getuid());
	ck_assert_uint_eq(pid, (uint32_t)getpid());
	close(fd);
}
END_TEST

/* Proves: G8 */
START_TEST(unix_stale_file_is_replaced)
{
	struct addr_spec spec;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	ck_assert_int_eq(addr_parse(unix_text(), &spec, NULL), ERR_OK);
	ck_assert_int_eq(bind(fd, &spec.addr.u.sa, spec.addr.len), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	close(fd);
	open_at(unix_text());
	fd = client(&spec.addr);
	WAIT_FOR(n_ends == 1);
	close(fd);
}
END_TEST

/* Proves: G8 */
START_TEST(unix_live_or_foreign_file_is_kept)
{
	struct addr_spec spec;
	struct stat st;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	ck_assert_int_eq(addr_parse(unix_text(), &spec, NULL), ERR_OK);
	ck_assert_int_eq(bind(fd, &spec.addr.u.sa, spec.addr.len), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	ck_assert_int_eq(try_at(unix_text()), ERR_CANT_CREATE);
	ck_assert_str_eq(why, "another process listens on it");
	close(client(&spec.addr));
	close(fd);
	unlink(path);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	ck_assert_int_eq(try_at(unix_text()), ERR_CANT_CREATE);
	ck_assert_str_eq(why, "a file that is no socket is in the way");
	close(fd);
	ck_assert_int_eq(lstat(path, &st), 0);
	unlink(path);
	ck_assert_int_eq(try_at("unix:/tmp/leased-no-such-directory/s"), ERR_NOT_FOUND);
}
END_TEST

START_TEST(unix_file_of_a_successor_is_not_removed)
{
	struct listener *second;
	struct addr_spec spec;
	struct stat st;

	open_at(unix_text());
	unlink(path);
	ck_assert_int_eq(addr_parse(unix_text(), &spec, NULL), ERR_OK);
	ck_assert_int_eq(listener_open(loop, &spec.addr, &opts, on_client, ends, &second, &why), ERR_OK);
	listener_close(&lis);
	ck_assert_int_eq(lstat(path, &st), 0);
	listener_close(&second);
	ck_assert_int_lt(lstat(path, &st), 0);
}
END_TEST

START_TEST(unix_abstract)
{
	char text[64];
	struct addr at;
	int fd;

	snprintf(text, sizeof(text), "unix:@leased-test-%d", (int)getpid());
	open_at(text);
	ck_assert_int_eq(try_at(text), ERR_CANT_CREATE);
	listener_addr(lis, &at);
	fd = client(&at);
	WAIT_FOR(n_ends == 1);
	close(fd);
}
END_TEST

/* ---- adopted ---- */

/* Proves: G9 */
START_TEST(adopt_checks_what_it_gets)
{
	struct listener *l;
	struct addr at;
	int fd = open("/dev/null", O_RDONLY), up = raw_listen(&at, AF_INET), con;

	ck_assert_int_eq(listener_adopt(loop, fd, &opts, on_client, ends, &l, &why), ERR_CONFIG);
	ck_assert_str_eq(why, "the descriptor passed in is not a socket");
	close(fd);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	ck_assert_int_eq(listener_adopt(loop, fd, &opts, on_client, ends, &l, &why), ERR_CONFIG);
	ck_assert_str_eq(why, "the socket passed in is not a stream socket");
	close(fd);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_eq(listener_adopt(loop, fd, &opts, on_client, ends, &l, &why), ERR_CONFIG);
	ck_assert_str_eq(why, "the socket passed in does not listen");
	close(fd);
	ck_assert_int_eq(listener_adopt(loop, up, &opts, on_client, ends, &lis, &why), ERR_OK);
	con = client(&at);
	WAIT_FOR(n_ends == 1);
	ck_assert_int_eq(opt_of(ends[0].s, IPPROTO_TCP, TCP_NODELAY), 1);
	ck_assert_int_ne(fcntl(up, F_GETFL) & O_NONBLOCK, 0);
	ck_assert_int_ne(fcntl(up, F_GETFD) & FD_CLOEXEC, 0);
	close(con);
}
END_TEST

START_TEST(adopted_file_stays)
{
	struct addr_spec spec;
	struct stat st;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	ck_assert_int_eq(addr_parse(unix_text(), &spec, NULL), ERR_OK);
	ck_assert_int_eq(bind(fd, &spec.addr.u.sa, spec.addr.len), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	ck_assert_int_eq(listener_adopt(loop, fd, &opts, on_client, ends, &lis, &why), ERR_OK);
	listener_close(&lis);
	ck_assert_int_eq(lstat(path, &st), 0);
}
END_TEST

/* ---- descriptors run out ---- */

static int64_t cpu_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return ts.tv_sec * INT64_C(1000000) + ts.tv_nsec / 1000;
}

static int count_lines(const char *file, const char *what)
{
	char line[512];
	FILE *f = fopen(file, "re");
	int n = 0;

	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, what) != NULL;
	fclose(f);
	return n;
}

static void connect_all(int *fd, int n, const struct addr *a)
{
	for (int i = 0; i < n; i++) {
		fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		ck_assert_int_ge(fd[i], 0);
		ck_assert(connect(fd[i], &a->u.sa, a->len) == 0 || errno == EINPROGRESS);
	}
}

/* Proves: R1 M25 RES-4 */
START_TEST(exhaustion_sheds_without_spinning_and_recovers)
{
	struct log_opts lo = {.target = LOG_TO_FILE, .format = LOG_FMT_TEXT, .level = LOG_LV_INFO, .file = path};
	struct addr at;
	int fd[60], shed = 0;
	int64_t cpu, freed;
	rlim_t was;
	char byte;

	ck_assert_int_eq(log_open(&lo), ERR_OK);
	open_at("127.0.0.1:0");
	listener_addr(lis, &at);
	connect_all(fd, 60, &at);
	was = limit_fds(10);
	cpu = cpu_us();
	run_for(1500000);
	cpu = cpu_us() - cpu;
	ck_assert_int_eq(n_ends, 10);
	ck_assert_int_lt(cpu, 1500000 / 50); /* a wide 2%: the machine may be slow, a spin is 100% */
	for (int i = 10; i < 60; i++)
		shed += recv(fd[i], &byte, 1, 0) == 0;
	ck_assert_int_ge(shed, 10); /* one each 50 ms */
	ck_assert_int_le(shed, 31);
	unlimit_fds(was);
	freed = clock_us();
	WAIT_FOR(n_ends == 60 - shed);
	ck_assert_int_lt(clock_us() - freed, 100000);
	log_close();
	ck_assert_int_ge(count_lines(path, "listen.accept"), 1);
	ck_assert_int_le(count_lines(path, "listen.accept"), 2);
	ck_assert_int_ge(count_lines(path, "reason=no_fds"), 1);
	for (int i = 0; i < 60; i++)
		close(fd[i]);
}
END_TEST

/* Also when the spare descriptor is gone: somebody took its number meanwhile. Proves: R1 */
START_TEST(exhaustion_pauses_even_without_a_spare)
{
	struct addr at;
	int fd[20];
	rlim_t was;

	open_at("127.0.0.1:0");
	listener_addr(lis, &at);
	connect_all(fd, 20, &at);
	was = limit_fds(0);
	unlimit_fds(16); /* below what is open: even the spare can't be opened again */
	run_for(120000);
	ck_assert_int_eq(n_ends, 0);
	unlimit_fds(was);
	WAIT_FOR(n_ends > 0);
	run_for(60000);
	ck_assert_int_ge(n_ends, 17);
	for (int i = 0; i < 20; i++)
		close(fd[i]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("listen");
	TCase *t = tcase_create("listen");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, set_up, tear_down);
	tcase_set_timeout(t, 30);
	tcase_add_test(t, accepted_sockets_have_every_option);
	tcase_add_test(t, star_serves_both_families);
	tcase_add_test(t, pause_leaves_clients_in_the_backlog);
	tcase_add_test(t, a_turn_accepts_one_batch);
	tcase_add_test(t, closed_by_its_own_callback);
	tcase_add_test(t, port_in_use);
	tcase_add_test(t, unix_mode_owner_and_peer);
	tcase_add_test(t, unix_stale_file_is_replaced);
	tcase_add_test(t, unix_live_or_foreign_file_is_kept);
	tcase_add_test(t, unix_file_of_a_successor_is_not_removed);
	tcase_add_test(t, unix_abstract);
	tcase_add_test(t, adopt_checks_what_it_gets);
	tcase_add_test(t, adopted_file_stays);
	tcase_add_test(t, exhaustion_sheds_without_spinning_and_recovers);
	tcase_add_test(t, exhaustion_pauses_even_without_a_spare);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
