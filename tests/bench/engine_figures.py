"""What the engine must reach, measured as ratios in one run: `make bench`.

    python tests/bench/engine_figures.py [--write] [--only NAME]

Each figure stands beside the same work over a plain blocking TLS socket, between two processes of this
machine, in the same minute: machines differ, ratios less so. `--write` puts them into RESULTS.md.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from migration.engine.nest import Nest, compiled, nest, program

from omtools.agent.certificates import make_identity
from omtools.migration.frames import Kind
from omtools.migration.link import Link, accept, connect
from omtools.migration.orders import Credentials, Endpoint

MB = 1 << 20
RUNS = 5


@dataclass(frozen=True)
class Figure:
    """One line of the report."""

    name: str
    measured: str
    compared: str
    bound: str
    reached: bool


@contextlib.contextmanager
def plain_tls(serve: Callable[[Link], None], cpu: int | None = None) -> Iterator[Link]:
    """A blocking TLS connection to a forked process that runs `serve`."""
    here, there = make_identity("here"), make_identity("there")
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    child = os.fork()
    if child == 0:
        try:
            if cpu is not None:
                os.sched_setaffinity(0, {cpu})
            link = accept(listener, Credentials(there.certificate, there.key, here.certificate), 10)
            serve(link)
        finally:
            os._exit(0)
    listener.close()
    link = connect(Endpoint("127.0.0.1", port), Credentials(here.certificate, here.key, there.certificate))
    try:
        yield link
    finally:
        link.close()
        os.waitpid(child, 0)


def tls_seconds(amount: int) -> float:
    """How long a plain TLS socket needs for so many bytes, until the receiver has said that it has them."""

    def drain(link: Link) -> None:
        buffer = memoryview(bytearray(MB))
        left = amount
        while left:
            piece = buffer[: min(MB, left)]
            link.receive_into(piece)
            left -= len(piece)
        link.send(Kind.READY)

    with plain_tls(drain) as link:
        data = memoryview(os.urandom(MB))
        begun = time.perf_counter()
        left = amount
        while left:
            piece = data[: min(MB, left)]
            link._socket.sendall(piece)
            left -= len(piece)
        link.receive()
        return time.perf_counter() - begun


def tls_round_trip(cpus: tuple[int, int]) -> float:
    """Median seconds of a 128-byte round trip over blocking TLS, each side on its own CPU."""
    size = 128

    def echo(link: Link) -> None:
        buffer = memoryview(bytearray(size))
        with contextlib.suppress(Exception):
            while True:
                link.receive_into(buffer)
                link._socket.sendall(buffer)

    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpus[0]})
    try:
        with plain_tls(echo, cpus[1]) as link:
            buffer = memoryview(bytearray(size))
            times = []
            for _turn in range(5000):
                begun = time.perf_counter()
                link._socket.sendall(buffer)
                link.receive_into(buffer)
                times.append(time.perf_counter() - begun)
            return statistics.median(times[500:])
    finally:
        os.sched_setaffinity(0, before)


HEAVY = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
    size_t size = strtoul(argv[1], 0, 10) << 20;
    unsigned int *memory = malloc(size), x = 1;
    for (size_t i = 0; i < size / 4; i++) memory[i] = x = x * 1664525u + 1013904223u;
    puts("ready");
    fflush(stdout);
    for (;;) pause();
}
"""

CALLS = r"""
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>
static int compare(const void *a, const void *b) { double d = *(double *)a - *(double *)b; return (d > 0) - (d < 0); }
int main(void) {
    static double times[5000];
    char line[16];
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        for (int i = 0; i < 5000; i++) {
            struct timespec a, b;
            clock_gettime(CLOCK_MONOTONIC, &a);
            syscall(SYS_getppid);
            clock_gettime(CLOCK_MONOTONIC, &b);
            times[i] = (b.tv_sec - a.tv_sec) * 1e6 + (b.tv_nsec - a.tv_nsec) / 1e3;
        }
        qsort(times + 500, 4500, sizeof *times, compare);
        printf("%.2f\n", times[500 + 2250]);
        fflush(stdout);
    }
    return 0;
}
"""

COMPUTE = r"""
#include <stdio.h>
#include <time.h>
int main(void) {
    unsigned long x = 1;
    for (;;) {
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        for (long j = 0; j < 150000000; j++) x = x * 6364136223846793005UL + 1442695040888963407UL;
        clock_gettime(CLOCK_MONOTONIC, &b);
        printf("%.6f %lu\n", (b.tv_sec - a.tv_sec) + (b.tv_nsec - a.tv_nsec) / 1e9, x);
        fflush(stdout);
    }
}
"""


async def frozen(home: Nest, folder: Path, megabytes: int) -> Figure:
    """Frozen time of moves, against the bytes over a plain socket."""
    heavy = compiled(HEAVY, "heavy", folder)
    times, moved_bytes = [], 0
    async with program(heavy, str(megabytes)) as process:
        assert process.stdout is not None
        await process.stdout.readline()
        for _run in range(RUNS):
            moved = await home.away(process.pid)
            times.append(moved.state.statistics.frozen_ms)
            moved_bytes = moved.state.statistics.bytes_moved
            await moved.home()
    plain = statistics.median(tls_seconds(moved_bytes) * 1000 for _run in range(RUNS))
    median, bound = statistics.median(times), 15 + 1.3 * plain
    return Figure(
        f"frozen, {moved_bytes / MB:.0f} MB",
        f"{median:.1f} ms ({min(times):.1f} to {max(times):.1f})",
        f"plain TLS {plain:.1f} ms",
        f"15 ms + 1.3 x = {bound:.1f} ms",
        median <= bound,
    )


