/* sim_resolve: io/resolve.h over the name server of names.h. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "io/resolve.h"
#include "names.h"
#include "sim_loop.h"

static struct name names[NAMES_MAX];
static size_t n_names;

void names_begin(void)
{
	memset(names, 0, sizeof(names));
	n_names = 0;
}

struct name *name_new(void)
{
	struct name *n = &names[n_names];

	BUG_ON(n_names == NAMES_MAX);
	snprintf(n->text, sizeof(n->text), "h%zu.sim", n_names++);
	n->delay_us = 300;
	return n;
}

static struct name *name_find(const char *host)
{
	for (size_t i = 0; i < n_names; i++)
		if (strcmp(names[i].text, host) == 0)
			return &names[i];
	return NULL;
}

struct resolver {
	struct loop *loop;
	struct list lookups;
	int64_t timeout_us;
};

struct lookup {
	struct ready ready;
	struct node node;
	struct event answer;
	struct resolver *resolver;
	const struct name *name;
	uint16_t port;
	resolve_fn *fn;
	void *arg;
};

/* The addresses are those of the moment the answer is read. */
static void lookup_run(struct ready *r)
{
	struct lookup *k = container_of(r, struct lookup, ready);
	const struct name *name = k->name;
	struct loop *l = k->resolver->loop;
	struct addr v[NAME_ADDRS_MAX];
	size_t n = name && !name->mute ? name->n : 0;

	for (size_t i = 0; i < n; i++)
		v[i] = sim_addr(name->host[i], k->port);
	trace(TR_LOOKUP, name ? (uint64_t)(name - names) : 99, n > 0 ? 0 : 1, n);
	list_remove(&k->node);
	l->n_lookups--;
	loop_free_later(l, k);
	k->fn(k->arg, n > 0 ? ERR_OK : ERR_DNS, v, n);
	loop_called(l);
}

static void lookup_answer(struct event *e)
{
	struct lookup *k = container_of(e, struct lookup, answer);

	world.events++;
	loop_make_ready(k->resolver->loop, &k->ready);
}

struct resolver *resolver_new(struct loop *l, const struct resolver_opts *o)
{
	struct resolver *r = NEW(struct resolver);

	r->loop = l;
	r->timeout_us = o->timeout_us;
	list_init(&r->lookups);
	return r;
}

void resolver_free(struct resolver **pr)
{
	struct resolver *r = *pr;

	*pr = NULL;
	if (!r)
		return;
	while (list_first(&r->lookups)) {
		struct lookup *k = container_of(list_first(&r->lookups), struct lookup, node);

		lookup_cancel(&k);
	}
	mem_free(r);
}

struct lookup *resolver_lookup(struct resolver *r, const char *host, uint16_t port, resolve_fn *fn, void *arg)
{
	struct lookup *k = NEW(struct lookup);
	int64_t delay;

	k->ready.run = lookup_run;
	event_init(&k->answer, lookup_answer);
	k->resolver = r;
	k->name = name_find(host);
	k->port = port;
	k->fn = fn;
	k->arg = arg;
	list_push_back(&r->lookups, &k->node);
	r->loop->n_lookups++;
	delay = k->name ? k->name->delay_us + world_range(0, k->name->delay_us) : 100;
	if (k->name && (k->name->mute || world_bug(world.bug.lookup_slow)))
		delay = r->timeout_us;
	event_set(&k->answer, world.now_us + (delay < r->timeout_us ? delay : r->timeout_us));
	return k;
}

void lookup_cancel(struct lookup **pk)
{
	struct lookup *k = *pk;

	*pk = NULL;
	if (!k)
		return;
	event_stop(&k->answer);
	if (list_is_on(&k->ready.node))
		list_remove(&k->ready.node);
	list_remove(&k->node);
	k->resolver->loop->n_lookups--;
	loop_free_later(k->resolver->loop, k);
}
