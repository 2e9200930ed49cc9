"""What one node tells of itself, and the messages in which nodes tell it on.

A vector is measured once a second by its own node and never changed afterwards: the same object is kept,
passed on and shared. Beside it, not in it, travels its *age*. Clocks of nodes differ and jump, so no time
of one node is ever compared with a time of another: a sender says "measured so many milliseconds ago", the
receiver subtracts that from its own monotonic clock. An age is too small by the time that messages spent on
the wire (milliseconds a hop), nothing else.

On the wire everything is msgpack without names (`array_like`); integers only, because a small one takes one
byte and a float always nine. All limits are checked by the decoder itself, in C.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Annotated

import msgspec

from omtools.cluster.load import FULL, STANDARD_SPEED, UP, Memory

VERSION = 1  # of these messages
MB = 1 << 20
MAX_ENTRIES = 64  # of one message; the window is far smaller
MAX_SUSPICIONS = 64
MAX_MESSAGE = 16384  # bytes

_HUNDREDTHS = 100
PER_TASK = FULL * STANDARD_SPEED * _HUNDREDTHS  # a vector's load of one task on one processor of speed 1

Number = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Counter = Annotated[int, msgspec.Meta(ge=0, lt=1 << 48)]
HundredthsOfLoad = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
Megabytes = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
Percent = Annotated[int, msgspec.Meta(ge=0, le=100)]
Count = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]


class Vector(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A node, as it saw itself at one moment.

    Attributes:
        number: of the node.
        incarnation: grows with every start of its agent.
        sequence: grows with every measurement of one incarnation.
        load_now: hundredths of a unit (see `omtools.cluster.load`), of the last second.
        load_mean: the same; rises slowly, falls at once; for the node's own decisions.
        load_upper: the same; rises at once, falls slowly; for the others' decisions.
        speed: of one processor; 10000 is the standard.
        cpus: processors.
        total_mb: memory, in units of 2^20 bytes.
        free_mb: that nothing uses.
        available_mb: that a newcomer can have without swapping.
        util: utilisability in percent.
        pressure: percent of the last ten seconds in which all tasks stalled for memory (PSI "full avg10").
        status: bits, see `omtools.cluster.load`.
        guests: processes of other nodes here.
        away: processes of this node elsewhere.
        version: of the messages it speaks.
    """

    number: Number
    incarnation: Counter = 0
    sequence: Counter = 0
    load_now: HundredthsOfLoad = 0
    load_mean: HundredthsOfLoad = 0
    load_upper: HundredthsOfLoad = 0
    speed: Annotated[int, msgspec.Meta(ge=1, le=10_000_000)] = STANDARD_SPEED
    cpus: Annotated[int, msgspec.Meta(ge=1, le=65535)] = 1
    total_mb: Megabytes = 0
    free_mb: Megabytes = 0
    available_mb: Megabytes = 0
    util: Percent = 100
    pressure: Percent = 0
    status: Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)] = 0
    guests: Count = 0
    away: Count = 0
    version: Annotated[int, msgspec.Meta(ge=0, le=255)] = VERSION

    @property
    def up(self) -> bool:
        """Whether it said so itself."""
        return bool(self.status & UP)

    @property
    def memory(self) -> Memory:
        """Its memory, in bytes."""
        return Memory(self.total_mb * MB, self.free_mb * MB, self.available_mb * MB)

    @property
    def runnable_now(self) -> float:
        """Runnable tasks of the last second."""
        return self.load_now * self.speed * self.cpus / PER_TASK

    @property
    def runnable_mean(self) -> float:
        """Runnable tasks by the load that it believes in itself."""
        return self.load_mean * self.speed * self.cpus / PER_TASK

    @property
    def runnable_upper(self) -> float:
        """Runnable tasks by the load that others are to believe in."""
        return self.load_upper * self.speed * self.cpus / PER_TASK


def hundredths(load: float) -> int:
    """A load as vectors carry it."""
    return min(max(round(load * _HUNDREDTHS), 0), (1 << 32) - 1)


class Entry(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A vector on its way, and how long ago it was measured."""

    vector: Vector
    age_ms: Milliseconds = 0


class Suspicion(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Somebody asked that node so long ago and got no answer."""

    number: Number
    age_ms: Milliseconds = 0


class Kind(IntEnum):
    """What a message is for."""

    NEWS = 0
    HEARD = 1  # the answer to NEWS: "I live"


class Message(msgspec.Struct, array_like=True, frozen=True):
    """What one node sends to another, once a second: one datagram of less than 1.4 KB.

    Attributes:
        sender: number of the sending node; the transport must have authenticated it.
        kind: NEWS asks for an answer, HEARD is one.
        entries: the freshest vectors it has, and a few that are news.
        suspicions: who did not answer of late.
    """

    sender: Number
    kind: Kind = Kind.NEWS
    entries: Annotated[tuple[Entry, ...], msgspec.Meta(max_length=MAX_ENTRIES)] = ()
    suspicions: Annotated[tuple[Suspicion, ...], msgspec.Meta(max_length=MAX_SUSPICIONS)] = ()


class Untrue(StrEnum):
    """Why a vector, or a whole message, is not believed."""

    MALFORMED = "malformed"
    MEMORY = "more memory free or available than there is"
    UPPER = "told load below the present one"
    FLOOD = "too many messages"
    IMPOSTOR = "speaks in another's name"
    STRANGER = "not a node of this cluster"
    INCARNATION = "an earlier incarnation"


class UntrueError(ValueError):
    """What arrived is not believed.

    Attributes:
        reason: why.
    """

    def __init__(self, reason: Untrue, detail: str = "") -> None:
        self.reason = reason
        super().__init__(f"{reason}: {detail}" if detail else str(reason))


def fault(vector: Vector) -> Untrue | None:
    """What the figures of a vector contradict each other in (their ranges the decoder has checked)."""
    if vector.free_mb > vector.total_mb or vector.available_mb > vector.total_mb:
        return Untrue.MEMORY
    if vector.load_upper < vector.load_now or vector.load_upper < vector.load_mean:
        return Untrue.UPPER
    return None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Message)


def encode(message: Message) -> bytes:
    """A message for the wire."""
    return _encoder.encode(message)


def decode(data: bytes) -> Message:
    """A message off the wire.

    Raises:
        UntrueError: it is none, or a figure in it is out of range. An honest node believes no such vector
            and so never passes one on: whoever sends one is to blame, and the whole message is refused.
    """
    if len(data) > MAX_MESSAGE:
        raise UntrueError(Untrue.MALFORMED, f"{len(data)} bytes")
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise UntrueError(Untrue.MALFORMED, str(error)) from None
