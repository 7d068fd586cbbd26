/* program: see program.h. */
#include "cred/program.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

#define ENV_OWN	  6
#define PATH_ELSE "/usr/local/bin:/usr/bin:/bin"

/* Adds NAME=value out of our own environment, or `otherwise`; NULL: not at all. */
static size_t env_pass(char **env, size_t n, const char *name, const char *otherwise)
{
	const char *value = getenv(name);

	if (!value)
		value = otherwise;
	if (value)
		env[n++] = mem_printf("%s=%s", name, value);
	return n;
}

char **program_env(const struct credential *c, enum cred_reason why)
{
	const struct credential_opts *o = credential_options(c);
	const struct cred *now = credential_current(c);
	size_t n = 0, n_pass = 0;
	char **env;

	while (o->pass_env && o->pass_env[n_pass])
		n_pass++;
	env = mem_alloc((ENV_OWN + n_pass + 1) * sizeof(*env));
	env[n++] = mem_printf("LEASED_CREDENTIAL=%s", o->name);
	env[n++] = mem_printf("LEASED_USERNAME=%s", now && now->is.username ? now->is.username : "");
	env[n++] = mem_printf("LEASED_GENERATION=%" PRIu64, now ? now->number : 0);
	env[n++] = mem_printf("LEASED_REASON=%s", cred_reason_name(why));
	n = env_pass(env, n, "PATH", PATH_ELSE);
	n = env_pass(env, n, "LANG", NULL);
	for (size_t i = 0; i < n_pass; i++)
		n = env_pass(env, n, o->pass_env[i], NULL);
	return env;
}

/* What is passed on may be somebody's secret. */
void program_env_free(char **env)
{
	for (size_t i = 0; env[i]; i++) {
		secret_wipe(env[i], strlen(env[i]));
		mem_free(env[i]);
	}
	mem_free(env);
}

void program_log(const struct credential *c, const struct child_end *end, size_t n_err)
{
	log_at(end->err == ERR_OK ? LOG_LV_DEBUG : LOG_LV_WARNING, "cred.child",
	       L_STR("credential", credential_options(c)->name), L_ERR(end->err), L_INT("status", end->status),
	       L_INT("signal", end->signo), L_INT("stderr_bytes", n_err));
}

const char *program_why(const struct child_end *end)
{
	switch (end->err) {
	case ERR_SOURCE_TIMEOUT:
		return "the program took too long";
	case ERR_TOO_BIG:
		return "the program printed more than 64 KiB";
	case ERR_NOT_FOUND:
		return "there is no such program";
	case ERR_PERMISSION:
		return "the program may not be run";
	case ERR_NO_FDS:
	case ERR_NO_MEMORY:
	case ERR_OS:
		return "the program cannot be started";
	default:
		return end->signo	 ? "a signal ended the program"
		       : end->status > 0 ? "the program failed"
					 : "the program ended";
	}
}
