/*
 * login: the dialogues with a server outside of requests. Everything of one is said at once; its replies come one after
 * another and each has its meaning by its place.
 *
 *	LOGIN   AUTH*  HELLO 2  SELECT*  PING      HELLO for the facts, PING because it is refused by who may not be used
 *	PING    PING
 *	REAUTH  AUTH*                              * if the credential has such a thing
 *	CLEAN   DISCARD* UNWATCH*                  what is open,
 *	     or RESET AUTH* PING                   or all of it
 *
 * A server may repeat what it was sent in an error: replies are kept in the secret arena, and an error's words are looked
 * through for the password before they become a text for people.
 */
#include "proto/redis/redis_private.h"

#include <stdio.h>

#define TEXT_MAX	   256
#define STEPS_MAX	   6
#define DIALOGUE_BYTES_MAX RESP_HEAD_MAX

enum login_step { STEP_AUTH, STEP_HELLO, STEP_SELECT, STEP_PING, STEP_RESET, STEP_DISCARD, STEP_UNWATCH };

struct redis_dialogue {
	enum proto_dialogue is;
	uint8_t steps[STEPS_MAX];
	uint8_t n, at;
	struct buf in; /* of the reply that is under way */
};

/* ---- what a server says ---- */

enum proto_verdict login_auth_verdict(const uint8_t *p, size_t n)
{
	static const char *const wants_none[] = {
		"-ERR AUTH <password> called without any password configured",
		"-ERR Client sent AUTH, but no password is set",
	};
	static const char *const denials[] = {
		"-WRONGPASS",
		"-NOAUTH",
		"-ERR invalid password",
		"-ERR invalid username-password pair",
	};

	if (n && *p == '+')
		return PROTO_DONE;
	for (size_t i = 0; i < sizeof(wants_none) / sizeof(wants_none[0]); i++) {
		if (begins(p, n, wants_none[i]))
			return PROTO_DONE;
	}
	for (size_t i = 0; i < sizeof(denials) / sizeof(denials[0]); i++) {
		if (begins(p, n, denials[i]))
			return PROTO_DENIED;
	}
	return PROTO_FAILED;
}

static bool repeats(const struct script_cred *cred, const uint8_t *p, size_t n)
{
	size_t len = cred && cred->password ? secret_len(cred->password) : 0;

	for (size_t i = 0; len && i + len <= n; i++) {
		if (secret_equal_bytes(cred->password, p + i, len))
			return true;
	}
	return false;
}

/* Keeps an error's words for people. */
static void set_text(struct redis_up *u, const uint8_t *p, size_t n, const struct script_cred *cred)
{
	static const char args[] = ", with args beginning with";
	const uint8_t *cut = n ? memmem(p, n, args, sizeof(args) - 1) : NULL;

	mem_free(u->text);
	u->text = NULL;
	if (repeats(cred, p, n)) {
		u->text = mem_strdup("(an error that repeats the password)");
		return;
	}
	if (cut)
		n = (size_t)(cut - p);
	if (n && *p == '-') {
		p++;
		n--;
	}
	if (n > TEXT_MAX - 1)
		n = TEXT_MAX - 1;
	u->text = mem_alloc(n + 1);
	for (size_t i = 0; i < n; i++)
		u->text[i] = (char)(p[i] >= ' ' && p[i] < 127 ? p[i] : '?');
}

static void set_words(struct redis_up *u, const char *text)
{
	mem_free(u->text);
	u->text = mem_strdup(text);
}

const char *login_error_text(const void *up)
{
	const struct redis_up *u = up;

	return u->text;
}

/* ---- what HELLO tells ---- */

static void fact_set(char *to, struct resp_text t)
{
	size_t n = 0;

	for (; n < t.n && n < REDIS_FACT_MAX - 1; n++)
		to[n] = (char)(t.p[n] > ' ' && t.p[n] < 127 ? t.p[n] : '?');
	to[n] = '\0';
}

void login_facts_default(struct redis_pool *pool)
{
	static const struct redis_pool facts = {
		.server = "redis", .version = "5.0.0", .mode = "standalone", .role = "master"};

	memcpy(pool->server, facts.server, REDIS_FACT_MAX);
	memcpy(pool->version, facts.version, REDIS_FACT_MAX);
	memcpy(pool->mode, facts.mode, REDIS_FACT_MAX);
	memcpy(pool->role, facts.role, REDIS_FACT_MAX);
	pool->resp3 = false;
	pool->known = true;
}

static char *fact_of(struct redis_pool *pool, struct resp_text key)
{
	if (resp_is(key, "server"))
		return pool->server;
	if (resp_is(key, "version"))
		return pool->version;
	if (resp_is(key, "mode"))
		return pool->mode;
	if (resp_is(key, "role"))
		return pool->role;
	return NULL;
}

