/* vault: see vault.h. */
#include "vault.h"

#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "files.h"
#include "run.h"

enum step_kind { STEP_SAY, STEP_SPOIL, STEP_ACCEPT, STEP_REVOKE };

/* A part of a rotation that is still to come. */
struct step {
	struct event at;
	struct node node;
	struct vault *vault;
	enum step_kind kind;
	unsigned password;
	int64_t expires_us;
	bool kill;
};

/* Between the control loop and a pool's. */
enum mail_kind { MAIL_PUBLISHED = 10, MAIL_REFRESHED, MAIL_WANT };

struct mail {
	struct message message;
	struct node node;
	struct sim_pool *pool;
	struct cred *cred;
	uint64_t than;
	enum err why;
	bool final;
};

static struct {
	struct list mail; /* on its way */
	struct mailbox *control;
} post;

/* ---- passwords ---- */

static const char *vault_user(const struct vault *v, unsigned password, char out[16])
{
	snprintf(out, 16, v->users ? "u%u" : "joe", password);
	return out;
}

static int vault_secret(const struct vault *v, unsigned password, char out[16])
{
	return snprintf(out, 16, "v%u-p%u", v->index, password);
}

unsigned vault_password_of(const struct vault *v, const char *login, size_t n)
{
	char user[16], secret[16], text[40];

	for (unsigned k = v->newest; k > 0; k--) {
		vault_secret(v, k, secret);
		if ((size_t)snprintf(text, sizeof(text), "%s %s\n", vault_user(v, k, user), secret) == n &&
		    memcmp(text, login, n) == 0)
			return k;
	}
	return 0;
}

unsigned vault_password(const struct vault *v, uint64_t gen)
{
	return gen > 0 && gen <= v->n_gens ? v->gens[gen].password : 0;
}

int64_t vault_expires_us(const struct vault *v, uint64_t gen)
{
	return gen > 0 && gen <= v->n_gens ? v->gens[gen].expires_us : INT64_MIN;
}

unsigned vault_make(struct vault *v)
{
	BUG_ON(v->newest + 1 >= VAULT_PASSWORDS);
	return ++v->newest;
}

/* ---- the source ---- */

static void vault_put(struct vault *v)
{
	if (v->source == CRED_FILE)
		files_write(v->path, v->text);
	else if (v->source == CRED_STREAM)
		programs_say(v->path, v->text);
}

static void vault_write_text(struct vault *v)
{
	char user[16], secret[16], expires[40] = "";

	vault_secret(v, v->says, secret);
	if (v->says_expires_us > 0)
		snprintf(expires, sizeof(expires), ", \"expires_at\": %" PRId64,
			 loop_wall_s(run.control) + (v->says_expires_us - world.now_us) / SECOND);
	snprintf(v->text, sizeof(v->text), "{\"username\": \"%s\", \"password\": \"%s\"%s}\n",
		 vault_user(v, v->says, user), secret, expires);
}

void vault_say(struct vault *v, unsigned password, int64_t expires_us)
{
	if (v->source == CRED_STATIC && v->credential)
		return;
	trace(TR_VAULT, v->index, 1, password);
	v->says = password;
	v->says_expires_us = expires_us;
	v->spoiled = false;
	v->rotations++;
	vault_write_text(v);
	vault_put(v);
}

void vault_spoil(struct vault *v)
{
	size_t half = strlen(v->text) / 2;

	if (v->source == CRED_STATIC)
		return;
	trace(TR_VAULT, v->index, 2, 0);
	v->spoiled = true;
	switch (world_below(4)) {
	case 0:
		snprintf(v->text, sizeof(v->text), "{\"username\": \"joe\"}\n");
		break;
	case 1:
		snprintf(v->text, sizeof(v->text), "{\"username\": \"joe\", \"password\": \"\"}\n");
		break;
	case 2:
		v->text[0] = 0;
		if (v->source == CRED_FILE) {
			files_remove(v->path);
			return;
		}
		break;
	default:
		v->text[half] = 0;
		break;
	}
	vault_put(v);
}

/* In the place of a command or a stream. */
static struct program vault_program(void *arg, const char *reason)
{
	struct vault *v = arg;
	struct program does = {.out = v->text, .after_us = world_range(1, 20 * MS)};

