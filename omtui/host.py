"""What all full-screen programs here share: they follow a feed, end cleanly, and take the user's own keys."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.worker import WorkType

from omtools.errors import NoTerminal
from omtui.feed import Feed

_ENDING = (signal.SIGTERM, signal.SIGHUP)


class Host(App[int]):
    """An application that shows what a feed tells."""

    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c,ctrl+q", "leave", show=False, priority=True, id="app.leave"),
    ]

    def __init__(self, feed: Feed, keys: Mapping[str, str] | None = None) -> None:
        """Nothing happens yet.

        Args:
            feed: what to show.
            keys: the user's own, by the names of bindings.
        """
        super().__init__()
        self.feed = feed
        self._following: asyncio.Task[None] | None = None
        if keys:
            self.set_keymap(dict(keys))

    async def on_mount(self) -> None:
        """Follow the feed from now on."""
        self.feed.listen(self.hear)
        self._following = asyncio.create_task(self.feed.run())
        self._following.add_done_callback(self._ended)
        if not self.is_headless:
            for number in _ENDING:
                asyncio.get_running_loop().add_signal_handler(number, self.exit, 128 + number)

    async def on_unmount(self) -> None:
        """Hang up."""
        self.feed.forget(self.hear)
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following

    def work(
        self, begin: Callable[[], Coroutine[None, None, None]], group: str, *, alone: bool = False
    ) -> None:
        """Do something while the screen goes on.

        Args:
            begin: begins it; nothing is begun that is cancelled at once.
            group: what it belongs to.
            alone: whatever of its group is going on is cancelled.
        """
        work: WorkType[None] = begin
        self.run_worker(work, group=group, exclusive=alone, exit_on_error=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A feed runs until it is cancelled; anything else must not look like a quiet cluster."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.call_later(_raise, error)

    def hear(self) -> None:
        """The state has changed."""

    def action_leave(self) -> None:
        """End."""
        self.exit(0)


def _raise(error: BaseException) -> None:
    raise error


def need_terminal(program: str) -> None:
    """Raise NoTerminal if there is nothing to draw on."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise NoTerminal(program=program)
