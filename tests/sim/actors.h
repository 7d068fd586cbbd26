/*
 * actors: the scripted ends of the virtual world: servers that speak a line protocol, and clients that check every byte.
 *
 *	client: "C<id> <seq> <payload>\n"     server: the same line back, in order
 *	leased: "AUTH <user> <password>\n"    server: "+OK\n" or "-DENIED\n"
 *	leased: "PING\n"                      server: "+PONG\n"
 *	server, unasked: "G<n>\n" as its greeting, "!<n>\n" in a fit of madness
 *
 * An id belongs to one client connection and is never used again, so a byte that reaches another client shows (ISO-1), and
 * so does one that is missing, doubled or moved (ISO-2). The server checks from its side which clients it sees on one
 * connection, and what happened between two of them (ISO-12).
 */
#ifndef LEASED_SIM_ACTORS_H
#define LEASED_SIM_ACTORS_H

#include "net.h"

struct vault;
struct resp_client;
struct resp_manners;

/* Bytes in a row, grown as needed; taken from the front. */
struct bytes {
	uint8_t *p;
	size_t len, cap, off;
};

void bytes_add(struct bytes *b, const void *p, size_t n);
void bytes_take(struct bytes *b, size_t n);
void bytes_free(struct bytes *b);
static inline size_t bytes_len(const struct bytes *b)
{
	return b->len - b->off;
}
static inline const uint8_t *bytes_at(const struct bytes *b)
{
	return b->p + b->off;
}

/* ---- servers ---- */

enum reuse_rule { REUSE_RULE_NEVER, REUSE_RULE_QUIET, REUSE_RULE_SCRIPT };

/* What a server does to a connection it has accepted: drawn per connection, carried out at byte `at` of its output. */
enum fate { FATE_NONE, FATE_CLOSE, FATE_RESET, FATE_STALL, FATE_SILENT, FATE_EXTRA, FATE_SLOW, FATE_SLICED, FATES };

struct server_actor {
	struct port *port;
	unsigned host;
	struct list sessions;
	struct event flap;
	/* behaviour, changed by faults */
	unsigned fate_chance; /* parts of a thousand of the connections it accepts */
	unsigned fates;	      /* set of enum fate */
	unsigned deny_chance; /* of logins */
	bool sick;	      /* PING is answered with an error */
	bool stopped;	      /* the process stands still */
	int64_t reply_min_us, reply_max_us;
	int64_t flap_us; /* dies and comes back this often; 0: no */
	/* what it expects */
	const struct resp_manners *resp; /* NULL: speaks in lines */
	bool greets, wants_login;
	const struct vault *vault;
	uint64_t accepts; /* set of its passwords */
	enum reuse_rule reuse;
	int64_t quiet_us;
	/* what it has seen */
	uint64_t accepted, requests, logins, denied, pings;
	int64_t first_accept_us;
};

struct server_actor *server_actor_new(unsigned host, unsigned port);
void server_actor_free(struct server_actor **a);
/* kill -9: every connection is reset, and new ones are refused until server_actor_start(). */
void server_actor_kill(struct server_actor *a);
void server_actor_start(struct server_actor *a);
void server_actor_stop(struct server_actor *a, bool stopped); /* SIGSTOP, SIGCONT */
void server_actor_heal(struct server_actor *a); /* well-behaved from now on; odd connections are reset */
/* Of passwords of its vault. Revoke: all but one; kill: sessions that used others end. The last argument of accept is not used. */
void server_actor_accept(struct server_actor *a, unsigned password, bool kill);
void server_actor_revoke(struct server_actor *a, unsigned but, bool kill);
void server_actor_reset_first(struct server_actor *a); /* its oldest session */
size_t server_actor_sessions(const struct server_actor *a);

/* ---- clients ---- */

enum client_habit {
	HABIT_POLITE,	  /* reads all replies, then closes */
	HABIT_HALF_CLOSE, /* closes its sending side after the last request, reads until the end */
	HABIT_LEAVE,	  /* closes at a random moment, whatever is under way */
	HABIT_RESET,	  /* the same, with a reset */
	HABIT_DEAF,	  /* never reads */
	HABIT_SILENT,	  /* never sends */
	HABIT_SLOW,	  /* reads a byte at a time */
	HABIT_TRICKLE,	  /* writes a byte at a time */
	HABITS
};

struct client_plan {
	unsigned requests, pipeline;
	size_t payload_max;
	enum client_habit habit;
	int64_t leave_us; /* LEAVE, RESET, DEAF, SILENT: when it goes */
	int64_t think_us; /* between requests */
};

enum client_phase { CLIENT_OUT, CLIENT_IN, CLIENT_GONE };

struct client_actor {
	unsigned id;
	struct addr to, from;
	struct sock *sock;
	struct event timer, leave;
	struct client_plan plan;
	enum client_phase phase;
	bool greeted_server; /* servers of this pool greet */
	bool greets_always;  /* ... on every connection, because none is reused */
	/* of the connection */
	uint64_t conn_id;
	unsigned sent, answered;
	bool shut, seen_greeting, at_line_start;
	char odd; /* in a line it did not ask for: its first byte */
	struct bytes out, expect;
	struct resp_client *resp; /* NULL: speaks in lines */
	int64_t opened_us, first_reply_us;
	/* in all */
	uint64_t sessions, served, failed, refused; /* failed: without having meant to leave early */
	int64_t served_us;			    /* when the last one was served in full */
	int64_t opened_last_us;			    /* when that one had begun */
	int64_t worst_us; /* longest time from connect to the first reply, of those served */
	/* decides what comes next; called as an event */
	void (*ended)(struct client_actor *c, bool served);
	void *arg;
};

struct client_actor *client_actor_new(unsigned id, const struct addr *to);
void client_actor_free(struct client_actor **c);
void client_actor_connect(struct client_actor *c); /* with c->plan */
void client_actor_connect_at(struct client_actor *c, int64_t at_us);
void client_actor_leave_at(struct client_actor *c, int64_t at_us); /* closes then, whatever is under way */
void client_actor_quit(struct client_actor *c, bool reset);	   /* leaves now, and does nothing more */

#endif
