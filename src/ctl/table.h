/*
 * table: rows of JSON objects as columns for people, or as they are for programs.
 */
#ifndef LEASED_CTL_TABLE_H
#define LEASED_CTL_TABLE_H

#include <jansson.h>
#include <stdbool.h>

enum column_kind { COLUMN_PLAIN, COLUMN_DURATION, COLUMN_LIST };

struct column {
	const char *title, *key; /* title NULL: end of the table */
	enum column_kind kind;
};

/* rows: an array of objects. Numbers are aligned right. */
void table_print(const struct column *columns, const json_t *rows, bool header);
void table_print_json(const json_t *v);

#endif
