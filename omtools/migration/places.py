"""Where a file of another node lies, seen from here (DFSA), pure but for `open_place`.

Every node's files can be reached in three ways: this node's own by the kernel alone, any other's through the
cluster's file system, and every file through the deputy, which is slower and always right.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import struct

import msgspec

from omtools.linux.files import Resolve, openat2
from omtools.migration.reach import Reach


class Place(msgspec.Struct, frozen=True):
    """A file's place on this node.

    Attributes:
        node: whose file it is.
        base: directory below which it lies.
        rest: its path from there.
        writable: it may be opened for writing.
    """

    node: int
    base: str
    rest: str
    writable: bool = True


_INODE = struct.Struct("<QQQ")


def cluster_inode(node: int, device: int, inode: int) -> int:
    """The inode number that a node's file has in the cluster's file system, which is one to programs."""
    digest = hashlib.blake2b(_INODE.pack(node, device, inode), digest_size=8).digest()
    return int.from_bytes(digest, "little") | 1 << 63  # never one of the small ones


def locate(path: str, reach: Reach, home: int, here: int) -> Place | None:
    """Where the file lies that is called `path` at home (canonical, absolute); None: ask the deputy.

    Args:
        path: as the kernel of the home node names an open file.
        reach: what can be reached.
        home: number of the home node.
        here: number of this node.
    """
    node, rest = owner(path, reach, home)
    if not rest or posixpath.normpath(path) != path:
        return None
    if node != here:
        return Place(node, f"{reach.mount}/{node}", rest) if node and reach.mount else None
    for export in sorted(reach.exports, key=lambda export: -len(export.root)):
        below = _below("/" + rest, export.root)
        if below:
            return Place(node, reach.root.rstrip("/") + export.root, below, export.writable)
    return None


def owner(path: str, reach: Reach, home: int) -> tuple[int, str]:
    """Whose file it is that is called so at home (0: nobody's), and its path there, no slash first."""
    inside = _below(path, reach.home_mount) if reach.home_mount else None
    if inside is None:
        return home, path.lstrip("/")
    name, _slash, rest = inside.partition("/")
    return int(name) if name.isdigit() else reach.names.get(name, 0), rest


def _below(path: str, directory: str) -> str | None:
    """The path from there, None if it does not lie below."""
    prefix = directory.rstrip("/") + "/"
    return path.removeprefix(prefix) if path.startswith(prefix) else None


def open_place(place: Place, flags: int) -> int:
    """Open it; never outside of its base, never by a symbolic link. Raises OSError."""
    base = os.open(place.base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return openat2(base, os.fsencode(place.rest), flags, resolve=Resolve.BENEATH | Resolve.NO_SYMLINKS)
    finally:
        os.close(base)
