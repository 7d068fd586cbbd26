/* options: the command line of leased. */
#ifndef LEASED_DAEMON_OPTIONS_H
#define LEASED_DAEMON_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

enum options_action {
	OPTIONS_RUN,
	OPTIONS_TEST,	      /* -t */
	OPTIONS_TEST_CONNECT, /* -T */
	OPTIONS_DUMP,	      /* --dump-config */
	OPTIONS_LIMITS,	      /* --limits */
	OPTIONS_SAMPLE,	      /* --print-sample */
	OPTIONS_MAN,	      /* --print-man */
	OPTIONS_VERSION,
	OPTIONS_HELP,
};

struct options {
	enum options_action action;
	const char *file; /* --config, else $LEASED_CONFIG, else OPTIONS_DEFAULT_FILE */
	bool daemonize;
	int verbose; /* -v less -q */
	/* "key=value" of -o, and of -p and -u, which are short for them. */
	char **sets;
	size_t n_sets;
};

#define OPTIONS_DEFAULT_FILE "/etc/leased/leased.conf"

/* false: wrong use; a message has been printed. options_free() in any case. */
bool options_parse(struct options *o, int argc, char **argv);
void options_free(struct options *o); /* wipes the overrides, as one may be a password; may be called again */
void options_help(void);	      /* to stdout */

#endif
