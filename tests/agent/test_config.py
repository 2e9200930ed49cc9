from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from omtools.agent import paths
from omtools.agent.config import (
    Settings,
    configured_number,
    find_own,
    load_configuration,
    read_map,
    read_settings,
)
from omtools.cluster.map import parse_map
from omtools.errors import AddressMissing, BadConfiguration, BadMap, UnknownNode


def settings(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "openmosix.config"
    path.write_text(text)
    return read_settings(path)


def test_all_keys(tmp_path: Path) -> None:
    found = settings(
        tmp_path,
        """
        # as on a Gentoo of 2004
        AUTODISC=1
        AUTODISCIF=eth0,eth1
        METRICSPORT=0.0.0.0:9464
        LOGFORMAT=json
        MFSCOSTS=none
        MEMTOTAL=300
        MYOMID=7          # this node
        export NODESPEED="12000"
        BLOCK='yes'
        AGENTPORT=4661 LISTEN=0.0.0.0
        LINK=ssh
        MEMRESERVE=64
        CONNECTTIMEOUT=1.5
        LINKTIMEOUT=7
        MFS=no
        MFSDIR=/mnt/all/
        HPCDIR=/mnt/hpc
        DFSA=no
        CANDIDATES=all
        MIGRATE=
    """,
    )
    assert found == Settings(
        7, 12000, True, 4661, "0.0.0.0", "ssh", 64 << 20, 1.5, False, "/mnt/all", False, True, True,
        {"MFSCOSTS": "none"}, True, ("eth0", "eth1"), ("0.0.0.0", 9464), True,
        hpc_directory="/mnt/hpc", memory=300 << 20, silence=7.0,
    )  # fmt: skip


def test_no_file_is_no_fault(tmp_path: Path) -> None:
    assert read_settings(tmp_path / "none") == Settings()


@pytest.mark.parametrize(("text", "words"), [
    ("MYOMID=x", "line 1: MYOMID cannot be “x”"),
    ("\nMYOMID=65536", "line 2"),
    ("MYOMID=-1", "MYOMID"),
    ("AGENTPORT=0", "AGENTPORT"),
    ("METRICSPORT=here", "METRICSPORT cannot be “here”"),
    ("METRICSPORT=::1:70000", "METRICSPORT"),
    ("LOGFORMAT=xml", "LOGFORMAT"),
    ("LINK=pigeon", "LINK cannot be “pigeon”"),
    ("BLOCK=2", "BLOCK"),
    ("CONNECTTIMEOUT=nan", "CONNECTTIMEOUT"),
    ("CONNECTTIMEOUT=0", "CONNECTTIMEOUT"),
    ("LINKTIMEOUT=0.5", "LINKTIMEOUT"),
    ("MEMRESERVE=-1", "MEMRESERVE"),
    ("hello", "“hello” is not KEY=value"),
    ("MY KEY=3", "“MY” is not KEY=value"),
    ("BLOCK='yes", "line 1: No closing quotation"),
])  # fmt: skip
def test_what_cannot_be(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BadConfiguration, match=r"openmosix\.config") as caught:
        settings(tmp_path, text)
    assert words in str(caught.value)


def test_not_text(tmp_path: Path) -> None:
    path = tmp_path / "openmosix.config"
    path.write_bytes(b"BLOCK=\xff")
    with pytest.raises(BadConfiguration, match="not text"):
        read_settings(path)
    with pytest.raises(BadConfiguration, match="directory"):
        read_settings(tmp_path)


def test_the_map_and_the_names_beside_it(tmp_path: Path) -> None:
    (tmp_path / "openmosix.map").write_text("1 127.77.0.1 2\n")
    (tmp_path / "names").write_text("2 metrakilate\n")
    assert read_map(tmp_path).find("metrakilate").address == "127.77.0.2"
    (tmp_path / "names").write_text("2\n")
    with pytest.raises(BadMap, match="names, line 1"):
        read_map(tmp_path)


@pytest.mark.parametrize(("answers", "served"), [
    (["203.0.113.2"], "203.0.113.2"),
    (["2001:db8::2", "203.0.113.2"], "203.0.113.2"),
    (["2001:db8::2"], "2001:db8::2"),
    (["127.0.1.1"], "0.0.0.0"),  # as Debian's installer writes a machine's own name into /etc/hosts
    (["::1"], "::"),
])  # fmt: skip
def test_a_map_of_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: list[str], served: str
) -> None:
    asked = socket.getaddrinfo

    def resolve(host: Any, *arguments: Any, **options: Any) -> Any:
        if host != "metrakilate":
            return asked(host, *arguments, **options)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (answer, 0)) for answer in answers]

    (tmp_path / "openmosix.map").write_text("1 127.0.0.1 1\n2 metrakilate 1\n")
    monkeypatch.setattr("socket.getaddrinfo", resolve)
    assert load_configuration(tmp_path, tmp_path, number=1).listen == "127.0.0.1"
    assert load_configuration(tmp_path, tmp_path, number=2).listen == served


def test_this_machine_is_found_by_an_address_of_a_name(tmp_path: Path) -> None:
    found = parse_map("1 203.0.113.1 1\n2 localhost 1")
    assert find_own(found, tmp_path).number == 2


def test_a_name_without_an_address(tmp_path: Path) -> None:
    (tmp_path / "openmosix.map").write_text("1 nobody.invalid 1\n")
    with pytest.raises(AddressMissing, match=r"the name nobody\.invalid has no address here"):
        load_configuration(tmp_path, tmp_path, number=1)


