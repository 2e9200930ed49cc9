"""Two real machines: one boots from files, the other over the wire from it, and processes move between them."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from pilots import application, piloted, screen_text, until as until_shown

from lab.labs import NOBODY, ORDINARY, Omlab, labs_of, until
from omtools.lab.metal import plan
from omtools.lab.state import Being
from omtui.simulated import SimulatedAgent
from omtui.world import World

pytestmark = [pytest.mark.machines, pytest.mark.timeout(1200)]
PATIENCE = 420.0
ROOT = "root" if os.geteuid() == 0 else "self"

PI = """
import os
import sys

def digits():
    q, r, t, k, n, l = 1, 0, 1, 1, 3, 3
    while True:
        if 4 * q + r - t < n * t:
            yield n
            q, r, n = 10 * q, 10 * (r - n * t), 10 * (3 * q + r) // t - 10 * n
        else:
            q, r, t, k, n, l = q * k, (2 * q + r) * l, t * l, k + 1, (q * 7 * k + 2 + r * l) // (t * l), l + 2

pi = digits()
while not os.path.exists("stop"):
    print("".join(str(next(pi)) for _ in range(10)), flush=True)
"""
ROUNDS = 8000
AWK = f"""
BEGIN {{
    x = 1
    for (i = 1; ; i++) {{
        x = (x * 16807) % 2147483647
        if (i % {ROUNDS} == 0) {{ print i, x; fflush(); if ((getline line < "stop") > 0) exit }}
    }}
}}
"""


def expected_awk(lines: int) -> str:
    x, found = 1, []
    for i in range(1, lines * ROUNDS + 1):
        x = x * 16807 % 2147483647
        if i % ROUNDS == 0:
            found.append(f"{i} {x}\n")
    return "".join(found)


def expected_pi(lines: int) -> str:
    found: dict[str, Any] = {}
    exec(PI.partition("pi = digits()")[0], found)
    digits = found["digits"]()
    return "".join("".join(str(next(digits)) for _ in range(10)) + "\n" for _ in range(lines))


class Machines:
    """A metal lab as its user sees it: the command omlab, patiently."""

    def __init__(self, omlab: Omlab) -> None:
        self.omlab = omlab
        self.directory = Path(f"{omlab.directory}.metal")

    def __call__(self, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.omlab.argv(*args), input=stdin, env=self.omlab.environment, text=True, capture_output=True,
            timeout=PATIENCE, check=False,
        )

    def ok(self, *args: str, stdin: str = "") -> str:
        done = self(*args, stdin=stdin)
        assert done.returncode == 0, (args, done.stdout, done.stderr, self.screens())
        return done.stdout

    def on(self, node: str, script: str, stdin: str = "") -> str:
        return self.ok("exec", node, "--", "sh", "-c", script, stdin=stdin)

    def node(self, name: str) -> dict[str, Any]:
        found = json.loads(self("status", "--json").stdout)["nodes"]
        return next(node for node in found if node["name"] == name)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.ok("events", "--json").splitlines()]

    def screens(self) -> str:
        return "\n".join(path.read_text(errors="replace")[-1500:] for path in self.directory.glob("console-*"))

    def printed(self) -> str:
        """All that was ever on the screens."""
        return "\n".join(path.read_text(errors="replace") for path in self.directory.glob("console-*"))

    def asks_in_vain(self) -> bool:
        return "Configuring (net0" in self.screens()


def give(cache: Path, omlab: Omlab) -> None:
    """Let an ordinary user's lab have a copy of what is built already."""
    own = omlab.runtime / ".cache/openmosix/metal"
    shutil.copytree(cache, own, ignore=shutil.ignore_patterns("packages", ".*"))
    for path in (omlab.runtime / ".cache", *(omlab.runtime / ".cache").rglob("*")):
        os.chown(path, NOBODY, NOBODY)


@contextlib.contextmanager
def machines_of(user: str, cache: Path) -> Iterator[Machines]:
    with contextlib.closing(cast("Generator[Omlab, None, None]", labs_of(user))) as labs:
        omlab = next(labs)
        found = Machines(omlab)
        if user == "nobody":
            give(cache, omlab)
        try:
            yield found
        finally:
            found("down")
        assert not found.directory.exists()
        assert next(labs, None) is None  # it looks for what may be left


@pytest.fixture(scope="module")
def machines(built: Path) -> Iterator[Machines]:
    """Those of an ordinary user: nothing about them needs root."""
    with machines_of(ORDINARY, built) as found:
        found.ok("up", "--metal")
        yield found


