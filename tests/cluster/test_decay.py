from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from omtools.cluster.constraints import Hint
from omtools.cluster.decay import FAST, NONE, SLOW, Decay, Sample, Statistics

SECONDS = st.floats(0.01, 100)


def test_the_original_s_portions() -> None:
    assert SLOW.over(1) == 0.975
    assert FAST.over(1) == 0.926
    assert NONE.over(1e9) == 1
    assert Decay(5, 500).over(10) == 0.25
    assert SLOW.over(27.4) == pytest.approx(0.5, abs=0.001)
    assert Decay(1, 0).over(1) == 0
    assert SLOW.over(-5) == 1


@given(SECONDS, SECONDS)
def test_two_steps_are_one(one: float, other: float) -> None:
    assert SLOW.over(one) * SLOW.over(other) == pytest.approx(SLOW.over(one + other))


@given(st.lists(st.tuples(SECONDS, st.floats(0, 4), st.floats(0, 1e5)), min_size=1, max_size=20))
def test_rates_are_between_the_extremes_of_what_was_seen(samples: list[tuple[float, float, float]]) -> None:
    for decay in (SLOW, FAST, NONE):
        statistics = Statistics(decay)
        for seconds, cpu, calls in samples:
            statistics = statistics.after(Sample(seconds, cpu * seconds, calls * seconds))
        cpus = [cpu for _s, cpu, _c in samples]
        assert min(cpus) - 1e-9 <= statistics.cpu <= max(cpus) + 1e-9
        calls_seen = [calls for _s, _cpu, calls in samples]
        assert min(calls_seen) - 1e-6 <= statistics.calls_per_s <= max(calls_seen) * (1 + 1e-9) + 1e-6


def test_the_first_sample_counts_in_full_and_fast_forgets_faster() -> None:
    after = {}
    for decay in (SLOW, FAST, NONE):
        statistics = Statistics(decay).after(Sample(10, 10))
        assert statistics.cpu == 1.0
        after[decay] = statistics.after(Sample(10, 0)).cpu
    assert after[FAST] < after[SLOW] < after[NONE] == 0.5


def test_files_by_node_are_forgotten_in_the_end() -> None:
    statistics = Statistics(FAST).after(Sample(1, io={3: 1000.0, 4: -5.0}))
    assert statistics.io_per_s == {3: 1000.0}
    for _second in range(200):
        statistics = statistics.after(Sample(1))
    assert statistics.io_per_s == {}


def test_no_time_changes_nothing() -> None:
    statistics = Statistics(SLOW, Hint.IO).after(Sample(1, 1))
    assert statistics.after(Sample(0, 5)) is statistics
    assert statistics.after(Sample(-1, 5)) is statistics
    assert (Statistics().cpu, Statistics().calls_per_s, Statistics().io_per_s) == (0, 0, {})
    assert statistics.after(Sample(1, -7, -7)).cpu >= 0


def test_clearing_keeps_the_settings_and_children_begin_with_their_parent_s_habits() -> None:
    statistics = Statistics(FAST, Hint.CPU).after(Sample(50, 25, 500, {2: 5000.0}))
    assert statistics.cleared() == Statistics(FAST, Hint.CPU)
    child = statistics.inherited()
    assert child.seconds == pytest.approx(1)
    assert child.cpu == pytest.approx(statistics.cpu)
    assert child.io_per_s == pytest.approx(statistics.io_per_s)
    assert child.hint is Hint.CPU
    assert Statistics().inherited() == Statistics()
