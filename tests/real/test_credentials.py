"""Where credentials come from and how they change, by the daemon as a whole: sources, commands of the admin interface, children."""
import json
import os
import signal
import threading

import pytest

from harness import *

LOGIN = [{"send": "AUTH ${username} ${password}\r\n", "expect": "+OK", "expect_denied": "-WRONGPASS*"}]


def acl(srv, *words):
    with Conn(srv.sock) as c:
        got = c.ask(resp(*words))
        assert got[:1] in b"+:", (words, got)


def user(srv, name, password):
    acl(srv, "ACL", "SETUSER", name, "reset", "on", ">" + password, "~*", "&*", "+@all")


def put(path, text, mode=0o600):
    """As whoever changes a secret should: a new file over the old one."""
    with open(path + ".new", "w") as f:
        f.write(text if isinstance(text, str) else json.dumps(text))
    os.chmod(path + ".new", mode)
    os.rename(path + ".new", path)


def script(rig, name, text):
    path = rig.path(name)
    with open(path, "w") as f:
        f.write("#!/bin/sh\n" + text)
    os.chmod(path, 0o755)
    return path


def proxy(rig, srv, cred, top=None, **keys):
    keys = dict({"login": LOGIN, "min_idle": 2, "reauth_spread": "0"}, **keys)
    return rig.proxy(srv, top=dict({"credentials": [dict({"name": "c"}, **cred)]}, **(top or {})), credentials="c", **keys)


def cred(d):
    return d.status()["credentials"][0]


def wait_cred(d, **want):
    return d.wait(lambda s: all(s["credentials"][0][k] == v for k, v in want.items()), 10, text=str(want))["credentials"][0]


def idle(d, n=2):
    d.wait_pool(lambda p: sum(s["states"]["idle"] for s in p["servers"]) >= n, timeout=10)


def works(d):
    with Conn(d.port) as c:
        c.ping()


SOURCES = ["static", "env", "file", "directory", "systemd", "command", "stream"]


def source(rig, kind, name, password):
    """(keys of the credential, environment of the daemon)"""
    document = json.dumps({"username": name, "password": password})
    if kind == "static":
        put(rig.path("pw"), password)
        return {"username": name, "password_file": rig.path("pw")}, {}
    if kind == "env":
        return {"source": "env", "env_username": "DB_USER", "env_password": "DB_PASSWORD"}, {"DB_USER": name, "DB_PASSWORD": password}
    if kind == "file":
        put(rig.path("c.json"), document)
        return {"source": "file", "path": rig.path("c.json")}, {}
    if kind == "directory":
        os.makedirs(rig.path("secret/..1"))
        put(rig.path("secret/..1/username"), name)
        put(rig.path("secret/..1/password"), password)
        os.symlink("..1", rig.path("secret/..data"))
        os.symlink("..data/username", rig.path("secret/username"))
        os.symlink("..data/password", rig.path("secret/password"))
        return {"source": "directory", "path": rig.path("secret")}, {}
    if kind == "systemd":
        os.makedirs(rig.path("credentials"))
        put(rig.path("credentials/c"), document, 0o400)
        return {"source": "systemd", "path": "c"}, {"CREDENTIALS_DIRECTORY": rig.path("credentials")}
    put(rig.path("c.json"), document)
    text = "cat %s; echo\n" % rig.path("c.json") + ("exec sleep 1000\n" if kind == "stream" else "")
    return {"source": kind, "argv": [script(rig, "source", text)]}, {}


