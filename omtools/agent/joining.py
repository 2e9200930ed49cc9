"""How a newcomer and the node with the cluster's key talk: a line each way over TCP, nothing secret in it."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec

from omtools.agent import log
from omtools.agent.waiting import Asked, Told, WaitingList
from omtools.errors import NotJoined, OmError
from omtools.i18n import _

_LONGEST = 16384  # bytes of a line
_PATIENCE = 10.0  # seconds for a line
_AT_ONCE = 32  # conversations
_decoder = msgspec.json.Decoder(Asked)
_told = msgspec.json.Decoder(Told)


class JoinServer:
    """Puts newcomers on the waiting list, and tells them what was decided."""

    def __init__(self, waiting: WaitingList) -> None:
        self._waiting = waiting
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def open(self, addresses: list[str]) -> None:
        """Listen on these addresses, on one port for all; raises OSError."""
        for address in addresses:
            server = await asyncio.start_server(self._accept, address, self.port, limit=_LONGEST)
            self._servers.append(server)
            self.port = server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Hang up on everybody."""
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._servers.clear()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= _AT_ONCE:
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._answer(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = str(writer.get_extra_info("peername", ("?",))[0])
        try:
            async with asyncio.timeout(_PATIENCE):
                asked = _decoder.decode(await reader.readline())
                told = await asyncio.to_thread(self._waiting.ask, asked, address)
                writer.write(msgspec.json.encode(told) + b"\n")
                await writer.drain()
        except (OSError, TimeoutError, ValueError, OmError) as error:  # ValueError: too long, or no JSON
            log.debug("who asked to join was not understood", address=address, why=error)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def ask(address: str, port: int, asked: Asked) -> Told:
    """Ask to join, or what became of it.

    Raises:
        NotJoined: nobody answers there, or what no newcomer understands.
    """
    try:
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await asyncio.open_connection(address, port, limit=_LONGEST)
            try:
                writer.write(msgspec.json.encode(asked) + b"\n")
                return _told.decode(await reader.readline())
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except TimeoutError:
        raise NotJoined(why=_("{address} does not answer").format(address=address)) from None
    except (OSError, ValueError) as error:
        raise NotJoined(why=f"{address}: {error}") from None
