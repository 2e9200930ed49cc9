"""A simulated cluster that speaks the real command API over a unix socket.

For ``--demo``, for measuring with a thousand nodes, and wherever a screen is wanted and no cluster is at
hand. As a program of its own: ``python -m omtui.simulated --socket PATH --nodes 1000 --processes 10000``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from types import TracebackType

import msgspec

from omtools.agent import api
from omtools.agent.parts import lines_of
from omtools.errors import BadRequest, OmError
from omtools.i18n import _
from omtui.actions import SignalName
from omtui.local import LocalProcess
from omtui.world import OWN, World, address_of

_LIMIT = 1 << 20
_decoder = msgspec.json.Decoder(api.ToAgent)


class SimulatedAgent:
    """The agent of node 1 of a `World`. Use it with ``async with``.

    Attributes:
        world: may be changed at will.
        socket: where it listens.
    """

    def __init__(self, world: World, socket: Path | None = None, tick: float | None = 1.0) -> None:
        """Nothing happens yet.

        Args:
            world: what it tells of.
            socket: where to listen; None: in a directory of its own.
            tick: seconds that a second of the world takes; None: it moves by `step` only.
        """
        self.world = world
        self._directory = None if socket else Path(tempfile.mkdtemp(prefix="omtui-"))
        self.socket = socket or Path(self._directory or "", "agent.sock")
        self._tick = tick
        self._server: asyncio.Server | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._talks: set[asyncio.Task[None]] = set()
        self._subscribers: dict[asyncio.StreamWriter, int] = {}

    async def __aenter__(self) -> SimulatedAgent:
        """Listen and live."""
        await self.start()
        if self._tick is not None:
            self._ticker = asyncio.create_task(self._live(self._tick))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hang up and leave nothing."""
        if self._ticker is not None:
            self._ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticker
        await self.stop()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    async def start(self) -> None:
        """Listen (again)."""
        self._server = await asyncio.start_unix_server(self._accept, self.socket, limit=_LIMIT)

    async def stop(self) -> None:
        """Be away: as an agent that was stopped."""
        if self._server is not None:
            self._server.close()
            self._server = None
        talks = list(self._talks)
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        self.socket.unlink(missing_ok=True)

    def step(self) -> None:
        """Let a second pass in the world."""
        for event in self.world.step():
            self.tell(event)

    def tell(self, event: api.Event) -> None:
        """Tell all subscribers."""
        for writer, number in self._subscribers.items():
            writer.write(api.line_of(api.Notice(number, event)))

    async def _live(self, tick: float) -> None:
        while True:
            await asyncio.sleep(tick)
            self.step()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._talk(reader, writer))
        self._talks.add(task)
        task.add_done_callback(self._talks.discard)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(api.line_of(api.Hello(api.VERSION, OWN, self.world.nodes[OWN].name)))
        try:
            while line := await reader.readline():
                self._hear(line, writer)
                await writer.drain()
        except (OSError, ValueError):  # it hung up, or sent a line without end
            pass
        finally:
            self._subscribers.pop(writer, None)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _hear(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        try:
            message = _decoder.decode(line)
        except msgspec.MsgspecError as error:
            wire = BadRequest(why=str(error)).to_wire()
            writer.write(api.line_of(api.Failure(api.id_of(line), wire)))
            return
        if isinstance(message, api.Enough):
            self._subscribers.pop(writer, None)
        if not isinstance(message, api.Call):
            return
        if isinstance(message.request, api.Subscribe):
            self._subscribers[writer] = message.id
        try:
            result, events = self._answer(message.request)
        except OmError as error:
            writer.write(api.line_of(api.Failure(message.id, error.to_wire())))
            return
        self._progress(message.id, result, writer)
        writer.writelines(lines_of(api.Answer(message.id, result)))
        for event in events:
            self.tell(event)

    def _progress(self, number: int, result: api.Result, writer: asyncio.StreamWriter) -> None:
        """How far it is, told to who asked, before the answer."""
        if isinstance(result, api.Cleared):
            for done in range(result.moved + 1):
                writer.write(api.line_of(api.Notice(number, api.Clearing(done, result.moved))))

    def _answer(self, request: api.Request) -> tuple[api.Result, list[api.Event]]:
        world = self.world
        result: api.Result = api.Done()
        events: list[api.Event] = []
        match request:
            case api.Migrate(pid, to):
                result, event = world.migrate(pid, to)
                events = [event]
            case api.Expel(node) | api.Bring(node):
                result, events = world.clear(isinstance(request, api.Expel), node)
            case api.Lock(pid, locked):
                events = world.lock(pid, locked)
            case api.Switch(name, on, node):
                events = world.switch(name, on, node)
            case api.SetSpeed(speed, node):
                world.set_speed(speed, node)
            case api.Tune(node):
                world.node(node)
                result = _tuned(request)
            case api.GetDecay():
                result = api.NodeDecay(1.0, 976, 926)
            case api.Subscribe() | api.SetDecay():
                pass
            case _:
                result = self._look(request)
        return result, events

    def _look(self, request: api.Request) -> api.Result:
        world = self.world
        match request:
            case api.Views():
                found: api.Result = world.views()
            case api.Processes():
                found = world.listing()
            case api.Inspect(pid):
                found = world.inspected(pid)
            case api.Calls(pid):
                found = world.calls(pid)
            case api.NodeInfo(word):
                found = world.report(word)
            case api.Whois(word):
                node = world.node(word)
                found = api.NodeName(node.number, node.name, address_of(node.number))
            case api.Nodes():
                nodes = [api.NodeName(n.number, n.name, address_of(n.number)) for n in world.nodes.values()]
                found = api.NodeList(OWN, [api.MapRange(1, address_of(1), world.size)], nodes)
            case _:
                name = type(request).__name__
                raise BadRequest(why=_("a simulated agent does not know {what}").format(what=name))
        return found


def _tuned(request: api.Tune) -> api.Tuned:
    limits = (request.load_limit, request.cpu_limit, request.guest_limit)
    load, cpu, guests = (-1 if one is None else one for one in limits)
    return api.Tuned(0.05, 0.0001, 1e9, {}, request.yardstick or 10000, load, cpu, guests)


class SimulatedMachine:
    """The machine of node 1, for a `Source` that asks a `SimulatedAgent`."""

    def __init__(self, agent: SimulatedAgent) -> None:
        self._agent = agent

    def processes(self) -> list[LocalProcess]:
        """What /proc of node 1 would show."""
        return self._agent.world.local()

    def signal(self, pid: int, name: SignalName) -> None:
        """Send a signal. Raises OmError."""
        event = self._agent.world.signal(pid, name)
        if event is not None:
            self._agent.tell(event)

    def renice(self, pid: int, nice: int) -> None:
        """Set a nice value. Raises OmError."""
        self._agent.world.renice(pid, nice)


async def _serve(options: argparse.Namespace) -> None:
    world = World(options.nodes, options.processes, options.seed)
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, over.set)
    async with SimulatedAgent(world, options.socket):
        print(options.socket, flush=True)  # whoever started it can connect now
        await over.wait()


def main() -> int:
    """Serve until SIGTERM."""
    options = argparse.ArgumentParser(prog="python -m omtui.simulated", allow_abbrev=False)
    options.add_argument("--socket", type=Path, required=True)
    options.add_argument("--nodes", type=int, default=8)
    options.add_argument("--processes", type=int, default=40)
    options.add_argument("--seed", type=int, default=1)
    asyncio.run(_serve(options.parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