# Proves: A1 A24 CRED-13
@pytest.mark.parametrize("kind", SOURCES)
def test_every_source_logs_in(rig, kind):
    srv = rig.redis()
    user(srv, "app", "CANARY-1")
    keys, env = source(rig, kind, "app", "CANARY-1")
    d = proxy(rig, srv, keys, top={"log": {"level": "debug"}}, own={"env": env})
    c = wait_cred(d, generation=1, source=kind, last_error="ok")
    assert c["name"] == "c" and c["expires_in_us"] is None and c["age_us"] >= 0
    idle(d)
    works(d)
    assert d.status()["credentials"][0]["subscribers"] >= 2
    code, out, _ = d.ctl("show", "credentials")
    assert code == 0 and all(w in out for w in ("credential", "generation", "subscribers", "last_error", kind))
    seen = [json.dumps(d.status(full=True)), d.metrics_text(), out] + d.log_lines()
    for name in ("cmdline", "environ"):
        if name == "environ" and kind == "env":
            continue        # what the kernel shows is what the daemon was started with
        with open("/proc/%d/%s" % (d.pid, name), "rb") as f:
            seen.append(f.read().decode(errors="replace"))
    assert not [s for s in seen if "CANARY" in s]
    code, out, err = rig.check("-T", tree=d.tree, env=env)
    assert code == 0 and "login" in out and "CANARY" not in out + err, (out, err)
    assert d.term() == 0


@pytest.mark.parametrize("kind", ["file", "command", "stream", "directory"])
def test_a_change_is_used(rig, kind):
    srv = rig.redis()
    user(srv, "app", "one")
    keys, env = source(rig, kind, "app", "one")
    d = proxy(rig, srv, keys)
    wait_cred(d, generation=1)
    idle(d)
    user(srv, "app2", "two")
    if kind == "directory":
        os.makedirs(rig.path("secret/..2"))
        put(rig.path("secret/..2/username"), "app2")
        put(rig.path("secret/..2/password"), "two")
        os.symlink("..2", rig.path("secret/..data.new"))
        os.rename(rig.path("secret/..data.new"), rig.path("secret/..data"))
    else:
        put(rig.path("c.json"), {"username": "app2", "password": "two"})
    if kind == "command":
        code, out, err = d.ctl("refresh", "c")
        assert (code, out) == (0, "new: generation 2\n"), (code, out, err)
    if kind == "stream":
        # It ends; the next one prints what is there now.
        child = poll(lambda: children(d.pid), 5, "the child")[0]
        os.kill(child, signal.SIGTERM)
    wait_cred(d, generation=2)
    acl(srv, "ACL", "DELUSER", "app")
    poll(lambda: {"app2"} == {u for u in users(srv) if u != "default"}, 10, "all connections to be the new user's")
    works(d)
    assert metric(d.metrics(), "leased_credential_generation", credential="c") == 2


def users(srv):
    with Conn(srv.sock) as c:
        c.send(resp("CLIENT", "LIST"))
        n = int(c.line()[1:])
        return [w[5:] for w in c.exactly(n).decode().split() if w.startswith("user=")]


def children(pid):
    with open("/proc/%d/task/%d/children" % (pid, pid)) as f:
        return [int(w) for w in f.read().split()]


# Proves: B3 B4
def test_refusals_of_many_pools_ask_once(rig):
    """Two workers, four pools, one credential: the server changes first, and the source is asked once."""
    srv = rig.redis()
    user(srv, "app", "one")
    put(rig.path("c.json"), {"username": "app", "password": "one"})
    argv = [script(rig, "source", "echo $LEASED_REASON >> %s; cat %s\n" % (rig.path("asked"), rig.path("c.json")))]
    ports = [free_port() for _ in range(4)]
    d = rig.leased([pool("p%d" % i, srv, listen="127.0.0.1:%d" % p, credentials="c", login=LOGIN) for i, p in enumerate(ports)],
                   workers=2, credentials=[{"name": "c", "source": "command", "argv": argv}])
    for p in ports:
        with Conn(p) as c:
            c.ping()
    put(rig.path("c.json"), {"username": "app", "password": "two"})
    user(srv, "app", "two")
    clients = [rig.client(p) for p in ports * 5]
    threads = [threading.Thread(target=c.ping) for c in clients]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert open(rig.path("asked")).read().split() == ["startup", "denied"]
    assert d.status()["credentials"][0]["generation"] == 2
    assert metric(d.metrics(), "leased_credential_asked_total", credential="c", reason="denied") == 1


