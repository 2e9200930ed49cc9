"""Writes a large piece of data in steps, in a thread of its own, while the rest of it still arrives.

Receiving and decrypting take a connection's thread as long as writing takes the kernel: one after the other
they would take twice as long. The client hears that anything is written when all of it is.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

STEP = 1 << 17
"""Bytes that are written in one step."""

_BUFFERS = 4  # one is written, one is received, and they need not always keep pace


class Behind:
    """The thread of one connection; used by that connection's thread alone.

    Attributes:
        done: bytes written since `begin`.
        failed: why not more, if something went wrong.
    """

    def __init__(self) -> None:
        self._buffers = [memoryview(bytearray(STEP)) for _each in range(_BUFFERS)]
        self._next = 0
        self._free = threading.Semaphore(_BUFFERS)
        self._orders: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
        self._write: Callable[[int, memoryview], int] = _nowhere
        self._full = False
        self.done = 0
        self.failed: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="omfs-behind", daemon=True)
        self._thread.start()

    def begin(self, write: Callable[[int, memoryview], int]) -> None:
        """The next steps belong together; `write` is given how many bytes came before, and the step's."""
        self._write, self._full = write, False
        self.done, self.failed = 0, None

    def room(self, size: int) -> memoryview:
        """Where the next step's data shall be put; waits until there is room."""
        self._free.acquire()
        return self._buffers[self._next][:size]

    def put(self, data: memoryview) -> None:
        """They are there."""
        self._next = (self._next + 1) % _BUFFERS
        self._orders.put(data)

    def give_back(self) -> None:
        """They will not come."""
        self._free.release()

    def finish(self) -> None:
        """Wait until all steps are done."""
        for _each in range(_BUFFERS):
            self._free.acquire()
        for _each in range(_BUFFERS):
            self._free.release()

    def close(self) -> None:
        """End the thread, when it has done what it has."""
        self._orders.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (data := self._orders.get()) is not None:
            if self.failed is None and not self._full:
                try:
                    written = self._write(self.done, data)
                except Exception as error:  # whatever it is, the client must get an answer
                    self.failed = error.with_traceback(None)
                else:
                    self.done += written
                    self._full = written < len(data)  # what came after it would leave a hole
            self._free.release()


def _nowhere(_before: int, _data: memoryview) -> int:
    return 0
