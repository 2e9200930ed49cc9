"""Fork and forget, in a real lab: processes leave a node that has too many, by themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lab.labs import Omlab, an_ordinary_user_s

# As many workers as make a node of this machine work hard, and long enough to be worth a move.
FORKS = r"""
import os, sys
pids = []
for number in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        x = 1
        for turn in range(int(sys.argv[2])):
            x = (x * 6364136223846793005 + 1442695040888963407 + turn) % (1 << 64)
        os.write(1, f"{number} {x:x}\n".encode())
        os._exit(number % 7)
    pids.append(pid)
codes = sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids)
os.write(1, f"{codes}\n".encode())
"""
TURNS = 6_000_000


def command(name: str) -> list[str]:
    return [sys.executable, "-m", f"omtools.commands.{name}"]


@pytest.fixture
def cluster(omlab: Omlab) -> Iterator[Omlab]:
    """A lab with real agents."""
    del omlab.environment["OMLAB_AGENT"]
    omlab.ok("up")
    yield omlab
    omlab.ok("down")


def forked(lab: Omlab, *options: str) -> str:
    workers = str(3 * (os.cpu_count() or 1))
    mosrun = [*command("mosrun"), *options]
    program = [sys.executable, "-c", FORKS, workers, str(TURNS)]
    out = lab.ok("exec", "mCii", "--", *mosrun, *program)
    return "\n".join(sorted(out.splitlines()))


@pytest.mark.alone
@an_ordinary_user_s  # root's lab balances in lesson 9 of the workshop
def test_forked_workers_spread_and_nobody_can_tell(cluster: Omlab) -> None:
    events = cluster.popen("exec", "mCii", "--", *command("mosctl"), "events", stdout=subprocess.PIPE)
    try:
        spread = forked(cluster, "-l")
        locked = forked(cluster, "-L")
        assert spread == locked
        cluster.ok("exec", "mCii", "--", *command("mosctl"), "stay")
        stayed = forked(cluster, "-l")
        assert stayed == locked
    finally:
        events.terminate()
        assert events.stdout is not None
        told = [json.loads(line) for line in events.stdout.read().splitlines()]
        events.stdout.close()
        events.wait(20)
    decided = [event for event in told if event["type"] == "decided"]
    moves = [event for event in decided if event["what"] == "move"]
    assert moves
    assert all(event["target"] == 2 and event["figures"]["stay_s"] > event["figures"]["go_s"] for event in moves)
    arrived = {event["process"]["pid"] for event in told
               if event["type"] == "process_changed" and event["process"]["where"] == 2}  # fmt: skip
    assert arrived <= {event["pid"] for event in moves}
    assert arrived
    switched = next(index for index, event in enumerate(told) if event["type"] == "switch_changed")
    assert not any(event["type"] == "decided" and event["what"] == "move" for event in told[switched:])
