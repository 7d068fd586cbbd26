/* sim_mailbox: io/mailbox.h: messages take some virtual microseconds, and keep their order. */
#include "base/mem.h"
#include "io/mailbox.h"
#include "sim_loop.h"

struct mailbox {
	struct ready ready;
	struct event delivery;
	struct loop *loop;
	mailbox_fn *fn;
	void *arg;
	struct message *first, **last;
};

static void mailbox_run(struct ready *r)
{
	struct mailbox *b = container_of(r, struct mailbox, ready);
	struct message *m = b->first, *next;

	b->first = NULL;
	b->last = &b->first;
	for (; m; m = next) {
		next = m->next;
		trace(TR_MAIL, b->loop->id, (uint64_t)m->kind, 0);
		b->fn(b->arg, m);
		loop_called(b->loop);
	}
}

static void mailbox_arrive(struct event *e)
{
	struct mailbox *b = container_of(e, struct mailbox, delivery);

	world.events++;
	loop_make_ready(b->loop, &b->ready);
}

struct mailbox *mailbox_new(struct loop *l, mailbox_fn *fn, void *arg)
{
	struct mailbox *b = NEW(struct mailbox);

	b->ready.run = mailbox_run;
	event_init(&b->delivery, mailbox_arrive);
	b->loop = l;
	b->fn = fn;
	b->arg = arg;
	b->last = &b->first;
	l->n_mailboxes++;
	return b;
}

void mailbox_free(struct mailbox **pb)
{
	struct mailbox *b = *pb;

	*pb = NULL;
	if (!b)
		return;
	event_stop(&b->delivery);
	if (list_is_on(&b->ready.node))
		list_remove(&b->ready.node);
	b->loop->n_mailboxes--;
	loop_free_later(b->loop, b);
}

void mailbox_send(struct mailbox *b, struct message *m)
{
	m->next = NULL;
	*b->last = m;
	b->last = &m->next;
	if (!heap_has(&b->delivery.due) && !list_is_on(&b->ready.node))
		event_set(&b->delivery, world.now_us + world_range(1, world.bugs_on ? 500 : 30));
}
