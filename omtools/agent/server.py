"""How clients reach the agent: a unix socket on its own node, SSH from everywhere else."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import pwd
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncssh

from omtools import __version__
from omtools.agent import api, keys, log, sftp
from omtools.agent.callers import Caller
from omtools.agent.conversation import Conversation, Dispatcher
from omtools.agent.paths import SOCKET
from omtools.agent.peers import ENCRYPTION, GOODBYE, KEEPALIVE, PACKET, WINDOW
from omtools.agent.sftp import FindWay, SftpSession
from omtools.errors import AddressMissing, AgentRunning, BadConfiguration
from omtools.i18n import _
from omtools.migration.link import give_up_after

_BACKLOG = 512
_PEERCRED = struct.Struct("3i")

Permits = Callable[[str, int], bool]


# --------------------------------------------------------------------------------------- unix socket


class UnixClient(asyncio.Protocol):
    """A program on this node. Who it is, the kernel says."""

    def __init__(self, agent: Dispatcher, open_clients: set[UnixClient]) -> None:
        self._agent = agent
        self._open = open_clients
        self._conversation: Conversation | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody connected."""
        assert isinstance(transport, asyncio.Transport)
        pid, uid = _peer(transport.get_extra_info("socket"))
        if os.geteuid() != 0 and uid not in (0, os.geteuid()):
            transport.abort()  # the socket's mode keeps them out already
            return
        self._transport = transport
        self._open.add(self)
        self._conversation = Conversation(
            self._agent,
            Caller("user", uid, f"pid {pid}"),
            transport.write,
            transport.close,
            transport.get_write_buffer_size,
        )

    def data_received(self, data: bytes) -> None:
        """Bytes arrived."""
        if self._conversation is not None:
            self._conversation.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """They hung up."""
        self._open.discard(self)
        if self._conversation is not None:
            self._conversation.lost()

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


def _peer(sock: socket.socket) -> tuple[int, int]:
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
    pid, uid, _gid = _PEERCRED.unpack(raw)
    return pid, uid


