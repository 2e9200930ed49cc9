"""The other agents of the cluster: one SSH connection to each, opened when it is first needed.

`Session` is the asking side of the command API over SSH (`connect`); `Peers` keeps an agent's sessions with
the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import asyncssh

from omtools import __version__
from omtools.agent import api, cluster_key, keys, log
from omtools.agent.asking import Asking
from omtools.agent.config import Configuration
from omtools.cluster.map import Node
from omtools.errors import HostKeyUnknown, HostKeyWrong, KeyNotAuthorised, NodeDown, OmError
from omtools.i18n import _
from omtools.migration.link import give_up_after

# AES-GCM first: it is several times as fast as the others on any processor of the last fifteen years.
ENCRYPTION = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com")
KEEPALIVE = 15  # seconds; four unanswered ones end a connection
_SAME_ATTEMPT = 1.0  # seconds for which others join an attempt to connect: the kernel repeats its SYN then
GOODBYE = 2.0  # seconds
WINDOW = 16 << 20  # of the receiving side; the only bound on what may be under way
PACKET = 1 << 18

_R = TypeVar("_R")


class Session(Asking, asyncssh.SSHClientSession[bytes]):
    """A conversation with an agent over an SSH channel."""

    def __init__(self, node: str, who: api.Hello) -> None:
        super().__init__(node, lambda why: NodeDown(node=node, address=_("its SSH connection"), why=why))
        self._who = who
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None

    # -- what asyncssh calls

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        """The channel is open."""
        self._channel = chan

    def session_started(self) -> None:
        """The subsystem runs."""
        self.write(self._who)

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:  # noqa: ARG002
        """Bytes arrived."""
        self.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel or its connection is gone."""
        why = (exc.strerror if isinstance(exc, OSError) else None) or str(exc or "")
        self.lost(why or _("it hung up"))

    # -- what `Asking` calls

    def write(self, message: api.ToAgent) -> None:
        """See `Asking`."""
        if self._channel is None or self._channel.is_closing():
            raise self._lost(_("the connection is closed"))
        self._channel.write(api.line_of(message))

    def hang_up(self) -> None:
        """See `Asking`."""
        if self._channel is not None:
            self._channel.close()


class Link:
    """An SSH connection to one agent, with its session."""

    def __init__(self, connection: asyncssh.SSHClientConnection, session: Session) -> None:
        self.connection = connection
        self.session = session

    @property
    def over(self) -> bool:
        """Whether a new one is needed."""
        return self.session.over or self.connection.is_closed()

    async def close(self) -> None:
        """Hang up; on a peer that takes nothing any more, without its leave."""
        self.connection.close()
        try:
            async with asyncio.timeout(GOODBYE):
                await self.connection.wait_closed()
        except TimeoutError:
            self.connection.abort()
        except (OSError, asyncssh.Error):
            pass


async def connect(
    node: Node,
    port: int,
    *,
    user: str,
    client_keys: list[Any],
    client_certificate: asyncssh.SSHCertificate | None = None,
    known_hosts: Path,
    patience: float,
    local: str = "",
    who: api.Hello | None = None,
) -> Link:
    """Connect to the agent of `node`, at its SSH port, checking that it is who it should be.

    Args:
        node: whose agent.
        port: its port.
        user: the SSH user name.
        client_keys: keys (or paths of keys) to show.
        client_certificate: of one of them.
        known_hosts: the one file of host keys that counts, beside the cluster's key in its directory.
        patience: seconds until it must have answered.
        local: address to come from.
        who: how to introduce oneself.

    Raises:
        NodeDown, AgentVersion: it does not answer, or speaks another version of the API.
        HostKeyWrong: it answers with a host key that is not in known_hosts (HostKeyUnknown: which has none).
        KeyNotAuthorised: it does not know our key.
    """
    connection: asyncssh.SSHClientConnection | None = None
    try:
        async with asyncio.timeout(patience):
            connection = await asyncssh.connect(
                node.address,
                port,
                username=user,
                client_keys=client_keys,
                client_certs=[client_certificate] if client_certificate is not None else (),
                local_addr=(local, 0) if local else (),
                options=_client_options(node),
                known_hosts=_trusted(known_hosts, node),
            )
            return Link(connection, await _session(connection, node.name, who))
    except BaseException as error:
        if connection is not None:
            connection.abort()
        if (told := _worded(error, node, port, known_hosts, client_keys)) is not None:
            raise told from None
        raise


