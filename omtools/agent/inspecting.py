"""Where one process is, how often it has moved, and whether it could move now."""

from __future__ import annotations

import asyncio
import os

from omtools.agent import api
from omtools.agent.engine import Engine
from omtools.agent.keepers import Keepers
from omtools.agent.memo import Memo
from omtools.errors import CannotMigrate, NoSuchProcess, OmError
from omtools.image.survey import mapping_obstacle


async def inspect(
    request: api.Inspect, node: int, keepers: Keepers, memo: Memo, engine: Engine
) -> api.Inspected:
    """Look at a process of this node, or at a guest.

    Args:
        request: which, and how closely.
        node: number of this node.
        keepers: this node's.
        memo: what is remembered of earlier journeys.
        engine: looks whether it can move; not asked for one that is away: that one has moved.

    Raises:
        NoSuchProcess: there is none.
    """
    pid = request.pid
    if (guest := keepers.guest_of(pid)) is not None:
        state = guest.state
        return api.Inspected(pid, state.uid, state.home, state.node, state.statistics.moves)
    # Also of keepers that are through and not gone yet.
    journeys = [k.state for k in keepers.all() if k.state.role == "deputy" and k.state.local_pid == pid]
    moves = memo.moves(pid) + sum(state.statistics.moves for state in journeys)
    if (keeper := keepers.deputy_of(pid)) is not None:
        state = keeper.state
        return api.Inspected(pid, state.uid, state.home, state.node, moves)
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        raise NoSuchProcess(pid=pid) from None
    cannot = await asyncio.to_thread(_obstacle, pid, engine) if request.survey else ""
    return api.Inspected(pid, owner, node, node, moves, cannot)


def _obstacle(pid: int, engine: Engine) -> str:
    try:
        engine.survey(pid)
    except NoSuchProcess:
        raise
    except CannotMigrate as error:
        return str(error.fields["reason"])
    except OmError as error:
        return str(error)
    return mapping_obstacle(pid)
