"""A node whose memory runs out, for real: a control group with a limit, and the kernel's OOM killer behind it.

    python tests/bench/memory_figures.py [--write]

Processes on the first of two lab nodes grow beyond what its control group allows (version 1 or 2; needs root).
Once they are locked to the node: then the kernel kills; once they may leave: then the usher is to be faster.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.lab_bench import Node, Table, keep, machine
from bench.makespan_figures import of_namespace

LIMIT_MB = 600
GROW = """
import os, sys, time
pids, size, pace = [], int(sys.argv[1]), float(sys.argv[2])
for _one in range(5):
    pid = os.fork()
    if pid == 0:
        blocks = []
        for mb in range(size):
            blocks.append(bytearray(os.urandom(4096) * 256))
            time.sleep(1 / pace)
        time.sleep(15)
        os._exit(0 if all(len(set(block[::4096])) == 1 for block in blocks) else 1)
    pids.append(pid)
left = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
print(*left)
"""


class Limit:
    """A control group with a limit of memory."""

    def __init__(self, name: str) -> None:
        self.old = Path("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists()
        self.path = Path("/sys/fs/cgroup/memory" if self.old else "/sys/fs/cgroup") / name

    def __enter__(self) -> Limit:
        """Make it."""
        if not self.old:
            (self.path.parent / "cgroup.subtree_control").write_text("+memory")
        self.path.mkdir()
        file = "memory.limit_in_bytes" if self.old else "memory.max"
        (self.path / file).write_text(str(LIMIT_MB << 20))
        return self

    def __exit__(self, *_error: object) -> None:
        """Remove it, once it is empty."""
        for _try in range(100):
            with contextlib.suppress(OSError):
                self.path.rmdir()
                return
            time.sleep(0.1)

    def kills(self) -> int:
        """How often the kernel has killed."""
        text = (self.path / ("memory.oom_control" if self.old else "memory.events")).read_text().split()
        return int(text[text.index("oom_kill") + 1])

    def peak_mb(self) -> int:
        """The most that was used."""
        file = self.path / ("memory.max_usage_in_bytes" if self.old else "memory.peak")
        return int(file.read_text()) >> 20 if file.exists() else 0


@contextlib.contextmanager
def cluster() -> Iterator[tuple[Node, Limit]]:
    """Two nodes, of which the first has little memory."""
    runtime = Path(tempfile.mkdtemp(prefix="om", dir="/tmp"))
    lab = Node("root", runtime)
    lab.name = lab.environment["OMLAB_NAME"] = f"mem{os.getpid()}"
    del lab.environment["OMLAB_AGENT"]
    with Limit(lab.name) as limit:
        try:
            lab.ok("up")
            first = lab.status()["nodes"][0]
            for process in of_namespace(first["pid"]):
                (limit.path / "cgroup.procs").write_text(str(process))
            lab.run("mCii", f"{sys.executable} -m omtools.commands.openmosix restart")
            time.sleep(6)
            yield lab, limit
        finally:
            lab("down")
            shutil.rmtree(runtime, ignore_errors=True)


def grown(free: bool, pace: float) -> list[str]:
    """One line of the table."""
    with cluster() as (lab, limit):
        shown = json.loads(lab.run("mCii", f"{sys.executable} -m omtools.commands.mosctl status --json"))["report"]
        if shown["mem_total"] >> 20 != LIMIT_MB:
            raise SystemExit(f"the node thinks that it has {shown['mem_total'] >> 20} MB")
        events = lab.start("mCii", sys.executable, "-m", "omtools.commands.mosctl", "events")
        option = "-l" if free else "-L"
        mosrun = f"{sys.executable} -m omtools.commands.mosrun {option} {sys.executable} -c '{GROW}' 110 {pace}"
        inside = f"echo 0 > {limit.path}/cgroup.procs"
        ended = lab.run("mCii", f"{inside}; {mosrun}").split()
        events.terminate()
        told = [json.loads(line) for line in events.communicate()[0].splitlines()]
        decided = [event for event in told if event["type"] == "decided" and event["what"] == "usher"]
        kills, peak = limit.kills(), limit.peak_mb()
    row = ["may leave" if free else "locked", f"{5 * pace:.0f} MB/s", str(len(decided)), f"{peak} of {LIMIT_MB} MB",
           str(kills), f"{ended.count('0')} of 5", "yes" if not free or (kills == 0 and ended.count("0") == 5) else "NO"]  # fmt: skip
    print(" | ".join(row), flush=True)
    return row


HEAD = ("5 processes of 110 MB", "grow together", "ushered", "most used", "OOM kills", "ended well", "reached")


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--write", action="store_true", help="into RESULTS.md")
    given = options.parse_args()
    if os.geteuid():
        raise SystemExit("Only root can give a control group to a node.")
    rows = [grown(False, 4), grown(True, 2), grown(True, 4), grown(True, 10)]
    if given.write:
        keep([Table("A node whose memory runs out", machine(), HEAD, rows)])


if __name__ == "__main__":
    main()
