"""Who would wait for himself, and whose lock is in the way."""

from __future__ import annotations

import fcntl

from hypothesis import given, strategies as st

from omtools.omfs.operations import MAX_OFFSET, Lock
from omtools.omfs.record_locks import Held, RecordLocks, conflicts, with_lock

READ, WRITE, NONE = fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK
A, B, C = ("client", 1), ("client", 2), ("other", 1)

kinds = st.sampled_from([READ, WRITE, NONE])
spans = st.tuples(st.integers(0, 30), st.integers(0, 30)).map(sorted)
locks = st.builds(lambda kind, span: Lock(kind, span[0], span[1]), kinds, spans)


@given(st.lists(locks, max_size=12))
def test_ranges_say_of_each_byte_what_was_last_said_of_it(asked: list[Lock]) -> None:
    held: list[Held] = []
    expected = [NONE] * 31
    for lock in asked:
        held = with_lock(held, lock)
        for byte in range(lock.start, lock.end + 1):
            expected[byte] = lock.kind
    for byte, kind in enumerate(expected):
        assert [one.kind for one in held if one.start <= byte <= one.end] == ([] if kind == NONE else [kind])


@given(spans, spans, st.sampled_from([READ, WRITE]), st.sampled_from([READ, WRITE]))
def test_what_conflicts(one: list[int], other: list[int], kind: int, asked: int) -> None:
    shares_a_byte = bool(set(range(one[0], one[1] + 1)) & set(range(other[0], other[1] + 1)))
    assert conflicts(Held(one[0], one[1], kind), Lock(asked, other[0], other[1])) == (shares_a_byte and WRITE in (kind, asked))


def test_two_who_want_what_the_other_has() -> None:
    records = RecordLocks()
    records.granted("f", A, Lock(WRITE, 0, 9))
    records.granted("f", B, Lock(WRITE, 10, 19))
    assert records.awaits("f", A, Lock(READ, 15, 15))
    assert not records.awaits("f", B, Lock(WRITE, 9, 10))
    assert records.awaits("f", B, Lock(WRITE, 20, 30))  # nobody's
    records.awaits_no_more(B)
    records.awaits_no_more(A)
    assert records.awaits("f", B, Lock(WRITE, 9, 9))


def test_two_who_read_and_both_want_to_write() -> None:
    records = RecordLocks()
    for who in (A, B):
        records.granted("f", who, Lock(READ, 0, MAX_OFFSET))
    assert records.awaits("f", A, Lock(WRITE))
    assert not records.awaits("f", B, Lock(WRITE))


def test_a_circle_of_three_over_two_files() -> None:
    records = RecordLocks()
    records.granted("f", A, Lock(WRITE, 0, 0))
    records.granted("f", B, Lock(WRITE, 1, 1))
    records.granted("g", C, Lock(READ))
    assert records.awaits("f", A, Lock(WRITE, 1, 1))
    assert records.awaits("g", B, Lock(WRITE, 5, 5))
    assert not records.awaits("f", C, Lock(READ, 0, 1))
    records.ended("g", C)
    assert records.awaits("f", C, Lock(READ, 0, 1))


def test_who_is_in_the_way() -> None:
    records = RecordLocks()
    records.granted("f", A, Lock(WRITE, 5, 9, 123))
    assert records.holder("f", B, Lock(READ, 0, 5)) == (A, 123)
    assert records.holder("f", A, Lock(READ, 0, 5)) is None
    assert records.holder("f", B, Lock(READ, 0, 4)) is None
    records.granted("f", A, Lock(NONE, 0, MAX_OFFSET, 123))
    assert records.holder("f", B, Lock(WRITE)) is None
