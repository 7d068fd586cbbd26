#include "daemon/options.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/secret.h"
#include "base/units.h"

enum { OPTIONS_ONLY_LONG = 256 };

/* OPTION(long name, letter, argument, help) */
#define OPTIONS_TABLE                                                                                                \
	OPTION("config", 'c', "FILE", "configuration file (default " OPTIONS_DEFAULT_FILE ", or $LEASED_CONFIG)")    \
	OPTION("test", 't', NULL, "check the configuration and exit")                                                \
	OPTION("test-connect", 'T', NULL, "also connect to, log in to and check every server, and exit")             \
	OPTION("dump-config", OPTIONS_ONLY_LONG + OPTIONS_DUMP, NULL, "print the effective configuration and exit")  \
	OPTION("limits", OPTIONS_ONLY_LONG + OPTIONS_LIMITS, NULL, "print every key with its limits and exit")       \
	OPTION("print-sample", OPTIONS_ONLY_LONG + OPTIONS_SAMPLE, NULL, "print a sample configuration and exit")    \
	OPTION("print-man", OPTIONS_ONLY_LONG + OPTIONS_MAN, NULL, "print the keys for the manual and exit")         \
	OPTION("daemonize", 'd', NULL, "go to the background when ready")                                            \
	OPTION("pid-file", 'p', "FILE", "write the process id to FILE")                                              \
	OPTION("user", 'u', "USER", "become USER once the sockets are open")                                         \
	OPTION("verbose", 'v', NULL, "log more (may be repeated)")                                                   \
	OPTION("quiet", 'q', NULL, "log less (may be repeated)")                                                     \
	OPTION("set", 'o', "KEY=VALUE", "override a key of the configuration (may be repeated)")                     \
	OPTION("version", 'V', NULL, "print versions and exit")                                                      \
	OPTION("help", 'h', NULL, "print this and exit")

static const struct option options_long[] = {
#define OPTION(name, letter, arg, help) {name, (arg) ? required_argument : no_argument, NULL, letter},
	OPTIONS_TABLE
#undef OPTION
	{NULL, 0, NULL, 0},
};

static const struct options_row {
	const char *name;
	int letter;
	const char *arg, *help;
} options_rows[] = {
#define OPTION(name, letter, arg, help) {name, letter, arg, help},
	OPTIONS_TABLE
#undef OPTION
};

#define OPTIONS_ROWS (sizeof(options_rows) / sizeof(options_rows[0]))

static void options_set(struct options *o, const char *prefix, const char *value)
{
	o->sets = mem_realloc(o->sets, (o->n_sets + 1) * sizeof(*o->sets));
	o->sets[o->n_sets++] = mem_printf("%s%s", prefix, value);
}

/* A password on the command line is for all to see in the list of processes: it doesn't stay there. */
static void options_hide(char *set)
{
	static const char last[] = "password";
	char *eq = strchr(set, '=');

	if (eq && (size_t)(eq - set) >= sizeof(last) - 1 &&
	    memcmp(eq - sizeof(last) + 1, last, sizeof(last) - 1) == 0)
		memset(eq + 1, '*', strlen(eq + 1));
}

static const char *options_nearest(const char *name)
{
	const char *near = NULL;
	int best = 3;

	for (size_t i = 0; i < OPTIONS_ROWS; i++) {
		int d = str_distance(name, options_rows[i].name, 2);

		if (d < best) {
			best = d;
			near = options_rows[i].name;
		}
	}
	return near;
}

/* What getopt_long() has just refused. */
static void options_refuse(char **argv, int letter)
{
	const char *word = argv[optind - 1], *near = NULL;

	if (letter == ':')
		fprintf(stderr, "leased: option '%s' needs a value\n", word);
	else if (word && strncmp(word, "--", 2) == 0)
		near = options_nearest(word + 2);
	if (letter != ':') {
		if (near)
			fprintf(stderr, "leased: unknown option '%s' (did you mean '--%s'?)\n", word, near);
		else if (optopt > 0 && optopt < OPTIONS_ONLY_LONG && word && strncmp(word, "--", 2) != 0)
			fprintf(stderr, "leased: unknown option '-%c'\n", optopt);
		else
			fprintf(stderr, "leased: unknown option '%s'\n", word ? word : "");
	}
	fprintf(stderr, "Try 'leased --help'.\n");
}

static bool options_one(struct options *o, int letter)
{
	switch (letter) {
	case 'c':
		o->file = optarg;
		break;
	case 't':
		o->action = OPTIONS_TEST;
		break;
	case 'T':
		o->action = OPTIONS_TEST_CONNECT;
		break;
	case 'd':
		o->daemonize = true;
		break;
	case 'p':
		options_set(o, "pid_file=", optarg);
		break;
	case 'u':
		options_set(o, "user=", optarg);
		break;
	case 'v':
		o->verbose++;
		break;
	case 'q':
		o->verbose--;
		break;
	case 'o':
		options_set(o, "", optarg);
		options_hide(optarg);
		if (strchr(optarg, '='))
			break;
		fprintf(stderr, "leased: -o wants KEY=VALUE, not '%s'\nTry 'leased --help'.\n", optarg);
		return false;
	case 'V':
		o->action = OPTIONS_VERSION;
		break;
	case 'h':
		o->action = OPTIONS_HELP;
		break;
	default:
		o->action = (enum options_action)(letter - OPTIONS_ONLY_LONG);
		break;
	}
	return true;
}

bool options_parse(struct options *o, int argc, char **argv)
{
	const char *env = getenv("LEASED_CONFIG");
	int letter;

	*o = (struct options){.file = env && env[0] ? env : OPTIONS_DEFAULT_FILE};
	opterr = 0;
	while ((letter = getopt_long(argc, argv, ":c:tTdp:u:vqo:Vh", options_long, NULL)) != -1) {
		if (letter == '?' || letter == ':') {
			options_refuse(argv, letter);
			return false;
		}
		if (!options_one(o, letter))
			return false;
	}
	if (optind < argc) {
		fprintf(stderr, "leased: unexpected argument '%s'\nTry 'leased --help'.\n", argv[optind]);
		return false;
	}
	return true;
}

void options_free(struct options *o)
{
	for (size_t i = 0; i < o->n_sets; i++) {
		secret_wipe(o->sets[i], strlen(o->sets[i]));
		mem_free(o->sets[i]);
	}
	mem_free(o->sets);
	o->sets = NULL;
	o->n_sets = 0;
}

void options_help(void)
{
	printf("Usage: leased [OPTION]...\nA connection-pooling TCP proxy that owns the upstream credentials.\n\n");
	for (size_t i = 0; i < OPTIONS_ROWS; i++) {
		const struct options_row *r = &options_rows[i];
		char word[64];

		snprintf(word, sizeof(word), "--%s%s%s", r->name, r->arg ? " " : "", r->arg ? r->arg : "");
		if (r->letter < OPTIONS_ONLY_LONG)
			printf("  -%c, %-20s %s\n", r->letter, word, r->help);
		else
			printf("      %-20s %s\n", word, r->help);
	}
	printf("\nSignals: TERM and INT end gracefully (a second one at once), QUIT at once, HUP and USR1 reopen logs.\n");
}
