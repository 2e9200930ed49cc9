"""Archives that the kernel unpacks as its first root: cpio in the format `newc`.

A device node is only a record in such an archive, so nobody needs to be root to make one. Source of the
format: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst and cpio(5).
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

_MAGIC = "070701"
_TRAILER = "TRAILER!!!"
ALIGNMENT = 4  # of names, contents and whole archives


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of an archive.

    Attributes:
        path: from the root, without a leading slash.
        mode: type and permissions, as st_mode has them.
        data: contents, or a symbolic link's target.
        device: major and minor number of a device node.
    """

    path: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def directory(path: str, mode: int = 0o755) -> Entry:
    """A directory."""
    return Entry(path, stat.S_IFDIR | mode)


def file(path: str, data: bytes | str, mode: int = 0o644) -> Entry:
    """A regular file; text is written as UTF-8."""
    return Entry(path, stat.S_IFREG | mode, data.encode() if isinstance(data, str) else data)


def link(path: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(path, stat.S_IFLNK | 0o777, target.encode())


def character_device(path: str, major: int, minor: int, mode: int = 0o600) -> Entry:
    """A character device."""
    return Entry(path, stat.S_IFCHR | mode, device=(major, minor))


def complete(entries: Iterable[Entry]) -> list[Entry]:
    """The entries in order, the last of each path, with the directories that lead to them.

    Raises:
        ValueError: a path is absolute, leads out of the root, or is no plain path.
    """
    found: dict[str, Entry] = {}
    for entry in entries:
        if entry.path != str(PurePosixPath(entry.path)) or entry.path.startswith("/") or "\0" in entry.path:
            raise ValueError(entry.path)
        if ".." in PurePosixPath(entry.path).parts or entry.path == ".":
            raise ValueError(entry.path)
        found[entry.path] = entry
    for path in list(found):
        for parent in PurePosixPath(path).parents:
            if str(parent) != ".":
                found.setdefault(str(parent), directory(str(parent)))
    # A directory sorts before what is in it: its path is a prefix.
    return [found[path] for path in sorted(found)]


def pieces(entries: Iterable[Entry]) -> Iterator[bytes]:
    """An archive, in pieces whose sum is a multiple of four bytes long.

    All files belong to root and were changed at the beginning of 1970: the same entries give the same
    bytes whoever writes them, and when.
    """
    size = 0
    listed = [*enumerate(complete(entries), 1), (0, Entry(_TRAILER, 0))]
    for number, entry in listed:
        for piece in (_header(entry, number), entry.data):
            size += len(piece)
            yield piece
            yield bytes(-size % ALIGNMENT)
            size += -size % ALIGNMENT


def archive(entries: Iterable[Entry]) -> bytes:
    """An archive as a whole."""
    return b"".join(pieces(entries))


def _header(entry: Entry, number: int) -> bytes:
    name = entry.path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    fields = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, len(name), 0)
    return f"{_MAGIC}{''.join(f'{field:08X}' for field in fields)}".encode() + name
