"""How long the forwarded calls of a process take: known where it runs, told there and at its home."""

from __future__ import annotations

import os

from omtools.agent import api
from omtools.agent.callers import Caller, user_name
from omtools.agent.config import Configuration
from omtools.agent.keepers import Keeper, Keepers
from omtools.agent.peers import Peers
from omtools.errors import AtHomeAlready, NoSuchProcess, NotAllowed, OmError
from omtools.i18n import _
from omtools.migration.orders import State

_PATIENCE = 3.0  # seconds for the node where it runs


class Watching:
    """Answers `api.Calls`."""

    def __init__(self, configuration: Configuration, keepers: Keepers, peers: Peers) -> None:
        """Of the processes that these keepers have."""
        self._map = configuration.map
        self._own = configuration.node.number
        self._keepers = keepers
        self._peers = peers

    async def handle(self, request: api.Calls | api.GuestCalls, caller: Caller) -> api.CallFigures:
        """What its calls took since it came to where it runs; nothing of one that is not away.

        Raises:
            AtHomeAlready, NoSuchProcess: it is no process that has moved; it is none.
            NotAllowed: it is another user's.
            OmError: the node where it runs does not answer.
        """
        if isinstance(request, api.GuestCalls):
            caller.check_node("guest_calls")
            return await self._of_guest(self._named(request.migration), caller)
        if (guest := self._keepers.guest_of(request.pid)) is not None:
            return await self._of_guest(guest, caller)
        keeper = self._keepers.deputy_of(request.pid)
        if keeper is None:
            raise _not_away(request.pid)
        state = keeper.state
        self._check(state, caller)
        if state.phase != "away":
            return api.CallFigures(state.node)
        asked = api.GuestCalls(state.migration)
        host = self._map.number(state.node)
        return await self._peers.call(host, asked, api.CallFigures, uid=caller.uid, patience=_PATIENCE)

    def _named(self, migration: str) -> Keeper:
        for keeper in self._keepers.all():
            if keeper.state.role == "guest" and keeper.state.migration == migration:
                return keeper
        raise NoSuchProcess(pid=migration)

    async def _of_guest(self, keeper: Keeper, caller: Caller) -> api.CallFigures:
        self._check(keeper.state, caller)
        return api.CallFigures(self._own, await keeper.calls())

    def _check(self, state: State, caller: Caller) -> None:
        """What a program asks of its kernel is its owner's business, and root's."""
        if caller.uid not in (0, state.uid):
            why = _("it belongs to {owner}").format(owner=user_name(state.uid))
            raise NotAllowed(user=user_name(caller.uid), what=f"calls {state.pid}", why=why)


def _not_away(pid: int) -> OmError:
    return AtHomeAlready(pid=pid) if os.path.exists(f"/proc/{pid}") else NoSuchProcess(pid=pid)
