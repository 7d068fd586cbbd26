/* scenarios: what the files of scenarios share. */
#ifndef LEASED_SIM_SCENARIOS_H
#define LEASED_SIM_SCENARIOS_H

#include "run.h"

#define EXPECT(cond)                                                                                                 \
	do {                                                                                                         \
		if (!(cond))                                                                                         \
			world_fail("scenario", "%s:%d: expected %s", __FILE__, __LINE__, #cond);                     \
	} while (0)

struct scenario {
	const char *name;
	void (*run)(void);
};
/* Ends with an empty row. */
extern const struct scenario scenarios_login[], scenarios_resp[];

extern const struct client_plan one_request;

struct pool *brain(const struct sim_pool *p);
struct stat *stats(const struct sim_pool *p);
/* One pool on one loop, connections reused after a ready check; not started yet, without a server. */
struct sim_pool *plain_pool(uint64_t seed, int budget);
struct client_actor *go(struct sim_pool *p, const struct client_plan *plan);
void wait_ms(int64_t ms);
void done(void); /* heals, serves everybody, ends */

#endif
