"""Signals, data and terminals that do not wait for a move to be over."""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import pty
import signal
import struct
import termios
from pathlib import Path

import pytest

from .journey import LIMIT, Traveller, build, ended, expect, line, running, until
from .nest import Nest

_CLOCK_NANOSLEEP = 230  # <asm/unistd_64.h>
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.mark.parametrize("case", ["computes", "calls"])
async def test_queued_signals_arrive_once_and_in_order(nest: Nest, workshop: Path, case: str) -> None:
    async with running(build("storm", workshop), case) as process:
        await expect(process, "ready")
        sent = 0
        stop = asyncio.Event()

        async def send() -> None:
            nonlocal sent
            while not stop.is_set():
                value = ctypes.c_void_p(sent)
                if _libc.sigqueue(process.pid, signal.SIGRTMIN, value) == 0:
                    sent += 1
                await asyncio.sleep(0.0005)

        sending = asyncio.create_task(send())
        await Traveller(nest, process.pid).go([2, 1, 2, 3, 1, 2, 3, 1] * 2)
        stop.set()
        await sending
        os.kill(process.pid, signal.SIGRTMAX)
        assert await line(process) == f"{sent} 0 0"
        assert await ended(process) == 0


@pytest.mark.parametrize("size", [1, 1000, 70_000])
async def test_a_stream_through_it(nest: Nest, size: int) -> None:
    """`cat` between two pipes that are always full, moved all the time."""
    async with running("dd", f"bs={size if size > 1 else 3}", "status=none") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        data = b"".join(struct.pack("<Q", number) for number in range(6000 if size == 1 else 300_000))

        async def feed() -> None:
            assert process.stdin is not None
            for at in range(0, len(data), 50_000):
                process.stdin.write(data[at : at + 50_000])
                await process.stdin.drain()
                await asyncio.sleep(0)
            await moving
            process.stdin.close()

        moving = asyncio.create_task(Traveller(nest, process.pid).go([2, 1, 2, 3, 1, 2]))
        feeding = asyncio.create_task(feed())
        async with asyncio.timeout(LIMIT * 2):
            got = await process.stdout.read()
        await feeding
        assert got == data
        assert await process.wait() == 0


class Terminal:
    """A shell with job control on a terminal of its own."""

    def __init__(self) -> None:
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], {**os.environ, "PS1": "$ ", "TERM": "dumb"})
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    async def shows(self, text: str) -> str:
        """Wait for it; what came before is forgotten."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(LIMIT):
            while text not in self.seen:
                ready = loop.create_future()
                loop.add_reader(self.master, ready.set_result, None)
                try:
                    await ready
                finally:
                    loop.remove_reader(self.master)
                self.seen += os.read(self.master, 4096).decode(errors="replace")
        before, _, self.seen = self.seen.partition(text)
        return before

    def close(self) -> None:
        os.close(self.master)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def _foreground(terminal: Terminal) -> int:
    return int(struct.unpack("i", fcntl.ioctl(terminal.master, termios.TIOCGPGRP, b"\0\0\0\0"))[0])


JOB = """
import signal, sys, time
signal.signal(signal.SIGWINCH, lambda *_: print("window", __import__("os").get_terminal_size().columns, flush=True))
print("started", flush=True)
while True:
    try:
        print("said", sys.stdin.readline().strip(), flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        sys.exit(5)
"""


async def test_job_control(nest: Nest, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(JOB)
    terminal = Terminal()
    try:
        await terminal.shows("$ ")
        terminal.type(f"python3 {tmp_path}/job.py; echo status=$?\n")
        await terminal.shows("started")
        job = _foreground(terminal)
        assert job != terminal.pid
        traveller = Traveller(nest, job)
        await traveller.go([2])
        for columns in range(101, 121):  # each time right after its write, when it is about to read again
            terminal.type(f"hello {columns}\n")
            await terminal.shows(f"said hello {columns}")
            fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
            await terminal.shows(f"window {columns}")
        terminal.type("\x1a")  # Ctrl-Z
        await terminal.shows("Stopped")
        await terminal.shows("$ ")
        assert _foreground(terminal) == terminal.pid
        terminal.type("fg\n")
        await until(lambda: _foreground(terminal) == job, "in the foreground")
        terminal.type("again\n")
        await terminal.shows("said again")
        await traveller.go([3, 1, 2])
        terminal.type("third\n")
        await terminal.shows("said third")
        terminal.type("\x03")  # Ctrl-C
        await terminal.shows("interrupted")
    finally:
        terminal.close()


async def test_a_job_in_the_background_may_not_read(nest: Nest) -> None:
    """It is stopped by SIGTTIN, wherever it runs."""
    terminal = Terminal()
    try:
        await terminal.shows("$ ")
        terminal.type("cat & echo pid=$! end\n")
        await terminal.shows("pid=")
        await terminal.shows("pid=")
        pid = int((await terminal.shows(" end")).strip())
        await until(lambda: ") T" in Path(f"/proc/{pid}/stat").read_text(), "stopped")
        terminal.type("fg\n")
        await until(lambda: _foreground(terminal) == pid, "in the foreground")
        await nest.away(pid)
        terminal.type("text\n")
        await terminal.shows("text\r\ntext")
        terminal.type("\x1abg\n")
        await until(lambda: ") t" in Path(f"/proc/{pid}/stat").read_text(), "stopped again")
    finally:
        terminal.close()


async def test_nothing_is_left_of_many_moves(nest: Nest) -> None:
    async with running("sleep", "100") as process:

        def look() -> tuple[list[str], str]:
            folder = Path(f"/proc/{process.pid}")
            return sorted(os.listdir(folder / "fd")), (folder / "cmdline").read_text()

        traveller = Traveller(nest, process.pid)
        await traveller.blocked_in(_CLOCK_NANOSLEEP)
        before = look()
        for _round in range(15):
            await traveller.go([2])
            assert look()[1] == before[1]
            await traveller.go([3, 1])
            assert look() == before
