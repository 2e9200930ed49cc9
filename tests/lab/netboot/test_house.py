"""A stranger's PC in a house with a router: it waits, is approved, boots over the network, and becomes a node."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.labs import CHECKOUT, until
from lab.netboot.house import KERNEL, MAC
from omtools.lab.metal import image
from omtools.lab.metal.layers import for_real_machines

pytestmark = [
    pytest.mark.alone,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can serve DHCP"),
]
PATIENCE = 240.0  # for hangs only


class House:
    """The house, and this node's tools in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        config = directory / "etc"
        config.mkdir(mode=0o700)
        (config / "openmosix.config").write_text("AUTODISC=yes\nAUTODISCIF=eth0\nMFSDIR=none\nMIGRATE=no\n")
        self.environment = {
            **os.environ, "PYTHONPATH": str(CHECKOUT), "OPENMOSIX_CONFIG": str(config),
            "OPENMOSIX_RUN": str(directory / "run"),
        }  # fmt: skip
        image.build(kind=for_real_machines(KERNEL))  # in the house there is no way to Debian's packages
        self.tool("omkey", "create", "--number", "1", "house")
        argv = [sys.executable, str(Path(__file__).with_name("house.py")), str(directory)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(argv, env=self.environment, stdin=pipe, stdout=pipe, text=True)

    def tool(self, name: str, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", f"omtools.commands.{name}", *words]
        return subprocess.run(argv, env=self.environment, capture_output=True, text=True, check=False, timeout=PATIENCE)

    def omnetboot(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.tool("omnetboot", *words, "--directory", str(self.directory / "netboot"))

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def text(self, name: str) -> str:
        path = self.directory / name
        return path.read_text(errors="replace") if path.exists() else ""

    def sees(self, name: str, words: str) -> None:
        until(lambda: words in self.text(name), f"{words} in {name}: {self.text(name)[-2000:]}", PATIENCE)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with tempfile.TemporaryDirectory(prefix="om") as short:  # the agent's sockets want a short path
        Path(short).chmod(0o755)  # dnsmasq is an ordinary user when it has its ports
        found = House(Path(short))
        try:
            yield found
        finally:
            assert found.process.stdin is not None
            assert found.process.stdout is not None
            found.process.stdin.close()
            assert found.process.wait(PATIENCE) == 0
            found.process.stdout.close()


def test_a_stranger_is_left_alone_and_waits(house: House) -> None:
    house.tell("server")
    house.sees("said", "serving on eth0")
    house.tell("on")
    house.sees("said", f"{MAC} asks for something to boot")
    house.sees("router", "DHCPACK(eth0) 192.168.7.")
    house.sees("screen", "No more network devices")
    (one,) = json.loads(house.omnetboot("list", "--json").stdout)
    assert (one["mac"], one["state"]) == (MAC, "waiting")
    assert "waiting" in house.omnetboot("list").stdout
    house.tell("off")


def test_once_approved_it_boots_and_is_a_node(house: House) -> None:
    done = house.omnetboot("approve", MAC, "--name", "cellar")
    assert (done.returncode, "as node 2, cellar" in done.stdout) == (0, True), done.stderr
    house.tell("on")
    house.sees("said", "cellar (52:54:00:12:34:56) boots, from 192.168.7.")
    until(lambda: house.tool("mosctl", "isup", "cellar").stdout == "yes\n", "it joins", PATIENCE)
    (one,) = json.loads(house.omnetboot("list", "--json").stdout)
    assert one["address"].startswith("192.168.7.1")
    assert house.text("router").count("DHCPACK") >= 2  # the addresses are the router's


def test_its_keys_are_given_to_nobody_else(house: House) -> None:
    """The server itself, with another card, asks for them."""
    script = (
        "import sys, urllib.request, urllib.error\n"
        "from omtools.linux.namespaces import enter\n"
        "enter(int(sys.argv[1]), ('net',))\n"
        "for path in ('nodes/52-54-00-12-34-56.cpio', '../../etc/passwd'):\n"
        "    try:\n"
        "        urllib.request.urlopen(f'http://192.168.7.10:8080/{path}')\n"
        "    except urllib.error.HTTPError as error:\n"
        "        print(error.code)\n"
    )
    argv = [sys.executable, "-c", script, str(house.process.pid)]
    done = subprocess.run(argv, env=house.environment, capture_output=True, text=True, check=False)
    assert done.stdout == "404\n404\n", done.stderr
    house.sees("said", "asked for the keys of 52:54:00:12:34:56, which it is not")


def test_refused_it_is_answered_no_more(house: House) -> None:
    assert house.omnetboot("refuse", "cellar").returncode == 0
    assert not list((house.directory / "netboot" / "hosts").iterdir())
    assert not list((house.directory / "netboot" / "nodes").iterdir())
    assert house.omnetboot("refuse", "nobody").returncode == 119
