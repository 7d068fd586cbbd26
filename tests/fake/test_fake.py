"""The fake servers do what they say; a test that leans on them may believe them."""
import os
import socket
import struct
import sys
import time

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from badserver import BadServer  # noqa: E402
from dnsserver import DnsServer  # noqa: E402
from relay import Relay  # noqa: E402


class Client:
    def __init__(self, port):
        self.s = socket.socket()
        self.s.settimeout(5)
        self.early = None       # a reset that came while connect() was still returning
        try:
            self.s.connect(("127.0.0.1", port))
            self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except ConnectionResetError:
            self.early = (b"", "reset")

    def ask(self, data, want):
        self.s.sendall(data)
        return self.read(want)

    def read(self, want):
        got = b""
        while len(got) < len(want):
            data = self.s.recv(len(want) - len(got))
            assert data, "closed after %r, wanted %r" % (got, want)
            got += data
        assert got == want

    def all(self):
        if self.early:
            return self.early
        got = b""
        try:
            while True:
                data = self.s.recv(65536)
                if not data:
                    return got, "eof"
                got += data
        except ConnectionResetError:
            return got, "reset"

    def silent(self, seconds=0.05):
        self.s.settimeout(seconds)
        try:
            return not self.s.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return True
        finally:
            self.s.settimeout(5)

    def close(self):
        self.s.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


@pytest.fixture
def srv():
    with BadServer() as s:
        yield s


def test_echo_ping_who_and_counts(srv):
    with Client(srv.port) as a, Client(srv.port) as b:
        a.ask(b"7 1 hello\n", b"7 1 hello\n")
        a.ask(b"PING\r\n", b"+PONG\r\n")
        a.ask(b"WHO\n", b"conn 1\r\n")
        b.ask(b"WHO\n", b"conn 2\r\n")
        a.ask(b"BYTES 100000\n", b"x" * 100000 + b"\n")
        a.ask(b"SLEEP 20\n", b"+SLEPT 20\r\n")
        a.ask(b"8 1 x\n9 1 y\n", b"8 1 x\n9 1 y\n")
        assert (srv.live, srv.peak, srv.accepted, srv.pings) == (2, 2, 2, 1)
        assert srv.conns[1].owners == {"7", "8", "9"}
        a.s.sendall(b"QUIT\n")
        assert a.all() == (b"+BYE\r\n", "eof")
    srv.wait(lambda: srv.live == 0)
    assert srv.conns[1].ended == "fin" and srv.conns[2].ended == "eof"


def test_peak_does_not_count_a_closed_one_beside_its_successor(srv):
    for _ in range(200):
        with Client(srv.port) as c:
            c.ask(b"PING\n", b"+PONG\r\n")
    assert (srv.accepted, srv.peak) == (200, 1)


def test_logins(srv):
    srv.login(users={"u": "p"}, deny=1)
    with Client(srv.port) as c:
        c.ask(b"PING\r\n", b"-NOAUTH Authentication required.\r\n")
        c.ask(b"AUTH u p\r\n", b"-WRONGPASS invalid username-password pair\r\n")
        c.ask(b"AUTH u x\r\n", b"-WRONGPASS invalid username-password pair\r\n")
        c.ask(b"AUTH u p\r\n", b"+OK\r\n")
        c.ask(b"PING\r\n", b"+PONG\r\n")
    assert (srv.logins, srv.denied) == (3, 2) and srv.conns[1].user == "u"
    srv.login(mode="alternate")
    with Client(srv.port) as c:
        c.ask(b"AUTH a b\n", b"+OK\r\n")
        c.ask(b"AUTH a b\n", b"-WRONGPASS invalid username-password pair\r\n")
    srv.login(mode="deny")
    with Client(srv.port) as c:
        c.ask(b"AUTH a b\n", b"-WRONGPASS invalid username-password pair\r\n")


def test_greeting_unsolicited_and_split(srv):
    srv.set(greeting=b"220 hi\r\n", split=1, extra=b"!more\n")
    with Client(srv.port) as c:
        c.read(b"220 hi\r\n")
        c.ask(b"PING\n", b"+PONG\r\n!more\n")
        assert srv.say(b"late") == 1
        c.read(b"late")
    srv.set(greeting=b"", split=0, extra=b"", merge=2)
    with Client(srv.port) as c:
        c.s.sendall(b"1 1 a\n")
        assert c.silent()
        c.ask(b"1 2 b\n", b"1 1 a\n1 2 b\n")


