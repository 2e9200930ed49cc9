"""The shapes of setsockopt and getsockopt: which options are flat, and the two that point to a filter."""

from __future__ import annotations

from typing import NamedTuple

from omtools.i18n import N_, _
from omtools.migration.calls.build import Build, Decided, Step, signed32
from omtools.migration.calls.model import ComeHome, OutRule
from omtools.migration.calls.shapes import ValueResult

SOL_SOCKET = 1  # include/uapi/asm-generic/socket.h
OPTION_MAX = 1 << 20
PRELOAD = 4096
SOCK_FILTER = 8  # include/uapi/linux/filter.h: struct sock_filter

# Levels (include/linux/socket.h, include/uapi/linux/in.h) whose options hold no pointer, but for _NESTED.
_FLAT = frozenset({
    0,    # SOL_IP
    SOL_SOCKET,
    6,    # SOL_TCP
    17,   # SOL_UDP
    40,   # AF_VSOCK, which is its own level
    41,   # SOL_IPV6
    58,   # SOL_ICMPV6
    136,  # SOL_UDPLITE
    255,  # SOL_RAW
    263,  # SOL_PACKET
    269,  # SOL_DCCP
    270,  # SOL_NETLINK
    279,  # SOL_ALG
    282,  # SOL_TLS
    284,  # SOL_MPTCP
})
_NESTED = frozenset({
    (0, 64), (0, 65), (0, 66), (0, 67),  # IPT_SO_SET_REPLACE and its kin, linux/netfilter_ipv4/ip_tables.h
    (0, 96), (0, 128),                   # ARPT_BASE_CTL, EBT_BASE_CTL
    (41, 64), (41, 65),                  # IP6T_SO_SET_REPLACE, linux/netfilter_ipv6/ip6_tables.h
    (6, 35),                             # TCP_ZEROCOPY_RECEIVE, linux/tcp.h: maps pages into the process
    (263, 22),                           # PACKET_FANOUT_DATA, linux/if_packet.h
    (284, 4),                            # MPTCP_FULL_INFO, linux/mptcp.h
})
_FILTERS = frozenset({26, 51})  # SO_ATTACH_FILTER, SO_ATTACH_REUSEPORT_CBPF (asm-generic/socket.h)

_UNKNOWN = N_("it uses socket option {option} of level {level}, whose layout is not known here")


def _check(b: Build) -> tuple[int, int]:
    """Level and option, if it is one that can travel."""
    level, option = signed32(b.raw[1]), signed32(b.raw[2])
    if level not in _FLAT or (level, option) in _NESTED:
        raise Decided(ComeHome(_(_UNKNOWN).format(option=option, level=level)))
    return level, option


class SetOption(NamedTuple):
    """Argument 3 points to the value, argument 4 is its length."""

    def step(self) -> Step:
        """See Shape."""

        def put(b: Build) -> None:
            level, option = _check(b)
            address, length = b.raw[3], signed32(b.raw[4])
            if not address:
                return
            if length <= 0:
                b.args[3] = b.base
                return
            value = b.memory.read(address, min(length, OPTION_MAX))
            if level == SOL_SOCKET and option in _FILTERS and length >= 16:
                # struct sock_fprog (linux/filter.h): unsigned short len, at 8 the filter's address
                count, where = int.from_bytes(value[:2], "little"), int.from_bytes(value[8:16], "little")
                if where and count:
                    where = b.base + b.put(b.memory.read(where, SOCK_FILTER * count))
                value = value[:8] + where.to_bytes(8, "little")
            b.args[3] = b.base + b.put(value)

        return put


class GetOption(NamedTuple):
    """Argument 3 points to room for the value, argument 4 to its length, in and out."""

    def step(self) -> Step:
        """See Shape."""
        give = ValueResult(3, 4, OPTION_MAX, OutRule.ALWAYS, PRELOAD).step()

        def get(b: Build) -> None:
            if _check(b) == (SOL_SOCKET, 26):  # SO_GET_FILTER counts instructions, not bytes
                raise Decided(ComeHome(_(_UNKNOWN).format(option=26, level=SOL_SOCKET)))
            give(b)

        return get
