/* sim_net: see net.h. */
#include "net.h"

#include <string.h>

#include "base/mem.h"

#define RESEND_US 60000 /* what a hole swallowed is sent again this often */
#define HALF_MAX  16384
#define SEGMENTS  64 /* a power of two; one more is joined to the last */

enum segment_kind { SEG_DATA, SEG_SYNACK, SEG_FIN, SEG_RST };

struct segment {
	int64_t at_us;
	uint32_t n;
	uint32_t kind;
};

struct half {
	struct event arrival; /* of the first segment */
	struct event room;    /* the writer hears that there is room again */
	uint8_t *ring;
	unsigned side; /* which half of its connection this is */
	size_t cap, head, len, arrived;
	struct segment seg[SEGMENTS];
	unsigned seg_first, seg_len;
	bool starving;		   /* the writer wants to hear of room */
	bool end_sent, reset_sent; /* FIN or RST is on its way or there */
	bool end_here;
};

enum sock_state { SOCK_CONNECTING, SOCK_OPEN, SOCK_FAILED, SOCK_CLOSED };

struct sock {
	uint64_t id;
	struct conn *conn;
	unsigned side;
	uint64_t mark;
	enum sock_state state;
	enum err err;
	sock_fn *fn;
	void *arg;
	struct event notice; /* a failure to be told later */
};

struct conn {
	struct node node;    /* on its port's queue */
	struct node of_port; /* on its port's conns */
	struct sock end[2];  /* 0: the one who connected */
	struct half half[2]; /* [i]: from end i */
	struct event syn;
	struct addr to, from;
	struct port *port;
	struct link link; /* the port's, for when the port is gone */
	unsigned syns;
};

static struct {
	struct list ports;
	size_t socks;
	struct slab conns, rings;
	bool ready;
	uint64_t next_port;
} net;

static void net_begin(void)
{
	if (net.ready)
		return;
	list_init(&net.ports);
	slab_init(&net.conns, sizeof(struct conn), 256);
	slab_init(&net.rings, HALF_MAX, 256);
	net.ready = true;
	net.next_port = 0;
}

size_t net_socks(void)
{
	return net.socks;
}

void net_end(void)
{
	if (!net.ready)
		return;
	PROMISE(net.socks == 0, "leak", "%zu sockets are left", net.socks);
	PROMISE(net.ports.len == 0, "leak", "%zu ports are left", net.ports.len);
	slab_done(&net.conns);
	slab_done(&net.rings);
	net.ready = false;
}

static const struct link *conn_link(const struct conn *c)
{
	return c->port ? &c->port->link : &c->link;
}

static int64_t conn_latency(const struct conn *c)
{
	const struct link *l = conn_link(c);

	return world_range(l->lat_min_us, l->lat_max_us);
}

static void sock_notify(struct sock *s)
{
	if (s->state != SOCK_CLOSED && s->fn)
		s->fn(s, s->arg);
}

/* ---- the wire ---- */

static void half_push(struct conn *c, unsigned side, enum segment_kind kind, size_t n)
{
	struct half *h = &c->half[side];
	struct segment *last = h->seg_len ? &h->seg[(h->seg_first + h->seg_len - 1) % SEGMENTS] : NULL;
	int64_t at = world.now_us + 1 + conn_latency(c);

	if (last && at <= last->at_us)
		at = last->at_us;
	if (h->reset_sent || (h->end_sent && kind != SEG_RST))
		return;
	if (last && last->kind == SEG_DATA && kind == SEG_DATA && (at == last->at_us || h->seg_len >= SEGMENTS - 3)) {
		last->n += (uint32_t)n;
		return;
	}
	BUG_ON(h->seg_len == SEGMENTS);
	h->seg[(h->seg_first + h->seg_len++) % SEGMENTS] =
		(struct segment){.at_us = at, .n = (uint32_t)n, .kind = kind};
	h->end_sent = h->end_sent || kind == SEG_FIN || kind == SEG_RST;
	h->reset_sent = kind == SEG_RST;
	if (h->seg_len == 1)
		event_set(&h->arrival, at);
}

static void half_drop_bytes(struct half *h)
{
	h->head = h->len = h->arrived = 0;
}

/* A reset has arrived at `to`: nothing of what it wrote matters any more; what has arrived there may be lost as well. */
static void sock_was_reset(struct conn *c, unsigned to)
{
	struct half *in = &c->half[1 - to], *out = &c->half[to];

	c->end[to].err = ERR_RESET;
	in->end_here = true;
	in->len = in->arrived;
	if (world_below(2))
		half_drop_bytes(in);
	half_drop_bytes(out);
	out->seg_len = 0;
	out->end_sent = out->reset_sent = true;
	event_stop(&out->arrival);
	event_stop(&out->room);
}

