"""Real child processes for tests that trace, read or move them."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from omtools.linux import ptrace
from omtools.linux.x86_64 import Registers

PATIENCE = 20.0  # seconds: only a failing test waits so long
WAIT_FOREVER = "import signal\nprint('ready', flush=True)\nwhile True: signal.pause()"
ECHO = "import sys\nprint('ready', flush=True)\nfor line in sys.stdin: print(line.strip(), flush=True)"


class Child(subprocess.Popen[bytes]):
    """A running Python program with piped input and output."""

    def read_line(self) -> bytes:
        """Its next line; fails the test if none comes."""
        assert self.stdout is not None
        assert select.select([self.stdout], [], [], PATIENCE)[0], "it says nothing"
        return self.stdout.readline().rstrip(b"\n")

    def say(self, line: bytes) -> None:
        """A line for its input."""
        assert self.stdin is not None
        self.stdin.write(line + b"\n")
        self.stdin.flush()

    def answer(self, line: bytes) -> bytes:
        """What it says to that line."""
        self.say(line)
        return self.read_line()


@contextlib.contextmanager
def child_of(*command: str, env: Mapping[str, str] | None = None) -> Iterator[Child]:
    """This program, killed at the end of the block."""
    process = Child(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=env)
    try:
        yield process
    finally:
        process.kill()
        with contextlib.suppress(OSError):
            os.waitpid(process.pid, 0x40000000)  # __WALL: a tracee's end is reported to its tracer, too
        process.wait(PATIENCE)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


@contextlib.contextmanager
def python(code: str = WAIT_FOREVER, *, env: Mapping[str, str] | None = None) -> Iterator[Child]:
    """A Python program that has said "ready"."""
    with child_of(sys.executable, "-I", "-S", "-c", code, env=env) as process:
        assert process.read_line() == b"ready"
        yield process


@contextlib.contextmanager
def seized(code: str = WAIT_FOREVER, options: int = 0) -> Iterator[Child]:
    """A Python program that is seized, and runs."""
    with python(code) as process:
        ptrace.seize(process.pid, options)
        yield process


@contextlib.contextmanager
def stopped(code: str = WAIT_FOREVER) -> Iterator[Child]:
    """A Python program that is seized, and stopped somewhere."""
    with seized(code) as process:
        ptrace.interrupt(process.pid)
        assert ptrace.wait(process.pid).kind is ptrace.StopKind.EVENT
        yield process


def stop_in_call(pid: int, call: int) -> Registers:
    """Interrupt a seized process again and again until that finds it in this system call."""
    limit = time.monotonic() + PATIENCE
    while True:
        ptrace.interrupt(pid)
        assert ptrace.wait(pid).kind is ptrace.StopKind.EVENT
        registers = ptrace.get_registers(pid)
        if registers.call == call:
            return registers
        assert time.monotonic() < limit, f"it is in {registers.call}"
        ptrace.cont(pid)
        os.sched_yield()


def until(condition: Callable[[], bool], what: str = "") -> None:
    """Look again and again; for what no event announces."""
    limit = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < limit, what or "it does not come about"
        os.sched_yield()


def fork() -> int:
    """os.fork, for children that only do what a single thread may; Python 3.12 warns of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def gone(pid: int) -> bool:
    """There is no such process, or only its exit status."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return True
