"""Mounting and unmounting FUSE without libfuse: by mount(2), or by fusermount3 where that is forbidden.

Sources: Documentation/filesystems/fuse.rst of the kernel, mount(2), umount(2), fusermount3(1),
proc_pid_mountinfo(5).
"""

from __future__ import annotations

import array
import contextlib
import errno
import os
import re
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from omtools.errors import CannotMount, CannotUnmount
from omtools.i18n import _
from omtools.linux.fuse.negotiate import MAX_DATA
from omtools.linux.namespaces import Mount, Umount, mount as mount2, umount2

DEVICE = "/dev/fuse"
CONNECTIONS = "/sys/fs/fuse/connections"
_FUSERMOUNT = "fusermount3"
_FUSERMOUNT_SECONDS = 20


@dataclass(frozen=True)
class MountOptions:
    """How the mount looks and who may use it.

    Attributes:
        source: what `mount` and `df` show as the device.
        subtype: the type shows as `fuse.<subtype>`.
        allow_other: users other than the mounting one may use it; as an ordinary user only inside a
            user namespace (of which all users may) or with `user_allow_other` in /etc/fuse.conf.
        default_permissions: the kernel checks modes and owners; otherwise the server has to.
        max_read: bytes that one READ may ask for.
        flags: mount(2)'s; NOSUID and NODEV are what an ordinary user gets in any case.
    """

    source: str = "omfs"
    subtype: str = "omfs"
    allow_other: bool = False
    default_permissions: bool = False
    max_read: int = MAX_DATA
    flags: Mount = Mount.NOSUID | Mount.NODEV

    def _common(self) -> list[str]:
        return [
            f"max_read={self.max_read}",
            *(["allow_other"] if self.allow_other else []),
            *(["default_permissions"] if self.default_permissions else []),
        ]

    def for_kernel(self, descriptor: int) -> str:
        """The data argument of mount(2)."""
        owner = f"fd={descriptor},rootmode={stat.S_IFDIR:o},user_id={os.geteuid()},group_id={os.getegid()}"
        return ",".join([owner, *self._common()])

    def for_fusermount(self) -> str:
        """The -o argument of fusermount3, which knows the mount flags by name and sets nosuid and nodev."""
        read_only = ["ro"] if self.flags & Mount.RDONLY else []
        names = [f"fsname={self.source}", f"subtype={self.subtype}"]
        return ",".join(["nosuid,nodev", *read_only, *names, *self._common()])


@dataclass(frozen=True)
class Mounted:
    """A mount that waits for its server.

    Attributes:
        target: where, absolute.
        descriptor: the open device (close-on-exec). The mount is dead when its last copy is closed.
        connection: the number below /sys/fs/fuse/connections; 0 if /proc does not tell.
    """

    target: str
    descriptor: int
    connection: int


_devices: set[int] = set()


def keep_device(descriptor: int) -> int:
    """Have forked children close it: one that keeps it would keep a mount alive that nobody serves."""
    _devices.add(descriptor)
    return descriptor


def close_device(descriptor: int) -> None:
    """Close a descriptor of the device; with the last one of a mount the connection breaks off."""
    if descriptor in _devices:
        _devices.discard(descriptor)
        with contextlib.suppress(OSError):
            os.close(descriptor)


def _forked() -> None:
    for descriptor in list(_devices):
        close_device(descriptor)


os.register_at_fork(after_in_child=_forked)


@dataclass(frozen=True)
class MountInfo:
    """One line of /proc/self/mountinfo, as far as it is of use here."""

    target: str
    fstype: str
    source: str
    minor: int


_OCTAL = re.compile(r"\\([0-7]{3})")


