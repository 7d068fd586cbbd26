/* What the files of the redis module share: its private states, the tags of replies, the table of commands. */
#ifndef LEASED_PROTO_REDIS_PRIVATE_H
#define LEASED_PROTO_REDIS_PRIVATE_H

#include <string.h>

#include "base/mem.h"
#include "proto/redis/redis.h"
#include "proto/redis/resp.h"

/* ---- commands (command.c) ---- */

/* What a command does to the connection that carries it, or to its client. */
enum command_class {
	CMD_PLAIN,
	CMD_CONTAINER, /* its subcommands have rows; others of it are unknown */
	CMD_BLOCKING,
	CMD_XREAD, /* blocking when it says BLOCK */
	CMD_WAIT,
	CMD_MULTI,
	CMD_EXEC,
	CMD_DISCARD,
	CMD_WATCH,
	CMD_UNWATCH,
	CMD_SUBSCRIBE,
	CMD_PSUBSCRIBE,
	CMD_SSUBSCRIBE,
	CMD_UNSUBSCRIBE,
	CMD_PUNSUBSCRIBE,
	CMD_SUNSUBSCRIBE,
	CMD_MONITOR,
	CMD_SYNC,
	CMD_REPLCONF,
	CMD_ASKING,
	CMD_READONLY,
	CMD_READWRITE,
	CMD_STATE, /* changes the connection in a way that only RESET undoes */
	CMD_TRACKING,
	CMD_SELECT,
	CMD_AUTH,
	CMD_HELLO,
	CMD_RESET,
	CMD_QUIT,
	CMD_CLIENT_ID,
	CMD_CLIENT_GETNAME,
	CMD_CLIENT_SETNAME,
	CMD_CLIENT_SETINFO,
	CMD_CLIENT_INFO,
	CMD_CLIENT_REPLY,
	CMD_WHOAMI,
	CMD_REFUSED, /* can't mean what it says through a pool */
	CMD_HTTP,    /* a browser that was led here */
	CMD_UNKNOWN,
};

struct command {
	const char *name; /* lower case; "client|id" for a subcommand */
	enum command_class class;
	const char *categories; /* of the server's ACL, with a blank between two */
};

#define COMMAND_SLOTS 1024

enum command_flags {
	COMMAND_DENIED = 1,
	COMMAND_AGAIN = 2, /* changes nothing, so that it may be said twice */
};

struct command_found {
	enum command_class class;
	unsigned flags; /* enum command_flags */
};

/* The table of commands as one pool sees it. */
struct command_table {
	uint16_t slots[COMMAND_SLOTS]; /* row + 1; 0: free */
	uint8_t *flags;		       /* enum command_flags of each row */
	const struct redis_conf *conf;
};

void command_table_init(struct command_table *t, const struct redis_conf *c);
void command_table_done(struct command_table *t);
/* Denies what `what` names; false: no such command or category. */
bool command_deny(struct command_table *t, const char *what);
/* What a request with these n > 0 arguments is; one that is not in the table is CMD_UNKNOWN or, where the pool says so,
 * CMD_PLAIN. */
struct command_found command_find(const struct command_table *t, const struct resp_text *args, size_t n);
const struct command *command_rows(size_t *n);

struct proto_conf {
	struct redis_conf is;
	struct command_table commands;
};

/* ---- tags ---- */

/*
 * A tag says what its reply does, and all that server_pass() needs to know of the client: what is said again (NOT_RUN) is said
 * with the client's state of the time when it was asked, not with a later one.
 *
 *	bits 0-5  kind    6  RESP3    8-31  argument: of the kinds that have none, the client's database (tag_db())
 */
