/* source: reading files, expanding includes, and the lexical checks libconfig does not make; see source.h. */
#include "conf/source.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#define READ_BYTES 16384

/* One file while it is scanned. */
struct lexer {
	struct source *source;
	struct conf_pos pos; /* of the line at hand */
	enum { LEX_CODE, LEX_STRING, LEX_COMMENT } state;
	int since; /* line on which the string or comment began */
	bool bad;
};

static bool source_include(struct lexer *lx, const char *p, const char *end);

void source_init(struct source *s, struct conf_arena *arena, struct conf_messages *errors)
{
	*s = (struct source){.arena = arena, .errors = errors, .text = mem_alloc(1), .cap = 1};
}

void source_free(struct source *s)
{
	secret_wipe(s->text, s->cap);
	mem_free(s->text);
	mem_free(s->runs);
	*s = (struct source){0};
}

struct conf_pos source_pos(const struct source *s, int line)
{
	size_t i = s->n_runs;

	if (line > s->lines)
		line = s->lines;
	while (i > 1 && s->runs[i - 1].at > line)
		i--;
	if (i == 0 || line < 1)
		return (struct conf_pos){i ? s->runs[0].pos.file : NULL, 0};
	return (struct conf_pos){s->runs[i - 1].pos.file, s->runs[i - 1].pos.line + line - s->runs[i - 1].at};
}

/* ---- growing text */

/* Not realloc(): the old copy may hold a password. */
static void source_add(struct source *s, const char *p, size_t n)
{
	if (s->len + n + 1 > s->cap) {
		size_t cap = (s->len + n + 1) * 2;
		char *text = mem_alloc(cap);

		memcpy(text, s->text, s->len);
		secret_wipe(s->text, s->cap);
		mem_free(s->text);
		s->text = text;
		s->cap = cap;
	}
	memcpy(s->text + s->len, p, n);
	s->len += n;
	s->text[s->len] = '\0';
}

/* The next line of the text is this one. */
static void source_run(struct source *s, struct conf_pos pos)
{
	s->runs = mem_realloc(s->runs, (s->n_runs + 1) * sizeof(*s->runs));
	s->runs[s->n_runs++] = (struct source_run){s->lines + 1, pos};
}

/* ---- tokens */

static bool lex_is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool lex_is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static void lex_fail(struct lexer *lx, int line, const char *what)
{
	conf_messages_add(lx->source->errors, (struct conf_pos){lx->pos.file, line}, "%s", what);
	lx->bad = true;
}

/*
 * libconfig 1.5 cuts an integer without L to 32 bits and says nothing, so larger ones get their L here. Returns the end of
 * the number.
 */
static const char *lex_number(struct lexer *lx, const char *p, const char *end)
{
	const char *start = p, *copy;
	bool hex = end - p > 2 && p[0] == '0' && (p[1] == 'x' || p[1] == 'X'), whole = true;
	unsigned long long value;
	size_t n;

	for (; p < end && (lex_is_digit(*p) || lex_is_letter(*p) || *p == '.'); p++) {
		if (!hex && (*p == 'e' || *p == 'E') && p + 1 < end && (p[1] == '-' || p[1] == '+'))
			p++;
		if (!hex && !lex_is_digit(*p))
			whole = false;
	}
	n = (size_t)(p - start);
	source_add(lx->source, start, n);
	copy = lx->source->text + lx->source->len - n; /* this one ends with a NUL */
	if (hex)
		whole = strspn(copy + 2, "0123456789abcdefABCDEF") == n - 2;
	if (!whole)
		return p;
	errno = 0;
	value = strtoull(copy, NULL, hex ? 16 : 10);
	if (errno == ERANGE || value > INT64_MAX)
		lex_fail(lx, lx->pos.line, "integer is too large");
	else if (value > INT32_MAX)
		source_add(lx->source, "L", 1);
	return p;
}

static const char *lex_name(struct lexer *lx, const char *p, const char *end)
{
	const char *start = p;

	while (p < end && (lex_is_letter(*p) || lex_is_digit(*p) || *p == '-' || *p == '_' || *p == '*'))
		p++;
	source_add(lx->source, start, (size_t)(p - start));
	return p;
}

