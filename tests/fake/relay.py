"""Relay: a TCP relay that does to a byte stream what bad networks do.

    r = Relay(target_port)                  # listens on 127.0.0.1:r.port, connects to 127.0.0.1:target_port
    r.down(delay=0.05, jitter=0.02)         # server -> client, for all connections, from now on
    r.up(slice=1)                           # client -> server; see class Toxic for the keys
    r.next(down=dict(rst_after=7))          # for exactly the next connection
    r.clear()                               # healthy again (stalled bytes are delivered)
    r.stall() / r.heal()                    # black hole: connections stay, nothing moves, connects are taken; and back
    r.cut("rst") / r.cut("fin")             # ends all connections, on both sides
    r.refuse() / r.listen()                 # connects refused, and back
    r.retarget(port)                        # new connections go elsewhere
    r.live, r.accepted, r.conns[ID].bytes_up, .bytes_down, .ended
    r.wait(lambda: r.live == 0)             # by event
    r.close()                               # also a context manager
"""
import dataclasses
import os
import random
import socket
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from reactor import ERR, HUP, IN, OUT, Reactor, close_rst, listening  # noqa: E402

KEEP_MAX = 1 << 18      # bytes kept per direction; then reading stops


@dataclasses.dataclass
class Toxic:
    """What happens to one direction. Offsets count this connection's bytes of this direction."""
    delay: float = 0.0          # seconds
    jitter: float = 0.0         # at most so much more; order is kept
    slice: int = 0              # bytes of one segment
    slice_gap: float = 0.0005   # seconds between slices, so that they arrive as such
    bandwidth: int = 0          # bytes per second
    stall: bool = False         # nothing is passed on
    stall_after: int = -1       # nothing is passed on after so many bytes
    rst_after: int = -1         # resets both sides after so many bytes; 0: at once
    fin_after: int = -1         # ends both sides cleanly after so many bytes
    half_close_after: int = -1  # ends this direction only
    truncate_after: int = -1    # swallows what follows; the end of stream is passed on
    corrupt_at: int = -1        # flips the bits of this byte


