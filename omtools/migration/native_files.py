"""A guest that opens its node's files by itself (DFSA): its descriptors and home's are kept the same.

What it opens, its keeper learns of only when that matters: when home is about to give a number away, when a
call is about such a file, when it leaves. Then home opens the same file under the same number, and it is a
direct file like any other. A file of home that is opened later gets a stand-in here.
"""

from __future__ import annotations

import os

from omtools.errors import CannotMigrate
from omtools.i18n import _
from omtools.image.cage_files import CageFiles
from omtools.linux import seccomp
from omtools.linux.files import AT_FDCWD
from omtools.linux.names import is_text
from omtools.migration.at_home import AtHome, plain
from omtools.migration.calls import native
from omtools.migration.calls.model import Forward, Out, OutRule
from omtools.migration.direct import DirectFile, DirectFiles
from omtools.migration.flight import Flight
from omtools.migration.openfiles import same_open_file
from omtools.migration.opening_at_home import CannotBring, OpeningAtHome, identity
from omtools.migration.places import locate
from omtools.migration.reach import Reach
from omtools.migration.remote import Remote
from omtools.migration.status_here import StatusHere

_GETCWD = 79  # <asm/unistd_64.h>
_PATH_MAX = 4096  # <linux/limits.h>
_STAT_SIZE = 144  # <asm/stat.h>
_NO_FOLLOW, _EMPTY_PATH = 0x100, 0x1000  # AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH of <linux/fcntl.h>


