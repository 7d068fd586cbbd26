"""The command line: what it says, how it ends, and what broken configurations are told."""
import glob
import os
import re

import pytest

from harness import *

VECTORS = os.path.join(TOP, "tests", "vectors", "conf")


def tree(rig, **more):
    return dict({"pools": [pool("p", "127.0.0.1:6379", listen="127.0.0.1:%d" % free_port())]}, **more)


# Proves: F:G1
def test_t_valid(rig):
    code, out, err = rig.check("-t", tree=tree(rig))
    assert code == 0 and "configuration %s is valid" % rig.path("check.conf") in out + err
    code, out, err = rig.check("--test", "--config", rig.path("check.conf"))
    assert code == 0
    assert rig.check("-t", env={"LEASED_CONFIG": rig.path("check.conf")})[0] == 0


# Proves: F:G1
@pytest.mark.parametrize("name,text,line,words", [
    ("syntax", 'pools = (\n  { name = "p"; listen = \n', None, ["syntax"]),
    ("unknown key", 'pools = ( { name = "p"; listen = "127.0.0.1:1000";\n servers = "127.0.0.1:1";\n  max_sise = 3; } );\n', 3,
     ["max_sise", "max_size"]),
    ("unknown group", 'limit = { max_clients = 3; };\npools = ( );\n', 1, ["limit", "limits"]),
    ("wrong type", 'pools = ( { name = "p"; listen = "127.0.0.1:1000"; servers = "127.0.0.1:1";\n max_size = "x"; } );\n', 2,
     ["max_size"]),
    ("out of range", 'pools = ( { name = "p"; listen = "127.0.0.1:1000"; servers = "127.0.0.1:1";\n\n max_size = -1; } );\n', 3,
     ["max_size", "100000"]),
    ("bare duration", 'pools = ( { name = "p"; listen = "127.0.0.1:1000"; servers = "127.0.0.1:1";\n max_age = "30"; } );\n', 2,
     ["max_age"]),
    ("choice", 'pools = ( { name = "p"; listen = "127.0.0.1:1000"; servers = "127.0.0.1:1";\n reuse = "scrip"; } );\n', 2,
     ["reuse", "script"]),
    ("duplicate", 'pools = ( { name = "p"; listen = "127.0.0.1:1000"; servers = "127.0.0.1:1"; },\n { name = "p"; '
     'listen = "127.0.0.1:1001"; servers = "127.0.0.1:1"; } );\n', 2, ["p", "already", "line 1"]),
    ("no servers", 'pools = ( { name = "p"; listen = "127.0.0.1:1000"; } );\n', 1, ["servers"]),
    ("script", 'pools = ( { name = "p"; listen = "127.0.0.1:1000"; servers = "127.0.0.1:1"; reuse = "script"; } );\n', 1,
     ["ready_check"]),
    ("include", '@include "nowhere.conf"\n', None, ["nowhere.conf"]),
    ("protocol", 'pools = ( { name = "p"; listen = "127.0.0.1:1000"; servers = "127.0.0.1:1"; protocol = "tpc"; } );\n', 1,
     ["tpc", "tcp"]),
    ("credential", 'pools = ( { name = "p"; listen = "127.0.0.1:1000"; servers = "127.0.0.1:1"; credentials = "x"; } );\n', 1,
     ["credentials"]),
    ("opaque mode", 'pools = ( { name = "p"; listen = "127.0.0.1:1000"; servers = "127.0.0.1:1";\n mode = "transaction"; } );\n', 2,
     ["mode", "tcp", "session"]),
    ("opaque users", 'pools = ( { name = "p"; listen = "127.0.0.1:1000"; servers = "127.0.0.1:1";\n users = ( { name = "u"; uid = 0; } ); } );\n', 2,
     ["users", "tcp"]),
    ("opaque deny_commands", 'pools = ( { name = "p"; listen = "127.0.0.1:1000"; servers = "127.0.0.1:1";\n deny_commands = "GET"; } );\n', 2,
     ["deny_commands", "tcp"]),
    ("opaque safe_commands", 'pools = ( { name = "p"; listen = "127.0.0.1:1000"; servers = "127.0.0.1:1";\n safe_commands = "JSON.*"; } );\n', 2,
     ["safe_commands", "tcp"]),
    ("redis login", 'pools = ( { name = "p"; listen = "127.0.0.1:1000"; servers = "127.0.0.1:1"; protocol = "redis";\n login = ( { send = "x"; expect = "y"; } ); } );\n', 2,
     ["login", "by itself", "credentials"]),
    ("redis health_check", 'pools = ( { name = "p"; listen = "127.0.0.1:1000"; servers = "127.0.0.1:1"; protocol = "redis";\n health_check = ( { send = "x"; expect = "y"; } ); } );\n', 2,
     ["health_check", "by itself"]),
    ("redis ready_check", 'pools = ( { name = "p"; listen = "127.0.0.1:1000"; servers = "127.0.0.1:1"; protocol = "redis";\n reuse = "script"; ready_check = ( { send = "x"; expect = "y"; } ); } );\n', 2,
     ["ready_check", "by itself"]),
    ("redis reuse", 'pools = ( { name = "p"; listen = "127.0.0.1:1000"; servers = "127.0.0.1:1"; protocol = "redis";\n reuse = "on_idle"; } );\n', 2,
     ["reuse", "redis knows"]),
    ("redis deny", 'pools = ( { name = "p"; listen = "127.0.0.1:1000"; servers = "127.0.0.1:1"; protocol = "redis";\n deny_commands = ( "GET", "FLUSHAL" ); } );\n', 2,
     ["deny_commands", "FLUSHAL"]),
    ("redis uids", 'pools = ( { name = "p"; listen = "127.0.0.1:1000"; servers = "127.0.0.1:1"; protocol = "redis";\n users = ( { name = "u"; uid = ( 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 ); } ); } );\n', 2,
     ["uid", "31", "30"]),
    ("address", 'pools = ( { name = "p"; listen = "127.0.0.1:99999"; servers = "127.0.0.1:1"; } );\n', 1, ["99999"]),
])
def test_t_invalid(rig, name, text, line, words):
    code, out, err = rig.check("-t", text=text)
    assert code == 78, (out, err)
    path = rig.path("check.conf")
    lines = [l for l in (out + err).splitlines() if all(w in l for w in words)]
    assert lines, (words, out, err)
    if line:
        assert any("%s:%d:" % (path, line) in l for l in lines), lines
    else:
        assert path in out + err
    # the same when it is to serve
    d = rig.leased(text=text, wait=False, expect_exit=78)
    assert d.wait_exit() == 78 and d.stderr()


