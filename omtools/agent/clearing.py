"""Expel and bring: all guests away from here, all own processes home."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from omtools.agent import api, log
from omtools.agent.callers import Caller
from omtools.agent.keepers import FINAL, Keeper
from omtools.errors import AtHomeAlready, NoSuchProcess, OmError, ProcessEnded
from omtools.migration.orders import Bring

_LAST_CALL = 30.0  # seconds that processes get to come home whose link ends with the agent
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


async def bring_tunnelled(keepers: Iterable[Keeper]) -> None:
    """Call home those whose link runs through an agent that ends, and wait for them a while."""
    waiting = []
    for keeper in keepers:
        followed = keeper.follow()
        try:
            keeper.tell(Bring(reason="the agent ends, and with it the link"))
        except OmError:
            continue
        log.info(
            "a process comes home, because its link ends with the agent",
            pid=keeper.state.pid,
            mig=keeper.state.migration,
        )
        waiting.append(followed)
    deadline = asyncio.get_running_loop().time() + _LAST_CALL
    for followed in waiting:
        try:
            while (
                state := await followed.next(deadline - asyncio.get_running_loop().time())
            ) is not None and state.phase not in FINAL:
                pass
        except TimeoutError:
            log.warn("a process did not come home in time")
