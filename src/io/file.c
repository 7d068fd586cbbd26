/* file: see file.h. A directory's stamp is that of its files mixed, so that a change of any of them shows. */
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/secret.h"

#define NS_PER_S INT64_C(1000000000)
#define MIX	 UINT64_C(0x9e3779b97f4a7c15)

bool file_stamp_equal(const struct file_stamp *a, const struct file_stamp *b)
{
	return a->device == b->device && a->inode == b->inode && a->size == b->size &&
	       a->modified_ns == b->modified_ns && a->changed_ns == b->changed_ns;
}

static int64_t file_ns(struct timespec ts)
{
	return ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static struct file_stamp file_stamp_of(const struct stat *st)
{
	return (struct file_stamp){.device = st->st_dev,
				   .inode = st->st_ino,
				   .size = (uint64_t)st->st_size,
				   .modified_ns = file_ns(st->st_mtim),
				   .changed_ns = file_ns(st->st_ctim)};
}

/* Adds one file's stamp to a set's; the latest times count. */
static void file_stamp_add(struct file_stamp *sum, const struct file_stamp *one, size_t place)
{
	uint64_t turn = MIX * (place + 1);

	sum->device += one->device * turn;
	sum->inode += one->inode * turn;
	sum->size += (one->size + 1) * turn;
	if (one->modified_ns > sum->modified_ns)
		sum->modified_ns = one->modified_ns;
	if (one->changed_ns > sum->changed_ns)
		sum->changed_ns = one->changed_ns;
}

static enum err file_errno(int sys_errno, const char **why)
{
	bool missing = sys_errno == ENOENT || sys_errno == ENOTDIR || sys_errno == ELOOP;
	bool denied = sys_errno == EACCES || sys_errno == EPERM;

	*why = missing ? "there is no such file" : denied ? "it may not be read" : "it cannot be read";
	/* What open(2) says of a socket or a device nobody serves. */
	if (sys_errno == ENXIO || sys_errno == ENODEV) {
		*why = "it is no regular file";
		return ERR_INVALID;
	}
	return missing					    ? ERR_NOT_FOUND
	       : denied					    ? ERR_PERMISSION
	       : sys_errno == EMFILE || sys_errno == ENFILE ? ERR_NO_FDS
							    : ERR_IO;
}

static enum err file_judge(const struct stat *st, bool strict, const char **why)
{
	if (!S_ISREG(st->st_mode)) {
		*why = "it is no regular file";
		return ERR_INVALID;
	}
	if (strict && st->st_uid != 0 && st->st_uid != geteuid())
		*why = "it belongs to somebody else";
	else if (strict && (st->st_mode & S_IRWXO))
		*why = "others may read or write it";
	else if (strict && (st->st_mode & S_IWGRP))
		*why = "its group may write it";
	else if (st->st_size <= FILE_SECRET_MAX)
		return ERR_OK;
	else {
		*why = "it is longer than 64 KiB";
		return ERR_TOO_BIG;
	}
	return ERR_PERMISSION;
}

/* One byte more than is allowed, so that a file that grows is noticed. */
static enum err file_read_fd(int fd, struct file_text *out, const char **why)
{
	size_t cap = FILE_SECRET_MAX + 1;

	*out = (struct file_text){.bytes = mem_alloc(cap)};
	while (out->n < cap) {
		ssize_t got = read(fd, out->bytes + out->n, cap - out->n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return file_errno(errno, why);
		if (got == 0)
			return ERR_OK;
		out->n += (size_t)got;
	}
	*why = "it is longer than 64 KiB";
	return ERR_TOO_BIG;
}

static void file_text_wipe(struct file_text *t)
{
	if (t->bytes)
		secret_wipe(t->bytes, FILE_SECRET_MAX + 1);
	mem_free(t->bytes);
	*t = (struct file_text){NULL, 0};
}

static enum err file_read_open(int fd, bool strict, struct file_text *out, struct file_stamp *stamp, const char **why)
{
	struct stat before, after;
	struct file_stamp again;
	enum err e;

	if (fstat(fd, &before) < 0)
		return file_errno(errno, why);
	e = file_judge(&before, strict, why);
	if (e == ERR_OK)
		e = file_read_fd(fd, out, why);
	if (e != ERR_OK)
		return e;
	*stamp = file_stamp_of(&before);
	if (fstat(fd, &after) < 0)
		return file_errno(errno, why);
	again = file_stamp_of(&after);
	*why = "it changed while it was read";
	return file_stamp_equal(stamp, &again) && out->n == stamp->size ? ERR_OK : ERR_AGAIN;
}

static enum err file_read_at(int dir, const char *name, bool strict, struct file_text *out, struct file_stamp *stamp,
			     const char **why)
{
	/* Non-blocking: a FIFO opens at once and is refused by what it is. */
	int fd = openat(dir, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	enum err e;

	if (fd < 0)
		return file_errno(errno, why);
	e = file_read_open(fd, strict, out, stamp, why);
	close(fd);
	if (e != ERR_OK)
		file_text_wipe(out);
	return e;
}

/* A descriptor of the directory itself or of what its ..data leads to now: it stays the same one when the link is moved. */
static int file_open_dir(const char *path)
{
	int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC), data;

	if (dir < 0)
		return -1;
	data = openat(dir, "..data", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (data < 0)
		return dir;
	close(dir);
	return data;
}

static enum err file_read_names(int dir, const struct file_opts *o, struct file_set *out, const char **why)
{
	bool any = false;

	for (size_t i = 0; i < o->n_names; i++) {
		struct file_stamp one;
		enum err e = file_read_at(dir, o->names[i], o->strict, &out->text[i], &one, why);

		if (e == ERR_NOT_FOUND)
			continue;
		if (e != ERR_OK)
			return e;
		file_stamp_add(&out->stamp, &one, i);
		any = true;
	}
	if (any)
		return ERR_OK;
	*why = "there is none of the files";
	return ERR_NOT_FOUND;
}

static enum err file_read_dir(const struct file_opts *o, struct file_set *out, const char **why)
{
	int dir = file_open_dir(o->path);
	enum err e;

	BUG_ON(o->n_names > FILE_SET_MAX);
	if (dir < 0)
		return file_errno(errno, why);
	out->n = o->n_names;
	e = file_read_names(dir, o, out, why);
	close(dir);
	return e;
}

enum err file_read(const struct file_opts *o, struct file_set *out, const char **why)
{
	struct timespec now;
	enum err e;

	*out = (struct file_set){.n = 1};
	if (o->names)
		e = file_read_dir(o, out, why);
	else
		e = file_read_at(AT_FDCWD, o->path, o->strict, &out->text[0], &out->stamp, why);
	if (e != ERR_OK) {
		file_set_wipe(out);
		return e;
	}
	clock_gettime(CLOCK_REALTIME, &now);
	out->age_us = (file_ns(now) - out->stamp.modified_ns) / 1000;
	if (out->age_us < 0)
		out->age_us = 0;
	return ERR_OK;
}

static enum err file_look_dir(const struct file_opts *o, struct file_stamp *out, const char **why)
{
	int dir = file_open_dir(o->path);
	bool any = false;
	struct stat st;

	if (dir < 0)
		return file_errno(errno, why);
	for (size_t i = 0; i < o->n_names; i++) {
		struct file_stamp one;

		if (fstatat(dir, o->names[i], &st, 0) < 0)
			continue;
		one = file_stamp_of(&st);
		file_stamp_add(out, &one, i);
		any = true;
	}
	close(dir);
	return any ? ERR_OK : ERR_NOT_FOUND;
}

enum err file_look(const struct file_opts *o, struct file_stamp *out)
{
	const char *why;
	struct stat st;

	*out = (struct file_stamp){0};
	if (o->names)
		return file_look_dir(o, out, &why);
	if (stat(o->path, &st) < 0)
		return file_errno(errno, &why);
	*out = file_stamp_of(&st);
	return ERR_OK;
}

void file_set_wipe(struct file_set *s)
{
	for (size_t i = 0; i < FILE_SET_MAX; i++)
		file_text_wipe(&s->text[i]);
	s->n = 0;
}
