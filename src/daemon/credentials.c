#include "daemon/credentials.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "daemon/control.h"

/* One of the setup's credentials. */
struct credentials_one {
	struct credentials *all;
	size_t index;
	struct credential *credential;
	struct list asks;
};

struct credentials {
	struct control *control;
	struct mailbox *box;
	struct list news; /* under way */
	struct credentials_one *v;
	size_t n;
	bool stopped;
	char why[256];
};

/* What one worker is told. */
struct credentials_news {
	struct call call;
	struct node node;
};

/* ---- from the workers */

void credential_want_init(struct credential_want *w, struct mailbox *to, size_t credential)
{
	*w = (struct credential_want){.to = to, .credential = credential};
	atomic_init(&w->in_flight, false);
	atomic_init(&w->than, 0);
}

void credential_want(struct credential_want *w, uint64_t than)
{
	atomic_store(&w->than, than);
	if (!atomic_exchange(&w->in_flight, true))
		mailbox_send(w->to, &w->m);
}

static void credentials_on_want(void *arg, struct message *m)
{
	struct credentials *k = arg;
	struct credential_want *w = container_of(m, struct credential_want, m);

	/* Before it is read: a wish that is renewed meanwhile must be heard. */
	atomic_store(&w->in_flight, false);
	if (!k->stopped)
		credential_want_newer(k->v[w->credential].credential, atomic_load(&w->than));
}

/* ---- to the workers */

static void credentials_told(struct call *call)
{
	struct credentials_news *n = container_of(call, struct credentials_news, call);

	list_remove(&n->node);
	cred_drop(&call->cred);
	mem_free(n);
}

static bool credentials_uses(const struct credentials_one *o, size_t worker, size_t n_workers)
{
	const struct setup *s = o->all->control->setup;

	for (size_t i = worker; i < s->n_pools; i += n_workers)
		if (s->pools[i].credential == o->index)
			return true;
	return false;
}

static void credentials_tell(struct credentials_one *o, const struct call *model)
{
	struct control *c = o->all->control;

	for (size_t i = 0; i < c->n_workers; i++) {
		struct credentials_news *n;

		if (!credentials_uses(o, i, c->n_workers))
			continue;
		n = NEW(struct credentials_news);
		n->call = *model;
		n->call.credential = o->index;
		n->call.answered = credentials_told;
		if (model->cred)
			n->call.cred = cred_ref(model->cred);
		list_push_back(&o->all->news, &n->node);
		control_call(c, &c->workers[i], &n->call);
	}
}

static void credentials_answer(struct credentials_one *o, enum err e)
{
	struct cred *newest = credential_current(o->credential);

	for (struct node *n = list_first(&o->asks); n; n = list_first(&o->asks)) {
		struct credentials_ask *a = container_of(n, struct credentials_ask, node);

		list_remove(n);
		a->answered(a, e, newest ? newest->number : 0);
	}
}

static void credentials_published(void *arg, struct credential *c, struct cred *g)
{
	struct credentials_one *o = arg;

	(void)c;
	credentials_tell(o, &(struct call){.m.kind = MSG_CREDENTIAL, .cred = g});
	credentials_answer(o, ERR_OK);
}

static void credentials_refreshed(void *arg, struct credential *c, uint64_t than, enum err why, bool final)
{
	struct credentials_one *o = arg;

	(void)c;
	credentials_tell(o,
			 &(struct call){.m.kind = MSG_CREDENTIAL_FAILED, .than = than, .why = why, .final = final});
	credentials_answer(o, why);
}

/* ---- life */

struct credentials *credentials_new(struct control *c)
{
	static const struct credential_events events = {credentials_published, credentials_refreshed};
	struct credentials *k = NEW(struct credentials);

	k->control = c;
	list_init(&k->news);
	k->box = mailbox_new(c->loop, credentials_on_want, k);
	k->n = c->setup->n_credentials;
	k->v = mem_alloc((k->n + 1) * sizeof(*k->v));
	for (size_t i = 0; i < k->n; i++) {
		struct credentials_one *o = &k->v[i];
		struct credential_opts opts = setup_credential_opts(c->setup, i);

		o->all = k;
		o->index = i;
		list_init(&o->asks);
		o->credential = credential_new(c->loop, &opts, &events, o);
	}
	if (!k->box)
		credentials_free(&k);
	return k;
}

struct mailbox *credentials_box(struct credentials *k)
{
	return k->box;
}

enum err credentials_start(struct credentials *k, const char **why)
{
	const char *text = "";

	for (size_t i = 0; i < k->n; i++) {
		enum err e = credential_start(k->v[i].credential, &text);

		if (e == ERR_OK)
			continue;
		snprintf(k->why, sizeof(k->why), "credential %s: %s", k->control->setup->credentials[i]->name, text);
		*why = k->why;
		return e;
	}
	return ERR_OK;
}

void credentials_stop(struct credentials *k)
{
	k->stopped = true;
	for (size_t i = 0; i < k->n; i++) {
		credential_stop(k->v[i].credential);
		credentials_answer(&k->v[i], ERR_SHUTDOWN);
	}
}

void credentials_free(struct credentials **k)
{
	struct credentials *it = *k;

	if (!it)
		return;
	*k = NULL;
	credentials_stop(it);
	for (size_t i = 0; i < it->n; i++)
		credential_free(&it->v[i].credential);
	/* What no worker lived to hear. */
	for (struct node *n = list_first(&it->news); n; n = list_first(&it->news))
		credentials_told(&container_of(n, struct credentials_news, node)->call);
	if (it->box)
		mailbox_free(&it->box);
	mem_free(it->v);
	mem_free(it);
}

/* ---- for people */

void credentials_refresh_all(struct credentials *k)
{
	for (size_t i = 0; i < k->n; i++)
		credential_refresh(k->v[i].credential);
}

bool credentials_refresh(struct credentials *k, const char *name, struct credentials_ask *a)
{
	for (size_t i = 0; i < k->n; i++) {
		struct credentials_one *o = &k->v[i];

		if (strcmp(k->control->setup->credentials[i]->name, name) != 0)
			continue;
		list_push_back(&o->asks, &a->node);
		credential_refresh(o->credential);
		return true;
	}
	return false;
}

size_t credentials_count(const struct credentials *k)
{
	return k->n;
}

void credentials_view(const struct credentials *k, size_t i, struct credential_view *out)
{
	credential_view(k->v[i].credential, out);
}
