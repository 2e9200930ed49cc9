"""A shell on a node that runs one line after the other: the far end, and what omsh does with it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import secrets
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from omtools.errors import NodeShellError
from omtools.i18n import _
from omtools.lab.lab import Lab
from omtools.lab.settings import PACKAGE_HOME
from omtools.shell.facts import Ran
from omtools.shell.marks import Mark, MarkFilter, as_input, bash_command

START_PATIENCE = 20.0
_END_PATIENCE = 5.0
_PIECE = 65536
_TAIL = 65536  # bytes of a command's output that checks can look at
DEFAULT_SIZE = (24, 80)


class Terminal(Protocol):
    """A program at the far end of a pseudo-terminal, wherever that is."""

    def fileno(self) -> int:
        """A descriptor that becomes readable when there is output, or the end of it."""

    def read(self) -> bytes:
        """What it printed; b"" at its end."""

    def write(self, data: bytes) -> int:
        """Type something; returns how much was taken."""

    def resize(self, rows: int, columns: int) -> None:
        """The window has another size now."""

    def close(self) -> None:
        """Hang up; the program and its jobs are told by the kernel."""


class EnteredTerminal:
    """A program on a node of the lab, or here.

    Args:
        node: its name; "": here.
        command: for a shell.
        variables: of the environment of what enters the node.
        size: of the window, in rows and columns.
    """

    def __init__(self, node: str, command: str, variables: Mapping[str, str], size: tuple[int, int]) -> None:
        self._master, slave = pty.openpty()
        try:
            self.resize(*size)
            os.set_blocking(self._master, False)
            paths = [str(PACKAGE_HOME), *filter(None, os.environ.get("PYTHONPATH", "").split(":"))]
            environment = {**os.environ, **variables, "PYTHONPATH": ":".join(dict.fromkeys(paths))}
            self._process = subprocess.Popen(
                [sys.executable, "-m", "omtools.shell.entrance", node, command],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env=environment,
                start_new_session=True,
            )
        except BaseException:
            os.close(self._master)
            raise
        finally:
            os.close(slave)

    def fileno(self) -> int:
        """The pseudo-terminal's master."""
        return self._master

    def read(self) -> bytes:
        """What it printed; b"" at its end."""
        try:
            return os.read(self._master, _PIECE)
        except OSError:  # EIO: nobody has the other end open any more
            return b""

    def write(self, data: bytes) -> int:
        """Type something; returns how much was taken."""
        try:
            return os.write(self._master, data)
        except BlockingIOError:
            return 0

    def resize(self, rows: int, columns: int) -> None:
        """The window has another size now."""
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def close(self) -> None:
        """Hang up, and wait for the end."""
        os.close(self._master)
        try:
            self._process.wait(_END_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGKILL)  # it takes the shell with it
            self._process.wait()


Connect = Callable[[str, "tuple[int, int]"], Terminal]


class NodeShell:
    """A bash on a node.

    Attributes:
        node: its name.
        directory: where it is.
        jobs: how many jobs it has in the background.
        status: exit status of its last line.
    """

    def __init__(self, node: str, connect: Connect, size: tuple[int, int] = DEFAULT_SIZE) -> None:
        """Start it and wait until it is ready.

        Args:
            node: its name.
            connect: makes the far end for a command line and a size in rows and columns.
            size: of the window.

        Raises:
            NodeShellError: it did not get ready.
        """
        token = secrets.token_hex(8)
        self.node = node
        self.directory, self.jobs, self.status = "~", 0, 0
        self._filter = MarkFilter(token)
        self._waiting = b""
        self._line = ""
        self._begun = 0.0
        self._printed = b""
        self._terminal = connect(bash_command(token), size)
        try:
            self._await_first()
        except BaseException:
            self._terminal.close()
            raise

    def _await_first(self) -> None:
        said = b""
        deadline = time.monotonic() + START_PATIENCE
        while True:
            ready, _w, _x = select.select([self._terminal], [], [], max(0.0, deadline - time.monotonic()))
            data = self._terminal.read() if ready else b""
            if not data:
                last = said.decode(errors="replace").strip().split("\n")[-1].strip()
                raise NodeShellError(node=self.node, why=last or _("bash did not start"))
            for piece in self._filter.feed(data):
                if isinstance(piece, Mark):
                    self._note(piece)
                    return
                said += piece

    def fileno(self) -> int:
        """A descriptor that becomes readable when there is output."""
        return self._terminal.fileno()

    def begin(self, line: str) -> None:
        """Run a line; read until a `Ran` comes."""
        self._line, self._begun, self._printed = line, time.monotonic(), b""
        self._waiting += as_input(line)
        self.flush()

    def type(self, data: bytes) -> None:
        """Pass keys to what runs."""
        self._waiting += data
        self.flush()

    @property
    def waiting(self) -> bool:
        """Whether there is something that the far end has not taken yet."""
        return bool(self._waiting)

    def flush(self) -> None:
        """Hand over what waits, as far as it is taken."""
        if self._waiting:
            self._waiting = self._waiting[self._terminal.write(self._waiting) :]

    def read(self) -> tuple[bytes, Ran | None]:
        """What was printed, for the screen, and the outcome if the line has ended.

        Raises:
            NodeShellError: the shell has ended.
        """
        data = self._terminal.read()
        if not data:
            raise NodeShellError(node=self.node, why=_("it has ended"))
        shown, ran = b"", None
        for piece in self._filter.feed(data):
            if isinstance(piece, Mark):
                self._note(piece)
                ran = self._outcome(piece)
            else:
                shown += piece
                self._printed = (self._printed + piece)[-_TAIL:]
        return shown, ran

    def _outcome(self, mark: Mark) -> Ran:
        output = self._printed.decode(errors="replace").replace("\r\n", "\n")
        return Ran(self.node, self._line, mark.status, time.monotonic() - self._begun, output)

    def _note(self, mark: Mark) -> None:
        self.directory, self.jobs, self.status = mark.directory, mark.jobs, mark.status

    def run(self, line: str, patience: float) -> Ran:
        """Run a line to its end, with nobody at the keyboard.

        Raises:
            NodeShellError: the shell has ended.
            TimeoutError: the line has not, in so many seconds; it is interrupted.
        """
        self.begin(line)
        deadline = time.monotonic() + patience
        while True:
            self.flush()
            writing = [self._terminal] if self._waiting else []
            left = max(0.0, deadline - time.monotonic())
            ready, _w, _x = select.select([self._terminal], writing, [], left)
            if ready:
                _shown, ran = self.read()
                if ran is not None:
                    return ran
            elif not _w and not left:
                self.type(b"\x03")
                raise TimeoutError(line)

    def resize(self, rows: int, columns: int) -> None:
        """The window has another size now."""
        self._terminal.resize(rows, columns)

    def close(self) -> None:
        """Hang up."""
        self._terminal.close()


def on_lab_node(lab: Lab, node: str, size: tuple[int, int] = DEFAULT_SIZE) -> NodeShell:
    """A shell on a node of the lab; raises NodeShellError."""
    variables = {"OMLAB_NAME": lab.state.name}
    return NodeShell(node, lambda command, window: EnteredTerminal(node, command, variables, window), size)
