/* source_command: a program that prints one credential and exits; asked by time, before the expiry, and when a login was refused. */
#include <string.h>

#include "base/mem.h"
#include "cred/parse.h"
#include "cred/program.h"

struct source {
	struct credential *of;
	struct child *child; /* NULL: none runs */
	char *text;	     /* what it has printed so far: CRED_TEXT_MAX bytes */
	size_t n, n_err;
};

static void command_out(void *arg, const char *p, size_t n)
{
	struct source *s = arg;

	/* The child's limit is ours. */
	BUG_ON(n > CRED_TEXT_MAX - s->n);
	memcpy(s->text + s->n, p, n);
	s->n += n;
}

static void command_err(void *arg, const char *p, size_t n)
{
	struct source *s = arg;

	(void)p;
	s->n_err += n;
}

static void command_wipe(struct source *s)
{
	if (s->text)
		secret_wipe(s->text, CRED_TEXT_MAX);
	mem_free(s->text);
	s->text = NULL;
	s->n = 0;
}

static void command_ended(void *arg, const struct child_end *end)
{
	struct source *s = arg;
	struct child_end was = *end;

	child_close(&s->child);
	program_log(s->of, &was, s->n_err);
	if (was.err != ERR_OK)
		source_failed(s->of, was.err, program_why(&was));
	else if (s->n == 0)
		source_failed(s->of, ERR_INVALID, "the program printed nothing");
	else
		source_says(s->of, s->text, s->n, 0);
	command_wipe(s);
}

static void command_ask(struct source *s, enum cred_reason why)
{
	static const struct child_events events = {command_out, command_err, command_ended};
	const struct credential_opts *o = credential_options(s->of);
	char **env = program_env(s->of, why);
	struct child_opts run = {
		.argv = o->argv,
		.envp = (const char *const *)env,
		.timeout_us = o->timeout_us,
		.out_max = CRED_TEXT_MAX,
	};

	BUG_ON(s->child);
	s->text = mem_alloc(CRED_TEXT_MAX);
	s->n_err = 0;
	s->child = child_start(credential_loop(s->of), &run, &events, s);
	program_env_free(env);
}

static enum err command_start(struct source **out, struct credential *c, const char **why)
{
	(void)why;
	*out = NEW(struct source);
	(*out)->of = c;
	command_ask(*out, CRED_STARTUP);
	return ERR_OK;
}

static void command_stop(struct source **ps)
{
	struct source *s = *ps;

	*ps = NULL;
	child_close(&s->child);
	command_wipe(s);
	loop_free_later(credential_loop(s->of), s);
}

const struct source_ops source_command = {
	.name = "command",
	.asks = true,
	.refreshes = true,
	.start = command_start,
	.ask = command_ask,
	.stop = command_stop,
};
