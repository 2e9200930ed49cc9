"""Labs for tests: as root and as an ordinary user."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lab.labs import Omlab, labs_of


@pytest.fixture(params=["root", "nobody"] if os.geteuid() == 0 else ["self"])
def omlab(request: pytest.FixtureRequest) -> Iterator[Omlab]:
    """An omlab of root and one of an ordinary user; run as an ordinary user, that one only."""
    yield from labs_of(request.param)


@pytest.fixture
def my_omlab() -> Iterator[Omlab]:
    """An omlab of the user that runs the tests, where it makes no difference who that is."""
    yield from labs_of("root" if os.geteuid() == 0 else "self")
