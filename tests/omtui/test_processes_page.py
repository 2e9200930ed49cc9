"""The Processes screen, action by action."""

from __future__ import annotations

import pytest
from pilots import application, pictures, piloted, screen_text, until
from textual.pilot import Pilot

from omtui.app import Omtui
from omtui.dialogs import Ask, AskText, Choose
from omtui.model import Node, Process
from omtui.processes.page import ProcessesPage
from omtui.sheet import Sheet
from omtui.simulated import SimulatedAgent
from omtui.world import SimulatedProcess


def page_of(app: Omtui) -> ProcessesPage:
    assert isinstance(app.page, ProcessesPage)
    return app.page


def one(agent: SimulatedAgent, away: bool = False, guest: bool = False) -> SimulatedProcess:
    """A process of that kind."""
    return next(
        p for p in agent.world.processes.values() if (p.home != 1) == guest and (guest or (p.where != 1) == away)
    )


async def choose(pilot: Pilot[int], app: Omtui, pid: int) -> None:
    sheet = page_of(app).sheet
    assert sheet.go_to(pid)
    await pilot.pause()


async def test_migrate_to_a_node_home_and_to_the_best(agent: SimulatedAgent) -> None:
    app = application(agent, "processes")
    async with piloted(app) as pilot:
        process = one(agent)
        await choose(pilot, app, process.pid)
        await pilot.press("m")
        assert isinstance(app.screen, Choose)
        await pilot.press("down", "enter")
        await until(pilot, lambda: process.where == 3)
        await until(pilot, lambda: "moved from mCii to ixchel" in app.said.sentence)
        assert app.said.command == f"migrate {process.pid} 3"
        assert app.clipboard == app.said.command
        await pictures(pilot)
        await pilot.press("h")
        await until(pilot, lambda: process.where == 1)
        agent.world.nodes[5].load = 0.0
        await pilot.press("b")
        await until(pilot, lambda: process.where == 5)
        await pictures(pilot)
        await pilot.press("enter", "h")
        await until(pilot, lambda: process.where == 1)


async def test_what_is_refused_is_said_in_place(agent: SimulatedAgent) -> None:
    app = application(agent, "processes")
    async with piloted(app, (80, 24)) as pilot:
        process = one(agent)
        await choose(pilot, app, process.pid)
        await pilot.press("h")
        await until(pilot, lambda: app.said.bad)
        assert f"Process {process.pid} is at home already." in screen_text(app)


async def test_several_marked_processes_at_once(agent: SimulatedAgent) -> None:
    app = application(agent, "processes")
    async with piloted(app) as pilot:
        await pilot.press("v")
        assert all(row.node and not row.guest for row in page_of(app).sheet.rows)
        await pilot.press("space", "space", "space")
        chosen = [row.pid for row in page_of(app).chosen]
        assert len(chosen) == 3
        await pilot.press("h")
        await until(pilot, lambda: all(agent.world.processes[pid].where == 1 for pid in chosen))
        assert app.said.command == "; ".join(f"migrate {pid} home" for pid in chosen)
        assert not page_of(app).sheet.marked
        await pilot.press("space", "u")
        assert not page_of(app).sheet.marked


async def test_lock_and_unlock(agent: SimulatedAgent) -> None:
    app = application(agent, "processes")
    async with piloted(app) as pilot:
        process = one(agent, away=True)
        locked = process.locked
        await choose(pilot, app, process.pid)
        await pilot.press("L")
        await until(pilot, lambda: process.locked != locked)
        await pictures(pilot)
        await pilot.press("L")
        await until(pilot, lambda: process.locked == locked)


async def test_lock_and_unlock_at_home(agent: SimulatedAgent) -> None:
    app = application(agent, "processes")
    async with piloted(app) as pilot:
        process = one(agent)
        process.locked = False
        await pictures(pilot)
        await choose(pilot, app, process.pid)
        for wanted in (True, False):
            await pilot.press("L")
            await until(pilot, lambda: process.locked is wanted)  # noqa: B023 - called at once
            await pictures(pilot)
            chosen = page_of(app).chosen[0]
            assert (chosen.pid, chosen.locked) == (process.pid, wanted)


async def test_the_node_to_go_to_by_its_number(agent: SimulatedAgent) -> None:
    app = application(agent, "processes")
    async with piloted(app) as pilot:
        process = one(agent)
        await choose(pilot, app, process.pid)
        await pilot.press("m")
        sheet: Sheet[Node] = app.screen.query_one(Sheet)
        assert sheet.current is not None
        assert sheet.current.view.number == 2  # it runs on the first
        await pilot.press("5", "9", "4")
        assert sheet.current.view.number == 4
        await pilot.press("enter")
        await until(pilot, lambda: process.where == 4)


async def test_a_lost_agent_is_no_reason_to_stay(agent: SimulatedAgent) -> None:
    app = application(agent, "processes")
    async with piloted(app, (80, 24)) as pilot:
        await choose(pilot, app, one(agent).pid)
        await until(pilot, lambda: "at home, it " in screen_text(app))
        await agent.stop()
        await until(pilot, lambda: "AGENT LOST" in screen_text(app))
        said = " ".join(screen_text(app).split())
        assert "then `omlab shell mCii`." in said  # the whole sentence, though it is longer than a line
        await until(pilot, lambda: "at home, it " not in screen_text(app))
        await agent.start()
        await until(pilot, lambda: "at home, it " in screen_text(app))


