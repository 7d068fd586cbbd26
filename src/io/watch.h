/*
 * watch: says that what a path names may have changed. What has changed, if anything, is for the callee to look at.
 *
 *	/run/secrets/app/password            every directory on the way is watched for the next name, a link's way is followed
 *	 |   |       |   +- ..data -> 2026    as well, and the file itself is (it may be written by another name)
 *
 * When something on the way comes, goes or is replaced, the way is walked and watched anew before the change is reported, so that
 * none is lost; so is it after an overflow of the kernel's queue. Two things can't be seen: what happens below a mount that was put
 * on top of the way, and on file systems of other machines. So who watches also polls.
 */
#ifndef LEASED_IO_WATCH_H
#define LEASED_IO_WATCH_H

#include "io/loop.h"

struct watch;

enum watch_event {
	WATCH_CHANGED, /* look */
	WATCH_WRITING, /* somebody writes to it and has not closed it yet */
};
typedef void watch_fn(void *arg, enum watch_event ev);

/* path is a file, or (contents) a directory of which every name counts. Never NULL. */
struct watch *watch_new(struct loop *l, const char *path, bool contents, watch_fn *fn, void *arg);
/* False: there is no inotify to be had for all of the way (its limits, a directory that may not be read): poll. */
bool watch_works(const struct watch *w);
/* Tries to watch what could not be watched; for whoever polls, before it looks. */
void watch_again(struct watch *w);
void watch_free(struct watch **w); /* nulls; NULL is fine */

#endif
