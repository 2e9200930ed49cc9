"""omtools.agent.changes, alone and in an agent whose keepers repeat themselves."""

from __future__ import annotations

import asyncio
from pathlib import Path

from msgspec.structs import replace

from omtools.agent import api
from omtools.agent.changes import COUNTS_EVERY_S, Changes

from .support import Cluster

ONE = api.ProcessInfo(
    pid=7, local_pid=7, uid=0, role="deputy", migration="1-7-x", home=1, where=2, phase="away", locked=False,
)  # fmt: skip
KEEPER, OTHER = Path("a.sock"), Path("b.sock")


def test_only_what_changed_and_counts_now_and_then() -> None:
    changes = Changes()
    assert changes.are_news(KEEPER, ONE, 100.0)
    assert not changes.are_news(KEEPER, ONE, 200.0)
    assert changes.are_news(OTHER, ONE, 200.0)
    assert changes.are_news(KEEPER, replace(ONE, calls_forwarded=5), 200.0)
    assert not changes.are_news(KEEPER, replace(ONE, calls_forwarded=9), 200.0 + COUNTS_EVERY_S / 2)
    assert changes.are_news(KEEPER, replace(ONE, calls_forwarded=9), 200.0 + COUNTS_EVERY_S)
    home = replace(ONE, calls_forwarded=10, phase="home")
    assert changes.are_news(KEEPER, home, 200.1 + COUNTS_EVERY_S)  # what matters is told at once, with the count
    changes.forget(KEEPER)
    assert changes.are_news(KEEPER, home, 300.0)


async def test_a_keeper_that_is_asked_again_and_again(pair: Cluster) -> None:
    async with pair.asking(1) as watcher, pair.asking(1) as asker:
        await watcher.ask(api.Subscribe())
        await asker.ask(api.Migrate(4711, "2"))
        for _time in range(5):
            assert len((await asker.ask(api.Processes(all=True))).processes) == 1
        await asker.ask(api.Migrate(4711, "home"))
        phases = []
        async with asyncio.timeout(20):
            while "home" not in phases:
                told = await watcher.event(lambda event: isinstance(event, api.ProcessChanged))
                phases.append(told.process.phase)
        assert phases.count("away") == 1
