from __future__ import annotations

from hypothesis import given, strategies as st

from omtools.agent import api
from omtui.live.latencies import axis, flight_lines, latency_lines, merged, time_of
from omtui.model import State
from omtui.moving import Flight, flight_after, flight_words
from omtui.spans import text_of
from omtui.world import World


def figures(*bins: int) -> api.CallFigures:
    times = api.CallTimes("newfstatat", sum(bins), 10 * sum(bins), list(bins))
    return api.CallFigures(2, [times, api.CallTimes("write", 4, 400, [0] * 7 + [4])])


def test_a_line_for_each_call() -> None:
    lines = [text_of(line) for line in latency_lines(7, figures(0, 0, 0, 0, 0, 0, 0, 3, 1), 60, 9)]
    assert lines[0] == "process 7: 8 calls"
    assert lines[2].startswith("newfstatat  128µ  256µ")
    assert lines[3].startswith("write       128µ  128µ")
    assert lines[1].index("128µ") - 1 == lines[3].index("█")  # the mark stands above the next power of two
    assert lines[2][lines[3].index("█") :].strip() == "█▃"
    assert len(latency_lines(7, figures(1), 60, 3)) == 3


@given(st.lists(st.integers(0, 1 << 40), max_size=40), st.integers(0, 200), st.integers(0, 30))
def test_any_figures_fit_any_place(bins: list[int], width: int, height: int) -> None:
    lines = latency_lines(7, figures(*bins), width, height)
    assert len(lines) <= max(2, height)
    assert all(len(text_of(line)) <= max(width, 24) for line in lines)
    for each in (1, 2, 3, 5, 25):
        assert sum(merged(bins, each)) == sum(bins)
        assert len(axis(each)) <= len(merged(bins, each))


def test_times_in_four_cells() -> None:
    assert [time_of(1 << power) for power in (0, 9, 10, 19, 20, 24)] == ["1µ", "512µ", "1m", "524m", "1s", "16s"]


def info(phase: str, sent: int = 0, to_send: int = 0, where: int = 1, target: int = 2) -> api.ProcessChanged:
    return api.ProcessChanged(api.ProcessInfo(
        7, 7, 0, "deputy", "m", 1, where, phase, sent=sent, to_send=to_send, target=target,
    ))  # fmt: skip


def test_pages_on_their_way() -> None:
    state = State()
    state.hear_views(World(3).views())
    for phase, sent, now in (("linking", 0, 9.0), ("freezing", 0, 10.0), ("sending", 30 << 20, 10.5), ("sending", 60 << 20, 11.0)):
        state.hear_event(info(phase, sent, 90 << 20 if sent else 0), now)
    (flight,) = state.travelling()
    assert (flight.source, flight.target, round(flight.share, 2), round(flight.rate / 1e6)) == (1, 2, 0.67, 63)
    title, line = (text_of(one) for one in flight_lines(state.travelling(), state, 60))
    assert title == "pages on their way"
    assert line.startswith("7 → metrakilate")
    assert line.endswith("60M of 90M, 63 MB/s")
    assert len(state.happened) == 2  # a line for each phase, none for each step
    state.hear_event(info("away", where=2), 11.5)
    assert state.flights == {}
    assert flight_lines([], state, 60) == []
    state.hear_event(info("coming", 5, where=2, target=0), 12.0)  # of how many is not known at home
    (flight,) = state.travelling()
    assert (flight.source, flight.target, flight_words(flight)) == (2, 1, "5")
    assert flight_after(flight, info("home").process, 13.0) is None


def test_of_other_nodes_too() -> None:
    state = State()
    state.own = 3
    state.hear_event(info("freezing"), 10.0, 1)
    state.hear_event(info("sending", 5, 10), 11.0, 1)
    assert [(one.source, one.target) for one in state.travelling()] == [(1, 2)]
    assert len(state.happened) == 1
    assert isinstance(state.travelling()[0], Flight)
