"""mosmon on a screen, with a made-up cluster whose agent speaks the real API."""

from __future__ import annotations

from textual.pilot import Pilot

from omtui.dialogs import Show
from omtui.mosmon.app import Monitor
from omtui.mosmon.settings import Settings
from omtui.simulated import SimulatedAgent
from omtui.source import Source


def monitor(agent: SimulatedAgent, settings: Settings | None = None, **more: dict[str, str]) -> Monitor:
    return Monitor(Source(agent.socket, interval=0.1), settings or Settings(), **more)


async def pictures(pilot: Pilot[int], count: int = 2) -> None:
    """Wait until the agent was asked so many times more."""
    source = pilot.app.feed  # type: ignore[attr-defined]  # every Host has one
    wanted = source.asked + count
    while source.asked < wanted:
        await pilot.pause(0.01)
    await pilot.pause()


async def test_keys_change_the_picture(agent: SimulatedAgent) -> None:
    app = monitor(agent)
    async with app.run_test(size=(80, 24)) as pilot:
        await pictures(pilot)
        assert app.bars.picture.shown == list(range(1, 9))
        assert app.bars.picture.text().startswith("LOAD\n")
        for key, title in (("m", "MEMORY"), ("r", "RAW"), ("s", "SPEED"), ("u", "UTIL"), ("L", "LOAD (log")):
            await pilot.press(key)
            assert app.bars.picture.text().startswith(title)
        await pilot.press("t", "y")
        assert "of 8 nodes" in app.bars.picture.text()
        assert "yardstick" in app.bars.picture.text()
        await pilot.press("T", "V")
        assert "of 8 nodes" not in app.bars.picture.text()
        assert app.bars.picture.numbering == "tight"


async def test_a_node_dies_and_returns(agent: SimulatedAgent) -> None:
    app = monitor(agent, Settings(dead=True))
    async with app.run_test(size=(80, 24)) as pilot:
        agent.world.kill(3)
        await pictures(pilot)
        assert "D" in app.bars.picture.text().replace("LOAD", "")
        await pilot.press("D")
        assert 3 not in app.bars.picture.shown
        for _second in range(40):
            agent.step()
        await pictures(pilot)
        assert 3 in app.bars.picture.shown


async def test_scrolling_by_keys_and_wheel(agent: SimulatedAgent) -> None:
    app = monitor(agent, Settings(numbering="wide"))
    async with app.run_test(size=(14, 10)) as pilot:
        await pictures(pilot)
        first = app.bars.picture.shown
        await pilot.press("right")
        assert app.bars.picture.shown[0] == first[0] + 1
        await pilot.press("end")
        assert app.bars.picture.shown[-1] == 8
        await pilot.press("home")
        assert app.bars.picture.shown == first
        await pilot._post_mouse_events([_scroll()], None, (2, 2))
        assert app.bars.picture.shown[0] == first[0] + 1


def _scroll() -> type:
    from textual.events import MouseScrollDown

    return MouseScrollDown


async def test_help_and_end(agent: SimulatedAgent) -> None:
    app = monitor(agent)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("question_mark")
        assert [type(screen) for screen in app.screen_stack[1:]] == [Show]
        await pilot.press("escape")
        assert len(app.screen_stack) == 1
        await pilot.press("enter", "q")
    assert app.return_code == 0
    assert app.return_value == 0


async def test_a_lost_agent_is_shown_and_healed(agent: SimulatedAgent) -> None:
    app = monitor(agent)
    async with app.run_test(size=(80, 24)) as pilot:
        await pictures(pilot)
        await agent.stop()
        await pictures(pilot)
        text = app.bars.picture.text()
        assert "No omagentd answers" in text
        assert app.bars.picture.shown == list(range(1, 9))
        await agent.start()
        await pictures(pilot)
        assert "No omagentd answers" not in app.bars.picture.text()


async def test_own_keys(agent: SimulatedAgent) -> None:
    app = monitor(agent, keys={"mosmon.m": "f7"})
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("m")
        assert app.bars.picture.text().startswith("LOAD")
        await pilot.press("f7")
        assert app.bars.picture.text().startswith("MEMORY")


async def test_a_terminal_of_twenty_columns(agent: SimulatedAgent) -> None:
    app = monitor(agent, Settings(dead=True, totals=True, yardstick=True))
    async with app.run_test(size=(20, 5)) as pilot:
        await pictures(pilot)
        await pilot.resize_terminal(200, 60)
        await pictures(pilot)
        assert len(app.bars.picture.lines) == 60
