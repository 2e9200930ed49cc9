"""The list of machines that may boot, and what is shown before anything is done."""

from __future__ import annotations

import os
import subprocess
from ipaddress import IPv4Interface
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from omtools.errors import NetbootNoSuchMachine, NetbootRefused, UsageError
from omtools.lab.netboot import approvals as module
from omtools.lab.netboot.approvals import Approvals, hardware_address
from omtools.lab.netboot.plan import HTTP_PORT, Server, boot_script, dnsmasq_configuration, sentences
from omtools.lab.netboot.serve import heard, prepare

ONE, TWO = "52:54:00:00:00:01", "52:54:00:00:00:02"


@pytest.fixture
def known(tmp_path: Path) -> Approvals:
    return Approvals(tmp_path / "netboot")


def test_who_asks_waits_until_somebody_decides(known: Approvals) -> None:
    assert known.all() == []
    assert known.heard(ONE, 5.0).state == "waiting"
    machine = known.approve("52-54-00-00-00-01", 0, "", {1})
    assert (machine.state, machine.number, machine.name) == ("approved", 2, "node2")
    assert [path.read_text() for path in known.hosts.iterdir()] == [f"{ONE},set:approved\n"]
    assert known.heard(ONE, 9.0, "192.168.1.7").state == "approved"
    assert known.find("NODE2").address == "192.168.1.7"
    assert known.refuse("node2").state == "refused"
    assert list(known.hosts.iterdir()) == []
    assert known.heard(ONE).state == "refused"
    known.forget(ONE)
    assert known.all() == []
    with pytest.raises(NetbootNoSuchMachine):
        known.forget(ONE)


def test_one_that_has_not_asked_yet_can_be_approved_and_keeps_its_place(known: Approvals) -> None:
    known.approve(ONE, 7, "cellar", {1})
    assert known.approve(ONE, 0, "", {1}).number == 7
    assert known.approve("cellar", 8, "", {1}).number == 8
    assert known.approve(TWO, 0, "", {1, 2}).number == 3
    for number, name in ((8, ""), (1, ""), (0, "cellar"), (0, "no name"), (0, "-")):
        with pytest.raises(UsageError):
            known.approve(TWO, number, name, {1})


def test_a_wire_full_of_made_up_addresses_fills_nothing(known: Approvals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    known.approve(ONE, 0, "", {1})
    for number in range(2, 10):
        known.heard(f"52:54:00:00:00:{number:02x}", float(number))
    assert [one.mac[-1] for one in known.all() if one.state == "waiting"] == ["9", "8", "7"]
    assert known.find(ONE).state == "approved"


def test_a_list_that_is_none(known: Approvals) -> None:
    known.heard(ONE)
    (known.directory / "machines.json").write_text("[{")
    with pytest.raises(NetbootRefused, match=r"machines\.json"):
        known.all()
    with pytest.raises(NetbootRefused):
        known.heard(TWO)
    assert (known.directory / "machines.json").read_text() == "[{"


@given(st.binary(min_size=6, max_size=6), st.sampled_from([":", "-"]), st.booleans())
def test_hardware_addresses_as_people_write_them(raw: bytes, between: str, upper: bool) -> None:
    word = raw.hex(between)
    assert hardware_address(word.upper() if upper else word) == raw.hex(":")


@pytest.mark.parametrize("word", ["", "52:54:00:00:00", "52:54:00:00:00:0g", "../../etc/passwd", f"{ONE},set:known"])
def test_what_is_none(word: str) -> None:
    with pytest.raises(UsageError):
        hardware_address(word)


def test_dnsmasq_reads_the_configuration_and_gives_no_addresses(tmp_path: Path) -> None:
    loader = tmp_path / "undionly.kpxe"
    loader.write_bytes(b"loader")
    server = Server("eth7", IPv4Interface("192.168.1.5/24"), tmp_path / "netboot", [("x86PC", loader)])
    prepare(server)
    path = server.directory / "dnsmasq.conf"
    done = subprocess.run(["dnsmasq", "--test", "-C", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = dnsmasq_configuration(server).splitlines()
    assert [line for line in lines if "range" in line] == ["dhcp-range=192.168.1.0,proxy,255.255.255.0"]
    assert {"port=0", "interface=eth7", "bind-interfaces", "dhcp-ignore=tag:!approved"} <= set(lines)
    assert (server.tftp / "undionly.kpxe").read_bytes() == b"loader"
    assert (server.tftp / "boot.ipxe").read_text() == boot_script(server)
    assert f"http://192.168.1.5:{HTTP_PORT}/vmlinuz" in boot_script(server)
    text = "\n".join(sentences(server, "linux-image-amd64", 1, 2))
    assert all(word in text for word in ("eth7", "192.168.1.5/24", "67, 4011", "undionly.kpxe", str(server.directory)))


def test_the_log_of_dnsmasq_tells_who_asks(known: Approvals) -> None:
    said: list[str] = []
    for line in (
        "dnsmasq-dhcp: DHCPDISCOVER(eth0) 52:54:00:00:00:01 ignored",
        "dnsmasq-dhcp: PXE(eth0) 52:54:00:00:00:01 proxy-ignored",
        "dnsmasq-dhcp: read /var/lib/openmosix/netboot/hosts",
    ):
        heard(line, known, said.append)
    assert (len(said), known.all()[0].mac) == (1, ONE)
    known.approve(ONE, 0, "", {1})
    heard("dnsmasq-dhcp: PXE(eth0) 192.168.7.101 52:54:00:00:00:01 proxy", known, said.append)
    assert "node2" in said[-1]


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NetbootRefused):
        Approvals(tmp_path / "file" / "netboot").heard(ONE)
    assert os.listdir(tmp_path) == ["file"]
