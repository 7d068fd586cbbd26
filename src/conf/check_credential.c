/* check_credential: credentials and users: what each source needs, files and programs they name; see build.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/build.h"
#include "conf/source.h"

#define USER_UIDS_MAX 30

/* A source's name as it is written; `list` of them: "file", "directory" or "systemd". */
static const char *source_name(int source, char out[24])
{
	const char *p = scope_get(SCOPE_CREDENTIAL)->keys[K_CREDENTIAL_source].choices;

	for (; source > 0; source--)
		p = strchr(p, '|') + 1;
	snprintf(out, 24, "%.*s", (int)strcspn(p, "|"), p);
	return out;
}

static int source_first_of(int key)
{
	int source = 0;

	while (!key_of_source(key, source))
		source++;
	return source;
}

/* Names the sources that take the key. */
static void source_list(int key, char *out, size_t cap)
{
	char name[24];
	size_t left = 0;

	out[0] = '\0';
	for (int s = 0; s <= CONF_SOURCE_STREAM; s++)
		left += key_of_source(key, s);
	for (int s = 0; s <= CONF_SOURCE_STREAM; s++) {
		size_t used = strlen(out);

		if (!key_of_source(key, s))
			continue;
		left--;
		snprintf(out + used, cap - used, "\"%s\"%s", source_name(s, name),
			 left > 1    ? ", "
			 : left == 1 ? " or "
				     : "");
	}
}

/* Nothing, as a default that is written out has it. */
static bool check_is_empty(const struct key *k, const void *base)
{
	const void *field = (const char *)base + k->offset;

	if (k->type == KEY_TYPE_STRING)
		return !**(const char *const *)field;
	return k->type == KEY_TYPE_STRINGS && ((const struct conf_strings *)field)->n == 0;
}

/* A key of another source means that two sources were meant: it is not guessed which. */
static void check_other_source(struct build *b, const struct conf_credential *c, const struct seen *s, int key)
{
	const struct key *k = &scope_get(SCOPE_CREDENTIAL)->keys[key];
	char name[24], other[24], list[160];

	source_name(c->source, name);
	source_list(key, list, sizeof(list));
	if (seen_given(s, K_CREDENTIAL_source))
		build_error(b, s->at[key], "%s: has no effect with source = \"%s\"; it belongs to source = %s",
			    k->name, name, list);
	else
		build_error(b, s->at[key],
			    "%s: has no effect with source = \"static\", the default (did you mean source = \"%s\"?)",
			    k->name, source_name(source_first_of(key), other));
}

static void check_other_sources(struct build *b, const struct conf_credential *c, const struct seen *s)
{
	const struct scope *scope = scope_get(SCOPE_CREDENTIAL);

	for (int i = 0; i < K_CREDENTIAL_COUNT; i++)
		if (seen_given(s, i) && !seen_bad(s, i) && !key_of_source(i, c->source) &&
		    !check_is_empty(&scope->keys[i], c))
			check_other_source(b, c, s, i);
}

/* ---- passwords */

static void check_password_file(struct build *b, const char *path, struct secret **out, struct conf_pos pos)
{
	bool denied = false;
	char why[WHY_MAX];

	path = source_path(b->arena, b->dir, path);
	if (password_read(path, b->arena, out, &denied, why))
		return;
	build_error(b, pos, "password_file: %.200s: %s", path, why);
	b->denied += denied;
}

static void check_password(struct build *b, struct secret **password, const char *file, struct conf_pos pos,
			   struct conf_pos file_pos)
{
	if (*password && *file) {
		build_error(b, file_pos, "password_file: password is given too; write only one");
		return;
	}
	if (*password)
		build_warning(b, pos, "password: a secret in a configuration file; prefer password_file");
	if (*file)
		check_password_file(b, file, password, file_pos);
}

void check_pool_user(struct build *b, struct conf_user *u, const struct seen *s)
{
	if (u->uid.n > USER_UIDS_MAX)
		build_error(b, s->at[K_USER_uid], "uid: has %zu elements; there may be %d", u->uid.n, USER_UIDS_MAX);
	check_password(b, &u->password, u->password_file, s->at[K_USER_password], s->at[K_USER_password_file]);
	if (!u->password && !*u->password_file && u->uid.n == 0 && !seen_bad(s, K_USER_password) &&
	    !seen_bad(s, K_USER_password_file) && !seen_bad(s, K_USER_uid))
		build_warning(b, u->pos, "users: nobody can be \"%.60s\": it has neither password_file nor uid",
			      u->name);
}

/* ---- what a source needs */

/* A key the source can't do without is there and right. */
static bool check_has(struct build *b, const struct conf_credential *c, const struct seen *s, int key)
{
	const struct key *k = &scope_get(SCOPE_CREDENTIAL)->keys[key];
	char name[24];

	if (seen_bad(s, key))
		return false;
	if (!check_is_empty(k, c))
		return true;
	build_error(b, c->pos, "%s: missing; source = \"%s\" needs it", k->name, source_name(c->source, name));
	return false;
}

static void check_env(struct build *b, const struct conf_credential *c, const struct seen *s)
{
	const char *names[] = {c->env_username, c->env_password};
	const int keys[] = {K_CREDENTIAL_env_username, K_CREDENTIAL_env_password};

	if (!check_has(b, c, s, K_CREDENTIAL_env_password))
		return;
	for (int i = 0; i < 2; i++)
		if (*names[i] && !getenv(names[i]))
			build_error(b, s->at[keys[i]], "%s: there is no \"%.60s\" in the environment",
				    scope_get(SCOPE_CREDENTIAL)->keys[keys[i]].name, names[i]);
}

