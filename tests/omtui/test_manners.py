"""What holds on all screens: help, prompts, palette, themes, read-only, pause, own keys, small terminals."""

from __future__ import annotations

import pytest
from pilots import INTERVAL, application, pictures, piloted, screen_text, until
from rich.color_triplet import ColorTriplet
from textual.command import CommandPalette
from textual.containers import VerticalScroll
from textual.pilot import Pilot

from omtools import i18n
from omtools.agent import api
from omtui.app import Omtui
from omtui.cluster.page import ClusterPage
from omtui.commandline import PAGES
from omtui.dialogs import Show
from omtui.host import Host
from omtui.keynames import all_keys
from omtui.live.page import LivePage
from omtui.migmon.page import MigmonPage
from omtui.page import Page
from omtui.palette import entries
from omtui.processes.page import ProcessesPage
from omtui.sheet import Sheet
from omtui.simulated import SimulatedAgent, SimulatedMachine
from omtui.source import Source
from omtui.spans import ROLES


async def typed(pilot: Pilot[int], app: Omtui, line: str) -> None:
    """Type the last letter and enter; the others are there already."""
    await pilot.press("colon")
    assert app.page is not None
    app.page.open_prompt(":", line[:-1])
    await pilot.press(line[-1], "enter")


@pytest.mark.parametrize("page", [ClusterPage, ProcessesPage, MigmonPage, LivePage])
def test_no_key_means_two_things(page: type[Page]) -> None:
    keys = [
        key
        for owner in ([page, Omtui, Host] if page is MigmonPage else [page, Omtui, Host, Sheet])
        for binding in owner.__dict__["BINDINGS"]
        for key in binding.key.split(",")
    ]
    assert sorted(keys) == sorted(set(keys))


def test_every_key_has_a_name_of_its_own() -> None:
    names = [name for name, _keys, _what in all_keys()]
    assert len(names) == len(set(names)) > 60


@pytest.mark.parametrize("page", PAGES)
async def test_help_names_every_key_and_everything_that_can_be_typed(agent: SimulatedAgent, page: str) -> None:
    app = application(agent, page)
    async with piloted(app, (100, 80)) as pilot:
        await pilot.press("question_mark")
        assert isinstance(app.screen, Show)
        text = screen_text(app)
        for words in (":migrate PID NODE|home|balance", ":mosctl expel", "filter", "quit"):
            assert words in text
        await pilot.press("escape")
        assert len(app.screen_stack) == 1


async def test_a_long_text_has_the_keys_of_a_pager(agent: SimulatedAgent) -> None:
    app = application(agent)
    async with piloted(app, (80, 24)) as pilot:
        await pilot.press("question_mark")
        frame = app.screen.query_one(VerticalScroll)
        await pilot.press("j", "j", "k")
        assert frame.scroll_y == 1
        await pilot.press("G")
        assert frame.scroll_y == frame.max_scroll_y > 24
        await pilot.press("g", "space")
        assert 10 < frame.scroll_y < 24
        assert all(len(line) <= 80 for line in screen_text(app).split("\n"))
        await pilot.press("G", "space")
        assert len(app.screen_stack) == 1


async def test_the_keys_of_all_screens_are_always_named(agent: SimulatedAgent) -> None:
    app = application(agent)
    async with piloted(app, (80, 24)) as pilot:
        for key in "12345":
            await pilot.press(key)
            line = screen_text(app).split("\n")[-1]
            assert line.startswith("? help  ")
            assert line.endswith("  / filter  : command  q quit")


async def test_pages_by_digits_and_by_mouse(agent: SimulatedAgent) -> None:
    app = application(agent)
    async with piloted(app) as pilot:
        for key, page in zip("23451", (*PAGES[1:], PAGES[0]), strict=True):
            await pilot.press(key)
            assert app.page is not None
            assert page == app.page.NAME
        await pilot.click("#tabs", offset=(14, 0))
        await until(pilot, lambda: app.current_mode == "processes")


