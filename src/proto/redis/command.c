/* command: the table of commands (commands.def), and what a pool denies of it. */
#include "proto/redis/redis_private.h"

static const struct command rows[] = {
#define CMD(name, class, categories) {name, CMD_##class, categories},
#include "proto/redis/commands.def"
#undef CMD
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

_Static_assert(ROWS * 2 < COMMAND_SLOTS, "the table of commands is too full to be quick");

const struct command *command_rows(size_t *n)
{
	*n = ROWS;
	return rows;
}

/* ---- finding ---- */

static inline uint8_t fold(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

/* FNV-1a without regard to case. */
static inline uint32_t hash(uint32_t h, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		h = (h ^ fold(p[i])) * 16777619u;
	return h;
}

#define HASH_START 2166136261u

static size_t slot_of(uint32_t h)
{
	return (h ^ h >> 15) % COMMAND_SLOTS;
}

/* Whether `row` is the name, or the name and its subcommand. */
static bool is_named(const char *row, struct resp_text name, const struct resp_text *sub)
{
	size_t i = 0;

	for (; i < name.n && row[i]; i++) {
		if (fold(name.p[i]) != (uint8_t)row[i])
			return false;
	}
	if (i < name.n)
		return false;
	if (!sub)
		return !row[i];
	return row[i] == '|' && resp_is(*sub, row + i + 1);
}

/* The row's index + 1, or 0. */
static unsigned find_row(const struct command_table *t, struct resp_text name, const struct resp_text *sub)
{
	uint32_t h = hash(HASH_START, name.p, name.n);
	unsigned row;

	if (sub)
		h = hash(hash(h, (const uint8_t *)"|", 1), sub->p, sub->n);
	for (size_t s = slot_of(h); (row = t->slots[s]) != 0; s = (s + 1) % COMMAND_SLOTS) {
		if (is_named(rows[row - 1].name, name, sub))
			return row;
	}
	return 0;
}

static bool is_plain(const struct redis_conf *c, struct resp_text name)
{
	for (size_t i = 0; i < c->n_plain; i++) {
		const char *p = c->plain[i];
		size_t n = strlen(p), k = 0;
		bool rest = n && p[n - 1] == '*';

		n -= rest;
		while (k < n && k < name.n && fold((uint8_t)p[k]) == fold(name.p[k]))
			k++;
		if (k == n && (rest || name.n == n))
			return true;
	}
	return false;
}

struct command_found command_find(const struct command_table *t, const struct resp_text *args, size_t n)
{
	unsigned row = find_row(t, args[0], NULL), all;

	if (!row)
		return (struct command_found){is_plain(t->conf, args[0]) ? CMD_PLAIN : CMD_UNKNOWN, 0};
	if (rows[row - 1].class != CMD_CONTAINER)
		return (struct command_found){rows[row - 1].class, t->flags[row - 1]};
	all = t->flags[row - 1] & COMMAND_DENIED;
	if (n < 2)
		return (struct command_found){CMD_PLAIN, all};
	row = find_row(t, args[0], &args[1]);
	if (!row)
		return (struct command_found){CMD_UNKNOWN, all};
	return (struct command_found){rows[row - 1].class, t->flags[row - 1]};
}

/* ---- the table of a pool ---- */

static bool has_word(const char *words, const char *word)
{
	size_t n = strlen(word);

	for (const char *p = words; n && (p = strstr(p, word)) != NULL; p += n) {
		if ((p == words || p[-1] == ' ') && (p[n] == ' ' || !p[n]))
			return true;
	}
	return false;
}

void command_table_init(struct command_table *t, const struct redis_conf *c)
{
	memset(t->slots, 0, sizeof(t->slots));
	t->flags = mem_alloc(ROWS);
	t->conf = c;
	for (size_t i = 0; i < ROWS; i++) {
		size_t s = slot_of(hash(HASH_START, (const uint8_t *)rows[i].name, strlen(rows[i].name)));

		while (t->slots[s])
			s = (s + 1) % COMMAND_SLOTS;
		t->slots[s] = (uint16_t)(i + 1);
		if (rows[i].class == CMD_PLAIN && has_word(rows[i].categories, "read"))
			t->flags[i] = COMMAND_AGAIN;
	}
}

void command_table_done(struct command_table *t)
{
	mem_free(t->flags);
	t->flags = NULL;
}

/* Whether deny's "config set" or "CONFIG" names the row. */
static bool deny_names(const char *what, const char *row)
{
	size_t i = 0;

	for (; what[i]; i++) {
		uint8_t c = what[i] == ' ' ? '|' : fold((uint8_t)what[i]);

		if (c != (uint8_t)row[i])
			return false;
	}
	return !row[i] || row[i] == '|';
}

bool command_deny(struct command_table *t, const char *what)
{
	bool found = false;

	for (size_t i = 0; i < ROWS; i++) {
		if (*what == '@' ? has_word(rows[i].categories, what + 1) : deny_names(what, rows[i].name)) {
			t->flags[i] |= COMMAND_DENIED;
			found = true;
		}
	}
	return found;
}
