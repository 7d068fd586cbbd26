/*
 * proto: what clients say and where answers end.
 *
 * fix: requests and answers of fixed sizes. redis: RESP2. pg, pgext, pgprep: PostgreSQL's simple, extended and prepared
 * queries, without a password. mysql: text queries, without a password.
 */
#include <string.h>

#include "lgen.h"

/* Bytes being put together; too many of them are a bug of ours or an absurd option. */
struct out {
	uint8_t *p;
	size_t n, cap;
};

static void put(struct out *o, const void *p, size_t n)
{
	if (n > o->cap - o->n)
		die("the request is too long");
	memcpy(o->p + o->n, p, n);
	o->n += n;
}

static void put_byte(struct out *o, unsigned v)
{
	uint8_t b = (uint8_t)v;

	put(o, &b, 1);
}

static void put_fill(struct out *o, int c, size_t n)
{
	while (n-- > 0)
		put_byte(o, (unsigned)c);
}

static void put_be32(struct out *o, size_t v)
{
	for (int shift = 24; shift >= 0; shift -= 8)
		put_byte(o, (unsigned)(v >> shift) & 0xff);
}

static void put_le(struct out *o, size_t v, int bytes)
{
	for (int i = 0; i < bytes; i++)
		put_byte(o, (unsigned)(v >> 8 * i) & 0xff);
}

static void put_text(struct out *o, const char *s)
{
	put(o, s, strlen(s));
}

static void put_zstr(struct out *o, const char *s)
{
	put(o, s, strlen(s) + 1);
}

/* ---- messages ---- */

static void pg_message(struct out *o, char type, const struct out *body)
{
	put_byte(o, (unsigned)type);
	put_be32(o, body->n + 4);
	put(o, body->p, body->n);
}

static void pg_parse(struct out *o, const char *name)
{
	uint8_t b[1024];
	struct out body = {.p = b, .cap = sizeof(b)};

	put_zstr(&body, name);
	put_zstr(&body, opts.sql);
	put_fill(&body, 0, 2); /* no parameter types */
	pg_message(o, 'P', &body);
}

static void pg_bind_execute_sync(struct out *o, const char *name)
{
	uint8_t b[256];
	struct out body = {.p = b, .cap = sizeof(b)};

	put_byte(&body, 0); /* the unnamed portal */
	put_zstr(&body, name);
	put_fill(&body, 0, 6); /* no formats, no parameters, no result formats */
	pg_message(o, 'B', &body);
	body.n = 0;
	put(&body, "P", 2);
	pg_message(o, 'D', &body);
	body.n = 0;
	put_fill(&body, 0, 5); /* the unnamed portal, all rows */
	pg_message(o, 'E', &body);
	body.n = 0;
	pg_message(o, 'S', &body);
}

static void pg_query(struct out *o)
{
	uint8_t b[1024];
	struct out body = {.p = b, .cap = sizeof(b)};

	put_zstr(&body, opts.sql);
	pg_message(o, 'Q', &body);
}

static void pg_startup(struct out *o)
{
	uint8_t b[256];
	struct out body = {.p = b, .cap = sizeof(b)};

	put_be32(&body, 196608); /* protocol 3.0 */
	put_zstr(&body, "user");
	put_zstr(&body, opts.user);
	put_zstr(&body, "database");
	put_zstr(&body, opts.db);
	put_byte(&body, 0);
	put_be32(o, body.n + 4);
	put(o, b, body.n);
}

static void mysql_packet(struct out *o, unsigned seq, const struct out *body)
{
	put_le(o, body->n, 3);
	put_byte(o, seq);
	put(o, body->p, body->n);
}

static void mysql_command(struct out *o, unsigned command, const char *text)
{
	uint8_t b[1024];
	struct out body = {.p = b, .cap = sizeof(b)};

	put_byte(&body, command);
	put_text(&body, text);
	mysql_packet(o, 0, &body);
}

