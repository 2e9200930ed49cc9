"""Driving omtui with a made-up cluster."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from textual.app import App
from textual.pilot import Pilot

from omtui.app import Omtui
from omtui.simulated import SimulatedAgent, SimulatedMachine
from omtui.source import Source

INTERVAL = 0.5
_MOST = 1500  # rounds of a fiftieth of a second at least; for hangs only


def application(agent: SimulatedAgent, page: str = "cluster", read_only: bool = False) -> Omtui:
    """omtui on that agent."""
    source = Source(agent.socket, interval=INTERVAL, machine=SimulatedMachine(agent))
    return Omtui(source, read_only=read_only, page=page)


@contextlib.asynccontextmanager
async def piloted(app: Omtui, size: tuple[int, int] = (120, 40)) -> AsyncIterator[Pilot[int]]:
    """The application with its first pictures."""
    async with app.run_test(size=size) as pilot:
        page = app.page
        assert page is not None
        await until(pilot, lambda: bool(app.feed.state.nodes))
        if page.NAME != "cluster":
            await until(pilot, lambda: bool(app.feed.state.processes))
        await pictures(pilot)
        yield pilot


async def until(pilot: Pilot[int], true: Callable[[], bool]) -> None:
    """Wait until something is so."""
    for _round in range(_MOST):
        if true():
            return
        pilot.app.feed.nudge()  # type: ignore[attr-defined]  # every Host has one
        await pilot.pause(0.02)
    raise AssertionError(screen_text(pilot.app))


async def pictures(pilot: Pilot[int], count: int = 2) -> None:
    """Wait until the agent was asked so many times more."""
    source = pilot.app.feed  # type: ignore[attr-defined]  # every Host has one
    wanted = source.asked + count
    await until(pilot, lambda: source.asked >= wanted)
    await pilot.pause()


def screen_text(app: App[int]) -> str:
    """What is on the screen, as text."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)
