/*
 * source: the text of a configuration, with its includes expanded, and where each line of it came from.
 *
 *	leased.conf ---+                     +--> libconfig (parse.c)
 *	conf.d/a.conf -+--> one text + runs -+
 *	conf.d/b.conf -+                     +--> source_pos(): a line of the text to file and line
 *
 * Includes are expanded here, not by libconfig 1.5: that knows no patterns, follows loops ten deep, and ends the process
 * when it is given a directory. The same pass catches what libconfig takes in silently: integers that don't fit (they
 * get the L suffix libconfig wants, or are refused), strings and comments that are never closed, NUL bytes.
 */
#ifndef LEASED_CONF_SOURCE_H
#define LEASED_CONF_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "conf/arena.h"
#include "conf/conf.h"

#define SOURCE_MAX_BYTES (10 * 1024 * 1024) /* all files together */
#define SOURCE_DEPTH_MAX 10		    /* files open at a time */

/* From line `at` of the text on, lines are those of file from `pos.line` on. */
struct source_run {
	int at;
	struct conf_pos pos;
};

struct source {
	char *text; /* NUL-terminated */
	size_t len, cap;
	int lines; /* complete ones in text */
	struct source_run *runs;
	size_t n_runs;
	const char *dir; /* of the main file: relative names are relative to it; NULL: no includes */
	struct {
		dev_t dev;
		ino_t ino;
		const char *name;
	} open[SOURCE_DEPTH_MAX];
	size_t depth;
	struct conf_arena *arena; /* file names go here */
	struct conf_messages *errors;
	bool denied; /* a file exists but may not be read */
};

void source_init(struct source *s, struct conf_arena *arena, struct conf_messages *errors);
/* False: messages were added. */
bool source_read_file(struct source *s, const char *path);
bool source_read_text(struct source *s, const char *text, size_t n);
struct conf_pos source_pos(const struct source *s, int line);
void source_free(struct source *s); /* wipes the text */

/* A file's bytes; *data is the caller's to wipe and free. False: why says what is wrong, errno is set. */
bool source_slurp(int fd, size_t max, char **data, size_t *n, const char **why);
/* path, or dir/path when path is relative; in the arena. */
const char *source_path(struct conf_arena *a, const char *dir, const char *path);

/*
 * What may be behind a syntax error that libconfig noticed at `line` of the text: a bracket without its partner, a missing
 * comma, a text without quotes. False: no idea. *at is the line of the culprit.
 */
bool source_hint(const char *text, int line, int *at, char *out, size_t cap);

#endif
