"""The lab with the real agents: how long it takes, and that they see each other."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from lab.labs import Omlab
from omtools.lab.state import Being

MODULE = (sys.executable, "-m")


@pytest.fixture
def real(omlab: Omlab) -> Omlab:
    del omlab.environment["OMLAB_AGENT"]
    return omlab


@pytest.mark.alone
def test_up_takes_less_than_three_seconds(real: Omlab) -> None:
    begun = time.monotonic()
    real.ok("up")
    assert time.monotonic() - begun < 3
    begun = time.monotonic()
    real.ok("down")
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize("how", [[], ["--plain"]])
def test_agents_see_each_other(real: Omlab, how: list[str]) -> None:
    real.ok("up", *how)
    for node, other in (("mCii", "metrakilate"), ("metrakilate", "mCii")):
        assert real.ok("exec", node, "--", *MODULE, "omtools.commands.mosctl", "isup", other) == "yes\n"


def test_omcheck_on_a_node(real: Omlab) -> None:
    real.ok("up")
    found = json.loads(real.ok("exec", "mCii", "--", *MODULE, "omtools.commands.omcheck", "--json"))
    present = {one["name"]: one["present"] for one in found["checks"]}
    assert found["works"]
    assert present["agent"]
    assert present["map"]
    assert present["ptrace_any"]


def test_the_environment_reaches_the_agent_from_outside(real: Omlab) -> None:
    real.ok("up")
    exports = real.ok("env", "2")
    script = f"{exports}\nexec {sys.executable} -m omtools.commands.mosctl status"
    argv = real.argv(program=["sh", "-c", script])
    done = subprocess.run(argv, env=real.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "node #2" in done.stdout


def agents(omlab: Omlab) -> list[int]:
    return [node["agent_pid"] for node in omlab.status()["nodes"] if node["agent"]]


def test_a_killed_agent_is_restarted_and_seen(real: Omlab) -> None:
    real.ok("up")
    before = agents(real)
    assert Being.of(before[0]).kill()
    assert real("status").returncode == 1
    real.ok("up")
    after = agents(real)
    assert len(after) == 2
    assert after[1] == before[1]
    assert real.ok("exec", "2", "--", *MODULE, "omtools.commands.mosctl", "isup", "1") == "yes\n"


def test_an_agent_that_somebody_restarted_by_hand_counts(real: Omlab) -> None:
    real.ok("up")
    before = agents(real)
    assert Being.of(before[0]).kill()
    real.ok("exec", "1", "--", *MODULE, "omtools.commands.omagentd", "--daemon", "--log", "/dev/null")
    assert real("status").returncode == 0
    by_hand = agents(real)
    assert by_hand[0] != before[0]
    real.ok("up")
    assert agents(real) == by_hand


def test_two_ups_at_the_same_time_make_one_lab(real: Omlab) -> None:
    pipe = subprocess.PIPE
    both = [real.popen("up", "--json", stdout=pipe, stderr=pipe) for _ in range(2)]
    printed = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    assert json.loads(printed[0][0]) == json.loads(printed[1][0])
