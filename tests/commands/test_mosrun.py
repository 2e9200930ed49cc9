from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from omtools.agent.client import talk
from omtools.cluster.process_settings import ProcessSettings
from omtools.commands.mosrun import parse
from omtools.errors import UsageError

from .conftest import Nodes


def start(nodes: Nodes, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "omtools.commands.mosrun", *arguments],
        text=True,
        env=nodes.environment(1),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def status(nodes: Nodes, *arguments: str) -> int:
    process = start(nodes, *arguments)
    process.communicate(timeout=20)
    return process.returncode


def soon(true: Callable[[], bool]) -> bool:
    """Wait until it is true; the helper of mosrun is nobody's child, so nobody can be waited for."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.02)
    return False


def away(nodes: Nodes) -> dict[int, int]:
    return {info["pid"]: info["where"] for info in json.loads(nodes.run("mps", "--json").stdout)}


@pytest.mark.parametrize("how", [["-2"], ["-N", "metrakilate"], ["-j2"], ["-j", "2-2"], ["-2", "-l"]])
def test_the_command_goes_there_under_the_pid_we_know(nodes: Nodes, how: list[str]) -> None:
    process = start(nodes, *how, "sleep", "600")
    assert soon(lambda: away(nodes) == {process.pid: 2})
    process.terminate()
    assert process.wait(10) == -signal.SIGTERM
    assert process.communicate() == ("", "")


@pytest.mark.parametrize("how", [[], ["-h"], ["-l"], ["-L"], ["-k"], ["--"], ["-hL"]])
def test_here_it_is_the_command_itself(nodes: Nodes, how: list[str]) -> None:
    done = start(nodes, *how, "sh", "-c", "echo $$; exit 7")
    output, errors = done.communicate(timeout=20)
    assert (done.returncode, errors) == (7, "")
    assert output == f"{done.pid}\n"


def test_the_command_has_no_child_it_does_not_know_of(nodes: Nodes) -> None:
    script = "import os, sys\ntry:\n    os.wait()\nexcept ChildProcessError:\n    print('none')"
    done = start(nodes, "-2", sys.executable, "-c", script)
    assert done.communicate(timeout=20) == ("none\n", "")


def test_z_gives_it_another_name(nodes: Nodes) -> None:
    done = start(nodes, "-h", "-z", "sh", "other name", "-c", 'echo "$0"')
    assert done.communicate(timeout=20)[0] == "other name\n"


def test_the_node_is_down_or_refuses(nodes: Nodes) -> None:
    nodes.run("mosctl", "block", node=2)
    blocked = start(nodes, "-2", "echo", "ran")
    output, errors = blocked.communicate(timeout=20)
    assert (blocked.returncode, output) == (22, "")
    assert "metrakilate accepts no guests" in errors
    assert start(nodes, "-2", "-F", "echo", "ran").communicate(timeout=20) == ("ran\n", "")
    nodes.stop(2)
    assert status(nodes, "-2", "echo", "ran") == 21
    assert status(nodes, "-9", "echo", "ran") == 20


def test_what_cannot_be_run(nodes: Nodes) -> None:
    for how in ([], ["-2"]):
        done = start(nodes, *how, "no-such-command-at-all")
        _output, errors = done.communicate(timeout=20)
        assert done.returncode == 127
        assert errors == "mosrun: no-such-command-at-all: No such file or directory.\n"
    assert status(nodes, "/etc/passwd") == 126


def test_locks_reach_the_agent(nodes: Nodes) -> None:
    for how, locked in ((["-2"], True), (["-2", "-l"], False), (["-2", "-k"], False)):
        process = start(nodes, *how, "sleep", "600")
        assert soon(lambda pid=process.pid: pid in away(nodes))  # type: ignore[misc]
        (info,) = json.loads(nodes.run("mps", "--json").stdout)
        assert info["locked"] is locked
        nodes.run("migrate", str(process.pid), "home")
        process.kill()
        process.communicate()


def test_without_an_agent(nodes: Nodes) -> None:
    nodes.stop(1)
    assert start(nodes, "echo", "ran").communicate(timeout=20) == ("ran\n", "")
    assert start(nodes, "-h", "echo", "ran").communicate(timeout=20) == ("ran\n", "")
    output, errors = start(nodes, "-L", "echo", "ran").communicate(timeout=20)
    assert output == "ran\n"
    assert "omagentd" in errors
    assert status(nodes, "-2", "echo", "ran") == 30


@pytest.mark.parametrize("arguments", [
    [], ["-h"], ["-N"], ["-x", "ls"], ["-jx", "ls"], ["-j", "1-", "ls"], ["-j4-1", "ls"], ["-h", "-2", "ls"],
    ["-z", "ls"], ["-j1-99999999999", "ls"], ["-ci", "ls"], ["-n", "-s", "ls"], ["-t", "0", "ls"], ["-t"],
    ["-d", "1001", "ls"], ["-dx", "ls"], ["-f", "-t5", "ls"],
])  # fmt: skip
def test_usage(arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        parse(arguments)


def test_options_end_where_the_command_begins() -> None:
    wish = parse(["-2", "-F", "ls", "-l", "-h"])
    assert wish.nodes == ["2"]
    assert wish.force
    assert wish.command == ["ls", "-l", "-h"]
    assert parse(["-j1-3,7", "ls"]).nodes == ["1", "2", "3", "7"]


@pytest.mark.parametrize(("options", "settings"), [
    ([], ProcessSettings(locked=True)),
    (["-h"], ProcessSettings(locked=True)),
    (["-2", "-k"], ProcessSettings()),
    (["-l"], ProcessSettings(locked=False)),
    (["-c"], ProcessSettings(hint="cpu")),
    (["-2", "-i"], ProcessSettings(locked=True, hint="io")),
    (["-n"], ProcessSettings(decay="none")),
    (["-lf"], ProcessSettings(locked=False, decay="fast")),
    (["-s", "-L"], ProcessSettings(locked=True, decay="slow")),
    (["-t", "5", "-d900"], ProcessSettings(decay="own", interval_s=5, keep=900)),
    (["-ct7"], ProcessSettings(hint="cpu", decay="own", interval_s=7)),
    (["-e", "-R", "-k"], ProcessSettings()),
])  # fmt: skip
def test_what_the_agent_is_told(options: list[str], settings: ProcessSettings) -> None:
    assert parse([*options, "ls"]).settings == settings


def test_hints_reach_the_agent(nodes: Nodes) -> None:
    process = start(nodes, "-2", "-i", "-d", "800", "sleep", "600")
    assert soon(lambda: process.pid in away(nodes))
    path = nodes.cluster.run(1) / "agent.sock"
    told = talk("test", lambda cluster: cluster.settings(process.pid), path)
    assert (told.locked, told.hint, told.decay, told.keep) == (True, "io", "own", 800)
    process.kill()
    process.communicate()


def test_a_pipe_ends_with_the_command_and_not_with_the_helper(nodes: Nodes) -> None:
    reads, writes = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "omtools.commands.mosrun", "-2", "true"],
        env=nodes.environment(1),
        pass_fds=[writes],
    )
    os.close(writes)
    assert process.wait(20) == 0
    assert os.read(reads, 1) == b""
    os.close(reads)
