/*
 * mailbox: the one way from thread to thread. Many senders, one receiving loop.
 *
 * mutex + list + eventfd, signalled only when the box was empty, drained as a batch in the receiver's turn. A message
 * is embedded in the sender's structure; it belongs to the receiver from send to delivery. Order is kept per sender.
 */
#ifndef LEASED_IO_MAILBOX_H
#define LEASED_IO_MAILBOX_H

#include "io/loop.h"

struct mailbox;

struct message {
	struct message *next;
	int kind; /* a row of the receiver's message table */
};

typedef void mailbox_fn(void *arg, struct message *m);

struct mailbox *mailbox_new(struct loop *l, mailbox_fn *fn, void *arg); /* NULL: no descriptors */
void mailbox_free(struct mailbox **b); /* in the receiver's thread; undelivered messages are dropped */
void mailbox_send(struct mailbox *b, struct message *m); /* any thread */

#endif
