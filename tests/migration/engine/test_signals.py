"""Signals to, from and in a process that moves."""

from __future__ import annotations

from pathlib import Path

import pytest

from .journey import TOURS, build, compare
from .nest import Nest

CASES = (
    "from_child", "while_computing", "to_itself", "realtime_queue", "blocked_then_unblocked", "nested",
    "alternate_stack", "moved_on_alternate_stack", "faults", "mending", "broken_pipe", "child_ends", "timers", "dispositions", "inherited",
)  # fmt: skip


@pytest.mark.parametrize("tour", TOURS)
@pytest.mark.parametrize("case", CASES)
async def test_signals(nest: Nest, tmp_path: Path, workshop: Path, case: str, tour: str) -> None:
    said = await compare(nest, [build("signals", workshop), case], TOURS[tour], tmp_path)
    assert said.endswith("status 0")
    assert "FAILED" not in said
