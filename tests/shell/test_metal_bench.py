"""What the workshop reads of a lab of machines; the machines themselves are played by the lessons about them."""

from __future__ import annotations

import json
from pathlib import Path
from types import MappingProxyType

from omtools.shell.cluster import place
from omtools.shell.facts import Machine
from omtools.shell.metal_bench import EventLog


def event(at: float, node: str, name: str, **more: str | float) -> str:
    return json.dumps({"at": at, "node": node, "event": name, **more}) + "\n"


def test_events_are_read_as_the_file_grows(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    assert log.read() == ()
    path.write_text(event(100.0, "mCii", "power-on") + event(102.5, "mCii", "booted"))
    assert [(one.event, one.seconds) for one in log.read()] == [("power-on", 0.0), ("booted", 2.5)]
    log.clear()
    assert log.read() == ()
    with path.open("a") as file:
        file.write(event(110.0, "metrakilate", "power-on") + event(111.0, "mCii", "ssh-login", user="root")[:-5])
    assert [one.node for one in log.read()] == ["metrakilate"]
    with path.open("a") as file:
        file.write(event(111.0, "mCii", "ssh-login", user="root")[-5:])
        file.write(event(114.0, "metrakilate", "http-sent", path="/vmlinuz", seconds=1))
    *_others, login, sent = log.read()
    assert (login.seconds, login.more) == (11.0, {"user": "root"})
    assert (sent.seconds, sent.more) == (4.0, {"path": "/vmlinuz", "seconds": 1.0})


def test_machines_in_words() -> None:
    assert Machine("m", "off").state == "off"
    assert Machine("m", "on", "out", True).state == "booted, cable out"
    assert Machine("m", "on", agent=True).state == "agent"


class Switched:
    """A cluster in which `power` belongs to another node than the shell's."""

    nodes = MappingProxyType({"mCii": "10.77.0.1", "metrakilate": "10.77.0.2", "here": "127.0.0.1"})
    elsewhere = MappingProxyType({"power": "here"})


def test_where_a_line_is_run() -> None:
    for line, node, command in (
        ("ls -l", "mCii", "ls -l"),
        ("on metrakilate", "metrakilate", ""),
        ("on METRAKILATE ls", "metrakilate", "ls"),
        ("metrakilate ls -l", "metrakilate", "ls -l"),
        ("power on metrakilate", "here", "power on metrakilate"),
        ("on mCii power", "mCii", "power"),
        ("on nowhere", "mCii", "on nowhere"),
    ):
        assert place(line, Switched(), "mCii") == (node, command)  # type: ignore[arg-type] # only what it looks at
