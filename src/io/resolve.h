/*
 * resolve: names to addresses, asynchronously, v4 and v6. One resolver per loop.
 *
 * Answers come as an event, never from inside resolver_lookup(), even for an immediate failure. Results are in the order
 * of RFC 6724 as far as the library gives it; duplicates removed; at most RESOLVE_MAX.
 */
#ifndef LEASED_IO_RESOLVE_H
#define LEASED_IO_RESOLVE_H

#include "base/addr.h"
#include "io/loop.h"

#define RESOLVE_MAX 64

struct resolver;
struct lookup;

struct resolver_opts {
	const char *const *nameservers; /* "ip:port"; NULL or empty: the system's resolv.conf and hosts file */
	size_t n_nameservers;
	int64_t timeout_us; /* of the whole lookup */
};

/* err: ERR_OK with n >= 1, else ERR_DNS and n == 0. The lookup is over when this is called. */
typedef void resolve_fn(void *arg, enum err err, const struct addr *v, size_t n);

struct resolver *resolver_new(struct loop *l, const struct resolver_opts *o); /* NULL: the system refuses */
void resolver_free(struct resolver **r);				      /* cancels what runs */
struct lookup *resolver_lookup(struct resolver *r, const char *host, uint16_t port, resolve_fn *fn, void *arg);
void lookup_cancel(struct lookup **k); /* its callback will not come; nulls; NULL is fine */

#endif
