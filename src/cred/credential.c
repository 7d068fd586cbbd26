/*
 * credential: the generations of one credential and the refresh that may be under way; see credential.h.
 *
 *	        begin(reason)                source_failed(), tries left
 *	REST -----------------> ASKING ---------------------------------> PAUSING
 *	  ^                       |  ^-------------- backoff is over ----------+
 *	  +---- finish(result) ---+   source_has() or source_failed()
 *
 * Sources may answer at once; so whatever the outside is to hear is noted and told by a posted task.
 */
#include "cred/credential.h"

#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "cred/credential_private.h"

/* An expiry given as a lifetime, or by a clock of whole seconds, is never twice the same. */
#define EXPIRY_SLACK_US 2000000
#define US_PER_S	1000000

enum refresh_state { REFRESH_REST, REFRESH_ASKING, REFRESH_PAUSING };

struct credential {
	struct credential_opts o;
	struct loop *loop;
	const struct credential_events *ev;
	void *arg;
	const struct source_ops *ops;
	struct source *source; /* NULL: not started */
	struct cred *current;
	int64_t published_us;

	enum refresh_state state;
	enum cred_reason reason; /* of the refresh under way, or the last one */
	int64_t asked_us;
	int failures; /* of this refresh */
	int64_t backoff_us;
	bool wanted; /* somebody waits for something newer than the current generation */
	bool manual; /* somebody waits for the end of the refresh, whatever it brings */
	int64_t cooldown_us, cooldown_until_us;
	struct timer again; /* PAUSING: the next try */
	struct timer due;   /* the next refresh by time */
	struct timer cool;  /* the refresh that is wanted and has to wait */

	/* What is to be told. */
	struct task tell;
	bool tell_published, tell_refreshed, final;
	uint64_t than;
	enum err result;

	enum err last_error;
	uint64_t refreshes[ERR_COUNT], asked[CRED_MANUAL + 1], source_errors;
};

static const struct source_ops *const ops_of[] = {
	[CRED_STATIC] = &source_static,	      [CRED_ENV] = &source_env,		[CRED_FILE] = &source_file,
	[CRED_DIRECTORY] = &source_directory, [CRED_SYSTEMD] = &source_systemd, [CRED_COMMAND] = &source_command,
	[CRED_STREAM] = &source_stream,
};

const char *cred_reason_name(enum cred_reason r)
{
	static const char *const names[] = {
		[CRED_STARTUP] = "startup", [CRED_CHANGED] = "changed",	  [CRED_EXPIRING] = "expiring",
		[CRED_DENIED] = "denied",   [CRED_INTERVAL] = "interval", [CRED_MANUAL] = "manual",
	};

	return names[r];
}

static uint64_t credential_number(const struct credential *c)
{
	return c->current ? c->current->number : 0;
}

/* ---- telling ---- */

static void credential_tell(void *arg)
{
	struct credential *c = arg;

	/* A callback may stop the credential, which takes the rest back. */
	if (c->tell_published) {
		c->tell_published = false;
		c->ev->published(c->arg, c, c->current);
	}
	if (c->tell_refreshed) {
		c->tell_refreshed = false;
		c->ev->refreshed(c->arg, c, c->than, c->result, c->final);
	}
}

static void credential_tell_refreshed(struct credential *c, uint64_t than, enum err result, bool final)
{
	c->tell_refreshed = true;
	c->than = than;
	c->result = result;
	c->final = final;
	loop_post(c->loop, &c->tell);
}

/* ---- time ---- */

/* When to ask because of the expiry; past attempts that brought nothing are followed by others, ever closer. */
static int64_t credential_expiry_due(const struct credential *c, int64_t now_us)
{
	int64_t end_us = c->current->is.expires_us, at_us = end_us, wait_us;
	double part = c->o.refresh_ratio;

	if (part > 0)
		at_us = c->published_us + (int64_t)((double)(end_us - c->published_us) * part);
	if (c->o.refresh_before_us > 0 && end_us - c->o.refresh_before_us < at_us)
		at_us = end_us - c->o.refresh_before_us;
	if (at_us <= now_us || at_us <= c->asked_us) {
		wait_us = (int64_t)((double)(end_us - now_us) * (part > 0 ? part : 1));
		at_us = now_us + (wait_us < c->o.backoff_max_us && end_us > now_us ? wait_us : c->o.backoff_max_us);
	}
	if (at_us < c->asked_us + c->o.backoff_initial_us)
		at_us = c->asked_us + c->o.backoff_initial_us;
	return at_us;
}