static void half_arrive_data(struct conn *c, unsigned side, size_t n)
{
	struct half *h = &c->half[side];
	struct sock *to = &c->end[1 - side];

	if (to->state == SOCK_CLOSED) {
		half_drop_bytes(h);
		half_push(c, 1 - side, SEG_RST, 0);
		return;
	}
	h->arrived += n;
	trace(TR_DATA, to->id, n, h->arrived);
	sock_notify(to);
}

static struct conn *half_conn(struct half *h)
{
	return container_of(h - h->side, struct conn, half);
}

static void half_arrive(struct event *e)
{
	struct half *h = container_of(e, struct half, arrival);
	struct conn *c = half_conn(h);
	struct segment s = h->seg[h->seg_first];
	struct sock *to = &c->end[1 - h->side];

	if (conn_link(c)->hole) {
		event_set(e, world.now_us + RESEND_US + world_range(0, RESEND_US));
		return;
	}
	world.events++;
	h->seg_first = (h->seg_first + 1) % SEGMENTS;
	h->seg_len--;
	if (h->seg_len > 0)
		event_set(e, h->seg[h->seg_first].at_us);
	switch ((enum segment_kind)s.kind) {
	case SEG_DATA:
		half_arrive_data(c, h->side, s.n);
		return;
	case SEG_SYNACK:
		if (to->state != SOCK_CONNECTING)
			return;
		to->state = SOCK_OPEN;
		trace(TR_UP, to->id, c->end[h->side].id, 0);
		break;
	case SEG_FIN:
		h->end_here = true;
		trace(TR_FIN, to->id, h->arrived, 0);
		break;
	case SEG_RST:
		trace(TR_RST, to->id, h->arrived, 0);
		if (to->state == SOCK_CLOSED)
			return;
		if (to->state == SOCK_CONNECTING) {
			to->state = SOCK_FAILED;
			to->err = ERR_REFUSED;
			break;
		}
		sock_was_reset(c, 1 - h->side);
		break;
	}
	sock_notify(to);
}

static void half_room(struct event *e)
{
	struct half *h = container_of(e, struct half, room);
	struct sock *from = &half_conn(h)->end[h->side];

	world.events++;
	trace(TR_ROOM, from->id, h->cap - h->len, 0);
	sock_notify(from);
}

/* ---- connections ---- */

static void half_open(struct half *h, unsigned side, size_t cap)
{
	event_init(&h->arrival, half_arrive);
	event_init(&h->room, half_room);
	h->side = side;
	h->cap = cap < HALF_MAX ? cap : HALF_MAX;
	h->ring = slab_get(&net.rings);
}

static void conn_unref(struct conn *c)
{
	if (c->end[0].state != SOCK_CLOSED || c->end[1].state != SOCK_CLOSED)
		return;
	for (int i = 0; i < 2; i++) {
		event_stop(&c->half[i].arrival);
		event_stop(&c->half[i].room);
		event_stop(&c->end[i].notice);
		if (c->half[i].ring)
			slab_put(&net.rings, c->half[i].ring);
	}
	event_stop(&c->syn);
	if (list_is_on(&c->node))
		list_remove(&c->node);
	if (list_is_on(&c->of_port))
		list_remove(&c->of_port);
	slab_put(&net.conns, c);
}

static void sock_end(struct sock *s)
{
	s->state = SOCK_CLOSED;
	s->fn = NULL;
	event_stop(&s->notice);
	net.socks--;
	conn_unref(s->conn);
}

static void sock_fail_later(struct sock *s, enum err e)
{
	s->state = SOCK_FAILED;
	s->err = e;
	event_set(&s->notice, world.now_us + 1 + conn_latency(s->conn));
}

static void sock_noticed(struct event *e)
{
	struct sock *s = container_of(e, struct sock, notice);

	world.events++;
	sock_notify(s);
}

/* A SYN has reached its address. */
static void conn_syn(struct event *e)
{
	struct conn *c = container_of(e, struct conn, syn);
	struct port *p = port_find(&c->to);
	bool lost = p && (p->deaf || p->link.hole || p->queue.len >= p->backlog);

	world.events++;
	if (lost) {
		trace(TR_SYN, c->end[0].id, p->id, 1);
		event_set(e, world.now_us + (int64_t)(100 * MS) * (1 << (c->syns < 4 ? c->syns++ : 4)));
		return;
	}
	trace(TR_SYN, c->end[0].id, p ? p->id : 0, p && !p->refuse ? 0 : 2);
	if (!p || p->refuse) {
		sock_fail_later(&c->end[0], ERR_REFUSED);
		return;
	}
	c->port = p;
	c->link = p->link;
	half_open(&c->half[0], 0, (size_t)world_range((int64_t)p->cap_min, (int64_t)p->cap_max));
	half_open(&c->half[1], 1, (size_t)world_range((int64_t)p->cap_min, (int64_t)p->cap_max));
	c->end[1].state = SOCK_OPEN;
	c->end[1].id = ++world.next_id;
	net.socks++;
	list_push_back(&p->queue, &c->node);
	list_push_back(&p->conns, &c->of_port);
	half_push(c, 1, SEG_SYNACK, 0);
	port_requeue(p);
}