class Half:
    """One direction of one connection: from src to dst."""

    def __init__(self, pair, src, dst, toxic, seed):
        self.pair, self.src, self.dst, self.toxic = pair, src, dst, toxic
        self.rng = random.Random(seed)
        self.queue = []         # (due, bytes) in order; b"" is the end of stream
        self.kept = self.moved = self.taken = 0
        self.src_done = self.dst_done = False
        self.timer = None
        self.blocked = False    # dst takes no more for now
        self.last_due = 0.0
        self.free_at = 0.0      # bandwidth and slices

    def wants_in(self):
        return not self.src_done and self.kept < KEEP_MAX

    def read(self):
        try:
            data = self.src.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            self.pair.end("rst")
            return
        t = self.toxic
        now = time.monotonic()
        due = max(self.last_due, now + t.delay + self.rng.random() * t.jitter)
        self.last_due = due
        if not data:
            self.src_done = True
            self.queue.append((due, b""))
            return
        self.kept += len(data)
        at = self.taken
        self.taken += len(data)
        if at <= t.corrupt_at < self.taken:
            i = t.corrupt_at - at
            data = data[:i] + bytes([data[i] ^ 0xff]) + data[i + 1:]
        n = t.slice or len(data)
        self.queue += [(due, data[i:i + n]) for i in range(0, len(data), n)]

    def _stalled(self):
        t = self.toxic
        return t.stall or self.pair.relay.stalled or 0 <= t.stall_after <= self.moved

    def pump(self):
        """Writes what is due; leaves a timer for what is not."""
        t = self.toxic
        while self.queue and not self.dst_done and not self.blocked and self.pair.open and not self._stalled():
            due, data = self.queue[0]
            due = max(due, self.free_at)
            left = due - time.monotonic()
            if left > 0:
                return self._later(left)
            if not data:
                self.queue.pop(0)
                self._end_dst()
                continue
            self._write_some(data)
            if not self.pair.open:
                return None
        if self.kept == 0 and self.src_done and self.dst_done:
            self.pair.maybe_done()
        return None

    def _write_some(self, data):
        t = self.toxic
        n = len(data)
        if t.bandwidth:
            n = min(n, max(1, t.bandwidth // 100))
        for limit in (t.rst_after, t.fin_after, t.half_close_after, t.truncate_after, t.stall_after):
            if self.moved < limit:
                n = min(n, limit - self.moved)
        if 0 <= t.truncate_after <= self.moved:
            sent = n
        else:
            try:
                sent = self.dst.send(data[:n])
            except BlockingIOError:
                self.blocked = True
                return
            except OSError:
                self.pair.end("rst")
                return
        self.moved += sent
        self.kept -= sent
        if sent < len(data):
            self.queue[0] = (self.queue[0][0], data[sent:])
        else:
            self.queue.pop(0)
        now = time.monotonic()
        if t.bandwidth:
            self.free_at = max(now, self.free_at) + sent / t.bandwidth
        elif t.slice:
            self.free_at = now + t.slice_gap
        self._limits()

    def _limits(self):
        t = self.toxic
        if 0 <= t.rst_after <= self.moved:
            self.pair.end("rst")
        elif 0 <= t.fin_after <= self.moved:
            self.pair.end("fin")
        elif 0 <= t.half_close_after <= self.moved and not self.dst_done:
            self._end_dst()

    def _end_dst(self):
        self.dst_done = True
        self.queue, self.kept = [], 0
        try:
            self.dst.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _later(self, seconds):
        if not self.timer or not self.timer.fn:
            self.timer = self.pair.relay.reactor.later(seconds, self.pair.arm)


class Pair:
    def __init__(self, relay, pid, client, server, up, down):
        self.relay, self.id, self.client, self.server = relay, pid, client, server
        self.up = Half(self, client, server, up, pid * 2)
        self.down = Half(self, server, client, down, pid * 2 + 1)
        self.connected, self.open, self.ended = False, True, None

    bytes_up = property(lambda self: self.up.moved)
    bytes_down = property(lambda self: self.down.moved)

    def arm(self):
        if not self.open:
            return
        if self.connected:
            self.up.pump()
            self.down.pump()
        r = self.relay.reactor
        for sock, src, dst, event in ((self.client, self.up, self.down, self._client_event),
                                      (self.server, self.down, self.up, self._server_event)):
            if not self.open:
                return
            ev = (IN if src.wants_in() else 0) | (OUT if dst.blocked or sock is self.server and not self.connected else 0)
            if ev:
                r.watch(sock, ev, event)
            else:
                r.unwatch(sock)     # the end of a finished side would be reported again and again

    def _client_event(self, ev):
        self._event(ev, self.up, self.down)

    def _server_event(self, ev):
        if not self.connected:
            err = self.server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if err:
                self.end("rst")
                return
            self.connected = True
            self.up._limits()
            if self.open:
                self.down._limits()
            self.arm()
            return
        self._event(ev, self.down, self.up)

    def _event(self, ev, src, dst):
        if ev & OUT:
            dst.blocked = False
        if ev & (IN | HUP | ERR) and not src.src_done:
            src.read()
        elif ev & (HUP | ERR):
            self.end("rst")
        self.arm()

    def maybe_done(self):
        if self.open and self.up.dst_done and self.down.dst_done:
            self.end("fin")

    def end(self, how):
        if not self.open:
            return
        self.open, self.ended = False, how
        for s in (self.client, self.server):
            self.relay.reactor.unwatch(s)
            close_rst(s) if how == "rst" else _close_fin(s)
        self.relay.live -= 1


def _close_fin(s):
    """An end of stream even if bytes are unread, which close() alone would make a reset."""
    try:
        s.shutdown(socket.SHUT_WR)
        while s.recv(1 << 16):
            pass
    except OSError:
        pass
    s.close()


class Relay:
    def __init__(self, target, port=0, host="127.0.0.1", target_host="127.0.0.1"):
        self.reactor = Reactor()
        self.lock, self.wait = self.reactor.lock, self.reactor.wait
        self.target, self.host, self.target_host = target, host, target_host
        self.live = self.accepted = 0
        self.conns = {}
        self.stalled = False
        self._up, self._down, self._next = Toxic(), Toxic(), []
        self._listener = listening(port, host)
        self.port = self._listener.getsockname()[1]
        with self.lock:
            self.reactor.watch(self._listener, IN, self._accept)

    def _each(self, fn):
        for p in [p for p in self.conns.values() if p.open]:
            fn(p)
        self.reactor.changed.notify_all()

    def _toxic(self, side, keys):
        with self.lock:
            new = dataclasses.replace(getattr(self, "_" + side), **keys)
            setattr(self, "_" + side, new)

            def apply(p):
                getattr(p, side).toxic = new
                p.arm()
            self._each(apply)
        return self

    def up(self, **keys):
        return self._toxic("up", keys)

    def down(self, **keys):
        return self._toxic("down", keys)

    def next(self, up=None, down=None):
        with self.lock:
            self._next.append((up or {}, down or {}))
        return self

    def clear(self):
        with self.lock:
            self._next = []
            self.stalled = False
            for side in ("up", "down"):
                setattr(self, "_" + side, Toxic())
                self._toxic(side, {})
        return self

    def stall(self):
        with self.lock:
            self.stalled = True
        return self

    def heal(self):
        with self.lock:
            self.stalled = False
            self._each(Pair.arm)
        return self

    def cut(self, how="rst"):
        with self.lock:
            self._each(lambda p: p.end(how))
        return self

    def refuse(self):
        with self.lock:
            if self._listener:
                self.reactor.unwatch(self._listener)
                self._listener.close()
                self._listener = None
        return self

    def listen(self):
        with self.lock:
            if not self._listener:
                self._listener = listening(self.port, self.host)
                self.reactor.watch(self._listener, IN, self._accept)
        return self

    def retarget(self, port):
        with self.lock:
            self.target = port
        return self

    def close(self):
        with self.lock:
            self.refuse()
            self.cut("rst")
        self.reactor.stop()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def _accept(self, _events):
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        server = socket.socket(socket.AF_INET6 if ":" in self.target_host else socket.AF_INET)
        for s in (client, server):
            s.setblocking(False)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.connect_ex((self.target_host, self.target))
        up, down = self._next.pop(0) if self._next else ({}, {})
        self.accepted += 1
        p = Pair(self, self.accepted, client, server, dataclasses.replace(self._up, **up),
                 dataclasses.replace(self._down, **down))
        self.conns[p.id] = p
        self.live += 1
        p.arm()
