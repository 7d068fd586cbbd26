/* keys: the rows of keys.def as arrays; see keys.h. */
#include "conf/keys.h"

#include <string.h>

#include "base/units.h"

#define NEAR_MAX	2 /* edits a suggestion may be away */
#define NEAR_PREFIX	1 /* how near a word is to what it begins */
#define NEAR_PREFIX_MIN 3 /* bytes it needs for that */

#define RELOAD_yes true
#define RELOAD_no  false

/* Where a key of each type lies in its struct: the names that CONF_FIELD_<TYPE> in conf.h makes. */
#define AT_BOOL(s, f)	  offsetof(struct s, f)
#define AT_INT(s, f)	  offsetof(struct s, f)
#define AT_MODE(s, f)	  offsetof(struct s, f)
#define AT_FLOAT(s, f)	  offsetof(struct s, f)
#define AT_DURATION(s, f) offsetof(struct s, f##_us)
#define AT_SIZE(s, f)	  offsetof(struct s, f##_bytes)
#define AT_STRING(s, f)	  offsetof(struct s, f)
#define AT_CHOICE(s, f)	  offsetof(struct s, f)
#define AT_SCRIPT(s, f)	  offsetof(struct s, f)
#define AT_STRINGS(s, f)  offsetof(struct s, f)
#define AT_UIDS(s, f)	  offsetof(struct s, f)
#define AT_SECRET(s, f)	  offsetof(struct s, f)

#define ROW(sc, st, f, ty, df, mn, mx, ch, rl, hp)                                                                   \
	{.scope = (sc),                                                                                              \
	 .name = #f,                                                                                                 \
	 .type = KEY_TYPE_##ty,                                                                                      \
	 .def = (df),                                                                                                \
	 .min = (mn),                                                                                                \
	 .max = (mx),                                                                                                \
	 .choices = (ch),                                                                                            \
	 .reload = RELOAD_##rl,                                                                                      \
	 .help = (hp),                                                                                               \
	 .offset = AT_##ty(st, f)},

static const struct key keys_top[] = {
#define KEY_TOP(...) ROW(SCOPE_TOP, conf, __VA_ARGS__)
#include "conf/keys.def"
};
static const struct key keys_admin[] = {
#define KEY_ADMIN(...) ROW(SCOPE_ADMIN, conf_admin, __VA_ARGS__)
#include "conf/keys.def"
};
static const struct key keys_log[] = {
#define KEY_LOG(...) ROW(SCOPE_LOG, conf_log, __VA_ARGS__)
#include "conf/keys.def"
};
static const struct key keys_limits[] = {
#define KEY_LIMITS(...) ROW(SCOPE_LIMITS, conf_limits, __VA_ARGS__)
#include "conf/keys.def"
};
static const struct key keys_tcp[] = {
#define KEY_TCP(...) ROW(SCOPE_TCP, conf_tcp, __VA_ARGS__)
#include "conf/keys.def"
};
static const struct key keys_dns[] = {
#define KEY_DNS(...) ROW(SCOPE_DNS, conf_dns, __VA_ARGS__)
#include "conf/keys.def"
};
static const struct key keys_credential[] = {
#define KEY_CREDENTIAL(...) ROW(SCOPE_CREDENTIAL, conf_credential, __VA_ARGS__)
#include "conf/keys.def"
};
static const struct key keys_listener[] = {
#define KEY_LISTENER(...) ROW(SCOPE_LISTENER, conf_listener, __VA_ARGS__)
#include "conf/keys.def"
};
static const struct key keys_user[] = {
#define KEY_USER(...) ROW(SCOPE_USER, conf_user, __VA_ARGS__)
#include "conf/keys.def"
};
static const struct key keys_server[] = {
#define KEY_SERVER(...) ROW(SCOPE_SERVER, conf_server, __VA_ARGS__)
#include "conf/keys.def"
};
static const struct key keys_pool[] = {
#define KEY_POOL(...) ROW(SCOPE_POOL, conf_pool, __VA_ARGS__)
#include "conf/keys.def"
};

#define SCOPE(sc, nm, li, ks, st)                                                                                    \
	[sc] = {.id = (sc),                                                                                          \
		.name = (nm),                                                                                        \
		.list = (li),                                                                                        \
		.keys = (ks),                                                                                        \
		.n = sizeof(ks) / sizeof((ks)[0]),                                                                   \
		.size = sizeof(struct st)}

static const struct scope scopes[SCOPE_COUNT] = {
	SCOPE(SCOPE_TOP, "", false, keys_top, conf),
	SCOPE(SCOPE_ADMIN, "admin", false, keys_admin, conf_admin),
	SCOPE(SCOPE_LOG, "log", false, keys_log, conf_log),
	SCOPE(SCOPE_LIMITS, "limits", false, keys_limits, conf_limits),
	SCOPE(SCOPE_TCP, "tcp", false, keys_tcp, conf_tcp),
	SCOPE(SCOPE_DNS, "dns", false, keys_dns, conf_dns),
	SCOPE(SCOPE_CREDENTIAL, "credentials", true, keys_credential, conf_credential),
	SCOPE(SCOPE_LISTENER, "listen", true, keys_listener, conf_listener),
	SCOPE(SCOPE_USER, "users", true, keys_user, conf_user),
	SCOPE(SCOPE_SERVER, "servers", true, keys_server, conf_server),
	SCOPE(SCOPE_POOL, "pools", true, keys_pool, conf_pool),
};

static const struct {
	const char *word, *text;
} types[KEY_TYPE_COUNT] = {
	[KEY_TYPE_BOOL] = {"boolean", "true or false"},
	[KEY_TYPE_INT] = {"integer", "an integer"},
	[KEY_TYPE_MODE] = {"mode", "a file mode in octal such as \"0660\""},
	[KEY_TYPE_FLOAT] = {"number", "a number"},
	[KEY_TYPE_DURATION] = {"duration", "a duration such as \"30s\""},
	[KEY_TYPE_SIZE] = {"size", "a size such as \"16k\""},
	[KEY_TYPE_STRING] = {"string", "a string"},
	[KEY_TYPE_CHOICE] = {"choice", "a string"},
	[KEY_TYPE_SCRIPT] = {"script", "a list of steps such as ( { send = \"PING\\r\\n\"; expect = \"+PONG\"; } )"},
	[KEY_TYPE_STRINGS] = {"strings", "a string or a list of strings"},
	[KEY_TYPE_UIDS] = {"users", "a list of user names or numbers"},
	[KEY_TYPE_SECRET] = {"secret", "a string"},
};

const struct scope *scope_get(enum scope_id id)
{
	return &scopes[id];
}

const struct key *scope_find(const struct scope *s, const char *name)
{
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->keys[i].name, name) == 0)
			return &s->keys[i];
	return NULL;
}

