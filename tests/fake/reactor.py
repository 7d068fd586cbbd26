"""One thread, one epoll, timers: what the fake servers of the tests run on.

Everything of a server happens under `lock`: its thread holds it while it handles events, a test holds it while it looks or
changes something (`with server.lock:`). So methods may be called from any thread and take effect at once.
`wait(pred)` sleeps until an event made pred() true; nothing here sleeps for a guessed time.
Loopback only; the thread is a daemon and ends with stop() or with the process.
"""
import heapq
import itertools
import os
import select
import socket
import struct
import threading
import time

IN, OUT, RDHUP, HUP, ERR = (select.EPOLLIN, select.EPOLLOUT, select.EPOLLRDHUP, select.EPOLLHUP, select.EPOLLERR)


class Reactor:
    def __init__(self):
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, IN)
        self._handlers = {}
        self._timers = []
        self._ids = itertools.count()
        self._running = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    # --- for the servers

    def watch(self, sock, events, handler):
        """handler(events) is called in the thread; calling again changes both."""
        fd = sock.fileno()
        if fd in self._handlers:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def unwatch(self, sock):
        fd = sock.fileno()
        if fd >= 0 and self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def later(self, seconds, fn):
        """Calls fn() once; the result's cancel() prevents it."""
        t = Timer(fn)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._ids), t))
        os.eventfd_write(self._wake, 1)
        return t

    def turn(self, timeout=0):
        """Handles what is ready now. The lock is held."""
        self._dispatch(self._epoll.poll(timeout))

    # --- for the tests

    def wait(self, pred, timeout=5.0, text="the server"):
        end = time.monotonic() + timeout
        with self.lock:
            while True:
                got = pred()
                if got:
                    return got
                left = end - time.monotonic()
                if left <= 0:
                    raise AssertionError("timed out after %.1f s waiting for %s" % (timeout, text))
                self.changed.wait(left)

    def stop(self):
        with self.lock:
            self._running = False
        os.eventfd_write(self._wake, 1)
        self._thread.join(10)

    # --- the thread

    def _dispatch(self, ready):
        # A handler may close a descriptor whose number the next one gives to another socket: that one's event is stale.
        ready = [(fd, events, self._handlers.get(fd)) for fd, events in ready]
        for fd, events, handler in ready:
            if fd == self._wake:
                os.eventfd_read(self._wake)
            elif handler and self._handlers.get(fd) == handler:
                handler(events)

    def _run(self):
        timeout = None
        while True:
            ready = self._epoll.poll(timeout)
            with self.lock:
                if not self._running:
                    break
                self._dispatch(ready)
                now = time.monotonic()
                while self._timers and self._timers[0][0] <= now:
                    t = heapq.heappop(self._timers)[2]
                    if t.fn:
                        fn, t.fn = t.fn, None
                        fn()
                while self._timers and not self._timers[0][2].fn:
                    heapq.heappop(self._timers)
                timeout = max(0, self._timers[0][0] - time.monotonic()) if self._timers else None
                self.changed.notify_all()
        self._epoll.close()


class Timer:
    def __init__(self, fn):
        self.fn = fn

    def cancel(self):
        self.fn = None


def close_rst(sock):
    """Closes with a reset instead of an end of stream."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def listening(port=0, host="127.0.0.1", backlog=1024, kind=socket.SOCK_STREAM):
    s = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((host, port))
    if kind == socket.SOCK_STREAM:
        s.listen(backlog)
    s.setblocking(False)
    return s
