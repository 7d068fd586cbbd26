/* build_keys: the keys of one group into their fields; unknown ones get the best suggestion the table allows. */
#include <string.h>

#include "conf/build.h"

static bool key_is_part(const char *const *parts, const char *name)
{
	for (; *parts; parts++)
		if (strcmp(*parts, name) == 0)
			return true;
	return false;
}

/* "log.level"; keys of the lists' groups stand for themselves. */
static void key_print(const struct scope *s, const char *name, char *out, size_t cap)
{
	bool fixed = s->id != SCOPE_TOP && !s->list;

	snprintf(out, cap, "%s%s%.60s", fixed ? s->name : "", fixed ? "." : "", name);
}

static void key_suggest_here(struct nearest *near, const struct target *targets, size_t n, const char *const *parts)
{
	for (size_t t = 0; t < n; t++)
		for (size_t i = 0; i < targets[t].scope->n; i++)
			nearest_try(near, targets[t].scope->keys[i].name);
	for (; *parts; parts++)
		nearest_try(near, *parts);
}

static const char *scope_place(const struct scope *s)
{
	switch (s->id) {
	case SCOPE_TOP:
		return "the top level";
	case SCOPE_CREDENTIAL:
		return "a group of \"credentials\"";
	case SCOPE_LISTENER:
		return "a group of a pool's \"listen\"";
	case SCOPE_USER:
		return "a group of a pool's \"users\"";
	case SCOPE_SERVER:
	case SCOPE_POOL:
		return "a group of \"pools\"";
	default:
		return NULL;
	}
}

/* The scope a misplaced key belongs to; with log_level also that of level. */
static const struct scope *key_elsewhere(const char *name, const char **key)
{
	for (int id = 0; id < SCOPE_COUNT; id++) {
		const struct scope *s = scope_get((enum scope_id)id);
		size_t n = strlen(s->name);

		*key = name;
		if (scope_find(s, name))
			return s;
		*key = name + n + 1;
		if (n && !s->list && strncmp(name, s->name, n) == 0 && name[n] == '_' && scope_find(s, *key))
			return s;
	}
	return NULL;
}

static void key_unknown(struct build *b, const struct value *v, const struct target *targets, size_t n,
			const char *const *parts)
{
	const struct scope *other;
	struct nearest near;
	const char *key;
	char name[160];

	key_print(targets[0].scope, v->name, name, sizeof(name));
	other = key_elsewhere(v->name, &key);
	nearest_init(&near, v->name);
	key_suggest_here(&near, targets, n, parts);
	if (other && scope_place(other))
		build_error(b, v->pos, "%s: unknown here; \"%s\" belongs into %s", name, key, scope_place(other));
	else if (other)
		build_error(b, v->pos, "%s: unknown here; \"%s\" belongs into \"%s\"", name, key, other->name);
	else if (near.best)
		build_error(b, v->pos, "%s: unknown key (did you mean \"%s\"?)", name, near.best);
	else
		build_error(b, v->pos, "%s: unknown key", name);
}

static void key_set(struct build *b, const struct value *v, const struct target *t, const struct key *k)
{
	size_t index = (size_t)(k - t->scope->keys);
	char why[WHY_MAX], name[160];

	t->seen->at[index] = v->pos;
	if (value_store(k, t->base, v, b->arena, why))
		return;
	t->seen->bad |= UINT64_C(1) << index;
	key_print(t->scope, k->name, name, sizeof(name));
	build_error(b, v->pos, "%s: %s", name, why);
}

static void key_missing(struct build *b, const struct value *group, const struct target *t)
{
	for (size_t i = 0; i < t->scope->n; i++) {
		const struct key *k = &t->scope->keys[i];
		void *field;

		if (!key_required(k) || (seen_given(t->seen, (int)i) && !seen_bad(t->seen, (int)i)))
			continue;
		/* Never NULL, so that the checks that follow need not care. */
		field = (char *)t->base + k->offset;
		*(const char **)field = "";
		if (!seen_given(t->seen, (int)i))
			build_error(b, group->pos, "%s: missing", k->name);
	}
}

void build_keys(struct build *b, const struct value *group, const struct target *targets, size_t n,
		const char *const *parts)
{
	for (size_t i = 0; i < group->n; i++) {
		const struct value *v = &group->items[i];
		const struct key *k = NULL;
		size_t t = 0;

		for (; t < n && !k; t++)
			k = scope_find(targets[t].scope, v->name);
		if (k)
			key_set(b, v, &targets[t - 1], k);
		else if (!key_is_part(parts, v->name))
			key_unknown(b, v, targets, n, parts);
	}
	for (size_t t = 0; t < n; t++)
		key_missing(b, group, &targets[t]);
}