/* Capabilities: long password, connect with database, protocol 4.1, secure connection, authentication plugin. */
static void mysql_login(struct conn *c, unsigned seq)
{
	uint8_t b[256], m[300];
	struct out body = {.p = b, .cap = sizeof(b)}, o = {.p = m, .cap = sizeof(m)};

	put_le(&body, 0x00000001 | 0x00000008 | 0x00000200 | 0x00008000 | 0x00080000, 4);
	put_le(&body, 1 << 24, 4);
	put_byte(&body, 33); /* utf8 */
	put_fill(&body, 0, 23);
	put_zstr(&body, opts.user);
	put_byte(&body, 0); /* an empty password's answer */
	put_zstr(&body, opts.db);
	put_zstr(&body, "mysql_native_password");
	mysql_packet(&o, seq, &body);
	conn_write(c, m, o.n);
}

static void redis_request(struct out *o)
{
	char head[300];
	size_t key_bytes = strlen(opts.key);

	if (strcmp(opts.kind, "set") == 0) {
		snprintf(head, sizeof(head), "*3\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n$%d\r\n", key_bytes, opts.key,
			 opts.resp_bytes);
		put_text(o, head);
		put_fill(o, 'x', (size_t)opts.resp_bytes);
		put_text(o, "\r\n");
	} else if (strcmp(opts.kind, "ping") == 0) {
		put_text(o, "*1\r\n$4\r\nPING\r\n");
	} else {
		snprintf(head, sizeof(head), "*2\r\n$3\r\nGET\r\n$%zu\r\n%s\r\n", key_bytes, opts.key);
		put_text(o, head);
	}
}

size_t proto_request(uint8_t *p, size_t cap)
{
	struct out o = {.p = p, .cap = cap};

	switch (opts.proto) {
	case PROTO_FIX:
		put_fill(&o, 'q', (size_t)opts.req_bytes);
		break;
	case PROTO_REDIS:
		redis_request(&o);
		break;
	case PROTO_PG:
		pg_query(&o);
		break;
	case PROTO_PGEXT:
		pg_parse(&o, "");
		pg_bind_execute_sync(&o, "");
		break;
	case PROTO_PGPREP:
		pg_bind_execute_sync(&o, "s1");
		break;
	case PROTO_MYSQL:
		mysql_command(&o, 3, opts.sql);
		break;
	}
	return o.n;
}

static bool proto_is_pg(void)
{
	return opts.proto == PROTO_PG || opts.proto == PROTO_PGEXT || opts.proto == PROTO_PGPREP;
}

void proto_start(struct conn *c)
{
	uint8_t m[300];
	struct out o = {.p = m, .cap = sizeof(m)};

	c->phase = proto_is_pg() || opts.proto == PROTO_MYSQL ? CONN_SHAKE
							      : CONN_READY; /* MySQL's server speaks first */
	if (proto_is_pg()) {
		pg_startup(&o);
		conn_write(c, m, o.n);
	}
}

bool proto_prepare(struct conn *c)
{
	uint8_t m[1200];
	struct out o = {.p = m, .cap = sizeof(m)}, nothing = {.p = m};

	if (opts.proto != PROTO_PGPREP)
		return false;
	pg_parse(&o, "s1");
	pg_message(&o, 'S', &nothing);
	conn_write(c, m, o.n);
	return true;
}

void proto_quit(struct conn *c)
{
	uint8_t m[16];
	struct out o = {.p = m, .cap = sizeof(m)}, nothing = {.p = m};

	if (opts.proto == PROTO_MYSQL)
		mysql_command(&o, 1, "");
	else if (proto_is_pg())
		pg_message(&o, 'X', &nothing);
	if (o.n > 0)
		conn_write(c, m, o.n);
}

/* ---- answers: each step eats from *p and returns whole replies, or what proto_feed() does ---- */

static int redis_step(struct conn *c, uint8_t b)
{
	if (c->state == 0) {
		c->state = b;
		c->num = 0;
		n_proto_errors += b == '-';
	} else if (b == '\n') {
		if (c->state == '$' && c->num >= 0) {
			c->need = (uint64_t)c->num + 2;
			return 0;
		}
		c->state = 0;
		return 1;
	} else if (c->state == '$' && b == '-') {
		c->num = -1000000;
	} else if (c->state == '$' && b != '\r') {
		c->num = c->num * 10 + (b - '0');
	}
	return 0;
}

