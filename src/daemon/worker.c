#include "daemon/worker.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "daemon/credentials.h"

/* A poke on its way: one per service and kind, so that it is never queued twice. */
struct worker_poke {
	struct message m;
	struct worker_service *to;
	enum budget_poke what;
	atomic_bool in_flight;
};

#define WORKER_POKES 2 /* kinds in enum budget_poke */

struct worker_service {
	struct worker *worker;
	const struct setup_pool *setup;
	struct service *service;
	struct worker_poke pokes[WORKER_POKES];
	struct credential_want want;
	struct call *drain; /* waits for its answer */
	bool draining;	    /* since a DRAIN, until it is over; with refuse_new until RESUME */
	bool stopped;
};

struct worker {
	int id;
	struct loop *loop;
	struct resolver *resolver;
	struct mailbox *box, *answers;
	struct worker_service *services;
	size_t n_services;
	struct call *stop; /* waits for its answer */
	int64_t lag_us[SNAP_FORS];
	struct message quit;
	char why[256]; /* of worker_listen() */
	pthread_t thread;
	bool started;
};

static void worker_answer(struct worker *w, struct call *c, enum err e)
{
	c->err = e;
	mailbox_send(w->answers, &c->m);
}

static struct call *worker_call_of(struct message *m)
{
	return container_of(m, struct call, m);
}

/* From any thread, with the budget's lock held. */
static void worker_budget_poke(void *arg, enum budget_poke what)
{
	struct worker_service *s = arg;
	struct worker_poke *p = &s->pokes[what];

	BUG_ON((int)what >= WORKER_POKES);
	if (!atomic_exchange(&p->in_flight, true))
		mailbox_send(s->worker->box, &p->m);
}

static void worker_on_ping(struct worker *w, struct message *m)
{
	worker_answer(w, worker_call_of(m), ERR_OK);
}

static void worker_on_poke(struct worker *w, struct message *m)
{
	struct worker_poke *p = container_of(m, struct worker_poke, m);

	(void)w;
	/* Before it is acted on: a poke that comes meanwhile must be heard. */
	atomic_store(&p->in_flight, false);
	if (!p->to->stopped)
		service_poked(p->to->service, p->what);
}

/* The pool's login was refused. */
static void worker_want_newer(void *arg, uint64_t than)
{
	struct worker_service *s = arg;

	credential_want(&s->want, than);
}

static void worker_on_credential(struct worker *w, struct message *m)
{
	struct call *c = worker_call_of(m);

	for (size_t i = 0; i < w->n_services; i++)
		if (w->services[i].setup->credential == c->credential && !w->services[i].stopped)
			service_credential(w->services[i].service, c->cred);
	worker_answer(w, c, ERR_OK);
}

static void worker_on_credential_failed(struct worker *w, struct message *m)
{
	struct call *c = worker_call_of(m);

	for (size_t i = 0; i < w->n_services; i++)
		if (w->services[i].setup->credential == c->credential && !w->services[i].stopped)
			service_credential_failed(w->services[i].service, c->than, c->why, c->final);
	worker_answer(w, c, ERR_OK);
}

static int64_t worker_lag_us(struct worker *w, enum snap_for who)
{
	int64_t lag = loop_lag_take_us(w->loop);

	for (int i = 0; i < SNAP_FORS; i++)
		if (lag > w->lag_us[i])
			w->lag_us[i] = lag;
	lag = w->lag_us[who];
	w->lag_us[who] = 0;
	return lag;
}

/* What the service itself doesn't know. */
static void worker_describe(const struct worker *w, const struct worker_service *s, struct snap_pool *out)
{
	const struct conf_pool *p = s->setup->conf;

	out->protocol = p->protocol;
	out->mode = setup_mode_name(p);
	out->credential = p->credential ? p->credential->name : NULL;
	out->draining = s->draining || w->stop != NULL;
}

static void worker_on_snapshot(struct worker *w, struct message *m)
{
	struct call *c = worker_call_of(m);
	int64_t now = loop_now_us(w->loop);

	c->snap = snap_new(w->id, w->n_services, c->full, now);
	c->snap->lag_us = worker_lag_us(w, c->snap_for);
	for (size_t i = 0; i < w->n_services; i++) {
		struct worker_service *s = &w->services[i];

		snap_take(&c->snap->pools[i], s->service, c->full, now);
		worker_describe(w, s, &c->snap->pools[i]);
	}
	worker_answer(w, c, ERR_OK);
}

