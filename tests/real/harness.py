"""
Harness of the end-to-end tests: real servers, a real leased, both in private places.

    rig.redis() / rig.memcached() / rig.nginx() / rig.socat()     a real server on a free loopback port
    rig.leased(pools=[pool("p", [srv], listen=..., ...)])         a daemon with that configuration, ready when it returns
    d.status(full=True), d.pool("p"), d.wait(lambda s: ...)       what the daemon says of itself
    sockets_to(port), cpu_seconds(pid), rss_bytes(pid)            what the kernel says of it: seen from outside

Everything started is stopped by its process id at the end of the test. A test fails when the daemon ends with another code
than asked for, when a sanitizer has spoken, or when a socket file is left behind. Tests wait for events; the only short
sleeps are in the polling loops here (`poll`).
"""
import contextlib
import ctypes
import http.client
import json
import os
import re
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
FAKE = os.path.join(TOP, "tests", "fake")
sys.path.insert(0, FAKE)

LEASED = os.path.abspath(os.environ.get("LEASED_BIN", os.path.join(TOP, "build", "leased")))
LEASECTL = os.path.abspath(os.environ.get("LEASECTL_BIN", os.path.join(TOP, "build", "leasectl")))
FAILIO = os.path.abspath(os.environ.get("FAILIO_SO", os.path.join(TOP, "build", "tests", "failio.so")))
# Sanitizer builds are slower: bounds in time are multiplied, and figures of CPU and memory are not judged.
SLOW = float(os.environ.get("LEASED_SLOW", "1"))

ASAN = "exitcode=99:detect_leaks=1:verify_asan_link_order=0:log_path=%s"
UBSAN = "halt_on_error=1:exitcode=99:print_stacktrace=1:log_path=%s"
TSAN = "exitcode=99:halt_on_error=0:log_path=%s"


# --- libconfig text ---------------------------------------------------------------------------------------------------

class Raw(str):
    """Text that goes into the configuration as it is, e.g. Raw("0660")."""


def conf_value(v):
    if isinstance(v, Raw):
        return str(v)
    if isinstance(v, bool):
        return "true" if v else "false"
    if isinstance(v, (int, float)):
        return repr(v)
    if isinstance(v, str):
        s = v.replace("\\", "\\\\").replace('"', '\\"').replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t")
        return '"%s"' % s
    if isinstance(v, dict):
        return "{ %s }" % " ".join("%s = %s;" % (k, conf_value(x)) for k, x in v.items())
    if isinstance(v, (list, tuple)):
        return "( %s )" % ", ".join(conf_value(x) for x in v)
    raise TypeError(v)


def conf_text(tree):
    return "".join("%s = %s;\n" % (k, conf_value(v)) for k, v in tree.items())


def pool(name, servers, listen=None, **keys):
    """A pool's group. servers: ports, "host:port" strings, groups or server objects with .port."""
    def one(s):
        if isinstance(s, (str, dict)):
            return s
        return "127.0.0.1:%d" % (s if isinstance(s, int) else s.port)
    out = {"name": name, "listen": list(listen) if isinstance(listen, (list, tuple)) else [listen],
           "servers": [one(s) for s in (servers if isinstance(servers, (list, tuple)) else [servers])]}
    out.update(keys)
    return out


def server(where, **keys):
    """A server's group: where is a port, an object with .port or an address text."""
    addr = where if isinstance(where, str) else "127.0.0.1:%d" % (where if isinstance(where, int) else where.port)
    return dict({"address": addr}, **keys)


# A connection is clean when it answers these.
REDIS_READY = [{"send": "PING\r\n", "expect": "+PONG"}]
MEMCACHED_READY = [{"send": "mn\r\n", "expect": "MN"}]


# --- ports, waiting ---------------------------------------------------------------------------------------------------

_next_port = 20000 + (os.getpid() * 37) % 9000


def free_port(host="127.0.0.1"):
    """A port below the ephemeral range, so that no outgoing connection can take it in between."""
    global _next_port
    while True:
        _next_port += 1
        if _next_port >= 32000:
            _next_port = 20000
        s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.closing(s):
            try:
                s.bind((host, _next_port))
                return _next_port
            except OSError:
                continue


def poll(what, timeout=5.0, text="condition"):
    """Calls what() until it returns something true, which is returned; fails the test after the time-out."""
    end = time.monotonic() + timeout * SLOW
    while True:
        got = what()
        if got:
            return got
        if time.monotonic() > end:
            raise AssertionError("timed out after %.1f s waiting for %s" % (timeout * SLOW, text))
        time.sleep(0.003)


def try_connect(port, host="127.0.0.1"):
    try:
        socket.create_connection((host, port), timeout=1).close()
        return True
    except OSError:
        return False


# --- what the kernel says ---------------------------------------------------------------------------------------------

def thread_count(pid):
    return len(os.listdir("/proc/%d/task" % pid))


