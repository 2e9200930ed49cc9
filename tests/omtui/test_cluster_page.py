"""The Cluster screen, action by action, on a made-up cluster whose agent speaks the real API."""

from __future__ import annotations

import pytest
from pilots import application, pictures, piloted, screen_text, until

from omtools.cluster.load import BLOCK, LSTAY, NOMFS, QUIET, STAY
from omtui.actions import known_switches
from omtui.app import Omtui
from omtui.cluster.page import ClusterPage
from omtui.dialogs import Ask, AskText, Show
from omtui.model import Node
from omtui.sheet import Sheet
from omtui.simulated import SimulatedAgent


def sheet_of(app: Omtui) -> Sheet[Node]:
    assert isinstance(app.page, ClusterPage)
    return app.page.sheet


async def test_a_row_for_each_node_and_the_sums(agent: SimulatedAgent) -> None:
    app = application(agent)
    async with piloted(app, (80, 24)):
        text = screen_text(app)
        for node in agent.world.nodes.values():
            assert node.name in text
        assert "8 of 8 nodes up" in text
        assert "balance " in text
        assert "block off" in text
        assert "dfsa on" in text


@pytest.mark.parametrize(("key", "bit"), [("b", BLOCK), ("s", STAY), ("l", LSTAY), ("u", QUIET)])
async def test_switches(agent: SimulatedAgent, key: str, bit: int) -> None:
    app = application(agent)
    async with piloted(app) as pilot:
        await pilot.press(key)
        await until(pilot, lambda: bool(agent.world.nodes[1].status & bit))
        await until(pilot, lambda: app.said.sentence.endswith("."))
        assert app.said.command.startswith("mosctl ")
        assert app.clipboard == app.said.command
        await pictures(pilot)
        await pilot.press(key)
        await until(pilot, lambda: not agent.world.nodes[1].status & bit)
        row = next(row for row in known_switches() if row.bit == bit)
        await until(pilot, lambda: app.said.sentence == f"{row.name} is off: {row.otherwise}.")
        assert app.said.command.startswith("mosctl no")


async def test_mfs_and_dfsa_stand_in_the_report(agent: SimulatedAgent) -> None:
    app = application(agent)
    async with piloted(app) as pilot:
        await until(pilot, lambda: app.feed.state.report is not None)
        assert "mfs on" in screen_text(app)
        node = agent.world.nodes[1]
        await pilot.press("f", "d")
        await until(pilot, lambda: bool(node.status & NOMFS) and not node.dfsa)
        await until(pilot, lambda: "mfs off" in screen_text(app) and "dfsa off" in screen_text(app))


@pytest.mark.parametrize(("key", "command"), [("E", "mosctl expel"), ("B", "mosctl bring")])
async def test_expel_and_bring_ask_first(agent: SimulatedAgent, key: str, command: str) -> None:
    app = application(agent)
    async with piloted(app) as pilot:
        await pilot.press(key)
        assert isinstance(app.screen, Ask)
        assert command in screen_text(app)
        await pilot.press("n")
        await until(pilot, lambda: app.said.sentence == "Not done.")
        await pilot.press(key, "y")
        await until(pilot, lambda: "processes went home" in app.said.sentence)
        found = agent.world.processes.values()
        assert not [p for p in found if (p.home != 1 if key == "E" else p.home == 1 != p.where)]


async def test_the_speed_by_keys_by_number_and_by_mouse(agent: SimulatedAgent) -> None:
    app = application(agent)
    async with piloted(app, (160, 40)) as pilot:
        before = agent.world.nodes[1].speed
        await pilot.press("plus")
        await until(pilot, lambda: agent.world.nodes[1].speed > before)
        await pictures(pilot)
        await pilot.press("minus", "minus")
        await until(pilot, lambda: agent.world.nodes[1].speed < before)
        await pilot.press("equals_sign")
        assert isinstance(app.screen, AskText)
        await pilot.press(*"7000", "enter")
        await until(pilot, lambda: agent.world.nodes[1].speed == 7000)
        left = 0
        for column, width in sheet_of(app).columns:
            if column.key == "slider":
                break
            left += width + 1
        await pilot.click("Sheet", offset=(left + 10, 1))
        await until(pilot, lambda: agent.world.nodes[1].speed == 1_000_000)
        await pilot.click("Sheet", offset=(left, 3))
        await until(pilot, lambda: agent.world.nodes[3].speed == 100)
        assert app.said.command == "mosctl setspeed 100 --on 3"


async def test_details_of_a_node_and_of_one_that_is_down(agent: SimulatedAgent) -> None:
    app = application(agent)
    async with piloted(app) as pilot:
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, Show))
        assert "6.18.0-simulated" in screen_text(app)
        await pilot.press("escape")
        agent.world.kill(2)
        await pictures(pilot)
        assert "down" in screen_text(app)
        await pilot.press("down", "i")
        await until(pilot, lambda: isinstance(app.screen, Show))
        assert "does not answer" in screen_text(app)


async def test_a_long_name_leaves_room_for_all_switches(agent: SimulatedAgent) -> None:
    app = application(agent)
    agent.world.nodes[1].name = "a-machine-with-a-long-name"
    async with piloted(app, (80, 24)):
        text = screen_text(app)
        assert "dfsa on" in text
        assert "a-mach" in text


async def test_sorting_and_filtering(agent: SimulatedAgent) -> None:
    app = application(agent)
    async with piloted(app, (160, 40)) as pilot:
        sheet = sheet_of(app)
        await pilot.click("Sheet", offset=(8, 0))
        await pilot.pause()
        names = [node.view.name for node in sheet.rows]
        assert names == sorted(names, key=str.lower)
        await pilot.press("r")
        assert [node.view.name for node in sheet.rows] == names[::-1]
        await pilot.press("greater_than_sign", "less_than_sign")
        await pilot.press("slash", *"pal")
        assert [node.view.name for node in sheet.rows] == ["palenque"]
        await pilot.press("escape")
        assert len(sheet.rows) == 8


async def test_another_node_s_switches(agent: SimulatedAgent) -> None:
    app = application(agent)
    async with piloted(app) as pilot:
        await pilot.press("down", "down", "b")
        await until(pilot, lambda: bool(agent.world.nodes[3].status & BLOCK))
        assert app.said.command == "mosctl block --on 3"
        assert not agent.world.nodes[1].status & BLOCK
        await until(pilot, lambda: "ixchel: b block on" in screen_text(app))
        await pilot.press("E", "y")
        await until(pilot, lambda: "went home" in app.said.sentence)
        assert app.said.command == "mosctl expel --on 3"
        assert not [p for p in agent.world.processes.values() if p.where == 3]
