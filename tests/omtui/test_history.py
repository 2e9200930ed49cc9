"""Back in time, in every screen, by keys and by mouse."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from pilots import INTERVAL, piloted, screen_text, until
from recordings import BEGUN, recorded

from omtools.errors import InThePast, NoRecording, UnknownNode
from omtui import actions
from omtui.app import Omtui
from omtui.commandline import PAGES
from omtui.history import History
from omtui.moments import clock_of
from omtui.recording.invented import invent
from omtui.recording.recorder import Recorder
from omtui.simulated import SimulatedAgent, SimulatedMachine
from omtui.source import Source
from omtui.timeline import Timeline
from omtui.world import World

SECONDS = 300


@pytest.fixture
def history(agent: SimulatedAgent, tmp_path: Path) -> Iterator[History]:
    """The present of a made-up cluster, and a recorded past of another."""
    recorded(tmp_path / "r", SECONDS)
    made = History(Source(agent.socket, interval=INTERVAL, machine=SimulatedMachine(agent)), tmp_path / "r")
    yield made
    made.close()


def elsewhere(path: Path) -> History:
    made = History(None, path)
    made.open()
    return made


async def test_every_screen_shows_the_past_and_comes_back(history: History) -> None:
    app = Omtui(history)
    async with piloted(app, (120, 40)) as pilot:
        for page in PAGES:
            app.action_go(page)
            await pilot.pause()
            assert "PAST" not in screen_text(app)
            await pilot.press("comma", "comma", "comma")
            assert history.moment == BEGUN + 1000 * (SECONDS - 3)
            assert clock_of(history.moment) in screen_text(app)
            assert screen_text(app).splitlines()[0].endswith("PAST")
            await pilot.press("full_stop")
            assert history.moment == BEGUN + 1000 * (SECONDS - 2)
            await pilot.press("0")
            await until(pilot, lambda: "PAST" not in screen_text(app))
            assert history.past is None


async def test_by_jumps_checkpoints_and_words(history: History) -> None:
    app = Omtui(history, page="live")
    async with piloted(app) as pilot:
        await pilot.press("left_curly_bracket")
        assert history.moment == BEGUN + 500 * SECONDS
        await pilot.press("right_parenthesis")
        assert history.moment == BEGUN + 500 * SECONDS + 5000
        await pilot.press("at", *"-1m", "enter")
        assert history.moment == BEGUN + 500 * SECONDS - 55_000
        await pilot.press("colon", *"at the mid", "enter")
        assert history.moment == BEGUN + 500 * SECONDS
        await pilot.press("colon", *"at the end", "enter")
        assert "no time" in screen_text(app)
        await pilot.press("at", *"-9d", "enter")
        assert history.moment == BEGUN
        await pilot.press("right_curly_bracket", "right_curly_bracket")
        assert history.moment == BEGUN + 500 * SECONDS
        await pilot.press("colon", *"now", "enter")
        assert history.past is None


async def test_the_mouse_scrubs(history: History) -> None:
    app = Omtui(history, page="migmon")
    async with piloted(app, (100, 30)) as pilot:
        await pilot.press("comma")
        line = app.screen.query_one(Timeline)
        since, until_ = history.window()
        assert until_ - since == 600_000
        await pilot.mouse_down(line, offset=(60, 0))
        first = history.moment
        await pilot.hover(line, offset=(70, 0))
        assert history.moment == first + 60_000
        await pilot.hover(line, offset=(20, 0))
        assert history.moment == BEGUN  # nothing was recorded before
        await pilot.mouse_up(line, offset=(20, 0))
        await pilot.hover(line, offset=(80, 0))
        assert history.moment == BEGUN
        assert history.window() == (since, until_)


async def test_nothing_is_done_in_the_past(history: History, agent: SimulatedAgent) -> None:
    app = Omtui(history, page="processes")
    async with piloted(app) as pilot:
        await pilot.press("comma")
        before = [(one.where, one.locked, one.state) for one in agent.world.processes.values()]
        for keys in (["h"], ["L"], ["s"], ["m", "enter"], ["n", "5", "enter"]):
            await pilot.press(*keys)
            await until(pilot, lambda: "This is the past" in app.said.sentence)
            app.say()
        await pilot.press("1", "b")
        await until(pilot, lambda: "This is the past" in app.said.sentence)
        assert [(one.where, one.locked, one.state) for one in agent.world.processes.values()] == before
        with pytest.raises(InThePast):
            await history.do(actions.expel())
        with pytest.raises(InThePast):
            await history.cantmove(1000)
        await pilot.press("i")
        await until(pilot, lambda: "utilizability" in screen_text(app))
        await pilot.press("escape", "0", "2")
        assert app.page is not None
        await until(pilot, lambda: bool(app.page and app.page.chosen))
        await pilot.press("L")
        await until(pilot, lambda: "alone" in app.said.sentence or "may move" in app.said.sentence)


async def test_a_node_s_report_of_then(history: History) -> None:
    history.go(BEGUN + 60_000)
    report = await history.report_of("")
    assert (report.number, report.name, report.load) == (1, "mCii", history.state.nodes[1].view.load)
    assert (await history.report_of("metrakilate")).number == 2
    with pytest.raises(UnknownNode):
        await history.report_of("nobody")


async def test_the_past_plays(tmp_path: Path) -> None:
    app = Omtui(elsewhere(recorded(tmp_path / "r", SECONDS)))
    async with app.run_test(size=(80, 24)) as pilot:
        history = app.feed
        await pilot.press("at", *"-4m", "enter", "asterisk")
        begun = history.moment
        await pilot.press("p")
        await until(pilot, lambda: history.moment > begun + 3000)
        assert "plays 10 s a second" in screen_text(app)
        await pilot.press("p")
        where = history.moment
        await pilot.pause(0.3)
        assert (history.moment, history.playing) == (where, False)
        await pilot.press("asterisk", "asterisk", "p")  # 600 times
        await until(pilot, lambda: not history.playing)
        assert history.moment == BEGUN + 1000 * (SECONDS - 1)
        await pilot.press("0")
        assert history.moment == BEGUN + 1000 * (SECONDS - 1)


async def test_without_a_recording_one_sentence(agent: SimulatedAgent, tmp_path: Path) -> None:
    app = Omtui(History(Source(agent.socket, interval=INTERVAL, machine=SimulatedMachine(agent)), tmp_path / "none"))
    async with piloted(app) as pilot:
        for key in ("comma", "right_parenthesis", "left_curly_bracket"):
            await pilot.press(key)
            assert "omcollector -d" in app.said.sentence
            assert "PAST" not in screen_text(app)
            app.say()
        await pilot.press("p")
        assert app.paused
    with pytest.raises(NoRecording):
        elsewhere(tmp_path / "none")


async def test_a_recording_that_is_damaged_under_us(tmp_path: Path) -> None:
    app = Omtui(elsewhere(recorded(tmp_path / "r", 200)))
    async with app.run_test(size=(80, 24)) as pilot:
        with sqlite3.connect(tmp_path / "r") as database:
            database.execute("UPDATE picture SET data = x'00'")
        database.close()
        await pilot.press("at", *"-2m", "enter")
        assert "no recording that can be read" in app.said.sentence
        await pilot.press("p")
        await pilot.pause()


def test_an_hour_replayed_fast_leaves_nothing(tmp_path: Path) -> None:
    """No memory and no descriptors are taken by looking at an hour, in steps and in jumps."""
    recorder = Recorder(tmp_path / "r")
    invent(recorder, World(4, 30), BEGUN, 3600, 2)
    recorder.close()
    history = elsewhere(tmp_path / "r")
    tracemalloc.start()
    sizes, descriptors = [], []
    try:
        for third in range(3):
            for second in range(1200 * third, 1200 * third + 1200, 4):
                history.go(BEGUN + 1000 * second)
                if not second % 300:
                    history.sums(120, [1, 2])
                    history.loads(120)
                    history.go(BEGUN + 1000 * (3599 - second))
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
            descriptors.append(len(os.listdir("/proc/self/fd")))
    finally:
        tracemalloc.stop()
        history.close()
    assert descriptors[2] <= descriptors[1]
    assert sizes[2] < 1.1 * sizes[1]
    assert len(history.state.happened) <= 2000


async def test_all_screens_through_an_hour_hold_on_to_nothing(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "r")
    invent(recorder, World(4, 30), BEGUN, 3600, 10)
    recorder.close()
    history = elsewhere(tmp_path / "r")
    app = Omtui(history)
    objects, descriptors = [], []
    async with app.run_test(size=(80, 24)) as pilot:
        for _round in range(3):
            for page in PAGES:
                app.action_go(page)
                for minute in range(0, 60, 12):
                    history.go(BEGUN + 60_000 * minute)
                    await pilot.pause()
            gc.collect()
            objects.append(len(gc.get_objects()))
            descriptors.append(len(os.listdir("/proc/self/fd")))
    assert objects[2] < 1.05 * objects[1]
    assert descriptors[2] <= descriptors[1]


async def test_the_present_goes_on_behind_the_past(history: History, agent: SimulatedAgent) -> None:
    app = Omtui(history)
    async with piloted(app) as pilot:
        await pilot.press("comma")
        assert history.live is not None
        live = history.live.state
        heard, shown = live.heard, history.state.heard
        while live.heard < heard + 2:
            history.nudge()
            await asyncio.sleep(0.02)
        assert history.state.heard == shown
        agent.world.nodes[2].speed = 4242
        await pilot.press("0")
        await until(pilot, lambda: "4242" in screen_text(app))
