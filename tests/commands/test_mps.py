from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest
from hypothesis import given, strategies as st

from omtools.agent import api
from omtools.commands.mps import insert_column, io_lines

from .conftest import Nodes

PLAIN = [
    "    PID TTY          TIME CMD",
    "   4711 pts/0    00:00:00 bash",
    "  14712 pts/0    00:01:00 sort -n  big",
    "",
]
USER = [
    "USER         PID %CPU %MEM    VSZ   RSS TTY      STAT START   TIME COMMAND",
    "root           1  0.0  0.0   4444  1234 ?        Ss   05:16   0:06 /sbin/init",
    "averylongus+ 4711  99.9 0.1 444444 12345 pts/12   R+   05:16 100:06 a  b",
    "",
]
NO_TTY = [
    "    PID COMMAND",
    "   4711 bash",
]


def test_the_column_stands_behind_tty() -> None:
    assert insert_column(PLAIN, {4711: 2, 14712: 65535}) == [
        "    PID TTY      NODE     TIME CMD",
        "   4711 pts/0       2 00:00:00 bash",
        "  14712 pts/0    65535 00:01:00 sort -n  big",
        "",
    ]


def test_other_formats() -> None:
    header, init, other, _last = insert_column(USER, {4711: 3})
    assert header.split()[5:9] == ["RSS", "TTY", "NODE", "STAT"]
    assert init.split()[7] == "0"
    assert other.split()[7] == "3"
    assert other.endswith("a  b")
    assert insert_column(NO_TTY, {4711: 2})[:2] == ["    PID NODE COMMAND", "   4711    2 bash"]


def test_without_an_agent_it_is_minus_one() -> None:
    assert insert_column(PLAIN, None)[1].split()[2] == "-1"


@pytest.mark.parametrize("lines", [[], [""], ["COMMAND", "bash"], ["usage: ps"], ["  PID TTY", "x"]])
def test_what_has_no_pids_stays_as_it_is(lines: list[str]) -> None:
    assert insert_column(lines, {})[1:] == lines[1:]


@given(st.lists(st.text(alphabet="PID TTY1234 xn\t", max_size=40), max_size=6))
def test_any_output_survives(lines: list[str]) -> None:
    assert len(insert_column(lines, {1: 2})) == len(lines)


def test_ten_thousand_processes() -> None:
    lines = [PLAIN[0], *(f"{pid:>7} pts/0    00:00:00 job" for pid in range(1, 10_001)), ""]
    drawn = insert_column(lines, dict.fromkeys(range(1, 10_001, 2), 2))
    assert [line.split()[2] for line in drawn[1:-1]] == ["2", "0"] * 5000


def test_a_process_that_is_away(nodes: Nodes, sleeper: int) -> None:
    nodes.run("migrate", str(sleeper), "2")
    done = nodes.run("mps", "-e", "-o", "pid,tty,stat,time,args")
    header, *rows = done.stdout.splitlines()
    assert header.split() == ["PID", "TT", "NODE", "STAT", "TIME", "COMMAND"]
    by_pid = {int(row.split()[0]): row.split()[2] for row in rows}
    assert by_pid[sleeper] == "2"
    assert by_pid[1] == "0"
    (info,) = json.loads(nodes.run("mps", "--json").stdout)
    assert (info["pid"], info["where"]) == (sleeper, 2)
    guests = nodes.run("mps", "--guests", node=2).stdout.splitlines()
    assert guests[1].split()[1:3] == ["1", str(sleeper)]


def test_whose_files_processes_read_and_write(nodes: Nodes, sleeper: int) -> None:
    files = [api.FileIo(3, "/omfs/3/big", 5_000_000, 100_000, 40), api.FileIo(1, "", 7, 0, 2)]
    info = api.ProcessInfo(4711, 4711, 0, "deputy", "m", 1, 3, "away", files=files, io=files[::-1])
    title, *rows = io_lines([info], by_file=True)
    assert title.split() == ["PID", "NODE", "FILES", "OF", "READ", "WRITTEN", "CALLS", "FILE"]
    assert [row.split() for row in rows] == [
        ["4711", "3", "3", "5.0", "MB", "0.1", "MB", "40", "/omfs/3/big"],
        ["4711", "3", "1", "0.0", "MB", "0.0", "MB", "2", "(others)"],
    ]
    assert [row.split()[2] for row in io_lines([info], by_file=False)[1:]] == ["3", "1"]
    nodes.run("migrate", str(sleeper), "2")
    assert nodes.run("mps", "--io").stdout.split() == title.split()[:-1]
    (told,) = json.loads(nodes.run("mps", "--files", "--guests", "--json", node=2).stdout)
    assert (told["role"], told["io"], told["files"]) == ("guest", [], [])


def test_ps_has_the_last_word(nodes: Nodes) -> None:
    done = nodes.run("mps", "--no-such-option")
    assert (
        done.returncode
        == subprocess.run(["ps", "--no-such-option"], capture_output=True, check=False).returncode
    )
    assert nodes.run("mps", "-p", "4194304").returncode == 1


def test_it_fits_the_terminal(nodes: Nodes) -> None:
    leader, follower = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("4H", 24, 60, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "omtools.commands.mps", "-p", str(os.getpid()), "-f"],
        env=nodes.environment(1),
        stdout=follower,
    )
    os.close(follower)
    output = b""
    try:
        while piece := os.read(leader, 4096):
            output += piece
    except OSError:  # the other end is closed
        pass
    os.close(leader)
    assert process.wait() == 0
    assert max(len(line) for line in output.decode().splitlines()) <= 60


def test_without_an_agent(nodes: Nodes) -> None:
    nodes.stop(1)
    done = nodes.run("mps", "-p", str(os.getpid()))
    assert done.returncode == 0
    assert done.stdout.splitlines()[1].split()[2] == "-1"
