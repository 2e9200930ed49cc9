"""Trying out what the engine needs of this machine: each probe does the thing itself, on a small scale.

A probe runs in a forked child of its own (`attempt`), so it may change, crash or hang that process. It
returns a few words on what it found, or raises: OSError as the kernel said it, or Missing with words.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import platform
import resource
import select
import shutil
import signal
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from omtools.i18n import _
from omtools.linux import memory, namespaces as ns, proc, ptrace, seccomp
from omtools.linux.libc import C, fail, syscall

Probe = Callable[[], str]
PATIENCE = 10.0
KERNEL_FLOOR = (5, 14)


class Missing(Exception):
    """What was looked for is not there; the text says what is there instead."""


def attempt(probe: Probe) -> tuple[bool, str]:
    """Run a probe in a child: whether it found what it looked for, and its words."""
    hears, says = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(hears)
        os.setsid()  # so that whatever it starts can be ended with it
        _report(probe, says)
    os.close(says)
    try:
        # One message, not up to the end of file: a probe may leave children that hold the pipe open.
        words = os.read(hears, select.PIPE_BUF) if select.select([hears], [], [], PATIENCE)[0] else b""
    finally:
        os.close(hears)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if not words:
        return False, _("the attempt was killed or hung")
    present, text = json.loads(words)
    return bool(present), str(text)


def _report(probe: Probe, says: int) -> None:
    try:
        answer = (True, probe())
    except Missing as error:
        answer = (False, str(error))
    except OSError as error:
        answer = (False, error.strerror or str(error))
    except BaseException as error:  # a copy of the caller's program must not go on
        answer = (False, repr(error))
    with contextlib.suppress(OSError):
        os.write(says, json.dumps(answer).encode()[: select.PIPE_BUF])
    os._exit(0)


@contextlib.contextmanager
def _sleeper(*, orphan: bool = False) -> Iterator[int]:
    """A process that does nothing: a child, or one that is no descendant of ours any more."""
    hears, says = os.pipe()
    child = os.fork()
    if child == 0:
        if orphan and os.fork():
            os._exit(0)
        os.write(says, str(os.getpid()).encode())
        os.close(says)
        while True:
            signal.pause()
    os.close(says)
    if orphan:
        os.waitpid(child, 0)
    pid = int(os.read(hears, 32))
    os.close(hears)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)


def kernel() -> str:
    """Linux 5.14 or later."""
    release = platform.release()
    numbers = tuple(int("".join(filter(str.isdigit, part)) or 0) for part in release.split(".")[:2])
    if platform.system() != "Linux" or numbers < KERNEL_FLOOR:
        raise Missing(f"{platform.system()} {release}")
    return f"Linux {release}"


def processor() -> str:
    """x86-64, and a 64-bit Python."""
    if platform.machine() != "x86_64" or sys.maxsize < 1 << 32:
        raise Missing(platform.machine())
    return "x86-64"


def _seize(pid: int) -> None:
    ptrace.seize(pid)
    ptrace.interrupt(pid)
    ptrace.wait(pid)


def trace_child() -> str:
    """PTRACE_SEIZE, PTRACE_INTERRUPT and registers of a child."""
    with _sleeper() as pid:
        _seize(pid)
        ptrace.get_registers(pid)
    return ""


def trace_any() -> str:
    """The same for a process that is no descendant."""
    scope = yama()
    with _sleeper(orphan=True) as pid:
        try:
            _seize(pid)
        except PermissionError:
            raise Missing(_("ptrace_scope is {scope}").format(scope=scope)) from None
    return _("ptrace_scope is {scope}").format(scope=scope) if scope else ""


def yama() -> str:
    """The value of Yama's ptrace_scope, "" without Yama."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/yama/ptrace_scope").read_text().strip()
    return ""


def rseq() -> str:
    """PTRACE_GET_RSEQ_CONFIGURATION."""
    with _sleeper() as pid:
        _seize(pid)
        ptrace.get_rseq(pid)
    return ""


def process_memory() -> str:
    """Read and write through /proc/PID/mem, and /proc/PID/pagemap."""
    spot = ctypes.create_string_buffer(b"before")
    with _sleeper() as pid:
        _seize(pid)
        with open(f"/proc/{pid}/mem", "r+b", buffering=0) as file:
            file.seek(ctypes.addressof(spot))
            file.write(b"after!")
            file.seek(ctypes.addressof(spot))
            if file.read(6) != b"after!":
                raise Missing(_("what was written is not what is read"))
        pages = memory.PageMap(pid)
        found = pages.runs(ctypes.addressof(spot) & ~4095, (ctypes.addressof(spot) & ~4095) + 4096)
        pages.close()
    if not found:
        raise Missing(_("/proc/PID/pagemap shows no pages"))
    return ""


def process_vm() -> str:
    """process_vm_readv(2) from a child."""
    spot = ctypes.create_string_buffer(b"before")
    with _sleeper() as pid:
        if memory.ProcessMemory(pid).read(ctypes.addressof(spot), 6) != b"before":
            raise Missing(_("what is read is wrong"))
    return ""


