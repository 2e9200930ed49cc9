"""Running an agent until it is told to end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import Callable
from typing import Any

from omtools.agent import log
from omtools.agent.agent import Agent
from omtools.agent.config import Configuration
from omtools.errors import OmError
from omtools.linux.libc import malloc_keeps

_NICE = -10
RENEW = -1  # instead of an exit status: the program is to be executed anew, in this very process


async def serve(
    configuration: Configuration, ready: Callable[[], None], check: Callable[[], object] | None = None
) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit status, or `RENEW` after SIGUSR1.

    Args:
        configuration: of this node.
        ready: called once it serves.
        check: raises OmError if an agent that reads the configuration now could not start; None: it could not
            be executed anew, so SIGUSR1 does nothing.

    Raises:
        OmError: it cannot serve.
    """
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_unexpected)
    malloc_keeps(mapped=8 << 20, free=16 << 20)  # a tunnel is three times as fast without fresh pages
    _hurry()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    # Without this a terminal that closes would end an agent in its background.
    loop.add_signal_handler(
        signal.SIGHUP, lambda: log.info("SIGHUP: files of keys are read anew at any time")
    )
    status = 0

    def renew() -> None:
        nonlocal status
        try:
            if check is not None:
                check()
                status = RENEW
                ended.set()
        except OmError as error:
            log.warn("SIGUSR1: the agent goes on with the configuration it has", why=error)

    loop.add_signal_handler(signal.SIGUSR1, renew)
    agent = Agent(configuration)
    await agent.start()
    try:
        ready()
        gc.freeze()  # what is here now stays: no collection needs to look at it again
        await ended.wait()
    finally:
        await agent.stop()
    return status


def _unexpected(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:  # noqa: ARG001
    error = context.get("exception")
    if isinstance(error, BaseException):
        log.failed(context.get("message", "?"), error)
    else:
        log.warn(str(context.get("message", "?")))


def _hurry() -> None:
    """Go first, with all keepers, where that is allowed: on an overloaded node they are what relieves it."""
    with contextlib.suppress(OSError):  # only root may
        os.setpriority(os.PRIO_PROCESS, 0, min(_NICE, os.getpriority(os.PRIO_PROCESS, 0)))
