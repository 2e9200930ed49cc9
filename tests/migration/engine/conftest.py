"""Fixtures of the engine's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .nest import Nest, nest as make_nest


@pytest.fixture
async def nest(tmp_path: Path) -> AsyncIterator[Nest]:
    """Two nodes' keepers on this machine."""
    async with make_nest(tmp_path / "run") as made:
        yield made
        print(made.log()[-6000:])  # shown if the test failed


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where test programs are compiled, once for all tests of this worker."""
    return tmp_path_factory.mktemp("programs")
