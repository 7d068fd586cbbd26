/* conf: every row of the table of keys, messages, and what is made from the table. */
#include <math.h>

#include "base/units.h"
#include "conf_help.h"

/* ---- the table */

static bool is_one_of(const char *word, const char *const *list)
{
	for (; *list; list++)
		if (strcmp(word, *list) == 0)
			return true;
	return false;
}

/* The source a credential's key belongs to, with what that source needs. An empty key is none. */
static const char *source_with(const struct key *k, const char *literal)
{
	static const char *const needed[] = {"path", "argv", "env_password", "env_username", NULL};
	int key = (int)(k - scope_get(SCOPE_CREDENTIAL)->keys);
	bool own = is_one_of(k->name, needed), empty = strcmp(literal, "\"\"") == 0 || strcmp(literal, "()") == 0;

	if (key_of_source(key, CONF_SOURCE_STATIC) || (own && empty))
		return "";
	if (key_of_source(key, CONF_SOURCE_ENV))
		return strcmp(k->name, "env_password") == 0 ? "source = \"env\"; "
							    : "source = \"env\"; env_password = \"PATH\"; ";
	if (key_of_source(key, CONF_SOURCE_FILE))
		return own ? "source = \"file\"; " : "source = \"file\"; path = \"/x\"; ";
	return own ? "source = \"command\"; " : "source = \"command\"; argv = \"/bin/true\"; ";
}

/* Bounds of one key must not meet those of another. */
static const char *room_with(const struct key *k)
{
	static const char *const pairs[][2] = {
		{"source_backoff_initial", "source_backoff_max = \"1d\"; "},
		{"source_backoff_max", "source_backoff_initial = \"1ms\"; "},
		{"refresh_cooldown", "refresh_cooldown_max = \"1d\"; "},
		{"refresh_cooldown_max", "refresh_cooldown = \"1ms\"; "},
	};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
		if (strcmp(k->name, pairs[i][0]) == 0)
			return pairs[i][1];
	return "";
}

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
		return mem_printf("credentials = ( { %s%s%s%s = %s; } );\n" POOL,
				  key_required(k) ? "" : "name = \"c\"; ", source_with(k, literal), room_with(k),
				  k->name, literal);
	case SCOPE_USER:
		return mem_printf("pools = ( { name = \"p\"; servers = \"127.0.0.1:2\"; listen = \"127.0.0.1:1\";"
				  "users = { %s%s = %s; }; } );",
				  key_required(k) ? "" : "name = \"u\"; ", k->name, literal);
	case SCOPE_LISTENER:
		return mem_printf(
			"pools = ( { name = \"p\"; servers = \"127.0.0.1:2\"; listen = { %s%s = %s; }; } );",
			key_required(k) ? "" : "address = \"unix:/x\"; ", k->name, literal);
	case SCOPE_SERVER:
		return mem_printf(
			"pools = ( { name = \"p\"; listen = \"127.0.0.1:1\"; servers = { address = \"127.0.0.1:2\";"
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
		[SCOPE_TOP] = conf,
		[SCOPE_ADMIN] = &conf->admin,
		[SCOPE_LOG] = &conf->log,
		[SCOPE_LIMITS] = &conf->limits,
		[SCOPE_TCP] = &conf->tcp,
		[SCOPE_DNS] = &conf->dns,
		[SCOPE_CREDENTIAL] = conf->credentials,
		[SCOPE_LISTENER] = conf->pools[0].listen,
		[SCOPE_USER] = conf->pools[0].users,
		[SCOPE_SERVER] = conf->pools[0].servers,
		[SCOPE_POOL] = conf->pools,
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

	ck_assert_msg(ordered == (*k->min && *k->max), "%s: a number without a limit, or a limit without a number",
		      k->name);
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
	load_text(
		"pools = ( { name = \"p\"; listen = \"127.0.0.1:1\"; servers = { address = \"127.0.0.1:2\"; }; } );");
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
	load_text(
		"limits = { max_clients = 1000; };"
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
/* ---- messages */

START_TEST(test_messages)
{
	char text[64 * 100] = "";

	for (int i = 0; i < 60; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "zzzzz%c%c = 1;\n", 'a' + i % 26,
			 'a' + i / 26);
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
	char *text = to_text(conf_emit_sample), *before, *after, *listen;

	/* A socket with a mode and an owner is a Unix socket. */
	listen = strstr(text, "127.0.0.1:6380");
	ck_assert_ptr_nonnull(listen);
	memcpy(listen, "unix:/run/leas", 14);
	load_text(text);
	must_load("sample");
	before = dump(conf);
	for (char *p = text; (p = strchr(p, '#')) != NULL; p++) {
		size_t n = strcspn(p, "\n");

		if (p[1] < 'a' || p[1] > 'z' || strcspn(p, "=") >= n)
			continue;
		/* Lists that are comments as a whole stay so. */
		if (p[n - 1] == '(')
			p = strstr(p, "#);");
		else
			*p = ' ';
	}
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
		test_bounds,
		test_types,
		test_defaults_as_written,
		test_rows,
		test_address_alone,
		test_inheritance,
		test_messages,
		test_check_callback,
		test_sample,
		test_sample_uncommented,
		test_every_key_documented,
		test_manual,
		test_limits_list,
	};

	return run_tests("conf", tests, sizeof(tests) / sizeof(tests[0])) != 0;
}
