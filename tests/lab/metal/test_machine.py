"""The command lines, and that the configuration files of the image say what the lab's constants say."""

from __future__ import annotations

from pathlib import Path

import pytest

from omtools.errors import MetalNoRoom, MetalProgramMissing
from omtools.lab.metal import checks, identity, layers
from omtools.lab.metal.machine import Direct, Sockets, command_line
from omtools.lab.metal.wire import Wire
from omtools.lab.settings import NETWORK, lab_address

SOCKETS = Sockets(console=11, log=12, control=13, wire=Wire(14))


def test_the_wire_is_a_pair_of_sockets_or_a_tap() -> None:
    assert "dgram,id=wire,local.type=fd,local.str=14" in command_line(2, SOCKETS)
    tapped = Sockets(console=11, log=12, control=13, wire=Wire(15, tap=True))
    assert "tap,id=wire,fd=15" in command_line(2, tapped)
    assert tapped.all() == (11, 12, 13, 15)


def test_the_diskless_machine_has_neither_disk_nor_kernel() -> None:
    command = command_line(2, SOCKETS)
    assert not {"-kernel", "-initrd", "-append", "-drive", "-hda", "-cdrom", "-fw_cfg"} & set(command)
    assert "virtio-net-pci,netdev=wire,mac=52:54:00:77:00:02,bootindex=1" in command
    assert sum(word == "-netdev" for word in command) == 1
    assert command[command.index("-accel") + 1] == "tcg,thread=multi"
    assert command[command.index("-cpu") + 1] == "EPYC"


def test_mcii_can_be_reached_from_here_and_reaches_nothing_itself() -> None:
    command = command_line(1, SOCKETS, Direct(Path("/k"), Path("/i")))
    assert command[command.index("-kernel") + 1] == "/k"
    way = next(word for word in command if word.startswith("user,"))
    assert "restrict=on" in way
    assert "hostfwd=tcp:127.0.0.1:0-:22" in way


@pytest.mark.parametrize("number", identity.NUMBERS)
def test_every_socket_is_plugged_in_once(number: int) -> None:
    text = " ".join(command_line(number, SOCKETS))
    assert [text.count(f"fd={fd}") + text.count(f"str={fd}") for fd in SOCKETS.all()] == [1, 1, 1, 1]
    assert "kvm" not in text


def test_dhcp_knows_the_diskless_machine() -> None:
    text = netboot("dnsmasq.conf")
    assert f"dhcp-host={identity.hardware_address(2)},{lab_address(2)},metrakilate\n" in text
    assert str(NETWORK.network.netmask) in text
    assert "tftp-root=/srv/tftp\n" in text


def netboot(name: str) -> str:
    return (layers.ROOTFS / "server/usr/share/omlab/netboot" / name).read_text()


def test_what_ipxe_fetches_is_what_the_solution_puts_there() -> None:
    solution = netboot("solve")
    fetched = [line.split(":8080/")[1].split()[0] for line in netboot("boot.ipxe").splitlines() if ":8080/" in line]
    assert [one.partition("/")[0] for one in fetched] == ["vmlinuz", "initrd.img", "nodes"]
    for one in fetched:
        assert f"/srv/tftp/{one.partition('/')[0]}\n" in solution
    assert "${net0/mac:hexhyp}.cpio" in netboot("boot.ipxe")


def test_the_web_server_serves_the_wire_only() -> None:
    rules = [line for line in netboot("httpd.conf").splitlines() if not line.startswith("#")]
    assert rules == ["A:10.77.0.", "D:*"]


def test_scripts_are_programs_and_texts_are_not() -> None:
    modes = {entry.path: entry.mode & 0o777 for part in ("both", "server") for entry in layers.rootfs_entries(part)}
    for name in ("init", "etc/init.d/rcS", "etc/init.d/netboot", "usr/share/omlab/netboot/solve"):
        assert modes[name] == 0o755
    assert modes["etc/passwd"] == modes["usr/share/omlab/netboot/dnsmasq.conf"] == 0o644


@pytest.mark.parametrize("program", [*checks.TO_BUILD, *checks.TO_RUN], ids=lambda one: one.name)
def test_a_missing_program_is_named_with_its_package(
    program: checks.Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MetalProgramMissing) as caught:
        checks.check_programs((program,))
    said = str(caught.value)
    assert said.startswith(f"{program.name} is missing")
    assert f"apt-get install --no-install-recommends {program.package}`" in said
    assert "\n" not in said


def test_a_missing_boot_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "ROMS", ("/nonexistent/efi-virtio.rom",))
    with pytest.raises(MetalProgramMissing, match="ipxe-qemu"):
        checks.check_rom()


def test_too_little_memory_and_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.available_mb() > 0
    monkeypatch.setattr(checks, "available_mb", lambda: 700)
    with pytest.raises(MetalNoRoom, match=r"700 MB of memory are free and the machines need \d+ MB"):
        checks.check_memory(2)
    checks.check_memory(0)
    with pytest.raises(MetalNoRoom, match="disk space at"):
        checks.check_disk(tmp_path / "not" / "there" / "yet", 1 << 40)
    checks.check_disk(tmp_path, 0)
