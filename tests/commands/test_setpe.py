from __future__ import annotations

import socket
from pathlib import Path

import pytest

from omtools.agent.config_file import replace_file
from omtools.commands import setpe
from omtools.errors import BadMap, NotInMap, OmError, UnknownNode, UsageError
from omtools.i18n import _

from .conftest import Nodes

HERE = "# ours\n1 127.9.8.1 1\n7 10.255.255.7 2  # others\n\n1 127.9.8.2 ALIAS\n"


@pytest.fixture
def place(tmp_path: Path, short: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration directory, and no agent."""
    monkeypatch.setenv("OPENMOSIX_CONFIG", str(tmp_path / "etc"))
    monkeypatch.setenv("OPENMOSIX_RUN", str(short))
    monkeypatch.setattr(socket, "gethostname", lambda: "nobody-of-the-map")
    return tmp_path


def written(place: Path, text: str) -> str:
    path = place / "map"
    path.write_text(text)
    return str(path)


def test_a_map_is_checked_installed_and_read_again(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(place, HERE)
    assert setpe.main(["-w", "-c", "-f", file]) == 0
    assert not (place / "etc").exists()
    assert setpe.main(["-W", "-f", file]) == 0
    assert (place / "etc" / "openmosix.map").read_text() == HERE
    said = capsys.readouterr().out
    assert said.startswith("This is openMosix node #1 (of 3 configured).\n")
    assert "openmosix start" in said
    again = place / "again"
    assert setpe.main(["-r", "-f", str(again)]) == 0
    assert again.read_text().splitlines() == [
        "# this is openMosix node #1 (of 3 configured)",
        "1       127.9.8.1         1    # node1",
        "7       10.255.255.7      2",
        "1       127.9.8.2         ALIAS",
    ]
    assert setpe.main(["-w", "-f", str(again)]) == 0  # what it prints, it takes
    assert [path.name for path in (place / "etc").iterdir()] == ["openmosix.map"]  # and no scratch file


def test_number_and_gateways_are_kept_in_the_configuration(place: Path) -> None:
    (place / "etc").mkdir()
    settings = place / "etc" / "openmosix.config"
    settings.write_text("# mine\nBLOCK=yes\nMYOMID=9\n")
    file = written(place, "3 127.9.8.3 1\n4 127.9.8.4 1\n")
    assert setpe.main(["-w", "-p", "4", "-g", "2", "-f", file]) == 0
    assert settings.read_text() == "# mine\nBLOCK=yes\nMYOMID=4\nMOSGATES=2\n"


def test_a_map_that_is_not_looked_at(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "etc").mkdir()
    (place / "etc" / "openmosix.config").write_text("AUTODISC=1\n")
    assert setpe.main(["-w", "-f", written(place, HERE)]) == 0
    assert "AUTODISC" in capsys.readouterr().out


@pytest.mark.parametrize(("text", "line", "why"), [
    ("1 127.9.8.1 1\n\nx 127.9.8.2 1\n", 3, "“x” is no node number"),
    ("1 127.9.8.1\n", 1, "not 2 words"),
    ("1 mCii 4\n", 1, "needs an address"),
    ("1 127.9.8.250 9\n", 1, "the last byte ends at 255"),
    ("1 127.9.8.1 1\n1 127.9.8.9 1\n", 2, "node 1 is in the map twice"),
    ("1 127.9.8.1 1\n2 127.9.8.2 ALIAS\n", 2, "needs a line of its own"),
    ("".join(f"{n} 127.9.{n // 200}.{n % 200 + 1} 1\n" for n in range(1, 258)), 257, "at most 256 lines"),
    ("65535 127.9.8.1 2\n", 1, "node numbers go up to 65535"),
    ("1 127.9.8.1 1\n\n2 nobody.invalid 1\n", 3, "nobody knows the address of nobody.invalid"),
])  # fmt: skip
def test_a_map_with_errors(place: Path, capsys: pytest.CaptureFixture[str], text: str, line: int, why: str) -> None:
    file = written(place, text)
    (place / "etc").mkdir()
    (place / "etc" / "openmosix.map").write_text("old\n")
    assert setpe.main(["-w", "-f", file]) == BadMap.exit_status
    said = capsys.readouterr().err
    assert f"{file}, line {line}: " in said
    assert why in said
    assert (place / "etc" / "openmosix.map").read_text() == "old\n"


def test_the_classic_of_all_messages(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(place, "1 10.255.255.1 1\n")
    assert setpe.main(["-w", "-f", file]) == NotInMap.exit_status
    assert "the supplied table is well-formatted, but my IP address (" in capsys.readouterr().err
    assert setpe.main(["-w", "-p", "1", "-f", file]) == NotInMap.exit_status
    assert setpe.main(["-w", "-p", "2", "-f", file]) == UnknownNode.exit_status
    (place / "etc").mkdir()
    (place / "etc" / "openmosix.config").write_text("MYOMID=1\n")  # what was said once is checked too
    assert setpe.main(["-w", "-f", file]) == NotInMap.exit_status


def test_a_map_of_nobody(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert setpe.main(["-w", "-f", written(place, "# nothing\n")]) == 35
    assert "there is no node in it" in capsys.readouterr().err


def test_several_nodes_are_this_machine(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(place, "1 127.9.8.1 2\n")
    assert setpe.main(["-w", "-f", file]) == 35
    assert "MYOMID" in capsys.readouterr().err
    assert setpe.main(["-w", "-p", "2", "-f", file]) == 0


@pytest.mark.parametrize("arguments", [
    [], ["-r", "-c"], ["-off", "-p", "1"], ["-w", "-r"], ["-off", "-f", "x"], ["-w", "-p", "0"],
    ["-w", "-p", "65536"], ["-w", "-p", "one"], ["-w", "-g", "3"], ["-w", "extra"],
])  # fmt: skip
@pytest.mark.usefixtures("place")
def test_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert setpe.main(arguments) == UsageError.exit_status
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_files_that_cannot_be_read(place: Path, capsys: pytest.CaptureFixture[str], content: bytes | None) -> None:
    if content is not None:
        (place / "map").write_bytes(content)
    assert setpe.main(["-w", "-f", str(place / "map")]) == 35
    assert str(place / "map") in capsys.readouterr().err


def test_a_full_disk_changes_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(place, HERE)
    (place / "etc").mkdir()
    (place / "etc" / "openmosix.map").write_text("old\n")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OmError, match="No space left"):
        replace_file(place / "etc" / "openmosix.map", "new\n")
    assert setpe.main(["-w", "-f", file]) == 35
    assert [path.read_text() for path in (place / "etc").iterdir()] == ["old\n"]


def test_the_map_of_a_running_agent_and_off(nodes: Nodes) -> None:
    done = nodes.run("setpe", "-r", node=2)
    assert done.stdout.splitlines()[0] == "# this is openMosix node #2 (of 2 configured)"
    assert f"2       {nodes.cluster.addresses[2]:<17} 1    # metrakilate" in done.stdout
    off = nodes.run("setpe", "-off")
    assert off.returncode == 0, off.stderr
    assert nodes.agents.pop(1).wait(20) == 0
    config = nodes.cluster.config(1)
    assert not (config / "openmosix.map").exists()
    assert (config / "openmosix.map.off").exists()
    assert nodes.run("setpe", "-r").returncode == 35
    assert _("openMosix does not run.") in nodes.run("setpe", "-off").stdout
