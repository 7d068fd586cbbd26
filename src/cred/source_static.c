/* source_static: the fields of the configuration, once. */
#include "base/mem.h"
#include "cred/credential_private.h"

struct source {
	struct credential *of;
};

static enum err static_start(struct source **out, struct credential *c, const char **why)
{
	const struct cred_fields *f = &credential_options(c)->fixed;
	struct cred_fields copy = *f;

	(void)why;
	*out = NEW(struct source);
	(*out)->of = c;
	copy.username = f->username ? mem_strdup(f->username) : NULL;
	copy.host = f->host ? mem_strdup(f->host) : NULL;
	copy.database = f->database ? mem_strdup(f->database) : NULL;
	copy.password = f->password ? secret_ref(f->password) : NULL;
	source_has(c, &copy);
	return ERR_OK;
}

static void static_stop(struct source **s)
{
	mem_free(*s);
	*s = NULL;
}

const struct source_ops source_static = {.name = "static", .start = static_start, .stop = static_stop};
