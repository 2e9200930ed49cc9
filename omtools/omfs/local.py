"""`LocalFiles`: the files of this machine, as `Files`; of its parts, the locks are here.

POSIX locks are the process's that sets them, and this process acts for many. So each lock owner gets an open
file of its own per inode, and the locks are that open file's (F_OFD_SETLK): owners conflict with each other,
with owners that other servers act for, and with ordinary processes of this machine, as the kernel has it.
What the kernel cannot see between open files, deadlocks and who asked for a lock, `omtools.omfs.record_locks`
knows.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Iterable, Iterator
from functools import partial

from omtools.linux.locks import Range, Waiting, get_conflict, set_lock, wait_for_flock, wait_for_lock
from omtools.omfs.descriptors import Descriptor
from omtools.omfs.exports import Exports
from omtools.omfs.local_files import LocalOpened
from omtools.omfs.nodes import Opened, failure
from omtools.omfs.operations import MAX_OFFSET, Interrupt, Lock
from omtools.omfs.record_locks import RecordLocks

_RECORDS = RecordLocks()
"""Of all clients of this process."""


class _Held:
    """The open file that an owner's locks on one inode belong to.

    Attributes:
        descriptor: of it.
        mode: for what it is open.
    """

    __slots__ = ("descriptor", "mode")

    def __init__(self, descriptor: Descriptor, mode: int) -> None:
        self.descriptor = descriptor
        self.mode = mode

    def end(self) -> None:
        """The locks end, also where the descriptor is somebody else's too and is not closed yet."""
        set_lock(self.descriptor.number, Range(fcntl.F_UNLCK, 0, 0))


def _allows(mode: int, kind: int) -> bool:
    """A file open in that mode may be locked so."""
    forbidden = {fcntl.F_RDLCK: os.O_WRONLY, fcntl.F_WRLCK: os.O_RDONLY}.get(kind)
    return mode & os.O_ACCMODE != forbidden


def _covers(mode: int, flags: int) -> bool:
    """A file open in that mode may be locked as one that is open with these flags may."""
    return mode == os.O_RDWR or mode == flags & os.O_ACCMODE


def _key(opened: Opened) -> tuple[int, int]:
    return opened.node.device, opened.node.ino


def _range(lock: Lock) -> Range:
    if lock.start < 0 or lock.end < lock.start:
        raise failure(errno.EINVAL)
    length = 0 if lock.end >= MAX_OFFSET else lock.end - lock.start + 1
    return Range(lock.kind, lock.start, length)


