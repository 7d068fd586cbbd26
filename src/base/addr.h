/*
 * addr: network addresses as written in the configuration and as the kernel takes them.
 *
 * Written: "host:port", "1.2.3.4:port", "[v6]:port", "*:port" (listen only: all v6 and v4), "unix:/path",
 * "unix:@abstract", "systemd:NAME" (listen only). A host name makes a spec that has to be resolved first.
 */
#ifndef LEASED_BASE_ADDR_H
#define LEASED_BASE_ADDR_H

#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/err.h"

/* A kernel address, value type. */
struct addr {
	socklen_t len;
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
		struct sockaddr_un un;
	} u;
};

enum addr_kind { ADDR_NUMERIC, ADDR_NAME, ADDR_UNIX, ADDR_SYSTEMD };

/* A parsed address text. */
struct addr_spec {
	enum addr_kind kind;
	char host[256]; /* ADDR_NAME: the name; ADDR_SYSTEMD: the socket's name */
	uint16_t port;
	struct addr addr; /* ADDR_NUMERIC, ADDR_UNIX */
};

#define ADDR_TEXT_MAX 128

/* why (out, may be NULL): a static sentence fragment that says what is wrong. */
enum err addr_parse(const char *text, struct addr_spec *out, const char **why) MUST_CHECK;
void addr_format(const struct addr *a, char *out, size_t cap); /* "127.0.0.1:80", "[::1]:80", "unix:/x" */
int addr_equal(const struct addr *a, const struct addr *b);
void addr_set_port(struct addr *a, uint16_t port);

#endif
