"""Secrets come out nowhere: not in logs, arguments, environments, metrics or answers, and not in memory that anybody can read."""
import contextlib
import mmap
import os
import re
import time

import pytest

from redishelp import *

MARK = "CANARY"         # part of every secret here


def secret(what, n=0):
    return "%s-%s-%d-%s" % (MARK, what, n, "q7Zk" * 4)


def memory(pid):
    """(start, bytes) of all that root can read of a process."""
    with open("/proc/%d/maps" % pid) as maps, open("/proc/%d/mem" % pid, "rb", buffering=0) as mem:
        for line in maps:
            m = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+\s*(.*)", line)
            start, end = int(m[1], 16), int(m[2], 16)
            if m[3][0] != "r" or m[4] in ("[vvar]", "[vsyscall]"):
                continue
            for at in range(start, end, 1 << 22):
                with contextlib.suppress(OSError):
                    mem.seek(at)
                    yield at, mem.read(min(1 << 22, end - at) + 256)


def copies(pid, text):
    """Addresses at which the text is readable."""
    text, out = text.encode(), set()
    for start, data in memory(pid):
        at = data.find(text)
        while at >= 0:
            out.add(start + at)
            at = data.find(text, at + 1)
    return sorted(out)


def children(pid):
    out = []
    for t in os.listdir("/proc/%d/task" % pid):
        with contextlib.suppress(OSError), open("/proc/%d/task/%s/children" % (pid, t)) as f:
            out += [int(p) for p in f.read().split()]
    return out


def of_process(pid):
    out = b""
    for name in ("cmdline", "environ", "comm"):
        with contextlib.suppress(OSError), open("/proc/%d/%s" % (pid, name), "rb") as f:
            out += f.read()
    return out.decode(errors="replace")


def test_the_scan_finds_what_is_there():
    """The test's own memory holds the text; a page of it that is not readable does not count."""
    text = secret("scan", 1)
    page = mmap.mmap(-1, 4096)
    page.write(text.encode())
    assert len(copies(os.getpid(), text)) >= 2


