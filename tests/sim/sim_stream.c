/* sim_stream: io/stream.h and io/listen.h over the simulated sockets. */
#include "sim_stream.h"

#include <string.h>

#include "base/mem.h"
#include "io/listen.h"

struct list sim_dialled;
struct stream_watch sim_watch;

static void stream_run(struct ready *r);

void sim_streams_begin(void)
{
	list_init(&sim_dialled);
	sim_watch = (struct stream_watch){0};
}

/* Level-triggered: on the loop's list while something it wants is there. */
static void stream_update(struct stream *s)
{
	bool due = false;

	if (s->phase == STREAM_DIALLING)
		due = !s->sock || sock_connected(s->sock) || sock_error(s->sock) != ERR_OK;
	else if (s->phase == STREAM_OPEN)
		due = (s->want & STREAM_WANT_READ && sock_readable(s->sock)) ||
		      (s->want & STREAM_WANT_WRITE && sock_writable(s->sock));
	if (s->phase == STREAM_OPEN && s->want & STREAM_WANT_WRITE && !sock_writable(s->sock))
		sock_expect_room(s->sock);
	if (due)
		loop_make_ready(s->loop, &s->ready);
	else if (list_is_on(&s->ready.node))
		list_remove(&s->ready.node);
}

static void stream_noticed(struct sock *sock, void *arg)
{
	(void)sock;
	stream_update(arg);
}

static void stream_call(struct stream *s, enum stream_event ev)
{
	trace(TR_CALL, s->sock ? sock_id(s->sock) : 0, ev, loop_id(s->loop));
	world.current = s;
	s->fn(s->arg, ev);
	loop_called(s->loop);
}

static void stream_run_dial(struct stream *s)
{
	if (s->sock && sock_connected(s->sock)) {
		s->phase = STREAM_OPEN;
		s->want = STREAM_WANT_READ;
		stream_call(s, STREAM_CONNECTED);
		return;
	}
	s->phase = STREAM_BROKEN;
	s->err = s->sock ? sock_error(s->sock) : ERR_NO_FDS;
	stream_call(s, STREAM_FAILED);
}

static void stream_run(struct ready *r)
{
	struct stream *s = container_of(r, struct stream, ready);
	bool spurious = world_bug(world.bug.spurious);

	BUG_ON(s->phase == STREAM_CLOSED || s->phase == STREAM_BROKEN);
	if (s->phase == STREAM_DIALLING) {
		stream_run_dial(s);
	} else {
		if (s->want & STREAM_WANT_READ && (spurious || sock_readable(s->sock)))
			stream_call(s, STREAM_READABLE);
		if (s->phase == STREAM_OPEN && s->want & STREAM_WANT_WRITE && (spurious || sock_writable(s->sock)))
			stream_call(s, STREAM_WRITABLE);
	}
	if (s->phase == STREAM_OPEN)
		stream_update(s);
}

static struct stream *stream_make(struct loop *l, const struct addr *peer)
{
	struct stream *s = NEW(struct stream);

	s->ready.run = stream_run;
	s->loop = l;
	s->peer = *peer;
	l->n_streams++;
	return s;
}

struct stream *stream_dial(struct loop *l, const struct addr *to, const struct tcp_opts *o, stream_fn *fn, void *arg)
{
	struct stream *s = stream_make(l, to);
	struct addr from = sim_addr(200, 1);

	(void)o;
	s->fn = fn;
	s->arg = arg;
	s->dialled = true;
	if (world_bug(world.bug.emfile_dial)) {
		trace(TR_NO_FD, loop_id(l), 0, 0);
		stream_update(s);
		return s;
	}
	s->sock = sock_connect(to, &from, stream_noticed, s);
	s->port = port_find(to);
	list_push_back(&sim_dialled, &s->node);
	if (s->port && ++s->port->dialled > s->port->dialled_most)
		s->port->dialled_most = s->port->dialled;
	trace(TR_DIAL, sock_id(s->sock), s->port ? s->port->id : 0, loop_id(l));
	if (sim_watch.dialled)
		sim_watch.dialled(s);
	return s;
}

enum err stream_error(const struct stream *s)
{
	return s->err;
}

