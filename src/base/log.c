/*
 * log: formats a line into a buffer on the stack and hands it to the target with one system call; see log.h.
 *
 *	log_event -> repeat limit -> log_line (fields -> struct line) -> log_write (stderr, file, syslog datagram)
 */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"

#define LINE_BYTES    4096 /* not above PIPE_BUF: a writable pipe takes it whole, at once */
#define LINE_TAIL     8	   /* room kept for what closes a line */
#define TEXT_BYTES    2048
#define WIRE_BYTES    64
#define REPEAT_MAX    10
#define REPEAT_US     INT64_C(1000000)
#define REPEATS	      64
#define SYSLOG_PATH   "/dev/log"
#define SYSLOG_DAEMON (3 << 3)

struct line {
	char text[LINE_BYTES];
	size_t len;
	bool full;  /* the last put did not fit */
	bool first; /* no separator before the next field */
};

/* One level, event and pool seen lately. */
struct repeat {
	char event[48], pool[64];
	enum log_level level;
	int64_t since_us;
	uint64_t seen, suppressed; /* in the second that began at since_us */
};

static const struct {
	const char *name;
	int priority; /* syslog's and journald's number */
} log_levels[] = {{"error", 3}, {"warning", 4}, {"notice", 5}, {"info", 6}, {"debug", 7}};

enum log_level log_level_now = LOG_LV_INFO;

static struct {
	pthread_mutex_t lock;
	enum log_target target;
	enum log_format format;
	int fd; /* file or syslog socket; -1: none (stderr needs no fd of its own) */
	char *file;
	bool journald; /* stderr goes to journald: priority prefix, no time */
	uint64_t dropped;
	int64_t (*wall_us)(void);
	struct repeat repeats[REPEATS];
	size_t nsuppressed; /* how many of repeats[] have something to report */
} log_state = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1};

