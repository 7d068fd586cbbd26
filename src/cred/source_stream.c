/*
 * source_stream: a program that goes on printing credentials, one JSON document a line.
 *
 *	start --> line, line, ... --> credentials
 *	  ^                 \--end, line too long--> the last good one stays
 *	  +------ backoff (from the start again once a credential came) ------+
 *
 * It can't be asked: whoever wants something newer waits for timeout_us whether it comes. Asked by hand, it is started anew. Only JSON
 * is taken, so that half a line or an error message is never taken for a password.
 */
#include <string.h>

#include "base/mem.h"
#include "cred/parse.h"
#include "cred/program.h"

struct source {
	struct credential *of;
	struct child *child; /* NULL: waits to be started again */
	char *line;	     /* CRED_TEXT_MAX bytes; as far as it has come */
	bool deaf;	     /* it printed too long a line and is on its way out */
	size_t n, n_err;
	int64_t backoff_us;
	struct timer restart, patience;
};

/* ---- lines ---- */

static void stream_line(struct source *s)
{
	if (s->n && s->line[s->n - 1] == '\r')
		s->n--;
	if (s->n == 0)
		return;
	if (s->line[0] != '{')
		source_failed(s->of, ERR_INVALID, "a line is no JSON document");
	else if (source_says(s->of, s->line, s->n, 0))
		s->backoff_us = credential_options(s->of)->backoff_initial_us;
	secret_wipe(s->line, s->n);
	s->n = 0;
}

static void stream_out(void *arg, const char *p, size_t n)
{
	struct source *s = arg;

	while (n > 0 && !s->deaf) {
		const char *lf = memchr(p, '\n', n);
		size_t take = lf ? (size_t)(lf - p) : n;

		if (take > CRED_TEXT_MAX - s->n) {
			s->deaf = true;
			child_end_early(s->child, ERR_TOO_BIG);
			return;
		}
		memcpy(s->line + s->n, p, take);
		s->n += take;
		if (!lf)
			return;
		stream_line(s);
		p += take + 1;
		n -= take + 1;
	}
}

static void stream_err(void *arg, const char *p, size_t n)
{
	struct source *s = arg;

	(void)p;
	s->n_err += n;
}

/* ---- the program ---- */

static void stream_forget_line(struct source *s)
{
	secret_wipe(s->line, CRED_TEXT_MAX);
	s->n = 0;
}

static void stream_ended(void *arg, const struct child_end *end)
{
	struct source *s = arg;
	struct loop *l = credential_loop(s->of);
	struct child_end was = *end;

	child_close(&s->child);
	stream_forget_line(s);
	program_log(s->of, &was, s->n_err);
	timer_stop(l, &s->patience);
	timer_set(l, &s->restart, loop_now_us(l) + s->backoff_us);
	s->backoff_us = backoff_grow(s->backoff_us, credential_options(s->of));
	/* It should not have ended, however well it did. */
	source_failed(s->of, was.err == ERR_OK ? ERR_SOURCE_FAILED : was.err, program_why(&was));
}

static void stream_run(struct source *s, enum cred_reason why)
{
	static const struct child_events events = {stream_out, stream_err, stream_ended};
	char **env = program_env(s->of, why);
	struct child_opts run = {.argv = credential_options(s->of)->argv, .envp = (const char *const *)env};
	struct loop *l = credential_loop(s->of);

	timer_stop(l, &s->restart);
	s->n_err = 0;
	s->deaf = false;
	s->child = child_start(l, &run, &events, s);
	program_env_free(env);
}

static void stream_on_restart(void *arg)
{
	stream_run(arg, CRED_STARTUP);
}

static void stream_on_patience(void *arg)
{
	struct source *s = arg;

	source_same(s->of);
}

static void stream_ask(struct source *s, enum cred_reason why)
{
	struct loop *l = credential_loop(s->of);

	if (why == CRED_MANUAL && s->child) {
		child_close(&s->child);
		stream_forget_line(s);
	}
	if (!s->child)
		stream_run(s, why);
	timer_set(l, &s->patience, loop_now_us(l) + credential_options(s->of)->timeout_us);
}

/* ---- life ---- */

static enum err stream_start(struct source **out, struct credential *c, const char **why)
{
	struct source *s = NEW(struct source);

	(void)why;
	*s = (struct source){.of = c, .line = mem_alloc(CRED_TEXT_MAX)};
	s->backoff_us = credential_options(c)->backoff_initial_us;
	timer_init(&s->restart, stream_on_restart, s);
	timer_init(&s->patience, stream_on_patience, s);
	stream_ask(s, CRED_STARTUP);
	*out = s;
	return ERR_OK;
}

static void stream_stop(struct source **ps)
{
	struct source *s = *ps;
	struct loop *l = credential_loop(s->of);

	*ps = NULL;
	child_close(&s->child);
	timer_stop(l, &s->restart);
	timer_stop(l, &s->patience);
	stream_forget_line(s);
	mem_free(s->line);
	loop_free_later(l, s);
}

const struct source_ops source_stream = {
	.name = "stream",
	.asks = true,
	.start = stream_start,
	.ask = stream_ask,
	.stop = stream_stop,
};
