"""What the lints share: the project's files, and source text without its comments."""
import os
import re
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.chdir(TOP)


def files():
    """Every file that is or would be in a commit."""
    try:
        out = subprocess.run(["git", "-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard"], check=True,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
        return sorted(f for f in set(out.split("\n")) if f and os.path.isfile(f))
    except (OSError, subprocess.CalledProcessError):
        found = []
        for d, dirs, names in os.walk("."):
            dirs[:] = [x for x in dirs if not x.startswith((".git", "build", "autom4te", "__pycache__"))]
            found += [os.path.join(d, n)[2:] for n in names if not n.startswith(("config.", "configure~"))]
        return sorted(found)


def read(path):
    with open(path, errors="surrogateescape") as f:
        return f.read()


def blank(m):
    return "".join(c if c == "\n" else " " for c in m.group(0))


def code(path, strings=True):
    """C source with comments (and, unless strings, string literals) blanked; line numbers stay."""
    text = read(path)

    def one(m):
        if m.group(0)[0] in "\"'":
            return m.group(0) if strings else m.group(0)[0] + blank(m)[1:-1] + m.group(0)[-1]
        return blank(m)
    return re.sub(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|/\*.*?\*/|//[^\n]*', one, text, flags=re.S)


def lines(text):
    return enumerate(text.split("\n"), 1)


class Report:
    def __init__(self):
        self.n = 0

    def __call__(self, path, line, what):
        self.n += 1
        print("%s:%d: %s" % (path, line, what))

    def done(self):
        sys.exit(1 if self.n else 0)
