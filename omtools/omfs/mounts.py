"""What of a machine's tree is not served: /proc and its like (what was /proc/hpc too), and oMFS itself.

The list of mounts tells, so that no file system has to be asked: to ask a FUSE mount that this very process
serves would be to wait for oneself.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from omtools.omfs.descriptors import Descriptor

_UNSERVED = frozenset(
    {
        "autofs", "binder", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts",
        "efivarfs", "fusectl", "mqueue", "nsfs", "proc", "pstore", "rpc_pipefs", "securityfs", "selinuxfs",
        "smackfs", "sysfs", "tracefs",
    }
)  # fmt: skip
_UNSERVED_FUSE = ("fuse.omfs", "fuse.sshfs.omfs", "fuse.hpc")
_ESCAPE = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of /proc/self/mountinfo.

    Attributes:
        device: st_dev of what lies on it.
        path: where it is mounted.
        kind: the file system's name.
    """

    device: int
    path: bytes
    kind: str


def parse_mounts(text: bytes) -> Iterator[Mount]:
    """The lines of a mountinfo file: proc_pid_mountinfo(5)."""
    for line in text.splitlines():
        fields = line.split(b" ")
        with contextlib.suppress(ValueError, IndexError):  # a line of another kernel's kind
            major, minor = fields[2].split(b":")
            kind = fields[fields.index(b"-", 6) + 1].decode(errors="replace")
            path = _ESCAPE.sub(lambda found: bytes([int(found[1], 8)]), fields[4])
            yield Mount(os.makedev(int(major), int(minor)), path, kind)


def is_unserved(kind: str) -> bool:
    """A file system of that name is not served."""
    return kind in _UNSERVED or kind.startswith(_UNSERVED_FUSE)


class Unserved:
    """Knows at any time what is not to be entered.

    Args:
        devices: st_dev of further file systems that are not served.
    """

    def __init__(self, devices: Iterable[int] = ()) -> None:
        self._given = frozenset(devices)
        mounts = Descriptor(os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC))
        self._list: Descriptor | None = mounts
        self._poll = select.poll()
        self._poll.register(mounts.number, select.POLLPRI)  # it changed: proc_pid_mountinfo(5)
        self._lock = threading.Lock()
        self._devices: frozenset[int] = self._given
        self._names: frozenset[tuple[int, int, bytes]] = frozenset()
        self._read()

    def hides(self, device: int, ino: int, name: bytes) -> bool:
        """In the directory of that device and inode, something unserved is mounted on `name`."""
        with self._lock:
            if self._list is not None and self._poll.poll(0):
                self._read()
            return (device, ino, name) in self._names

    def is_on(self, device: int) -> bool:
        """What has that st_dev lies on something unserved."""
        return device in self._devices

    def close(self) -> None:
        """Look no more for changes."""
        with self._lock:
            self._list = None

    def _read(self) -> None:
        if self._list is None:
            return
        number = self._list.number
        os.lseek(number, 0, os.SEEK_SET)
        text = b"".join(iter(lambda: os.read(number, 1 << 16), b""))
        unserved = [
            mount for mount in parse_mounts(text) if is_unserved(mount.kind) or mount.device in self._given
        ]
        names = set()
        for mount in unserved:
            directory, name = os.path.split(mount.path)
            if any(_is_below(directory, other.path) for other in unserved):
                continue  # nobody comes by there
            with contextlib.suppress(OSError):  # out of reach for this user, so for its clients too
                status = os.stat(directory)
                names.add((status.st_dev, status.st_ino, name))
        self._devices = self._given | {mount.device for mount in unserved}
        self._names = frozenset(names)


def _is_below(path: bytes, top: bytes) -> bool:
    return path == top or path.startswith(top.rstrip(b"/") + b"/")
