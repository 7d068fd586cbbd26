"""Credentials that rotate under load, on a real redis-server: nobody notices, and nothing of the old one stays in use."""
import itertools
import os
import time

import pytest

from redishelp import *
from badredis import BadRedis  # noqa: E402  (tests/fake, found by harness)

LONG = os.environ.get("LONG", "") not in ("", "0")
ROTATIONS, EVERY, CLIENTS = (100, 1.0, 200) if LONG else (10, 0.35, 40)
# Within what is left of EVERY everything must have moved.
KEYS = dict(max_size=CLIENTS + 20, reauth_spread="300ms" if LONG else "100ms", backoff_max="300ms",
            max_concurrent_dials=CLIENTS)


# --- rotations: each makes the n-th change, and returns when server and source agree --------------------------------

class Rotator:
    """srv: an AclRedis whose user is "app"; cred: a CredFile. password(n): of generation n."""
    hosts = ("127.0.0.1",)
    gap = 0.05              # between the server's change and the source's

    def __init__(self, rig):
        self.srv = AclRedis(rig, {"app": self.password(0)}, hosts=self.hosts)
        self.cred = CredFile(rig, "app", self.password(0), **self.more(0))

    @staticmethod
    def password(n):
        return "secret-%d" % n

    def more(self, n):
        return {}

    def rotate(self, n, loads):
        raise NotImplementedError

    def settled(self, logins):
        """Whether what the server knows of each connection is new. logins: how many there were before the change."""
        return self.srv.logins() - logins >= len(self.srv.clients())

    def after(self, n):
        """Once settled."""


class FileFirst(Rotator):
    def rotate(self, n, loads):
        self.cred.write("app", self.password(n))
        time.sleep(self.gap)    # the server does not know it yet
        self.srv.users(app=self.password(n))


class ServerFirst(Rotator):
    def rotate(self, n, loads):
        self.srv.users(app=self.password(n))
        time.sleep(self.gap)    # nobody but the server knows it
        self.cred.write("app", self.password(n))


class Overlap(Rotator):
    """The way it should be done: both passwords hold for a while."""
    def rotate(self, n, loads):
        assert self.srv.admin("ACL", "SETUSER", "app", ">" + self.password(n)) == "OK"
        self.cred.write("app", self.password(n))

    def after(self, n):
        assert self.srv.admin("ACL", "SETUSER", "app", "<" + self.password(n - 1)) == "OK"


class TwoHalves(Overlap):
    """The file is not replaced, but written anew in two steps."""
    def rotate(self, n, loads):
        assert self.srv.admin("ACL", "SETUSER", "app", ">" + self.password(n)) == "OK"
        self.cred.halves("app", self.password(n), gap=0.3)


class UserAndPassword(Rotator):
    def user(self, n):
        return "app" if n == 0 else "app-%d" % n

    def rotate(self, n, loads):
        self.n = n
        self.srv.users(**{self.user(n): self.password(n)})
        self.cred.write(self.user(n), self.password(n))

    def settled(self, logins):
        return all(c["user"] == self.user(self.n) for c in self.srv.clients())

    def after(self, n):
        # Every connection that still were the old user's would be cut by this, and a client would see it.
        assert self.srv.admin("ACL", "DELUSER", self.user(n - 1)) == 1


class Address(Rotator):
    """The same data behind two addresses; the credential says which."""
    hosts = ("127.0.0.1", "127.0.0.2")

    def more(self, n):
        return {"host": self.hosts[n % 2], "port": self.srv.port}

    def rotate(self, n, loads):
        self.n = n
        assert self.srv.admin("ACL", "SETUSER", "app", ">" + self.password(n)) == "OK"
        self.cred.write("app", self.password(n), **self.more(n))

    def settled(self, logins):
        return all(c["laddr"].startswith(self.hosts[self.n % 2] + ":") for c in self.srv.clients())


class Revoked(Rotator):
    """The old password is void at once and every connection is cut, while nobody waits for an answer. All clients ask
    again at the same instant."""
    def rotate(self, n, loads):
        for l in loads:
            l.hold()
        self.cred.write("app", self.password(n))
        self.srv.revoke(app=self.password(n))
        for l in loads:
            l.go()


