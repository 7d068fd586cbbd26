/*
 * source_env: a user name and a password out of the environment, once.
 *
 * The variable is wiped where the kernel shows it (/proc/PID/environ) and removed, so that no child inherits it. What was read stays
 * in the arena, so that a reload finds it again.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cred/credential_private.h"

struct source {
	struct credential *of;
};

/* What has been read so far, for the life of the process; control thread. */
struct kept {
	struct kept *next;
	struct secret *value;
	char name[];
};
static struct kept *kept;

static struct secret *env_take(const char *name)
{
	char *text = getenv(name);
	struct kept *k = kept;

	while (k && strcmp(k->name, name) != 0)
		k = k->next;
	if (!text || !*text)
		return k ? secret_ref(k->value) : NULL;
	if (!k) {
		k = mem_alloc(sizeof(*k) + strlen(name) + 1);
		memcpy(k->name, name, strlen(name) + 1);
		k->next = kept;
		kept = k;
	}
	secret_drop(&k->value);
	k->value = secret_take(text, strlen(text));
	unsetenv(name);
	return k->value ? secret_ref(k->value) : NULL;
}

static enum err env_start(struct source **out, struct credential *c, const char **why)
{
	const struct credential_opts *o = credential_options(c);
	const char *user = o->env_username ? getenv(o->env_username) : NULL;
	struct cred_fields f;

	*why = "the variable of the environment is not set or empty";
	if (o->env_username && (!user || !*user))
		return ERR_CONFIG;
	cred_fields_init(&f);
	f.password = env_take(o->env_password);
	if (!f.password)
		return ERR_CONFIG;
	f.username = user ? mem_strdup(user) : NULL;
	*out = NEW(struct source);
	(*out)->of = c;
	source_has(c, &f);
	return ERR_OK;
}

static void env_stop(struct source **s)
{
	mem_free(*s);
	*s = NULL;
}

const struct source_ops source_env = {.name = "env", .start = env_start, .stop = env_stop};