async def _session(connection: asyncssh.SSHClientConnection, node: str, who: api.Hello | None) -> Session:
    session = Session(node, who or api.Hello(api.VERSION))
    await connection.create_session(
        lambda: session, subsystem=api.SUBSYSTEM, encoding=None, window=WINDOW, max_pktsize=PACKET
    )
    await session.ready()
    return session


def _client_options(node: Node) -> asyncssh.SSHClientConnectionOptions:
    # config=None and agent_path=None: nothing of ~/.ssh has a say in how agents meet.
    return asyncssh.SSHClientConnectionOptions(
        config=None,
        agent_path=None,
        preferred_auth=["publickey"],
        gss_host=None,
        encryption_algs=ENCRYPTION,
        compression_algs=["none"],
        client_version=f"openMosix_{__version__}",
        host_key_alias=cluster_key.principal(node.number),  # what a host certificate must name
        keepalive_interval=KEEPALIVE,
        keepalive_count_max=3,
        tcp_keepalive=True,
    )


def _trusted(path: Path, node: Node) -> Callable[[str, str, int | None], Any]:
    """Which host keys are that node's: those pinned to its address, and one that the cluster's key signed.

    Without the file, and without a cluster key, nobody is known (and not: everybody).
    """
    known = _listed(path)
    signed = [] if node.number in cluster_key.retired(path.parent) else [cluster_key.public_key(path.parent)]

    def match(_alias: str, address: str, port: int | None) -> Any:
        keys, authorities, revoked, *x509 = known.match(node.address, address, port)
        return (keys, [*authorities, *(key for key in signed if key is not None)], revoked, *x509)

    return match


def _pinned(path: Path, node: Node, port: int) -> bool:
    """Whether the list of host keys has any for that node."""
    return any(_listed(path).match(node.address, "", port))


def _listed(path: Path) -> asyncssh.SSHKnownHosts:
    try:
        return asyncssh.import_known_hosts(path.read_text())
    except FileNotFoundError:
        return asyncssh.import_known_hosts("")


def _worded(  # noqa: PLR0911 - one line for each kind of error
    error: BaseException, node: Node, port: int, known_hosts: Path, client_keys: list[Any]
) -> OmError | None:
    """What to tell the user of an error while connecting."""
    address = f"{node.address}:{port}"
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        if cluster_key.public_key(known_hosts.parent) is None and not _pinned(known_hosts, node, port):
            return HostKeyUnknown(
                node=node.name, address=address, known_hosts=str(known_hosts), host=node.address, port=port
            )
        return HostKeyWrong(node=node.name, address=address, known_hosts=str(known_hosts))
    if isinstance(error, asyncssh.PermissionDenied):
        return KeyNotAuthorised(node=node.name, key=_shown(client_keys))
    if isinstance(error, TimeoutError):
        return NodeDown(node=node.name, address=address, why=_("no answer in time"))
    if isinstance(error, OSError):
        return NodeDown(node=node.name, address=address, why=_refusal(error))
    if isinstance(error, asyncssh.Error):
        return NodeDown(node=node.name, address=address, why=error.reason or str(error))
    if isinstance(error, ValueError):  # asyncssh's word for a line of known_hosts that is none
        return NodeDown(node=node.name, address=address, why=str(error))
    return None


def _refusal(error: OSError) -> str:
    """The system's word; asyncio's own are its calls and, for a name of several addresses, a list of them."""
    told = re.search(r"\[Errno (\d+)\]", str(error))
    number = error.errno or (int(told[1]) if told else 0)
    return os.strerror(number) if number > 0 else error.strerror or str(error)