_GETPPID = 110  # asm/unistd_64.h
# Notify of getppid, allow the rest: ld nr; jeq getppid; ret USER_NOTIF; ret ALLOW (linux/filter.h)
_FILTER = struct.pack(
    "<HBBIHBBIHBBIHBBI", 0x20, 0, 0, 0, 0x15, 0, 1, _GETPPID, 6, 0, 0, 0x7FC00000, 6, 0, 0, 0x7FFF0000
)


def _notifying_child(hears: int, says: int) -> None:
    """Put on the filter, tell the listener's number, make the call; end with the low byte of its result."""
    os.close(hears)
    ns.set_no_new_privs()
    code = ctypes.create_string_buffer(_FILTER)
    program = struct.pack("<HxxxxxxQ", len(_FILTER) // 8, ctypes.addressof(code))
    buffer = ctypes.create_string_buffer(program)
    mode, flags = seccomp.SET_MODE_FILTER, seccomp.FILTER_FLAG_NEW_LISTENER
    listener = syscall(seccomp.SYS_SECCOMP, mode, flags, ctypes.addressof(buffer))
    os.write(says, str(listener).encode())
    os._exit(syscall(_GETPPID) & 0xFF)


def _exit_status(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextlib.contextmanager
def _notification() -> Iterator[tuple[int, Callable[[], seccomp.Notification], Callable[[], int]]]:
    """A child in a notifying call: the listener, what it asks, and its exit status once it is answered."""
    hears, says = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _notifying_child(hears, says)
        except OSError as error:
            os.write(says, f"error {error.strerror}".encode())
        finally:
            os._exit(255)
    os.close(says)
    told = os.read(hears, 256).decode()
    os.close(hears)
    if not told.isdigit():
        raise Missing(told.removeprefix("error "))
    listener = seccomp.take_descriptor(child, int(told))
    yield listener, lambda: seccomp.receive(listener), lambda: _exit_status(child)


def notification() -> str:
    """A call of a child, answered by us."""
    with _notification() as (listener, receive, ended):
        seccomp.answer(listener, receive().cookie, 42)
        if ended() != 42:
            raise Missing(_("the answer did not arrive"))
    return ""


def notification_continue() -> str:
    """A call of a child that its own kernel is told to do."""
    with _notification() as (listener, receive, ended):
        seccomp.let_continue(listener, receive().cookie)
        if ended() != os.getpid() & 0xFF:
            raise Missing(_("the call had another result"))
    return ""


def notification_sync() -> str:
    """SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP."""
    with _notification() as (listener, _receive, _ended):
        if not seccomp.set_sync_wake_up(listener):
            raise fail()
    return ""


def notification_addfd() -> str:
    """SECCOMP_IOCTL_NOTIF_ADDFD."""
    with _notification() as (listener, receive, _ended):
        # struct seccomp_notif_addfd: id, flags, srcfd, newfd, newfd_flags (linux/seccomp.h)
        fcntl.ioctl(listener, 0x40182103, struct.pack("<QIIII", receive().cookie, 0, listener, 0, 0))
    return ""


def pidfd_getfd() -> str:
    """A copy of a child's descriptor."""
    with _sleeper() as pid:
        os.close(seccomp.take_descriptor(pid, 0))
    return ""


def _own_user_namespace(more: ns.Clone) -> None:
    uid, gid = os.geteuid(), os.getegid()
    ns.unshare(ns.Clone.NEWUSER | more)
    # Some systems grant the namespace and none of its rights: then one of these fails.
    ns.write_id_maps([ns.IdRange(0, uid)], [ns.IdRange(0, gid)])
    if more & ns.Clone.NEWUTS:
        ns.sethostname("omcheck")


def namespaces() -> str:
    """All seven kinds, as a guest's cage has them, with an empty root and a /proc."""
    kinds = ns.Clone.NEWPID | ns.Clone.NEWNS | ns.Clone.NEWNET | ns.Clone.NEWIPC | ns.Clone.NEWUTS
    try:
        _own_user_namespace(kinds)
        ns.mount(None, "/", None, ns.Mount.REC | ns.Mount.PRIVATE)
        ns.mount("omcheck", "/tmp", "tmpfs", ns.Mount(0), "size=4k")
        os.chdir("/tmp")
        ns.pivot_root(".", ".")
        ns.umount2(".", ns.Umount.DETACH)
    except OSError as error:
        raise Missing(_userns_words(error)) from None
    return ""


def _userns_words(error: OSError) -> str:
    words = f"{error.strerror} ({error.filename})" if error.filename else str(error.strerror)
    for file, forbidding in (
        ("kernel/apparmor_restrict_unprivileged_userns", "1"),
        ("kernel/unprivileged_userns_clone", "0"),
        ("user/max_user_namespaces", "0"),
    ):
        with contextlib.suppress(OSError):
            if Path("/proc/sys", file).read_text().strip() == forbidding:
                return f"{words}; {file.replace('/', '.')} = {forbidding}"
    return words


def time_namespace() -> str:
    """A time namespace with an offset."""
    _own_user_namespace(ns.Clone.NEWTIME)
    ns.set_time_offsets(3_600_000_000_000, 3_600_000_000_000)
    before = ns.clone3(bare=True)
    if before.pid == 0:
        os._exit(0)
    os.waitpid(before.pid, 0)
    return ""


def chosen_pid() -> str:
    """clone3 with set_tid in a new user and pid namespace."""
    _own_user_namespace(ns.Clone.NEWPID)
    first = ns.clone3()
    if first.pid == 0:
        try:
            second = ns.clone3(set_tid=[4242], bare=True)
        except OSError as error:
            os._exit(error.errno or 255)
        if second.pid == 0:
            os._exit(0)
        os._exit(0 if second.pid == 4242 else 255)
    status = _exit_status(first.pid)
    if status:
        raise OSError(status, os.strerror(status))
    return ""


def lab_node() -> str:
    """What a node of the lab needs beyond that: a /proc of its own."""
    _own_user_namespace(ns.Clone.NEWPID | ns.Clone.NEWNS)
    inner = ns.clone3()
    if inner.pid == 0:
        try:
            ns.mount(None, "/", None, ns.Mount.REC | ns.Mount.SLAVE)
            ns.mount("proc", "/proc", "proc")
        except OSError as error:
            os._exit(error.errno or 255)
        os._exit(0)
    status = _exit_status(inner.pid)
    if status:
        raise OSError(status, os.strerror(status))
    return ""


def memory_map() -> str:
    """PR_SET_MM_MAP with the fields that we have already."""
    own = proc.stat(os.getpid())
    end = syscall(12, 0)  # brk, asm/unistd_64.h
    # struct prctl_mm_map, linux/prctl.h; no new auxv, no new exe (exe_fd -1)
    fields = struct.pack(
        "<11QQII", own.start_code, own.end_code, own.start_data, own.end_data, own.start_brk, end,
        own.start_stack, own.arg_start, own.arg_end, own.env_start, own.env_end, 0, 0, 0xFFFFFFFF,
    )  # fmt: skip
    buffer = ctypes.create_string_buffer(fields, len(fields))
    if C.prctl(35, 14, ctypes.c_void_p(ctypes.addressof(buffer)), ctypes.c_ulong(len(fields)), 0) == -1:
        raise fail()
    return ""


def memory_program() -> str:
    """A program out of a memfd, by execveat."""
    true = shutil.which("true") or "/bin/true"
    descriptor = os.memfd_create("omcheck", os.MFD_CLOEXEC)
    os.write(descriptor, Path(true).read_bytes())
    child = os.fork()
    if child == 0:
        try:
            ns.execveat(descriptor, [b"true"])
        except OSError as error:
            os._exit(error.errno or 255)
    status = _exit_status(child)
    if status:
        raise OSError(status, os.strerror(abs(status)))
    return ""


def userfaultfd() -> str:
    """A descriptor for faults from user space."""
    flags = os.O_CLOEXEC | os.O_NONBLOCK | 1  # UFFD_USER_MODE_ONLY, linux/userfaultfd.h
    os.close(syscall(323, flags))  # asm/unistd_64.h
    return ""


def device(path: str) -> Probe:
    """A probe that opens a device for reading and writing."""

    def opened() -> str:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        return ""

    return opened


def program(*names: str) -> Probe:
    """A probe that looks for one of some programs."""

    def found() -> str:
        for name in names:
            if path := shutil.which(name):
                return path
        raise Missing(_("not in PATH"))

    return found


def limit(which: int, least: int, unit: str = "") -> Probe:
    """A probe that a resource limit (its hard value) is at least so high."""

    def checked() -> str:
        _soft, hard = resource.getrlimit(which)
        if hard == resource.RLIM_INFINITY:
            return _("unlimited")
        if hard < least:
            raise Missing(f"{hard}{unit}")
        return f"{hard}{unit}"

    return checked


def map_configured() -> str:
    """This node's configuration names a map that can be read."""
    from omtools.agent.config import read_map  # noqa: PLC0415
    from omtools.agent.paths import config_dir  # noqa: PLC0415
    from omtools.errors import OmError  # noqa: PLC0415

    try:
        nodes = len(read_map(config_dir()).nodes)
    except OmError as error:
        raise Missing(_(error.template).format(**error.fields).rstrip(".")) from None
    return _("{nodes} nodes, in {directory}").format(nodes=nodes, directory=config_dir())


def agent_reachable() -> str:
    """The agent of this user or node answers."""
    from omtools.agent.client import talk  # noqa: PLC0415
    from omtools.agent.paths import agent_socket  # noqa: PLC0415
    from omtools.errors import OmError  # noqa: PLC0415

    try:
        talk("omcheck", lambda cluster: cluster.whois())
    except OmError as error:
        raise Missing(_(error.template).format(**error.fields).rstrip(".")) from None
    return str(agent_socket())
