"""Files that a process has mapped, and that the node to which it goes has too, byte for byte.

Most of a small process is program text: of its interpreter, of libraries. Where the other node has the
same files, the guest maps those, and only the pages that the process has changed travel. Equal is what has
the same size and the same digest. Digests are taken by the agents, once for each file; whoever then opens
the file looks whether it is still the one that was read (`Identity`).

A twin may be nobody's who could change it under the guest: it belongs to root or to the process's owner,
nobody else may write to it, and everybody may read it.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated

import msgspec

from omtools.image.model import Region
from omtools.linux import proc
from omtools.linux.names import is_text

LEAST, MOST_BYTES = 64 << 10, 1 << 30  # of a file that is worth it
MOST = 32  # files of one process
_UNSETTLED_NS = 2_000_000_000  # what was changed so lately may change again without another time stamp
_PIECE = 1 << 20
_ANON = "/dev/"  # no file of these is one that another node has too

Known = Mapping[tuple[str, int], str]
"""Paths of twins by device (as proc_pid_maps(5) shows it) and inode."""


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """What changes when a file's content does; stat(2)."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Identity:
        """That of a file."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    @property
    def mapped_as(self) -> tuple[str, int]:
        """Device and inode as proc_pid_maps(5) shows them."""
        return f"{os.major(self.device):02x}:{os.minor(self.device):02x}", self.inode


class Offer(msgspec.Struct, frozen=True, array_like=True):
    """A file that a process has mapped: does the other node have it too?"""

    path: Annotated[str, msgspec.Meta(max_length=4096, pattern="^/")]
    size: Annotated[int, msgspec.Meta(ge=0)]
    digest: Annotated[bytes, msgspec.Meta(max_length=64)]


class Twin(msgspec.Struct, frozen=True, array_like=True):
    """A file of this node that the other node has too, and how it was when it was read."""

    path: str
    identity: Identity


def mapped_files(pid: int) -> list[str]:
    """Paths of files that a process has mapped and that may have twins, those first of which it has most."""
    sizes: dict[str, int] = {}
    shown: dict[str, tuple[str, int]] = {}
    try:
        mappings = proc.mappings(pid)
    except OSError:
        return []
    for mapping in mappings:
        if mapping.inode and not mapping.shared and _may_have_twin(mapping.name):
            sizes[mapping.name] = sizes.get(mapping.name, 0) + mapping.size
            shown[mapping.name] = mapping.device, mapping.inode
    worth = [path for path, size in sizes.items() if size >= LEAST and _is(path, shown[path])]
    return sorted(worth, key=lambda path: -sizes[path])[:MOST]


def _is(path: str, shown: tuple[str, int]) -> bool:
    """The path leads to the mapped file: there may be another now, or in this mount namespace."""
    try:
        return Identity.of(os.stat(path)).mapped_as == shown
    except OSError:
        return False


def _may_have_twin(name: str) -> bool:
    told = is_text(name) and name.startswith("/")
    return told and not name.startswith(_ANON) and not name.endswith(" (deleted)")


def read_digest(path: str, uid: int) -> tuple[Identity, bytes] | None:
    """A file's digest, and what it was when it was read; None: it can be nobody's twin.

    Args:
        path: of the file.
        uid: of the process's owner.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError):
        return None
    try:
        before = os.fstat(file)
        if not trusted(before, uid) or time.time_ns() - before.st_ctime_ns < _UNSETTLED_NS:
            return None
        digest = hashlib.sha256()
        while piece := os.read(file, _PIECE):
            digest.update(piece)
        identity = Identity.of(os.fstat(file))
        return (identity, digest.digest()) if identity == Identity.of(before) else None
    except OSError:
        return None
    finally:
        os.close(file)


def trusted(found: os.stat_result, uid: int) -> bool:
    """Whether a file may be mapped in place of its twin, see above."""
    return (
        stat.S_ISREG(found.st_mode)
        and LEAST <= found.st_size <= MOST_BYTES
        and found.st_uid in {0, uid}
        and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        and bool(found.st_mode & stat.S_IROTH)
        and (os.major(found.st_dev) != 0 or found.st_dev == os.stat("/").st_dev)  # no other machine's
    )


@contextmanager
def opened(twins: Iterable[Twin]) -> Iterator[dict[str, int]]:
    """Lends out those of them that are still the same, by path: the others are no twins any more."""
    found: dict[str, int] = {}
    try:
        for twin in twins:
            try:
                file = os.open(twin.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            except OSError:
                continue
            if Identity.of(os.fstat(file)) == twin.identity and not os.fstatvfs(file).f_flag & os.ST_NOEXEC:
                found[twin.path] = file
            else:
                os.close(file)
        yield found
    finally:
        for file in found.values():
            os.close(file)


def known(twins: Iterable[Twin], paths: Collection[str]) -> dict[tuple[str, int], str]:
    """Those of `twins` that are among the paths and still the same, as mappings show them."""
    found: dict[tuple[str, int], str] = {}
    for twin in twins:
        try:
            same = twin.path in paths and Identity.of(os.stat(twin.path)) == twin.identity
        except OSError:
            continue
        if same:
            found[twin.identity.mapped_as] = twin.path
    return found


def settle(
    regions: Sequence[Region], before: Sequence[Region], there: Collection[str] | None
) -> tuple[list[Region], list[tuple[int, int]]]:
    """The regions of a guest that leaves, and which addresses do not map any more the twins that they did.

    Args:
        regions: as they are now; what maps a twin is marked so.
        before: those of them that it came with and that mapped twins.
        there: the twins that it will find where it goes; None: at home, where the deputy maps them still.

    A twin that stands elsewhere than it did is none: at home no mapping waits for it.
    """
    found = []
    gone = [(old.start, old.end) for old in before]
    for region in regions:
        at_its_place = region.twin and any(_within(region, old) for old in before)
        if at_its_place:
            gone = [part for start, end in gone for part in _outside(start, end, region)]
        twin = at_its_place and (there is None or region.name in there)
        found.append(msgspec.structs.replace(region, twin=twin) if region.twin else region)
    return found, gone


def _within(region: Region, old: Region) -> bool:
    same_place = old.start <= region.start and region.end <= old.end
    return same_place and region.name == old.name and region.offset - region.start == old.offset - old.start


def _outside(start: int, end: int, region: Region) -> list[tuple[int, int]]:
    parts = [(start, min(end, region.start)), (max(start, region.end), end)]
    return [(first, last) for first, last in parts if first < last]
