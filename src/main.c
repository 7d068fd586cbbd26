/* leased: a connection-pooling TCP proxy. The command line's actions; the daemon itself is daemon/start.h. */
#include <stdio.h>

#include "conf/conf.h"
#include "daemon/options.h"
#include "daemon/probe.h"
#include "daemon/process.h"
#include "daemon/start.h"
#include "daemon/status.h"
#include "io/version.h"
#include "proto/proto.h"

static int main_version(void)
{
	printf("leased %s\n", LEASED_VERSION);
	printf("libevent %s\n", io_event_version());
	printf("%s\n", io_tls_version());
	printf("libconfig %s\n", conf_library_version());
	printf("jansson %s\n", status_library_version());
	printf("protocols:");
	for (const char *const *n = proto_names(); *n; n++)
		printf(" %s", *n);
#ifdef HAVE_SYSTEMD
	printf("\nfeatures: systemd\n");
#else
	printf("\nfeatures: none\n");
#endif
	return EXIT_CODE_OK;
}

static int main_probe(const struct conf *c)
{
	struct setup *s = setup_new(c);
	enum err e = probe_servers(s, stdout);

	setup_free(&s);
	if (e == ERR_OS)
		fprintf(stderr, "leased: out of descriptors\n");
	if (e == ERR_OS)
		return EXIT_CODE_OS;
	return e == ERR_OK ? EXIT_CODE_OK : EXIT_CODE_UNAVAILABLE;
}

/* The actions that want the configuration but no daemon. */
static int main_check(struct options *o)
{
	struct conf *c;
	int code = start_load(o, &c, NULL);

	if (code != EXIT_CODE_OK)
		return code;
	if (o->action == OPTIONS_DUMP)
		conf_emit_dump(c, stdout);
	else
		printf("leased: configuration %s is valid\n", o->file);
	if (o->action == OPTIONS_TEST_CONNECT)
		code = main_probe(c);
	conf_free(&c);
	return code;
}

static int main_action(struct options *o)
{
	switch (o->action) {
	case OPTIONS_TEST:
	case OPTIONS_TEST_CONNECT:
	case OPTIONS_DUMP:
		return main_check(o);
	case OPTIONS_LIMITS:
		conf_emit_limits(stdout);
		return EXIT_CODE_OK;
	case OPTIONS_SAMPLE:
		conf_emit_sample(stdout);
		return EXIT_CODE_OK;
	case OPTIONS_MAN:
		conf_emit_man(stdout);
		return EXIT_CODE_OK;
	case OPTIONS_VERSION:
		return main_version();
	case OPTIONS_HELP:
		options_help();
		return EXIT_CODE_OK;
	case OPTIONS_RUN:
		break;
	}
	return start_run(o);
}

int main(int argc, char **argv)
{
	struct options o;
	int code;

	process_streams();
	code = options_parse(&o, argc, argv) ? main_action(&o) : EXIT_CODE_USAGE;
	options_free(&o);
	return code;
}
