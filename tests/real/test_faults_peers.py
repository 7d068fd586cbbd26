"""Faults of servers (U) and clients (C), injected by the bad server, the relay, signals and raw sockets."""
import contextlib
import random
import signal
import threading
import time

import pytest

from harness import *

READY = [{"send": "PING\r\n", "expect": "+PONG"}]
LOGIN = [{"send": "AUTH u p\r\n", "expect": "+OK", "expect_denied": "-WRONGPASS*"}]
QUICK = {"backoff_initial": "1ms", "backoff_max": "5ms"}


def who(c):
    return int(c.ask(b"WHO\r\n").split()[1])


def echo_once(where, text=b"c1 1 hello\r\n"):
    with Conn(where) as c:
        assert c.ask(text) == text


# Proves: F:U1 E13
def test_U1_refused(rig):
    a, b = rig.bad(), rig.bad()
    a.refuse()
    d = rig.proxy([a, b])
    for _ in range(10):
        t = time.monotonic()
        echo_once(d.port)
        assert time.monotonic() - t < 0.1 * SLOW
    p = d.pool()
    assert not p["stats"]["lease_failures"] and b.accepted == 10
    assert p["servers"][0]["last_error"] == "connect_refused" and not p["servers"][0]["up"]
    b.refuse()                      # now nobody is there: clients wait, and are served when one is back
    c = rig.client(d.port).send(b"c2 1 x\r\n")
    d.wait_pool(lambda p: p["waiters"] == 1 and not p["servers"][1]["up"])
    a.listen()
    t = time.monotonic()
    assert c.line() == b"c2 1 x\r\n" and time.monotonic() - t < 0.2 * SLOW
    downs, ups = d.log_lines(" server.down "), d.log_lines(" server.up ")   # told once each, not at every attempt
    assert len(downs) == 2 and "warning" in downs[0] and "reason=connect_refused" in downs[0], downs
    assert len(ups) == 1 and "notice" in ups[0] and p["servers"][0]["name"] in ups[0], ups
    assert " peer=127.0.0.1:" in d.log_lines(" client.closed ")[0]


# Proves: F:U2 E6 E26
def test_U2_connect_hangs(rig):
    hole, b = rig.bad(), rig.bad()
    hole.hang()
    d = rig.proxy([hole, b], connect_timeout="200ms", max_size=2)
    for _ in range(4):
        t = time.monotonic()
        echo_once(d.port)
        assert time.monotonic() - t < 0.15 * SLOW
    p = d.wait_pool(lambda p: err_count(p, "dials", "connect_timeout") >= 1)
    assert p["servers"][0]["last_error"] == "connect_timeout"
    # the slot of a dial that hung is free again, and the socket closed
    d.wait_pool(lambda p: p["servers"][0]["states"]["dialing"] <= 1 and states(p)["closing"] == 0)
    only = rig.bad()
    only.hang()
    e = rig.proxy(only, connect_timeout="100ms", max_size=1, lease_timeout="5s", **QUICK)
    c = rig.client(e.port).send(b"c1 1 x\r\n")
    with SocketWatch(e.pid, only.port) as w:
        e.wait_pool(lambda p: err_count(p, "dials", "connect_timeout") >= 3)
    assert w.peak <= 1 + 2, "one of ours beside the two that fill the queue"
    only.listen()
    assert c.line() == b"c1 1 x\r\n"
    e.wait_pool(lambda p: states(p)["leased"] == 1 and connections(p) == 1)


# Proves: F:U3 LIVE-4
def test_U3_accepts_and_never_speaks(rig):
    mute, ok = rig.bad(mode="silent"), rig.bad()
    d = rig.proxy([mute, ok], login=LOGIN, login_timeout="200ms", max_concurrent_dials=2)
    for s in (mute, ok):
        s.login(need=True)
    for _ in range(6):
        echo_once(d.port)
    p = d.wait_pool(lambda p: err_count(p, "logins", "login_timeout") >= 1)
    assert not p["servers"][0]["up"] and p["servers"][0]["last_error"] == "login_timeout" and p["servers"][1]["up"]
    assert not p["stats"]["lease_failures"]


def word(w):
    return w.decode() if isinstance(w, bytes) else str(w)


