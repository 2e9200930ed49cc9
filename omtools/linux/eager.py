"""Waiting awake for what comes soon.

To wake a thread on a sleeping processor costs 20 to 50 microseconds, in a virtual machine more; a question
over the network to an unloaded node is answered in about that. So a thread whose waits are short of late
first looks for a moment whether there is something already, again and again. Where that does not pay (a busy
or a distant node, nothing to do) it sleeps at once, and begins anew when waits become short. What it costs is
at most the moment for each wait that is longer, and only until it has noticed. Where several threads of a
process have something to do, none waits awake: they would only take the interpreter's lock from each other.
(Compare adaptive mutexes, and halt_poll_ns of Documentation/virt/kvm/halt-polling.rst.)
"""

from __future__ import annotations

import os
import select
import time

_MOMENT_NS = 150_000
_SURE = 8
_TOO_LONG = 3  # so many short waits are outweighed by one that is longer


class Eager:
    """One thread's waits of one kind."""

    __slots__ = ("_score",)
    _ended = 0  # waits of all threads

    def __init__(self) -> None:
        self._score = 0

    def poll(self, poll: select.poll, seconds: float | None) -> list[tuple[int, int]]:
        """What poll.poll would return; seconds: at most so long, None: for ever."""
        began = time.perf_counter_ns()
        ready = self._look(poll, began + _MOMENT_NS) if self._score > 0 else []
        if not ready:
            ready = poll.poll(None if seconds is None else seconds * 1000)
            if self._score <= 0:
                short = time.perf_counter_ns() - began < _MOMENT_NS
                self._score = self._score + 1 if short else max(self._score - 1, -_TOO_LONG)
        Eager._ended += 1
        return ready

    def _look(self, poll: select.poll, end: int) -> list[tuple[int, int]]:
        """Wait awake."""
        others = Eager._ended
        while time.perf_counter_ns() < end:
            if ready := poll.poll(0):
                if self._score < _SURE:
                    self._score += 1
                return ready
            if Eager._ended != others:  # another thread has something to do
                break
            os.sched_yield()  # who is to answer may have been put behind us
        self._score -= _TOO_LONG
        return []
