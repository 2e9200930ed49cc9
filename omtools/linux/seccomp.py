"""Seccomp filters with user notification: <linux/seccomp.h>, <linux/filter.h>, seccomp_unotify(2)."""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from omtools.linux.libc import C, syscall

SYS_SECCOMP = 317
SYS_PIDFD_OPEN = 434
SYS_PIDFD_GETFD = 438

SET_MODE_FILTER = 1  # SECCOMP_SET_MODE_FILTER
FILTER_FLAG_NEW_LISTENER = 8  # SECCOMP_FILTER_FLAG_NEW_LISTENER
_RET_ALLOW = 0x7FFF0000
_RET_USER_NOTIF = 0x7FC00000
_RET_KILL_PROCESS = 0x80000000
_AUDIT_ARCH_X86_64 = 0xC000003E  # <linux/audit.h>

# struct seccomp_data: int nr; u32 arch; u64 instruction_pointer; u64 args[6]
_NR, _ARCH, _ARGS = 0, 4, 16

# <linux/bpf_common.h>
_LD_ABS, _JEQ, _JGE, _AND, _RET = 0x20, 0x15, 0x35, 0x54, 0x06

# _IOWR('!', ...) of <linux/seccomp.h>
_NOTIF_RECV = 0xC0502100
_NOTIF_SEND = 0xC0182101
_NOTIF_ID_VALID = 0x40082102
_NOTIF_ADDFD = 0x40182103
_NOTIF_SET_FLAGS = 0x40082104
_FD_SYNC_WAKE_UP = 1  # SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP, Linux 6.6
_ADDFD_FLAG_SETFD = 1  # SECCOMP_ADDFD_FLAG_SETFD
_FLAG_CONTINUE = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE

Rule = tuple[tuple[int, int, int], ...]
"""Equalities (argument index, mask, value) that must all hold for a call to be allowed."""


def compile_filter(
    allowed: Mapping[int, tuple[Rule, ...]], trapped: Mapping[int, tuple[Rule, ...]] | None = None
) -> bytes:
    """A filter that allows calls by rules and notifies of all others, as an array of struct sock_filter.

    Calls of `trapped` are the other way round: allowed, but where one of their rules holds. Calls are
    found by binary search over their numbers, so that no call costs more than some ten comparisons. x32
    numbers (bit 30) and unknown ones are notified; another architecture's are killed.
    """
    decisions = {nr: _alternatives(rules, _ALLOW) + _NOTIFY for nr, rules in allowed.items()}
    decisions |= {nr: _alternatives(rules, _NOTIFY) + _ALLOW for nr, rules in (trapped or {}).items()}
    often = [nr for nr in _OFTEN if nr in (trapped or {})]
    search = _search(sorted(decisions.keys() - set(often)), decisions)
    for nr in often:
        search = _branch(_JEQ, nr, decisions[nr], search)
    head = [(_LD_ABS, 0, 0, _ARCH), (_JEQ, 1, 0, _AUDIT_ARCH_X86_64), (_RET, 0, 0, _RET_KILL_PROCESS),
            (_LD_ABS, 0, 0, _NR)]  # fmt: skip
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in head + search)


# close, pwrite64, pread64, write, read of <asm/unistd_64.h>; the last one is looked for first
_OFTEN = (3, 18, 17, 1, 0)

_Code = list[tuple[int, int, int, int]]
_NOTIFY: _Code = [(_RET, 0, 0, _RET_USER_NOTIF)]
_ALLOW: _Code = [(_RET, 0, 0, _RET_ALLOW)]


def _search(numbers: list[int], decisions: Mapping[int, _Code]) -> _Code:
    if not numbers:
        return _NOTIFY
    if len(numbers) == 1:
        return _branch(_JEQ, numbers[0], decisions[numbers[0]], _NOTIFY)
    middle = len(numbers) // 2
    high, low = _search(numbers[middle:], decisions), _search(numbers[:middle], decisions)
    return _branch(_JGE, numbers[middle], high, low)


