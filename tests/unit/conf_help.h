/* conf_help: what the tests of conf share: loading with the result kept, dumps, and comparing two trees. */
#ifndef LEASED_TESTS_CONF_HELP_H
#define LEASED_TESTS_CONF_HELP_H

#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/secret.h"
#include "conf/conf.h"
#include "conf/keys.h"
#include "conf/value.h"

#define VECTORS "tests/vectors/conf"
#define POOL	"pools = ( { name = \"p\"; listen = \"127.0.0.1:7001\"; servers = \"127.0.0.1:7002\"; } );\n"

/* The result of the last load of a test. */
static struct conf *conf;
static struct conf_messages errors, warnings;
static enum err result;

static inline void done(void)
{
	conf_free(&conf);
	conf_messages_free(&errors);
	conf_messages_free(&warnings);
}

/* In each test's own process: the arena is not inherited by a fork. */
static inline void begin(void)
{
	static bool made;

	if (!made)
		ck_assert_int_eq(secret_arena_init(NULL), ERR_OK);
	made = true;
}

static inline void load_text(const char *text)
{
	done();
	result = conf_load_text(text, strlen(text), &conf, &errors, &warnings);
	ck_assert_msg((result == ERR_OK) == (conf != NULL), "result and tree disagree");
	ck_assert_msg((result == ERR_OK) == (errors.n == 0), "result and messages disagree");
}

static inline void load_file(const char *file)
{
	done();
	result = conf_load(file, NULL, 0, NULL, &conf, &errors, &warnings);
	ck_assert_msg((result == ERR_OK) == (errors.n == 0), "result and messages disagree");
}

static inline void load_sets(const char *file, const char *const *sets, size_t n)
{
	done();
	result = conf_load(file, sets, n, NULL, &conf, &errors, &warnings);
}

static inline void must_load(const char *what)
{
	ck_assert_msg(result == ERR_OK, "%s: %s", what, errors.n ? errors.v[0] : "?");
}

static inline void must_fail(const char *what, const char *fragment)
{
	ck_assert_msg(result != ERR_OK, "%s: was taken", what);
	for (size_t i = 0; i < errors.n; i++)
		if (strstr(errors.v[i], fragment))
			return;
	ck_abort_msg("%s: no \"%s\" but: %s", what, fragment, errors.v[0]);
}

static inline char *to_text(void (*emit)(FILE *f))
{
	char *text = NULL, *copy;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	emit(f);
	fclose(f);
	copy = strdup(text);
	free(text);
	return copy;
}

static inline char *dump(const struct conf *c)
{
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	conf_emit_dump(c, f);
	fclose(f);
	return text;
}

static inline char *slurp(const char *path)
{
	char *text = NULL, buf[4096];
	size_t n, got;
	FILE *in = fopen(path, "r"), *f = open_memstream(&text, &n);

	ck_assert_msg(in != NULL, "%s is missing", path);
	while ((got = fread(buf, 1, sizeof(buf), in)) > 0)
		fwrite(buf, 1, got, f);
	fclose(in);
	fclose(f);
	return text;
}

/* ---- two trees, compared field by field, without the code that prints them */

static inline bool same_text(const char *a, const char *b)
{
	return (a == NULL) == (b == NULL) && (!a || strcmp(a, b) == 0);
}

static inline bool same_script(const struct conf_script *a, const struct conf_script *b)
{
	bool same = a->n == b->n;

	for (size_t i = 0; same && i < a->n; i++)
		same = same_text(a->v[i].send, b->v[i].send) && same_text(a->v[i].expect, b->v[i].expect) &&
		       same_text(a->v[i].expect_denied, b->v[i].expect_denied) && same_text(a->v[i].end, b->v[i].end);
	return same;
}

static inline bool same_strings(const struct conf_strings *a, const struct conf_strings *b)
{
	bool same = a->n == b->n;

	for (size_t i = 0; same && i < a->n; i++)
		same = same_text(a->v[i], b->v[i]);
	return same;
}

static inline bool same_field(const struct key *k, const void *a, const void *b)
{
	const struct conf_uids *ua = a, *ub = b;

	switch (k->type) {
	case KEY_TYPE_BOOL:
		return *(const bool *)a == *(const bool *)b;
	case KEY_TYPE_MODE:
	case KEY_TYPE_CHOICE:
		return memcmp(a, b, sizeof(int)) == 0;
	case KEY_TYPE_STRING:
		return same_text(*(const char *const *)a, *(const char *const *)b);
	case KEY_TYPE_SCRIPT:
		return same_script(a, b);
	case KEY_TYPE_STRINGS:
		return same_strings(a, b);
	case KEY_TYPE_UIDS:
		return ua->n == ub->n && (ua->n == 0 || memcmp(ua->v, ub->v, ua->n * sizeof(*ua->v)) == 0);
	case KEY_TYPE_SECRET:
		return true; /* never printed */
	default:
		return memcmp(a, b, sizeof(int64_t)) == 0;
	}
}

static inline void must_be_same(enum scope_id id, const void *a, const void *b)
{
	const struct scope *s = scope_get(id);

	for (size_t i = 0; i < s->n; i++)
		ck_assert_msg(same_field(&s->keys[i], (const char *)a + s->keys[i].offset,
					 (const char *)b + s->keys[i].offset),
			      "%s differs", s->keys[i].name);
}

static inline void must_be_same_pool(const struct conf_pool *a, const struct conf_pool *b)
{
	must_be_same(SCOPE_POOL, a, b);
	must_be_same(SCOPE_SERVER, &a->defaults, &b->defaults);
	ck_assert_uint_eq(a->n_listen, b->n_listen);
	for (size_t i = 0; i < a->n_listen; i++)
		must_be_same(SCOPE_LISTENER, &a->listen[i], &b->listen[i]);
	ck_assert_uint_eq(a->n_users, b->n_users);
	for (size_t i = 0; i < a->n_users; i++)
		must_be_same(SCOPE_USER, &a->users[i], &b->users[i]);
	ck_assert_uint_eq(a->n_servers, b->n_servers);
	for (size_t i = 0; i < a->n_servers; i++) {
		must_be_same(SCOPE_SERVER, &a->servers[i], &b->servers[i]);
		ck_assert_str_eq(a->servers[i].address, b->servers[i].address);
	}
}

static inline void must_be_same_tree(const struct conf *a, const struct conf *b)
{
	must_be_same(SCOPE_TOP, a, b);
	must_be_same(SCOPE_ADMIN, &a->admin, &b->admin);
	must_be_same(SCOPE_LOG, &a->log, &b->log);
	must_be_same(SCOPE_LIMITS, &a->limits, &b->limits);
	must_be_same(SCOPE_TCP, &a->tcp, &b->tcp);
	must_be_same(SCOPE_DNS, &a->dns, &b->dns);
	ck_assert_uint_eq(a->n_credentials, b->n_credentials);
	for (size_t i = 0; i < a->n_credentials; i++)
		must_be_same(SCOPE_CREDENTIAL, &a->credentials[i], &b->credentials[i]);
	ck_assert_uint_eq(a->n_pools, b->n_pools);
	for (size_t i = 0; i < a->n_pools; i++)
		must_be_same_pool(&a->pools[i], &b->pools[i]);
}

/* Runs the tests; 0: all passed. */
static inline int run_tests(const char *name, const TTest *const *tests, size_t n)
{
	Suite *s = suite_create(name);
	TCase *tc = tcase_create(name);
	SRunner *r;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, begin, done);
	for (size_t i = 0; i < n; i++)
		tcase_add_test(tc, tests[i]);
	suite_add_tcase(s, tc);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed;
}

#endif
