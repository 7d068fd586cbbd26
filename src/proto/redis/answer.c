/* answer: what is answered to a client without a server: who it is, its name, its version of the protocol. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "proto/redis/redis_private.h"

/* A name costs memory for as long as its client stays. */
#define NAME_MAX_BYTES 256

#define WRONGPASS "-WRONGPASS invalid username-password pair or user is disabled."
#define BAD_NAME  "-ERR Client names cannot contain spaces, newlines or special characters."

/* ---- words ---- */

static void answer_bytes(struct answer *a, const void *p, size_t n)
{
	if (!a->mute)
		buf_append(a->out, p, n);
}

void answer_text(struct answer *a, const char *text)
{
	answer_bytes(a, text, strlen(text));
	answer_bytes(a, "\r\n", 2);
}

void answer_error(struct answer *a, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	BUG_ON(n < 0 || n >= (int)sizeof(text));
	answer_bytes(a, "-", 1);
	answer_text(a, text);
}

static void answer_number(struct answer *a, char type, uint64_t n)
{
	char text[32];

	snprintf(text, sizeof(text), "%c%" PRIu64, type, n);
	answer_text(a, text);
}

static void answer_string(struct answer *a, const char *s)
{
	answer_number(a, '$', strlen(s));
	answer_text(a, s);
}

static void answer_null(struct answer *a)
{
	answer_text(a, a->cl->resp == 3 ? "_" : "$-1");
}

static void answer_arity(struct answer *a, const char *name)
{
	answer_error(a, "ERR wrong number of arguments for '%s' command", name);
}

/* Text of a client that goes into an error: cut, and nothing in it that could end a line. */
static const char *quoted(struct resp_text t, char *to, size_t cap)
{
	size_t n = 0;

	for (; n < t.n && n < cap - 1; n++)
		to[n] = (char)(t.p[n] >= ' ' && t.p[n] < 127 ? t.p[n] : '?');
	to[n] = '\0';
	return to;
}

/* ---- who it is ---- */

static const char *user_name(const struct answer *a)
{
	return a->cl->user < 0 ? "default" : a->conf->users[a->cl->user].name;
}

/* The user that this proves, or -1. As long for one that does not exist as for a wrong password. */
static int find_user(const struct redis_conf *c, const struct resp_text *name, const struct resp_text *password)
{
	static const struct resp_text by_default = {(const uint8_t *)"default", 7};
	int found = -1;

	if (!name)
		name = &by_default;
	for (size_t i = 0; i < c->n_users; i++) {
		const struct redis_user *u = &c->users[i];
		bool right = u->password && secret_equal_bytes(u->password, password->p, password->n);

		if (right && strlen(u->name) == name->n && !memcmp(u->name, name->p, name->n))
			found = (int)i;
	}
	return found;
}

static void client_login(struct redis_client *cl, int user)
{
	cl->user = (int16_t)user;
	cl->known = true;
}

void answer_auth(struct answer *a)
{
	const struct resp_request *r = a->r;
	int user;

	if (r->argc < 2) {
		answer_arity(a, "auth");
		return;
	}
	if (r->argc > 3) {
		answer_text(a, "-ERR syntax error");
		return;
	}
	/* Many clients insist on AUTH. */
	if (a->conf->n_users) {
		user = find_user(a->conf, r->argc == 3 ? &r->args[1] : NULL, &r->args[r->argc - 1]);
		if (user < 0) {
			answer_text(a, WRONGPASS);
			return;
		}
		client_login(a->cl, user);
	}
	answer_text(a, "+OK");
}

void answer_whoami(struct answer *a)
{
	if (a->r->argc != 2)
		answer_arity(a, "acl|whoami");
	else
		answer_string(a, user_name(a));
}

static int uid_user(const struct redis_conf *c, int64_t uid)
{
	for (size_t i = 0; uid >= 0 && i < c->n_users; i++) {
		if (c->users[i].uid == uid)
			return (int)i;
	}
	return -1;
}

void client_greet(void *client, const struct proto_conf *c, void *pool, uint64_t id, int64_t uid, struct buf *out)
{
	struct redis_client *cl = client;

	(void)pool;
	(void)out;
	cl->id = id;
	cl->uid_user = (int16_t)uid_user(&c->is, uid);
	client_reset(cl, &c->is);
}

/* ---- names ---- */

static bool name_is_clean(const struct resp_text *t)
{
	for (size_t i = 0; i < t->n; i++) {
		if (t->p[i] < '!' || t->p[i] > '~')
			return false;
	}
	return true;
}

