"""The pool's promises as a client, the server and the kernel see them: limits, waiting, order, age, back-off, drain."""
import re
import signal
import subprocess
import threading
import time

import pytest

from harness import *

HOLD = b"PING\r\n"


def hold(d, n, where=None):
    """n clients, each proved to hold a lease."""
    return [d.rig.client(where or d.port).ping() for _ in range(n)]


def waiting(d, n):
    return d.wait_pool(lambda p: p["waiters"] == n)


# Proves: C1 E2 POOL-1
def test_max_size_is_ten_by_default_and_zero_means_ten(rig):
    for keys in ({}, {"max_size": 0}):
        srv = rig.scripted(pong)
        d = rig.proxy(srv, **keys)
        hold(d, 10)
        eleventh = rig.client(d.port).send(HOLD)
        p = waiting(d, 1)
        assert states(p)["leased"] == 10 == sockets_to(srv.port) and p["servers"][0]["max_size"] == 10
        assert eleventh.silent(0.05) and srv.peak == 10


# Proves: C2
def test_unbounded_lifts_max_size_and_is_warned_of(rig):
    srv = rig.scripted(pong)
    d = rig.proxy(srv, unbounded=True)
    hold(d, 40)
    assert srv.peak == 40
    code, out, err = rig.check("-t", tree=d.tree)
    assert code == 0 and "unbounded" in out + err and "warning" in out + err


# Proves: C3 POOL-1
def test_max_upstream_bounds_all_pools(rig):
    a, b, pa, pb = rig.scripted(pong), rig.scripted(pong), free_port(), free_port()
    d = rig.leased([pool("a", a, listen="127.0.0.1:%d" % pa), pool("b", b, listen="127.0.0.1:%d" % pb)],
                   limits={"max_upstream": 5})
    hold(d, 3, pa), hold(d, 2, pb)
    late = rig.client(pb).send(HOLD)
    assert d.wait_pool(lambda p: p["waiters"] == 1, "b")["why"] == "limit"
    s = d.status()
    assert s["limits"]["fd_budget"] == 5 == s["limits"]["fd_in_use"]
    assert late.silent(0.05) and a.live + b.live == 5


# Proves: C3
def test_max_total_bounds_a_pool_over_its_servers(rig):
    a, b = rig.scripted(pong), rig.scripted(pong)
    d = rig.proxy([a, b], max_total=3)
    hold(d, 3)
    rig.client(d.port).send(HOLD)
    waiting(d, 1)
    assert a.live + b.live == 3 and sockets_to(a.port) + sockets_to(b.port) == 3


# Proves: C32 C14 POOL-1
def test_size_one_never_has_two_live_connections(rig):
    """Also while one replaces another: the old one is closed before the new one is dialled."""
    srv = rig.bad()
    d = rig.proxy(srv, max_size=1, max_concurrent_dials=1)
    n = 0
    with SocketWatch(d.pid, srv.port) as w:
        while n < 150 or w.samples < 40:
            n += 1
            with Conn(d.port) as c:
                c.ping()
    assert w.peak == 1 and srv.peak == 1 and srv.accepted == n
    assert d.stats()["leases"] == n


# Proves: E15 D4 POOL-11
def test_nonblock_refuses_at_once(rig):
    d = rig.proxy(rig.scripted(pong), max_size=1, lease_wait="nonblock", reuse="script", ready_check=REDIS_READY)
    hold(d, 1)
    for _ in range(5):
        c = rig.client(d.port)
        assert c.ended() == "eof" and time.monotonic() - c.born < 0.1 * SLOW
    assert err_count(d.pool(), "lease_failures", "limit") == 5


# Proves: E17 D5 POOL-11
def test_lease_timeout(rig):
    d = rig.proxy(rig.scripted(pong), max_size=1, lease_timeout="400ms")
    hold(d, 1)
    late = [rig.client(d.port) for _ in range(3)]
    for c in late:
        assert c.ended() == "eof"
        assert 0.39 < time.monotonic() - c.born < 0.4 + 0.1 * SLOW
    assert err_count(d.pool(), "lease_failures", "timeout") == 3 and d.pool()["waiters"] == 0


