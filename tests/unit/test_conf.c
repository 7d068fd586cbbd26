/* conf: the table of keys, broken and good configurations, includes, overrides, secrets, and what is made from the table. */
#include <check.h>
#include <dirent.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/units.h"
#include "conf/build.h"
#include "conf/conf.h"
#include "conf/keys.h"
#include "conf/value.h"

#define VECTORS "tests/vectors/conf"
#define POOL "pools = ( { name = \"p\"; listen = \"127.0.0.1:7001\"; servers = \"127.0.0.1:7002\"; } );\n"

/* The result of the last load of a test. */
static struct conf *conf;
static struct conf_messages errors, warnings;
static enum err result;
static char dir[] = "/tmp/test_conf.XXXXXX";

static void done(void)
{
	conf_free(&conf);
	conf_messages_free(&errors);
	conf_messages_free(&warnings);
}

/* In each test's own process: the arena is not inherited by a fork. */
static void begin(void)
{
	static bool made;

	if (!made)
		ck_assert_int_eq(secret_arena_init(NULL), ERR_OK);
	made = true;
}

static void load_text(const char *text)
{
	done();
	result = conf_load_text(text, strlen(text), &conf, &errors, &warnings);
	ck_assert_msg((result == ERR_OK) == (conf != NULL), "result and tree disagree");
	ck_assert_msg((result == ERR_OK) == (errors.n == 0), "result and messages disagree");
}

static void load_file(const char *file)
{
	done();
	result = conf_load(file, NULL, 0, NULL, &conf, &errors, &warnings);
	ck_assert_msg((result == ERR_OK) == (errors.n == 0), "result and messages disagree");
}

static void load_sets(const char *file, const char *const *sets, size_t n)
{
	done();
	result = conf_load(file, sets, n, NULL, &conf, &errors, &warnings);
}

static void must_load(const char *what)
{
	ck_assert_msg(result == ERR_OK, "%s: %s", what, errors.n ? errors.v[0] : "?");
}

static void must_fail(const char *what, const char *fragment)
{
	ck_assert_msg(result != ERR_OK, "%s: was taken", what);
	for (size_t i = 0; i < errors.n; i++)
		if (strstr(errors.v[i], fragment))
			return;
	ck_abort_msg("%s: no \"%s\" but: %s", what, fragment, errors.v[0]);
}

static char *to_text(void (*emit)(FILE *f))
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

static char *dump(const struct conf *c)
{
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	conf_emit_dump(c, f);
	fclose(f);
	return text;
}

static char *slurp(const char *path)
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

static const char *write_file(const char *name, const char *text, mode_t mode)
{
	static char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	fclose(f);
	chmod(path, mode);
	return path;
}

/* ---- the table */

/* A configuration that sets one key, with what else the key needs to stand alone. */
static char *config_with(const struct key *k, const char *literal)
{
	const struct scope *s = scope_get(k->scope);

	switch (k->scope) {
	case SCOPE_TOP:
		return mem_printf("%s = %s;\n" POOL, k->name, literal);
	case SCOPE_ADMIN:
		return mem_printf("admin = { %s%s = %s; };\n" POOL,
				  strcmp(k->name, "listen") == 0 ? "" : "listen = \"unix:/x\"; ", k->name, literal);
	case SCOPE_CREDENTIAL:
		return mem_printf("credentials = ( { %s%s = %s; } );\n" POOL,
				  key_required(k) ? "" : "name = \"c\"; ", k->name, literal);
	case SCOPE_LISTENER:
		return mem_printf("pools = ( { name = \"p\"; servers = \"127.0.0.1:2\"; listen = { %s%s = %s; }; } );",
				  key_required(k) ? "" : "address = \"unix:/x\"; ", k->name, literal);
	case SCOPE_SERVER:
		return mem_printf("pools = ( { name = \"p\"; listen = \"127.0.0.1:1\"; servers = { address = \"127.0.0.1:2\";"
				  "%s%s%s %s = %s; }; } );",
				  strcmp(k->name, "max_size") == 0 ? "" : "max_size = 100000; ",
				  strcmp(k->name, "backoff_initial") == 0 ? "" : "backoff_initial = \"1ms\"; ",
				  strcmp(k->name, "backoff_max") == 0 ? "" : "backoff_max = \"1d\"; ", k->name, literal);
	case SCOPE_POOL:
		return mem_printf("pools = ( { %slisten = \"127.0.0.1:1\"; servers = \"127.0.0.1:2\"; %s = %s; } );",
				  key_required(k) ? "" : "name = \"p\"; ", k->name, literal);
	default:
		return mem_printf("%s = { %s = %s; };\n" POOL, s->name, k->name, literal);
	}
}

