"""Bytes and calls per node and file, of a process that is away."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from omtools.migration.counts import FileIo, by_node
from omtools.migration.orders import Ask
from omtools.migration.reach import Reach

from .journey import LIMIT, Traveller, expect, running, tell
from .nest import Nest
from .test_native_files import of_node_2, reach

NATIVE = os.access("/dev/fuse", os.R_OK | os.W_OK)

# Reads and writes as it is told: "NAME r 1000 300" in steps of a hundred bytes.
WORKER = """
import os, sys
opened = {}
def line():
    text = b""
    while not text.endswith(b";"):
        text += os.read(0, 1)
    return text[:-1].decode()
os.write(1, b"ready\\n")
while (words := line().split()) != ["end"]:
    name, what, amount = words[0], words[1], int(words[2])
    if what == "close":
        os.close(opened.pop(name))
    else:
        if name not in opened:
            opened[name] = os.open(name, os.O_RDWR)
        for step in range(amount // 100):
            if what == "r": os.read(opened[name], 100)
            if what == "w": os.write(opened[name], b"x" * 100)
            if what == "p": os.pread(opened[name], 100, 0)
    os.write(1, b"done\\n")
"""


class Books:
    """What both keepers of a process that is away have counted."""

    def __init__(self, traveller: Traveller) -> None:
        assert traveller.moved is not None
        self._keepers = traveller.moved.guest, traveller.moved.deputy
        self.host: list[FileIo] = []
        self.home: list[FileIo] = []

    async def until(self, found: Callable[[Books], object]) -> None:
        """Ask again until it is so: what was said before comes first, and home hears by a frame."""
        try:
            async with asyncio.timeout(LIMIT):
                while not _holds(found, self):
                    for keeper in self._keepers:
                        keeper.tell(Ask())
                    self.host, self.home = [(await keeper.until("away")).files for keeper in self._keepers]
        except TimeoutError:
            raise AssertionError((self.host, self.home)) from None


def _holds(found: Callable[[Books], object], books: Books) -> bool:
    try:
        return bool(found(books))
    except (StopIteration, KeyError):
        return False


def file(entries: list[FileIo], path: Path | str) -> FileIo:
    return next(one for one in entries if one.path == str(path))


async def work(process: asyncio.subprocess.Process, *orders: str) -> None:
    for order in orders:
        tell(process, order.encode() + b";")
        await expect(process, "done")


@pytest.mark.parametrize("native", [False, pytest.param(True, marks=pytest.mark.skipif(not NATIVE, reason="this user may not open /dev/fuse"))])
async def test_what_is_read_where_it_runs(nest: Nest, tmp_path: Path, native: bool) -> None:
    where = of_node_2(tmp_path)
    nest.reach = reach(tmp_path)
    a, b, other = where / "a", where / "b", tmp_path / "at-home"
    for path in (a, b, other):
        path.write_bytes(b"y" * 5000)
    async with running(sys.executable, "-I", "-c", WORKER, cwd=where if native else tmp_path) as process:
        await expect(process, "ready")
        traveller = Traveller(nest, process.pid)
        await traveller.go([2])
        books = Books(traveller)
        await work(process, f"{a} r 3000")
        await books.until(lambda books: file(books.home, a) == FileIo(2, str(a), 3000, 0, 30))
        await work(process, f"{b} r 1000", f"{other} r 2000")
        if native:  # which of two files was read and which written, its keeper cannot see
            await books.until(lambda books: file(books.home, b).read == 1000)
        await work(process, f"{a} w 500")
        await books.until(lambda books: by_node(books.host)[2] == FileIo(2, "", 4000, 500, 45))
        assert file(books.host, a) == FileIo(2, str(a), 3000, 500, 35)
        assert file(books.host, b) == FileIo(2, str(b), 1000, 0, 10)
        # A file of home's, opened later: by the cluster's file system or, if the guest opens by itself, the deputy.
        await books.until(lambda books: file(books.home, other).read == 2000)
        await work(process, f"{b} p 400", f"{b} close 0")  # at a place of its own, and closed before anybody looks
        await books.until(lambda books: by_node(books.home)[2] == FileIo(2, "", 4400, 500, 49))
        if not native:
            assert file(books.home, b).read == 1400
        tell(process, b"end;")


async def test_what_the_deputy_reads_and_what_was_before_a_move(nest: Nest, tmp_path: Path) -> None:
    where = of_node_2(tmp_path)
    path = where / "a"
    path.write_bytes(b"y" * 5000)
    async with running(sys.executable, "-I", "-c", WORKER, cwd=tmp_path) as process:
        await expect(process, "ready")
        traveller = Traveller(nest, process.pid)
        await traveller.go([3])  # without DFSA
        await work(process, f"{path} r 700")
        books = Books(traveller)
        await books.until(lambda books: file(books.home, path) == FileIo(1, str(path), 700, 0, 7))
        await books.until(lambda books: by_node(books.host)[1].read > 700)  # with its orders, from a pipe
        nest.reach = reach(tmp_path)
        await traveller.go([2])
        await work(process, f"{path} r 300")
        await Books(traveller).until(lambda books: file(books.home, path).read == 1000)
        tell(process, b"end;")


async def test_a_file_of_another_node_that_home_reads(nest: Nest, tmp_path: Path) -> None:
    """Without DFSA there the deputy reads it, by the cluster's file system."""
    path = of_node_2(tmp_path) / "a"
    path.write_bytes(b"y" * 5000)
    nest.reach = Reach(home_mount=str(tmp_path / "cluster"))
    async with running(sys.executable, "-I", "-c", WORKER, cwd=tmp_path) as process:
        await expect(process, "ready")
        traveller = Traveller(nest, process.pid)
        await traveller.go([3])
        await work(process, f"{path} r 700")
        await Books(traveller).until(lambda books: file(books.home, path) == FileIo(2, str(path), 700, 0, 7))
        tell(process, b"end;")


async def test_names_of_any_bytes(nest: Nest, tmp_path: Path) -> None:
    where = of_node_2(tmp_path)
    odd = os.fsencode(where) + b"/\xff\xfe"
    os.mkdir(odd)
    with open(odd + b"/\xfd", "wb") as made:
        made.write(b"odd")
    nest.reach = reach(tmp_path)
    code = """
import os
os.write(1, b"ready\\n"); os.read(0, 1)
file = os.open(b"\\xff\\xfe/\\xfd", os.O_RDWR)
os.write(1, os.read(file, 1) + b"\\n"); os.read(0, 1)
os.chdir(b"\\xff\\xfe")
os.write(1, os.read(file, 1) + b"\\n"); os.read(0, 1)
os.write(1, open(b"\\xfd", "rb").read() + os.read(file, 1) + b"\\n")
"""
    async with running(sys.executable, "-I", "-c", code, cwd=where) as process:
        traveller = Traveller(nest, process.pid)
        for word, node in (("ready", 2), ("o", 1), ("d", 2)):
            await expect(process, word)
            await traveller.go([node])
            tell(process)
        await expect(process, "oddd")
