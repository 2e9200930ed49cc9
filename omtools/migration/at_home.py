"""What a guest's keeper has of home: the deputy, for calls of the keeper's own."""

from __future__ import annotations

from typing import Protocol

from omtools.migration.calls.model import Arena, Forward


class AtHome(Protocol):
    """The deputy, for calls that return at once."""

    arena: Arena

    def ask(self, forward: Forward) -> tuple[int, bytes]:
        """Make a call: its result, and what it gave back in memory."""
        ...