static const void *base_of(const struct key *k)
{
	const void *bases[SCOPE_COUNT] = {
		[SCOPE_TOP] = conf, [SCOPE_ADMIN] = &conf->admin, [SCOPE_LOG] = &conf->log,
		[SCOPE_LIMITS] = &conf->limits, [SCOPE_TCP] = &conf->tcp, [SCOPE_DNS] = &conf->dns,
		[SCOPE_CREDENTIAL] = conf->credentials, [SCOPE_LISTENER] = conf->pools[0].listen,
		[SCOPE_SERVER] = conf->pools[0].servers, [SCOPE_POOL] = conf->pools,
	};

	return bases[k->scope];
}

static void load_with(const struct key *k, const char *literal)
{
	char *text = config_with(k, literal);

	load_text(text);
	mem_free(text);
}

static bool is_integral(const struct key *k)
{
	return k->type == KEY_TYPE_INT || k->type == KEY_TYPE_DURATION || k->type == KEY_TYPE_SIZE ||
	       k->type == KEY_TYPE_MODE;
}

/* The bound as a number, read without the code under test. */
static double number_of(const struct key *k, const char *text)
{
	int64_t n;

	if (k->type == KEY_TYPE_DURATION)
		ck_assert_int_eq(duration_parse(text, &n), ERR_OK);
	else if (k->type == KEY_TYPE_SIZE)
		ck_assert_int_eq(size_parse(text, &n), ERR_OK);
	else if (k->type == KEY_TYPE_FLOAT)
		return strtod(text, NULL);
	else
		n = strtoll(text, NULL, k->type == KEY_TYPE_MODE ? 8 : 10);
	return (double)n;
}

static void literal_of(const struct key *k, double value, char *out, size_t cap)
{
	if (k->type == KEY_TYPE_INT)
		snprintf(out, cap, "%.0f", value);
	else if (k->type == KEY_TYPE_DURATION)
		snprintf(out, cap, "\"%.0fus\"", value);
	else if (k->type == KEY_TYPE_SIZE)
		snprintf(out, cap, "\"%.0f\"", value);
	else if (k->type == KEY_TYPE_MODE && value >= 0)
		snprintf(out, cap, "\"%o\"", (unsigned int)value);
	else if (k->type == KEY_TYPE_MODE)
		snprintf(out, cap, "\"-1\"");
	else
		snprintf(out, cap, "%.12f", value);
}

static double value_of(const struct key *k)
{
	const void *field = (const char *)base_of(k) + k->offset;

	if (k->type == KEY_TYPE_FLOAT)
		return *(const double *)field;
	if (k->type == KEY_TYPE_MODE)
		return *(const unsigned int *)field;
	return (double)*(const int64_t *)field;
}

static void check_bound(const struct key *k, const char *bound, int beyond)
{
	double value = number_of(k, bound), step = is_integral(k) ? 1 : 1e-9;
	char literal[64];

	literal_of(k, value, literal, sizeof(literal));
	load_with(k, literal);
	must_load(k->name);
	ck_assert_msg(fabs(value_of(k) - value) < 1e-12, "%s = %s became %f", k->name, literal, value_of(k));
	literal_of(k, value + beyond * step, literal, sizeof(literal));
	load_with(k, literal);
	must_fail(k->name, k->name);
	ck_assert_msg(errors.n == 1, "%s: %s", k->name, errors.v[1]);
	/* There are no negative durations and modes, so these are no values at all. */
	if (value > 0 || beyond > 0 || k->type == KEY_TYPE_INT || k->type == KEY_TYPE_FLOAT)
		must_fail(k->name, "must be between");
}

static void each_key(void (*visit)(const struct key *k))
{
	for (enum scope_id id = 0; id < SCOPE_COUNT; id++)
		for (size_t i = 0; i < scope_get(id)->n; i++)
			visit(&scope_get(id)->keys[i]);
	done();
}

static void visit_bounds(const struct key *k)
{
	bool ordered = is_integral(k) || k->type == KEY_TYPE_FLOAT;

	ck_assert_msg(ordered == (*k->min && *k->max), "%s: a number without a limit, or a limit without a number", k->name);
	if (!ordered)
		return;
	check_bound(k, k->min, -1);
	check_bound(k, k->max, 1);
}