static int pg_unit_end(struct conn *c)
{
	int done = c->state == 'Z';

	c->state = 0;
	c->n_head = 0;
	return done;
}

static int pg_step(struct conn *c, uint8_t b)
{
	c->head[c->n_head++] = b;
	if (c->n_head < 5)
		return 0;
	c->state = c->head[0];
	c->need = ((uint32_t)c->head[1] << 24 | (uint32_t)c->head[2] << 16 | (uint32_t)c->head[3] << 8 | c->head[4]) -
		  4;
	n_proto_errors += c->state == 'E';
	return c->need == 0 ? pg_unit_end(c) : 0;
}

static int mysql_step(struct conn *c, uint8_t b)
{
	c->head[c->n_head++] = b;
	if (c->n_head == 4)
		c->need = (uint64_t)(c->head[0] | c->head[1] << 8 | c->head[2] << 16);
	return 0;
}

static int mysql_login_packet(struct conn *c, unsigned first, unsigned seq)
{
	uint8_t m[8];
	struct out o = {.p = m, .cap = sizeof(m)}, nothing = {.p = m};

	if (first == 0xff) {
		n_proto_errors++;
		return FEED_REFUSED;
	}
	if (c->sub == 0) {
		c->sub = 1;
		mysql_login(c, seq + 1);
	} else if (first == 0) {
		c->sub = 0;
		return FEED_LOGGED_IN;
	} else if (first == 0xfe) { /* another method: an empty password is empty there, too */
		mysql_packet(&o, seq + 1, &nothing);
		conn_write(c, m, o.n);
	}
	return 0;
}

/* sub: 0: expects OK or a result; else a result is running, and its second EOF ends it. */
static int mysql_unit_end(struct conn *c)
{
	long len = c->head[0] | c->head[1] << 8 | c->head[2] << 16;
	unsigned first = c->head[4], seq = c->head[3];

	c->n_head = 0;
	if (c->phase == CONN_SHAKE)
		return mysql_login_packet(c, first, seq);
	if (first == 0xff) {
		n_proto_errors++;
		c->sub = 0;
		return 1;
	}
	if (c->sub == 0 && first == 0)
		return 1;
	if (c->sub == 0)
		c->sub = 1;
	else if (first == 0xfe && len < 9 && ++c->sub == 3) {
		c->sub = 0;
		return 1;
	}
	return 0;
}

static int unit_end(struct conn *c)
{
	if (opts.proto == PROTO_MYSQL)
		return mysql_unit_end(c);
	if (proto_is_pg())
		return pg_unit_end(c);
	c->state = 0;
	return 1;
}

static int unit_step(struct conn *c, uint8_t b)
{
	if (opts.proto == PROTO_MYSQL)
		return mysql_step(c, b);
	return proto_is_pg() ? pg_step(c, b) : redis_step(c, b);
}

/* Takes what belongs to the current unit; of a MySQL packet its head is kept. */
static size_t unit_skip(struct conn *c, const uint8_t *p, size_t n)
{
	size_t k = c->need < n ? (size_t)c->need : n;

	if (opts.proto == PROTO_MYSQL && c->n_head < (int)sizeof(c->head)) {
		size_t room = sizeof(c->head) - (size_t)c->n_head, keep = k < room ? k : room;

		memcpy(c->head + c->n_head, p, keep);
		c->n_head += (int)keep;
	}
	c->need -= k;
	return k;
}

int proto_feed(struct conn *c, const uint8_t *p, size_t n)
{
	int done = 0, r;

	while (n > 0) {
		size_t k = 1;

		if (opts.proto == PROTO_FIX && c->need == 0)
			c->need = (uint64_t)opts.resp_bytes;
		if (c->need > 0) {
			k = unit_skip(c, p, n);
			r = c->need > 0 ? 0 : unit_end(c);
		} else {
			r = unit_step(c, *p);
		}
		if (r < 0)
			return r;
		done += r;
		p += k;
		n -= k;
	}
	return done;
}
