/*
 * log: one line per event, as text, logfmt or JSON, to stderr (with journald priorities under systemd), a file or syslog.
 *
 *	2026-08-23T10:11:12.123Z info  lease.wait pool=db client=42 waited_ms=12
 *
 * An event has a stable name and typed fields; values that come from the wire are escaped and cut at 64 bytes. A target
 * that blocks or fails never stops the caller: the line is dropped and counted. Repeats of one event (per level, event
 * and pool) beyond 10 a second are counted and reported as one "suppressed" line a second later. There is no conversion
 * for a secret. Thread-safe. Reopened by log_reopen() (SIGHUP, SIGUSR1).
 */
#ifndef LEASED_BASE_LOG_H
#define LEASED_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum log_level { LOG_LV_ERROR, LOG_LV_WARNING, LOG_LV_NOTICE, LOG_LV_INFO, LOG_LV_DEBUG };
enum log_format { LOG_FMT_TEXT, LOG_FMT_LOGFMT, LOG_FMT_JSON };
enum log_target { LOG_TO_STDERR, LOG_TO_FILE, LOG_TO_SYSLOG };

struct log_opts {
	enum log_target target;
	enum log_format format;
	enum log_level level;
	const char *file; /* LOG_TO_FILE */
};

/* A field of a line: build with the L_ macros. */
struct log_field {
	const char *key;
	enum { LOG_F_END, LOG_F_STR, LOG_F_INT, LOG_F_ERR, LOG_F_WIRE } kind;
	int64_t num;
	const char *str;
};

#define L_STR(k, v) ((struct log_field){.key = (k), .kind = LOG_F_STR, .str = (v)}) /* ours: trusted text */
#define L_WIRE(k, v, n)                                                                                              \
	((struct log_field){.key = (k), .kind = LOG_F_WIRE, .str = (const char *)(v), .num = (int64_t)(n)})
#define L_INT(k, v) ((struct log_field){.key = (k), .kind = LOG_F_INT, .num = (int64_t)(v)})
#define L_ERR(v)    ((struct log_field){.key = "reason", .kind = LOG_F_ERR, .num = (v)})

extern enum log_level log_level_now; /* read-only outside log.c */

enum err log_open(const struct log_opts *o) MUST_CHECK;
bool log_reopen(void); /* false: the file can't be opened, the one at hand stays in use */
void log_close(void);
/* Writes the "suppressed" lines that are due, as every event does; call it once a second for when there is none. */
void log_flush(void);
/* Lines dropped because the target failed or would have blocked. */
uint64_t log_dropped(void);
void log_event(enum log_level lv, const char *event, const struct log_field *fields);
/* Free text, for libraries' own messages and for main(): becomes an event with a msg field. */
void log_text(enum log_level lv, const char *event, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Now, for tests: replaces the wall clock of the lines and of the repeat limit. NULL: the real one. */
void log_test_clock(int64_t (*wall_us)(void));

/* The level may be changed by a reload while other threads log. */
static inline int log_wants(enum log_level lv)
{
	return lv <= (enum log_level)__atomic_load_n(&log_level_now, __ATOMIC_RELAXED);
}

/* log_at(LOG_LV_INFO, "lease.wait", L_STR("pool", p), L_INT("client", id)): costs one compare when off. */
#define log_at(lv, event, ...)                                                                                       \
	do {                                                                                                         \
		if (log_wants(lv))                                                                                   \
			log_event((lv), (event), (const struct log_field[]){__VA_ARGS__, {.kind = LOG_F_END}});      \
	} while (0)

#endif