def sweep(rig, how):
    """The server side ends the connection after its k-th byte, for every k of a session with a login and two replies."""
    srv = rig.bad()
    srv.login(need=True)
    relay = rig.relay(srv)
    d = rig.proxy(relay, login=LOGIN, reuse="script", ready_check=READY, max_size=2, **QUICK)
    login, replies = len(b"+OK\r\n"), b"c1 1 hello\r\nc1 2 world\r\n"
    for k in range(login + len(replies) + 1):
        relay.cut("rst")
        relay.wait(lambda: relay.live == 0)
        d.wait_pool(lambda p: connections(p) == 0)
        relay.next(down={how: k})
        with Conn(d.port) as c:
            got = b""
            try:
                c.send(b"c1 1 hello\r\n")
                while len(got) < 12:
                    got += c.exactly(1)
                c.send(b"c1 2 world\r\n")
                while len(got) < len(replies):
                    got += c.exactly(1)
                whole = True
            except (OSError, EOFError):
                whole = False
        assert replies.startswith(got), (k, got)
        if k < login:
            assert whole, "a login cut after %d bytes is not the client's concern" % k
        elif k == login:            # cut right behind the login: before the lease, or within it
            assert whole or not got
        elif k - login < len(replies):
            assert not whole and (how == "rst_after" or len(got) == k - login), (k, got)
        else:
            assert whole
        echo_once(d.port, b"next %d x\r\n" % k)         # whoever comes next is served, by another connection
        if not whole:
            last = max(n for n, x in srv.conns.items() if "c1" in map(word, x.owners))
            assert "next" not in map(word, srv.conns[last].owners), "a cut connection was lent again"
    assert not d.pool()["stats"]["lease_failures"]


# Proves: F:U4 ISO-9
@pytest.mark.limit(60)
def test_U4_reset_at_each_byte(rig):
    sweep(rig, "rst_after")


# Proves: F:U5 ISO-2
@pytest.mark.limit(60)
def test_U5_end_at_each_byte(rig):
    sweep(rig, "fin_after")


# Proves: F:U4 F:U22 ISO-9
@pytest.mark.parametrize("how", ["rst", "fin"])
def test_U4_idle_loss_is_silent(rig, how):
    srv = rig.bad()
    d = rig.proxy(srv, reuse="script", ready_check=READY, min_idle=3)
    other = rig.client(d.port)
    other.ask(b"c0 1 x\r\n")
    for _ in range(10):
        d.wait_pool(lambda p: states(p)["idle"] >= 3 and p["clients"]["active"] == 1 and p["clients"]["closing"] == 0)
        mine = who(other)
        for c in srv.open_conns():
            if c.id != mine:
                srv.cut(how, conn=c.id)
        echo_once(d.port)
        assert other.ask(b"c0 2 y\r\n") == b"c0 2 y\r\n"
    p = d.pool()
    assert not p["stats"]["lease_failures"] and not p["stats"]["client_closed"].get("upstream_gone")


# Proves: F:U7 ISO-3
@pytest.mark.limit(40)
def test_U7_stopped_server_and_late_reply(rig):
    srv = rig.redis()
    d = rig.proxy(srv, reuse="script", ready_check=READY, ready_check_timeout="200ms", max_size=2, lease_timeout="10s",
                  connect_timeout="5s", half_close_timeout="300ms")
    with Conn(srv.port) as c:
        c.ask(resp("SET", "a", "secret-of-a")), c.ask(resp("SET", "b", "bbb"))
    hurried = [rig.client(d.port).ping() for _ in range(2)]
    srv.signal(signal.SIGSTOP)
    for c in hurried:
        c.send(resp("GET", "a"))
        assert c.silent(0.1)
        c.close()                   # gave up: the answer is still to come
    d.wait_pool(lambda p: sum(p["stats"]["resets"].values()) >= 2)
    late = rig.client(d.port).send(resp("GET", "b"))
    assert late.silent(1.0)
    srv.signal(signal.SIGCONT)
    assert late.line() == b"$3\r\n" and late.line() == b"bbb\r\n"
    for _ in range(10):
        with Conn(d.port) as c:
            assert c.ask(resp("GET", "b")) + c.line() == b"$3\r\nbbb\r\n"


