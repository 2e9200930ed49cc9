"""The keepers of this node's processes, as the agent knows them.

Keepers outlive the agent: each listens on a socket of its own in ``<run>/keepers``. The agent connects to
every socket it finds there when it starts, and to each keeper it has launched; from then on it only listens.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType

import msgspec

from omtools.agent import log
from omtools.errors import KeeperLost, LinkLost
from omtools.i18n import _
from omtools.migration.orders import (
    Allow,
    Ask,
    CallTimes,
    Command,
    DeputyOrder,
    GuestOrder,
    State,
    Statistics,
)
from omtools.migration.reach import Access

FINAL = frozenset({"home", "ended", "failed"})

_LINE_LIMIT = 1 << 20
_LISTENS_WITHIN = 2.0  # seconds for a keeper just launched
_FRESH_WITHIN = 0.5  # seconds for a keeper to repeat its state; one that copies pages answers later
_FIRST_WORD = 2.0  # seconds that a starting agent waits for the keepers it found to speak
# What `Keepers.path` makes: role, migration (home, pid, random), leg.
_NAME = re.compile(r"(deputy|guest)-((\d{1,5})-(\d{1,7})-[0-9a-f]{12})(\.\d+)?\.sock")
_decoder = msgspec.json.Decoder(State)

OnState = Callable[["Keeper", State], None]
OnGone = Callable[["Keeper"], None]


class Keeper:
    """One keeper: its last word, and a way to talk to it.

    Attributes:
        path: its control socket.
        state: what it said last.
        spoken: set once it has said anything; until then `state` is an assumption.
        gone: it has closed its end: it is no more.
        away_since: when it was first heard that the process runs away from home, of the monotonic clock.
    """

    def __init__(
        self, path: Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: State
    ) -> None:
        self.path = path
        self.state = state
        self.spoken = asyncio.Event()
        self.gone = False
        self.away_since = 0.0
        self._reader = reader
        self._writer = writer
        self._followers: list[asyncio.Queue[State | None]] = []

    @property
    def final(self) -> bool:
        """Whether there is nothing more to expect of it."""
        return self.gone or self.state.phase in FINAL

    def tell(self, command: Command) -> None:
        """Send a command.

        Raises:
            LinkLost: the keeper is gone.
        """
        if self.gone and self.state.node != self.state.home:
            raise KeeperLost(pid=self.state.pid)
        if self.gone:
            raise LinkLost(node=self.state.node, why=_("the keeper of the process has ended"))
        self._writer.write(msgspec.json.encode(command) + b"\n")

    async def refresh(self) -> None:
        """Have its figures fresh, if it answers at once."""
        with contextlib.suppress(LinkLost, TimeoutError), self.follow() as states:
            self.tell(Ask())
            await states.next(_FRESH_WITHIN)

    async def calls(self) -> list[CallTimes]:
        """How long a guest's forwarded calls took; nothing of one that does not answer at once."""
        with contextlib.suppress(LinkLost, TimeoutError), self.follow() as states:
            self.tell(Ask(calls=True))
            async with asyncio.timeout(_FRESH_WITHIN):
                while (state := await states.next(_FRESH_WITHIN)) is not None:
                    if state.calls is not None:
                        return state.calls
        return []

    def follow(self) -> Followed:
        """Its states from now on, none left out."""
        queue: asyncio.Queue[State | None] = asyncio.Queue()
        if self.gone:
            queue.put_nowait(None)
        self._followers.append(queue)
        return Followed(self, queue)

    async def listen(self, on_state: OnState) -> None:
        """Read what it says until it ends."""
        try:
            while line := await self._reader.readline():
                try:
                    self.state = _decoder.decode(line)
                except msgspec.MsgspecError as error:
                    log.warn("a keeper said what cannot be read", socket=self.path.name, why=error)
                    continue
                self.spoken.set()
                if self.state.phase == "away" and not self.away_since:
                    self.away_since = time.monotonic()
                for queue in self._followers:
                    queue.put_nowait(self.state)
                on_state(self, self.state)
        except (OSError, ValueError) as error:  # ValueError: a line beyond the limit
            log.warn("a keeper's connection broke", socket=self.path.name, why=error)
        finally:
            self.gone = True
            self.spoken.set()  # nobody needs to wait any longer
            self._writer.close()
            for queue in self._followers:
                queue.put_nowait(None)

    def unfollow(self, queue: asyncio.Queue[State | None]) -> None:
        """Stop following."""
        self._followers.remove(queue)


class Followed:
    """An async iterator over a keeper's states; ends when the keeper does. Use it with ``with``."""

    def __init__(self, keeper: Keeper, queue: asyncio.Queue[State | None]) -> None:
        self._keeper = keeper
        self._queue = queue

    def __enter__(self) -> Followed:
        """Nothing to do: following began with `Keeper.follow`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop following."""
        self._keeper.unfollow(self._queue)

    async def next(self, patience: float) -> State | None:
        """The next state, None if the keeper is gone.

        Raises:
            TimeoutError: nothing came for so many seconds.
        """
        async with asyncio.timeout(patience):
            return await self._queue.get()


