"""What a netboot server on a real interface does, as text: shown before anything is done, and then done.

Pure: an interface's name and address in, configuration files and sentences out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path

from omtools.i18n import _

HTTP_PORT = 8080
# Boot programs of Debian's package ipxe, for cards whose own is not iPXE; the first word is what PXE calls
# such machines (dnsmasq(8), --pxe-service).
LOADERS = (("x86PC", "undionly.kpxe"), ("X86-64_EFI", "ipxe.efi"))
LOADER_PLACES = (Path("/usr/lib/ipxe"), Path("/usr/share/ipxe"))


@dataclass(frozen=True)
class Server:
    """What is served, and where.

    Attributes:
        interface: the network interface; no other is touched.
        address: this machine's on it.
        directory: where everything is kept.
        loaders: the boot programs for cards without iPXE that are there, by PXE's name of the machines.
    """

    interface: str
    address: IPv4Interface
    directory: Path
    loaders: Sequence[tuple[str, Path]] = ()

    @property
    def tftp(self) -> Path:
        """What TFTP shows."""
        return self.directory / "tftp"

    @property
    def url(self) -> str:
        """Where HTTP is."""
        return f"http://{self.address.ip}:{HTTP_PORT}"


def find_loaders() -> list[tuple[str, Path]]:
    """The boot programs that are installed."""
    return [
        (kind, place / name)
        for kind, name in LOADERS
        for place in LOADER_PLACES
        if (place / name).exists()
    ]  # fmt: skip


def dnsmasq_configuration(server: Server) -> str:
    """The configuration of dnsmasq: proxy DHCP and TFTP, for approved machines."""
    lines = [
        "# Written by omnetboot. DHCP without addresses (those are the router's), and TFTP.",
        "port=0",
        f"interface={server.interface}",
        "except-interface=lo",
        "bind-interfaces",
        f"dhcp-range={server.address.network.network_address},proxy,{server.address.network.netmask}",
        "# Who is not approved gets no answer.",
        f"dhcp-hostsdir={server.directory / 'hosts'}",
        "dhcp-ignore=tag:!approved",
        f"dhcp-leasefile={server.directory / 'leases'}",
        "enable-tftp",
        f"tftp-root={server.tftp}",
        "dhcp-match=set:ipxe,175",
        *(f'pxe-service=tag:!ipxe,{kind},"openMosix",{path.name}' for kind, path in server.loaders),
        *(f'pxe-service=tag:ipxe,{kind},"openMosix",boot.ipxe' for kind in ("x86PC", "X86-64_EFI")),
        "dhcp-boot=tag:ipxe,boot.ipxe",
    ]
    return "\n".join(lines) + "\n"


def boot_script(server: Server) -> str:
    """What iPXE is told to do."""
    return (
        "#!ipxe\n"
        f"kernel {server.url}/vmlinuz initrd=initrd.img initrd=node.cpio console=tty0 console=ttyS0 "
        "BOOTIF=${net0/mac:hexhyp}\n"
        f"initrd {server.url}/initrd.img\n"
        f"initrd --name node.cpio {server.url}/nodes/${{net0/mac:hexhyp}}.cpio || "
        "echo This machine is given no keys.\n"
        "boot\n"
    )


def sentences(server: Server, kernel: str, approved: int, waiting: int) -> list[str]:
    """What will be done, for people."""
    found = [
        _("Interface {interface}, {address}; no other is used, and its addresses stay as they are.").format(
            interface=server.interface, address=server.address
        ),
        _(
            "DHCP (UDP 67, 4011) as a proxy: says what to boot, and gives no addresses; "
            "the router goes on doing that."
        ),
        _("TFTP (UDP 69): the boot script{loaders}.").format(
            loaders="".join(f", {path.name}" for _kind, path in server.loaders)
        ),
        _("HTTP (TCP {port}): kernel ({kernel}), root, and each machine's keys to that machine.").format(
            port=HTTP_PORT, kernel=kernel
        ),
        _("Only approved machines are answered: {approved} approved, {waiting} waiting.").format(
            approved=approved, waiting=waiting
        ),
        _("Files are written below {directory}, and nowhere else.").format(directory=server.directory),
    ]
    if len({kind for kind, _path in server.loaders}) < len(LOADERS):
        found.append(_("Cards without iPXE cannot boot: Debian's package ipxe is not installed."))
    return found
