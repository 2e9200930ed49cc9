"""The present and the past as one feed: what the screens show is one or the other."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Generic, TypeVar

from omtools.agent import api
from omtools.errors import InThePast, NoRecording, OmError, UnknownNode
from omtools.i18n import _
from omtui.actions import Action
from omtui.feed import Feed, Progress
from omtui.model import State
from omtui.moments import SPANS_MS, parse_moment, window_around, zoomed
from omtui.recording.keeping import width_for
from omtui.recording.reader import Checkpoint, Recording, Sums
from omtui.recording.replay import Replay

_R = TypeVar("_R")
SPEEDS = (1, 10, 60, 600)  # of playing: seconds of the past per second
_TICK = 0.25  # seconds between two pictures while playing
_RECENT = 5.0  # seconds for which what was read for a plot is good, while somebody records


class _Remembered(Generic[_R]):
    """What was read last: good for as long as the same is wanted, and for a while where it grows."""

    def __init__(self) -> None:
        self._known: tuple[object, float, _R] | None = None

    def get(self, key: object, grows: bool, read: Callable[[], _R]) -> _R:
        known, now = self._known, time.monotonic()
        if known is None or known[0] != key or (grows and now - known[1] > _RECENT):
            known = self._known = (key, now, read())
        return known[2]


class History:
    """A feed that also goes back in time, in a recording.

    Attributes:
        past: the moment that is shown, None in the present.
        playing: the past goes on by itself.
        speed: how many seconds of the past a second takes then.
        span: milliseconds that timeline and plots show.
    """

    def __init__(self, live: Feed | None, path: Path, node: int = 0) -> None:
        """The present, if there is one; else the end of the recording.

        Args:
            live: the feed of a running cluster; None: there is only the recording.
            path: of the recording; it is opened when somebody looks back.
            node: from which node's place the past is seen; 0: from that of who recorded.
        """
        self.live = live
        self.path = path
        self.past: Replay | None = None
        self.playing = False
        self.speed = SPEEDS[0]
        self.span = 0
        self._node = node
        self._empty = State()
        self._listeners: list[Callable[[], None]] = []
        self._play = asyncio.Event()
        self._window = (0, 0)
        self._recording: Recording | None = None
        self._sums: _Remembered[list[Sums]] = _Remembered()
        self._loads: _Remembered[list[tuple[int, float]]] = _Remembered()
        if live is not None:
            live.listen(self._heard)

    # ------------------------------------------------------------------------------ what a feed is

    @property
    def state(self) -> State:
        """What the screens show."""
        if self.past is not None:
            return self.past.state
        return self.live.state if self.live is not None else self._empty

    @property
    def want_processes(self) -> bool:
        """Of the present."""
        return self.live is not None and self.live.want_processes

    @want_processes.setter
    def want_processes(self, wanted: bool) -> None:
        if self.live is not None:
            self.live.want_processes = wanted

    @property
    def want_report(self) -> str | None:
        """Of the present."""
        return self.live.want_report if self.live is not None else None

    @want_report.setter
    def want_report(self, word: str | None) -> None:
        if self.live is not None:
            self.live.want_report = word

    @property
    def want_calls(self) -> int:
        """Of the present."""
        return self.live.want_calls if self.live is not None else 0

    @want_calls.setter
    def want_calls(self, pid: int) -> None:
        if self.live is not None:
            self.live.want_calls = pid

    @property
    def asked(self) -> int:
        """How many pictures of the present were tried so far."""
        return int(getattr(self.live, "asked", 0))

    def listen(self, changed: Callable[[], None]) -> None:
        """Be told whenever the state has changed."""
        self._listeners.append(changed)

    def forget(self, changed: Callable[[], None]) -> None:
        """Not any more."""
        self._listeners.remove(changed)

    def nudge(self) -> None:
        """Take the next picture of the present now."""
        if self.live is not None:
            self.live.nudge()

    async def run(self) -> None:
        """Until cancelled: the present goes on, also while the past is shown."""
        player = asyncio.create_task(self._go_on())
        try:
            if self.live is not None:
                await self.live.run()
            else:
                await player
        finally:
            player.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await player
            self.close()

    async def report_of(self, word: str) -> api.NodeReport:
        """How a node does, or did. Raises OmError."""
        if self.past is None and self.live is not None:
            return await self.live.report_of(word)
        state = self.state
        for node in state.nodes.values():
            view = node.view
            if word in (str(view.number), view.name, view.address) or (not word and view.number == state.own):
                known = {name: getattr(view, name) for name in view.__struct_fields__}
                fields = [name for name in api.NodeReport.__struct_fields__ if name in known]
                return api.NodeReport(**{name: known[name] for name in fields})
        raise UnknownNode(node=word)

    async def cantmove(self, pid: int) -> str:
        """Why a process could not migrate now. Raises OmError; of the past nobody can tell."""
        if self.past is None and self.live is not None:
            return await self.live.cantmove(pid)
        raise InThePast(command=f"migrate {pid}")

    async def do(self, action: Action, progress: Progress | None = None) -> str:
        """Do something. Raises OmError, in the past always."""
        if self.past is None and self.live is not None:
            return await self.live.do(action, progress)
        raise InThePast(command=action.command)

    def _heard(self) -> None:
        if self.past is None:
            self._tell()

    def _tell(self) -> None:
        for changed in list(self._listeners):
            changed()

    # ------------------------------------------------------------------------------------- moving

    @property
    def moment(self) -> int:
        """What is shown, in milliseconds since the epoch."""
        return self.past.at if self.past is not None else round(time.time() * 1000)

    @property
    def recording(self) -> Recording:
        """What there is of the past. Raises OmError."""
        if self._recording is None:
            self._recording = Recording(self.path)
        return self._recording

    def open(self) -> None:
        """Where there is only a recording: show its end. Raises OmError."""
        self.go(self._bounds()[1])

    def close(self) -> None:
        """Have done with the recording."""
        self.past = None
        if self._recording is not None:
            self._recording.close()
            self._recording = None

    def _bounds(self) -> tuple[int, int]:
        span = self.recording.span()
        if span is None:
            raise NoRecording(path=str(self.path))
        return span

    def go(self, at: int) -> None:
        """Show a moment, as near to it as there is something. Raises OmError."""
        first, last = self._bounds()
        past = self.past or Replay(self.recording, self._node)
        self.span = self.span or next((one for one in SPANS_MS[:2] if one > last - first), SPANS_MS[1])
        past.go(min(max(at, first), last))
        self.past = past
        self._tell()

    def go_to(self, text: str) -> None:
        """Show a moment that was typed. Raises OmError."""
        now = round(time.time() * 1000) if self.live is not None else self._bounds()[1]
        self.go(parse_moment(text, self.moment, now, self.recording.checkpoints()))

    def step(self, steps: int) -> None:
        """To the picture before, or the next one. Raises OmError."""
        self.stop()
        if self.past is None:
            self.go(self._bounds()[1])
            return
        look = self.recording.before if steps < 0 else self.recording.after
        at = self.past.at
        for _step in range(abs(steps)):
            at = look(at) or at
        self.go(at)

    def scrub(self, at: int) -> None:
        """Show a moment, and stand still there. Raises OmError."""
        self.stop()
        self.go(at)

    def skip(self, steps: int, cells: int) -> None:
        """By cells of a timeline of that many. Raises OmError."""
        self.stop()
        self.go(self.moment + steps * max(1000, self.span // max(1, cells)))

    def skip_to_mark(self, steps: int) -> None:
        """To the checkpoint before, or the next one. Raises OmError."""
        at = self.moment
        marks = [mark.at for mark in self.recording.checkpoints()]
        back = [one for one in reversed(marks) if one < at]
        found = back if steps < 0 else [one for one in marks if one > at]
        if found:
            self.scrub(found[0])

    def zoom(self, steps: int) -> None:
        """Show more of the time, or less."""
        self.span = zoomed(self.span or SPANS_MS[1], steps)
        self._tell()

    def now(self) -> None:
        """Back to the present; where there is none, to the end of the recording. Raises OmError."""
        self.stop()
        if self.live is None:
            self.open()
            return
        self.past = None
        self.live.nudge()
        self._tell()

    # ------------------------------------------------------------------------------------ playing

    def stop(self) -> None:
        """The past stands still."""
        self.playing = False
        self._play.clear()

    def play(self) -> None:
        """The past goes on by itself, or not any more."""
        if self.playing:
            self.stop()
        elif self.past is not None:
            self.playing = True
            self._play.set()
        self._tell()

    def hurry(self) -> None:
        """Play faster; after the fastest comes the slowest."""
        self.speed = SPEEDS[(SPEEDS.index(self.speed) + 1) % len(SPEEDS)]
        self._tell()

    async def _go_on(self) -> None:
        while True:
            await self._play.wait()
            before = time.monotonic()
            await asyncio.sleep(_TICK)
            if self.past is None or not self.playing:
                continue
            at = self.past.at + round(1000 * self.speed * (time.monotonic() - before))
            try:
                if at >= self._bounds()[1]:
                    self.stop()
                self.go(at)
            except OmError as error:  # the file went away under us, or is damaged there
                self.stop()
                self.past.state.trouble = str(error)
                self._tell()

    # ------------------------------------------------------------------------------------ plotting

    def window(self) -> tuple[int, int]:
        """From when to when timeline and plots show: the same while the moment is in it. Raises OmError."""
        first, last = self._bounds()
        at = min(self.moment, last)
        self.span = self.span or SPANS_MS[1]
        since, until = self._window
        if until - since != self.span or not since <= at <= until:
            self._window = window_around(at, self.span, first, last)
        return self._window

    def sums(self, cells: int, nodes: Collection[int]) -> list[Sums]:
        """The figures of some nodes in the window, for so many cells. Raises OmError."""
        since, until = self.window()
        width, cell = width_for(until - since, cells), (until - since) // max(1, cells)
        key = (since // width, cell, tuple(nodes))
        return self._sums.get(
            key, self._grows(until), lambda: self.recording.sums(since, until, width, cell, nodes)
        )

    def loads(self, cells: int) -> list[tuple[int, float]]:
        """The mean load of the cluster in the window, with its times. Raises OmError."""
        since, until = self.window()
        width = width_for(until - since, cells)
        key = (since // width, width)
        return self._loads.get(
            key, self._grows(until), lambda: self.recording.mean_loads(since, until, width)
        )

    def _grows(self, until: int) -> bool:
        """Whether there may be more up to then than a moment ago."""
        return until >= self._bounds()[1]

    def marks(self) -> list[Checkpoint]:
        """The checkpoints. Raises OmError."""
        return self.recording.checkpoints()

    def about(self) -> str:
        """One word on how it is shown: standing still, or at what speed it goes."""
        return _("plays {n} s a second").format(n=self.speed) if self.playing else _("standing still")
