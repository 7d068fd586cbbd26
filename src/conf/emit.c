/*
 * emit: what the table of keys says, as the sample configuration, the key section of leased.conf(5) and the list of
 * limits; see conf.h. Nothing here knows a key, but for the few that the sample needs to be a working one.
 */
#include <string.h>

#include "base/mem.h"
#include "conf/value.h"

#define COMMENT_COLUMNS 96

/* What the sample sets, so that it is a configuration that runs; every other key is a comment. */
static const struct {
	enum scope_id scope;
	const char *key, *text;
} sample_values[] = {
	{SCOPE_ADMIN, "listen", "\"unix:/run/leased/admin.sock\""},
	{SCOPE_CREDENTIAL, "name", "\"cache-user\""},
	{SCOPE_CREDENTIAL, "source", "\"file\""},
	{SCOPE_CREDENTIAL, "path", "\"/run/secrets/cache.json\""},
	{SCOPE_LISTENER, "address", "\"127.0.0.1:6380\""},
	{SCOPE_USER, "name", "\"app\""},
	{SCOPE_USER, "password_file", "\"/etc/leased/app.password\""},
	{SCOPE_POOL, "name", "\"cache\""},
	{SCOPE_POOL, "reuse", "\"script\""},
	{SCOPE_POOL, "ready_check", "( { send = \"PING\\r\\n\"; expect = \"+PONG\"; } )"},
};

static const char *sample_value(const struct key *k)
{
	for (size_t i = 0; i < sizeof(sample_values) / sizeof(sample_values[0]); i++)
		if (sample_values[i].scope == k->scope && strcmp(sample_values[i].key, k->name) == 0)
			return sample_values[i].text;
	return NULL;
}

/* Every key of a scope at its default. */
struct defaults {
	const struct scope *scope;
	struct conf_arena *arena;
	void *base;
};

static struct defaults defaults_of(enum scope_id id)
{
	struct defaults d = {.scope = scope_get(id), .arena = conf_arena_new()};

	d.base = conf_arena_alloc(d.arena, d.scope->size);
	value_defaults(d.scope, d.base, d.arena);
	return d;
}

static void defaults_print(const struct defaults *d, const struct key *k, FILE *f)
{
	value_print(k, (const char *)d->base + k->offset, f);
}

/* ---- sample */

static void sample_comment(const char *text, const char *prefix, FILE *f)
{
	while (*text) {
		size_t room = COMMENT_COLUMNS - strlen(prefix), n = strlen(text);

		if (n > room)
			for (n = room; n > 1 && text[n] != ' '; n--)
				;
		fprintf(f, "%s%.*s\n", prefix, (int)n, text);
		text += n;
		text += strspn(text, " ");
	}
}

static void sample_bounds(const struct key *k, const char *indent, FILE *f)
{
	if (*k->max)
		fprintf(f, "%s# From %s to %s.\n", indent, k->min, k->max);
	if (strchr(k->choices, '|')) {
		fprintf(f, "%s# One of", indent);
		for (const char *p = k->choices; *p; p += strspn(p, "|")) {
			fprintf(f, " \"%.*s\"", (int)strcspn(p, "|"), p);
			p += strcspn(p, "|");
		}
		fputs(".\n", f);
	}
}

/* comment: what goes before a key that the sample leaves at its default. all: also the others. */
static void sample_keys(enum scope_id id, const char *indent, bool all, FILE *f)
{
	struct defaults d = defaults_of(id);
	char prefix[32];

	snprintf(prefix, sizeof(prefix), "%s# ", indent);
	for (size_t i = 0; i < d.scope->n; i++) {
		const struct key *k = &d.scope->keys[i];
		const char *value = sample_value(k);

		fputs(i ? "\n" : "", f);
		sample_comment(k->help, prefix, f);
		sample_bounds(k, indent, f);
		if (value) {
			fprintf(f, "%s%s%s = %s;\n", indent, all ? "#" : "", k->name, value);
			continue;
		}
		fprintf(f, "%s#%s = ", indent, k->name);
		defaults_print(&d, k, f);
		fputs(";\n", f);
	}
	conf_arena_free(&d.arena);
}

static void sample_group(enum scope_id id, FILE *f)
{
	fprintf(f, "\n%s = {\n", scope_get(id)->name);
	sample_keys(id, "\t", false, f);
	fputs("};\n", f);
}

static void sample_pools(FILE *f)
{
	fputs("\npools = (\n\t{\n", f);
	sample_keys(SCOPE_POOL, "\t\t", false, f);
	fputs("\n\t\t# Where clients connect to: addresses, or groups with the keys below.\n"
	      "\t\tlisten = (\n\t\t\t{\n",
	      f);
	sample_keys(SCOPE_LISTENER, "\t\t\t\t", false, f);
	fputs("\t\t\t}\n\t\t);\n"
	      "\n\t\t# The servers: addresses (\"host:port\" or \"unix:PATH\"), or groups with the keys below. The same keys in\n"
	      "\t\t# the pool itself are for all its servers.\n"
	      "\t\tservers = (\n\t\t\t{\n\t\t\t\taddress = \"127.0.0.1:6379\";\n\n",
	      f);
	sample_keys(SCOPE_SERVER, "\t\t\t\t", false, f);
	fputs("\t\t\t}\n\t\t);\n"
	      "\n\t\t# Who may use the pool, where the protocol lets clients log in. None: everybody.\n"
	      "\t\t#users = (\n\t\t#\t{\n",
	      f);
	sample_keys(SCOPE_USER, "\t\t\t\t", true, f);
	fputs("\t\t#\t}\n\t\t#);\n\t}\n);\n", f);
}

