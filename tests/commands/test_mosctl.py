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


@pytest.mark.parametrize("which", [["--on", "metrakilate"], ["--all"]])
def test_events_of_another_node_until_it_is_lost(nodes: Nodes, which: list[str]) -> None:
    with nodes.begin("mosctl", "events", *which) as events:
        assert events.stdout is not None
        assert events.stderr is not None
        assert json.loads(events.stdout.readline()) == {"type": "followed", "node": 2, "on": True, "error": {}}
        nodes.run("mosctl", "block", node=1)
        nodes.run("mosctl", "block", node=2)
        told = [json.loads(events.stdout.readline()) for _line in (["own"] if "--all" in which else []) + ["other"]]
        assert told[-1] == {"type": "elsewhere", "node": 2,
                            "event": {"type": "switch_changed", "node": 2, "status": 19}}  # fmt: skip
        nodes.stop(2)
        lost = json.loads(events.stdout.readline())
        assert (lost["type"], lost["on"], lost["error"]["error"]) == ("followed", False, "NodeDown")
        if "--all" in which:
            assert told[0] == {"type": "switch_changed", "node": 1, "status": 19}
            nodes.start(2)
            assert json.loads(events.stdout.readline())["on"]
        else:
            assert events.wait(30) == 21
            assert events.stderr.read().startswith("mosctl: Node metrakilate ")


def test_events_of_a_node_that_there_is_not(nodes: Nodes) -> None:
    assert nodes.run("mosctl", "events", "--on", "nobody").returncode == 20
    assert nodes.run("mosctl", "events", "--on", "2", "--all").returncode == 2


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


@pytest.mark.parametrize(("verb", "word"), [("stay", "STAY"), ("lstay", "LSTAY"), ("quiet", "QUIET")])
def test_switches_that_show_in_the_status(nodes: Nodes, verb: str, word: str) -> None:
    assert nodes.run("mosctl", verb).returncode == 0
    assert word in nodes.run("mosctl", "status").stdout.split("Status:")[1]
    assert json.loads(nodes.run("mosctl", f"no{verb}", "--json").stdout) == {verb: False}
    assert "Status: 3 (CONF UP)" in nodes.run("mosctl", "status").stdout


def test_setspeed(nodes: Nodes) -> None:
    assert nodes.run("mosctl", "setspeed", "12000").stdout == "This node's speed is 12000 from now on.\n"
    assert nodes.run("mosctl", "getspeed").stdout == "12000\n"
    assert nodes.run("mosctl", "setspeed", "0").returncode == 0
    assert nodes.run("mosctl", "getspeed").stdout == "10000\n"
    for wrong in ("fast", "-1", "10000001"):
        assert nodes.run("mosctl", "setspeed", wrong).returncode == 2


def test_expel_and_bring(nodes: Nodes, sleeper: int) -> None:
    assert nodes.run("migrate", str(sleeper), "2").returncode == 0
    done = nodes.run("mosctl", "expel", node=2)
    assert done.stdout == "All remote processes were expelled and no further remote processes accepted.\n"
    assert json.loads(nodes.run("mps", "--json").stdout) is not None
    refused = nodes.run("migrate", str(sleeper), "2")
    assert refused.returncode == 22
    assert nodes.run("mosctl", "noblock", node=2).returncode == 0
    assert nodes.run("migrate", str(sleeper), "2").returncode == 0
    assert json.loads(nodes.run("mosctl", "bring", "--json").stdout) == {"moved": 1, "failures": []}
    assert "LSTAY" in nodes.run("mosctl", "status").stdout
    assert json.loads(nodes.run("mosctl", "bring", "--json").stdout) == {"moved": 0, "failures": []}