@pytest.mark.parametrize(("key", "name"), [("s", "STOP"), ("X", "TERM"), ("ctrl+x", "KILL")])
async def test_signals_ask_first(agent: SimulatedAgent, key: str, name: str) -> None:
    app = application(agent, "processes")
    async with piloted(app) as pilot:
        process = one(agent)
        await choose(pilot, app, process.pid)
        await pilot.press(key)
        assert isinstance(app.screen, Ask)
        assert f"kill -{name} {process.pid}" in screen_text(app)
        await pilot.press("escape")
        assert process.pid in agent.world.processes
        await pilot.press(key, "y")
        await until(pilot, lambda: f"SIG{name} was sent" in app.said.sentence)
        if name == "STOP":
            assert process.state == "T"
            await pilot.press("c")
            await until(pilot, lambda: process.state == "R")
        else:
            assert process.pid not in agent.world.processes


async def test_no_vim_key_kills(agent: SimulatedAgent) -> None:
    app = application(agent, "processes")
    async with piloted(app) as pilot:
        before = dict(agent.world.processes)
        await pilot.press("j", "k", "g", "G", "k", "k")
        await pictures(pilot)
        assert agent.world.processes == before
        assert page_of(app).sheet.cursor == len(before) - 3


async def test_renice(agent: SimulatedAgent) -> None:
    app = application(agent, "processes")
    async with piloted(app) as pilot:
        process = one(agent)
        await choose(pilot, app, process.pid)
        await pilot.press("n")
        assert isinstance(app.screen, AskText)
        await pilot.press("7", "enter")
        await until(pilot, lambda: process.nice == 7)
        assert app.said.command == f"renice -n 7 -p {process.pid}"
        await pilot.press("n", *"99", "enter")
        await until(pilot, lambda: "It is written `renice" in app.said.sentence)


async def test_a_guest_is_sent_home_but_gets_no_signals_here(agent: SimulatedAgent) -> None:
    app = application(agent, "processes")
    async with piloted(app) as pilot:
        await pilot.press("v", "v")
        rows = page_of(app).sheet.rows
        assert rows
        assert all(row.guest for row in rows)
        await pilot.press("X")
        assert "is a guest" in app.said.sentence
        pid = page_of(app).chosen[0].pid
        await pilot.press("h")
        await until(pilot, lambda: pid not in agent.world.processes)


async def test_why_a_process_stays_is_said_in_words(agent: SimulatedAgent) -> None:
    app = application(agent, "processes")
    async with piloted(app) as pilot:
        tied = next(p for p in agent.world.processes.values() if p.pid % 7 == 0 and p.home == p.where == 1)
        free = next(p for p in agent.world.processes.values() if p.pid % 7 and p.home == p.where == 1)
        await choose(pilot, app, tied.pid)
        await until(pilot, lambda: "it stays: it has 3 threads" in screen_text(app))
        await choose(pilot, app, free.pid)
        await until(pilot, lambda: "it can migrate" in screen_text(app))


async def test_dragging_a_process_to_a_node(agent: SimulatedAgent) -> None:
    app = application(agent, "processes")
    async with piloted(app, (140, 40)) as pilot:
        process = one(agent)
        await choose(pilot, app, process.pid)
        row = page_of(app).sheet.cursor + 1
        target = 4 if row != 4 else 5
        await pilot.mouse_down("#list", offset=(10, row))
        await pilot.hover("#nodes", offset=(6, target))
        await pilot.mouse_up("#nodes", offset=(6, target))
        await until(pilot, lambda: process.where == target)


async def test_tree_sorting_and_filter(agent: SimulatedAgent) -> None:
    app = application(agent, "processes")
    async with piloted(app) as pilot:
        sheet = page_of(app).sheet
        await pilot.press("t")
        rows: list[Process] = list(sheet.rows)
        assert any(row.depth for row in rows)
        for row in rows:
            if row.depth:
                assert [r.pid for r in rows].index(row.ppid) < [r.pid for r in rows].index(row.pid)
        await pilot.press("t", "greater_than_sign")
        assert not any(row.depth for row in sheet.rows)
        nodes = [row.node for row in sheet.rows]
        assert nodes == sorted(nodes, reverse=True)
        await pilot.press("r")
        assert [row.node for row in sheet.rows] == sorted(nodes)
        await pilot.press("slash", *"povray", "enter")
        assert {row.command for row in sheet.rows} == {"povray scene.ini"}
        assert "/povray" in screen_text(app)


async def test_nodes_beside_the_list(agent: SimulatedAgent) -> None:
    app = application(agent, "processes")
    async with piloted(app, (80, 24)) as pilot:
        assert not page_of(app).nodes.display
        await pilot.press("o")
        assert page_of(app).nodes.display
        await until(pilot, lambda: "palenque" in screen_text(app))
        await pilot.press("o")
        assert not page_of(app).nodes.display


async def test_where_no_process_fits_it_says_how_to_see_others(agent: SimulatedAgent) -> None:
    app = application(agent, "processes")
    async with piloted(app) as pilot:
        await pilot.press("slash", *"xyzzy", "enter")
        assert "There is no such process; Esc" in screen_text(app)
        await pilot.press("escape")
        assert "There is no such process" not in screen_text(app)