def run(rig, rotator, modes, clients, rotations, every, **keys):
    """Rotates under load in these modes at once; returns {mode: report} and how long each change took to settle."""
    d = three(rig, rotator.srv, rotator.cred.conf(debounce="20ms"), modes=modes, **dict(KEYS, **keys),
              top={"limits": {"max_clients": clients * len(modes) + 100}})
    # -i: what is measured is the rotation, not the throughput.
    loads = {m: Load(rig, d.at[m], "-c", clients, "-p", 4, "-m", 5, "-i", 20, "-B", 1 if m == "session" else 2)
             for m in modes}
    [l.running(clients * 5) for l in loads.values()]
    took = []
    for n in range(1, rotations + 1):
        t, logins = time.monotonic(), rotator.srv.logins()
        rotator.rotate(n, list(loads.values()))
        changed = time.monotonic()
        poll(lambda: rotator.settled(logins), 5, "rotation %d to settle" % n)
        took.append(time.monotonic() - changed)
        rotator.after(n)
        [l.running(clients) for l in loads.values()]
        rest = t + every - time.monotonic()
        if rest > 0:
            time.sleep(rest)    # rotations come at a pace
    return d, {m: l.stop() for m, l in loads.items()}, took


def judge(rig, d, reports, took, what):
    for m, r in reports.items():
        spotless(r)
        assert r["latency_us"]["p99"] < 1e6 * SLOW, r
        print("%s, %s: %d replies, p99 %.1f ms, longest %.1f ms" % (
            what, m, r["replies"], r["latency_us"]["p99"] / 1e3, r["latency_us"]["max"] / 1e3))
    print("%s: settled within %.0f ms (median %.0f)" % (what, max(took) * 1e3, percentile(took, 0.5) * 1e3))
    assert not d.log_lines("secret-"), d.log_lines("secret-")[:3]


ALL_MODES = pytest.mark.parametrize("kind", [FileFirst, ServerFirst, Overlap, TwoHalves, UserAndPassword, Address],
                                    ids=lambda k: k.__name__)


# Proves: A1 A6 A12 A13 A15 A16 A21 B6 B12 B13 B18 CRED-1 CRED-8 F:U20 F:K1 must-rotate
@pytest.mark.limit(400 if LONG else 40)
@ALL_MODES
def test_rotation_under_load(rig, kind):
    """In session mode connections are held for ever: they log in anew between two requests."""
    rotator = kind(rig)
    judge(rig, *run(rig, rotator, MODES, CLIENTS, ROTATIONS, EVERY), kind.__name__)


# Proves: B4 B6 CRED-4 F:U19 must-rotate-revoked
@pytest.mark.limit(400 if LONG else 40)
def test_revoked_and_cut_at_once(rig):
    """A client of session mode would see its connection go, as it should: the server's side of the session is lost."""
    rotator = Revoked(rig)
    judge(rig, *run(rig, rotator, ("transaction", "request"), CLIENTS, ROTATIONS, EVERY), "Revoked")


# Proves: ISO-11 F:U19
@pytest.mark.limit(40)
def test_cut_with_requests_under_way(rig):
    """Whoever waits for an answer then may be told an error; nobody is told a wrong one, nothing is done twice, and all
    are served at once again."""
    srv = AclRedis(rig, {"app": "p0"})
    cred = CredFile(rig, "app", "p0")
    d = three(rig, srv, cred.conf(debounce="20ms"), modes=("transaction", "request"), **KEYS)
    loads = [Load(rig, d.at[m], "-c", CLIENTS, "-p", 4, "-m", 5, "-i", 5) for m in d.at]
    [l.running(1000) for l in loads]
    cuts = 8
    for n in range(1, cuts + 1):
        cred.write("app", "p%d" % n)
        srv.admin_all(["ACL", "DELUSER", "app"], ["ACL", "SETUSER", "app", "on", ">p%d" % n] + list(AclRedis.RIGHTS))
        [l.running(1000) for l in loads]
    for r in [l.stop() for l in loads]:
        assert r["mismatches"] == 0, r["first_mismatch"]
        assert r["errors_total"] <= cuts * CLIENTS and r["latency_us"]["max"] < 2e6 * SLOW, r


# --- one connection, and clients that wait for it -----------------------------------------------------------------

