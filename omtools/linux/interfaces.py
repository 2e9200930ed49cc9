"""Network interfaces: their addresses, and which one the default route uses.

An IPv6 address that holds on one link only is meant with its zone, as in ``fe80::1%eth0`` (RFC 4007); the
zone is this machine's name of the interface, so it never travels.
"""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import socket
import struct
from typing import Any

_SIOCGIFADDR = 0x8915  # linux/sockios.h
_SIOCGIFNETMASK = 0x891B  # linux/sockios.h
_IFNAMSIZ = 16  # linux/if.h
_RTF_UP = 1  # linux/route.h
_SCOPE_LINK = 0x20  # IPV6_ADDR_LINKLOCAL of the kernel's net/ipv6.h
# linux/if_addr.h: IFA_F_TEMPORARY 1, IFA_F_DADFAILED 8, IFA_F_DEPRECATED 0x20, IFA_F_TENTATIVE 0x40
_PASSING = 0x01 | 0x08 | 0x20 | 0x40


def address_of(interface: str) -> str:
    """The IPv4 address of an interface, or, where it has none, its IPv6 address, of widest scope first.

    Raises:
        OSError: there is no such interface, or it has neither.
    """
    try:
        return _address4(interface)
    except OSError as error:
        if error.errno != errno.EADDRNOTAVAIL:
            raise
        if (found := _address6(interface)) is None:
            raise
        return found


def socket_address(address: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    """What bind(2) takes for a numerical address, zone included; raises OSError."""
    found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    return found[0][0], found[0][4]


def listen(address: str, backlog: int | None = None) -> socket.socket:
    """A socket that listens there, at a port that the kernel chooses; raises OSError."""
    family, where = socket_address(address, 0)
    both = address == "::" and socket.has_dualstack_ipv6()
    return socket.create_server(where, family=family, backlog=backlog, dualstack_ipv6=both)


def parse_if_inet6(text: str, interface: str) -> str | None:
    """The address of an interface by /proc/net/if_inet6 that will stay its own: the widest scope first."""
    found: list[tuple[int, str]] = []
    for line in text.splitlines():
        digits, _index, _prefix, scope, flags, name = line.split()
        if name != interface or int(flags, 16) & _PASSING:
            continue
        address = str(ipaddress.IPv6Address(bytes.fromhex(digits)))
        link_local = int(scope, 16) == _SCOPE_LINK
        found.append((int(scope, 16), f"{address}%{interface}" if link_local else address))
    return min(found)[1] if found else None


def parse_ipv6_route(text: str) -> str:
    """As `default_interface`, by /proc/net/ipv6_route."""
    found = []
    for line in text.splitlines():
        destination, length, _source, _length, _next, metric, _users, _used, flags, name = line.split()
        if not int(destination, 16) and length == "00" and int(flags, 16) & _RTF_UP and name != "lo":
            found.append((int(metric, 16), name))
    return min(found)[1] if found else ""


def _address6(interface: str) -> str | None:
    try:
        with open("/proc/net/if_inet6", encoding="ascii") as file:
            return parse_if_inet6(file.read(), interface)
    except OSError:  # a kernel without IPv6
        return None


def _address4(interface: str) -> str:
    """By netdevice(7)."""
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
    return min(found)[1] if found else _default_interface6()


def _default_interface6() -> str:
    try:
        with open("/proc/net/ipv6_route", encoding="ascii") as file:
            return parse_ipv6_route(file.read())
    except OSError:
        return ""
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
