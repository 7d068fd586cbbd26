/*
 * source_directory: one file for each key (username, password, ...) in a directory, as Kubernetes mounts a secret.
 *
 * All are read behind the same target of the ..data link, so that a user name never meets the password of another time.
 */
#include "cred/source_file.h"

static enum err directory_start(struct source **out, struct credential *c, const char **why)
{
	return source_file_start(out, c, credential_options(c)->path, true, why);
}

const struct source_ops source_directory = {
	.name = "directory",
	.asks = true,
	.start = directory_start,
	.ask = source_file_ask,
	.stop = source_file_stop,
};
