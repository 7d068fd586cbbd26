/*
 * relay: moves bytes of one direction. A forwarded byte is read into the loop's scratch and written at once; only what
 * the destination refuses is kept, and the source is not read until it is gone. After some large reads in a row the
 * direction is bulk: bytes then pass through a pipe in the kernel until some reads come back small. A pipe is borrowed for
 * one step, or for as long as it holds bytes: few of them serve many connections.
 */
#include "serve/serve_private.h"

#define RELAY_IOV	  16
#define RELAY_BULK_AFTER  4	/* large reads in a row begin bulk, that many small ones end it */
#define RELAY_LARGE_BYTES 16384 /* what a read must bring to be large; one that fills the buffer is, too */
#define RELAY_PIPE_BYTES  (1 << 20)

void flow_init(struct flow *f, struct blocks *from, uint64_t *total)
{
	*f = (struct flow){.total = total};
	buf_init(&f->pending, from);
}

void flow_clear(struct flow *f, struct loop *l)
{
	buf_clear(&f->pending);
	if (f->pipe)
		splice_return(l, &f->pipe);
}

static size_t flow_kept(const struct flow *f)
{
	return buf_len(&f->pending) + (f->pipe ? splice_held(f->pipe) : 0);
}

bool flow_is_empty(const struct flow *f)
{
	return flow_kept(f) == 0;
}

uint64_t flow_delivered(const struct flow *f)
{
	return f->bytes - flow_kept(f);
}

static void flow_count(struct flow *f, size_t n, struct loop *l)
{
	f->bytes += n;
	*f->total += n;
	f->last_us = loop_now_us(l);
}

static bool flow_is_bulk(const struct flow *f)
{
	return f->bulk >= RELAY_BULK_AFTER;
}

/* Counts large reads up to bulk, jumps to the top there, and counts small ones down from it. */
static void flow_judge(struct flow *f, bool large)
{
	if (large)
		f->bulk = flow_is_bulk(f) ? 2 * RELAY_BULK_AFTER : f->bulk + 1;
	else
		f->bulk = flow_is_bulk(f) ? f->bulk - 1 : 0;
}

/* Moves what is in the pipe. A destination that takes less than all takes nothing more for now. */
static enum err flow_drain(struct flow *f, struct stream *to, struct loop *l)
{
	size_t held = splice_held(f->pipe), n = 0;
	enum err e = held > 0 ? splice_out(f->pipe, to, &n) : ERR_OK;

	if (e == ERR_OK && n < held)
		return ERR_AGAIN;
	if (e == ERR_OK)
		splice_return(l, &f->pipe);
	return e;
}

/* The destination took less than it was given: wait for it, and for nothing more from the source. */
static void relay_stall(struct flow *f, struct stream *from, struct stream *to, struct loop *l)
{
	f->stalled_us = loop_now_us(l);
	if (to)
		stream_want(to, stream_wants(to) | STREAM_WANT_WRITE);
	stream_want(from, stream_wants(from) & ~(unsigned)STREAM_WANT_READ);
}

static enum relay_result relay_splice(struct flow *f, struct stream *from, struct stream *to, struct loop *l)
{
	size_t n = 0;
	enum err e = splice_in(f->pipe, from, RELAY_PIPE_BYTES, &n);

	if (e != ERR_OK) {
		if (splice_held(f->pipe) == 0)
			splice_return(l, &f->pipe);
		return e == ERR_AGAIN ? RELAY_OK : e == ERR_EOF ? RELAY_EOF : RELAY_SOURCE_FAILED;
	}
	flow_count(f, n, l);
	flow_judge(f, n >= RELAY_LARGE_BYTES);
	e = flow_drain(f, to, l);
	if (e == ERR_AGAIN)
		relay_stall(f, from, to, l);
	return e == ERR_OK || e == ERR_AGAIN ? RELAY_OK : RELAY_SINK_FAILED;
}

enum relay_result relay_in(struct flow *f, struct stream *from, struct stream *to, size_t high_water, struct loop *l)
{
	size_t cap = high_water < LOOP_SCRATCH_BYTES ? high_water : LOOP_SCRATCH_BYTES, n, done = 0;
	uint8_t *p = loop_scratch(l);
	enum err e;

	if (to && !f->pipe && flow_is_bulk(f) && buf_len(&f->pending) == 0)
		f->pipe = splice_borrow(l);
	if (f->pipe)
		return relay_splice(f, from, to, l);
	if (!to)
		cap = high_water > buf_len(&f->pending) ? high_water - buf_len(&f->pending) : 0;
	if (cap > LOOP_SCRATCH_BYTES)
		cap = LOOP_SCRATCH_BYTES;
	e = cap == 0 ? ERR_AGAIN : stream_read(from, p, cap, &n);
	if (e == ERR_AGAIN)
		return RELAY_OK;
	if (e == ERR_EOF)
		return RELAY_EOF;
	if (e != ERR_OK)
		return RELAY_SOURCE_FAILED;
	flow_count(f, n, l);
	if (to) {
		e = stream_write(to, p, n, &done);
		if (e == ERR_AGAIN)
			done = 0;
		else if (e != ERR_OK)
			return RELAY_SINK_FAILED;
	}
	if (done < n) {
		buf_append(&f->pending, p + done, n - done);
		if (to || buf_len(&f->pending) >= high_water)
			relay_stall(f, from, to, l);
	}
	flow_judge(f, n == cap || n >= RELAY_LARGE_BYTES);
	return RELAY_OK;
}

static enum err relay_flush(struct flow *f, struct stream *to, struct loop *l)
{
	while (buf_len(&f->pending) > 0) {
		struct iovec iov[RELAY_IOV];
		int cnt = buf_iov(&f->pending, iov, RELAY_IOV);
		size_t n;
		enum err e = stream_writev(to, iov, cnt, &n);

		if (e != ERR_OK)
			return e;
		buf_consume(&f->pending, n);
	}
	return f->pipe ? flow_drain(f, to, l) : ERR_OK;
}

enum relay_result relay_out(struct flow *f, struct stream *from, struct stream *to, struct loop *l)
{
	size_t before = flow_kept(f);
	enum err e = relay_flush(f, to, l);

	if (flow_kept(f) < before)
		f->last_us = loop_now_us(l);
	if (e != ERR_OK && e != ERR_AGAIN)
		return RELAY_SINK_FAILED;
	if (e == ERR_AGAIN) {
		if (f->stalled_us == 0 || flow_kept(f) < before)
			f->stalled_us = loop_now_us(l);
		stream_want(to, stream_wants(to) | STREAM_WANT_WRITE);
		/* What is read from now on would overtake what waits. */
		if (from)
			stream_want(from, stream_wants(from) & ~(unsigned)STREAM_WANT_READ);
		return RELAY_OK;
	}
	f->stalled_us = 0;
	stream_want(to, stream_wants(to) & ~(unsigned)STREAM_WANT_WRITE);
	if (from && f->state == FLOW_OPEN)
		stream_want(from, stream_wants(from) | STREAM_WANT_READ);
	return RELAY_OK;
}
