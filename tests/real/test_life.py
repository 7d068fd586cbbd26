"""Start, signals, drain, end, restart, activation and notification (G, LIFE)."""
import contextlib
import os
import random
import signal
import socket
import stat
import threading
import time

import pytest

from harness import *

READY = [{"send": "PING\r\n", "expect": "+PONG"}]
pytestmark = pytest.mark.limit(40)


def served(port, text=b"c1 1 x\r\n", timeout=10):
    with Conn(port, timeout=timeout) as c:
        assert c.ask(text) == text


# Proves: LIFE-4
def test_ready_means_that_all_listeners_accept(rig):
    srv = rig.bad()
    ports, path = [free_port() for _ in range(8)], rig.path("x.sock")
    d = rig.leased([pool("p%d" % i, srv, listen="127.0.0.1:%d" % p) for i, p in enumerate(ports)] +
                   [pool("u", srv, listen="unix:" + path)], workers=2)
    for p in ports + [path]:
        Conn(p).close()
    poll(lambda: any("STATUS=" in n for n in d.read_notices()), 5, "a status text")


# Proves: LIFE-3 C22
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_drains(rig, sig):
    srv = rig.bad()
    d = rig.proxy(srv, reuse="script", ready_check=READY)
    a, b = rig.client(d.port), rig.client(d.port)
    a.ask(b"c1 1 x\r\n"), b.ask(b"c2 1 x\r\n")
    d.signal(sig)
    d.wait(lambda s: s["state"] == "draining")          # the admin socket stays
    poll(lambda: not listening(d.port), 5, "the listener to close")
    with pytest.raises(OSError):
        Conn(d.port).ping()
    assert a.ask(b"c1 2 x\r\n") == b"c1 2 x\r\n"
    a.close()
    assert b.ask(b"c2 2 x\r\n") == b"c2 2 x\r\n" and d.running
    b.close()
    t = time.monotonic()
    assert d.wait_exit() == 0 and time.monotonic() - t < 0.5 * SLOW
    assert any("STOPPING=1" in n for n in d.read_notices())
    srv.wait(lambda: srv.live == 0)


# Proves: LIFE-3
def test_sigterm_when_idle_is_immediate(rig):
    srv = rig.bad()
    d = rig.proxy(srv, min_idle=3)
    d.wait_pool(lambda p: states(p)["idle"] == 3)
    t = time.monotonic()
    assert d.term() == 0 and time.monotonic() - t < 0.5 * SLOW


# Proves: LIFE-3
def test_second_sigterm_is_now(rig):
    d = rig.proxy(rig.bad())
    a = rig.client(d.port)
    a.ask(b"c1 1 x\r\n")
    d.signal(signal.SIGTERM)
    d.wait(lambda s: s["state"] == "draining")
    d.signal(signal.SIGTERM)
    t = time.monotonic()
    d.expect_exit = None
    assert d.wait_exit() in (0, 1) and time.monotonic() - t < 0.5 * SLOW
    assert a.ended() in ("eof", "reset")


# Proves: LIFE-3
def test_shutdown_timeout_ends_what_is_left(rig):
    d = rig.proxy(rig.bad(), top={"shutdown_timeout": "400ms"})
    a = rig.client(d.port)
    a.ask(b"c1 1 x\r\n")
    t = time.monotonic()
    d.signal(signal.SIGTERM)
    assert a.ended() in ("eof", "reset")
    assert 0.35 < time.monotonic() - t < 0.4 + 0.5 * SLOW
    d.expect_exit = None
    assert d.wait_exit() in (0, 1)


# Proves: LIFE-3
def test_sigquit_is_immediate(rig):
    d = rig.proxy(rig.bad())
    a = rig.client(d.port)
    a.ask(b"c1 1 x\r\n")
    t = time.monotonic()
    d.signal(signal.SIGQUIT)
    assert d.wait_exit() == 0 and time.monotonic() - t < 0.5 * SLOW
    assert a.ended() in ("eof", "reset")


