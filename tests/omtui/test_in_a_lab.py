"""omtui on a node of a real lab, with real processes that really move."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.labs import Omlab, labs_of

PROGRAM = Path(__file__).with_name("on_a_node.py")


@pytest.fixture
def lab() -> Iterator[Omlab]:
    for omlab in labs_of("root" if os.geteuid() == 0 else "self"):
        del omlab.environment["OMLAB_AGENT"]
        yield omlab


def test_every_action_on_real_processes(lab: Omlab) -> None:
    lab.ok("up")
    assert lab.ok("exec", "mCii", "--", sys.executable, str(PROGRAM)).endswith("all done\n")
    # by now the nodes know each other
    text = lab.ok("exec", "mCii", "--", sys.executable, "-m", "omtui.main", "--once")
    assert "1 mCii: UP" in text
    assert "2 metrakilate: BLOCK" in text
    assert "LOAD" in lab.ok("exec", "mCii", "--", sys.executable, "-m", "omtui.mosmon.main", "--once")
