"""A made-up process memory, and plan with fewer words."""

from __future__ import annotations

from omtools.migration.calls.model import Arena, Fault, Forward, Plan
from omtools.migration.calls.plan import plan
from omtools.migration.calls.table import TABLE

NUMBERS = {call.name: nr for nr, call in TABLE.items()}
ARENA = Arena(0x10000, 1 << 20)
MASK = (1 << 64) - 1
HERE = 0x7000_0000_0000  # where tests put things in the process


class Pages:
    """Memory of which only what was put is there."""

    def __init__(self, **pieces: bytes) -> None:
        self.pieces: dict[int, bytes] = {}
        self.next = HERE
        for data in pieces.values():
            self.put(data)

    def put(self, data: bytes) -> int:
        address = self.next
        self.pieces[address] = data
        self.next += (len(data) + 8191) & ~4095  # a hole behind each
        return address

    def read(self, address: int, length: int) -> bytes:
        for start, data in self.pieces.items():
            if start <= address and address + length <= start + len(data):
                return data[address - start : address - start + length]
        raise Fault

    def read_string(self, address: int, limit: int) -> bytes:
        text = b""
        while len(text) < limit and not text.endswith(b"\0"):
            text += self.read(address + len(text), 1)
        return text


class Everywhere:
    """Memory that is everywhere and repeats one pattern; longer reads than a megabyte are Faults."""

    def __init__(self, pattern: bytes) -> None:
        self.pattern = pattern

    def read(self, address: int, length: int) -> bytes:
        if length > 1 << 20 or address < 4096 or address + length > 0x7FFF_FFFF_F000:
            raise Fault
        start = address % len(self.pattern)
        copies = (start + length) // len(self.pattern) + 1
        return (self.pattern * copies)[start : start + length]

    def read_string(self, address: int, limit: int) -> bytes:
        text = self.read(address, limit)
        end = text.find(b"\0")
        return text[: end + 1] if end >= 0 else text


class Nowhere:
    """No memory at all."""

    def read(self, address: int, length: int) -> bytes:
        raise Fault(address, length)

    def read_string(self, address: int, limit: int) -> bytes:
        raise Fault(address, limit)


def planned(call: str, *args: int, memory: Pages | Everywhere | Nowhere | None = None) -> Plan:
    """The plan of a call by its name; arguments not given are 0."""
    registers = tuple(arg & MASK for arg in args) + (0,) * (6 - len(args))
    return plan(NUMBERS[call], registers, memory or Nowhere(), ARENA)


def forwarded(call: str, *args: int, memory: Pages | Everywhere | None = None) -> Forward:
    """The same, when it must be a Forward."""
    decided = planned(call, *args, memory=memory)
    assert isinstance(decided, Forward), decided
    return decided