static int64_t log_now_us(void)
{
	struct timespec ts;

	if (log_state.wall_us)
		return log_state.wall_us();
	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void line_put(struct line *l, const char *s, size_t n)
{
	if (n > sizeof(l->text) - LINE_TAIL - l->len) {
		l->full = true;
		return;
	}
	memcpy(l->text + l->len, s, n);
	l->len += n;
}

static void line_puts(struct line *l, const char *s)
{
	line_put(l, s, strlen(s));
}

static void line_int(struct line *l, int64_t v)
{
	char digits[24];

	line_put(l, digits, (size_t)snprintf(digits, sizeof(digits), "%lld", (long long)v));
}

static bool log_is_json(void)
{
	return log_state.format == LOG_FMT_JSON;
}

/*
 * One byte of a value. Non-printables become \xNN; bytes of the wire also beyond ASCII, ours stay as they are (UTF-8).
 * In JSON the escape of a wire byte is itself text, so that a reader gets the same characters in every format.
 */
static void line_byte(struct line *l, unsigned char c, bool wire)
{
	bool json = log_is_json();
	char esc[8];

	if (c < 0x20 || c == 0x7f || (wire && c > 0x7f)) {
		snprintf(esc, sizeof(esc), json && !wire ? "\\u%04x" : "\\x%02x", c);
		line_puts(l, json && wire ? "\\" : "");
		line_puts(l, esc);
	} else if (c == '\\' && json && wire) {
		line_put(l, "\\\\\\\\", 4);
	} else if (c == '\\' || c == '"') {
		esc[0] = '\\';
		esc[1] = (char)c;
		line_put(l, esc, 2);
	} else {
		esc[0] = (char)c;
		line_put(l, esc, 1);
	}
}

static void line_value(struct line *l, const char *s, size_t n, bool wire)
{
	bool cut = wire && n > WIRE_BYTES, quote = log_is_json() || n == 0;

	if (cut)
		n = WIRE_BYTES;
	for (size_t i = 0; i < n && !quote; i++)
		quote = s[i] == ' ' || s[i] == '"' || s[i] == '=';
	if (quote)
		line_put(l, "\"", 1);
	for (size_t i = 0; i < n; i++)
		line_byte(l, (unsigned char)s[i], wire);
	if (cut)
		line_puts(l, "...");
	if (quote)
		line_put(l, "\"", 1);
}

static void line_key(struct line *l, const char *key)
{
	bool json = log_is_json();

	if (!l->first)
		line_put(l, json ? "," : " ", 1);
	line_puts(l, json ? "\"" : "");
	line_puts(l, key);
	line_puts(l, json ? "\":" : "=");
}

/* A field is in the line whole or not at all. */
static void line_field(struct line *l, const struct log_field *f)
{
	size_t before = l->len;
	const char *s = f->str ? f->str : "-";

	if (f->kind == LOG_F_ERR)
		s = err_name((enum err)f->num);
	l->full = false;
	line_key(l, f->key);
	if (f->kind == LOG_F_INT)
		line_int(l, f->num);
	else if (f->kind == LOG_F_WIRE && f->str)
		line_value(l, s, (size_t)f->num, true);
	else
		line_value(l, s, strlen(s), false);
	if (l->full)
		l->len = before;
	else
		l->first = false;
}

/* "2026-08-23T10:11:12.123Z" */
static void log_time(char *out, size_t cap)
{
	int64_t now = log_now_us();
	time_t sec = (time_t)(now / 1000000);
	struct tm tm;
	size_t n;

	gmtime_r(&sec, &tm);
	n = strftime(out, cap, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out + n, cap - n, ".%03dZ", (int)(now % 1000000 / 1000));
}

/* "<30>Aug 23 10:11:12 leased[42]: ", what a local syslog daemon expects before a message. */
static void line_syslog_head(struct line *l, enum log_level lv)
{
	time_t sec = (time_t)(log_now_us() / 1000000);
	char when[32], head[96];
	struct tm tm;

	localtime_r(&sec, &tm);
	strftime(when, sizeof(when), "%b %e %H:%M:%S", &tm);
	line_put(l, head,
		 (size_t)snprintf(head, sizeof(head), "<%d>%s leased[%d]: ", SYSLOG_DAEMON | log_levels[lv].priority,
				  when, (int)getpid()));
}

/* Everything before the fields: who reads the line decides on prefix and time, the format on the rest. */
static void line_head(struct line *l, enum log_level lv, const char *event)
{
	char when[40] = "", head[96];

	if (log_state.target == LOG_TO_SYSLOG)
		line_syslog_head(l, lv);
	else if (log_state.journald)
		line_put(l, head, (size_t)snprintf(head, sizeof(head), "<%d>", log_levels[lv].priority));
	else
		log_time(when, sizeof(when));
	if (log_state.format == LOG_FMT_TEXT) {
		line_puts(l, when);
		line_puts(l, *when ? " " : "");
		line_put(l, head, (size_t)snprintf(head, sizeof(head), "%-5s ", log_levels[lv].name));
		line_puts(l, event);
		return;
	}
	line_puts(l, log_is_json() ? "{" : "");
	l->first = true;
	if (*when)
		line_field(l, &L_STR("ts", when));
	line_field(l, &L_STR("level", log_levels[lv].name));
	line_field(l, &L_STR("event", event));
}

static void log_drop(void)
{
	__atomic_fetch_add(&log_state.dropped, 1, __ATOMIC_RELAXED);
}

static bool log_writable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};

	/* POLLERR: a pipe nobody reads any more. */
	return poll(&p, 1, 0) == 1 && (p.revents & (POLLOUT | POLLERR)) == POLLOUT;
}

