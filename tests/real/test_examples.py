"""Every example configuration starts as it is and serves, in a network and a /run of its own."""
import glob
import json
import os
import subprocess

import pytest

from harness import *

EXAMPLES = sorted(glob.glob(os.path.join(TOP, "conf", "examples", "*.conf")))
# What the examples' secrets and programs would be on a machine that has them.
WORLD = r"""
ip link set lo up && mount -t tmpfs leased-test /run && mount -t tmpfs leased-test /usr/local || exit 1
umask 027
mkdir -p /run/leased /run/secrets/cache/..2026 /run/credentials/leased.service /usr/local/lib/leased /usr/local/bin
printf '{"username": "cache", "password": "CANARY-cache"}\n' | tee /run/secrets/cache.json > /run/credentials/leased.service/cache.json
printf CANARY-app > /run/secrets/app.password; chmod 600 /run/secrets/app.password
printf cache > /run/secrets/cache/..2026/username; printf CANARY-cache > /run/secrets/cache/..2026/password
ln -s ..2026 /run/secrets/cache/..data
ln -s ..data/username /run/secrets/cache/username; ln -s ..data/password /run/secrets/cache/password
cp %s/conf/examples/*.py /usr/local/lib/leased/
tool() { printf '#!/bin/sh\necho '"'%%s'\n" "$2" > /usr/local/bin/$1; chmod 755 /usr/local/bin/$1; }
tool vault '{"lease_id": "", "data": {"username": "cache", "password": "CANARY-cache", "ttl": 3600}}'
tool az '{"accessToken": "CANARY-cache", "expires_on": 4102444800}'
tool aws '{"AccessKeyId": "AKIAEXAMPLE", "SecretAccessKey": "CANARY-key"}'
export CREDENTIALS_DIRECTORY=/run/credentials/leased.service PATH=/usr/local/bin:/usr/bin:/bin HOME=/nowhere
exec "$@"
""" % TOP
INSIDE = ["unshare", "-n", "-m", "sh", "-c", WORLD, "sh"]


def start(rig, path, **kw):
    need_unshare("-n", "-m")
    d = rig.leased(config=path, prefix=INSIDE, admin=False, **kw)
    d.admin = "/proc/%d/root/run/leased/admin.sock" % d.pid
    d.inside = ["nsenter", "-t", str(d.pid), "-n", "--"]
    return d


# Proves: C6
@pytest.mark.parametrize("path", EXAMPLES, ids=[os.path.basename(p) for p in EXAMPLES])
def test_example_starts(rig, path):
    need_unshare("-n", "-m")
    r = rig.run(INSIDE + [LEASED, "-t", "-c", path])
    assert r.returncode == 0 and "warning" not in r.stdout + r.stderr, r
    d = start(rig, path)
    s = d.status()
    assert s["state"] == "running" and s["pools"] and all(p["listeners"] for p in s["pools"])
    # Every credential comes from its source as it is.
    d.wait(lambda s: all(c["generation"] == 1 for c in s["credentials"]))
    assert len(d.status()["credentials"]) == (1 if "credentials" in open(path).read() else 0)
    assert "CANARY" not in "".join(d.log_lines()) + json.dumps(d.status(full=True))
    assert d.term() == 0


def inside(rig, d, argv, port):
    srv = Proc(rig, d.inside + argv, argv[0])
    poll(lambda: subprocess.run(d.inside + ["ss", "-Hltn", "sport", "= :%d" % port], capture_output=True, text=True).stdout, 5, argv[0])
    return srv


def say(rig, d, port, text):
    r = subprocess.run(d.inside + ["socat", "-t", "5", "-", "TCP:127.0.0.1:%d" % port], input=text, capture_output=True,
                       text=True, timeout=20)
    return r.stdout.replace("\r\n", "\n")


def test_memcached_example_serves(rig):
    d = start(rig, os.path.join(TOP, "conf", "examples", "memcached.conf"))
    inside(rig, d, ["memcached", "-u", "root", "-l", "127.0.0.1", "-p", "11211", "-U", "0"], 11211)
    for i in range(5):
        assert say(rig, d, 11311, "set k 0 0 1\r\n%d\r\nget k\r\nquit\r\n" % i).startswith("STORED\nVALUE k 0 1\n%d\n" % i)


