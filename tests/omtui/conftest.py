from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from short import short_directory

from omtui.simulated import SimulatedAgent
from omtui.world import World


@pytest.fixture
async def agent() -> AsyncIterator[SimulatedAgent]:
    """The agent of a made-up cluster of eight nodes whose time stands still."""
    async with SimulatedAgent(World(8, 40), tick=None) as simulated:
        yield simulated


@pytest.fixture
def run() -> Iterator[Path]:
    """A run directory with a path short enough for unix sockets."""
    directory = short_directory()
    yield directory
    shutil.rmtree(directory)
