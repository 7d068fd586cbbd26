/* conf: broken and good files, includes, overrides of the command line, and secrets. */
#include <dirent.h>
#include <fcntl.h>

#include "conf/build.h"
#include "conf_help.h"

static char dir[] = "/tmp/test_conf.XXXXXX";

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

/* Comments hold what a dump may not: whether a password is set. */
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
	struct conf *first;

	load_file(path);
	must_load(path);
	before = dump(conf);
	first = conf;
	conf = NULL;
	load_text(before);
	must_load(path);
	must_be_same_tree(first, conf);
	conf_free(&first);
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
	ck_assert_str_eq(st[0].send, "a\"b\\c\td\re\nf\fg\x01\x7f\xff\\q\\n");
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
	/* What the parser finds itself would be read unchecked, from the working directory. */
	write_file("part.inc", POOL, 0600);
	load_file(write_file("twice.conf", "@include \"part.inc\" @include \"/etc/hostname\"\n", 0600));
	must_fail("two on a line", "twice.conf:1: syntax error: @include must begin its line");
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
	load_text("workers = 1; @include \"x\"\n");
	must_fail("include", "(text):1: syntax error: @include must begin its line");
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

/* ---- overrides */

/* Proves: E22 */
START_TEST(test_sets)
{
	const char *const sets[] = {
		"shutdown_timeout=5s",	      "log.level=debug",	   "tcp.keepalive=false",
		"pools.p.max_size=20",	      "limits.max_clients=7",	   "pools.p.lease_on=first_byte",
		"admin.listen=unix:/x=y",     "admin.mode=0640",	   "pools.p.backoff_jitter=0.25",
		"pools.p.listen=127.0.0.1:9", "dns.nameservers=10.0.0.53", "pools.p.lease_timeout=0",
		"pools.p.lease_timeout=1m",
	};
	const char *const dotted = "pools.a.b-c_1.max_clients=3";

	load_sets(write_file("sets.conf", "shutdown_timeout = \"1s\";\n" POOL, 0600), sets,
		  sizeof(sets) / sizeof(sets[0]));
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
	load_sets(VECTORS "/good/addresses.conf", &dotted, 1);
	must_load("a name with dots");
	ck_assert_int_eq(conf->pools[0].max_clients, 3);
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
		{"pools.p.backoff_jitter=nan", "-o: backoff_jitter: expected a number, got a string"},
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
	load_file(write_file("c.conf", "credentials = ( { name = \"c\"; password_file = \"c.password\"; } );\n" POOL,
			     0600));
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

static void load_credential_file(mode_t mode, const char *more)
{
	char text[512];

	write_file("c.json", "{\"password\": \"MARKED\"}", mode);
	snprintf(text, sizeof(text),
		 "credentials = ( { name = \"c\"; source = \"file\"; path = \"c.json\"; %s} );\n" POOL, more);
	load_file(write_file("c.conf", text, 0600));
}

/* Proves: SEC-2 */
START_TEST(test_credential_file)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/c.json", dir);
	unlink(path);
	load_file(write_file(
		"c.conf", "credentials = ( { name = \"c\"; source = \"file\"; path = \"c.json\"; } );\n" POOL, 0600));
	must_load("a file that is still to come");
	ck_assert_uint_eq(warnings.n, 1);
	ck_assert_ptr_nonnull(strstr(warnings.v[0], "c.json does not exist yet"));
	load_credential_file(0600, "");
	must_load("a file");
	ck_assert_uint_eq(warnings.n, 0);
	ck_assert_str_eq(conf->credentials[0].path, path);
	load_credential_file(0640, "");
	must_load("a file for a group");
	load_credential_file(0660, "");
	must_fail("mode", "c.conf:1: path: ");
	load_credential_file(0644, "");
	must_fail("mode", "c.conf:1: path: ");
	must_fail("mode", "run chmod 600");
	ck_assert_int_eq(result, ERR_PERMISSION);
	load_credential_file(0644, "strict_permissions = false; ");
	must_load("a file for everybody");
	unlink(path);
}
END_TEST

/* A program that everybody may change could be made to print anything. */
START_TEST(test_program_modes)
{
	char text[512];
	const char *program = write_file("source", "#!/bin/sh\n", 0755);

	snprintf(text, sizeof(text),
		 "credentials = ( { name = \"c\"; source = \"command\"; argv = \"%s\"; } );\n" POOL, program);
	load_text(text);
	must_load("a program");
	write_file("source", "#!/bin/sh\n", 0757);
	load_text(text);
	must_fail("mode", "everybody may write to it (mode 0757)");
	ck_assert_int_eq(result, ERR_PERMISSION);
}
END_TEST