def _branch(operation: int, value: int, then: _Code, otherwise: _Code) -> _Code:
    """Code for "if (A op value) then, else otherwise".

    A conditional jump is at most 255 instructions; a longer one goes by BPF_JA.
    """
    if len(then) <= 255:
        return [(operation, 0, len(then), value), *then, *otherwise]
    jump_always = (0x05, 0, 0, len(then))
    return [(operation, 1, 0, value), jump_always, *then, *otherwise]


def _alternatives(rules: tuple[Rule, ...], verdict: _Code) -> _Code:
    """Code that gives the verdict if one of the rules holds, else falls through to what follows."""
    if any(not rule for rule in rules):
        return verdict
    code: _Code = []
    for rule in rules:
        code += _all_hold(rule, verdict)
    return code


def _all_hold(rule: Rule, verdict: _Code) -> _Code:
    """Give the verdict if every equality holds, else fall through to what follows."""
    tests: _Code = []
    for argument, mask, value in rule:
        for half in range(2):
            part_mask, part_value = (mask >> 32 * half) & 0xFFFFFFFF, (value >> 32 * half) & 0xFFFFFFFF
            if part_mask or part_value:
                tests.append((_LD_ABS, 0, 0, _ARGS + 8 * argument + 4 * half))
                if part_mask != 0xFFFFFFFF:
                    tests.append((_AND, 0, 0, part_mask))
                tests.append((_JEQ, 0, 255, part_value))
    code: _Code = []
    for index, (operation, yes, no, value) in enumerate(tests):
        beyond = len(tests) - index  # instructions to jump over: the rest and the verdict
        code.append((operation, yes, beyond if no else no, value))
    return code + verdict


@dataclass(frozen=True, slots=True)
class Notification:
    """struct seccomp_notif: a call that waits for its answer."""

    cookie: int
    pid: int
    nr: int
    address: int
    args: tuple[int, int, int, int, int, int]


_NOTIF = struct.Struct("<QIIiIQ6Q")
_RESP = struct.Struct("<QqiI")
_ADDFD = struct.Struct("<QIIII")  # struct seccomp_notif_addfd
_EMPTY = bytes(_NOTIF.size)


def receive(listener: int) -> Notification:
    """The next waiting call; raises OSError ENOENT when the caller was interrupted meanwhile."""
    buffer = bytearray(_EMPTY)  # the kernel demands zeroes
    fcntl.ioctl(listener, _NOTIF_RECV, buffer, True)
    cookie, pid, _flags, nr, _arch, address, *args = _NOTIF.unpack(buffer)
    return Notification(cookie, pid, nr, address, tuple(args))


def answer(listener: int, cookie: int, result: int) -> None:
    """End the call with `result`, minus an errno for an error; raises OSError ENOENT if it is gone."""
    if result < 0 and result >= -4095:
        fcntl.ioctl(listener, _NOTIF_SEND, _RESP.pack(cookie, 0, result, 0))
    else:
        fcntl.ioctl(listener, _NOTIF_SEND, _RESP.pack(cookie, result, 0, 0))


def let_continue(listener: int, cookie: int) -> None:
    """Let the caller's own kernel do the call."""
    fcntl.ioctl(listener, _NOTIF_SEND, _RESP.pack(cookie, 0, 0, _FLAG_CONTINUE))


def add_descriptor(listener: int, cookie: int, descriptor: int, number: int) -> None:
    """Give the waiting caller our `descriptor` as its `number`; what it had there is closed."""
    request = _ADDFD.pack(cookie, _ADDFD_FLAG_SETFD, descriptor, number, os.O_CLOEXEC)
    fcntl.ioctl(listener, _NOTIF_ADDFD, request)


def set_sync_wake_up(listener: int) -> bool:
    """Switch caller and listener on one CPU: a trap then costs a quarter. False before Linux 6.6."""
    result: int = C.ioctl(listener, ctypes.c_ulong(_NOTIF_SET_FLAGS), ctypes.c_ulong(_FD_SYNC_WAKE_UP))
    return result == 0


def take_descriptor(pid: int, descriptor: int) -> int:
    """A copy of another process's descriptor: pidfd_open(2), pidfd_getfd(2)."""
    pidfd = syscall(SYS_PIDFD_OPEN, pid, 0)
    try:
        return syscall(SYS_PIDFD_GETFD, pidfd, descriptor, 0)
    finally:
        os.close(pidfd)