def cpu_seconds(pid):
    """CPU time of all threads, from the scheduler's nanosecond clock."""
    total = 0
    for t in os.listdir("/proc/%d/task" % pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            with open("/proc/%d/task/%s/schedstat" % (pid, t)) as f:
                total += int(f.read().split()[0])
    return total / 1e9


def may_trace():
    """CAP_SYS_PTRACE: needed to look into a daemon, which hides its memory from all others."""
    with open("/proc/self/status") as f:
        return int(re.search(r"^CapEff:\s*(\w+)", f.read(), re.M).group(1), 16) >> 19 & 1


def need_trace(what):
    if not may_trace():
        pytest.skip("needs CAP_SYS_PTRACE, absent here, to look at %s of the daemon" % what)


def rss_bytes(pid):
    need_trace("the memory")
    with open("/proc/%d/smaps_rollup" % pid) as f:
        for line in f:
            if line.startswith("Rss:"):
                return int(line.split()[1]) * 1024
    raise AssertionError("no Rss line")


def fd_count(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


def socket_inodes(pid):
    out = set()
    for fd in os.listdir("/proc/%d/fd" % pid):
        with contextlib.suppress(OSError):
            m = re.match(r"socket:\[(\d+)\]", os.readlink("/proc/%d/fd/%s" % (pid, fd)))
            if m:
                out.add(int(m.group(1)))
    return out


class SockDiag:
    """TCP sockets by destination port, asked from the kernel (NETLINK_SOCK_DIAG) and filtered there: a look takes
    well under a millisecond however many other sockets there are."""

    def __init__(self):
        self.s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4)

    def close(self):
        self.s.close()

    def dump(self, *dports, family=socket.AF_INET):
        """[(state, inode)] of the sockets whose peer is one of those ports. inode 0: closed by its owner already."""
        # Per port: D_GE port ? next : next port; D_LE port ? next : next port; jump to the end (accept). An op is
        # (code, yes, no), followed by (0, 0, port) for a comparison; a jump to 4 beyond the end rejects.
        size, bc = 20 * len(dports) - 4, b""
        for i, port in enumerate(dports):
            last = i == len(dports) - 1
            left = size - len(bc)
            bc += struct.pack("=BBHBBH", 4, 8, left + 4 if last else 20, 0, 0, port)
            bc += struct.pack("=BBHBBH", 5, 8, left - 8 + 4 if last else 12, 0, 0, port)
            if not last:
                bc += struct.pack("=BBH", 1, 4, left - 16)
        req = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, 0xfff) + b"\0" * 48
        attr = struct.pack("=HH", 4 + len(bc), 1) + bc
        body = req + attr
        self.s.send(struct.pack("=IHHII", 16 + len(body), 20, 0x301, 1, 0) + body)
        out = []
        while True:
            data = self.s.recv(1 << 17)
            off = 0
            while off + 16 <= len(data):
                n, typ = struct.unpack_from("=IH", data, off)
                if typ == 3:
                    return out
                if typ == 2:
                    raise OSError(-struct.unpack_from("=i", data, off + 16)[0], "sock_diag")
                m = off + 16
                state = data[m + 1]
                inode = struct.unpack_from("=I", data, m + 68)[0]
                out.append((state, inode))
                off += (n + 3) & ~3


LISTEN_STATE = 10


def sockets_to(port):
    """Sockets that some process still holds towards the port: in any state but closed by their owner."""
    d = SockDiag()
    try:
        return sum(1 for state, inode in d.dump(port) if inode != 0 and state != LISTEN_STATE)
    finally:
        d.close()


class SocketWatch:
    """Looks again and again at how many sockets a process holds towards some ports; .peak is the most at one instant. The
    process is stopped for each look, so that one that is closed and its successor are never both counted."""

    def __init__(self, pid, *ports, gap=0.002):
        self.pid, self.ports, self.gap, self.peak, self.samples, self.stop = pid, ports, gap, 0, 0, False
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        d = SockDiag()
        while not self.stop:
            os.kill(self.pid, signal.SIGSTOP)
            while not stopped(self.pid):
                pass
            n = sum(1 for state, inode in d.dump(*self.ports) if inode != 0 and state != LISTEN_STATE)
            os.kill(self.pid, signal.SIGCONT)
            self.peak = max(self.peak, n)
            self.samples += 1
            time.sleep(self.gap)
        d.close()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.stop = True
        self.thread.join()


def stopped(pid):
    """Whether no thread of it runs."""
    for t in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/stat" % (pid, t)) as f:
            if f.read().rpartition(")")[2].split()[0] not in "Tt":
                return False
    return True


def set_nofile(pid, soft, hard=None):
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard if hard is not None else soft))


# --- clients ----------------------------------------------------------------------------------------------------------

