"""What is open on a mount, and what its kernel wants changed of a file."""

from __future__ import annotations

import stat

from omtools.linux.fuse import abi
from omtools.linux.fuse.abi import Fattr
from omtools.omfs.fuse_nodes import MountNode
from omtools.omfs.operations import UTIME_NOW, Changes, Files, near_time


def changes_of(change: abi.SetattrIn) -> Changes:
    """What a SETATTR asks for, in the words of `Files`."""
    valid = change.valid
    atime = near_time(change.atime * 1_000_000_000 + change.atimensec)
    mtime = near_time(change.mtime * 1_000_000_000 + change.mtimensec)
    if valid & Fattr.ATIME_NOW:
        atime = UTIME_NOW
    if valid & Fattr.MTIME_NOW:
        mtime = UTIME_NOW
    return Changes(
        mode=stat.S_IMODE(change.mode) if valid & Fattr.MODE else None,
        uid=change.uid if valid & Fattr.UID else None,
        gid=change.gid if valid & Fattr.GID else None,
        size=change.size if valid & Fattr.SIZE else None,
        atime_ns=atime if valid & Fattr.ATIME else None,
        mtime_ns=mtime if valid & Fattr.MTIME else None,
    )


class Open:
    """An open file or directory: it stays with those who opened it.

    Attributes:
        files: whose it is.
        file: its number there.
        node: what was opened.
        through: the kernel reads and writes it by itself.
        written: something was written that a flush may have to tell about.
        owner: number of the node whose file it is; -1: not looked at yet, 0: nobody's.
    """

    __slots__ = ("file", "files", "node", "owner", "through", "written")

    def __init__(self, files: Files, file: int, node: MountNode, through: bool = False) -> None:
        self.files = files
        self.file = file
        self.node = node
        self.owner = -1
        self.through = through
        self.written = through  # as far as anybody knows

    def locks(self, owner: int) -> None:
        """That owner is about to take POSIX locks through it."""
        self.node.lockers.add((self.files, owner))

    def flush(self, owner: int) -> None:
        """A descriptor was closed: ask whose file it is, if there can be anything to do. Raises OSError."""
        lockers, key = self.node.lockers, (self.files, owner)
        if self.written or key in lockers:
            self.written = self.through
            lockers.discard(key)
            self.files.flush(self.file, owner)