@pytest.mark.parametrize("k", [0, 1, 3, 6])
@pytest.mark.parametrize("how,want", [("rst", "reset"), ("fin", "eof")])
def test_end_at_byte(srv, how, want, k):
    srv.next({how + "_after_out": k}, {how + "_after_in": k})
    def say(c, text):
        """What the end of the stream may look like after it: a reset that sending has met is not told again."""
        try:
            c.s.sendall(text)
        except ConnectionError:
            assert k == 0
            return ("reset", "eof")
        return ("reset", "eof") if k == 0 and how == "fin" else (want,)

    with Client(srv.port) as c:
        ends = say(c, b"abcdef\n")
        got, end = c.all()
        # A reset may overtake what was said before it.
        assert got == b"abcdef\n"[:k] if how == "fin" else len(got) <= k
        assert end in ends
    with Client(srv.port) as c:
        ends = say(c, b"abcdef\n"[:k])
        assert c.all()[1] in ends
    srv.wait(lambda: srv.live == 0)
    assert srv.conns[1].ended == how
    with Client(srv.port) as c:
        c.ask(b"PING\n", b"+PONG\r\n")


def test_half_reply_swallow_stall_and_silence(srv):
    srv.next(dict(half_reply=2), dict(swallow=1), dict(stall=True), dict(mode="silent"), dict(close_after=1))
    with Client(srv.port) as c:
        c.ask(b"PING\n", b"+PONG\r\n")
        c.ask(b"abcdef\n", b"abc")
        assert c.silent()
    with Client(srv.port) as c:
        c.s.sendall(b"a\n")
        assert c.silent()
        c.ask(b"b\n", b"b\n")
    for _ in range(2):
        with Client(srv.port) as c:
            c.s.sendall(b"PING\n")
            assert c.silent()
    with Client(srv.port) as c:
        c.s.sendall(b"a\n")
        assert c.all() == (b"a\n", "eof")
    srv.wait(lambda: srv.live == 0)


def test_half_close_is_seen_and_answered(srv):
    srv.set(on_eof="bye\n")
    with Client(srv.port) as c:
        c.s.sendall(b"SLEEP 30\n")
        c.s.shutdown(socket.SHUT_WR)
        assert c.all() == (b"bye\n+SLEPT 30\r\n", "eof")


def test_refuse_hang_listen(srv):
    srv.refuse()
    with pytest.raises(ConnectionRefusedError):
        Client(srv.port)
    srv.hang()
    with pytest.raises(TimeoutError):
        socket.create_connection(("127.0.0.1", srv.port), timeout=0.1)
    srv.listen()
    with Client(srv.port) as c:
        c.ask(b"PING\n", b"+PONG\r\n")
    srv.wait(lambda: srv.live == 0)
    # The connect that hung may have come through once the queue had room.
    assert srv.accepted <= 2


def test_slow_reader_stops_reading(srv):
    srv.set(read_stop=1000)
    with Client(srv.port) as c:
        c.s.setblocking(False)
        sent = 0
        with pytest.raises(BlockingIOError):
            while sent < 1 << 26:
                sent += c.s.send(b"z" * 65536)
        srv.wait(lambda: 1 in srv.conns and srv.conns[1].bytes_in == 1000)
        assert sent < 1 << 25
    # The end of stream is stuck behind what is not read.
    assert srv.live == 1
    srv.set_live(read_stop=-1)
    srv.wait(lambda: srv.live == 0)
    assert srv.conns[1].bytes_in == sent


def test_cut_ends_what_is_open(srv):
    with Client(srv.port) as a, Client(srv.port) as b:
        srv.wait(lambda: srv.live == 2)
        assert srv.cut("rst", conn=1) == 1
        assert a.all()[1] == "reset"
        assert srv.cut("fin") == 1
        assert b.all()[1] == "eof"


# --- relay

@pytest.fixture
def relay(srv):
    with Relay(srv.port) as r:
        yield r


def test_relay_passes_bytes_and_ends(srv, relay):
    with Client(relay.port) as c:
        c.ask(b"BYTES 3000000\n", b"x" * 3000000 + b"\n")
        c.s.sendall(b"1 1 a\n")
        c.s.shutdown(socket.SHUT_WR)
        assert c.all() == (b"1 1 a\n", "eof")
    relay.wait(lambda: relay.live == 0)
    assert relay.conns[1].bytes_down == 3000001 + 6


