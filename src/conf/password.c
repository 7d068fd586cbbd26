/* password: reads a password_file; see build.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "conf/build.h"
#include "conf/source.h"

/* What systemd passes with LoadCredential= shows a group's bits where there is only an access list's mask. */
static mode_t password_forbidden_bits(const char *path)
{
	const char *dir = getenv("CREDENTIALS_DIRECTORY");
	size_t n = dir ? strlen(dir) : 0;

	return n && strncmp(path, dir, n) == 0 && path[n] == '/' ? 0007 : 0077;
}

static bool password_refuse(int fd, mode_t forbidden, bool *denied, char why[WHY_MAX])
{
	struct stat st;

	if (fstat(fd, &st) != 0) {
		snprintf(why, WHY_MAX, "%s", strerror(errno));
		return true;
	}
	if (!S_ISREG(st.st_mode)) {
		snprintf(why, WHY_MAX, "is not a regular file");
		return true;
	}
	if (st.st_mode & forbidden) {
		*denied = true;
		snprintf(why, WHY_MAX, "is open to group or others (mode %04o); run chmod 600", st.st_mode & 07777U);
		return true;
	}
	return false;
}

static bool password_take(char *data, size_t n, struct conf_arena *a, struct secret **out, char why[WHY_MAX])
{
	if (n && data[n - 1] == '\n')
		n--;
	if (n == 0 || memchr(data, '\0', n)) {
		snprintf(why, WHY_MAX, n ? "holds a zero byte" : "is empty");
		return false;
	}
	*out = secret_take(data, n);
	if (!*out) {
		snprintf(why, WHY_MAX, "does not fit into locked memory");
		return false;
	}
	conf_arena_own(a, *out);
	return true;
}

/* -1: why says what is wrong. */
static int password_open(const char *path, mode_t forbidden, bool *denied, char why[WHY_MAX])
{
	/* Not blocking: the name may be that of a pipe nobody writes to. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0) {
		*denied = errno == EACCES || errno == EPERM;
		snprintf(why, WHY_MAX, "%s", strerror(errno));
		return -1;
	}
	if (password_refuse(fd, forbidden, denied, why)) {
		close(fd);
		return -1;
	}
	return fd;
}

bool password_may_read(const char *path, bool strict, bool *denied, char why[WHY_MAX])
{
	/* A group may read: that is how others than root are let at a secret that root writes. */
	int fd = password_open(path, strict ? 0027 : 0, denied, why);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

bool password_read(const char *path, struct conf_arena *a, struct secret **out, bool *denied, char why[WHY_MAX])
{
	int fd = password_open(path, password_forbidden_bits(path), denied, why);
	const char *reason;
	char *data;
	size_t n;
	bool ok;

	if (fd < 0)
		return false;
	ok = source_slurp(fd, SECRET_MAX_BYTES, &data, &n, &reason);
	close(fd);
	if (!ok) {
		snprintf(why, WHY_MAX, "%s", reason);
		return false;
	}
	ok = password_take(data, n, a, out, why);
	secret_wipe(data, n);
	mem_free(data);
	return ok;
}
