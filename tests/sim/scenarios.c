/* scenarios: named runs, each the regression of one promise. */
#include <string.h>

#include "run.h"

struct scenario {
	const char *name;
	void (*run)(void);
};

static const struct scenario scenarios[] = {
	{"selftest", selftest_run},
};

int scenarios_run(const char *name)
{
	int n = 0;

	for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
		if (strcmp(name, "all") != 0 && strcmp(name, scenarios[i].name) != 0)
			continue;
		scenarios[i].run();
		n++;
	}
	return n;
}
