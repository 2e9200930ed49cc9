"""The demonstration: three ordinary programs in an ordinary shell move to another node while they work.

``python -m omtools.lab.demo``, or ``make demo``. It starts a lab of its own, runs the programs once
undisturbed and once with moves in between, and compares what they wrote and how they ended.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import sysconfig
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from omtools.errors import LabError, OmError
from omtools.i18n import _
from omtools.lab.lab import Lab, Node

PLACE = "/tmp/demo"
TAR_BYTES = 14 << 20
MILLIONS_OF_LINES = 6
PI_LINES = 240
AWAY = "metrakilate"
# A move happens when a program has used this part of the CPU time that it needs in all, and has this part
# of its work still before it when it is brought home.
BEGUN, NEARLY_DONE = 0.25, 0.6
PATIENCE = 120.0

_PI = '''
"""Digits of pi, fifty to a line (Gibbons' spigot)."""
import sys

def digits():
    q, r, t, k, n, l = 1, 0, 1, 1, 3, 3
    while True:
        if 4 * q + r - t < n * t:
            yield n
            q, r, n = 10 * q, 10 * (r - n * t), 10 * (3 * q + r) // t - 10 * n
        else:
            q, r, t, k, n, l = q * k, (2 * q + r) * l, t * l, k + 1, (q * 7 * k + 2 + r * l) // (t * l), l + 2

pi = digits()
for _ in range(int(sys.argv[1])):
    print("".join(str(next(pi)) for _ in range(50)), flush=True)
'''


@dataclass
class Job:
    """One of the programs, in one run or the other.

    Attributes:
        name: what the table calls it, and its output file.
        argv: its command line.
        pid: on its home node.
        status: its exit status, once it has ended.
        needs: CPU seconds it used in the undisturbed run.
        moves: what `migrate --json` said of each move.
        calls: system calls that were forwarded.
    """

    name: str
    argv: Sequence[str]
    pid: int = 0
    status: int | None = None
    needs: float = 0.0
    moves: list[dict[str, float]] = field(default_factory=list)
    calls: int = 0


def jobs() -> list[Job]:
    """The programs."""
    return [
        Job("xz", ["xz", "-T1", "-6", "-c", "stdlib.tar"]),
        Job("sort", ["sort", "--parallel=1", "lines"]),
        Job("pi", [sys.executable, "pi.py", str(PI_LINES)]),
    ]


class Failed(Exception):
    """The demonstration cannot go on; the text says why."""


class Run:
    """The programs, started by one shell on a node and waited for by it."""

    def __init__(self, node: Node, name: str) -> None:
        self.node = node
        self.name = name
        self.jobs = jobs()
        self.output = node.outside(f"{PLACE}/{name}")
        self.output.mkdir()
        self._shell: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start them, and learn their pids from the shell."""
        place = self.node.outside(PLACE) if not self.node.pid else PLACE
        lines = [f"cd {place}"]
        for job in self.jobs:
            name = job.name
            lines.append(f"{shlex.join(job.argv)} > {self.name}/{name} & {name}=$!; echo {name} $!")
        lines += [f"wait ${job.name}; echo {job.name} $?" for job in self.jobs]
        self._shell = self.node.popen(["sh", "-c", "\n".join(lines)], stdout=subprocess.PIPE)
        for job in self.jobs:
            job.pid = self._read(job.name)

    def _read(self, name: str) -> int:
        assert self._shell is not None
        assert self._shell.stdout is not None
        word, _space, number = self._shell.stdout.readline().partition(" ")
        if word != name:
            raise Failed(_("the shell on {node} ended early").format(node=self.node.name))
        return int(number)

    def wait(self) -> None:
        """Wait until all have ended, and learn their exit statuses from the shell."""
        for job in self.jobs:
            job.status = self._read(job.name)
        assert self._shell is not None
        self._shell.wait()

    def stop(self) -> None:
        """Kill the shell, if it runs."""
        if self._shell is not None:
            self._shell.kill()
            self._shell.communicate()

    def cpu_seconds(self, job: Job) -> float | None:
        """CPU time that it has used on its home node; None when it has ended."""
        try:
            text = self.node.outside(f"/proc/{job.pid}/stat").read_text()
        except OSError:
            return None
        fields = text[text.rindex(")") + 2 :].split()  # proc_pid_stat(5): utime is field 14
        return None if fields[0] in "ZX" else (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def written(self, job: Job) -> int:
        """Bytes in its output file."""
        return (self.output / job.name).stat().st_size

    def digest(self, job: Job) -> str:
        """SHA-256 of its output."""
        with open(self.output / job.name, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def prepare(place: Path) -> None:
    """Put the input into a node's /tmp: the same on every run, the library aside."""
    place.mkdir()
    (place / "pi.py").write_text(_PI)
    with tarfile.open(place / "stdlib.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for path, name in _library():
            tar.add(path, name, recursive=False)
            if tar.offset > TAR_BYTES:
                break
    chance = random.Random(2002)
    with open(place / "lines", "w") as file:
        for _chunk in range(MILLIONS_OF_LINES * 100):
            text = chance.randbytes(80_000).hex()
            file.write("\n".join(text[at : at + 16] for at in range(0, len(text), 16)) + "\n")


def _library() -> Iterator[tuple[str, str]]:
    base = sysconfig.get_paths()["stdlib"]
    for parent, directories, files in os.walk(base):
        directories[:] = sorted(set(directories) - {"__pycache__", "site-packages", "dist-packages"})
        for name in sorted(files):
            path = os.path.join(parent, name)
            if name.endswith((".py", ".txt", ".rst")):
                yield path, os.path.relpath(path, base)


def watch(run: Run, wanted: Callable[[], bool], step: Callable[[], None]) -> None:
    """Repeat `step` until what is wanted is so."""
    deadline = time.monotonic() + PATIENCE
    while not wanted():
        if time.monotonic() > deadline:
            raise Failed(_("nothing happens any more on {node}").format(node=run.node.name))
        step()
        time.sleep(0.02)


def reference(node: Node) -> Run:
    """The undisturbed run, which also measures how much CPU time each program needs."""
    run = Run(node, "undisturbed")
    run.start()

    def measure() -> None:
        for job in run.jobs:
            job.needs = run.cpu_seconds(job) or job.needs

    try:
        watch(run, lambda: all(run.cpu_seconds(job) is None for job in run.jobs), measure)
        run.wait()
    finally:
        run.stop()
    return run


class Moving:
    """The run with moves: each program leaves in mid-run, one of them comes home before it ends."""

    def __init__(self, node: Node, undisturbed: Run) -> None:
        self.run = Run(node, "moved")
        self.node = node
        self.undisturbed = undisturbed
        for job, before in zip(self.run.jobs, undisturbed.jobs, strict=True):
            job.needs = before.needs

    def go(self) -> None:
        """Do it all."""
        self.run.start()
        for job in self.run.jobs:
            say(f"mCii$ {shlex.join(job.argv)} > {job.name} &      # {_('process')} {job.pid}")
        try:
            for job in sorted(self.run.jobs, key=lambda job: job.needs):
                watch(self.run, lambda job=job: self._begun(job), self._count)  # type: ignore[misc]
                self._migrate(job, AWAY)
            self._show()
            self._bring_home(self.run.jobs[-1])
            self._last_looks()
            self.run.wait()
        finally:
            self.run.stop()

    def _begun(self, job: Job) -> bool:
        used = self.run.cpu_seconds(job)
        if used is None:
            raise Failed(_("{name} ended before it could be moved").format(name=job.name))
        return used >= BEGUN * job.needs

    def _bring_home(self, job: Job) -> None:
        """Call it home when it has printed while it was away, and has still something to do."""
        at_departure = self.run.written(job)
        total = self.undisturbed.written(job)

        def far_enough() -> bool:
            return self.run.written(job) >= max(NEARLY_DONE * total, at_departure + 1)

        watch(self.run, far_enough, self._count)
        self._migrate(job, "home")

    def _migrate(self, job: Job, to: str) -> None:
        say(f"mCii$ migrate {job.pid} {to}")
        done = self._command("migrate", str(job.pid), to, "--json")
        if done.returncode != 0:
            raise Failed(f"{job.name}: {done.stderr.strip()}")
        moved = json.loads(done.stdout)
        job.moves.append(moved)
        figures = _("      {name}: {size:.1f} MB, frozen {frozen:.0f} ms, {total:.0f} ms in all")
        say(figures.format(name=job.name, size=moved["bytes"] / 1e6, frozen=moved["frozen_ms"],
                           total=moved["total_ms"]))  # fmt: skip
        self._count()

    def _show(self) -> None:
        pids = ",".join(str(job.pid) for job in self.run.jobs)
        say(f"mCii$ mps -o pid,tty,stat,time,args -p {pids}")
        done = self._command("mps", "-o", "pid,tty,stat,time,args", "-p", pids)
        say(done.stdout.rstrip() or done.stderr.rstrip())

    def _last_looks(self) -> None:
        """Follow the counts of forwarded calls until all have ended."""
        def over() -> bool:
            return all(self.run.cpu_seconds(job) is None for job in self.run.jobs)

        watch(self.run, over, self._count)

    def _count(self) -> None:
        """Learn how many calls were forwarded; it is forgotten when a process ends."""
        from omtools.agent import api  # noqa: PLC0415
        from omtools.agent.client import Client  # noqa: PLC0415
        from omtools.agent.paths import SOCKET  # noqa: PLC0415

        with contextlib.suppress(OmError), Client(self.node.files.run / SOCKET, "demo") as agent:
            for found in agent.call(api.Processes(), api.ProcessList).processes:
                for job in self.run.jobs:
                    if found.pid == job.pid and found.role == "deputy":
                        job.calls = max(job.calls, found.calls_forwarded)

    def _command(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        installed = Path(sys.executable).with_name(name)
        if installed.exists():
            return self.node.run([str(installed), *arguments])
        return self.node.run([sys.executable, "-m", f"omtools.commands.{name}", *arguments])


def table(moved: Run, undisturbed: Run) -> bool:
    """Print the comparison; False if anything differs."""
    from rich.console import Console  # noqa: PLC0415 - only at the end
    from rich.table import Table  # noqa: PLC0415

    shown = Table(title=_("Three programs that moved while they worked"))
    shown.add_column(_("process"))
    for heading in (_("moves"), _("bytes moved"), _("frozen ms"), _("calls forwarded")):
        shown.add_column(heading, justify="right")
    shown.add_column(_("identical"))
    same = True
    for job, before in zip(moved.jobs, undisturbed.jobs, strict=True):
        identical = moved.digest(job) == undisturbed.digest(before) and job.status == before.status == 0
        same = same and identical
        frozen = " + ".join(f"{move['frozen_ms']:.0f}" for move in job.moves)
        size = sum(int(move["bytes"]) for move in job.moves)
        word = _("yes") if identical else _("NO")
        shown.add_row(job.name, str(len(job.moves)), f"{size:,}", frozen, f"{job.calls:,}", word)
    Console(highlight=False).print(shown)
    return same


def say(line: str) -> None:
    """Print at once, also into a pipe."""
    print(line, flush=True)


def demonstrate() -> bool:
    """Run the demonstration in a lab of its own; False if anything differs."""
    Lab.down()  # of one that was killed, say
    with Lab.up() as lab:
        try:
            return _demonstrate(lab)
        finally:
            for signum in (signal.SIGINT, *_ENDING):  # an impatient second Ctrl-C must not stop the cleaning
                signal.signal(signum, signal.SIG_IGN)


def _demonstrate(lab: Lab) -> bool:
    node = lab.nodes["mCii"]
    say(_("The lab is up: {nodes}.").format(nodes=", ".join(lab.nodes)))
    if lab.state.reason:
        say(_("Its nodes are plain processes: {why}.").format(why=lab.state.reason))
    prepare(node.outside(PLACE))
    say(_("First undisturbed, on mCii ..."))
    undisturbed = reference(node)
    for job in undisturbed.jobs:
        say(_("      {name}: {seconds:.1f} s of CPU time").format(name=job.name, seconds=job.needs))
    say(_("Now the same again, with moves, in a plain shell on mCii:"))
    moving = Moving(node, undisturbed)
    moving.go()
    return table(moving.run, undisturbed)


_ENDING = (signal.SIGTERM, signal.SIGHUP)


def _end(signum: int, _frame: FrameType | None) -> None:
    """End as Ctrl-C does, so that the lab is taken down."""
    raise KeyboardInterrupt(signum)


def main() -> int:
    """Run the demonstration; exit status 1 if anything differs or goes wrong."""
    os.environ.setdefault("OMLAB_NAME", "demo")
    for signum in _ENDING:
        signal.signal(signum, _end)
    begun = time.monotonic()
    try:
        same = demonstrate()
    except (Failed, LabError, OmError, OSError, subprocess.SubprocessError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(_("demo: interrupted; the lab is down."), file=sys.stderr)
        return 130
    say(_("{seconds:.0f} s in all; the lab is down.").format(seconds=time.monotonic() - begun))
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
