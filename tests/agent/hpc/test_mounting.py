"""The tree on the real kernel, by cat and echo, with agents whose keepers move nothing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands.conftest import Nodes
from short import short_directory

from agent.support import Cluster
from omtools.linux.fuse.mount import find_mount, is_dead

pytestmark = pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="this user may not open /dev/fuse"
)
STRANGER = 1000


@dataclass
class Tree:
    """The tree of node 1."""

    nodes: Nodes
    path: Path

    def sh(self, script: str, uid: int = 0) -> str:
        """What a shell in the tree says, errors too."""
        argv = ["bash", "-c", script]
        if uid:
            argv = ["setpriv", f"--reuid={uid}", "--clear-groups", *argv]
        done = subprocess.run(
            argv, cwd=self.path, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, "LC_ALL": "C"}
        )
        return done.stdout + done.stderr

    def refusal(self, text: str, file: str, uid: int = 0) -> str:
        """The last words of `echo text > file`."""
        return self.sh(f"echo '{text}' > {file}", uid).strip().rpartition(": ")[2]


@pytest.fixture
def tree() -> Iterator[Tree]:
    directory = short_directory()
    directory.chmod(0o755)
    nodes = Nodes(Cluster(directory, 2))
    place = directory / "tree"
    with (nodes.cluster.config(1) / "openmosix.config").open("a") as config:
        config.write(f"HPCDIR={place}\n")
    try:
        for number in (1, 2):
            nodes.start(number)
        yield Tree(nodes, place)
    finally:
        for number in list(nodes.agents):
            nodes.stop(number)
        assert find_mount(str(place)) is None
        shutil.rmtree(directory)


@pytest.fixture
def sleeper() -> Iterator[int]:
    process = subprocess.Popen(["sleep", "600"])
    yield process.pid
    process.kill()
    process.wait()


def test_what_is_read(tree: Tree, sleeper: int) -> None:
    assert {"admin", "decay", "nodes", "remote", "self", str(sleeper)} <= set(tree.sh("ls").split())
    found = dict(line.split(":", 1) for line in tree.sh("grep . admin/* nodes/*/*").splitlines() if line.count(":"))
    assert found["admin/mospe"] == "1"
    assert found["admin/block"] == found["admin/stay"] == found["admin/expel"] == "0"
    assert (found["admin/slow-decay"], found["admin/fast-decay"]) == ("975", "926")
    assert found["admin/speed"] == found["nodes/1/speed"] == "10000"
    assert int(found["nodes/1/status"]) & 3 == 3
    assert int(found["nodes/1/tmem"]) > int(found["nodes/1/mem"]) > 1 << 20
    assert tree.sh("cat admin/config").split()[:2] == ["1", tree.nodes.cluster.addresses[1]]
    assert tree.sh(f"cd {sleeper}; grep -H . *").split() == [
        "goto:0", "lock:0", "migfilter:0", "mignodes:0", "migpolicy:0", "migrate:0", "nmigs:0", "selected:0", "where:0",
    ]  # fmt: skip
    assert tree.sh(f"cat {sleeper}/cantmove") == ""
    assert tree.sh("cat 1/cantmove") == "it is the init of this machine\n"
    assert tree.sh("echo $$; readlink self").split()[0] != tree.sh("readlink self").strip()
    assert tree.sh("read x < self/where; echo $x; ls remote") == "0\n"
    assert os.stat(tree.path / str(sleeper)).st_uid == os.getuid()


def test_what_is_written(tree: Tree, sleeper: int) -> None:
    assert tree.sh("echo 1 > admin/block; cat admin/block nodes/1/status") == "1\n19\n"
    assert "BLOCK" in tree.nodes.run("mosctl", "status").stdout
    assert tree.sh("echo 0 > admin/block; echo 1 > admin/nomfs; cat admin/block nodes/1/status") == "0\n67\n"
    assert tree.sh("echo 7777 > admin/speed; cat admin/speed") == "7777\n"
    assert tree.sh("echo 20 150 90 > admin/overheads; cat admin/overheads") == "20 150 90\n"
    assert tree.sh("echo 25000 > admin/sspeed; cat admin/sspeed admin/loadlimit") == "25000\n-1\n"
    assert tree.sh("echo 300 > admin/loadlimit; echo -1 > admin/cpulimit; cat admin/*limit") == "-1\n300\n"
    assert tree.sh("echo 990 > admin/slow-decay; cat admin/slow-decay admin/fast-decay") == "990\n926\n"
    for file, word in {"lock": "1", "migfilter": "1", "mignodes": "6", "migpolicy": "1", "selected": "2"}.items():
        assert tree.sh(f"echo {word} > {sleeper}/{file}; cat {sleeper}/{file}") == f"{word}\n"
    kept = "for f in gateways mfscosts dfsalinks; do cat admin/$f; echo 2 > admin/$f; cat admin/$f; done"
    assert tree.sh(kept).split("\n") == ["0", "2", "2", "2", ""]
    # settings are inherited: cat is a child of this shell
    assert tree.sh("echo 2 > self/selected; cat self/selected self/lock") == "2\n0\n"
    assert tree.sh("echo 1 > decay/cpujob; cat decay/*; echo 1 > decay/fast; echo 0 > decay/cpujob; cat decay/*").split() == [
        "0", "1", "0", "0", "1", "0", "0", "1", "0", "0",
    ]  # fmt: skip


def test_a_process_moves(tree: Tree, sleeper: int) -> None:
    assert tree.sh(f"echo 2 > {sleeper}/goto; cat {sleeper}/where {sleeper}/nmigs {sleeper}/goto") == "2\n1\n0\n"
    assert tree.sh(f"echo 2 > {sleeper}/migrate; cat {sleeper}/where") == "2\n", "the same twice is no fault"
    assert tree.sh(f"echo 0 > {sleeper}/migrate; cat {sleeper}/where {sleeper}/nmigs") == "0\n1\n"
    tree.nodes.stop(1)
    tree.nodes.start(1)
    assert tree.sh(f"cat {sleeper}/nmigs") == "1\n", "that is remembered"
    assert tree.sh(f"echo 2 > {sleeper}/goto; echo 1 > admin/bring; cat {sleeper}/where admin/lstay") == "0\n1\n"


def test_bad_input(tree: Tree, sleeper: int) -> None:
    invalid = "Invalid argument"
    for file in ("goto", "lock", "migfilter", "mignodes", "migpolicy", "selected", "migrate"):
        for text in ("nonsense", "", "-1", "1 2", "ñ"):
            assert tree.refusal(text, f"{sleeper}/{file}") == invalid, (file, text)
    assert tree.refusal("3", f"{sleeper}/goto") == invalid, "no such node"
    assert tree.refusal("2", f"{sleeper}/lock") == invalid
    assert tree.refusal("9999999999", "admin/speed") == invalid
    assert tree.refusal("1001", "admin/slow-decay") == invalid
    assert tree.refusal("101", "admin/cpulimit") == tree.refusal("-1", "admin/sspeed") == invalid
    assert tree.refusal("1 2", "admin/overheads") == invalid
    assert tree.refusal("1", "4194304/lock") == "No such file or directory"
    assert tree.refusal("1", "admin/nonsense") == "No such file or directory"
    assert tree.refusal("1", f"{sleeper}/where") == "Permission denied"
    init_is = "Operation not supported" if os.geteuid() == 0 else "Operation not permitted"  # another's
    assert tree.refusal("2", "1/goto") == init_is
    assert tree.sh(f"cd {sleeper}; echo 2 > mignodes; echo 1 > migfilter") == ""
    assert tree.refusal("2", f"{sleeper}/goto") == "Operation not permitted", "its mask forbids it"
    for script in ("mkdir x", "rm admin/block", "rmdir admin", "mv admin x", "chmod 600 admin/block"):
        assert "not permitted" in tree.sh(script), script
    mask = os.open(tree.path / str(sleeper) / "mignodes", os.O_WRONLY)
    with pytest.raises(OSError, match=invalid):
        os.write(mask, b"1" * 40000)
    os.close(mask)
    done = subprocess.Popen(["true"])
    gone = os.open(tree.path / str(done.pid) / "lock", os.O_RDWR)
    done.wait()
    for act in (lambda: os.read(gone, 10), lambda: os.write(gone, b"1\n")):
        with pytest.raises(OSError, match="No such process") as caught:
            act()
        assert caught.value.errno == errno.ESRCH
    os.close(gone)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be others")
def test_a_user_acts_on_what_is_theirs(tree: Tree, sleeper: int) -> None:
    denied = "Operation not permitted"
    own = subprocess.Popen(["sleep", "600"], user=STRANGER, group=STRANGER)
    try:
        assert tree.refusal("1", f"{sleeper}/lock", STRANGER) == denied
        assert tree.refusal("2", f"{sleeper}/goto", STRANGER) == denied
        assert tree.refusal("1", "admin/block", STRANGER) == denied
        assert tree.sh(f"echo 1 > {own.pid}/lock; cat {own.pid}/lock {sleeper}/lock", STRANGER) == "1\n0\n"
        assert tree.sh("echo 1 > decay/iojob; cat decay/iojob", STRANGER) == "1\n"
        assert tree.sh(f"echo 2 > {own.pid}/goto; cat {own.pid}/where", STRANGER) == "2\n"
        # A descriptor that root opened gives its holder no rights of root's.
        lock = os.open(tree.path / str(sleeper) / "lock", os.O_WRONLY)
        script = f"echo 1 >&{lock}"
        done = subprocess.run(["setpriv", f"--reuid={STRANGER}", "--clear-groups", "bash", "-c", script],
                              pass_fds=[lock], capture_output=True, text=True, check=False)  # fmt: skip
        os.close(lock)
        assert denied in done.stderr
        assert tree.sh(f"cat {sleeper}/lock") == "0\n"
    finally:
        own.kill()
        own.wait()


def test_without_an_agent(tree: Tree, sleeper: int) -> None:
    agent = tree.nodes.agents[1]
    mounted = os.stat(tree.path).st_dev
    agent.send_signal(signal.SIGSTOP)
    assert "Input/output error" in tree.sh(f"cat {sleeper}/lock"), "silent"
    agent.kill()
    agent.wait()
    assert "Input/output error" in tree.sh("cat admin/block"), "gone"
    assert tree.refusal("1", f"{sleeper}/lock") == "Input/output error"
    assert "Input/output error" in tree.sh("ls nodes")
    assert str(sleeper) in tree.sh("ls").split()
    tree.nodes.start(1)
    assert tree.sh("cat admin/block") == "0\n"
    assert os.stat(tree.path).st_dev == mounted, "the mount was found again"


def test_a_mount_whose_worker_was_killed_is_made_anew(tree: Tree) -> None:
    workers = [int(entry) for entry in filter(str.isdigit, os.listdir("/proc"))
               if str(tree.path).encode() in _command_line(int(entry))]  # fmt: skip
    (worker,) = workers
    os.kill(worker, signal.SIGKILL)
    while not is_dead(tree.path):
        pass
    tree.nodes.stop(1)
    tree.nodes.start(1)
    assert tree.sh("cat admin/mospe") == "1\n"


def test_another_map_and_out_of_the_cluster(tree: Tree, sleeper: int) -> None:
    address = tree.nodes.cluster.addresses
    for wrong in ("nonsense", f"2 {address[2]} 1", f"1 {address[1]} 1\\n1 {address[2]} 1"):
        assert tree.sh(f"printf '{wrong}\\n' | cat > admin/config").strip().endswith("Invalid argument")
    assert tree.refusal("2", "admin/mospe") == "Invalid argument"
    for file in ("config", "mospe"):
        assert tree.refusal("0", f"admin/{file}", uid=65534) in ("Permission denied", "Operation not permitted")
    with_another = f"1 {address[1]} 1\n2 {address[2]} 1\n7 127.0.0.77 1\n"
    assert tree.sh(f"echo -n '{with_another}' > admin/config") == ""
    deadline = time.monotonic() + 60
    found: list[str] = []
    while found != ["1", "2", "7"]:  # the agent begins anew, and mounts its tree anew
        assert time.monotonic() < deadline
        with contextlib.suppress(OSError):  # in that moment nobody can enter it
            found = tree.sh("ls nodes").split()
    assert (tree.nodes.cluster.config(1) / "openmosix.map").read_text() == with_another
    tree.sh(f"echo 2 > {sleeper}/goto; echo 1 > admin/mospe")
    assert tree.sh("echo 0 > admin/mospe") == ""
    agent = tree.nodes.agents.pop(1)
    assert agent.wait(60) == 0
    assert os.path.exists(f"/proc/{sleeper}")
    assert not tree.nodes.cluster.run(1).joinpath("agent.sock").exists()


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.fixture
async def here(short: Path) -> AsyncIterator[tuple[Cluster, Path]]:
    """One node, its agent in this process."""
    cluster = Cluster(short, 2)
    place = short / "tree"
    with (cluster.config(1) / "openmosix.config").open("a") as config:
        config.write(f"HPCDIR={place}\n")
    cluster.engine.real = True
    await cluster.start()
    yield cluster, place
    await cluster.end()


async def _sh(script: str) -> str:
    shell = await asyncio.create_subprocess_exec(
        "bash", "-c", script, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _none = await shell.communicate()
    return out.decode()


async def test_a_move_that_takes_long_is_not_waited_for(here: tuple[Cluster, Path], sleeper: int) -> None:
    cluster, place = here
    cluster.engine.stuck = True
    assert await _sh(f"cd {place}/{sleeper}; echo 2 > goto; cat goto where") == "2\n0\n"
    assert "Device or resource busy" in await _sh(f"echo 2 > {place}/{sleeper}/migrate")
