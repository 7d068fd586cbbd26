/* parse: from text to values through libconfig; see parse.h. The only file that includes libconfig. */
#include "conf/parse.h"

#include <libconfig.h>
#include <string.h>

#include "base/mem.h"

struct parsed {
	config_t config;
	struct value root;
};

struct parse {
	const struct source *source;
	struct conf_arena *arena;
	size_t spare;
	const char *at; /* beginning of the line below in the text; only moves forward */
	int line;
};

/*
 * The line a string in a list is on. libconfig reads one token ahead before it knows that a string is complete, and notes
 * the line of that token: for the last one of a list often that of the closing bracket.
 */
static int parse_string_line(struct parse *p, int line)
{
	const char *first, *at;

	for (; p->line < line && (at = strchr(p->at, '\n')) != NULL; p->line++)
		p->at = at + 1;
	first = p->at + strspn(p->at, " \t\r");
	if (p->line != line || !strchr(")],", *first))
		return line;
	for (at = p->at; at > p->source->text && strchr(" \t\r\n", at[-1]); at--)
		line -= at[-1] == '\n';
	return line;
}

static struct conf_pos parse_pos(struct parse *p, const config_setting_t *s)
{
	int line = (int)config_setting_source_line(s);

	if (config_setting_type(s) == CONFIG_TYPE_STRING && !config_setting_name(s))
		line = parse_string_line(p, line);
	return source_pos(p->source, line);
}

static bool parse_value(struct parse *p, config_setting_t *s, int depth, struct value *out);

static bool parse_items(struct parse *p, config_setting_t *s, int depth, struct value *out)
{
	int n = config_setting_length(s);

	if (depth == PARSE_DEPTH_MAX) {
		conf_messages_add(p->source->errors, out->pos, "brackets are nested too deep");
		return false;
	}
	out->n = (size_t)n;
	out->items = conf_arena_array(p->arena, out->n + (out->kind == VALUE_GROUP ? p->spare : 0),
				      sizeof(*out->items));
	for (int i = 0; i < n; i++)
		if (!parse_value(p, config_setting_get_elem(s, (unsigned int)i), depth + 1, &out->items[i]))
			return false;
	return true;
}

static bool parse_value(struct parse *p, config_setting_t *s, int depth, struct value *out)
{
	*out = (struct value){.name = config_setting_name(s), .pos = parse_pos(p, s)};
	switch (config_setting_type(s)) {
	case CONFIG_TYPE_BOOL:
		out->kind = VALUE_BOOL;
		out->b = config_setting_get_bool(s);
		return true;
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		out->kind = VALUE_INT;
		out->i = config_setting_get_int64(s);
		out->hex = config_setting_get_format(s) == CONFIG_FORMAT_HEX;
		return true;
	case CONFIG_TYPE_FLOAT:
		out->kind = VALUE_FLOAT;
		out->f = config_setting_get_float(s);
		return true;
	case CONFIG_TYPE_STRING:
		out->kind = VALUE_STRING;
		out->s = s->value.sval; /* not a copy: so that there is one place to wipe */
		return true;
	case CONFIG_TYPE_GROUP:
		out->kind = VALUE_GROUP;
		return parse_items(p, s, depth, out);
	default:
		out->kind = VALUE_LIST;
		return parse_items(p, s, depth, out);
	}
}

/* libconfig says only that a name came twice; when the line has one name, that is it. */
static bool parse_duplicate(const struct source *s, int line, char *out, size_t cap)
{
	const char *p = s->text, *eq;
	size_t n;

	for (int i = 1; i < line && p; i++) {
		p = strchr(p, '\n');
		p += p != NULL;
	}
	if (!p)
		return false;
	p += strspn(p, " \t{(,");
	n = strcspn(p, " \t=:\n");
	eq = strpbrk(p, "=:\n");
	if (n == 0 || !eq || *eq == '\n')
		return false;
	eq = strpbrk(eq + 1, "=\n");
	snprintf(out, cap, "\"%.*s\" is set twice in this group", n > 60 ? 60 : (int)n, p);
	return !eq || *eq == '\n';
}

static void parse_syntax_error(const struct source *s, const config_t *config)
{
	int line = config_error_line(config), at = line;
	const char *text = config_error_text(config);
	char hint[200];

	if (strcmp(text, "duplicate setting name") == 0) {
		if (!parse_duplicate(s, line, hint, sizeof(hint)))
			snprintf(hint, sizeof(hint), "a key is set twice in this group");
		conf_messages_add(s->errors, source_pos(s, line), "%s (%s)", hint, text);
	} else if (strcmp(text, "mismatched element type in array") == 0) {
		conf_messages_add(s->errors, source_pos(s, line), "%s (only a list in ( ) may mix types)", text);
	} else if (source_hint(s->text, line, &at, hint, sizeof(hint))) {
		conf_messages_add(s->errors, source_pos(s, at), "%s: %s", text, hint);
	} else {
		conf_messages_add(s->errors, source_pos(s, line), "%s", text);
	}
}

struct parsed *parse_source(const struct source *s, struct conf_arena *arena, size_t spare)
{
	struct parse p = {.source = s, .arena = arena, .spare = spare, .at = s->text, .line = 1};
	struct parsed *out = NEW(struct parsed);

	config_init(&out->config);
	if (!config_read_string(&out->config, s->text))
		parse_syntax_error(s, &out->config);
	else if (parse_value(&p, config_root_setting(&out->config), 0, &out->root))
		return out;
	parse_free(&out);
	return NULL;
}

struct value *parse_root(struct parsed *p)
{
	return &p->root;
}

static void parse_wipe(config_setting_t *s)
{
	if (config_setting_type(s) == CONFIG_TYPE_STRING && s->value.sval)
		secret_wipe(s->value.sval, strlen(s->value.sval));
	if (config_setting_is_aggregate(s))
		for (int i = 0; i < config_setting_length(s); i++)
			parse_wipe(config_setting_get_elem(s, (unsigned int)i));
}

void parse_free(struct parsed **p)
{
	parse_wipe(config_root_setting(&(*p)->config));
	config_destroy(&(*p)->config);
	mem_free(*p);
	*p = NULL;
}

#define PARSE_TEXT_(x) #x
#define PARSE_TEXT(x)  PARSE_TEXT_(x)

const char *conf_library_version(void)
{
	return PARSE_TEXT(LIBCONFIG_VER_MAJOR) "." PARSE_TEXT(LIBCONFIG_VER_MINOR) "." PARSE_TEXT(
		LIBCONFIG_VER_REVISION);
}
