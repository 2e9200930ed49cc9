"""`RemoteFiles`: the files of another machine, as `Files`.

Handles carry the number of the session they come from: when the server was gone and is back, those of before
are ESTALE without asking, and the root is good at once.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, cast

import msgspec

from omtools.omfs.connections import Connection, Connections, Lost
from omtools.omfs.nodes import failure
from omtools.omfs.operations import (
    MAX_TRANSFER,
    ROOT,
    Attributes,
    Buffer,
    Caller,
    Changes,
    Created,
    DirectoryEntry,
    Entry,
    EntryPlus,
    FileSystem,
    Interrupt,
    Lock,
)
from omtools.omfs.stream import Stream
from omtools.omfs.wire import ANSWERS, REQUESTS, BadFrame, Kind, pack_read, pack_write

_T = TypeVar("_T")

_EPOCH_SHIFT = 48
_OWN = (1 << _EPOCH_SHIFT) - 1
PATIENCE = 3.0
_FORGET_AT_ONCE = 4096
_FORGET_BY_THE_WAY = 64


class RemoteFiles:
    """The files that another machine serves.

    Args:
        connect: makes one more connection to the server (the transport's own time limit for that holds);
            raises OSError or LinkBroken. As many are made as threads ask at the same time.
        patience: seconds without any sign of life after which the server is taken for dead.
    """

    def __init__(self, connect: Callable[[], Stream], patience: float = PATIENCE) -> None:
        self._connections = Connections(connect, patience)
        self._calm: set[int] = set()  # open files whose end nobody can notice
        self._locked: set[int] = set()  # those whose end others may wait for

    # asking

    def _ask(self, kind: Kind, *asked: Any, handles: tuple[int, ...]) -> Any:
        """Ask one question.

        Args:
            kind: which.
            asked: what its body holds; handles without the mark of their session.
            handles: the nodes and files it is about, with the mark.
        """
        try:
            body = REQUESTS[kind].pack(asked)
        except (struct.error, OverflowError, msgspec.MsgspecError) as error:
            raise failure(errno.EINVAL) from error
        return self._converse(handles, lambda connection: self._answer(connection, kind, body))

    def _answer(self, connection: Connection, kind: Kind, body: bytes, data: Buffer = b"") -> Any:
        answer = ANSWERS[kind].unpack(connection.ask(kind, body, data, self._connections.is_alive))
        mark = _MARKS.get(kind)
        return answer if mark is None else mark(answer, connection.epoch << _EPOCH_SHIFT)

    def _converse(self, handles: tuple[int, ...], talk: Callable[[Connection], _T]) -> _T:
        """Talk over a connection of one's own, of the session that the handles are of."""
        connections = self._connections
        connection = connections.take()
        try:
            for handle in handles:
                if handle >> _EPOCH_SHIFT != connection.epoch and handle != ROOT:
                    raise failure(errno.ESTALE)
            result = talk(connection)
        except (Lost, BadFrame) as error:
            connections.drop(connection)
            raise failure(error.number if isinstance(error, Lost) else errno.EIO) from error
        except OSError:
            connections.give(connection)
            raise
        except BaseException:
            connections.drop(connection)  # an answer may be under way that nobody waits for
            raise
        connections.give(connection)
        return result

    def _node(self, kind: Kind, node: int, *asked: Any) -> Any:
        """Ask what is about one node, or one file."""
        return self._ask(kind, node & _OWN, *asked, handles=(node,))

    # names and nodes

    def lookup(self, caller: Caller, parent: int, name: bytes) -> Entry:  # noqa: ARG002 - the server's user asks
        """See `Files`."""
        return cast(Entry, self._node(Kind.LOOKUP, parent, name))

    def forget(self, batch: Sequence[tuple[int, int]]) -> None:
        """See `Files`."""
        # What a server had that is gone is forgotten already: it need not be looked for to be told.
        known = [pair for pair in batch if self._connections.holds(pair[0] >> _EPOCH_SHIFT)]
        if len(known) <= _FORGET_BY_THE_WAY:
            for node, count in known:
                self._connections.telling.forget(node >> _EPOCH_SHIFT, [(node & _OWN, count)])
            return
        for at in range(0, len(known), _FORGET_AT_ONCE):
            with suppress(OSError):
                self._converse((), partial(self._forget, known[at : at + _FORGET_AT_ONCE]))

    @staticmethod
    def _forget(batch: Sequence[tuple[int, int]], connection: Connection) -> None:
        body = REQUESTS[Kind.FORGET].pack(
            [(node & _OWN, count) for node, count in batch if node >> _EPOCH_SHIFT == connection.epoch]
        )
        if body:
            connection.tell(Kind.FORGET, body)

    def getattr(self, caller: Caller, node: int, file: int | None = None) -> Attributes:  # noqa: ARG002
        """See `Files`."""
        handles = (node,) if file is None else (node, file)
        return cast(
            Attributes, self._ask(Kind.GETATTR, node & _OWN, (file or 0) & _OWN, handles=handles)
        )

    def setattr(
        self, caller: Caller, node: int, changes: Changes, file: int | None = None  # noqa: ARG002
    ) -> Attributes:
        """See `Files`."""
        handles, own = ((node,), None) if file is None else ((node, file), file & _OWN)
        return cast(Attributes, self._ask(Kind.SETATTR, node & _OWN, changes, own, handles=handles))

    def readlink(self, caller: Caller, node: int) -> bytes:  # noqa: ARG002
        """See `Files`."""
        return cast(bytes, self._node(Kind.READLINK, node))

    def mknod(self, caller: Caller, parent: int, name: bytes, mode: int, rdev: int) -> Entry:
        """See `Files`."""
        return cast(Entry, self._node(Kind.MKNOD, parent, name, mode, rdev, caller.umask))

    def mkdir(self, caller: Caller, parent: int, name: bytes, mode: int) -> Entry:
        """See `Files`."""
        return cast(Entry, self._node(Kind.MKDIR, parent, mode, caller.umask, name))

    def symlink(self, caller: Caller, parent: int, name: bytes, target: bytes) -> Entry:
        """See `Files`."""
        return cast(Entry, self._node(Kind.SYMLINK, parent, name, target, caller.umask))

    def link(self, caller: Caller, node: int, parent: int, name: bytes) -> Entry:  # noqa: ARG002
        """See `Files`."""
        handles = (node, parent)
        return cast(Entry, self._ask(Kind.LINK, node & _OWN, parent & _OWN, name, handles=handles))

    def unlink(self, caller: Caller, parent: int, name: bytes) -> None:  # noqa: ARG002
        """See `Files`."""
        self._node(Kind.UNLINK, parent, name)

    def rmdir(self, caller: Caller, parent: int, name: bytes) -> None:  # noqa: ARG002
        """See `Files`."""
        self._node(Kind.RMDIR, parent, name)

    def rename(
        self, caller: Caller, parent: int, name: bytes, new_parent: int, new_name: bytes, *, flags: int = 0  # noqa: ARG002
    ) -> None:
        """See `Files`."""
        asked = (parent & _OWN, name, new_parent & _OWN, new_name, flags)
        self._ask(Kind.RENAME, *asked, handles=(parent, new_parent))

    def access(self, caller: Caller, node: int, mask: int) -> None:  # noqa: ARG002
        """See `Files`."""
        self._node(Kind.ACCESS, node, mask)

    def statfs(self, caller: Caller, node: int) -> FileSystem:  # noqa: ARG002
        """See `Files`."""
        return cast(FileSystem, self._node(Kind.STATFS, node))

    def setxattr(self, caller: Caller, node: int, name: bytes, value: bytes, flags: int = 0) -> None:  # noqa: ARG002
        """See `Files`."""
        self._node(Kind.SETXATTR, node, name, value, flags)

    def getxattr(self, caller: Caller, node: int, name: bytes) -> bytes:  # noqa: ARG002
        """See `Files`."""
        return cast(bytes, self._node(Kind.GETXATTR, node, name))

    def listxattr(self, caller: Caller, node: int) -> tuple[bytes, ...]:  # noqa: ARG002
        """See `Files`."""
        return cast(tuple[bytes, ...], self._node(Kind.LISTXATTR, node))

    def removexattr(self, caller: Caller, node: int, name: bytes) -> None:  # noqa: ARG002
        """See `Files`."""
        self._node(Kind.REMOVEXATTR, node, name)

    # opening

    def open(self, caller: Caller, node: int, flags: int) -> int:  # noqa: ARG002
        """See `Files`."""
        file = cast(int, self._node(Kind.OPEN, node, flags))
        if not flags & os.O_ACCMODE:
            self._calm.add(file)
        return file

    def create(self, caller: Caller, parent: int, name: bytes, flags: int, mode: int) -> Created:
        """See `Files`."""
        return cast(Created, self._node(Kind.CREATE, parent, flags, mode, caller.umask, name))

    def tmpfile(self, caller: Caller, directory: int, flags: int, mode: int) -> Created:
        """See `Files`."""
        return cast(Created, self._node(Kind.TMPFILE, directory, flags, mode, caller.umask))

    def opendir(self, caller: Caller, node: int) -> int:  # noqa: ARG002
        """See `Files`."""
        return cast(int, self._node(Kind.OPENDIR, node))

    # open files

    def read(self, file: int, offset: int, size: int) -> bytes:
        """See `Files`."""
        body = _packed_read(file, offset, min(size, MAX_TRANSFER))
        return cast(
            bytes, self._converse((file,), lambda connection: self._answer(connection, Kind.READ, body))
        )

    def read_into(self, file: int, offset: int, buffer: memoryview) -> int:
        """See `Files`."""
        part = buffer[:MAX_TRANSFER]
        body = _packed_read(file, offset, len(part))
        alive = self._connections.is_alive
        return self._converse(
            (file,), lambda connection: connection.ask_into(Kind.READ, body, part, alive)
        )

    def write(self, file: int, offset: int, data: Buffer, append: bool | None = None) -> int:
        """See `Files`."""
        try:
            body = pack_write(file & _OWN, offset, append)
        except struct.error as error:
            raise failure(errno.EINVAL) from error
        part = data if len(data) <= MAX_TRANSFER else memoryview(data)[:MAX_TRANSFER]
        return cast(
            int,
            self._converse((file,), lambda connection: self._answer(connection, Kind.WRITE, body, part)),
        )

    def flush(self, file: int, owner: int = 0) -> None:
        """See `Files`."""
        self._node(Kind.FLUSH, file, owner)

    def release(self, file: int) -> None:
        """See `Files`."""
        if file in self._locked:
            self._locked.discard(file)
            with suppress(OSError):
                self._node(Kind.RELEASE, file)
            return
        if file in self._calm:
            self._calm.discard(file)
            self._connections.telling.release(file >> _EPOCH_SHIFT, file & _OWN)
            return
        body = REQUESTS[Kind.RELEASE].pack((file & _OWN,))
        with suppress(OSError):
            self._converse((file,), lambda connection: connection.tell(Kind.RELEASE, body))

    def fsync(self, file: int, datasync: bool = False) -> None:
        """See `Files`."""
        self._node(Kind.FSYNC, file, datasync)

    def fallocate(self, file: int, mode: int, offset: int, length: int) -> None:
        """See `Files`."""
        self._node(Kind.FALLOCATE, file, mode, offset, length)

    def lseek(self, file: int, offset: int, whence: int) -> int:
        """See `Files`."""
        return cast(int, self._node(Kind.LSEEK, file, offset, whence))

    def copy_file_range(
        self, source: int, source_offset: int, target: int, target_offset: int, size: int
    ) -> int:
        """See `Files`."""
        asked = (source & _OWN, source_offset, target & _OWN, target_offset, size)
        return cast(int, self._ask(Kind.COPY_FILE_RANGE, *asked, handles=(source, target)))

    def descriptor(self, file: int) -> int | None:  # noqa: ARG002
        """See `Files`."""
        return None

    # directories

    def readdir(self, file: int, cookie: int, limit: int = 512) -> Sequence[DirectoryEntry]:
        """See `Files`."""
        return cast(list[DirectoryEntry], self._node(Kind.READDIR, file, cookie, limit))

    def readdirplus(
        self, caller: Caller, file: int, cookie: int, limit: int = 512  # noqa: ARG002
    ) -> Sequence[EntryPlus]:
        """See `Files`."""
        return cast(list[EntryPlus], self._node(Kind.READDIRPLUS, file, cookie, limit))

    def releasedir(self, file: int) -> None:
        """See `Files`."""
        with suppress(OSError):
            self._node(Kind.RELEASEDIR, file)

    def fsyncdir(self, file: int, datasync: bool = False) -> None:
        """See `Files`."""
        self._node(Kind.FSYNCDIR, file, datasync)

    # locks

    def getlk(self, file: int, owner: int, lock: Lock) -> Lock | None:
        """See `Files`."""
        return cast(Lock | None, self._node(Kind.GETLK, file, owner, lock))

    def setlk(
        self, file: int, owner: int, lock: Lock, wait: bool = False, interrupt: Interrupt | None = None
    ) -> None:
        """See `Files`."""
        self._lock(file)
        if wait:
            self._wait(Kind.SETLK, file, (owner, lock, True), interrupt)
        else:
            self._node(Kind.SETLK, file, owner, lock, False)

    def _lock(self, file: int) -> None:
        self._calm.discard(file)
        self._locked.add(file)

    def flock(
        self, file: int, operation: int, wait: bool = False, interrupt: Interrupt | None = None
    ) -> None:
        """See `Files`."""
        self._lock(file)
        if wait:
            self._wait(Kind.FLOCK, file, (operation, True), interrupt)
        else:
            self._node(Kind.FLOCK, file, operation, False)

    def _wait(self, kind: Kind, file: int, asked: tuple[Any, ...], interrupt: Interrupt | None) -> None:
        body = REQUESTS[kind].pack((file & _OWN, *asked))
        patience = self._connections.patience
        self._converse(
            (file,), lambda connection: connection.ask_waiting(kind, body, patience, interrupt)
        )

    def close(self) -> None:
        """See `Files`."""
        self._connections.close()


def _packed_read(file: int, offset: int, size: int) -> bytes:
    try:
        return pack_read(file & _OWN, offset, size)
    except struct.error as error:
        raise failure(errno.EINVAL) from error


def _marked_entry(entry: Entry, mark: int) -> Entry:
    return entry if entry.node == ROOT else Entry(entry.node | mark, entry.attributes)


def _marked_created(made: Created, mark: int) -> Created:
    return Created(_marked_entry(made.entry, mark), made.file | mark)


def _marked_listing(listing: list[EntryPlus], mark: int) -> list[EntryPlus]:
    return [
        EntryPlus(plus.listed, None if plus.entry is None else _marked_entry(plus.entry, mark))
        for plus in listing
    ]


def _marked_file(file: int, mark: int) -> int:
    return file | mark


_MARKS: dict[Kind, Callable[[Any, int], Any]] = {
    **dict.fromkeys((Kind.LOOKUP, Kind.MKNOD, Kind.MKDIR, Kind.SYMLINK, Kind.LINK), _marked_entry),
    **dict.fromkeys((Kind.CREATE, Kind.TMPFILE), _marked_created),
    Kind.READDIRPLUS: _marked_listing,
    Kind.OPEN: _marked_file,
    Kind.OPENDIR: _marked_file,
}
"""How answers that hold handles get the mark of their session."""