async def test_the_line_behind_the_colon(agent: SimulatedAgent) -> None:
    app = application(agent)
    async with piloted(app) as pilot:
        await typed(pilot, app, "mosctl block")
        await until(pilot, lambda: app.said.command == "mosctl block" and app.said.sentence.startswith("block"))
        await typed(pilot, app, "mosctl setyard 20000")
        await until(pilot, lambda: app.said.sentence == "The yardstick is a processor of speed 20000.")
        await typed(pilot, app, "mosctl setdecay 2 900 800")
        await until(pilot, lambda: "900 of 1000 are kept" in app.said.sentence)
        await typed(pilot, app, "migrat 1 2")
        assert "Did you mean `migrate`?" in app.said.sentence
        assert app.said.bad
        await typed(pilot, app, "live")
        assert app.current_mode == "live"
        await typed(pilot, app, "mosctl status 3")
        await until(pilot, lambda: isinstance(app.screen, Show))
        await pilot.press("escape", "colon", "escape")
        await typed(pilot, app, "mosctl status nobody")
        await until(pilot, lambda: "There is no node nobody" in app.said.sentence)


def test_the_palette_has_every_command_of_the_api_that_is_for_people(agent: SimulatedAgent) -> None:
    """Those from agent to agent, and those by which the screens themselves are filled, are not."""
    app = application(agent)
    commands = {entry.command for entry in entries(app)}
    wanted = {
        api.Migrate: "migrate PID NODE",
        api.Switch: "mosctl block",
        api.SetSpeed: "mosctl setspeed SPEED",
        api.Expel: "mosctl expel",
        api.Bring: "mosctl bring",
        api.Lock: "mosctl lock PID",
        api.Tune: "mosctl setyard SPEED",
        api.SetDecay: "mosctl setdecay SECONDS SLOW FAST",
    }
    assert set(wanted.values()) <= commands
    for name in api.SwitchName.__args__:  # type: ignore[attr-defined]  # a Literal has them
        assert {f"mosctl {name}", f"mosctl no{name}"} <= commands


async def test_the_palette_acts(agent: SimulatedAgent) -> None:
    app = application(agent, "processes")
    async with piloted(app) as pilot:
        assert app.page is not None
        pid = app.page.chosen[0].pid
        before = agent.world.processes[pid].locked
        await pilot.press("ctrl+p")
        assert isinstance(app.screen, CommandPalette)
        await pilot.press(*f"{'Unlock' if before else 'Lock'} process {pid}")
        await until(pilot, lambda: f"process {pid}" in screen_text(app))
        await pilot.pause(0.3)
        await pilot.press("enter")
        await until(pilot, lambda: agent.world.processes[pid].locked != before)


async def test_read_only(agent: SimulatedAgent) -> None:
    app = application(agent, "processes", read_only=True)
    async with piloted(app) as pilot:
        assert "READ-ONLY" in screen_text(app)
        before = {pid: process.where for pid, process in agent.world.processes.items()}
        await pilot.press("h", "X", "1", "b", "E")
        await until(pilot, lambda: "read-only" in app.said.sentence)
        assert "`mosctl expel` was not done" in app.said.sentence
        await pictures(pilot)
        assert {pid: process.where for pid, process in agent.world.processes.items()} == before
        assert agent.world.nodes[1].status & 16 == 0


async def test_pause_holds_the_picture(agent: SimulatedAgent) -> None:
    app = application(agent)
    async with piloted(app) as pilot:
        await pilot.press("p")
        assert "PAUSED" in screen_text(app)
        agent.world.kill(2)
        await pictures(pilot)
        assert "down" not in screen_text(app)
        await pilot.press("p")
        assert "down" in screen_text(app)


async def test_copying_the_last_command_line(agent: SimulatedAgent) -> None:
    app = application(agent)
    async with piloted(app) as pilot:
        await pilot.press("y")
        assert app.said.bad
        await pilot.press("b")
        await until(pilot, lambda: app.said.sentence.startswith("block is on"))
        app.copy_to_clipboard("")
        await pilot.press("y")
        assert app.clipboard == "mosctl block"
        assert "$ mosctl block  It is copied." in screen_text(app)