def test_t_warns_of_what_has_no_effect(rig):
    t = tree(rig)
    t["pools"][0].update(protocol="redis", mode="transaction", multiplex_connections=2)
    code, out, err = rig.check("-t", tree=t)
    assert code == 0 and "warning: multiplex_connections" in out + err
    t["pools"][0]["mode"] = "request"
    assert "warning" not in "".join(rig.check("-t", tree=t)[1:])


# Proves: F:G1
def test_all_independent_mistakes_are_told_at_once(rig):
    code, out, err = rig.check("-t", text='''
workers = 99;
pools = ( { name = "p"; listen = "127.0.0.1:1000"; servers = "127.0.0.1:1"; max_age = "soon"; quiet_tyme = "1s"; } );
''')
    assert code == 78
    for w in ("workers", "max_age", "quiet_tyme"):
        assert w in out + err


# Proves: F:G1
def test_t_files_that_are_none(rig):
    for path in ("/nonexistent/leased.conf", rig.dir):
        code, out, err = rig.check("-t", "-c", path)
        assert code == 78 and path in out + err, (code, out, err)
    loop = rig.path("loop.conf")
    with open(loop, "w") as f:
        f.write('@include "loop.conf"\n')
    code, out, err = rig.check("-t", "-c", loop)
    assert code == 78 and "loop.conf" in out + err


# Proves: F:G1
def test_t_a_hundred_megabytes(rig):
    path = rig.path("big.conf")
    with open(path, "w") as f:
        for _ in range(100):
            f.write("# " + "x" * (1 << 20) + "\n")
        f.write("nonsense = 1;\n")
    code, out, err = rig.check("-t", "-c", path)
    assert code == 78 and path in out + err


