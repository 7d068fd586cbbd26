#include "ctl/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/units.h"

#define TABLE_COLUMNS 32

static char *table_list(const json_t *v)
{
	char *out = mem_strdup("");
	const json_t *item;
	size_t i;

	json_array_foreach(v, i, item)
	{
		char *longer = mem_printf("%s%s%s", out, i ? "," : "",
					  json_is_string(item) ? json_string_value(item) : "?");

		mem_free(out);
		out = longer;
	}
	return out;
}

/* Times are shown to the millisecond, or exactly when shorter. */
static char *table_duration(int64_t us)
{
	char text[64];

	if (us >= 1000)
		us -= us % 1000;
	if (us >= 60 * INT64_C(1000000))
		us -= us % 1000000;
	duration_format(us < 0 ? 0 : us, text, sizeof(text));
	return mem_strdup(text);
}

static char *table_cell(const struct column *c, const json_t *row)
{
	const json_t *v = json_object_get(row, c->key);

	if (json_is_array(v))
		return table_list(v);
	if (json_is_integer(v) && c->kind == COLUMN_DURATION)
		return table_duration(json_integer_value(v));
	if (json_is_integer(v))
		return mem_printf("%lld", (long long)json_integer_value(v));
	if (json_is_string(v))
		return mem_strdup(json_string_value(v));
	if (json_is_boolean(v))
		return mem_strdup(json_is_true(v) ? "yes" : "no");
	return mem_strdup("-");
}

static bool table_is_number(const struct column *c, const json_t *rows)
{
	const json_t *first = json_object_get(json_array_get(rows, 0), c->key);

	return json_is_integer(first);
}

static void table_line(const struct column *columns, char *const *cells, const int *widths, const bool *right)
{
	for (size_t i = 0; columns[i].title; i++) {
		bool last = !columns[i + 1].title;

		if (right[i])
			printf("%*s", widths[i], cells[i]);
		else
			printf("%-*s", last ? 0 : widths[i], cells[i]);
		fputs(last ? "\n" : "  ", stdout);
	}
}

void table_print(const struct column *columns, const json_t *rows, bool header)
{
	size_t n_rows = json_array_size(rows), n = 0;
	int widths[TABLE_COLUMNS] = {0};
	bool right[TABLE_COLUMNS] = {false};
	char *titles[TABLE_COLUMNS], **cells;

	while (columns[n].title)
		n++;
	BUG_ON(n > TABLE_COLUMNS);
	cells = mem_alloc((n_rows * n + 1) * sizeof(*cells));
	for (size_t c = 0; c < n; c++) {
		titles[c] = mem_strdup(columns[c].title);
		widths[c] = header ? (int)strlen(titles[c]) : 0;
		right[c] = table_is_number(&columns[c], rows);
	}
	for (size_t i = 0; i < n_rows * n; i++) {
		cells[i] = table_cell(&columns[i % n], json_array_get(rows, i / n));
		if ((int)strlen(cells[i]) > widths[i % n])
			widths[i % n] = (int)strlen(cells[i]);
	}
	if (header)
		table_line(columns, titles, widths, right);
	for (size_t r = 0; r < n_rows; r++)
		table_line(columns, &cells[r * n], widths, right);
	for (size_t i = 0; i < n_rows * n; i++)
		mem_free(cells[i]);
	for (size_t c = 0; c < n; c++)
		mem_free(titles[c]);
	mem_free(cells);
}

void table_print_json(const json_t *v)
{
	char *text = json_dumps(v, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_ENCODE_ANY);

	BUG_ON(!text);
	puts(text);
	free(text);
}
