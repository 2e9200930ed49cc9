"""What a server is told without being asked anything, and in no hurry: it goes in front of the next question.

A message of its own would cost both sides a wake-up and an encrypted record, more than what it is about.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from omtools.omfs.wire import HEADER, REQUESTS, UNANSWERED, Kind

_SOON = 0.01  # if no question comes
_REST = 100  # so many times in vain, and the thread that looks after it ends
_MANY = 512


def frame(kind: Kind, body: bytes) -> bytes:
    """A frame that has no answer."""
    return HEADER.pack(len(body), kind, UNANSWERED) + body


class Telling:
    """Nodes to be forgotten and files to be released, of one session at a time.

    Args:
        deliver: sends what there is by a message of its own (`take` is called in it); it must not raise.
    """

    def __init__(self, deliver: Callable[[], None]) -> None:
        self._deliver = deliver
        self._epoch = 0
        self._forgotten: list[tuple[int, int]] = []
        self._released: list[int] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._watched = False

    def forget(self, epoch: int, batch: list[tuple[int, int]]) -> None:
        """Nodes of that session, as its server knows them, are looked up so many times less."""
        self._add(epoch, batch, [])

    def release(self, epoch: int, file: int) -> None:
        """An open file of that session ends."""
        self._add(epoch, [], [file])

    def _add(self, epoch: int, forgotten: list[tuple[int, int]], released: list[int]) -> None:
        with self._lock:
            if epoch < self._epoch or self._closed.is_set():
                return  # with its session it is gone already
            if epoch > self._epoch:
                self._epoch = epoch
                self._forgotten.clear()
                self._released.clear()
            self._forgotten += forgotten
            self._released += released
            many = len(self._forgotten) + len(self._released) > _MANY
            start, self._watched = not self._watched, True
        if many:
            self._deliver()
        if start:
            threading.Thread(target=self._watch, name="omfs-telling", daemon=True).start()

    def take(self, epoch: int) -> bytes:
        """All that the server of that session is to be told, as frames; the caller sends them."""
        if not (self._forgotten or self._released) or epoch != self._epoch:
            return b""
        with self._lock:
            forgotten, self._forgotten = self._forgotten, []
            released, self._released = self._released, []
        frames = [frame(Kind.RELEASE, REQUESTS[Kind.RELEASE].pack((file,))) for file in released]
        if forgotten:
            frames.append(frame(Kind.FORGET, REQUESTS[Kind.FORGET].pack(forgotten)))
        return b"".join(frames)

    def close(self) -> None:
        """Nothing more is told."""
        self._closed.set()

    def _watch(self) -> None:
        vain = 0
        while not self._closed.wait(_SOON):
            if self._forgotten or self._released:
                self._deliver()
                vain = 0 if not (self._forgotten or self._released) else vain
            vain += 1
            with self._lock:
                if vain > _REST:
                    self._watched = False
                    return