class Conn:
    """A raw client that keeps what it reads and knows how it ended."""

    def __init__(self, where, timeout=10.0, rcvbuf=0, sndbuf=0):
        if isinstance(where, str):
            self.s = socket.socket(socket.AF_UNIX)
        elif isinstance(where, tuple) and ":" in where[0]:
            self.s = socket.socket(socket.AF_INET6)
        else:
            self.s = socket.socket(socket.AF_INET)
            where = where if isinstance(where, tuple) else ("127.0.0.1", where)
        if rcvbuf:
            self.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        if sndbuf:
            self.s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sndbuf)
        self.timeout = timeout * SLOW
        self.s.settimeout(self.timeout)
        self.born = time.monotonic()
        self.s.connect(where)
        if self.s.family != socket.AF_UNIX:
            self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buf = b""

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def fileno(self):
        return self.s.fileno()

    def send(self, data):
        self.s.sendall(data)
        return self

    def _more(self):
        data = self.s.recv(1 << 16)
        if not data:
            raise EOFError("closed after %r" % self.buf[-200:])
        self.buf += data

    def exactly(self, n):
        while len(self.buf) < n:
            self._more()
        out, self.buf = self.buf[:n], self.buf[n:]
        return out

    def line(self):
        while b"\n" not in self.buf:
            self._more()
        out, _, self.buf = self.buf.partition(b"\n")
        return out + b"\n"

    def ask(self, data):
        return self.send(data).line()

    def ping(self):
        assert self.ask(b"PING\r\n") == b"+PONG\r\n"
        return self

    def rest(self):
        """All bytes up to the end of the stream."""
        out, self.buf = bytearray(self.buf), b""
        while True:
            data = self.s.recv(1 << 20)
            if not data:
                return bytes(out)
            out += data

    def ended(self, timeout=5.0):
        """Waits for the other side to end the connection, dropping what it says: "eof" or "reset"."""
        self.s.settimeout(timeout * SLOW)
        try:
            while self.s.recv(1 << 16):
                pass
            return "eof"
        except ConnectionResetError:
            return "reset"
        finally:
            self.s.settimeout(self.timeout)

    def silent(self, seconds):
        """True when neither a byte nor an end comes for so long."""
        if self.buf:
            return False
        return not select.select([self.s], [], [], seconds)[0]

    def half_close(self):
        self.s.shutdown(socket.SHUT_WR)
        return self

    def reset(self):
        """Closes with RST."""
        self.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.s.close()

    def close(self):
        self.s.close()


def resp(*words):
    """A redis command."""
    out = b"*%d\r\n" % len(words)
    for w in words:
        w = w if isinstance(w, bytes) else str(w).encode()
        out += b"$%d\r\n%s\r\n" % (len(w), w)
    return out


def percentile(values, p):
    v = sorted(values)
    return v[min(len(v) - 1, int(len(v) * p))]


