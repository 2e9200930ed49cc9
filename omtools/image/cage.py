"""The cage: where a guest runs, with nothing of its host in sight.

Its own user, pid, mount, network, ipc, uts and time namespace; an empty read-only root, or that of
`cage_root`; no capability (there: root's over the files that it has), no new privileges. Inside, pid 1
waits for ever in ten bytes of code, and beside it, under the pid that the process has at home, stands the
stub: a page with a gadget, ready to become the guest.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from omtools.errors import KernelLacks, RestoreFailed
from omtools.image.cage_files import CageFiles, NativeTree, Server, keep_file_capabilities, mount_root
from omtools.image.injection import Tracee
from omtools.linux import namespaces as ns, ptrace
from omtools.linux.libc import C, fail, syscall
from omtools.linux.x86_64 import PAUSE_PROGRAM, STUB_PROGRAM

_SYS_CLOSE_RANGE, _CLOSE_RANGE_CLOEXEC = 436, 4  # <asm/unistd_64.h>, <linux/close_range.h>
_PR_SET_SECUREBITS = 28  # <linux/prctl.h>
_SECBIT_NOROOT_LOCKED = 3  # SECBIT_NOROOT | SECBIT_NOROOT_LOCKED, <linux/securebits.h>: root has no power
_NEW = (ns.Clone.NEWUSER | ns.Clone.NEWPID | ns.Clone.NEWNS | ns.Clone.NEWNET | ns.Clone.NEWIPC
        | ns.Clone.NEWUTS)  # fmt: skip


@dataclass(slots=True)
class Cage:
    """A cage and the stub in it.

    Attributes:
        init: its pid 1, as seen from outside; a child of ours.
        stub: the process that becomes the guest, seized and stopped in its first int3.
        ahead_ns: how far CLOCK_MONOTONIC inside is ahead of this node's.
        files: for a guest that opens files by itself.
    """

    init: int
    stub: Tracee
    ahead_ns: int
    files: CageFiles | None = None

    def destroy(self) -> None:
        """End everything in it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.init, signal.SIGKILL)
        if self.files is not None:
            self.files.close()
            self.files = None
        for pid in (self.stub.pid, self.init):
            with contextlib.suppress(ChildProcessError):
                while not ptrace.wait(pid).over:
                    pass


@dataclass(frozen=True, slots=True)
class Clocks:
    """A node's clocks at some moment, or how far they are ahead of another's, in nanoseconds."""

    monotonic: int
    boottime: int

    @classmethod
    def now(cls) -> Clocks:
        """This node's."""
        return cls(time.clock_gettime_ns(time.CLOCK_MONOTONIC), time.clock_gettime_ns(time.CLOCK_BOOTTIME))


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a cage is to be: see `build`."""

    pid: int
    hostname: str
    uid: int
    gid: int
    ahead: Clocks
    tree: NativeTree | None
    inherited: Collection[int]  # by the stub
    whole_map: bool  # its user namespace knows all ids: root's power ends at files of unknown owners


def build(
    pid: int, hostname: str, ahead: Clocks, tree: NativeTree | None = None, inherited: Collection[int] = ()
) -> Cage:
    """Build a cage for the process `pid` of a node of that host name, whose clocks are so far ahead of ours.

    Must be called by a process with a single thread. With `tree` the guest finds that under its name, and
    every other path leads to the cage's root. The stub has the `inherited` descriptors, by the same numbers.
    Raises KernelLacks, RestoreFailed.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    uid = os.getuid()
    plan = _Plan(pid, hostname, uid, os.getgid(), ahead, tree, inherited, tree is not None and uid == 0)
    try:
        init = ns.clone3(_NEW, exit_signal=0, bare=True).pid
    except OSError as error:
        raise _lacking(str(error)) from None
    if init == 0:
        _as_child(lambda: _as_init(plan, theirs))
    theirs.close()
    with ours:
        served = Server(tree, pid, ours)
        try:
            stub = _born(served, ours, init)
        except BaseException:
            served.give_up()
            _end(init)
            raise
        built = Cage(init, Tracee(stub), ahead.monotonic, served.files)
        try:
            ptrace.seize(stub, ptrace.O_EXITKILL)
            ours.send(b"go")
            built.stub.expect_trap()
            ours.recv(1)  # its end: both have become their programs, which closed it and left them no power
        except BaseException:
            built.destroy()
            raise
    return built


