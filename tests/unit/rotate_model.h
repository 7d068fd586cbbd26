/*
 * rotate_model: a random walk through the life of a pool with credentials, judged by rules that are written here once more,
 * from what the servers have seen, without looking at how the pool keeps its books.
 *
 *	CRED-1  once a server has accepted the newest generation it is lent with no other
 *	CRED-2  logins again at the same time, of one server: at most reauth_concurrency
 *	CRED-6  logins with a refused generation: one for each step of the backoff, and those that were under way with it
 *	CRED-7  what is lent is not logging in, what logs in again is idle or says so itself
 *	CRED-8  one login at a time with a generation that the server has not accepted
 *	CRED-9  no login and no lease with an expired generation
 * At the end every server accepts the newest generation and answers: everybody who waits must be served.
 */
#ifndef LEASED_TESTS_ROTATE_MODEL_H
#define LEASED_TESTS_ROTATE_MODEL_H

#include <stdint.h>

/* One seed is one walk: configuration, events, times. Aborts the test at the first broken rule. */
void model_run(uint64_t seed, int steps);

#endif