/* Proves: A10 A17 A23 B7 */
START_TEST(test_credential_defaults)
{
	const struct conf_credential *c;
	const struct conf_pool *p;

	load_text("credentials = ( { name = \"c\"; } );\n" POOL);
	must_load("defaults");
	c = conf->credentials;
	p = conf->pools;
	ck_assert_double_eq_tol(c->refresh_ratio, 0.7, 1e-9);
	ck_assert_double_eq_tol(c->source_backoff_multiplier, 2, 1e-9);
	ck_assert_int_eq(c->refresh_before_us, 0);
	ck_assert_int_eq(c->source_timeout_us, 30000000);
	ck_assert_int_eq(c->source_retries, 3);
	ck_assert_int_eq(c->source_backoff_initial_us, 1000000);
	ck_assert_int_eq(c->source_backoff_max_us, 10000000);
	ck_assert_int_eq(c->refresh_cooldown_us, 1000000);
	ck_assert_int_eq(c->refresh_cooldown_max_us, 30000000);
	ck_assert(c->strict_permissions);
	ck_assert_int_eq(p->reauth_timeout_us, 5000000);
	ck_assert_int_eq(p->reauth_spread_us, 2000000);
	ck_assert_int_eq(p->reauth_concurrency, 0);
	ck_assert_int_eq(p->reauth_interval_us, 0);
	ck_assert_int_eq(p->refresh_max_attempts, 3);
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
	load_file(write_file(
		"c.conf",
		"workers = 65;\ncredentials = ( { name = \"c\"; password_file = \"c.password\"; } );\n" POOL, 0600));
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
	ck_assert_ptr_nonnull(
		strstr(warnings.v[0], "credentials.conf:3: warning: password: a secret in a configuration file"));
	text = dump(conf);
	ck_assert_ptr_null(strstr(text, "MARKED"));
	free(text);
}
END_TEST

/* Whether the heap holds the bytes; they are given inverted, so that the search finds no copy of its own. */
static bool heap_holds(const char *inverted, size_t n)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512], *at = NULL, *end = NULL;
	bool found = false;

	ck_assert_ptr_nonnull(maps);
	while (fgets(line, sizeof(line), maps))
		if (strstr(line, "[heap]"))
			ck_assert_int_eq(sscanf(line, "%p-%p", (void **)&at, (void **)&end), 2);
	fclose(maps);
	for (; end && at + n <= end && !found; at++) {
		size_t i = 0;

		while (i < n && at[i] == (char)~inverted[i])
			i++;
		found = i == n;
	}
	return found;
}

START_TEST(test_password_not_left_behind)
{
	const char *path = write_file("c.password", "", 0600);
	char inverted[24], plain[24];
	int fd = open(path, O_WRONLY);

	for (size_t i = 0; i < sizeof(plain); i++) {
		plain[i] = (char)('A' + i);
		inverted[i] = (char)~plain[i];
	}
	ck_assert_int_eq(write(fd, plain, sizeof(plain)), sizeof(plain));
	close(fd);
	load_file(write_file("c.conf", "credentials = ( { name = \"c\"; password_file = \"c.password\"; } );\n" POOL,
			     0600));
	must_load("password file");
	ck_assert(secret_equal_bytes(conf->credentials[0].password, plain, sizeof(plain)));
	ck_assert(!heap_holds(inverted, sizeof(inverted)));
	done();
	ck_assert(!heap_holds(inverted, sizeof(inverted)));
}
END_TEST

START_TEST(test_ready_check_unused_warning)
{
	load_text("pools = ( { name = \"p\"; listen = \"127.0.0.1:1\"; servers = \"127.0.0.1:2\";\n"
		  "ready_check = ( { send = \"x\\n\"; expect = \"y\"; } ); } );\n");
	must_load("warning");
	ck_assert_uint_eq(warnings.n, 1);
	ck_assert_str_eq(warnings.v[0], "(text):2: warning: ready_check: run only by leased -T; leases need reuse = "
					"\"script\" for it");
	done();
}
END_TEST

START_TEST(test_max_clients_warning)
{
	load_text(
		"limits = { max_clients = 5; };"
		"pools = ( { name = \"p\"; listen = \"127.0.0.1:1\"; servers = \"127.0.0.1:2\"; max_clients = 6; } );");
	must_load("warning");
	ck_assert_uint_eq(warnings.n, 1);
	ck_assert_str_eq(warnings.v[0], "(text):1: warning: max_clients: limits.max_clients = 5 is reached first");
}
END_TEST

/* The words of a message never hold the value of a secret. */
START_TEST(test_password_not_in_messages)
{
	load_text(
		"credentials = ( { name = \"c\"; password = \"MARKED-PASSWORD-3\"; password_file = \"x\"; } );" POOL);
	must_fail("both", "write only one");
	for (size_t i = 0; i < errors.n; i++)
		ck_assert_ptr_null(strstr(errors.v[i], "MARKED"));
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		test_bad_files,
		test_good_files,
		test_escapes,
		test_values,
		test_includes,
		test_unreadable,
		test_text_only,
		test_list_limits,
		test_sets,
		test_bad_sets,
		test_password_file,
		test_credential_file,
		test_program_modes,
		test_credential_defaults,
		test_password_file_modes,
		test_password_inline,
		test_password_not_in_messages,
		test_password_not_left_behind,
		test_ready_check_unused_warning,
		test_max_clients_warning,
	};
	char command[64];
	int failed;

	if (!mkdtemp(dir))
		return 1;
	failed = run_tests("conf_files", tests, sizeof(tests) / sizeof(tests[0]));
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command) != 0 || failed;
}