def _born(served: Server, ours: socket.socket, init: int) -> int:
    """Help the cage's pid 1 until its stub is there; that one's pid. Raises KernelLacks, RestoreFailed."""
    message, pidfds = served.receive()
    if message == b"unshared":
        own = ns.own_id_maps()
        ns.write_id_maps(own["uid_map"], own["gid_map"], init, setgroups=True)
        ours.send(b"mapped")
        message, pidfds = served.receive()
    if not pidfds:
        kind, _, why = message.decode(errors="replace").partition(":")
        if kind == "namespaces":
            raise _lacking(why)
        raise RestoreFailed(node="", why=why or "the cage's first process ended without a word")
    stub = _outer_pid(pidfds[0])
    os.close(pidfds[0])
    return stub


def _lacking(why: str) -> KernelLacks:
    return KernelLacks(feature="the namespaces of a cage", why=why)


def _end(init: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(init, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while not ptrace.wait(init).over:
            pass


def _as_child(work: Callable[[], None]) -> None:
    """Run `work` in a forked child, which never returns."""
    try:
        work()
    finally:
        os._exit(1)


def _outer_pid(pidfd: int) -> int:
    text = Path(f"/proc/self/fdinfo/{pidfd}").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("Pid:")))


def _as_init(plan: _Plan, back: socket.socket) -> None:
    """The life of the cage's pid 1: the rest of its namespaces, a root, the stub, then nothing for ever."""
    try:
        ns.set_parent_death_signal(signal.SIGKILL)
        _settle_namespaces(plan, back)
    except OSError as error:
        back.send(f"namespaces:{error}".encode())
        return
    try:
        ns.mount(None, "/", None, ns.Mount.REC | ns.Mount.PRIVATE)
        if plan.tree is None:
            _empty_root()
        else:
            mount_root(plan.tree, back)
        ns.set_no_new_privs()
        if C.prctl(_PR_SET_SECUREBITS, _SECBIT_NOROOT_LOCKED, 0, 0, 0) == -1:
            raise fail("securebits")
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        pause, program = (_program(code) for code in (PAUSE_PROGRAM, STUB_PROGRAM))
        stub = ns.clone3(set_tid=[plan.pid], pidfd=True, exit_signal=0, bare=True)
    except OSError as error:
        back.send(f"init:{error}".encode())
        return
    if stub.pid == 0:
        _as_child(lambda: _as_stub(program, back, plan))
    socket.send_fds(back, [b"stub"], [stub.pidfd])
    ns.execveat(pause, [b"cage"])


def _settle_namespaces(plan: _Plan, back: socket.socket) -> None:
    syscall(_SYS_CLOSE_RANGE, 0, 0xFFFFFFFF, _CLOSE_RANGE_CLOEXEC)  # a guest inherits none but its own
    if plan.whole_map:
        back.send(b"unshared")
        back.recv(8)
    else:
        ns.write_id_maps([ns.IdRange(plan.uid, plan.uid)], [ns.IdRange(plan.gid, plan.gid)])
    ns.unshare(ns.Clone.NEWTIME)  # its children's; with clone3(2) it would be too late to set the offsets
    ns.set_time_offsets(plan.ahead.monotonic, plan.ahead.boottime)
    ns.sethostname(plan.hostname)


def _as_stub(program: int, back: socket.socket, plan: _Plan) -> None:
    if plan.whole_map:
        keep_file_capabilities()
    for descriptor in plan.inherited:
        os.set_inheritable(descriptor, True)
    back.recv(8)  # seized: from here on the int3 is a stop, not a death
    for number in range(1, 65):
        if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33):
            signal.signal(number, signal.SIG_DFL)
    ns.execveat(program, [b"guest"])


def _empty_root() -> None:
    ns.mount("cage", "/tmp", "tmpfs", ns.Mount.NOSUID | ns.Mount.NODEV | ns.Mount.NOEXEC, "size=4k,mode=555")
    os.chdir("/tmp")
    ns.pivot_root(".", ".")
    ns.umount2(".", ns.Umount.DETACH)
    ns.mount(None, "/", None, ns.Mount.REMOUNT | ns.Mount.RDONLY | ns.Mount.NOSUID | ns.Mount.NODEV
             | ns.Mount.NOEXEC)  # fmt: skip


def _program(code: bytes) -> int:
    descriptor = os.memfd_create("guest", os.MFD_CLOEXEC)
    os.write(descriptor, code)
    return descriptor
