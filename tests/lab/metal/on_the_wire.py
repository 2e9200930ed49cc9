"""This machine in metrakilate's place on the wire: a network namespace whose one card is a cable's end.

    python on_the_wire.py SOCKET ARGUMENT…

SOCKET is the descriptor of a datagram socket, a frame of Ethernet per datagram, as QEMU has it. Runs an agent
with the other arguments until standard input ends.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
import threading
from ipaddress import IPv4Interface

from omtools.lab.metal.identity import DISKLESS, hardware_address
from omtools.lab.netlink import Netlink
from omtools.lab.settings import lab_address
from omtools.linux.namespaces import Clone, unshare

_TUNSETIFF = 0x400454CA                 # <linux/if_tun.h>
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_SIOCSIFHWADDR = 0x8924                 # <linux/sockios.h>
_ARPHRD_ETHER = 1                       # <linux/if_arp.h>
_CARD = b"wire0"
_FRAME = 65536


def plug_in() -> int:
    """A card on the wire; returns the descriptor by which its frames go in and out."""
    tap = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH14x", _CARD, _IFF_TAP | _IFF_NO_PI))
    address = bytes.fromhex(hardware_address(DISKLESS).replace(":", ""))
    with Netlink() as netlink, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFHWADDR, struct.pack("16sH6s8x", _CARD, _ARPHRD_ETHER, address))
        netlink.set_up("lo")
        netlink.set_up(_CARD.decode())
        netlink.add_address(_CARD.decode(), IPv4Interface(f"{lab_address(DISKLESS)}/24"))
    return tap


def main() -> None:
    """Carry frames and run the agent."""
    wire = socket.socket(fileno=int(sys.argv[1]))
    wire.setblocking(True)
    unshare(Clone.NEWNET)
    tap = plug_in()

    def outward() -> None:
        while True:
            wire.send(os.read(tap, _FRAME))

    def inward() -> None:
        while True:
            os.write(tap, wire.recv(_FRAME))

    for carry in (outward, inward):
        threading.Thread(target=carry, daemon=True).start()
    agent = subprocess.Popen([sys.executable, "-m", "omtools.commands.omagentd", *sys.argv[2:]])
    sys.stdin.read()
    agent.terminate()
    sys.exit(agent.wait())


if __name__ == "__main__":
    main()
