"""Building a lab out of namespaces: the hub, the nodes, their agents.

    omlab up ── hub       user (not for root), pid and network namespace; the bridge; process 1 of all
                 ├─ mCii         own pid, mount, uts, ipc, network namespace; process 1 of the node
                 │   ├─ agent …
                 ├─ metrakilate
                 │   ├─ agent …

The nodes' pid namespaces lie inside the hub's, so killing the hub is killing everything, at once and by the
kernel; nothing is mounted and no link is made outside of these namespaces. That is why `omlab down` needs no
knowledge of what is going on in there, and why a crash leaves nothing but a directory.

Programs on a node run as root of the lab's user namespace (the ordinary user's uid is mapped to 0, not to
itself): only root keeps its capabilities over an exec, and with them an agent may trace every process of
the lab whatever Yama's ptrace_scope says, choose a guest's pid, mount its /proc. Outside they are still
the user's own processes with none of these rights.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path

from omtools.lab.birth import Newborn, Plan, bear
from omtools.lab.netlink import Netlink
from omtools.lab.settings import (
    NETWORK,
    PACKAGE_HOME,
    NodeFiles,
    agent_command,
    agent_environment,
)
from omtools.lab.state import Being, LabState, NodeState
from omtools.linux import proc
from omtools.linux.namespaces import (
    Clone,
    IdRange,
    Mount,
    Umount,
    mount,
    open_namespace,
    pivot_root,
    sethostname,
    umount2,
    write_id_maps,
)

BRIDGE = "omlab"
_INIT = str(Path(__file__).with_name("init.py"))


def _init_plan(directory: Path, name: str) -> list[str]:
    # -I -S: no site-packages, no environment: starts in 10 ms and stays small
    return [sys.executable, "-I", "-S", _INIT, name, str(directory)]


CLUSTER_FILES, CLUSTER_TREE = "/omfs", "/hpc"

# linux/capability.h: CAP_NET_ADMIN 12, CAP_SYS_PTRACE 19, CAP_SYS_ADMIN 21
_CAPABILITIES = 1 << 12 | 1 << 19 | 1 << 21


def is_capable() -> bool:
    """Whether we may make namespaces as we are; root in a container often may not."""
    return int(proc.status(os.getpid())["CapEff"], 16) & _CAPABILITIES == _CAPABILITIES


def bear_hub(directory: Path) -> Newborn:
    """Make the lab's process 1, its user namespace and its network with the bridge."""
    uid, gid = os.geteuid(), os.getegid()
    flags = Clone.NEWPID | Clone.NEWNET
    if not is_capable():
        flags |= Clone.NEWUSER

    def prepare() -> None:
        if flags & Clone.NEWUSER:
            write_id_maps([IdRange(0, uid)], [IdRange(0, gid)])
        with Netlink() as net:
            net.add_bridge(BRIDGE)
            net.set_up("lo")
        os.chdir("/")  # hold no directory of the caller's

    environment = {"OMLAB_DIR": str(directory), "PATH": os.defpath}
    return bear(Plan(_init_plan(directory, "omlab"), environment, flags=flags, prepare=prepare))


def bear_node(directory: Path, hub: Being, node: NodeState) -> Newborn:
    """Make a node: its namespaces, cable, address, host name, mounts and process 1."""
    outside: list[Netlink] = []
    kept = keep_visible([Path(sys.prefix), Path(sys.base_prefix), PACKAGE_HOME, directory])

    def before() -> None:
        outside.append(Netlink())  # stays in the hub's network, wherever the newborn goes

    def prepare() -> None:
        with outside[0] as wires:
            _wire(wires, node)
        sethostname(node.name)
        mount_own(kept, directory / "hosts")
        os.chdir("/")

    return bear(
        Plan(
            _init_plan(directory, node.name),
            {"OMLAB_DIR": str(directory), "OMLAB_NODE": node.name, "PATH": os.defpath},
            host=hub.pid,
            kinds=("user", "net", "pid"),
            flags=Clone.NEWPID | Clone.NEWNS | Clone.NEWUTS | Clone.NEWIPC | Clone.NEWNET,
            before=before,
            prepare=prepare,
        )
    )


def _wire(wires: Netlink, node: NodeState) -> None:
    cable = f"node{node.number}"
    with contextlib.suppress(OSError):
        wires.delete(cable)  # a dead node's cable may outlive it for a moment
    own = open_namespace("self", "net")
    wires.add_veth(cable, wires.index(BRIDGE), "eth0", own)
    os.close(own)
    with Netlink() as net:
        net.add_address("eth0", IPv4Interface(f"{node.address}/{NETWORK.network.prefixlen}"))
        net.set_up("lo")
        net.set_up("eth0")


