"""
What the tests of Redis and of rotation share.

    Resp(where)                         a raw client that reads replies as Python values; errors are values, too (Err)
    AclRedis(rig, users={"app": "p1"})  redis-server that lets nobody in without a login; .admin(...) is always let in
    CredFile(rig, username, password)   a credential's file, and the ways in which it may be changed
    Command(rig, cred)                  a program for source = "command" that counts its runs and does what it is told
    Load(rig, where, "-c", 200)         rload (tests/fake/rload.c) running; .hold() .go() .stop() -> its report
    three(rig, srv, cred, **keys)       a daemon with a pool for each mode: d.at["session"] and so on are their ports
"""
import contextlib
import json
import os
import select
import signal
import subprocess
import threading
import time

from harness import *

RLOAD = os.path.abspath(os.environ.get("RLOAD_BIN", os.path.join(TOP, "build", "tests", "rload")))
MODES = ("session", "transaction", "request")


class Err(str):
    """An error reply."""


class Push(list):
    """A RESP3 push."""


class Resp(Conn):
    """Conn that speaks RESP: one(), and cmd() for one request and its reply. Pushes are kept in .pushes."""

    def __init__(self, where, **kw):
        super().__init__(where, **kw)
        self.pushes = []

    def line(self):
        return super().line()[:-2]

    def value(self):
        head = self.line()
        kind, rest = head[:1], head[1:]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            return Err(rest.decode())
        if kind in (b":", b"("):
            return int(rest)
        if kind == b",":
            return float(rest)
        if kind == b"_":
            return None
        if kind == b"#":
            return rest == b"t"
        if kind in (b"$", b"=", b"!"):
            n = int(rest)
            return None if n < 0 else self.exactly(n + 2)[:-2]
        if kind in (b"*", b"~", b">"):
            n = int(rest)
            out = None if n < 0 else [self.value() for _ in range(n)]
            return Push(out) if kind == b">" else out
        if kind in (b"%", b"|"):
            return {self._key(self.value()): self.value() for _ in range(int(rest))}
        raise AssertionError("not a reply: %r" % head)

    @staticmethod
    def _key(v):
        return tuple(v) if isinstance(v, list) else v

    def one(self):
        """The next reply."""
        while True:
            v = self.value()
            if not isinstance(v, Push):
                return v
            self.pushes.append(v)

    def push(self):
        """The next push."""
        while not self.pushes:
            v = self.value()
            assert isinstance(v, Push), v
            self.pushes.append(v)
        return self.pushes.pop(0)

    def cmd(self, *words):
        return self.send(resp(*words)).one()

    def pipe(self, *requests):
        """Each is a list of words; sent as one."""
        self.send(b"".join(resp(*r) for r in requests))
        return [self.one() for _ in requests]


# --- servers ----------------------------------------------------------------------------------------------------------

def info_dict(text):
    return dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)


class AclRedis:
    """redis-server with users; `default` is off, so that a connection that forgot to log in can do nothing."""
    ADMIN, RIGHTS = "keeper", ("~*", "&*", "+@all")

    def __init__(self, rig, users=None, *args, hosts=("127.0.0.1",), **kw):
        who = ["--user", self.ADMIN, "on", ">keeper-pw"] + list(self.RIGHTS) + ["--user", "default", "off"]
        for name, password in (users or {}).items():
            who += ["--user", name, "on", ">" + password] + list(self.RIGHTS)
        # --hz: it looks a hundred times a second whether it is to end.
        self.srv = rig.redis("--bind", *hosts, "--hz", "100", *who, *args, **kw)
        self.port, self.pid, self.sock = self.srv.port, self.srv.pid, self.srv.sock
        self.lock = threading.Lock()
        self._admin = None
        self._connect()

    def _connect(self):
        self._admin = Resp(self.sock)
        assert self._admin.cmd("AUTH", self.ADMIN, "keeper-pw") == "OK"

    def admin(self, *words):
        with self.lock:
            return self._admin.cmd(*words)

    def admin_all(self, *requests):
        """In one transaction."""
        with self.lock:
            out = self._admin.pipe(["MULTI"], *requests, ["EXEC"])
        assert not any(isinstance(x, Err) for x in out + out[-1]), out
        return out[-1]

    def users(self, **passwords):
        """Sets users' only passwords, at once for all of them."""
        self.admin_all(*[["ACL", "SETUSER", u, "on", "resetpass", ">" + p] + list(self.RIGHTS) for u, p in passwords.items()])

    def revoke(self, **passwords):
        """The users' old passwords are void at once and their connections cut. Returns when those are closed, which the server
        does a little later: what was sent in between is lost."""
        old = {c["id"] for c in self.clients() if c["user"] in passwords}
        self.admin_all(*[r for u, p in passwords.items() for r in (
            ["ACL", "DELUSER", u], ["ACL", "SETUSER", u, "on", ">" + p] + list(self.RIGHTS))])
        poll(lambda: not old & {c["id"] for c in self.clients()}, 5, "all to be cut")

    def clients(self):
        """Connections but the admin's own: dicts of CLIENT LIST."""
        text = self.admin("CLIENT", "LIST").decode()
        out = [dict(w.split("=", 1) for w in line.split()) for line in text.splitlines()]
        return [c for c in out if c["user"] != self.ADMIN]

    def logins(self):
        """AUTH and HELLO so far, refused ones and the admin's own as well."""
        stats = info_dict(self.admin("INFO", "commandstats"))
        calls = [int(stats[k].split("calls=")[1].split(",")[0]) for k in ("cmdstat_auth", "cmdstat_hello") if k in stats]
        return sum(calls)

    def denied(self):
        """Refused logins, from the server's own log."""
        entries = self.admin("ACL", "LOG", 128)
        return sum(dict(zip(e[::2], e[1::2]))[b"count"] for e in entries if e[e.index(b"reason") + 1] == b"auth")

    def calls(self, command):
        stats = info_dict(self.admin("INFO", "commandstats")).get("cmdstat_" + command)
        return int(stats.split("calls=")[1].split(",")[0]) if stats else 0


