"""The console of a machine of the lab, as a line for a terminal."""

from __future__ import annotations

import socket
from collections.abc import Callable

from omtools.lab.metal.lab import MetalLab, exchange
from omtui.terminal.lines import Descriptor


class Console(Descriptor):
    """The console of a machine of the lab."""

    def __init__(self, lab: MetalLab, word: str, *, watch: bool = False) -> None:
        """Nothing happens yet.

        Args:
            lab: that is up.
            word: the machine's name or number.
            watch: what is typed goes nowhere.
        """
        super().__init__()
        self._lab = lab
        self._word = word
        self._watch = watch
        self._connection: socket.socket | None = None

    def open(
        self,
        size: tuple[int, int],  # noqa: ARG002 - a serial line has no size
        heard: Callable[[bytes], None],
        ended: Callable[[], None],
    ) -> None:
        """See `Line`."""
        name = self._lab.node(self._word)["name"]
        self._connection = self._lab.connect()
        exchange(self._connection, {"do": "console", "node": name})
        self.attach(self._connection.fileno(), heard, ended)

    def write(self, data: bytes) -> None:
        """See `Line`."""
        if not self._watch:
            super().write(data)

    def resize(self, size: tuple[int, int]) -> None:
        """A serial line has no size."""

    async def close(self) -> None:
        """See `Line`."""
        self.detach()
        if self._connection is not None:
            self._connection.close()
            self._connection = None
