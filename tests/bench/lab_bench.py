"""What the figures that need a lab share: the lab itself, programs on its nodes, CPU time, the report."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from lab.labs import Omlab

HOME, AWAY = "mCii", "metrakilate"
RESULTS = Path(__file__).with_name("RESULTS.md")


@dataclass(frozen=True)
class Table:
    """One table of the report.

    Attributes:
        title: its heading.
        text: what stands before it.
        head: the names of its columns.
        rows: its cells.
        after: what is to be said about it.
    """

    title: str
    text: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    after: str = ""

    def render(self) -> str:
        """As Markdown."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        table = "".join(f"| {' | '.join(row)} |\n" for row in lines)
        return f"## {self.title}\n\n{self.text}\n\n{table}" + (f"\n{self.after}\n" if self.after else "")


class Node(Omlab):
    """A lab whose commands are awaited as long as it takes."""

    def run(self, node: str, script: str) -> str:
        """What a script on a node prints; it must succeed."""
        done = subprocess.run(
            self.argv("exec", node, "--", "sh", "-c", script),
            env=self.environment, text=True, capture_output=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{script!r} on {node} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def start(self, node: str, *command: str, **more: Any) -> subprocess.Popen[str]:
        """A program on a node, its standard input and output in our hands."""
        return self.popen("exec", node, "--", *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **more)


@contextlib.contextmanager
def lab() -> Iterator[Node]:
    """A lab of two nodes with real agents, taken down afterwards."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise SystemExit("The bench mounts file systems: this user may not open /dev/fuse.")
    runtime = Path(tempfile.mkdtemp(prefix="om", dir="/tmp"))
    made = Node("root" if os.geteuid() == 0 else "self", runtime)
    made.name = made.environment["OMLAB_NAME"] = f"bench{os.getpid()}"
    del made.environment["OMLAB_AGENT"]
    try:
        made.ok("up")
        yield made
    finally:
        made("down")
        shutil.rmtree(runtime, ignore_errors=True)


def command(name: str) -> str:
    """One of our commands as a shell on a node finds it."""
    return f"{sys.executable} -m omtools.commands.{name}"


def compiled(source: str, name: str, folder: Path) -> str:
    """A C program."""
    if shutil.which("cc") is None:
        raise SystemExit("The bench compiles a small program: a C compiler (cc) is missing.")
    path, program = folder / f"{name}.c", folder / name
    path.write_text(source)
    subprocess.run(["cc", "-O2", "-Wall", "-o", str(program), str(path)], check=True)
    return str(program)


def cpu_seconds(pids: Sequence[int]) -> float:
    """CPU time that the living threads of these processes have had."""
    total = 0
    for pid in pids:
        for stat in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                total += int(stat.read_text().split()[0])
    return total / 1e9


def processes_of(lab: Node, *words: str) -> list[int]:
    """Processes of a lab's nodes whose command line begins with, or as a Python module is, one of the words."""
    nodes = set()
    for process in lab.processes():
        with contextlib.suppress(OSError):
            nodes.add(os.readlink(f"/proc/{process}/ns/pid"))
    nodes.discard(os.readlink("/proc/self/ns/pid"))
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            args = Path(f"/proc/{entry}/cmdline").read_bytes().decode(errors="replace").split("\0")
            inside = os.readlink(f"/proc/{entry}/ns/pid") in nodes
        except OSError:
            continue
        names = {os.path.basename(args[0]).rstrip(":").split(":")[0], *args[1:3]}
        if inside and names & set(words):
            found.append(int(entry))
    return found


def machine() -> str:
    """Where and when."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    return (
        f"{time.strftime('%Y-%m-%d')}, {processor}, {os.cpu_count()} CPUs, Linux {platform.release()}, "
        f"Python {platform.python_version()}, load at the start {os.getloadavg()[0]:.1f}; `make bench`"
    )


def keep(tables: Sequence[Table]) -> None:
    """Put tables into RESULTS.md, in the place of those of the same title."""
    text = RESULTS.read_text() if RESULTS.exists() else ""
    first, *parts = text.split("\n## ")
    kept = {part.partition("\n")[0]: f"## {part.strip()}\n" for part in parts}
    kept.update({table.title: table.render() for table in tables})
    RESULTS.write_text("\n".join([first.strip() + "\n", *kept.values()]))
