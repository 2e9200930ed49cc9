"""Nodes that find each other: a lab's wire, real multicasts, real agents without a map or a list of keys."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lab.labs import Omlab, until

pytestmark = [
    pytest.mark.alone,  # what is announced on the wire is believed only as long as somebody answers in time
    pytest.mark.timeout(300),  # some sixty programs, one after the other
]

MOVE = """
import fcntl, socket, struct, sys
# netdevice(7): SIOCSIFADDR 0x8916, SIOCSIFNETMASK 0x891c
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    for request, address in zip((0x8916, 0x891c), sys.argv[1:]):
        sockaddr = struct.pack("H2x4s8x", socket.AF_INET, socket.inet_aton(address))
        fcntl.ioctl(s.fileno(), request, b"eth0".ljust(16, b"\\0") + sockaddr + bytes(8))
"""


class Side:
    """One cluster's part on one node of the lab: directories, commands, daemons of its own."""

    def __init__(self, lab: Omlab, node: str, name: str, port: int) -> None:
        self.lab = lab
        self.node = node
        self.directory = f"/tmp/{name}"
        mfs = f"MFSDIR={self.directory}/omfs\n" if name in ("a", "six") else "MFS=no\nMFSDIR=none\n"
        settings = f"AGENTPORT={port}\nAUTODISCIF=eth0\nNODESPEED=10000\n{mfs}"
        self.shell(f"mkdir -p {self.directory}/etc && printf %s '{settings}' > {self.directory}/etc/openmosix.config")

    def argv(self, name: str, *arguments: str) -> list[str]:
        where = [f"OPENMOSIX_CONFIG={self.directory}/etc", f"OPENMOSIX_RUN={self.directory}/run"]
        return ["exec", self.node, "--", "env", *where, sys.executable, "-m", f"omtools.commands.{name}", *arguments]

    def shell(self, script: str) -> str:
        return self.lab.ok("exec", self.node, "--", "sh", "-c", script)

    def run(self, name: str, *arguments: str) -> str:
        return self.lab.ok(*self.argv(name, *arguments))

    def json(self, name: str, *arguments: str) -> Any:
        return json.loads(self.run(name, *arguments, "--json"))

    def serve(self) -> None:
        self.run("openmosix", "start", "--log", f"{self.directory}/log")  # omdiscd with it

    def create(self, name: str) -> str:
        self.run("omkey", "create", name)
        self.serve()
        key: str = self.json("omkey", "show")["key"]
        return key

    def addresses(self) -> dict[int, str]:
        nodes = json.loads(self.run("mosctl", "status", "--json"))["ranges"]
        return {entry["first"]: entry["host"] for entry in nodes}

    def sees(self, expected: dict[int, str]) -> None:
        until(lambda: self.addresses() == expected, f"{self.node} sees {self.addresses()}", 60)

    def up(self, number: int) -> None:
        until(lambda: self.lab(*self.argv("mosctl", "isup", str(number))).returncode == 0, "it is not up", 60)


@pytest.fixture
def lab(my_omlab: Omlab) -> Iterator[Omlab]:
    my_omlab.ok("up")
    yield my_omlab
    my_omlab.ok("down")


@contextlib.contextmanager
def asks(newcomer: Side, key: str, **pipes: int) -> Iterator[subprocess.Popen[str]]:
    """It asks to join, and is not waited for where the test has failed."""
    with newcomer.lab.popen(*newcomer.argv("omkey", "join", "--key", key), **pipes) as asking:
        try:
            yield asking
        finally:
            asking.kill()


def joined(holder: Side, newcomer: Side, key: str) -> None:
    with asks(newcomer, key, stdout=subprocess.PIPE) as asking:
        until(lambda: "waiting" in [one["state"] for one in holder.json("omkey", "list")], "nobody asks", 60)
        assert asking.poll() is None  # nothing happens before somebody decides
        assert len(holder.addresses()) == 1
        holder.run("omkey", "accept", newcomer.node)
        printed, _nothing = asking.communicate(timeout=60)
    assert asking.returncode == 0, printed
    newcomer.serve()


