/* conf: loading and freeing a configuration, and lists of messages; see conf.h. */
#include "conf/conf.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "conf/build.h"
#include "conf/parse.h"

/* ---- messages */

static char *messages_text(struct conf_pos pos, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
static char *messages_text(struct conf_pos pos, const char *fmt, va_list ap)
{
	char what[1400], line[24] = "";

	vsnprintf(what, sizeof(what), fmt, ap);
	for (char *p = what; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	if (pos.line > 0)
		snprintf(line, sizeof(line), ":%d", pos.line);
	return pos.file ? mem_printf("%s%s: %s", pos.file, line, what) : mem_printf("%s", what);
}

void conf_messages_add(struct conf_messages *m, struct conf_pos pos, const char *fmt, ...)
{
	char *text;
	va_list ap;

	if (m->n == CONF_MESSAGES_MAX)
		return;
	va_start(ap, fmt);
	text = messages_text(pos, fmt, ap);
	va_end(ap);
	for (size_t i = 0; i < m->n; i++) {
		if (strcmp(m->v[i], text) == 0) {
			mem_free(text);
			return;
		}
	}
	m->v = mem_realloc(m->v, (m->n + 1) * sizeof(*m->v));
	m->v[m->n++] = text;
}

void conf_messages_free(struct conf_messages *m)
{
	for (size_t i = 0; i < m->n; i++)
		mem_free(m->v[i]);
	mem_free(m->v);
	*m = (struct conf_messages){0};
}

/* ---- loading */

/* What one load needs from beginning to end. */
struct load {
	struct source source;
	struct conf_arena *arena;   /* of the result */
	struct conf_arena *scratch; /* of the values */
	const char *const *sets;
	size_t n_sets;
	struct conf_messages *errors, *warnings;
};

/* Builds the tree; returns how many errors were about permissions. */
static size_t load_tree(struct load *l, struct conf *c)
{
	struct parsed *parsed = parse_source(&l->source, l->scratch, l->n_sets);
	struct build b = {.conf = c,
			  .arena = l->arena,
			  .errors = l->errors,
			  .warnings = l->warnings,
			  .dir = l->source.dir ? l->source.dir : ""};

	if (!parsed)
		return 0;
	for (size_t i = 0; i < l->n_sets; i++)
		parse_set(parse_root(parsed), l->sets[i], l->n_sets, l->scratch, l->errors);
	build_conf(&b, parse_root(parsed));
	parse_free(&parsed);
	return b.denied;
}

static enum err load_run(struct load *l, bool readable, const char *file, conf_check_fn *check, struct conf **out)
{
	struct conf *c = conf_arena_alloc(l->arena, sizeof(*c));
	size_t denied = l->source.denied;

	c->arena = l->arena;
	c->file = conf_arena_strdup(l->arena, file);
	if (readable)
		denied += load_tree(l, c);
	conf_arena_free(&l->scratch);
	source_free(&l->source);
	if (l->errors->n == 0 && (!check || check(c, l->errors, l->warnings))) {
		*out = c;
		return ERR_OK;
	}
	conf_free(&c);
	return denied && denied == l->errors->n ? ERR_PERMISSION : ERR_CONFIG;
}

static struct load load_begin(struct conf_messages *errors, struct conf_messages *warnings)
{
	struct load l = {
		.arena = conf_arena_new(), .scratch = conf_arena_new(), .errors = errors, .warnings = warnings};

	source_init(&l.source, l.arena, errors);
	return l;
}

enum err conf_load(const char *file, const char *const *sets, size_t n_sets, conf_check_fn *check, struct conf **out,
		   struct conf_messages *errors, struct conf_messages *warnings)
{
	struct load l = load_begin(errors, warnings);

	*out = NULL;
	l.sets = sets;
	l.n_sets = n_sets;
	return load_run(&l, source_read_file(&l.source, file), file, check, out);
}

enum err conf_load_text(const char *text, size_t n, struct conf **out, struct conf_messages *errors,
			struct conf_messages *warnings)
{
	struct load l = load_begin(errors, warnings);

	*out = NULL;
	return load_run(&l, source_read_text(&l.source, text, n), "(text)", NULL, out);
}

void conf_free(struct conf **c)
{
	struct conf_arena *arena = *c ? (*c)->arena : NULL;

	*c = NULL;
	conf_arena_free(&arena);
}
