"""Real agents, real processes, nodes of unequal speed: how long 32 jobs take, balanced and not.

    python tests/bench/makespan_figures.py [--nodes N ...] [--work SECONDS] [--write]

Each lab node is a control group with a processor quota (version 1 or 2; needs root); all of a node is in it,
its agent, keepers and guests too. The jobs start at once on the first node, as programs that fork.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.lab_bench import Node, Table, keep, machine
from omtools.cluster.simulator.bounds import Task, fair_share, greedy, lower_bound

JOBS = 32
# Shares of a processor; the sum leaves room on a machine of four for what else it does.
SPEEDS = {2: (0.9, 0.45), 4: (0.5, 0.7, 0.3, 0.2), 8: (0.3, 0.4, 0.25, 0.2, 0.2, 0.15, 0.15, 0.15)}
PERIOD_US = 20_000  # short, so that a node looks slow and not asleep by turns
TURN = "for _turn in range({turns}): x = (x * 48271 + 1) % 2147483647"
WORKER = f"""
import os, sys, time
begun = time.time()
pids = []
for turns in map(int, sys.argv[1:]):
    pid = os.fork()
    if pid == 0:
        x = 1
        {TURN.format(turns="turns")}
        os._exit(0)
    pids.append(pid)
left = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
print(time.time() - begun, sum(map(bool, left)))
"""


def turns_per_second() -> float:
    """How many turns of a job's loop an undisturbed processor of this machine does in a second."""
    # At the top of a program, as the jobs have it: in a function the loop would be faster.
    timed = f"begun = time.process_time()\n{TURN.format(turns=2000000)}\nprint(time.process_time() - begun)\n"
    program = "import time\nx = 1\n" + 7 * timed
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return 2000000 / min(map(float, done.stdout.split()))


class Quotas:
    """A control group for each node."""

    def __init__(self, name: str) -> None:
        self.old = Path("/sys/fs/cgroup/cpu/cpu.shares").exists()
        self.top = Path("/sys/fs/cgroup/cpu" if self.old else "/sys/fs/cgroup") / name
        self.made: list[Path] = []
        self.processors = sorted(os.sched_getaffinity(0))

    def open(self) -> None:
        """Make the group of all nodes: before the machine's other work, for it is small in sum."""
        self._make(self.top)
        if self.old:
            (self.top / "cpu.shares").write_text("262144")
        else:
            for folder in (self.top.parent, self.top):
                (folder / "cgroup.subtree_control").write_text("+cpu")
            (self.top / "cpu.weight").write_text("10000")

    def _make(self, folder: Path) -> None:
        folder.mkdir()
        self.made.append(folder)

    def processor(self, number: int) -> int:
        """The only one that a node runs on.

        The kernel gives a group its quota in slices of 5 ms per processor: on several of them whoever comes first
        in a period takes all of it, whatever the priorities, and a node's agent could wait for seconds.
        """
        return self.processors[(number - 1) % len(self.processors)]

    def limit(self, number: int, share: float, processes: Sequence[int]) -> None:
        """Put processes into a new group that gets that share of a processor."""
        group = self.top / str(number)
        self._make(group)
        quota = round(share * PERIOD_US)
        if self.old:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (group / "cpu.max").write_text(f"{quota} {PERIOD_US}")
        for process in processes:
            (group / "cgroup.procs").write_text(str(process))
            if share <= 1:
                os.sched_setaffinity(process, {self.processor(number)})
        if self.old:
            self._counting(number).mkdir(parents=True)
            for process in processes:
                (self._counting(number) / "cgroup.procs").write_text(str(process))

    def _counting(self, number: int) -> Path:
        """Version 1 has a tree of its own for what was used."""
        return Path("/sys/fs/cgroup/cpuacct") / self.top.name / str(number)

    def used(self, number: int) -> float:
        """Processor seconds of a node so far, all that is on it."""
        if self.old:
            return int((self._counting(number) / "cpuacct.usage").read_text()) / 1e9
        stat = (self.top / str(number) / "cpu.stat").read_text().split()
        return int(stat[stat.index("usage_usec") + 1]) / 1e6

    def inside(self, number: int) -> str:
        """What a shell says to be in it: who comes in from outside the node is in the outside's group."""
        groups = [self.top / str(number), *([self._counting(number)] if self.old else [])]
        words = [f"echo 0 > {group}/cgroup.procs" for group in groups]
        return "; ".join([*words, f"taskset -pc {self.processor(number)} $$ > /dev/null"])

    def close(self) -> None:
        """Remove them; they are empty now."""
        counting = [self._counting(0).parent, *self._counting(0).parent.glob("[0-9]*")] if self.old else []
        for folder in reversed([*self.made, *counting]):
            for _try in range(100):
                try:
                    folder.rmdir()
                    break
                except OSError:
                    time.sleep(0.1)


