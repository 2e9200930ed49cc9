from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from agent.support import Cluster
from short import short_directory

FAKE = Path(__file__).with_name("fake_omagentd.py")
ROOT = Path(__file__).parents[2]


@dataclass
class Nodes:
    """Two nodes whose agents are processes of their own."""

    cluster: Cluster
    agents: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def environment(self, number: int) -> dict[str, str]:
        """The environment of somebody who works on that node."""
        return {
            **os.environ,
            "OPENMOSIX_RUN": str(self.cluster.run(number)),
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "OPENMOSIX_CONFIG": str(self.cluster.config(number)),
            "LC_ALL": "C.UTF-8",
        }

    def start(self, number: int) -> None:
        """Start an agent and wait until it serves."""
        hears, says = os.pipe()
        log = self.cluster.directory / f"{number}.log"
        self.agents[number] = subprocess.Popen(
            [sys.executable, str(FAKE), "--ready-fd", str(says), "--log", str(log)],
            env=self.environment(number),
            pass_fds=[says],
        )
        os.close(says)
        with os.fdopen(hears, "rb") as pipe:
            assert pipe.read() == b"ready\n"

    def stop(self, number: int) -> int:
        """End an agent; returns its exit status."""
        agent = self.agents.pop(number)
        agent.send_signal(signal.SIGTERM)
        return agent.wait(20)

    def run(self, command: str, *arguments: str, node: int = 1) -> subprocess.CompletedProcess[str]:
        """Run one of the commands on a node."""
        return subprocess.run(
            [sys.executable, "-m", f"omtools.commands.{command}", *arguments],
            text=True,
            env=self.environment(node),
            capture_output=True,
            timeout=30,
            check=False,
        )

    @contextlib.contextmanager
    def begin(self, command: str, *arguments: str, node: int = 1) -> Iterator[subprocess.Popen[str]]:
        """Start one of the commands on a node; it is ended afterwards."""
        words = [sys.executable, "-m", f"omtools.commands.{command}", *arguments]
        with subprocess.Popen(
            words, text=True, env=self.environment(node), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    directory = short_directory()
    running = Nodes(Cluster(directory, 2))
    try:
        for number in (1, 2):
            running.start(number)
        yield running
    finally:
        for number in list(running.agents):
            running.stop(number)
        shutil.rmtree(directory)


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory with a short path."""
    directory = short_directory()
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def sleeper() -> Iterator[int]:
    """A process to move."""
    process = subprocess.Popen(["sleep", "600"])
    yield process.pid
    process.kill()
    process.wait()
