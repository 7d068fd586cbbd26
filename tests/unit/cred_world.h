/* cred_world: what the tests of credentials share: a directory of its own, files and programs in it, one credential that is listened to. */
#ifndef LEASED_TESTS_CRED_WORLD_H
#define LEASED_TESTS_CRED_WORLD_H

#include <sys/stat.h>

#include "base/log.h"
#include "cred/credential.h"
#include "io_help.h"

#define MS     INT64_C(1000)
#define SECOND INT64_C(1000000)

static char dir[64];
static struct credential *cred;
static struct credential_opts opts;
static char path_of[256];

/* What the credential has told. */
static struct {
	int published, refreshed;
	uint64_t number, than;
	enum err why;
	bool final;
} told;

static inline void on_published(void *arg, struct credential *c, struct cred *g)
{
	ck_assert_ptr_eq(arg, &told);
	ck_assert_ptr_eq(c, cred);
	ck_assert_ptr_eq(g, credential_current(c));
	ck_assert_uint_gt(g->number, told.number);
	told.published++;
	told.number = g->number;
	loop_stop(loop);
}

static inline void on_refreshed(void *arg, struct credential *c, uint64_t than, enum err why, bool final)
{
	ck_assert_ptr_eq(arg, &told);
	ck_assert_ptr_eq(c, cred);
	told.refreshed++;
	told.than = than;
	told.why = why;
	told.final = final;
	loop_stop(loop);
}

static const struct credential_events events = {on_published, on_refreshed};

/* A path in the test's directory; good until the next call but three. */
static inline const char *at(const char *name)
{
	static char room[4][256];
	static unsigned turn;
	char *p = room[turn++ % 4];

	snprintf(p, sizeof(room[0]), "%s/%s", dir, name);
	return p;
}

static inline void write_n(const char *name, const char *text, size_t n, int flags)
{
	int fd = open(at(name), O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq((int)write(fd, text, n), (int)n);
	close(fd);
}

/* In place, as an editor that does not care does. */
static inline void write_file(const char *name, const char *text)
{
	write_n(name, text, strlen(text), O_TRUNC);
}

static inline void replace_file(const char *name, const char *text)
{
	write_file(".new", text);
	ck_assert_int_eq(rename(at(".new"), at(name)), 0);
}

static inline size_t read_file(const char *name, char *text, size_t cap)
{
	int fd = open(at(name), O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, cap - 1);

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	return (size_t)n;
}

/* A program of the test; its directory is its first argument. Returns the argv. */
static inline const char *const *script(const char *text)
{
	static char file[256], where[256];
	static const char *argv[] = {file, where, NULL};
	char all[4096];

	snprintf(all, sizeof(all), "#!/bin/sh\ncd \"$1\"\n%s\n", text);
	write_file("program.new", all);
	ck_assert_int_eq(chmod(at("program.new"), 0700), 0);
	ck_assert_int_eq(rename(at("program.new"), at("program")), 0);
	snprintf(file, sizeof(file), "%s", at("program"));
	snprintf(where, sizeof(where), "%s", dir);
	return argv;
}

static inline void start(void)
{
	int before = told.published + told.refreshed;
	const char *why = "";

	cred = credential_new(loop, &opts, &events, &told);
	ck_assert_msg(credential_start(cred, &why) == ERR_OK, "%s", why);
	ck_assert_int_eq(told.published + told.refreshed, before);
}

static inline void wait_generation(uint64_t number)
{
	WAIT_FOR(told.number >= number);
	ck_assert_uint_eq(told.number, number);
}

static inline void check_password(const char *text)
{
	const struct cred *g = credential_current(cred);

	ck_assert_ptr_nonnull(g);
	ck_assert_msg(secret_equal_bytes(g->is.password, text, strlen(text)), "not %s", text);
}

static inline struct credential_view view(void)
{
	struct credential_view v;

	credential_view(cred, &v);
	return v;
}

static inline void cred_set_up(void)
{
	struct log_opts quiet = {.target = LOG_TO_FILE, .level = LOG_LV_DEBUG};

	snprintf(dir, sizeof(dir), "/tmp/leased-cred-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path_of, sizeof(path_of), "%s/log", dir);
	quiet.file = path_of;
	ck_assert_int_eq(log_open(&quiet), ERR_OK);
	ck_assert_int_eq(secret_arena_init(NULL), ERR_OK);
	io_set_up();
	memset(&told, 0, sizeof(told));
	opts = (struct credential_opts){
		.name = "app",
		.strict_permissions = true,
		.debounce_us = 20 * MS,
		.refresh_ratio = 0.7,
		.timeout_us = 5 * SECOND,
		.retries = 1,
		.backoff_initial_us = 10 * MS,
		.backoff_max_us = 50 * MS,
		.backoff_multiplier = 2,
		.cooldown_us = 50 * MS,
		.cooldown_max_us = 400 * MS,
	};
}

static inline void cred_tear_down(void)
{
	char rm[128];
	static char text[1 << 20];

	credential_free(&cred);
	io_tear_down();
	log_close();
	/* Every test's passwords are marked; none may be in a log. */
	read_file("log", text, sizeof(text));
	ck_assert_msg(!strstr(text, "MARK"), "%s", text);
	snprintf(rm, sizeof(rm), "rm -rf %s", dir);
	ck_assert_int_eq(system(rm), 0);
}

#endif
