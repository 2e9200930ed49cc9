"""What each node of a lab is given: number, name, address, keys, configuration, environment."""

from __future__ import annotations

import os
import shlex
import sys
import zlib
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from omtools.errors import LabError
from omtools.i18n import _
from omtools.lab.state import LabState, NodeState

AGENT_PORT = 4660
NETWORK = IPv4Interface("10.77.0.0/24")
MAX_NODES = 250

# The first two are the couple this lab is named after; the others are places where many people worked on
# one thing without a master.
NAMES = (
    "mCii", "metrakilate", "ixchel", "tikal", "uxmal", "palenque", "copan", "coba", "tulum", "yaxha",
    "bonampak", "calakmul",
)  # fmt: skip

PACKAGE_HOME = Path(__file__).resolve().parents[2]


def node_name(number: int) -> str:
    """What node `number` is called."""
    return NAMES[number - 1] if number <= len(NAMES) else f"node{number}"


def lab_address(number: int) -> str:
    """The address of node `number` in a lab with namespaces."""
    return str(NETWORK.ip + number)


def plain_address(number: int, lab: str, attempt: int = 0) -> str:
    """The address of node `number` in a plain lab: on loopback, apart from other users' and other labs'."""
    place = zlib.crc32(f"{os.getuid()} {lab} {attempt}".encode()) % (254 * 256)
    return str(IPv4Address("127.1.0.0") + place * 256 + number)


class NodeFiles:
    """Where a node's own files are.

    Attributes:
        config: its configuration directory.
        run: its run directory.
        home: its home directory.
        tmp: what stands in for its /tmp in plain mode.
        log: what its agent printed.
    """

    def __init__(self, lab: Path, name: str) -> None:
        base = lab / name
        self.config = base / "etc"
        self.run = base / "run"
        self.home = base / "home"
        self.tmp = base / "tmp"
        self.log = base / "agent.log"

    def make(self) -> None:
        """Create the directories."""
        for path in (self.config, self.run, self.home, self.tmp):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)


def furnish(directory: Path, state: LabState) -> None:
    """Write every node's keys, map, configuration and shell settings, and the hosts file for all."""
    nodes = state.nodes
    host_keys = {node.name: _new_key(f"root@{node.name}") for node in nodes}
    client_keys = {node.name: _new_key(f"agent@{node.name}") for node in nodes}
    shared = {
        "openmosix.map": "".join(f"{node.number} {node.address} 1\n" for node in nodes),
        "names": "".join(f"{node.number} {node.name}\n" for node in nodes),
        "known_hosts": "".join(_known_host(node, host_keys[node.name][1]) for node in nodes),
        "authorized_nodes": "".join(public for _private, public in client_keys.values()),
        "authorized_keys": "".join(public for _private, public in client_keys.values()),
    }
    for node in nodes:
        files = NodeFiles(directory, node.name)
        files.make()
        config = f"MYOMID={node.number}\nLISTEN={node.address}\nAGENTPORT={AGENT_PORT}\n"
        if state.mode == "plain":  # the nodes have one root directory
            config += f"MFSDIR={files.run / 'files'}\n"
        own = {
            "openmosix.config": config,
            "ssh_host_ed25519_key": host_keys[node.name][0],
            "ssh_host_ed25519_key.pub": host_keys[node.name][1],
            "id_ed25519": client_keys[node.name][0],
            "id_ed25519.pub": client_keys[node.name][1],
        }
        for name, text in {**shared, **own}.items():
            _write(files.config / name, text)
        _write(files.home / ".bashrc", _BASHRC.format(name=node.name))
        _write(files.home / ".zshrc", f"PROMPT='{node.name}:%~%# '\n")
    _write(directory / "hosts", _hosts(nodes))


_BASHRC = """\
[ -r /etc/bash.bashrc ] && . /etc/bash.bashrc
PS1='{name}:\\w\\$ '
"""


