"""The shapes of select, pselect6 and epoll_wait: sets, a mask inside a struct, events that are counted."""

from __future__ import annotations

from typing import NamedTuple

from omtools.migration.calls.build import TASK_SIZE, Build, Step, signed32
from omtools.migration.calls.model import Fault, Memory, OutRule

PAGE = 4096
# fs/file.c, sysctl_nr_open's default: a set cannot matter beyond the largest descriptor.
MAX_FDS = 1 << 20
EPOLL_EVENT = 12  # include/uapi/linux/eventpoll.h: packed on x86-64
# epoll_wait may return fewer events than it is asked for: no reason to reserve room for a million.
MAX_EVENTS = 4096


def _readable(memory: Memory, address: int, length: int) -> bytes:
    """What can be read of a set, to the page where it ends.

    The kernel looks only at as many descriptors as the process's table has room for, and some programs
    say select(1048576, …) with a set of 128 bytes near the end of their stack.
    """
    try:
        return memory.read(address, length)
    except Fault:
        if address // PAGE == (address + length - 1) // PAGE:
            raise
    whole = PAGE - address % PAGE
    data = memory.read(address, whole)
    while whole < length:
        step = min(PAGE, length - whole)
        try:
            data += memory.read(address + whole, step)
        except Fault:
            break
        whole += step
    return data


class FdSets(NamedTuple):
    """The three sets of select and pselect6 (fs/select.c, core_sys_select): arguments 1 to 3."""

    def step(self) -> Step:
        """See Shape."""

        def sets(b: Build) -> None:
            count = min(signed32(b.raw[0]), MAX_FDS)
            if count <= 0:
                return  # EINVAL, or nothing but a sleep: no set is looked at
            length = (count + 63) // 64 * 8
            for arg in (1, 2, 3):
                address = b.raw[arg]
                if address:
                    data = _readable(b.memory, address, length)
                    count = min(count, len(data) * 8)
                    offset = b.put(data)
                    b.out(offset, len(data), OutRule.FULL, ((address, len(data)),))
                    b.args[arg] = b.base + offset
            b.args[0] = count

        return sets


class MaskArgument(NamedTuple):
    """The last argument of pselect6: {const sigset_t *, size_t} (fs/select.c, struct sigset_argpack)."""

    arg: int

    def step(self) -> Step:
        """See Shape."""
        arg = self.arg

        def mask(b: Build) -> None:
            address = b.raw[arg]
            if not address:
                return
            pack = b.memory.read(address, 16)
            where = int.from_bytes(pack[:8], "little")
            if where:
                where = b.base + b.put(b.memory.read(where, 8))
            b.args[arg] = b.base + b.put(where.to_bytes(8, "little") + pack[8:])

        return mask


_MASKS = {270: 5, 271: 3, 281: 4, 441: 4}  # pselect6, ppoll, epoll_pwait, epoll_pwait2


def mask_meanwhile(nr: int, args: tuple[int, ...], memory: Memory) -> tuple[int, int] | None:
    """Address and value of the mask of blocked signals that this call puts in place while it waits."""
    argument = _MASKS.get(nr)
    if argument is None or not (address := args[argument]):
        return None
    try:
        if argument == 5:
            address = int.from_bytes(memory.read(address, 8), "little")
        return (address, int.from_bytes(memory.read(address, 8), "little")) if address else None
    except Fault:
        return None


class Events(NamedTuple):
    """The events that epoll_wait fills: argument 1, room for them in argument 2."""

    def step(self) -> Step:
        """See Shape."""

        def events(b: Build) -> None:
            address, count = b.raw[1], signed32(b.raw[2])
            if not 0 < address < TASK_SIZE:
                return
            if count <= 0:
                b.args[1] = b.base  # EINVAL
                return
            if MAX_EVENTS < count <= 0x7FFFFFFF // EPOLL_EVENT:
                b.args[2] = count = MAX_EVENTS
            elif count > MAX_EVENTS:
                b.args[1] = b.base  # EINVAL (fs/eventpoll.c, EP_MAX_EVENTS)
                return
            offset = b.reserve(EPOLL_EVENT * count)
            b.out(offset, EPOLL_EVENT * count, OutRule.RET12, ((address, EPOLL_EVENT * count),))
            b.args[1] = b.base + offset

        return events