START_TEST(test_bounds)
{
	each_key(visit_bounds);
}
END_TEST

static bool takes(enum key_type t, const char *literal)
{
	bool string = literal[0] == '"', integer = strcmp(literal, "5") == 0;

	switch (t) {
	case KEY_TYPE_BOOL:
		return literal[0] == 't';
	case KEY_TYPE_INT:
		return integer;
	case KEY_TYPE_FLOAT:
		return integer || strcmp(literal, "0.5") == 0;
	case KEY_TYPE_SIZE:
	case KEY_TYPE_MODE:
		return integer;
	case KEY_TYPE_DURATION:
	case KEY_TYPE_CHOICE:
		return false;
	case KEY_TYPE_STRING:
	case KEY_TYPE_SECRET:
		return string;
	case KEY_TYPE_SCRIPT:
		return strcmp(literal, "()") == 0;
	case KEY_TYPE_STRINGS:
		return string || strcmp(literal, "()") == 0;
	default:
		return integer || strcmp(literal, "()") == 0;
	}
}

static void visit_types(const struct key *k)
{
	static const char *const literals[] = {"true", "5", "0.5", "\"~\"", "()", "( ( ) )", "{ a = 1; }"};

	for (size_t i = 0; i < sizeof(literals) / sizeof(literals[0]); i++) {
		load_with(k, literals[i]);
		if (takes(k->type, literals[i])) {
			/* Of the right type; whether it makes sense is another question. */
			for (size_t j = 0; j < errors.n; j++)
				ck_assert_msg(!strstr(errors.v[j], "expected"), "%s = %s: %s", k->name, literals[i],
					      errors.v[j]);
			continue;
		}
		must_fail(literals[i], k->name);
		ck_assert_msg(errors.n == 1, "%s = %s: %s", k->name, literals[i], errors.v[1]);
	}
}

START_TEST(test_types)
{
	each_key(visit_types);
}
END_TEST

/* The default as printed is taken, and means the default. */
static void visit_default(const struct key *k)
{
	const struct scope *s = scope_get(k->scope);
	struct conf_arena *arena = conf_arena_new();
	char *base = conf_arena_alloc(arena, s->size), literal[256] = "", again[256] = "";
	FILE *f = fmemopen(literal, sizeof(literal), "w");

	value_defaults(s, base, arena);
	value_print(k, base + k->offset, f);
	fclose(f);
	if (!key_required(k)) {
		load_with(k, literal);
		must_load(k->name);
		f = fmemopen(again, sizeof(again), "w");
		value_print(k, (const char *)base_of(k) + k->offset, f);
		fclose(f);
		ck_assert_str_eq(literal, again);
	}
	conf_arena_free(&arena);
}

START_TEST(test_defaults_as_written)
{
	each_key(visit_default);
}
END_TEST

static void visit_row(const struct key *k)
{
	size_t n = strlen(k->help);

	ck_assert_msg(n > 5 && k->help[n - 1] == '.', "%s: help is no sentence", k->name);
	ck_assert_msg((k->type == KEY_TYPE_CHOICE) == (*k->choices != '\0'), "%s: choices", k->name);
	ck_assert_uint_le(scope_get(k->scope)->n, KEYS_MAX);
	/* A pool's group takes both scopes' keys. */
	if (k->scope == SCOPE_SERVER)
		ck_assert_ptr_null(scope_find(scope_get(SCOPE_POOL), k->name));
	ck_assert_ptr_eq(scope_find(scope_get(k->scope), k->name), k);
}

START_TEST(test_rows)
{
	each_key(visit_row);
}
END_TEST

/* Proves: C6 */
START_TEST(test_address_alone)
{
	load_text("pools = ( { name = \"p\"; listen = \"127.0.0.1:1\"; servers = { address = \"127.0.0.1:2\"; }; } );");
	must_load("a server with an address only");
	ck_assert_int_eq(conf->pools[0].servers[0].max_size, 10);
	ck_assert_int_eq(conf->pools[0].servers[0].connect_timeout_us, 5000000);
	ck_assert_int_eq(conf->pools[0].servers[0].max_rps, 0);
	ck_assert_int_eq(conf->pools[0].servers[0].where.port, 2);
	ck_assert_int_eq(conf->pools[0].lease_timeout_us, 10000000);
	ck_assert_int_eq(conf->limits.max_clients, 1000);
	ck_assert(!conf->limits.max_clients_given);
}
END_TEST