/* The next refresh by time and why; INT64_MAX: none. */
static int64_t credential_next_due(const struct credential *c, enum cred_reason *why)
{
	int64_t now_us = loop_now_us(c->loop), at_us = INT64_MAX, expiry_us;

	*why = CRED_INTERVAL;
	if (c->o.interval_us > 0)
		at_us = c->asked_us + c->o.interval_us;
	if (!c->current) {
		*why = CRED_STARTUP;
		return now_us + c->o.backoff_max_us < at_us ? now_us + c->o.backoff_max_us : at_us;
	}
	if (c->current->is.expires_us == INT64_MAX)
		return at_us;
	expiry_us = credential_expiry_due(c, now_us);
	if (expiry_us >= at_us)
		return at_us;
	*why = CRED_EXPIRING;
	return expiry_us;
}

static void credential_schedule(struct credential *c)
{
	enum cred_reason why;
	int64_t at_us = c->ops->refreshes ? credential_next_due(c, &why) : INT64_MAX;

	if (at_us == INT64_MAX)
		timer_stop(c->loop, &c->due);
	else
		timer_set(c->loop, &c->due, at_us);
}

/* ---- a refresh ---- */

static void credential_begin(struct credential *c, enum cred_reason why)
{
	BUG_ON(c->state != REFRESH_REST);
	c->state = REFRESH_ASKING;
	c->reason = why;
	c->asked_us = loop_now_us(c->loop);
	c->failures = 0;
	c->backoff_us = c->o.backoff_initial_us;
	c->asked[why]++;
	timer_stop(c->loop, &c->due);
	timer_stop(c->loop, &c->cool);
}

static void credential_ask(struct credential *c, enum cred_reason why)
{
	credential_begin(c, why);
	c->ops->ask(c->source, why);
}

static void credential_on_again(void *arg)
{
	struct credential *c = arg;

	c->state = REFRESH_ASKING;
	c->asked_us = loop_now_us(c->loop);
	c->ops->ask(c->source, c->reason);
}

static void credential_on_due(void *arg)
{
	struct credential *c = arg;
	enum cred_reason why;

	credential_next_due(c, &why);
	credential_ask(c, why);
}

static void credential_on_cool(void *arg)
{
	struct credential *c = arg;

	c->cooldown_until_us = 0;
	credential_ask(c, CRED_DENIED);
}

/* Even a source that always has something newer is not asked more often than once in cooldown_us for servers that refuse all. */
static void credential_cool_down(struct credential *c, enum err result)
{
	if (result == ERR_OK) {
		c->cooldown_us = c->o.cooldown_us;
		c->cooldown_until_us = c->asked_us + c->cooldown_us;
		return;
	}
	c->cooldown_until_us = loop_now_us(c->loop) + c->cooldown_us;
	c->cooldown_us = c->cooldown_us < c->o.cooldown_max_us / 2 ? 2 * c->cooldown_us : c->o.cooldown_max_us;
}

static void credential_finish(struct credential *c, enum err result)
{
	bool dull = result == ERR_UNCHANGED && !c->wanted;

	c->state = REFRESH_REST;
	timer_stop(c->loop, &c->again);
	c->refreshes[result]++;
	log_at(dull ? LOG_LV_DEBUG : LOG_LV_INFO, "cred.refresh", L_STR("credential", c->o.name),
	       L_STR("asked", cred_reason_name(c->reason)), L_STR("result", err_name(result)),
	       L_INT("generation", credential_number(c)));
	if (c->wanted)
		credential_cool_down(c, result);
	if ((c->wanted || c->manual) && result != ERR_OK)
		credential_tell_refreshed(c, credential_number(c), result, false);
	c->wanted = c->manual = false;
	credential_schedule(c);
}

/* ---- what sources say ---- */

struct loop *credential_loop(const struct credential *c)
{
	return c->loop;
}

