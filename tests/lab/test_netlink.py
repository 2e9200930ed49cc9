from __future__ import annotations

import os
import socket
from collections.abc import Callable
from ipaddress import IPv4Interface, IPv6Interface

import pytest

from omtools.lab.netlink import Netlink
from omtools.linux.namespaces import Clone, IdRange, open_namespace, unshare, write_id_maps


def in_own_network(body: Callable[[], None]) -> None:
    """Run `body` in a child with a network namespace of its own."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            uid, gid = os.getuid(), os.getgid()
            unshare(Clone.NEWUSER | Clone.NEWNET)
            write_id_maps([IdRange(0, uid)], [IdRange(0, gid)])
            body()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_an_address_of_ipv6_is_used_at_once() -> None:
    def body() -> None:
        with Netlink() as net:
            net.set_up("lo")
            net.add_address("lo", IPv6Interface("fd00:77::1/64"))
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
            one.bind(("fd00:77::1", 0))

    in_own_network(body)


def test_a_bridge_and_a_cable_carry_a_connection() -> None:
    def body() -> None:
        with Netlink() as here:
            bridge = here.add_bridge("hub")
            assert bridge == here.index("hub") == socket.if_nametoindex("hub")
            servers = []
            for number in (1, 2):
                unshare(Clone.NEWNET)
                with Netlink() as there:
                    own = open_namespace("self", "net")
                    here.add_veth(f"node{number}", bridge, "eth0", own)
                    there.add_address("eth0", IPv4Interface(f"10.9.0.{number}/24"))
                    there.set_up("lo")
                    there.set_up("eth0")
                servers.append(socket.create_server((f"10.9.0.{number}", 99)))
            with socket.create_connection(("10.9.0.1", 99), timeout=5) as client:
                assert servers[0].accept()[1][0] == "10.9.0.2"
                assert client.getsockname()[0] == "10.9.0.2"
            here.delete("node1")
            with pytest.raises(OSError, match="node1"):
                here.delete("node1")

    in_own_network(body)


def test_errors_have_their_errno_and_say_what() -> None:
    def body() -> None:
        with Netlink() as net:
            net.add_bridge("hub")
            with pytest.raises(FileExistsError, match="bridge hub"):
                net.add_bridge("hub")
            with pytest.raises(OSError, match="No such device"):
                net.set_up("nothing")

    in_own_network(body)
