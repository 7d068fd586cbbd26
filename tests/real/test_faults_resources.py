"""Faults of the machine: descriptors, memory, disk, stderr, and every system call (R)."""
import errno
import contextlib
import os
import resource
import signal
import subprocess
import threading
import time

import pytest

from harness import *

READY = [{"send": "PING\r\n", "expect": "+PONG"}]
pytestmark = pytest.mark.limit(40)


def served(port, text=b"c1 1 x\r\n", timeout=10):
    with Conn(port, timeout=timeout) as c:
        assert c.ask(text) == text


# Proves: F:R1 F:R9 RES-4 LIVE-3
@pytest.mark.failio
@pytest.mark.parametrize("err", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED, errno.EPROTO])
def test_R1_accept_fails(rig, err):
    fail, srv = FailIO(rig), rig.bad()
    d = rig.proxy(srv, own={"env": fail.env()})
    held = rig.client(d.port)
    held.ask(b"c0 0 x\r\n")
    fail.arm("accept4", -1, err)
    late = rig.client(d.port).send(b"c1 1 y\r\n")       # in the queue: the kernel has taken it
    poll(lambda: fail.hits("accept4"), 5, "accept to fail")
    lines, hits = len(d.log_lines()), fail.hits("accept4")
    if err in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
        share = d.cpu_share(1.0)
        if SLOW == 1:
            assert share < 0.01 and fail.hits("accept4") - hits < 100, (share, fail.hits("accept4") - hits)
        assert len(d.log_lines()) - lines <= 2
    assert held.ask(b"c0 1 x\r\n") == b"c0 1 x\r\n"
    fail.disarm("accept4")
    t = time.monotonic()
    assert late.line() == b"c1 1 y\r\n"
    assert time.monotonic() - t < 0.1 * SLOW
    served(d.port)


# Proves: F:R1 F:R9 POOL-8 D9
@pytest.mark.failio
@pytest.mark.parametrize("call,err", [("socket", errno.EMFILE), ("socket", errno.ENOBUFS), ("connect", errno.EADDRNOTAVAIL),
                                      ("connect", errno.EACCES), ("connect", errno.ENETUNREACH), ("epoll_ctl", errno.ENOMEM),
                                      ("epoll_ctl", errno.ENOSPC)])
def test_R1_dial_fails(rig, call, err):
    fail, srv = FailIO(rig), rig.bad()
    d = rig.proxy(srv, own={"env": fail.env()}, backoff_initial="20ms", probe_interval="50ms", lease_on="first_byte")
    c = rig.client(d.port)
    d.wait_pool(lambda p: p["clients"]["idle"] == 1)
    fail.arm(call, -1, err)
    c.send(b"c1 1 y\r\n")
    poll(lambda: fail.hits(call), 5, call + " to fail")
    if call != "epoll_ctl":
        share, hits = d.cpu_share(0.7), fail.hits(call)
        if SLOW == 1:
            assert share < 0.02 and hits < 60, (share, hits)
        fail.disarm(call)
        t = time.monotonic()
        assert c.line() == b"c1 1 y\r\n"
        assert time.monotonic() - t < 0.2 * SLOW
    fail.disarm(call)
    served(d.port)
    d.wait_pool(lambda p: connections(p) <= 1)


# Proves: F:R1
@pytest.mark.failio
@pytest.mark.parametrize("call", ["accept4", "socket", "connect", "epoll_ctl", "pipe2", "open", "splice"])
def test_R1_each_call_fails_once(rig, call):
    """The n-th call fails for good, for many n, while sessions come and go: at worst one of them ends."""
    fail, srv = FailIO(rig), rig.nginx()
    with open(os.path.join(srv.root, "big"), "wb") as f:
        f.truncate(3 << 20)
    d = rig.proxy(srv, own={"env": fail.env()}, backoff_initial="1ms", backoff_max="2ms")
    lost = 0
    for n in range(12):
        fail.arm(call, 1, errno.EMFILE if call != "splice" else errno.EINVAL)
        try:
            with Conn(d.port) as c:
                assert len(c.send(b"GET /big HTTP/1.0\r\n\r\n").rest()) > 3 << 20
        except (AssertionError, OSError, EOFError):
            lost += 1
        fail.disarm(call)
        with Conn(d.port) as c:
            assert len(c.send(b"GET /big HTTP/1.0\r\n\r\n").rest()) > 3 << 20
        assert d.status()["state"] == "running"
    assert lost <= (12 if call in ("accept4", "epoll_ctl", "splice") else 0), lost


