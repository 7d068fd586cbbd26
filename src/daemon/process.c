#include "daemon/process.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* The leak checker of a sanitizer build traces the process, which a process that can't be dumped forbids. */
#if defined(__SANITIZE_ADDRESS__)
#define PROCESS_TRACEABLE 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define PROCESS_TRACEABLE 1
#endif
#endif

/* What the waiting first process exits with: the byte the daemon sent, else its own exit code. */
static _Noreturn void process_wait(int fd, pid_t child)
{
	unsigned char code = EXIT_CODE_INTERNAL;
	int status = 0;

	waitpid(child, &status, 0);
	if (read(fd, &code, 1) != 1)
		code = EXIT_CODE_INTERNAL;
	_exit(code);
}

void process_streams(void)
{
	int fd;

	/* The lowest free number is what open() gives. */
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

static int process_ready_fd = -1;

/* The daemon ends before it was ready: tell why. */
static void process_exit_report(int code, void *arg)
{
	unsigned char byte = (unsigned char)code;

	(void)arg;
	if (process_ready_fd >= 0 && write(process_ready_fd, &byte, 1) != 1)
		_exit(code);
}

enum err process_daemonize(int *out)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) != 0)
		return ERR_OS;
	pid = fork();
	if (pid < 0)
		return ERR_OS;
	if (pid > 0) {
		close(fds[1]);
		process_wait(fds[0], pid);
	}
	close(fds[0]);
	setsid();
	pid = fork();
	if (pid != 0)
		_exit(pid < 0 ? EXIT_CODE_OS : EXIT_CODE_OK);
	process_ready_fd = fds[1];
	on_exit(process_exit_report, NULL);
	*out = fds[1];
	return ERR_OK;
}

void process_ready(int *pipe_fd)
{
	unsigned char code = EXIT_CODE_OK;
	int null;

	if (*pipe_fd < 0)
		return;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 0; null >= 0 && fd <= 2; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
	process_ready_fd = -1;
	if (write(*pipe_fd, &code, 1) == 1)
		close(*pipe_fd);
	*pipe_fd = -1;
}

void process_harden(void)
{
	struct rlimit none = {0, 0};

	setrlimit(RLIMIT_CORE, &none);
#ifndef PROCESS_TRACEABLE
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
}

enum err process_drop_to(const char *user)
{
	struct passwd *pw;

	if (!user || !user[0] || geteuid() != 0)
		return ERR_OK;
	pw = getpwnam(user);
	if (!pw)
		return ERR_NOT_FOUND;
	if (initgroups(pw->pw_name, pw->pw_gid) != 0 || setgid(pw->pw_gid) != 0 || setuid(pw->pw_uid) != 0)
		return ERR_PERMISSION;
	if (pw->pw_uid != 0 && setuid(0) == 0)
		return ERR_PERMISSION;
	process_harden();
	return ERR_OK;
}

static void pid_file_drop(struct pid_file *p)
{
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}

/* Whether what we have locked still is the file of that name: who held it before may just have removed it. */
static bool pid_file_in_place(const struct pid_file *p)
{
	struct stat ours, there;

	return fstat(p->fd, &ours) == 0 && lstat(p->path, &there) == 0 && ours.st_dev == there.st_dev &&
	       ours.st_ino == there.st_ino;
}

enum err pid_file_open(struct pid_file *p, const char *path, int *other)
{
	char text[32] = "";
	bool locked;
	ssize_t n;

	*p = (struct pid_file){.fd = -1, .path = path && path[0] ? path : NULL};
	*other = 0;
	if (!p->path)
		return ERR_OK;
	do {
		pid_file_drop(p);
		p->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
		if (p->fd < 0)
			return ERR_CANT_CREATE;
		locked = flock(p->fd, LOCK_EX | LOCK_NB) == 0;
	} while (locked && !pid_file_in_place(p));
	if (locked)
		return ERR_OK;
	n = read(p->fd, text, sizeof(text) - 1);
	*other = n > 0 ? atoi(text) : 0;
	pid_file_drop(p);
	return ERR_AGAIN;
}

enum err pid_file_write(struct pid_file *p)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "%d\n", (int)getpid());

	if (p->fd < 0)
		return ERR_OK;
	if (ftruncate(p->fd, 0) != 0 || pwrite(p->fd, text, (size_t)n, 0) != n)
		return ERR_CANT_CREATE;
	return ERR_OK;
}

void pid_file_close(struct pid_file *p)
{
	if (p->fd < 0)
		return;
	/* As another user we may not be allowed to remove it; then it is left empty and unlocked. */
	if (unlink(p->path) != 0 && ftruncate(p->fd, 0) != 0)
		p->path = NULL;
	pid_file_drop(p);
}
