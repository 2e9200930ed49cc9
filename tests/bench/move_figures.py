"""What one move costs of processor time, on either node: agents, templates, keepers, the process itself.

    python tests/bench/move_figures.py [--moves N] [--write]

Each lab node is a control group (version 1 or 2; needs root), whose processor time the kernel counts: that does
not depend on what else the machine does, but for what it does to caches.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.lab_bench import Node, Table, keep, machine
from bench.makespan_figures import Quotas, of_namespace

WAIT = "print(os.getpid(), flush=True)\nwhile True: time.sleep(1000)"
PROGRAMS = {
    "a child of CPython": f"import os, time\nchild = os.fork()\nif child: os.waitpid(child, 0)\n{WAIT}",
    "CPython with asyncio and 10 MB": f"import asyncio, os, time\nblob = os.urandom(10 << 20)\n{WAIT}",
}
MOVER = """
import asyncio, json, sys
import omtools
async def main():
    async with omtools.connect() as cluster:
        for line in sys.stdin:
            pid, node = line.split()
            moved = await cluster.migrate(int(pid), node)
            print(json.dumps([moved.total_ms, moved.frozen_ms, moved.bytes]), flush=True)
asyncio.run(main())
"""


@contextlib.contextmanager
def cluster() -> Iterator[tuple[Node, Quotas]]:
    """Two nodes whose processor time is counted, and not limited."""
    runtime = Path(tempfile.mkdtemp(prefix="om", dir="/tmp"))
    lab = Node("root", runtime)
    lab.name = lab.environment["OMLAB_NAME"] = f"move{os.getpid()}"
    del lab.environment["OMLAB_AGENT"]
    quotas = Quotas(lab.name)
    try:
        quotas.open()
        lab.ok("up")
        for node in lab.status()["nodes"]:
            quotas.limit(node["number"], float(os.cpu_count() or 1), of_namespace(node["pid"]))
        time.sleep(4)  # starting and connecting is over
        yield lab, quotas
    finally:
        lab("down")
        quotas.close()
        shutil.rmtree(runtime, ignore_errors=True)


def used(quotas: Quotas) -> list[float]:
    """Milliseconds of both nodes so far."""
    return [1000 * quotas.used(number) for number in (1, 2)]


def counted(quotas: Quotas, mover: subprocess.Popen[str], order: str) -> list[float]:
    """Milliseconds of both nodes for a move, what they use anyhow left out; its wall time, freeze, bytes."""
    assert mover.stdin is not None
    assert mover.stdout is not None
    first, begun = used(quotas), time.monotonic()
    time.sleep(0.5)
    before, middle = used(quotas), time.monotonic()
    mover.stdin.write(order + "\n")
    mover.stdin.flush()
    told: list[float] = json.loads(mover.stdout.readline())
    time.sleep(0.3)  # what is tidied up afterwards counts too
    after, end = used(quotas), time.monotonic()
    idle = (end - middle) / (middle - begun)
    return [c - b - (b - a) * idle for a, b, c in zip(first, before, after, strict=True)] + told


def figures(name: str, program: str, moves: int) -> list[list[str]]:
    """Two lines of the table: away and home."""
    with cluster() as (lab, quotas):
        script = f"{quotas.inside(1)}; exec {sys.executable} -m omtools.commands.mosrun -l {sys.executable} -c '{program}'"
        process = lab.start("mCii", "sh", "-c", script)
        mover = lab.start("mCii", sys.executable, "-c", MOVER)
        assert process.stdout is not None
        pid = process.stdout.readline().strip()
        found: dict[str, list[list[float]]] = {"away": [], "home": []}
        for turn in range(moves + 1):
            for way, node in (("away", "2"), ("home", "home")):
                row = counted(quotas, mover, f"{pid} {node}")
                if turn:  # the first one reads each file and rehearses
                    found[way].append(row)
        mover.communicate(timeout=30)
    rows = []
    for way, measured in found.items():
        home, away, total, frozen, size = (statistics.median(column) for column in zip(*measured, strict=True))
        rows.append([name, way, f"{home:.0f} ms", f"{away:.0f} ms", f"{total:.0f} ms", f"{frozen:.0f} ms",
                     f"{size / 1e6:.1f} MB"])  # fmt: skip
        print(" | ".join(rows[-1]), flush=True)
    return rows


HEAD = ("process", "way", "processor, home", "processor, there", "wall", "frozen", "travelled")
AFTER = """Medians. Counted is all that is on a node: its agent, template and keepers, the cage, and what the kernel does for
them and for the process. The files of the program are on both nodes, so that they do not travel."""


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--moves", type=int, default=10)
    options.add_argument("--write", action="store_true", help="into RESULTS.md")
    given = options.parse_args()
    if os.geteuid():
        raise SystemExit("Only root can give control groups to the nodes.")
    rows = [row for name, program in PROGRAMS.items() for row in figures(name, program, given.moves)]
    if given.write:
        keep([Table("Processor time of a move", machine(), HEAD, rows, AFTER)])


if __name__ == "__main__":
    main()
