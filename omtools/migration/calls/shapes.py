"""The plain shapes of arguments: what the table is written in.

A shape says where a piece of memory lies, how long it is and which way it travels; `step` turns it into
the function that does it. Arguments that no shape names (ints, descriptors, flags) travel as they are.
A NULL pointer stays NULL, one to kernel space stays as it is: the deputy's kernel says what it thinks.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from errno import EINVAL, ENAMETOOLONG, ERANGE
from typing import NamedTuple, Protocol

from omtools.migration.calls.build import ALIGN, TASK_SIZE, Build, Decided, Step, signed32
from omtools.migration.calls.model import Answer, Fault, OutRule, Timeout

MAX_RW_COUNT = 0x7FFFF000  # include/linux/fs.h: INT_MAX rounded down to a page; the kernel cuts counts to it
PATH_MAX = 4096            # include/uapi/linux/limits.h, with the NUL
XATTR_NAME_MAX = 255       # include/uapi/linux/limits.h, without the NUL
XATTR_SIZE_MAX = 65536     # include/uapi/linux/limits.h, also XATTR_LIST_MAX
IOV_MAX = 1024             # include/uapi/linux/uio.h, UIO_MAXIOV

Measure = Callable[[Build], int]


class Shape(Protocol):
    """What a table row may list."""

    def step(self) -> Step:
        """The function that puts this argument into a Build."""
        ...


class Arg(NamedTuple):
    """A length that another argument gives.

    Attributes:
        number: of that argument.
        unit: bytes per count.
        wide: it is a size_t; else an int or unsigned int, whose register's high half is garbage. Both
            are taken as signed: negative is no length (the kernel refuses it or finds it too large).
        limit: a larger count is taken for this one, because the kernel looks no further.
        over: errno for a larger count instead, because the kernel refuses it.
        extra: bytes on top.
    """

    number: int
    unit: int = 1
    wide: bool = True
    limit: int = MAX_RW_COUNT
    over: int = 0
    extra: int = 0

    def measure(self) -> Measure:
        """The function that reads it."""
        number, unit, wide, limit, over, extra = self

        def length(b: Build) -> int:
            count = b.raw[number]
            if not wide:
                count = signed32(count)
            elif count >> 63:
                return 0
            if count > limit:
                if over:
                    raise Decided(Answer(-over))
                count = limit
            return count * unit + extra if count >= 0 else 0

        return length


class Field(NamedTuple):
    """A length that a little-endian field of the structure itself gives.

    Attributes:
        arg: the argument that points to the structure.
        offset: of the field in it.
        width: of the field, in bytes.
        base: bytes of the structure without what the field counts.
        unit: bytes per count.
        limit: a larger count is taken for this one.
        zero: what a count of 0 means.
    """

    arg: int
    offset: int
    width: int = 4
    base: int = 0
    unit: int = 1
    limit: int = 4096
    zero: int = 0

    def measure(self) -> Measure:
        """The function that reads it."""
        arg, offset, width, base, unit, limit, zero = self

        def length(b: Build) -> int:
            count = int.from_bytes(b.memory.read(b.raw[arg] + offset, width), "little") or zero
            return base + unit * min(count, limit)

        return length


Size = int | Arg | Field


def measured(size: Size) -> Measure:
    """The function that says how long a piece is."""
    if isinstance(size, int):
        constant = size
        return lambda _: constant
    return size.measure()


class InBytes(NamedTuple):
    """A buffer the kernel reads.

    Attributes:
        arg: the argument that points to it.
        when: (index, mask): the kernel looks at the pointer only if that argument has one of those bits.
    """

    arg: int
    size: Size
    when: tuple[int, int] | None = None

    def step(self) -> Step:
        """See Shape."""
        arg, measure, when = self.arg, measured(self.size), self.when

        def take(b: Build) -> None:
            if when is not None and not b.raw[when[0]] & when[1]:
                b.args[arg] = 0
                return
            address = b.raw[arg]
            if address:
                length = measure(b)
                # Without length any pointer will do, so long as it is not NULL.
                b.args[arg] = b.base + (b.put(b.memory.read(address, length)) if length else 0)

        return take


class OutBytes(NamedTuple):
    """A buffer the kernel fills."""

    arg: int
    size: Size
    rule: OutRule = OutRule.FULL

    def step(self) -> Step:
        """See Shape."""
        arg, measure, rule = self.arg, measured(self.size), self.rule

        def give(b: Build) -> None:
            address = b.raw[arg]
            if 0 < address < TASK_SIZE:
                length = measure(b)
                if length:
                    offset = b.reserve(length)
                    b.out(offset, length, rule, ((address, length),))
                    b.args[arg] = b.base + offset
                else:
                    b.args[arg] = b.base

        return give


class InOutBytes(NamedTuple):
    """A structure the kernel reads and writes, or writes only in part."""

    arg: int
    size: Size
    rule: OutRule = OutRule.FULL

    def step(self) -> Step:
        """See Shape."""
        arg, measure, rule = self.arg, measured(self.size), self.rule

        def swap(b: Build) -> None:
            address = b.raw[arg]
            if address:
                length = measure(b)
                if length:
                    offset = b.put(b.memory.read(address, length))
                    b.out(offset, length, rule, ((address, length),))
                    b.args[arg] = b.base + offset
                else:
                    b.args[arg] = b.base

        return swap


class Text(NamedTuple):
    """A string with its NUL.

    Attributes:
        limit: bytes that the kernel looks at, with the NUL.
        error: its answer if there is no NUL among them; 0: it cuts the string off there.
    """

    arg: int
    limit: int = PATH_MAX
    error: int = ENAMETOOLONG

    def step(self) -> Step:
        """See Shape."""
        arg, limit, error = self

        def copy(b: Build) -> None:
            address = b.raw[arg]
            if address:
                text = b.memory.read_string(address, limit)
                if error and text[-1:] != b"\0":
                    raise Decided(Answer(-error))
                b.args[arg] = b.base + b.put(text)

        return copy


def attribute_name(arg: int) -> Text:
    """The name of an extended attribute (fs/xattr.c, import_xattr_name)."""
    return Text(arg, XATTR_NAME_MAX + 1, ERANGE)


class Milliseconds(NamedTuple):
    """A timeout in the argument itself: an int, negative for ever."""

    arg: int

    def step(self) -> Step:
        """See Shape."""
        arg = self.arg

        def clock(b: Build) -> None:
            wait = signed32(b.raw[arg])
            if wait > 0:
                b.timeout = Timeout(arg, -1, 1_000_000)
            elif wait == 0:
                b.may_block = False

        return clock


class Deadline(NamedTuple):
    """A relative timeout in a struct timespec or timeval (16 bytes both).

    Attributes:
        unit: nanoseconds per unit of the second field.
        rule: how it comes back, where the kernel writes what is left of it.
    """

    arg: int
    unit: int = 1
    rule: OutRule | None = None

    def step(self) -> Step:
        """See Shape."""
        arg, unit, rule = self

        def clock(b: Build) -> None:
            address = b.raw[arg]
            if not address:
                return
            wait = b.memory.read(address, 16)
            offset = b.put(wait)
            b.args[arg] = b.base + offset
            if rule is not None:
                b.out(offset, 16, rule, ((address, 16),))
            if wait == bytes(16):
                b.may_block = False
            else:
                b.timeout = Timeout(arg, offset, unit)

        return clock


class ValueResult(NamedTuple):
    """A buffer whose room and, afterwards, real length stand in an int elsewhere (socklen_t).

    Attributes:
        arg: points to the buffer.
        length: points to the int.
        limit: the kernel never has more to say than so many bytes.
        rule: of the int; getsockopt tells with ERANGE how much room it wants.
        preload: bytes up to which the buffer is sent along: some options read what they replace.
    """

    arg: int
    length: int
    limit: int
    rule: OutRule = OutRule.FULL
    preload: int = 0

    def step(self) -> Step:
        """See Shape."""
        arg, length_arg, limit, rule, preload = self

        def give(b: Build) -> None:
            address, where = b.raw[arg], b.raw[length_arg]
            if not (0 < address < TASK_SIZE and where):
                b.args[length_arg] = 0
                return
            room = min(signed32(int.from_bytes(b.memory.read(where, 4), "little")), limit)
            offset = b.put((room & 0xFFFFFFFF).to_bytes(4, "little"))
            b.args[length_arg] = b.base + offset
            says = b.out(offset, 4, rule, ((where, 4),))
            if room <= 0:
                b.args[arg] = b.base
                return
            offset = -1
            if room <= preload:
                # The int may promise more room than there is: the kernel minds only what it fills.
                with suppress(Fault):
                    offset = b.put(b.memory.read(address, room))
            if offset < 0:
                offset = b.reserve(room)
            b.args[arg] = b.base + offset
            b.sized.append((b.out(offset, room, OutRule.FULL, ((address, room),)), says, 0))

        return give


class Iovec(NamedTuple):
    """The segments of readv (out) or writev (in); lib/iov_iter.c, __import_iovec.

    The segments stay as they are (drivers that know only read and write get one call for each), one
    behind the other, so that a result of n bytes is the first n bytes of one range.
    """

    arg: int
    length: int
    out: bool

    def step(self) -> Step:
        """See Shape."""
        arg, length_arg, out = self

        def vector(b: Build) -> None:
            address, count = b.raw[arg], b.raw[length_arg]
            if count > IOV_MAX:
                raise Decided(Answer(-EINVAL))
            if address and count:
                b.args[arg] = b.base + segments(b, address, count, out)
            elif address:
                b.args[arg] = b.base

        return vector


def iovec_of(b: Build, address: int, count: int) -> list[tuple[int, int]]:
    """The process's segments (struct iovec, include/uapi/linux/uio.h), cut to MAX_RW_COUNT in all."""
    words = memoryview(b.memory.read(address, 16 * count)).cast("Q")
    pairs = []
    left = MAX_RW_COUNT
    for i in range(0, 2 * count, 2):
        length = words[i + 1]
        if length >> 63:
            raise Decided(Answer(-EINVAL))
        length = min(length, left)
        left -= length
        pairs.append((words[i], length))
    return pairs