# Proves: A6 A14
@pytest.mark.parametrize("mode", MODES)
def test_a_pool_of_one_connection_with_a_client_waiting(rig, mode):
    """What waits for the only connection must not keep it from logging in anew, nor the other way round."""
    srv = AclRedis(rig, {"app": "p0"})
    cred = CredFile(rig, "app", "p0")
    d = three(rig, srv, cred.conf(debounce="10ms"), modes=(mode,), max_size=1, reauth_spread="0")
    a = rig.client(d.at[mode]) if mode != "session" else None
    load = Load(rig, d.at[mode], "-c", 1 if mode == "session" else 5, "-p", 3, "-m", 20).running(500)
    for n in range(1, 6):
        logins = srv.logins()
        srv.admin("ACL", "SETUSER", "app", ">p%d" % n)
        cred.write("app", "p%d" % n)
        poll(lambda: srv.logins() > logins, 5, "the login")
        load.running(500)
    spotless(load.stop())
    # The load ended in the middle of something, which may have cost it the connection.
    assert len(srv.clients()) <= 1 and (a is None or a.silent(0))


# Proves: A12 F:K6
def test_many_changes_in_a_row_and_the_last_one_wins(rig):
    srv = AclRedis(rig, {"app": "p0"})
    cred = CredFile(rig, "app", "p0")
    d = three(rig, srv, cred.conf(debounce="1ms"), modes=("transaction",), reauth_spread="0", max_size=20)
    conns = [rig.client(d.at["transaction"]) for _ in range(10)]
    for c in conns:             # each holds a connection of its own, so that there are ten
        assert c.ask(resp("MULTI")) == b"+OK\r\n"
    for c in conns:
        assert c.ask(resp("DISCARD")) == b"+OK\r\n"
    load, logins = Load(rig, d.at["transaction"], "-c", 10, "-i", 1).running(100), srv.logins()
    t = time.monotonic()
    for n in range(1, 301):
        srv.admin("ACL", "SETUSER", "app", ">p%d" % n)
        cred.write("app", "p%d" % n)
    took = time.monotonic() - t
    srv.users(app="p300")
    load.running(200)
    poll(lambda: gen_of(d) >= 2, 5, "a new generation")
    poll(lambda: srv.logins() - logins >= len(srv.clients()), 5, "all to log in anew")
    load.running(200)
    spotless(load.stop())
    # A generation for each change at most, and a login for each connection and generation at most.
    assert srv.logins() - logins <= 20 * 301, took
    for c in srv.clients():     # they are all who they should be
        assert c["user"] == "app"


def gen_of(d, pool_index=0):
    """Generation of the credential, as the metrics say it."""
    m = d.metrics()
    return max(m["leased_credential_generation"].values())


# Proves: A17 A20 CRED-8 F:K10 must-wrong-credential
@pytest.mark.limit(40)
def test_a_wrong_credential_is_not_taken_over(rig):
    """The file changes to nonsense and the server never agrees: everything goes on with the old one, and the account sees
    one refused login for each step of the backoff, not one for each connection."""
    srv = AclRedis(rig, {"app": "p0"})
    cred = CredFile(rig, "app", "p0")
    d = three(rig, srv, cred.conf(debounce="10ms", refresh_cooldown="500ms"), reauth_spread="0", max_size=50,
              backoff_initial="200ms", backoff_multiplier=2.0, backoff_max="10s", backoff_jitter=0.0)
    loads = [Load(rig, d.at[m], "-c", 30, "-p", 4, "-m", 5, "-i", 5).running(500) for m in MODES]
    t = time.monotonic()
    cred.write("app", "wrong")
    poll(lambda: srv.denied() >= 3, 10, "the canary to be refused three times")
    took = time.monotonic() - t
    [l.running(500) for l in loads]
    # 0, 200, 600, 1400 ms, ...; each pool has its own backoff.
    steps = next(n for n in itertools.count(1) if 0.2 * (2 ** n - 1) > time.monotonic() - t)
    assert srv.denied() <= len(MODES) * (steps + 1), (srv.denied(), took)
    logins = srv.logins()
    cred.write("app", "p0")     # and back
    [l.running(500) for l in loads]
    cred.write("app", "p1")
    srv.users(app="p1")
    poll(lambda: srv.logins() - logins >= len(srv.clients()), 10, "all to log in anew")
    [spotless(l.stop()) for l in loads]


# --- refusals -------------------------------------------------------------------------------------------------------

@pytest.fixture
def bad(rig):
    srv = BadRedis(port=free_port())
    rig.closers.append(srv.close)
    return srv


def ask_all(rig, port, n):
    """n clients that all connect, then all ask at once."""
    conns = [rig.client(port, timeout=15) for _ in range(n)]
    for i, c in enumerate(conns):
        c.send(resp("ECHO", "c%d" % i))
    return conns


