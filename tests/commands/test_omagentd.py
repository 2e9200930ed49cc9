from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import FAKE, Nodes


def omagentd(nodes: Nodes, *arguments: str, number: int = 1) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(FAKE), *arguments],
        env=nodes.environment(number),
        text=True,
        capture_output=True,
        timeout=30,
        check=False,
    )


def test_it_ends_cleanly(nodes: Nodes) -> None:
    assert nodes.stop(1) == 0
    log = (nodes.cluster.directory / "1.log").read_text()
    assert "INFO node=1 the agent serves name=mCii" in log
    assert log.splitlines()[-1].endswith("the agent ended name=mCii")
    assert "Traceback" not in log


def test_a_second_one_is_refused(nodes: Nodes) -> None:
    done = omagentd(nodes)
    assert done.returncode == 36
    assert f"(pid {nodes.agents[1].pid})" in done.stderr
    assert done.stderr.splitlines()[-1].count("omagentd") >= 1


def test_killed_and_started_again(nodes: Nodes) -> None:
    agent = nodes.agents.pop(1)
    agent.kill()
    agent.wait()
    assert (nodes.cluster.run(1) / "agent.sock").exists()
    nodes.start(1)
    assert nodes.run("mosctl", "isup").stdout == "yes\n"


def test_as_a_daemon(nodes: Nodes) -> None:
    nodes.stop(1)
    log = nodes.cluster.directory / "daemon.log"
    done = omagentd(nodes, "--daemon", "--log", str(log))
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    assert nodes.run("mosctl", "isup").stdout == "yes\n"
    second = omagentd(nodes, "--daemon")
    assert second.returncode == 36
    assert "serves" in second.stderr
    (line,) = (line for line in log.read_text().splitlines() if "the agent serves" in line)
    pid = int(line.partition(" pid=")[2].split()[0])
    os.kill(pid, signal.SIGTERM)
    descriptor = os.pidfd_open(pid)
    import select

    assert select.select([descriptor], [], [], 20)[0]
    os.close(descriptor)


@pytest.mark.parametrize(("file", "content", "status", "words"), [
    ("openmosix.map", "1 10.0.0 1\n", 33, "openmosix.map, line 1"),
    ("openmosix.map", None, 35, "there is no map yet"),
    ("names", "1 a b\n", 33, "names, line 1"),
    ("openmosix.config", "BLOCK=perhaps\n", 35, "BLOCK cannot be “perhaps”"),
    ("openmosix.config", "MYOMID=9\n", 20, "no node 9"),
    ("ssh_host_ed25519_key", "rubbish", 35, "ssh_host_ed25519_key"),
])  # fmt: skip
def test_a_broken_configuration_is_one_sentence(
    nodes: Nodes, file: str, content: str | None, status: int, words: str
) -> None:
    nodes.stop(1)
    path = nodes.cluster.config(1) / file
    path.unlink()
    if content is not None:
        path.write_text(content)
        path.chmod(0o600)
    done = omagentd(nodes)
    assert done.returncode == status
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_others_may_not_read_its_keys(nodes: Nodes) -> None:
    nodes.stop(1)
    (nodes.cluster.config(1) / "id_ed25519").chmod(0o644)
    done = omagentd(nodes)
    assert done.returncode == 35
    assert "chmod 600" in done.stderr


def test_directories_by_option(nodes: Nodes, short: Path) -> None:
    nodes.stop(1)
    shutil.copytree(nodes.cluster.config(1), short / "etc")
    hears, says = os.pipe()
    agent = subprocess.Popen(
        [
            sys.executable,
            str(FAKE),
            "--config",
            "etc",
            "--run",
            "run",
            "--node",
            "1",
            "--ready-fd",
            str(says),
        ],
        pass_fds=[says],
        cwd=short,
        stderr=subprocess.PIPE,
    )
    os.close(says)
    assert os.read(hears, 6) == b"ready\n"
    os.close(hears)
    assert (short / "run/agent.sock").is_socket()
    agent.terminate()
    _out, log = agent.communicate(timeout=20)
    assert agent.returncode == 0
    assert b"the agent serves" in log


@pytest.mark.parametrize("arguments", [["--node", "x"], ["--fast"], ["--daemon", "--foreground"], ["extra"]])
def test_usage(nodes: Nodes, arguments: list[str]) -> None:
    done = omagentd(nodes, *arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