class UnixServer:
    """The agent's socket in its run directory."""

    def __init__(self, run: Path, agent: Dispatcher) -> None:
        self.path = run / SOCKET
        self._agent = agent
        self._clients: set[UnixClient] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen; whoever asks before `serve` waits.

        Raises:
            AgentRunning: another agent does already.
            BadConfiguration: the socket cannot be made.
        """
        try:
            with _alone(self.path.with_name("agent.lock")):
                self._refuse_second()
                self.path.unlink(missing_ok=True)
                sock = self._bound()
        except OSError as error:
            raise BadConfiguration(path=str(self.path), why=error.strerror or str(error)) from None
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(
            lambda: UnixClient(self._agent, self._clients), sock=sock, backlog=_BACKLOG, start_serving=False
        )

    async def serve(self) -> None:
        """Answer, also those who asked already."""
        assert self._server is not None
        await self._server.start_serving()

    def _refuse_second(self) -> None:
        """A socket that answers is another agent's; one that does not was left by a killed one."""
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(self.path))
            except OSError:
                return
            raise AgentRunning(pid=_peer(probe)[0], socket=str(self.path))

    def _bound(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        # Made with its mode, not given it later. A root agent talks to everybody: the kernel says who asks.
        mask = os.umask(0o111 if os.geteuid() == 0 else 0o177)
        try:
            sock.bind(str(self.path))
            sock.listen(_BACKLOG)
        except BaseException:
            sock.close()
            raise
        finally:
            os.umask(mask)
        return sock

    async def close(self) -> None:
        """Stop listening, hang up on everybody, remove the socket."""
        if self._server is None:
            return
        self._server.close()
        for client in list(self._clients):
            client.close()
        self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Two agents that start at once look one after the other."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


# ----------------------------------------------------------------------------------------------- SSH


class SshSession(asyncssh.SSHServerSession[bytes]):
    """A channel of an SSH client: the subsystem openmosix, or for people sftp; no shell, no command."""

    def __init__(self, agent: Dispatcher, caller: Caller, find_way: FindWay) -> None:
        self._agent = agent
        self._caller = caller
        self._find_way = find_way
        self._channel: asyncssh.SSHServerChannel[bytes] | None = None
        self._conversation: Conversation | None = None
        self._sftp: SftpSession | None = None

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """The channel is open."""
        self._channel = chan

    def subsystem_requested(self, subsystem: str) -> bool:
        """Only ours."""
        if subsystem == sftp.SUBSYSTEM and self._caller.role == "user":
            assert self._channel is not None
            self._sftp = SftpSession(self._caller, self._find_way)
            self._sftp.connection_made(self._channel)
            return True
        return subsystem == api.SUBSYSTEM

    def session_started(self) -> None:
        """The subsystem runs."""
        if self._sftp is not None:
            self._sftp.session_started()
            return
        channel = self._channel
        assert channel is not None
        self._conversation = Conversation(
            self._agent, self._caller, channel.write, channel.close, channel.get_write_buffer_size
        )

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        """Bytes arrived."""
        if self._sftp is not None:
            self._sftp.data_received(data, datatype)
        elif self._conversation is not None:
            self._conversation.feed(data)

    def eof_received(self) -> bool:
        """No more will come; whether we have more to say."""
        return self._sftp is not None and bool(self._sftp.eof_received())

    def pause_writing(self) -> None:
        """The client is slow."""
        if self._sftp is not None:
            self._sftp.pause_writing()

    def resume_writing(self) -> None:
        """It takes more."""
        if self._sftp is not None:
            self._sftp.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is closed."""
        if self._sftp is not None:
            self._sftp.connection_lost(exc)
        if self._conversation is not None:
            self._conversation.lost()


class SshClient(asyncssh.SSHServer):
    """One SSH connection: who it is, and what it may open."""

    def __init__(
        self,
        agent: Dispatcher,
        directory: Path,
        permits: Permits,
        find_way: FindWay,
        connections: set[SshClient],
        *,
        silence: float,
    ) -> None:
        self._agent = agent
        self._find_way = find_way
        self._directory = directory
        self._permits = permits
        self._connections = connections
        self._silence = silence
        self._connection: asyncssh.SSHServerConnection | None = None
        self._username = ""

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Somebody connected."""
        self._connection = conn
        self._connections.add(self)
        with contextlib.suppress(OSError):  # it may be gone already
            give_up_after(self._silence, conn.get_extra_info("socket"))

    def connection_lost(self, exc: Exception | None) -> None:
        """They are gone."""
        self._connections.discard(self)
        if exc is not None and not isinstance(exc, asyncssh.ConnectionLost):
            log.debug("an SSH connection ended", client=self._where, user=self._username, why=exc)

    def begin_auth(self, username: str) -> bool:
        """Find the keys that may log in under that name. Whatever is found, a key must be shown."""
        assert self._connection is not None
        self._username = username
        authorized, why = keys.authorized(self._directory, username)
        if authorized is None:
            log.warn("nobody may log in under that name", user=username, client=self._where, why=why)
            authorized = asyncssh.import_authorized_keys("")
        self._connection.set_authorized_keys(authorized)
        return True

    def public_key_auth_supported(self) -> bool:
        """Keys are the only way in."""
        return True

    def session_requested(self) -> SshSession:
        """A channel for one of our subsystems."""
        return SshSession(self._agent, self._caller(), self._find_way)

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:  # noqa: ARG002
        """A tunnel: for peers, and only to keepers that wait for a peer's guest."""
        return keys.node_number(self._username) is not None and self._permits(dest_host, dest_port)

    def _caller(self) -> Caller:
        if (node := keys.node_number(self._username)) is not None:
            who = f"node {node}" if node else "a node"
            return Caller("node", -1, f"{who} at {self._where}", node)
        return Caller("user", pwd.getpwnam(self._username).pw_uid, f"{self._username} at {self._where}")

    @property
    def _where(self) -> str:
        peer = self._connection.get_extra_info("peername") if self._connection else None
        return str(peer[0]) if peer else "?"

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.abort()


class SshServer:
    """The agent's SSH port."""

    def __init__(
        self,
        directory: Path,
        own: keys.Keys,
        agent: Dispatcher,
        permits: Permits,
        find_way: FindWay,
        *,
        silence: float,
    ) -> None:
        self._find_way = find_way
        self._silence = silence
        self._directory = directory
        self._own = own
        self._agent = agent
        self._permits = permits
        self._connections: set[SshClient] = set()
        self._acceptor: asyncssh.SSHAcceptor | None = None

    async def open(self, address: str, port: int) -> None:
        """Listen.

        Raises:
            BadConfiguration: not at that address and port.
        """
        options = asyncssh.SSHServerConnectionOptions(
            config=None,
            server_host_keys=[self._own.host],
            server_host_certs=[self._own.host_certificate] if self._own.host_certificate else (),
            encryption_algs=ENCRYPTION,
            compression_algs=["none"],
            gss_host=None,
            allow_pty=False,
            line_editor=False,
            agent_forwarding=False,
            x11_forwarding=False,
            encoding=None,
            window=WINDOW,
            max_pktsize=PACKET,
            keepalive_interval=KEEPALIVE,
            keepalive_count_max=3,
            login_timeout=20,
            server_version=f"openMosix_{__version__}",
        )
        try:
            self._acceptor = await asyncssh.listen(
                address,
                port,
                backlog=_BACKLOG,
                reuse_address=True,
                options=options,
                server_factory=lambda: SshClient(
                    self._agent,
                    self._directory,
                    self._permits,
                    self._find_way,
                    self._connections,
                    silence=self._silence,
                ),
            )
        except OSError as error:
            kind = AddressMissing if error.errno == errno.EADDRNOTAVAIL else BadConfiguration
            # asyncio's own sentence tells the address again
            why = os.strerror(error.errno) if error.errno else str(error)
            if error.errno == errno.EADDRINUSE:
                why = _("another program serves there, perhaps another user's agent; AGENTPORT is the port")
            raise kind(path=f"{address}:{port}", why=why) from None

    def use(self, own: keys.Keys) -> None:
        """Show these to whoever connects from now on."""
        self._own = own
        if self._acceptor is not None and own.host_certificate is not None:
            self._acceptor.update(server_host_keys=[own.host], server_host_certs=[own.host_certificate])

    async def close(self) -> None:
        """Stop listening and hang up on everybody."""
        if self._acceptor is None:
            return
        self._acceptor.close()
        for connection in list(self._connections):
            connection.close()
        with contextlib.suppress(TimeoutError):  # somebody takes nothing any more
            async with asyncio.timeout(GOODBYE):
                await self._acceptor.wait_closed()
