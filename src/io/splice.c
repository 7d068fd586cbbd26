/*
 * splice: a pipe that carries bytes between two sockets inside the kernel; see stream.h.
 *
 * Pipes are a luxury: all of the process take at most one descriptor of 32, so that those shared out to clients and
 * servers are there when they come. A loop keeps a few empty pipes for the next borrower. A pipe that comes back with
 * bytes in it is closed: they belong to connections that are gone. splice() to a socket whose peer has gone raises
 * SIGPIPE, which the process must ignore.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <unistd.h>

#include "io/io_private.h"

#define SPLICE_MIN_BYTES 65536 /* less carries less than a copy through the scratch */

#define SPLICE_FIRST 4	/* so many may always be tried */
#define SPLICE_SHARE 64 /* one pipe (two descriptors) for so many of RLIMIT_NOFILE */

static atomic_int splice_pipes; /* of all loops */

struct splice {
	struct splice *next;
	int rd, wr;
	size_t held, cap;
};

/* The system limits how much all pipes of a user may hold, so a smaller one must do when a large one is refused. */
static size_t splice_size(int fd)
{
	static const int want[] = {1 << 20, 1 << 18};
	int n = -1;

	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]) && n < 0; i++)
		n = fcntl(fd, F_SETPIPE_SZ, want[i]);
	if (n < 0)
		n = fcntl(fd, F_GETPIPE_SZ);
	return n > 0 ? (size_t)n : 0;
}

static void splice_free(struct splice *p)
{
	close(p->rd);
	close(p->wr);
	mem_free(p);
	atomic_fetch_sub(&splice_pipes, 1);
}

static bool splice_may_open(void)
{
	int count = atomic_fetch_add(&splice_pipes, 1) + 1;
	struct rlimit rl;

	if (count <= SPLICE_FIRST)
		return true;
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && (rlim_t)count <= rl.rlim_cur / SPLICE_SHARE)
		return true;
	atomic_fetch_sub(&splice_pipes, 1);
	return false;
}

static struct splice *splice_new(void)
{
	struct splice *p;
	int fd[2];

	if (!splice_may_open())
		return NULL;
	if (pipe2(fd, O_NONBLOCK | O_CLOEXEC) < 0) {
		atomic_fetch_sub(&splice_pipes, 1);
		return NULL;
	}
	p = NEW(struct splice);
	p->rd = fd[0];
	p->wr = fd[1];
	p->cap = splice_size(fd[1]);
	if (p->cap < SPLICE_MIN_BYTES) {
		splice_free(p);
		return NULL;
	}
	return p;
}

struct splice *splice_borrow(struct loop *l)
{
	struct splice *p = l->pipes;

	if (l->n_borrowed >= SPLICE_MAX)
		return NULL;
	if (p) {
		l->pipes = p->next;
		l->n_pipes--;
		p->next = NULL;
	} else {
		p = splice_new();
	}
	if (p)
		l->n_borrowed++;
	return p;
}

void splice_return(struct loop *l, struct splice **pp)
{
	struct splice *p = *pp;

	if (!p)
		return;
	*pp = NULL;
	BUG_ON(l->n_borrowed == 0);
	l->n_borrowed--;
	if (p->held > 0 || l->n_pipes >= SPLICE_KEEP) {
		splice_free(p);
		return;
	}
	p->next = l->pipes;
	l->pipes = p;
	l->n_pipes++;
}

void splice_free_idle(struct loop *l)
{
	struct splice *p;

	while ((p = l->pipes) != NULL) {
		l->pipes = p->next;
		splice_free(p);
	}
	l->n_pipes = 0;
}

static ssize_t splice_move(int from, int to, size_t n)
{
	ssize_t r;

	do
		r = splice(from, NULL, to, NULL, n, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	while (r < 0 && errno == EINTR);
	return r;
}

/*
 * A pipe may be full long before its capacity in bytes is reached, as it counts in pages. Full pipe and empty socket
 * both say EAGAIN, and both mean the same to the caller: nothing can be taken in now.
 */
enum err splice_in(struct splice *p, struct stream *from, size_t max, size_t *n)
{
	size_t room = p->cap - p->held;
	ssize_t r;

	*n = 0;
	if (max < room)
		room = max;
	if (room == 0)
		return ERR_AGAIN;
	r = splice_move(stream_fd(from), p->wr, room);
	if (r > 0) {
		p->held += (size_t)r;
		*n = (size_t)r;
		return ERR_OK;
	}
	if (r == 0)
		return ERR_EOF;
	if (errno == EAGAIN)
		return ERR_AGAIN;
	stream_fail(from, errno);
	return stream_error(from);
}

enum err splice_out(struct splice *p, struct stream *to, size_t *n)
{
	ssize_t r;

	*n = 0;
	if (p->held == 0)
		return ERR_AGAIN;
	r = splice_move(p->rd, stream_fd(to), p->held);
	if (r > 0) {
		BUG_ON((size_t)r > p->held);
		p->held -= (size_t)r;
		*n = (size_t)r;
		return ERR_OK;
	}
	if (r == 0 || errno == EAGAIN)
		return ERR_AGAIN;
	stream_fail(to, errno);
	return stream_error(to);
}

size_t splice_held(const struct splice *p)
{
	return p->held;
}
