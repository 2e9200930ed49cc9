"""A lab with omsh's commands on its nodes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator

import pytest

from omtools.lab.lab import Lab
from omtools.shell.toolbox import furnish

_counter = itertools.count(1)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two nodes for all tests of a file."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OMLAB_NAME", f"s{os.getpid()}-{next(_counter)}")
        environment.delenv("OMLAB_AGENT", raising=False)
        with Lab.up() as up:
            furnish(up)
            yield up