# Proves: LIFE-3 E16
def test_waiting_clients_are_served_while_draining(rig):
    d = rig.proxy(rig.bad(), reuse="script", ready_check=READY, max_size=1)
    a = rig.client(d.port)
    a.ask(b"c1 1 x\r\n")
    b = rig.client(d.port).send(b"c2 1 x\r\n")
    d.wait_pool(lambda p: p["waiters"] == 1)
    d.signal(signal.SIGTERM)
    d.wait(lambda s: s["state"] == "draining")
    a.close()
    assert b.line() == b"c2 1 x\r\n"
    b.close()
    assert d.wait_exit() == 0


# Proves: F:G5
@pytest.mark.parametrize("sig", [signal.SIGHUP, signal.SIGUSR1])
def test_log_is_reopened(rig, sig):
    log = rig.path("leased.log")
    d = rig.proxy(rig.bad(), top={"log": {"target": "file", "file": log}})
    served(d.port)
    os.rename(log, log + ".1")
    served(d.port)
    d.signal(sig)
    poll(lambda: os.path.exists(log), 5, "a new log file")
    old = os.stat(log + ".1").st_size
    served(d.port)
    poll(lambda: os.stat(log).st_size > 0, 5, "lines in the new file")
    assert os.stat(log + ".1").st_size == old
    served(d.port)


# Proves: RES-7
@pytest.mark.parametrize("form", ["text", "logfmt", "json"])
def test_log_formats(rig, form):
    import json
    import re
    log = rig.path("leased.log")
    d = rig.proxy(rig.bad(), top={"log": {"target": "file", "file": log, "format": form, "level": "debug"}})
    served(d.port)
    d.wait_pool(lambda p: sum(p["clients"].values()) == 0)
    assert d.term() == 0
    with open(log) as f:
        lines = f.read().splitlines()
    assert len(lines) >= 4
    for l in lines:
        if form == "json":
            assert {"event", "level"} <= set(json.loads(l)), l
        elif form == "text":
            assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (error|warning|warn|notice|info|debug) +[a-z_]+(\.[a-z_]+)*( [a-z_]+=\S.*)*$", l), l
        else:
            assert re.match(r'([a-z_]+=("(\\.|[^"])*"|\S*) ?)+$', l), l


# Proves: F:G5
def test_G5_signal_storm(rig):
    srv = rig.bad()
    log = rig.path("leased.log")
    d = rig.proxy(srv, reuse="script", ready_check=READY, top={"log": {"target": "file", "file": log}})
    held = rig.client(d.port)
    held.ask(b"c0 1 x\r\n")
    sigs = [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE, signal.SIGCHLD, signal.SIGWINCH, signal.SIGCONT]
    n, end, rng = 0, time.monotonic() + 1.0, random.Random(5)
    stop = []

    def storm():
        while time.monotonic() < end:
            os.kill(d.pid, rng.choice(sigs))
            stop.append(1)
    t = threading.Thread(target=storm)
    t.start()
    while t.is_alive():
        served(d.port)
        n += 1
    t.join()
    assert len(stop) > 3000 and n > 20
    assert held.ask(b"c0 2 x\r\n") == b"c0 2 x\r\n"
    assert d.status()["state"] == "running"
    held.close()
    for _ in range(50):             # and in the end, in any order
        os.kill(d.pid, signal.SIGHUP)
    d.signal(signal.SIGTERM)
    d.expect_exit = 0
    with contextlib.suppress(ProcessLookupError):
        for _ in range(20):
            os.kill(d.pid, signal.SIGUSR1)
    assert d.wait_exit() == 0


# Proves: F:G6
def test_G6_stopped_and_continued(rig):
    srv = rig.bad()
    d = rig.proxy(srv, reuse="script", ready_check=READY, max_size=20, max_idle="1s", max_concurrent_dials=2,
                  lease_timeout="10s", min_idle=4)
    held = rig.client(d.port)
    held.ask(b"c0 1 x\r\n")
    d.wait_pool(lambda p: states(p)["idle"] >= 4)
    d.signal(signal.SIGSTOP)
    poll(lambda: stopped(d.pid), 5, "the stop")
    queued = [rig.client(d.port).send(b"q%d 1 x\r\n" % i) for i in range(10)]
    time.sleep(2.2)                 # the stop itself: everything expires meanwhile
    peak = srv.live
    d.signal(signal.SIGCONT)
    for i, c in enumerate(queued):
        assert c.line() == b"q%d 1 x\r\n" % i
    assert held.ask(b"c0 2 x\r\n") == b"c0 2 x\r\n"
    assert not d.stats()["lease_failures"] and srv.peak <= 20 and peak <= 5
    # nothing older than max_idle was lent
    assert d.stats()["leases_reused"] == 0


