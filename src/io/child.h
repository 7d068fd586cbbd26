/*
 * child: a program that is run for what it prints.
 *
 *	child_start --> out() err() out() ... --> ended()        child_close(): killed and reaped, nothing more is called
 *
 * No shell. The child's environment is what is given and nothing else; of descriptors it has /dev/null, and two pipes as standard
 * output and error; it leads a process group of its own, and whatever is left of the group when it ends is killed. It is asked to
 * end (SIGTERM to the group) when its time is up, when it printed too much or CHILD_GRACE_US after it closed its standard output,
 * and killed CHILD_GRACE_US later. What it prints is wiped from our memory when out() and err() return.
 */
#ifndef LEASED_IO_CHILD_H
#define LEASED_IO_CHILD_H

#include "io/loop.h"

#define CHILD_GRACE_US 2000000

struct child;

struct child_opts {
	const char *const *argv; /* NULL-terminated; argv[0] is an absolute path */
	const char *const *envp; /* NULL-terminated "NAME=value" */
	int64_t timeout_us;	 /* 0: it may run for ever */
	size_t out_max;		 /* bytes of standard output; 0: no limit */
};

struct child_end {
	enum err err; /* ERR_OK: exited with 0. ERR_SOURCE_FAILED, ERR_SOURCE_TIMEOUT, ERR_TOO_BIG; ERR_NOT_FOUND, ERR_PERMISSION,
			 ERR_NO_FDS, ERR_NO_MEMORY, ERR_OS: it could not be started; else what child_end_early() was given */
	int status; /* exit status; -1: none */
	int signo;  /* the signal that ended it; 0: none */
};

struct child_events {
	void (*out)(void *arg, const char *p, size_t n);
	void (*err)(void *arg, const char *p, size_t n);
	void (*ended)(void *arg, const struct child_end *end); /* the last one; child_close() is still to be called */
};

/* Never NULL: when it can't be started, ended() follows as an event. The options are not kept. */
struct child *child_start(struct loop *l, const struct child_opts *o, const struct child_events *ev, void *arg);
/* Asks it to end, as at the end of its time; ended() follows with this reason. */
void child_end_early(struct child *c, enum err why);
void child_close(struct child **c); /* nulls; NULL is fine */

#endif
