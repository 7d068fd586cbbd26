/*
 * serve_world: one service with real sockets on loopback, and both kinds of peers around it, in one loop.
 *
 *	struct peer (client) --- socket ---> service under test --- socket ---> struct peer (server, accepted)
 *
 * A peer sends bytes of a pattern and checks that what it receives is that pattern from its start, so that a byte that is
 * lost, doubled or meant for another connection is seen. The resolver is the test's own: sv_resolve() is an answer of DNS.
 */
#ifndef LEASED_TESTS_SERVE_WORLD_H
#define LEASED_TESTS_SERVE_WORLD_H

#include <check.h>

#include "io/io_private.h"
#include "proto/tcp.h"
#include "serve/serve_private.h"

#define SV_PEERS 64
#define MS	 INT64_C(1000)
#define SEC	 INT64_C(1000000)

struct peer {
	struct stream *s; /* NULL: closed by the test */
	bool connected, failed;
	bool deaf;	   /* reads nothing */
	bool fin_when_out; /* closes its sending direction when all is sent */
	size_t to_send, sent, got;
	size_t verse;	    /* so many bytes of the pattern; what follows is words, kept in `words` */
	const char *answer; /* to every line of words */
	char words[64];
	size_t n_words;
	enum err end; /* ERR_OK while nothing has ended its reading */
};

struct serve_world {
	struct loop *loop;
	struct service *svc;
	struct budget *budget;
	struct client_limit *limit;
	struct proto_conf *conf;
	struct script *check, *ping, *login;
	struct listener *listener[3]; /* the servers' */
	struct addr server_addr[3], addr;
	struct peer clients[SV_PEERS], servers[SV_PEERS];
	size_t n_clients, n_servers, n_at[3]; /* accepted; by listener */
	const char *greeting;		      /* what a server says when accepted */
	bool stopped;
	struct timer guard, tick;
	/* settings; sv_start() takes them */
	struct tcp_conf tcp;
	struct service_opts opts;
	struct service_server server;
	struct service_listener listen;
};

extern struct serve_world sv;

void sv_set_up(void); /* settings to their defaults, servers listening */
void sv_over_unix(
	void);	     /* both ways: what a deaf peer is sent waits, and no timer of TCP has a say in when it goes on */
void sv_start(void); /* the service */
void sv_tear_down(void); /* ends everything and asserts that nothing is left */

/* Scripts of one step each. */
struct script *sv_script(const char *send, const char *expect);

struct peer *sv_client(void);			/* connected, accepted yet or not */
struct peer *sv_client_begun(void);		/* the same, without a turn: its connection waits to be accepted */
struct peer *sv_server(size_t i);		/* waits for the i-th accepted connection */
void sv_send(struct peer *p, size_t n);		/* n more bytes of the pattern, as the socket takes them */
void sv_say(struct peer *p, const char *words); /* at once */
void sv_close(struct peer *p);
void sv_abort(struct peer *p);
void sv_listen_to(struct peer *p); /* no longer deaf */
void sv_deafen(struct peer *p);
void sv_resolve(const struct addr *v, size_t n); /* the running lookup's answer */
size_t sv_in(enum up_state s);

/* Turns until the condition holds; a guard ends the test when it never does. */
void sv_turn(void);
#define SV_UNTIL(cond)                                                                                               \
	do {                                                                                                         \
		while (!(cond))                                                                                      \
			sv_turn();                                                                                   \
	} while (0)
/* Turns for that long: to show that something does not happen. */
void sv_pass(int64_t us);

#endif
