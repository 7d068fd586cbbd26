"""Fixtures of the end-to-end tests. `rig` holds everything a test starts and judges how it ended."""
import os
import signal
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes more than some seconds or most of the machine; run with LONG=1")
    config.addinivalue_line("markers", "measure: judges CPU or memory; meaningless under a sanitizer")
    config.addinivalue_line("markers", "limit(seconds): how long the test may take (default 30)")
    config.addinivalue_line("markers", "failio: preloads a library, which ThreadSanitizer does not bear")


def pytest_collection_modifyitems(config, items):
    long_too = os.environ.get("LONG", "") not in ("", "0")
    for item in items:
        if "long" in item.keywords and not long_too:
            item.add_marker(pytest.mark.skip(reason="long: run with LONG=1"))
        if "measure" in item.keywords and harness.SLOW > 1:
            item.add_marker(pytest.mark.skip(reason="CPU and memory are not judged in a sanitizer build"))
        if "failio" in item.keywords and harness.SLOW > 1 and b"__tsan_init" in open(harness.LEASED, "rb").read():
            item.add_marker(pytest.mark.skip(reason="no preloading under ThreadSanitizer"))


@pytest.hookimpl(hookwrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """A test that does not come to its end is stopped and fails with a trace of where it was."""
    mark = pyfuncitem.get_closest_marker("limit")
    seconds = (mark.args[0] if mark else 30) * harness.SLOW

    def late(signum, frame):
        raise AssertionError("the test took longer than %.0f s" % seconds)
    old = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


@pytest.hookimpl(tryfirst=True, hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    rep = outcome.get_result()
    rig = getattr(item, "funcargs", {}).get("rig")
    if rig is None:
        return
    if rep.when == "call":
        item.call_failed = rep.failed
    if rep.failed:
        rep.sections.append(("leased", rig.tail()))


@pytest.fixture
def rig(request):
    r = harness.Rig()
    yield r
    bad = r.finish()
    if bad:
        r.text = r.tail()
    r.remove()
    if bad:
        pytest.fail("after the test: " + "\n".join(bad), pytrace=False)