# Proves: F:G7 LIFE-5
@pytest.mark.limit(90)
def test_G7_kill_9_at_random_moments(rig):
    srv = rig.bad()
    port, path, pid = free_port(), rig.path("c.sock"), rig.path("leased.pid")
    admin = rig.path("admin.sock")
    p = pool("p", srv, listen=["127.0.0.1:%d" % port, "unix:" + path], reuse="script", ready_check=READY, min_idle=2)
    rng, stop = random.Random(11), [False]

    def client():
        while not stop[0]:
            try:
                with Conn(rng.choice([port, path]), timeout=1) as c:
                    c.ask(b"c1 1 x\r\n")
            except (OSError, EOFError):
                pass
    threads = [threading.Thread(target=client) for _ in range(3)]
    [t.start() for t in threads]
    try:
        for i in range(30):
            d = rig.leased(p, pid_file=pid, admin={"listen": "unix:" + admin}, wait=bool(i % 3), expect_exit=None)
            time.sleep(rng.random() * 0.06)     # a random moment, also of its start
            d.kill()
    finally:
        stop[0] = True
        [t.join() for t in threads]
    d = rig.leased(p, pid_file=pid, admin={"listen": "unix:" + admin})
    d.admin = admin
    served(port), served(path)
    with open(pid) as f:
        assert int(f.read()) == d.pid
    assert d.term() == 0
    assert not os.path.exists(pid) and not os.path.exists(path) and not os.path.exists(admin)
    srv.wait(lambda: srv.live == 0)


# Proves: F:G8 LIFE-5
def test_G8_stale_and_live_unix_sockets(rig):
    srv, path = rig.bad(), rig.path("c.sock")
    s = socket.socket(socket.AF_UNIX)
    s.bind(path)
    s.close()                       # stale: nobody listens
    d = rig.leased(pool("p", srv, listen="unix:" + path))
    served(path)
    other = rig.leased(pool("p", srv, listen="unix:" + path), wait=False, expect_exit=73)
    assert other.wait_exit() == 73 and other.log_lines(path)
    served(path)                    # not stolen
    assert stat.S_ISSOCK(os.stat(path).st_mode)
    d.term()
    with open(path, "w") as f:      # not a socket: not ours to remove
        f.write("precious")
    third = rig.leased(pool("p", srv, listen="unix:" + path), wait=False, expect_exit=73)
    assert third.wait_exit() == 73
    with open(path) as f:
        assert f.read() == "precious"
    os.unlink(path)


# Proves: F:G8
def test_G8_port_in_use(rig):
    srv = rig.bad()
    d = rig.proxy(srv)
    other = rig.leased(pool("p", srv, listen="127.0.0.1:%d" % d.port), wait=False, expect_exit=73)
    assert other.wait_exit() == 73
    assert other.log_lines("127.0.0.1:%d" % d.port) and other.log_lines("in use")
    served(d.port)
    with Conn(d.port) as c:         # the server side closes first and keeps the port in TIME_WAIT
        c.ask(b"c1 1 x\r\n")
        srv.cut("fin")
        c.ended()
    assert d.term() == 0
    again = rig.leased(pool("p", srv, listen="127.0.0.1:%d" % d.port))
    served(d.port)
    assert again.running


# Proves: F:G8 LIFE-5
@pytest.mark.parametrize("left", ["", "999999\n", "garbage", "self"])
def test_G8_pid_file(rig, left):
    path = rig.path("leased.pid")
    with open(path, "w") as f:
        f.write(str(os.getpid()) if left == "self" else left)
    port = free_port()
    d = rig.leased(pool("p", rig.bad(), listen="127.0.0.1:%d" % port), pid_file=path)
    served(port)
    with open(path) as f:
        assert int(f.read()) == d.pid
    assert d.term() == 0 and not os.path.exists(path)