# Proves: E16 POOL-4
def test_waiters_are_served_in_order(rig):
    d = rig.proxy(rig.scripted(pong), max_size=1, reuse="script", ready_check=REDIS_READY)
    first, = hold(d, 1)
    queue = []
    for i in range(12):
        queue.append(rig.client(d.port).send(HOLD))
        waiting(d, i + 1)
    queue.pop(4).reset()            # one in the middle gives up
    waiting(d, 11)
    first.close()
    for i, c in enumerate(queue):
        assert c.line() == b"+PONG\r\n"
        for later in queue[i + 1:]:
            assert later.silent(0)
        c.close()
    assert err_count(d.pool(), "lease_failures", "cancelled") == 1 or err_count(d.pool(), "lease_failures", "client_gone") == 1


# Proves: E16 C15
def test_a_return_wakes_the_oldest_waiter_at_once(rig):
    d = rig.proxy(rig.scripted(pong), max_size=1, reuse="script", ready_check=REDIS_READY)
    c, = hold(d, 1)
    took = []
    for _ in range(20):
        nxt = rig.client(d.port).send(HOLD)
        waiting(d, 1)
        t = time.monotonic()
        c.close()
        nxt.line()
        took.append(time.monotonic() - t)
        c = nxt
    assert percentile(took, 0.5) < 0.02 * SLOW, took      # an event, not a poll of 100 ms


# Proves: E3 E4 E3b POOL-5
def test_max_rps_spaces_leases(rig):
    d = rig.proxy(rig.scripted(pong), max_rps=50, reuse="script", ready_check=REDIS_READY)
    when = []
    for _ in range(16):
        with Conn(d.port) as c:
            c.ping()
            when.append(time.monotonic())
            for _ in range(20):
                c.ping()            # what is sent within a lease is not counted
    assert when[15] - when[0] >= 15 / 50 - 0.02
    for i in range(16):
        for j in range(i + 1, 16):
            assert j - i + 1 <= 50 * (when[j] - when[i] + 0.015) + 1
    assert d.stats()["rate_limited"] > 0


# Proves: E4 POOL-5
def test_max_rps_burst(rig):
    d = rig.proxy(rig.scripted(pong), max_rps=5, max_rps_burst=4, lease_wait="nonblock", max_size=20)
    hold(d, 4)
    c = rig.client(d.port)
    assert c.ended() == "eof"
    assert err_count(d.pool(), "lease_failures", "rate_limited") == 1


# Proves: E5
def test_only_a_granted_lease_spends_a_token(rig):
    srv = rig.scripted(pong)
    srv.stop()
    d = rig.proxy(srv, max_rps=1, backoff_initial="20ms", backoff_max="20ms", probe_interval="20ms")
    c = rig.client(d.port).send(HOLD)
    d.wait_pool(lambda p: p["servers"][0]["failures"] >= 3)
    srv.resume()
    t = time.monotonic()
    assert c.line() == b"+PONG\r\n" and time.monotonic() - t < 0.5


# Proves: C1
def test_max_clients_of_a_pool(rig):
    d = rig.proxy(rig.scripted(pong), max_clients=3)
    held = hold(d, 3)
    for _ in range(4):
        assert rig.client(d.port).ended() == "eof"
    assert err_count(d.pool(), "client_rejections", "max_clients") == 4
    held.pop().close()
    d.wait_pool(lambda p: p["clients"]["active"] == 2)
    hold(d, 1)


# Proves: D14
def test_max_clients_in_all(rig):
    a, b, pa, pb = rig.scripted(pong), rig.scripted(pong), free_port(), free_port()
    d = rig.leased([pool("a", a, listen="127.0.0.1:%d" % pa), pool("b", b, listen="127.0.0.1:%d" % pb)],
                   limits={"max_clients": 4})
    first = hold(d, 3, pa)
    hold(d, 1, pb)
    assert rig.client(pa).ended() == "eof" and rig.client(pb).ended() == "eof"
    s = d.status()
    assert s["limits"]["max_clients"] == 4 == s["limits"]["clients"]
    first.pop().close()
    d.wait(lambda s: s["limits"]["clients"] == 3)
    hold(d, 1, pb)


# Proves: LIVE-4
def test_client_idle_timeout(rig):
    d = rig.proxy(rig.scripted(pong), client_idle_timeout="300ms")
    quiet, busy = hold(d, 2)
    t = time.monotonic()
    while time.monotonic() - t < 0.6:
        busy.ping()
        busy.silent(0.05)
    assert quiet.ended() == "eof" and err_count(d.pool(), "client_closed", "client_idle") == 1
    assert busy.ended() == "eof"
    assert err_count(d.wait_pool(lambda p: p["clients"]["active"] == 0), "client_closed", "client_idle") == 2


