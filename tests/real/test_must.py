"""What must be shown on real servers: limits seen from outside, outages, exhausted descriptors, slow and silent clients."""
import asyncio
import os
import random
import select
import socket
import subprocess
import threading
import time

import pytest

from harness import *


async def memcached_client(port, n, out, start):
    """One client: its own keys only, each checked; appends what went wrong."""
    try:
        await start.wait()
        r, w = await asyncio.open_connection("127.0.0.1", port)
        for k in range(5):
            key, value = b"c%d.%d" % (n, k), b"%d:%d:" % (n, k) * random.randint(1, 200)
            w.write(b"set %s %d 0 %d\r\n%s\r\nget %s\r\n" % (key, n & 0xffff, len(value), value, key))
            want = b"STORED\r\nVALUE %s %d %d\r\n%s\r\nEND\r\n" % (key, n & 0xffff, len(value), value)
            got = await r.readexactly(len(want))
            if got != want:
                out.append((n, want, got))
        w.close()
        await w.wait_closed()
    except (OSError, EOFError) as e:
        out.append((n, repr(e)))


# Proves: C1 POOL-1 ISO-1 must-2000-clients
@pytest.mark.limit(60)
def test_2000_clients_over_10_memcached_connections(rig):
    srv = rig.memcached()
    d = rig.proxy(srv, top={"limits": {"max_clients": 2100}}, reuse="script", ready_check=MEMCACHED_READY,
                  lease_timeout="60s", max_size=10)
    wrong, most = [], 0

    async def run():
        start = asyncio.Event()
        tasks = [asyncio.ensure_future(memcached_client(d.port, n, wrong, start)) for n in range(2000)]
        await asyncio.sleep(0)
        start.set()
        await asyncio.gather(*tasks)
    with SocketWatch(d.pid, srv.port) as w:
        asyncio.run(run())
    assert not wrong, wrong[:3]
    assert w.peak <= 10 and w.samples > 200, (w.peak, w.samples)
    p = d.wait_pool(lambda p: p["stats"]["leases_returned"] == 2000)
    assert p["stats"]["leases"] == 2000 and not p["stats"]["lease_failures"]
    assert p["stats"]["leases_reused"] >= 1900 and 1 <= p["stats"]["dials"]["ok"] <= 100
    most = max(c["leases"] for c in d.pool(full=True)["connections"])
    assert most > 50


class Load:
    """n clients that each connect, ask, check and leave, again and again. Knows when each succeeded or failed."""

    def __init__(self, where, n, ask=b"PING\r\n", want=b"+PONG\r\n", timeout=15):
        self.where, self.ask, self.want, self.timeout = where, ask, want, timeout
        self.good, self.bad, self.took, self.asking, self.stop = [], [], [], [0] * n, False
        self.threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(n)]

    def _run(self, i):
        while not self.stop:
            t = time.monotonic()
            try:
                with Conn(self.where, timeout=self.timeout) as c:
                    c.send(self.ask)
                    self.asking[i] = 1
                    got = c.exactly(len(self.want))
                if got != self.want:
                    self.bad.append((time.monotonic(), got))
                else:
                    self.good.append(time.monotonic())
                    self.took.append(time.monotonic() - t)
            except (OSError, EOFError) as e:
                self.bad.append((time.monotonic(), repr(e)))
            self.asking[i] = 0

    def __enter__(self):
        [t.start() for t in self.threads]
        poll(lambda: len(self.good) >= 3 * len(self.threads), 10, "the load to run")
        return self

    def __exit__(self, *exc):
        self.stop = True
        [t.join() for t in self.threads]


# Proves: F:U6 LIVE-2 LIVE-3 E16 E26 must-kill-only-server
@pytest.mark.limit(40)
@pytest.mark.parametrize("reuse", ["never", "script"])
def test_only_server_killed_and_back(rig, reuse):
    srv = rig.redis()
    keys = dict(reuse="script", ready_check=REDIS_READY) if reuse == "script" else {}
    d = rig.proxy(srv, max_size=30, lease_timeout="10s", **keys)
    with Load(d.port, 20) as load:
        errors = len(load.bad)
        t0 = time.monotonic()
        srv.kill()
        cpu = d.cpu()
        time.sleep(2)               # the outage itself, while which CPU is measured
        cpu = d.cpu() - cpu
        srv.again()
        downtime = time.monotonic() - t0
        back = time.monotonic()
        poll(lambda: len([t for t in load.good if t > back]) > 100, 5, "the load to go on")
        end = time.monotonic()
    gap = gap_of(load.good, t0 - 0.2, end)
    assert gap <= downtime + 0.2 * SLOW, (gap, downtime)
    assert len(load.bad) - errors <= 20, load.bad[:30]
    if SLOW == 1:
        assert cpu < 0.1, "cpu used during an outage of 2 s: %.3f s" % cpu


