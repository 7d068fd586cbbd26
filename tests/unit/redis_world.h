/* redis_world: one client and one connection of the redis module, driven by hand, for the tests of redis. */
#ifndef LEASED_TESTS_REDIS_WORLD_H
#define LEASED_TESTS_REDIS_WORLD_H

#include "proto/redis/redis.h"

#define WORLD_OWED_MAX 64

struct redis_world {
	struct proto_conf *c;
	void *pool, *up, *cl;
	struct blocks blocks;
	struct buf out;
	struct proto_request req; /* of the last question */
	/* Replies owed, oldest first; those said ahead are `ahead`. */
	struct {
		uint32_t tag;
		bool ahead;
	} owed[WORLD_OWED_MAX];
	size_t n_owed;
	char said[65536]; /* what was appended by the last call */
};

/* conf NULL: nobody has to log in, nothing is denied. The connection is logged in to a Redis 7 without a password. */
void world_open(struct redis_world *w, const struct redis_conf *conf);
void world_close(struct redis_world *w);
/* Another client in place of the one there is, which goes on to exist. Returns the old one. */
void *world_client(struct redis_world *w, void *cl);

/* "GET a" as the array of bulk strings that it is; words are parted by one blank. */
size_t world_command(char *to, size_t cap, const char *words);
/* Asks about a command, given as words. */
enum proto_ask world_ask(struct redis_world *w, const char *words);
enum proto_ask world_ask_bytes(struct redis_world *w, const void *p, size_t n);

/* It must be answered here, in this way. */
void ck_here(struct redis_world *w, const char *words, const char *answer);
/* It must go to a server after this; the reply is owed then. */
void ck_pass(struct redis_world *w, const char *words, const char *ahead);
/* The server says this, all of which must belong to the oldest reply owed (or to a push). */
void ck_reply(struct redis_world *w, const char *bytes, enum proto_reply want);
/* Passes it, lets the server answer. */
void ck_call(struct redis_world *w, const char *words, const char *bytes);
void ck_held(struct redis_world *w, enum err want);
void ck_leave(struct redis_world *w, bool owed, enum proto_leave want);
/* Runs a dialogue: what is sent must be `sent`; the server says `says`. cred may be NULL. */
void ck_dialogue(struct redis_world *w, enum proto_dialogue d, const struct script_cred *cred, const char *sent,
		 const char *says, enum proto_verdict want);

#endif