# Proves: C4 C7 POOL-7
def test_max_age_closes_idle_and_spares_leased(rig):
    srv = rig.scripted(pong)
    d = rig.proxy(srv, max_age="500ms", max_age_jitter=0.0, reuse="script", ready_check=REDIS_READY)
    leased, other = hold(d, 2)
    other.close()
    p = d.wait_pool(lambda p: states(p)["idle"] == 1)
    p = d.wait_pool(lambda p: states(p)["idle"] == 0)
    assert err_count(p, "upstream_closed", "age") == 1 and states(p)["leased"] == 1
    leased.ping()                   # older than max_age by now, and in use: lives
    first = int(leased.ask(b"ID\r\n")[1:])
    leased.close()
    with Conn(d.port) as c:
        assert int(c.ask(b"ID\r\n")[1:]) > first + 1        # and is not lent again
    assert err_count(d.wait_pool(lambda p: p["stats"]["leases_returned"] == 3), "upstream_closed", "age") >= 2


# Proves: C5 C8 C25 POOL-7
def test_max_idle_counts_from_the_return(rig):
    srv = rig.scripted(pong)
    d = rig.proxy(srv, max_idle="600ms", reuse="script", ready_check=REDIS_READY)
    c, = hold(d, 1)
    assert c.silent(0.8)            # being held is not being idle
    c.close()
    back = time.monotonic()
    d.wait_pool(lambda p: states(p)["idle"] == 1)
    p = d.wait_pool(lambda p: connections(p) == 0)
    took = time.monotonic() - back
    assert err_count(p, "upstream_closed", "idle") == 1
    assert 0.55 < took <= 0.6 + 1.0 * SLOW, "the cleanup is at most one second late"


# Proves: C30
def test_min_idle_is_kept(rig):
    srv = rig.scripted(pong)
    d = rig.proxy(srv, min_idle=3, max_size=5)
    d.wait_pool(lambda p: states(p)["idle"] == 3)
    poll(lambda: srv.live == 3, 5, "all three to be accepted")
    srv.cut(reset=True)             # lost ones are replaced; nobody notices
    d.wait_pool(lambda p: states(p)["idle"] == 3 and srv.seen >= 6)
    hold(d, 2)
    d.wait_pool(lambda p: states(p)["idle"] == 3 and states(p)["leased"] == 2)
    hold(d, 1)                      # max_size is above min_idle
    p = d.wait_pool(lambda p: states(p)["idle"] == 2 and states(p)["leased"] == 3)
    assert sockets_to(srv.port) == 5 and not p["stats"]["lease_failures"]


# Proves: C27 E12
@pytest.mark.parametrize("order", ["lifo", "fifo", "oldest"])
def test_reuse_order(rig, order):
    d = rig.proxy(rig.scripted(pong), reuse="script", ready_check=REDIS_READY, reuse_order=order)
    held = hold(d, 3)
    ids = [int(c.ask(b"ID\r\n")[1:]) for c in held]
    back = [1, 0, 2]                # returned in this order
    for n, i in enumerate(back):
        held[i].close()
        d.wait_pool(lambda p: states(p)["idle"] == n + 1)
    c, = hold(d, 1)
    want = {"lifo": ids[2], "fifo": ids[1], "oldest": min(ids)}[order]
    assert int(c.ask(b"ID\r\n")[1:]) == want


# Proves: E13 E14
def test_round_robin(rig):
    servers = [rig.scripted(pong) for _ in range(3)]
    d = rig.proxy(servers)
    for _ in range(9):
        before = [s.seen for s in servers]
        with Conn(d.port) as c:
            c.ping()
        assert sum(s.seen for s in servers) == sum(before) + 1
    assert [s.seen for s in servers] == [3, 3, 3]
    assert d.metrics()["leased_upstream_servers"][frozenset({("pool", "p")})] == 3


# Proves: E13 U1
def test_round_robin_skips_the_dead(rig):
    servers = [rig.scripted(pong) for _ in range(3)]
    servers[1].stop()
    d = rig.proxy(servers)
    took = []
    for _ in range(30):
        with Conn(d.port) as c:
            c.ping()
            took.append(time.monotonic() - c.born)
    assert servers[1].seen == 0 and servers[0].seen >= 14 and servers[2].seen >= 14
    p = d.pool()
    assert not p["stats"]["lease_failures"] and not p["servers"][1]["up"] and p["servers"][0]["up"]


