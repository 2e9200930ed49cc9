"""Programs that are nearly always in the kernel's clock code when they are stopped, see `clock_code`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from omtools.linux import proc

from .journey import Traveller, build, ended, expect, line, running
from .nest import Nest

_ROUNDS = 15


@pytest.mark.parametrize("case", ["bare", "timer"])
async def test_readers_of_clocks(nest: Nest, workshop: Path, case: str) -> None:
    async with running(build("clocks", workshop), case) as process:
        await expect(process, "ready")
        traveller = Traveller(nest, process.pid)
        for _round in range(_ROUNDS):
            await traveller.go([2, 1])
            await traveller.go([2, 3, 1])
        os.kill(process.pid, signal.SIGTERM)
        assert await line(process) == f"wrong 0 handled {int(case == 'timer')}"
        assert await ended(process) == 0


def _as_of_another_kernel(pid: int) -> None:
    """Change a byte of a process's vdso behind all code: nobody else's is like it any more."""
    (vdso,) = (mapping for mapping in proc.mappings(pid) if mapping.name == "[vdso]")
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        os.pwrite(memory.fileno(), b"\xa5", vdso.end - 1)


@pytest.mark.parametrize("case", ["bare", "timer"])
async def test_readers_of_clocks_on_another_kernel(nest: Nest, workshop: Path, case: str) -> None:
    async with running(build("clocks", workshop), case) as process:
        await expect(process, "ready")
        _as_of_another_kernel(process.pid)
        traveller = Traveller(nest, process.pid)
        for _round in range(_ROUNDS):
            # The timer's handler may return into its home's clock code: then it comes home by itself.
            await traveller.go([2, 1] if case == "timer" else [2, 3, 1])
        os.kill(process.pid, signal.SIGTERM)
        assert await line(process) == f"wrong 0 handled {int(case == 'timer')}"
        assert await ended(process) == 0


EVERY_CLOCK = """
import os, random, time
def look():
    assert time.time() > 1e9 and time.clock_getres(time.CLOCK_MONOTONIC) > 0
    assert time.process_time() >= 0 and time.thread_time() >= 0
    os.times(); os.sched_getaffinity(0); os.getrandom(16)
    return time.monotonic()
print("ready", flush=True)
last = look()
for line in iter(input, "end"):
    for _ in range(2000):
        now = look()
        assert now >= last
        last = now
    print("fine", flush=True)
"""


async def test_every_clock_on_another_kernel(nest: Nest) -> None:
    async with running(sys.executable, "-c", EVERY_CLOCK) as process:
        assert process.stdin is not None
        await expect(process, "ready")
        _as_of_another_kernel(process.pid)
        traveller = Traveller(nest, process.pid)
        await traveller.go([2])
        assert traveller.moved is not None
        await traveller.moved.guest.until("away")
        (home,) = (m for m in proc.mappings(process.pid) if m.name == "[vdso]")
        names = {m.start: m.name for m in proc.mappings(traveller.body)}
        assert names[home.start] != "[vdso]"
        assert "[vdso]" in names.values()
        for node in (2, 3, 1, 2, 1):
            await traveller.go([node])
            process.stdin.write(b"go\n")
            await expect(process, "fine")
        process.stdin.write(b"end\n")
        assert await ended(process) == 0


async def test_a_reader_of_clocks_that_is_stopped(nest: Nest, workshop: Path) -> None:
    """Stopped by a signal it cannot be let run to leave the clock code: it is out of it already."""
    async with running(build("clocks", workshop), "bare") as process:
        await expect(process, "ready")
        traveller = Traveller(nest, process.pid)
        for _round in range(_ROUNDS):
            await traveller.go([2])
            os.kill(process.pid, signal.SIGSTOP)
            await traveller.go([1])
            os.kill(process.pid, signal.SIGCONT)
        os.kill(process.pid, signal.SIGTERM)
        assert await line(process) == "wrong 0 handled 0"
        assert await ended(process) == 0


async def test_an_interpreter_that_reads_clocks(nest: Nest) -> None:
    code = "import time; print('ready', flush=True)\nwhile True: time.monotonic(); time.time(); time.perf_counter()"
    async with running(sys.executable, "-c", code) as process:
        await expect(process, "ready")
        traveller = Traveller(nest, process.pid)
        for _round in range(_ROUNDS):
            await traveller.go([2, 1])
        process.terminate()
        assert await ended(process) == -signal.SIGTERM
