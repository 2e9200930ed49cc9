"""Nodes behind SSH: real machines, with the user's own keys and known hosts.

asyncssh lives in a thread with its own event loop; towards omsh everything is blocking, and a shell is a
descriptor like any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import socket
import threading
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

import asyncssh

from omtools.errors import LoginFailed, NodeShellError
from omtools.i18n import _
from omtools.shell.node_shell import NodeShell

_T = TypeVar("_T")
_PATIENCE = 20.0  # for a login
_QUICK = 3.0  # for what only makes things nicer
_PIECE = 65536
_REFRESH = 3.0
_MOST_NODES = 64

# Every node of the map that its own agent knows, one JSON object a line; nothing where there is no agent.
_ASK_NODES = f"""\
for n in $(seq 1 {_MOST_NODES}); do mosctl whois $n --json 2>/dev/null || break; done"""


class SshLoop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="ssh", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, _T], patience: float) -> _T:
        """Do something there and wait for it; raises TimeoutError."""
        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, patience), self.loop)
        return future.result()

    def close(self) -> None:
        """End what still runs there, and the thread."""
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(_end_tasks(), self.loop).result(_QUICK)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


async def _end_tasks() -> None:
    await asyncio.sleep(0)  # what was just made has to begin before it can be cancelled
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


class SshTerminal:
    """A program on a machine behind SSH, on a pseudo-terminal there."""

    def __init__(self, loop: SshLoop, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self._loop = loop
        self._process = process
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        self._tasks = loop.run(self._begin(), _QUICK)

    async def _begin(self) -> list[asyncio.Task[None]]:
        return [asyncio.ensure_future(self._outward()), asyncio.ensure_future(self._inward())]

    async def _outward(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError, asyncssh.Error):
            while data := await self._process.stdout.read(_PIECE):
                await loop.sock_sendall(self._theirs, data)
        with contextlib.suppress(OSError):
            self._theirs.shutdown(socket.SHUT_WR)

    async def _inward(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError, asyncssh.Error):
            while data := await loop.sock_recv(self._theirs, _PIECE):
                self._process.stdin.write(data)
                await self._process.stdin.drain()

    def fileno(self) -> int:
        """Our end."""
        return self._ours.fileno()

    def read(self) -> bytes:
        """What it printed; b"" at its end."""
        try:
            return self._ours.recv(_PIECE)
        except OSError:
            return b""

    def write(self, data: bytes) -> int:
        """Type something; returns how much was taken."""
        try:
            return self._ours.send(data)
        except BlockingIOError:
            return 0
        except OSError:  # it is gone; the next read says so
            return len(data)

    def resize(self, rows: int, columns: int) -> None:
        """The window has another size now."""
        with contextlib.suppress(RuntimeError):
            self._loop.loop.call_soon_threadsafe(self._resize, rows, columns)

    def _resize(self, rows: int, columns: int) -> None:
        with contextlib.suppress(OSError, asyncssh.Error):
            self._process.change_terminal_size(columns, rows)

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(TimeoutError):
            self._loop.run(self._end(), _QUICK)
        self._ours.close()
        self._theirs.close()

    async def _end(self) -> None:
        self._process.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def split_host(host: str) -> tuple[str | None, str]:
    """User, if one is given, and host."""
    user, at, name = host.rpartition("@")
    return (user if at else None), name


class SshCluster:
    """A machine behind SSH and, if an agent runs there, the other nodes of its cluster.

    Args:
        host: ``[user@]host``, as ssh(1) has it; its configuration file counts.
        port: 0: as configured.

    Raises:
        LoginFailed: it is not to be had.
    """

    def __init__(self, host: str, port: int = 0) -> None:
        self._user, first = split_host(host)
        self._port = port
        self._loop = SshLoop()
        self._connections: dict[str, asyncssh.SSHClientConnection] = {}
        self._homes: dict[str, str] = {}
        self._foreign: dict[str, set[str]] = {}
        self._commands: dict[str, list[str]] = {}
        self._status = first
        self._nodes = {first: first}
        try:
            self._connection(first)
            self._learn(first)
        except BaseException:
            self.close()
            raise
        self._watcher = asyncio.run_coroutine_threadsafe(self._watch(first), self._loop.loop)

    @property
    def nodes(self) -> dict[str, str]:
        """Addresses by name."""
        return self._nodes

    @property
    def elsewhere(self) -> Mapping[str, str]:
        """Nothing: every command is run where the shell is."""
        return {}

    def _learn(self, first: str) -> None:
        """Ask the agent there for the other nodes."""
        lines = self._ask(first, _ASK_NODES).splitlines()
        listed = [json.loads(line) for line in lines if line.startswith("{")]
        own = self._ask(first, "mosctl whois --json").strip()
        own_number = json.loads(own)["number"] if own.startswith("{") else 0
        for node in listed:
            if node["number"] != own_number and node["name"] not in self._nodes:
                self._nodes[node["name"]] = node["address"]

    def _connection(self, node: str) -> asyncssh.SSHClientConnection:
        found = self._connections.get(node)
        if found is None or found.is_closed():
            found = self._connections[node] = self._connect(node)
        return found

    def _connect(self, node: str) -> asyncssh.SSHClientConnection:
        try:
            return self._loop.run(self._log_in(node), _PATIENCE)
        except TimeoutError:
            why = _("it does not answer")
        except asyncssh.HostKeyNotVerifiable:
            why = _("its host key is not in your known_hosts")
        except asyncssh.PermissionDenied:
            why = _("it accepts none of your keys")
        except (OSError, asyncssh.Error) as error:
            why = getattr(error, "strerror", None) or getattr(error, "reason", "") or str(error)
        raise LoginFailed(host=node, why=why)

    async def _log_in(self, node: str) -> asyncssh.SSHClientConnection:
        options: dict[str, Any] = {"keepalive_interval": 15}
        if self._user:
            options["username"] = self._user
        if self._port:
            options["port"] = self._port
        return await asyncssh.connect(self._nodes[node], **options)

    def _ask(self, node: str, command: str) -> str:
        """What a command prints; "" if it does not come to it soon."""
        with contextlib.suppress(OSError, asyncssh.Error, TimeoutError, LoginFailed):
            connection = self._connection(node)
            done = self._loop.run(connection.run(command), _QUICK)
            return str(done.stdout or "")
        return ""

    async def _watch(self, node: str) -> None:
        """Keep the status line fresh."""
        while True:
            with contextlib.suppress(OSError, asyncssh.Error):
                done = await self._connections[node].run("mosctl getload --json; mosctl status --json")
                self._status = status(node, str(done.stdout or ""))
            await asyncio.sleep(_REFRESH)

    # ------------------------------------------------------------------------------------- as a Cluster

    def shell(self, node: str, size: tuple[int, int]) -> NodeShell:
        """Start a shell on a node; raises NodeShellError or LoginFailed."""
        connection = self._connection(node)

        def connect(command: str, window: tuple[int, int]) -> SshTerminal:
            try:
                process = self._loop.run(_start(connection, command, window), _PATIENCE)
            except (OSError, asyncssh.Error, TimeoutError) as error:
                raise NodeShellError(node=node, why=str(error) or _("it does not answer")) from None
            return SshTerminal(self._loop, process)

        return NodeShell(node, connect, size)

    def entries(self, node: str, directory: str) -> list[str]:
        """The names in a directory of a node."""
        place = f"~/{shlex.quote(directory[2:])}" if directory.startswith("~/") else shlex.quote(directory)
        return self._ask(node, f"ls -1Ap -- {place}").splitlines()

    def commands(self, node: str) -> list[str]:
        """The names of programs that a shell there finds."""
        if node not in self._commands:
            self._commands[node] = sorted(set(self._ask(node, "bash -c 'compgen -c'").split()))
        return self._commands[node]

    def substitute(self, node: str, line: str) -> str:
        """The line with the addresses of nodes whose names the machine itself cannot look up.

        Our own tools look names up in the map: where they are called, names stay.
        """
        if re.match(r"\s*(migrate|mosctl|mosrun|mps)\b", line):
            return line
        if node not in self._foreign:
            names = [name for name, address in self._nodes.items() if name != address]
            quoted = map(shlex.quote, names)
            ask = "; ".join(f"getent hosts {name} >/dev/null || echo {name}" for name in quoted)
            self._foreign[node] = set(self._ask(node, ask).split()) if names else set()
        for name in self._foreign[node]:
            line = re.sub(rf"(?<![\w./-]){re.escape(name)}(?![\w./-])", self._nodes[name], line)
        return line

    def home(self, node: str) -> str:
        """The home directory there."""
        if node not in self._homes:
            self._homes[node] = self._ask(node, "echo ~").strip()
        return self._homes[node]

    def alive(self, node: str) -> bool:
        """Whether its connection stands."""
        connection = self._connections.get(node)
        return connection is not None and not connection.is_closed()

    def status(self) -> str:
        """Load, and processes away."""
        return self._status

    def close(self) -> None:
        """Hang up everywhere."""
        if hasattr(self, "_watcher"):
            self._watcher.cancel()
        with contextlib.suppress(TimeoutError):
            self._loop.run(_hang_up(list(self._connections.values())), _QUICK)
        self._loop.close()


async def _start(
    connection: asyncssh.SSHClientConnection, command: str, window: tuple[int, int]
) -> asyncssh.SSHClientProcess[bytes]:
    rows, columns = window
    return await connection.create_process(
        command,
        request_pty="force",
        term_type=os.environ.get("TERM", "dumb"),
        term_size=(columns, rows, 0, 0),
        encoding=None,
    )


async def _hang_up(connections: list[asyncssh.SSHClientConnection]) -> None:
    for connection in connections:
        connection.close()
        await connection.wait_closed()


def status(node: str, printed: str) -> str:
    """A status line from what ``mosctl getload --json; mosctl status --json`` printed."""
    words = [node]
    for line in printed.splitlines():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict) and "load" in found:
            words[0] = f"{node} {found['load']}"
        report = found.get("report") if isinstance(found, dict) else None
        if isinstance(report, dict):
            words.append(
                _("guests {guests}, away {away}").format(
                    guests=report.get("guests", 0), away=report.get("away", 0)
                )
            )
    return "  ".join(words)
