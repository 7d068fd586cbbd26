/*
 * listen: a listening socket that survives descriptor exhaustion.
 *
 * Accepts until there is nothing left, at most LISTEN_BATCH a turn. On EMFILE/ENFILE/ENOBUFS/ENOMEM it sheds one client
 * through a spare descriptor, stops listening for events, and tries again LISTEN_RETRY_US later: no spin, at most one
 * log line a second, no lost listener.
 */
#ifndef LEASED_IO_LISTEN_H
#define LEASED_IO_LISTEN_H

#include "io/stream.h"

#define LISTEN_BATCH	     64
#define LISTEN_RETRY_US	     50000
#define LISTEN_RETRY_SOON_US 2000

struct listener;

struct listen_opts {
	int backlog;
	struct tcp_opts tcp;
	/* Unix sockets: made with umask 0177, then these are applied before listen(2) makes it usable. */
	unsigned mode;
	int64_t uid, gid; /* -1: leave */
};

/* Gives the accepted stream away; the receiver owns it and must set a handler. It wants nothing yet. */
typedef void listen_fn(void *arg, struct stream *s);

/*
 * Binds and listens. A stale Unix socket file (nobody answers) is replaced, a live one is ERR_CANT_CREATE.
 * *why (out): a text for people, valid until the next call in this thread.
 */
enum err listener_open(struct loop *l, const struct addr *a, const struct listen_opts *o, listen_fn *fn, void *arg,
		       struct listener **out, const char **why) MUST_CHECK;
/* Takes a descriptor that already listens (socket activation). It is not unlinked at close. */
enum err listener_adopt(struct loop *l, int fd, const struct listen_opts *o, listen_fn *fn, void *arg,
			struct listener **out, const char **why) MUST_CHECK;
void listener_pause(struct listener *s, bool paused);		/* clients then wait in the backlog */
void listener_addr(const struct listener *s, struct addr *out); /* bound address, with the real port */
void listener_close(struct listener **s);			/* unlinks a Unix socket it made; nulls */

#endif