class NativeFiles:
    """The descriptors of one guest.

    Attributes:
        directory: its working directory at home.
    """

    def __init__(
        self, remote: Remote, files: CageFiles, direct: DirectFiles, home: AtHome, node: int
    ) -> None:
        self._remote, self._files, self._direct = remote, files, direct
        self._home, self._node = home, node
        self._fixed: set[int] = set()  # trapped whatever is done with them
        self._at_home: set[int] = set()  # open at home and not direct
        self._stand_ins: dict[int, int] = {}  # handles: their numbers
        self._kept: set[int] = set()  # files of the guest's; home has nothing but the number
        self._nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._status = StatusHere(files.tree, node)
        self._opening = OpeningAtHome(remote.pid, files.tree, direct, home, node)
        self.directory = ""

    # -- coming and going --------------------------------------------------------------------------

    def arrive(self, numbers: set[int], directory: str) -> None:
        """The guest is built and stopped: `numbers` are open at home and not direct."""
        self._fixed, self.directory = set(numbers), directory
        self._at_home = set(numbers)
        self._remote.install([(self._nothing, number) for number in sorted(numbers)])

    def _learn(self) -> None:
        """How the deputy sees the files of this node."""
        path = os.fsencode(self._files.tree.path) + b"\0"
        base, at = self._home.arena.base, _PATH_MAX
        status = Out(at, _STAT_SIZE, OutRule.FULL)
        result, data = self._home.ask(
            Forward(
                native.STAT, (base, base + at, 0, 0, 0, 0), path, at + _STAT_SIZE, (status,), may_block=False
            )
        )
        self._status.learn(data if result == 0 else b"")

    @property
    def told_directory(self) -> str:
        """The working directory, "" if its name cannot be told."""
        return self.directory if is_text(self.directory) else ""

    def opened_here(self) -> list[int]:
        """The numbers of what the guest has opened by itself."""
        here = {int(name) for name in os.listdir(f"/proc/{self._remote.pid}/fd")}
        return sorted(here - self._at_home - set(self._direct))

    def leave(self, dying: bool = False) -> list[int]:
        """The guest is stopped and leaves: all its descriptors, which home has now.

        Raises CannotMigrate if home cannot have one of them; nobody cares if it goes home to die.
        """
        for number in self._unknown(adopt=True):
            try:
                self._adopt(0, number, leaving=True)
            except CannotBring as error:
                if not dying:
                    reason = _("{file}, which it has open, cannot go with it ({why})")
                    why = reason.format(file=error.path, why=os.strerror(error.error))
                    raise CannotMigrate(pid=self._remote.home_pid, reason=why) from None
        return sorted({*self._at_home, *self._direct})

    def close(self) -> None:
        """The guest is gone."""
        os.close(self._nothing)
        self._status.close()

    # -- without the tree ---------------------------------------------------------------------------

    @property
    def withdrawn(self) -> bool:
        """The guest opens nothing by itself at present."""
        return self._files.withdrawn >= 0

    def within(self, reach: Reach) -> bool:
        """The tree is still offered, with the rights that it has here."""
        found = locate(f"{self._files.tree.path}/x", reach, self._direct.home, self._node)
        return found is not None and found.node == self._node and found.writable == self._files.tree.writable

    def withdraw(self) -> None:
        """From now on the stopped guest opens all by way of home; what is open stays. Raises OSError."""
        inside = self._files.holds(self.directory)
        self._remote.withdraw_files()
        if inside:
            self._remote.change_directory(self.directory)

    def restore(self) -> None:
        """The stopped guest opens files of the tree by itself again. Raises OSError."""
        self._remote.restore_files()
        if self._files.holds(self.directory):
            self._remote.change_directory(self.directory)

    def set_apart(self, cookie: int, number: int) -> list[int]:
        """Numbers here of the file that the guest is about to lock; home has it open too now.

        If home alone has that number, it may be any file: then these are all. Raises CannotBring.
        """
        if self.is_here(number):
            wanted = identity(self._remote.pid, number)
            self._direct.apart.add(wanted)
            numbers = [one for one in self._all_here() if identity(self._remote.pid, one) == wanted]
        else:
            self._direct.all_apart = True
            numbers = [one for one in self._all_here() if identity(self._remote.pid, one) != (0, 0)]
        for one in numbers:
            if one not in self._direct and one not in self._at_home:
                self._bring(cookie, one)
        return [one for one in numbers if one in self._direct]

    def _all_here(self) -> list[int]:
        self.level(0, adopt=False)
        return sorted({*self._direct, *self.opened_here()})

    # -- before a call -----------------------------------------------------------------------------

    def hear(self) -> None:
        """Close at home what the guest has closed here."""
        self._remote.root_requests()
        while self._remote.closed:
            number = self._stand_ins.pop(self._remote.closed.pop(0), None)
            if number is not None and number in self._at_home:
                self._at_home.discard(number)
                self._plain(native.CLOSE, number)

    def answer(self, nr: int, args: tuple[int, ...]) -> bytes | int | None:
        """What stat(2) and its kin would say of a file of this node: a struct stat, or minus an errno.

        None: home has to be asked.
        """
        if nr not in (native.STAT, native.LSTAT, native.FSTAT, native.NEWFSTATAT):
            return None
        if not self._status.asked:
            self._learn()
        flags = args[3] if nr == native.NEWFSTATAT else _NO_FOLLOW if nr == native.LSTAT else 0
        path = b"" if nr == native.FSTAT else self._text(args[nr == native.NEWFSTATAT])
        if path and not self.withdrawn:
            from_here = nr != native.NEWFSTATAT or native.names_one(nr, args) == AT_FDCWD
            if not from_here and not path.startswith(b"/"):
                return None
            return self._status.of_path(os.fsdecode(path), self.directory, not flags & _NO_FOLLOW)
        number = native.names_one(nr, args)
        if path is None or path or (nr != native.FSTAT and not flags & _EMPTY_PATH):
            return None
        if number is None or not self.is_here(number) or self._is_others(number):
            return None
        return self._status.of_descriptor(self._remote.pid, number)

    def _is_others(self, number: int) -> bool:
        """It is a direct file of another node: home has numbers of its own for it."""
        return number in self._direct and self._direct[number].node != self._node

    def _text(self, address: int) -> bytes | None:
        try:
            return self._remote.memory.read_string(address, _PATH_MAX).rstrip(b"\0")
        except (OSError, OverflowError):
            return None

    def only_at_home(self, nr: int, args: tuple[int, ...]) -> str:
        """Why the call has to be made at home, by the process itself, "" if it need not be."""
        if nr not in (native.RECVMSG, native.RECVMMSG):
            return ""
        has_control = native.has_control(args, self._remote.memory)
        return _("it may be sent descriptors while it opens files by itself") if has_control else ""

    def done_here(self, nr: int, args: tuple[int, ...]) -> bool:
        """The node's own kernel shall do the call: it is about a file that was opened here."""
        if not native.local(nr, args):
            return False
        number = native.names_one(nr, args)
        return number is not None and self.is_here(number) and number not in self._direct

    def is_here(self, number: int) -> bool:
        """The guest has a file of this node under that number."""
        if number < 0 or number in self._at_home:
            return False
        self._still_direct(number)
        return number in self._direct or os.path.lexists(f"/proc/{self._remote.pid}/fd/{number}")

    def before(self, notification: seccomp.Notification) -> None:
        """A call goes home: what it is about must be there, the numbers that it takes must be free here.

        Raises CannotBring.
        """
        nr, args, cookie = notification.nr, notification.args, notification.cookie
        number = native.names_one(nr, args)
        if number is None:
            self.level(cookie, adopt=True)
            for one in sorted(self._kept & native.uses_content(nr, args, self._kept, self._remote.memory)):
                if one in self._kept:  # it may have come with another
                    self._bring(cookie, one)
        elif self.is_here(number) and number not in self._direct:
            self._bring(cookie, number)
        if native.makes_descriptors(nr, args):
            self.level(cookie, adopt=False)

    def level(self, cookie: int, adopt: bool) -> None:
        """Have home's descriptors be those that the guest has: what it opened, or something in its place.

        Raises CannotBring.
        """
        for number in self._unknown(adopt):
            try:
                if adopt:
                    self._adopt(cookie, number)
            except CannotBring as error:
                if not error.regular:
                    raise
            if number not in self._direct and number not in self._at_home:
                self._keep(number)

    def _unknown(self, adopt: bool) -> list[int]:
        """What home has not under its numbers, or (`adopt`) has but the numbers of."""
        self.hear()
        for number in list(self._direct):
            self._still_direct(number)
        here = {int(name) for name in os.listdir(f"/proc/{self._remote.pid}/fd")}
        for number in sorted(self._kept - here):
            self._kept.discard(number)
            self._plain(native.CLOSE, number)
        return sorted(here - self._at_home - set(self._direct) - (set() if adopt else self._kept))

    def _still_direct(self, number: int) -> None:
        """A direct file may have been closed here, where nobody is told of that."""
        if number in self._direct and not same_open_file(
            self._remote.pid, number, os.getpid(), self._direct[number].descriptor
        ):
            self._direct.drop(number)
            self._plain(native.CLOSE, number)

    def _keep(self, number: int) -> None:
        """The number is taken, that is all that home has to know. Raises CannotBring."""
        if number not in self._kept:
            self._opening.keep(number)
            self._kept.add(number)

    def _adopt(self, cookie: int, number: int, leaving: bool = False) -> None:
        """Home opens the file too; raises CannotBring."""
        brought = self._opening.bring(number, anyhow=leaving)
        self._kept.discard(number)
        if not brought.regular:
            self._at_home.add(number)
            if not leaving:
                self.place(cookie, number)
            return
        descriptor = seccomp.take_descriptor(self._remote.pid, number)
        self._direct.put(number, DirectFile(descriptor, brought.opened, self._node))
        if brought.apart:
            self._direct.copies.add(number)

    def _bring(self, cookie: int, number: int) -> None:
        """A call at home is about this file: home has it then, and alone if it can have but a copy.

        Raises CannotBring.
        """
        wanted = identity(self._remote.pid, number)
        try:
            self._adopt(cookie, number)
        except CannotBring as error:
            if not error.nameless:
                raise
            for one in [one for one in self._all_here() if identity(self._remote.pid, one) == wanted]:
                if one not in self._direct:
                    self._adopt(cookie, one, leaving=True)
            self._leave_copies(cookie)

    def _leave_copies(self, cookie: int) -> None:
        """What home has a copy of is home's from now on: the guest is stopped, or waits in a call."""
        for number in sorted(self._direct.copies):
            self._plain(native.LSEEK, number, self._direct[number].position, os.SEEK_SET)
            self._direct.drop(number)
            self.place(cookie, number)

    def stayed(self) -> None:
        """The guest, stopped, was to leave and did not: what is home's meanwhile stays there."""
        self._leave_copies(0)

    def _plain(self, nr: int, *numbers: int) -> int:
        return plain(self._home, nr, *numbers)

    # -- after a call ------------------------------------------------------------------------------

    def follow(self, flight: Flight, result: int) -> bool:
        """The deputy did a call: numbers are made or freed; says if the guest's kernel shall do it too."""
        notification = flight.notification
        nr, args = notification.nr, notification.args
        if result < 0:
            return False
        if nr == native.CLOSE:
            number = native.names_one(nr, args)
            if number in self._at_home:
                self._at_home.discard(number)
                return True
        elif nr == native.CLOSE_RANGE and not args[2] & 4:  # CLOSE_RANGE_CLOEXEC, <linux/close_range.h>
            for number in [one for one in self._at_home if args[0] <= one <= args[1] & 0xFFFFFFFF]:
                self.forget(number)
        outcome = flight.outcome.data if flight.outcome is not None and not flight.forward.opens else b""
        for number in native.made(nr, args, result, outcome):
            if number in self._direct:
                self.forget(number)
            else:
                self.place(notification.cookie, number)
        return nr == native.UMASK

    def place(self, cookie: int, number: int) -> None:
        """A file of home is open under that number: the guest gets something in its place."""
        self.forget(number)
        self._at_home.add(number)
        if number in self._fixed:
            self._remote.give(cookie, self._nothing, number)
            return
        descriptor, handle = self._remote.stand_in()
        try:
            self._remote.give(cookie, descriptor, number)
        except OSError:  # the caller was interrupted and comes back
            self._at_home.discard(number)
            raise
        finally:
            os.close(descriptor)
        self._stand_ins[handle] = number

    def forget(self, number: int) -> None:
        """Home has closed it, or put another file there."""
        self._at_home.discard(number)
        self._kept.discard(number)
        for handle in [handle for handle, one in self._stand_ins.items() if one == number]:
            del self._stand_ins[handle]

    def moved_to(self) -> str | None:
        """After chdir(2): the new working directory if the guest's kernel has to change its own too."""
        buffer = Out(0, _PATH_MAX, OutRule.RET)
        base = self._home.arena.base
        result, data = self._home.ask(
            Forward(_GETCWD, (base, _PATH_MAX, 0, 0, 0, 0), b"", _PATH_MAX, (buffer,), may_block=False)
        )
        before = self.directory
        self.directory = os.fsdecode(data.rstrip(b"\0")) if result > 0 else ""
        inside = self._files.holds
        return self.directory if inside(self.directory) or inside(before) else None