void stream_set_handler(struct stream *s, stream_fn *fn, void *arg)
{
	BUG_ON(s->phase == STREAM_CLOSED);
	s->fn = fn;
	s->arg = arg;
}

void stream_want(struct stream *s, unsigned want)
{
	BUG_ON(s->phase != STREAM_OPEN);
	if (want & STREAM_WANT_READ)
		BUG_ON(s->fn == NULL);
	if (s->want == want)
		return;
	s->want = want;
	stream_update(s);
}

unsigned stream_wants(const struct stream *s)
{
	BUG_ON(s->phase == STREAM_CLOSED);
	return s->want;
}

/* ---- bytes ---- */

static enum err stream_result(struct stream *s, enum err e, bool in, size_t n)
{
	if (e == ERR_OK && sim_watch.moved)
		sim_watch.moved(s, in, n);
	if (e == ERR_OK && in)
		s->bytes_in += n;
	if (e != ERR_OK && e != ERR_AGAIN)
		s->err = e;
	return e;
}

enum err stream_read(struct stream *s, void *p, size_t cap, size_t *n)
{
	enum err e;

	BUG_ON(s->phase != STREAM_OPEN);
	e = sock_read(s->sock, p, cap, n);
	return stream_result(s, e, true, *n);
}

enum err stream_write(struct stream *s, const void *p, size_t len, size_t *n)
{
	enum err e;

	BUG_ON(s->phase != STREAM_OPEN || s->shut);
	if (sim_watch.moved)
		sim_watch.moved(s, false, 0);
	e = sock_write(s->sock, p, len, n);
	return stream_result(s, e, false, *n);
}

enum err stream_writev(struct stream *s, const struct iovec *iov, int cnt, size_t *n)
{
	size_t done;

	*n = 0;
	for (int i = 0; i < cnt; i++) {
		enum err e = stream_write(s, iov[i].iov_base, iov[i].iov_len, &done);

		if (e != ERR_OK)
			return *n > 0 ? ERR_OK : e;
		*n += done;
		if (done < iov[i].iov_len)
			break;
	}
	return ERR_OK;
}

enum err stream_peek(struct stream *s)
{
	BUG_ON(s->phase != STREAM_OPEN);
	return sock_peek(s->sock);
}

void stream_shutdown(struct stream *s)
{
	BUG_ON(s->phase != STREAM_OPEN);
	if (!s->shut)
		sock_shutdown(s->sock);
	s->shut = true;
}

static void stream_end(struct stream **ps, bool reset)
{
	struct stream *s = *ps;

	*ps = NULL;
	if (!s)
		return;
	BUG_ON(s->phase == STREAM_CLOSED);
	s->phase = STREAM_CLOSED;
	if (list_is_on(&s->ready.node))
		list_remove(&s->ready.node);
	if (s->sock && s->dialled) {
		list_remove(&s->node);
		if (s->port)
			s->port->dialled--;
	}
	if (s->sock && reset)
		sock_abort(&s->sock);
	else
		sock_close(&s->sock);
	if (sim_watch.closed)
		sim_watch.closed(s);
	s->loop->n_streams--;
	loop_free_later(s->loop, s);
}

void stream_close(struct stream **s)
{
	stream_end(s, false);
}

void stream_abort(struct stream **s)
{
	stream_end(s, true);
}

void stream_peer(const struct stream *s, struct addr *out)
{
	*out = s->peer;
}

enum err stream_peer_uid(const struct stream *s, uint32_t *uid, uint32_t *pid)
{
	(void)s;
	*uid = *pid = 0;
	return ERR_NOT_FOUND;
}

/* ---- pipes ---- */

#define PIPE_BYTES 4096

struct splice {
	struct node node;
	struct loop *loop;
	uint8_t bytes[PIPE_BYTES];
	size_t first, len;
};

struct splice *splice_borrow(struct loop *l)
{
	struct splice *p;

	if (world_bug(50))
		return NULL;
	p = NEW(struct splice);
	p->loop = l;
	l->n_borrowed++;
	return p;
}

enum err splice_in(struct splice *p, struct stream *from, size_t max, size_t *n)
{
	size_t room = p->len == 0 ? PIPE_BYTES : 0;
	enum err e;

	*n = 0;
	if (room == 0)
		return ERR_AGAIN;
	p->first = 0;
	e = stream_read(from, p->bytes, max < room ? max : room, n);
	p->len = *n;
	return e;
}

