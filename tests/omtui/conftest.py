from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from omtui.simulated import SimulatedAgent
from omtui.world import World


@pytest.fixture
async def agent() -> AsyncIterator[SimulatedAgent]:
    """The agent of a made-up cluster of eight nodes whose time stands still."""
    async with SimulatedAgent(World(8, 40), tick=None) as simulated:
        yield simulated