	(void)reason;
	/* CRED-3: one refresh at a time. The one that starts is not counted among those that run yet, or it is. */
	PROMISE(programs_running(v->path) <= 1, "CRED-3", "%zu programs of vault %u run at once",
		programs_running(v->path), v->index);
	if (v->source == CRED_STREAM)
		does.status = -1;
	if (!world_chance(v->sick))
		return does;
	does.after_us = world_range(1, 300 * MS);
	switch (world_below(4)) {
	case 0:
		does.status = v->source == CRED_STREAM ? 0 : -1; /* ends, or hangs */
		break;
	case 1:
		does.status = 1;
		break;
	case 2:
		does.out = NULL;
		break;
	default:
		does.out = "{\"error\": \"try again\"}\n";
		break;
	}
	return does;
}

/* ---- the credential speaks, in the control loop ---- */

static void mail_send(struct mailbox *to, enum mail_kind kind, const struct mail *what)
{
	struct mail *m = NEW(struct mail);

	*m = *what;
	m->message.kind = (int)kind;
	list_push_back(&post.mail, &m->node);
	mailbox_send(to, &m->message);
}

static void mail_free(struct mail *m)
{
	list_remove(&m->node);
	cred_drop(&m->cred);
	mem_free(m);
}

/* Proves: CRED-12 */
static void vault_record(struct vault *v, const struct cred *g)
{
	char user[16], secret[16];
	unsigned k = v->newest;

	if (g->number == v->n_gens)
		return;
	while (k > 0 && !secret_equal_bytes(g->is.password, secret, (size_t)vault_secret(v, k, secret)))
		k--;
	PROMISE(k > 0 && g->is.username && strcmp(g->is.username, vault_user(v, k, user)) == 0, "CRED-12",
		"generation %" PRIu64 " of vault %u is none that was ever written", g->number, v->index);
	/* Of two that come in one turn only the second is told. */
	PROMISE(g->number > v->n_gens && g->number < VAULT_GENS, "CRED-12",
		"generation %" PRIu64 " comes after %" PRIu64, g->number, v->n_gens);
	v->n_gens = g->number;
	v->gens[g->number] = (struct vault_gen){.password = k, .expires_us = g->is.expires_us};
	trace(TR_PUBLISHED, v->index, g->number, k);
}

struct cred *vault_current(struct vault *v)
{
	struct cred *g = credential_current(v->credential);

	if (g)
		vault_record(v, g);
	return g;
}

static void vault_published(void *arg, struct credential *c, struct cred *g)
{
	struct vault *v = arg;

	(void)c;
	vault_record(v, g);
	for (size_t i = 0; i < run.n_pools; i++)
		if (run.pools[i].vault == v && run.pools[i].svc)
			mail_send(run.pools[i].mailbox, MAIL_PUBLISHED,
				  &(struct mail){.pool = &run.pools[i], .cred = cred_ref(g)});
}

static void vault_refreshed(void *arg, struct credential *c, uint64_t than, enum err why, bool final)
{
	struct vault *v = arg;

	(void)c;
	trace(TR_REFRESHED, v->index, than, (uint64_t)why);
	for (size_t i = 0; i < run.n_pools; i++)
		if (run.pools[i].vault == v && run.pools[i].svc)
			mail_send(run.pools[i].mailbox, MAIL_REFRESHED,
				  &(struct mail){.pool = &run.pools[i], .than = than, .why = why, .final = final});
}

static void vault_on_control(void *arg, struct message *message)
{
	struct mail *m = container_of(message, struct mail, message);

	(void)arg;
	credential_want_newer(m->pool->vault->credential, m->than);
	mail_free(m);
}

void vault_want(struct vault *v, struct sim_pool *p, uint64_t than)
{
	trace(TR_WANT, v->index, p->index, than);
	mail_send(post.control, MAIL_WANT, &(struct mail){.pool = p, .than = than});
}

bool vault_mail(struct sim_pool *p, struct message *message)
{
	struct mail *m = container_of(message, struct mail, message);

	if (message->kind != MAIL_PUBLISHED && message->kind != MAIL_REFRESHED)
		return false;
	if (p->svc && message->kind == MAIL_PUBLISHED)
		service_credential(p->svc, m->cred);
	else if (p->svc)
		service_credential_failed(p->svc, m->than, m->why, m->final);
	mail_free(m);
	return true;
}

/* ---- servers ---- */

static void vault_each_server(struct vault *v, void (*fn)(struct server_actor *a, unsigned password, bool kill),
			      unsigned password, bool kill)
{
	for (size_t i = 0; i < run.n_pools; i++)
		for (size_t k = 0; run.pools[i].vault == v && k < run.pools[i].n_servers; k++)
			for (size_t h = 0; h < run.pools[i].servers[k].n_hosts; h++)
				fn(run.pools[i].servers[k].hosts[h], password, kill);
}

