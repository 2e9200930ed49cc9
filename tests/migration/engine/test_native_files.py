"""A guest that opens its node's files by itself: nothing tells the difference, and nobody is asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from omtools.migration.orders import Ask
from omtools.migration.reach import Export, Reach

from .journey import PROGRAMS, Traveller, compare, expect, running, tell
from .nest import Nest

pytestmark = pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="this user may not open /dev/fuse")

PROGRAM = PROGRAMS / "native.py"
SCENARIOS = [name for name in re.findall(r"^def (\w+)\(\) -> None:", PROGRAM.read_text(), re.MULTILINE) if name != "checkpoint"]
ROUTES = {"away": (2,), "to and fro": (2, 1, 2), "third": (2, 3, 2), "on": (3, 2, 1)}


def of_node_2(folder: Path) -> Path:
    """Where home has the files of node 2, and so has node 2."""
    (folder / "cluster" / "2" / "data").mkdir(parents=True)
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "2").symlink_to(folder / "cluster" / "2")
    return folder / "cluster" / "2" / "data"


def reach(folder: Path, writable: bool = True) -> Reach:
    mount = folder / "cluster"
    return Reach(
        str(mount), str(folder / "elsewhere"), {"metrakilate": 2}, [Export("/", writable)], str(mount / "2")
    )


@contextlib.asynccontextmanager
async def working_there(
    nest: Nest, where: Path, code: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, Traveller]]:
    """A Python program whose directory is node 2's, sent there at its first "ready", at its second one now."""
    async with running(sys.executable, "-I", "-c", code, cwd=where) as process:
        await expect(process, "ready")
        traveller = Traveller(nest, process.pid)
        await traveller.go([2])
        tell(process)
        await expect(process, "ready")
        yield process, traveller


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_the_same_as_at_home(nest: Nest, tmp_path: Path, scenario: str, route: str) -> None:
    where = of_node_2(tmp_path)
    nest.reach = reach(tmp_path)
    await compare(nest, [sys.executable, "-I", PROGRAM, scenario], ROUTES[route], where)


async def calls(traveller: Traveller) -> int:
    assert traveller.moved is not None
    traveller.moved.deputy.tell(Ask())
    return (await traveller.moved.deputy.until("away")).statistics.calls_forwarded


WORK = """
import os, sys
os.write(1, b"ready\\n")
os.read(0, 1)
for number in range(500):
    with open(f"f{number % 7}", "w+") as file:
        file.write("x" * number)
        file.seek(0)
        assert file.read() == "x" * number
    os.unlink(f"f{number % 7}")
os.write(1, b"ready\\n")
os.read(0, 1)
"""


async def test_home_is_not_asked(nest: Nest, tmp_path: Path) -> None:
    where = of_node_2(tmp_path)
    nest.reach = reach(tmp_path)
    async with working_there(nest, where, WORK) as (process, traveller):
        assert await calls(traveller) < 20
        tell(process)


async def test_a_read_only_export_cannot_be_written(nest: Nest, tmp_path: Path) -> None:
    """Natively it is EROFS, as it is through the cluster's file system."""
    where = of_node_2(tmp_path)
    nest.reach = reach(tmp_path, writable=False)
    code = """
import os
os.write(1, b"ready\\n")
os.read(0, 1)
try: open("new", "w")
except OSError as error: os.write(1, b"%d\\n" % error.errno)
"""
    async with running(sys.executable, "-I", "-c", code, cwd=where) as process:
        await expect(process, "ready")
        traveller = Traveller(nest, process.pid)
        await traveller.go([2])
        tell(process)
        await expect(process, "30")
        assert not os.listdir(where)


async def test_the_cage_shows_nothing_else(nest: Nest, tmp_path: Path) -> None:
    where = of_node_2(tmp_path)
    nest.reach = reach(tmp_path)
    (tmp_path / "cluster" / "2" / "beside").mkdir()
    async with running(sys.executable, "-I", "-c", WORK, cwd=where) as process:
        await expect(process, "ready")
        traveller = Traveller(nest, process.pid)
        await traveller.go([2])
        assert traveller.moved is not None
        await traveller.moved.guest.until("away")
        mounts = Path(f"/proc/{traveller.body}/mountinfo").read_text().splitlines()
        assert [line.split()[4] for line in mounts if " - fuse cage" not in line] == [str(where)]
        assert len(mounts) == 2
        tell(process)
        await expect(process, "ready")
        tell(process)
