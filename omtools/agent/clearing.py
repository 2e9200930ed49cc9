"""Expel and bring: all guests away from here, all own processes home."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from omtools.agent import api, log
from omtools.agent.callers import Caller
from omtools.agent.keepers import Keeper
from omtools.errors import AtHomeAlready, NoSuchProcess, OmError, ProcessEnded

_AT_ONCE = 4  # moves: more would only share the same link
_GONE = (AtHomeAlready, NoSuchProcess, ProcessEnded)  # what was wanted is so
Migrate = Callable[[int, str, Caller], Awaitable[api.Moved]]


Tell = Callable[[api.Clearing], None]


async def send_home(
    keepers: Iterable[Keeper], role: str, caller: Caller, migrate: Migrate, tell: Tell
) -> api.Cleared:
    """Send home every process that this node hosts, or has away.

    Args:
        keepers: all of this node's.
        role: "guest" for those of other nodes here, "deputy" for own ones elsewhere.
        caller: who wants it.
        migrate: moves one process, given its local pid.
        tell: called before the first and after each.
    """
    turn = asyncio.Semaphore(_AT_ONCE)
    wanted = [keeper for keeper in keepers if keeper.state.role == role and not keeper.final]

    done = 0
    tell(api.Clearing(0, len(wanted)))

    async def send(keeper: Keeper) -> dict[str, str | int] | None:
        nonlocal done
        failure = await move(keeper)
        done += 1
        tell(api.Clearing(done, len(wanted), keeper.state.local_pid))
        return failure

    async def move(keeper: Keeper) -> dict[str, str | int] | None:
        async with turn:
            try:
                await migrate(keeper.state.local_pid or keeper.state.pid, "home", caller)
            except _GONE:
                return None
            except OmError as error:
                state = keeper.state
                log.warn("a process did not go home", pid=state.pid, mig=state.migration, why=error)
                return error.to_wire()
        return None

    failures = [failure for failure in await asyncio.gather(*map(send, wanted)) if failure is not None]
    return api.Cleared(len(wanted) - len(failures), failures)