class Everything:
    """A daemon at debug level with a file's, a command's and a stream's credential, users, and traffic of all kinds."""

    def __init__(self, rig):
        self.rig = rig
        self.names = ["file", "command", "stream"]
        self.srv = AclRedis(rig, {n: secret(n) for n in self.names})
        self.file = CredFile(rig, "file", secret("file"))
        self.command = Command(rig, CredFile.text("command", secret("command")))
        # What a program says besides must not come out either.
        self.command.do(shell="echo careless %s >&2; env >%s.env; tr '\\0' ' ' </proc/$$/cmdline >>%s.env; cat %s" % (
            secret("command"), self.command.base, self.command.base, self.command.base + ".json"))
        self.stream_path = rig.path("stream")
        self.say(0)
        os.mkfifo(self.stream_path)
        program = rig.path("stream.sh")
        with open(program, "w") as f:
            f.write("#!/bin/sh\nexec cat <>%s\n" % self.stream_path)
        os.chmod(program, 0o755)
        self.users = [{"name": "ann", "password_file": self.keep("ann", secret("client"))}]
        self.at = {n: free_port() for n in self.names}
        self.d = rig.leased([redis_pool(n, self.srv, m, self.at[n], credentials=n, users=self.users, reauth_spread="0", min_idle=2)
                             for n, m in zip(self.names, MODES)],
                            credentials=[self.file.conf("file", debounce="10ms"), self.command.conf("command"),
                                         {"name": "stream", "source": "stream", "argv": [program]}],
                            log={"level": "debug"}, notify=False)
        self.say_stream(0)
        # Its connection is never given back, and logs in anew between two requests.
        self.held = rig.client(self.at["file"])
        assert self.held.ask(resp("AUTH", "ann", secret("client"))) == b"+OK\r\n"
        self.held.ping()

    def keep(self, name, text):
        path = self.rig.path(name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
            f.write(text + "\n")
        return path

    def say(self, n):
        self.keep("helper.json", CredFile.text("command", secret("command", n)))

    def say_stream(self, n):
        with open(self.stream_path, "w") as f:
            f.write(CredFile.text("stream", secret("stream", n)) + "\n")

    def rotate(self, n):
        logins = self.srv.logins()
        self.srv.users(**{u: secret(u, n) for u in self.names})
        self.file.write("file", secret("file", n))
        self.say(n)
        self.say_stream(n)
        assert self.d.ctl("refresh", "command")[0] == 0
        poll(lambda: self.srv.logins() - logins >= 7, 5, "new logins")
        self.held.ping()

    def traffic(self):
        for n in self.names:
            with Resp(self.at[n]) as c:
                assert c.cmd("AUTH", "ann", secret("guess")).startswith("WRONGPASS")
                assert c.cmd("HELLO", 2, "AUTH", "ann", secret("guess")).startswith("WRONGPASS")
                assert c.cmd("AUTH", "ann", secret("client")) == "OK"
                assert c.cmd("SET", "k", "v") == "OK"
                c.cmd("NOSUCH", "x")
                c.send(b"*1\r\n$broken\r\n")
                c.rest()

    def said(self):
        """All that the daemon says to anybody, by where."""
        d = self.d
        out = {"log": d.stderr(), "process": of_process(d.pid), "metrics": d.metrics_text(),
               "status": d.request("GET", "/status.json?full=1")[1], "index": d.request("GET", "/status")[1]}
        for what in ("pools", "servers", "clients", "credentials", "config", "stats", "errors", "pins", "state", "limits"):
            out["show " + what] = "".join(map(str, d.ctl("show", what)))
        for pid in children(d.pid):
            out["child %d" % pid] = of_process(pid)
        with contextlib.suppress(FileNotFoundError), open(self.command.base + ".env") as f:
            out["environment of the program"] = f.read()
        return out


# Proves: CRED-10 CRED-13 must-secrets
def test_nothing_that_is_said_has_a_secret_in_it(rig):
    e = Everything(rig)
    e.traffic()
    for n in range(1, 4):
        e.rotate(n)
        e.traffic()
    # Content that is wrong is complained about, without being shown.
    e.file.write_text('{"username": "file", "password": "%s", broken' % secret("file", 9))
    poll(lambda: [l for l in e.d.log_lines("warning") + e.d.log_lines("error") if "file" in l], 5, "the complaint")
    e.srv.users(file=secret("file", 10))
    e.file.write("file", secret("file", 11))         # and it is refused
    poll(lambda: e.srv.denied() > 0, 5, "the refusal")
    said = e.said()
    assert any(k.startswith("child") for k in said) and len(said["log"]) > 1000 and "LEASED_REASON" in said[
        "environment of the program"]
    for where, text in said.items():
        assert MARK not in text, (where, text[max(0, text.find(MARK) - 200):text.find(MARK) + 60])
    code, out, err = rig.check("--dump-config", "-c", e.d.config)
    assert code == 0 and MARK not in out + err


# Proves: CRED-14 must-secrets-memory
@pytest.mark.measure
def test_no_copy_in_memory(rig):
    """As root, of all that is mapped. Memory from memfd_secret can't be read; without it one copy of the live one is allowed."""
    e = Everything(rig)
    d, allowed = e.d, 0
    with open("/proc/%d/maps" % d.pid) as f:
        if "secretmem" not in f.read():
            allowed = 1
    for n in range(4):
        if n:
            e.rotate(n)
        e.traffic()
        for what in e.names:
            live = copies(d.pid, secret(what, n))
            assert len(live) <= allowed, (what, n, [hex(a) for a in live], around(d.pid, live))
            if n:
                poll(lambda: not copies(d.pid, secret(what, n - 1)), 1, "no copy of a retired one")
    live = copies(d.pid, secret("client"))
    assert len(live) <= allowed, ("client", around(d.pid, live))
    assert not copies(d.pid, secret("guess"))


def around(pid, addresses):
    """Where in the address space it was found, for the failure's message."""
    with open("/proc/%d/maps" % pid) as f:
        lines = f.read().splitlines()
    out = []
    for a in addresses:
        out += [l for l in lines if int(l.split("-")[0], 16) <= a < int(l.split("-")[1].split(" ")[0], 16)]
    return out
