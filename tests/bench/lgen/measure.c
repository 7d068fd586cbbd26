/* measure: times as a histogram, counters, samples at both ends of the measured part, and the line that reports them. */
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "lgen.h"

#define HIST_HALF  32 /* buckets per power of two */
#define HIST_SLOTS (64 * 64)

struct sample {
	uint64_t at_ns, cpu_ns, server_ns, own_ns, done;
	unsigned long long busy, steal;
};

uint64_t n_done, n_errors, n_proto_errors;
static uint64_t hist[HIST_SLOTS], hist_n;
static struct sample first, last;

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void hist_add(uint64_t ns)
{
	unsigned e = ns < 2 * HIST_HALF ? 0 : 58 - (unsigned)__builtin_clzll(ns);
	uint64_t i = e == 0 ? ns : e * HIST_HALF + (ns >> e);

	hist[i < HIST_SLOTS ? i : HIST_SLOTS - 1]++;
	hist_n++;
}

static double hist_percentile_us(double p)
{
	uint64_t want = (uint64_t)(p / 100 * (double)hist_n), sum = 0;

	for (unsigned i = 0; i < HIST_SLOTS && hist_n > 0; i++) {
		unsigned e = i < 2 * HIST_HALF ? 0 : i / HIST_HALF - 1;

		sum += hist[i];
		if (sum > want || sum == hist_n)
			return (double)((uint64_t)(i - e * HIST_HALF) << e) / 1000;
	}
	return 0;
}

static uint64_t own_cpu_ns(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	return (uint64_t)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * 1000000000u +
	       (uint64_t)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) * 1000u;
}

void sample_start(void)
{
	hist_n = 0;
	for (size_t i = 0; i < HIST_SLOTS; i++)
		hist[i] = 0;
	first.own_ns = own_cpu_ns();
	proc_ticks(opts.cpu, &first.busy, &first.steal);
	first.cpu_ns = proc_cpu_ns(PROC_PROXY);
	first.server_ns = proc_cpu_ns(PROC_SERVER);
	first.done = n_done;
	first.at_ns = now_ns();
}

void sample_end(void)
{
	last.at_ns = now_ns();
	last.done = n_done;
	last.cpu_ns = proc_cpu_ns(PROC_PROXY);
	last.server_ns = proc_cpu_ns(PROC_SERVER);
	proc_ticks(opts.cpu, &last.busy, &last.steal);
	last.own_ns = own_cpu_ns();
}

uint64_t sample_start_ns(void)
{
	return first.at_ns;
}

uint64_t sample_start_done(void)
{
	return first.done;
}

/* `units`: of what n_done counts in one of what is reported. */
void report(const char *what, double units)
{
	double secs = (double)(last.at_ns - first.at_ns) / 1e9, n = (double)(last.done - first.done) / units;
	double cpu_us = (double)(last.cpu_ns - first.cpu_ns) / 1e3, tick = 100 / (double)sysconf(_SC_CLK_TCK) / secs;

	if (n <= 0)
		n = 1;
	printf("%s n=%.0f err=%llu perr=%llu sec=%.3f rps=%.0f p50=%.1f p99=%.1f p999=%.1f cpu=%.3f util=%.1f bcpu=%.3f "
	       "busy=%.1f steal=%.1f gen=%.2f\n",
	       what, n, (unsigned long long)n_errors, (unsigned long long)n_proto_errors, secs, n / secs,
	       hist_percentile_us(50), hist_percentile_us(99), hist_percentile_us(99.9), cpu_us / n,
	       cpu_us / 1e4 / secs, (double)(last.server_ns - first.server_ns) / 1e3 / n,
	       (double)(last.busy - first.busy) * tick, (double)(last.steal - first.steal) * tick,
	       (double)(last.own_ns - first.own_ns) / 1e3 / n);
}
