"""Real keepers and real processes for tests: no agents, no SSH; both nodes are this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from omtools.agent.certificates import make_identity
from omtools.image.twins import Twin, mapped_files, read_digest
from omtools.migration.launch import ensure_template, launch
from omtools.migration.orders import (
    Bring,
    Command,
    Credentials,
    DeputyOrder,
    Endpoint,
    GuestOrder,
    Hop,
    Phase,
    State,
)
from omtools.migration.reach import Reach

from .wire import Wire

FINAL: tuple[Phase, ...] = ("home", "ended", "failed")
PATIENCE = 30.0


@dataclass
class Keeper:
    """A connection to one keeper's control socket."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    pid: int = 0
    seen: list[State] = field(default_factory=list)

    async def until(self, *phases: Phase) -> State:
        """The first state from now on in one of these phases; EOFError if the keeper ends before."""
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    line = await self.reader.readline()
                except ConnectionResetError:
                    line = b""  # it was killed
                if not line:
                    raise EOFError([state.phase for state in self.seen])
                state = msgspec.json.decode(line, type=State)
                self.seen.append(state)
                if state.phase in phases:
                    return state

    async def end(self) -> State:
        """Its last state, after it has ended."""
        async with asyncio.timeout(PATIENCE):
            while line := await self.reader.readline():
                self.seen.append(msgspec.json.decode(line, type=State))
        return self.seen[-1]

    def tell(self, command: Command) -> None:
        """Send a command."""
        self.writer.write(msgspec.json.encode(command) + b"\n")


@dataclass
class Moved:
    """A process that was sent away: both keepers, and the state after the move."""

    pid: int
    state: State
    deputy: Keeper
    guest: Keeper

    async def home(self) -> State:
        """Bring it home."""
        self.deputy.tell(Bring())
        return await self.deputy.until(*FINAL)


class Nest:
    """A run directory with its keeper template."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._count = 0
        self._keepers: list[Keeper] = []
        self.wires: list[Wire] = []
        self.wired = False  # the next links go by way of a Wire
        self.reach = Reach()  # of the guests' files, without the deputy
        self.twins = False  # both nodes know that they have the same files
        self.patience = 3.0  # of a guest's keeper for a caller, who sometimes finds no process to move

    async def _guest(self, pid: int, node: int) -> tuple[Endpoint, Credentials, Keeper]:
        self._count += 1
        name = f"{pid}-{self._count}"
        here, there = make_identity("deputy"), make_identity("guest")
        order = GuestOrder(
            migration=name, pid=pid, uid=os.getuid(), gid=os.getgid(), home=1, node=node,
            hostname=os.uname().nodename, address="127.0.0.1",
            credentials=Credentials(there.certificate, there.key, here.certificate),
            control=str(self.run / "keepers" / f"guest-{name}.sock"), debug=True,
            patience=self.patience, reach=self.reach, twins=self._twins(pid),
        )  # fmt: skip
        launched = await launch(self.run, order)
        credentials = Credentials(here.certificate, here.key, there.certificate)
        port = launched.port
        if self.wired:
            self.wires.append(Wire())
            await self.wires[-1].start(port)
            port = self.wires[-1].port
        return Endpoint("127.0.0.1", port), credentials, await self.connect(order.control, launched.pid)

    def _twins(self, pid: int) -> list[Twin]:
        if not self.twins:
            return []
        paths = mapped_files(pid)
        return [Twin(path, known[0]) for path in paths if (known := read_digest(path, os.getuid()))]

    async def connect(self, control: str, pid: int) -> Keeper:
        """Follow a keeper."""
        self._keepers.append(Keeper(*await asyncio.open_unix_connection(control), pid))
        return self._keepers[-1]

    async def close(self) -> None:
        """Close the connections, to keepers that are ending not before their last word."""
        for wire in self.wires:
            await wire.close()
        for keeper in self._keepers:
            with contextlib.suppress(TimeoutError, OSError):
                await asyncio.wait_for(keeper.reader.read(), 5)
            keeper.writer.close()
            with contextlib.suppress(OSError):
                await keeper.writer.wait_closed()

    async def send(self, pid: int, node: int = 2) -> tuple[Keeper, Keeper]:
        """Order the move; returns the deputy's and the guest's keeper without waiting."""
        endpoint, credentials, guest = await self._guest(pid, node)
        order = DeputyOrder(
            migration=f"{pid}-{self._count}", pid=pid, uid=os.getuid(), gid=os.getgid(), home=1, target=node,
            endpoint=endpoint, credentials=credentials,
            control=str(self.run / "keepers" / f"deputy-{pid}-{self._count}.sock"), debug=True,
            dfsa=self.reach != Reach(), files=self.reach, twins=self._twins(pid),
        )  # fmt: skip
        launched = await launch(self.run, order)
        return await self.connect(order.control, launched.pid), guest

    async def away(self, pid: int, node: int = 2) -> Moved:
        """Move it and wait until it runs there; fails the test if it does not."""
        deputy, guest = await self.send(pid, node)
        state = await deputy.until("away", *FINAL)
        assert state.phase == "away", state
        return Moved(pid, state, deputy, guest)

    async def hop(self, moved: Moved, node: int) -> Moved:
        """Move it on to another node."""
        endpoint, credentials, guest = await self._guest(moved.pid, node)
        moved.deputy.tell(Hop(node, endpoint, credentials, self._twins(moved.pid)))
        await moved.deputy.until("coming")
        while (state := await moved.deputy.until("away", *FINAL)).node != node:
            assert state.phase == "away", state
            assert state.error is None, state
        return Moved(moved.pid, state, moved.deputy, guest)

    def log(self) -> str:
        """What the keepers wrote."""
        return (self.run / "keepers.log").read_text()


def _alive(run: Path) -> list[int]:
    """Pids of everything that belongs to this nest."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
                if str(run).encode() in command:
                    found.append(int(name))
    return found


