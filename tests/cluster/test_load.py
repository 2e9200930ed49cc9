from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from omtools.cluster.load import (
    Loads,
    Memory,
    memory_of_meminfo,
    normalised,
    reserve_of,
    runnable_of_loadavg,
    speed_of,
    status_words,
    utilizability,
)

LOADS = st.floats(0, 1e6)


def test_the_unit() -> None:
    """One process that computes, on a standard processor."""
    assert normalised(1, 10000, 1) == 100
    assert normalised(1, 20000, 1) == 50
    assert normalised(4, 10000, 4) == 100
    assert normalised(1, 0, 0) > 0


def test_what_others_are_told_rises_at_once_and_falls_slowly() -> None:
    loads = Loads()
    for load in (100, 0, 0):
        loads = loads.after(load)
    assert loads == Loads(0, 0, 100 * 49 / 64)
    risen = Loads().after(100)
    assert (risen.upper, risen.mean) == (100, 37.5)


@given(st.lists(LOADS, max_size=50))
def test_mean_stays_below_upper(samples: list[float]) -> None:
    """Nothing plays ping-pong: a node never believes itself busier than it tells others."""
    loads = Loads()
    for sample in samples:
        loads = loads.after(sample)
        assert loads.mean <= loads.upper * (1 + 1e-9)
        assert 0 <= loads.upper <= max(samples)


@given(LOADS)
def test_a_steady_load_is_found_out(load: float) -> None:
    loads = Loads()
    for _second in range(100):
        loads = loads.after(load)
    assert loads.mean == pytest.approx(load, rel=1e-6)
    assert loads.upper == pytest.approx(load, rel=1e-6)


@pytest.mark.parametrize(("text", "runnable"), [
    ("0.00 0.01 0.05 1/234 5678\n", 0),
    ("0.00 0.01 0.05 4/234 5678\n", 3),
    ("0.00 0.01 0.05 0/234 5678\n", 0),
])  # fmt: skip
def test_loadavg(text: str, runnable: int) -> None:
    assert runnable_of_loadavg(text) == runnable


@pytest.mark.parametrize("text", ["", "1 2 3", "1 2 3 x/y 4"])
def test_no_loadavg(text: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        runnable_of_loadavg(text)


def test_meminfo() -> None:
    text = "MemTotal:  1000 kB\nMemFree:  100 kB\nMemAvailable:  500 kB\nBuffers: x\n"
    assert memory_of_meminfo(text) == Memory(1024000, 102400, 512000)
    with pytest.raises(ValueError, match="MemTotal"):
        memory_of_meminfo("nothing")


def test_room() -> None:
    memory = Memory(1000, 100, 500)
    assert memory.room_for(400, 100)
    assert not memory.room_for(401, 100)
    assert not memory.room_for(400, 100, promised=1)


def test_reserve() -> None:
    assert reserve_of(1 << 30) == 32 << 20
    assert reserve_of(100 << 30) == 2 << 30


@pytest.mark.parametrize(("text", "util"), [
    ("some avg10=5.00 avg60=0 total=0\nfull avg10=0.00 avg60=0 avg300=0 total=0\n", 100),
    ("some avg10=80.00\nfull avg10=33.40 avg60=0 avg300=0 total=0\n", 67),
    ("full avg10=100.00 x\n", 0),
])  # fmt: skip
def test_util(text: str, util: int) -> None:
    assert utilizability(text) == util


def test_no_pressure() -> None:
    with pytest.raises(ValueError, match="full"):
        utilizability("")


def test_speed() -> None:
    assert speed_of(0.01, 0.01) == 10000
    assert speed_of(0.02, 0.01) == 5000
    assert speed_of(0, 0.01) == 10_000_000
    assert speed_of(1e9, 0.01) == 1
    assert speed_of(0.0123, 0.01) == 8100


def test_status_words() -> None:
    assert status_words(0) == []
    assert status_words(1 | 2 | 16) == ["CONF", "UP", "BLOCK"]


def test_what_has_ended_is_not_doubted() -> None:
    loads = Loads(300, 300, 300)
    assert loads.after(200).upper > 280
    assert loads.after(200, gone=100).upper == 200
    assert loads.after(100, gone=100).upper == pytest.approx((7 * 200 + 100) / 8)  # the other fall is not sure
    assert loads.after(300, gone=200).upper == 300  # others came in its place
    assert loads.after(50, gone=1000).upper == 50
