/*
 * statsline: the periodic line of totals in the log, and the STATUS= text of the service manager. Control thread.
 */
#ifndef LEASED_DAEMON_STATSLINE_H
#define LEASED_DAEMON_STATSLINE_H

#include "daemon/control.h"

/* Once a second. */
void statsline_tick(struct control *c);

#endif
