"""Direct file system access: files are opened where their process runs, and nothing tells the difference."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from omtools.migration.orders import Ask, State
from omtools.migration.reach import Export, Reach

from .journey import Traveller, build, compare, expect, line, rest, running, tell
from .nest import Nest

SCENARIOS = re.findall(
    r'\{"(\w+)", \w+\}', (Path(__file__).parent / "programs" / "direct.c").read_text()
)
ROUTES = {"away": (2,), "there_and_back": (2, 1, 2, 1), "third": (2, 3, 1), "on": (2, 3, 4)}
WHOSE = ("home", "second", "nobody")


def reach(folder: Path, whose: str) -> Reach:
    """As if the files in `folder` were of that node; nobody's can be reached by the deputy alone."""
    if whose == "second":
        mount = folder / "cluster"  # where home has the cluster's file system
        (mount / "2").mkdir(parents=True)
        here = folder / "elsewhere"  # and where a third node has it
        here.mkdir()
        (here / "2").symlink_to(mount / "2")
        return Reach(str(mount), str(here), {"metrakilate": 2}, [Export("/")], str(mount / "2"))
    here = folder / "here"
    here.mkdir()
    (here / "1").symlink_to("/" if whose == "home" else here)
    return Reach("", str(here))


def place(folder: Path, whose: str) -> Path:
    return folder / "cluster" / "2" if whose == "second" else folder / "files"


@pytest.mark.parametrize(
    ("whose", "route"), [*((whose, route) for whose in ("home", "second") for route in ROUTES), ("nobody", "third")]
)
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_the_same_with_direct_files(
    nest: Nest, tmp_path: Path, workshop: Path, scenario: str, whose: str, route: str
) -> None:
    nest.reach = reach(tmp_path, whose)
    program = build("direct", workshop)
    await compare(nest, [program, scenario], ROUTES[route], place(tmp_path, whose))


async def opened_there(traveller: Traveller) -> set[str]:
    """Names of the regular files that the remote has open itself."""
    assert traveller.moved is not None
    await traveller.moved.guest.until("away")
    found = set()
    for number in os.listdir(f"/proc/{traveller.body}/fd"):
        path = os.readlink(f"/proc/{traveller.body}/fd/{number}")
        found.add(Path(path).name)
    return found


@pytest.mark.parametrize("whose", WHOSE)
async def test_they_are_opened_there(nest: Nest, tmp_path: Path, workshop: Path, whose: str) -> None:
    nest.reach = reach(tmp_path, whose)
    where = place(tmp_path, whose)
    where.mkdir(exist_ok=True)
    async with running(build("direct", workshop), "before", cwd=where) as process:
        await expect(process, "only: 3 one at 3")
        await expect(process, "ready")
        traveller = Traveller(nest, process.pid)
        await traveller.go((2,))
        assert await opened_there(traveller) == (set() if whose == "nobody" else {"both", "log"})
        tell(process)
        while await line(process) != "ready":
            pass
        calls = (await moved(traveller)).statistics.calls_forwarded
        assert calls < 15 if whose != "nobody" else calls > 10
        tell(process)
        while await line(process) != "ready":
            pass
        tell(process)
        await rest(process)


async def moved(traveller: Traveller) -> State:
    assert traveller.moved is not None
    traveller.moved.deputy.tell(Ask())
    return await traveller.moved.deputy.until("away")


async def test_what_another_process_shares_stays_at_home(nest: Nest, tmp_path: Path, workshop: Path) -> None:
    nest.reach = reach(tmp_path, "home")
    where = place(tmp_path, "home")
    where.mkdir()
    async with running(build("direct", workshop), "related", cwd=where) as process:
        await expect(process, "ready")
        traveller = Traveller(nest, process.pid)
        await traveller.go((2,))
        assert await opened_there(traveller) == set()


async def test_a_read_only_export_is_written_by_the_deputy(nest: Nest, tmp_path: Path, workshop: Path) -> None:
    nest.reach = reach(tmp_path, "second")
    nest.reach.exports[0] = Export("/", writable=False)
    where = place(tmp_path, "second")
    async with running(build("direct", workshop), "before", cwd=where) as process:
        await line(process)
        await expect(process, "ready")
        traveller = Traveller(nest, process.pid)
        await traveller.go((2,))
        assert await opened_there(traveller) == {"both"}  # the descriptor that only reads
