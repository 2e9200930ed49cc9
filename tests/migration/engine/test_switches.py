"""mosctl nodfsa and nomfs reach guests that are there already; what they had open stays as it was."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from omtools.migration.orders import Allow
from omtools.migration.reach import Access

from .journey import Traveller, expect, running, tell
from .nest import Nest
from .test_counts import NATIVE
from .test_native_files import calls, of_node_2, reach

# Opens, writes, reads again and removes as many files as it is told, having one open all the time.
WORKER = """
import os
kept = os.open("kept", os.O_RDWR | os.O_CREAT)
os.write(1, b"ready\\n")
while (word := os.read(0, 1)) != b"e":
    for number in range(40):
        with open("some", "w+") as file:
            file.write("x" * number)
            file.seek(0)
            assert file.read() == "x" * number
            assert os.stat("some").st_size == number
        os.unlink("some")
        os.write(kept, b"0123456789")
    os.write(1, b"done %d %d\\n" % (os.lseek(kept, 0, os.SEEK_CUR), os.fstat(kept).st_size))
"""
OFF, ON, NO_MFS = Access(dfsa=False), Access(), Access(mfs=False)


class Work:
    """The program's turns, and how many calls each costs its home."""

    def __init__(self, process: asyncio.subprocess.Process, traveller: Traveller) -> None:
        self.process, self.traveller = process, traveller
        self.turns = self.calls = 0

    async def turn(self) -> int:
        self.turns += 1
        tell(self.process, b"w")
        await expect(self.process, f"done {400 * self.turns} {400 * self.turns}")
        before, self.calls = self.calls, await calls(self.traveller)
        return self.calls - before

    async def until(self, found: Callable[[int], bool]) -> None:
        """What a keeper was told, and what it tells, takes a moment: but not many turns."""
        costs: list[int] = []
        while len(costs) < 10:
            costs.append(await self.turn())
            if found(costs[-1]):
                return
        raise AssertionError(costs)


@pytest.mark.parametrize("where", ["its host's", "its host's, without mfs", "its home's"])
@pytest.mark.skipif(not NATIVE, reason="this user may not open /dev/fuse")
async def test_a_guest_that_opens_by_itself_asks_its_home_until_it_may_again(
    nest: Nest, tmp_path: Path, where: str
) -> None:
    folder = of_node_2(tmp_path)
    nest.reach = reach(tmp_path)
    async with running(sys.executable, "-I", "-c", WORKER, cwd=folder) as process:
        await expect(process, "ready")
        traveller = Traveller(nest, process.pid)
        await traveller.go([2])
        assert traveller.moved is not None
        keeper = traveller.moved.deputy if where == "its home's" else traveller.moved.guest
        work = Work(process, traveller)
        await work.until(lambda cost: cost < 20)
        keeper.tell(Allow(NO_MFS if "mfs" in where else OFF))
        await work.until(lambda cost: cost >= 200)  # open, write, read, stat and unlink of each file
        keeper.tell(Allow(ON))
        await work.until(lambda cost: cost < 20)
        await traveller.go([1])
        tell(process, b"we")
        await expect(process, f"done {400 * work.turns + 400} {400 * work.turns + 400}")


async def test_a_guest_that_asks_its_home_opens_nothing_here_any_more(nest: Nest, tmp_path: Path) -> None:
    folder = of_node_2(tmp_path)
    nest.reach = reach(tmp_path)
    async with running(sys.executable, "-I", "-c", WORKER, cwd=folder) as process:
        await expect(process, "ready")
        traveller = Traveller(nest, process.pid)
        await traveller.go([3])
        assert traveller.moved is not None
        work = Work(process, traveller)
        await work.turn()
        usual = await work.turn()
        traveller.moved.guest.tell(Allow(OFF))
        await work.until(lambda cost: cost >= usual + 60)  # what is opened anew is read and written at home
        traveller.moved.guest.tell(Allow(ON))
        await work.until(lambda cost: cost <= usual)
        tell(process, b"e")