class Mute:
    """Answers lines until told to be silent; connections stay open."""

    def __init__(self):
        self.talk = threading.Event()
        self.talk.set()

    def __call__(self, s, n):
        while True:
            line = read_line(s)
            if line is None:
                return
            self.talk.wait(20)
            s.sendall(b"+PONG\r\n" if line.startswith(b"PING") else b"+%d\r\n" % n)


# Proves: C9 C10 POOL-10
def test_health_check_before_a_lease(rig):
    """A connection idle for long is asked first; one that does not answer, or answers nonsense, is closed and another is
    found; the client only waits."""
    bad = set()

    def serve(s, n):
        while True:
            line = read_line(s)
            if line is None:
                return
            s.sendall(b"garbage\r\n" if n in bad and line.startswith(b"HEALTH") else b"+OK\r\n" if
                      line.startswith(b"HEALTH") else b"+PONG\r\n" if line.startswith(b"PING") else b"+%d\r\n" % n)
    srv = rig.scripted(serve)
    d = rig.proxy(srv, reuse="script", ready_check=REDIS_READY, health_check=[{"send": "HEALTH\r\n", "expect": "+OK"}],
                  health_check_after="100ms")
    held = hold(d, 1)
    held[0].close()
    for round_ in range(2):
        d.wait_pool(lambda p: states(p)["idle"] == 1 and p["connections"][0]["idle_us"] > 120000, full=True)
        with Conn(d.port) as c:
            assert c.ask(b"ID\r\n") == b"+1\r\n"
    bad.add(1)
    d.wait_pool(lambda p: states(p)["idle"] == 1 and p["connections"][0]["idle_us"] > 120000, full=True)
    with Conn(d.port) as c:
        assert c.ask(b"ID\r\n") == b"+2\r\n"
    p = d.pool()
    assert p["stats"]["health_checks"].pop("ok") == 2 and sum(p["stats"]["health_checks"].values()) == 1
    assert sum(p["stats"]["upstream_closed"].values()) == 1 and not p["stats"]["lease_failures"]
    # used a moment ago: not asked
    d.wait_pool(lambda p: states(p)["idle"] == 1)
    n = sum(d.stats()["health_checks"].values())
    hold(d, 1)
    assert sum(d.stats()["health_checks"].values()) <= n + 1


# Proves: C9
def test_health_check_timeout(rig):
    mute = Mute()
    d = rig.proxy(rig.scripted(mute), reuse="script", ready_check=REDIS_READY, health_check=REDIS_READY,
                  health_check_after="50ms", health_check_timeout="200ms", max_size=1)
    hold(d, 1)[0].close()
    d.wait_pool(lambda p: states(p)["idle"] == 1 and p["connections"][0]["idle_us"] > 60000, full=True)
    mute.talk.clear()
    c = rig.client(d.port)
    p = d.wait_pool(lambda p: p["stats"]["health_checks"].get("check_timeout"))
    mute.talk.set()
    assert c.ask(b"ID\r\n") == b"+2\r\n"
    assert err_count(p, "health_checks", "check_timeout") == 1


# Proves: C11
def test_client_leaves_while_its_candidate_is_checked(rig):
    mute = Mute()
    d = rig.proxy(rig.scripted(mute), reuse="script", ready_check=REDIS_READY, health_check=REDIS_READY,
                  health_check_after="50ms", max_size=1)
    hold(d, 1)[0].close()
    d.wait_pool(lambda p: states(p)["idle"] == 1 and p["connections"][0]["idle_us"] > 60000, full=True)
    mute.talk.clear()
    c = rig.client(d.port)
    d.wait_pool(lambda p: states(p)["probing"] == 1)
    c.close()
    d.wait_pool(lambda p: sum(p["clients"].values()) == 0)
    mute.talk.set()
    p = d.wait_pool(lambda p: states(p)["idle"] == 1)
    assert p["stats"]["dials"] == {"ok": 1} and p["stats"]["leases"] == 1
    assert p["stats"]["health_checks"] == {"ok": 1}


