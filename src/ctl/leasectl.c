/*
 * leasectl: the human face of leased's admin interface: one command, one HTTP request, one table or one word.
 *
 * Exit codes: 0 done, 1 the command failed, 2 wrong use, 3 timed out, 4 the daemon can't be reached.
 */
#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/units.h"
#include "ctl/client.h"
#include "ctl/show.h"

#define CTL_SOCKET	     "/run/leased/admin.sock"
#define CTL_TIMEOUT_US	     INT64_C(10000000)
#define CTL_DRAIN_DEFAULT_US INT64_C(30000000)
#define CTL_REFRESH_US	     INT64_C(120000000) /* a source may be asked a few times */
#define CTL_WATCH_MAX_S	     86400

enum ctl_exit { CTL_OK, CTL_FAILED, CTL_USAGE, CTL_TIMEOUT, CTL_UNREACHABLE };

struct ctl {
	struct addr to;
	const char *where; /* as given */
	bool json, header;
	unsigned watch_s; /* 0: once */
};

static enum ctl_exit ctl_usage(const char *text, const char *word)
{
	fprintf(stderr, "leasectl: %s%s%s\nTry 'leasectl help'.\n", text, word ? " " : "", word ? word : "");
	return CTL_USAGE;
}

/* Sends a request; on CTL_OK *body is the answer's JSON, to be json_decref()ed. */
static enum ctl_exit ctl_ask(const struct ctl *c, const char *method, const char *target, int64_t timeout_us,
			     json_t **body)
{
	struct answer a;
	const char *why, *error;
	enum err e = client_request(&c->to, method, target, timeout_us, &a, &why);
	enum ctl_exit code = CTL_OK;

	*body = NULL;
	if (e != ERR_OK) {
		fprintf(stderr, "leasectl: %s: %s\n", c->where, why);
		if (e == ERR_CONNECT_TIMEOUT)
			return CTL_TIMEOUT;
		return e == ERR_PROTOCOL ? CTL_FAILED : CTL_UNREACHABLE;
	}
	*body = json_loadb(a.body, a.len, 0, NULL);
	if (a.status != 200 || !*body) {
		error = json_string_value(json_object_get(*body, "error"));
		fprintf(stderr, "leasectl: %s\n", error ? error : "the daemon's answer makes no sense");
		code = a.status == 504 ? CTL_TIMEOUT : CTL_FAILED;
		json_decref(*body);
		*body = NULL;
	}
	mem_free(a.body);
	return code;
}

/* A command that answers with one word. */
static enum ctl_exit ctl_do(const struct ctl *c, const char *method, const char *target, int64_t timeout_us)
{
	json_t *body;
	enum ctl_exit code = ctl_ask(c, method, target, timeout_us, &body);
	const char *result;

	if (code != CTL_OK)
		return code;
	result = json_string_value(json_object_get(body, "result"));
	if (c->json)
		table_print_json(body);
	else
		puts(result ? result : "ok");
	json_decref(body);
	return CTL_OK;
}

static enum ctl_exit ctl_show_once(const struct ctl *c, const struct show *s)
{
	json_t *status, *rows;
	enum ctl_exit code = ctl_ask(c, "GET", s->target, CTL_TIMEOUT_US, &status);

	if (code != CTL_OK)
		return code;
	rows = s->rows(status);
	if (c->json)
		table_print_json(rows);
	else
		table_print(s->columns, rows, c->header);
	json_decref(rows);
	json_decref(status);
	return fflush(stdout) == 0 ? CTL_OK : CTL_FAILED;
}

static enum ctl_exit ctl_show(const struct ctl *c, int argc, char **argv)
{
	const struct show *s = argc > 0 ? show_find(argv[0]) : NULL;
	enum ctl_exit code;

	if (argc == 0)
		return ctl_usage("show what?", NULL);
	if (!s)
		return ctl_usage("can't show", argv[0]);
	if (argc > 1)
		return ctl_usage("unexpected argument", argv[1]);
	do {
		code = ctl_show_once(c, s);
		if (code != CTL_OK || c->watch_s == 0)
			return code;
		puts("");
	} while (sleep(c->watch_s) == 0);
	return CTL_OK;
}

