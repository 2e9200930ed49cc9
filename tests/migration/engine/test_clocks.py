"""Programs that are nearly always in the kernel's clock code when they are stopped, see `clock_code`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

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
