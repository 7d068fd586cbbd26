/*
 * fuzz: addresses. Oracle: a refusal says why; what parses is well formed, and a numeric or Unix address formats to a
 * text that parses to an equal address. The bytes are also taken as a kernel address of any length and formatted.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/addr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int ok)
{
	if (!ok)
		abort();
}

static void check_round_trip(const struct addr_spec *spec)
{
	char text[ADDR_TEXT_MAX];
	struct addr_spec back;

	addr_format(&spec->addr, text, sizeof(text));
	check(addr_parse(text, &back, NULL) == ERR_OK);
	check(back.kind == spec->kind && back.port == spec->port);
	check(addr_equal(&back.addr, &spec->addr) && addr_equal(&spec->addr, &back.addr));
}

static void check_text(const char *text)
{
	struct addr_spec spec;
	const char *why = NULL;

	if (addr_parse(text, &spec, &why) != ERR_OK) {
		check(why != NULL && *why);
		return;
	}
	check(why == NULL);
	check(memchr(spec.host, '\0', sizeof(spec.host)) != NULL);
	if (spec.kind == ADDR_NUMERIC || spec.kind == ADDR_UNIX)
		check_round_trip(&spec);
	else
		check(spec.host[0] && spec.addr.len == 0);
}

static void check_kernel(const uint8_t *data, size_t size)
{
	static const sa_family_t families[] = {AF_INET, AF_INET6, AF_UNIX, AF_UNSPEC};
	char text[ADDR_TEXT_MAX];
	struct addr a;

	memset(&a, 0xff, sizeof(a));
	a.len = (socklen_t)(size < sizeof(a.u) ? size : sizeof(a.u));
	memcpy(&a.u, data, a.len);
	a.u.sa.sa_family = families[data[0] % 4];
	addr_format(&a, text, sizeof(text));
	check(strlen(text) < sizeof(text));
	check(addr_equal(&a, &a) || a.u.sa.sa_family == AF_UNSPEC);
	addr_set_port(&a, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);

	check(text != NULL);
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	check_text(text);
	if (size >= sizeof(sa_family_t))
		check_kernel(data, size);
	free(text);
	return 0;
}
