"""The Live screen: what subscribers are told, as it comes."""

from __future__ import annotations

from msgspec.structs import replace
from pilots import application, pictures, piloted, screen_text, until

from omtools.agent import api
from omtui.live.page import LivePage
from omtui.simulated import SimulatedAgent


async def test_events_come_as_sentences(agent: SimulatedAgent) -> None:
    app = application(agent, "live")
    async with piloted(app) as pilot:
        process = next(p for p in agent.world.processes.values() if p.home == p.where == 1)
        agent.tell(agent.world.migrate(process.pid, "3")[1])
        agent.tell(agent.world.switch("block", True)[0])
        agent.tell(api.Decided(process.pid, "stay", 2, "it would gain nothing"))
        await until(pilot, lambda: f"Process {process.pid} runs on ixchel" in screen_text(app))
        await until(pilot, lambda: "mCii: BLOCK" in screen_text(app))
        await until(pilot, lambda: "(it would gain nothing)" in screen_text(app))
        assert "1 moves, frozen for" in screen_text(app)


async def test_calls_per_second(agent: SimulatedAgent) -> None:
    app = application(agent, "live")
    async with piloted(app) as pilot:
        process = next(p for p in agent.world.processes.values() if p.home == 1 != p.where)
        assert isinstance(app.page, LivePage)
        away = app.page.away
        for _second in range(3):
            process.calls += 5000
            await pictures(pilot)
        assert away.rows[0].pid == process.pid
        assert app.feed.state.paces["deputy", process.pid].history
        assert max(app.feed.state.paces["deputy", process.pid].history) > 1000
        away.action_move(-1000)
        await pilot.press("h")
        await until(pilot, lambda: process.where == 1)


async def test_how_long_the_calls_of_the_chosen_process_take(agent: SimulatedAgent) -> None:
    app = application(agent, "live")
    async with piloted(app) as pilot:
        away = [p for p in agent.world.processes.values() if p.home == 1 != p.where]
        for number, process in enumerate(away[:2]):
            process.calls += 5000 - number
        await until(pilot, lambda: f"process {away[0].pid}: " in screen_text(app))
        await until(pilot, lambda: "newfstatat" in screen_text(app))
        assert f"process {away[0].pid}: no call" not in screen_text(app)
        await pilot.press("down")
        await until(pilot, lambda: f"process {away[1].pid}: " in screen_text(app))
        await pilot.press("t")
        await until(pilot, lambda: "moves, frozen for" in screen_text(app))
        assert app.feed.want_calls == 0


async def test_pages_on_their_way(agent: SimulatedAgent) -> None:
    app = application(agent, "live")
    async with piloted(app) as pilot:
        process = next(p for p in agent.world.processes.values() if p.home == p.where == 1)
        info = replace(process.info(), phase="sending", sent=30 << 20, to_send=120 << 20, target=3)
        agent.tell(api.ProcessChanged(replace(info, phase="freezing", sent=0)))
        agent.tell(api.ProcessChanged(info))
        await until(pilot, lambda: "30M of 120M" in screen_text(app))
        assert f"{process.pid} → ixchel" in screen_text(app)
        await pilot.press("3")
        await until(pilot, lambda: f"{process.pid}: 30M of 120M" in screen_text(app))
        agent.tell(agent.world.migrate(process.pid, "3")[1])
        await until(pilot, lambda: "30M of 120M" not in screen_text(app))


async def test_it_follows_the_latest_event_until_somebody_looks_back(agent: SimulatedAgent) -> None:
    app = application(agent, "live")
    async with piloted(app, (100, 30)) as pilot:
        assert isinstance(app.page, LivePage)
        page = app.page
        for _second in range(60):
            agent.step()
        await until(pilot, lambda: len(page.events.rows) > 40)
        await until(pilot, lambda: page.events.cursor == len(page.events.rows) - 1)
        page.events.focus()
        await pilot.press("pageup")
        where = page.events.current
        for _second in range(10):
            agent.step()
        await pictures(pilot, 4)
        assert page.events.current == where
        await pilot.press("F")
        assert page.events.cursor == len(page.events.rows) - 1
