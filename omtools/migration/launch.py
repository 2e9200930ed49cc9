"""Asking the keeper template for keepers, from an agent's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from omtools.errors import NoAgent, OmError
from omtools.migration.orders import DeputyOrder, EndOrder, GuestOrder, Launched, Refused, WorkerOrder

SOCKET = "template.sock"
_START_SECONDS = 60.0  # a limit for hangs: on an emulated or overloaded machine Python itself takes ten
_LAUNCH_SECONDS = 20.0

_decoder = msgspec.json.Decoder(Launched | Refused)


async def ensure_template(run: Path) -> None:
    """Start the template of this run directory if none lives; it outlives the caller.

    Raises NoAgent if it does not come up.
    """
    path = run / SOCKET
    if await _answers(path):
        return
    told, tell = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "omtools.migration.template", str(run),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL, pass_fds=[tell],
            env={**os.environ, "OMTOOLS_READY_FD": str(tell)},
        )  # fmt: skip
    finally:
        os.close(tell)
    try:
        await asyncio.wait_for(_ready(told), _START_SECONDS)
    except (TimeoutError, EOFError):
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        if not await _answers(path):  # somebody else may have started one at the same moment
            raise NoAgent(socket=str(path)) from None
    finally:
        await process.wait()  # it leaves a child of its own behind


async def end_template(run: Path) -> None:
    """End the template of this run directory, if one lives: the next one is of the next agent's version."""
    with contextlib.suppress(OSError, TimeoutError):
        reader, writer = await asyncio.open_unix_connection(str(run / SOCKET))
        try:
            writer.write(msgspec.json.encode(EndOrder()) + b"\n")
            await asyncio.wait_for(reader.read(), _LAUNCH_SECONDS)  # it hangs up
        finally:
            writer.close()


async def _answers(path: Path) -> bool:
    try:
        _reader, writer = await asyncio.open_unix_connection(str(path))
    except OSError:
        return False
    writer.close()
    return True


async def _ready(descriptor: int) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    with os.fdopen(descriptor, "rb", 0) as pipe:
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _protocol = await loop.connect_read_pipe(lambda: protocol, pipe)
        try:
            if not await reader.readline():
                raise EOFError
        finally:
            transport.close()


async def start_worker(run: Path, order: WorkerOrder, descriptors: Sequence[int]) -> None:
    """Have a worker forked for this order. Its first word, or none but the end, comes where it is to speak.

    Args:
        run: the run directory.
        order: what the worker is to do.
        descriptors: of its control socket, for its first word, for its log.

    Raises:
        NoAgent: there is no template, and none can be started.
    """
    path = run / SOCKET
    with socket.socket(socket.AF_UNIX) as template:  # asyncio's streams carry no descriptors
        try:
            template.connect(str(path))
        except OSError:
            await ensure_template(run)
            template.connect(str(path))
        socket.send_fds(template, [msgspec.json.encode(order) + b"\n"], descriptors)


async def launch(run: Path, order: DeputyOrder | GuestOrder) -> Launched:
    """Have a keeper forked for this order; raises the OmError by which it refuses."""
    path = run / SOCKET
    try:
        reader, writer = await asyncio.open_unix_connection(str(path))
    except OSError:
        await ensure_template(run)
        reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write(msgspec.json.encode(order) + b"\n")
        await writer.drain()
        line = await asyncio.wait_for(reader.readline(), _LAUNCH_SECONDS)
    finally:
        writer.close()
    if not line:
        raise NoAgent(socket=str(path))
    answer: Launched | Refused = _decoder.decode(line)
    if isinstance(answer, Refused):
        raise OmError.from_wire(answer.error)
    return answer