def test_both_are_up_and_their_agents_know_each_other(machines: Machines) -> None:
    done = machines("status")
    assert done.returncode == 0, done.stdout
    assert [node["agent"] for node in json.loads(machines.ok("status", "--json"))["nodes"]] == [True, True]
    for node, other in (("mCii", "metrakilate"), ("metrakilate", "mCii")):
        assert machines.ok("exec", node, "--", "mosctl", "isup", other) == "yes\n"
    assert machines.ok("list").split() == ["1", "mCii", "10.77.0.1", "2", "metrakilate", "10.77.0.2"]


def test_metrakilate_came_over_the_wire(machines: Machines) -> None:
    found = [event for event in machines.events() if event["node"] == "metrakilate"]
    names = [event["event"] for event in found]
    steps = ["power-on", "firmware", "dhcp-discover", "dhcp-offer", "dhcp-request", "dhcp-ack", "tftp-sent",
             "http-request", "http-sent", "kernel", "root", "booted", "agent-ready"]  # fmt: skip
    assert [names.index(step) for step in steps] == sorted(names.index(step) for step in steps)
    sent = [event["path"] for event in found if event["event"] == "http-sent"]
    assert sent == ["/vmlinuz", "/initrd.img", "/nodes/52-54-00-77-00-02.cpio"]
    assert [event["at"] for event in found] == sorted(event["at"] for event in found)
    assert "no-disk" in machines.on("metrakilate", "ls /sys/block | grep . || echo no-disk")
    assert not [event for event in machines.events() if event["event"] == "problem"]


def test_both_run_the_same_bytes(machines: Machines) -> None:
    what = "sha256sum /usr/bin/python3 /usr/lib/*/libc.so.6 /usr/bin/busybox; uname -rv"
    assert machines.on("mCii", what) == machines.on("metrakilate", what)


def test_programs_on_the_machines(machines: Machines) -> None:
    assert machines.ok("exec", "2", "hostname") == "metrakilate\n"
    assert machines("exec", "mCii", "--", "sh", "-c", "exit 7").returncode == 7
    assert machines("exec", "metrakilate", "--", "sh", "-c", "kill -TERM $$").returncode == 128 + 15
    assert machines.ok("exec", "metrakilate", "--", "cat", stdin="one\ntwo\n") == "one\ntwo\n"
    assert machines("exec", "mCii", "--", "no-such-program").returncode == 127
    assert machines("exec", "3", "true").returncode == 42
    assert "PID" in machines.ok("exec", "mCii", "--", "mps")
    assert machines.on("mCii", "ssh metrakilate hostname </dev/null") == "metrakilate\n"
    assert machines.ok("shell", "mCii", stdin="hostname\n") == "mCii\n"


def executes(machines: Machines, pid: str) -> str:
    """The number of the node that executes a process of mCii's."""
    return machines.ok("exec", "mCii", "--", "mps", "-o", "pid,args", "-p", pid).splitlines()[-1].split()[1]


@pytest.mark.parametrize(
    ("program", "expected"), [(f"awk {shlex.quote(AWK)}", expected_awk), ("python3 pi.py", expected_pi)], ids=["awk", "pi"]
)
def test_a_program_moves_there_and_home(machines: Machines, program: str, expected: Callable[[int], str]) -> None:
    """It counts on until it is told to stop, so it moves in the midst of it however slow everything is."""
    machines.on("mCii", "rm -f stop; cat > pi.py", stdin=PI)
    pid = machines.on("mCii", f"{program} > out 2>&1 </dev/null & echo $!").strip()

    def goes_on() -> None:
        machines.on("mCii", "had=$(wc -l < out); until [ $(wc -l < out) -gt $((had + 1)) ]; do usleep 20000; done")

    goes_on()
    there = json.loads(machines.ok("exec", "mCii", "--", "migrate", "--json", pid, "metrakilate"))
    assert there["bytes"] > 10_000  # its program is on both machines, so that does not travel
    assert executes(machines, pid) == "2"
    goes_on()
    machines.ok("exec", "mCii", "--", "migrate", pid, "home")
    assert executes(machines, pid) == "0"
    goes_on()
    machines.on("mCii", f"echo > stop; while [ -d /proc/{pid} ]; do usleep 20000; done")
    written = machines.on("mCii", "cat out")
    assert written == expected(written.count("\n"))


