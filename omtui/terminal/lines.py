"""What is at the other end of a terminal; a program on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import signal
import struct
import sys
import termios
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from omtools.errors import OmError
from omtui.terminal.emulator import TERM

_PIECE = 8192  # bytes that are drawn before anything else has its turn
_PATIENCE = 5.0  # seconds from the hang-up of a program to its forced end
_UNWRITTEN = 1 << 16  # bytes; whoever types more than that is not read is not heard
# Becomes the program, with the terminal that is standard input as its own: tty_ioctl(4)
_BECOME = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


class Line(Protocol):
    """A line to something that has a terminal."""

    def open(self, size: tuple[int, int], heard: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        """Begin; raises OmError.

        Args:
            size: columns and lines.
            heard: is given what comes.
            ended: is told when nothing will come any more.
        """

    def write(self, data: bytes) -> None:
        """Type."""

    def resize(self, size: tuple[int, int]) -> None:
        """The window has another size."""

    async def close(self) -> None:
        """The end; nothing is left."""


class Descriptor:
    """Reading and writing without waiting, on the application's loop."""

    def __init__(self) -> None:
        self._fd = -1
        self._pending = bytearray()

    def attach(self, fd: int, heard: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        """Read from now on."""
        self._fd = fd
        os.set_blocking(fd, False)

        def read() -> None:
            try:
                data = os.read(fd, _PIECE)
            except BlockingIOError:
                return
            except OSError:  # EIO: nobody has the terminal open any more
                data = b""
            if data:
                heard(data)
            else:
                self.detach()
                ended()

        asyncio.get_running_loop().add_reader(fd, read)

    def detach(self) -> None:
        """Not any more."""
        if self._fd >= 0:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._fd)
            loop.remove_writer(self._fd)
            self._fd = -1

    def write(self, data: bytes) -> None:
        """Type; without waiting for whoever reads it."""
        if self._fd >= 0 and len(self._pending) < _UNWRITTEN:
            self._pending += data
            self._flush()

    def _flush(self) -> None:
        if self._fd < 0:
            return
        loop = asyncio.get_running_loop()
        try:
            del self._pending[: os.write(self._fd, self._pending)]
        except BlockingIOError:
            pass
        except OSError:  # it is gone; reading tells so
            self._pending.clear()
        if self._pending:
            loop.add_writer(self._fd, self._flush)
        else:
            loop.remove_writer(self._fd)


class Program(Descriptor):
    """A program on a pseudo-terminal of its own: pty(7)."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Nothing happens yet.

        Args:
            command: its name and arguments.
            environment: in addition to ours.
        """
        super().__init__()
        self._command = list(command)
        self._environment = dict(environment or {})
        self._master = -1
        self._process: asyncio.subprocess.Process | None = None
        self._starting: asyncio.Task[None] | None = None

    def open(self, size: tuple[int, int], heard: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        """See `Line`."""
        try:
            self._master, slave = pty.openpty()
        except OSError as error:
            raise OmError(detail=f"/dev/ptmx: {error.strerror}.") from None
        self.resize(size)
        self.attach(self._master, heard, ended)
        self._starting = asyncio.create_task(self._start(slave))

    async def _start(self, slave: int) -> None:
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", _BECOME, *self._command,
                stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                env={**os.environ, "TERM": TERM, **self._environment},
            )  # fmt: skip
        finally:
            os.close(slave)

    def resize(self, size: tuple[int, int]) -> None:
        """See `Line`."""
        if self._master >= 0:
            window = struct.pack("HHHH", max(1, size[1]), max(1, size[0]), 0, 0)  # struct winsize
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, window)

    async def close(self) -> None:
        """See `Line`."""
        self.detach()
        if self._starting is not None:
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._master >= 0:
            os.close(self._master)  # the kernel hangs up: SIGHUP
            self._master = -1
        process, self._process = self._process, None
        if process is None:
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
