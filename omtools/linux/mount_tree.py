"""Mounts as descriptors: open_tree, move_mount (Linux 5.2), mount_setattr (5.12); see their manual pages."""

from __future__ import annotations

import ctypes
import os
import struct
from enum import IntFlag

from omtools.linux.libc import syscall

_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442  # <asm/unistd_64.h>
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000  # <linux/fcntl.h>
_OPEN_TREE_CLONE = 1  # <linux/mount.h>
_MOVE_MOUNT_F_EMPTY_PATH = 4  # <linux/mount.h>
_MOUNT_ATTR = struct.Struct("<4Q")  # struct mount_attr: set, clear, propagation, user namespace


class Attribute(IntFlag):
    """What may be done on a mount: MOUNT_ATTR_* of <linux/mount.h>."""

    RDONLY = 1
    NOSUID = 2
    NODEV = 4


def clone_tree(path: bytes, directory: int = _AT_FDCWD) -> int:
    """A copy of the mount at `path`, from that directory down and without what is mounted below it.

    It hangs nowhere: ".." of its top is the top itself. Returns its descriptor.

    Raises:
        OSError: EINVAL in a namespace with less rights than its parent's if something is mounted below.
    """
    name = ctypes.create_string_buffer(path)
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | (0 if path else _AT_EMPTY_PATH)
    return syscall(_SYS_OPEN_TREE, directory, ctypes.addressof(name), flags)


def restrict(tree: int, attributes: Attribute) -> None:
    """Take rights away from a mount; none that it lacks is given."""
    wanted = ctypes.create_string_buffer(_MOUNT_ATTR.pack(int(attributes), 0, 0, 0), _MOUNT_ATTR.size)
    empty = ctypes.create_string_buffer(b"")
    syscall(
        _SYS_MOUNT_SETATTR, tree, ctypes.addressof(empty), _AT_EMPTY_PATH,
        ctypes.addressof(wanted), _MOUNT_ATTR.size,
    )  # fmt: skip


def attach(tree: int, target: bytes) -> None:
    """Mount a copied tree at `target`."""
    empty, name = ctypes.create_string_buffer(b""), ctypes.create_string_buffer(target)
    syscall(
        _SYS_MOVE_MOUNT, tree, ctypes.addressof(empty), _AT_FDCWD, ctypes.addressof(name),
        _MOVE_MOUNT_F_EMPTY_PATH,
    )  # fmt: skip
