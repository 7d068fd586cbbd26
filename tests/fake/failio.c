/*
 * failio: a preloaded library that makes system calls misbehave the way a kernel may.
 *
 *	LD_PRELOAD=build/tests/failio.so FAILIO_CTL=page leased ...
 *
 * The control page is a file of 4096 bytes that the test maps or writes while the program runs:
 *
 *	   0  int32  one_in	one in so many calls is cut short, interrupted (EINTR) or told EAGAIN; 0: none
 *	   8  int64  shortened	how many were
 *	  64  for each call of `calls` below, 16 bytes:
 *	      int32  n		the next n calls fail (< 0: all) ...
 *	      int32  err	... with this errno
 *	      int64  hits	how many did
 *
 * `recv` and `send` stand for every way to read from or write to a stream socket; `read` and `write` for the other kinds
 * of descriptor, where nothing is cut short and EAGAIN is only told on pipes. FAIL=call:n:errno arms one row from the
 * start. Datagram sockets are left alone.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum call {
	C_ACCEPT4,
	C_SOCKET,
	C_CONNECT,
	C_READ,
	C_WRITE,
	C_RECV,
	C_SEND,
	C_SPLICE,
	C_OPEN,
	C_EPOLL_CTL,
	C_PIPE2,
	C_N
};
static const char *const calls[C_N] = {"accept4", "socket", "connect", "read",	    "write", "recv",
				       "send",	  "splice", "open",    "epoll_ctl", "pipe2"};

struct row {
	int32_t n, err;
	int64_t hits;
};

struct page {
	int32_t one_in, pad;
	int64_t shortened;
	char gap[48];
	struct row row[C_N];
};

static struct page *page;
static struct page own; /* without FAILIO_CTL */
static __thread uint64_t seed;