void vault_accept(struct vault *v, unsigned password)
{
	v->good |= (uint64_t)1 << password;
	vault_each_server(v, server_actor_accept, password, false);
}

void vault_revoke(struct vault *v, unsigned but, bool kill)
{
	vault_each_server(v, server_actor_revoke, but, kill);
}

/* ---- rotations ---- */

static void step_do(struct event *e)
{
	struct step *s = container_of(e, struct step, at);
	struct vault *v = s->vault;

	world.events++;
	if (s->kind == STEP_SAY)
		vault_say(v, s->password, s->expires_us);
	else if (s->kind == STEP_SPOIL)
		vault_spoil(v);
	else if (s->kind == STEP_ACCEPT)
		vault_accept(v, s->password);
	else
		vault_revoke(v, s->password, s->kill);
	list_remove(&s->node);
	mem_free(s);
}

static void vault_later(struct vault *v, int64_t in_us, const struct step *what)
{
	struct step *s = NEW(struct step);

	*s = *what;
	s->vault = v;
	event_init(&s->at, step_do);
	list_push_back(&v->steps, &s->node);
	event_set(&s->at, world.now_us + in_us);
}

static void vault_forget_steps(struct vault *v)
{
	while (v->steps.len > 0) {
		struct step *s = container_of(list_front(&v->steps), struct step, node);

		event_stop(&s->at);
		list_remove(&s->node);
		mem_free(s);
	}
}

/* The new password works before it is used, and the old one for long after. */
static void vault_rotate_gently(struct vault *v)
{
	unsigned k = vault_make(v);
	int64_t at = world_range(0, 50 * MS);

	vault_later(v, at, &(struct step){.kind = STEP_ACCEPT, .password = k});
	vault_later(v, at + world_range(1, 200 * MS), &(struct step){.kind = STEP_SAY, .password = k});
	vault_later(v, at + world_range(3 * SECOND, 6 * SECOND),
		    &(struct step){.kind = STEP_REVOKE, .password = k, .kill = false});
}

static int64_t some_time(void)
{
	return world_below(3) == 0 ? 0 : world_below(2) ? world_range(0, 20 * MS) : world_range(0, 1 * SECOND);
}

/* Every order of the source's and the servers' way is drawn, and all that may go wrong on either. */
static void vault_rotate(struct vault *v)
{
	unsigned k = vault_make(v);
	int64_t source = some_time(), server = some_time();
	int64_t expires = world_below(5) == 0 ? world.now_us + world_range(1 * SECOND, 3 * SECOND) : 0;

	if (world_below(5) == 0)
		vault_later(v, some_time(), &(struct step){.kind = STEP_SPOIL});
	vault_later(v, source, &(struct step){.kind = STEP_SAY, .password = k, .expires_us = expires});
	if (world_below(6) == 0)
		return; /* a wrong one: no server will ever accept it */
	vault_later(v, server, &(struct step){.kind = STEP_ACCEPT, .password = k});
	if (world_below(4) > 0)
		vault_later(v, server + some_time(),
			    &(struct step){.kind = STEP_REVOKE, .password = k, .kill = world_below(2)});
}

static void vault_next(struct event *e)
{
	struct vault *v = container_of(e, struct vault, next);

	world.events++;
	if (v->newest + 4 >= VAULT_PASSWORDS)
		return;
	if (v->gentle)
		vault_rotate_gently(v);
	else if (world_below(6) == 0 && v->source != CRED_STATIC)
		vault_say(v, 1 + (unsigned)world_below(v->newest), 0); /* back to an old one */
	else
		vault_rotate(v);
	if (world.now_us + v->pause_us < v->until_us)
		event_set(e, world.now_us + world_range(1, 2 * v->pause_us));
}

void vault_unrest(struct vault *v, int64_t until_us, bool gentle)
{
	if (v->source == CRED_STATIC && gentle)
		return;
	v->gentle = gentle;
	v->until_us = SECOND + until_us;
	v->pause_us = until_us / world_range(1, 12);
	event_set(&v->next, world.now_us + world_range(0, v->pause_us));
}

/*
 * Source and servers agree again: with a new password, or the servers take what the source says. A source that can't say
 * anything new only allows that.
 */
