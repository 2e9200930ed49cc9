"""The line in which filters and commands are typed, and getting rid of what was typed and said."""

from __future__ import annotations

from pilots import application, pictures, piloted, screen_text, until
from textual.events import Key
from textual.pilot import Pilot

from omtui.app import Omtui
from omtui.page import Page
from omtui.processes.page import ProcessesPage
from omtui.prompt import Prompt
from omtui.simulated import SimulatedAgent


def page_of(app: Omtui) -> Page:
    assert app.page is not None
    return app.page


async def at_once(pilot: Pilot[int], text: str) -> None:
    """All keys before the first one is looked at: somebody types ahead, or the line is slow."""
    names = {"/": "slash", ":": "colon", " ": "space", "\r": "enter"}
    for letter in text:
        pilot.app.post_message(Key(names.get(letter, letter), letter))
    await pilot.pause()


async def test_what_is_typed_ahead_is_for_the_line_and_does_nothing_else(agent: SimulatedAgent) -> None:
    app = application(agent, "processes")
    async with piloted(app) as pilot:
        page = page_of(app)
        assert isinstance(page, ProcessesPage)
        await at_once(pilot, "/povray 4 m\r")
        await until(pilot, lambda: app.filters.get("processes") == "povray 4 m")
        assert app.screen is page
        pid = next(p.pid for p in agent.world.processes.values() if p.home == p.where == 1)
        await at_once(pilot, f":migrate {pid} 4\r")
        await until(pilot, lambda: agent.world.processes[pid].where == 4)
        assert app.current_mode == "processes"


async def test_slash_and_colon_are_letters_in_a_line(agent: SimulatedAgent) -> None:
    app = application(agent)
    async with piloted(app) as pilot:
        await at_once(pilot, "/a/b:c")
        await until(pilot, lambda: app.filters.get("cluster") == "a/b:c")
        await pilot.press("escape", "equals_sign", "colon")
        assert ":" in screen_text(app)
        assert not page_of(app).query_one(Prompt).display


async def test_tab_completes_and_arrows_recall(agent: SimulatedAgent) -> None:
    app = application(agent)
    async with piloted(app) as pilot:
        prompt = page_of(app).query_one(Prompt)
        await at_once(pilot, ":mosctl blo")
        await pilot.press("tab")
        assert prompt.value == "mosctl block"
        assert app.focused is prompt
        await pilot.press("enter", "colon", *"live", "enter")
        await until(pilot, lambda: app.current_mode == "live")
        prompt = page_of(app).query_one(Prompt)
        await pilot.press("colon", "up")
        assert prompt.value == "live"
        await pilot.press("up", "up")
        assert prompt.value == "mosctl block"
        await pilot.press("down", "down", "down")
        assert prompt.value == ""
        await pilot.press("escape", "slash", "up", "tab")
        assert (prompt.value, prompt.mode) == ("", "/")


async def test_escape_lets_go_of_filter_and_sentence(agent: SimulatedAgent) -> None:
    app = application(agent)
    async with piloted(app) as pilot:
        await pilot.press("slash", *"ixchel", "enter", "b")
        await until(pilot, lambda: "block is on" in screen_text(app))
        assert "tikal" not in screen_text(app)
        await pilot.press("escape")
        assert "tikal" in screen_text(app)
        assert "block is on" not in screen_text(app)
        await pilot.press("y")
        assert app.clipboard == "mosctl block --on 3"


async def test_a_sentence_stays_on_the_screen_where_it_was_said(agent: SimulatedAgent) -> None:
    app = application(agent)
    async with piloted(app) as pilot:
        await pilot.press("colon", *"nonsense", "enter")
        assert "no command" in screen_text(app)
        await pilot.press("1")
        assert "no command" in screen_text(app)
        await pilot.press("2", "1")
        await pictures(pilot)
        assert "no command" not in screen_text(app)
