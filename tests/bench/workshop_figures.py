"""What the workshop must reach: how soon omsh is there, how soon a check sees what is solved, how soon machines boot.

    python tests/bench/workshop_figures.py [--write] [--rounds N] [--machines N]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from terminals import Terminal

from bench.lab_bench import Table, cpu_seconds, keep, machine
from omtools.agent import api
from omtools.agent.client import Client
from omtools.agent.paths import SOCKET
from omtools.lab.lab import Lab
from omtools.lab.metal import image
from omtools.lab.metal.lab import MetalLab
from omtools.lab.metal.plan import MEMORY, NFS

ROOT = Path(__file__).resolve().parents[2]
PROMPT, SOLVED = " $ ", "Solved"
LESSON = """\
+++
id = "sample"
title = "A sample"
about = "About."
minutes = 1
+++
Intro.

## switch: A switch

Goal: what somebody else does.

Text.

```setup mCii
mosctl noblock
```

```try
mosctl block
```

```check
blocked: switch_set node=mCii switch=block
```

Hint: one

Hint: two

Hint: three

```solution
mosctl block
```

After: All is well.
"""
# What is between two events of metrakilate's boot, in order.
PHASES = (
    ("power-on", "dhcp-ack", "firmware, iPXE, DHCP"),
    ("dhcp-ack", "http-request", "TFTP: the boot script"),
    ("http-request", "last http-sent", "HTTP: kernel, root, keys"),
    ("last http-sent", "kernel", "the kernel unpacks itself"),
    ("kernel", "root", "the kernel starts, and unpacks the root"),
    ("root", "booted", "drivers, network, SSH"),
    ("booted", "agent-ready", "Python and the agent"),
)


def environment(state: str) -> dict[str, str]:
    """For an omsh that has no progress yet, with a lab of ours alone."""
    return {
        **os.environ, "XDG_STATE_HOME": state, "TERM": "xterm", "LC_ALL": "C.UTF-8", "LANGUAGE": "en",
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip


def until_prompt(*, with_lab: bool) -> float:
    """Seconds from the start of omsh to its first prompt."""
    if with_lab:
        Lab.down()
    else:
        Lab.up()
    with tempfile.TemporaryDirectory() as state:
        begun = time.perf_counter()
        with Terminal(["-m", "omtools.commands.omsh"], environment(state), 100, 40) as omsh:
            omsh.wait_for(PROMPT)
            taken = time.perf_counter() - begun
            omsh.press(":quit\r")
            omsh.end()
    return taken


def until_noticed() -> float:
    """Seconds from a step being solved, by somebody else, to omsh saying so."""
    lab = Lab.up()
    with tempfile.TemporaryDirectory() as place:
        lessons = Path(place, "lessons", "en")
        lessons.mkdir(parents=True)
        (lessons / "01-sample.md").write_text(LESSON)
        outside = environment(place) | {"OMSH_LESSONS": str(lessons.parent)}
        with Terminal(["-m", "omtools.commands.omsh"], outside, 100, 40) as omsh:
            omsh.wait_for(PROMPT)
            with Client(lab.node("mCii").files.run / SOCKET) as agent:
                solved = time.perf_counter()
                agent.call(api.Switch("block", on=True), api.Done)
                omsh.wait_for(SOLVED)
                taken = time.perf_counter() - solved
            omsh.press(":quit\r")
            omsh.end()
    return taken


def boot(root: str) -> dict[str, float]:
    """Boot both machines; seconds of everything."""
    MetalLab.down()
    with MetalLab.up(root=root) as lab:
        wait_joined(lab)
        pids = [int(node["pid"]) for node in lab.nodes()]
        found = phases(list(lab.events()))
        found["cpu"] = cpu_seconds(pids[1:])
    return found


def wait_joined(lab: MetalLab) -> None:
    """Both agents serve already; wait until they have found each other."""
    while {event["node"] for event in lab.events() if event["event"] == "agent-joined"} != {"mCii", "metrakilate"}:
        time.sleep(0.05)


def phases(events: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds between the events of a boot, by name."""
    at: dict[str, float] = {}
    for event in events:
        if event["node"] == "metrakilate":
            at.setdefault(str(event["event"]), float(event["at"]))
            if event["event"] == "http-sent":
                at["last http-sent"] = float(event["at"])
    found = {name: at[end] - at[begin] for begin, end, name in PHASES}
    # An agent serves, and joins, before it has mounted the cluster's files; when it has it says that it is ready.
    found["alone"] = at["agent-joined"] - at["power-on"]
    found["ready"] = at["agent-ready"] - at["power-on"]
    found["all"] = max(float(one["at"]) for one in events if one["event"] == "agent-joined") - float(events[0]["at"])
    return found


def spread(values: Sequence[float]) -> str:
    """A median with what lay around it."""
    return f"{statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})"


def row(what: str, values: Sequence[float], bound: float | None) -> list[str]:
    """A row of the table of bounds."""
    reached = "" if bound is None else "yes" if statistics.median(values) <= bound else "NO"
    return [what, spread(values), "" if bound is None else f"{bound:g} s", reached]


def several(rounds: int, measure: Callable[[], float]) -> list[float]:
    """Once to warm up, and then so often."""
    measure()
    return [measure() for _round in range(rounds)]


def tables(rounds: int, machines: int) -> Iterator[Table]:
    """Measure all."""
    rows = [
        row("omsh, from its start to the prompt", several(rounds, lambda: until_prompt(with_lab=False)), 1.5),
        row("the same, with a lab to be started", several(rounds, lambda: until_prompt(with_lab=True)), 4.0),
        row("a solved step, until omsh says so", several(rounds, until_noticed), 1.0),
    ]
    Lab.down()
    image.build()
    packed = [boot(MEMORY) for _round in range(machines)]
    shared = [boot(NFS) for _round in range(machines)]
    rows += [
        row("two machines, until both have joined", [one["all"] for one in packed], 25.0),
        row("metrakilate, from its switch until it has joined", [one["alone"] for one in packed], 14.0),
        row("the same, until the cluster's files are mounted too", [one["ready"] for one in packed], None),
        row("until it has joined, with its root by NFS", [one["alone"] for one in shared], None),
    ]
    text = f"{machine()}\n\nMedians of {rounds} rounds, {machines} of machines; in brackets the least and the most."
    yield Table("The workshop", text, ["what", "measured", "bound", "reached"], rows)
    names = [*(name for _begin, _end, name in PHASES), "cpu"]
    words = {"cpu": "processor time of its QEMU, to then"}
    cells = [[words.get(name, name), *(spread([one[name] for one in found]) for found in (packed, shared))] for name in names]
    yield Table("Where metrakilate's boot goes", machine(), ["phase", "root in memory", "root by NFS"], cells)


def main() -> int:
    """Measure, print, and with --write keep."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--write", action="store_true", help="put it into RESULTS.md beside this file")
    options.add_argument("--rounds", type=int, default=5, metavar="N")
    options.add_argument("--machines", type=int, default=3, metavar="N")
    given = options.parse_args()
    os.environ["OMLAB_NAME"] = f"bench{os.getpid()}"
    try:
        found = list(tables(given.rounds, given.machines))
    finally:
        Lab.down()
        MetalLab.down()
    for table in found:
        print(table.render())
    if given.write:
        keep(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