def of_namespace(pid: int) -> list[int]:
    """All processes in the pid namespace of that one and in those inside it."""
    wanted, found = os.readlink(f"/proc/{pid}/ns/pid"), []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{entry}/ns/pid") == wanted:
                found.append(int(entry))
    return found


@contextlib.contextmanager
def cluster(speeds: Sequence[float]) -> Iterator[tuple[Node, Quotas]]:
    """A lab of as many nodes, each as fast as it says."""
    runtime = Path(tempfile.mkdtemp(prefix="om", dir="/tmp"))
    lab = Node("root", runtime)
    lab.name = lab.environment["OMLAB_NAME"] = f"span{os.getpid()}"
    del lab.environment["OMLAB_AGENT"]
    quotas = Quotas(lab.name)
    try:
        quotas.open()
        lab.ok("up", "--nodes", str(len(speeds)))
        nodes = lab.status()["nodes"]
        for node, share in zip(nodes, speeds, strict=True):
            quotas.limit(node["number"], share, of_namespace(node["pid"]))
        for node in nodes:  # it begins anew, and sees what it is allowed
            lab.run(node["name"], f"{sys.executable} -m omtools.commands.openmosix restart")
        for node in nodes:
            await_map(lab, node["name"], speeds)
        yield lab, quotas
    finally:
        lab("down")
        quotas.close()
        shutil.rmtree(runtime, ignore_errors=True)


def await_map(lab: Node, name: str, speeds: Sequence[float]) -> None:
    """Until that node knows every other, with the speed that it has."""
    for _try in range(120):
        shown = json.loads(lab.run(name, f"{sys.executable} -m omtools.commands.mosctl nodes --json"))
        known = sorted(node["speed"] for node in shown if node["state"] == "up")
        if len(known) == len(speeds) and known[0] < 1.4 * known[-1] * min(speeds) / max(speeds):
            return
        time.sleep(0.5)
    raise SystemExit(f"{name} does not know the others: {shown}")


class Run(NamedTuple):
    """What a run came to.

    Attributes:
        seconds: until all jobs were through.
        moves: that were begun from the first node.
        refused: of these.
        used: processor seconds of all nodes, 0: not counted.
    """

    seconds: float
    moves: int
    refused: int
    used: float = 0.0


def run_jobs(lab: Node, quotas: Quotas, turns: Sequence[int], *, balanced: bool) -> Run:
    """Have them all run, from the first node."""
    first = lab.status()["nodes"][0]["name"]
    events = lab.start(first, "sh", "-c", f"exec {sys.executable} -m omtools.commands.mosctl events")
    options = "-l" if balanced else "-L"
    words = " ".join(map(str, turns))
    script = f"{sys.executable} -m omtools.commands.mosrun {options} {sys.executable} -c '{WORKER}' {words}"
    seconds, failed = lab.run(first, f"{quotas.inside(1)}; {script}").split()
    events.terminate()
    told, _nothing = events.communicate()
    decided = [json.loads(line) for line in told.splitlines()]
    verbs = [event["what"] for event in decided if event["type"] == "decided"]
    if int(failed):
        raise SystemExit(f"{failed} jobs failed")
    return Run(float(seconds), verbs.count("move"), verbs.count("failed"))


def run_counted(lab: Node, quotas: Quotas, turns: Sequence[int], speeds: Sequence[float]) -> Run:
    """As `run_jobs`, balanced, and the processor seconds that were used in all."""
    nodes = range(1, len(speeds) + 1)
    before = [quotas.used(number) for number in nodes]
    run = run_jobs(lab, quotas, turns, balanced=True)
    used = [quotas.used(number) - had for number, had in zip(nodes, before, strict=True)]
    shares = (f"{one / run.seconds / speed:.2f}" for one, speed in zip(used, speeds, strict=True))
    print(f"# {len(speeds)} nodes, used of what each could: {' '.join(shares)}", flush=True)
    return run._replace(used=sum(used))


