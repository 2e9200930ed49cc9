from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from omtools.agent import api
from omtools.errors import NoSuchProcess

from .support import Cluster

PID = 4711


async def test_where_a_process_is_and_how_often_it_moved(pair: Cluster) -> None:
    async with pair.asking(1) as asker, pair.asking(2) as other:
        await asker.ask(api.Migrate(PID, "2"))
        assert await asker.ask(api.Inspect(PID, survey=True)) == api.Inspected(PID, os.getuid(), 1, 2, 1)
        guest = pair.engine.only("guest").state.local_pid
        found = await other.ask(api.Inspect(guest))
        assert (found.home, found.where) == (1, 2)
        with pytest.raises(NoSuchProcess):
            await other.ask(api.Inspect(4_194_304))


@pytest.fixture
def sharer() -> Iterator[int]:
    """A process that has a file mapped shared and writable."""
    code = (
        "import mmap, os, tempfile; f = tempfile.TemporaryFile(); f.truncate(4096)\n"
        "m = mmap.mmap(f.fileno(), 4096); print(flush=True); input()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield process.pid
    process.communicate()


async def test_why_it_cannot_move(pair: Cluster, sharer: int) -> None:
    pair.engine.real = True
    async with pair.asking(1) as asker:
        assert (await asker.ask(api.Inspect(sharer))).cannot == ""
        assert "shared and writable" in (await asker.ask(api.Inspect(sharer, survey=True))).cannot
        assert (await asker.ask(api.Inspect(1, survey=True))).cannot == "it is the init of this machine"
        found = await asker.ask(api.Inspect(os.getppid()))
        assert (found.home, found.where, found.moves) == (1, 1, 0)


async def test_moves_are_remembered(pair: Cluster) -> None:
    own = os.getpid()
    memo = pair.agents[1]._memo
    memo.add_moves(own, 2)
    memo.add_moves(own, 3)
    memo.add_moves(4_194_304, 1)
    await pair.stop(1)
    await pair.start(1)
    async with pair.asking(1) as asker:
        assert (await asker.ask(api.Inspect(own))).moves == 5
    assert pair.agents[1]._memo.moves(1) == 0