class UnixHTTP(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


# --- processes --------------------------------------------------------------------------------------------------------

class Proc:
    """A child process: started by argument list, ended by its id."""

    def __init__(self, rig, argv, name, env=None, stdin=subprocess.DEVNULL, stdout=None, stderr=None, pass_fds=(),
                 preexec=None, cwd=None):
        self.rig, self.name = rig, name
        self.out_path = os.path.join(rig.dir, "%s.%d.out" % (name, len(rig.procs)))
        self.err_path = os.path.join(rig.dir, "%s.%d.err" % (name, len(rig.procs)))
        out = open(self.out_path, "ab") if stdout is None else stdout
        err = open(self.err_path, "ab") if stderr is None else stderr
        self.p = subprocess.Popen(argv, env=env, stdin=stdin, stdout=out, stderr=err, pass_fds=pass_fds,
                                  preexec_fn=preexec, cwd=cwd)
        for f in (out, err):
            if hasattr(f, "close") and f not in (stdout, stderr):
                f.close()
        self.pid = self.p.pid
        rig.procs.append(self)

    @property
    def running(self):
        return self.p.poll() is None

    def signal(self, sig):
        self.p.send_signal(sig)

    def kill(self):
        if self.running:
            self.p.kill()
        self.p.wait()

    def wait_exit(self, timeout=5.0):
        try:
            return self.p.wait(timeout * SLOW)
        except subprocess.TimeoutExpired:
            raise AssertionError("%s did not end within %.1f s" % (self.name, timeout * SLOW))

    def end(self):
        if self.running:
            self.signal(signal.SIGCONT)
            self.p.terminate()
            try:
                self.p.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()

    def stderr(self):
        if not os.path.exists(self.err_path):       # it goes elsewhere
            return ""
        with open(self.err_path, errors="replace") as f:
            return f.read()


class Server(Proc):
    """A real server on a loopback port (or in a namespace); kill() and again() leave the port the same."""

    def __init__(self, rig, argv, name, port, ready, **kw):
        self.argv, self.port, self.ready, self.kw = argv, port, ready, kw
        super().__init__(rig, argv, name, **kw)
        self.await_ready()

    def await_ready(self):
        def up():
            if not self.running:
                raise AssertionError("%s ended with %s: %s" % (self.name, self.p.returncode, self.stderr()[-500:]))
            return self.ready()
        poll(up, 10, "%s on port %d" % (self.name, self.port))

    def again(self):
        """Starts it anew on the same port; returns when it accepts."""
        assert not self.running
        new = Server(self.rig, self.argv, self.name, self.port, self.ready, **self.kw)
        self.p, self.pid = new.p, new.pid
        return self


class Scripted:
    """A server in this process: fn(sock, n) runs in a thread for each connection, n counting from 1. It knows how many
    connections it has seen, has now, and had at most at once. stop() closes the listener, resume() opens it again."""

    def __init__(self, fn, port=None, backlog=512):
        self.fn, self.port, self.backlog = fn, port or free_port(), backlog
        self.lock, self.socks = threading.Lock(), {}
        self.seen = self.peak = 0
        self.name = "127.0.0.1:%d" % self.port
        self.resume()

    def resume(self):
        self.l = socket.socket()
        self.l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.l.bind(("127.0.0.1", self.port))
        self.l.listen(self.backlog)
        self.open = True
        self.thread = threading.Thread(target=self._accept, args=(self.l,), daemon=True)
        self.thread.start()

    @property
    def live(self):
        return len(self.socks)

    def _accept(self, l):
        while True:
            try:
                s, _ = l.accept()
            except OSError:
                return
            with self.lock:
                self.seen += 1
                n = self.seen
                self.socks[n] = s
                self.peak = max(self.peak, len(self.socks))
            threading.Thread(target=self._serve, args=(s, n), daemon=True).start()

    def _serve(self, s, n):
        try:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.fn(s, n)
        except OSError:
            pass
        finally:
            with self.lock:
                self.socks.pop(n, None)
            s.close()

    def stop(self):
        if self.open:
            self.open = False
            self.l.shutdown(socket.SHUT_RDWR)
            self.l.close()
            self.thread.join()

    def cut(self, reset=False):
        """Ends every connection."""
        with self.lock:
            socks = list(self.socks.values())
        for s in socks:
            with contextlib.suppress(OSError):
                if reset:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    reset_now(s)
                else:
                    s.shutdown(socket.SHUT_RDWR)

    def end(self):
        self.stop()
        self.cut()


def reset_now(s):
    """Resets a connection that another thread may be reading: disconnect by AF_UNSPEC sends the RST at once."""
    libc.connect(s.fileno(), struct.pack("=H14x", socket.AF_UNSPEC), 16)


def read_line(s):
    """One line from a plain socket, byte by byte; None at the end."""
    out = b""
    while not out.endswith(b"\n"):
        b = s.recv(1)
        if not b:
            return None
        out += b
    return out


def echo(s, n=0):
    while True:
        b = s.recv(1 << 16)
        if not b:
            return
        s.sendall(b)


def pong(s, n=0):
    """Answers lines: PING with +PONG, ID with its connection's number, anything else with +OK."""
    while True:
        line = read_line(s)
        if line is None:
            return
        word = line.strip().upper()
        s.sendall(b"+PONG\r\n" if word == b"PING" else b"+%d\r\n" % n if word == b"ID" else b"+OK\r\n")


class Leased(Proc):
    """The daemon. Made by Rig.leased()."""

    def __init__(self, rig, tree=None, text=None, *, args=(), env=None, prefix=(), wait=True, notify=True, admin=True,
                 expect_exit=0, nofile=None, pass_fds=(), preexec=None, stderr=None, ready_timeout=10, config=None,
                 program=LEASED):
        self.dir = tempfile.mkdtemp(prefix="d", dir=rig.dir)
        os.chmod(self.dir, 0o777)       # the daemon may become another user
        self.admin = os.path.join(self.dir, "admin.sock")
        self.config = config or os.path.join(self.dir, "leased.conf")
        self.expect_exit = expect_exit
        tree = dict(tree or {})
        if admin is True and "admin" not in tree and text is None:
            tree["admin"] = {"listen": "unix:" + self.admin}
        if isinstance(admin, dict):
            tree["admin"] = admin
        self.tree = tree
        if config is None:
            with open(self.config, "w") as f:
                f.write(text if text is not None else conf_text(tree))
            os.chmod(self.config, 0o600)
        e = dict(os.environ)
        for k in ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "LEASED_CONFIG"):
            e.pop(k, None)
        self.san = os.path.join(self.dir, "sanitizer")
        e.update(ASAN_OPTIONS=ASAN % self.san, UBSAN_OPTIONS=UBSAN % self.san, TSAN_OPTIONS=TSAN % self.san)
        self.notify = None
        self.notices = []
        if notify:
            self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            path = os.path.join(self.dir, "notify.sock")
            self.notify.bind(path)
            os.chmod(path, 0o777)
            self.notify.setblocking(False)
            e["NOTIFY_SOCKET"] = path
        if os.environ.get("LEASED_FAILIO") and "LD_PRELOAD" not in (env or {}):
            self.failio = FailIO(rig, "failio.%d" % len(rig.daemons))       # the whole suite with short and interrupted calls
            self.failio.short(int(os.environ["LEASED_FAILIO"]))
            e.update(self.failio.env())
        e.update(env or {})
        e = {k: v for k, v in e.items() if v is not None}

        def pre():
            if nofile:
                resource.setrlimit(resource.RLIMIT_NOFILE, nofile if isinstance(nofile, tuple) else (nofile, nofile))
            if preexec:
                preexec()
        super().__init__(rig, list(prefix) + [program, "-c", self.config] + list(args), "leased", env=e,
                         pass_fds=pass_fds, preexec=pre if (nofile or preexec) else None, stderr=stderr)
        rig.daemons.append(self)
        if wait:
            self.await_ready(ready_timeout)

    # life

    def read_notices(self):
        if self.notify:
            with contextlib.suppress(BlockingIOError):
                while True:
                    self.notices.append(self.notify.recv(4096).decode(errors="replace"))
        return self.notices

    def await_ready(self, timeout=10):
        def up():
            if not self.running:
                raise AssertionError("leased ended with %s: %s" % (self.p.returncode, self.stderr()[-2000:]))
            if self.notify:
                return any("READY=1" in n for n in self.read_notices())
            return self.answers()
        poll(up, timeout, "leased to be ready")

    def answers(self):
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.request("GET", "/status.json")[0] == 200
        return False

    def term(self, timeout=10):
        self.signal(signal.SIGTERM)
        return self.wait_exit(timeout)

    def finish(self):
        """The end of a test: stops at once, then everything about the end is judged. Returns complaints."""
        bad = []
        if self.running:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGQUIT)
            try:
                self.p.wait(10 * SLOW)
            except subprocess.TimeoutExpired:
                bad.append("leased did not stop within %.0f s of SIGQUIT" % (10 * SLOW))
                self.kill()
                return bad
        if self.p.returncode != self.expect_exit and self.expect_exit is not None:
            bad.append("leased ended with %s instead of %s" % (self.p.returncode, self.expect_exit))
        for f in os.listdir(self.dir):
            if f.startswith("sanitizer."):
                with open(os.path.join(self.dir, f), errors="replace") as r:
                    bad.append("sanitizer: " + r.read()[:6000])
        if self.p.returncode == 0:
            bad += ["socket left behind: " + p for p in self.unix_paths() if os.path.exists(p)]
        for m in re.findall(r".*(?:AddressSanitizer|ThreadSanitizer|runtime error:|BUG_ON|assertion).*", self.stderr()):
            bad.append("stderr: " + m)
        if self.notify:
            self.notify.close()
        return bad

    def unix_paths(self):
        out = []
        for words in [self.tree.get("admin", {}).get("listen", "")] + [
                l["address"] if isinstance(l, dict) else l for p in self.tree.get("pools", ()) for l in p["listen"]]:
            if isinstance(words, str) and words.startswith("unix:"):
                out.append(words[5:])
        return out

    # talking

    def request(self, method, path, timeout=10.0):
        c = UnixHTTP(self.admin, timeout * SLOW)
        try:
            c.request(method, path)
            r = c.getresponse()
            return r.status, r.read().decode()
        finally:
            c.close()

    def status(self, full=False):
        code, body = self.request("GET", "/status.json" + ("?full=1" if full else ""))
        assert code == 200, (code, body)
        return json.loads(body)

    def pool(self, name=None, full=False):
        pools = self.status(full)["pools"]
        return pools[0] if name is None else next(p for p in pools if p["name"] == name)

    def stats(self, name=None):
        return self.pool(name)["stats"]

    def wait(self, cond, timeout=5.0, full=False, text="status"):
        """Polls the status until cond(status) holds; returns that status."""
        last = {}

        def check():
            last["s"] = self.status(full)
            return cond(last["s"])
        try:
            poll(check, timeout, text)
        except AssertionError as e:
            raise AssertionError("%s; last status: %s" % (e, json.dumps(last.get("s"))[:3000]))
        return last["s"]

    def wait_pool(self, cond, name=None, timeout=5.0, full=False):
        pick = lambda s: s["pools"][0] if name is None else next(p for p in s["pools"] if p["name"] == name)
        return pick(self.wait(lambda s: cond(pick(s)), timeout, full, "pool"))

    def metrics_text(self):
        code, body = self.request("GET", "/metrics")
        assert code == 200, (code, body)
        return body

    def metrics(self):
        """{name: {frozenset(labels.items()): value}}"""
        return parse_metrics(self.metrics_text())

    def ctl(self, *args, timeout=15):
        r = subprocess.run([LEASECTL, "-s", self.admin] + list(args), capture_output=True, text=True, timeout=timeout)
        return r.returncode, r.stdout, r.stderr

    # looking

    def log_lines(self, match=None):
        path = self.err_path
        if not os.path.exists(path):
            return []
        with open(path, errors="replace") as f:
            lines = f.read().splitlines()
        return [l for l in lines if match is None or match in l]

    def cpu(self):
        return cpu_seconds(self.pid)

    def rss(self):
        return rss_bytes(self.pid)

    def fds(self):
        return fd_count(self.pid)

    def cpu_share(self, seconds):
        """Part of one processor used over so long a time (this is the thing measured: nothing to wait for)."""
        a, t = self.cpu(), time.monotonic()
        time.sleep(seconds)
        return (self.cpu() - a) / (time.monotonic() - t)


