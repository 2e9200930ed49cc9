from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from omtools.agent import api
from omtools.commands import _cluster, showmap
from omtools.errors import BadMap

NODES = api.NodeList(
    99,
    [api.MapRange(99, "10.0.0.99", 1), api.MapRange(2780, "192.168.10.220", 4)],
    [api.NodeName(99, "mCii", "10.0.0.99", ["192.168.1.9"])],
)


def test_it_looks_as_it_did() -> None:
    assert showmap.table(NODES) == [
        "My Node-Id: 0x0063",
        "",
        "Base Node-Id Address          Count",
        "-----------------------------------",
        "0x0063       10.0.0.99        1",
        "0x0adc       192.168.10.220   4",
        "0x0063       192.168.1.9      ALIAS",
    ]


def test_without_an_agent_the_file_is_shown(
    tmp_path: Path, short: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENMOSIX_CONFIG", str(tmp_path))
    monkeypatch.setenv("OPENMOSIX_RUN", str(short))
    assert showmap.main([]) == 35
    (tmp_path / "openmosix.map").write_text("5 10.255.255.5 2\n")
    assert showmap.main([]) == 0
    assert capsys.readouterr().out.splitlines()[::4] == ["My Node-Id: 0x0000", "0x0005       10.255.255.5     2"]
    (tmp_path / "openmosix.config").write_text("MYOMID=6\n")
    assert showmap.main(["--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["own"] == 6
    assert [node["number"] for node in told["nodes"]] == [5, 6]
    (tmp_path / "openmosix.map").write_text("5 10.255.255.5 2 3\n")
    assert showmap.main([]) == BadMap.exit_status
    assert f"{tmp_path}{os.sep}openmosix.map, line 1" in capsys.readouterr().err


def test_whose_map_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, system = tmp_path / "own", tmp_path / "system"
    own.mkdir()
    system.mkdir()
    monkeypatch.delenv("OPENMOSIX_CONFIG", raising=False)
    monkeypatch.setattr(_cluster, "config_dir", lambda: own)
    monkeypatch.setattr(_cluster, "SYSTEM_CONFIG", system)
    assert _cluster._directory() == own  # where one would have to be written
    (system / "openmosix.map").write_text("1 10.255.255.5 2\n")
    assert _cluster._directory() == system
    (own / "cluster.json").write_text("{}")
    assert _cluster._directory() == own
