"""The admin socket, leasectl, the metrics, and what must never be seen in any of them."""
import json
import os
import re
import signal
import stat
import threading
import time

import pytest

from harness import *

READY = [{"send": "PING\r\n", "expect": "+PONG"}]


# Proves: C26 D15
def test_status_has_its_promised_form(rig):
    srv = rig.bad()
    d = rig.proxy(srv, reuse="script", ready_check=READY)
    with Conn(d.port) as c:
        c.ask(b"c1 1 x\r\n")
    s = d.wait(lambda s: states(s["pools"][0])["idle"] == 1, full=True)
    assert {"version", "pid", "uptime_us", "state", "limits", "workers", "pools"} <= set(s)
    assert s["pid"] == d.pid and s["state"] == "running"
    assert {"max_clients", "clients", "fd_budget", "fd_in_use", "fd_unused", "fd_releasing", "nofile", "reserved"} <= set(s["limits"])
    assert {"id", "loop_lag_max_us", "pools"} <= set(s["workers"][0])
    p = s["pools"][0]
    assert {"name", "protocol", "clients", "waiters", "oldest_wait_us", "why", "draining", "listeners", "stats", "servers",
            "connections", "client_list"} <= set(p)
    assert set(p["clients"]) == {"idle", "waiting", "active", "closing"} and p["protocol"] == "tcp"
    assert {"name", "addresses", "up", "dialable", "retry_in_us", "failures", "last_error", "max_size", "states"} <= set(p["servers"][0])
    assert set(p["servers"][0]["states"]) == {"dialing", "securing", "login", "idle", "probing", "reauth", "leased",
                                              "cleaning", "closing"}
    assert {"count", "sum_us", "p50_us", "p99_us"} <= set(p["stats"]["lease_wait"])
    assert s["limits"]["fd_in_use"] == 1 == s["limits"]["fd_unused"]
    short = d.pool()
    assert "connections" not in short and "client_list" not in short


# Proves: C26 D15
def test_metrics_are_prometheus_text(rig):
    srv = rig.bad()
    d = rig.proxy(srv, reuse="script", ready_check=READY, max_size=2, lease_timeout="50ms")
    held = [rig.client(d.port) for _ in range(2)]
    for c in held:
        c.ask(b"c1 1 x\r\n")
    assert rig.client(d.port).ended() == "eof"
    m = d.metrics()
    with open(os.path.join(TOP, "src", "base", "metrics.def")) as f:
        rows = re.findall(r'^(COUNTER|COUNTER_BY_ERR|HISTOGRAM|GAUGE|TALLY)\((\w+), "(\w+)"', f.read(), re.M)
    assert len(rows) > 30
    text = d.metrics_text()
    for kind, _, name in rows:
        full = "leased_" + name + {"HISTOGRAM": "_seconds", "GAUGE": ""}.get(kind, "_total")
        want = {"HISTOGRAM": "histogram", "GAUGE": "gauge"}.get(kind, "counter")
        assert "# TYPE %s %s\n" % (full, want) in text, full
        assert "# HELP %s " % full in text
    assert metric(m, "leased_up") == 1 and metric(m, "leased_build_info") == 1
    assert abs(metric(m, "leased_start_time_seconds") - time.time()) < 60
    assert metric(m, "leased_leases_total", pool="p") == 2 and metric(m, "leased_client_connections_total") == 3
    assert metric(m, "leased_lease_failures_total", reason="timeout") == 1
    assert metric(m, "leased_upstream_connections", state="leased") == 2 and metric(m, "leased_pool_max_size") == 2
    assert metric(m, "leased_clients", state="active") == 2
    buckets = sorted((float(dict(k)["le"].replace("+Inf", "inf")), v) for k, v in m["leased_lease_wait_seconds_bucket"].items())
    assert buckets[-1][0] == float("inf") and buckets[-1][1] == metric(m, "leased_lease_wait_seconds_count") >= 2
    assert [v for _, v in buckets] == sorted(v for _, v in buckets)
    r = rig.run(["curl", "-sSi", "--unix-socket", d.admin, "http://x/metrics"])
    assert r.returncode == 0 and "text/plain; version=0.0.4" in r.stdout


def test_admin_socket_is_private(rig):
    d = rig.proxy(rig.bad())
    assert stat.S_IMODE(os.stat(d.admin).st_mode) == 0o600
    e = rig.leased(pool("p", rig.bad(), listen="127.0.0.1:%d" % free_port()),
                   admin={"listen": "unix:" + rig.path("a.sock"), "mode": Raw("0660"), "group": "daemon"})
    st = os.stat(rig.path("a.sock"))
    import grp
    assert stat.S_IMODE(st.st_mode) == 0o660 and st.st_gid == grp.getgrnam("daemon").gr_gid
    assert e.running


