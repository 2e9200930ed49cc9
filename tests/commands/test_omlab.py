"""What the command line itself says; what it does is tested in tests/lab."""

from __future__ import annotations

from pathlib import Path

import pytest

from omtools.commands import omlab


def run(*arguments: str) -> int:
    return omlab.main(list(arguments))


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["frob"], ["up", "--nodes"], ["up", "--nodes", "two"], ["exec"], ["shell"], ["shell", "1", "2"],
        ["list", "x"],
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
    for word in ("up", "down", "status", "list", "exec", "shell", "env", "OMLAB_NAME"):
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
