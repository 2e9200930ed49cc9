"""What a guest has opened by itself, home opens too, under the same number: by its name, or without one."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from omtools.image.cage_files import NativeTree
from omtools.image.model import OpenFile
from omtools.linux import seccomp
from omtools.linux.names import as_text
from omtools.migration.at_home import AtHome, plain
from omtools.migration.calls import native
from omtools.migration.calls.model import Forward
from omtools.migration.direct import DirectFiles
from omtools.migration.openfiles import descriptor_flags, opened_elsewhere
from omtools.migration.places import cluster_inode
from omtools.migration.sent_home import memory_file, send_home
from omtools.migration.unlinked import name_of, named_again

_DUP3, _OPEN, _FCHMOD = 292, 2, 91  # <asm/unistd_64.h>
_GIVEN_ONCE = os.O_CREAT | os.O_EXCL | os.O_TRUNC | os.O_NOCTTY


class CannotBring(Exception):
    """Home cannot have an open file of the guest's.

    Attributes:
        path: of the file.
        error: the errno that says why.
        regular: it is a regular file: as long as nobody at home asks for its content, any other will do.
        nameless: nobody has a name for it, but home may have a copy.
    """

    def __init__(self, path: str, error: int, regular: bool = False, nameless: bool = False) -> None:
        super().__init__(f"{as_text(path)}: {os.strerror(error)}")
        self.path, self.error, self.regular, self.nameless = as_text(path), error, regular, nameless


@dataclass(frozen=True, slots=True)
class Brought:
    """Home has it.

    Attributes:
        opened: what home says of it.
        regular: it is a regular file, and no directory.
        apart: what home has is a copy.
    """

    opened: OpenFile
    regular: bool
    apart: bool


def identity(pid: int, number: int) -> tuple[int, int]:
    """Device and inode of a process's regular file; zeros if it is none."""
    try:
        found = os.stat(f"/proc/{pid}/fd/{number}")
    except OSError:
        return 0, 0
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else (0, 0)


class _Nameless(Exception):
    """The file has no name any more."""


