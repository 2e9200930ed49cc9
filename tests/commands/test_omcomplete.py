from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from omtools.commands.omcomplete import COMMANDS, FILES, PARSED, candidates

from .conftest import ROOT, Nodes

FILES_OF_SHELLS = [ROOT / "completions" / name for name in ("bash/openmosix", "zsh/_openmosix", "fish/openmosix.fish")]


def words(*line: str) -> list[str]:
    return [word for word, _what in candidates(list(line))]


@pytest.fixture(autouse=True)
def nobody_there(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENMOSIX_RUN", str(short))


def test_verbs_options_and_values() -> None:
    assert words("mosctl", "getd") == ["getdecay"]
    assert dict(candidates(["mosctl", "getu"]))["getutil"].endswith("in %")
    assert set(words("mosctl", "block", "--")) == {"--help", "--json", "--debug", "--on"}
    assert words("openmosix", "st") == ["start", "stop", "status"]
    assert words("setpe", "-g", "") == ["0", "1", "2"]
    assert words("setpe", "-f", "") == [FILES]
    assert words("migrate", "1", "h") == ["home"]
    assert words("migrate", "1", "home", "x") == []
    assert str(os.getppid()) in words("migrate", "")
    assert words("tune", "--size", "") == []
    assert words("omlab", "pow") == ["power"]


def test_commands_that_run_commands() -> None:
    assert words("mosrun", "") == [COMMANDS]
    assert words("mosrun", "-l", "-t", "5", "") == [COMMANDS]
    assert words("mosrun", "-t", "") == []
    assert words("mosrun", "ls", "-") == [FILES]
    assert "-F" in words("mosrun", "-")
    assert words("cpujob", "--h") == ["--help"]
    assert words("runon", "2", "") == [COMMANDS]
    assert words("mps", "--g") == ["--guests"]
    assert words("ls", "") == []


def test_every_command_is_completed_by_every_shell() -> None:
    scripts = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]) - {"omcomplete"}
    for path in FILES_OF_SHELLS:
        text = path.read_text()
        assert {name for name in scripts if f" {name} " not in text.replace("\n", " ")} == set(), path
        # bash and fish look for a file of the command's name
        here = {found.name.removesuffix(".fish") for found in path.parent.iterdir()}
        assert here == {"_openmosix"} or scripts <= here
    for name in PARSED:
        assert "--help" in words(name, "--")


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH with omcomplete on it."""
    script = tmp_path / "omcomplete"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m omtools.commands.omcomplete "$@"\n')
    script.chmod(0o755)
    return f"{tmp_path}:{os.environ['PATH']}"


def shell(nodes: Nodes, path: str, *command: str) -> str:
    environment = {**nodes.environment(1), "PATH": path}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=30).stdout


def test_bash(nodes: Nodes, path: str) -> None:
    script = f"""
        source {FILES_OF_SHELLS[0]}
        try() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _openmosix; printf '%s\\n' "${{COMPREPLY[@]}}"; }}
        try mosctl whois me; try setpe -f {ROOT}/pypro; try mosrun omcompl
    """
    assert shell(nodes, path, "bash", "-c", script).split() == [
        "metrakilate", f"{ROOT}/pyproject.toml", "omcomplete",
    ]  # fmt: skip


def test_fish(nodes: Nodes, path: str) -> None:
    script = f"source {FILES_OF_SHELLS[2]}; complete -C 'mosctl whois me'; complete -C 'setpe -f {ROOT}/pypro'"
    assert shell(nodes, path, "fish", "-N", "-c", script).splitlines() == [
        f"metrakilate\t2, {nodes.cluster.addresses[2]}",
        f"{ROOT}/pyproject.toml",
    ]


def test_zsh(nodes: Nodes, path: str, tmp_path: Path) -> None:
    """Its completion works in its line editor only, and that on a terminal only."""
    (tmp_path / ".zshrc").write_text(
        f"fpath=({FILES_OF_SHELLS[1].parent} $fpath)\nautoload -Uz compinit\ncompinit -u -D\nPS1=''\necho re''ady\n"
    )
    leader, follower = pty.openpty()
    zsh = subprocess.Popen(
        ["setsid", "--ctty", "--wait", "zsh", "-i"], stdin=follower, stdout=follower, stderr=follower,
        env={**nodes.environment(1), "PATH": path, "ZDOTDIR": str(tmp_path), "TERM": "dumb"},
    )  # fmt: skip
    os.close(follower)
    try:
        seen = b""
        for typed, wanted in ((b"", b"ready"), (b"mosctl getd\t", b"mosctl getdecay"), (b"\x15migrate 1 ho\t", b"migrate 1 home")):
            os.write(leader, typed)
            while wanted not in seen:
                assert select.select([leader], [], [], 30)[0], seen
                seen += os.read(leader, 4096)
    finally:
        os.close(leader)  # to zsh, its terminal hangs up
        zsh.wait(20)
