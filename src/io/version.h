/* version: of the libraries under io/. */
#ifndef LEASED_IO_VERSION_H
#define LEASED_IO_VERSION_H

const char *io_event_version(void); /* libevent, at run time */
const char *io_tls_version(void);   /* OpenSSL, as built against */

#endif
