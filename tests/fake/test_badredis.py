"""The fake Redis agrees with the real one where it claims to, and misbehaves where it is told to; rload sees what it is for."""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from badredis import LOADING, MAXCLIENTS, NOAUTH, WRONGPASS, BadRedis  # noqa: E402
from relay import Relay  # noqa: E402
from test_fake import Client  # noqa: E402

RLOAD = os.environ.get("RLOAD_BIN", os.path.join(HERE, "..", "..", "build", "tests", "rload"))


def rload(*args, code=0):
    if not os.path.exists(RLOAD):
        pytest.skip("rload is not built: make tests-build")
    p = subprocess.run([RLOAD, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30)
    assert p.returncode == code, p.stdout.decode() + p.stderr.decode()
    return json.loads(p.stdout) if code != 2 else p.stderr.decode()


def to(srv):
    return "127.0.0.1:%d" % srv.port


@pytest.fixture
def srv():
    with BadRedis() as s:
        yield s


@contextlib.contextmanager
def real_redis(tmp_path):
    if not shutil.which("redis-server"):
        pytest.skip("no redis-server")
    sock = str(tmp_path / "redis.sock")
    p = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", sock, "--save", "", "--dir", str(tmp_path)],
                         stdout=subprocess.DEVNULL)
    end = time.monotonic() + 10
    while not os.path.exists(sock):
        assert time.monotonic() < end and p.poll() is None
        time.sleep(0.01)
    try:
        yield sock
    finally:
        p.terminate()
        p.wait()


