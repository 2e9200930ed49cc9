"""The root of a cage whose guest opens files by itself: a file system that is nothing but a trip wire.

It has one way down to the tree that the guest may use (mounted there), and files that stand for descriptors
whose files are at home. Whatever else the guest asks for comes here as a request that is never granted: its
keeper hears of it, stops the guest, and has its call done at home.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from omtools.linux.fuse import abi
from omtools.linux.fuse.abi import Fopen, Opcode
from omtools.linux.fuse.negotiate import agree, init_flags, init_reply

STAND_IN = b"stand-in"
"""Name of the files that stand for others, for those who build the cage; the guest never finds it."""

_STAND_IN_NODE = 1 << 20
_FOR_EVER = 1 << 40  # seconds
_REQUEST = abi.MIN_READ_BUFFER + (1 << 20)
_SILENT = frozenset({Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT})
_WANTED = abi.Init.BIG_WRITES | abi.Init.PARALLEL_DIROPS


@dataclass(frozen=True, slots=True)
class Wanted:
    """The guest waits for something that is not here; it has to be refused, see `CageRoot.refuse`."""

    unique: int


@dataclass(frozen=True, slots=True)
class Closed:
    """The last descriptor of a stand-in was closed.

    Attributes:
        handle: its number.
    """

    handle: int


class CageRoot:
    """Serves the file system over the open device `device`, which it closes at the end.

    Attributes:
        device: a descriptor, readable when there are requests.
        handles: how many stand-ins were opened; each has got the next number.
    """

    def __init__(self, device: int, guest: int, way: list[bytes]) -> None:
        """`guest`: its pid as in the mount's pid namespace; `way`: names from the root down to its tree."""
        self.device = device
        os.set_blocking(device, False)
        self._guest = guest
        self._way = way
        self.handles = 0
        self._uid, self._gid = os.getuid(), os.getgid()

    def close(self) -> None:
        """Whoever waits gets an error."""
        if self.device >= 0:
            os.close(self.device)
            self.device = -1

    def requests(self) -> Iterator[Wanted | Closed]:
        """Answer what has come so far; yields what its keeper must hear of."""
        while True:
            try:
                request = os.read(self.device, _REQUEST)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EINTR):  # that one was broken off
                    continue
                return  # ENODEV: the cage is gone
            heard = self._answer(request)
            if heard is not None:
                yield heard

    def refuse(self, unique: int) -> None:
        """Have the call of a `Wanted` fail."""
        self._reply(unique, -errno.EIO)

    def _reply(self, unique: int, error: int, body: bytes = b"") -> None:
        try:
            os.write(self.device, abi.HEADER_OUT.pack(abi.HEADER_OUT.size + len(body), error, unique) + body)
        except OSError as failed:
            if failed.errno not in (errno.ENOENT, errno.ENODEV, errno.EPERM):
                raise

    def _answer(self, request: bytes) -> Wanted | Closed | None:
        _length, opcode, unique, node, _uid, _gid, pid, _extra, _padding = abi.HEADER_IN.unpack_from(request)
        body = request[abi.HEADER_IN.size :]
        if opcode in _SILENT:
            return None
        if opcode in (Opcode.RELEASE, Opcode.RELEASEDIR):
            self._reply(unique, 0)
            return Closed(abi.RELEASE_IN.unpack_from(body)[0]) if node == _STAND_IN_NODE else None
        if opcode == Opcode.INIT:
            self._reply(unique, 0, self._init(body))
        elif opcode == Opcode.GETATTR:
            self._reply(unique, 0, abi.ATTR_OUT.pack(_FOR_EVER, 0, 0, *self._attributes(node).packed()))
        elif opcode == Opcode.LOOKUP and (found := self._lookup(node, body.rstrip(b"\0"), pid)):
            again = 0 if found == _STAND_IN_NODE else _FOR_EVER
            attributes = self._attributes(found).packed()
            self._reply(unique, 0, abi.ENTRY_OUT.pack(found, 0, again, _FOR_EVER, 0, 0, *attributes))
        elif opcode == Opcode.GETXATTR:  # for capabilities, in the middle of a call; it never asks again
            self._reply(unique, -errno.ENOSYS)
        elif pid == self._guest:
            return Wanted(unique)
        elif opcode == Opcode.OPEN and node == _STAND_IN_NODE:
            self.handles += 1
            self._reply(unique, 0, abi.OPEN_OUT.pack(self.handles, Fopen.DIRECT_IO | Fopen.NOFLUSH, 0))
        elif opcode == Opcode.OPENDIR:
            self._reply(unique, 0, abi.OPEN_OUT.pack(0, 0, 0))
        else:  # ACCESS above all: the kernel then never asks again
            self._reply(unique, -errno.ENOSYS if opcode == Opcode.ACCESS else -errno.EIO)
        return None

    def _init(self, body: bytes) -> bytes:
        _major, _minor, readahead, low = abi.INIT_IN.unpack_from(body)
        agreed = agree(init_flags(low, body[abi.INIT_IN.size :]), _WANTED)
        return init_reply(readahead, agreed)

    def _lookup(self, node: int, name: bytes, pid: int) -> int:
        """The node of that name, 0 if there is none."""
        depth = node - abi.ROOT_ID
        if depth < len(self._way) and self._way[depth] == name:
            return node + 1
        return _STAND_IN_NODE if name == STAND_IN and depth == 0 and pid != self._guest else 0

    def _attributes(self, node: int) -> abi.Attributes:
        kind = stat.S_IFREG | 0o600 if node == _STAND_IN_NODE else stat.S_IFDIR | 0o555
        return abi.Attributes(node, 0, 0, 0, 0, 0, kind, 1, self._uid, self._gid, 0, 4096)
