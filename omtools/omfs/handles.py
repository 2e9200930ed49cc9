"""Handles of several `Files` as those of one: whose each number is, and what it is called there."""

from __future__ import annotations

import errno
import functools
import hashlib
import itertools
import threading
from dataclasses import dataclass

from omtools.migration.places import cluster_inode
from omtools.omfs.nodes import failure
from omtools.omfs.operations import ROOT, Attributes, Entry, Files
from omtools.omfs.tree import Name


@dataclass(slots=True, eq=False)
class Member:
    """One node's files.

    Attributes:
        node: its number.
        files: its files; closed when it has left.
        gone: it has left.
    """

    node: int
    files: Files
    gone: bool = False


@dataclass(slots=True, eq=False)
class Place:
    """What a node handle stands for: a member's node, a name at the top, or a path in the magic directory.

    Attributes:
        member: whose it is, if it is a member's.
        theirs: its handle there.
        device: st_dev of what it is on.
        name: the name at the top, if it is one that no member serves.
        path: the path below the magic directory, if it is in there.
        count: lookups to be forgotten.
        key: by what it is found.
    """

    member: Member | None = None
    theirs: int = 0
    device: int = 0
    name: Name | None = None
    path: tuple[bytes, ...] | None = None
    count: int = 0
    key: object = None


_inode = functools.lru_cache(1 << 16)(cluster_inode)


def inode_of_names(*names: bytes) -> int:
    """The same for what is no inode anywhere: a name of the top, or a path in the magic directory."""
    digest = hashlib.blake2b(b"/".join(names), digest_size=8, person=b"omfs top").digest()
    return int.from_bytes(digest, "little") | 1 << 63


class Handles:
    """The table of node handles and of open files."""

    def __init__(self) -> None:
        self._numbers = itertools.count(ROOT + 1)
        self._files = itertools.count(1)
        self._places: dict[int, Place] = {ROOT: Place()}
        self._by_key: dict[object, int] = {}
        self._opened: dict[int, tuple[Member | None, int, Place]] = {}
        self._lock = threading.Lock()

    @property
    def in_use(self) -> bool:
        """Something is open."""
        return bool(self._opened)

    def place(self, number: int) -> Place:
        """What a handle stands for; ESTALE."""
        place = self._places.get(number)
        if place is None or (place.member is not None and place.member.gone):
            raise failure(errno.ESTALE)
        return place

    def adopt(self, member: Member, entry: Entry) -> Entry:
        """A member's entry as one of ours, counted once more."""
        number = self._count(
            (id(member), entry.node), Place(member, entry.node, entry.attributes.dev)
        )
        return Entry(number, self.attributes(member, entry.attributes))

    def adopt_special(self, key: object, place: Place, attributes: Attributes) -> Entry:
        """An entry that no member has; equal keys are the same node."""
        return Entry(self._count(key, place), attributes)

    def _count(self, key: object, place: Place) -> int:
        with self._lock:
            number = self._by_key.get(key)
            if number is None:
                number = self._by_key[key] = next(self._numbers)
                self._places[number] = place
                place.key = key
            self._places[number].count += 1
        return number

    @staticmethod
    def attributes(member: Member, attributes: Attributes) -> Attributes:
        """With an inode number that no other node's file has."""
        mode, ino, device, *rest = attributes
        return Attributes(mode, _inode(member.node, device, ino), 0, *rest)

    def forget(self, batch: list[tuple[int, int]]) -> dict[Member, list[tuple[int, int]]]:
        """Give back lookups; returns what each member is to be told."""
        told: dict[Member, list[tuple[int, int]]] = {}
        with self._lock:
            for number, count in batch:
                place = self._places.get(number)
                if place is None or number == ROOT:
                    continue
                place.count -= count
                if place.member is not None and not place.member.gone:
                    told.setdefault(place.member, []).append((place.theirs, count))
                if place.count <= 0:
                    del self._places[number]
                    self._by_key.pop(place.key, None)
        return told

    def enroll(self, member: Member | None, file: int, place: Place) -> int:
        """Give an open file of a member (or of none) a number."""
        number = next(self._files)
        self._opened[number] = member, file, place
        return number

    def opened(self, number: int) -> tuple[Member | None, int, Place]:
        """Whose open file it is, its number there, and what it was opened on; EBADF, ESTALE."""
        try:
            found = self._opened[number]
        except KeyError:
            raise failure(errno.EBADF) from None
        if found[0] is not None and found[0].gone:
            raise failure(errno.ESTALE)
        return found

    def end(self, number: int) -> tuple[Member | None, int, Place] | None:
        """It is closed."""
        return self._opened.pop(number, None)
