/* resp_wire: see resp_actors.h. A reader and a writer of RESP that owe nothing to the ones they judge. */
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "resp_actors.h"

/* A line at p: its length with CR LF; 0: not whole. */
static size_t line_len(const uint8_t *p, size_t n)
{
	const uint8_t *end = memchr(p, '\n', n);

	return end ? (size_t)(end - p) + 1 : 0;
}

static long line_number(const uint8_t *p)
{
	bool minus = *++p == '-';
	long v = 0;

	/* Not with strtol(), which would look for digits behind the end of a line that has none. */
	for (p += minus; *p >= '0' && *p <= '9'; p++)
		v = 10 * v + (*p - '0');
	return minus ? -v : v;
}

size_t resp_parse(const uint8_t *p, size_t n, struct resp_arg args[RESP_ARGS_MAX], size_t *argc)
{
	size_t at = line_len(p, n);

	if (at == 0)
		return 0;
	if (p[0] == 'P') { /* inline */
		*argc = 1;
		args[0] = (struct resp_arg){p, at - 2};
		return at;
	}
	PROMISE(p[0] == '*', "ISO-2", "a request begins with '%c'", p[0]);
	*argc = (size_t)line_number(p);
	PROMISE(*argc > 0 && *argc <= RESP_ARGS_MAX, "ISO-2", "a request of %zu arguments", *argc);
	for (size_t i = 0; i < *argc; i++) {
		size_t head = line_len(p + at, n - at), len;

		if (head == 0)
			return 0;
		PROMISE(p[at] == '$', "ISO-2", "an argument begins with '%c'", p[at]);
		len = (size_t)line_number(p + at);
		if (n - at < head + len + 2)
			return 0;
		args[i] = (struct resp_arg){p + at + head, len};
		at += head + len + 2;
		PROMISE(p[at - 2] == '\r' && p[at - 1] == '\n', "ISO-2", "an argument does not end where it should");
	}
	return at;
}

size_t resp_reply_len(const uint8_t *p, size_t n)
{
	size_t at = n > 0 ? line_len(p, n) : 0;
	long items;

	if (at == 0)
		return 0;
	items = line_number(p);
	switch (p[0]) {
	case '$':
		if (items < 0)
			return at;
		return n - at >= (size_t)items + 2 ? at + (size_t)items + 2 : 0;
	case '%':
		items *= 2;
		break;
	case '*':
	case '>':
		break;
	default:
		return at;
	}
	for (long i = 0; i < items; i++) {
		size_t len = resp_reply_len(p + at, n - at);

		if (len == 0)
			return 0;
		at += len;
	}
	return at;
}

bool resp_arg_is(struct resp_arg a, const char *word)
{
	return strlen(word) == a.n && strncasecmp((const char *)a.p, word, a.n) == 0;
}

/* ---- keys ---- */

void resp_key_text(const struct resp_key *k, char out[64])
{
	snprintf(out, 64, "C%" PRIu64 ".%u/%u/%zu", k->client, k->seq, (unsigned)k->form, k->size);
}

bool resp_key_parse(struct resp_arg a, struct resp_key *out)
{
	char text[64], again[64];
	unsigned form;

	if (a.n >= sizeof(text) || a.n == 0 || a.p[0] != 'C')
		return false;
	memcpy(text, a.p, a.n);
	text[a.n] = 0;
	if (sscanf(text, "C%" SCNu64 ".%u/%u/%zu", &out->client, &out->seq, &form, &out->size) != 4)
		return false;
	out->form = (enum resp_form)form;
	resp_key_text(out, again);
	return strcmp(text, again) == 0;
}

void resp_add(struct bytes *b, const char *text)
{
	bytes_add(b, text, strlen(text));
}

static void add_bulk(struct bytes *b, const char *text, size_t fill, unsigned seed)
{
	char head[32], body[64];
	size_t n = strlen(text);

	snprintf(head, sizeof(head), "$%zu\r\n", n + fill);
	resp_add(b, head);
	bytes_add(b, text, n);
	for (size_t i = 0; i < sizeof(body); i++)
		body[i] = (char)('a' + (seed + i) % 26);
	while (fill > 0) {
		size_t k = fill < sizeof(body) ? fill : sizeof(body);

		bytes_add(b, body, k);
		fill -= k;
	}
	resp_add(b, "\r\n");
}