# Proves: F:U9 ISO-3
def test_U9_unsolicited_while_idle(rig):
    srv = rig.bad()
    d = rig.proxy(srv, reuse="script", ready_check=READY, max_size=1)
    echo_once(d.port)
    for i in range(10):
        d.wait_pool(lambda p: states(p)["idle"] == 1)
        n = srv.accepted
        assert srv.say(b"+UNASKED\r\n") == 1
        if i % 2:
            d.wait_pool(lambda p: sum(p["stats"]["upstream_closed"].values()) == i + 1)
        with Conn(d.port) as c:     # every other time at once: before anybody could have looked
            assert c.ask(b"c1 1 z\r\n") == b"c1 1 z\r\n"
        assert srv.accepted == n + 1
    d.wait_pool(lambda p: err_count(p, "upstream_closed", "dirty") == 10)


# Proves: F:U9 ISO-1 ISO-3
@pytest.mark.parametrize("first", ["server", "client"])
def test_U9_unsolicited_in_the_same_turn(rig, first):
    """The bytes and the next client are there when the loop looks again, in either order: the client never reads them."""
    srv = rig.bad()
    d = rig.proxy(srv, reuse="script", ready_check=READY, max_size=1)
    echo_once(d.port)
    for i in range(25):
        d.wait_pool(lambda p: states(p)["idle"] == 1 and sum(p["clients"].values()) == 0)
        n = srv.accepted
        d.signal(signal.SIGSTOP)
        poll(lambda: stopped(d.pid), 5, "the stop")
        if first == "server":
            srv.say(b"+UNASKED\r\n")
        c = rig.client(d.port).send(b"c%d 1 q\r\n" % i)
        if first == "client":
            srv.say(b"+UNASKED\r\n")
        d.signal(signal.SIGCONT)
        assert c.line() == b"c%d 1 q\r\n" % i
        c.close()
        assert srv.accepted == n + 1


# Proves: F:U9 ISO-1 ISO-3
def test_U9_unsolicited_around_the_return(rig):
    """Something extra comes at any time after a client has left: nobody who comes later reads it."""
    srv = rig.bad()
    d = rig.proxy(srv, reuse="script", ready_check=READY, max_size=1)
    rng = random.Random(7)
    for i in range(150):
        text = b"c%d 1 q\r\n" % i
        with Conn(d.port) as c:
            assert c.ask(text) == text, "bytes that were said before this lease"
        end = time.monotonic() + rng.random() * 0.009
        while time.monotonic() < end:
            pass
        srv.say(b"+UNASKED\r\n")
    p = d.pool()
    assert sum(v for k, v in p["stats"]["upstream_closed"].items() if k in ("dirty", "not_ready", "protocol_error")) > 10, p["stats"]


# Proves: F:U10
@pytest.mark.parametrize("how", [{"split": 1}, {"split": 3, "split_gap": 0.001}, {"merge": 3}])
def test_U10_split_and_merged_replies(rig, how):
    srv = rig.bad(**how)
    if "merge" not in how:
        srv.login(need=True)
    d = rig.proxy(srv, reuse="script" if "merge" not in how else "never", ready_check=READY, max_size=1,
                  **({"login": LOGIN} if "merge" not in how else {}))
    for i in range(5):
        with Conn(d.port) as c:
            lines = [b"c%d %d payload-%d\r\n" % (i, k, k * k) for k in range(9)]
            assert c.send(b"".join(lines)).exactly(sum(map(len, lines))) == b"".join(lines)
    p = d.pool()
    assert p["stats"]["leases"] == 5 and not p["stats"]["client_closed"].get("upstream_gone")
    if "merge" not in how:
        assert srv.accepted == 1


# Proves: F:C1
def test_C1_one_byte_now_and_then(rig):
    srv = rig.bad()
    d = rig.proxy(srv, reuse="script", ready_check=READY, max_size=20)
    slow = [rig.client(d.port) for _ in range(10)]
    text = b"c1 1 slow\r\n"
    for i in range(len(text)):
        for c in slow:
            c.send(text[i:i + 1])
        t = time.monotonic()
        echo_once(d.port)
        assert time.monotonic() - t < 0.05 * SLOW
    for c in slow:
        assert c.line() == text