void vault_heal(struct vault *v)
{
	bool keep = v->source == CRED_STATIC || (world_below(2) && !v->spoiled && v->says_expires_us == 0);

	event_stop(&v->next);
	vault_forget_steps(v);
	v->sick = 0;
	v->gentle = false;
	trace(TR_VAULT, v->index, 3, keep);
	/* What a stream said in part is a line of its own. */
	if (v->source == CRED_STREAM)
		programs_say(v->path, "\n");
	if (keep)
		vault_put(v);
	else
		vault_say(v, vault_make(v), 0);
	vault_accept(v, v->says);
	vault_revoke(v, v->says, world_below(2));
}

/* ---- life ---- */

static void vault_say_first(struct vault *v)
{
	v->says = vault_make(v);
	v->good = (uint64_t)1 << v->says;
	vault_write_text(v);
	vault_put(v);
}

struct vault *vault_new(enum cred_source source)
{
	struct vault *v = &run.vaults[run.n_vaults];

	BUG_ON(run.n_vaults == RUN_POOLS + 1);
	*v = (struct vault){.index = (unsigned)run.n_vaults++, .source = source};
	list_init(&v->steps);
	event_init(&v->next, vault_next);
	snprintf(v->path, sizeof(v->path), "/vault/%u", v->index);
	v->argv[0] = v->path;
	v->opts = (struct credential_opts){.name = "vault",
					   .source = source,
					   .path = v->path,
					   .argv = v->argv,
					   .debounce_us = 10 * MS,
					   .poll_us = 500 * MS,
					   .timeout_us = 300 * MS,
					   .retries = 1,
					   .backoff_initial_us = 10 * MS,
					   .backoff_max_us = 200 * MS,
					   .backoff_multiplier = 2,
					   .refresh_ratio = 0.8,
					   .cooldown_us = 100 * MS,
					   .cooldown_max_us = 400 * MS};
	if (source == CRED_COMMAND || source == CRED_STREAM)
		programs_add(v->path, vault_program, v);
	vault_say_first(v);
	return v;
}

static struct cred_fields vault_fixed(const struct vault *v)
{
	struct cred_fields f;
	char text[16];
	int n = vault_secret(v, v->says, text);

	cred_fields_init(&f);
	f.username = mem_strdup(vault_user(v, v->says, (char[16]){0}));
	f.password = secret_take(text, (size_t)n);
	BUG_ON(f.password == NULL);
	return f;
}

void vault_start(struct vault *v)
{
	static const struct credential_events events = {vault_published, vault_refreshed};
	const char *why;

	if (v->source == CRED_STATIC)
		v->opts.fixed = vault_fixed(v);
	v->credential = credential_new(run.control, &v->opts, &events, v);
	if (credential_start(v->credential, &why) != ERR_OK)
		world_fail("start", "vault %u does not start: %s", v->index, why);
}

/*
 * A source that is asked because a login was refused is asked no more often than its cooldown says.
 * Proves: CRED-5
 */
static void vault_check(struct vault *v)
{
	struct credential_view view;

	if (!v->credential)
		return;
	credential_view(v->credential, &view);
	if (view.asked[CRED_DENIED] == v->asked_denied)
		return;
	PROMISE(view.asked[CRED_DENIED] == v->asked_denied + 1 &&
			(v->asked_denied == 0 || world.now_us - v->asked_denied_us >= v->opts.cooldown_us),
		"CRED-5", "vault %u is asked for something newer after %" PRId64 " us, the cooldown is %" PRId64,
		v->index, world.now_us - v->asked_denied_us, v->opts.cooldown_us);
	v->asked_denied = view.asked[CRED_DENIED];
	v->asked_denied_us = world.now_us;
}

void vaults_check(void)
{
	for (size_t i = 0; i < run.n_vaults; i++)
		vault_check(&run.vaults[i]);
}

void vaults_begin(void)
{
	files_begin();
	programs_begin();
	list_init(&post.mail);
	post.control = mailbox_new(run.control, vault_on_control, NULL);
}

void vaults_end(void)
{
	for (size_t i = 0; i < run.n_vaults; i++) {
		event_stop(&run.vaults[i].next);
		vault_forget_steps(&run.vaults[i]);
		credential_free(&run.vaults[i].credential);
	}
	mailbox_free(&post.control);
}

void vaults_free(void)
{
	while (post.mail.len > 0)
		mail_free(container_of(list_front(&post.mail), struct mail, node));
}
