#!/usr/bin/python3
"""Banned functions, unfinished work, machine paths and package hosts in the project's text; sleeps in tests."""
import ast
import re

from common import Report, code, files, lines, read

BANNED = r"\b(strcpy|strcat|sprintf|vsprintf|gets|strtok|system|popen|rand|srand|alloca)\s*\("
UNFINISHED = r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b"
# Written in pieces, so that this file passes.
MACHINE = r"(?<![\w.])/(wo" r"rk|ro" r"ot|ho" r"me)/"
HOSTS = r"(py" r"pi\.org|pythonho" r"sted\.org|registry\.n" r"pmjs|cra" r"tes\.io|rubyg" r"ems\.org|proxy\.go" r"lang\.org|" \
    r"(deb|security|snapshot)\.deb" r"ian\.org)"
ORGANISATION = r"\b(C" r"EO|sub-?ag" r"ent)\b|shared/(design|behaviours|conv" r"entions|reliab" r"ility|perform" r"ance)"
TEXT = r".*\.(c|h|def|py|sh|md|conf|in|ac|service|socket|[1-8]|txt|awk|supp|cfg|ini)$|Makefile|.*/run$|LICENSE|\.ci/.*"

bad = Report()
for f in files():
    if not re.fullmatch(TEXT, f):
        continue
    text = read(f)
    for n, line in lines(text):
        for what, rule in (("unfinished", UNFINISHED), ("path of one machine", MACHINE), ("package host", HOSTS),
                           ("not about the program", ORGANISATION)):
            m = re.search(rule, line)
            if m:
                bad(f, n, "%s: %s" % (what, m[0]))
    if re.match(r"src/.*\.[ch]$", f):
        for n, line in lines(code(f, strings=False)):
            m = re.search(BANNED, line)
            if m:
                bad(f, n, "banned function %s" % m[1])
    if f.endswith(".py") and f.startswith("tests/real/") and not f.endswith("/harness.py"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep"):
                # Where time itself is what the test is about, the line says so.
                if "# " not in text.split("\n")[node.lineno - 1]:
                    bad(f, node.lineno, "wait for an event (harness.poll), not for time")
bad.done()
