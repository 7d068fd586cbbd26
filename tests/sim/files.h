/*
 * files: the files and programs of the virtual world, for credentials: names with contents, and functions in the place of programs.
 *
 * What is written or removed is an event for whoever watches that name or its directory (unless blind, as without inotify).
 */
#ifndef LEASED_SIM_FILES_H
#define LEASED_SIM_FILES_H

#include <stddef.h>

#include "world.h"

void files_begin(void); /* forgets all of it */
void programs_begin(void);
/* A path is at most 63 bytes, a content at most 4 KiB. */
void files_write(const char *path, const char *text);
void files_remove(const char *path);
void files_blind(bool blind); /* changes are no events any more */

/* What a program does: its standard output, and how and when it ends. */
struct program {
	const char *out;  /* NULL: nothing */
	int64_t after_us; /* from the start until it prints, and again until it ends */
	int status;	  /* -1: it never ends by itself; more comes with programs_say() */
};
/* Called when argv0 is started; reason is LEASED_REASON of its environment. */
typedef struct program program_fn(void *arg, const char *reason);
void programs_add(const char *argv0, program_fn *fn, void *arg);
size_t programs_running(const char *argv0);
/* All that run as argv0 print this. */
void programs_say(const char *argv0, const char *text);

#endif