def states(p):
    """Sum over a pool's servers of connections by state."""
    out = {}
    for s in p["servers"]:
        for k, v in s["states"].items():
            out[k] = out.get(k, 0) + v
    return out


def connections(p):
    return sum(states(p).values())


def err_count(p, counter, reason):
    return p["stats"][counter].get(reason, 0)


METRIC_LINE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$')
METRIC_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(?:,|$)')


def parse_metrics(text):
    """Prometheus text format 0.0.4, strictly: every series under a HELP and a TYPE, none twice, no interleaving."""
    types, helps, out, closed, current = {}, set(), {}, set(), None
    assert text.endswith("\n"), "last line without a newline"
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name, _, doc = line[7:].partition(" ")
            assert name not in helps, "HELP twice: " + name
            assert doc, "empty HELP: " + name
            helps.add(name)
            continue
        if line.startswith("# TYPE "):
            name, typ = line[7:].split(" ")
            assert name not in types, "TYPE twice: " + name
            assert typ in ("counter", "gauge", "histogram", "summary", "untyped"), line
            types[name] = typ
            continue
        if line.startswith("#") or not line:
            continue
        m = METRIC_LINE.match(line)
        assert m, "not a sample: %r" % line
        name, labels, value = m.groups()
        pos, found = 0, {}
        while labels and pos < len(labels):
            l = METRIC_LABEL.match(labels, pos)
            assert l, "bad labels: %r" % line
            assert l.group(1) not in found, "label twice: %r" % line
            found[l.group(1)] = l.group(2)
            pos = l.end()
        base = name
        if name not in types:
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            assert types.get(base) in ("histogram", "summary"), "sample without TYPE: " + line
        assert base in helps, "sample without HELP: " + line
        if base != current:
            assert base not in closed, "series of %s are not together" % base
            if current:
                closed.add(current)
            current = base
        key = frozenset(found.items())
        assert key not in out.setdefault(name, {}), "series twice: " + line
        out[name][key] = float(value)
    return out


