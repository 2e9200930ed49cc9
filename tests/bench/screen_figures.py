"""What omtui must reach with a thousand nodes and ten thousand processes: start, cost at rest, frames when scrolling.

    python tests/bench/screen_figures.py [--nodes N] [--processes N] [--seconds N] [--start-only]

The cluster is made up, and moves a process now and then; its agent is a process of its own and speaks the real API.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import importlib
import os
import pty
import select
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

SIZE = struct.pack("HHHH", 40, 120, 0, 0)  # struct winsize: lines, columns
QUESTION, ANSWER = b"\x1b[?2026$p", b"\x1b[?2026;2$y"  # may frames be marked? they may
FRAME = b"\x1b[?2026h"
PAGES = ("cluster", "processes", "migmon", "live", "mosmon")
SETTLED = 8.0  # seconds from the start to the first figure
KEYS_PER_S = 25
WORK = {
    "scrolling": ["j"],
    "paging": ["\x1b[6~"] * 24 + ["\x1b[5~"] * 24,
    "filtering": ["/", *"povray", *["\x7f"] * 6],
}


MODULES = "omtui.main", "omtui.app", "omtui.host", "omtui.keynames", "omtui.keys", "omtui.source"
IMPORT = f"""
import time
wall, used = time.perf_counter(), time.process_time()
import {", ".join(MODULES)}
print(time.perf_counter() - wall, time.process_time() - used)
"""
IMPORT_S, PAINT_S = 0.6, 0.5
STARTS = 9
TOLD = "OMTUI_FIGURES_FD"  # where omtui writes when its modules are there


def show(socket: str, page: str, nodes: int, processes: int) -> None:
    """Be omtui, on a machine that has that many processes; or mosmon."""
    from omtui.frames import draw_in_time

    draw_in_time()
    for name in MODULES:
        importlib.import_module(name)
    from omtui.app import Omtui
    from omtui.local import LocalProcess, ThisMachine
    from omtui.main import be_thrifty
    from omtui.source import Source
    from omtui.world import World

    class Machine(ThisMachine):
        def __init__(self) -> None:
            super().__init__()
            self._all = World(nodes, processes).local()

        def processes(self) -> list[LocalProcess]:
            return self._all

    if page == "mosmon":
        from omtui.mosmon.app import Monitor
        from omtui.mosmon.settings import Settings

        Monitor(Source(Path(socket), "mosmon"), Settings()).run()
        return
    if TOLD in os.environ:
        os.write(int(os.environ[TOLD]), str(time.monotonic()).encode())
    be_thrifty()
    asyncio.run(Omtui(Source(Path(socket), machine=Machine()), page=page).run_async())


class Screen:
    """omtui on a terminal, and what it costs."""

    def __init__(self, arguments: list[str]) -> None:
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.environ["TERM"] = "xterm-256color"
            os.execv(sys.executable, [sys.executable, __file__, *arguments])
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, SIZE)

    def used(self) -> float:
        """Seconds of a processor so far, by schedstat (sched-stats.rst)."""
        threads = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9

    def watch(self, seconds: float, keys: list[str] | None = None) -> tuple[float, float]:
        """Share of a processor and frames per second, while keys are pressed."""
        typed, due, frames = cycle(keys or [""]), time.monotonic(), 0
        begun, used = due, self.used()
        while time.monotonic() < begun + seconds:
            if select.select([self._terminal], [], [], 0.01)[0]:
                data = os.read(self._terminal, 1 << 16)
                frames += data.count(FRAME)
                if QUESTION in data:
                    os.write(self._terminal, ANSWER)
            if keys and time.monotonic() >= due:
                os.write(self._terminal, next(typed).encode())
                due += 1 / KEYS_PER_S
        took = time.monotonic() - begun
        return (self.used() - used) / took, frames / took

    def until(self, text: bytes) -> float:
        """When that was on the terminal, seconds of the monotonic clock."""
        seen = b""
        while text not in seen:
            seen += (data := os.read(self._terminal, 1 << 16))
            if QUESTION in data:
                os.write(self._terminal, ANSWER)
        return time.monotonic()

    def end(self) -> None:
        """Ctrl-C."""
        os.write(self._terminal, b"\x03")
        while True:
            try:
                if not os.read(self._terminal, 1 << 16):
                    break
            except OSError:
                break
        os.close(self._terminal)
        os.waitpid(self.pid, 0)


@contextmanager
def agent(nodes: int, processes: int) -> Iterator[str]:
    """The agent of a made-up cluster."""
    with tempfile.TemporaryDirectory() as directory:
        socket = f"{directory}/agent.sock"
        command = [sys.executable, "-m", "omtui.simulated", "--socket", socket]
        command += ["--nodes", str(nodes), "--processes", str(processes)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            try:
                yield socket
            finally:
                process.terminate()


def start_up(socket: str, counts: list[str]) -> bool:
    """How long the modules take, and then the first picture: medians of processes of their own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    took = []
    for _start in range(STARTS):
        done = subprocess.run(
            [sys.executable, "-c", IMPORT], env=environment, capture_output=True, text=True, check=True
        )
        took.append([float(word) for word in done.stdout.split()])
    wall, used = (statistics.median(column) for column in zip(*took, strict=True))
    print(f"{'start':<10} import      {wall:6.2f} s, {used:.2f} s of a core (bound {IMPORT_S} s)", flush=True)
    tabs, rows = [], []
    for _start in range(STARTS):
        hears, says = os.pipe()
        os.set_inheritable(says, True)
        os.environ[TOLD] = str(says)
        screen = Screen(["--show", socket, "cluster", *counts])
        del os.environ[TOLD]
        os.close(says)
        begun = float(os.read(hears, 64))
        os.close(hears)
        tabs.append(screen.until(b"Cluster") - begun)
        rows.append(screen.until(b"mCii") - begun)
        screen.end()
    painted, filled = statistics.median(tabs), statistics.median(rows)
    print(f"{'start':<10} first paint {painted:6.2f} s, all nodes {filled:.2f} s (bound {PAINT_S} s)", flush=True)
    return wall <= IMPORT_S and filled <= PAINT_S


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--nodes", type=int, default=1000)
    options.add_argument("--processes", type=int, default=10_000)
    options.add_argument("--seconds", type=float, default=20.0)
    options.add_argument("--start-only", action="store_true", help="measure how it starts, and nothing else")
    options.add_argument("--show", nargs=2, metavar=("SOCKET", "PAGE"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.show:
        socket, page = given.show
        show(socket, page, given.nodes, given.processes)
        return 0
    counts = ["--nodes", str(given.nodes), "--processes", str(given.processes)]
    print(f"{given.nodes} nodes, {given.processes} processes; load of this machine {os.getloadavg()[0]:.1f}")
    good = True
    with agent(given.nodes, given.processes) as socket:
        good &= start_up(socket, counts)
        for page in () if given.start_only else PAGES:
            screen = Screen(["--show", socket, page, *counts])
            screen.watch(SETTLED)
            share, _frames = screen.watch(given.seconds)
            good &= share <= 0.02
            print(f"{page:<10} at rest     {share:6.1%} of a core (bound 2 %)", flush=True)
            for name, keys in WORK.items() if page in ("cluster", "processes") else ():
                share, frames = screen.watch(given.seconds / 2, keys)
                good &= share <= 0.3 and frames >= 20
                print(f"{page:<10} {name:<11} {share:6.1%} of a core (bound 30 %), {frames:.0f} frames/s (bound 20)", flush=True)
            screen.end()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