enum err splice_out(struct splice *p, struct stream *to, size_t *n)
{
	enum err e;

	*n = 0;
	if (p->len == 0)
		return ERR_AGAIN;
	e = stream_write(to, p->bytes + p->first, p->len, n);
	p->first += *n;
	p->len -= *n;
	return e;
}

size_t splice_held(const struct splice *p)
{
	return p->len;
}

void splice_return(struct loop *l, struct splice **p)
{
	BUG_ON((*p)->loop != l);
	l->n_borrowed--;
	mem_free(*p);
	*p = NULL;
}

/* ---- listeners ---- */

struct listener {
	struct ready ready;
	struct loop *loop;
	struct port *port;
	listen_fn *fn;
	void *arg;
	struct timer retry;
	bool paused, starved;
};

static void listener_noticed(struct port *p, void *arg)
{
	struct listener *s = arg;

	if (p->queue.len > 0 && !s->paused && !s->starved)
		loop_make_ready(s->loop, &s->ready);
}

static void listener_retry(void *arg)
{
	struct listener *s = arg;

	s->starved = false;
	listener_noticed(s->port, s);
}

/* Out of descriptors: one client is shed, the rest wait in the backlog. */
static void listener_starve(struct listener *s)
{
	struct sock *shed = port_accept(s->port, NULL, NULL);

	trace(TR_NO_FD, loop_id(s->loop), 1, 0);
	sock_close(&shed);
	s->starved = true;
	timer_set(s->loop, &s->retry, loop_now_us(s->loop) + LISTEN_RETRY_US);
}

static void listener_run(struct ready *r)
{
	struct listener *s = container_of(r, struct listener, ready);
	struct loop *l = s->loop;

	for (int i = 0; i < LISTEN_BATCH && s->port && s->port->queue.len > 0 && !s->paused; i++) {
		struct addr peer;
		struct stream *c;

		if (world_bug(world.bug.emfile_accept)) {
			listener_starve(s);
			return;
		}
		peer = sim_addr(250, 1);
		c = stream_make(l, &peer);
		c->phase = STREAM_OPEN;
		c->sock = port_accept(s->port, stream_noticed, c);
		sock_peer(c->sock, &c->peer);
		c->local = s->port->addr;
		trace(TR_ACCEPT, sock_id(c->sock), loop_id(l), 0);
		s->fn(s->arg, c);
		loop_called(l);
	}
	if (s->port)
		listener_noticed(s->port, s);
}

enum err listener_open(struct loop *l, const struct addr *a, const struct listen_opts *o, listen_fn *fn, void *arg,
		       struct listener **out, const char **why)
{
	struct listener *s;

	if (port_find(a)) {
		*why = "address in use";
		return ERR_CANT_CREATE;
	}
	s = NEW(struct listener);
	s->ready.run = listener_run;
	s->loop = l;
	s->fn = fn;
	s->arg = arg;
	timer_init(&s->retry, listener_retry, s);
	s->port = port_open(a, listener_noticed, s);
	s->port->backlog = o->backlog > 0 ? (size_t)o->backlog : 16;
	l->n_listeners++;
	*out = s;
	return ERR_OK;
}

enum err listener_adopt(struct loop *l, int fd, const struct listen_opts *o, listen_fn *fn, void *arg,
			struct listener **out, const char **why)
{
	(void)l, (void)fn, (void)arg, (void)o, (void)fd, (void)out;
	*why = "no descriptors here";
	return ERR_OS;
}

void listener_pause(struct listener *s, bool paused)
{
	s->paused = paused;
	if (paused && list_is_on(&s->ready.node))
		list_remove(&s->ready.node);
	else if (!paused)
		listener_noticed(s->port, s);
}

void listener_addr(const struct listener *s, struct addr *out)
{
	*out = s->port->addr;
}

void listener_close(struct listener **ps)
{
	struct listener *s = *ps;

	*ps = NULL;
	if (!s)
		return;
	if (list_is_on(&s->ready.node))
		list_remove(&s->ready.node);
	timer_stop(s->loop, &s->retry);
	port_close(&s->port);
	s->loop->n_listeners--;
	loop_free_later(s->loop, s);
}
