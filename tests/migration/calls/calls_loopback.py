"""A deputy in the test's own process: plans are executed for real, with no ptrace and no second process.

`Direct` makes a call as it is; `Loopback` plans it, runs what the deputy would run in an arena of its own,
collects, and lands the bytes. A scenario that sees the same with both has lost nothing on the way.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from omtools.migration.calls.model import Answer, Arena, Continue, CpuTime, Fault, Forward, Plan
from omtools.migration.calls.plan import collect, land, name, out_length, plan
from omtools.migration.calls.table import TABLE

NUMBERS = {call.name: nr for nr, call in TABLE.items()}
MASK = (1 << 64) - 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class Room:
    """Memory of the process: an address and its bytes, filled with a pattern unless something is in it."""

    def __init__(self, content: bytes | int, *parts: Room | None) -> None:
        self.parts = parts  # what its bytes point to lives as long as it does
        if isinstance(content, int):
            content = bytes((7 * i + 0x55) & 0xFF for i in range(content))
        self._array = (ctypes.c_char * max(len(content), 1)).from_buffer_copy(content or b"\0")
        self.size = len(content)

    @property
    def address(self) -> int:
        return ctypes.addressof(self._array)

    @property
    def bytes(self) -> bytes:
        return self._array.raw[: self.size]


Value = int | Room | bytes | None


class Kernel(Protocol):
    def __call__(self, call: str, *args: Value) -> int:
        """The result, or minus an errno. Bytes are strings: their NUL is added."""
        ...


def _system_call(nr: int, args: tuple[int, ...]) -> int:
    registers = [ctypes.c_ulong(arg & MASK) for arg in args]
    result = int(_libc.syscall(ctypes.c_long(nr), *registers))
    return -ctypes.get_errno() if result == -1 else result


def _registers(args: tuple[Value, ...], keep: list[Room]) -> tuple[int, ...]:
    registers = []
    for arg in args:
        if isinstance(arg, int):
            registers.append(arg & MASK)
        elif arg is None:
            registers.append(0)
        else:
            keep.append(arg if isinstance(arg, Room) else Room(arg + b"\0"))
            registers.append(keep[-1].address)
    # what a call does not use is garbage in real life
    return tuple(registers) + (0xDEAD_BEEF_0BAD_CAFE,) * (6 - len(registers))


class Direct:
    """The kernel itself."""

    def __call__(self, call: str, *args: Value) -> int:
        keep: list[Room] = []
        return _system_call(NUMBERS[call], _registers(args, keep))


class OwnMemory:
    """This process's memory; what is not there is a Fault and no signal."""

    def __init__(self) -> None:
        self._fd = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
        # out of the way: scenarios compare descriptor numbers
        self.fd = os.dup2(self._fd, 900, inheritable=False)
        os.close(self._fd)
        self.reads: list[tuple[int, int]] = []

    def read(self, address: int, length: int) -> bytes:
        self.reads.append((address, length))
        try:
            data = os.pread(self.fd, length, address)
        except (OSError, OverflowError):
            raise Fault from None
        if len(data) != length:
            raise Fault
        return data

    def read_string(self, address: int, limit: int) -> bytes:
        text = b""
        while len(text) < limit and not text.endswith(b"\0"):
            text += self.read(address + len(text), 1)
        return text


class Loopback:
    """Plan, execute, collect, land."""

    def __init__(self, size: int = 1 << 24) -> None:
        self.memory = OwnMemory()
        self._map = mmap.mmap(-1, size)
        self._view = (ctypes.c_char * size).from_buffer(self._map)
        self.arena = Arena(ctypes.addressof(self._view), size)
        self.last: Plan | None = None

    def close(self) -> None:
        os.close(self.memory.fd)
        del self._view
        self._map.close()

    def plan(self, call: str, *args: Value) -> Plan:
        keep: list[Room] = []
        return plan(NUMBERS[call], _registers(args, keep), self.memory, self.arena)

    def __call__(self, call: str, *args: Value) -> int:
        keep: list[Room] = []
        registers = _registers(args, keep)
        decided = self.last = plan(NUMBERS[call], registers, self.memory, self.arena)
        if isinstance(decided, Answer):
            assert not decided.writes
            return decided.result
        if isinstance(decided, Continue):
            return _system_call(NUMBERS[call], registers)
        if isinstance(decided, CpuTime):
            decided = decided.forward
        assert isinstance(decided, Forward), f"{call} {args}: {decided}"
        return self._execute(decided)

    def _execute(self, forward: Forward) -> int:
        start = self.arena.base
        length = forward.arena_length
        assert len(forward.arena) <= length <= self.arena.size, name(forward.nr)
        # as the arena may look after the call before
        self._map[: length + 64] = b"\xaa" * (length + 64)
        self._map[: len(forward.arena)] = forward.arena
        result = _system_call(forward.nr, forward.args)
        assert self._map[length : length + 64] == b"\xaa" * 64, f"{name(forward.nr)} wrote beyond its arena"
        data = collect(forward.outs, result, lambda offset, size: self._map[offset : offset + size])
        assert len(data) == out_length(forward.outs, result) == out_length(forward.outs, result & MASK)
        for address, piece in land(forward, result, data):
            assert not start <= address < start + self.arena.size
            ctypes.memmove(address, piece, len(piece))
        return result


Seen = list[object]
Scenario = Callable[[Kernel, Path], Seen]


def compare(act: Scenario) -> None:
    """What the scenario sees from the kernel is what it sees through the loopback."""
    seen = []
    loopback = Loopback()
    # the same name both times, for paths are compared too
    folder = Path(tempfile.gettempdir(), f"calls-{os.getpid()}")
    for kernel in (Direct(), loopback):
        folder.mkdir()
        try:
            seen.append(act(kernel, folder))
        finally:
            shutil.rmtree(folder)
    loopback.close()
    assert seen[0]
    assert seen[0] == seen[1]


def words(*numbers: int) -> Room:
    """64-bit numbers."""
    return Room(struct.pack(f"<{len(numbers)}q", *numbers))


def ints(*numbers: int) -> Room:
    """C ints."""
    return Room(struct.pack(f"<{len(numbers)}i", *numbers))


def iovec(*rooms: Room) -> Room:
    """struct iovec of these."""
    return words(*[number for room in rooms for number in (room.address, room.size)])
