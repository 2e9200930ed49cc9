from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

import pytest

from omtools.errors import LabError
from omtools.lab import state
from omtools.lab.state import Being, LabState


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(state, "base_directory", lambda: tmp_path / "omlab")
    return tmp_path / "omlab"


def test_a_being_is_not_its_pid_alone() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        real = Being.of(process.pid)
        impostor = Being(process.pid, real.start - 1)
        assert real.alive()
        assert not impostor.alive()
        assert impostor.kill()
        assert process.poll() is None
        assert real.kill()
        assert not real.alive()  # a zombie until we wait for it


def test_a_being_that_never_was() -> None:
    assert not Being(1 << 22, 1).alive()
    assert Being(1 << 22, 1).kill()


def test_the_lock_excludes_and_leaves_nothing(base: Path) -> None:
    with state.locked_base() as held:
        assert held == base
        fd = os.open(base, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(fd)
    assert not base.exists()


def test_the_lock_lets_errors_through(base: Path) -> None:
    with pytest.raises(FileNotFoundError), state.locked_base():
        raise FileNotFoundError
    assert not base.exists()


def test_a_base_that_others_may_write_in_is_refused(base: Path) -> None:
    base.mkdir(mode=0o755)
    with pytest.raises(LabError, match="yours alone"), state.locked_base():
        pass


def test_a_base_that_is_a_link_is_refused(base: Path, tmp_path: Path) -> None:
    base.symlink_to(tmp_path)
    with pytest.raises(LabError), state.locked_base():
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"name": 1}'])
def test_an_unreadable_state_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "lab.json").write_text(text)
    assert state.load(tmp_path) is None


def test_a_state_of_another_pid_namespace_is_left_alone(tmp_path: Path) -> None:
    foreign = LabState("lab", "namespaces", state.boot_id(), state.own_pidns() + 1)
    state.save(tmp_path, foreign)
    with pytest.raises(LabError, match="inside a node"):
        state.load(tmp_path)
    state.save(tmp_path, LabState("lab", "namespaces", "another boot", state.own_pidns() + 1))
    assert state.load(tmp_path) is not None


def test_names_of_labs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("", "a b", "..", "x" * 17, "-x", "a/b"):
        monkeypatch.setenv("OMLAB_NAME", name)
        with pytest.raises(LabError):
            state.lab_name()
    monkeypatch.delenv("OMLAB_NAME")
    assert state.lab_name() == "lab"
