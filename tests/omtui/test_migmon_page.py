"""Migmon: the circle by mouse and by keys."""

from __future__ import annotations

from pilots import application, pictures, piloted, screen_text, until

from omtui.app import Omtui
from omtui.migmon.page import Circle, MigmonPage
from omtui.simulated import SimulatedAgent


def circle_of(app: Omtui) -> Circle:
    assert isinstance(app.page, MigmonPage)
    return app.page.circle


def square_of(app: Omtui, away: bool) -> tuple[tuple[int, int], int]:
    """A square of a process that is at home, or away, and its pid."""
    circle = circle_of(app)
    kinds = {process.pid: process.node != 0 for process in circle.processes if not process.guest}
    return next((cell, pid) for cell, pid in circle.scene.squares.items() if kinds.get(pid) == away)


async def test_nodes_processes_and_lines_to_their_home(agent: SimulatedAgent) -> None:
    app = application(agent, "migmon")
    async with piloted(app, (80, 24)):
        text = screen_text(app)
        for name in ("1 mCii", "2 metrakilate", "8 calakmul"):
            assert name in text
        assert text.count("■") > 10
        assert text.count("·") > 10


async def test_dragging_a_process_to_a_node_migrates_it(agent: SimulatedAgent) -> None:
    app = application(agent, "migmon")
    async with piloted(app) as pilot:
        cell, pid = square_of(app, away=False)
        target = next(place for place in circle_of(app).scene.places if place.number == 4)
        end = (target.x + 3, target.y)
        await pilot.mouse_down(Circle, offset=cell)
        await pilot.hover(Circle, offset=end)
        assert circle_of(app).look.dragged == end
        assert circle_of(app).look.target == 4
        await pilot.mouse_up(Circle, offset=end)
        await until(pilot, lambda: agent.world.processes[pid].where == 4)
        await until(pilot, lambda: "moved from mCii to tikal" in app.said.sentence)
        assert app.said.command == f"migrate {pid} 4"


async def test_a_move_is_drawn_with_its_figures(agent: SimulatedAgent) -> None:
    app = application(agent, "migmon")
    async with piloted(app) as pilot:
        process = next(p for p in agent.world.processes.values() if p.home == 1 != p.where)
        agent.tell(agent.world.migrate(process.pid, "home")[1])
        await until(pilot, lambda: f"{process.pid}: " in screen_text(app))
        assert " ms" in screen_text(app)
        await until(pilot, lambda: f"{process.pid}: " not in screen_text(app))


async def test_a_double_click_sends_home(agent: SimulatedAgent) -> None:
    app = application(agent, "migmon")
    async with piloted(app) as pilot:
        cell, pid = square_of(app, away=True)
        await pilot.click(Circle, offset=cell, times=2)
        await until(pilot, lambda: agent.world.processes[pid].where == 1)
        assert app.said.command == f"migrate {pid} home"


async def test_dropping_beside_a_node_does_nothing(agent: SimulatedAgent) -> None:
    app = application(agent, "migmon")
    async with piloted(app) as pilot:
        cell, _pid = square_of(app, away=False)
        await pilot.mouse_down(Circle, offset=cell)
        await pilot.hover(Circle, offset=(60, 18))
        await pilot.mouse_up(Circle, offset=(60, 18))
        await pictures(pilot)
        assert app.said.command == ""
        assert circle_of(app).look.dragged is None


async def test_keys_alone(agent: SimulatedAgent) -> None:
    app = application(agent, "migmon")
    async with piloted(app) as pilot:
        await pilot.press("m")
        assert "Choose a process" in app.said.sentence
        await pilot.press("right", "right", "left")
        pid = circle_of(app).look.process
        process = agent.world.processes[pid]
        await pilot.press("down", "down", "down", "up", "down")
        target = circle_of(app).look.target
        assert target != process.where
        await pilot.press("enter")
        await until(pilot, lambda: agent.world.processes.get(pid) is None or process.where == target)
        current = circle_of(app).current
        while current is None or current.guest:
            await pilot.press("right")
            current = circle_of(app).current
        await pilot.press("h")
        await until(pilot, lambda: app.said.command.endswith("home"))
        await pilot.press("b")
        await until(pilot, lambda: app.said.command.endswith("balance"))


async def test_the_circle_turns_where_not_all_nodes_fit(agent: SimulatedAgent) -> None:
    app = application(agent, "migmon")
    async with piloted(app, (50, 16)) as pilot:
        shown = [place.number for place in circle_of(app).scene.places]
        assert len(shown) < 8
        await pilot.press("right_square_bracket")
        turned = [place.number for place in circle_of(app).scene.places]
        assert turned[0] == 1
        assert turned != shown
        await pilot.press("left_square_bracket")
        assert [place.number for place in circle_of(app).scene.places] == shown


async def test_a_lost_agent_is_said_on_every_page(agent: SimulatedAgent) -> None:
    app = application(agent, "migmon")
    async with piloted(app) as pilot:
        await agent.stop()
        for key in "1234":
            await pilot.press(key)
            await until(pilot, lambda: "No omagentd answers" in screen_text(app))
            assert "AGENT LOST" in screen_text(app)
        await agent.start()
        await until(pilot, lambda: "No omagentd answers" not in screen_text(app))
