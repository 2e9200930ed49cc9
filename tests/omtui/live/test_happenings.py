from __future__ import annotations

from omtools.agent import api
from omtools.errors import NodeDown
from omtui.live.happenings import Happenings, freezing_lines, sentence_of
from omtui.model import State
from omtui.moving import Move
from omtui.spans import text_of
from omtui.world import World


def state() -> State:
    found = State()
    found.hear_views(World(3).views())
    return found


def info(phase: str, where: int = 2, reason: str = "") -> api.ProcessInfo:
    return api.ProcessInfo(7, 7, 0, "deputy", "m", 1, where, phase, bytes=5 << 20, frozen_ms=12.0, reason=reason)


def test_phases_as_sentences() -> None:
    said = [sentence_of(api.ProcessChanged(info(phase)), state())[0] for phase in ("linking", "away", "home", "failed")]
    assert said == [
        "Process 7 is being linked to metrakilate.",
        "Process 7 runs on metrakilate: 5.0M, frozen 12 ms.",
        "Process 7 runs at home again: 5.0M, frozen 12 ms.",
        "Process 7 could not be moved.",
    ]
    assert "(it forks)" in sentence_of(api.ProcessChanged(info("coming", reason="it forks")), state())[0]
    assert sentence_of(api.ProcessChanged(info("dreaming")), state())[0] == "Process 7: dreaming."


def test_decisions_about_processes_and_about_the_node() -> None:
    assert sentence_of(api.Decided(7, "move", 3), state())[0] == "Process 7: move → ixchel"
    assert sentence_of(api.Decided(0, "no room", 0, "all are full"), state())[0] == "This node: no room (all are full)"
    said = sentence_of(api.Decided(7, "stay", 0, "no_gain"), state())[0]
    assert said == "Process 7: stay (it would gain too little elsewhere)"


def test_what_happens_elsewhere_says_where() -> None:
    found = state()
    found.hear_event(api.ProcessChanged(info("freezing")), 1.0, 2)
    found.hear_event(api.ProcessChanged(info("away", where=3)), 1.0, 2)
    found.hear_event(api.Decided(0, "no room"), 1.0, 2)
    found.hear_event(api.SwitchChanged(2, 3), 1.0, 2)
    lost = NodeDown(node="ixchel", address="10.0.0.3", why="it hung up")
    found.hear_event(api.Followed(3, on=False, error=lost.to_wire()), 1.0, 3)
    found.hear_event(api.Followed(3, on=True), 1.0, 3)
    assert [row.text for row in Happenings().rows(found)] == [
        "metrakilate: Process 7 is stopped, its image is being taken.",
        "metrakilate: Process 7 runs on ixchel: 5.0M, frozen 12 ms.",
        "metrakilate: no room",
        "metrakilate: UP",
        f"What happens on ixchel is not heard any more: {lost}",
        "What happens on ixchel is heard from now on",
    ]


def test_that_processes_elsewhere_stay_is_told_if_it_is_wanted() -> None:
    found = state()
    found.hear_event(api.Decided(7, "stay", 0, "resting"), 1.0)
    found.hear_event(api.Decided(7, "stay", 0, "resting"), 1.0, 2)
    found.hear_event(api.Decided(7, "move", 3), 1.0, 2)
    rows = Happenings()
    assert [row.text for row in rows.rows(found, everything=False)] == [
        "Process 7: stay (it has arrived only lately)", "metrakilate: Process 7: move → ixchel",
    ]  # fmt: skip
    assert len(rows.rows(found)) == 3


def test_they_are_filtered() -> None:
    found = state()
    found.hear_event(api.Decided(7, "stay", 0, "one"), 1.0)
    found.hear_event(api.Decided(8, "stay", 0, "two"), 2.0)
    rows = Happenings()
    assert [row.text for row in rows.rows(found, "TWO")] == ["Process 8: stay (two)"]
    found.hear_event(api.Decided(9, "stay", 0, "TWO more"), 3.0)
    assert [row.when for row in rows.rows(found, "two")] == [2.0, 3.0]
    first = rows.rows(found)
    for number in range(3000):
        found.hear_event(api.Decided(number, "stay", 0, "many"), 4.0)
    again = rows.rows(found)
    assert len(again) == len(found.happened) < 3000
    assert not set(first) & set(again)


def test_freezing_times_by_class() -> None:
    moves = [Move(1.0, 1, 1, 2, 0, ms) for ms in (0.0, 5.0, 5.0, 15.0, 900.0)]
    lines = [text_of(line) for line in freezing_lines(moves, 30)]
    assert lines[0] == "4 moves, frozen for"
    assert [line.split()[3 if "ms" in line else 0] for line in lines[1:]] == ["2", "1", "0", "0", "0", "0", "1"]
