"""Leaving home and coming home: what is done to the process itself, at its home node."""

from __future__ import annotations

import os
import signal
import time

import msgspec

from omtools.errors import AlreadyTraced, CannotMigrate, NoSuchProcess, NotYourProcess, ZombieProcess
from omtools.i18n import _
from omtools.image.capture import NO_TWINS, SIGACTION_SIZE, Before, look_before, take_image
from omtools.image.clock_code import PATIENCE, PATIENCE_WITH_HANDLER, a_moment, clock_code, interrupted
from omtools.image.injection import (
    SYS_MUNMAP,
    Scratch,
    Tracee,
    borrowed_code,
    find_hole,
    normalise,
    orphan_safe,
    shared_scratch,
)
from omtools.image.model import Image, OpenFile
from omtools.image.restore import empty_deputy, final_registers, finish, map_home, send_traps, start_state
from omtools.image.survey import survey
from omtools.image.twins import Known
from omtools.linux import proc, ptrace
from omtools.linux.names import is_text
from omtools.linux.ptrace import StopKind
from omtools.linux.x86_64 import Registers
from omtools.migration.at_home import forgetting
from omtools.migration.deputy import Arena, Deputy
from omtools.migration.link import Link
from omtools.migration.openfiles import holds_locks, own_files, still_open
from omtools.migration.transfer import HomeSink, Progress, receive_pages

_SYS_LSEEK = 8  # <asm/unistd_64.h>


class Resident:
    """A process at home that is seized but whole: it can be let go at any moment, unharmed.

    Attributes:
        tracee: the seized process.
        arena: shared with it from `freeze` on.
    """

    def __init__(self, pid: int, dfsa: bool = False) -> None:
        """`dfsa`: its open files shall be in the image."""
        survey(pid)  # says more kindly than ptrace what is wrong
        self.pid, self._dfsa = pid, dfsa
        self._files = own_files(pid) if dfsa else []
        self._children = _children(pid) if self._files else ""
        self._before: Before = look_before(pid)
        try:
            self.tracee = Tracee.seize(pid)
        except ProcessLookupError:
            raise NoSuchProcess(pid=pid) from None
        except PermissionError:
            raise _refusal(pid) from None
        self.arena: Arena | None = None
        self._stopped = False

    def freeze(self, twins: Known = NO_TWINS) -> Image:
        """Stop it and take its image; raises CannotMigrate and others, after which `release` is due.

        Of the files `twins` only what was changed will travel.
        """
        registers = self._stop()
        self._stopped = True
        normalise(registers)
        ptrace.set_registers(self.pid, registers)
        with (
            self.tracee.borrowed() as (registers, mask),
            borrowed_code(self.tracee, registers, mask) as gadget,
        ):
            base = find_hole(proc.mappings(self.pid))
            scratch, memory_file = shared_scratch(self.tracee, gadget, base)
            self.arena = Arena(scratch, memory_file)
            with orphan_safe(self.tracee, gadget, scratch, registers, mask) as trap_action:
                image = take_image(self.tracee, registers, mask, scratch, self._before, twins=twins)
        at = (signal.SIGTRAP - 1) * SIGACTION_SIZE
        actions = image.actions[:at] + trap_action + image.actions[at + SIGACTION_SIZE :]
        arena = (self.arena.base, self.arena.room)
        return msgspec.structs.replace(
            image, actions=actions, arena=arena, files=self._own_files(),
            numbers=sorted(int(name) for name in os.listdir(f"/proc/{self.pid}/fd")),
            umask=int(proc.status(self.pid)["Umask"], 8), directory=self._directory(),
            locked=self._dfsa and holds_locks(self.pid),
        )  # fmt: skip

    def _stop(self) -> Registers:
        """Stop it where it may be moved; its registers."""
        code = clock_code(self.pid)
        begun = time.monotonic()
        while True:
            self._before = look_before(self.pid)
            if self.tracee.interrupt().kind is StopKind.GROUP:
                self._stopped = True
                reason = _("it is stopped; continue it first: kill -CONT {pid}").format(pid=self.pid)
                raise CannotMigrate(pid=self.pid, reason=reason)
            registers = ptrace.get_registers(self.pid)
            lasted = time.monotonic() - begun
            if not code.holds(registers) and (
                lasted > PATIENCE_WITH_HANDLER or not interrupted(self.tracee.memory, registers, code.code)
            ):
                self._stopped = True
                return registers
            ptrace.cont(self.pid)
            if lasted > PATIENCE:
                raise CannotMigrate(pid=self.pid, reason=_("it does nothing but read clocks"))
            a_moment()

    def _own_files(self) -> list[OpenFile]:
        """Its open files, unless it has forked since they were looked at: then they may be shared."""
        if not self._files or _children(self.pid) != self._children:
            return []
        return still_open(self.pid, self._files)

    def _directory(self) -> str:
        path = os.readlink(f"/proc/{self.pid}/cwd")
        return path if is_text(path) else ""

    def release(self) -> None:
        """Let it go on as if nothing had been."""
        if self.arena is not None:
            remove_scratch(self.tracee, self.arena.scratch)
            self.arena.close()
            self.arena = None
        elif not self._stopped:  # who is stopped already never tells so again
            self.tracee.interrupt()
        self.tracee.give_back_signals()
        ptrace.detach(self.pid)

    def leave(self, image: Image) -> Deputy:
        """Free its memory and make it the deputy; from here on it dies with its keeper."""
        assert self.arena is not None
        ptrace.set_options(self.pid, ptrace.O_EXITKILL)
        with self.tracee.borrowed() as (registers, _mask):
            empty_deputy(self.tracee, self.arena.scratch, registers, image)
        return Deputy(self.tracee, self.arena)


