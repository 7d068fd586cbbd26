/*
 * watch: one inotify descriptor, and the way as a list of places: a directory's (or file's) watch and the name that counts in it.
 *
 *	watch_walk():  "/" + "run" --> "/run" + "secrets" --> ... --link?--> the rest of the way is what it says + what was left
 *
 * Each directory is watched before the name in it is looked at, so that a change after the look is an event.
 */
#include "io/watch.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/io_private.h"

#define PLACES_MAX   256 /* directories on the way, links included */
#define LINKS_MAX    40	 /* as the kernel follows */
#define EVENTS_BYTES 4096
#define READS_MAX    64 /* in one turn */

#define MASK_NAMES (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB)
#define MASK_WAY   (MASK_NAMES | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR | IN_MASK_ADD)
#define MASK_LAST  (MASK_WAY | IN_MODIFY | IN_CLOSE_WRITE)
#define MASK_FILE  (IN_ATTRIB | IN_MODIFY | IN_CLOSE_WRITE | IN_DELETE_SELF | IN_MOVE_SELF | IN_MASK_ADD)
#define GONE	   (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED)

struct place {
	int wd;
	char *name; /* what counts in it; NULL: everything */
};

struct watch {
	struct loop *loop;
	watch_fn *fn;
	void *arg;
	char *path;
	bool contents, whole;
	int fd;
	struct event er;
	struct place *places;
	size_t n;
};

/* ---- the way ---- */

/* False: it can't be watched. That it isn't there is no failure: its parent, which is watched, will see it come. */
static bool watch_add(struct watch *w, const char *path, uint32_t mask, const char *name, size_t n_name)
{
	struct place *p;
	int wd = w->n < PLACES_MAX ? inotify_add_watch(w->fd, path, mask) : -1;

	if (wd < 0)
		return w->n < PLACES_MAX && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP);
	w->places = mem_realloc(w->places, (w->n + 1) * sizeof(*w->places));
	p = &w->places[w->n++];
	*p = (struct place){.wd = wd};
	if (name) {
		p->name = mem_alloc(n_name + 1);
		memcpy(p->name, name, n_name);
	}
	return true;
}

/* The place reached so far, and what is left of the way. */
struct walk {
	char at[PATH_MAX], left[PATH_MAX];
	int links;
};

enum step { STEP_ON, STEP_MISSING, STEP_BLIND };

static void walk_up(struct walk *k)
{
	char *slash = strrchr(k->at, '/');

	if (slash)
		slash[slash == k->at ? 1 : 0] = '\0';
}

/* What is left becomes `first`, then `then` (a part of what is left now). */
static bool walk_insert(struct walk *k, const char *first, size_t n, const char *then)
{
	char both[PATH_MAX];
	int len = snprintf(both, sizeof(both), "%.*s/%s", (int)n, first, then);

	if (len < 0 || (size_t)len >= sizeof(both))
		return false;
	memcpy(k->left, both, (size_t)len + 1);
	return true;
}

/* Enters what has this name, or takes the way a link of this name says. */
static enum step walk_enter(struct walk *k, const char *name, size_t n, const char *rest)
{
	char target[PATH_MAX];
	size_t len = strlen(k->at);
	ssize_t got;

	if (len + n + 2 > sizeof(k->at))
		return STEP_MISSING;
	if (k->at[len - 1] != '/')
		k->at[len++] = '/';
	memcpy(k->at + len, name, n);
	k->at[len + n] = '\0';
	got = readlink(k->at, target, sizeof(target));
	if (got < 0 && errno == EINVAL)
		return walk_insert(k, "", 0, rest) ? STEP_ON : STEP_MISSING; /* it is no link */
	if (got < 0)
		return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? STEP_MISSING : STEP_BLIND;
	if (++k->links > LINKS_MAX || !walk_insert(k, target, (size_t)got, rest))
		return STEP_MISSING;
	walk_up(k);
	if (target[0] == '/')
		k->at[1] = '\0';
	return STEP_ON;
}

/* One name of the way; false: it ends here. */
static bool watch_step(struct watch *w, struct walk *k)
{
	const char *name = k->left + strspn(k->left, "/"), *rest;
	size_t n = strcspn(name, "/");
	enum step step;

	rest = name + n + strspn(name + n, "/");
	if (n == 0) {
		w->whole &= watch_add(w, k->at, w->contents ? MASK_LAST : MASK_FILE, NULL, 0);
		return false;
	}
	if (n == 2 && memcmp(name, "..", 2) == 0)
		walk_up(k);
	if (*name == '.' && (n == 1 || (n == 2 && name[1] == '.'))) {
		memmove(k->left, rest, strlen(rest) + 1);
		return true;
	}
	w->whole &= watch_add(w, k->at, *rest ? MASK_WAY : MASK_LAST, name, n);
	step = walk_enter(k, name, n, rest);
	w->whole &= step != STEP_BLIND;
	return step == STEP_ON;
}

