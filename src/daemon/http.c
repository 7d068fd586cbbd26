#include "daemon/http.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <grp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/event.h"

#define HTTP_SWEEP_US 50000 /* also the rest after running out of descriptors */
#define HTTP_FULL_US  2000  /* all connections in use */
#define HTTP_BACKLOG  64

struct http {
	struct loop *loop;
	struct evhttp *ev;
	struct evconnlistener *listener;
	struct timer sweep; /* armed while there are connections */
	http_fn *fn;
	void *arg;
	struct http_opts opts;
	dev_t dev; /* the socket file we made */
	ino_t ino;
	struct list requests; /* with a handler */
	/* Connections, each with a reference of ours, by which we learn that evhttp has let go of it (it takes its callbacks
	 * away). The descriptor is closed with the last reference, which is ours. */
	struct http_connection {
		struct bufferevent *b; /* NULL: free */
		uint64_t accepted;     /* number in order of acceptance */
	} connections[HTTP_CONNECTIONS];
	uint64_t n_accepted;
	struct http *next_open;
};

/* All that are open: evhttp takes a listener's argument for itself, so its error callback has only the listener. */
static struct http *http_open_first;

struct http_request {
	struct http *http;
	struct evhttp_request *ev;
	struct node node; /* on http->requests */
	struct evkeyvalq params;
	bool params_parsed;
};

static bool http_connection_live(struct bufferevent *b)
{
	bufferevent_data_cb read_cb, write_cb;
	bufferevent_event_cb event_cb;
	void *arg;

	bufferevent_getcb(b, &read_cb, &write_cb, &event_cb, &arg);
	return read_cb || write_cb || event_cb;
}

/* Forgets the connections evhttp has closed; returns how many are left. */
static int http_sweep(struct http *h)
{
	int n = 0;

	for (int i = 0; i < HTTP_CONNECTIONS; i++) {
		struct http_connection *c = &h->connections[i];

		if (c->b && !http_connection_live(c->b)) {
			bufferevent_decref(c->b);
			c->b = NULL;
		}
		n += c->b != NULL;
	}
	return n;
}

static bool http_has_request(const struct http *h, const struct bufferevent *b)
{
	list_each(&h->requests, n) {
		struct http_request *r = container_of(n, struct http_request, node);
		struct evhttp_connection *c = evhttp_request_get_connection(r->ev);

		if (c && evhttp_connection_get_bufferevent(c) == b)
			return true;
	}
	return false;
}

/* All places are taken: the oldest connection that asks nothing makes room, so that silence can't lock others out. */
static void http_displace(struct http *h)
{
	struct http_connection *oldest = NULL;

	for (int i = 0; i < HTTP_CONNECTIONS; i++) {
		struct http_connection *c = &h->connections[i];

		if (c->b && !http_has_request(h, c->b) && evbuffer_get_length(bufferevent_get_output(c->b)) == 0 &&
		    (!oldest || c->accepted < oldest->accepted))
			oldest = c;
	}
	/* evhttp sees the end of file and closes. */
	if (oldest && bufferevent_getfd(oldest->b) >= 0)
		shutdown(bufferevent_getfd(oldest->b), SHUT_RDWR);
}

static void http_sweep_in(struct http *h, int64_t us)
{
	timer_set(h->loop, &h->sweep, loop_now_us(h->loop) + us);
}

static void http_on_sweep(void *arg)
{
	struct http *h = arg;
	int n = http_sweep(h);

	if (n < HTTP_CONNECTIONS)
		evconnlistener_enable(h->listener);
	else
		http_displace(h);
	if (n > 0)
		http_sweep_in(h, n < HTTP_CONNECTIONS ? HTTP_SWEEP_US : HTTP_FULL_US);
}

/* Out of descriptors: level-triggered, so the listener must rest or it would spin. */
static void http_on_accept_error(struct evconnlistener *l, void *arg)
{
	struct http *h = http_open_first;

	(void)arg;
	while (h && h->listener != l)
		h = h->next_open;
	BUG_ON(!h);
	evconnlistener_disable(l);
	http_sweep_in(h, HTTP_SWEEP_US);
}

static struct bufferevent *http_on_accept(struct event_base *base, void *arg)
{
	struct http *h = arg;
	struct bufferevent *b = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
	int n = http_sweep(h);

