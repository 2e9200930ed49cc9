"""What a deputy does for its remote: calls one way, signals and stops the other way."""

from __future__ import annotations

import errno
import os
import signal
from collections import deque
from collections.abc import Callable

import msgspec

from omtools.errors import ProcessEnded
from omtools.i18n import _
from omtools.linux import proc, ptrace
from omtools.linux.ptrace import Stop, StopKind
from omtools.migration.deputy import Broken, Deputy, Finished, Stance
from omtools.migration.deputy_counts import DeputyCounts
from omtools.migration.frames import CANCELLED, COME_HOME, NUMBER, RESULT, Kind, Request
from omtools.migration.openfiles import look

_SIGNALS_KEPT = 4096  # that a guest may not have got when it is frozen
_STOPS = frozenset({signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})

Send = Callable[[Kind, bytes, int], None]


class Service:
    """A deputy at work.

    Attributes:
        deputy: whom it is about.
        calls: how many it was asked for.
        counts: is told of each that is over.
        dfsa: of opened files it is said what is needed to open them where the remote is.
    """

    def __init__(
        self,
        deputy: Deputy,
        pending: list[bytes],
        send: Send,
        ended: Callable[[Stop], None],
        dfsa: bool = False,
    ) -> None:
        """`pending` are the signals that went with the image; `ended` is told of the deputy's end.

        `dfsa`: say of opened files what is needed to open them where the remote is.
        """
        self.deputy = deputy
        self.calls = 0
        self._send = send
        self._ended = ended
        self.dfsa = dfsa
        self.counts: DeputyCounts | None = None
        self._serial = 0
        self._known_pending = pending
        self._signals: deque[bytes] = deque(maxlen=_SIGNALS_KEPT)
        self._signals_sent = 0
        self._untaken = 0  # of these; right from LEAVING on
        self._signalled = False

    # -- calls -------------------------------------------------------------------------------------

    def call(self, serial: int, body: memoryview) -> None:
        """The remote makes a call."""
        deputy = self.deputy
        request = Request(body)
        self._serial = serial
        self._signalled = False
        self.calls += 1
        deputy.begin(request)
        if deputy.stray:
            self.pass_on_strays()
        if not request.may_block:
            while deputy.stance is Stance.BUSY:
                self.stopped(ptrace.wait(deputy.pid))

    def cancel(self, serial: int) -> None:
        """The remote was interrupted in that call. Raises ProcessEnded."""
        deputy = self.deputy
        if deputy.stance not in (Stance.BUSY, Stance.HALTED) or serial != self._serial:
            return  # its result is on the way already
        halted = deputy.stance is Stance.HALTED
        done = deputy.break_off()
        self._answer(done)
        self.pass_on_strays()
        if deputy.stance is Stance.HALTED and not halted:
            self._send(Kind.STOP, b"", 0)

    def grow(self, size: int) -> None:
        """The remote needs a larger arena for a call."""
        self._send(Kind.GROWN, NUMBER.pack(self.deputy.arena.grow(size)), 0)

    def _answer(self, done: Finished | Broken) -> None:
        if isinstance(done, Finished) and done.result == -errno.EINTR and self._signalled:
            done = self.deputy.broken(done)
        if isinstance(done, Broken):
            head = CANCELLED.pack(done.code, done.nanoseconds)
            self._send(Kind.CANCELLED, head + done.data, self._serial)
            return
        self._send(Kind.RESULT, RESULT.pack(done.result) + done.data, self._serial)

    def _finished(self, request: Request, done: Finished) -> None:
        deputy = self.deputy
        if self.counts is not None:
            self.counts.call(request.nr, request.args, done.result)
        if request.opens and done.result >= 0 and (what := deputy.opened_telltale(done.result)):
            deputy.close_descriptor(done.result)
            reason = _("it reads {path}").format(path=what)
            self._send(Kind.RESULT, RESULT.pack(COME_HOME) + reason.encode(), self._serial)
            return
        if self.dfsa and request.opens and (file := look(deputy.pid, done.result)) is not None:
            done = Finished(done.result, msgspec.msgpack.encode(file))
        self._answer(done)

    # -- stops and signals -------------------------------------------------------------------------

    def stopped(self, stop: Stop) -> None:
        """The deputy stopped, or is over."""
        deputy = self.deputy
        if stop.over:
            deputy.stance = Stance.GONE
            self._ended(stop)
            return
        request = deputy.request
        if request is not None and (done := deputy.finished(stop)) is not None:
            self._finished(request, done)
        elif stop.kind is StopKind.SIGNAL:
            self._signal(stop)
        elif stop.kind is StopKind.GROUP:
            deputy.halted()
            self._send(Kind.STOP, b"", 0)
        elif deputy.stance is Stance.HALTED:
            deputy.go_on()
            self._send(Kind.CONTINUE, b"", 0)
        elif deputy.stance is not Stance.TRAPPED:
            ptrace.cont(deputy.pid)

    def _signal(self, stop: Stop) -> None:
        deputy = self.deputy
        if deputy.meet(stop):
            ptrace.cont(deputy.pid)
            return
        siginfo = deputy.stray.pop()
        if siginfo in self._known_pending:
            self._known_pending.remove(siginfo)  # it went with the image
        elif self._stops(stop.signal):
            ptrace.cont(deputy.pid, stop.signal)
            return
        else:
            self._signalled = True
            self.pass_on(siginfo)
        ptrace.cont(deputy.pid)

    def _stops(self, number: int) -> bool:
        return number == signal.SIGSTOP or (number in _STOPS and _is_default(self.deputy.pid, number))

    def pass_on(self, siginfo: bytes) -> None:
        """A signal for the guest; should it be frozen already, the signal goes with it."""
        self._signals.append(siginfo)
        self._signals_sent += 1
        self._untaken += 1
        self._send(Kind.SIGNAL, siginfo, 0)

    def pass_on_strays(self) -> None:
        """The signals that were met while a call was broken off."""
        for siginfo in self.deputy.stray:
            number = int.from_bytes(siginfo[:4], "little")
            if siginfo in self._known_pending:
                self._known_pending.remove(siginfo)
            elif self._stops(number):
                os.kill(self.deputy.pid, number)  # it stops when it runs on
            else:
                self.pass_on(siginfo)
        self.deputy.stray.clear()

    def taken(self, count: int) -> None:
        """The guest is frozen, and so many signals (modulo 2^32) have reached it."""
        self._untaken = self._signals_sent - count & 0xFFFFFFFF

    def late_signals(self) -> list[bytes]:
        """What the guest has not got, since it said that it is frozen."""
        return list(self._signals)[-self._untaken :] if self._untaken else []

    def new_guest(self) -> None:
        """It runs on another node from now on: what the old one did not get is for the new one."""
        late = self.late_signals()
        self._signals_sent = self._untaken = 0
        for siginfo in late:
            self.pass_on(siginfo)

    # -- the end -----------------------------------------------------------------------------------

    def end_as(self, how: str, status: int) -> None:
        """Let the deputy end as its remote did."""
        try:
            if how == "exited":
                self.deputy.end(status)
            else:
                self.deputy.die_by(status)
        except ProcessEnded:
            return


def _is_default(pid: int, number: int) -> bool:
    """The process has neither a handler for the signal nor ignores it."""
    status = proc.status(pid)
    bit = 1 << (number - 1)
    return not (int(status["SigCgt"], 16) | int(status["SigIgn"], 16)) & bit
