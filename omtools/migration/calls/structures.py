"""Shapes of single calls: setxattrat and getxattrat, waitid, mq_notify, ioctl's SIOCGIFCONF."""

from __future__ import annotations

from typing import NamedTuple

from omtools.i18n import N_, _
from omtools.migration.calls.build import TASK_SIZE, Build, Decided, Step, signed32
from omtools.migration.calls.model import ComeHome, OutRule
from omtools.migration.calls.shapes import XATTR_SIZE_MAX

SIGINFO = 128     # include/uapi/asm-generic/siginfo.h
SIGEVENT = 64     # include/uapi/asm-generic/siginfo.h: at 8 signo, at 12 notify
SIGEV_THREAD = 2  # include/uapi/asm-generic/siginfo.h

_THREAD = N_("it wants a thread started for each message of a queue (mq_notify)")


class AttributeArguments(NamedTuple):
    """struct xattr_args (include/uapi/linux/xattr.h): u64 value's address, u32 size, u32 flags.

    Attributes:
        arg: points to it.
        size: the argument that says how long it is (16 bytes so far; the kernel refuses more than a page).
        out: the value comes back.
    """

    arg: int
    size: int
    out: bool

    def step(self) -> Step:
        """See Shape."""
        arg, size_arg, out = self

        def value(b: Build) -> None:
            address, size = b.raw[arg], b.raw[size_arg]
            if not address:
                return
            if not 16 <= size <= 4096:
                b.args[arg] = b.base  # EINVAL or E2BIG
                return
            pack = b.memory.read(address, size)
            where, length = int.from_bytes(pack[:8], "little"), int.from_bytes(pack[8:12], "little")
            length = min(length, XATTR_SIZE_MAX)
            if where and length and not out:
                where = b.base + b.put(b.memory.read(where, length))
            at = b.reserve(size)
            if 0 < where < TASK_SIZE and length and out:
                offset = b.reserve(length)
                b.out(offset, length, OutRule.RET, ((where, length),))
                where = b.base + offset
            end, b.end = b.end, at
            b.put(where.to_bytes(8, "little") + pack[8:])
            b.end = end
            b.args[arg] = b.base + at

        return value


class ChildInfo(NamedTuple):
    """What waitid writes, also on errors, and only in part (kernel/exit.c).

    si_signo, si_errno, si_code at 0; si_pid, si_uid, si_status at 16.
    """

    arg: int

    def step(self) -> Step:
        """See Shape."""
        arg = self.arg

        def info(b: Build) -> None:
            address = b.raw[arg]
            if 0 < address < TASK_SIZE:
                offset = b.reserve(SIGINFO)
                b.out(offset, 12, OutRule.ALWAYS, ((address, 12),))
                b.out(offset + 16, 12, OutRule.ALWAYS, ((address + 16, 12),))
                b.args[arg] = b.base + offset

        return info


class Notification(NamedTuple):
    """The struct sigevent of mq_notify: with SIGEV_THREAD its value points to a cookie (ipc/mqueue.c)."""

    arg: int

    def step(self) -> Step:
        """See Shape."""
        arg = self.arg

        def event(b: Build) -> None:
            address = b.raw[arg]
            if not address:
                return
            data = b.memory.read(address, SIGEVENT)
            if int.from_bytes(data[12:16], "little") == SIGEV_THREAD:
                raise Decided(ComeHome(_(_THREAD)))
            b.args[arg] = b.base + b.put(data)

        return event


class Interfaces(NamedTuple):
    """struct ifconf (include/uapi/linux/if.h): int ifc_len, in and out, and at 8 where the list goes."""

    arg: int

    def step(self) -> Step:
        """See Shape."""
        arg = self.arg

        def interfaces(b: Build) -> None:
            address = b.raw[arg]
            if not address:
                return
            data = b.memory.read(address, 16)
            room = signed32(int.from_bytes(data[:4], "little"))
            where = int.from_bytes(data[8:], "little")
            at = b.reserve(16)
            says = b.out(at, 16, OutRule.FULL, ((address, 4), (0, 12)))
            if 0 < where < TASK_SIZE and room > 0:
                offset = b.reserve(room)
                b.sized.append((b.out(offset, room, OutRule.FULL, ((where, room),)), says, 0))
                where = b.base + offset
            end, b.end = b.end, at
            b.put(data[:8] + where.to_bytes(8, "little"))
            b.end = end
            b.args[arg] = b.base + at

        return interfaces
