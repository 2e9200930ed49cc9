"""Whether a process could migrate, from /proc alone: nothing is stopped, nothing is touched."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from omtools.errors import (
    AlreadyTraced,
    CannotMigrate,
    ForeignArchitecture,
    KernelThread,
    NoSuchProcess,
    ZombieProcess,
)
from omtools.i18n import _
from omtools.linux import proc

_ELF_CLASS_64, _ELF_X86_64 = 2, 62  # <elf.h>
_SECCOMP_FILTER = "2"  # SECCOMP_MODE_FILTER in /proc/PID/status


@dataclass(frozen=True, slots=True)
class Survey:
    """What /proc tells about a process that could migrate.

    Attributes:
        pid: its pid.
        uid: its user.
        gid: its group.
        command: its name.
        resident_bytes: memory that would have to travel, about.
        threads: how many.
    """

    pid: int
    uid: int
    gid: int
    command: str
    resident_bytes: int
    threads: int


def survey(pid: int) -> Survey:
    """Look at `pid`; raises the OmError that says why it cannot migrate."""
    try:
        stat, status = proc.stat(pid), proc.status(pid)
    except (FileNotFoundError, ProcessLookupError):
        raise NoSuchProcess(pid=pid) from None
    if int(status["Tgid"]) != pid:
        reason = _("it is a thread of process {leader}").format(leader=status["Tgid"])
        raise CannotMigrate(pid=pid, reason=reason)
    if stat.flags & proc.PF_KTHREAD:
        raise KernelThread(pid=pid)
    if stat.state in "ZX":
        raise ZombieProcess(pid=pid)
    if tracer := int(status["TracerPid"]):
        raise AlreadyTraced(pid=pid, tracer=tracer)
    _check_architecture(pid)
    for reason in _obstacles(pid, stat, status):
        raise CannotMigrate(pid=pid, reason=reason)
    return Survey(
        pid=pid,
        uid=int(status["Uid"].split()[0]),
        gid=int(status["Gid"].split()[0]),
        command=stat.command,
        resident_bytes=1024 * sum(int(status.get(key, "0 kB").split()[0]) for key in ("VmRSS", "VmSwap")),
        threads=stat.threads,
    )


def _check_architecture(pid: int) -> None:
    try:
        with open(f"/proc/{pid}/exe", "rb") as program:
            header = program.read(20)
    except OSError:
        return  # another user's: the attempt to seize it says so
    if header[:4] == b"\x7fELF" and (header[4] != _ELF_CLASS_64 or header[18] != _ELF_X86_64):
        raise ForeignArchitecture(pid=pid, architecture=_("32-bit") if header[4] == 1 else _("foreign"))


def _obstacles(pid: int, stat: proc.Stat, status: dict[str, str]) -> list[str]:
    found = []
    if pid == 1:
        found.append(_("it is the init of this machine"))
    if stat.threads > 1:
        found.append(_("it has {n} threads, and only one can move in this version").format(n=stat.threads))
    if stat.state in "Tt":
        found.append(_("it is stopped; continue it first: kill -CONT {pid}").format(pid=pid))
    if len(set(status["Uid"].split())) > 1 or len(set(status["Gid"].split())) > 1:
        found.append(_("it runs with changed user or group ids"))
    if int(status.get("VmLck", "0 kB").split()[0]):
        found.append(_("it has locked memory (mlock)"))
    filters = proc.status(os.getpid()).get("Seccomp_filters")  # what all live under is no obstacle
    if status.get("Seccomp") == _SECCOMP_FILTER and status.get("Seccomp_filters") != filters:
        found.append(_("it lives in a sandbox of its own (seccomp)"))
    if (policy := os.sched_getscheduler(pid)) in (os.SCHED_FIFO, os.SCHED_RR):
        found.append(_("it runs in a real-time class ({policy})").format(policy=policy))
    if any(int(clock) in (2, 3) or int(clock) < 0 for clock in re.findall(r"ClockID: (-?\d+)", _timers(pid))):
        found.append(_("a timer that counts its CPU time is running (timer_create)"))
    if _reads_signals(pid):
        found.append(_("it reads its signals from a descriptor (signalfd)"))
    return found


def _reads_signals(pid: int) -> bool:
    """It has a signalfd, from which only the deputy could read, and the deputy has none of its signals."""
    folder = f"/proc/{pid}/fd"
    try:
        for name in os.listdir(folder):
            try:
                if os.readlink(f"{folder}/{name}") == "anon_inode:[signalfd]":
                    return True
            except FileNotFoundError:
                continue  # closed meanwhile
    except OSError:
        return False  # the attempt to seize it tells why
    return False


def _timers(pid: int) -> str:
    """/proc/PID/timers: the POSIX timers it has made, "" where the kernel does not tell."""
    try:
        return Path(f"/proc/{pid}/timers").read_text()
    except OSError:
        return ""


def region_obstacle(  # noqa: PLR0911 - one return for each reason
    mapping: proc.Mapping, others: set[tuple[str, int]]
) -> str:
    """Why a mapping ties its process to its home, or "".

    `others` are (device, inode) of shared memory that other processes map too.
    """
    if mapping.name.startswith("/dev/") and not mapping.name.startswith(("/dev/zero", "/dev/shm/")):
        return _("it maps the device {name}").format(name=mapping.name)
    if mapping.name.startswith("/anon_hugepage"):
        return _("it uses huge pages: {where}").format(where=f"{mapping.start:#x}")
    if not mapping.shared:
        return ""
    where = f"{mapping.name or _('shared memory')} ({mapping.start:#x})"
    if mapping.name.startswith("/SYSV"):
        return _("it uses System V shared memory: {where}").format(where=where)
    if (mapping.device, mapping.inode) in others:
        return _("it shares memory with another process: {where}").format(where=where)
    if mapping.name.startswith("/memfd:"):
        return _("it maps a memory file shared: {where}").format(where=where)
    if mapping.writable and not mapping.name.startswith("/dev/zero"):
        return _("it maps a file shared and writable: {where}").format(where=where)
    return ""


def memory_that_may_be_shared(mappings: list[proc.Mapping]) -> set[tuple[str, int]]:
    """Device and inode of memory without a name that other processes may have too."""
    return {(m.device, m.inode) for m in mappings if m.shared and m.name.startswith(("/dev/zero", "/memfd:"))}


def mapping_obstacle(pid: int) -> str:
    """What of a process's memory ties it to its home, "" if nothing does or it may not be looked at."""
    try:
        mappings = proc.mappings(pid)
    except OSError:
        return ""
    others = shared_elsewhere(pid, memory_that_may_be_shared(mappings))
    return next((why for mapping in mappings if (why := region_obstacle(mapping, others))), "")


def shared_elsewhere(pid: int, wanted: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """Which of the shared mappings `wanted` (device, inode) other processes have too."""
    found: set[tuple[str, int]] = set()
    if not wanted:
        return found
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == pid:
            continue
        try:
            others = proc.mappings(int(name))
        except OSError:
            continue
        found |= {(m.device, m.inode) for m in others if m.shared and (m.device, m.inode) in wanted}
    return found