# Proves: SEC-1
def test_admin_on_tcp_only_shows(rig):
    port, port2 = free_port(), free_port()
    d = rig.leased(pool("p", rig.bad(), listen="127.0.0.1:%d" % port2), admin={"listen": "127.0.0.1:%d" % port})
    url = "http://127.0.0.1:%d" % port
    assert "leased_up 1" in rig.run(["curl", "-sS", url + "/metrics"]).stdout
    assert json.loads(rig.run(["curl", "-sS", url + "/status.json"]).stdout)["pid"] == d.pid
    for path in ("/shutdown?mode=immediate", "/drain?pool=p&stop=1", "/resume?pool=p"):
        r = rig.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", url + path])
        assert r.stdout in ("403", "404", "405"), (path, r.stdout)
    with Conn(port2) as c:
        c.ask(b"c1 1 x\r\n")
    code, out, err = rig.check("-t", tree=dict(d.tree, admin={"listen": "0.0.0.0:%d" % port}))
    assert code == 78 and "loopback" in out + err, "the admin interface is never public"


# Proves: F:G11
def test_admin_requests_that_are_wrong(rig):
    d = rig.proxy(rig.bad())
    assert d.request("GET", "/nothing")[0] == 404
    assert d.request("POST", "/status.json")[0] in (404, 405)
    assert d.request("GET", "/shutdown")[0] in (404, 405)
    assert d.request("POST", "/drain?pool=nobody")[0] == 404
    assert d.request("POST", "/drain?pool=p&timeout=soon")[0] == 400
    assert d.request("POST", "/shutdown?mode=sideways")[0] == 400
    hangers = [rig.client(d.admin) for _ in range(30)]
    for c in hangers:
        c.send(b"GET /status.json HT")
    big = rig.client(d.admin)
    try:
        big.send(b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 3000000)
    except OSError:
        pass
    for _ in range(10):
        with Conn(d.port) as c:
            assert c.ask(b"c1 1 x\r\n") == b"c1 1 x\r\n"
    assert d.status()["state"] == "running"


# Proves: C24
def test_leasectl_shows(rig):
    srv = rig.bad()
    d = rig.proxy(srv, name="cache", reuse="script", ready_check=READY)
    a = rig.client(d.port)
    a.ask(b"c1 1 x\r\n")
    assert d.ctl("ping")[0] == 0
    for what, words in (("pools", ["cache", "cl_active", "cl_waiting", "sv_active", "sv_idle", "maxwait"]),
                        ("servers", ["cache", "127.0.0.1:%d" % srv.port]), ("clients", ["cache", "127.0.0.1:"]),
                        ("limits", ["max_clients", "fd_budget"]), ("snapshot", ["127.0.0.1:%d" % srv.port, "leased"])):
        code, out, err = d.ctl("show", what)
        assert code == 0 and not err and all(w in out for w in words), (what, out, err)
        code, out, err = d.ctl("--json", "show", what)
        assert code == 0, (what, err)
        json.loads(out)
        assert d.ctl("SHOW", what.upper())[0] == 0


def test_pins_are_told(rig):
    """Clients that keep their connection between two requests, and why, while they do."""
    srv = rig.redis()
    d = rig.proxy(srv, protocol="redis", mode="transaction")
    watcher, multi, free = (rig.client(d.port) for _ in range(3))
    watcher.ask(resp("WATCH", "k"))
    multi.ask(resp("MULTI"))
    free.ping()
    p = d.wait_pool(lambda p: p["pinned"] == {"watch": 1, "transaction": 1}, full=True)
    assert sorted(str(c["pin"]) for c in p["client_list"]) == ["None", "transaction", "watch"]
    assert metric(d.metrics(), "leased_pinned_clients", pool="p", reason="watch") == 1
    row = json.loads(d.ctl("--json", "show", "pools")[1])[0]
    assert row["sv_pinned"] == 2 and row["mode"] == "transaction" and row["sv_reauth"] == 0
    assert "watch" in d.ctl("show", "clients")[1] and "sv_pinned" in d.ctl("show", "pools")[1]
    watcher.ask(resp("UNWATCH"))
    multi.close()
    d.wait_pool(lambda p: p["pinned"] == {})
    session = rig.proxy(srv, protocol="redis")
    with Conn(session.port) as c:
        c.ping()
        session.wait_pool(lambda p: p["pinned"] == {"session": 1})
        assert json.loads(session.ctl("--json", "show", "pools")[1])[0]["sv_pinned"] == 0


# Proves: C23
def test_leasectl_exit_codes(rig):
    d = rig.proxy(rig.bad())
    a = rig.client(d.port)
    a.ask(b"c1 1 x\r\n")
    assert d.ctl("drain", "p", "50ms")[0] == 3
    assert d.ctl("drain", "nobody")[0] == 1
    assert d.ctl("resume", "nobody")[0] == 1
    for args in (["dance"], ["show", "dance"], ["drain", "p", "soon"], ["--nonsense"], [],
                 ["--watch", "soon", "show", "pools"], ["--watch", "-1", "show", "pools"], ["--watch", "1x", "show", "pools"]):
        code, out, err = d.ctl(*args)
        assert code == 2 and err, (args, code, err)
    r = rig.run([LEASECTL, "-s", rig.path("nobody.sock"), "ping"])
    assert r.returncode == 4 and "nobody.sock" in r.stderr
    assert rig.run([LEASECTL, "--help"]).returncode == 0
    a.close()
    assert d.ctl("drain")[0] == 0
    assert d.ctl("drain", "p", "1s", "stop")[0] == 0 and d.ctl("resume")[0] == 0


