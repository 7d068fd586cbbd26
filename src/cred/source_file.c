/* source_file: see source_file.h. */
#include "cred/source_file.h"

#include "base/mem.h"
#include "io/file.h"
#include "io/watch.h"

#define WRITING_US  2000000
#define SETTLES_MAX 20 /* then it is said that it never rests */

struct source {
	struct credential *of;
	char *path;
	bool directory;
	struct watch *watch;
	struct timer poll, settle;
	struct file_stamp seen; /* at the last look; all zero: there was nothing to see */
	struct file_stamp read; /* of what was judged last */
	bool judged;
	int settles;
};

static struct file_opts file_of(const struct source *s)
{
	struct file_opts o = {.path = s->path, .strict = credential_options(s->of)->strict_permissions};

	if (s->directory) {
		o.names = cred_key_names;
		o.n_names = CRED_KEYS;
	}
	return o;
}

/* True: it is as it was at the last look. */
static bool file_same_as_seen(struct source *s)
{
	struct file_opts o = file_of(s);
	struct file_stamp before = s->seen;

	/* What can't be looked at has the stamp of nothing; reading it will say why. */
	if (file_look(&o, &s->seen) != ERR_OK)
		s->seen = (struct file_stamp){0};
	return file_stamp_equal(&before, &s->seen);
}

static void file_settle(struct source *s, int64_t us)
{
	struct loop *l = credential_loop(s->of);

	timer_set(l, &s->settle, loop_now_us(l) + us);
}

static void file_judge(struct source *s, const struct file_set *f)
{
	struct cred_value v[CRED_KEYS] = {{0}};

	if (!s->directory) {
		source_says(s->of, f->text[0].bytes, f->text[0].n, f->age_us);
		return;
	}
	for (size_t k = 0; k < CRED_KEYS; k++)
		v[k] = (struct cred_value){f->text[k].bytes, f->text[k].n};
	source_says_values(s->of, v, f->age_us);
}

/* Reads what has settled. At the start nothing was seen before, so that what was written just now is given time. */
static enum err file_take(struct source *s, bool first, const char **why)
{
	int64_t debounce_us = credential_options(s->of)->debounce_us;
	struct file_opts o = file_of(s);
	struct file_set f;
	enum err e = file_read(&o, &f, why);

	if (e == ERR_AGAIN ||
	    (e == ERR_OK && (first ? f.age_us < debounce_us : !file_stamp_equal(&f.stamp, &s->seen)))) {
		if (e == ERR_OK)
			s->seen = f.stamp;
		file_set_wipe(&f);
		file_settle(s, debounce_us);
		return ERR_AGAIN;
	}
	s->settles = 0;
	s->judged = true;
	s->read = e == ERR_OK ? f.stamp : s->seen;
	s->seen = s->read;
	if (e == ERR_OK)
		file_judge(s, &f);
	file_set_wipe(&f);
	return e;
}

static void file_take_settled(struct source *s)
{
	const char *why;
	enum err e = file_take(s, false, &why);

	if (e != ERR_OK && e != ERR_AGAIN)
		source_failed(s->of, e, why);
}

static void file_on_settle(void *arg)
{
	struct source *s = arg;

	if (file_same_as_seen(s)) {
		file_take_settled(s);
		return;
	}
	file_settle(s, credential_options(s->of)->debounce_us);
	if (++s->settles < SETTLES_MAX)
		return;
	s->settles = 0;
	source_failed(s->of, ERR_AGAIN, "it never stops changing");
}

static void file_on_change(void *arg, enum watch_event ev)
{
	struct source *s = arg;

	(void)file_same_as_seen(s);
	file_settle(s, ev == WATCH_WRITING ? WRITING_US : credential_options(s->of)->debounce_us);
}

static void file_poll_later(struct source *s)
{
	int64_t us = credential_options(s->of)->poll_us;
	struct loop *l = credential_loop(s->of);

	if (us > 0)
		timer_set(l, &s->poll, loop_now_us(l) + us);
}

static void file_on_poll(void *arg)
{
	struct source *s = arg;

	file_poll_later(s);
	watch_again(s->watch);
	if (heap_has(&s->settle.due))
		return;
	(void)file_same_as_seen(s);
	if (!s->judged || !file_stamp_equal(&s->seen, &s->read))
		file_settle(s, credential_options(s->of)->debounce_us);
}

void source_file_ask(struct source *s, enum cred_reason why)
{
	(void)why;
	if (heap_has(&s->settle.due))
		return;
	(void)file_same_as_seen(s);
	if (s->judged && file_stamp_equal(&s->seen, &s->read))
		file_take_settled(s);
	else
		file_settle(s, credential_options(s->of)->debounce_us);
}

enum err source_file_start(struct source **out, struct credential *c, const char *path, bool directory,
			   const char **why)
{
	struct source *s = NEW(struct source);
	enum err e;

	*s = (struct source){.of = c, .path = mem_strdup(path), .directory = directory};
	timer_init(&s->poll, file_on_poll, s);
	timer_init(&s->settle, file_on_settle, s);
	/* Watched first, so that no change falls between. */
	s->watch = watch_new(credential_loop(c), path, directory, file_on_change, s);
	file_poll_later(s);
	e = file_take(s, true, why);
	if (e == ERR_PERMISSION) {
		source_file_stop(&s);
		return e;
	}
	*out = s;
	if (e != ERR_OK && e != ERR_AGAIN)
		source_failed(c, e, *why);
	return ERR_OK;
}

void source_file_stop(struct source **ps)
{
	struct source *s = *ps;
	struct loop *l = credential_loop(s->of);

	*ps = NULL;
	timer_stop(l, &s->poll);
	timer_stop(l, &s->settle);
	watch_free(&s->watch);
	mem_free(s->path);
	loop_free_later(l, s);
}

static enum err file_start(struct source **out, struct credential *c, const char **why)
{
	return source_file_start(out, c, credential_options(c)->path, false, why);
}

const struct source_ops source_file = {
	.name = "file",
	.asks = true,
	.start = file_start,
	.ask = source_file_ask,
	.stop = source_file_stop,
};