def parse_mountinfo(text: str) -> Iterator[MountInfo]:
    """The mounts in the order of mounting; lines that are not of the format are left out."""
    for line in text.split("\n"):
        fields, _separator, rest = line.partition(" - ")
        front, back = fields.split(" "), rest.split(" ")
        minor = front[2].partition(":")[2] if len(front) > 4 else ""
        if len(back) > 1 and minor.isascii() and minor.isdigit():
            yield MountInfo(_unescaped(front[4]), back[0], _unescaped(back[1]), int(minor))


def _unescaped(text: str) -> str:
    return _OCTAL.sub(lambda found: chr(int(found[1], 8) & 0xFF), text)


def _mounts() -> list[MountInfo]:
    # latin-1 both ways, because octal escapes are bytes
    text = Path("/proc/thread-self/mountinfo").read_bytes().decode("latin-1")
    return list(parse_mountinfo(text))


def find_mount(target: str) -> MountInfo | None:
    """What is mounted at exactly this path and is seen there, without touching it."""
    wanted = os.fsencode(target).decode("latin-1")
    found = None
    with contextlib.suppress(OSError):
        for one in _mounts():
            found = one if one.target == wanted else found
    return found


def mounts_below(directory: str | os.PathLike[str]) -> list[str]:
    """FUSE mounts at or below a directory, the innermost first."""
    prefix = os.path.realpath(directory)
    wanted = os.fsencode(prefix).decode("latin-1")
    found = [
        one.target.encode("latin-1").decode(errors="surrogateescape")
        for one in _mounts()
        if one.fstype.startswith("fuse") and (one.target + "/").startswith(wanted + "/")
    ]
    return found[::-1]


def _absolute(target: str | os.PathLike[str]) -> str:
    """The path with links in its *parent* resolved: resolving the last part would ask a dead mount."""
    parent, name = os.path.split(os.path.abspath(os.fspath(target)))
    return os.path.join(os.path.realpath(parent), name)


def is_dead(target: str | os.PathLike[str]) -> bool:
    """Whether a FUSE mount is there whose server has gone."""
    try:
        os.stat(target)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def mount(
    target: str | os.PathLike[str], options: MountOptions | None = None, device: str = DEVICE
) -> Mounted:
    """Mount; serve it at once, because from now on every access waits for the server.

    A dead mount at the same place is taken away first. Works as root, inside a user and mount namespace that
    is one's own, and elsewhere by fusermount3.

    Raises:
        CannotMount: with the one thing that is missing.
    """
    options = options or MountOptions()
    path = _absolute(target)
    while is_dead(path):
        unmount(path)
    _check_target(path)
    descriptor = _open(device, path)
    try:
        mount2(options.source, path, f"fuse.{options.subtype}", options.flags, options.for_kernel(descriptor))
    except PermissionError as error:
        close_device(descriptor)
        descriptor = _by_fusermount(path, options, error)
    except OSError as error:
        close_device(descriptor)
        raise CannotMount(target=path, why=_why(error)) from error
    found = find_mount(path)
    return Mounted(path, descriptor, found.minor if found else 0)


def _why(error: OSError) -> str:
    if error.errno == errno.ENODEV:
        return _("this kernel has no FUSE; `modprobe fuse` as root loads it")
    if error.errno == errno.EINVAL:
        return _("the kernel refused; was the device opened in another user namespace?")
    return error.strerror or str(error)


