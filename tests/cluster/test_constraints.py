from __future__ import annotations

import itertools

import pytest

from omtools.cluster.constraints import (
    MAX_AGE_S,
    REASONS,
    Mask,
    Mover,
    Process,
    Reason,
    allowed,
    may_enter,
    may_leave,
)
from omtools.cluster.load import BLOCK, CONFIGURED, LSTAY, QUIET, STAY, UP, reserve_of
from omtools.cluster.vector import MB, Vector

LIVE = CONFIGURED | UP
HERE, THERE, HOME = 1, 2, 3
SEVEN = list(itertools.product([False, True], repeat=7))


def node(number: int, status: int = LIVE, free: int = 1000) -> Vector:
    return Vector(number, status=status, total_mb=1024, available_mb=free)


def expected_of_leaving(process: Process, status: int, mover: Mover, asker: int) -> Reason | None:
    """The rules once more, as a table: reason, whether it applies, whom it binds."""
    automatic = {Mover.BALANCE, Mover.USHER}
    rules = [
        (Reason.CANNOT, bool(process.cannot), set(Mover)),
        (Reason.MOVING, process.moving, set(Mover)),
        (Reason.NOT_YOURS, asker not in (0, process.uid), {Mover.MANUAL}),
        (Reason.LOCKED, process.locked, automatic),
        (Reason.STAY, bool(status & STAY), automatic),
        (Reason.LSTAY, bool(status & LSTAY) and process.home == HERE, automatic),
    ]
    return next((reason for reason, applies, binds in rules if applies and mover in binds), None)


def test_leaving_in_all_combinations() -> None:
    seen = set()
    for flags, mover in itertools.product(SEVEN, Mover):
        cannot, moving, locked, stay, lstay, guest, own = flags
        process = Process(
            7, HOME if guest else HERE, uid=1000, cannot="x" * cannot, moving=moving, locked=locked
        )
        status = LIVE | stay * STAY | lstay * LSTAY
        asker = 1000 if own else 1001
        reason = may_leave(process, node(HERE, status), mover, asker)
        assert reason is expected_of_leaving(process, status, mover, asker)
        seen.add(reason)
    assert seen == {None, Reason.CANNOT, Reason.MOVING, Reason.NOT_YOURS, Reason.LOCKED, Reason.STAY, Reason.LSTAY}


def test_root_may_move_everybody_s() -> None:
    assert may_leave(Process(7, HERE, uid=1000), node(HERE), Mover.MANUAL, 0) is None


def test_entering_in_all_combinations() -> None:
    seen = set()
    for flags, mover in itertools.product(SEVEN, Mover):
        configured, up, old, block, masked, full, at_home = flags
        status = configured * CONFIGURED | up * UP | block * BLOCK | QUIET
        mask = Mask(masked, 1 << (THERE - 1), allow=False)
        process = Process(7, THERE if at_home else HERE, resident=500 * MB, mask=mask)
        target = node(THERE, status, 500 if full else 1000)
        rules = [
            (Reason.NOT_CONFIGURED, not configured),
            (Reason.DOWN, not up),
            (Reason.STALE, old and mover in (Mover.BALANCE, Mover.USHER)),
            (Reason.BLOCK, block and not at_home),
            (Reason.MASK, masked and not at_home),
            (Reason.FULL, full),
        ]
        expected = next((reason for reason, applies in rules if applies), None)
        age = MAX_AGE_S + 0.1 if old else MAX_AGE_S
        reason = may_enter(process, node(HERE), target, mover, age=age)
        assert reason is expected
        assert allowed(process, node(HERE), target, mover, age=age) is expected
        seen.add(reason)
    assert len(seen) == 7


def test_where_it_runs_already() -> None:
    assert allowed(Process(7, 1), node(1), node(1), Mover.MANUAL) is Reason.THERE_ALREADY


def test_leaving_is_asked_before_entering() -> None:
    process = Process(7, 1, locked=True)
    assert allowed(process, node(1), node(1), Mover.BALANCE) is Reason.LOCKED


@pytest.mark.parametrize(("mask", "permitted"), [
    (Mask(), {1, 2, 3, 4}),
    (Mask(False, 0b0110, True), {1, 2, 3, 4}),
    (Mask(True, 0b0110, True), {2, 3}),
    (Mask(True, 0b0110, False), {1, 4}),
    (Mask(True, 0, True), set()),
    (Mask(True, 0, False), {1, 2, 3, 4}),
    (Mask(True, 1 << 3, True), {4}),
])  # fmt: skip
def test_masks(mask: Mask, permitted: set[int]) -> None:
    assert {number for number in (1, 2, 3, 4) if mask.permits(number)} == permitted
    assert Mask(True, 1 << 65534, True).permits(65535)


def test_reserve_and_promises_count() -> None:
    target = node(2, free=1000)
    room = 1000 * MB - reserve_of(1024 * MB)
    for size, promised, reason in (
        (room, 0, None), (room + 1, 0, Reason.FULL), (room - 5, 5, None), (room - 5, 6, Reason.FULL),
    ):  # fmt: skip
        process = Process(7, 1, resident=size)
        assert may_enter(process, node(1), target, Mover.MANUAL, promised=promised) is reason


def test_every_reason_has_words() -> None:
    assert set(REASONS) == set(Reason)
    assert len(set(REASONS.values())) == len(Reason)