static const char *lex_code(struct lexer *lx, const char *p, const char *end)
{
	size_t n = 1;

	if (lex_is_letter(*p) || *p == '*')
		return lex_name(lx, p, end);
	if (lex_is_digit(*p) || *p == '.')
		return lex_number(lx, p, end);
	/* libconfig would read that file by itself, unchecked and relative to the working directory. */
	if (*p == '@')
		lex_fail(lx, lx->pos.line, "syntax error: @include must begin its line");
	if (*p == '"') {
		lx->state = LEX_STRING;
		lx->since = lx->pos.line;
	} else if (*p == '#' || (*p == '/' && end - p > 1 && p[1] == '/')) {
		return end;
	} else if (*p == '/' && end - p > 1 && p[1] == '*') {
		lx->state = LEX_COMMENT;
		lx->since = lx->pos.line;
		n = 2;
	}
	source_add(lx->source, p, n);
	return p + n;
}

static const char *lex_string(struct lexer *lx, const char *p, const char *end)
{
	size_t n = 1;

	if (*p == '"')
		lx->state = LEX_CODE;
	if (*p == '\\' && end - p > 1) {
		n = 2;
		if (end - p > 3 && (p[1] == 'x' || p[1] == 'X') && p[2] == '0' && p[3] == '0')
			lex_fail(lx, lx->pos.line, "a string can't hold a zero byte (\\x00)");
	}
	source_add(lx->source, p, n);
	return p + n;
}

static const char *lex_comment(struct lexer *lx, const char *p, const char *end)
{
	if (*p == '*' && end - p > 1 && p[1] == '/') {
		lx->state = LEX_CODE;
		source_add(lx->source, p, 2);
		return p + 2;
	}
	return p + 1;
}

static void lex_line(struct lexer *lx, const char *p, const char *end)
{
	while (p < end) {
		if (lx->state == LEX_CODE)
			p = lex_code(lx, p, end);
		else if (lx->state == LEX_STRING)
			p = lex_string(lx, p, end);
		else
			p = lex_comment(lx, p, end);
	}
	source_add(lx->source, "\n", 1);
	lx->source->lines++;
}

/* Start of the pattern's rest when the line is an include; NULL: it is none. */
static const char *lex_is_include(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	return end - p >= 8 && memcmp(p, "@include", 8) == 0 ? p + 8 : NULL;
}

static bool lex_file(struct lexer *lx, const char *p, size_t n)
{
	const char *end = p + n, *eol, *rest;

	if (n >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0)
		p += 3; /* the byte order mark of some editors */
	source_run(lx->source, lx->pos);
	for (; p < end; p = eol + 1, lx->pos.line++) {
		eol = memchr(p, '\n', (size_t)(end - p));
		if (!eol)
			eol = end;
		if (memchr(p, '\0', (size_t)(eol - p))) {
			lex_fail(lx, lx->pos.line, "zero byte; is this a text file?");
			return false;
		}
		rest = lx->state == LEX_CODE ? lex_is_include(p, eol) : NULL;
		if (!rest)
			lex_line(lx, p, eol);
		else if (!source_include(lx, rest, eol))
			lx->bad = true;
	}
	if (lx->state == LEX_STRING)
		lex_fail(lx, lx->since, "syntax error: the string that begins here is never closed");
	else if (lx->state == LEX_COMMENT)
		lex_fail(lx, lx->since, "syntax error: the comment that begins here is never closed");
	return !lx->bad;
}

/* ---- files */

bool source_slurp(int fd, size_t max, char **data, size_t *n, const char **why)
{
	size_t cap = READ_BYTES, len = 0;
	char *buf = mem_alloc(cap);
	ssize_t got;

	while ((got = read(fd, buf + len, cap - len)) > 0 || (got < 0 && errno == EINTR)) {
		len += got > 0 ? (size_t)got : 0;
		if (len > max)
			break;
		if (len == cap) {
			char *more = mem_alloc(cap * 2);

			memcpy(more, buf, len);
			secret_wipe(buf, cap);
			mem_free(buf);
			buf = more;
			cap *= 2;
		}
	}
	if (got < 0 || len > max) {
		*why = got < 0 ? strerror(errno) : "too large";
		secret_wipe(buf, cap);
		mem_free(buf);
		return false;
	}
	*data = buf;
	*n = len;
	return true;
}

const char *source_path(struct conf_arena *a, const char *dir, const char *path)
{
	size_t n;
	char *out;

	if (path[0] == '/' || !*dir)
		return conf_arena_strdup(a, path);
	n = strlen(dir) + 1 + strlen(path) + 1;
	out = conf_arena_alloc(a, n);
	snprintf(out, n, "%s/%s", dir, path);
	return out;
}