def test_commands_in_both_forms(srv):
    with Client(srv.port) as c:
        c.ask(b"PING\r\n", b"+PONG\r\n")
        c.ask(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\na\r\n\r\n", b"+OK\r\n")
        c.ask(b"GET k\r\n", b"$3\r\na\r\n\r\n")
        c.ask(b"SELECT 3\r\nGET k\r\n", b"+OK\r\n$-1\r\n")
        c.ask(b"MULTI\r\nINCR n\r\nINCR n\r\nEXEC\r\n", b"+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n:2\r\n")
        c.ask(b"CLIENT SETNAME me\r\nCLIENT GETNAME\r\n", b"+OK\r\n$2\r\nme\r\n")
        c.ask(b"RESET\r\nCLIENT GETNAME\r\nWHO\r\n", b"+RESET\r\n$0\r\n\r\n:1\r\n")
    assert srv.count("INCR") == 2 and srv.data[3][b"n"] == b"2"


def test_logins_are_told_and_counted(srv):
    srv.login(users={"app": "p1", "default": "d"}, deny=1)
    with Client(srv.port) as c:
        c.ask(b"GET k\r\n", NOAUTH)
        c.ask(b"AUTH app p1\r\n", WRONGPASS)
        c.ask(b"AUTH app p1\r\n", b"+OK\r\n")
        srv.rotate(app="p2")
        c.ask(b"PING\r\n", b"+PONG\r\n")            # it stays logged in
        c.ask(b"AUTH app p1\r\n", WRONGPASS)
        c.ask(b"PING\r\n", b"+PONG\r\n")            # and keeps who it was
        assert srv.forget() == 1
        c.ask(b"PING\r\n", NOAUTH)
        c.ask(b"AUTH d\r\n", b"+OK\r\n")
        c.s.sendall(b"HELLO 3 AUTH app p2\r\n")
        assert c.s.recv(4096).startswith(b"%7\r\n$6\r\nserver\r\n")
        assert [(t.user, t.password, t.ok) for t in srv.tries] == [
            ("app", "p1", False), ("app", "p1", True), ("app", "p1", False), ("default", "d", True), ("app", "p2", True)]
        srv.rotate(app="p3", cut="rst")
        assert c.all()[1] == "reset"
    assert len(srv.failed()) == srv.denied == 2


def test_concurrent_logins_and_texts(srv):
    srv.login(users={"default": "d"})
    srv.login_delay, srv.denied_text = 0.05, b"-WRONGPASS no such luck\r\n"
    with Client(srv.port) as a, Client(srv.port) as b:
        a.s.sendall(b"AUTH d\r\n")
        b.ask(b"AUTH x\r\n", b"-WRONGPASS no such luck\r\n")
        a.read(b"+OK\r\n")
        a.s.sendall(b"AUTH d\r\nECHO x\r\nSLEEP 30\r\nPING\r\n")
        a.read(b"+OK\r\n$1\r\nx\r\n+SLEPT\r\n+PONG\r\n")
    assert (srv.login_peak, srv.login_now) == (2, 0)
    srv.hello = False
    with Client(srv.port) as c:
        c.ask(b"HELLO 3\r\n", b"-ERR unknown command `HELLO`, with args beginning with: \r\n")
        c.ask(b"AUTH app d\r\n", b"-ERR wrong number of arguments for 'auth' command\r\n")
        srv.no_password = True
        c.s.sendall(b"AUTH d\r\n")
        assert c.s.recv(4096).startswith(b"-ERR AUTH <password> called without any password")


def test_canned_answers_and_refusal_at_accept(srv):
    srv.answer("GET", LOADING, times=2).answer("SET", b"-READONLY no\r\n", times=None)
    srv.next(dict(greeting=MAXCLIENTS, fin_after_out=len(MAXCLIENTS)))
    with Client(srv.port) as c:
        assert c.all() == (MAXCLIENTS, "eof")
    with Client(srv.port) as c:
        c.ask(b"GET k\r\nGET k\r\nGET k\r\nSET k v\r\n", LOADING + LOADING + b"$-1\r\n-READONLY no\r\n")
        srv.answer("SET", None)
        c.ask(b"SET k v\r\n", b"+OK\r\n")
    assert [w for _, (w, *_) in srv.log] == ["GET", "GET", "GET", "SET", "SET"]


@pytest.mark.parametrize("how", [(), ("-p", 20), ("-p", 5, "-m", 40, "-B", 3), ("-p", 10, "-m", 20, "-D", 20)])
def test_rload_is_clean_with_the_fake_and_the_real(srv, tmp_path, how):
    with real_redis(tmp_path) as sock:
        for where in (to(srv), "unix:" + sock):
            r = rload("-c", 20, "-n", 5000, *how, where)
            assert r["replies"] >= 5000 and (r["errors_total"], r["mismatches"], r["reconnects"]) == (0, 0, 0), r
            assert r["served"] == 20 and (r["cuts"] > 0) == ("-D" in how)


def test_rload_sees_a_flipped_byte_and_a_foreign_one(srv):
    with Relay(srv.port) as r:
        r.next(down=dict(corrupt_at=2000))
        got = rload("-c", 1, "-p", 5, "-n", 1000, to(r), code=1)
    assert got["mismatches"] == 1 and "not the bytes" in got["first_mismatch"]
    srv.next(dict(extra=b"+OK\r\n"))
    assert rload("-c", 1, "-n", 10, to(srv), code=1)["mismatches"] == 1
    srv.next(dict(greeting=b"hello\r\n"))
    assert rload("-c", 1, "-n", 10, to(srv), code=1)["mismatches"] == 1


@pytest.mark.parametrize("word, reply", [("INCR", b":7\r\n"), ("GET", b"$2\r\nhi\r\n"), ("ECHO", b"$1\r\nx\r\n")])
def test_rload_sees_a_wrong_answer(srv, word, reply):
    srv.answer(word, reply)
    assert rload("-c", 3, "-p", 3, "-n", 500, to(srv), code=1)["mismatches"] == 1


def test_rload_sees_what_was_executed_twice(srv):
    """An INCR that somebody sends again changes the next one's answer."""
    class Twice(type(srv).conn_class):
        def _do_incr(self, key):
            said = super()._do_incr(key)
            if self.srv.executed["INCR"] == 50:
                super()._do_incr(key)
            return said
    srv.conn_class = Twice
    assert rload("-c", 2, "-n", 1000, to(srv), code=1)["mismatches"] == 1


def test_rload_counts_errors_by_kind(srv):
    srv.next(dict(rst_after_out=200), dict(fin_after_out=201), dict(half_reply=2))
    got = rload("-c", 1, "-n", 200, "-T", 200, to(srv))
    assert (got["errors"]["reset"], got["errors"]["eof"], got["errors"]["timeout"]) == (1, 1, 1), got
    assert got["reconnects"] == 3 and got["mismatches"] == 0
    srv.answer("SET", LOADING, times=2)
    got = rload("-c", 1, "-n", 300, "-x", to(srv), code=1)
    assert got["errors"]["reply"] == 2 and "LOADING" in got["first_error"] and got["mismatches"] == 0
    srv.answer("GET", NOAUTH)
    got = rload("-c", 1, "-p", 8, "-n", 300, to(srv))
    assert got["errors"]["reply"] == 1 and "NOAUTH" in got["first_error"] and got["mismatches"] == 0
    srv.refuse()
    assert rload("-c", 1, "-t", 1, "-b", 100, to(srv))["errors"]["refused"] > 1


def test_rload_ends_when_told(srv):
    p = subprocess.Popen([RLOAD, "-c", "3", "-t", "60", "-v", to(srv)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    srv.wait(lambda: srv.requests > 100)
    p.send_signal(signal.SIGTERM)
    out, err = p.communicate(timeout=10)
    assert p.returncode == 0 and json.loads(out)["replies"] >= 90 and err.decode().splitlines()[0] == "0 0 0"


def test_rload_holds_its_clients_back(srv):
    p = subprocess.Popen([RLOAD, "-c", "30", "-p", "5", "-m", "20", "-t", "60", to(srv)], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE)
    for _ in range(5):
        seen = srv.requests
        srv.wait(lambda: srv.requests > seen + 100)
        p.send_signal(signal.SIGUSR1)
        assert p.stderr.readline() == b"quiet\n"
        seen = srv.requests
        assert not any(c._in or c.multi for c in srv.open_conns())
        time.sleep(0.02)    # nothing comes now
        assert srv.requests == seen
        p.send_signal(signal.SIGUSR2)
    p.send_signal(signal.SIGTERM)
    got = json.loads(p.communicate(timeout=10)[0])
    assert (got["errors_total"], got["mismatches"], got["connects"]) == (0, 0, 30)


def test_rload_wrong_use(srv):
    assert "loopback" in rload("192.0.2.1:80", code=2)
    assert "number" in rload("-c", "x", to(srv), code=2)
    assert "address" in rload(code=2)
