"""The keeper of a remote: one small process per guest, on the node where it runs.

It drives `protocol.GuestSide`, answers what its guest's filter traps, and passes on what the deputy's
keeper sends. All else that it knows of system calls stands in `omtools.migration.calls`.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable

import msgspec

from omtools.errors import OmError, ProcessEnded, RestoreFailed
from omtools.i18n import _
from omtools.image.capture import look_before
from omtools.image.clock_code import PATIENCE, a_moment
from omtools.image.model import Image
from omtools.image.restore import limit_numbers
from omtools.linux import ptrace
from omtools.linux.events import ChildEvents
from omtools.linux.ptrace import Stop, StopKind
from omtools.migration.allowance import Allowance
from omtools.migration.calls.model import Arena
from omtools.migration.control import Control
from omtools.migration.counts import FileIo, sum_of
from omtools.migration.direct import DirectFiles
from omtools.migration.dispositions import disposition
from omtools.migration.exchange import Exchange
from omtools.migration.forwarding import Forwarding
from omtools.migration.frames import LEAVING, Kind
from omtools.migration.hello import clocks_ahead, expect, welcome
from omtools.migration.housing import house
from omtools.migration.keeper import Keeper
from omtools.migration.leaving import image_of, refusal, send
from omtools.migration.link import Link, LinkBroken, accept
from omtools.migration.log import Log
from omtools.migration.orders import Allow, Ask, Bring, Command, GuestOrder
from omtools.migration.protocol import Action, Event, Guest, GuestSide, Unexpected
from omtools.migration.remote import Remote


class GuestKeeper(Keeper):
    """Builds one guest, lets it run, lets it go."""

    def __init__(self, order: GuestOrder, children: ChildEvents, control: Control, log: Log) -> None:
        super().__init__(order, children, control, log)
        self.order = order
        self.machine: GuestSide = GuestSide()
        self._exchange: Exchange | None = None
        self._remote: Remote | None = None
        self._calls: Forwarding | None = None
        self._image: Image | None = None
        self._error: Exception = RestoreFailed(node=order.node, why="")
        self._held = False       # the deputy was stopped by a signal, so is the remote
        self._stopped = True     # it is in a stop of ours
        self._again = False      # its signal was put off: it has to run for that
        self._fatal: list[bytes] = []  # the signal it goes home to die of
        self._late: list[bytes] = []   # signals that came when it was frozen: home has them too
        self._taken = 0                # signals from home that it has got
        self._reason = ""
        self._there: list[str] | None = None  # what is mapped there, of a third node to which it is called
        self._exit: tuple[str, int] = ("killed", 9)
        self._listening = False
        self._told_io: list[FileIo] = []
        self._allowance = Allowance(order.reach, order.access)
        self._do: dict[Action, Callable[[], None]] = {
            Action.BUILD: self._build,
            Action.SEND_READY: lambda: self._send(Kind.READY),
            Action.SEND_REFUSED: lambda: self._refuse(self._error),
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
            link = accept(listener, self.order.credentials, self.order.patience, self.order.silence)
            self._exchange = Exchange(link, self._lost)
            self._prepare(link)
        except LinkBroken as error:
            self._log.warning(f"no guest came: {error}")
            self.machine.handle(Event.LOST)
            self._destroy()
        finally:
            listener.close()
        while self.machine.state not in GuestSide.final:
            try:
                self._step(self._events.popleft() if self._events else self._wait())
            except (ProcessLookupError, ProcessEnded):  # killed in the midst of it
                if self._remote is None:
                    raise
                self._stop(self._remote.end())
        self._report()

    def _prepare(self, link: Link) -> None:
        """Build the cage while the process still runs at home; raises LinkBroken."""
        link.set_timeout(self.order.patience)
        hello = expect(link, self.order.pid)
        ahead = clocks_ahead(link)
        try:
            self._remote = house(self.order, ahead, hello.places, self._log)
        except (OmError, OSError) as error:
            self._refuse(error)
            raise LinkBroken(str(error)) from error
        self.state.local_pid = self._remote.pid
        welcome(link, self._remote.twins)

    def _step(self, event: Event | None) -> None:
        if event is None:
            return
        before = self.machine.state
        try:
            actions = self.machine.handle(event)
        except Unexpected as error:
            self._log.warning(str(error))
            actions = self.machine.handle(Event.LOST)
        self._note(before, event)
        for action in actions:
            self._do[action]()
        if self.machine.state is not before:
            self._report()

    def _report(self) -> None:
        if self._calls is not None:
            self.state.statistics.calls_forwarded = self._calls.calls
            self._count(self._calls)
        super()._report()

    def _count(self, calls: Forwarding) -> None:
        """Look what the guest has read and written; home hears of it if there is anything new."""
        own = calls.counted()
        if own != self._told_io:
            self._told_io = own
            self._send(Kind.COUNTS, msgspec.msgpack.encode(own))
        self.state.files = sum_of(own, calls.forwarded_io)
        self.state.statistics.dfsa_bytes = sum(one.bytes for one in own)

    def _send(self, kind: Kind, body: bytes = b"", serial: int = 0) -> None:
        if self._exchange is not None:
            self._exchange.send(kind, body, serial)

    def _lost(self, error: LinkBroken) -> None:
        self._log.warning(f"link: {error}")
        self._events.append(Event.LOST)

    # -- waiting -----------------------------------------------------------------------------------

    def _wait(self) -> Event | None:
        exchange = self._exchange
        assert exchange is not None
        if exchange.waiting:
            return self._receive(exchange)
        remote = self._remote
        if remote is not None and remote.wanted:
            self._refuse_call(remote)
            return None
        poller = select.poll()
        for descriptor in (self._children.fileno(), exchange.link.fileno(), *self._control.descriptors()):
            poller.register(descriptor, select.POLLIN)
        if remote is not None:
            if self._listening:
                poller.register(remote.listener, select.POLLIN)
            if remote.files is not None:
                poller.register(remote.files.root.device, select.POLLIN)
        for descriptor, mask in poller.poll():
            if descriptor == exchange.link.fileno():
                return self._receive(exchange)
            if descriptor == self._children.fileno():
                self._children.clear()
                self._reap()
                return None  # it may have read from the link what poll has seen there
            self._hear(descriptor, mask)
        return None

    def _hear(self, descriptor: int, mask: int) -> None:
        """The guest says something, or the agent does."""
        remote, calls = self._remote, self._calls
        if remote is not None and descriptor == remote.listener:
            if mask & select.POLLIN and calls is not None:
                calls.trapped()
            else:
                self._listening = False  # nobody is left behind the filter; waitpid tells the rest
        elif remote is not None and remote.files is not None and descriptor == remote.files.root.device:
            if calls is not None and calls.native is not None:
                calls.native.hear()
            else:
                remote.root_requests()
        else:
            for command in self._control.handle(descriptor):
                self._command(command)

    def _refuse_call(self, remote: Remote) -> None:
        """A call of the guest's that its own kernel cannot do: its deputy does."""
        stop, call = remote.refuse()
        if call is None or self._calls is None:
            self._stop(stop)
        else:
            self._stopped = True
            self._calls.refused_at_root(call)

    def _command(self, command: Command) -> None:
        if isinstance(command, Ask):
            if command.calls and self._calls is not None:
                self.state.calls = self._calls.latencies.figures()
            self._report()
            self.state.calls = None
        elif isinstance(command, Bring):
            self._send(Kind.EXPELLED, command.reason.encode())
        elif isinstance(command, Allow):
            self._allowance.access = command.access
            self._allow()

    def _allow(self) -> None:
        if self._calls is not None and self.machine.state is Guest.RUNNING:
            self._calls.allow(self._allowance.reach)

    def _receive(self, exchange: Exchange) -> Event | None:
        try:
            kind, serial, body = exchange.next()
        except LinkBroken as error:
            self._log.warning(f"link: {error}")
            return Event.LOST
        return self._frame(kind, serial, body)

    def _frame(self, kind: Kind, serial: int, body: bytes | memoryview) -> Event | None:
        if kind in (Kind.RESULT, Kind.CANCELLED):
            if self._calls is not None:
                self._calls.returned(kind, serial, bytes(body))
        elif kind is Kind.SIGNAL:
            self._signal(bytes(body))
        elif kind is Kind.STOP:
            self._held = True
            self.hold()
        elif kind is Kind.CONTINUE:
            self._held = False
            self.go_on()
        elif kind is Kind.RECALL:
            self._there = msgspec.msgpack.decode(body, type=list[str] | None)
            return Event.RECALL
        elif kind is Kind.DIRECT:
            self._allowance.home = bool(body)
            self._allow()
        elif kind is Kind.IMAGE:
            self._image = msgspec.msgpack.decode(body, type=Image)
            return Event.IMAGE
        else:
            return _WORDS.get(kind, Event.LOST)
        return None

    # -- for the calls -----------------------------------------------------------------------------

    def need_home(self, reason: str) -> None:
        """See `Conductor`."""
        self._reason = reason
        self._events.append(Event.NEED_HOME)

    def exiting(self, status: int) -> None:
        """See `Conductor`."""
        if self._calls is not None:
            self._count(self._calls)
        self._exit = ("exited", status & 0xFF)
        self._events.append(Event.EXITED)

    def warn(self, text: str) -> None:
        """See `Conductor`."""
        self._log.warning(text)

    def let_signals_in(self) -> None:
        """See `Conductor`."""
        if self.hold():
            self._let_in()
        self.go_on()

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
        self._was_stopped()
        if stop.kind is StopKind.SIGNAL:
            self._deliver(remote, stop.signal)
            if not self._again:
                return
        self._again = False
        self.go_on()

    def _was_stopped(self) -> None:
        self._stopped = True
        if self._calls is not None:
            self._calls.interrupted()

    def _settle_call(self) -> None:
        if self._calls is not None:
            self._calls.settle(self._stopped)

    def _deliver(self, remote: Remote, number: int) -> None:
        """The guest is about to take a signal."""
        stuck = self._calls is not None and self._calls.stuck
        if (reason := remote.only_at_home(number)) and not stuck:
            self.need_home(reason)
            return
        effect = disposition(remote.pid, number)
        if effect == "core" and not stuck:  # at home it leaves the core its parent expects
            self._fatal.append(ptrace.get_siginfo(remote.pid))
            self.need_home(_("it dies by signal {n}").format(n=number))
            return
        if effect == "caught":
            if self._calls is not None and self._calls.gives_descriptors:
                self._put_off(remote)
                return
            self._settle_call()
            remote.leave_stub()
        elif effect not in ("kills", "core"):
            remote.undo_interruption()
        self._stopped = False
        ptrace.cont(remote.pid, 0 if effect == "stops" else number)

    def _put_off(self, remote: Remote) -> None:
        """Before its handler runs, the guest gets what its call has opened, for which it is to stop anew."""
        siginfo = ptrace.get_siginfo(remote.pid)
        remote.drop_signal()
        self._settle_call()
        remote.queue_signal(siginfo)
        self._again = True

    def hold(self) -> bool:
        """Stop the guest; False if it is gone. A signal on its way is dealt with first."""
        remote = self._remote
        assert remote is not None
        limit = time.monotonic() + PATIENCE
        while not self._stopped:
            stop = remote.interrupt()
            if stop.over:
                self._stop(stop)
                return False
            if stop.kind is not StopKind.SIGNAL and remote.reads_clock() and time.monotonic() < limit:
                ptrace.cont(remote.pid)
                a_moment()
                continue
            self._was_stopped()
            if stop.kind is StopKind.SIGNAL:
                self._deliver(remote, stop.signal)
                self._again = False  # it will come once more
        return True

    def go_on(self) -> None:
        """See `Conductor`."""
        remote = self._remote
        if remote is not None and self._stopped and not self._held and not self._fatal:
            if self._calls is not None and self._calls.held:
                self._calls.let_go()
            self._stopped = False
            ptrace.cont(remote.pid)

    def _signal(self, siginfo: bytes) -> None:
        """A signal reached the deputy: it is for the guest.

        A call that it makes by now comes first: only the deputy can say whether a signal ends that.
        """
        if self._calls is not None and self.machine.state is Guest.RUNNING:
            self._calls.hear()
        if self.machine.state is not Guest.RUNNING or not self.hold():
            self._late.append(siginfo)
            return
        self._taken += 1
        assert self._remote is not None
        self._remote.queue_signal(siginfo)
        self._let_in()
        self.go_on()

    def _let_in(self) -> None:
        """A stopped guest waits in a call that has another mask in place: a signal may get through that."""
        calls, remote = self._calls, self._remote
        if calls is None or calls.flight is None or remote is None or not self._stopped:
            return
        flight = calls.flight
        mask = calls.mask_meanwhile(flight)
        if mask is None or not remote.waiting_signals(mask[1]):
            return
        self._settle_call()
        if flight.outcome is not None and flight.outcome.broken:
            self._stop(remote.let_in(mask[0]))

    # -- actions -----------------------------------------------------------------------------------

    def _build(self) -> None:
        remote, exchange, image = self._remote, self._exchange, self._image
        assert remote is not None
        assert exchange is not None
        assert image is not None
        files = DirectFiles(self._allowance.reach, self.order.home, self.order.node)
        calls = self._calls = Forwarding(remote, exchange, self, Arena(*image.arena), files)
        calls.direct.prepare(image.files)
        trapped = None
        calls.locked = image.locked
        if remote.files is not None and image.numbers is not None and image.umask >= 0 and not image.locked:
            trapped = set(image.numbers) - set(files)
        try:
            self.state.statistics.bytes_moved = remote.build(image, exchange.link, trapped)
        except LinkBroken as error:
            self._lost(error)
        except (OmError, OSError) as error:
            self._error = error
            self._events.append(Event.CANNOT)
        else:
            calls.arrive()
            if trapped is not None and remote.files is not None:
                calls.open_natively(remote.files, self.order.node, image.numbers or [], image.directory)
            limit_numbers(remote.pid, image)
            self._image = None  # some hundred kilobytes
            self._events.append(Event.BUILT)

    def _refuse(self, error: Exception) -> None:
        self._log.warning(f"refused: {error}")
        self._send(Kind.REFUSED, refusal(error, self.order.node))

    def _run(self) -> None:
        remote = self._remote
        assert remote is not None
        self._listening = True
        for siginfo in (*self._fatal, *self._late):
            remote.queue_signal(siginfo)
        self._taken += len(self._late)
        self._fatal.clear()
        self._late.clear()
        self.state.statistics.moves = 1
        remote.begin()
        self._stopped = True
        if self._calls is not None:
            self._calls.stuck = bool(self._reason)  # or it would try again for ever
            self._calls.settle_in()
        self._reason = ""
        self.go_on()
        self._allow()  # it may have changed while it was built

    def _leave(self) -> None:
        """Freeze it and send it off; what it waits for at home is broken off first."""
        remote, exchange, calls = self._remote, self._exchange, self._calls
        assert remote is not None
        assert exchange is not None
        assert calls is not None
        before = look_before(remote.pid)
        frozen = time.monotonic_ns()
        if not self.hold():
            return
        flight = calls.flight
        self._settle_call()
        resume = None if flight is None else flight.resume
        self._count(calls)
        try:
            image = image_of(remote, calls, before, (resume, self._fatal), self._there)
            head = LEAVING.pack(time.monotonic_ns() - frozen, self._taken & 0xFFFFFFFF)
            head += self._reason.encode()
            self.state.statistics.bytes_moved = send(exchange.link, remote.pid, head, image, self._pages)
        except LinkBroken as error:
            self._lost(error)
        except ProcessEnded:
            self._stop(remote.end())
        except OmError as error:
            self._error = error
            self._events.append(Event.CANNOT)
        except OSError as error:  # it has died while its pages were sent: home hears of nothing else
            self._lost(LinkBroken(str(error)))

    def _destroy(self) -> None:
        if self._remote is not None:
            self._remote.destroy()
            self._remote = None
        if self._calls is not None:
            self._calls.close()
        if self._exchange is not None:
            self._exchange.link.close()


_WORDS = {Kind.GO: Event.GO, Kind.DONE: Event.DONE, Kind.STAY: Event.STAY}
