"""Namespaces, mounts and the birth of processes: unshare, setns, clone3, mount, pivot_root, prctl.

Everything here is one system call, or one file of /proc, with its arguments typed and its failure an
`OSError`. The policy (which namespaces, which mounts) belongs to the callers: the guest's cage and the lab.

All constants are the kernel's; the comment above each group names the header they come from.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
import os
import signal
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omtools.linux.libc import fail

# System call numbers of x86-64, for those that glibc has no wrapper for: asm/unistd_64.h
SYS_PIVOT_ROOT = 155
SYS_CLONE3 = 435
SYS_EXECVEAT = 322
SYS_CAPGET = 125
SYS_CAPSET = 126


class Clone(enum.IntFlag):
    """What a new process, or the caller, gets of its own: linux/sched.h."""

    NEWTIME = 0x0000_0080
    VM = 0x0000_0100
    PIDFD = 0x0000_1000
    PARENT = 0x0000_8000
    NEWNS = 0x0002_0000
    NEWCGROUP = 0x0200_0000
    NEWUTS = 0x0400_0000
    NEWIPC = 0x0800_0000
    NEWUSER = 0x1000_0000
    NEWPID = 0x2000_0000
    NEWNET = 0x4000_0000
    CLEAR_SIGHAND = 0x1_0000_0000


class Mount(enum.IntFlag):
    """Flags of mount(2): linux/mount.h."""

    RDONLY = 1
    NOSUID = 2
    NODEV = 4
    NOEXEC = 8
    REMOUNT = 32
    NOATIME = 1024
    BIND = 4096
    MOVE = 8192
    REC = 16384
    PRIVATE = 1 << 18
    SLAVE = 1 << 19
    SHARED = 1 << 20


class Umount(enum.IntFlag):
    """Flags of umount2(2): linux/fs.h (MNT_*, UMOUNT_NOFOLLOW)."""

    FORCE = 1
    DETACH = 2
    NOFOLLOW = 8


class Pr(enum.IntEnum):
    """Options of prctl(2) that concern a process's place among others: linux/prctl.h."""

    SET_PDEATHSIG = 1
    GET_DUMPABLE = 3
    SET_DUMPABLE = 4
    SET_NAME = 15
    SET_CHILD_SUBREAPER = 36
    SET_NO_NEW_PRIVS = 38
    CAP_AMBIENT = 47
    SET_PTRACER = 0x59616D61


# The files of /proc/PID/ns, in the order in which setns(2) has to take them: the user namespace first,
# because it gives the capabilities for the others; see user_namespaces(7).
NAMESPACES: dict[str, Clone] = {
    "user": Clone.NEWUSER,
    "mnt": Clone.NEWNS,
    "uts": Clone.NEWUTS,
    "ipc": Clone.NEWIPC,
    "net": Clone.NEWNET,
    "pid": Clone.NEWPID,
    "time": Clone.NEWTIME,
    "cgroup": Clone.NEWCGROUP,
}

# execveat(2): linux/fcntl.h
AT_EMPTY_PATH = 0x1000

_CAP_AMBIENT_RAISE = 2  # PR_CAP_AMBIENT_RAISE: linux/prctl.h
_CAPABILITY_VERSION_3 = 0x20080522  # _LINUX_CAPABILITY_VERSION_3: linux/capability.h

# clock ids that a time namespace can shift: linux/time.h
CLOCK_MONOTONIC = 1
CLOCK_BOOTTIME = 7

_libc = ctypes.CDLL(None, use_errno=True)
# Calls through this one keep the interpreter's lock: needed around clone3, where two processes return.
_locked = ctypes.PyDLL(None, use_errno=True)

_libc.unshare.argtypes = [ctypes.c_int]
_libc.setns.argtypes = [ctypes.c_int, ctypes.c_int]
_libc.mount.argtypes = [
    ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p,
]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
_libc.sethostname.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
_libc.setdomainname.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
_libc.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
_libc.syscall.restype = ctypes.c_long
_locked.syscall.restype = ctypes.c_long


