"""The keeper of a remote: one small process per guest, on the node where it runs.

It drives `protocol.GuestSide`, answers what its guest's filter traps, and passes on what the deputy's
keeper sends. All else that it knows of system calls stands in `omtools.migration.calls`.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable

import msgspec

from omtools.errors import OmError, ProcessEnded, RestoreFailed
from omtools.i18n import _
from omtools.image import cage
from omtools.image.capture import look_before
from omtools.image.model import Image
from omtools.image.pages import CopySource
from omtools.linux import ptrace, seccomp
from omtools.linux.events import ChildEvents
from omtools.linux.ptrace import Stop, StopKind
from omtools.migration.calls.model import (
    Answer,
    Arena,
    ComeHome,
    CpuTime,
    Exit,
    Fault,
    Forward,
)
from omtools.migration.calls.plan import land, plan
from omtools.migration.calls.polls import mask_meanwhile
from omtools.migration.control import Control
from omtools.migration.flight import Flight, Outcome
from omtools.migration.frames import CANCELLED, COME_HOME, LEAVING, NUMBER, RESULT, Kind, pack_call
from omtools.migration.hello import expect
from omtools.migration.link import Link, LinkBroken, accept
from omtools.migration.log import Log
from omtools.migration.orders import Ask, Bring, Command, GuestOrder, Phase, State, Statistics
from omtools.migration.protocol import Action, Event, Guest, GuestSide, Unexpected
from omtools.migration.remote import Remote
from omtools.migration.transfer import send_pages

_PHASES: dict[Guest, Phase] = {
    Guest.WAITING: "linking",
    Guest.BUILDING: "sending",
    Guest.READY: "sending",
    Guest.RUNNING: "away",
    Guest.LEAVING: "coming",
    Guest.GONE: "ended",
}


class _Memory:
    """The remote's memory as `plan` wants it."""

    def __init__(self, remote: Remote) -> None:
        self._memory = remote.memory

    def read(self, address: int, length: int) -> bytes:
        try:
            return self._memory.read(address, length)
        except (OSError, OverflowError):
            raise Fault from None

    def read_string(self, address: int, limit: int) -> bytes:
        try:
            return self._memory.read_string(address, limit)
        except (OSError, OverflowError):
            raise Fault from None