void conf_emit_sample(FILE *f)
{
	fputs("# leased: sample configuration, made from the table of keys. Every key is here; those that begin with a # have\n"
	      "# the default that is shown. See leased.conf(5).\n\n",
	      f);
	sample_keys(SCOPE_TOP, "", false, f);
	for (enum scope_id id = SCOPE_ADMIN; id <= SCOPE_DNS; id++)
		sample_group(id, f);
	fputs("\n# What pools log in with.\n#credentials = (\n#\t{\n", f);
	sample_keys(SCOPE_CREDENTIAL, "\t\t", true, f);
	fputs("#\t}\n#);\n", f);
	sample_pools(f);
}

/* ---- manual */

/* Text for mdoc(7): backslashes are \e, and no line may begin with a dot or a quote. */
static void man_text(const char *s, FILE *f)
{
	bool start = true;

	for (; *s; s++) {
		if (start && (*s == '.' || *s == '\''))
			fputs("\\&", f);
		start = false;
		if (*s == '\\') {
			fputs("\\e", f);
		} else if (*s == ' ' && s[-1] == '.') {
			putc('\n', f); /* a sentence begins on a line of its own */
			start = true;
		} else {
			putc(*s, f);
		}
	}
	putc('\n', f);
}

static void man_default(const struct defaults *d, const struct key *k, FILE *f)
{
	char text[256] = "";
	FILE *t = fmemopen(text, sizeof(text), "w");

	BUG_ON(!t);
	defaults_print(d, k, t);
	fclose(t);
	if (key_required(k))
		fputs("Required.\n", f);
	else if (strcmp(text, "\"\"") == 0 || strcmp(text, "()") == 0)
		return;
	else if (*text == '"')
		fprintf(f, "Default:\n.Li \\(dq%.*s\\(dq .\n", (int)strcspn(text + 1, "\""), text + 1);
	else
		fprintf(f, "Default:\n.Li %s .\n", text);
}

static void man_key(const struct defaults *d, const struct key *k, FILE *f)
{
	fprintf(f, ".It Ic %s Pq %s\n", k->name, key_type_word(k->type));
	man_text(k->help, f);
	man_default(d, k, f);
	if (*k->max)
		fprintf(f, "Range:\n.Li %s\nto\n.Li %s .\n", k->min, k->max);
	if (*k->choices) {
		fputs("One of:\n", f);
		for (const char *p = k->choices; *p; p += strspn(p, "|")) {
			size_t n = strcspn(p, "|");

			fprintf(f, ".Li \\(dq%.*s\\(dq %s\n", (int)n, p, p[n] ? "," : ".");
			p += n;
		}
	}
	fprintf(f, "Reload: %s.\n", k->reload ? "yes" : "no");
}

void conf_emit_man(FILE *f)
{
	static const char *const titles[SCOPE_COUNT] = {
		[SCOPE_TOP] = "Top level",
		[SCOPE_ADMIN] = "Group admin: the interface for operators",
		[SCOPE_LOG] = "Group log",
		[SCOPE_LIMITS] = "Group limits: of the whole process",
		[SCOPE_TCP] = "Group tcp: sockets",
		[SCOPE_DNS] = "Group dns: host names of servers",
		[SCOPE_CREDENTIAL] = "Groups of the list credentials",
		[SCOPE_LISTENER] = "Groups of the list listen, in a pool",
		[SCOPE_USER] = "Groups of the list users, in a pool",
		[SCOPE_SERVER] = "Groups of the list servers, in a pool; or the pool itself, for all its servers",
		[SCOPE_POOL] = "Groups of the list pools",
	};

	for (enum scope_id id = 0; id < SCOPE_COUNT; id++) {
		struct defaults d = defaults_of(id);

		fprintf(f, ".Ss %s\n.Bl -tag -width Ds\n", titles[id]);
		for (size_t i = 0; i < d.scope->n; i++)
			man_key(&d, &d.scope->keys[i], f);
		fputs(".El\n", f);
		conf_arena_free(&d.arena);
	}
}

/* ---- limits */

void conf_emit_limits(FILE *f)
{
	fputs("# key\ttype\tdefault\tminimum\tmaximum\n", f);
	for (enum scope_id id = 0; id < SCOPE_COUNT; id++) {
		const struct scope *s = scope_get(id);

		for (size_t i = 0; i < s->n; i++)
			if (*s->keys[i].max)
				fprintf(f, "%s%s%s\t%s\t%s\t%s\t%s\n", s->name, *s->name ? "." : "", s->keys[i].name,
					key_type_word(s->keys[i].type), s->keys[i].def, s->keys[i].min,
					s->keys[i].max);
	}
}
