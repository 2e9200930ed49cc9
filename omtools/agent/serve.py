"""Running an agent until it is told to end."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import signal
from collections.abc import Callable
from typing import Any

from omtools.agent import log
from omtools.agent.agent import Agent
from omtools.agent.config import Configuration


async def serve(configuration: Configuration, ready: Callable[[], None]) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status.

    Args:
        configuration: of this node.
        ready: called once it serves.

    Raises:
        OmError: it cannot serve.
    """
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_unexpected)
    _tune_memory()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    # Without this a terminal that closes would end an agent in its background.
    loop.add_signal_handler(
        signal.SIGHUP, lambda: log.info("SIGHUP: files of keys are read anew at any time")
    )
    agent = Agent(configuration)
    await agent.start()
    try:
        ready()
        gc.freeze()  # what is here now stays: no collection needs to look at it again
        await ended.wait()
    finally:
        await agent.stop()
    return 0


def _unexpected(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:  # noqa: ARG001
    error = context.get("exception")
    if isinstance(error, BaseException):
        log.failed(context.get("message", "?"), error)
    else:
        log.warn(str(context.get("message", "?")))


def _tune_memory() -> None:
    """Let glibc keep big blocks: a tunnel is three times as fast if its packets need no fresh pages."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        m_mmap_threshold, m_trim_threshold = -3, -1
        libc.mallopt(m_mmap_threshold, 8 << 20)
        libc.mallopt(m_trim_threshold, 16 << 20)
