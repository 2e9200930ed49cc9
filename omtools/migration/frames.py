"""What the two keepers of one process say to each other: kinds of frames and their layouts.

Every frame is a header (length of the body, kind, serial of the call it belongs to) and a body. Frames of
forwarded calls are packed by hand, for they are many and small; the rare ones are msgpack.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from omtools.migration.calls.model import Forward, Out, OutRule

HEADER = struct.Struct("<IHxxI")


class Kind(IntEnum):
    """Kinds of frames; → to the guest's keeper, ← to the deputy's."""

    HELLO = 1        # ↔ who calls, version, places; the cage stands
    IMAGE = 2        # ↔ the image (msgpack of omtools.image.model.Image)
    PAGES = 3        # ↔ address, bytes
    END = 4          # ↔ all pages are sent: number of bytes
    READY = 5        # ← built and complete; the deputy's keeper may commit
    REFUSED = 6      # ↔ it cannot be built (wire form of an OmError)
    GO = 7           # → run
    STARTED = 8      # ← it runs: the commit point
    CALL = 9         # ← a system call to do
    RESULT = 10      # → its result and what it wrote
    CANCEL = 11      # ← break it off
    CANCELLED = 12   # → broken off: the kernel's -ERESTART code, nanoseconds it took, what it wrote
    SIGNAL = 13      # → a signal reached the deputy (siginfo_t)
    STOP = 14        # → the deputy was stopped: hold the remote
    CONTINUE = 15    # → the deputy goes on
    RECALL = 16      # → freeze and send the image
    LEAVING = 17     # ← frozen; the image follows (reason)
    DONE = 18        # → it runs elsewhere: destroy the copy
    STAY = 19        # → it could not move: go on
    EXITED = 20      # ← the process ended (how, status)
    GROW = 21        # ← a call needs a larger arena (bytes)
    GROWN = 22       # → the arena's new size
    EXPELLED = 23    # ← the host wants it out: recall it
    CLOCK = 24       # ↔ during the greeting: ← what time is it, → the home node's clocks
    COUNTS = 25      # ← what it has read and written there so far (msgpack of a list of FileIo)
    DIRECT = 26      # → it may open files where it runs, or (an empty body) may not any more


_CALL = struct.Struct("<i6QIBH")  # number, arguments, bytes of the arena, flags, count of ranges
_OUT = struct.Struct("<IIB")
_MAY_BLOCK, _OPENS, _NEEDS_MASK = 1, 2, 4
_MASK = struct.Struct("<Q")


def pack_call(forward: Forward, mask: int = 0) -> bytes:
    """The body of a CALL."""
    flags = forward.may_block * _MAY_BLOCK | forward.opens * _OPENS | forward.needs_mask * _NEEDS_MASK
    outs = forward.outs
    head = _CALL.pack(forward.nr, *forward.args, forward.arena_length, flags, len(outs))
    if not outs and not flags & _NEEDS_MASK:
        return head + forward.arena
    ranges = b"".join([_OUT.pack(out.offset, out.length, out.rule) for out in outs])
    return head + ranges + (_MASK.pack(mask) if flags & _NEEDS_MASK else b"") + forward.arena


class Request:
    """A CALL as the deputy's keeper sees it.

    Attributes:
        nr: number of the call.
        args: six arguments.
        outs: what comes back.
        arena: bytes for the arena's start.
        may_block: the deputy may have to wait.
        opens: look what was opened.
        mask: signals to block meanwhile, or None.
    """

    __slots__ = ("arena", "arena_length", "args", "mask", "may_block", "nr", "opens", "outs")

    def __init__(self, body: memoryview) -> None:
        self.nr, *args, self.arena_length, flags, count = _CALL.unpack_from(body)
        self.args: list[int] = args
        position = _CALL.size
        outs = []
        for _index in range(count):
            offset, length, rule = _OUT.unpack_from(body, position)
            outs.append(Out(offset, length, OutRule(rule)))
            position += _OUT.size
        self.outs = tuple(outs)
        self.mask: int | None = None
        if flags & _NEEDS_MASK:
            self.mask = _MASK.unpack_from(body, position)[0]
            position += _MASK.size
        self.may_block = bool(flags & _MAY_BLOCK)
        self.opens = bool(flags & _OPENS)
        self.arena = body[position:]

    @classmethod
    def plain(cls, nr: int, args: tuple[int, ...]) -> Request:
        """A call of the keeper's own, with numbers for arguments."""
        padded = (*(value & (1 << 64) - 1 for value in args), *(0,) * (6 - len(args)))
        return cls(memoryview(_CALL.pack(nr, *padded, 0, 0, 0)))


RESULT = struct.Struct("<q")
CANCELLED = struct.Struct("<qQ")
COME_HOME = -(1 << 62)
"""A RESULT that is none: the call cannot be done there, the process must come home (the body says why)."""

LEAVING = struct.Struct("<QI")  # nanoseconds since it was frozen, SIGNALs taken (32 bits); the reason follows
NUMBER = struct.Struct("<Q")
