"""The keeper of a deputy: one small process per migrated process, at its home node.

It drives `protocol.HomeSide`: everything that happens (frames, stops of the deputy, commands of the agent)
becomes an event, every action of the machine is a method here.
"""

from __future__ import annotations

import select
import signal
import struct
import time
from collections.abc import Callable

import msgspec

from omtools.errors import LinkLost, NodeRefuses, OmError, ProcessEnded, RestoreFailed
from omtools.i18n import _
from omtools.image.model import Image
from omtools.image.pages import CopySource
from omtools.image.twins import Known, known
from omtools.linux import ptrace
from omtools.linux.events import ChildEvents
from omtools.linux.ptrace import Stop, StopKind
from omtools.migration import own_tree, residence
from omtools.migration.control import Control
from omtools.migration.counts import FileIo
from omtools.migration.deputy import Deputy, Stance
from omtools.migration.deputy_counts import DeputyCounts
from omtools.migration.frames import LEAVING, NUMBER, Kind
from omtools.migration.hello import Hello, greet
from omtools.migration.keeper import Keeper
from omtools.migration.link import Link, LinkBroken, connect
from omtools.migration.log import Log
from omtools.migration.orders import Allow, Ask, Bring, Command, DeputyOrder, Hop
from omtools.migration.protocol import Action, Event, Home, HomeSide, Unexpected
from omtools.migration.service import Service
from omtools.migration.transfer import receive_image, relay, send_pages

_LINGER_MS = 2  # how long the deputy stays in its trap after a call
_PATIENCE = 60.0  # seconds without a word from a guest that builds or starts


