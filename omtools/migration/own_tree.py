"""Which part of a node's files a process that comes will use by itself (DFSA), see `image.cage_root`.

Home tells where the process is at work: its directory, what it has open, what its arguments name. If one of
these places is this node's, the guest gets the directories around it.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable, Iterator
from pathlib import Path

from omtools.image.cage_files import NativeTree
from omtools.linux.files import Resolve, openat2
from omtools.linux.fuse.mount import MountInfo, parse_mountinfo
from omtools.linux.names import is_text
from omtools.migration.places import locate
from omtools.migration.reach import Reach

_MOST_PLACES = 64
# proc_pid_mountinfo(5): what is on a disk or in memory, and nothing that a kernel makes up.
_PLAIN = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "bcachefs", "tmpfs", "overlay"})


def places(pid: int, arguments: Iterable[str]) -> list[str]:
    """Where a process is at work, in the order of weight; nothing if its files may not grow without limit.

    A limit of their size (RLIMIT_FSIZE) would hold for what stands for files of home too.
    """
    found: dict[str, None] = {}
    try:
        if resource.prlimit(pid, resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY:
            return []
        directory = os.readlink(f"/proc/{pid}/cwd")
        found[directory] = None
        for number in os.listdir(f"/proc/{pid}/fd"):
            found[os.readlink(f"/proc/{pid}/fd/{number}")] = None
    except OSError:
        return []
    for word in arguments:
        for part in word.replace("=", "\0").replace(",", "\0").replace(":", "\0").split("\0"):
            found[os.path.normpath(os.path.join(directory, part))] = None
    return [place for place in found if place.startswith("/") and is_text(place)][:_MOST_PLACES]


def arguments(pid: int) -> list[str]:
    """A process's arguments, without its own name; none if they cannot be read."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(word) for word in raw.split(b"\0")[1:] if word]


def choose(found: Iterable[str], reach: Reach, home: int, here: int) -> NativeTree | None:
    """The tree for a guest that is at work in one of these places, None if none of them is this node's."""
    if not reach.home_mount:
        return None
    text = Path("/proc/self/mountinfo").read_bytes().decode(errors="surrogateescape")
    mounts = list(parse_mountinfo(text))
    for place in found:
        if place.startswith(reach.home_mount + "/"):
            for tree in _around(place, reach, home, here):
                if _is_plain(tree.source, mounts) and not _has_exports(tree.source, reach):
                    return tree
    return None


def _around(place: str, reach: Reach, home: int, here: int) -> Iterator[NativeTree]:
    """The directories around a place of this node, the largest first."""
    located = locate(place, reach, home, here)
    if located is None or located.node != here:
        return
    name = place.removesuffix("/" + located.rest)
    steps = located.rest.split("/")
    for count in range(1, len(steps) + 1):
        rest = "/".join(steps[:count])
        if _is_directory(located.base, rest):
            yield NativeTree(f"{name}/{rest}", os.path.join(located.base, rest), located.writable)


def _has_exports(source: str, reach: Reach) -> bool:
    """There are directories in it that are offered with options of their own."""
    roots = [reach.root.rstrip("/") + export.root for export in reach.exports]
    return any(root.startswith(source.rstrip("/") + "/") for root in roots)


def _is_directory(base: str, rest: str) -> bool:
    """It can be entered, and no symbolic link leads to it."""
    try:
        top = os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            flags = os.O_PATH | os.O_DIRECTORY
            os.close(openat2(top, os.fsencode(rest), flags, resolve=Resolve.BENEATH | Resolve.NO_SYMLINKS))
        finally:
            os.close(top)
    except OSError:
        return False
    return True


def _is_plain(source: str, mounts: list[MountInfo]) -> bool:
    """It lies on one file system as disks have it, and nothing is mounted below it."""
    if any(one.target.startswith(source.rstrip("/") + "/") for one in mounts):
        return False
    above = [one for one in mounts if (source + "/").startswith(one.target.rstrip("/") + "/")]
    nearest = max((len(one.target) for one in above), default=0)
    # of those that are mounted at one place the last one is seen
    return bool(above) and [one for one in above if len(one.target) == nearest][-1].fstype in _PLAIN
