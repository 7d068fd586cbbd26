/*
 * source_systemd: a credential that the service manager hands over (LoadCredential=, SetCredentialEncrypted=).
 *
 * It is a file that does not change while the unit runs, on most versions; it is watched all the same.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cred/source_file.h"

static enum err systemd_start(struct source **out, struct credential *c, const char **why)
{
	const char *name = credential_options(c)->path, *dir = getenv("CREDENTIALS_DIRECTORY");
	char *path;
	enum err e;

	*why = !dir || !*dir ? "$CREDENTIALS_DIRECTORY is not set: the unit has no LoadCredential="
	       : strchr(name, '/') || *name == '.' || !*name ? "the name of a systemd credential is no path"
							     : NULL;
	if (*why)
		return ERR_CONFIG;
	path = mem_printf("%s/%s", dir, name);
	e = source_file_start(out, c, path, false, why);
	mem_free(path);
	return e;
}

const struct source_ops source_systemd = {
	.name = "systemd",
	.asks = true,
	.start = systemd_start,
	.ask = source_file_ask,
	.stop = source_file_stop,
};