/* A whole reply; what is not understood is passed over. */
static void facts_learn(struct redis_pool *pool, const uint8_t *p, size_t n)
{
	size_t i = resp_line(p, n) + 2, len;
	struct resp_text key, value;

	while (i < n && resp_bulk(p + i, n - i, 64, &key, &len) == RESP_END) {
		struct resp_frame f = {0};
		char *fact = fact_of(pool, key);

		i += len;
		if (i < n && fact && resp_bulk(p + i, n - i, 64, &value, &len) == RESP_END)
			fact_set(fact, value);
		if (i >= n || resp_reply(&f, p + i, n - i, &len) != RESP_END) {
			resp_frame_drop(&f);
			return;
		}
		i += len;
	}
}

static void step_hello(struct redis_up *u, const uint8_t *p, size_t n)
{
	bool told = *p == '*' || *p == '%';

	/* Other errors are about who asks: PING will say it. */
	if (!u->pool || !(told || begins(p, n, "-ERR")))
		return;
	login_facts_default(u->pool);
	u->pool->base_db = u->base_db;
	u->pool->resp3 = told;
	if (told)
		facts_learn(u->pool, p, n);
}

/* ---- saying ---- */

static void say_argument(struct buf *out, const char *s)
{
	char text[32];

	snprintf(text, sizeof(text), "$%zu\r\n", strlen(s));
	say(out, text);
	say(out, s);
	say(out, "\r\n");
}

bool login_auth(const struct script_cred *cred, struct buf *out)
{
	/* Servers before 6 know the default user by no name. */
	bool named = cred && cred->username && *cred->username && strcmp(cred->username, "default") != 0;
	char text[32];

	if (!cred || !cred->password)
		return false;
	say(out, named ? "*3\r\n$4\r\nAUTH\r\n" : "*2\r\n$4\r\nAUTH\r\n");
	if (named)
		say_argument(out, cred->username);
	snprintf(text, sizeof(text), "$%zu\r\n", secret_len(cred->password));
	say(out, text);
	secret_append(cred->password, out);
	say(out, "\r\n");
	return true;
}

bool login_database(const struct script_cred *cred, int32_t *db)
{
	const char *text = cred ? cred->database : NULL;
	int64_t value = 0;

	if (text && *text &&
	    (!resp_integer((const uint8_t *)text, strlen(text), &value) || value < 0 || value > DB_MAX))
		return false;
	*db = (int32_t)value;
	return true;
}

static void dialogue_add(struct redis_dialogue *d, enum login_step s)
{
	BUG_ON(d->n == STEPS_MAX);
	d->steps[d->n++] = (uint8_t)s;
}

static void dialogue_say(struct redis_dialogue *d, enum login_step s, struct buf *out, const char *word)
{
	dialogue_add(d, s);
	say_command(out, &word, 1);
}

static void dialogue_auth(struct redis_dialogue *d, const struct script_cred *cred, struct buf *out)
{
	if (login_auth(cred, out))
		dialogue_add(d, STEP_AUTH);
}

static void begin_login(struct redis_up *u, struct redis_dialogue *d, const struct script_cred *cred, struct buf *out)
{
	u->resp = 2;
	u->db = 0;
	dialogue_auth(d, cred, out);
	dialogue_add(d, STEP_HELLO);
	say(out, "*2\r\n$5\r\nHELLO\r\n$1\r\n2\r\n");
	if (u->base_db) {
		dialogue_add(d, STEP_SELECT);
		say(out, "*2\r\n$6\r\nSELECT\r\n");
		say_argument(out, cred->database);
		u->db = u->base_db;
	}
	dialogue_say(d, STEP_PING, out, "PING");
}

static void begin_clean(struct redis_up *u, struct redis_dialogue *d, const struct script_cred *cred, struct buf *out)
{
	if (server_needs_reset(u)) {
		dialogue_say(d, STEP_RESET, out, "RESET");
		dialogue_auth(d, cred, out);
		dialogue_say(d, STEP_PING, out, "PING");
		return;
	}
	/* It ends WATCH as well. */
	if (u->multi || u->doubt)
		dialogue_say(d, STEP_DISCARD, out, "DISCARD");
	if (u->watching)
		dialogue_say(d, STEP_UNWATCH, out, "UNWATCH");
}

enum proto_verdict login_begin(void *up, enum proto_dialogue is, const struct proto_conf *c,
			       const struct script_cred *cred, struct blocks *blocks, struct buf *out)
{
	struct redis_up *u = up;
	struct redis_dialogue *d;

	(void)c;
	BUG_ON(u->dialogue);
	mem_free(u->text);
	u->text = NULL;
	if ((is == PROTO_LOGIN || is == PROTO_REAUTH) && !login_database(cred, &u->base_db)) {
		set_words(u, "the credential's database is not a number");
		return PROTO_FAILED;
	}
	d = u->dialogue = NEW(struct redis_dialogue);
	d->is = is;
	buf_init(&d->in, blocks);
	switch (is) {
	case PROTO_LOGIN:
		begin_login(u, d, cred, out);
		break;
	case PROTO_PING:
		dialogue_say(d, STEP_PING, out, "PING");
		break;
	case PROTO_CLEAN:
		begin_clean(u, d, cred, out);
		break;
	case PROTO_REAUTH:
		dialogue_auth(d, cred, out);
		break;
	}
	if (d->n)
		return PROTO_MORE;
	mem_free(d);
	u->dialogue = NULL;
	return PROTO_DONE;
}

