"""BadServer: a line server that can be told to misbehave in every way a real one does, connection by connection.

    srv = BadServer()                       # listens on 127.0.0.1:srv.port; BadServer(port=N) for a fixed one
    srv = BadServer(greeting=b"220 hi\\r\\n", split=1)   # behaviour of every connection, see class Behaviour
    srv.set(reply_delay=0.2)                # for connections accepted from now on
    srv.set_live(stall=True)                # for those and the open ones
    srv.next(dict(rst_after_out=3), {})     # for exactly the next connections, in this order; then the default again
    srv.login(need=True, users={"u": "p"}, deny=2)      # logins; see there
    srv.say(b"late\\n")                     # unsolicited bytes on every open connection (or conn=ID)
    srv.cut("rst") / srv.cut("fin")         # ends every open connection (or conn=ID)
    srv.refuse() / srv.hang() / srv.listen()            # connects are refused / hang for ever / work again
    srv.live, srv.peak, srv.accepted, srv.logins, srv.denied, srv.pings, srv.requests
    srv.conns[ID] -> Conn: .open .peer .bytes_in .bytes_out .requests .logged_in .ended .owners
    srv.wait(lambda: srv.live == 3, timeout=5)          # by event; raises AssertionError
    srv.close()                             # also a context manager

What it speaks, in lines:
    PING             -> +PONG\\r\\n
    AUTH user pass   -> +OK\\r\\n or -WRONGPASS ...\\r\\n (with login(need=True) all else is answered -NOAUTH until then)
    WHO              -> conn ID\\r\\n        which upstream connection this is: tells reuse from a new dial
    BYTES n          -> n bytes "x", then \\n
    SLEEP ms         -> +SLEPT ms\\r\\n after that time
    QUIT             -> +BYE\\r\\n and end of stream;   RESET -> a reset
    anything else    -> the same line: `id seq payload\\n` comes back as it is; .owners collects the ids
With mode="raw" every byte is echoed, with mode="sink" nothing is answered, with mode="silent" nothing is read or said.

A connection counts in .live from accept until its end (either side's close) has been seen. Ends that have arrived are
seen before the next connection is accepted, so .peak never counts a closed connection beside its successor.

    badserver.py [--port N] [--for SECONDS] [key=value ...]     stand-alone; prints the port, then runs that long
"""
import argparse
import dataclasses
import os
import socket
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from reactor import ERR, HUP, IN, OUT, RDHUP, Reactor, close_rst, listening  # noqa: E402


@dataclasses.dataclass
class Behaviour:
    """How one connection behaves. Counts of bytes are of this connection."""
    mode: str = "line"              # line | raw | sink | silent
    greeting: bytes = b""           # said first
    greeting_delay: float = 0.0
    reply_delay: float = 0.0        # before each reply
    split: int = 0                  # bytes of one segment; 0: as they come
    split_gap: float = 0.0          # seconds between segments
    merge: int = 0                  # replies kept until there are so many, then sent in one segment
    half_reply: int = 0             # the n-th reply is cut in half, then nothing more is said
    swallow: int = 0                # the n-th request gets no reply
    extra: bytes = b""              # unsolicited, in the same segment behind each reply
    extra_late: bytes = b""         # unsolicited, extra_gap seconds after each reply
    extra_gap: float = 0.001
    extra_greeting: bytes = b""     # unsolicited, once, extra_gap seconds after accept
    rst_after_in: int = -1          # reset once so many bytes have come; 0: at accept
    fin_after_in: int = -1          # end of stream likewise
    rst_after_out: int = -1         # reset once so many bytes have been said; the rest of a reply is lost
    fin_after_out: int = -1
    close_after: int = 0            # end of stream after so many replies
    close_idle: float = 0.0         # end of stream after so many seconds without a request
    stall: bool = False             # says nothing more, reads on
    read_stop: int = -1             # stops reading after so many bytes (a slow reader; receive buffer of 256 KiB)
    read_rate: int = 0              # reads at most so many bytes per second
    on_eof: str = "close"           # the peer's end of stream: close | hold | or a text that is said before closing
    pong: bytes = b"+PONG\r\n"