static void worker_drained(void *arg, enum err e)
{
	struct worker_service *s = arg;
	struct call *c = s->drain;

	if (!c)
		return;
	s->drain = NULL;
	if (!c->refuse_new)
		s->draining = false;
	worker_answer(s->worker, c, e);
}

static void worker_on_drain(struct worker *w, struct message *m)
{
	struct call *c = worker_call_of(m);
	struct worker_service *s = &w->services[c->pool];
	enum err e;

	BUG_ON(c->pool >= w->n_services);
	if (s->stopped || s->drain) {
		worker_answer(w, c, s->stopped ? ERR_OK : ERR_AGAIN);
		return;
	}
	e = service_drain(s->service, c->refuse_new, c->timeout_us, worker_drained, s);
	if (e != ERR_OK) {
		worker_answer(w, c, e);
		return;
	}
	s->draining = true;
	s->drain = c;
}

static void worker_on_resume(struct worker *w, struct message *m)
{
	struct call *c = worker_call_of(m);
	struct worker_service *s = &w->services[c->pool];

	BUG_ON(c->pool >= w->n_services);
	if (!s->stopped) {
		service_resume(s->service);
		s->draining = false;
	}
	worker_answer(w, c, ERR_OK);
}

static void worker_stop_check(struct worker *w)
{
	struct call *c = w->stop;

	for (size_t i = 0; i < w->n_services; i++)
		if (!w->services[i].stopped)
			return;
	if (!c) {
		loop_stop(w->loop);
		return;
	}
	w->stop = NULL;
	worker_answer(w, c, ERR_OK);
}

static void worker_service_stopped(void *arg)
{
	struct worker_service *s = arg;

	s->stopped = true;
	worker_drained(s, ERR_OK);
	worker_stop_check(s->worker);
}

static void worker_stop_services(struct worker *w)
{
	for (size_t i = 0; i < w->n_services; i++)
		service_stop(w->services[i].service, worker_service_stopped, &w->services[i]);
}

static void worker_kill_services(struct worker *w)
{
	for (size_t i = 0; i < w->n_services; i++)
		if (!w->services[i].stopped)
			service_kill(w->services[i].service);
}

static void worker_on_stop(struct worker *w, struct message *m)
{
	w->stop = worker_call_of(m);
	worker_stop_services(w);
}

static void worker_on_kill(struct worker *w, struct message *m)
{
	worker_kill_services(w);
	worker_answer(w, worker_call_of(m), ERR_OK);
}

static void worker_on_quit(struct worker *w, struct message *m)
{
	(void)m;
	loop_stop(w->loop);
}

static void worker_message(void *arg, struct message *m)
{
	static void (*const handlers[MSG_COUNT])(struct worker *, struct message *) = {
#define MSG(id, handler, help) [MSG_##id] = worker_on_##handler,
#include "daemon/messages.def"
#undef MSG
	};

	BUG_ON(m->kind < 0 || m->kind >= MSG_COUNT);
	handlers[m->kind](arg, m);
}

int worker_count(const struct conf *c)
{
	int64_t n = c->workers, pools = (int64_t)c->n_pools;
	cpu_set_t set;

	if (n == 0)
		n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
	if (n > pools)
		n = pools;
	return n < 1 ? 1 : (int)n;
}

/* Name servers with their port, as the resolver wants them. */
static char **worker_nameservers(const struct conf_strings *in)
{
	char **out = mem_alloc((in->n + 1) * sizeof(*out));
	struct addr_spec spec;

	for (size_t i = 0; i < in->n; i++) {
		const char *t = in->v[i];
		bool bare_v6 = t[0] != '[' && strchr(t, ':') && strchr(t, ':') != strrchr(t, ':');

		if (bare_v6)
			out[i] = mem_printf("[%s]:53", t);
		else if (addr_parse(t, &spec, NULL) == ERR_OK)
			out[i] = mem_strdup(t);
		else
			out[i] = mem_printf("%s:53", t);
	}
	return out;
}

struct resolver *worker_resolver(struct loop *l, const struct conf_dns *d)
{
	char **ns = worker_nameservers(&d->nameservers);
	struct resolver_opts o = {
		.nameservers = (const char *const *)ns,
		.n_nameservers = d->nameservers.n,
		.timeout_us = d->timeout_us,
	};
	struct resolver *r = resolver_new(l, &o);

