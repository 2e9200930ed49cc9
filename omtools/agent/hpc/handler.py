"""The tree as a FUSE file system: names, attributes, open files; what is in them `Asking` knows."""

# Methods have the arguments that the protocol gives them, in its order.
# ruff: noqa: ARG002, PLR0917

from __future__ import annotations

import errno
import itertools
import os
import stat
import time
from dataclasses import dataclass, field

from omtools.agent.hpc.asking import Asking, Who
from omtools.agent.hpc.tree import NUMBERED, Group, Spot, find, fixed_names, name_of, spot_of
from omtools.agent.hpc.words import failure
from omtools.linux.fuse import abi
from omtools.linux.fuse.abi import Fattr, Fopen, Init
from omtools.linux.fuse.handler import Buffer, Directory, Handler, Request
from omtools.linux.proc import process_of

_MAP = Spot(Group.ADMIN, 0, "config")
_MAX_MAP = 1 << 20
_MAX_WRITE = 32768  # the longest that has a meaning is a mask of 65535 nodes
_BLOCK = 4096


@dataclass
class _Open:
    """An open file or directory.

    Attributes:
        spot: which.
        text: of a file, once it was read from its beginning.
        listed: of a directory, what was in it when it was opened.
        written: what waits until it is closed.
    """

    spot: Spot
    text: bytes = b""
    listed: list[Spot] = field(default_factory=list)
    written: str = ""


