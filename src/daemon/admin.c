#include "daemon/admin.h"

#include <grp.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/units.h"
#include "daemon/credentials.h"
#include "daemon/gather.h"
#include "daemon/metrics.h"
#include "daemon/status.h"

#define ADMIN_JSON "application/json"

struct admin {
	struct control *control;
	struct http *http;
};

/* A request whose answer waits for workers. */
struct admin_wait {
	struct admin *admin;
	struct http_request *request;
	bool full;
	struct credentials_ask ask; /* refresh */
	/* drain, resume: one call per pool */
	struct call *calls;
	size_t missing;
	enum err worst;
	const char *done;
};

static void admin_send(struct http_request *r, int status, char *body)
{
	http_reply(&r, status, ADMIN_JSON, body, strlen(body));
	mem_free(body);
}

static void admin_error(struct http_request *r, int status, const char *text)
{
	admin_send(r, status, status_error(text));
}

static struct admin_wait *admin_wait_new(struct admin *a, struct http_request *r)
{
	struct admin_wait *w = NEW(struct admin_wait);

	w->admin = a;
	w->request = r;
	return w;
}

static void admin_status_gathered(void *arg, struct snap *const *v, size_t n)
{
	struct admin_wait *w = arg;
	struct snap_process p;

	control_process_view(w->admin->control, &p);
	admin_send(w->request, 200, status_json(&p, v, n, w->full));
	snap_process_free(&p);
	mem_free(w);
}

static void admin_on_status(struct admin *a, struct http_request *r)
{
	struct admin_wait *w = admin_wait_new(a, r);
	const char *full = http_param(r, "full");

	w->full = full && strcmp(full, "0") != 0;
	gather_start(a->control, SNAP_STATUS, w->full, admin_status_gathered, w);
}

static void admin_metrics_gathered(void *arg, struct snap *const *v, size_t n)
{
	struct admin_wait *w = arg;
	struct snap_process p;
	size_t len;
	char *text;

	control_process_view(w->admin->control, &p);
	text = metrics_text(&p, v, n, &len);
	snap_process_free(&p);
	http_reply(&w->request, 200, METRICS_CONTENT_TYPE, text, len);
	mem_free(text);
	mem_free(w);
}

static void admin_on_metrics(struct admin *a, struct http_request *r)
{
	gather_start(a->control, SNAP_METRICS, false, admin_metrics_gathered, admin_wait_new(a, r));
}

static void admin_on_ping(struct admin *a, struct http_request *r)
{
	(void)a;
	admin_send(r, 200, status_result("pong"));
}

static void admin_pools_answer(struct admin_wait *w)
{
	switch (w->worst) {
	case ERR_OK:
		admin_send(w->request, 200, status_result(w->done));
		break;
	case ERR_LEASE_TIMEOUT:
		admin_error(w->request, 504, "timed out before all leases were returned");
		break;
	case ERR_CANCELLED:
		admin_error(w->request, 409, "resumed before all leases were returned");
		break;
	case ERR_AGAIN:
		admin_error(w->request, 409, "a drain of this pool is under way already");
		break;
	default:
		admin_error(w->request, 500, err_text(w->worst));
		break;
	}
	mem_free(w->calls);
	mem_free(w);
}

static void admin_pool_answered(struct call *call)
{
	struct admin_wait *w = call->arg;

	if (call->err != ERR_OK)
		w->worst = call->err;
	if (--w->missing == 0)
		admin_pools_answer(w);
}

/* Counts the pools of that name (NULL: all) and, when given a model, sends a copy of it for each of them. */
static size_t admin_each_pool(struct admin *a, const char *name, const struct call *model, struct call *calls)
{
	struct control *c = a->control;
	size_t n = 0;

	for (size_t i = 0; i < c->n_workers; i++)
		for (size_t k = 0; k < worker_pools(c->workers[i].worker); k++) {
			if (name && strcmp(worker_pool_name(c->workers[i].worker, k), name) != 0)
				continue;
			if (model) {
				calls[n] = *model;
				calls[n].pool = k;
				control_call(c, &c->workers[i], &calls[n]);
			}
			n++;
		}
	return n;
}

static void admin_pools_call(struct admin *a, struct http_request *r, struct call *model, const char *done)
{
	const char *name = http_param(r, "pool");
	size_t n = admin_each_pool(a, name, NULL, NULL);
	struct admin_wait *w;

	if (n == 0) {
		admin_error(r, 404, "no such pool");
		return;
	}
	w = admin_wait_new(a, r);
	w->done = done;
	w->missing = n;
	w->calls = mem_alloc(n * sizeof(*w->calls));
	model->answered = admin_pool_answered;
	model->arg = w;
	admin_each_pool(a, name, model, w->calls);
}