static bool source_fail(struct source *s, struct conf_pos pos, const char *path, const char *why)
{
	if (pos.line > 0)
		conf_messages_add(s->errors, pos, "@include: %s: %s", path, why);
	else
		conf_messages_add(s->errors, (struct conf_pos){path, 0}, "%s", why);
	return false;
}

/* Says why the open file can't be read as a part of the configuration; NULL: it can. */
static const char *source_refuse(const struct source *s, int fd, struct stat *st)
{
	if (fstat(fd, st) != 0)
		return strerror(errno);
	if (S_ISDIR(st->st_mode))
		return "is a directory";
	if (!S_ISREG(st->st_mode) && !S_ISFIFO(st->st_mode))
		return "is not a regular file";
	if (st->st_size > SOURCE_MAX_BYTES)
		return "is larger than 10 MB";
	for (size_t i = 0; i < s->depth; i++)
		if (s->open[i].dev == st->st_dev && s->open[i].ino == st->st_ino)
			return "includes itself";
	return s->depth == SOURCE_DEPTH_MAX ? "is included too deep (10 files)" : NULL;
}

/* pos: of the include, line 0 for the main file. */
static bool source_file(struct source *s, const char *path, struct conf_pos pos)
{
	struct lexer lx = {.source = s, .pos = {conf_arena_strdup(s->arena, path), 1}};
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	const char *why = NULL;
	struct stat st;
	size_t n = 0;
	char *data;
	bool ok;

	if (fd < 0) {
		s->denied = s->denied || errno == EACCES || errno == EPERM;
		return source_fail(s, pos, path, strerror(errno));
	}
	why = source_refuse(s, fd, &st);
	ok = !why && source_slurp(fd, SOURCE_MAX_BYTES - (s->len < SOURCE_MAX_BYTES ? s->len : SOURCE_MAX_BYTES),
				  &data, &n, &why);
	close(fd);
	if (!ok)
		return source_fail(s, pos, path, why);
	s->open[s->depth].dev = st.st_dev;
	s->open[s->depth].ino = st.st_ino;
	s->open[s->depth++].name = lx.pos.file;
	ok = lex_file(&lx, data, n);
	s->depth--;
	secret_wipe(data, n);
	mem_free(data);
	return ok;
}

static bool source_glob(struct lexer *lx, const char *pattern)
{
	glob_t found;
	bool ok = true;
	int rc = glob(pattern, 0, NULL, &found);

	/* A directory of parts may be empty; a file that is named may not be absent. */
	if (rc == GLOB_NOMATCH)
		return strpbrk(pattern, "*?[") ? true : source_file(lx->source, pattern, lx->pos);
	if (rc != 0)
		return source_fail(lx->source, lx->pos, pattern, "can't be searched");
	for (size_t i = 0; i < found.gl_pathc; i++)
		ok = source_file(lx->source, found.gl_pathv[i], lx->pos) && ok;
	globfree(&found);
	return ok;
}

/* The text after "@include". */
static bool source_include(struct lexer *lx, const char *p, const char *end)
{
	struct source *s = lx->source;
	char name[PATH_MAX];
	const char *close;
	bool ok;

	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	close = p < end && *p == '"' ? memchr(p + 1, '"', (size_t)(end - p - 1)) : NULL;
	if (!close || close == p + 1 || close - p > PATH_MAX / 2) {
		conf_messages_add(s->errors, lx->pos, "@include needs a file name in quotes");
		return false;
	}
	if (!s->dir) {
		conf_messages_add(s->errors, lx->pos, "@include is not possible here");
		return false;
	}
	snprintf(name, sizeof(name), "%.*s", (int)(close - p - 1), p + 1);
	ok = source_glob(lx, source_path(s->arena, s->dir, name));
	/* What follows on the line is scanned as a line of its own that keeps its number. */
	source_run(s, lx->pos);
	lex_line(lx, close + 1, end);
	return ok;
}

bool source_read_file(struct source *s, const char *path)
{
	const char *slash = strrchr(path, '/');
	char *dir = conf_arena_strdup(s->arena, path);

	dir[slash ? slash - path : 0] = '\0';
	s->dir = slash == path ? "/" : dir;
	return source_file(s, path, (struct conf_pos){NULL, 0});
}

bool source_read_text(struct source *s, const char *text, size_t n)
{
	struct lexer lx = {.source = s, .pos = {"(text)", 1}};

	return lex_file(&lx, text, n);
}