# Proves: LIFE-3
def test_leasectl_shutdown(rig):
    d = rig.proxy(rig.bad())
    a = rig.client(d.port)
    a.ask(b"c1 1 x\r\n")
    assert d.ctl("shutdown", "graceful")[0] == 0
    d.wait(lambda s: s["state"] == "draining")
    assert a.ask(b"c1 2 x\r\n") == b"c1 2 x\r\n" and d.running
    a.close()
    assert d.wait_exit() == 0
    e = rig.proxy(rig.bad())
    b = rig.client(e.port)
    b.ask(b"c1 1 x\r\n")
    assert e.ctl("shutdown", "immediate")[0] == 0
    t = time.monotonic()
    assert e.wait_exit() == 0 and time.monotonic() - t < 1 * SLOW


# Proves: C23
def test_two_drains_at_a_time(rig):
    d = rig.proxy(rig.bad())
    a = rig.client(d.port)
    a.ask(b"c1 1 x\r\n")
    answers = []
    t = threading.Thread(target=lambda: answers.append(d.ctl("drain", "p", "5s")[0]))
    t.start()
    d.wait_pool(lambda p: p["draining"])
    assert d.ctl("drain", "p", "100ms")[0] in (1, 3)
    assert d.status()["state"] == "running"             # the admin socket is free meanwhile
    a.close()
    t.join()
    assert answers == [0]


# Proves: CRED-13 B16
@pytest.mark.parametrize("inline", [True, False])
def test_secrets_are_nowhere_to_be_seen(rig, inline):
    word = "CANARY_s3cret"
    srv = rig.redis("--requirepass", word)
    with open(rig.path("pw"), "w") as f:
        f.write(word + "\n")
    os.chmod(rig.path("pw"), 0o600)
    cred = {"name": "c", "username": "default"}
    cred.update({"password": word} if inline else {"password_file": rig.path("pw")})
    login = [{"send": "AUTH ${username} ${password}\r\n", "expect": "+OK", "expect_denied": "-WRONGPASS*"}]
    d = rig.proxy(srv, top={"credentials": [cred], "log": {"level": "debug"}}, credentials="c", login=login, min_idle=2)
    for _ in range(5):
        with Conn(d.port) as c:
            c.ping()
    with Conn(srv.port) as c:
        assert c.ask(resp("AUTH", word)) == b"+OK\r\n"
        c.ask(resp("CONFIG", "SET", "requirepass", "other"))        # from now on it is denied
    for _ in range(3):
        rig.client(d.port)
    d.wait_pool(lambda p: p["stats"]["auth_denied"] >= 1)
    seen = [d.request("GET", "/status.json?full=1")[1], d.metrics_text()]
    seen += [d.ctl("show", w)[1] for w in ("pools", "servers", "clients", "limits", "snapshot")]
    for name in ("cmdline", "environ") if may_trace() else ("cmdline",):
        with open("/proc/%d/%s" % (d.pid, name), "rb") as f:
            seen.append(f.read().decode(errors="replace"))
    seen += d.read_notices()
    d.signal(signal.SIGQUIT)
    d.wait_exit()
    seen += d.log_lines()
    assert len(d.log_lines()) > 10
    assert not [s for s in seen if word in s]
    assert "CANARY" not in "".join(rig.check("-t", "-c", d.config)[1:]) + "".join(rig.check("--dump-config", "-c", d.config)[1:])
    if inline:
        assert "warning" in "".join(rig.check("-t", "-c", d.config)[1:])
    need_trace("the environment")       # all else was looked at


# Proves: E24 RES-7
def test_bytes_from_the_wire_do_not_forge_lines(rig):
    """Nothing that a client sends appears in a log as a line of its own."""
    d = rig.proxy(rig.bad(), top={"log": {"level": "debug"}})
    for _ in range(3):
        with Conn(d.port) as c:
            c.send(b"evil 1\r\n2026-01-01T00:00:00.000Z error forged.line\r\n").line()
    assert d.term() == 0
    assert not d.log_lines("forged")


def test_stats_line(rig):
    d = rig.proxy(rig.bad(), top={"log": {"level": "info", "stats_interval": "200ms"}})
    with Conn(d.port) as c:
        c.ask(b"c1 1 x\r\n")
    poll(lambda: len([l for l in d.log_lines("stats") if "leases" in l]) >= 2, 5, "a line of totals")
    off = rig.proxy(rig.bad(), top={"log": {"level": "info", "connections": False}})
    with Conn(off.port) as c:
        c.ask(b"c1 1 x\r\n")
    assert off.term() == 0
    assert not off.log_lines("client.")


# Proves: E24
def test_connections_are_logged_with_reason(rig):
    d = rig.proxy(rig.bad(), top={"log": {"level": "info"}})
    with Conn(d.port) as c:
        c.ask(b"c1 1 x\r\n")
    assert d.term() == 0
    text = [l for l in d.log_lines() if "client" in l]
    assert [l for l in text if "pool=p" in l and "reason=" in l], text

