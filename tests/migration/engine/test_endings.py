"""However a process ends away from home, its parent sees what it would have seen."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import pytest

from .journey import LIMIT, Traveller, build, until
from .nest import Nest

OWN = (
    "exit_status", "exit_at_once", "exit_large", "flushed", "with_core", "no_core", "segv", "fpe", "ill", "trap",
    "stack", "term", "kill9", "realtime", "broken", "alarmed", "limit_cpu", "limited_cpu", "killed_by_limit",
    "limit_file", "again",
)  # fmt: skip
ROUTES = {"away": (2,), "third": (2, 3), "back": (2, 1)}


class Child:
    """A child whose raw wait status is looked at."""

    def __init__(self, program: Path, case: str, folder: Path) -> None:
        # A group of its own, whose parent is in its session: an orphaned one is not stopped by SIGTSTP.
        self.popen = subprocess.Popen(
            [program, case], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder, bufsize=0,
            process_group=0,
        )
        self.pid = self.popen.pid

    def tell(self) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(b"x")

    async def said(self, size: int) -> bytes:
        assert self.popen.stdout is not None
        async with asyncio.timeout(LIMIT):
            return await asyncio.to_thread(os.read, self.popen.stdout.fileno(), size)

    async def output(self) -> bytes:
        text = b""
        while piece := await self.said(1 << 16):
            text += piece
        return text

    async def status(self, flags: int = 0) -> int:
        async with asyncio.timeout(LIMIT):
            pid, status, usage = await asyncio.to_thread(os.wait4, self.pid, flags)
        assert pid == self.pid
        assert usage.ru_utime < LIMIT
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            self.popen.returncode = status
        return status

    def close(self) -> None:
        if self.popen.returncode is None:
            self.popen.kill()
            self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout):
            assert stream is not None
            stream.close()


async def _journey(child: Child, nest: Nest | None, route: tuple[int, ...]) -> None:
    assert await child.said(6) == b"ready\n"
    if nest is not None:
        await Traveller(nest, child.pid).go(route)
    child.tell()
    assert await child.said(6) == b"ready\n"  # it runs there
    child.tell()


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("case", OWN)
async def test_it_ends_by_itself(nest: Nest, tmp_path: Path, workshop: Path, case: str, route: str) -> None:
    seen = []
    for where in (None, nest):
        child = Child(build("ending", workshop), case, tmp_path)
        try:
            await _journey(child, where, ROUTES[route])
            seen.append((await child.output(), await child.status()))
        finally:
            child.close()
    assert seen[1] == seen[0]


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGQUIT, signal.SIGHUP, 40])
@pytest.mark.parametrize("case", ["waits", "computes", "reads"])
async def test_killed_by_its_parent(
    nest: Nest, tmp_path: Path, workshop: Path, case: str, number: int, route: str
) -> None:
    seen = []
    for where in (None, nest):
        child = Child(build("ending", workshop), case, tmp_path)
        try:
            await _journey(child, where, ROUTES[route])
            os.kill(child.pid, number)
            seen.append((await child.output(), await child.status()))
        finally:
            child.close()
    assert seen[1] == seen[0]


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN])
@pytest.mark.parametrize("case", ["waits", "computes", "reads", "calls"])
async def test_stopped_and_continued(
    nest: Nest, tmp_path: Path, workshop: Path, case: str, number: signal.Signals
) -> None:
    child = Child(build("ending", workshop), case, tmp_path)
    try:
        await _journey(child, nest, (2,))
        for _again in range(20 if case == "calls" else 3):  # a call may cross the stop on the wire
            os.kill(child.pid, number)
            status = await child.status(os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            assert os.WSTOPSIG(status) == number
            assert _state(child.pid) in "Tt"
            os.kill(child.pid, signal.SIGCONT)
            assert os.WIFCONTINUED(await child.status(os.WCONTINUED))
            await until(lambda: _state(child.pid) in "RS", "running again")
        os.kill(child.pid, signal.SIGTERM)
        assert await child.status() == signal.SIGTERM
    finally:
        child.close()


@pytest.mark.parametrize("case", ["waits", "computes", "reads", "calls"])
async def test_brought_home_while_stopped(nest: Nest, tmp_path: Path, workshop: Path, case: str) -> None:
    child = Child(build("ending", workshop), case, tmp_path)
    try:
        assert await child.said(6) == b"ready\n"
        traveller = Traveller(nest, child.pid)
        await traveller.go((2,))
        child.tell()
        assert await child.said(6) == b"ready\n"
        child.tell()
        os.kill(child.pid, signal.SIGSTOP)
        assert os.WIFSTOPPED(await child.status(os.WUNTRACED))
        await traveller.go((1,))
        await until(lambda: _state(child.pid) == "T", "stopped at home")
        os.kill(child.pid, signal.SIGCONT)
        assert os.WIFCONTINUED(await child.status(os.WCONTINUED))
        os.kill(child.pid, signal.SIGTERM)
        assert await child.status() == signal.SIGTERM
    finally:
        child.close()


async def test_killed_while_stopped(nest: Nest, tmp_path: Path, workshop: Path) -> None:
    for number in (signal.SIGKILL, signal.SIGTERM):
        child = Child(build("ending", workshop), "waits", tmp_path)
        try:
            await _journey(child, nest, (2,))
            os.kill(child.pid, signal.SIGSTOP)
            assert os.WIFSTOPPED(await child.status(os.WUNTRACED))
            os.kill(child.pid, number)
            if number != signal.SIGKILL:
                os.kill(child.pid, signal.SIGCONT)
            assert await child.status() == number
        finally:
            child.close()


async def test_an_ignored_signal(nest: Nest, tmp_path: Path, workshop: Path) -> None:
    child = Child(build("ending", workshop), "ignores", tmp_path)
    try:
        await _journey(child, nest, (2,))
        await until(lambda: _state(child.pid) == "S", "it waits")
        for _again in range(10):
            os.kill(child.pid, signal.SIGTERM)
        child.tell()
        assert await child.status() == 0
    finally:
        child.close()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
