/* conf_gen: prints what is made from the table of configuration keys: conf_gen sample|man|limits. */
#include <stdio.h>
#include <string.h>

#include "conf/conf.h"

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*emit)(FILE *f);
	} parts[] = {{"sample", conf_emit_sample}, {"man", conf_emit_man}, {"limits", conf_emit_limits}};

	for (size_t i = 0; argc == 2 && i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (strcmp(argv[1], parts[i].name) != 0)
			continue;
		parts[i].emit(stdout);
		return fflush(stdout) != 0;
	}
	fputs("usage: conf_gen sample|man|limits\n", stderr);
	return 2;
}
