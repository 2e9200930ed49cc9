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
from collections.abc import Callable
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
_ALL = (ns.Clone.NEWUSER | ns.Clone.NEWPID | ns.Clone.NEWNS | ns.Clone.NEWNET | ns.Clone.NEWIPC
        | ns.Clone.NEWUTS | ns.Clone.NEWTIME)  # fmt: skip


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
    ahead: Clocks
    tree: NativeTree | None
    whole_map: bool  # its user namespace knows all ids: root's power ends at files of unknown owners


def build(pid: int, hostname: str, ahead: Clocks, tree: NativeTree | None = None) -> Cage:
    """Build a cage for the process `pid` of a node of that host name, whose clocks are so far ahead of ours.

    Must be called by a process with a single thread. With `tree` the guest finds that under its name, and
    every other path leads to the cage's root. Raises KernelLacks, RestoreFailed.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    plan = _Plan(pid, hostname, ahead, tree, tree is not None and os.getuid() == 0)
    builder = os.fork()
    if builder == 0:
        _as_child(lambda: _build_namespaces(plan, theirs))
    theirs.close()
    with ours:
        served = Server(tree, pid, ours)
        try:
            message, pidfds = served.receive()
            if message == b"unshared":
                own = ns.own_id_maps()
                ns.write_id_maps(own["uid_map"], own["gid_map"], builder, setgroups=True)
                ours.send(b"mapped")
                message, pidfds = served.receive()
        except BaseException:
            served.give_up()
            with contextlib.suppress(ProcessLookupError):
                os.kill(builder, signal.SIGKILL)
            raise
        finally:
            os.waitpid(builder, 0)
        if not pidfds:
            kind, _, why = message.decode(errors="replace").partition(":")
            if kind == "namespaces":
                raise KernelLacks(feature="the namespaces of a cage", why=why)
            served.give_up()
            if kind.isdigit():  # its pid 1 has given up
                ptrace.wait(int(kind))
            raise RestoreFailed(node="", why=why or "the cage's builder ended without a word")
        stub = _outer_pid(pidfds[0])
        os.close(pidfds[0])
        built = Cage(int(message), Tracee(stub), ahead.monotonic, served.files)
        try:
            ptrace.seize(stub, ptrace.O_EXITKILL)
            ours.send(b"go")
            built.stub.expect_trap()
            ours.recv(1)  # its end: both have become their programs, which closed it and left them no power
        except BaseException:
            built.destroy()
            raise
    return built


def _as_child(work: Callable[[], None]) -> None:
    """Run `work` in a forked child, which never returns."""
    try:
        work()
    finally:
        os._exit(1)


def _outer_pid(pidfd: int) -> int:
    text = Path(f"/proc/self/fdinfo/{pidfd}").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("Pid:")))


def _build_namespaces(plan: _Plan, back: socket.socket) -> None:
    """In the builder: make the namespaces, then the cage's pid 1 as a child of the builder's parent."""
    uid, gid = os.getuid(), os.getgid()
    try:
        syscall(_SYS_CLOSE_RANGE, 0, 0xFFFFFFFF, _CLOSE_RANGE_CLOEXEC)  # a guest inherits no descriptor
        ns.unshare(_ALL)
        if plan.whole_map:
            back.send(b"unshared")
            back.recv(8)
        else:
            ns.write_id_maps([ns.IdRange(uid, uid)], [ns.IdRange(gid, gid)])
        ns.set_time_offsets(plan.ahead.monotonic, plan.ahead.boottime)
        ns.sethostname(plan.hostname)
    except OSError as error:
        back.send(f"namespaces:{error}".encode())
        return
    told, tell = os.pipe()  # only here the cage's pid 1 is known by its pid outside
    init = ns.clone3(ns.Clone.PARENT, exit_signal=0, bare=True)
    if init.pid == 0:
        os.close(tell)
        _as_child(lambda: _as_init(plan, told, back))
    os.write(tell, str(init.pid).encode())


def _as_init(plan: _Plan, told: int, back: socket.socket) -> None:
    """The life of the cage's pid 1: a root, the stub, then nothing for ever."""
    own = os.read(told, 32)
    try:
        ns.set_parent_death_signal(signal.SIGKILL)
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
        back.send(own + f":{error}".encode())
        return
    if stub.pid == 0:
        _as_child(lambda: _as_stub(program, back, plan.whole_map))
    socket.send_fds(back, [own], [stub.pidfd])
    ns.execveat(pause, [b"cage"])


def _as_stub(program: int, back: socket.socket, may_all_files: bool) -> None:
    if may_all_files:
        keep_file_capabilities()
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
