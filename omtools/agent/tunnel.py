"""The link of two keepers through SSH, where nothing but the SSH port can be reached.

At home the agent listens on a unix socket; each connection to it becomes a channel to the guest's keeper on
the other node. The bytes are the keepers' TLS as on a direct link: SSH only carries them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import asyncssh

from omtools.agent import log
from omtools.agent.peers import PACKET, WINDOW, Link

_PIECE = 1 << 18


class Tunnel:
    """A unix socket on this node that leads to one port of another.

    Attributes:
        path: the socket.
    """

    def __init__(self, path: Path, link: Link, address: str, port: int) -> None:
        self.path = path
        self._link = link
        self._address = address
        self._port = port
        self._server: asyncio.Server | None = None
        self._carrying: set[asyncio.Task[None]] = set()

    async def open(self, uid: int) -> None:
        """Listen for the keeper, which has become `uid` by the time it connects."""
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._connected, self.path, limit=_PIECE)
        self.path.chmod(0o600)
        if uid != os.geteuid():
            os.chown(self.path, uid, -1)

    async def close(self) -> None:
        """Stop listening and cut what runs through it."""
        if self._server is not None:
            self._server.close()
        self.path.unlink(missing_ok=True)
        carrying = list(self._carrying)
        for task in carrying:
            task.cancel()
        await asyncio.gather(*carrying, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._carry(reader, writer))
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await self._link.connection.open_connection(
                self._address, self._port, encoding=None, window=WINDOW, max_pktsize=PACKET
            )
        except (OSError, asyncssh.Error) as error:
            log.warn("a link through SSH cannot be opened", socket=self.path.name, why=error)
            writer.close()
            return
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_carry_out(reader, far_writer))
                both.create_task(_carry_in(far_reader, writer))
        except* (OSError, asyncssh.Error) as broken:
            log.debug("a link through SSH broke", socket=self.path.name, why=broken.exceptions[0])
        finally:
            far_writer.close()
            writer.close()


async def _carry_out(reader: asyncio.StreamReader, writer: asyncssh.SSHWriter[bytes]) -> None:
    while piece := await reader.read(_PIECE):
        writer.write(piece)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()


async def _carry_in(reader: asyncssh.SSHReader[bytes], writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_PIECE):
        writer.write(piece)
        await writer.drain()
    if writer.can_write_eof():
        with contextlib.suppress(OSError):
            writer.write_eof()


async def reachable(address: str, port: int, patience: float = 2.0) -> bool:
    """Whether a TCP connection to there can be made; it is closed without a byte."""
    try:
        async with asyncio.timeout(patience):
            _reader, writer = await asyncio.open_connection(address, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True
