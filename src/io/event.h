/*
 * event: the loop's libevent base, for the few files that speak libevent themselves (the io back end, the HTTP server).
 *
 * Kept out of loop.h, because loop.h has a second implementation that has no such thing.
 */
#ifndef LEASED_IO_EVENT_H
#define LEASED_IO_EVENT_H

#include "io/loop.h"

struct event_base;

/* Belongs to the loop; valid until loop_free(). Everything added to it must be gone before that. */
struct event_base *loop_event_base(struct loop *l);

#endif