def test_the_cable(machines: Machines) -> None:
    assert "cable is out" in machines.ok("cable", "out", "metrakilate")
    assert machines("status").returncode == 1
    until(lambda: machines.on("mCii", "mosctl isup metrakilate || true") == "no\n", "it is missed", PATIENCE)
    machines.ok("cable", "in", "metrakilate")
    until(lambda: machines.on("mCii", "mosctl isup metrakilate || true") == "yes\n", "it is back", PATIENCE)
    assert [event["event"] for event in machines.events() if "cable" in event["event"]] == ["cable-out", "cable-in"]


def test_several_people_at_one_console(machines: Machines) -> None:
    pipe = subprocess.PIPE
    argv = machines.omlab.argv("console", "metrakilate")
    watching = subprocess.Popen([*argv, "--watch"], env=machines.omlab.environment, stdin=subprocess.DEVNULL, stdout=pipe)
    typing = subprocess.Popen(argv, env=machines.omlab.environment, stdin=pipe, stdout=pipe)
    assert typing.stdin is not None
    try:
        typing.stdin.write(b"echo six-times-seven-is-$((6 * 7))\n")
        typing.stdin.flush()
        for one in (watching, typing):
            assert one.stdout is not None
            seen = b""
            while b"six-times-seven-is-42" not in seen:
                data = one.stdout.read1(4096)  # type: ignore[attr-defined] # a pipe's buffered reader has it
                assert data, seen
                seen += data
        typing.stdin.write(b"\x1d")  # Ctrl-]
        typing.stdin.flush()
        assert typing.wait(PATIENCE) == 0
        assert "six-times-seven-is-42" in (machines.directory / "console-metrakilate.log").read_text(errors="replace")
    finally:
        for one in (watching, typing):
            one.kill()
            one.communicate()


async def test_the_console_of_a_booted_machine_in_omtui(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "home", lambda: machines.directory)
    async with SimulatedAgent(World(2, 4), tick=None) as agent:
        app = application(agent)
        async with piloted(app, (80, 24)) as pilot:
            app.obey("console metrakilate")
            await until_shown(pilot, lambda: "the console of metrakilate" in screen_text(app))
            await pilot.press("enter", *"echo seven-times-six-is-$((7*6))", "enter")
            await until_shown(pilot, lambda: "seven-times-six-is-42" in screen_text(app))
            await pilot.press(*"head -c 3000 /dev/zero | tr '\\0' x; echo; clear; uname -n", "enter")
            await until_shown(pilot, lambda: screen_text(app).splitlines()[1:2] == ["metrakilate"])
            await pilot.press("ctrl+right_square_bracket")
            await until_shown(pilot, lambda: app.screen is app.page)
        app = application(agent, read_only=True)
        async with piloted(app, (80, 24)) as pilot:
            app.obey("console 2")
            await until_shown(pilot, lambda: "READ-ONLY" in screen_text(app))
            await pilot.press(*"echo nobody-has-typed-this", "enter")
            machines.ok("exec", "metrakilate", "--", "sh", "-c", "echo said-elsewhere >/dev/console")
            await until_shown(pilot, lambda: "said-elsewhere" in screen_text(app))
            assert "nobody-has-typed-this" not in screen_text(app)
            await pilot.press("ctrl+right_square_bracket")


def test_a_machine_that_dies_is_off_and_can_be_switched_on(machines: Machines) -> None:
    assert Being.of(machines.node("metrakilate")["pid"]).kill()
    until(lambda: machines.node("metrakilate")["power"] == "off", "it is seen", PATIENCE)
    assert machines.events()[-1]["why"]
    assert machines("exec", "metrakilate", "true").returncode == 52
    assert "starting" in machines.ok("power", "on", "metrakilate")
    assert "off" in machines.ok("power", "off", "metrakilate")
    assert machines.ok("exec", "mCii", "hostname") == "mCii\n"


def test_up_completes_what_is_missing_and_the_other_kind_is_refused(machines: Machines) -> None:
    done = machines("up")
    assert done.returncode == 40
    assert "machines is up" in done.stderr
    assert machines("env", "mCii").returncode == 40
    machines.ok("up", "--metal", "--json")
    assert machines("status").returncode == 0


def test_nothing_survives_the_supervisor(machines: Machines) -> None:
    pids = [node["pid"] for node in json.loads(machines.ok("status", "--json"))["nodes"]]
    qemus = [Being.of(pid) for pid in pids]
    state = json.loads((machines.directory / "metal.json").read_text())
    assert Being(**state["supervisor"]).kill()
    until(lambda: not any(qemu.alive() for qemu in qemus), "the kernel kills the machines")
    assert machines("status").returncode == 1
    assert machines("exec", "mCii", "true").returncode == 41
    assert "down" in machines.ok("down")
    assert not machines.omlab.processes()