void resp_add_command(struct bytes *b, size_t n, const char *const args[])
{
	char head[32];

	snprintf(head, sizeof(head), "*%zu\r\n", n);
	resp_add(b, head);
	for (size_t i = 0; i < n; i++)
		add_bulk(b, args[i], 0, 0);
}

/* Every form begins with who asked, and what the connection was in. */
void resp_answer(const struct resp_key *k, struct resp_place in, struct bytes *out)
{
	char key[64], text[96], line[128];

	resp_key_text(k, key);
	snprintf(text, sizeof(text), "%s d%d r%d w%d ", key, in.db, in.version, in.watching);
	switch (k->form) {
	case FORM_BULK:
		add_bulk(out, text, k->size, k->seq);
		return;
	case FORM_STRING:
		snprintf(line, sizeof(line), "+%s\r\n", text);
		break;
	case FORM_ERROR:
		snprintf(line, sizeof(line), "-ERR %s\r\n", text);
		break;
	case FORM_ARRAY:
		resp_add(out, "*3\r\n");
		add_bulk(out, text, k->size, k->seq);
		snprintf(line, sizeof(line), ":%u\r\n*1\r\n+OK\r\n", k->seq);
		break;
	case FORM_NULLS:
		resp_add(out, "*3\r\n");
		add_bulk(out, text, k->size, k->seq);
		snprintf(line, sizeof(line), "%s", in.version == 3 ? "_\r\n*0\r\n" : "$-1\r\n*-1\r\n");
		break;
	case FORM_MAP:
	case FORMS:
		snprintf(line, sizeof(line), in.version == 3 ? "%%1\r\n+%s\r\n:1\r\n" : "*2\r\n+%s\r\n:1\r\n", text);
		break;
	}
	resp_add(out, line);
}

/* ---- executed requests: a hash table of (client, seq) with counts ---- */

static struct {
	uint64_t *keys;
	uint8_t *counts;
	size_t cap, len;
} ran;

static uint64_t ran_key(uint64_t client, unsigned seq)
{
	return client * RESP_ASKS_MAX + seq + 1;
}

static size_t ran_slot(uint64_t key)
{
	size_t i = (size_t)(key * 0x9e3779b97f4a7c15u >> 32) & (ran.cap - 1);

	while (ran.keys[i] != 0 && ran.keys[i] != key)
		i = (i + 1) & (ran.cap - 1);
	return i;
}

static void ran_grow(void)
{
	uint64_t *keys = ran.keys;
	uint8_t *counts = ran.counts;
	size_t cap = ran.cap;

	ran.cap = cap ? 2 * cap : 256;
	ran.keys = mem_alloc(ran.cap * sizeof(*ran.keys));
	ran.counts = mem_alloc(ran.cap);
	for (size_t i = 0; i < cap; i++)
		if (keys[i] != 0) {
			size_t at = ran_slot(keys[i]);

			ran.keys[at] = keys[i];
			ran.counts[at] = counts[i];
		}
	mem_free(keys);
	mem_free(counts);
}

void ran_begin(void)
{
	ran_end();
	ran_grow();
}

unsigned ran_note(uint64_t client, unsigned seq)
{
	size_t at;

	if (2 * ran.len >= ran.cap)
		ran_grow();
	at = ran_slot(ran_key(client, seq));
	if (ran.keys[at] == 0)
		ran.len++;
	ran.keys[at] = ran_key(client, seq);
	return ++ran.counts[at];
}

unsigned ran_count(uint64_t client, unsigned seq)
{
	return ran.counts[ran_slot(ran_key(client, seq))];
}

void ran_end(void)
{
	mem_free(ran.keys);
	mem_free(ran.counts);
	ran.keys = NULL;
	ran.counts = NULL;
	ran.cap = ran.len = 0;
}
