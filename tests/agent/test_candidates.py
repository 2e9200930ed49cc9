"""Which processes the balancer sees: real ones, marked and unmarked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from omtools.agent.candidates import Candidates
from omtools.agent.memo import Memo
from omtools.omfs.orders import Use

FAMILY = """
import os, sys
child = os.fork()
if child == 0:
    x = 0
    while True: x += 1
print(child, flush=True)
sys.stdin.read()
os.kill(child, 9)
"""
NONE: frozenset[int] = frozenset()


@pytest.fixture
def family() -> Iterator[tuple[int, int]]:
    """A process that waits, and its child that computes."""
    with subprocess.Popen([sys.executable, "-c", FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        yield parent.pid, int(parent.stdout.readline())
        assert parent.stdin is not None
        parent.stdin.close()


def seen(candidates: Candidates, now: float, moving: frozenset[int] = NONE) -> dict[int, bool]:
    return {process.pid: process.locked for process in candidates.look(now, [], 10000, moving)}


def test_only_what_was_unlocked_and_what_descends_from_it(short: Path, family: tuple[int, int]) -> None:
    parent, child = family
    memo = Memo(short)
    candidates = Candidates(memo, everything=False, node=1)
    assert seen(candidates, 0) == {}
    memo.lock(parent, locked=False)
    assert seen(candidates, 1) == {parent: False, child: False}
    memo.lock(child, locked=True)
    assert seen(candidates, 2) == {parent: False}
    memo.lock(parent, locked=True)
    assert seen(candidates, 3) == {}


def test_what_they_do(short: Path, family: tuple[int, int]) -> None:
    parent, child = family
    memo = Memo(short)
    memo.lock(parent, locked=False)
    candidates = Candidates(memo, everything=False, node=1)
    seen(candidates, 0)
    begun = time.process_time_ns()
    while cpu_of(child) < 0.3:  # it may have to share the processor
        time.sleep(0.01)
        assert time.process_time_ns() - begun < 60e9
    found = {process.pid: process for process in candidates.look(1.0, [], 20000, frozenset({parent}))}
    assert found[child].cpu > 0.2
    assert found[child].used_s >= 0.6  # the processor is twice as fast as the standard one
    assert found[parent].cpu < 0.1
    assert (found[parent].moving, found[child].moving) == (True, False)
    assert found[child].resident > 1 << 20
    assert found[child].home == 1
    assert found[child].uid == os.getuid()


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_who_ran_for_some_time_and_is_gone(short: Path, family: tuple[int, int]) -> None:
    parent, child = family
    memo = Memo(short)
    memo.lock(parent, locked=False)
    candidates = Candidates(memo, everything=False, node=1)
    for now in (0.0, 1.0, 4.0):
        seen(candidates, now)
        assert candidates.gone == 0
    os.kill(child, signal.SIGKILL)
    while child in seen(candidates, 5.0):  # its parent waits for nobody: it stays a zombie
        assert candidates.gone == 0
    assert candidates.gone == 1
    seen(candidates, 6.0)
    assert candidates.gone == 0


def test_who_was_there_for_a_moment_only_does_not_count(short: Path, family: tuple[int, int]) -> None:
    parent, child = family
    memo = Memo(short)
    memo.lock(parent, locked=False)
    candidates = Candidates(memo, everything=False, node=1)
    seen(candidates, 0.0)
    os.kill(child, signal.SIGKILL)
    while child in seen(candidates, 1.0):
        pass
    assert candidates.gone == 0


def test_what_could_not_move_is_left_alone_for_a_while(short: Path, family: tuple[int, int]) -> None:
    parent, _child = family
    memo = Memo(short)
    memo.lock(parent, locked=False)
    candidates = Candidates(memo, everything=False, node=1)
    seen(candidates, 0)
    candidates.stays(parent, "it is stopped", 1.0)
    found = {process.pid: process.cannot for process in candidates.look(2.0, [], 10000, NONE)}
    assert found[parent] == "it is stopped"
    assert all(process.cannot == "" for process in candidates.look(40.0, [], 10000, NONE))


def test_everything_of_this_user(short: Path, family: tuple[int, int]) -> None:
    candidates = Candidates(Memo(short), everything=True, node=1)
    found = seen(candidates, 0)
    if os.getuid():
        assert set(family) <= set(found)
        assert os.getpid() not in found
    else:
        assert not set(family) & set(found)  # root's agent moves people's processes, not the system's


READER = """
import os, sys
file = os.open("/dev/zero", os.O_RDONLY)
print(flush=True)
while size := int(sys.stdin.readline()):
    os.read(file, size)
    print(flush=True)
"""


def test_whose_files_they_read(short: Path) -> None:
    """By way of the mount other nodes', else this one's."""
    memo = Memo(short)
    with subprocess.Popen([sys.executable, "-c", READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        reader.stdout.readline()
        memo.lock(reader.pid, locked=False)
        candidates = Candidates(memo, everything=False, node=1)
        candidates.look(0.0, [], 10000, NONE, [Use(reader.pid, 3, 5 << 20, 0, 80)])
        reader.stdin.write(f"{30 << 20}\n")
        reader.stdin.flush()
        reader.stdout.readline()
        uses = [Use(reader.pid, 3, 15 << 20, 10 << 20, 400), Use(1, 2, 1 << 40, 0, 1)]
        [process] = candidates.look(2.0, [], 10000, NONE, uses)
        assert process.io[3] == 10 << 20  # per second
        assert 5 << 20 <= process.io[1] < 6 << 20
        assert set(process.io) == {1, 3}
        [process] = candidates.look(400.0, [], 10000, NONE, uses)
        assert process.io == {}  # long ago
        reader.communicate("0\n")


def test_what_was_said_of_processes_is_told_while_they_live(short: Path, family: tuple[int, int]) -> None:
    parent, child = family
    memo = Memo(short)
    assert memo.locks() == {}
    memo.lock(parent, locked=True)
    memo.lock(child, locked=False)
    assert memo.locks() == {parent: True, child: False}
    with subprocess.Popen(["true"]) as ended:
        memo.lock(ended.pid, locked=True)
    assert memo.locks() == {parent: True, child: False}


def test_a_full_disk_leaves_nothing_half_written(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memo = Memo(short)
    memo.lock(os.getpid(), locked=False)

    def full(*_paths: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("omtools.agent.memo.os.replace", full)
        memo.lock(os.getpid(), locked=True)
    assert memo.locked(os.getpid())  # the agent itself knows
    assert [path.name for path in short.iterdir()] == ["memo.json"]
    assert not Memo(short).locked(os.getpid())