const struct credential_opts *credential_options(const struct credential *c)
{
	return &c->o;
}

static void credential_publish(struct credential *c, struct cred_fields *f)
{
	int64_t now_us = loop_now_us(c->loop), end_us = f->expires_us;
	struct cred *next = cred_new(credential_number(c) + 1, f);

	cred_drop(&c->current);
	c->current = next;
	c->published_us = now_us;
	c->tell_published = true;
	loop_post(c->loop, &c->tell);
	if (end_us == INT64_MAX)
		log_at(LOG_LV_INFO, "cred.published", L_STR("credential", c->o.name),
		       L_INT("generation", next->number));
	else
		log_at(LOG_LV_INFO, "cred.published", L_STR("credential", c->o.name),
		       L_INT("generation", next->number), L_INT("expires_in", (end_us - now_us) / US_PER_S));
}

static bool expiry_differs(int64_t a_us, int64_t b_us)
{
	return a_us < b_us ? b_us - a_us > EXPIRY_SLACK_US : a_us - b_us > EXPIRY_SLACK_US;
}

/* The same login that lives longer is worth a generation too, but not to somebody whose login with it was refused while it
 * lived. */
static bool credential_is_news(const struct credential *c, const struct cred_fields *f)
{
	if (!c->current || !cred_fields_same_login(&c->current->is, f))
		return true;
	return (!c->wanted || c->current->is.expires_us <= loop_now_us(c->loop)) &&
	       expiry_differs(c->current->is.expires_us, f->expires_us);
}

void source_has(struct credential *c, struct cred_fields *f)
{
	enum err result = credential_is_news(c, f) ? ERR_OK : ERR_UNCHANGED;
	bool asked = c->state != REFRESH_REST;

	c->last_error = ERR_OK;
	if (result == ERR_OK)
		credential_publish(c, f);
	else
		cred_fields_clear(f);
	if (!asked) {
		if (result == ERR_UNCHANGED)
			return;
		c->asked_us = loop_now_us(c->loop);
		c->asked[CRED_CHANGED]++;
		c->reason = CRED_CHANGED;
		timer_stop(c->loop, &c->cool);
	}
	credential_finish(c, result);
}

void source_same(struct credential *c)
{
	if (c->state == REFRESH_ASKING)
		credential_finish(c, ERR_UNCHANGED);
}

void source_failed(struct credential *c, enum err why, const char *what)
{
	bool invalid = why == ERR_INVALID || why == ERR_EXPIRED || why == ERR_TOO_BIG;

	c->last_error = why;
	c->source_errors++;
	log_at(LOG_LV_WARNING, invalid ? "cred.invalid" : "cred.error", L_STR("credential", c->o.name), L_ERR(why),
	       L_STR("why", what), L_INT("generation", credential_number(c)));
	if (c->state != REFRESH_ASKING)
		return;
	if (!c->ops->refreshes || ++c->failures >= c->o.retries) {
		credential_finish(c, why);
		return;
	}
	c->state = REFRESH_PAUSING;
	timer_set(c->loop, &c->again, loop_now_us(c->loop) + c->backoff_us);
	c->backoff_us = backoff_grow(c->backoff_us, &c->o);
}

int64_t backoff_grow(int64_t us, const struct credential_opts *o)
{
	double grown = (double)us * o->backoff_multiplier;

	return grown < (double)o->backoff_max_us ? (int64_t)grown : o->backoff_max_us;
}

static bool source_parsed(struct credential *c, enum err e, struct cred_fields *f, const char *why)
{
	/* A lifetime counts from when it was written down, which may be long ago. */
	if (e == ERR_OK && f->expires_us <= loop_now_us(c->loop)) {
		e = ERR_EXPIRED;
		why = "it has expired";
		cred_fields_clear(f);
	}
	if (e == ERR_OK)
		source_has(c, f);
	else
		source_failed(c, e, why);
	return e == ERR_OK;
}

bool source_says(struct credential *c, const char *text, size_t n, int64_t age_us)
{
	struct cred_fields f;
	const char *why;
	enum err e = cred_parse(text, n, loop_now_us(c->loop) - age_us, loop_wall_s(c->loop) - age_us / US_PER_S, &f,
				&why);

	return source_parsed(c, e, &f, why);
}

