#include "daemon/activate.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "base/mem.h"

#ifdef HAVE_SYSTEMD

struct activate {
	int n; /* passed sockets: SD_LISTEN_FDS_START and up */
	char **names;
	bool *taken;
};

/* The next socket of that name nobody has taken yet; -1: there is none. */
static int activate_find(struct activate *a, const char *name)
{
	for (int i = 0; i < a->n; i++) {
		if (a->taken[i] || strcmp(a->names[i], name) != 0)
			continue;
		a->taken[i] = true;
		return SD_LISTEN_FDS_START + i;
	}
	return -1;
}

/* All sockets of a name belong to one listener of the configuration: a socket unit gives its own the same name. */
static enum err activate_listener(struct activate *a, struct setup_pool *p, size_t k, char **why)
{
	const struct conf_listener *c = &p->conf->listen[k];
	int fd = activate_find(a, c->where.host);

	if (fd < 0) {
		*why = mem_printf("%s: no socket of that name was passed (%d sockets were)", c->address, a->n);
		return ERR_CONFIG;
	}
	p->listeners[k].fd = fd;
	do {
		if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0) {
			*why = mem_printf("%s: the socket passed is not a listening stream socket", c->address);
			return ERR_CONFIG;
		}
		if (fd != p->listeners[k].fd) {
			size_t n = p->opts.n_listeners++;

			p->listeners = mem_realloc(p->listeners, (n + 1) * sizeof(*p->listeners));
			p->listeners[n] = p->listeners[k];
			p->listeners[n].fd = fd;
			p->opts.listeners = p->listeners;
		}
		fd = activate_find(a, c->where.host);
	} while (fd >= 0);
	return ERR_OK;
}

static enum err activate_match(struct activate *a, struct setup *s, char **why)
{
	for (size_t i = 0; i < s->n_pools; i++) {
		struct setup_pool *p = &s->pools[i];

		for (size_t k = 0; k < p->conf->n_listen; k++) {
			const struct conf_listener *c = &p->conf->listen[k];
			enum err e = ERR_OK;

			if (c->where.kind == ADDR_SYSTEMD)
				e = activate_listener(a, p, k, why);
			if (e != ERR_OK)
				return e;
		}
	}
	for (int i = 0; i < a->n; i++) {
		if (a->taken[i])
			continue;
		*why = mem_printf("systemd passed a socket named \"%s\" that no listener asks for", a->names[i]);
		return ERR_CONFIG;
	}
	return ERR_OK;
}

enum err activate_sockets(struct setup *s, char **why)
{
	struct activate a = {0};
	enum err e;

	a.n = sd_listen_fds_with_names(1, &a.names);
	if (a.n < 0) {
		*why = mem_printf("LISTEN_FDS: %s", strerror(-a.n));
		return ERR_CONFIG;
	}
	a.taken = mem_alloc(((size_t)a.n + 1) * sizeof(*a.taken));
	e = activate_match(&a, s, why);
	for (int i = 0; i < a.n; i++)
		free(a.names[i]);
	free(a.names);
	mem_free(a.taken);
	return e;
}

#else

enum err activate_sockets(struct setup *s, char **why)
{
	for (size_t i = 0; i < s->n_pools; i++)
		for (size_t k = 0; k < s->pools[i].conf->n_listen; k++) {
			const struct conf_listener *c = &s->pools[i].conf->listen[k];

			if (c->where.kind != ADDR_SYSTEMD)
				continue;
			*why = mem_printf("%s: built without systemd", c->address);
			return ERR_CONFIG;
		}
	return ERR_OK;
}

#endif