def placed(tasks: Sequence[Task], speeds: Sequence[float]) -> list[list[int]]:
    """Which jobs each node gets from a scheduler who knows all lengths: LPT, as `greedy` reckons it."""
    nodes: list[list[int]] = [[] for _speed in speeds]
    for job in sorted(range(len(tasks)), key=lambda job: -tasks[job].work):
        through = [
            (sum(tasks[one].work for one in (*jobs, job)) / speed, number)
            for number, (jobs, speed) in enumerate(zip(nodes, speeds, strict=True))
        ]
        nodes[min(through)[1]].append(job)
    return nodes


def run_placed(lab: Node, quotas: Quotas, turns: Sequence[int], nodes: Sequence[Sequence[int]]) -> float:
    """Seconds that the same jobs take where the clairvoyant scheduler starts them; nothing moves."""
    running = []
    for node, jobs in zip(lab.status()["nodes"], nodes, strict=True):
        words = " ".join(str(turns[job]) for job in jobs)
        script = f"{quotas.inside(node['number'])}; exec {sys.executable} -c '{WORKER}' {words}"
        running.append(lab.start(node["name"], "sh", "-c", script))
    told = [process.communicate()[0].split() for process in running]
    if any(int(failed) for _seconds, failed in told):
        raise SystemExit("jobs failed")
    return max(float(seconds) for seconds, _failed in told)


def figures(count: int, work: float, *, alone: bool) -> list[str]:
    """One line of the table."""
    speeds, random = SPEEDS[count], Random(count)
    rate = turns_per_second()
    tasks = [Task(random.uniform(0.5, 1.5) * work * sum(speeds) / JOBS, 0.0) for _job in range(JOBS)]
    turns = [round(task.work * rate) for task in tasks]
    with cluster(speeds) as (lab, quotas):
        before = run_placed(lab, quotas, turns, placed(tasks, speeds))
        run = run_counted(lab, quotas, turns, speeds)
        best = (before + run_placed(lab, quotas, turns, placed(tasks, speeds))) / 2
        alone_s = run_jobs(lab, quotas, turns, balanced=False).seconds if alone else 0.0
    slower = best / greedy(tasks, speeds)  # than when nothing else runs on the machine
    alone_s = alone_s or slower * sum(task.work for task in tasks) / speeds[0]
    row = [
        f"{count}: {', '.join(map(str, speeds))}", f"{run.seconds:.1f} s", f"{best:.1f} s",
        f"x {run.seconds / best:.2f}", "yes" if run.seconds <= 1.15 * best else "NO",
        f"x {run.seconds / slower / lower_bound(tasks, speeds):.2f}",
        f"x {run.seconds / slower / fair_share(tasks, speeds):.2f}", f"x {slower:.2f}",
        f"x {alone_s / run.seconds:.2f}", f"{run.moves}, {run.refused} refused",
        f"{100 * run.used / run.seconds / sum(speeds):.0f} %",
        f"{os.getloadavg()[0]:.0f}",
    ]  # fmt: skip
    print(" | ".join(row), flush=True)
    return row


HEAD = (
    "nodes and their speeds", "makespan", "clairvoyant LPT", "ratio", "<= 1.15", "to the bound", "to even sharing",
    "slower than alone", "no balancing", "moves", "of the nodes' power used", "load of this machine",
)  # fmt: skip


AFTER = """The clairvoyant scheduler, who knows how long each job will take, is run for real: the same processes are started
where it wants them, once before and once after the balanced run, and the mean counts. "Slower than alone" is what the
processors of this machine lose when several work at once, or others use it: the bound, even sharing and, where it is not
run, the time without balancing (all jobs on the first node) are reckoned with that. A node has its share of one
processor, to which it is bound. A move takes some 30 ms of processor time on either node, which on a fifth of a core is
a third of a second; the simulator, with moves of 0.4 s, comes to 1.00, 1.02, 1.01 for 2, 4, 8 nodes and 120 s."""


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--nodes", type=int, nargs="*", default=[2, 4, 8])
    options.add_argument("--work", type=float, default=120.0, help="seconds that the whole cluster works at least")
    options.add_argument("--reckon-alone", action="store_true", help="do not run it without balancing too")
    options.add_argument("--write", action="store_true", help="into RESULTS.md")
    given = options.parse_args()
    if os.geteuid():
        raise SystemExit("Only root can give control groups to the nodes.")
    rows = [figures(count, given.work, alone=not given.reckon_alone) for count in given.nodes]
    if given.write:
        keep([Table("32 jobs on nodes of unequal speed", machine(), HEAD, rows, AFTER)])


if __name__ == "__main__":
    main()
