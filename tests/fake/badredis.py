"""BadRedis: a small Redis that knows who logged in, how often and when, and that can be told to be a bad one.

    srv = BadRedis()                        # everything of BadServer (badserver.py) holds: set, next, cut, refuse, wait, ...
    srv.login(users={"app": "p1"})          # nothing is answered before a login; "default" is who a one-argument AUTH means
    srv.login(users=..., deny=3)            # and the next three are refused; mode="deny": all of them
    srv.rotate(app="p2", cut=None)          # replaces passwords; cut: "fin" or "rst" ends every connection as well
    srv.answer("GET", b"-MOVED 1 127.0.0.1:1\\r\\n", times=1)    # what a command gets instead of being executed; None: for ever
    srv.forget()                            # every connection must log in again: commands are answered -NOAUTH
    srv.login_delay = 0.1                   # seconds before a login is answered
    srv.hello = False                       # a server before Redis 6: no HELLO, no user in AUTH
    srv.no_password = True                  # AUTH is an error, because there is nothing to log in to
    srv.tries -> [Try(began, at, conn, user, password, ok)]     srv.login_now, srv.login_peak: logins under way
    srv.log   -> [(conn, (words...))] of every command that came    srv.count("INCR"): how many were executed
    srv.data  -> {database: {key: value}}
    srv.conns[ID] -> .user .name .db .resp .multi

It speaks RESP2 and RESP3 to commands as arrays or in line:
    PING ECHO SET GET DEL INCR RPUSH BLPOP (at once) SELECT MULTI EXEC DISCARD WATCH UNWATCH AUTH HELLO RESET QUIT ASKING READONLY
    READWRITE INFO CLIENT (any, +OK; ID, GETNAME, SETNAME for real) WHO (:connection) SLEEP ms, anything else: +OK

    badredis.py [--port N] [--for SECONDS]  stand-alone; prints the port, then runs that long
"""
import argparse
import collections
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from badserver import BadServer, Conn  # noqa: E402

Try = collections.namedtuple("Try", "began at conn user password ok")

WRONGPASS = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"
NOAUTH = b"-NOAUTH Authentication required.\r\n"
LOADING = b"-LOADING Redis is loading the dataset in memory\r\n"
READONLY = b"-READONLY You can't write against a read only replica.\r\n"
MAXCLIENTS = b"-ERR max number of clients reached\r\n"
NOPASSWORD = b"-ERR AUTH <password> called without any password configured for the default user. " \
             b"Are you sure your configuration is correct?\r\n"


def bulk(b):
    return b"$-1\r\n" if b is None else b"$%d\r\n%s\r\n" % (len(b), b)


