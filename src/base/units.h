/*
 * units: durations and sizes as people write them ("30m", "1h30m", "50ms", "1.5s", "16k", "64KiB"), both ways.
 *
 * Durations: us ms s m h d; a bare "0" is allowed, any other bare number is not. Sizes: bytes, or k M G (powers of 1024)
 * with optional iB/B. Overflow, trailing text, negative and empty are errors. Parsing is exact, no floating point.
 */
#ifndef LEASED_BASE_UNITS_H
#define LEASED_BASE_UNITS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum err duration_parse(const char *text, int64_t *us) MUST_CHECK;
enum err size_parse(const char *text, int64_t *bytes) MUST_CHECK;
/* Shortest exact text that parses back to the same value ("90s" stays "1m30s"). */
void duration_format(int64_t us, char *out, size_t cap);
void size_format(int64_t bytes, char *out, size_t cap);
/* Edit distance with transpositions, at most `max`+1; for "did you mean". */
int str_distance(const char *a, const char *b, int max);

#endif
