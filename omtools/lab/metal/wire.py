"""An end of the wire, as QEMU is given it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
from dataclasses import dataclass

_TUNSETIFF = 0x400454CA  # linux/if_tun.h
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000  # linux/if_tun.h
_SIOCSIFHWADDR = 0x8924  # linux/sockios.h
_ARPHRD_ETHER = 1  # linux/if_arp.h
_FRAME = 65536
TUN = "/dev/net/tun"


@dataclass(frozen=True)
class Wire:
    """One end of the wire.

    Attributes:
        descriptor: a datagram socket, a frame of Ethernet per datagram, or a tap.
        tap: whether it is a tap.
    """

    descriptor: int
    tap: bool = False

    def netdev(self, name: str) -> str:
        """QEMU's option -netdev for it; see qemu(1)."""
        if self.tap:
            return f"tap,id={name},fd={self.descriptor}"
        return f"dgram,id={name},local.type=fd,local.str={self.descriptor}"

    def lose(self) -> None:
        """Take the frames that have arrived, which get lost."""
        with contextlib.suppress(OSError):  # there are no more, or the other end is gone for good
            while os.read(self.descriptor, _FRAME):
                pass


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a wire between two machines."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for end in ends:
        end.setblocking(False)
    return ends


def open_tap(name: str, hardware: str) -> int:
    """Make a network card in this process's network namespace whose cable's other end is a descriptor.

    The card lives as long as the descriptor, or a copy of it.

    Args:
        name: of the card.
        hardware: its address.

    Raises:
        OSError: no such device, or no right to it.
    """
    tap = os.open(TUN, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH14x", name.encode(), _IFF_TAP | _IFF_NO_PI))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            raw = bytes.fromhex(hardware.replace(":", ""))
            request = struct.pack("16sH6s8x", name.encode(), _ARPHRD_ETHER, raw)
            fcntl.ioctl(any_socket, _SIOCSIFHWADDR, request)
    except BaseException:
        os.close(tap)
        raise
    return tap
