from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from omtui.cells import bar, curve, paired, rate_of, size_of, slider, slider_place, speed_at, two_digits
from omtui.columns import Column, column_at, fitting, head_line, put, row_line
from omtui.spans import Span, as_columns, cut, text_of


def test_bars() -> None:
    assert bar(0.5, 4) == "██  "
    assert bar(1 / 32, 4) == "▏   "
    assert bar(7.0, 3) == "███"
    assert bar(-1.0, 3) == "   "
    assert bar(0.5, 4, ascii_only=True) == "##  "


def test_curves() -> None:
    assert curve([0, 1, 2, 4], 4, 4) == " ▂▄█"
    assert curve([1, 1, 1], 2, 1) == "██"
    assert curve([1], 3, 1) == "  █"
    assert curve([1], 0, 1) == ""
    assert curve([1], 1, 0) == " "


@given(st.integers(1, 10_000_000), st.integers(2, 60))
def test_a_slider_has_one_knob_and_leads_back_to_about_its_speed(speed: int, width: int) -> None:
    drawn = slider(speed, width)
    assert len(drawn) == width
    assert drawn.count("●") == 1
    place = slider_place(speed, width)
    assert abs(slider_place(speed_at(place, width), width) - place) <= 1


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (999, "999"), (13 << 20, "13M"), (1.2 * (1 << 30), "1.2G"), (3 << 40, "3.0T")]
)
def test_sizes(count: float, text: str) -> None:
    assert size_of(count) == text


def test_rates_and_rounding() -> None:
    assert [rate_of(x) for x in (-1, 0, 0.25, 12.6, 12_600)] == ["", "0", "0.2", "13", "13k"]
    assert [two_digits(x) for x in (7, 26_364, 999)] == [7, 26_000, 1000]


COLUMNS = (
    Column("a", "A", 5),
    Column("b", "B", 0),
    Column("c", "C", 5, right=True, rank=2),
    Column("d", "D", 5, rank=3),
)


def test_columns_without_room_are_left_out_by_rank() -> None:
    assert [(c.key, w) for c, w in fitting(COLUMNS, 60)] == [("a", 5), ("b", 42), ("c", 5), ("d", 5)]
    assert [c.key for c, _w in fitting(COLUMNS, 25)] == ["a", "b", "c"]
    assert [c.key for c, _w in fitting(COLUMNS, 15)] == ["a", "b"]


@given(st.integers(1, 200), st.text(max_size=30))
def test_a_row_is_as_wide_as_the_list(width: int, text: str) -> None:
    columns = fitting(COLUMNS, width)
    line = text_of(row_line(text, columns, lambda row, _column, _width: Span(row)))
    assert len(line) == sum(w for _c, w in columns) + len(columns) - 1
    assert len(text_of(cut((Span(line),), width))) <= width


def test_titles_and_what_is_under_the_mouse() -> None:
    columns = fitting(COLUMNS, 30)
    assert text_of(head_line(columns, str, "c", True)).split() == ["A", "B", "C▼", "D"]
    assert column_at(columns, 0) == (COLUMNS[0], 0)
    assert column_at(columns, 5) is None
    assert column_at(columns, 7) == (COLUMNS[1], 1)
    assert put("abcdef", 4) == "abc…"
    assert put("ab", 4, right=True) == "  ab"
    assert as_columns([("a", "1"), ("bbb", "2")]) == "a    1\nbbb  2"


def test_long_sentences_go_on_in_their_column() -> None:
    rows = [("a", "one two three four five six seven"), ("longer than a third", "eight")]
    assert as_columns(rows, width=36).split("\n") == [
        "a             one two three four",
        "              five six seven",
        "longer than a third",
        "              eight",
    ]


def test_a_column_that_wants_little_leaves_the_rest_to_others() -> None:
    columns = (Column("a", "A", 0, most=10), Column("b", "B", 0), Column("c", "C", 0, most=30))
    assert fitting(columns, 102) == [(columns[0], 10), (columns[1], 60), (columns[2], 30)]
    assert fitting(columns, 32) == [(columns[0], 10), (columns[1], 10), (columns[2], 10)]
    assert fitting(columns, 26) == [(columns[0], 8), (columns[1], 8), (columns[2], 8)]


def test_half_as_many_values_for_a_narrow_place() -> None:
    assert paired([1, 2, 4, 6]) == [1.5, 5.0]
    assert paired([9, 1, 2]) == [9, 1.5]
    assert paired([]) == []