/* An empty one unsets it. */
static void name_set(char **name, const struct resp_text *t)
{
	mem_free(*name);
	*name = NULL;
	if (t->n == 0)
		return;
	*name = mem_alloc(t->n + 1);
	memcpy(*name, t->p, t->n);
}

/* False: it can't be set, which was answered. */
static bool name_check(struct answer *a, const struct resp_text *t, const char *unclean)
{
	if (!name_is_clean(t))
		answer_text(a, unclean);
	else if (t->n > NAME_MAX_BYTES)
		answer_text(a, "-ERR leased: a name has at most 256 bytes");
	else
		return true;
	return false;
}

static void names_free(struct redis_client *cl)
{
	mem_free(cl->name);
	mem_free(cl->lib_name);
	mem_free(cl->lib_ver);
	cl->name = cl->lib_name = cl->lib_ver = NULL;
}

void client_end(void *client)
{
	names_free(client);
}

/* As RESET leaves it: the name of its library stays. */
void client_reset(struct redis_client *cl, const struct redis_conf *c)
{
	mem_free(cl->name);
	cl->name = NULL;
	cl->db = cl->queued_db = DB_BASE;
	cl->resp = 2;
	cl->reply_mode = REPLY_ON;
	cl->user = cl->uid_user;
	cl->known = c->n_users == 0 || cl->user >= 0;
	cl->multi = cl->spoiled = cl->watching = cl->subscribed = false;
}

/* ---- HELLO ---- */

static bool hello_option(struct answer *a, struct hello *h, uint32_t *i)
{
	const struct resp_request *r = a->r;
	uint32_t more = r->argc - *i - 1;
	char text[64];

	if (resp_is(r->args[*i], "auth") && more >= 2) {
		h->user = &r->args[*i + 1];
		h->password = &r->args[*i + 2];
		*i += 3;
		return true;
	}
	if (resp_is(r->args[*i], "setname") && more >= 1) {
		h->name = &r->args[*i + 1];
		*i += 2;
		return name_check(a, h->name, BAD_NAME);
	}
	answer_error(a, "ERR Syntax error in HELLO option '%s'", quoted(r->args[*i], text, sizeof(text)));
	return false;
}

bool answer_hello_check(struct answer *a, struct hello *h)
{
	const struct resp_request *r = a->r;

	*h = (struct hello){.login = -1};
	if (r->argc > r->kept) {
		answer_text(a, "-ERR Syntax error in HELLO");
		return false;
	}
	if (r->argc > 1 && !resp_integer(r->args[1].p, r->args[1].n, &h->version)) {
		answer_text(a, "-ERR Protocol version is not an integer or out of range");
		return false;
	}
	if (r->argc > 1 &&
	    (h->version < 2 || h->version > 3 || (h->version == 3 && a->pool->known && !a->pool->resp3))) {
		answer_text(a, "-NOPROTO unsupported protocol version");
		return false;
	}
	for (uint32_t i = 2; i < r->argc;) {
		if (!hello_option(a, h, &i))
			return false;
	}
	if (h->user && a->conf->n_users) {
		h->login = find_user(a->conf, h->user, h->password);
		if (h->login < 0) {
			answer_text(a, WRONGPASS);
			return false;
		}
	}
	if (!a->cl->known && h->login < 0) {
		answer_text(a,
			    "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO "
			    "<proto> AUTH <user> <pass> option can be used to authenticate the client and select the "
			    "RESP protocol version at the same time");
		return false;
	}
	return true;
}

static void answer_fact(struct answer *a, const char *name, const char *value)
{
	answer_string(a, name);
	answer_string(a, value);
}

void answer_hello(struct answer *a, const struct hello *h)
{
	struct redis_client *cl = a->cl;

	if (h->login >= 0)
		client_login(cl, h->login);
	if (h->name)
		name_set(&cl->name, h->name);
	if (h->version)
		cl->resp = (uint8_t)h->version;
	answer_text(a, cl->resp == 3 ? "%7" : "*14");
	answer_fact(a, "server", a->pool->server);
	answer_fact(a, "version", a->pool->version);
	answer_string(a, "proto");
	answer_number(a, ':', cl->resp);
	answer_string(a, "id");
	answer_number(a, ':', cl->id);
	answer_fact(a, "mode", a->pool->mode);
	answer_fact(a, "role", a->pool->role);
	answer_string(a, "modules");
	answer_text(a, "*0");
}

