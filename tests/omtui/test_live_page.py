"""The Live screen: what subscribers are told, as it comes."""

from __future__ import annotations

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
        await until(pilot, lambda: "mCii: CONF UP BLOCK" in screen_text(app))
        await until(pilot, lambda: "(it would gain nothing)" in screen_text(app))
        assert "frozen while moving, 1 moves seen" in screen_text(app)


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
