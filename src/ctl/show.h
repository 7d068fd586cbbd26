/*
 * show: turns the daemon's /status.json into the rows of one `leasectl show` command.
 */
#ifndef LEASED_CTL_SHOW_H
#define LEASED_CTL_SHOW_H

#include "ctl/table.h"

struct show {
	const char *name;   /* as typed after `show`, any case */
	const char *target; /* what to ask the daemon for */
	const struct column *columns;
	json_t *(*rows)(const json_t *status); /* a new array of objects */
	const char *help;
};

const struct show *show_find(const char *name); /* NULL: no such thing */
void show_list(void);				/* names and help to stdout */

#endif