# Proves: SEC-2
def test_permissions_of_a_password_file(rig):
    secret = rig.path("pw")
    with open(secret, "w") as f:
        f.write("CANARY_file\n")
    t = tree(rig, credentials=[{"name": "c", "username": "u", "password_file": secret}])
    t["pools"][0].update(credentials="c", login=[{"send": "AUTH ${username} ${password}\r\n", "expect": "+OK"}])
    os.chmod(secret, 0o600)
    code, out, err = rig.check("-t", tree=t)
    assert code == 0 and "CANARY" not in out + err
    os.chmod(secret, 0o644)
    code, out, err = rig.check("-t", tree=t)
    assert code == 77 and secret in out + err and "CANARY" not in out + err
    os.unlink(secret)
    code, out, err = rig.check("-t", tree=t)
    assert code == 78 and secret in out + err


# Proves: E22
@pytest.mark.parametrize("args", [["--nonsense"], ["-Z"], ["-c"], ["-o"], ["-t", "stray"], ["-o", "novalue", "-t"]])
def test_wrong_use(rig, args):
    code, out, err = rig.check(*args, env={"LEASED_CONFIG": "/nonexistent"})
    assert code == 64 and err, (code, out, err)


def test_V_and_h(rig):
    for opt in ("-V", "--version"):
        code, out, err = rig.check(opt)
        assert code == 0 and re.match(r"leased \d+\.\d+", out) and not err
        for w in ("libevent", "OpenSSL", "libconfig"):
            assert w in out
    for opt in ("-h", "--help"):
        code, out, err = rig.check(opt)
        assert code == 0 and not err
        for w in ("--config", "--test", "--test-connect", "--dump-config", "--version", "-o"):
            assert w in out


# Proves: C31 E22
def test_dump_config_round_trip(rig):
    t = tree(rig, credentials=[{"name": "c", "username": "u", "password": "CANARY_dump"}], limits={"max_clients": 55},
             log={"level": "debug", "format": "json"})
    t["pools"][0].update(credentials="c", reuse="script", quiet_time="1500us", max_age="1h30m", buffer_size="64k",
                         listen=["127.0.0.1:1234", {"address": "unix:/tmp/a b\\\"c.sock", "mode": Raw("0660"), "allow_uid": ["0"]}],
                         login=[{"send": "AUTH ${username} ${password}\r\n", "expect": "+OK\t\\*", "expect_denied": "-W*"}],
                         ready_check=REDIS_READY, servers=["127.0.0.1:1", server("db.example:2", max_size=3, unbounded=False)])
    code, one, err = rig.check("--dump-config", tree=t)
    assert code == 0 and "CANARY" not in one + err, err
    for w in ("max_clients = 55", '"1h30m"', "max_concurrent_dials", '"1.5ms"', "db.example:2"):
        assert w in one, w
    secretless = one
    if "password" in one:
        secretless = re.sub(r"(\n\s*)#?\s*password = [^;\n]*;", r"\1", one)
    path = rig.path("dump.conf")
    with open(path, "w") as f:
        f.write(secretless)
    os.chmod(path, 0o600)
    code, two, err = rig.check("--dump-config", "-c", path)
    assert code == 0, err
    strip = lambda s: [l for l in s.splitlines() if "password" not in l and not l.startswith("#")]
    assert strip(two) == strip(one)
    with open(path, "w") as f:
        f.write(two)
    assert rig.check("--dump-config", "-c", path)[1] == two


# Proves: E22
def test_overrides(rig):
    t = tree(rig)
    code, out, err = rig.check("--dump-config", "-o", "log.level=debug", "-o", "pools.p.max_size=20", "-o", "pools.p.max_rps=7",
                               "-o", "limits.max_clients=3", tree=t)
    assert code == 0 and 'level = "debug"' in out and "max_size = 20" in out and "max_rps = 7" in out and "max_clients = 3" in out
    for bad, word in (("log.levle=debug", "level"), ("pools.q.max_size=3", "q"), ("limits.max_clients=many", "max_clients"),
                      ("pools.p.max_size=-5", "max_size")):
        code, out, err = rig.check("-t", "-o", bad, tree=t)
        assert code in (64, 78) and word in out + err, (bad, code, out, err)


