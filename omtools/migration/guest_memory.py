"""A guest's memory as `omtools.migration.calls` reads it."""

from __future__ import annotations

from omtools.linux.memory import ProcessMemory
from omtools.migration.calls.model import Fault


class GuestMemory:
    """See `omtools.migration.calls.model.Memory`."""

    def __init__(self, memory: ProcessMemory) -> None:
        self._memory = memory

    def read(self, address: int, length: int) -> bytes:
        """Exactly so many bytes; raises Fault."""
        try:
            return self._memory.read(address, length)
        except (OSError, OverflowError):
            raise Fault from None

    def read_string(self, address: int, limit: int) -> bytes:
        """Up to and with the NUL; raises Fault."""
        try:
            return self._memory.read_string(address, limit)
        except (OSError, OverflowError):
            raise Fault from None