def test_relay_delay_slice_bandwidth(relay):
    with Client(relay.port) as c:
        c.ask(b"PING\n", b"+PONG\r\n")
        relay.down(delay=0.05, jitter=0.01)
        t = time.monotonic()
        c.ask(b"PING\n", b"+PONG\r\n")
        assert time.monotonic() - t >= 0.05
        relay.clear().up(slice=1)
        c.ask(b"3 4 sliced\n", b"3 4 sliced\n")
        relay.clear().down(bandwidth=100000)
        t = time.monotonic()
        c.ask(b"BYTES 20000\n", b"x" * 20000 + b"\n")
        assert time.monotonic() - t >= 0.15


def test_relay_stall_and_heal(relay):
    with Client(relay.port) as c:
        c.ask(b"PING\n", b"+PONG\r\n")
        relay.stall()
        c.s.sendall(b"PING\n")
        assert c.silent()
        relay.heal()
        c.read(b"+PONG\r\n")


@pytest.mark.parametrize("k", [0, 2, 7])
def test_relay_cuts_at_byte(relay, srv, k):
    relay.next(down=dict(rst_after=k))
    with Client(relay.port) as c:
        try:
            c.s.sendall(b"PING\n")
        except ConnectionError:
            assert k == 0
        got, end = c.all()
        assert end == "reset" and len(got) <= k
    relay.next(down=dict(fin_after=k))
    with Client(relay.port) as c:
        try:
            c.s.sendall(b"PING\n")
        except ConnectionError:
            assert k == 0
        got, end = c.all()
        assert got == b"+PONG\r\n"[:k] and (end == "eof" or k == 0)
    relay.wait(lambda: relay.live == 0)
    srv.wait(lambda: srv.live == 0)


def test_relay_corrupts_truncates_half_closes(relay):
    relay.next(down=dict(corrupt_at=1)).next(down=dict(truncate_after=3)).next(down=dict(half_close_after=3))
    with Client(relay.port) as c:
        c.ask(b"PING\n", b"+" + bytes([ord("P") ^ 0xff]) + b"ONG\r\n")
    with Client(relay.port) as c:
        c.ask(b"PING\n", b"+PO")
        assert c.silent()
    with Client(relay.port) as c:
        c.s.sendall(b"PING\n")
        assert c.all() == (b"+PO", "eof")
    relay.cut("rst")
    relay.wait(lambda: relay.live == 0)


def test_relay_refuses_and_passes_a_refusal_on(relay, srv):
    srv.refuse()
    with Client(relay.port) as c:
        assert c.all()[1] == "reset"
    relay.refuse()
    with pytest.raises(ConnectionRefusedError):
        Client(relay.port)
    relay.listen()
    srv.listen()
    with Client(relay.port) as c:
        c.ask(b"PING\n", b"+PONG\r\n")


# --- dns

def query(d, name, qtype=1, size=0):
    q = struct.pack("!HHHHHH", 77, 0x0100, 1, 0, 0, 1 if size else 0)
    q += b"".join(bytes([len(x)]) + x.encode() for x in name.split(".")) + b"\0" + struct.pack("!HH", qtype, 1)
    if size:
        q += b"\0" + struct.pack("!HHIH", 41, size, 0, 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(0.3)
        s.sendto(q, ("127.0.0.1", d.port))
        reply = s.recv(65535)
    ident, flags, _, n = struct.unpack("!HHHH", reply[:8])
    return ident, flags & 15, bool(flags & 0x200), n, reply


def test_dns():
    with DnsServer() as d:
        d.set("db.test", a=["127.0.0.1", "127.0.0.2"], aaaa=["::1"], ttl=0)
        ident, rcode, _, n, reply = query(d, "DB.test")
        assert (ident, rcode, n) == (77, 0, 2) and reply.endswith(socket.inet_aton("127.0.0.2"))
        assert query(d, "db.test", 28)[3] == 1
        assert query(d, "no.test")[1] == 3
        for mode, rcode in (("servfail", 2), ("refused", 5), ("empty", 0)):
            d.set("x.test", a=["127.0.0.1"], mode=mode)
            assert query(d, "x.test")[1:4] == (rcode, False, 0)
        d.set("x.test", a=["127.0.0.1"], mode="wrong_id")
        assert query(d, "x.test")[0] != 77
        d.set("x.test", mode="silent")
        with pytest.raises(TimeoutError):
            query(d, "x.test")
        d.set("many.test", a=d.many(1000))
        assert query(d, "many.test")[2:4] == (True, 30)
        assert query(d, "many.test", size=20000)[2:4] == (False, 1000)
        assert d.count("db.test") == 2 and d.count("db.test", "AAAA") == 1
