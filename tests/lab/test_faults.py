"""A cluster in trouble, in a real lab: nodes hang, wires break, memory runs out."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lab.labs import Omlab, until
from omtools.cluster.marks import Marks

EATER = """
import sys, time
block = bytearray(int(sys.argv[1]) << 20)
for at in range(0, len(block), 4096): block[at] = at % 251
print("ready", flush=True)
sys.stdin.readline()
print(sum(block[at] for at in range(0, len(block), 4096)), flush=True)
"""
WIRE = """
import fcntl, socket, struct, sys
# netdevice(7): SIOCGIFFLAGS 0x8913, SIOCSIFFLAGS 0x8914, IFF_UP 1
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    name = b"eth0".ljust(16, b"\\0")
    flags = struct.unpack_from("H", fcntl.ioctl(s.fileno(), 0x8913, name + bytes(24)), 16)[0]
    flags = flags | 1 if sys.argv[1] == "up" else flags & ~1
    fcntl.ioctl(s.fileno(), 0x8914, name + struct.pack("H22x", flags))
"""


def command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"omtools.commands.{name}", *arguments]


@pytest.fixture
def lab(my_omlab: Omlab) -> Iterator[Omlab]:
    """Two nodes with real agents."""
    del my_omlab.environment["OMLAB_AGENT"]
    my_omlab.ok("up")
    yield my_omlab
    my_omlab.ok("down")


class Watcher:
    """The events of a node, from now on."""

    def __init__(self, lab: Omlab, node: str) -> None:
        self._process = lab.popen("exec", node, "--", *command("mosctl", "events"), stdout=subprocess.PIPE)

    def until(self, what: str) -> dict[str, Any]:
        """The next decision of that kind."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event: dict[str, Any] = json.loads(line)
            if event["type"] == "decided" and event["what"] == what:
                return event
        raise AssertionError("it ended")

    def close(self) -> None:
        self._process.terminate()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process.wait(20)


def known(lab: Omlab, node: str, number: int, what: str) -> str:
    code = (
        "from omtools.agent import api; from omtools.agent.client import Client\n"
        f"print({{n.number: n.{what} for n in Client().call(api.Views(), api.NodeViews).nodes}}[{number}])"
    )
    return lab.ok("exec", node, "--", sys.executable, "-W", "ignore", "-c", code).strip()


def state(lab: Omlab, node: str, number: int) -> str:
    """What a node thinks of another, by gossip."""
    return known(lab, node, number, "state")


def age(lab: Omlab, node: str, number: int) -> float:
    """How old a node's news of another is, in seconds."""
    return float(known(lab, node, number, "age"))


def relieved(lab: Omlab) -> bool:
    """Whether something left node 1, and it has memory enough."""
    report = json.loads(lab.ok("exec", "mCii", "--", *command("mosctl", "status", "--json")))["report"]
    return bool(report["away"]) and report["mem_available"] > Marks().low_bytes(report["mem_total"])


def test_a_node_that_hangs_and_goes_on(lab: Omlab) -> None:
    agent = lab.status()["nodes"][1]["agent_pid"]
    until(lambda: state(lab, "mCii", 2) == "up", "not up", 60)
    os.kill(agent, signal.SIGSTOP)
    try:
        until(lambda: state(lab, "mCii", 2) in ("does not answer", "down"), "nobody notices", 90)
        sleeper = lab.popen("exec", "mCii", "--", "sh", "-c", "echo $$; exec sleep 60", stdout=subprocess.PIPE)
        assert sleeper.stdout is not None
        pid = sleeper.stdout.readline().strip()
        done = lab("exec", "mCii", "--", *command("migrate", pid, "2"))
        assert (done.returncode, done.stderr.count("\n")) == (21, 1), done.stderr
        lab.ok("exec", "mCii", "--", "kill", pid)  # it is there, and ends as it should
        sleeper.wait(20)
        sleeper.stdout.close()
    finally:
        os.kill(agent, signal.SIGCONT)
    until(lambda: state(lab, "mCii", 2) == "up", "it goes on and is not believed", 90)


def test_a_wire_that_breaks_and_heals(lab: Omlab) -> None:
    until(lambda: state(lab, "mCii", 2) == "up", "not up", 60)
    lab.ok("exec", "metrakilate", "--", sys.executable, "-c", WIRE, "down")
    until(lambda: state(lab, "mCii", 2) in ("does not answer", "down"), "nobody notices", 90)
    lab.ok("exec", "metrakilate", "--", sys.executable, "-c", WIRE, "up")
    for node, other in (("mCii", 2), ("metrakilate", 1)):
        until(lambda node=node, other=other: state(lab, node, other) == "up", f"{node} sees nobody", 110)  # type: ignore[misc]


SLEEPER = "import sys; print(__import__('os').getpid(), flush=True); print(sys.stdin.readline(), end='')"


