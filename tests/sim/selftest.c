/* selftest: the back end alone, before anything of ours runs on it: two streams echo, a timer, a task, a message, a name. */
#include <string.h>

#include "base/mem.h"
#include "files.h"
#include "io/listen.h"
#include "io/mailbox.h"
#include "io/resolve.h"
#include "names.h"
#include "net.h"
#include "run.h"
#include "sim_stream.h"

#define ECHO_BYTES 20000

static struct {
	struct loop *loop;
	struct stream *server, *client;
	struct listener *listener;
	uint8_t held[512];
	size_t held_len;
	size_t sent, received;
	unsigned timers, tasks, messages, lookups, refused;
	bool ended;
} t;

static uint8_t letter(size_t i)
{
	return (uint8_t)('a' + i % 23);
}

/* Reads only when all it had is written: the sockets' sizes limit it, so both sides come up short all the time. */
static void echo_event(void *arg, enum stream_event ev)
{
	enum err e = ERR_OK;
	size_t n;

	(void)arg;
	if (ev == STREAM_READABLE && t.held_len == 0) {
		e = stream_read(t.server, t.held, sizeof(t.held), &t.held_len);
		if (e == ERR_EOF) {
			stream_close(&t.server);
			return;
		}
	}
	if (t.held_len > 0 && stream_write(t.server, t.held, t.held_len, &n) == ERR_OK) {
		memmove(t.held, t.held + n, t.held_len - n);
		t.held_len -= n;
	}
	stream_want(t.server, t.held_len > 0 ? STREAM_WANT_WRITE : STREAM_WANT_READ);
}

static void accepted(void *arg, struct stream *s)
{
	(void)arg;
	t.server = s;
	stream_set_handler(s, echo_event, NULL);
	stream_want(s, STREAM_WANT_READ);
}

static void client_write(void)
{
	while (t.sent < ECHO_BYTES) {
		uint8_t p[700];
		size_t n, len = ECHO_BYTES - t.sent < sizeof(p) ? ECHO_BYTES - t.sent : sizeof(p);

		for (size_t i = 0; i < len; i++)
			p[i] = letter(t.sent + i);
		if (stream_write(t.client, p, len, &n) != ERR_OK)
			return;
		t.sent += n;
	}
	stream_want(t.client, STREAM_WANT_READ);
}

static void client_event(void *arg, enum stream_event ev)
{
	uint8_t p[333];
	size_t n;
	enum err e;

	(void)arg;
	if (ev == STREAM_CONNECTED) {
		stream_want(t.client, STREAM_WANT_READ | STREAM_WANT_WRITE);
		return;
	}
	if (ev == STREAM_WRITABLE) {
		client_write();
		return;
	}
	e = stream_read(t.client, p, sizeof(p), &n);
	for (size_t i = 0; i < n; i++)
		PROMISE(p[i] == letter(t.received++), "self-test", "byte %zu comes back as %c", t.received - 1, p[i]);
	if (t.received == ECHO_BYTES && e == ERR_OK)
		stream_shutdown(t.client);
	if (e == ERR_EOF) {
		t.ended = true;
		stream_close(&t.client);
	}
}

static void refused_event(void *arg, enum stream_event ev)
{
	struct stream **s = arg;

	PROMISE(ev == STREAM_FAILED && stream_error(*s) == ERR_REFUSED, "self-test",
		"a port nobody listens on: event %d", ev);
	t.refused++;
	stream_close(s);
}

static void count(void *arg)
{
	++*(unsigned *)arg;
}

static void got_message(void *arg, struct message *m)
{
	PROMISE(m->kind == 7, "self-test", "message %d", m->kind);
	count(arg);
}

static void got_name(void *arg, enum err e, const struct addr *v, size_t n)
{
	struct addr want = sim_addr(9, 80);

	PROMISE(e == ERR_OK && n == 1 && addr_equal(v, &want), "self-test", "a name of %zu addresses", n);
	count(arg);
}

static void selftest_echo(bool bugs)
{
	struct listen_opts lo = {.backlog = 4};
	struct resolver_opts ro = {.timeout_us = SECOND};
	struct tcp_opts to = {0};
	struct addr at = sim_addr(50, 6000), nobody = sim_addr(51, 6000);
	struct timer timer;
	struct task task;
	struct message m = {.kind = 7};
	struct stream *doomed;
	struct mailbox *box;
	struct resolver *names;
	struct name *name;
	struct loop_count left;
	const char *why;

	memset(&t, 0, sizeof(t));
	world.bugs_on = bugs;
	world.bug = (struct buggify){.short_read = 300, .short_write = 300, .postpone = 200, .late_timer = 300};
	sim_streams_begin();
	names_begin();
	files_begin();
	programs_begin();
	t.loop = loop_new_seeded(1);
	BUG_ON(listener_open(t.loop, &at, &lo, accepted, NULL, &t.listener, &why) != ERR_OK);
	t.client = stream_dial(t.loop, &at, &to, client_event, NULL);
	doomed = stream_dial(t.loop, &nobody, &to, refused_event, &doomed);
	timer_init(&timer, count, &t.timers);
	timer_set(t.loop, &timer, world.now_us + 50 * MS);
	task_init(&task, count, &t.tasks);
	loop_post(t.loop, &task);
	loop_post(t.loop, &task);
	box = mailbox_new(t.loop, got_message, &t.messages);
	mailbox_send(box, &m);
	names = resolver_new(t.loop, &ro);
	name = name_new();
	name->host[name->n++] = 9;
	resolver_lookup(names, name->text, 80, got_name, &t.lookups);
	world_run_until(world.now_us + 10 * SECOND);
	PROMISE(t.ended && t.received == ECHO_BYTES, "self-test", "%zu bytes come back", t.received);
	PROMISE(t.timers == 1 && t.tasks == 1 && t.messages == 1 && t.lookups == 1 && t.refused == 1, "self-test",
		"timers %u tasks %u messages %u lookups %u refused %u", t.timers, t.tasks, t.messages, t.lookups,
		t.refused);
	mailbox_free(&box);
	resolver_free(&names);
	listener_close(&t.listener);
	world_run_until(world.now_us + 1 * SECOND);
	loop_count(t.loop, &left);
	PROMISE(left.streams + left.listeners + left.mailboxes + left.lookups + left.timers + left.tasks == 0,
		"self-test", "something is left");
	loop_free(&t.loop);
	net_end();
	world_end();
}

void selftest_run(void)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		world_begin(seed, "selftest");
		selftest_echo(seed % 2);
	}
}
