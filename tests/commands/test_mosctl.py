from __future__ import annotations

import json

import pytest

from .conftest import Nodes


def test_status_begins_as_it_always_did(nodes: Nodes) -> None:
    done = nodes.run("mosctl", "status", node=2)
    lines = done.stdout.splitlines()
    assert lines[:5] == [
        "This is openMosix node #2",
        "Network protocol: 2 (AF_INET)",
        f"openMosix range     1-1     begins at {nodes.cluster.addresses[1]}",
        f"openMosix range     2-2     begins at {nodes.cluster.addresses[2]}",
        "Total configured: 2",
    ]
    assert lines[5] == "Status: 3 (CONF UP)"


def test_status_of_another_and_as_json(nodes: Nodes) -> None:
    assert nodes.run("mosctl", "status", "2").stdout.startswith("openMosix node #2 is metrakilate at 127.")
    told = json.loads(nodes.run("mosctl", "status", "--json").stdout)
    assert told["report"]["number"] == 1
    assert told["words"] == ["CONF", "UP"]
    assert told["configured"] == 2


def test_whois(nodes: Nodes) -> None:
    own = nodes.run("mosctl", "whois")
    assert own.stdout == f"openMosix #1 is mCii at {nodes.cluster.addresses[1]}\n"
    assert json.loads(nodes.run("mosctl", "whois", "metrakilate", "--json").stdout)["number"] == 2
    assert nodes.run("mosctl", "whois", "nobody").returncode == 20


def test_isup(nodes: Nodes) -> None:
    up = nodes.run("mosctl", "isup", "2")
    assert (up.returncode, up.stdout) == (0, "yes\n")
    nodes.stop(2)
    down = nodes.run("mosctl", "isup", "2")
    assert (down.returncode, down.stdout) == (1, "no\n")
    assert json.loads(nodes.run("mosctl", "isup", "2", "--json").stdout) == {"node": 2, "up": False}
    assert nodes.run("mosctl", "getload", "2").returncode == 21
    assert "Down: " in nodes.run("mosctl", "status", "2").stdout


@pytest.mark.parametrize("verb", ["getload", "getspeed", "getmem", "getfree", "getutil"])
def test_figures(nodes: Nodes, verb: str) -> None:
    for node in ("", "2"):
        done = nodes.run("mosctl", verb, *([node] if node else []))
        assert done.returncode == 0
        assert int(done.stdout) >= 0
    assert json.loads(nodes.run("mosctl", verb, "--json").stdout)["node"] == 1


def test_block_and_noblock(nodes: Nodes, sleeper: int) -> None:
    assert nodes.run("mosctl", "block", node=2).stdout == "Guests are refused from now on.\n"
    assert "BLOCK" in nodes.run("mosctl", "status", "2").stdout
    done = nodes.run("migrate", str(sleeper), "2")
    assert done.returncode == 22
    assert "noblock" in done.stderr
    nodes.run("mosctl", "noblock", node=2)
    assert nodes.run("migrate", str(sleeper), "2").returncode == 0


@pytest.mark.parametrize("arguments", [[], ["dance"], ["block", "2"], ["getload", "1", "2"], ["--fast"]])
def test_usage(nodes: Nodes, arguments: list[str]) -> None:
    done = nodes.run("mosctl", *arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
