"""The Python API: everything that can be done with a cluster, typed.

    async with omtools.connect() as cluster:
        moved = await cluster.migrate(4711, "metrakilate")
        print(moved.frozen_ms)

`Cluster` is what `omtools.connect` gives, and what every command of this package acts by. It knows no
transport: under asyncio calls may be made side by side; the commands drive the very same methods over a
blocking socket (`omtools.agent.client.talk`), so that they start without asyncio.

Nodes are named by number, name or address; "" is the node whose agent answers. Every method raises
`omtools.errors.OmError` with one clear sentence, among them NoAgent and NodeDown where nobody answers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol, TypeVar

from omtools.agent import api

_R = TypeVar("_R")
NodeWord = str | int
OnEvent = Callable[[api.Event], None]
OnProgress = Callable[[api.Clearing], None]


class Transport(Protocol):
    """A way to one agent."""

    @property
    def hello(self) -> api.Hello | None:
        """How the agent introduced itself."""

    async def call(
        self,
        request: api.Request,
        result: type[_R],
        uid: int | None = None,
        on_event: OnEvent | None = None,
    ) -> _R:
        """Ask something; raises OmError."""

    def events(self, wanted: api.Subscribe) -> AsyncIterator[api.Event]:
        """Everything that happens from now on."""


class Cluster:
    """The cluster, as one agent knows it and moves it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def ask(
        self, request: api.Request, result: type[_R], on_event: OnEvent | None = None
    ) -> _R:
        """Ask what has no method of its own; see `omtools.agent.api` for all there is."""
        return await self._transport.call(request, result, None, on_event)

    @property
    def number(self) -> int:
        """The number of the node whose agent answers."""
        return self._transport.hello.node if self._transport.hello is not None else 0

    @property
    def name(self) -> str:
        """The name of that node."""
        return self._transport.hello.name if self._transport.hello is not None else ""

    # -- processes

    async def migrate(self, pid: int, to: NodeWord) -> api.Moved:
        """Move a running process; returns when it is there.

        Args:
            pid: of a process of that node, or the local pid of a guest there.
            to: a node; "home"; or "balance": where it now runs best, which may be where it is (StaysThere).
        """
        return await self.ask(api.Migrate(pid, str(to)), api.Moved)

    async def processes(
        self, *, all: bool = False, node: NodeWord = "", files: bool = False  # noqa: A002 - as the API says
    ) -> list[api.ProcessInfo]:
        """The processes of which one half is on that node and the other elsewhere.

        Args:
            all: everybody's, not only one's own.
            node: which.
            files: tell also which files they read and write.
        """
        return (await self.ask(api.Processes(all, str(node), files), api.ProcessList)).processes

    async def calls(self, pid: int) -> api.CallFigures:
        """How long the forwarded calls of a process that is away take, by call."""
        return await self.ask(api.Calls(pid), api.CallFigures)

    async def lock(self, pid: int, locked: bool = True) -> None:
        """Have the balancer leave a process and its descendants alone, or, with False, take them."""
        await self.ask(api.Lock(pid, locked), api.Done)

    async def settings(self, pid: int) -> api.ProcessSettings:
        """Lock, cluster mask, hint and decay that hold for a process."""
        return await self.ask(api.GetProcess(pid), api.ProcessSettings)

    async def set_process(
        self, pid: int, settings: api.ProcessSettings, *, clear: bool = False
    ) -> api.ProcessSettings:
        """Make settings of a process, which its descendants inherit; returns all that hold now.

        Args:
            pid: a local one, of a process or of a guest.
            settings: those that are None stay as they are.
            clear: forget what the process did so far.
        """
        return await self.ask(api.SetProcess(pid, settings, clear), api.ProcessSettings)

    # -- nodes

    async def node(self, node: NodeWord = "") -> api.NodeReport:
        """How a node does, asked of itself; also for one that is down: then `error` says why."""
        return await self.ask(api.NodeInfo(str(node)), api.NodeReport)

    async def whois(self, node: NodeWord = "") -> api.NodeName:
        """Number, name and addresses of a node."""
        return await self.ask(api.Whois(str(node)), api.NodeName)

    async def map(self) -> api.NodeList:
        """The whole map."""
        return await self.ask(api.Nodes(), api.NodeList)

    async def views(self) -> list[api.NodeView]:
        """How all nodes are, as far as it is known here, with ages; costs one question whatever the size."""
        return (await self.ask(api.Views(), api.NodeViews)).nodes

    async def switch(self, name: api.SwitchName, on: bool, *, node: NodeWord = "") -> None:
        """Set a switch of a node: block, stay, lstay, quiet, mfs, dfsa."""
        await self.ask(api.Switch(name, on, str(node)), api.Done)

    async def set_speed(self, speed: int, *, node: NodeWord = "") -> None:
        """Have a node tell others this speed instead of the measured one; 0: the measured one."""
        await self.ask(api.SetSpeed(speed, str(node)), api.Done)

    async def expel(self, *, node: NodeWord = "", progress: OnProgress | None = None) -> api.Cleared:
        """Send all guests of a node home and have it refuse new ones; returns when they are gone."""
        return await self.ask(api.Expel(str(node)), api.Cleared, _only_clearing(progress))

    async def bring(self, *, node: NodeWord = "", progress: OnProgress | None = None) -> api.Cleared:
        """Call all processes of a node home and keep them there; returns when they are."""
        return await self.ask(api.Bring(str(node)), api.Cleared, _only_clearing(progress))

    async def tuning(self, *, node: NodeWord = "") -> api.Tuned:
        """Costs, yardstick and limits of a node."""
        return await self.ask(api.Tune(str(node)), api.Tuned)

    async def tune(self, change: api.Tune) -> api.Tuned:
        """Change some of them; returns all."""
        return await self.ask(change, api.Tuned)

    async def decay(self, *, node: NodeWord = "") -> api.NodeDecay:
        """How fast a node forgets what its processes did."""
        return await self.ask(api.GetDecay(str(node)), api.NodeDecay)

    async def set_decay(self, decay: api.NodeDecay, *, node: NodeWord = "") -> None:
        """Have a node forget faster or more slowly."""
        await self.ask(api.SetDecay(decay, str(node)), api.Done)

    def events(self, *, node: NodeWord = "", all: bool = False) -> AsyncIterator[api.Event]:  # noqa: A002 - as the API says
        """Everything that happens from now on: moves, switches, decisions.

        Args:
            node: where; of another node than the one that answers it comes as `api.Elsewhere`, until
                `api.Followed` says that this node is lost.
            all: on all nodes that are up, now and later.
        """
        return self._transport.events(api.Subscribe(str(node), all))


def _only_clearing(progress: OnProgress | None) -> OnEvent | None:
    if progress is None:
        return None

    def on_event(event: api.Event) -> None:
        if isinstance(event, api.Clearing):
            progress(event)

    return on_event