class Keepers:
    """All keepers of a run directory."""

    def __init__(self, run: Path, on_state: OnState, on_gone: OnGone) -> None:
        self.directory = run / "keepers"
        self._on_state = on_state
        self._on_gone = on_gone
        self._keepers: dict[Path, Keeper] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def all(self) -> list[Keeper]:
        """Those that live."""
        return [keeper for keeper in self._keepers.values() if not keeper.gone]

    def passing(self) -> frozenset[int]:
        """Pids of keepers that only carry a process from one place to another: over in a moment."""
        return frozenset(keeper.state.keeper for keeper in self.all() if keeper.state.phase != "away")

    def deputy_of(self, pid: int) -> Keeper | None:
        """The keeper of a process whose home is here, unless it is through with it."""
        return self._find("deputy", pid)

    def guest_of(self, pid: int) -> Keeper | None:
        """The keeper of a guest, by the guest's pid on this node."""
        return self._find("guest", pid)

    def _find(self, role: str, pid: int) -> Keeper | None:
        for keeper in self._keepers.values():
            if keeper.state.role == role and keeper.state.local_pid == pid and not keeper.final:
                return keeper
        return None

    def path(self, role: str, migration: str, leg: int = 0) -> Path:
        """Where the keeper of that role and migration listens.

        A hop gives a guest's keeper the name of the migration that began at home; where a process comes
        back to a node that it left a moment ago, `leg` keeps the new keeper's socket from the old one's.
        """
        return self.directory / (f"{role}-{migration}.{leg}.sock" if leg else f"{role}-{migration}.sock")

    async def rescan(self) -> None:
        """Connect to every keeper there is; remove the sockets of those that were killed.

        A keeper that is busy may answer late: it is known by its socket's name until it speaks.
        """
        found = [await self._readopt(path) for path in sorted(self.directory.glob("*.sock"))]
        keepers = [keeper for keeper in found if keeper is not None]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_WORD):
                await asyncio.gather(*(keeper.spoken.wait() for keeper in keepers))
        for keeper in keepers:
            about = {"role": keeper.state.role, "pid": keeper.state.pid, "mig": keeper.state.migration}
            if keeper.spoken.is_set():
                log.info("found a keeper again", phase=keeper.state.phase, **about)
            else:
                log.warn("a keeper has not said anything yet", **about)

    async def _readopt(self, path: Path) -> Keeper | None:
        assumed = _assumed(path.name)
        if assumed is None:
            log.warn("that is no keeper's socket", socket=path.name)
            return None
        try:
            return await self._connect(path, assumed)
        except ConnectionRefusedError:
            os.unlink(path)
            log.info("removed the socket of a keeper that was killed", socket=path.name)
        except OSError as error:
            log.warn("a keeper cannot be reached", socket=path.name, why=error)
        return None

    async def adopt(self, order: DeputyOrder | GuestOrder, node: str) -> Keeper:
        """Connect to the keeper of that order, just launched on `node`, this one.

        Raises:
            LinkLost: it is not there.
        """
        deputy = isinstance(order, DeputyOrder)
        assumed = State(
            role="deputy" if deputy else "guest",
            migration=order.migration,
            pid=order.pid,
            local_pid=order.pid if deputy else 0,
            uid=order.uid,
            home=order.home,
            node=order.home,
            phase="linking",
            statistics=Statistics(),
        )
        deadline = asyncio.get_running_loop().time() + _LISTENS_WITHIN
        while True:
            try:
                return await self._connect(Path(order.control), assumed)
            except OSError as error:
                if asyncio.get_running_loop().time() > deadline:
                    raise LinkLost(
                        node=node,
                        why=_("the keeper of the process cannot be reached ({error})").format(
                            error=error.strerror
                        ),
                    ) from None
                await asyncio.sleep(0.01)  # the template answered before the keeper listened: a matter of ms

    async def _connect(self, path: Path, assumed: State) -> Keeper:
        if path in self._keepers:
            return self._keepers[path]
        reader, writer = await asyncio.open_unix_connection(path, limit=_LINE_LIMIT)
        keeper = Keeper(path, reader, writer, assumed)
        self._keepers[path] = keeper
        task = asyncio.get_running_loop().create_task(self._listen(keeper))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return keeper

    async def _listen(self, keeper: Keeper) -> None:
        # Not in a finally: where this task is cancelled the agent ends, and the keeper lives on.
        await keeper.listen(self._on_state)
        self._keepers.pop(keeper.path, None)
        self._on_gone(keeper)

    async def close(self) -> None:
        """Let go of all keepers; they live on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def allow(keepers: Iterable[Keeper], access: Access) -> None:
    """Tell keepers how the node's switches stand."""
    for keeper in keepers:
        if not keeper.final:
            with contextlib.suppress(LinkLost):
                keeper.tell(Allow(access))


def _assumed(name: str) -> State | None:
    """What a socket's name tells of its keeper; None if it is no keeper's."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    home, pid = int(found[3]), int(found[4])
    deputy = found[1] == "deputy"
    # The uid is nobody's: until it is known only root may ask for it.
    return State(
        role="deputy" if deputy else "guest",
        migration=found[2],
        pid=pid,
        local_pid=pid if deputy else 0,
        uid=-1,
        home=home,
        node=home,
        phase="linking",
        statistics=Statistics(),
    )
