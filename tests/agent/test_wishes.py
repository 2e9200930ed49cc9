"""Settings of processes: kept at home, told to the host, obeyed by balancer and migrate."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from omtools.agent import api
from omtools.agent.candidates import Candidates
from omtools.agent.memo import Memo
from omtools.cluster.constraints import Hint
from omtools.cluster.decay import Decay
from omtools.cluster.load import Loads
from omtools.cluster.process_settings import NO_SETTINGS, ProcessSettings
from omtools.errors import MaskForbids, NoSuchProcess, NotAllowed, StaysThere

from .support import Cluster

CHILD = "import os, sys; c = os.fork(); print(c, flush=True) if c else 0; sys.stdin.read(); c and os.wait()"


@pytest.fixture
def family() -> Iterator[tuple[int, int]]:
    """A process and its child, both waiting."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        yield parent.pid, int(parent.stdout.readline())
        assert parent.stdin is not None
        parent.stdin.close()


def mask(*nodes: int, policy: str = "allow") -> ProcessSettings:
    return ProcessSettings(migfilter=True, mignodes=nodes, migpolicy="allow" if policy == "allow" else "deny")


def known_at(cluster: Cluster, number: int) -> ProcessSettings:
    """What that node knows of its only guest."""
    agent = cluster.agents[number]
    (guest,) = [keeper for keeper in agent.keepers.all() if keeper.state.role == "guest"]
    return agent.wishes.of_keeper(guest)


async def test_settings_are_kept_inherited_and_survive_the_agent(pair: Cluster, family: tuple[int, int]) -> None:
    parent, child = family
    async with pair.asking(1) as asker:
        made = await asker.ask(api.SetProcess(parent, ProcessSettings(hint="io", decay="fast")))
        assert (made.hint, made.decay, made.locked, made.migfilter, made.mignodes) == ("io", "fast", False, False, ())
        await asker.ask(api.SetProcess(child, ProcessSettings(decay="none")))
        await asker.ask(api.Lock(parent, True))
        found = await asker.ask(api.GetProcess(child))
        assert (found.hint, found.decay, found.locked) == ("io", "none", True)
    await pair.stop(1)
    await pair.start(1)
    async with pair.asking(1) as asker:
        found = await asker.ask(api.GetProcess(child))
        assert (found.hint, found.decay, found.locked) == ("io", "none", True)
        with pytest.raises(NoSuchProcess):
            await asker.ask(api.GetProcess(4194304))
        with pytest.raises(NoSuchProcess):
            await asker.ask(api.SetProcess(4194304))


async def test_the_mask_binds_migrate_but_never_the_way_home(three: Cluster, family: tuple[int, int]) -> None:
    pid, _child = family
    three.engine.real = True
    async with three.asking(1) as asker:
        await asker.ask(api.SetProcess(pid, mask(2)))
        with pytest.raises(MaskForbids, match="may not run on node ixchel"):
            await asker.ask(api.Migrate(pid, "3"))
        await asker.ask(api.Migrate(pid, "2"))
        with pytest.raises(MaskForbids):
            await asker.ask(api.Migrate(pid, "3"))
        await asker.ask(api.SetProcess(pid, mask(2, policy="deny")))
        await asker.ask(api.Migrate(pid, "3"))
        await asker.ask(api.SetProcess(pid, mask()))
        await asker.ask(api.Migrate(pid, "home"))


async def test_the_host_is_told_and_asks_the_home(three: Cluster, family: tuple[int, int]) -> None:
    parent, pid = family
    three.engine.real = True
    async with three.asking(1) as asker, three.asking(2) as host:
        await asker.ask(api.SetProcess(parent, ProcessSettings(hint="cpu")))
        await asker.ask(api.Migrate(pid, "2"))
        assert known_at(three, 2).hint == "cpu"
        await asker.ask(api.SetProcess(parent, ProcessSettings(True)))  # the child inherits it, away as it is
        assert known_at(three, 2).locked is True
        local = pid + 100_000  # as the fake engine has it
        assert (await host.ask(api.GetProcess(local))).locked is True
        made = await host.ask(api.SetProcess(local, ProcessSettings(False, hint="io"), clear=True))
        assert (made.locked, made.hint) == (False, "io")
        assert (await asker.ask(api.GetProcess(pid))).hint == "io"
        assert known_at(three, 2).hint == "io"
        listed = await host.ask(api.Processes(all=True))
        assert [one.locked for one in listed.processes] == [False]
        await three.stop(2)
        await three.start(2)
        assert known_at(three, 2).hint == "io"
        await asker.ask(api.Migrate(pid, "home"))
        async with asyncio.timeout(20):
            while Memo(three.run(2)).guest(listed.processes[0].migration) != NO_SETTINGS:
                await asyncio.sleep(0.01)


async def test_who_may_not(pair: Cluster) -> None:
    async with pair.asking(1) as asker:
        with pytest.raises(NotAllowed):
            await asker.ask(api.GuestSettings("1-2-abcdefabcdef", ProcessSettings(True)))
        await asker.ask(api.SetDecay(api.NodeDecay(2.0, 900, 100)))
        assert await asker.ask(api.GetDecay()) == api.NodeDecay(2.0, 900, 100)


def test_candidates_carry_what_their_owners_want(short: object, family: tuple[int, int]) -> None:
    parent, child = family
    memo = Memo(short)  # type: ignore[arg-type]
    memo.set_decay(api.NodeDecay(3.0, 900, 100))
    memo.set(parent, ProcessSettings(False, True, (7,), "allow", "io", "fast"))
    memo.set(child, ProcessSettings(decay="none"))
    candidates = Candidates(memo, everything=False, node=1)
    found = {one.pid: one for one in candidates.look(time.monotonic(), [], 10000, frozenset())}
    assert set(found) == {parent, child}
    assert all(one.mask.permits(7) and not one.mask.permits(2) and one.hint is Hint.IO for one in found.values())
    known = {pid: entry for (pid, _begun), entry in candidates._known.items()}
    assert known[parent].statistics.decay == Decay(3.0, 100)
    assert known[child].statistics.decay == Decay(3.0, 1000)
    candidates.look(time.monotonic() + 1, [], 10000, frozenset())
    assert known[child].statistics.seconds > 0
    candidates.clear(child)
    assert known[child].statistics.seconds == 0
    assert os.getpid() not in found


async def test_migrate_balance_goes_where_it_is_better(three: Cluster, family: tuple[int, int]) -> None:
    pid, _child = family
    three.engine.real = True
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _one in range(2 + (os.cpu_count() or 1))]
    try:
        async with three.asking(1) as asker:
            with pytest.raises(StaysThere):  # it does nothing, or nobody is known yet
                await asker.ask(api.Migrate(pid, "balance"))
            with pytest.raises(NoSuchProcess):
                await asker.ask(api.Migrate(4194304, "balance"))
            # All nodes share this machine: only the first one's load is told as it is.
            for number in (2, 3):
                three.agents[number].gauge.stop()
                three.agents[number].gauge.loads = Loads()
            one = busy[0].pid
            async with asyncio.timeout(60):
                moved = None
                while moved is None:
                    try:
                        moved = await asker.ask(api.Migrate(one, "balance"))
                    except StaysThere:
                        await asyncio.sleep(0.2)
            assert moved.target in (2, 3)
            # The host is asked, and looks at its guest (of which the fake engine makes only a number).
            with pytest.raises(NoSuchProcess, match=str(one + 100_000)):
                await asker.ask(api.Migrate(one, "balance"))
    finally:
        for process in busy:
            process.kill()
            process.wait()