enum redis_kind {
	KIND_PLAIN, /* nothing */
	KIND_BLOCKING,
	KIND_MULTI,
	KIND_EXEC, /* argument: database + 1 that is selected in the transaction; 0: none; EXEC_DB_UNKNOWN */
	KIND_EXEC_SPOILED,
	KIND_DISCARD,
	KIND_WATCH,
	KIND_UNWATCH,
	KIND_SUBSCRIBE, /* argument of these six: how many replies are still to come; 0: told by the first one */
	KIND_PSUBSCRIBE,
	KIND_SSUBSCRIBE,
	KIND_UNSUBSCRIBE,
	KIND_PUNSUBSCRIBE,
	KIND_SUNSUBSCRIBE,
	KIND_MONITOR,
	KIND_SYNC, /* a reply without end */
	KIND_REPLCONF,
	KIND_ASKING,
	KIND_READONLY,
	KIND_READWRITE,
	KIND_STATE,
	KIND_TRACKING_ON,
	KIND_TRACKING_OFF,
	KIND_UNKNOWN,
	KIND_SELECT,	    /* argument: the database */
	KIND_SELECT_QUEUED, /* in a transaction; argument: the database */
	KIND_FACTS,	    /* asked only to have been logged in somewhere */
	/* said ahead of a request */
	KIND_AHEAD_SELECT,
	KIND_AHEAD_HELLO,
	KIND_AHEAD_SPOIL,
	KIND_REAUTH,
	KIND_COUNT
};

#define TAG_KIND_MASK	0x3fu
#define TAG_RESP3	0x40u
#define TAG_ARG_MAX	0xffffffu
#define EXEC_DB_UNKNOWN TAG_ARG_MAX
#define DB_MAX		(TAG_ARG_MAX - 8)

_Static_assert(KIND_COUNT <= TAG_KIND_MASK + 1, "a kind does not fit into its tag");

static inline uint32_t tag_make(enum redis_kind k, uint32_t arg)
{
	return (uint32_t)k | arg << 8;
}
static inline enum redis_kind tag_kind(uint32_t tag)
{
	return (enum redis_kind)(tag & TAG_KIND_MASK);
}
static inline uint32_t tag_arg(uint32_t tag)
{
	return tag >> 8;
}
/* The same tag with another argument. */
static inline uint32_t tag_with(uint32_t tag, uint32_t arg)
{
	return (tag & 0xff) | arg << 8;
}

/* ---- states ---- */

/* Databases that are no number. */
#define DB_BASE (-1) /* of a client: the one that logins select */
#define DB_AS_IS                                                                                                     \
	(-2) /* of a client: whatever the connection it holds is in; of a connection: its client's own choice */
#define DB_UNKNOWN (-3) /* of a connection */

/* The argument of a request that depends on the database, and back. */
static inline uint32_t tag_db_arg(int32_t db)
{
	return (uint32_t)(db - DB_AS_IS);
}
static inline int32_t tag_arg_db(uint32_t arg)
{
	return (int32_t)arg + DB_AS_IS;
}

#define REDIS_FACT_MAX 24

/* What all connections of a pool know. */
struct redis_pool {
	bool known; /* a login has told the facts below */
	bool resp3;
	int32_t max_db; /* the highest database that is known to exist */
	int32_t base_db;
	char server[REDIS_FACT_MAX], version[REDIS_FACT_MAX], mode[REDIS_FACT_MAX], role[REDIS_FACT_MAX];
};

enum reply_mode { REPLY_ON, REPLY_OFF, REPLY_SKIP };

/* One client; what it believes to be in. */
struct redis_client {
	uint64_t id;
	char *name, *lib_name, *lib_ver; /* NULL: not set */
	struct resp_body body;		 /* of a request that is not whole */
	int32_t db;
	int32_t queued_db;   /* selected in the open transaction; DB_BASE: none */
	int16_t user;	     /* index; -1: not logged in, or there are no users */
	int16_t uid_user;    /* the one its uid stands for */
	uint8_t resp;	     /* 2 or 3 */
	uint8_t reply_mode;  /* enum reply_mode */
	bool known;	     /* may ask */
	bool multi, spoiled; /* in a transaction; one of its commands was refused here */
	bool watching, subscribed, raw;
};

/* Where a message of the server is in. */
enum server_mid { MID_NONE, MID_REPLY, MID_CONFIRM, MID_PUSH, MID_ATTRIBUTE };
enum server_outcome { OUT_OK, OUT_NULL, OUT_ERROR, OUT_ERROR_UNKNOWN, OUT_EXECABORT, OUT_NOT_RUN };

struct redis_dialogue;

