/* fuzz_conf: a configuration that is taken, dumped and read again, is the same one. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "conf/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__lsan_default_suppressions(void);

/* libconfig 1.5 forgets the string it has just read when a syntax error follows. */
const char *__lsan_default_suppressions(void)
{
	return "leak:libconfig.so\n";
}

static struct conf *load(const char *text, size_t n)
{
	struct conf_messages errors = {0}, warnings = {0};
	struct conf *c;
	enum err e = conf_load_text(text, n, &c, &errors, &warnings);

	/* Refused: with a reason. Taken: without. */
	BUG_ON((e == ERR_OK) != (c != NULL));
	BUG_ON((e == ERR_OK) != (errors.n == 0));
	BUG_ON(errors.n > CONF_MESSAGES_MAX);
	conf_messages_free(&errors);
	conf_messages_free(&warnings);
	return c;
}

static char *dump(const struct conf *c, size_t *n)
{
	char *text = NULL;
	FILE *f = open_memstream(&text, n);

	BUG_ON(!f);
	conf_emit_dump(c, f);
	fclose(f);
	return text;
}

/* Comments may differ: a dump says whether a password is set, but not the password. */
static void drop_comments(char *text)
{
	char *out = text;

	for (char *line = text, *next; *line; line = next) {
		size_t n = strcspn(line, "\n");

		next = line + n + (line[n] == '\n');
		if (line[strspn(line, "\t")] == '#')
			continue;
		memmove(out, line, (size_t)(next - line));
		out += next - line;
	}
	*out = '\0';
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t n_before, n_after;
	char *text = malloc(size ? size : 1), *before, *after;
	struct conf *c;

	BUG_ON(!text);
	memcpy(text, data, size);
	c = load(text, size);
	free(text);
	if (!c)
		return 0;
	before = dump(c, &n_before);
	conf_free(&c);
	c = load(before, n_before);
	BUG_ON(!c);
	after = dump(c, &n_after);
	BUG_ON(strlen(before) != n_before || strlen(after) != n_after);
	drop_comments(before);
	drop_comments(after);
	BUG_ON(strcmp(before, after) != 0);
	conf_free(&c);
	free(before);
	free(after);
	return 0;
}
