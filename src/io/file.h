/*
 * file: small files that hold secrets, read whole, and the question whether one has changed.
 *
 * Reading never blocks for long: only regular files are read, a FIFO or device is refused without waiting for it. Bytes are
 * given in plain memory, which the caller wipes with file_set_wipe() as soon as they have been parsed.
 */
#ifndef LEASED_IO_FILE_H
#define LEASED_IO_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define FILE_SECRET_MAX 65536
#define FILE_SET_MAX	16

/* Which content a name had: equal stamps mean the same content, as far as the file system can tell. */
struct file_stamp {
	uint64_t device, inode, size;
	int64_t modified_ns, changed_ns;
};

struct file_text {
	char *bytes; /* NULL: no such file */
	size_t n;
};

/* The content of a file, or of some files of a directory, as it was at one moment. */
struct file_set {
	struct file_text text[FILE_SET_MAX];
	size_t n;
	struct file_stamp stamp;
	int64_t age_us; /* since it was last written, by the wall clock; never negative */
};

struct file_opts {
	const char *path;
	/* NULL: path is a file, text[0]. Else path is a directory and these are the files of interest in it, of which some may be
	 * missing. When it has a link ..data (as Kubernetes writes it), all are read behind one and the same target of the link. */
	const char *const *names;
	size_t n_names;
	bool strict; /* refuse what others may read, others or the group may write, or what belongs to someone else than root or us */
};

/* ERR_NOT_FOUND; ERR_PERMISSION; ERR_TOO_BIG (more than FILE_SECRET_MAX); ERR_INVALID (no regular file); ERR_AGAIN (it changed
 * while it was read); ERR_IO. *why is a sentence fragment. On an error there is nothing to wipe. */
enum err file_read(const struct file_opts *o, struct file_set *out, const char **why) MUST_CHECK;
/* Only the stamp; ERR_NOT_FOUND, ERR_PERMISSION, ERR_IO. */
enum err file_look(const struct file_opts *o, struct file_stamp *out) MUST_CHECK;
bool file_stamp_equal(const struct file_stamp *a, const struct file_stamp *b);
void file_set_wipe(struct file_set *s); /* nothing to wipe is fine */

#endif