class GuestKeeper:
    """Builds one guest, lets it run, lets it go."""

    def __init__(self, order: GuestOrder, children: ChildEvents, control: Control, log: Log) -> None:
        self.order = order
        self.machine = GuestSide()
        self._children = children
        self._control = control
        self._log = log
        self._events: deque[Event] = deque()
        self._backlog: deque[tuple[Kind, int, bytes]] = deque()
        self._link: Link | None = None
        self._remote: Remote | None = None
        self._memory: _Memory | None = None
        self._image: Image | None = None
        self._error: Exception = RestoreFailed(node=order.node, why="")
        self._arena = Arena(0, 0)
        self._flight: Flight | None = None
        self._serial = 0
        self._held = False       # the deputy was stopped by a signal, so is the remote
        self._stopped = True     # it is in a stop of ours
        self._fatal: list[bytes] = []  # the signal it goes home to die of
        self._late: list[bytes] = []   # signals that came when it was frozen: home has them too
        self._taken = 0                # signals from home that it has got
        self._reason = ""
        self._exit: tuple[str, int] = ("killed", 9)
        self._listening = False
        self.state = State(
            role="guest", migration=order.migration, pid=order.pid, local_pid=0, uid=order.uid,
            home=order.home, node=order.node, phase="linking", statistics=Statistics(), keeper=os.getpid(),
        )  # fmt: skip
        self._do: dict[Action, Callable[[], None]] = {
            Action.BUILD: self._build,
            Action.SEND_READY: lambda: self._send(Kind.READY),
            Action.SEND_REFUSED: self._send_refused,
            Action.SEND_STARTED: lambda: self._send(Kind.STARTED),
            Action.RUN: self._run,
            Action.LEAVE: self._leave,
            Action.SEND_EXITED: lambda: self._send(Kind.EXITED, msgspec.msgpack.encode(self._exit)),
            Action.DESTROY: self._destroy,
        }

    # -- the loop ----------------------------------------------------------------------------------

    def serve(self, listener: socket.socket) -> None:
        """Wait for the deputy's keeper, then from the image to the end."""
        self._report()
        try:
            self._link = accept(listener, self.order.credentials, self.order.patience)
            self._prepare(self._link)
        except LinkBroken as error:
            self._log.warning(f"no guest came: {error}")
            self.machine.handle(Event.LOST)
            self._destroy()
        finally:
            listener.close()
        while self.machine.state not in GuestSide.final:
            try:
                self._step(self._events.popleft() if self._events else self._wait())
            except ProcessLookupError:
                if self._remote is None:
                    raise
                self._stop(ptrace.wait_for_end(self._remote.pid))  # killed in the midst of it
        self._report()

    def _prepare(self, link: Link) -> None:
        """Build the cage while the process still runs at home; raises LinkBroken."""
        link.set_timeout(self.order.patience)
        hello = expect(link, self.order.pid)
        here = time.monotonic_ns()
        clocks = cage.Clocks(hello.monotonic_ns, hello.boottime_ns)
        try:
            built = cage.build(self.order.pid, self.order.hostname, clocks)
            self._remote = Remote(built, clocks.monotonic - here)
        except (OmError, OSError) as error:
            self._refuse(error)
            raise LinkBroken(str(error)) from error
        self._memory = _Memory(self._remote)
        self.state.local_pid = self._remote.pid
        link.send(Kind.HELLO)
        link.set_timeout(None)

    def _step(self, event: Event | None) -> None:
        if event is None:
            return
        before = self.machine.state
        try:
            actions = self.machine.handle(event)
        except Unexpected as error:
            self._log.warning(str(error))
            actions = self.machine.handle(Event.LOST)
        self._log.debug(f"{before.name} {event.name} -> {self.machine.state.name}")
        for action in actions:
            self._do[action]()
        if self.machine.state is not before:
            self._report()

    def _report(self) -> None:
        self.state.phase = _PHASES[self.machine.state]
        self._control.tell(self.state)

    def _send(self, kind: Kind, body: bytes = b"", serial: int = 0) -> None:
        if self._link is None:
            return
        try:
            self._link.send(kind, body, serial)
        except LinkBroken as error:
            self._lost(error)

    def _lost(self, error: LinkBroken) -> None:
        self._log.warning(f"link: {error}")
        self._events.append(Event.LOST)

    # -- waiting -----------------------------------------------------------------------------------

    def _wait(self) -> Event | None:
        link = self._link
        assert link is not None
        if self._backlog:
            return self._frame(*self._backlog.popleft())
        if link.waiting:
            return self._receive(link)
        poller = select.poll()
        for descriptor in (self._children.fileno(), link.fileno(), *self._control.descriptors()):
            poller.register(descriptor, select.POLLIN)
        listener = self._remote.listener if self._remote is not None and self._listening else -1
        if listener >= 0:
            poller.register(listener, select.POLLIN)
        for descriptor, mask in poller.poll():
            if descriptor == listener:
                if mask & select.POLLIN:
                    self._trapped()
                else:
                    self._listening = False  # nobody is left behind the filter; waitpid tells the rest
            elif descriptor == link.fileno():
                return self._receive(link)
            elif descriptor == self._children.fileno():
                self._children.clear()
                self._reap()
                return None  # it may have read from the link what poll has seen there
            else:
                for command in self._control.handle(descriptor):
                    self._command(command)
        return None

    def _command(self, command: Command) -> None:
        if isinstance(command, Ask):
            self._report()
        elif isinstance(command, Bring):
            self._send(Kind.EXPELLED, command.reason.encode())

    def _receive(self, link: Link) -> Event | None:
        try:
            kind, serial, body = link.receive()
        except LinkBroken as error:
            self._log.warning(f"link: {error}")
            return Event.LOST
        return self._frame(kind, serial, body)

    def _frame(self, kind: Kind, serial: int, body: bytes | memoryview) -> Event | None:
        if kind in (Kind.RESULT, Kind.CANCELLED):
            self._returned(kind, serial, bytes(body))
        elif kind is Kind.SIGNAL:
            self._signal(bytes(body))
        elif kind is Kind.STOP:
            self._held = True
            self._hold()
        elif kind is Kind.CONTINUE:
            self._held = False
            self._continue()
        elif kind is Kind.IMAGE:
            self._image = msgspec.msgpack.decode(body, type=Image)
            return Event.IMAGE
        else:
            return _WORDS.get(kind, Event.LOST)
        return None

    # -- trapped calls -----------------------------------------------------------------------------

    def _trapped(self) -> None:
        remote = self._remote
        assert remote is not None
        try:
            notification = seccomp.receive(remote.listener)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINTR):
                raise
            return
        flight = self._flight
        if flight is not None:
            if flight.same_call(notification):
                flight.come_back(notification)
                self._go_on(flight)
                return
            self._settle_call()  # its signal handler makes other calls: the old one is over
        self._plan(remote, notification)

    def _plan(self, remote: Remote, notification: seccomp.Notification) -> None:
        assert self._memory is not None
        what = plan(notification.nr, notification.args, self._memory, self._arena)
        if isinstance(what, Forward):
            self._forward(notification, what)
        elif isinstance(what, CpuTime):
            self._forward(notification, what.forward, what)
        elif isinstance(what, Answer):
            for address, data in what.writes:
                remote.memory.write(address, data)
            self._answer(notification, what.result)
        elif isinstance(what, ComeHome):
            self._need_home(what.reason)
        elif isinstance(what, Exit):
            self._exit = ("exited", what.status & 0xFF)
            self._events.append(Event.EXITED)
        else:
            self._let_continue(notification)

    def _need_home(self, reason: str) -> None:
        self._reason = reason
        self._events.append(Event.NEED_HOME)

    def _answer(self, notification: seccomp.Notification, result: int) -> bool:
        """Answer a waiting call; False if the caller was interrupted meanwhile."""
        assert self._remote is not None
        try:
            seccomp.answer(self._remote.listener, notification.cookie, result)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return False
        return True

    def _let_continue(self, notification: seccomp.Notification) -> bool:
        assert self._remote is not None
        try:
            seccomp.let_continue(self._remote.listener, notification.cookie)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return False
        return True

    def _forward(
        self, notification: seccomp.Notification, forward: Forward, cpu: CpuTime | None = None
    ) -> None:
        if forward.arena_length > self._arena.size and not self._grow(forward.arena_length):
            self._need_home(_("a call passes more memory than can be carried"))
            return
        self._serial += 1
        self._flight = Flight(self._serial, notification, forward, cpu)
        self.state.statistics.calls_forwarded += 1
        mask = self._blocked() if forward.needs_mask else 0
        self._send(Kind.CALL, pack_call(forward, mask), self._serial)
        assert self._memory is not None
        meanwhile = mask_meanwhile(notification.nr, notification.args, self._memory)
        if meanwhile is not None and self._remote is not None and self._remote.waiting_signals(meanwhile[1]):
            if self._hold():
                self._let_in()
            self._continue()

    def _blocked(self) -> int:
        assert self._remote is not None
        return self._remote.blocked()

    def _grow(self, size: int) -> bool:
        self._send(Kind.GROW, NUMBER.pack(size))
        grown = self._await(lambda kind, _serial: kind is Kind.GROWN)
        if grown is None:
            return False
        self._arena = Arena(self._arena.base, NUMBER.unpack(grown[1])[0])
        return self._arena.size >= size

    def _await(self, wanted: Callable[[Kind, int], bool]) -> tuple[Kind, bytes] | None:
        """Receive until the wanted frame comes; others wait. None if the link broke."""
        assert self._link is not None
        for index, (kind, serial, body) in enumerate(self._backlog):
            if wanted(kind, serial):
                del self._backlog[index]
                return kind, body
        while True:
            try:
                kind, serial, view = self._link.receive()
            except LinkBroken as error:
                self._lost(error)
                return None
            if wanted(kind, serial):
                return kind, bytes(view)
            self._backlog.append((kind, serial, bytes(view)))

    def _returned(self, kind: Kind, serial: int, body: bytes) -> None:
        flight = self._flight
        if flight is None or flight.serial != serial:
            return
        flight.outcome = _outcome(kind, body)
        if flight.alive:
            self._go_on(flight)

    def _go_on(self, flight: Flight) -> None:
        """The caller waits: give it what there is, or do its call once more."""
        outcome = flight.outcome
        if outcome is None:
            return
        if outcome.broken:
            forward = flight.again()
            self._flight = None
            self._forward(flight.notification, forward, flight.cpu)
            return
        if outcome.result == COME_HOME:
            self._flight = None
            self._need_home(outcome.data.decode())
            return
        result = self._land(flight, outcome)
        mirror = flight.forward.mirror and result >= 0
        done = (
            self._let_continue(flight.notification) if mirror else self._answer(flight.notification, result)
        )
        if done:
            self._flight = None
        else:
            flight.alive = False

    def _land(self, flight: Flight, outcome: Outcome) -> int:
        """Write what the call wrote; returns its result."""
        remote = self._remote
        assert remote is not None
        data = outcome.data
        if flight.cpu is not None and outcome.result >= 0:
            data = _add_cpu(flight.cpu.layout, data, remote)
        result = outcome.result
        if flight.cpu is not None and flight.cpu.layout == "tms" and result >= 0 and not data:
            return result
        try:
            for address, piece in land(flight.forward, result, data):
                remote.memory.write(address, piece)
        except OSError:
            return -errno.EFAULT
        return result

    # -- stops -------------------------------------------------------------------------------------

    def _reap(self) -> None:
        remote = self._remote
        while remote is not None and self.machine.state not in GuestSide.final:
            try:
                stop = ptrace.poll(remote.pid)
            except ChildProcessError:
                return
            if stop is None:
                return
            self._stop(stop)

    def _stop(self, stop: Stop) -> None:
        remote = self._remote
        assert remote is not None
        if stop.over:
            self._exit = ("exited", stop.status) if stop.kind is StopKind.EXITED else ("killed", stop.signal)
            self._listening = False
            self._events.append(Event.EXITED)
            return
        self._stopped = True
        if self._flight is not None:
            self._flight.alive = False
        if stop.kind is StopKind.SIGNAL:
            self._deliver(remote, stop.signal)
        else:
            self._continue()

    def _deliver(self, remote: Remote, number: int) -> None:
        """The guest is about to take a signal."""
        effect = remote.disposition(number)
        if effect == "core":  # at home it leaves the core its parent expects
            self._fatal.append(ptrace.get_siginfo(remote.pid))
            self._need_home(_("it dies by signal {n}").format(n=number))
            return
        if effect == "caught":
            self._settle_call()
        elif effect != "kills":
            remote.undo_interruption()
        self._stopped = False
        ptrace.cont(remote.pid, 0 if effect == "stops" else number)

    def _settle_call(self) -> None:
        """The guest is stopped, or on its way into a handler: end the call in flight, one way or other."""
        flight, remote = self._flight, self._remote
        if flight is None or remote is None:
            return
        self._decide(flight)
        self._flight = None
        outcome = flight.outcome
        if not self._stopped or outcome is None:
            return
        if outcome.broken or outcome.result == COME_HOME or (flight.forward.mirror and outcome.result >= 0):
            remote.interrupted_call(flight.restart_code)
            if outcome.broken:
                self._land(flight, outcome)
        else:
            remote.end_call(self._land(flight, outcome))

    def _decide(self, flight: Flight) -> None:
        """Have the deputy break the call off, unless it has its outcome."""
        if flight.outcome is None:
            self._send(Kind.CANCEL, b"", flight.serial)
            answer = self._await(
                lambda kind, serial: kind in (Kind.RESULT, Kind.CANCELLED) and serial == flight.serial
            )
            if answer is not None:
                flight.outcome = _outcome(*answer)

    def _hold(self) -> bool:
        """Stop the guest; False if it is gone. A signal on its way is dealt with first."""
        remote = self._remote
        assert remote is not None
        while not self._stopped:
            stop = remote.interrupt()
            if stop.over:
                self._stop(stop)
                return False
            self._stopped = True
            if self._flight is not None:
                self._flight.alive = False
            if stop.kind is StopKind.SIGNAL:
                self._deliver(remote, stop.signal)
        return True

    def _continue(self) -> None:
        remote = self._remote
        if remote is not None and self._stopped and not self._held and not self._fatal:
            self._stopped = False
            ptrace.cont(remote.pid)

    def _signal(self, siginfo: bytes) -> None:
        """A signal reached the deputy: it is for the guest."""
        if self.machine.state is not Guest.RUNNING or not self._hold():
            self._late.append(siginfo)
            return
        self._taken += 1
        assert self._remote is not None
        self._remote.queue_signal(siginfo)
        self._let_in()
        self._continue()

    def _let_in(self) -> None:
        """A stopped guest waits in a call that has another mask in place: a signal may get through that."""
        flight, remote, memory = self._flight, self._remote, self._memory
        if flight is None or remote is None or memory is None or not self._stopped:
            return
        mask = mask_meanwhile(flight.notification.nr, flight.notification.args, memory)
        if mask is None or not remote.waiting_signals(mask[1]):
            return
        self._settle_call()
        if flight.outcome is not None and flight.outcome.broken:
            self._stop(remote.let_in(mask[0]))

    # -- actions -----------------------------------------------------------------------------------

    def _build(self) -> None:
        remote, link, image = self._remote, self._link, self._image
        assert remote is not None
        assert link is not None
        assert image is not None
        try:
            self.state.statistics.bytes_moved = remote.build(image, link)
        except LinkBroken as error:
            self._lost(error)
        except (OmError, OSError) as error:
            self._error = error
            self._events.append(Event.CANNOT)
        else:
            self._arena = Arena(*image.arena)
            self._image = None  # some hundred kilobytes
            self._events.append(Event.BUILT)

    def _send_refused(self) -> None:
        self._refuse(self._error)

    def _refuse(self, error: Exception) -> None:
        if not isinstance(error, OmError):
            error = RestoreFailed(node=self.order.node, why=str(error))
        wire = {**error.to_wire(), **({"node": self.order.node} if "node" in error.fields else {})}
        self._log.warning(f"refused: {error}")
        if self._link is not None:
            try:
                self._link.send(Kind.REFUSED, msgspec.msgpack.encode(wire))
            except LinkBroken:
                return

    def _run(self) -> None:
        remote = self._remote
        assert remote is not None
        self._listening = True
        for siginfo in (*self._fatal, *self._late):
            remote.queue_signal(siginfo)
        self._taken += len(self._late)
        self._fatal.clear()
        self._late.clear()
        self._reason = ""
        self.state.statistics.moves = 1
        remote.begin()
        self._stopped = True
        self._continue()

    def _leave(self) -> None:
        """Freeze it and send it off; what it waits for at home is broken off first."""
        remote, link = self._remote, self._link
        assert remote is not None
        assert link is not None
        before = look_before(remote.pid)
        frozen = time.monotonic_ns()
        if not self._hold():
            return
        flight = self._flight
        resume = None
        if flight is not None:
            self._settle_call()
            resume = flight.resume
        try:
            arena = (self._arena.base, self._arena.size)
            image = remote.take_image(before, resume, self._fatal, arena)
            head = LEAVING.pack(time.monotonic_ns() - frozen, self._taken & 0xFFFFFFFF)
            link.send(Kind.LEAVING, head + self._reason.encode())
            link.send(Kind.IMAGE, msgspec.msgpack.encode(image))
            for ranges in CopySource(remote.pid, image.regions).rounds():
                self.state.statistics.bytes_moved = send_pages(link, remote.pid, ranges)
        except LinkBroken as error:
            self._lost(error)
        except ProcessEnded:
            self._events.append(Event.EXITED)
        except OmError as error:
            self._error = error
            self._events.append(Event.CANNOT)
        except OSError as error:  # it has died while its pages were sent: home hears of nothing else
            self._lost(LinkBroken(str(error)))

    def _destroy(self) -> None:
        if self._remote is not None:
            self._remote.destroy()
            self._remote = None
        if self._link is not None:
            self._link.close()


