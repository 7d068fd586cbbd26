/*
 * list: an intrusive, counted, doubly linked list whose nodes know the list they are on.
 *
 * The length of a list is the only way the project counts things (design rule 5), so it can't drift: a node is on at
 * most one list, moving it is one call, and removing a node that is on no list is a bug that aborts. Not thread-safe.
 */
#ifndef LEASED_BASE_LIST_H
#define LEASED_BASE_LIST_H

#include <stddef.h>

#include "base/mem.h"

struct list;

struct node {
	struct node *next, *prev;
	struct list *list; /* NULL: on no list */
};

struct list {
	struct node head; /* sentinel; head.next is the first */
	size_t len;
};

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline void list_init(struct list *l)
{
	l->head.next = l->head.prev = &l->head;
	l->head.list = l;
	l->len = 0;
}

static inline void list_insert_(struct list *l, struct node *n, struct node *after)
{
	BUG_ON(n->list != NULL);
	n->list = l;
	n->prev = after;
	n->next = after->next;
	after->next->prev = n;
	after->next = n;
	l->len++;
}

static inline void list_push_front(struct list *l, struct node *n)
{
	list_insert_(l, n, &l->head);
}

static inline void list_push_back(struct list *l, struct node *n)
{
	list_insert_(l, n, l->head.prev);
}

static inline void list_remove(struct node *n)
{
	BUG_ON(n->list == NULL);
	n->prev->next = n->next;
	n->next->prev = n->prev;
	n->list->len--;
	n->next = n->prev = NULL;
	n->list = NULL;
}

static inline int list_is_on(const struct node *n)
{
	return n->list != NULL;
}

static inline struct node *list_first(const struct list *l)
{
	return l->head.next == &l->head ? NULL : l->head.next;
}

static inline struct node *list_last(const struct list *l)
{
	return l->head.prev == &l->head ? NULL : l->head.prev;
}

/* The same for a list known not to be empty. */
static inline struct node *list_front(const struct list *l)
{
	BUG_ON(l->len == 0);
	return l->head.next;
}

static inline struct node *list_back(const struct list *l)
{
	BUG_ON(l->len == 0);
	return l->head.prev;
}

static inline struct node *list_next(const struct node *n)
{
	return n->next == &n->list->head ? NULL : n->next;
}

static inline struct node *list_prev(const struct node *n)
{
	return n->prev == &n->list->head ? NULL : n->prev;
}

/* Walks a list; the current node may be removed inside the loop, others may not. */
#define list_each(l, n)                                                                                              \
	for (struct node *n = (l)->head.next, *n##_next = n->next; n != &(l)->head; n = n##_next, n##_next = n->next)

#endif
