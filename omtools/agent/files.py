"""oMFS at one node: its files served to others, everybody's mounted here, and hpc(5)'s tree beside them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import secrets
import socket
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from omtools.agent import api, log
from omtools.agent.callers import Caller, name_of
from omtools.agent.certificates import make_identity
from omtools.agent.config import NOWHERE, Configuration
from omtools.agent.engine import Engine
from omtools.agent.guests import wrong_user
from omtools.agent.peers import Peers
from omtools.agent.tunnel import Tunnel, reachable
from omtools.errors import CannotMount, FilesRefused, OmError
from omtools.i18n import _
from omtools.migration.orders import Credentials, Endpoint, WorkerOrder
from omtools.omfs.orders import (
    Admit,
    Admitted,
    Done,
    End,
    MountOrder,
    Question,
    Renew,
    Reply,
    ServeOrder,
    TellUses,
    Use,
    Uses,
    Way,
)
from omtools.omfs.rights import Rights
from omtools.omfs.worker import line_of

_START_SECONDS = 20.0
_END_SECONDS = 10.0
_QUICK_SECONDS = 2.0
_MOUNT, _HPC = "mount", "hpc"
_LOOPBACK = "127.0.0.1"
_decoder = msgspec.json.Decoder(Reply)


@dataclass
class _Worker:
    """A file worker: our connection to it, one question at a time."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def ask(self, question: Question, seconds: float) -> Reply:
        """Its answer; EOFError, TimeoutError or OSError if it has ended."""
        async with self.turn, asyncio.timeout(seconds):
            self.writer.write(line_of(question))
            await self.writer.drain()
            if not (line := await self.reader.readline()):
                raise EOFError
            reply: Reply = _decoder.decode(line)
            return reply


