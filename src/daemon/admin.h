/*
 * admin: what the admin interface can be asked, one row of admin.def each, on top of http.h. Control thread.
 *
 * Looking is for everybody who can connect; changing something is for those http_may_control() admits. Answers come when
 * the workers have answered: a snapshot within a turn of their loops, a drain when it is over.
 */
#ifndef LEASED_DAEMON_ADMIN_H
#define LEASED_DAEMON_ADMIN_H

#include "daemon/control.h"

/* Opens admin.listen; without one *out is NULL and that is fine. *why: mem_free() it. */
enum err admin_open(struct control *c, struct admin **out, char **why) MUST_CHECK;
/* No call of it may be under way. NULL is fine. */
void admin_close(struct admin **a);
bool admin_busy(const struct admin *a); /* an answer is still to leave; NULL: no */

#endif
