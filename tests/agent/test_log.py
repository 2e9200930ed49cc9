from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from omtools.agent import log


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    """A log file; afterwards logging is as it was."""
    root = logging.getLogger()
    before, level, own = root.handlers, root.level, logging.getLogger("openmosix").level
    yield tmp_path / "log"
    for handler in root.handlers:
        if handler not in before:
            handler.close()
    root.handlers = before
    root.setLevel(level)
    logging.getLogger("openmosix").setLevel(own)


def test_lines_name_node_pid_and_migration(file: Path) -> None:
    log.set_up(7, file)
    with log.about(pid=4711):
        log.info("one")
        with log.about(mig="1-4711-ab"):
            log.info("two", to="metrakilate")
        with log.about_nothing():
            log.info("three")
    log.info("four\nfive", why="a\x1bb")
    lines = [line.split("INFO ", 1)[1] for line in file.read_text().splitlines()]
    assert lines == [
        "node=7 one pid=4711",
        "node=7 two pid=4711 mig=1-4711-ab to=metrakilate",
        "node=7 three",
        "node=7 four\\x0afive why=a\\x1bb",
    ]


def test_what_the_agent_starts_complains_into_the_same_file(file: Path) -> None:
    log.set_up(7)
    assert log.descriptor() is None
    log.set_up(7, file)
    descriptor = log.descriptor()
    assert descriptor is not None
    os.write(descriptor, b"a worker\n")
    assert file.read_text() == "a worker\n"


def test_json(file: Path) -> None:
    log.set_up(7, file, as_json=True, debug=True)
    with log.about(pid=4711, mig="m"):
        log.info("moved", bytes=10, path=Path("/x"), nothing=None)
    try:
        raise ValueError("no\nsense")
    except ValueError as error:
        log.failed("it failed", error)
    logging.getLogger("elsewhere").warning("%s happens", "this")
    first, second, third = [json.loads(line) for line in file.read_text().splitlines()]
    assert {key: first[key] for key in first if key != "time"} == {
        "level": "INFO", "node": 7, "event": "moved", "pid": 4711, "mig": "m", "bytes": 10, "path": "/x",
    }  # fmt: skip
    assert second["event"].startswith("it failed: ValueError: no")
    assert "Traceback" in second["trace"]
    assert (third["event"], third["level"]) == ("this happens", "WARNING")


async def test_tasks_begun_within_are_about_the_same(file: Path) -> None:
    log.set_up(7, file)

    async def later() -> None:
        await asyncio.sleep(0)
        log.info("later")

    with log.about(pid=1):
        task = asyncio.create_task(later())
    await task
    assert file.read_text().endswith("node=7 later pid=1\n")