def _check(result: int, what: str) -> int:
    if result == -1:
        raise fail(what)
    return result


def unshare(flags: Clone) -> None:
    """Give the calling thread (NEWPID, NEWTIME: its future children) namespaces of its own.

    Raises:
        OSError: EPERM where user namespaces are forbidden, ENOSPC at their limit, EINVAL when the process has
            several threads and asks for NEWUSER.
    """
    _check(_libc.unshare(int(flags)), f"unshare {flags!r}")


def setns(fd: int, flags: Clone) -> None:
    """Enter the namespace that `fd` (a file of /proc/PID/ns) is, or several of a process that a pidfd names.

    Args:
        fd: descriptor of a namespace file, or a pidfd.
        flags: for a namespace file the kind it must be of (0: any); for a pidfd all kinds to enter at once.
    """
    _check(_libc.setns(fd, int(flags)), f"setns {flags!r}")


class CloneArgs(ctypes.Structure):
    """struct clone_args, version 2 (88 bytes): linux/sched.h."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size", "tls",
            "set_tid", "set_tid_size", "cgroup",
        )
    ]


@dataclass(frozen=True)
class Cloned:
    """What `clone3` returned: in the child pid 0 and no pidfd, as fork has it.

    Attributes:
        pid: the child's pid in the caller's pid namespace.
        pidfd: its pidfd (close-on-exec) if asked for, else -1.
    """

    pid: int
    pidfd: int = -1


def clone3(
    flags: Clone = Clone(0),  # noqa: B008 - an immutable constant
    *,
    set_tid: Sequence[int] = (),
    pidfd: bool = False,
    exit_signal: int = signal.SIGCHLD,
    bare: bool = False,
) -> Cloned:
    """Make a child as fork does, with namespaces of its own and under chosen pids.

    The caller must have a single thread, or the child must do nothing but exec. glibc does not know of the
    clone: in the child its cached thread id is the parent's, so the child must neither raise() nor use
    recursive or robust pthread mutexes of glibc; os.kill(os.getpid(), …) is fine.

    Args:
        flags: new namespaces. VM must not be among them: both processes return from here.
        set_tid: the child's pid, first in the innermost pid namespace, then outwards. Needs CAP_SYS_ADMIN or
            CAP_CHECKPOINT_RESTORE in the user namespace that owns each of them.
        pidfd: return a pidfd of the child too.
        exit_signal: what the parent gets when the child dies.
        bare: leave Python's own fork hooks out; for a child that execs at once or ends by os._exit.

    Raises:
        OSError: EEXIST if a pid of `set_tid` is taken, EPERM, ENOSYS, ENOSPC, EAGAIN.
    """
    tids = (ctypes.c_int32 * max(1, len(set_tid)))(*set_tid)
    fd = ctypes.c_int32(-1)
    args = CloneArgs(flags=int(flags) | (Clone.PIDFD if pidfd else 0), exit_signal=exit_signal)
    if pidfd:
        args.pidfd = ctypes.addressof(fd)
    if set_tid:
        args.set_tid = ctypes.addressof(tids)
        args.set_tid_size = len(set_tid)
    if not bare:
        ctypes.pythonapi.PyOS_BeforeFork()
    pid = _locked.syscall(
        ctypes.c_long(SYS_CLONE3), ctypes.byref(args), ctypes.c_size_t(ctypes.sizeof(args)),
    )
    errno = ctypes.get_errno()
    if not bare:
        (ctypes.pythonapi.PyOS_AfterFork_Child if pid == 0 else ctypes.pythonapi.PyOS_AfterFork_Parent)()
    if pid == -1:
        raise OSError(errno, os.strerror(errno), f"clone3 {flags!r} {list(set_tid)}")
    return Cloned(pid, fd.value if pid and pidfd else -1)


def execveat(fd: int, argv: Sequence[bytes], envp: Sequence[bytes] = ()) -> None:
    """Replace the calling process by the program that `fd` (a memfd, say) is; returns only by raising.

    Raises:
        OSError: as execve(2) has it.
    """
    args = (ctypes.c_char_p * (len(argv) + 1))(*argv, None)
    env = (ctypes.c_char_p * (len(envp) + 1))(*envp, None)
    _check(
        _locked.syscall(
            ctypes.c_long(SYS_EXECVEAT), ctypes.c_int(fd), ctypes.c_char_p(b""), args, env,
            ctypes.c_int(AT_EMPTY_PATH),
        ),
        "execveat",
    )


def _path(path: str | os.PathLike[str] | None) -> bytes | None:
    return None if path is None else os.fsencode(path)


def mount(
    source: str | os.PathLike[str] | None,
    target: str | os.PathLike[str],
    fstype: str | None = None,
    flags: Mount = Mount(0),  # noqa: B008 - an immutable constant
    data: str | None = None,
) -> None:
    """Attach a file system; `source`, `fstype` and `data` may be None where the kernel ignores them."""
    options = data.encode() if data is not None else None
    kind = fstype.encode() if fstype is not None else None
    _check(_libc.mount(_path(source), _path(target), kind, int(flags), options), f"mount {target}")


def umount2(target: str | os.PathLike[str], flags: Umount = Umount(0)) -> None:  # noqa: B008 - immutable
    """Detach what is mounted at `target`."""
    _check(_libc.umount2(_path(target), int(flags)), f"umount {target}")


def pivot_root(new_root: str | os.PathLike[str], put_old: str | os.PathLike[str]) -> None:
    """Make `new_root` (a mount point) the root of this mount namespace and put the old one at `put_old`.

    With "." for both, after chdir(new_root), the old root lies on top of the new one and
    `umount2(".", Umount.DETACH)` takes it away: pivot_root(2).
    """
    _check(
        _libc.syscall(
            ctypes.c_long(SYS_PIVOT_ROOT), ctypes.c_char_p(_path(new_root)), ctypes.c_char_p(_path(put_old)),
        ),
        f"pivot_root {new_root}",
    )


def sethostname(name: str) -> None:
    """Name the machine, as far as this uts namespace is concerned."""
    raw = name.encode()
    _check(_libc.sethostname(raw, len(raw)), "sethostname")


def setdomainname(name: str) -> None:
    """The NIS domain name of this uts namespace."""
    raw = name.encode()
    _check(_libc.setdomainname(raw, len(raw)), "setdomainname")


def prctl(option: Pr, arg2: int = 0, arg3: int = 0, arg4: int = 0, arg5: int = 0) -> int:
    """Set or ask an attribute of the calling process that is a number."""
    return _check(_libc.prctl(int(option), arg2, arg3, arg4, arg5), f"prctl {option.name}")


def set_parent_death_signal(signum: int, parent: int | None = None) -> None:
    """Have the kernel send `signum` to this process when the thread that made it ends.

    It is forgotten at fork, and at the exec of a set-uid program. With `parent` the gap between fork and
    this call is closed: if the parent has gone already, the signal is sent at once. (A parent in another
    pid namespace shows as 0: leave `parent` out then.)
    """
    prctl(Pr.SET_PDEATHSIG, int(signum))
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signum)


def set_child_subreaper(on: bool = True) -> None:
    """Become the parent of descendants whose own parent ends."""
    prctl(Pr.SET_CHILD_SUBREAPER, int(on))


def keep_capabilities(wanted: int) -> None:
    """Take these capabilities (bits of <linux/capability.h>), which the caller has, through the next exec.

    They become inheritable and ambient: capabilities(7), capset(2).
    """
    kept = [number for number in range(wanted.bit_length()) if wanted >> number & 1]
    header = ctypes.create_string_buffer(struct.pack("<Ii", _CAPABILITY_VERSION_3, 0))
    sets = ctypes.create_string_buffer(24)  # twice effective, permitted, inheritable: __user_cap_data_struct
    _check(_libc.syscall(ctypes.c_long(SYS_CAPGET), header, sets), "capget")
    words = list(struct.unpack("<6I", sets.raw))
    words[2], words[5] = wanted & 0xFFFFFFFF, wanted >> 32
    sets = ctypes.create_string_buffer(struct.pack("<6I", *words), 24)
    _check(_libc.syscall(ctypes.c_long(SYS_CAPSET), header, sets), "capset")
    for number in kept:
        _check(_libc.prctl(Pr.CAP_AMBIENT, _CAP_AMBIENT_RAISE, number, 0, 0), f"ambient capability {number}")


def set_no_new_privs() -> None:
    """Give up gaining privileges by exec, for good."""
    prctl(Pr.SET_NO_NEW_PRIVS, 1)


@dataclass(frozen=True)
class IdRange:
    """One line of a uid_map or gid_map: `inside`..`inside+count-1` are `outside`… of the parent namespace."""

    inside: int
    outside: int
    count: int = 1


def own_id_maps() -> dict[str, list[IdRange]]:
    """Maps for a child's user namespace in which every id is called as here: "uid_map", "gid_map"."""
    return {
        name: [
            IdRange(int(line.split()[0]), int(line.split()[0]), int(line.split()[2]))
            for line in Path("/proc/self", name).read_text().splitlines()
        ]
        for name in ("uid_map", "gid_map")
    }


