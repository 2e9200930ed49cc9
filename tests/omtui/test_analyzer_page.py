"""The Analyzer screen."""

from __future__ import annotations

from pathlib import Path

from pilots import INTERVAL, piloted, screen_text, until
from recordings import BEGUN, recorded

from omtui.analyzer.page import AnalyzerPage, Plots
from omtui.app import Omtui
from omtui.history import History
from omtui.simulated import SimulatedAgent, SimulatedMachine
from omtui.source import Source


def application(agent: SimulatedAgent, path: Path) -> Omtui:
    source = Source(agent.socket, interval=INTERVAL, machine=SimulatedMachine(agent))
    return Omtui(History(source, path), page="analyzer")


async def test_keys(agent: SimulatedAgent, tmp_path: Path) -> None:
    app = application(agent, recorded(tmp_path / "r", 300))
    async with piloted(app, (100, 30)) as pilot:
        assert isinstance(app.page, AnalyzerPage)
        plots = app.page.plots
        assert "1 mCii: load" in screen_text(app)
        await pilot.press("w")
        assert "1 mCii: memory" in screen_text(app)
        assert "PAST" not in screen_text(app)
        await pilot.press("down", "down", "enter")
        assert plots.chosen == 3
        shown = screen_text(app)
        assert all(word in shown for word in ("3 ixchel: load", "3 ixchel: memory", "guests on average"))
        assert "2 metrakilate" not in shown
        await pilot.press("enter", "up", "left_curly_bracket")
        assert app.feed.moment == BEGUN + 150_000
        assert "┃" in screen_text(app)
        await pilot.press("right")
        assert app.feed.moment > BEGUN + 150_000
        await pilot.press("Z")
        assert "6 h" in screen_text(app).splitlines()[1] or "1 h" in screen_text(app).splitlines()[1]
        await pilot.press("slash", *"tikal", "enter")
        assert plots.nodes == [4]
        await pilot.press("0")
        await until(pilot, lambda: "PAST" not in screen_text(app))


async def test_export(agent: SimulatedAgent, tmp_path: Path) -> None:
    app = application(agent, recorded(tmp_path / "r", 60))
    async with piloted(app) as pilot:
        app.obey(f"export {tmp_path}/p.svg")
        assert (tmp_path / "p.svg").exists()
        assert app.said.command.startswith("omanalyzer --what load")
        await pilot.press("e", *"p.gif", "enter")
        assert "should end with" in app.said.sentence
        await pilot.press("1", "colon", *"export x.csv", "enter")
        assert "screen 5" in app.said.sentence


async def test_who_may_only_look_writes_no_files(tmp_path: Path) -> None:
    history = History(None, recorded(tmp_path / "r", 60))
    history.open()
    app = Omtui(history, page="analyzer", read_only=True)
    async with app.run_test() as pilot:
        app.obey(f"export {tmp_path}/p.svg")
        await pilot.pause()
        assert "read-only" in app.said.sentence
        assert not (tmp_path / "p.svg").exists()


async def test_the_mouse_goes_to_a_moment_of_a_node(agent: SimulatedAgent, tmp_path: Path) -> None:
    app = application(agent, recorded(tmp_path / "r", 590))
    async with piloted(app, (106, 30)) as pilot:
        assert isinstance(app.page, AnalyzerPage)
        plots = app.page.plots
        assert "PAST" not in screen_text(app)
        since, until_ = plots.window
        await pilot.click(Plots, offset=(6 + 90, 4))
        assert plots.chosen == 2
        assert app.feed.past is not None
        cell = (until_ - since) // 100
        assert abs(app.feed.moment - (since + 90 * cell + cell // 2)) <= 1000
        assert plots.window == (since, until_)


async def test_without_a_recording_it_says_so(agent: SimulatedAgent, tmp_path: Path) -> None:
    app = application(agent, tmp_path / "none")
    async with piloted(app) as pilot:
        assert "omcollector -d" in screen_text(app)
        await pilot.press("w", "enter", "down", "e", *"x.csv", "enter")
        assert "omcollector -d" in app.said.sentence
        assert not Path("x.csv").exists()