class HpcHandler(Handler):
    """Serves the tree.

    Args:
        asking: what the files say and do.
    """

    wanted = Init.ATOMIC_O_TRUNC | Init.BIG_WRITES | Init.PARALLEL_DIROPS

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._open: dict[int, _Open] = {}
        self._handles = itertools.count(1)
        self._begun = time.time_ns()

    # -- names and attributes

    def lookup(self, request: Request, name: bytes) -> abi.Entry:
        """See `Handler`."""
        spot = find(_spot(request), os.fsdecode(name))
        if spot is None or (not spot.name and not self._asking.exists(spot, _who(request))):
            raise failure(errno.ENOENT)
        return abi.Entry(spot.number, 0, self._attributes(spot))

    def forget(self, node: int, count: int) -> None:
        """See `Handler`: a number says itself what it stands for."""

    def getattr(self, request: Request, fh: int | None) -> abi.Attributes:
        """See `Handler`."""
        return self._attributes(_spot(request))

    def setattr(self, request: Request, change: abi.SetattrIn) -> abi.Attributes:
        """See `Handler`: to be emptied is all that a file can do, and it changes nothing."""
        if change.valid & (Fattr.MODE | Fattr.UID | Fattr.GID):
            raise failure(errno.EPERM)
        return self._attributes(_spot(request))

    def _attributes(self, spot: Spot) -> abi.Attributes:
        uid, gid = self._asking.owner(spot)
        times = (self._begun,) * 3
        links = 1 if spot.name else 2
        return abi.Attributes(spot.number, 0, 0, *times, spot.mode, links, uid, gid, 0, _BLOCK)

    def readlink(self, request: Request) -> bytes:
        """See `Handler`."""
        if _spot(request) != Spot(Group.TOP, 0, "self"):
            raise failure(errno.EINVAL)
        pid = _who(request).pid
        if not pid:
            raise failure(errno.ENOENT)
        return b"%d" % pid

    def access(self, request: Request, mask: int) -> None:
        """See `Handler`."""
        spot = _spot(request)
        if mask & os.W_OK and not spot.writable:
            raise failure(errno.EACCES)
        if mask & os.X_OK and spot.name:
            raise failure(errno.EACCES)

    def statfs(self, request: Request) -> abi.StatFs:
        """See `Handler`."""
        return abi.StatFs(0, 0, 0, 0, 0, _BLOCK, 255, _BLOCK)

    def create(
        self, request: Request, name: bytes, flags: int, mode: int, umask: int, kill: bool
    ) -> tuple[abi.Entry, abi.Opened]:
        """See `Handler`: as in /proc, what is not there cannot be made."""
        raise failure(errno.ENOENT)

    def mkdir(self, request: Request, name: bytes, mode: int, umask: int) -> abi.Entry:
        """See `Handler`."""
        raise failure(errno.EPERM)

    def unlink(self, request: Request, name: bytes) -> None:
        """See `Handler`."""
        raise failure(errno.EPERM)

    def rmdir(self, request: Request, name: bytes) -> None:
        """See `Handler`."""
        raise failure(errno.EPERM)

    def rename(self, request: Request, name: bytes, directory: int, new: bytes, flags: int) -> None:
        """See `Handler`."""
        raise failure(errno.EPERM)

    # -- files

    def open(self, request: Request, flags: int, kill: bool) -> abi.Opened:
        """See `Handler`."""
        spot, who = _spot(request), _who(request)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            if not spot.writable:
                raise failure(errno.EACCES)
            # The agent judges each write too; here, so that `echo` has the reason before it writes.
            if spot.group is not Group.DECAY and who.uid not in (0, self._asking.owner(spot)[0]):
                raise failure(errno.EPERM)
        return abi.Opened(self._enroll(_Open(spot)), Fopen.DIRECT_IO)

    def read(self, request: Request, asked: abi.ReadIn) -> int | Buffer:
        """See `Handler`: the text is that of the moment when it was read from its beginning."""
        opened = self._opened(asked.fh)
        if asked.offset == 0:
            text = self._asking.read(opened.spot, _who(request))
            opened.text = f"{text}\n".encode() if text else b""
        return opened.text[asked.offset : asked.offset + asked.size]

    def write(self, request: Request, asked: abi.WriteIn, data: memoryview) -> int:
        """See `Handler`: each call is one thing to do; but a map has lines, and is taken as a whole."""
        if len(data) > _MAX_WRITE:
            raise failure(errno.EINVAL)
        try:
            text = bytes(data).decode("ascii")
        except UnicodeDecodeError:
            raise failure(errno.EINVAL) from None
        opened = self._opened(asked.fh)
        if opened.spot == _MAP:
            if len(opened.written) + len(text) > _MAX_MAP:
                raise failure(errno.EFBIG)
            opened.written += text
        else:
            self._asking.write(opened.spot, text, _who(request))
        return len(data)

    def flush(self, request: Request, fh: int, lock_owner: int) -> None:
        """See `Handler`: only a map was held back."""
        opened = self._opened(fh)
        text, opened.written = opened.written, ""
        if text:
            self._asking.write(opened.spot, text, _who(request))

    def fsync(self, request: Request, fh: int, data_only: bool) -> None:
        """See `Handler`: nothing is held back."""

    def release(self, request: Request, asked: abi.ReleaseIn) -> None:
        """See `Handler`."""
        self._open.pop(asked.fh, None)

    # -- directories

    def opendir(self, request: Request, flags: int) -> abi.Opened:
        """See `Handler`."""
        spot = _spot(request)
        listed = fixed_names(spot)
        inner = NUMBERED.get(spot.group)
        if inner is not None:
            listed += [Spot(inner, key) for key in self._asking.keys(spot.group, _who(request))]
        return abi.Opened(self._enroll(_Open(spot, listed=listed)))

    def readdir(self, request: Request, fh: int, cookie: int, into: Directory) -> None:
        """See `Handler`."""
        opened = self._opened(fh)
        spot = opened.spot
        entries = [(b".", spot), (b"..", spot.directory)]
        entries += [(name_of(one).encode(), one) for one in opened.listed]
        for place, (name, one) in enumerate(entries[cookie:], cookie + 1):
            if not into.add(name, one.number, stat.S_IFMT(one.mode), place):
                return

    def releasedir(self, request: Request, fh: int) -> None:
        """See `Handler`."""
        self._open.pop(fh, None)

    @property
    def in_use(self) -> bool:
        """Something is open."""
        return bool(self._open)

    def _enroll(self, opened: _Open) -> int:
        handle = next(self._handles)
        self._open[handle] = opened
        return handle

    def _opened(self, fh: int) -> _Open:
        try:
            return self._open[fh]
        except KeyError:
            raise failure(errno.EBADF) from None


def _spot(request: Request) -> Spot:
    try:
        return spot_of(request.node)
    except KeyError:
        raise failure(errno.ESTALE) from None


def _who(request: Request) -> Who:
    return Who(request.uid, process_of(request.pid))
