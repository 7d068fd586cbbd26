"""Opaque tcp through real servers: bytes, ends of streams, sockets of every kind, reuse, logins."""
import hashlib
import os
import re
import socket
import stat
import threading
import time

import pytest
import redis

from harness import *


def client_id(where):
    """The server's own number of the upstream connection that a new client is lent."""
    with Conn(where) as c:
        return int(c.ask(resp("CLIENT", "ID"))[1:])


# Proves: C6 E1 C18
def test_redis_session(rig):
    srv = rig.redis()
    d = rig.proxy(srv)
    r = redis.Redis(port=d.port, single_connection_client=True)
    assert r.set("k", b"\0\r\n\xff" * 1000) and r.get("k") == b"\0\r\n\xff" * 1000
    with r.pipeline(transaction=False) as p:
        for i in range(2000):
            p.incr("n")
        assert p.execute()[-1] == 2000
    big = os.urandom(3 << 20)
    assert r.set("big", big) and r.get("big") == big
    p = d.pool(full=True)
    assert p["servers"][0]["name"] == "127.0.0.1:%d" % srv.port
    assert p["connections"][0]["address"] == "127.0.0.1:%d" % srv.port and p["connections"][0]["in_use"]
    r.close(), r.connection_pool.disconnect()
    d.wait_pool(lambda p: connections(p) == 0 and p["stats"]["leases_returned"] == 2)


# Proves: C6
def test_redis_benchmark(rig):
    d = rig.proxy(rig.redis(), max_size=20)
    r = rig.run(["redis-benchmark", "-p", str(d.port), "-c", "20", "-n", "20000", "-t", "set,get", "-P", "4", "--csv"])
    assert r.returncode == 0 and "Error" not in r.stdout + r.stderr, r
    assert len([l for l in r.stdout.splitlines() if l.startswith(('"SET"', '"GET"'))]) == 2
    d.wait_pool(lambda p: p["stats"]["leases"] == p["stats"]["leases_returned"] >= 20 and connections(p) == 0)


# Proves: C6
def test_memcached_session(rig):
    d = rig.proxy(rig.memcached())
    value = os.urandom(500000)
    with Conn(d.port) as c:
        assert c.send(b"set k 7 0 %d\r\n" % len(value) + value + b"\r\n").line() == b"STORED\r\n"
        assert c.ask(b"get k\r\n") == b"VALUE k 7 %d\r\n" % len(value)
        assert c.exactly(len(value)) == value and c.line() == b"\r\n" and c.line() == b"END\r\n"
        assert c.ask(b"nonsense\r\n") == b"ERROR\r\n"
        c.send(b"quit\r\n")
        assert c.ended() == "eof"


# Proves: E25
def test_http_through_nginx(rig):
    d = rig.proxy(rig.nginx())
    url = "http://127.0.0.1:%d/" % d.port
    r = rig.run(["curl", "-sS", "-w", "%{num_connects}\n", url, url, url])
    assert r.returncode == 0 and r.stdout.count("hello from nginx\n") == 3
    assert [l for l in r.stdout.splitlines() if l.isdigit()] == ["1", "0", "0"]
    with Conn(d.port) as c:         # the server ends the stream: its end reaches the client after the last byte
        answer = c.send(b"GET / HTTP/1.0\r\n\r\n").rest()
        assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"hello from nginx\n")


# Proves: C18
def test_ipv6_both_sides(rig):
    assert os.path.exists("/proc/net/if_inet6")
    with socket.socket(socket.AF_INET6) as s:
        try:
            s.bind(("::1", 0))
        except OSError:
            pytest.skip("no ::1 on this machine")
    srv, p4, p6 = rig.redis(host="::1"), free_port(), free_port("::1")
    d = rig.leased(pool("six", "[::1]:%d" % srv.port, listen=["127.0.0.1:%d" % p4, "[::1]:%d" % p6]))
    for where in (p4, ("::1", p6)):
        with Conn(where) as c:
            c.ping()
    assert set(d.pool()["listeners"]) == {"127.0.0.1:%d" % p4, "[::1]:%d" % p6}


# Proves: C18
def test_unix_upstream_and_listener(rig):
    srv, path = rig.redis(), rig.path("c.sock")
    d = rig.leased(pool("u", "unix:" + srv.sock, listen={"address": "unix:" + path, "mode": Raw("0642"), "owner": "nobody",
                                                         "group": "daemon"}))
    st = os.stat(path)
    assert stat.S_ISSOCK(st.st_mode) and stat.S_IMODE(st.st_mode) == 0o642
    import grp, pwd
    assert (st.st_uid, st.st_gid) == (pwd.getpwnam("nobody").pw_uid, grp.getgrnam("daemon").gr_gid)
    with Conn(path) as c:
        c.ping()
        assert d.pool()["clients"]["active"] == 1