class Files:
    """The files of the cluster, as this node's agent arranges them.

    Attributes:
        mounted: where all nodes' files are mounted, "" as long as they are not.
        refusal: why they are not mounted, if they should be.
        hpc: where the tree of hpc(5) is mounted, "" as long as it is not.
    """

    def __init__(self, configuration: Configuration, peers: Peers, engine: Engine) -> None:
        self._configuration = configuration
        self._peers = peers
        self._engine = engine
        self._folder = configuration.run / "omfs"
        self._workers: dict[str, _Worker] = {}
        self._starting: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # by worker
        self._tunnels: list[Tunnel] = []
        self._ports: set[int] = set()
        self._counts = True
        self.mounted = ""
        self.refusal: OmError | None = None
        self.hpc = ""

    # -- life

    async def start(self) -> None:
        """Mount, if that is wanted; where it cannot be, the agent serves without."""
        self._folder.mkdir(mode=0o711, exist_ok=True)
        await asyncio.gather(self._mount_files(), self._mount_hpc())

    async def _mount_files(self) -> None:
        settings = self._configuration.settings
        if not settings.mfs or settings.mfs_directory == NOWHERE:
            return
        try:
            await self._mount()
        except OmError as error:
            self.refusal = error
            log.warn("the files of the cluster are not mounted", why=error)
        else:
            self.mounted = self._configuration.mount
            await self.renew()  # it may be one of an earlier agent, with an earlier map
            log.info("the files of the cluster are mounted", at=self.mounted)

    async def renew(self) -> None:
        """The map changed: the mount shows the nodes that there are now."""
        if (worker := self._workers.get(_MOUNT)) is None:
            return
        nodes = {node.number: node.name for node in self._configuration.map.nodes.values()}
        try:
            await worker.ask(Renew(nodes), _END_SECONDS)
        except (EOFError, TimeoutError, OSError) as error:
            log.warn("the mount was not told of nodes", why=error)

    async def uses(self) -> list[Use]:
        """What processes have read and written by way of the mount; nothing if that does not tell."""
        worker = self._workers.get(_MOUNT) if self._counts else None
        if worker is None:
            return []
        try:
            reply = await worker.ask(TellUses(), _QUICK_SECONDS)
        except (EOFError, TimeoutError, OSError):
            # It has ended, or is an earlier version's, which has hung up: that serves on.
            self._counts = False
            self._workers.pop(_MOUNT, None)
            worker.writer.close()
            if (again := await self._connected(self._folder / f"{_MOUNT}.sock")) is not None:
                self._workers[_MOUNT] = again
            return []
        return reply.uses if isinstance(reply, Uses) else []

    async def _mount_hpc(self) -> None:
        target = self._configuration.hpc_mount
        if target == NOWHERE:
            return
        try:
            await self._worker(_HPC, "omtools.agent.hpc.mounting", self._order(target))
        except OmError as error:
            log.warn("the tree of hpc is not mounted", why=error)
        else:
            self.hpc = target
            log.info("the tree of hpc is mounted", at=target)

    async def stop(self, leave: bool) -> None:
        """Hang up, and end the workers unless they are to be left for the next agent."""
        for name in list(self._workers):
            await self._part(name, end=not leave or name == _HPC)
        for tunnel in self._tunnels:
            await tunnel.close()
        if not leave:
            for path in self._folder.glob("*.sock"):
                path.unlink(missing_ok=True)

    async def stop_serving(self) -> None:
        """What others have open of this node's files is gone for them."""
        for name in [name for name in self._workers if name not in (_MOUNT, _HPC)]:
            await self._part(name, end=True)

    async def _part(self, name: str, end: bool) -> None:
        worker = self._workers.pop(name)
        if end:
            with contextlib.suppress(EOFError, TimeoutError, OSError):
                await worker.ask(End(), _END_SECONDS)
                async with asyncio.timeout(_END_SECONDS):
                    await worker.reader.read()  # its end: nobody is served any more
        worker.writer.close()
        with contextlib.suppress(OSError):
            await worker.writer.wait_closed()

    # -- for other nodes

    def permits(self, port: int) -> bool:
        """Whether a peer's tunnel may lead there: to a file server that a peer has asked for."""
        return port in self._ports

    async def prepare(self, wanted: api.PrepareFiles, caller: Caller, refused: bool) -> api.FilesReady:
        """Let a node's user at this node's files.

        Raises:
            OmError: NotAllowed, NodeRefuses.
        """
        caller.check_node("prepare_files")
        own = self._configuration.node.name
        if refused:
            raise FilesRefused(node=own, why=_("`mosctl mfs` there would"))
        if why := wrong_user(wanted.uid, wanted.user):
            raise FilesRefused(node=own, why=why)
        identity = await asyncio.to_thread(make_identity, f"openMosix files of {own}")
        address = self._configuration.listen if wanted.link != "ssh" else _LOOPBACK
        credentials = Credentials(identity.certificate, identity.key, wanted.certificate)
        rights = Rights(wanted.uid, wanted.gid, wanted.groups)
        port = await self._admit(rights, Admit(address, credentials))
        self._ports.add(port)
        log.debug("files are served", uid=wanted.uid, port=port, to=caller.where)
        return api.FilesReady(port, identity.certificate, address)

    async def way_here(self, caller: Caller, refused: bool) -> Way:
        """A way to this node's own files with the rights of a user who has logged in; raises OmError."""
        own = await asyncio.to_thread(make_identity, f"openMosix files for {caller.uid}")
        question = api.PrepareFiles(caller.uid, name_of(caller.uid), own.certificate, "ssh")
        ready = await self.prepare(question, Caller("node", -1, caller.where), refused)
        return Way(
            Endpoint(ready.address, ready.port), Credentials(own.certificate, own.key, ready.certificate)
        )

    async def _admit(self, rights: Rights, admit: Admit) -> int:
        name, order = self._server_of(rights)
        for again in (True, False):
            worker = await self._worker(name, "omtools.omfs.serving", order)
            try:
                reply = await worker.ask(admit, _START_SECONDS)
            except (EOFError, TimeoutError, OSError) as error:
                self._workers.pop(name, None)
                if again:
                    continue
                raise FilesRefused(node=self._configuration.node.name, why=str(error)) from None
            if isinstance(reply, Admitted):
                return reply.port
            raise OmError.from_wire((reply.error if isinstance(reply, Done) else None) or {})
        raise AssertionError("unreachable")

    def _server_of(self, rights: Rights) -> tuple[str, ServeOrder]:
        """Which server has those rights: the user's, or one for who has other groups than the user."""
        name, order = f"serve-{rights.uid}", self._serve_order(rights.uid)
        mark = rights.mark(order.gid, order.groups)
        if rights.gid is None or not mark or os.geteuid() != 0:  # or we cannot become anybody
            return name, order
        groups = None if order.groups is None else list(rights.numbers)
        changed = msgspec.structs.replace(order, gid=rights.gid, groups=groups, stays=False)
        return f"{name}-{mark}", changed

    def _serve_order(self, uid: int) -> ServeOrder:
        node, exports = self._configuration.node.number, self._configuration.exports
        if uid == os.geteuid():
            return ServeOrder(node, exports, uid, os.getegid())
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            return ServeOrder(node, exports, uid, uid, [])
        groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
        return ServeOrder(node, exports, uid, entry.pw_gid, groups)

    # -- for our own mount

    async def open(self, wanted: api.OpenFiles, caller: Caller) -> api.FilesOpened:
        """A way to the files of a node, for one user; only our own mount may ask. Raises OmError."""
        caller.check_master("open_files")
        target = self._configuration.map.number(wanted.node)
        own = await asyncio.to_thread(make_identity, f"openMosix files for {wanted.uid}")
        link = self._configuration.settings.link
        question = api.PrepareFiles(
            wanted.uid, name_of(wanted.uid), own.certificate, link, wanted.gid, wanted.groups
        )
        if target == self._configuration.node:
            ready = await self.prepare(question, Caller("node", -1), refused=False)
        else:
            ready = await self._peers.call(target, question, api.FilesReady)
        credentials = Credentials(own.certificate, own.key, ready.certificate)
        address = target.address if target != self._configuration.node else ready.address
        if link == "direct" or (link == "auto" and await reachable(address, ready.port)):
            return api.FilesOpened(Way(Endpoint(address, ready.port), credentials))
        path = self._configuration.run / "tunnels" / f"omfs-{secrets.token_hex(6)}.sock"
        tunnel = Tunnel(path, await self._peers.link(target), ready.address or target.address, ready.port)
        await tunnel.open(os.geteuid())
        self._tunnels.append(tunnel)
        return api.FilesOpened(Way(Endpoint(ready.address, ready.port, str(path)), credentials))

    def _order(self, target: str) -> MountOrder:
        configuration = self._configuration
        nodes = {node.number: node.name for node in configuration.map.nodes.values()}
        return MountOrder(
            target=target,
            node=configuration.node.number,
            agent=str(configuration.run / "agent.sock"),
            nodes=nodes,
            exports=configuration.exports,
            everybody=os.geteuid() == 0,
            directory=str(configuration.directory),
        )

    async def _mount(self) -> None:
        order = self._order(self._configuration.mount)
        await self._worker(_MOUNT, "omtools.agent.mounting", order)

    # -- workers

    async def _worker(self, name: str, module: str, order: ServeOrder | MountOrder) -> _Worker:
        """The worker of that name: the one we know, the one another agent has left, or a new one."""
        async with self._starting[name]:
            if (known := self._workers.get(name)) is not None and not known.reader.at_eof():
                return known
            path = self._folder / f"{name}.sock"
            worker = await self._connected(path)
            if worker is None:
                await self._start_worker(path, module, order)
                worker = await self._connected(path)
            if worker is None:
                why = _("its file server does not start")
                raise FilesRefused(node=self._configuration.node.name, why=why)
            self._workers[name] = worker
            return worker

    async def _connected(self, path: Path) -> _Worker | None:
        try:
            return _Worker(*await asyncio.open_unix_connection(str(path)))
        except OSError:
            return None

    async def _start_worker(self, path: Path, module: str, order: ServeOrder | MountOrder) -> None:
        hears, says = os.pipe()
        try:
            with _listening(path) as listener:
                log_to = log.descriptor()
                descriptors = [listener.fileno(), says, 2 if log_to is None else log_to]
                worker = WorkerOrder(module, msgspec.json.encode(order).decode())
                await self._engine.start_worker(self._configuration.run, worker, descriptors)
        except BaseException:
            os.close(hears)
            raise
        finally:
            os.close(says)
        line = await _line(hears)
        reply = _decoder.decode(line) if line else None
        if isinstance(reply, Done) and reply.error is not None:
            raise OmError.from_wire(reply.error)
        if not isinstance(reply, Done) and isinstance(order, MountOrder):
            raise CannotMount(target=order.target, why=_("its process does not start"))


async def _line(descriptor: int) -> bytes:
    """The first line that comes from there; "" if none does."""
    reader = asyncio.StreamReader()
    with os.fdopen(descriptor, "rb", 0) as pipe:
        transport, _protocol = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            async with asyncio.timeout(_START_SECONDS):
                return await reader.readline()
        except TimeoutError:
            return b""
        finally:
            transport.close()


def _listening(path: Path) -> socket.socket:
    """A control socket for a worker that is to be started."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen()
    return listener
