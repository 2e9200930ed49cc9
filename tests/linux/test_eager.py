"""omtools.linux.eager, with a clock and a kernel of the test's."""

from __future__ import annotations

import pytest

from omtools.linux.eager import Eager

READY = [(3, 1)]


class World:
    """A clock that goes on a little with each look, and a descriptor that can be read at some time."""

    def __init__(self) -> None:
        self.now = 0
        self.ready_at = 0
        self.slept = 0

    def perf_counter_ns(self) -> int:
        self.now += 1000
        return self.now

    def poll(self, milliseconds: float | None) -> list[tuple[int, int]]:
        if self.now >= self.ready_at:
            return READY
        if milliseconds == 0:
            return []
        self.slept += 1
        if milliseconds is not None and self.now + milliseconds * 1e6 < self.ready_at:
            self.now += int(milliseconds * 1e6)
            return []
        self.now = self.ready_at
        return READY

    def wait(self, waits: Eager, after_us: int, seconds: float | None = None) -> bool:
        """One wait for what comes after so long; whether it was slept through."""
        self.ready_at, before = self.now + after_us * 1000, self.slept
        assert waits.poll(self, seconds) == READY  # type: ignore[arg-type]  # of its methods poll is used alone
        return self.slept > before


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr("omtools.linux.eager.time.perf_counter_ns", made.perf_counter_ns)
    return made


def test_short_waits_are_waited_awake(world: World) -> None:
    waits = Eager()
    assert world.wait(waits, 50)  # it does not know yet
    assert [world.wait(waits, 50) for _again in range(20)] == [False] * 20


def test_long_waits_are_slept_and_soon_not_even_tried_awake(world: World) -> None:
    waits = Eager()
    for _short in range(50):
        world.wait(waits, 50)
    looked = []
    for _long in range(10):
        before = world.now
        assert world.wait(waits, 5000)
        looked.append(world.now - before > 5_100_000)
    looks = world.now
    assert world.wait(waits, 5000)
    assert world.now - looks < 5_010_000  # two looks at the clock


def test_it_begins_anew_when_waits_become_short(world: World) -> None:
    waits = Eager()
    for _long in range(100):
        assert world.wait(waits, 5000)
    slept = [world.wait(waits, 50) for _short in range(20)]
    assert slept.index(False) <= 5
    assert not any(slept[6:])


def test_a_time_limit_holds(world: World) -> None:
    waits = Eager()
    world.wait(waits, 50)
    world.ready_at = world.now + 10**12
    assert waits.poll(world, 0.5) == []  # type: ignore[arg-type]
