from __future__ import annotations

from hypothesis import given, strategies as st

from omtools.migration.latencies import BINS, Latencies
from omtools.migration.orders import CallTimes


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 1 << 50)), max_size=60))
def test_every_call_is_in_one_bin_that_fits(noted: list[tuple[int, int]]) -> None:
    latencies = Latencies()
    for nr, nanoseconds in noted:
        latencies.note(nr, nanoseconds)
    found = latencies.figures()
    assert sum(one.calls for one in found) == len(noted)
    assert len(found) == len({nr for nr, _ns in noted})
    assert sum(one.total_us for one in found) <= sum(ns for _nr, ns in noted) // 1000
    assert [one.calls for one in found] == sorted((one.calls for one in found), reverse=True)
    for one in found:
        assert sum(one.bins) == one.calls
        assert len(one.bins) <= BINS
        assert one.bins[-1] > 0


def test_powers_of_two() -> None:
    latencies = Latencies()
    for microseconds in (0, 1, 2, 3, 100, 100, 100, 100, 1000, 1_000_000):
        latencies.note(1, microseconds * 1000 + 999)
    (times,) = latencies.figures()
    assert times.name == "write"
    assert times.bins[:8] == [1, 1, 2, 0, 0, 0, 0, 4]
    assert (times.bins[10], times.bins[20]) == (1, 1)
    assert (times.within_us(0.5), times.within_us(0.8), times.within_us(1.0)) == (128, 128, 1 << 20)
    assert times.mean_us == times.total_us / 10
    assert CallTimes("x", 0, 0, []).mean_us == 0.0
