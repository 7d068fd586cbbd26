/*
 * resp_actors: the same scripted ends as in actors.h, where they speak RESP: a model of a Redis server that answers each command with
 * who asked, and clients that know every byte that may come.
 *
 *	client: GET C<id>.<seq>/<form>/<size>	server: that key, the database and the RESP version it was asked in, in one of many forms
 *
 * So a reply that reaches another client, overtakes one, or was made in somebody else's database or transaction shows (ISO-1, ISO-2,
 * ISO-4, ISO-6). The server checks from its side who speaks on a connection in which somebody has left a state (ISO-4,
 * ISO-7), and that nothing is executed twice (ISO-11).
 */
#ifndef LEASED_SIM_RESP_ACTORS_H
#define LEASED_SIM_RESP_ACTORS_H

#include "actors.h"

/* ---- what both ends know (resp_wire.c) ---- */

#define RESP_ARGS_MAX 8
/* What is published: long enough to come in parts. */
#define RESP_NEWS     "$60\r\nnews, news, news, news, news, news, news, news, news, news  \r\n"

struct resp_arg {
	const uint8_t *p;
	size_t n;
};

/* A request: how many bytes of p it takes; 0: it is not whole. */
size_t resp_parse(const uint8_t *p, size_t n, struct resp_arg args[RESP_ARGS_MAX], size_t *argc);
/* A reply: the same. */
size_t resp_reply_len(const uint8_t *p, size_t n);
bool resp_arg_is(struct resp_arg a, const char *word); /* in any case */

/* The reply that a request asks for by its key. */
enum resp_form { FORM_BULK, FORM_STRING, FORM_ERROR, FORM_ARRAY, FORM_NULLS, FORM_MAP, FORMS };
struct resp_key {
	uint64_t client; /* its connection's id */
	unsigned seq;
	enum resp_form form;
	size_t size;
};
bool resp_key_parse(struct resp_arg a, struct resp_key *out);
void resp_key_text(const struct resp_key *k, char out[64]);
/* What it was executed in; watching: a transaction that keys are watched for. */
struct resp_place {
	int db, version;
	bool watching;
};
void resp_answer(const struct resp_key *k, struct resp_place in, struct bytes *out);
void resp_add(struct bytes *b, const char *text);
void resp_add_command(struct bytes *b, size_t n, const char *const args[]);

/* ---- executed requests, of the whole run ---- */

void ran_begin(void);
unsigned ran_note(uint64_t client, unsigned seq); /* how often by now */
unsigned ran_count(uint64_t client, unsigned seq);
void ran_end(void);

/* ---- a server's connection ---- */

#define RESP_QUEUE_MAX 32

struct resp_conn {
	int db, version, queued_db;
	bool authed, multi, spoiled, watching, subscribed,
		foreign;  /* foreign: an unknown command has done something to it */
	uint64_t owner;	  /* who put it into the state it is in; 0: nobody yet */
	uint64_t channel; /* subscribed to */
	struct resp_key queue[RESP_QUEUE_MAX];
	bool queue_select[RESP_QUEUE_MAX];
	size_t n_queue;
	/* blocked in a BLPOP until then; what has arrived meanwhile can only be its client's */
	int64_t blocked_us;
	uint64_t blocked_by;
	struct resp_key blocked_key;
	size_t behind;
};

/* What a server is like. */
struct resp_manners {
	unsigned forgets;  /* of a thousand commands: how many meet a lost login */
	unsigned loading;  /* ... are answered with LOADING */
	unsigned readonly; /* ... of writes, with READONLY */
	int64_t block_max_us;
};

enum resp_login { RESP_LOGIN_OK, RESP_LOGIN_DENIED };
struct resp_world {
	const struct resp_manners *manners;
	bool wants_login;
	/* AUTH: whether "user password\n" may log in. */
	enum resp_login (*login)(void *arg, const char *login, size_t n);
	void (*published)(void *arg); /* somebody has written: subscribers hear of it */
	void *arg;
};

void resp_conn_init(struct resp_conn *c, bool wants_login);
/* One command. */
void resp_conn_do(struct resp_conn *c, const struct resp_world *w, const struct resp_arg *args, size_t argc,
		  struct bytes *out);
void resp_conn_unblock(struct resp_conn *c, size_t behind, struct bytes *out);
void resp_conn_push(struct resp_conn *c, struct bytes *out);

/* ---- a client ---- */

#define RESP_ASKS_MAX 64

enum resp_ask_kind {
	ASK_READ,
	ASK_WRITE,
	ASK_SELECT,
	ASK_MULTI,
	ASK_EXEC,
	ASK_DISCARD,
	ASK_WATCH,
	ASK_UNWATCH,
	ASK_BLPOP,
	ASK_SUBSCRIBE,
	ASK_UNSUBSCRIBE,
	ASK_PING,
	ASK_SETNAME,
	ASK_GETNAME,
	ASK_HELLO,
	ASK_UNKNOWN,
	ASK_RESET,
	ASK_SELECT_QUEUED,
	ASKS
};

struct resp_ask {
	enum resp_ask_kind kind;
	struct resp_key key;
	int arg; /* database, version */
};

struct resp_client {
	const enum resp_ask_kind *script; /* what it says; NULL: draws it */
	unsigned spice;			  /* of a thousand requests, how many are more than GET and SET */
	struct resp_ask asks[RESP_ASKS_MAX];
	struct bytes in;
	unsigned errors;
	/* as sent */
	bool sent_multi, sent_sub;
	int sent_version;
	/* as answered */
	int db, version;
	bool multi, spoiled, watching, subscribed;
	int name; /* 0: none */
	unsigned queued[RESP_ASKS_MAX];
	size_t n_queued;
	int queued_db;
};

void resp_client_begin(struct client_actor *c);
void resp_client_end(struct client_actor *c);
void resp_client_compose(struct client_actor *c); /* the next request, into c->out */
void resp_client_describe(const struct client_actor *c, FILE *f);
void resp_client_take(struct client_actor *c, const uint8_t *p, size_t n); /* of the server */

#endif
