from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path

import pytest

from omtools.agent import gauge, log
from omtools.agent.gauge import Gauge
from omtools.cluster.load import Loads, Memory
from omtools.cluster.vector import MB
from omtools.errors import BadConfiguration
from omtools.linux import cgroup
from omtools.linux.cgroup import MemoryLimit


def test_the_speed_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Gauge(tmp_path).speed
    assert 100 < first < 1_000_000
    monkeypatch.setattr(gauge, "measure_speed", lambda: 1 / 0)
    assert Gauge(tmp_path).speed == first
    assert Gauge(tmp_path, 12345).speed == 12345


@pytest.mark.parametrize("content", ["", "fast", "-5"])
def test_a_broken_cache_is_measured_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    (tmp_path / "speed").write_text(content)
    monkeypatch.setattr(gauge, "measure_speed", lambda: 777)
    assert Gauge(tmp_path).speed in {1, 777}


@pytest.mark.parametrize("counted", [True, False])
async def test_it_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, counted: bool) -> None:
    monkeypatch.setattr(gauge, "INTERVAL", 0.01)
    monkeypatch.setattr(gauge, "_count_running", lambda _passing: 3)
    monkeypatch.setattr(gauge, "_read", lambda _path: "0 0 0 4/100 7\n")
    made = Gauge(tmp_path, 20000)
    made.cpus = 1
    made._counted = counted
    made.start()
    await asyncio.sleep(0.1)
    made.stop()
    assert made.loads.now == 150.0


async def test_an_unreadable_proc_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gauge, "INTERVAL", 0.01)
    monkeypatch.setattr(gauge, "_read", lambda _path: "nonsense")
    made = Gauge(tmp_path, 1)
    made._counted = False
    made.start()
    await asyncio.sleep(0.05)
    made.stop()
    assert made.loads.now == 0
    assert made.memory().total == 0
    assert made.util() == 100


def test_this_machine(tmp_path: Path) -> None:
    made = Gauge(tmp_path, 1)
    memory = made.memory()
    assert memory.total >= memory.available > 0
    assert 0 <= made.util() <= 100


def test_a_running_process_is_counted() -> None:
    before = gauge._count_running()
    child = os.fork()
    if child == 0:
        while True:
            pass
    try:
        deadline = time.monotonic() + 10
        while gauge._count_running() <= before and time.monotonic() < deadline:
            before = min(before, gauge._count_running())
        assert time.monotonic() < deadline
        while gauge._count_running({child}) > before and time.monotonic() < deadline:
            pass
        assert time.monotonic() < deadline
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


@pytest.mark.parametrize(("quota", "cpus", "speed"), [
    (None, 4, 10000), (8.0, 4, 10000), (2.0, 2, 10000), (1.5, 2, 7500), (0.25, 1, 2500),
])  # fmt: skip
def test_a_control_group_makes_a_slower_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: float | None, cpus: int, speed: int
) -> None:
    monkeypatch.setattr(cgroup, "cpu_limit", lambda _groups: quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: range(4))
    (tmp_path / "speed").write_text("10000")
    made = Gauge(tmp_path)
    assert (made.cpus, made.speed) == (cpus, speed)
    assert Gauge(tmp_path, 12345).speed == 12345  # somebody has said what it is


def test_a_control_group_limits_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Gauge(tmp_path, 1).memory()
    monkeypatch.setattr(cgroup, "memory_limit", lambda _groups: MemoryLimit(100 * MB, 80 * MB, 30 * MB))
    assert Gauge(tmp_path, 1).memory() == Memory(100 * MB, 20 * MB, 50 * MB)
    assert Gauge(tmp_path, 1, limit=1 << 60).memory().total == 100 << 20
    monkeypatch.setattr(cgroup, "memory_limit", lambda _groups: MemoryLimit(1 << 50, 0, 0))
    assert Gauge(tmp_path, 1).memory().total == whole.total


# ----------------------------------------------------------------------------------------------- log


def test_one_event_is_one_line(tmp_path: Path) -> None:
    root, own = logging.getLogger(), logging.getLogger("openmosix")
    before = root.handlers[:], root.level, own.level
    file = tmp_path / "log"
    try:
        log.set_up(7, file)
        log.info("said\nin two lines", pid=4711, mig="", why="a\x1b[31m b")
        log.debug("not shown")
        log.failed("it broke", ValueError("no"), pid=1)
        root.handlers[0].close()
        log.set_up(7, file, debug=True)
        log.debug("shown")
        log.failed("it broke", ValueError("no"))
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers, root.level = before[0], before[1]
        own.setLevel(before[2])
    lines = file.read_text().splitlines()
    assert lines[0].endswith("INFO node=7 said\\x0ain two lines pid=4711 why=a\\x1b[31m b")
    assert lines[1].endswith("ERROR node=7 it broke: ValueError: no pid=1")
    assert lines[2].endswith("DEBUG node=7 shown")


def test_a_log_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="nowhere"):
        log.set_up(1, tmp_path / "nowhere/log")


def test_another_speed_does_not_make_other_tasks_of_what_runs(tmp_path: Path) -> None:
    one = Gauge(tmp_path, 10000)
    one.loads = Loads(200.0, 150.0, 400.0)
    one.set_speed(40000)
    assert (one.loads.now, one.loads.mean, one.loads.upper) == (50.0, 37.5, 100.0)
    one.set_speed(0)
    assert one.loads.upper == 400.0