class HomeKeeper(Keeper):
    """Moves one process away, serves it there, takes it back."""

    def __init__(self, order: DeputyOrder, children: ChildEvents, control: Control, log: Log) -> None:
        super().__init__(order, children, control, log)
        self.order = order
        self.machine: HomeSide = HomeSide()
        self._begun = time.monotonic()
        self._frozen_at = 0.0
        self._link: Link | None = None
        self._next: Link | None = None
        self._next_node = 0
        self._resident: residence.Resident | None = None
        self._service: Service | None = None
        self._image: Image | None = None
        self._exit: tuple[str, int] = ("", 0)
        self._dfsa = order.dfsa
        self._counts = DeputyCounts(order.pid, order.home, order.files)
        self._arguments: list[str] = []  # of the process: the deputy has none
        self._twins: Known = {}  # of home's files and the target's, in a hop the next one's
        self._do: dict[Action, Callable[[], None]] = {
            Action.FREEZE: self._freeze,
            Action.SEND_IMAGE: self._send_image,
            Action.SEND_GO: lambda: self._send(Kind.GO),
            Action.RELEASE: self._release,
            Action.BECOME_DEPUTY: self._become_deputy,
            Action.SEND_RECALL: self._recall,
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

    def _report(self) -> None:
        self.state.files = self._counts.told()
        self.state.statistics.dfsa_bytes = self._counts.there
        super()._report()

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
        self._note(before, event)
        for action in actions:
            try:
                self._do[action]()
            except (ProcessEnded, ProcessLookupError) as error:  # it has died under our hands
                self._log.warning(f"{action.name}: {error}")
                self._events.append(Event.DIED)
        if self.machine.state is not before and self.machine.state not in HomeSide.final:
            self._report()

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
        if not (ready := poller.poll(self._timeout_ms())):
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
        service = self._service
        if service is None or self.machine.state not in _SERVING:
            return None
        return service.deputy if service.deputy.stance is Stance.TRAPPED else None

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
        elif isinstance(command, Allow):
            self._allow(command.access.dfsa)
        elif isinstance(command, Hop) and self.machine.state is Home.AWAY and self._next is None:
            self._hop(command)

    def _allow(self, dfsa: bool) -> None:
        self._dfsa = dfsa
        if (service := self._service) is not None:
            service.dfsa = dfsa
            self._send(Kind.DIRECT, b"x" * dfsa)

    # -- frames ------------------------------------------------------------------------------------

    def _frame(self, link: Link) -> Event | None:
        try:
            return self._deal(link)
        except (LinkBroken, msgspec.MsgspecError, struct.error, UnicodeDecodeError) as error:
            beyond = link is self._next
            self._fail(LinkLost(node=self._next_node if beyond else self.order.target, why=str(error)))
            return Event.NEXT_REFUSED if beyond else Event.LOST

    def _deal(self, link: Link) -> Event | None:
        kind, serial, body = link.receive()
        service = self._service
        if kind is Kind.COUNTS:
            self._counts.heard(msgspec.msgpack.decode(body, type=list[FileIo]))
            return None
        if kind not in _FOR_SERVICE:
            return self._word(link, kind, bytes(body))
        if service is None:
            raise LinkBroken(f"{kind.name} before the commit")
        if kind is Kind.CALL:
            service.call(serial, body)
            self.state.statistics.calls_forwarded = service.calls
        elif kind is Kind.GROW:
            service.grow(NUMBER.unpack(body)[0])
        else:
            try:
                service.cancel(serial)
            except ProcessEnded:
                return Event.DIED
        return None

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
            if self._service is not None:
                self._service.taken(taken)
            self._frozen_at = time.monotonic() - elapsed / 1e9
            if self.machine.state is Home.AWAY:  # nobody asked for it
                self._begun = self._frozen_at
            self.state.reason = body[LEAVING.size :].decode() or self.state.reason
            return Event.LEAVING
        if kind is Kind.EXITED:
            self._exit = msgspec.msgpack.decode(body, type=tuple[str, int])
            return Event.EXITED
        if kind is Kind.EXPELLED:
            if beyond or self.machine.state not in _AWAY:  # not there yet
                self._fail(NodeRefuses(node=self._next_node or self.order.target, why=body.decode()))
                return Event.NEXT_REFUSED if beyond else Event.REFUSED
            self.state.reason = body.decode()
            return Event.BRING
        raise LinkBroken(f"{kind.name} out of place")

    # -- the deputy --------------------------------------------------------------------------------

    def _reap(self) -> None:
        """Look what the process or its deputy did."""
        while self.machine.state not in HomeSide.final:
            try:
                stop = ptrace.poll(self.order.pid)
            except ChildProcessError:
                return
            if stop is None:
                return
            self._stopped(stop)

    def _stopped(self, stop: Stop) -> None:
        """Before the commit the process is whole and held, and only its end is of interest."""
        if self._service is not None:
            self._service.stopped(stop)
        elif stop.over:
            self._ended(stop)

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
            self._link = connect(self.order.endpoint, self.order.credentials, self.order.silence)
            self._resident = residence.Resident(self.order.pid, self._dfsa)
            self._arguments = own_tree.arguments(self.order.pid)
            self._twins = known(self.order.twins, self._greet(self._link))
        except (OmError, LinkBroken) as error:
            said = error if isinstance(error, OmError) else None
            self._fail(said or LinkLost(node=self.order.target, why=str(error)))
            self._release()
            self._events.append(Event.CANNOT if said else Event.LOST)
        else:
            self._events.append(Event.LINKED)

    def _greet(self, link: Link) -> frozenset[str]:
        places = own_tree.places(self.order.pid, self._arguments) if self._dfsa else []
        return greet(link, Hello(pid=self.order.pid, places=places), _PATIENCE)

    def _freeze(self) -> None:
        resident = self._resident
        assert resident is not None
        self._frozen_at = time.monotonic()
        try:
            self._image = resident.freeze(self._twins)
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
                self.state.statistics.bytes_moved = send_pages(link, self.order.pid, ranges, self._pages)
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
        try:
            deputy = resident.leave(image)
            self._service = Service(deputy, list(image.pending), self._send, self._ended, self._dfsa)
            self._service.counts = self._counts
            deputy.park()
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

    def _rebuild(self) -> None:
        link, service = self._link, self._service
        assert link is not None
        assert service is not None
        deputy = service.deputy
        try:
            image = receive_image(link)
            deputy.halt_parked()
            deputy.drain()
            service.pass_on_strays()
            residence.put_positions(deputy, image)
            pending = [*image.pending, *service.late_signals()]
            self._image = msgspec.structs.replace(image, pending=pending)
            self.state.statistics.bytes_moved = residence.refill(deputy, self._image, link, self._pages)
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
        service, image = self._service, self._image
        assert service is not None
        assert image is not None
        residence.settle(service.deputy, image)
        self._arrived(self.order.home)
        self._service = None

    def _empty_again(self) -> None:
        service, image = self._service, self._image
        assert service is not None
        assert image is not None
        residence.empty_again(service.deputy, image)
        service.deputy.park()

    # -- actions: to a third node ------------------------------------------------------------------

    def _hop(self, command: Hop) -> None:
        self._begun = time.monotonic()
        self._next_node = command.target
        try:
            self._next = connect(command.endpoint, command.credentials, self.order.silence)
            self._twins = known(command.twins, self._greet(self._next))
        except (LinkBroken, OmError) as error:  # it runs on where it is
            self._drop_next()
            self._fail(error if isinstance(error, OmError) else LinkLost(node=command.target, why=str(error)))
            self._report()
            return
        self._events.append(Event.HOP)

    def _recall(self) -> None:
        """Ask it to freeze and send; on the way to a third node it must know what that has."""
        self._send(Kind.RECALL, msgspec.msgpack.encode([*self._twins.values()] if self._next else None))

    def _relay(self) -> None:
        """Image and pages from the second node to the third; the second is heard out in any case."""
        assert self._link is not None
        assert self._next is not None
        try:
            amount, broken = relay(self._link, self._next)
        except LinkBroken as error:
            self._lost(error)
            return
        if broken is not None:
            self._fail(LinkLost(node=self._next_node, why=str(broken)))
            self._events.append(Event.NEXT_REFUSED)
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
        assert self._service is not None
        self._service.new_guest()
        self._counts.new_place()

    def _drop_next(self) -> None:
        if self._next is not None:
            self._next.close()
            self._next = None

    # -- actions: the end --------------------------------------------------------------------------

    def _end_deputy(self) -> None:
        assert self._service is not None
        self.state.exit = "{} {}".format(*self._exit)
        self._service.end_as(*self._exit)

    def _kill_deputy(self) -> None:
        self._exit = ("killed", signal.SIGKILL)
        self._end_deputy()

    def _close(self) -> None:
        for link in (self._link, self._next):
            if link is not None:
                link.close()
        self._link = self._next = None


_SERVING = frozenset({Home.AWAY, Home.RECALLING, Home.HOPPING})
_AWAY = _SERVING | {Home.RETURNING, Home.RELAYING, Home.SWITCHING}
_FOR_SERVICE = frozenset({Kind.CALL, Kind.CANCEL, Kind.GROW})
