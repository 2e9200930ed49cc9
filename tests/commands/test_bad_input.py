"""What every tool says when there is no agent, when it is of another version, and when nobody listens."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from omtools.agent import api
from omtools.errors import AgentVersion, NoAgent

from .conftest import ROOT, Nodes

ASKING = [
    ["mosctl", "status"], ["mosctl", "nodes"], ["mosctl", "expel"], ["mosctl", "lock", "1"], ["mosctl", "gettune"],
    ["mosctl", "events"], ["migrate", "1", "home"], ["mosrun", "-2", "true"], ["tune"], ["moslimit"],
    ["mps", "--json"], ["mps", "--guests"],
]  # fmt: skip


@pytest.fixture
def environment(short: Path, tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "OPENMOSIX_RUN": str(short),
        "OPENMOSIX_CONFIG": str(tmp_path / "nowhere"),
        "PYTHONPATH": str(ROOT),
        "LC_ALL": "C.UTF-8",
    }


def run(environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", f"omtools.commands.{command[0]}", *command[1:]],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("command", ASKING, ids=" ".join)
def test_no_agent(environment: dict[str, str], command: list[str]) -> None:
    done = run(environment, *command)
    assert (done.returncode, done.stdout) == (NoAgent.exit_status, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"{command[0]}: No omagentd answers at ")


@pytest.fixture
def another_version(environment: dict[str, str]) -> Iterator[None]:
    """An agent that has been upgraded under the tools."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{environment['OPENMOSIX_RUN']}/agent.sock")
        server.listen()

        def serve() -> None:
            while True:
                try:
                    client, _address = server.accept()
                except OSError:
                    return
                with client:
                    client.sendall(api.line_of(api.Hello(api.VERSION + 1, 1, "mCii")))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.usefixtures("another_version")
def test_an_agent_of_another_version(environment: dict[str, str]) -> None:
    for command in (["mosctl", "status"], ["migrate", "1", "home"], ["mps"], ["showmap"], ["tune"], ["mtop", "-b"]):
        done = run(environment, *command)
        assert done.returncode == AgentVersion.exit_status, command
        assert done.stderr == (
            f"{command[0]}: The agent is version {api.VERSION + 1}, this command is version {api.VERSION}. "
            "Restart the agent after an upgrade: running migrated processes survive it.\n"
        )


@pytest.mark.parametrize("command", [["mosctl", "events"], ["mosctl", "status", "--watch", "0.1"], ["mps", "-e"], ["mtop", "-b", "-d", "0.1"]],
                         ids=" ".join)  # fmt: skip
def test_a_reader_that_closes_the_pipe(nodes: Nodes, command: list[str]) -> None:
    reads, writes = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", f"omtools.commands.{command[0]}", *command[1:]],
        stdout=writes, stderr=subprocess.PIPE, env=nodes.environment(1),
    )  # fmt: skip
    os.close(reads)
    os.close(writes)
    if "events" in command:  # it writes when something happens, once it listens
        while process.poll() is None:
            nodes.run("mosctl", "quiet")
    _output, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, b"")


def test_a_name_that_nobody_has(nodes: Nodes) -> None:
    done = nodes.run("mosctl", "status", "metrakilat")
    assert done.returncode == 20
    assert done.stderr.endswith("Did you mean `metrakilate`?\n")
    done = nodes.run("mosctl", "sttus")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.endswith("Did you mean `status`?\n")
    done = nodes.run("mosctl", "status", "--on", "2")
    assert done.returncode == 2
    assert done.stderr == (
        "mosctl: --on does not go with `mosctl status`; `mosctl status --help` shows what does.\n"
    )


def test_another_node_is_told(nodes: Nodes, sleeper: int) -> None:
    assert nodes.run("mosctl", "-block", "--on", "2").returncode == 0
    assert nodes.run("mosctl", "stay", "--on", "metrakilate").returncode == 0
    assert "STAY" in nodes.run("mosctl", "status", "2").stdout
    assert nodes.run("mosctl", "lock", str(sleeper)).stdout.startswith(f"Process {sleeper} does not move")
    nodes.run("migrate", str(sleeper), "2")
    assert nodes.run("mosctl", "expel", "--on", "2", "--json").stdout == '{"moved":1,"failures":[]}\n'
    nodes.stop(2)
    for command in (["mosctl", "block", "--on", "2"], ["moslimit", "--on", "2"], ["mosctl", "expel", "--on", "2"]):
        assert nodes.run(*command).returncode == 21


def test_yardstick_and_decay(nodes: Nodes) -> None:
    assert nodes.run("mosctl", "setyard", "this").stdout == "The yardstick is 10000 from now on.\n"
    assert nodes.run("mosctl", "setyard", "20000", "--json").stdout == '{"yardstick":20000}\n'
    assert nodes.run("mosctl", "getyard").stdout == "20000\n"
    assert nodes.run("mosctl", "getspeed").stdout == "5000\n"
    assert nodes.run("mosctl", "setyard", "PIII-1000").stdout == "The yardstick is 25000 from now on.\n"
    for wrong in ("0", "fast", "10000001", "-3"):
        assert nodes.run("mosctl", "setyard", wrong).returncode == 2
    told = "Every 2 s, 900 of 1000 are kept (slow decay) or 800 (fast decay).\n"
    assert nodes.run("mosctl", "setdecay", "2", "900", "800").stdout == told
    assert nodes.run("mosctl", "getdecay").stdout == told
    assert nodes.run("mosctl", "getdecay", "--json").stdout == '{"interval_s":2.0,"slow":900,"fast":800}\n'
    assert nodes.run("mosctl", "setdecay", "0", "900", "800").returncode == 2
    there = "Every 4 s, 700 of 1000 are kept (slow decay) or 600 (fast decay).\n"
    assert nodes.run("mosctl", "setdecay", "--on", "2", "4", "700", "600").stdout == there
    assert nodes.run("mosctl", "getdecay", "--on", "metrakilate").stdout == there
    assert nodes.run("mosctl", "getdecay").stdout == told
