"""Our units under a real systemd, the first program of an emulated machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from .systemd_machine import Step, boot

pytestmark = [pytest.mark.machines, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def steps(built: Path) -> dict[str, Step]:
    return boot(built)


def properties(step: Step) -> dict[str, str]:
    return dict(line.split("=", 1) for line in step.said.splitlines())


def test_a_node_without_a_configuration_has_no_agent(steps: dict[str, Step]) -> None:
    assert steps["without-map"].status == 0
    found = properties(steps["without-map-is"])
    assert (found["ActiveState"], found["ConditionResult"]) == ("inactive", "no")


def test_a_bad_map_is_said_once_and_not_tried_again(steps: dict[str, Step]) -> None:
    assert steps["bad-map"].status != 0
    found = properties(steps["bad-map-is"])
    assert (found["ActiveState"], found["Result"], found["ExecMainStatus"]) == ("failed", "exit-code", "33")
    assert found["NRestarts"] == "0"
    journal = steps["bad-map-journal"].said
    assert journal.count("omagentd: /etc/openmosix/openmosix.map, line 1:") == 1
    assert "Traceback" not in steps["journal"].said


def test_it_is_started_when_it_serves(steps: dict[str, Step]) -> None:
    assert (steps["start"].status, steps["user-start"].status) == (0, 0), steps["journal"].said
    found = properties(steps["started"])
    assert (found["ActiveState"], found["SubState"]) == ("active", "running")
    # The next step is a migration, from root's agent to that of a user: both took part at once.
    assert steps["away"].status == 0, steps["away"].said
    assert "moved from mCii to metrakilate" in steps["away"].said


def test_reload_is_the_same_process(steps: dict[str, Step]) -> None:
    assert steps["reload"].status == 0, steps["journal"].said
    before, after = properties(steps["started"]), properties(steps["reloaded"])
    assert after["MainPID"] == before["MainPID"]
    assert after["ActiveState"] == "active"


def test_an_agent_that_was_killed_comes_back_and_finds_what_is_away(steps: dict[str, Step]) -> None:
    before, after = properties(steps["reloaded"]), properties(steps["killed"])
    assert (after["ActiveState"], after["NRestarts"]) == ("active", "1")
    assert after["MainPID"] != before["MainPID"]
    status = steps["status"]
    assert status.status == 0
    assert "Active: active (running)" in status.said
    assert "found a keeper again phase=away role=deputy" in status.said


def test_stop_brings_all_home_and_leaves_nothing(steps: dict[str, Step]) -> None:
    assert steps["stop"].status == 0, steps["journal"].said
    found = properties(steps["stopped"])
    assert (found["ActiveState"], found["Result"]) == ("inactive", "success")
    written = [int(line) for line in steps["output"].said.split()]
    assert written == list(range(1, len(written) + 1))  # it ran on, and lost nothing
    roots = [line for line in steps["processes"].said.splitlines() if line.startswith("root ")]
    assert not [line for line in roots if "omtools" in line or "omagentd" in line]
    assert not [line for line in steps["mounts"].said.splitlines() if line.split()[1] in ("/hpc", "/omfs")]
    assert not [name for name in steps["run"].said.split() if name.endswith(".sock")]