	for (int i = 0; b && i < HTTP_CONNECTIONS; i++) {
		struct http_connection *c = &h->connections[i];

		if (c->b)
			continue;
		bufferevent_incref(b);
		*c = (struct http_connection){.b = b, .accepted = h->n_accepted++};
		break;
	}
	if (n + 1 >= HTTP_CONNECTIONS)
		evconnlistener_disable(h->listener);
	http_sweep_in(h, n + 1 < HTTP_CONNECTIONS ? HTTP_SWEEP_US : HTTP_FULL_US);
	return b;
}

static void http_on_request(struct evhttp_request *ev, void *arg)
{
	struct http *h = arg;
	struct http_request *r = NEW(struct http_request);
	const char *query = evhttp_uri_get_query(evhttp_request_get_evhttp_uri(ev));

	r->http = h;
	r->ev = ev;
	r->params_parsed = query && evhttp_parse_query_str(query, &r->params) == 0;
	list_push_back(&h->requests, &r->node);
	h->fn(h->arg, r);
}

/* Makes room for a Unix socket: a file nobody answers behind is removed. */
static bool http_clear_path(const struct addr *a, const char **why)
{
	struct stat st;
	int fd, e;

	if (a->u.un.sun_path[0] == '\0' || lstat(a->u.un.sun_path, &st) != 0)
		return true;
	*why = "a file that is not a socket is in the way";
	if (!S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		*why = strerror(errno);
		return false;
	}
	e = connect(fd, &a->u.sa, a->len) == 0 ? 0 : errno;
	close(fd);
	*why = "another process is listening there";
	if (e != ECONNREFUSED)
		return false;
	*why = strerror(errno);
	return unlink(a->u.un.sun_path) == 0;
}

/* Removes the socket file, if it still is the one we made. */
static void http_unlink(const struct http *h)
{
	const char *path = h->opts.addr.u.un.sun_path;
	struct stat st;

	if (h->ino && stat(path, &st) == 0 && st.st_ino == h->ino && st.st_dev == h->dev)
		unlink(path);
}

static bool http_bind(struct http *h, int fd, const char **why)
{
	const struct addr *a = &h->opts.addr;
	const char *path = a->u.un.sun_path;
	bool file = a->u.sa.sa_family == AF_UNIX && path[0];
	int one = 1;
	struct stat st;
	mode_t mask;
	int res;

	if (!file)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	mask = umask(0177);
	res = bind(fd, &a->u.sa, a->len);
	umask(mask);
	if (res == 0 && file) {
		res = stat(path, &st);
		if (res == 0) {
			h->dev = st.st_dev;
			h->ino = st.st_ino;
		}
		if (res == 0 && h->opts.gid >= 0)
			res = chown(path, (uid_t)-1, (gid_t)h->opts.gid);
		if (res == 0)
			res = chmod(path, h->opts.mode);
	}
	if (res == 0)
		res = listen(fd, HTTP_BACKLOG);
	*why = strerror(errno);
	return res == 0;
}

static int http_socket(struct http *h, const char **why)
{
	int family = h->opts.addr.u.sa.sa_family, fd;

	if (family == AF_UNIX && !http_clear_path(&h->opts.addr, why))
		return -1;
	fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	*why = strerror(errno);
	if (fd >= 0 && !http_bind(h, fd, why)) {
		http_unlink(h);
		close(fd);
		return -1;
	}
	return fd;
}

static struct evhttp *http_server(struct http *h, struct event_base *base)
{
	struct evhttp *ev = evhttp_new(base);

	if (!ev)
		return NULL;
	evhttp_set_allowed_methods(ev, EVHTTP_REQ_GET | EVHTTP_REQ_POST);
	evhttp_set_max_headers_size(ev, HTTP_MAX_BYTES);
	evhttp_set_max_body_size(ev, HTTP_MAX_BYTES);
	evhttp_set_timeout(ev, HTTP_TIMEOUT_S);
	evhttp_set_bevcb(ev, http_on_accept, h);
	evhttp_set_gencb(ev, http_on_request, h);
	return ev;
}

