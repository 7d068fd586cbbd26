/*
 * fuzz: durations and sizes. Oracle: what parses is in range, its formatted text parses back to the same value, and
 * formatting that again gives the same text. The first eight bytes are also tried as a value to format.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/units.h"

#define TEXT_BYTES	64
#define DURATION_MAX_US (INT64_C(36525) * 86400 * 1000000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int ok)
{
	if (!ok)
		abort();
}

static void check_duration(int64_t us)
{
	char text[TEXT_BYTES], again[TEXT_BYTES];
	int64_t back = -1;

	duration_format(us, text, sizeof(text));
	check(duration_parse(text, &back) == ERR_OK && back == us);
	duration_format(back, again, sizeof(again));
	check(strcmp(text, again) == 0);
}

static void check_size(int64_t bytes)
{
	char text[TEXT_BYTES];
	int64_t back = -1;

	size_format(bytes, text, sizeof(text));
	check(size_parse(text, &back) == ERR_OK && back == bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int64_t us = -7, bytes = -7, value;
	char *text = malloc(size + 1);

	check(text != NULL);
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	if (duration_parse(text, &us) == ERR_OK) {
		check(us >= 0 && us <= DURATION_MAX_US);
		check_duration(us);
	} else {
		check(us == -7);
	}
	if (size_parse(text, &bytes) == ERR_OK) {
		check(bytes >= 0);
		check_size(bytes);
	} else {
		check(bytes == -7);
	}
	if (size >= sizeof(value)) {
		memcpy(&value, data, sizeof(value));
		value &= INT64_MAX;
		check_size(value);
		check_duration(value % (DURATION_MAX_US + 1));
	}
	check(str_distance(text, text, 2) == (strlen(text) > 63 ? 3 : 0));
	free(text);
	return 0;
}