static enum ctl_exit ctl_snapshot(const struct ctl *c, int argc, char **argv)
{
	static char name[] = "snapshot";
	char *args[] = {name};

	return argc > 0 ? ctl_usage("unexpected argument", argv[0]) : ctl_show(c, 1, args);
}

/* drain [POOL] [TIMEOUT] [STOP]: a duration is the time-out, "stop" is the flag, anything else the pool. */
static enum ctl_exit ctl_drain(const struct ctl *c, int argc, char **argv)
{
	int64_t timeout_us = CTL_DRAIN_DEFAULT_US, us;
	const char *pool = NULL;
	bool stop = false;
	char text[64], *escaped, *target;
	enum ctl_exit code;

	for (int i = 0; i < argc; i++) {
		if (strcasecmp(argv[i], "stop") == 0)
			stop = true;
		else if (duration_parse(argv[i], &us) == ERR_OK)
			timeout_us = us;
		else if (!pool)
			pool = argv[i];
		else
			return ctl_usage("unexpected argument", argv[i]);
	}
	duration_format(timeout_us, text, sizeof(text));
	escaped = client_escape(pool ? pool : "");
	target = mem_printf("/drain?timeout=%s%s%s%s", text, stop ? "&stop=1" : "", pool ? "&pool=" : "", escaped);
	code = ctl_do(c, "POST", target, timeout_us + CTL_TIMEOUT_US);
	mem_free(target);
	mem_free(escaped);
	return code;
}

static enum ctl_exit ctl_resume(const struct ctl *c, int argc, char **argv)
{
	char *escaped, *target;
	enum ctl_exit code;

	if (argc > 1)
		return ctl_usage("unexpected argument", argv[1]);
	escaped = client_escape(argc > 0 ? argv[0] : "");
	target = mem_printf("/resume%s%s", argc > 0 ? "?pool=" : "", escaped);
	code = ctl_do(c, "POST", target, CTL_TIMEOUT_US);
	mem_free(target);
	mem_free(escaped);
	return code;
}

static enum ctl_exit ctl_refresh(const struct ctl *c, int argc, char **argv)
{
	char *escaped, *target;
	enum ctl_exit code;

	if (argc == 0)
		return ctl_usage("refresh which credential?", NULL);
	if (argc > 1)
		return ctl_usage("unexpected argument", argv[1]);
	escaped = client_escape(argv[0]);
	target = mem_printf("/refresh?credential=%s", escaped);
	code = ctl_do(c, "POST", target, CTL_REFRESH_US);
	mem_free(target);
	mem_free(escaped);
	return code;
}

static enum ctl_exit ctl_shutdown(const struct ctl *c, int argc, char **argv)
{
	if (argc > 1)
		return ctl_usage("unexpected argument", argv[1]);
	if (argc == 0 || strcasecmp(argv[0], "graceful") == 0)
		return ctl_do(c, "POST", "/shutdown?mode=graceful", CTL_TIMEOUT_US);
	if (strcasecmp(argv[0], "immediate") == 0)
		return ctl_do(c, "POST", "/shutdown?mode=immediate", CTL_TIMEOUT_US);
	return ctl_usage("shutdown is graceful or immediate, not", argv[0]);
}

static enum ctl_exit ctl_ping(const struct ctl *c, int argc, char **argv)
{
	return argc > 0 ? ctl_usage("unexpected argument", argv[0]) : ctl_do(c, "GET", "/ping", CTL_TIMEOUT_US);
}

static enum ctl_exit ctl_help(const struct ctl *c, int argc, char **argv);

static const struct ctl_command {
	const char *name, *arguments, *help;
	enum ctl_exit (*run)(const struct ctl *c, int argc, char **argv);
} ctl_commands[] = {
	{"show", "", NULL, ctl_show},
	{"snapshot", "", "the same as show snapshot", ctl_snapshot},
	{"drain", "[POOL] [TIMEOUT] [STOP]", "wait until nothing is leased; STOP: refuse new leases", ctl_drain},
	{"resume", "[POOL]", "lease again after drain", ctl_resume},
	{"refresh", "CREDENTIAL", "ask the credential's source again, and wait for it", ctl_refresh},
	{"shutdown", "[GRACEFUL|IMMEDIATE]", "end the daemon", ctl_shutdown},
	{"ping", "", "see whether the daemon answers", ctl_ping},
	{"help", "", "print this", ctl_help},
};

