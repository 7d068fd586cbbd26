/*
 * sim_stream: the inside of a simulated stream, which the checks look into: what it carries is judged from outside.
 */
#ifndef LEASED_SIM_STREAM_H
#define LEASED_SIM_STREAM_H

#include "io/stream.h"
#include "net.h"
#include "sim_loop.h"

enum stream_phase { STREAM_DIALLING, STREAM_OPEN, STREAM_BROKEN, STREAM_CLOSED };

struct stream {
	struct ready ready;
	struct loop *loop;
	struct sock *sock; /* NULL: no descriptor was to be had, or closed */
	enum stream_phase phase;
	unsigned want;
	enum err err;
	stream_fn *fn;
	void *arg;
	bool dialled, shut;
	struct addr peer, local; /* local: accepted only, the listener's */
	struct port *port;	 /* dialled: where to */
	struct node node;	 /* dialled ones that have a socket */
	/* What the checks know (check.c). */
	struct upstream *up; /* dialled: whose connection this is, once connected */
	enum err stale;	     /* what had already arrived when it was lent: ERR_OK nothing, ERR_DIRTY bytes,
					   ERR_EOF its end */
	uint64_t bytes_in;
};

/* All dialled streams that have a socket, oldest first. */
extern struct list sim_dialled;
/* Called when bytes are moved; the checks judge. */
struct stream_watch {
	void (*dialled)(struct stream *s);
	void (*closed)(struct stream *s);
	void (*moved)(struct stream *s, bool in, size_t n); /* out with 0 bytes: an attempt */
};
extern struct stream_watch sim_watch;

void sim_streams_begin(void);

#endif
