"""omnetboot: nothing is done before it is shown and agreed to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from lab.labs import CHECKOUT


def omnetboot(tmp_path: Path, *words: str, cluster: bool = False) -> subprocess.CompletedProcess[str]:
    config = tmp_path / "etc"
    config.mkdir(mode=0o700, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OPENMOSIX_CONFIG": str(config)}
    tool = [sys.executable, "-m"]
    if cluster:
        made = [*tool, "omtools.commands.omkey", "create", "--number", "1", "house"]
        subprocess.run(made, env=environment, check=True, capture_output=True)
    argv = [*tool, "omtools.commands.omnetboot", *words, "--directory", str(tmp_path / "netboot")]
    return subprocess.run(
        argv, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=60
    )


@pytest.mark.parametrize("words", [("plan", "-i", "lo"), ("run", "--dry-run", "-i", "lo")])
def test_a_plan_shows_all_and_does_nothing(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = omnetboot(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    for word in ("Interface lo, 127.0.0.1/8", "proxy", "dhcp-ignore=tag:!approved", "#!ipxe", "router"):
        assert word in done.stdout
    assert not (tmp_path / "netboot").exists()


def test_nothing_is_done_unasked(tmp_path: Path) -> None:
    done = omnetboot(tmp_path, "run", "-i", "lo", cluster=True)
    assert done.returncode == 2
    assert "Interface lo" in done.stdout
    assert "--yes" in done.stderr
    assert not (tmp_path / "netboot").exists()


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("run",), 2, "--interface"),
        (("plan", "-i", "none7"), 118, "none7: No such device"),
        (("run", "-i", "lo"), 69, "omkey create"),
        (("approve", "52:54:00:00:00:01"), 69, "omkey create"),
        (("refuse", "52:54:00:00:00:01"), 119, "omnetboot list"),
        (("approve", "nonsense"), 69, "omkey create"),
    ],
)
def test_one_sentence_each(tmp_path: Path, words: tuple[str, ...], status: int, says: str) -> None:
    done = omnetboot(tmp_path, *words)
    assert (done.returncode, says in done.stderr, done.stderr.count("\n")) == (status, True, 1), done.stderr


def test_approve_makes_keys_that_the_cluster_has_signed(tmp_path: Path) -> None:
    done = omnetboot(tmp_path, "approve", "52:54:00:00:00:01", cluster=True)
    assert (done.returncode, "as node 2, node2" in done.stdout) == (0, True), done.stderr
    (path,) = (tmp_path / "netboot" / "nodes").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    data = path.read_bytes()
    for name in (b"id_ed25519-cert.pub", b"cluster_key.pub", b"AUTODISC=yes"):
        assert name in data
    before = data
    assert omnetboot(tmp_path, "approve", "52:54:00:00:00:01").returncode == 0
    assert path.read_bytes() == before
    assert "approved" in omnetboot(tmp_path, "list").stdout
    assert omnetboot(tmp_path, "forget", "node2").returncode == 0
    assert "No machine" in omnetboot(tmp_path, "list").stdout
