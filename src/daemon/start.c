#include "daemon/start.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "daemon/activate.h"
#include "daemon/admin.h"
#include "daemon/control.h"
#include "daemon/credentials.h"
#include "daemon/process.h"

struct start {
	const struct options *options;
	struct conf *conf;
	struct conf_messages warnings;
	struct limits limits;
	struct setup *setup;
	struct control control;
	struct pid_file pid_file;
	int ready_fd; /* of process_daemonize() */
	bool log_open, control_open;
};

/* Says on stderr, and in the log if that is elsewhere, why there will be no daemon. Returns the code. */
static int start_fail(const struct start *s, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int start_fail(const struct start *s, int code, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	fprintf(stderr, "leased: %s\n", text);
	if (s->log_open && (enum log_target)s->conf->log.target != LOG_TO_STDERR)
		log_text(LOG_LV_ERROR, "process.start_failed", "%s", text);
	return code;
}

static void start_print(const struct conf_messages *m)
{
	for (size_t i = 0; i < m->n; i++)
		fprintf(stderr, "%s\n", m->v[i]);
}

int start_load(struct options *o, struct conf **out, struct conf_messages *warnings)
{
	struct conf_messages errors = {0}, own = {0};
	struct conf_messages *w = warnings ? warnings : &own;
	enum err e = secret_arena_init(NULL);

	*out = NULL;
	if (e != ERR_OK) {
		fprintf(stderr, "leased: no memory for secrets: %s\n", err_text(e));
		return EXIT_CODE_OS;
	}
	e = conf_load(o->file, (const char *const *)o->sets, o->n_sets, setup_check, out, &errors, w);
	options_free(o);
	if (e != ERR_OK || !warnings)
		start_print(w);
	start_print(&errors);
	conf_messages_free(&errors);
	conf_messages_free(&own);
	if (e == ERR_OK)
		return EXIT_CODE_OK;
	return e == ERR_PERMISSION ? EXIT_CODE_PERMISSION : EXIT_CODE_CONFIG;
}

/* Where memory can't be locked the daemon starts nevertheless. */
static void start_arena(void)
{
	const char *kind;

	if (secret_arena_init(&kind) == ERR_OK && strcmp(kind, "plain") == 0)
		log_text(LOG_LV_WARNING, "secrets.not_locked",
			 "secrets lie in memory that may be swapped out: RLIMIT_MEMLOCK is too low");
}

static int start_log(struct start *s)
{
	const struct conf_log *c = &s->conf->log;
	int level = c->level + s->options->verbose;
	struct log_opts o = {
		.target = (enum log_target)c->target,
		.format = (enum log_format)c->format,
		.level = LOG_LV_ERROR,
		.file = c->file,
	};

	if (level > LOG_LV_DEBUG)
		level = LOG_LV_DEBUG;
	if (level > LOG_LV_ERROR)
		o.level = (enum log_level)level;
	if (log_open(&o) != ERR_OK)
		return start_fail(s, EXIT_CODE_CANT_CREATE, "can't open the log %s: %s", c->file ? c->file : "",
				  strerror(errno));
	s->log_open = true;
	log_text(LOG_LV_NOTICE, "process.start", "leased %s, pid %d, configuration %s", LEASED_VERSION, (int)getpid(),
		 s->conf->file);
	start_arena();
	for (size_t i = 0; i < s->warnings.n; i++)
		log_text(LOG_LV_WARNING, "config.warning", "%s", s->warnings.v[i]);
	return EXIT_CODE_OK;
}

static int start_limits(struct start *s)
{
	char *why = NULL;
	int code = EXIT_CODE_OK;

	mem_keep_spare();
	limits_raise(&s->limits);
	if (!limits_plan(&s->limits, s->conf, &why))
		code = start_fail(s, EXIT_CODE_CONFIG, "limits: %s", why);
	else
		limits_log(&s->limits);
	mem_free(why);
	return code;
}

static int start_pid_file(struct start *s)
{
	int other;
	enum err e = pid_file_open(&s->pid_file, s->conf->pid_file, &other);

	if (e == ERR_AGAIN)
		return start_fail(s, EXIT_CODE_CANT_CREATE, "%s: another leased is running (pid %d)",
				  s->conf->pid_file, other);
	if (e != ERR_OK)
		return start_fail(s, EXIT_CODE_CANT_CREATE, "%s: %s", s->conf->pid_file, strerror(errno));
	return EXIT_CODE_OK;
}

static int start_setup(struct start *s)
{
	char *why = NULL;
	int code = EXIT_CODE_OK;

	s->setup = setup_new(s->conf);
	if (activate_sockets(s->setup, &why) != ERR_OK)
		code = start_fail(s, EXIT_CODE_CONFIG, "socket activation: %s", why);
	mem_free(why);
	return code;
}

static int start_control(struct start *s)
{
	struct control *c = &s->control;

	s->control_open = true;
	if (control_open(c, s->conf, s->setup, &s->limits) != ERR_OK)
		return start_fail(s, EXIT_CODE_OS, "out of descriptors");
	notify_open(&c->notify);
	return EXIT_CODE_OK;
}

static int start_workers(struct start *s)
{
	struct control *c = &s->control;
	int n = worker_count(s->conf);
	const char *why = "";

	c->workers = mem_alloc((size_t)n * sizeof(*c->workers));
	for (int i = 0; i < n; i++) {
		struct worker_opts o = {
			.id = i,
			.n_workers = n,
			.setup = s->setup,
			.budget = c->budget,
			.clients = c->clients,
			.answers = c->box,
			.wishes = credentials_box(c->credentials),
		};

		c->workers[i].worker = worker_new(&o);
		if (!c->workers[i].worker)
			return start_fail(s, EXIT_CODE_OS, "out of descriptors");
		c->n_workers++;
	}
	for (int i = 0; i < n; i++)
		if (worker_listen(c->workers[i].worker, &why) != ERR_OK)
			return start_fail(s, EXIT_CODE_CANT_CREATE, "can't listen: %s", why);
	return EXIT_CODE_OK;
}

static int start_admin(struct start *s)
{
	char *why = NULL;
	int code = EXIT_CODE_OK;

	if (admin_open(&s->control, &s->control.admin, &why) != ERR_OK)
		code = start_fail(s, EXIT_CODE_CANT_CREATE, "can't open the admin interface: %s", why);
	mem_free(why);
	return code;
}

static int start_user(struct start *s)
{
	enum err e = process_drop_to(s->conf->user);

	if (e != ERR_OK)
		return start_fail(s, EXIT_CODE_PERMISSION, "can't become user %s: %s", s->conf->user, err_text(e));
	if (pid_file_write(&s->pid_file) != ERR_OK)
		return start_fail(s, EXIT_CODE_CANT_CREATE, "%s: %s", s->conf->pid_file, strerror(errno));
	return EXIT_CODE_OK;
}

/* As the user the daemon is from now on: so it will be able to read them again. */
static int start_credentials(struct start *s)
{
	const char *why = "";
	enum err e = credentials_start(s->control.credentials, &why);

	if (e != ERR_OK)
		return start_fail(s, e == ERR_PERMISSION ? EXIT_CODE_PERMISSION : EXIT_CODE_CONFIG, "%s", why);
	return EXIT_CODE_OK;
}

static int start_threads(struct start *s)
{
	struct control *c = &s->control;

	for (size_t i = 0; i < c->n_workers; i++)
		if (worker_start(c->workers[i].worker) != ERR_OK)
			return start_fail(s, EXIT_CODE_OS, "can't start a thread");
	return EXIT_CODE_OK;
}

static void start_end(struct start *s)
{
	if (s->control_open)
		control_close(&s->control);
	setup_free(&s->setup);
	pid_file_close(&s->pid_file);
	if (s->log_open) {
		log_at(LOG_LV_NOTICE, "process.end", L_INT("pid", getpid()));
		log_close();
	}
	conf_messages_free(&s->warnings);
	conf_free(&s->conf);
}

int start_run(struct options *o)
{
	static int (*const stages[])(struct start *) = {
		start_log,     start_limits, start_pid_file, start_setup,	start_control,
		start_workers, start_admin,  start_user,     start_credentials, start_threads,
	};
	struct start s = {.options = o, .pid_file.fd = -1, .ready_fd = -1};
	int code = EXIT_CODE_OK;

	if (o->daemonize && process_daemonize(&s.ready_fd) != ERR_OK)
		return start_fail(&s, EXIT_CODE_OS, "can't fork: %s", strerror(errno));
	process_harden();
	code = start_load(o, &s.conf, &s.warnings);
	for (size_t i = 0; code == EXIT_CODE_OK && i < sizeof(stages) / sizeof(stages[0]); i++)
		code = stages[i](&s);
	if (code == EXIT_CODE_OK) {
		notify_ready(&s.control.notify);
		log_at(LOG_LV_NOTICE, "process.ready", L_INT("workers", s.control.n_workers));
		process_ready(&s.ready_fd);
		control_run(&s.control);
	}
	start_end(&s);
	return code;
}