def test_join_find_move_return(lab: Omlab) -> None:
    first, second = Side(lab, "mCii", "a", 4701), Side(lab, "metrakilate", "a", 4701)
    key = first.create("uno")
    joined(first, second, key)
    both = {1: "10.77.0.1", 2: "10.77.0.2"}
    first.sees(both)
    second.sees(both)
    first.up(2)
    # The mount, made before node 2 was found, shows it.
    if os.access("/dev/fuse", os.R_OK | os.W_OK):
        until(
            lambda: {"2", "metrakilate"} <= set(first.shell(f"ls {first.directory}/omfs").split()), "no files", 60
        )
    # A second cluster on the same wire, of nodes with the same names and numbers.
    other = Side(lab, "metrakilate", "b", 4702)
    other.create("dos")
    # A real process over the link that these certificates opened.
    worker = lab.popen("exec", "mCii", "--", "sh", "-c", "echo $$; exec sleep 600", stdout=subprocess.PIPE)
    assert worker.stdout is not None
    pid = worker.stdout.readline().strip()
    moved = first.json("migrate", pid, "2")
    assert (moved["from"], moved["to"]) == (1, 2)
    first.run("migrate", pid, "home")
    first.shell(f"kill {pid}")
    worker.wait(20)
    worker.stdout.close()
    # Node 2 comes back with another address; its key says that it is the same.
    refused = Side(lab, "mCii", "c", 4703)
    in_vain = lab.popen(*refused.argv("omkey", "join", "nothing-like-it"), stderr=subprocess.PIPE)
    lab.ok("exec", "metrakilate", "--", sys.executable, "-c", MOVE, "10.77.0.9", "255.255.255.0")
    both[2] = "10.77.0.9"
    first.sees(both)
    first.up(2)
    assert other.addresses().keys() <= {1, 2}
    assert len(other.addresses()) == 1  # the two clusters have not mixed
    assert first.addresses() == both
    _out, said = in_vain.communicate(timeout=60)
    assert (in_vain.returncode, said.count("\n")) == (72, 1)
    began = time.monotonic()
    with asks(refused, key, stderr=subprocess.PIPE) as asking:
        until(lambda: len(first.json("omkey", "list")) == 2, "nobody asks", 60)
        first.run("omkey", "refuse", "mCii")
        _out, told = asking.communicate(timeout=60)
    assert asking.returncode == 72, (told, time.monotonic() - began)


def test_nodes_that_have_only_link_local_addresses(lab: Omlab) -> None:
    first, second = Side(lab, "mCii", "six", 4705), Side(lab, "metrakilate", "six", 4705)
    for node in (first, second):
        lab.ok("exec", node.node, "--", sys.executable, "-c", MOVE, "0.0.0.0")  # it has none then
        ready = "from omtools.linux.interfaces import address_of as of; exit('%eth0' not in of('eth0'))"
        argv = ("exec", node.node, "--", sys.executable, "-c", ready)
        until(lambda argv=argv: lab(*argv).returncode == 0, "no address", 30)  # type: ignore[misc]
    key = first.create("seis")
    joined(first, second, key)
    until(lambda: len(first.addresses()) == len(second.addresses()) == 2, "they do not find each other", 60)
    assert all(address.startswith("fe80:") and address.endswith("%eth0") for address in first.addresses().values())
    numbers = {node: int(side.json("omkey", "show")["number"]) for node, side in (("1", first), ("2", second))}
    first.up(numbers["2"])
    second.up(numbers["1"])
    worker = lab.popen("exec", "mCii", "--", "sh", "-c", "echo $$; exec sleep 600", stdout=subprocess.PIPE)
    assert worker.stdout is not None
    pid = worker.stdout.readline().strip()
    moved = first.json("migrate", pid, str(numbers["2"]))
    assert moved["to"] == numbers["2"]
    if os.access("/dev/fuse", os.R_OK | os.W_OK):
        second.shell("echo there > /tmp/six/file")
        place = f"{first.directory}/omfs/{numbers['2']}/tmp/six/file"
        until(lambda: lab("exec", "mCii", "--", "cat", place).stdout == "there\n", "no files", 60)
    first.run("migrate", pid, "home")
    first.shell(f"kill {pid}")
    worker.wait(20)
    worker.stdout.close()
    second.run("openmosix", "stop")  # omdiscd ends with it: its lock is free
    second.shell(f"flock -n {second.directory}/run/omdiscd.lock true")
