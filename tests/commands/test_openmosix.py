from __future__ import annotations

import asyncio
import configparser
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from agent.support import Cluster

from omtools.agent import api
from omtools.cluster.load import BLOCK
from omtools.commands import openmosix
from omtools.commands.openmosix import serving_pid
from omtools.errors import (
    AddressMissing,
    AgentRunning,
    AgentStays,
    BadCertificate,
    BadConfiguration,
    BadExports,
    BadMap,
    KernelLacks,
    NotInCluster,
    OmError,
    StillAway,
    UsageError,
)

from .conftest import FAKE, ROOT, Nodes


def test_start_status_stop(nodes: Nodes) -> None:
    """The agent that it starts is the real one: it moves nothing here, so its engine does not matter."""
    nodes.stop(1)
    nodes.stop(2)
    down = nodes.run("openmosix", "status")
    assert (down.returncode, down.stdout.count("\n")) == (1, 1)
    assert json.loads(nodes.run("openmosix", "status", "--json").stdout) == {"running": False}
    assert nodes.run("openmosix", "stop").stdout == "openMosix does not run.\n"
    started = nodes.run("openmosix", "start")
    assert (started.returncode, started.stderr) == (0, "")
    assert started.stdout == "openMosix is running: this is node #1 (of 2 configured).\n"
    try:
        up = json.loads(nodes.run("openmosix", "status", "--json").stdout)
        assert up["running"] is True
        assert nodes.run("openmosix", "start").stdout == f"openMosix runs already (omagentd, pid {up['pid']}).\n"
        again = nodes.run("openmosix", "restart")
        assert again.returncode == 0, again.stderr
        assert again.stdout == "openMosix has begun anew: this is node #1 (of 2 configured).\n"
        assert json.loads(nodes.run("openmosix", "status", "--json").stdout)["pid"] == up["pid"]
        assert nodes.run("openmosix", "status").stdout.splitlines()[0] == "This is openMosix node #1"
    finally:
        stopped = nodes.run("openmosix", "stop")
    assert (stopped.returncode, stopped.stdout) == (0, "openMosix has ended.\n")
    assert (nodes.cluster.run(1) / "agent.log").exists()


def test_stop_brings_all_home_and_leaves_the_switch_as_it_was(nodes: Nodes, sleeper: int) -> None:
    nodes.run("migrate", str(sleeper), "2")
    nodes.run("mosctl", "block", node=2)
    assert nodes.run("openmosix", "stop", node=2).returncode == 0  # a guest goes home
    assert nodes.agents.pop(2).wait(20) == 0
    assert json.loads(nodes.run("mps", "--json").stdout) == []
    nodes.start(2)
    assert "BLOCK" in nodes.run("mosctl", "status", node=2).stdout
    nodes.run("mosctl", "noblock", node=2)
    nodes.run("migrate", str(sleeper), "2")
    assert nodes.run("openmosix", "stop", "--leave", node=1).returncode == 0
    assert nodes.agents.pop(1).wait(20) == 0


def test_restart_reads_the_map_anew_and_leaves_processes_where_they_are(nodes: Nodes) -> None:
    config = nodes.cluster.config(1)
    known = (config / "openmosix.map").read_text()
    (config / "openmosix.map").write_text(known + "x\n")
    broken = nodes.run("openmosix", "restart")
    assert broken.returncode == 33
    nodes.agents[1].send_signal(signal.SIGUSR1)  # told by hand, it goes on as well
    assert nodes.run("mosctl", "isup").returncode == 0
    more = nodes.cluster.directory / "map"
    more.write_text(known + "9 127.9.8.7 1\n")
    done = nodes.run("setpe", "-W", "-f", str(more))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("openMosix has begun anew: this is node #1 (of 3 configured).\n")
    assert nodes.run("mosctl", "whois", "9").returncode == 0
    assert nodes.agents[1].poll() is None


def test_a_configuration_with_errors(nodes: Nodes) -> None:
    nodes.stop(1)
    (nodes.cluster.config(1) / "openmosix.map").write_text("1 127.9.8.1\n")
    done = nodes.run("openmosix", "start")
    assert done.returncode == 33
    assert "line 1" in done.stderr