def test_redis_example_serves(rig):
    d = start(rig, os.path.join(TOP, "conf", "examples", "redis-opaque.conf"))
    inside(rig, d, ["redis-server", "--port", "6379", "--save", "", "--appendonly", "no", "--dir", rig.dir], 6379)
    out = [subprocess.run(d.inside + ["redis-cli", "-p", "6380"], input="SELECT 5\nSET x 1\nMULTI\n", capture_output=True,
                          text=True, timeout=20).stdout for _ in range(3)]
    assert all(o.splitlines()[:2] == ["OK", "OK"] for o in out), out
    # what the ones before left (database, transaction) is gone
    got = subprocess.run(d.inside + ["redis-cli", "-p", "6380", "CLIENT", "INFO"], capture_output=True, text=True, timeout=20).stdout
    assert " db=0 " in got and " multi=-1 " in got, got
    assert d.wait_pool(lambda p: p["stats"]["leases_returned"] == 4)["stats"]["leases_reused"] >= 2


def redis_for(rig, d, password="CANARY-cache"):
    inside(rig, d, ["redis-server", "--port", "6379", "--save", "", "--appendonly", "no", "--dir", rig.dir], 6379)
    cli(d, "-p", "6379", "ACL", "SETUSER", "cache", "on", ">" + password, "~*", "&*", "+@all")


def cli(d, *words, **kw):
    return subprocess.run(d.inside + ["redis-cli", "--no-auth-warning"] + list(words), capture_output=True, text=True, timeout=20,
                          **kw).stdout.strip()


def logins(d):
    """Who the server's connections are, but for the one that asks."""
    words = cli(d, "-p", "6379", "CLIENT", "LIST", "TYPE", "normal").splitlines()
    return sorted(next(w[5:] for w in line.split() if w.startswith("user=")) for line in words if "cmd=client" not in line)


@pytest.mark.parametrize("name", ["redis-transaction.conf", "redis-request.conf"])
def test_redis_examples_serve(rig, name):
    d = start(rig, os.path.join(TOP, "conf", "examples", name))
    redis_for(rig, d)
    app = ["-p", "6380"] + (["--user", "app", "--pass", "CANARY-app"] if "transaction" in name else [])
    assert cli(d, *app, "SET", "k", "v") == "OK" and cli(d, *app, "GET", "k") == "v"
    assert cli(d, *app, input="SELECT 3\nSET k three\nMULTI\nGET k\nEXEC\n").splitlines() == ["OK", "OK", "OK", "QUEUED", "three"]
    assert cli(d, *app, "GET", "k") == "v"
    assert set(logins(d)) == {"cache"}
    if "transaction" in name:
        assert "NOAUTH" in cli(d, "-p", "6380", "GET", "k")
        assert cli(d, "-s", "/proc/%d/root/run/leased/cache.sock" % d.pid, "GET", "k") == "v"     # root needs no password
        assert cli(d, *app, "FLUSHALL").startswith("NOPERM") and cli(d, *app, "GET", "k") == "v"


def swap_directory(root, password):
    os.makedirs(root + "/cache/..2027")
    for name, text in (("username", "cache"), ("password", password)):
        with open(root + "/cache/..2027/" + name, "w") as f:
            f.write(text)
        os.chmod(root + "/cache/..2027/" + name, 0o640)
    os.symlink("..2027", root + "/cache/..data.new")
    os.rename(root + "/cache/..data.new", root + "/cache/..data")


def swap_file(root, password):
    with open(root + "/cache.json.new", "w") as f:
        json.dump({"username": "cache", "password": password}, f)
    os.chmod(root + "/cache.json.new", 0o640)
    os.rename(root + "/cache.json.new", root + "/cache.json")


# The server changes first: its refusal makes the daemon look again, if it has not yet heard of the change.
@pytest.mark.parametrize("name,swap", [("redis-kubernetes.conf", swap_directory), ("redis-vault-agent.conf", swap_file)])
def test_secrets_of_examples_change(rig, name, swap):
    d = start(rig, os.path.join(TOP, "conf", "examples", name))
    redis_for(rig, d)
    assert cli(d, "-p", "6380", "SET", "k", "v") == "OK"
    cli(d, "-p", "6379", "ACL", "SETUSER", "cache", "resetpass", ">CANARY-2")
    cli(d, "-p", "6379", "CLIENT", "KILL", "USER", "cache")
    swap("/proc/%d/root/run/secrets" % d.pid, "CANARY-2")
    assert cli(d, "-p", "6380", "GET", "k") == "v"
    assert d.status()["credentials"][0]["generation"] == 2 and set(logins(d)) == {"cache"}
