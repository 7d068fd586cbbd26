#include "daemon/control.h"

#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "daemon/admin.h"
#include "daemon/credentials.h"
#include "daemon/gather.h"
#include "daemon/statsline.h"

#define CONTROL_TICK_US	       1000000
#define CONTROL_LINGER_US      250000 /* for the last answers of the admin interface */
#define CONTROL_LINGER_STEP_US 5000
#define CONTROL_KILL_US	       5000000 /* what a worker may take to close everything */

static const int control_signals[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2};

void control_call(struct control *c, struct control_worker *w, struct call *call)
{
	list_push_back(&c->calls, &call->node);
	worker_call(w->worker, call);
}

static void control_finish(struct control *c);

/* Everything that comes to the control thread's mailbox is the answer to a call. */
static void control_on_answer(void *arg, struct message *m)
{
	struct control *c = arg;
	struct call *call = container_of(m, struct call, m);

	list_remove(&call->node);
	call->answered(call);
	if (c->state == CONTROL_DONE)
		control_finish(c);
}

static void control_answer_ignored(struct call *call)
{
	(void)call;
}

/* Leaves the loop as soon as no call is under way and nothing is left to tell anybody. */
static void control_finish(struct control *c)
{
	int64_t now = loop_now_us(c->loop);

	if (c->calls.len == 0 && (!admin_busy(c->admin) || now >= c->linger_until_us))
		loop_stop(c->loop);
	else
		timer_set(c->loop, &c->linger, now + CONTROL_LINGER_STEP_US);
}

static void control_on_linger(void *arg)
{
	control_finish(arg);
}

static void control_on_stopped(struct call *call)
{
	struct control *c = call->arg;

	container_of(call, struct control_worker, stop)->stopped = true;
	for (size_t i = 0; i < c->n_workers; i++)
		if (!c->workers[i].stopped)
			return;
	timer_stop(c->loop, &c->deadline);
	c->state = CONTROL_DONE;
	credentials_stop(c->credentials);
	c->linger_until_us = loop_now_us(c->loop) + CONTROL_LINGER_US;
}

static void control_stop_workers(struct control *c)
{
	for (size_t i = 0; i < c->n_workers; i++) {
		struct control_worker *w = &c->workers[i];

		w->stop = (struct call){.m.kind = MSG_STOP, .answered = control_on_stopped, .arg = c};
		control_call(c, w, &w->stop);
	}
}

static void control_kill_workers(struct control *c)
{
	for (size_t i = 0; i < c->n_workers; i++) {
		struct control_worker *w = &c->workers[i];

		w->kill = (struct call){.m.kind = MSG_KILL, .answered = control_answer_ignored};
		control_call(c, w, &w->kill);
	}
}

void control_shutdown(struct control *c, bool now)
{
	int64_t at = loop_now_us(c->loop);

	if (c->state == CONTROL_RUNNING) {
		log_at(LOG_LV_NOTICE, "process.stop", L_STR("how", now ? "immediate" : "graceful"));
		c->state = CONTROL_DRAINING;
		notify_stopping(&c->notify);
		notify_status(&c->notify, "draining: %d clients", client_limit_used(c->clients));
		control_stop_workers(c);
		timer_set(c->loop, &c->deadline, at + c->conf->shutdown_timeout_us);
	}
	if (c->state == CONTROL_DRAINING && now) {
		c->state = CONTROL_KILLING;
		log_at(LOG_LV_NOTICE, "process.kill", L_INT("clients", client_limit_used(c->clients)));
		control_kill_workers(c);
		timer_set(c->loop, &c->deadline, at + CONTROL_KILL_US);
	}
}

static void control_on_deadline(void *arg)
{
	struct control *c = arg;

	if (c->state != CONTROL_KILLING) {
		control_shutdown(c, true);
		return;
	}
	log_text(LOG_LV_ERROR, "process.stuck", "a worker does not end");
	_exit(1);
}

static void control_reopen_logs(struct control *c, int signo)
{
	if (log_reopen())
		log_at(LOG_LV_NOTICE, "log.reopened", L_INT("signal", signo));
	else
		log_at(LOG_LV_WARNING, "log.not_reopened", L_STR("file", c->conf->log.file));
}

static void control_reload(struct control *c)
{
	notify_reloading(&c->notify);
	control_reopen_logs(c, SIGHUP);
	credentials_refresh_all(c->credentials);
	notify_ready(&c->notify);
}

static void control_on_signal(void *arg, int signo)
{
	struct control *c = arg;

	switch (signo) {
	case SIGTERM:
	case SIGINT:
		control_shutdown(c, c->state != CONTROL_RUNNING);
		break;
	case SIGQUIT:
		control_shutdown(c, true);
		break;
	case SIGHUP:
		if (c->state == CONTROL_RUNNING)
			control_reload(c);
		else
			log_reopen();
		break;
	case SIGUSR1:
		control_reopen_logs(c, signo);
		break;
	default:
		log_at(LOG_LV_WARNING, "signal.ignored", L_INT("signal", signo));
		break;
	}
}