struct sock *sock_connect(const struct addr *to, const struct addr *from, sock_fn *fn, void *arg)
{
	struct conn *c;
	const struct port *p;

	net_begin();
	p = port_find(to);
	c = slab_get(&net.conns);
	c->to = *to;
	c->from = *from;
	c->link = p ? p->link : (struct link){.lat_min_us = 20, .lat_max_us = 200};
	for (unsigned i = 0; i < 2; i++) {
		c->end[i].conn = c;
		c->end[i].side = i;
		event_init(&c->end[i].notice, sock_noticed);
	}
	c->end[0].id = ++world.next_id;
	c->end[0].state = SOCK_CONNECTING;
	c->end[0].fn = fn;
	c->end[0].arg = arg;
	c->end[1].state = SOCK_CLOSED;
	net.socks++;
	event_init(&c->syn, conn_syn);
	event_set(&c->syn, world.now_us + 1 + conn_latency(c));
	return &c->end[0];
}

/* ---- ports ---- */

struct port *port_open(const struct addr *a, port_fn *fn, void *arg)
{
	struct port *p = NEW(struct port);

	net_begin();
	BUG_ON(port_find(a) != NULL);
	p->addr = *a;
	p->id = ++net.next_port;
	p->fn = fn;
	p->arg = arg;
	p->link = (struct link){.lat_min_us = 20, .lat_max_us = 100};
	p->backlog = 128;
	p->cap_min = 1024;
	p->cap_max = 8192;
	list_init(&p->queue);
	list_init(&p->conns);
	list_push_back(&net.ports, &p->node);
	return p;
}

/* Connections outlive the port they came by: they keep a copy of its link. */
void port_close(struct port **pp)
{
	struct port *p = *pp;

	if (!p)
		return;
	while (p->queue.len > 0) {
		struct sock *s = port_accept(p, NULL, NULL);

		sock_abort(&s);
	}
	list_each(&p->conns, n) {
		struct conn *c = container_of(n, struct conn, of_port);

		c->link = p->link;
		c->link.hole = false;
		c->port = NULL;
		list_remove(n);
	}
	list_remove(&p->node);
	mem_free(p);
	*pp = NULL;
}

struct port *port_find(const struct addr *a)
{
	if (!net.ready)
		return NULL;
	list_each(&net.ports, n) {
		struct port *p = container_of(n, struct port, node);

		if (p->addr.u.in.sin_addr.s_addr == a->u.in.sin_addr.s_addr &&
		    p->addr.u.in.sin_port == a->u.in.sin_port)
			return p;
	}
	return NULL;
}

struct sock *port_accept(struct port *p, sock_fn *fn, void *arg)
{
	struct conn *c;

	if (p->queue.len == 0)
		return NULL;
	c = container_of(list_front(&p->queue), struct conn, node);
	list_remove(&c->node);
	c->end[1].fn = fn;
	c->end[1].arg = arg;
	return &c->end[1];
}

void port_requeue(struct port *p)
{
	if (p->queue.len > 0 && p->fn)
		p->fn(p, p->arg);
}

/* ---- sockets ---- */

void sock_set_handler(struct sock *s, sock_fn *fn, void *arg)
{
	s->fn = fn;
	s->arg = arg;
}

bool sock_connected(const struct sock *s)
{
	return s->state == SOCK_OPEN;
}

enum err sock_error(const struct sock *s)
{
	return s->err;
}

static struct half *sock_in(const struct sock *s)
{
	return &s->conn->half[1 - s->side];
}

static struct half *sock_out(const struct sock *s)
{
	return &s->conn->half[s->side];
}

size_t sock_unread(const struct sock *s)
{
	return s->state == SOCK_OPEN ? sock_in(s)->arrived : 0;
}

enum err sock_peek(const struct sock *s)
{
	const struct half *h = sock_in(s);

	if (s->state == SOCK_CONNECTING)
		return ERR_AGAIN;
	if (h->arrived > 0)
		return ERR_OK;
	if (s->err != ERR_OK)
		return s->err;
	return h->end_here ? ERR_EOF : ERR_AGAIN;
}

bool sock_readable(const struct sock *s)
{
	return sock_peek(s) != ERR_AGAIN;
}

bool sock_writable(const struct sock *s)
{
	return s->state == SOCK_OPEN && (s->err != ERR_OK || sock_out(s)->len < sock_out(s)->cap);
}

