"""What is news of a process: keepers repeat themselves when they are asked, subscribers need changes."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from omtools.agent import api

COUNTS_EVERY_S = 5.0  # between two events that tell nothing but what was counted


class Changes:
    """What was told last of each process, by its keeper's socket."""

    def __init__(self) -> None:
        self._told: dict[Path, tuple[api.ProcessInfo, float]] = {}

    def are_news(self, keeper: Path, process: api.ProcessInfo, now: float) -> bool:
        """Whether to tell it, which then counts as told; `now` is of the monotonic clock."""
        before, at = self._told.get(keeper, (None, 0.0))
        if before is not None:
            told = replace(
                process, calls_forwarded=before.calls_forwarded, io=before.io, dfsa_bytes=before.dfsa_bytes
            )
            if told == before and (process == before or now - at < COUNTS_EVERY_S):
                return False
        self._told[keeper] = process, now
        return True

    def forget(self, keeper: Path) -> None:
        """That keeper is gone."""
        self._told.pop(keeper, None)
