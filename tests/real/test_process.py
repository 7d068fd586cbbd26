"""What the daemon does as a process: its streams, its pid file, its command line, its log as another user."""
import fcntl
import os
import re
import shutil
import signal

import pytest

from harness import *

pytestmark = pytest.mark.limit(40)


def streams(pid):
    need_trace("the descriptors")
    return [os.readlink("/proc/%d/fd/%d" % (pid, fd)) for fd in range(3)]


def preload(rig, text):
    """A library made of that C text, to be put before the others."""
    if not shutil.which("cc"):
        pytest.skip("no compiler")
    src, lib = rig.path("preload.c"), rig.path("preload.so")
    with open(src, "w") as f:
        f.write(text)
    r = rig.run(["cc", "-shared", "-fPIC", "-o", lib, src])
    assert r.returncode == 0, r.stderr
    return lib


# Proves: SEC-5
@pytest.mark.parametrize("closed", [(0, 1, 2), (2,), (1, 2)])
def test_closed_standard_streams_stay_nobodys(rig, closed):
    """Otherwise a socket or the pid file becomes descriptor 2, and lines of the log go there."""
    path, port = rig.path("leased.pid"), free_port()
    redirect = " ".join("%d>&-" % fd if fd else "0<&-" for fd in closed)
    d = rig.leased(pool("p", rig.bad(), listen="127.0.0.1:%d" % port), pid_file=path,
                   prefix=["/bin/sh", "-c", 'exec "$@" ' + redirect, "sh"])
    with Conn(port) as c:
        assert c.ask(b"c1 1 x\r\n") == b"c1 1 x\r\n"
    got = streams(d.pid)
    assert [got[fd] for fd in closed] == ["/dev/null"] * len(closed)
    with open(path) as f:
        assert f.read() == "%d\n" % d.pid


# Proves: CRED-13
def test_a_password_does_not_stay_on_the_command_line(rig):
    word = "CANARY_on_argv"
    login = [{"send": "AUTH ${username} ${password}\r\n", "expect": "+OK"}]
    srv = rig.redis("--requirepass", word)
    d = rig.proxy(srv, top={"credentials": [{"name": "a.b", "username": "default"}]}, credentials="a.b", login=login,
                  own={"args": ["-o", "credentials.a.b.password=" + word, "-o", "log.level=debug"]})
    with Conn(d.port) as c:
        c.ping()
    with open("/proc/%d/cmdline" % d.pid) as f:
        line = f.read()
    assert word not in line and "log.level=debug" in line
    need_trace("the memory")
    with open("/proc/%d/maps" % d.pid) as f:
        heap = re.search(r"^(\w+)-(\w+) rw.*\[heap\]$", f.read(), re.M)
    if not heap:
        pytest.skip("a sanitizer's heap is elsewhere")
    try:
        mem = open("/proc/%d/mem" % d.pid, "rb", 0)
    except PermissionError:
        pytest.skip("may not read memory here")
    with mem:
        start, end = (int(x, 16) for x in heap.groups())
        mem.seek(start)
        assert word.encode() not in mem.read(end - start)


# Proves: F:G8
def test_a_pid_file_that_is_being_removed_is_not_taken(rig):
    """Who holds it removes it and then lets go of the lock: the next one must not settle on the removed file."""
    path, port = rig.path("leased.pid"), free_port()
    # The removal happens between open() and flock() of the newcomer.
    hold = preload(rig, """
#include <sys/file.h>
#include <sys/syscall.h>
#include <stdlib.h>
#include <unistd.h>

int flock(int fd, int op)
{
	static int calls;

	if (calls++ == 0)
		unlink(getenv("HOLD_PATH"));
	return (int)syscall(SYS_flock, fd, op);
}
""")
    with open(path, "w"):
        pass
    d = rig.leased(pool("p", rig.bad(), listen="127.0.0.1:%d" % port), pid_file=path,
                   env={"LD_PRELOAD": hold, "HOLD_PATH": path})
    with open(path) as f:
        assert f.read() == "%d\n" % d.pid
        with pytest.raises(BlockingIOError):
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert d.term() == 0 and not os.path.exists(path)


# Proves: F:G5
@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("sig", [signal.SIGHUP, signal.SIGUSR1])
def test_a_log_that_can_not_be_reopened_is_told(rig, sig):
    os.mkdir(rig.path("log"), 0o755)
    log, port = rig.path("log/leased.log"), free_port()
    d = rig.leased(pool("p", rig.bad(), listen="127.0.0.1:%d" % port), user="nobody", log={"target": "file", "file": log})
    d.unix_paths = lambda: []       # it may no longer remove what root made
    os.rename(log, log + ".1")
    d.signal(sig)

    def told():
        with open(log + ".1") as f:
            return [l for l in f if "log.not_reopened" in l and log in l]
    poll(told, 5, "a line in the log that still works")
    with open(log + ".1") as f:
        assert "log.reopened" not in f.read()


# Proves: D14 POOL-3
def test_descriptors_of_many_workers_are_reserved(rig):
    """What the daemon holds before the first connection leaves room in the reserve for those of the admin interface."""
    srv = rig.bad()
    pools = [pool("p%d" % i, srv, listen=["127.0.0.1:0"] * 3) for i in range(16)]
    d = rig.leased(pools, workers=16)
    limits = d.status()["limits"]
    assert fd_count(d.pid) + 16 <= limits["reserved"] - limits["max_clients"], (fd_count(d.pid), limits)


# Proves: F:R11
def test_secrets_in_memory_that_may_be_swapped_are_told(rig):
    """The system refuses to lock memory: the daemon starts, and says so."""
    none = preload(rig, """
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>

int mlock(const void *p, size_t n)
{
	(void)p, (void)n;
	errno = EPERM;
	return -1;
}

long syscall(long n, ...)
{
	(void)n;
	errno = EPERM;
	return -1;
}
""")
    srv = rig.redis("--requirepass", "right")
    own = {"env": {"LD_PRELOAD": none}}
    for given, told in ((own, 1), ({}, 0)):
        d = rig.proxy(srv, top={"credentials": [{"name": "c", "username": "default", "password": "right"}]}, credentials="c",
                      login=[{"send": "AUTH ${password}\r\n", "expect": "+OK"}], own=given)
        with Conn(d.port) as c:
            c.ping()
        assert len(d.log_lines("secrets.not_locked")) == told


# Proves: SEC-1
@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_an_admin_socket_that_can_not_be_made_is_not_left_behind(rig):
    """Not a member of the group it should have."""
    os.mkdir(rig.path("pub"))
    os.chmod(rig.path("pub"), 0o777)
    os.chmod(rig.dir, 0o755)
    path, conf = rig.path("pub/admin.sock"), rig.path("pub/leased.conf")
    program = shutil.copy(LEASED, rig.path("leased"))       # that user may not enter this tree, in a home of mode 0700
    with open(conf, "w") as f:
        f.write(conf_text({"admin": {"listen": "unix:" + path, "group": "root"},
                           "pools": [pool("p", 1, listen="127.0.0.1:%d" % free_port())]}))
    d = rig.leased(config=conf, admin=False, wait=False, expect_exit=73, preexec=lambda: drop_uid(65534), program=program)
    assert d.wait_exit() == 73 and d.log_lines(path)
    assert not os.path.exists(path)
