from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest

CLEAR = b"\r\x1b[K"
STEPS = """
from omtools.commands import _progress
_progress._SILENT = {silent}
with _progress.Progress("guests sent home", 3) as progress:
    for _step in range(3):
        progress.step()
print("done")
"""
WAITING = """
import threading
from omtools.commands import _progress
drawn = threading.Event()
draw = _progress._draw
def told(line):
    draw(line)
    drawn.set()
_progress._draw, _progress._SECOND = told, 0.01
with _progress.Waiting("the agent starts"):
    drawn.wait(20)
print("done")
"""


def on_terminal(code: str, columns: int = 80) -> bytes:
    """What a program writes to a terminal."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=follower, stderr=follower)
    os.close(follower)
    written = b""
    try:
        while piece := os.read(leader, 4096):
            written += piece
    except OSError:  # the other end is closed
        pass
    os.close(leader)
    assert process.wait(20) == 0
    return written


@pytest.mark.parametrize(("columns", "line"), [(80, b"2/3 guests sent home"), (12, b"2/3 guests ")])
def test_a_line_that_is_overwritten_and_gone(columns: int, line: bytes) -> None:
    lines = on_terminal(STEPS.format(silent=0), columns).split(CLEAR)
    assert len(lines) == 5
    assert lines[2] == line
    assert lines[-1] == b"done\r\n"


def test_what_is_done_soon_needs_no_line() -> None:
    assert on_terminal(STEPS.format(silent=100)) == b"done\r\n"


def test_nothing_where_nobody_sits() -> None:
    for code in (STEPS.format(silent=0), "from omtools.commands._progress import Waiting\nwith Waiting('x'): print('done')"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert (done.stdout, done.stderr) == (b"done\n", b"")


def test_waiting_counts_seconds_and_leaves_nothing() -> None:
    first, *rest = on_terminal(WAITING).split(CLEAR)
    assert first == b""
    assert rest[0] == b"the agent starts (0 s)"
    assert rest[-1] == b"done\r\n"