def test_who_serves_says_the_kernel(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENMOSIX_RUN", str(nodes.cluster.run(2)))
    assert serving_pid() == nodes.agents[2].pid
    nodes.stop(2)
    assert serving_pid() is None


def test_a_daemon_with_relative_directories_begins_anew(nodes: Nodes) -> None:
    nodes.stop(1)
    home = nodes.cluster.config(1).parent
    environment = {**nodes.environment(1), "OPENMOSIX_CONFIG": "/nowhere", "OPENMOSIX_RUN": "/nowhere"}
    subprocess.run(
        [sys.executable, str(FAKE), "--daemon", "--config", "etc", "--run", "run", "--log", "log"],
        env=environment, cwd=home, check=True, timeout=30,
    )  # fmt: skip
    try:
        assert nodes.run("openmosix", "restart").returncode == 0
        assert (home / "log").read_text().count("the agent serves") == 2
    finally:
        assert nodes.run("openmosix", "stop").returncode == 0


@pytest.mark.parametrize("kind", ["system", "user"])
def test_units(kind: str) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(ROOT / "systemd" / kind / "openmosix.service")
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    service = unit["Service"]
    assert {service[name].split()[0] for name in ("ExecStart", "ExecStop")} <= set(scripts)
    assert (service["Type"], service["KillMode"]) == ("notify", "process")
    # What trying again does not mend; a missing address may come with the network.
    final = {UsageError, KernelLacks, BadMap, BadConfiguration, AgentRunning, BadExports, NotInCluster, BadCertificate}
    assert {int(word) for word in service["RestartPreventExitStatus"].split()} == {cls.exit_status for cls in final}


@pytest.mark.parametrize("kind", ["system", "user"])
def test_systemd_understands_its_units(kind: str, tmp_path: Path) -> None:
    names = {path.name for path in (ROOT / "systemd" / kind).glob("[!@]*.service") if "@" not in path.name}
    assert {"openmosix.service", "omdiscd.service", "omcollector.service"} <= names
    for name in names:
        text = (ROOT / "systemd" / kind / name).read_text()
        # The tools are not where systemd looks for programs.
        (tmp_path / name).write_text(re.sub(r"^(Exec\w+=)(\w+)", r"\1/bin/true", text, flags=re.MULTILINE))
    unit = tmp_path / "openmosix.service"
    for sound in (True, False):
        verified = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", f"--{kind}", *(str(tmp_path / name) for name in names)],
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        complaints = [line for line in verified.stderr.splitlines() if any(name in line for name in names)]
        assert (complaints == []) is sound, verified.stderr
        unit.write_text(unit.read_text().replace("Type=notify", "Tpye=notify"))


@pytest.mark.parametrize("path", sorted((ROOT / "systemd").glob("*/*.service")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_trying_again_does_not_mend_is_not_tried_again(path: Path) -> None:
    (line,) = re.findall(r"^RestartPreventExitStatus=(.*)$", path.read_text(), re.MULTILINE)
    final = {int(word) for word in line.split()}
    assert UsageError.exit_status in final
    assert final <= {cls.exit_status for cls in OmError.registry.values()}
    assert AddressMissing.exit_status not in final


def test_the_unit_of_the_netboot_server() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(ROOT / "systemd" / "system" / "openmosix-netboot@.service")
    assert unit["Service"]["ExecStart"] == "omnetboot run --yes --interface %i"


def test_systemd_is_told_when_it_serves(nodes: Nodes) -> None:
    nodes.stop(1)
    path = nodes.cluster.directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(path))
        systemd.settimeout(30)
        agent = subprocess.Popen(
            [sys.executable, str(FAKE)], env={**nodes.environment(1), "NOTIFY_SOCKET": str(path)},
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert systemd.recv(100) == b"READY=1"
            assert nodes.run("mosctl", "isup").returncode == 0
        finally:
            agent.terminate()
            assert agent.wait(20) == 0


async def test_a_process_that_does_not_come_home(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omtools.agent.following._STAGE_PATIENCE", 0.1)
    monkeypatch.setenv("OPENMOSIX_RUN", str(short / "1" / "run"))
    cluster = Cluster(short, 2)
    cluster.engine.owners[4711] = os.getuid()
    await cluster.start()
    async with cluster.asking(1) as asker:
        await asker.ask(api.Migrate(4711, "2"))
        cluster.engine.deaf = True
        with pytest.raises(StillAway, match=r"\(4711\)"):
            await asyncio.to_thread(openmosix.stop, leave=False)
        assert not (await asker.ask(api.NodeInfo())).status & BLOCK  # as it was
    cluster.engine.deaf = False
    await cluster.end()


def test_an_agent_that_does_not_end(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENMOSIX_RUN", str(short))
    monkeypatch.setattr(openmosix, "_END_PATIENCE", 0.2)
    code = (
        "import signal, socket, sys\n"
        "for number in (signal.SIGTERM, signal.SIGUSR1): signal.signal(number, signal.SIG_IGN)\n"
        "server = socket.socket(socket.AF_UNIX); server.bind(sys.argv[1]); server.listen(8)\n"
        "print('ready', flush=True); signal.pause()"
    )
    stubborn = subprocess.Popen([sys.executable, "-c", code, str(short / "agent.sock")], stdout=subprocess.PIPE)
    try:
        assert stubborn.stdout is not None
        assert stubborn.stdout.readline() == b"ready\n"
        for told in (lambda: openmosix.stop(leave=True), lambda: openmosix._renew(stubborn.pid)):
            with pytest.raises(AgentStays, match=str(stubborn.pid)):
                told()
    finally:
        stubborn.kill()
        stubborn.communicate()
