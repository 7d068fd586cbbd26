#!/usr/bin/python3
"""
Traffic of redis-benchmark and of memcached clients through a leased that this script starts, with figures from both sides; the
user and password of redis change meanwhile, several times. Ends with 0 only when every request was answered, and answered right.
"""
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LEASED = os.environ.get("LEASED_BIN", os.path.join(TOP, "build", "leased"))
REQUESTS = int(os.environ.get("REQUESTS", "100000"))
ROTATIONS = 5
REQUESTS_BETWEEN = 20000
CONF = """\
admin = { listen = "unix:%(dir)s/admin.sock"; };
log = { target = "file"; file = "%(dir)s/leased.log"; connections = false; };
credentials = ( { name = "redis"; source = "file"; path = "%(dir)s/redis.json"; } );
pools = (
  { name = "redis"; protocol = "redis"; mode = "transaction"; credentials = "redis"; reauth_spread = "200ms";
    listen = ( "127.0.0.1:%(redis_in)d" ); servers = ( "127.0.0.1:%(redis)d" ); },
  { name = "memcached"; protocol = "tcp"; listen = ( "127.0.0.1:%(mc_in)d" ); servers = ( "127.0.0.1:%(mc)d" );
    reuse = "script"; ready_check = ( { send = "version\\r\\n"; expect = "VERSION"; } ); }
);
"""


class Failed(Exception):
    pass


def free_ports(n):
    socks = [socket.socket() for _ in range(n)]
    for s in socks:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in socks]
    for s in socks:
        s.close()
    return ports


def wait_for(what, ready, process, seconds=10):
    end = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None:
            raise Failed("%s ended with code %d" % (what, process.returncode))
        if time.monotonic() > end:
            raise Failed("%s is not ready after %d s" % (what, seconds))
        time.sleep(0.02)


def answers(address, ask, prefix):
    try:
        with socket.create_connection(address, 1) as s:
            s.sendall(ask)
            return s.recv(100).startswith(prefix)
    except OSError:
        return False


def status(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(5)
        s.connect(path)
        s.sendall(b"GET /status.json HTTP/1.1\r\nHost: leased\r\nConnection: close\r\n\r\n")
        data = b""
        while chunk := s.recv(65536):
            data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        raise Failed("status: %r" % head[:100])
    if b"chunked" in head.lower():
        out, rest = b"", body
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            n = int(size or b"0", 16)
            out, rest = out + rest[:n], rest[n + 2:]
            if n == 0:
                break
        body = out
    return json.loads(body)


def redis_say(port, *words):
    with socket.create_connection(("127.0.0.1", port), 5) as s:
        s.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words))
        got = s.recv(1000)
        if got[:1] not in (b"+", b":"):
            raise Failed("redis-server: %s: %r" % (words[0], got))


