"""The table of commands (src/proto/redis/commands.def) beside what the server says of its own."""
import re

import redis

from harness import *

ROW = re.compile(r'^CMD\("([^"]+)", (\w+), "([^"]*)"\)$', re.M)
# Classes that say that a command may block; WAIT's flags do not.
BLOCKS = {"BLOCKING", "XREAD"}


def rows():
    with open(os.path.join(TOP, "src", "proto", "redis", "commands.def")) as f:
        return {name: (kind, set(categories.split())) for name, kind, categories in ROW.findall(f.read())}


def command_tree(commands):
    """Commands and subcommands by name, with flags and categories."""
    for c in commands:
        yield c[0].decode(), {f.decode() for f in c[2]}, {f.decode()[1:] for f in c[6]}, bool(c[9])
        yield from command_tree(c[9])


# Proves: ISO-7
def test_every_command_of_the_server_has_its_row(rig):
    srv = rig.redis()
    with redis.Redis(port=srv.port) as r:
        # python3-redis makes something else of COMMAND
        r.set_response_callback("COMMAND", lambda reply, **options: reply)
        tree = list(command_tree(r.execute_command("COMMAND")))
    table = rows()
    assert len(tree) > 300 and len({name for name, *_ in tree}) == len(tree)
    wrong = []
    for name, flags, categories, container in tree:
        if name not in table:
            wrong.append("%s has no row" % name)
            continue
        kind, ours = table[name]
        if ours != categories:
            wrong.append("%s: categories %s, not %s" % (name, sorted(categories), sorted(ours)))
        if ("blocking" in flags) != (kind in BLOCKS):
            wrong.append("%s: %s, and its flags are %s" % (name, kind, sorted(flags)))
        if container != (kind == "CONTAINER"):
            wrong.append("%s: %s, with subcommands: %s" % (name, kind, container))
        # What changes the connection can't run in a script; what the table calls plain and is none of
        # the server's own state must be able to.
        if kind == "PLAIN" and categories & {"connection"} and "noscript" in flags and \
                not name.startswith("client|"):
            wrong.append("%s: plain, and changes the connection" % name)
        if kind == "PLAIN" and categories & {"transaction"}:
            wrong.append("%s: plain, and of transactions" % name)
        if kind == "PLAIN" and "pubsub" in flags and "noscript" in flags:
            wrong.append("%s: plain, and subscribes" % name)
        # Said again when its connection broke.
        if kind == "PLAIN" and "read" in ours and not flags & {"readonly", "stale"}:
            wrong.append("%s: reads, and is not readonly" % name)
    assert not wrong, "\n".join(wrong)


def test_no_row_of_the_first_block_is_unknown_to_the_server(rig):
    srv = rig.redis()
    with redis.Redis(port=srv.port) as r:
        r.set_response_callback("COMMAND", lambda reply, **options: reply)
        known = {name for name, *_ in command_tree(r.execute_command("COMMAND"))}
    with open(os.path.join(TOP, "src", "proto", "redis", "commands.def")) as f:
        first = f.read().split("/* of later ones")[0]
    unknown = [name for name, *_ in ROW.findall(first) if name not in known]
    # a newer server may have dropped some; ours has not
    assert not unknown
