"""The rules for a guest that opens files by itself, played by a small interpreter of the filter."""

from __future__ import annotations

import os
import struct

import pytest
from hypothesis import given, strategies as st

from omtools.linux import seccomp
from omtools.migration.calls import native
from omtools.migration.calls.plan import NATIVE_RULES

HERE = -100 & (1 << 64) - 1
ALLOWED, NOTIFIED = 0x7FFF0000, 0x7FC00000


def verdict(program: bytes, nr: int, *args: int) -> int:
    """Run a filter as the kernel would: <linux/filter.h>."""
    padded = [value & (1 << 64) - 1 for value in (*args, 0, 0, 0, 0, 0, 0)[:6]]
    data = struct.pack("<iIQ6Q", nr, 0xC000003E, 0, *padded)
    code = list(struct.iter_unpack("<HBBI", program))
    at = accumulator = 0
    while True:
        operation, yes, no, value = code[at]
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
        elif operation == 0x54:
            accumulator &= value
        elif operation == 0x06:
            return int(value)
        elif operation == 0x05:
            at += value
        else:
            holds = accumulator == value if operation == 0x15 else accumulator >= value
            at += yes if holds else no


def compiled(*trapped: int) -> bytes:
    allowed, but = native.rules(trapped)
    return seccomp.compile_filter({**NATIVE_RULES, **allowed}, but)


PROGRAM = compiled(0, 1, 2, 7)


@pytest.mark.parametrize(
    ("nr", "args", "expected"),
    [
        (0, (3, 0, 10), ALLOWED), (0, (0, 0, 10), NOTIFIED), (1, (7, 0, 10), NOTIFIED), (1, (8, 0, 10), ALLOWED),
        (17, (2,), NOTIFIED), (18, (1000,), ALLOWED), (3, (0xFFFFFFFF,), NOTIFIED), (3, (5,), ALLOWED),
        (3, (1 << 32 | 7,), NOTIFIED),  # the kernel takes an int
        (8, (5,), NOTIFIED), (5, (5,), NOTIFIED), (16, (5,), NOTIFIED),
        (2, (1, os.O_RDWR | os.O_CREAT), ALLOWED), (2, (1, os.O_PATH), NOTIFIED), (2, (1, os.O_TMPFILE), NOTIFIED),
        (257, (HERE, 1, os.O_RDONLY), ALLOWED), (257, (0xFFFFFF9C, 1, os.O_RDONLY), ALLOWED),
        (257, (4, 1, os.O_RDONLY), NOTIFIED), (257, (HERE, 1, os.O_DIRECTORY), NOTIFIED),
        (87, (1,), ALLOWED), (263, (HERE, 1, 0), ALLOWED), (263, (5, 1, 0), NOTIFIED),
        (316, (HERE, 1, HERE, 2, 0), ALLOWED), (316, (HERE, 1, 9, 2, 0), NOTIFIED),
        (56, (), NOTIFIED), (59, (), NOTIFIED), (41, (), NOTIFIED), (332, (), NOTIFIED),
    ],
)  # fmt: skip
def test_what_goes_through(nr: int, args: tuple[int, ...], expected: int) -> None:
    assert verdict(PROGRAM, nr, *args) == expected


@given(st.sets(st.integers(0, 300), max_size=40), st.integers(0, 300), st.sampled_from([0, 1, 3, 17, 18, 19, 20]))
def test_numbers_of_home_are_trapped_and_no_others(trapped: set[int], number: int, nr: int) -> None:
    expected = NOTIFIED if number in trapped else ALLOWED
    assert verdict(compiled(*trapped), nr, number, 0, 10) == expected


def test_a_call_makes_numbers_or_names_them() -> None:
    assert native.made(22, (0,), 0, struct.pack("<ii", 4, 5)) == [4, 5]
    assert native.made(41, (), 6, b"") == [6]
    assert native.made(72, (3, 0, 10), 10, b"") == [10]  # F_DUPFD
    assert native.made(72, (3, 1), 1, b"") == []  # F_GETFD
    assert native.names_one(0, (9,)) == 9
    assert native.names_one(262, (HERE, 1)) == -100
    assert native.names_one(62, (1, 9)) == -1
    assert native.names_one(7, (0, 1)) is None  # poll: any
