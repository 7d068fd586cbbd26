#!/usr/bin/python3
"""
Folders are layers: an include may only point down. Also which layer may see which library, which layers may not see the
operating system at all, and that no layer above the protocols knows one of them by name.
"""
import re

from common import Report, code, files, lines

MAY = {
    "base": set(),
    "conf": {"base"},
    "proto": {"base"},
    "io": {"base"},
    "pool": {"base"},
    "cred": {"base", "io"},
    "serve": {"base", "pool", "io", "proto", "cred"},
    "daemon": {"base", "pool", "io", "proto", "cred", "conf", "serve"},
    "ctl": {"base"},
    "main.c": {"base", "conf", "io", "proto", "pool", "serve", "daemon"},
}
# header -> the files that may include it
LIBRARY = [
    (r"event2/http|evhttp", r"src/daemon/http\.c"),
    (r"event2/|event\.h|ev(dns|util|http)", r"src/io/\w+\.c|src/daemon/http\.c"),
    (r"openssl/", r"src/io/\w+\.c|src/proto/\w+/\w+\.c"),
    (r"libconfig", r"src/conf/parse\.c"),
    (r"jansson", r"src/(daemon|ctl)/\w+\.[ch]|src/cred/parse\.c"),
    (r"systemd/", r"src/daemon/\w+\.c"),
]
# Layers that live in virtual time as well: no sockets, no clock, no files.
SANS_IO = r"src/(pool|proto|cred|serve)/"
SYSTEM = r"sys/(socket|epoll|un|timerfd|eventfd|stat|file|select)\.h|netinet/|arpa/|netdb\.h|poll\.h|fcntl\.h|unistd\.h|time\.h"
CORE = r"src/(pool|serve|io|daemon)/"
NAMES = r"(?<![a-z])(redis|mysql|mariadb|postgres|pgsql|memcache)|\bproto_tcp\w*|str\w*cmp\([^;]*\"tcp\""

# Builds the settings of each protocol from the configuration: the one place that has to know which is which.
TRANSLATES = "src/daemon/setup.c"

bad = Report()
for f in files():
    m = re.match(r"src/([^/]+)/.*\.[ch]$|src/(main\.c)$", f)
    if not m:
        continue
    layer = m[1] or m[2]
    text = code(f)
    for n, line in lines(text):
        inc = re.match(r'\s*#\s*include\s+(["<])([^">]+)[">]', line)
        if inc and inc[1] == '"':
            parts = inc[2].split("/")
            if len(parts) < 2:
                bad(f, n, '%s: include as "layer/file.h"' % inc[2])
            elif parts[0] != layer and parts[0] not in MAY.get(layer, set()):
                bad(f, n, "%s may not include %s" % (layer, inc[2]))
            elif parts[0] == "io" and layer == "cred" and not re.match(r"src/cred/(source_|credential|program)", f):
                bad(f, n, "only sources and the credential may include io")
        elif inc:
            for header, where in LIBRARY:
                if re.match(header, inc[2]):
                    if not re.fullmatch(where, f):
                        bad(f, n, "<%s> has no place here" % inc[2])
                    break
            if re.match(SANS_IO, f) and re.match(SYSTEM, inc[2]):
                bad(f, n, "<%s> in a layer that never sees the system" % inc[2])
        elif re.match(CORE, f) and f != TRANSLATES:
            name = re.search(NAMES, line, re.I)
            if name:
                bad(f, n, "the core knows a protocol by name: %s" % name[0])
bad.done()