def segments(b: Build, address: int, count: int, out: bool) -> int:
    """Iovec and segments into the arena; returns the iovec's offset.

    A result of n bytes fills them in turn. O_DIRECT wants its segments aligned as in the process: where
    all are to 512 bytes, the arena's are to a page.
    """
    pairs = iovec_of(b, address, count)
    total = sum([length for _, length in pairs])
    align = 4096 if not any((start | length) & 511 for start, length in pairs) else ALIGN
    if out:
        array = b.reserve(16 * count)
        data = b.reserve(total, align)
        b.end = array  # the array is what is sent; the data's room is taken again behind it
        offset = b.put(pack_words(vector_words(b.base + data, pairs)))
        b.end = data + total
        if total:
            b.out(data, total, OutRule.RET, tuple([pair for pair in pairs if pair[1]]))
        return offset
    pieces = []
    for i, (start, length) in enumerate(pairs):
        try:
            pieces.append(b.memory.read(start, length) if length else b"")
        except Fault:
            # As far as it goes: the kernel writes what lies before a bad segment, then finds this one.
            pairs[i:] = [(0, length) for _, length in pairs[i:]]
            break
    data = b.put(b"".join(pieces), align)
    return b.put(pack_words(vector_words(b.base + data, pairs)))


def vector_words(start: int, pairs: list[tuple[int, int]]) -> list[int]:
    """Struct iovec of segments that lie one behind the other from `start`; bad pointers stay as they are."""
    words: list[int] = []
    for address, length in pairs:
        words += (start if 0 < address < TASK_SIZE or not length else address, length)
        start += length
    return words


def pack_words(words: list[int]) -> bytes:
    """64-bit words as they lie in memory."""
    return b"".join([word.to_bytes(8, "little") for word in words])