def _pin(pids: list[int], cpu: int) -> None:
    for pid in pids:
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(thread), {cpu})


async def forwarded(home: Nest, folder: Path) -> Figure:
    """A forwarded getppid from the remote's side, against a TLS round trip; the sides on different CPUs."""
    cpus = sorted(os.sched_getaffinity(0))[:2]
    calls = compiled(CALLS, "calls", folder)
    medians, trips = [], []
    async with program(calls) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        await process.stdout.readline()
        moved = await home.away(process.pid)
        guest = moved.guest.seen[-1] if moved.guest.seen else await moved.guest.until("away")
        _pin([process.pid, moved.state.keeper], cpus[0])
        _pin([guest.local_pid, guest.keeper], cpus[1])
        for _run in range(RUNS):
            process.stdin.write(b"go\n")
            medians.append(float(await process.stdout.readline()))
            trips.append(tls_round_trip((cpus[0], cpus[1])) * 1e6)
        process.stdin.close()
        await process.wait()
    call, trip = statistics.median(medians), statistics.median(trips)
    return Figure(
        "a forwarded getppid", f"{call:.0f} us", f"TLS round trip of 128 bytes {trip:.0f} us: x {call / trip:.2f}",
        "2 x", call <= 2 * trip,
    )  # fmt: skip


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _pss_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("Pss:"))) / 1024


async def computing(home: Nest, folder: Path) -> list[Figure]:
    """Speed of a CPU-bound process away, and what its keepers use meanwhile."""
    compute = compiled(COMPUTE, "compute", folder)
    at_home, away = [], []
    async with program(compute) as process:
        assert process.stdout is not None

        async def timed() -> float:
            assert process.stdout is not None
            return float((await process.stdout.readline()).split()[0])

        ticks = pss = 0.0
        for _run in range(RUNS):
            await timed()
            at_home += [await timed() for _turn in range(3)]
            moved = await home.away(process.pid)
            guest = moved.guest.seen[-1] if moved.guest.seen else await moved.guest.until("away")
            keepers = [moved.state.keeper, guest.keeper]
            await timed()
            before = sum(map(_cpu_ticks, keepers))
            away += [await timed() for _turn in range(3)]
            ticks = max(ticks, sum(map(_cpu_ticks, keepers)) - before)
            pss = max(pss, *map(_pss_mb, keepers))
            await moved.home()
    ratio = min(at_home) / min(away)
    seconds = 3 * min(away)
    return [
        Figure("a computing process away", f"{min(away):.4f} s", f"at home {min(at_home):.4f} s: x {ratio:.3f}",
               "0.99", ratio >= 0.99),
        Figure("CPU of both keepers meanwhile", f"{ticks:.0f} ticks in {seconds:.1f} s", "", "1 tick", ticks <= 1),
        Figure("memory of a keeper (PSS)", f"{pss:.1f} MB", "", "12 MB", pss <= 12),
    ]  # fmt: skip


async def measure(only: str) -> list[Figure]:
    """All figures, or those whose name has `only` in it."""
    figures: list[Figure] = []
    folder = Path(tempfile.mkdtemp(prefix="omtools-bench-"))
    try:
        async with nest(folder / "run") as home:
            if only in "forwarded":
                figures.append(await forwarded(home, folder))
            if only in "computing":
                figures += await computing(home, folder)
            if only in "frozen":
                for megabytes in (13, 100, 1024):
                    figures.append(await frozen(home, folder, megabytes))
    finally:
        shutil.rmtree(folder)
    return figures


def render(figures: list[Figure]) -> str:
    """A Markdown table with machine and date."""
    processor = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")), "unknown",
    )  # fmt: skip
    head = (
        f"{time.strftime('%Y-%m-%d')}, {processor}, {os.cpu_count()} CPUs, Linux {platform.release()}, "
        f"Python {platform.python_version()}; `make bench`\n\n"
        "| figure | measured | compared with | bound | reached |\n|---|---|---|---|---|\n"
    )
    return head + "".join(
        f"| {f.name} | {f.measured} | {f.compared} | {f.bound} | {'yes' if f.reached else 'NO'} |\n" for f in figures
    )


def main() -> int:
    """Measure, print, and with --write keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--write", action="store_true", help="write RESULTS.md beside this file")
    parser.add_argument("--only", default="", help="only figures of this group: frozen, forwarded, computing")
    arguments = parser.parse_args()
    if shutil.which("cc") is None:
        sys.stderr.write("The bench compiles three small programs: a C compiler (cc) is missing.\n")
        return 2
    subprocess.run(["cc", "--version"], check=True, stdout=subprocess.DEVNULL)
    figures = asyncio.run(measure(arguments.only))
    table = render(figures)
    sys.stdout.write(table)
    if arguments.write:
        results = Path(__file__).with_name("RESULTS.md")
        _own, mark, others = results.read_text().partition("\n## ") if results.exists() else ("", "", "")
        results.write_text(f"# What the engine reaches\n\n{table}{mark}{others}")
    return 0 if all(figure.reached for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
