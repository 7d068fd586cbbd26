#include "ctl/client.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"

struct client {
	int fd;
	int64_t deadline_us;
	char *in;
	size_t len, cap;
	const char *why;
};

static int64_t client_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000000) + ts.tv_nsec / 1000;
}

static enum err client_fail(struct client *c, enum err e, const char *why)
{
	c->why = why;
	return e;
}

static enum err client_wait(struct client *c, short events)
{
	struct pollfd p = {.fd = c->fd, .events = events};
	int64_t left_ms = (c->deadline_us - client_now_us() + 999) / 1000;
	int n = left_ms > 0 ? poll(&p, 1, left_ms > INT32_MAX ? INT32_MAX : (int)left_ms) : 0;

	if (n < 0 && errno == EINTR)
		return ERR_OK;
	if (n < 0)
		return client_fail(c, ERR_IO, strerror(errno));
	return n == 0 ? client_fail(c, ERR_CONNECT_TIMEOUT, "no answer in time") : ERR_OK;
}

static enum err client_connect(struct client *c, const struct addr *to)
{
	int error = 0;
	socklen_t len = sizeof(error);
	enum err e;

	c->fd = socket(to->u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (c->fd < 0)
		return client_fail(c, ERR_OS, strerror(errno));
	while (connect(c->fd, &to->u.sa, to->len) != 0) {
		if (errno == EAGAIN && client_now_us() < c->deadline_us) {
			/* A Unix socket's queue is full; there is no event for its getting room. */
			nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
			continue;
		}
		if (errno == EAGAIN)
			return client_fail(c, ERR_CONNECT_TIMEOUT, "no answer in time");
		if (errno != EINPROGRESS)
			return client_fail(c, ERR_REFUSED, strerror(errno));
		e = client_wait(c, POLLOUT);
		if (e != ERR_OK)
			return e;
		getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &len);
		return error ? client_fail(c, ERR_REFUSED, strerror(error)) : ERR_OK;
	}
	return ERR_OK;
}

static enum err client_send(struct client *c, const char *text)
{
	size_t len = strlen(text), at = 0;

	while (at < len) {
		ssize_t n = send(c->fd, text + at, len - at, MSG_NOSIGNAL);
		enum err e;

		if (n > 0) {
			at += (size_t)n;
			continue;
		}
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return client_fail(c, ERR_IO, strerror(errno));
		e = client_wait(c, POLLOUT);
		if (e != ERR_OK)
			return e;
	}
	return ERR_OK;
}

/* Reads until the peer closes. */
static enum err client_receive(struct client *c)
{
	for (;;) {
		ssize_t n;
		enum err e;

		if (c->len + 4096 > c->cap) {
			c->cap = c->cap ? c->cap * 2 : 65536;
			if (c->cap > CLIENT_ANSWER_MAX)
				return client_fail(c, ERR_PROTOCOL, "the answer is too long");
			c->in = mem_realloc(c->in, c->cap);
		}
		n = recv(c->fd, c->in + c->len, c->cap - c->len - 1, 0);
		if (n == 0)
			return ERR_OK;
		if (n > 0) {
			c->len += (size_t)n;
			continue;
		}
		if (errno != EAGAIN && errno != EINTR)
			return client_fail(c, ERR_IO, strerror(errno));
		e = client_wait(c, POLLIN);
		if (e != ERR_OK)
			return e;
	}
}

/* Splits what was received; the body moves to the front of the buffer, which the answer takes over. */
static enum err client_parse(struct client *c, struct answer *out)
{
	char *head_end, *length;

	c->in[c->len] = '\0';
	head_end = strstr(c->in, "\r\n\r\n");
	if (c->len == 0)
		return client_fail(c, ERR_IO, "the connection was closed without an answer");
	if (!head_end || strncmp(c->in, "HTTP/1.", 7) != 0 || c->len < 12)
		return client_fail(c, ERR_PROTOCOL, "the answer is not HTTP");
	out->status = atoi(c->in + 9);
	out->len = c->len - (size_t)(head_end + 4 - c->in);
	head_end[2] = '\0';
	length = strcasestr(c->in, "\r\nContent-Length:");
	if (length && strtoull(length + 17, NULL, 10) != out->len)
		return client_fail(c, ERR_PROTOCOL, "the answer is cut short");
	memmove(c->in, head_end + 4, out->len + 1);
	out->body = c->in;
	c->in = NULL;
	return ERR_OK;
}

enum err client_request(const struct addr *to, const char *method, const char *target, int64_t timeout_us,
			struct answer *out, const char **why)
{
	struct client c = {.fd = -1, .deadline_us = client_now_us() + timeout_us};
	char *request = mem_printf("%s %s HTTP/1.1\r\nHost: leased\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
				   method, target);
	enum err e = client_connect(&c, to);

	*out = (struct answer){0};
	if (e == ERR_OK)
		e = client_send(&c, request);
	if (e == ERR_OK)
		e = client_receive(&c);
	if (e == ERR_OK)
		e = client_parse(&c, out);
	*why = c.why ? c.why : "";
	if (c.fd >= 0)
		close(c.fd);
	mem_free(c.in);
	mem_free(request);
	return e;
}

char *client_escape(const char *text)
{
	char *out = mem_alloc(strlen(text) * 3 + 1);
	size_t n = 0;

	for (const char *p = text; *p; p++) {
		unsigned char ch = (unsigned char)*p;

		if (isalnum(ch) || ch == '-' || ch == '_' || ch == '.')
			out[n++] = (char)ch;
		else
			n += (size_t)snprintf(out + n, 4, "%%%02X", ch);
	}
	return out;
}
