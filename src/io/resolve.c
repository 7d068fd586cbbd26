/*
 * resolve: libevent's evdns behind resolve.h.
 *
 *	resolver_lookup() --> lookup + query --evdns--> query_done() --> task --> the caller's function
 *	                        |          |
 *	  time-out, cancel -----+          +--> lives on alone until evdns answers it
 *
 * A question can't be taken back from evdns safely while its answer is on the way, so an abandoned one just runs out:
 * evdns is told to try often enough and give up within the lookup's time-out. Answers over 512 bytes come cut by the
 * name server, and evdns doesn't ask again by TCP: such a name (more than about 28 addresses) doesn't resolve.
 */
#include "io/resolve.h"

#include <event2/dns.h>
#include <event2/util.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "io/io_private.h"

#define RESOLVE_TRIES	       3
#define RESOLVE_MIN_TIMEOUT_US 100000
#define RESOLVE_SKEW_US	       1000000 /* how long v4 waits for v6, or the other way round, when only one is answered */

struct query {
	struct lookup *lookup; /* NULL: nobody wants the answer any more */
};

struct lookup {
	struct node node; /* in its resolver's list */
	struct resolver *resolver;
	struct query *query; /* NULL: answered */
	struct timer deadline;
	struct task deliver;
	resolve_fn *fn;
	void *arg;
	uint16_t port;
	struct addr *v;
	size_t n;
};

struct resolver {
	struct loop *loop;
	struct evdns_base *dns;
	int64_t timeout_us;
	struct list lookups;
};

/* ---- one lookup ---- */

static void lookup_forget(struct lookup *k)
{
	struct loop *l = k->resolver->loop;

	if (k->query)
		k->query->lookup = NULL;
	k->query = NULL;
	timer_stop(l, &k->deadline);
	loop_unpost(l, &k->deliver);
	list_remove(&k->node);
	mem_free(k->v);
	k->v = NULL;
	loop_free_later(l, k);
}

static void lookup_deliver(void *arg)
{
	struct lookup *k = arg;
	resolve_fn *fn = k->fn;
	void *fn_arg = k->arg;
	struct addr *v = k->v;
	size_t n = k->n;

	k->v = NULL;
	lookup_forget(k);
	fn(fn_arg, n ? ERR_OK : ERR_DNS, v, n);
	mem_free(v);
}

static void lookup_add(struct lookup *k, const struct evutil_addrinfo *ai)
{
	struct addr a = {.len = ai->ai_addrlen};

	if ((ai->ai_family != AF_INET && ai->ai_family != AF_INET6) || ai->ai_addrlen > sizeof(a.u))
		return;
	memcpy(&a.u, ai->ai_addr, ai->ai_addrlen);
	addr_set_port(&a, k->port);
	for (size_t i = 0; i < k->n; i++)
		if (addr_equal(&k->v[i], &a))
			return;
	k->v[k->n++] = a;
}

/* From evdns, perhaps from inside resolver_lookup(): only takes note. */
static void query_done(int result, struct evutil_addrinfo *res, void *arg)
{
	struct query *q = arg;
	struct lookup *k = q->lookup;

	mem_free(q);
	if (k) {
		k->query = NULL;
		k->v = mem_alloc(RESOLVE_MAX * sizeof(*k->v));
		for (const struct evutil_addrinfo *ai = res; !result && ai && k->n < RESOLVE_MAX; ai = ai->ai_next)
			lookup_add(k, ai);
		if (result)
			log_at(LOG_LV_DEBUG, "dns.fail", L_STR("why", evutil_gai_strerror(result)));
		timer_stop(k->resolver->loop, &k->deadline);
		loop_post(k->resolver->loop, &k->deliver);
	}
	if (res)
		evutil_freeaddrinfo(res);
}

struct lookup *resolver_lookup(struct resolver *r, const char *host, uint16_t port, resolve_fn *fn, void *arg)
{
	struct evutil_addrinfo hints = {
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
		.ai_protocol = IPPROTO_TCP,
	};
	struct lookup *k = NEW(struct lookup);

	*k = (struct lookup){.resolver = r, .query = NEW(struct query), .fn = fn, .arg = arg, .port = port};
	k->query->lookup = k;
	task_init(&k->deliver, lookup_deliver, k);
	timer_init(&k->deadline, lookup_deliver, k);
	list_push_back(&r->lookups, &k->node);
	timer_set(r->loop, &k->deadline, loop_now_us(r->loop) + r->timeout_us);
	evdns_getaddrinfo(r->dns, host, NULL, &hints, query_done, k->query);
	return k;
}

void lookup_cancel(struct lookup **pk)
{
	struct lookup *k = *pk;

	*pk = NULL;
	if (k)
		lookup_forget(k);
}

/* ---- the resolver ---- */

static bool resolver_option(struct resolver *r, const char *name, int64_t us)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld.%06lld", (long long)(us / 1000000), (long long)(us % 1000000));
	return evdns_base_set_option(r->dns, name, text) == 0;
}

static bool resolver_set_up(struct resolver *r, const struct resolver_opts *o)
{
	int64_t try_us = r->timeout_us / RESOLVE_TRIES, skew_us = r->timeout_us / 2;
	char tries[8];

	if (o->n_nameservers == 0) {
		/* A missing file is no error: evdns then asks 127.0.0.1, and the daemon starts without DNS. */
		int bad = evdns_base_resolv_conf_parse(r->dns, DNS_OPTIONS_ALL, "/etc/resolv.conf");

		if (bad)
			log_at(LOG_LV_WARNING, "dns.resolv_conf", L_INT("result", bad));
	} else if (evdns_base_load_hosts(r->dns, NULL) != 0) {
		return false;
	}
	for (size_t i = 0; i < o->n_nameservers; i++)
		if (evdns_base_nameserver_ip_add(r->dns, o->nameservers[i]) != 0)
			return false;
	snprintf(tries, sizeof(tries), "%d", RESOLVE_TRIES);
	if (skew_us > RESOLVE_SKEW_US)
		skew_us = RESOLVE_SKEW_US;
	return evdns_base_set_option(r->dns, "attempts:", tries) == 0 && resolver_option(r, "timeout:", try_us) &&
	       resolver_option(r, "getaddrinfo-allow-skew:", skew_us);
}

struct resolver *resolver_new(struct loop *l, const struct resolver_opts *o)
{
	struct resolver *r = NEW(struct resolver);

	r->loop = l;
	r->timeout_us = o->timeout_us > RESOLVE_MIN_TIMEOUT_US ? o->timeout_us : RESOLVE_MIN_TIMEOUT_US;
	list_init(&r->lookups);
	r->dns = evdns_base_new(l->base, EVDNS_BASE_DISABLE_WHEN_INACTIVE);
	if (!r->dns || !resolver_set_up(r, o)) {
		if (r->dns)
			evdns_base_free(r->dns, 0);
		mem_free(r);
		return NULL;
	}
	return r;
}

void resolver_free(struct resolver **pr)
{
	struct resolver *r = *pr;
	struct node *n;

	if (!r)
		return;
	*pr = NULL;
	while ((n = list_first(&r->lookups)) != NULL)
		lookup_forget(container_of(n, struct lookup, node));
	/* The questions still out are answered "shut down" by the loop later, which frees them. */
	evdns_base_free(r->dns, 1);
	loop_free_later(r->loop, r);
}