def started(lab: Omlab, node: str) -> tuple[subprocess.Popen[str], str]:
    """A process of that node that waits for a line and repeats it, and its pid there."""
    process = lab.popen("exec", node, "--", sys.executable, "-c", SLEEPER, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def ended(process: subprocess.Popen[str], said: str = "") -> int:
    """Its exit status, once it has been told to go on; it must say that."""
    out, _nothing = process.communicate("on\n", timeout=30)
    assert out == said
    return process.returncode


def test_a_node_that_dies_takes_its_guests_and_nobody_else(lab: Omlab) -> None:
    until(lambda: state(lab, "mCii", 2) == "up", "not up", 60)
    guest, pid = started(lab, "mCii")
    local, other = started(lab, "mCii")
    lab.ok("exec", "mCii", "--", *command("migrate", pid, "2"))
    lab.ok("exec", "mCii", "--", *command("migrate", other, "2"))
    lab.ok("exec", "mCii", "--", *command("migrate", other, "home"))
    os.kill(lab.status()["nodes"][1]["pid"], signal.SIGKILL)
    assert guest.wait(60) in (-signal.SIGKILL, 128 + signal.SIGKILL)  # its parent is told
    until(lambda: state(lab, "mCii", 2) in ("does not answer", "down"), "nobody notices", 90)
    assert ended(local, "on\n") == 0
    for stream in (guest.stdin, guest.stdout):
        assert stream is not None
        stream.close()
    lab.ok("up")  # switched on again
    until(lambda: state(lab, "mCii", 2) == "up", "it is back and not believed", 90)
    back, pid = started(lab, "mCii")
    lab.ok("exec", "mCii", "--", *command("migrate", pid, "2"))
    assert ended(back, "on\n") == 0


def set_clock(lab: Omlab, node: str, offset: str) -> None:
    """Have the clock of that node's agent differ so much from now on."""
    script = f"echo '{offset}' > /tmp/clock.new && mv /tmp/clock.new /tmp/clock"
    lab.ok("exec", node, "--", "sh", "-c", script)


def test_clocks_that_jump(my_omlab: Omlab) -> None:
    library = subprocess.check_output(["faketime", "-f", "+0", "printenv", "LD_PRELOAD"], text=True).strip()
    faked = "FAKETIME_TIMESTAMP_FILE=/tmp/clock FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1"
    agent = f"/usr/bin/env {faked} LD_PRELOAD={library} {shlex.join(command('omagentd'))}"
    my_omlab.environment["OMLAB_AGENT"] = agent
    my_omlab.ok("up")
    for node in ("mCii", "metrakilate"):
        until(lambda node=node: state(my_omlab, node, 2) == "up", "not up", 60)  # type: ignore[misc]
    process, pid = started(my_omlab, "mCii")
    for offset, to in (("+900d", "2"), ("-4000d", "home"), ("+1", "2")):
        set_clock(my_omlab, "metrakilate", offset)
        assert age(my_omlab, "mCii", 2) < 20
        my_omlab.ok("exec", "mCii", "--", *command("migrate", pid, to))
        assert state(my_omlab, "mCii", 2) == state(my_omlab, "metrakilate", 1) == "up"
    assert ended(process, "on\n") == 0
    then = time.localtime(time.time() + 900 * 86400).tm_year
    log = (my_omlab.directory / "metrakilate/agent.log").read_text()
    assert f"\n{then}-" in log  # it did believe its clock
    set_clock(my_omlab, "metrakilate", "-4000d")
    os.kill(my_omlab.status()["nodes"][1]["agent_pid"], signal.SIGKILL)
    my_omlab.ok("up")  # what begins anew in the past is believed too
    until(lambda: state(my_omlab, "mCii", 2) == "up" and age(my_omlab, "mCii", 2) < 20, "not believed", 90)
    my_omlab.ok("down")


@pytest.mark.alone
def test_a_node_short_of_memory_is_relieved(lab: Omlab) -> None:
    configuration = f"{lab.directory}/mCii/etc/openmosix.config"
    with open(configuration, "a", encoding="ascii") as file:
        file.write("MEMTOTAL=400\n")
    os.kill(lab.status()["nodes"][0]["agent_pid"], signal.SIGKILL)
    lab.ok("up")
    until(lambda: state(lab, "mCii", 2) == "up", "not up", 60)
    watcher = Watcher(lab, "mCii")
    eaters = [
        lab.popen("exec", "mCii", "--", *command("mosrun", "-l", sys.executable, "-c", EATER, str(size)),
                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for size in (60, 250)
    ]  # fmt: skip
    try:
        event = watcher.until("usher")
        assert event["target"] == 2
        assert event["figures"]["bytes"] > 50 << 20
        until(lambda: relieved(lab), "nothing left", 60)
        sums = []
        for eater in eaters:
            assert eater.stdin is not None
            assert eater.stdout is not None
            eater.stdin.write("\n")
            eater.stdin.flush()
            assert eater.stdout.readline() == "ready\n"
            sums.append(int(eater.stdout.readline()))
        assert sums == [sum(at % 251 for at in range(0, size << 20, 4096)) for size in (60, 250)]
        assert [eater.wait(30) for eater in eaters] == [0, 0]
    finally:
        watcher.close()
        for eater in eaters:
            eater.kill()
            eater.wait(20)
            for pipe in (eater.stdin, eater.stdout):
                if pipe is not None:
                    pipe.close()
