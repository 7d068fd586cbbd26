/*
 * lgen: load generator and measuring helper for TCP proxies; what its files know of each other. See usage() in main.c.
 *
 *	main --> ask (ping, churn, idle) | bulk | slow | server | wait
 *	           |        |
 *	           |        +--> conn (one socket, plain or TLS) --> proto (what is said on it)
 *	           +--> measure (samples, percentiles, the line printed) --> proc (CPU time and memory of process trees)
 *
 * One thread, one epoll, one process per measurement. A client that has anything unexpected happen to it counts an error;
 * what makes the measurement meaningless ends the program.
 */
#ifndef LGEN_H
#define LGEN_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

#define die(...)                                                                                                     \
	do {                                                                                                         \
		fprintf(stderr, "lgen: " __VA_ARGS__);                                                               \
		fputc('\n', stderr);                                                                                 \
		exit(1);                                                                                             \
	} while (0)

/* main.c */
enum proto { PROTO_FIX, PROTO_REDIS, PROTO_PG, PROTO_PGEXT, PROTO_PGPREP, PROTO_MYSQL };

struct opts {
	const char *addr, *mode, *kind, *key, *sql, *user, *db;
	enum proto proto;
	int port, conns, depth, req_bytes, resp_bytes, cpu;
	bool tls, one, upload, spread;
	double secs, warm_secs, rate;
	uint64_t count, bytes;
};
extern struct opts opts;

/* measure.c */
extern uint64_t n_done, n_errors, n_proto_errors;
uint64_t now_ns(void);
void hist_add(uint64_t ns);
void sample_start(void);
void sample_end(void);
uint64_t sample_start_ns(void);
uint64_t sample_start_done(void);
void report(const char *what, double units);

/* proc.c */
enum proc_group { PROC_PROXY, PROC_SERVER, PROC_GROUPS };
void proc_watch(enum proc_group g, const char *pids);
uint64_t proc_cpu_ns(enum proc_group g);
void proc_print_mem(void);
/* Ticks one processor has spent working, and has been kept from working by the hypervisor. */
void proc_ticks(int cpu, unsigned long long *busy, unsigned long long *steal);

/* conn.c */
enum phase { CONN_CONNECTING, CONN_TLS, CONN_SHAKE, CONN_PREPARE, CONN_READY, CONN_BUSY, CONN_WAITING };

struct conn {
	int fd;
	enum phase phase;
	SSL *ssl;
	uint64_t since_ns; /* when its request was due (churn: when it connected) */
	int left;	   /* replies still to come */
	uint64_t need;	   /* bytes of the current unit still to skip */
	int state, sub;	   /* of the parser */
	uint8_t head[64];
	int n_head;
	long num;
	struct conn *next;
};

void loop_new(void);
int loop_fd(void);
void loop_watch(int op, int fd, uint32_t events, void *arg);
void conn_use_tls(void);
void conn_dial(struct conn *c);
void conn_start_tls(struct conn *c);
/* 1: done; 0: not yet. */
int conn_shake_tls(struct conn *c);
void conn_close(struct conn *c);
ssize_t conn_read(struct conn *c, void *buf, size_t n);
void conn_write(struct conn *c, const void *buf, size_t n);

/* proto.c */
enum { FEED_LOGGED_IN = -1, FEED_REFUSED = -2 };
size_t proto_request(uint8_t *p, size_t cap);
/* Starts to log in, or makes the connection ready. */
void proto_start(struct conn *c);
/* Sends what has to be prepared once per connection; false: nothing. */
bool proto_prepare(struct conn *c);
void proto_quit(struct conn *c);
/* Eats bytes of the server's; how many whole replies ended in them, or one of the above. */
int proto_feed(struct conn *c, const uint8_t *p, size_t n);

/* ask.c, bulk.c, slow.c, server.c */
enum task { TASK_PING, TASK_CHURN, TASK_IDLE };
int ask_run(enum task task);
int bulk_run(void);
int slow_run(void);
int server_run(void);

#endif