def _write(path: Path, text: str) -> None:
    # private from the first moment on: some of these are keys
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)


def _new_key(comment: str) -> tuple[str, str]:
    """A fresh ed25519 key: its private half in OpenSSH's format, its public half as a line."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - only a fresh lab needs it
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return private.decode(), f"{public.decode()} {comment}\n"


def _known_host(node: NodeState, public: str) -> str:
    # Both spellings: OpenSSH brackets the address when the port is not 22; the bare one is for our own use.
    kind, key = public.split()[:2]
    names = f"[{node.address}]:{AGENT_PORT},{node.address},{node.name},[{node.name}]:{AGENT_PORT}"
    return f"{names} {kind} {key}\n"


def _hosts(nodes: Iterable[NodeState]) -> str:
    try:
        present = Path("/etc/hosts").read_text(errors="surrogateescape")
    except OSError:
        present = "127.0.0.1 localhost\n::1 localhost\n"
    lines = "".join(f"{node.address} {node.name}\n" for node in nodes)
    return f"{lines}{present}".encode(errors="surrogateescape").decode(errors="replace")


def environment(
    directory: Path, state: LabState, node: NodeState, base: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The environment of a program on a node: `base` (default: ours) with the node's own settings."""
    found = dict(os.environ if base is None else base)
    # They name places and sessions of the machine outside.
    for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME",
                 "DBUS_SESSION_BUS_ADDRESS", "SSH_AUTH_SOCK", "TMPDIR", "OLDPWD", "PWD"):  # fmt: skip
        found.pop(name, None)
    found.update(own_environment(directory, state, node))
    if state.mode == "namespaces":
        # As an ordinary user one is root in there, and nobody else exists.
        found.update(USER="root", LOGNAME="root")
    # The mark by which `omlab down` finds the processes of a plain lab.
    found["OMLAB_DIR"] = str(directory)
    return found


def own_environment(directory: Path, state: LabState, node: NodeState) -> dict[str, str]:
    """What makes a shell, wherever it runs, belong to the node: what `omlab env` prints."""
    files = NodeFiles(directory, node.name)
    tools = str(Path(sys.executable).parent)
    path = [part for part in os.environ.get("PATH", os.defpath).split(":") if part != tools]
    found = {
        "OPENMOSIX_CONFIG": str(files.config),
        "OPENMOSIX_RUN": str(files.run),
        "OMLAB_NAME": state.name,
        "OMLAB_NODE": node.name,
        "HOME": str(files.home),
        "PATH": ":".join([tools, *path]),
        "PS1": f"{node.name}:\\w\\$ ",
    }
    if state.mode == "plain":
        found["TMPDIR"] = str(files.tmp)
    return found


def agent_command(files: NodeFiles, ready_fd: int) -> list[str]:
    """The command line of a node's agent; OMLAB_AGENT can name another program, for tests of the lab."""
    program = shlex.split(os.environ.get("OMLAB_AGENT", "")) or [
        sys.executable, "-m", "omtools.commands.omagentd",
    ]  # fmt: skip
    return [*program, "--config", str(files.config), "--run", str(files.run), "--ready-fd", str(ready_fd)]


def agent_environment(directory: Path, state: LabState, node: NodeState) -> dict[str, str]:
    """The agent's environment: the node's, and a way to find this package when it is not installed."""
    found = environment(directory, state, node)
    if PACKAGE_HOME.name != "site-packages":
        parts = [str(PACKAGE_HOME), *filter(None, os.environ.get("PYTHONPATH", "").split(":"))]
        found["PYTHONPATH"] = ":".join(dict.fromkeys(parts))
    return found


def check_count(nodes: int) -> None:
    """Refuse a number of nodes that cannot be built.

    Raises:
        LabError: it is too small or too large.
    """
    if not 1 <= nodes <= MAX_NODES:
        why = _("it can have 1 to {most} nodes, not {nodes}")
        raise LabError(why=why.format(most=MAX_NODES, nodes=nodes))