def build(cache: Path) -> dict[str, bytes]:
    """Build the image, and return its files."""
    argv = [sys.executable, "-m", "omtools.commands.omlab", "image", "build"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    subprocess.run(argv, env=environment, check=True, capture_output=True, timeout=PATIENCE)
    return {path.name: path.read_bytes() for path in (cache / "openmosix/metal").glob("*-*")}


def test_the_image_is_reproducible_as_a_whole(built: Path, tmp_path: Path) -> None:
    other = tmp_path / "openmosix/metal"
    other.mkdir(parents=True)
    for name in ("packages", "packages.json"):  # the same packages; everything else from nothing
        (other / name).symlink_to(built / name)
    made = build(tmp_path)
    assert len(made) == 6
    assert made == {name: (built / name).read_bytes() for name in made}


def test_an_up_that_is_killed_leaves_nothing_that_down_does_not_find(built: Path) -> None:
    with machines_of(ROOT, built) as machines:
        up = machines.omlab.popen("up", "--metal", stderr=subprocess.DEVNULL)
        until(lambda: "Linux version" in machines.printed(), "mCii starts", PATIENCE)
        up.kill()
        up.wait()
        assert machines.omlab.processes()
        machines.ok("down")
        assert not machines.omlab.processes()


def test_bare_until_somebody_sets_up_the_services_and_then_with_a_root_by_nfs(built: Path) -> None:
    with machines_of(ROOT, built) as machines:
        machines.ok("up", "--metal", "--bare", "--root", "nfs")
        assert machines.node("metrakilate")["power"] == "off"
        made = "/etc/dnsmasq.conf /srv/tftp/boot.ipxe /etc/exports /srv/nfs"
        assert machines.on("mCii", f"ls {made} 2>&1 || true").count("No such file") == 4
        machines.ok("power", "on", "metrakilate")
        until(machines.asks_in_vain, "it asks for an address", PATIENCE)
        assert not [event for event in machines.events() if event["event"].startswith("dhcp")]
        machines.on("mCii", "/usr/share/omlab/netboot/solve")
        machines.ok("power", "reset", "metrakilate")
        until(lambda: machines.node("metrakilate")["agent"], "it is a node", PATIENCE)
        it_lives_on_files_of_mcii(machines)
        a_process_goes_there(machines)


def it_lives_on_files_of_mcii(machines: Machines) -> None:
    """Its root is mCii's directory, which it cannot change; what it must write is in its memory."""
    mounts = [line.split() for line in machines.on("metrakilate", "cat /proc/mounts").splitlines()]
    (root,) = [mount for mount in mounts if mount[1] == "/"]
    assert (root[0], root[2], root[3].split(",")[0]) == ("10.77.0.1:/srv/nfs/root", "nfs4", "ro")
    assert {mount[2] for mount in mounts if mount[1] in ("/etc", "/root", "/run", "/tmp", "/var")} == {"tmpfs"}
    assert machines("exec", "metrakilate", "--", "touch", "/usr/mine").returncode == 1
    events = [(event["event"], event.get("path")) for event in machines.events()]
    assert ("nfs-root", "10.77.0.1:/srv/nfs/root") in events[events.index(("http-sent", "/netroot.img")) :]
    assert ("http-request", "/initrd.img") not in events
    same = "ls -i /usr/bin/python3.11 /srv/nfs/root/usr/bin/python3.11 | cut -d/ -f1 | uniq | wc -l"
    assert machines.on("mCii", same.replace("python3.11", Path(os.path.realpath(sys.executable)).name)) == "1\n"
    machines.on("mCii", "echo new > /srv/nfs/root/new")
    assert machines.on("metrakilate", "cat /new") == "new\n"
    secrets = "find /srv/nfs/root -name '*key*' -o -name '*.cpio' -o -name host | grep -v /usr/ || true"
    assert machines.on("mCii", secrets) == ""


def a_process_goes_there(machines: Machines) -> None:
    counted = "awk 'BEGIN { for (i = 0; ; i++) if (i % 100000 == 0) { print i; fflush() } }' > out 2>&1 </dev/null & echo $!"
    pid = machines.on("mCii", counted).strip()
    until(lambda: machines.on("mCii", "mosctl isup metrakilate || true") == "yes\n", "they know each other", PATIENCE)
    machines.ok("exec", "mCii", "--", "migrate", pid, "metrakilate")
    assert executes(machines, pid) == "2"
    machines.on("mCii", "had=$(wc -l < out); until [ $(wc -l < out) -gt $((had + 1)) ]; do usleep 20000; done")
    machines.on("mCii", f"kill {pid}")
