/*
 * resp: where messages of the Redis protocol begin and end, RESP2 and RESP3. Pure, without allocation but for replies
 * nested deeper than RESP_DEPTH_INLINE.
 *
 *	resp_request()   the first message of a client's bytes, with its first arguments
 *	resp_body()      the rest of a request that is too big to be looked at as a whole
 *	resp_reply()     walks over a server's bytes: how many belong to the reply that is under way, and whether it ends
 *
 * Requests are judged at least as strictly as the server does, so that both see the same end of each: what is read in two ways
 * is how requests are smuggled. Replies are walked element by element: the only memory is a count for each level, whatever
 * sizes the server claims. In doubt the bytes are bad, and the connection is of no use any more.
 *
 * Facts: redis.io/docs/reference/protocol-spec; processInlineBuffer() and processMultibulkBuffer() of Redis 7.0.
 */
#ifndef LEASED_PROTO_REDIS_RESP_H
#define LEASED_PROTO_REDIS_RESP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RESP_HEAD_MAX	    16384 /* a view of that many bytes always tells */
#define RESP_ARGS_KEPT	    16	  /* arguments of a request that can be looked at */
#define RESP_ARGS_MAX	    (1024 * 1024)
#define RESP_ARG_BYTES_MAX  (512LL * 1024 * 1024)
/* Replies. Redis' own limit for a string is proto-max-bulk-len, 512 MiB unless raised. */
#define RESP_BULK_BYTES_MAX (1024LL * 1024 * 1024)
#define RESP_ELEMENTS_MAX   ((1LL << 29) - 1)
#define RESP_DEPTH_INLINE   8
#define RESP_DEPTH_MAX	    128

/* Not NUL-terminated. */
struct resp_text {
	const uint8_t *p;
	size_t n;
};

/* ---- requests ---- */

enum resp_verdict {
	RESP_MORE, /* nothing can be said before more bytes are there */
	RESP_PART, /* what was taken belongs to the message, which goes on */
	RESP_END,  /* ... which ends there */
	RESP_BAD,
};

/* The rest of a request, byte by byte. */
struct resp_body {
	uint64_t left; /* bytes of the argument that are still to come, with its CR LF; or its length as read so far */
	uint32_t args_left; /* with the one under way */
	uint8_t at;	    /* enum body_at of resp.c */
	uint8_t digits;
};

struct resp_request {
	size_t len;    /* bytes of the view that belong to it */
	uint32_t argc; /* 0: nothing was asked (an empty line, an empty array) */
	uint32_t kept; /* how many of them are in args: fewer than argc where they are too many or not there yet */
	struct resp_text args[RESP_ARGS_KEPT];
	const char *why; /* RESP_BAD: in the server's words */
	bool is_inline;
};

/* What a client that is not logged in may send: PROTO limits of Redis for such clients. */
#define RESP_UNAUTH_ARGS_MAX	  10
#define RESP_UNAUTH_ARG_BYTES_MAX 16384

/*
 * Looks at the first message of the view. MORE: n is less than RESP_HEAD_MAX and it does not end in it. END: it is whole. PART: it
 * is longer than a head; r->len is n, and *body has the state that resp_body() goes on from. scratch: where the arguments of an inline
 * request are put, RESP_HEAD_MAX bytes. known: whether the client is logged in.
 */
enum resp_verdict resp_request(struct resp_request *r, const uint8_t *p, size_t n, bool known, uint8_t *scratch,
			       struct resp_body *body);
/* How many of the n bytes belong to it; END, PART (all of them) or BAD. Never MORE. */
enum resp_verdict resp_body(struct resp_body *b, const uint8_t *p, size_t n, size_t *len);

/* ---- replies ---- */

/* Zeroed: between two replies. */
struct resp_frame {
	uint64_t left;			   /* bytes of a string under way, with its CR LF */
	int64_t integer;		   /* the last one of the top level's elements */
	uint32_t *deep;			   /* levels beyond the inline ones */
	uint32_t level[RESP_DEPTH_INLINE]; /* elements still to come; see resp.c */
	uint8_t depth;
	uint8_t at; /* enum frame_at of resp.c */
};

/*
 * Takes as many of the n bytes as belong to the reply under way, or to the next one: *len, which is 0 for MORE and BAD. An attribute
 * (RESP3's "|") of a whole reply is told as a message of its own. END and BAD leave the frame between two replies.
 */
enum resp_verdict resp_reply(struct resp_frame *f, const uint8_t *p, size_t n, size_t *len);
void resp_frame_drop(struct resp_frame *f); /* zeroes it; idempotent */
static inline bool resp_frame_is_idle(const struct resp_frame *f)
{
	return !f->depth && !f->at;
}

/* Length of the line at p without its CR LF; n: it does not end in n bytes. */
size_t resp_line(const uint8_t *p, size_t n);
/* The bulk string at p; MORE, END or BAD (no such thing, or null, or longer than max). *len: with its frame. */
enum resp_verdict resp_bulk(const uint8_t *p, size_t n, size_t max, struct resp_text *text, size_t *len);
/* A number as Redis reads one: no sign but "-", no leading zero, no blank. */
bool resp_integer(const uint8_t *p, size_t n, int64_t *value);
/* Whether the text is `word`, which is in lower case, in any case. */
bool resp_is(struct resp_text t, const char *word);

#endif
