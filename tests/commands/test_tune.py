from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given, strategies as st
from lab.labs import Omlab, labs_of

from omtools.commands._tune_probe import Probe
from omtools.commands.tune import Measured, fit, request
from omtools.errors import CannotMeasure

from .conftest import Nodes


@given(st.floats(0.0, 1.0), st.floats(1e6, 1e10))
def test_a_clean_measurement_is_found_again(fixed: float, speed: float) -> None:
    def moves(size: int) -> list[tuple[int, float]]:
        return [(size, fixed + size / speed)] * 2 + [(size, 9.0)]  # and one slow move

    found_fixed, found_speed = fit(moves(10_000_000), moves(7_000_000_000))
    assert found_fixed == pytest.approx(fixed, abs=1e-6)
    assert found_speed == pytest.approx(speed, rel=1e-6)


def test_what_cannot_be_told_apart() -> None:
    for large in ([(64, 0.5)], [(1000, 0.1)]):
        with pytest.raises(CannotMeasure):
            fit([(64, 0.5)], large)


def test_what_the_agent_is_told() -> None:
    told = request({2: Measured(0.5, 100e6, 0.25), 3: Measured(0.25, 300e6, 0.75)})
    assert (told.fixed_s, told.call_s, told.bytes_per_s) == (0.375, 0.5, 200e6)
    assert told.links == {2: 100e6, 3: 300e6}


def test_the_probe() -> None:
    with Probe() as probe:
        probe.fill(1 << 20)
        assert 0 < probe.call_seconds() < 1
        os.kill(probe.pid, 9)
        with pytest.raises(CannotMeasure):
            probe.fill(1)


@pytest.fixture
def lab() -> Iterator[Omlab]:
    for made in labs_of("root" if os.geteuid() == 0 else "self"):
        del made.environment["OMLAB_AGENT"]
        yield made


def test_real_moves_between_real_agents(lab: Omlab) -> None:
    lab.ok("up")
    python = ("exec", "mCii", "--", sys.executable, "-m")
    (found,) = json.loads(
        lab.ok(*python, "omtools.commands.tune", "--rounds", "3", "--size", "96", "--json")
    ).values()
    told = json.loads(lab.ok(*python, "omtools.commands.mosctl", "gettune", "--json"))
    assert told["fixed_s"] == pytest.approx(found["fixed_s"])
    assert told["call_s"] == pytest.approx(found["call_s"])
    assert told["links"]["2"] == pytest.approx(found["bytes_per_s"], rel=0.01)


def test_nothing_to_measure(nodes: Nodes) -> None:
    done = nodes.run("tune", "2", "--rounds", "1", "--size", "4")  # these keepers move nothing: all moves are alike
    assert done.returncode == CannotMeasure.exit_status
    assert "Moving to metrakilate could not be measured" in done.stderr
    nodes.stop(2)
    gone = nodes.run("tune", "2", "--dry-run")
    assert gone.returncode == CannotMeasure.exit_status
    assert nodes.run("tune", "nobody").returncode == 20
    assert json.loads(nodes.run("mps", "--json").stdout) == []