# Proves: F:C2 RES-1 RES-2
@pytest.mark.measure
def test_C2_huge_lengths_and_nonsense(rig):
    srv = rig.redis()
    d = rig.proxy(srv, reuse="script", ready_check=READY, ready_check_timeout="300ms", max_size=5, half_close_timeout="200ms")
    for _ in range(20):
        with Conn(d.port) as c:
            c.ping()
    texts = [b"*1000000000\r\n", b"$2147483648\r\n", b"*1\r\n$536870912\r\n" + b"x" * 200000, b"\0" * 300000,
             b"a" * 500000, b"*-2147483649\r\n", random.Random(1).randbytes(400000)]
    sizes = [d.rss()]
    for _ in range(4):
        for text in texts:
            with Conn(d.port) as c:
                with contextlib.suppress(OSError):
                    c.send(text)
                    c.silent(0.02)
        d.wait_pool(lambda p: states(p)["leased"] == 0 and states(p)["cleaning"] == 0)
        sizes.append(d.rss())
    for _ in range(10):
        with Conn(d.port) as c:
            c.ping()
    assert sizes[1] - sizes[0] <= 256 << 10 and sizes[4] - sizes[2] <= 16 << 10, sizes      # buffers, once


# Proves: F:C3 M19 POOL-12
@pytest.mark.limit(60)
def test_C3_disconnect_at_each_byte(rig):
    srv = rig.bad()
    d = rig.proxy(srv, reuse="script", ready_check=READY, ready_check_timeout="100ms", max_size=2, half_close_timeout="100ms")
    text = b"c1 1 hello\r\n"
    for k in range(len(text) + 1):
        for leave in ("close", "reset", "half"):
            with Conn(d.port) as c:
                if k:
                    c.send(text[:k])
                if k == len(text):
                    c.exactly(len(text) // 2)
                if leave == "half":
                    c.half_close()
                elif leave == "reset":
                    c.reset()
    p = d.wait_pool(lambda p: sum(p["clients"].values()) == 0 and states(p)["leased"] + states(p)["cleaning"] == 0)
    assert p["stats"]["leases"] == p["stats"]["leases_returned"]
    for i in range(6):
        echo_once(d.port, b"after %d x\r\n" % i)


# Proves: F:C3 C16 D9
@pytest.mark.parametrize("state", ["waiting", "dialing", "login", "probing", "leased", "cleaning"])
@pytest.mark.parametrize("leave", ["close", "reset"])
def test_C3_disconnect_in_each_state(rig, state, leave):
    srv = rig.bad()
    keys = dict(reuse="script", ready_check=READY, max_size=1)
    if state == "login":
        srv.login(need=True, mode="silent")
        keys.update(login=LOGIN, login_timeout="500ms")
    if state == "probing":
        keys.update(health_check=READY, health_check_after="0")
    if state == "dialing":
        srv.hang()
        keys["connect_timeout"] = "700ms"
    d = rig.proxy(srv, **keys)
    c = holder = None
    if state == "waiting":
        holder = rig.client(d.port)
        holder.ask(b"c0 0 x\r\n")
        c = rig.client(d.port)
        d.wait_pool(lambda p: p["waiters"] == 1)
    elif state in ("dialing", "login"):
        c = rig.client(d.port)
        d.wait_pool(lambda p: states(p)[state] == 1)
    elif state == "probing":
        echo_once(d.port)
        d.wait_pool(lambda p: states(p)["idle"] == 1)
        srv.set_live(reply_delay=0.3)
        c = rig.client(d.port)
        d.wait_pool(lambda p: states(p)["probing"] == 1)
    elif state == "leased":
        c = rig.client(d.port)
        c.ask(b"c1 1 x\r\n")
    else:                           # another one waits for what is being cleaned, and leaves
        first = rig.client(d.port)
        first.ask(b"c1 1 x\r\n")
        srv.set_live(reply_delay=0.3)
        first.close()
        d.wait_pool(lambda p: states(p)["cleaning"] == 1)
        c = rig.client(d.port)
        d.wait_pool(lambda p: p["waiters"] == 1)
    getattr(c, leave)()
    d.wait_pool(lambda p: p["waiters"] == 0 and sum(p["clients"].values()) == (1 if holder else 0))
    if holder:
        holder.close()
    if state == "dialing":
        srv.listen()
    srv.set_live(reply_delay=0.0)
    srv.login(need=False)
    for i in range(3):
        echo_once(d.port, b"next %d x\r\n" % i)
    p = d.wait_pool(lambda p: states(p)["leased"] + states(p)["cleaning"] == 0)
    assert p["stats"]["leases"] == p["stats"]["leases_returned"] and connections(p) <= 1
    assert d.status()["limits"]["fd_in_use"] == connections(d.pool())


# Proves: F:C4
def test_C4_half_close_after_request(rig):
    srv = rig.bad(on_eof="hold", reply_delay=0.1)
    d = rig.proxy(srv)
    with Conn(d.port) as c:
        c.send(b"BYTES 100000\r\n").half_close()
        n = 0
        while n < 100001:
            n += len(c.exactly(1)) + len(c.buf)
            c.buf = b""
        assert n == 100001
        srv.cut("fin")
        assert c.rest() == b""
    d.wait_pool(lambda p: connections(p) == 0 and sum(p["clients"].values()) == 0)


# Proves: F:C5
def test_C5_reset_while_a_reply_is_written(rig):
    srv = rig.bad()
    d = rig.proxy(srv, reuse="script", ready_check=READY, ready_check_timeout="200ms", max_size=3)
    for i in range(30):
        c = rig.client(d.port, rcvbuf=8192)
        c.send(b"BYTES 20000000\r\n")
        c.exactly(1000 * i + 1)
        c.reset()
    d.wait_pool(lambda p: sum(p["clients"].values()) == 0 and states(p)["leased"] + states(p)["cleaning"] == 0)
    assert d.running
    for i in range(5):
        echo_once(d.port, b"next %d x\r\n" % i)


# Proves: F:C6 LIVE-4
def test_C6_never_reads(rig):
    srv = rig.bad()
    d = rig.proxy(srv, client_write_timeout="500ms", max_size=3)
    c = rig.client(d.port, rcvbuf=8192)
    t = time.monotonic()
    c.send(b"BYTES 50000000\r\n")
    d.wait_pool(lambda p: p["stats"]["client_closed"].get("client_slow"))
    assert 0.45 < time.monotonic() - t < 0.5 + 1.5 * SLOW
    d.wait_pool(lambda p: connections(p) == 0 and sum(p["clients"].values()) == 0)
    # one who reads slowly, but reads, is kept
    slow = rig.client(d.port, rcvbuf=8192)
    slow.send(b"BYTES 3000000\r\n")
    n, t = 0, time.monotonic()
    while n < 3000001:
        n += len(slow.s.recv(65536))
        if time.monotonic() - t < 1.2:
            slow.s.settimeout(5)
            time.sleep(0.01)        # this is the slowness
    assert n == 3000001 and err_count(d.pool(), "client_closed", "client_slow") == 1


# Proves: F:C12
@pytest.mark.limit(60)
def test_C12_storm_of_short_connections(rig):
    srv = rig.bad()
    d = rig.proxy(srv, reuse="script", ready_check=READY, top={"limits": {"max_clients": 2000}})
    fds = d.fds()
    stop, errors = time.monotonic() + 3, []

    def storm(k):
        i = 0
        while time.monotonic() < stop:
            i += 1
            try:
                c = Conn(d.port)
                if i % 4 == 0:
                    c.send(b"c%d %d x\r\n" % (k, i))
                if i % 3 == 0:
                    c.reset()
                c.close()
            except OSError as e:
                errors.append(e)
    threads = [threading.Thread(target=storm, args=(k,)) for k in range(6)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not errors
    p = d.wait_pool(lambda p: sum(p["clients"].values()) == 0)
    assert p["stats"]["leases"] == d.wait_pool(lambda p: states(p)["leased"] == 0)["stats"]["leases_returned"]
    echo_once(d.port)
    poll(lambda: d.fds() <= fds + 10 + 1, 5, "descriptors to be given back")