def metric(m, name, **labels):
    """The one value, or the sum, of the series that have these labels."""
    return sum(v for k, v in m.get(name, {}).items() if set(labels.items()) <= k)


class Rig:
    """What one test started."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="leased-test.")
        os.chmod(self.dir, 0o755)
        self.procs, self.daemons, self.closers, self.text = [], [], [], None

    # daemons

    def leased(self, pools=None, text=None, *, log=None, **kw):
        """Keyword arguments of Leased; others (limits=, dns=, workers=, ...) are top-level groups of the configuration."""
        own = {k: kw.pop(k) for k in list(kw) if k in Leased.__init__.__kwdefaults__}
        tree = None
        if text is None:
            tree = {"log": dict({"level": "info"}, **(log or {}))}
            tree.update(kw)
            if pools is not None:
                tree["pools"] = list(pools) if isinstance(pools, (list, tuple)) else [pools]
        return Leased(self, tree, text, **own)

    def proxy(self, servers, top=None, name="p", own=None, **keys):
        """A daemon with one pool on one TCP port: .port; own: keyword arguments of Leased."""
        port = free_port()
        d = self.leased(pool(name, servers, listen="127.0.0.1:%d" % port, **keys), **dict(top or {}, **(own or {})))
        d.port = port
        return d

    def check(self, *args, text=None, tree=None, env=None):
        """Runs leased to its end with these arguments (no -c unless a configuration is given); (code, out, err)."""
        argv = [LEASED] + list(args)
        if text is not None or tree is not None:
            path = os.path.join(self.dir, "check.conf")
            with open(path, "w") as f:
                f.write(text if text is not None else conf_text(tree))
            os.chmod(path, 0o600)
            argv += ["-c", path]
        e = dict(os.environ, **(env or {}))
        e.pop("NOTIFY_SOCKET", None)
        r = subprocess.run(argv, capture_output=True, text=True, timeout=20 * SLOW, env=e)
        return r.returncode, r.stdout, r.stderr

    # servers

    def redis(self, *args, port=None, prefix=(), host="127.0.0.1"):
        port = port or free_port()
        sock = os.path.join(self.dir, "redis.%d.sock" % port)
        argv = list(prefix) + ["redis-server", "--port", str(port), "--bind", host, "--save", "", "--appendonly", "no",
                               "--protected-mode", "no", "--unixsocket", sock, "--dir", self.dir, "--maxclients", "5000"] + list(args)

        def ready():
            with contextlib.suppress(OSError):
                with contextlib.closing(socket.socket(socket.AF_UNIX)) as s:
                    s.connect(sock)
                    return prefix or try_connect(port, host)
            return False
        srv = Server(self, argv, "redis", port, ready)
        srv.sock = sock
        return srv

    def redis_info(self, srv, section, field):
        c = Conn(srv.sock)
        c.send(resp("INFO", section))
        n = int(c.line()[1:])
        text = c.exactly(n).decode()
        c.close()
        return re.search(r"^%s:(.*?)\r?$" % re.escape(field), text, re.M).group(1)

    def memcached(self, *args, port=None):
        port = port or free_port()
        argv = ["memcached", "-u", "root", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-m", "64", "-c", "4096",
                "-t", "2"] + list(args)
        return Server(self, argv, "memcached", port, lambda: try_connect(port))

    def nginx(self, port=None, keepalive="75s", more="", root=None):
        port = port or free_port()
        base = tempfile.mkdtemp(prefix="nginx", dir=self.dir)
        root = root or os.path.join(base, "html")
        os.makedirs(root, exist_ok=True)
        with open(os.path.join(root, "index.html"), "w") as f:
            f.write("hello from nginx\n")
        conf = os.path.join(base, "nginx.conf")
        with open(conf, "w") as f:
            f.write("""daemon off; master_process off; worker_processes 1; pid %(b)s/pid; error_log %(b)s/error.log warn;