# --- credentials ------------------------------------------------------------------------------------------------------

class CredFile:
    """source = "file". write() replaces by rename, halves() in place in two steps."""

    def __init__(self, rig, username, password, name="cred.json", **more):
        self.path = rig.path(name)
        self.write(username, password, **more)

    @staticmethod
    def text(username, password, **more):
        return json.dumps(dict({"username": username, "password": password}, **more))

    def write(self, username, password, **more):
        self.write_text(self.text(username, password, **more))

    def write_text(self, text):
        new = self.path + ".new"
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as f:
            f.write(text if isinstance(text, bytes) else text.encode())
        os.rename(new, self.path)

    def halves(self, username, password, gap):
        text = self.text(username, password)
        with open(self.path, "w") as f:
            f.write(text[:len(text) // 2])
            f.flush()
            time.sleep(gap)  # this is the fault
            f.write(text[len(text) // 2:])

    def conf(self, name="app", **keys):
        return dict({"name": name, "source": "file", "path": self.path}, **keys)


class Command:
    """source = "command": a program that notes each run and then does what do() says: the text to print, or a shell
    command instead ("sleep 600", "exit 1")."""

    def __init__(self, rig, text, name="helper"):
        self.base = rig.path(name)
        self.runs_path, self.do_path = self.base + ".runs", self.base + ".do"
        open(self.runs_path, "w").close()
        self.do(text)
        self.program = self.base + ".sh"
        with open(self.program, "w") as f:
            f.write("#!/bin/sh\necho \"$(date +%%s.%%N) $LEASED_REASON $LEASED_GENERATION\" >>%s\n. %s\n" % (self.runs_path, self.do_path))
        os.chmod(self.program, 0o755)

    def do(self, text=None, shell=None):
        new = self.do_path + ".new"
        with open(new, "w") as f:
            f.write(shell + "\n" if shell is not None else "cat <<'END'\n%s\nEND\n" % text)
        os.rename(new, self.do_path)

    def runs(self):
        """[(seconds since the epoch, reason, generation)]"""
        with open(self.runs_path) as f:
            return [(float(w[0]), w[1], w[2] if len(w) > 2 else "") for w in map(str.split, f) if len(w) > 1]

    def conf(self, name="app", **keys):
        return dict({"name": name, "source": "command", "argv": [self.program]}, **keys)


# --- loads ------------------------------------------------------------------------------------------------------------

class Load:
    """rload, running. Errors show up in its report."""

    def __init__(self, rig, where, *args, seconds=600):
        where = [w if isinstance(w, str) else "127.0.0.1:%d" % w for w in (where if isinstance(where, list) else [where])]
        self.p = Proc(rig, ["nice", RLOAD, "-v", "-t", str(seconds)] + [str(a) for a in args] + where, "rload",
                      stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.out, self.err = self.p.p.stdout, self.p.p.stderr
        self.replies = self.errors = self.connected = 0
        self.quiet = threading.Event()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.err:
            if line == b"quiet\n":
                self.quiet.set()
            else:
                self.replies, self.errors, self.connected = map(int, line.split())

    def running(self, replies=1000, timeout=20):
        """Waits for so many more replies."""
        want = self.replies + replies
        poll(lambda: self.replies >= want or self.p.p.poll() is not None, timeout, "the load to run (%d)" % self.replies)
        return self

    def hold(self, timeout=20):
        """Returns once no client waits for an answer; nothing is sent from then on."""
        self.quiet.clear()
        self.p.signal(signal.SIGUSR1)
        assert self.quiet.wait(timeout * SLOW), "the load does not get quiet"

    def go(self):
        self.p.signal(signal.SIGUSR2)

    def stop(self):
        if self.p.running:
            self.p.signal(signal.SIGTERM)
        return self.report()

    def report(self):
        """Waits for its end."""
        out = self.out.read()
        self.p.wait_exit(10)
        self.thread.join(5)
        assert out, "rload said nothing"
        return json.loads(out)


def spotless(r, reconnects=0):
    """A load's report without anything a client could have noticed."""
    assert (r["errors_total"], r["mismatches"]) == (0, 0), (r["errors"], r["first_error"], r["first_mismatch"])
    assert r["reconnects"] <= reconnects, r["reconnects"]
    return r


# --- daemons ----------------------------------------------------------------------------------------------------------

def redis_pool(name, srv, mode, port=None, listen=None, **keys):
    return pool(name, srv, listen=listen or "127.0.0.1:%d" % port, protocol="redis", mode=mode, **keys)


def three(rig, srv, cred=None, modes=MODES, top=None, own=None, each=None, **keys):
    """A daemon with a pool for each mode. cred: the credential's group; each: {mode: keys of its pool}."""
    at = {m: free_port() for m in modes}
    if cred is not None:
        keys = dict({"credentials": cred["name"]}, **keys)
    pools = [redis_pool(m, srv, m, at[m], **dict(keys, **(each or {}).get(m, {}))) for m in modes]
    top = dict({"credentials": [cred]} if cred is not None else {}, **(top or {}))
    d = rig.leased(pools, **top, **(own or {}))
    d.at = at
    return d