# Proves: C16 E6
def test_client_leaves_while_its_connection_is_dialled(rig):
    mute = Mute()
    mute.talk.clear()
    srv = rig.scripted(mute)
    d = rig.proxy(srv, login=REDIS_READY)
    c = rig.client(d.port)
    d.wait_pool(lambda p: states(p)["login"] == 1)
    c.close()
    d.wait_pool(lambda p: sum(p["clients"].values()) == 0)
    mute.talk.set()
    d.wait_pool(lambda p: states(p)["idle"] == 1)           # banked, not wasted
    with Conn(d.port) as c:
        assert c.ask(b"ID\r\n") == b"+1\r\n"
    assert srv.seen == 1


# Proves: C14
@pytest.mark.parametrize("dials", [1, 3])
def test_concurrent_dials_are_bounded(rig, dials):
    mute = Mute()
    mute.talk.clear()
    srv = rig.scripted(mute)
    d = rig.proxy(srv, login=REDIS_READY, max_concurrent_dials=dials)
    clients = [rig.client(d.port).send(HOLD) for _ in range(8)]
    waiting(d, 8)
    d.wait_pool(lambda p: states(p)["login"] == dials)
    assert sockets_to(srv.port) == dials
    mute.talk.set()
    for c in clients:
        assert c.line() == b"+PONG\r\n"
    assert srv.seen == 8 and not d.stats()["lease_failures"]


# Proves: E10 E20 LIVE-2
def test_backoff_state_and_recovery(rig):
    srv = rig.scripted(pong)
    srv.stop()
    d = rig.proxy(srv, lease_timeout="20s")
    c = rig.client(d.port).send(HOLD)
    p = d.wait_pool(lambda p: p["servers"][0]["failures"] >= 3)
    s = p["servers"][0]
    assert not s["up"] and s["last_error"] == "connect_refused" and 0 <= s["retry_in_us"] <= 30e6
    assert p["why"] == "down" and p["oldest_wait_us"] > 0
    m = d.metrics()
    assert metric(m, "leased_server_up") == 0 and metric(m, "leased_lease_waiters") == 1
    srv.resume()
    t = time.monotonic()
    assert c.line() == b"+PONG\r\n"
    assert time.monotonic() - t < 0.2 * SLOW, "someone waits: served within 200 ms of the server's return"
    s = d.pool()["servers"][0]
    assert s["up"] and s["failures"] == 0


# Proves: E10 POOL-8
def test_backoff_spaces_dials(rig):
    """Without a probe: attempts thin out. 100 ms x1.5 with jitter of 50 %: no more than a dozen in 3 s, not in step."""
    srv = rig.scripted(pong)
    srv.stop()
    d = rig.proxy(srv, probe_interval="0", lease_timeout="3s")
    c = rig.client(d.port)
    assert c.ended(10) == "eof"
    n = err_count(d.pool(), "dials", "connect_refused")
    assert 3 <= n <= 14, n


# Proves: E11
def test_a_down_server_still_lends_its_idle_connections(rig):
    srv = rig.scripted(pong)
    d = rig.proxy(srv, reuse="script", ready_check=REDIS_READY)
    hold(d, 1)[0].close()
    d.wait_pool(lambda p: states(p)["idle"] == 1)
    srv.stop()
    one, = hold(d, 1)
    late = rig.client(d.port).send(HOLD)
    d.wait_pool(lambda p: not p["servers"][0]["up"])
    one.close()
    assert late.line() == b"+PONG\r\n"
    assert not d.pool()["stats"]["lease_failures"]


# Proves: E11
def test_evict_on_down(rig):
    srv = rig.scripted(pong)
    d = rig.proxy(srv, reuse="script", ready_check=REDIS_READY, evict_on_down=True, min_idle=3)
    d.wait_pool(lambda p: states(p)["idle"] == 3 and srv.live == 3)
    srv.stop()
    one, = hold(d, 1)               # min_idle asks for another one: refused
    d.wait_pool(lambda p: not p["servers"][0]["up"] and states(p)["idle"] == 0)
    assert err_count(d.pool(), "upstream_closed", "server_down") == 2
    one.ping()                      # what is lent stays


# Proves: E18
def test_no_servers_is_an_error_of_the_configuration(rig):
    code, out, err = rig.check("-t", text='pools = ( { name = "p"; listen = "127.0.0.1:1234"; servers = ( ); } );\n')
    assert code == 78 and "servers" in out + err


