"""What the tree looks like, and the numbers of its nodes. Pure.

    /hpc/admin/…        this node's switches and figures
    /hpc/decay/…        what a process says of its own statistics
    /hpc/nodes/N/…      each node of the cluster
    /hpc/remote/PID/…   each guest
    /hpc/PID/…          each process, as openMosix had it in /proc/PID
    /hpc/self           a symbolic link to the asking process

Names and meanings are those of openMosix (HOWTO 1.0.3, tables 8-1 to 8-5). A node's number says what it is,
so that nothing has to be remembered of what the kernel was told.
"""

from __future__ import annotations

import enum
import stat
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

READ, WRITE, BOTH, EVERYBODY = 0o444, 0o222, 0o644, 0o666


class Group(enum.IntEnum):
    """The kinds of directories; the value is part of a node's number."""

    TOP = 1
    ADMIN = 2
    DECAY = 3
    NODES = 4
    NODE = 5
    REMOTE = 6
    GUEST = 7
    PROCESS = 8


FILES: Mapping[Group, Mapping[str, int]] = MappingProxyType({
    Group.TOP: {"self": 0o777},
    Group.ADMIN: {
        "block": BOTH, "bring": BOTH, "config": BOTH, "cpulimit": BOTH, "decay-interval": BOTH, "expel": BOTH,
        "dfsalinks": BOTH, "fast-decay": BOTH, "gateways": BOTH, "loadlimit": BOTH, "lstay": BOTH,
        "mfscosts": BOTH, "mospe": BOTH, "nomfs": BOTH, "overheads": BOTH, "quiet": BOTH, "slow-decay": BOTH,
        "speed": BOTH, "sspeed": BOTH, "stay": BOTH, "version": READ,
    },
    Group.DECAY: dict.fromkeys(("clear", "cpujob", "fast", "iojob", "slow"), EVERYBODY),
    Group.NODE: dict.fromkeys(("CPUs", "load", "mem", "rmem", "speed", "status", "tmem", "util"), READ),
    Group.GUEST: {
        "from": READ, "goto": BOTH, "identity": READ, "migrate": BOTH, "statm": READ, "stats": READ,
    },
    Group.PROCESS: {
        "cantmove": READ, "goto": BOTH, "lock": BOTH, "migfilter": BOTH, "mignodes": BOTH, "migpolicy": BOTH,
        "migrate": BOTH, "nmigs": READ, "selected": BOTH, "where": READ,
    },
    Group.NODES: {},
    Group.REMOTE: {},
})  # fmt: skip
"""The files of each directory, with their modes."""

DIRECTORIES: Mapping[str, Group] = MappingProxyType(
    {"admin": Group.ADMIN, "decay": Group.DECAY, "nodes": Group.NODES, "remote": Group.REMOTE}
)
NUMBERED: Mapping[Group, Group] = MappingProxyType(
    {Group.TOP: Group.PROCESS, Group.NODES: Group.NODE, Group.REMOTE: Group.GUEST}
)
"""Directories that have one directory for each of something, whose name is its number."""

_PARENTS = {inner: outer for outer, inner in NUMBERED.items()}
_NAMES = {group: tuple(sorted(files)) for group, files in FILES.items()}
_TOP = 1  # FUSE's number of the root


class Spot(NamedTuple):
    """A directory, or a file in one.

    Attributes:
        group: the kind of the directory.
        key: which one of the kind: a node's number, a pid; else 0.
        name: of the file; "": the directory itself.
    """

    group: Group
    key: int = 0
    name: str = ""

    @property
    def number(self) -> int:
        """FUSE's number for it, and its inode's."""
        if self == ROOT:
            return _TOP
        index = _NAMES[self.group].index(self.name) + 1 if self.name else 0
        return self.group << 40 | self.key << 8 | index

    @property
    def mode(self) -> int:
        """Its type and permissions."""
        if not self.name:
            return stat.S_IFDIR | 0o555
        kind = stat.S_IFLNK if self.group is Group.TOP else stat.S_IFREG
        return kind | FILES[self.group][self.name]

    @property
    def directory(self) -> Spot:
        """The directory it is in."""
        if self.name:
            return Spot(self.group, self.key)
        outer = _PARENTS.get(self.group)
        return Spot(outer) if outer is not None else ROOT

    @property
    def readable(self) -> bool:
        """There is something to read."""
        return bool(self.mode & READ)

    @property
    def writable(self) -> bool:
        """It takes what is written."""
        return bool(self.mode & WRITE)


ROOT = Spot(Group.TOP)


def spot_of(number: int) -> Spot:
    """What that number stands for.

    Raises:
        KeyError: nothing.
    """
    if number == _TOP:
        return ROOT
    group, key, index = number >> 40, number >> 8 & 0xFFFFFFFF, number & 0xFF
    try:
        found = Group(group)
        return Spot(found, key, _NAMES[found][index - 1] if index else "")
    except (ValueError, IndexError):
        raise KeyError(number) from None


def find(directory: Spot, name: str) -> Spot | None:
    """What a name in a directory would be; whether that number exists is to be asked elsewhere."""
    if name in FILES[directory.group]:
        return Spot(directory.group, directory.key, name)
    if directory == ROOT and name in DIRECTORIES:
        return Spot(DIRECTORIES[name])
    inner = NUMBERED.get(directory.group)
    if inner is not None and name.isascii() and name.isdigit() and name[0] != "0" and len(name) < 10:
        return Spot(inner, int(name))
    return None


def fixed_names(directory: Spot) -> list[Spot]:
    """What is in a directory besides its numbers."""
    found = [Spot(group) for group in DIRECTORIES.values()] if directory == ROOT else []
    return found + [Spot(directory.group, directory.key, name) for name in _NAMES[directory.group]]


def name_of(spot: Spot) -> str:
    """Its name in its directory; "" for the root."""
    if spot.name or spot == ROOT:
        return spot.name
    if spot.key:
        return str(spot.key)
    return next(name for name, group in DIRECTORIES.items() if group is spot.group)
