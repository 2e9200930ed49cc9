"""What a process sees of itself and of its machine is the same wherever it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .journey import TOURS, build, compare
from .nest import Nest

MEMORY = ("heap", "maps", "stack", "shared", "map_files", "floating", "big_calls")
ITSELF = ("identity", "proc_self", "environment")
OTHERS = ("children", "becomes", "files", "sockets")


@pytest.mark.parametrize("tour", TOURS)
@pytest.mark.parametrize("case", [*MEMORY, *ITSELF, *OTHERS])
async def test_states(nest: Nest, tmp_path: Path, workshop: Path, case: str, tour: str) -> None:
    said = await compare(nest, [build("states", workshop), case], TOURS[tour], tmp_path)
    assert said.endswith("status 9" if case == "becomes" else "status 0")
    assert "FAILED" not in said


@pytest.mark.parametrize("tour", [(2,), (2, 3)])
async def test_cpu_time_away(nest: Nest, tmp_path: Path, workshop: Path, tour: tuple[int, ...]) -> None:
    assert "back" not in await compare(nest, [build("states", workshop), "cpu_time"], tour, tmp_path)


@pytest.mark.parametrize("kind", ["static", "fixed", "plain addresses"])
@pytest.mark.parametrize("case", ["heap", "stack", "identity", "children"])
async def test_kinds_of_programs(nest: Nest, tmp_path: Path, workshop: Path, case: str, kind: str) -> None:
    flags = {"static": ["-static"], "fixed": ["-no-pie", "-fno-pie"]}.get(kind, [])
    command: list[str | Path] = [build("states", workshop, *flags), case]
    if kind == "plain addresses":
        command = ["setarch", "-R", *command]
    assert "FAILED" not in await compare(nest, command, TOURS["to and fro"], tmp_path, dict(os.environ))