# Proves: E19
def test_reasons_of_refusal(rig):
    dead, dead2, slow = rig.scripted(pong), rig.scripted(pong), rig.scripted(pong)
    dead.stop(), dead2.stop()
    keys = dict(lease_wait="nonblock", probe_interval="0", backoff_initial="30s", backoff_jitter=0.0)

    def refused(d):
        # the first dial to each dead server may still be on its way when the first client is answered
        for _ in range(4):
            rig.client(d.port).ended()
        rig.client(d.port).ended()
        return d.pool()

    p = refused(rig.proxy([dead, dead2], **keys))
    assert err_count(p, "lease_failures", "down") >= 3 and p["why"] == "down", p["stats"]
    limited = rig.proxy(slow, **dict(keys, max_rps=1))
    with Conn(limited.port) as c:
        c.ping()
    p = refused(limited)
    assert err_count(p, "lease_failures", "rate_limited") >= 4, p["stats"]
    mixed = rig.proxy([dead, server(slow, max_rps=1)], **keys)
    for _ in range(3):
        rig.client(mixed.port).send(HOLD)
    mixed.wait_pool(lambda p: not p["servers"][0]["up"])
    p = refused(mixed)
    assert err_count(p, "lease_failures", "mixed") >= 1, p["stats"]


# Proves: E24 RES-7
def test_a_flood_of_refusals_is_not_a_flood_of_lines(rig):
    srv = rig.scripted(pong)
    srv.stop()
    d = rig.proxy(srv, lease_wait="nonblock", backoff_initial="1ms", backoff_max="2ms", top={"log": {"level": "info"}})
    t = time.monotonic()
    for _ in range(1500):
        with Conn(d.port) as c:
            c.ended()
    took = time.monotonic() - t
    assert sum(d.stats()["lease_failures"].values()) == 1500
    assert len(d.log_lines()) < 100 * (took + 1)


