"""Who holds and who awaits which POSIX locks, as far as one server knows. Pure.

The kernel grants the locks; each owner's are those of an open file (see `omtools.omfs.local`), and between
open files it sees no deadlock and no process. This is what it lacks: the ranges of each owner, so that a
circle of those who wait is noticed (EDEADLK) and F_GETLK can name the process that asked for a lock.

A circle that leads through a process which this server does not act for (one of the owner's machine, or of
another user, who has a server of his own) is not noticed: who waits in it can be interrupted.
"""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Hashable, Iterator
from typing import NamedTuple, TypeAlias

from omtools.omfs.operations import Lock

Owner: TypeAlias = tuple[Hashable, int]
"""A client and what it calls its lock owner."""


class Held(NamedTuple):
    """One range of one owner; `end` is inclusive."""

    start: int
    end: int
    kind: int


def with_lock(held: list[Held], lock: Lock) -> list[Held]:
    """An owner's ranges after a lock (or F_UNLCK) was set: it replaces what it covers, as fcntl(2) has it."""
    left = []
    for one in held:
        if one.end < lock.start or one.start > lock.end:
            left.append(one)
            continue
        if one.start < lock.start:
            left.append(one._replace(end=lock.start - 1))
        if one.end > lock.end:
            left.append(one._replace(start=lock.end + 1))
    if lock.kind != fcntl.F_UNLCK:
        left.append(Held(lock.start, lock.end, lock.kind))
    return sorted(left)


def conflicts(one: Held, lock: Lock) -> bool:
    """Somebody else's range forbids a lock."""
    shared = one.kind == fcntl.F_RDLCK and lock.kind == fcntl.F_RDLCK
    return not shared and one.start <= lock.end and lock.start <= one.end


class RecordLocks:
    """All POSIX locks of one server. An owner is a client and a number; may be used by several threads."""

    def __init__(self) -> None:
        self._files: dict[Hashable, dict[Owner, list[Held]]] = {}
        self._awaited: dict[Owner, tuple[Hashable, Lock]] = {}
        self._pids: dict[Owner, int] = {}
        self._guard = threading.Lock()

    def granted(self, file: Hashable, owner: Owner, lock: Lock) -> None:
        """The kernel has set (or ended) a lock; `lock.pid` is the process that asked."""
        with self._guard:
            owners = self._files.setdefault(file, {})
            held = with_lock(owners.get(owner, []), lock)
            if held:
                owners[owner] = held
                self._pids[owner] = lock.pid
                return
        self.ended(file, owner)

    def ended(self, file: Hashable, owner: Owner) -> None:
        """An owner has no locks on a file any more."""
        with self._guard:
            owners = self._files.get(file, {})
            owners.pop(owner, None)
            if not owners:
                self._files.pop(file, None)
            if not any(owner in others for others in self._files.values()):
                self._pids.pop(owner, None)

    def awaits(self, file: Hashable, owner: Owner, lock: Lock) -> bool:
        """An owner is about to wait; False, and nothing is noted, if it would wait for itself."""
        with self._guard:
            seen: set[Owner] = set()
            todo = [(owner, file, lock)]
            while todo:
                who, where, what = todo.pop()
                for blocker in self._blockers(where, who, what):
                    if blocker == owner:
                        return False
                    if blocker not in seen and blocker in self._awaited:
                        seen.add(blocker)
                        todo.append((blocker, *self._awaited[blocker]))
            self._awaited[owner] = file, lock
        return True

    def awaits_no_more(self, owner: Owner) -> None:
        """It has the lock, or has given up."""
        with self._guard:
            self._awaited.pop(owner, None)

    def holder(self, file: Hashable, owner: Owner, lock: Lock) -> tuple[Owner, int] | None:
        """Whose lock, of those known here, is in the way of `owner`, and the process that asked for it."""
        with self._guard:
            for other in self._blockers(file, owner, lock):
                return other, self._pids.get(other, 0)
        return None

    def _blockers(self, file: Hashable, owner: Owner, lock: Lock) -> Iterator[Owner]:
        for other, held in self._files.get(file, {}).items():
            if other != owner and any(conflicts(one, lock) for one in held):
                yield other