def write_id_maps(
    uids: Sequence[IdRange], gids: Sequence[IdRange], pid: int | str = "self", *, setgroups: bool = False,
) -> None:
    """Write the uid and gid maps of a fresh user namespace: user_namespaces(7).

    Args:
        uids: the uid map; without privilege exactly one line that maps the writer's own effective uid.
        gids: the gid map, likewise.
        pid: a process in the namespace. "self": the caller, which has just unshared.
        setgroups: leave setgroups(2) allowed; without CAP_SETGID in the parent namespace the kernel then
            refuses the gid map.
    """
    base = Path("/proc") / str(pid)
    if not setgroups:
        # kernels before 3.19 have no such file, and none of the restriction that it lifts
        with contextlib.suppress(FileNotFoundError):
            (base / "setgroups").write_text("deny")
    for name, ranges in (("uid_map", uids), ("gid_map", gids)):
        # the kernel takes a map in one single write
        (base / name).write_text("".join(f"{r.inside} {r.outside} {r.count}\n" for r in ranges))


def set_time_offsets(monotonic_ns: int, boottime_ns: int, pid: int | str = "self") -> None:
    """Shift the clocks of the time namespace that `pid`'s children will be in: time_namespaces(7).

    Only possible after unshare(NEWTIME) and before the first process is in the new namespace.
    """
    lines = []
    for clock, offset in ((CLOCK_MONOTONIC, monotonic_ns), (CLOCK_BOOTTIME, boottime_ns)):
        # nanoseconds must lie in 0..999999999 also when the seconds are negative: floor division
        seconds, nanoseconds = divmod(offset, 1_000_000_000)
        lines.append(f"{clock} {seconds} {nanoseconds}\n")
    (Path("/proc") / str(pid) / "timens_offsets").write_text("".join(lines))


def open_namespace(pid: int | str, kind: str) -> int:
    """Descriptor of one namespace of a process; kind as in `NAMESPACES`. Close-on-exec."""
    return os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)


def namespace_id(pid: int | str, kind: str) -> int:
    """The inode number that identifies a namespace of a process."""
    return os.stat(f"/proc/{pid}/ns/{kind}").st_ino


def enter(pid: int, kinds: Sequence[str] = tuple(NAMESPACES)) -> None:
    """Enter those namespaces of `pid` that differ from the caller's own, in the order the kernel wants.

    All are opened before the first is entered, because /proc may be another one afterwards. A new pid or
    time namespace holds for children only: fork afterwards.
    """
    with contextlib.ExitStack() as stack:
        fds = []
        for kind, flag in NAMESPACES.items():
            if kind not in kinds or namespace_id(pid, kind) == namespace_id("self", kind):
                continue
            fd = open_namespace(pid, kind)
            stack.callback(os.close, fd)
            fds.append((fd, flag))
        for fd, flag in fds:
            setns(fd, flag)