class OpeningAtHome:
    """The descriptors of the guest `pid` at home."""

    def __init__(self, pid: int, tree: NativeTree, direct: DirectFiles, home: AtHome, node: int) -> None:
        self._pid, self._tree, self._direct, self._home, self._node = pid, tree, direct, home, node

    def bring(self, number: int, anyhow: bool) -> Brought:
        """Have home open what the guest has as `number`; raises CannotBring.

        A file that has lost its last name is copied if `anyhow`: then what home has is another file.
        """
        link = f"/proc/{self._pid}/fd/{number}"
        try:
            path, status = os.readlink(link), os.stat(link)
            flags = descriptor_flags(self._pid, number) & ~_GIVEN_ONCE
        except (OSError, ValueError):
            raise CannotBring(link, errno.EBADF) from None
        regular = stat.S_ISREG(status.st_mode)
        if not regular and not stat.S_ISDIR(status.st_mode):
            raise CannotBring(path, errno.EOPNOTSUPP)  # a fifo: its other end is here
        one = _One(number, link, path, status, flags, anyhow)
        try:
            told, apart = self._open(one)
        except _Nameless:
            raise CannotBring(path, errno.ENOENT, regular, nameless=True) from None
        except OSError as error:
            if not regular or status.st_uid != os.getuid():
                raise CannotBring(path, error.errno or errno.EIO, regular) from None
            try:
                with self._rights_again(number, status.st_mode):
                    told, apart = self._open(one)
            except OSError as again:
                raise CannotBring(path, again.errno or errno.EIO, regular) from None
        # home tells of names that are text alone
        opened = msgspec.msgpack.decode(told, type=OpenFile) if told else OpenFile((), path, 0, 0, flags, 0)
        return Brought(opened, regular, apart)

    def _open(self, one: _One) -> tuple[bytes, bool]:
        """By its name, by a number that home has of it already, by a copy. Raises OSError."""
        if name := name_of(self._tree, one.path, one.status):
            told = self.open(os.fsencode(name), one.flags, one.number)
            self._check(told, one)
            return told, False
        mine = identity(self._pid, one.number)
        for other in self._direct:
            if mine != (0, 0) and identity(self._pid, other) == mine:
                path = b"/proc/self/fd/%d" % other  # the deputy's own
                return self.open(path, one.flags, one.number), other in self._direct.copies
        apart = stat.S_ISREG(one.status.st_mode)
        if apart:
            if one.status.st_nlink:
                raise FileNotFoundError(errno.ENOENT, one.path)
            if not one.anyhow:
                raise _Nameless
            if opened_elsewhere(self._pid, mine):
                raise OSError(errno.EBUSY, one.path)  # a copy would hide what others write
        try:
            with named_again(self._tree, one.link, one.path, one.status) as name:
                return self.open(os.fsencode(name), one.flags, one.number), apart
        except OSError:
            if not apart:
                raise
        self._send_content(one)
        return b"", True

    def _check(self, told: bytes, one: _One) -> None:
        """Another file may have got the name in between. Raises OSError."""
        if not told:
            return
        opened = msgspec.msgpack.decode(told, type=OpenFile)
        inode, here = opened.inode, one.status
        home = self._direct.home
        if not {here.st_ino, cluster_inode(self._node, here.st_dev, here.st_ino)} & {
            inode, cluster_inode(home, opened.device, inode)
        }:  # fmt: skip
            plain(self._home, native.CLOSE, one.number)
            raise OSError(errno.ESTALE, one.path)

    def _send_content(self, one: _One) -> None:
        copy = send_home(self._home, one.link, one.status)
        try:
            self.open(b"/proc/self/fd/%d" % copy, one.flags, one.number)
            plain(self._home, _FCHMOD, one.number, stat.S_IMODE(one.status.st_mode))
        finally:
            if copy != one.number:
                plain(self._home, native.CLOSE, copy)

    @contextlib.contextmanager
    def _rights_again(self, number: int, mode: int) -> Iterator[None]:
        """While this lasts, its owner may open the file, which may have lost rights since it was opened."""
        descriptor = seccomp.take_descriptor(self._pid, number)
        try:
            os.fchmod(descriptor, stat.S_IMODE(mode) | stat.S_IRUSR | stat.S_IWUSR)
            try:
                yield
            finally:
                os.fchmod(descriptor, stat.S_IMODE(mode))
        finally:
            os.close(descriptor)

    def open(self, path: bytes, flags: int, number: int) -> bytes:
        """Have home open a file under that number; returns what its keeper says of it. Raises OSError."""
        result, told = self._ask(path, flags)
        if result == -errno.EMFILE:  # what only keeps the number there may be one too many
            plain(self._home, native.CLOSE, number)
            result, told = self._ask(path, flags)
            if result < 0:
                self.keep(number)
        self._as_number(result, number, flags)
        return told

    def _ask(self, path: bytes, flags: int) -> tuple[int, bytes]:
        base, text = self._home.arena.base, path + b"\0"
        return self._home.ask(
            Forward(_OPEN, (base, flags, 0, 0, 0, 0), text, len(text), may_block=False, opens=True)
        )

    def keep(self, number: int) -> None:
        """Have home take the number, for a regular file that is nothing else. Raises CannotBring."""
        try:
            self._as_number(memory_file(self._home), number, os.O_CLOEXEC)
        except OSError as error:
            raise CannotBring(f"/proc/self/fd/{number}", error.errno or errno.EIO) from None

    def _as_number(self, result: int, number: int, flags: int) -> None:
        if result == number:
            return
        if result >= 0:
            moved = plain(self._home, _DUP3, result, number, flags & os.O_CLOEXEC)
            plain(self._home, native.CLOSE, result)
            result = min(moved, 0)
        if result < 0:
            raise OSError(-result, os.strerror(-result))


@dataclass(frozen=True, slots=True)
class _One:
    """What is to be opened at home; `anyhow` as in `bring`."""

    number: int
    link: str
    path: str
    status: os.stat_result
    flags: int
    anyhow: bool
