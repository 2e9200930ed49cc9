"""The seam between the agent and the engine that moves processes.

The agent decides, asks and follows; what it needs of the engine is a few functions. They are behind a
protocol so that the agent's tests need neither ptrace nor a second kernel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from omtools.migration.orders import DeputyOrder, GuestOrder, Launched, WorkerOrder


class Surveyed(Protocol):
    """What the agent wants to know of a process before it is moved."""

    @property
    def pid(self) -> int:
        """Its pid here."""
        ...

    @property
    def uid(self) -> int:
        """Its owner."""
        ...

    @property
    def gid(self) -> int:
        """The owner's group."""
        ...

    @property
    def resident_bytes(self) -> int:
        """How much memory it has in use."""
        ...


class Engine(Protocol):
    """What moves processes."""

    async def ensure_template(self, run: Path) -> None:
        """Start the process that keepers are forked from, if it does not live."""
        ...

    async def end_template(self, run: Path) -> None:
        """End that process; keepers live on."""
        ...

    async def launch(self, run: Path, order: DeputyOrder | GuestOrder) -> Launched:
        """Start a keeper; raises OmError."""
        ...

    async def start_worker(self, run: Path, order: WorkerOrder, descriptors: Sequence[int]) -> None:
        """Start a worker of the agent's, see `omtools.migration.errand`; raises OmError."""
        ...

    def survey(self, pid: int) -> Surveyed:
        """Look at a process without touching it; raises OmError where it cannot move."""
        ...


class RealEngine:
    """The engine of this package."""

    def __init__(self) -> None:
        self._starting = asyncio.Lock()

    async def ensure_template(self, run: Path) -> None:
        """See `Engine`."""
        from omtools.migration.launch import ensure_template  # noqa: PLC0415 - loaded when it is needed

        async with self._starting:
            await ensure_template(run)

    async def end_template(self, run: Path) -> None:
        """See `Engine`."""
        from omtools.migration.launch import end_template  # noqa: PLC0415

        await end_template(run)

    async def launch(self, run: Path, order: DeputyOrder | GuestOrder) -> Launched:
        """See `Engine`."""
        from omtools.migration.launch import launch  # noqa: PLC0415

        async with self._starting:  # a guest may be announced before the template is there
            pass
        return await launch(run, order)

    async def start_worker(self, run: Path, order: WorkerOrder, descriptors: Sequence[int]) -> None:
        """See `Engine`."""
        from omtools.migration.launch import start_worker  # noqa: PLC0415

        async with self._starting:
            await start_worker(run, order, descriptors)

    def survey(self, pid: int) -> Surveyed:
        """See `Engine`."""
        from omtools.image.survey import survey  # noqa: PLC0415

        return survey(pid)
