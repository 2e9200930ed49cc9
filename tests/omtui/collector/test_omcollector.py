"""omcollector as a program, on the agent of a made-up cluster."""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from terminals import PATIENCE, ROOT, environment, program, simulated_agent

from omtools.errors import NoRecording
from omtui.collector import main
from omtui.recording.places import recorded_by
from omtui.recording.reader import Recording

OMCOLLECTOR = [sys.executable, "-m", "omtui.collector.main"]


@pytest.fixture
def run(run: Path) -> Iterator[Path]:
    """The same, without a collector that a failed test has left."""
    yield run
    pid = recorded_by(run / "recording.sqlite")
    if pid:
        os.kill(pid, signal.SIGKILL)


def omcollector(run: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    return program("omtui.collector.main", run, *words, **more)


def pictures(run: Path) -> int:
    try:
        recording = Recording(run / "recording.sqlite")
    except NoRecording:
        return 0
    with contextlib.closing(recording):
        return sum(1 for _frame in recording.frames(0, 1 << 60))


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_daemon_records_and_is_told_to_end(run: Path) -> None:
    with simulated_agent(run, "--nodes", "3"):
        assert omcollector(run, "-d").returncode == 0
        until(lambda: pictures(run) >= 2)
        again = omcollector(run, "-d")
        assert again.returncode == 123
        assert "records in" in again.stderr
        assert omcollector(run, "-n", "after lunch").returncode == 0
        said = omcollector(run).stdout
        assert "seen from mCii" in said
        assert said.splitlines()[-1].endswith("after lunch")
        assert "graba en" in omcollector(run, LANGUAGE="es").stdout
        copied = omcollector(run, "--save", str(run / "copy"))
        assert str(run / "copy") in copied.stdout
        assert json.loads(omcollector(run, "--json", "--file", str(run / "copy")).stdout)["node"] == "mCii"
        busy = omcollector(run, "-r")
        assert busy.returncode == 123
        pid = recorded_by(run / "recording.sqlite")
        assert omcollector(run, "-k").returncode == 0
        assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text()
    ended = omcollector(run, "-k")
    assert (ended.returncode, ended.stdout.split()[0]) == (1, "Nobody")
    assert "put aside" in omcollector(run, "-r").stdout
    assert omcollector(run).returncode == 120
    assert len(list(run.glob("recording-*.sqlite"))) == 1


def test_it_lives_through_a_lost_agent_and_a_kill(run: Path) -> None:
    with simulated_agent(run, "--nodes", "3"):
        pass
    alone = omcollector(run, "-f")
    assert (alone.returncode, alone.stdout) == (30, "")
    assert "No omagentd answers" in alone.stderr
    with open(run / "log", "wb") as log, simulated_agent(run, "--nodes", "3"):
        collector = subprocess.Popen([*OMCOLLECTOR, "-f"], env=environment(run), stderr=log)
        until(lambda: pictures(run) >= 1)
    try:
        until(lambda: b"No omagentd answers" in (run / "log").read_bytes())
        seen = pictures(run)
        with simulated_agent(run, "--nodes", "3"):
            until(lambda: pictures(run) > seen)
            assert (run / "log").read_bytes().count(b"WARNING") == 1  # said once, not every second
            collector.kill()
            collector.wait()
            seen = pictures(run)
            collector = subprocess.Popen([*OMCOLLECTOR, "-f"], env=environment(run))
            until(lambda: pictures(run) > seen)
            collector.send_signal(signal.SIGINT)
            assert collector.wait(PATIENCE) == 0
    finally:
        collector.kill()
        collector.wait()


@pytest.mark.parametrize("kind", ["system", "user"])
def test_units(kind: str) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(ROOT / "systemd" / kind / "omcollector.service")
    command = unit["Service"]["ExecStart"].split()
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert command[0] in scripts
    assert main._options().parse_args(command[1:]).foreground
    assert unit["Unit"]["After"] == unit["Install"]["WantedBy"] == "openmosix.service"


def test_what_cannot_be(run: Path) -> None:
    assert omcollector(run).returncode == 120
    assert omcollector(run, "-n", "x").returncode == 120
    assert omcollector(run, "--save", str(run / "copy")).returncode == 120
    assert not (run / "copy").exists()
    (run / "recording.sqlite").write_text("not at all " * 1000)
    with simulated_agent(run, "--nodes", "2"):
        for words in (["-d"], ["-f"], ["-n", "x"], []):
            done = omcollector(run, *words)
            assert (done.returncode, done.stderr.count("\n")) == (121, 1)
    assert omcollector(run, "--keep", "0").returncode == 2
    assert omcollector(run, "-d", "-f").returncode == 2
