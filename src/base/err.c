/* err: names, texts and the mapping from errno; the rows are in errors.def. */
#include "base/err.h"

#include <errno.h>

struct err_row {
	const char *name, *text;
};

static const struct err_row err_rows[ERR_COUNT] = {
#define ERR(id, name, text) [ERR_##id] = {name, text},
#include "base/errors.def"
#undef ERR
};

const char *err_name(enum err e)
{
	return (unsigned int)e < ERR_COUNT ? err_rows[e].name : "unknown";
}

const char *err_text(enum err e)
{
	return (unsigned int)e < ERR_COUNT ? err_rows[e].text : "unknown error";
}

enum err err_from_errno(int sys_errno)
{
	switch (sys_errno) {
	case 0:
		return ERR_OK;
	case ECONNREFUSED:
		return ERR_REFUSED;
	case ECONNRESET:
	case ECONNABORTED:
	case EPIPE:
		return ERR_RESET;
	case EHOSTUNREACH:
	case EHOSTDOWN:
	case ENETUNREACH:
	case ENETDOWN:
	case ENETRESET:
	case EAFNOSUPPORT:
		return ERR_UNREACHABLE;
	case EACCES:
	case EPERM:
		return ERR_PERMISSION;
	case ETIMEDOUT:
		return ERR_CONNECT_TIMEOUT;
	case EMFILE:
	case ENFILE:
		return ERR_NO_FDS;
	case ENOMEM:
	case ENOBUFS:
		return ERR_NO_MEMORY;
	case EADDRNOTAVAIL:
		return ERR_NO_PORTS;
	case EADDRINUSE:
		return ERR_CANT_CREATE;
	case EAGAIN:
	case EINTR:
	case EINPROGRESS:
		return ERR_AGAIN;
	case ENOENT:
		return ERR_NOT_FOUND;
	case EMSGSIZE:
		return ERR_TOO_BIG;
	default:
		return ERR_IO;
	}
}
