"""What the deciding code must reach: gossip, makespan, the cost of a round.

    python tests/bench/cluster_figures.py [--quick] [--only NAME]

`--quick` leaves out the clusters of more than a thousand nodes.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from omtools.cluster.balance import Snapshot, balance
from omtools.cluster.constraints import Process
from omtools.cluster.gossip import Gossip, Outgoing, Settings, View
from omtools.cluster.load import BLOCK, CONFIGURED, UP, normalised
from omtools.cluster.simulator.scenario import Jobs, Nodes, Scenario, Spread
from omtools.cluster.simulator.simulate import simulate
from omtools.cluster.vector import MB, Vector, encode, hundredths

LIVE = CONFIGURED | UP


def show(*cells: object) -> None:
    """One row of the table."""
    print(" | ".join(str(cell) for cell in cells), flush=True)


class Bulletin:
    """Nodes that only gossip, in rounds."""

    def __init__(self, count: int) -> None:
        random = Random(count)
        settings = Settings(limit=65535 if count <= 2000 else 256)  # tables of all would fill any memory
        self.peers = list(range(1, count + 1))
        self.nodes = {number: Gossip(number, 1, Random(random.random()), settings) for number in self.peers}
        self.now = 0.0
        self.bytes = 0

    def round(self) -> None:
        """One second."""
        mail: list[tuple[int, Outgoing]] = []
        for number, node in self.nodes.items():
            status = node.own.status | UP
            node.measure(Vector(1, load_now=5000, load_mean=5000, load_upper=5000, speed=12300, cpus=8,
                                total_mb=32000, free_mb=16000, available_mb=24000, status=status))  # fmt: skip
            mail += [(number, one) for one in node.tick(self.now, self.peers)]
        weighed = max(1, len(mail) // 500)
        for at, (sender, outgoing) in enumerate(mail):
            answer = self.nodes[outgoing.target].receive(self.now, sender, outgoing.message)
            if answer is not None:
                self.nodes[sender].receive(self.now, outgoing.target, answer.message)
            if at % weighed == 0:
                self.bytes += weighed * (len(encode(outgoing.message)) + len(encode(answer.message) if answer else b""))
        self.now += 1.0

    def informed(self) -> int:
        """How many know that node 1 blocks."""
        views = (node.view(self.now, 1) for node in self.nodes.values())
        return sum(view is not None and bool(view.vector.status & BLOCK) for view in views)


def gossip(count: int) -> None:
    """Bytes, how news spreads, and how old the fresh part is."""
    cluster = Bulletin(count)
    settled = 75
    for _round in range(settled):
        cluster.round()
    cluster.bytes = 0
    for _round in range(5):
        cluster.round()
    sent = cluster.bytes / count / 5
    ages = [
        statistics.mean(view.age for view in views)
        for node in list(cluster.nodes.values())[:50]
        if (views := node.freshest(cluster.now, 64, 1e9))
    ]
    first = cluster.nodes[1]
    first.measure(Vector(1, status=LIVE | BLOCK))
    heard, before, rounds = 0.0, 1, 0
    while before < count and rounds < 60:
        cluster.round()
        rounds += 1
        now = cluster.informed()
        heard += rounds * (now - before)
        before = max(before, now)
    known = f"{before} of {count}"
    show("gossip", f"{count} nodes", f"{sent:.0f} B/s per node", f"news: mean {heard / max(count - 1, 1):.1f}, max {rounds} "
         f"rounds ({known}; log2 n = {math.log2(count):.1f})", f"age of the freshest 64: {statistics.mean(ages):.1f} s")  # fmt: skip


NODES = [
    Nodes(400, speed=10000, cpus=2), Nodes(300, speed=8000, cpus=1, memory_mb=2048),
    Nodes(200, speed=16000, cpus=4, memory_mb=8192), Nodes(100, speed=20000, cpus=4, memory_mb=16384),
]  # fmt: skip
MIXES = {
    "uniform, mean 30 s": Jobs(20000, cpu_s=Spread(30, "uniform"), memory_mb=[5, 60], at=[0, 20]),
    "exponential, mean 30 s": Jobs(20000, cpu_s=Spread(30, "exponential", 300), memory_mb=[5, 60], at=[0, 20]),
    "few very long (pareto)": Jobs(20000, cpu_s=Spread(30, "pareto", 1000), memory_mb=[5, 60], at=[0, 20]),
}


def makespan(name: str, nodes: list[Nodes], jobs: Jobs) -> None:
    """A balanced cluster beside the bound and a clairvoyant scheduler."""
    begun = time.perf_counter()
    result = simulate(Scenario(nodes, [jobs]))
    count = sum(group.count for group in nodes)
    show("makespan", f"{count} nodes, {jobs.count} jobs, {name}", f"{result.makespan_s:.1f} s",
         f"x {result.makespan_s / result.greedy_s:.3f} of clairvoyant LPT {result.greedy_s:.1f} s",
         f"x {result.makespan_s / result.bound_s:.3f} of the bound {result.bound_s:.1f} s",
         f"x {result.makespan_s / result.shared_s:.3f} of even sharing {result.shared_s:.1f} s",
         f"{result.migrations} moves, {result.ping_pongs} back, most {result.most_moves}",
         f"simulated in {time.perf_counter() - begun:.0f} s")  # fmt: skip


def round_cost(views: int, processes: int) -> None:
    """Time of one balancing round."""
    random = Random(1)

    def vector(number: int, tasks: float) -> Vector:
        load = hundredths(normalised(tasks, 10000, 4))
        return Vector(number, 1, 1, load, load, load, 10000, 4, 8192, 4000, 4000, status=LIVE)

    others = [View(vector(number, random.uniform(0, 8)), random.uniform(0, 9)) for number in range(2, views + 2)]
    own = vector(1, processes)
    jobs = [
        Process(pid, 1, cpu=4 / processes, used_s=random.uniform(0, 100), age_s=50, here_s=50, resident=20 * MB)
        for pid in range(processes)
    ]
    times = []
    for seed in range(20):
        begun = time.perf_counter()
        balance(Snapshot(100.0, own, jobs, others), Random(seed))
        times.append(time.perf_counter() - begun)
    show("round", f"{views} vectors, {processes} processes", f"{1000 * min(times):.1f} ms best, {1000 * statistics.median(times):.1f} ms median")


def figures(quick: bool) -> Iterator[tuple[str, Callable[[], None]]]:
    """All, by name."""
    yield "round", lambda: round_cost(1000, 500)
    yield "round", lambda: round_cost(64, 50)
    for count in (10, 100, 1000) if quick else (10, 100, 1000, 10000):
        yield "gossip", lambda count=count: gossip(count)  # type: ignore[misc]
    for name, jobs in MIXES.items():
        yield "makespan", lambda name=name, jobs=jobs: makespan(name, NODES, jobs)  # type: ignore[misc]
    if not quick:
        many = [Nodes(6000, cpus=2), Nodes(4000, speed=16000, cpus=2, memory_mb=8192)]
        short = Jobs(100000, cpu_s=Spread(20, "uniform"), memory_mb=[5, 40], at=[0, 10])
        yield "makespan", lambda: makespan("uniform, mean 20 s", many, short)


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--quick", action="store_true")
    options.add_argument("--only")
    given = options.parse_args()
    for name, measure in figures(given.quick):
        if given.only in (None, name):
            measure()


if __name__ == "__main__":
    main()
