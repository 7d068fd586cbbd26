/*
 * http: the admin interface's HTTP server, on a Unix socket or a loopback port, in the control thread's loop.
 *
 *	accept --> at most HTTP_CONNECTIONS --> request, at most HTTP_MAX_BYTES --> handler --> http_reply(), now or later
 *
 * Everything a peer can do is bounded: connections at a time (when all places are taken the oldest that asks nothing is
 * closed), sizes, and HTTP_TIMEOUT_S of silence. A request belongs to
 * its handler until it is answered, also when its client has left meanwhile. On a Unix socket the peer must be root, our
 * own user, or admitted by the socket's mode and group; a port can only look (http_may_control() is false).
 */
#ifndef LEASED_DAEMON_HTTP_H
#define LEASED_DAEMON_HTTP_H

#include "base/addr.h"
#include "io/loop.h"

#define HTTP_CONNECTIONS 16
#define HTTP_MAX_BYTES	 8192
#define HTTP_TIMEOUT_S	 5

struct http;
struct http_request;

struct http_opts {
	struct addr addr;
	unsigned mode; /* of a Unix socket */
	int64_t gid;   /* -1: leave */
};

typedef void http_fn(void *arg, struct http_request *r);

/* *why (out): what is wrong, valid until the next call. */
enum err http_open(struct loop *l, const struct http_opts *o, http_fn *fn, void *arg, struct http **out,
		   const char **why) MUST_CHECK;
/* Every request must have been answered. Unlinks a Unix socket. */
void http_close(struct http **h);
/* Whether an answer is still on its way out. */
bool http_busy(const struct http *h);

const char *http_path(const struct http_request *r);
bool http_is_post(const struct http_request *r);
const char *http_param(const struct http_request *r, const char *name); /* of the query; NULL: absent */
bool http_allowed(const struct http_request *r);			/* may ask anything at all */
bool http_may_control(const struct http_request *r);			/* may change anything */
/* Answers and gives the request back; nulls *r. The body is copied. */
void http_reply(struct http_request **r, int status, const char *type, const char *body, size_t len);

#endif
