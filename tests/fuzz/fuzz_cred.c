/*
 * fuzz_cred: the text of a credential, or the files of a directory.
 *
 * Oracles, beside the sanitizers:
 *	- a credential has a secret without NUL and line ends, names without control characters, and an end in the future;
 *	- an error has words, of which none is of the input ("MARK" is in no message), and leaves nothing behind;
 *	- a credential written down as JSON by other code and parsed again is the same login;
 *	- what comes short of its closing brace is no JSON credential.
 *
 * Input: 'f' and then values of the keys in their order, separated by 0x00 (0x01 alone: absent); anything else is a text.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cred/parse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW_US INT64_C(1000000)
#define WALL_S INT64_C(1700000000)

static void check_name(const char *name)
{
	BUG_ON(name && !*name);
	for (; name && *name; name++)
		BUG_ON((unsigned char)*name < 0x20 || *name == 0x7f);
}

static size_t password_of(const struct cred_fields *f, uint8_t *to, size_t cap)
{
	struct buf b;
	size_t n;

	buf_init(&b, secret_blocks());
	secret_append(f->password, &b);
	n = buf_copy(&b, to, cap);
	BUG_ON(n != buf_len(&b));
	buf_clear(&b);
	return n;
}

/* The other code: every byte that could mean something as an escape. */
static void put_value(FILE *to, const char *key, const uint8_t *p, size_t n)
{
	fprintf(to, "\"%s\":\"", key);
	for (size_t i = 0; i < n; i++) {
		if (p[i] < 0x20 || p[i] == '"' || p[i] == '\\' || p[i] == 0x7f)
			fprintf(to, "\\u%04x", p[i]);
		else
			putc(p[i], to);
	}
	fputs("\",", to);
}

static void put_name(FILE *to, const char *key, const char *name)
{
	if (name)
		put_value(to, key, (const uint8_t *)name, strlen(name));
}

static void check_again(const struct cred_fields *f)
{
	static uint8_t password[SECRET_MAX_BYTES];
	size_t n_password = password_of(f, password, sizeof(password)), n = 0;
	struct cred_fields again;
	char *text = NULL;
	const char *why;
	FILE *to = open_memstream(&text, &n);

	fputs("{", to);
	put_name(to, "username", f->username);
	put_name(to, "host", f->host);
	put_name(to, "database", f->database);
	put_value(to, "password", password, n_password);
	fprintf(to, "\"port\":%s%d}", f->port ? "" : "null,\"x\":", f->port);
	fclose(to);
	if (n <= CRED_TEXT_MAX) {
		BUG_ON(cred_parse(text, n, NOW_US, WALL_S, &again, &why) != ERR_OK);
		BUG_ON(!cred_fields_same_login(f, &again));
		cred_fields_clear(&again);
		BUG_ON(cred_parse(text, n - 1, NOW_US, WALL_S, &again, &why) != ERR_INVALID);
	}
	free(text);
}

static void check_good(const struct cred_fields *f)
{
	static uint8_t password[SECRET_MAX_BYTES];
	size_t n = password_of(f, password, sizeof(password));

	BUG_ON(n == 0 || memchr(password, 0, n) || memchr(password, '\n', n) || memchr(password, '\r', n));
	check_name(f->username);
	check_name(f->host);
	check_name(f->database);
	BUG_ON(f->port < 0 || f->port > 65535 || f->expires_us <= NOW_US);
	check_again(f);
}

static void check(enum err e, struct cred_fields *f, const char *why)
{
	if (e == ERR_OK) {
		check_good(f);
		cred_fields_clear(f);
		return;
	}
	BUG_ON(e != ERR_INVALID && e != ERR_EXPIRED && e != ERR_TOO_BIG);
	BUG_ON(!why || !*why || strstr(why, "MARK"));
	BUG_ON(f->password || f->username || f->host || f->database || f->port || f->expires_us != INT64_MAX);
}

static void files(const char *p, size_t left)
{
	struct cred_value v[CRED_KEYS] = {{0}};
	struct cred_fields f;
	const char *why = NULL;
	enum err e;

	for (int k = 0; k < CRED_KEYS && left > 0; k++) {
		size_t n = strnlen(p, left);

		if (n != 1 || *p != 1)
			v[k] = (struct cred_value){p, n};
		p += n < left ? n + 1 : n;
		left -= n < left ? n + 1 : n;
	}
	e = cred_parse_values(v, NOW_US, WALL_S, &f, &why);
	check(e, &f, why);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data, *why = NULL;
	struct cred_fields f;
	enum err e;

	BUG_ON(secret_arena_init(NULL) != ERR_OK);
	if (size > 0 && *text == 'f') {
		files(text + 1, size - 1);
		return 0;
	}
	e = cred_parse(text, size, NOW_US, WALL_S, &f, &why);
	check(e, &f, why);
	return 0;
}
