/*
 * replay: runs a fuzz target once over each file named on the command line (or in the directories named there), without
 * libFuzzer, so that the ordinary build replays the corpus in `make check`.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned long replayed;

static void replay_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data = malloc(1 << 20);

	if (!f || !data) {
		perror(path);
		exit(1);
	}
	size_t n = fread(data, 1, 1 << 20, f);
	/* an exact copy, so that a read behind the end is seen by the sanitizers */
	uint8_t *exact = malloc(n ? n : 1);

	if (!exact)
		abort();
	for (size_t i = 0; i < n; i++)
		exact[i] = data[i];
	LLVMFuzzerTestOneInput(exact, n);
	free(exact);
	free(data);
	fclose(f);
	replayed++;
}

static void replay_path(const char *path)
{
	struct stat st;
	char sub[4096];
	struct dirent *e;

	if (stat(path, &st) != 0) {
		perror(path);
		exit(1);
	}
	if (!S_ISDIR(st.st_mode)) {
		replay_file(path);
		return;
	}
	DIR *d = opendir(path);

	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.' && snprintf(sub, sizeof(sub), "%s/%s", path, e->d_name) < (int)sizeof(sub))
			replay_path(sub);
	if (d)
		closedir(d);
}

int main(int argc, char **argv)
{
	LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
	for (int i = 1; i < argc; i++)
		replay_path(argv[i]);
	printf("%s: %lu inputs\n", argv[0], replayed);
	return 0;
}