/* One line, one system call that does not wait. */
static void log_write(const char *s, size_t n)
{
	int fd = log_state.target == LOG_TO_STDERR ? STDERR_FILENO : log_state.fd;
	ssize_t done;

	if (fd < 0 || !log_writable(fd)) {
		log_drop();
		return;
	}
	done = send(fd, s, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (done < 0 && errno == ENOTSOCK)
		done = write(fd, s, n);
	if (done != (ssize_t)n)
		log_drop();
}

static int log_syslog_fd(void)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = SYSLOG_PATH};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd >= 0 && connect(fd, (const struct sockaddr *)&un, sizeof(un)) != 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* The syslog daemon may have been restarted: its socket is then a new one. */
static void log_write_syslog(const char *s, size_t n)
{
	for (int tries = 0; tries < 2; tries++) {
		if (log_state.fd < 0)
			log_state.fd = log_syslog_fd();
		if (log_state.fd < 0)
			break;
		if (send(log_state.fd, s, n, MSG_NOSIGNAL) >= 0)
			return;
		if (errno == EAGAIN || errno == EMSGSIZE)
			break;
		close(log_state.fd);
		log_state.fd = -1;
	}
	log_drop();
}

static void log_line(enum log_level lv, const char *event, const struct log_field *fields)
{
	struct line l = {.len = 0};

	line_head(&l, lv, event);
	for (; fields->kind != LOG_F_END; fields++)
		line_field(&l, fields);
	if (log_is_json())
		l.text[l.len++] = '}';
	if (log_state.target == LOG_TO_SYSLOG) {
		log_write_syslog(l.text, l.len);
		return;
	}
	l.text[l.len++] = '\n';
	log_write(l.text, l.len);
}

static bool repeat_over(const struct repeat *r, int64_t now)
{
	return now < r->since_us || now - r->since_us >= REPEAT_US;
}

static void repeat_report(struct repeat *r)
{
	if (!r->suppressed)
		return;
	if (r->pool[0])
		log_line(r->level, r->event,
			 (const struct log_field[]){
				 L_STR("pool", r->pool), L_INT("suppressed", r->suppressed), {.kind = LOG_F_END}});
	else
		log_line(r->level, r->event,
			 (const struct log_field[]){L_INT("suppressed", r->suppressed), {.kind = LOG_F_END}});
	r->suppressed = 0;
	log_state.nsuppressed--;
}

/* Reports what was suppressed in seconds that are over; all of it when `all`. */
static void repeat_flush(int64_t now, bool all)
{
	for (size_t i = 0; i < REPEATS && log_state.nsuppressed; i++)
		if (all || repeat_over(&log_state.repeats[i], now))
			repeat_report(&log_state.repeats[i]);
}

static const char *log_pool_of(const struct log_field *f)
{
	for (; f->kind != LOG_F_END; f++)
		if (f->kind == LOG_F_STR && f->str && strcmp(f->key, "pool") == 0)
			return f->str;
	return "";
}

/* The row of this level, event and pool; a new one takes the place of the oldest. */
static struct repeat *repeat_find(enum log_level lv, const char *event, const char *pool, int64_t now)
{
	struct repeat *oldest = log_state.repeats;

	for (struct repeat *r = log_state.repeats; r < log_state.repeats + REPEATS; r++) {
		if (r->level == lv && strncmp(r->event, event, sizeof(r->event) - 1) == 0 &&
		    strncmp(r->pool, pool, sizeof(r->pool) - 1) == 0)
			return r;
		if (r->since_us < oldest->since_us)
			oldest = r;
	}
	repeat_report(oldest);
	*oldest = (struct repeat){.level = lv, .since_us = now};
	snprintf(oldest->event, sizeof(oldest->event), "%s", event);
	snprintf(oldest->pool, sizeof(oldest->pool), "%s", pool);
	return oldest;
}

/* Whether this line is one too many of its kind in this second; it is counted then. */
static bool repeat_suppress(enum log_level lv, const char *event, const char *pool)
{
	int64_t now = log_now_us();
	struct repeat *r;

	repeat_flush(now, false);
	r = repeat_find(lv, event, pool, now);
	if (repeat_over(r, now)) {
		r->since_us = now;
		r->seen = 0;
	}
	if (++r->seen <= REPEAT_MAX)
		return false;
	if (r->suppressed++ == 0)
		log_state.nsuppressed++;
	return true;
}

