/* addr: parsing and formatting of addresses; see addr.h. */
#include "base/addr.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define HOST_MAX  253
#define LABEL_MAX 63
#define UN_HEAD	  offsetof(struct sockaddr_un, sun_path)

static bool addr_is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool addr_is_label_char(char c)
{
	return addr_is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
}

/* What is wrong with a host name; NULL: nothing. One dot at its end is allowed. */
static const char *addr_check_name(const char *s)
{
	size_t label = 0, n = strlen(s);
	bool digits = true; /* the last label's characters are all digits */

	if (n > HOST_MAX)
		return "host name is longer than 253 bytes";
	for (size_t i = 0; i < n; i++) {
		if (s[i] == '.') {
			if (label == 0 || s[i - 1] == '-')
				return "host name has a bad label";
			label = 0;
			continue;
		}
		if (!addr_is_label_char(s[i]))
			return "host name has a character that is not allowed";
		if (label == 0) {
			digits = true;
			if (s[i] == '-')
				return "host name has a bad label";
		}
		digits = digits && addr_is_digit(s[i]);
		if (++label > LABEL_MAX)
			return "host name has a label longer than 63 bytes";
	}
	if (s[n - 1] == '-')
		return "host name has a bad label";
	return digits ? "not an IPv4 address" : NULL;
}

static const char *addr_parse_port(const char *s, uint16_t *port)
{
	unsigned int value = 0;

	if (!*s)
		return "port is missing";
	for (; *s; s++) {
		if (!addr_is_digit(*s))
			return "port must be 0 to 65535";
		value = value * 10 + (unsigned int)(*s - '0');
		if (value > 65535)
			return "port must be 0 to 65535";
	}
	*port = (uint16_t)value;
	return NULL;
}

static void addr_set_v6(struct addr *a, const struct in6_addr *ip, uint16_t port)
{
	a->len = sizeof(a->u.in6);
	a->u.in6.sin6_family = AF_INET6;
	a->u.in6.sin6_addr = *ip;
	a->u.in6.sin6_port = htons(port);
}

static const char *addr_parse_unix(const char *path, struct addr_spec *out)
{
	struct sockaddr_un *un = &out->addr.u.un;
	size_t n = strlen(path);

	if (path[0] != '/' && path[0] != '@')
		return "socket path must begin with / or @";
	if (n < 2)
		return "socket path is missing";
	if (n > sizeof(un->sun_path) - 1)
		return "socket path is longer than 107 bytes";
	out->kind = ADDR_UNIX;
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, path, n);
	if (path[0] == '@') {
		un->sun_path[0] = '\0';
		out->addr.len = (socklen_t)(UN_HEAD + n);
	} else {
		out->addr.len = (socklen_t)(UN_HEAD + n + 1);
	}
	return NULL;
}

static const char *addr_parse_systemd(const char *name, struct addr_spec *out)
{
	size_t n = strlen(name);

	if (n == 0)
		return "socket name is missing";
	if (n >= sizeof(out->host))
		return "socket name is longer than 255 bytes";
	for (size_t i = 0; i < n; i++)
		if (name[i] <= ' ' || name[i] > '~' || name[i] == ':')
			return "socket name has a character that is not allowed";
	out->kind = ADDR_SYSTEMD;
	memcpy(out->host, name, n + 1);
	return NULL;
}

/* "[v6]:port" */
static const char *addr_parse_bracketed(const char *text, struct addr_spec *out)
{
	const char *end = strchr(text, ']'), *why;
	char ip[INET6_ADDRSTRLEN];
	struct in6_addr in6;
	size_t n;

	if (!end)
		return "] is missing";
	n = (size_t)(end - text - 1);
	if (n >= sizeof(ip))
		return "not an IPv6 address";
	memcpy(ip, text + 1, n);
	ip[n] = '\0';
	if (inet_pton(AF_INET6, ip, &in6) != 1)
		return "not an IPv6 address";
	if (end[1] != ':')
		return end[1] ? "] must be followed by :port" : "port is missing";
	why = addr_parse_port(end + 2, &out->port);
	if (why)
		return why;
	out->kind = ADDR_NUMERIC;
	addr_set_v6(&out->addr, &in6, out->port);
	return NULL;
}

