"""What the command line itself says; what it does is tested in tests/lab."""

from __future__ import annotations

from pathlib import Path

import pytest

from omtools.commands import _omlab_metal, omlab


def run(*arguments: str) -> int:
    return omlab.main(list(arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["frob"], ["up", "--nodes"], ["up", "--nodes", "two"], ["exec"], ["shell"], ["shell", "1", "2"],
        ["list", "x"], ["power"], ["power", "up", "2"], ["power", "on"], ["cable", "in"], ["cable", "off", "2"],
        ["console"], ["image"], ["image", "build", "x"], ["events", "x"],
    ],
)
def test_senseless_command_lines(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "--help" in printed.err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("--help")
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    for word in ("up", "down", "status", "list", "exec", "shell", "env", "OMLAB_NAME",
                 "power", "cable", "console", "events", "image"):  # fmt: skip
        assert word in printed


def test_no_lab_is_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OMLAB_NAME", "none-such")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert run("list") == 41
    assert "omlab up" in capsys.readouterr().err
    assert run("status", "--json") == 1
    assert capsys.readouterr().out == '{"up": false}\n'
    assert run("down") == 0


@pytest.mark.parametrize(
    "arguments",
    [["power", "on", "2"], ["cable", "out", "2"], ["console", "2"], ["events"], ["events", "--follow"]],
)
def test_no_lab_of_machines_is_up(
    arguments: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("OMLAB_NAME", "none-such")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert run(*arguments) == 41
    assert capsys.readouterr().err.count("\n") == 1


def test_senseless_labs_of_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("up", "--bare") == 2
    assert "--metal" in capsys.readouterr().err
    for arguments in (["up", "--metal", "--plain"], ["up", "--metal", "--nodes", "5"]):
        assert run(*arguments) == 40
        assert capsys.readouterr().err.count("\n") == 1


def test_machines_on_a_machine_without_an_emulator(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OMLAB_NAME", "none-such")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run("up", "--metal") == 48
    assert "apt-get install --no-install-recommends qemu-system-x86" in capsys.readouterr().err
    assert run("image", "build") == 48


def test_the_screen_of_one_that_does_not_boot_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = tmp_path / "console-metrakilate.log"
    record.write_bytes(b"x" * 9000 + b"\x1b[2J\x1b[1;1H\r\n" + b"".join(b"line %d\r\n\r\n" % n for n in range(30)) + b"\xff[6n")
    _omlab_metal._show_screen(record)
    shown = capsys.readouterr().err.splitlines()
    assert shown[:-1] == [f"  | line {n}" for n in range(19, 30)]
    _omlab_metal._show_screen(tmp_path / "none")
    assert capsys.readouterr().err == ""