/* The watchdog is fed only while every worker's loop turns: each must have answered since the last time. */
static void control_on_watchdog(void *arg)
{
	struct control *c = arg;
	bool alive = true;

	for (size_t i = 0; i < c->n_workers; i++)
		alive &= !list_is_on(&c->workers[i].ping.node);
	if (alive)
		notify_watchdog(&c->notify);
	for (size_t i = 0; i < c->n_workers && c->state != CONTROL_DONE; i++) {
		struct control_worker *w = &c->workers[i];

		if (list_is_on(&w->ping.node))
			continue;
		w->ping = (struct call){.m.kind = MSG_PING, .answered = control_answer_ignored};
		control_call(c, w, &w->ping);
	}
	timer_set(c->loop, &c->watchdog, loop_now_us(c->loop) + c->notify.watchdog_us / 3);
}

static void control_on_tick(void *arg)
{
	struct control *c = arg;

	if (c->state == CONTROL_DONE)
		return;
	limits_recheck(&c->limits, c->budget);
	notify_retry(&c->notify);
	statsline_tick(c);
	timer_set(c->loop, &c->tick, loop_now_us(c->loop) + CONTROL_TICK_US);
}

void control_process_view(const struct control *c, struct snap_process *out)
{
	*out = (struct snap_process){
		.draining = c->state != CONTROL_RUNNING,
		.uptime_us = loop_now_us(c->loop) - c->started_us,
		.start_unix_us = c->start_unix_us,
		.max_clients = c->limits.max_clients,
		.clients = client_limit_used(c->clients),
		.fd_budget = budget_max(c->budget),
		.fd_in_use = budget_used(c->budget),
		.nofile = c->limits.nofile,
		.reserved = c->limits.reserved,
		.log_dropped = log_dropped(),
		.now_us = loop_now_us(c->loop),
		.n_credentials = credentials_count(c->credentials),
	};
	out->credentials = mem_alloc((out->n_credentials + 1) * sizeof(*out->credentials));
	for (size_t i = 0; i < out->n_credentials; i++)
		credentials_view(c->credentials, i, &out->credentials[i]);
}

static int64_t control_unix_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * INT64_C(1000000) + ts.tv_nsec / 1000;
}

/* Every signal is blocked here before the first thread, so that only the control thread's signalfd gets them. */
static void control_block_signals(void)
{
	static const int synchronous[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS, SIGPROF};
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigfillset(&set);
	for (size_t i = 0; i < sizeof(synchronous) / sizeof(synchronous[0]); i++)
		sigdelset(&set, synchronous[i]);
	sigprocmask(SIG_SETMASK, &set, NULL);
}

enum err control_open(struct control *c, const struct conf *conf, struct setup *setup, const struct limits *l)
{
	*c = (struct control){.conf = conf, .setup = setup, .limits = *l, .notify.fd = -1};
	list_init(&c->calls);
	timer_init(&c->tick, control_on_tick, c);
	timer_init(&c->watchdog, control_on_watchdog, c);
	timer_init(&c->deadline, control_on_deadline, c);
	timer_init(&c->linger, control_on_linger, c);
	c->start_unix_us = control_unix_us();
	c->budget = budget_new(l->max_upstream);
	c->clients = client_limit_new(l->max_clients);
	control_block_signals();
	c->loop = loop_new();
	if (!c->loop)
		return ERR_OS;
	c->started_us = loop_now_us(c->loop);
	c->box = mailbox_new(c->loop, control_on_answer, c);
	if (!c->box)
		return ERR_OS;
	c->credentials = credentials_new(c);
	if (!c->credentials)
		return ERR_OS;
	c->signals = signals_open(c->loop, control_signals, sizeof(control_signals) / sizeof(control_signals[0]),
				  control_on_signal, c);
	return c->signals ? ERR_OK : ERR_OS;
}

void control_run(struct control *c)
{
	int64_t now = loop_now_us(c->loop);

	timer_set(c->loop, &c->tick, now + CONTROL_TICK_US);
	c->stats_due_us = now + c->conf->log.stats_interval_us;
	if (c->notify.watchdog_us > 0)
		timer_set(c->loop, &c->watchdog, now);
	loop_run(c->loop);
}

void control_close(struct control *c)
{
	for (size_t i = 0; i < c->n_workers; i++)
		worker_join(c->workers[i].worker);
	for (size_t i = 0; i < c->n_workers; i++)
		worker_close(c->workers[i].worker);
	for (size_t i = 0; i < c->n_workers; i++)
		worker_free(&c->workers[i].worker);
	mem_free(c->workers);
	credentials_free(&c->credentials);
	admin_close(&c->admin);
	notify_close(&c->notify);
	if (c->loop) {
		timer_stop(c->loop, &c->tick);
		timer_stop(c->loop, &c->watchdog);
		timer_stop(c->loop, &c->deadline);
		timer_stop(c->loop, &c->linger);
		signals_close(&c->signals);
		if (c->box)
			mailbox_free(&c->box);
		loop_free(&c->loop);
	}
	client_limit_free(&c->clients);
	budget_free(&c->budget);
}