def test_ready_does_not_wait_for_a_command(rig):
    """Its clients do; a pool that needs no credential serves meanwhile."""
    srv, plain = rig.redis(), rig.redis()
    user(srv, "app", "one")
    os.mkfifo(rig.path("gate"))
    argv = [script(rig, "source", "read line < %s; echo app:one\n" % rig.path("gate"))]
    ports = [free_port(), free_port()]
    d = rig.leased([pool("p", srv, listen="127.0.0.1:%d" % ports[0], credentials="c", login=LOGIN),
                    pool("q", plain, listen="127.0.0.1:%d" % ports[1])],
                   credentials=[{"name": "c", "source": "command", "argv": argv}])
    c = rig.client(ports[0])
    c.send(resp("PING"))
    d.wait_pool(lambda p: p["waiters"] == 1, "p")
    with Conn(ports[1]) as other:
        other.ping()
    assert cred(d)["generation"] == 0 and cred(d)["refreshing"]
    with open(rig.path("gate"), "w") as f:
        f.write("go\n")
    assert c.line() == b"+PONG\r\n"
    assert cred(d)["generation"] == 1


# Proves: B8
def test_refresh_tells_what_came_of_it(rig):
    srv = rig.redis()
    user(srv, "app", "one")
    keys, env = source(rig, "file", "app", "one")
    d = proxy(rig, srv, keys)
    idle(d)
    assert d.ctl("refresh", "c")[:2] == (0, "unchanged: generation 1\n")
    put(rig.path("c.json"), "{ torn")
    code, out, err = d.ctl("refresh", "c")
    assert code == 1 and "not a valid credential" in err, (code, out, err)
    assert cred(d)["generation"] == 1 and cred(d)["last_error"] == "invalid"
    os.unlink(rig.path("c.json"))
    assert d.ctl("refresh", "c")[0] == 1
    put(rig.path("c.json"), {"username": "app", "password": "one"}, 0o644)
    code, out, err = d.ctl("refresh", "c")
    assert code == 1 and "not permitted" in err, (code, out, err)
    works(d)
    assert d.ctl("refresh", "nobody")[0] == 1 and d.ctl("refresh")[0] == 2 and d.ctl("refresh", "c", "d")[0] == 2
    assert d.request("POST", "/refresh")[0] == 400 and d.request("GET", "/refresh?credential=c")[0] == 405


def test_sighup_asks_every_source(rig):
    srv = rig.redis()
    user(srv, "app", "one")
    put(rig.path("c.json"), {"username": "app", "password": "one"})
    d = proxy(rig, srv, {"source": "command", "argv": [script(rig, "source", "cat " + rig.path("c.json"))]})
    wait_cred(d, generation=1)
    user(srv, "app", "two")
    put(rig.path("c.json"), {"username": "app", "password": "two"})
    d.signal(signal.SIGHUP)
    wait_cred(d, generation=2)
    works(d)


# Proves: SEC-2
def test_permissions(rig):
    srv = rig.redis()
    user(srv, "app", "CANARY")
    for kind in ("file", "directory"):
        keys, env = source(rig, kind, "app", "CANARY")
        t = {"credentials": [dict(keys, name="c")],
             "pools": [pool("p", srv, listen="127.0.0.1:%d" % free_port(), credentials="c", login=LOGIN)]}
        assert rig.check("-t", tree=t)[0] == 0
        os.chmod(rig.path("c.json") if kind == "file" else rig.path("secret/..1/password"), 0o644)
        code, out, err = rig.check("-t", tree=t)
        assert code == 77 and "CANARY" not in out + err, (kind, out, err)
        assert rig.check(tree=t)[0] == 77
        t["credentials"][0]["strict_permissions"] = False
        assert rig.check("-T", tree=t)[0] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_file_must_be_readable_for_the_user_it_runs_as(rig):
    srv = rig.redis()
    user(srv, "app", "one")
    keys, env = source(rig, "file", "app", "one")
    t = {"credentials": [dict(keys, name="c")], "user": "nobody",
         "pools": [pool("p", srv, listen="127.0.0.1:%d" % free_port(), credentials="c", login=LOGIN)]}
    code, out, err = rig.check(tree=t)
    assert code == 77 and "credential c: " in err, (code, out, err)


