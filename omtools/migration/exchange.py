"""A keeper's end of the link, with room for what comes before its turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from omtools.migration.frames import Kind
from omtools.migration.link import Link, LinkBroken


class Exchange:
    """Sends and receives frames; one may wait for a certain frame, the others then wait in a queue.

    Attributes:
        link: over which they go.
    """

    def __init__(self, link: Link, broken: Callable[[LinkBroken], None]) -> None:
        """`broken` is told when the link breaks in a method here that does not raise."""
        self.link = link
        self._broken = broken
        self._queue: deque[tuple[Kind, int, bytes]] = deque()

    def send(self, kind: Kind, body: bytes = b"", serial: int = 0) -> None:
        """Send a frame."""
        try:
            self.link.send(kind, body, serial)
        except LinkBroken as error:
            self._broken(error)

    @property
    def waiting(self) -> bool:
        """A frame can be had without waiting."""
        return bool(self._queue) or self.link.waiting

    def next(self) -> tuple[Kind, int, bytes | memoryview]:
        """The next frame; what waits in the queue first. Raises LinkBroken."""
        return self._queue.popleft() if self._queue else self.link.receive()

    def wait_for(self, wanted: Callable[[Kind, int], bool]) -> tuple[Kind, bytes] | None:
        """Receive until the wanted frame comes; None if the link broke."""
        for index, (kind, serial, body) in enumerate(self._queue):
            if wanted(kind, serial):
                del self._queue[index]
                return kind, body
        while True:
            try:
                kind, serial, view = self.link.receive()
            except LinkBroken as error:
                self._broken(error)
                return None
            if wanted(kind, serial):
                return kind, bytes(view)
            self._queue.append((kind, serial, bytes(view)))