	for (size_t i = 0; i < d->nameservers.n; i++)
		mem_free(ns[i]);
	mem_free(ns);
	return r;
}

static void worker_add(struct worker *w, const struct setup_pool *p, const struct worker_opts *o)
{
	struct worker_service *s = &w->services[w->n_services++];
	struct service_opts opts = p->opts;

	s->worker = w;
	s->setup = p;
	for (int i = 0; i < WORKER_POKES; i++) {
		s->pokes[i].m.kind = MSG_POKE;
		s->pokes[i].to = s;
		s->pokes[i].what = (enum budget_poke)i;
	}
	credential_want_init(&s->want, o->wishes, p->credential);
	opts.want_newer = worker_want_newer;
	opts.want_arg = s;
	opts.pool.seed = loop_random(w->loop);
	s->service = service_new(w->loop, w->resolver, &opts, o->budget, o->clients, worker_budget_poke, s);
}

struct worker *worker_new(const struct worker_opts *o)
{
	struct worker *w = NEW(struct worker);

	w->id = o->id;
	w->answers = o->answers;
	w->quit.kind = MSG_QUIT;
	w->services = mem_alloc((o->setup->n_pools + 1) * sizeof(*w->services));
	w->loop = loop_new();
	if (w->loop)
		w->box = mailbox_new(w->loop, worker_message, w);
	if (w->box)
		w->resolver = worker_resolver(w->loop, &o->setup->conf->dns);
	if (!w->resolver) {
		worker_free(&w);
		return NULL;
	}
	for (size_t i = (size_t)o->id; i < o->setup->n_pools; i += (size_t)o->n_workers)
		worker_add(w, &o->setup->pools[i], o);
	return w;
}

enum err worker_listen(struct worker *w, const char **why)
{
	struct addr unused;

	for (size_t i = 0; i < w->n_services; i++) {
		struct worker_service *s = &w->services[i];
		const char *text = "";
		enum err e = service_listen(s->service, &text);
		size_t at = service_listener_addr(s->service, SIZE_MAX, &unused);

		if (e == ERR_OK)
			continue;
		/* Listeners are opened in order: the first that isn't is the culprit. */
		snprintf(w->why, sizeof(w->why), "pool %s, %s: %s", s->setup->conf->name,
			 s->setup->listeners[at].name, text);
		*why = w->why;
		return e;
	}
	return ERR_OK;
}

static void *worker_thread(void *arg)
{
	struct worker *w = arg;

	loop_run(w->loop);
	return NULL;
}

enum err worker_start(struct worker *w)
{
	char name[16];

	if (pthread_create(&w->thread, NULL, worker_thread, w) != 0)
		return ERR_OS;
	w->started = true;
	snprintf(name, sizeof(name), "worker-%d", w->id % 1000);
	pthread_setname_np(w->thread, name);
	return ERR_OK;
}

void worker_call(struct worker *w, struct call *c)
{
	mailbox_send(w->box, &c->m);
}

void worker_join(struct worker *w)
{
	if (!w->started)
		return;
	mailbox_send(w->box, &w->quit);
	pthread_join(w->thread, NULL);
	w->started = false;
}

void worker_close(struct worker *w)
{
	bool running = false;

	BUG_ON(w->started);
	for (size_t i = 0; i < w->n_services; i++)
		running |= !w->services[i].stopped;
	if (running) {
		worker_stop_services(w);
		worker_kill_services(w);
		loop_run(w->loop);
	}
	for (size_t i = 0; i < w->n_services; i++)
		service_free(&w->services[i].service);
}

void worker_free(struct worker **w)
{
	struct worker *it = *w;

	if (!it)
		return;
	resolver_free(&it->resolver);
	if (it->box)
		mailbox_free(&it->box);
	if (it->loop)
		loop_free(&it->loop);
	mem_free(it->services);
	mem_free(it);
	*w = NULL;
}

int worker_id(const struct worker *w)
{
	return w->id;
}

size_t worker_pools(const struct worker *w)
{
	return w->n_services;
}

const char *worker_pool_name(const struct worker *w, size_t pool)
{
	return w->services[pool].setup->conf->name;
}
