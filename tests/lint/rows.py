#!/usr/bin/python3
"""
Collects the markers `Proves: ID...` of all tests and writes tests/README.md; `--check` compares instead, and names each row
of rows.txt that no test proves (an error with ROWS_STRICT=1). A marker belongs to the test that follows it.
Fault classes are written F:U1, F:C3 and so on, so that they are not taken for rows C1 to C33.
"""
import os
import re
import sys

from common import files, read

TARGET = "tests/README.md"
ID = re.compile(r"(?:F:[UCRNGKT]|[ABCDE]|M|POOL-|ISO-|LIVE-|RES-|LIFE-|SEC-|CRED-|decision-)\d+b?|must-[\w-]+")
# The other fault classes cannot be taken for anything else, so that their prefix may be left out.
BARE_FAULT = re.compile(r"[URNGKT]\d+")
TEST = re.compile(r"START_TEST\((\w+)\)|def (test_\w+)|^(?:static )?(?:\w+ )+\**(\w+)\(|^(\w+)\(\) *\{", re.M)
HEAD = """# Tests

Written by `tests/lint/rows.py --write` (part of `make docs`) from the `Proves:` markers in the tests; `make check` fails when it
is out of date or when a row below has no test.

| directory | what is in it | run by |
|---|---|---|
| `unit/` | one program for each module, with libcheck | `make check` |
| `sim/` | the whole service in virtual time: scripted servers, clients and faults; one seed is one run | `make check` |
| `vectors/` | recorded inputs and expected results | `make check` |
| `fuzz/` | fuzz targets and their corpora; replayed without libFuzzer | `make fuzz-smoke`, `make check` |
| `lint/` | layers, words, headers, hardening, units, manuals, this page | `make check` |
| `real/` | the daemon between real servers and real clients | `make check-real` |
| `systemd/` | the packaged service in a systemd of its own | `make check-systemd` |
| `fake/` | the programmable bad server, the fault relay, failing system calls | by `real/` |
| `bench/` | measurements beside other proxies | `make bench` |

## What is proved where
"""


def markers():
    """id -> sorted list of "file: test"."""
    found, odd = {}, []
    for f in files():
        if not f.startswith("tests/") or f.startswith(("tests/lint/", "tests/vectors/")) or f.endswith(".md"):
            continue
        try:
            text = read(f)
        except OSError:
            continue
        for m in re.finditer(r"Proves: *([^\n]*)", text):
            words = re.split(r"[\s,;]+", re.sub(r"\*/.*", "", m[1]).strip().rstrip("."))
            words = ["F:" + w if BARE_FAULT.fullmatch(w) else w for w in words]
            ids = [w for w in words if ID.fullmatch(w)]
            odd += ["%s: %s" % (f, w) for w in words if w and w not in ids]
            t = TEST.search(text, m.end())
            where = f[len("tests/"):] + (": " + next(g for g in t.groups() if g) if t else "")
            for i in ids:
                found.setdefault(i, set()).add(where)
    return found, odd


def key(i):
    m = re.match(r"(.*?)(\d*)(\w?)$", i)
    return m[1], int(m[2] or 0), m[3]


def table(title, ids, found, what):
    out = ["\n### %s\n" % title, "| row | what | test |", "|---|---|---|"]
    for i in ids:
        where = "<br>".join("`%s`" % w for w in sorted(found.get(i, []))) or "none"
        out.append("| %s | %s | %s |" % (i, what.get(i, ""), where))
    return "\n".join(out) + "\n"


def main():
    what = {}
    for line in read("tests/lint/rows.txt").splitlines():
        m = re.match(r"((?:F:)?\w+): (.*)", line)
        if m:
            what[m[1]] = m[2]
    found, odd = markers()
    text = HEAD
    for title, letter in (("Credentials that change", "A"), ("Refused logins", "B"), ("The pool", "C"), ("The budget", "D"),
                          ("Round robin, rate, backoff", "E")):
        text += table(title, [i for i in what if re.match(letter + r"\d", i)], found, what)
    text += table("Faults", [i for i in what if i.startswith("F:")], found, what)
    rest = sorted((i for i in found if i not in what), key=key)
    if rest:
        text += table("Invariants and others", rest, found, what)
    if "--write" in sys.argv:
        with open(TARGET, "w") as f:
            f.write(text)
        return 0
    strict = os.environ.get("ROWS_STRICT") == "1"
    missing = [i for i in what if i not in found]
    stale = not os.path.exists(TARGET) or read(TARGET) != text
    if missing:
        print("no test proves: " + " ".join(missing))
    for o in odd:
        print("unknown id: " + o)
    if stale:
        print("tests/README.md is out of date: make docs")
    return 1 if strict and (missing or odd or stale) else 0


sys.exit(main())