static void places_free(struct place *v, size_t n)
{
	for (size_t i = 0; i < n; i++)
		mem_free(v[i].name);
	mem_free(v);
}

static bool watch_has(const struct watch *w, int wd)
{
	for (size_t i = 0; i < w->n; i++)
		if (w->places[i].wd == wd)
			return true;
	return false;
}

/* Walks the way anew; what is on it no more is not watched any longer. */
static void watch_walk(struct watch *w)
{
	struct place *old = w->places;
	size_t n_old = w->n;
	struct walk k = {.at = "/"};

	w->places = NULL;
	w->n = 0;
	w->whole = walk_insert(&k, w->path, strlen(w->path), "");
	/* What can't be watched on the way does not keep the rest of it from being watched. */
	while (watch_step(w, &k))
		;
	for (size_t i = 0; i < n_old; i++)
		if (!watch_has(w, old[i].wd))
			inotify_rm_watch(w->fd, old[i].wd);
	places_free(old, n_old);
}

/* ---- what happens ---- */

static bool watch_concerns(const struct watch *w, const struct inotify_event *e)
{
	if (e->mask & IN_Q_OVERFLOW)
		return true;
	for (size_t i = 0; i < w->n; i++) {
		const struct place *p = &w->places[i];

		if (p->wd == e->wd && (!p->name || (e->mask & GONE) || (e->len && strcmp(p->name, e->name) == 0)))
			return true;
	}
	return false;
}

/* False: the queue is empty. */
static bool watch_take(struct watch *w, uint32_t *seen, uint32_t *last)
{
	char room[EVENTS_BYTES] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t got = read(w->fd, room, sizeof(room));
	const struct inotify_event *e;

	for (ssize_t at = 0; at < got; at += (ssize_t)(sizeof(*e) + e->len)) {
		e = (const struct inotify_event *)(const void *)(room + at);
		if (!watch_concerns(w, e))
			continue;
		*seen |= e->mask;
		*last = e->mask;
	}
	return got > 0;
}

static void watch_on_read(evutil_socket_t fd, short what, void *arg)
{
	struct watch *w = arg;
	uint32_t seen = 0, last = 0;

	(void)fd;
	(void)what;
	loop_enter(w->loop);
	for (int i = 0; i < READS_MAX && watch_take(w, &seen, &last); i++)
		;
	if (seen & (MASK_NAMES | GONE | IN_Q_OVERFLOW))
		watch_walk(w);
	if (seen)
		w->fn(w->arg, last & IN_MODIFY ? WATCH_WRITING : WATCH_CHANGED);
}

/* ---- life ---- */

static bool watch_open(struct watch *w)
{
	w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (w->fd < 0)
		return false;
	if (event_assign(&w->er, w->loop->base, w->fd, EV_READ | EV_PERSIST, watch_on_read, w) == 0 &&
	    event_add(&w->er, NULL) == 0)
		return true;
	close(w->fd);
	w->fd = -1;
	return false;
}

static char *path_from_root(const char *path)
{
	char here[PATH_MAX];

	if (path[0] == '/' || !getcwd(here, sizeof(here)))
		return mem_strdup(path);
	return mem_printf("%s/%s", here, path);
}

struct watch *watch_new(struct loop *l, const char *path, bool contents, watch_fn *fn, void *arg)
{
	struct watch *w = NEW(struct watch);

	*w = (struct watch){
		.loop = l, .fn = fn, .arg = arg, .path = path_from_root(path), .contents = contents, .fd = -1};
	if (watch_open(w))
		watch_walk(w);
	return w;
}

bool watch_works(const struct watch *w)
{
	return w->fd >= 0 && w->whole;
}

void watch_again(struct watch *w)
{
	if (!watch_works(w) && (w->fd >= 0 || watch_open(w)))
		watch_walk(w);
}

void watch_free(struct watch **pw)
{
	struct watch *w = *pw;

	if (!w)
		return;
	*pw = NULL;
	if (w->fd >= 0) {
		event_del(&w->er);
		close(w->fd);
	}
	places_free(w->places, w->n);
	mem_free(w->path);
	loop_free_later(w->loop, w);
}