def keep_visible(paths: list[Path]) -> list[Path]:
    """Those of the paths that a /tmp of one's own would hide, without those below another of them."""
    hidden: set[Path] = set()
    for path in (variant for given in paths for variant in (given, given.resolve())):
        hidden.update({path} if Path("/tmp") in path.parents else ())
    return sorted(path for path in hidden if not hidden & set(path.parents))


def mount_own(kept: list[Path], hosts: Path | None, *, own_root: bool = False) -> None:
    """Mount what a node has for itself; everything else stays shared with the machine.

    Args:
        kept: directories below /tmp that stay visible.
        hosts: what is seen as /etc/hosts; None: the machine's.
        own_root: make a root directory in any case; else only if the machine's lacks a place that is needed.
    """
    # SLAVE: what the machine mounts later appears here too, what is mounted here never gets out.
    mount(None, "/", None, Mount.REC | Mount.SLAVE)
    handles = [(path, os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) for path in kept]
    complete = all(map(os.path.isdir, (CLUSTER_FILES, CLUSTER_TREE)))
    root = "" if complete and not own_root else _make_root()
    mount("tmpfs", f"{root}/tmp", "tmpfs", Mount.NOSUID | Mount.NODEV, "mode=1777")
    for path, handle in handles:
        place = Path(f"{root}{path}")
        place.mkdir(parents=True, exist_ok=True)
        mount(f"/proc/self/fd/{handle}", place, None, Mount.BIND | Mount.REC)
        os.close(handle)
    if root:
        os.chdir(root)
        pivot_root(".", ".")
        umount2(".", Umount.DETACH)
    with contextlib.suppress(OSError):
        if stat.S_ISDIR(os.lstat("/dev/shm").st_mode):
            mount("tmpfs", "/dev/shm", "tmpfs", Mount.NOSUID | Mount.NODEV, "mode=1777")
    if hosts is not None and os.path.exists("/etc/hosts"):
        mount(hosts, "/etc/hosts", None, Mount.BIND)
    # last: until now /proc/self had to be the outer one
    mount("proc", "/proc", "proc", Mount.NOSUID | Mount.NODEV | Mount.NOEXEC)


def _make_root() -> str:
    """Make a root as the machine's, with a place for the cluster's files, and return where it is.

    The machine itself gets no such place: it may be none of root's cluster.
    """
    mount("root", "/tmp", "tmpfs", Mount.NOSUID | Mount.NODEV, "mode=755,size=1m")
    for entry in os.scandir("/"):
        place = f"/tmp/{entry.name}"
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), place)
        elif entry.is_dir():
            os.mkdir(place)
            if entry.path != "/tmp":
                mount(entry.path, place, None, Mount.BIND | Mount.REC)
        elif entry.is_file():
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY, 0o600))
            mount(entry.path, place, None, Mount.BIND)
    for place in (CLUSTER_FILES, CLUSTER_TREE):
        os.makedirs(f"/tmp{place}", exist_ok=True)
    return "/tmp"


@dataclass
class StartingAgent:
    """An agent that runs and is not ready yet.

    Attributes:
        node: whose it is.
        being: the process.
        ready: the pipe on which it will say so.
    """

    node: NodeState
    being: Being
    ready: int


def start_agent(
    directory: Path, state: LabState, node: NodeState, record: Callable[[], None],
) -> StartingAgent:
    """Start a node's agent.

    Args:
        directory: the lab's directory.
        state: the lab.
        node: one of its nodes.
        record: called when the agent's pid is in `node` and must be saved before the agent goes on.
    """
    files = NodeFiles(directory, node.name)
    ready, its_end = os.pipe()
    try:
        newborn = bear(
            Plan(
                agent_command(files, its_end),
                agent_environment(directory, state, node),
                host=node.being.pid if node.being else 0,
                log=files.log,
                prepare=lambda: os.chdir(files.home),
                keep=[its_end],
            )
        )
    except BaseException:
        os.close(ready)
        raise
    finally:
        os.close(its_end)
    node.agent = newborn.being
    try:
        record()
        newborn.release()
    except BaseException:
        newborn.drop()
        os.close(ready)
        raise
    return StartingAgent(node, newborn.being, ready)