@contextlib.asynccontextmanager
async def nest(run: Path) -> AsyncIterator[Nest]:
    """A nest that leaves nothing behind: keepers have to end by themselves once their processes are gone."""
    (run / "keepers").mkdir(parents=True)
    await ensure_template(run)
    made = Nest(run)
    try:
        yield made
    finally:
        await made.close()
        template = [pid for pid in _alive(run) if _is_template(run, pid)]
        left = await _settled(run, set(template))
        for pid in {*left, *template}:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert not left, f"keepers left behind: {left}\n{(run / 'keepers.log').read_text()[-4000:]}"


def _is_template(run: Path, pid: int) -> bool:
    """The first of its family: keepers are its children."""
    try:
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        return os.getpgid(pid) == pid and parent not in _alive(run)
    except OSError:
        return False  # it has just ended


async def _settled(run: Path, expected: set[int]) -> set[int]:
    """Who is left after the keepers had their time to end."""
    loop = asyncio.get_running_loop()
    limit = loop.time() + 5
    while left := set(_alive(run)) - expected:
        if loop.time() > limit:
            return left
        await asyncio.to_thread(_wait_for_one, left)
    return set()


def _wait_for_one(pids: set[int]) -> None:
    """Until one of these ends, or a second has passed."""
    import select

    poller = select.poll()
    opened = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            opened.append(os.pidfd_open(pid))
            poller.register(opened[-1], select.POLLIN)
    poller.poll(1000)
    for descriptor in opened:
        os.close(descriptor)


@contextlib.asynccontextmanager
async def program(
    *command: str | Path, stdin: int | None = None, env: dict[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A running program with piped output; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdin=asyncio.subprocess.PIPE if stdin is None else stdin,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=env,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.communicate()


def compiled(source: str, name: str, folder: Path, *flags: str) -> Path:
    """A C program, built once per folder."""
    import subprocess

    target = folder / name
    if not target.exists():
        code = folder / f"{name}.c"
        code.write_text(source)
        subprocess.run(["cc", "-O1", "-Wall", "-o", str(target), str(code), *flags], check=True)
    return target


def descriptors_of(pid: int) -> Sequence[str]:
    """Descriptor numbers a process has open."""
    return sorted(os.listdir(f"/proc/{pid}/fd"))
