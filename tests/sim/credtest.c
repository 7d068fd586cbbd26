/*
 * credtest: one credential in the virtual world: its source changes, fails, hangs and lies, and pools are refused and want newer ones.
 *
 *	rotate: the secret's number goes up, file and program have it some time later --> generation --> wants
 *
 * Promised all the time: one refresh at a time, refused pools ask the source no more often than the cooldown says, generations go up,
 * differ from each other and are what the source once said. In the end: whoever wanted something newer got it or an answer, and
 * the last generation is the last secret.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cred/credential.h"
#include "files.h"
#include "run.h"

#define SEEDS	  1000
#define WANTS_MAX 64
#define COOLDOWN  (1 * SECOND)

static const enum cred_source kinds[] = {CRED_FILE, CRED_DIRECTORY, CRED_COMMAND, CRED_STREAM};

static struct {
	struct loop *loop;
	struct credential *cred;
	struct credential_opts opts;
	int secret;		   /* the number of the secret that is right now */
	int last;		   /* of the last generation */
	uint64_t number;	   /* of the last generation */
	uint64_t wants[WANTS_MAX]; /* "newer than" that has not been answered */
	size_t n_wants;
	int64_t denied_us; /* when a program was started because of a refusal */
	uint64_t started;
	bool calm; /* nothing lies or fails any more */
	struct event rotate, deny, end;
	char text[128];
} t;

/* ---- the source ---- */

static const char *document(int secret)
{
	snprintf(t.text, sizeof(t.text), "{\"username\":\"app\",\"password\":\"secret-%d\"}", secret);
	return t.text;
}

static struct program source_program(void *arg, const char *reason)
{
	static const char *const nonsense[] = {"", "{\"password\":", "{\"password\":\"\"}", "no\nthing\n"};
	struct program p = {.out = document(t.secret), .after_us = 50 * MS};
	uint64_t mood = t.calm ? 99 : world_below(10);

	(void)arg;
	PROMISE(programs_running("/program") == 1, "CRED-3", "%zu programs run", programs_running("/program"));
	t.started++;
	if (strcmp(reason, "denied") == 0) {
		PROMISE(t.denied_us == 0 || world.now_us - t.denied_us >= COOLDOWN || t.opts.source == CRED_STREAM,
			"CRED-5", "asked after %" PRId64 " us", world.now_us - t.denied_us);
		t.denied_us = world.now_us;
	}
	if (mood == 0)
		p = (struct program){.out = nonsense[world_below(4)], .after_us = 50 * MS};
	else if (mood == 1)
		p.status = 1;
	else if (mood == 2)
		p.after_us = 60 * SECOND;
	else if (mood == 3 && t.secret > 0)
		p.out = document(t.secret - 1);
	if (t.opts.source == CRED_STREAM && mood > 1) {
		p.status = -1;
		strcat(t.text, "\n");
	}
	return p;
}

/* Writes the secret where the source looks, now and then something else before. */
static void source_rotate(void)
{
	char text[32];

	t.secret++;
	switch (t.opts.source) {
	case CRED_FILE:
		if (!t.calm && world_below(4) == 0)
			files_write("/secret", "{\"username\":\"app\",\"passw");
		if (!t.calm && world_below(4) == 0)
			files_remove("/secret");
		files_write("/secret", document(t.secret));
		break;
	case CRED_DIRECTORY:
		snprintf(text, sizeof(text), "secret-%d\n", t.secret);
		files_write("/secrets/password", text);
		break;
	case CRED_STREAM:
		document(t.secret);
		strcat(t.text, "\n");
		programs_say("/program", t.text);
		break;
	default:
		break;
	}
}

/* ---- what is told ---- */

static int secret_number(const struct cred *g)
{
	char text[32];
	int n = -1;

	for (int i = 0; i <= t.secret; i++) {
		snprintf(text, sizeof(text), "secret-%d", i);
		if (secret_equal_bytes(g->is.password, text, strlen(text)))
			n = i;
	}
	return n;
}

static void wants_end(uint64_t upto)
{
	size_t n = 0;

	for (size_t i = 0; i < t.n_wants; i++)
		if (t.wants[i] > upto)
			t.wants[n++] = t.wants[i];
	t.n_wants = n;
}