/* A file with a secret that is there must be readable, and not for everybody. */
static void check_secret(struct build *b, const struct conf_credential *c, const char *path, struct conf_pos pos)
{
	bool denied = false;
	char why[WHY_MAX];

	if (access(path, F_OK) != 0 || password_may_read(path, c->strict_permissions, &denied, why))
		return;
	build_error(b, pos, "path: %.200s: %s", path, why);
	b->denied += denied;
}

/* What isn't there yet may come; what is there must be usable. */
static void check_path(struct build *b, struct conf_credential *c, const struct seen *s)
{
	struct conf_pos pos = s->at[K_CREDENTIAL_path];
	bool wants_directory = c->source == CONF_SOURCE_DIRECTORY;
	struct stat st;

	if (!check_has(b, c, s, K_CREDENTIAL_path))
		return;
	c->path = source_path(b->arena, b->dir, c->path);
	if (stat(c->path, &st) != 0 && errno == ENOENT) {
		build_warning(b, pos, "path: %.200s does not exist yet", c->path);
	} else if (wants_directory && S_ISREG(st.st_mode)) {
		build_error(b, pos, "path: %.200s: is not a directory (did you mean source = \"file\"?)", c->path);
	} else if (!wants_directory && S_ISDIR(st.st_mode)) {
		build_error(b, pos, "path: %.200s: is a directory (did you mean source = \"directory\"?)", c->path);
	} else if (wants_directory) {
		check_secret(b, c, source_path(b->arena, c->path, "password"), pos);
		check_secret(b, c, source_path(b->arena, c->path, "token"), pos);
	} else {
		check_secret(b, c, c->path, pos);
	}
}

static void check_systemd(struct build *b, const struct conf_credential *c, const struct seen *s)
{
	const char *base = strrchr(c->path, '/');

	if (check_has(b, c, s, K_CREDENTIAL_path) && base)
		build_error(b, s->at[K_CREDENTIAL_path],
			    "path: \"%.120s\": the name of a credential has no '/' (did you mean \"%.60s\"?)",
			    c->path, base + 1);
}

static void check_pass_env(struct build *b, const struct conf_credential *c, const struct seen *s)
{
	for (size_t i = 0; i < c->pass_env.n; i++)
		if (!*c->pass_env.v[i] || strchr(c->pass_env.v[i], '='))
			build_error(b, s->at[K_CREDENTIAL_pass_env],
				    "pass_env: \"%.*s\" is no name of a variable; its value is inherited",
				    (int)strcspn(c->pass_env.v[i], "="), c->pass_env.v[i]);
}

static void check_argv(struct build *b, const struct conf_credential *c, const struct seen *s)
{
	struct conf_pos pos = s->at[K_CREDENTIAL_argv];
	const char *program;
	struct stat st;

	check_pass_env(b, c, s);
	if (!check_has(b, c, s, K_CREDENTIAL_argv))
		return;
	program = c->argv.v[0];
	if (program[0] != '/') {
		build_error(b, pos, "argv: \"%.120s\" must be an absolute path", program);
	} else if (access(program, X_OK) != 0) {
		build_error(b, pos, "argv: %.200s: %s", program, strerror(errno));
		b->denied += errno == EACCES;
	} else if (stat(program, &st) != 0 || !S_ISREG(st.st_mode)) {
		build_error(b, pos, "argv: %.200s: is not a regular file", program);
	} else if (st.st_mode & 0002) {
		build_error(b, pos, "argv: %.200s: everybody may write to it (mode %04o)", program,
			    st.st_mode & 07777U);
		b->denied++;
	}
}

/* Complains at the later of two keys whose values don't go together. */
static void check_order(struct build *b, const struct seen *s, int less, int more, bool wrong, const char *text)
{
	int at = seen_given(s, less) ? less : more;

	if (wrong && !seen_bad(s, less) && !seen_bad(s, more))
		build_error(b, s->at[at], "%s", text);
}

static void check_times(struct build *b, const struct conf_credential *c, const struct seen *s)
{
	check_order(b, s, K_CREDENTIAL_source_backoff_initial, K_CREDENTIAL_source_backoff_max,
		    c->source_backoff_initial_us > c->source_backoff_max_us,
		    "source_backoff_initial: is longer than source_backoff_max");
	check_order(b, s, K_CREDENTIAL_refresh_cooldown, K_CREDENTIAL_refresh_cooldown_max,
		    c->refresh_cooldown_us > c->refresh_cooldown_max_us,
		    "refresh_cooldown: is longer than refresh_cooldown_max");
}

void check_credential(struct build *b, struct conf_credential *c, const struct seen *s)
{
	if (!seen_bad(s, K_CREDENTIAL_name))
		check_name(b, s->at[K_CREDENTIAL_name], c->name);
	if (seen_bad(s, K_CREDENTIAL_source))
		return;
	check_other_sources(b, c, s);
	check_times(b, c, s);
	switch ((enum conf_source)c->source) {
	case CONF_SOURCE_STATIC:
		check_password(b, &c->password, c->password_file, s->at[K_CREDENTIAL_password],
			       s->at[K_CREDENTIAL_password_file]);
		break;
	case CONF_SOURCE_ENV:
		check_env(b, c, s);
		break;
	case CONF_SOURCE_FILE:
	case CONF_SOURCE_DIRECTORY:
		check_path(b, c, s);
		break;
	case CONF_SOURCE_SYSTEMD:
		check_systemd(b, c, s);
		break;
	case CONF_SOURCE_COMMAND:
	case CONF_SOURCE_STREAM:
		check_argv(b, c, s);
		break;
	}
}
