/*
 * signal: signals as events of a loop, through one signalfd.
 *
 * The signals are blocked in the calling thread, and so in every thread it starts afterwards: open before the first
 * thread. Several of one kind that arrive together are one event, as ever with signals.
 */
#ifndef LEASED_IO_SIGNAL_H
#define LEASED_IO_SIGNAL_H

#include "io/loop.h"

struct signals;

typedef void signals_fn(void *arg, int signo);

/* NULL: no descriptors. */
struct signals *signals_open(struct loop *l, const int *signos, size_t n, signals_fn *fn, void *arg);
void signals_close(struct signals **s); /* the signals stay blocked; nulls; NULL is fine */

#endif
