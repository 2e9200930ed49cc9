from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from .conftest import Nodes


def test_there_and_back(nodes: Nodes, sleeper: int) -> None:
    done = nodes.run("migrate", str(sleeper), "metrakilate")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(
        f"Process {sleeper} moved from mCii to metrakilate: 10.0 MB, frozen 12 ms, "
        r"\d+ ms in all, 800 MB/s.\n",
        done.stdout,
    )
    done = nodes.run("migrate", str(sleeper), "home", "--json")
    told = json.loads(done.stdout)
    assert told.pop("total_ms") > 0
    assert told == {
        "type": "moved",
        "pid": sleeper,
        "from": 2,
        "to": 1,
        "bytes": 10_000_000,
        "frozen_ms": 12.5,
        "mb_per_s": 800.0,
    }


@pytest.mark.parametrize(("arguments", "status", "words"), [
    (["1", "2"], 18, "init of this machine"),
    (["4194304", "2"], 10, "There is no process 4194304"),
    (["2", "2"], 12, "kernel thread"),
    (["SLEEPER", "9"], 20, "There is no node 9 in this cluster"),
    (["SLEEPER", "home"], 17, "is at home already"),
    (["SLEEPER", "mCii"], 17, "is at home already"),
    (["SLEEPER", "0"], 17, "is at home already"),
    (["SLEEPER", ""], 2, "Where to?"),
    (["x", "2"], 2, "“x” is no process number"),
    (["0", "2"], 2, "“0” is no process number"),
    (["-5", "2"], 2, "“-5” is no process number"),
    (["SLEEPER"], 2, "--help"),
    ([], 2, "--help"),
    (["SLEEPER", "2", "--fast"], 2, "--help"),
])  # fmt: skip
def test_errors_are_one_sentence_and_a_status(
    nodes: Nodes, sleeper: int, arguments: list[str], status: int, words: str
) -> None:
    done = nodes.run("migrate", *(word.replace("SLEEPER", str(sleeper)) for word in arguments))
    assert done.returncode == status
    assert done.stdout == ""
    assert done.stderr.startswith("migrate: ")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_zombie_and_traced(nodes: Nodes) -> None:
    zombie = subprocess.Popen([sys.executable, "-c", "print('gone')"], stdout=subprocess.PIPE)
    assert zombie.stdout is not None
    zombie.stdout.read()
    zombie.stdout.close()
    done = nodes.run("migrate", str(zombie.pid), "2")
    assert done.returncode in {10, 11, 34}  # it may still be on its way out
    zombie.wait()


def test_the_other_node_is_down(nodes: Nodes, sleeper: int) -> None:
    assert nodes.stop(2) == 0
    done = nodes.run("migrate", str(sleeper), "2")
    assert done.returncode == 21
    assert "metrakilate does not answer" in done.stderr


def test_no_agent(nodes: Nodes, sleeper: int) -> None:
    nodes.stop(1)
    done = nodes.run("migrate", str(sleeper), "2")
    assert done.returncode == 30
    assert "`openmosix start`" in done.stderr


def test_debug_shows_the_traceback(nodes: Nodes) -> None:
    assert "Traceback" in nodes.run("migrate", "4194304", "2", "--debug").stderr


def test_help(nodes: Nodes) -> None:
    done = nodes.run("migrate", "--help")
    assert done.returncode == 0
    assert "NODE|home" in done.stdout
