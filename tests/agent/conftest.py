from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from short import short_directory

from .support import Cluster


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory with a short path (unix sockets), gone afterwards."""
    directory = short_directory()
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
async def pair(short: Path) -> AsyncIterator[Cluster]:
    """Two nodes, both agents running."""
    cluster = Cluster(short, 2)
    cluster.engine.owners[4711] = os.getuid()
    await cluster.start()
    yield cluster
    await cluster.end()


@pytest.fixture
async def apart(short: Path) -> AsyncIterator[Cluster]:
    """Two nodes whose agents are still to be started: what they trust must be settled before they meet."""
    cluster = Cluster(short, 2)
    cluster.engine.owners[4711] = os.getuid()
    yield cluster
    await cluster.end()


@pytest.fixture
async def three(short: Path) -> AsyncIterator[Cluster]:
    """Three nodes, all agents running."""
    cluster = Cluster(short, 3)
    cluster.engine.owners[4711] = os.getuid()
    await cluster.start()
    yield cluster
    await cluster.end()
