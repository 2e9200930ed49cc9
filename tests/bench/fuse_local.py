"""What a mount of this machine's own files costs: `python tests/bench/fuse_local.py [DIRECTORY]`, as root.

A table of the plain directory, a mount of it whose data this program carries, and one whose data the kernel
carries itself (FUSE_PASSTHROUGH). DIRECTORY is best on a tmpfs. Figures are medians of five rounds.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from linux.fuse_support import own_mounts
from omfs.fuse_support import mounted

ROUNDS = 5
MEBIBYTES = 64
CALLS = 2000


def rate(count: int, work: Callable[[], None]) -> float:
    """Per second, the median of some rounds."""
    rates = []
    for _round in range(ROUNDS):
        begun = time.perf_counter()
        work()
        rates.append(count / (time.perf_counter() - begun))
    return statistics.median(rates)


def names_of(place: Path) -> tuple[float, float]:
    """Rates of stat and of create (with close and unlink, which are not counted as calls of their own)."""
    (place / "one").touch()

    def look() -> None:
        for _call in range(CALLS):
            os.stat(place / "one")

    def make() -> None:
        for number in range(CALLS // 4):
            path = place / str(number)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            os.unlink(path)

    return rate(CALLS, look), rate(CALLS // 4, make)


def data_of(place: Path) -> tuple[float, float, float]:
    """Sequential writing and reading by 1 MiB in MB/s, and the median of a random 4 KiB read in microseconds."""
    piece = random.randbytes(1 << 20)
    opened = os.open(place / "big", os.O_RDWR | os.O_CREAT)

    def write() -> None:
        for number in range(MEBIBYTES):
            os.pwrite(opened, piece, number << 20)

    def read() -> None:
        for number in range(MEBIBYTES):
            os.pread(opened, 1 << 20, number << 20)

    try:
        written = rate(MEBIBYTES, write) * 1.048576
        got = rate(MEBIBYTES, read) * 1.048576
        times = []
        for _call in range(CALLS):
            offset = random.randrange(MEBIBYTES << 8) << 12
            begun = time.perf_counter_ns()
            os.pread(opened, 4096, offset)
            times.append(time.perf_counter_ns() - begun)
        return written, got, statistics.median(times) / 1000
    finally:
        os.close(opened)


def measure(place: Path) -> list[float]:
    """All figures of one place."""
    place.mkdir()
    try:
        return [*names_of(place), *data_of(place)]
    finally:
        shutil.rmtree(place)


WHAT = ("stat/s", "create+unlink/s", "write 1 MiB, MB/s", "read 1 MiB, MB/s", "random read 4 KiB, us (p50)")


def main() -> None:
    """Measure and print."""
    base = Path(tempfile.mkdtemp(prefix="om", dir=sys.argv[1] if sys.argv[1:] else "/dev/shm"))
    kinds = ("local", "through", "remote")
    figures: dict[str, list[float]] = {}
    try:
        (base / "back").mkdir()
        figures["plain"] = measure(base / "back/plain")
        for kind in kinds:
            with own_mounts(), mounted(base / "back", base / kind, kind) as target:
                figures[kind] = measure(target / "place")
    finally:
        shutil.rmtree(base)
    print(f"{'':28}{'plain':>10}" + "".join(f"{kind:>10}{'ratio':>8}" for kind in kinds))
    for index, what in enumerate(WHAT):
        plain = figures["plain"][index]
        cells = "".join(f"{figures[kind][index]:10.0f}{figures[kind][index] / plain:8.3f}" for kind in kinds)
        print(f"{what:28}{plain:10.1f}{cells}")


if __name__ == "__main__":
    main()
