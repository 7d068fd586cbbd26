/* dump: the effective values as a file that parses back to the same tree; see conf.h. */
#include <string.h>

#include "conf/value.h"

static void dump_indent(int depth, FILE *f)
{
	while (depth-- > 0)
		putc('\t', f);
}

static const void *dump_field(const struct key *k, const void *base)
{
	return (const char *)base + k->offset;
}

static void dump_key(const struct key *k, const void *base, int depth, FILE *f)
{
	dump_indent(depth, f);
	if (k->type == KEY_TYPE_SECRET) {
		fprintf(f, "# %s = (%s)\n", k->name,
			*(struct secret *const *)dump_field(k, base) ? "set" : "not set");
		return;
	}
	fprintf(f, "%s = ", k->name);
	value_print(k, dump_field(k, base), f);
	fputs(";\n", f);
}

static void dump_keys(enum scope_id id, const void *base, int depth, FILE *f)
{
	const struct scope *s = scope_get(id);

	for (size_t i = 0; i < s->n; i++)
		dump_key(&s->keys[i], base, depth, f);
}

/* Keys that only a Unix socket may have would be refused with another address. */
static void dump_admin(const struct conf_admin *a, FILE *f)
{
	const struct scope *s = scope_get(SCOPE_ADMIN);
	bool unix_socket = strncmp(a->listen, "unix:", 5) == 0;

	for (size_t i = 0; i < s->n; i++)
		if (unix_socket || i == K_ADMIN_listen)
			dump_key(&s->keys[i], a, 1, f);
}

static void dump_listener(const struct conf_listener *l, FILE *f)
{
	const struct scope *s = scope_get(SCOPE_LISTENER);

	fputs("\t\t\t{\n", f);
	for (size_t i = 0; i < s->n; i++) {
		bool has = i == K_LISTENER_address || l->where.kind == ADDR_UNIX ||
			   (i == K_LISTENER_allow_uid && l->where.kind == ADDR_SYSTEMD);

		if (has)
			dump_key(&s->keys[i], l, 4, f);
	}
	fputs("\t\t\t}", f);
}

static bool dump_same(const struct key *k, const void *a, const void *b)
{
	char texts[2][128] = {"", ""};

	for (int i = 0; i < 2; i++) {
		FILE *f = fmemopen(texts[i], sizeof(texts[i]), "w");

		if (!f)
			return false;
		value_print(k, dump_field(k, i ? b : a), f);
		fclose(f);
	}
	return strcmp(texts[0], texts[1]) == 0;
}

/* Only what differs from the pool's values for its servers. */
static void dump_server(const struct conf_server *v, const struct conf_server *defaults, FILE *f)
{
	const struct scope *s = scope_get(SCOPE_SERVER);

	fputs("\t\t\t{\n\t\t\t\taddress = ", f);
	value_print_string(v->address, f);
	fputs(";\n", f);
	for (size_t i = 0; i < s->n; i++)
		if (!dump_same(&s->keys[i], v, defaults))
			dump_key(&s->keys[i], v, 4, f);
	fputs("\t\t\t}", f);
}

/* Keys of other sources than its own would be refused. */
static void dump_credential(const struct conf_credential *c, FILE *f)
{
	const struct scope *s = scope_get(SCOPE_CREDENTIAL);

	fputs("\t{\n", f);
	for (size_t i = 0; i < s->n; i++)
		if (key_of_source((int)i, c->source))
			dump_key(&s->keys[i], c, 2, f);
	fputs("\t}", f);
}

static void dump_users(const struct conf_pool *p, FILE *f)
{
	fputs("\t\tusers = (\n", f);
	for (size_t i = 0; i < p->n_users; i++) {
		fputs("\t\t\t{\n", f);
		dump_keys(SCOPE_USER, &p->users[i], 4, f);
		fputs(i + 1 < p->n_users ? "\t\t\t},\n" : "\t\t\t}\n", f);
	}
	fputs("\t\t);\n", f);
}

static void dump_pool(const struct conf_pool *p, FILE *f)
{
	fputs("\t{\n", f);
	dump_keys(SCOPE_POOL, p, 2, f);
	dump_keys(SCOPE_SERVER, &p->defaults, 2, f);
	fputs("\t\tlisten = (\n", f);
	for (size_t i = 0; i < p->n_listen; i++) {
		dump_listener(&p->listen[i], f);
		fputs(i + 1 < p->n_listen ? ",\n" : "\n", f);
	}
	fputs("\t\t);\n\t\tservers = (\n", f);
	for (size_t i = 0; i < p->n_servers; i++) {
		dump_server(&p->servers[i], &p->defaults, f);
		fputs(i + 1 < p->n_servers ? ",\n" : "\n", f);
	}
	fputs("\t\t);\n", f);
	dump_users(p, f);
	fputs("\t}", f);
}

static void dump_group(enum scope_id id, const void *base, FILE *f)
{
	fprintf(f, "%s = {\n", scope_get(id)->name);
	if (id == SCOPE_ADMIN)
		dump_admin(base, f);
	else
		dump_keys(id, base, 1, f);
	fputs("};\n", f);
}

void conf_emit_dump(const struct conf *c, FILE *f)
{
	dump_keys(SCOPE_TOP, c, 0, f);
	dump_group(SCOPE_ADMIN, &c->admin, f);
	dump_group(SCOPE_LOG, &c->log, f);
	dump_group(SCOPE_LIMITS, &c->limits, f);
	dump_group(SCOPE_TCP, &c->tcp, f);
	dump_group(SCOPE_DNS, &c->dns, f);
	fputs("credentials = (\n", f);
	for (size_t i = 0; i < c->n_credentials; i++) {
		dump_credential(&c->credentials[i], f);
		fputs(i + 1 < c->n_credentials ? ",\n" : "\n", f);
	}
	fputs(");\npools = (\n", f);
	for (size_t i = 0; i < c->n_pools; i++) {
		dump_pool(&c->pools[i], f);
		fputs(i + 1 < c->n_pools ? ",\n" : "\n", f);
	}
	fputs(");\n", f);
}
