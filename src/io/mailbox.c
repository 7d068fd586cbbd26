/* mailbox: see mailbox.h. The eventfd is edge-triggered: every wake-up is one event, nobody has to read it. */
#include "io/mailbox.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "io/io_private.h"

struct mailbox {
	struct loop *loop;
	mailbox_fn *fn;
	void *arg;
	int fd;
	bool freed;
	struct event wake;
	pthread_mutex_t lock;
	struct message *first, **last; /* under the lock */
};

/* All that is there at once; what arrives meanwhile signals again, because the box was empty. */
static struct message *mailbox_take(struct mailbox *b)
{
	struct message *m;

	pthread_mutex_lock(&b->lock);
	m = b->first;
	b->first = NULL;
	b->last = &b->first;
	pthread_mutex_unlock(&b->lock);
	return m;
}

static void mailbox_on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct mailbox *b = arg;
	struct message *m, *next;

	(void)fd;
	(void)what;
	loop_enter(b->loop);
	for (m = mailbox_take(b); m && !b->freed; m = next) {
		next = m->next;
		m->next = NULL;
		b->fn(b->arg, m);
	}
}

struct mailbox *mailbox_new(struct loop *l, mailbox_fn *fn, void *arg)
{
	struct mailbox *b;
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	if (fd < 0)
		return NULL;
	b = NEW(struct mailbox);
	*b = (struct mailbox){.loop = l, .fn = fn, .arg = arg, .fd = fd};
	b->last = &b->first;
	pthread_mutex_init(&b->lock, NULL);
	if (event_assign(&b->wake, l->base, fd, EV_READ | EV_PERSIST | EV_ET, mailbox_on_wake, b) < 0 ||
	    event_add(&b->wake, NULL) < 0) {
		pthread_mutex_destroy(&b->lock);
		close(fd);
		mem_free(b);
		return NULL;
	}
	return b;
}

void mailbox_free(struct mailbox **pb)
{
	struct mailbox *b = *pb;

	if (!b)
		return;
	*pb = NULL;
	event_del(&b->wake);
	close(b->fd);
	pthread_mutex_destroy(&b->lock);
	b->freed = true;
	loop_free_later(b->loop, b);
}

void mailbox_send(struct mailbox *b, struct message *m)
{
	bool was_empty;

	m->next = NULL;
	pthread_mutex_lock(&b->lock);
	was_empty = !b->first;
	*b->last = m;
	b->last = &m->next;
	/* Inside the lock, so that a receiver that has seen the message may free the box. */
	if (was_empty)
		BUG_ON(eventfd_write(b->fd, 1) < 0);
	pthread_mutex_unlock(&b->lock);
}
