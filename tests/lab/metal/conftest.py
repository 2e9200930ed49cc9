"""The image of the emulated machines: built once for all tests, and kept by content as for every user."""

from __future__ import annotations

from pathlib import Path

import pytest

from omtools.lab.metal import image


@pytest.fixture(scope="session")
def built() -> Path:
    """The cache of the user that runs the tests, with an image in it."""
    image.build()
    return image.cache_directory()
