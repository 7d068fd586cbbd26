/* Tests of io/mailbox: several threads send to one loop, two loops play ping-pong. */
#include <pthread.h>

#include "io/mailbox.h"
#include "io_help.h"

#define SENDERS 4
#define EACH	20000

struct letter {
	struct message m;
	int sender, number;
};

static struct mailbox *box;
static int next_number[SENDERS], received;

static void on_letter(void *arg, struct message *m)
{
	struct letter *x = container_of(m, struct letter, m);

	ck_assert_ptr_eq(arg, next_number);
	ck_assert_int_eq(m->kind, 7);
	ck_assert_int_eq(x->number, next_number[x->sender]++);
	free(x);
	if (++received == SENDERS * EACH)
		loop_stop(loop);
}

static void *send_letters(void *arg)
{
	for (int i = 0; i < EACH; i++) {
		struct letter *x = calloc(1, sizeof(*x));

		*x = (struct letter){.m.kind = 7, .sender = *(int *)arg, .number = i};
		mailbox_send(box, &x->m);
	}
	return NULL;
}

START_TEST(nothing_is_lost_and_each_senders_order_is_kept)
{
	pthread_t t[SENDERS];
	int id[SENDERS];

	box = mailbox_new(loop, on_letter, next_number);
	ck_assert_ptr_nonnull(box);
	for (int i = 0; i < SENDERS; i++) {
		id[i] = i;
		ck_assert_int_eq(pthread_create(&t[i], NULL, send_letters, &id[i]), 0);
	}
	loop_run(loop);
	ck_assert_int_eq(received, SENDERS * EACH);
	for (int i = 0; i < SENDERS; i++)
		ck_assert_int_eq(pthread_join(t[i], NULL), 0);
	mailbox_free(&box);
	ck_assert_ptr_null(box);
}
END_TEST

#define ROUNDS 5000

struct player {
	struct loop *loop;
	struct mailbox *box, *other;
	struct message ball;
	int hits;
};

static void on_ball(void *arg, struct message *m)
{
	struct player *p = arg;
	int left = m->kind--; /* once sent, it is the other's */

	p->hits++;
	if (left > 0)
		mailbox_send(p->other, m);
	if (left <= 1)
		loop_stop(p->loop);
}

static void *play(void *arg)
{
	struct player *p = arg;

	loop_run(p->loop);
	return NULL;
}

/* A wake-up that is lost would leave both waiting for ever. */
START_TEST(every_message_wakes_a_sleeping_loop)
{
	struct player a = {.loop = loop}, b = {.loop = loop_new()};
	pthread_t t;

	a.box = mailbox_new(a.loop, on_ball, &a);
	b.box = mailbox_new(b.loop, on_ball, &b);
	a.other = b.box;
	b.other = a.box;
	a.ball.kind = 2 * ROUNDS + 1;
	ck_assert_int_eq(pthread_create(&t, NULL, play, &b), 0);
	mailbox_send(b.box, &a.ball);
	loop_run(a.loop);
	ck_assert_int_eq(pthread_join(t, NULL), 0);
	ck_assert_int_ge(a.hits + b.hits, 2 * ROUNDS + 1);
	mailbox_free(&a.box);
	mailbox_free(&b.box);
	loop_free(&b.loop);
}
END_TEST

static int kinds[8], n_kinds;

static void on_kind(void *arg, struct message *m)
{
	(void)arg;
	kinds[n_kinds++] = m->kind;
	loop_stop(loop);
	if (m->kind == 2)
		mailbox_free(&box);
	else if (m->kind == 4)
		mailbox_send(box, m);
}

START_TEST(freed_by_its_own_message)
{
	struct message m[3] = {{.kind = 1}, {.kind = 2}, {.kind = 3}};

	box = mailbox_new(loop, on_kind, NULL);
	for (int i = 0; i < 3; i++)
		mailbox_send(box, &m[i]);
	ck_assert_int_eq(n_kinds, 0); /* never from inside the call */
	loop_run(loop);
	turn();
	ck_assert_int_eq(n_kinds, 2);
	ck_assert_int_eq(kinds[0], 1);
	ck_assert_int_eq(kinds[1], 2);
}
END_TEST

/* What a message's delivery sends comes in a batch of its own, so other events have their turn. */
START_TEST(sent_during_delivery)
{
	struct message m = {.kind = 4};

	box = mailbox_new(loop, on_kind, NULL);
	mailbox_send(box, &m);
	loop_run(loop);
	ck_assert_int_eq(n_kinds, 1);
	loop_run(loop);
	ck_assert_int_eq(n_kinds, 2);
	mailbox_free(&box);
}
END_TEST

/* Proves: R1 */
START_TEST(no_descriptor_no_box)
{
	rlim_t was = limit_fds(0);

	ck_assert_ptr_null(mailbox_new(loop, on_kind, NULL));
	unlimit_fds(was);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("mailbox");
	TCase *t = tcase_create("mailbox");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, io_set_up, io_tear_down);
	tcase_set_timeout(t, 30);
	tcase_add_test(t, nothing_is_lost_and_each_senders_order_is_kept);
	tcase_add_test(t, every_message_wakes_a_sleeping_loop);
	tcase_add_test(t, freed_by_its_own_message);
	tcase_add_test(t, sent_during_delivery);
	tcase_add_test(t, no_descriptor_no_box);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