#define CTL_COMMANDS (sizeof(ctl_commands) / sizeof(ctl_commands[0]))

static enum ctl_exit ctl_help(const struct ctl *c, int argc, char **argv)
{
	(void)c;
	(void)argc;
	(void)argv;
	printf("Usage: leasectl [-s SOCKET] [--json] [--no-header] [--watch SECONDS] COMMAND\n\n"
	       "SOCKET is the path of the admin socket (default " CTL_SOCKET ") or host:port.\n"
	       "Commands, in any case:\n");
	show_list();
	for (size_t i = 0; i < CTL_COMMANDS; i++) {
		char word[64];

		snprintf(word, sizeof(word), "%s %s", ctl_commands[i].name, ctl_commands[i].arguments);
		if (ctl_commands[i].help)
			printf("  %-33s %s\n", word, ctl_commands[i].help);
	}
	printf("\nExit codes: 0 done, 1 failed, 2 wrong use, 3 timed out, 4 the daemon can't be reached.\n");
	return CTL_OK;
}

static bool ctl_address(struct ctl *c)
{
	struct addr_spec spec;
	bool path = c->where[0] == '/' || c->where[0] == '.' || !strchr(c->where, ':');
	char *text = mem_printf("%s%s", path ? "unix:" : "", c->where);
	bool ok = addr_parse(text, &spec, NULL) == ERR_OK && (spec.kind == ADDR_UNIX || spec.kind == ADDR_NUMERIC);

	mem_free(text);
	c->to = spec.addr;
	return ok;
}

static enum ctl_exit ctl_run(struct ctl *c, int argc, char **argv)
{
	if (argc == 0)
		return ctl_usage("no command", NULL);
	for (size_t i = 0; i < CTL_COMMANDS; i++) {
		if (strcasecmp(ctl_commands[i].name, argv[0]) != 0)
			continue;
		if (!ctl_address(c))
			return ctl_usage("not an address:", c->where);
		return ctl_commands[i].run(c, argc - 1, argv + 1);
	}
	return ctl_usage("unknown command", argv[0]);
}

static bool ctl_seconds(const char *text, unsigned *out)
{
	char *end;
	long n = strtol(text, &end, 10);

	*out = n > 0 && n <= CTL_WATCH_MAX_S ? (unsigned)n : 0;
	return *out > 0 && *end == '\0';
}

int main(int argc, char **argv)
{
	enum { ONLY_LONG = 256, OPT_JSON, OPT_NO_HEADER, OPT_WATCH };
	static const struct option options[] = {
		{"socket", required_argument, NULL, 's'},
		{"json", no_argument, NULL, OPT_JSON},
		{"no-header", no_argument, NULL, OPT_NO_HEADER},
		{"watch", required_argument, NULL, OPT_WATCH},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	struct ctl c = {.where = CTL_SOCKET, .header = true};
	int letter;

	while ((letter = getopt_long(argc, argv, "s:Vh", options, NULL)) != -1) {
		switch (letter) {
		case 's':
			c.where = optarg;
			break;
		case OPT_JSON:
			c.json = true;
			break;
		case OPT_NO_HEADER:
			c.header = false;
			break;
		case OPT_WATCH:
			if (!ctl_seconds(optarg, &c.watch_s))
				return (int)ctl_usage("--watch wants a number of seconds, not", optarg);
			break;
		case 'V':
			puts("leasectl " LEASED_VERSION);
			return CTL_OK;
		case 'h':
			return (int)ctl_help(&c, 0, NULL);
		default:
			return (int)ctl_usage("wrong option", NULL);
		}
	}
	return (int)ctl_run(&c, argc - optind, argv + optind);
}
