from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from omtools.linux import interfaces
from omtools.linux.interfaces import (
    address_of,
    default_interface,
    listen,
    parse_if_inet6,
    parse_ipv6_route,
    socket_address,
)


def test_the_loopback_interface() -> None:
    assert address_of("lo") == "127.0.0.1"


@pytest.mark.parametrize("name", ["", "nothing-like", "far-too-long-for-the-kernel", "ä"])
def test_no_such_interface(name: str) -> None:
    with pytest.raises(OSError, match="No such device"):
        address_of(name)


def test_the_default_route_is_one_of_the_machines() -> None:
    found = default_interface()
    routes = [line.split() for line in Path("/proc/net/route").read_text().splitlines()[1:]]
    assert found in [fields[0] for fields in routes if fields[1] == "00000000"] or not found


ADDRESSES = """\
fe80000000000000005056fffec00001 02 40 20 80    eth0
fd000000000000000000000000000002 02 40 00 82    eth0
fe80000000000000005056fffec00009 03 40 20 c0    eth1
20010db8000000000000000000000009 03 40 00 01    eth1
fe80000000000000005056fffec00008 04 40 20 80    eth2
00000000000000000000000000000001 01 80 10 80      lo
"""


@pytest.mark.parametrize(("interface", "address"), [
    ("eth0", "fd00::2"), ("eth1", None), ("eth2", "fe80::50:56ff:fec0:8%eth2"), ("lo", "::1"), ("eth9", None),
])  # fmt: skip
def test_addresses_of_version_6(interface: str, address: str | None) -> None:
    assert parse_if_inet6(ADDRESSES, interface) == address  # tentative and temporary ones are not its own


def test_who_has_no_address_of_version_4(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_interface: str) -> str:
        raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")

    monkeypatch.setattr(interfaces, "_address4", none)
    monkeypatch.setattr(interfaces, "_address6", lambda _interface: "fe80::1%lo")
    assert address_of("lo") == "fe80::1%lo"
    monkeypatch.setattr(interfaces, "_address6", lambda _interface: None)
    with pytest.raises(OSError, match="Cannot assign"):
        address_of("lo")


def test_default_routes_of_version_6() -> None:
    zeros = "0" * 32
    lines = [
        f"{zeros} 00 {zeros} 00 fe80{zeros[4:]} 00000400 00000001 00000000 00450003     eth1",
        f"{zeros} 00 {zeros} 00 fe80{zeros[4:]} 00000100 00000001 00000000 00450003     eth0",
        f"{zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200       lo",
    ]
    assert parse_ipv6_route("\n".join(lines)) == "eth0"
    assert parse_ipv6_route(lines[2]) == ""


def test_sockets_of_both_versions() -> None:
    for address, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
        with listen(address) as listening, socket.create_connection(listening.getsockname()[:2], 20):
            assert listening.family is family
    with listen("::") as listening:
        for address in ("127.0.0.1", "::1"):
            socket.create_connection((address, listening.getsockname()[1]), 20).close()
    index = socket.if_nametoindex("lo")
    assert socket_address("fe80::1%lo", 7)[1][1:] == (7, 0, index)
    with pytest.raises(OSError, match=r"."):
        socket_address("not an address", 1)
