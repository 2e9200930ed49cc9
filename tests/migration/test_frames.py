"""omtools.migration.frames: what is packed comes out again."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, strategies as st

from omtools.migration.calls.model import Forward, Out, OutRule
from omtools.migration.frames import (
    CANCELLED,
    COME_HOME,
    HEADER,
    LEAVING,
    RESULT,
    Kind,
    Request,
    pack_call,
)

words = st.integers(0, (1 << 64) - 1)
sizes = st.integers(0, (1 << 32) - 1)
outs = st.builds(Out, sizes, sizes, st.sampled_from(OutRule))
forwards = st.builds(
    Forward,
    nr=st.integers(0, 600),
    args=st.tuples(words, words, words, words, words, words),
    arena=st.binary(max_size=2000),
    arena_length=sizes,
    outs=st.lists(outs, max_size=10).map(tuple),
    may_block=st.booleans(),
    opens=st.booleans(),
    needs_mask=st.booleans(),
)


@given(forwards, words)
def test_a_call_arrives_as_it_was_sent(forward: Forward, mask: int) -> None:
    request = Request(memoryview(pack_call(forward, mask)))
    assert request.nr == forward.nr
    assert tuple(request.args) == forward.args
    assert request.arena_length == forward.arena_length
    assert request.outs == forward.outs
    assert bytes(request.arena) == forward.arena
    assert (request.may_block, request.opens) == (forward.may_block, forward.opens)
    assert request.mask == (mask if forward.needs_mask else None)


def test_as_many_ranges_as_a_call_can_have() -> None:
    """recvmmsg of 1024 messages, each with a name, a control part and data."""
    many = tuple(Out(64 * index, 64, OutRule.FULL) for index in range(4096))
    request = Request(memoryview(pack_call(Forward(299, (0,) * 6, outs=many, arena=b"end"))))
    assert request.outs == many
    assert bytes(request.arena) == b"end"


@given(st.integers(0, 600), st.lists(st.integers(-(1 << 63), (1 << 64) - 1), max_size=6))
def test_a_call_of_the_keeper_s_own(nr: int, arguments: list[int]) -> None:
    request = Request.plain(nr, tuple(arguments))
    assert request.nr == nr
    assert request.args == [value & (1 << 64) - 1 for value in arguments] + [0] * (6 - len(arguments))
    assert (request.outs, bytes(request.arena), request.arena_length) == ((), b"", 0)
    assert (request.may_block, request.opens, request.mask) == (False, False, None)


@given(st.binary(max_size=200))
def test_nonsense_is_an_error_and_nothing_else(body: bytes) -> None:
    try:
        Request(memoryview(body))
    except (struct.error, ValueError):
        return


def test_headers_and_small_bodies() -> None:
    assert HEADER.size == 12
    assert HEADER.unpack(HEADER.pack(1 << 30, Kind.CALL, 0xFFFFFFFF)) == (1 << 30, Kind.CALL, 0xFFFFFFFF)
    assert RESULT.unpack(RESULT.pack(COME_HOME)) == (COME_HOME,)
    assert CANCELLED.unpack(CANCELLED.pack(-512, 1 << 60)) == (-512, 1 << 60)
    assert LEAVING.unpack_from(LEAVING.pack(7, 3) + b"reason") == (7, 3)
    with pytest.raises(ValueError, match="99"):
        Kind(99)


def test_no_result_of_a_call_means_come_home() -> None:
    """Results are pointers, numbers and -4095..-1; this is none of them."""
    assert not -4095 <= COME_HOME < 1 << 47
    assert len({kind.value for kind in Kind}) == len(Kind)