/* The real function; a union because ISO C has no cast from an object pointer. */
#define REAL(type, name, ...)                                                                                        \
	static type (*real)(__VA_ARGS__);                                                                            \
	if (!real) {                                                                                                 \
		union {                                                                                              \
			void *p;                                                                                     \
			type (*f)(__VA_ARGS__);                                                                      \
		} u = {.p = dlsym(RTLD_NEXT, #name)};                                                                \
		real = u.f;                                                                                          \
	}

static void failio_arm(const char *text)
{
	char name[32];
	int n, err;

	if (sscanf(text, "%31[a-z0-9_]:%d:%d", name, &n, &err) != 3)
		return;
	for (int i = 0; i < C_N; i++)
		if (!strcmp(name, calls[i]))
			page->row[i] = (struct row){.n = n, .err = err};
}

__attribute__((constructor)) static void failio_init(void)
{
	const char *path = getenv("FAILIO_CTL"), *fail = getenv("FAIL");

	page = &own;
	if (path) {
		REAL(int, open, const char *, int, ...)
		int fd = real(path, O_RDWR | O_CLOEXEC);
		void *p = fd < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

		if (p == MAP_FAILED) {
			fprintf(stderr, "failio: %s: %s\n", path, strerror(errno));
			_exit(126);
		}
		close(fd);
		page = p;
	}
	if (fail)
		failio_arm(fail);
}

static uint64_t failio_random(void)
{
	if (!seed)
		seed = (uint64_t)getpid() * 0x9E3779B97F4A7C15u ^ (uintptr_t)&seed;
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* Whether this call is to fail now; sets errno. */
static bool failio_fails(enum call c)
{
	struct row *r;
	int32_t n;

	if (!page)
		return false;
	r = &page->row[c];
	n = __atomic_load_n(&r->n, __ATOMIC_RELAXED);
	if (!n)
		return false;
	if (n > 0 && __atomic_fetch_sub(&r->n, 1, __ATOMIC_RELAXED) <= 0) {
		__atomic_store_n(&r->n, 0, __ATOMIC_RELAXED);
		return false;
	}
	__atomic_fetch_add(&r->hits, 1, __ATOMIC_RELAXED);
	errno = r->err;
	return true;
}

enum kind { K_OTHER, K_PIPE, K_STREAM, K_DGRAM };

static enum kind failio_kind(int fd)
{
	int type, saved = errno;
	socklen_t len = sizeof(type);
	enum kind k = K_OTHER;
	struct stat st;

	if (!getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len))
		k = type == SOCK_STREAM ? K_STREAM : K_DGRAM;
	else if (!fstat(fd, &st) && S_ISFIFO(st.st_mode))
		k = K_PIPE;
	errno = saved;
	return k;
}

static bool failio_roll(void)
{
	int32_t one_in = page ? __atomic_load_n(&page->one_in, __ATOMIC_RELAXED) : 0;

	if (one_in <= 0 || failio_random() % (uint64_t)one_in)
		return false;
	__atomic_fetch_add(&page->shortened, 1, __ATOMIC_RELAXED);
	return true;
}

/* Decides on a transfer of n bytes: -1 with errno, or how many bytes may go. */
static ssize_t failio_size(enum kind k, size_t n)
{
	if (k == K_DGRAM || k == K_OTHER || !failio_roll())
		return (ssize_t)n;
	switch (failio_random() % 4) {
	case 0:
		errno = EINTR;
		return -1;
	case 1:
		errno = EAGAIN;
		return -1;
	default:
		return n > 1 ? (ssize_t)(1 + failio_random() % (n - 1)) : (ssize_t)n;
	}
}

static ssize_t failio_in(int fd, size_t n)
{
	enum kind k = failio_kind(fd);

	if (failio_fails(k == K_STREAM ? C_RECV : C_READ))
		return -1;
	return failio_size(k, n);
}

static ssize_t failio_out(int fd, size_t n)
{
	enum kind k = failio_kind(fd);

	if (k != K_DGRAM && failio_fails(k == K_STREAM ? C_SEND : C_WRITE))
		return -1;
	return failio_size(k, n);
}

EXPORT ssize_t read(int fd, void *p, size_t n)
{
	REAL(ssize_t, read, int, void *, size_t)
	ssize_t m = n ? failio_in(fd, n) : 0;

	return m < 0 ? -1 : real(fd, p, (size_t)m);
}

EXPORT ssize_t __read_chk(int fd, void *p, size_t n, size_t room);
EXPORT ssize_t __read_chk(int fd, void *p, size_t n, size_t room)
{
	if (n > room)
		abort();
	return read(fd, p, n);
}

EXPORT ssize_t write(int fd, const void *p, size_t n)
{
	REAL(ssize_t, write, int, const void *, size_t)
	ssize_t m = n ? failio_out(fd, n) : 0;

	return m < 0 ? -1 : real(fd, p, (size_t)m);
}

EXPORT ssize_t recv(int fd, void *p, size_t n, int flags)
{
	REAL(ssize_t, recv, int, void *, size_t, int)
	ssize_t m = n ? failio_in(fd, n) : 0;

	return m < 0 ? -1 : real(fd, p, (size_t)m, flags);
}

EXPORT ssize_t __recv_chk(int fd, void *p, size_t n, size_t room, int flags);
EXPORT ssize_t __recv_chk(int fd, void *p, size_t n, size_t room, int flags)
{
	if (n > room)
		abort();
	return recv(fd, p, n, flags);
}

EXPORT ssize_t send(int fd, const void *p, size_t n, int flags)
{
	REAL(ssize_t, send, int, const void *, size_t, int)
	ssize_t m = n ? failio_out(fd, n) : 0;

	return m < 0 ? -1 : real(fd, p, (size_t)m, flags);
}

/* Cuts a vector to m bytes into `out`; returns how many elements that are. */
static int failio_cut(const struct iovec *v, int n, size_t m, struct iovec *out)
{
	int i;

	for (i = 0; i < n && m; i++) {
		out[i] = v[i];
		if (out[i].iov_len > m)
			out[i].iov_len = m;
		m -= out[i].iov_len;
	}
	return i;
}

static size_t failio_total(const struct iovec *v, int n)
{
	size_t sum = 0;

	for (int i = 0; i < n; i++)
		sum += v[i].iov_len;
	return sum;
}

#define VECTOR_MAX 64

EXPORT ssize_t readv(int fd, const struct iovec *v, int n)
{
	REAL(ssize_t, readv, int, const struct iovec *, int)
	struct iovec cut[VECTOR_MAX];
	size_t total = failio_total(v, n);
	ssize_t m = total && n <= VECTOR_MAX ? failio_in(fd, total) : (ssize_t)total;

	if (m < 0)
		return -1;
	if ((size_t)m == total)
		return real(fd, v, n);
	return real(fd, cut, failio_cut(v, n, (size_t)m, cut));
}

EXPORT ssize_t writev(int fd, const struct iovec *v, int n)
{
	REAL(ssize_t, writev, int, const struct iovec *, int)
	struct iovec cut[VECTOR_MAX];
	size_t total = failio_total(v, n);
	ssize_t m = total && n <= VECTOR_MAX ? failio_out(fd, total) : (ssize_t)total;

	if (m < 0)
		return -1;
	if ((size_t)m == total)
		return real(fd, v, n);
	return real(fd, cut, failio_cut(v, n, (size_t)m, cut));
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	REAL(ssize_t, sendmsg, int, const struct msghdr *, int)
	struct iovec cut[VECTOR_MAX];
	struct msghdr mine = *msg;
	size_t total = failio_total(msg->msg_iov, (int)msg->msg_iovlen);
	ssize_t m = total && msg->msg_iovlen <= VECTOR_MAX ? failio_out(fd, total) : (ssize_t)total;

	if (m < 0)
		return -1;
	if ((size_t)m == total)
		return real(fd, msg, flags);
	mine.msg_iovlen = (size_t)failio_cut(msg->msg_iov, (int)msg->msg_iovlen, (size_t)m, cut);
	mine.msg_iov = cut;
	return real(fd, &mine, flags);
}

EXPORT ssize_t splice(int in, off64_t *in_off, int out, off64_t *out_off, size_t n, unsigned int flags)
{
	REAL(ssize_t, splice, int, off64_t *, int, off64_t *, size_t, unsigned int)
	ssize_t m;

	if (failio_fails(C_SPLICE))
		return -1;
	m = failio_size(K_PIPE, n);
	return m < 0 ? -1 : real(in, in_off, out, out_off, (size_t)m, flags);
}

EXPORT int accept4(int fd, struct sockaddr *sa, socklen_t *len, int flags)
{
	REAL(int, accept4, int, struct sockaddr *, socklen_t *, int)
	if (failio_fails(C_ACCEPT4))
		return -1;
	if (failio_roll()) {
		errno = failio_random() % 2 ? EINTR : EAGAIN;
		return -1;
	}
	return real(fd, sa, len, flags);
}

EXPORT int socket(int domain, int type, int protocol)
{
	REAL(int, socket, int, int, int)
	return failio_fails(C_SOCKET) ? -1 : real(domain, type, protocol);
}

EXPORT int connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	REAL(int, connect, int, const struct sockaddr *, socklen_t)
	if (failio_kind(fd) == K_STREAM && failio_fails(C_CONNECT))
		return -1;
	return real(fd, sa, len);
}

EXPORT int open(const char *path, int flags, ...)
{
	REAL(int, open, const char *, int, ...)
	mode_t mode = 0;
	va_list ap;

	if (flags & (O_CREAT | O_TMPFILE)) {
		va_start(ap, flags);
		mode = va_arg(ap, mode_t);
		va_end(ap);
	}
	return failio_fails(C_OPEN) ? -1 : real(path, flags, mode);
}

EXPORT int epoll_ctl(int ep, int op, int fd, struct epoll_event *ev)
{
	REAL(int, epoll_ctl, int, int, int, struct epoll_event *)
	return op == EPOLL_CTL_ADD && failio_fails(C_EPOLL_CTL) ? -1 : real(ep, op, fd, ev);
}

EXPORT int epoll_wait(int ep, struct epoll_event *ev, int n, int timeout)
{
	REAL(int, epoll_wait, int, struct epoll_event *, int, int)
	if (failio_roll()) {
		errno = EINTR;
		return -1;
	}
	return real(ep, ev, n, timeout);
}

EXPORT int pipe2(int fd[2], int flags)
{
	REAL(int, pipe2, int *, int)
	return failio_fails(C_PIPE2) ? -1 : real(fd, flags);
}