worker_rlimit_nofile 8192; user root;
events { worker_connections 4096; }
http { access_log off; client_body_temp_path %(b)s/cb; proxy_temp_path %(b)s/pt; fastcgi_temp_path %(b)s/ft;
uwsgi_temp_path %(b)s/ut; scgi_temp_path %(b)s/st; keepalive_timeout %(k)s; keepalive_requests 1000000; sendfile on;
server { listen 127.0.0.1:%(p)d backlog=4096; root %(r)s; location /connection { return 200 "$connection $connection_requests\\n"; } %(m)s } }
""" % {"b": base, "p": port, "k": keepalive, "m": more, "r": root})
        srv = Server(self, ["nginx", "-p", base, "-c", conf, "-e", base + "/error.log"], "nginx", port, lambda: try_connect(port))
        srv.root = root
        return srv

    def socat(self, system, port=None, block=65536):
        """Each connection to the port runs the shell command with it as stdin and stdout."""
        port = port or free_port()
        argv = ["socat", "-t", "10", "-b", str(block), "TCP-LISTEN:%d,bind=127.0.0.1,reuseaddr,fork,backlog=512" % port, system]
        return Server(self, argv, "socat", port, lambda: listening(port))

    def scripted(self, fn, **kw):
        srv = Scripted(fn, **kw)
        self.closers.append(srv.end)
        return srv

    def bad(self, port=None, **kw):
        """A programmable bad server (tests/fake/badserver.py)."""
        from badserver import BadServer
        srv = BadServer(port=port or free_port(), **kw)
        self.closers.append(srv.close)
        return srv

    def relay(self, target):
        """A relay with toxics (tests/fake/relay.py) in front of a server."""
        from relay import Relay
        r = Relay(target if isinstance(target, int) else target.port, port=free_port())
        self.closers.append(r.close)
        return r

    def dns(self):
        from dnsserver import DnsServer
        d = DnsServer(port=free_port())
        self.closers.append(d.close)
        return d

    def run(self, argv, timeout=60, **kw):
        return subprocess.run(argv, capture_output=True, text=True, timeout=timeout * SLOW, **kw)

    def path(self, name):
        return os.path.join(self.dir, name)

    def client(self, where, **kw):
        c = Conn(where, **kw)
        self.closers.append(c.close)
        return c

    # the end

    def finish(self):
        bad = []
        for c in reversed(self.closers):
            with contextlib.suppress(Exception):
                c()
        for d in self.daemons:
            bad += d.finish()
        for p in reversed(self.procs):
            if p not in self.daemons:
                p.end()
        return bad

    def tail(self, lines=60):
        if self.text is not None:
            return self.text
        out = []
        for d in self.daemons:
            with contextlib.suppress(OSError):
                with open(d.config) as f:
                    out.append("--- configuration %s\n%s" % (d.config, f.read()[:4000]))
            out.append("--- log of leased %d (ended: %s)\n%s" % (d.pid, d.p.returncode, "\n".join(d.log_lines()[-lines:])))
        return "\n".join(out)

    def remove(self):
        shutil.rmtree(self.dir, ignore_errors=True)


def listening(port):
    """Whether somebody listens, without connecting."""
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError):
            with open(name) as f:
                for line in f:
                    w = line.split()
                    if len(w) > 3 and w[3] == "0A" and int(w[1].rsplit(":", 1)[1], 16) == port:
                        return True
    return False


# --- network namespaces -----------------------------------------------------------------------------------------------

def need_unshare(*what):
    """Skips the test where no namespace of that kind can be made: without root, in most containers, and (mounts) in a
    chroot whose root is no mount point."""
    r = subprocess.run(["unshare"] + list(what) + ["true"], capture_output=True, text=True)
    if r.returncode != 0:
        pytest.skip("needs unshare %s, refused here: %s" % (" ".join(what), r.stderr.strip()))


class NetNS:
    """A network namespace held by a process of ours; gone with it. `prefix` runs a command inside."""

    def __init__(self, rig):
        need_unshare("-n")
        r, w = os.pipe()
        self.holder = Proc(rig, ["unshare", "-n", "sh", "-c", "ip link set lo up && echo up && exec cat"], "netns",
                           stdin=subprocess.PIPE, stdout=w)
        os.close(w)
        assert os.read(r, 3), "no network namespace"
        os.close(r)
        self.prefix = ["nsenter", "-t", str(self.holder.pid), "-n", "--"]

    def run(self, *argv):
        r = subprocess.run(self.prefix + list(argv), capture_output=True, text=True, timeout=20)
        assert r.returncode == 0, (argv, r.stdout, r.stderr)
        return r.stdout


class NetPair:
    """Two namespaces joined by a veth pair: a (10.99.0.1) for the daemon, b (10.99.0.2) for servers. Clients reach the
    daemon through Unix sockets, which belong to no network."""
    A, B = "10.99.0.1", "10.99.0.2"

    def __init__(self, rig):
        self.a, self.b = NetNS(rig), NetNS(rig)
        self.a.run("ip", "link", "add", "va", "type", "veth", "peer", "name", "vb", "netns", str(self.b.holder.pid))
        for ns, dev, addr in ((self.a, "va", self.A), (self.b, "vb", self.B)):
            ns.run("ip", "addr", "add", addr + "/24", "dev", dev)
            ns.run("ip", "link", "set", dev, "up")

    def drop(self, port=None, both=True):
        """Black hole between the two, from now on."""
        what = ["-p", "tcp"] + (["--dport", str(port)] if port else [])
        self.b.run("iptables", "-I", "INPUT", *what, "-j", "DROP")
        if both:
            what = ["-p", "tcp"] + (["--sport", str(port)] if port else [])
            self.b.run("iptables", "-I", "OUTPUT", *what, "-j", "DROP")

    def heal(self):
        self.b.run("iptables", "-F")


# --- failing system calls ---------------------------------------------------------------------------------------------

class FailIO:
    """Control page of tests/fake/failio.c: arm(call, n, errno) makes the next n calls fail; short = 1 in N calls is
    short, interrupted or told EAGAIN. hits(call) counts what was injected."""
    CALLS = ("accept4", "socket", "connect", "read", "write", "recv", "send", "splice", "open", "epoll_ctl", "pipe2")

    def __init__(self, rig, name="failio.ctl"):
        self.path = rig.path(name)
        with open(self.path, "wb") as f:
            f.write(b"\0" * 4096)
        self.f = open(self.path, "r+b", buffering=0)

    def env(self, **more):
        return dict({"LD_PRELOAD": FAILIO, "FAILIO_CTL": self.path}, **more)

    def _slot(self, call):
        return 64 + 16 * self.CALLS.index(call)

    def arm(self, call, n, err):
        """n < 0: until disarmed."""
        self.f.seek(self._slot(call))
        self.f.write(struct.pack("=ii", n, err))

    def disarm(self, call):
        self.arm(call, 0, 0)

    def hits(self, call):
        self.f.seek(self._slot(call) + 8)
        return struct.unpack("=q", self.f.read(8))[0]

    def short(self, one_in):
        self.f.seek(0)
        self.f.write(struct.pack("=i", one_in))

    def shortened(self):
        self.f.seek(8)
        return struct.unpack("=q", self.f.read(8))[0]


libc = ctypes.CDLL(None, use_errno=True)


def drop_uid(uid):
    """For preexec: become another user for good."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def gap_of(times, start, end):
    """The longest time without an event in [start, end]."""
    edges = [start] + sorted(t for t in times if start <= t <= end) + [end]
    return max(b - a for a, b in zip(edges, edges[1:]))


__all__ = [n for n in dir() if not n.startswith("_")]