def test_T_goes_where_the_credential_says(rig):
    srv, dead = rig.redis(), free_port()
    user(srv, "app", "one")
    put(rig.path("c.json"), {"username": "app", "password": "one", "host": "127.0.0.1", "port": srv.port})
    d = proxy(rig, dead, {"source": "file", "path": rig.path("c.json")})
    works(d)
    code, out, err = rig.check("-T", tree=d.tree)
    assert code == 0 and "127.0.0.1:%d" % srv.port in out, (out, err)
    d.tree["pools"][0]["servers"].append("127.0.0.1:%d" % srv.port)     # of several servers none moves
    code, out, err = rig.check("-T", tree=d.tree)
    assert code == 69 and "127.0.0.1:%d: dial: connection refused" % dead in out and "127.0.0.1:%d: ok" % srv.port in out, (out, err)


def test_T_tells_of_sources_that_fail(rig):
    srv = rig.redis()
    for name, keys, words in (
            ("missing", {"source": "file", "path": rig.path("nowhere.json")}, "not found"),
            ("failing", {"source": "command", "argv": [script(rig, "fail", "exit 1")], "source_retries": 1}, "failed"),
            ("slow", {"source": "command", "argv": [script(rig, "slow", "exec sleep 1000")], "source_retries": 1,
                      "source_timeout": "100ms"}, "timed out")):
        t = {"credentials": [dict(keys, name=name)],
             "pools": [pool("p", srv, listen="127.0.0.1:%d" % free_port(), credentials=name, login=LOGIN)]}
        code, out, err = rig.check("-T", tree=t)
        assert code == 69 and "credential %s: " % name in out and words in out and "no credential yet" in out, (out, err)


# Proves: SEC-2
@pytest.mark.parametrize("kind", ["command", "stream"])
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGQUIT])
def test_children_end_with_the_daemon(rig, kind, sig):
    pids = rig.path("pids")
    argv = [script(rig, "source", "sleep 1000 &\necho $$ $! > %s.new; mv %s.new %s; wait\n" % (pids, pids, pids))]
    d = proxy(rig, rig.redis(), {"source": kind, "argv": argv})
    both = poll(lambda: os.path.exists(pids) and open(pids).read().split(), 5, "the child")
    d.signal(sig)
    assert d.wait_exit(10) == 0
    poll(lambda: not [p for p in both if os.path.exists("/proc/%s" % p)], 5, "the children to be gone")


def test_programs_see_no_secrets(rig):
    """Not in their environment, not in their arguments, and of the daemon's variables only those they were promised."""
    srv = rig.redis()
    user(srv, "app", "CANARY")
    out = rig.path("seen")
    argv = [script(rig, "source", "{ env; tr '\\0' '\\n' < /proc/$$/cmdline; ls -l /proc/$$/fd; } > %s.new; mv %s.new %s\n"
                   "echo app:CANARY\n" % (out, out, out)), "an argument"]
    d = proxy(rig, srv, {"source": "command", "argv": argv, "pass_env": ["PROMISED"]},
              own={"env": {"PROMISED": "yes", "OTHER": "CANARY-of-the-environment"}})
    wait_cred(d, generation=1)
    os.unlink(out)
    assert d.ctl("refresh", "c")[:2] == (0, "unchanged: generation 1\n")
    text = open(out).read()
    assert "CANARY" not in text and "PROMISED=yes" in text and "LEASED_REASON=manual" in text
    assert "LEASED_GENERATION=1" in text and "LEASED_USERNAME=app" in text and "an argument" in text
    assert "socket:" not in text and "anon_inode" not in text