/* One connection to a server. What was sent, and what its replies made of it. */
struct redis_up {
	struct resp_frame frame;
	struct redis_pool *pool;
	struct redis_dialogue *dialogue; /* NULL: none */
	char *text;			 /* of the last dialogue's failure */
	int32_t db, base_db;
	uint32_t pending;  /* replies owed that may hold the connection */
	uint32_t blocking; /* ... to commands that block */
	uint32_t selects;  /* ... to SELECT of a client */
	uint32_t multis;   /* ... MULTI sent without the end of their transaction answered */
	uint32_t subs, channels, patterns, shards;
	uint16_t pending_why; /* enum err */
	uint8_t mid, outcome, confirm;
	uint8_t resp;	      /* 2 or 3, as last sent */
	uint8_t reauth;	      /* enum proto_verdict of the last one */
	bool busy;	      /* more than the shortest way is needed to understand what comes */
	bool multi_open;      /* as sent: in a transaction */
	bool multi, watching; /* as answered */
	bool monitor, sync, replconf, readonly, state, tracking, unknown, asking;
	bool as_is;	 /* in a database of its client's own choice, whatever was sent since */
	bool doubt;	 /* may still be in a transaction */
	bool wrong_role; /* said READONLY */
};

/* ---- functions of more than one file ---- */

/* client.c, answer.c */
void client_greet(void *cl, const struct proto_conf *c, void *pool, uint64_t id, int64_t uid, struct buf *out);
void client_end(void *cl);
enum proto_ask client_ask(void *cl, const struct proto_conf *c, void *pool, const uint8_t *p, size_t n,
			  struct proto_request *req, struct buf *out);
size_t client_more(void *cl, const uint8_t *p, size_t n, bool *whole);
void client_fail(const void *cl, enum err why, const char *text, struct buf *out);

/* One request that is being answered here. */
struct answer {
	struct redis_client *cl;
	const struct redis_conf *conf;
	struct redis_pool *pool;
	const struct resp_request *r;
	struct buf *out;
	bool mute;
};

/* What HELLO asks for. */
struct hello {
	int64_t version; /* 0: none */
	const struct resp_text *user, *password, *name;
	int login; /* index of the user that it logs in; -1: none */
};

void answer_text(struct answer *a, const char *text); /* a whole line without its CR LF */
void answer_error(struct answer *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void answer_auth(struct answer *a);
bool answer_hello_check(struct answer *a, struct hello *h); /* false: an error was answered */
void answer_hello(struct answer *a, const struct hello *h);
void answer_whoami(struct answer *a);
void answer_client(struct answer *a, enum command_class class);
void client_reset(struct redis_client *cl, const struct redis_conf *c);

/* server.c */
unsigned server_pass(void *cl, void *up, const struct proto_request *req, struct buf *out,
		     uint32_t ahead[PROTO_AHEAD_MAX]);
enum proto_reply server_reply(void *up, void *cl, void *pool, uint32_t *tag, const uint8_t *p, size_t n, size_t *len);
enum err server_held(const void *up);
bool server_may_reauth(const void *up);
enum proto_leave server_leave(const void *up, bool owed);
uint32_t server_reauth(void *up, const struct script_cred *cred, struct buf *out);
enum proto_verdict server_reauth_verdict(const void *up);
/* Needs the connection more than a DISCARD or UNWATCH to be as good as new. */
bool server_needs_reset(const struct redis_up *u);

/* login.c */
enum proto_verdict login_begin(void *up, enum proto_dialogue d, const struct proto_conf *c,
			       const struct script_cred *cred, struct blocks *blocks, struct buf *out);
enum proto_verdict login_feed(void *up, const uint8_t *p, size_t n, const struct script_cred *cred, struct buf *out);
void login_end(void *up);
const char *login_error_text(const void *up);
/* What is answered to HELLO when no server has told anything better. */
void login_facts_default(struct redis_pool *pool);
/* Appends AUTH; false: the credential has no password. */
bool login_auth(const struct script_cred *cred, struct buf *out);
/* What the server's error says about a login. DONE: it wants none. */
enum proto_verdict login_auth_verdict(const uint8_t *line, size_t n);
/* The credential's database; false: not one. */
bool login_database(const struct script_cred *cred, int32_t *db);

static inline void say(struct buf *out, const char *text)
{
	buf_append(out, text, strlen(text));
}
/* Appends an array of bulk strings. */
void say_command(struct buf *out, const char *const *args, size_t n);
static inline bool begins(const uint8_t *p, size_t n, const char *prefix)
{
	size_t k = strlen(prefix);

	return n >= k && !memcmp(p, prefix, k);
}

#endif
