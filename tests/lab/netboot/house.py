"""A house in namespaces: a router that gives out addresses, a node with omnetboot, and a stranger's PC on one wire.

    python house.py DIRECTORY

Reads lines from standard input: `server`, `on`, `off`; at its end everything ends. The PC is a QEMU whose card is
iPXE; its screen is in DIRECTORY/screen, what omnetboot says in DIRECTORY/said, the router's log in DIRECTORY/router.
"""

from __future__ import annotations

import os
import subprocess
import sys
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

from omtools.lab.metal.wire import Wire, open_tap
from omtools.lab.netlink import Netlink
from omtools.linux.namespaces import Clone, open_namespace, set_parent_death_signal, unshare

MAC = "52:54:00:12:34:56"
NETWORK = "192.168.7"
SIGKILL = 9
KERNEL = "linux-image-cloud-amd64"


def start(argv: list[str], log: Path, keep: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
    own = os.getpid()
    with open(log, "ab") as file:
        return subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file, pass_fds=keep,
            preexec_fn=lambda: set_parent_death_signal(SIGKILL, own),  # noqa: PLW1509 - there is one thread
        )


def enter_room(wires: Netlink, bridge: int, number: int) -> None:
    """Into a network namespace of its own, with a cable to the bridge and an address."""
    unshare(Clone.NEWNET)
    own = open_namespace("self", "net")
    wires.add_veth(f"room{number}", bridge, "eth0", own)
    os.close(own)
    with Netlink() as net:
        net.add_address("eth0", IPv4Interface(f"{NETWORK}.{number}/24"))
        if number == 1:
            net.add_address("eth0", IPv6Interface("fd00:7::1/64"))
        net.set_up("lo")
        net.set_up("eth0")


def pc(directory: Path, tap: int) -> subprocess.Popen[bytes]:
    command = [
        "qemu-system-x86_64", "-M", "q35,graphics=off", "-accel", "tcg,thread=multi", "-cpu", "EPYC", "-m", "512",
        "-display", "none", "-nodefaults", "-no-user-config", "-no-reboot", "-serial", f"file:{directory / 'screen'}",
        "-device", "virtio-rng-pci", "-netdev", Wire(tap, tap=True).netdev("n"),
        "-device", f"virtio-net-pci,netdev=n,mac={MAC},bootindex=1",
    ]  # fmt: skip
    return start(command, directory / "qemu", (tap,))


def main() -> None:
    """Build it, and do what is said."""
    directory = Path(sys.argv[1])
    unshare(Clone.NEWNET)
    with Netlink() as wires:
        bridge = wires.add_bridge("house")
        tap = open_tap("pc", MAC[:-2] + "57")
        wires.add_to_bridge("pc", bridge)
        wires.set_up("pc")
        enter_room(wires, bridge, 1)
        running = [start([
            "dnsmasq", "-k", "--conf-file=/dev/null", "--port=0", "--log-facility=-", "--user=root", "--group=root",
            "--bind-interfaces", "--interface=eth0", "--except-interface=lo", "--pid-file=", "--no-ping",
            f"--dhcp-leasefile={directory / 'leases'}", f"--dhcp-range={NETWORK}.100,{NETWORK}.199,255.255.255.0,1h",
            f"--dhcp-option=3,{NETWORK}.1", "--dhcp-authoritative",
            "--enable-ra", "--dhcp-range=fd00:7::,ra-only",
        ], directory / "router")]  # fmt: skip
        enter_room(wires, bridge, 10)
    tool = [sys.executable, "-m"]
    for argv in (["omagentd", "--foreground"], ["omdiscd", "--nodaemon", "--interface", "eth0"]):
        running.append(start([*tool, f"omtools.commands.{argv[0]}", *argv[1:]], directory / "agent"))
    machine = None
    for line in sys.stdin:
        if line == "server\n":
            words = ["run", "--interface", "eth0", "--yes", "--kernel", KERNEL, "--directory", str(directory / "netboot")]
            running.append(start([*tool, "omtools.commands.omnetboot", *words], directory / "said"))
        elif line == "on\n":
            machine = pc(directory, tap)
        elif machine is not None:
            machine.kill()
            machine.wait()
        print("done", flush=True)
    for one in (*reversed(running), *([machine] if machine else [])):
        one.terminate()
        one.wait()


if __name__ == "__main__":
    main()