# Proves: F:G1
def test_T_dials_every_server(rig):
    a, b = rig.redis(), rig.redis()
    t = {"pools": [pool("p", [a, b], listen="127.0.0.1:%d" % free_port(), reuse="script", ready_check=REDIS_READY)]}
    code, out, err = rig.check("-T", tree=t)
    assert code == 0, (out, err)
    assert "127.0.0.1:%d" % a.port in out + err and "127.0.0.1:%d" % b.port in out + err
    b.kill()
    code, out, err = rig.check("--test-connect", tree=t)
    assert code == 69 and re.search(r"127\.0\.0\.1:%d.*(refused)" % b.port, out + err), (code, out, err)
    bad = rig.bad(pong=b"-ERR loading\r\n")
    t["pools"][0]["servers"] = ["127.0.0.1:%d" % bad.port]
    code, out, err = rig.check("-T", tree=t)
    assert code == 69 and str(bad.port) in out + err
    hole = rig.bad()
    hole.hang()
    t["pools"][0].update(servers=["127.0.0.1:%d" % hole.port], connect_timeout="300ms")
    code, out, err = rig.check("-T", tree=t)
    assert code == 69 and str(hole.port) in out + err
    t["pools"][0]["servers"] = ["does-not-exist.invalid:1"]
    t["dns"] = {"nameservers": ["127.0.0.1:%d" % rig.dns().port], "timeout": "300ms"}
    code, out, err = rig.check("-T", tree=t)
    assert code == 69 and "does-not-exist.invalid" in out + err


# Proves: F:G1
def test_T_login_denied(rig):
    srv = rig.redis("--requirepass", "right")
    t = {"credentials": [{"name": "c", "username": "default", "password": "CANARY_T"}],
         "pools": [pool("p", srv, listen="127.0.0.1:%d" % free_port(), credentials="c", login=[
             {"send": "AUTH ${username} ${password}\r\n", "expect": "+OK", "expect_denied": "-WRONGPASS*"}])]}
    code, out, err = rig.check("-T", tree=t)
    assert code == 69 and "denied" in out + err and "CANARY" not in out + err
    t["credentials"][0]["password"] = "right"
    assert rig.check("-T", tree=t)[0] == 0


def vectors():
    return sorted(glob.glob(os.path.join(VECTORS, "bad", "*.conf")))


# Proves: F:G1
def test_broken_configurations_of_the_vectors(rig):
    """Each vector says in its comments what is to be told where; all go through the binary."""
    files = vectors()
    assert len(files) >= 60, len(files)
    failed = []
    for path in files:
        r = rig.run([LEASED, "-t", "-c", path], cwd=os.path.dirname(path))
        text = r.stdout + r.stderr
        if r.returncode not in (77, 78):
            failed.append((os.path.basename(path), r.returncode, text))
            continue
        with open(path, errors="replace") as f:
            for line, want in re.findall(r"^# expect: (\d+): (.*)$", f.read(), re.M):
                if not [l for l in text.splitlines() if l.startswith("%s:%s:" % (path, line)) and want.strip() in l]:
                    failed.append((os.path.basename(path), line, want, text))
    assert not failed, failed


# Proves: C6
def test_ten_lines_are_a_working_configuration(rig):
    srv, port = rig.redis(), free_port()
    text = """admin = { listen = "unix:%s"; };
pools = ( {
	name = "cache";
	listen = "127.0.0.1:%d";
	servers = "127.0.0.1:%d";
} );
""" % (rig.path("admin.sock"), port, srv.port)
    assert text.count("\n") <= 10
    d = rig.leased(text=text)
    with Conn(port) as c:
        c.ping()
    assert d.term() == 0


# Proves: F:G1
def test_include(rig):
    srv, port = rig.redis(), free_port()
    os.mkdir(rig.path("conf.d"))
    with open(rig.path("conf.d/pool.conf"), "w") as f:
        f.write('pools = ( { name = "cache"; listen = "127.0.0.1:%d"; servers = "127.0.0.1:%d"; } );\n' % (port, srv.port))
    main = rig.path("main.conf")
    with open(main, "w") as f:
        f.write('log = { level = "info"; };\n@include "conf.d/pool.conf"\n')
    rig.leased(config=main, admin=False)
    with Conn(port) as c:
        c.ping()
    with open(rig.path("conf.d/pool.conf"), "a") as f:
        f.write("\nworkerz = 1;\n")
    code, out, err = rig.check("-t", "-c", main)
    assert code == 78 and re.search(r"conf\.d/pool\.conf:3:.*workerz.*workers", out + err), out + err
