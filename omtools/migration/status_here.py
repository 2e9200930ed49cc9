"""stat(2) of this node's files for a guest that opens them by itself: as its home would have told it."""

from __future__ import annotations

import os
import stat
import struct

from omtools.image.cage_files import NativeTree
from omtools.linux.files import Resolve, openat2
from omtools.migration.places import cluster_inode

# struct stat, <asm/stat.h>: dev ino nlink mode uid gid, rdev size blksize blocks, three times
_STAT = struct.Struct("<3Q3I4xQ3q6q24x")


class StatusHere:
    """Home sees these files by the cluster's file system, which has numbers of its own for them.

    Attributes:
        asked: home was asked how it sees them.
    """

    def __init__(self, tree: NativeTree, node: int) -> None:
        self._tree, self._node = tree, node
        self._top = os.open(tree.source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._device = -1  # home's number for all of them
        self._own_numbers = False
        self.asked = False

    def close(self) -> None:
        """It is not needed any more."""
        os.close(self._top)

    def learn(self, top: bytes) -> None:
        """How home sees the tree's top: a struct stat, or nothing."""
        self.asked = True
        if not top:
            return
        device, inode = struct.unpack_from("<QQ", top)
        status = os.fstat(self._top)
        if inode in (status.st_ino, cluster_inode(self._node, status.st_dev, status.st_ino)):
            self._device, self._own_numbers = device, inode == status.st_ino

    def of_descriptor(self, pid: int, number: int) -> bytes | None:
        """fstat(2) of a process's descriptor; None: ask home."""
        try:
            return self._packed(os.stat(f"/proc/{pid}/fd/{number}")) if self._device >= 0 else None
        except OSError:
            return None

    def of_path(self, path: str, directory: str, follow: bool) -> bytes | int | None:
        """stat(2) or lstat(2), or minus its errno; None: ask home.

        Args:
            path: as the guest said it.
            directory: its working directory at home.
            follow: a symbolic link at the end is followed.
        """
        if self._device < 0 or path.endswith("/"):
            return None
        whole = path if path.startswith("/") else f"{directory}/{path}"
        if not whole.startswith(self._tree.path + "/"):
            return None
        rest = whole.removeprefix(self._tree.path + "/").lstrip("/")
        flags = os.O_PATH | (0 if follow else os.O_NOFOLLOW)
        try:
            descriptor = openat2(
                self._top, os.fsencode(rest), flags, resolve=Resolve.BENEATH | Resolve.NO_MAGICLINKS
            )
        except FileNotFoundError as error:
            return -(error.errno or 0) if ".." not in rest else None
        except OSError:
            return None  # it may lead out of the tree, or is an error that home knows best
        try:
            return self._packed(os.fstat(descriptor))
        finally:
            os.close(descriptor)

    def _packed(self, found: os.stat_result) -> bytes | None:
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode) or stat.S_ISLNK(found.st_mode)):
            return None
        inode = found.st_ino if self._own_numbers else cluster_inode(self._node, found.st_dev, found.st_ino)
        times = (found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns)
        return _STAT.pack(
            self._device, inode, found.st_nlink, found.st_mode, found.st_uid, found.st_gid,
            found.st_rdev, found.st_size, found.st_blksize, found.st_blocks,
            *(part for time in times for part in divmod(time, 1_000_000_000)),
        )  # fmt: skip
