"""Stand-ins for the engine: keepers that speak the control protocol and move nothing."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import msgspec

from omtools.agent import api
from omtools.agent.agent import Agent
from omtools.agent.config import load_configuration
from omtools.errors import CannotMigrate, NoSuchProcess, OmError
from omtools.image.survey import survey
from omtools.migration.orders import (
    Ask,
    Bring,
    CallTimes,
    Command,
    DeputyOrder,
    Endpoint,
    GuestOrder,
    Hop,
    Launched,
    Phase,
    State,
    Statistics,
    WorkerOrder,
)

_WORKER = """
import os, sys
from omtools.migration.errand import work
from omtools.migration.orders import WorkerOrder
if os.fork():
    os._exit(0)
work(WorkerOrder(*sys.argv[1:3]), [int(number) for number in sys.argv[3:]])
"""
_command_decoder = msgspec.json.Decoder(Command)


@dataclass(frozen=True)
class FakeSurvey:
    """What the fake engine sees of a process."""

    pid: int
    uid: int
    gid: int = 0
    command: str = "fake"
    resident_bytes: int = 1 << 20
    threads: int = 1


class FakeKeeper:
    """A keeper of nothing: listens on the control socket, says its state, obeys at once.

    A deputy's connects to its guest's with a line of greeting, as a real one would with TLS, so that the
    way between them (direct or through SSH) is really used.
    """

    def __init__(self, engine: FakeEngine, order: DeputyOrder | GuestOrder) -> None:
        self.engine = engine
        self.order = order
        self.port = 0
        self.received = 0
        deputy = isinstance(order, DeputyOrder)
        self.state = State(
            role="deputy" if deputy else "guest",
            migration=order.migration,
            pid=order.pid,
            local_pid=order.pid if deputy else order.pid + 100_000,
            uid=order.uid,
            home=order.home,
            node=order.home,
            phase="linking",
            statistics=Statistics(),
            keeper=0,
        )
        self._writers: list[asyncio.StreamWriter] = []
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._link: asyncio.StreamWriter | None = None
        self._over = False
        self._all: list[asyncio.StreamWriter] = []

    async def start(self) -> None:
        """Listen."""
        self._servers.append(
            await asyncio.start_unix_server(
                lambda reader, writer: self._accept(self._control, reader, writer), self.order.control
            )
        )
        if isinstance(self.order, GuestOrder):
            server = await asyncio.start_server(
                lambda reader, writer: self._accept(self._guest_link, reader, writer), self.order.address, 0
            )
            self._servers.append(server)
            self.port = server.sockets[0].getsockname()[1]
        else:
            self.spawn(self._go(self.order.endpoint, self.order.target))

    def spawn(self, work: Any) -> None:
        """Run something beside."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _accept(self, handler: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._over:  # asyncio accepted it before and tells now
            writer.close()
            return
        self._all.append(writer)
        self.spawn(handler(reader, writer))

    def say(self, phase: Phase, **more: Any) -> None:
        """Change the state and tell it."""
        self.state.phase = phase
        for name, value in more.items():
            setattr(self.state, name, value)
        for writer in self._writers:
            writer.write(msgspec.json.encode(self.state) + b"\n")
        if phase in ("home", "ended", "failed"):
            self.spawn(self.end())

    async def end(self, killed: bool = False) -> None:
        """Be no more; a killed one leaves its socket file."""
        self._over = True
        for server in self._servers:
            server.close()
        if not killed:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.order.control)
        self.engine.keepers.pop(Path(self.order.control), None)
        others = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for writer in self._all:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        writer.write(msgspec.json.encode(self.state) + b"\n")
        try:
            while line := await reader.readline():
                self._obey(_command_decoder.decode(line))
        finally:
            self._writers.remove(writer)
            writer.close()

    def _obey(self, command: Command) -> None:
        if self.engine.deaf:
            return
        if isinstance(command, Bring):
            self.say("coming")
            self.say("home", node=self.order.home, reason=command.reason)
        elif isinstance(command, Hop):
            self.spawn(self._go(command.endpoint, command.target))
        elif isinstance(command, Ask):
            self.say(self.state.phase, calls=self._figures() if command.calls else None)
            self.state.calls = None

    def _figures(self) -> list[CallTimes] | None:
        return [CallTimes("write", 3, 300, [0, 0, 3])] if self.state.role == "guest" else None

    async def _go(self, endpoint: Endpoint, target: int) -> None:
        if self.engine.stuck:
            return
        away = self.state.phase == "away"
        old = self._link
        try:
            if endpoint.tunnel:
                reader, writer = await asyncio.open_unix_connection(endpoint.tunnel)
            else:
                reader, writer = await asyncio.open_connection(endpoint.address, endpoint.port)
            self._all.append(writer)
            writer.write(b"deputy\n" + bytes(self.engine.ballast))
            await writer.drain()
            if await reader.readline() != b"guest\n":
                raise ConnectionError
        except OSError as error:
            self.say("away" if away else "failed", error=OmError(detail=f"no link: {error}").to_wire())
            return
        self._link = writer
        self.say("coming" if away else "freezing")
        if self.engine.refusal is not None:
            self.say("away" if away else "failed", error=self.engine.refusal.to_wire())
            return
        figures = self.state.statistics
        self.state.statistics = Statistics(
            frozen_ms=12.5, total_ms=20.0, bytes_moved=10_000_000, moves=figures.moves + 1
        )
        self.say("away", node=target)
        self.spawn(self._watch(reader, writer))
        if old is not None:
            old.close()

    async def _watch(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The guest's side closed the link: it has come home."""
        await reader.read()
        if self._link is writer and self.state.phase == "away":
            self.say("home", node=self.order.home)

    async def _guest_link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A connection that closes without a byte is the agent's test whether one can be made.
        line = await reader.readline()
        if line != b"deputy\n":
            writer.close()
            return
        assert isinstance(self.order, GuestOrder)
        writer.write(b"guest\n")
        self.say("away", node=self.order.node)
        while piece := await reader.read(1 << 16):
            self.received += len(piece)
        writer.close()
        if self.state.phase == "away":
            self.say("home", node=self.order.home)


@dataclass
class FakeEngine:
    """An engine that moves nothing.

    Attributes:
        owners: uid of each process there is.
        tied: those that cannot move.
        refusal: the error with which every move fails.
        stuck: deputies' keepers never begin.
        deaf: keepers do not obey.
        ballast: bytes a deputy sends to its guest.
        real: look at real processes.
    """

    owners: dict[int, int] = field(default_factory=dict)
    tied: set[int] = field(default_factory=set)
    refusal: OmError | None = None
    launch_error: OmError | None = None
    stuck: bool = False
    deaf: bool = False
    resident: int = 1 << 20
    ballast: int = 0
    real: bool = False
    keepers: dict[Path, FakeKeeper] = field(default_factory=dict)
    templates: int = 0

    async def ensure_template(self, run: Path) -> None:  # noqa: ARG002
        """Count."""
        self.templates += 1

    async def end_template(self, run: Path) -> None:  # noqa: ARG002
        """Count."""
        self.templates -= 1

    async def launch(self, run: Path, order: DeputyOrder | GuestOrder) -> Launched:  # noqa: ARG002
        """Start a fake keeper in this process."""
        if self.launch_error is not None:
            raise self.launch_error
        keeper = FakeKeeper(self, order)
        await keeper.start()
        self.keepers[Path(order.control)] = keeper
        return Launched(os.getpid(), keeper.port)

    async def start_worker(self, run: Path, order: WorkerOrder, descriptors: Sequence[int]) -> None:  # noqa: ARG002
        """Start a real one, without a template."""
        given = [os.dup(descriptor) for descriptor in descriptors]
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", _WORKER, order.module, order.argument, *map(str, given),
                pass_fds=given, stdin=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        finally:
            for descriptor in given:
                os.close(descriptor)
        assert await process.wait() == 0  # it leaves a child of its own behind

    def survey(self, pid: int) -> FakeSurvey:
        """Know the processes of `owners`, or the real ones."""
        if self.real:
            found = survey(pid)
            return FakeSurvey(pid, found.uid, found.gid, found.command, found.resident_bytes, found.threads)
        if pid not in self.owners:
            raise NoSuchProcess(pid=pid)
        if pid in self.tied:
            raise CannotMigrate(pid=pid, reason="it has locked memory (mlock)")
        return FakeSurvey(pid, self.owners[pid], resident_bytes=self.resident)

    def only(self, role: str) -> FakeKeeper:
        """The one keeper of that role."""
        (found,) = (keeper for keeper in self.keepers.values() if keeper.state.role == role)
        return found

    async def end(self) -> None:
        """End all keepers."""
        for keeper in list(self.keepers.values()):
            await keeper.end()


_counter = itertools.count(1)


def free_port(addresses: list[str]) -> int:
    """A TCP port that is free on all of these addresses."""
    while True:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            port = 0
            for address in addresses:
                sock = stack.enter_context(socket.socket())
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((address, port))
                port = sock.getsockname()[1]
            return port


class Cluster:
    """Nodes on loopback addresses, furnished as the lab does it, agents in this process.

    Attributes:
        directory: of all nodes.
        agents: by number, those that run.
        engine: the fake that all share.
    """

    def __init__(self, directory: Path, size: int, settings: str = "") -> None:
        self.directory = directory
        # Others test on loopback at the same time: a different 127.x.y.0 for each process and cluster.
        base = f"127.{64 + os.getpid() % 128}.{(os.getpid() // 128 + next(_counter) * 16) % 256}"
        self.addresses = {number: f"{base}.{number}" for number in range(1, size + 1)}
        self.port = free_port(list(self.addresses.values()))
        self.names = dict(zip(range(1, size + 1), ("mCii", "metrakilate", "ixchel", "tikal"), strict=False))
        self.agents: dict[int, Agent] = {}
        self.engine = FakeEngine()
        host = {number: _key() for number in self.addresses}
        client = {number: _key() for number in self.addresses}
        for number in self.addresses:
            config = self.config(number)
            config.mkdir(mode=0o700, parents=True)
            self._write(config / "openmosix.map", "".join(f"{n} {a} 1\n" for n, a in self.addresses.items()))
            self._write(config / "names", "".join(f"{n} {name}\n" for n, name in self.names.items()))
            self._write(
                config / "openmosix.config",
                f"MYOMID={number}\nAGENTPORT={self.port}\nNODESPEED=10000\nMEMRESERVE=1\nMFSDIR=none\n{settings}",
            )
            self._write(config / "ssh_host_ed25519_key", host[number].export_private_key().decode())
            self._write(config / "id_ed25519", client[number].export_private_key().decode())
            self._write(
                config / "known_hosts",
                "".join(f"{a} {host[n].export_public_key().decode()}" for n, a in self.addresses.items()),
            )
            self._write(
                config / "authorized_nodes",
                "".join(client[n].export_public_key().decode() for n in self.addresses),
            )

    @staticmethod
    def _write(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o600)

    def config(self, number: int) -> Path:
        """Its configuration directory."""
        return self.directory / str(number) / "etc"

    def run(self, number: int) -> Path:
        """Its run directory."""
        return self.directory / str(number) / "run"

    async def start(self, *numbers: int) -> None:
        """Start the agents of these nodes, or of all."""
        for number in numbers or tuple(self.addresses):
            agent = Agent(load_configuration(self.config(number), self.run(number)), self.engine)
            await agent.start()
            self.agents[number] = agent

    async def stop(self, *numbers: int) -> None:
        """Stop these agents, or all."""
        for number in numbers or tuple(self.agents):
            await self.agents.pop(number).stop()

    async def end(self) -> None:
        """Stop everything."""
        await self.stop()
        await self.engine.end()

    @contextlib.asynccontextmanager
    async def asking(self, number: int) -> AsyncIterator[Asker]:
        """A client on that node's unix socket."""
        reader, writer = await asyncio.open_unix_connection(self.run(number) / "agent.sock", limit=1 << 24)
        asker = Asker(reader, writer)
        try:
            await asker.greet()
            yield asker
        finally:
            writer.close()
            await writer.wait_closed()


class Asker:
    """A client for tests: asyncio, one question at a time, raw lines too."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.hello: api.Hello | None = None
        self._ids = itertools.count(1)

    async def greet(self, version: int = api.VERSION) -> None:
        """Exchange hellos."""
        self.writer.write(api.line_of(api.Hello(version, name="test")))
        hello = await self.receive()
        assert isinstance(hello, api.Hello)
        self.hello = hello

    async def receive(self) -> api.FromAgent:
        """The next line."""
        line = await self.reader.readline()
        if not line:
            raise EOFError
        message: api.FromAgent = msgspec.json.decode(line, type=api.FromAgent)
        return message

    async def ask(self, request: api.Request, uid: int | None = None) -> Any:
        """Ask, and return the result or raise the error."""
        number = next(self._ids)
        self.writer.write(api.line_of(api.Call(number, request, uid)))
        while True:
            message = await self.receive()
            if isinstance(message, api.Failure):
                raise OmError.from_wire(message.error)
            if isinstance(message, api.Answer) and message.id == number:
                return message.result

    async def event(self, wanted: Callable[[Any], bool]) -> Any:
        """The next event that is wanted."""
        while True:
            message = await self.receive()
            if isinstance(message, api.Notice) and wanted(message.event):
                return message.event


def _key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519")


def there(path: str) -> bool:
    """Whether a file is there."""
    return os.path.exists(path)
