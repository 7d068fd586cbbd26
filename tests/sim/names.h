/*
 * names: the name server of the virtual world. A name is "h<n>.sim"; the nemesis moves its addresses, fails it, slows it.
 */
#ifndef LEASED_SIM_NAMES_H
#define LEASED_SIM_NAMES_H

#include "world.h"

#define NAMES_MAX      16
#define NAME_ADDRS_MAX 4

struct name {
	char text[16];
	unsigned host[NAME_ADDRS_MAX]; /* see sim_addr() */
	size_t n;		       /* 0: does not resolve */
	int64_t delay_us;
	bool mute; /* lookups time out */
};

void names_begin(void);
struct name *name_new(void); /* no address yet */

#endif
