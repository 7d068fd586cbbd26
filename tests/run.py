#!/usr/bin/python3
"""
Runs test commands and sums up what they said.

    run.py [-j N] [-r RESULTS] [-l LOGDIR] [-t SECONDS] [FILE]     lines "name: command" on standard input (or in FILE)
    run.py --sum RESULTS                                           prints the last line of `make test`

Each command is one line of output: ok or FAIL, its name, its time and how many checks it made. What it printed goes to
LOGDIR/name.log and is shown when it fails; what pytest skipped is shown with its reasons. Counts come from the output of
libcheck and pytest; any other command is one check. RESULTS collects them over several calls.
"""
import argparse
import concurrent.futures
import os
import re
import signal
import subprocess
import sys
import time


def counts(text, status):
    """(passed, failed) of one command."""
    passed = failed = 0
    for m in re.finditer(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)", text, re.M):
        bad = int(m[2]) + int(m[3])
        failed += bad
        passed += int(m[1]) - bad
    lines = [l for l in text.splitlines() if re.search(r"\d+ (passed|failed|error|skipped).* in [0-9.]+s", l)]
    for n, what in re.findall(r"(\d+) (passed|failed|error)", lines[-1] if lines else ""):
        if what == "passed":
            passed += int(n)
        else:
            failed += int(n)
    if status == 0:
        return passed or (0 if lines else 1), failed
    return passed, failed or 1


def run(name, command, log, limit):
    start = time.monotonic()
    with open(log, "wb") as out:
        p = subprocess.Popen(["/bin/sh", "-c", command], stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                             start_new_session=True)
        try:
            status = p.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(p.pid, signal.SIGKILL)
            p.wait()
            status = 124
            out.write(b"\nstopped: it took longer than %d s\n" % limit)
    with open(log, errors="replace") as f:
        text = f.read()
    return name, status, text, time.monotonic() - start


def total(results):
    passed = failed = 0
    try:
        with open(results) as f:
            for line in f:
                p, q = line.split()[:2]
                passed += int(p)
                failed += int(q)
    except FileNotFoundError:
        failed = 1
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or not passed else 0


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("-j", type=int, default=1)
    ap.add_argument("-r", default="")
    ap.add_argument("-l", default="build/log")
    ap.add_argument("-t", type=int, default=300)
    ap.add_argument("--sum", default="")
    ap.add_argument("file", nargs="?")
    a = ap.parse_args()
    if a.sum:
        return total(a.sum)
    os.makedirs(a.l, exist_ok=True)
    with open(a.file) if a.file else sys.stdin as f:
        steps = [l.strip().split(": ", 1) for l in f if l.strip()]
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(a.j) as ex:
        jobs = [ex.submit(run, n, c, os.path.join(a.l, n.replace("/", "_") + ".log"), a.t) for n, c in steps]
        for job in concurrent.futures.as_completed(jobs):
            name, status, text, took = job.result()
            passed, failed = counts(text, status)
            ok = status == 0 and not failed
            print("%-4s %-28s %6.1f s  %s" % ("ok" if ok else "FAIL", name, took, "" if passed + failed == 1 else
                                              "%d passed, %d failed" % (passed, failed)), flush=True)
            if not ok:
                bad += 1
                print("     | " + "\n     | ".join(text.splitlines()[-60:]), flush=True)
            elif re.search(r"^SKIPPED ", text, re.M):
                print("     | " + "\n     | ".join(re.findall(r"^SKIPPED .*", text, re.M)), flush=True)
            if a.r:
                with open(a.r, "a") as f:
                    f.write("%d %d %s\n" % (passed, failed, name))
    return 1 if bad else 0


sys.exit(main())
