/*
 * process: what a daemon does to itself as a process: detach, hide, write its number down, become somebody else.
 */
#ifndef LEASED_DAEMON_PROCESS_H
#define LEASED_DAEMON_PROCESS_H

#include <stdbool.h>

#include "base/err.h"

/* Exit codes (sysexits). */
enum exit_code {
	EXIT_CODE_OK = 0,
	EXIT_CODE_INTERNAL = 1,
	EXIT_CODE_USAGE = 64,
	EXIT_CODE_UNAVAILABLE = 69,
	EXIT_CODE_OS = 71,
	EXIT_CODE_CANT_CREATE = 73,
	EXIT_CODE_IO = 74,
	EXIT_CODE_PERMISSION = 77,
	EXIT_CODE_CONFIG = 78,
};

/* Fills what is missing of the three standard streams with /dev/null, so that no socket or file becomes one of them. */
void process_streams(void);

/*
 * Detaches from the terminal with two forks, before there are threads or secrets. The first process waits and exits
 * with what the daemon reports by process_ready(), or with its exit code if it ends before. Returns in the daemon;
 * *out is then its end of the pipe. The working directory stays, since paths of the configuration may be relative.
 */
enum err process_daemonize(int *out) MUST_CHECK;
void process_ready(int *pipe_fd); /* also gives up the standard streams; -1 is fine; sets -1 */

/* No core dumps, no ptrace by our own user. */
void process_harden(void);

/* Becomes `user`. Nothing happens when we are not root or user is NULL or empty. */
enum err process_drop_to(const char *user) MUST_CHECK;

struct pid_file {
	int fd;
	const char *path; /* NULL: none */
};
/* Opens and locks it; ERR_AGAIN: another process holds it, *other is its number (0: unknown). */
enum err pid_file_open(struct pid_file *p, const char *path, int *other) MUST_CHECK;
enum err pid_file_write(struct pid_file *p) MUST_CHECK;
void pid_file_close(struct pid_file *p);

#endif
