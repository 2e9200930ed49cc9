"""Pictures of mosmon, as text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings as effort, strategies as st

from omtools.agent import api
from omtools.cluster.load import CONFIGURED, UP
from omtui.mosmon.drawing import Scale, draw, first_after
from omtui.mosmon.settings import LETTERS, Settings, pressed
from omtui.world import World

MB = 1 << 20


def view(number: int, **given: Any) -> api.NodeView:
    figures = {
        "state": "up",
        "status": CONFIGURED | UP,
        "load": 100.0,
        "speed": 10000,
        "cpus": 1,
        "mem_total": 1000 * MB,
        "mem_available": 500 * MB,
        "mem_free": 250 * MB,
        "util": 100,
        **given,
    }
    return api.NodeView(number, f"n{number}", f"10.0.0.{number}", **figures)


def dead(number: int) -> api.NodeView:
    return view(number, state="down", status=CONFIGURED, load=0.0)


def picture(nodes: list[api.NodeView], settings: Settings, width: int = 30, height: int = 8) -> str:
    return draw(nodes, settings, width, height).text()


def test_load() -> None:
    nodes = [view(1, load=0.0), view(2, load=100.0), view(3, load=200.0)]
    assert picture(nodes, Settings()) == "\n".join(
        [
            "LOAD",
            "   2|    █",
            "1.50|    █",
            "    |    █",
            "   1|  █ █",
            "0.50|  █ █",
            "   0|  █ █",
            "     1 2 3",
        ]
    )


def test_memory_used_and_free_up_to_the_total() -> None:
    text = picture([view(1), view(2, mem_total=500 * MB, mem_available=500 * MB)], Settings("memory"), 20, 6)
    assert text == "\n".join(
        ["MEMORY (MB)", "1000|+", " 750|+", " 250|█ +", "   0|█ +", "     1 2"]
    )  # the second has half of it, all free
    raw = picture([view(1)], Settings("raw"), 20, 6)
    assert raw.count("█") == 3
    assert raw.count("+") == 1


def test_speed_shows_the_number_of_cpus_of_smp_nodes() -> None:
    nodes = [view(1, speed=5000), view(22, speed=10000, cpus=4)]
    text = picture(nodes, Settings("speed", "wide"), 30, 8)
    assert "4x" in text
    assert "1x" not in text


def test_dead_nodes_only_when_asked_for() -> None:
    nodes = [view(1), dead(2), view(3)]
    assert draw(nodes, Settings(), 30, 8).shown == [1, 3]
    shown = draw(nodes, Settings(dead=True), 30, 8)
    assert shown.shown == [1, 2, 3]
    columns = [line[5:].ljust(6)[2] for line in shown.text().split("\n")[1:-1]]
    assert "".join(columns).split() == ["DEAD"]


def test_totals_and_yardstick() -> None:
    text = picture([view(1), view(2, cpus=3), dead(3)], Settings(totals=True, yardstick=True), 90, 9)
    assert "2 of 3 nodes, 4 CPUs, load 2.00, memory 1000/2000 MB" in text
    assert "yardstick 10000" in text


@pytest.mark.parametrize(
    ("count", "width", "wanted"), [(5, 40, "wide"), (14, 40, "vertical"), (14, 60, "wide"), (300, 80, "wide")]
)
def test_numbers_are_as_they_fit(count: int, width: int, wanted: str) -> None:
    nodes = [view(number) for number in range(1, count + 1)]
    assert draw(nodes, Settings(), width, 24).numbering == wanted


def test_tight_numbers_show_the_most_nodes() -> None:
    nodes = [view(number) for number in range(1, 400)]
    shown = [
        len(draw(nodes, Settings(numbering=numbering), 80, 24).shown)
        for numbering in ("wide", "vertical", "tight")
    ]
    assert shown == sorted(shown)
    assert shown[-1] > 70


def test_scrolling_stays_within_the_nodes() -> None:
    nodes = [view(number) for number in range(10, 400, 10)]
    settings = Settings(numbering="wide")
    shown = draw(nodes, settings, 40, 24).shown
    assert first_after(nodes, settings, shown, 1) == 20
    assert first_after(nodes, settings, shown, -5) == 10
    last = draw(nodes, settings.beginning(first_after(nodes, settings, shown, 999)), 40, 24).shown
    assert last[-1] == 390
    assert len(last) == len(shown)
    assert first_after([], settings, [], 3) == settings.first


def test_a_lost_agent_is_said_below_the_last_picture() -> None:
    lines = draw([view(1)], Settings(), 40, 8, trouble="No omagentd answers.").text().split("\n")
    assert lines[-1] == "No omagentd answers."
    assert any("█" in line for line in lines)


def test_nothing_to_show_is_said() -> None:
    assert "no news of any node yet" in picture([], Settings())
    assert "no node is up" in picture([dead(1)], Settings())


def test_ascii() -> None:
    nodes = World(9).views().nodes
    for figure in "lLsmru":
        assert draw(nodes, pressed(Settings(ascii=True, totals=True), figure), 60, 20).text().isascii()


def test_a_log_scale() -> None:
    scale = Scale(10.0, log=True)
    assert [round(scale.share(value), 2) for value in (0.0, 0.01, 0.1, 1.0, 10.0, 99.0)] == [
        0.0,
        0.0,
        0.33,
        0.67,
        1.0,
        1.0,
    ]
    assert scale.value(1.0) == pytest.approx(10.0)


@effort(deadline=None, max_examples=120)
@given(
    st.integers(0, 300),
    st.integers(1, 300),
    st.integers(1, 100),
    st.lists(st.sampled_from(sorted(LETTERS))),
    st.integers(0, 400),
    st.booleans(),
)
def test_a_picture_never_leaves_the_terminal(
    count: int, width: int, height: int, keys: list[str], first: int, trouble: bool
) -> None:
    world = World(max(count, 1), seed=count)
    for number in range(2, count + 1, 7):
        world.kill(number)
    settings = Settings(first=first)
    for key in keys:
        settings = pressed(settings, key)
    said = "a sentence that is rather long, as they are" if trouble else ""
    drawn = draw(world.views().nodes[:count], settings, width, height, own=1, trouble=said)
    assert len(drawn.lines) == height
    assert all(len(line) <= width for line in drawn.text().split("\n"))