bool source_says_values(struct credential *c, const struct cred_value v[CRED_KEYS], int64_t age_us)
{
	struct cred_fields f;
	const char *why;
	enum err e = cred_parse_values(v, loop_now_us(c->loop) - age_us, loop_wall_s(c->loop) - age_us / US_PER_S, &f,
				       &why);

	return source_parsed(c, e, &f, why);
}

/* ---- life ---- */

struct credential *credential_new(struct loop *l, const struct credential_opts *o, const struct credential_events *ev,
				  void *arg)
{
	struct credential *c = NEW(struct credential);

	*c = (struct credential){.o = *o, .loop = l, .ev = ev, .arg = arg, .ops = ops_of[o->source]};
	c->cooldown_us = o->cooldown_us;
	timer_init(&c->again, credential_on_again, c);
	timer_init(&c->due, credential_on_due, c);
	timer_init(&c->cool, credential_on_cool, c);
	task_init(&c->tell, credential_tell, c);
	return c;
}

enum err credential_start(struct credential *c, const char **why)
{
	enum err e;

	BUG_ON(c->source);
	*why = NULL;
	/* Starting is the first time of asking. */
	credential_begin(c, CRED_STARTUP);
	e = c->ops->start(&c->source, c, why);
	if (e != ERR_OK) {
		c->state = REFRESH_REST;
		c->last_error = e;
	}
	return e;
}

void credential_stop(struct credential *c)
{
	if (c->source)
		c->ops->stop(&c->source);
	timer_stop(c->loop, &c->again);
	timer_stop(c->loop, &c->due);
	timer_stop(c->loop, &c->cool);
	loop_unpost(c->loop, &c->tell);
	c->state = REFRESH_REST;
	c->wanted = c->manual = c->tell_published = c->tell_refreshed = false;
}

void credential_free(struct credential **pc)
{
	struct credential *c = *pc;

	if (!c)
		return;
	*pc = NULL;
	credential_stop(c);
	cred_drop(&c->current);
	cred_fields_clear(&c->o.fixed);
	loop_free_later(c->loop, c);
}

/* ---- for pools and people ---- */

struct cred *credential_current(const struct credential *c)
{
	return c->current;
}

void credential_want_newer(struct credential *c, uint64_t than)
{
	if (credential_number(c) > than || !c->source)
		return;
	if (!c->ops->asks) {
		credential_tell_refreshed(c, than, ERR_UNCHANGED, true);
		return;
	}
	c->wanted = true;
	if (c->state != REFRESH_REST)
		return;
	if (c->cooldown_until_us > loop_now_us(c->loop))
		timer_set(c->loop, &c->cool, c->cooldown_until_us);
	else
		credential_ask(c, CRED_DENIED);
}

void credential_refresh(struct credential *c)
{
	if (!c->source)
		return;
	if (!c->ops->asks) {
		credential_tell_refreshed(c, credential_number(c), ERR_UNCHANGED, true);
		return;
	}
	c->manual = true;
	if (c->state == REFRESH_REST) {
		credential_ask(c, CRED_MANUAL);
	} else if (c->state == REFRESH_PAUSING) {
		/* The pause was for whoever asked before; what follows is asked by hand. */
		timer_stop(c->loop, &c->again);
		c->reason = CRED_MANUAL;
		c->asked[CRED_MANUAL]++;
		credential_on_again(c);
	}
}

void credential_view(const struct credential *c, struct credential_view *out)
{
	*out = (struct credential_view){
		.name = c->o.name,
		.source = c->ops->name,
		.generation = credential_number(c),
		.published_us = c->published_us,
		.expires_us = c->current ? c->current->is.expires_us : INT64_MAX,
		.asked_us = c->asked_us,
		.refreshing = c->state != REFRESH_REST,
		.cooldown_until_us = c->cooldown_until_us > loop_now_us(c->loop) ? c->cooldown_until_us : 0,
		.last_error = c->last_error,
		.source_errors = c->source_errors,
	};
	memcpy(out->refreshes, c->refreshes, sizeof(out->refreshes));
	memcpy(out->asked, c->asked, sizeof(out->asked));
}
