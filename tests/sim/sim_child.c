/* sim_child: io/child.h with functions in the place of programs (files.h). */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "files.h"
#include "io/child.h"
#include "sim_loop.h"

#define PROGRAMS_MAX 16
#define SAID_BYTES   4096

static struct {
	const char *argv0;
	program_fn *fn;
	void *arg;
} programs[PROGRAMS_MAX];
static size_t n_programs;
static struct list children;

struct child {
	struct ready ready;
	struct event next; /* it prints or ends */
	struct node node;
	struct loop *loop;
	const struct child_events *ev;
	void *arg;
	struct timer deadline;
	size_t program;
	struct program does;
	char said[SAID_BYTES]; /* not delivered yet */
	size_t n_said, n_out, out_max;
	bool printed, over, closed;
	struct child_end end;
};

void programs_begin(void)
{
	memset(programs, 0, sizeof(programs));
	n_programs = 0;
	list_init(&children);
}

void programs_add(const char *argv0, program_fn *fn, void *arg)
{
	BUG_ON(n_programs == PROGRAMS_MAX);
	programs[n_programs].argv0 = argv0;
	programs[n_programs].fn = fn;
	programs[n_programs++].arg = arg;
}

static size_t program_find(const char *argv0)
{
	size_t i = 0;

	while (i < n_programs && strcmp(programs[i].argv0, argv0) != 0)
		i++;
	return i;
}

size_t programs_running(const char *argv0)
{
	size_t n = 0, program = program_find(argv0);

	list_each(&children, node)
		n += container_of(node, struct child, node)->program == program;
	return n;
}

static void child_says(struct child *c, const char *text)
{
	size_t n = strlen(text);

	BUG_ON(n > SAID_BYTES - c->n_said);
	memcpy(c->said + c->n_said, text, n);
	c->n_said += n;
	loop_make_ready(c->loop, &c->ready);
}

void programs_say(const char *argv0, const char *text)
{
	size_t program = program_find(argv0);

	list_each(&children, node) {
		struct child *c = container_of(node, struct child, node);

		if (c->program == program && !c->over)
			child_says(c, text);
	}
}

/* It has ended, one way or the other; the loop will hear of it after what it has said. */
static void child_over(struct child *c, enum err e, int status, int signo)
{
	trace(TR_CHILD, c->program, (uint64_t)e, (uint64_t)(c->n_out + c->n_said));
	c->over = true;
	c->end = (struct child_end){.err = e, .status = status, .signo = signo};
	event_stop(&c->next);
	list_remove(&c->node);
	loop_make_ready(c->loop, &c->ready);
}

static void child_next(struct event *e)
{
	struct child *c = container_of(e, struct child, next);

	world.events++;
	if (!c->printed) {
		c->printed = true;
		if (c->does.out)
			child_says(c, c->does.out);
		if (c->does.status >= 0)
			event_set(&c->next, world.now_us + world_range(0, c->does.after_us));
		return;
	}
	child_over(c, c->does.status ? ERR_SOURCE_FAILED : ERR_OK, c->does.status, 0);
}

static void child_run(struct ready *r)
{
	struct child *c = container_of(r, struct child, ready);
	size_t n = c->n_said;

	c->n_said = 0;
	c->n_out += n;
	if (c->out_max && c->n_out > c->out_max)
		c->end.err = ERR_TOO_BIG;
	else if (n > 0)
		c->ev->out(c->arg, c->said, n);
	if (!c->closed && c->over) {
		timer_stop(c->loop, &c->deadline);
		c->ev->ended(c->arg, &c->end);
	}
	loop_called(c->loop);
}

static void child_deadline(void *arg)
{
	child_end_early(arg, ERR_SOURCE_TIMEOUT);
}

void child_end_early(struct child *c, enum err why)
{
	if (!c->over)
		child_over(c, why, -1, 15);
}

static const char *env_reason(const char *const *envp)
{
	static const char key[] = "LEASED_REASON=";

	for (size_t i = 0; envp[i]; i++)
		if (strncmp(envp[i], key, sizeof(key) - 1) == 0)
			return envp[i] + sizeof(key) - 1;
	return "";
}

struct child *child_start(struct loop *l, const struct child_opts *o, const struct child_events *ev, void *arg)
{
	struct child *c = NEW(struct child);

	c->ready.run = child_run;
	event_init(&c->next, child_next);
	c->loop = l;
	c->ev = ev;
	c->arg = arg;
	c->out_max = o->out_max;
	c->program = program_find(o->argv[0]);
	timer_init(&c->deadline, child_deadline, c);
	list_push_back(&children, &c->node);
	l->n_children++;
	if (c->program == n_programs) {
		child_over(c, ERR_NOT_FOUND, -1, 0);
		return c;
	}
	c->does = programs[c->program].fn(programs[c->program].arg, env_reason(o->envp));
	event_set(&c->next, world.now_us + world_range(1, c->does.after_us));
	if (o->timeout_us > 0)
		timer_set(l, &c->deadline, loop_now_us(l) + o->timeout_us);
	return c;
}

void child_close(struct child **pc)
{
	struct child *c = *pc;

	*pc = NULL;
	if (!c)
		return;
	if (!c->over)
		list_remove(&c->node);
	event_stop(&c->next);
	timer_stop(c->loop, &c->deadline);
	if (list_is_on(&c->ready.node))
		list_remove(&c->ready.node);
	c->closed = true;
	c->loop->n_children--;
	loop_free_later(c->loop, c);
}