/* "*:port", "1.2.3.4:port", "name:port" */
static const char *addr_parse_host(const char *text, struct addr_spec *out)
{
	const char *colon = strrchr(text, ':'), *why;
	struct in_addr in;

	if (!colon)
		return *text ? "port is missing" : "address is empty";
	if (strchr(text, ':') != colon)
		return "an IPv6 address needs [ and ]";
	if (colon == text)
		return "host is missing";
	if ((size_t)(colon - text) >= sizeof(out->host))
		return "host name is longer than 253 bytes";
	memcpy(out->host, text, (size_t)(colon - text));
	why = addr_parse_port(colon + 1, &out->port);
	if (why)
		return why;
	out->kind = ADDR_NUMERIC;
	if (strcmp(out->host, "*") == 0) {
		addr_set_v6(&out->addr, &in6addr_any, out->port);
	} else if (inet_pton(AF_INET, out->host, &in) == 1) {
		out->addr.len = sizeof(out->addr.u.in);
		out->addr.u.in.sin_family = AF_INET;
		out->addr.u.in.sin_addr = in;
		out->addr.u.in.sin_port = htons(out->port);
	} else {
		out->kind = ADDR_NAME;
		return addr_check_name(out->host);
	}
	out->host[0] = '\0';
	return NULL;
}

enum err addr_parse(const char *text, struct addr_spec *out, const char **why)
{
	const char *wrong;

	memset(out, 0, sizeof(*out));
	if (strncmp(text, "unix:", 5) == 0)
		wrong = addr_parse_unix(text + 5, out);
	else if (strncmp(text, "systemd:", 8) == 0)
		wrong = addr_parse_systemd(text + 8, out);
	else if (text[0] == '[')
		wrong = addr_parse_bracketed(text, out);
	else
		wrong = addr_parse_host(text, out);
	if (why)
		*why = wrong;
	return wrong ? ERR_CONFIG : ERR_OK;
}

/* The bytes of a Unix address's name; a path counts up to its NUL, an abstract name starts with one. */
static size_t addr_unix_len(const struct addr *a)
{
	size_t n = a->len > UN_HEAD ? a->len - UN_HEAD : 0;

	if (n > sizeof(a->u.un.sun_path))
		n = sizeof(a->u.un.sun_path);
	return n && a->u.un.sun_path[0] ? strnlen(a->u.un.sun_path, n) : n;
}

static void addr_format_unix(const struct addr *a, char *out, size_t cap)
{
	char name[sizeof(a->u.un.sun_path) + 1];
	size_t n = addr_unix_len(a);

	/* NULs of an abstract name are shown as @, like other tools do. */
	for (size_t i = 0; i < n; i++)
		name[i] = a->u.un.sun_path[i] ? a->u.un.sun_path[i] : '@';
	name[n] = '\0';
	snprintf(out, cap, "unix:%s", name);
}

void addr_format(const struct addr *a, char *out, size_t cap)
{
	char ip[INET6_ADDRSTRLEN];

	switch (a->len ? a->u.sa.sa_family : AF_UNSPEC) {
	case AF_INET:
		inet_ntop(AF_INET, &a->u.in.sin_addr, ip, sizeof(ip));
		snprintf(out, cap, "%s:%u", ip, ntohs(a->u.in.sin_port));
		break;
	case AF_INET6:
		inet_ntop(AF_INET6, &a->u.in6.sin6_addr, ip, sizeof(ip));
		snprintf(out, cap, "[%s]:%u", ip, ntohs(a->u.in6.sin6_port));
		break;
	case AF_UNIX:
		addr_format_unix(a, out, cap);
		break;
	default:
		snprintf(out, cap, "unknown");
	}
}

int addr_equal(const struct addr *a, const struct addr *b)
{
	if (!a->len || !b->len)
		return a->len == b->len;
	if (a->u.sa.sa_family != b->u.sa.sa_family)
		return 0;
	switch (a->u.sa.sa_family) {
	case AF_INET:
		return a->u.in.sin_port == b->u.in.sin_port && a->u.in.sin_addr.s_addr == b->u.in.sin_addr.s_addr;
	case AF_INET6:
		return a->u.in6.sin6_port == b->u.in6.sin6_port && a->u.in6.sin6_scope_id == b->u.in6.sin6_scope_id &&
		       memcmp(&a->u.in6.sin6_addr, &b->u.in6.sin6_addr, sizeof(struct in6_addr)) == 0;
	case AF_UNIX:
		return addr_unix_len(a) == addr_unix_len(b) &&
		       memcmp(a->u.un.sun_path, b->u.un.sun_path, addr_unix_len(a)) == 0;
	default:
		return 0;
	}
}

void addr_set_port(struct addr *a, uint16_t port)
{
	if (a->u.sa.sa_family == AF_INET)
		a->u.in.sin_port = htons(port);
	else if (a->u.sa.sa_family == AF_INET6)
		a->u.in6.sin6_port = htons(port);
}