def ask_as(uid, path):
    """What a process of that user gets for a PING: its answer, "" when it is closed, or the errno of connect."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            drop_uid(uid)
            with Conn(path, timeout=5) as c:
                try:
                    out = c.ask(b"PING\r\n")
                except (EOFError, ConnectionResetError, BrokenPipeError):
                    out = b""
        except OSError as e:
            out = b"errno %d" % e.errno
        os.write(w, out)
        os._exit(0)
    os.close(w)
    out = os.read(r, 100)
    os.close(r)
    os.waitpid(pid, 0)
    return out


# Proves: SEC-1
def test_unix_listener_admits_by_mode_and_uid(rig):
    srv, a, b = rig.redis(), rig.path("a.sock"), rig.path("b.sock")
    d = rig.leased(pool("u", srv, listen=[{"address": "unix:" + a, "mode": Raw("0600")},
                                          {"address": "unix:" + b, "mode": Raw("0666"), "allow_uid": ["0", "12345"]}]))
    assert ask_as(12345, a) == b"errno 13" and ask_as(0, a) == b"+PONG\r\n"
    assert ask_as(12345, b) == b"+PONG\r\n" and ask_as(0, b) == b"+PONG\r\n"
    assert ask_as(12346, b) == b""
    assert err_count(d.wait_pool(lambda p: p["stats"]["client_rejections"]), "client_rejections", "not_allowed") == 1
    assert d.stats()["leases"] == 3 and d.log_lines("not_allowed")


# Proves: F:C4
def test_half_close_by_client(rig):
    d = rig.proxy(rig.socat("SYSTEM:sha256sum"))
    data = os.urandom(100000)
    with Conn(d.port) as c:
        answer = c.send(data).half_close().rest()
    assert answer.split()[0].decode() == hashlib.sha256(data).hexdigest()


# Proves: F:C4
def test_half_close_by_server(rig):
    got = []

    def serve(s, n):
        s.sendall(b"bye\n")
        s.shutdown(socket.SHUT_WR)
        got.append(b"".join(iter(lambda: s.recv(4096), b"")))
    d = rig.proxy(rig.scripted(serve))
    with Conn(d.port) as c:
        assert c.rest() == b"bye\n"
        try:
            c.send(b"still here").half_close()
            poll(lambda: got, 5, "the server to read to the end")
        except (BrokenPipeError, ConnectionResetError):
            pytest.fail("the client's direction was cut by the end of the server's")
    assert got == [b"still here"]


BULK = 200 << 20


def blocks():
    base = os.urandom(1 << 20)
    for i in range(BULK >> 20):
        yield i.to_bytes(8, "big") + base[8:]


# Proves: ISO-2
@pytest.mark.limit(60)
def test_bulk_download(rig):
    srv, want = rig.nginx(), hashlib.sha256()
    with open(os.path.join(srv.root, "big"), "wb") as f:
        for b in blocks():
            f.write(b)
            want.update(b)
    d = rig.proxy(srv)
    got, n = hashlib.sha256(), 0
    with Conn(d.port) as c:
        c.send(b"GET /big HTTP/1.0\r\n\r\n")
        while c.line() != b"\r\n":
            pass
        got.update(c.buf)
        n = len(c.buf)
        while True:
            b = c.s.recv(1 << 20)
            if not b:
                break
            got.update(b)
            n += len(b)
    assert n == BULK and got.digest() == want.digest()
    assert d.wait_pool(lambda p: connections(p) == 0)["stats"]["bytes_to_clients"] > BULK


# Proves: ISO-2
@pytest.mark.limit(60)
def test_bulk_upload(rig):
    d = rig.proxy(rig.socat("SYSTEM:sha256sum", block=262144))
    want = hashlib.sha256()
    with Conn(d.port, timeout=40) as c:
        for b in blocks():
            c.send(b)
            want.update(b)
        assert c.half_close().rest().split()[0].decode() == want.hexdigest()
    assert d.stats()["bytes_from_clients"] == BULK


# Proves: ISO-2
@pytest.mark.limit(60)
def test_bulk_both_ways_at_once(rig):
    d = rig.proxy(rig.socat("EXEC:cat"), max_size=4)
    failed = []

    def one():
        base, sent, got = os.urandom(1 << 20), hashlib.sha256(), hashlib.sha256()
        with Conn(d.port, timeout=40) as c:
            def feed():
                for i in range(12):
                    b = i.to_bytes(4, "big") + base
                    sent.update(b)
                    c.send(b)
                c.half_close()
            t = threading.Thread(target=feed)
            t.start()
            got.update(c.rest())
            t.join()
        if got.digest() != sent.digest():
            failed.append(1)
    threads = [threading.Thread(target=one) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not failed


# Proves: ISO-12
def test_greeting_goes_to_the_first_client(rig):
    """A server that speaks first, dialled ahead of need: each greeting reaches one client, whole and first."""
    d = rig.proxy(rig.socat("SYSTEM:echo 220 $$ ready; exec cat"), min_idle=2)
    seen = set()
    for i in range(6):
        d.wait_pool(lambda p: states(p)["idle"] == 2)
        before = d.stats()["dials"].get("ok", 0)
        with Conn(d.port) as c:
            line = c.line()
            assert line.startswith(b"220 ") and line.endswith(b" ready\n") and line not in seen
            seen.add(line)
            assert c.ask(b"hello\n") == b"hello\n"
        assert before >= 2
    p = d.wait_pool(lambda p: p["stats"]["leases_returned"] == 6)
    assert p["stats"]["leases_reused"] == 0 and not p["stats"]["lease_failures"]


# Proves: ISO-12 C13
def test_reuse_never(rig):
    d = rig.proxy(rig.redis())
    ids = [client_id(d.port) for _ in range(10)]
    assert len(set(ids)) == 10
    p = d.wait_pool(lambda p: connections(p) == 0)
    assert p["stats"]["leases_reused"] == 0 and err_count(p, "upstream_closed", "no_reuse") == 10


# Proves: ISO-12 C13
def test_reuse_on_idle(rig):
    srv = rig.redis()
    d = rig.proxy(srv, reuse="on_idle", quiet_time="20ms", max_size=1)
    first = client_id(d.port)
    assert [client_id(d.port) for _ in range(5)] == [first] * 5
    assert d.stats()["leases_reused"] == 5
    # a client that left by reset did not close cleanly
    c = rig.client(d.port)
    assert int(c.ask(resp("CLIENT", "ID"))[1:]) == first
    c.reset()
    second = client_id(d.port)
    assert second != first
    # an answer that comes after its client left makes the connection dirty
    with Conn(d.port) as c:
        c.ping()
        c.send(resp("SET", "x", "y" * 3000000) + resp("GET", "x"))
    assert client_id(d.port) != second
    p = d.wait_pool(lambda p: p["stats"]["leases_returned"] == 9)
    assert sum(p["stats"]["upstream_closed"].values()) == 2, p["stats"]


# Proves: ISO-12 ISO-3 C13
def test_reuse_script(rig):
    d = rig.proxy(rig.redis(), reuse="script", ready_check=REDIS_READY, max_size=1,
                  ready_check_timeout="200ms", half_close_timeout="200ms")
    first = client_id(d.port)
    assert [client_id(d.port) for _ in range(5)] == [first] * 5
    # half a command: the check's own text completes it, the answer is not the one expected
    with Conn(d.port) as c:
        c.send(b"*2\r\n$3\r\nGET\r\n$40\r\n")
    second = client_id(d.port)
    assert second != first
    # answers that nobody read: they are taken off before the check, so the connection is as good as new
    with Conn(d.port) as c:
        c.send(resp("ECHO", "+PONG") * 10)
    assert client_id(d.port) == second
    p = d.wait_pool(lambda p: p["stats"]["leases_returned"] == 10 and sum(p["stats"]["resets"].values()) >= 10)
    assert err_count(p, "resets", "ok") == 9
    assert sum(v for k, v in p["stats"]["resets"].items() if k != "ok") == 1, p["stats"]["resets"]


def login_pool(password, **keys):
    top = {"credentials": [{"name": "c", "username": "default", "password": password}]}
    return top, dict({"credentials": "c", "login": [
        {"send": "AUTH ${username} ${password}\r\n", "expect": "+OK", "expect_denied": "-WRONGPASS*"}]}, **keys)


# Proves: B1
def test_login_script_accepts(rig):
    top, keys = login_pool("open sesame")
    keys["login"] = [{"send": "*3\r\n$$4\r\nAUTH\r\n$$7\r\n${username}\r\n$$11\r\n${password}\r\n", "expect": "+OK"},
                     {"send": "SELECT 3\r\n", "expect": "+OK"}]
    d = rig.proxy(rig.redis("--requirepass", "open sesame"), top=top, **keys)
    with Conn(d.port) as c:
        assert c.ask(b"PING\r\n") == b"+PONG\r\n"
        assert b" db=3 " in c.send(resp("CLIENT", "INFO")).line() + c.line()
    assert d.stats()["logins"] == {"ok": 1}


# Proves: B1 E10 CRED-10
def test_login_script_denied(rig):
    srv = rig.redis("--requirepass", "right")
    top, keys = login_pool("CANARY_wrong", lease_timeout="700ms")
    d = rig.proxy(srv, top=dict(top, log={"level": "debug"}), **keys)
    with Conn(d.port) as c:
        t = time.monotonic()
        assert c.rest() == b""
        assert time.monotonic() - t < 1.5 * SLOW
    p = d.pool()
    n = p["stats"]["auth_denied"]
    assert 1 <= n <= 7, "the back-off (100ms x1.5) allows only so many in 0.7 s"
    assert p["stats"]["logins"] == {"denied": n} and p["stats"]["leases"] == 0
    assert not p["servers"][0]["up"] and p["servers"][0]["failures"] == n and p["servers"][0]["last_error"] == "denied"
    assert sum(p["stats"]["lease_failures"].values()) == 1
    with Conn(srv.port) as c:
        assert c.ask(b"AUTH right\r\n") == b"+OK\r\n"
        text = c.send(resp("INFO", "stats")).line() + c.exactly(400)
        assert int(re.search(rb"total_connections_received:(\d+)", text).group(1)) == n + 3      # two that saw it start, and this one
    assert not d.log_lines("CANARY")
