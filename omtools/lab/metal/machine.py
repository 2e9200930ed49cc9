"""A machine as QEMU's command line: what is plugged into it, and how it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omtools.lab.metal import checks
from omtools.lab.metal.identity import SERVER, hardware_address
from omtools.lab.metal.wire import Wire
from omtools.lab.settings import node_name

WIRE = "wire"  # QEMU's name of the network card on the wire, for set_link
WAY = "way"
WAY_HARDWARE_ADDRESS = "52:54:00:77:ff:01"
GATEWAY = "10.0.2.2"  # where connections through the way in seem to come from: QEMU's user network
SSH_PORT = 22


@dataclass(frozen=True)
class Sockets:
    """The machine's ends of the sockets that its supervisor holds, as descriptor numbers.

    Attributes:
        console: its serial line.
        log: where its log is told to the lab.
        control: QEMU's machine protocol.
        wire: Ethernet frames.
    """

    console: int
    log: int
    control: int
    wire: Wire

    def all(self) -> tuple[int, ...]:
        """Every one of them."""
        return (self.console, self.log, self.control, self.wire.descriptor)


@dataclass(frozen=True)
class Direct:
    """A start from files instead of over the network.

    Attributes:
        kernel: the kernel.
        initrd: its root file system.
    """

    kernel: Path
    initrd: Path


def command_line(number: int, sockets: Sockets, direct: Direct | None = None) -> list[str]:
    """The command line of node `number`.

    The wire is mostly a pair of datagram sockets, of which the supervisor keeps both ends: a machine can be
    switched off and on again at either end, and nobody else can plug in. TCG, never KVM: where this machine
    is an emulated one itself, /dev/kvm tells nothing of whether a kernel starts there. -cpu EPYC has a plain
    XSAVE area (XCR0 = 7), the same wherever it is emulated; q35 without graphics lets firmware and iPXE speak
    on the serial line.
    """
    card = f"virtio-net-pci,netdev={WIRE},mac={hardware_address(number)}"
    command = [
        checks.EMULATOR, "-name", node_name(number), "-M", "q35,graphics=off",
        "-accel", "tcg,thread=multi", "-cpu", "EPYC", "-smp", "1", "-m", str(checks.MACHINE_MB),
        "-display", "none", "-nodefaults", "-no-user-config",
        "-chardev", f"socket,id=console,fd={sockets.console}", "-serial", "chardev:console",
        "-chardev", f"socket,id=control,fd={sockets.control}", "-mon", "chardev=control,mode=control",
        "-device", "virtio-rng-pci",
        "-device", "virtio-serial-pci", "-chardev", f"socket,id=log,fd={sockets.log}",
        "-device", "virtserialport,chardev=log,nr=1,name=omlab.log",
        "-netdev", sockets.wire.netdev(WIRE),
    ]  # fmt: skip
    if direct is None:
        return [*command, "-device", f"{card},bootindex=1"]
    return [
        *command, "-device", f"{card},romfile=", "-kernel", str(direct.kernel), "-initrd", str(direct.initrd),
        "-append", "console=ttyS0", *(_way_in() if number == SERVER else ()),
    ]  # fmt: skip


def _way_in() -> Sequence[str]:
    """A second card of mCii, through which only its SSH port can be reached, and from this machine only."""
    return (
        "-netdev", f"user,id={WAY},restrict=on,hostfwd=tcp:127.0.0.1:0-:{SSH_PORT}",
        "-device", f"virtio-net-pci,netdev={WAY},mac={WAY_HARDWARE_ADDRESS},romfile=",
    )  # fmt: skip