class RedisConn(Conn):
    def __init__(self, *args):
        super().__init__(*args)
        self._busy = False              # what came is looked at later: replies keep their order
        self.fresh()

    def fresh(self):
        self.user = None if self.srv.need_login else "default"
        self.db, self.resp, self.name, self.multi, self.queued = 0, 2, b"", False, []

    # --- requests

    def _take(self, data):
        self._in += data
        while self.open and not self._busy:
            words, n = self._next_request()
            if words is None:
                return
            self._in = self._in[n:]
            if words:
                self._command(words)

    def _next_request(self):
        """(words, bytes) of the first whole request, or (None, 0)."""
        end = self._in.find(b"\n")
        if end < 0:
            return None, 0
        if not self._in.startswith(b"*"):
            return self._in[:end].split(), end + 1
        words, at = [], end + 1
        for _ in range(int(self._in[1:end])):
            end = self._in.find(b"\n", at)
            if end < 0:
                return None, 0
            n = int(self._in[at + 1:end])
            if len(self._in) < end + 1 + n + 2:
                return None, 0
            words.append(self._in[end + 1:end + 1 + n])
            at = end + 1 + n + 2
        return words, at

    def _command(self, words):
        srv = self.srv
        word = words[0].upper().decode("latin-1")
        self.requests += 1
        srv.requests += 1
        self.last = time.monotonic()
        srv.log.append((self.id, (word,) + tuple(words[1:])))
        if word in ("AUTH", "HELLO"):
            return self._login_command(word, words[1:])
        canned = srv._canned(word)
        if canned is not None:
            return self._reply(canned)
        if word == "QUIT":
            self._reply(b"+OK\r\n")
            self._closing = "fin"
            return self._finish()
        if word == "RESET":
            self.fresh()
            return self._reply(b"+RESET\r\n")
        if self.user is None:
            return self._reply(NOAUTH)
        if word == "SLEEP":
            return self._after(int(words[1]) / 1000, lambda: self._reply(b"+SLEPT\r\n"))
        if self.multi and word not in ("EXEC", "DISCARD", "MULTI", "WATCH"):
            self.queued.append((word, words[1:]))
            return self._reply(b"+QUEUED\r\n")
        return self._reply(self._execute(word, words[1:]))

    def _login_command(self, word, args):
        srv = self.srv
        auth = args
        if word == "HELLO":
            upper = [a.upper() for a in args]
            if not srv.hello:
                return self._reply(b"-ERR unknown command `HELLO`, with args beginning with: \r\n")
            auth = args[upper.index(b"AUTH") + 1:][:2] if b"AUTH" in upper else None
        if auth is None:
            if self.user is None:
                return self._reply(b"-NOAUTH HELLO must be called with the client already authenticated\r\n")
            return self._reply(self._greeting(args))
        began = time.monotonic()
        srv.login_now += 1
        srv.login_peak = max(srv.login_peak, srv.login_now)
        done = lambda: self._login_done(word, args, auth, began)
        return self._after(srv.login_delay, done) if srv.login_delay else done()

    def _after(self, seconds, fn):
        """Does it then; nothing that came behind it is done before."""
        def late():
            self._busy = False
            fn()
            self._take(b"")
            self._finish()
        self._busy = True
        self.srv.reactor.later(seconds, late)

    def _login_done(self, word, args, auth, began):
        srv = self.srv
        srv.login_now -= 1
        if not self.open:
            return None
        if len(auth) == 2 and not srv.hello:
            return self._reply(b"-ERR wrong number of arguments for 'auth' command\r\n")
        user, password = auth if len(auth) == 2 else (b"default", auth[0])
        if srv.no_password:
            return self._reply(NOPASSWORD)
        said = srv._login(self, [user, password])
        srv.tries.append(Try(began, time.monotonic(), self.id, user.decode(), password.decode(), said == b"+OK\r\n"))
        if said == b"+OK\r\n":
            return self._reply(said if word == "AUTH" else self._greeting(args))
        if said and said.startswith(b"-WRONGPASS"):
            said = srv.denied_text
        return self._reply(said)

    def _greeting(self, args):
        if args:
            self.resp = int(args[0])
        fields = [(b"server", bulk(b"redis")), (b"version", bulk(b"7.0.15")), (b"proto", b":%d\r\n" % self.resp),
                  (b"id", b":%d\r\n" % self.id), (b"mode", bulk(b"standalone")), (b"role", bulk(b"master")),
                  (b"modules", b"*0\r\n")]
        head = b"%%%d\r\n" % len(fields) if self.resp == 3 else b"*%d\r\n" % (2 * len(fields))
        return head + b"".join(bulk(k) + v for k, v in fields)

    # --- what it does

    def _execute(self, word, args):
        self.srv.executed[word] += 1
        fn = getattr(self, "_do_" + word.lower(), None)
        return fn(*args) if fn else b"+OK\r\n"

    def _here(self):
        return self.srv.data[self.db]

    def _do_ping(self, text=None):
        self.pings += 1
        self.srv.pings += 1
        return b"+PONG\r\n" if text is None else bulk(text)

    def _do_echo(self, text):
        return bulk(text)

    def _do_set(self, key, value, *_options):
        self._here()[key] = value
        return b"+OK\r\n"

    def _do_get(self, key):
        return bulk(self._here().get(key)) if self.resp == 2 or key in self._here() else b"_\r\n"

    def _do_del(self, key):
        return b":%d\r\n" % (self._here().pop(key, None) is not None)

    def _do_incr(self, key):
        n = int(self._here().get(key, b"0")) + 1
        self._here()[key] = b"%d" % n
        return b":%d\r\n" % n

    def _do_rpush(self, key, value):
        self._here().setdefault(key, []).append(value)
        return b":%d\r\n" % len(self._here()[key])

    def _do_blpop(self, key, _timeout):
        values = self._here().get(key)
        return b"*2\r\n" + bulk(key) + bulk(values.pop(0)) if values else b"*-1\r\n"

    def _do_select(self, db):
        self.db = int(db)
        return b"+OK\r\n"

    def _do_multi(self):
        if self.multi:
            return b"-ERR MULTI calls can not be nested\r\n"
        self.multi = True
        return b"+OK\r\n"

    def _do_exec(self):
        if not self.multi:
            return b"-ERR EXEC without MULTI\r\n"
        self.multi, todo, self.queued = False, self.queued, []
        return b"*%d\r\n" % len(todo) + b"".join(self._execute(w, a) for w, a in todo)

    def _do_discard(self):
        if not self.multi:
            return b"-ERR DISCARD without MULTI\r\n"
        self.multi, self.queued = False, []
        return b"+OK\r\n"

    def _do_client(self, sub, *args):
        sub = sub.upper()
        if sub == b"SETNAME":
            self.name = args[0]
        if sub == b"GETNAME":
            return bulk(self.name)
        return b":%d\r\n" % self.id if sub == b"ID" else b"+OK\r\n"

    def _do_info(self, *_sections):
        return bulk(b"# Server\r\nredis_version:7.0.15\r\nrole:master\r\n")

    def _do_who(self):
        return b":%d\r\n" % self.id


