"""How long what is kept."""

from __future__ import annotations

from hypothesis import given, strategies as st

from omtui.recording.keeping import DAY_MS, MINUTE_MS, WIDTHS_MS, Ages, next_whole, width_for


@given(st.integers(0, 40), st.integers(0, 100 * DAY_MS))
def test_ages_only_get_smaller_and_never_nothing(rounds: int, longest: int) -> None:
    ages = Ages().within(longest)
    for _round in range(rounds):
        smaller = ages.shrunk()
        assert all(MINUTE_MS <= new <= old for new, old in zip(smaller, ages, strict=True))
        ages = smaller
    for _round in range(40):
        ages = ages.shrunk()
    assert set(ages) == {MINUTE_MS}


@given(st.integers(1, 400 * DAY_MS), st.integers(1, 500))
def test_each_cell_of_a_plot_has_its_sums(span: int, cells: int) -> None:
    width = width_for(span, cells)
    assert width in WIDTHS_MS
    assert width * cells <= span or width == WIDTHS_MS[0]


def test_a_whole_picture_a_minute() -> None:
    assert next_whole(None, 5)
    assert not next_whole(120_000, 179_999)
    assert next_whole(120_000, 180_000)
    assert next_whole(180_000, 120_000)  # the clock was set back