# Proves: F:R9
@pytest.mark.failio
@pytest.mark.parametrize("err", [errno.ENOBUFS, errno.ENOMEM])
def test_R9_send_fails(rig, err):
    """The kernel has no room for a moment: either waited out or that connection ends; nothing spins, others go on."""
    fail, srv = FailIO(rig), rig.bad()
    d = rig.proxy(srv, own={"env": fail.env()}, max_size=5)
    a, b = rig.client(d.port), rig.client(d.port)
    a.ask(b"c1 1 x\r\n"), b.ask(b"c2 1 x\r\n")
    fail.arm("send", 1, err)
    a.send(b"c1 2 x\r\n")
    try:
        assert a.line() == b"c1 2 x\r\n"
    except (EOFError, OSError):
        pass
    assert fail.hits("send") == 1
    assert b.ask(b"c2 2 x\r\n") == b"c2 2 x\r\n"
    fail.arm("send", -1, err)
    b.send(b"c2 3 x\r\n")
    share = d.cpu_share(0.5)
    if SLOW == 1:
        assert share < 0.02, share
    fail.disarm("send")
    served(d.port)


# Proves: F:R7 ISO-1 ISO-2
@pytest.mark.failio
@pytest.mark.limit(60)
@pytest.mark.parametrize("one_in", [2, 5])
def test_R7_short_and_interrupted_calls(rig, one_in):
    fail, web, echo_srv, line = FailIO(rig), rig.nginx(), rig.bad(mode="raw"), rig.bad()
    data = os.urandom(8 << 20)
    with open(os.path.join(web.root, "big"), "wb") as f:
        f.write(data)
    line.login(need=True, users={"u": "p"})
    fail.short(one_in)
    pw, pe, pl = free_port(), free_port(), free_port()
    d = rig.leased([
        pool("web", web, listen="127.0.0.1:%d" % pw), pool("echo", echo_srv, listen="127.0.0.1:%d" % pe),
        pool("line", line, listen="127.0.0.1:%d" % pl, reuse="script", ready_check=READY, max_size=3, login=[
            {"send": "AUTH u p\r\n", "expect": "+OK", "expect_denied": "-WRONGPASS*"}])], env=fail.env())
    wrong = []

    def down():
        with Conn(pw) as c:
            if not c.send(b"GET /big HTTP/1.0\r\n\r\n").rest().endswith(data):
                wrong.append("download")

    def both():
        with Conn(pe) as c:
            t = threading.Thread(target=lambda: c.send(data[:2 << 20]).half_close())
            t.start()
            if c.rest() != data[:2 << 20]:
                wrong.append("echo")
            t.join()

    def lines(k):
        for i in range(20):
            with Conn(pl) as c:
                text = b"".join(b"k%d.%d %d x\r\n" % (k, i, n) for n in range(5))
                if c.send(text).exactly(len(text)) != text:
                    wrong.append("line")
    rounds = 0
    while rounds < 5 and fail.shortened() <= 500:       # how many calls one takes depends on the machine
        threads = [threading.Thread(target=f, args=a) for f, a in
                   [(down, ()), (both, ()), (down, ()), (both, ())] + [(lines, (k,)) for k in range(5)]]
        [t.start() for t in threads]
        [t.join() for t in threads]
        rounds += 1
    assert not wrong and fail.shortened() > 500
    for name, n in (("web", 2), ("echo", 2), ("line", 100)):
        p = d.wait_pool(lambda p: states(p)["leased"] == 0, name)
        assert p["stats"]["leases"] == n * rounds and not p["stats"]["lease_failures"], p["stats"]
    assert d.ctl("show", "pools")[0] == 0


# Proves: F:R4 RES-5
@pytest.mark.measure
def test_R4_memory_cap(rig):
    srv = rig.bad(mode="silent")
    d = rig.proxy(srv, top={"limits": {"max_clients": 4000}}, max_size=100, reuse="never")
    with open("/proc/%d/statm" % d.pid) as f:
        size = int(f.read().split()[0]) * 4096
    resource.prlimit(d.pid, resource.RLIMIT_AS, (size + (6 << 20), resource.RLIM_INFINITY))
    clients = []
    for _ in range(1500):           # all but 100 wait, and each may hold its buffers' worth of bytes that nobody takes
        c = rig.client(d.port)
        c.s.setblocking(False)
        try:
            c.s.send(b"z" * 200000)
        except OSError:
            pass
        clients.append(c)
    assert d.running, "the cap must not kill it"
    p = d.pool()
    assert err_count(p, "client_rejections", "no_memory") + err_count(p, "client_closed", "no_memory") > 1000
    with open("/proc/%d/statm" % d.pid) as f:
        assert int(f.read().split()[0]) * 4096 <= size + (6 << 20)
    assert clients[0].silent(0), "who was there before stays"
    for c in clients:
        c.close()
    srv.set(mode="line")
    srv.cut()
    d.wait_pool(lambda p: sum(p["clients"].values()) == 0, timeout=10)
    served(d.port)


