"""Where a process is sent in a test, and how to know what it is doing meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from omtools.migration.orders import Ask

from .nest import FINAL, Moved, Nest

PROGRAMS = Path(__file__).parent / "programs"
ROUTES: dict[str, tuple[int, ...]] = {
    "stays": (),
    "away": (2,),
    "back": (2, 1),
    "third": (2, 3),
    "around": (2, 3, 1),
}
"""Nodes by turns; 1 is home."""
TOURS: dict[str, tuple[int, ...]] = {
    "away": (2,),
    "to and fro": (2, 1) * 4,
    "third": (2, 3, 1, 2),
}
LIMIT = 15.0  # seconds


def build(name: str, folder: Path, *flags: str) -> Path:
    """A program of this folder, compiled once per folder."""
    target = folder / "-".join((name, *(flag.strip("-").replace("/", "_") for flag in flags)))
    if not target.exists():
        command = ["cc", "-O1", "-Wall", "-Werror", "-o", str(target), str(PROGRAMS / f"{name}.c"), *flags]
        subprocess.run(command, check=True)
    return target


class Traveller:
    """A process under test and where it is."""

    def __init__(self, nest: Nest, pid: int) -> None:
        self.nest = nest
        self.pid = pid
        self.moved: Moved | None = None

    async def go(self, nodes: Sequence[int]) -> None:
        """To each of these nodes in turn; 1 is home."""
        for node in nodes:
            if await self._is_home():
                self.moved = None
            if node == 1 and self.moved is not None:
                state = await self.moved.home()
                assert state.phase == "home", state
                self.moved = None
            elif node != 1 and self.moved is None:
                self.moved = await self.nest.away(self.pid, node)
            elif node != 1 and self.moved is not None:
                self.moved = await self.nest.hop(self.moved, node)

    async def _is_home(self) -> bool:
        """It never left, or came home by itself: some calls can only be done there."""
        if self.moved is None:
            return True
        self.moved.deputy.tell(Ask())
        try:
            return (await self.moved.deputy.until("away", *FINAL)).phase == "home"
        except (EOFError, OSError):  # its keeper ended just when it was asked
            return True

    @property
    def body(self) -> int:
        """The pid of what runs: the process, or its remote."""
        if self.moved is None:
            return self.pid
        return next(state.local_pid for state in reversed(self.moved.guest.seen) if state.local_pid)

    async def blocked_in(self, number: int) -> None:
        """Wait until it sleeps in this system call, wherever it is; away also its deputy, if that does it."""
        if self.moved is not None and self.moved.guest.seen == []:
            await self.moved.guest.until("away", *FINAL)
        await until(lambda: number in (sleeping_in(self.body), sleeping_in(self.pid)), f"blocked in {number}")


def sleeping_in(pid: int) -> int:
    """The system call a process sleeps in, -1 if it runs or is gone (proc(5), /proc/PID/syscall)."""
    try:
        words = Path(f"/proc/{pid}/syscall").read_text().split()
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return -1
    return int(words[0]) if words[0].isdigit() and state == "S" else -1


async def until(condition: Callable[[], bool], what: str, limit: float = LIMIT) -> None:
    """Look again and again until it is so; fails after `limit` seconds."""
    async with asyncio.timeout(limit):
        try:
            while not condition():
                await asyncio.sleep(0.001)
        except asyncio.CancelledError:
            raise AssertionError(f"it never came to this: {what}") from None


@contextlib.asynccontextmanager
async def running(
    *command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None, stdin: int | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program with piped input and output, in a session of its own that is killed as a whole at the end."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdin=asyncio.subprocess.PIPE if stdin is None else stdin, cwd=cwd, env=env,
        stdout=asyncio.subprocess.PIPE, stderr=None, start_new_session=True, limit=1 << 22,
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        await process.communicate()


async def line(process: asyncio.subprocess.Process) -> str:
    """Its next line of output, without the newline."""
    assert process.stdout is not None
    async with asyncio.timeout(LIMIT):
        return (await process.stdout.readline()).decode().rstrip("\n")


async def expect(process: asyncio.subprocess.Process, word: str) -> None:
    """Its next line must be this."""
    assert await line(process) == word


async def rest(process: asyncio.subprocess.Process) -> str:
    """All that is still to come of its output."""
    assert process.stdout is not None
    async with asyncio.timeout(LIMIT):
        return (await process.stdout.read()).decode()


def tell(process: asyncio.subprocess.Process, byte: bytes = b"x") -> None:
    """The byte that `told()` in a program waits for."""
    assert process.stdin is not None
    process.stdin.write(byte)


async def compare(
    nest: Nest, command: Sequence[str | Path], route: Sequence[int], folder: Path, env: dict[str, str] | None = None
) -> str:
    """Run it undisturbed and moved: output and end must be the same. Returns the output.

    At each line "ready" it is moved on by one node of the route, while it waits in `checkpoint()`.
    """
    said: list[str] = []
    for nodes in ((), tuple(route)):
        where = folder / ("moved" if nodes else "undisturbed") / "here"
        where.mkdir(parents=True)
        async with running(*command, cwd=where, env=env) as process:
            traveller = Traveller(nest, process.pid)
            lines = []
            todo = list(nodes)
            while (text := await line(process)) or not at_end(process):
                lines.append(text)
                if text == "ready":
                    if todo:
                        await traveller.go([todo.pop(0)])
                    tell(process)
            said.append("\n".join((*lines, f"status {await ended(process)}")))
    assert said[1] == said[0], f"undisturbed:\n{said[0]}\n\nmoved:\n{said[1]}"
    return said[0]


def at_end(process: asyncio.subprocess.Process) -> bool:
    """Its output is over."""
    return process.stdout is None or process.stdout.at_eof()


async def ended(process: asyncio.subprocess.Process) -> int:
    """Its exit status, minus the signal if it was killed."""
    async with asyncio.timeout(LIMIT):
        return await process.wait()