enum err http_open(struct loop *l, const struct http_opts *o, http_fn *fn, void *arg, struct http **out,
		   const char **why)
{
	struct event_base *base = loop_event_base(l);
	struct http *h = NEW(struct http);
	int fd;

	h->loop = l;
	h->opts = *o;
	h->fn = fn;
	h->arg = arg;
	list_init(&h->requests);
	timer_init(&h->sweep, http_on_sweep, h);
	fd = http_socket(h, why);
	if (fd < 0) {
		mem_free(h);
		return ERR_CANT_CREATE;
	}
	h->ev = http_server(h, base);
	h->listener = evconnlistener_new(base, NULL, NULL, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
	if (!h->ev || !h->listener || !evhttp_bind_listener(h->ev, h->listener)) {
		*why = "out of memory";
		if (h->listener)
			evconnlistener_free(h->listener);
		else
			close(fd);
		if (h->ev)
			evhttp_free(h->ev);
		http_unlink(h);
		mem_free(h);
		return ERR_NO_MEMORY;
	}
	h->next_open = http_open_first;
	http_open_first = h;
	evconnlistener_set_error_cb(h->listener, http_on_accept_error);
	*out = h;
	return ERR_OK;
}

void http_close(struct http **h)
{
	struct http *it = *h;
	struct http **at = &http_open_first;

	if (!it)
		return;
	BUG_ON(it->requests.len != 0);
	while (*at != it)
		at = &(*at)->next_open;
	*at = it->next_open;
	timer_stop(it->loop, &it->sweep);
	evhttp_free(it->ev);
	http_sweep(it);
	http_unlink(it);
	mem_free(it);
	*h = NULL;
}

bool http_busy(const struct http *h)
{
	if (h->requests.len > 0)
		return true;
	for (int i = 0; i < HTTP_CONNECTIONS; i++) {
		struct bufferevent *b = h->connections[i].b;

		if (b && http_connection_live(b) && evbuffer_get_length(bufferevent_get_output(b)) > 0)
			return true;
	}
	return false;
}

const char *http_path(const struct http_request *r)
{
	const char *p = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(r->ev));

	return p ? p : "";
}

bool http_is_post(const struct http_request *r)
{
	return evhttp_request_get_command(r->ev) == EVHTTP_REQ_POST;
}

const char *http_param(const struct http_request *r, const char *name)
{
	return r->params_parsed ? evhttp_find_header(&r->params, name) : NULL;
}

static bool http_in_group(int fd, const struct ucred *peer, int64_t gid)
{
	gid_t groups[64];
	socklen_t len = sizeof(groups);

	if (gid < 0)
		gid = getegid();
	if (peer->gid == (gid_t)gid)
		return true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) != 0)
		return false;
	for (size_t i = 0; i < len / sizeof(groups[0]); i++)
		if (groups[i] == (gid_t)gid)
			return true;
	return false;
}

bool http_may_control(const struct http_request *r)
{
	const struct http_opts *o = &r->http->opts;
	struct evhttp_connection *c = evhttp_request_get_connection(r->ev);
	struct ucred peer;
	socklen_t len = sizeof(peer);
	int fd;

	if (o->addr.u.sa.sa_family != AF_UNIX || !c)
		return false;
	fd = bufferevent_getfd(evhttp_connection_get_bufferevent(c));
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
		return false;
	if (peer.uid == 0 || peer.uid == geteuid())
		return true;
	return (o->mode & 02) || ((o->mode & 020) && http_in_group(fd, &peer, o->gid));
}

bool http_allowed(const struct http_request *r)
{
	return r->http->opts.addr.u.sa.sa_family != AF_UNIX || http_may_control(r);
}

void http_reply(struct http_request **r, int status, const char *type, const char *body, size_t len)
{
	struct http_request *it = *r;
	struct evkeyvalq *headers = evhttp_request_get_output_headers(it->ev);
	struct evbuffer *b = evbuffer_new();

	if (b)
		evbuffer_add(b, body, len);
	evhttp_add_header(headers, "Content-Type", type);
	evhttp_add_header(headers, "Cache-Control", "no-store");
	evhttp_send_reply(it->ev, status, NULL, b);
	if (b)
		evbuffer_free(b);
	if (it->params_parsed)
		evhttp_clear_headers(&it->params);
	list_remove(&it->node);
	mem_free(it);
	*r = NULL;
}
