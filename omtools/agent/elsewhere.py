"""Requests that are for another node: asked of this node's agent, done by that one's.

The agent there is asked for the same user. It obeys root, and the user it serves, as if they asked it there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from omtools.agent import api
from omtools.agent.callers import Caller
from omtools.agent.peers import Peers
from omtools.cluster.map import Node

_QUICK = 15.0  # seconds for an answer that needs no move
_CLEARING = 3600.0  # for all moves of an expel or a bring; each is followed there, stage by stage
_Elsewhere = (
    api.Processes | api.Switch | api.SetSpeed | api.SetDecay | api.GetDecay | api.Tune | api.Expel | api.Bring
)
_RESULTS: dict[type[Any], type[Any]] = {
    api.Processes: api.ProcessList,
    api.Switch: api.Done,
    api.SetSpeed: api.Done,
    api.SetDecay: api.Done,
    api.GetDecay: api.NodeDecay,
    api.Tune: api.Tuned,
    api.Expel: api.Cleared,
    api.Bring: api.Cleared,
}


def elsewhere(request: api.Request) -> str:
    """The node that a request names as the one that is to do it, "" if it names none."""
    return request.node if isinstance(request, _Elsewhere) else ""


async def ask_elsewhere(
    peers: Peers, node: Node, request: api.Request, caller: Caller, notify: Callable[[api.Event], None]
) -> api.Result:
    """Have that node do it.

    Raises:
        NotAllowed: it is a peer that asks; nobody asks round corners.
        OmError: what the node raises, or that it does not answer.
    """
    caller.check_user(type(request).__name__)
    patience = _CLEARING if isinstance(request, api.Expel | api.Bring) else _QUICK
    result: api.Result = await peers.call(
        node,
        msgspec.structs.replace(request, node=""),
        _RESULTS[type(request)],
        uid=caller.uid,
        patience=patience,
        on_event=notify,
    )
    return result
