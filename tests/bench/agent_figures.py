"""What real agents must reach, in a lab of two nodes: idle cost, and how soon an overloaded node sends the first away.

    python tests/bench/agent_figures.py [--seconds N] [--moves N]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

PAGE = os.sysconf("SC_PAGE_SIZE")
BURN = "x = 1\nwhile True: x = x * 48271 % 2147483647"
ENVIRONMENT = {**os.environ, "OMLAB_NAME": f"bench{os.getpid()}", "PYTHONPATH": str(ROOT)}


def argv(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"omtools.commands.{name}", *arguments]


def omlab(*arguments: str) -> str:
    return subprocess.run(
        argv("omlab", *arguments), env=ENVIRONMENT, check=True, capture_output=True, text=True
    ).stdout


@contextmanager
def lab() -> Iterator[list[dict[str, Any]]]:
    """A lab of two nodes with real agents."""
    omlab("up")
    try:
        yield json.loads(omlab("status", "--json"))["nodes"]
    finally:
        omlab("down")


def used(pid: int) -> tuple[float, float]:
    """Processor seconds of a process, and its resident memory in MB.

    By schedstat, in nanoseconds (sched-stats.rst): ticks miss what runs for a millisecond a second.
    """
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    ran = sum(int(thread.read_text().split()[0]) for thread in threads)
    resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    return ran / 1e9, resident / 1e6


def idle(nodes: list[dict[str, Any]], seconds: float) -> None:
    """An agent with nothing to do but to know."""
    time.sleep(5)  # starting and connecting is over
    pid = nodes[0]["agent_pid"]
    before, begun = used(pid)[0], time.monotonic()
    time.sleep(seconds)
    after, memory = used(pid)
    percent = 100 * (after - before) / (time.monotonic() - begun)
    print(f"idle agent | {percent:.2f} % of a core (wanted: 0.5) | {memory:.1f} MB resident (wanted: 60)", flush=True)


def first_move() -> float:
    """Seconds from the start of too many workers to the first that runs elsewhere."""
    watcher = subprocess.Popen(
        argv("omlab", "exec", "mCii", "--", *argv("mosctl", "events")), env=ENVIRONMENT,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    time.sleep(1)
    count = 3 * (os.cpu_count() or 1)
    script = f"for i in $(seq {count}); do {sys.executable} -c '{BURN}' & done; date +%s.%N; wait"
    workers = subprocess.Popen(
        argv("omlab", "exec", "mCii", "--", *argv("mosrun", "-l", "sh", "-c", script)), env=ENVIRONMENT,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert workers.stdout is not None
    assert watcher.stdout is not None
    begun = float(workers.stdout.readline())
    try:
        for line in watcher.stdout:
            event = json.loads(line)
            if event["type"] == "process_changed" and event["process"]["where"] == 2:
                return time.time() - begun
        raise AssertionError
    finally:
        for pid in subprocess.run(
            argv("omlab", "exec", "mCii", "--", "pgrep", "-f", "48271"), env=ENVIRONMENT, check=False,
            capture_output=True, text=True,
        ).stdout.split():  # fmt: skip
            subprocess.run(argv("omlab", "exec", "mCii", "--", "kill", pid), env=ENVIRONMENT, check=False,
                           capture_output=True)  # fmt: skip
        watcher.terminate()
        for process in (watcher, workers):
            process.communicate(timeout=30)


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=20.0)
    options.add_argument("--moves", type=int, default=3)
    given = options.parse_args()
    with lab() as nodes:
        idle(nodes, given.seconds)
    times = []
    for _time in range(given.moves):
        with lab():
            time.sleep(3)
            times.append(first_move())
    print(f"first move after an overload | {statistics.median(times):.2f} s median, {max(times):.2f} s worst "
          f"of {len(times)} (wanted: 2)", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