# Proves: B1 B2 B3 B4 B5 B6 B8 CRED-3 CRED-4 must-one-refresh
@pytest.mark.limit(60)
@pytest.mark.parametrize("mode", MODES)
def test_500_clients_refused_at_the_same_instant(rig, bad, mode):
    """One run of the source, one login that proves what it brought, then everybody at once."""
    bad.login(users={"app": "p1"})
    bad.login_delay = 0.2
    source = Command(rig, CredFile.text("app", "p1"))
    d = three(rig, bad, source.conf(), modes=(mode,), max_size=500, max_concurrent_dials=500, login_timeout="10s",
              each={"request": {"multiplex_connections": 100}}, top={"limits": {"max_clients": 600}})
    poll(lambda: len(source.runs()) == 1, 5, "the first run")
    bad.rotate(app="p2")
    source.do(CredFile.text("app", "p2"))
    conns = ask_all(rig, d.at[mode], 500)
    for i, c in enumerate(conns):
        assert c.line() == b"$%d\r\n" % len("c%d" % i) and c.line() == b"c%d\r\n" % i
    runs = source.runs()
    assert [w for _, w, _ in runs] == ["startup", "denied"], runs
    assert [g for _, _, g in runs[1:]] == ["1"]
    new = sorted((t for t in bad.tries if t.password == "p2"), key=lambda t: t.began)
    assert all(t.ok for t in new)
    early = [t for t in new[1:] if t.began < new[0].at]
    assert not early, "%d logins while the first was being proved" % len(early)
    assert bad.login_peak > 50 or mode == "request" or len(new) < 50, bad.login_peak
    old = [t for t in bad.tries if t.password == "p1"]
    assert old and all(t.began < new[0].at for t in old)


# Proves: B17
def test_refused_with_an_old_one_after_the_new_one_is_known(rig, bad):
    """The refusal of a login that began before the change starts no refresh."""
    bad.login(users={"app": "p1"})
    bad.login_delay = 0.4
    source = Command(rig, CredFile.text("app", "p1"))
    d = three(rig, bad, source.conf(refresh_interval="0"), modes=("session",), max_size=10, max_concurrent_dials=10)
    poll(lambda: len(source.runs()) == 1, 5, "the first run")
    conns = [rig.client(d.at["session"]) for _ in range(3)]
    [c.send(resp("ECHO", "x")) for c in conns]
    bad.wait(lambda: bad.login_now >= 1)
    bad.rotate(app="p2")
    source.do(CredFile.text("app", "p2"))
    code, _, err = d.ctl("refresh", "app")
    assert code == 0, err
    poll(lambda: gen_of(d) == 2, 5, "the second generation")
    assert bad.login_now >= 1, "the login was answered too early for this test"
    assert [c.line() for c in conns] == [b"$1\r\n"] * 3
    assert [w for _, w, _ in source.runs()] == ["startup", "manual"]


# Proves: B14 B7
def test_a_refresh_that_brings_a_wrong_one_twice_in_a_row(rig, bad):
    bad.login(users={"app": "p4"})
    bad.denied_text = b"-WRONGPASS number 4711 says no\r\n"
    source = Command(rig, CredFile.text("app", "p1"))
    d = three(rig, bad, source.conf(refresh_cooldown="50ms"), modes=("transaction",), backoff_initial="20ms", backoff_max="50ms",
              refresh_max_attempts=3, lease_timeout="8s")
    poll(lambda: len(source.runs()) == 1, 5, "the first run")
    source.do(shell="n=$(cat %s.n 2>/dev/null || echo 2); echo $((n+1)) >%s.n; printf '{\"username\":\"app\",\"password\":\"p%%d\"}\\n' $n"
              % (source.base, source.base))
    c = Resp(d.at["transaction"])
    got = [c.cmd("ECHO", "x") for _ in range(2)]
    assert got[-1] == b"x", (got, source.runs())
    assert [w for _, w, _ in source.runs()][:4] == ["startup", "denied", "denied", "denied"]


BAD_REFRESHES = {
    "same": dict(text=CredFile.text("app", "p1")),
    "garbage": dict(shell="printf '{\"username\": \\001\\377 \"'"),
    "nothing": dict(shell="true"),
    "much": dict(shell="head -c 10000000 /dev/zero | tr '\\0' x"),
    "hang": dict(shell="exec sleep 600"),
    "exit": dict(shell="exit 1"),
}


