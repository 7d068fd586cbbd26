/*
 * net: the kernel and the wire of the virtual world: ports, connections, and the sockets at their two ends.
 *
 *	sock_connect --syn--> port (backlog) --accept--> sock      connection = two ends + two halves
 *	end 0 ==half 0==> end 1      a half: bytes written but not read, of which the first `arrived` are there,
 *	end 1 ==half 1==> end 0      plus what is still on its way as segments (data, end, reset), first in first out
 *
 * A half takes as many bytes as its capacity (the two socket buffers and the wire together), so writes come up short.
 * Closing with unread bytes, or bytes that reach a closed end, cause a reset, as in a kernel. Scripted actors use sockets
 * directly and are called at once; a loop's streams (sim_stream.c) put a turn between.
 */
#ifndef LEASED_SIM_NET_H
#define LEASED_SIM_NET_H

#include "world.h"

struct sock;
struct port;

/* Something about the socket has changed: look. Never called from inside a call on the same socket. */
typedef void sock_fn(struct sock *s, void *arg);
/* Connections wait in the port: take them with port_accept(). */
typedef void port_fn(struct port *p, void *arg);

struct link {
	int64_t lat_min_us, lat_max_us;
	bool hole; /* nothing gets through: it is sent again and again until it does */
};

struct port {
	struct node node;
	struct addr addr;
	uint64_t id;
	struct link link;
	bool refuse;		 /* answers SYN with a reset */
	bool deaf;		 /* never answers a SYN */
	size_t backlog;		 /* of the accept queue; further SYNs are dropped and sent again */
	struct list queue;	 /* connections that wait for accept */
	struct list conns;	 /* all that came here and are not gone */
	size_t cap_min, cap_max; /* bytes a half takes */
	port_fn *fn;
	void *arg;
	int dialled; /* sockets made by streams that are open towards here */
	int dialled_most;
	void *owner; /* what the checks know of it */
};

struct port *port_open(const struct addr *a, port_fn *fn, void *arg);
void port_close(struct port **p); /* what waits for accept is reset */
struct port *port_find(const struct addr *a);
/* The next waiting connection; NULL: none. */
struct sock *port_accept(struct port *p, sock_fn *fn, void *arg);
void port_requeue(struct port *p); /* calls fn again if somebody waits */

struct sock *sock_connect(const struct addr *to, const struct addr *from, sock_fn *fn, void *arg);
void sock_set_handler(struct sock *s, sock_fn *fn, void *arg);
bool sock_connected(const struct sock *s);
enum err sock_error(const struct sock *s); /* ERR_OK: none */
/* As stream_read() and stream_write(). */
enum err sock_read(struct sock *s, void *p, size_t cap, size_t *n) MUST_CHECK;
enum err sock_write(struct sock *s, const void *p, size_t len, size_t *n) MUST_CHECK;
enum err sock_peek(const struct sock *s) MUST_CHECK;
size_t sock_unread(const struct sock *s); /* bytes that have arrived */
bool sock_readable(const struct sock *s); /* bytes, end or reset */
bool sock_writable(const struct sock *s); /* room, or an error to report */
void sock_expect_room(struct sock *s);	  /* call fn when there is room */
void sock_shutdown(struct sock *s);
void sock_close(struct sock **s);
void sock_abort(struct sock **s);
/* What one end writes down about itself, for the checks of the other. */
void sock_set_mark(struct sock *s, uint64_t mark);
uint64_t sock_peer_mark(const struct sock *s);
uint64_t sock_id(const struct sock *s);
struct port *sock_port(const struct sock *s); /* NULL: nobody listens there any more */
void sock_peer(const struct sock *s, struct addr *out);

size_t net_socks(void); /* sockets that exist */
void net_end(void);	/* the world ends: none may be left */

#endif