class Conn:
    """What is known of one connection. Read-only for tests."""

    def __init__(self, srv, cid, sock, peer, beh):
        self.srv, self.id, self.sock, self.peer, self.beh = srv, cid, sock, peer, beh
        self.open, self.ended = True, None      # eof | reset | fin | rst (the last two: by this server)
        self.bytes_in = self.bytes_out = 0
        self.requests = self.replies = self.pings = 0
        self.logged_in = False
        self.user = None
        self.owners = set()
        self.born, self.died = time.monotonic(), None
        self.last = self.born
        self._in = b""
        self._segments = []             # to be sent, each on its own
        self._kept = []                 # replies kept by `merge`
        self._half = False              # after half_reply
        self._eof = False
        self._closing = None            # "fin" once everything is said
        self._paused = False            # read_rate
        self._gap = False               # waits between segments
        self._delayed = 0               # replies under way in timers

    def __repr__(self):
        return "<conn %d %s in=%d out=%d requests=%d>" % (self.id, "open" if self.open else self.ended, self.bytes_in,
                                                          self.bytes_out, self.requests)

    # --- life

    def start(self):
        b, r = self.beh, self.srv.reactor
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if b.rst_after_in == 0 or b.rst_after_out == 0:
            return self.end("rst")
        if b.fin_after_in == 0 or b.fin_after_out == 0:
            return self.end("fin")
        self._arm()
        if b.greeting and b.greeting_delay:
            r.later(b.greeting_delay, lambda: self.say(b.greeting))
        elif b.greeting:
            self.say(b.greeting)
        if b.extra_greeting:
            r.later(b.extra_gap, lambda: self.say(b.extra_greeting))
        if b.close_idle:
            self._idle_check()
        return None

    def _idle_check(self):
        left = self.last + self.beh.close_idle - time.monotonic()
        if not self.open:
            return
        if left <= 0:
            self.end("fin")
        else:
            self.srv.reactor.later(left, self._idle_check)

    def end(self, how):
        """fin | rst by us, eof | reset by the peer."""
        if not self.open:
            return
        self.open, self.ended, self.died = False, how, time.monotonic()
        self.srv.reactor.unwatch(self.sock)
        if how == "rst":
            close_rst(self.sock)
        else:
            # Unread bytes would make the kernel send a reset; "fin" must be one.
            if how == "fin":
                try:
                    self.sock.shutdown(socket.SHUT_WR)
                    while self.sock.recv(1 << 16):
                        pass
                except OSError:
                    pass
            self.sock.close()
        self.srv._ended(self)

    def _reading(self):
        b = self.beh
        return not (self._eof or self._paused or b.mode == "silent" or
                    (b.read_stop >= 0 and self.bytes_in >= b.read_stop))

    def _arm(self):
        if not self.open:
            return
        ev = 0
        if self._reading():
            ev |= IN
        if not self._eof:
            ev |= RDHUP
        if self._segments and not self._gap:
            ev |= OUT
        self.srv.reactor.watch(self.sock, ev, self._event)

    def _event(self, ev):
        if ev & (HUP | ERR) and not ev & IN:
            return self.end("reset" if self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) else "eof")
        if self._reading() and ev & (IN | RDHUP):
            self._read()
        elif ev & RDHUP:
            # Not reading, but the peer has finished: nobody is there for a silent server.
            self._got_eof()
        if self.open and ev & OUT:
            self._write()
        return self._arm() if self.open else None

    # --- in

    def _read(self):
        b = self.beh
        n = 1 << 16
        if b.read_rate:
            n = max(1, b.read_rate // 20)
            self._paused = True
            self.srv.reactor.later(0.05, self._unpause)
        for limit in (b.read_stop, b.rst_after_in, b.fin_after_in):
            if limit >= 0:
                n = min(n, max(1, limit - self.bytes_in))
        try:
            data = self.sock.recv(n)
        except BlockingIOError:
            return None
        except OSError:
            return self.end("reset")
        if not data:
            return self._got_eof()
        self.bytes_in += len(data)
        self.last = time.monotonic()
        if 0 <= b.rst_after_in <= self.bytes_in:
            return self.end("rst")
        if 0 <= b.fin_after_in <= self.bytes_in:
            return self.end("fin")
        return self._take(data)

    def _unpause(self):
        self._paused = False
        self._arm()

    def _got_eof(self):
        self._eof = True
        how = self.beh.on_eof
        if how == "hold":
            return
        if how != "close":
            self.say(how.encode() if isinstance(how, str) else how)
        self._closing = "eof"
        self._finish()

    def _take(self, data):
        if self.beh.mode == "raw":
            self.say(data)
        if self.beh.mode != "line":
            return
        self._in += data
        while self.open and b"\n" in self._in:
            line, _, self._in = self._in.partition(b"\n")
            self._line(line + b"\n")

    def _line(self, line):
        words = line.split()
        word = words[0].upper() if words else b""
        self.requests += 1
        self.srv.requests += 1
        self.last = time.monotonic()
        if word == b"AUTH":
            return self._reply(self.srv._login(self, words[1:]))
        if self.srv.need_login and not self.logged_in:
            return self._reply(b"-NOAUTH Authentication required.\r\n")
        if word == b"PING" and len(words) == 1:
            self.pings += 1
            self.srv.pings += 1
            return self._reply(self.beh.pong)
        if word == b"WHO":
            return self._reply(b"conn %d\r\n" % self.id)
        if word == b"BYTES" and len(words) == 2:
            return self._reply(b"x" * int(words[1]) + b"\n")
        if word == b"SLEEP" and len(words) == 2:
            return self._reply(b"+SLEPT %s\r\n" % words[1], int(words[1]) / 1000)
        if word == b"RESET":
            return self.end("rst")
        if word == b"QUIT":
            self._reply(b"+BYE\r\n")
            self._closing = "fin"
            return self._finish()
        if words:
            self.owners.add(words[0].decode("latin-1"))
        return self._reply(line)

    # --- out

    def _reply(self, data, delay=0.0):
        b = self.beh
        if data is None or (b.swallow and self.requests == b.swallow):
            return
        delay = delay or b.reply_delay
        if delay:
            self._delayed += 1
            self.srv.reactor.later(delay, lambda: self._reply_late(data))
        else:
            self._reply_now(data)

    def _reply_late(self, data):
        self._delayed -= 1
        self._reply_now(data)
        self._finish()

    def _reply_now(self, data):
        b = self.beh
        if not self.open or self._half:
            return
        self.replies += 1
        if b.half_reply and self.replies == b.half_reply:
            self._half = True
            data = data[:max(1, len(data) // 2)]
            return self._queue(data)
        data += b.extra
        self._kept.append(data)
        if len(self._kept) >= max(1, b.merge):
            data, self._kept = b"".join(self._kept), []
            self.say(data)
        if b.extra_late:
            self.srv.reactor.later(b.extra_gap, lambda: self.say(b.extra_late))
        if b.close_after and self.replies >= b.close_after:
            self._closing = "fin"
            self._finish()

    def say(self, data):
        """Queues bytes, cut as `split` says."""
        if self.open and not self.beh.stall and not self._half and self.beh.mode != "silent":
            self._queue(data)

    def _queue(self, data):
        n = self.beh.split or len(data)
        self._segments += [data[i:i + n] for i in range(0, len(data), n)]
        if not self._gap:
            self._write()
        self._arm()

    def _write(self):
        b = self.beh
        while self.open and self._segments and not self._gap:
            data = self._segments[0]
            cut = None
            for limit, how in ((b.rst_after_out, "rst"), (b.fin_after_out, "fin")):
                if limit >= 0 and self.bytes_out + len(data) >= limit:
                    data, cut = data[:limit - self.bytes_out], how
            try:
                n = self.sock.send(data) if data else 0
            except BlockingIOError:
                break
            except OSError:
                return self.end("reset")
            self.bytes_out += n
            if cut and n == len(data):
                return self.end(cut)
            if n < len(self._segments[0]):
                self._segments[0] = self._segments[0][n:]
                continue
            self._segments.pop(0)
            if b.split_gap and self._segments:
                self._gap = True
                self.srv.reactor.later(b.split_gap, self._ungap)
        return self._finish()

    def _ungap(self):
        self._gap = False
        if self.open:
            self._write()
            self._arm()

    def _finish(self):
        if self.open and self._closing and not self._segments and not self._delayed:
            self.end(self._closing)


class BadServer:
    conn_class = Conn

    def __init__(self, port=0, host="127.0.0.1", **behaviour):
        self.reactor = Reactor()
        self.lock, self.wait = self.reactor.lock, self.reactor.wait
        self.default = Behaviour(**behaviour)
        self.host = host
        self.accepted = self.peak = self.logins = self.denied = self.pings = self.requests = 0
        self.live = 0
        self.conns = {}
        self.need_login, self.users, self._deny, self._login_mode = False, None, 0, "check"
        self._next = []
        self._fillers = []
        self._listener = listening(port, host)
        self.port = self._listener.getsockname()[1]
        with self.lock:
            self.reactor.watch(self._listener, IN, self._accept)

    # --- behaviour

    def set(self, **behaviour):
        """For connections accepted from now on."""
        with self.lock:
            self.default = dataclasses.replace(self.default, **behaviour)
        return self

    def set_live(self, **behaviour):
        """For open connections as well."""
        self.set(**behaviour)
        with self.lock:
            for c in self.open_conns():
                c.beh = dataclasses.replace(c.beh, **behaviour)
                c._arm()
        return self

    def next(self, *behaviours):
        """Each is a dict of changes to the default, used up by one connection."""
        with self.lock:
            self._next += behaviours
        return self

    def login(self, need=True, users=None, deny=0, mode="check"):
        """need: nothing is answered before a login. users: {name: password}; None: any will do. deny: so many next
        logins are refused whatever they say. mode: check | deny (for ever) | alternate (every other one is refused) |
        silent (never answered) | garbage (answered nonsense)."""
        with self.lock:
            self.need_login, self.users, self._deny, self._login_mode = need, users, deny, mode
        return self

    # --- deeds

    def open_conns(self):
        with self.lock:
            return [c for c in self.conns.values() if c.open]

    def _chosen(self, conn):
        return self.open_conns() if conn is None else [self.conns[conn]]

    def say(self, data, conn=None):
        """Unsolicited bytes; returns to how many connections."""
        with self.lock:
            chosen = self._chosen(conn)
            for c in chosen:
                c._queue(data)
            return len(chosen)

    def cut(self, how="fin", conn=None):
        """Ends connections by end of stream ("fin") or reset ("rst"); returns how many."""
        with self.lock:
            chosen = self._chosen(conn)
            for c in chosen:
                c.end(how)
            self.reactor.changed.notify_all()
            return len(chosen)

    def refuse(self):
        """Closes the listening socket: connects are refused. Open connections stay."""
        with self.lock:
            self._drop_fillers()
            if self._listener:
                self.reactor.unwatch(self._listener)
                self._listener.close()
                self._listener = None
        return self

    def listen(self):
        """Connects work (again), at the same port."""
        with self.lock:
            self._drop_fillers()
            if not self._listener:
                self._listener = listening(self.port, self.host)
            self._listener.listen(1024)
            self.reactor.watch(self._listener, IN, self._accept)
        return self

    def pause(self):
        """Connects succeed (the kernel answers), but nobody is there. listen() ends it."""
        with self.lock:
            self.reactor.unwatch(self._listener)
        return self

    def hang(self):
        """Connects hang: the queue of the listening socket is filled up and never emptied."""
        with self.lock:
            if not self._listener:
                self._listener = listening(self.port, self.host)
            self.reactor.unwatch(self._listener)
            self._listener.listen(0)
            while True:
                s = socket.socket(self._listener.family)
                s.settimeout(0.05)
                self._fillers.append(s)
                try:
                    s.connect((self.host, self.port))
                except TimeoutError:
                    return self

    def _drop_fillers(self):
        if not self._fillers:
            return
        names = {s.getsockname() for s in self._fillers}
        for s in self._fillers:
            s.close()
        self._fillers = []
        self._filler_names = names

    _filler_names = frozenset()

    def close(self):
        with self.lock:
            self.refuse()
            for c in self.open_conns():
                c.end("rst")
        self.reactor.stop()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def report(self):
        """All figures at one moment, for a test's message."""
        with self.lock:
            return {"live": self.live, "peak": self.peak, "accepted": self.accepted, "logins": self.logins,
                    "denied": self.denied, "pings": self.pings, "requests": self.requests,
                    "conns": {i: (c.bytes_in, c.bytes_out, c.ended) for i, c in self.conns.items()}}

    # --- events

    def _accept(self, _events):
        try:
            sock, peer = self._listener.accept()
        except OSError:
            return
        if peer in self._filler_names:
            sock.close()
            return
        # Whoever ended before this one connected has ended by now: see it first.
        self.reactor.unwatch(self._listener)
        self.reactor.turn(0)
        self.reactor.watch(self._listener, IN, self._accept)
        self.accepted += 1
        beh = dataclasses.replace(self.default, **(self._next.pop(0) if self._next else {}))
        c = self.conn_class(self, self.accepted, sock, peer, beh)
        self.conns[c.id] = c
        if beh.read_stop >= 0 or beh.read_rate:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        self.live += 1
        self.peak = max(self.peak, self.live)
        c.start()

    def _ended(self, _conn):
        self.live -= 1

    def _login(self, conn, words):
        self.logins += 1
        mode = self._login_mode
        refused = mode == "deny" or self._deny > 0 or (mode == "alternate" and self.logins % 2 == 1)
        self._deny = max(0, self._deny - 1)
        if mode == "silent":
            return None
        if mode == "garbage":
            return b"\x00\xff?? what\r\n"
        user, password = (words + [b"", b""])[:2]
        if not refused and self.users is not None:
            refused = self.users.get(user.decode("latin-1")) != password.decode("latin-1")
        if refused:
            self.denied += 1
            return b"-WRONGPASS invalid username-password pair\r\n"
        conn.logged_in, conn.user = True, user.decode("latin-1")
        return b"+OK\r\n"


def main():
    p = argparse.ArgumentParser(description="a line server that misbehaves on demand (loopback only)")
    p.add_argument("--port", type=int, default=0)
    p.add_argument("--for", dest="seconds", type=float, default=60.0)
    p.add_argument("behaviour", nargs="*", metavar="key=value")
    a = p.parse_args()
    types = {f.name: f.type for f in dataclasses.fields(Behaviour)}
    beh = {}
    for kv in a.behaviour:
        k, _, v = kv.partition("=")
        beh[k] = v.encode().decode("unicode_escape").encode("latin-1") if types[k] is bytes else types[k](v)
    with BadServer(port=a.port, **beh) as srv:
        print(srv.port, flush=True)
        time.sleep(a.seconds)


if __name__ == "__main__":
    main()