def _shown(client_keys: list[Any]) -> str:
    key = client_keys[0] if client_keys else ""
    if isinstance(key, asyncssh.SSHKey):
        return f"{key.get_comment() or key.get_algorithm()} ({key.get_fingerprint()})"
    return str(key)


class _Failure(NamedTuple):
    """An attempt to connect: when it began and ended (the loop's time), and how it is told."""

    begun: float
    ended: float
    why: dict[str, str | int]


class Peers:
    """An agent's connections to the others, one each, renewed when they broke."""

    def __init__(self, configuration: Configuration, own: keys.Keys) -> None:
        self._configuration = configuration
        self._own = own
        self._links: dict[int, Link] = {}
        self._doubtful: list[Link] = []
        self._connecting: dict[int, asyncio.Lock] = {}
        self._failures: dict[int, _Failure] = {}

    def use(self, own: keys.Keys) -> None:
        """Show these to whoever is connected to from now on."""
        self._own = own

    async def link(self, node: Node) -> Link:
        """A connection to that node that was up a moment ago; raises as `connect`."""
        # Those who want the same node at once share one connection, or the one failure to get it; but an
        # attempt of which the kernel's first word was lost says nothing of a node that has come up since.
        loop = asyncio.get_running_loop()
        asked = loop.time()
        async with self._connecting.setdefault(node.number, asyncio.Lock()):
            link = self._links.get(node.number)
            if link is not None and not link.over:
                return link
            failure = self._failures.get(node.number)
            if failure is not None and asked - _SAME_ATTEMPT <= failure.begun and asked <= failure.ended:
                raise OmError.from_wire(failure.why)
            begun = loop.time()
            try:
                with log.about_nothing():  # others will use the connection too
                    return await self._connect(node)
            except OmError as error:
                self._failures[node.number] = _Failure(begun, loop.time(), error.to_wire())
                raise

    async def _connect(self, node: Node) -> Link:
        settings = self._configuration.settings
        own = self._configuration.node
        link = await connect(
            node,
            settings.port,
            user=self._own.user,
            client_keys=[self._own.client],
            client_certificate=self._own.client_certificate,
            known_hosts=self._configuration.directory / keys.KNOWN_HOSTS,
            patience=settings.connect_timeout,
            who=api.Hello(api.VERSION, own.number, own.name),
            # On loopback every address is this machine's: come from the one that is this node's.
            local=self._configuration.listen if self._configuration.listen.startswith("127.") else "",
        )
        with contextlib.suppress(OSError):  # it may be gone again already
            give_up_after(settings.silence, link.connection.get_extra_info("socket"))
        self._doubtful = [old for old in self._doubtful if not old.over]
        self._links[node.number] = link
        log.info("connected to a peer", peer=node.name, address=node.address)
        return link

    async def call(
        self,
        node: Node,
        request: api.Request,
        result: type[_R],
        *,
        uid: int | None = None,
        patience: float = 15.0,
        on_event: Callable[[api.Event], None] | None = None,
    ) -> _R:
        """Ask that node's agent; raises as `connect` and `Asking.call`."""
        link = await self.link(node)
        try:
            async with asyncio.timeout(patience):
                return await link.session.call(request, result, uid, on_event)
        except TimeoutError:
            # It may be gone without a word: the next one begins anew. What runs over the old connection,
            # tunnels above all, is not cut for that: SSH's own keep-alive finds out whether it is dead.
            if self._links.get(node.number) is link:
                del self._links[node.number]
                self._doubtful.append(link)
            raise NodeDown(node=node.name, address=node.address, why=_("no answer in time")) from None

    def moved(self, numbers: Iterable[int]) -> None:
        """These nodes have other addresses now: what is asked next goes there."""
        for number in numbers:
            if (link := self._links.pop(number, None)) is not None:
                self._doubtful.append(link)

    async def close(self) -> None:
        """Hang up on all."""
        links = [*self._links.values(), *self._doubtful]
        self._links.clear()
        self._doubtful.clear()
        await asyncio.gather(*(link.close() for link in links))