static void admin_on_drain(struct admin *a, struct http_request *r)
{
	const char *timeout = http_param(r, "timeout"), *stop = http_param(r, "stop");
	struct call model = {.m.kind = MSG_DRAIN, .timeout_us = a->control->conf->shutdown_timeout_us};

	if (timeout && duration_parse(timeout, &model.timeout_us) != ERR_OK) {
		admin_error(r, 400, "timeout: not a duration");
		return;
	}
	model.refuse_new = stop && strcmp(stop, "0") != 0;
	admin_pools_call(a, r, &model, "drained");
}

static void admin_on_resume(struct admin *a, struct http_request *r)
{
	struct call model = {.m.kind = MSG_RESUME};

	admin_pools_call(a, r, &model, "resumed");
}

static void admin_refreshed(struct credentials_ask *ask, enum err e, uint64_t generation)
{
	struct admin_wait *w = container_of(ask, struct admin_wait, ask);
	char text[120];

	snprintf(text, sizeof(text), "%s generation %llu",
		 e == ERR_OK ? "new:" : "unchanged:", (unsigned long long)generation);
	if (e == ERR_OK || e == ERR_UNCHANGED)
		admin_send(w->request, 200, status_result(text));
	else
		admin_error(w->request, e == ERR_SOURCE_TIMEOUT ? 504 : 502, err_text(e));
	mem_free(w);
}

static void admin_on_refresh(struct admin *a, struct http_request *r)
{
	const char *name = http_param(r, "credential");
	struct admin_wait *w;

	if (!name) {
		admin_error(r, 400, "credential: missing");
		return;
	}
	w = admin_wait_new(a, r);
	w->ask.answered = admin_refreshed;
	if (credentials_refresh(a->control->credentials, name, &w->ask))
		return;
	mem_free(w);
	admin_error(r, 404, "no pool uses a credential of that name");
}

static void admin_on_shutdown(struct admin *a, struct http_request *r)
{
	const char *mode = http_param(r, "mode");
	bool now = mode && strcmp(mode, "immediate") == 0;

	if (mode && !now && strcmp(mode, "graceful") != 0) {
		admin_error(r, 400, "mode: must be graceful or immediate");
		return;
	}
	admin_send(r, 200, status_result("shutting down"));
	control_shutdown(a->control, now);
}

static const struct admin_row {
	const char *method, *path;
	void (*run)(struct admin *a, struct http_request *r);
	bool control;
} admin_rows[] = {
#define ADMIN(method, path, handler, control, parameters, help) {method, path, admin_on_##handler, control},
#include "daemon/admin.def"
#undef ADMIN
};

static void admin_request(void *arg, struct http_request *r)
{
	struct admin *a = arg;
	const struct admin_row *row = NULL;

	for (size_t i = 0; i < sizeof(admin_rows) / sizeof(admin_rows[0]); i++)
		if (strcmp(admin_rows[i].path, http_path(r)) == 0)
			row = &admin_rows[i];
	if (!row)
		admin_error(r, 404, "no such path");
	else if (!http_allowed(r) || (row->control && !http_may_control(r)))
		admin_error(r, 403, "not allowed");
	else if (http_is_post(r) != (strcmp(row->method, "POST") == 0))
		admin_error(r, 405, "wrong method");
	else if (a->control->state == CONTROL_DONE)
		admin_error(r, 503, "shutting down");
	else
		row->run(a, r);
}

static enum err admin_options(const struct conf_admin *c, struct http_opts *o, const char **why)
{
	struct addr_spec spec;
	struct group *gr;
	enum err e = addr_parse(c->listen, &spec, why);

	if (e != ERR_OK)
		return e;
	*o = (struct http_opts){.addr = spec.addr, .mode = (unsigned)c->mode, .gid = -1};
	if (!c->group || !c->group[0])
		return ERR_OK;
	gr = getgrnam(c->group);
	*why = "no such group";
	if (!gr)
		return ERR_NOT_FOUND;
	o->gid = gr->gr_gid;
	return ERR_OK;
}

enum err admin_open(struct control *c, struct admin **out, char **why)
{
	struct admin *a;
	struct http_opts o;
	const char *text = "";
	enum err e;

	*out = NULL;
	if (!c->conf->admin.listen || !c->conf->admin.listen[0])
		return ERR_OK;
	a = NEW(struct admin);
	a->control = c;
	e = admin_options(&c->conf->admin, &o, &text);
	if (e == ERR_OK)
		e = http_open(c->loop, &o, admin_request, a, &a->http, &text);
	if (e == ERR_OK) {
		*out = a;
		return ERR_OK;
	}
	*why = mem_printf("%s: %s", c->conf->admin.listen, text);
	mem_free(a);
	return e;
}

void admin_close(struct admin **a)
{
	if (!*a)
		return;
	http_close(&(*a)->http);
	mem_free(*a);
	*a = NULL;
}

bool admin_busy(const struct admin *a)
{
	return a && http_busy(a->http);
}