# Proves: F:G8
def test_admin_socket_of_a_live_daemon_is_not_taken(rig):
    srv = rig.bad()
    d = rig.proxy(srv)
    other = rig.leased(pool("p", srv, listen="127.0.0.1:%d" % free_port()), admin={"listen": "unix:" + d.admin}, wait=False,
                       expect_exit=73)
    assert other.wait_exit() == 73 and other.log_lines(d.admin)
    assert d.status()["pid"] == d.pid
    other.tree = {}


LAUNCH = """
import fcntl, os, sys
fds = [fcntl.fcntl(int(f), fcntl.F_DUPFD, 100) for f in sys.argv[1].split(",") if f]
for i, fd in enumerate(fds):
    os.dup2(fd, 3 + i)
    os.close(fd)
os.environ.setdefault("LISTEN_PID", str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


def activated(rig, pools, socks, names=None, count=None, pid=None, **kw):
    env = {"LISTEN_FDS": str(len(socks) if count is None else count)}
    if names is not None:
        env["LISTEN_FDNAMES"] = ":".join(names)
    if pid:
        env["LISTEN_PID"] = str(pid)
    return rig.leased(pools, prefix=["/usr/bin/python3", "-c", LAUNCH, ",".join(str(s.fileno()) for s in socks)],
                      pass_fds=[s.fileno() for s in socks], env=env, **kw)


def listener(rig, path=None):
    if path:
        s = socket.socket(socket.AF_UNIX)
        s.bind(path)
    else:
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", free_port()))
    s.listen(64)
    rig.closers.append(s.close)
    return s


# Proves: F:G9
def test_G9_sockets_by_name(rig):
    srv, path = rig.bad(), rig.path("act.sock")
    web, line = listener(rig), listener(rig, path)
    d = activated(rig, [pool("a", srv, listen="systemd:web"), pool("b", srv, listen="systemd:line")], [line, web],
                  ["line", "web"])
    served(web.getsockname()[1]), served(path)
    assert d.pool("a")["stats"]["leases"] == 1 == d.pool("b")["stats"]["leases"]
    assert "127.0.0.1:%d" % web.getsockname()[1] in d.pool("a")["listeners"]
    assert d.term() == 0
    assert os.path.exists(path), "a socket that was passed is not ours to remove"
    # connections queue while nobody is there, and the next one serves them
    c = rig.client(path).send(b"c1 1 x\r\n")
    activated(rig, [pool("a", srv, listen="systemd:web"), pool("b", srv, listen="systemd:line")], [web, line], ["web", "line"])
    assert c.line() == b"c1 1 x\r\n"


# Proves: F:G9
def test_G9_several_sockets_of_one_name(rig):
    srv = rig.bad()
    one, two = listener(rig), listener(rig)
    activated(rig, [pool("a", srv, listen="systemd:web")], [one, two], ["web", "web"])
    served(one.getsockname()[1]), served(two.getsockname()[1])


# Proves: F:G9
def test_G9_systemd_socket_activate(rig):
    srv, port = rig.bad(), free_port()
    keep = [a for n in ("NOTIFY_SOCKET", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS") for a in ("-E", n)]
    d = rig.leased(pool("a", srv, listen="systemd:web"), wait=False,
                   prefix=["systemd-socket-activate", "-l", "127.0.0.1:%d" % port, "--fdname=web"] + keep)
    poll(lambda: listening(port), 5, "the activator")
    c = rig.client(port).send(b"c1 1 x\r\n")
    assert c.line() == b"c1 1 x\r\n"
    d.await_ready()
    served(port)


# Proves: F:G9
@pytest.mark.parametrize("case", ["no sockets", "other name", "no names", "wrong pid", "count too high", "count garbage",
                                  "datagram", "not listening", "a file", "one too many"])
def test_G9_wrong_activation_is_refused(rig, case):
    srv, s = rig.bad(), listener(rig)
    socks, names, count, pid = [s], ["web"], None, None
    if case == "no sockets":
        socks, count = [], 0
    elif case == "other name":
        names = ["wep"]
    elif case == "no names":
        names = None
    elif case == "wrong pid":
        pid = 1
    elif case == "count too high":
        count = 3
    elif case == "count garbage":
        count = "many"
    elif case == "datagram":
        socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM)]
    elif case == "not listening":
        socks = [socket.socket()]
    elif case == "a file":
        socks = [open(rig.path("f"), "w")]
    else:
        socks, names = [s, listener(rig)], ["web", "nobody"]
    d = activated(rig, [pool("a", srv, listen="systemd:web")], socks, names, count, pid, wait=False, expect_exit=None)
    code = d.wait_exit()
    assert code in (64, 71, 73, 78), code
    assert [l for l in d.log_lines() if "web" in l or "nobody" in l or "LISTEN" in l], d.log_lines()
    assert "signal" not in d.stderr() and code > 0
    for x in socks:
        if x is not s:
            x.close()


def with_notify(rig, path, **env):
    port = free_port()
    d = rig.leased(pool("p", rig.bad(), listen="127.0.0.1:%d" % port), notify=False, env=dict({"NOTIFY_SOCKET": path}, **env))
    d.port = port
    served(port)
    return d


# Proves: F:G10
@pytest.mark.parametrize("path", ["/nonexistent/notify", "", "relative/path", "@nobody-listens", "/" + "x" * 300])
def test_G10_notify_socket_that_is_not_there(rig, path):
    d = with_notify(rig, path)
    assert d.term() == 0


# Proves: F:G10
def test_G10_notify_socket_abstract(rig):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind("\0leased-test-%d" % os.getpid())
    s.settimeout(5)
    with_notify(rig, "@leased-test-%d" % os.getpid())
    assert "READY=1" in s.recv(1000).decode()
    s.close()


# Proves: F:G10
def test_G10_notify_socket_full(rig):
    path = rig.path("full.sock")
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind(path)
    c = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    c.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            c.sendto(b"x", path)
    t = time.monotonic()
    d = with_notify(rig, path, WATCHDOG_USEC="300000")
    assert time.monotonic() - t < 3 * SLOW
    for _ in range(20):
        served(d.port)
    assert d.term() == 0
    s.close(), c.close()


# Proves: F:G10 LIVE-7
@pytest.mark.parametrize("usec", ["200000", "1000", "1", "0", "-5", "garbage", "99999999999999999999"])
def test_G10_watchdog(rig, usec):
    d = rig.leased(pool("p", rig.bad(), listen="127.0.0.1:%d" % free_port()), env={"WATCHDOG_USEC": usec})
    if usec == "200000":
        poll(lambda: sum("WATCHDOG=1" in n for n in d.read_notices()) >= 4, 3, "the watchdog's ticks")
    else:
        share = d.cpu_share(0.4)
        if SLOW == 1:
            assert share < 0.1, "a tiny watchdog interval must not become a busy loop: %.3f" % share
    d.read_notices()
    assert d.status()["state"] == "running"


# Proves: SEC-5
@pytest.mark.parametrize("user", ["nobody"])
def test_becomes_another_user(rig, user):
    import pwd
    port = free_port()
    d = rig.leased(pool("p", rig.bad(), listen="127.0.0.1:%d" % port), user=user)
    served(port)
    uid = pwd.getpwnam(user).pw_uid
    with open("/proc/%d/status" % d.pid) as f:
        text = f.read()
    assert "Uid:\t%d\t%d\t%d\t%d\n" % (uid, uid, uid, uid) in text
    groups = [l for l in text.splitlines() if l.startswith("Groups:")][0].split()[1:]
    assert groups in ([], [str(pwd.getpwnam(user).pw_gid)])
    d.unix_paths = lambda: []       # it may no longer remove what root made


# Proves: C30
def test_workers_share_pools(rig):
    srv = rig.bad()
    ports = [free_port() for _ in range(4)]
    d = rig.leased([pool("p%d" % i, srv, listen="127.0.0.1:%d" % p) for i, p in enumerate(ports)], workers=3)
    for p in ports * 3:
        served(p)
    s = d.status()
    assert len(s["workers"]) == 3
    assert sorted(n for w in s["workers"] for n in w["pools"]) == ["p0", "p1", "p2", "p3"]
    assert all(w["loop_lag_max_us"] < 1000000 for w in s["workers"])
    assert thread_count(d.pid) >= 4
    d.wait(lambda s: sum(p["stats"]["leases_returned"] for p in s["pools"]) == 12)