bool key_required(const struct key *k)
{
	return strcmp(k->def, "REQUIRED") == 0;
}

#define OF(source)   (1u << CONF_SOURCE_##source)
#define OF_FILES     (OF(FILE) | OF(DIRECTORY) | OF(SYSTEMD))
#define OF_CHILDREN  (OF(COMMAND) | OF(STREAM))
#define OF_REFRESHED (OF_FILES | OF_CHILDREN)

/* 0: of all. */
static const unsigned key_sources[K_CREDENTIAL_COUNT] = {
	[K_CREDENTIAL_username] = OF(STATIC),
	[K_CREDENTIAL_password] = OF(STATIC),
	[K_CREDENTIAL_password_file] = OF(STATIC),
	[K_CREDENTIAL_env_username] = OF(ENV),
	[K_CREDENTIAL_env_password] = OF(ENV),
	[K_CREDENTIAL_path] = OF_FILES,
	[K_CREDENTIAL_argv] = OF_CHILDREN,
	[K_CREDENTIAL_pass_env] = OF_CHILDREN,
	[K_CREDENTIAL_strict_permissions] = OF_FILES,
	[K_CREDENTIAL_poll_interval] = OF_FILES,
	[K_CREDENTIAL_debounce] = OF_FILES,
	[K_CREDENTIAL_refresh_interval] = OF(COMMAND),
	[K_CREDENTIAL_refresh_ratio] = OF(COMMAND),
	[K_CREDENTIAL_refresh_before] = OF(COMMAND),
	[K_CREDENTIAL_source_timeout] = OF_CHILDREN,
	[K_CREDENTIAL_source_retries] = OF(COMMAND),
	[K_CREDENTIAL_source_backoff_initial] = OF_CHILDREN,
	[K_CREDENTIAL_source_backoff_max] = OF_CHILDREN,
	[K_CREDENTIAL_source_backoff_multiplier] = OF_CHILDREN,
	[K_CREDENTIAL_refresh_cooldown] = OF_REFRESHED,
	[K_CREDENTIAL_refresh_cooldown_max] = OF_REFRESHED,
};

bool key_of_source(int key, int source)
{
	return key_sources[key] == 0 || (key_sources[key] >> source & 1);
}

const char *key_type_text(enum key_type t)
{
	return types[t].text;
}

const char *key_type_word(enum key_type t)
{
	return types[t].word;
}

void nearest_init(struct nearest *n, const char *word)
{
	size_t len = strlen(word);

	/* Of a very short word every other is near. */
	*n = (struct nearest){.word = word, .distance = len < 3 ? 1 : len < 5 ? 2 : NEAR_MAX + 1};
}

void nearest_try(struct nearest *n, const char *known)
{
	size_t len = strlen(n->word);
	int d = str_distance(n->word, known, NEAR_MAX);

	/* Cut short: "warn" for "warning". A shorter word begins too many others. */
	if (len >= NEAR_PREFIX_MIN && strncmp(n->word, known, len) == 0 && d > NEAR_PREFIX)
		d = NEAR_PREFIX;
	if (d < n->distance) {
		n->distance = d;
		n->best = known;
	}
}
