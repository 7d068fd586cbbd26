/* proc_help: what /proc says of this process: where in its memory a text is, and what it watches. */
#ifndef LEASED_TESTS_PROC_HELP_H
#define LEASED_TESTS_PROC_HELP_H

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/secret.h"

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || __has_feature(address_sanitizer) ||             \
	__has_feature(thread_sanitizer)
static const bool sanitized = true; /* there are shadows and quarantines of what was freed */
#else
static const bool sanitized = false;
#endif

static inline bool memory_has(const char *p, size_t n, const char *what)
{
	return memmem(p, n, what, strlen(what)) != NULL;
}

/* How many mappings that others can read contain the text that both halves make together. */
static inline int mappings_with(const char *first, const char *second)
{
	static char page[1 << 16];
	int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC), found = 0;
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512], want[64];
	unsigned long from, to;

	snprintf(want, sizeof(want), "%s%s", first, second);
	while (fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx r", &from, &to) != 2 || strstr(line, "[v"))
			continue;
		for (unsigned long p = from; p < to; p += sizeof(page) / 2) {
			ssize_t got = pread(mem, page, to - p < sizeof(page) ? to - p : sizeof(page), (off_t)p);

			/* Not where we look from. */
			if (got > 0 && memory_has(page, (size_t)got, want) &&
			    !(p <= (unsigned long)want && (unsigned long)want < p + sizeof(page)) &&
			    !(p < (unsigned long)page + sizeof(page) && (unsigned long)page < p + sizeof(page)))
				found++;
		}
		secret_wipe(page, sizeof(page));
	}
	fclose(maps);
	close(mem);
	return found;
}

/* Watches of all inotify descriptors. */
static inline int inotify_watches(void)
{
	DIR *d = opendir("/proc/self/fdinfo");
	struct dirent *e;
	char path[300], line[512];
	int n = 0;

	while ((e = readdir(d)) != NULL) {
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/fdinfo/%s", e->d_name);
		f = e->d_name[0] == '.' ? NULL : fopen(path, "re");
		while (f && fgets(line, sizeof(line), f))
			n += strncmp(line, "inotify ", 8) == 0;
		if (f)
			fclose(f);
	}
	closedir(d);
	return n;
}

#endif
