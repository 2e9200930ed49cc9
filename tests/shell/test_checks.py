from __future__ import annotations

import shlex

import pytest

from omtools.cluster.load import BLOCK, CONFIGURED, STAY, UP
from omtools.shell.checks import KINDS, evaluate, evaluate_all
from omtools.shell.facts import Decision, Facts, Machine, Move, NodeFacts, Process, Ran, WireEvent
from omtools.shell.lesson import CheckSpec
from omtools.shell.registry import Finding, Kind

UP_STATUS = CONFIGURED | UP
NODES = {
    "mCii": NodeFacts("mCii", 1, UP_STATUS | STAY, speed=12_000, reaches=frozenset({"metrakilate"})),
    "metrakilate": NodeFacts("metrakilate", 2, UP_STATUS | BLOCK, misses=frozenset({"mCii"})),
    "ixchel": NodeFacts("ixchel", 3),
}
AWAY = Process(7, "python3 omcount.py", "mCii", "metrakilate", 10_000_000, 37.0, 120)
AT_HOME = Process(8, "sort big", "mCii", "mCii")
FACTS = Facts(
    nodes=NODES,
    processes=(AWAY, AT_HOME),
    moves=(
        Move("away", 7, "python3 omcount.py", "mCii", "metrakilate", 1000, 30.0, 60.0),
        Move("home", 5, "late.py", "mCii", "mCii", calls=9, reason="it maps a file"),
        Move("ended", 6, "gone.py", "mCii", "metrakilate", calls=3),
    ),
    decisions=(
        Decision("mCii", 7, "python3 omcount.py", "move", "metrakilate", "", {"stay_s": 5.0, "go_s": 3.5, "bytes": 2e6}),
        Decision("mCii", 8, "sort big", "stay", "", "lstay"),
        Decision("mCii", 0, "", "no_room", "", "nobody", {"needed": 64e6, "available": 3e6}),
    ),
    ran=(
        Ran("mCii", "python3 work.py", 0, 1.5, "sum 12, 1.4 s\n"),
        Ran("metrakilate", "migrate 8 ixchel", 21, 4.0, "migrate: Node ixchel does not answer.\n"),
    ),
    answers=("1", " Two "),
    node="mCii",
    machines={"mCii": Machine("mCii", "on", "in", True, True), "metrakilate": Machine("metrakilate", "on", "out")},
    wire=(
        WireEvent("metrakilate", "dhcp-ack", 4.5, {"address": "10.77.0.2"}),
        WireEvent("metrakilate", "http-sent", 6.0, {"path": "/vmlinuz", "seconds": 0.5}),
    ),
    screen=lambda node: "iPXE\nnet0: 52:54:00:77:00:02 using virtio\n\n" if node == "metrakilate" else "",
    read=lambda node, path: {("mCii", "~/seen.txt"): "host mCii pid 7\nhost mCii pid 7\n"}.get((node, path)),
)


def made(line: str) -> Finding:
    name, *words = shlex.split(line)
    return evaluate(CheckSpec(name, dict(word.split("=", 1) for word in words)), FACTS, {"a.x": 6.0, "b.x": 2.0})


