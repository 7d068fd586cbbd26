/*
 * gather: asks every worker for a snapshot and calls back when all have answered. Control thread.
 */
#ifndef LEASED_DAEMON_GATHER_H
#define LEASED_DAEMON_GATHER_H

#include "daemon/control.h"

/* The snapshots are freed when fn returns. */
typedef void gather_fn(void *arg, struct snap *const *v, size_t n);

void gather_start(struct control *c, enum snap_for who, bool full, gather_fn *fn, void *arg);

#endif