class LocalFiles(LocalOpened):
    """The files of this machine.

    Args:
        exports: what is offered.
        unserved_devices: st_dev of file systems that are not entered (those of /proc's kind, and oMFS where
            it is mounted under its own name, are never entered).
        node_descriptors: how many descriptors nodes may hold; None: a quarter of what the process may have.

    Raises:
        OSError: the directory at the top cannot be opened.
    """

    def __init__(
        self, exports: Exports, unserved_devices: Iterable[int] = (), node_descriptors: int | None = None
    ) -> None:
        super().__init__(exports, unserved_devices, node_descriptors)
        # per inode and owner; no other file gets that inode number while the owner's open file is there
        self._locks: dict[tuple[int, int], dict[int, _Held]] = {}
        self._locks_guard = threading.Lock()

    def flush(self, file: int, owner: int = 0) -> None:
        """See `Files`."""
        opened = self._file(file)
        self._end_locks(opened, owner)
        if opened.flags & os.O_ACCMODE != os.O_RDONLY:
            # A file system that is remote itself says now what came of the writes.
            os.close(os.dup(opened.descriptor.number))

    def release(self, file: int) -> None:
        """See `Files`."""
        opened = self._opened.pop(file, None)
        if opened is not None:
            for owner in tuple(opened.owners):  # those who did not flush
                self._end_locks(opened, owner)

    def _end_locks(self, opened: Opened, owner: int) -> None:
        key = _key(opened)
        opened.owners.discard(owner)
        with self._locks_guard:
            owners = self._locks.get(key)
            if owners is None:
                return
            held = owners.pop(owner, None)
            if not owners:
                del self._locks[key]
        if held is not None:
            held.end()
            _RECORDS.ended(key, (self, owner))

    def getlk(self, file: int, owner: int, lock: Lock) -> Lock | None:
        """See `Files`."""
        opened = self._file(file)
        wanted = _range(lock)
        held = self._of_owner(opened, owner)
        conflict = get_conflict(held.descriptor.number, wanted)
        if conflict is None:
            return None
        end = MAX_OFFSET if not conflict.length else conflict.start + conflict.length - 1
        found = Lock(conflict.kind, conflict.start, end, conflict.pid)
        if conflict.pid < 0:  # an open file's: perhaps one of ours
            asked = lock._replace(start=max(lock.start, found.start), end=min(lock.end, end))
            holder = _RECORDS.holder(_key(opened), (self, owner), asked)
            if holder is not None and holder[0][0] is self:  # else it is another machine's process
                return found._replace(pid=holder[1] or found.pid)
        return found

    def setlk(
        self, file: int, owner: int, lock: Lock, wait: bool = False, interrupt: Interrupt | None = None
    ) -> None:
        """See `Files`."""
        opened = self._file(file)
        if not _allows(opened.flags, lock.kind):
            raise failure(errno.EBADF)
        wanted = _range(lock)
        held = self._of_owner(opened, owner)
        if not _allows(held.mode, lock.kind):
            raise failure(errno.ENOLCK)  # permissions have changed since the owner's first lock
        try:
            set_lock(held.descriptor.number, wanted)
        except OSError as error:
            if not wait or error.errno not in {errno.EAGAIN, errno.EACCES}:
                raise
            self._wait_for(opened, owner, lock, interrupt)
        _RECORDS.granted(_key(opened), (self, owner), lock)

    def _wait_for(self, opened: Opened, owner: int, lock: Lock, interrupt: Interrupt | None) -> None:
        held = self._of_owner(opened, owner)
        if not _RECORDS.awaits(_key(opened), (self, owner), lock):
            raise failure(errno.EDEADLK)
        try:
            with _breakable(interrupt) as waiting:
                wait_for_lock(held.descriptor.number, _range(lock), waiting)
        finally:
            _RECORDS.awaits_no_more((self, owner))

    def flock(
        self, file: int, operation: int, wait: bool = False, interrupt: Interrupt | None = None
    ) -> None:
        """See `Files`."""
        descriptor = self._file(file).descriptor
        operation &= ~fcntl.LOCK_NB
        try:
            fcntl.flock(descriptor.number, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                raise
            with _breakable(interrupt) as waiting:
                wait_for_flock(descriptor.number, operation, waiting)

    def close(self) -> None:
        """See `Files`."""
        for key, owners in list(self._locks.items()):
            for owner in list(owners):
                _RECORDS.ended(key, (self, owner))
        self._locks.clear()
        self._opened.clear()
        self._nodes.clear()
        self._unserved.close()

    def _of_owner(self, opened: Opened, owner: int) -> _Held:
        key = _key(opened)
        with self._locks_guard:
            held = self._locks.get(key, {}).get(owner)
            if held is None:
                held = self._open_for_locks(opened)
                self._locks.setdefault(key, {})[owner] = held
            opened.owners.add(owner)
        return held

    def _open_for_locks(self, opened: Opened) -> _Held:
        """As much access as can be had, for the owner may have other open files with more."""
        path = opened.descriptor.path
        for mode in (os.O_RDWR, os.O_RDONLY, os.O_WRONLY):
            if not _covers(mode, opened.flags):
                continue
            flags = mode | os.O_CLOEXEC
            with contextlib.suppress(OSError):
                return _Held(Descriptor(self._retry(partial(os.open, path, flags))), mode)
        # Its mode has changed since it was opened: then what is open serves, but for one owner only.
        others = self._locks.get(_key(opened), {}).values()
        if any(held.descriptor is opened.descriptor for held in others):
            raise failure(errno.ENOLCK)
        return _Held(opened.descriptor, opened.flags)


@contextlib.contextmanager
def _breakable(interrupt: Interrupt | None) -> Iterator[Waiting]:
    waiting = Waiting()
    if interrupt is not None:
        interrupt.attach(waiting.break_off)
    try:
        yield waiting
    finally:
        if interrupt is not None:
            interrupt.attach(None)
