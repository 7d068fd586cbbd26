/*
 * stream: one byte stream to a peer: a client's accepted socket, or an upstream being dialled and used.
 *
 *	dial --> CONNECTED or FAILED (always as an event) --> READABLE / WRITABLE --> stream_close()
 *
 * A stream has no buffer of its own. Reads and writes are non-blocking and return what the socket took. Readiness is
 * level-triggered for what stream_want() asks. All sockets are close-on-exec, non-blocking, TCP_NODELAY.
 */
#ifndef LEASED_IO_STREAM_H
#define LEASED_IO_STREAM_H

#include <sys/uio.h>

#include "base/addr.h"
#include "io/loop.h"

struct stream;

enum stream_event { STREAM_CONNECTED = 1, STREAM_FAILED = 2, STREAM_READABLE = 4, STREAM_WRITABLE = 8 };
enum stream_want { STREAM_WANT_NONE = 0, STREAM_WANT_READ = 1, STREAM_WANT_WRITE = 2 };

/* One event bit per call. After FAILED only stream_error() and stream_close() are legal. */
typedef void stream_fn(void *arg, enum stream_event ev);

struct tcp_opts {
	bool keepalive;
	int keepalive_idle_s, keepalive_interval_s, keepalive_count;
	int user_timeout_ms; /* 0: the system's */
};

/* Starts to connect. Never NULL; if no socket can be made, FAILED follows. Wants READ once connected. */
struct stream *stream_dial(struct loop *l, const struct addr *to, const struct tcp_opts *o, stream_fn *fn, void *arg);
/* Why FAILED came, or why the last read or write returned an error. */
enum err stream_error(const struct stream *s);
/* Who gets the events from now on. */
void stream_set_handler(struct stream *s, stream_fn *fn, void *arg);
void stream_want(struct stream *s, unsigned want); /* a set of enum stream_want; cheap when unchanged */
unsigned stream_wants(const struct stream *s);

/* All return ERR_OK with *n > 0, ERR_AGAIN (nothing now), ERR_EOF (reads), or the error. */
enum err stream_read(struct stream *s, void *p, size_t cap, size_t *n) MUST_CHECK;
enum err stream_write(struct stream *s, const void *p, size_t len, size_t *n) MUST_CHECK;
enum err stream_writev(struct stream *s, const struct iovec *iov, int cnt, size_t *n) MUST_CHECK;
/* ERR_OK: bytes wait to be read; ERR_AGAIN: none; ERR_EOF: the peer has closed; else the error. Consumes nothing. */
enum err stream_peek(struct stream *s) MUST_CHECK;
/* Half-close: no more writes; the peer reads EOF after what was written. */
void stream_shutdown(struct stream *s);
/* Closes the descriptor now (so its permit may be given back), frees at the end of the turn; nulls *s. NULL is fine. */
void stream_close(struct stream **s);
/* The same, but the peer gets a reset instead of EOF. */
void stream_abort(struct stream **s);

void stream_peer(const struct stream *s, struct addr *out); /* accepted: the client; dialled: the target */
/* Credentials of a Unix socket's peer; ERR_NOT_FOUND on TCP. */
enum err stream_peer_uid(const struct stream *s, uint32_t *uid, uint32_t *pid) MUST_CHECK;

/*
 * A pipe between two plain streams, for bulk: bytes move in the kernel. Borrowed while it holds bytes or a transfer runs.
 * splice_in/out return like stream_read/stream_write.
 */
struct splice;
struct splice *splice_borrow(struct loop *l); /* NULL: none to be had, copy instead */
enum err splice_in(struct splice *p, struct stream *from, size_t max, size_t *n) MUST_CHECK;
enum err splice_out(struct splice *p, struct stream *to, size_t *n) MUST_CHECK;
size_t splice_held(const struct splice *p);	       /* bytes inside now */
void splice_return(struct loop *l, struct splice **p); /* drops what it holds; nulls *p */

#endif