# Proves: D7 D8 POOL-1 POOL-6 must-two-pools-fight
@pytest.mark.limit(40)
def test_two_pools_fight_over_descriptors(rig):
    a, b, pa, pb = rig.memcached(), rig.memcached(), free_port(), free_port()
    keys = dict(reuse="script", ready_check=MEMCACHED_READY, unbounded=True, lease_timeout="20s")
    d = rig.leased([pool("a", a, listen="127.0.0.1:%d" % pa, **keys), pool("b", b, listen="127.0.0.1:%d" % pb, **keys)],
                   limits={"max_clients": 180}, nofile=350, workers=2)
    budget = d.status()["limits"]["fd_budget"]
    assert budget == 100
    wrong = []

    async def phase(port, base, n):
        start = asyncio.Event()
        start.set()
        await asyncio.gather(*[memcached_client(port, base + i, wrong, start) for i in range(n)])

    async def run():
        for r in range(6):          # by turns, then both at once
            await phase(pa if r % 2 else pb, r * 100, 80)
        for r in range(6):
            await asyncio.gather(phase(pa, 1000 + r * 100, 42), phase(pb, 2000 + r * 100, 42))
    with SocketWatch(d.pid, a.port, b.port) as w:
        asyncio.run(run())
    assert not wrong, wrong[:3]
    assert w.peak <= budget, (w.peak, budget)
    assert fd_count(d.pid) <= 350
    s = d.wait(lambda s: all(sum(p["clients"].values()) == 0 for p in s["pools"]))
    assert sum(p["stats"]["leases"] for p in s["pools"]) == 6 * 80 + 6 * 84
    assert not any(p["stats"]["lease_failures"] for p in s["pools"])
    assert sum(p["stats"]["evictions"] for p in s["pools"]) > 0


def sessions(port, n):
    took = []
    for _ in range(n):
        t = time.monotonic()
        with Conn(port) as c:
            c.ping()
        took.append(time.monotonic() - t)
    return took


# Proves: E26 F:U2 must-black-hole
def test_black_hole_among_three_is_not_felt(rig):
    keys = dict(reuse="script", ready_check=[{"send": "PING\r\n", "expect": "+PONG"}], connect_timeout="1s", max_size=60)
    good = [rig.bad() for _ in range(3)]
    all_good = rig.proxy(good, **keys)
    two, hole = [rig.bad() for _ in range(2)], rig.bad()
    hole.hang()
    d = rig.proxy([two[0], hole, two[1]], **keys)
    sessions(d.port, 6)             # the living ones have a connection each
    took, base = [], []             # in turns, so that what else the machine does meets both
    t = time.monotonic()
    while time.monotonic() - t < 2.5 or len(took) < 400:        # over several back-offs of the dead one
        took += sessions(d.port, 20)
        base += sessions(all_good.port, 20)
    base.sort()
    p = d.pool()
    assert not p["stats"]["lease_failures"] and err_count(p, "dials", "connect_timeout") >= 1
    assert percentile(took, 0.5) < 1.5 * percentile(base, 0.5) + 0.0002, (percentile(took, .5), percentile(base, .5))
    assert percentile(took, 0.99) < 1.5 * percentile(base, 0.99) + 0.001, (percentile(took, .99), percentile(base, .99))
    slow = [x for x in took if x > base[-1] + 0.02]
    assert not slow, "leases delayed by the dead server: %s" % slow
    assert p["stats"]["lease_wait"]["p99_us"] < 1000 * SLOW


# Proves: E26 F:U2
def test_black_hole_delays_not_even_cold_clients_for_long(rig):
    srv, hole = rig.bad(), rig.bad()
    hole.hang()
    d = rig.proxy([hole, srv], connect_timeout="5s")
    for t in sessions(d.port, 12):
        assert t < 0.1 * SLOW, t


