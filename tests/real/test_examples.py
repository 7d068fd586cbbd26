"""Every example configuration starts as it is and serves, in a network and a /run of its own."""
import glob
import os
import subprocess

import pytest

from harness import *

EXAMPLES = sorted(glob.glob(os.path.join(TOP, "conf", "examples", "*.conf")))
WORLD = 'ip link set lo up && mount -t tmpfs leased-test /run && mkdir /run/leased && exec "$@"'


def start(rig, path, **kw):
    need_unshare("-n", "-m")
    d = rig.leased(config=path, prefix=["unshare", "-n", "-m", "sh", "-c", WORLD, "sh"], admin=False, **kw)
    d.admin = "/proc/%d/root/run/leased/admin.sock" % d.pid
    d.inside = ["nsenter", "-t", str(d.pid), "-n", "--"]
    return d


# Proves: C6
@pytest.mark.parametrize("path", EXAMPLES, ids=[os.path.basename(p) for p in EXAMPLES])
def test_example_starts(rig, path):
    r = rig.run([LEASED, "-t", "-c", path])
    assert r.returncode == 0 and "warning" not in r.stdout + r.stderr, r
    d = start(rig, path)
    s = d.status()
    assert s["state"] == "running" and s["pools"] and all(p["listeners"] for p in s["pools"])
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