class Login:
    """Who leased is for redis-server. It knows of it by a file and by nothing else."""

    def __init__(self, port, path):
        self.port, self.path, self.number = port, path, 0

    def name(self, number):
        return "app-%d" % number

    def next(self):
        """A new user with a new password. The file is replaced as a whole, as whoever writes secrets should."""
        self.number += 1
        name, password = self.name(self.number), os.urandom(16).hex()
        redis_say(self.port, "ACL", "SETUSER", name, "on", ">" + password, "~*", "&*", "+@all")
        with open(os.open(self.path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as f:
            json.dump({"username": name, "password": password}, f)
        os.rename(self.path + ".new", self.path)

    def forget_last(self):
        """Ends every connection that is still the user's before."""
        redis_say(self.port, "ACL", "DELUSER", self.name(self.number - 1))


class Rotation(threading.Thread):
    """Changes the login while others work, and sees how long it takes until no connection uses the one before."""

    def __init__(self, login, admin):
        super().__init__()
        self.login, self.admin = login, admin
        self.took, self.error = [], None

    def look(self):
        s = status(self.admin)
        return s["credentials"][0], next(p for p in s["pools"] if p["name"] == "redis")

    def settled(self, after):
        """The newest generation, once it is a later one and every connection is logged in with it; else 0."""
        credential, pool = self.look()
        server = pool["servers"][0]
        return credential["generation"] if credential["generation"] == server["cred_gen"] > after and server["stale"] == 0 else 0

    def requests(self):
        return self.look()[1]["stats"]["requests"]

    def wait(self, what, why):
        end = time.monotonic() + 20
        while not (got := what()):
            if time.monotonic() > end:
                raise Failed("%s within 20 s" % why)
            time.sleep(0.01)
        return got

    def run(self):
        try:
            generation = self.wait(lambda: self.settled(0), "no login")
            for _ in range(ROTATIONS):
                served = self.requests()
                self.wait(lambda: self.requests() >= served + REQUESTS_BETWEEN, "not enough requests")
                start = time.monotonic()
                self.login.next()
                generation = self.wait(lambda: self.settled(generation), "the login did not change")
                self.took.append(time.monotonic() - start)
                self.login.forget_last()
        except (Failed, OSError, ValueError, KeyError) as e:
            self.error = "%s: %s" % (type(e).__name__, e)


def redis_benchmark(port):
    """(requests, errors, requests per second)"""
    out = subprocess.run(["redis-benchmark", "-h", "127.0.0.1", "-p", str(port), "-n", str(REQUESTS // 2), "-c", "10",
                          "-t", "set,get", "-r", "1000", "-d", "32", "--csv"], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, timeout=120, text=True)
    rates = [float(line.split(",")[1].strip('"')) for line in out.stdout.splitlines() if line.startswith(('"SET"', '"GET"'))]
    if out.returncode != 0 or len(rates) != 2:
        raise Failed("redis-benchmark: code %d: %s" % (out.returncode, out.stdout[-500:]))
    return REQUESTS // 2 * 2, 0, sum(rates) / 2


class Memcached(threading.Thread):
    """One client after the other, each with its own keys, which it reads back."""

    def __init__(self, port, clients, number):
        super().__init__()
        self.port, self.clients, self.number = port, clients, number
        self.requests = 0
        self.errors = []

    def session(self, client):
        with socket.create_connection(("127.0.0.1", self.port), 30) as s, s.makefile("rwb") as f:
            for i in range(20):
                key, value = b"k%d.%d.%d" % (self.number, client, i), os.urandom(8).hex().encode()
                f.write(b"set %s 0 60 %d\r\n%s\r\nget %s\r\n" % (key, len(value), value, key))
                f.flush()
                got = [f.readline() for _ in range(4)]
                if got != [b"STORED\r\n", b"VALUE %s 0 %d\r\n" % (key, len(value)), value + b"\r\n", b"END\r\n"]:
                    self.errors.append("key %r: %r" % (key, got))
                self.requests += 2

    def run(self):
        for client in range(self.clients):
            try:
                self.session(client)
            except OSError as e:
                self.errors.append(str(e))


def totals(pool):
    st = pool["stats"]
    dials = st.get("dials", {})
    failures = sum(st.get("lease_failures", {}).values())
    return sum(dials.values()), dials.get("ok", 0), st["leases"], st["leases_reused"], failures


def traffic(ports, admin, login):
    redis_in, mc_in = ports
    rows, rates = [], []
    rotation = Rotation(login, admin)
    rotation.start()
    requests = errors = 0
    while rotation.is_alive() or not rates:
        n, wrong, rate = redis_benchmark(redis_in)
        requests, errors = requests + n, errors + wrong
        rates.append(rate)
    rotation.join()
    rows.append(["redis", "redis-benchmark, 10 clients", requests, errors, sum(rates) / len(rates)])
    start = time.monotonic()
    threads = [Memcached(mc_in, 50, n) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    wrong = [e for t in threads for e in t.errors]
    requests = sum(t.requests for t in threads)
    rows.append(["memcached", "400 short clients, 8 at a time", requests, len(wrong), requests / (time.monotonic() - start)])
    pools = {p["name"]: p for p in status(admin)["pools"]}
    bad = wrong
    if rotation.error:
        bad.append(rotation.error)
    print("\nUser and password of redis were changed %d times meanwhile; the user before was deleted as soon as no connection"
          "\nwas logged in as it any more: after %s." % (len(rotation.took), ", ".join("%.2f s" % t for t in rotation.took)))
    print("\n%-10s %-32s %9s %7s %12s %8s %8s" % ("pool", "traffic", "requests", "errors", "requests/s", "dialled", "leases"))
    for name, what, requests, errors, rate in rows:
        dials, good, leases, reused, failures = totals(pools[name])
        print("%-10s %-32s %9d %7d %12.0f %8d %8d" % (name, what, requests, errors, rate, good, leases))
        if failures or dials != good:
            bad.append("pool %s: %d leases failed, %d of %d dials failed" % (name, failures, dials - good, dials))
        if good > 10:
            bad.append("pool %s dialled %d connections for a limit of 10" % (name, good))
        reauth = pools[name]["stats"].get("reauth", {})
        if set(reauth) - {"ok"}:
            bad.append("pool %s: logging in anew: %r" % (name, reauth))
        if not leases:
            bad.append("pool %s lent nothing" % name)
    print("\n%d requests, %d errors, %d upstream connections dialled, %d leases served" % (
        sum(r[2] for r in rows), len(wrong), sum(totals(p)[1] for p in pools.values()),
        sum(totals(p)[2] for p in pools.values())))
    return bad


def stop(process, seconds=15):
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


def main():
    work = tempfile.mkdtemp(prefix="leased-quickstart.")
    redis_port, mc_port, redis_in, mc_in = free_ports(4)
    started, bad = [], []
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "cwd": work}
    as_root = ["-u", "nobody"] if os.geteuid() == 0 else []
    try:
        os.chmod(work, 0o755)
        started.append(subprocess.Popen(["redis-server", "--bind", "127.0.0.1", "--port", str(redis_port), "--save", "",
                                         "--appendonly", "no"], **quiet))
        wait_for("redis-server", lambda: answers(("127.0.0.1", redis_port), b"PING\r\n", b"+PONG"), started[-1])
        started.append(subprocess.Popen(["memcached", "-l", "127.0.0.1", "-p", str(mc_port), "-U", "0"] + as_root, **quiet))
        wait_for("memcached", lambda: answers(("127.0.0.1", mc_port), b"version\r\n", b"VERSION"), started[-1])
        conf = os.path.join(work, "leased.conf")
        login = Login(redis_port, os.path.join(work, "redis.json"))
        login.next()
        with open(conf, "w") as f:
            f.write(CONF % {"dir": work, "redis": redis_port, "redis_in": redis_in, "mc": mc_port, "mc_in": mc_in})
        print("\nThe configuration:\n\n" + "".join("    " + line for line in open(conf)))
        daemon = subprocess.Popen([LEASED, "-c", conf], **quiet)
        started.append(daemon)
        admin = os.path.join(work, "admin.sock")

        def up():
            try:
                return status(admin)["state"] == "running"
            except OSError:
                return False
        wait_for("leased", up, daemon)
        bad = traffic((redis_in, mc_in), admin, login)
        code = stop(daemon)
        if code != 0:
            bad.append("leased ended with code %d" % code)
        with open(os.path.join(work, "leased.log"), errors="replace") as f:
            log = f.read()
    except (Failed, OSError, KeyError, ValueError, subprocess.SubprocessError) as e:
        bad.append("%s: %s" % (type(e).__name__, e))
        try:
            with open(os.path.join(work, "leased.log"), errors="replace") as f:
                log = f.read()
        except OSError:
            log = ""
    finally:
        for p in reversed(started):
            stop(p)
        shutil.rmtree(work, ignore_errors=True)
    if bad:
        print("\nquickstart FAILED:\n  " + "\n  ".join(bad[:20]))
        print("\nleased's log ended with:\n" + "".join("  " + line + "\n" for line in log.splitlines()[-20:]))
        return 1
    print("quickstart: everything was answered; all servers are stopped. Next: README.md, conf/leased.conf, man/leased.8")
    return 0


sys.exit(main())
