/* nemesis: does harm at random moments, and undoes some of it. All it does is undone by run_heal(). */
#include "run.h"

enum harm {
	HARM_KILL,
	HARM_FLAP,
	HARM_DEAF, /* SYNs are never answered */
	HARM_HOLE, /* nothing gets through to a server */
	HARM_LATENCY,
	HARM_FATES, /* its new connections end badly */
	HARM_DENY,
	HARM_SICK,
	HARM_SIGSTOP,
	HARM_CURE, /* a server is well again */
	HARM_MOVE_NAME,
	HARM_NO_NAME,
	HARM_MUTE_NAME,
	HARM_CURE_NAME,
	HARM_BUDGET,
	HARM_DRAIN,
	HARM_RESUME,
	HARM_FREEZE,
	HARM_CROSS,	  /* connections end while the loop is busy, and clients come at the same time */
	HARM_CLIENT_HOLE, /* nothing gets through to a listener */
	HARM_CLIENT_CURE,
	HARMS
};

static struct {
	struct event next;
	int64_t until_us, pause_us;
	int budget;
	unsigned habits; /* set of enum harm this run knows */
	bool on;
} nemesis;

static struct sim_pool *any_pool(void)
{
	return &run.pools[world_below(run.n_pools)];
}

static struct sim_server *any_server(void)
{
	struct sim_pool *p = any_pool();

	return &p->servers[world_below(p->n_servers)];
}

static void harm_fates(struct server_actor *a)
{
	a->fate_chance = (unsigned)world_range(50, 700);
	a->fates = (unsigned)world_below(1u << FATES) & ~1u;
}

static void harm_name(struct sim_server *s, enum harm h)
{
	struct name *n = s->name;

	if (!n)
		return;
	if (h == HARM_MOVE_NAME) {
		size_t first = world_below(s->n_hosts);

		n->n = 0;
		for (size_t i = 0; i < 1 + world_below(s->n_hosts); i++)
			n->host[n->n++] = s->hosts[(first + i) % s->n_hosts]->host;
	} else if (h == HARM_NO_NAME) {
		n->n = 0;
	} else if (h == HARM_MUTE_NAME) {
		n->mute = true;
	} else {
		n->mute = false;
		n->n = s->n_hosts;
		for (size_t i = 0; i < s->n_hosts; i++)
			n->host[i] = s->hosts[i]->host;
	}
}

static void harm_server(struct server_actor *a, enum harm h)
{
	switch (h) {
	case HARM_KILL:
		server_actor_kill(a);
		break;
	case HARM_FLAP:
		a->flap_us = world_range(10 * MS, 500 * MS);
		event_set(&a->flap, world.now_us + 1);
		break;
	case HARM_DEAF:
		a->port->deaf = true;
		break;
	case HARM_HOLE:
		a->port->link.hole = true;
		break;
	case HARM_LATENCY:
		a->port->link.lat_max_us = world_range(1 * MS, 200 * MS);
		a->reply_max_us = world_range(1 * MS, 100 * MS);
		break;
	case HARM_FATES:
		harm_fates(a);
		break;
	case HARM_DENY:
		a->deny_chance = (unsigned)world_range(100, 1000);
		break;
	case HARM_SICK:
		a->sick = true;
		break;
	case HARM_SIGSTOP:
		server_actor_stop(a, true);
		break;
	default:
		server_actor_heal(a);
		break;
	}
}

static void harm_cross(struct sim_pool *p)
{
	loop_freeze(run.loops[p->loop], world.now_us + world_range(1 * MS, 10 * MS));
	for (size_t i = 0; i < p->n_servers; i++) {
		struct server_actor *a = p->servers[i].hosts[0];

		server_actor_kill(a);
		server_actor_start(a);
	}
	for (size_t i = 0; i < run.n_clients; i++) {
		struct client_actor *c = run.clients[i];

		if (run.client_pool[i] == p && c->phase == CLIENT_OUT && heap_has(&c->timer.due))
			client_actor_connect_at(c, world.now_us + world_range(1, 2 * MS));
	}
}

static void harm_do(enum harm h)
{
	struct sim_server *s = any_server();
	struct sim_pool *p = any_pool();
	struct port *listener = port_find(&p->listener.addr);

	trace(TR_NEMESIS, h, s->hosts[0]->host, p->index);
	switch (h) {
	case HARM_MOVE_NAME:
	case HARM_NO_NAME:
	case HARM_MUTE_NAME:
	case HARM_CURE_NAME:
		harm_name(s, h);
		break;
	case HARM_BUDGET:
		if (nemesis.budget > 0)
			budget_set_max(run.budget, (int)world_range(1, nemesis.budget));
		break;
	case HARM_DRAIN:
		pool_drain_start(p, world_below(2), world_range(0, 300 * MS));
		break;
	case HARM_RESUME:
		pool_drain_over(p);
		break;
	case HARM_FREEZE:
		loop_freeze(run.loops[p->loop],
			    world.now_us + world_range(1 * MS, world_below(4) ? 50 * MS : 2 * SECOND));
		break;
	case HARM_CROSS:
		harm_cross(p);
		break;
	case HARM_CLIENT_HOLE:
		listener->link.hole = true;
		break;
	case HARM_CLIENT_CURE:
		listener->link.hole = false;
		break;
	default:
		harm_server(s->hosts[world_below(s->n_hosts)], h);
		break;
	}
}

static void nemesis_move(struct event *e)
{
	enum harm h;

	world.events++;
	do
		h = (enum harm)world_below(HARMS);
	while (!(nemesis.habits >> h & 1));
	harm_do(h);
	if (run_now() + nemesis.pause_us < nemesis.until_us)
		event_set(e, world.now_us + world_range(0, 2 * nemesis.pause_us));
}

void nemesis_begin(int64_t until_us)
{
	nemesis.on = true;
	nemesis.until_us = until_us;
	nemesis.pause_us = until_us / world_range(2, 30);
	nemesis.budget = budget_max(run.budget);
	nemesis.habits = ((unsigned)world_below(1u << HARMS) | (unsigned)world_below(1u << HARMS)) | 1u << HARM_CURE |
			 1u << HARM_CURE_NAME | 1u << HARM_CLIENT_CURE | 1u << HARM_RESUME;
	if (world_below(3) == 0)
		nemesis.habits &= (unsigned)world_below(1u << HARMS) | 1u << HARM_CURE;
	event_init(&nemesis.next, nemesis_move);
	event_set(&nemesis.next, world.now_us + world_range(0, nemesis.pause_us));
}

void nemesis_end(void)
{
	if (!nemesis.on)
		return;
	nemesis.on = false;
	event_stop(&nemesis.next);
	budget_set_max(run.budget, nemesis.budget);
	for (size_t i = 0; i < run.n_loops; i++)
		loop_thaw(run.loops[i]);
	for (size_t i = 0; i < run.n_pools; i++)
		port_find(&run.pools[i].listener.addr)->link.hole = false;
}
