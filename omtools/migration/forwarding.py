"""The calls that a guest's filter traps: planned, sent to the deputy, landed; broken off when it must be."""

from __future__ import annotations

import errno
import select
from dataclasses import replace
from time import perf_counter_ns

from omtools.i18n import _
from omtools.image.cage_files import CageFiles
from omtools.linux import seccomp
from omtools.linux.x86_64 import ERESTARTNOINTR
from omtools.migration.calls import native
from omtools.migration.calls.direct import (
    READS,
    WRITES,
    Closed,
    Duplicated,
    Followed,
    GivenAway,
    Native,
    Touch,
    moved,
)
from omtools.migration.calls.model import Answer, Arena, ComeHome, CpuTime, Exit, Forward
from omtools.migration.calls.plan import land, plan
from omtools.migration.calls.polls import mask_meanwhile
from omtools.migration.conductor import Conductor
from omtools.migration.counting import Counting
from omtools.migration.counts import FileIo, Ledger
from omtools.migration.cpu_times import add_cpu
from omtools.migration.direct import DirectFiles
from omtools.migration.direct_calls import DirectCalls
from omtools.migration.exchange import Exchange
from omtools.migration.flight import Flight, Outcome
from omtools.migration.frames import CANCELLED, COME_HOME, NUMBER, RESULT, Kind, pack_call
from omtools.migration.guest_memory import GuestMemory
from omtools.migration.latencies import Latencies
from omtools.migration.native_files import NativeFiles
from omtools.migration.opening_at_home import CannotBring
from omtools.migration.reach import Reach
from omtools.migration.remote import Remote

_TOO_MANY = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
# What calls say that a process should have gone home for, and home has no room for it: <asm/unistd_64.h>
# mmap, mremap; clone, fork, vfork, execve, execveat, clone3. All others: EIO.
_IN_VAIN = {**dict.fromkeys((9, 25), errno.ENOMEM), **dict.fromkeys((56, 57, 58, 59, 322, 435), errno.EAGAIN)}


