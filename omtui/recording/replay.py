"""The cluster as it was at a moment of a recording: the same state that the screens show of the present.

What was recorded is heard again, by the same `State` that hears it live: so curves of the last minute, calls
per second and moves are what they were.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from omtools.agent import api
from omtools.i18n import _
from omtui.model import State
from omtui.recording.picture import Picture, apply
from omtui.recording.reader import Frame, Happened, Recording

_WINDOW_MS = 60_000  # before the moment: what curves show
_EVENTS = 500  # before that: for the list of what happened
_NEAR_MS = 120_000  # forward: gone through picture by picture; further: jumped


class Replay:
    """A recording at one moment.

    Attributes:
        recording: from where.
        state: the cluster as it was then; another object after every jump.
        at: the moment, milliseconds since the epoch.
    """

    def __init__(self, recording: Recording, node: int = 0) -> None:
        """Nothing is shown yet.

        Args:
            recording: from where.
            node: from which node's place the processes are seen; 0: from that of who recorded.
        """
        self.recording = recording
        self.state = State()
        self.at = 0
        self._node = node
        self._picture = Picture()
        self._seen = 0

    def go(self, at: int) -> None:
        """Show another moment. Raises OmError."""
        if self._seen and self.at <= at <= self.at + _NEAR_MS:
            self._hear(self.recording.frames_after(self._seen, at), self._events(self.at, at))
        else:
            self._jump(at)
        self.at = at
        self.state.when = at / 1000
        gap = self.recording.gap_at(at)
        self.state.trouble = _("Nothing was recorded then: {why}.").format(why=gap.why) if gap else ""

    def _jump(self, at: int) -> None:
        self.state = State()
        self._picture, self._seen = Picture(), 0
        begin = at - _WINDOW_MS
        for happened in self._events(0, begin):
            self._hear_event(happened)
        self._hear(self.recording.frames(begin, at), self._events(begin, at))

    def _events(self, since: int, until: int) -> list[Happened]:
        return self.recording.events(since, until, _EVENTS)

    def _hear_event(self, happened: Happened) -> None:
        own = happened.node == (self._node or self._own)
        self.state.hear_event(happened.event, happened.at / 1000, 0 if own else happened.node)

    @property
    def _own(self) -> int:
        word = self.recording.about().get("own", "")
        return int(word) if word.isdigit() else 0

    def _hear(self, frames: Iterable[Frame], events: Iterable[Happened]) -> None:
        """All of it in the order in which it was."""
        both: Iterator[Frame | Happened] = heapq.merge(frames, events, key=lambda one: one.at)
        for one in both:
            if isinstance(one, Happened):
                self._hear_event(one)
            else:
                self._hear_frame(one)
        self.state.settle()

    def _hear_frame(self, frame: Frame) -> None:
        if frame.whole:
            self._picture = Picture()
        picture = self._picture
        apply(picture, frame.change)
        own = self._node or picture.own
        self._seen = frame.at
        self.state.hear_views(api.NodeViews(own, list(picture.nodes.values())))
        if own in frame.change.asked or not self.state.processes:
            infos = list(picture.processes.get(own, {}).values())
            local = list(picture.local.values()) if own == picture.own else []
            self.state.hear_processes(api.ProcessList(own, infos), local, frame.at / 1000)
