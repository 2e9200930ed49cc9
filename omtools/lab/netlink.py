"""As much of rtnetlink(7) as wires a lab: a bridge, veth pairs, addresses.

Why not `ip` or pyroute2: a fresh machine may lack iproute2, and importing pyroute2 costs as much time
(0.2 s) as everything else that `omlab up` does before the agents start. The lab needs six messages of an
interface that is fixed for good. A socket stays in the network namespace in which it was opened, so one
process can work in two namespaces at once.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from ipaddress import IPv4Interface, IPv6Interface

# linux/netlink.h
NLMSG_ERROR = 2
NLM_F_REQUEST = 0x001
NLM_F_ACK = 0x004
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
# linux/rtnetlink.h
RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_NEWADDR = 20
# linux/if_link.h
IFLA_IFNAME = 3
IFLA_MASTER = 10
IFLA_LINKINFO = 18
IFLA_NET_NS_FD = 28
IFLA_INFO_KIND = 1
IFLA_INFO_DATA = 2
# linux/veth.h
VETH_INFO_PEER = 1
# linux/if_addr.h
IFA_ADDRESS = 1
IFA_LOCAL = 2
IFA_BROADCAST = 4
IFA_F_NODAD = 2
# net/if.h
IFF_UP = 1
# linux/sockios.h
SIOCGIFINDEX = 0x8933


def _attribute(kind: int, payload: bytes) -> bytes:
    size = 4 + len(payload)
    return struct.pack("=HH", size, kind) + payload + bytes(-size % 4)


def _name(name: str) -> bytes:
    return _attribute(IFLA_IFNAME, name.encode() + b"\0")


def _link(index: int = 0, *, up: bool) -> bytes:
    """A struct ifinfomsg that asks for the flag IFF_UP, or leaves the flags alone."""
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, IFF_UP if up else 0, IFF_UP if up else 0)


class Netlink:
    """A route socket in the network namespace of the thread that opens it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, kind: int, body: bytes, flags: int = 0, what: str = "") -> None:
        """Send one message and wait for the kernel's answer."""
        self._sequence += 1
        flags |= NLM_F_REQUEST | NLM_F_ACK
        header = struct.pack("=IHHII", 16 + len(body), kind, flags, self._sequence, 0)
        self._socket.send(header + body)
        while True:
            answer = self._socket.recv(65536)
            _, got, _, sequence, _ = struct.unpack_from("=IHHII", answer)
            if sequence != self._sequence or got != NLMSG_ERROR:
                continue
            (error,) = struct.unpack_from("=i", answer, 16)
            if error:
                raise OSError(-error, os.strerror(-error), what)
            return

    def add_bridge(self, name: str) -> int:
        """Make a bridge that is up; returns its index."""
        info = _attribute(IFLA_LINKINFO, _attribute(IFLA_INFO_KIND, b"bridge"))
        body = _link(up=True) + _name(name) + info
        self._ask(RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL, f"bridge {name}")
        return self.index(name)

    def add_veth(self, name: str, master: int, peer: str, peer_netns: int) -> None:
        """Make a cable: `name` here, up and in bridge `master`; `peer` in `peer_netns`, still down."""
        # down: while the kernel makes it, it has no other end yet, and refuses to be up without
        other = _link(up=False) + _name(peer) + _attribute(IFLA_NET_NS_FD, struct.pack("=i", peer_netns))
        data = _attribute(IFLA_INFO_DATA, _attribute(VETH_INFO_PEER, other))
        info = _attribute(IFLA_LINKINFO, _attribute(IFLA_INFO_KIND, b"veth") + data)
        body = _link(up=True) + _name(name) + _attribute(IFLA_MASTER, struct.pack("=i", master)) + info
        self._ask(RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL, f"veth {name}")

    def add_to_bridge(self, name: str, bridge: int) -> None:
        """Make a link a port of the bridge with that index."""
        body = _link(self.index(name), up=False) + _attribute(IFLA_MASTER, struct.pack("=i", bridge))
        self._ask(RTM_NEWLINK, body, what=f"{name} in a bridge")

    def delete(self, name: str) -> None:
        """Take a link away; for a cable this takes both ends."""
        self._ask(RTM_DELLINK, _link(up=False) + _name(name), what=f"delete {name}")

    def set_up(self, name: str) -> None:
        """Switch a link on."""
        self._ask(RTM_NEWLINK, _link(self.index(name), up=True), what=f"{name} up")

    def add_address(self, name: str, address: IPv4Interface | IPv6Interface) -> None:
        """Give a link an address; one of IPv6 is used at once, without asking whether somebody has it."""
        six = isinstance(address, IPv6Interface)
        family, flags = (socket.AF_INET6, IFA_F_NODAD) if six else (socket.AF_INET, 0)
        header = struct.pack("=BBBBI", family, address.network.prefixlen, flags, 0, self.index(name))
        own, broadcast = address.ip.packed, address.network.broadcast_address.packed
        attributes = _attribute(IFA_LOCAL, own) + _attribute(IFA_ADDRESS, own)
        attributes += b"" if six else _attribute(IFA_BROADCAST, broadcast)
        self._ask(RTM_NEWADDR, header + attributes, NLM_F_CREATE | NLM_F_EXCL, f"{address} on {name}")

    def index(self, name: str) -> int:
        """The number of a link in the socket's own namespace."""
        # not socket.if_nametoindex: that one looks into the namespace where the thread is *now*
        request = struct.pack("=16s24x", name.encode())
        return int(struct.unpack_from("=i", fcntl.ioctl(self._socket, SIOCGIFINDEX, request), 16)[0])