START_TEST(test_inheritance)
{
	load_text("limits = { max_clients = 1000; };"
		  "pools = ( { name = \"p\"; listen = \"127.0.0.1:1\"; max_size = 7; connect_timeout = \"1s\"; max_size_x = 1; } );");
	must_fail("unknown", "max_size_x");
	load_text("limits = { max_clients = 1000; };"
		  "pools = ( { name = \"p\"; listen = \"127.0.0.1:1\"; max_size = 7; connect_timeout = \"1s\";"
		  "servers = ( \"127.0.0.1:2\", { address = \"127.0.0.1:3\"; max_size = 9; } ); } );");
	must_load("inheritance");
	ck_assert(conf->limits.max_clients_given);
	ck_assert_int_eq(conf->pools[0].servers[0].max_size, 7);
	ck_assert_int_eq(conf->pools[0].servers[1].max_size, 9);
	ck_assert_int_eq(conf->pools[0].servers[1].connect_timeout_us, 1000000);
	ck_assert_int_eq(conf->pools[0].defaults.max_size, 7);
}
END_TEST

/* ---- broken and good files */

/* "# expect: PLACE: text ... text": PLACE is a line, "-" for none, or "file:line" of an included file. */
static bool expectation_met(const char *path, const char *expect)
{
	char place[256], prefix[512], fragment[512];
	const char *colon = strstr(expect, ": ");

	snprintf(place, sizeof(place), "%.*s", (int)(colon - expect), expect);
	if (strcmp(place, "-") == 0)
		snprintf(prefix, sizeof(prefix), "%s: ", path);
	else if (strchr(place, ':'))
		snprintf(prefix, sizeof(prefix), VECTORS "/bad/%s: ", place);
	else
		snprintf(prefix, sizeof(prefix), "%s:%s: ", path, place);
	for (size_t i = 0; i < errors.n; i++) {
		const char *rest = colon + 2;
		bool all = strncmp(errors.v[i], prefix, strlen(prefix)) == 0;

		while (all && *rest) {
			size_t n = strstr(rest, " ... ") ? (size_t)(strstr(rest, " ... ") - rest) : strlen(rest);

			snprintf(fragment, sizeof(fragment), "%.*s", (int)n, rest);
			all = strstr(errors.v[i], fragment) != NULL;
			rest += n + (rest[n] ? 5 : 0);
		}
		if (all)
			return true;
	}
	return false;
}

static void check_bad(const char *path)
{
	char *text = slurp(path), *save = NULL;
	size_t expected = 0;

	load_file(path);
	ck_assert_msg(result != ERR_OK, "%s was taken", path);
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (strncmp(line, "# expect: ", 10) != 0)
			continue;
		expected++;
		ck_assert_msg(expectation_met(path, line + 10), "%s: expected \"%s\", got \"%s\"", path, line + 10,
			      errors.v[0]);
	}
	ck_assert_msg(expected > 0 && errors.n == expected, "%s: %zu messages, the last: %s", path, errors.n,
		      errors.v[errors.n - 1]);
	free(text);
}