def test_who_am_i(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "mCii.example.org")
    by_name = parse_map("1 203.0.113.1 1\n2 203.0.113.2 1", names={2: "mCii"})
    assert find_own(by_name, tmp_path).number == 2
    by_address = parse_map("1 203.0.113.1 1\n2 127.77.0.2 1")
    assert find_own(by_address, tmp_path).number == 2
    by_alias = parse_map("1 203.0.113.1 1\n2 203.0.113.2 1\n1 127.77.0.1 ALIAS")
    assert find_own(by_alias, tmp_path).number == 1
    with pytest.raises(BadConfiguration, match="no address of this machine"):
        find_own(parse_map("1 203.0.113.1 5"), tmp_path)
    with pytest.raises(BadConfiguration, match="MYOMID"):
        find_own(parse_map("1 127.77.0.1 2"), tmp_path)


def test_the_command_line_goes_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "openmosix.map").write_text("1 127.77.0.1 3\n")
    (tmp_path / "openmosix.config").write_text("MYOMID=2\n")
    assert load_configuration(tmp_path, tmp_path / "run").node.number == 2
    found = load_configuration(tmp_path, tmp_path / "run", 3)
    assert (found.node.number, found.listen) == (3, "127.77.0.3")
    with pytest.raises(UnknownNode):
        load_configuration(tmp_path, tmp_path / "run", 4)


# --------------------------------------------------------------------------------------------- paths


def test_the_environment_goes_before_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENMOSIX_CONFIG", "/a")
    monkeypatch.setenv("OPENMOSIX_RUN", "/b")
    assert (paths.config_dir(), paths.run_dir()) == (Path("/a"), Path("/b"))
    assert paths.agent_socket() == Path("/b/agent.sock")


def test_as_root_and_as_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENMOSIX_CONFIG", "OPENMOSIX_RUN", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert (paths.config_dir(), paths.run_dir()) == (Path("/etc/openmosix"), Path("/run/openmosix"))
    monkeypatch.setattr("os.geteuid", lambda: 1234)
    monkeypatch.setenv("HOME", "/home/ann")
    assert paths.config_dir() == Path("/home/ann/.config/openmosix")
    assert paths.run_dir() == Path("/tmp/openmosix-1234")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/c")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1234")
    assert paths.config_dir() == Path("/c/openmosix")
    assert paths.run_dir() == Path("/run/user/1234/openmosix")


def test_a_user_without_an_agent_asks_the_systems(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OPENMOSIX_RUN", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 1234)
    monkeypatch.setattr(paths, "SYSTEM_RUN", tmp_path / "system")
    assert paths.agent_socket() == tmp_path / "openmosix/agent.sock"
    (tmp_path / "system").mkdir()
    (tmp_path / "system/agent.sock").touch()
    assert paths.agent_socket() == tmp_path / "system/agent.sock"


def test_the_run_directory_is_ours_alone(short: Path) -> None:
    run = short / "run"
    paths.make_run_dir(run)
    paths.make_run_dir(run)
    assert stat.S_IMODE((run / "keepers").stat().st_mode) == 0o700
    run.chmod(0o777)
    with pytest.raises(BadConfiguration, match="others may write"):
        paths.make_run_dir(run)
    (short / "link").symlink_to(short)
    with pytest.raises(BadConfiguration, match="no directory"):
        paths.make_run_dir(short / "link")
    with pytest.raises(BadConfiguration, match="too long"):
        paths.make_run_dir(short / ("x" * 60))
    (short / "file").touch()
    with pytest.raises(BadConfiguration):
        paths.make_run_dir(short / "file")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory another's")
def test_a_run_directory_of_somebody_else(short: Path) -> None:
    (short / "run").mkdir()
    os.chown(short / "run", 1234, 1234)
    with pytest.raises(BadConfiguration, match="somebody else"):
        paths.make_run_dir(short / "run")


@pytest.mark.parametrize(("text", "place"), [
    ("HPCDIR=/mnt/tree", "/mnt/tree"),
    ("HPCDIR=none", "none"),
    ("MFSDIR=none", "none"),
    ("MFSDIR=none HPCDIR=/mnt/tree", "/mnt/tree"),
    ("MFSDIR=/mnt/all/files", "/mnt/all/hpc"),
    ("", "/hpc" if os.geteuid() == 0 else "RUN/hpc"),
])  # fmt: skip
def test_the_tree_of_hpc_stands_beside_the_files(tmp_path: Path, text: str, place: str) -> None:
    (tmp_path / "openmosix.map").write_text("1 127.0.0.1 1\n")
    (tmp_path / "openmosix.config").write_text(text)
    found = load_configuration(tmp_path, tmp_path / "run", 1)
    assert found.hpc_mount == place.replace("RUN", str(tmp_path / "run"))


def test_older_names_of_the_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    etc = tmp_path / "openmosix"
    etc.mkdir()
    monkeypatch.setattr("omtools.agent.paths.SYSTEM_CONFIG", etc)
    (tmp_path / "hpc.map").write_text("7 10.0.0.7 1\n")
    assert list(read_map(etc).nodes) == [7]
    assert "old name" in caplog.text
    caplog.clear()
    (tmp_path / "openmosix.map").write_text("8 10.0.0.8 1\n")
    assert list(read_map(etc).nodes) == [8]
    (etc / "openmosix.map").write_text("9 10.0.0.9 1\n")
    assert list(read_map(etc).nodes) == [9]
    assert not caplog.text


def test_the_number_in_a_file_of_its_own(tmp_path: Path) -> None:
    assert configured_number(tmp_path, Settings()) == 0
    (tmp_path / "om-node-num").write_text("12\n")
    assert configured_number(tmp_path, Settings()) == 12
    assert configured_number(tmp_path, Settings(number=5)) == 5
    for wrong in ("many", "-1", "65536", "1 2"):
        (tmp_path / "om-node-num").write_text(wrong)
        with pytest.raises(BadConfiguration, match="om-node-num"):
            configured_number(tmp_path, Settings())
