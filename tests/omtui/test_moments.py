"""Moments of the past, typed and drawn."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given, strategies as st
from recordings import BEGUN

from omtools.errors import UsageError
from omtui.moments import (
    SPANS_MS,
    cell_at,
    clock_of,
    length_of,
    load_per_cell,
    moment_at,
    parse_moment,
    tick_of,
    timeline,
    window_around,
    zoomed,
)
from omtui.recording.keeping import DAY_MS, HOUR_MS
from omtui.recording.reader import Checkpoint
from omtui.spans import text_of

NOW = round(datetime(2026, 11, 23, 15, 0, 0).timestamp() * 1000)
MARKS = [Checkpoint(BEGUN, "before lunch"), Checkpoint(BEGUN + 5, "after lunch")]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("14:05", datetime(2026, 11, 23, 14, 5)),
        ("14:05:30", datetime(2026, 11, 23, 14, 5, 30)),
        ("16:00", datetime(2026, 11, 22, 16, 0)),  # the last one that was
        ("2026-11-01 9:07", datetime(2026, 11, 1, 9, 7)),
        (" 2026-11-01T09:07 ", datetime(2026, 11, 1, 9, 7)),
    ],
)
def test_times_that_are_typed(typed: str, meant: datetime) -> None:
    assert parse_moment(typed, 0, NOW) == meant.timestamp() * 1000


def test_from_here_and_checkpoints() -> None:
    assert parse_moment("-10m", NOW, NOW) == NOW - 600_000
    assert parse_moment("90s", NOW, NOW) == NOW - 90_000
    assert parse_moment("+2h", NOW, NOW) == NOW + 2 * HOUR_MS
    assert parse_moment("after", 0, NOW, MARKS) == BEGUN + 5
    for nonsense in ("25:00", "2026-02-30 10:00", "", "later", "-10", "1:2"):
        with pytest.raises(UsageError, match="no time"):
            parse_moment(nonsense, 0, NOW, MARKS)


@given(st.text(max_size=30))
def test_whatever_is_typed_is_a_time_or_one_sentence(text: str) -> None:
    try:
        assert isinstance(parse_moment(text, NOW, NOW, MARKS), int)
    except UsageError as error:
        assert "no time" in str(error)  # noqa: PT017 - either is right


@given(st.integers(0, 10**6), st.sampled_from(SPANS_MS), st.integers(0, 10**9), st.integers(1, 200))
def test_the_window_has_the_moment_in_it(offset: int, span: int, length: int, width: int) -> None:
    first, last = BEGUN, BEGUN + length
    at = first + offset % (length + 1)
    window = window_around(at, span, first, last)
    assert window[1] - window[0] == span
    assert window[0] <= at <= window[1]
    for cell in range(0, width, 7):
        assert cell_at(moment_at(cell, window, width), window, width) == cell


def test_zooming_ends_somewhere() -> None:
    span = SPANS_MS[1]
    for _step in range(20):
        span = zoomed(span, 1)
    assert span == SPANS_MS[-1]
    assert zoomed(span, 1) == span
    assert zoomed(SPANS_MS[0], -1) == SPANS_MS[0]
    assert [length_of(span) for span in SPANS_MS[:5]] == ["10 min", "1 h", "6 h", "12 h", "1 d"]
    assert len(tick_of(NOW, DAY_MS)) > len(tick_of(NOW, HOUR_MS)) == 5
    assert clock_of(NOW) == "2026-11-23 15:00:00"


@given(st.lists(st.tuples(st.integers(-5, 70), st.floats(0, 500)), max_size=30), st.integers(1, 60), st.integers(-5, 70))
def test_the_line_has_a_cell_per_piece_of_time(found: list[tuple[int, float]], width: int, at: int) -> None:
    window = (BEGUN, BEGUN + 60_000)
    loads = load_per_cell([(BEGUN + 1000 * second, load) for second, load in found], window, width)
    line = timeline(loads, window, BEGUN + 1000 * at, [Checkpoint(BEGUN + 30_000, "x")], width)
    text = text_of(line)
    assert len(text) == width
    assert text.count("┃") == 1
