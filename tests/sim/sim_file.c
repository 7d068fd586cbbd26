/* sim_file: io/file.h and io/watch.h over the files of files.h. A stamp is a number that every write makes anew. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "files.h"
#include "io/file.h"
#include "io/watch.h"
#include "sim_loop.h"

#define FILES_MAX   32
#define PATH_BYTES  64
#define CONTENT_MAX 4096

struct file {
	char path[PATH_BYTES];
	char text[CONTENT_MAX];
	size_t n;
	uint64_t version; /* 0: there is none */
	int64_t written_us;
};

static struct file files[FILES_MAX];
static size_t n_files;
static uint64_t versions;
static bool blind;
static struct list watches;

struct watch {
	struct ready ready;
	struct event noticed;
	struct node node;
	struct loop *loop;
	char path[PATH_BYTES];
	bool contents;
	watch_fn *fn;
	void *arg;
};

/* ---- the world's side ---- */

void files_begin(void)
{
	memset(files, 0, sizeof(files));
	n_files = 0;
	versions = 0;
	blind = false;
	list_init(&watches);
}

void files_blind(bool is)
{
	blind = is;
}

static struct file *file_find(const char *path)
{
	for (size_t i = 0; i < n_files; i++)
		if (strcmp(files[i].path, path) == 0)
			return &files[i];
	return NULL;
}

static bool watch_concerns(const struct watch *w, const char *path)
{
	size_t n = strlen(w->path);

	return strncmp(path, w->path, n) == 0 && path[n] == (w->contents ? '/' : '\0');
}

static void file_changed(struct file *f)
{
	trace(TR_FILE, (uint64_t)(f - files), f->version, f->n);
	if (blind)
		return;
	list_each(&watches, n) {
		struct watch *w = container_of(n, struct watch, node);

		if (watch_concerns(w, f->path))
			event_sooner(&w->noticed, world.now_us + world_range(10, world.bugs_on ? 20 * MS : 200));
	}
}

void files_write(const char *path, const char *text)
{
	struct file *f = file_find(path);

	if (!f) {
		BUG_ON(n_files == FILES_MAX || strlen(path) >= PATH_BYTES);
		f = &files[n_files++];
		snprintf(f->path, sizeof(f->path), "%s", path);
	}
	f->n = strlen(text);
	BUG_ON(f->n > CONTENT_MAX);
	memcpy(f->text, text, f->n);
	f->version = ++versions;
	f->written_us = world.now_us;
	file_changed(f);
}

void files_remove(const char *path)
{
	struct file *f = file_find(path);

	if (!f || !f->version)
		return;
	f->version = 0;
	f->n = 0;
	file_changed(f);
}

/* ---- io/file.h ---- */

bool file_stamp_equal(const struct file_stamp *a, const struct file_stamp *b)
{
	return a->inode == b->inode;
}

/* The i-th file of interest; NULL: missing. */
static struct file *file_of(const struct file_opts *o, size_t i)
{
	char path[2 * PATH_BYTES];
	struct file *f;

	snprintf(path, sizeof(path), "%s%s%s", o->path, o->names ? "/" : "", o->names ? o->names[i] : "");
	f = file_find(path);
	return f && f->version ? f : NULL;
}

enum err file_look(const struct file_opts *o, struct file_stamp *out)
{
	*out = (struct file_stamp){0};
	for (size_t i = 0; i < (o->names ? o->n_names : 1); i++) {
		const struct file *f = file_of(o, i);

		if (f)
			out->inode = out->inode * 31 + f->version;
	}
	return out->inode ? ERR_OK : ERR_NOT_FOUND;
}

static void file_copy(struct file_text *t, const struct file *f)
{
	t->bytes = mem_alloc(FILE_SECRET_MAX + 1);
	memcpy(t->bytes, f->text, f->n);
	t->n = f->n;
}

enum err file_read(const struct file_opts *o, struct file_set *out, const char **why)
{
	int64_t written_us = 0;

	*out = (struct file_set){.n = o->names ? o->n_names : 1};
	*why = "there is no such file";
	if (file_look(o, &out->stamp) != ERR_OK)
		return ERR_NOT_FOUND;
	*why = "it changed while it was read";
	if (world_bug(world.bug.short_read))
		return ERR_AGAIN;
	for (size_t i = 0; i < out->n; i++) {
		const struct file *f = file_of(o, i);

		if (!f)
			continue;
		file_copy(&out->text[i], f);
		if (f->written_us > written_us)
			written_us = f->written_us;
	}
	out->age_us = world.now_us - written_us;
	return ERR_OK;
}

void file_set_wipe(struct file_set *s)
{
	for (size_t i = 0; i < s->n; i++) {
		mem_free(s->text[i].bytes);
		s->text[i] = (struct file_text){NULL, 0};
	}
	s->n = 0;
}

/* ---- io/watch.h ---- */

static void watch_run(struct ready *r)
{
	struct watch *w = container_of(r, struct watch, ready);

	w->fn(w->arg, WATCH_CHANGED);
	loop_called(w->loop);
}

static void watch_noticed(struct event *e)
{
	struct watch *w = container_of(e, struct watch, noticed);

	world.events++;
	loop_make_ready(w->loop, &w->ready);
}

struct watch *watch_new(struct loop *l, const char *path, bool contents, watch_fn *fn, void *arg)
{
	struct watch *w = NEW(struct watch);

	BUG_ON(strlen(path) >= PATH_BYTES);
	w->ready.run = watch_run;
	event_init(&w->noticed, watch_noticed);
	w->loop = l;
	snprintf(w->path, sizeof(w->path), "%s", path);
	w->contents = contents;
	w->fn = fn;
	w->arg = arg;
	list_push_back(&watches, &w->node);
	l->n_watches++;
	return w;
}

bool watch_works(const struct watch *w)
{
	(void)w;
	return !blind;
}

void watch_again(struct watch *w)
{
	(void)w;
}

void watch_free(struct watch **pw)
{
	struct watch *w = *pw;

	*pw = NULL;
	if (!w)
		return;
	event_stop(&w->noticed);
	if (list_is_on(&w->ready.node))
		list_remove(&w->ready.node);
	list_remove(&w->node);
	w->loop->n_watches--;
	loop_free_later(w->loop, w);
}
