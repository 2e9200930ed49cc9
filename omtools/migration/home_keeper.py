"""The keeper of a deputy: one small process per migrated process, at its home node.

It drives `protocol.HomeSide`: everything that happens (frames, stops of the deputy, commands of the agent)
becomes an event, every action of the machine is a method here.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import struct
import time
from collections import deque
from collections.abc import Callable

import msgspec

from omtools.errors import LinkLost, NodeRefuses, OmError, ProcessEnded, RestoreFailed
from omtools.i18n import _
from omtools.image.cage import Clocks
from omtools.image.model import Image
from omtools.image.pages import CopySource
from omtools.linux import proc, ptrace
from omtools.linux.events import ChildEvents
from omtools.linux.ptrace import Stop, StopKind
from omtools.migration import residence
from omtools.migration.control import Control
from omtools.migration.deputy import Broken, Deputy, Finished, Stance
from omtools.migration.frames import CANCELLED, COME_HOME, LEAVING, NUMBER, RESULT, Kind, Request
from omtools.migration.hello import Hello, greet
from omtools.migration.link import Link, LinkBroken, connect
from omtools.migration.log import Log
from omtools.migration.orders import Ask, Bring, Command, DeputyOrder, Hop, Phase, State, Statistics
from omtools.migration.protocol import Action, Event, Home, HomeSide, Unexpected
from omtools.migration.transfer import send_pages

_LINGER_MS = 2  # how long the deputy stays in its trap after a call
_PATIENCE = 60.0  # seconds without a word from a guest that builds or starts
_SIGNALS_KEPT = 4096  # that a guest may not have got when it is frozen
_STOPS = frozenset({signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})

_PHASES: dict[Home, Phase] = {
    Home.LINKING: "linking",
    Home.FREEZING: "freezing",
    Home.SENDING: "sending",
    Home.WAITING: "sending",
    Home.STARTING: "sending",
    Home.AWAY: "away",
    Home.RECALLING: "coming",
    Home.RETURNING: "coming",
    Home.HOPPING: "coming",
    Home.RELAYING: "coming",
    Home.SWITCHING: "coming",
    Home.HOME: "home",
    Home.ENDED: "ended",
    Home.FAILED: "failed",
}


class HomeKeeper:
    """Moves one process away, serves it there, takes it back."""

    def __init__(self, order: DeputyOrder, children: ChildEvents, control: Control, log: Log) -> None:
        self.order = order
        self.machine = HomeSide()
        self._children = children
        self._control = control
        self._log = log
        self._events: deque[Event] = deque()
        self._begun = time.monotonic()
        self._frozen_at = 0.0
        self._link: Link | None = None
        self._next: Link | None = None
        self._next_node = 0
        self._resident: residence.Resident | None = None
        self._deputy: Deputy | None = None
        self._image: Image | None = None
        self._serial = 0
        self._known_pending: list[bytes] = []
        self._signals: deque[bytes] = deque(maxlen=_SIGNALS_KEPT)
        self._signals_sent = 0
        self._untaken = 0  # of these; right from LEAVING on
        self._signalled = False
        self._exit: tuple[str, int] = ("", 0)
        self.state = State(
            role="deputy", migration=order.migration, pid=order.pid, local_pid=order.pid, uid=order.uid,
            home=order.home, node=order.home, phase="linking", statistics=Statistics(), keeper=os.getpid(),
        )  # fmt: skip
        self._do: dict[Action, Callable[[], None]] = {
            Action.FREEZE: self._freeze,
            Action.SEND_IMAGE: self._send_image,
            Action.SEND_GO: lambda: self._send(Kind.GO),
            Action.RELEASE: self._release,
            Action.BECOME_DEPUTY: self._become_deputy,
            Action.SEND_RECALL: lambda: self._send(Kind.RECALL),
            Action.REBUILD: self._rebuild,
            Action.RESUME: self._resume,
            Action.EMPTY_AGAIN: self._empty_again,
            Action.SEND_DONE: lambda: self._send(Kind.DONE),
            Action.SEND_STAY: lambda: self._send(Kind.STAY),
            Action.RELAY: self._relay,
            Action.SEND_GO_NEXT: self._go_next,
            Action.SWITCH: self._switch,
            Action.DROP_NEXT: self._drop_next,
            Action.END_DEPUTY: self._end_deputy,
            Action.KILL_DEPUTY: self._kill_deputy,
            Action.CLOSE: self._close,
        }

    # -- the loop ----------------------------------------------------------------------------------

    def run(self) -> None:
        """From the order to a final state."""
        self._connect()
        while self.machine.state not in HomeSide.final:
            try:
                self._step(self._events.popleft() if self._events else self._wait())
            except ProcessLookupError:
                self._stopped(ptrace.wait_for_end(self.order.pid))  # killed in the midst of it
        self._report()

    def _step(self, event: Event | None) -> None:
        if event is None:
            return
        before = self.machine.state
        try:
            actions = self.machine.handle(event)
        except Unexpected as error:
            self._log.warning(str(error))
            self._fail(LinkLost(node=self.order.target, why=str(error)))
            actions = self.machine.handle(Event.LOST)
        self._log.debug(f"{before.name} {event.name} -> {self.machine.state.name}")
        for action in actions:
            try:
                self._do[action]()
            except (ProcessEnded, ProcessLookupError) as error:  # it has died under our hands
                self._log.warning(f"{action.name}: {error}")
                self._events.append(Event.DIED)
        if self.machine.state is not before and self.machine.state not in HomeSide.final:
            self._report()

    def _report(self) -> None:
        self.state.phase = _PHASES[self.machine.state]
        self._control.tell(self.state)

    def _fail(self, error: OmError) -> None:
        if self.state.error is None:
            self.state.error = error.to_wire()

    def _lost(self, error: LinkBroken) -> None:
        self._fail(LinkLost(node=self.order.target, why=str(error)))
        self._events.append(Event.LOST)

    def _send(self, kind: Kind, body: bytes = b"", serial: int = 0) -> None:
        if self._link is None:
            return
        try:
            self._link.send(kind, body, serial)
        except LinkBroken as error:
            if self.machine.state not in HomeSide.final:
                self._lost(error)

    # -- waiting -----------------------------------------------------------------------------------

    def _wait(self) -> Event | None:
        """One turn: whatever comes first is dealt with; what concerns the protocol is returned."""
        for link in (self._link, self._next):
            if link is not None and link.waiting:
                return self._frame(link)
        poller = select.poll()
        for descriptor in (self._children.fileno(), *self._control.descriptors()):
            poller.register(descriptor, select.POLLIN)
        links = {link.fileno(): link for link in (self._link, self._next) if link is not None}
        for descriptor in links:
            poller.register(descriptor, select.POLLIN)
        ready = poller.poll(self._timeout_ms())
        if not ready:
            return self._timed_out()
        for descriptor, _mask in ready:
            if descriptor == self._children.fileno():
                self._children.clear()
                self._reap()
            elif descriptor in links:
                if (event := self._frame(links[descriptor])) is not None:
                    return event
            else:
                for command in self._control.handle(descriptor):
                    self._command(command)
        return None

    def _lingering(self) -> Deputy | None:
        """The deputy, if it waits in its trap for the next call."""
        deputy = self._deputy
        if deputy is None or deputy.stance is not Stance.TRAPPED or self.machine.state not in _SERVING:
            return None
        return deputy

    def _timeout_ms(self) -> int | None:
        if self._lingering() is not None:
            return _LINGER_MS
        if self.machine.state in (Home.WAITING, Home.STARTING, Home.RELAYING, Home.SWITCHING):
            return int(_PATIENCE * 1000)
        return None

    def _timed_out(self) -> Event | None:
        if (deputy := self._lingering()) is not None:
            deputy.park()
            return None
        why = _("no word from it for {s} seconds").format(s=int(_PATIENCE))
        self._fail(LinkLost(node=self.order.target, why=why))
        return Event.LOST if self._next is None else Event.NEXT_REFUSED

    def _command(self, command: Command) -> None:
        if isinstance(command, Ask):
            self._report()
        elif isinstance(command, Bring) and self.machine.state in _AWAY:
            self.state.reason = command.reason
            self._begun = time.monotonic()
            self._events.append(Event.BRING)
        elif isinstance(command, Hop) and self.machine.state is Home.AWAY and self._next is None:
            self._hop(command)

    # -- frames ------------------------------------------------------------------------------------

    def _frame(self, link: Link) -> Event | None:
        try:
            return self._deal(link)
        except (LinkBroken, msgspec.MsgspecError, struct.error, UnicodeDecodeError) as error:
            if link is self._next:
                self._fail(LinkLost(node=self._next_node, why=str(error)))
                return Event.NEXT_REFUSED
            self._fail(LinkLost(node=self.order.target, why=str(error)))
            return Event.LOST

    def _deal(self, link: Link) -> Event | None:
        kind, serial, body = link.receive()
        if kind is Kind.CALL:
            self._call(serial, body)
            return None
        if kind is Kind.CANCEL:
            self._cancel(serial)
            return None
        return self._word(link, kind, bytes(body))

    def _word(  # noqa: PLR0911 - one return for each kind
        self, link: Link, kind: Kind, body: bytes
    ) -> Event | None:
        """A frame that is an event of the protocol."""
        beyond = link is self._next
        if kind is Kind.READY:
            return Event.NEXT_READY if beyond else Event.READY
        if kind is Kind.STARTED:
            return Event.NEXT_STARTED if beyond else Event.STARTED
        if kind is Kind.REFUSED:
            self.state.error = msgspec.msgpack.decode(body)
            return Event.NEXT_REFUSED if beyond else Event.REFUSED
        if kind is Kind.LEAVING:
            elapsed, taken = LEAVING.unpack_from(body)
            self._untaken = self._signals_sent - taken & 0xFFFFFFFF
            self._frozen_at = time.monotonic() - elapsed / 1e9
            if self.machine.state is Home.AWAY:  # nobody asked for it
                self._begun = self._frozen_at
            self.state.reason = body[LEAVING.size :].decode() or self.state.reason
            return Event.LEAVING
        if kind is Kind.EXITED:
            how, status = msgspec.msgpack.decode(body, type=tuple[str, int])
            self._exit = (how, status)
            return Event.EXITED
        if kind is Kind.EXPELLED:
            if beyond or self.machine.state not in _AWAY:  # not there yet
                self._fail(NodeRefuses(node=self._next_node or self.order.target, why=body.decode()))
                return Event.NEXT_REFUSED if beyond else Event.REFUSED
            self.state.reason = body.decode()
            return Event.BRING
        if kind is Kind.GROW and self._deputy is not None:
            room = self._deputy.arena.grow(NUMBER.unpack(body)[0])
            self._send(Kind.GROWN, NUMBER.pack(room))
            return None
        raise LinkBroken(f"{kind.name} out of place")

    # -- serving calls -----------------------------------------------------------------------------

    def _call(self, serial: int, body: memoryview) -> None:
        deputy = self._deputy
        if deputy is None:
            raise LinkBroken("a call before the commit")
        request = Request(body)
        self._serial = serial
        self._signalled = False
        self.state.statistics.calls_forwarded += 1
        deputy.begin(request)
        if deputy.stray:
            self._pass_on_strays(deputy)
        if not request.may_block:
            while deputy.stance is Stance.BUSY:
                self._stopped(ptrace.wait(deputy.pid))

    def _cancel(self, serial: int) -> None:
        deputy = self._deputy
        if deputy is None or deputy.stance not in (Stance.BUSY, Stance.HALTED) or serial != self._serial:
            return  # its result is on the way already
        halted = deputy.stance is Stance.HALTED
        try:
            done = deputy.break_off()
        except ProcessEnded:
            self._events.append(Event.DIED)
            return
        self._answer(deputy, done)
        self._pass_on_strays(deputy)
        if deputy.stance is Stance.HALTED and not halted:
            self._send(Kind.STOP)

    def _answer(self, deputy: Deputy, done: Finished | Broken) -> None:
        if isinstance(done, Finished) and done.result == -errno.EINTR and self._signalled:
            done = deputy.broken(done)
        if isinstance(done, Broken):
            self._send(Kind.CANCELLED, CANCELLED.pack(done.code, done.nanoseconds) + done.data, self._serial)
            return
        self._send(Kind.RESULT, RESULT.pack(done.result) + done.data, self._serial)

    def _finished(self, deputy: Deputy, request: Request, done: Finished) -> None:
        if request.opens and done.result >= 0 and (what := deputy.opened_telltale(done.result)):
            deputy.close_descriptor(done.result)
            reason = _("it reads {path}").format(path=what)
            self._send(Kind.RESULT, RESULT.pack(COME_HOME) + reason.encode(), self._serial)
            return
        self._answer(deputy, done)

    def _reap(self) -> None:
        """Look what the process or its deputy did."""
        pid = self.order.pid
        while self.machine.state not in HomeSide.final:
            try:
                stop = ptrace.poll(pid)
            except ChildProcessError:
                return
            if stop is None:
                return
            self._stopped(stop)

    def _stopped(self, stop: Stop) -> None:
        deputy = self._deputy
        if stop.over:
            if deputy is not None:
                deputy.stance = Stance.GONE
            self._ended(stop)
            return
        if deputy is None:
            return  # it is whole and held; nothing to do before the commit
        request = deputy.request
        if request is not None and (done := deputy.finished(stop)) is not None:
            self._finished(deputy, request, done)
        elif stop.kind is StopKind.SIGNAL:
            self._signal(deputy, stop)
        elif stop.kind is StopKind.GROUP:
            deputy.halted()
            self._send(Kind.STOP)
        elif deputy.stance is Stance.HALTED:
            deputy.go_on()
            self._send(Kind.CONTINUE)
        elif deputy.stance is not Stance.TRAPPED:
            ptrace.cont(deputy.pid)

    def _signal(self, deputy: Deputy, stop: Stop) -> None:
        number = stop.signal
        if deputy.meet(stop):
            ptrace.cont(deputy.pid)
            return
        siginfo = deputy.stray.pop()
        if siginfo in self._known_pending:
            self._known_pending.remove(siginfo)  # it went with the image
        elif number == signal.SIGSTOP or (number in _STOPS and _is_default(deputy.pid, number)):
            ptrace.cont(deputy.pid, number)
            return
        else:
            self._signalled = True
            self._pass_on(siginfo)
        ptrace.cont(deputy.pid)

    def _pass_on(self, siginfo: bytes) -> None:
        """A signal for the guest; should it be frozen already, the signal goes with it."""
        self._signals.append(siginfo)
        self._signals_sent += 1
        self._untaken += 1
        self._send(Kind.SIGNAL, siginfo)

    def _late_signals(self) -> list[bytes]:
        """What the guest has not got, since it said that it is frozen."""
        return list(self._signals)[-self._untaken :] if self._untaken else []

    def _pass_on_strays(self, deputy: Deputy) -> None:
        for siginfo in deputy.stray:
            number = int.from_bytes(siginfo[:4], "little")
            if siginfo in self._known_pending:
                self._known_pending.remove(siginfo)
            elif number == signal.SIGSTOP or (number in _STOPS and _is_default(deputy.pid, number)):
                os.kill(deputy.pid, number)  # it stops when it runs on
            else:
                self._pass_on(siginfo)
        deputy.stray.clear()

    def _ended(self, stop: Stop) -> None:
        how = "exited" if stop.kind is StopKind.EXITED else "killed"
        self.state.exit = f"{how} {stop.status if how == 'exited' else stop.signal}"
        self._fail(ProcessEnded(pid=self.order.pid))
        self._events.append(Event.DIED)

    # -- actions: leaving --------------------------------------------------------------------------

    def _connect(self) -> None:
        """Seize the process (it runs on) and reach the guest's keeper."""
        self._report()
        try:
            self._link = connect(self.order.endpoint, self.order.credentials)
            self._resident = residence.Resident(self.order.pid)
            self._greet(self._link)
        except OmError as error:
            self._fail(error)
            self._release()
            self._events.append(Event.CANNOT)
        except LinkBroken as error:
            self._fail(LinkLost(node=self.order.target, why=str(error)))
            self._release()
            self._events.append(Event.LOST)
        else:
            self._events.append(Event.LINKED)

    def _greet(self, link: Link) -> None:
        link.set_timeout(_PATIENCE)
        clocks = Clocks.now()
        greet(link, Hello(pid=self.order.pid, monotonic_ns=clocks.monotonic, boottime_ns=clocks.boottime))
        link.set_timeout(None)

    def _freeze(self) -> None:
        resident = self._resident
        assert resident is not None
        self._frozen_at = time.monotonic()
        try:
            self._image = resident.freeze()
        except ProcessEnded as error:
            self._fail(error)
            self._events.append(Event.DIED)
        except OmError as error:
            self._fail(error)
            self._events.append(Event.CANNOT)
        else:
            self._events.append(Event.FROZEN)

    def _send_image(self) -> None:
        link, image = self._link, self._image
        assert link is not None
        assert image is not None
        try:
            link.send(Kind.IMAGE, msgspec.msgpack.encode(image))
            for ranges in CopySource(self.order.pid, image.regions).rounds():
                self.state.statistics.bytes_moved = send_pages(link, self.order.pid, ranges)
        except LinkBroken as error:
            self._lost(error)
        except OmError as error:
            self._fail(error)
            self._events.append(Event.CANNOT)
        except OSError as error:
            self._reap()
            if Event.DIED not in self._events:
                self._fail(RestoreFailed(node=self.order.home, why=str(error)))
                self._events.append(Event.CANNOT)
        else:
            self._events.append(Event.SENT)

    def _release(self) -> None:
        if self._resident is not None:
            try:
                self._resident.release()
            except (OmError, OSError) as error:
                self._log.warning(f"letting it go: {error}")

    def _become_deputy(self) -> None:
        resident, image = self._resident, self._image
        assert resident is not None
        assert image is not None
        self._arrived(self.order.target)
        self._known_pending = list(image.pending)
        try:
            self._deputy = resident.leave(image)
            self._deputy.park()
        except ProcessEnded:
            self._events.append(Event.DIED)
        self._resident = None

    def _arrived(self, node: int) -> None:
        figures = self.state.statistics
        figures.frozen_ms = (time.monotonic() - self._frozen_at) * 1000
        figures.total_ms = (time.monotonic() - self._begun) * 1000
        figures.moves += 1
        self.state.node = node
        self.state.error = None

    # -- actions: coming home ----------------------------------------------------------------------

    def _receive_image(self, link: Link) -> Image:
        kind, _serial, body = link.receive()
        if kind is not Kind.IMAGE:
            raise LinkBroken(f"{kind.name} in place of an image")
        return msgspec.msgpack.decode(body, type=Image)

    def _rebuild(self) -> None:
        link, deputy = self._link, self._deputy
        assert link is not None
        assert deputy is not None
        try:
            image = self._receive_image(link)
            deputy.halt_parked()
            deputy.drain()
            self._pass_on_strays(deputy)
            pending = [*image.pending, *self._late_signals()]
            self._image = msgspec.structs.replace(image, pending=pending)
            self.state.statistics.bytes_moved = residence.refill(deputy, self._image, link)
        except LinkBroken as error:
            self._lost(error)
        except ProcessEnded:
            self._events.append(Event.DIED)
        except (OmError, OSError) as error:
            why = error if isinstance(error, OmError) else RestoreFailed(node=self.order.home, why=str(error))
            self._fail(why)
            self._events.append(Event.CANNOT)
        else:
            self._events.append(Event.REBUILT)

    def _resume(self) -> None:
        deputy, image = self._deputy, self._image
        assert deputy is not None
        assert image is not None
        residence.settle(deputy, image)
        self._arrived(self.order.home)
        self._deputy = None

    def _empty_again(self) -> None:
        assert self._deputy is not None
        assert self._image is not None
        residence.empty_again(self._deputy, self._image)
        self._deputy.park()

    # -- actions: to a third node ------------------------------------------------------------------

    def _hop(self, command: Hop) -> None:
        self._begun = time.monotonic()
        self._next_node = command.target
        try:
            self._next = connect(command.endpoint, command.credentials)
            self._greet(self._next)
        except (LinkBroken, OmError) as error:  # it runs on where it is
            self._drop_next()
            self._fail(error if isinstance(error, OmError) else LinkLost(node=command.target, why=str(error)))
            self._report()
            return
        self._events.append(Event.HOP)

    def _relay(self) -> None:
        """Image and pages from the second node to the third; the second is heard out in any case."""
        link, onward = self._link, self._next
        assert link is not None
        alive = onward
        amount = 0
        try:
            while True:
                kind, _serial, body = link.receive()
                if alive is not None:
                    try:
                        alive.send_large(kind, b"", body)
                    except LinkBroken as error:
                        self._fail(LinkLost(node=self._next_node, why=str(error)))
                        self._events.append(Event.NEXT_REFUSED)
                        alive = None
                amount += len(body)
                if kind is Kind.END:
                    break
        except LinkBroken as error:
            self._lost(error)
        self.state.statistics.bytes_moved = amount

    def _go_next(self) -> None:
        assert self._next is not None
        try:
            self._next.send(Kind.GO)
        except LinkBroken as error:
            self._fail(LinkLost(node=self._next_node, why=str(error)))
            self._events.append(Event.NEXT_REFUSED)

    def _switch(self) -> None:
        assert self._link is not None
        self._link.close()
        self._link, self._next = self._next, None
        self._arrived(self._next_node)
        late = self._late_signals()
        self._signals_sent = self._untaken = 0
        for siginfo in late:
            self._pass_on(siginfo)

    def _drop_next(self) -> None:
        if self._next is not None:
            self._next.close()
            self._next = None

    # -- actions: the end --------------------------------------------------------------------------

    def _end_deputy(self) -> None:
        deputy = self._deputy
        assert deputy is not None
        how, status = self._exit
        self.state.exit = f"{how} {status}"
        try:
            if how == "exited":
                deputy.end(status)
            else:
                deputy.die_by(status)
        except ProcessEnded:
            return

    def _kill_deputy(self) -> None:
        assert self._deputy is not None
        self._exit = ("killed", signal.SIGKILL)
        self._end_deputy()

    def _close(self) -> None:
        for link in (self._link, self._next):
            if link is not None:
                link.close()
        self._link = self._next = None


_SERVING = frozenset({Home.AWAY, Home.RECALLING, Home.HOPPING})
_AWAY = _SERVING | {Home.RETURNING, Home.RELAYING, Home.SWITCHING}


def _is_default(pid: int, number: int) -> bool:
    """The process has neither a handler for the signal nor ignores it."""
    status = proc.status(pid)
    bit = 1 << (number - 1)
    return not (int(status["SigCgt"], 16) | int(status["SigIgn"], 16)) & bit