void log_event(enum log_level lv, const char *event, const struct log_field *fields)
{
	if (!log_wants(lv))
		return;
	pthread_mutex_lock(&log_state.lock);
	if (!repeat_suppress(lv, event, log_pool_of(fields)))
		log_line(lv, event, fields);
	pthread_mutex_unlock(&log_state.lock);
}

void log_text(enum log_level lv, const char *event, const char *fmt, ...)
{
	char msg[TEXT_BYTES];
	va_list ap;

	if (!log_wants(lv))
		return;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	log_event(lv, event, (const struct log_field[]){L_STR("msg", msg), {.kind = LOG_F_END}});
}

void log_flush(void)
{
	pthread_mutex_lock(&log_state.lock);
	repeat_flush(log_now_us(), false);
	pthread_mutex_unlock(&log_state.lock);
}

/* systemd says in JOURNAL_STREAM which file the journal gave us; stderr may have been redirected since. */
static bool log_stderr_is_journal(void)
{
	const char *env = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;
	char *end;

	if (!env || fstat(STDERR_FILENO, &st) != 0)
		return false;
	dev = strtoull(env, &end, 10);
	if (*end != ':')
		return false;
	ino = strtoull(end + 1, &end, 10);
	return !*end && dev == (unsigned long long)st.st_dev && ino == (unsigned long long)st.st_ino;
}

static int log_file_fd(const char *file)
{
	return open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
}

static void log_forget(void)
{
	if (log_state.fd >= 0)
		close(log_state.fd);
	log_state.fd = -1;
	mem_free(log_state.file);
	log_state.file = NULL;
}

enum err log_open(const struct log_opts *o)
{
	int fd = -1;

	if (o->target == LOG_TO_FILE) {
		fd = log_file_fd(o->file);
		if (fd < 0)
			return ERR_CANT_CREATE;
	}
	pthread_mutex_lock(&log_state.lock);
	repeat_flush(0, true);
	log_forget();
	log_state.fd = fd;
	log_state.file = o->target == LOG_TO_FILE ? mem_strdup(o->file) : NULL;
	log_state.target = o->target;
	log_state.format = o->format;
	log_state.journald = o->target == LOG_TO_STDERR && log_stderr_is_journal();
	__atomic_store_n(&log_level_now, o->level, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&log_state.lock);
	return ERR_OK;
}

bool log_reopen(void)
{
	bool ok = true;

	pthread_mutex_lock(&log_state.lock);
	if (log_state.target == LOG_TO_FILE) {
		int fd = log_file_fd(log_state.file);

		/* A file that can't be opened any more is no reason to lose the one that still works. */
		ok = fd >= 0;
		if (ok) {
			close(log_state.fd);
			log_state.fd = fd;
		}
	} else if (log_state.target == LOG_TO_SYSLOG && log_state.fd >= 0) {
		close(log_state.fd);
		log_state.fd = -1;
	}
	pthread_mutex_unlock(&log_state.lock);
	return ok;
}

/* Later lines go to stderr. */
void log_close(void)
{
	pthread_mutex_lock(&log_state.lock);
	repeat_flush(0, true);
	log_forget();
	log_state.target = LOG_TO_STDERR;
	memset(log_state.repeats, 0, sizeof(log_state.repeats));
	pthread_mutex_unlock(&log_state.lock);
}

uint64_t log_dropped(void)
{
	return __atomic_load_n(&log_state.dropped, __ATOMIC_RELAXED);
}

void log_test_clock(int64_t (*wall_us)(void))
{
	pthread_mutex_lock(&log_state.lock);
	log_state.wall_us = wall_us;
	pthread_mutex_unlock(&log_state.lock);
}
