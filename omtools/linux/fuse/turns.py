"""Who reads the device of a mount: of many threads one at a time, the leader.

It reads a request, serves it, replies, and reads the next. Several that read at once would be in each other's
way: the kernel wakes the one that has slept longest, which then waits for the interpreter's lock and finds
its data in no cache; a lone caller would have a half to two thirds of the speed. So the others stand by, and
one of them leads when it is needed:

* a leader that waits for an answer listens to the device too (`Turns.wait`): when the next request comes
  before the answer, another leads;
* one that is about to do what may take long has another lead first (`Turns.step_aside`);
* one that is held up without having said so is noticed after some milliseconds, if somebody waits.

Where many ask at the same time, some more read beside the leader: then none is woken for nothing.
So nobody who waits for a dead node, a slow disk or another's lock keeps the rest waiting. (The pattern is
known as leader/followers: Schmidt et al., Pattern-Oriented Software Architecture 2, 2000.) FORGET and
RELEASE, for which nobody waits, are put off for a moment: till there is nothing else to do.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import os
import select
import threading
from collections.abc import Callable

from omtools.linux.eager import Eager
from omtools.linux.fuse import abi
from omtools.linux.fuse.abi import Opcode
from omtools.linux.fuse.handler import Request
from omtools.linux.fuse.negotiate import MAX_DATA

Log = Callable[[str, BaseException], object]
"""Gets one sentence and the exception, which has a traceback."""

LIMIT = 64
"""So many threads at most."""
_KEPT = 6  # that stand by; more of them end
_HELPERS = 3  # that read beside the leader in a crowd
_CROWD, _MOST = 16, 64  # requests that came while another was served, less those that did not
_TICK_SECONDS = 0.004
_CALM_TICKS = 50  # without any request: the watch sleeps until the next
_ROOM = 4096  # where in a buffer the data of a READ goes: behind any request but a WRITE
BUFFER = _ROOM + MAX_DATA
_BULK = 1 << 17
_LONG = frozenset({
    int(Opcode.FSYNC), int(Opcode.FSYNCDIR), int(Opcode.SYNCFS), int(Opcode.FALLOCATE),
    int(Opcode.COPY_FILE_RANGE),
})  # fmt: skip
_FORGETS = frozenset({int(Opcode.FORGET), int(Opcode.BATCH_FORGET)})
_NOBODY_WAITS = _FORGETS | {int(Opcode.RELEASE), int(Opcode.RELEASEDIR)}
_SOON_SECONDS = 0.001  # so long at most if it is to wait for an answer
_PUT_OFF = 64  # so many at most
_TAKEN_BACK = (errno.ENOENT, errno.EINTR, errno.EAGAIN)
_OVER = (errno.ENODEV, errno.ECONNABORTED)  # unmounted, aborted


class _Worker:
    """One thread.

    Attributes:
        baton: held until it is this thread's turn to lead.
        ident: of the thread, as threading has it.
        busy: it has a request in hand.
        served: how many it had.
        view, room: of its buffer: all of it, and where the data of a READ go.
        requests: polls the device.
        answers: too, and `polled`, the last descriptor that an answer was awaited from.
    """

    __slots__ = (
        "answers", "baton", "buffer", "busy", "ident", "polled", "requests", "room", "served", "view",
    )  # fmt: skip

    def __init__(self, device: int) -> None:
        self.baton = threading.Lock()
        self.baton.acquire()
        self.ident = 0
        self.busy = False
        self.served = 0
        self.buffer = bytearray(BUFFER)
        self.view = memoryview(self.buffer)
        self.room = self.view[_ROOM:]
        self.requests = select.poll()
        self.requests.register(device, select.POLLIN)
        self.answers = select.poll()
        self.answers.register(device, select.POLLIN)
        self.polled = -1


class Turns:
    """The threads of one mount.

    Args:
        device: the descriptor that is read.
        serve: called with each request, by several threads at once; it must not raise.
        gone: called when a thread has ended, by that thread.
        enter: called before one begins.
        log: told of what is wrong with the device.
    """

    def __init__(
        self, device: int, serve: Callable[[Request], None], gone: Callable[[], None],
        enter: Callable[[], None], log: Log,
    ) -> None:  # fmt: skip
        self._device = device
        self._serve = serve
        self._gone = gone
        self._enter = enter
        self._log = log
        self._workers: set[_Worker] = set()
        self._standing: list[_Worker] = []
        self._leader: _Worker | None = None
        self._helpers = 0
        self._crowd = 0
        self._over = False
        self._lock = threading.Lock()
        self._dozing = False
        self._wake = threading.Event()
        self._for_requests, self._for_answers = Eager(), Eager()
        self._forgets: collections.deque[Request] = collections.deque()
        self._releases: collections.deque[Request] = collections.deque()

    def start(self) -> None:
        """Begin; raises RuntimeError if there is no thread to be had."""
        worker = self._leader = _Worker(self._device)
        self._workers.add(worker)
        worker.baton.release()
        self._enter()
        threading.Thread(target=self._run, args=(worker,), name="fuse", daemon=True).start()
        threading.Thread(target=self._watch, name="fuse-watch", daemon=True).start()

    def stop(self) -> None:
        """No more requests: threads end when they have done what they do; one that reads, after the next."""
        with self._lock:
            self._over = True
            standing, self._standing = self._standing, []
        for worker in standing:
            worker.baton.release()
        self._wake.set()

    @property
    def reads(self) -> bool:
        """A thread waits for a request."""
        with self._lock:
            return any(not one.busy and one not in self._standing for one in self._workers)

    # for those who serve

    def wait(self, number: int, seconds: float | None) -> bool:
        """Wait until something can be read from a descriptor; other requests are served meanwhile.

        Args:
            number: the descriptor; it must be one that blocks, with a time limit of its own.
            seconds: at most so long; None: for ever.

        Returns:
            False if the time is over; else the caller may read, and block in that (a thread that does not
            lead is not made to wait here).
        """
        worker = self._leader
        if worker is None or worker.ident != threading.get_ident() or self._helpers:
            return True
        poll = worker.answers
        if worker.polled != number:
            if worker.polled >= 0:
                poll.unregister(worker.polled)
            poll.register(number, select.POLLIN)
            worker.polled = number
        if self._forgets and not poll.poll(0):
            self._do(self._forgets)
        if self._releases:
            ready = self._for_answers.poll(poll, _SOON_SECONDS)
            if not ready:
                self._promote(worker)  # somebody has to do them
                return True
        else:
            ready = self._for_answers.poll(poll, seconds)
        if len(ready) == 1 and ready[0][0] == self._device:
            self._promote(worker)
        return bool(ready)

    def step_aside(self) -> None:
        """The calling thread is about to wait for what `wait` cannot wait for: another leads, if it does."""
        worker = self._leader
        if worker is not None and worker.ident == threading.get_ident():
            self._promote(worker)

    # the threads

    def _promote(self, worker: _Worker) -> None:
        """Have another lead in the place of this one, if there is one to be had."""
        with self._lock:
            if self._leader is not worker or self._over:
                return
            if self._standing:
                self._leader = self._standing.pop()
                self._leader.baton.release()
                return
            if len(self._workers) >= LIMIT:
                return
            new = self._leader = _Worker(self._device)
            self._workers.add(new)
            new.baton.release()
            self._enter()
            try:
                threading.Thread(target=self._run, args=(new,), name="fuse", daemon=True).start()
            except RuntimeError as error:
                self._gone()
                self._leader = worker
                self._workers.discard(new)
                if worker in self._standing:  # it has finished meanwhile
                    self._standing.remove(worker)
                    worker.baton.release()
                self._log("no thread can be started", error)

    def _run(self, worker: _Worker) -> None:
        worker.ident = threading.get_ident()
        worker.baton.acquire()
        try:
            while self._lead(worker) and self._help(worker) and self._stand_by(worker):
                worker.baton.acquire()
        except Exception as error:  # a thread that ends in silence would be missed
            self._log("a serving thread failed", error)
        with self._lock:
            self._workers.discard(worker)  # no longer one that waits for requests
            led = self._leader is worker
        if led:
            self.stop()
        self._gone()

    def _stand_by(self, worker: _Worker) -> bool:
        """Whether it is still wanted; then its baton says when."""
        with self._lock:
            if self._over or len(self._standing) >= _KEPT:
                return False
            self._standing.append(worker)
            return True

    def _lead(self, worker: _Worker) -> bool:
        """Serve as long as it leads; False when there is nothing more to come."""
        while self._leader is worker and not self._over:
            if (self._forgets or self._releases) and not worker.requests.poll(0):
                self._do(self._forgets)
                self._do(self._releases)
            if self._crowd <= _CROWD:
                self._for_requests.poll(worker.requests, None)
            if not self._next(worker):
                return False
        return not self._over

    def _help(self, worker: _Worker) -> bool:
        """Read beside the leader as long as there is a crowd; False when there is nothing more to come."""
        while self._crowd > _CROWD and not self._over:
            with self._lock:
                if self._helpers >= _HELPERS:
                    return True
                self._helpers += 1
            if not self._next(worker, helps=True):
                return False
        return not self._over

    def _next(self, worker: _Worker, helps: bool = False) -> bool:
        """Read one request and serve it; False when there is nothing more to come."""
        try:
            length = os.readv(self._device, [worker.buffer])
        except OSError as error:
            if error.errno in _TAKEN_BACK:
                return True
            if error.errno not in _OVER:
                self._log("the device cannot be read", error)
            return False
        finally:
            if helps:
                with self._lock:
                    self._helpers -= 1
        size = abi.HEADER_IN.size
        if length < size:
            return False
        if any(one.busy for one in list(self._workers)):
            self._crowd = min(self._crowd + 1, _MOST)
        elif self._crowd:
            self._crowd -= 1
        worker.busy = True
        worker.served += 1
        if self._dozing:
            self._wake.set()
        _length, opcode, unique, node, uid, gid, pid, _ext, _pad = abi.HEADER_IN.unpack_from(worker.view)
        request = Request(opcode, unique, node, uid, gid, pid, worker.view[size:length], worker.room)
        if opcode in _NOBODY_WAITS:
            self._put_off(request)
        else:
            self._make_way(worker, request)
            self._serve(request)
        worker.busy = False
        return True

    def _put_off(self, request: Request) -> None:
        """Do it later."""
        kept = self._forgets if request.opcode in _FORGETS else self._releases
        request.body = memoryview(bytes(request.body))
        request.room = memoryview(b"")
        kept.append(request)
        if len(kept) > _PUT_OFF:
            self._do(kept)

    def _do(self, kept: collections.deque[Request]) -> None:
        """What was put off."""
        with contextlib.suppress(IndexError):  # another thread was quicker
            while kept:
                self._serve(kept.popleft())

    def _make_way(self, worker: _Worker, request: Request) -> None:
        """Have another lead while this one is at what takes long: at once, or if somebody waits already."""
        opcode = request.opcode
        if opcode in _LONG or ((
            len(request.body) > _BULK or (opcode == Opcode.READ and _read_size(request) > _BULK)
        ) and worker.requests.poll(0)):
            self._promote(worker)

    def _is_asked(self) -> bool:
        """A request waits."""
        poll = select.poll()
        poll.register(self._device, select.POLLIN)
        return bool(poll.poll(0))

    def _watch(self) -> None:
        """See whether a leader is held up while somebody waits."""
        before: tuple[_Worker | None, int] = (None, -1)
        calm = 0
        while not self._over:
            leader = self._leader
            now = (leader, leader.served if leader is not None else 0)
            if now != before:
                calm = 0
            elif leader is not None and leader.busy:
                if self._releases or self._is_asked():
                    self._promote(leader)
            else:
                calm += 1
            before = now
            self._wake.clear()
            if calm > _CALM_TICKS:
                self._doze()
                calm = 0
            else:
                self._wake.wait(_TICK_SECONDS)

    def _doze(self) -> None:
        """Until the next request."""
        self._dozing = True
        leader = self._leader
        if leader is not None and not leader.busy and not self._over:
            self._wake.wait()
        self._dozing = False


def _read_size(request: Request) -> int:
    if len(request.body) < abi.READ_IN.size:
        return 0
    return abi.ReadIn._make(abi.READ_IN.unpack_from(request.body)).size
