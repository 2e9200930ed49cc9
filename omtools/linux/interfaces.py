"""Network interfaces: their addresses, and which one the default route uses."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct

_SIOCGIFADDR = 0x8915  # linux/sockios.h
_SIOCGIFNETMASK = 0x891B  # linux/sockios.h
_IFNAMSIZ = 16  # linux/if.h
_RTF_UP = 1  # linux/route.h


def address_of(interface: str) -> str:
    """The IPv4 address of an interface (netdevice(7)).

    Raises:
        OSError: there is no such interface, or it has none.
    """
    name = interface.encode()
    if not name or len(name) >= _IFNAMSIZ:
        raise OSError(19, "No such device")  # ENODEV, as the kernel says of a name that nothing has
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        answer = fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, struct.pack("16s24x", name))
    return str(ipaddress.IPv4Address(answer[20:24]))  # struct sockaddr_in begins at 16, its address at 20


def default_interface() -> str:
    """The interface of the default route with the lowest metric, "" if there is no such route (proc(5))."""
    found: list[tuple[int, str]] = []
    try:
        with open("/proc/net/route", encoding="ascii") as file:
            lines = file.read().splitlines()[1:]
    except OSError:
        return ""
    for line in lines:
        fields = line.split()
        # Iface Destination Gateway Flags RefCnt Use Metric Mask ...
        if fields[1] == "00000000" and fields[7] == "00000000" and int(fields[3], 16) & _RTF_UP:
            found.append((int(fields[6]), fields[0]))
    return min(found)[1] if found else ""


def interface_of(interface: str) -> ipaddress.IPv4Interface:
    """The IPv4 address of an interface with its network.

    Raises:
        OSError: there is no such interface, or it has no address.
    """
    address = address_of(interface)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        answer = fcntl.ioctl(probe.fileno(), _SIOCGIFNETMASK, struct.pack("16s24x", interface.encode()))
    return ipaddress.IPv4Interface(f"{address}/{ipaddress.IPv4Address(answer[20:24])}")


def hardware_address_of(address: str) -> str:
    """The hardware address at which the kernel knows a neighbour's IPv4 address; "" if it knows none."""
    try:
        with open("/proc/net/arp", encoding="ascii") as file:  # proc_net(5)
            lines = file.read().splitlines()[1:]
    except OSError:
        return ""
    return next((fields[3].lower() for fields in map(str.split, lines) if fields[0] == address), "")
