"""lcheck sees what it is for: wrong bytes, bytes nobody asked for, errors by kind, gaps."""
import json
import os
import signal
import subprocess
import sys
import time

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from badserver import BadServer  # noqa: E402
from relay import Relay  # noqa: E402

LCHECK = os.environ.get("LCHECK_BIN", os.path.join(HERE, "..", "..", "build", "tests", "lcheck"))
pytestmark = pytest.mark.skipif(not os.path.exists(LCHECK), reason="lcheck is not built: make tests-build")


def lcheck(*args, code=0):
    p = subprocess.run([LCHECK, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30)
    assert p.returncode == code, p.stderr.decode()
    return json.loads(p.stdout) if code != 2 else p.stderr.decode()


@pytest.fixture
def srv():
    with BadServer() as s:
        yield s


def to(port):
    return "127.0.0.1:%d" % port.port


def test_clean_run_counts_right(srv):
    r = lcheck("-P", "echo", "-c", 20, "-N", 30, "-r", 10, "-k", "half", to(srv))
    assert (r["requests"], r["errors_total"], r["mismatches"], r["served"], r["min_requests"]) == (600, 0, 0, 20, 30)
    assert r["connects"] == 60 == srv.accepted and srv.requests == 600
    # Every connection carried the requests of one client.
    assert all(len(c.owners) == 1 for c in srv.conns.values())


def test_total_is_exact(srv):
    assert lcheck("-P", "ping", "-c", 7, "-n", 100, to(srv))["requests"] == 100 == srv.pings


def test_one_flipped_byte_is_a_mismatch(srv):
    with Relay(srv.port) as r:
        r.next(down=dict(corrupt_at=700))
        got = lcheck("-P", "echo", "-c", 1, "-n", 100, to(r), code=1)
    assert got["mismatches"] == 1 and "not the bytes" in got["first_mismatch"]


@pytest.mark.parametrize("how", [dict(extra=b"x"), dict(extra_late=b"x\n"), dict(greeting=b"hello\n")])
def test_bytes_nobody_asked_for_are_a_mismatch(srv, how):
    srv.next(how)
    got = lcheck("-P", "ping", "-c", 1, "-n", 20, "-i", 5, to(srv), code=1)
    assert got["mismatches"] == 1 and got["requests"] == 20


def test_errors_by_kind(srv):
    srv.next(dict(rst_after_out=30), dict(fin_after_out=31), dict(half_reply=2), dict(pong=b"-ERR no\r\n"))
    got = lcheck("-P", "ping", "-c", 1, "-n", 50, "-T", 100, to(srv))
    assert got["requests"] == 50 and got["mismatches"] == 0
    assert got["errors"] == {"refused": 0, "connect": 0, "eof": 1, "reset": 1, "timeout": 1, "reply": 1}
    lcheck("-P", "ping", "-c", 1, "-n", 50, "-x", to(srv))
    srv.next(dict(rst_after_out=30))
    lcheck("-P", "ping", "-c", 1, "-n", 50, "-x", to(srv), code=1)


def test_gap_of_an_outage_and_signal(srv):
    p = subprocess.Popen([LCHECK, "-P", "ping", "-c", "3", "-t", "20", to(srv)], stdout=subprocess.PIPE)
    srv.wait(lambda: srv.pings > 100)
    with srv.lock:
        srv.refuse()
        srv.cut("rst")
    began = time.monotonic()
    time.sleep(0.2)     # this is the outage
    srv.listen()
    seen, took = srv.pings, time.monotonic() - began
    srv.wait(lambda: srv.pings > seen + 100)
    p.send_signal(signal.SIGTERM)
    got = json.loads(p.communicate(timeout=10)[0])
    assert p.returncode == 0 and 0.2 < got["longest_gap_us"] / 1e6 < took + 0.5
    assert got["errors"]["refused"] > 0 and 1 <= got["errors"]["reset"] <= 3


def test_silent_and_slow_clients_stay(srv):
    got = lcheck("-P", "ping", "-c", 2, "-s", 50, "-z", 3, "-Z", 10000000, "-n", 1000, to(srv))
    assert got["silent"] == {"open": 50, "closed": 0} and got["slow"] == {"open": 3, "closed": 0}
    assert srv.peak == 55
    assert sum(c.bytes_out > 0 for c in srv.conns.values()) == 5


def test_wrong_use(srv):
    assert "loopback" in lcheck("-P", "ping", "192.0.2.1:80", code=2)
    assert "number" in lcheck("-P", "ping", "-c", "x", to(srv), code=2)
    assert "protocol" in lcheck("-P", "smtp", to(srv), code=2)
