"""Files of the node where a process runs, with DFSA and without, against the same work at home: `make bench`.

    python tests/bench/dfsa_figures.py [--write] [--directory DIR]

Three processes of one program: one that stays, one that is away and opens its files where it runs, one that is
away and has its deputy open them. They work in turn, each in a directory of its own beside the others', on a
command at a time, so that what else the machine does falls on all of them. `--write` puts it into RESULTS.md.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from migration.engine.nest import Nest, nest, program

from omtools.migration.reach import Export, Reach

ROUNDS = 15
BOUND = 0.95
TITLE = "## Files where the process runs (DFSA)"
WORK = {
    "PostMark-like, blocks of 64 B": ("mix 64 3000", "mix 64 60"),
    "PostMark-like, blocks of 512 B": ("mix 512 3000", "mix 512 60"),
    "PostMark-like, blocks of 4 KiB": ("mix 4096 3000", "mix 4096 60"),
    "PostMark-like, blocks of 16 KiB": ("mix 16384 3000", "mix 16384 60"),
    "random reads and writes of 4 KiB": ("random 4096 40000", "random 4096 400"),
    "one after the other, 1 MiB": ("stream 1048576 64", "stream 1048576 4"),
}
PAPER = """\
The original's table (PostMark, seconds, blocks of 64 B to 16 KiB): local 100 to 103, with DFSA 104 to 106, NFS 156
to 184, without DFSA 125 to 1711: with DFSA 0.96 to 0.98 of local, without it 0.06 to 0.82.
"""


async def started(stack: AsyncExitStack, binary: Path, directory: Path) -> asyncio.subprocess.Process:
    """The program, waiting for commands in a directory of its own."""
    directory.mkdir()
    here = Path.cwd()
    os.chdir(directory)
    try:
        process = await stack.enter_async_context(program(binary))
    finally:
        os.chdir(here)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"ready\n"
    return process


async def seconds(process: asyncio.subprocess.Process, command: str) -> float:
    """Have it do one thing; how long it took."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(command.encode() + b"\n")
    return float(await process.stdout.readline())


async def measure(directory: Path) -> list[str]:
    """The lines of the table."""
    binary = directory / "filework"
    source = Path(__file__).with_name("programs") / "filework.c"
    subprocess.run(["cc", "-O2", "-Wall", "-o", str(binary), str(source)], check=True)
    cluster, elsewhere = directory / "cluster", directory / "elsewhere"
    files = cluster / "2" / "data"
    files.mkdir(parents=True)
    elsewhere.mkdir()
    (elsewhere / "2").symlink_to(cluster / "2")
    async with AsyncExitStack() as stack:
        made: Nest = await stack.enter_async_context(nest(directory / "run"))
        home = await started(stack, binary, files / "home")
        off = await started(stack, binary, files / "off")
        await made.away(off.pid)
        made.reach = Reach(str(cluster), str(elsewhere), {"node2": 2}, [Export("/")], str(cluster / "2"))
        away = await started(stack, binary, files / "away")
        await made.away(away.pid)
        return [await line(name, home, away, off) for name in WORK]


async def line(name: str, *processes: asyncio.subprocess.Process) -> str:
    """Measure one kind of work."""
    home, away, off = processes
    whole, part = WORK[name]
    at_home, there, ratios = [], [], []
    for _round in range(ROUNDS):
        at_home.append(await seconds(home, whole))
        there.append(await seconds(away, whole))
        ratios.append(at_home[-1] / there[-1])
    without = [await seconds(home, part) / await seconds(off, part) for _round in range(3)]
    ratio = statistics.median(ratios)
    times = f"{statistics.median(at_home) * 1000:.1f} ms | {statistics.median(there) * 1000:.1f} ms"
    spread = f"x {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}; of the best {min(at_home) / min(there):.2f})"
    reached = "yes" if ratio >= BOUND else "NO"
    return f"| {name} | {times} | {spread} | >= {BOUND} | {reached} | x {statistics.median(without):.3f} |"


def main() -> int:
    """Measure, print, and with --write keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--write", action="store_true", help="put it into RESULTS.md beside this file")
    parser.add_argument("--directory", help="where the files are (a temporary directory)")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        lines = asyncio.run(measure(Path(directory)))
    machine = f"{os.cpu_count()} CPUs, Linux {platform.release()}, load at the start {load:.1f}; `make bench`"
    table = "\n".join([
        TITLE, "", f"{time.strftime('%Y-%m-%d')}, {machine}", "",
        f"Medians of {ROUNDS} rounds, by turns; the ratio says how much of home's speed is left.", "",
        "| work | at home | away | ratio | bound | reached | by the deputy |",
        "| --- | --- | --- | --- | --- | --- | --- |", *lines, "", PAPER,
    ])  # fmt: skip
    sys.stdout.write(table)
    if arguments.write:
        results = Path(__file__).with_name("RESULTS.md")
        before, _title, after = (results.read_text() if results.exists() else "").partition(TITLE)
        others = after[after.find("\n## ") :] if "\n## " in after else ""
        results.write_text(f"{before.rstrip()}\n\n{table}{others}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
