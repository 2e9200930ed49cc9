"""A cable between two keepers that can be cut, held or spoiled at any byte."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Literal

Direction = Literal["there", "back"]
DIRECTIONS: tuple[Direction, Direction] = ("there", "back")  # from the deputy's keeper, and to it
Fault = Literal["cut", "hold", "spoil"]


@dataclass
class Wire:
    """One connection by way of the test.

    Attributes:
        passed: bytes carried so far.
        at: where something happens: after so many bytes in that direction.
        happened: it has.
    """

    passed: dict[Direction, int] = field(default_factory=lambda: {"there": 0, "back": 0})
    at: tuple[Direction, int, Fault] | None = None
    happened: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    _server: asyncio.Server | None = None
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def start(self, target: int) -> None:
        """Listen, and lead whoever calls to port `target`."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection("127.0.0.1", target)
            self._writers += [writer, back]
            self._tasks += [
                asyncio.create_task(self._carry("there", reader, back)),
                asyncio.create_task(self._carry("back", there, writer)),
            ]

        self._server = await asyncio.start_server(connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _carry(self, way: Direction, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(1 << 16):
                if self.at is not None and self.at[0] == way and self.passed[way] + len(data) >= self.at[1]:
                    data = await self._fault(data[: max(0, self.at[1] - self.passed[way])], data, sink)
                    if not data:
                        return
                self.passed[way] += len(data)
                sink.write(data)
                await sink.drain()
        sink.close()

    async def _fault(self, until: bytes, data: bytes, sink: asyncio.StreamWriter) -> bytes:
        """What still passes of `data`: nothing if this is the end."""
        assert self.at is not None
        kind, self.at = self.at[2], None
        self.happened.set()
        if kind == "spoil":
            at = min(len(until), len(data) - 1)
            return data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]
        sink.write(until)
        await sink.drain()
        if kind == "cut":
            self.cut()
            return b""
        await asyncio.get_running_loop().create_future()  # held until somebody cuts it
        return b""

    def cut(self) -> None:
        """Pull the plug."""
        for writer in self._writers:
            writer.transport.abort()

    async def close(self) -> None:
        """Leave nothing behind."""
        self.cut()
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()