def _check_target(path: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise CannotMount(target=path, why=error.strerror or str(error)) from error
    if not stat.S_ISDIR(mode):
        raise CannotMount(target=path, why=_("it is not a directory"))


def _open(device: str, target: str) -> int:
    try:
        return keep_device(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError as error:
        why = _("there is no {device}; `modprobe fuse` as root brings it").format(device=device)
        raise CannotMount(target=target, why=why) from error
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.ENXIO):
            raise CannotMount(target=target, why=_why(OSError(errno.ENODEV, ""))) from error
        why = _("{device} may not be opened; as root: `chmod 666 {device}`").format(device=device)
        raise CannotMount(target=target, why=why) from error


def _by_fusermount(target: str, options: MountOptions, refused: OSError) -> int:
    """Have the set-uid program mount, and get the open device from it by SCM_RIGHTS: fusermount3(1)."""
    program = shutil.which(_FUSERMOUNT)
    if program is None:
        why = _("only root may mount here, and fusermount3 (package fuse3) is not installed")
        raise CannotMount(target=target, why=why) from refused
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        done = _run(
            [program, "-o", options.for_fusermount(), "--", target],
            {**os.environ, "_FUSE_COMMFD": str(theirs.fileno())}, (theirs.fileno(),),
        )  # fmt: skip
        theirs.close()
        ours.settimeout(_FUSERMOUNT_SECONDS)
        received = _receive_descriptor(ours) if done.returncode == 0 else None
    if received is None:
        why = done.stderr.strip().removeprefix("fusermount3:").strip() or _("fusermount3 gave no device")
        raise CannotMount(target=target, why=why) from refused
    os.set_inheritable(received, False)
    return keep_device(received)


def _run(
    argv: list[str], environment: dict[str, str] | None = None, pass_fds: tuple[int, ...] = ()
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv, env=environment, pass_fds=pass_fds, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, errors="replace", timeout=_FUSERMOUNT_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(argv, 1, "", str(error))


def _receive_descriptor(connection: socket.socket) -> int | None:
    numbers = array.array("i")
    try:
        _data, ancillary, _flags, _address = connection.recvmsg(1, socket.CMSG_SPACE(numbers.itemsize))
    except OSError:
        return None
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS and len(data) >= numbers.itemsize:
            numbers.frombytes(data[: numbers.itemsize])
            return numbers[0]
    return None


def abort(connection: int) -> bool:
    """Break a connection off through fusectl: its callers get ECONNABORTED. False if that is not at hand."""
    if not connection:
        return False
    try:
        Path(CONNECTIONS, str(connection), "abort").write_text("1")
    except OSError:
        return False
    return True


def unmount(target: str | os.PathLike[str], *, force: bool = True) -> bool:
    """Take a mount away at once: what has files open there keeps a mount without a place.

    Args:
        target: where it is; a place where nothing is mounted is fine.
        force: if the mount is in use, also break its connection off where the kernel allows it (umount2(2),
            MNT_FORCE), so that those users get ENOTCONN instead of waiting for a server.

    Returns:
        Whether nobody used it.

    Raises:
        CannotUnmount: the kernel and fusermount3 refused.
    """
    path = _absolute(target)
    refused = _unmount_unused(path)
    if refused is None:
        return True
    ways = [Umount.FORCE | Umount.DETACH, Umount.DETACH] if force else [Umount.DETACH]
    for flags in ways:
        try:
            umount2(path, flags | Umount.NOFOLLOW)
        except OSError as error:
            refused = error
        else:
            return False
    return _unmount_by_fusermount(path, refused)


def unmount_unused(target: str | os.PathLike[str]) -> bool:
    """Take a mount away if this process may and nobody uses it; whether it is gone."""
    return _unmount_unused(_absolute(target)) is None


def _unmount_unused(path: str) -> OSError | None:
    try:
        umount2(path, Umount.NOFOLLOW)
    except OSError as error:
        # EINVAL, ENOENT: nothing is mounted there
        return None if error.errno in (errno.EINVAL, errno.ENOENT) else error
    return None


def _unmount_by_fusermount(path: str, refused: OSError) -> bool:
    program = shutil.which(_FUSERMOUNT)
    if program is None:
        raise CannotUnmount(target=path, why=refused.strerror or str(refused)) from refused
    if _run([program, "-u", "-q", "--", path]).returncode == 0:
        return True
    done = _run([program, "-u", "-z", "--", path])
    if done.returncode != 0 and find_mount(path) is not None:
        why = done.stderr.strip().removeprefix("fusermount3:").strip() or refused.strerror or str(refused)
        raise CannotUnmount(target=path, why=why) from refused
    return False