/* ---- CLIENT ---- */

static void answer_info(struct answer *a)
{
	struct redis_client *cl = a->cl;
	int db = cl->db >= 0 ? cl->db : a->pool->base_db;
	char *text = mem_printf("id=%" PRIu64 " name=%s db=%d multi=-1 resp=%d lib-name=%s lib-ver=%s user=%s\n",
				cl->id, cl->name ? cl->name : "", db, cl->resp, cl->lib_name ? cl->lib_name : "",
				cl->lib_ver ? cl->lib_ver : "", user_name(a));

	if (cl->resp == 3) {
		answer_number(a, '=', strlen(text) + 4);
		answer_bytes(a, "txt:", 4);
		answer_text(a, text);
	} else {
		answer_string(a, text);
	}
	mem_free(text);
}

static void answer_setname(struct answer *a)
{
	if (!name_check(a, &a->r->args[2], BAD_NAME))
		return;
	name_set(&a->cl->name, &a->r->args[2]);
	answer_text(a, "+OK");
}

static void answer_setinfo(struct answer *a)
{
	const struct resp_text *what = &a->r->args[2], *value = &a->r->args[3];
	bool name = resp_is(*what, "lib-name");
	char text[64];

	if (!name && !resp_is(*what, "lib-ver")) {
		answer_error(a, "ERR Unrecognized option '%s'", quoted(*what, text, sizeof(text)));
		return;
	}
	if (!name_check(a, value,
			name ? "-ERR lib-name cannot contain spaces, newlines or special characters."
			     : "-ERR lib-ver cannot contain spaces, newlines or special characters."))
		return;
	name_set(name ? &a->cl->lib_name : &a->cl->lib_ver, value);
	answer_text(a, "+OK");
}

/* The server is never told: it answers everything, and what is not wanted is dropped here. */
static void answer_reply(struct answer *a)
{
	struct resp_text mode = a->r->args[2];

	if (resp_is(mode, "on")) {
		a->cl->reply_mode = REPLY_ON;
		a->mute = false;
		answer_text(a, "+OK");
	} else if (resp_is(mode, "off")) {
		a->cl->reply_mode = REPLY_OFF;
	} else if (resp_is(mode, "skip")) {
		if (a->cl->reply_mode == REPLY_ON)
			a->cl->reply_mode = REPLY_SKIP;
	} else {
		answer_text(a, "-ERR syntax error");
	}
}

void answer_client(struct answer *a, enum command_class class)
{
	static const struct {
		enum command_class class;
		uint32_t argc;
		const char *name;
	} forms[] = {
		{CMD_CLIENT_ID, 2, "client|id"},	   {CMD_CLIENT_GETNAME, 2, "client|getname"},
		{CMD_CLIENT_SETNAME, 3, "client|setname"}, {CMD_CLIENT_SETINFO, 4, "client|setinfo"},
		{CMD_CLIENT_INFO, 2, "client|info"},	   {CMD_CLIENT_REPLY, 3, "client|reply"},
	};

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		if (forms[i].class == class && (forms[i].argc != a->r->argc || a->r->kept != a->r->argc)) {
			answer_arity(a, forms[i].name);
			return;
		}
	}
	switch (class) {
	case CMD_CLIENT_ID:
		answer_number(a, ':', a->cl->id);
		break;
	case CMD_CLIENT_GETNAME:
		if (a->cl->name)
			answer_string(a, a->cl->name);
		else
			answer_null(a);
		break;
	case CMD_CLIENT_SETNAME:
		answer_setname(a);
		break;
	case CMD_CLIENT_SETINFO:
		answer_setinfo(a);
		break;
	case CMD_CLIENT_INFO:
		answer_info(a);
		break;
	default:
		BUG_ON(class != CMD_CLIENT_REPLY);
		answer_reply(a);
	}
}

/* ---- failures ---- */

void client_fail(const void *cl, enum err why, const char *text, struct buf *out)
{
	struct resp_text t = {(const uint8_t *)text, text ? strlen(text) : 0};
	char clean[512];

	(void)cl;
	if (t.n && t.p[0] >= 'A' && t.p[0] <= 'Z') {
		say(out, "-");
	} else {
		say(out, "-ERR leased: ");
		if (!t.n)
			t = (struct resp_text){(const uint8_t *)err_text(why), strlen(err_text(why))};
	}
	say(out, quoted(t, clean, sizeof(clean)));
	say(out, "\r\n");
}