# Proves: F:R1 F:C12 D14 RES-4 must-descriptors
@pytest.mark.limit(40)
def test_limit_128_and_300_clients(rig):
    d = rig.proxy(rig.scripted(pong), own={"nofile": 128}, max_size=10, lease_on="first_byte")
    socks, lines = [], len(d.log_lines())
    for _ in range(300):
        socks.append(rig.client(d.port))
    p = d.wait_pool(lambda p: p["stats"]["clients"] + sum(p["stats"]["client_rejections"].values()) >= 300)
    assert fd_count(d.pid) <= 128
    n, t = len(d.log_lines()), time.monotonic()
    share = d.cpu_share(3)
    if SLOW == 1:
        assert share < 0.01, share
    assert len(d.log_lines()) - n <= 3 + 1 and n - lines < 300
    accepted = sum(p["clients"].values())
    assert 10 <= accepted < 128
    for s in socks:                 # all leave: it accepts again within 100 ms
        s.close()
    t = time.monotonic()
    while True:
        try:
            with Conn(d.port, timeout=1) as c:
                c.ping()
            break
        except (OSError, EOFError):
            assert time.monotonic() - t < 0.1 * SLOW
    assert time.monotonic() - t < 0.1 * SLOW


# Proves: F:R1 F:R2 RES-4 LIVE-3 must-descriptors
@pytest.mark.limit(40)
def test_descriptors_really_run_out(rig):
    """The limit is lowered under what is in use, so that accept itself fails: neither spin nor flood, and back at once."""
    d = rig.proxy(rig.scripted(pong), top={"limits": {"max_clients": 500}}, own={"nofile": (2000, 2000)},
                  lease_on="first_byte", max_size=5)
    held = [rig.client(d.port).ping() for _ in range(5)]
    idle = [rig.client(d.port) for _ in range(60)]
    d.wait_pool(lambda p: p["clients"]["idle"] == 60)
    set_nofile(d.pid, d.fds(), 2000)
    outside = []
    for _ in range(300):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex(("127.0.0.1", d.port))
        outside.append(s)
    lines = len(d.log_lines())
    share = d.cpu_share(3)
    if SLOW == 1:
        assert share <= 0.01, share
    assert len(d.log_lines()) - lines <= 4, d.log_lines()[lines:]
    for c in held:
        c.ping()                    # those that are in are served all the time
    for s in outside:
        s.close()
    for c in idle[:40]:
        c.close()
    d.wait_pool(lambda p: p["clients"]["idle"] <= 25)   # descriptors are back
    t = time.monotonic()
    c = rig.client(d.port, timeout=5)
    c.send(b"PING\r\n")
    d.wait_pool(lambda p: p["clients"]["waiting"] + p["clients"]["active"] > 5)
    assert time.monotonic() - t < 0.1 * SLOW, time.monotonic() - t
    set_nofile(d.pid, 2000, 2000)
    held.pop().close()              # a server connection for it
    assert c.line() == b"+PONG\r\n"


# Proves: F:R2
@pytest.mark.limit(30)
def test_lowered_limit_is_noticed_and_idle_connections_make_room(rig):
    srv = rig.bad()
    d = rig.proxy(srv, top={"limits": {"max_clients": 60}}, own={"nofile": (1000, 1000)}, unbounded=True, reuse="script",
                  ready_check=[{"send": "PING\r\n", "expect": "+PONG"}])
    assert d.status()["limits"]["fd_budget"] >= 800
    held = [rig.client(d.port).ping() for _ in range(55)]
    [c.close() for c in held[5:]]
    d.wait_pool(lambda p: states(p)["idle"] == 50)
    set_nofile(d.pid, d.fds() + 2, 1000)
    more = []
    for _ in range(20):             # each needs a descriptor or two that only an idle connection can give
        c = rig.client(d.port)
        c.ping()
        more.append(c)
    for c in held[:5] + more:
        c.ping()
    d.wait(lambda s: s["limits"]["nofile"] < 1000, 10)
    l = d.status()["limits"]
    assert l["fd_in_use"] <= max(l["fd_budget"], 25)


# Proves: F:C6 RES-1 must-slow-readers
@pytest.mark.measure
@pytest.mark.limit(40)
def test_five_clients_that_do_not_read(rig):
    srv = rig.nginx()
    with open(os.path.join(srv.root, "big"), "wb") as f:
        f.truncate(100 << 20)
    d = rig.proxy(srv, max_size=20)
    for _ in range(6):              # everything that is allocated once is allocated
        assert rig.client(d.port).send(b"GET / HTTP/1.0\r\n\r\n").rest()
    with Conn(d.port) as c:
        assert len(c.send(b"GET /big HTTP/1.0\r\n\r\n").rest()) > 100 << 20
    d.wait_pool(lambda p: connections(p) == 0)
    before = d.rss()
    slow = [rig.client(d.port).send(b"GET /big HTTP/1.0\r\n\r\n") for _ in range(5)]
    last = [-1]

    def still():
        now = d.pool()["stats"]["bytes_to_clients"]
        last.append(now)
        return len(last) > 60 and len(set(last[-50:])) == 1
    poll(still, 10, "the streams to come to a stand")
    grown = d.rss() - before
    assert grown <= 5 * 65536, "%d KiB each" % (grown / 5 / 1024)
    assert d.cpu_share(1) < 0.01
    assert sessions_http(d.port)    # and others are served
    for c in slow:
        c.close()


