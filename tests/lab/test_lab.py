from __future__ import annotations

import subprocess
import sys

import pytest

from lab.labs import HERE, Omlab
from omtools.errors import LabError, LabNoSuchNode, LabNotUp
from omtools.lab import build, settings
from omtools.lab.lab import Lab


@pytest.fixture
def named(my_omlab: Omlab, monkeypatch: pytest.MonkeyPatch) -> Omlab:
    monkeypatch.setenv("OMLAB_NAME", my_omlab.name)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(my_omlab.runtime))
    monkeypatch.setenv("OMLAB_AGENT", f"{sys.executable} {HERE / 'agent_stand_in.py'}")
    return my_omlab


def test_as_a_context_manager(named: Omlab) -> None:
    with Lab.up(nodes=2) as lab:
        node = lab.nodes["metrakilate"]
        done = node.run(["sh", "-c", "hostname; cat; exit 3"], stdin="given\n")
        assert (done.returncode, done.stdout) == (3, "metrakilate\ngiven\n")
        with pytest.raises(subprocess.CalledProcessError):
            node.run(["false"], check=True)
        with pytest.raises(subprocess.TimeoutExpired):
            node.run(["sleep", "1000"], timeout=0.5)
        node.outside("/tmp/from-outside").write_text("hello")
        assert node.run(["cat", "/tmp/from-outside"], check=True).stdout == "hello"
        assert Lab.find().nodes.keys() == {"mCii", "metrakilate"}
        assert lab.node("2").name == "metrakilate"
        with pytest.raises(LabNoSuchNode):
            lab.node("3")
    with pytest.raises(LabNotUp):
        Lab.find()
    assert not named.directory.exists()


def test_signals_reach_what_popen_started(named: Omlab) -> None:
    with Lab.up() as lab:
        argv = ["sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done"]
        with lab.nodes["mCii"].popen(argv, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            process.terminate()
            assert process.wait(20) == 7
    assert named.processes() == []


def test_without_namespaces_it_is_plain_and_says_why(named: Omlab, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted", "unshare")

    monkeypatch.setattr(build, "bear_hub", forbidden)
    with Lab.up() as lab:
        assert lab.state.mode == "plain"
        assert "Operation not permitted" in lab.state.reason
        assert lab.nodes["mCii"].run(["sh", "-c", "echo $OMLAB_NODE"]).stdout == "mCii\n"
    assert named.processes() == []


def test_a_node_that_cannot_be_mounted_falls_back_too(named: Omlab, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted", "mount /proc")

    monkeypatch.setattr(build, "mount", forbidden)
    with Lab.up() as lab:
        assert lab.state.mode == "plain"
        assert "mount /proc" in lab.state.reason
    assert named.processes() == []


def test_errors_that_are_not_the_namespaces_fault(named: Omlab, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(settings, "furnish", full)
    with pytest.raises(LabError, match="No space left"):
        Lab.up()
    assert not named.directory.exists()


def test_names_and_addresses() -> None:
    numbers = range(1, settings.MAX_NODES + 1)
    assert len({settings.node_name(n) for n in numbers}) == settings.MAX_NODES
    assert settings.node_name(1) == "mCii"
    assert settings.lab_address(250) == "10.77.0.250"
    plain = {settings.plain_address(n, lab, attempt) for n in (1, 250) for lab in "ab" for attempt in (0, 1)}
    assert len(plain) == 8
    assert all(address.startswith("127.") for address in plain)