static void on_published(void *arg, struct credential *c, struct cred *g)
{
	int secret = secret_number(g);

	(void)arg;
	PROMISE(c == t.cred && g == credential_current(c), "CRED", "another one is told");
	PROMISE(g->number > t.number, "CRED", "generation %" PRIu64 " after %" PRIu64, g->number, t.number);
	PROMISE(secret >= 0, "CRED-12", "generation %" PRIu64 " is none of the secrets", g->number);
	PROMISE(secret != t.last || g->number > t.number + 1, "CRED", "secret %d twice", secret);
	t.number = g->number;
	t.last = secret;
	wants_end(g->number - 1);
}

static void on_refreshed(void *arg, struct credential *c, uint64_t than, enum err why, bool final)
{
	(void)arg;
	(void)c;
	PROMISE(why != ERR_OK && !final, "CRED", "refreshed with %s", err_name(why));
	PROMISE(credential_current(c) == NULL || credential_current(c)->number >= than, "credential",
		"newer than %" PRIu64, than);
	wants_end(than);
}

/* ---- what happens ---- */

static void rotate(struct event *e)
{
	source_rotate();
	event_set(e, world.now_us + world_range(0, 10 * SECOND));
}

/* A login with the current generation, or with one that just ended, is refused. */
static void deny(struct event *e)
{
	const struct cred *g = credential_current(t.cred);
	uint64_t than = g ? g->number - (g->number > 1 && world_below(3) == 0) : 0;

	if (t.n_wants < WANTS_MAX && (!g || than == g->number))
		t.wants[t.n_wants++] = than;
	credential_want_newer(t.cred, than);
	if (world_below(20) == 0)
		credential_refresh(t.cred);
	event_set(e, world.now_us + world_range(0, 3 * SECOND));
}

static void credtest_begin(uint64_t seed)
{
	static const struct credential_events events = {on_published, on_refreshed};
	static const char *const argv[] = {"/program", NULL};
	const char *why;

	world_begin(seed, "credtest");
	world.bugs_on = seed % 2;
	world.bug = (struct buggify){.short_read = 100, .postpone = 200, .late_timer = 300};
	memset(&t, 0, sizeof(t));
	t.last = -1;
	files_begin();
	programs_begin();
	programs_add("/program", source_program, NULL);
	t.loop = loop_new_seeded(1);
	t.opts = (struct credential_opts){
		.name = "app",
		.source = kinds[seed % 4],
		.argv = argv,
		.poll_us = 5 * SECOND,
		.debounce_us = 50 * MS,
		.interval_us = seed & 16 ? 20 * SECOND : 0,
		.refresh_ratio = 0.7,
		.timeout_us = 5 * SECOND,
		.retries = 1 + (int)(seed % 3),
		.backoff_initial_us = SECOND,
		.backoff_max_us = 10 * SECOND,
		.backoff_multiplier = 2,
		.cooldown_us = COOLDOWN,
		.cooldown_max_us = 30 * SECOND,
	};
	t.opts.path = t.opts.source == CRED_FILE ? "/secret" : "/secrets";
	files_blind(seed & 32);
	t.cred = credential_new(t.loop, &t.opts, &events, NULL);
	PROMISE(credential_start(t.cred, &why) == ERR_OK, "CRED", "does not start: %s", why);
}

/* Proves: CRED-3 CRED-4 CRED-5 CRED-12 K6 K7 K9 K14 */
static void credtest_run(uint64_t seed)
{
	struct loop_count left;

	credtest_begin(seed);
	event_init(&t.rotate, rotate);
	event_init(&t.deny, deny);
	event_set(&t.rotate, world.now_us + world_range(0, SECOND));
	event_set(&t.deny, world.now_us + world_range(0, SECOND));
	world_run_until(world.now_us + 300 * SECOND);
	t.calm = true;
	event_stop(&t.rotate);
	event_stop(&t.deny);
	source_rotate();
	/* Longer than any pause there is. */
	world_run_until(world.now_us + 150 * SECOND);
	PROMISE(t.n_wants == 0, "CRED-4", "%zu wait for something newer than %" PRIu64, t.n_wants, t.wants[0]);
	/* A program without an interval has nobody who tells it. */
	if (t.opts.source == CRED_COMMAND && t.opts.interval_us == 0) {
		credential_refresh(t.cred);
		world_run_until(world.now_us + 60 * SECOND);
	}
	PROMISE(t.last == t.secret, "CRED", "secret %d, and it is %d", t.last, t.secret);
	credential_free(&t.cred);
	world_run_until(world.now_us + 1 * SECOND);
	loop_count(t.loop, &left);
	PROMISE(left.timers + left.tasks == 0, "CRED", "%zu timers and %zu tasks are left", left.timers, left.tasks);
	loop_free(&t.loop);
	world_end();
}

void credtest_run_all(void)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		credtest_run(seed);
}