def _children(pid: int) -> str:
    """Pids of a process's children; proc_pid_task(5)."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


def _refusal(pid: int) -> AlreadyTraced | NotYourProcess | NoSuchProcess | ZombieProcess:
    try:
        if proc.stat(pid).flags & proc.PF_EXITING:
            return ZombieProcess(pid=pid)
        tracer = int(proc.status(pid).get("TracerPid", "0"))
    except OSError:
        return NoSuchProcess(pid=pid)
    if tracer:
        return AlreadyTraced(pid=pid, tracer=tracer)
    why = _("the kernel forbids tracing it (`omcheck`), or it protects itself as ssh-agent does")
    return NotYourProcess(pid=pid, user=_("you"), why=why)


def remove_scratch(tracee: Tracee, scratch: Scratch) -> None:
    """Unmap the scratch area of a stopped process."""
    with tracee.borrowed() as (registers, mask), borrowed_code(tracee, registers, mask) as gadget:
        gadget.call(SYS_MUNMAP, scratch.base, scratch.size)


def put_positions(deputy: Deputy, image: Image) -> None:
    """Give the deputy's placeholders the positions of what was open away, and no old content.

    Raises ProcessEnded.
    """
    for file in image.files:
        if file.direct:
            deputy.run(_SYS_LSEEK, file.numbers[0], file.position, os.SEEK_SET)
            for nr, arguments in forgetting(file.numbers[0], deputy.arena.base):
                deputy.run(nr, *arguments)


def refill(deputy: Deputy, image: Image, link: Link, tell: Progress | None = None) -> int:
    """Fill the deputy from an image whose pages arrive by `link`, and `tell` how far that is; returns bytes.

    The stream is read to its end also when the deputy cannot be filled. Raises RestoreFailed, OSError,
    LinkBroken, ProcessEnded.
    """
    scratch = deputy.arena.scratch
    deputy.halt_parked()
    with deputy.tracee.borrowed() as (registers, _mask):
        try:
            files = map_home(deputy.tracee, scratch, registers, image)
        except BaseException:
            receive_pages(link, lambda _address, _data: None)
            raise
        sink = HomeSink(deputy.pid, files)
        try:
            amount = receive_pages(link, sink, tell)
            sink.empty_the_rest()
        finally:
            sink.close()
        finish(deputy.tracee, scratch, registers, image)
    return amount


def empty_again(deputy: Deputy, image: Image) -> None:
    """Undo a `refill` that failed."""
    with deputy.tracee.borrowed() as (registers, _mask):
        empty_deputy(deputy.tracee, deputy.arena.scratch, registers, image)
    deputy.rewind()


def settle(deputy: Deputy, image: Image) -> None:
    """Let a filled deputy run as the whole process again; nothing of us stays in it."""
    # Its own registers first: what is written for an orphan goes below its stack pointer.
    start_state(deputy.tracee, image, final_registers(deputy.tracee, image, time.monotonic_ns()))
    remove_scratch(deputy.tracee, deputy.arena.scratch)
    deputy.arena.close()
    ptrace.set_options(deputy.pid, 0)
    send_traps(deputy.pid, image)
    ptrace.detach(deputy.pid)
