from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab.labs import CHECKOUT, Omlab, an_ordinary_user_s, until
from omtools.lab import demo


def run_demo(omlab: Omlab) -> subprocess.Popen[str]:
    environment = {name: value for name, value in omlab.environment.items() if name != "OMLAB_AGENT"}
    argv = omlab.argv(program=[sys.executable, "-m", "omtools.lab.demo"])
    return subprocess.Popen(
        argv, env=environment, text=True, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.alone
@an_ordinary_user_s  # what needs no root at all is the harder case
def test_the_demo_moves_three_programs_and_nothing_differs(omlab: Omlab) -> None:
    with run_demo(omlab) as process:
        out, err = process.communicate(timeout=110)
    assert process.returncode == 0, (out, err)
    assert err == ""
    for name in ("xz", "sort", "pi"):
        row = next(line for line in out.splitlines() if line.startswith(f"│ {name} "))
        assert row.split("│")[-2].strip() == "yes"


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_takes_its_lab_down(omlab: Omlab, signum: signal.Signals) -> None:
    with run_demo(omlab) as process:
        assert process.stdout is not None
        while "undisturbed" not in process.stdout.readline():
            pass
        process.send_signal(signum)
        process.communicate(timeout=30)
    assert process.returncode == 130
    assert not omlab.directory.exists()
    until(lambda: not omlab.processes(), "all of it ends")


def test_the_input_is_the_same_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "TAR_BYTES", 1 << 16)
    monkeypatch.setattr(demo, "MILLIONS_OF_LINES", 1)
    for name in ("one", "two"):
        demo.prepare(tmp_path / name)
    assert sorted(os.listdir(tmp_path / "one")) == ["lines", "pi.py", "stdlib.tar"]
    for name in os.listdir(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert (tmp_path / "one" / "lines").read_text().count("\n") == 1_000_000
    argv = [sys.executable, str(tmp_path / "one" / "pi.py"), "2"]
    printed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.replace("\n", "")
    assert printed.startswith("31415926535897932384626433832795028841971693993751058209749445923078164")