# Proves: F:R5
def test_R5_log_disk_full(rig):
    need_unshare("-m")
    where, srv = rig.path("small"), rig.bad()
    os.mkdir(where)
    d = rig.proxy(srv, top={"log": {"target": "file", "file": where + "/leased.log", "level": "debug"}},
                  own={"prefix": ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=8k leased-test "$0" && exec "$@"', where]})
    inside = "/proc/%d/root%s" % (d.pid, where)
    poll(lambda: os.path.exists(inside + "/leased.log"), 5, "the log file")
    for i in range(120):
        served(d.port, b"c%d 1 x\r\n" % i)
    poll(lambda: metric(d.metrics(), "leased_log_lines_dropped") > 0 or served(d.port), 25, "the disk to be full")
    assert os.statvfs(inside).f_bavail == 0
    # room again: lines come again
    subprocess.run(["nsenter", "-t", str(d.pid), "-m", "-r", "mount", "-o", "remount,size=1m", where], check=True)
    size = os.stat(inside + "/leased.log").st_size
    served(d.port)
    poll(lambda: os.stat(inside + "/leased.log").st_size > size or served(d.port), 5, "lines after the disk has room")


# Proves: F:R5
def test_R5_log_goes_read_only(rig):
    need_unshare("-m")
    where, srv = rig.path("ro"), rig.bad()
    os.mkdir(where)
    d = rig.proxy(srv, top={"log": {"target": "file", "file": where + "/leased.log", "level": "debug"}},
                  own={"prefix": ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=1m leased-test "$0" && exec "$@"', where]})
    with open("/proc/%d/root%s/leased.log" % (d.pid, where)) as log:
        # a file system with a file open for writing refuses to become read-only; one that is, is put over it
        subprocess.run(["nsenter", "-t", str(d.pid), "-m", "-r", "mount", "-t", "tmpfs", "-o", "ro", "leased-test", where], check=True)
        d.signal(signal.SIGHUP)     # cannot be reopened: serving goes on, and so do lines in the file that is open
        lines = []
        poll(lambda: lines.extend(log) or [l for l in lines if "log.not_reopened" in l], 5, "a line that says so")
        for i in range(50):
            served(d.port, b"c%d 1 x\r\n" % i)
        poll(lambda: lines.extend(log) or [l for l in lines if "client.closed" in l], 5, "lines of those served")
    assert d.status()["state"] == "running"


# Proves: F:R5
@pytest.mark.parametrize("key,value", [("pid_file", "/proc/leased.pid"), ("log", "/proc/leased.log")])
def test_R5_file_cannot_be_made(rig, key, value):
    srv = rig.bad()
    top = {"pid_file": value} if key == "pid_file" else {"log": {"target": "file", "file": value}}
    d = rig.leased(pool("p", srv, listen="127.0.0.1:%d" % free_port()), wait=False, expect_exit=73, **top)
    assert d.wait_exit() == 73 and d.log_lines(value)


# Proves: F:R6
def test_R6_blocked_stderr(rig):
    r, w = os.pipe()
    srv = rig.bad()
    d = rig.proxy(srv, top={"log": {"level": "debug"}}, own={"stderr": w})
    os.close(w)
    for i in range(1500):           # far more than a pipe holds; nobody reads
        with Conn(d.port) as c:
            t = time.monotonic()
            assert c.ask(b"c1 1 x\r\n") == b"c1 1 x\r\n"
            assert time.monotonic() - t < 1 * SLOW
    log_full = metric(d.metrics(), "leased_log_lines_dropped")
    got = os.read(r, 1 << 20)
    assert log_full > 0 or len(got) < 65536, "either lines were dropped and counted, or there were few (repeats are folded)"
    os.close(r)                     # and now it is broken as well
    poll(lambda: served(d.port) or metric(d.metrics(), "leased_log_lines_dropped") > log_full, 5, "lost lines to be counted")
    assert d.running


# Proves: F:R6
def test_R6_stderr_filled_beforehand(rig):
    """Not one byte fits from the start on."""
    r, w = os.pipe()
    os.set_blocking(w, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(w, b"x" * 4096)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(w, b"x")
    os.set_blocking(w, True)
    d = rig.proxy(rig.bad(), own={"stderr": w})
    os.close(w)
    for _ in range(20):
        served(d.port)
    assert metric(d.metrics(), "leased_log_lines_dropped") > 0
    os.close(r)
