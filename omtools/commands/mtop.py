"""``mtop``: top with a NODE column.

The system's own top does the work, in its batch mode; its pictures get the column (as in ``mps``) and are cut
to the terminal. Without a terminal, or with -b, everything is passed through.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

from omtools.commands._common import run
from omtools.commands.mps import insert_column, whereabouts
from omtools.errors import ProgramMissing
from omtools.i18n import N_, _

_HELP = N_("""\
usage: mtop [options of top]

top with a column NODE: 0 is here, a number is the node that executes the process, -1 means that no
agent could be asked. All options are those of top(1).

Keys: q quit, P by processor time, M by memory, T by time, N by number.

  -b        pictures one after the other, without a terminal
  --help    show this
""")
_KEYS_LINE = N_("q quit  P cpu  M memory  T time  N number")

_SORTED_BY = {b"P": "%CPU", b"M": "%MEM", b"T": "TIME+", b"N": "PID"}
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # xterm's other screen, and its cursor
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"
_WIDEST = "512"  # what top(1) takes at most for -w
_PAUSE = 0.1  # seconds without a byte: top has written its picture
_PIECE = 1 << 16


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    return run(_mtop, arguments)


def _mtop(arguments: list[str]) -> int:
    options = [word for word in arguments if word != "--debug"]
    if "--help" in options:
        print(_(_HELP), end="")
        return 0
    program = shutil.which("top")
    if program is None:
        raise ProgramMissing(command="mtop", program="top", package="procps")
    if any(word.startswith("-b") for word in options) or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return _passed_through([program, "-b", *options])
    return _on_screen([program, "-b", "-w", _WIDEST, *options])


# -------------------------------------------------------------------------------------- one picture


def with_nodes(lines: list[str], nodes: dict[int, int] | None) -> list[str]:
    """One of top's pictures with the column; what has no list of processes stays as it is.

    Args:
        lines: the picture.
        nodes: node by pid for processes that are not here; None: nobody knows.
    """
    for at, line in enumerate(lines):
        if "PID" in line.split():
            return [*lines[:at], *insert_column(lines[at:], nodes)]
    return lines


def fitted(lines: list[str], columns: int, rows: int) -> list[str]:
    """As much of a picture as the terminal has room for; the last row is left for the keys."""
    return [line[:columns].rstrip() for line in lines[: max(rows - 1, 1)]]


# ---------------------------------------------------------------------------------- without a screen


def _passed_through(command: list[str]) -> int:
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    sys.stdout.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]  # a command line may hold any bytes
    try:
        for picture in _pictures(process.stdout.fileno()):
            sys.stdout.write("\n".join(with_nodes(picture, whereabouts("mtop"))))
            sys.stdout.flush()
        return process.wait()
    finally:
        _end(process)


def _pictures(descriptor: int) -> Iterator[list[str]]:
    """What top writes at a time."""
    data = b""
    while True:
        ready = select.select([descriptor], [], [], _PAUSE if data else None)[0]
        piece = os.read(descriptor, _PIECE) if ready else b""
        data += piece
        if not piece and data:
            yield data.decode(errors="surrogateescape").split("\n")
            data = b""
        if ready and not piece:
            return


# --------------------------------------------------------------------------------------- on a screen


def _on_screen(command: list[str]) -> int:
    order: list[str] = []
    complaint, status = b"", 0
    with _screen():
        key = b"-"
        while key:
            process = subprocess.Popen(
                [*command, *order], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            assert process.stderr is not None
            try:
                key = _show(process)
                if key in _SORTED_BY:
                    order = ["-o", _SORTED_BY[key]]
                elif key:
                    return 0
                else:
                    complaint, status = process.stderr.read(), process.wait()
            finally:
                _end(process)
    sys.stderr.write(complaint.decode(errors="replace"))
    return status


def _show(process: subprocess.Popen[bytes]) -> bytes:
    """Draw what it writes; returns the key that was pressed, b"" if it ended by itself."""
    assert process.stdout is not None
    source, keyboard = process.stdout.fileno(), sys.stdin.fileno()
    data = b""
    while True:
        ready = select.select([source, keyboard], [], [], _PAUSE if data else None)[0]
        if keyboard in ready:
            key = os.read(keyboard, 1)
            if key in _SORTED_BY or key in (b"q", b"Q", b"\x04", b""):
                return key or b"q"
        if source in ready:
            piece = os.read(source, _PIECE)
            data += piece
            if piece:
                continue
            _draw(data)
            return b""
        if data and not ready:
            _draw(data)
            data = b""


def _draw(data: bytes) -> None:
    columns, rows = os.get_terminal_size(sys.stdout.fileno())
    text = data.decode(errors="replace").split("\n")
    lines = fitted(with_nodes(text, whereabouts("mtop")), columns, rows)
    lines += [""] * (rows - 1 - len(lines)) + [_(_KEYS_LINE)[: columns - 1]]
    body = "\r\n".join(line + _REST_OF_LINE for line in lines)
    sys.stdout.write(_HOME + body + _REST_OF_SCREEN)
    sys.stdout.flush()


@contextmanager
def _screen() -> Iterator[None]:
    """The terminal's other screen, keys one by one; everything as it was afterwards."""
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    sys.stdout.write(_ENTER)
    sys.stdout.flush()
    try:
        tty.setcbreak(keyboard)
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


if __name__ == "__main__":
    sys.exit(main())