/* ---- hearing ---- */

/* The connection is as good as new. */
static void clean_done(struct redis_up *u, bool was_reset)
{
	u->multis = u->pending = u->selects = 0;
	u->multi_open = u->multi = u->watching = u->doubt = false;
	u->busy = false;
	if (!was_reset)
		return;
	u->subs = u->channels = u->patterns = u->shards = 0;
	u->tracking = u->unknown = u->state = u->readonly = u->asking = false;
	u->as_is = false;
	u->resp = 2;
	u->db = 0;
}

/* One reply, whole. MORE: the next one is waited for. */
static enum proto_verdict step_reply(struct redis_up *u, const uint8_t *p, size_t n, const struct script_cred *cred)
{
	struct redis_dialogue *d = u->dialogue;
	enum proto_verdict v = PROTO_DONE;
	bool error = *p == '-';

	switch ((enum login_step)d->steps[d->at]) {
	case STEP_AUTH:
		v = login_auth_verdict(p, n);
		/* Told even though it goes on: somebody configured a password that is for nothing. */
		if (error)
			set_text(u, p, n, cred);
		break;
	case STEP_HELLO:
		step_hello(u, p, n);
		break;
	case STEP_PING:
		if (begins(p, n, "-NOAUTH"))
			v = PROTO_DENIED;
		else if (!begins(p, n, "+PONG") && !begins(p, n, "-NOPERM"))
			v = PROTO_FAILED;
		break;
	case STEP_DISCARD:
		if (error && !(u->doubt && begins(p, n, "-ERR DISCARD without MULTI")))
			v = PROTO_FAILED;
		break;
	case STEP_RESET:
		/* What was published meanwhile is for nobody. */
		if (*p == '*')
			return PROTO_MORE;
		if (!begins(p, n, "+RESET"))
			v = PROTO_FAILED;
		break;
	case STEP_SELECT:
	case STEP_UNWATCH:
		if (*p != '+')
			v = PROTO_FAILED;
	}
	if (v != PROTO_DONE) {
		set_text(u, p, n, cred);
		return v;
	}
	return ++d->at < d->n ? PROTO_MORE : PROTO_DONE;
}

/* All whole replies of the n bytes. *used: how many bytes those are. */
static enum proto_verdict feed_replies(struct redis_up *u, const uint8_t *p, size_t n, const struct script_cred *cred,
				       size_t *used)
{
	enum proto_verdict v = PROTO_MORE;

	*used = 0;
	while (v == PROTO_MORE && *used < n) {
		struct resp_frame f = {0};
		size_t len;

		switch (resp_reply(&f, p + *used, n - *used, &len)) {
		case RESP_END:
			/* Pushes and attributes are for nobody. */
			if (p[*used] != '>' && p[*used] != '|')
				v = step_reply(u, p + *used, len - 2, cred);
			*used += len;
			break;
		case RESP_BAD:
			set_words(u, "not a reply of the Redis protocol");
			return PROTO_FAILED;
		default:
			resp_frame_drop(&f);
			return PROTO_MORE;
		}
	}
	return v;
}

static void dialogue_end(struct redis_up *u)
{
	buf_clear(&u->dialogue->in);
	mem_free(u->dialogue);
	u->dialogue = NULL;
}

enum proto_verdict login_feed(void *up, const uint8_t *p, size_t n, const struct script_cred *cred, struct buf *out)
{
	uint8_t reply[DIALOGUE_BYTES_MAX];
	struct redis_up *u = up;
	struct redis_dialogue *d = u->dialogue;
	enum proto_verdict v = PROTO_FAILED;
	size_t have, used = 0;

	(void)out;
	BUG_ON(!d);
	have = buf_len(&d->in);
	if (have + n > sizeof(reply)) {
		set_words(u, "a reply of more than 16 KiB");
	} else {
		buf_append(&d->in, p, n);
		have = buf_copy(&d->in, reply, sizeof(reply));
		v = feed_replies(u, reply, have, cred, &used);
		secret_wipe(reply, have);
		buf_consume(&d->in, used);
	}
	/* More than was asked for. */
	if (v == PROTO_DONE && buf_len(&d->in)) {
		set_words(u, "more replies than questions");
		v = PROTO_FAILED;
	}
	if (v == PROTO_MORE)
		return v;
	if (v == PROTO_DONE && d->is == PROTO_CLEAN)
		clean_done(u, d->steps[0] == STEP_RESET);
	dialogue_end(u);
	return v;
}

void login_end(void *up)
{
	struct redis_up *u = up;

	if (u->dialogue)
		dialogue_end(u);
	mem_free(u->text);
	u->text = NULL;
	resp_frame_drop(&u->frame);
}
