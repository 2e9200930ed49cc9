"""Writes a large piece of data in a thread of its own, as far as it is there, while the rest of it arrives.

Receiving and decrypting take a connection's thread as long as writing takes the kernel: one after the other
they would take twice as long. What has come is written at one go, however much it is, so that neither waits
for the other more often than it must. The client hears that anything is written when all of it is.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

STEP = 1 << 16
"""So many bytes are worth telling of."""

_NO_MORE, _END = -1, -2


class Behind:
    """The thread of one connection; used by that connection's thread alone.

    Args:
        size: bytes of the longest piece.

    Attributes:
        buffer: where the data shall be put.
        done: bytes written since `begin`.
        failed: why not more, if something went wrong.
    """

    def __init__(self, size: int) -> None:
        self.buffer = memoryview(bytearray(size))
        self.done = 0
        self.failed: Exception | None = None
        self._orders: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._busy = threading.Lock()  # till all is written
        self._busy.acquire()
        self._write: Callable[[int, memoryview], int] = _nowhere
        self._thread = threading.Thread(target=self._run, name="omfs-behind", daemon=True)
        self._thread.start()

    def begin(self, write: Callable[[int, memoryview], int]) -> None:
        """A new piece; `write` is given how many bytes came before, and what is to be written."""
        self._write = write
        self.done, self.failed = 0, None

    def put(self, count: int) -> None:
        """So many bytes of it are there."""
        self._orders.put(count)

    def finish(self) -> None:
        """No more will come: wait until what came is written."""
        self._orders.put(_NO_MORE)
        self._busy.acquire()

    def close(self) -> None:
        """End the thread, when it has done what it has."""
        self._orders.put(_END)
        self._thread.join()

    def _run(self) -> None:
        orders = self._orders
        there, whole = 0, True
        order = 0
        while order != _END:
            order = orders.get()
            while order >= 0:
                there = order
                if not orders.qsize():
                    break
                order = orders.get()
            if whole and self.done < there:
                whole = self._go_on(there)
            if order == _NO_MORE:
                there, whole = 0, True
                self._busy.release()

    def _go_on(self, there: int) -> bool:
        """Write all that is there; False if it did not become all: what came after it would leave a hole."""
        try:
            self.done += self._write(self.done, self.buffer[self.done : there])
        except Exception as error:  # whatever it is, the client must get an answer
            self.failed = error.with_traceback(None)
        return self.done == there


def _nowhere(_before: int, _data: memoryview) -> int:
    return 0
