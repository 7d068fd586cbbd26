/* main: options, and what they ask for. */
#include <arpa/inet.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lgen.h"

#define REQUEST_MAX 4096
#define DEPTH_MAX   1000
#define KEY_MAX	    200

struct opts opts = {
	.addr = "127.0.0.1",
	.mode = "fix",
	.kind = "get",
	.key = "key:000000000001",
	.sql = "SELECT 1",
	.user = "bench",
	.db = "bench",
	.conns = 1,
	.depth = 1,
	.req_bytes = 64,
	.resp_bytes = 64,
	.cpu = 1,
	.spread = true,
	.secs = 10,
	.warm_secs = 0.3,
	.bytes = 1 << 30,
};

static int usage(void)
{
	fputs("lgen server -p PORT [-m fix|bulk] [-q REQUEST_BYTES] [-r RESPONSE_BYTES]\n"
	      "lgen ping   -p PORT [-c CONNS] [-d DEPTH] [-R RATE]\n"
	      "lgen churn  -p PORT [-c CONNS]\n"
	      "lgen bulk   -p PORT [-c STREAMS] [-s BYTES_OF_EACH] [-u]           -u: upload\n"
	      "lgen idle   -p PORT [-c CONNS] [-1]                               -1: each asks once\n"
	      "lgen slow   -p PORT -P redis [-c CONNS] [-d VALUES_ASKED_FOR_AT_ONCE]\n"
	      "lgen cpu PID...       CPU nanoseconds of the process trees\n"
	      "lgen mem PID...       memory of the process trees, KiB\n"
	      "lgen wait PORT SECS   waits until something accepts on the port\n"
	      "\n"
	      "-a ADDR  -t SECONDS  -W WARM_UP  -n COUNT (0: only time ends it)  -S (TLS)\n"
	      "-P fix|redis|pg|pgext|pgprep|mysql  -K get|set|ping -N KEY (redis)  -Q SQL  -U USER  -D DATABASE\n"
	      "-w PID,...  the proxy: its CPU time is sampled at the start and the end of the measured part\n"
	      "-x PID,...  the server: likewise\n"
	      "-k CPU      the processor whose time is reported as busy and stolen\n"
	      "-b 0|1      spread the clients' ports over 64 addresses (1)\n"
	      "\n"
	      "One line of key=value pairs is printed.\n",
	      stderr);
	return 2;
}

static enum proto proto_by_name(const char *name)
{
	static const char *const names[] = {
		[PROTO_FIX] = "fix",	 [PROTO_REDIS] = "redis",   [PROTO_PG] = "pg",
		[PROTO_PGEXT] = "pgext", [PROTO_PGPREP] = "pgprep", [PROTO_MYSQL] = "mysql",
	};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return (enum proto)i;
	die("no such protocol: %s", name);
}

/* false: there is no such option. */
static bool option(int ch, const char *v)
{
	/* clang-format off */
	switch (ch) {
	case 'a': opts.addr = v; break;
	case 'p': opts.port = atoi(v); break;
	case 'm': opts.mode = v; break;
	case 'q': opts.req_bytes = atoi(v); break;
	case 'r': opts.resp_bytes = atoi(v); break;
	case 'c': opts.conns = atoi(v); break;
	case 'd': opts.depth = atoi(v); break;
	case 'R': opts.rate = atof(v); break;
	case 'n': opts.count = strtoull(v, NULL, 10); break;
	case 't': opts.secs = atof(v); break;
	case 'W': opts.warm_secs = atof(v); break;
	case 'P': opts.proto = proto_by_name(v); break;
	case 'K': opts.kind = v; break;
	case 'N': opts.key = v; break;
	case 'Q': opts.sql = v; break;
	case 'U': opts.user = v; break;
	case 'D': opts.db = v; break;
	case 'S': opts.tls = true; break;
	case 'w': proc_watch(PROC_PROXY, v); break;
	case 'x': proc_watch(PROC_SERVER, v); break;
	case 'k': opts.cpu = atoi(v); break;
	case 's': opts.bytes = strtoull(v, NULL, 10); break;
	case 'u': opts.upload = true; break;
	case '1': opts.one = true; break;
	case 'b': opts.spread = atoi(v) != 0; break;
	default: return false;
	}
	/* clang-format on */
	return true;
}

static int wait_for_port(int port, int secs)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	uint64_t end = now_ns() + (uint64_t)secs * 1000000000u;

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	while (now_ns() < end) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		bool ok = connect(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0;

		close(fd);
		if (ok)
			return 0;
		usleep(50000);
	}
	return 1;
}

static int measure(const char *mode)
{
	if (strcmp(mode, "server") == 0)
		return server_run();
	if (strcmp(mode, "ping") == 0)
		return ask_run(TASK_PING);
	if (strcmp(mode, "churn") == 0)
		return ask_run(TASK_CHURN);
	if (strcmp(mode, "idle") == 0)
		return ask_run(TASK_IDLE);
	if (strcmp(mode, "slow") == 0)
		return slow_run();
	if (strcmp(mode, "bulk") == 0)
		return bulk_run();
	return usage();
}

int main(int argc, char **argv)
{
	struct rlimit rl;
	const char *mode = argc > 1 ? argv[1] : "";
	int ch;

	signal(SIGPIPE, SIG_IGN);
	getrlimit(RLIMIT_NOFILE, &rl);
	rl.rlim_cur = rl.rlim_max;
	setrlimit(RLIMIT_NOFILE, &rl);
	if (strcmp(mode, "wait") == 0 && argc == 4)
		return wait_for_port(atoi(argv[2]), atoi(argv[3]));
	if (strcmp(mode, "cpu") == 0 || strcmp(mode, "mem") == 0) {
		for (int i = 2; i < argc; i++)
			proc_watch(PROC_PROXY, argv[i]);
		if (mode[0] == 'm')
			proc_print_mem();
		else
			printf("%llu\n", (unsigned long long)proc_cpu_ns(PROC_PROXY));
		return 0;
	}
	optind = 2;
	while ((ch = getopt(argc, argv, "a:p:m:q:r:c:d:R:n:t:W:P:K:N:Q:U:D:Sw:x:k:s:u1b:")) != -1)
		if (!option(ch, optarg))
			return usage();
	if (opts.depth < 1 || opts.depth > DEPTH_MAX || opts.req_bytes < 1 || opts.req_bytes > REQUEST_MAX ||
	    opts.resp_bytes < 1 || strlen(opts.key) > KEY_MAX || opts.conns < 1)
		die("bad numbers");
	if (opts.tls)
		conn_use_tls();
	return measure(mode);
}
