from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from .conftest import Nodes


def seconds(arguments: list[str], environment: dict[str, str]) -> float:
    """The best of some runs."""
    times = []
    for _run in range(5):
        begun = time.perf_counter()
        subprocess.run(arguments, env=environment, check=True, capture_output=True)
        times.append(time.perf_counter() - begun)
    return min(times)


@pytest.mark.alone
def test_a_question_to_the_local_agent_costs_less_than_importing_asyncssh(nodes: Nodes) -> None:
    """The limit is 2.5 times as much; the design is far below."""
    environment = nodes.environment(1)
    yardstick = seconds([sys.executable, "-c", "import asyncssh"], environment)
    for command in (["mosctl", "getload"], ["mosctl", "status"], ["mps"]):
        name, *rest = command
        assert seconds([sys.executable, "-m", f"omtools.commands.{name}", *rest], environment) < yardstick


@pytest.mark.parametrize("name", [
    "migrate", "mosctl", "moslimit", "mosrun", "mps", "mtop", "omagentd", "omcomplete", "openmosix", "setpe",
    "showmap", "tune", "wrappers",
])  # fmt: skip
def test_commands_load_nothing_heavy(name: str) -> None:
    heavy = ("asyncssh", "asyncio", "cryptography", "rich", "argparse", "ssl")
    code = f"import sys; import omtools.commands.{name}; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout == "[]\n"


def test_a_closed_pipe_is_no_fault(nodes: Nodes) -> None:
    reads, writes = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "omtools.commands.mosctl", "status"],
        stdout=writes,
        stderr=subprocess.PIPE,
        env=nodes.environment(1),
    )
    os.close(reads)
    os.close(writes)
    _out, errors = process.communicate(timeout=20)
    assert errors == b""
    assert process.returncode == 0
