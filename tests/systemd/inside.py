#!/usr/bin/python3
"""Runs inside the nested systemd: starts leased.service and watches it. Each line is one thing seen; ends with 1 at the first failure."""
import glob
import json
import os
import socket
import subprocess
import sys
import time

LOG = "/var/log/leased/leased.log"


def run(*argv):
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)


def show(prop, unit="leased.service"):
    return run("systemctl", "show", "-P", prop, unit).stdout.strip()


def see(what, ok, detail=""):
    print("%-4s %s%s" % ("ok" if ok else "FAIL", what, " (%s)" % detail if detail != "" else ""), flush=True)
    if not ok:
        print(run("systemctl", "status", "--no-pager", "leased.service").stdout)
        print(run("journalctl", "--no-pager", "-n", "30", "-u", "leased.service").stdout)
        for f in glob.glob("/var/log/leased/*"):
            print(f, open(f).read()[-2000:])
        sys.exit(1)


def poll(what, seconds=15):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        got = what()
        if got:
            return got
        time.sleep(0.02)
    return None


def connect(address):
    s = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    s.settimeout(10)
    s.connect(address)
    return s


def ask(s, text):
    s.sendall(text)
    return s.recv(1000)


def refused(address):
    try:
        s = connect(address)
    except OSError:
        return True
    try:
        return ask(s, b"PING\r\n") == b""
    except OSError:
        return True
    finally:
        s.close()


def redis_up():
    try:
        return ask(connect(("127.0.0.1", 6379)), b"PING\r\n") == b"+PONG\r\n"
    except OSError:
        return False


def status():
    with connect("/run/leased/admin.sock") as s:
        s.sendall(b"GET /status.json HTTP/1.0\r\n\r\n")
        data = b""
        while chunk := s.recv(65536):
            data += chunk
    return json.loads(data[data.index(b"{"):data.rindex(b"}") + 1])


def secret(word):
    """The server learns it first."""
    with connect(("127.0.0.1", 6379)) as s:
        got = ask(s, b"ACL SETUSER cache reset on >%s ~* &* +@all\r\n" % word.encode())
        ask(s, b"CLIENT KILL USER cache\r\n")
    with open("/nested/secret", "w") as f:
        f.write(word)
    return got == b"+OK\r\n"


def proc_status(pid):
    return dict(line.rstrip().split(":\t", 1) for line in open("/proc/%s/status" % pid) if ":\t" in line)


def main():
    see("systemd is process 1", open("/proc/1/comm").read().strip() == "systemd", run("systemctl", "--version").stdout.split("\n")[0])
    run("systemd-sysusers")
    see("user leased exists", run("id", "leased").returncode == 0)
    see("a private redis answers", poll(redis_up))
    see("... and has a user", secret("one"))
    r = run("systemctl", "start", "leased.socket")
    see("leased.socket listens", r.returncode == 0 and show("ActiveState", "leased.socket") == "active", r.stdout)
    r = run("systemctl", "start", "leased.service")
    see("leased.service is started", r.returncode == 0, r.stdout)
    see("it announced that it is ready", show("ActiveState") == "active" and show("SubState") == "running")
    pid = show("MainPID")
    see("it tells its state", poll(lambda: show("StatusText")), show("StatusText"))
    see("the watchdog is on", show("WatchdogUSec") == "30s", show("WatchdogUSec"))
    s = proc_status(pid)
    see("not root", s["Uid"].split()[0] != "0", s["Uid"])
    see("no capabilities, no new privileges, a system-call filter",
        int(s["CapEff"], 16) == 0 and int(s["CapBnd"], 16) == 0 and s["NoNewPrivs"] == "1" and s["Seccomp"] == "2",
        "CapBnd %s NoNewPrivs %s Seccomp %s" % (s["CapBnd"], s["NoNewPrivs"], s["Seccomp"]))

    r = run("systemctl", "start", "probe.service")
    see("in the same sandbox nothing else can be done", r.returncode == 0,
        "; ".join(open("/nested/out/probe").read().split("\n")).strip("; "))

    c = connect(("127.0.0.1", 6380))
    see("it serves over TCP", ask(c, b"SET a 1\r\n") == b"+OK\r\n" and ask(c, b"GET a\r\n") == b"$1\r\n1\r\n")
    u = connect("/run/leased.cache.sock")
    see("it serves through the socket systemd holds", ask(u, b"GET a\r\n") == b"$1\r\n1\r\n")
    u.close()
    pool = status()["pools"][0]
    see("the admin socket answers", pool["stats"]["leases"] == 2, "%d leases" % pool["stats"]["leases"])

    credential = poll(lambda: [x for x in status()["credentials"] if x["generation"] == 1])
    see("a program in the sandbox says a login", credential, status()["credentials"][0]["last_error"])
    with connect(("127.0.0.1", 6381)) as d:
        see("... that works", ask(d, b"GET a\r\n") == b"$1\r\n1\r\n")
        see("... and changes", secret("two") and ask(d, b"GET a\r\n") == b"$1\r\n1\r\n" and
            status()["credentials"][0]["generation"] == 2, status()["credentials"][0]["asked"])

    os.rename(LOG, LOG + ".1")
    r = run("systemctl", "reload", "leased.service")
    see("reload is accepted", r.returncode == 0, r.stdout)
    see("the log is reopened", poll(lambda: os.path.exists(LOG)))
    with connect(("127.0.0.1", 6380)) as d:
        ask(d, b"PING\r\n")
    see("new lines go to the new file", poll(lambda: os.path.getsize(LOG) > 0))
    see("the connection from before the reload lives", ask(c, b"PING\r\n") == b"+PONG\r\n" and show("MainPID") == pid)

    stop = subprocess.Popen(["systemctl", "stop", "leased.service"])
    see("stop: it is draining", poll(lambda: show("ActiveState") == "deactivating"))
    see("stop: new clients are turned away", poll(lambda: refused(("127.0.0.1", 6380))))
    see("stop: the lease goes on", ask(c, b"GET a\r\n") == b"$1\r\n1\r\n" and stop.poll() is None)
    c.close()
    see("stop: it ends when the client is done", poll(lambda: stop.poll() is not None) and show("ActiveState") == "inactive")
    see("stop: cleanly", show("Result") == "success" and show("ExecMainStatus") == "0",
        "%s, status %s" % (show("Result"), show("ExecMainStatus")))
    print("ok   all of it")


main()