void sock_expect_room(struct sock *s)
{
	sock_out(s)->starving = true;
}

static void half_made_room(struct conn *c, unsigned side)
{
	struct half *h = &c->half[side];

	if (!h->starving || c->end[side].state == SOCK_CLOSED)
		return;
	h->starving = false;
	event_sooner(&h->room, world.now_us + 1 + conn_latency(c));
}

/* How much a short read returns: often just up to the end of a line, where a dialogue may take itself to be over. */
static size_t half_cut(const struct half *h, size_t take)
{
	size_t look = world_below(2) ? take - 1 : 0;

	for (size_t i = 0; i < look; i++)
		if (h->ring[(h->head + i) % HALF_MAX] == '\n')
			return i + 1;
	return 1 + world_below(take - 1);
}

enum err sock_read(struct sock *s, void *p, size_t cap, size_t *n)
{
	struct half *h = sock_in(s);
	enum err e = sock_peek(s);
	size_t take = h->arrived < cap ? h->arrived : cap, first;

	*n = 0;
	BUG_ON(s->state == SOCK_CLOSED || cap == 0);
	if (e != ERR_OK)
		return e;
	if (take > 1 && world_bug(world.bug.short_read))
		take = half_cut(h, take);
	first = HALF_MAX - h->head < take ? HALF_MAX - h->head : take;
	memcpy(p, h->ring + h->head, first);
	memcpy((uint8_t *)p + first, h->ring, take - first);
	h->head = (h->head + take) % HALF_MAX;
	h->len -= take;
	h->arrived -= take;
	*n = take;
	trace(TR_READ, s->id, take, h->arrived);
	half_made_room(s->conn, 1 - s->side);
	return ERR_OK;
}

enum err sock_write(struct sock *s, const void *p, size_t len, size_t *n)
{
	struct half *h = sock_out(s);
	size_t room = h->cap > h->len ? h->cap - h->len : 0, take = len < room ? len : room, at, first;

	*n = 0;
	BUG_ON(s->state != SOCK_OPEN || len == 0);
	if (s->err != ERR_OK)
		return s->err;
	BUG_ON(h->end_sent);
	if (take > 1 && world_bug(world.bug.short_write))
		take = world_below(2) ? 1 : 1 + world_below(take - 1);
	if (take < len)
		h->starving = true;
	if (take == 0)
		return ERR_AGAIN;
	at = (h->head + h->len) % HALF_MAX;
	first = HALF_MAX - at < take ? HALF_MAX - at : take;
	memcpy(h->ring + at, p, first);
	memcpy(h->ring, (const uint8_t *)p + first, take - first);
	h->len += take;
	*n = take;
	trace(TR_WRITE, s->id, take, h->len);
	half_push(s->conn, s->side, SEG_DATA, take);
	return ERR_OK;
}

void sock_shutdown(struct sock *s)
{
	trace(TR_SHUTDOWN, s->id, 0, 0);
	if (s->state == SOCK_OPEN && s->err == ERR_OK)
		half_push(s->conn, s->side, SEG_FIN, 0);
}

static void sock_close_how(struct sock **ps, bool reset)
{
	struct sock *s = *ps;
	struct conn *c;

	*ps = NULL;
	if (!s)
		return;
	c = s->conn;
	BUG_ON(s->state == SOCK_CLOSED);
	trace(TR_CLOSE, s->id, reset, sock_unread(s));
	if (s->state == SOCK_OPEN && s->err == ERR_OK) {
		half_push(c, s->side, reset || sock_in(s)->arrived > 0 ? SEG_RST : SEG_FIN, 0);
	}
	if (s->state == SOCK_CONNECTING && c->end[1].state == SOCK_OPEN) {
		/* The other side has it already, in its queue or in hand. */
		half_push(c, 0, SEG_RST, 0);
	}
	if (s->state == SOCK_CONNECTING || s->state == SOCK_FAILED)
		event_stop(&c->syn);
	half_drop_bytes(sock_in(s));
	sock_end(s);
}

void sock_close(struct sock **s)
{
	sock_close_how(s, false);
}

void sock_abort(struct sock **s)
{
	sock_close_how(s, true);
}

void sock_set_mark(struct sock *s, uint64_t mark)
{
	s->mark = mark;
}

uint64_t sock_peer_mark(const struct sock *s)
{
	return s->conn->end[!s->side].mark;
}

uint64_t sock_id(const struct sock *s)
{
	return s->id;
}

struct port *sock_port(const struct sock *s)
{
	return port_find(&s->conn->to);
}

void sock_peer(const struct sock *s, struct addr *out)
{
	*out = s->side == 0 ? s->conn->to : s->conn->from;
}
