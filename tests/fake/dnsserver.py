"""DnsServer: a name server on UDP loopback whose answers a test changes while it runs.

    d = DnsServer()                         # 127.0.0.1:d.port
    d.set("db.test", a=["127.0.0.1", "127.0.0.2"], aaaa=["::1"], ttl=0)
    d.set("db.test", mode="nxdomain")       # nxdomain | servfail | refused | silent | garbage | wrong_id | wrong_name |
                                            # truncated | empty (answers, but with no address)
    d.set("many.test", a=d.many(1000))      # 1,000 addresses: as many as the asker's size takes, marked as truncated
    d.ignore_size = True                    # all of them in one packet, whatever the asker can take
    d.delay = 0.2                           # before every answer
    d.default = "nxdomain"                  # names that are not set
    d.queries -> [(time, name, "A"), ...];  d.count("db.test") -> how many
    d.wait(lambda: d.count("db.test") >= 2) # by event
    d.close()                               # also a context manager
"""
import ipaddress
import os
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from reactor import IN, Reactor, listening  # noqa: E402

TYPES = {1: "A", 28: "AAAA"}
RCODES = {"servfail": 2, "nxdomain": 3, "refused": 5}


class Answer:
    def __init__(self, a, aaaa, ttl, mode):
        self.a, self.aaaa, self.ttl, self.mode = list(a), list(aaaa), ttl, mode


class DnsServer:
    def __init__(self, port=0, host="127.0.0.1"):
        self.reactor = Reactor()
        self.lock, self.wait = self.reactor.lock, self.reactor.wait
        self.names, self.queries = {}, []
        self.delay, self.default, self.ignore_size = 0.0, "nxdomain", False
        self.sock = listening(port, host, kind=socket.SOCK_DGRAM)
        self.port = self.sock.getsockname()[1]
        self.address = "%s:%d" % (host, self.port)
        with self.lock:
            self.reactor.watch(self.sock, IN, self._readable)

    def set(self, name, a=(), aaaa=(), ttl=60, mode="answer"):
        with self.lock:
            self.names[name.lower()] = Answer(a, aaaa, ttl, mode)
        return self

    def count(self, name, kind=None):
        with self.lock:
            return sum(1 for _, n, k in self.queries if n == name.lower() and kind in (None, k))

    @staticmethod
    def many(n):
        """n different addresses of the loopback network."""
        return [str(ipaddress.IPv4Address(0x7f010000 + i)) for i in range(1, n + 1)]

    def close(self):
        with self.lock:
            self.reactor.unwatch(self.sock)
            self.sock.close()
        self.reactor.stop()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def _readable(self, _events):
        try:
            packet, peer = self.sock.recvfrom(65535)
        except OSError:
            return
        question = parse_question(packet)
        if not question:
            return
        ident, name, qtype, end = question
        self.queries.append((time.monotonic(), name, TYPES.get(qtype, str(qtype))))
        ans = self.names.get(name) or Answer((), (), 0, self.default)
        reply = build_reply(ident, packet[12:end], qtype, ans,
                            65000 if self.ignore_size else udp_size(packet, end))
        if reply is None:
            return
        if self.delay:
            self.reactor.later(self.delay, lambda: self._send(reply, peer))
        else:
            self._send(reply, peer)

    def _send(self, reply, peer):
        try:
            self.sock.sendto(reply, peer)
        except OSError:
            pass        # closed meanwhile, or the asker has gone


def parse_question(packet):
    """(id, name, type, offset behind the question) of a query with one question; None if it is not one."""
    if len(packet) < 17 or packet[2] & 0x80 or packet[4:6] != b"\0\1":
        return None
    labels, off = [], 12
    while off < len(packet) and packet[off]:
        n = packet[off]
        if n > 63:
            return None
        labels.append(packet[off + 1:off + 1 + n].decode("latin-1"))
        off += 1 + n
    off += 1
    if off + 4 > len(packet):
        return None
    ident, qtype = struct.unpack("!H", packet[:2])[0], struct.unpack("!H", packet[off:off + 2])[0]
    return ident, ".".join(labels).lower(), qtype, off + 4


def udp_size(packet, end):
    """What the asker takes: its EDNS size (RFC 6891), else 512 (RFC 1035)."""
    if packet[10:12] != b"\0\0" and packet[end:end + 3] == b"\0\0\x29" and len(packet) >= end + 5:
        return max(512, struct.unpack("!H", packet[end + 3:end + 5])[0])
    return 512


def build_reply(ident, question, qtype, ans, size):
    mode = ans.mode
    if mode == "silent":
        return None
    if mode == "garbage":
        return struct.pack("!H", ident) + bytes((i * 37 + 11) & 0xff for i in range(90))
    if mode == "wrong_id":
        ident ^= 0x5555
    if mode == "wrong_name":
        question = b"\x05wrong" + question[question.index(b"\0"):]
    rrs = []
    if mode in ("answer", "wrong_id", "wrong_name", "truncated"):
        family = {1: (socket.AF_INET, ans.a), 28: (socket.AF_INET6, ans.aaaa)}.get(qtype)
        for text in family[1] if family else ():
            data = socket.inet_pton(family[0], text)
            rrs.append(b"\xc0\x0c" + struct.pack("!HHIH", qtype, 1, ans.ttl, len(data)) + data)
    flags = 0x8180 | RCODES.get(mode, 0)
    fits = (size - 12 - len(question)) // (len(rrs[0]) if rrs else 1)
    if mode == "truncated":
        flags, rrs = flags | 0x0200, []
    elif len(rrs) > fits:
        flags, rrs = flags | 0x0200, rrs[:fits]
    return struct.pack("!HHHHHH", ident, flags, 1, len(rrs), 0, 0) + question + b"".join(rrs)