@pytest.mark.parametrize(
    "line",
    [
        "process_on node=metrakilate command=omcount",
        "process_on node=metrakilate command=omcount calls=120",
        "process_on node=mCii command=^sort",
        "no_process command=nothing",
        "no_process command=omcount node=mCii",
        "moved command=omcount",
        "moved command=omcount node=metrakilate",
        "migrated_home command=late reason=maps",
        "ended_away command=gone",
        "node_up node=mCii",
        "node_up node=ixchel up=no",
        "node_up node=unheard-of up=no",
        "reaches node=mCii other=metrakilate",
        "reaches node=metrakilate other=mCii reaches=no",
        "switch_set node=metrakilate switch=block",
        "switch_set node=mCii switch=block on=no",
        "switch_set node=mCii switch=stay",
        "speed node=mCii at_least=12000",
        "speed node=mCii at_most=12000",
        "decided node=mCii what=move",
        "decided node=mCii what=move command=omcount target=metrakilate",
        "decided node=mCii what=stay reason=^lstay$",
        "decided node=mCii what=no_room",
        "figure of=a.x at_least=6",
        "machine node=mCii power=on agent=yes booted=yes",
        "machine node=metrakilate cable=out agent=no",
        "happened node=metrakilate event=dhcp-ack",
        "happened node=metrakilate event=http-sent path=vmlinuz",
        "screen node=metrakilate shows='net0: (?P<mac>[0-9a-f:]{17})'",
        "shell_on node=mCii",
        "file_contains node=mCii path=~/seen.txt pattern='pid (?P<pid>.)'",
        "file_lines node=mCii path=~/seen.txt at_least=2",
        "command_ran command=work",
        "command_ran command=work status=0 node=mCii output='sum .*'",
        "command_ran command=^migrate failed=yes status=21",
        "answer is=two|zwei",
        "compare left=a.x right=b.x",
    ],
)
def test_it_is_so(line: str) -> None:
    found = made(line)
    assert found.ok, found
    assert found.expected


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("process_on node=mCii command=omcount", "7 → metrakilate"),
        ("process_on node=metrakilate command=omcount calls=121", "120 calls so far"),
        ("process_on node=metrakilate command=omcount count=2", "7 → metrakilate"),
        ("process_on node=mCii command=nothing", "no such process"),
        ("no_process command=omcount", "7 → metrakilate"),
        ("moved command=sort", "it has not moved"),
        ("moved command=omcount node=ixchel", "it has not moved"),
        ("migrated_home command=late reason=threads", "it is not away"),
        ("migrated_home command=omcount", "7 → metrakilate"),
        ("ended_away command=late", "it is not away"),
        ("node_up node=ixchel", "ixchel is down"),
        ("node_up node=mCii up=no", "mCii is up"),
        ("reaches node=metrakilate other=mCii", "metrakilate does not reach mCii"),
        ("reaches node=mCii other=ixchel", "nothing is known yet"),
        ("reaches node=mCii other=ixchel reaches=no", "nothing is known yet"),
        ("switch_set node=mCii switch=block", "“block” is off at mCii"),
        ("switch_set node=mCii switch=stay on=no", "“stay” is on at mCii"),
        ("speed node=mCii at_least=12001", "12000"),
        ("speed node=mCii at_most=11999", "12000"),
        ("speed node=ixchel", "ixchel is down"),
        ("decided node=metrakilate what=move", "none yet"),
        ("decided node=mCii what=usher command=omcount", "move metrakilate"),
        ("decided node=mCii what=stay reason=^stay$ command=sort", "stay  lstay"),
        ("decided node=mCii what=move target=ixchel command=omcount", "move metrakilate"),
        ("figure of=a.x at_least=7", "6"),
        ("figure of=c.x at_least=7", "c.x is missing"),
        ("machine node=metrakilate cable=in power=on", "metrakilate: cable out, power on"),
        ("machine node=ixchel power=on", "there is no such machine"),
        ("happened node=metrakilate event=booted", "http-sent"),
        ("happened node=mCii event=booted", "nothing has happened yet"),
        ("happened node=metrakilate event=http-sent path=initrd", "http-sent"),
        ("screen node=metrakilate shows=login:", "net0: 52:54:00:77:00:02 using virtio"),
        ("screen node=mCii shows=x", "nothing"),
        ("switch_set node=ixchel switch=block", "ixchel is down"),
        ("shell_on node=ixchel", "your shell is on mCii"),
        ("file_contains node=mCii path=~/none pattern=x", "there is no such file"),
        ("file_contains node=mCii path=~/seen.txt pattern=xyz", "it does not, in 2 lines"),
        ("file_lines node=mCii path=~/none at_least=1", "it has 0"),
        ("command_ran command=nothing", "not yet"),
        ("command_ran command=migrate status=22", "its exit status was 21, not 22"),
        ("command_ran command=migrate node=mCii", "it ran on metrakilate"),
        ("command_ran command=work failed=yes", "it did not fail"),
        ("command_ran command=work output=product", "it printed something else"),
        ("answer is=three", "“ Two ”, and that is not it"),
        ("compare left=a.x right=c.x", "c.x is missing"),
    ],
)
def test_it_is_not_so_and_what_is_said(line: str, seen: str) -> None:
    found = made(line)
    assert not found.ok
    assert found.seen == seen
    assert found.expected