async def test_own_keys_are_used_and_shown(agent: SimulatedAgent) -> None:
    source = Source(agent.socket, interval=INTERVAL, machine=SimulatedMachine(agent))
    app = Omtui(source, {"cluster.block": "f9"})
    async with piloted(app) as pilot:
        assert "f9 block" in screen_text(app).lower()
        await pilot.press("f9")
        await until(pilot, lambda: app.said.command == "mosctl block")


@pytest.mark.parametrize("size", [(20, 8), (40, 12), (80, 24), (200, 60)])
async def test_all_sizes(agent: SimulatedAgent, size: tuple[int, int]) -> None:
    app = application(agent)
    async with piloted(app, size) as pilot:
        for key in "1234":
            await pilot.press(key)
            await pictures(pilot)
            lines = screen_text(app).split("\n")
            assert len(lines) == size[1]
            assert any(line.strip() for line in lines[1:-1])


@pytest.mark.parametrize("theme", ["textual-light", "ansi-dark", "ansi-light", "gruvbox"])
async def test_themes(agent: SimulatedAgent, theme: str) -> None:
    source = Source(agent.socket, interval=INTERVAL, machine=SimulatedMachine(agent))
    app = Omtui(source, theme=theme)
    async with piloted(app) as pilot:
        assert app.theme == theme
        await pilot.press("2")
        await typed(pilot, app, "theme dark")
        assert app.theme == "textual-dark"


async def test_without_colours(agent: SimulatedAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR: all is said by words and letters."""
    monkeypatch.setenv("NO_COLOR", "1")
    app = application(agent)
    async with piloted(app) as pilot:
        assert app.no_color
        agent.world.kill(2)
        await until(pilot, lambda: "down" in screen_text(app))


async def test_q_ends(agent: SimulatedAgent) -> None:
    app = application(agent)
    async with piloted(app) as pilot:
        await pilot.press("q")
    assert app.return_value == 0


async def test_in_spanish(agent: SimulatedAgent) -> None:
    i18n.speak(["es"])
    try:
        app = application(agent)
        async with piloted(app) as pilot:
            text = screen_text(app)
            assert "Procesos" in text
            assert "8 de 8 nodos activos" in text
            await pilot.press("b")
            await until(pilot, lambda: app.said.sentence == "block = sí: no aceptar huéspedes.")
            await pilot.press("E")
            await until(pilot, lambda: "¿Enviar todos los huéspedes a casa" in screen_text(app))
            await pilot.press("s")
            await until(pilot, lambda: "procesos volvieron a casa" in app.said.sentence)
            await pilot.press("question_mark")
            assert "Esc cierra esto" in screen_text(app)
            assert "enviar todos los huéspedes a casa" in screen_text(app)
    finally:
        i18n.speak(["en"])


def brightness(colour: ColorTriplet) -> float:
    """Relative luminance, as WCAG 2.1 defines it."""
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (one / 255 for one in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["textual-dark", "textual-light", "nord"])
async def test_everything_that_is_read_stands_out_from_what_is_behind_it(agent: SimulatedAgent, theme: str) -> None:
    source = Source(agent.socket, interval=INTERVAL, machine=SimulatedMachine(agent))
    app = Omtui(source, theme=theme)
    async with piloted(app):
        sheet = app.screen.query_one(Sheet)
        looks = {f"om--{role}" for role in ROLES if role not in ("free", "bar", "line", "high")}
        for look in looks | {"om--cursor", "om--blurred"}:
            style = sheet.get_component_rich_style(look)
            assert style.color is not None
            assert style.bgcolor is not None
            dark, light = sorted(brightness(one.get_truecolor()) for one in (style.color, style.bgcolor))
            assert (light + 0.05) / (dark + 0.05) > 3, look  # WCAG's least for what is large or bold
