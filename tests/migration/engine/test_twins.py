"""Processes whose program and libraries the other node has too: only what they changed travels."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from settled import settled_file

from omtools.image import twins
from omtools.linux import proc

from .nest import Nest, compiled, program

MAPS = r"""
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <fcntl.h>
#include <sys/mman.h>
#define PAGE 4096
static void tell(const char *what, const char *at, int pages) {
    unsigned long sum = 0;
    for (int i = 0; i < pages * PAGE; i++) sum = sum * 31 + (unsigned char)at[i];
    printf("%s %lu\n", what, sum);
    fflush(stdout);
}
int main(int argc, char **argv) {
    char line[64];
    char *at = mmap(0, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, open(argv[1], O_RDONLY), 0);
    memset(at + PAGE, 'h', 10);                     /* changed at home */
    mprotect(at + PAGE, PAGE, PROT_READ);
    tell("ready", at, 16);
    while (fgets(line, sizeof line, stdin)) {
        if (line[0] == 'c') memset(at + 3 * PAGE, 'a', 10);                          /* changed away */
        if (line[0] == 'u') munmap(at + 5 * PAGE, PAGE);
        if (line[0] == 'z') mmap(at + 5 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (line[0] == 'q') {                                                        /* nor is it looked at */
            mmap(at + 9 * PAGE, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
            at[10 * PAGE] = 'q';
            tell("quiet", at, 9);
            continue;
        }
        if (line[0] == 'd') madvise(at + 3 * PAGE, PAGE, MADV_DONTNEED);             /* the file's again */
        if (line[0] == 'm') mremap(at + 7 * PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at + 5 * PAGE),
                            mmap(at + 7 * PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        tell(line[0] == 'u' ? "gone" : "sum", at, line[0] == 'u' ? 5 : 16);
    }
    return 0;
}
"""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return settled_file(tmp_path / "data", monkeypatch)


def checksum(content: bytes | bytearray) -> int:
    total = 0
    for byte in content:
        total = (total * 31 + byte) % (1 << 64)
    return total


@contextlib.asynccontextmanager
async def mapping(file: Path, folder: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, bytearray]]:
    """A program that has mapped the file and changed one page of it, and what it sees there."""
    content = bytearray(file.read_bytes())
    content[4096:4106] = b"h" * 10
    async with program(compiled(MAPS, "maps", folder), str(file)) as process:
        assert process.stdout is not None
        assert int((await process.stdout.readline()).split()[1]) == checksum(content)
        yield process, content


async def ask(process: asyncio.subprocess.Process, word: str) -> int:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{word}\n".encode())
    return int((await process.stdout.readline()).split()[1])


async def test_only_what_changed_travels(nest: Nest) -> None:
    nest.twins = True
    async with program(sys.executable, "-c", "print(1, flush=True)\nprint(sum(range(int(input()))))") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdout.readline()
        moved = await nest.away(process.pid)
        away = moved.state.statistics.bytes_moved
        mapped = twins.mapped_files(process.pid)
        guest = (await moved.guest.until("away")).local_pid
        assert {one.name for one in proc.mappings(guest) if one.inode} <= set(mapped)
        back = (await moved.home()).statistics.bytes_moved
        nest.twins = False
        whole = (await nest.away(process.pid)).state.statistics.bytes_moved
        assert max(away, back) < whole / 2
        process.stdin.write(b"10\n")
        assert await process.stdout.readline() == b"45\n"
        assert await process.wait() == 0


async def test_what_was_changed_where(nest: Nest, data: Path, tmp_path: Path) -> None:
    nest.twins = True
    async with mapping(data, tmp_path) as (process, content):
        moved = await nest.away(process.pid)
        assert await ask(process, "s") == checksum(content)
        content[3 * 4096 : 3 * 4096 + 10] = b"a" * 10
        assert await ask(process, "c") == checksum(content)
        assert (await moved.home()).phase == "home"
        assert await ask(process, "s") == checksum(content)
        moved = await nest.away(process.pid)
        moved = await nest.hop(moved, 3)
        assert await ask(process, "s") == checksum(content)
        content[3 * 4096 : 4 * 4096] = data.read_bytes()[3 * 4096 : 4 * 4096]
        assert await ask(process, "d") == checksum(content)
        assert (await moved.home()).phase == "home"
        assert await ask(process, "s") == checksum(content)


@pytest.mark.parametrize("twin", [True, False])
@pytest.mark.parametrize("hops", [0, 1])
async def test_other_memory_in_the_place_of_a_file(
    nest: Nest, data: Path, tmp_path: Path, hops: int, twin: bool
) -> None:
    nest.twins = twin
    async with mapping(data, tmp_path) as (process, content):
        moved = await nest.away(process.pid)
        assert await ask(process, "u") == checksum(content[: 5 * 4096])
        content[5 * 4096 : 6 * 4096] = bytes(4096)
        assert await ask(process, "z") == checksum(content)
        assert await ask(process, "q") == checksum(content[: 9 * 4096])
        content[9 * 4096 : 11 * 4096] = bytes(4096) + b"q" + bytes(4095)
        for _hop in range(hops):
            moved = await nest.hop(moved, 3)
        assert (await moved.home()).phase == "home"
        assert await ask(process, "s") == checksum(content)


async def test_a_twin_that_was_moved_to_another_address(nest: Nest, data: Path, tmp_path: Path) -> None:
    nest.twins = True
    async with mapping(data, tmp_path) as (process, content):
        moved = await nest.away(process.pid)
        content[5 * 4096 : 6 * 4096] = content[7 * 4096 : 8 * 4096]
        content[7 * 4096 : 8 * 4096] = bytes(4096)
        assert await ask(process, "m") == checksum(content)
        assert (await moved.home()).phase == "home"
        assert await ask(process, "s") == checksum(content)


@pytest.mark.parametrize("hops", [0, 1])
@pytest.mark.parametrize("word", ["d", "m"])
async def test_pages_of_a_file_that_is_no_twin_are_given_back_or_moved(
    nest: Nest, data: Path, tmp_path: Path, word: str, hops: int
) -> None:
    """After that they have the file's content again: it comes home for it."""
    async with mapping(data, tmp_path) as (process, content):
        moved = await nest.away(process.pid)
        content[3 * 4096 : 3 * 4096 + 10] = b"a" * 10
        assert await ask(process, "c") == checksum(content)
        for _hop in range(hops):
            moved = await nest.hop(moved, 3)
        if word == "d":
            content[3 * 4096 : 4 * 4096] = data.read_bytes()[3 * 4096 : 4 * 4096]
        else:
            content[5 * 4096 : 6 * 4096] = content[7 * 4096 : 8 * 4096]
            content[7 * 4096 : 8 * 4096] = bytes(4096)
        assert await ask(process, word) == checksum(content)
        state = await moved.deputy.until("home")
        assert "maps a file" in state.reason


async def test_a_third_node_that_has_it_not(nest: Nest, data: Path, tmp_path: Path) -> None:
    nest.twins = True
    async with mapping(data, tmp_path) as (process, content):
        moved = await nest.away(process.pid)
        nest.twins = False
        moved = await nest.hop(moved, 3)
        assert await ask(process, "s") == checksum(content)
        assert (await moved.home()).phase == "home"
        assert await ask(process, "s") == checksum(content)


async def test_a_file_that_has_changed_meanwhile_is_no_twin(nest: Nest, data: Path, tmp_path: Path) -> None:
    """It is not the same any more when the keepers look: all of it travels, as it was mapped."""
    nest.twins = True
    copy = tmp_path / "copy"
    copy.write_bytes(data.read_bytes())
    async with mapping(data, tmp_path) as (process, content):
        real = nest._twins

        def then_changed(pid: int) -> list[twins.Twin]:
            found = real(pid)
            time.sleep(0.01)  # a tick of the clock of time stamps
            copy.replace(data) if copy.exists() else None
            return found

        nest._twins = then_changed  # type: ignore[method-assign]
        moved = await nest.away(process.pid)
        guest = (await moved.guest.until("away")).local_pid
        assert str(data) not in {one.name for one in proc.mappings(guest)}
        assert await ask(process, "s") == checksum(content)
        assert (await moved.home()).phase == "home"
        assert await ask(process, "s") == checksum(content)


@pytest.mark.parametrize("twin", [True, False])
async def test_a_file_whose_name_is_no_text(nest: Nest, data: Path, tmp_path: Path, twin: bool) -> None:
    nest.twins = twin
    odd = data.rename(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe")))
    async with mapping(odd, tmp_path) as (process, content):
        moved = await nest.away(process.pid)
        assert await ask(process, "s") == checksum(content)
        assert (await moved.home()).phase == "home"
        assert await ask(process, "s") == checksum(content)
