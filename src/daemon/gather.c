#include "daemon/gather.h"

#include "base/mem.h"

struct gather {
	gather_fn *fn;
	void *arg;
	size_t n, missing;
	struct call *calls;
	struct snap **snaps;
};

static void gather_answered(struct call *call)
{
	struct gather *g = call->arg;

	if (--g->missing > 0)
		return;
	for (size_t i = 0; i < g->n; i++)
		g->snaps[i] = g->calls[i].snap;
	g->fn(g->arg, g->snaps, g->n);
	for (size_t i = 0; i < g->n; i++)
		snap_free(&g->snaps[i]);
	mem_free(g->snaps);
	mem_free(g->calls);
	mem_free(g);
}

void gather_start(struct control *c, enum snap_for who, bool full, gather_fn *fn, void *arg)
{
	struct gather *g = NEW(struct gather);

	g->fn = fn;
	g->arg = arg;
	g->n = g->missing = c->n_workers;
	g->calls = mem_alloc((g->n + 1) * sizeof(*g->calls));
	g->snaps = mem_alloc((g->n + 1) * sizeof(struct snap *));
	for (size_t i = 0; i < g->n; i++) {
		struct call *call = &g->calls[i];

		call->m.kind = MSG_SNAPSHOT;
		call->answered = gather_answered;
		call->arg = g;
		call->snap_for = who;
		call->full = full;
		control_call(c, &c->workers[i], call);
	}
}