class BadRedis(BadServer):
    conn_class = RedisConn

    def __init__(self, port=0, host="127.0.0.1", **behaviour):
        self.tries, self.log, self.executed = [], [], collections.Counter()
        self.data = collections.defaultdict(dict)
        self.login_now = self.login_peak = 0
        self.login_delay, self.hello, self.no_password, self.denied_text = 0.0, True, False, WRONGPASS
        self._answers = {}
        super().__init__(port, host, **behaviour)

    def rotate(self, cut=None, **users):
        """Passwords of the users named are replaced, from this moment on; sessions stay unless they are cut."""
        with self.lock:
            self.users = dict(self.users or {}, **users)
            if cut:
                self.cut(cut)
        return self

    def forget(self, conn=None):
        """They are not logged in any more; returns how many."""
        with self.lock:
            chosen = self._chosen(conn)
            for c in chosen:
                c.user = None
            return len(chosen)

    def answer(self, word, reply, times=1):
        with self.lock:
            if reply is None:
                self._answers.pop(word, None)
            else:
                self._answers[word] = [reply, times]
        return self

    def count(self, word):
        with self.lock:
            return self.executed[word]

    def failed(self):
        """Logins that were refused."""
        with self.lock:
            return [t for t in self.tries if not t.ok]

    def _canned(self, word):
        a = self._answers.get(word) or self._answers.get("*")
        if a is None or a[1] == 0:
            return None
        if a[1] is not None:
            a[1] -= 1
        return a[0]


def main():
    p = argparse.ArgumentParser(description="a Redis that misbehaves on demand (loopback only)")
    p.add_argument("--port", type=int, default=0)
    p.add_argument("--for", dest="seconds", type=float, default=60.0)
    a = p.parse_args()
    with BadRedis(port=a.port) as srv:
        print(srv.port, flush=True)
        time.sleep(a.seconds)


if __name__ == "__main__":
    main()
