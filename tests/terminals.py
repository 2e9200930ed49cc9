"""Programs on a terminal of their own, and an agent of a made-up cluster as a process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATIENCE = 60.0  # seconds; for hangs only
_WHERE, _CURSOR = b"\x1b[6n", b"\x1b[20;1R"  # a program asks where the cursor is, and the terminal answers


def environment(run: Path) -> dict[str, str]:
    """For programs that should ask the agent whose things are there."""
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "LANGUAGE")}
    return {
        **kept,
        "OPENMOSIX_RUN": str(run),
        "OPENMOSIX_CONFIG": str(run),
        "PYTHONPATH": str(ROOT),
        "LC_ALL": "C.UTF-8",
        "TERM": "xterm-256color",
    }


def program(module: str, run: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run one of the commands to its end, without a terminal; `more` is added to its environment."""
    return subprocess.run(
        [sys.executable, "-m", module, *words],
        env={**environment(run), **more},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=PATIENCE,
        check=False,
    )


@contextlib.contextmanager
def simulated_agent(run: Path, *options: str) -> Iterator[None]:
    """A made-up cluster whose agent serves there."""
    command = [sys.executable, "-m", "omtui.simulated", "--socket", str(run / "agent.sock"), *options]
    process = subprocess.Popen(command, env=environment(run), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline()
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE)
        process.stdout.close()


class Terminal:
    """A program on a terminal: what it has written, and keys for it. Use it with ``with``."""

    def __init__(self, arguments: list[str], env: dict[str, str], columns: int = 80, lines: int = 24) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.before = termios.tcgetattr(slave)
        self._slave = slave
        self.process = subprocess.Popen(
            [sys.executable, *arguments], env=env, stdin=slave, stdout=slave, stderr=slave
        )
        self.written = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        os.close(self._master)
        os.close(self._slave)

    def wait_for(self, text: str) -> None:
        """Read until that was written."""
        while text.encode() not in self.written:
            ready, _w, _x = select.select([self._master], [], [], PATIENCE)
            assert ready, self.written[-2000:]
            found = os.read(self._master, 1 << 16)
            self.written += found
            os.write(self._master, _CURSOR * found.count(_WHERE))

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._master, keys.encode())

    def end(self) -> int:
        """Wait for the end, reading on; returns the exit status."""
        while self.process.poll() is None:
            ready, _w, _x = select.select([self._master], [], [], 0.05)
            if ready:
                self.written += os.read(self._master, 1 << 16)
        while select.select([self._master], [], [], 0)[0]:
            self.written += os.read(self._master, 1 << 16)
        return self.process.returncode

    def settings(self) -> list[object]:
        """The terminal's, as tcgetattr(3) has them."""
        return list(termios.tcgetattr(self._slave))
