/*
 * client: one HTTP request to the admin interface of leased, over its Unix socket or loopback port. Blocking, with a deadline.
 */
#ifndef LEASED_CTL_CLIENT_H
#define LEASED_CTL_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"

#define CLIENT_ANSWER_MAX (256u * 1024 * 1024)

struct answer {
	int status; /* of HTTP */
	char *body; /* NUL-terminated; mem_free() */
	size_t len;
};

/*
 * ERR_OK: there is an answer, whatever its status. ERR_CONNECT_TIMEOUT: none came within timeout_us. ERR_PROTOCOL: it makes
 * no sense. Others: the daemon can't be reached. *why (out): a text for people.
 */
enum err client_request(const struct addr *to, const char *method, const char *target, int64_t timeout_us,
			struct answer *out, const char **why) MUST_CHECK;
/* Appends text to a target's query with everything but letters, digits, '-', '_' and '.' escaped. Returns new memory. */
char *client_escape(const char *text);

#endif