def sessions_http(port):
    with Conn(port) as c:
        return b"hello" in c.send(b"GET / HTTP/1.0\r\n\r\n").rest()


# Proves: F:U26 RES-1
@pytest.mark.measure
def test_servers_that_do_not_read(rig):
    srv = rig.bad(read_stop=0)
    d = rig.proxy(srv, max_size=20, top={"tcp": {"user_timeout": "2s"}})
    c = rig.client(d.port)
    c.s.setblocking(False)
    push(c.s)
    c.reset()                       # in the worst case it is user_timeout that gives the server's slot back
    d.wait_pool(lambda p: sum(p["clients"].values()) == 0 and connections(p) == 0)
    before = d.rss()
    slow = [rig.client(d.port) for _ in range(5)]
    for c in slow:
        c.s.setblocking(False)
        push(c.s, pause=0.1)
    grown = d.rss() - before
    assert grown <= 5 * 65536, "%d KiB each" % (grown / 5 / 1024)


def push(s, limit=100 << 20, pause=0.3):
    """Sends until the other side takes no more for a moment; how much that was."""
    sent, stuck = 0, time.monotonic()
    while sent < limit and time.monotonic() - stuck < pause:
        try:
            sent += s.send(b"z" * 65536)
            stuck = time.monotonic()
        except BlockingIOError:
            select.select([], [s], [], 0.05)
    return sent


def bench(port, clients, requests):
    """redis-benchmark's own p99, in milliseconds."""
    r = subprocess.run(["redis-benchmark", "-p", str(port), "-c", str(clients), "-n", str(requests), "-t", "get", "--csv"],
                       capture_output=True, text=True, timeout=60)
    row = [l for l in r.stdout.splitlines() if l.startswith('"GET"')][0]
    return float(row.replace('"', "").split(",")[6])


# Proves: F:C1 must-silent-clients
@pytest.mark.long
@pytest.mark.measure
@pytest.mark.limit(120)
def test_5000_silent_clients_beside_200(rig):
    srv = rig.redis()
    d = rig.proxy(srv, top={"limits": {"max_clients": 6000}}, max_size=210, lease_on="first_byte")
    alone = [bench(d.port, 200, 60000) for _ in range(3)]
    quiet = []
    for _ in range(5000):
        s = socket.socket()
        s.connect(("127.0.0.1", d.port))
        rig.closers.append(s.close)
        quiet.append(s)
    d.wait_pool(lambda p: p["clients"]["idle"] == 5000, timeout=20)
    rss = d.rss()
    beside = [bench(d.port, 200, 60000) for _ in range(3)]
    assert min(beside) <= 1.2 * min(alone) + 0.05, (alone, beside)
    assert rss < 64 << 20 and d.cpu_share(2) < 0.01
    assert d.pool()["clients"]["idle"] == 5000


# Proves: F:C1 LIVE-3
@pytest.mark.measure
@pytest.mark.limit(40)
def test_silent_clients_cost_nothing(rig):
    srv = rig.scripted(pong)
    d = rig.proxy(srv, top={"limits": {"max_clients": 2000}}, lease_on="first_byte")
    sessions(d.port, 50)
    base = d.rss()
    quiet = [rig.client(d.port) for _ in range(1500)]
    d.wait_pool(lambda p: p["clients"]["idle"] == 1500)
    assert d.cpu_share(1) < 0.01
    assert (d.rss() - base) / 1500 <= 2048, (d.rss() - base) / 1500
    for c in quiet[:200]:           # one byte each, then silence: they hold a lease or wait for one, nobody is lost
        c.send(b"P")
    d.wait_pool(lambda p: p["clients"]["idle"] == 1300 and p["waiters"] == 190)
    for c in quiet[:200]:
        c.close()
    d.wait_pool(lambda p: p["waiters"] == 0 and connections(p) == 0)
    sessions(d.port, 20)
