/* proc: CPU time and memory of process trees, read from /proc. */
#include <ctype.h>
#include <dirent.h>
#include <string.h>
#include <unistd.h>

#include "lgen.h"

#define WATCHED_MAX 64
#define TREE_DEPTH  20

struct process {
	int pid, parent;
};

static struct process *procs;
static int n_procs;
static int watched[PROC_GROUPS][WATCHED_MAX], n_watched[PROC_GROUPS];

/* What follows the name, which may hold anything, in a stat file; NULL: it is gone. */
static char *stat_read(const char *path, char *buf, int cap)
{
	FILE *f = fopen(path, "r");
	char *p = NULL;

	if (!f)
		return NULL;
	if (fgets(buf, cap, f))
		p = strrchr(buf, ')');
	fclose(f);
	return p && strlen(p) > 2 ? p + 2 : NULL;
}

static void proc_scan(void)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	char path[64], buf[1024], *p;
	int parent;

	n_procs = 0;
	while (d && (e = readdir(d)) != NULL) {
		if (!isdigit((unsigned char)e->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "/proc/%.20s/stat", e->d_name);
		p = stat_read(path, buf, sizeof(buf));
		if (!p || sscanf(p, "%*c %d", &parent) != 1)
			continue;
		procs = realloc(procs, sizeof(*procs) * (size_t)(n_procs + 1));
		if (!procs)
			die("out of memory");
		procs[n_procs++] = (struct process){.pid = atoi(e->d_name), .parent = parent};
	}
	if (d)
		closedir(d);
}

/* Nanoseconds by the scheduler's account of the threads that live. */
static uint64_t threads_ns(int pid)
{
	char path[80];
	unsigned long long v, ns = 0;
	struct dirent *e;
	FILE *f;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	d = opendir(path);
	while (d && (e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%.20s/schedstat", pid, e->d_name);
		f = fopen(path, "r");
		if (f && fscanf(f, "%llu", &v) == 1)
			ns += v;
		if (f)
			fclose(f);
	}
	if (d)
		closedir(d);
	return ns;
}

/* The exact time of its threads; the coarse one of the whole process if threads have gone; its dead children. */
static uint64_t process_ns(int pid)
{
	char path[80], buf[1024], *p;
	unsigned long long user = 0, sys = 0;
	long long child_user = 0, child_sys = 0;
	uint64_t tick_ns = 1000000000u / (uint64_t)sysconf(_SC_CLK_TCK), ns = threads_ns(pid), whole;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	p = stat_read(path, buf, sizeof(buf));
	if (!p || sscanf(p, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %lld %lld", &user, &sys,
			 &child_user, &child_sys) != 4)
		return ns;
	whole = (user + sys) * tick_ns;
	return (whole > ns + 3 * tick_ns ? whole : ns) + (uint64_t)(child_user + child_sys) * tick_ns;
}

static bool is_watched(enum proc_group g, int pid)
{
	for (int hops = 0; hops < TREE_DEPTH && pid > 1; hops++) {
		int i;

		for (i = 0; i < n_watched[g]; i++)
			if (watched[g][i] == pid)
				return true;
		for (i = 0; i < n_procs && procs[i].pid != pid; i++)
			;
		if (i == n_procs)
			return false;
		pid = procs[i].parent;
	}
	return false;
}

uint64_t proc_cpu_ns(enum proc_group g)
{
	uint64_t ns = 0;

	if (n_watched[g] == 0)
		return 0;
	proc_scan();
	for (int i = 0; i < n_procs; i++)
		if (is_watched(g, procs[i].pid))
			ns += process_ns(procs[i].pid);
	return ns;
}

void proc_watch(enum proc_group g, const char *pids)
{
	while (*pids && n_watched[g] < WATCHED_MAX) {
		int pid = atoi(pids);

		if (pid > 0)
			watched[g][n_watched[g]++] = pid;
		pids += strspn(pids, "0123456789");
		pids += strcspn(pids, "0123456789");
	}
}

/* Adds up the KiB that lines of `file` beginning with `name` give. */
static long mem_kib(int pid, const char *file, const char *name)
{
	char path[64], line[256];
	size_t n = strlen(name);
	long sum = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, name, n) == 0)
			sum += atol(line + n);
	if (f)
		fclose(f);
	return sum;
}

void proc_print_mem(void)
{
	long pss = 0, rss = 0, hwm = 0;
	int n = 0;

	proc_scan();
	for (int i = 0; i < n_procs; i++) {
		if (!is_watched(PROC_PROXY, procs[i].pid))
			continue;
		pss += mem_kib(procs[i].pid, "smaps_rollup", "Pss:");
		rss += mem_kib(procs[i].pid, "status", "VmRSS:");
		hwm += mem_kib(procs[i].pid, "status", "VmHWM:");
		n++;
	}
	printf("pss=%ld rss=%ld hwm=%ld procs=%d\n", pss, rss, hwm, n);
}

void proc_ticks(int cpu, unsigned long long *busy, unsigned long long *steal)
{
	char line[256];
	unsigned long long v[8];
	int n;
	FILE *f = fopen("/proc/stat", "r");

	*busy = *steal = 0;
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "cpu%d %llu %llu %llu %llu %llu %llu %llu %llu", &n, v, v + 1, v + 2, v + 3, v + 4,
			   v + 5, v + 6, v + 7) != 9 ||
		    n != cpu)
			continue;
		*busy = v[0] + v[1] + v[2] + v[5] + v[6];
		*steal = v[7];
	}
	if (f)
		fclose(f);
}
