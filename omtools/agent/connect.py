"""`connect`: the way from a Python program to the cluster; public as `omtools.connect`."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from omtools.agent import api
from omtools.agent.asking import UnixAsking, open_unix
from omtools.agent.cluster import Cluster
from omtools.agent.paths import agent_socket, config_dir, run_dir

if TYPE_CHECKING:
    from omtools.agent.peers import Link

_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")  # ssh(1)'s own names, in ~/.ssh


class Connecting:
    """An async context manager that gives a `Cluster`."""

    def __init__(self, node: str, user: str, socket: Path | None, name: str) -> None:
        self._node = node
        self._user = user
        self._path = socket
        self._name = name
        self._open: UnixAsking | Link | None = None

    async def __aenter__(self) -> Cluster:
        """Connect; raises OmError."""
        if not self._node:
            self._open = await open_unix(self._path or agent_socket(), self._name)
            return Cluster(self._open)
        self._open = await _over_ssh(self._node, self._user, self._name)
        return Cluster(self._open.session)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hang up."""
        if self._open is not None:
            await self._open.close()


def connect(
    node: str | int = "",
    *,
    user: str = "",
    socket: str | os.PathLike[str] | None = None,
    name: str = "python",
) -> Connecting:
    """Connect to an agent.

    Args:
        node: number, name or address of a node of the map, whose agent is asked over SSH; "": this
            node's own, over its unix socket.
        user: whom to log in as over SSH; "": oneself.
        socket: of the agent; None: the user's own agent, else the system's.
        name: of the program, for the agent's log.

    Raises:
        NoAgent: when entered; nothing answers at the socket.
        AgentVersion: it speaks another version.
        NodeDown, HostKeyWrong, KeyNotAuthorised, UnknownNode, BadConfiguration: over SSH.
    """
    return Connecting(str(node), user, Path(socket) if socket is not None else None, name)


async def _over_ssh(word: str, user: str, name: str) -> Link:
    # asyncssh is five times as much to import as all the rest.
    import getpass  # noqa: PLC0415

    from omtools.agent.config import discovered, has_map, read_map, read_settings  # noqa: PLC0415
    from omtools.agent.keys import KNOWN_HOSTS  # noqa: PLC0415
    from omtools.agent.peers import connect as connect_peer  # noqa: PLC0415

    directory = config_dir()
    settings = read_settings(directory / "openmosix.config")
    listed = has_map(directory) and not settings.discover
    known = read_map(directory) if listed else discovered(directory, run_dir(), settings)[0]
    found = known.find(word)
    own = Path.home() / ".ssh"
    return await connect_peer(
        found,
        settings.port,
        user=user or getpass.getuser(),
        client_keys=[str(own / key) for key in _KEYS if (own / key).exists()],
        known_hosts=directory / KNOWN_HOSTS,
        patience=settings.connect_timeout,
        who=api.Hello(api.VERSION, name=name),
    )