_WORDS = {Kind.GO: Event.GO, Kind.RECALL: Event.RECALL, Kind.DONE: Event.DONE, Kind.STAY: Event.STAY}

# struct tms, struct rusage (first two members), struct timespec; <sys/times.h>, <sys/resource.h>
_TICK = os.sysconf("SC_CLK_TCK")


def _add_cpu(layout: str, data: bytes, remote: Remote) -> bytes:
    """Home's CPU figures with what was used away added."""
    if layout == "timespec":
        seconds, nanoseconds = struct.unpack("<qq", data)
        total = seconds * 1_000_000_000 + nanoseconds + int(remote.cpu_clock() * 1e9)
        return struct.pack("<qq", *divmod(total, 1_000_000_000))
    user, system = remote.cpu_here()
    if layout == "tms":
        if len(data) < 16:
            return data
        ticks = struct.unpack_from("<qq", data)
        return struct.pack("<qq", ticks[0] + int(user * _TICK), ticks[1] + int(system * _TICK)) + data[16:]
    values = struct.unpack_from("<4q", data)
    times = []
    for (seconds, micros), more in zip((values[:2], values[2:]), (user, system), strict=True):
        times += divmod(seconds * 1_000_000 + micros + int(more * 1e6), 1_000_000)
    return struct.pack("<4q", *times) + data[32:]


def _outcome(kind: Kind, body: bytes) -> Outcome:
    if kind is Kind.CANCELLED:
        code, nanoseconds = CANCELLED.unpack_from(body)
        return Outcome(code, body[CANCELLED.size :], broken=True, nanoseconds=nanoseconds)
    return Outcome(RESULT.unpack_from(body)[0], body[RESULT.size :])
