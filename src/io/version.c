#include "io/version.h"

#include <event2/event.h>
#include <openssl/opensslv.h>

const char *io_event_version(void)
{
	return event_get_version();
}

const char *io_tls_version(void)
{
	return OPENSSL_VERSION_TEXT;
}