class Forwarding:
    """The guest's calls.

    Attributes:
        flight: the call that is under way.
        arena: where arguments are put at home.
        direct: the part of them that concerns direct files.
        native: likewise, for a guest that opens files by itself.
        calls: how many were forwarded.
        locked: the guest may hold locks.
        latencies: how long those took that ended undisturbed.
        held: the guest is stopped in the call that is under way, which it has made at its cage's root.
        stuck: it was to go home for its call and could not: that call fails.
    """

    def __init__(
        self, remote: Remote, exchange: Exchange, conductor: Conductor, arena: Arena, files: DirectFiles
    ) -> None:
        self.flight: Flight | None = None
        self.arena = arena
        self.calls = 0
        self.latencies = Latencies()
        self._remote = remote
        self._memory = GuestMemory(remote.memory)
        self._exchange = exchange
        self._conductor = conductor
        self._serial = 0
        self.held = self.locked = self.stuck = False
        self._restores = False  # at the guest's next call: none is under way then
        self.direct = DirectCalls(remote, files, self)
        self.native: NativeFiles | None = None
        self._files = files
        self._counting = Counting(remote.pid, files.here, files)
        self._forwarded = Ledger()

    def arrive(self) -> None:
        """The guest is built and stopped: give it its files, count from here on."""
        self.direct.arrive()
        self._counting.begin()

    def allow(self, reach: Reach) -> None:
        """What is opened from now on is looked for there; what is open stays."""
        self._files.reach = reach
        if self.native is None:
            return
        wanted = self.native.within(reach) and not self.locked
        self._restores = wanted and self.native.withdrawn
        if not wanted and not self.native.withdrawn:
            self.withdraw(self.native)

    def counted(self) -> list[FileIo]:
        """What it has read and written where it runs."""
        self._counting.look()
        return self._counting.ledger.told()

    @property
    def forwarded_io(self) -> list[FileIo]:
        """What the deputy has read and written for it: home knows in which files."""
        return self._forwarded.told()

    def settle_in(self) -> None:
        """The guest, stopped, is about to run here, for the first time or because it could not leave."""
        self.direct.tell_positions()
        if self.native is not None:
            self.native.stayed()

    def open_natively(self, files: CageFiles, node: int, numbers: list[int], directory: str) -> None:
        """The guest, built and stopped, opens files by itself; `numbers` are all that home has open."""
        self.native = NativeFiles(self._remote, files, self._files, self, node)
        self._counting.by_itself = self.native.opened_here
        self.direct.place = self.native.place
        self.native.arrive(set(numbers) - set(self._files), directory)

    def close(self) -> None:
        """The guest is gone."""
        self.direct.close()
        if self.native is not None:
            self.native.close()

    # -- what the filter trapped -------------------------------------------------------------------

    def hear(self) -> None:
        """Take up the call that waits at the listener, if one does."""
        poller = select.poll()
        poller.register(self._remote.listener, select.POLLIN)
        if any(mask & select.POLLIN for _listener, mask in poller.poll(0)):
            self.trapped()

    def trapped(self) -> None:
        """A notification waits at the listener."""
        try:
            notification = seccomp.receive(self._remote.listener)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINTR):
                raise
            return
        self._arrived(notification)

    def refused_at_root(self, notification: seccomp.Notification) -> None:
        """The guest is stopped behind a call of which its own kernel has done nothing."""
        self.held = True
        self._counting.in_vain += notification.nr in READS | WRITES
        self._arrived(notification)

    def _arrived(self, notification: seccomp.Notification) -> None:
        flight = self.flight
        if flight is not None:
            if flight.same_call(notification):
                flight.come_back(notification)
                self._go_on(flight)
                return
            self.settle(stopped=False)  # its signal handler makes other calls: the old one is over
        if self.native is None or not self._known_here(self.native, notification):
            self._plan(notification)

    def _known_here(self, files: NativeFiles, notification: seccomp.Notification) -> bool:
        """The call of a guest that opens files by itself need not go home; else it may now."""
        files.hear()
        if self._restores:
            self._restores = False
            self.withdraw(files, back=True)
            return True  # it makes the call anew
        nr, args = notification.nr, notification.args
        if not self.held:
            if files.done_here(nr, args):
                return self._let_continue(notification) or True
            told = files.answer(nr, args)
            if told is not None:
                self._answer(notification, told if isinstance(told, int) else self._write(args, nr, told))
                return True
        if reason := files.only_at_home(nr, args):
            self._need_home(notification, reason)
            return True
        try:
            files.before(notification)
            return native.takes_lock(nr, args, self._memory) and self._set_apart(files, notification)
        except CannotBring as error:  # nothing was done, and the process goes on
            self._conductor.warn(str(error))
            self._answer(notification, -error.error if error.error in _TOO_MANY else -errno.EIO)
            return True

    def _set_apart(self, files: NativeFiles, notification: seccomp.Notification) -> bool:
        """What the guest locks shall be the deputy's, so that every close of it is heard; True: not yet.

        POSIX locks of a process on a file end with the first of its descriptors of that file that is closed:
        fcntl_locking(2). So it must not be opened by the guest's kernel alone either.
        """
        if not files.withdrawn:
            self.withdraw(files)
            return True  # it makes the call anew
        try:
            number = native.names_one(notification.nr, notification.args) or 0
            for one in files.set_apart(notification.cookie, number):
                self.direct.give_back(one, notification.cookie)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return True
        return False

    def withdraw(self, files: NativeFiles, back: bool = False) -> None:
        """From now on the guest opens nothing by itself; or it does again."""
        if not self._conductor.hold():
            return
        try:
            files.restore() if back else files.withdraw()
        except OSError as error:
            why = _("its host's files cannot be taken from it ({why})").format(why=error.strerror)
            self._conductor.need_home(why)
        else:
            self._conductor.go_on()

    def _write(self, args: tuple[int, ...], nr: int, status: bytes) -> int:
        """What stat(2) and its kin return, once they have written."""
        try:
            self._remote.memory.write(args[2 if nr == native.NEWFSTATAT else 1], status)
        except OSError:
            return -errno.EFAULT
        return 0

    def _need_home(self, notification: seccomp.Notification, reason: str) -> None:
        if self.stuck:
            self.stuck = False
            self._answer(notification, -_IN_VAIN.get(notification.nr, errno.EIO))
            return
        if not notification.cookie:
            self.held = False
            self._remote.interrupted_call(-ERESTARTNOINTR)
        self._conductor.need_home(reason)

    def let_go(self) -> None:
        """The guest, held in a call, shall run: it makes the call once more."""
        self.held = False
        self._remote.interrupted_call(-ERESTARTNOINTR)
        self.interrupted()

    def _plan(self, notification: seccomp.Notification) -> None:
        self.locked |= native.takes_lock(notification.nr, notification.args, self._memory)
        meaning = self.direct.meaning(notification)
        if isinstance(meaning, Closed | Duplicated | GivenAway):
            self._counting.look()  # what is known of a file ends with it
        if isinstance(meaning, Native):
            self._let_continue(notification)
            return
        if reason := self._remote.file_memory.reason(notification.nr, notification.args):
            self._need_home(notification, reason)
            return
        what = plan(notification.nr, notification.args, self._memory, self.arena)
        if isinstance(what, Forward):
            self._forward(notification, what, touch=meaning)
        elif isinstance(what, CpuTime):
            self._forward(notification, what.forward, what)
        elif isinstance(what, Answer):
            for address, data in what.writes:
                self._remote.memory.write(address, data)
            self._answer(notification, what.result)
        elif isinstance(what, ComeHome):
            self._need_home(notification, what.reason)
        elif isinstance(what, Exit):
            self._conductor.exiting(what.status)
        else:
            self._let_continue(notification)

    def _answer(self, notification: seccomp.Notification, result: int) -> bool:
        """Answer a waiting call; False if the caller was interrupted meanwhile."""
        if not notification.cookie:
            self.held = False
            self._remote.end_call(result)
            self._conductor.go_on()
            return True
        try:
            seccomp.answer(self._remote.listener, notification.cookie, result)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return False
        return True

    def _let_continue(self, notification: seccomp.Notification) -> bool:
        if not notification.cookie:
            self.let_go()
            self._conductor.go_on()
            return True
        try:
            seccomp.let_continue(self._remote.listener, notification.cookie)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return False
        return True

    # -- to the deputy and back --------------------------------------------------------------------

    def _forward(
        self,
        notification: seccomp.Notification,
        forward: Forward,
        cpu: CpuTime | None = None,
        touch: Touch | None = None,
    ) -> None:
        if forward.arena_length > self.arena.size and not self._grow(forward.arena_length):
            self._need_home(notification, _("a call passes more memory than can be carried"))
            return
        self._serial += 1
        self.flight = Flight(self._serial, notification, forward, cpu, touch=touch, begun=perf_counter_ns())
        self.calls += 1
        mask = self._remote.blocked() if forward.needs_mask else 0
        self._exchange.send(Kind.CALL, pack_call(forward, mask), self._serial)
        meanwhile = self.mask_meanwhile(self.flight)
        if meanwhile is not None and self._remote.waiting_signals(meanwhile[1]):
            self._conductor.let_signals_in()

    def mask_meanwhile(self, flight: Flight) -> tuple[int, int] | None:
        """Address and value of the signal mask that its call puts in place, if it does."""
        return mask_meanwhile(flight.notification.nr, flight.notification.args, self._memory)

    def _grow(self, size: int) -> bool:
        self._exchange.send(Kind.GROW, NUMBER.pack(size))
        grown = self._exchange.wait_for(lambda kind, _serial: kind is Kind.GROWN)
        if grown is None:
            return False
        self.arena = Arena(self.arena.base, NUMBER.unpack(grown[1])[0])
        return self.arena.size >= size

    def returned(self, kind: Kind, serial: int, body: bytes) -> None:
        """The deputy's keeper says how a call ended."""
        flight = self.flight
        if flight is None or flight.serial != serial:
            return
        self._concluded(flight, kind, body)
        if flight.alive:
            self._go_on(flight)

    def _concluded(self, flight: Flight, kind: Kind, body: bytes) -> None:
        outcome = flight.outcome = _outcome(kind, body)
        if not outcome.broken:
            one = moved(flight.notification.nr, outcome.result, self._files.home)
            if one is not None:
                self._forwarded.add(one)

    def _go_on(self, flight: Flight) -> None:
        """The caller waits: give it what there is, or do its call once more."""
        outcome = flight.outcome
        if outcome is None:
            return
        if outcome.broken:
            forward = flight.again()
            self.flight = None
            self._forward(flight.notification, forward, flight.cpu, flight.touch)
            return
        if outcome.result == COME_HOME:
            self.flight = None
            self._need_home(flight.notification, outcome.data.decode())
            return
        if self._finish(flight, outcome):
            self.flight = None
            self.latencies.note(flight.notification.nr, perf_counter_ns() - flight.begun)
        else:
            flight.alive = False

    def _finish(self, flight: Flight, outcome: Outcome) -> bool:
        """Let the waiting caller go on; False if it was interrupted meanwhile."""
        result = self._land(flight, outcome)
        notification = flight.notification
        natively = result >= 0 and flight.forward.mirror
        try:
            natively |= self.direct.follow(flight, result)
            if self.native is not None:
                natively |= self.native.follow(flight, result)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return False
        if self.native is not None and result >= 0 and notification.nr in (native.CHDIR, native.FCHDIR):
            return self._change_directory(self.native, notification, result)
        return self._let_continue(notification) if natively else self._answer(notification, result)

    def _change_directory(self, files: NativeFiles, notification: seccomp.Notification, result: int) -> bool:
        """The guest goes where its home's process went: that takes a stop of its own."""
        target = files.moved_to()
        if target is None:
            return self._answer(notification, result)
        flight = self.flight
        if self._conductor.hold():
            self._remote.change_directory(target)
            if self.flight is flight:  # else a signal's handler has begun, and the call is over
                self._remote.end_call(result)
            self.held = False
            self._conductor.go_on()
        return True

    def _land(self, flight: Flight, outcome: Outcome) -> int:
        """Write what the call wrote; returns its result."""
        data = outcome.data if not flight.forward.opens else b""  # what was opened is said there
        if flight.cpu is not None and outcome.result >= 0:
            data = add_cpu(flight.cpu.layout, data, self._remote)
        result = outcome.result
        if flight.cpu is not None and flight.cpu.layout == "tms" and result >= 0 and not data:
            return result
        try:
            for address, piece in land(flight.forward, result, data):
                self._remote.memory.write(address, piece)
        except OSError:
            return -errno.EFAULT
        return result

    # -- interruptions -----------------------------------------------------------------------------

    def interrupted(self) -> None:
        """The guest was stopped: its notification is dead."""
        if self.flight is not None:
            self.flight.alive = False

    def settle(self, stopped: bool) -> None:
        """The guest is stopped, or on its way into a handler: end the call in flight, one way or other."""
        flight, remote = self.flight, self._remote
        if flight is None:
            if stopped:
                remote.restart_unheard()
            return
        self._decide(flight)
        self.flight = None
        self.held = False
        outcome = flight.outcome
        if not stopped or outcome is None:
            return
        mirror = flight.forward.mirror or isinstance(flight.touch, Followed)
        if outcome.broken or outcome.result == COME_HOME or (mirror and outcome.result >= 0):
            remote.interrupted_call(flight.restart_code)
            if outcome.broken:
                self._land(flight, outcome)
        else:
            result = self._land(flight, outcome)
            self.direct.catch_up(flight, result)
            if self.native is not None:
                flight.notification = replace(flight.notification, cookie=0)
                self.native.follow(flight, result)
            remote.end_call(result)

    @property
    def gives_descriptors(self) -> bool:
        """The call that is under way may give the guest descriptors of its own, which needs a stop."""
        flight = self.flight
        return (
            self.native is not None
            and flight is not None
            and native.makes_descriptors(flight.notification.nr, flight.notification.args)
        )

    def _decide(self, flight: Flight) -> None:
        """Have the deputy break the call off, unless it has its outcome."""
        if flight.outcome is None:
            self._exchange.send(Kind.CANCEL, b"", flight.serial)
            answer = self._exchange.wait_for(
                lambda kind, serial: kind in (Kind.RESULT, Kind.CANCELLED) and serial == flight.serial
            )
            if answer is not None:
                self._concluded(flight, *answer)

    # -- of our own ----------------------------------------------------------------------------------

    def ask(self, forward: Forward) -> tuple[int, bytes]:
        """A call of our own that the deputy does at once, see `AtHome`; -EIO if the link broke."""
        if self.flight is not None and self.flight.outcome is None:
            self.settle(stopped=False)  # the guest's handler runs: the deputy must be free
        self._serial += 1
        serial = self._serial
        self._exchange.send(Kind.CALL, pack_call(forward), serial)
        answer = self._exchange.wait_for(lambda kind, number: kind is Kind.RESULT and number == serial)
        if answer is None:
            return -errno.EIO, b""
        return int(RESULT.unpack_from(answer[1])[0]), answer[1][RESULT.size :]


def _outcome(kind: Kind, body: bytes) -> Outcome:
    if kind is Kind.CANCELLED:
        code, nanoseconds = CANCELLED.unpack_from(body)
        return Outcome(code, body[CANCELLED.size :], broken=True, nanoseconds=nanoseconds)
    return Outcome(RESULT.unpack_from(body)[0], body[RESULT.size :])