def test_figures() -> None:
    move = made("decided node=mCii what=move").figures
    assert (move["pid"], move["target"], move["stay_s"], move["go_s"], move["mb"]) == ("7", "metrakilate", 5.0, 3.5, 2.0)
    assert made("happened node=metrakilate event=http-sent").figures == {"seconds": 6.0, "address": "", "took": 0.5}
    assert made("decided node=mCii what=no_room").figures["needed_mb"] == 64.0
    assert made("process_on node=metrakilate command=omcount").figures == {
        "pid": "7", "node": "metrakilate", "home": "mCii", "mb": 10.0, "frozen_ms": 37.0, "calls": 120.0,
    }  # fmt: skip
    assert made("migrated_home command=late").figures["reason"] == "it maps a file"
    ran = made("command_ran command=work output='sum (?P<total>[0-9]+)'").figures
    assert (ran["seconds"], ran["total"], ran["status"]) == (1.5, 12.0, "0")
    assert made("file_contains node=mCii path=~/seen.txt pattern='host (?P<host>[a-zA-Z]+)'").figures == {
        "host": "mCii"
    }
    assert made("compare left=a.x right=b.x").figures == {"ratio": 3.0, "difference": 4.0}


def test_every_check_keeps_its_promise_about_figures() -> None:
    """Those that it names are there when it is ok."""
    for line in ("process_on node=mCii command=sort", "moved command=omcount", "ended_away command=gone",
                 "file_lines node=mCii path=~/seen.txt at_least=1", "command_ran command=work",
                 "answer is=two", "compare left=a.x right=b.x", "migrated_home command=late",
                 "decided node=mCii what=stay", "happened node=metrakilate event=dhcp-ack", "speed node=mCii", "figure of=a.x at_least=1"):  # fmt: skip
        assert set(KINDS[line.split()[0]].figures) <= set(made(line).figures), line


def test_checks_of_a_step_see_each_other_s_figures() -> None:
    specs = [
        CheckSpec("command_ran", {"command": "work"}, "one"),
        CheckSpec("compare", {"left": "one.seconds", "right": "before.seconds"}, "ratio"),
    ]
    findings, figures = evaluate_all(specs, FACTS, {"before.seconds": 3.0})
    assert [finding.ok for finding in findings] == [True, True]
    assert figures["ratio.ratio"] == 0.5
    assert figures["before.seconds"] == 3.0


def test_a_check_that_breaks_is_a_check_that_is_not_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_of: object) -> Finding:
        raise ZeroDivisionError("no luck")

    monkeypatch.setitem(KINDS, "broken", Kind("broken", broken, {}, {}, (), (), ""))
    findings, figures = evaluate_all([CheckSpec("broken", {}, "one"), CheckSpec("answer", {"is": "two"})], FACTS, {})
    assert [finding.ok for finding in findings] == [False, True]
    assert findings[0].seen == "it fails: no luck"
    assert figures == {}


def test_nothing_is_known_of_an_empty_cluster() -> None:
    """No check breaks where there is nothing; none but those for absence is ok."""
    for kind in KINDS.values():
        values = {"number": "1", "switch": "yes", "path": "~/x", "figure": "a.b"}
        arguments = {name: values.get(what, "x") for name, what in kind.needed.items()}
        found = evaluate(CheckSpec(kind.name, arguments), Facts(), {})
        assert found.ok == (kind.name == "no_process"), kind.name
