"""Bytes and calls by whose files they are, and by file: of one process, pure.

The sums per node are what was counted. Which files of a node they belong to is counted where a call passes a
keeper, and attributed where the kernel does it by itself: see `omtools.migration.counting`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from omtools.linux.names import as_text

LARGEST = 16  # files of a process that are told by name; the others are one entry per node, without a name
_KEPT = 4 * LARGEST
_LONGEST = 512  # characters of a path


class FileIo(msgspec.Struct, frozen=True):
    """What a process has done with a file.

    Attributes:
        node: number of the node whose file it is.
        path: what the process's home calls it; "": all that have no entry of their own.
        read: bytes.
        written: bytes.
        calls: how many it took.
    """

    node: int
    path: str
    read: int = 0
    written: int = 0
    calls: int = 0

    @property
    def bytes(self) -> int:
        """Both ways."""
        return self.read + self.written

    def plus(self, other: FileIo) -> FileIo:
        """The sum, under this one's name."""
        return FileIo(
            self.node, self.path, self.read + other.read, self.written + other.written,
            self.calls + other.calls,
        )  # fmt: skip


def named(path: str) -> str:
    """A path as it is told: names may be any bytes, and many of them."""
    shown = as_text(path)
    return shown if len(shown) <= _LONGEST else "…" + shown[-_LONGEST:]


class Ledger:
    """Adds up; of very many files the smallest lose their names."""

    def __init__(self) -> None:
        self._entries: dict[tuple[int, str], FileIo] = {}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, one: FileIo) -> None:
        """More of a file."""
        key = one.node, one.path
        known = self._entries.get(key)
        self._entries[key] = one if known is None else known.plus(one)
        if len(self._entries) > _KEPT:
            self._entries = {(kept.node, kept.path): kept for kept in largest(self._entries.values())}

    def add_all(self, entries: Iterable[FileIo]) -> None:
        """More of several."""
        for one in entries:
            self.add(one)

    def told(self) -> list[FileIo]:
        """The largest files by name, and the rest of each node; the largest first."""
        return largest(self._entries.values())


def largest(entries: Iterable[FileIo]) -> list[FileIo]:
    """As `Ledger.told`."""
    by_size = sorted(entries, key=lambda one: (-one.bytes, -one.calls, one.node, one.path))
    named = [one for one in by_size if one.path][:LARGEST]
    kept = {(one.node, one.path) for one in named}
    rest: dict[int, FileIo] = {}
    for one in by_size:
        if (one.node, one.path) not in kept:
            rest[one.node] = rest.get(one.node, FileIo(one.node, "")).plus(one)
    return named + sorted(rest.values(), key=lambda one: -one.bytes)


def sum_of(*lists: Iterable[FileIo]) -> list[FileIo]:
    """Several such lists as one."""
    ledger = Ledger()
    for entries in lists:
        ledger.add_all(entries)
    return ledger.told()


def by_node(entries: Iterable[FileIo]) -> dict[int, FileIo]:
    """The sums per node; their paths are empty."""
    found: dict[int, FileIo] = {}
    for one in entries:
        found[one.node] = found.get(one.node, FileIo(one.node, "")).plus(one)
    return found


def since(before: Mapping[int, int], entries: Iterable[FileIo]) -> tuple[dict[int, int], dict[int, int]]:
    """Bytes per node, and how many of them are new.

    Args:
        before: bytes per node when it was asked last.
        entries: what there is now.
    """
    now = {node: one.bytes for node, one in by_node(entries).items()}
    return now, {node: max(0, amount - before.get(node, 0)) for node, amount in now.items()}


def allot(total: int, weights: Sequence[int]) -> list[int]:
    """Divide a total in the proportion of weights, into whole numbers whose sum it is.

    With no weight at all nobody gets anything.
    """
    whole = sum(weights)
    if whole <= 0 or total <= 0:
        return [0] * len(weights)
    shares = [total * weight // whole for weight in weights]
    shares[max(range(len(weights)), key=weights.__getitem__)] += total - sum(shares)
    return shares