# Proves: A7 B7 B8 B9 B10 B11 CRED-5 CRED-6 CRED-12 F:K8 F:K11 F:K14 F:U16 must-bad-refresh
@pytest.mark.limit(60)
def test_refreshes_that_bring_nothing(rig):
    """All of them at once: a pool, a server and a source for each."""
    pools, creds, what = [], [], {}
    for name, how in BAD_REFRESHES.items():
        srv = BadRedis(port=free_port())
        rig.closers.append(srv.close)
        srv.login(users={"app": "p1"})
        srv.denied_text = b"-WRONGPASS the words of server %s\r\n" % name.encode()
        source = Command(rig, CredFile.text("app", "p1"), name=name)
        port = free_port()
        pools.append(redis_pool(name, srv, "transaction", port, credentials=name, lease_timeout="1s", backoff_initial="200ms",
                                backoff_multiplier=2.0, backoff_max="800ms", backoff_jitter=0.0, max_size=20,
                                max_concurrent_dials=20, probe_interval="0"))
        creds.append(source.conf(name, refresh_cooldown="400ms", refresh_cooldown_max="1600ms", source_timeout="300ms",
                                 source_retries=1))
        what[name] = (srv, source, port, how)
    rig.leased(pools, credentials=creds)
    for srv, source, port, how in what.values():
        poll(lambda: len(source.runs()) == 1, 5, "the first run")
        with Resp(port) as c:
            assert c.cmd("ECHO", "hi") == b"hi"
    began = time.monotonic()
    for srv, source, port, how in what.values():
        source.do(**how)
        srv.rotate(app="p2", cut="fin")
    told = {name: [] for name in what}

    def asker(name, port):
        while time.monotonic() - began < 5:
            t = time.monotonic()
            with Resp(port, timeout=20) as c:
                told[name].append((c.cmd("ECHO", "hi"), time.monotonic() - t))
    threads = [threading.Thread(target=asker, args=(n, w[2])) for n, w in what.items() for _ in range(5)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    for name, (srv, source, port, how) in what.items():
        texts = {str(x) for x, _ in told[name]}
        assert texts == {"WRONGPASS the words of server %s" % name}, (name, texts)
        late = [t for _, t in told[name] if t > 1.2 * SLOW]
        assert not late and len(told[name]) >= 5, (name, late)
        # Cooldowns of 0.4, 0.8, 1.6, 1.6, ... between the runs that refusals asked for.
        at = [t for t, why, _ in source.runs() if why == "denied"]
        assert at, (name, source.runs())
        for gap, least in zip([b - a for a, b in zip(at, at[1:])], [0.4, 0.8] + [1.6] * 99):
            assert gap > least * 0.9, (name, at)
        # Refused logins: the backoff's 0.2, 0.4, 0.8, 0.8, ...; one at a time. What was under way together when the first one
        # was refused is one refusal.
        failed = srv.failed()
        tries = [failed[0].began] + [t.began for t in failed if t.began > failed[0].at + 0.01]
        for gap, least in zip([b - a for a, b in zip(tries, tries[1:])], [0.2, 0.4] + [0.8] * 99):
            assert gap > least * 0.9, (name, [round(t - tries[0], 2) for t in tries])


# Proves: CRED-11
@pytest.mark.parametrize("said", [b"-LOADING not yet\r\n", b"-ERR max number of clients reached\r\n", b"-NOPERM no\r\n"])
def test_only_a_refusal_starts_a_refresh(rig, bad, said):
    source = Command(rig, CredFile.text("app", "p1"))
    bad.login(users={"app": "p1"})
    d = three(rig, bad, source.conf(), modes=("transaction",), lease_timeout="500ms", backoff_initial="20ms", backoff_max="50ms")
    poll(lambda: len(source.runs()) == 1, 5, "the first run")
    c = Resp(d.at["transaction"])
    assert c.cmd("ECHO", "x") == b"x"
    bad.answer("ECHO", said, times=None)
    bad.answer("PING", said, times=None)
    for _ in range(5):
        with Resp(d.at["transaction"]) as other:
            other.cmd("ECHO", "x")
    assert [w for _, w, _ in source.runs()] == ["startup"]


# --- ages ---------------------------------------------------------------------------------------------------------

# Proves: A23
def test_a_command_is_asked_before_its_credential_expires(rig):
    srv = AclRedis(rig, {"app": "p1"})
    source = Command(rig, CredFile.text("app", "p1", expires_in=2))
    d = three(rig, srv, source.conf(refresh_ratio=0.5), modes=("transaction",), reauth_spread="0")
    t = time.monotonic()
    load = Load(rig, d.at["transaction"], "-c", 5, "-i", 2).running(100)
    poll(lambda: len(source.runs()) == 2, 5, "the second run")
    assert 0.8 < time.monotonic() - t < 1.8 * SLOW
    assert source.runs()[1][1] == "expiring"
    poll(lambda: len(source.runs()) == 4, 10, "the fourth run")
    spotless(load.stop())


# Proves: CRED-9 F:K13
def test_nothing_is_lent_with_an_expired_credential(rig):
    srv = AclRedis(rig, {"app": "p1"})
    cred = CredFile(rig, "app", "p1", expires_in=1)
    d = three(rig, srv, cred.conf(), modes=("transaction",), lease_timeout="300ms", min_idle=2)
    with Resp(d.at["transaction"]) as c:
        assert c.cmd("ECHO", "x") == b"x"
        poll(lambda: not srv.clients(), 5, "the connections to go")
        assert isinstance(c.cmd("ECHO", "x"), Err)
    logins = srv.logins()
    with Resp(d.at["transaction"]) as c:
        assert isinstance(c.cmd("ECHO", "x"), Err)
    assert srv.logins() == logins
    cred.write("app", "p1", expires_in=600)
    poll(lambda: Resp(d.at["transaction"]).cmd("ECHO", "x") == b"x", 5, "service")


# Proves: decision-9
def test_reauth_interval(rig):
    """Without any change connections log in anew, idle or held between requests; never in the middle of a transaction."""
    srv = AclRedis(rig, {"app": "p1"})
    cred = CredFile(rig, "app", "p1")
    d = three(rig, srv, cred.conf(), reauth_interval="200ms", reauth_spread="0", max_size=10)
    loads = [Load(rig, d.at[m], "-c", 5, "-p", 3, "-m", 30, "-i", 1).running(300) for m in MODES]
    logins = srv.logins()
    poll(lambda: srv.logins() - logins > 30, 10, "logins")
    [spotless(l.stop()) for l in loads]
    assert srv.denied() == 0


# --- idle connections ---------------------------------------------------------------------------------------------

def idle(rig, srv, cred, n, **keys):
    """A daemon with n idle connections that nobody uses."""
    d = three(rig, srv, cred, modes=("transaction",), min_idle=n, max_size=n + 2, max_concurrent_dials=n, **keys)
    d.wait_pool(lambda p: states(p).get("idle", 0) >= n)
    return d


# Proves: A21 A22
def test_an_idle_connection_does_not_miss_its_wake_up(rig, bad):
    """go-redis#4027: a re-authentication that waits for a connection to become idle which is idle already. Nobody uses it
    here, and none may be closed by a time-out."""
    bad.login(users={"app": "p0"})
    cred = CredFile(rig, "app", "p0")
    idle(rig, bad, cred.conf(debounce="1ms"), 5, reauth_spread="0", reauth_timeout="500ms")
    for n in range(1, 21):
        bad.rotate(app="p%d" % n)
        cred.write("app", "p%d" % n)
        bad.wait(lambda: sum(t.ok and t.password == "p%d" % n for t in bad.tries) >= 5, text="all to log in anew")
    assert bad.accepted == bad.live == 5 and bad.denied == 0


# Proves: A10 CRED-2
@pytest.mark.parametrize("limit", [2, 0])
def test_reauth_concurrency(rig, bad, limit):
    bad.login(users={"app": "p0"})
    cred = CredFile(rig, "app", "p0")
    idle(rig, bad, cred.conf(debounce="1ms"), 20, reauth_spread="0", reauth_concurrency=limit)
    bad.login_delay, bad.login_peak = 0.03, 0
    bad.rotate(app="p1")
    cred.write("app", "p1")
    bad.wait(lambda: sum(t.password == "p1" for t in bad.tries) >= 20, text="all to log in anew")
    assert bad.login_peak == limit if limit else bad.login_peak > 10
    new = [t for t in bad.tries if t.password == "p1"]
    assert len(new) == 20 and all(t.began >= new[0].at for t in new[1:])         # the first one is alone


# Proves: A5 A18
def test_connections_that_end_while_they_log_in_anew(rig, bad):
    bad.login(users={"app": "p0"})
    cred = CredFile(rig, "app", "p0")
    d = idle(rig, bad, cred.conf(debounce="1ms"), 10, reauth_spread="0")
    bad.login_delay = 0.05
    for n in range(1, 6):
        bad.rotate(app="p%d" % n)
        cred.write("app", "p%d" % n)
        bad.wait(lambda: bad.login_now > 0, text="a login")
        bad.cut("rst" if n % 2 else "fin")
        d.wait_pool(lambda p: states(p).get("idle", 0) >= 10)
    with Resp(d.at["transaction"]) as c:
        assert c.cmd("ECHO", "x") == b"x"
    assert {t.password for t in bad.tries[-5:]} == {"p5"}


# Proves: A3
def test_a_change_while_the_first_login_is_under_way(rig, bad):
    """The connection that results is told of it like any other."""
    bad.login(users={"app": "p0"})
    bad.login_delay = 0.3
    cred = CredFile(rig, "app", "p0")
    d = three(rig, bad, cred.conf(debounce="1ms"), modes=("transaction",), reauth_spread="0")
    c = rig.client(d.at["transaction"])
    c.send(resp("ECHO", "x"))
    bad.wait(lambda: bad.login_now == 1, text="the login")
    cred.write("app2", "p1")
    bad.rotate(app2="p1")
    poll(lambda: gen_of(d) == 2, 5, "the generation")
    assert c.line() == b"$1\r\n"
    bad.wait(lambda: [x.user for x in bad.open_conns()] == ["app2"], text="the new user")


# Proves: A17
@pytest.mark.parametrize("on_failure", ["close", "keep"])
def test_reauth_that_is_not_answered_or_refused(rig, bad, on_failure):
    bad.login(users={"app": "p0"})
    cred = CredFile(rig, "app", "p0")
    d = idle(rig, bad, cred.conf(debounce="1ms"), 3, reauth_spread="0", reauth_timeout="200ms", reauth_on_failure=on_failure)
    bad.login(users={"app": "p0"}, mode="silent")
    cred.write("app", "p1")
    bad.wait(lambda: bad.login_now == 0 and len(bad.log) > 3, text="a login that is not answered")
    bad.wait(lambda: bad.live < 3, text="the connection to be closed")     # its answer may still come: of no use
    bad.login(users={"app": "p1"})
    d.wait_pool(lambda p: states(p).get("idle", 0) >= 3)
    with Resp(d.at["transaction"]) as c:
        assert c.cmd("ECHO", "x") == b"x"


# Proves: B15
def test_a_source_that_cannot_be_asked_is_final(rig, bad):
    """The refusal comes at once, in the server's words."""
    bad.login(users={"app": "other"})
    bad.denied_text = b"-WRONGPASS these very words\r\n"
    d = three(rig, bad, {"name": "app", "source": "static", "username": "app", "password": "p0"}, modes=("transaction",),
              lease_timeout="10s")
    t = time.monotonic()
    with Resp(d.at["transaction"]) as c:
        assert c.cmd("ECHO", "x") == "WRONGPASS these very words"
    assert time.monotonic() - t < 1 * SLOW


# Proves: B16
def test_what_happens_is_logged(rig, bad):
    bad.login(users={"app": "secret-2"})
    source = Command(rig, CredFile.text("app", "secret-1"))
    d = three(rig, bad, source.conf(), modes=("transaction",), top={"log": {"level": "debug"}})
    poll(lambda: len(source.runs()) == 1, 5, "the first run")
    source.do(CredFile.text("app", "secret-2"))
    with Resp(d.at["transaction"]) as c:
        assert c.cmd("ECHO", "x") == b"x"
    lines = d.log_lines("cred.")
    assert any("denied" in l for l in lines) and any("generation=2" in l for l in lines), lines
    assert not d.log_lines("secret-")


# Proves: A24
def test_two_sources_are_an_error(rig):
    code, out, err = rig.check("-t", tree={
        "credentials": [{"name": "app", "source": "file", "path": "/nowhere", "argv": ["/bin/true"]}],
        "pools": [redis_pool("p", 1, "session", free_port(), credentials="app")]})
    assert code == 78 and "argv" in err, (code, out, err)


# --- without re-authentication ------------------------------------------------------------------------------------

# Proves: B13 must-rotate-recycle
@pytest.mark.limit(40)
@pytest.mark.parametrize("how", ["recycle", "keep"])
def test_on_credential_change(rig, how):
    srv = AclRedis(rig, {"app": "p0", "app2": "p0"})
    cred = CredFile(rig, "app", "p0")
    d = three(rig, srv, cred.conf(debounce="10ms"), modes=("transaction", "request"), on_credential_change=how, reauth_spread="100ms",
              max_size=30)
    loads = [Load(rig, d.at[m], "-c", 20, "-p", 3, "-m", 10, "-i", 3).running(500) for m in d.at]
    ids = {c["id"] for c in srv.clients()}
    cred.write("app2", "p0")
    if how == "recycle":
        poll(lambda: all(c["user"] == "app2" for c in srv.clients()), 5, "new connections")
        assert not ids & {c["id"] for c in srv.clients()}
    else:
        poll(lambda: gen_of(d) == 2, 5, "the generation")
        [l.running(500) for l in loads]
        assert {c["id"] for c in srv.clients() if c["user"] == "app"} & ids
    [l.running(500) for l in loads]
    [spotless(l.stop()) for l in loads]


# Proves: decision-8 must-rotate-opaque
@pytest.mark.limit(40)
def test_opaque_tcp_logs_in_with_the_new_one(rig):
    """Through the login script; what is idle is replaced."""
    srv = AclRedis(rig, {"app": "p0"})
    cred = CredFile(rig, "app", "p0")
    d = rig.proxy(srv, top={"credentials": [cred.conf(debounce="10ms")]}, credentials="app", min_idle=5, max_size=40,
                  reuse="script", ready_check=REDIS_READY, lease_on="first_byte", reauth_spread="100ms",
                  login=[{"send": "AUTH ${username} ${password}\r\n", "expect": "+OK\r\n", "expect_denied": "-WRONGPASS"}])
    stop, wrong = threading.Event(), []

    def client(i):
        while not stop.is_set():
            try:
                with Resp(d.port) as c:
                    if c.cmd("ECHO", "e%d" % i) != b"e%d" % i:
                        wrong.append("reply")
            except (OSError, EOFError) as e:
                wrong.append(repr(e))
    threads = [threading.Thread(target=client, args=(i,)) for i in range(10)]
    [t.start() for t in threads]
    for n in range(1, 6):
        ids = {c["id"] for c in srv.clients()}
        srv.admin("ACL", "SETUSER", "app", ">p%d" % n)
        cred.write("app", "p%d" % n)
        poll(lambda: not ids & {c["id"] for c in srv.clients()}, 5, "new connections")
        srv.admin("ACL", "SETUSER", "app", "<p%d" % (n - 1))
    stop.set()
    [t.join() for t in threads]
    assert not wrong, wrong[:3]


# --- the storm --------------------------------------------------------------------------------------------------------

# Proves: must-storm CRED-4
@pytest.mark.long
@pytest.mark.limit(1200)
def test_storm(rig):
    """10,000 clients of 12 pools with three sources; at each rotation every connection is cut and the old password void."""
    clients, rotations = int(os.environ.get("STORM_CLIENTS", "10000")), int(os.environ.get("STORM_ROTATIONS", "100"))
    names = ["app%d" % i for i in range(3)]
    srv = AclRedis(rig, {u: "p0" for u in names}, "--maxclients", "10000")
    sources = {u: Command(rig, CredFile.text(u, "p0"), name=u) for u in names}
    ports, pools = [], []
    for i in range(12):
        ports.append(free_port())
        pools.append(redis_pool("pool%d" % i, srv, ("transaction", "request")[i % 2], ports[-1], credentials=names[i % 3],
                                max_size=50, multiplex_connections=4, max_clients=clients, lease_timeout="20s"))
    d = rig.leased(pools, credentials=[s.conf(u) for u, s in sources.items()], limits={"max_clients": clients + 100},
                   nofile=20000)
    load = Load(rig, ["127.0.0.1:%d" % p for p in ports], "-c", clients, "-p", 2, "-m", 2, "-i", 2000, "-T", 30000)
    load.running(clients * 3, 120)
    t = time.monotonic()
    for n in range(1, rotations + 1):
        load.hold(60)
        for u, s in sources.items():
            s.do(CredFile.text(u, "p%d" % n))
        srv.revoke(**{u: "p%d" % n for u in names})
        load.go()
        load.running(clients, 60)
    took = time.monotonic() - t
    r = spotless(load.stop())
    runs = {u: [w for _, w, _ in s.runs()] for u, s in sources.items()}
    print("storm: %d rotations in %.0f s, %d replies, p99 %.0f ms, longest %.0f ms" % (
        rotations, took, r["replies"], r["latency_us"]["p99"] / 1e3, r["latency_us"]["max"] / 1e3))
    for u, w in runs.items():
        assert w == ["startup"] + ["denied"] * rotations, (u, len(w), w[:5])
    assert r["latency_us"]["p99"] <= 1e6 and r["served"] == clients, r
    assert d.running
