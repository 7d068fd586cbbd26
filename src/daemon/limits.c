#include "daemon/limits.h"

#include <limits.h>
#include <sys/resource.h>

#include "base/log.h"
#include "base/mem.h"
#include "daemon/setup.h"
#include "daemon/worker.h"

static int64_t limits_int(rlim_t r)
{
	return r == RLIM_INFINITY || r > INT_MAX ? INT_MAX : (int64_t)r;
}

static void limits_read(struct limits *l)
{
	struct rlimit r;

	l->nofile = l->hard = -1;
	if (getrlimit(RLIMIT_NOFILE, &r) != 0)
		return;
	l->nofile = limits_int(r.rlim_cur);
	l->hard = limits_int(r.rlim_max);
}

void limits_raise(struct limits *l)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &r) != 0)
			log_text(LOG_LV_WARNING, "limits.raise", "can't raise the soft descriptor limit");
	}
	limits_read(l);
}

/* The budget for the descriptors left: as asked if that fits, else what fits. */
static int limits_budget(const struct limits *l)
{
	int64_t left = l->nofile - l->reserved;

	if (l->asked_upstream == 0 || l->nofile <= 0)
		return budget_auto(l->nofile, l->reserved);
	if (left < 1)
		return 1;
	if (l->asked_upstream > 0 && l->asked_upstream < left)
		return (int)l->asked_upstream;
	return (int)left;
}

/* What the default of max_clients comes down to when it doesn't fit beside the upstream connections. */
static int64_t limits_default_clients(const struct limits *l, const struct conf_limits *c, int64_t base)
{
	int64_t left = l->nofile - base;
	int64_t room = c->max_upstream > 0 ? left - c->max_upstream : left - 100;

	if (c->max_clients <= room)
		return c->max_clients;
	if (c->max_upstream > 0)
		return room;
	return left / 2;
}

/* What is neither a listener nor a connection. Each listener keeps a spare. */
static int64_t limits_ours(const struct conf *c)
{
	int64_t nameservers = c->dns.nameservers.n ? (int64_t)c->dns.nameservers.n : 1;
	int64_t n = LIMITS_PROCESS + worker_count(c) * (LIMITS_WORKER + nameservers) + (int64_t)setup_listeners(c);

	return n > LIMITS_OURS ? n : LIMITS_OURS;
}

bool limits_plan(struct limits *l, const struct conf *c, char **why)
{
	int64_t base = limits_ours(c) + LIMITS_ADMIN + (int64_t)setup_listeners(c);
	int64_t clients = c->limits.max_clients;
	int64_t need = c->limits.max_upstream > 0 ? c->limits.max_upstream : 1;

	if (l->nofile > 0 && !c->limits.max_clients_given)
		clients = limits_default_clients(l, &c->limits, base);
	l->lowered = clients < c->limits.max_clients;
	l->asked_upstream = c->limits.max_upstream;
	l->max_clients = (int)clients;
	l->reserved = base + clients;
	l->max_upstream = limits_budget(l);
	if (l->nofile <= 0 || (clients >= 1 && l->reserved + need <= l->nofile))
		return true;
	if (clients < 1)
		clients = 1;
	*why = mem_printf("max_clients %lld and max_upstream %lld need %lld descriptors with the %lld reserved for "
			  "listeners and other uses, but the limit is %lld (hard %lld); raise it (ulimit -n, "
			  "LimitNOFILE=) or lower them",
			  (long long)clients, (long long)need, (long long)(base + clients + need), (long long)base,
			  (long long)l->nofile, (long long)l->hard);
	return false;
}

void limits_recheck(struct limits *l, struct budget *b)
{
	struct limits now = *l;

	limits_read(&now);
	if (now.nofile == l->nofile && now.hard == l->hard)
		return;
	*l = now;
	l->max_upstream = limits_budget(l);
	budget_set_max(b, l->max_upstream);
	limits_log(l);
}

void limits_log(const struct limits *l)
{
	log_text(LOG_LV_NOTICE, "limits.fds", "fd limit %lld (hard %lld): clients %d, upstream %d, reserved %lld",
		 (long long)l->nofile, (long long)l->hard, l->max_clients, l->max_upstream, (long long)l->reserved);
	if (l->lowered)
		log_text(LOG_LV_WARNING, "limits.clients",
			 "max_clients lowered to %d because the descriptor limit is %lld", l->max_clients,
			 (long long)l->nofile);
}
