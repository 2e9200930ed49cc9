from __future__ import annotations

import json
import subprocess
import sys

import pytest

from omtools.cluster.process_settings import ProcessSettings
from omtools.commands import mosrun, wrappers
from omtools.commands.wrappers import WRAPPERS, translated
from omtools.errors import UsageError

from .conftest import Nodes


def wish(name: str, *arguments: str) -> mosrun._Wish:
    return mosrun.parse(translated(WRAPPERS[name], [*arguments, "job", "-x"]))


@pytest.mark.parametrize(("name", "settings"), [
    ("nomig", ProcessSettings(locked=True)),
    ("runhome", ProcessSettings(locked=True)),
    ("cpujob", ProcessSettings(hint="cpu")),
    ("iojob", ProcessSettings(hint="io")),
    ("nodecay", ProcessSettings(decay="none")),
    ("slowdecay", ProcessSettings(decay="slow")),
    ("fastdecay", ProcessSettings(decay="fast")),
])  # fmt: skip
def test_what_they_stand_for(name: str, settings: ProcessSettings) -> None:
    meant = wish(name)
    assert meant.settings == settings
    assert meant.command == ["job", "-x"]
    assert meant.nodes == []
    assert meant.home is (name == "runhome")


def test_places() -> None:
    assert wish("runon", "metrakilate").nodes == ["metrakilate"]
    assert wish("runon", "2").settings == ProcessSettings(locked=True)
    there = wish("cpujob", "-2")
    assert (there.nodes, there.settings) == (["2"], ProcessSettings(locked=True, hint="cpu"))
    assert wish("iojob", "-h").home
    named = mosrun.parse(translated(WRAPPERS["slowdecay"], ["-z", "sh", "name"]))
    assert named.named
    assert named.command == ["sh", "name"]


@pytest.mark.parametrize(("name", "arguments"), [
    ("nomig", []), ("nomig", ["-2", "job"]), ("runhome", ["-h", "job"]), ("runon", []), ("runon", ["-2", "job"]),
    ("runon", ["2"]), ("cpujob", ["-h"]), ("cpujob", ["-c", "job"]), ("iojob", ["--fast", "job"]), ("nodecay", ["-z", "job"]),
])  # fmt: skip
def test_usage(name: str, arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        mosrun.parse(translated(WRAPPERS[name], arguments))


@pytest.mark.parametrize("name", list(WRAPPERS))
def test_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert getattr(wrappers, name)(["--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: {name} ")


def test_one_for_real(nodes: Nodes) -> None:
    code = "import sys; from omtools.commands.wrappers import fastdecay; sys.exit(fastdecay())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "-2", "sh", "-c", "echo ready; exec sleep 600"],
        env=nodes.environment(1),
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        # Its helper moves it: once more by hand, in case it is not there yet.
        nodes.run("migrate", str(process.pid), "2")
        (info,) = json.loads(nodes.run("mps", "--json").stdout)
        assert (info["pid"], info["where"], info["locked"]) == (process.pid, 2, True)
    finally:
        process.kill()
        process.communicate()