# Proves: C23 POOL-9 decision-6
def test_drain_answers_with_the_last_release(rig):
    d = rig.proxy(rig.scripted(pong), reuse="script", ready_check=REDIS_READY)
    held = hold(d, 3)
    p = subprocess.Popen([LEASECTL, "-s", d.admin, "drain", "p", "10s"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    d.wait_pool(lambda p: p["draining"])
    held.pop().close()
    held.pop().close()
    d.wait_pool(lambda p: states(p)["leased"] == 1)
    assert p.poll() is None
    t = time.monotonic()
    held.pop().close()
    assert p.wait(5) == 0 and time.monotonic() - t < 0.15 * SLOW     # 50 ms and the end of a process
    p.stdout.close(), p.stderr.close()


# Proves: C23
def test_drain_does_not_stop_new_leases_unless_told(rig):
    d = rig.proxy(rig.scripted(pong), reuse="script", ready_check=REDIS_READY)
    kept, = hold(d, 1)
    assert d.ctl("drain", "p", "100ms")[0] == 3
    hold(d, 1)[0].close()
    assert d.ctl("drain", "p", "100ms", "stop")[0] == 3
    assert rig.client(d.port).ended() == "eof"
    assert err_count(d.pool(), "lease_failures", "draining") == 1
    kept.ping()                     # what is lent stays lent
    kept.close()
    assert d.ctl("drain", "p", "5s", "stop")[0] == 0
    assert d.ctl("resume", "p")[0] == 0
    hold(d, 1)
    assert d.ctl("drain", "nobody", "100ms")[0] == 1


# Proves: C24 C25 C26 D12 E21
def test_snapshot_and_stats(rig):
    srv = rig.scripted(pong)
    d = rig.proxy(srv, reuse="script", ready_check=REDIS_READY)
    a, b = hold(d, 2)
    b.close()
    p = d.wait_pool(lambda p: states(p)["idle"] == 1, full=True)
    conns = {c["in_use"]: c for c in p["connections"]}
    assert set(conns) == {True, False}
    for c in conns.values():
        assert c["server"] == c["address"] == "127.0.0.1:%d" % srv.port and c["age_us"] > 0 and c["leases"] == 1
        assert c["close_needed"] is False and c["id"] > 0
    assert conns[True]["state"] == "leased" and conns[False]["state"] == "idle"
    assert conns[False]["last_returned_us"] is not None and conns[False]["idle_us"] >= 0
    who, = p["client_list"]
    assert who["state"] == "active" and who["upstream"] == conns[True]["id"] and who["peer"].startswith("127.0.0.1:")
    assert who["bytes_in"] == 6 and who["bytes_out"] == 7
    m = d.metrics()
    assert metric(m, "leased_upstream_connections", state="leased") == 1
    assert metric(m, "leased_upstream_connections", state="idle") == 1
    assert metric(m, "leased_leases_total") == 2 and metric(m, "leased_pool_max_size") == 10
    a.close()
    p = d.wait_pool(lambda p: states(p)["idle"] == 2)
    assert p["stats"]["leases"] == p["stats"]["leases_returned"] == 2
    assert p["stats"]["bytes_from_clients"] == 12 and p["stats"]["bytes_to_clients"] == 14
    ids = [c["id"] for c in d.pool(full=True)["connections"]]
    assert len(set(ids)) == 2


# Proves: POOL-12 C19 C20 E21
def test_counters_are_conservative(rig):
    d = rig.proxy(rig.scripted(pong), max_size=3, lease_timeout="30ms", reuse="script", ready_check=REDIS_READY)
    threads = []

    def some(k):
        for i in range(40):
            with Conn(d.port) as c:
                try:
                    if (i + k) % 3:
                        c.ping()
                    if (i + k) % 5 == 0:
                        c.reset()
                except (EOFError, OSError):
                    pass
    for k in range(8):
        threads.append(threading.Thread(target=some, args=(k,)))
        threads[-1].start()
    [t.join() for t in threads]
    p = d.wait_pool(lambda p: sum(p["clients"].values()) == 0 and states(p)["leased"] == 0 and states(p)["cleaning"] == 0)
    s = p["stats"]
    assert s["leases"] == s["leases_returned"]
    assert s["clients"] == 320 == s["leases"] + sum(s["lease_failures"].values())
    assert s["lease_hold"]["count"] == s["leases"]
    assert s["dials"]["ok"] == sum(s["upstream_closed"].values()) + connections(p)
    assert d.status()["limits"]["fd_in_use"] == connections(p)


# Proves: D3 D15 D10
@pytest.mark.parametrize("soft,hard", [(256, 1000), (2000, 2000)])
def test_descriptor_budget_at_start(rig, soft, hard):
    d = rig.proxy(rig.scripted(pong), top={"limits": {"max_clients": 100}}, own={"nofile": (soft, hard)})
    l = d.status()["limits"]
    assert l["nofile"] == hard, "the soft limit is raised to the hard one"
    assert l["max_clients"] == 100
    assert l["fd_budget"] + l["max_clients"] + 50 <= hard
    assert l["fd_budget"] % 100 == 0 and l["fd_budget"] >= 100
    line, = [x for x in d.log_lines() if re.search(r"fd limit|fd_limit|limits", x) and str(hard) in x]
    assert "100" in line and str(l["fd_budget"]) in line
    m = d.metrics()
    assert metric(m, "leased_fd_budget") == l["fd_budget"] and metric(m, "leased_fd_in_use") == 0
    for name in ("leased_fd_unused", "leased_fd_releasing"):
        assert metric(m, name) == 0 and name in m


# Proves: D3
def test_max_clients_that_cannot_fit_is_an_error(rig):
    srv = rig.scripted(pong)
    tree = {"limits": {"max_clients": 5000}, "pools": [pool("p", srv, listen="127.0.0.1:%d" % free_port())]}
    d = rig.leased(tree["pools"], limits=tree["limits"], nofile=300, wait=False, expect_exit=78)
    assert d.wait_exit() == 78 and d.log_lines("max_clients")
    fits = rig.leased(tree["pools"], nofile=300)            # the default is lowered instead
    assert 0 < fits.status()["limits"]["max_clients"] < 300


# Proves: D7 D8 D11 POOL-6
def test_eviction_is_least_recently_used_over_pools(rig):
    a, b, pa, pb = rig.scripted(pong), rig.scripted(pong), free_port(), free_port()
    keys = dict(reuse="script", ready_check=REDIS_READY)
    d = rig.leased([pool("a", a, listen="127.0.0.1:%d" % pa, **keys), pool("b", b, listen="127.0.0.1:%d" % pb, **keys)],
                   limits={"max_upstream": 4})
    held = hold(d, 3, pa)
    ids = [int(c.ask(b"ID\r\n")[1:]) for c in held]
    for i in (1, 0):                # 1 comes back first: it is the oldest idle one; 2 stays lent
        held[i].close()
        d.wait_pool(lambda p: states(p)["idle"] == 2 - i, "a")
    with SocketWatch(d.pid, a.port, b.port) as w:
        hold(d, 1, pb)
        hold(d, 1, pb)              # the fifth: the oldest idle one of pool a has to go
        d.wait_pool(lambda p: states(p)["leased"] == 2, "b")
    assert w.peak <= 4
    p = d.pool("a")
    assert states(p)["idle"] == 1 and states(p)["leased"] == 1 and err_count(p, "upstream_closed", "evicted") == 1
    with Conn(pa) as c:
        assert int(c.ask(b"ID\r\n")[1:]) == ids[0]
    held[2].ping()
    d.wait_pool(lambda p: states(p)["idle"] == 1, "a")
    hold(d, 1, pb)                  # and one more
    assert metric(d.metrics(), "leased_evictions_total") == 2
    assert d.status()["limits"]["fd_in_use"] == 4


# Proves: D7 POOL-6
@pytest.mark.parametrize("turn", [0, 1])
def test_eviction_is_least_recently_used_over_servers(rig, turn):
    one, two, b, pa, pb = rig.bad(), rig.bad(), rig.bad(), free_port(), free_port()
    keys = dict(reuse="script", ready_check=REDIS_READY)
    d = rig.leased([pool("a", [one, two], listen="127.0.0.1:%d" % pa, **keys), pool("b", b, listen="127.0.0.1:%d" % pb, **keys)],
                   limits={"max_upstream": 2})
    held = hold(d, 2, pa)           # one connection of each server
    assert one.live == two.live == 1
    for n, c in enumerate([held[turn], held[1 - turn]]):
        c.close()
        d.wait_pool(lambda p: states(p)["idle"] == n + 1, "a")
    hold(d, 1, pb)
    left = [s["states"]["idle"] for s in d.pool("a")["servers"]]
    assert left == ([0, 1] if turn == 0 else [1, 0])


# Proves: D9
def test_failing_dials_leak_no_budget(rig):
    srv = rig.scripted(pong)
    srv.stop()
    d = rig.proxy(srv, top={"limits": {"max_upstream": 2}}, lease_timeout="2s", backoff_initial="1ms", backoff_max="2ms")
    assert rig.client(d.port).ended() == "eof"
    assert err_count(d.pool(), "dials", "connect_refused") > 10
    d.wait(lambda s: s["limits"]["fd_in_use"] == 0)
    srv.resume()
    hold(d, 2)


# Proves: D2 D13
def test_nothing_is_dialled_before_it_is_needed(rig):
    a, b = rig.scripted(pong), rig.scripted(pong)
    d = rig.proxy([a, b])
    assert a.seen == b.seen == 0 and connections(d.pool()) == 0
    with Conn(d.port) as c:
        c.ping()
    assert a.seen + b.seen == 1


# Proves: D13
def test_lease_on_first_byte_holds_nothing_for_the_silent(rig):
    srv = rig.scripted(pong)
    d = rig.proxy(srv, lease_on="first_byte", max_size=1)
    quiet = [rig.client(d.port) for _ in range(20)]
    d.wait_pool(lambda p: p["clients"]["idle"] == 20)
    assert srv.seen == 0 and sockets_to(srv.port) == 0
    with Conn(d.port) as c:
        c.ping()
    with quiet[3] as c:
        c.ping()                    # the byte that asked for the lease is not lost
    assert srv.seen == 2


# Proves: E22 C31
def test_overrides_and_effective_values(rig):
    srv = rig.scripted(pong)
    d = rig.proxy(srv, own={"args": ["-o", "pools.p.max_size=2", "-o", "limits.max_clients=7"]})
    assert d.pool()["servers"][0]["max_size"] == 2 and d.status()["limits"]["max_clients"] == 7


# Proves: C22
def test_shutdown_lets_leases_end(rig):
    srv = rig.scripted(pong)
    d = rig.proxy(srv, reuse="script", ready_check=REDIS_READY)
    a, b = hold(d, 2)
    b.close()
    d.wait_pool(lambda p: states(p)["idle"] == 1)
    d.signal(signal.SIGTERM)
    d.wait(lambda s: s["state"] == "draining")
    a.ping()
    a.close()
    assert d.wait_exit() == 0
    poll(lambda: srv.live == 0, 5, "all connections to close")
