from __future__ import annotations

import asyncio
import os

import pytest

from omtools.agent import api
from omtools.agent.client import talk

from .support import Cluster

PIDS = (4711, 4712, 4713)


async def test_a_guest_that_cannot_go_home_in_the_midst_of_expel(
    pair: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its home hangs: the others go all the same, and who asked is told of each."""
    monkeypatch.setattr("omtools.agent.following._STAGE_PATIENCE", 0.2)
    pair.engine.owners = dict.fromkeys(PIDS, os.getuid())
    async with pair.asking(1) as asker:
        for pid in PIDS:
            await asker.ask(api.Migrate(pid, "2"))
    stuck = next(keeper for keeper in pair.engine.keepers.values() if keeper.state.role == "deputy")
    monkeypatch.setattr(stuck, "_obey", lambda _command: None)
    told: list[tuple[int, int]] = []

    def expel() -> api.Cleared:
        return talk(
            "test",
            lambda cluster: cluster.expel(progress=lambda one: told.append((one.done, one.total))),
            pair.run(2) / "agent.sock",
        )

    cleared = await asyncio.to_thread(expel)
    assert cleared.moved == 2
    assert [failure["error"] for failure in cleared.failures] == ["MigrationStalled"]
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert pair.agents[2].blocked
