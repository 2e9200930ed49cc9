"""Ordinary programs, moved there and back in mid-run, end as if nothing had been."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from . import counting
from .nest import Nest, compiled, program

COUNTER = r"""
#include <stdio.h>
int main(void) {
    unsigned long x = 1;
    for (int i = 0; i < 150; i++) {
        for (long j = 0; j < 20000000; j++) x = x * 6364136223846793005UL + 1442695040888963407UL;
        printf("%d %lu\n", i, x);
        fflush(stdout);
    }
    return 7;
}
"""

UNDISTURBED = "".join(f"{i} {x}\n" for i, x in enumerate(counting.values(150, 20_000_000))).encode()

PYTHON = """
import hashlib, math
digest = hashlib.sha256()
for i in range(200):
    value = sum(math.sin(k * i) for k in range(50000))
    digest.update(repr(value).encode())
    print(i, repr(value), digest.hexdigest(), flush=True)
    if i == 100:
        input()  # however slow the machine is, it has moved by then
"""


async def test_a_computing_c_program(nest: Nest, tmp_path: Path) -> None:
    counter = compiled(COUNTER, "counter", tmp_path)
    async with program(counter) as process:
        assert process.stdout is not None
        seen = await process.stdout.readline()
        while True:
            moved = await nest.away(process.pid)
            assert moved.state.statistics.bytes_moved > 100_000
            seen += await process.stdout.readline()
            assert (await moved.home()).phase == "home"
            seen += await process.stdout.readline()
            if seen.count(b"\n") > 15:
                break
        seen += await process.stdout.read()
        assert await process.wait() == 7
    assert seen == UNDISTURBED


async def test_a_python_interpreter_that_ends_away(nest: Nest) -> None:
    undisturbed = subprocess.run([sys.executable, "-c", PYTHON], input=b"\n", capture_output=True, check=True)
    async with program(sys.executable, "-c", PYTHON) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        seen = await process.stdout.readline()
        moved = await nest.away(process.pid)
        process.stdin.write(b"\n")
        seen += await process.stdout.read()
        assert await process.wait() == 0
        assert (await moved.deputy.end()).exit == "exited 0"
    assert seen == undisturbed.stdout


async def test_a_third_node(nest: Nest, tmp_path: Path) -> None:
    counter = compiled(COUNTER, "counter", tmp_path)
    async with program(counter) as process:
        assert process.stdout is not None
        seen = await process.stdout.readline()
        moved = await nest.away(process.pid, 2)
        seen += await process.stdout.readline()
        moved = await nest.hop(moved, 3)
        assert moved.state.node == 3
        seen += await process.stdout.readline()
        assert (await moved.home()).phase == "home"
        seen += await process.stdout.read()
        assert await process.wait() == 7
    assert seen == UNDISTURBED
