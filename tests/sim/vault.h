/*
 * vault: where the credentials of the pools come from, and who accepts them.
 *
 *	           /--> a file, or what a program prints --> credential (the real one, in the control loop) --mail--> pools
 *	rotation --+
 *	           \--> the passwords that servers accept; sessions of others may be killed
 *
 * A password is a number, and its text names the vault as well: so a server knows of each login which one it is. The two ways
 * of a rotation take any time, in any order; what is written may be garbage, wrong, or expire, and programs fail and hang.
 */
#ifndef LEASED_SIM_VAULT_H
#define LEASED_SIM_VAULT_H

#include "cred/credential.h"
#include "io/mailbox.h"
#include "world.h"

#define VAULT_PASSWORDS 64 /* that one vault ever makes, from 1 */
#define VAULT_GENS	256

struct server_actor;
struct sim_pool;

/* What a generation is, from outside. */
struct vault_gen {
	unsigned password;
	int64_t expires_us;
};

struct vault {
	unsigned index;
	enum cred_source source;
	struct credential_opts opts;
	struct credential *credential;
	bool users; /* the name changes with the password */
	char path[32];
	const char *argv[2];
	/* what the source says */
	char text[256];
	bool spoiled; /* ... is no credential */
	unsigned says;
	int64_t says_expires_us; /* 0: never */
	unsigned sick;		 /* of a thousand runs of its program, how many go wrong */
	unsigned newest;
	uint64_t good; /* the passwords that servers accept or will accept; the others are wrong */
	struct list steps;
	struct event next; /* rotation */
	int64_t until_us, pause_us;
	bool gentle; /* nobody is ever refused who uses what the source says */
	/* what has come of it */
	struct vault_gen gens[VAULT_GENS];
	uint64_t n_gens;
	uint64_t asked_denied;
	int64_t asked_denied_us;
	uint64_t rotations;
};

/* With password 1, which its servers accept; options to be changed before vault_start(). Static: never changes. */
struct vault *vault_new(enum cred_source source);
void vault_start(struct vault *v);
void vault_unrest(struct vault *v, int64_t until_us, bool gentle); /* rotates at random until then */
void vault_heal(struct vault *v);
/* What its credential is now; NULL: none yet. */
struct cred *vault_current(struct vault *v);
/* In the loop of a pool: a login with generation `than` was refused. */
void vault_want(struct vault *v, struct sim_pool *p, uint64_t than);
/* The password's number in "user password\n"; 0: something else. */
unsigned vault_password_of(const struct vault *v, const char *login, size_t n);
unsigned vault_password(const struct vault *v, uint64_t gen);
int64_t vault_expires_us(const struct vault *v, uint64_t gen);

/* One step of a rotation, now. */
void vault_say(struct vault *v, unsigned password, int64_t expires_us); /* the source changes; expires_us 0: never */
void vault_spoil(struct vault *v);					/* ... to something that is no credential */
unsigned vault_make(struct vault *v);					/* a new password that nobody knows yet */
void vault_accept(struct vault *v, unsigned password);			/* its servers accept it from now on */
void vault_revoke(struct vault *v, unsigned but, bool kill); /* ... and no other, and sessions of others end */

/* A message to a pool of its credential. False: of something else. */
bool vault_mail(struct sim_pool *p, struct message *m);

void vaults_begin(void);
void vaults_check(void); /* after each callback of the control loop */
void vaults_end(void);	 /* while loops still turn */
void vaults_free(void);

#endif
