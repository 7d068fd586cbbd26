/*
 * err: every way an operation or a connection can end, in one table (errors.def).
 *
 * The same number is a function's result, the reason in a log line, the `reason` label of a metric and what a
 * lease request is refused with, so a cause is never re-worded on its way up. ERR_OK is 0. A peer's misbehaviour is
 * data of this type; our own mistakes are BUG_ON() (mem.h), never an err.
 */
#ifndef LEASED_BASE_ERR_H
#define LEASED_BASE_ERR_H

enum err {
#define ERR(id, name, text) ERR_##id,
#include "base/errors.def"
#undef ERR
	ERR_COUNT
};

#define MUST_CHECK __attribute__((warn_unused_result))

/* Short stable name ("connect_refused"): metric label, log field. Never NULL. */
const char *err_name(enum err e);
/* A sentence fragment for people ("connection refused"). Never NULL. */
const char *err_text(enum err e);
/* Maps an errno value of connect/read/write/accept to the nearest row; unknown ones become ERR_IO. */
enum err err_from_errno(int sys_errno);

#endif