static size_t each_file(const char *folder, void (*visit)(const char *path))
{
	char path[512];
	DIR *d = opendir(folder);
	struct dirent *e;
	size_t n = 0;

	ck_assert_ptr_nonnull(d);
	while ((e = readdir(d)) != NULL) {
		size_t len = strlen(e->d_name);

		if (len < 6 || strcmp(e->d_name + len - 5, ".conf") != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
		visit(path);
		n++;
	}
	closedir(d);
	done();
	return n;
}

/* Proves: E18 */
START_TEST(test_bad_files)
{
	ck_assert_uint_ge(each_file(VECTORS "/bad", check_bad), 70);
}
END_TEST

/* Comment lines hold what a dump may not: whether a password is set. */
static void drop_comments(char *text)
{
	char *out = text;

	for (char *line = text, *next; *line; line = next) {
		size_t n = strcspn(line, "\n"), blank = strspn(line, "\t ");

		next = line + n + (line[n] == '\n');
		if (line[blank] == '#')
			continue;
		memmove(out, line, (size_t)(next - line));
		out += next - line;
	}
	*out = '\0';
}

/* Proves: C31 */
static void check_good(const char *path)
{
	char *before, *after;

	load_file(path);
	must_load(path);
	before = dump(conf);
	load_text(before);
	must_load(path);
	after = dump(conf);
	drop_comments(before);
	drop_comments(after);
	ck_assert_str_eq(before, after);
	free(before);
	free(after);
}

START_TEST(test_good_files)
{
	ck_assert_uint_ge(each_file(VECTORS "/good", check_good), 7);
}
END_TEST

START_TEST(test_escapes)
{
	const struct conf_step *st;

	load_file(VECTORS "/good/escapes.conf");
	must_load("escapes");
	st = conf->pools[0].login.v;
	ck_assert_uint_eq(conf->pools[0].login.n, 3);
	ck_assert_str_eq(st[0].send, "a\"b\\c\td\re\nf\fg\x01\x7f\xff\\q");
	ck_assert_str_eq(st[0].expect, "\\*ok\\?");
	ck_assert_str_eq(st[0].end, "");
	ck_assert_str_eq(st[1].expect, "two parts\nand a line");
	ck_assert_ptr_null(st[1].send);
	ck_assert_str_eq(st[2].send, "# not a comment // nor this /* nor that */ @include \"x\"");
	ck_assert_int_eq(st[2].pos.line, 10);
}
END_TEST

START_TEST(test_values)
{
	load_file(VECTORS "/good/units.conf");
	must_load("units");
	ck_assert_int_eq(conf->workers, 2);
	ck_assert_int_eq(conf->shutdown_timeout_us, 0);
	ck_assert_int_eq(conf->log.stats_interval_us, INT64_C(5400000000));
	ck_assert_int_eq(conf->log.target, LOG_TO_FILE);
	ck_assert_int_eq(conf->limits.max_upstream, -1);
	ck_assert_int_eq(conf->pools[0].buffer_size_bytes, 65536);
	ck_assert_int_eq(conf->pools[0].quiet_time_us, 1);
	ck_assert_double_eq(conf->pools[0].servers[0].max_age_jitter, 0.1);
	load_file(VECTORS "/good/ten-lines.conf");
	must_load("ten lines");
	ck_assert_uint_eq(conf->pools[0].listen[1].mode, 0660);
	ck_assert_uint_eq(conf->pools[0].listen[0].mode, 0666);
	ck_assert_int_eq(conf->pools[0].listen[1].where.kind, ADDR_UNIX);
	ck_assert_int_eq(conf->pools[0].listen[1].uid, -1);
	ck_assert_int_eq(conf->pools[0].listen[0].pos.line, 5);
	ck_assert_int_eq(conf->pools[0].servers[1].max_size, 20);
	load_file(VECTORS "/good/addresses.conf");
	must_load("addresses");
	ck_assert_uint_eq(conf->pools[1].listen[0].allow_uid.n, 2);
	ck_assert_uint_eq(conf->pools[1].listen[0].allow_uid.v[1], 65534);
	ck_assert_uint_eq(conf->dns.nameservers.n, 4);
	ck_assert_uint_eq(warnings.n, 1);
	ck_assert_ptr_nonnull(strstr(warnings.v[0], "warning: unbounded:"));
}
END_TEST

/* ---- reading files */

START_TEST(test_includes)
{
	load_file(VECTORS "/good/includes.conf");
	must_load("includes");
	ck_assert_int_eq(conf->workers, 1);
	ck_assert_int_eq(conf->shutdown_timeout_us, 7000000);
	ck_assert_str_eq(conf->pools[0].pos.file, VECTORS "/good/conf.d/pool.inc");
	ck_assert_int_eq(conf->pools[0].pos.line, 1);
}
END_TEST

START_TEST(test_unreadable)
{
	char *big = mem_alloc(11 * 1024 * 1024);

	load_file(dir);
	must_fail("directory", "is a directory");
	load_file("/dev/zero");
	must_fail("device", "is not a regular file");
	load_file("/nonexistent/leased.conf");
	must_fail("absent", "/nonexistent/leased.conf: No such file or directory");
	ck_assert_int_eq(result, ERR_CONFIG);
	memset(big, ' ', 11 * 1024 * 1024 - 1);
	load_file(write_file("big.conf", big, 0600));
	must_fail("big", "is larger than 10 MB");
	mem_free(big);
	if (geteuid() != 0) {
		load_file(write_file("secret.conf", POOL, 0));
		must_fail("unreadable", "Permission denied");
		ck_assert_int_eq(result, ERR_PERMISSION);
	}
}
END_TEST

START_TEST(test_text_only)
{
	done();
	result = conf_load_text("workers = 1;\0\n", 14, &conf, &errors, &warnings);
	must_fail("zero byte", "(text):1: zero byte; is this a text file?");
	load_text("@include \"/etc/passwd\"\n");
	must_fail("include", "(text):1: @include is not possible here");
	load_text("\n\n  @include \"x\"\n");
	must_fail("include", "(text):3:");
}
END_TEST

/* ---- overrides */

/* Proves: E22 */
START_TEST(test_sets)
{
	const char *const sets[] = {
		"shutdown_timeout=5s", "log.level=debug", "tcp.keepalive=false", "pools.p.max_size=20", "limits.max_clients=7",
		"pools.p.lease_on=first_byte", "admin.listen=unix:/x=y", "admin.mode=0640", "pools.p.backoff_jitter=0.25",
		"pools.p.listen=127.0.0.1:9", "dns.nameservers=10.0.0.53", "pools.p.lease_timeout=0",
		"pools.p.lease_timeout=1m",
	};

	load_sets(write_file("sets.conf", "shutdown_timeout = \"1s\";\n" POOL, 0600), sets, sizeof(sets) / sizeof(sets[0]));
	must_load("sets");
	ck_assert_int_eq(conf->shutdown_timeout_us, 5000000);
	ck_assert_int_eq(conf->log.level, LOG_LV_DEBUG);
	ck_assert(!conf->tcp.keepalive);
	ck_assert(conf->limits.max_clients_given);
	ck_assert_int_eq(conf->pools[0].servers[0].max_size, 20);
	ck_assert_int_eq(conf->pools[0].lease_on, 1);
	ck_assert_str_eq(conf->admin.listen, "unix:/x=y");
	ck_assert_uint_eq(conf->admin.mode, 0640);
	ck_assert_double_eq(conf->pools[0].servers[0].backoff_jitter, 0.25);
	ck_assert_int_eq(conf->pools[0].listen[0].where.port, 9);
	ck_assert_uint_eq(conf->dns.nameservers.n, 1);
	ck_assert_int_eq(conf->pools[0].lease_timeout_us, 60000000);
}
END_TEST

START_TEST(test_bad_sets)
{
	static const struct {
		const char *set, *message;
	} rows[] = {
		{"workers", "-o: workers: expected key=value"},
		{"=1", "-o: =1: expected key=value"},
		{"workers=many", "-o: workers: expected an integer, got a string"},
		{"workers=65", "-o: workers: must be between 0 and 64, got 65"},
		{"wokers=1", "-o: wokers: unknown key (did you mean \"workers\"?)"},
		{"log.levle=debug", "-o: log.levle: unknown key (did you mean \"level\"?)"},
		{"lgo.level=debug", "-o: lgo.level: no such group (did you mean \"log\"?)"},
		{"shutdown_timeout=5", "-o: shutdown_timeout: \"5\" has no unit (did you mean \"5s\"?)"},
		{"tcp.keepalive=yes", "-o: tcp.keepalive: expected true or false, got a string"},
		{"pools.q.max_size=5", "-o: pools.q.max_size: no pool is called \"q\""},
		{"pools.max_size=5", "-o: pools.max_size: expected a name and a key, such as pools.NAME.max_size"},
		{"pools.p.max_siez=5", "-o: max_siez: unknown key (did you mean \"max_size\"?)"},
		{"credentials.c.username=x", "-o: credentials.c.username: no credential is called \"c\""},
		{"pools.p.login=PING", "-o: login: expected a list of steps"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		load_sets(write_file("sets.conf", POOL, 0600), &rows[i].set, 1);
		must_fail(rows[i].set, rows[i].message);
		ck_assert_uint_eq(errors.n, 1);
	}
}
END_TEST

/* ---- secrets */

static void load_password_file(const char *content, mode_t mode)
{
	write_file("c.password", content, mode);
	load_file(write_file("c.conf", "credentials = ( { name = \"c\"; password_file = \"c.password\"; } );\n" POOL, 0600));
}

START_TEST(test_password_file)
{
	char *text;

	load_password_file("MARKED-PASSWORD-2\n", 0600);
	must_load("password file");
	ck_assert_uint_eq(warnings.n, 0);
	ck_assert(secret_equal_bytes(conf->credentials[0].password, "MARKED-PASSWORD-2", 17));
	text = dump(conf);
	ck_assert_ptr_null(strstr(text, "MARKED"));
	ck_assert_ptr_nonnull(strstr(text, "# password = (set)"));
	ck_assert_ptr_nonnull(strstr(text, "password_file = \"c.password\""));
	free(text);
	load_password_file("two\n\n", 0400);
	must_load("one newline is taken off");
	ck_assert(secret_equal_bytes(conf->credentials[0].password, "two\n", 4));
	load_password_file("\n", 0600);
	must_fail("empty", "is empty");
	ck_assert_int_eq(result, ERR_CONFIG);
}
END_TEST

START_TEST(test_password_file_modes)
{
	static const mode_t modes[] = {0640, 0604, 0660, 0644, 0620, 0610};

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		load_password_file("x", modes[i]);
		must_fail("mode", "c.conf:1: password_file:");
		must_fail("mode", "is open to group or others");
		ck_assert_int_eq(result, ERR_PERMISSION);
	}
	/* systemd's own folder: an access list shows as a group's bits. */
	setenv("CREDENTIALS_DIRECTORY", dir, 1);
	load_password_file("x", 0440);
	must_load("credentials directory");
	load_password_file("x", 0444);
	must_fail("credentials directory", "is open to group or others");
	unsetenv("CREDENTIALS_DIRECTORY");
	/* Another mistake beside it makes it a broken configuration. */
	write_file("c.password", "x", 0644);
	load_file(write_file("c.conf", "workers = 65;\ncredentials = ( { name = \"c\"; password_file = \"c.password\"; } );\n" POOL,
			     0600));
	ck_assert_uint_eq(errors.n, 2);
	ck_assert_int_eq(result, ERR_CONFIG);
}
END_TEST

START_TEST(test_password_inline)
{
	char *text;

	load_file(VECTORS "/good/credentials.conf");
	must_load("inline");
	ck_assert(secret_equal_bytes(conf->credentials[1].password, "MARKED-PASSWORD-1", 17));
	ck_assert_ptr_null(conf->credentials[0].password);
	ck_assert_ptr_eq(conf->pools[0].credential, &conf->credentials[1]);
	ck_assert_ptr_null(conf->pools[1].credential);
	ck_assert_uint_eq(warnings.n, 1);
	ck_assert_ptr_nonnull(strstr(warnings.v[0], "credentials.conf:3: warning: password: a secret in a configuration file"));
	text = dump(conf);
	ck_assert_ptr_null(strstr(text, "MARKED"));
	free(text);
}
END_TEST

/* The words of a message never hold the value of a secret. */
START_TEST(test_password_not_in_messages)
{
	load_text("credentials = ( { name = \"c\"; password = \"MARKED-PASSWORD-3\"; password_file = \"x\"; } );" POOL);
	must_fail("both", "write only one");
	for (size_t i = 0; i < errors.n; i++)
		ck_assert_ptr_null(strstr(errors.v[i], "MARKED"));
}
END_TEST

/* ---- messages */

START_TEST(test_messages)
{
	char text[64 * 100] = "";

	for (int i = 0; i < 60; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "zzzzz%c%c = 1;\n", 'a' + i % 26, 'a' + i / 26);
	load_text(text);
	ck_assert_uint_eq(errors.n, CONF_MESSAGES_MAX);
	ck_assert_str_eq(errors.v[0], "(text):1: zzzzzaa: unknown key");
	ck_assert_str_eq(errors.v[49], "(text):50: zzzzzxb: unknown key");
	done();
	conf_messages_add(&errors, (struct conf_pos){"f", 3}, "a\x1b[31m%s", "b\n");
	conf_messages_add(&errors, (struct conf_pos){"f", 3}, "a\x1b[31m%s", "b\n");
	ck_assert_uint_eq(errors.n, 1);
	ck_assert_str_eq(errors.v[0], "f:3: a?[31mb?");
}
END_TEST

static bool refuse(const struct conf *c, struct conf_messages *e, struct conf_messages *w)
{
	conf_messages_add(w, c->pools[0].pos, "warning: seen");
	conf_messages_add(e, c->pools[0].pos, "protocol: refused");
	return false;
}

START_TEST(test_check_callback)
{
	done();
	result = conf_load(VECTORS "/good/minimal.conf", NULL, 0, refuse, &conf, &errors, &warnings);
	must_fail("callback", "minimal.conf:1: protocol: refused");
	ck_assert_ptr_null(conf);
	ck_assert_uint_eq(warnings.n, 1);
}
END_TEST

START_TEST(test_list_limits)
{
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	fputs("pools = ( { name = \"p\"; listen = \"127.0.0.1:1\"; servers = (", f);
	for (int i = 0; i <= CONF_SERVERS_MAX; i++)
		fprintf(f, "%s\"10.0.0.1:%d\"", i ? "," : "", i + 1);
	fputs("); } );", f);
	fclose(f);
	load_text(text);
	must_fail("servers", "servers: has 1001 elements; there may be 1000");
	free(text);
}
END_TEST

/* ---- what is made from the table */

START_TEST(test_sample)
{
	char *made = to_text(conf_emit_sample), *kept = slurp("conf/leased.conf");

	ck_assert_msg(strcmp(made, kept) == 0, "conf/leased.conf is stale: write it anew with conf_gen sample");
	load_file("conf/leased.conf");
	must_load("conf/leased.conf");
	ck_assert_uint_eq(warnings.n, 0);
	free(made);
	free(kept);
}
END_TEST

/* With every comment that is a setting made one, the sample still says what it said. */
START_TEST(test_sample_uncommented)
{
	char *text = to_text(conf_emit_sample), *before, *after, *credentials, *listen;

	/* A socket with a mode and an owner is a Unix socket. */
	listen = strstr(text, "127.0.0.1:6380");
	ck_assert_ptr_nonnull(listen);
	memcpy(listen, "unix:/run/leas", 14);
	load_text(text);
	must_load("sample");
	before = dump(conf);
	credentials = strstr(text, "#credentials");
	ck_assert_ptr_nonnull(credentials);
	for (char *p = text; (p = strchr(p, '#')) != NULL; p++)
		if (p[1] >= 'a' && p[1] <= 'z' && (p < credentials || p > strstr(credentials, "\n#);")) &&
		    strcspn(p, "=") < strcspn(p, "\n"))
			*p = ' ';
	load_text(text);
	must_load("uncommented");
	after = dump(conf);
	ck_assert_str_eq(before, after);
	free(before);
	free(after);
	free(text);
}
END_TEST

static void visit_documented(const struct key *k)
{
	static char *sample, *man;
	char item[128];

	if (!sample) {
		sample = to_text(conf_emit_sample);
		man = to_text(conf_emit_man);
	}
	snprintf(item, sizeof(item), "%s = ", k->name);
	ck_assert_msg(strstr(sample, item) != NULL, "%s is not in the sample", k->name);
	snprintf(item, sizeof(item), ".It Ic %s Pq ", k->name);
	ck_assert_msg(strstr(man, item) != NULL, "%s is not in the manual", k->name);
}

START_TEST(test_every_key_documented)
{
	each_key(visit_documented);
}
END_TEST

START_TEST(test_manual)
{
	char *made = to_text(conf_emit_man), *kept = slurp("man/leased.conf.5"), *begin, *end;

	begin = strstr(kept, ".\\\" BEGIN KEYS\n");
	end = strstr(kept, ".\\\" END KEYS\n");
	ck_assert_ptr_nonnull(begin);
	ck_assert_ptr_nonnull(end);
	*end = '\0';
	ck_assert_msg(strcmp(strchr(begin, '\n') + 1, made) == 0,
		      "the keys of man/leased.conf.5 are stale: write them anew with conf_gen man");
	free(made);
	free(kept);
}
END_TEST

START_TEST(test_limits_list)
{
	char *text = to_text(conf_emit_limits);

	ck_assert_ptr_nonnull(strstr(text, "\npools.buffer_size\tsize\t32k\t4k\t16M\n"));
	ck_assert_ptr_nonnull(strstr(text, "\nworkers\tinteger\t0\t0\t64\n"));
	free(text);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_bounds, test_types, test_defaults_as_written, test_rows, test_address_alone, test_inheritance,
		test_bad_files, test_good_files, test_escapes, test_values, test_includes, test_unreadable, test_text_only,
		test_sets, test_bad_sets, test_password_file, test_password_file_modes, test_password_inline,
		test_password_not_in_messages, test_messages, test_check_callback, test_list_limits, test_sample,
		test_sample_uncommented, test_every_key_documented, test_manual, test_limits_list,
	};
	Suite *s = suite_create("conf");
	TCase *tc = tcase_create("conf");
	char command[64];
	SRunner *r;
	int failed;

	if (!mkdtemp(dir))
		return 1;
	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, begin, done);
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		tcase_add_test(tc, tests[i]);
	suite_add_tcase(s, tc);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command) != 0 || failed;
}
