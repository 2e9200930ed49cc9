"""This machine as mCii, an emulated one as metrakilate: another kernel, another vdso, a processor that lacks much."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.labs import until
from lab.metal.test_boot import PATIENCE, Machines, machines_of
from omtools.errors import MetalIsHere, MetalNotHere, MetalProgramMissing, ProcessorLacks
from omtools.image.platform import this_platform
from omtools.lab.metal.here import BASELINE
from omtools.lab.metal.layers import ROOTFS
from omtools.lab.state import Being

pytestmark = [
    pytest.mark.machines,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can put a card of its own on the wire"),
]
MIGRATE = f"{sys.executable} -m omtools.commands.migrate"

JOB = """
import sys, time
def lines():
    x, last = 1, time.monotonic()
    while True:
        for _ in range(2000):
            x = x * 6364136223846793005 + 1442695040888963407 & (1 << 64) - 1
        now = time.monotonic()
        assert now >= last and time.time() > 1e9 and time.process_time() > 0
        last = now
        yield f"{x} {x / 3.0!r}"
for line in lines():
    print(line, flush=True)
"""
GOES_ON = """
had=$(wc -l < {out})
until [ $(wc -l < {out}) -gt $((had + 20)) ]; do kill -0 {pid} || exit 1; sleep 0.05; done
"""


def expected(count: int) -> list[str]:
    scope: dict[str, Any] = {}
    exec(JOB.partition("for line in lines")[0], scope)
    return list(itertools.islice(scope["lines"](), count))


def directories() -> dict[str, tuple[int, int, set[str]]]:
    """Mode, owner and names of the directories of this machine that mCii sees changed."""
    found = {}
    for path in ("/", "/etc", "/srv", "/usr", "/usr/share", "/var", "/var/lib", "/var/log", "/boot", "/dev"):
        about = os.stat(path)
        names = set() if path == "/dev" else {entry.name for entry in os.scandir(path)}
        found[path] = (about.st_mode, about.st_uid, names)
    return found


@pytest.fixture(scope="module")
def machines(built: Path) -> Iterator[Machines]:
    before = directories()
    with machines_of("root", built) as found:
        found.ok("up", "--metal=here")
        yield found
    assert directories() == before


def start(machines: Machines, node: str, out: str, before: str = "") -> str:
    """Start the job on a node, and see that it writes; returns its pid there."""
    machines.on(node, "cat > /tmp/job.py", stdin=JOB)
    pid = machines.on(node, f"{before} /usr/bin/env python3 /tmp/job.py > {out} 2>&1 </dev/null & echo $!").strip()
    machines.on(node, f"until [ -s {out} ]; do sleep 0.05; done")
    return pid


def goes_on(machines: Machines, node: str, pid: str, out: str) -> None:
    machines.on(node, GOES_ON.format(out=out, pid=pid))


def right(machines: Machines, node: str, pid: str, out: str) -> None:
    """End it, and see whether it has counted well."""
    said = machines.on(node, f"kill {pid}; cat {out}").splitlines()[:-1]
    assert said == expected(len(said))


@pytest.mark.parametrize(("node", "other", "migrate"), [("mCii", "metrakilate", MIGRATE), ("metrakilate", "mCii", "migrate")])
def test_between_unlike_machines(machines: Machines, node: str, other: str, migrate: str) -> None:
    assert machines.on("mCii", "uname -r") != machines.on("metrakilate", "uname -r")
    out = "/tmp/out"
    pid = start(machines, node, out)
    there = json.loads(machines.on(node, f"{migrate} --json {pid} {other}"))
    assert there["bytes"] > 100_000
    goes_on(machines, node, pid, out)
    machines.on(node, f"{migrate} {pid} home")
    goes_on(machines, node, pid, out)
    right(machines, node, pid, out)


@pytest.mark.skipif("avx512f" not in this_platform().cpu_flags, reason="this processor lacks it itself")
def test_registers_in_use_that_are_not_there(machines: Machines) -> None:
    pid = start(machines, "mCii", "/tmp/wide", "env -u GLIBC_TUNABLES")
    done = machines("exec", "mCii", "--", "sh", "-c", f"{MIGRATE} {pid} metrakilate")
    assert done.returncode == ProcessorLacks.exit_status
    assert "AVX-512" in done.stderr
    goes_on(machines, "mCii", pid, "/tmp/wide")
    right(machines, "mCii", pid, "/tmp/wide")


def test_an_instruction_that_is_unknown_there_brings_it_home(machines: Machines) -> None:
    pid = start(machines, "mCii", "/tmp/odd", f"env GLIBC_TUNABLES={BASELINE.replace(',-XSAVEC', '')}")
    machines("exec", "mCii", "--", "sh", "-c", f"{MIGRATE} {pid} metrakilate")  # it may be home before it was said to be away
    goes_on(machines, "mCii", pid, "/tmp/odd")
    right(machines, "mCii", pid, "/tmp/odd")


def test_its_services_are_its_own(machines: Machines) -> None:
    """What the lesson writes is read, and nothing of it is seen outside."""
    shipped = (ROOTFS / "server/usr/share/omlab/netboot/dnsmasq.conf").read_text()
    assert machines.on("mCii", "cat /etc/dnsmasq.conf") == shipped
    assert machines.on("mCii", "hostname; grep -c eth0: /proc/net/dev") == "mCii\n1\n"
    for path in ("/etc/dnsmasq.conf", "/srv/tftp", "/etc/omlab", "/usr/share/omlab", "/var/lib/omlab"):
        assert not Path(path).exists()
    sent = [event["path"] for event in machines.events() if event["event"] == "http-sent"]
    assert sent == ["/vmlinuz", "/initrd.img", "/nodes/52-54-00-77-00-02.cpio"]


def test_status_and_what_only_a_machine_has(machines: Machines) -> None:
    found = json.loads(machines.ok("status", "--json"))
    assert (found["here"], [node["here"] for node in found["nodes"]]) == (True, [True, False])
    for words in (("power", "off", "mCii"), ("power", "reset", "mCii"), ("console", "mCii")):
        done = machines(*words)
        assert (done.returncode, done.stderr.count("\n")) == (MetalIsHere.exit_status, 1)
    assert machines("up", "--metal").returncode == 40
    assert "10.77.0.1" in machines.ok("list")
    assert machines.ok("shell", "mCii", stdin="hostname\n") == "mCii\n"


def test_the_cable_from_either_end(machines: Machines) -> None:
    for end in ("mCii", "metrakilate"):
        machines.ok("cable", "out", end)
        assert machines("exec", "mCii", "--", "busybox", "ping", "-c1", "-W1", "10.77.0.2").returncode == 1
        machines.ok("cable", "in", end)
        machines.on("mCii", "until busybox ping -c1 -W1 10.77.0.2; do :; done")


def test_mcii_that_is_ended_from_outside_takes_metrakilate_along_and_comes_back(machines: Machines) -> None:
    assert Being.of(machines.node("mCii")["pid"]).kill()
    until(lambda: machines.node("mCii")["power"] == "off", "it is seen", PATIENCE)
    until(lambda: machines.node("metrakilate")["power"] == "off", "its wire is gone", PATIENCE)
    machines.ok("power", "on", "mCii")
    until(lambda: machines.node("mCii")["agent"], "it is back", PATIENCE)
    machines.ok("power", "on", "metrakilate")
    until(lambda: "http-sent" in [event["event"] for event in machines.events()[-6:]], "it boots from it", PATIENCE)


def test_the_workshop_is_held_there(machines: Machines) -> None:
    """Its shell, and what its checks read, are this machine's as mCii; what it has not is refused in a sentence."""
    lines = ["cat /proc/sys/kernel/hostname", "ip addr show eth0", "power off metrakilate",
             "/usr/share/omlab/netboot/tree /srv/nfs/root", ":quit"]  # fmt: skip
    environment = {name: value for name, value in machines.omlab.environment.items() if name != "OMLAB_AGENT"}
    done = subprocess.run(
        [sys.executable, "-m", "omtools.commands.omsh", "--lesson", "3", "--lang", "en"],
        input="".join(f"{line}\n" for line in lines), env={**environment, "XDG_STATE_HOME": str(machines.omlab.runtime)},
        text=True, capture_output=True, check=False, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(words in done.stdout for words in ("\nmCii\n", "10.77.0.1/24", "mCii is this machine here"))
    assert machines.node("metrakilate")["power"] == "off"
    machines.ok("power", "on", "metrakilate")


def test_nothing_survives_the_supervisor(machines: Machines) -> None:
    beings = [Being.of(node["pid"]) for node in json.loads(machines("status", "--json").stdout)["nodes"]]
    state = json.loads((machines.directory / "metal.json").read_text())
    assert Being(**state["supervisor"]).kill()
    until(lambda: not any(being.alive() for being in beings), "the kernel ends them", PATIENCE)
    assert "down" in machines.ok("down")
    assert not machines.omlab.processes()


def test_without_the_right_to_make_a_card(built: Path) -> None:
    with machines_of("nobody", built) as found:
        done = found("up", "--metal=here")
        assert (done.returncode, "/dev/net/tun" in done.stderr) == (MetalNotHere.exit_status, True)


def test_without_the_services_programs(machines: Machines, tmp_path: Path) -> None:
    (tmp_path / "qemu-system-x86_64").symlink_to("/usr/bin/qemu-system-x86_64")
    machines.ok("down")
    machines.omlab.environment["PATH"] = str(tmp_path)
    done = machines("up", "--metal=here")
    assert (done.returncode, "busybox is missing" in done.stderr) == (MetalProgramMissing.exit_status, True)
