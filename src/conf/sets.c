/*
 * sets: "key=value" of the command line, put into the tree of values before it is checked, so that an override meets the
 * same checks as a line of the file.
 *
 *	shutdown_timeout=5s    log.level=debug    pools.cache.max_size=20    credentials.db.username=app
 */
#include <string.h>

#include "conf/parse.h"

/* The scopes that may follow "pools.NAME.": a pool takes the keys of its servers too. */
static const struct key *set_find(enum scope_id id, const char *name)
{
	const struct key *k = scope_find(scope_get(id), name);

	return k || id != SCOPE_POOL ? k : scope_find(scope_get(SCOPE_SERVER), name);
}

/* Takes the member's place or adds it; there is room for one member per override in each group. */
static struct value *set_member(struct value *group, const char *name)
{
	size_t i = 0;

	while (i < group->n && strcmp(group->items[i].name, name) != 0)
		i++;
	if (i == group->n)
		group->n++;
	group->items[i] = (struct value){.name = name, .pos = {"-o", 0}};
	return &group->items[i];
}

static bool set_fail(struct conf_messages *errors, const char *key, const char *why)
{
	conf_messages_add(errors, (struct conf_pos){"-o", 0}, "%s: %s", key, why);
	return false;
}

static bool set_fail_near(struct conf_messages *errors, const char *key, const char *why, const struct nearest *near)
{
	char text[200];

	if (!near->best)
		return set_fail(errors, key, why);
	snprintf(text, sizeof(text), "%s (did you mean \"%.60s\"?)", why, near->best);
	return set_fail(errors, key, text);
}

static void set_value(struct value *group, enum scope_id id, const char *name, char *text)
{
	const struct key *k = set_find(id, name);
	struct value *v = set_member(group, name), read;

	/* An unknown key is put in as well: the check of the tree has the better words for it. */
	read = k ? value_from_text(k, text) : (struct value){.kind = VALUE_STRING, .s = text};
	read.name = v->name;
	read.pos = v->pos;
	*v = read;
}

/* "pools.NAME.key": names may hold dots, so the key begins after the last one. */
static bool set_in_list(struct value *list, enum scope_id id, const char *full, char *path, char *text,
			struct conf_messages *errors)
{
	char *dot = strrchr(path, '.'), why[120];
	struct nearest near;

	if (!dot)
		return set_fail(errors, full, "expected a name and a key, such as pools.NAME.max_size");
	*dot = '\0';
	nearest_init(&near, path);
	for (size_t i = 0; list && list->kind == VALUE_LIST && i < list->n; i++) {
		const struct value *name = list->items[i].kind == VALUE_GROUP ? value_member(&list->items[i], "name")
									      : NULL;

		if (!name || name->kind != VALUE_STRING)
			continue;
		nearest_try(&near, name->s);
		if (strcmp(name->s, path) != 0)
			continue;
		set_value(&list->items[i], id, dot + 1, text);
		return true;
	}
	snprintf(why, sizeof(why), "no %s is called \"%.60s\"", id == SCOPE_POOL ? "pool" : "credential", path);
	return set_fail_near(errors, full, why, &near);
}

static struct value *set_find_member(struct value *group, const char *name)
{
	for (size_t i = 0; i < group->n; i++)
		if (strcmp(group->items[i].name, name) == 0)
			return &group->items[i];
	return NULL;
}

static bool set_in_scope(struct value *root, const char *full, char *first, char *rest, char *text, size_t spare,
			 struct conf_arena *arena, struct conf_messages *errors)
{
	struct value *member = set_find_member(root, first);
	struct nearest near;

	nearest_init(&near, first);
	for (int id = SCOPE_ADMIN; id <= SCOPE_POOL; id++) {
		const struct scope *s = scope_get((enum scope_id)id);

		if (id == SCOPE_LISTENER || id == SCOPE_USER || id == SCOPE_SERVER)
			continue;
		nearest_try(&near, s->name);
		if (strcmp(s->name, first) != 0)
			continue;
		if (s->list)
			return set_in_list(member, s->id, full, rest, text, errors);
		if (!member) {
			member = set_member(root, first);
			member->kind = VALUE_GROUP;
			member->items = conf_arena_array(arena, spare, sizeof(*member->items));
		}
		if (member->kind == VALUE_GROUP)
			set_value(member, s->id, rest, text);
		return true;
	}
	return set_fail_near(errors, full, "no such group", &near);
}

bool parse_set(struct value *root, const char *set, size_t spare, struct conf_arena *arena,
	       struct conf_messages *errors)
{
	char *path = conf_arena_strdup(arena, set), *eq = strchr(path, '='), *dot;
	const char *full;

	if (!eq || eq == path)
		return set_fail(errors, set, "expected key=value");
	*eq = '\0';
	full = conf_arena_strdup(arena, path);
	dot = strchr(path, '.');
	if (!dot) {
		set_value(root, SCOPE_TOP, path, eq + 1);
		return true;
	}
	*dot = '\0';
	return set_in_scope(root, full, path, dot + 1, eq + 1, spare, arena, errors);
}
