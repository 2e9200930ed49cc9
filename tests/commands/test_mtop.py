from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios

import pytest

from omtools.commands.mtop import fitted, with_nodes

from .conftest import Nodes

PICTURE = [
    "top - 12:30:19 up  7:13,  0 user,  load average: 5.77, 5.33, 3.19",
    "Tasks: 146 total,   3 running, 136 sleeping,   0 stopped,   7 zombie",
    "",
    "    PID USER      PR  NI    VIRT    RES    SHR S  %CPU  %MEM     TIME+ COMMAND",
    "   7086 root      20   0    4528   4216   2060 R 100.0   0.0   0:02.64 steady",
    "",
]


def test_the_column_stands_behind_the_pid() -> None:
    drawn = with_nodes(PICTURE, {7086: 2})
    assert drawn[:3] == PICTURE[:3]
    assert drawn[3].startswith("    PID NODE USER")
    assert drawn[4].startswith("   7086    2 root")
    assert with_nodes(PICTURE[:2], {}) == PICTURE[:2]


def test_it_fits_any_terminal() -> None:
    assert fitted(PICTURE, 20, 4) == ["top - 12:30:19 up  7", "Tasks: 146 total,", ""]
    assert fitted(PICTURE, 20, 1) == ["top - 12:30:19 up  7"]


def test_without_a_terminal(nodes: Nodes, sleeper: int) -> None:
    nodes.run("migrate", str(sleeper), "2")
    done = nodes.run("mtop", "-n", "1", "-p", str(sleeper))
    assert done.returncode == 0, done.stderr
    header, row = (line.split() for line in done.stdout.splitlines() if line.split()[:1] in (["PID"], [str(sleeper)]))
    assert header[1] == "NODE"
    assert row[1] == "2"
    assert "no-such-option" in nodes.run("mtop", "-b", "--no-such-option").stderr


@pytest.mark.parametrize("columns", [20, 80])
def test_on_a_screen(nodes: Nodes, columns: int) -> None:
    nodes.stop(1)
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
    before = termios.tcgetattr(follower)
    process = subprocess.Popen(
        [sys.executable, "-m", "omtools.commands.mtop", "-d", "0.2"],
        env=nodes.environment(1), stdin=follower, stdout=follower, stderr=follower,
    )  # fmt: skip
    seen = b""
    for key, wanted in ((b"N", b"q quit"), (b"q", b"q quit"), (b"", b"\x1b[?1049l")):  # a picture ends with its keys
        mark = len(seen)
        while wanted not in seen[mark:]:
            assert select.select([leader], [], [], 20)[0], seen
            seen += os.read(leader, 65536)
        if key:
            os.write(leader, key)
    assert process.wait(20) == 0
    assert termios.tcgetattr(follower) == before
    os.close(leader)
    os.close(follower)
    pictures = seen.decode().split("\x1b[H")[1:]
    assert len(pictures) > 1
    assert "NODE" in pictures[0]
    assert all(len(line.split("\x1b")[0].strip("\r\n")) <= columns for one in pictures for line in one.split("\r\n"))
