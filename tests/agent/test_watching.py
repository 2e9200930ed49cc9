"""omtools.agent.watching: how long calls take is asked for at home and told where the process runs."""

from __future__ import annotations

import os

import pytest

from omtools.agent import api
from omtools.agent.callers import Caller
from omtools.errors import AtHomeAlready, NoSuchProcess, NotAllowed

from .support import Cluster

FIGURES = [api.CallTimes("write", 3, 300, [0, 0, 3])]


async def test_at_home_and_where_it_runs(pair: Cluster) -> None:
    async with pair.asking(1) as here, pair.asking(2) as there:
        await here.ask(api.Migrate(4711, "2"))
        assert await here.ask(api.Calls(4711)) == api.CallFigures(2, FIGURES)
        guest = pair.engine.only("guest").state.local_pid
        assert await there.ask(api.Calls(guest)) == api.CallFigures(2, FIGURES)
        for asker, pid in ((here, 4712), (there, 4711)):
            with pytest.raises(NoSuchProcess):
                await asker.ask(api.Calls(pid))
        with pytest.raises(AtHomeAlready):
            await here.ask(api.Calls(os.getpid()))


async def test_of_ones_own_processes_only(pair: Cluster) -> None:
    async with pair.asking(1) as here:
        await here.ask(api.Migrate(4711, "2"))
    stranger = Caller("user", os.getuid() + 1)
    guest = pair.engine.only("guest").state
    for number, pid in ((1, 4711), (2, guest.local_pid)):
        with pytest.raises(NotAllowed, match="belongs to"):
            await pair.agents[number]._watching.handle(api.Calls(pid), stranger)
    peer = Caller("node", os.getuid() + 1)
    with pytest.raises(NotAllowed):
        await pair.agents[2]._watching.handle(api.GuestCalls(guest.migration), peer)
    with pytest.raises(NotAllowed, match="agents"):
        await pair.agents[2]._watching.handle(api.GuestCalls(guest.migration), Caller("user", os.getuid()))
