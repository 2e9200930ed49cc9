"""The remote: the user part of a process in its cage, from the stub to the running guest and back.

This is what is done to it; when, is decided in `guest_keeper`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import struct
import time
from collections.abc import Collection, Iterable, Mapping

import msgspec

from omtools.errors import RestoreFailed
from omtools.i18n import _
from omtools.image.cage import Cage
from omtools.image.cage_root import Wanted
from omtools.image.capture import INJECTED_AWAY, Before, take_image
from omtools.image.clock_code import ClockCode
from omtools.image.injection import SCRATCH_SIZE, Scratch, normalise, private_scratch
from omtools.image.model import Image, Region, Resume, Vdso
from omtools.image.restore import (
    SYS_RT_TGSIGQUEUEINFO,
    final_registers,
    finish,
    limit_guest,
    map_guest,
    send_traps,
    start_state,
    vector_area,
)
from omtools.image.twins import Identity, settle
from omtools.linux import proc, ptrace, seccomp
from omtools.linux.memory import ProcessMemory
from omtools.linux.ptrace import Stop, StopKind
from omtools.linux.seccomp import Notification
from omtools.linux.x86_64 import (
    ERESTARTNOHAND,
    ERESTARTNOINTR,
    ERESTARTSYS,
    NO_CALL,
    STUB_GADGET,
    SYSCALL,
    Registers,
    unsigned,
)
from omtools.migration.calls import native
from omtools.migration.calls.plan import NATIVE_RULES
from omtools.migration.file_memory import FileMemory
from omtools.migration.link import Link
from omtools.migration.transfer import guest_sink, receive_pages

_SYS_RT_SIGSUSPEND = 130  # <asm/unistd_64.h>
_SIGSET_SIZE = 8  # the kernel's sigset_t
_FPROG = struct.Struct("<HxxxxxxQ")  # struct sock_fprog, <linux/filter.h>
_MOST_BEHIND = 5.0  # seconds; more than a message takes
_AT_ONCE = 0.0005  # seconds; more than it takes a refused call to end
_SHORT = 0.002  # seconds; how long at most nobody looks whether a guest has stopped
_SI_KERNEL = 0x80  # <asm-generic/siginfo.h>; below it are the exceptions of the processor
_PROCESS_CPU_CLOCK = 2  # CPUCLOCK_SCHED, include/linux/posix-timers.h


class Remote:
    """A guest in its cage. All methods from the thread that built the cage.

    Attributes:
        pid, home_pid: its pid on this node, and at home.
        listener: the seccomp listener its trapped calls come by.
        memory: its memory.
        files: what its cage has for a guest that opens files by itself.
        twins: paths of files that it may map.
        closed: handles of stand-ins that it has closed.
        file_memory: what of its memory maps files at home alone.
        wanted: a call of its own that waits at its cage's root to be refused, or 0.
    """

    def __init__(self, cage: Cage, twins: Mapping[str, int]) -> None:
        self._cage = cage  # whose stub has the twins open
        self._files = dict(twins)
        self.twins = list(twins)
        self._known = {Identity.of(os.fstat(file)).mapped_as: path for path, file in twins.items()}
        self._came: tuple[list[Region], list[tuple[int, int]]] = [], []  # what maps twins, and what no more
        self.files = cage.files
        self.closed: list[int] = []
        self.wanted = 0
        self._trapped: Collection[int] | None = None
        self._refused = False  # a call of its own, while it was to stop
        self._ahead_ns = cage.ahead_ns
        self.tracee = cage.stub
        self.pid = cage.stub.pid
        self.memory = ProcessMemory(self.pid)
        self.listener = -1
        self.file_memory = FileMemory([])
        self.home_pid = 0
        self._home_scratch = (0, 0)
        self._scratch = Scratch(0)
        self._clock_code = ClockCode()
        self._vdso: Vdso | None = None  # its home's
        self._cpu_before = (0.0, 0.0)
        self._cpu_away = (0.0, 0.0)
        self._begun = False

    # -- building ----------------------------------------------------------------------------------

    def build(self, image: Image, link: Link, trapped: Collection[int] | None = None) -> int:
        """Build the guest; its pages come by `link`. Returns bytes.

        It opens files by itself if `trapped` says which of its descriptors are the home's, whatever it does.
        The stream is read to its end also on failure. Raises RestoreFailed, OSError, LinkBroken,
        ProcessEnded.
        """
        self.home_pid, self._home_scratch = image.pid, image.scratch
        self._vdso = image.vdso
        self.file_memory = FileMemory.of(image)
        with self.tracee.borrowed() as (registers, _mask):
            try:
                limit_guest(self.pid, image)
                self._scratch = private_scratch(self.tracee, STUB_GADGET, registers, image.scratch[0])
                vector_area(self.tracee, image)  # before the long part
                self._clock_code = map_guest(self.tracee, self._scratch, registers, image, self._files)
                self._came = [one for one in image.regions if one.twin], image.gone
            except BaseException:
                receive_pages(link, lambda _address, _data: None)
                raise
            amount = receive_pages(link, guest_sink(self.pid))
            finish(self.tracee, self._scratch, registers, image)
            if trapped is not None:
                self._settle_in(registers, image)
            self._confine(registers, trapped)
        start_state(self.tracee, image, final_registers(self.tracee, image, self._home_ns()))
        send_traps(self.pid, image)
        self._cpu_away = image.cpu_away
        self._await_ns(image.monotonic_ns)
        return amount

    def _await_ns(self, frozen_ns: int) -> None:
        """Its clock here is behind home's by what it took to tell: it must not be behind what it has seen."""
        behind = frozen_ns - self._home_ns()
        if behind > 0:
            time.sleep(min(behind / 1e9, _MOST_BEHIND))

    def _settle_in(self, registers: Registers, image: Image) -> None:
        """What a guest that opens files by itself needs of its home's process."""
        assert self.files is not None
        self.tracee.memory.write(self._scratch.data, os.fsencode(image.directory) + b"\0")
        calls = [(native.UMASK, image.umask)]
        if self.files.holds(image.directory):
            calls.append((native.CHDIR, self._scratch.data))
        results = self.tracee.batch(self._scratch, registers, calls)
        if results[-1] < 0:
            raise RestoreFailed(node="", why=f"chdir: {os.strerror(-results[-1])}")

    def change_directory(self, path: str) -> None:
        """Move the stopped guest: into its own tree, or to where every path leads home."""
        assert self.files is not None
        if self.files.holds(path):
            with self.tracee.borrowed() as (registers, _mask):
                self.tracee.memory.write(self._scratch.data, os.fsencode(path) + b"\0")
                self._let_through(registers, (native.CHDIR, self._scratch.data))
            return
        taken = {int(name) for name in os.listdir(f"/proc/{self.pid}/fd")}
        number = next(free for free in range(len(taken) + 1) if free not in taken)
        self.install([(self.files.elsewhere, number)])
        with self.tracee.borrowed() as (registers, _mask):
            self._let_through(registers, (native.FCHDIR, number))
            self._close_inside(registers, number)

    def withdraw_files(self) -> None:
        """The stopped guest opens nothing by itself any more. Raises OSError."""
        assert self.files is not None
        self.files.withdraw(self.pid, self.root_requests)

    def restore_files(self) -> None:
        """It does again. Raises OSError."""
        assert self.files is not None
        self.files.restore(self.pid, self.root_requests)

    def _confine(self, registers: Registers, trapped: Collection[int] | None) -> None:
        """Install the filter, take its listener out of the guest."""
        self._trapped = trapped
        rules = dict(NATIVE_RULES)
        more_allowed, but = native.rules(trapped) if trapped is not None else ({}, {})
        rules |= more_allowed
        but |= self.file_memory.trapped
        own = ((0, 0xFFFFFFFF, self.home_pid), (1, 0xFFFFFFFF, self.home_pid))
        for nr, more in {**INJECTED_AWAY, SYS_RT_TGSIGQUEUEINFO: (own,)}.items():
            rules[nr] = (*rules.get(nr, ()), *more)
        program = seccomp.compile_filter(rules, but)
        at = self._scratch.data
        self.tracee.memory.write(at, _FPROG.pack(len(program) // 8, at + 64).ljust(64, b"\0") + program)
        call = (seccomp.SYS_SECCOMP, seccomp.SET_MODE_FILTER, seccomp.FILTER_FLAG_NEW_LISTENER, at)
        (descriptor,) = self.tracee.batch(self._scratch, registers, [call])
        if descriptor < 0:
            raise RestoreFailed(node="", why=f"seccomp: {os.strerror(-descriptor)}")
        self.listener = seccomp.take_descriptor(self.pid, descriptor)
        seccomp.set_sync_wake_up(self.listener)
        self._close_inside(registers, descriptor)

    def _close_inside(self, registers: Registers, descriptor: int) -> None:
        """close(2) in the guest; the filter may trap it already, then it is answered from here."""
        if self._trapped is None or descriptor in self._trapped:
            self._let_through(registers, (native.CLOSE, descriptor))
        else:
            self.tracee.batch(self._scratch, registers, [(native.CLOSE, descriptor)])

    def _let_through(self, registers: Registers, call: tuple[int, ...]) -> None:
        """Have the stopped guest make a call that the filter traps, and let its kernel do it."""
        seccomp.let_continue(self.listener, self._trap(registers, call))
        self.tracee.expect_trap()

    def _trap(self, registers: Registers, call: tuple[int, ...]) -> int:
        """Have the stopped guest make a call that the filter traps; returns the notification's cookie."""
        frame = registers.copy()
        padded = (*(unsigned(value) for value in call), *(0,) * (8 - len(call)))
        self.tracee.memory.write(self._scratch.arena, struct.pack("<8Q", *padded))
        frame.orig_rax, frame.rip = NO_CALL, self._scratch.base
        frame.rbx, frame.r12 = self._scratch.arena, 1
        self.tracee.load(frame)
        ptrace.cont(self.pid)
        while True:
            if select.select([self.listener], [], [], _SHORT)[0]:
                with contextlib.suppress(FileNotFoundError):  # it was interrupted
                    return seccomp.receive(self.listener).cookie
            if self.tracee.stopped_early():
                self.tracee.load(frame)
                ptrace.cont(self.pid)

    def install(self, descriptors: Iterable[tuple[int, int]]) -> None:
        """Give the stopped guest copies of our descriptors: pairs of ours and its number.

        Descriptors can be handed in only while a trapped call waits, so it makes one that does nothing.
        """
        with self.tracee.borrowed() as (registers, _mask):
            cookie = self._trap(registers, (native.CLOSE, 0xFFFFFFFF))
            for ours, number in descriptors:
                seccomp.add_descriptor(self.listener, cookie, ours, number)
            seccomp.answer(self.listener, cookie, -errno.EBADF)
            self.tracee.expect_trap()

    # -- running -----------------------------------------------------------------------------------

    def _home_ns(self) -> int:
        return time.monotonic_ns() + self._ahead_ns

    def begin(self) -> None:
        """Count its CPU time from here on."""
        if not self._begun:
            self._begun = True
            self._cpu_before = proc.cpu_seconds(self.pid)

    def blocked(self) -> int:
        """The signals it blocks, bit n-1 for signal n."""
        return int(proc.status(self.pid)["SigBlk"], 16)

    def umask(self) -> int:
        """Which rights its new files do not get."""
        return int(proc.status(self.pid)["Umask"], 8)

    def waiting_signals(self, mask: int) -> bool:
        """A signal that it blocks is pending and would get through `mask`."""
        status = proc.status(self.pid)
        pending = int(status["SigPnd"], 16) | int(status["ShdPnd"], 16)
        return bool(pending & int(status["SigBlk"], 16) & ~mask)

    def let_in(self, mask_address: int) -> Stop:
        """Have the stopped guest take a pending signal under another mask, as if its call had put it there.

        Its interrupted call, which nobody does any more, is for a moment rt_sigsuspend(2): the handler then
        returns to the guest's own mask. Leaves it in the delivery of the signal.
        """
        registers = ptrace.get_registers(self.pid)
        frame = registers.copy()
        frame.rax, frame.orig_rax, frame.rip = _SYS_RT_SIGSUSPEND, NO_CALL, registers.rip - len(SYSCALL)
        frame.rdi, frame.rsi = mask_address, _SIGSET_SIZE
        ptrace.set_registers(self.pid, frame)
        while True:
            ptrace.cont(self.pid)
            stop = ptrace.wait(self.pid)
            if stop.over:
                return stop
            if stop.kind is StopKind.SIGNAL:
                break
        registers.rax = unsigned(-ERESTARTNOHAND)
        ptrace.set_registers(self.pid, registers)
        return stop

    def cpu_here(self) -> tuple[float, float]:
        """User and system seconds that the process has used away from home, here and before."""
        now = proc.cpu_seconds(self.pid)
        return (
            self._cpu_away[0] + now[0] - self._cpu_before[0],
            self._cpu_away[1] + now[1] - self._cpu_before[1],
        )

    def cpu_clock(self) -> float:
        """The sum of both, in the finer resolution of its CPU clock (clock_getcpuclockid(3))."""
        here = time.clock_gettime(~self.pid << 3 | _PROCESS_CPU_CLOCK)
        return here - sum(self._cpu_before) + sum(self._cpu_away)

    def _cpu_so_far(self) -> tuple[float, float]:
        """`cpu_here`, no less than what `cpu_clock` has told already."""
        user, system = self.cpu_here()
        return max(user, self.cpu_clock() - system), system

    def interrupt(self) -> Stop:
        """Ask for a stop and wait for the first: EVENT, or what was faster: a signal's delivery, its end."""
        with contextlib.suppress(ProcessLookupError):  # it has died and waits to be reaped
            ptrace.interrupt(self.pid)
        stop = self._await_stop()
        if not stop.over and stop.kind is not StopKind.SIGNAL:
            self.undo_interruption()
        return stop

    def _await_stop(self) -> Stop:
        """The guest's next stop; it may need its cage's root to come to that.

        What that refuses it meanwhile, it asks for again afterwards.
        """
        if self.files is None:
            return ptrace.wait(self.pid)
        while (stop := ptrace.poll(self.pid)) is None:
            self.root_requests()
            if self.wanted:
                self.files.root.refuse(self.wanted)
                self.wanted = 0
                self._refused = True
            else:
                select.select([self.files.root.device], [], [], _SHORT)
        if self._refused and not stop.over:
            self._refused = False
            self.interrupted_call(-ERESTARTNOINTR)
        return stop

    def _stop_soon(self) -> Stop | None:
        """Its next stop if that comes at once, as it mostly does."""
        limit = time.monotonic() + _AT_ONCE
        while (stop := ptrace.poll(self.pid)) is None and time.monotonic() < limit:
            os.sched_yield()
        return stop

    def root_requests(self) -> None:
        """Answer the cage's root; see `closed` and `wanted`."""
        assert self.files is not None
        for heard in self.files.root.requests():
            if isinstance(heard, Wanted):
                self.wanted = heard.unique
            else:
                self.closed.append(heard.handle)

    def refuse(self) -> tuple[Stop, Notification | None]:
        """Break off the call for which the guest waits at its cage's root.

        Returns how it stopped, and the call if it stands behind it with nothing done. If a signal was
        faster, the call begins anew after that.
        """
        assert self.files is not None
        with contextlib.suppress(ProcessLookupError):
            ptrace.interrupt(self.pid)
        self.files.root.refuse(self.wanted)
        self.wanted = 0
        stop = self._stop_soon() or self._await_stop()  # one call may ask the root for more than one thing
        if stop.over:
            return stop, None
        if stop.kind is StopKind.SIGNAL:
            self.interrupted_call(-ERESTARTNOINTR)
            return stop, None
        now = ptrace.get_registers(self.pid)
        arguments = (now.rdi, now.rsi, now.rdx, now.r10, now.r8, now.r9)
        return stop, Notification(0, self.pid, now.call, now.rip, arguments)

    def stand_in(self) -> tuple[int, int]:
        """A file for `give` that stands for one at home, and its handle; the caller closes our descriptor."""
        files = self.files
        assert files is not None
        if not files.stand_ins:
            with files.opening_more() as done:
                while not done():
                    self.root_requests()
                    select.select([files.root.device], [], [], _SHORT)
        return files.stand_ins.pop(0)

    def give(self, cookie: int, descriptor: int, number: int) -> None:
        """Give the guest, which waits in a trapped call or (0) is stopped, our descriptor as `number`."""
        if cookie:
            seccomp.add_descriptor(self.listener, cookie, descriptor, number)
        else:
            self.install([(descriptor, number)])

    def reads_clock(self) -> bool:
        """The stopped guest is where it must not be moved, see `clock_code`."""
        return self._clock_code.holds(ptrace.get_registers(self.pid))

    def leave_stub(self) -> None:
        """Let no register of the stopped guest point into what stands in for its home's vdso."""
        registers = ptrace.get_registers(self.pid)
        if self._clock_code.take_back(registers):
            ptrace.set_registers(self.pid, registers)

    def end(self) -> Stop:
        """How it ended, when something done to it has failed for that; raises ProcessLookupError else."""
        return self.tracee.end or ptrace.wait_for_end(self.pid)

    def undo_interruption(self) -> None:
        """See `normalise`: no handler is going to run in the stopped guest."""
        registers = ptrace.get_registers(self.pid)
        if normalise(registers):
            ptrace.set_registers(self.pid, registers)

    def only_at_home(self, number: int) -> str:
        """Why the instruction for which the stopped guest is to get a signal may do well at home, or ""."""
        code = int.from_bytes(ptrace.get_siginfo(self.pid)[8:12], "little", signed=True)
        if number == signal.SIGILL and 0 < code < _SI_KERNEL:  # perhaps only this processor lacks it
            return _("this node's processor does not know an instruction of it")
        if number == signal.SIGSEGV and self._clock_code.strays(ptrace.get_registers(self.pid)):
            return _("it returned from a signal's handler into its home's clock code")
        return ""

    def queue_signal(self, siginfo: bytes) -> None:
        """Send the stopped guest a signal with this siginfo_t, as if from itself."""
        number = int.from_bytes(siginfo[:4], "little")
        if number == signal.SIGTRAP:
            os.kill(self.pid, number)  # injected calls could not tell it from their own
            return
        with self.tracee.borrowed() as (registers, _mask):
            self.tracee.memory.write(self._scratch.data, siginfo)
            call = (SYS_RT_TGSIGQUEUEINFO, self.home_pid, self.home_pid, number, self._scratch.data)
            self.tracee.batch(self._scratch, registers, [call])

    def drop_signal(self) -> None:
        """The guest, about to take a signal, does not get it, and is in a stop like any other."""
        with self.tracee.borrowed():
            pass

    def end_call(self, result: int) -> None:
        """The stopped guest's interrupted call is over with this result."""
        registers = ptrace.get_registers(self.pid)
        registers.rax, registers.orig_rax = unsigned(result), NO_CALL
        ptrace.set_registers(self.pid, registers)

    def interrupted_call(self, code: int) -> None:
        """The stopped guest's interrupted call ends or restarts by this -ERESTART code."""
        registers = ptrace.get_registers(self.pid)
        registers.rax = unsigned(code)
        ptrace.set_registers(self.pid, registers)

    def restart_unheard(self) -> None:
        """A trapped call that nobody has heard of yet is made again after the stopped guest's handler.

        By itself it would end with EINTR (seccomp_unotify(2)), which many calls never do.
        """
        registers = ptrace.get_registers(self.pid)
        heard = registers.call not in NATIVE_RULES or registers.call in self.file_memory.trapped
        if registers.call >= 0 and registers.result == -ERESTARTSYS and heard:
            registers.rax = unsigned(-ERESTARTNOINTR)
            ptrace.set_registers(self.pid, registers)

    # -- leaving -----------------------------------------------------------------------------------

    def take_image(
        self, before: Before, resume: Resume | None, pending: list[bytes], arena: tuple[int, int],
        there: list[str] | None = None,
    ) -> Image:  # fmt: skip
        """The image of the stopped guest; `resume`, `pending` and `there` (see `settle`) are the keeper's."""
        registers = ptrace.get_registers(self.pid)
        normalise(registers)
        self._clock_code.take_back(registers)
        ptrace.set_registers(self.pid, registers)
        scratch = Scratch(self._scratch.base, SCRATCH_SIZE)
        with self.tracee.borrowed() as (registers, mask):
            image = take_image(self.tracee, registers, mask, scratch, before,
                               pid=self.home_pid, resume=resume, vdso=self._vdso,
                               twins=self._known)  # fmt: skip
        regions, gone = settle(image.regions, self._came[0], there)
        return msgspec.structs.replace(
            image,
            regions=regions,
            gone=[*self._came[1], *gone],
            mapped=self.file_memory.ranges,
            pending=[*image.pending, *pending],
            cpu_away=self._cpu_so_far(),
            scratch=self._home_scratch,
            arena=arena,
            monotonic_ns=image.monotonic_ns + self._ahead_ns,
        )

    def destroy(self) -> None:
        """End it and its cage."""
        self._cage.destroy()
        if self.listener >= 0:
            os.close(self.listener)
            self.listener = -1
